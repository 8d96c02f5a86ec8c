//! What a run's values were compared with: the reference, another runtime's outputs, labels.

use serde::{Deserialize, Serialize};

use super::Status;

/// Bits against the reference.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Verification {
    /// What the comparison came to.
    pub status: Status,
    /// Elements compared, all observable tensors together.
    pub compared: u64,
    /// Of these, elements that the reference computed on both sides: as itself and as the machine's host.
    pub compared_same_implementation: u64,
    /// Where the first difference is.
    pub first_divergence: Option<Divergence>,
}

/// The array register by register: all of it was equal, or there is no record.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct RegisterCheck {
    /// Array tiles that began and ended in the cycles of the timed run.
    pub tiles: u64,
    /// Sums that were those of the program's execution.
    pub sums: u64,
    /// Elements times cycles in which the array was at work.
    pub element_updates: u64,
}

/// The first element that is not the reference's.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Divergence {
    /// The layer that made it, fed with the reference's inputs.
    pub layer: String,
    /// The tensor.
    pub tensor: String,
    /// Logical index.
    pub index: Vec<u64>,
    /// The reference's value.
    pub expected: i64,
    /// The accelerator's value.
    pub actual: i64,
    /// The accumulator before requantization, as the accelerator had it, where there is one.
    pub accumulator: Option<i64>,
    /// Which instruction computed the element, which stored it if another did, and in how many buffer tiles the layer
    /// runs; or why no instruction can be named.
    pub written_by: Option<String>,
    /// Elements of this tensor that differ.
    pub mismatches: u64,
}

/// Bits against another runtime's outputs.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Expectation {
    /// Elements compared.
    pub compared: u64,
    /// Elements that differ by more than the tolerance.
    pub mismatches: u64,
    /// Largest difference.
    pub max_abs_difference: f64,
    /// What was allowed.
    pub tolerance: f64,
    /// Where the first of the mismatches is.
    #[serde(default)]
    pub first_mismatch: Option<FirstMismatch>,
    /// Why two correct runtimes may differ on this model, where a reason is known.
    #[serde(default)]
    pub note: Option<String>,
}

/// The first output that differs from an expected one.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct FirstMismatch {
    /// The output's name.
    pub output: String,
    /// Logical index of its first element that differs.
    pub index: Vec<u64>,
    /// What the file has there.
    pub expected: f64,
    /// What the accelerator computed.
    pub actual: f64,
    /// Elements of this output that differ by more than the tolerance.
    pub mismatches: u64,
    /// Elements of this output.
    pub elements: u64,
    /// Largest difference in this output.
    pub max_abs_difference: f64,
}

/// Accuracy of the three executions.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Accuracy {
    /// Samples.
    pub samples: u64,
    /// The float reference; absent where the model arrived quantized.
    pub float: Option<Score>,
    /// The quantized reference.
    pub quantized: Option<Score>,
    /// The accelerator.
    pub accelerator: Option<Score>,
}

/// Accuracy of one execution.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Score {
    /// Share of samples whose label has the largest output, 0 to 1.
    pub top1: f64,
    /// Share whose label is among the five largest.
    pub top5: f64,
    /// Mean cross-entropy, nats.
    pub loss: f64,
}
