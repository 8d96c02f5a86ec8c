//! Exporters: pure functions of [`RunResult`] to text, JSON, CSV and pictures, and the one function that writes them.
//!
//! Nothing here knows how a run is made; a record that was read back gives the same bytes as a fresh one.

#![allow(clippy::format_push_string, reason = "short texts for people: one more allocation does not matter")]

use crate::result::{Provenance, RunResult};

mod chart;
mod format;
mod json;
mod layers_csv;
#[cfg(test)]
mod metrics_page;
mod names;
#[cfg(test)]
mod sample;
mod table;
mod write;

pub use chart::{Chart, ChartError};
pub use json::{MAX_LAYERS, MAX_RECORD_BYTES, json, read_json, read_json_named};
pub use layers_csv::{CsvError, csv};
pub use table::table;
pub use write::{WriteError, write_all};

/// The network's and the machine's name on one line, cleaned of control characters: how a run is called. A copy of a
/// machine has its name, so the label stands behind it, or else what was changed.
pub fn title(result: &RunResult) -> String {
    let or = |name: &str, other: &str| if name.is_empty() { other.to_owned() } else { format::clean(name) };
    let Provenance { model, config, label, overrides, .. } = &result.provenance;
    let names = format!("{} on {}", or(model, "network"), or(config, "machine"));
    match label {
        Some(label) => format!("{names} ({})", format::clean(label)),
        None if overrides.is_empty() => names,
        None => format!("{names} with {}", format::some_of(overrides, 3)),
    }
}
