//! The measured CPU baseline: a quantized network on this host's processor, with its kernels and the clock. Knows
//! neither machine, mapping nor program; the only room below the command line that looks at the clock, because the user
//! asked for a measurement.

mod kernels;
mod layout;
mod movement;
mod network;
mod operator;
mod product;

use std::time::{Duration, Instant};

pub use network::BaselineError;
use network::CpuNetwork;

use crate::{
    ir::{Graph, NodeId, Quantized, ValueId},
    reference::{self, Keep, Settings},
    tensor::Tensor,
};

/// How long all runs together may take, about, and how many there may be.
const WHOLE: Duration = Duration::from_secs(1);
const MIN_RUNS: u128 = 3;
const MAX_RUNS: u128 = 50;

/// What was measured.
#[derive(Clone, Debug, PartialEq)]
pub struct Measured {
    /// Median of the runs.
    pub seconds: f64,
    /// How many were timed.
    pub runs: u64,
    /// How many threads they had.
    pub threads: u64,
    /// Operators that no kernel has and the reference ran, each once.
    pub reference_ops: Vec<String>,
}

/// Median time of several runs on `inputs`. The arithmetic is that of an ordinary processor, 32-bit sums and float32
/// multipliers, whatever the machine's is; the first run is not timed and must equal the reference. Conversions at the
/// boundary that the machine does not count, which `free` names, are not timed here either.
///
/// # Errors
/// Outputs that differ from the reference's: a fault of this program.
pub fn measure(
    graph: &Graph<Quantized>,
    inputs: &[Tensor],
    constants: &dyn Fn(ValueId) -> Option<Tensor>,
    free: &dyn Fn(NodeId) -> bool,
) -> Result<Measured, BaselineError> {
    let expected = reference::run(graph, inputs, &Settings::default(), Keep::Outputs, constants)?;
    let mut network = CpuNetwork::new(graph, constants, free)?;
    network.run_all(inputs)?;
    if let Some(&output) = graph.outputs.iter().find(|&&id| network.value(id) != expected.value(id).cloned()) {
        return Err(BaselineError::Differs(graph.value(output).name.clone()));
    }
    let mut once = || -> Result<Duration, BaselineError> {
        let start = Instant::now();
        network.run_counted()?;
        Ok(start.elapsed())
    };
    let mut times = vec![once()?];
    let runs = (WHOLE.as_nanos() / times[0].as_nanos().max(1)).clamp(MIN_RUNS, MAX_RUNS);
    for _ in 1..runs {
        times.push(once()?);
    }
    times.sort_unstable();
    Ok(Measured {
        seconds: times[times.len() / 2].as_secs_f64(),
        runs: times.len() as u64,
        threads: rayon::current_num_threads() as u64,
        reference_ops: network.reference_ops(),
    })
}

#[cfg(test)]
mod tests;
