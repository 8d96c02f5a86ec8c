//! What others measured, and what we say of the same, row by row; and, apart from it, how our own descriptions of one thing agree.
//!
//! A source is a row of [`SOURCES`] and a file of this folder. Its figures ("theirs") are a table in `published`, read at run time; ours are
//! computed when they are asked for, by the same engines that a run uses. Knows no command line: settings and folders are handed in.

mod array;
mod gemmini_ladder;
mod onnxim;
mod os_array;
mod page;
mod pe;
mod published;
mod rtl;
mod scalesim;
mod scalesim_array;
mod summary;
mod tpu_v1;
mod ws_array;

use std::path::PathBuf;

pub use gemmini_ladder::{Ladder, Step};
pub use page::{block, new_page, spliced};
pub use published::Published;
pub use summary::{rows, summary};

use crate::{diag::Progress, pipeline::Failure};

/// Whose figures ours are compared with.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// Another project's hardware, simulator or paper.
    External,
    /// Another description of the same thing by the same authors. It finds slips, and no common error.
    Internal,
}

impl Kind {
    /// As it is printed.
    pub const fn name(self) -> &'static str {
        match self {
            Self::External => "external",
            Self::Internal => "internal",
        }
    }
}

/// Where figures come from, and how ours are made.
#[derive(Clone, Copy, Debug)]
pub struct Source {
    /// As `--source` takes it.
    pub name: &'static str,
    /// In a few words.
    pub title: &'static str,
    /// Whose they are.
    pub kind: Kind,
    /// Whether every figure must be equal.
    pub is_exact: bool,
    /// Whether it takes a few seconds at most, and nothing but this program.
    pub is_quick: bool,
    /// What is compared with what, and how ours is made.
    pub about: &'static str,
    run: fn(&Settings, &mut dyn Progress) -> Result<Findings, Failure>,
}

/// All sources: others' first, the exact ones before the rest.
pub const SOURCES: &[Source] = &[
    os_array::SOURCE,
    ws_array::SOURCE,
    scalesim::SOURCE,
    scalesim_array::SOURCE,
    onnxim::SOURCE,
    tpu_v1::SOURCE,
    gemmini_ladder::SOURCE,
    pe::SOURCE,
    rtl::SOURCE,
];

/// What a validation is given.
#[derive(Clone, Debug, Default)]
pub struct Settings {
    /// Others' figures.
    pub published: Published,
    /// Where a hardware simulation may be compiled; without it none runs.
    pub folder: Option<PathBuf>,
}

/// A source, and what was found.
#[derive(Clone, Debug)]
pub struct Validation {
    /// The source.
    pub source: Source,
    /// What was found.
    pub findings: Findings,
}

/// What the comparison with a source found.
#[derive(Clone, Debug, Default)]
pub struct Findings {
    /// In the source's order.
    pub rows: Vec<Row>,
    /// Constants that were fitted to the source's figures, by name.
    pub fitted: Vec<&'static str>,
    /// Why figures differ, and what the table does not show; a sentence or two each.
    pub notes: Vec<String>,
    /// More about it, in Markdown.
    pub more: String,
}

/// A row of a source's table.
#[derive(Clone, Debug)]
pub struct Row {
    /// What was measured.
    pub what: String,
    /// Which figure of it, with its unit.
    pub figure: &'static str,
    /// Ours beside theirs.
    pub outcome: Outcome,
}

/// Ours beside theirs.
#[derive(Clone, Debug)]
pub enum Outcome {
    /// Compared.
    Compared(Compared),
    /// Not compared, and why not.
    Not(String),
}

impl Row {
    /// A row of one figure.
    pub(crate) fn of(what: impl Into<String>, figure: &'static str, ours: f64, theirs: f64) -> Self {
        let mut compared = Compared::default();
        compared.show(ours, theirs);
        compared.add(ours, theirs);
        Self { what: what.into(), figure, outcome: Outcome::Compared(compared) }
    }

    /// The same of counts, which are exact to 2^53.
    pub(crate) fn count(what: impl Into<String>, figure: &'static str, ours: u64, theirs: u64) -> Self {
        Self::of(what, figure, ours as f64, theirs as f64)
    }

    /// A row that stands for several figures.
    pub(crate) fn group(what: impl Into<String>, figure: &'static str, compared: Compared) -> Self {
        Self { what: what.into(), figure, outcome: Outcome::Compared(compared) }
    }

    /// A row that cannot be compared.
    pub(crate) fn not(what: impl Into<String>, figure: &'static str, reason: impl Into<String>) -> Self {
        Self { what: what.into(), figure, outcome: Outcome::Not(reason.into()) }
    }

    /// What was compared, if anything was.
    pub const fn compared(&self) -> Option<&Compared> {
        match &self.outcome {
            Outcome::Compared(compared) => Some(compared),
            Outcome::Not(_) => None,
        }
    }
}

/// Figures of a row, or of several: how many, how many of them equal, and how far apart.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Compared {
    /// What stands in the table for them, ours and theirs: the figure itself, or a sum; none where there is nothing to add.
    pub shown: Option<[f64; 2]>,
    /// Figures.
    pub count: u64,
    /// Those that are equal.
    pub equal: u64,
    /// Sum of their relative errors without sign.
    error_sum: f64,
    /// The largest of these.
    pub error_max: f64,
}

impl Compared {
    /// Compares a pair of figures.
    pub(crate) fn add(&mut self, ours: f64, theirs: f64) {
        self.count += 1;
        self.equal += u64::from(equal(ours, theirs));
        let error = error(ours, theirs).abs();
        self.error_sum += error;
        self.error_max = self.error_max.max(error);
    }

    /// Adds a pair to what stands in the table.
    pub(crate) fn show(&mut self, ours: f64, theirs: f64) {
        let [our_sum, their_sum] = self.shown.unwrap_or_default();
        self.shown = Some([our_sum + ours, their_sum + theirs]);
    }

    /// Takes over what others compared; what is shown of them is not.
    fn take(&mut self, other: &Self) {
        self.count += other.count;
        self.equal += other.equal;
        self.error_sum += other.error_sum;
        self.error_max = self.error_max.max(other.error_max);
    }

    /// The mean relative error without sign, of 1; `None` of nothing.
    pub fn error_mean(&self) -> Option<f64> {
        (self.count > 0).then(|| self.error_sum / self.count as f64)
    }
}

/// Whole numbers are equal or not; others are to 1e-9, as they were printed by different programs.
fn equal(ours: f64, theirs: f64) -> bool {
    let is_whole = ours.fract() == 0.0 && theirs.fract() == 0.0;
    if is_whole { ours.to_bits() == theirs.to_bits() } else { (ours - theirs).abs() <= 1e-9 * theirs.abs().max(1.0) }
}

/// `(ours - theirs) / theirs`; against 1 where theirs is smaller.
pub(crate) fn error(ours: f64, theirs: f64) -> f64 {
    (ours - theirs) / theirs.abs().max(1.0)
}

impl Findings {
    /// All rows together.
    pub fn total(&self) -> Compared {
        let mut total = Compared::default();
        for row in self.rows.iter().filter_map(Row::compared) {
            total.take(row);
        }
        total
    }

    /// Rows that could not be compared.
    pub fn not_compared(&self) -> usize {
        self.rows.iter().filter(|row| row.compared().is_none()).count()
    }
}

impl Validation {
    /// Whether what must be equal is.
    pub fn holds(&self) -> bool {
        let total = self.findings.total();
        !self.source.is_exact || total.equal == total.count
    }
}

/// Names of all sources.
pub fn names() -> impl Iterator<Item = &'static str> {
    SOURCES.iter().map(|source| source.name)
}

/// The source of a name.
pub fn source(name: &str) -> Option<&'static Source> {
    SOURCES.iter().find(|source| source.name == name)
}

/// Compares with some sources, one after the other.
///
/// # Errors
/// Published tables that cannot be read; what the engines find.
pub fn validate(
    sources: &[Source],
    settings: &Settings,
    progress: &mut dyn Progress,
) -> Result<Vec<Validation>, Failure> {
    let each = sources.iter().map(|&source| {
        progress.stage(source.title, None, "");
        Ok(Validation { source, findings: (source.run)(settings, progress)? })
    });
    each.collect()
}

#[cfg(test)]
mod tests;
