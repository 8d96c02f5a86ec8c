//! How many bytes and bursts a region in memory takes, without walking its elements.

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

/// Calls `visit(address, bytes)` for each contiguous stretch of the walk, like [`Region::for_each_run`], but run by
/// run instead of element by element where the region has no padding and no window.
pub(super) fn for_each_run(region: &Region, mut visit: impl FnMut(u64, u64)) -> Result<(), TimingError> {
    if region.pad.is_some() || region.window.is_some() || region.row_window.is_some() {
        region.for_each_run(visit);
        return Ok(());
    }
    if elements(region)? == 0 {
        return Ok(());
    }
    let base = u64::try_from(region.base).map_err(|_| TimingError::Address(region.base))?;
    // Inner loops whose trips lie side by side are one run.
    let mut length = u64::from(region.element);
    let mut outer = region.dims.len();
    while outer > 0 {
        let dim = region.dims[outer - 1];
        if dim.count != 1 {
            if u64::from(dim.stride) != length {
                break;
            }
            length = length.checked_mul(u64::from(dim.count)).ok_or(TimingError::Overflow)?;
        }
        outer -= 1;
    }
    let dims = &region.dims[..outer];
    let reach: u64 = dims.iter().map(|dim| u64::from(dim.count - 1) * u64::from(dim.stride)).sum();
    base.checked_add(reach).and_then(|last| last.checked_add(length)).ok_or(TimingError::Overflow)?;

    let mut index = [0_u32; 6];
    let mut address = base;
    let [mut start, mut bytes] = [base, 0];
    loop {
        if start + bytes == address {
            bytes += length;
        } else {
            visit(start, bytes);
            [start, bytes] = [address, length];
        }
        let mut axis = outer;
        loop {
            if axis == 0 {
                visit(start, bytes);
                return Ok(());
            }
            axis -= 1;
            let dim = dims[axis];
            index[axis] += 1;
            address += u64::from(dim.stride);
            if index[axis] < dim.count {
                break;
            }
            address -= u64::from(dim.stride) * u64::from(dim.count);
            index[axis] = 0;
        }
    }
}

/// What a region's runs touch in memory.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Touched {
    /// Contiguous stretches.
    pub runs: u64,
    /// Aligned blocks; a block that two runs touch counts twice.
    pub blocks: u64,
}

/// The runs of a region and the aligned blocks of `1 << shift` bytes that they touch.
pub(super) fn touched(region: &Region, shift: u32) -> Result<Touched, TimingError> {
    let mut found = Touched::default();
    for_each_run(region, |address, bytes| {
        found.runs += 1;
        found.blocks += ((address + bytes - 1) >> shift) - (address >> shift) + 1;
    })?;
    Ok(found)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::{config::MemoryId, program::Space};

    proptest! {
        #[test]
        fn runs_are_those_of_the_element_walk(
            counts in prop::array::uniform6(1_u32..4),
            strides in prop::array::uniform6(0_u32..9),
            packed in 0_usize..6,
            element in 1_u8..3,
        ) {
            let mut region = Region::flat(Space::Memory(MemoryId(0)), 1000, element, 1);
            region.split = 3;
            let mut length = u32::from(element);
            for axis in (0..6).rev() {
                let stride = if axis >= packed { length } else { strides[axis] * u32::from(element) };
                region.dims[axis] = Dim::new(counts[axis], stride);
                length = stride * counts[axis];
            }
            let [mut expected, mut actual] = [Vec::new(), Vec::new()];
            region.for_each_run(|start, bytes| expected.push((start, bytes)));
            for_each_run(&region, |start, bytes| actual.push((start, bytes))).unwrap();
            prop_assert_eq!(actual, expected);
        }
    }

    #[test]
    fn a_run_touches_every_block_that_it_overlaps() {
        let region = Region::matrix(Space::Memory(MemoryId(0)), 60, 1, Dim::new(2, 100), Dim::new(8, 1));
        // 60..68 crosses a boundary, 160..168 does not.
        assert_eq!(touched(&region, 6).unwrap(), Touched { runs: 2, blocks: 3 });
    }
}
