//! The machines whose arrays are compared with the model: what each changes of a plain 4x4 one.

use std::fmt::Write as _;

use rand::{Rng, SeedableRng, seq::IndexedRandom};
use rand_chacha::ChaCha8Rng;
use systole::{
    config::{self, Accelerator, Dataflow},
    diag::Source,
};

/// 4x4 int8 with a weight load that is hidden behind the tile before.
const PLAIN: &str = r#"(
    name: "plain",
    array: (rows: 4, cols: 4, clock_mhz: 1000, dataflows: [WS], input_type: Int8, weight_type: Int8,
            weight_load: (cycles: 4, shadow_depth: 1)),
    buffers: (layout: Shared((bytes: 262144, banks: 4))),
    accumulators: (bytes: 65536),
    dma: (bytes_per_cycle: 16, burst_bytes: 64, bursts_in_flight: 8),
    memories: [(name: "dram", model: Ideal(bandwidth_gb_per_s: 64, latency_ns: 20))],
    placement: (weights: "dram", activations: "dram"),
    vector: (lanes: 4, cycles: [(Requantize, 1), (Add, 1), (MaxPool, 1), (AvgPool, 1), (Softmax, 3)]),
)"#;

/// A machine of the comparison.
pub struct Machine {
    /// Its name, of which the dataflow is a part.
    pub name: &'static str,
    /// What differs from the plain one, one change after the other.
    sets: &'static str,
    /// Models of whose layers it runs the array programs too.
    pub networks: &'static [&'static str],
    /// Whether the quick run has it.
    pub is_quick: bool,
}

const MNIST: &[&str] = &["mnist_cnn.onnx"];
const RESNET: &[&str] = &["resnet50.ron"];
const BOTH: &[&str] = &["mnist_cnn.onnx", "resnet50.ron"];
const NONE: &[&str] = &[];

const fn machine(name: &'static str, sets: &'static str, networks: &'static [&'static str]) -> Machine {
    Machine { name, sets, networks, is_quick: false }
}

const fn quick(name: &'static str, sets: &'static str, networks: &'static [&'static str]) -> Machine {
    Machine { name, sets, networks, is_quick: true }
}

/// All machines. A dataflow stands in the name's first part.
pub const MACHINES: &[Machine] = &[
    quick("ws_4x4", "", MNIST),
    machine("ws_1x1", "rows=1 cols=1 weight_load.cycles=1", NONE),
    machine("ws_1x6", "rows=1 cols=6 weight_load.cycles=1 zero_points=false", NONE),
    machine("ws_7x1_tall", "rows=7 cols=1 weight_load.cycles=7 pe_registers=1", NONE),
    machine("ws_exposed", "weight_load.shadow_depth=0", NONE),
    machine("ws_exposed_apart", "weight_load.shadow_depth=0 overlap_tiles=false output=Skewed", NONE),
    machine("ws_deep_skewed", "weight_load.shadow_depth=3 weight_load.cycles=9 hop_registers=1", NONE),
    machine("ws_side_by_side", "rows=7 cols=3 weight_load.cycles=3 weight_load.shadow_depth=2 input_type=UInt8", NONE),
    quick("ws_chain", "weight_load.path=Chain pe_registers=1", MNIST),
    machine("ws_chain_exposed", "rows=5 cols=3 weight_load.path=Chain weight_load.shadow_depth=0", NONE),
    machine("ws_chain_side", "rows=7 cols=5 weight_load.path=Chain weight_load.cycles=3 hop_registers=1", NONE),
    quick("ws_rows", "rows=6 cols=4 weight_load.path=Rows weight_load.cycles=6", NONE),
    machine(
        "ws_rows_exposed",
        "rows=3 cols=8 weight_load.path=Rows weight_load.cycles=8 weight_load.shadow_depth=0",
        NONE,
    ),
    machine(
        "ws_rows_deep",
        "rows=9 cols=2 weight_load.path=Rows weight_load.cycles=4 weight_load.shadow_depth=4 pe_registers=2 port_registers=2",
        NONE,
    ),
    quick("ws_inject_skewed", "accumulate=InjectSkewed output=Skewed weight_load.cycles=1", MNIST),
    machine(
        "ws_inject_skewed_pipelined",
        "rows=5 cols=6 accumulate=InjectSkewed output=Skewed pe_registers=2 hop_registers=1 port_registers=1 weight_load.cycles=2",
        NONE,
    ),
    machine("ws_inject_rows", "rows=4 cols=6 accumulate=InjectRows weight_load.cycles=1 min_stream=2", NONE),
    machine(
        "ws_inject_rows_pipelined",
        "rows=3 cols=3 accumulate=InjectRows pe_registers=1 hop_registers=2 port_registers=2 overflow=Saturate column_bits=18 \
         accumulators.bits=18",
        NONE,
    ),
    machine("ws_skewed_out", "rows=4 cols=7 output=Skewed overlap_tiles=false", NONE),
    machine("ws_pipelined", "pe_registers=3 hop_registers=1 port_registers=1 min_stream=5", NONE),
    machine(
        "ws_int4",
        "rows=8 cols=8 weight_load.cycles=8 input_type=Int4 weight_type=Int4 column_bits=12 accumulators.bits=16",
        NONE,
    ),
    machine(
        "ws_int16_saturating",
        "rows=5 cols=5 weight_load.cycles=5 input_type=Int16 weight_type=Int16 column_bits=34 accumulators.bits=40 overflow=Saturate",
        NONE,
    ),
    quick(
        "ws_narrow_saturating",
        "column_bits=17 accumulators.bits=18 overflow=Saturate vector.requantizer=FixedDouble31",
        NONE,
    ),
    machine("ws_narrow_wrapping", "column_bits=18 accumulators.bits=15 vector.requantizer=FixedSingle31", NONE),
    machine(
        "ws_wide_column",
        "column_bits=64 accumulators.bits=64 vector.requantizer=FixedMul(bits:16,max_shift:40,rounding:HalfEven)",
        NONE,
    ),
    machine(
        "ws_8x16_resnet",
        "rows=8 cols=16 weight_load.cycles=8 vector.requantizer=FixedMul(bits:32,max_shift:62,rounding:HalfAway)",
        BOTH,
    ),
    machine("ws_16x16", "rows=16 cols=16 weight_load.cycles=16", BOTH),
    machine("ws_32x32", "rows=32 cols=32 weight_load.cycles=32 zero_points=false", RESNET),
    quick("os_4x4", "dataflows=[OS]", MNIST),
    machine("os_1x1", "dataflows=[OS] rows=1 cols=1", NONE),
    machine("os_columns", "dataflows=[OS] rows=3 cols=6 drain=Columns", NONE),
    machine("os_pipelined", "dataflows=[OS] rows=6 cols=3 pe_registers=2 hop_registers=1 port_registers=2", NONE),
    machine("os_columns_pipelined", "dataflows=[OS] rows=5 cols=4 drain=Columns pe_registers=1 hop_registers=2", NONE),
    machine("os_skewed_out", "dataflows=[OS] rows=5 cols=5 output=Skewed overlap_tiles=false", NONE),
    machine(
        "os_columns_skewed_out",
        "dataflows=[OS] rows=4 cols=6 output=Skewed drain=Columns overlap_tiles=false",
        NONE,
    ),
    quick(
        "os_saturating",
        "dataflows=[OS] rows=4 cols=5 column_bits=17 accumulators.bits=18 overflow=Saturate input_type=UInt8 \
         vector.requantizer=FixedMul(bits:8,max_shift:20,rounding:HalfUp)",
        NONE,
    ),
    machine(
        "os_int16",
        "dataflows=[OS] rows=4 cols=4 input_type=Int16 weight_type=Int8 column_bits=40 accumulators.bits=48 min_stream=6",
        NONE,
    ),
    machine("os_16x16", "dataflows=[OS] rows=16 cols=16", BOTH),
    quick("is_4x6", "dataflows=[IS] rows=4 cols=6", MNIST),
    machine(
        "is_uint8_int4",
        "dataflows=[IS] rows=6 cols=4 input_type=UInt8 weight_type=Int4 weight_load.path=Rows pe_registers=1 \
         vector.requantizer=FixedMul(bits:24,max_shift:30,rounding:Floor)",
        NONE,
    ),
    machine("is_8x8_resnet", "dataflows=[IS] rows=8 cols=8 weight_load.cycles=8", RESNET),
];

impl Machine {
    /// The plain machine with some changes.
    pub fn plain(sets: &str) -> Accelerator {
        Self { name: "plain", sets: "", networks: NONE, is_quick: false }.changed(sets)
    }

    /// The machine itself.
    pub fn accelerator(&self) -> Accelerator {
        self.changed(self.sets)
    }

    fn changed(&self, sets: &str) -> Accelerator {
        let set = |text: &str| {
            if text.contains('.') && !text.starts_with("weight_load") {
                text.to_owned()
            } else {
                format!("array.{text}")
            }
        };
        let sets: Vec<String> = sets.split_whitespace().map(set).collect();
        let source = Source { name: self.name.into(), text: PLAIN.into() };
        config::load_source(&source, &sets).unwrap_or_else(|faults| panic!("{}: {faults}", self.name))
    }

    /// The dataflow whose wires it has.
    pub fn dataflow(&self) -> Dataflow {
        match &self.name[..2] {
            "os" => Dataflow::OS,
            "is" => Dataflow::IS,
            _ => Dataflow::WS,
        }
    }
}

/// Machines with structures drawn at random, to find what the listed ones do not combine.
pub fn drawn(count: usize) -> Vec<Machine> {
    let mut random = ChaCha8Rng::seed_from_u64(7);
    (0..count)
        .map(|index| {
            let dataflow = *["ws", "ws", "os", "is"].choose(&mut random).unwrap();
            let mut sets = format!("dataflows=[{}]", dataflow.to_uppercase());
            let mut set = |name: &str, value: u32| write!(sets, " {name}={value}").unwrap();
            let rows = random.random_range(1..=7);
            set("rows", rows);
            set("cols", random.random_range(1..=7));
            for name in ["pe_registers", "hop_registers", "port_registers"] {
                set(name, if random.random() { 0 } else { random.random_range(1..=3) });
            }
            set("min_stream", if random.random() { 1 } else { random.random_range(1..=9) });
            set("weight_load.cycles", random.random_range(1..=rows + 4));
            let path = *["Skewed", "Chain", "Rows"].choose(&mut random).unwrap();
            set("weight_load.shadow_depth", random.random_range(0..=if path == "Chain" { 1 } else { 4 }));
            let accumulate = *["AtOutput", "InjectSkewed", "InjectRows"].choose(&mut random).unwrap();
            let accumulate = if dataflow == "os" { "AtOutput" } else { accumulate };
            let output = match accumulate {
                "InjectSkewed" => "Skewed",
                "InjectRows" => "Deskewed",
                _ => *["Skewed", "Deskewed"].choose(&mut random).unwrap(),
            };
            let drain = *["Rows", "Columns"].choose(&mut random).unwrap();
            let overlap: bool = random.random_ratio(3, 4);
            let types = *[["Int8", "Int8"], ["UInt8", "Int8"], ["Int4", "Int4"], ["Int16", "Int16"]].choose(&mut random).unwrap();
            let bits = random.random_range(16..=40);
            let overflow = *["Wrap", "Saturate"].choose(&mut random).unwrap();
            write!(
                sets,
                " weight_load.path={path} accumulate={accumulate} output={output} drain={drain} overlap_tiles={overlap} \
                 input_type={} weight_type={} column_bits={bits} accumulators.bits={} overflow={overflow}",
                types[0],
                types[1],
                bits + random.random_range(0..4)
            )
            .unwrap();
            // Machines are made once and live as long as the tests.
            let [name, sets] = [format!("{dataflow}_drawn_{index}"), sets].map(|text| &*Box::leak(text.into_boxed_str()));
            machine(name, sets, NONE)
        })
        .collect()
}
