//! Host speed, on demand: `cargo test --release --lib timing::tests::speed -- --ignored --nocapture`.

use std::{fs, time::Instant};

use super::*;

/// Seconds that this thread has computed, where the system tells (others may use the same core); else of the clock.
fn seconds(begin: Instant) -> f64 {
    let statistics = fs::read_to_string("/proc/thread-self/schedstat").ok();
    let computed = statistics.and_then(|text| text.split(' ').next()?.parse::<f64>().ok());
    computed.map_or_else(|| begin.elapsed().as_secs_f64(), |nanoseconds| nanoseconds * 1e-9)
}

/// Preload and stream, a token a hundred tiles.
fn tiles(count: u64) -> impl Iterator<Item = Instruction> {
    let mut program = Builder::default();
    program.preload(&[]);
    program.matmul(16, 0, false, &[]);
    let pattern = program.instructions;
    (0..2 * count).map(move |index| {
        let mut instruction = pattern[usize::from(index % 2 == 1)].clone();
        instruction.index = index;
        instruction.commands = u32::from(index % 200 == 0);
        instruction.signals = None;
        instruction
    })
}

#[test]
#[ignore = "measures the host"]
fn array_tiles_a_second() {
    let accelerator = Accelerator::from_valid(config());
    let header = header(1);
    let count = 9_000_000;
    let begin = Instant::now();
    let before = seconds(begin);
    let report = simulate(&accelerator, &header, tiles(count), Options::default()).unwrap();
    let seconds = seconds(begin) - before;
    println!("{count} tiles in {seconds:.2} s: {:.1} M instructions/s", report.instructions as f64 / seconds / 1e6);
    assert_eq!(report.instructions, 2 * count);
}

#[test]
#[ignore = "measures the host"]
fn bursts_a_second() {
    for (name, gb_per_s, in_flight) in [("bandwidth", 8.0, 8), ("latency", 64.0, 1), ("engine", 64.0, 8)] {
        let mut machine = config();
        memory(&mut machine, gb_per_s, 20.0);
        machine.dma.bursts_in_flight = in_flight;
        for store in [false, true] {
            let mut program = Builder::default();
            for _ in 0..1000 {
                program.load(64 * 500, &[]);
                if store {
                    program.store(64 * 500, &[]);
                } else {
                    program.load(64 * 500, &[]);
                }
            }
            let begin = Instant::now();
            let before = seconds(begin);
            let report = program.run(&machine);
            let seconds = seconds(begin) - before;
            let bursts = report.memories[0].moved.0 / 64;
            println!("{name}-bound, two requesters {store}: {:.1} ns a burst", seconds / bursts as f64 * 1e9);
        }
    }
}
