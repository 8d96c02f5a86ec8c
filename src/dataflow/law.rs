//! The array's law and its parameters: when a stationary operand is loaded, when an array tile streams, and when its
//! last result is out. `engine::timing::array` is the recurrence below on events, `mapping::cost` a closed form of it.
//!
//! All in cycles of the array, a tile of `M` beats on `R x C` elements, `s = 1 + hop_registers`,
//! `p = pe_registers`. Operands hop along rows in `s`, partial sums down columns in `s + p` (a sum passes through every
//! element's pipeline; an operand only through its register).
//!
//! **Weight or input stationary.** Load of operand `i`:
//! `P_i = max(ready, P_{i-1} + W, room)`, where `room` is the start of stream `i - shadow_depth`. Without a shadow
//! register (`shadow_depth = 0`) it is the end of stream `i - 1` where tiles overlap (each row is overwritten behind the
//! wave) and the last result of tile `i - 1` where they do not (a shift-in chain).
//! Stream: `S_i = max(ready, P_i + W, S_{i-1} + max(M_{i-1}, min_stream))`, where tiles do not overlap also not before
//! the last result of tile `i - 1`; where an idle array flushes, the same if it cannot start as soon as the array is free.
//! Last result: `S_i + M_i + L` with `L = (R-1)(s+p) + (C-1)s + p`, which is
//! `R + C - 2` without registers. A stream without a load of its own uses the operand that is there.
//!
//! **Accumulation.** A tile that adds to rows that a tile before is still making starts when the first of them is
//! written: `S_i >= S_j + A` plus the rows by which the two are shifted. Sums are added behind the columns, so `A = L`.
//! With `M >= A` nothing waits.
//!
//! **Output stationary.** `K` beats; sums are complete `L' = (R-1)s + (C-1)s + p` after the last, then `D = R` rows shift
//! out, one a cycle, while the next tile already streams: last result `S_i + K_i + L' + D`. The chain that shifts out
//! holds one tile, so `S_i >= S_j + K_j + (D - K_i)` with `j` the last tile that shifted out: a steady tile takes
//! `max(K, D)`. T tiles of K beats back to back: `T K + 2R + C - 2 + p`. Folds of K that hold their sums follow each
//! other like one tile of all their beats, of which only the last shifts out.

use crate::config::Array;

/// The law's parameters in cycles of the array; made from the machine here and nowhere else.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ArrayLaw {
    /// `W`: the load of a stationary operand.
    pub load: u64,
    /// Operands that wait in shadow registers.
    pub shadow_depth: u64,
    /// The least time between the starts of two streams.
    pub min_stream: u64,
    /// Whether a tile streams while the results of the one before run out.
    pub overlap: bool,
    /// Whether a tile that finds the array idle waits for the last result.
    pub flush_idle: bool,
    /// `L`: from the end of a stream past a stationary operand to its last result.
    pub stationary_latency: u64,
    /// `L'`: from the end of an output stationary stream until its sums are complete.
    pub output_latency: u64,
    /// `D`: in which the sums of an output stationary tile shift out.
    pub drain: u64,
    /// `A`: from the start of a stream past a stationary operand until its first row of sums can be added to.
    pub accumulation_wait: u64,
}

impl ArrayLaw {
    /// The law of an array. Saturates, so that an absurd array takes forever and not no time.
    pub fn of(array: &Array) -> Self {
        let [rows, cols, element, hop] =
            [array.rows, array.cols, array.pe_registers, array.hop_registers].map(u64::from);
        let [down, along] = [rows, cols].map(|extent| extent.saturating_sub(1).saturating_mul(1 + hop));
        let output_latency = down.saturating_add(along).saturating_add(element);
        let stationary_latency = output_latency.saturating_add(rows.saturating_sub(1).saturating_mul(element));
        Self {
            load: array.weight_load.cycles.into(),
            shadow_depth: array.weight_load.shadow_depth.into(),
            min_stream: array.min_stream.into(),
            overlap: array.overlap_tiles,
            flush_idle: array.flush_idle,
            stationary_latency,
            output_latency,
            drain: rows,
            accumulation_wait: stationary_latency,
        }
    }
}
