//! The facade: one function a stage, typed so that no stage can be skipped.
//!
//! `load_model -> prepare -> map -> time / execute -> assemble`; `run` is all of them for the command line.

mod accuracy;
mod assemble;
mod cpu;
mod describe;
mod execute;
mod host;
mod limits;
mod samples;

use std::path::{Path, PathBuf};

pub use crate::program::LayerKind;
pub use describe::describe_mapping;
pub use execute::{Executed, execute, reference_of};
pub use host::ReferenceHost;
pub use samples::Samples;

use crate::{
    config::Accelerator,
    diag::{Diagnostic, Faults, Progress},
    engine::timing::{self, TimingError, TimingReport},
    import::{self, ImportOptions},
    ir::{self, Float, Graph, NodeId, Quantized, ValueId},
    mapping::{self, Plan, PlanOptions, order::may_overflow},
    passes::{self, Arithmetic, Capabilities, Prepared, Ranges},
    program::{Operation, Program},
    reference::{self, Keep},
    result::{RANDOM_RANGES, RunResult},
    tensor::{Requantizer, Tensor},
};

/// Why a run did not end with a result.
#[derive(Debug, thiserror::Error)]
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

/// How closely time is modelled.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Fidelity {
    /// The closed form of each layer: a lower bound.
    Bound,
    /// Every instruction, queue and burst.
    #[default]
    Tile,
}

/// What a run is asked for; the flags of `systole run`.
#[derive(Clone, Debug, Default)]
pub struct RunSettings {
    /// A config file or a preset's name.
    pub config: String,
    /// The model file.
    pub model: PathBuf,
    /// Samples to run, with labels or without.
    pub data: Option<PathBuf>,
    /// Samples that set the ranges of a float model.
    pub calibrate: Option<PathBuf>,
    /// Outputs that another runtime produced.
    pub expect: Option<PathBuf>,
    /// Largest difference allowed from them.
    pub tolerance: f64,
    /// Batch of the program.
    pub batch: Option<usize>,
    /// Whether a quantized model may be requantized for the machine.
    pub requantize: bool,
    /// How closely time is modelled.
    pub fidelity: Fidelity,
    /// Whether values are left out.
    pub no_execute: bool,
    /// Config overrides, `path=value`.
    pub overrides: Vec<String>,
    /// Whether the CPU baseline is measured.
    pub cpu_time: bool,
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
    let graph = import::load(path, &ImportOptions { batch })?;
    // What an importer overlooks in a file is the file's fault, not a surprise in a later stage.
    ir::verify::verify(&graph).map_err(|faults| {
        Faults(faults.0.into_iter().map(|fault| Diagnostic { file: Some(path.to_path_buf()), ..fault }).collect())
    })?;
    // The importers have bounded the file's size. FNV-1a.
    let bytes = std::fs::read(path).unwrap_or_default();
    let hash = bytes
        .iter()
        .fold(0xcbf2_9ce4_8422_2325_u64, |hash, &byte| (hash ^ u64::from(byte)).wrapping_mul(0x0000_0100_0000_01b3));
    Ok(Model { graph, hash })
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
    if accelerator.config.array.input_type == crate::tensor::DType::Int4 {
        return Err(Diagnostic::error("networks do not run on operands of 4 bits yet, found `Int4`")
            .with_path("array.input_type")
            .with_help("take `Int8`, `UInt8` or `Int16`; weights may be `Int4`")
            .into());
    }
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
        let inputs = if let Some(samples) = calibration {
            samples.inputs.clone()
        } else {
            log.push(format!("{RANDOM_RANGES}: give --calibrate samples for ranges that mean something"));
            random_inputs(&float)
        };
        let execution = reference::run_float(&float, &inputs, &|id| constant(&float, id))
            .map_err(|error| Diagnostic::error(format!("the float reference cannot run the model: {error}")))?;
        for (index, value) in (0_u32..).map(ValueId).zip(&execution.values) {
            if let Some(Tensor::F32(array)) = value {
                let (low, high) =
                    array.iter().fold((f32::INFINITY, f32::NEG_INFINITY), |(low, high), &x| (low.min(x), high.max(x)));
                if low <= high {
                    ranges.observe(index, low, high);
                }
            }
        }
    }
    let Prepared { graph, arithmetic, log: more } =
        passes::quantize(&float, &ranges, &capabilities(accelerator), requantize)?;
    log.extend(more);
    ir::verify::verify_quantized(&graph)
        .map_err(|faults| Failure::Internal(format!("the passes made a graph that no machine can run: {faults}")))?;
    let arithmetic =
        if accelerator.config.vector.requantizer == Requantizer::F32Rne { arithmetic } else { Arithmetic::Machine };
    Ok(Network { float, was_float, quantized: graph, arithmetic, log })
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
    let graph = &network.quantized;
    let inexact: Vec<NodeId> = graph
        .nodes_with_ids()
        .filter(|(_, node)| node.op.sums_products() && may_overflow(graph, node, accelerator))
        .map(|(id, _)| id)
        .collect();
    let plan = mapping::plan(graph, accelerator, &PlanOptions { inexact })?;
    limits::check_time(&plan)?;
    let program = Program::build(graph, &plan, accelerator);
    let mut faults = Vec::new();
    for (space, &needed) in accelerator.config.memories.iter().zip(&program.header.memory_bytes) {
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
    time_observed(mapped, options, &mut crate::diag::Silent)
}

/// The same, with a stage of its own in the progress.
fn time_observed(
    mapped: &Mapped,
    options: timing::Options,
    progress: &mut dyn Progress,
) -> Result<TimingReport, Failure> {
    /// Tiles between two reports.
    const STRIDE: u64 = 1 << 12;
    limits::check_program(mapped)?;
    progress.stage("timing", Some(limits::tiles(&mapped.plan)));
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
    Ok(timing::simulate(&program.accelerator, &program.header, instructions, options)?)
}

/// A config by name or path with overrides.
///
/// # Errors
/// All faults of the file.
pub fn load_config(name_or_path: &str, overrides: &[String]) -> Result<Accelerator, Faults> {
    crate::config::load(name_or_path, overrides)
}

/// The whole job of `systole run`.
///
/// # Errors
/// What any stage finds. A mismatch is not an error: the result says it.
pub fn run(settings: &RunSettings, progress: &mut dyn Progress) -> Result<RunResult, Failure> {
    let accelerator = load_config(&settings.config, &settings.overrides)?;
    progress.stage("reading the model", None);
    let model = load_model(&settings.model, settings.batch)?;
    let calibration = settings.calibrate.as_deref().map(|path| Samples::read(path, &model.graph)).transpose()?;
    progress.stage("quantizing", None);
    let network = prepare(&model, &accelerator, calibration.as_ref(), settings.requantize)?;
    progress.stage("mapping", None);
    let mapped = map(&network, &accelerator)?;
    let executes = !settings.no_execute && accelerator.executes();
    if executes {
        // Before the time that timing takes.
        limits::check_executable(&mapped)?;
    }
    let samples = settings.data.as_deref().map(|path| Samples::read(path, &model.graph)).transpose()?;
    let timing = match settings.fidelity {
        Fidelity::Tile => Some(time_observed(&mapped, timing::Options::default(), progress)?),
        Fidelity::Bound => None,
    };
    let executed = if executes { execute(&mapped, samples.as_ref(), progress)? } else { Executed::not_executed() };
    let mut result = assemble::assemble(&mapped, &model, settings, timing.as_ref(), &executed);
    if !executed.outputs.is_empty() {
        if let Some(path) = &settings.expect {
            result.expectation = Some(accuracy::expectation(path, &network.quantized, &executed, settings.tolerance)?);
        }
        if let Some(samples) = &samples {
            progress.stage("scoring", None);
            result.accuracy = accuracy::accuracy(&network, samples, &executed)?;
        }
    } else if settings.expect.is_some() {
        return Err(Diagnostic::error("`--expect` needs an executed run")
            .with_help("leave out `--no-execute`, and choose a machine with integer operands")
            .into());
    }
    if settings.cpu_time {
        progress.stage("measuring the CPU", None);
        result.cpu = Some(cpu::measure(&mapped, result.totals.seconds)?);
    }
    progress.finish();
    Ok(result)
}

/// Keeps all values of a reference run, or only outputs where a batch of many samples would need gigabytes.
const fn keep(samples: usize) -> Keep {
    if samples > 1 { Keep::Outputs } else { Keep::All }
}
