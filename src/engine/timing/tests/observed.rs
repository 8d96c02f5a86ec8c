//! An observer is told what the report says, and changes nothing of it.

use std::collections::{BTreeMap, BTreeSet};

use super::{
    super::{Cause, observe, observer::*},
    *,
};
use crate::{config::Control, units::Time};

#[derive(Debug, Default)]
struct Everything {
    issued: Vec<(u64, Unit, &'static str)>,
    phases: Vec<Phase>,
    done: Vec<Done>,
    transferred: Vec<Transferred>,
    fills: Vec<Fill>,
    layers: Vec<LayerSpan>,
}

impl Observer for Everything {
    fn issued(&mut self, issued: &Issued) {
        assert!(issued.ready <= issued.begin);
        self.issued.push((issued.instruction, issued.unit, issued.operation));
    }
    fn phase(&mut self, phase: &Phase) {
        self.phases.push(*phase);
    }
    fn done(&mut self, done: &Done) {
        self.done.push(*done);
    }
    fn transferred(&mut self, transferred: &Transferred) {
        self.transferred.push(*transferred);
    }
    fn filled(&mut self, fill: &Fill) {
        self.fills.push(*fill);
    }
    fn layer(&mut self, span: &LayerSpan) {
        self.layers.push(*span);
    }
}

/// Length of what stretches in the order of their starts cover.
fn covered(stretches: impl Iterator<Item = (Time, Time)>) -> u64 {
    let mut sorted: Vec<_> = stretches.collect();
    sorted.sort_unstable();
    let (mut until, mut total) = (0, 0);
    for (start, end) in sorted {
        total += end.0.saturating_sub(start.0.max(until));
        until = until.max(end.0);
    }
    total
}

/// Two layers with a fence between: transfers on both DMA engines, tiles that overlap, vector work and the host.
fn program() -> (Accelerator, Builder) {
    let mut config = config();
    config.control = Control { issue_cycles: 2, launch_cycles: 5, fence_cycles: 3, queue_depth: 2, ..config.control };
    config.memories[0].model = MemoryModel::Ideal { bandwidth_gb_per_s: 64.0, latency_ns: 20.0, turnaround_ns: 3.0 };
    let mut program = Builder::default();
    for layer in 0..2 {
        program.layer = layer;
        let mut last = Vec::new();
        for step in 0..4 {
            let loaded = program.load(700, &[]);
            program.preload(&[loaded]);
            let tile = program.matmul(6 + step, 0, step % 2 > 0, &last);
            let scaled = program.vector(VectorKind::Requantize, 24, &[tile]);
            last = vec![program.store(300, &[scaled])];
        }
        program.host(256, &last);
        program.fence();
    }
    (Accelerator::from_valid(config), program)
}

#[test]
fn an_observer_sees_every_phase_and_changes_no_figure() {
    let (accelerator, program) = program();
    let header = header(2);
    let options = Options { record_phases: true, record_order: true };
    let mut seen = Everything::default();
    let instructions = || program.instructions.iter().cloned();
    let report = observe(&accelerator, &header, instructions(), options, &mut seen, None).unwrap();
    assert_eq!(report, simulate(&accelerator, &header, instructions(), options).unwrap());
    // Neither do phases that nothing holds on to.
    let plain = observe(&accelerator, &header, instructions(), Options::default(), &mut Everything::default(), None);
    assert_eq!(plain.unwrap(), simulate(&accelerator, &header, instructions(), Options::default()).unwrap());

    let key = |instruction: u64, cause: Cause, start: Time, end: Time| (instruction, cause, start, end);
    let mut told: Vec<_> = seen.phases.iter().map(|p| key(p.instruction, p.cause, p.start, p.end)).collect();
    let mut recorded: Vec<_> = report.records.iter().map(|r| key(r.instruction, r.cause, r.start, r.end)).collect();
    told.sort_unstable();
    recorded.sort_unstable();
    assert_eq!(told, recorded);
    assert!(told.iter().map(|phase| phase.1).collect::<BTreeSet<_>>().len() >= 7, "few causes: {told:?}");

    // Every phase is its own instruction's: at the issue unit, or on its engine.
    let issued: BTreeMap<u64, Unit> = seen.issued.iter().map(|&(index, unit, _)| (index, unit)).collect();
    for phase in &seen.phases {
        assert!(phase.unit == Unit::Issue || phase.unit == issued[&phase.instruction], "{phase:?}");
        assert_eq!(phase.layer, program.instructions[usize::try_from(phase.instruction).unwrap()].layer.index());
    }
}

#[test]
fn what_is_observed_adds_up_to_the_report() {
    let (accelerator, program) = program();
    let mut seen = Everything::default();
    let instructions = program.instructions.iter().cloned();
    let mut requests = 0;
    let mut tap = |_| requests += 1;
    let header = header(2);
    let options = Options::default();
    let report = observe(&accelerator, &header, instructions, options, &mut seen, Some(&mut tap)).unwrap();
    assert_eq!(requests, seen.transferred.iter().filter(|moved| !moved.by_host).count());
    assert_eq!(seen.issued.len(), program.instructions.len());
    assert_eq!(seen.done.len(), program.instructions.len());
    for (index, engine) in report.engines.iter().enumerate() {
        let done = seen.done.iter().filter(|done| done.unit == Unit::Engine(index));
        let busy = covered(done.map(|done| (done.start, done.end)));
        assert_eq!(Time(busy).cycles_ceil(accelerator.array_period), engine.busy, "engine {index}");
    }
    let [bytes, busy] = seen.transferred.iter().fold([0, 0], |[bytes, busy], moved| {
        let served = if moved.by_host { 0 } else { moved.end.0 - moved.start.0 };
        [bytes + moved.bytes, busy + served]
    });
    assert_eq!(bytes, report.memories[0].moved.0);
    assert_eq!(busy, report.memories[0].busy.0);
    assert!(report.memories[0].host.0 > 0);
    let mut ends = Vec::new();
    for span in &seen.layers {
        ends.push(span.part[1]);
        assert_eq!((span.part[1].0 - span.part[0].0) / accelerator.array_period.0, report.layers[span.layer].cycles.0);
    }
    assert_eq!(ends.last(), Some(&report.end));
}

#[test]
fn buffers_are_never_fuller_than_they_are_and_empty_in_the_end() {
    let (accelerator, program) = program();
    let mut seen = Everything::default();
    let instructions = program.instructions.iter().cloned();
    observe(&accelerator, &header(2), instructions, Options::default(), &mut seen, None).unwrap();
    let sizes = [accelerator.buffers[0].bytes, accelerator.config.accumulators.bytes]
        .map(|bytes| i64::try_from(bytes).unwrap());
    seen.fills.sort_unstable_by_key(|fill| (fill.time, fill.change));
    let mut filled = [0_i64; 2];
    let mut fullest = [0_i64; 2];
    for fill in &seen.fills {
        filled[fill.buffer] += fill.change;
        fullest[fill.buffer] = fullest[fill.buffer].max(filled[fill.buffer]);
        assert!((0..=sizes[fill.buffer]).contains(&filled[fill.buffer]), "{fill:?}: {filled:?}");
    }
    assert_eq!(filled, [0, 0]);
    assert!(fullest.iter().all(|&bytes| bytes > 0), "{fullest:?}");
}
