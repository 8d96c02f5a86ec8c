//! Where the fields of a config came from: the text of its file, or an override. Makes the findings that point there.

use std::ops::Range;

use super::syntax::Node;
use crate::diag::{Diagnostic, Source};

/// A field that an override set.
#[derive(Debug)]
struct Override {
    path: String,
    source: Source,
    value: Range<usize>,
}

/// The origin of every field.
#[derive(Debug, Default)]
pub struct Places {
    source: Option<Source>,
    tree: Option<Node>,
    overrides: Vec<Override>,
}

/// Whether `path` is `prefix` or lies inside it.
pub fn is_within(path: &str, prefix: &str) -> bool {
    path.strip_prefix(prefix).is_some_and(|rest| rest.is_empty() || rest.starts_with('.'))
}

impl Places {
    /// Fields of a text, with its tree where it could be read.
    pub fn of_text(source: Source, tree: Option<Node>) -> Self {
        Self { source: Some(source), tree, overrides: Vec::new() }
    }

    /// The tree of the text.
    pub fn tree(&self) -> Option<&Node> {
        self.tree.as_ref()
    }

    /// Notes that an override set `path`; `value` is where its value stands in `source`.
    pub fn note_override(&mut self, path: String, source: Source, value: Range<usize>) {
        self.overrides.push(Override { path, source, value });
    }

    /// The text and range of a field: of the last override that set it, else of the file.
    fn of(&self, path: &str) -> Option<(Source, Range<usize>)> {
        if let Some(set) = self.overrides.iter().rev().find(|set| is_within(path, &set.path)) {
            return Some((set.source.clone(), set.value.clone()));
        }
        Some((self.source.clone()?, self.tree.as_ref()?.locate(path)))
    }

    /// Whether an override set `path` or what it lies in.
    pub fn is_set(&self, path: &str) -> bool {
        self.overrides.iter().any(|set| is_within(path, &set.path))
    }

    /// A fault in the value at `path`.
    pub fn fault(&self, path: &str, message: impl Into<String>) -> Diagnostic {
        self.attach(Diagnostic::error(message), path, self.of(path))
    }

    /// A warning about the value at `path`.
    pub fn warning(&self, path: &str, message: impl Into<String>) -> Diagnostic {
        self.attach(Diagnostic::warning(message), path, self.of(path))
    }

    /// A fault in the name of the field `key` of the group at `path`.
    pub fn key_fault(&self, path: &str, key: &str, message: impl Into<String>) -> Diagnostic {
        let key_place = || Some((self.source.clone()?, self.tree.as_ref()?.locate_key(path, key)?));
        let place = if self.is_set(path) { None } else { key_place() };
        let place = place.or_else(|| self.of(path));
        self.attach(Diagnostic::error(message), &super::fields::join(path, &shortened(key)), place)
    }

    fn attach(&self, fault: Diagnostic, path: &str, place: Option<(Source, Range<usize>)>) -> Diagnostic {
        let fault = if path.is_empty() { fault } else { fault.with_path(path) };
        match (place, &self.source) {
            (Some((source, range)), _) => fault.with_span(source, range),
            (None, Some(source)) => fault.with_file(&source.name),
            (None, None) => fault,
        }
    }
}

/// The name among `known` that a misspelt one most likely meant.
pub fn closest<'known>(name: &str, known: impl IntoIterator<Item = &'known str>) -> Option<&'known str> {
    if name.len() > 64 {
        return None;
    }
    let lower = name.to_lowercase();
    known
        .into_iter()
        .map(|candidate| (strsim::damerau_levenshtein(&lower, &candidate.to_lowercase()), candidate))
        .filter(|(distance, candidate)| *distance <= 1 + candidate.len().max(name.len()) / 4)
        .min_by_key(|(distance, _)| *distance)
        .map(|(_, candidate)| candidate)
}

/// At most 40 characters of a text, control characters escaped.
pub fn shortened(text: &str) -> String {
    let mut short: String = text.chars().take(40).flat_map(char::escape_debug).collect();
    if text.chars().nth(40).is_some() {
        short.push_str("...");
    }
    short
}
