//! What the array is told: loads of stationary operands and tiles that stream, in the order of a program.

/// One command.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Command {
    /// Loads a stationary operand, `[rows, cols]` of the array, row by row; what is not used is zero.
    Preload(Vec<i32>),
    /// Streams a tile.
    Stream(Tile),
}

/// One array tile.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
#[allow(clippy::struct_excessive_bools, reason = "as an instruction has them")]
pub struct Tile {
    /// Beats: rows that stream past a stationary operand, or K.
    pub beats: u32,
    /// Cycles that the operand buffer takes for a beat; the beat comes in the last of them. At least 1.
    pub beat_cycles: u32,
    /// What enters at the left, `[beats, rows]`; what is not used is zero.
    pub left: Vec<i32>,
    /// Where both operands stream, what enters at the top, `[beats, cols]`.
    pub top: Option<Vec<i32>>,
    /// Whether its sums are added to what the accumulators hold.
    pub accumulate: bool,
    /// Where sums stay: whether they begin with those that the elements hold.
    pub resume: bool,
    /// Where sums stay: whether they stay for the next tile.
    pub hold: bool,
    /// The sums that it makes.
    pub sums: Sums,
}

/// Accumulators `first + row * row_stride + col * col_stride`, of `rows x cols` sums.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Sums {
    /// Accumulator of row 0, column 0.
    pub first: usize,
    /// Rows: beats past a stationary operand, rows of elements where sums stay.
    pub rows: usize,
    /// Columns of elements.
    pub cols: usize,
    /// Between rows.
    pub row_stride: usize,
    /// Between columns.
    pub col_stride: usize,
}

impl Sums {
    /// The accumulator of a sum.
    pub const fn address(&self, row: usize, col: usize) -> usize {
        self.first + row * self.row_stride + col * self.col_stride
    }
}
