//! Checks a config's values against the table of fields: unknown, missing and repeated fields, wrong types, values out
//! of range. Finds all of them; what one field means for another is in `cross`.

use serde_json::{Map, Value};

use super::{
    fields::{Field, Kind, Variant, bound, join, quoted, thousands},
    places::{Places, closest, shortened},
    syntax::{self, Body, Entry, Node, worth},
};
use crate::diag::Diagnostic;

/// Faults after which the search for more ends.
pub const MAX_FAULTS: usize = 100;

/// Turns what was read into JSON, in the form that `serde` gives it: variants as `"Name"` or `{"Name": contents}`.
pub struct Reading<'all> {
    /// Where the fields come from.
    pub places: &'all Places,
    /// Takes what JSON could not tell any more: repeated fields, quotes and brackets of the wrong kind.
    pub found: &'all mut Vec<Diagnostic>,
    /// Whether texts may lack their quotes, which a shell takes away.
    pub bare_texts: bool,
}

impl Reading<'_> {
    /// The JSON of `node`; `kind` is what is expected there, if that is known. Names of choices come as they are declared,
    /// however they are written. The last of repeated fields counts.
    pub fn json(&mut self, node: &Node, kind: Option<&'static Kind>, path: &str) -> Value {
        if let Some(kind) = kind
            && !self.bare_texts
            && let Some((found, help)) = misquoted(node, kind)
        {
            self.fault(|places| {
                places.fault(path, format!("expected {}, found {found}", kind.expected())).with_help(help)
            });
            return stand_in(kind);
        }
        match (&node.body, &node.name, kind) {
            (Body::Scalar(value), ..) => value.clone(),
            (Body::Odd(text), ..) => Value::String(text.clone()),
            (Body::Name, name, kind) => {
                let name = name.as_deref().unwrap_or_default();
                let known = match kind {
                    Some(Kind::Choice(variants)) => named(variants, name),
                    _ => None,
                };
                Value::String(known.map_or(name, |variant| variant.name).to_owned())
            }
            (body, Some(name), Some(Kind::Choice(variants))) => {
                let variant = named(variants, name);
                let (name, content) = variant.map_or((name.as_str(), None), |known| (known.name, known.content));
                let path = join(path, name);
                let content = match body {
                    Body::Fields(fields) => self.object(fields, content, &path),
                    Body::Tuple(items) if items.len() == 1 => self.json(&items[0], content, &path),
                    Body::Tuple(items) => self.array(items, |_| None, &path),
                    Body::Name | Body::Scalar(_) | Body::Odd(_) | Body::List(_) => Value::Null,
                };
                Value::Object(Map::from_iter([(name.to_owned(), content)]))
            }
            (Body::Fields(fields), _, kind) => self.object(fields, kind, path),
            (Body::Tuple(items) | Body::List(items), _, kind) => {
                let item = |index| match kind {
                    Some(Kind::List { item, .. }) => Some(*item),
                    Some(Kind::Pair(first, second)) => Some(if index == 0 { *first } else { *second }),
                    _ => None,
                };
                self.array(items, item, path)
            }
        }
    }

    fn fault(&mut self, make: impl FnOnce(&Places) -> Diagnostic) {
        if self.found.len() < MAX_FAULTS {
            self.found.push(make(self.places));
        }
    }

    fn array(&mut self, items: &[Node], kind_of: impl Fn(usize) -> Option<&'static Kind>, path: &str) -> Value {
        let item = |(index, item)| self.json(item, kind_of(index), &join(path, &index.to_string()));
        Value::Array(items.iter().enumerate().map(item).collect())
    }

    fn object(&mut self, fields: &[Entry], kind: Option<&'static Kind>, path: &str) -> Value {
        let mut object = Map::new();
        for Entry { key, value, .. } in fields {
            let kind = kind.and_then(|kind| kind.field(key)).map(|field| &field.kind);
            let value = self.json(value, kind, &join(path, key));
            if object.insert(key.clone(), value).is_some() {
                self.fault(|places| places.key_fault(path, key, "given more than once").with_help("keep one of them"));
            }
        }
        Value::Object(object)
    }
}

/// What stands where a value of another notation belongs, and what to do about it.
fn misquoted(node: &Node, kind: &Kind) -> Option<(String, String)> {
    match (&node.body, kind) {
        (Body::Scalar(Value::String(text)), Kind::Choice(_)) => {
            Some(("a text in quotes".into(), format!("leave the quotes out: `{}`", shortened(text))))
        }
        (Body::Name | Body::Odd(_), Kind::Text { .. }) => {
            let text = match &node.body {
                Body::Odd(text) => text,
                _ => node.name.as_ref()?,
            };
            let text = shortened(text);
            Some((format!("`{text}`"), format!("put it in quotes: `\"{text}\"`")))
        }
        (Body::Tuple(_), Kind::List { .. }) => Some(("parentheses".into(), "write `[` and `]`".into())),
        (Body::List(_), Kind::Pair(..)) => Some(("brackets".into(), "write `(` and `)`".into())),
        _ => None,
    }
}

/// Writes the defaults of the fields that are left out.
pub fn complete(value: &mut Value, kind: &'static Kind) {
    match (kind, value) {
        (Kind::Group(fields), Value::Object(object)) => {
            for field in *fields {
                if let Some(default) = field.default
                    && !object.contains_key(field.name)
                    && let Ok(node) = syntax::parse(default)
                {
                    let mut reading = Reading { places: &Places::default(), found: &mut Vec::new(), bare_texts: false };
                    object.insert(field.name.to_owned(), reading.json(&node, Some(&field.kind), ""));
                }
                if let Some(value) = object.get_mut(field.name) {
                    complete(value, &field.kind);
                }
            }
        }
        (Kind::List { item, .. }, Value::Array(items)) => items.iter_mut().for_each(|value| complete(value, item)),
        (Kind::Choice(variants), Value::Object(object)) => {
            for (name, value) in object {
                if let Some(content) = find(variants, name).and_then(|variant| variant.content) {
                    complete(value, content);
                }
            }
        }
        _ => {}
    }
}

/// Checks `value` at `path` against what is expected of `field`, defaults written out. Faulty values are replaced by some
/// that are not, so that the rest can be judged; the faults say which.
pub fn check(value: &mut Value, field: &'static Field, path: &str, places: &Places, found: &mut Vec<Diagnostic>) {
    check_kind(value, &field.kind, field, path, places, found);
}

/// As [`check`], of what lies inside a field.
fn check_kind(
    value: &mut Value,
    kind: &'static Kind,
    about: &'static Field,
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
                    Some(value) => check(value, field, &path, places, found),
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
                found.push(places.fault(path, message).with_help(format!("what it is for: {}", about.reason)));
                items.resize_with((*min).clamp(items.len().min(*max), *max), || stand_in(item));
            }
            for (index, value) in items.iter_mut().enumerate() {
                check_kind(value, item, about, &join(path, &index.to_string()), places, found);
            }
        }
        (Kind::Pair(first, second), Value::Array(items)) if items.len() == 2 => {
            check_kind(&mut items[0], first, about, &join(path, "0"), places, found);
            check_kind(&mut items[1], second, about, &join(path, "1"), places, found);
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
                    return check_kind(content, kind, about, &join(path, name), places, found);
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
            found.push(fault.with_help(advice(value, kind, about)));
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

/// The variant that a name means, without regard to case.
pub fn named(variants: &'static [Variant], name: &str) -> Option<&'static Variant> {
    variants.iter().find(|known| known.name.eq_ignore_ascii_case(name))
}

fn find(variants: &'static [Variant], name: &str) -> Option<&'static Variant> {
    variants.iter().find(|variant| variant.name == name)
}

fn unknown_variant(name: &str, variants: &'static [Variant], path: &str, places: &Places) -> Diagnostic {
    let expected = Kind::Choice(variants).expected();
    let fault = places.fault(path, format!("expected {expected}, found `{}`", shortened(name)));
    match closest(name, variants.iter().filter(|variant| !variant.refused).map(|variant| variant.name)) {
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
fn advice(value: &Value, kind: &Kind, about: &Field) -> String {
    let reason = about.reason;
    let number = value.as_f64();
    let todo = match kind {
        Kind::Integer { .. } | Kind::Number { .. } if value.is_string() => {
            return value.as_str().and_then(|text| plain_number(text, about.unit)).unwrap_or_else(|| for_what(reason));
        }
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
    todo.map_or_else(|| for_what(reason), |todo| format!("{todo}: {reason}"))
}

fn for_what(reason: &str) -> String {
    format!("what it is for: {reason}")
}

/// The plain number that a product or a number with a unit was to be.
fn plain_number(text: &str, unit: &str) -> Option<String> {
    let [binary, decimal] = [1024, 1000].map(|kilobyte| worth(text, kilobyte));
    let (binary, is_bytes) = (binary?, unit == "B");
    match decimal {
        Some(decimal) if decimal != binary && is_bytes => {
            Some(format!("give bytes: {binary}, or {decimal} if a kilobyte is to have 1,000"))
        }
        _ if is_bytes => Some(format!("give bytes: {binary}")),
        _ if text.contains(|c: char| c.is_ascii_alphabetic()) => None,
        _ => Some(format!("give the number: {binary}")),
    }
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
