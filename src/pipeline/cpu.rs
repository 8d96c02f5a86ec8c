//! Measures the CPU's execution of the same quantized network on this host. The only place below the command line
//! that looks at the clock, because the user asked for a measurement.

use super::{Failure, Mapped};
use crate::{diag::Diagnostic, result::CpuTime};

/// Median of several runs.
pub(super) fn measure(_mapped: &Mapped, _accelerator_seconds: f64) -> Result<CpuTime, Failure> {
    Err(Diagnostic::error("the measured CPU baseline is not available yet").into())
}
