//! Which earlier instructions a new one must wait for: an interval map of last writers and readers for each space, and
//! vector clocks that leave out what another token or the engine's own order implies.
//!
//! Works on whole slots and bounding intervals, which the generator knows; `verify` checks the outcome byte by byte with
//! code of its own.

use std::collections::{BTreeMap, BTreeSet, VecDeque};

use smallvec::SmallVec;

use super::{instruction::Token, region::Space};
use crate::config::EngineId;

/// The completion of an instruction, as remembered for later ones.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Completion {
    engine: EngineId,
    /// Position among the engine's signalling instructions, from 1.
    sequence: u32,
    token: Token,
}

type Completions = SmallVec<[Completion; 2]>;

#[derive(Clone, Debug, Default)]
struct Interval {
    end: u64,
    writers: Completions,
    readers: Completions,
}

/// How an instruction uses an interval.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Use {
    /// Reads bytes of it.
    Read,
    /// Overwrites all of it.
    Write,
    /// Writes bytes of it that no other instruction writes (memory tensors, of which each byte is written once).
    WriteOnce,
}

/// An interval `[start, end)` of a space and its use.
pub type Access = (Use, Space, u64, u64);

/// The state of all spaces and engines after the instructions so far.
#[derive(Clone, Debug)]
pub struct Hazards {
    spaces: BTreeMap<Space, BTreeMap<u64, Interval>>,
    /// For each engine, how many signalling instructions of each engine have surely retired before its next one starts.
    clocks: Vec<Vec<u32>>,
    /// For each token from `first_token` on, the same at its retirement.
    token_clocks: VecDeque<Box<[u32]>>,
    first_token: usize,
    /// The same for earlier tokens that an interval still names.
    old_clocks: BTreeMap<usize, Box<[u32]>>,
    /// Clocks to hold before those that nothing can ask for any more are dropped.
    held: usize,
    /// Engines that read memory.
    readers: Vec<EngineId>,
    /// Signalling instructions so far, by engine.
    counts: Vec<u32>,
}

/// Clocks of tokens to hold at least.
const CLOCKS_HELD: usize = 1 << 14;

impl Hazards {
    /// No instruction yet, on `engines` engines, of which only `readers` will read memory.
    pub fn new(engines: usize, readers: Vec<EngineId>) -> Self {
        Self {
            spaces: BTreeMap::new(),
            clocks: vec![vec![0; engines]; engines],
            token_clocks: VecDeque::new(),
            first_token: 0,
            old_clocks: BTreeMap::new(),
            held: CLOCKS_HELD,
            readers,
            counts: vec![0; engines],
        }
    }

    /// What an instruction of `engine` with these accesses must wait for. The engine's clock advances: what is returned
    /// counts as waited for.
    pub fn waits(&mut self, engine: EngineId, accesses: &[Access]) -> SmallVec<[Token; 4]> {
        let mut needed: SmallVec<[Completion; 8]> = SmallVec::new();
        let own = usize::from(engine.0);
        // What is over already would be skipped below; leaving it out here keeps the list short.
        let clock = &self.clocks[own];
        let open = |known: &&Completion| {
            let other = usize::from(known.engine.0);
            other != own && clock[other] < known.sequence
        };
        for &(usage, space, start, end) in accesses {
            let Some(intervals) = self.spaces.get(&space) else { continue };
            let first = intervals.range(..=start).next_back().map_or(start, |(&at, _)| at);
            for (_, interval) in intervals.range(first..end).filter(|(_, interval)| interval.end > start) {
                if usage != Use::WriteOnce {
                    needed.extend(interval.writers.iter().filter(open).copied());
                }
                if usage == Use::Write {
                    needed.extend(interval.readers.iter().filter(open).copied());
                }
            }
        }
        // A later token is never implied by an earlier one: taking the latest first leaves no redundant wait.
        needed.sort_unstable_by_key(|completion| std::cmp::Reverse(completion.token));
        let mut waits = SmallVec::new();
        for completion in needed {
            let other = usize::from(completion.engine.0);
            if other == own || self.clocks[own][other] >= completion.sequence {
                continue;
            }
            let token = completion.token.0 as usize;
            let seen = match token.checked_sub(self.first_token) {
                Some(index) => &self.token_clocks[index],
                None => &self.old_clocks[&token],
            };
            for (clock, &seen) in self.clocks[own].iter_mut().zip(seen) {
                *clock = (*clock).max(seen);
            }
            waits.push(completion.token);
        }
        waits
    }

    /// What `engine` must wait for where its next instruction goes on with what one of `other` did, which signalled `token`.
    pub fn wait_for(&mut self, engine: EngineId, token: Token, other: EngineId) -> SmallVec<[Token; 4]> {
        let (own, other) = (usize::from(engine.0), usize::from(other.0));
        let Some(seen) = (token.0 as usize).checked_sub(self.first_token).and_then(|at| self.token_clocks.get(at))
        else {
            return SmallVec::new();
        };
        if self.clocks[own][other] >= seen[other] {
            return SmallVec::new();
        }
        for (clock, &seen) in self.clocks[own].iter_mut().zip(seen) {
            *clock = (*clock).max(seen);
        }
        SmallVec::from_slice(&[token])
    }

    /// Records an instruction of `engine` that signals, with all accesses since the engine's last signal that others may
    /// have to wait for.
    ///
    /// # Panics
    /// Past 2^32 tokens.
    pub fn signal(&mut self, engine: EngineId, accesses: &[Access]) -> Token {
        let own = usize::from(engine.0);
        if self.token_clocks.len() >= self.held {
            self.forget();
        }
        let next = self.first_token + self.token_clocks.len();
        let token = Token(u32::try_from(next).expect("fewer than 2^32 tokens"));
        self.counts[own] += 1;
        let mut clock = self.clocks[own].clone();
        clock[own] = self.counts[own];
        self.clocks[own][own] = self.counts[own];
        self.token_clocks.push_back(clock.into_boxed_slice());
        let completion = Completion { engine, sequence: self.counts[own], token };
        for &(usage, space, start, end) in accesses {
            self.record(usage, space, start, end, completion);
        }
        token
    }

    /// A fence: everything so far has retired before anything later starts.
    pub fn fence(&mut self) {
        self.spaces.clear();
        for clock in &mut self.clocks {
            clock.clone_from(&self.counts);
        }
    }

    /// Drops writers of memory that every reader has waited for, and clocks of tokens that no interval names.
    fn forget(&mut self) {
        let (clocks, readers) = (&self.clocks, &self.readers);
        let is_open = |writer: &Completion| {
            let known = |reader: &EngineId| clocks[usize::from(reader.0)][usize::from(writer.engine.0)];
            readers.iter().any(|reader| *reader != writer.engine && known(reader) < writer.sequence)
        };
        for (space, intervals) in &mut self.spaces {
            if matches!(space, Space::Memory(_)) {
                intervals.retain(|_, interval| interval.writers.iter().any(is_open));
            }
        }
        // The weights of a layer may be named from its beginning to its end.
        let past = self.token_clocks.len() - self.held / 2;
        let recent = self.first_token + past;
        let intervals = self.spaces.values().flat_map(BTreeMap::values);
        let completions = intervals.flat_map(|interval| interval.writers.iter().chain(&interval.readers));
        let named: BTreeSet<usize> =
            completions.map(|completion| completion.token.0 as usize).filter(|&token| token < recent).collect();
        self.old_clocks.retain(|token, _| named.contains(token));
        let dropped = (self.first_token..).zip(self.token_clocks.drain(..past));
        self.old_clocks.extend(dropped.filter(|(token, _)| named.contains(token)));
        self.first_token = recent;
        self.held = CLOCKS_HELD.max(2 * self.old_clocks.len());
    }

    fn record(&mut self, usage: Use, space: Space, start: u64, end: u64, completion: Completion) {
        // Memory is written once, so that nothing ever waits for its readers.
        if start >= end || (usage == Use::Read && matches!(space, Space::Memory(_))) {
            return;
        }
        let intervals = self.spaces.entry(space).or_default();
        split(intervals, start);
        split(intervals, end);
        if usage == Use::Write {
            let covered: SmallVec<[u64; 8]> = intervals.range(start..end).map(|(&at, _)| at).collect();
            for at in covered {
                intervals.remove(&at);
            }
            let writers = SmallVec::from_slice(&[completion]);
            intervals.insert(start, Interval { end, writers, readers: SmallVec::new() });
            return;
        }
        // Fill the gaps, then add to every interval inside.
        let mut at = start;
        let inside: SmallVec<[(u64, u64); 8]> = intervals.range(start..end).map(|(&at, i)| (at, i.end)).collect();
        for (from, to) in inside {
            if at < from {
                intervals.insert(at, Interval { end: from, ..Interval::default() });
            }
            at = to;
        }
        if at < end {
            intervals.insert(at, Interval { end, ..Interval::default() });
        }
        for (_, interval) in intervals.range_mut(start..end) {
            let list = if usage == Use::Read { &mut interval.readers } else { &mut interval.writers };
            match list.iter_mut().find(|known| known.engine == completion.engine) {
                Some(known) => *known = completion,
                None => list.push(completion),
            }
        }
    }
}

/// Makes `at` an interval boundary.
fn split(intervals: &mut BTreeMap<u64, Interval>, at: u64) {
    let Some((_, interval)) = intervals.range_mut(..at).next_back() else { return };
    if interval.end > at {
        let upper = interval.clone();
        interval.end = at;
        intervals.insert(at, upper);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::BufferId;

    const BUFFER: Space = Space::Buffer(BufferId(0));
    const LOAD: EngineId = EngineId(0);
    const ARRAY: EngineId = EngineId(1);
    const VECTOR: EngineId = EngineId(2);

    fn step(hazards: &mut Hazards, engine: EngineId, accesses: &[Access]) -> (Vec<u32>, Token) {
        let waits = hazards.waits(engine, accesses).iter().map(|token| token.0).collect();
        (waits, hazards.signal(engine, accesses))
    }

    #[test]
    fn a_read_waits_for_the_write_and_a_write_for_the_read() {
        let mut hazards = Hazards::new(3, vec![LOAD]);
        let (waits, load) = step(&mut hazards, LOAD, &[(Use::Write, BUFFER, 0, 100)]);
        assert!(waits.is_empty());
        let (waits, matmul) = step(&mut hazards, ARRAY, &[(Use::Read, BUFFER, 50, 60)]);
        assert_eq!(waits, [load.0]);
        let (waits, _) = step(&mut hazards, LOAD, &[(Use::Write, BUFFER, 0, 55)]);
        assert_eq!(waits, [matmul.0]);
        let (waits, _) = step(&mut hazards, LOAD, &[(Use::Write, BUFFER, 60, 100)]);
        assert!(waits.is_empty(), "no one read there");
    }

    #[test]
    fn what_a_token_implies_is_not_waited_for() {
        let mut hazards = Hazards::new(3, vec![LOAD]);
        step(&mut hazards, LOAD, &[(Use::Write, BUFFER, 0, 10)]);
        let (_, matmul) =
            step(&mut hazards, ARRAY, &[(Use::Read, BUFFER, 0, 10), (Use::Write, Space::Accumulators, 0, 4)]);
        // The vector unit needs the load's bytes and the array's sums: the array's completion implies the load's.
        let (waits, _) =
            step(&mut hazards, VECTOR, &[(Use::Read, BUFFER, 0, 10), (Use::Read, Space::Accumulators, 0, 4)]);
        assert_eq!(waits, [matmul.0]);
    }

    #[test]
    fn what_is_over_is_forgotten_and_nothing_else() {
        const STORE: EngineId = EngineId(2);
        const MEMORY: Space = Space::Memory(crate::config::MemoryId(0));
        let mut hazards = Hazards::new(3, vec![LOAD]);
        let mut unforgetful = Hazards { held: usize::MAX, ..hazards.clone() };
        let mut step = |engine, accesses: &[Access]| {
            let waits = hazards.waits(engine, accesses);
            assert_eq!(waits, unforgetful.waits(engine, accesses));
            assert_eq!(hazards.signal(engine, accesses), unforgetful.signal(engine, accesses));
        };
        // Weights that stay, two slots on either side of the array; results go to memory, and a later layer reads them.
        step(LOAD, &[(Use::Write, BUFFER, 200, 300)]);
        for i in 0..100_000_u64 {
            let (slot, result) = (i % 2 * 10, 100 + i % 2 * 10);
            step(LOAD, &[(Use::Write, BUFFER, slot, slot + 10)]);
            let weights = (Use::Read, BUFFER, 200, 300);
            step(ARRAY, &[weights, (Use::Read, BUFFER, slot, slot + 10), (Use::Write, BUFFER, result, result + 10)]);
            step(STORE, &[(Use::Read, BUFFER, result, result + 10), (Use::WriteOnce, MEMORY, i * 10, i * 10 + 10)]);
        }
        step(LOAD, &[(Use::Read, MEMORY, 0, 10), (Use::Write, BUFFER, 0, 10)]);
        step(LOAD, &[(Use::Read, MEMORY, 999_990, 1_000_000), (Use::Write, BUFFER, 10, 20)]);
        step(STORE, &[(Use::Read, BUFFER, 200, 300)]);
        assert!(hazards.token_clocks.len() <= CLOCKS_HELD && hazards.old_clocks.len() < 10);
        assert_eq!(unforgetful.token_clocks.len(), 300_004);
    }

    #[test]
    fn a_fence_leaves_nothing_to_wait_for() {
        let mut hazards = Hazards::new(3, vec![LOAD]);
        step(&mut hazards, LOAD, &[(Use::Write, BUFFER, 0, 10)]);
        hazards.fence();
        let (waits, _) = step(&mut hazards, ARRAY, &[(Use::Read, BUFFER, 0, 10)]);
        assert!(waits.is_empty());
    }
}
