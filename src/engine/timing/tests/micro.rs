//! Micro-programs worked out by hand: every cycle and its cause.

use super::{super::Cause::*, *};
use crate::config::{Accumulate, OutputSkew};

#[test]
fn one_tile_loads_streams_and_drains() {
    let mut program = Builder::default();
    program.preload(&[]);
    program.matmul(10, 0, false, &[]);
    let report = program.run(&config());
    assert_eq!(report.causes, vector(&[(WeightLoad, 4), (ArrayStreaming, 10), (FillDrain, 6)]));
    assert_eq!(report.cycles.0, 20);
    assert_eq!(report.layers[0].beats.0, 10);
    assert_eq!(report.layers[0].array_busy.0, 20);
    assert_eq!(report.engines[usize::from(ARRAY.0)].busy.0, 20);
    assert_eq!(report.layers[0].array_macs.0, 160);
}

#[test]
fn a_shadow_register_hides_the_second_load() {
    let mut program = Builder::default();
    for _ in 0..2 {
        program.preload(&[]);
        program.matmul(10, 0, false, &[]);
    }
    let mut machine = config();
    let causes = |machine: &AcceleratorConfig| program.run(machine).causes;
    assert_eq!(causes(&machine), vector(&[(WeightLoad, 4), (ArrayStreaming, 20), (FillDrain, 6)]));
    machine.array.overlap_tiles = false;
    assert_eq!(causes(&machine), vector(&[(WeightLoad, 4), (ArrayStreaming, 20), (FillDrain, 12)]));
    machine.array.weight_load.shadow_depth = 0;
    assert_eq!(causes(&machine), vector(&[(WeightLoad, 8), (ArrayStreaming, 20), (FillDrain, 12)]));
    machine.array.overlap_tiles = true;
    assert_eq!(causes(&machine), vector(&[(WeightLoad, 8), (ArrayStreaming, 19), (FillDrain, 6)]));
}

#[test]
fn a_load_longer_than_the_stream_shows_unless_the_shadow_is_deep_and_the_stream_late() {
    let mut program = Builder::default();
    let data = program.load(64, &[]);
    for _ in 0..3 {
        program.preload(&[]);
        program.matmul(2, 0, false, &[data]);
    }
    let mut machine = config();
    machine.array.weight_load.cycles = 5;
    // Data at 21, S0 = 21, P1 = 21..26, S1 = 26, P2 = 26..31, S2 = 31..33, out at 39.
    let expected = [(MemoryBandwidth, 1), (MemoryLatency, 20), (WeightLoad, 10), (ArrayStreaming, 2), (FillDrain, 6)];
    assert_eq!(program.run(&machine).causes, vector(&expected));
    // With two shadow registers, P1 = 5..10 and P2 waits for S0: S1 = 23, P2 = 21..26, S2 = 26..28.
    machine.array.weight_load.shadow_depth = 2;
    let expected = [(MemoryBandwidth, 1), (MemoryLatency, 20), (WeightLoad, 5), (ArrayStreaming, 2), (FillDrain, 6)];
    assert_eq!(program.run(&machine).causes, vector(&expected));
    machine.array.weight_load.shadow_depth = 3;
    let expected = [(MemoryBandwidth, 1), (MemoryLatency, 20), (ArrayStreaming, 6), (FillDrain, 6)];
    assert_eq!(program.run(&machine).causes, vector(&expected));
}

#[test]
fn a_tile_waits_for_the_token_of_its_load() {
    let mut program = Builder::default();
    let data = program.load(64, &[]);
    program.preload(&[]);
    program.matmul(10, 0, false, &[data]);
    let report = program.run(&config());
    let expected = [(MemoryBandwidth, 1), (MemoryLatency, 20), (ArrayStreaming, 10), (FillDrain, 6)];
    assert_eq!(report.causes, vector(&expected));
    assert_eq!(report.engines[usize::from(ARRAY.0)].busy.0, 20);
    assert_eq!(report.engines[usize::from(ARRAY.0)].waiting_token.0, 17);
}

#[test]
fn a_slow_memory_binds_by_its_bandwidth() {
    let mut program = Builder::default();
    program.load(1024, &[]);
    let mut machine = config();
    memory(&mut machine, 8.0, 20.0);
    // 16 bursts of 8 cycles each, never a pause, and the last one's latency.
    assert_eq!(program.run(&machine).causes, vector(&[(MemoryBandwidth, 128), (MemoryLatency, 20)]));
}

#[test]
fn one_burst_in_flight_binds_by_latency() {
    let mut program = Builder::default();
    program.load(256, &[]);
    let mut machine = config();
    machine.dma.bursts_in_flight = 1;
    assert_eq!(program.run(&machine).causes, vector(&[(MemoryBandwidth, 4), (MemoryLatency, 80)]));
}

#[test]
fn a_fast_memory_leaves_the_engine_s_own_rate() {
    let mut program = Builder::default();
    program.load(1024, &[]);
    let mut machine = config();
    machine.dma.descriptor_cycles = 7;
    // Descriptor, 15 steps of 4 cycles to the last request, then that burst.
    let expected = [(Move, 67), (MemoryBandwidth, 1), (MemoryLatency, 20)];
    assert_eq!(program.run(&machine).causes, vector(&expected));
    // Without latency the engine still has to move the last burst.
    memory(&mut machine, 64.0, 0.0);
    assert_eq!(program.run(&machine).causes, vector(&[(Move, 71)]));
}

#[test]
fn without_strides_each_run_takes_a_descriptor() {
    let mut program = Builder::default();
    program.load_rows(5, 64, 128);
    let mut machine = config();
    machine.dma.descriptor_cycles = 7;
    memory(&mut machine, 64.0, 0.0);
    // One descriptor, or five, and five bursts of four cycles.
    assert_eq!(program.run(&machine).causes, vector(&[(Move, 7 + 20)]));
    machine.dma.strides = false;
    assert_eq!(program.run(&machine).causes, vector(&[(Move, 35 + 20)]));
}

#[test]
fn alignment_widens_what_a_run_moves() {
    let mut program = Builder::default();
    program.load_rows(3, 64, 1024);
    let mut machine = config();
    memory(&mut machine, 64.0, 0.0);
    for (alignment, bursts) in [(1, 1), (64, 1), (128, 2), (512, 8)] {
        machine.dma.alignment_bytes = alignment;
        let report = program.run(&machine);
        assert_eq!(report.causes, vector(&[(Move, 3 * bursts * 4)]));
        assert_eq!(report.memories[0].moved.get(), 3 * bursts * 64);
    }
}

#[test]
fn requests_in_flight_are_shared_by_transfers_that_follow_each_other() {
    let mut program = Builder::default();
    program.load(64, &[]);
    program.load(64, &[]);
    let mut machine = config();
    // The second is requested at 4, when the engine has moved the first's worth.
    assert_eq!(program.run(&machine).cycles.0, 25);
    machine.dma.bursts_in_flight = 1;
    assert_eq!(program.run(&machine).causes, vector(&[(MemoryBandwidth, 2), (MemoryLatency, 40)]));
}

#[test]
fn two_engines_share_a_memory_first_come_first_served() {
    let mut program = Builder::default();
    program.load(512, &[]);
    program.store(512, &[]);
    let mut machine = config();
    memory(&mut machine, 16.0, 20.0);
    machine.dma.bytes_per_cycle = 64;
    // 16 bursts of 4 cycles; in turn, because each engine asks once a cycle until eight are in flight.
    let report = program.run(&machine);
    assert_eq!(report.causes, vector(&[(MemoryBandwidth, 64), (MemoryLatency, 20)]));
    assert_eq!(report.engines[usize::from(LOAD.0)].busy.0, 80);
    assert_eq!(report.memories[0].busy.0, 64_000_000);
    assert_eq!([report.memories[0].read.0, report.memories[0].written.0, report.memories[0].moved.0], [512, 512, 1024]);
}

#[test]
fn a_full_queue_holds_the_issue_unit() {
    let mut program = Builder::default();
    for _ in 0..3 {
        program.vector(VectorKind::Add, 40, &[]);
    }
    program.load(64, &[]);
    let mut machine = config();
    machine.control.issue_cycles = 2;
    machine.control.queue_depth = 1;
    // Issued at 2, 4 and, when the second has started at 12, at 14; the load at 16 and done at 37.
    let report = program.run(&machine);
    let expected = [(Issue, 6), (Vector, 10), (MemoryBandwidth, 1), (MemoryLatency, 20)];
    assert_eq!(report.causes, vector(&expected));
    assert_eq!(report.issue_stalled.0, 8);
    machine.control.queue_depth = 2;
    assert_eq!(program.run(&machine).causes, vector(&[(Issue, 2), (Vector, 30)]));
}

#[test]
fn a_hardware_loop_s_body_takes_no_issue_and_no_queue() {
    let mut program = Builder::default();
    program.preload(&[]);
    for _ in 0..5 {
        program.matmul(10, 0, false, &[]);
    }
    program.load(64, &[]);
    for instruction in &mut program.instructions[1..6] {
        instruction.commands = 0;
    }
    let mut machine = config();
    machine.control.issue_cycles = 3;
    machine.control.queue_depth = 1;
    let report = program.run(&machine);
    assert_eq!(report.causes, vector(&[(Issue, 3), (WeightLoad, 4), (ArrayStreaming, 50), (FillDrain, 6)]));
    assert_eq!(report.issue_stalled.0, 0);
}

/// Two streams of 10 rows, the weights with the first one's commands, each of so many commands.
fn two_streams(commands: u32) -> Builder {
    let mut program = Builder::default();
    program.preload(&[]);
    program.matmul(10, 0, false, &[]);
    program.matmul(10, 40, false, &[]);
    for (instruction, commands) in program.instructions.iter_mut().zip([0, commands, commands]) {
        instruction.commands = commands;
    }
    program
}

#[test]
fn an_instruction_of_several_commands_takes_the_issue_of_each() {
    let mut machine = config();
    machine.control.issue_cycles = 7;
    // The second is issued at 28, when the first has streamed from 14 to 24.
    let expected = [(Issue, 28), (ArrayStreaming, 10), (FillDrain, 6)];
    assert_eq!(two_streams(2).run(&machine).causes, vector(&expected));
}

#[test]
fn an_idle_array_that_flushes_waits_for_its_last_result() {
    let mut machine = config();
    machine.control.issue_cycles = 7;
    machine.array.flush_idle = true;
    // Idle at 24, flushed at 30.
    let expected = [(Issue, 14), (ArrayStreaming, 20), (FillDrain, 12)];
    assert_eq!(two_streams(2).run(&machine).causes, vector(&expected));
    // Issued at 14, while the first streams from 7 to 17.
    let expected = [(Issue, 7), (ArrayStreaming, 20), (FillDrain, 6)];
    assert_eq!(two_streams(1).run(&machine).causes, vector(&expected));
}

#[test]
fn a_tile_that_accumulates_waits_where_sums_are_injected() {
    use Accumulate::{AtOutput, InjectRows, InjectSkewed};
    let run = |accumulate: Accumulate, [rows, second]: [u32; 2], first: i64, adds: bool| {
        let mut program = Builder::default();
        program.preload(&[]);
        program.matmul(rows, 40, false, &[]);
        program.matmul(second, 40 + first, adds, &[]);
        let mut machine = config();
        machine.array.dataflows = vec![Dataflow::WS];
        machine.array.accumulate = accumulate;
        if accumulate == Accumulate::InjectSkewed {
            machine.array.output = OutputSkew::Skewed;
        }
        let causes = program.run(&machine).causes;
        assert_eq!(causes.0[WeightLoad as usize], 4);
        (causes.0[FillDrain as usize], causes.0[ArrayStreaming as usize])
    };
    // Nothing waits for adders behind the columns.
    assert_eq!(run(AtOutput, [3, 3], 0, true), (6, 6));
    // A row of sums is injected R + C - 1 after its operands, or R after them, column by column.
    assert_eq!(run(InjectRows, [3, 3], 0, true), (7 + 6, 3));
    assert_eq!(run(InjectSkewed, [3, 3], 0, true), (4 + 6, 3));
    // Shifted by one row, the second tile needs row 1 first, or what comes before row 0 later.
    assert_eq!(run(InjectRows, [3, 3], 4, true), (8 + 6, 3));
    assert_eq!(run(InjectRows, [3, 3], -4, true), (6 + 6, 3));
    assert_eq!(run(InjectRows, [3, 1], -4, true), (6, 4));
    // As long as the pipeline, elsewhere, or overwriting: nothing waits.
    assert_eq!(run(InjectRows, [6, 6], 0, true), (7 + 6, 6));
    assert_eq!(run(InjectRows, [7, 7], 0, true), (6, 14));
    assert_eq!(run(InjectSkewed, [4, 4], 0, true), (6, 8));
    assert_eq!(run(InjectRows, [3, 3], 12, true), (6, 6));
    assert_eq!(run(InjectRows, [3, 3], 0, false), (6, 6));
}

#[test]
fn layers_partition_the_timeline_and_clip_what_began_before() {
    let mut program = Builder::default();
    program.vector(VectorKind::Add, 40, &[]);
    program.layer = 1;
    program.load(64, &[]);
    program.layer = 3;
    program.vector(VectorKind::Add, 16, &[]);
    program.layer = 4;
    program.vector(VectorKind::Add, 60, &[]);
    let report = program.run(&config());
    // 0..10, 0..21, nothing, 10..14, 14..29.
    let cycles: Vec<u64> = report.layers.iter().map(|layer| layer.cycles.0).collect();
    let spans: Vec<u64> = report.layers.iter().map(|layer| layer.span.0).collect();
    assert_eq!(cycles, [10, 11, 0, 0, 8]);
    assert_eq!(spans, [10, 21, 0, 14, 29]);
    assert_eq!(report.layers[0].causes, vector(&[(Vector, 10)]));
    assert_eq!(report.layers[1].causes, vector(&[(MemoryLatency, 11)]));
    assert_eq!(report.layers[3].causes, vector(&[]));
    assert_eq!(report.layers[4].causes, vector(&[(Vector, 8)]));
}

#[test]
fn a_tile_s_results_go_through_the_vector_unit_to_memory() {
    let mut program = Builder::default();
    program.preload(&[]);
    let sums = program.matmul(10, 0, false, &[]);
    let outputs = program.vector(VectorKind::Requantize, 40, &[sums]);
    program.store(40, &[outputs]);
    let mut machine = config();
    let mut expected = vec![
        (WeightLoad, 4),
        (ArrayStreaming, 10),
        (FillDrain, 6),
        (Vector, 10),
        (MemoryBandwidth, 1),
        (MemoryLatency, 20),
    ];
    assert_eq!(program.run(&machine).causes, vector(&expected));
    // Startup, and a read port of one accumulator a cycle.
    machine.vector.startup_cycles = 5;
    machine.accumulators.read_width = 1;
    expected[3] = (Vector, 45);
    assert_eq!(program.run(&machine).causes, vector(&expected));
}

#[test]
fn a_slower_vector_clock_rounds_to_its_own_edges() {
    let mut program = Builder::default();
    program.preload(&[]);
    let sums = program.matmul(9, 0, false, &[]);
    program.vector(VectorKind::Requantize, 4, &[sums]);
    let mut machine = config();
    machine.vector.clock_mhz = 500.0;
    // Sums at 19, the unit's next edge at 20, one cycle of it to 22.
    assert_eq!(
        program.run(&machine).causes,
        vector(&[(WeightLoad, 4), (ArrayStreaming, 9), (FillDrain, 6), (Vector, 3)])
    );
    // Edges at multiples of 3.3 ns: 19.98 to 23.31, in array cycles 24.
    machine.vector.clock_mhz = 300.0;
    assert_eq!(program.run(&machine).cycles.0, 24);
}

#[test]
fn a_fence_waits_for_all_and_a_launch_comes_first() {
    let mut program = Builder::default();
    program.load(64, &[]);
    program.fence();
    program.vector(VectorKind::Add, 40, &[]);
    let mut machine = config();
    machine.control.fence_cycles = 5;
    let expected = [(MemoryBandwidth, 1), (MemoryLatency, 20), (Fence, 5), (Vector, 10)];
    assert_eq!(program.run(&machine).causes, vector(&expected));
    machine.control.launch_cycles = 3;
    machine.control.issue_cycles = 1;
    // Launch to 3, load issued at 4, data at 25; the fence's own issue hides; fence to 30; issue, vector.
    let expected = [(Fence, 8), (Issue, 2), (MemoryBandwidth, 1), (MemoryLatency, 20), (Vector, 10)];
    assert_eq!(program.run(&machine).causes, vector(&expected));
}

#[test]
fn a_narrow_buffer_stretches_beats() {
    let mut program = Builder::default();
    program.preload(&[]);
    program.matmul(10, 0, false, &[]);
    let mut machine = config();
    let BufferLayout::Shared(pool) = &mut machine.buffers.layout else { unreachable!() };
    [pool.banks, pool.word_bytes] = [1, 3];
    let report = program.run(&machine);
    let expected = [(WeightLoad, 4), (ArrayStreaming, 10), (BufferBank, 10), (FillDrain, 6)];
    assert_eq!(report.causes, vector(&expected));
    assert_eq!(report.layers[0].beats.0, 10);
}

#[test]
fn a_minimum_stream_is_time_and_not_beats() {
    let mut program = Builder::default();
    program.preload(&[]);
    program.matmul(2, 0, false, &[]);
    program.matmul(2, 100, false, &[]);
    let mut machine = config();
    machine.array.min_stream = 8;
    let report = program.run(&machine);
    // S0 = 4, S1 = 12, results at 12 + 2 + 6.
    assert_eq!(report.causes, vector(&[(WeightLoad, 4), (ArrayStreaming, 10), (FillDrain, 6)]));
    assert_eq!(report.layers[0].beats.0, 4);
}

#[test]
fn output_stationary_tiles_overlap_until_the_shift_chain_binds() {
    let run = |k: u32| {
        let mut program = Builder::default();
        program.output_stationary(4, k, &[]);
        program.output_stationary(4, k, &[]);
        program.run(&config()).causes
    };
    assert_eq!(run(10), vector(&[(ArrayStreaming, 20), (FillDrain, 10)]));
    // Two beats, but four cycles to shift out.
    assert_eq!(run(2), vector(&[(ArrayStreaming, 4), (FillDrain, 12)]));
}

#[test]
fn folds_that_hold_their_sums_are_one_tile() {
    let run = |folds: &[u32], overlap: bool| {
        let mut program = Builder::default();
        for _ in 0..2 {
            for (index, &k) in folds.iter().enumerate() {
                program.fold(4, k, [index > 0, index + 1 < folds.len()], &[]);
            }
        }
        let mut machine = config();
        machine.array.overlap_tiles = overlap;
        program.run(&machine).causes
    };
    assert_eq!(run(&[3, 4, 3], true), run(&[10], true));
    assert_eq!(run(&[3, 4, 3], false), run(&[10], false));
    // Two of two beats, 6 + 4 after the first and after the last.
    assert_eq!(run(&[2, 2], false), vector(&[(ArrayStreaming, 8), (FillDrain, 20)]));
    // The second tile's three beats end when the first one's four rows are out: its last fold waits for that, and not for
    // its first.
    assert_eq!(run(&[1, 2], true), vector(&[(ArrayStreaming, 5), (FillDrain, 12)]));
}

#[test]
fn a_change_of_dataflow_empties_the_array() {
    let mut program = Builder::default();
    program.preload(&[]);
    program.matmul(10, 0, false, &[]);
    program.layer = 1;
    program.output_stationary(4, 10, &[]);
    let mut machine = config();
    machine.array.dataflow_switch_cycles = 9;
    let accelerator = Accelerator::from_valid(machine);
    let mut header = header(2);
    header.layers[1].dataflow = Some(Dataflow::OS);
    let run = |header: &Header| {
        simulate(&accelerator, header, program.instructions.iter().cloned(), Options::default()).unwrap()
    };
    // 20, then 9 to switch, 10 beats, 6 + 4 out.
    assert_eq!(run(&header).layers[1].causes, vector(&[(FillDrain, 19), (ArrayStreaming, 10)]));
    header.layers[1].dataflow = Some(Dataflow::WS);
    assert_eq!(run(&header).cycles.0, 34);
}

#[test]
fn the_host_costs_overhead_bytes_and_elements() {
    let mut program = Builder::default();
    program.host(1000, &[]);
    let report = program.run(&config());
    // 5 us, 2,000 bytes at 4 GB/s, 1,000 elements at 1 a ns.
    assert_eq!(report.causes, vector(&[(Host, 6500)]));
    let memory = &report.memories[0];
    assert_eq!([memory.read.0, memory.written.0, memory.moved.0, memory.host.0], [1000, 1000, 2000, 2000]);
    assert_eq!(memory.peak_window.0, 308);
    assert_eq!(report.layers[0].moved_bytes.0, 2000);
}

#[test]
fn pools_cost_their_taps_and_softmax_its_factor() {
    let mut program = Builder::default();
    program.vector(VectorKind::Softmax, 16, &[]);
    assert_eq!(program.run(&config()).cycles.0, 12);
    let mut program = Builder::default();
    let inputs = SmallVec::from_slice(&[buffer(9, 16)]);
    let pool = VectorOp { kind: VectorKind::MaxPool, operand: 0, inputs, output: buffer(1, 16), macs: 0 };
    program.push(VECTOR, Operation::Vector(pool), &[]);
    assert_eq!(program.run(&config()).cycles.0, 36);
}

#[test]
fn bytes_are_told_apart_by_operand_and_whole_bursts_are_counted() {
    let mut program = Builder::default();
    let source = Region::matrix(Space::Memory(MemoryId(0)), 4096 + 60, 1, Dim::new(2, 64), Dim::new(8, 1));
    program.push(LOAD, Operation::Load(Transfer { source, target: buffer(2, 8) }), &[]);
    program.load(100, &[]);
    program.store(10, &[]);
    let mut header = header(1);
    header.weights.push(crate::program::WeightImage {
        layer: LayerId(0),
        memory: MemoryId(0),
        base: 4096,
        bytes: 4096,
        weights: Some(crate::ir::ValueId(0)),
        input_major: false,
        bias: None,
        element: 1.into(),
        passes: 1,
        groups_per_pass: 1,
        outputs: 1,
        channels: 1,
        kernel: [1, 1],
        output_tile: 1,
        channel_tile: 1,
        parameters_offset: 0,
    });
    let accelerator = Accelerator::from_valid(config());
    let report = simulate(&accelerator, &header, program.instructions.into_iter(), Options::default()).unwrap();
    let layer = &report.layers[0];
    assert_eq!([layer.weight_bytes.0, layer.input_bytes.0, layer.output_bytes.0], [16, 100, 10]);
    // Both weight runs cross a boundary: 4 bursts; then 2 and 1.
    assert_eq!([layer.moved_bytes.0, report.memories[0].moved.0], [7 * 64; 2]);
}

#[test]
fn work_in_the_store_path_occupies_the_store_engine() {
    let mut program = Builder::default();
    let inputs = SmallVec::from_slice(&[buffer(1, 40)]);
    let op = VectorOp { kind: VectorKind::Requantize, operand: 0, inputs, output: buffer(1, 40), macs: 0 };
    // Without a vector engine, the store engine is number 2.
    program.push(EngineId(2), Operation::Vector(op), &[]);
    let target = Region::flat(Space::Memory(MemoryId(0)), 0, 1, 40);
    program.push(EngineId(2), Operation::Store(Transfer { source: buffer(1, 40), target }), &[]);
    let mut machine = config();
    machine.vector.placement = VectorPlacement::InStorePath;
    let expected = [(Vector, 10), (MemoryBandwidth, 1), (MemoryLatency, 20)];
    assert_eq!(program.run(&machine).causes, vector(&expected));
}

#[test]
fn moves_on_chip_and_between_memories_take_their_time() {
    let mut program = Builder::default();
    program.push(LOAD, Operation::Move(Transfer { source: buffer(1, 100), target: buffer(1, 100) }), &[]);
    let report = program.run(&config());
    assert_eq!(report.causes, vector(&[(Move, 7)]));
    assert_eq!(report.layers[0].on_chip_bytes.0, 100);
    let mut program = Builder::default();
    let region = Region::flat(Space::Memory(MemoryId(0)), 0, 1, 64);
    program.push(LOAD, Operation::Move(Transfer { source: region, target: region }), &[]);
    let report = program.run(&config());
    assert_eq!(report.causes, vector(&[(MemoryBandwidth, 2), (MemoryLatency, 40)]));
    assert_eq!(report.memories[0].moved.0, 128);
}

#[test]
fn instructions_are_ordered_by_their_start() {
    let mut program = Builder::default();
    let data = program.load(64, &[]);
    program.preload(&[]);
    program.matmul(4, 0, false, &[data]);
    program.vector(VectorKind::Add, 4, &[]);
    program.preload(&[]);
    program.matmul(4, 0, false, &[]);
    let mut machine = config();
    machine.array.weight_load.shadow_depth = 4;
    let options = Options { record_order: true, ..Options::default() };
    let report = program.run_with(&machine, options, PHASES_HELD).unwrap();
    // The second preload runs ahead in time, but not in its engine's order.
    assert_eq!(report.issue_order, [0, 1, 3, 2, 4, 5]);
}

#[test]
fn faults_of_a_program_are_errors() {
    let fault = |change: &dyn Fn(&mut Builder)| {
        let mut program = Builder::default();
        let data = program.load(64, &[]);
        program.matmul(4, 0, false, &[data]);
        change(&mut program);
        program.run_with(&config(), Options::default(), PHASES_HELD).unwrap_err()
    };
    assert_eq!(fault(&|program| program.instructions[0].waits.push(Token(1))), TimingError::UnknownToken(1));
    assert_eq!(fault(&|program| program.instructions[0].waits.push(Token(0))), TimingError::UnknownToken(0));
    assert_eq!(
        fault(&|program| program.instructions[1].signals = Some(Token(7))),
        TimingError::TokenOrder { token: 7, expected: 1 }
    );
    assert_eq!(
        fault(&|program| program.instructions[1].engine = LOAD),
        TimingError::WrongEngine { index: 1, engine: 0 }
    );
    assert_eq!(
        fault(&|program| program.instructions[1].engine = EngineId(9)),
        TimingError::WrongEngine { index: 1, engine: 9 }
    );
    assert_eq!(fault(&|program| program.instructions[1].layer = LayerId(1)), TimingError::UnknownLayer(1));
    let back = fault(&|program| {
        program.layer = 1;
        program.instructions[0].layer = LayerId(1);
    });
    assert_eq!(back, TimingError::LayerOrder(0));
    let far = fault(&|program| {
        let source = Region::flat(Space::Memory(MemoryId(3)), 0, 1, 64);
        program.instructions[0].operation = Operation::Load(Transfer { source, target: buffer(1, 64) });
    });
    assert_eq!(far, TimingError::UnknownMemory(3));
}

#[test]
fn time_that_does_not_fit_is_an_error() {
    // Descriptors of a tenth of a second each, one a run: five hours are 180,000.
    let mut program = Builder::default();
    program.load_rows(200_000, 1, 64);
    let mut machine = config();
    machine.array.clock_mhz = 1.0;
    machine.dma.descriptor_cycles = 100_000;
    machine.dma.strides = false;
    let result = program.run_with(&machine, Options::default(), PHASES_HELD);
    assert_eq!(result.unwrap_err(), TimingError::Overflow);
}

#[test]
fn a_memory_turns_between_reads_and_writes() {
    let mut machine = config();
    memory(&mut machine, 16.0, 20.0);
    let mut run = |turnaround: f64, program: &Builder| {
        let MemoryModel::Ideal { turnaround_ns, .. } = &mut machine.memories[0].model;
        *turnaround_ns = turnaround;
        program.run(&machine)
    };
    // A burst each of four cycles; the second one's turn comes three later.
    let mut program = Builder::default();
    program.load(64, &[]);
    program.store(64, &[]);
    assert_eq!(run(0.0, &program).causes, vector(&[(MemoryBandwidth, 8), (MemoryLatency, 20)]));
    let report = run(3.0, &program);
    assert_eq!(report.causes, vector(&[(MemoryBandwidth, 11), (MemoryLatency, 20)]));
    assert_eq!(report.memories[0].busy.0, 8_000_000);
    // Reads follow each other as before, and an idle memory has turned when the write comes: by 4 + 3, not by 4 + 7.
    let mut program = Builder::default();
    program.load(128, &[]);
    assert_eq!(run(3.0, &program).cycles.0, 28);
    let mut program = Builder::default();
    program.load(64, &[]);
    let computed = program.vector(VectorKind::Add, 28, &[]);
    program.store(64, &[computed]);
    assert_eq!(run(3.0, &program).cycles.0, 7 + 4 + 20);
    assert_eq!(run(4.0, &program).cycles.0, 8 + 4 + 20);
}

#[test]
fn a_tap_hears_of_every_burst_with_its_address() {
    let mut program = Builder::default();
    program.load_rows(2, 100, 1000);
    program.store(64, &[]);
    let accelerator = Accelerator::from_valid(config());
    let header = header(1);
    let mut heard = Vec::new();
    let mut tap = |access: MemoryAccess| {
        heard.push((access.time.0 / 1_000_000, access.address, access.write));
    };
    let instructions = program.instructions.into_iter();
    let report = simulate_tapped(&accelerator, &header, instructions, Options::default(), &mut tap).unwrap();
    let reads = [(0, 0), (4, 64), (8, 960), (12, 1024), (16, 1088)].map(|(time, address)| (time, address, false));
    let mut expected = reads.to_vec();
    expected.insert(1, (0, 0, true));
    assert_eq!(heard, expected);
    assert_eq!(report.memories[0].moved.0, 64 * 6);
}

#[test]
fn without_registers_the_pipeline_is_rows_and_columns_less_two() {
    for (rows, cols) in [(1, 1), (4, 4), (16, 4), (3, 32)] {
        let mut machine = config();
        [machine.array.rows, machine.array.cols] = [rows, cols];
        let mut program = Builder::default();
        program.preload(&[]);
        program.matmul(5, 0, false, &[]);
        assert_eq!(program.run(&machine).cycles.0, u64::from(4 + 5 + rows + cols - 2));
    }
}
