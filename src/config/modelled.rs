//! What the model does not act on yet, by the marks in `schema`: kinds and policies are refused, numbers are listed in
//! results.

use serde_json::Value;

use super::{
    fields::{Field, Kind, Modelled, join, quoted},
    places::Places,
    resolved::Accelerator,
    schema::{AcceleratorConfig, ROOT},
};
use crate::diag::Diagnostic;

/// Kinds and policies that the schema has and the model does not.
pub(super) fn refusals(config: &AcceleratorConfig, places: &Places) -> Vec<Diagnostic> {
    let mut found = Vec::new();
    visit(config, &mut |path, field, value| {
        if let Kind::Choice(variants) = field.kind
            && let Some(name) = value.as_str()
            && variants.iter().any(|variant| variant.refused && variant.name == name)
        {
            let fault = places.fault(path, format!("not modelled yet: `{name}`"));
            let others = variants.iter().filter(|variant| !variant.refused).map(|variant| variant.name);
            found.push(fault.with_help(format!("use {}", quoted(others))));
        }
        if let (Modelled::Refused(what), Some(default)) = (field.modelled, field.default)
            && !is_written_as(value, default)
        {
            let fault = places.fault(path, format!("not modelled yet: {what}"));
            found.push(fault.with_help(format!("use {default}")));
        }
    });
    found
}

/// Fields whose value differs from the default and has no effect on time: `path = value: why`. Also memory spaces in
/// which no operand lives.
pub fn not_modelled(accelerator: &Accelerator) -> Vec<String> {
    let config = &accelerator.config;
    let mut list = Vec::new();
    visit(config, &mut |path, field, value| {
        if let (Modelled::Listed(why), Some(default)) = (field.modelled, field.default)
            && !is_written_as(value, default)
        {
            list.push(format!("{path} = {value}: {why}"));
        }
    });
    let placed = config.placement.entries();
    for space in &config.memories {
        if placed.iter().all(|(_, name)| *name != space.name) {
            list.push(format!("memory `{}`: no operand lives there, so it has no effect", space.name));
        }
    }
    list
}

/// Whether a file would have a number or truth value like this.
fn is_written_as(value: &Value, text: &str) -> bool {
    let written = value.to_string();
    written == text
}

/// Every field of a config, with its path and value, in the order of the file.
fn visit(config: &AcceleratorConfig, each: &mut dyn FnMut(&str, &'static Field, &Value)) {
    let value = serde_json::to_value(config).expect("a config has only texts, numbers and lists");
    visit_kind("", &ROOT.kind, &value, each);
}

fn visit_kind(path: &str, kind: &'static Kind, value: &Value, each: &mut dyn FnMut(&str, &'static Field, &Value)) {
    match (kind, value) {
        (Kind::Group(fields), Value::Object(object)) => {
            for field in *fields {
                let path = join(path, field.name);
                if let Some(value) = object.get(field.name) {
                    each(&path, field, value);
                    visit_kind(&path, &field.kind, value, each);
                }
            }
        }
        (Kind::List { item, .. }, Value::Array(items)) => {
            for (index, value) in items.iter().enumerate() {
                visit_kind(&join(path, &index.to_string()), item, value, each);
            }
        }
        (Kind::Choice(variants), Value::Object(object)) => {
            for variant in *variants {
                if let (Some(content), Some(value)) = (variant.content, object.get(variant.name)) {
                    visit_kind(&join(path, variant.name), content, value, each);
                }
            }
        }
        _ => {}
    }
}
