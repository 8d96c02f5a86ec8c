//! The facade: one function a stage, typed so that no stage can be skipped.
//!
//! `load_model -> prepare -> map -> time / execute -> assemble`; `evaluate` is all of them but the first, on values. No
//! stage prints, and only those that open a file take a path.

mod accuracy;
mod assemble;
mod cosimulate;
mod cpu;
mod describe;
mod evaluate;
mod execute;
mod host;
mod limits;
mod memory_trace;
mod registers;
mod samples;
mod scalesim;
mod traced;
mod wave;
mod waveform;

use std::path::Path;

pub use crate::{program::LayerKind, result::Fidelity};
pub use accuracy::Expected;
pub use assemble::{assemble, can_overflow};
pub use cosimulate::{
    ArrayProgram, BothWays, Comparison, Waveforms, both_ways, cosimulate, cosimulate_waveforms, cycles_of, emit,
    expected, layer_program, random_programs, simulated_design,
};
pub use describe::describe_mapping;
pub use evaluate::{Evaluator, Options, evaluate};
pub use execute::{Executed, execute, reference_of};
pub use host::ReferenceHost;
use memory_trace::MemoryTrace;
pub use samples::Samples;
pub use scalesim::{Difference, OwnTiming, answered_by, explain, in_its_columns, scalesim_calc, scalesim_own};
pub use traced::{TraceSettings, time_traced};
pub use wave::{WaveOptions, wave};
pub use waveform::{Waveform, record_wave, waveform};

use crate::{
    config::Accelerator,
    diag::{Diagnostic, Faults, Progress, Silent},
    engine::timing::{self, TimingError, TimingReport},
    import::{self, ImportOptions, Imported},
    ir::{self, Float, Graph, NodeId, Quantized, ValueId},
    mapping::{self, MappingCache, Plan, PlanOptions, order::may_overflow},
    passes::{self, Arithmetic, Capabilities, Prepared, Ranges},
    program::{Operation, Program},
    reference,
    result::RANDOM_RANGES,
    tensor::{Requantizer, Tensor},
    trace,
};

/// Why a run did not end with a result.
#[derive(Clone, Debug, thiserror::Error)]
pub enum Failure {
    /// What the user gave is at fault.
    #[error("{0}")]
    User(#[from] Faults),
    /// This program is.
    #[error("{0}")]
    Internal(String),
}

impl From<Diagnostic> for Failure {
    fn from(one: Diagnostic) -> Self {
        Self::User(one.into())
    }
}

impl From<TimingError> for Failure {
    fn from(error: TimingError) -> Self {
        match error {
            TimingError::Overflow => limits::too_long().into(),
            other => Self::Internal(other.to_string()),
        }
    }
}

/// A model as imported.
#[derive(Clone, Debug)]
pub struct Model {
    /// The graph.
    pub graph: Graph<Float>,
    /// Hash of the file.
    pub hash: u64,
}

/// Reads a model file.
///
/// # Errors
/// What the importers find.
pub fn load_model(path: &Path, batch: Option<usize>) -> Result<Model, Faults> {
    load_model_with_warnings(path, batch).map(|(model, _)| model)
}

/// As [`load_model`], with what was left out, as warnings.
///
/// # Errors
/// What the importers find.
pub fn load_model_with_warnings(path: &Path, batch: Option<usize>) -> Result<(Model, Vec<Diagnostic>), Faults> {
    let Imported { graph, hash, warnings } = import::load(path, &ImportOptions { batch })?;
    // What an importer overlooks in a file is the file's fault, not a surprise in a later stage.
    ir::verify::verify(&graph).map_err(|faults| {
        Faults(faults.0.into_iter().map(|fault| Diagnostic { file: Some(path.to_path_buf()), ..fault }).collect())
    })?;
    Ok((Model { graph, hash }, warnings))
}

/// A network ready for a machine.
#[derive(Clone, Debug)]
pub struct Network {
    /// The simplified graph before quantization: what the float reference runs.
    pub float: Graph<Float>,
    /// Whether any of it was float on arrival.
    pub was_float: bool,
    /// What the machine runs.
    pub quantized: Graph<Quantized>,
    /// Whose arithmetic it is.
    pub arithmetic: Arithmetic,
    /// What the passes did.
    pub log: Vec<String>,
}

/// What a machine can compute, as the passes ask for it.
pub fn capabilities(accelerator: &Accelerator) -> Capabilities {
    let array = &accelerator.config.array;
    Capabilities {
        zero_points: array.zero_points,
        per_channel: array.per_channel_scales,
        // A machine on float operands is timed on the network's int8 form and not executed.
        activation: if array.input_type.is_integer() { array.input_type } else { crate::tensor::DType::Int8 },
        weight: if array.weight_type.is_integer() { array.weight_type } else { crate::tensor::DType::Int8 },
        requantizer_is_f32: accelerator.config.vector.requantizer == Requantizer::F32Rne,
    }
}

/// Simplifies a model and quantizes it for a machine. `calibration` sets the ranges of float tensors; without it, random
/// inputs do where the model has float parts.
///
/// # Errors
/// What the passes find, and operators that the float reference cannot execute on the calibration data.
pub fn prepare(
    model: &Model,
    accelerator: &Accelerator,
    calibration: Option<&Samples>,
    requantize: bool,
) -> Result<Network, Failure> {
    let (float, mut log) = passes::simplify(model.graph.clone())?;
    ir::verify::verify(&float)
        .map_err(|faults| Failure::Internal(format!("the passes made a malformed graph: {faults}")))?;
    let was_float = passes::wants_ranges(&float);
    let mut ranges = Ranges::new(float.values.len());
    if was_float {
        limits::check_execution(
            &float,
            "a float model is run once to find its ranges: take a smaller batch or images",
        )?;
        let random;
        let samples = if let Some(samples) = calibration {
            samples
        } else {
            log.push(format!("{RANDOM_RANGES}: give --calibrate samples for ranges that mean something"));
            random = Samples::of(random_inputs(&float), None);
            &random
        };
        calibrate(&float, samples, &mut ranges)?;
    }
    let Prepared { graph, arithmetic, log: more } =
        passes::quantize(&float, &ranges, &capabilities(accelerator), requantize)?;
    log.extend(more);
    ir::verify::verify_quantized(&graph)
        .map_err(|faults| Failure::Internal(format!("the passes made a graph that no machine can run: {faults}")))?;
    limits::check_scales(&graph)?;
    let arithmetic =
        if accelerator.config.vector.requantizer == Requantizer::F32Rne { arithmetic } else { Arithmetic::Machine };
    Ok(Network { float, was_float, quantized: graph, arithmetic, log })
}

/// Runs the float reference on samples, block by block, and notes the range of every tensor.
fn calibrate(graph: &Graph<Float>, samples: &Samples, ranges: &mut Ranges) -> Result<(), Failure> {
    let graph = execute::dense(graph);
    let found = samples.each_block(samples::block_of(&graph, true), 1, &mut Silent, |_, inputs| {
        let execution = reference::run_float(&graph, inputs, &|_| None)
            .map_err(|error| Diagnostic::error(format!("the float reference cannot run the model: {error}")))?;
        let range = |value: &Option<Tensor>| match value {
            Some(Tensor::F32(array)) => {
                array.iter().fold((f32::INFINITY, f32::NEG_INFINITY), |(low, high), &x| (low.min(x), high.max(x)))
            }
            _ => (f32::INFINITY, f32::NEG_INFINITY),
        };
        Ok(execution.values.iter().map(range).collect::<Vec<_>>())
    })?;
    for block in found {
        for (index, (low, high)) in (0_u32..).map(ValueId).zip(block) {
            if low <= high {
                ranges.observe(index, low, high);
            }
        }
    }
    Ok(())
}

/// A constant of a graph, made if it is synthetic.
pub fn constant<S: crate::ir::Stage>(graph: &Graph<S>, id: ValueId) -> Option<Tensor> {
    let value = graph.value(id);
    match value.constant.as_ref()? {
        crate::ir::Constant::Dense(tensor) => Some(tensor.as_ref().clone()),
        crate::ir::Constant::Synthetic(_) => import::synthetic::materialize(value),
    }
}

/// Random values for a graph's inputs, the same every time.
pub fn random_inputs<S: crate::ir::Stage>(graph: &Graph<S>) -> Vec<Tensor> {
    (1_u64..).zip(&graph.inputs).map(|(seed, &id)| import::synthetic::random_input(graph.value(id), seed)).collect()
}

/// A network mapped onto a machine.
#[derive(Clone, Debug)]
pub struct Mapped<'a> {
    /// The network.
    pub network: &'a Network,
    /// How each layer runs.
    pub plan: Plan,
    /// What runs.
    pub program: Program,
}

/// Maps a network.
///
/// # Errors
/// Layers that fit no buffer; memory spaces that are too small; more time than the timebase holds.
pub fn map<'a>(network: &'a Network, accelerator: &Accelerator) -> Result<Mapped<'a>, Faults> {
    map_cached(network, accelerator, &MappingCache::default())
}

/// [`map`], with mappings of layers that were found before; the result is the same with any cache.
///
/// # Errors
/// As [`map`].
pub fn map_cached<'a>(
    network: &'a Network,
    accelerator: &Accelerator,
    cache: &MappingCache,
) -> Result<Mapped<'a>, Faults> {
    let graph = &network.quantized;
    let inexact: Vec<NodeId> = graph
        .nodes_with_ids()
        .filter(|(_, node)| node.op.sums_products() && may_overflow(graph, node, accelerator))
        .map(|(id, _)| id)
        .collect();
    let plan = mapping::plan_cached(graph, accelerator, &PlanOptions { inexact }, cache)?;
    limits::check_time(&plan)?;
    let program = Program::build(graph, &plan, accelerator);
    let mut faults = Vec::new();
    for (space, needed) in accelerator.config.memories.iter().zip(program.header.machine_bytes()) {
        if space.bytes > 0 && needed > space.bytes {
            faults.push(
                Diagnostic::error(format!(
                    "memory space `{}` is {} bytes short: it holds {}, the network needs {needed}",
                    space.name,
                    needed - space.bytes,
                    space.bytes
                ))
                .with_help("make `bytes` of the memory space larger, or place operands elsewhere"),
            );
        }
    }
    Faults::check(faults)?;
    Ok(Mapped { network, plan, program })
}

/// Times a mapped network at `tile` fidelity.
///
/// # Errors
/// A run beyond the timebase; a program with too many instructions.
pub fn time(mapped: &Mapped, options: timing::Options) -> Result<TimingReport, Failure> {
    time_observed(mapped, options, None, None, &mut Silent)
}

/// The same, with a stage of its own in the progress, and traces.
fn time_observed(
    mapped: &Mapped,
    options: timing::Options,
    trace: Option<&mut trace::Writer>,
    memory_trace: Option<&Path>,
    progress: &mut dyn Progress,
) -> Result<TimingReport, Failure> {
    /// Tiles between two reports.
    const STRIDE: u64 = 1 << 12;
    limits::check_program(mapped)?;
    progress.stage("timing", Some(limits::tiles(&mapped.plan)), "tiles");
    let program = &mapped.program;
    let mut tiles = 0_u64;
    let instructions = program.instructions().inspect(|instruction| {
        if matches!(instruction.operation, Operation::Matmul(_) | Operation::Vector(_)) {
            tiles += 1;
            if tiles.is_multiple_of(STRIDE) {
                progress.advance(STRIDE);
            }
        }
    });
    let (accelerator, header) = (&program.accelerator, &program.header);
    let mut memory_trace =
        memory_trace.map(|path| MemoryTrace::create(path, accelerator, memory_trace::MOST_ROWS)).transpose()?;
    let report = {
        let mut tap = memory_trace.as_mut().map(|rows| |access| rows.add(access));
        let tap = tap.as_mut().map(|tap| tap as &mut timing::AccessTap<'_>);
        match (trace, tap) {
            (None, None) => timing::simulate(accelerator, header, instructions, options)?,
            (None, Some(tap)) => timing::simulate_tapped(accelerator, header, instructions, options, tap)?,
            (Some(writer), tap) => timing::observe(accelerator, header, instructions, options, writer, tap)?,
        }
    };
    memory_trace.map_or(Ok(()), MemoryTrace::finish)?;
    Ok(report)
}

/// A config by name or path with overrides.
///
/// # Errors
/// All faults of the file.
pub fn load_config(name_or_path: &str, overrides: &[String]) -> Result<Accelerator, Faults> {
    crate::config::load(name_or_path, overrides)
}
