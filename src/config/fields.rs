//! What the table of config fields is made of: kinds, units, ranges, defaults and reasons, and how they read in
//! sentences. The fields themselves are declared in `schema`.

use std::fmt::Write as _;

use super::schema::ROOT;

/// What a field holds, and within which bounds.
#[derive(Debug)]
pub enum Kind {
    /// A whole number.
    Integer {
        /// Smallest value.
        min: u64,
        /// Largest value.
        max: u64,
        /// Whether only powers of two are allowed.
        power_of_two: bool,
    },
    /// A finite real number.
    Number {
        /// Smallest value.
        min: f64,
        /// Largest value.
        max: f64,
        /// What zero means, where it is allowed although it is below `min`.
        zero: Option<&'static str>,
    },
    /// `true` or `false`.
    Bool,
    /// A text between quotes.
    Text {
        /// Fewest characters.
        min: usize,
        /// Most characters.
        max: usize,
    },
    /// Named fields.
    Group(&'static [Field]),
    /// A list. Overrides address its items by position, pairs by their first part too, and groups by their `name`.
    List {
        /// What each item is.
        item: &'static Kind,
        /// Fewest items.
        min: usize,
        /// Most items.
        max: usize,
    },
    /// A pair in parentheses.
    Pair(&'static Kind, &'static Kind),
    /// One of several names, some with contents.
    Choice(&'static [Variant]),
}

/// One name of a choice.
#[derive(Debug)]
pub struct Variant {
    /// The name.
    pub name: &'static str,
    /// Its contents, in parentheses.
    pub content: Option<&'static Kind>,
    /// Whether its contents are a struct inside the parentheses (`Shared((...))`) and not the fields themselves.
    pub wrapped: bool,
    /// Whether the model lacks it, so that it is refused by name.
    pub refused: bool,
}

/// Whether the model acts on a field.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Modelled {
    /// It does.
    Yes,
    /// It does not, for this reason: results list a value that is not the default.
    Listed(&'static str),
    /// It does not: what such a value stands for is refused unless it is the default.
    Refused(&'static str),
}

/// One field of a group.
#[derive(Debug)]
pub struct Field {
    /// Its name.
    pub name: &'static str,
    /// What it holds.
    pub kind: Kind,
    /// Its unit; empty where it has none.
    pub unit: &'static str,
    /// Its default as it would be written; `None` where the field must be given.
    pub default: Option<&'static str>,
    /// What it means and why its range is what it is.
    pub reason: &'static str,
    /// Whether the model acts on it.
    pub modelled: Modelled,
}

/// Largest config file in bytes.
pub const MAX_FILE_BYTES: u64 = 1 << 20;
/// Deepest nesting of parentheses and brackets; the deepest field needs five.
pub const MAX_DEPTH: usize = 32;
/// Most values in a file; a preset has about a hundred.
pub const MAX_VALUES: usize = 10_000;

/// A row of the flattened table.
#[derive(Debug)]
pub struct Row {
    /// Dotted path with `*` for list items: `memories.*.model.Ideal.latency_ns`.
    pub path: String,
    /// What stands there.
    pub field: &'static Field,
}

/// Every field that holds a value, in the order of the file.
pub fn rows() -> Vec<Row> {
    let mut rows = Vec::new();
    flatten("", &ROOT.kind, &mut rows);
    rows
}

fn flatten(path: &str, kind: &'static Kind, rows: &mut Vec<Row>) {
    match kind {
        Kind::Group(fields) => {
            for field in *fields {
                let path = join(path, field.name);
                if !matches!(field.kind, Kind::Group(_)) {
                    rows.push(Row { path: path.clone(), field });
                }
                flatten(&path, &field.kind, rows);
            }
        }
        Kind::List { item, .. } => flatten(&join(path, "*"), item, rows),
        Kind::Choice(variants) => {
            for variant in *variants {
                if let Some(content) = variant.content {
                    flatten(&join(path, variant.name), content, rows);
                }
            }
        }
        Kind::Pair(..) | Kind::Integer { .. } | Kind::Number { .. } | Kind::Bool | Kind::Text { .. } => {}
    }
}

/// `path.segment`, or `segment` at the root.
pub fn join(path: &str, segment: &str) -> String {
    if path.is_empty() { segment.to_owned() } else { format!("{path}.{segment}") }
}

pub use crate::units::thousands;

/// A bound of a real range: whole ones as integers.
pub fn bound(value: f64) -> String {
    if value.fract() == 0.0 && value.abs() < 1e15 {
        thousands(format!("{value:.0}").parse().unwrap_or(0))
    } else {
        value.to_string()
    }
}

/// Names between backticks: `` `a`, `b` ``.
pub fn quoted(names: impl IntoIterator<Item = impl AsRef<str>>) -> String {
    let mut text = String::new();
    for name in names {
        let _ = write!(text, "{}`{}`", if text.is_empty() { "" } else { ", " }, name.as_ref());
    }
    text
}

impl Kind {
    /// What is expected, as the object of a sentence: `an integer from 1 to 1,024`.
    pub fn expected(&self) -> String {
        match self {
            Self::Integer { min, max, power_of_two } => {
                let article = if *power_of_two { "a power of two" } else { "an integer" };
                format!("{article} from {} to {}", thousands(*min), thousands(*max))
            }
            Self::Number { min, max, zero } => {
                let zero = zero.map_or(String::new(), |meaning| format!(", or 0 for {meaning}"));
                format!("a number from {} to {}{zero}", bound(*min), bound(*max))
            }
            Self::Bool => "`true` or `false`".into(),
            Self::Text { min: 0, max } => format!("a text of at most {} characters in quotes", thousands(*max as u64)),
            Self::Text { min, max } => format!("a text of {min} to {max} characters in quotes"),
            Self::Group(fields) => {
                format!("fields in parentheses: {}", quoted(fields.iter().map(|field| field.name)))
            }
            Self::List { item, min, max, .. } => {
                let of = match item {
                    Self::Group(_) => "a group of fields".to_owned(),
                    Self::Pair(..) => "a pair in parentheses".to_owned(),
                    other => other.expected(),
                };
                format!("a list of {min} to {max} items in brackets, each {of}")
            }
            Self::Pair(first, second) => {
                format!("a pair in parentheses: {}; {}", first.expected(), second.expected())
            }
            Self::Choice(variants) => {
                format!("one of {}", quoted(variants.iter().filter(|variant| !variant.refused).map(Variant::written)))
            }
        }
    }

    /// The fields of a group; none of another kind.
    pub const fn fields(&self) -> &'static [Field] {
        match self {
            Self::Group(fields) => fields,
            _ => &[],
        }
    }

    /// The field of a group.
    pub fn field(&self, name: &str) -> Option<&'static Field> {
        self.fields().iter().find(|field| field.name == name)
    }
}

impl Variant {
    /// As it is written in a file, contents left out: `Shared((...))`.
    pub fn written(&self) -> String {
        match (self.content, self.wrapped) {
            (None, _) => self.name.to_owned(),
            (Some(_), false) => format!("{}(...)", self.name),
            (Some(_), true) => format!("{}((...))", self.name),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::{
        super::{
            declare::Declared,
            schema::{Array, VectorUnit},
        },
        *,
    };

    #[test]
    fn the_flattened_table_has_one_row_a_path() {
        let mut paths: Vec<String> = rows().into_iter().map(|row| row.path).collect();
        assert!(paths.contains(&"buffers.layout.Split.weight.bytes".to_owned()));
        assert!(paths.contains(&"memories.*.model.Ideal.latency_ns".to_owned()));
        let all = paths.len();
        paths.sort();
        paths.dedup();
        assert_eq!(paths.len(), all);
    }

    #[test]
    fn ranges_read_as_sentences() {
        let Some(rows) = Array::KIND.field("rows") else { panic!("no rows") };
        assert_eq!(rows.kind.expected(), "an integer from 1 to 1,024");
        let Some(clock) = VectorUnit::KIND.field("clock_mhz") else { panic!("no clock") };
        assert_eq!(clock.kind.expected(), "a number from 1 to 10,000, or 0 for the array's clock");
    }
}
