//! Faults in what the user gave us: what, where, what was expected, and what to do; several at once.
//!
//! Plain data. Rendering (colour, source excerpts) happens once, in `cli`.

use std::{fmt, ops::Range, path::PathBuf, sync::Arc};

/// How bad a finding is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Severity {
    /// The run cannot go on.
    Error,
    /// The run goes on; the user should know.
    Warning,
}

/// The text that a finding points into.
#[derive(Clone, Debug)]
pub struct Source {
    /// Its name as the user gave it: a path or `preset edge_16x16`.
    pub name: String,
    /// The whole text.
    pub text: Arc<str>,
}

/// One finding.
#[derive(Clone, Debug)]
pub struct Diagnostic {
    /// How bad it is.
    pub severity: Severity,
    /// What is wrong: lower case, backticks round code, the value after the colon.
    pub message: String,
    /// The field or node that it concerns: `array.rows`, `node "conv1"`.
    pub path: Option<String>,
    /// The file, when no source text is at hand (binary models).
    pub file: Option<PathBuf>,
    /// The text and the byte range in it.
    pub span: Option<(Source, Range<usize>)>,
    /// What to do.
    pub help: Option<String>,
}

impl Diagnostic {
    /// An error with only a message; add the rest with the `with_` methods.
    pub fn error(message: impl Into<String>) -> Self {
        Self { severity: Severity::Error, message: message.into(), path: None, file: None, span: None, help: None }
    }

    /// A warning with only a message.
    pub fn warning(message: impl Into<String>) -> Self {
        Self { severity: Severity::Warning, ..Self::error(message) }
    }

    /// Names the field or node.
    #[must_use]
    pub fn with_path(mut self, path: impl Into<String>) -> Self {
        self.path = Some(path.into());
        self
    }

    /// Names the file.
    #[must_use]
    pub fn with_file(mut self, file: impl Into<PathBuf>) -> Self {
        self.file = Some(file.into());
        self
    }

    /// Points into a text.
    #[must_use]
    pub fn with_span(mut self, source: Source, range: Range<usize>) -> Self {
        self.span = Some((source, range));
        self
    }

    /// Says what to do.
    #[must_use]
    pub fn with_help(mut self, help: impl Into<String>) -> Self {
        self.help = Some(help.into());
        self
    }

    /// Line and column, both from 1, where a span is known.
    pub fn line_column(&self) -> Option<(usize, usize)> {
        let (source, range) = self.span.as_ref()?;
        let before = source.text.get(..range.start.min(source.text.len()))?;
        let line = before.matches('\n').count() + 1;
        let column = before.rsplit('\n').next().map_or(0, |text| text.chars().count()) + 1;
        Some((line, column))
    }
}

impl fmt::Display for Diagnostic {
    /// One line: `file:line:column: path: message (help)`.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if let (Some((source, _)), Some((line, column))) = (&self.span, self.line_column()) {
            write!(f, "{}:{line}:{column}: ", source.name)?;
        } else if let Some(file) = &self.file {
            write!(f, "{}: ", file.display())?;
        }
        if let Some(path) = &self.path {
            write!(f, "{path}: ")?;
        }
        f.write_str(&self.message)?;
        if let Some(help) = &self.help {
            write!(f, " ({help})")?;
        }
        Ok(())
    }
}

/// At least one fault: the error type of every stage that reads what the user gave.
#[derive(Clone, Debug)]
pub struct Faults(pub Vec<Diagnostic>);

impl Faults {
    /// `Err` if anything was found, `Ok` otherwise.
    ///
    /// # Errors
    /// The findings, if there are any.
    pub fn check(found: Vec<Diagnostic>) -> Result<(), Self> {
        if found.is_empty() { Ok(()) } else { Err(Self(found)) }
    }
}

impl From<Diagnostic> for Faults {
    fn from(one: Diagnostic) -> Self {
        Self(vec![one])
    }
}

impl fmt::Display for Faults {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (index, fault) in self.0.iter().enumerate() {
            if index > 0 {
                f.write_str("\n")?;
            }
            fault.fmt(f)?;
        }
        Ok(())
    }
}

impl std::error::Error for Faults {}

/// Who is told how far a long computation is. Whoever computes knows no terminal and no clock.
pub trait Progress: Send {
    /// A stage of `total` steps begins, if their number is known, and `unit` is what a step is, in the plural; the stage
    /// before it is over.
    fn stage(&mut self, name: &str, total: Option<u64>, unit: &'static str);
    /// `n` more steps are done.
    fn advance(&mut self, n: u64);
    /// The last stage is over.
    fn finish(&mut self);
    /// Something that the user should know and that is no part of the result.
    fn note(&mut self, _text: &str) {}
}

/// Tells no one.
#[derive(Clone, Copy, Debug, Default)]
pub struct Silent;

impl Progress for Silent {
    fn stage(&mut self, _name: &str, _total: Option<u64>, _unit: &'static str) {}
    fn advance(&mut self, _n: u64) {}
    fn finish(&mut self) {}
}
