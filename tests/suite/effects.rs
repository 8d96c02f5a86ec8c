//! Effects of the right size: what loading weights behind the stream is worth on a real network, by the tiles of the
//! real program.
//!
//! The expected figures are those of `R`, `C` and `M` alone: ResNet-50 v1.5 with its fully connected layer, batch 1, M
//! not split, weight stationary, `W = R`; summed over array tiles, a tile takes `max(M, R)` with a shadow register,
//! `M + R` without, and `R + M + R + C - 2` where load, stream and drain follow each other.

use std::{collections::BTreeMap, path::Path};

use systole::{
    config::{
        Accelerator, AcceleratorConfig, Accumulators, Buffer, BufferLayout, Dataflow, MemoryModel, RowEnds,
        VectorFunction, WeightLoad,
    },
    engine::timing,
    ir::{Graph, Op, Quantized, Window},
    mapping::{BufferTile, LayerMapping, LoopOrder, PlanOptions, Slots, plan},
    pipeline,
    program::{Operation, Program},
};

use crate::support::{Builder, plain_config};

/// An `n x n` array with memory and buffers that do not bind, as fast as configs may be.
fn bare_array(n: u32, shadow_depth: u32, overlap_tiles: bool) -> Accelerator {
    let mut config = plain_config();
    (config.array.rows, config.array.cols) = (n, n);
    config.array.weight_load =
        WeightLoad { cycles: n, shadow_depth: u8::try_from(shadow_depth).unwrap(), ..config.array.weight_load };
    config.array.overlap_tiles = overlap_tiles;
    config.buffers.layout =
        BufferLayout::Shared(Buffer { bytes: 1 << 30, banks: 64, word_bytes: 64, ports: 2, latency: 1 });
    config.accumulators = Accumulators { bytes: 1 << 30, ..config.accumulators };
    config.memories[0].model = MemoryModel::Ideal { bandwidth_gb_per_s: 1e5, latency_ns: 0.0, turnaround_ns: 0.0 };
    (config.dma.bytes_per_cycle, config.dma.burst_bytes, config.dma.bursts_in_flight) = (4096, 4096, 4096);
    config.vector.lanes = 4096;
    Accelerator::from_valid(config)
}

/// A program of a network each of whose layers is one buffer tile.
fn unsplit(graph: &Graph<Quantized>, accelerator: &Accelerator) -> Program {
    let mut plan = plan(graph, accelerator, &PlanOptions::default()).unwrap();
    for layer in &mut plan.layers {
        if let LayerMapping::Matrix(mapping) = &mut layer.mapping {
            let shape = &mapping.shape;
            let (o, c) = (mapping.pass_outputs(), mapping.pass_channels());
            mapping.tile = BufferTile { passes: 1, n: shape.n, p: shape.p, q: shape.q, o, c };
            mapping.slots = Slots { input: 1, weight: 1, output: 1, accumulator: 1 };
            mapping.order = LoopOrder::OutputsOuter;
        }
    }
    Program::build(graph, &plan, accelerator)
}

/// ResNet-50 on a bare array, each layer one buffer tile.
fn unsplit_resnet50(accelerator: &Accelerator) -> Program {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("models/resnet50.ron");
    let model = pipeline::load_model(&path, Some(1)).unwrap();
    unsplit(&pipeline::prepare(&model, accelerator, None, false).unwrap().quantized, accelerator)
}

/// Sums over the array tiles of the program: shadow register, none, all serial.
fn laws(n: u64, program: &Program) -> [u64; 3] {
    let mut sums = [0; 3];
    for instruction in program.instructions() {
        if let Operation::Matmul(matmul) = &instruction.operation {
            let m = u64::from(matmul.stream.rows());
            sums[0] += m.max(n);
            sums[1] += m + n;
            sums[2] += n + m + n + n - 2;
        }
    }
    sums
}

/// By how many percent `b` is more than `a`.
fn more(a: u64, b: u64) -> f64 {
    100.0 * (b as f64 / a as f64 - 1.0)
}

#[test]
fn a_shadow_register_and_overlap_are_worth_on_resnet50_what_the_law_says() {
    let expected = [(16_u32, 9.1, 27.7), (32, 18.1, 56.1), (128, 29.0, 129.0)];
    for (n, without_shadow, serial) in expected {
        let program = unsplit_resnet50(&bare_array(n, 1, true));
        let [base, exposed, all] = laws(u64::from(n), &program);
        println!("{n}x{n}: exposed load +{:.1} %, serial +{:.1} %", more(base, exposed), more(base, all));
        assert!((more(base, exposed) - without_shadow).abs() <= 0.1, "{n}x{n}: shadow 0 against 1");
        assert!((more(base, all) - serial).abs() <= 0.1, "{n}x{n}: serial");
    }
}

/// The array tiles of the program one behind the other, with no more than the law's recurrence: loads behind the stream
/// (into a shadow register, or over the operand from its last beat on), streams in order.
fn recurrence(n: u64, program: &Program, shadow: bool) -> u64 {
    let latency = n + n - 2;
    let (mut loaded, mut room, mut free) = (0, 0, 0_u64);
    for instruction in program.instructions() {
        match &instruction.operation {
            Operation::Preload { .. } => loaded = loaded.max(if shadow { room } else { free.saturating_sub(1) }) + n,
            Operation::Matmul(matmul) => {
                room = free.max(loaded);
                free = room + u64::from(matmul.stream.rows());
            }
            _ => {}
        }
    }
    free + latency
}

#[test]
fn the_timing_engine_gives_the_laws_of_the_array_on_resnet50() {
    for n in [16_u32, 32, 128] {
        let busy = |shadow, overlap| {
            let accelerator = bare_array(n, shadow, overlap);
            let program = unsplit_resnet50(&accelerator);
            let report =
                timing::simulate(&accelerator, &program.header, program.instructions(), timing::Options::default())
                    .unwrap();
            let array = usize::from(accelerator.array_engine().0);
            (report.engines[array].busy.get(), recurrence(u64::from(n), &program, shadow == 1), program)
        };
        let (shadow, shadow_law, program) = busy(1, true);
        let (exposed, exposed_law, _) = busy(0, true);
        let (all, ..) = busy(0, false);
        let [max, sum, serial] = laws(u64::from(n), &program);
        // A register is overwritten in the cycle of its last use.
        let tiles = program.instructions().filter(|it| matches!(it.operation, Operation::Matmul(_))).count() as u64;
        let sum = sum - tiles;
        println!(
            "{n}x{n}: engine {shadow}, {exposed}, {all} cycles (+{:.1} %, +{:.1} %); law {max}, {sum}, {serial}; tile \
             by tile {shadow_law}, {exposed_law}",
            more(shadow, exposed),
            more(shadow, all)
        );
        // No tile is shorter than the law's. A layer's first load and last drain have nothing to hide behind.
        let alone = u64::from(n + n + n - 2) * program.layers.len() as u64;
        assert!((max..=shadow_law + alone).contains(&shadow), "{n}x{n}: {shadow} against {shadow_law} + {alone}");
        assert!((sum..=exposed_law + alone).contains(&exposed), "{n}x{n}: {exposed} against {exposed_law} + {alone}");
        assert!(more(serial, all).abs() <= 1.0, "serial: {all} cycles against {serial}");
    }
}

#[test]
fn several_arrays_share_the_work_of_one() {
    let cycles = |count| {
        let mut config = bare_array(16, 1, true).config;
        config.array.count = count;
        let accelerator = Accelerator::from_valid(config);
        let program = unsplit_resnet50(&accelerator);
        let report =
            timing::simulate(&accelerator, &program.header, program.instructions(), timing::Options::default())
                .unwrap();
        let busy = accelerator.array_engines().map(|engine| report.engines[usize::from(engine.0)].busy.get());
        (report.cycles.get(), busy.collect::<Vec<u64>>())
    };
    let (one, alone) = cycles(1);
    for count in [2, 4, 7, 64] {
        let (all, busy) = cycles(count);
        println!("{count} arrays: {all} cycles against {one}, busy for {busy:?}");
        let shared: u64 = busy.iter().sum();
        assert_eq!(busy.len(), count as usize);
        // No work is lost, none is done for nothing but loads, fill and drain, and the first array has the most.
        assert!(shared >= alone[0] && busy[0] == *busy.iter().max().unwrap(), "{count}: {busy:?}");
        if count <= 4 {
            let share = busy[0] as f64 * f64::from(count) / alone[0] as f64;
            assert!((1.0..1.06).contains(&share), "{count} arrays take {share:.3} of the work of one");
        }
        assert!(all < one, "{count} arrays: {all} cycles against {one}");
    }
}

/// Two arrays that a buffer feeds with a row a cycle take two cycles a row each: no faster than one.
#[test]
fn several_arrays_share_what_a_buffer_delivers() {
    let run = |count| {
        let mut config = bare_array(16, 1, true).config;
        config.array.count = count;
        // A row of 16 bytes a cycle.
        config.buffers.layout =
            BufferLayout::Shared(Buffer { bytes: 1 << 30, banks: 1, word_bytes: 16, ports: 1, latency: 1 });
        let accelerator = Accelerator::from_valid(config);
        let program = unsplit_resnet50(&accelerator);
        let report =
            timing::simulate(&accelerator, &program.header, program.instructions(), timing::Options::default())
                .unwrap();
        (report.cycles.get(), report.causes[timing::Cause::BufferBank])
    };
    let ((one, alone), (two, shared)) = (run(1), run(2));
    println!("one array {one} cycles, of them {alone} for the buffer; two {two}, {shared}");
    assert_eq!(alone, 0);
    assert!(shared > two / 3 && two as f64 > 0.95 * one as f64, "{one} {two} {shared}");
}

/// A FIFO takes weights out of the buffer's only slot before the array has done with those before, so that the next ones
/// can be loaded from memory meanwhile.
#[test]
fn a_weight_fifo_frees_the_weight_buffer_earlier() {
    let cycles = |tiles| {
        let mut config = bare_array(16, 1, true).config;
        config.buffers.double_buffering = false;
        config.buffers.weight_fifo_tiles = tiles;
        // A slot of weights takes about as long to come as to be used.
        config.memories[0].model = MemoryModel::Ideal { bandwidth_gb_per_s: 8.0, latency_ns: 0.0, turnaround_ns: 0.0 };
        config.dma.burst_bytes = 64;
        let accelerator = Accelerator::from_valid(config);
        let mut builder = Builder::new(1);
        let x = builder.input(&[1, 64, 6, 6]);
        let y = builder.conv(x, 64, 1, Window::UNIT);
        let graph = builder.finish(&[y]);
        let mut plan = plan(&graph, &accelerator, &PlanOptions::default()).unwrap();
        let LayerMapping::Matrix(mapping) = &mut plan.layers[0].mapping else { panic!("no product") };
        // One slot of 16 outputs: each further one waits for it.
        mapping.tile = BufferTile { passes: 1, n: 1, p: 6, q: 6, o: 16, c: 64 };
        mapping.slots = Slots { input: 1, weight: 1, output: 1, accumulator: 1 };
        mapping.order = LoopOrder::OutputsOuter;
        let program = Program::build(&graph, &plan, &accelerator);
        timing::simulate(&accelerator, &program.header, program.instructions(), timing::Options::default())
            .unwrap()
            .cycles
            .get()
    };
    let [none, one, two, four, eight] = [0, 1, 2, 4, 8].map(cycles);
    println!("no FIFO: {none} cycles; of 1, 2, 4 and 8 tiles: {one}, {two}, {four}, {eight}");
    assert!(four == two && two < one && one < none, "{none} {one} {two} {four}");
    // All four tiles of a slot wait there: more places are worth nothing.
    assert_eq!(eight, four);
}

/// A convolution of 16 channels on two images of 7 x 7 with a kernel of this size.
fn convolution(kernel: usize) -> Graph<Quantized> {
    let mut builder = Builder::new(1);
    let x = builder.input(&[2, 16, 7, 7]);
    let window = Window { kernel: [kernel; 2], pad: [kernel / 2; 4], ..Window::UNIT };
    let y = builder.conv(x, 16, 1, window);
    builder.finish(&[y])
}

/// Output pixels of each array tile of a convolution on this machine.
fn tile_pixels(config: &AcceleratorConfig, kernel: usize) -> Vec<u32> {
    let program = unsplit(&convolution(kernel), &Accelerator::from_valid(config.clone()));
    let tiles = program.instructions().filter_map(|instruction| match instruction.operation {
        // Inputs stay: sums stand as columns.
        Operation::Matmul(matmul) if config.array.dataflows == [Dataflow::IS] => Some(matmul.accumulators.cols()),
        Operation::Matmul(matmul) => Some(matmul.accumulators.rows()),
        _ => None,
    });
    tiles.collect()
}

#[test]
fn array_tiles_end_with_the_output_row_in_every_dataflow_where_the_machine_says_so() {
    let mut config = plain_config();
    config.array.weight_load.cycles = 16;
    (config.array.rows, config.array.cols, config.array.max_stream) = (16, 16, 16);
    for dataflow in [Dataflow::WS, Dataflow::OS, Dataflow::IS] {
        config.array.dataflows = vec![dataflow];
        for (ends, kernel, crosses) in [
            (RowEnds::Cross, 3, true),
            (RowEnds::StopWindows, 3, false),
            (RowEnds::StopWindows, 1, true),
            (RowEnds::Stop, 3, false),
            (RowEnds::Stop, 1, false),
        ] {
            config.array.row_ends = ends;
            let tiles = tile_pixels(&config, kernel);
            // 98 pixels: six tiles of 16 and one of 2, or fourteen rows of 7, for each of the folds of K.
            let folds = if dataflow == Dataflow::OS { 1 } else { kernel * kernel };
            let (largest, number) = if crosses { (16, 7) } else { (7, 14) };
            assert_eq!(tiles.iter().max(), Some(&largest), "{dataflow:?} {ends:?} {kernel}");
            assert_eq!(tiles.len(), number * folds, "{dataflow:?} {ends:?} {kernel}");
        }
    }
}

#[test]
fn a_host_without_hardware_loops_issues_every_piece() {
    let mut config = plain_config();
    config.array.weight_load.cycles = 16;
    (config.array.rows, config.array.cols) = (16, 16);
    config.control.hardware_loops = false;
    (config.control.preload_commands, config.control.stream_commands) = (0, 2);
    (config.control.move_rows, config.control.move_bytes) = (16, 64);
    let commands = |config: &AcceleratorConfig| {
        let program = unsplit(&convolution(3), &Accelerator::from_valid(config.clone()));
        let mut commands: BTreeMap<&str, Vec<u32>> = BTreeMap::new();
        for instruction in program.instructions() {
            let what = match instruction.operation {
                Operation::Load(_) => "load",
                Operation::Store(_) => "store",
                Operation::Preload { .. } => "preload",
                Operation::Matmul(_) => "stream",
                _ => "other",
            };
            commands.entry(what).or_default().push(instruction.commands);
        }
        commands
    };
    let each = commands(&config);
    // Weights: 2,304 bytes, 36 rows of 64. Inputs: 98 pixels of 16 bytes. Records: 128 bytes, 2 rows. Results as inputs.
    assert_eq!((&each["load"], &each["store"]), (&vec![3, 7, 1], &vec![7]));
    assert_eq!((&each["preload"], &each["stream"]), (&vec![0; 9], &vec![2; 9]));
    config.control.hardware_loops = true;
    let looped = commands(&config);
    assert_eq!((&looped["load"], &looped["store"]), (&vec![1; 3], &vec![1]));
    assert_eq!([&looped["preload"], &looped["stream"]].map(|counts| counts.iter().sum::<u32>()), [1, 0]);
}

#[test]
fn a_host_goes_over_every_tap_of_a_window() {
    let mut config = plain_config();
    config.vector.cycles.retain(|(function, _)| *function == VectorFunction::Requantize);
    (config.host.overhead_us, config.host.bandwidth_gb_per_s, config.host.elements_per_ns) = (0.0, 1e5, 0.001);
    let accelerator = Accelerator::from_valid(config);
    let cycles = |op: Op, out: usize| {
        let mut builder = Builder::new(1);
        let x = builder.input(&[1, 3, 6, 6]);
        let value = builder.graph.value(x);
        let (dtype, quant) = (value.dtype, value.quant.clone());
        let y = builder.node(op, &[x], &[1, 3, out, out], dtype, quant);
        let program = unsplit(&builder.finish(&[y]), &accelerator);
        let report =
            timing::simulate(&accelerator, &program.header, program.instructions(), timing::Options::default())
                .unwrap();
        report.engines[usize::from(accelerator.host_engine().0)].busy.get()
    };
    let window = Window { kernel: [2, 2], stride: [2, 2], ..Window::UNIT };
    // A microsecond a tap, that is 1,000 cycles: 27 means of 4, 3 of 36, 108 elements.
    for (op, out, elements) in [
        (Op::AvgPool { window, count_include_pad: false }, 3, 27 * 4),
        (Op::MaxPool { window }, 3, 27 * 4),
        (Op::GlobalAvgPool, 1, 3 * 36),
        (Op::GlobalMaxPool, 1, 3 * 36),
        (Op::Sigmoid, 6, 108),
    ] {
        let name = op.name();
        let cycles = cycles(op, out);
        assert!((elements * 1000..elements * 1000 + 10).contains(&cycles), "{name}: {cycles}");
    }
}
