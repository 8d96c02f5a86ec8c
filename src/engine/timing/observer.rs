//! Who watches a run: every instruction, phase, byte and buffer as the simulator comes to know them. What is made of it
//! is not known here, and nothing of it changes a time.
//!
//! The simulator is generic over its observer; without one (`()`) no hook is compiled. An engine's instructions are told
//! in order, and so are a memory's bytes. Between engines there is no order of time: an engine that nothing holds up is
//! known far ahead of another.

use std::collections::VecDeque;

use super::{TimingError, causes::Cause, occupancy::Occupancy};
use crate::{
    config::Accelerator,
    program::{Instruction, Operation, Token},
    units::Time,
};

/// Where a phase takes place.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Unit {
    /// The issue unit.
    Issue,
    /// An engine of the machine, by its index.
    Engine(usize),
}

/// An instruction that is issued.
#[derive(Clone, Copy, Debug)]
pub struct Issued<'a> {
    /// Position in program order.
    pub instruction: u64,
    /// Its layer.
    pub layer: usize,
    /// Where it runs; a fence is the issue unit's.
    pub unit: Unit,
    /// What it does: `load`, `matmul`...
    pub operation: &'static str,
    /// What it waits for.
    pub waits: &'a [Token],
    /// What it signals at its end.
    pub signals: Option<Token>,
    /// When the issue unit was done with the instruction before.
    pub ready: Time,
    /// When the engine's queue had room for it.
    pub begin: Time,
}

/// A stretch of one cause, from its binding predecessor to its end.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Phase {
    /// Where.
    pub unit: Unit,
    /// The layer of its instruction.
    pub layer: usize,
    /// The instruction.
    pub instruction: u64,
    /// Why the time passes.
    pub cause: Cause,
    /// The end of its binding predecessor: may lie before the instruction's own start.
    pub start: Time,
    /// Its end.
    pub end: Time,
}

/// An instruction that is done.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Done {
    /// Where it ran.
    pub unit: Unit,
    /// Its layer.
    pub layer: usize,
    /// The instruction.
    pub instruction: u64,
    /// When it started. An engine's `busy` is the time that these stretches cover.
    pub start: Time,
    /// When all its effects were visible.
    pub end: Time,
}

/// Bytes at a memory's pins.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Transferred {
    /// The memory space, by its index.
    pub memory: usize,
    /// The engine whose bytes these are.
    pub engine: usize,
    /// The layer of its instruction.
    pub layer: usize,
    /// The instruction.
    pub instruction: u64,
    /// When the memory began to serve them.
    pub start: Time,
    /// When it was done with them.
    pub end: Time,
    /// How many.
    pub bytes: u64,
    /// Whether the host moved them at its own pace, without holding the memory.
    pub by_host: bool,
}

/// A buffer that fills or empties.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Fill {
    /// The buffer, by its index; the accumulators come after the buffers.
    pub buffer: usize,
    /// When.
    pub time: Time,
    /// Bytes more or less. Fills are told in no order of time; their sum up to any time is what lies there then.
    pub change: i64,
}

/// A layer that is over. All are told when the run is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct LayerSpan {
    /// The layer.
    pub layer: usize,
    /// Where its part of the timeline begins and ends.
    pub part: [Time; 2],
}

/// Watches a run.
#[allow(unused_variables, reason = "an observer takes what it wants")]
pub trait Observer {
    /// Whether it wants to be told anything.
    const ACTIVE: bool = true;

    /// An instruction is issued. It comes before the instruction's phases on its engine.
    fn issued(&mut self, issued: &Issued) {}
    /// Time passes.
    fn phase(&mut self, phase: &Phase) {}
    /// An instruction is done.
    fn done(&mut self, done: &Done) {}
    /// Bytes move.
    fn transferred(&mut self, transferred: &Transferred) {}
    /// A buffer fills or empties.
    fn filled(&mut self, fill: &Fill) {}
    /// A layer has its part of the timeline.
    fn layer(&mut self, span: &LayerSpan) {}
}

/// No one watches.
impl Observer for () {
    const ACTIVE: bool = false;
}

/// What a memory serves in a phase.
#[derive(Clone, Copy, Debug)]
pub(super) struct Served {
    pub memory: u8,
    pub bytes: u64,
    /// When it begins to: later than the phase where it turns from reads to writes first.
    pub start: Time,
}

/// A phase as the graph of causes notes it, and what is served where it is a memory's.
#[derive(Clone, Copy, Debug)]
pub(super) struct Noted {
    pub cause: Cause,
    pub start: Time,
    pub end: Time,
    pub served: Option<Served>,
}

/// The observer, and what has to be remembered to tell it.
pub(super) struct Watch<'a, O> {
    observer: Option<&'a mut O>,
    /// The operations of each engine's instructions that are issued and not done.
    waiting: Vec<VecDeque<Operation>>,
    occupancy: Occupancy,
}

impl<'a, O: Observer> Watch<'a, O> {
    pub fn new(accelerator: &Accelerator, buffer_scale: u64, observer: Option<&'a mut O>) -> Self {
        let engines = if O::ACTIVE { accelerator.engines.len() } else { 0 };
        Self { observer, waiting: vec![VecDeque::new(); engines], occupancy: Occupancy::new(accelerator, buffer_scale) }
    }

    /// Tells of an instruction that is issued: the issue unit was done with the one before at `ready`, and its queue had
    /// room at `begin`.
    #[inline]
    pub fn issued(&mut self, instruction: &Instruction, ready: Time, begin: Time) {
        if !O::ACTIVE {
            return;
        }
        let Some(observer) = &mut self.observer else { return };
        let engine = usize::from(instruction.engine.0);
        let is_fence = matches!(instruction.operation, Operation::Fence);
        observer.issued(&Issued {
            instruction: instruction.index,
            layer: instruction.layer.index(),
            unit: if is_fence { Unit::Issue } else { Unit::Engine(engine) },
            operation: name(&instruction.operation),
            waits: &instruction.waits,
            signals: instruction.signals,
            ready,
            begin,
        });
        if !is_fence && let Some(waiting) = self.waiting.get_mut(engine) {
            waiting.push_back(instruction.operation.clone());
        }
    }

    /// Tells of the phases that were noted for an instruction.
    #[inline]
    pub fn phases(&mut self, noted: &mut Vec<Noted>, unit: Unit, layer: usize, instruction: u64) {
        if !O::ACTIVE {
            return;
        }
        for Noted { cause, start, end, served } in noted.drain(..) {
            let Some(observer) = &mut self.observer else { continue };
            observer.phase(&Phase { unit, layer, instruction, cause, start, end });
            if let (Some(Served { memory, bytes, start }), Unit::Engine(engine)) = (served, unit) {
                let memory = usize::from(memory);
                let by_host = false;
                observer.transferred(&Transferred { memory, engine, layer, instruction, start, end, bytes, by_host });
            }
        }
    }

    /// Tells of bytes that the host moved.
    #[inline]
    pub fn host_access(&mut self, done: &Done, memory: u8, bytes: u64) {
        if !O::ACTIVE {
            return;
        }
        if let (Some(observer), Unit::Engine(engine)) = (&mut self.observer, done.unit) {
            let Done { layer, instruction, start, end, .. } = *done;
            let memory = usize::from(memory);
            let by_host = true;
            observer.transferred(&Transferred { memory, engine, layer, instruction, start, end, bytes, by_host });
        }
    }

    /// Tells of an instruction that is done, and of the buffers that it filled.
    #[inline]
    pub fn done(&mut self, done: &Done) -> Result<(), TimingError> {
        if !O::ACTIVE {
            return Ok(());
        }
        let Some(observer) = &mut self.observer else { return Ok(()) };
        observer.done(done);
        if let Unit::Engine(engine) = done.unit
            && let Some(operation) = self.waiting.get_mut(engine).and_then(VecDeque::pop_front)
        {
            self.occupancy.done(&operation, done.start, done.end, &mut |fill| observer.filled(&fill))?;
        }
        Ok(())
    }

    /// Tells of what is only known at the end: the layers' parts, and when what still lies in buffers was last used.
    pub fn finish(&mut self, ends: impl Iterator<Item = Time>) {
        let Some(observer) = &mut self.observer else { return };
        let mut start = Time::ZERO;
        for (layer, end) in ends.enumerate() {
            observer.layer(&LayerSpan { layer, part: [start, end] });
            start = end;
        }
        self.occupancy.finish(&mut |fill| observer.filled(&fill));
    }
}

const fn name(operation: &Operation) -> &'static str {
    match operation {
        Operation::Load(_) => "load",
        Operation::Store(_) => "store",
        Operation::Move(_) => "move",
        Operation::Preload { .. } | Operation::PreloadNext { .. } => "preload",
        Operation::Fetch { .. } => "fetch",
        Operation::Matmul(_) => "matmul",
        Operation::Vector(_) => "vector",
        Operation::Fence => "fence",
        Operation::Host(_) => "host",
    }
}
