//! How full the buffers are, for an observer: which bytes hold data that are still to be used. Knows regions and times,
//! not values, slots or layers.
//!
//! What an instruction writes lies in the buffer from the instruction's start until the last instruction that reads it
//! is done, or until something else is written there. Regions count with the range of addresses between their first and
//! last byte, and in it with no more bytes than they have; what is written before any of its range is read counts as one.

use std::collections::BTreeMap;

use super::{TimingError, array::product, observer::Fill, runs};
use crate::{
    config::Accelerator,
    program::{Operation, Pad, Region, Space},
    units::Time,
};

/// Data in a range of addresses.
#[derive(Clone, Copy, Debug)]
struct Extent {
    end: u64,
    bytes: u64,
    /// When all that uses it so far is done.
    used: Time,
    is_read: bool,
}

/// All buffers and, last, the accumulators.
#[derive(Debug)]
pub(super) struct Occupancy {
    /// By the first address, none across another.
    extents: Vec<BTreeMap<u64, Extent>>,
    accumulator_bytes: u64,
    /// Bytes of an image for each byte of the buffer.
    scale: u64,
}

/// A region's buffer, its range of addresses in the image, and the bytes of the machine's buffer in it.
struct BufferRange {
    buffer: usize,
    start: u64,
    end: u64,
    bytes: u64,
}

impl Occupancy {
    pub fn new(accelerator: &Accelerator, scale: u64) -> Self {
        let extents = vec![BTreeMap::new(); accelerator.buffers.len() + 1];
        Self { extents, accumulator_bytes: accelerator.accumulator_bytes(), scale: scale.max(1) }
    }

    /// Accounts for an instruction. Those that write what others read, and read what others write over, must come in
    /// that order.
    pub fn done(
        &mut self,
        operation: &Operation,
        start: Time,
        end: Time,
        tell: &mut dyn FnMut(Fill),
    ) -> Result<(), TimingError> {
        match operation {
            Operation::Load(transfer) | Operation::Store(transfer) | Operation::Move(transfer) => {
                self.read(&transfer.source, end)?;
                self.write(&transfer.target, start, end, tell)
            }
            Operation::Preload { stationary } | Operation::Fetch { stationary } => self.read(stationary, end),
            Operation::Matmul(matmul) => {
                self.read(&matmul.stream, end)?;
                if let Some(stationary) = &matmul.stationary {
                    self.read(stationary, end)?;
                }
                match (matmul.hold, matmul.accumulate) {
                    (true, _) => Ok(()),
                    // Sums that are added to are not over.
                    (false, true) => self.touch(&matmul.accumulators, end, false),
                    (false, false) => self.write(&matmul.accumulators, start, end, tell),
                }
            }
            Operation::Vector(op) | Operation::Host(op) => {
                for input in &op.inputs {
                    self.read(input, end)?;
                }
                self.write(&op.output, start, end, tell)
            }
            Operation::PreloadNext { .. } | Operation::Fence => Ok(()),
        }
    }

    /// Empties everything at its last use.
    pub fn finish(&mut self, tell: &mut dyn FnMut(Fill)) {
        for (buffer, extents) in self.extents.iter_mut().enumerate() {
            for extent in std::mem::take(extents).into_values() {
                tell(Fill { buffer, time: extent.used, change: change(extent.bytes).saturating_neg() });
            }
        }
    }

    fn read(&mut self, region: &Region, end: Time) -> Result<(), TimingError> {
        self.touch(region, end, true)
    }

    fn touch(&mut self, region: &Region, end: Time, is_read: bool) -> Result<(), TimingError> {
        let Some(range) = self.range_of(region)? else { return Ok(()) };
        let Some(extents) = self.extents.get_mut(range.buffer) else { return Ok(()) };
        for (_, extent) in extents.range_mut(..range.end).rev().take_while(|(_, extent)| extent.end > range.start) {
            extent.used = extent.used.max(end);
            extent.is_read |= is_read;
        }
        Ok(())
    }

    fn write(
        &mut self,
        region: &Region,
        start: Time,
        end: Time,
        tell: &mut dyn FnMut(Fill),
    ) -> Result<(), TimingError> {
        let Some(range) = self.range_of(region)? else { return Ok(()) };
        let buffer = range.buffer;
        let scale = if buffer + 1 == self.extents.len() { 1 } else { self.scale };
        let Some(extents) = self.extents.get_mut(buffer) else { return Ok(()) };
        let mut whole = Extent { end: range.end, bytes: range.bytes, used: end, is_read: false };
        let mut first = range.start;
        let mut before = 0;
        while let Some((&at, &old)) = extents.range(..range.end).next_back()
            && old.end > range.start
        {
            extents.remove(&at);
            if !old.is_read {
                // Another part of the same data.
                before += old.bytes;
                first = first.min(at);
                whole.end = whole.end.max(old.end);
                whole.used = whole.used.max(old.used);
                continue;
            }
            let mut left = 0;
            for (from, to) in [(at, range.start), (range.end, old.end)] {
                if from < to {
                    let part = u128::from(old.bytes) * u128::from(to - from) / u128::from(old.end - at);
                    let bytes = u64::try_from(part).unwrap_or(old.bytes);
                    left += bytes;
                    extents.insert(from, Extent { end: to, bytes, ..old });
                }
            }
            let change = change(old.bytes - left).saturating_neg();
            tell(Fill { buffer, time: old.used.min(start), change });
        }
        // The parts together have no more room than the range, nor less than one of them.
        let room = (whole.end - first).div_ceil(scale).max(whole.bytes);
        whole.bytes = (whole.bytes + before).min(room);
        tell(Fill { buffer, time: start, change: change(whole.bytes) - change(before) });
        extents.insert(first, whole);
        Ok(())
    }

    fn range_of(&self, region: &Region) -> Result<Option<BufferRange>, TimingError> {
        let (buffer, scale) = match region.space {
            Space::Memory(_) => return Ok(None),
            Space::Buffer(id) => (usize::from(id.0), 1),
            Space::Accumulators => (self.extents.len() - 1, self.accumulator_bytes),
        };
        let Some([start, end]) = range(region)? else { return Ok(None) };
        let [start, end] = [product(start, scale)?, product(end, scale)?];
        let bytes = region.element.packed_bytes(runs::elements(region)?).ok_or(TimingError::Overflow)?;
        let most = (end - start).div_ceil(1 << region.element.per_byte_shift());
        Ok(Some(BufferRange { buffer, start, end, bytes: product(bytes, scale)?.min(most) }))
    }
}

fn change(bytes: u64) -> i64 {
    i64::try_from(bytes).unwrap_or(i64::MAX)
}

/// The first address of a region that is no padding, and the end of the last; `None` where all is padding.
fn range(region: &Region) -> Result<Option<[u64; 2]>, TimingError> {
    if runs::elements(region)? == 0 {
        return Ok(None);
    }
    let reach = |axis: usize| {
        let dim = region.dims[axis];
        i64::from(dim.count.saturating_sub(1)).checked_mul(i64::from(dim.stride)).ok_or(TimingError::Overflow)
    };
    let add = |a: i64, b: i64| a.checked_add(b).ok_or(TimingError::Overflow);
    let (mut low, mut high) = (region.base, region.base);
    for axis in 0..region.dims.len() {
        if region.pad.is_none() || !(1..=4).contains(&axis) {
            high = add(high, reach(axis)?)?;
        }
    }
    if let Some(pad) = &region.pad {
        for [outer, inner] in [[1, 3], [2, 4]] {
            let Some([first, last]) = inside(region, pad, outer, inner)? else { return Ok(None) };
            low = add(low, first)?;
            high = add(high, last)?;
        }
    }
    let end = add(high, region.element.bytes().into())?;
    let [Ok(low), Ok(end)] = [low.max(0), end].map(u64::try_from) else { return Ok(None) };
    Ok((low < end).then_some([low, end]))
}

/// How far from the base the first and the last image row (or column) lie that are no padding: those of the loops
/// `outer` and `inner` of an image walk.
fn inside(region: &Region, pad: &Pad, outer: usize, inner: usize) -> Result<Option<[i64; 2]>, TimingError> {
    let (first, length, steps) =
        if outer == 1 { (pad.row0, pad.rows, pad.row_step) } else { (pad.col0, pad.cols, pad.col_step) };
    let dims = [region.dims[outer], region.dims[inner]];
    let mut last = i64::from(first);
    // Bytes of one image row (or column): a loop's stride is that many for each of its steps.
    let mut unit = 0;
    for (dim, step) in dims.iter().zip(steps) {
        let reach = i64::from(dim.count.saturating_sub(1)).checked_mul(i64::from(step)).ok_or(TimingError::Overflow)?;
        last = last.checked_add(reach).ok_or(TimingError::Overflow)?;
        if dim.count > 1 && step > 0 {
            unit = i64::from(dim.stride / step);
        }
    }
    let lowest = i64::from(first).max(0);
    let highest = last.min(i64::from(length) - 1);
    if lowest > highest {
        return Ok(None);
    }
    let offset = |row: i64| (row - i64::from(first)).checked_mul(unit).ok_or(TimingError::Overflow);
    Ok(Some([offset(lowest)?, offset(highest)?]))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        config::BufferId,
        program::{Dim, Transfer},
    };

    const BUFFER: Space = Space::Buffer(BufferId(0));

    fn load(base: i64, count: u32) -> Operation {
        let memory = Region::flat(Space::Memory(crate::config::MemoryId(0)), 0, 1, count);
        Operation::Load(Transfer { source: memory, target: Region::flat(BUFFER, base, 1, count) })
    }

    fn read(base: i64, count: u32) -> Operation {
        Operation::Preload { stationary: Region::flat(BUFFER, base, 1, count) }
    }

    fn fills(steps: &[(Operation, u64, u64)]) -> Vec<(u64, i64)> {
        let mut occupancy = Occupancy { extents: vec![BTreeMap::new(); 2], accumulator_bytes: 4, scale: 1 };
        let mut changes = BTreeMap::<u64, i64>::new();
        let mut tell = |fill: Fill| *changes.entry(fill.time.0).or_default() += fill.change;
        for (operation, start, end) in steps {
            occupancy.done(operation, Time(*start), Time(*end), &mut tell).unwrap();
        }
        occupancy.finish(&mut tell);
        changes.into_iter().filter(|&(_, change)| change != 0).collect()
    }

    #[test]
    fn data_lie_in_a_buffer_from_the_write_to_the_last_read() {
        let steps = [(load(0, 64), 10, 20), (read(0, 32), 20, 30), (read(32, 32), 30, 40), (load(0, 64), 50, 60)];
        assert_eq!(fills(&steps), [(10, 64), (40, -64), (50, 64), (60, -64)]);
    }

    #[test]
    fn what_is_written_over_goes_and_the_rest_stays() {
        let steps = [(load(0, 64), 0, 10), (read(0, 64), 10, 90), (load(16, 16), 50, 60)];
        // The reader is not done with the rest.
        assert_eq!(fills(&steps), [(0, 64), (60, -16), (90, -48)]);
    }

    #[test]
    fn parts_written_one_after_the_other_add_up() {
        let part = |base| {
            let target = Region::matrix(BUFFER, base, 1, Dim::new(4, 16), Dim::new(8, 1));
            let source = Region::flat(Space::Memory(crate::config::MemoryId(0)), 0, 1, 32);
            Operation::Load(Transfer { source, target })
        };
        assert_eq!(
            fills(&[(part(0), 0, 10), (part(8), 10, 20), (read(0, 64), 20, 30)]),
            [(0, 32), (10, 32), (30, -64)]
        );
    }

    #[test]
    fn padding_of_a_walk_is_outside_its_range() {
        // 2x2 outputs of a 3x3 window on a 2x2 image of 4 channels, one row and column of padding all round.
        let dims = [Dim::ONE, Dim::new(2, 8), Dim::new(2, 4), Dim::new(3, 8), Dim::new(3, 4), Dim::new(4, 1)];
        let pad = Pad { row0: -1, rows: 2, row_step: [1, 1], col0: -1, cols: 2, col_step: [1, 1] };
        let mut region = Region { dims, pad: Some(pad), base: 100 - 12, ..Region::flat(BUFFER, 0, 1, 1) };
        assert_eq!(range(&region).unwrap(), Some([100, 116]));
        region.pad = Some(Pad { row0: -9, ..pad });
        assert_eq!(range(&region).unwrap(), None);
        // The walk itself agrees.
        region.pad = Some(pad);
        let mut seen = [u64::MAX, 0];
        region.for_each_run(|address, units| seen = [seen[0].min(address), seen[1].max(address + units)]);
        assert_eq!(seen, [100, 116]);
    }
}
