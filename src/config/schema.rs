//! The fields of a config file, each declared once: type, range, unit, default, meaning, and whether the model acts on it.
//! `declare` says how a declaration reads; what one field means for another is in `cross`.

use serde::{Deserialize, Serialize};

use super::{
    declare::{Declared, choice, content, defaults, flag, group, kind, maybe, modelled, names},
    fields::{Field, Kind, Modelled, Variant},
};
use crate::tensor::{DType, Overflow, Requantizer, Rounding};

group! {
    /// A whole accelerator. The order of the fields is part of a machine's hash.
    AcceleratorConfig {
        /// short, for reports
        name: String in 1..=64,
        /// what machine this is
        description: String in 0..=2000 = "",
        /// the processing elements
        array: Array,
        /// on-chip buffers
        buffers: Buffers,
        /// partial sums behind the columns
        accumulators: Accumulators,
        /// what moves data between memories and buffers
        dma: Dma,
        /// memory spaces outside the core
        memories: Vec<MemorySpace> in 1..=16,
        /// which operand lives in which memory, by name
        placement: Placement,
        /// requantization, element-wise work, pooling
        vector: VectorUnit,
        /// how depthwise and grouped convolutions run: one group a pass, several with zeros between, vector unit, host
        depthwise: DepthwisePolicy = PerGroup,
        /// command issue and layer boundaries
        control: Control = (),
        /// the processor that runs what the machine cannot
        host: Host = (),
        /// whether an output stays on chip for its only, next consumer when it fits whole
        residency: bool = false,
    }
}

choice! {
    /// How the array computes.
    #[derive(Eq)]
    ArrayKind {
        /// Operands move from neighbour to neighbour; skewed in, skewed out.
        Systolic,
        /// Operands are broadcast and an adder tree sums a row of multipliers, as in NVDLA.
        DotTree; refused,
    }
}

choice! {
    /// Which operand stays in the processing elements.
    #[derive(Eq, Hash, PartialOrd, Ord)]
    Dataflow {
        /// Weight stationary: rows hold K, columns hold output channels; input rows stream.
        WS,
        /// Output stationary: rows hold output pixels, columns output channels; K streams.
        OS,
        /// Input stationary: rows hold K, columns hold output pixels; weight rows stream.
        IS,
    }
}

choice! {
    /// Which parts of K may fill the rows.
    #[derive(Eq)]
    KPacking {
        /// Kernel positions and channels, flattened.
        KernelAndChannels,
        /// Channels of one kernel position; the others need a tile of their own.
        Channels,
    }
}

// Operand types that an array may have.
names! { DType { Int4, Int8, UInt8, Int16, Fp8, Bf16, Fp16, Fp32 } }
names! { Overflow { Wrap, Saturate } }
names! { Rounding { HalfEven, HalfAway, HalfUp, Floor } }

group! {
    /// How weights reach the processing elements.
    #[derive(Copy, Eq)]
    WeightLoad {
        /// to load one tile of the stationary operand
        cycles: u32 in 0..=65_536 "array cycles",
        /// what waits in shadow registers; 0: the load is exposed; 1: hidden behind a tile; more: loads run further ahead,
        /// at most as deep as the weight FIFO of TPU v1
        shadow_depth: u8 in 0..=4 "tiles",
    }
}

group! {
    /// The processing-element array.
    Array {
        /// neighbour to neighbour, or broadcast and adder tree
        kind: ArrayKind = Systolic,
        /// rows of elements; the largest published arrays have 256
        rows: u32 in 1..=1024,
        /// columns of elements; the largest published arrays have 256
        cols: u32 in 1..=1024,
        /// identical arrays in the core
        count: u32 in 1..=64 = 1; refused "several arrays in a core",
        /// clock of the array, the load and store engines and the host; report cycles are of it; integer periods in
        /// femtoseconds are exact to 1e-5 up to 10 GHz
        clock_mhz: f64 in 1.0..=10_000.0 "MHz",
        /// the mapping chooses one of them for each layer
        dataflows: Vec<Dataflow> in 1..=3,
        /// streamed operand (activations); float types are timed, not executed
        input_type: DType,
        /// integer if `input_type` is, float if it is
        weight_type: DType,
        /// whether the operand path subtracts zero points; without it, models that have them are refused
        zero_points: bool = true,
        /// whether weights may have a scale for each output channel; without it, models that do are refused
        per_channel_scales: bool = true,
        /// width of the partial sums that run down a column; values are held in 64 bits
        column_bits: u8 in 8..=64 "bits" = 32,
        /// what the adders do past their width
        overflow: Overflow = Wrap,
        /// extra pipeline registers inside an element
        pe_registers: u32 in 0..=64 "array cycles" = 0,
        /// extra registers between neighbours, a hop
        hop_registers: u32 in 0..=64 "array cycles" = 0,
        /// how the stationary operand reaches the elements
        weight_load: WeightLoad,
        /// a tile occupies the array for at least this long
        min_stream: u32 in 1..=4096 "beats" = 1,
        /// rows that one tile streams at most; 0: no limit
        max_stream: u32 in 0..=1_048_576 "beats" = 0,
        /// whether the next tile may stream while the previous one drains
        overlap_tiles: bool = true,
        /// to change dataflow
        dataflow_switch_cycles: u32 in 0..=1_000_000 "array cycles" = 0,
        /// what fills the rows: kernel positions and channels flattened, or channels only
        k_packing: KPacking = KernelAndChannels,
    }
}

group! {
    /// One on-chip buffer.
    #[derive(Copy, Eq)]
    Buffer {
        /// capacity; 1 GiB is beyond any on-chip memory
        bytes: u64 in 1..=1_073_741_824 "B",
        /// independent banks
        banks: u32 in 1..=1024 = 1,
        /// what a bank delivers a cycle and port
        word_bytes: u32 in 1..=4096 "B/cycle" = 16,
        /// ports of a bank; memory macros have one or two
        ports: u32 in 1..=8 = 1,
        /// from address to data
        latency: u32 in 0..=1000 "array cycles" = 1; listed "buffer latency is part of the array's fill",
    }
}

choice! {
    /// How the operand buffers are organized.
    #[derive(Eq)]
    BufferLayout {
        /// One pool that the mapping divides among inputs, weights and outputs, layer by layer.
        Shared(Buffer),
        /// Three buffers of their own.
        Split {
            /// activations read by the array and the vector unit
            input: Buffer,
            /// weights and requantization parameters
            weight: Buffer,
            /// results of the vector unit on their way out
            output: Buffer,
        },
    }
}

group! {
    /// On-chip operand buffers.
    #[derive(Copy, Eq)]
    Buffers {
        /// one pool that the mapping divides layer by layer, or three buffers
        layout: BufferLayout,
        /// whether an operand may have two slots, one loading while the other is used
        double_buffering: bool = true,
        /// what waits between the weight buffer and the array; 0: no FIFO
        weight_fifo_tiles: u32 in 0..=1024 "stationary tiles" = 0;
            listed "the array takes tiles from the weight buffer itself",
    }
}

group! {
    /// Accumulator memory behind the columns.
    #[derive(Copy, Eq)]
    Accumulators {
        /// capacity; 1 GiB is beyond any on-chip memory
        bytes: u64 in 1..=1_073_741_824 "B",
        /// width of one accumulator; it takes whole bytes
        bits: u8 in 8..=64 "bits" = 32,
        /// independent banks
        banks: u32 in 1..=1024 = 1; listed "accumulator banks never conflict",
        /// ports of a bank; one to read and one to write is usual
        ports: u32 in 1..=8 = 2; listed "accumulator ports never conflict",
        /// what the vector unit reads a cycle; 0: as many as it has lanes
        read_width: u32 in 0..=4096 "accumulators/cycle" = 0,
    }
}

group! {
    /// The engines that move data.
    #[derive(Copy, Eq)]
    Dma {
        /// engines that load; engine numbers have eight bits
        load_engines: u32 in 1..=64 = 1,
        /// engines that store; engine numbers have eight bits
        store_engines: u32 in 1..=64 = 1,
        /// what one engine moves
        bytes_per_cycle: u32 in 1..=4096 "B/array cycle",
        /// one request to memory; a power of two, as bursts are aligned; at most 4 KiB, as in AXI
        burst_bytes: u32 in 1..=4096 power_of 2 "B",
        /// requests that one engine may have outstanding
        bursts_in_flight: u32 in 1..=4096,
        /// what a descriptor costs before its transfer's first request
        descriptor_cycles: u32 in 0..=100_000 "array cycles" = 0,
        /// whether one descriptor moves a box of a tensor; without, each contiguous run takes one of its own
        strides: bool = true,
        /// whether a load can write zeros where a tile lies outside
        zero_fill: bool = true; listed "padding is made in front of the array and never loaded",
        /// runs in memory are widened to multiples of it; below a burst it has no effect, as bursts are aligned
        alignment_bytes: u32 in 1..=4096 power_of 2 "B" = 1,
        /// rows of channels in memory are padded to it
        channel_brick: u32 in 1..=1024 "channels" = 1; listed "tensors lie in memory without gaps",
    }
}

impl Dma {
    /// Bytes in which transfers touch memory: whole bursts, aligned.
    pub fn granule_bytes(&self) -> u32 {
        self.burst_bytes.max(self.alignment_bytes)
    }
}

choice! {
    /// How a memory space answers.
    MemoryModel {
        /// A fixed bandwidth and a fixed latency, first come, first served.
        Ideal {
            /// 1e9 bytes a second, reads and writes together; from a serial flash to beyond on-die memory
            bandwidth_gb_per_s: f64 in 0.001..=100_000.0 "GB/s",
            /// from a request's turn to its last byte, beyond its transfer; at most 1 ms
            latency_ns: f64 in 0.0..=1_000_000.0 "ns",
            /// between a read and a write that follow each other, either way; about 10 for a DRAM; at most 1 ms
            turnaround_ns: f64 in 0.0..=1_000_000.0 "ns" = 0.0,
        },
    }
}

group! {
    /// A memory space outside the core.
    MemorySpace {
        /// what `placement` calls it
        name: String in 1..=64,
        /// how it answers
        model: MemoryModel,
        /// capacity; 0: unlimited
        bytes: u64 in 0..=1_125_899_906_842_624 "B" = 0,
    }
}

group! {
    /// Which operand lives in which memory space, by name.
    #[derive(Default, Eq)]
    Placement {
        /// memory of weights, biases, requantization parameters
        weights: String in 1..=64,
        /// memory of all that lies between layers
        activations: String in 1..=64,
        /// memory of the network's inputs; empty: that of the activations
        inputs: String in 0..=64 = "",
        /// memory of the network's outputs; empty: that of the activations
        outputs: String in 0..=64 = "",
    }
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

choice! {
    /// Where the vector unit sits.
    #[derive(Eq)]
    VectorPlacement {
        /// An engine of its own between accumulators and buffers.
        Separate,
        /// In the path of the store engine: its work occupies that engine.
        InStorePath,
        /// In the accumulators' read path: requantizes what leaves the array, without an engine of its own.
        Fused; refused,
    }
}

choice! {
    /// Work that a vector unit can do.
    #[derive(Eq, Hash, PartialOrd, Ord)]
    VectorFunction {
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
        /// Depthwise convolution at `depthwise`'s rate, whatever the cycles say.
        Depthwise,
    }
}

names! {
    Requantizer {
        F32Rne,
        FixedDouble31,
        FixedSingle31,
        FixedMul {
            /// width of the multiplier with its sign
            bits: u8 in 2..=32 "bits",
            /// largest right shift; products have 64 bits
            max_shift: u8 in 0..=62 "bits",
            /// of the bits that the shift drops
            rounding: Rounding,
        },
    }
}

group! {
    /// Requantization, element-wise work, pooling.
    VectorUnit {
        /// an engine of its own, part of the store engine, or in the accumulators' read path
        placement: VectorPlacement = Separate,
        /// elements at a time
        lanes: u32 in 1..=4096,
        /// the vector unit's clock
        clock_mhz: f64 in 1.0..=10_000.0 or 0 for "the array's clock" "MHz" = 0.0,
        /// from an instruction's start to a result
        startup_cycles: u32 in 0..=100_000 "vector cycles" = 0,
        /// what a lane takes for one element (pooling: one tap); a function that is not listed runs on the host
        cycles: Vec<(VectorFunction, u32)> in 1..=9 each 1..=10_000 "vector cycles",
        /// how accumulators become outputs
        requantizer: Requantizer = F32Rne,
    }
}

impl VectorUnit {
    /// Cycles a lane takes for one element; `None` where the unit cannot do it.
    pub fn cycles_of(&self, function: VectorFunction) -> Option<u32> {
        self.cycles.iter().find(|(listed, _)| *listed == function).map(|&(_, cycles)| cycles)
    }
}

choice! {
    /// How depthwise and grouped convolutions run.
    #[derive(Eq)]
    DepthwisePolicy {
        /// One group a pass of the array.
        PerGroup,
        /// Several groups a tile, zeros between.
        BlockDiagonal,
        /// Depthwise on the vector unit at this many MACs a vector cycle; other groups one a pass.
        Vector {
            /// of the whole unit
            macs_per_cycle: u32 in 1..=65_536 "MAC/vector cycle",
        },
        /// On the host.
        Host,
    }
}

group! {
    /// Command issue and layer boundaries.
    #[derive(Copy, Eq)]
    Control {
        /// to issue one command
        issue_cycles: u32 in 0..=10_000 "array cycles" = 1,
        /// commands that wait in front of an engine
        queue_depth: u32 in 1..=4096 "commands" = 8,
        /// whether the array tiles of a buffer tile are issued as one command
        hardware_loops: bool = true,
        /// to launch a layer
        launch_cycles: u32 in 0..=1_000_000 "array cycles" = 0,
        /// whether a layer starts only when all engines are idle
        fence_layers: bool = false,
        /// what such a fence takes
        fence_cycles: u32 in 0..=1_000_000 "array cycles" = 0,
    }
}

impl Default for Control {
    fn default() -> Self {
        defaults()
    }
}

group! {
    /// The processor that runs what the machine cannot.
    #[derive(Copy)]
    Host {
        /// fixed cost of one operator
        overhead_us: f64 in 0.0..=1_000_000.0 "us" = 5.0,
        /// of its operands and results
        bandwidth_gb_per_s: f64 in 0.001..=100_000.0 "GB/s" = 4.0,
        /// elements that it produces; multiply-accumulates count as elements
        elements_per_ns: f64 in 0.001..=1_000_000.0 "1/ns" = 1.0,
    }
}

impl Default for Host {
    fn default() -> Self {
        defaults()
    }
}

/// The whole file, as a field without a name.
pub(super) static ROOT: Field = Field {
    name: "",
    kind: AcceleratorConfig::KIND,
    unit: "",
    default: None,
    reason: "one accelerator",
    modelled: Modelled::Yes,
};
