//! Named rewrites of a network, from what was imported to what a machine executes. [`simplify`] folds and fuses
//! without changing real values; [`quantize`] makes every operator of the machine an integer one. Knows graphs and
//! tensors, and of the machine only its [`Capabilities`].

mod activation;
mod affine;
mod constant_fold;
mod constants;
mod identity;
mod matmul;
mod mean;
mod pad;
mod qdq;
mod quantize;
mod work;

#[cfg(test)]
#[allow(missing_docs)]
mod testing;

use std::fmt::Write as _;

use crate::{
    diag::{Diagnostic, Faults},
    ir::{Float, Graph},
};

pub use quantize::{Arithmetic, Capabilities, Prepared, Ranges, quantize, wants_ranges};
use work::Work;

/// A registered pass.
#[derive(Debug)]
pub struct PassInfo {
    /// Its name in logs.
    pub name: &'static str,
    /// What it does, in one line.
    pub description: &'static str,
    /// Where it applies; elsewhere it does nothing.
    pub precondition: &'static str,
    /// Passes of a round run to a fixed point together with those of the rounds before.
    pub round: u8,
    /// Its function on a graph under rewriting: number of changes. `None` for the passes of [`quantize`], which run
    /// in order once.
    run: Option<fn(&mut Work) -> usize>,
}

const fn pass(
    name: &'static str,
    round: u8,
    run: fn(&mut Work) -> usize,
    description: &'static str,
    precondition: &'static str,
) -> PassInfo {
    PassInfo { name, description, precondition, round, run: Some(run) }
}

const fn step(name: &'static str, round: u8, description: &'static str, precondition: &'static str) -> PassInfo {
    PassInfo { name, description, precondition, round, run: None }
}

/// All passes in the order in which they run.
pub const PASSES: &[PassInfo] = &[
    pass(
        "remove-identities",
        1,
        identity::run,
        "removes reshapes, transposes, padding, pools and quantization round trips that change nothing",
        "same shape, type, scale and zero point before and after",
    ),
    pass(
        "fold-constants",
        1,
        constant_fold::run,
        "evaluates operators on constants in f32; quantizes float constants that QuantizeLinear reads",
        "all operands are constants at hand, result of at most 2^28 elements",
    ),
    pass(
        "recognize-global-pooling",
        1,
        mean::run,
        "turns a mean over rows and columns, or over a window that is the image, into GlobalAvgPool",
        "operand of rank 4; axes 2 and 3, or no padding and a float model",
    ),
    pass(
        "fuse-activation",
        1,
        activation::run,
        "fuses Relu and Clip into Conv, MatMul, Add or another activation",
        "no other reader between; equal scale and zero point where quantized",
    ),
    pass(
        "fold-padding",
        1,
        pad::run,
        "folds Pad into the window of Conv, AvgPool or MaxPool",
        "rows and columns only; value 0 (MaxPool: minus infinity, or 0 before values that are never negative); no pool window wholly in the padding",
    ),
    pass(
        "absorb-qdq",
        1,
        qdq::run,
        "turns DequantizeLinear -> operator -> QuantizeLinear into the operator on quantized values, Add, Sub, Mul and Div by one float into a table",
        "all other operands dequantized from 8 bits, weights and biases constant integers, no other reader of the float result",
    ),
    pass(
        "dequantize-constants",
        2,
        constant_fold::dequantize,
        "turns dequantized integer constants into float ones where no integer operator took them",
        "not the weight of a product of a dequantized input",
    ),
    pass(
        "fold-affine-after",
        2,
        affine::fold_after,
        "folds BatchNorm, Add, Sub, Mul and Div by constants into the Conv or MatMul before",
        "float; one number a channel; no other reader between; no activation between",
    ),
    pass(
        "fold-affine-before",
        2,
        affine::fold_before,
        "folds BatchNorm, Add, Sub, Mul and Div by constants into the Conv or MatMul after",
        "float; one number a channel; no other reader between; a shift only where the window has no padding",
    ),
    pass(
        "lower-affine",
        3,
        affine::lower,
        "turns BatchNorm into a depthwise 1x1 Conv (other ranks: Mul and Add), Sub and Div by constants into Add and Mul",
        "float; not folded by the passes before; Sub and Div only in float models, since quantized ones run them on the host",
    ),
    pass(
        "transpose-weights",
        4,
        matmul::transpose_weights,
        "turns weights of MatMul into [N, K]",
        "a constant at hand; synthetic weights stay as they are",
    ),
    pass(
        "whole-image-convolution",
        4,
        matmul::whole_image,
        "turns MatMul of a flattened image into a Conv whose window is the image",
        "image of more than one pixel, batch kept, weight [N, K]; also where channels were made innermost first",
    ),
    step(
        "describe-integers",
        5,
        "gives integers without a scale the scale 1 and the zero point 0",
        "8 or 16 bits; a MaxPool orders them, or moves what one orders",
    ),
    step(
        "quantize-floats",
        5,
        "gives float operators scales from observed ranges and integer weights and biases",
        "a float model, or a quantized one with float Conv, MatMul, Add, pools or Concat left; what else is float in a quantized model stays on the host",
    ),
    step(
        "check-capabilities",
        6,
        "refuses zero points, per-channel scales and types that the machine does not have",
        "without --requantize",
    ),
    step(
        "requantize",
        6,
        "recomputes weights, biases and scales of a quantized model for the machine",
        "with --requantize, where the check finds something",
    ),
];

/// The passes as a Markdown table, for the documentation.
pub fn listing() -> String {
    let mut text = String::from("| pass | what it does | where |\n|---|---|---|\n");
    for PassInfo { name, description, precondition, .. } in PASSES {
        // Writing to a string cannot fail.
        let _ = writeln!(text, "| `{name}` | {description} | {precondition} |");
    }
    text
}

/// Sweeps of one round before it is taken as finished; each sweep shortens a chain of foldable operators by at least
/// one, and models have chains of a few.
const MAX_SWEEPS: usize = 64;

/// Runs the passes up to a round to their common fixed point, adding to the counts.
fn run_round(work: &mut Work, round: u8, counts: &mut [usize]) {
    for _ in 0..MAX_SWEEPS {
        let mut changes = 0;
        for (pass, count) in PASSES.iter().zip(counts.iter_mut()) {
            if let Some(run) = pass.run.filter(|_| pass.round <= round) {
                let found = run(work);
                *count += found;
                changes += found;
            }
        }
        if changes == 0 {
            break;
        }
    }
}

/// What the passes rely on: every operator has at least one operand and one result and names only values that exist,
/// and quantization parameters fit their values.
fn check_form(graph: &Graph<Float>) -> Result<(), Faults> {
    let exists = |id: &crate::ir::ValueId| id.index() < graph.values.len();
    let mut found = Vec::new();
    for node in &graph.nodes {
        let known = node.inputs.iter().chain(&node.outputs).all(exists);
        if node.inputs.is_empty() || node.outputs.len() != 1 || !known {
            let message = format!("{} must have operands and one result", node.op.name());
            found.push(Diagnostic::error(message).with_path(format!("node \"{}\"", node.name)));
        }
    }
    for value in &graph.values {
        if value.quant.as_ref().is_some_and(|quant| !constants::fits(quant, &value.shape)) {
            let message = format!("scales and zero points of `{}` must fit its shape and be positive", value.name);
            found.push(Diagnostic::error(message));
        }
    }
    if !graph.inputs.iter().chain(&graph.outputs).all(exists) {
        found.push(Diagnostic::error("an input or output of the graph does not exist"));
    }
    Faults::check(found)
}

/// Folds and fuses an imported graph; float values change by rounding only, quantized ones not at all. Returns the
/// graph and a line a pass about what was done. The result is what the float reference runs.
///
/// # Errors
/// A graph with an operator without operands or results, or with parameters that do not fit their values.
pub fn simplify(graph: Graph<Float>) -> Result<(Graph<Float>, Vec<String>), Faults> {
    check_form(&graph)?;
    let (nodes, mut counts) = (graph.nodes.len(), vec![0; PASSES.len()]);
    let mut work = Work::new(graph);
    for round in 1..=4 {
        run_round(&mut work, round, &mut counts);
    }
    let mut log: Vec<String> = PASSES
        .iter()
        .zip(&counts)
        .filter(|(_, count)| **count > 0)
        .map(|(pass, count)| format!("{}: {count} {}", pass.name, if *count == 1 { "change" } else { "changes" }))
        .collect();
    let graph = work.finish();
    log.push(format!("simplify: {nodes} nodes became {}", graph.nodes.len()));
    Ok((graph, log))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        ir::Op,
        passes::testing::Builder,
        tensor::{DType, Quantization},
    };

    #[test]
    fn every_pass_is_named_once_and_listed() {
        let text = listing();
        for (index, pass) in PASSES.iter().enumerate() {
            assert!(PASSES[..index].iter().all(|before| before.name != pass.name && before.round <= pass.round));
            assert!(text.contains(&format!("| `{}` | {} | {} |\n", pass.name, pass.description, pass.precondition)));
        }
    }

    #[test]
    fn malformed_parameters_and_operators_are_all_named() {
        let mut build = Builder::new();
        let empty = Quantization { scale: vec![], zero_point: vec![], axis: None };
        let x = build.value("x", &[1, 4], DType::Int8, Some(empty));
        build.graph.inputs.push(x);
        let y = build.node("nothing", Op::Concat { axis: 0 }, &[], &[1, 4]);
        build.output(y);
        let faults = simplify(build.graph).unwrap_err();
        assert_eq!(faults.0.len(), 2);
        assert!(faults.0[0].message.contains("Concat") && faults.0[1].message.contains("`x`"));
    }
}
