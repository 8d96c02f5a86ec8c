//! Runs a program on values and compares it with the reference, tensor by tensor; finds where they part.

use std::{
    borrow::Cow,
    collections::BTreeMap,
    sync::{Arc, Mutex, PoisonError},
};

use super::{
    Failure, Mapped, ReferenceHost, Samples, constant, limits, random_inputs,
    samples::{batch_of, block_of, join},
};
use crate::{
    diag::{Diagnostic, Faults, Progress},
    engine::functional::{FunctionalError, Machine, TracedElement, is_delegated},
    import,
    ir::{Constant, Graph, NodeId, Op, Quantized, Stage, Value, ValueId},
    mapping::LayerMapping,
    program::{Arithmetic, Instruction, Layer, LayerKind, TensorId},
    reference::{self, Execution, Keep, Reason, ReferenceError, Settings},
    result::{Divergence, Status, Verification},
    tensor::{AccumulationOrder, Requantizer, Tensor},
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
    /// By layer, sums that left the width of their adder, in all runs; `None` where nothing was executed.
    pub overflows: Option<Vec<u64>>,
}

impl Executed {
    /// Nothing was executed.
    pub fn not_executed() -> Self {
        Self {
            verification: Verification { status: Status::NotExecuted, ..Verification::default() },
            ..Self::default()
        }
    }
}

fn internal(error: impl std::fmt::Display) -> Failure {
    Failure::Internal(error.to_string())
}

/// A multiplier that no requantizer holds comes from the model's scales; anything else is a fault of this program.
fn refused(error: ReferenceError) -> Failure {
    match error {
        ReferenceError::Node { node, op, reason: reason @ Reason::Multiplier { .. } } => {
            Diagnostic::error(reason.to_string())
                .with_path(format!("node \"{node}\" ({op})"))
                .with_help(
                    "look at the scales of its input, weights and output, or choose another `vector.requantizer`",
                )
                .into()
        }
        other => internal(other),
    }
}

/// The quantized reference of a mapped network, in the machine's arithmetic.
///
/// # Errors
/// An operator that the reference cannot execute.
pub fn reference_of(mapped: &Mapped, inputs: &[Tensor], only_outputs: bool) -> Result<Execution, Failure> {
    let keep = if only_outputs { Keep::Outputs } else { Keep::All };
    Oracle::of(mapped).run(inputs, keep)
}

/// The reference of a mapped network, ready for any number of runs.
struct Oracle<'a> {
    /// Its synthetic constants are made, so that a run does not make them again.
    graph: Cow<'a, Graph<Quantized>>,
    orders: BTreeMap<NodeId, &'a AccumulationOrder>,
    requantizer: Requantizer,
}

impl<'a> Oracle<'a> {
    fn of(mapped: &'a Mapped) -> Self {
        let orders = mapped.program.header.layers.iter().filter_map(|layer| match &layer.arithmetic {
            Arithmetic::Matrix { order, .. } => Some((layer.node, order)),
            _ => None,
        });
        Self {
            graph: dense(&mapped.network.quantized),
            orders: orders.collect(),
            requantizer: mapped.program.accelerator.config.vector.requantizer,
        }
    }

    fn run(&self, inputs: &[Tensor], keep: Keep) -> Result<Execution, Failure> {
        let exact = AccumulationOrder::Exact;
        let order = |node: NodeId| (*self.orders.get(&node).unwrap_or(&&exact)).clone();
        let settings = Settings { requantizer: self.requantizer, order: &order };
        // Constants are the graph's own.
        reference::run(&self.graph, inputs, &settings, keep, &|_| None).map_err(refused)
    }

    fn outputs(&self, execution: &Execution) -> Vec<Tensor> {
        self.graph.outputs.iter().filter_map(|&id| execution.value(id).cloned()).collect()
    }
}

/// A graph with the elements of its synthetic constants.
pub(super) fn dense<S: Stage>(graph: &Graph<S>) -> Cow<'_, Graph<S>> {
    let synthetic = |value: &Value| matches!(value.constant, Some(Constant::Synthetic(_)));
    if !graph.values.iter().any(synthetic) {
        return Cow::Borrowed(graph);
    }
    let mut graph = graph.clone();
    for value in graph.values.iter_mut().filter(|value| synthetic(value)) {
        if let Some(tensor) = import::synthetic::materialize(value) {
            value.constant = Some(Constant::Dense(tensor.into()));
        }
    }
    Cow::Owned(graph)
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
fn machine_of<'a>(mapped: &'a Mapped, graph: &'a Graph<Quantized>) -> Result<Machine<'a>, Failure> {
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

/// Samples that a run of a network takes at once.
fn batch_size(graph: &Graph<Quantized>) -> usize {
    graph.inputs.first().map_or(1, |&id| graph.value(id).shape.first().copied().unwrap_or(1))
}

/// The first samples, again from the first one on where they do not fill a batch.
fn first_batch(samples: &Samples, batch: usize) -> Result<Vec<Tensor>, Failure> {
    let first = samples.first(batch)?;
    Ok(if samples.count < batch { first.iter().map(|tensor| batch_of(tensor, 0, batch)).collect() } else { first })
}

/// A machine at the beginning of the first run, and what it reads then.
pub(super) fn first_run<'a>(
    mapped: &'a Mapped<'a>,
    samples: Option<&Samples>,
) -> Result<(Machine<'a>, Vec<Tensor>), Failure> {
    let graph = &mapped.network.quantized;
    let first = samples.map_or_else(|| Ok(random_inputs(graph)), |samples| first_batch(samples, batch_size(graph)))?;
    Ok((machine_of(mapped, graph)?, machine_inputs(mapped, &first)?))
}

/// Machines that are built once and used again by whichever thread needs one.
struct Machines<'a> {
    mapped: &'a Mapped<'a>,
    graph: &'a Graph<Quantized>,
    idle: Mutex<Vec<Machine<'a>>>,
}

impl<'a> Machines<'a> {
    /// Bytes of all machines together: each has the network's memory images.
    const MOST_BYTES: u64 = 2 << 30;

    fn take(&self) -> Result<Machine<'a>, Failure> {
        let idle = self.idle.lock().unwrap_or_else(PoisonError::into_inner).pop();
        idle.map_or_else(|| machine_of(self.mapped, self.graph), Ok)
    }

    fn give_back(&self, machine: Machine<'a>) {
        self.idle.lock().unwrap_or_else(PoisonError::into_inner).push(machine);
    }

    /// By layer, sums that overflowed on any machine.
    fn overflows(&self) -> Vec<u64> {
        let mut sums = vec![0; self.mapped.program.header.layers.len()];
        for machine in self.idle.lock().unwrap_or_else(PoisonError::into_inner).iter() {
            sums.iter_mut().zip(machine.overflows()).for_each(|(sum, one)| *sum += one);
        }
        sums
    }

    /// How many may be at work at once.
    fn most(&self) -> usize {
        let header = &self.mapped.program.header;
        let bytes: u64 = header.memory_bytes.iter().fold(1, |sum, &bytes| sum.saturating_add(bytes));
        usize::try_from(Self::MOST_BYTES / bytes).unwrap_or(usize::MAX).clamp(1, rayon::current_num_threads())
    }
}

/// Executes a mapped network: on all samples if there are any, else on random inputs once. Every tensor that can be
/// observed is compared in the first run, outputs in the others. Samples are read and executed in blocks on all cores,
/// each block's reference beside it; only outputs are kept of them.
///
/// # Errors
/// A network or a program too large to execute; else only what this program got wrong. A mismatch is in the result.
pub fn execute(mapped: &Mapped, samples: Option<&Samples>, progress: &mut dyn Progress) -> Result<Executed, Failure> {
    let graph = &mapped.network.quantized;
    limits::check_executable(mapped)?;
    let batch = batch_size(graph);
    let random;
    let samples = if let Some(samples) = samples {
        samples
    } else {
        random = Samples::of(random_inputs(graph), None).counted(batch);
        &random
    };
    let count = samples.count;
    if count != batch {
        cuttable(graph, batch, count)?;
    }
    limits::check_outputs(graph, batch, count)?;
    let first = first_batch(samples, batch)?;
    let oracle = Oracle::of(mapped);
    let machines = Machines { mapped, graph: &oracle.graph, idle: Mutex::default() };
    let work = mapped.program.header.layers.iter().map(layer_work).fold(0, u64::saturating_add);
    progress.stage("executing the program", Some(work), "operations");
    let first_inputs = machine_inputs(mapped, &first)?;
    // The reference and the machine share nothing but the graph: one thread each.
    let (execution, run) = rayon::join(
        || oracle.run(&first, Keep::All),
        || -> Result<(Vec<Tensor>, Vec<Option<Tensor>>), Failure> {
            let mut machine = machines.take()?;
            let snapshots = run_with_snapshots(mapped, &mut machine, &first_inputs, progress)?;
            let outputs = user_outputs(mapped, &machine)?;
            machines.give_back(machine);
            Ok((outputs, snapshots))
        },
    );
    let (execution, (outputs, snapshots)) = (execution?, run?);
    let verification = compare(mapped, &oracle, &execution, &snapshots)?;
    let reference = oracle.outputs(&execution);
    if count > batch {
        drop((execution, snapshots));
        return the_others(mapped, samples, &oracle, &machines, verification, &outputs, progress);
    }
    // Without the repeated samples that fill the batch.
    let kept = |outputs: Vec<Tensor>| -> Result<Vec<Tensor>, Failure> {
        if count == batch {
            return Ok(outputs);
        }
        outputs.iter().map(|output| joined(std::slice::from_ref(output), count)).collect()
    };
    let overflows = Some(machines.overflows());
    Ok(Executed { verification, outputs: kept(outputs)?, reference: kept(reference)?, overflows })
}

/// Executes the samples after the first batch, of which the machine's outputs are `first`, and compares all outputs.
fn the_others(
    mapped: &Mapped,
    samples: &Samples,
    oracle: &Oracle,
    machines: &Machines,
    mut verification: Verification,
    first: &[Tensor],
    progress: &mut dyn Progress,
) -> Result<Executed, Failure> {
    let graph = &mapped.network.quantized;
    let batch = batch_size(graph);
    let size = block_of(graph, false);
    let instructions: Vec<Instruction> = mapped.program.instructions().take(INSTRUCTIONS_KEPT + 1).collect();
    let kept = (instructions.len() <= INSTRUCTIONS_KEPT).then_some(&*instructions);
    progress.stage("executing", Some(samples.count as u64), "samples");
    let blocks = samples.each_block(size, machines.most(), progress, |index, inputs| {
        let count = inputs.first().map_or(0, |input| input.shape()[0]);
        let mut machine = machines.take()?;
        let mut parts: Vec<Vec<Tensor>> = vec![Vec::new(); graph.outputs.len()];
        for start in (0..count).step_by(batch) {
            let outputs = if (index, start) == (0, 0) {
                first.to_vec()
            } else {
                let inputs: Vec<Tensor> = inputs.iter().map(|tensor| batch_of(tensor, start, batch)).collect();
                run_again(mapped, kept, &mut machine, &inputs)?
            };
            parts.iter_mut().zip(outputs).for_each(|(parts, output)| parts.push(output));
        }
        // The reference may hand this thread another block, which should find the machine idle.
        machines.give_back(machine);
        let actual = parts.iter().map(|parts| joined(parts, count)).collect::<Result<Vec<_>, _>>()?;
        let expected = oracle.outputs(&oracle.run(inputs, Keep::Outputs)?);
        Ok((actual, expected))
    })?;
    let (actual, expected): (Vec<_>, Vec<_>) = blocks.into_iter().unzip();
    let (outputs, reference) = (transposed(actual, samples.count)?, transposed(expected, samples.count)?);
    let same = same_implementation(mapped);
    let ids = graph.outputs.iter().zip(&mapped.program.header.outputs);
    for ((actual, expected), (&id, tensor)) in outputs.iter().zip(&reference).zip(ids) {
        verification.compared += actual.len() as u64;
        verification.compared_same_implementation += if same[tensor.index()] { actual.len() as u64 } else { 0 };
        if let Some(difference) = verify::diff(expected, actual)
            && verification.first_divergence.is_none()
        {
            verification.status = Status::Mismatch;
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
    Ok(Executed { verification, outputs, reference, overflows: Some(machines.overflows()) })
}

/// Each output over all blocks.
fn transposed(blocks: Vec<Vec<Tensor>>, count: usize) -> Result<Vec<Tensor>, Failure> {
    let mut parts: Vec<Vec<Tensor>> = Vec::new();
    for block in blocks {
        parts.resize_with(block.len(), Vec::new);
        parts.iter_mut().zip(block).for_each(|(parts, output)| parts.push(output));
    }
    parts.iter().map(|parts| joined(parts, count)).collect()
}

fn joined(parts: &[Tensor], count: usize) -> Result<Tensor, Failure> {
    join(parts, count).ok_or_else(|| internal("outputs differ in type"))
}

/// A program of at most so many instructions is generated once for all samples.
const INSTRUCTIONS_KEPT: usize = 1 << 14;

/// Runs the program on a machine that ran before; `kept` are its instructions, where they are few.
fn run_again(
    mapped: &Mapped,
    kept: Option<&[Instruction]>,
    machine: &mut Machine,
    inputs: &[Tensor],
) -> Result<Vec<Tensor>, Failure> {
    machine.reset_activations();
    for (index, tensor) in machine_inputs(mapped, inputs)?.iter().enumerate() {
        machine.set_input(index, tensor).map_err(internal)?;
    }
    match kept {
        Some(instructions) => machine.run(instructions),
        None => machine.run(mapped.program.instructions()),
    }
    .map_err(internal)?;
    user_outputs(mapped, machine)
}

/// What a layer counts for in the progress.
fn layer_work(layer: &Layer) -> u64 {
    layer.macs.get().max(1)
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

#[allow(clippy::cast_possible_truncation)] // Differences of float tensors are shown by their integer part.
fn integer(number: verify::Number) -> i64 {
    number.as_f64() as i64
}

/// Runs the program once and keeps each tensor as its layer leaves it.
fn run_with_snapshots(
    mapped: &Mapped,
    machine: &mut Machine,
    inputs: &[Tensor],
    progress: &mut dyn Progress,
) -> Result<Vec<Option<Tensor>>, Failure> {
    let header = &mapped.program.header;
    for (index, tensor) in inputs.iter().enumerate() {
        machine.set_input(index, tensor).map_err(internal)?;
    }
    let mut snapshots = vec![None; header.tensors.len()];
    let mut failure = None;
    machine
        .run_observed(mapped.program.instructions(), &mut |layer, machine| {
            progress.advance(layer_work(&header.layers[layer.index()]));
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

/// Compares all tensors, in program order. What a layer that works leaves must be there on both sides: a tensor that is
/// missing is a fault of this program, not one comparison less.
fn compare(
    mapped: &Mapped,
    oracle: &Oracle,
    execution: &Execution,
    snapshots: &[Option<Tensor>],
) -> Result<Verification, Failure> {
    let header = &mapped.program.header;
    let mut verification = Verification { status: Status::BitExact, ..Verification::default() };
    let same = same_implementation(mapped);
    for (index, layer) in header.layers.iter().enumerate() {
        for &output in &layer.outputs {
            let place = &header.tensors[output.index()];
            let (Some(actual), Some(expected)) = (&snapshots[output.index()], execution.value(place.value)) else {
                if layer.kind == LayerKind::Free {
                    continue;
                }
                return Err(internal(format!("`{}` of layer `{}` was not compared", place.name, layer.name)));
            };
            verification.compared += expected.len() as u64;
            verification.compared_same_implementation += if same[output.index()] { expected.len() as u64 } else { 0 };
            if verification.first_divergence.is_none() && verify::diff(expected, actual).is_some() {
                verification.status = Status::Mismatch;
                verification.first_divergence = Some(diverge(mapped, &oracle.graph, execution, index, output)?);
            }
        }
    }
    let Verification { compared, compared_same_implementation: same, .. } = verification;
    if compared == 0 {
        // A network of nothing but views and boundary conversions.
        verification.status = Status::NotExecuted;
    } else if verification.status == Status::BitExact && same == compared {
        verification.status = Status::SameImplementation;
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
fn diverge(
    mapped: &Mapped,
    graph: &Graph<Quantized>,
    oracle: &Execution,
    layer: usize,
    output: TensorId,
) -> Result<Divergence, Failure> {
    let header = &mapped.program.header;
    let place = &header.tensors[output.index()];
    let expected = oracle.value(place.value).ok_or_else(|| internal("the reference has no such tensor"))?;
    let attempt = |trace: Option<&TracedElement>| -> Result<Machine<'_>, Failure> {
        let mut machine = machine_of(mapped, graph)?;
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
    let machine = attempt(Some(&TracedElement { tensor: output, index }))?;
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
