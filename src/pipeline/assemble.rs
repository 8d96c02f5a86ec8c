//! Puts a run's figures into the record. Every definition is in `docs/metrics.md`.

use super::{Executed, Mapped, Model, Options};
use crate::{
    config::{self, Accelerator, BufferLayout, Dataflow, MemoryModel, MemorySpace},
    dataflow::{ArrayLaw, schedule},
    engine::timing::{MemoryTiming, TimingReport},
    mapping::{cost::Part, describe, matrix::Occupied, plan::Predicted},
    passes::Arithmetic,
    program::{self, Layer, LayerKind, TensorId, TensorPlace, WeightImage},
    result::{
        self, BufferResult, Cause, Causes, EngineResult, LayerResult, Machine, MemoryResult, Provenance, RunResult,
        RunsOn, SCHEMA, Totals, Traffic,
    },
    tensor::AccumulationOrder,
    units::Cycles,
};

/// The record of a run, from what its stages found; without `timing`, at `bound` fidelity. Expectation, accuracy and
/// CPU time are left out.
pub fn assemble(
    mapped: &Mapped,
    model: &Model,
    options: &Options,
    timing: Option<&TimingReport>,
    executed: &Executed,
) -> RunResult {
    let accelerator = &mapped.program.accelerator;
    let machine = machine(accelerator);
    let mut layers: Vec<LayerResult> =
        (0..mapped.program.header.layers.len()).map(|index| layer(mapped, index, timing, &machine)).collect();
    if let Some(overflows) = &executed.overflows {
        layers.iter_mut().zip(overflows).for_each(|(row, &sums)| row.overflows = Some(sums));
    }
    let totals = totals(mapped, &layers, timing, &machine);
    RunResult {
        schema: SCHEMA,
        provenance: provenance(mapped, model, options),
        machine,
        totals,
        layers,
        engines: engines(accelerator, timing),
        memories: timing.map_or_else(Vec::new, |report| memories(accelerator, report)),
        buffers: buffers(mapped, timing),
        verification: executed.verification.clone(),
        expectation: None,
        accuracy: None,
        registers: None,
        cpu: None,
    }
}

fn machine(accelerator: &Accelerator) -> Machine {
    let array = &accelerator.config.array;
    let space = &accelerator.config.memories[usize::from(accelerator.activation_memory.0)];
    Machine {
        rows: u64::from(array.rows),
        cols: u64::from(array.cols),
        arrays: u64::from(array.count),
        clock_mhz: array.clock_mhz,
        peak_macs_per_s: f64::from(array.rows) * f64::from(array.cols) * f64::from(array.count) * array.clock_mhz * 1e6,
        peak_bandwidth_gb_per_s: pins(space),
        memory: space.name.clone(),
        first_out_latency: first_out_latency(array),
    }
}

fn first_out_latency(array: &config::Array) -> u64 {
    let stays = array.dataflows.first().is_none_or(|&dataflow| schedule(dataflow).stationary().is_some());
    ArrayLaw::of(array).first_out(stays, 0)
}

/// GB/s at a memory's pins at most.
const fn pins(space: &MemorySpace) -> f64 {
    let MemoryModel::Ideal { bandwidth_gb_per_s, .. } = space.model;
    bandwidth_gb_per_s
}

fn memories(accelerator: &Accelerator, report: &TimingReport) -> Vec<MemoryResult> {
    let seconds = report.end.seconds();
    let result = |(space, timed): (&MemorySpace, &MemoryTiming)| {
        let moved = timed.moved.get();
        let average = if seconds > 0.0 { moved as f64 / seconds / 1e9 } else { 0.0 };
        MemoryResult {
            name: space.name.clone(),
            pins_gb_per_s: pins(space),
            read_bytes: timed.read.get(),
            written_bytes: timed.written.get(),
            moved_bytes: moved,
            average_bandwidth_gb_per_s: average,
            p95_bandwidth_gb_per_s: timed.p95_gb_per_s(),
            peak_bandwidth_gb_per_s: timed.peak_gb_per_s(),
            efficiency: average / pins(space),
        }
    };
    accelerator.config.memories.iter().zip(&report.memories).map(result).collect()
}

/// Each buffer's capacity, the most that a layer takes of it, and its traffic; the accumulators last.
fn buffers(mapped: &Mapped, timing: Option<&TimingReport>) -> Vec<BufferResult> {
    let accelerator = &mapped.program.accelerator;
    let most = |part: &dyn Fn(&Occupied) -> u64| {
        mapped.plan.layers.iter().map(|layer| part(&layer.occupied)).max().unwrap_or(0)
    };
    let mut rows = match accelerator.config.buffers.layout {
        BufferLayout::Shared(pool) => {
            vec![("buffer", pool.bytes, most(&|o| o.input + o.weight + o.output + o.resident))]
        }
        BufferLayout::Split { input, weight, output } => vec![
            ("input buffer", input.bytes, most(&|o| o.input)),
            ("weight buffer", weight.bytes, most(&|o| o.weight)),
            ("output buffer", output.bytes, most(&|o| o.output)),
        ],
    };
    let word = accelerator.accumulator_bytes();
    rows.push(("accumulators", accelerator.config.accumulators.bytes, most(&|o| o.accumulators * word)));
    let result = |(index, (name, capacity_bytes, peak_bytes)): (usize, (&str, u64, u64))| {
        let timed = timing.map(|report| report.buffers[index]);
        BufferResult {
            name: name.into(),
            capacity_bytes,
            peak_bytes,
            read_bytes: timed.map(|buffer| buffer.read.get()),
            written_bytes: timed.map(|buffer| buffer.written.get()),
        }
    };
    rows.into_iter().enumerate().map(result).collect()
}

fn provenance(mapped: &Mapped, model: &Model, options: &Options) -> Provenance {
    let accelerator = &mapped.program.accelerator;
    let graph = &mapped.network.quantized;
    let batch = graph.inputs.first().and_then(|&id| graph.value(id).shape.first().copied()).unwrap_or(1);
    Provenance {
        systole_version: env!("CARGO_PKG_VERSION").into(),
        config: accelerator.config.name.clone(),
        config_hash: format!("{:016x}", config::hash(accelerator)),
        label: options.label.clone(),
        overrides: options.overrides.clone(),
        model: graph.name.clone(),
        model_hash: format!("{:016x}", model.hash),
        batch: batch as u64,
        fidelity: options.fidelity,
        arithmetic: match mapped.network.arithmetic {
            Arithmetic::AsModel => result::Arithmetic::AsModel,
            Arithmetic::Machine => result::Arithmetic::Machine,
        },
        not_modelled: not_modelled(mapped),
        passes: mapped.network.log.clone(),
    }
}

/// Numbers of the config without effect, and what the images that are executed do not share with the machine.
fn not_modelled(mapped: &Mapped) -> Vec<String> {
    let program = &mapped.program;
    let mut list = config::not_modelled(&program.accelerator);
    if program.header.buffer_scale > 1 {
        list.push("elements of 4 bits: counted two a byte, executed on images that hold one a byte".into());
    }
    list
}

/// `whole` is a product, which may pass 64 bits.
fn ratio(part: u64, whole: &[u64]) -> f64 {
    let whole: f64 = whole.iter().map(|&factor| factor as f64).product();
    if whole == 0.0 { 0.0 } else { part as f64 / whole }
}

/// At `bound` fidelity the whole of a layer has one cause: the part of the machine that bounds it.
fn bound_causes(predicted: &Predicted, cycles: u64) -> Causes {
    let mut causes = Causes::default();
    let cause = match predicted.bound_by {
        Part::Array => Cause::ArrayStreaming,
        Part::Vector => Cause::Vector,
        Part::Issue => Cause::Issue,
        Part::Load | Part::Store | Part::Memory => Cause::MemoryBandwidth,
    };
    causes[cause] = cycles;
    causes
}

/// Whether a sum of a layer could leave its adder, by the types' ranges: the mapping exports the order of additions
/// where it could.
pub fn can_overflow(layer: &Layer) -> bool {
    matches!(&layer.arithmetic, program::Arithmetic::Matrix { order, .. } if *order != AccumulationOrder::Exact)
}

fn bytes_of(place: &TensorPlace) -> u64 {
    place.dtype.packed_bytes(place.shape.iter().map(|&dim| dim as u64).product())
}

/// Bytes of a layer's inputs that it reads, by tensor.
fn inputs_read(mapped: &Mapped, index: usize) -> impl Iterator<Item = (TensorId, u64)> {
    let header = &mapped.program.header;
    let window = mapped.plan.layers[index].mapping.window_read();
    header.layers[index].inputs.iter().enumerate().map(move |(operand, &id)| {
        let whole = bytes_of(&header.tensors[id.index()]);
        (id, window.filter(|_| operand == 0).map_or(whole, |read| read.min(whole)))
    })
}

fn layer(mapped: &Mapped, index: usize, timing: Option<&TimingReport>, machine: &Machine) -> LayerResult {
    let header = &mapped.program.header;
    let accelerator = &mapped.program.accelerator;
    let (layer, plan): (&Layer, _) = (&header.layers[index], &mapped.plan.layers[index]);
    let predicted = &plan.predicted;
    let bound = predicted.bound.time_cycles(accelerator);
    let inputs: u64 = inputs_read(mapped, index).map(|(_, bytes)| bytes).sum();
    let outputs: u64 = layer.outputs.iter().map(|id| bytes_of(&header.tensors[id.index()])).sum();
    let weights: u64 =
        header.weights.iter().filter(|image| image.layer.index() == index).map(WeightImage::machine_bytes).sum();
    let counts = layer.kind != LayerKind::Free;
    let mut row = LayerResult {
        name: layer.name.clone(),
        op: layer.op.clone(),
        runs_on: match layer.kind {
            LayerKind::Array => RunsOn::Array,
            LayerKind::Vector => RunsOn::Vector,
            LayerKind::Host => RunsOn::Host,
            LayerKind::Free => RunsOn::Free,
        },
        dataflow: match layer.dataflow {
            Some(Dataflow::WS) => result::Dataflow::WeightStationary,
            Some(Dataflow::OS) => result::Dataflow::OutputStationary,
            Some(Dataflow::IS) => result::Dataflow::InputStationary,
            None => result::Dataflow::None,
        },
        bound,
        macs: layer.macs.get(),
        compulsory_bytes: if counts { inputs + outputs + weights } else { 0 },
        may_overflow: can_overflow(layer),
        mapping: describe::line(&plan.mapping),
        ..LayerResult::default()
    };
    if let Some(timed) = timing.map(|report| &report.layers[index]) {
        row.cycles = timed.cycles.get();
        row.span = timed.span.get();
        row.array_macs = timed.array_macs.get();
        row.vector_macs = timed.vector_macs.get();
        row.beats = timed.beats.get();
        row.array_busy = timed.array_busy.get();
        row.causes = timed.causes;
        row.traffic = Traffic {
            input_bytes: timed.input_bytes.get(),
            weight_bytes: timed.weight_bytes.get(),
            output_bytes: timed.output_bytes.get(),
            moved_bytes: timed.moved_bytes.get(),
        };
    } else {
        row.cycles = bound;
        row.span = bound;
        match layer.kind {
            LayerKind::Array => row.array_macs = row.macs,
            LayerKind::Vector => row.vector_macs = row.macs,
            LayerKind::Host | LayerKind::Free => {}
        }
        row.beats = predicted.beats;
        row.array_busy = predicted.beats;
        row.causes = bound_causes(predicted, bound);
        row.traffic = Traffic {
            input_bytes: predicted.input_bytes,
            weight_bytes: predicted.weight_bytes,
            output_bytes: predicted.output_bytes,
            moved_bytes: predicted.input_bytes + predicted.weight_bytes + predicted.output_bytes,
        };
    }
    let cells = machine.rows * machine.cols;
    row.mapping_efficiency = ratio(row.array_macs, &[row.beats, cells]);
    row.pipeline_efficiency = ratio(row.beats, &[row.array_busy]);
    row.array_activity = ratio(row.array_busy, &[row.span, machine.arrays]);
    row.array_utilization = ratio(row.array_macs, &[row.span, cells, machine.arrays]);
    let seconds = Cycles(row.span).time(accelerator.array_period).seconds();
    row.average_bandwidth_gb_per_s = if seconds > 0.0 { row.traffic.moved_bytes as f64 / seconds / 1e9 } else { 0.0 };
    row
}

trait TimeCycles {
    fn time_cycles(self, accelerator: &Accelerator) -> u64;
}

impl TimeCycles for crate::units::Time {
    /// Whole cycles, rounded down: what a lower bound may claim.
    fn time_cycles(self, accelerator: &Accelerator) -> u64 {
        self.get() / accelerator.array_period.get()
    }
}

fn totals(mapped: &Mapped, layers: &[LayerResult], timing: Option<&TimingReport>, machine: &Machine) -> Totals {
    let accelerator = &mapped.program.accelerator;
    let graph = &mapped.network.quantized;
    let sum = |f: &dyn Fn(&LayerResult) -> u64| layers.iter().map(f).fold(0, u64::saturating_add);
    let cycles = timing.map_or_else(|| sum(&|row| row.cycles), |report| report.cycles.get());
    let time = Cycles(cycles).time(accelerator.array_period);
    let seconds = time.seconds();
    let batch = graph.inputs.first().and_then(|&id| graph.value(id).shape.first().copied()).unwrap_or(1);
    let (array_macs, beats, array_busy) =
        (sum(&|row| row.array_macs), sum(&|row| row.beats), sum(&|row| row.array_busy));
    let cells = machine.rows * machine.cols;
    let per_second = |amount: u64| if seconds > 0.0 { amount as f64 / seconds } else { 0.0 };
    let memory = usize::from(accelerator.activation_memory.0);
    let (moved, pins) = timing.map_or_else(
        || (sum(&|row| row.traffic.moved_bytes), None),
        |report| {
            let all = report.memories.iter().map(|memory| memory.moved.get()).sum();
            (all, Some(&report.memories[memory]))
        },
    );
    let at_pins = pins.map_or(moved, |memory| memory.moved.get());
    let header = &mapped.program.header;
    // Of the network's inputs, what the layer reads that reads most of it.
    let inputs: u64 = header
        .inputs
        .iter()
        .map(|&input| {
            let reads = (0..header.layers.len()).flat_map(|index| inputs_read(mapped, index));
            let most = reads.filter(|&(id, _)| id == input).map(|(_, bytes)| bytes).max();
            most.unwrap_or_else(|| bytes_of(&header.tensors[input.index()]))
        })
        .sum();
    let outputs: u64 = header.outputs.iter().map(|id| bytes_of(&header.tensors[id.index()])).sum();
    let weights: u64 = header.weights.iter().map(WeightImage::machine_bytes).sum();
    let average = per_second(at_pins) / 1e9;
    let macs = sum(&|row| row.macs);
    let mut totals = Totals {
        cycles,
        seconds,
        samples_per_s: if seconds > 0.0 { batch as f64 / seconds } else { 0.0 },
        macs,
        array_macs,
        vector_macs: sum(&|row| row.vector_macs),
        host_macs: sum(&|row| if row.runs_on == RunsOn::Host { row.macs } else { 0 }),
        beats,
        array_busy,
        mapping_efficiency: ratio(array_macs, &[beats, cells]),
        pipeline_efficiency: ratio(beats, &[array_busy]),
        array_activity: ratio(array_busy, &[cycles, machine.arrays]),
        array_utilization: ratio(array_macs, &[cycles, cells, machine.arrays]),
        traffic: Traffic {
            input_bytes: sum(&|row| row.traffic.input_bytes),
            weight_bytes: sum(&|row| row.traffic.weight_bytes),
            output_bytes: sum(&|row| row.traffic.output_bytes),
            moved_bytes: moved,
        },
        compulsory_bytes: inputs + outputs + weights,
        average_bandwidth_gb_per_s: average,
        peak_bandwidth_gb_per_s: pins.map_or(0.0, MemoryTiming::peak_gb_per_s),
        p95_bandwidth_gb_per_s: pins.map_or(0.0, MemoryTiming::p95_gb_per_s),
        memory_efficiency: average / machine.peak_bandwidth_gb_per_s,
        causes: layers.iter().map(|row| row.causes).sum(),
        bound_by: String::new(),
    };
    totals.bound_by = sentence(&totals, layers, machine);
    totals
}

/// What bounds the run, in one sentence: the largest cause, the layer that has most of it, and over how many layers the
/// rest is spread.
fn sentence(totals: &Totals, layers: &[LayerResult], machine: &Machine) -> String {
    let Some(cause) = totals.causes.largest() else { return "nothing runs on the machine".into() };
    let cycles = totals.causes[cause];
    let what = match cause {
        Cause::ArrayStreaming => format!("the {}x{} array streams operands", machine.rows, machine.cols),
        Cause::FillDrain => "the array fills and drains".into(),
        Cause::WeightLoad => "weights are loaded into the array".into(),
        Cause::BufferBank => "the array waits for buffer banks".into(),
        Cause::Vector => "the vector unit works".into(),
        Cause::Issue => "commands are issued".into(),
        Cause::Fence => "layers are fenced and launched".into(),
        Cause::Move => "the DMA engines move data at their own rate".into(),
        Cause::Host => "the host works".into(),
        Cause::MemoryBandwidth => {
            format!("the bandwidth of `{}` ({} GB/s) binds", machine.memory, machine.peak_bandwidth_gb_per_s)
        }
        Cause::MemoryLatency => "memory latency binds: too few requests are in flight".into(),
    };
    let share = 100.0 * ratio(cycles, &[totals.cycles]);
    let of = |row: &LayerResult| row.causes[cause];
    let spread = layers.iter().filter(|row| of(row) > 0).count();
    let costliest = layers.iter().reduce(|best, next| if of(next) > of(best) { next } else { best });
    match costliest {
        Some(row) if layers.len() > 1 => {
            let largest = 100.0 * ratio(of(row), &[cycles]);
            let place = if spread == 1 {
                format!("all of it in `{}`", row.name)
            } else {
                format!("spread over {spread} layers, the largest part, {largest:.1} % of it, in `{}`", row.name)
            };
            format!("{what} in {share:.0} % of the cycles, {place}")
        }
        _ => format!("{what} in {share:.0} % of the cycles"),
    }
}

fn engines(accelerator: &Accelerator, timing: Option<&TimingReport>) -> Vec<EngineResult> {
    let Some(report) = timing else { return Vec::new() };
    accelerator
        .engines
        .iter()
        .zip(&report.engines)
        .map(|(info, engine)| EngineResult {
            name: info.name.clone(),
            busy: engine.busy.get(),
            waiting: engine.waiting_token.get(),
            instructions: engine.instructions,
        })
        .collect()
}
