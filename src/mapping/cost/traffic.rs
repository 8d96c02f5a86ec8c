//! What a mapping moves between memory and core: bytes and bursts by operand, in closed form.

use smallvec::{SmallVec, smallvec};

use super::{Cost, Rates};
use crate::mapping::{
    matrix::{MatrixMapping, Step, Trips},
    tiling::tile_range,
};

/// Bytes and the bursts that they take at least.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Transfers {
    /// Useful bytes.
    pub bytes: u64,
    /// Aligned bursts that their contiguous runs overlap at least.
    pub bursts: u64,
    /// Instructions.
    pub instructions: u64,
    /// Descriptors of the DMA engines.
    pub descriptors: u64,
}

/// How runs of bytes in memory become requests.
#[derive(Clone, Copy, Debug)]
pub(in crate::mapping) struct Requests {
    /// Bytes of a burst.
    pub burst: u64,
    /// Bytes in which memory is touched: whole bursts.
    pub granule: u64,
    /// Whether one descriptor moves many runs.
    pub strides: bool,
}

impl Requests {
    /// One instruction that moves `count` runs of `bytes` each.
    pub(in crate::mapping) fn of(&self, count: u64, bytes: u64) -> Transfers {
        Transfers {
            bytes: count * bytes,
            bursts: count * bytes.div_ceil(self.granule) * (self.granule / self.burst),
            instructions: 1,
            descriptors: if self.strides { 1 } else { count },
        }
    }
}

impl Transfers {
    pub(in crate::mapping) fn times(self, count: u64) -> Self {
        Self {
            bytes: self.bytes * count,
            bursts: self.bursts * count,
            instructions: self.instructions * count,
            descriptors: self.descriptors * count,
        }
    }

    pub(in crate::mapping) fn plus(self, other: Self) -> Self {
        Self {
            bytes: self.bytes + other.bytes,
            bursts: self.bursts + other.bursts,
            instructions: self.instructions + other.instructions,
            descriptors: self.descriptors + other.descriptors,
        }
    }
}

/// Lengths of the input ranges of all tiles along one axis, with their number. They depend on the tile's extent on that
/// axis alone, and take a step a tile to find: a search keeps them.
#[derive(Clone, Debug)]
pub struct InputLengths(Cut);

impl InputLengths {
    /// Of rows.
    pub fn rows(mapping: &MatrixMapping) -> Self {
        let (extent, tile) = (mapping.shape.p, mapping.tile.p);
        Self(count_equal((0..extent.div_ceil(tile)).map(|i| mapping.rows(tile_range(extent, tile, i)).present.len)))
    }

    /// Of columns.
    pub fn cols(mapping: &MatrixMapping) -> Self {
        let (extent, tile) = (mapping.shape.q, mapping.tile.q);
        Self(count_equal((0..extent.div_ceil(tile)).map(|i| mapping.cols(tile_range(extent, tile, i)).present.len)))
    }
}

/// One input tile's transfer.
pub(super) fn input_tile(mapping: &MatrixMapping, rates: &Rates, step: &Step) -> Transfers {
    if mapping.input_resident {
        return Transfers::default();
    }
    let shape = &mapping.shape;
    let channels = u64::from(step.c.len) * u64::from(step.passes.len);
    let rows = u64::from(mapping.rows(step.p).present.len);
    let cols = u64::from(mapping.cols(step.q).present.len);
    image_transfer(
        [u64::from(step.n.len), rows, cols, channels],
        [u64::from(shape.h), u64::from(shape.w), u64::from(shape.c)],
        u64::from(shape.input_bytes()),
        rates.requests,
    )
}

/// One output tile's transfer.
pub(super) fn output_tile(mapping: &MatrixMapping, rates: &Rates, step: &Step) -> Transfers {
    if mapping.output_resident {
        return Transfers::default();
    }
    let shape = &mapping.shape;
    let channels = u64::from(step.o.len) * u64::from(step.passes.len);
    image_transfer(
        [u64::from(step.n.len), u64::from(step.p.len), u64::from(step.q.len), channels],
        [u64::from(shape.p), u64::from(shape.q), u64::from(shape.o)],
        u64::from(shape.output_bytes()),
        rates.requests,
    )
}

/// One weight tile's transfer, parameter records apart.
pub(super) fn weight_tile(mapping: &MatrixMapping, rates: &Rates, step: &Step) -> Transfers {
    let bytes = u64::from(step.passes.len)
        * u64::from(step.o.len)
        * u64::from(step.c.len)
        * mapping.shape.taps()
        * u64::from(mapping.shape.weight_bytes);
    rates.requests.of(1, bytes)
}

/// A box `[n, rows, cols, channels]` of an NHWC image `[_, height, width, channels]`: contiguous runs grow across a
/// dimension that the box covers whole.
pub(in crate::mapping) fn image_transfer(
    tile: [u64; 4],
    whole: [u64; 3],
    element: u64,
    requests: Requests,
) -> Transfers {
    let [n, rows, cols, channels] = tile;
    let [height, width, all_channels] = whole;
    if n * rows * cols * channels == 0 {
        return Transfers::default();
    }
    let (mut run, mut count) = (channels * element, n * rows * cols);
    if channels == all_channels {
        (run, count) = (run * cols, n * rows);
        if cols == width {
            (run, count) = (run * rows, n);
            if rows == height {
                (run, count) = (run * n, 1);
            }
        }
    }
    requests.of(count, run)
}

/// All transfers of the layer; returns those of the parameter records, which count as weights.
pub(super) fn transfers(
    mapping: &MatrixMapping,
    rates: &Rates,
    trips: Trips,
    lengths: [&InputLengths; 2],
    cost: &mut Cost,
) -> Transfers {
    let (shape, tile) = (&mapping.shape, &mapping.tile);
    let passes = mapping.passes();
    let reloads = input_loads_per_tile(mapping, trips);
    // Channels of a tile: passes and channels are never both cut.
    let sum_boxes = |ranges_p: &[(u64, u64)], ranges_q: &[(u64, u64)], channels: &[(u64, u64)], whole, element| {
        let mut sum = Transfers::default();
        for &(rows, rows_count) in ranges_p {
            for &(cols, cols_count) in ranges_q {
                for &(depth, depth_count) in channels {
                    for (images, images_count) in cut(shape.n, tile.n, trips.n) {
                        let one = image_transfer([images, rows, cols, depth], whole, element, rates.requests);
                        sum = sum.plus(one.times(rows_count * cols_count * depth_count * images_count));
                    }
                }
            }
        }
        sum
    };
    if !mapping.input_resident {
        let [InputLengths(rows), InputLengths(cols)] = lengths;
        let mut channels = Cut::new();
        for (count, times) in cut(passes, tile.passes, trips.passes) {
            for (c, c_times) in cut(mapping.pass_channels(), tile.c, trips.c) {
                channels.push((count * c, times * c_times));
            }
        }
        let whole = [u64::from(shape.h), u64::from(shape.w), u64::from(shape.c)];
        cost.input = sum_boxes(rows, cols, &channels, whole, u64::from(shape.input_bytes())).times(reloads);
    }
    if !mapping.output_resident {
        let mut channels = Cut::new();
        for (count, times) in cut(passes, tile.passes, trips.passes) {
            for (o, o_times) in cut(mapping.pass_outputs(), tile.o, trips.o) {
                channels.push((count * o, times * o_times));
            }
        }
        let whole = [u64::from(shape.p), u64::from(shape.q), u64::from(shape.o)];
        let (rows, cols) = (cut(shape.p, tile.p, trips.p), cut(shape.q, tile.q, trips.q));
        cost.output = sum_boxes(&rows, &cols, &channels, whole, u64::from(shape.output_bytes()));
    }
    let taps = shape.taps();
    let mut parameters = Transfers::default();
    for (count, times) in cut(passes, tile.passes, trips.passes) {
        for (o, o_times) in cut(mapping.pass_outputs(), tile.o, trips.o) {
            for (c, c_times) in cut(mapping.pass_channels(), tile.c, trips.c) {
                let bytes = count * o * c * taps * u64::from(shape.weight_bytes);
                let one = rates.requests.of(1, bytes);
                cost.weight =
                    cost.weight.plus(one.times(times * o_times * c_times * weight_loads_per_tile(mapping, trips)));
            }
            let records = rates.requests.of(1, count * o * u64::from(mapping.parameter_bytes));
            parameters = parameters.plus(records.times(times * o_times * parameter_loads_per_tile(mapping, trips)));
        }
    }
    cost.weight = cost.weight.plus(parameters);
    parameters
}

/// Sizes of tiles with their number.
type Cut = SmallVec<[(u64, u64); 4]>;

/// Sizes of the tiles of an extent with their number: full ones and the last.
pub(super) fn cut(extent: u32, tile: u32, trips: u32) -> Cut {
    let last = u64::from(extent) - u64::from(trips - 1) * u64::from(tile);
    if trips == 1 { smallvec![(last, 1)] } else { smallvec![(u64::from(tile), u64::from(trips - 1)), (last, 1)] }
}

/// The same, with no tiles in place of a missing kind.
pub(super) fn pieces(extent: u32, tile: u32, trips: u32) -> [(u64, u64); 2] {
    let last = u64::from(extent) - u64::from(trips - 1) * u64::from(tile);
    [(u64::from(tile), u64::from(trips - 1)), (last, 1)]
}

/// Distinct lengths with their number.
pub(super) fn count_equal(lengths: impl Iterator<Item = u32>) -> Cut {
    let mut counts = Cut::new();
    for length in lengths {
        match counts.iter_mut().find(|(known, _)| *known == u64::from(length)) {
            Some((_, count)) => *count += 1,
            None => counts.push((u64::from(length), 1)),
        }
    }
    counts
}

/// How often each input tile is loaded: again for every output tile unless it is still there.
pub fn input_loads_per_tile(mapping: &MatrixMapping, trips: Trips) -> u64 {
    use crate::mapping::matrix::LoopOrder::{OutputsOuter, PixelsOuter};
    let again = match mapping.order {
        // The slot still holds the tile when the pixel loops have one trip and channels are not cut.
        OutputsOuter => trips.pixels() > 1 || trips.c > 1,
        PixelsOuter => trips.c > 1,
    };
    if again { u64::from(trips.o) } else { 1 }
}

/// How often each weight tile is loaded.
pub fn weight_loads_per_tile(mapping: &MatrixMapping, trips: Trips) -> u64 {
    use crate::mapping::matrix::LoopOrder::{OutputsOuter, PixelsOuter};
    let again = match mapping.order {
        OutputsOuter => trips.c > 1,
        PixelsOuter => trips.o > 1 || trips.c > 1,
    };
    if again { trips.pixels() } else { 1 }
}

/// How often each tile of parameter records is loaded.
pub fn parameter_loads_per_tile(mapping: &MatrixMapping, trips: Trips) -> u64 {
    use crate::mapping::matrix::LoopOrder::{OutputsOuter, PixelsOuter};
    match mapping.order {
        OutputsOuter => 1,
        PixelsOuter => {
            if trips.o > 1 {
                trips.pixels()
            } else {
                1
            }
        }
    }
}
