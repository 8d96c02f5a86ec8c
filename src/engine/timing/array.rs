//! The array's law: when a stationary operand is loaded, when a tile streams, and when its last result is out. Command
//! and ready times in, phases out. The closed form of the mapping's cost bounds the same law from below, on its own.
//!
//! All in cycles of the array, a tile of `M` beats on `R x C` elements, `s = 1 + hop_registers`,
//! `p = pe_registers`. Operands hop along rows in `s`, partial sums down columns in `s + p` (a sum passes through every
//! element's pipeline; an operand only through its register).
//!
//! **Weight or input stationary.** Load of tile `i`:
//! `P_i = max(ready, P_{i-1} + W, room)`, where `room` is the start of stream `i - shadow_depth`. Without a shadow
//! register (`shadow_depth = 0`) it is the end of stream `i - 1` where tiles overlap (each row is overwritten behind the
//! wave) and the last result of tile `i - 1` where they do not (a shift-in chain).
//! Stream: `S_i = max(ready, P_i + W, S_{i-1} + max(M_{i-1}, min_stream))`, where tiles do not overlap also not before
//! the last result of tile `i - 1`. Last result: `S_i + M_i + L` with `L = (R-1)(s+p) + (C-1)s + p`, which is
//! `R + C - 2` without registers. A stream without a load of its own uses the operand that is there.
//!
//! **Accumulation.** A tile that adds to rows that a tile before is still making starts when the first of them is
//! written: `S_i >= S_j + L` plus the rows by which the two are shifted. With `M >= L` nothing waits.
//!
//! **Output stationary.** `K` beats; sums are complete `L' = (R-1)s + (C-1)s + p` after the last, then `R` rows shift
//! out, one a cycle, while the next tile already streams: last result `S_i + K_i + L' + R`. The chain that shifts out
//! holds one tile, so `S_i >= S_j + K_j + (R - K_i)` with `j` the last tile that shifted out: a steady tile takes
//! `max(K, R)`. T tiles of K beats back to back: `T K + 2R + C - 2 + p`. Folds of K that hold their sums follow each other
//! like one tile of all their beats, of which only the last shifts out.

use std::collections::VecDeque;

use super::{
    TimingError,
    causes::{Cause, CauseGraph, Event, latest},
};
use crate::{config::Accelerator, units::Time};

/// One array tile.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[allow(clippy::struct_excessive_bools)] // As the instruction has them.
pub(super) struct Tile {
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
    end: u64,
    accumulators: [i64; 2],
    row_stride: u32,
    row_width: u32,
}

impl InFlight {
    /// Whether a tile writes accumulators that this one is still making. Tiles of the same rows and other columns
    /// interleave without touching.
    fn meets(&self, tile: &Tile) -> bool {
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
    period: u64,
    rows: u64,
    load_cycles: u64,
    shadow_depth: usize,
    min_stream: u64,
    overlap: bool,
    /// `L` in fs.
    stationary_latency: u64,
    /// `L'` in cycles.
    output_latency: u64,
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
        let period = accelerator.array_period.0;
        let [rows, cols, element, hop] =
            [array.rows, array.cols, array.pe_registers, array.hop_registers].map(u64::from);
        if rows == 0 || cols == 0 {
            return Err(TimingError::Machine("an array without rows or columns"));
        }
        let across = sum(product(rows - 1, 1 + hop)?, product(cols - 1, 1 + hop)?)?;
        let stationary = sum(across, sum(product(rows - 1, element)?, element)?)?;
        Ok(Self {
            period,
            rows,
            load_cycles: array.weight_load.cycles.into(),
            shadow_depth: array.weight_load.shadow_depth.into(),
            min_stream: array.min_stream.into(),
            overlap: array.overlap_tiles,
            stationary_latency: product(stationary, period)?,
            output_latency: sum(across, element)?,
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

    /// `time` rounded up to an edge, plus `cycles`.
    fn after(&self, time: u64, cycles: u64) -> Result<u64, TimingError> {
        let edge = product(time.div_ceil(self.period), self.period)?;
        sum(edge, product(cycles, self.period)?)
    }

    /// Empties the array and changes its dataflow.
    pub fn switch_dataflow(&mut self, graph: &mut CauseGraph, cycles: u64) -> Result<(), TimingError> {
        if cycles > 0 {
            let idle = latest([self.occupied, self.loaded, self.last_result]);
            let end = self.after(idle.time.0, cycles)?;
            let switched = graph.phase(idle, Cause::FillDrain, Time(end))?;
            self.occupied = switched;
            self.loaded = switched;
        }
        Ok(())
    }

    /// Loads a stationary operand.
    pub fn preload(&mut self, graph: &mut CauseGraph, ready: Ready) -> Result<Phases, TimingError> {
        let room = match self.shadow_depth {
            0 if self.overlap => self.stream_end,
            0 => self.last_result,
            // A load that no stream has used is overwritten, so only loads with a stream take room.
            depth => match self.stream_starts.len().checked_sub(depth) {
                Some(index) => self.stream_starts[index],
                None => Event::ORIGIN,
            },
        };
        let bound = latest([ready.tokens, self.loaded, room, ready.issue]);
        let at = self.after(bound.time.0, 0)?;
        let start = graph.phase(bound, Cause::WeightLoad, Time(at))?;
        let end = self.after(at, self.load_cycles)?;
        self.loaded = graph.phase(start, Cause::WeightLoad, Time(end))?;
        self.load_used = false;
        Ok(Phases { start, end: self.loaded })
    }

    /// Streams a tile.
    pub fn stream(&mut self, graph: &mut CauseGraph, tile: &Tile, ready: Ready) -> Result<Phases, TimingError> {
        let mut engine = self.occupied;
        if self.overlap {
            if let (Some(shifting), false) = (self.shifting, tile.hold)
                && tile.output_stationary
                && tile.beats < self.rows
            {
                let chain_free = self.after(shifting.time.0, self.rows - tile.beats)?;
                if chain_free > shifting.time.0.max(self.occupied.time.0) {
                    let chain = graph.phase(shifting, Cause::FillDrain, Time(chain_free))?;
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
        if !tile.output_stationary {
            bound = self.wait_for_rows(graph, tile, bound)?;
        }
        let at = self.after(bound.time.0, 0)?;
        let start = graph.phase(bound, Cause::ArrayStreaming, Time(at))?;

        let beats_end = graph.phase(start, Cause::ArrayStreaming, Time(self.after(at, tile.beats)?))?;
        let stretched = product(tile.beats, tile.beat_cycles)?;
        self.stream_end = graph.phase(beats_end, Cause::BufferBank, Time(self.after(at, stretched)?))?;
        let occupied = self.after(at, stretched.max(self.min_stream))?;
        self.occupied = graph.phase(self.stream_end, Cause::ArrayStreaming, Time(occupied))?;
        let result = if tile.output_stationary {
            let shift = if tile.hold { 0 } else { self.rows };
            self.after(self.stream_end.time.0, sum(self.output_latency, shift)?)?
        } else {
            sum(self.stream_end.time.0, self.stationary_latency)?
        };
        let own = graph.phase(self.stream_end, Cause::FillDrain, Time(result))?;
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
                end: own.time.0,
                accumulators: tile.accumulators,
                row_stride: tile.row_stride,
                row_width: tile.row_width,
            });
        }
        Ok(Phases { start, end: self.last_result })
    }

    /// The later of `bound` and the moment when the rows that the tile adds to are written.
    fn wait_for_rows(&mut self, graph: &mut CauseGraph, tile: &Tile, bound: Event) -> Result<Event, TimingError> {
        while self.in_flight.front().is_some_and(|front| front.end <= bound.time.0) {
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
                let written = sum(sum(earlier.start.time.0, self.stationary_latency)?, product(shift, self.period)?)?;
                if written > last.time.0 {
                    last = graph.phase(earlier.start, Cause::FillDrain, Time(written))?;
                }
            }
        }
        Ok(last)
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
