//! What the command line means: plain structs that the facade can take over. Nothing here is about clap or text.

use std::{fmt, num::NonZeroUsize, path::PathBuf};

use super::args::{
    CheckArgs, Fidelity, InspectArgs, MapArgs, ReportArgs, RtlArgs, RunArgs, ScaleSimArgs, ValidateArgs, WaveArgs,
};
use crate::{
    config::Dataflow,
    pipeline::{TraceSettings, WaveOptions},
};

/// A change of one config field.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Override {
    /// The field's path: `array.rows`.
    pub key: String,
    /// Its value as in a config file.
    pub value: String,
}

impl Override {
    /// Reads `KEY=VALUE`; the value may hold more `=`.
    ///
    /// # Errors
    /// Says what is missing.
    pub fn parse(text: &str) -> Result<Self, String> {
        let Some((key, value)) = text.split_once('=') else {
            return Err("give the field and its value: array.rows=32".to_owned());
        };
        let (key, value) = (key.trim(), value.trim());
        if key.is_empty() || value.is_empty() {
            return Err("neither the field nor the value may be empty: array.rows=32".to_owned());
        }
        Ok(Self { key: key.to_owned(), value: value.to_owned() })
    }
}

impl fmt::Display for Override {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}={}", self.key, self.value)
    }
}

/// Which machine.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct MachineSettings {
    /// Path of a config file, or a preset's name.
    pub config: String,
    /// Changes, in the order given; a later one wins.
    pub overrides: Vec<Override>,
}

/// Everything that the numbers of a run depend on.
#[derive(Clone, Debug, PartialEq)]
pub struct RunSettings {
    /// The machine.
    pub machine: MachineSettings,
    /// The network's file.
    pub model: PathBuf,
    /// Samples, and labels if there are any.
    pub data: Option<PathBuf>,
    /// Samples that set the ranges.
    pub calibrate: Option<PathBuf>,
    /// Another runtime's outputs.
    pub expect: Option<Expect>,
    /// Samples in one timed run, at least 1.
    pub batch: u64,
    /// Quantize again for this machine where needed.
    pub requantize: bool,
    /// How finely to model time.
    pub fidelity: Fidelity,
    /// Execute on values and verify.
    pub execute: bool,
    /// Measure the CPU.
    pub cpu_time: bool,
    /// What to call the run.
    pub label: Option<String>,
    /// Where to write the requests to memory.
    pub memory_trace: Option<PathBuf>,
    /// A trace of the timed run.
    pub trace: Option<TraceSettings>,
}

/// Outputs to compare with.
#[derive(Clone, Debug, PartialEq)]
pub struct Expect {
    /// The file.
    pub file: PathBuf,
    /// Largest difference that is no mismatch; finite, at least 0.
    pub tolerance: f64,
}

/// Where a run's results go.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct OutputSettings {
    /// Folder for the files.
    pub out: Option<PathBuf>,
    /// JSON instead of the table on standard output.
    pub json: bool,
}

/// What `map` shows.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct MapSettings {
    /// The machine.
    pub machine: MachineSettings,
    /// The network's file.
    pub model: PathBuf,
    /// Only this layer.
    pub layer: Option<String>,
    /// The instructions too.
    pub program: bool,
}

/// What `wave` draws.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct WaveSettings {
    /// The machine.
    pub machine: MachineSettings,
    /// What of it.
    pub wave: WaveOptions,
    /// File for a waveform, instead of a drawing.
    pub vcd: Option<PathBuf>,
    /// Folder for the same program as vectors.
    pub vectors: Option<PathBuf>,
}

/// What `check` looks at.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CheckSettings {
    /// The machine.
    pub machine: MachineSettings,
    /// The network's file.
    pub model: Option<PathBuf>,
}

/// What `inspect` looks at.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct InspectSettings {
    /// The network's file.
    pub model: PathBuf,
}

/// What `rtl` writes and compares.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RtlSettings {
    /// The machine.
    pub machine: MachineSettings,
    /// Folder for the files.
    pub out: Option<PathBuf>,
    /// Only this dataflow.
    pub dataflow: Option<Dataflow>,
    /// Programs to run on the hardware; `None` where nothing is compared.
    pub programs: Option<usize>,
}

/// What `report` makes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ReportSettings {
    /// Records.
    pub records: Vec<PathBuf>,
    /// What to call them: none, or one for each.
    pub labels: Vec<String>,
    /// Folder for the files.
    pub out: Option<PathBuf>,
}

/// What SCALE-Sim would be asked.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ScaleSimSettings {
    /// Its config.
    pub config: String,
    /// Its topology.
    pub topology: PathBuf,
    /// Whether the topology lists matrix products.
    pub gemm: bool,
    /// Its layout.
    pub layout: Option<PathBuf>,
    /// Where the reports' folder goes.
    pub out: PathBuf,
    /// Say where our cycles differ.
    pub explain: bool,
}

/// What the model is compared with.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ValidateSettings {
    /// Names of sources; none where all are meant.
    pub sources: Vec<String>,
    /// Only those that take a few seconds.
    pub quick: bool,
    /// Print every row.
    pub rows: bool,
    /// Tables in place of the program's own.
    pub published: Option<PathBuf>,
    /// The page.
    pub out: Option<PathBuf>,
}

/// A run, where its results go, and the threads that it may use.
pub fn run(args: RunArgs) -> (RunSettings, OutputSettings, Option<NonZeroUsize>) {
    let settings = RunSettings {
        machine: MachineSettings { config: args.machine.config, overrides: args.overrides.overrides },
        model: args.model,
        data: args.data,
        calibrate: args.calibrate,
        expect: args.expect.map(|file| Expect { file, tolerance: args.tolerance }),
        batch: args.batch.get(),
        requantize: args.requantize,
        fidelity: args.fidelity,
        execute: !args.no_execute,
        cpu_time: args.cpu_time,
        label: args.label,
        memory_trace: args.memory_trace,
        trace: args.trace.map(|file| TraceSettings {
            file,
            window: args.trace_window,
            events: args.trace_events.get(),
        }),
    };
    (settings, OutputSettings { out: args.out, json: args.json }, args.threads)
}

impl From<CheckArgs> for CheckSettings {
    fn from(args: CheckArgs) -> Self {
        let machine = MachineSettings { config: args.machine.config, overrides: args.overrides.overrides };
        Self { machine, model: args.model }
    }
}

impl From<InspectArgs> for InspectSettings {
    fn from(args: InspectArgs) -> Self {
        Self { model: args.model }
    }
}

impl From<MapArgs> for MapSettings {
    fn from(args: MapArgs) -> Self {
        let machine = MachineSettings { config: args.machine.config, overrides: args.overrides.overrides };
        Self { machine, model: args.model, layer: args.layer, program: args.program }
    }
}

impl From<WaveArgs> for WaveSettings {
    fn from(args: WaveArgs) -> Self {
        let machine = MachineSettings { config: args.machine.config, overrides: args.overrides.overrides };
        let dataflow = args.dataflow.map(Into::into);
        let wave = WaveOptions { tiles: args.tiles, beats: args.beats, dataflow };
        Self { machine, wave, vcd: args.vcd, vectors: args.vectors }
    }
}

impl From<RtlArgs> for RtlSettings {
    fn from(args: RtlArgs) -> Self {
        let machine = MachineSettings { config: args.machine.config, overrides: args.overrides.overrides };
        let programs = args.check.then_some(args.programs.get());
        Self { machine, out: args.out, dataflow: args.dataflow.map(Into::into), programs }
    }
}

impl From<ReportArgs> for ReportSettings {
    fn from(args: ReportArgs) -> Self {
        Self { records: args.records, labels: args.labels, out: args.out }
    }
}

impl From<ScaleSimArgs> for ScaleSimSettings {
    fn from(args: ScaleSimArgs) -> Self {
        let ScaleSimArgs { config, topology, gemm, layout, out, explain } = args;
        Self { config, topology, gemm, layout, out, explain }
    }
}

impl From<ValidateArgs> for ValidateSettings {
    fn from(args: ValidateArgs) -> Self {
        let ValidateArgs { sources, quick, rows, published, out } = args;
        Self { sources, quick, rows, published, out }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_override_splits_at_the_first_equals_sign() {
        let change = Override::parse("a.b = x=y").unwrap();
        assert_eq!((change.key.as_str(), change.value.as_str()), ("a.b", "x=y"));
        for text in ["", "=", "a=", "=1", "a.b"] {
            assert!(Override::parse(text).is_err(), "{text}");
        }
    }
}
