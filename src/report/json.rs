//! The record as JSON text, and back. JSON is what every other output derives from.

use std::{ops::Range, sync::Arc};

use serde::Deserialize;

use crate::{
    diag::{Diagnostic, Faults, Source},
    result::{Causes, RunResult, SCHEMA},
};

/// A record's text may have this many bytes at most.
pub const MAX_RECORD_BYTES: usize = 256 << 20;

/// A record may have this many layers at most.
pub const MAX_LAYERS: usize = 100_000;

/// The record as pretty JSON with a newline at its end. Every number reads back to the same bits.
///
/// Not-a-number and infinities, which no run should produce, become `null` and do not read back.
///
/// # Panics
/// Never: the record has string keys only.
pub fn json(result: &RunResult) -> String {
    let mut text = serde_json::to_string_pretty(result).expect("plain data with string keys serializes");
    text.push('\n');
    text
}

/// [`read_json_named`] under the name `run.json`.
///
/// # Errors
/// As there.
pub fn read_json(text: &str) -> Result<RunResult, Faults> {
    read_json_named("run.json", text)
}

/// Reads a record that [`json`] wrote; `name` is what faults call the text.
///
/// # Errors
/// Says what is wrong and where: no JSON, another schema, a field that is missing or has the wrong type, more than
/// [`MAX_RECORD_BYTES`] or [`MAX_LAYERS`], causes whose sum does not fit 64 bits.
pub fn read_json_named(name: &str, text: &str) -> Result<RunResult, Faults> {
    if text.len() > MAX_RECORD_BYTES {
        let message = format!("a run's record has at most {MAX_RECORD_BYTES} bytes: this text has {}", text.len());
        return Err(Diagnostic::error(message).with_file(name).into());
    }
    let source = || Source { name: name.to_owned(), text: Arc::from(text) };

    let head: Head = serde_json::from_str(text).map_err(|error| {
        Diagnostic::error(format!("not a run's record: {}", reason(&error)))
            .with_span(source(), range(text, error.line(), error.column()))
            .with_help("give the `run.json` that `systole run --out` wrote")
    })?;
    match head.schema {
        None => {
            return Err(Diagnostic::error("not a run's record: it has no `schema`")
                .with_path("schema")
                .with_file(name)
                .with_help("give the `run.json` that `systole run --out` wrote")
                .into());
        }
        Some(schema) if schema.as_u64() != Some(u64::from(SCHEMA)) => {
            return Err(Diagnostic::error(format!("this program reads schema {SCHEMA}: the record has {schema}"))
                .with_path("schema")
                .with_file(name)
                .with_help("run the network again with this version, or read the record with the one that wrote it")
                .into());
        }
        Some(_) => {}
    }

    let mut reader = serde_json::Deserializer::from_str(text);
    let result: RunResult = serde_path_to_error::deserialize(&mut reader).map_err(|error| {
        let path = error.path().to_string();
        let inner = error.into_inner();
        let fault = Diagnostic::error(reason(&inner)).with_span(source(), range(text, inner.line(), inner.column()));
        // The path of the record itself is a lone dot.
        if path == "." { fault } else { fault.with_path(path) }
    })?;
    check(name, &result)?;
    Ok(result)
}

/// The part of a record that says whether the rest can be read.
#[derive(Deserialize)]
struct Head {
    schema: Option<serde_json::Value>,
}

/// What the types cannot say.
fn check(name: &str, result: &RunResult) -> Result<(), Faults> {
    let mut found = Vec::new();
    let fits = |causes: &Causes| causes.entries().iter().try_fold(0u64, |sum, &(_, n)| sum.checked_add(n)).is_some();
    if result.layers.len() > MAX_LAYERS {
        let message = format!("a record has at most {MAX_LAYERS} layers: this one has {}", result.layers.len());
        found.push(Diagnostic::error(message).with_path("layers").with_file(name));
    }
    if !fits(&result.totals.causes) {
        found.push(overflow("totals.causes".to_owned(), name));
    }
    let layers = result.layers.iter().take(MAX_LAYERS).enumerate();
    found.extend(
        layers
            .filter(|(_, layer)| !fits(&layer.causes))
            .take(20)
            .map(|(index, _)| overflow(format!("layers[{index}].causes"), name)),
    );
    Faults::check(found)
}

fn overflow(path: String, name: &str) -> Diagnostic {
    Diagnostic::error("the sum of the causes does not fit 64 bits").with_path(path).with_file(name)
}

/// The parser's message without the position that it appends, which the span says already.
fn reason(error: &serde_json::Error) -> String {
    let text = error.to_string();
    match text.rfind(" at line ") {
        Some(end) => text[..end].to_owned(),
        None => text,
    }
}

/// The byte at a line and column (bytes, both from 1), clamped to the text and to character boundaries.
fn range(text: &str, line: usize, column: usize) -> Range<usize> {
    let start: usize = text.split_inclusive('\n').take(line.saturating_sub(1)).map(str::len).sum();
    let mut at = (start + column.saturating_sub(1)).min(text.len());
    while !text.is_char_boundary(at) {
        at -= 1;
    }
    let end = text[at..].chars().next().map_or(at, |c| at + c.len_utf8());
    at..end
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::{report::sample, result::Cause};

    proptest! {
        #[test]
        fn a_record_reads_back_to_the_same_bits(seed in any::<u64>()) {
            let result = sample::random(seed);
            let text = json(&result);
            let back = read_json(&text).map_err(|faults| TestCaseError::fail(faults.to_string()))?;
            prop_assert_eq!(&back, &result);
            prop_assert_eq!(json(&back), text);
        }

        #[test]
        fn no_text_makes_the_reader_panic(text in "\\PC{0,80}", cut in 0usize..4000) {
            let _ = read_json(&text);
            let mut whole = json(&sample::run(3));
            let cut = (0..=cut.min(whole.len())).rev().find(|&at| whole.is_char_boundary(at)).unwrap_or(0);
            whole.truncate(cut);
            prop_assert!(read_json(&whole).is_err());
        }
    }

    #[test]
    fn a_wrong_type_names_the_field_and_the_line() {
        let text = json(&sample::run(2));
        let broken = text.replacen("\"rows\": 32", "\"rows\": \"many\"", 1);
        assert_ne!(text, broken);
        let faults = read_json(&broken).unwrap_err();
        let fault = &faults.0[0];
        assert_eq!(fault.path.as_deref(), Some("machine.rows"));
        let (line, _) = fault.line_column().unwrap();
        assert!(broken.lines().nth(line - 1).unwrap().contains("rows"), "{fault}");
        assert!(fault.message.contains("invalid type: string \"many\", expected u64"), "{fault}");
    }

    #[test]
    fn another_schema_is_refused_with_both_numbers() {
        let text = json(&sample::run(1)).replacen("\"schema\": 1", "\"schema\": 99", 1);
        let message = read_json(&text).unwrap_err().to_string();
        assert!(message.contains("reads schema 1") && message.contains("has 99"), "{message}");
        assert!(read_json("{}").unwrap_err().to_string().contains("no `schema`"));
        assert!(read_json("[1]").is_err());
        assert!(read_json("").is_err());
    }

    #[test]
    fn a_missing_field_is_named() {
        let text = json(&sample::run(1)).replacen("\"beats\"", "\"beets\"", 1);
        let message = read_json(&text).unwrap_err().to_string();
        assert!(message.contains("totals") && message.contains("missing field `beats`"), "{message}");
        let mut record: serde_json::Value = serde_json::from_str(&json(&sample::run(1))).unwrap();
        record["totals"]["causes"].as_object_mut().unwrap().remove("weight_load").unwrap();
        let message = read_json(&record.to_string()).unwrap_err().to_string();
        assert!(message.contains("totals.causes") && message.contains("missing field `weight_load`"), "{message}");
    }

    #[test]
    fn causes_that_overflow_are_a_fault_not_a_panic() {
        let mut result = sample::run(2);
        result.layers[1].causes[Cause::Host] = u64::MAX;
        result.layers[1].causes[Cause::Issue] = 1;
        let message = read_json(&json(&result)).unwrap_err().to_string();
        assert!(message.contains("layers[1].causes"), "{message}");
    }

    #[test]
    fn deep_nesting_is_a_fault() {
        assert!(read_json(&"[".repeat(100_000)).is_err());
        assert!(read_json(&format!("{{\"schema\":1,\"x\":{}", "[".repeat(100_000))).is_err());
    }
}
