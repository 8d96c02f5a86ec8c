//! Runs a program on values and compares it with the reference, tensor by tensor; finds where they part.

use std::{collections::BTreeMap, sync::Arc};

use super::{
    Failure, Mapped, ReferenceHost, Samples, constant, keep, limits, random_inputs,
    samples::{batch_of, join},
};
use crate::{
    diag::{Diagnostic, Faults, Progress},
    engine::functional::{FunctionalError, Machine, Trace, is_delegated},
    ir::{Graph, NodeId, Op, Quantized, ValueId},
    mapping::LayerMapping,
    program::{Arithmetic, LayerKind, TensorId},
    reference::{self, Execution, Settings},
    result::{Divergence, Verification},
    tensor::{AccumulationOrder, Tensor},
    verify,
};

/// The outcome of an execution.
#[derive(Clone, Debug, Default)]
pub struct Executed {
    /// Against the reference.
    pub verification: Verification,
    /// The network's outputs over all samples, on the user's side of boundary conversions, in the graph's order.
    pub outputs: Vec<Tensor>,
    /// The quantized reference's.
    pub reference: Vec<Tensor>,
}

impl Executed {
    /// Nothing was executed.
    pub fn not_executed() -> Self {
        Self {
            verification: Verification { status: "not_executed".into(), ..Verification::default() },
            ..Self::default()
        }
    }
}

fn internal(error: impl std::fmt::Display) -> Failure {
    Failure::Internal(error.to_string())
}

/// The quantized reference of a mapped network, in the machine's arithmetic.
///
/// # Errors
/// An operator that the reference cannot execute.
pub fn reference_of(mapped: &Mapped, inputs: &[Tensor], only_outputs: bool) -> Result<Execution, Failure> {
    let graph = &mapped.network.quantized;
    let header = &mapped.program.header;
    let orders: BTreeMap<NodeId, &AccumulationOrder> = header
        .layers
        .iter()
        .filter_map(|layer| match &layer.arithmetic {
            Arithmetic::Matrix { order, .. } => Some((layer.node, order)),
            _ => None,
        })
        .collect();
    let order = |node: NodeId| orders.get(&node).map_or(AccumulationOrder::Exact, |&order| order.clone());
    let settings = Settings { requantizer: mapped.program.accelerator.config.vector.requantizer, order: &order };
    let keep = if only_outputs { reference::Keep::Outputs } else { reference::Keep::All };
    reference::run(graph, inputs, &settings, keep, &|id| constant(graph, id)).map_err(internal)
}

/// What the machine reads for the network's inputs: the integer side of boundary conversions.
fn machine_inputs(mapped: &Mapped, inputs: &[Tensor]) -> Result<Vec<Tensor>, Failure> {
    let graph = &mapped.network.quantized;
    let header = &mapped.program.header;
    graph
        .inputs
        .iter()
        .zip(&header.inputs)
        .zip(inputs)
        .map(|((&id, tensor), input)| {
            let value = header.tensors[tensor.index()].value;
            if value == id { Ok(input.clone()) } else { convert(mapped, id, value, input) }
        })
        .collect()
}

/// Runs the boundary conversions from one value to another.
fn convert(mapped: &Mapped, from: ValueId, to: ValueId, tensor: &Tensor) -> Result<Tensor, Failure> {
    let graph = &mapped.network.quantized;
    let mut chain = Vec::new();
    let mut value = to;
    while value != from {
        let (id, node) = graph
            .nodes_with_ids()
            .find(|(_, node)| matches!(node.op, Op::QuantizeLinear | Op::DequantizeLinear) && node.outputs[0] == value)
            .ok_or_else(|| internal("a boundary conversion is missing"))?;
        chain.push(id);
        value = node.inputs[0];
    }
    let mut tensor = tensor.clone();
    for id in chain.into_iter().rev() {
        let results = reference::run_node(graph, id, &[&tensor], &Settings::default()).map_err(internal)?;
        tensor = results.into_iter().next().ok_or_else(|| internal("a conversion without a result"))?;
    }
    Ok(tensor)
}

/// The machine's outputs on the user's side.
fn user_outputs(mapped: &Mapped, machine: &Machine) -> Result<Vec<Tensor>, Failure> {
    let graph = &mapped.network.quantized;
    let header = &mapped.program.header;
    graph
        .outputs
        .iter()
        .zip(&header.outputs)
        .map(|(&id, &tensor)| {
            let value = header.tensors[tensor.index()].value;
            let result = machine.tensor(tensor).map_err(internal)?;
            if value == id { Ok(result) } else { convert(mapped, value, id, &result) }
        })
        .collect()
}

/// A machine with weights and constants in place.
fn machine_of<'a>(mapped: &'a Mapped) -> Result<Machine<'a>, Failure> {
    let graph = &mapped.network.quantized;
    let program = &mapped.program;
    let machine = Machine::new(&program.accelerator, &program.header, &|id| constant(graph, id));
    let mut machine = machine.map_err(|error| match error {
        FunctionalError::TooLarge(_) => Diagnostic::error(error.to_string())
            .with_help("`--no-execute` times the network without values; or make buffers and accumulators smaller")
            .into(),
        other => internal(other),
    })?;
    machine = machine.with_host(Arc::new(ReferenceHost(graph)));
    for (index, place) in (0_u32..).zip(&program.header.tensors) {
        if let Some(tensor) = constant(graph, place.value) {
            machine.set_constant(TensorId(index), &tensor).map_err(internal)?;
        }
    }
    Ok(machine)
}

/// Executes a mapped network: on all samples if there are any, else on random inputs once. Every tensor that can be
/// observed is compared in the first run, outputs in the others.
///
/// # Errors
/// A network or a program too large to execute; else only what this program got wrong. A mismatch is in the result.
pub fn execute(mapped: &Mapped, samples: Option<&Samples>, progress: &mut dyn Progress) -> Result<Executed, Failure> {
    let graph = &mapped.network.quantized;
    limits::check_executable(mapped)?;
    let batch = graph.inputs.first().map_or(1, |&id| graph.value(id).shape.first().copied().unwrap_or(1));
    let all_inputs = samples.map_or_else(|| random_inputs(graph), |samples| samples.inputs.clone());
    let count = samples.map_or(batch, |samples| samples.count);
    if count != batch {
        cuttable(graph, batch, count)?;
    }
    let first: Vec<Tensor> = if count == batch {
        all_inputs.clone()
    } else {
        all_inputs.iter().map(|tensor| batch_of(tensor, 0, batch)).collect()
    };
    let runs = count.div_ceil(batch);
    progress.stage("executing", Some(runs as u64));
    let first_inputs = machine_inputs(mapped, &first)?;
    // The reference and the machine share nothing but the graph: one thread each.
    let (oracle, run) = rayon::join(
        || reference_of(mapped, &first, false),
        || -> Result<(Machine<'_>, Vec<Option<Tensor>>), Failure> {
            let mut machine = machine_of(mapped)?;
            let snapshots = run_with_snapshots(mapped, &mut machine, &first_inputs)?;
            Ok((machine, snapshots))
        },
    );
    let (oracle, (mut machine, snapshots)) = (oracle?, run?);
    progress.advance(1);
    let mut verification = compare(mapped, &oracle, &snapshots)?;
    let mut outputs: Vec<Vec<Tensor>> = user_outputs(mapped, &machine)?.into_iter().map(|first| vec![first]).collect();
    let mut reference_outputs = outputs_of(mapped, &oracle);
    if runs > 1 {
        for run in 1..runs {
            let inputs: Vec<Tensor> = all_inputs.iter().map(|tensor| batch_of(tensor, run * batch, batch)).collect();
            machine.reset_activations();
            for (index, tensor) in machine_inputs(mapped, &inputs)?.iter().enumerate() {
                machine.set_input(index, tensor).map_err(internal)?;
            }
            machine.run(mapped.program.instructions()).map_err(internal)?;
            for (all, one) in outputs.iter_mut().zip(user_outputs(mapped, &machine)?) {
                all.push(one);
            }
            progress.advance(1);
        }
        let everything = reference_of(mapped, &all_inputs, keep(count) == reference::Keep::Outputs)?;
        reference_outputs = outputs_of(mapped, &everything);
    } else if count < batch {
        // Without the repeated samples that fill the batch.
        reference_outputs =
            reference_outputs.iter().filter_map(|output| join(std::slice::from_ref(output), count)).collect();
    }
    let outputs: Vec<Tensor> = outputs
        .iter()
        .map(|parts| match parts.as_slice() {
            [only] if count == batch => Ok(only.clone()),
            parts => join(parts, count).ok_or_else(|| internal("outputs differ in type")),
        })
        .collect::<Result<_, _>>()?;
    if runs > 1 {
        let same = same_implementation(mapped);
        let ids = graph.outputs.iter().zip(&mapped.program.header.outputs);
        for ((actual, expected), (&id, tensor)) in outputs.iter().zip(&reference_outputs).zip(ids) {
            verification.compared += actual.len() as u64;
            verification.compared_same_implementation += if same[tensor.index()] { actual.len() as u64 } else { 0 };
            if let Some(difference) = verify::diff(expected, actual)
                && verification.first_divergence.is_none()
            {
                verification.status = "mismatch".into();
                verification.first_divergence = Some(Divergence {
                    tensor: graph.value(id).name.clone(),
                    index: difference.index.clone(),
                    expected: integer(difference.expected),
                    actual: integer(difference.actual),
                    mismatches: difference.mismatches,
                    ..Divergence::default()
                });
            }
        }
    }
    Ok(Executed { verification, outputs, reference: reference_outputs })
}

/// Samples other than the program's batch are run in pieces: every input and output must have the samples as its first
/// dimension.
fn cuttable(graph: &Graph<Quantized>, batch: usize, count: usize) -> Result<(), Faults> {
    let values = graph.inputs.iter().map(|&id| ("input", id)).chain(graph.outputs.iter().map(|&id| ("output", id)));
    let faults = values
        .map(|(what, id)| (what, graph.value(id)))
        .filter(|(_, value)| value.shape.first() != Some(&batch))
        .map(|(what, value)| {
            Diagnostic::error(format!(
                "{count} samples cannot be run in batches of {batch}: the first dimension of {what} `{}` is not the \
                 batch: {:?}",
                value.name, value.shape
            ))
            .with_help("give as many samples as the batch is, or set `--batch`")
        });
    Faults::check(faults.collect())
}

fn outputs_of(mapped: &Mapped, oracle: &Execution) -> Vec<Tensor> {
    mapped.network.quantized.outputs.iter().filter_map(|&id| oracle.value(id).cloned()).collect()
}

#[allow(clippy::cast_possible_truncation)] // Differences of float tensors are shown by their integer part.
fn integer(number: verify::Number) -> i64 {
    number.as_f64() as i64
}

/// Runs the program once and keeps each tensor as its layer leaves it.
fn run_with_snapshots(
    mapped: &Mapped,
    machine: &mut Machine,
    inputs: &[Tensor],
) -> Result<Vec<Option<Tensor>>, Failure> {
    let header = &mapped.program.header;
    for (index, tensor) in inputs.iter().enumerate() {
        machine.set_input(index, tensor).map_err(internal)?;
    }
    let mut snapshots = vec![None; header.tensors.len()];
    let mut failure = None;
    machine
        .run_observed(mapped.program.instructions(), &mut |layer, machine| {
            for &output in &header.layers[layer.index()].outputs {
                match machine.tensor(output) {
                    Ok(tensor) => snapshots[output.index()] = Some(tensor),
                    Err(error) => failure = Some(error),
                }
            }
        })
        .map_err(internal)?;
    failure.map_or(Ok(snapshots), |error| Err(internal(error)))
}

/// Compares all tensors, in program order.
fn compare(mapped: &Mapped, oracle: &Execution, snapshots: &[Option<Tensor>]) -> Result<Verification, Failure> {
    let header = &mapped.program.header;
    let mut verification = Verification { status: "bit_exact".into(), ..Verification::default() };
    let same = same_implementation(mapped);
    for (index, layer) in header.layers.iter().enumerate() {
        for &output in &layer.outputs {
            let place = &header.tensors[output.index()];
            let (Some(actual), Some(expected)) = (&snapshots[output.index()], oracle.value(place.value)) else {
                continue;
            };
            verification.compared += expected.len() as u64;
            verification.compared_same_implementation += if same[output.index()] { expected.len() as u64 } else { 0 };
            if verification.first_divergence.is_none() && verify::diff(expected, actual).is_some() {
                verification.status = "mismatch".into();
                verification.first_divergence = Some(diverge(mapped, oracle, index, output)?);
            }
        }
    }
    let Verification { compared, compared_same_implementation: same, .. } = verification;
    if verification.status == "bit_exact" && compared > 0 && same == compared {
        verification.status = "same_implementation".into();
    }
    Ok(verification)
}

/// By tensor of the program, whether the reference computed it on the machine's side too, as the host's executor. A layer
/// that computes nothing hands on what it reads, which the reference converted if it is an input of the network.
fn same_implementation(mapped: &Mapped) -> Vec<bool> {
    let header = &mapped.program.header;
    let mut same = vec![false; header.tensors.len()];
    for id in &header.inputs {
        same[id.index()] = true;
    }
    for layer in &header.layers {
        let handed_on = layer.kind == LayerKind::Free && layer.inputs.iter().all(|id| same[id.index()]);
        for id in &layer.outputs {
            same[id.index()] = handed_on || is_delegated(layer);
        }
    }
    same
}

/// Runs one layer alone, fed with the reference's inputs, and tells the story of the first element that differs.
fn diverge(mapped: &Mapped, oracle: &Execution, layer: usize, output: TensorId) -> Result<Divergence, Failure> {
    let header = &mapped.program.header;
    let place = &header.tensors[output.index()];
    let expected = oracle.value(place.value).ok_or_else(|| internal("the reference has no such tensor"))?;
    let attempt = |trace: Option<&Trace>| -> Result<Machine<'_>, Failure> {
        let mut machine = machine_of(mapped)?;
        for (index, tensor) in (0_u32..).zip(&header.tensors) {
            let is_input = header.layers[layer].inputs.contains(&TensorId(index));
            if is_input && let Some(value) = oracle.value(tensor.value) {
                machine.set_tensor(TensorId(index), value).map_err(internal)?;
            }
        }
        machine.set_trace(trace).map_err(internal)?;
        machine
            .run(mapped.program.instructions().filter(|instruction| instruction.layer.index() == layer))
            .map_err(internal)?;
        Ok(machine)
    };
    let actual = attempt(None)?.tensor(output).map_err(internal)?;
    let mut divergence =
        Divergence { layer: header.layers[layer].name.clone(), tensor: place.name.clone(), ..Divergence::default() };
    let Some(difference) = verify::diff(expected, &actual) else {
        // Equal when fed alone: an earlier layer's bytes were wrong where no tensor could be observed.
        divergence.written_by = Some("nothing differs when the layer is fed alone: its inputs were overwritten".into());
        return Ok(divergence);
    };
    let index: Vec<usize> = difference.index.iter().map(|&i| usize::try_from(i).unwrap_or(usize::MAX)).collect();
    let machine = attempt(Some(&Trace { tensor: output, index }))?;
    if let Some(origin) = machine.traced() {
        divergence.accumulator = origin.accumulator;
        let tile = match &mapped.program.layers[layer].mapping {
            LayerMapping::Matrix(m) => format!(" ({} buffer tiles)", m.trips().steps()),
            _ => String::new(),
        };
        divergence.written_by = Some(match origin.carried_by {
            Some(store) => {
                format!("computed by instruction {}, stored by instruction {store}{tile}", origin.instruction)
            }
            None => format!("computed by instruction {}{tile}", origin.instruction),
        });
    }
    divergence.index.clone_from(&difference.index);
    divergence.expected = integer(difference.expected);
    divergence.actual = integer(difference.actual);
    divergence.mismatches = difference.mismatches;
    Ok(divergence)
}
