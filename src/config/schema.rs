//! The fields of a config file. Every field has a type, a unit, a default, a range and one line of reason, from which
//! the reference page is generated; validation is in its own file.

use serde::{Deserialize, Serialize};

use crate::tensor::{DType, Overflow, Requantizer};

/// A whole accelerator.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct AcceleratorConfig {
    /// Short name, for reports.
    pub name: String,
    /// One sentence: what machine this is.
    #[serde(default)]
    pub description: String,
    /// The processing-element array.
    pub array: Array,
    /// On-chip operand buffers.
    pub buffers: Buffers,
    /// Accumulator memory behind the columns.
    pub accumulators: Accumulators,
    /// The engines that move data between memory spaces and buffers.
    pub dma: Dma,
    /// Memory spaces outside the core.
    pub memories: Vec<MemorySpace>,
    /// Which operand lives in which memory space.
    pub placement: Placement,
    /// Requantization, element-wise work, pooling.
    pub vector: VectorUnit,
    /// How depthwise and grouped convolutions run.
    #[serde(default)]
    pub depthwise: DepthwisePolicy,
    /// Command issue and layer boundaries.
    #[serde(default)]
    pub control: Control,
    /// The processor that runs what the machine cannot.
    #[serde(default)]
    pub host: Host,
    /// Whether a layer's output stays on chip for its sole next consumer when it fits whole.
    #[serde(default)]
    pub residency: bool,
}

/// How the array computes.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub enum ArrayKind {
    /// Operands move from neighbour to neighbour; skewed in, skewed out.
    #[default]
    Systolic,
    /// Operands are broadcast and an adder tree sums a row of multipliers, as in NVDLA. Not modelled yet: refused.
    DotTree,
}

/// Which operand stays in the processing elements.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
pub enum Dataflow {
    /// Weight stationary: rows hold K, columns hold output channels; input rows stream.
    #[serde(alias = "Ws", alias = "ws")]
    WS,
    /// Output stationary: rows hold output pixels, columns output channels; K streams.
    #[serde(alias = "Os", alias = "os")]
    OS,
    /// Input stationary: rows hold K, columns hold output pixels; weight rows stream.
    #[serde(alias = "Is", alias = "is")]
    IS,
}

/// Which parts of K may fill the rows.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub enum KPacking {
    /// Kernel positions and channels, flattened.
    #[default]
    KernelAndChannels,
    /// Channels of one kernel position; the others need a tile of their own.
    Channels,
}

/// How weights reach the processing elements.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct WeightLoad {
    /// Array cycles to load one tile, whatever its size.
    pub cycles: u32,
    /// Tiles that can wait in shadow registers: 0 the load is exposed, 1 it hides behind the previous tile.
    pub shadow_depth: u8,
}

/// The processing-element array.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Array {
    /// Systolic or dot-product tree.
    #[serde(default)]
    pub kind: ArrayKind,
    /// Rows.
    pub rows: u32,
    /// Columns.
    pub cols: u32,
    /// Identical arrays in the core. More than one is not modelled yet: refused.
    #[serde(default = "one")]
    pub count: u32,
    /// Clock in MHz; report cycles are of this clock.
    pub clock_mhz: f64,
    /// The dataflows that the mapping may choose from, a layer at a time.
    pub dataflows: Vec<Dataflow>,
    /// Type of the streamed operand (activations).
    pub input_type: DType,
    /// Type of the weights.
    pub weight_type: DType,
    /// Whether the operand path subtracts activation zero points. Without it, models that have them are refused.
    #[serde(default = "yes")]
    pub zero_points: bool,
    /// Whether weights may have one scale for each output channel.
    #[serde(default = "yes")]
    pub per_channel_scales: bool,
    /// Width in bits of the partial sums that run down a column, 8 to 64.
    #[serde(default = "thirty_two")]
    pub column_bits: u8,
    /// What the adders do past their width.
    #[serde(default)]
    pub overflow: Overflow,
    /// Extra pipeline registers inside a processing element, cycles.
    #[serde(default)]
    pub pe_registers: u32,
    /// Extra registers between neighbouring elements, cycles a hop.
    #[serde(default)]
    pub hop_registers: u32,
    /// Loading of the stationary operand.
    pub weight_load: WeightLoad,
    /// Beats that a tile occupies the array at least.
    #[serde(default = "one")]
    pub min_stream: u32,
    /// Rows that one tile may stream at most; 0 for no limit.
    #[serde(default)]
    pub max_stream: u32,
    /// Whether the next tile may stream while the previous one drains.
    #[serde(default = "yes")]
    pub overlap_tiles: bool,
    /// Array cycles to change dataflow between layers.
    #[serde(default)]
    pub dataflow_switch_cycles: u32,
    /// What may fill the rows.
    #[serde(default)]
    pub k_packing: KPacking,
}

/// One on-chip buffer.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Buffer {
    /// Capacity in bytes.
    pub bytes: u64,
    /// Independent banks.
    #[serde(default = "one")]
    pub banks: u32,
    /// Bytes that a bank delivers a cycle and port.
    #[serde(default = "sixteen")]
    pub word_bytes: u32,
    /// Ports of a bank.
    #[serde(default = "one")]
    pub ports: u32,
    /// Cycles from address to data.
    #[serde(default = "one")]
    pub latency: u32,
}

/// How the operand buffers are organized.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum BufferLayout {
    /// One pool that the mapping divides among inputs, weights and outputs, layer by layer.
    Shared(Buffer),
    /// Three buffers of their own.
    Split {
        /// Activations read by the array and the vector unit.
        input: Buffer,
        /// Weights and requantization parameters.
        weight: Buffer,
        /// Results of the vector unit on their way out.
        output: Buffer,
    },
}

/// On-chip operand buffers.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Buffers {
    /// One pool or three buffers.
    pub layout: BufferLayout,
    /// Whether the mapping may give an operand two slots, to load one while the other is used.
    #[serde(default = "yes")]
    pub double_buffering: bool,
    /// Stationary tiles that wait in a FIFO between the weight buffer and the array; 0 for no FIFO.
    #[serde(default)]
    pub weight_fifo_tiles: u32,
}

/// Accumulator memory behind the columns.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Accumulators {
    /// Capacity in bytes.
    pub bytes: u64,
    /// Width of one accumulator in bits, 8 to 64; it takes this many bits rounded up to bytes.
    #[serde(default = "thirty_two")]
    pub bits: u8,
    /// Independent banks.
    #[serde(default = "one")]
    pub banks: u32,
    /// Ports of a bank.
    #[serde(default = "two")]
    pub ports: u32,
    /// Accumulators that the vector unit can read a cycle; 0 for as many as it has lanes.
    #[serde(default)]
    pub read_width: u32,
}

/// The engines that move data.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Dma {
    /// Engines that load.
    #[serde(default = "one")]
    pub load_engines: u32,
    /// Engines that store.
    #[serde(default = "one")]
    pub store_engines: u32,
    /// Bytes that one engine moves a cycle of `clock_mhz` or of the array.
    pub bytes_per_cycle: u32,
    /// Bytes of one request to memory; a power of two.
    pub burst_bytes: u32,
    /// Requests that one engine may have outstanding.
    pub bursts_in_flight: u32,
    /// Array cycles that one descriptor costs before its transfer's first request.
    #[serde(default)]
    pub descriptor_cycles: u32,
    /// Whether one descriptor describes a transfer with strides; without, each contiguous run takes one of its own.
    #[serde(default = "yes")]
    pub strides: bool,
    /// Whether a load can write zeros where a tile lies outside its tensor.
    #[serde(default = "yes")]
    pub zero_fill: bool,
    /// Runs in memory are widened to multiples of this many bytes; a power of two.
    #[serde(default = "one")]
    pub alignment_bytes: u32,
    /// Channels that a tensor's rows in memory are rounded up to a multiple of.
    #[serde(default = "one")]
    pub channel_brick: u32,
}

impl Dma {
    /// Bytes in which transfers touch memory: whole bursts, aligned.
    pub fn granule_bytes(&self) -> u32 {
        self.burst_bytes.max(self.alignment_bytes)
    }
}

/// How a memory space answers.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub enum MemoryModel {
    /// A fixed bandwidth and a fixed latency, first come, first served.
    Ideal {
        /// GB/s (1e9 bytes a second), reads and writes together.
        bandwidth_gb_per_s: f64,
        /// Nanoseconds from a request's turn to its last byte's arrival, beyond its transfer.
        latency_ns: f64,
    },
}

/// A memory space outside the core.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct MemorySpace {
    /// Its name, which `placement` uses.
    pub name: String,
    /// How it answers.
    pub model: MemoryModel,
    /// Capacity in bytes; 0 for unlimited.
    #[serde(default)]
    pub bytes: u64,
}

/// Which operand lives in which memory space, by name.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Placement {
    /// Weights, biases and requantization parameters.
    pub weights: String,
    /// Everything between layers, and inputs and outputs where nothing else is said.
    pub activations: String,
    /// The network's inputs; empty: where the activations are.
    #[serde(default)]
    pub inputs: String,
    /// The network's outputs; empty: where the activations are.
    #[serde(default)]
    pub outputs: String,
}

impl Placement {
    /// Path and name of each operand's memory, defaults filled in.
    pub fn entries(&self) -> [(&'static str, &str); 4] {
        [
            ("placement.weights", &self.weights),
            ("placement.activations", &self.activations),
            ("placement.inputs", if self.inputs.is_empty() { &self.activations } else { &self.inputs }),
            ("placement.outputs", if self.outputs.is_empty() { &self.activations } else { &self.outputs }),
        ]
    }
}

/// Where the vector unit sits.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub enum VectorPlacement {
    /// An engine of its own between accumulators and buffers.
    #[default]
    Separate,
    /// In the path of the store engine: its work occupies that engine.
    InStorePath,
    /// In the accumulators' read path: an engine of its own that requantizes at the accumulators' read width.
    Fused,
}

/// Work that a vector unit can do.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
pub enum VectorFunction {
    /// Bias, multiplier, rounding, clamp: accumulators to outputs.
    Requantize,
    /// Element-wise sums (residuals).
    Add,
    /// Element-wise products.
    Mul,
    /// Maximum pooling.
    MaxPool,
    /// Average pooling, global too.
    AvgPool,
    /// A 256-entry table: sigmoid, hard swish, leaky `ReLU`, rescaling.
    Table,
    /// Softmax along the channels.
    Softmax,
    /// Copies, concatenation, transposition, padding.
    Copy,
    /// Depthwise convolution at `depthwise`'s rate.
    Depthwise,
}

/// Requantization, element-wise work, pooling.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct VectorUnit {
    /// Where it sits.
    #[serde(default)]
    pub placement: VectorPlacement,
    /// Elements at a time.
    pub lanes: u32,
    /// Clock in MHz; 0 for the array's.
    #[serde(default)]
    pub clock_mhz: f64,
    /// Cycles from an instruction's start to its first result.
    #[serde(default)]
    pub startup_cycles: u32,
    /// Cycles a lane takes for one element, by function; a function that is not listed runs on the host.
    /// Pooling: per tap. Softmax: per element. Depthwise: ignored, its rate is `depthwise`'s.
    pub cycles: Vec<(VectorFunction, u32)>,
    /// How accumulators become outputs.
    #[serde(default)]
    pub requantizer: Requantizer,
}

impl VectorUnit {
    /// Cycles a lane takes for one element; `None` where the unit cannot do it.
    pub fn cycles_of(&self, function: VectorFunction) -> Option<u32> {
        self.cycles.iter().find(|(listed, _)| *listed == function).map(|&(_, cycles)| cycles)
    }
}

/// How depthwise and grouped convolutions run.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub enum DepthwisePolicy {
    /// One group a pass of the array.
    #[default]
    PerGroup,
    /// Several groups a tile, zeros between.
    BlockDiagonal,
    /// Depthwise on the vector unit at this many MACs a vector cycle; other groups one a pass.
    Vector {
        /// MACs a vector cycle.
        macs_per_cycle: u32,
    },
    /// On the host.
    Host,
}

/// Command issue and layer boundaries.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Control {
    /// Array cycles to issue one command.
    pub issue_cycles: u32,
    /// Commands that wait in front of an engine.
    pub queue_depth: u32,
    /// Whether a hardware loop issues the array tiles of a buffer tile as one command.
    pub hardware_loops: bool,
    /// Array cycles to launch a layer.
    pub launch_cycles: u32,
    /// Whether a layer starts only when all engines are idle.
    pub fence_layers: bool,
    /// Array cycles that such a fence takes.
    pub fence_cycles: u32,
}

impl Default for Control {
    fn default() -> Self {
        Self {
            issue_cycles: 1,
            queue_depth: 8,
            hardware_loops: true,
            launch_cycles: 0,
            fence_layers: false,
            fence_cycles: 0,
        }
    }
}

/// The processor that runs what the machine cannot.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Host {
    /// Fixed cost of one operator, microseconds.
    pub overhead_us: f64,
    /// GB/s at which it reads operands and writes results.
    pub bandwidth_gb_per_s: f64,
    /// Elements that it produces a nanosecond (1e9 a second); multiply-accumulates count as elements.
    pub elements_per_ns: f64,
}

impl Default for Host {
    fn default() -> Self {
        Self { overhead_us: 5.0, bandwidth_gb_per_s: 4.0, elements_per_ns: 1.0 }
    }
}

const fn one() -> u32 {
    1
}
const fn two() -> u32 {
    2
}
const fn sixteen() -> u32 {
    16
}
const fn thirty_two() -> u8 {
    32
}
const fn yes() -> bool {
    true
}
