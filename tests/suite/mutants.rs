//! Mutants of a program: every single dropped wait, moved address, skipped halo row, changed accumulation and dropped
//! instruction is rejected by the verifier, or changes the bits, or is shown to be dead. What survives unexplained
//! would be a hole in the claim that what is timed is what is executed.

use std::collections::BTreeMap;

use rand::SeedableRng;
use systole::{
    config::{Accelerator, AcceleratorConfig, Accumulators, Buffer, BufferLayout, Dataflow},
    engine::functional::Machine,
    ir::{Graph, Quantized},
    program::{
        Instruction, Operation, Pad, Program, Region, Space, TensorId,
        orders::random_legal,
        verify::{regions, verify},
    },
    tensor::Tensor,
};

use crate::{
    engine::machine,
    layers::small_network,
    programs::mapped,
    support::{inputs_of, plain_config},
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

/// One changed program.
struct Mutant {
    kind: Kind,
    at: usize,
    /// In words, for the list of survivors.
    what: String,
    change: Box<dyn Fn(&mut Vec<Instruction>)>,
}

/// The regions of an operation, to change.
fn regions_mut(operation: &mut Operation) -> Vec<&mut Region> {
    match operation {
        Operation::Load(t) | Operation::Store(t) | Operation::Move(t) => vec![&mut t.source, &mut t.target],
        Operation::Preload { stationary } => vec![stationary],
        Operation::Matmul(matmul) => {
            let mut all = vec![&mut matmul.stream];
            all.extend(matmul.stationary.as_mut());
            all.push(&mut matmul.accumulators);
            all
        }
        Operation::Vector(op) | Operation::Host(op) => op.inputs.iter_mut().chain([&mut op.output]).collect(),
        Operation::Fence => vec![],
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
        let mut add = |kind, what: String, change: Box<dyn Fn(&mut Vec<Instruction>)>| {
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
            let element = i64::from(region.element);
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
                let changes: [(&str, fn(&mut Pad)); 4] = [
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
            Operation::Matmul(_) => {
                let change = move |program: &mut Vec<Instruction>| {
                    let Operation::Matmul(matmul) = &mut program[at].operation else { return };
                    matmul.accumulate = !matmul.accumulate;
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

/// Why a mutant that neither the verifier nor the bits reject is no different program.
fn dead(mutant: &Mutant, before: &[Instruction], after: &[Instruction]) -> Option<&'static str> {
    if mutant.kind == Kind::DroppedInstruction || mutant.kind == Kind::DroppedWait {
        return None;
    }
    let touched = |program: &[Instruction]| -> Vec<(bool, Vec<Option<u64>>)> {
        regions(&program[mutant.at].operation)
            .into_iter()
            .map(|(region, writes)| {
                let cells = (0..region.rows()).flat_map(|row| (0..region.cols()).map(move |col| (row, col)));
                (writes, cells.map(|(row, col)| region.address(row, col)).collect())
            })
            .collect()
    };
    let (was, is) = (touched(before), touched(after));
    if was == is {
        return Some("touches the same addresses");
    }
    let nothing = |all: &[(bool, Vec<Option<u64>>)]| all.iter().any(|(_, cells)| cells.iter().all(Option::is_none));
    let changed: Vec<usize> = (0..was.len().min(is.len())).filter(|&i| was[i] != is[i]).collect();
    if changed.iter().all(|&i| nothing(&was[i..=i]) && nothing(&is[i..=i])) {
        return Some("touches nothing");
    }
    None
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

fn examine(name: &str, graph: &Graph<Quantized>, config: AcceleratorConfig, tallies: &mut BTreeMap<Kind, Tally>) {
    let accelerator = Accelerator::from_valid(config);
    let program = mapped(graph, &accelerator).expect("the network fits");
    let original: Vec<Instruction> = program.instructions().collect();
    let constants = |id| graph.value(id).constant.is_some();
    assert_eq!(verify(&accelerator, &program.header, original.iter().cloned(), &constants).count, 0);
    let starts: Vec<(Machine, Vec<Tensor>)> = (0..4)
        .map(|seed| {
            let start = machine(graph, &program, &inputs_of(graph, seed));
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
                println!("  dead: {kind:?} {} at {}: {why}", mutant.what, mutant.at);
                tally.dead += 1;
            } else {
                println!("  survivor: {kind:?} {} at {}: {:?}", mutant.what, mutant.at, original[mutant.at]);
                tally.survivors += 1;
            }
        }
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
    examine("weight stationary, shared buffer", &small_network(3), small, &mut tallies);
    let mut split = plain_config();
    (split.array.rows, split.array.cols) = (8, 16);
    split.array.dataflows = vec![Dataflow::OS];
    split.buffers.layout = BufferLayout::Split { input: buffer(600), weight: buffer(900), output: buffer(200) };
    split.accumulators = Accumulators { bytes: 700, ..split.accumulators };
    (split.dma.load_engines, split.dma.store_engines) = (2, 2);
    examine("output stationary, split buffers", &small_network(5), split, &mut tallies);

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
