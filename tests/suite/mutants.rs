//! Mutants of a program: every single dropped wait, moved address, skipped halo row, changed accumulation and dropped
//! instruction is rejected by the verifier, or changes the bits, or is shown to be dead. What survives unexplained
//! would be a hole in the claim that what is timed is what is executed.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
};

use rand::SeedableRng;
use systole::{
    config::{Accelerator, AcceleratorConfig, Accumulators, Buffer, BufferLayout, Dataflow},
    engine::functional::Machine,
    ir::{Activation, Constant, Graph, Op, Quantized, Value},
    program::{
        Instruction, Operation, Pad, Program, Region, Space, TensorId, Transfer,
        orders::random_legal,
        text::Line,
        verify::{regions, verify},
    },
    tensor::{DType, Quantization, Tensor},
};

use crate::{
    engine::machine,
    layers::small_network,
    programs::mapped,
    support::{Builder, inputs_of, plain_config},
};

/// What a mutant changes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Kind {
    DroppedWait,
    MovedByElement,
    MovedByRow,
    SkippedHaloRow,
    ChangedPadding,
    ChangedAccumulation,
    DroppedInstruction,
}

type PadChange = (&'static str, fn(&mut Pad));
type Change = dyn Fn(&mut Vec<Instruction>);

/// One changed program.
struct Mutant {
    kind: Kind,
    at: usize,
    /// In words, for the list of survivors.
    what: String,
    change: Box<Change>,
}

/// The regions of an operation, to change.
fn regions_mut(operation: &mut Operation) -> Vec<&mut Region> {
    match operation {
        Operation::Load(t) | Operation::Store(t) | Operation::Move(t) => vec![&mut t.source, &mut t.target],
        Operation::Preload { stationary } | Operation::Fetch { stationary } => vec![stationary],
        Operation::Matmul(matmul) => {
            let mut all = vec![&mut matmul.stream];
            all.extend(matmul.stationary.as_mut());
            all.push(&mut matmul.accumulators);
            all
        }
        Operation::Vector(op) | Operation::Host(op) => op.inputs.iter_mut().chain([&mut op.output]).collect(),
        Operation::PreloadNext { .. } | Operation::Fence => vec![],
    }
}

/// Distance between neighbouring rows of a region: of its innermost loop over more than one row.
fn row_stride(region: &Region) -> i64 {
    let rows = &region.dims[..usize::from(region.split)];
    rows.iter().rev().find(|dim| dim.count > 1).map_or(0, |dim| i64::from(dim.stride))
}

/// Every mutant of a program.
fn mutants(instructions: &[Instruction]) -> Vec<Mutant> {
    let mut all: Vec<Mutant> = Vec::new();
    for (at, instruction) in instructions.iter().enumerate() {
        let mut add = |kind, what: String, change: Box<Change>| {
            all.push(Mutant { kind, at, what, change });
        };
        for wait in 0..instruction.waits.len() {
            let change = move |program: &mut Vec<Instruction>| {
                program[at].waits.remove(wait);
            };
            add(Kind::DroppedWait, format!("wait {wait}"), Box::new(change));
        }
        let mut operation = instruction.operation.clone();
        for (i, region) in regions_mut(&mut operation).into_iter().enumerate() {
            let row = row_stride(region);
            let element = i64::from(region.element.bytes());
            for (kind, shift) in [
                (Kind::MovedByElement, element),
                (Kind::MovedByElement, -element),
                (Kind::MovedByRow, row),
                (Kind::MovedByRow, -row),
            ] {
                if shift != 0 && !(kind == Kind::MovedByRow && row == element) {
                    let change = move |program: &mut Vec<Instruction>| {
                        regions_mut(&mut program[at].operation)[i].base += shift;
                    };
                    add(kind, format!("region {i} by {shift}"), Box::new(change));
                }
            }
            if region.pad.is_some() {
                let changes: [PadChange; 4] = [
                    ("first row", |pad| pad.row0 += 1),
                    ("first column", |pad| pad.col0 += 1),
                    ("rows", |pad| pad.rows -= 1),
                    ("columns", |pad| pad.cols -= 1),
                ];
                for (what, pad) in changes {
                    let change = move |program: &mut Vec<Instruction>| {
                        pad(regions_mut(&mut program[at].operation)[i].pad.as_mut().unwrap());
                    };
                    add(Kind::ChangedPadding, format!("region {i}, {what}"), Box::new(change));
                }
            }
        }
        match &instruction.operation {
            Operation::Load(transfer) if transfer.source.dims[1].count > 1 => {
                for first in [false, true] {
                    let change = move |program: &mut Vec<Instruction>| {
                        for region in regions_mut(&mut program[at].operation) {
                            region.dims[1].count -= 1;
                            region.base += if first { i64::from(region.dims[1].stride) } else { 0 };
                        }
                    };
                    add(Kind::SkippedHaloRow, if first { "first row" } else { "last row" }.into(), Box::new(change));
                }
            }
            // Sums that are held and not gone on with are in no accumulator, whatever `accumulate` says.
            Operation::Matmul(matmul) if matmul.hold && !matmul.resume => {}
            Operation::Matmul(_) => {
                let change = move |program: &mut Vec<Instruction>| {
                    let Operation::Matmul(matmul) = &mut program[at].operation else { return };
                    if matmul.resume {
                        matmul.resume = false;
                    } else {
                        matmul.accumulate = !matmul.accumulate;
                    }
                };
                add(Kind::ChangedAccumulation, "accumulate".into(), Box::new(change));
            }
            _ => {}
        }
        let token = instruction.signals;
        let change = move |program: &mut Vec<Instruction>| {
            program.remove(at);
            // Nobody waits for what does not happen: otherwise every such mutant is a token without a signal.
            for other in program.iter_mut() {
                other.waits.retain(|wait| Some(*wait) != token);
            }
        };
        add(Kind::DroppedInstruction, String::new(), Box::new(change));
    }
    all
}

/// Every tensor in memory after a run; `None` where it cannot run or a tensor has unwritten bytes.
fn outcome<'a>(
    start: &Machine,
    program: &Program,
    instructions: impl Iterator<Item = &'a Instruction>,
) -> Option<Vec<Tensor>> {
    let mut machine = start.clone();
    for instruction in instructions {
        machine.execute(instruction).ok()?;
    }
    (0_u32..)
        .zip(&program.header.tensors)
        .filter(|(_, place)| matches!(place.space, Space::Memory(_)))
        .map(|(index, _)| machine.tensor(TensorId(index)).ok())
        .collect()
}

/// Addresses of a region in the order of its walk; `None` is padding.
fn addresses(region: &Region) -> Vec<Option<u64>> {
    let cells = (0..region.rows()).flat_map(|row| (0..region.cols()).map(move |col| (row, col)));
    cells.map(|(row, col)| region.address(row, col)).collect()
}

/// Why a mutant that neither the verifier nor the bits reject is no different program: by addresses, not by values.
fn dead(mutant: &Mutant, before: &[Instruction], after: &[Instruction]) -> Option<&'static str> {
    let original = &before[mutant.at].operation;
    if let Operation::Matmul(matmul) = original
        && matmul.accumulate
        && addresses(&matmul.stream).iter().all(Option::is_none)
    {
        return Some("adds nothing but padding");
    }
    match mutant.kind {
        // The verifier follows every byte; the generator, whole slots. Other orders have given the same bits.
        Kind::DroppedWait => Some("protects no conflict of any byte"),
        Kind::DroppedInstruction => does_again(&before[..mutant.at], original),
        _ => {
            let touched = |operation| -> Vec<_> {
                regions(operation).into_iter().map(|(region, writes)| (writes, addresses(region))).collect()
            };
            if let (Operation::Load(was), Operation::Load(is)) = (original, &after[mutant.at].operation)
                && carried(is).is_subset(&carried(was))
                && let Some(why) = does_again(&before[..mutant.at], original)
            {
                return Some(why);
            }
            let (was, is) = (touched(original), touched(&after[mutant.at].operation));
            if was == is {
                let empty = |(_, cells): &(bool, Vec<Option<u64>>)| cells.iter().all(Option::is_none);
                let only_padding = was.iter().any(empty);
                return Some(if only_padding { "a walk of padding only" } else { "touches the same addresses" });
            }
            // Only what no later instruction reads is moved.
            let mut lost = written(original);
            if lost.iter().any(|(space, _)| matches!(space, Space::Memory(_))) {
                return None;
            }
            for later in &before[mutant.at + 1..] {
                for (region, writes) in regions(&later.operation) {
                    for address in addresses(region).into_iter().flatten() {
                        let cell = (region.space, address);
                        if writes {
                            lost.remove(&cell);
                        } else if lost.contains(&cell) {
                            return None;
                        }
                    }
                }
            }
            Some("what it writes is never read")
        }
    }
}

/// Whether an operation puts something where it is already.
fn does_again(before: &[Instruction], operation: &Operation) -> Option<&'static str> {
    let mut earlier = before.iter().rev().map(|instruction| &instruction.operation);
    match operation {
        Operation::Load(this) => is_there(before, this).then_some("loads again what is in the buffer"),
        Operation::Preload { stationary } => {
            let reads: BTreeSet<_> =
                addresses(stationary).into_iter().flatten().map(|address| (stationary.space, address)).collect();
            let last = earlier
                .find(|earlier| matches!(earlier, Operation::Preload { .. }) || !written(earlier).is_disjoint(&reads));
            matches!(last, Some(Operation::Preload { stationary: last }) if last == stationary)
                .then_some("preloads again what is in the array")
        }
        _ => None,
    }
}

/// A byte's place.
type Cell = (Space, Option<u64>);

/// Where a transfer takes each element from, and to.
fn carried(transfer: &Transfer) -> BTreeSet<(Cell, Cell)> {
    let (source, target) = (&transfer.source, &transfer.target);
    let pairs = addresses(source).into_iter().zip(addresses(target));
    pairs.map(|(from, to)| ((source.space, from), (target.space, to))).collect()
}

/// Whether each element that a load brings was loaded to where it goes before, or stored from there, and neither place was
/// written since.
fn is_there(before: &[Instruction], load: &Transfer) -> bool {
    let mut pending = carried(load);
    for operation in before.iter().rev().map(|instruction| &instruction.operation) {
        match operation {
            Operation::Store(store) => {
                for (from, to) in carried(store) {
                    pending.remove(&(to, from));
                }
            }
            Operation::Load(earlier) => {
                for pair in carried(earlier) {
                    pending.remove(&pair);
                }
            }
            _ => {}
        }
        if pending.is_empty() {
            return true;
        }
        let written = written(operation);
        let is_written = |(space, address): &Cell| address.is_some_and(|address| written.contains(&(*space, address)));
        if pending.iter().any(|(from, to)| is_written(from) || is_written(to)) {
            return false;
        }
    }
    false
}

/// What an operation writes.
fn written(operation: &Operation) -> BTreeSet<(Space, u64)> {
    let written = regions(operation).into_iter().filter(|(_, writes)| *writes);
    written
        .flat_map(|(region, _)| addresses(region).into_iter().flatten().map(|address| (region.space, address)))
        .collect()
}

/// The same network with other random weights, and scales under which no result is constant or saturates as a whole:
/// a change must not hide behind a clamp.
fn with_data(graph: &Graph<Quantized>, seed: u64) -> Graph<Quantized> {
    const SCALE: f32 = 0.05;
    let mut graph = graph.clone();
    let mut numbers = Builder::new(seed ^ 0x5eed);
    for value in &mut graph.values {
        let zero = if value.dtype == DType::UInt8 { 128 } else { 0 };
        let scale = if value.constant.is_some() {
            let fresh = numbers_for(value, &mut numbers);
            value.constant = Some(Constant::Dense(Arc::new(fresh)));
            // Sums of `depth` products of a deviation of about 70 x 70 come to about 50 steps of the output.
            let depth: usize = value.shape[1..].iter().product();
            if value.shape.len() > 1 { 1.0 / (100.0 * (depth as f32).sqrt()) } else { 0.0 }
        } else {
            SCALE
        };
        value.quant = Some(Quantization::per_tensor(scale, zero));
    }
    for node in &mut graph.nodes {
        if let Op::Conv { activation, .. } | Op::MatMul { activation, .. } | Op::Add { activation } = &mut node.op {
            *activation = Activation::None;
        }
        if let &[_, weight, bias] = node.inputs.as_slice() {
            let scale = SCALE * graph.values[weight.index()].quant.as_ref().unwrap().scale_of(0);
            graph.values[bias.index()].quant = Some(Quantization::per_tensor(scale, 0));
        }
    }
    graph
}

fn numbers_for(value: &Value, numbers: &mut Builder) -> Tensor {
    let limit = if value.dtype == DType::Int32 { 2000 } else { 127 };
    let count: usize = value.shape.iter().product();
    let values: Vec<i64> = (0..count)
        .map(|_| {
            loop {
                let number = numbers.pick(-limit, limit);
                if number != 0 {
                    break number;
                }
            }
        })
        .collect();
    Tensor::from_integers(value.dtype, &value.shape, &values).unwrap()
}

/// Among the first networks, the one whose tensors vary most: the smallest share of distinct values in any tensor.
fn liveliest(accelerator: &Accelerator) -> (u64, Graph<Quantized>) {
    let mut best: Option<(f64, u64, Graph<Quantized>)> = None;
    for seed in 0..30 {
        let graph = with_data(&small_network(seed), seed);
        let Some(program) = mapped(&graph, accelerator) else { continue };
        let instructions: Vec<Instruction> = program.instructions().collect();
        let tensors = {
            let start = machine(&graph, &program, &inputs_of(&graph, seed));
            outcome(&start, &program, instructions.iter()).expect("the program runs")
        };
        let share = tensors
            .iter()
            .map(|tensor| {
                let values = tensor.to_integers().unwrap();
                let distinct: BTreeSet<i64> = values.iter().copied().collect();
                distinct.len() as f64 / values.len().min(100) as f64
            })
            .fold(1.0, f64::min);
        if best.as_ref().is_none_or(|(known, ..)| share > *known) {
            best = Some((share, seed, graph));
        }
    }
    let (share, seed, graph) = best.expect("a network fits");
    println!("network {seed}: at least {share:.2} distinct values a value");
    (seed, graph)
}

/// Mutants of a kind by what rejects them.
#[derive(Clone, Copy, Debug, Default)]
struct Tally {
    verifier: u32,
    bits: u32,
    dead: u32,
    survivors: u32,
}

const SAMPLE: usize = 700;

fn examine(name: &str, config: AcceleratorConfig, tallies: &mut BTreeMap<Kind, Tally>) {
    let mut reasons: BTreeMap<(Kind, &str), u32> = BTreeMap::new();
    let accelerator = Accelerator::from_valid(config);
    let (seed, graph) = liveliest(&accelerator);
    let graph = &graph;
    let program = mapped(graph, &accelerator).expect("the network fits");
    let original: Vec<Instruction> = program.instructions().collect();
    let constants = |id| graph.value(id).constant.is_some();
    assert_eq!(verify(&accelerator, &program.header, original.iter().cloned(), &constants).count, 0);
    let graphs: Vec<_> = (seed..seed + 5).map(|seed| (seed, with_data(graph, seed))).collect();
    let starts: Vec<(Machine, Vec<Tensor>)> = graphs
        .iter()
        .map(|(seed, graph)| {
            let start = machine(graph, &program, &inputs_of(graph, *seed));
            let expected = outcome(&start, &program, original.iter()).expect("the program runs");
            (start, expected)
        })
        .collect();
    let all = mutants(&original);
    println!("{name}: {} instructions, {} mutants", original.len(), all.len());
    let mut by_kind: BTreeMap<Kind, Vec<&Mutant>> = BTreeMap::new();
    for mutant in &all {
        by_kind.entry(mutant.kind).or_default().push(mutant);
    }
    for (kind, of_kind) in by_kind {
        let tally = tallies.entry(kind).or_default();
        // A deterministic sample, evenly over the program.
        let step = of_kind.len().div_ceil(SAMPLE).max(1);
        for mutant in of_kind.into_iter().step_by(step) {
            let mut changed = original.clone();
            (mutant.change)(&mut changed);
            if verify(&accelerator, &program.header, changed.iter().cloned(), &constants).count > 0 {
                tally.verifier += 1;
                continue;
            }
            let differs = starts
                .iter()
                .any(|(start, expected)| outcome(start, &program, changed.iter()).as_ref() != Some(expected));
            let reordered = || {
                (0..4).any(|seed| {
                    let mut random = rand_chacha::ChaCha8Rng::seed_from_u64(seed);
                    let order = random_legal(&changed, accelerator.engines.len(), &mut random);
                    let (start, expected) = &starts[0];
                    outcome(start, &program, order.into_iter().map(|at| &changed[at])).as_ref() != Some(expected)
                })
            };
            if differs || kind == Kind::DroppedWait && reordered() {
                tally.bits += 1;
            } else if let Some(why) = dead(mutant, &original, &changed) {
                *reasons.entry((kind, why)).or_default() += 1;
                let instruction = &original[mutant.at];
                let line = Line { accelerator: &accelerator, header: &program.header, instruction };
                println!("  dead: {kind:?} {}: {why}: {line}", mutant.what);
                tally.dead += 1;
            } else {
                let instruction = &original[mutant.at];
                println!("  survivor: {kind:?} {} at {}: {instruction:?}", mutant.what, mutant.at);
                tally.survivors += 1;
            }
        }
    }
    for ((kind, why), count) in reasons {
        println!("  {count} dead of {kind:?}: {why}");
    }
}

fn buffer(bytes: u64) -> Buffer {
    Buffer { bytes, banks: 2, word_bytes: 16, ports: 1, latency: 1 }
}

#[test]
fn every_mutant_is_rejected_or_changes_the_bits_or_is_dead() {
    let mut tallies = BTreeMap::new();
    let mut small = plain_config();
    (small.array.rows, small.array.cols) = (16, 8);
    small.buffers.layout = BufferLayout::Shared(buffer(1400));
    small.accumulators = Accumulators { bytes: 1024, ..small.accumulators };
    small.residency = true;
    examine("weight stationary, shared buffer", small, &mut tallies);
    let mut split = plain_config();
    (split.array.rows, split.array.cols) = (8, 16);
    split.array.dataflows = vec![Dataflow::OS];
    split.buffers.layout = BufferLayout::Split { input: buffer(600), weight: buffer(900), output: buffer(200) };
    split.accumulators = Accumulators { bytes: 700, ..split.accumulators };
    (split.dma.load_engines, split.dma.store_engines) = (2, 2);
    examine("output stationary, split buffers", split, &mut tallies);

    let mut held = plain_config();
    (held.array.rows, held.array.cols) = (8, 8);
    held.array.dataflows = vec![Dataflow::OS];
    held.buffers.layout = BufferLayout::Split { input: buffer(200), weight: buffer(200), output: buffer(200) };
    examine("output stationary, sums held", held, &mut tallies);

    println!("{:<22}{:>10}{:>8}{:>8}{:>12}", "kind", "verifier", "bits", "dead", "survivors");
    let mut survivors = 0;
    for (kind, tally) in &tallies {
        println!(
            "{:<22}{:>10}{:>8}{:>8}{:>12}",
            format!("{kind:?}"),
            tally.verifier,
            tally.bits,
            tally.dead,
            tally.survivors
        );
        survivors += tally.survivors;
        assert!(tally.verifier + tally.bits > 0, "no mutant of {kind:?} was rejected");
    }
    assert_eq!(tallies.len(), 7, "a kind of mutant does not occur");
    assert_eq!(survivors, 0, "mutants survive unexplained");
}
