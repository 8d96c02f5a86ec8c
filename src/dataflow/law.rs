//! The array's law and its parameters: when a stationary operand is loaded, when an array tile streams, and when its
//! last result is out. `engine::timing::array` is the recurrence below on events, `mapping::cost` a closed form of it;
//! `docs/timing.md` derives it, and `engine::pe`, which has the registers and not the law, is held to it cycle by cycle.
//!
//! All in cycles of the array. `R x C` elements, `s = 1 + hop_registers`, `p = pe_registers`, `x = port_registers`.
//! Operands hop from element to element in `s`, partial sums down columns in `e = s + p` (a sum passes through every
//! element's pipeline; an operand only through its register). A tile has `M` beats; its stream ends `E = S + M b`, with
//! `b` the cycles that the operand buffer takes for a beat.
//!
//! **Load of a stationary operand**, `W` cycles on `q = ceil(R / W)` rows side by side: the `g`-th of `n = ceil(R / q)`
//! steps ends with cycle `w(g) = ceil((g + 1) W / n) - 1` of the load.
//! `P_i = max(ready, P_{i-1} + W, U + V)`: `U` is the cycle in which the first element has used what the load overwrites.
//! With `d` shadow registers that is the first beat of the stream of operand `i - d`, `S_{i-d} + b - 1`; without one it is
//! the last beat of the tile before, `E - 1` (where tiles do not overlap, also not before its last result).
//! `V` (`room`) and the time `l` from a load to its stream depend on the wires:
//! - `Skewed`: words travel with the wave. `V = 0`, `l = W`.
//! - `Chain`: the first step moves every word. `V = (R-1) e + (C-1) s - w(0)`, `l = W`.
//! - `Rows`: row `r` is written in step `g(r) = floor(r / q)`, for all columns.
//!   `V = (C-1) s + max over r of (r e - w(g(r)))`, `l = max over r of (w(g(r)) + 1 - r e)`.
//!
//! A load never begins before `U`: `V` is at least 0.
//!
//! **Weight or input stationary.** `S_i = max(ready, P_i + l, S_{i-1} + max(M_{i-1} b, min_stream))`, where tiles do not
//! overlap also not before the last result of tile `i - 1`; where an idle array flushes, the same if it cannot start as soon as the
//! array is free. Last result: `E + L`, `L = x + (R-1) e + (C-1) s + p`; where the
//! skew is not undone, the last lane is the last used one, which saves `s` for each column left out.
//!
//! **Accumulation.** Sums that are added at the accumulators wait for nothing: a later tile's results come out later. Sums
//! that are injected at the top must have come out: `S_i >= S_j + A` and the rows by which the two are shifted, `A = x + (R-1)
//! e + p + 1` where columns stay in skew, `A = L + 1` where whole rows are injected.
//!
//! **Output stationary.** `M = K` beats; sums are complete `L' = x + (R-1) s + (C-1) s + p` after the last, are copied to
//! the chain that shifts out, and leave it one hop after the other: `D = 1 + (R-1) s` (`DrainPath::Rows`), `1 + (C-1) s`
//! (`DrainPath::Columns`), while the next tile already streams: last result `E + L' + D`. The chain holds one tile:
//! `E_i >= E_j + D` with `j` the last tile that shifted out; a steady tile takes `max(K, D)`. T tiles of K beats back to back:
//! `T K + 2R + C - 2 + p`. Folds of K that hold their sums follow each other like one tile of all their beats, of which only
//! the last shifts out.

use crate::config::{Accumulate, Array, DrainPath, LoadPath, OutputSkew};

/// The law's parameters in cycles of the array; made from the machine here and nowhere else.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ArrayLaw {
    /// `W`: from a load of a stationary operand to the next.
    pub load_period: u64,
    /// `l`: from the start of a load to the start of the stream that uses it.
    pub load: u64,
    /// `V`: from the first element's use of what a load overwrites to the load.
    pub room: u64,
    /// Operands that wait in shadow registers.
    pub shadow_depth: u64,
    /// The least time between the starts of two streams.
    pub min_stream: u64,
    /// Whether a tile streams while the results of the one before run out.
    pub overlap: bool,
    /// `A`: from the start of a stream past a stationary operand until its first row of sums can be injected again; `None`
    /// where sums are added as they come out.
    pub accumulation_wait: Option<u64>,
    /// Whether a tile that finds the array idle waits for the last result.
    pub flush_idle: bool,
    /// `D`: in which the sums of an output stationary tile shift out.
    pub drain: u64,
    /// `L` of all lanes.
    stationary_latency: u64,
    /// `L'` of all lanes.
    output_latency: u64,
    /// What a lane comes out later than the one before; 0 where that is undone.
    lane_skew: u64,
    /// From a stream's first beat past a stationary operand until its first result stands at the edge.
    stationary_first: u64,
    /// From the end of an output stationary stream until its first result does.
    output_first: u64,
    /// Lanes: columns, of output stationary tiles rows where they leave along them.
    stationary_lanes: u64,
    output_lanes: u64,
}

impl ArrayLaw {
    /// The law of an array within the ranges of the config.
    pub fn of(array: &Array) -> Self {
        let [rows, cols, element, hop, port] =
            [array.rows, array.cols, array.pe_registers, array.hop_registers, array.port_registers].map(u64::from);
        let operand_hop = 1 + hop;
        let sum_hop = operand_hop + element;
        let hops = |extent: u64, hop: u64| extent.saturating_sub(1) * hop;
        let along = hops(cols, operand_hop);
        let output_latency = port + hops(rows, operand_hop) + along + element;
        let stationary_latency = port + hops(rows, sum_hop) + along + element;

        let period = u64::from(array.weight_load.cycles).max(1);
        let lanes = rows.div_ceil(period).max(1);
        let steps = rows.div_ceil(lanes).max(1);
        let written = |step: u64| ((step + 1) * period).div_ceil(steps) - 1;
        let by_row = || (0..rows).map(|row| (row * sum_hop, written(row / lanes)));
        let (room, load) = match array.weight_load.path {
            LoadPath::Skewed => (0, period),
            LoadPath::Chain => ((hops(rows, sum_hop) + along).saturating_sub(written(0)), period),
            LoadPath::Rows => (
                by_row().map(|(wave, written)| (wave + along).saturating_sub(written)).max().unwrap_or(0),
                by_row().map(|(wave, written)| (written + 1).saturating_sub(wave)).max().unwrap_or(0),
            ),
        };
        let skewed = array.output == OutputSkew::Skewed;
        let (lanes, places) = if array.drain == DrainPath::Rows { (cols, rows) } else { (rows, cols) };
        let drain = 1 + hops(places, operand_hop);
        Self {
            load_period: period,
            load,
            room,
            shadow_depth: array.weight_load.shadow_depth.into(),
            min_stream: array.min_stream.into(),
            overlap: array.overlap_tiles,
            accumulation_wait: match array.accumulate {
                Accumulate::AtOutput => None,
                Accumulate::InjectSkewed => Some(port + hops(rows, sum_hop) + element + 1),
                Accumulate::InjectRows => Some(stationary_latency + 1),
            },
            drain,
            flush_idle: array.flush_idle,
            stationary_latency,
            output_latency,
            stationary_first: port + hops(rows, sum_hop) + element + 1 + if skewed { 0 } else { along },
            output_first: port + element + drain + if skewed { 0 } else { hops(lanes, operand_hop) },
            lane_skew: if skewed { operand_hop } else { 0 },
            stationary_lanes: cols,
            output_lanes: lanes,
        }
    }

    /// `L`: from the end of a stream past a stationary operand to the last result of its first `lanes` columns.
    pub const fn stationary_latency(&self, lanes: u64) -> u64 {
        self.stationary_latency - self.stationary_lanes.saturating_sub(lanes) * self.lane_skew
    }

    /// `L' + D`: from the end of an output stationary stream to the last result of its first `lanes` columns, or rows
    /// where they leave along them.
    pub const fn output_latency(&self, lanes: u64) -> u64 {
        self.output_latency - self.output_lanes.saturating_sub(lanes) * self.lane_skew + self.drain
    }

    /// From the start of a stream of `cycles` until its first result stands at the edge; `stays`: past a stationary operand.
    pub const fn first_out(&self, stays: bool, cycles: u64) -> u64 {
        if stays { self.stationary_first } else { cycles + self.output_first }
    }

    /// `L'`: until the sums are complete, where they stay in the elements.
    pub const fn complete(&self) -> u64 {
        self.output_latency
    }
}
