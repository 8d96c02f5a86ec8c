//! What a mapping moves between memory and core: bytes and bursts by operand, in closed form.

use super::{Cost, Rates};
use crate::mapping::{
    matrix::{MatrixMapping, Step, Trips},
    tiling::{Lengths, halo_lengths, tile_lengths},
};

/// Bytes and the bursts that they take at least. Counts stop at the largest number, where time has ended long before.
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
            bytes: count.saturating_mul(bytes),
            bursts: count.saturating_mul(bytes.div_ceil(self.granule)).saturating_mul(self.granule / self.burst),
            instructions: 1,
            descriptors: if self.strides { 1 } else { count },
        }
    }
}

impl Transfers {
    pub(in crate::mapping) fn times(self, count: u64) -> Self {
        Self {
            bytes: self.bytes.saturating_mul(count),
            bursts: self.bursts.saturating_mul(count),
            instructions: self.instructions.saturating_mul(count),
            descriptors: self.descriptors.saturating_mul(count),
        }
    }

    pub(in crate::mapping) fn plus(self, other: Self) -> Self {
        Self {
            bytes: self.bytes.saturating_add(other.bytes),
            bursts: self.bursts.saturating_add(other.bursts),
            instructions: self.instructions.saturating_add(other.instructions),
            descriptors: self.descriptors.saturating_add(other.descriptors),
        }
    }
}

/// Lengths of the input ranges of all tiles along one axis, with their number. They depend on the tile's extent on that
/// axis alone: a search keeps them.
#[derive(Clone, Debug)]
pub struct InputLengths(Lengths);

impl InputLengths {
    /// Of rows.
    pub fn rows(mapping: &MatrixMapping) -> Self {
        let s = &mapping.shape;
        Self(halo_lengths(s.p, mapping.tile.p, s.stride[0], s.dilation[0], s.kernel[0], s.pad[0], s.h))
    }

    /// Of columns.
    pub fn cols(mapping: &MatrixMapping) -> Self {
        let s = &mapping.shape;
        Self(halo_lengths(s.q, mapping.tile.q, s.stride[1], s.dilation[1], s.kernel[1], s.pad[1], s.w))
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

/// The same of every box of a grid, given by the lengths of its images, rows, columns and channels.
pub(in crate::mapping) fn grid_transfer(
    [images, rows, cols, channels]: [&[(u64, u64)]; 4],
    whole: [u64; 3],
    element: u64,
    requests: Requests,
) -> Transfers {
    let all_rows: u64 = rows.iter().map(|(length, count)| length * count).sum();
    let boxes: u64 = rows.iter().filter(|(length, _)| *length > 0).map(|(_, count)| count).sum();
    let mut sum = Transfers::default();
    for &(n, n_count) in images {
        for &(depth, depth_count) in channels {
            for &(width, width_count) in cols {
                let times = n_count * depth_count * width_count;
                if depth == whole[2] && width == whole[1] {
                    for &(height, height_count) in rows {
                        let one = image_transfer([n, height, width, depth], whole, element, requests);
                        sum = sum.plus(one.times(height_count * times));
                    }
                } else {
                    // No run crosses rows: each row counts alike.
                    let one = image_transfer([n, 1, width, depth], whole, element, requests);
                    let all = one.times(all_rows);
                    let instructions = one.instructions * boxes;
                    let descriptors = if requests.strides { instructions } else { all.descriptors };
                    sum = sum.plus(Transfers { instructions, descriptors, ..all }.times(times));
                }
            }
        }
    }
    sum
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
    if !mapping.input_resident {
        let [InputLengths(rows), InputLengths(cols)] = lengths;
        // Passes and channels are never both cut.
        let mut channels = Lengths::new();
        for (count, times) in tile_lengths(passes, tile.passes) {
            for (c, c_times) in tile_lengths(mapping.pass_channels(), tile.c) {
                channels.push((count * c, times * c_times));
            }
        }
        let whole = [u64::from(shape.h), u64::from(shape.w), u64::from(shape.c)];
        let images = tile_lengths(shape.n, tile.n);
        let grid = [&images, rows, cols, &channels].map(Lengths::as_slice);
        cost.input = grid_transfer(grid, whole, u64::from(shape.input_bytes()), rates.requests).times(reloads);
    }
    if !mapping.output_resident {
        let mut channels = Lengths::new();
        for (count, times) in tile_lengths(passes, tile.passes) {
            for (o, o_times) in tile_lengths(mapping.pass_outputs(), tile.o) {
                channels.push((count * o, times * o_times));
            }
        }
        let whole = [u64::from(shape.p), u64::from(shape.q), u64::from(shape.o)];
        let (images, rows) = (tile_lengths(shape.n, tile.n), tile_lengths(shape.p, tile.p));
        let cols = tile_lengths(shape.q, tile.q);
        let grid = [&images, &rows, &cols, &channels].map(Lengths::as_slice);
        cost.output = grid_transfer(grid, whole, u64::from(shape.output_bytes()), rates.requests);
    }
    let taps = shape.taps();
    let mut parameters = Transfers::default();
    for (count, times) in tile_lengths(passes, tile.passes) {
        for (o, o_times) in tile_lengths(mapping.pass_outputs(), tile.o) {
            for (c, c_times) in tile_lengths(mapping.pass_channels(), tile.c) {
                let bytes = count * o * c * taps * u64::from(shape.weight_bytes);
                let one = rates.requests.of(1, bytes);
                cost.weight =
                    cost.weight.plus(one.times(times * o_times * c_times).times(weight_loads_per_tile(mapping, trips)));
            }
            let records = rates.requests.of(1, count * o * u64::from(mapping.parameter_bytes));
            parameters =
                parameters.plus(records.times(times * o_times).times(parameter_loads_per_tile(mapping, trips)));
        }
    }
    cost.weight = cost.weight.plus(parameters);
    parameters
}

/// Sizes of the tiles of an extent with their number, full ones and the last, with no tiles in place of a missing kind.
pub(super) fn pieces(extent: u32, tile: u32, trips: u32) -> [(u64, u64); 2] {
    let last = u64::from(extent) - u64::from(trips - 1) * u64::from(tile);
    [(u64::from(tile), u64::from(trips - 1)), (last, 1)]
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
