//! Bursts of two engines against a loop over single cycles that knows nothing of causes or events.

use proptest::prelude::*;

use super::*;
use crate::units::Bytes;

/// A memory and its requesters, in whole cycles.
#[derive(Clone, Copy, Debug)]
struct Law {
    service: u64,
    latency: u64,
    pace: u64,
    in_flight: usize,
}

/// When the last burst of each engine arrives, given its first request's earliest cycle and its bursts.
fn cycle_by_cycle(law: Law, engines: [(u64, u64); 2]) -> [u64; 2] {
    let mut memory_free = 0;
    let mut next = engines.map(|(begin, _)| begin);
    let mut left = engines.map(|(_, bursts)| bursts);
    let mut arrivals: [Vec<u64>; 2] = [Vec::new(), Vec::new()];
    let mut cycle = 0;
    while left != [0, 0] {
        for engine in 0..2 {
            let outstanding = arrivals[engine].iter().filter(|&&arrival| arrival > cycle).count();
            if left[engine] == 0 || cycle < next[engine] || outstanding >= law.in_flight {
                continue;
            }
            memory_free = cycle.max(memory_free) + law.service;
            let arrival = (memory_free + law.latency).max(cycle + law.pace);
            let arrival = arrivals[engine].last().map_or(arrival, |&before| before.max(arrival));
            arrivals[engine].push(arrival);
            next[engine] = cycle + law.pace;
            left[engine] -= 1;
        }
        cycle += 1;
    }
    arrivals.map(|times| times.last().copied().unwrap_or(0))
}

proptest! {
    #[test]
    fn bursts_are_served_as_a_loop_over_cycles_serves_them(
        service in 1_u32..9,
        latency in 0_u32..40,
        pace in 1_u32..9,
        in_flight in 1_u32..12,
        bursts in (1_u32..60, 1_u32..60),
        delay in 0_u32..100,
    ) {
        let mut machine = config();
        memory(&mut machine, 64.0 / f64::from(service), f64::from(latency));
        // A service of whole cycles must be exact for the comparison: 64 bytes at 64/service GB/s.
        let held = Accelerator::from_valid(machine.clone()).memory_service(MemoryId(0), Bytes(64));
        prop_assert_eq!(held.0, u64::from(service) * 1_000_000);
        machine.dma.burst_bytes = 64;
        machine.dma.bytes_per_cycle = 64_u32.div_ceil(pace);
        let pace = u64::from(64_u32.div_ceil(machine.dma.bytes_per_cycle));
        machine.dma.bursts_in_flight = in_flight;

        let mut program = Builder::default();
        let begin = program.vector(VectorKind::Add, delay * 4, &[]);
        program.layer = 1;
        program.load(64 * bursts.0, &[]);
        program.layer = 2;
        program.store(64 * bursts.1, &[begin]);
        let report = program.run(&machine);

        let law = Law {
            service: service.into(),
            latency: latency.into(),
            pace,
            in_flight: usize::try_from(in_flight).unwrap(),
        };
        let expected = cycle_by_cycle(law, [(0, bursts.0.into()), (delay.into(), bursts.1.into())]);
        let actual = [1, 2].map(|layer: usize| report.layers[layer].last_retirement.0 / 1_000_000);
        prop_assert_eq!(actual, expected);
    }
}
