//! Asks the measured CPU baseline for the time of a mapped network.

use super::{Failure, Mapped, constant, random_inputs};
use crate::{
    baseline::{self, Measured},
    program::LayerKind,
    result::CpuTime,
};

/// The CPU's time on random inputs, what the machine's cycles leave out left out here too.
///
/// # Errors
/// A fault of the baseline, which is one of this program.
pub(super) fn measure(mapped: &Mapped, accelerator_seconds: f64) -> Result<CpuTime, Failure> {
    let graph = &mapped.network.quantized;
    let layers = &mapped.program.header.layers;
    let free = |node| layers.iter().any(|layer| layer.node == node && layer.kind == LayerKind::Free);
    let Measured { seconds, runs, threads, reference_ops } =
        baseline::measure(graph, &random_inputs(graph), &|id| constant(graph, id), &free)
            .map_err(|error| Failure::Internal(error.to_string()))?;
    let accelerator_speedup = if accelerator_seconds > 0.0 { seconds / accelerator_seconds } else { 0.0 };
    Ok(CpuTime { measured: true, seconds, runs, threads, reference_ops, accelerator_speedup })
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use super::*;
    use crate::pipeline::{load_config, load_model, map, prepare};

    #[test]
    fn a_trained_network_is_measured_without_its_boundary_conversions() {
        let accelerator = load_config("edge_16x16", &[]).unwrap();
        let model = load_model(&Path::new(env!("CARGO_MANIFEST_DIR")).join("models/mnist_cnn.onnx"), Some(2)).unwrap();
        let network = prepare(&model, &accelerator, None, false).unwrap();
        let time = measure(&map(&network, &accelerator).unwrap(), 0.5).unwrap();
        assert!(time.measured && (3..=50).contains(&time.runs) && time.threads > 0);
        assert!(time.seconds > 0.0 && (time.accelerator_speedup / time.seconds - 2.0).abs() < 1e-9);
        assert_eq!(time.reference_ops, [""; 0]);
    }
}
