//! Why time passed: the graph of binding predecessors, from which the time under each cause is read. Knows nothing of engines or memories.
//!
//! Every event (a start, a completion, a slot that frees) is an [`Event`]: a time and a node. A node is a stretch of
//! one cause that ends at the event and begins at its binding predecessor. The vector of an event is read by walking
//! predecessors back to the last layer boundary; it is therefore exact wherever that boundary comes to lie, even where
//! the event was computed before the boundary was known. Neighbours of one cause are merged, and nodes that no live
//! event needs are dropped, so that memory does not grow with the program.

use super::{
    TimingError,
    observer::{Noted, Served},
};
use crate::units::Time;

/// Of the record: what this room tells of time it tells in its words.
pub use crate::result::{Cause, Causes};

/// Femtoseconds to cycles by largest remainder: each amount is rounded down, and the cycles that are missing to the total (a
/// multiple of `period`) go to the largest remainders, ties to the earlier cause. Amounts still sum to the total, and none is
/// off by a whole cycle.
pub(super) fn to_cycles(causes: Causes, period: Time) -> Causes {
    let mut missing = causes.total() / period.0;
    let mut cycles = causes.0.map(|amount| amount / period.0);
    missing -= cycles.iter().sum::<u64>();
    let mut order: [usize; Cause::ALL.len()] = std::array::from_fn(|index| index);
    order.sort_by_key(|&index| std::cmp::Reverse(causes.0[index] % period.0));
    for index in order {
        if missing == 0 {
            break;
        }
        cycles[index] += 1;
        missing -= 1;
    }
    Causes(cycles)
}

/// Something that happened at a time, for a reason.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Event {
    pub time: Time,
    /// The stretch that ends here.
    pub node: u32,
}

impl Event {
    /// The beginning of the run.
    pub const ORIGIN: Self = Self { time: Time::ZERO, node: 0 };
}

/// The last of several events; of equal ones the first listed.
pub(super) fn latest<const N: usize>(events: [Event; N]) -> Event {
    let mut last = events[0];
    for event in &events[1..] {
        if event.time > last.time {
            last = *event;
        }
    }
    last
}

/// An event whose node is only made if something comes to depend on it: most arrivals of bursts bind nothing.
#[derive(Clone, Copy, Debug)]
pub(super) struct Lazy {
    pub base: Event,
    pub cause: Cause,
    pub time: Time,
}

/// One stored stretch, for tests and traces.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct PhaseRecord {
    /// The instruction whose phase this is.
    pub instruction: u64,
    /// Why the time passed.
    pub cause: Cause,
    /// Its binding predecessor's end.
    pub start: Time,
    /// Its end.
    pub end: Time,
    /// Index of the binding predecessor among the records; `None` at the beginning of the run.
    pub predecessor: Option<usize>,
}

/// Marks a node that stands for everything before it: `pred` is then an index into the dense vectors.
const DENSE: u8 = u8::MAX;

#[derive(Clone, Copy, Debug)]
struct Node {
    end: Time,
    pred: u32,
    cause: u8,
}

/// The stretches that live events depend on.
#[derive(Debug)]
pub(super) struct CauseGraph {
    nodes: Vec<Node>,
    /// Vector since the last boundary, and the cause of the last stretch.
    dense: Vec<(Causes, Cause)>,
    /// Node count at which the owner should compact.
    limit: usize,
    smallest_limit: usize,
    /// The instruction of the phases that are made now.
    pub instruction: u64,
    /// Instruction of each node, where phases are recorded; nothing is then merged or dropped.
    recorded: Option<Vec<u64>>,
    /// Phases that an observer is not told of yet, where there is one.
    pub noted: Vec<Noted>,
    is_observed: bool,
    /// Whether phases are recorded or observed.
    is_watched: bool,
}

impl CauseGraph {
    /// `limit`: nodes to hold before a compaction is due.
    pub fn new(limit: usize, record: bool) -> Self {
        Self {
            nodes: vec![Node { end: Time::ZERO, pred: 0, cause: DENSE }],
            dense: vec![(Causes::default(), Cause::Issue)],
            limit,
            smallest_limit: limit,
            instruction: 0,
            recorded: record.then(|| vec![0]),
            noted: Vec::new(),
            is_observed: false,
            is_watched: record,
        }
    }

    /// Notes phases for an observer from now on.
    pub fn observe(&mut self) {
        self.is_observed = true;
        self.is_watched = true;
    }

    /// The event at `end`, after a stretch of `cause` from `pred`. A stretch of no length is `pred` itself.
    #[inline]
    pub fn phase(&mut self, pred: Event, cause: Cause, end: Time) -> Result<Event, TimingError> {
        self.stretch(pred, cause, end, None)
    }

    /// The phase of a memory that serves bytes.
    #[inline]
    pub fn service(&mut self, pred: Event, end: Time, served: Served) -> Result<Event, TimingError> {
        self.stretch(pred, Cause::MemoryBandwidth, end, Some(served))
    }

    #[inline]
    fn stretch(&mut self, pred: Event, cause: Cause, end: Time, served: Option<Served>) -> Result<Event, TimingError> {
        debug_assert!(end >= pred.time, "a phase ends before its predecessor");
        if end <= pred.time {
            return Ok(pred);
        }
        let mut before = pred.node;
        if !self.is_watched || !self.watch(Noted { cause, start: pred.time, end, served }) {
            let node = self.nodes[before as usize];
            if node.cause == cause as u8 {
                before = node.pred;
            }
        }
        let node = u32::try_from(self.nodes.len()).map_err(|_| TimingError::TooManyPhases)?;
        self.nodes.push(Node { end, pred: before, cause: cause as u8 });
        Ok(Event { time: end, node })
    }

    /// Records or notes a phase; whether it must stay a node of its own.
    #[cold]
    fn watch(&mut self, noted: Noted) -> bool {
        if self.is_observed {
            self.noted.push(noted);
        }
        if let Some(instructions) = &mut self.recorded {
            instructions.push(self.instruction);
        }
        self.recorded.is_some()
    }

    /// Makes the node of a lazy event.
    #[inline]
    pub fn realize(&mut self, lazy: Lazy) -> Result<Event, TimingError> {
        self.phase(lazy.base, lazy.cause, lazy.time)
    }

    /// A stretch of `cause` after a lazy event, itself lazy.
    #[inline]
    pub fn extend(&mut self, lazy: Lazy, cause: Cause, time: Time) -> Result<Lazy, TimingError> {
        if lazy.cause == cause && self.recorded.is_none() {
            return Ok(Lazy { base: lazy.base, cause, time });
        }
        Ok(Lazy { base: self.realize(lazy)?, cause, time })
    }

    /// Time by cause between `since` (no earlier than the last known layer boundary) and the event.
    pub fn vector(&self, event: Event, since: Time) -> Causes {
        let mut vector = Causes::default();
        let mut node = self.nodes[event.node as usize];
        while node.end > since {
            if node.cause == DENSE {
                vector += self.dense[node.pred as usize].0;
                break;
            }
            let pred = self.nodes[node.pred as usize];
            vector.0[usize::from(node.cause)] += (node.end - pred.end.max(since)).0;
            node = pred;
        }
        vector
    }

    /// The cause of the stretch that ends at the event.
    pub fn cause_of(&self, event: Event) -> Cause {
        self.cause_of_node(self.nodes[event.node as usize])
    }

    fn cause_of_node(&self, node: Node) -> Cause {
        let stretch = Cause::ALL.get(usize::from(node.cause));
        stretch.copied().unwrap_or_else(|| self.dense[node.pred as usize].1)
    }

    /// Whether a compaction is due.
    #[inline]
    pub fn is_full(&self) -> bool {
        self.nodes.len() > self.limit && self.recorded.is_none()
    }

    /// Drops what `roots` do not depend on, and folds what lies before `safe` into vectors. `base` is the last known
    /// layer boundary; no later boundary may lie before `safe`. Returns each old node's new number.
    pub fn compact(&mut self, roots: &[u32], base: Time, safe: Time) -> Vec<u32> {
        const NEEDED: u8 = 1;
        const KEPT: u8 = 2;
        let mut mark = vec![0_u8; self.nodes.len()];
        for &root in roots {
            mark[root as usize] = KEPT;
        }
        mark[0] = KEPT;
        for index in (0..self.nodes.len()).rev() {
            let node = self.nodes[index];
            if mark[index] != 0 && node.cause != DENSE {
                // The predecessor of a folded node is only read for its vector.
                let state = if node.end > safe { KEPT } else { NEEDED };
                let pred = &mut mark[node.pred as usize];
                *pred = (*pred).max(state);
            }
        }
        let mut vectors: Vec<Causes> = Vec::new();
        let mut vector_of = vec![0_u32; self.nodes.len()];
        let mut renamed = vec![0_u32; self.nodes.len()];
        let mut nodes = Vec::new();
        let mut dense = Vec::new();
        let number = |length: usize| u32::try_from(length).expect("fewer nodes than before");
        for (index, &node) in self.nodes.iter().enumerate() {
            if mark[index] == 0 {
                continue;
            }
            if node.cause != DENSE && node.end > safe {
                renamed[index] = number(nodes.len());
                nodes.push(Node { pred: renamed[node.pred as usize], ..node });
                continue;
            }
            let mut vector = Causes::default();
            if node.end > base {
                if node.cause == DENSE {
                    vector = self.dense[node.pred as usize].0;
                } else {
                    let pred = self.nodes[node.pred as usize];
                    vector = vectors[vector_of[node.pred as usize] as usize];
                    vector.0[usize::from(node.cause)] += (node.end - pred.end.max(base)).0;
                }
            }
            vector_of[index] = number(vectors.len());
            vectors.push(vector);
            if mark[index] == KEPT {
                renamed[index] = number(nodes.len());
                nodes.push(Node { end: node.end, pred: number(dense.len()), cause: DENSE });
                dense.push((vector, self.cause_of_node(node)));
            }
        }
        self.nodes = nodes;
        self.dense = dense;
        self.limit = self.smallest_limit.max(2 * self.nodes.len());
        renamed
    }

    /// The index of the record that ends at the event, where phases are recorded.
    pub fn record_of(&self, event: Event) -> Option<usize> {
        self.recorded.as_ref().and_then(|_| (event.node as usize).checked_sub(1))
    }

    /// The stored phases; empty unless they were recorded.
    pub fn records(&self) -> Vec<PhaseRecord> {
        let Some(instructions) = &self.recorded else { return Vec::new() };
        // Node 0 is the beginning, not a phase.
        let phases = self.nodes.iter().zip(instructions).skip(1);
        phases
            .map(|(node, &instruction)| PhaseRecord {
                instruction,
                cause: Cause::ALL[usize::from(node.cause)],
                start: self.nodes[node.pred as usize].end,
                end: node.end,
                predecessor: (node.pred as usize).checked_sub(1),
            })
            .collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_vector_is_clipped_to_the_boundary_that_it_is_read_from() {
        let mut graph = CauseGraph::new(100, false);
        let load = graph.phase(Event::ORIGIN, Cause::MemoryBandwidth, Time(10)).unwrap();
        let stream = graph.phase(load, Cause::ArrayStreaming, Time(30)).unwrap();
        let mut expected = Causes::default();
        expected[Cause::MemoryBandwidth] += 6;
        expected[Cause::ArrayStreaming] += 20;
        assert_eq!(graph.vector(stream, Time(4)), expected);
        assert_eq!(graph.vector(stream, Time(30)), Causes::default());
    }

    #[test]
    fn compaction_changes_no_vector() {
        let mut graph = CauseGraph::new(100, false);
        let mut event = Event::ORIGIN;
        let mut side = Event::ORIGIN;
        for step in 1..=20_u64 {
            let cause = if step % 2 == 0 { Cause::Vector } else { Cause::Issue };
            event = graph.phase(event, cause, Time(step * 10)).unwrap();
            if step == 9 {
                side = graph.phase(event, Cause::Host, Time(95)).unwrap();
            }
        }
        let before = [graph.vector(event, Time(15)), graph.vector(side, Time(15))];
        let renamed = graph.compact(&[event.node, side.node], Time(15), Time(120));
        event.node = renamed[event.node as usize];
        side.node = renamed[side.node as usize];
        assert_eq!([graph.vector(event, Time(15)), graph.vector(side, Time(15))], before);
        assert!(graph.nodes.len() < 14, "{} nodes are left", graph.nodes.len());
        assert_eq!(graph.vector(event, Time(125)).total(), 75);
    }

    #[test]
    fn cycles_of_a_vector_sum_to_its_total() {
        let mut vector = Causes::default();
        vector[Cause::Vector] += 17;
        vector[Cause::Issue] += 18;
        vector[Cause::Host] += 5;
        let cycles = to_cycles(vector, Time(10));
        assert_eq!(cycles.total(), 4);
        assert_eq!([cycles[Cause::Vector], cycles[Cause::Issue], cycles[Cause::Host]], [2, 2, 0]);
    }
}
