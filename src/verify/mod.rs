//! Comparison of tensors with what they should be: exact, within a tolerance, and by the classes that logits name.
//! Knows tensors only.

mod accuracy;
mod diff;

pub use accuracy::{AccuracyError, Score, accuracy};
pub use diff::{FormDiff, Number, TensorDiff, Tolerance, compare_with_tolerance, diff};
