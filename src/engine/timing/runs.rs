//! Which bytes and bursts of memory a region takes, and how many, without walking its elements.
//!
//! Addresses and lengths of runs are in bytes; in half bytes for elements of 4 bits, whose region then has the machine's
//! addresses in that unit. Bursts have addresses in bytes.

use super::TimingError;
use crate::program::{Dim, Region};

/// Rows of a region's matrix; 64-bit and checked, as the region's own count is not.
pub(super) fn rows(region: &Region) -> Result<u64, TimingError> {
    let split = usize::from(region.split).min(region.dims.len());
    region.row_window.map_or_else(|| count(&region.dims[..split]), |(_, length)| Ok(length.into()))
}

/// Columns of a region's matrix, likewise.
pub(super) fn columns(region: &Region) -> Result<u64, TimingError> {
    let split = usize::from(region.split).min(region.dims.len());
    region.window.map_or_else(|| count(&region.dims[split..]), |(_, length)| Ok(length.into()))
}

/// Elements of a region, padding included.
pub(super) fn elements(region: &Region) -> Result<u64, TimingError> {
    rows(region)?.checked_mul(columns(region)?).ok_or(TimingError::Overflow)
}

/// Iterations of nested loops.
fn count(dims: &[Dim]) -> Result<u64, TimingError> {
    let mut product = 1_u64;
    for dim in dims {
        product = product.checked_mul(u64::from(dim.count)).ok_or(TimingError::Overflow)?;
    }
    Ok(product)
}

/// The contiguous stretches of a region, `(address, length)`, in the order of its walk and as long as they can be: those of
/// [`Region::for_each_run`], one at a time, and loop by loop instead of element by element where the region has no
/// padding and no window.
#[derive(Clone, Debug)]
pub(super) struct Runs {
    pieces: Pieces,
    /// The stretch that was found behind the last one returned.
    next: Option<(u64, u64)>,
}

/// What runs are made of, one after the other.
#[derive(Clone, Debug)]
enum Pieces {
    /// Inner loops whose trips lie side by side are one piece of `length` bytes.
    Loops {
        dims: [Dim; 6],
        outer: usize,
        index: [u32; 6],
        length: u64,
        address: Option<u64>,
    },
    Elements {
        region: Region,
        row: u32,
        col: u32,
    },
}

impl Runs {
    pub fn new(region: &Region) -> Result<Self, TimingError> {
        let mut runs = Self { pieces: Pieces::of(region)?, next: None };
        runs.next = runs.pieces.next();
        Ok(runs)
    }
}

impl Iterator for Runs {
    type Item = (u64, u64);

    fn next(&mut self) -> Option<(u64, u64)> {
        let (start, mut bytes) = self.next.take()?;
        while let Some((address, more)) = self.pieces.next() {
            if start + bytes != address {
                self.next = Some((address, more));
                break;
            }
            bytes += more;
        }
        Some((start, bytes))
    }
}

impl Pieces {
    fn of(region: &Region) -> Result<Self, TimingError> {
        if region.pad.is_some() || region.window.is_some() || region.row_window.is_some() {
            return Ok(Self::Elements { region: *region, row: 0, col: 0 });
        }
        let dims = region.dims;
        if elements(region)? == 0 {
            return Ok(Self::Loops { dims, outer: 0, index: [0; 6], length: 0, address: None });
        }
        let base = u64::try_from(region.base).map_err(|_| TimingError::Address(region.base))?;
        let mut length = u64::from(region.element.bytes());
        let mut outer = dims.len();
        while outer > 0 {
            let dim = dims[outer - 1];
            if dim.count != 1 {
                if u64::from(dim.stride) != length {
                    break;
                }
                length = length.checked_mul(u64::from(dim.count)).ok_or(TimingError::Overflow)?;
            }
            outer -= 1;
        }
        let reach: u64 = dims[..outer].iter().map(|dim| u64::from(dim.count - 1) * u64::from(dim.stride)).sum();
        base.checked_add(reach).and_then(|last| last.checked_add(length)).ok_or(TimingError::Overflow)?;
        Ok(Self::Loops { dims, outer, index: [0; 6], length, address: Some(base) })
    }

    fn next(&mut self) -> Option<(u64, u64)> {
        match self {
            Self::Loops { dims, outer, index, length, address } => {
                let current = (*address)?;
                let mut next = current;
                *address = None;
                for axis in (0..*outer).rev() {
                    let dim = dims[axis];
                    index[axis] += 1;
                    next += u64::from(dim.stride);
                    if index[axis] < dim.count {
                        *address = Some(next);
                        break;
                    }
                    next -= u64::from(dim.stride) * u64::from(dim.count);
                    index[axis] = 0;
                }
                Some((current, *length))
            }
            Self::Elements { region, row, col } => {
                while *row < region.rows() {
                    if *col >= region.cols() {
                        [*row, *col] = [*row + 1, 0];
                        continue;
                    }
                    let address = region.address(*row, *col);
                    *col += 1;
                    if let Some(address) = address {
                        return Some((address, region.element.bytes().into()));
                    }
                }
                None
            }
        }
    }
}

/// The aligned bursts that a region's runs touch, by address; a block that two runs touch comes twice.
#[derive(Clone, Debug)]
pub(super) struct Bursts {
    runs: Runs,
    /// Units of a block, as a power of two, and of a burst; and units of a byte, as a power of two.
    block_shift: u32,
    burst: u64,
    byte_shift: u32,
    /// The next burst of the run at work, and how many of its bursts are left.
    next: u64,
    left: u64,
}

impl Bursts {
    /// Bursts of `burst` bytes in blocks of `1 << granule_shift`.
    pub fn new(region: &Region, granule_shift: u32, burst: u32) -> Result<Self, TimingError> {
        let byte_shift = region.element.per_byte_shift();
        let (block_shift, burst) = (granule_shift + byte_shift, u64::from(burst) << byte_shift);
        Ok(Self { runs: Runs::new(region)?, block_shift, burst, byte_shift, next: 0, left: 0 })
    }
}

impl Iterator for Bursts {
    type Item = u64;

    #[inline]
    fn next(&mut self) -> Option<u64> {
        if self.left == 0 {
            let (address, length) = self.runs.next()?;
            let first = address >> self.block_shift;
            let blocks = ((address + length - 1) >> self.block_shift) - first + 1;
            self.next = first << self.block_shift;
            self.left = (blocks << self.block_shift) / self.burst;
        }
        let burst = self.next;
        self.next = self.next.saturating_add(self.burst);
        self.left -= 1;
        Some(burst >> self.byte_shift)
    }
}

/// What a region's runs touch in memory.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct TouchedBlocks {
    /// Contiguous stretches.
    pub runs: u64,
    /// Aligned blocks; a block that two runs touch counts twice.
    pub blocks: u64,
}

/// The runs of a region and the aligned blocks of `1 << shift` bytes that they touch.
pub(super) fn touched(region: &Region, shift: u32) -> Result<TouchedBlocks, TimingError> {
    let mut found = TouchedBlocks::default();
    let shift = shift + region.element.per_byte_shift();
    for (address, length) in Runs::new(region)? {
        found.runs += 1;
        found.blocks += ((address + length - 1) >> shift) - (address >> shift) + 1;
    }
    Ok(found)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::{
        config::MemoryId,
        program::{Element, Space},
        tensor::DType,
    };

    proptest! {
        #[test]
        fn runs_are_those_of_the_element_walk(
            counts in prop::array::uniform6(1_u32..4),
            strides in prop::array::uniform6(0_u32..9),
            packed in 0_usize..6,
            dtype in prop::sample::select(vec![DType::Int4, DType::Int8, DType::Int16]),
        ) {
            let element = Element::of(dtype).bytes();
            let mut region = Region::flat(Space::Memory(MemoryId(0)), 1000, Element::of(dtype), 1);
            region.split = 3;
            let mut length = u32::from(element);
            for axis in (0..6).rev() {
                let stride = if axis >= packed { length } else { strides[axis] * u32::from(element) };
                region.dims[axis] = Dim::new(counts[axis], stride);
                length = stride * counts[axis];
            }
            for window in [None, Some((1, 3))] {
                region.window = window.filter(|_| region.dims[3..].iter().map(|dim| dim.count).product::<u32>() > 3);
                let mut expected = Vec::new();
                region.for_each_run(|start, bytes| expected.push((start, bytes)));
                prop_assert_eq!(Runs::new(&region).unwrap().collect::<Vec<_>>(), expected);
                for shift in [2, 6] {
                    let bursts = Bursts::new(&region, shift, 4).unwrap().collect::<Vec<_>>();
                    prop_assert_eq!(bursts.len() as u64, touched(&region, shift).unwrap().blocks << (shift - 2));
                    prop_assert!(bursts.iter().all(|address| address % 4 == 0));
                }
            }
        }
    }

    #[test]
    fn elements_of_four_bits_touch_half_the_blocks() {
        let space = Space::Memory(MemoryId(0));
        // From the third half byte of block 1 to the first of block 3: 64 bytes are 128 half bytes.
        let region = Region::flat(space, 130, Element::of(DType::Int4), 255);
        assert_eq!(touched(&region, 6).unwrap(), TouchedBlocks { runs: 1, blocks: 3 });
        assert_eq!(Bursts::new(&region, 6, 32).unwrap().collect::<Vec<_>>(), [64, 96, 128, 160, 192, 224]);
        assert_eq!(touched(&Region { element: Element::from(1), ..region }, 6).unwrap().blocks, 5);
    }

    #[test]
    fn a_run_touches_every_block_that_it_overlaps() {
        let region = Region::matrix(Space::Memory(MemoryId(0)), 60, 1, Dim::new(2, 100), Dim::new(8, 1));
        // 60..68 crosses a boundary, 160..168 does not.
        assert_eq!(touched(&region, 6).unwrap(), TouchedBlocks { runs: 2, blocks: 3 });
    }
}
