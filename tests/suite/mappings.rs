//! What the mapping promises and the program relies on: loops that visit each tile once, weight images without holes,
//! shortages to the byte, residents that are neither stored nor loaded; and the verifier on hand-made programs.

use std::collections::BTreeSet;

use rand::SeedableRng;
use smallvec::SmallVec;
use systole::{
    config::{Accelerator, Buffer, BufferLayout, DepthwisePolicy, EngineId, MemoryId},
    ir::{Graph, Quantized, ValueId, Window},
    mapping::{
        LayerMapping, LoopOrder, Place, PlanOptions,
        order::{accumulation_order, may_overflow},
        plan,
    },
    program::{
        Header, Instruction, LayerId, Operation, Program, Region, Space, TensorPlace, Token, Transfer,
        orders::random_legal,
        verify::{FaultKind, verify},
    },
    tensor::{AccumulationOrder, DType, Quantization},
};

use crate::{
    layers::small_network,
    programs::mapped,
    support::{Builder, plain_config},
};

const THREE: Window = Window { kernel: [3, 3], stride: [1, 1], dilation: [1, 1], pad: [1; 4] };

/// A machine on which every loop has several trips.
fn tight() -> Accelerator {
    let mut config = plain_config();
    config.buffers.layout = BufferLayout::Shared(Buffer { bytes: 700, banks: 1, word_bytes: 8, ports: 1, latency: 1 });
    config.accumulators.bytes = 200;
    Accelerator::from_valid(config)
}

fn grouped(groups: usize) -> Graph<Quantized> {
    let mut b = Builder::new(1);
    let x = b.input(&[2, 4 * groups, 5, 4]);
    let y = b.conv(x, 6 * groups, groups, THREE);
    b.finish(&[y])
}

fn matrix(mapping: &LayerMapping) -> systole::mapping::MatrixMapping {
    match mapping {
        LayerMapping::Matrix(mapping) => *mapping,
        other => panic!("not on the array: {other:?}"),
    }
}

#[test]
fn both_loop_orders_visit_every_tile_once() {
    let program = mapped(&grouped(3), &tight()).unwrap();
    for order in [LoopOrder::OutputsOuter, LoopOrder::PixelsOuter] {
        let mut mapping = matrix(&program.layers[0].mapping);
        mapping.order = order;
        let mut tiles = BTreeSet::new();
        let mut products = 0;
        for index in 0..mapping.trips().steps() {
            let step = mapping.step(index);
            let i = step.index;
            assert!(tiles.insert([i.passes, i.n, i.p, i.q, i.o, i.c]), "{order:?}: tile {i:?} twice");
            let extents = [step.passes.len, step.n.len, step.p.len, step.q.len, step.o.len, step.c.len];
            products += extents.iter().map(|&len| u64::from(len)).product::<u64>() * mapping.shape.taps();
        }
        assert!(tiles.len() > 8, "the machine is too large for the test");
        assert_eq!(products, mapping.shape.macs(), "{order:?}");
    }
}

#[test]
fn the_tiles_of_a_weight_image_cover_it_without_holes() {
    for (groups, policy) in
        [(1, DepthwisePolicy::PerGroup), (3, DepthwisePolicy::PerGroup), (4, DepthwisePolicy::BlockDiagonal)]
    {
        let mut config = tight().config;
        config.depthwise = policy;
        config.array.rows = 40;
        config.array.cols = 12;
        let program = mapped(&grouped(groups), &Accelerator::from_valid(config)).unwrap();
        let (image, mapping) = (&program.header.weights[0], matrix(&program.layers[0].mapping));
        let trips = mapping.trips();
        let mut pieces = Vec::new();
        for pass in 0..image.passes {
            for o in 0..trips.o {
                for c in 0..trips.c {
                    let outputs = image.output_tile.min(image.outputs - o * image.output_tile);
                    let channels = image.channel_tile.min(image.channels - c * image.channel_tile);
                    let bytes = u64::from(outputs) * u64::from(channels) * 9 * u64::from(image.element.bytes());
                    pieces.push((image.tile_address(pass, o, c), bytes));
                }
            }
        }
        pieces.sort_unstable();
        let mut next = image.base;
        for (address, bytes) in pieces {
            assert_eq!(address, next, "{groups} groups");
            next += bytes;
        }
        assert!(image.base + image.parameters_offset - next < 4, "only alignment before the records");
        assert_eq!(image.base + image.bytes, image.base + image.parameters_offset + 6 * groups as u64 * 8);
    }
}

#[test]
fn images_and_tensors_in_memory_do_not_overlap() {
    let program = mapped(&small_network(5), &tight()).unwrap();
    let header = &program.header;
    let mut taken: Vec<(u64, u64)> =
        header.weights.iter().map(|image| (image.base, image.base + image.bytes)).collect();
    // Parts of concatenations and aliases lie in others and are not contiguous or not first at their address.
    let mut bases = BTreeSet::new();
    for place in header.tensors.iter().filter(|place| matches!(place.space, Space::Memory(_))) {
        let elements: usize = place.shape.iter().product();
        let reach: u64 = place.shape.iter().zip(&place.strides).map(|(&dim, &stride)| (dim as u64 - 1) * stride).sum();
        if reach + 1 == elements as u64 && bases.insert(place.base) {
            taken.push((place.base, place.base + elements as u64));
        }
    }
    taken.sort_unstable();
    assert!(taken.windows(2).all(|pair| pair[0].1 <= pair[1].0), "{taken:?}");
    assert!(taken.last().unwrap().1 <= header.memory_bytes[0]);
}

#[test]
fn a_layer_that_fits_nowhere_says_which_buffer_is_short_by_how_much() {
    let buffer = |bytes| Buffer { bytes, banks: 1, word_bytes: 8, ports: 1, latency: 1 };
    // The smallest tile: 3x3 taps of one channel, 9 weights and a record of 8 bytes, one output, one accumulator.
    let cases = [
        ([8, 100, 100], 64, "input buffer", "1 bytes short"),
        ([100, 13, 100], 64, "weight buffer", "4 bytes short"),
        ([100, 100, 100], 3, "accumulators", "1 bytes short"),
    ];
    for ([input, weight, output], accumulators, name, shortage) in cases {
        let mut config = plain_config();
        config.buffers.layout =
            BufferLayout::Split { input: buffer(input), weight: buffer(weight), output: buffer(output) };
        (config.array.rows, config.array.cols) = (1, 1);
        let mut accelerator = Accelerator::from_valid(config);
        // No legal machine lacks room for one; the planner says so all the same.
        accelerator.config.accumulators.bytes = accumulators;
        let faults = plan(&grouped(1), &accelerator, &PlanOptions::default()).unwrap_err();
        assert_eq!(faults.0.len(), 1);
        let fault = &faults.0[0];
        assert!(fault.message.contains(name) && fault.message.contains(shortage), "{faults}");
        assert_eq!(fault.path.as_deref(), Some("node \"Conv_0\" (Conv)"));
    }
}

#[test]
fn planning_twice_gives_the_same_plan() {
    let graph = small_network(11);
    let texts: Vec<String> =
        (0..2).map(|_| format!("{:?}", plan(&graph, &tight(), &PlanOptions::default()).unwrap().layers)).collect();
    assert_eq!(texts[0], texts[1]);
}

#[test]
fn residents_alternate_ends_and_are_neither_stored_nor_loaded() {
    let mut b = Builder::new(2);
    let x = b.input(&[1, 8, 8, 8]);
    let first = b.conv(x, 8, 1, THREE);
    let second = b.conv(first, 8, 1, THREE);
    let third = b.conv(second, 8, 1, THREE);
    let graph = b.finish(&[third]);
    let mut config = plain_config();
    config.residency = true;
    let accelerator = Accelerator::from_valid(config);
    let plan = plan(&graph, &accelerator, &PlanOptions::default()).unwrap();
    assert_eq!(plan.places[first.index()], Some(Place::Resident { top: true }));
    assert_eq!(plan.places[second.index()], Some(Place::Resident { top: false }));
    assert_eq!(plan.places[third.index()], Some(Place::Memory));
    let predicted: Vec<_> =
        plan.layers.iter().map(|layer| (layer.predicted.input_bytes, layer.predicted.output_bytes)).collect();
    assert_eq!((predicted[0].1, predicted[1], predicted[2].0), (0, (0, 0), 0));
    let program = Program::build(&graph, &plan, &accelerator);
    // 8 x 8 x 8 bytes at each end.
    assert_eq!(program.layers[0].free, (0, 65536 - 512));
    assert_eq!(program.layers[1].free, (512, 65536 - 512));
    assert_eq!(program.layers[2].free, (512, 65536));
    for instruction in program.instructions() {
        let layer = instruction.layer.index();
        match &instruction.operation {
            Operation::Store(_) => assert_eq!(layer, 2, "a resident is stored"),
            Operation::Load(transfer) => {
                let image = &program.header.weights[layer];
                let base = u64::try_from(transfer.source.base).unwrap();
                let is_weights = (image.base..image.base + image.bytes).contains(&base);
                assert!(layer == 0 || is_weights, "a resident is loaded in layer {layer}");
            }
            _ => {}
        }
    }
}

#[test]
fn overflow_is_possible_exactly_from_the_width_that_the_worst_sum_leaves() {
    for transposed in [true, false] {
        let mut b = Builder::new(3);
        let x = b.input(&[2, 3, 5]);
        let y = b.matmul(x, 1);
        let node = b.graph.nodes.last().unwrap().clone();
        b.graph.value_mut(x).dtype = DType::Int8;
        b.graph.value_mut(x).quant = Some(Quantization::per_tensor(0.1, 0));
        b.graph.value_mut(node.inputs[1]).quant = Some(Quantization::per_tensor(0.1, 0));
        if !transposed {
            b.graph.value_mut(node.inputs[1]).shape.reverse();
        }
        let bias = systole::tensor::Tensor::from_integers(DType::Int32, &[1], &[-49_151]).unwrap();
        b.graph.value_mut(node.inputs[2]).constant = Some(systole::ir::Constant::Dense(std::sync::Arc::new(bias)));
        let mut graph = b.finish(&[y]);
        let overflows = |graph: &Graph<Quantized>, column, accumulator| {
            let mut config = plain_config();
            config.array.column_bits = column;
            config.accumulators.bits = accumulator;
            may_overflow(graph, &graph.nodes[0], &Accelerator::from_valid(config))
        };
        // 5 x 128 x 128 + 49,151 = 131,071 = 2^17 - 1.
        assert!(!overflows(&graph, 18, 18));
        assert!(overflows(&graph, 17, 64) && overflows(&graph, 64, 17));
        assert!(!overflows(&graph, 64, 64) && overflows(&graph, 8, 8));
        // One more on either side.
        graph.value_mut(node.inputs[0]).quant = Some(Quantization::per_tensor(0.1, 1));
        assert!(overflows(&graph, 18, 18));
    }
}

#[test]
fn the_order_of_additions_is_a_permutation_cut_into_chunks_of_k() {
    for dataflow in [systole::config::Dataflow::WS, systole::config::Dataflow::OS] {
        let mut config = tight().config;
        config.array.dataflows = vec![dataflow];
        config.array.column_bits = 12;
        config.accumulators.bytes = 256;
        let accelerator = Accelerator::from_valid(config);
        let program = mapped(&grouped(2), &accelerator).unwrap();
        let mapping = matrix(&program.layers[0].mapping);
        let AccumulationOrder::Chunked { mut permutation, chunks, .. } = accumulation_order(&mapping, &accelerator)
        else {
            panic!("narrow columns have an order")
        };
        assert_eq!(chunks.iter().sum::<u32>(), 36, "3 x 3 taps of 4 channels");
        permutation.sort_unstable();
        assert!(permutation.into_iter().eq(0..36));
    }
}

/// Where the hand-made programs play: memory 0..32 holds a constant, 32..64 nothing.
fn stage() -> Header {
    let constant = TensorPlace {
        value: ValueId(0),
        name: "c".into(),
        shape: vec![32],
        dtype: DType::Int8,
        space: Space::Memory(MemoryId(0)),
        base: 0,
        layout: systole::mapping::Layout::Rows,
        strides: vec![1],
    };
    Header {
        name: "by hand".into(),
        layers: vec![],
        tensors: vec![constant],
        weights: vec![],
        memory_bytes: vec![64],
        packed: vec![],
        buffer_scale: 1,
        inputs: vec![],
        outputs: vec![],
    }
}

const LOAD: u8 = 0;
const STORE: u8 = 3;
const HOST: u8 = 4;

fn memory(base: i64) -> Region {
    Region::flat(Space::Memory(MemoryId(0)), base, 1, 8)
}

fn buffer(base: i64) -> Region {
    Region::flat(Space::Buffer(systole::config::BufferId(0)), base, 1, 8)
}

/// A transfer on an engine.
fn moves(engine: u8, target: Region, source: Region, waits: &[u32], signals: Option<u32>) -> Instruction {
    Instruction {
        index: 0,
        layer: LayerId(0),
        engine: EngineId(engine),
        commands: 1,
        operation: Operation::Move(Transfer { source, target }),
        waits: waits.iter().map(|&token| Token(token)).collect::<SmallVec<[Token; 4]>>(),
        signals: signals.map(Token),
    }
}

fn faults_of(program: Vec<Instruction>) -> Vec<(u64, FaultKind)> {
    let accelerator = Accelerator::from_valid(plain_config());
    let numbered = (0..).zip(program).map(|(index, instruction)| Instruction { index, ..instruction });
    let report = verify(&accelerator, &stage(), numbered, &|_| true);
    report.faults.iter().map(|fault| (fault.instruction, fault.kind)).collect()
}

#[test]
fn each_kind_of_fault_is_found_in_a_program_of_a_few_moves() {
    let load = |signals| moves(LOAD, buffer(0), memory(0), &[], signals);
    let store = |waits: &[u32], to| moves(STORE, memory(to), buffer(0), waits, None);
    let good = vec![load(Some(0)), store(&[0], 32), moves(LOAD, buffer(8), memory(8), &[], None)];
    assert_eq!(faults_of(good), []);
    let cases = [
        (FaultKind::ReadsUnwritten, 0, vec![moves(LOAD, buffer(0), memory(40), &[], None)]),
        (FaultKind::ReadsTooEarly, 1, vec![load(Some(0)), store(&[], 32)]),
        (FaultKind::OverwritesWrite, 1, vec![load(Some(0)), moves(HOST, buffer(4), memory(0), &[], None)]),
        (FaultKind::OverwritesRead, 2, vec![load(Some(0)), store(&[0], 32), load(None)]),
        (FaultKind::WritesMemoryTwice, 2, vec![load(Some(0)), store(&[0], 32), store(&[], 36)]),
        (FaultKind::WritesMemoryTwice, 1, vec![load(Some(0)), store(&[0], 28)]),
        (FaultKind::OutOfBounds, 0, vec![moves(LOAD, buffer(65536 - 7), memory(0), &[], None)]),
        (FaultKind::OutOfBounds, 0, vec![moves(LOAD, buffer(-1), memory(0), &[], None)]),
        (FaultKind::OutOfBounds, 0, vec![moves(LOAD, buffer(0), memory(-8), &[], None)]),
        (FaultKind::UnknownToken, 1, vec![load(None), moves(LOAD, buffer(8), memory(0), &[7], None)]),
        (FaultKind::SignalledTwice, 1, vec![load(Some(0)), moves(LOAD, buffer(8), memory(0), &[], Some(0))]),
        (FaultKind::RedundantWait, 1, vec![load(Some(0)), moves(LOAD, buffer(8), memory(0), &[0], None)]),
    ];
    for (kind, at, program) in cases {
        assert_eq!(faults_of(program), [(at, kind)], "{kind:?}");
    }
}

#[test]
fn random_orders_respect_tokens_and_engines() {
    let accelerator = Accelerator::from_valid(plain_config());
    let program = mapped(&small_network(9), &accelerator).unwrap();
    let instructions: Vec<Instruction> = program.instructions().collect();
    let mut random = rand_chacha::ChaCha8Rng::seed_from_u64(4);
    let mut seen = BTreeSet::new();
    for _ in 0..5 {
        let order = random_legal(&instructions, accelerator.engines.len(), &mut random);
        assert_eq!(order.iter().copied().collect::<BTreeSet<_>>().len(), instructions.len());
        let mut signalled = BTreeSet::new();
        let mut last = vec![None; accelerator.engines.len()];
        for &at in &order {
            let instruction = &instructions[at];
            assert!(instruction.waits.iter().all(|token| signalled.contains(token)), "{at} runs too early");
            let engine = usize::from(instruction.engine.0);
            assert!(last[engine] < Some(at), "engine {engine} is out of order at {at}");
            last[engine] = Some(at);
            signalled.extend(instruction.signals);
        }
        seen.insert(order);
    }
    assert!(seen.len() > 1, "the orders are all the same");
}

/// `cargo test --release --test suite search_takes -- --ignored --nocapture`.
#[test]
#[ignore = "measures the host"]
fn search_takes_milliseconds_a_shape() {
    use std::{collections::BTreeSet, path::Path, time::Instant};
    use systole::{
        ir::Op,
        mapping::{
            cost::Rates,
            search::{Constraints, best},
            shape::MatrixShape,
        },
        pipeline,
    };
    let mut times = Vec::new();
    for machine in ["edge_16x16", "edge_32x32", "gemmini_like", "tpu_v1_like"] {
        let accelerator = pipeline::load_config(machine, &[]).unwrap();
        let rates = Rates::of(&accelerator);
        for model in ["alexnet", "vgg16", "resnet50", "mobilenet_v2", "googlenet"] {
            let path = Path::new(env!("CARGO_MANIFEST_DIR")).join(format!("models/{model}.ron"));
            let model = pipeline::load_model(&path, None).unwrap();
            let network = pipeline::prepare(&model, &accelerator, None, true).unwrap();
            let graph = &network.quantized;
            let shapes: BTreeSet<MatrixShape> = graph
                .nodes
                .iter()
                .filter(|node| matches!(node.op, Op::Conv { .. } | Op::MatMul { .. }))
                .filter_map(|node| MatrixShape::of(graph, node).ok())
                .collect();
            for shape in shapes {
                // The shortest of several: others may use the same core.
                let search = || {
                    let begin = Instant::now();
                    let found = best(&shape, &accelerator, &rates, Constraints::default());
                    (begin.elapsed(), found.map_or(0, |found| found.evaluated))
                };
                let (time, evaluated) = (0..5).map(|_| search()).min().unwrap();
                times.push((time, machine, evaluated, shape));
            }
        }
    }
    times.sort_unstable();
    let at = |share: usize| times[(times.len() - 1) * share / 100].0;
    println!("{} shapes: median {:?}, 95th percentile {:?}", times.len(), at(50), at(95));
    for (time, machine, evaluated, shape) in times.iter().rev().take(5) {
        println!("{time:?} {machine}: {evaluated} mappings of {shape:?}");
    }
}
