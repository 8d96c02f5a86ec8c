//! Predecessors that bind at the same moment: token before engine, engine before queue slot, queue slot before issue,
//! issue before memory. Each program ends at the same time whichever binds; only the causes tell.

use super::{super::Cause::*, *};

/// Vector work of so many cycles.
fn work(program: &mut Builder, cycles: u32, waits: &[Token]) -> Token {
    program.vector(VectorKind::Add, 4 * cycles, waits)
}

fn issuing_in(cycles: u32) -> AcceleratorConfig {
    let mut machine = config();
    machine.control.issue_cycles = cycles;
    machine
}

#[test]
fn a_token_goes_before_the_engine() {
    let mut program = Builder::default();
    let data = program.load(64, &[]);
    work(&mut program, 21, &[]);
    work(&mut program, 1, &[data]);
    let expected = [(MemoryBandwidth, 1), (MemoryLatency, 20), (Vector, 1)];
    assert_eq!(program.run(&config()).causes, vector(&expected));
}

#[test]
fn a_token_goes_before_the_array() {
    let mut machine = config();
    machine.array.weight_load.cycles = 21;
    let mut program = Builder::default();
    let data = program.load(64, &[]);
    program.preload(&[]);
    program.matmul(10, 0, false, &[data]);
    let expected = [(MemoryBandwidth, 1), (MemoryLatency, 20), (ArrayStreaming, 10), (FillDrain, 6)];
    assert_eq!(program.run(&machine).causes, vector(&expected));
    // A load of weights likewise: the first one ends when its token comes.
    let mut program = Builder::default();
    let data = program.load(64, &[]);
    program.preload(&[]);
    program.preload(&[data]);
    let expected = [(MemoryBandwidth, 1), (MemoryLatency, 20), (WeightLoad, 21)];
    assert_eq!(program.run(&machine).causes, vector(&expected));
}

#[test]
fn a_token_goes_before_issue() {
    // The load is issued at 7 and done at 28, when the last command is issued.
    let mut program = Builder::default();
    let data = program.load(64, &[]);
    work(&mut program, 1, &[]);
    work(&mut program, 1, &[]);
    work(&mut program, 1, &[data]);
    let expected = [(Issue, 7), (MemoryBandwidth, 1), (MemoryLatency, 20), (Vector, 1)];
    assert_eq!(program.run(&issuing_in(7)).causes, vector(&expected));
}

#[test]
fn the_engine_goes_before_issue() {
    let mut program = Builder::default();
    work(&mut program, 5, &[]);
    work(&mut program, 1, &[]);
    assert_eq!(program.run(&issuing_in(5)).causes, vector(&[(Issue, 5), (Vector, 6)]));
    // The array: weights are there at 10, when the stream is issued.
    let mut machine = issuing_in(5);
    machine.array.weight_load.cycles = 5;
    let mut program = Builder::default();
    program.preload(&[]);
    program.matmul(10, 0, false, &[]);
    let expected = [(Issue, 5), (WeightLoad, 5), (ArrayStreaming, 10), (FillDrain, 6)];
    assert_eq!(program.run(&machine).causes, vector(&expected));
}

#[test]
fn a_queue_slot_goes_before_issue() {
    // The second starts at 10, behind the first; its slot frees when its own issue is done.
    let mut machine = issuing_in(5);
    machine.control.queue_depth = 1;
    let mut program = Builder::default();
    for cycles in [5, 1, 1] {
        work(&mut program, cycles, &[]);
    }
    assert_eq!(program.run(&machine).causes, vector(&[(Issue, 10), (Vector, 6)]));
}

#[test]
fn issue_goes_before_memory() {
    // Four cycles a burst: the second load is issued when the memory has served the first one's burst.
    let mut machine = issuing_in(4);
    memory(&mut machine, 16.0, 20.0);
    let mut program = Builder::default();
    program.load(64, &[]);
    program.store(64, &[]);
    assert_eq!(program.run(&machine).causes, vector(&[(Issue, 8), (MemoryBandwidth, 4), (MemoryLatency, 20)]));
}

#[test]
fn the_engine_s_own_rate_goes_before_memory() {
    // Each burst is requested when the memory has served the one before.
    let mut machine = config();
    memory(&mut machine, 16.0, 20.0);
    let mut program = Builder::default();
    program.load(128, &[]);
    let expected = [(Move, 4), (MemoryBandwidth, 4), (MemoryLatency, 20)];
    assert_eq!(program.run(&machine).causes, vector(&expected));
    // With one burst in flight that arrives just then, too.
    memory(&mut machine, 64.0, 3.0);
    machine.dma.bursts_in_flight = 1;
    let expected = [(Move, 4), (MemoryBandwidth, 1), (MemoryLatency, 3)];
    assert_eq!(program.run(&machine).causes, vector(&expected));
}

#[test]
fn at_a_fence_the_first_engine_goes_first() {
    let mut program = Builder::default();
    program.load(64, &[]);
    work(&mut program, 21, &[]);
    program.fence();
    program.host(1000, &[]);
    let expected = [(MemoryBandwidth, 1), (MemoryLatency, 20), (Host, 6500)];
    assert_eq!(program.run(&config()).causes, vector(&expected));
}
