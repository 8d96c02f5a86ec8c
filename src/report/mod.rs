//! Exporters: pure functions of [`RunResult`] to text, JSON, CSV and pictures, and the one function that writes them.
//!
//! Nothing here knows how a run is made; a record that was read back gives the same bytes as a fresh one.

#![allow(clippy::format_push_string, reason = "short texts for people: one more allocation does not matter")]

use crate::result::RunResult;

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

/// The network's and the machine's name on one line, cleaned of control characters: how a run is called.
pub fn title(result: &RunResult) -> String {
    let or = |name: &str, other: &str| if name.is_empty() { other.to_owned() } else { format::clean(name) };
    format!("{} on {}", or(&result.provenance.model, "network"), or(&result.provenance.config, "machine"))
}
