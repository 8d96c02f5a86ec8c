//! The one table of config fields. Checking (`check`), overrides and the reference page all read it; the types that hold
//! the values are in `schema`.

use super::fields::{Field, Kind, Variant};

const fn integer(min: u64, max: u64) -> Kind {
    Kind::Integer { min, max, power_of_two: false }
}
const fn number(min: f64, max: f64) -> Kind {
    Kind::Number { min, max, zero: None }
}
const fn field(
    name: &'static str,
    kind: Kind,
    unit: &'static str,
    default: Option<&'static str>,
    reason: &'static str,
) -> Field {
    Field { name, kind, unit, default, reason }
}
const fn unit_variant(name: &'static str) -> Variant {
    Variant { name, content: None, wrapped: false }
}
const fn struct_variant(name: &'static str, content: &'static Kind) -> Variant {
    Variant { name, content: Some(content), wrapped: false }
}

const fn choice(variants: &'static [Variant]) -> Kind {
    Kind::Choice(variants)
}

/// Operand types that an array may have.
const OPERAND: Kind = choice(&[
    unit_variant("Int4"),
    unit_variant("Int8"),
    unit_variant("UInt8"),
    unit_variant("Int16"),
    unit_variant("Fp8"),
    unit_variant("Bf16"),
    unit_variant("Fp16"),
    unit_variant("Fp32"),
]);

const DATAFLOW: Kind = choice(&[unit_variant("WS"), unit_variant("OS"), unit_variant("IS")]);

const ROUNDING: Kind =
    choice(&[unit_variant("HalfEven"), unit_variant("HalfAway"), unit_variant("HalfUp"), unit_variant("Floor")]);

const VECTOR_FUNCTION: Kind = choice(&[
    unit_variant("Requantize"),
    unit_variant("Add"),
    unit_variant("Mul"),
    unit_variant("MaxPool"),
    unit_variant("AvgPool"),
    unit_variant("Table"),
    unit_variant("Softmax"),
    unit_variant("Copy"),
    unit_variant("Depthwise"),
]);

pub(super) const ARRAY: Kind = Kind::Group(&[
    field(
        "kind",
        choice(&[unit_variant("Systolic"), unit_variant("DotTree")]),
        "",
        Some("Systolic"),
        "neighbour to neighbour, or broadcast and adder tree; `DotTree` is not modelled yet",
    ),
    field("rows", integer(1, 1024), "", None, "rows of elements; the largest published arrays have 256"),
    field("cols", integer(1, 1024), "", None, "columns of elements; the largest published arrays have 256"),
    field("count", integer(1, 64), "", Some("1"), "identical arrays in the core; more than one is not modelled yet"),
    field(
        "clock_mhz",
        number(1.0, 10_000.0),
        "MHz",
        None,
        "report cycles are of this clock; integer periods in femtoseconds are exact to 1e-5 up to 10 GHz",
    ),
    field(
        "dataflows",
        Kind::List { item: &DATAFLOW, min: 1, max: 3, keyed: false },
        "",
        None,
        "the mapping chooses one of them for each layer",
    ),
    field("input_type", OPERAND, "", None, "streamed operand (activations); float types are timed, not executed"),
    field("weight_type", OPERAND, "", None, "integer if `input_type` is, float if it is"),
    field(
        "zero_points",
        Kind::Bool,
        "",
        Some("true"),
        "whether the operand path subtracts zero points; without it, models that have them are refused",
    ),
    field(
        "per_channel_scales",
        Kind::Bool,
        "",
        Some("true"),
        "whether weights may have a scale for each output channel; without it, models that do are refused",
    ),
    field(
        "column_bits",
        integer(8, 64),
        "bits",
        Some("32"),
        "width of the partial sums that run down a column; values are held in 64 bits",
    ),
    field(
        "overflow",
        choice(&[unit_variant("Wrap"), unit_variant("Saturate")]),
        "",
        Some("Wrap"),
        "what the adders do past their width",
    ),
    field("pe_registers", integer(0, 64), "array cycles", Some("0"), "extra pipeline registers inside an element"),
    field("hop_registers", integer(0, 64), "array cycles", Some("0"), "extra registers between neighbours, a hop"),
    field(
        "weight_load",
        Kind::Group(&[
            field("cycles", integer(0, 65_536), "array cycles", None, "to load one tile of the stationary operand"),
            field("shadow_depth", integer(0, 1), "tiles", None, "0: the load is exposed; 1: hidden behind a tile"),
        ]),
        "",
        None,
        "how the stationary operand reaches the elements",
    ),
    field("min_stream", integer(1, 4096), "beats", Some("1"), "a tile occupies the array for at least this long"),
    field("max_stream", integer(0, 1 << 20), "beats", Some("0"), "rows that one tile streams at most; 0: no limit"),
    field(
        "overlap_tiles",
        Kind::Bool,
        "",
        Some("true"),
        "whether the next tile may stream while the previous one drains",
    ),
    field("dataflow_switch_cycles", integer(0, 1_000_000), "array cycles", Some("0"), "to change dataflow"),
    field(
        "k_packing",
        choice(&[unit_variant("KernelAndChannels"), unit_variant("Channels")]),
        "",
        Some("KernelAndChannels"),
        "what fills the rows: kernel positions and channels flattened, or channels only",
    ),
]);

const BUFFER: Kind = Kind::Group(&[
    field("bytes", integer(1, 1 << 30), "B", None, "capacity; 1 GiB is beyond any on-chip memory"),
    field("banks", integer(1, 1024), "", Some("1"), "independent banks"),
    field("word_bytes", integer(1, 4096), "B/cycle", Some("16"), "what a bank delivers a cycle and port"),
    field("ports", integer(1, 8), "", Some("1"), "ports of a bank; memory macros have one or two"),
    field("latency", integer(0, 1000), "array cycles", Some("1"), "from address to data"),
]);

const BUFFERS: Kind = Kind::Group(&[
    field(
        "layout",
        choice(&[
            Variant { name: "Shared", content: Some(&BUFFER), wrapped: true },
            struct_variant(
                "Split",
                &Kind::Group(&[
                    field("input", BUFFER, "", None, "activations read by the array and the vector unit"),
                    field("weight", BUFFER, "", None, "weights and requantization parameters"),
                    field("output", BUFFER, "", None, "results of the vector unit on their way out"),
                ]),
            ),
        ]),
        "",
        None,
        "one pool that the mapping divides layer by layer, or three buffers",
    ),
    field(
        "double_buffering",
        Kind::Bool,
        "",
        Some("true"),
        "whether an operand may have two slots, one loading while the other is used",
    ),
    field(
        "weight_fifo_tiles",
        integer(0, 1024),
        "stationary tiles",
        Some("0"),
        "what waits between the weight buffer and the array; 0: no FIFO",
    ),
]);

const ACCUMULATORS: Kind = Kind::Group(&[
    field("bytes", integer(1, 1 << 30), "B", None, "capacity; 1 GiB is beyond any on-chip memory"),
    field("bits", integer(8, 64), "bits", Some("32"), "width of one accumulator; it takes whole bytes"),
    field("banks", integer(1, 1024), "", Some("1"), "independent banks"),
    field("ports", integer(1, 8), "", Some("2"), "ports of a bank; one to read and one to write is usual"),
    field(
        "read_width",
        integer(0, 4096),
        "accumulators/cycle",
        Some("0"),
        "what the vector unit reads a cycle; 0: as many as it has lanes",
    ),
]);

const DMA: Kind = Kind::Group(&[
    field("load_engines", integer(1, 64), "", Some("1"), "engines that load; engine numbers have eight bits"),
    field("store_engines", integer(1, 64), "", Some("1"), "engines that store; engine numbers have eight bits"),
    field("bytes_per_cycle", integer(1, 4096), "B/array cycle", None, "what one engine moves"),
    field(
        "burst_bytes",
        Kind::Integer { min: 1, max: 4096, power_of_two: true },
        "B",
        None,
        "one request to memory; a power of two, as bursts are aligned; at most 4 KiB, as in AXI",
    ),
    field("bursts_in_flight", integer(1, 4096), "", None, "requests that one engine may have outstanding"),
    field(
        "descriptor_cycles",
        integer(0, 100_000),
        "array cycles",
        Some("0"),
        "what a descriptor costs before its transfer's first request",
    ),
    field(
        "strides",
        Kind::Bool,
        "",
        Some("true"),
        "whether one descriptor moves a box of a tensor; without, each contiguous run takes one of its own",
    ),
    field("zero_fill", Kind::Bool, "", Some("true"), "whether a load can write zeros where a tile lies outside"),
    field(
        "alignment_bytes",
        Kind::Integer { min: 1, max: 4096, power_of_two: true },
        "B",
        Some("1"),
        "runs in memory are widened to multiples of it; below a burst it has no effect, as bursts are aligned",
    ),
    field("channel_brick", integer(1, 1024), "channels", Some("1"), "rows of channels in memory are padded to it"),
]);

const MEMORY: Kind = Kind::Group(&[
    field("name", Kind::Text { min: 1, max: 64 }, "", None, "what `placement` calls it"),
    field(
        "model",
        choice(&[struct_variant(
            "Ideal",
            &Kind::Group(&[
                field(
                    "bandwidth_gb_per_s",
                    number(0.001, 100_000.0),
                    "GB/s",
                    None,
                    "1e9 bytes a second, reads and writes together; from a serial flash to beyond on-die memory",
                ),
                field(
                    "latency_ns",
                    number(0.0, 1_000_000.0),
                    "ns",
                    None,
                    "from a request's turn to its last byte, beyond its transfer; at most 1 ms",
                ),
            ]),
        )]),
        "",
        None,
        "how it answers",
    ),
    field("bytes", integer(0, 1 << 50), "B", Some("0"), "capacity; 0: unlimited"),
]);

const PLACEMENT: Kind = Kind::Group(&[
    field("weights", Kind::Text { min: 1, max: 64 }, "", None, "memory of weights, biases, requantization parameters"),
    field("activations", Kind::Text { min: 1, max: 64 }, "", None, "memory of all that lies between layers"),
    field(
        "inputs",
        Kind::Text { min: 0, max: 64 },
        "",
        Some("\"\""),
        "memory of the network's inputs; empty: that of the activations",
    ),
    field(
        "outputs",
        Kind::Text { min: 0, max: 64 },
        "",
        Some("\"\""),
        "memory of the network's outputs; empty: that of the activations",
    ),
]);

pub(super) const VECTOR: Kind = Kind::Group(&[
    field(
        "placement",
        choice(&[unit_variant("Separate"), unit_variant("InStorePath"), unit_variant("Fused")]),
        "",
        Some("Separate"),
        "an engine of its own, part of the store engine, or in the accumulators' read path",
    ),
    field("lanes", integer(1, 4096), "", None, "elements at a time"),
    field(
        "clock_mhz",
        Kind::Number { min: 1.0, max: 10_000.0, zero: Some("the array's clock") },
        "MHz",
        Some("0.0"),
        "the vector unit's clock",
    ),
    field("startup_cycles", integer(0, 100_000), "vector cycles", Some("0"), "from an instruction's start to a result"),
    field(
        "cycles",
        Kind::List { item: &Kind::Pair(&VECTOR_FUNCTION, &integer(1, 10_000)), min: 1, max: 9, keyed: true },
        "vector cycles",
        None,
        "what a lane takes for one element (pooling: one tap); a function that is not listed runs on the host",
    ),
    field(
        "requantizer",
        choice(&[
            unit_variant("F32Rne"),
            unit_variant("FixedDouble31"),
            unit_variant("FixedSingle31"),
            struct_variant(
                "FixedMul",
                &Kind::Group(&[
                    field("bits", integer(2, 32), "bits", None, "width of the multiplier with its sign"),
                    field("max_shift", integer(0, 62), "bits", None, "largest right shift; products have 64 bits"),
                    field("rounding", ROUNDING, "", None, "of the bits that the shift drops"),
                ]),
            ),
        ]),
        "",
        Some("F32Rne"),
        "how accumulators become outputs",
    ),
]);

const DEPTHWISE: Kind = choice(&[
    unit_variant("PerGroup"),
    unit_variant("BlockDiagonal"),
    struct_variant(
        "Vector",
        &Kind::Group(&[field("macs_per_cycle", integer(1, 65_536), "MAC/vector cycle", None, "of the whole unit")]),
    ),
    unit_variant("Host"),
]);

const CONTROL: Kind = Kind::Group(&[
    field("issue_cycles", integer(0, 10_000), "array cycles", Some("1"), "to issue one command"),
    field("queue_depth", integer(1, 4096), "commands", Some("8"), "commands that wait in front of an engine"),
    field(
        "hardware_loops",
        Kind::Bool,
        "",
        Some("true"),
        "whether the array tiles of a buffer tile are issued as one command",
    ),
    field("launch_cycles", integer(0, 1_000_000), "array cycles", Some("0"), "to launch a layer"),
    field("fence_layers", Kind::Bool, "", Some("false"), "whether a layer starts only when all engines are idle"),
    field("fence_cycles", integer(0, 1_000_000), "array cycles", Some("0"), "what such a fence takes"),
]);

const HOST: Kind = Kind::Group(&[
    field("overhead_us", number(0.0, 1_000_000.0), "us", Some("5.0"), "fixed cost of one operator"),
    field("bandwidth_gb_per_s", number(0.001, 100_000.0), "GB/s", Some("4.0"), "of its operands and results"),
    field(
        "elements_per_ns",
        number(0.001, 1_000_000.0),
        "1/ns",
        Some("1.0"),
        "elements that it produces; multiply-accumulates count as elements",
    ),
]);

/// The whole file.
pub static ROOT: Kind = Kind::Group(&[
    field("name", Kind::Text { min: 1, max: 64 }, "", None, "short, for reports"),
    field("description", Kind::Text { min: 0, max: 2000 }, "", Some("\"\""), "what machine this is"),
    field(
        "residency",
        Kind::Bool,
        "",
        Some("false"),
        "whether an output stays on chip for its only, next consumer when it fits whole",
    ),
    field("array", ARRAY, "", None, "the processing elements"),
    field("buffers", BUFFERS, "", None, "on-chip operand buffers"),
    field("accumulators", ACCUMULATORS, "", None, "partial sums behind the columns"),
    field("dma", DMA, "", None, "what moves data between memories and buffers"),
    field(
        "memories",
        Kind::List { item: &MEMORY, min: 1, max: 16, keyed: true },
        "",
        None,
        "memory spaces outside the core",
    ),
    field("placement", PLACEMENT, "", None, "which operand lives in which memory, by name"),
    field("vector", VECTOR, "", None, "requantization, element-wise work, pooling"),
    field(
        "depthwise",
        DEPTHWISE,
        "",
        Some("PerGroup"),
        "how depthwise and grouped convolutions run: one group a pass, several with zeros between, vector unit, host",
    ),
    field("control", CONTROL, "", Some("its fields' defaults"), "command issue and layer boundaries"),
    field("host", HOST, "", Some("its fields' defaults"), "the processor that runs what the machine cannot"),
]);
