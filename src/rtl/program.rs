//! An array program: loads and streams with their operands, and what is expected of it. Plain data; operands are codes of
//! their type, also where a tile does not use them.

/// Loads a stationary operand.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Load {
    /// The cycle from which it may begin.
    pub ready: u64,
    /// `[rows, columns]` of the array.
    pub words: Vec<i32>,
    /// Zero point.
    pub zero: i32,
}

/// Streams a tile.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Stream {
    /// The cycle from which it may begin.
    pub ready: u64,
    /// Whether it adds to the accumulators.
    pub accumulate: bool,
    /// Whether it goes on with the sums in the elements.
    pub resume: bool,
    /// Whether its sums stay in the elements.
    pub hold: bool,
    /// Rows of an operand, or K where sums stay.
    pub beats: u32,
    /// Cycles of a beat.
    pub beat_cycles: u32,
    /// Rows of the array that it uses.
    pub rows: u32,
    /// Columns that it uses.
    pub cols: u32,
    /// The first row of accumulators.
    pub address: u32,
    /// `[beats, rows of the array]`.
    pub left: Vec<i32>,
    /// `[beats, columns of the array]`, where both operands stream; else empty.
    pub top: Vec<i32>,
    /// Zero point of `left`.
    pub left_zero: i32,
    /// Zero point of `top`.
    pub top_zero: i32,
}

/// A command of the array.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Command {
    /// Loads.
    Load(Load),
    /// Streams.
    Stream(Stream),
}

/// What makes an output of an accumulator.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct LaneParameters {
    /// Added to the accumulator.
    pub bias: i32,
    /// Not negative.
    pub multiplier: i32,
    /// To the right, the 31 bits of a 31-bit multiplier not counted.
    pub shift: i8,
}

/// A row of accumulators behind the program, requantized.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct QuantizedRow {
    /// Which row.
    pub address: u32,
    /// Zero point of the outputs.
    pub zero: i32,
    /// Smallest and largest output.
    pub limits: [i32; 2],
    /// A lane each.
    pub lanes: Vec<LaneParameters>,
    /// The outputs; `None` where the program left no sum.
    pub outputs: Vec<Option<i32>>,
}

/// What a program must give.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Expected {
    /// Begin and end of each command. A load ends when the next may begin, a stream when its results and those of all before
    /// it are out.
    pub cycles: Vec<[u64; 2]>,
    /// By lane, the accumulators as they are written, in the order of the program.
    pub results: Vec<Vec<i64>>,
    /// Rows that go through the requantization stage.
    pub quantized: Vec<QuantizedRow>,
}
