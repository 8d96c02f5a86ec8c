//! The command line as it is typed. What it means is in `settings`.

use std::{
    num::{NonZeroU64, NonZeroUsize},
    path::PathBuf,
    str::FromStr,
};

use clap::{
    Args, Parser, Subcommand, ValueEnum,
    builder::{
        PossibleValuesParser,
        styling::{AnsiColor, Styles},
    },
};

use super::settings::Override;

const STYLES: Styles = Styles::styled()
    .header(AnsiColor::Green.on_default().bold())
    .usage(AnsiColor::Green.on_default().bold())
    .literal(AnsiColor::Cyan.on_default().bold())
    .placeholder(AnsiColor::Cyan.on_default());

const EXIT_STATUS: &str = "\
Exit status:
  0  everything asked for was done
  1  something given is wrong: an option, a config, a model, a file
  2  the accelerator's bits differ from the reference's or from the expected ones, or a published figure that must be
     equal is not
  3  a fault of this program";

/// Simulates systolic-array accelerators and executes what it times, bit for bit.
///
/// Systole takes an accelerator from a config file and a real neural network, maps the network onto the accelerator,
/// executes it there, and says how long it took, what it moved and why.
#[derive(Debug, Parser)]
#[command(name = "systole", version, styles = STYLES, after_long_help = EXIT_STATUS, max_term_width = 100)]
#[command(subcommand_required = true, arg_required_else_help = true, disable_help_subcommand = true)]
pub struct LowArgs {
    /// When to use colour on the terminal.
    #[arg(long, global = true, value_enum, default_value_t = When::Auto, value_name = "WHEN")]
    pub color: When,
    /// What to do.
    #[command(subcommand)]
    pub command: Command,
}

/// When to use colour.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum When {
    /// On a terminal, unless `NO_COLOR` is set.
    Auto,
    /// Always.
    Always,
    /// Never.
    Never,
}

/// What `systole` is told to do.
#[derive(Debug, Subcommand)]
pub enum Command {
    /// Run a network on an accelerator: map, execute, time, verify, report
    Run(RunArgs),
    /// Check a config, and whether a network can run on it
    Check(CheckArgs),
    /// Show what a model file holds: layers, shapes, types, work, what is unsupported
    Inspect(InspectArgs),
    /// Show how each layer is mapped, and the program that runs
    Map(MapArgs),
    /// Draw the array over time: which element has which operand in which cycle
    Wave(WaveArgs),
    /// Make tables and charts again from the records of earlier runs
    Report(ReportArgs),
    /// Write a machine's array as hardware with a testbench, and compare it with the model
    Rtl(RtlArgs),
    /// List the machines that come with the program, or print one as a config to start from
    Presets(PresetsArgs),
    /// Answer a topology as SCALE-Sim does, from its files and into its reports
    Scalesim(ScaleSimArgs),
    /// Compare the model with figures that others measured, row by row, and with its own other descriptions
    Validate(ValidateArgs),
}

/// Which machine.
#[derive(Clone, Debug, Args)]
pub struct ConfigArgs {
    /// The accelerator: a `.ron` config file, the name of a preset (see `systole presets`), or a `.cfg` of SCALE-Sim
    pub config: String,
}

/// Changes to the machine.
#[derive(Clone, Debug, Args)]
pub struct OverrideArgs {
    /// Change a field of the config, as often as needed: --set array.rows=32
    #[arg(long = "set", value_name = "KEY=VALUE", value_parser = Override::parse, help_heading = "Machine")]
    pub overrides: Vec<Override>,
}

const RUN_EXAMPLES: &str = "\
Examples:
  systole run edge_16x16 mobilenet_v2.onnx
  systole run my_npu.ron resnet50.onnx --out results/
  systole run my_npu.ron resnet50.onnx --label tall --set array.rows=32 --set array.cols=32 --json
  systole run edge_16x16 mobilenet_v2.onnx --no-execute --trace run.pftrace --trace-window 0..200000
  systole run edge_16x16 lenet.onnx --calibrate train.npz --data test.npz
  systole run edge_16x16 lenet.onnx --data test.npz --expect onnxruntime.npz --tolerance 1";

/// `systole run`.
#[derive(Clone, Debug, Args)]
#[command(after_help = RUN_EXAMPLES)]
#[allow(clippy::struct_excessive_bools, reason = "one for each flag of the command line")]
pub struct RunArgs {
    #[command(flatten)]
    pub machine: ConfigArgs,
    /// The network: `.onnx`, `.ron` (a list of layers) or `.csv` (a topology of SCALE-Sim)
    pub model: PathBuf,
    #[command(flatten)]
    pub overrides: OverrideArgs,

    /// Samples to execute, and labels for the accuracy if there are any (`.npz`); without it, seeded random inputs
    #[arg(long, value_name = "FILE", conflicts_with = "no_execute", help_heading = "Network")]
    pub data: Option<PathBuf>,
    /// Samples that set the activation ranges when a float model is quantized (`.npz`)
    #[arg(long, value_name = "FILE", help_heading = "Network")]
    pub calibrate: Option<PathBuf>,
    /// Samples in one timed run
    #[arg(long, value_name = "N", default_value = "1", value_parser = count::<NonZeroU64>)]
    #[arg(help_heading = "Network")]
    pub batch: NonZeroU64,
    /// Quantize the model again for this machine where it cannot do the model's own arithmetic; the reference follows
    #[arg(long, help_heading = "Network")]
    pub requantize: bool,

    /// Outputs of another runtime for the same samples, to compare with the accelerator's (`.npz`)
    ///
    /// ONNX Runtime saturates products of uint8 activations and int8 weights on CPUs without VNNI: set its session option
    /// `session.x64quantprecision` to `1` when you make the file.
    #[arg(long, value_name = "FILE", conflicts_with = "no_execute", help_heading = "Verification")]
    pub expect: Option<PathBuf>,
    /// Largest difference from the expected outputs that is no mismatch
    #[arg(long, value_name = "X", default_value = "0", requires = "expect", value_parser = tolerance)]
    #[arg(help_heading = "Verification")]
    pub tolerance: f64,
    /// Time the network without executing it on values
    #[arg(long, help_heading = "Verification")]
    pub no_execute: bool,

    /// How finely to model time
    #[arg(long, value_enum, default_value_t = Fidelity::Tile, help_heading = "Timing")]
    pub fidelity: Fidelity,
    /// Also measure how long this computer's CPU takes for the same quantized network
    #[arg(long, conflicts_with = "no_execute", help_heading = "Timing")]
    pub cpu_time: bool,
    /// Threads to use; results do not depend on it [default: all cores]
    #[arg(long, value_name = "N", value_parser = count::<NonZeroUsize>, help_heading = "Timing")]
    pub threads: Option<NonZeroUsize>,

    /// What to call this run in tables, charts and the record: copies of a machine have one name
    #[arg(long, value_name = "TEXT", help_heading = "Output")]
    pub label: Option<String>,
    /// Write run.json, layers.csv and the charts into this folder
    #[arg(long, value_name = "DIR", help_heading = "Output")]
    pub out: Option<PathBuf>,
    /// Print the record as JSON instead of the table
    #[arg(long, help_heading = "Output")]
    pub json: bool,
    /// Write a trace of the timed run, to look at with ui.perfetto.dev: layers, engines, memories, buffers
    #[arg(long, value_name = "FILE", help_heading = "Output")]
    pub trace: Option<PathBuf>,
    /// Trace only this part of the run: START..END in cycles of the array, or a layer's name
    #[arg(long, value_name = "RANGE|LAYER", requires = "trace", help_heading = "Output")]
    pub trace_window: Option<String>,
    /// Cut the trace at so many events, and say so in it: a slice is two, a value of a counter one. Slices of layers, and
    /// values from before the cut, come on top
    #[arg(long, value_name = "N", default_value = "1000000", requires = "trace", value_parser = count::<NonZeroU64>)]
    #[arg(help_heading = "Output")]
    pub trace_events: NonZeroU64,
    /// Write the requests of DMA engines to memory as CSV, the first 1,048,576 of them: time, address, bytes, read or
    /// write, memory, engine
    #[arg(long, value_name = "FILE", help_heading = "Output")]
    pub memory_trace: Option<PathBuf>,
}

/// How finely time is modelled.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum Fidelity {
    /// A lower bound for each layer in closed form, at once
    Bound,
    /// Every instruction, queue, bank and burst
    Tile,
    /// The same, and the array register by register, with values: its cycles and sums must be equal
    Pe,
}

impl From<Fidelity> for crate::result::Fidelity {
    fn from(fidelity: Fidelity) -> Self {
        match fidelity {
            Fidelity::Bound => Self::Bound,
            Fidelity::Tile => Self::Tile,
            Fidelity::Pe => Self::Pe,
        }
    }
}

const CHECK_EXAMPLES: &str = "\
Examples:
  systole check my_npu.ron
  systole check edge_16x16 mobilenet_v2.onnx --set depthwise=Host";

/// `systole check`.
#[derive(Clone, Debug, Args)]
#[command(after_help = CHECK_EXAMPLES)]
pub struct CheckArgs {
    #[command(flatten)]
    pub machine: ConfigArgs,
    /// A network that should run on it
    pub model: Option<PathBuf>,
    #[command(flatten)]
    pub overrides: OverrideArgs,
}

const INSPECT_EXAMPLES: &str = "\
Examples:
  systole inspect mobilenet_v2.onnx";

/// `systole inspect`.
#[derive(Clone, Debug, Args)]
#[command(after_help = INSPECT_EXAMPLES)]
pub struct InspectArgs {
    /// The network: `.onnx`, `.ron` or `.csv`
    pub model: PathBuf,
}

const MAP_EXAMPLES: &str = "\
Examples:
  systole map edge_16x16 mobilenet_v2.onnx
  systole map edge_16x16 mobilenet_v2.onnx --layer features.0.conv --program | less";

/// `systole map`.
#[derive(Clone, Debug, Args)]
#[command(after_help = MAP_EXAMPLES)]
pub struct MapArgs {
    #[command(flatten)]
    pub machine: ConfigArgs,
    /// The network
    pub model: PathBuf,
    #[command(flatten)]
    pub overrides: OverrideArgs,
    /// Only this layer
    #[arg(long, value_name = "NAME")]
    pub layer: Option<String>,
    /// Print the instructions too
    #[arg(long)]
    pub program: bool,
}

const WAVE_EXAMPLES: &str = "\
Examples:
  systole wave edge_16x16 --set array.rows=3 --set array.cols=3 --set array.weight_load.cycles=3
  systole wave my_npu.ron --dataflow OS --beats 6 --tiles 3
  systole wave my_npu.ron --vcd model.vcd --vectors hardware/ws/vectors/wave";

/// `systole wave`.
#[derive(Clone, Debug, Args)]
#[command(after_help = WAVE_EXAMPLES)]
pub struct WaveArgs {
    #[command(flatten)]
    pub machine: ConfigArgs,
    #[command(flatten)]
    pub overrides: OverrideArgs,
    /// Tiles that follow each other
    #[arg(long, value_name = "N", default_value_t = 2, value_parser = clap::value_parser!(u32).range(1..=26))]
    pub tiles: u32,
    /// Beats of each: rows that stream past a stationary operand, or K
    #[arg(long, value_name = "N", default_value_t = 4, value_parser = clap::value_parser!(u32).range(1..=256))]
    pub beats: u32,
    /// Which of the machine's dataflows [default: its first]
    #[arg(long, value_enum, value_name = "DATAFLOW", ignore_case = true)]
    pub dataflow: Option<DataflowName>,
    /// Write a waveform of the array's registers instead of drawing them, with the signal names of the hardware that
    /// `systole rtl` emits
    #[arg(long, value_name = "FILE")]
    pub vcd: Option<PathBuf>,
    /// Write the same program as vectors for the hardware's testbench into this folder
    #[arg(long, value_name = "DIR", requires = "vcd")]
    pub vectors: Option<PathBuf>,
}

const RTL_EXAMPLES: &str = "\
Examples:
  systole rtl edge_16x16 -o hardware/
  systole rtl my_npu.ron --check
  systole rtl my_npu.ron -o hardware/ --dataflow OS --check --programs 100

A check compiles the design with Verilator 5 and runs array programs on it: every sum and output must be the reference's,
every command must begin and end in the model's cycle. Requantization in float32 (`F32Rne`) has no hardware here.";

/// `systole rtl`.
#[derive(Clone, Debug, Args)]
#[command(after_help = RTL_EXAMPLES)]
pub struct RtlArgs {
    #[command(flatten)]
    pub machine: ConfigArgs,
    #[command(flatten)]
    pub overrides: OverrideArgs,
    /// Write the modules, the testbench and vectors into this folder, a folder a dataflow below it
    #[arg(short = 'o', long, value_name = "DIR", required_unless_present = "check")]
    pub out: Option<PathBuf>,
    /// Only the array of this dataflow; without it, of all that the machine has
    #[arg(long, value_enum, value_name = "DATAFLOW", ignore_case = true)]
    pub dataflow: Option<DataflowName>,
    /// Run random array programs on the design with Verilator, and compare every sum and every cycle
    #[arg(long)]
    pub check: bool,
    /// Programs to run, of some thirty commands each
    #[arg(long, value_name = "N", default_value = "24", requires = "check", value_parser = count::<NonZeroUsize>)]
    pub programs: NonZeroUsize,
}

/// A dataflow by its name in configs.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
#[value(rename_all = "verbatim")]
pub enum DataflowName {
    /// Weight stationary
    WS,
    /// Output stationary
    OS,
    /// Input stationary
    IS,
}

impl From<DataflowName> for crate::config::Dataflow {
    fn from(name: DataflowName) -> Self {
        match name {
            DataflowName::WS => Self::WS,
            DataflowName::OS => Self::OS,
            DataflowName::IS => Self::IS,
        }
    }
}

const REPORT_EXAMPLES: &str = "\
Examples:
  systole report results/run.json --out slides/
  systole report small/run.json large/run.json --out slides/

With several records each gets a folder of its own in DIR, named after network and machine.";

/// `systole report`.
#[derive(Clone, Debug, Args)]
#[command(after_help = REPORT_EXAMPLES)]
pub struct ReportArgs {
    /// Records that `systole run --out` or `--json` wrote
    #[arg(required = true, value_name = "RUN.json")]
    pub records: Vec<PathBuf>,
    /// What to call a run in tables and charts, once for each record and in their order
    #[arg(long = "label", value_name = "TEXT")]
    pub labels: Vec<String>,
    /// Write run.json, layers.csv and the charts into this folder; without it only the table is printed
    #[arg(long, value_name = "DIR")]
    pub out: Option<PathBuf>,
}

const PRESETS_EXAMPLES: &str = "\
Examples:
  systole presets
  systole presets edge_16x16 > my_npu.ron";

/// `systole presets`.
#[derive(Clone, Debug, Args)]
#[command(after_help = PRESETS_EXAMPLES)]
pub struct PresetsArgs {
    /// Print this one
    pub name: Option<String>,
}

const SCALESIM_EXAMPLES: &str = "\
Examples:
  systole scalesim --config scale.cfg --topology resnet18.csv -o results/
  systole scalesim --config scale.cfg --topology vit_s.csv --gemm -o results/ --explain

The files are SCALE-Sim 3's, unchanged. `systole run scale.cfg resnet18.csv` runs the same ones as a network of ours.";

/// `systole scalesim`.
#[derive(Clone, Debug, Args)]
#[command(after_help = SCALESIM_EXAMPLES)]
pub struct ScaleSimArgs {
    /// The config of SCALE-Sim (`.cfg`)
    #[arg(short, long, value_name = "FILE")]
    pub config: String,
    /// The topology (`.csv`): convolutions on padded maps
    #[arg(short, long, value_name = "FILE")]
    pub topology: PathBuf,
    /// The topology lists matrix products: M, N, K
    #[arg(long)]
    pub gemm: bool,
    /// The layout of operands in banks; read by SCALE-Sim, without effect here
    #[arg(short, long, value_name = "FILE")]
    pub layout: Option<PathBuf>,
    /// Write the reports into a folder in DIR, named by the config's `run_name`
    #[arg(short, long, value_name = "DIR")]
    pub out: PathBuf,
    /// Say layer by layer where our own engine's cycles differ from SCALE-Sim's, and why
    #[arg(long)]
    pub explain: bool,
}

const VALIDATE_EXAMPLES: &str = "\
Examples:
  systole validate --quick
  systole validate --source os_array --source pe --rows
  systole validate -o docs/validation.md

External sources are others' hardware, simulators and papers; internal ones have the same authors as the model, and are kept
apart. Every figure of ours is computed anew. The exit status is 2 if a figure differs that must be equal.";

/// `systole validate`.
#[derive(Clone, Debug, Args)]
#[command(after_help = VALIDATE_EXAMPLES)]
pub struct ValidateArgs {
    /// Compare only with this one, as often as needed [default: all]
    #[arg(long = "source", value_name = "NAME", value_parser = PossibleValuesParser::new(crate::validate::names()))]
    pub sources: Vec<String>,
    /// Leave out what takes longer than a few seconds or needs Verilator
    #[arg(long, conflicts_with = "sources")]
    pub quick: bool,
    /// Print every row, and why figures differ
    #[arg(long)]
    pub rows: bool,
    /// Take published figures from tables in this folder, where it has one of the same name and columns as the program's own
    #[arg(long, value_name = "DIR")]
    pub published: Option<PathBuf>,
    /// Write the tables into this page between their marks, all else in it stays; or make a new one
    #[arg(short, long, value_name = "FILE")]
    pub out: Option<PathBuf>,
}

/// A count is a whole number from 1.
fn count<T: FromStr>(text: &str) -> Result<T, String> {
    text.parse().map_err(|_| "give a whole number of at least 1".to_owned())
}

/// A tolerance is a finite number that is not negative.
fn tolerance(text: &str) -> Result<f64, String> {
    match text.parse::<f64>() {
        Ok(value) if value.is_finite() && value >= 0.0 => Ok(value),
        Ok(_) => Err("give a finite number of at least 0".to_owned()),
        Err(error) => Err(error.to_string()),
    }
}

#[cfg(test)]
mod tests {
    use clap::CommandFactory;

    use super::*;

    fn parse(line: &str) -> Result<LowArgs, clap::Error> {
        LowArgs::try_parse_from(line.split_whitespace())
    }

    #[test]
    fn the_definition_is_consistent() {
        LowArgs::command().debug_assert();
    }

    #[test]
    fn every_flag_of_run_is_read() {
        let line = "systole run npu.ron net.onnx --data d.npz --calibrate c.npz --expect e.npz --tolerance 1.5 --batch 4 \
                    --requantize --fidelity bound --set array.rows=8 --set a.b=[1,2] --out o --json --cpu-time \
                     --memory-trace m --threads 2 --label mine --trace t --trace-window 5..9 --trace-events 7";
        let Command::Run(run) = parse(line).unwrap().command else { panic!("not run") };
        assert_eq!((run.machine.config.as_str(), run.batch.get(), run.tolerance), ("npu.ron", 4, 1.5));
        assert_eq!(run.fidelity, Fidelity::Bound);
        assert_eq!(run.label.as_deref(), Some("mine"));
        assert_eq!((run.trace_window.as_deref(), run.trace_events.get()), (Some("5..9"), 7));
        assert!(run.trace.is_some() && run.memory_trace.is_some());
        assert!(run.requantize && run.json && run.cpu_time && !run.no_execute);
        assert_eq!(run.overrides.overrides[1].to_string(), "a.b=[1,2]");
    }

    #[test]
    fn contradictions_and_nonsense_are_refused() {
        for line in [
            "systole run npu.ron net.onnx --no-execute --data d.npz",
            "systole run npu.ron net.onnx --no-execute --expect e.npz",
            "systole run npu.ron net.onnx --tolerance 1",
            "systole run npu.ron net.onnx --expect e.npz --tolerance -1",
            "systole run npu.ron net.onnx --expect e.npz --tolerance nan",
            "systole run npu.ron net.onnx --batch 0",
            "systole run npu.ron net.onnx --threads 0",
            "systole run npu.ron net.onnx --trace-window conv1",
            "systole run npu.ron net.onnx --trace t --trace-events 0",
            "systole run npu.ron net.onnx --set rows",
            "systole run npu.ron",
            "systole report",
            "systole validate --source nobody",
            "systole validate --source pe --quick",
            "systole nonsense",
        ] {
            assert!(parse(line).is_err(), "{line}");
        }
    }

    #[test]
    fn every_command_has_an_example_and_every_option_a_help() {
        for command in LowArgs::command().get_subcommands() {
            assert!(command.get_after_help().is_some_and(|help| help.to_string().contains("systole ")), "{command}");
            assert!(command.get_arguments().all(|argument| argument.get_help().is_some()), "{command}");
        }
    }
}
