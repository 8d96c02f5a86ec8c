//! The record of a run: serde data only. JSON is the record; tables, CSV, charts and pages derive from it alone.
//! Keys are stable within a `schema` and documented in `docs/metrics.md`.

use std::fmt;

use serde::{Deserialize, Serialize};

pub use causes::{Cause, Causes};
pub use comparison::{Accuracy, Divergence, Expectation, FirstMismatch, RegisterCheck, Score, Verification};

/// An enum whose variants stand under fixed names in the record.
macro_rules! named {
    ($(#[$meta:meta])* $name:ident { $($(#[$note:meta])* $variant:ident = $text:literal,)* }) => {
        $(#[$meta])*
        #[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
        pub enum $name {
            $($(#[$note])* #[serde(rename = $text)] $variant,)*
        }

        impl $name {
            /// All of them, in their order.
            pub const ALL: [Self; [$($text),*].len()] = [$(Self::$variant),*];

            /// Its name in the record.
            pub const fn as_str(self) -> &'static str {
                match self {
                    $(Self::$variant => $text,)*
                }
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str(self.as_str())
            }
        }
    };
}

mod causes;
mod comparison;

named! {
    /// How closely time is modelled.
    #[derive(Default)]
    Fidelity {
        /// The closed form of each layer: a lower bound.
        Bound = "bound",
        /// Every instruction, queue and burst.
        #[default]
        Tile = "tile",
        /// The same, and every register of the array in every cycle, with values.
        Pe = "pe",
    }
}

named! {
    /// Whose arithmetic a run computes with.
    #[derive(Default)]
    Arithmetic {
        /// The model's own.
        #[default]
        AsModel = "as_model",
        /// Quantized or requantized for this machine, or rounded by its requantizer.
        Machine = "machine",
    }
}

named! {
    /// The part of the machine that a layer runs on.
    #[derive(Default)]
    RunsOn {
        /// The array.
        Array = "array",
        /// The vector unit.
        Vector = "vector",
        /// The host.
        Host = "host",
        /// None: there is nothing to do.
        #[default]
        Free = "free",
    }
}

named! {
    /// Which operand stays in the array.
    #[derive(Default)]
    Dataflow {
        /// The array has no part in it.
        #[default]
        None = "",
        /// Weights.
        WeightStationary = "ws",
        /// Outputs.
        OutputStationary = "os",
        /// Inputs.
        InputStationary = "is",
    }
}

named! {
    /// What the comparison with the reference came to.
    #[derive(Default)]
    Status {
        /// All elements that were compared are equal.
        BitExact = "bit_exact",
        /// Some differ.
        Mismatch = "mismatch",
        /// Everything compared came from the reference on both sides.
        SameImplementation = "same_implementation",
        /// Timed only.
        #[default]
        NotExecuted = "not_executed",
    }
}

/// The version of this record's keys.
pub const SCHEMA: u32 = 1;

/// One run of one network on one machine.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct RunResult {
    /// [`SCHEMA`] of the program that wrote it.
    pub schema: u32,
    /// Where the numbers come from.
    pub provenance: Provenance,
    /// The machine's figures that charts need.
    pub machine: Machine,
    /// The network as a whole.
    pub totals: Totals,
    /// One row a layer, in program order. Free layers (reshapes, boundary quantization) have zero cycles.
    pub layers: Vec<LayerResult>,
    /// Each engine's time, busy and waiting.
    pub engines: Vec<EngineResult>,
    /// Each memory space's traffic; empty at `bound` fidelity.
    #[serde(default)]
    pub memories: Vec<MemoryResult>,
    /// Each buffer's occupancy and traffic, the accumulators last.
    #[serde(default)]
    pub buffers: Vec<BufferResult>,
    /// The array register by register (`--fidelity pe`).
    #[serde(default)]
    pub registers: Option<RegisterCheck>,
    /// Bits against the reference.
    pub verification: Verification,
    /// Bits against another runtime's outputs (`--expect`).
    pub expectation: Option<Expectation>,
    /// Accuracy and loss on labelled samples (`--data`).
    pub accuracy: Option<Accuracy>,
    /// Measured CPU execution of the same quantized network (`--cpu-time`).
    pub cpu: Option<CpuTime>,
}

/// How the line of `Provenance::passes` begins that says that a float model was quantized without samples.
pub const RANDOM_RANGES: &str = "calibrated on random inputs";

/// Where the numbers come from.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Provenance {
    /// Version of this program.
    pub systole_version: String,
    /// The machine's name.
    pub config: String,
    /// Hash of the resolved config (overrides applied), 16 hexadecimal digits.
    pub config_hash: String,
    /// What the user calls the run.
    #[serde(default)]
    pub label: Option<String>,
    /// Overrides, as given.
    pub overrides: Vec<String>,
    /// The network's name.
    pub model: String,
    /// Hash of the model file, 16 hexadecimal digits.
    pub model_hash: String,
    /// Batch of the timed program.
    pub batch: u64,
    /// How closely time is modelled.
    pub fidelity: Fidelity,
    /// Whose arithmetic it is.
    pub arithmetic: Arithmetic,
    /// Numbers in the config that the model of the machine does not act on yet.
    pub not_modelled: Vec<String>,
    /// What the passes did, one line each.
    pub passes: Vec<String>,
}

/// The machine's figures that charts need.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Machine {
    /// Rows of the array.
    pub rows: u64,
    /// Columns.
    pub cols: u64,
    /// Arrays.
    pub arrays: u64,
    /// The array's clock.
    pub clock_mhz: f64,
    /// Multiply-accumulates a second at most.
    pub peak_macs_per_s: f64,
    /// GB/s (1e9) at the pins of the activations' memory space at most.
    pub peak_bandwidth_gb_per_s: f64,
    /// Name of that memory space.
    pub memory: String,
    /// Array cycles from a tile's first beat (its last where sums stay in the elements) until its first result stands at the
    /// array's edge, in the first of the machine's dataflows.
    #[serde(default)]
    pub first_out_latency: u64,
}

/// Bytes between memory spaces and the core.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Traffic {
    /// Activations read, useful bytes.
    pub input_bytes: u64,
    /// Weights and parameters read, useful bytes.
    pub weight_bytes: u64,
    /// Results written, useful bytes.
    pub output_bytes: u64,
    /// All bytes moved at the pins: whole bursts.
    pub moved_bytes: u64,
}

/// The network as a whole.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Totals {
    /// Array cycles from start to the last retirement.
    pub cycles: u64,
    /// The same in seconds.
    pub seconds: f64,
    /// Samples a second: `batch / seconds`.
    pub samples_per_s: f64,
    /// Algebraic multiply-accumulates.
    pub macs: u64,
    /// Those that ran on the array.
    pub array_macs: u64,
    /// Those that ran on the vector unit.
    pub vector_macs: u64,
    /// Those that ran on the host.
    pub host_macs: u64,
    /// Cycles in which the array accepts operands.
    pub beats: u64,
    /// Cycles in which the array is busy: load exposed, streaming, draining.
    pub array_busy: u64,
    /// `array_macs / (beats R C)`.
    pub mapping_efficiency: f64,
    /// `beats / array_busy`.
    pub pipeline_efficiency: f64,
    /// `array_busy / (cycles arrays)`.
    pub array_activity: f64,
    /// `array_macs / (cycles R C arrays)`.
    pub array_utilization: f64,
    /// Bytes between memory and core.
    pub traffic: Traffic,
    /// Bytes of the network's inputs, weights and outputs: what crosses the pins if every tensor between layers stays on
    /// chip.
    pub compulsory_bytes: u64,
    /// `moved_bytes / seconds`.
    pub average_bandwidth_gb_per_s: f64,
    /// Largest over windows of 1 us.
    pub peak_bandwidth_gb_per_s: f64,
    /// 95th percentile over windows of 1 us.
    pub p95_bandwidth_gb_per_s: f64,
    /// `average_bandwidth` against the pins' peak.
    pub memory_efficiency: f64,
    /// Cycles by cause; their sum is `cycles`.
    pub causes: Causes,
    /// One sentence: what bounds the run.
    pub bound_by: String,
}

/// One layer.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct LayerResult {
    /// The node's name.
    pub name: String,
    /// The operator.
    pub op: String,
    /// Where it runs.
    pub runs_on: RunsOn,
    /// Which operand stays in the array.
    pub dataflow: Dataflow,
    /// Its part of the timeline: `end - end of the previous layer`.
    pub cycles: u64,
    /// From its first issue to its last retirement.
    pub span: u64,
    /// The closed-form lower bound of `span`.
    pub bound: u64,
    /// Algebraic multiply-accumulates.
    pub macs: u64,
    /// On the array.
    pub array_macs: u64,
    /// On the vector unit.
    pub vector_macs: u64,
    /// Cycles in which the array accepts this layer's operands.
    pub beats: u64,
    /// Cycles in which the array is busy with this layer.
    pub array_busy: u64,
    /// `array_macs / (beats R C)`.
    pub mapping_efficiency: f64,
    /// `beats / array_busy`.
    pub pipeline_efficiency: f64,
    /// `array_busy / span`.
    pub array_activity: f64,
    /// `array_macs / (span R C)`: the product of the three.
    pub array_utilization: f64,
    /// Bytes between memory and core.
    pub traffic: Traffic,
    /// Inputs, weights and outputs once.
    pub compulsory_bytes: u64,
    /// Whether the types' ranges allow a sum to leave the width of its adder.
    #[serde(default)]
    pub may_overflow: bool,
    /// Sums that did; `None` where nothing was executed.
    #[serde(default)]
    pub overflows: Option<u64>,
    /// `moved_bytes / (span's seconds)`.
    pub average_bandwidth_gb_per_s: f64,
    /// Cycles by cause; their sum is `cycles`.
    pub causes: Causes,
    /// The chosen mapping in one line.
    pub mapping: String,
}

/// One engine.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct EngineResult {
    /// `load 0`, `array`, `vector`...
    pub name: String,
    /// Cycles in which it worked.
    pub busy: u64,
    /// Cycles in which an instruction at its head waited for a token.
    pub waiting: u64,
    /// Instructions.
    pub instructions: u64,
}

/// One memory space outside the core.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct MemoryResult {
    /// Its name.
    pub name: String,
    /// GB/s (1e9) at its pins at most.
    pub pins_gb_per_s: f64,
    /// Useful bytes read.
    pub read_bytes: u64,
    /// Useful bytes written.
    pub written_bytes: u64,
    /// Bytes moved at the pins: whole bursts, and the host's.
    pub moved_bytes: u64,
    /// `moved_bytes / seconds`.
    pub average_bandwidth_gb_per_s: f64,
    /// 95th percentile over windows of 1 us.
    pub p95_bandwidth_gb_per_s: f64,
    /// Largest over windows of 1 us.
    pub peak_bandwidth_gb_per_s: f64,
    /// `average_bandwidth / pins`.
    pub efficiency: f64,
}

/// One buffer, or the accumulators.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct BufferResult {
    /// `buffer` if shared, `input buffer`, `weight buffer`, `output buffer`, `accumulators`.
    pub name: String,
    /// Capacity.
    pub capacity_bytes: u64,
    /// Most that a layer's slots and resident tensors take.
    pub peak_bytes: u64,
    /// Bytes read; `None` at `bound` fidelity.
    pub read_bytes: Option<u64>,
    /// Bytes written; `None` at `bound` fidelity.
    pub written_bytes: Option<u64>,
}

/// Measured, not modelled.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct CpuTime {
    /// Always true: a wall-clock measurement on this host.
    pub measured: bool,
    /// Median seconds of one run of the whole network at the same batch.
    pub seconds: f64,
    /// Runs.
    pub runs: u64,
    /// Threads used.
    pub threads: u64,
    /// Operators without a fast kernel: `seconds` holds them as the plain reference runs them, much slower.
    #[serde(default)]
    pub reference_ops: Vec<String>,
    /// `seconds / totals.seconds`: how many times faster the modelled machine is.
    pub accelerator_speedup: f64,
}
