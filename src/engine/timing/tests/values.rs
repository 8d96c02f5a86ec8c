//! Values under a memory that answers in an order of its own: each instruction is executed when it was timed, and the
//! bits are the reference's. What a transfer or the vector unit reads is taken at the start, and what it writes is there at
//! the end and not sooner; in another pass everything happens at the end.

use std::{collections::BTreeSet, path::Path, sync::Arc};

use super::{super::memory::Memory, *};
use crate::{
    engine::{
        functional::{self, FunctionalError, Machine},
        timing::{Done, Observer},
    },
    import::ron,
    pipeline::{self, Mapped, Model, ReferenceHost},
    program::{Program, TensorId},
    tensor::Tensor,
    units::Time,
};

/// Residual with a downsample of stride 2, pools, a concatenation, groups.
const RESIDUAL: &str = r#"(
    name: "residual",
    input: (shape: [3, 17, 17], scale: 0.0186, zero: 114),
    layers: [
        (name: "stem", op: Conv(out: 16, kernel: 3, pad: 1, activation: Relu), weight: 0.002, scale: 0.021),
        (name: "pool", op: MaxPool(kernel: 3, stride: 2, pad: 1)),
        (name: "expand", op: Conv(out: 40, kernel: 1, activation: Relu), weight: 0.004, scale: 0.02),
        (name: "depthwise", op: Depthwise(kernel: 3, stride: 2, pad: 1), weight: 0.01, scale: 0.03, zero: 121),
        (name: "project", op: Conv(out: 24, kernel: 1), weight: 0.004, scale: 0.03, zero: 125),
        (name: "downsample", from: "pool", op: Conv(out: 24, kernel: 1, stride: 2), weight: 0.005, scale: 0.03, zero: 120),
        (name: "add", from: ["project", "downsample"], op: Add(activation: Relu), scale: 0.035),
        (name: "left", op: Conv(out: 12, kernel: [1, 3], pad: [0, 1]), weight: 0.004, scale: 0.03, zero: 128),
        (name: "right", from: "add", op: Conv(out: 8, kernel: 3, pad: 1, groups: 4), weight: 0.004, scale: 0.03, zero: 128),
        (name: "join", from: ["left", "right"], op: Concat),
        (name: "average", op: GlobalAvgPool, scale: 0.02, zero: 128),
        (name: "flatten", op: Flatten),
        (name: "fc", op: FullyConnected(out: 10), weight: 0.003, scale: 0.09, zero: 128),
    ],
)"#;

/// Layers that do not fit the buffers of a small machine, with nothing between them.
const DEEP: &str = r#"(
    name: "deep",
    input: (shape: [24, 14, 14], scale: 0.02, zero: 120),
    layers: [
        (name: "a", op: Conv(out: 48, kernel: 3, pad: 1, activation: Relu), weight: 0.002, scale: 0.021),
        (name: "b", op: Conv(out: 64, kernel: 1, stride: 2, activation: Relu), weight: 0.002, scale: 0.021),
        (name: "c", op: Conv(out: 32, kernel: 3, pad: 1, dilation: 1), weight: 0.002, scale: 0.03, zero: 128),
        (name: "half", op: MaxPool(kernel: 1, stride: 2)),
        (name: "average", op: GlobalAvgPool, scale: 0.02, zero: 128),
    ],
)"#;

/// Machines that differ in what waits for what: engines, slots, dataflows, who stores, depth of queues.
fn machines() -> Vec<Accelerator> {
    let edits: [fn(&mut AcceleratorConfig); 5] = [
        |_| {},
        |config| {
            config.array.dataflows = vec![Dataflow::OS];
            (config.dma.load_engines, config.dma.store_engines) = (3, 2);
            config.control.queue_depth = 8;
        },
        |config| {
            config.array.dataflows = vec![Dataflow::IS];
            config.vector.placement = VectorPlacement::InStorePath;
            config.residency = false;
        },
        |config| {
            config.buffers.double_buffering = false;
            config.dma.load_engines = 2;
            config.dma.strides = false;
        },
        |config| {
            config.residency = false;
            config.control.fence_layers = false;
            config.control.hardware_loops = true;
            config.dma.bursts_in_flight = 32;
            config.dma.alignment_bytes = 256;
        },
    ];
    let machine = |edit: fn(&mut AcceleratorConfig)| {
        let text = r#"(
            name: "small",
            array: (rows: 8, cols: 8, clock_mhz: 1000, dataflows: [WS], input_type: Int8, weight_type: Int8,
                    weight_load: (cycles: 8, shadow_depth: 1)),
            buffers: (layout: Shared((bytes: 12288, banks: 8, word_bytes: 64, ports: 2))),
            accumulators: (bytes: 8192, banks: 2),
            dma: (bytes_per_cycle: 16, burst_bytes: 64, bursts_in_flight: 8),
            memories: [(name: "dram", model: Ideal(bandwidth_gb_per_s: 16, latency_ns: 60))],
            placement: (weights: "dram", activations: "dram"),
            vector: (lanes: 8, cycles: [(Requantize, 1), (Add, 1), (Mul, 1), (MaxPool, 1), (AvgPool, 1), (Table, 1),
                                        (Softmax, 1), (Copy, 1), (Depthwise, 1)]),
            residency: true,
        )"#;
        let mut config = load_source(&Source { name: "small".into(), text: text.into() }, &[]).unwrap().config;
        edit(&mut config);
        Accelerator::from_valid(config)
    };
    edits.into_iter().map(machine).collect()
}

/// When each instruction started and ended.
struct Times(Vec<[Time; 2]>);

impl Observer for Times {
    fn done(&mut self, done: &Done) {
        self.0[usize::try_from(done.instruction).unwrap()] = [done.start, done.end];
    }
}

/// Times a program under memories that answer in the seed's order.
fn shuffled(program: &Program, instructions: &[Instruction], seed: u64) -> Vec<[Time; 2]> {
    let accelerator = &program.accelerator;
    let memories =
        (0..accelerator.config.memories.len() as u64).map(|at| Memory::shuffled(seed + at, Time(300_000_000)));
    let mut times = Times(vec![[Time::ZERO; 2]; instructions.len()]);
    Simulator::observed(accelerator, &program.header, Options::default(), PHASES_HELD, Some(&mut times))
        .unwrap()
        .with_memories(memories.collect())
        .run(instructions.iter().cloned())
        .unwrap();
    times.0
}

/// When what an instruction does is done on values.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Pass {
    /// Transfers and the vector unit read at the start and write at the end; the array and the host work at the start.
    Start,
    /// The same, but these work at the end.
    ArrayAtEnd,
    /// All at the end.
    End,
}

/// One step of a pass.
struct Event {
    time: Time,
    instruction: usize,
    does: Does,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Does {
    /// Puts what was read, or made of it, aside.
    Reads,
    /// Puts it where it belongs.
    Writes,
    All,
}

/// An instruction in two: its result is put aside at an address of memory, and brought from there.
fn halves(instruction: &Instruction, aside: i64) -> Option<[Instruction; 2]> {
    let packed = |region: &Region| {
        let mut packed = Region { space: Space::Memory(MemoryId(0)), base: aside, ..*region };
        let mut stride = u32::from(region.element.bytes());
        for dim in packed.dims.iter_mut().rev() {
            (dim.stride, stride) = (stride, stride * dim.count);
        }
        packed
    };
    let mut first = instruction.clone();
    let target = match &mut first.operation {
        Operation::Load(transfer) | Operation::Store(transfer) | Operation::Move(transfer) => &mut transfer.target,
        Operation::Vector(op) => &mut op.output,
        _ => return None,
    };
    let aside = packed(target);
    let source = std::mem::replace(target, aside);
    let transfer = Transfer { source: aside, target: source };
    Some([first, Instruction { operation: Operation::Move(transfer), ..instruction.clone() }])
}

/// The network's outputs where every instruction is executed at its time.
fn replay(
    mapped: &Mapped,
    inputs: &[Tensor],
    instructions: &[Instruction],
    times: &[[Time; 2]],
    pass: Pass,
) -> Result<Vec<Tensor>, FunctionalError> {
    let (program, graph) = (&mapped.program, &mapped.network.quantized);
    // Room for results on their way, behind everything else in memory.
    let mut header = program.header.clone();
    let bytes =
        |region: &Region| u64::from(region.element.bytes()) * u64::from(region.rows()) * u64::from(region.cols());
    let mut room = header.memory_bytes[0];
    let mut events = Vec::new();
    let mut parts = Vec::new();
    let mut last = vec![Time::ZERO; program.accelerator.engines.len()];
    for (index, instruction) in instructions.iter().enumerate() {
        let [start, end] = times[index];
        let two = halves(instruction, i64::try_from(room).unwrap()).filter(|_| pass != Pass::End && start < end);
        if let Some([_, Instruction { operation: Operation::Move(transfer), .. }]) = &two {
            room += bytes(&transfer.source);
            events.push(Event { time: start, instruction: index, does: Does::Reads });
            events.push(Event { time: end, instruction: index, does: Does::Writes });
        } else if pass == Pass::Start {
            events.push(Event { time: start, instruction: index, does: Does::All });
        } else {
            // A load of the array's next tile ends before the stream that it waits for, a vector operation before the
            // store whose bytes the same engine has taken: they keep their engine's order.
            let last = &mut last[usize::from(instruction.engine.0)];
            *last = end.max(*last);
            events.push(Event { time: *last, instruction: index, does: Does::All });
        }
        parts.push(two);
    }
    header.memory_bytes[0] = room;
    // What is written at a time can be read from then on; who signals stands before who waits.
    events.sort_by_key(|event| (event.time, event.does != Does::Writes, event.instruction));

    let options = functional::Options { checked: true };
    let constants = |id| pipeline::constant(graph, id);
    let mut machine = Machine::with_options(&program.accelerator, &header, &constants, options)?
        .with_host(Arc::new(ReferenceHost(graph)));
    for (index, place) in (0_u32..).zip(&header.tensors) {
        if let Some(tensor) = constants(place.value) {
            machine.set_constant(TensorId(index), &tensor)?;
        }
    }
    for (index, input) in inputs.iter().enumerate() {
        machine.set_input(index, input)?;
    }
    for Event { instruction, does, .. } in events {
        let whole = &instructions[instruction];
        match (&parts[instruction], does) {
            (Some([reads, _]), Does::Reads) => machine.execute(reads)?,
            (Some([_, writes]), Does::Writes) => machine.execute(writes)?,
            _ => machine.execute(whole)?,
        }
    }
    machine.outputs()
}

/// Every pass under every seed gives the reference's bits; the first that does not.
fn first_wrong(mapped: &Mapped, instructions: &[Instruction], seeds: std::ops::Range<u64>) -> Option<String> {
    let header = &mapped.program.header;
    let inputs = pipeline::random_inputs(&mapped.network.quantized);
    let execution = pipeline::reference_of(mapped, &inputs, false).unwrap();
    let values = |ids: &[TensorId]| -> Vec<Tensor> {
        ids.iter().map(|id| execution.value(header.tensors[id.index()].value).unwrap().clone()).collect()
    };
    let [inputs, expected] = [&header.inputs, &header.outputs].map(|ids| values(ids));
    for seed in seeds {
        let times = shuffled(&mapped.program, instructions, seed);
        for pass in [Pass::Start, Pass::ArrayAtEnd, Pass::End] {
            match replay(mapped, &inputs, instructions, &times, pass) {
                Ok(outputs) if outputs == expected => {}
                Ok(_) => return Some(format!("{pass:?} under seed {seed}: other bits")),
                Err(error) => return Some(format!("{pass:?} under seed {seed}: {error}")),
            }
        }
    }
    None
}

fn list(text: &str) -> Model {
    Model { graph: ron::parse(text, "test", Some(1)).unwrap(), hash: 0 }
}

/// A network on each machine.
fn on_each(model: &Model, check: &mut dyn FnMut(&Mapped, Vec<Instruction>)) {
    for accelerator in machines() {
        let network = pipeline::prepare(model, &accelerator, None, false).unwrap();
        let mapped = pipeline::map(&network, &accelerator).unwrap();
        let instructions = mapped.program.instructions().collect();
        check(&mapped, instructions);
    }
}

#[test]
fn bits_hold_where_memory_answers_in_any_order() {
    let digits = Path::new(env!("CARGO_MANIFEST_DIR")).join("models/mnist_cnn.onnx");
    for (model, seeds) in
        [(list(RESIDUAL), 0..4), (list(DEEP), 0..4), (pipeline::load_model(&digits, Some(1)).unwrap(), 0..1)]
    {
        on_each(&model, &mut |mapped, instructions| {
            assert_eq!(first_wrong(mapped, &instructions, seeds.clone()), None);
        });
    }
}

#[test]
fn without_waits_for_loads_or_of_loads_bits_are_others() {
    on_each(&list(DEEP), &mut |mapped, instructions| {
        let is_load = |instruction: &Instruction| matches!(instruction.operation, Operation::Load(_));
        let loads: BTreeSet<Token> =
            instructions.iter().filter(|instruction| is_load(instruction)).filter_map(|load| load.signals).collect();
        let mut too_early = instructions.clone();
        for instruction in &mut too_early {
            instruction.waits.retain(|token| !loads.contains(token));
        }
        assert!(first_wrong(mapped, &too_early, 0..1).is_some(), "tiles are used before they are there");
        let mut over_others = instructions;
        for load in over_others.iter_mut().filter(|instruction| is_load(instruction)) {
            load.waits.clear();
        }
        assert!(first_wrong(mapped, &over_others, 0..1).is_some(), "tiles are overwritten while they are used");
    });
}
