//! Checks a config's values against the table of fields: unknown, missing and repeated fields, wrong types, values out
//! of range. Finds all of them; what one field means for another is in `cross`.

use serde_json::{Map, Value};

use super::{
    fields::{Kind, Variant, bound, join, quoted, thousands},
    places::{Places, closest, shortened},
    syntax::{Body, Entry, Node},
};
use crate::diag::Diagnostic;

/// Faults after which the search for more ends.
pub const MAX_FAULTS: usize = 100;

/// The value of a text as JSON, in the form that `serde` gives it: variants as `"Name"` or `{"Name": contents}`.
/// `kind` is what is expected there, if that is known. Repeated fields are faults; the last one counts.
pub fn json_of(
    node: &Node,
    kind: Option<&'static Kind>,
    path: &str,
    places: &Places,
    found: &mut Vec<Diagnostic>,
) -> Value {
    match (&node.body, &node.name, kind) {
        (Body::Scalar(value), ..) => value.clone(),
        (Body::Name, name, kind) => {
            let name = name.as_deref().unwrap_or_default();
            let known = match kind {
                Some(Kind::Choice(variants)) => variants.iter().find(|known| known.name.eq_ignore_ascii_case(name)),
                _ => None,
            };
            Value::String(known.map_or(name, |variant| variant.name).to_owned())
        }
        (body, Some(name), Some(Kind::Choice(variants))) => {
            let content = variants.iter().find(|known| known.name == name).and_then(|variant| variant.content);
            let path = join(path, name);
            let content = match body {
                Body::Fields(fields) => object_of(fields, content, &path, places, found),
                Body::Tuple(items) if items.len() == 1 => json_of(&items[0], content, &path, places, found),
                Body::Tuple(items) => array_of(items, |_| None, &path, places, found),
                Body::Name | Body::Scalar(_) | Body::List(_) => Value::Null,
            };
            Value::Object(Map::from_iter([(name.clone(), content)]))
        }
        (Body::Fields(fields), _, kind) => object_of(fields, kind, path, places, found),
        (Body::Tuple(items) | Body::List(items), _, kind) => {
            let item = |index| match kind {
                Some(Kind::List { item, .. }) => Some(*item),
                Some(Kind::Pair(first, second)) => Some(if index == 0 { *first } else { *second }),
                _ => None,
            };
            array_of(items, item, path, places, found)
        }
    }
}

fn array_of(
    items: &[Node],
    kind_of: impl Fn(usize) -> Option<&'static Kind>,
    path: &str,
    places: &Places,
    found: &mut Vec<Diagnostic>,
) -> Value {
    let item = |(index, item)| json_of(item, kind_of(index), &join(path, &index.to_string()), places, found);
    Value::Array(items.iter().enumerate().map(item).collect())
}

fn object_of(
    fields: &[Entry],
    kind: Option<&'static Kind>,
    path: &str,
    places: &Places,
    found: &mut Vec<Diagnostic>,
) -> Value {
    let mut object = Map::new();
    for Entry { key, value, .. } in fields {
        let kind = kind.and_then(|kind| kind.field(key)).map(|field| &field.kind);
        let value = json_of(value, kind, &join(path, key), places, found);
        if object.insert(key.clone(), value).is_some() && found.len() < MAX_FAULTS {
            let fault = places.key_fault(path, key, "given more than once");
            found.push(fault.with_help("keep one of them"));
        }
    }
    Value::Object(object)
}

/// Checks `value` at `path` against what is expected there. Faulty values are replaced by some that are not, so that
/// the rest can be judged; the faults say which.
pub fn check(
    value: &mut Value,
    kind: &'static Kind,
    reason: &str,
    path: &str,
    places: &Places,
    found: &mut Vec<Diagnostic>,
) {
    if found.len() >= MAX_FAULTS {
        return;
    }
    match (kind, &mut *value) {
        (Kind::Group(fields), Value::Object(object)) => {
            unknown_fields(object, kind, path, places, found);
            for field in *fields {
                let path = join(path, field.name);
                match object.get_mut(field.name) {
                    Some(value) => check(value, &field.kind, field.reason, &path, places, found),
                    None if field.default.is_none() => {
                        let message = format!("missing: expected {}", field.kind.expected());
                        found.push(places.fault(&path, message).with_help(format!("add it: {}", field.reason)));
                        object.insert(field.name.to_owned(), stand_in(&field.kind));
                    }
                    None => {}
                }
            }
        }
        (Kind::List { item, min, max, .. }, Value::Array(items)) => {
            if items.len() < *min || items.len() > *max {
                let message = format!("expected {}, found {} items", kind.expected(), items.len());
                found.push(places.fault(path, message).with_help(format!("what it is for: {reason}")));
                items.resize_with((*min).clamp(items.len().min(*max), *max), || stand_in(item));
            }
            for (index, value) in items.iter_mut().enumerate() {
                check(value, item, reason, &join(path, &index.to_string()), places, found);
            }
        }
        (Kind::Pair(first, second), Value::Array(items)) if items.len() == 2 => {
            check(&mut items[0], first, reason, &join(path, "0"), places, found);
            check(&mut items[1], second, reason, &join(path, "1"), places, found);
        }
        (Kind::Choice(variants), Value::String(name)) => match find(variants, name) {
            Some(Variant { content: None, .. }) => {}
            Some(variant @ Variant { content: Some(content), .. }) => {
                let fault = places.fault(path, format!("`{name}` needs {}", content.expected()));
                found.push(fault.with_help(format!("write it as `{}`", variant.written())));
                *value = stand_in(kind);
            }
            None => {
                found.push(unknown_variant(name, variants, path, places));
                *value = stand_in(kind);
            }
        },
        (Kind::Choice(variants), Value::Object(object)) if object.len() == 1 => {
            let Some((name, content)) = object.iter_mut().next() else { unreachable!("it has one") };
            match find(variants, name) {
                Some(Variant { content: Some(kind), .. }) => {
                    return check(content, kind, reason, &join(path, name), places, found);
                }
                Some(_) => {
                    let fault = places.fault(path, format!("`{name}` has no fields"));
                    found.push(fault.with_help(format!("write `{name}` alone")));
                }
                None => found.push(unknown_variant(name, variants, path, places)),
            }
            *value = stand_in(kind);
        }
        (_, value) if kind.holds(value) => {}
        (_, value) => {
            let fault = places.fault(path, format!("expected {}, found {}", kind.expected(), shown(value)));
            found.push(if reason.is_empty() { fault } else { fault.with_help(advice(value, kind, reason)) });
            *value = stand_in(kind);
        }
    }
}

/// Reports and removes the fields that a group does not have.
fn unknown_fields(
    object: &mut Map<String, Value>,
    kind: &'static Kind,
    path: &str,
    places: &Places,
    found: &mut Vec<Diagnostic>,
) {
    let names = || kind.fields().iter().map(|field| field.name);
    object.retain(|key, _| {
        let known = kind.field(key).is_some();
        if !known && found.len() < MAX_FAULTS {
            let fault = places.key_fault(path, key, "unknown field");
            found.push(fault.with_help(match closest(key, names()) {
                Some(name) => format!("did you mean `{name}`?"),
                None => format!("the fields here are {}", quoted(names())),
            }));
        }
        known
    });
}

/// Some value of a kind, in its range.
fn stand_in(kind: &'static Kind) -> Value {
    match kind {
        Kind::Integer { min, .. } => (*min).into(),
        Kind::Number { min, .. } => (*min).into(),
        Kind::Bool => false.into(),
        Kind::Text { min, .. } => "x".repeat(*min).into(),
        Kind::Group(fields) => {
            let required = fields.iter().filter(|field| field.default.is_none());
            required.map(|field| (field.name.to_owned(), stand_in(&field.kind))).collect()
        }
        Kind::List { item, min, .. } => (0..*min).map(|_| stand_in(item)).collect(),
        Kind::Pair(first, second) => Value::Array(vec![stand_in(first), stand_in(second)]),
        Kind::Choice(variants) => match variants.first() {
            Some(Variant { name, content: Some(content), .. }) => {
                Value::Object(Map::from_iter([((*name).to_owned(), stand_in(content))]))
            }
            Some(Variant { name, .. }) => (*name).into(),
            None => Value::Null,
        },
    }
}

fn find(variants: &'static [Variant], name: &str) -> Option<&'static Variant> {
    variants.iter().find(|variant| variant.name == name)
}

fn unknown_variant(name: &str, variants: &'static [Variant], path: &str, places: &Places) -> Diagnostic {
    let expected = quoted(variants.iter().map(Variant::written));
    let fault = places.fault(path, format!("expected one of {expected}, found `{}`", shortened(name)));
    match closest(name, variants.iter().map(|variant| variant.name)) {
        Some(meant) => fault.with_help(format!("did you mean `{meant}`?")),
        None => fault,
    }
}

impl Kind {
    /// Whether a number, truth value or text is of this kind and in its range.
    fn holds(&self, value: &Value) -> bool {
        match self {
            Self::Integer { min, max, power_of_two } => value
                .as_u64()
                .is_some_and(|value| (*min..=*max).contains(&value) && (!power_of_two || value.is_power_of_two())),
            Self::Number { min, max, zero } => {
                value.as_f64().is_some_and(|value| (*min..=*max).contains(&value) || (zero.is_some() && value == 0.0))
            }
            Self::Bool => value.is_boolean(),
            Self::Text { min, max } => value.as_str().is_some_and(|text| (*min..=*max).contains(&text.chars().count())),
            _ => false,
        }
    }
}

/// What to do about a value that is not of its kind.
fn advice(value: &Value, kind: &Kind, reason: &str) -> String {
    let number = value.as_f64();
    let todo = match kind {
        Kind::Integer { min, max, .. } => match number {
            Some(number) if number < *min as f64 => Some(format!("raise it to at least {}", thousands(*min))),
            Some(number) if number > *max as f64 => Some(format!("lower it to at most {}", thousands(*max))),
            _ => None,
        },
        Kind::Number { min, max, .. } => match number {
            Some(number) if number < *min => Some(format!("raise it to at least {}", bound(*min))),
            Some(number) if number > *max => Some(format!("lower it to at most {}", bound(*max))),
            _ => None,
        },
        _ => None,
    };
    todo.map_or_else(|| format!("what it is for: {reason}"), |todo| format!("{todo}: {reason}"))
}

/// A value as a message shows it.
pub fn shown(value: &Value) -> String {
    match value {
        Value::Null => "a number that is infinite or not a number".into(),
        Value::Bool(_) | Value::Number(_) => format!("`{value}`"),
        Value::String(text) => format!("`{}`", shortened(text)),
        Value::Array(items) => format!("a list of {} items", items.len()),
        Value::Object(_) => "fields in parentheses".into(),
    }
}
