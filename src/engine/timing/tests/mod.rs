//! Whole programs through the timing engine. This file builds small machines and programs; the tests are beside it.

mod bursts;
mod causes;
mod law;
mod micro;
mod observed;
mod pe;
mod speed;
mod ties;
mod values;

use smallvec::SmallVec;

use super::{
    Causes, MemoryAccess, Options, PHASES_HELD, TimingError, TimingReport, simulate, simulate_tapped,
    simulator::Simulator,
};
use crate::{
    config::{
        Accelerator, AcceleratorConfig, BufferId, BufferLayout, Dataflow, EngineId, MemoryId, MemoryModel,
        VectorPlacement, WeightLoad, load_source,
    },
    diag::Source,
    ir::NodeId,
    program::{
        Arithmetic, Dim, Header, Instruction, Layer, LayerId, LayerKind, Matmul, Operation, Region, Space, Token,
        Transfer, VectorKind, VectorOp,
    },
    units::Macs,
};

pub const LOAD: EngineId = EngineId(0);
pub const ARRAY: EngineId = EngineId(1);
pub const VECTOR: EngineId = EngineId(2);
pub const STORE: EngineId = EngineId(3);
pub const HOST: EngineId = EngineId(4);

/// 4x4, weights in 4 cycles behind the stream; 1 GHz; a 64-byte burst holds the memory for 1 cycle and arrives 20
/// later, eight in flight, and the engine moves it in 4; vector 4 elements a cycle; issue costs nothing.
pub fn config() -> AcceleratorConfig {
    let text = r#"(
        name: "test",
        array: (rows: 4, cols: 4, clock_mhz: 1000, dataflows: [WS], input_type: Int8, weight_type: Int8,
                weight_load: (cycles: 4, shadow_depth: 1)),
        buffers: (layout: Shared((bytes: 1048576, banks: 4))),
        accumulators: (bytes: 65536),
        dma: (bytes_per_cycle: 16, burst_bytes: 64, bursts_in_flight: 8),
        memories: [(name: "dram", model: Ideal(bandwidth_gb_per_s: 64, latency_ns: 20))],
        placement: (weights: "dram", activations: "dram"),
        vector: (lanes: 4, cycles: [(Requantize, 1), (Add, 1), (MaxPool, 1), (Softmax, 3)]),
        control: (issue_cycles: 0),
    )"#;
    load_source(&Source { name: "test".into(), text: text.into() }, &[]).unwrap().config
}

pub fn memory(config: &mut AcceleratorConfig, bandwidth_gb_per_s: f64, latency_ns: f64) {
    config.memories[0].model = MemoryModel::Ideal { bandwidth_gb_per_s, latency_ns, turnaround_ns: 0.0 };
}

pub fn header(layers: usize) -> Header {
    let layer = |index: usize| Layer {
        name: format!("layer {index}"),
        node: NodeId(0),
        op: "Conv".into(),
        kind: LayerKind::Array,
        macs: Macs(0),
        dataflow: Some(Dataflow::WS),
        arithmetic: Arithmetic::Free,
        inputs: Vec::new(),
        outputs: Vec::new(),
    };
    Header {
        name: "test".into(),
        layers: (0..layers).map(layer).collect(),
        tensors: Vec::new(),
        weights: Vec::new(),
        memory_bytes: vec![0],
        packed: vec![],
        buffer_scale: 1,
        inputs: Vec::new(),
        outputs: Vec::new(),
    }
}

/// A program in the making.
#[derive(Clone, Debug, Default)]
pub struct Builder {
    pub instructions: Vec<Instruction>,
    pub layer: u32,
    tokens: u32,
}

pub fn accumulators(first: i64, rows: u32) -> Region {
    Region::matrix(Space::Accumulators, first, 1, Dim::new(rows, 4), Dim::new(4, 1))
}

pub fn buffer(rows: u32, cols: u32) -> Region {
    Region::matrix(Space::Buffer(BufferId(0)), 0, 1, Dim::new(rows, cols), Dim::new(cols, 1))
}

impl Builder {
    pub fn push(&mut self, engine: EngineId, operation: Operation, waits: &[Token]) -> Token {
        let token = Token(self.tokens);
        self.tokens += 1;
        self.instructions.push(Instruction {
            index: self.instructions.len() as u64,
            layer: LayerId(self.layer),
            engine,
            commands: 1,
            operation,
            waits: SmallVec::from_slice(waits),
            signals: Some(token),
        });
        token
    }

    pub fn load(&mut self, bytes: u32, waits: &[Token]) -> Token {
        let source = Region::flat(Space::Memory(MemoryId(0)), 0, 1, bytes);
        self.push(LOAD, Operation::Load(Transfer { source, target: buffer(1, bytes) }), waits)
    }

    /// Loads `rows` runs of `bytes` that stand `stride` bytes apart.
    pub fn load_rows(&mut self, rows: u32, bytes: u32, stride: u32) -> Token {
        let memory = Space::Memory(MemoryId(0));
        let source = Region::matrix(memory, 0, 1, Dim::new(rows, stride), Dim::new(bytes, 1));
        self.push(LOAD, Operation::Load(Transfer { source, target: buffer(rows, bytes) }), &[])
    }

    pub fn store(&mut self, bytes: u32, waits: &[Token]) -> Token {
        let target = Region::flat(Space::Memory(MemoryId(0)), 0, 1, bytes);
        self.push(STORE, Operation::Store(Transfer { source: buffer(1, bytes), target }), waits)
    }

    pub fn preload(&mut self, waits: &[Token]) -> Token {
        self.push(ARRAY, Operation::Preload { stationary: buffer(4, 4) }, waits)
    }

    /// Weight stationary: `rows` beats into the accumulators from `first` on.
    pub fn matmul(&mut self, rows: u32, first: i64, accumulate: bool, waits: &[Token]) -> Token {
        let matmul = Matmul {
            stream: buffer(rows, 4),
            stationary: None,
            accumulators: accumulators(first, rows),
            accumulate,
            resume: false,
            hold: false,
            macs: u64::from(rows) * 16,
        };
        self.push(ARRAY, Operation::Matmul(matmul), waits)
    }

    /// Output stationary: `k` beats.
    pub fn output_stationary(&mut self, rows: u32, k: u32, waits: &[Token]) -> Token {
        self.fold(rows, k, [false, false], waits)
    }

    /// One fold of K; `kept` says whether its sums begin with, and stay as, those in the elements.
    pub fn fold(&mut self, rows: u32, k: u32, kept: [bool; 2], waits: &[Token]) -> Token {
        let matmul = Matmul {
            stream: buffer(rows, k),
            stationary: Some(buffer(rows, k)),
            accumulators: accumulators(0, rows),
            accumulate: false,
            resume: kept[0],
            hold: kept[1],
            macs: u64::from(rows) * u64::from(rows) * u64::from(k),
        };
        self.push(ARRAY, Operation::Matmul(matmul), waits)
    }

    pub fn vector(&mut self, kind: VectorKind, elements: u32, waits: &[Token]) -> Token {
        let inputs = SmallVec::from_slice(&[buffer(1, elements)]);
        self.push(
            VECTOR,
            Operation::Vector(VectorOp { kind, operand: 0, inputs, output: buffer(1, elements), macs: 0 }),
            waits,
        )
    }

    pub fn host(&mut self, bytes: u32, waits: &[Token]) -> Token {
        let region = Region::flat(Space::Memory(MemoryId(0)), 0, 1, bytes);
        let op = VectorOp {
            kind: VectorKind::WholeOperator { elements: bytes.into() },
            operand: 0,
            inputs: SmallVec::from_slice(&[region]),
            output: region,
            macs: 0,
        };
        self.push(HOST, Operation::Host(op), waits)
    }

    pub fn fence(&mut self) -> Token {
        self.push(ARRAY, Operation::Fence, &[])
    }

    pub fn layers(&self) -> usize {
        self.layer as usize + 1
    }

    pub fn run(&self, config: &AcceleratorConfig) -> TimingReport {
        self.run_with(config, Options::default(), PHASES_HELD).expect("the program is well formed")
    }

    pub fn run_with(
        &self,
        config: &AcceleratorConfig,
        options: Options,
        phases_held: usize,
    ) -> Result<TimingReport, TimingError> {
        let accelerator = Accelerator::from_valid(config.clone());
        let header = header(self.layers());
        Simulator::new(&accelerator, &header, options, phases_held)?.run(self.instructions.iter().cloned())
    }
}

/// A vector from its entries that are not zero.
pub fn vector(entries: &[(super::Cause, u64)]) -> Causes {
    let mut vector = Causes::default();
    for &(cause, amount) in entries {
        vector[cause] += amount;
    }
    vector
}
