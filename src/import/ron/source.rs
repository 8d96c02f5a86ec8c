//! From text to fields: reads the layers one by one, so that faults in several of them are told at once, and finds
//! the place in the text that a fault is about.

use std::{ops::Range, sync::Arc};

use ron::{
    Options,
    error::{Position, SpannedError},
    extensions::Extensions,
    value::RawValue,
};
use serde::{Deserialize, de::DeserializeOwned};

use super::schema::{Activations, Input, ListedLayer, Names, Weights};
use crate::diag::{Diagnostic, Faults, Source};

/// Most faults that are told of one file.
const MAX_FAULTS: usize = 50;
/// Most layers.
const MAX_LAYERS: usize = 1 << 16;

/// The whole file, its parts still text.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct File<'a> {
    name: String,
    #[serde(borrow)]
    input: &'a RawValue,
    #[serde(default)]
    activations: Activations,
    #[serde(default, borrow)]
    weights: Option<&'a RawValue>,
    #[serde(default)]
    outputs: Names,
    #[serde(borrow)]
    layers: Vec<&'a RawValue>,
}

/// A layer list, read.
pub struct List {
    pub name: String,
    pub activations: Activations,
    pub outputs: Names,
    pub weights: Located<Weights>,
    pub input: Located<Input>,
    pub layers: Vec<Located<ListedLayer>>,
    /// The text.
    pub text: Source,
}

/// A part of the file with its place.
pub struct Located<T> {
    pub value: T,
    /// `layers[3] "conv2"`.
    pub path: String,
    /// In bytes of the whole text.
    pub range: Range<usize>,
}

/// Faults as they are found.
pub struct FaultList<'a> {
    text: &'a Source,
    list: Vec<Diagnostic>,
    omitted: usize,
}

impl<'a> FaultList<'a> {
    pub const fn new(text: &'a Source) -> Self {
        Self { text, list: Vec::new(), omitted: 0 }
    }

    fn push(&mut self, fault: Diagnostic) {
        if self.list.len() < MAX_FAULTS { self.list.push(fault) } else { self.omitted += 1 }
    }

    /// A fault about `field` (`op.kernel`; empty for the part itself) of a part.
    pub fn add<T>(&mut self, part: &Located<T>, field: &str, message: impl Into<String>, help: Option<String>) {
        let path = if field.is_empty() { part.path.clone() } else { format!("{}: {field}", part.path) };
        let range = field_range(&self.text.text, &part.range, field);
        let fault = Diagnostic::error(message).with_path(path).with_span(self.text.clone(), range);
        self.push(Diagnostic { help, ..fault });
    }

    /// A fault about a field of the file itself.
    pub fn add_top(&mut self, field: &str, message: impl Into<String>) {
        let range = field_range(&self.text.text, &(0..self.text.text.len()), field);
        self.push(Diagnostic::error(message).with_path(field).with_span(self.text.clone(), range));
    }

    pub fn is_empty(&self) -> bool {
        self.list.is_empty()
    }

    /// All of it; for when there is something.
    pub fn into_faults(mut self) -> Faults {
        if self.omitted > 0 {
            self.list.push(Diagnostic::error(format!("more faults are not listed: {}", self.omitted)));
        }
        Faults(self.list)
    }
}

fn options() -> Options {
    Options::default().with_default_extension(Extensions::IMPLICIT_SOME)
}

/// Reads the text.
///
/// # Errors
/// Faults of syntax and of fields.
pub fn read(text: &str, name: &str) -> Result<List, Faults> {
    let source = Source { name: name.to_owned(), text: Arc::from(text) };
    let file: File<'_> = deserialize(text).map_err(|Broken { field, message, range }| {
        let fault = Diagnostic::error(message).with_span(source.clone(), range);
        if field == "." { fault } else { fault.with_path(field) }
    })?;
    let mut found = FaultList::new(&source);
    if file.layers.is_empty() || file.layers.len() > MAX_LAYERS {
        found.add_top("layers", format!("a network has 1 to {MAX_LAYERS} layers: {}", file.layers.len()));
        return Err(found.into_faults());
    }
    let input = part::<Input>(text, file.input, "input".to_owned(), &mut found);
    let weights = match file.weights {
        None => Some(Located { value: Weights::default(), path: "weights".to_owned(), range: 0..0 }),
        Some(raw) => part::<Weights>(text, raw, "weights".to_owned(), &mut found),
    };
    let mut layers = Vec::with_capacity(file.layers.len());
    for (index, raw) in file.layers.into_iter().enumerate() {
        if let Some(mut layer) = part::<ListedLayer>(text, raw, format!("layers[{index}]"), &mut found) {
            layer.path = format!("{} {:?}", layer.path, layer.value.name);
            layers.push(layer);
        }
    }
    // What is missing here has left a fault.
    let (Some(input), Some(weights), true) = (input, weights, found.is_empty()) else {
        return Err(found.into_faults());
    };
    let File { name, activations, outputs, .. } = file;
    Ok(List { name, activations, outputs, weights, input, layers, text: source })
}

/// Reads one part; its fault is added with its place in the whole text.
fn part<T: DeserializeOwned>(
    text: &str,
    raw: &RawValue,
    path: String,
    found: &mut FaultList<'_>,
) -> Option<Located<T>> {
    let raw = raw.get_ron();
    // A borrowed raw value lies inside the text.
    let start = raw.as_ptr().addr().checked_sub(text.as_ptr().addr()).filter(|start| *start < text.len());
    let start = start.unwrap_or(0);
    let range = start..(start + raw.len()).min(text.len());
    match deserialize::<T>(raw) {
        Ok(value) => Some(Located { value, path, range }),
        Err(Broken { field, message, range: at }) => {
            let path = if field == "." { path } else { format!("{path}: {field}") };
            let fault = Diagnostic::error(message).with_path(path);
            found.push(fault.with_span(found.text.clone(), start + at.start..start + at.end));
            None
        }
    }
}

/// Why a text is not what it should be.
struct Broken {
    /// Path of the field, `.` for none.
    field: String,
    message: String,
    /// In bytes of the text.
    range: Range<usize>,
}

/// Reads RON, naming the field that is at fault.
fn deserialize<'a, T: Deserialize<'a>>(text: &'a str) -> Result<T, Broken> {
    let broken = |field: String, error: &SpannedError| Broken {
        field,
        message: error.code.to_string(),
        range: span(text, error),
    };
    let mut deserializer =
        ron::Deserializer::from_str_with_options(text, &options()).map_err(|error| broken(".".to_owned(), &error))?;
    let value = match serde_path_to_error::deserialize(&mut deserializer) {
        Ok(value) => value,
        Err(error) => {
            let field = error.path().to_string();
            return Err(broken(field, &deserializer.span_error(error.into_inner())));
        }
    };
    deserializer.end().map_err(|error| broken(".".to_owned(), &deserializer.span_error(error)))?;
    Ok(value)
}

/// The bytes that an error of RON is about; never empty of a text that is not.
fn span(text: &str, error: &SpannedError) -> Range<usize> {
    let start = offset(text, &error.span.start);
    start..offset(text, &error.span.end).max(start)
}

/// A line and a column, both from 1, as a byte offset.
fn offset(text: &str, position: &Position) -> usize {
    let mut rest = text;
    for _ in 1..position.line {
        match rest.split_once('\n') {
            Some((_, after)) => rest = after,
            None => break,
        }
    }
    let column = position.col.saturating_sub(1);
    let within = rest.char_indices().nth(column).map_or(rest.len(), |(at, _)| at);
    text.len() - rest.len() + within
}

/// The text of a field inside a part: `op.kernel` is the first `kernel:` after the first `op:`. The whole part where
/// the field is not written.
fn field_range(text: &str, part: &Range<usize>, field: &str) -> Range<usize> {
    let Some(inside) = text.get(part.clone()) else { return part.clone() };
    let trimmed = inside.trim();
    let start = part.start + (inside.len() - inside.trim_start().len());
    let mut range = start..start + trimmed.len();
    for name in field.split('.').filter(|name| !name.is_empty()) {
        let Some(rest) = text.get(range.start..part.end) else { break };
        let Some(at) = find_field(rest, name) else { break };
        range = range.start + at..range.start + at + name.len();
    }
    range
}

/// Offset of `name` where it is a whole word with a colon behind it, outside of strings.
fn find_field(text: &str, name: &str) -> Option<usize> {
    let mut quoted = false;
    let mut before = ' ';
    for (at, c) in text.char_indices() {
        if c == '"' && before != '\\' {
            quoted = !quoted;
        }
        let word = |c: char| c.is_alphanumeric() || c == '_';
        if !quoted && !word(before) {
            let colon = text[at..].strip_prefix(name).is_some_and(|rest| rest.trim_start().starts_with(':'));
            if colon {
                return Some(at);
            }
        }
        before = c;
    }
    None
}
