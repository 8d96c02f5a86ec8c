//! The array register by register: every operand, weight and sum in every register of the array in every cycle, with
//! values. The slow truth that the array's law is checked against.
//!
//! It knows wires and registers, and nothing of [`crate::dataflow::ArrayLaw`], of the timing engine or of programs:
//! words carry the identity of what they belong to (tile, beat, load), an element that meets a word which is not the one it
//! should meet is a [`Conflict`], and [`Sequencer`] starts a command in the first cycle from which it meets none. Values
//! play no part in this: two that are equal by chance do not hide a conflict.
//!
//! A cycle has two halves. First everything reads registers as the cycle before left them; then registers take what
//! reaches them. A word that stands in an output register during cycle `t` is out at `t`.

mod accumulators;
mod arithmetic;
mod array;
mod command;
mod line;
mod load;
mod output;
mod probe;
mod sequencer;
mod stationary;
mod wave;

#[cfg(test)]
mod tests;

pub use arithmetic::{Arithmetic, Integers};
pub use array::{Array, Conflict, Finished, Meeting};
pub use command::{Command, Sums, Tile};
pub use probe::{Loading, Place, Probe, Streaming, Sum};
pub use sequencer::{Outcome, Ready, Run, Sequencer};
pub use wave::{Mark, Snapshot};

/// What a word belongs to; 0 where there is none: tiles and loads are numbered from 1.
type Tag = u32;

/// A word of an operand that streams.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[allow(clippy::struct_excessive_bools, reason = "one wire each")]
struct Operand {
    value: i32,
    /// The tile; 0 in a cycle without a beat.
    tile: Tag,
    beat: u32,
    /// The load that it must meet; where sums stay, the tile whose sums it goes on with, or 0.
    partner: Tag,
    /// The shadow register that the load is in.
    slot: u8,
    /// First beat that uses its load: elements take it from their shadow register.
    takes: bool,
    /// First beat of its tile.
    first: bool,
    /// Last beat of its tile.
    last: bool,
    /// Whether the sums leave after it, where they stay until then.
    leaves: bool,
}

/// A word of a stationary operand, and the element that it is for.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
struct Weight {
    value: i32,
    load: Tag,
    row: u16,
    col: u16,
    /// Shadow register that it goes to.
    slot: u8,
}

/// A partial sum on its way.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
struct Partial<S> {
    value: S,
    tile: Tag,
    /// Its row of the result: a beat past a stationary operand, a row of elements where sums stay.
    index: u32,
}
