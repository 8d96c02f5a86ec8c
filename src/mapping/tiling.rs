//! Tile arithmetic: how an extent is cut, and which input rows a range of output rows needs.

use smallvec::{SmallVec, smallvec};

pub use crate::dataflow::Range;

/// The `index`-th tile of `extent` cut into tiles of `tile`; the last may be shorter.
pub fn tile_range(extent: u32, tile: u32, index: u32) -> Range {
    let start = index * tile;
    Range { start, len: tile.min(extent - start) }
}

/// Input rows (or columns) of a range of output rows: where the window starts, which may be negative, and the part
/// that exists.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Halo {
    /// Input index of the first output's first tap; negative inside the padding.
    pub first_tap: i64,
    /// The part of the input that any tap of the range touches; may be empty where all of it is padding.
    pub present: Range,
}

/// The halo of an output range along one axis.
///
/// `stride`, `dilation`, `kernel` and `pad` (at the low side) are those of the axis, `input` its extent.
///
/// # Panics
/// Never: both ends are clamped to the extent.
pub fn halo(output: Range, stride: u32, dilation: u32, kernel: u32, pad: u32, input: u32) -> Halo {
    let first_tap = i64::from(output.start) * i64::from(stride) - i64::from(pad);
    let last_tap = first_tap
        + i64::from(output.len.saturating_sub(1)) * i64::from(stride)
        + i64::from(kernel - 1) * i64::from(dilation);
    let start = first_tap.clamp(0, i64::from(input));
    let end = (last_tap + 1).clamp(start, i64::from(input));
    let narrow = |value: i64| u32::try_from(value).expect("clamped to the input's extent");
    Halo { first_tap, present: Range { start: narrow(start), len: narrow(end - start) } }
}

/// Most input rows (or columns) that so many output rows need, wherever they lie. Parameters as of [`halo`].
pub fn reach(outputs: u32, stride: u32, dilation: u32, kernel: u32, input: u32) -> u32 {
    halo(Range { start: 0, len: outputs }, stride, dilation, kernel, 0, input).present.len
}

/// How far apart the rows (or columns) of an input are that taps read: more than 1 only where one tap steps over some.
/// Parameters as of [`halo`].
pub const fn apart(stride: u32, kernel: u32, pad: u32) -> u32 {
    if kernel == 1 && pad == 0 { stride } else { 1 }
}

/// Input rows (or columns) that a whole layer reads, its taps' of all outputs. Parameters as of [`halo`].
pub fn read(outputs: u32, stride: u32, dilation: u32, kernel: u32, pad: u32, input: u32) -> u32 {
    let all = halo(Range { start: 0, len: outputs }, stride, dilation, kernel, pad, input);
    all.present.len.div_ceil(apart(stride, kernel, pad))
}

/// Lengths with their number.
pub type Lengths = SmallVec<[(u64, u64); 4]>;

/// The tiles of an extent by their length: full ones and the last.
pub fn tile_lengths(extent: u32, tile: u32) -> Lengths {
    lengths(extent, tile, extent.div_ceil(tile))
}

/// The same, where the number of tiles is known.
pub(super) fn lengths(extent: u32, tile: u32, trips: u32) -> Lengths {
    let last = u64::from(extent) - u64::from(trips - 1) * u64::from(tile);
    if trips == 1 { smallvec![(last, 1)] } else { smallvec![(u64::from(tile), u64::from(trips - 1)), (last, 1)] }
}

/// The tiles of an output extent by the length of the input that they need, neighbours of equal length together;
/// parameters as of [`halo`]. Tiles within the input and within the padding are counted, and only those that cross an
/// edge are looked at one by one: at most about twice the window's extent.
///
/// # Panics
/// Never: tiles are numbered in 32 bits.
pub fn halo_lengths(extent: u32, tile: u32, stride: u32, dilation: u32, kernel: u32, pad: u32, input: u32) -> Lengths {
    let length =
        |index: u32| u64::from(halo(tile_range(extent, tile, index), stride, dilation, kernel, pad, input).present.len);
    let [step_outputs, stride, pad, input] = [tile, stride, pad, input].map(u64::from);
    let step = step_outputs * stride;
    // From a full tile's first tap to its last.
    let reach = (step_outputs - 1) * stride + (u64::from(kernel) - 1) * u64::from(dilation) + 1;
    let full = u64::from(extent) / step_outputs;
    // Full tile `i` reads from `step * i - pad` on. Ends of: what lies before the input, what crosses its low edge, what
    // lies within it, what crosses its high edge.
    let before = pad.checked_sub(reach).map_or(0, |room| room / step + 1).min(full);
    let low = pad.div_ceil(step).clamp(before, full);
    let within = (input + pad).checked_sub(reach).map_or(0, |room| room / step + 1).clamp(low, full);
    let high = (input + pad).div_ceil(step).clamp(within, full);
    let mut lengths = Lengths::new();
    let mut add = |length: u64, count: u64| match lengths.last_mut() {
        Some((known, times)) if *known == length => *times += count,
        _ if count > 0 => lengths.push((length, count)),
        _ => {}
    };
    let narrow = |index: u64| u32::try_from(index).expect("at most the number of tiles");
    add(0, before);
    (narrow(before)..narrow(low)).for_each(|index| add(length(index), 1));
    add(reach, within - low);
    (narrow(within)..narrow(high)).for_each(|index| add(length(index), 1));
    add(0, full - high);
    (narrow(full)..extent.div_ceil(tile)).for_each(|index| add(length(index), 1));
    lengths
}

/// Smallest tile of each distinct trip count of an extent, largest tile first: at most `2 sqrt(extent)` candidates. A
/// larger tile of the same trip count only wastes space.
pub fn distinct_tiles(extent: u32) -> Vec<u32> {
    let mut tiles = Vec::new();
    let mut trips = 1;
    while trips <= extent {
        let tile = extent.div_ceil(trips);
        tiles.push(tile);
        // The next trip count whose smallest tile is smaller.
        let smaller = tile - 1;
        if smaller == 0 {
            break;
        }
        trips = extent.div_ceil(smaller);
    }
    tiles
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use proptest::prelude::*;

    use super::*;

    #[test]
    fn the_halo_of_a_padded_3x3_is_clipped_at_both_ends() {
        let all = Range { start: 0, len: 4 };
        assert_eq!(halo(all, 1, 1, 3, 1, 4), Halo { first_tap: -1, present: Range { start: 0, len: 4 } });
        let top = Range { start: 0, len: 2 };
        assert_eq!(halo(top, 1, 1, 3, 1, 4), Halo { first_tap: -1, present: Range { start: 0, len: 3 } });
        let bottom = Range { start: 2, len: 2 };
        assert_eq!(halo(bottom, 1, 1, 3, 1, 4), Halo { first_tap: 1, present: Range { start: 1, len: 3 } });
    }

    #[test]
    fn a_range_that_sees_only_padding_needs_nothing() {
        let far = Range { start: 0, len: 1 };
        assert_eq!(halo(far, 1, 1, 1, 3, 2).present.len, 0);
    }

    proptest! {
        #[test]
        fn tiles_by_length_are_those_that_a_walk_finds(
            [stride, dilation, kernel] in [1_u32..6, 1..6, 1..9],
            pad in 0_u32..40,
            input in 1_u32..40,
            extent in 1_u32..60,
            tile in 1_u32..12,
        ) {
            let tile = tile.min(extent);
            let counted = |lengths: &mut dyn Iterator<Item = (u64, u64)>| {
                let mut sum = BTreeMap::new();
                lengths.for_each(|(length, count)| *sum.entry(length).or_insert(0) += count);
                sum
            };
            let found = halo_lengths(extent, tile, stride, dilation, kernel, pad, input);
            let ranges = (0..extent.div_ceil(tile)).map(|index| tile_range(extent, tile, index));
            let mut walked = ranges.map(|range| {
                (u64::from(halo(range, stride, dilation, kernel, pad, input).present.len), 1)
            });
            prop_assert_eq!(counted(&mut found.into_iter()), counted(&mut walked));
        }
    }

    #[test]
    fn a_thousand_million_tiles_are_counted_at_once() {
        assert_eq!(halo_lengths(1 << 30, 1, 1, 1, 3, 1, 1 << 30).as_slice(), [(2, 1), (3, (1 << 30) - 2), (2, 1)]);
        assert_eq!(
            halo_lengths(1 << 30, 1, 1, 1, 1, 1 << 29, 1).as_slice(),
            [(0, 1 << 29), (1, 1), (0, (1 << 29) - 1)]
        );
    }

    #[test]
    fn distinct_tiles_are_the_smallest_of_their_trip_count() {
        assert_eq!(distinct_tiles(7), [7, 4, 3, 2, 1]);
        assert_eq!(distinct_tiles(1), [1]);
        for extent in 1..200_u32 {
            let expected: Vec<u32> = {
                let mut all: Vec<u32> = (1..=extent).map(|trips| extent.div_ceil(trips)).collect();
                all.dedup();
                all
            };
            assert_eq!(distinct_tiles(extent), expected, "extent {extent}");
        }
    }
}
