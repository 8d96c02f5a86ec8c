//! Scores on labelled samples, and comparison with another runtime's outputs.

use std::path::Path;

use super::{Executed, Failure, Network, Samples, constant};
use crate::{
    diag::{Diagnostic, Faults},
    ir::{Graph, Quantized},
    reference,
    result::{Accuracy, Expectation, Score},
    tensor::{Quantization, Tensor, npz},
    verify::{self, Tolerance},
};

/// Scores of the float reference, the quantized reference and the accelerator; `None` without labels.
pub(super) fn accuracy(network: &Network, samples: &Samples, executed: &Executed) -> Result<Option<Accuracy>, Failure> {
    let Some(labels) = &samples.labels else { return Ok(None) };
    let quant = network.quantized.outputs.first().and_then(|&id| network.quantized.value(id).quant.clone());
    let score = |logits: Option<&Tensor>, quant: Option<&Quantization>| -> Result<Option<Score>, Failure> {
        let Some(logits) = logits else { return Ok(None) };
        let score = verify::accuracy(logits, quant, labels)
            .map_err(|error| Diagnostic::error(format!("no accuracy can be computed: {error}")))?;
        Ok(Some(Score { top1: score.top1, top5: score.top5, loss: score.loss }))
    };
    let float = if network.was_float {
        let graph = &network.float;
        let execution =
            reference::run(graph, &samples.inputs, &reference::Settings::default(), reference::Keep::Outputs, &|id| {
                constant(graph, id)
            })
            .map_err(|error| Failure::Internal(error.to_string()))?;
        graph.outputs.first().and_then(|&id| execution.value(id).cloned())
    } else {
        None
    };
    Ok(Some(Accuracy {
        samples: samples.count as u64,
        float: score(float.as_ref(), None)?,
        quantized: score(executed.reference.first(), quant.as_ref())?,
        accelerator: score(executed.outputs.first(), quant.as_ref())?,
    }))
}

/// Compares the accelerator's outputs with those in a file, named as the graph's outputs.
pub(super) fn expectation(
    path: &Path,
    graph: &Graph<Quantized>,
    executed: &Executed,
    tolerance: f64,
) -> Result<Expectation, Faults> {
    let arrays = npz::read_npz(path)?;
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
    Ok(expectation)
}
