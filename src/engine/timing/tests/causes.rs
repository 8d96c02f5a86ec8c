//! Random programs: causes against a walk over recorded phases, conservation, and directions that must hold.

use proptest::prelude::*;

use super::{super::memory::Memory, *};
use crate::{
    config::{Accumulate, LoadPath, OutputSkew},
    engine::timing::{Cause, causes::to_cycles},
    units::Time,
};

/// One random instruction: kind, size, distance back to a token, whether it accumulates or begins a layer.
type Draw = (u8, u32, u8, bool, u8);

fn program(draws: &[Draw], kinds: &[u8]) -> Builder {
    let mut program = Builder::default();
    for &(kind, size, back, accumulate, step) in draws {
        if step == 0 && !program.instructions.is_empty() {
            program.layer += 1;
        }
        let waits: Vec<Token> =
            program.tokens.checked_sub(u32::from(back) + 1).filter(|_| back < 6).map(Token).into_iter().collect();
        match kinds[usize::from(kind) % kinds.len()] {
            0 => program.load(size * 37, &waits),
            1 => program.preload(&waits),
            2 => program.matmul(size, i64::from(size % 3) * 8, accumulate, &waits),
            3 => program.vector(VectorKind::Add, size * 5, &waits),
            4 => program.store(size * 20, &waits),
            5 => program.output_stationary(4, size, &waits),
            6 => program.host(size, &waits),
            _ => program.fence(),
        };
        if accumulate && size % 4 == 0 {
            program.instructions.last_mut().unwrap().commands = 0;
        }
    }
    program
}

fn draws() -> impl Strategy<Value = Vec<Draw>> {
    prop::collection::vec((0..16_u8, 1..60_u32, 0..9_u8, any::<bool>(), 0..12_u8), 1..120)
}

fn machines() -> impl Strategy<Value = AcceleratorConfig> {
    let memory_part = (1..80_u32, 0..60_u32, 1..9_u32, 1..40_u32, 0..6_u32);
    let control = (0..4_u32, 1..5_u32, 0..9_u32, 0..9_u32);
    let array = (0..3_u8, any::<bool>(), 1..12_u32, 0..3_u32, 1..20_u32);
    let structure = (0..3_usize, 0..3_usize);
    (memory_part, control, array, structure, 0..3_u8).prop_map(|(memory_part, control, array, structure, clock)| {
        let mut machine = config();
        memory(&mut machine, f64::from(memory_part.0) * 0.7, f64::from(memory_part.1) * 1.1);
        machine.dma.bursts_in_flight = memory_part.2;
        machine.dma.bytes_per_cycle = memory_part.3;
        machine.dma.descriptor_cycles = memory_part.4;
        machine.control.issue_cycles = control.0;
        machine.control.queue_depth = control.1;
        machine.control.launch_cycles = control.2;
        machine.control.fence_cycles = control.3;
        machine.array.weight_load.shadow_depth = array.0;
        machine.array.overlap_tiles = array.1;
        machine.array.min_stream = array.2;
        machine.array.pe_registers = array.3;
        machine.array.weight_load.cycles = array.4;
        machine.array.weight_load.path = [LoadPath::Skewed, LoadPath::Chain, LoadPath::Rows][structure.0];
        if machine.array.weight_load.path == LoadPath::Chain {
            machine.array.weight_load.shadow_depth = array.0.min(1);
        }
        if structure.1 > 0 {
            machine.array.dataflows = vec![Dataflow::WS];
            machine.array.accumulate = [Accumulate::InjectSkewed, Accumulate::InjectRows][structure.1 - 1];
            machine.array.output = [OutputSkew::Skewed, OutputSkew::Deskewed][structure.1 - 1];
        }
        machine.vector.clock_mhz = [0.0, 700.0, 1300.0][usize::from(clock)];
        machine
    })
}

/// The cause of each cycle, walked back through stored phases: nothing is merged, dropped or known too early.
fn walk(report: &TimingReport, layer: usize, period: Time) -> Causes {
    let since = layer.checked_sub(1).map_or(0, |before| report.layers[before].end.0);
    let timing = &report.layers[layer];
    let mut causes = Causes::default();
    let mut next = timing.last_phase;
    let mut last = None;
    while let Some(record) = next.map(|index| report.records[index]) {
        last = last.or(Some(record.cause));
        if record.end.0 <= since {
            break;
        }
        causes[record.cause] += record.end.0 - record.start.0.max(since);
        next = record.predecessor;
    }
    let missing = timing.end.0 - since - causes.total();
    assert!(missing < period.0, "more than a boundary's rounding is unexplained");
    causes[last.unwrap_or(Cause::Issue)] += missing;
    to_cycles(causes, period)
}

proptest! {
    #[test]
    fn causes_are_those_of_a_walk_over_the_recorded_phases(draws in draws(), machine in machines()) {
        let program = program(&draws, &[0, 0, 1, 2, 2, 3, 4, 5, 6, 7, 1, 2, 0, 4, 3, 2]);
        let options = Options { record_phases: true, record_order: true };
        let recorded = program.run_with(&machine, options, PHASES_HELD).unwrap();
        for (index, record) in recorded.records.iter().enumerate() {
            let start = record.predecessor.map_or(Time(0), |before| recorded.records[before].end);
            prop_assert!(record.predecessor.is_none_or(|before| before < index));
            prop_assert_eq!(record.start, start);
            prop_assert!(record.end > record.start);
        }
        // Merged and compacted at every opportunity, the same.
        let compacted = program.run_with(&machine, Options::default(), 0).unwrap();
        let period = Accelerator::from_valid(machine).array_period;
        for layer in 0..program.layers() {
            prop_assert_eq!(compacted.layers[layer].causes, walk(&recorded, layer, period), "layer {}", layer);
            prop_assert_eq!(compacted.layers[layer].cycles, recorded.layers[layer].cycles);
        }
        let mut indices = recorded.issue_order;
        indices.sort_unstable();
        prop_assert_eq!(indices, (0..program.instructions.len() as u64).collect::<Vec<_>>());
    }

    #[test]
    fn answers_may_come_in_any_order(draws in draws(), machine in machines(), seed: u64, spread in 0..300_u64, copies: bool) {
        let mut program = program(&draws, &[0, 0, 1, 2, 2, 3, 4, 5, 6, 7, 1, 2, 0, 4, 3, 2]);
        if copies {
            let region = Region::flat(Space::Memory(MemoryId(0)), 100, 1, 700);
            program.push(LOAD, Operation::Move(Transfer { source: region, target: region }), &[]);
            program.load(100, &[]);
        }
        let accelerator = Accelerator::from_valid(machine);
        let header = header(program.layers());
        let run = |options: Options, held: usize| {
            let memory = Memory::shuffled(seed, Time(spread * 1_000_000));
            let simulator = Simulator::new(&accelerator, &header, options, held).unwrap().with_memories(vec![memory]);
            simulator.run(program.instructions.iter().cloned()).unwrap()
        };
        let recorded = run(Options { record_phases: true, record_order: true }, PHASES_HELD);
        let compacted = run(Options::default(), 0);
        for layer in 0..program.layers() {
            prop_assert_eq!(compacted.layers[layer].causes.total(), compacted.layers[layer].cycles.0);
            let walked = walk(&recorded, layer, accelerator.array_period);
            prop_assert_eq!(compacted.layers[layer].causes, walked, "layer {}", layer);
        }
        // Nothing starts before what it waits for, nor before what stands ahead of it in its queue.
        let mut position = vec![0; program.instructions.len()];
        for (at, &index) in recorded.issue_order.iter().enumerate() {
            position[usize::try_from(index).unwrap()] = at;
        }
        for (index, instruction) in program.instructions.iter().enumerate() {
            for token in &instruction.waits {
                // Each instruction signals the token of its own number.
                prop_assert!(position[token.0 as usize] < position[index]);
            }
            let before = program.instructions[..index].iter().rposition(|other| other.engine == instruction.engine);
            prop_assert!(before.is_none_or(|before| position[before] < position[index]));
        }
        let bursts: u64 = recorded.layers.iter().map(|layer| layer.moved_bytes.0).sum();
        prop_assert_eq!(recorded.memories[0].moved.0, bursts);
    }

    #[test]
    fn nothing_is_lost(draws in draws(), machine in machines(), output_stationary: bool) {
        let kinds = if output_stationary { [0, 5, 5, 3, 4, 5, 6, 7] } else { [0, 1, 2, 3, 4, 2, 6, 7] };
        let program = program(&draws, &kinds);
        let report = program.run(&machine);
        prop_assert_eq!(report.causes.total(), report.cycles.0);
        for layer in &report.layers {
            prop_assert_eq!(layer.causes.total(), layer.cycles.0);
            prop_assert!(layer.cycles <= report.cycles && layer.span <= report.cycles);
            prop_assert!(layer.beats <= layer.array_busy);
        }
        for engine in &report.engines {
            prop_assert!(engine.busy <= report.cycles);
            prop_assert!(engine.busy.0 + engine.waiting_token.0 + engine.waiting_issue.0 <= report.cycles.0 + 2);
        }
        let array = &report.engines[usize::from(ARRAY.0)];
        prop_assert!(report.layers.iter().map(|layer| layer.array_busy.0).sum::<u64>() >= array.busy.0);
        prop_assert!(report.layers.iter().all(|layer| layer.array_busy <= array.busy));
        let memory = &report.memories[0];
        prop_assert!(memory.busy <= report.end);
        let moved: u64 = report.layers.iter().map(|layer| layer.moved_bytes.0).sum();
        prop_assert_eq!(memory.moved.0, moved);
        let useful = report.layers.iter().map(|layer| layer.input_bytes.0 + layer.weight_bytes.0 + layer.output_bytes.0);
        prop_assert_eq!(memory.read.0 + memory.written.0, useful.sum::<u64>());
        prop_assert!(memory.peak_window >= memory.p95_window);
    }

    #[test]
    fn a_better_machine_is_never_slower_with_one_requester(draws in draws(), machine in machines(), change in 0..8_u8) {
        let program = program(&draws, &[0, 1, 2, 3, 0, 5, 6, 7]);
        let mut better = machine.clone();
        let MemoryModel::Ideal { bandwidth_gb_per_s, latency_ns, .. } = machine.memories[0].model;
        match change {
            0 => memory(&mut better, bandwidth_gb_per_s * 1.3, latency_ns),
            1 => memory(&mut better, bandwidth_gb_per_s, latency_ns * 0.6),
            2 => better.dma.bursts_in_flight += 1,
            // A chain holds one operand.
            3 if machine.array.weight_load.path != LoadPath::Chain => better.array.weight_load.shadow_depth += 1,
            4 => better.control.queue_depth += 1,
            5 => better.dma.bytes_per_cycle += 5,
            6 => better.control.issue_cycles = better.control.issue_cycles.saturating_sub(1),
            _ => better.array.overlap_tiles = true,
        }
        let [before, after] = [&machine, &better].map(|machine| program.run(machine).cycles);
        prop_assert!(after <= before, "{} cycles became {}", before, after);
    }
}
