//! When commands begin: each in the first cycle from which nothing meets what it should not, found by trying. The only rules
//! here are those that no register has: what the machine states as a policy (least time between streams, tiles that do not
//! overlap, changes of dataflow), that a load does not run ahead of what it overwrites, and that no operand is asked of the
//! buffers before it is of use.

use std::collections::VecDeque;

use super::{Arithmetic, Array, Command, Conflict, Meeting, Tile, array::Out};
use crate::config;

/// When a command may begin, apart from the array itself.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Ready(pub u64);

/// What became of a command, in cycles.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Outcome {
    /// In which it begins.
    pub start: u64,
    /// Of a tile: in which its first sum stands at the edge of the array; none where sums stay.
    pub first_out: Option<u64>,
    /// Of a tile: in which its last sum does, or from which all sums that stay are complete. Of a load: when the next may
    /// enter.
    pub end: u64,
}

/// A program that has run.
#[derive(Clone, Debug)]
pub struct Run<A: Arithmetic> {
    /// By command.
    pub outcomes: Vec<Outcome>,
    /// The array at rest.
    pub array: Array<A>,
}

/// What the rules ask of the commands before.
#[derive(Clone, Debug, Default)]
struct Before {
    /// Nothing begins earlier: the last change of dataflow.
    floor: u64,
    load: Option<u64>,
    stream: Option<u64>,
    /// End of the last stream at the port.
    streamed: u64,
    /// Whether a tile has used the last load.
    load_used: bool,
    /// First beats of the first streams of the last loads, as many as there are shadow registers.
    first_beats: VecDeque<u64>,
    last_beat: Option<u64>,
    /// When the last sum of all tiles is out.
    result: u64,
    tiles: u32,
}

/// The array with its commands so far.
#[derive(Clone, Debug)]
pub struct Sequencer<A: Arithmetic> {
    machine: config::Array,
    /// As far as no later command can change it.
    array: Array<A>,
    /// The same with all commands so far, at rest.
    rest: Array<A>,
    before: Before,
    outcomes: Vec<(Kind, u64)>,
}

#[derive(Clone, Copy, Debug)]
enum Kind {
    Load,
    Tile(u32),
}

impl<A: Arithmetic> Sequencer<A> {
    /// An empty array with `accumulators` words behind it.
    pub fn new(machine: &config::Array, arithmetic: A, accumulators: usize) -> Self {
        let array = Array::new(machine, arithmetic, accumulators);
        let before = Before { load_used: true, ..Before::default() };
        Self { machine: machine.clone(), rest: array.clone(), array, before, outcomes: Vec::new() }
    }

    /// Begins a command as early as it can, not before it is ready; the cycle.
    ///
    /// # Errors
    /// A command that meets what it should not whenever it begins.
    pub fn push(&mut self, command: &Command, ready: Ready) -> Result<u64, Conflict> {
        let first = ready.0.max(self.earliest(command));
        // By then everything is at rest, and nothing is met that would not be met for ever.
        let last = first.max(self.rest.now()) + self.array.structure().load_cycles + 1;
        let mut found = Conflict { tile: 0, cycle: first, meeting: Meeting::OutOfRange };
        // An array that flushes when it is idle takes a tile at once or when its last result is out.
        let free = self.earliest(command);
        let flushes = self.machine.flush_idle && matches!(command, Command::Stream(_));
        for start in first..=last {
            if flushes && start > free && start < self.before.result {
                continue;
            }
            let mut trial = self.array.clone();
            let met = self.too_early(command, start).map_or(Ok(()), Err);
            match met.and_then(|()| trial.begin(command, start)).and_then(|()| trial.finish()) {
                Ok(()) => {
                    self.rest = trial;
                    self.accept(command, start)?;
                    return Ok(start);
                }
                Err(conflict) => found = conflict,
            }
        }
        Err(found)
    }

    /// Whether a command that began at `start` would meet what it should not: the first conflict. Changes nothing.
    pub fn conflict_at(&self, command: &Command, start: u64) -> Option<Conflict> {
        let mut trial = self.array.clone();
        trial.begin(command, start).and_then(|()| trial.finish()).err()
    }

    /// A stream asks nothing of a slow operand buffer before its stationary operand is in place: whether a beat that came
    /// at once would meet another.
    fn too_early(&self, command: &Command, start: u64) -> Option<Conflict> {
        let Command::Stream(tile) = command else { return None };
        if tile.top.is_some() || tile.beat_cycles == 1 {
            return None;
        }
        let left = tile.left.get(..self.array.structure().rows)?.to_vec();
        let sums = super::Sums { rows: 1, ..tile.sums };
        let beat = Tile { beats: 1, beat_cycles: 1, left, sums, accumulate: false, ..tile.clone() };
        let found = self.conflict_at(&Command::Stream(beat), start)?;
        matches!(found.meeting, Meeting::WrongWeight { .. }).then_some(found)
    }

    /// The first cycle that the rules allow.
    pub fn earliest(&self, command: &Command) -> u64 {
        let (before, rules) = (&self.before, &self.machine);
        match command {
            Command::Preload(_) => {
                let period = self.array.structure().load_cycles;
                let port = before.load.map_or(0, |start| start + period);
                let depth = self.array.structure().shadow_depth;
                let used = match depth {
                    0 => before.last_beat,
                    _ => before.first_beats.len().checked_sub(depth).map(|index| before.first_beats[index]),
                };
                let alone = if depth == 0 && !rules.overlap_tiles { before.result } else { 0 };
                before.floor.max(port).max(used.unwrap_or(0)).max(alone)
            }
            Command::Stream(tile) => {
                let paced = before.stream.map_or(0, |start| start + u64::from(rules.min_stream));
                let alone = if rules.overlap_tiles || tile.resume { 0 } else { before.result };
                before.floor.max(before.streamed).max(paced).max(alone)
            }
        }
    }

    /// The array empties and is set for another dataflow, which takes `cycles`.
    pub fn switch(&mut self, cycles: u64) {
        let before = &self.before;
        let load = before.load.map_or(0, |start| start + self.array.structure().load_cycles);
        let paced = before.stream.map_or(0, |start| start + u64::from(self.machine.min_stream));
        self.before.floor = before.floor.max(load).max(paced).max(before.streamed).max(before.result) + cycles;
    }

    fn accept(&mut self, command: &Command, start: u64) -> Result<(), Conflict> {
        self.array.begin(command, start)?;
        let before = &mut self.before;
        match command {
            Command::Preload(_) => {
                (before.load, before.load_used) = (Some(start), false);
                self.outcomes.push((Kind::Load, start));
            }
            Command::Stream(tile) => {
                let cycles = u64::from(tile.beat_cycles);
                before.stream = Some(start);
                before.streamed = start + u64::from(tile.beats) * cycles;
                if tile.top.is_none() {
                    before.last_beat = Some(before.streamed - 1);
                    if !before.load_used {
                        before.first_beats.push_back(start + cycles - 1);
                        if before.first_beats.len() > self.array.structure().shadow_depth {
                            before.first_beats.pop_front();
                        }
                    }
                    before.load_used = true;
                }
                before.tiles += 1;
                before.result = before.result.max(self.rest.out(before.tiles).last);
                self.outcomes.push((Kind::Tile(before.tiles), start));
            }
        }
        // No later load begins before the last one, no later stream before the last one; neither before it is allowed.
        let safe = match (self.before.load, self.before.stream) {
            (Some(load), Some(stream)) => load.min(stream),
            (None, Some(stream)) if matches!(command, Command::Stream(tile) if tile.top.is_some()) => stream,
            _ => 0,
        };
        self.array.advance(safe.max(self.before.floor))
    }

    /// The program's outcomes and values.
    pub fn finish(self) -> Run<A> {
        let period = self.array.structure().load_cycles;
        let array = self.rest;
        let outcome = |&(kind, start): &(Kind, u64)| match kind {
            Kind::Load => Outcome { start, first_out: None, end: start + period },
            Kind::Tile(tile) => {
                let Out { first, last } = array.out(tile);
                Outcome { start, first_out: first, end: last }
            }
        };
        Run { outcomes: self.outcomes.iter().map(outcome).collect(), array }
    }
}
