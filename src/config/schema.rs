//! The fields of a config file, each declared once: type, range, unit, default, meaning, and whether the model acts on it.
//! `declare` says how a declaration reads; what one field means for another is in `cross`.

use serde::{Deserialize, Serialize};

use super::{
    declare::{Declared, choice, content, declare, flag, group, kind, maybe, modelled, names},
    fields::{Field, Kind, Modelled, Variant},
};
use crate::tensor::{DType, Overflow, Requantizer, Rounding};

declare! {
    /// A whole accelerator. The order of the fields is part of a machine's hash.
    struct AcceleratorConfig {
        name: String in 1..=64 => "short, for reports",
        description: String in 0..=2000 = "" => "what machine this is",
        array: Array => "the processing elements",
        buffers: Buffers => "on-chip buffers",
        accumulators: Accumulators => "partial sums behind the columns",
        dma: Dma => "what moves data between memories and buffers",
        memories: Vec<MemorySpace> in 1..=16 => "memory spaces outside the core",
        placement: Placement => "which operand lives in which memory, by name",
        vector: VectorUnit => "requantization, element-wise work, pooling",
        depthwise: DepthwisePolicy = PerGroup =>
            "how depthwise and grouped convolutions run: one group a pass, several with zeros between, vector unit, \
             host",
        control: Control = () => "command issue and layer boundaries",
        host: Host = () => "the processor that runs what the machine cannot",
        residency: bool = false => "whether an output stays on chip for its only, next consumer when it fits whole",
    }

    /// How the array computes.
    #[derive(Eq)]
    enum ArrayKind {
        /// Operands move from neighbour to neighbour; skewed in, skewed out.
        Systolic,
        /// Operands are broadcast and an adder tree sums a row of multipliers, as in NVDLA.
        DotTree; refused,
    }

    /// Which operand stays in the processing elements.
    #[derive(Eq, Hash, PartialOrd, Ord)]
    enum Dataflow {
        /// Weight stationary: rows hold K, columns hold output channels; input rows stream.
        WS,
        /// Output stationary: rows hold output pixels, columns output channels; K streams.
        OS,
        /// Input stationary: rows hold K, columns hold output pixels; weight rows stream.
        IS,
    }

    /// Which parts of K may fill the rows.
    #[derive(Eq)]
    enum KPacking {
        /// Kernel positions and channels, flattened.
        KernelAndChannels,
        /// Channels of one kernel position; the others need a tile of their own.
        Channels,
    }

    /// Whether an array tile takes output pixels beyond the end of an output row.
    #[derive(Eq)]
    enum RowEnds {
        /// It goes on with the next row or image.
        Cross,
        /// It ends there, except where the layer is a matrix product: a convolution of one tap without step or padding is
        /// one of all its pixels.
        StopWindows,
        /// It ends there in every convolution.
        Stop,
    }

    // Operand types that an array may have.
    names DType { Int4, Int8, UInt8, Int16, Fp8, Bf16, Fp16, Fp32 }
    names Overflow { Wrap, Saturate }
    names Rounding { HalfEven, HalfAway, HalfUp, Floor }

    /// On which wires the stationary operand reaches the elements.
    #[derive(Eq)]
    enum LoadPath {
        /// Down the columns through registers of its own, at the pace of the wave that streams: each element takes its word
        /// out as it passes, a column after its left neighbour.
        Skewed,
        /// Down the columns through the elements' own registers, all columns at once: every word moves as long as one
        /// does, so the whole array must have done with the operand before.
        Chain,
        /// On a bus a column, whole rows at once, the first row first.
        Rows,
    }

    /// How weights reach the processing elements.
    #[derive(Copy, Eq)]
    struct WeightLoad {
        cycles: u32 in 1..=65_536 "array cycles" =>
            "to load one tile of the stationary operand; fewer than rows: several rows side by side a cycle",
        shadow_depth: u8 in 0..=4 "tiles" =>
            "what waits in shadow registers; 0: the load is exposed; 1: hidden behind a tile; more: loads run \
             further ahead, at most as deep as the weight FIFO of TPU v1",
        path: LoadPath = Skewed => "the wires of the load, which decide when it may follow the wave of a tile before",
    }

    /// Where a sum that goes on from tile to tile is added to.
    #[derive(Eq)]
    enum Accumulate {
        /// By adders at the accumulators, as results come out.
        AtOutput,
        /// By injecting the sums at the top of the columns, each column as its results came out: in skew.
        InjectSkewed,
        /// By injecting whole rows of sums, through skew registers of their own.
        InjectRows,
    }

    /// Along which wires the sums of an output stationary tile leave.
    #[derive(Eq)]
    enum DrainPath {
        /// Down the columns: a row of sums a beat, the last row first.
        Rows,
        /// Along the rows: a column of sums a beat, the last column first.
        Columns,
    }

    /// How results leave the edge of the array.
    #[derive(Eq)]
    enum OutputSkew {
        /// Through registers that undo the skew: whole rows.
        Deskewed,
        /// As they come, each lane later than the one before.
        Skewed,
    }

    /// The processing-element array.
    struct Array {
        kind: ArrayKind = Systolic => "neighbour to neighbour, or broadcast and adder tree",
        rows: u32 in 1..=1024 => "rows of elements; the largest published arrays have 256",
        cols: u32 in 1..=1024 => "columns of elements; the largest published arrays have 256",
        count: u32 in 1..=64 = 1 =>
            "identical arrays in the core; each has an engine of its own, and an equal share of what the operand buffers deliver",
        clock_mhz: f64 in 1.0..=10_000.0 "MHz" =>
            "clock of the array, the load and store engines and the host; report cycles are of it; integer periods \
             in femtoseconds are exact to 1e-5 up to 10 GHz",
        dataflows: Vec<Dataflow> in 1..=3 => "the mapping chooses one of them for each layer",
        input_type: DType => "streamed operand (activations); float types are timed, not executed",
        weight_type: DType => "integer if `input_type` is, float if it is",
        zero_points: bool = true =>
            "whether the operand path subtracts zero points; without it, models that have them are refused",
        per_channel_scales: bool = true =>
            "whether weights may have a scale for each output channel; without it, models that do are refused",
        column_bits: u8 in 8..=64 "bits" = 32 =>
            "width of the partial sums that run down a column; values are held in 64 bits",
        overflow: Overflow = Wrap => "what the adders do past their width",
        pe_registers: u32 in 0..=64 "array cycles" = 0 => "extra pipeline registers inside an element",
        hop_registers: u32 in 0..=64 "array cycles" = 0 => "extra registers between neighbours, a hop",
        port_registers: u32 in 0..=64 "array cycles" = 0 => "registers between the array's ports and its elements, in and out together",
        weight_load: WeightLoad => "how the stationary operand reaches the elements",
        accumulate: Accumulate = AtOutput => "where a tile adds to the sums of a tile before",
        drain: DrainPath = Rows => "how the sums of output stationary tiles leave the elements",
        output: OutputSkew = Deskewed => "whether the results' skew is undone at the array's edge",
        min_stream: u32 in 1..=4096 "beats" = 1 => "a tile occupies the array for at least this long",
        max_stream: u32 in 0..=1_048_576 "beats" = 0 => "rows that one tile streams at most; 0: no limit",
        overlap_tiles: bool = true => "whether the next tile may stream while the previous one drains",
        flush_idle: bool = false =>
            "whether an array that has no tile to stream flushes, so that the next one waits for the last result",
        dataflow_switch_cycles: u32 in 0..=1_000_000 "array cycles" = 0 => "to change dataflow",
        k_packing: KPacking = KernelAndChannels =>
            "what fills the rows: kernel positions and channels flattened, or channels only",
        row_ends: RowEnds = Cross =>
            "whether an array tile, a stream or a fold of output pixels, goes on past the end of an output row",
    }

    /// One on-chip buffer.
    #[derive(Copy, Eq)]
    struct Buffer {
        bytes: u64 in 1..=1_073_741_824 "B" => "capacity; 1 GiB is beyond any on-chip memory",
        banks: u32 in 1..=1024 = 1 => "independent banks",
        word_bytes: u32 in 1..=4096 "B/cycle" = 16 => "what a bank delivers a cycle and port",
        ports: u32 in 1..=8 = 1 => "ports of a bank; memory macros have one or two",
        latency: u32 in 0..=1000 "array cycles" = 1 =>
            "from address to data"; listed "buffer latency is part of the array's fill",
    }

    /// How the operand buffers are organized.
    #[derive(Eq)]
    enum BufferLayout {
        /// One pool that the mapping divides among inputs, weights and outputs, layer by layer.
        Shared(Buffer),
        /// Three buffers of their own.
        Split {
            input: Buffer => "activations read by the array and the vector unit",
            weight: Buffer => "weights and requantization parameters",
            output: Buffer => "results of the vector unit on their way out",
        },
    }

    /// On-chip operand buffers.
    #[derive(Copy, Eq)]
    struct Buffers {
        layout: BufferLayout => "one pool that the mapping divides layer by layer, or three buffers",
        double_buffering: bool = true => "whether an operand may have two slots, one loading while the other is used",
        weight_fifo_tiles: u32 in 0..=1024 "stationary tiles" = 0 =>
            "weights that wait between the weight buffer and an array, which a weight stationary tile passes through; 0: no FIFO",
    }

    /// Accumulator memory behind the columns.
    #[derive(Copy, Eq)]
    struct Accumulators {
        bytes: u64 in 1..=1_073_741_824 "B" => "capacity; 1 GiB is beyond any on-chip memory",
        bits: u8 in 8..=64 "bits" = 32 => "width of one accumulator; it takes whole bytes",
        banks: u32 in 1..=1024 = 1 => "independent banks"; listed "accumulator banks never conflict",
        ports: u32 in 1..=8 = 2 =>
            "ports of a bank; one to read and one to write is usual"; listed "accumulator ports never conflict",
        read_width: u32 in 0..=4096 "accumulators/cycle" = 0 =>
            "what the vector unit reads a cycle; 0: as many as it has lanes",
    }

    /// The engines that move data.
    #[derive(Copy, Eq)]
    struct Dma {
        load_engines: u32 in 1..=64 = 1 => "engines that load; engine numbers have eight bits",
        store_engines: u32 in 1..=64 = 1 => "engines that store; engine numbers have eight bits",
        bytes_per_cycle: u32 in 1..=4096 "B/array cycle" => "what one engine moves",
        burst_bytes: u32 in 1..=4096 power_of 2 "B" =>
            "one request to memory; a power of two, as bursts are aligned; at most 4 KiB, as in AXI",
        bursts_in_flight: u32 in 1..=4096 => "requests that one engine may have outstanding",
        descriptor_cycles: u32 in 0..=100_000 "array cycles" = 0 =>
            "what a descriptor costs before its transfer's first request",
        strides: bool = true =>
            "whether one descriptor moves a box of a tensor; without, each contiguous run takes one of its own",
        zero_fill: bool = true => "whether a load can write zeros where a tile lies outside"
            ; listed "padding is made in front of the array and never loaded",
        alignment_bytes: u32 in 1..=4096 power_of 2 "B" = 1 =>
            "runs in memory are widened to multiples of it; below a burst it has no effect, as bursts are aligned",
        channel_brick: u32 in 1..=1024 "channels" = 1 =>
            "rows of channels in memory are padded to it"; listed "tensors lie in memory without gaps",
    }

    /// How a memory space answers.
    enum MemoryModel {
        /// A fixed bandwidth and a fixed latency, first come, first served.
        Ideal {
            bandwidth_gb_per_s: f64 in 0.001..=100_000.0 "GB/s" =>
                "1e9 bytes a second, reads and writes together; from a serial flash to beyond on-die memory",
            latency_ns: f64 in 0.0..=1_000_000.0 "ns" =>
                "from a request's turn to its last byte, beyond its transfer; at most 1 ms",
            turnaround_ns: f64 in 0.0..=1_000_000.0 "ns" = 0.0 =>
                "between a read and a write that follow each other, either way; about 10 for a DRAM; at most 1 ms",
        },
    }

    /// A memory space outside the core.
    struct MemorySpace {
        name: String in 1..=64 => "what `placement` calls it",
        model: MemoryModel => "how it answers",
        bytes: u64 in 0..=1_125_899_906_842_624 "B" = 0 => "capacity; 0: unlimited",
    }

    /// Which operand lives in which memory space, by name.
    #[derive(Default, Eq)]
    struct Placement {
        weights: String in 1..=64 => "memory of weights, biases, requantization parameters",
        activations: String in 1..=64 => "memory of all that lies between layers",
        inputs: String in 0..=64 = "" => "memory of the network's inputs; empty: that of the activations",
        outputs: String in 0..=64 = "" => "memory of the network's outputs; empty: that of the activations",
    }

    /// Where the vector unit sits.
    #[derive(Eq)]
    enum VectorPlacement {
        /// An engine of its own between accumulators and buffers.
        Separate,
        /// In the path of the store engine: its work occupies that engine.
        InStorePath,
        /// In the accumulators' read path: requantizes what leaves the array, without an engine of its own.
        Fused; refused,
    }

    /// Work that a vector unit can do.
    #[derive(Eq, Hash, PartialOrd, Ord)]
    enum VectorFunction {
        /// Bias, multiplier, rounding, clamp: accumulators to outputs.
        Requantize,
        /// Element-wise sums (residuals), minima and maxima.
        Add,
        /// Element-wise products; `PReLU`.
        Mul,
        /// Maximum pooling, global too.
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

    names Requantizer {
        F32Rne,
        FixedDouble31,
        FixedSingle31,
        FixedMul {
            bits: u8 in 2..=32 "bits" => "width of the multiplier with its sign",
            max_shift: u8 in 0..=62 "bits" => "largest right shift; products have 64 bits",
            rounding: Rounding => "of the bits that the shift drops",
        },
    }

    /// Requantization, element-wise work, pooling.
    struct VectorUnit {
        placement: VectorPlacement = Separate =>
            "an engine of its own, part of the store engine, or in the accumulators' read path",
        lanes: u32 in 1..=4096 => "elements at a time",
        clock_mhz: f64 in 1.0..=10_000.0 or 0 for "the array's clock" "MHz" = 0.0 => "the vector unit's clock",
        startup_cycles: u32 in 0..=100_000 "vector cycles" = 0 => "from an instruction's start to a result",
        cycles: Vec<(VectorFunction, u32)> in 1..=9 each 1..=10_000 "vector cycles" =>
            "what a lane takes for one element (pooling: one tap); a function that is not listed runs on the host",
        requantizer: Requantizer = F32Rne => "how accumulators become outputs",
    }

    /// How depthwise and grouped convolutions run.
    #[derive(Eq)]
    enum DepthwisePolicy {
        /// One group a pass of the array.
        PerGroup,
        /// Several groups a tile, zeros between.
        BlockDiagonal,
        /// Depthwise on the vector unit at this many MACs a vector cycle; other groups one a pass.
        Vector {
            macs_per_cycle: u32 in 1..=65_536 "MAC/vector cycle" => "of the whole unit",
        },
        /// On the host.
        Host,
    }

    /// Command issue and layer boundaries.
    #[derive(Copy, Eq)]
    struct Control {
        issue_cycles: u32 in 0..=10_000 "array cycles" = 1 => "to issue one command",
        queue_depth: u32 in 1..=4096 "commands" = 8 => "commands that wait in front of an engine",
        hardware_loops: bool = true =>
            "whether the array tiles of a buffer tile are issued as one command, and so is a load or store of one",
        preload_commands: u32 in 0..=64 "commands" = 1 =>
            "to load a stationary operand, without hardware loops; 0: it comes with the first stream's",
        stream_commands: u32 in 1..=64 "commands" = 1 => "to stream an array tile, without hardware loops",
        move_rows: u32 in 0..=65_536 "rows" = 0 =>
            "of a tensor that one load or store command moves, without hardware loops; 0: a whole buffer tile",
        move_bytes: u32 in 0..=65_536 "B" = 0 => "of each of these rows; 0: the whole row",
        launch_cycles: u32 in 0..=1_000_000 "array cycles" = 0 => "to launch a layer",
        fence_layers: bool = false => "whether a layer starts only when all engines are idle",
        fence_cycles: u32 in 0..=1_000_000 "array cycles" = 0 => "what such a fence takes",
    }

    /// The processor that runs what the machine cannot.
    #[derive(Copy)]
    struct Host {
        overhead_us: f64 in 0.0..=1_000_000.0 "us" = 5.0 => "fixed cost of one operator",
        bandwidth_gb_per_s: f64 in 0.001..=100_000.0 "GB/s" = 4.0 => "of its operands and results",
        elements_per_ns: f64 in 0.001..=1_000_000.0 "1/ns" = 1.0 =>
            "elements that it produces, or taps where it pools; multiply-accumulates count as elements",
    }
}

impl Dma {
    /// Bytes in which transfers touch memory: whole bursts, aligned.
    pub fn granule_bytes(&self) -> u32 {
        self.burst_bytes.max(self.alignment_bytes)
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

impl VectorUnit {
    /// Cycles a lane takes for one element; `None` where the unit cannot do it.
    pub fn cycles_of(&self, function: VectorFunction) -> Option<u32> {
        self.cycles.iter().find(|(listed, _)| *listed == function).map(|&(_, cycles)| cycles)
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
