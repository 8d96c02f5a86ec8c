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
pub struct StreamedTile {
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
    /// The sums that it writes, where they lie evenly.
    pub sums: Option<Sums>,
    /// Columns whose results count, or rows where the sums of output stationary tiles leave along them.
    pub lanes: u32,
}

/// Accumulators `first + row * row_stride + column * col_stride`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Sums {
    /// That of row 0, column 0.
    pub first: i64,
    /// Between rows, one a beat.
    pub row_stride: i64,
    /// Between columns.
    pub col_stride: i64,
    /// Columns.
    pub cols: i64,
}

impl Sums {
    /// By how many rows `later` begins after this, in each way in which their sums can be the same.
    fn shifts(&self, later: &Self) -> impl Iterator<Item = i64> {
        let apart = later.first - self.first;
        // The columns of a row lie between its neighbours', or the rows of a column do.
        let by_rows = self.row_stride.abs() >= self.col_stride.abs();
        let (outer, inner) =
            if by_rows { (self.row_stride, self.col_stride) } else { (self.col_stride, self.row_stride) };
        let near = apart.checked_div(outer).unwrap_or(0);
        [near - 1, near, near + 1].into_iter().filter_map(move |steps| {
            let rest = apart - steps * outer;
            let inner_steps = if rest == 0 { 0 } else { (inner != 0 && rest % inner == 0).then(|| rest / inner)? };
            let (rows, cols) = if by_rows { (steps, inner_steps) } else { (inner_steps, steps) };
            // A column of the later one must be a column of this one.
            (-later.cols < cols && cols < self.cols).then_some(rows)
        })
    }
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

/// A tile whose first sums may not have come out yet.
#[derive(Clone, Copy, Debug)]
struct InFlight {
    start: Event,
    beats: u64,
    beat_cycles: u64,
    /// When its last row can be injected.
    end: Time,
    sums: Option<Sums>,
}

impl InFlight {
    /// Cycles from its start to that of a tile none of whose rows is injected less than `wait` after this one's beat for it.
    /// Rows come a beat each, so that one of the first and the last common row decides.
    fn distance(&self, tile: &StreamedTile, wait: u64) -> Result<u64, TimingError> {
        let (Some(sums), Some(later)) = (&self.sums, &tile.sums) else { return self.after_all(tile, wait) };
        if (sums.row_stride, sums.col_stride) != (later.row_stride, later.col_stride) {
            return self.after_all(tile, wait);
        }
        let [Ok(beats), Ok(tile_beats)] = [self.beats, tile.beats].map(i64::try_from) else {
            return Err(TimingError::Overflow);
        };
        let mut distance = 0;
        // The tile's row 0 is this one's row `shift`.
        for shift in sums.shifts(later) {
            let (first, last) = (0.max(-shift), tile_beats.min(beats - shift) - 1);
            for row in [first, last] {
                let [Ok(ours), Ok(theirs)] = [row + shift + 1, row + 1].map(u64::try_from) else { continue };
                if first <= last {
                    let ours = sum(product(ours, self.beat_cycles)?, wait)?;
                    distance = distance.max(ours.saturating_sub(product(theirs, tile.beat_cycles)?));
                }
            }
        }
        Ok(distance)
    }

    /// The same where any two rows may be one.
    fn after_all(&self, tile: &StreamedTile, wait: u64) -> Result<u64, TimingError> {
        Ok(sum(product(self.beats, self.beat_cycles)?, wait)?.saturating_sub(tile.beat_cycles))
    }
}

/// The array in time.
#[derive(Debug)]
pub(super) struct ArrayTimer {
    period: Time,
    law: ArrayLaw,
    shadow_depth: usize,
    /// When the next load may begin, as far as the wires of the load go.
    load_free: Event,
    /// When a stream past the last loaded operand may begin.
    loaded: Event,
    /// Whether the last load has been used by a stream.
    load_used: bool,
    /// The first beats of the first stream of the last `shadow_depth` loads.
    first_beats: VecDeque<Event>,
    /// The last beat of the last stream.
    last_beat: Option<Event>,
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
            load_free: Event::ORIGIN,
            loaded: Event::ORIGIN,
            load_used: true,
            first_beats: VecDeque::new(),
            last_beat: None,
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

    /// Empties the array and changes its dataflow. Where an operand stays and which one makes no difference to the
    /// wires, but whether sums stay does.
    pub fn switch_dataflow(&mut self, graph: &mut CauseGraph, cycles: u64) -> Result<(), TimingError> {
        let idle = latest([self.occupied, self.load_free, self.loaded, self.last_result]);
        let end = self.after(self.edge(idle.time)?, cycles)?;
        let switched = graph.phase(idle, Cause::FillDrain, end)?;
        (self.occupied, self.load_free, self.loaded) = (switched, switched, switched);
        Ok(())
    }

    /// Loads a stationary operand.
    pub fn preload(&mut self, graph: &mut CauseGraph, ready: Ready) -> Result<Phases, TimingError> {
        let used = match self.shadow_depth {
            0 => self.last_beat,
            // A load that no stream has used is overwritten, so only loads with a stream take room.
            depth => self.first_beats.len().checked_sub(depth).map(|index| self.first_beats[index]),
        };
        let mut room = Event::ORIGIN;
        if let Some(used) = used {
            room = graph.phase(used, Cause::FillDrain, self.after(used.time, self.law.room)?)?;
        }
        if self.shadow_depth == 0 && !self.law.overlap {
            room = latest([room, self.last_result]);
        }
        let bound = latest([ready.tokens, self.load_free, room, ready.issue]);
        let at = self.edge(bound.time)?;
        let start = graph.phase(bound, Cause::WeightLoad, at)?;
        self.loaded = graph.phase(start, Cause::WeightLoad, self.after(at, self.law.load)?)?;
        self.load_free = graph.phase(start, Cause::WeightLoad, self.after(at, self.law.load_period)?)?;
        self.load_used = false;
        Ok(Phases { start, end: self.load_free })
    }

    /// Streams a tile.
    pub fn stream(&mut self, graph: &mut CauseGraph, tile: &StreamedTile, ready: Ready) -> Result<Phases, TimingError> {
        let mut engine = self.occupied;
        if self.law.overlap {
            if let (Some(shifting), false) = (self.shifting, tile.hold)
                && tile.output_stationary
            {
                let streams = product(tile.beats, tile.beat_cycles)?;
                let chain_free = self.after(shifting.time, self.law.drain.saturating_sub(streams))?;
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
            bound = self.wait_for_sums(graph, tile, bound)?;
        }
        let at = self.edge(bound.time)?;
        let start = graph.phase(bound, Cause::ArrayStreaming, at)?;

        let beats_end = graph.phase(start, Cause::ArrayStreaming, self.after(at, tile.beats)?)?;
        let stretched = product(tile.beats, tile.beat_cycles)?;
        self.stream_end = graph.phase(beats_end, Cause::BufferBank, self.after(at, stretched)?)?;
        let occupied = self.after(at, stretched.max(self.law.min_stream))?;
        self.occupied = graph.phase(self.stream_end, Cause::ArrayStreaming, occupied)?;
        let latency = match (tile.output_stationary, tile.hold) {
            (true, true) => self.law.complete(),
            (true, false) => self.law.output_latency(tile.lanes.into()),
            (false, _) => self.law.stationary_latency(tile.lanes.into()),
        };
        let result = self.after(self.stream_end.time, latency)?;
        let own = graph.phase(self.stream_end, Cause::FillDrain, result)?;
        self.last_result = latest([own, self.last_result]);
        if !tile.output_stationary {
            self.shifting = None;
        } else if !tile.hold {
            self.shifting = Some(self.stream_end);
        }

        if !tile.output_stationary {
            self.operand_used(graph, tile, start)?;
            if let Some(wait) = self.law.accumulation_wait {
                let end = self.after(at, sum(stretched, wait)?)?;
                self.in_flight.push_back(InFlight {
                    start,
                    beats: tile.beats,
                    beat_cycles: tile.beat_cycles,
                    end,
                    sums: tile.sums,
                });
            }
        }
        Ok(Phases { start, end: self.last_result })
    }

    /// Notes from when on the next load may overwrite what this stream uses. Beats come at the end of their cycles.
    fn operand_used(&mut self, graph: &mut CauseGraph, tile: &StreamedTile, start: Event) -> Result<(), TimingError> {
        if self.shadow_depth == 0 {
            let cycles = product(tile.beats, tile.beat_cycles)?.saturating_sub(1);
            self.last_beat = Some(graph.phase(start, Cause::ArrayStreaming, self.after(start.time, cycles)?)?);
        } else if !self.load_used {
            let cycles = tile.beat_cycles.saturating_sub(1);
            self.first_beats.push_back(graph.phase(start, Cause::BufferBank, self.after(start.time, cycles)?)?);
            if self.first_beats.len() > self.shadow_depth {
                self.first_beats.pop_front();
            }
        }
        self.load_used = true;
        Ok(())
    }

    /// The later of `bound` and the moment from which the sums that the tile injects have come out.
    fn wait_for_sums(
        &mut self,
        graph: &mut CauseGraph,
        tile: &StreamedTile,
        bound: Event,
    ) -> Result<Event, TimingError> {
        while self.in_flight.front().is_some_and(|front| front.end <= bound.time) {
            self.in_flight.pop_front();
        }
        let (Some(wait), true) = (self.law.accumulation_wait, tile.accumulate) else { return Ok(bound) };
        let mut last = bound;
        for earlier in &self.in_flight {
            let out = self.after(earlier.start.time, earlier.distance(tile, wait)?)?;
            if out > last.time {
                last = graph.phase(earlier.start, Cause::FillDrain, out)?;
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
        let Self { load_free, loaded, stream_end, occupied, last_result, .. } = self;
        for event in [load_free, loaded, stream_end, occupied, last_result] {
            visit(event);
        }
        self.first_beats.iter_mut().for_each(&mut *visit);
        self.last_beat.iter_mut().for_each(&mut *visit);
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
