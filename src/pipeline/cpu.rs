//! Measures the CPU's execution of the same quantized network on this host. The only place below the command line
//! that looks at the clock, because the user asked for a measurement.

mod kernel;
mod layout;
mod movement;
mod network;
mod product;

use std::time::{Duration, Instant};

use network::Network;

use super::{Failure, Mapped, constant, random_inputs};
use crate::{
    program::LayerKind,
    reference::{self, Keep, Settings},
    result::CpuTime,
};

/// How long all runs together may take, about, and how many there may be.
const WHOLE: Duration = Duration::from_secs(1);
const MIN_RUNS: u128 = 3;
const MAX_RUNS: u128 = 50;

fn internal(error: impl std::fmt::Display) -> Failure {
    Failure::Internal(error.to_string())
}

/// Median time of several runs on random inputs. The arithmetic is that of an ordinary processor, 32-bit sums and
/// float32 multipliers, whatever the machine's is; the first run is not timed and must equal the reference. Operators
/// that only the reference has are timed too, and named.
///
/// # Errors
/// Outputs that differ from the reference's: a fault of this program.
pub(super) fn measure(mapped: &Mapped, accelerator_seconds: f64) -> Result<CpuTime, Failure> {
    let graph = &mapped.network.quantized;
    let constants = |id| constant(graph, id);
    let inputs = random_inputs(graph);
    let settings = Settings::default();
    let expected = reference::run(graph, &inputs, &settings, Keep::Outputs, &constants).map_err(internal)?;
    // What the machine's cycles leave out is left out here too.
    let layers = &mapped.program.header.layers;
    let free = |node| layers.iter().any(|layer| layer.node == node && layer.kind == LayerKind::Free);
    let mut network = Network::new(graph, &constants, &free).map_err(internal)?;
    network.run_all(&inputs).map_err(internal)?;
    for &output in &graph.outputs {
        if network.value(output) != expected.value(output).cloned() {
            let name = &graph.value(output).name;
            return Err(internal(format!("the CPU's execution differs from the reference in {name:?}")));
        }
    }
    let mut once = || -> Result<Duration, Failure> {
        let start = Instant::now();
        network.run_counted().map_err(internal)?;
        Ok(start.elapsed())
    };
    let mut times = vec![once()?];
    let runs = (WHOLE.as_nanos() / times[0].as_nanos().max(1)).clamp(MIN_RUNS, MAX_RUNS);
    for _ in 1..runs {
        times.push(once()?);
    }
    times.sort_unstable();
    let seconds = times[times.len() / 2].as_secs_f64();
    Ok(CpuTime {
        measured: true,
        seconds,
        runs: times.len() as u64,
        threads: rayon::current_num_threads() as u64,
        reference_ops: network.reference_ops(),
        accelerator_speedup: if accelerator_seconds > 0.0 { seconds / accelerator_seconds } else { 0.0 },
    })
}

#[cfg(test)]
mod tests;
