//! Overrides on the command line: `array.rows=32` sets one field of a config that was read. Paths are typed by the
//! table of fields; values are RON, quotes round texts left out.

use std::sync::Arc;

use serde_json::{Map, Value};

use super::{
    check::{Reading, named},
    fields::{self, Kind, Variant, join, quoted},
    places::{Places, closest, shortened},
    schema::ROOT,
    syntax,
};
use crate::diag::{Diagnostic, Source};

/// Applies overrides in their order; the last one for a field counts. Whether the values are in range is not checked
/// here.
pub fn apply(value: &mut Value, overrides: &[String], places: &mut Places, found: &mut Vec<Diagnostic>) {
    for text in overrides {
        if let Err(fault) = apply_one(value, text, places, found) {
            found.push(*fault);
        }
    }
}

/// An override while it is applied.
struct Setting<'text> {
    source: Source,
    /// The dotted path as it was given.
    path: &'text str,
    /// The value as it was given.
    value: &'text str,
}

type Outcome<T> = Result<T, Box<Diagnostic>>;

impl Setting<'_> {
    fn path_fault(&self, message: impl Into<String>, help: impl Into<String>) -> Box<Diagnostic> {
        Box::new(
            Diagnostic::error(message)
                .with_path(shortened(self.path))
                .with_span(self.source.clone(), 0..self.path.len())
                .with_help(help),
        )
    }

    fn value_span(&self) -> std::ops::Range<usize> {
        let end = self.source.text.len();
        end - self.value.len()..end
    }
}

fn apply_one(root: &mut Value, text: &str, places: &mut Places, found: &mut Vec<Diagnostic>) -> Outcome<()> {
    let text = text.trim();
    let source = Source { name: "--set".into(), text: Arc::from(text) };
    let Some((path, value)) = text.split_once('=') else {
        return Err(Box::new(
            Diagnostic::error(format!("expected `field=value`, found `{}`", shortened(text)))
                .with_span(source, 0..text.len())
                .with_help("for example `array.rows=32`"),
        ));
    };
    let setting = Setting { source, path: path.trim_end(), value: value.trim_start() };
    let dotted = path.replace('[', ".").replace(']', "");
    let segments: Vec<&str> = dotted.split('.').map(str::trim).filter(|segment| !segment.is_empty()).collect();
    if segments.is_empty() {
        return Err(setting.path_fault("no field is named", "for example `array.rows=32`"));
    }
    let (slot, kind, path) = descend(root, &ROOT.kind, &segments, String::new(), &setting)?;
    places.note_override(path.clone(), setting.source.clone(), setting.value_span());
    *slot = read_value(kind, &path, &setting, &mut Reading { places, found, bare_texts: true })?;
    Ok(())
}

/// The value in its kind: a text may come without quotes.
fn read_value(kind: &'static Kind, path: &str, setting: &Setting<'_>, reading: &mut Reading<'_>) -> Outcome<Value> {
    let parsed = syntax::parse(setting.value);
    if let Kind::Text { .. } = kind {
        return Ok(match parsed {
            Ok(node) if setting.value.starts_with(['"', 'r']) && node.name.is_none() => reading.json(&node, None, path),
            _ => Value::String(setting.value.to_owned()),
        });
    }
    match parsed {
        Ok(node) => Ok(reading.json(&node, Some(kind), path)),
        Err(_) => Err(Box::new(
            Diagnostic::error(format!("expected {}, found `{}`", kind.expected(), shortened(setting.value)))
                .with_path(path)
                .with_span(setting.source.clone(), setting.value_span()),
        )),
    }
}

/// The slot that a path leads to, what it holds, and its path in full. Fields that the file leaves to their defaults
/// are made on the way.
fn descend<'value>(
    value: &'value mut Value,
    kind: &'static Kind,
    segments: &[&str],
    path: String,
    setting: &Setting<'_>,
) -> Outcome<(&'value mut Value, &'static Kind, String)> {
    let Some((segment, rest)) = segments.split_first() else { return Ok((value, kind, path)) };
    match kind {
        Kind::Group(_) => {
            let Some(field) = kind.field(segment) else {
                return Err(unknown_field(segment, rest, kind, &path, setting));
            };
            if !value.is_object() {
                *value = Value::Object(Map::new());
            }
            let Value::Object(object) = value else { unreachable!("made one above") };
            let slot = object.entry(field.name).or_insert(Value::Null);
            descend(slot, &field.kind, rest, join(&path, field.name), setting)
        }
        Kind::List { item, .. } => {
            if !value.is_array() {
                *value = Value::Array(Vec::new());
            }
            let Value::Array(items) = value else { unreachable!("made one above") };
            if let (Kind::Pair(Kind::Choice(variants), second), Some(variant)) = (item, variant_of_pair(item, segment))
            {
                debug_assert!(variants.iter().any(|known| known.name == variant.name));
                let index = items.iter().position(|pair| pair.get(0).and_then(Value::as_str) == Some(variant.name));
                let index = index.unwrap_or_else(|| {
                    items.push(Value::Array(vec![Value::String(variant.name.into()), Value::Null]));
                    items.len() - 1
                });
                let path = join(&join(&path, &index.to_string()), "1");
                let slot =
                    items[index].get_mut(1).ok_or_else(|| setting.path_fault("not a pair", "set the whole list"))?;
                return descend(slot, second, rest, path, setting);
            }
            let count = items.len();
            let by_name = |item: &Value| item.get("name").and_then(Value::as_str) == Some(*segment);
            let index = segment.parse::<usize>().ok().or_else(|| items.iter().position(by_name));
            if let Some(index) = index.filter(|index| *index < count) {
                return descend(&mut items[index], item, rest, join(&path, &index.to_string()), setting);
            }
            let names: Vec<&str> = items.iter().filter_map(|item| item.get("name")?.as_str()).collect();
            let help = match item {
                Kind::Pair(Kind::Choice(variants), _) => {
                    format!("name one of {}", quoted(variants.iter().map(|variant| variant.name)))
                }
                _ if names.is_empty() => format!("`{path}` has {count} items, counted from 0"),
                _ => format!("`{path}` has {}, counted from 0", quoted(names)),
            };
            Err(setting.path_fault(format!("no item `{}` in `{path}`", shortened(segment)), help))
        }
        Kind::Pair(first, second) => {
            let (index, kind) = match *segment {
                "0" => (0, *first),
                "1" => (1, *second),
                _ => return Err(setting.path_fault(format!("`{path}` is a pair"), "its parts are `0` and `1`")),
            };
            let path = join(&path, segment);
            let slot = value.get_mut(index).ok_or_else(|| setting.path_fault("not a pair", "set the whole list"))?;
            descend(slot, kind, rest, path, setting)
        }
        Kind::Choice(variants) => descend_choice(value, variants, segment, rest, &path, setting),
        Kind::Integer { .. } | Kind::Number { .. } | Kind::Bool | Kind::Text { .. } => {
            let message = format!("`{path}` has no field `{}`", shortened(segment));
            Err(setting.path_fault(message, format!("`{path}` is {}", kind.expected())))
        }
    }
}

fn variant_of_pair(item: &'static Kind, segment: &str) -> Option<&'static Variant> {
    match item {
        Kind::Pair(Kind::Choice(variants), _) => named(variants, segment),
        _ => None,
    }
}

/// Into the contents of the variant that a choice has now.
fn descend_choice<'value>(
    value: &'value mut Value,
    variants: &'static [Variant],
    segment: &str,
    rest: &[&str],
    path: &str,
    setting: &Setting<'_>,
) -> Outcome<(&'value mut Value, &'static Kind, String)> {
    let current = match &*value {
        Value::String(name) => name.clone(),
        Value::Object(object) => object.keys().next().cloned().unwrap_or_default(),
        _ => String::new(),
    };
    let Some(variant) = named(variants, segment) else {
        let known = variants.iter().filter(|variant| variant.content.is_some()).map(|variant| variant.name);
        let help = match closest(segment, known) {
            Some(name) => format!("did you mean `{}`?", join(path, name)),
            None => format!("`{path}` is `{current}`; to change it, set `{path}` as a whole"),
        };
        return Err(setting.path_fault(format!("`{path}` has no `{}`", shortened(segment)), help));
    };
    if let (Some(content), Some(slot)) = (variant.content, value.get_mut(variant.name)) {
        return descend(slot, content, rest, join(path, variant.name), setting);
    }
    let message = format!("`{path}` is `{current}`, not `{}`", variant.name);
    Err(setting.path_fault(message, format!("set it as a whole: `{path}={}`", variant.written())))
}

fn unknown_field(
    segment: &str,
    rest: &[&str],
    kind: &'static Kind,
    path: &str,
    setting: &Setting<'_>,
) -> Box<Diagnostic> {
    let Kind::Group(fields) = kind else { unreachable!("called for groups") };
    let names = || fields.iter().map(|field| field.name);
    let last = rest.last().unwrap_or(&segment);
    let elsewhere =
        || fields::rows().into_iter().map(|row| row.path).find(|path| path.rsplit('.').next() == Some(last));
    let help = if let Some(name) = closest(segment, names()) {
        let meant = rest.iter().fold(join(path, name), |path, segment| join(&path, segment));
        format!("did you mean `{meant}`?")
    } else if let Some(path) = elsewhere() {
        format!("did you mean `{}`?", path.replace('*', "0"))
    } else {
        format!("the fields here are {}", quoted(names()))
    };
    setting.path_fault(format!("unknown field `{}`", shortened(segment)), help)
}
