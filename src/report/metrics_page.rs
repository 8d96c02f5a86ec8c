//! Holds `docs/metrics.md` to the record: every key has a row in its section, every column is listed.

use serde_json::Value;

use super::{csv, sample};
use crate::result::{Accuracy, CpuTime, Divergence, Expectation, FirstMismatch, RegisterCheck, Score};

const PAGE: &str = include_str!("../../docs/metrics.md");

/// The text below `## heading`.
fn section(heading: &str) -> Option<&'static str> {
    let start = format!("\n## {heading}\n");
    let text = &PAGE[PAGE.find(&start)? + start.len()..];
    Some(text.split("\n## ").next().unwrap_or(text))
}

/// Adds the keys that have no row. `heading` is the section of the object `value`.
fn missing(heading: &str, value: &Value, found: &mut Vec<String>) {
    match value {
        Value::Object(members) => {
            for (key, member) in members {
                if !section(heading).is_some_and(|text| text.contains(&format!("\n| `{key}` |"))) {
                    found.push(format!("{heading}: {key}"));
                }
                let heading = if ["float", "quantized", "accelerator"].contains(&key.as_str()) { "score" } else { key };
                missing(heading, member, found);
            }
        }
        Value::Array(items) => items.iter().for_each(|item| missing(heading, item, found)),
        _ => {}
    }
}

#[test]
fn every_key_of_the_record_has_a_row() {
    let mut result = sample::run(2);
    result.verification.first_divergence = Some(Divergence::default());
    let first_mismatch = Some(FirstMismatch::default());
    result.expectation = Some(Expectation { first_mismatch, ..Expectation::default() });
    result.cpu = Some(CpuTime::default());
    result.registers = Some(RegisterCheck::default());
    let score = Some(Score::default());
    result.accuracy = Some(Accuracy { samples: 1, float: score, quantized: score, accelerator: score });
    let mut found = Vec::new();
    missing("run", &serde_json::to_value(&result).unwrap(), &mut found);
    assert!(found.is_empty(), "keys without a row in docs/metrics.md: {found:#?}");
}

#[test]
fn every_column_is_listed() {
    let bytes = csv(&sample::run(1)).unwrap();
    let mut reader = csv::Reader::from_reader(bytes.as_slice());
    let text = section("layers.csv").unwrap();
    for column in reader.headers().unwrap() {
        assert!(text.contains(&format!("`{column}`")), "no column {column} in docs/metrics.md");
    }
}

#[test]
fn the_check_notices_a_key_without_a_row() {
    let mut found = Vec::new();
    missing("totals", &serde_json::json!({ "cycles": 1, "no_such_key": 2 }), &mut found);
    assert_eq!(found, ["totals: no_such_key"]);
}
