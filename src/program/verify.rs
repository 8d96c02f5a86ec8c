//! Checks a program by what its tokens and its engines' orders imply, and by nothing else: it does not know how the
//! program was made. A happens-before race detector over every byte (and accumulator) that an instruction touches:
//! a read must come after the write that it needs and before the write that destroys it; memory is written once;
//! every region fits its space; tokens are signalled once and before they are waited for; no wait is implied by others.
//!
//! Bytes are followed one by one, so it is for tests and for `map --program`, not for every run.

use std::fmt;

use super::{Header, Instruction, Operation, Region, Space, Token, VectorKind};
use crate::{config::Accelerator, ir::ValueId};

/// What is wrong with an instruction.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum FaultKind {
    /// Reads what no instruction wrote and no image holds.
    ReadsUnwritten,
    /// Reads what an instruction that need not have retired writes.
    ReadsTooEarly,
    /// Overwrites what an instruction that need not have retired writes.
    OverwritesWrite,
    /// Overwrites what an instruction that need not have retired reads.
    OverwritesRead,
    /// Writes a byte of memory that is an image's or was written before.
    WritesMemoryTwice,
    /// Touches an address outside the space; one below zero is shown by its distance.
    OutOfBounds,
    /// Waits for a token that no earlier instruction signals.
    UnknownToken,
    /// Signals a token that an earlier instruction signalled.
    SignalledTwice,
    /// Waits for a token that the engine's order or another of its tokens implies: a fault of the generator.
    RedundantWait,
}

/// What is wrong with one instruction.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Fault {
    /// The instruction.
    pub instruction: u64,
    /// What is wrong.
    pub kind: FaultKind,
    /// Where, for faults of access.
    pub address: Option<(Space, u64)>,
    /// The other instruction of a race.
    pub other: Option<u64>,
    /// The token, for faults of tokens.
    pub token: Option<Token>,
}

impl fmt::Display for Fault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "instruction {}: {:?}", self.instruction, self.kind)?;
        if let Some((space, address)) = self.address {
            write!(f, " at {space:?} {address}")?;
        }
        if let Some(other) = self.other {
            write!(f, ", against instruction {other}")?;
        }
        if let Some(token) = self.token {
            write!(f, ", token {}", token.0)?;
        }
        Ok(())
    }
}

/// Faults kept; more are counted.
const KEPT: usize = 32;

/// What was found in a whole program.
#[derive(Clone, Debug, Default)]
pub struct Report {
    /// The first faults.
    pub faults: Vec<Fault>,
    /// All faults.
    pub count: u64,
    /// Instructions seen.
    pub instructions: u64,
}

/// Checks a program. `constants` tells whether a value is a constant, whose tensor lies in memory from the start.
pub fn verify(
    accelerator: &Accelerator,
    header: &Header,
    instructions: impl Iterator<Item = Instruction>,
    constants: &dyn Fn(ValueId) -> bool,
) -> Report {
    let engines = accelerator.engines.len();
    let mut checker = Checker {
        clocks: vec![vec![0; engines]; engines],
        counts: vec![0; engines],
        places: Vec::new(),
        tokens: Vec::new(),
        memories: header.memory_bytes.iter().map(|&bytes| Shadow::new(bytes, 0)).collect(),
        buffers: accelerator
            .buffers
            .iter()
            .map(|buffer| Shadow::new(buffer.bytes * header.buffer_scale, engines))
            .collect(),
        accumulators: Shadow::new(accelerator.accumulator_words(), engines),
        report: Report::default(),
    };
    checker.preset(header, constants);
    for instruction in instructions {
        checker.instruction(&instruction);
    }
    checker.report
}

/// No instruction.
const NONE: u32 = u32::MAX;
/// Written before the program starts.
const INITIAL: u32 = u32::MAX - 1;

/// Who touched each unit of a space last.
struct Shadow {
    size: u64,
    /// Number of engines whose reads are remembered; 0 for memory.
    engines: usize,
    /// Pages made when first touched.
    pages: Vec<Option<Box<Page>>>,
}

const PAGE: u64 = 4096;

struct Page {
    writer: Vec<u32>,
    /// `engines` entries a unit.
    readers: Vec<u32>,
}

impl Shadow {
    fn new(size: u64, engines: usize) -> Self {
        let count = usize::try_from(size.div_ceil(PAGE)).unwrap_or(0);
        let mut pages = Vec::new();
        pages.resize_with(count, || None);
        Self { size, engines, pages }
    }

    /// The page of an address inside the space, and the place in it.
    fn page(&mut self, address: u64) -> (&mut Page, usize) {
        let engines = self.engines;
        let units = usize::try_from(PAGE).expect("small");
        let index = usize::try_from(address / PAGE).expect("inside the space");
        let page = self.pages[index]
            .get_or_insert_with(|| Box::new(Page { writer: vec![NONE; units], readers: vec![NONE; units * engines] }));
        (page, usize::try_from(address % PAGE).expect("small"))
    }
}

struct Checker {
    /// By engine: how many instructions of each engine have surely retired before its next one starts.
    clocks: Vec<Vec<u32>>,
    counts: Vec<u32>,
    /// By instruction: its engine and its number there, from 1.
    places: Vec<(u8, u32)>,
    /// By token: the clock at its signal.
    tokens: Vec<Option<Vec<u32>>>,
    memories: Vec<Shadow>,
    buffers: Vec<Shadow>,
    accumulators: Shadow,
    report: Report,
}

impl Checker {
    /// Marks weight images, network inputs and constants as written.
    fn preset(&mut self, header: &Header, constants: &dyn Fn(ValueId) -> bool) {
        for image in &header.weights {
            let shadow = &mut self.memories[usize::from(image.memory.0)];
            for address in image.base..image.base + image.bytes {
                let (page, at) = shadow.page(address);
                page.writer[at] = INITIAL;
            }
        }
        for (index, tensor) in (0_u32..).zip(&header.tensors) {
            let Space::Memory(memory) = tensor.space else { continue };
            if !header.inputs.iter().any(|input| input.0 == index) && !constants(tensor.value) {
                continue;
            }
            let bytes = tensor.shape.iter().product::<usize>() as u64 * tensor.dtype.bytes();
            for address in tensor.base..tensor.base + bytes {
                let (page, at) = self.memories[usize::from(memory.0)].page(address);
                page.writer[at] = INITIAL;
            }
        }
    }

    fn fault(&mut self, fault: Fault) {
        self.report.count += 1;
        if self.report.faults.len() < KEPT {
            self.report.faults.push(fault);
        }
    }

    fn instruction(&mut self, instruction: &Instruction) {
        self.report.instructions += 1;
        let own = usize::from(instruction.engine.0);
        let token_fault = |kind, token| Fault {
            instruction: instruction.index,
            kind,
            address: None,
            other: None,
            token: Some(token),
        };
        if matches!(instruction.operation, Operation::Fence) {
            for clock in &mut self.clocks {
                clock.clone_from(&self.counts);
            }
        }
        self.waits(instruction, own, &token_fault);
        self.counts[own] += 1;
        self.clocks[own][own] = self.counts[own];
        self.places.push((instruction.engine.0, self.counts[own]));
        for (region, writes) in regions(&instruction.operation) {
            self.access(instruction.index, own, region, writes);
        }
        if let Some(token) = instruction.signals {
            let index = token.0 as usize;
            if self.tokens.len() <= index {
                self.tokens.resize(index + 1, None);
            }
            if self.tokens[index].is_some() {
                self.fault(token_fault(FaultKind::SignalledTwice, token));
            }
            self.tokens[index] = Some(self.clocks[own].clone());
        }
    }

    fn waits(&mut self, instruction: &Instruction, own: usize, fault: &dyn Fn(FaultKind, Token) -> Fault) {
        let clock_of = |token: &Token| self.tokens.get(token.0 as usize).cloned().flatten();
        let known: Vec<(Token, Option<Vec<u32>>)> =
            instruction.waits.iter().map(|token| (*token, clock_of(token))).collect();
        for (i, (token, clock)) in known.iter().enumerate() {
            let Some(clock) = clock else {
                self.fault(fault(FaultKind::UnknownToken, *token));
                continue;
            };
            let mut without = self.clocks[own].clone();
            for (_, other) in known.iter().enumerate().filter(|&(j, _)| j != i).map(|(_, entry)| entry) {
                merge(&mut without, other.as_deref().unwrap_or(&[]));
            }
            if clock.iter().zip(&without).all(|(needed, has)| needed <= has) {
                self.fault(fault(FaultKind::RedundantWait, *token));
            }
        }
        for (_, clock) in &known {
            merge(&mut self.clocks[own], clock.as_deref().unwrap_or(&[]));
        }
    }

    fn access(&mut self, instruction: u64, own: usize, region: &Region, writes: bool) {
        let clock = self.clocks[own].clone();
        let me = u32::try_from(self.places.len() - 1).expect("programs under verification are small");
        let places = std::mem::take(&mut self.places);
        let mut found: Option<(FaultKind, u64, Option<u32>)> = None;
        let ordered = |other: u32| {
            if other == NONE || other == INITIAL {
                return true;
            }
            let (engine, count) = places[other as usize];
            usize::from(engine) == own || clock[usize::from(engine)] >= count
        };
        let is_memory = matches!(region.space, Space::Memory(_));
        let shadow = match region.space {
            Space::Memory(id) => &mut self.memories[usize::from(id.0)],
            Space::Buffer(id) => &mut self.buffers[usize::from(id.0)],
            Space::Accumulators => &mut self.accumulators,
        };
        let engines = shadow.engines;
        if region.base < 0
            && let Some(below) = lowest_address(region).filter(|&address| address < 0)
        {
            // Shown as its distance below the space.
            found = Some((FaultKind::OutOfBounds, below.unsigned_abs(), None));
        }
        region.for_each_run(|start, units| {
            for address in start..start.saturating_add(units) {
                if address >= shadow.size {
                    found.get_or_insert((FaultKind::OutOfBounds, address, None));
                    return;
                }
                let (page, at) = shadow.page(address);
                let writer = page.writer[at];
                if !writes {
                    if writer == NONE {
                        found.get_or_insert((FaultKind::ReadsUnwritten, address, None));
                    } else if !ordered(writer) {
                        found.get_or_insert((FaultKind::ReadsTooEarly, address, Some(writer)));
                    }
                    if !is_memory {
                        page.readers[at * engines + own] = me;
                    }
                    continue;
                }
                if is_memory && writer != NONE && writer != me {
                    found.get_or_insert((FaultKind::WritesMemoryTwice, address, Some(writer)));
                }
                if !ordered(writer) {
                    found.get_or_insert((FaultKind::OverwritesWrite, address, Some(writer)));
                }
                for engine in 0..engines {
                    let reader = page.readers[at * engines + engine];
                    if engine != own && !ordered(reader) {
                        found.get_or_insert((FaultKind::OverwritesRead, address, Some(reader)));
                    }
                    page.readers[at * engines + engine] = NONE;
                }
                page.writer[at] = me;
            }
        });
        self.places = places;
        if let Some((kind, address, other)) = found {
            let other = other.filter(|&other| other != INITIAL).map(u64::from);
            self.fault(Fault { instruction, kind, address: Some((region.space, address)), other, token: None });
        }
    }
}

/// The lowest address of a walk, padding left out.
fn lowest_address(region: &Region) -> Option<i64> {
    let rows = (0..region.rows()).flat_map(|row| (0..region.cols()).map(move |col| (row, col)));
    rows.filter_map(|(row, col)| region.signed_address(row, col)).min()
}

fn merge(clock: &mut [u32], other: &[u32]) {
    for (mine, &theirs) in clock.iter_mut().zip(other) {
        *mine = (*mine).max(theirs);
    }
}

/// What an operation touches: reads first, then writes. A whole operator's region is its whole tensor.
pub fn regions(operation: &Operation) -> Vec<(&Region, bool)> {
    match operation {
        Operation::Load(t) | Operation::Store(t) | Operation::Move(t) => vec![(&t.source, false), (&t.target, true)],
        Operation::Preload { stationary } | Operation::Fetch { stationary } => vec![(stationary, false)],
        Operation::Matmul(matmul) => {
            let mut all = vec![(&matmul.stream, false)];
            all.extend(matmul.stationary.as_ref().map(|region| (region, false)));
            if matmul.accumulate && !matmul.hold {
                all.push((&matmul.accumulators, false));
            }
            if !matmul.hold {
                all.push((&matmul.accumulators, true));
            }
            all
        }
        Operation::Vector(op) | Operation::Host(op) => {
            let mut all: Vec<(&Region, bool)> = op.inputs.iter().map(|region| (region, false)).collect();
            debug_assert!(
                !matches!(op.kind, VectorKind::WholeOperator { .. }) || matches!(operation, Operation::Host(_))
            );
            all.push((&op.output, true));
            all
        }
        Operation::PreloadNext { .. } | Operation::Fence => vec![],
    }
}
