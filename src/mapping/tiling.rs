//! Tile arithmetic: how an extent is cut, and which input rows a range of output rows needs.

/// A half-open range of indices.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Range {
    /// First index.
    pub start: u32,
    /// Number of indices.
    pub len: u32,
}

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
