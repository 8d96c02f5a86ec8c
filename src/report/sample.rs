//! Synthetic records for the tests: plausible ones of any number of layers, and random ones full of extremes.

use rand::{Rng, SeedableRng};
use rand_chacha::ChaCha8Rng;

use crate::result::{
    Accuracy, Arithmetic, BufferResult, Cause, Causes, CpuTime, Dataflow, Divergence, EngineResult, Expectation,
    Fidelity, FirstMismatch, LayerResult, Machine, MemoryResult, Provenance, RunResult, RunsOn, SCHEMA, Score, Status,
    Totals, Traffic, Verification,
};

const SIDE: u64 = 32;
const CLOCK_MHZ: f64 = 800.0;

/// A run of a network with `count` layers whose numbers agree with each other.
pub fn run(count: usize) -> RunResult {
    let mut random = ChaCha8Rng::seed_from_u64(7);
    let layers: Vec<LayerResult> = (0..count).map(|index| layer(index, count, &mut random)).collect();
    let sum = |field: fn(&LayerResult) -> u64| layers.iter().map(field).sum::<u64>();
    let cycles = sum(|layer| layer.cycles);
    let seconds = cycles as f64 / (CLOCK_MHZ * 1e6);
    let (beats, array_busy, array_macs) = (sum(|l| l.beats), sum(|l| l.array_busy), sum(|l| l.array_macs));
    let ratio = |part: u64, whole: f64| if whole == 0.0 { 0.0 } else { part as f64 / whole };
    let moved = sum(|layer| layer.traffic.moved_bytes);
    let totals = Totals {
        cycles,
        seconds,
        samples_per_s: if seconds == 0.0 { 0.0 } else { 1.0 / seconds },
        macs: sum(|layer| layer.macs),
        array_macs,
        vector_macs: sum(|layer| layer.vector_macs),
        host_macs: 0,
        beats,
        array_busy,
        mapping_efficiency: ratio(array_macs, (beats * SIDE * SIDE) as f64),
        pipeline_efficiency: ratio(beats, array_busy as f64),
        array_activity: ratio(array_busy, cycles as f64),
        array_utilization: ratio(array_macs, (cycles * SIDE * SIDE) as f64),
        traffic: Traffic {
            input_bytes: sum(|layer| layer.traffic.input_bytes),
            weight_bytes: sum(|layer| layer.traffic.weight_bytes),
            output_bytes: sum(|layer| layer.traffic.output_bytes),
            moved_bytes: moved,
        },
        compulsory_bytes: sum(|layer| layer.compulsory_bytes),
        average_bandwidth_gb_per_s: ratio(moved, seconds * 1e9),
        peak_bandwidth_gb_per_s: 11.9,
        p95_bandwidth_gb_per_s: 9.4,
        memory_efficiency: ratio(moved, seconds * 12.8e9),
        causes: layers.iter().map(|layer| layer.causes).sum(),
        bound_by: "memory bandwidth binds 31 % of the cycles, most of them in the pointwise convolutions of the last \
                   stage; a second buffer for weights would hide 12 %"
            .to_owned(),
    };
    RunResult {
        schema: SCHEMA,
        provenance: Provenance {
            systole_version: "0.1.0".to_owned(),
            config: "edge_32x32".to_owned(),
            config_hash: "0123456789abcdef".to_owned(),
            model: "mobilenet_v2".to_owned(),
            model_hash: "fedcba9876543210".to_owned(),
            batch: 1,
            fidelity: Fidelity::Tile,
            arithmetic: Arithmetic::AsModel,
            not_modelled: vec!["dma.alignment_bytes".to_owned()],
            passes: vec!["fold_batch_norm: 52 nodes".to_owned()],
            ..Provenance::default()
        },
        machine: Machine {
            rows: SIDE,
            cols: SIDE,
            arrays: 1,
            clock_mhz: CLOCK_MHZ,
            peak_macs_per_s: (SIDE * SIDE) as f64 * CLOCK_MHZ * 1e6,
            peak_bandwidth_gb_per_s: 12.8,
            memory: "dram".to_owned(),
            first_out_latency: 7,
        },
        engines: [("load 0", 0.61, 0.2), ("array", 0.7, 0.21), ("vector", 0.15, 0.4), ("store 0", 0.2, 0.1)]
            .map(|(name, busy, waiting)| EngineResult {
                name: name.to_owned(),
                busy: part(cycles, busy),
                waiting: part(cycles, waiting),
                instructions: cycles / 900,
            })
            .to_vec(),
        memories: vec![MemoryResult {
            name: "dram".to_owned(),
            pins_gb_per_s: 12.8,
            read_bytes: moved / 3,
            written_bytes: moved / 3,
            moved_bytes: moved,
            average_bandwidth_gb_per_s: ratio(moved, seconds * 1e9),
            p95_bandwidth_gb_per_s: 9.4,
            peak_bandwidth_gb_per_s: 11.9,
            efficiency: ratio(moved, seconds * 12.8e9),
        }],
        buffers: [("buffer", 524_288, 498_112), ("accumulators", 131_072, 98_304)]
            .map(|(name, capacity_bytes, peak_bytes)| BufferResult {
                name: name.to_owned(),
                capacity_bytes,
                peak_bytes,
                read_bytes: Some(11 * moved),
                written_bytes: Some(moved),
            })
            .to_vec(),
        totals,
        layers,
        verification: Verification { status: Status::BitExact, compared: 1_204_712, ..Verification::default() },
        expectation: None,
        accuracy: None,
        registers: None,
        cpu: None,
    }
}

/// A share of a count.
#[allow(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "shares of sample counts")]
fn part(whole: u64, share: f64) -> u64 {
    (whole as f64 * share) as u64
}

fn layer(index: usize, count: usize, random: &mut ChaCha8Rng) -> LayerResult {
    let kind = if index + 1 == count { 4 } else { index % 7 };
    let (kind_name, op, runs_on) = match kind {
        0 | 3 => ("expand.conv", "Conv", RunsOn::Array),
        1 | 4 => ("depthwise.conv", "Conv", RunsOn::Array),
        2 | 5 => ("project.conv", "Conv", RunsOn::Array),
        _ => ("add", "Add", RunsOn::Vector),
    };
    let name =
        if index + 1 == count { "classifier.1.linear".into() } else { format!("features.{}.{kind_name}", index / 3) };
    let cycles = 2_000 + part(90_000, random.random_range(0.0f64..1.0).powi(4));
    let on_array = runs_on == RunsOn::Array;
    let depthwise = kind_name == "depthwise.conv";
    let mut weights = [
        if on_array { random.random_range(0.2..1.0) } else { 0.0 },
        if on_array { random.random_range(0.0..0.2) } else { 0.0 },
        if on_array { random.random_range(0.0..0.25) } else { 0.0 },
        random.random_range(0.0..0.05),
        if on_array { 0.02 } else { 0.6 },
        random.random_range(0.0..0.03),
        0.02,
        random.random_range(0.0..0.1),
        if index % 23 == 22 { 0.8 } else { 0.0 },
        random.random_range(0.0f64..1.0).powi(3),
        random.random_range(0.0..0.15),
    ];
    let sum: f64 = weights.iter().sum();
    for weight in &mut weights {
        *weight /= sum;
    }
    let w = weights.map(|weight| part(cycles, weight));
    let rest = cycles - w[1..].iter().sum::<u64>();
    let mut causes = Causes(w);
    causes[Cause::ArrayStreaming] = rest;
    let span = part(cycles, random.random_range(1.0..1.3));
    let beats = if on_array { rest } else { 0 };
    let array_busy = if on_array { rest + w[1] + w[2] } else { 0 };
    let mapping = if depthwise { random.random_range(0.03..0.2) } else { random.random_range(0.5..1.0) };
    let array_macs = part(beats * SIDE * SIDE, mapping);
    let ratio = |part: u64, whole: u64| if whole == 0 { 0.0 } else { part as f64 / whole as f64 };
    let compulsory_bytes = 1 + part(cycles, random.random_range(0.3..6.0));
    let moved_bytes = compulsory_bytes + part(compulsory_bytes, random.random_range(0.0f64..1.5).powi(2));
    LayerResult {
        name,
        op: op.to_owned(),
        runs_on,
        dataflow: if on_array { Dataflow::WeightStationary } else { Dataflow::None },
        cycles,
        span,
        bound: part(cycles, 0.8),
        macs: array_macs,
        array_macs,
        vector_macs: 0,
        beats,
        array_busy,
        mapping_efficiency: ratio(array_macs, beats * SIDE * SIDE),
        pipeline_efficiency: ratio(beats, array_busy),
        array_activity: ratio(array_busy, span),
        array_utilization: ratio(array_macs, span * SIDE * SIDE),
        traffic: Traffic {
            input_bytes: moved_bytes / 2,
            weight_bytes: moved_bytes / 4,
            output_bytes: moved_bytes / 8,
            moved_bytes,
        },
        compulsory_bytes,
        may_overflow: false,
        overflows: Some(0),
        average_bandwidth_gb_per_s: moved_bytes as f64 / (span as f64 / (CLOCK_MHZ * 1e6)) / 1e9,
        causes,
        mapping: "ws tile 32x32, 7 folds".to_owned(),
    }
}

/// [`run`] with names as exporters make them: long, with slashes, and one in another script.
pub fn run_with_long_names(count: usize) -> RunResult {
    let mut result = run(count);
    for (index, layer) in result.layers.iter_mut().enumerate() {
        layer.name = format!("/backbone/features/features.{index}/conv/conv.1/{}/Conv_quant", layer.name);
    }
    if let Some(layer) = result.layers.first_mut() {
        layer.name = "脈動陣列".repeat(40);
    }
    result.provenance.model = "efficientnet_lite4_finetuned_with_a_very_long_name_".repeat(4);
    result
}

/// A record of extremes: names of 200 characters in several scripts, zeros, the largest integers, tiny and huge reals.
/// Everything is finite and the causes' sums fit.
pub fn random(seed: u64) -> RunResult {
    let mut r = ChaCha8Rng::seed_from_u64(seed);
    let count = [0, 1, 3, 12, 40][r.random_range(0..5)];
    let mut result = run(count);
    let machine = &mut result.machine;
    (machine.rows, machine.cols, machine.arrays) = (integer(&mut r), integer(&mut r), integer(&mut r));
    (machine.clock_mhz, machine.peak_macs_per_s) = (real(&mut r), real(&mut r));
    (machine.peak_bandwidth_gb_per_s, machine.memory) = (real(&mut r), text(&mut r));
    let p = &mut result.provenance;
    (p.model, p.config) = (text(&mut r), text(&mut r));
    (p.fidelity, p.arithmetic) = (one_of(&mut r, &Fidelity::ALL), one_of(&mut r, &Arithmetic::ALL));
    p.not_modelled = (0..r.random_range(0..4)).map(|_| text(&mut r)).collect();
    p.label = r.random::<bool>().then(|| text(&mut r));
    p.overrides = (0..r.random_range(0..5)).map(|_| text(&mut r)).collect();
    p.batch = integer(&mut r);
    let t = &mut result.totals;
    (t.cycles, t.macs, t.array_macs, t.vector_macs) =
        (integer(&mut r), integer(&mut r), integer(&mut r), integer(&mut r));
    (t.host_macs, t.beats, t.array_busy, t.compulsory_bytes) =
        (integer(&mut r), integer(&mut r), integer(&mut r), integer(&mut r));
    (t.seconds, t.samples_per_s, t.mapping_efficiency, t.array_utilization) =
        (real(&mut r), real(&mut r), real(&mut r), real(&mut r));
    (t.pipeline_efficiency, t.array_activity, t.memory_efficiency) = (real(&mut r), real(&mut r), real(&mut r));
    (t.average_bandwidth_gb_per_s, t.peak_bandwidth_gb_per_s, t.p95_bandwidth_gb_per_s) =
        (real(&mut r), real(&mut r), real(&mut r));
    (t.causes, t.traffic.moved_bytes, t.bound_by) = (causes(&mut r), integer(&mut r), text(&mut r));
    for layer in &mut result.layers {
        (layer.name, layer.op, layer.runs_on) = (text(&mut r), text(&mut r), one_of(&mut r, &RunsOn::ALL));
        (layer.cycles, layer.span, layer.macs) = (integer(&mut r), integer(&mut r), integer(&mut r));
        (layer.array_macs, layer.beats, layer.array_busy) = (integer(&mut r), integer(&mut r), integer(&mut r));
        (layer.mapping_efficiency, layer.pipeline_efficiency) = (real(&mut r), real(&mut r));
        (layer.array_activity, layer.array_utilization) = (real(&mut r), real(&mut r));
        (layer.traffic.moved_bytes, layer.compulsory_bytes) = (integer(&mut r), integer(&mut r));
        (layer.may_overflow, layer.overflows) = (r.random(), r.random::<bool>().then(|| integer(&mut r)));
        layer.causes = causes(&mut r);
    }
    for memory in &mut result.memories {
        (memory.name, memory.moved_bytes, memory.read_bytes, memory.written_bytes, memory.efficiency) =
            (text(&mut r), integer(&mut r), integer(&mut r), integer(&mut r), real(&mut r));
    }
    for buffer in &mut result.buffers {
        (buffer.name, buffer.capacity_bytes, buffer.peak_bytes) = (text(&mut r), integer(&mut r), integer(&mut r));
        (buffer.read_bytes, buffer.written_bytes) = (r.random::<bool>().then(|| integer(&mut r)), None);
    }
    for engine in &mut result.engines {
        (engine.name, engine.busy, engine.waiting, engine.instructions) =
            (text(&mut r), integer(&mut r), integer(&mut r), integer(&mut r));
    }
    if r.random() {
        result.verification.status = one_of(&mut r, &Status::ALL);
        result.verification.first_divergence = Some(Divergence {
            layer: text(&mut r),
            tensor: text(&mut r),
            index: (0..r.random_range(0..30)).map(|_| integer(&mut r)).collect(),
            expected: i64::MIN,
            actual: i64::MAX,
            accumulator: Some(i64::MIN),
            written_by: Some(text(&mut r)),
            mismatches: integer(&mut r),
        });
        let score = Some(Score { top1: real(&mut r), top5: real(&mut r), loss: real(&mut r) });
        result.accuracy =
            Some(Accuracy { samples: integer(&mut r), float: score, quantized: None, accelerator: score });
        result.expectation = Some(Expectation {
            compared: integer(&mut r),
            mismatches: integer(&mut r),
            max_abs_difference: real(&mut r),
            tolerance: real(&mut r),
            first_mismatch: Some(FirstMismatch {
                output: text(&mut r),
                index: vec![integer(&mut r); 3],
                expected: real(&mut r),
                actual: real(&mut r),
                mismatches: integer(&mut r),
                elements: integer(&mut r),
                max_abs_difference: real(&mut r),
            }),
            note: Some(text(&mut r)),
        });
        result.cpu = Some(CpuTime {
            measured: true,
            seconds: real(&mut r),
            runs: integer(&mut r),
            threads: integer(&mut r),
            accelerator_speedup: real(&mut r),
            reference_ops: (0..r.random_range(0..4)).map(|_| text(&mut r)).collect(),
        });
    }
    result
}

fn one_of<T: Copy>(r: &mut ChaCha8Rng, all: &[T]) -> T {
    all[r.random_range(0..all.len())]
}

/// The eleven largest causes together still fit.
fn causes(r: &mut ChaCha8Rng) -> Causes {
    let mut next = || integer(r) / 11;
    Causes(std::array::from_fn(|_| next()))
}

fn integer(r: &mut ChaCha8Rng) -> u64 {
    match r.random_range(0..6) {
        0 => 0,
        1 => u64::MAX,
        2 => 1,
        _ => r.random::<u64>() >> r.random_range(0..64),
    }
}

fn real(r: &mut ChaCha8Rng) -> f64 {
    match r.random_range(0..8) {
        0 => 0.0,
        1 => f64::MAX,
        2 => f64::MIN_POSITIVE,
        3 => 5e-324,
        4 => 1.0,
        _ => r.random::<f64>() * 10f64.powi(r.random_range(-20..20)),
    }
}

fn text(r: &mut ChaCha8Rng) -> String {
    let length = [0, 1, 9, 40, 200][r.random_range(0..5)];
    let alphabet: Vec<char> = match r.random_range(0..4) {
        0 => "脈動陣列".chars().collect(),
        1 => "a\u{1b}[31m\n\t\u{202e}<&\"'>".chars().collect(),
        2 => "layer/conv.weight 0123 ".chars().collect(),
        _ => "e\u{301}ü🧮x".chars().collect(),
    };
    (0..length).map(|_| alphabet[r.random_range(0..alphabet.len())]).collect()
}
