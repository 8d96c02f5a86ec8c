//! How the array multiplies one pass of a buffer tile, by dataflow: which operand stays, the array tiles and their order,
//! the order of K that follows, and the parameters of the array's law. A file a dataflow; where dataflows differ, they
//! differ here.
//!
//! Knows the machine and one product at a time: no layers, no buffers, no instructions. `mapping` counts and orders by
//! it, `program` emits its commands, `engine::timing` takes the law's parameters.

mod deal;
mod is;
mod law;
mod os;
mod ws;

pub use deal::{Share, Shares, deal};
pub use law::ArrayLaw;

use smallvec::SmallVec;

use crate::config::{Array, Dataflow, KPacking, RowEnds};

/// What the mapping of a layer names that does not run on the array.
pub const OFF_THE_ARRAY: Dataflow = Dataflow::WS;

/// The schedule of a dataflow.
pub const fn schedule(dataflow: Dataflow) -> &'static dyn Schedule {
    match dataflow {
        Dataflow::WS => &ws::WeightStationary,
        Dataflow::OS => &os::OutputStationary,
        Dataflow::IS => &is::InputStationary,
    }
}

/// A half-open range of indices.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Range {
    /// First index.
    pub start: u32,
    /// Number of indices.
    pub len: u32,
}

/// An operand of the array.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Operand {
    /// Activations, `[pixels, K]`.
    Input,
    /// Weights, `[outputs, K]`.
    Weight,
}

/// One pass of a buffer tile: `[pixels, K] x [K, outputs]`, where K is `taps x channels`, channels fastest.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Product {
    /// Output pixels.
    pub pixels: u64,
    /// Those of one stretch that array tiles stay within, and `pixels` is a multiple of: an output row where they end
    /// there ([`RowEnds`]), else all.
    pub row: u64,
    /// Output channels.
    pub outputs: u64,
    /// Kernel positions.
    pub taps: u64,
    /// Input channels.
    pub channels: u64,
}

impl Product {
    /// How many products a sum has.
    pub const fn depth(&self) -> u64 {
        self.taps * self.channels
    }

    /// Stretches of pixels.
    pub(crate) const fn rows(&self) -> u64 {
        self.pixels / self.row
    }

    /// The pixels in pieces of `size` (0: of a stretch).
    fn pixel_pieces(&self, size: u64) -> impl Iterator<Item = Range> {
        let row = self.row;
        let within = move |index: u64| {
            pieces(row, size).map(move |piece| Range { start: narrow(index * row) + piece.start, ..piece })
        };
        (0..self.rows()).flat_map(within)
    }

    /// Number of [`Product::pixel_pieces`].
    const fn pixel_folds(&self, size: u64) -> u64 {
        self.rows() * self.row.div_ceil(size)
    }
}

/// What cuts a product into array tiles.
#[derive(Clone, Copy, Debug)]
pub struct ArrayExtents {
    /// Rows of elements.
    pub rows: u64,
    /// Columns of elements.
    pub cols: u64,
    /// Rows of an operand that one array tile streams at most; 0: no limit.
    pub max_stream: u64,
    /// Which parts of K may fill the rows.
    pub packing: KPacking,
    /// Whether a tile goes on past the end of an output row.
    pub row_ends: RowEnds,
    /// Identical arrays that share a product.
    pub arrays: u64,
}

impl ArrayExtents {
    /// The extents of an array.
    pub fn of(array: &Array) -> Self {
        Self {
            rows: array.rows.into(),
            cols: array.cols.into(),
            max_stream: array.max_stream.into(),
            packing: array.k_packing,
            row_ends: array.row_ends,
            arrays: array.count.into(),
        }
    }

    /// Streams of `rows` rows past one stationary operand.
    pub const fn streams(&self, rows: u64) -> u64 {
        if self.max_stream == 0 { 1 } else { rows.div_ceil(self.max_stream) }
    }

    /// Folds of K over the rows: kernel and channels together are one stretch; channels alone, one stretch a tap.
    const fn stretches(&self, taps: u64, channels: u64) -> (u64, u64) {
        match self.packing {
            KPacking::KernelAndChannels => (1, taps * channels),
            KPacking::Channels => (taps, channels),
        }
    }

    /// Number of [`ArrayExtents::folds`].
    const fn fold_count(&self, taps: u64, channels: u64) -> u64 {
        let (stretches, length) = self.stretches(taps, channels);
        stretches * length.div_ceil(self.rows)
    }

    /// Folds of K over the rows.
    fn folds(&self, taps: u64, channels: u64) -> Folds {
        let (stretches, length) = self.stretches(taps, channels);
        let stretch = |index: u64| {
            pieces(length, self.rows).map(move |fold| Range { start: narrow(index * length) + fold.start, ..fold })
        };
        (0..stretches).flat_map(stretch).collect()
    }
}

/// Ranges of K in the order in which the array adds them.
pub type Folds = SmallVec<[Range; 32]>;

/// An array tile: `sums[pixels, outputs] (+)= input[pixels, k] x weight[outputs, k]`. It adds to the sums of the tile's
/// earlier folds of K: all but the one that starts at 0.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ArrayTile {
    /// Output pixels.
    pub pixels: Range,
    /// Output channels.
    pub outputs: Range,
    /// Fold of K.
    pub k: Range,
}

/// What the array is told to do.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Command {
    /// Loads the stationary operand of the tiles that follow: its pixels or outputs by a fold of K.
    Preload {
        /// What the operand is.
        operand: Operand,
        /// Pixels or outputs, one a column.
        columns: Range,
        /// Fold of K, one index a row.
        k: Range,
    },
    /// Streams a tile.
    Stream(ArrayTile),
}

/// The loops over the array tiles of a product, counted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Nest {
    /// `repeats` times: for each of `folds` folds of K, `operands` stationary operands one after the other, `runs` runs
    /// of `rows` rows streaming past each. Folds but the first add to the sums of the one before.
    Stationary {
        /// Loops outside K.
        repeats: u64,
        /// Folds of K.
        folds: u64,
        /// Stationary operands a fold.
        operands: u64,
        /// Runs of rows past one operand, which no stream crosses.
        runs: u64,
        /// Rows of a run.
        rows: u64,
    },
    /// `tiles` tiles of `beats` beats, both operands streaming.
    Streaming {
        /// Array tiles, one after the other.
        tiles: u64,
        /// Beats of each.
        beats: u64,
    },
}

/// What is particular to one dataflow.
pub trait Schedule: Sync {
    /// The operand that stays; `None` where both stream and the sums stay.
    fn stationary(&self) -> Option<Operand>;

    /// The commands of a product in their order.
    fn commands(&self, product: &Product, array: &ArrayExtents, give: &mut dyn FnMut(Command));

    /// The same, counted.
    fn nest(&self, product: &Product, array: &ArrayExtents) -> Nest;

    /// Pixels and outputs that it gains nothing from dividing among arrays.
    fn granules(&self, array: &ArrayExtents) -> [u64; 2];

    /// Folds of K in the order in which they are added to a sum. Within a fold, products are added from its first index.
    fn folds(&self, taps: u64, channels: u64, array: &ArrayExtents) -> Folds;

    /// From the end of a stream to its last result, from below: of a tile of one lane.
    fn result_latency(&self, law: &ArrayLaw) -> u64;

    /// The loops in words.
    fn description(&self) -> &'static str;

    /// Whether sums can stay in the elements from one buffer tile of K to the next.
    fn holds_sums(&self) -> bool {
        self.stationary().is_none()
    }
}

/// `total` in pieces of `size` (0: in one).
fn pieces(total: u64, size: u64) -> impl Iterator<Item = Range> {
    let size = if size == 0 { total.max(1) } else { size };
    (0..total.div_ceil(size))
        .map(move |index| Range { start: narrow(index * size), len: narrow(size.min(total - index * size)) })
}

/// The accumulators and buffers that hold a tile number their elements in 32 bits.
fn narrow(index: u64) -> u32 {
    u32::try_from(index).expect("a buffer tile has less than 2^32 elements")
}

#[cfg(test)]
mod tests;
