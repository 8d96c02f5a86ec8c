//! Scores on labelled samples, and comparison with another runtime's outputs.

use std::path::{Path, PathBuf};

use super::{
    Executed, Failure, Network, Samples,
    execute::dense,
    samples::{block_of, join},
};
use crate::{
    diag::{Diagnostic, Faults, Progress},
    ir::{Float, Graph, Op, Quantized},
    reference,
    result::{Accuracy, Expectation, FirstMismatch, Score},
    tensor::{DType, Quantization, Tensor, npz},
    verify::{self, Tolerance},
};

/// Scores of the float reference, the quantized reference and the accelerator; `None` without labels.
pub(super) fn accuracy(
    network: &Network,
    samples: &Samples,
    executed: &Executed,
    progress: &mut dyn Progress,
) -> Result<Option<Accuracy>, Failure> {
    let Some(labels) = &samples.labels else { return Ok(None) };
    let quant = network.quantized.outputs.first().and_then(|&id| network.quantized.value(id).quant.clone());
    let score = |logits: Option<&Tensor>, quant: Option<&Quantization>| -> Result<Option<Score>, Failure> {
        let Some(logits) = logits else { return Ok(None) };
        let score = verify::accuracy(logits, quant, labels)
            .map_err(|error| Diagnostic::error(format!("no accuracy can be computed: {error}")))?;
        Ok(Some(Score { top1: score.top1, top5: score.top5, loss: score.loss }))
    };
    let float = if network.was_float { float_outputs(&network.float, samples, progress)? } else { None };
    Ok(Some(Accuracy {
        samples: samples.count as u64,
        float: score(float.as_ref(), None)?,
        quantized: score(executed.reference.first(), quant.as_ref())?,
        accelerator: score(executed.outputs.first(), quant.as_ref())?,
    }))
}

/// The first output of the float reference over all samples.
fn float_outputs(
    graph: &Graph<Float>,
    samples: &Samples,
    progress: &mut dyn Progress,
) -> Result<Option<Tensor>, Failure> {
    let graph = dense(graph);
    let Some(&output) = graph.outputs.first() else { return Ok(None) };
    progress.stage("scoring the float model", Some(samples.count as u64), "samples");
    let threads = rayon::current_num_threads();
    let parts = samples.each_block(block_of(&graph, false), threads, progress, |_, inputs| {
        let settings = reference::Settings::default();
        reference::run(&graph, inputs, &settings, reference::Keep::Outputs, &|_| None)
            .map(|execution| execution.value(output).cloned())
            .map_err(|error| Failure::Internal(error.to_string()))
    })?;
    let parts: Option<Vec<Tensor>> = parts.into_iter().collect();
    Ok(parts.and_then(|parts| join(&parts, samples.count)))
}

/// Outputs that another runtime produced for the same samples.
#[derive(Clone, Debug, Default)]
pub struct Expected {
    /// Arrays, named as the graph's outputs.
    pub arrays: Vec<(String, Tensor)>,
    /// Largest difference that is no mismatch.
    pub tolerance: f64,
    /// The file that they come from, for messages.
    pub file: PathBuf,
}

impl Expected {
    /// Reads them from an `.npz` file.
    ///
    /// # Errors
    /// A file that cannot be read or is no archive of arrays.
    pub fn read(path: &Path, tolerance: f64) -> Result<Self, Faults> {
        Ok(Self { arrays: npz::read_npz(path)?, tolerance, file: path.to_owned() })
    }
}

/// Why ONNX Runtime may be at fault.
const SATURATION: &str = "products of uint8 activations and int8 weights saturate in ONNX Runtime on CPUs without VNNI \
                          unless its session option `session.x64quantprecision` is `1`";

/// Compares the accelerator's outputs with expected ones.
pub(super) fn expectation(
    expected: &Expected,
    graph: &Graph<Quantized>,
    executed: &Executed,
) -> Result<Expectation, Faults> {
    let Expected { arrays, tolerance, file: path } = expected;
    let tolerance = *tolerance;
    let mut faults = Vec::new();
    let mut expectation = Expectation { tolerance, ..Expectation::default() };
    let mut matched = 0;
    for (&id, actual) in graph.outputs.iter().zip(&executed.outputs) {
        let name = &graph.value(id).name;
        let Some((_, expected)) = arrays.iter().find(|(known, _)| known == name) else { continue };
        matched += 1;
        if expected.shape() != actual.shape() {
            faults.push(
                Diagnostic::error(format!(
                    "array `{name}` has shape {:?}, the run produced {:?}",
                    expected.shape(),
                    actual.shape()
                ))
                .with_file(path)
                .with_help("give the same samples with `--data` as the other runtime had"),
            );
            continue;
        }
        expectation.compared += actual.len() as u64;
        let rule = Tolerance { absolute: tolerance, relative: 0.0, of_largest: false };
        if let Some(difference) = verify::compare_with_tolerance(expected, actual, rule) {
            expectation.mismatches += difference.mismatches;
            expectation.first_mismatch.get_or_insert_with(|| FirstMismatch {
                output: name.clone(),
                index: difference.index.clone(),
                expected: difference.expected.as_f64(),
                actual: difference.actual.as_f64(),
                mismatches: difference.mismatches,
                elements: difference.elements,
                max_abs_difference: difference.max_abs,
            });
        }
        for (a, b) in expected.to_f32().iter().zip(actual.to_f32()) {
            expectation.max_abs_difference = expectation.max_abs_difference.max(f64::from((a - b).abs()));
        }
    }
    if matched == 0 {
        let outputs: Vec<&str> = graph.outputs.iter().map(|&id| graph.value(id).name.as_str()).collect();
        faults.push(
            Diagnostic::error("no array is named as an output of the model")
                .with_file(path)
                .with_help(format!("the model's outputs are: {}", outputs.join(", "))),
        );
    }
    Faults::check(faults)?;
    let mixed = graph.nodes.iter().any(|node| {
        let dtype = |index: usize| node.inputs.get(index).map(|&id| graph.value(id).dtype);
        matches!(node.op, Op::Conv { .. } | Op::MatMul { .. })
            && (dtype(0), dtype(1)) == (Some(DType::UInt8), Some(DType::Int8))
    });
    if expectation.mismatches > 0 && mixed {
        expectation.note = Some(SATURATION.into());
    }
    Ok(expectation)
}
