//! A region unrolled for speed: one point a matrix row, contiguous runs of columns. Rows and columns add up, for
//! addresses as for the image rows and columns of the padding predicate, so that a gather is a loop of row points
//! over column runs and im2col costs no division.

use super::error::Fault;
use crate::program::{Dim, Pad, Region, Space};

/// Rows or column runs of one region at most: bounds memory whatever the program says.
const LIMIT: u64 = 1 << 28;

/// What a row, or the start of a run, adds to the address and to the image position.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Point {
    /// Address units from the base.
    pub offset: i64,
    /// Image rows.
    y: i64,
    /// Image columns.
    x: i64,
}

/// Contiguous columns at one image position.
#[derive(Clone, Copy, Debug)]
struct Part {
    point: Point,
    /// First flattened column, from the window's start.
    first: usize,
    /// Columns.
    length: usize,
}

/// Parts that lie contiguously: read as one where no padding cuts them.
#[derive(Clone, Copy, Debug)]
struct Run {
    parts: (usize, usize),
    first: usize,
    length: usize,
    offset: i64,
    y: (i64, i64),
    x: (i64, i64),
}

/// An unrolled region.
#[derive(Clone, Debug, Default)]
pub(super) struct UnrolledRegion {
    /// Bytes of an element; 1 for accumulators.
    pub element: usize,
    /// Address of the element with all indices zero.
    base: i64,
    /// One point a row.
    pub rows: Vec<Point>,
    /// Columns.
    pub cols: usize,
    parts: Vec<Part>,
    runs: Vec<Run>,
    pad: Option<Pad>,
}

impl UnrolledRegion {
    /// Of a region.
    #[cfg(test)]
    pub fn new(region: &Region) -> Result<Self, Fault> {
        let mut walk = Self::default();
        walk.set(region)?;
        Ok(walk)
    }

    /// Unrolls a region into the allocations at hand.
    ///
    /// # Errors
    /// Where the region is malformed or absurdly large.
    pub fn set(&mut self, region: &Region) -> Result<(), Fault> {
        let split = usize::from(region.split);
        if split > region.dims.len() {
            return Err(Fault::Region("split past the last dimension"));
        }
        let expected = if region.space == Space::Accumulators { &[1][..] } else { &[1, 2, 4, 8][..] };
        if !expected.contains(&region.element.bytes()) {
            return Err(Fault::Region("element size"));
        }
        bounded(region)?;
        self.element = usize::from(region.element.bytes());
        self.base = region.base;
        self.pad = region.pad;
        let steps = steps(region.pad.as_ref());
        self.parts.clear();
        expand(&region.dims[..split], &steps[..split], region.row_window, None, &mut self.parts)?;
        self.rows.clear();
        self.rows.extend(self.parts.iter().map(|part| part.point));
        self.parts.clear();
        let unit = Some((i64::from(region.element.bytes()), region.pad.is_some()));
        expand(&region.dims[split..], &steps[split..], region.window, unit, &mut self.parts)?;
        self.cols = self.parts.last().map_or(0, |part| part.first + part.length);
        self.merge();
        Ok(())
    }

    /// Elements, padding included.
    pub fn elements(&self) -> usize {
        self.rows.len() * self.cols
    }

    /// Where every row is one run and nothing is padding: the address of row `i`'s first element is
    /// `rows[i].offset + flat`.
    pub fn flat(&self) -> Option<i64> {
        match self.runs.as_slice() {
            [run] if self.pad.is_none() => Some(self.base + run.offset),
            _ => None,
        }
    }

    /// Smallest and largest offset of a row.
    pub fn offsets(&self) -> Option<(i64, i64)> {
        let first = self.rows.first()?.offset;
        let widen = |(low, high): (i64, i64), point: &Point| (low.min(point.offset), high.max(point.offset));
        Some(self.rows.iter().fold((first, first), widen))
    }

    fn merge(&mut self) {
        self.runs.clear();
        let unit = i64::try_from(self.element).unwrap_or(1);
        for (index, part) in self.parts.iter().enumerate() {
            let Point { offset, y, x } = part.point;
            match self.runs.last_mut() {
                Some(run) if run.offset + signed(run.length) * unit == offset => {
                    run.parts.1 = index + 1;
                    run.length += part.length;
                    run.y = (run.y.0.min(y), run.y.1.max(y));
                    run.x = (run.x.0.min(x), run.x.1.max(x));
                }
                _ => self.runs.push(Run {
                    parts: (index, index + 1),
                    first: part.first,
                    length: part.length,
                    offset,
                    y: (y, y),
                    x: (x, x),
                }),
            }
        }
    }

    /// Calls `visit(column, columns, address)` for the stretches of a row, in order; `None` for padding.
    #[inline]
    pub fn row<E>(
        &self,
        row: Point,
        mut visit: impl FnMut(usize, usize, Option<i64>) -> Result<(), E>,
    ) -> Result<(), E> {
        let base = self.base + row.offset;
        let Some(pad) = &self.pad else {
            for run in &self.runs {
                visit(run.first, run.length, Some(base + run.offset))?;
            }
            return Ok(());
        };
        let (rows, cols) = (i64::from(pad.rows), i64::from(pad.cols));
        let y = row.y + i64::from(pad.row0);
        let x = row.x + i64::from(pad.col0);
        for run in &self.runs {
            if y + run.y.0 >= 0 && y + run.y.1 < rows && x + run.x.0 >= 0 && x + run.x.1 < cols {
                visit(run.first, run.length, Some(base + run.offset))?;
                continue;
            }
            for part in &self.parts[run.parts.0..run.parts.1] {
                let (y, x) = (y + part.point.y, x + part.point.x);
                let inside = y >= 0 && y < rows && x >= 0 && x < cols;
                visit(part.first, part.length, inside.then_some(base + part.point.offset))?;
            }
        }
        Ok(())
    }

    /// Calls `visit(first element, elements, address)` for the maximal contiguous stretches of the whole walk, in its
    /// order, `None` for padding.
    pub fn stretches<E>(&self, mut visit: impl FnMut(usize, usize, Option<i64>) -> Result<(), E>) -> Result<(), E> {
        let unit = i64::try_from(self.element).unwrap_or(1);
        let mut open: Option<(usize, usize, i64)> = None;
        for (index, &point) in self.rows.iter().enumerate() {
            let start = index * self.cols;
            self.row(point, |first, length, address| {
                let first = start + first;
                match (&mut open, address) {
                    (Some((_, open_length, open_address)), Some(address))
                        if *open_address + signed(*open_length) * unit == address =>
                    {
                        *open_length += length;
                        return Ok(());
                    }
                    _ => {}
                }
                if let Some((first, length, address)) = open.take() {
                    visit(first, length, Some(address))?;
                }
                match address {
                    Some(address) => open = Some((first, length, address)),
                    None => visit(first, length, None)?,
                }
                Ok(())
            })?;
        }
        match open {
            Some((first, length, address)) => visit(first, length, Some(address)),
            None => Ok(()),
        }
    }
}

/// Refuses walks whose addresses or image positions could leave 64 bits.
fn bounded(region: &Region) -> Result<(), Fault> {
    let steps = steps(region.pad.as_ref());
    let mut reach = i128::from(region.base.unsigned_abs());
    for (dim, (y, x)) in region.dims.iter().zip(steps) {
        reach += i128::from(dim.count) * (i128::from(dim.stride) + i128::from(y) + i128::from(x));
    }
    if reach < 1 << 62 { Ok(()) } else { Err(Fault::Region("addresses beyond 62 bits")) }
}

/// A number of columns, which is bounded by the region's 32-bit counts.
fn signed(columns: usize) -> i64 {
    i64::try_from(columns).unwrap_or(i64::MAX)
}

/// What one step of each dimension adds to the image row and column.
fn steps(pad: Option<&Pad>) -> [(i64, i64); 6] {
    let Some(pad) = pad else { return [(0, 0); 6] };
    let [oh, r] = pad.row_step.map(i64::from);
    let [ow, s] = pad.col_step.map(i64::from);
    [(0, 0), (oh, 0), (0, ow), (r, 0), (0, s), (0, 0)]
}

/// Flattens loops into parts, cut to a window. `contiguous`: the element size and whether positions matter, to
/// collapse trailing loops that lie contiguously; `None` for one part an index.
fn expand(
    dims: &[Dim],
    steps: &[(i64, i64)],
    window: Option<(u32, u32)>,
    contiguous: Option<(i64, bool)>,
    parts: &mut Vec<Part>,
) -> Result<(), Fault> {
    let total = dims.iter().try_fold(1_u64, |product, dim| product.checked_mul(u64::from(dim.count)));
    let total = total.filter(|&total| u32::try_from(total).is_ok()).ok_or(Fault::Region("too many elements"))?;
    let (start, length) = match window {
        None => (0, total),
        Some((start, length)) => (u64::from(start), u64::from(length)),
    };
    if start + length > total {
        return Err(Fault::Region("window past the end of the loops"));
    }
    if length == 0 {
        return Ok(());
    }
    // Trailing loops that are one contiguous block.
    let mut outer = dims.len();
    let mut inner = 1_u64;
    if let Some((element, positions)) = contiguous {
        while let Some(last) = outer.checked_sub(1) {
            let dim = dims[last];
            let still = positions && steps[last] != (0, 0);
            let block = i64::try_from(inner).unwrap_or(i64::MAX).saturating_mul(element);
            if dim.count != 1 && (i64::from(dim.stride) != block || still) {
                break;
            }
            inner *= u64::from(dim.count);
            outer = last;
        }
    }
    let unit = contiguous.map_or(1, |(element, _)| element);
    if length.div_ceil(inner) > LIMIT {
        return Err(Fault::Region("too many rows or runs"));
    }
    // Mixed-radix counter of the outer loops, from the window's start.
    let mut index = [0_u64; 6];
    let mut rest = start / inner;
    for (dim, digit) in dims[..outer].iter().zip(&mut index).rev() {
        *digit = rest % u64::from(dim.count);
        rest /= u64::from(dim.count);
    }
    let mut point = Point::default();
    for ((dim, step), &digit) in dims[..outer].iter().zip(steps).zip(&index) {
        let digit = i64::try_from(digit).unwrap_or(0);
        point.offset += i64::from(dim.stride) * digit;
        point.y += step.0 * digit;
        point.x += step.1 * digit;
    }
    let to_index = |value: u64| usize::try_from(value).map_err(|_| Fault::Region("too many elements"));
    let mut skip = start % inner;
    let mut done = 0;
    loop {
        let here = (inner - skip).min(length - done);
        let ahead = i64::try_from(skip).unwrap_or(0) * unit;
        parts.push(Part {
            point: Point { offset: point.offset + ahead, ..point },
            first: to_index(done)?,
            length: to_index(here)?,
        });
        done += here;
        skip = 0;
        if done == length {
            return Ok(());
        }
        for position in (0..outer).rev() {
            let (dim, step) = (dims[position], steps[position]);
            index[position] += 1;
            point.offset += i64::from(dim.stride);
            point.y += step.0;
            point.x += step.1;
            if index[position] < u64::from(dim.count) {
                break;
            }
            let count = i64::from(dim.count);
            index[position] = 0;
            point.offset -= i64::from(dim.stride) * count;
            point.y -= step.0 * count;
            point.x -= step.1 * count;
        }
    }
}

#[cfg(test)]
#[allow(
    clippy::cast_possible_truncation,
    clippy::cast_possible_wrap,
    clippy::cast_sign_loss,
    clippy::float_cmp,
    reason = "small numbers, and exact ones"
)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::config::BufferId;

    fn addresses(walk: &UnrolledRegion) -> Vec<Option<i64>> {
        let unit = walk.element as i64;
        let mut by_row = Vec::new();
        for &row in &walk.rows {
            walk.row(row, |_, length, address| {
                by_row.extend((0..length as i64).map(|i| address.map(|address| address + i * unit)));
                Ok::<_, ()>(())
            })
            .unwrap();
        }
        let mut whole = vec![None; by_row.len()];
        walk.stretches(|first, length, address| {
            for i in 0..length {
                whole[first + i] = address.map(|address| address + i as i64 * unit);
            }
            Ok::<_, ()>(())
        })
        .unwrap();
        assert_eq!(by_row, whole);
        by_row
    }

    proptest! {
        #[test]
        fn a_walk_visits_the_addresses_of_its_region(
            counts in prop::array::uniform6(1_u32..4), strides in prop::array::uniform6(0_u32..7),
            split in 0_u8..7, element in prop::sample::select(vec![1_u8, 2]), padded: bool,
            row0 in -2_i32..2, col0 in -2_i32..2, rows in 1_u32..5, cols in 1_u32..5,
            row_cut in prop::option::of((0_u32..8, 0_u32..8)), cut in prop::option::of((0_u32..8, 0_u32..8)),
        ) {
            let mut dims = [Dim::ONE; 6];
            for i in 0..6 {
                dims[i] = Dim::new(counts[i], strides[i] * u32::from(element));
            }
            let product = |dims: &[Dim]| dims.iter().map(|dim| dim.count).product::<u32>();
            let fit = |cut: Option<(u32, u32)>, total: u32| {
                cut.map(|(start, length)| (start.min(total), length.min(total - start.min(total))))
            };
            let region = Region {
                space: Space::Buffer(BufferId(0)), base: 1000, element: element.into(), dims, split,
                row_window: fit(row_cut, product(&dims[..usize::from(split)])),
                window: fit(cut, product(&dims[usize::from(split)..])),
                pad: padded.then_some(Pad { row0, rows, row_step: [1, 2], col0, cols, col_step: [2, 1] }),
            };
            let walk = UnrolledRegion::new(&region).unwrap();
            let expected: Vec<Option<i64>> = (0..region.rows())
                .flat_map(|row| (0..region.cols()).map(move |col| (row, col)))
                .map(|(row, col)| region.address(row, col).map(|address| address as i64))
                .collect();
            prop_assert_eq!(addresses(&walk), expected);
        }
    }

    #[test]
    fn a_long_flat_region_is_one_run() {
        let walk = UnrolledRegion::new(&Region::flat(Space::Buffer(BufferId(0)), 5, 1, 4_000_000)).unwrap();
        assert_eq!((walk.runs.len(), walk.rows.len(), walk.flat()), (1, 1, Some(5)));
    }

    #[test]
    fn addresses_that_would_overflow_are_refused() {
        let mut region = Region::flat(Space::Buffer(BufferId(0)), i64::MAX, 1, 8);
        assert!(UnrolledRegion::new(&region).is_err());
        region.base = 0;
        region.dims[0] = Dim::new(u32::MAX, u32::MAX);
        assert!(UnrolledRegion::new(&region).is_err());
    }

    #[test]
    fn a_window_past_the_loops_is_refused() {
        let mut region = Region::flat(Space::Buffer(BufferId(0)), 0, 1, 8);
        region.window = Some((4, 5));
        assert_eq!(UnrolledRegion::new(&region).err(), Some(Fault::Region("window past the end of the loops")));
    }
}
