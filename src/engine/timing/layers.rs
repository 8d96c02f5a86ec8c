//! The layers' shares of the timeline: which are under way, where each ends, and why.

use std::collections::VecDeque;

use smallvec::SmallVec;

use super::{
    TimingError,
    causes::{CauseGraph, Event, to_cycles},
    clock::edge,
    decode::LayerCounters,
    report::LayerTiming,
};
use crate::units::{Bytes, Cycles, Macs, Time};

/// A layer with instructions issued and its end not yet known.
#[derive(Debug)]
struct OpenLayer {
    index: usize,
    outstanding: u64,
    all_issued: bool,
    last: Event,
    /// Time in which arrays were busy for this layer, and until when each.
    array_busy: Time,
    array_until: SmallVec<[Time; 1]>,
    timing: LayerTiming,
}

/// All layers. Their instructions must come in the order of layers.
#[derive(Debug)]
pub(super) struct LayerBook {
    period: Time,
    open: VecDeque<OpenLayer>,
    closed: Vec<LayerTiming>,
    next_free: usize,
    /// End of the last closed layer.
    base: Time,
}

impl LayerBook {
    pub fn new(count: usize, period: Time) -> Self {
        Self {
            period,
            open: VecDeque::new(),
            closed: vec![LayerTiming::default(); count],
            next_free: 0,
            base: Time::ZERO,
        }
    }

    /// Whether an instruction of this layer would be the layer's first.
    pub fn is_new(&self, layer: usize) -> bool {
        layer >= self.next_free
    }

    /// Accounts for an instruction whose issue began at `begin`.
    pub fn issue(&mut self, layer: usize, begin: Time, counters: &LayerCounters) -> Result<(), TimingError> {
        if layer >= self.closed.len() {
            return Err(TimingError::UnknownLayer(layer));
        }
        if self.is_new(layer) {
            if let Some(before) = self.open.back_mut() {
                before.all_issued = true;
            }
            let timing = LayerTiming { first_issue: begin, ..LayerTiming::default() };
            self.open.push_back(OpenLayer {
                index: layer,
                outstanding: 0,
                all_issued: false,
                last: Event::ORIGIN,
                array_busy: Time::ZERO,
                array_until: SmallVec::new(),
                timing,
            });
            self.next_free = layer + 1;
        }
        let Some(open) = self.open.back_mut().filter(|open| open.index == layer) else {
            return Err(TimingError::LayerOrder(layer));
        };
        open.outstanding += 1;
        let timing = &mut open.timing;
        timing.instructions += 1;
        let add = |total: &mut Bytes, more: u64| {
            total.checked_add(Bytes(more)).map(|sum| *total = sum).ok_or(TimingError::Overflow)
        };
        add(&mut timing.input_bytes, counters.input)?;
        add(&mut timing.weight_bytes, counters.weight)?;
        add(&mut timing.output_bytes, counters.output)?;
        add(&mut timing.moved_bytes, counters.moved)?;
        add(&mut timing.on_chip_bytes, counters.on_chip)?;
        let add = |total: &mut Macs, more: u64| {
            total.checked_add(Macs(more)).map(|sum| *total = sum).ok_or(TimingError::Overflow)
        };
        add(&mut timing.array_macs, counters.array_macs)?;
        add(&mut timing.vector_macs, counters.vector_macs)?;
        add(&mut timing.host_macs, counters.host_macs)?;
        timing.beats = timing.beats.checked_add(Cycles(counters.beats)).ok_or(TimingError::Overflow)?;
        Ok(())
    }

    /// Accounts for time in which an array was busy. What layers do at the same time counts for each, and so does what
    /// arrays do.
    pub fn array_busy(&mut self, layer: usize, array: usize, start: Time, end: Time) {
        if let Some(open) = self.open_layer(layer) {
            if open.array_until.len() <= array {
                open.array_until.resize(array + 1, Time::ZERO);
            }
            let until = &mut open.array_until[array];
            open.array_busy += end.saturating_sub(start.max(*until));
            *until = end.max(*until);
        }
    }

    fn open_layer(&mut self, layer: usize) -> Option<&mut OpenLayer> {
        self.open.iter_mut().rev().find(|open| open.index == layer)
    }

    /// Accounts for a retirement.
    pub fn retire(&mut self, layer: usize, event: Event) {
        if let Some(open) = self.open_layer(layer) {
            open.outstanding -= 1;
            if event.time >= open.last.time {
                open.last = event;
            }
        }
    }

    /// Says that no instruction follows.
    pub fn finish(&mut self) {
        if let Some(last) = self.open.back_mut() {
            last.all_issued = true;
        }
    }

    /// Closes the layers whose ends are known.
    pub fn settle(&mut self, graph: &CauseGraph) -> Result<(), TimingError> {
        while self.open.front().is_some_and(|front| front.all_issued && front.outstanding == 0) {
            let Some(OpenLayer { index, last, array_busy, mut timing, .. }) = self.open.pop_front() else { break };
            let end = edge(last.time, self.period)?.max(self.base);
            let mut causes = graph.vector(last, self.base);
            // The layer ends on the edge after its last retirement; the way there belongs to the last stretch. More than
            // that is time that nothing explains.
            let share = (end - self.base).0;
            let rounding = share.checked_sub(causes.total()).filter(|&rounding| rounding < self.period.0);
            let Some(rounding) = rounding else {
                return Err(TimingError::Unexplained { layer: index, share, explained: causes.total() });
            };
            causes[graph.cause_of(last)] += rounding;
            timing.causes = to_cycles(causes, self.period);
            timing.cycles = (end - self.base).cycles_ceil(self.period);
            timing.span = last.time.saturating_sub(timing.first_issue).cycles_ceil(self.period);
            timing.array_busy = array_busy.cycles_ceil(self.period);
            timing.last_retirement = last.time;
            timing.last_phase = graph.record_of(last);
            timing.end = end;
            self.closed[index] = timing;
            self.base = end;
        }
        Ok(())
    }

    /// The last known boundary.
    pub const fn base(&self) -> Time {
        self.base
    }

    /// No boundary that is still unknown lies before this, if nothing is issued before `issue` any more and
    /// what is not yet retired retires no earlier than `pending`.
    pub fn earliest_boundary(&self, issue: Time, pending: Time) -> Time {
        let Some(front) = self.open.front() else { return self.base };
        let mut bound = self.base.max(front.last.time);
        if !front.all_issued {
            bound = bound.max(issue);
        }
        if front.outstanding > 0 {
            bound = bound.max(pending);
        }
        bound
    }

    /// Every event that it still depends on.
    pub fn visit_events(&mut self, visit: &mut dyn FnMut(&mut Event)) {
        self.open.iter_mut().for_each(|layer| visit(&mut layer.last));
    }

    /// All layers; those without instructions end where the one before ends.
    pub fn into_timings(mut self) -> Vec<LayerTiming> {
        let mut end = Time::ZERO;
        for timing in &mut self.closed {
            if timing.instructions == 0 {
                timing.end = end;
            }
            end = timing.end;
        }
        self.closed
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::engine::timing::causes::Cause;

    /// What becomes of a layer whose causes explain 25 fs and which retires at `end`, at cycles of 10 fs.
    fn settled(end: u64) -> Result<LayerTiming, TimingError> {
        let mut graph = CauseGraph::new(100, false);
        let explained = graph.phase(Event::ORIGIN, Cause::Vector, Time(25))?;
        let mut book = LayerBook::new(1, Time(10));
        book.issue(0, Time::ZERO, &LayerCounters::default())?;
        book.retire(0, Event { time: Time(end), ..explained });
        book.finish();
        book.settle(&graph)?;
        Ok(book.into_timings().remove(0))
    }

    #[test]
    fn only_rounding_may_be_missing_from_the_causes() {
        assert_eq!(settled(25).unwrap().causes[Cause::Vector], 3);
        assert_eq!(settled(30).unwrap().causes[Cause::Vector], 3);
        let unexplained = |share| TimingError::Unexplained { layer: 0, share, explained: 25 };
        assert_eq!(settled(31).unwrap_err(), unexplained(40));
        assert_eq!(settled(20).unwrap_err(), unexplained(20));
    }
}
