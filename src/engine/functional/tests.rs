//! Hand-made micro-programs against plain loops written here.

mod bench;
mod hosts;
mod layers;
mod products;
mod tables;
mod vectors;

use super::*;
use crate::{
    config::{self, AcceleratorConfig, BufferId, Dataflow, EngineId, MemoryId},
    diag::Source,
    program::{Dim, Layer, LayerKind, Matmul, Region, Space, VectorOp},
    tensor::{AccumulationOrder, Overflow, Quantization, Requantizer},
    units::Macs,
};

/// The one memory, the one buffer, the accumulators.
const MEMORY: Space = Space::Memory(MemoryId(0));
const BUFFER: Space = Space::Buffer(BufferId(0));

/// A small machine with one shared buffer.
fn accelerator(edit: impl FnOnce(&mut AcceleratorConfig)) -> Accelerator {
    let text = r#"(
        name: "test",
        array: (rows: 16, cols: 16, clock_mhz: 1000.0, dataflows: [WS, OS, IS], input_type: Int8, weight_type: Int8,
                weight_load: (cycles: 16, shadow_depth: 1)),
        buffers: (layout: Shared((bytes: 1048576))),
        accumulators: (bytes: 262144),
        dma: (bytes_per_cycle: 16, burst_bytes: 64, bursts_in_flight: 8),
        memories: [(name: "dram", model: Ideal(bandwidth_gb_per_s: 16.0, latency_ns: 100.0))],
        placement: (weights: "dram", activations: "dram"),
        vector: (lanes: 16, cycles: [(Requantize, 1)]),
    )"#;
    let mut config = config::load_source(&Source { name: "test".into(), text: text.into() }, &[]).unwrap().config;
    edit(&mut config);
    Accelerator::from_valid(config)
}

/// A header of one layer without tensors or weights.
fn header(arithmetic: Arithmetic, dataflow: Option<Dataflow>) -> Header {
    Header {
        name: "test".into(),
        layers: vec![Layer {
            name: "layer".into(),
            node: crate::ir::NodeId(0),
            op: "test".into(),
            kind: LayerKind::Array,
            macs: Macs(0),
            dataflow,
            arithmetic,
            inputs: vec![],
            outputs: vec![],
        }],
        tensors: vec![],
        weights: vec![],
        memory_bytes: vec![1 << 20],
        packed: vec![],
        buffer_scale: 1,
        inputs: vec![],
        outputs: vec![],
    }
}

fn matrix(
    input_zero: i32,
    weight_zero: &[i32],
    output_zero: i32,
    clamp: [i32; 2],
    order: AccumulationOrder,
) -> Arithmetic {
    Arithmetic::Matrix {
        input: Quantization::per_tensor(0.5, input_zero),
        weight: Quantization {
            scale: vec![0.25; weight_zero.len()],
            zero_point: weight_zero.to_vec(),
            axis: (weight_zero.len() > 1).then_some(0),
        },
        output: Quantization::per_tensor(2.0, output_zero),
        output_type: if clamp[1] > 127 { DType::UInt8 } else { DType::Int8 },
        clamp,
        order,
    }
}

fn instruction(index: u64, operation: Operation) -> Instruction {
    Instruction {
        index,
        layer: LayerId(0),
        engine: EngineId(0),
        commands: 1,
        operation,
        waits: smallvec::smallvec![],
        signals: None,
    }
}

fn vector(kind: VectorKind, inputs: &[Region], output: Region) -> Operation {
    Operation::Vector(VectorOp { kind, operand: 0, inputs: inputs.iter().copied().collect(), output, macs: 0 })
}

fn machine<'h>(accelerator: &Accelerator, header: &Header) -> Machine<'h> {
    Machine::with_options(accelerator, header, &|_| None, Options { checked: true }).unwrap()
}

/// Puts bytes somewhere, as an earlier instruction would have.
fn poke(machine: &mut Machine, space: Space, address: i64, bytes: &[u8]) {
    machine.store.bytes_mut(space).unwrap().write(address, bytes.len()).unwrap().copy_from_slice(bytes);
}

fn peek(machine: &Machine, space: Space, address: i64, length: usize) -> Vec<u8> {
    machine.store.bytes(space).unwrap().read(address, length).unwrap().to_vec()
}

fn accumulators(machine: &Machine, address: i64, length: usize) -> Vec<i64> {
    let range = machine.store.accumulators.reading(address, length).unwrap();
    match &machine.store.accumulators.words {
        store::Words::Narrow(words) => words[range].iter().map(|&word| i64::from(word)).collect(),
        store::Words::Wide(words) => words[range].to_vec(),
    }
}

/// Deterministic bytes.
struct Noise(u64);

impl Noise {
    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        self.0 >> 33
    }

    fn bytes(&mut self, count: usize) -> Vec<u8> {
        (0..count).map(|_| (self.next() & 0xff) as u8).collect()
    }
}
