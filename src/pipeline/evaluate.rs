//! All stages on values, in one call: what the command line, sweeps and other programs use.

use std::path::PathBuf;

use super::{
    Executed, Expected, Failure, Fidelity, Model, Samples, TraceSettings, accuracy, assemble::assemble, cpu, execute,
    limits, map_cached, prepare, registers, time_observed, time_traced,
};
use crate::{
    config::Accelerator,
    diag::{Diagnostic, Progress, Silent},
    engine::timing,
    mapping::MappingCache,
    result::RunResult,
};

/// What an evaluation does; by default it executes on random inputs, verifies, and times at `tile`.
#[derive(Clone, Debug, Default)]
pub struct Options {
    /// How closely time is modelled.
    pub fidelity: Fidelity,
    /// Whether values are left out.
    pub no_execute: bool,
    /// Whether a quantized model may be requantized for the machine.
    pub requantize: bool,
    /// Whether the CPU baseline is measured.
    pub cpu_time: bool,
    /// Samples to execute, with labels or without.
    pub samples: Option<Samples>,
    /// Samples that set the ranges of a float model.
    pub calibration: Option<Samples>,
    /// Outputs that another runtime produced for the samples.
    pub expected: Option<Expected>,
    /// Where to write the requests to memory.
    pub memory_trace: Option<PathBuf>,
    /// A trace of the timed run.
    pub trace: Option<TraceSettings>,
    /// What the run is called, for the record.
    pub label: Option<String>,
    /// What was changed in the machine's config, for the record.
    pub overrides: Vec<String>,
}

/// Evaluates a model on a machine. See [`Evaluator`] for many.
///
/// # Errors
/// What any stage finds. A mismatch is not an error: the result says it.
pub fn evaluate(model: &Model, accelerator: &Accelerator, options: &Options) -> Result<RunResult, Failure> {
    Evaluator::default().evaluate(model, accelerator, options, &mut Silent)
}

/// Evaluates any number of models and machines, one after the other or from several threads, and keeps the mappings of
/// layers that it met. The results are those of [`evaluate`].
#[derive(Debug, Default)]
pub struct Evaluator {
    /// Mappings found so far.
    pub mappings: MappingCache,
}

impl Evaluator {
    /// Evaluates a model on a machine and says how far it is.
    ///
    /// # Errors
    /// As [`evaluate`].
    pub fn evaluate(
        &self,
        model: &Model,
        accelerator: &Accelerator,
        options: &Options,
        progress: &mut dyn Progress,
    ) -> Result<RunResult, Failure> {
        progress.stage("quantizing", None, "");
        let network = prepare(model, accelerator, options.calibration.as_ref(), options.requantize)?;
        progress.stage("mapping", None, "");
        let mapped = map_cached(&network, accelerator, &self.mappings)?;
        let executes = !options.no_execute && accelerator.executes();
        if executes {
            // Before the time that timing takes.
            limits::check_executable(&mapped)?;
        }
        if options.fidelity == Fidelity::Pe && !executes {
            return Err(Diagnostic::error("`--fidelity pe` runs the array on values, and this run has none")
                .with_help("leave out `--no-execute`, and choose a machine with integer operands")
                .into());
        }
        let requests = options.memory_trace.as_deref();
        if options.fidelity == Fidelity::Bound {
            let untraced = [
                (requests.is_some(), "`--memory-trace` needs a run whose requests to memory are timed"),
                (options.trace.is_some(), "`--trace` needs a run whose instructions are timed"),
            ];
            if let Some((_, message)) = untraced.into_iter().find(|&(is_asked, _)| is_asked) {
                return Err(Diagnostic::error(message).with_help("leave out `--fidelity bound`").into());
            }
        }
        let timing = match options.fidelity {
            Fidelity::Tile | Fidelity::Pe => Some(match &options.trace {
                None => time_observed(&mapped, timing::Options::default(), None, requests, progress)?,
                Some(trace) => time_traced(&mapped, trace, requests, progress)?,
            }),
            Fidelity::Bound => None,
        };
        let samples = options.samples.as_ref();
        let executed = if executes { execute(&mapped, samples, progress)? } else { Executed::not_executed() };
        let mut result = assemble(&mapped, model, options, timing.as_ref(), &executed);
        if options.fidelity == Fidelity::Pe {
            result.registers = Some(registers::check(&mapped, samples, progress)?);
        }
        if !executed.outputs.is_empty() {
            if let Some(expected) = &options.expected {
                result.expectation = Some(accuracy::expectation(expected, &network.quantized, &executed)?);
            }
            if let Some(samples) = samples {
                result.accuracy = accuracy::accuracy(&network, samples, &executed, progress)?;
            }
        } else if options.expected.is_some() {
            return Err(Diagnostic::error("expected outputs need an executed run")
                .with_help("leave out `--no-execute`, and choose a machine with integer operands")
                .into());
        }
        if options.cpu_time {
            progress.stage("measuring the CPU", None, "");
            result.cpu = Some(cpu::measure(&mapped, result.totals.seconds)?);
        }
        progress.finish();
        Ok(result)
    }
}
