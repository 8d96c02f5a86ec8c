//! Regions: which bytes of which space an instruction touches, as an affine walk with a padding predicate. Both
//! engines and the verifier read them; im2col is such a walk and is never materialised.

use crate::{
    config::{BufferId, MemoryId},
    tensor::DType,
};

/// An address space.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Space {
    /// A memory space outside the core; addresses are bytes.
    Memory(MemoryId),
    /// An on-chip buffer; addresses are bytes.
    Buffer(BufferId),
    /// The accumulators; addresses are whole accumulators (words).
    Accumulators,
}

/// One loop of a walk.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Dim {
    /// Trips.
    pub count: u32,
    /// Address units between trips.
    pub stride: u32,
}

impl Dim {
    /// A loop of one trip.
    pub const ONE: Self = Self { count: 1, stride: 0 };

    /// A loop.
    pub const fn new(count: u32, stride: u32) -> Self {
        Self { count, stride }
    }

    /// A loop of `step` times a stride. A loop of one trip goes nowhere, however far its step would take it.
    ///
    /// # Panics
    /// Past 2^32 address units, where a second trip would end outside any tensor that is accepted.
    pub const fn stepping(count: u32, step: u32, stride: u32) -> Self {
        if count <= 1 { Self { count, stride: 0 } } else { Self { count, stride: step * stride } }
    }
}

/// The size of an element: in the images that are executed, whose addresses regions have, and on the machine, whose bytes
/// are counted. They differ for types of 4 bits, two of which lie in a byte on the machine and one in an image.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Element {
    bytes: u8,
    /// As a power of two.
    per_byte: u8,
}

impl Element {
    /// One of a type.
    ///
    /// # Panics
    /// Never: no type has more than 8 bytes, or less than 4 bits.
    pub fn of(dtype: DType) -> Self {
        let per_byte = (8 / dtype.bits()).max(1).trailing_zeros();
        let narrow = |size: u64| u8::try_from(size).expect("at most 8");
        Self { bytes: narrow(dtype.bytes()), per_byte: narrow(per_byte.into()) }
    }

    /// Bytes in an image.
    pub const fn bytes(self) -> u8 {
        self.bytes
    }

    /// How many lie in a byte on the machine, as a power of two; 0 where one takes a byte or more.
    pub const fn per_byte_shift(self) -> u32 {
        self.per_byte as u32
    }

    /// Bytes on the machine of so many elements; `None` where that does not fit.
    pub fn packed_bytes(self, elements: u64) -> Option<u64> {
        let units = elements.checked_mul(self.bytes.into())?;
        Some(units.div_ceil(1 << self.per_byte))
    }
}

/// As many bytes in an image as on the machine.
impl From<u8> for Element {
    fn from(bytes: u8) -> Self {
        Self { bytes, per_byte: 0 }
    }
}

/// Which elements of an image walk are padding. The walk's dimensions must be `[n, oh, ow, r, s, c]`; the element
/// at `(oh, ow, r, s)` lies on image row `row0 + oh*row_step[0] + r*row_step[1]` and column `col0 + ow*col_step[0] +
/// s*col_step[1]`. It is padding, and nothing is read, where the row is not in `0..rows` or the column not in `0..cols`.
/// Rows and columns are those present in the region's buffer slot.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Pad {
    /// Image row of `oh = r = 0`; negative inside the padding.
    pub row0: i32,
    /// Rows that exist.
    pub rows: u32,
    /// Rows a step of `oh` (the stride) and of `r` (the dilation).
    pub row_step: [u32; 2],
    /// Image column of `ow = s = 0`.
    pub col0: i32,
    /// Columns that exist.
    pub cols: u32,
    /// Columns a step of `ow` and of `s`.
    pub col_step: [u32; 2],
}

impl Pad {
    /// Whether the element at these indices is padding.
    pub const fn excludes(&self, oh: u32, ow: u32, r: u32, s: u32) -> bool {
        let row = self.row0 as i64 + oh as i64 * self.row_step[0] as i64 + r as i64 * self.row_step[1] as i64;
        let col = self.col0 as i64 + ow as i64 * self.col_step[0] as i64 + s as i64 * self.col_step[1] as i64;
        row < 0 || row >= self.rows as i64 || col < 0 || col >= self.cols as i64
    }
}

/// A walk over a space. Dimensions stand outermost first; those before `split` number the rows of a matrix, the
/// others, flattened, its columns. `row_window` and `window` cut the flattened rows and columns to a range: a fold of
/// pixels that need not be a rectangle of `n, oh, ow`, or of K that need not be one of `r, s, c`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Region {
    /// The space.
    pub space: Space,
    /// Address of the element with all indices zero; may lie outside the space where that element is padding.
    pub base: i64,
    /// The element; of 1 byte for accumulators (one word).
    pub element: Element,
    /// The loops, outermost first; unused ones are `Dim::ONE`.
    pub dims: [Dim; 6],
    /// How many leading loops number the matrix rows.
    pub split: u8,
    /// First flattened row and number of rows; `None` for all.
    pub row_window: Option<(u32, u32)>,
    /// First flattened column and number of columns; `None` for all.
    pub window: Option<(u32, u32)>,
    /// Which elements are padding.
    pub pad: Option<Pad>,
}

impl Region {
    /// `count` consecutive elements: a matrix of one row.
    pub fn flat(space: Space, base: i64, element: impl Into<Element>, count: u32) -> Self {
        let element = element.into();
        Self::matrix(space, base, element, Dim::ONE, Dim::new(count, element.bytes.into()))
    }

    /// A matrix of `rows.count x cols.count`.
    pub fn matrix(space: Space, base: i64, element: impl Into<Element>, rows: Dim, cols: Dim) -> Self {
        Self {
            space,
            base,
            element: element.into(),
            dims: [Dim::ONE, Dim::ONE, rows, Dim::ONE, Dim::ONE, cols],
            split: 3,
            row_window: None,
            window: None,
            pad: None,
        }
    }

    /// Rows of the matrix.
    pub fn rows(&self) -> u32 {
        match self.row_window {
            Some((_, len)) => len,
            None => self.dims[..usize::from(self.split)].iter().map(|dim| dim.count).product(),
        }
    }

    /// Columns of the matrix.
    pub fn cols(&self) -> u32 {
        match self.window {
            Some((_, len)) => len,
            None => self.dims[usize::from(self.split)..].iter().map(|dim| dim.count).product(),
        }
    }

    /// Elements, padding included.
    pub fn elements(&self) -> u64 {
        u64::from(self.rows()) * u64::from(self.cols())
    }

    /// Address of the element `(row, col)` of the matrix; `None` where it is padding.
    pub fn address(&self, row: u32, col: u32) -> Option<u64> {
        self.signed_address(row, col).and_then(|address| u64::try_from(address).ok())
    }

    /// As [`Region::address`], below zero too: where a walk that is wrong would go.
    pub fn signed_address(&self, row: u32, col: u32) -> Option<i64> {
        let split = usize::from(self.split);
        let mut index = [0_u32; 6];
        unflatten(&self.dims[..split], row + self.row_window.map_or(0, |(start, _)| start), &mut index[..split]);
        unflatten(&self.dims[split..], col + self.window.map_or(0, |(start, _)| start), &mut index[split..]);
        if let Some(pad) = self.pad
            && pad.excludes(index[1], index[2], index[3], index[4])
        {
            return None;
        }
        let offset: i64 = self.dims.iter().zip(index).map(|(dim, i)| i64::from(dim.stride) * i64::from(i)).sum();
        Some(self.base + offset)
    }

    /// Calls `visit(address, units)` for the maximal contiguous stretches of the walk, in its order, padding left
    /// out; `units` counts address units (bytes, or words for accumulators).
    pub fn for_each_run(&self, mut visit: impl FnMut(u64, u64)) {
        let mut open: Option<(u64, u64)> = None;
        let unit = u64::from(self.element.bytes);
        for row in 0..self.rows() {
            for col in 0..self.cols() {
                let Some(address) = self.address(row, col) else { continue };
                match &mut open {
                    Some((start, len)) if *start + *len == address => *len += unit,
                    _ => {
                        if let Some((start, len)) = open {
                            visit(start, len);
                        }
                        open = Some((address, unit));
                    }
                }
            }
        }
        if let Some((start, len)) = open {
            visit(start, len);
        }
    }
}

/// Mixed-radix digits of `flat` in `dims`, last dimension fastest.
fn unflatten(dims: &[Dim], mut flat: u32, index: &mut [u32]) {
    for (dim, digit) in dims.iter().zip(index).rev() {
        *digit = flat % dim.count;
        flat /= dim.count;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_packed_matrix_is_one_run() {
        let region = Region::matrix(Space::Accumulators, 10, 1, Dim::new(3, 4), Dim::new(4, 1));
        let mut runs = Vec::new();
        region.for_each_run(|start, len| runs.push((start, len)));
        assert_eq!(runs, [(10, 12)]);
    }

    #[test]
    fn padding_is_left_out() {
        // A 3x3 window with padding 1 at the corner of a 4x4 image of one channel: four taps exist.
        let pad = Pad { row0: -1, rows: 4, row_step: [1, 1], col0: -1, cols: 4, col_step: [1, 1] };
        let mut region = Region::flat(Space::Buffer(BufferId(0)), -5, 1, 1);
        region.dims = [Dim::ONE, Dim::ONE, Dim::ONE, Dim::new(3, 4), Dim::new(3, 1), Dim::ONE];
        region.pad = Some(pad);
        let mut runs = Vec::new();
        region.for_each_run(|start, len| runs.push((start, len)));
        assert_eq!(runs, [(0, 2), (4, 2)]);
    }
}
