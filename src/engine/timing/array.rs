//! The array in time: the law of [`crate::dataflow::ArrayLaw`] as a recurrence on events. Command and ready times in, phases
//! out. Knows instructions as [`StreamedTile`]s only, and no closed form.

use std::collections::VecDeque;

use super::{
    TimingError,
    causes::{Cause, CauseGraph, Event, latest},
    clock::{after, edge, times},
};
use crate::{config::Accelerator, dataflow::ArrayLaw, units::Time};

/// What the law asks of an array tile.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[allow(clippy::struct_excessive_bools)] // As the instruction has them.
pub(super) struct StreamedTile {
    /// Beats: streamed rows (weight or input stationary) or K (output stationary).
    pub beats: u64,
    /// Cycles that a beat takes, more than 1 where the operand buffer cannot deliver one a cycle.
    pub beat_cycles: u64,
    /// Whether both operands stream.
    pub output_stationary: bool,
    /// Whether it adds to the accumulators.
    pub accumulate: bool,
    /// Whether it goes on with the sums in the elements.
    pub resume: bool,
    /// Whether its sums stay in the elements.
    pub hold: bool,
    /// First and last accumulator that it writes.
    pub accumulators: [i64; 2],
    /// Accumulators between neighbouring rows.
    pub row_stride: u32,
    /// Neighbouring accumulators that one row writes; 0 where a row's are not neighbours.
    pub row_width: u32,
}

/// When an instruction may go on, apart from the array itself.
#[derive(Clone, Copy, Debug)]
pub(super) struct Ready {
    /// All its tokens are signalled.
    pub tokens: Event,
    /// It is issued.
    pub issue: Event,
}

/// What became of a command.
#[derive(Clone, Copy, Debug)]
pub(super) struct Phases {
    /// It starts: loads or streams.
    pub start: Event,
    /// All its effects are visible.
    pub end: Event,
}

/// A tile whose first rows may not be written yet.
#[derive(Clone, Copy, Debug)]
struct InFlight {
    start: Event,
    /// When its last row is written.
    end: Time,
    accumulators: [i64; 2],
    row_stride: u32,
    row_width: u32,
}

impl InFlight {
    /// Whether a tile writes accumulators that this one is still making. Tiles of the same rows and other columns
    /// interleave without touching.
    fn meets(&self, tile: &StreamedTile) -> bool {
        if self.accumulators[0] > tile.accumulators[1] || self.accumulators[1] < tile.accumulators[0] {
            return false;
        }
        if self.row_stride != tile.row_stride || self.row_width == 0 || tile.row_width == 0 || self.row_stride == 0 {
            return true;
        }
        let stride = i64::from(self.row_stride);
        let shift = (tile.accumulators[0] - self.accumulators[0]).rem_euclid(stride);
        shift < i64::from(self.row_width) || shift + i64::from(tile.row_width) > stride
    }
}

/// The array in time.
#[derive(Debug)]
pub(super) struct ArrayTimer {
    period: Time,
    law: ArrayLaw,
    shadow_depth: usize,
    loaded: Event,
    /// Whether the last load has been used by a stream.
    load_used: bool,
    /// Starts of the first stream of the last `shadow_depth` loads.
    stream_starts: VecDeque<Event>,
    stream_end: Event,
    occupied: Event,
    last_result: Event,
    /// End of the last output stationary stream whose sums shift out, while no other dataflow came between.
    shifting: Option<Event>,
    in_flight: VecDeque<InFlight>,
}

impl ArrayTimer {
    pub fn new(accelerator: &Accelerator) -> Result<Self, TimingError> {
        let array = &accelerator.config.array;
        if array.rows == 0 || array.cols == 0 {
            return Err(TimingError::Machine("an array without rows or columns"));
        }
        let law = ArrayLaw::of(array);
        Ok(Self {
            period: accelerator.array_period,
            shadow_depth: usize::try_from(law.shadow_depth).map_err(|_| TimingError::Overflow)?,
            law,
            loaded: Event::ORIGIN,
            load_used: true,
            stream_starts: VecDeque::new(),
            stream_end: Event::ORIGIN,
            occupied: Event::ORIGIN,
            last_result: Event::ORIGIN,
            shifting: None,
            in_flight: VecDeque::new(),
        })
    }

    /// The first edge at or after `time`.
    fn edge(&self, time: Time) -> Result<Time, TimingError> {
        edge(time, self.period)
    }

    /// The edge `cycles` after an edge.
    fn after(&self, edge: Time, cycles: u64) -> Result<Time, TimingError> {
        after(edge, times(self.period, cycles)?)
    }

    /// Empties the array and changes its dataflow.
    pub fn switch_dataflow(&mut self, graph: &mut CauseGraph, cycles: u64) -> Result<(), TimingError> {
        if cycles > 0 {
            let idle = latest([self.occupied, self.loaded, self.last_result]);
            let end = self.after(self.edge(idle.time)?, cycles)?;
            let switched = graph.phase(idle, Cause::FillDrain, end)?;
            self.occupied = switched;
            self.loaded = switched;
        }
        Ok(())
    }

    /// Loads a stationary operand.
    pub fn preload(&mut self, graph: &mut CauseGraph, ready: Ready) -> Result<Phases, TimingError> {
        let room = match self.shadow_depth {
            0 if self.law.overlap => self.stream_end,
            0 => self.last_result,
            // A load that no stream has used is overwritten, so only loads with a stream take room.
            depth => match self.stream_starts.len().checked_sub(depth) {
                Some(index) => self.stream_starts[index],
                None => Event::ORIGIN,
            },
        };
        let bound = latest([ready.tokens, self.loaded, room, ready.issue]);
        let at = self.edge(bound.time)?;
        let start = graph.phase(bound, Cause::WeightLoad, at)?;
        let end = self.after(at, self.law.load)?;
        self.loaded = graph.phase(start, Cause::WeightLoad, end)?;
        self.load_used = false;
        Ok(Phases { start, end: self.loaded })
    }

    /// Streams a tile.
    pub fn stream(&mut self, graph: &mut CauseGraph, tile: &StreamedTile, ready: Ready) -> Result<Phases, TimingError> {
        let mut engine = self.occupied;
        if self.law.overlap {
            if let (Some(shifting), false) = (self.shifting, tile.hold)
                && tile.output_stationary
                && tile.beats < self.law.drain
            {
                let chain_free = self.after(shifting.time, self.law.drain - tile.beats)?;
                if chain_free > shifting.time.max(self.occupied.time) {
                    let chain = graph.phase(shifting, Cause::FillDrain, chain_free)?;
                    engine = latest([engine, chain]);
                }
            }
        } else if !tile.resume {
            engine = latest([engine, self.last_result]);
        }
        if !tile.output_stationary {
            engine = latest([engine, self.loaded]);
        }
        let mut bound = latest([ready.tokens, engine, ready.issue]);
        if self.law.flush_idle && bound.time > self.occupied.time {
            bound = latest([bound, self.last_result]);
        }
        if !tile.output_stationary {
            bound = self.wait_for_rows(graph, tile, bound)?;
        }
        let at = self.edge(bound.time)?;
        let start = graph.phase(bound, Cause::ArrayStreaming, at)?;

        let beats_end = graph.phase(start, Cause::ArrayStreaming, self.after(at, tile.beats)?)?;
        let stretched = product(tile.beats, tile.beat_cycles)?;
        self.stream_end = graph.phase(beats_end, Cause::BufferBank, self.after(at, stretched)?)?;
        let occupied = self.after(at, stretched.max(self.law.min_stream))?;
        self.occupied = graph.phase(self.stream_end, Cause::ArrayStreaming, occupied)?;
        let result = if tile.output_stationary {
            let drain = if tile.hold { 0 } else { self.law.drain };
            self.after(self.stream_end.time, sum(self.law.output_latency, drain)?)?
        } else {
            self.after(self.stream_end.time, self.law.stationary_latency)?
        };
        let own = graph.phase(self.stream_end, Cause::FillDrain, result)?;
        self.last_result = latest([own, self.last_result]);
        if !tile.output_stationary {
            self.shifting = None;
        } else if !tile.hold {
            self.shifting = Some(self.stream_end);
        }

        if !tile.output_stationary {
            if !self.load_used {
                self.load_used = true;
                self.stream_starts.push_back(start);
                if self.stream_starts.len() > self.shadow_depth {
                    self.stream_starts.pop_front();
                }
            }
            self.in_flight.push_back(InFlight {
                start,
                end: own.time,
                accumulators: tile.accumulators,
                row_stride: tile.row_stride,
                row_width: tile.row_width,
            });
        }
        Ok(Phases { start, end: self.last_result })
    }

    /// The later of `bound` and the moment when the rows that the tile adds to are written.
    fn wait_for_rows(
        &mut self,
        graph: &mut CauseGraph,
        tile: &StreamedTile,
        bound: Event,
    ) -> Result<Event, TimingError> {
        while self.in_flight.front().is_some_and(|front| front.end <= bound.time) {
            self.in_flight.pop_front();
        }
        let mut last = bound;
        if tile.accumulate {
            let first = tile.accumulators[0];
            for earlier in &self.in_flight {
                if !earlier.meets(tile) {
                    continue;
                }
                let ahead = u64::try_from(first - earlier.accumulators[0]).unwrap_or(0);
                let shift = ahead.div_ceil(u64::from(earlier.row_stride.max(1)));
                let written = self.after(earlier.start.time, sum(self.law.accumulation_wait, shift)?)?;
                if written > last.time {
                    last = graph.phase(earlier.start, Cause::FillDrain, written)?;
                }
            }
        }
        Ok(last)
    }

    /// The end of the last stream.
    #[cfg(test)]
    pub const fn stream_end(&self) -> Event {
        self.stream_end
    }

    /// Every event that it still depends on.
    pub fn visit_events(&mut self, visit: &mut dyn FnMut(&mut Event)) {
        for event in [&mut self.loaded, &mut self.stream_end, &mut self.occupied, &mut self.last_result] {
            visit(event);
        }
        self.stream_starts.iter_mut().for_each(&mut *visit);
        self.shifting.iter_mut().for_each(&mut *visit);
        self.in_flight.iter_mut().for_each(|tile| visit(&mut tile.start));
    }
}

/// Checked sum.
#[inline]
pub(super) fn sum(a: u64, b: u64) -> Result<u64, TimingError> {
    a.checked_add(b).ok_or(TimingError::Overflow)
}

/// Checked product.
#[inline]
pub(super) fn product(a: u64, b: u64) -> Result<u64, TimingError> {
    a.checked_mul(b).ok_or(TimingError::Overflow)
}
