//! What a mapping moves between memory and core: bytes and bursts by operand, in closed form.

use super::Rates;
use crate::{
    config::Dma,
    mapping::{
        matrix::{
            LoopOrder::{OutputsOuter, PixelsOuter},
            MatrixMapping, Step, Trips,
        },
        tiling::{Lengths, halo_lengths, lengths},
    },
    tensor::DType,
};
use smallvec::SmallVec;

/// Bytes and the bursts that they take at least. Counts stop at the largest number, where time has ended long before.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Transfers {
    /// Useful bytes: of each instruction, the whole bytes that its elements fill.
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
pub struct Requests {
    /// Bytes of a burst.
    pub burst: u64,
    /// Bytes in which memory is touched: whole bursts.
    pub granule: u64,
    /// Whether one descriptor moves many runs.
    pub strides: bool,
}

impl Requests {
    /// Those of a machine's DMA engines.
    pub fn new(dma: &Dma) -> Self {
        Self { burst: dma.burst_bytes.into(), granule: dma.granule_bytes().into(), strides: dma.strides }
    }

    /// A load of a box of an image fetches every how many of its rows and columns. Taps read those that are `apart` from
    /// each other; `tile` and `whole` are the rows, columns and channels of the box and of the image.
    ///
    /// What lies side by side in memory and is fetched whole is one run. It is cut only where at least a granule lies
    /// between what taps read, as with less every granule holds some of it and would be touched by two pieces, and not
    /// where each piece would take a descriptor of its own.
    pub(in crate::mapping) fn steps(
        &self,
        apart: [u32; 2],
        tile: [u32; 3],
        whole: [u32; 3],
        element: DType,
    ) -> [u32; 2] {
        let pixel = u64::from(whole[2]) * u64::from(element.bits());
        let step = |axis: usize, is_run: bool, distance: u64| {
            let left_out = u64::from(apart[axis] - 1).saturating_mul(distance);
            if !is_run || (self.strides && left_out >= self.granule * 8) { apart[axis] } else { 1 }
        };
        let row_is_run = tile[2] == whole[2];
        let cols = step(1, row_is_run, pixel);
        let rows_are_run = row_is_run && cols == 1 && tile[1] == whole[1];
        [step(0, rows_are_run, pixel.saturating_mul(whole[1].into())), cols]
    }

    /// One instruction that moves `count` runs of so many elements each.
    pub(in crate::mapping) fn of(&self, count: u64, elements: u64, element: DType) -> Transfers {
        let granules = element.packed_bytes(elements).div_ceil(self.granule);
        Transfers {
            bytes: element.packed_bytes(count.saturating_mul(elements)),
            bursts: count.saturating_mul(granules).saturating_mul(self.granule / self.burst),
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

/// How an image lies in memory, channels innermost, and what is fetched of a box of it.
#[derive(Clone, Copy, Debug)]
pub(in crate::mapping) struct Image {
    /// Rows, columns and channels.
    pub whole: [u32; 3],
    /// Type of its elements.
    pub element: DType,
    /// Every how many rows and columns of the box.
    pub steps: [u32; 2],
}

impl Image {
    /// That of a layer's input.
    fn input(mapping: &MatrixMapping, rates: &Rates) -> Self {
        let shape = &mapping.shape;
        let whole = [shape.h, shape.w, shape.c];
        Self { whole, element: shape.input_type, steps: mapping.input_steps(rates.requests) }
    }

    /// That of a layer's output.
    fn output(mapping: &MatrixMapping) -> Self {
        let shape = &mapping.shape;
        Self { whole: [shape.p, shape.q, shape.o], element: shape.output_type, steps: [1, 1] }
    }
}

/// What a mapping's tiles of pixels have in common, whatever its tiles of channels: a search keeps it.
#[derive(Clone, Debug)]
pub struct PixelTiles {
    /// Images of a tile, and how many tiles have so many.
    images: Lengths,
    /// Rows and columns of a tile in the output, and in the input.
    output: [Lengths; 2],
    input: [Lengths; 2],
    sizes: SmallVec<[(TilePixels, u64); 8]>,
}

/// Output pixels of a tile.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct TilePixels {
    /// All of them.
    pub pixels: u64,
    /// Those that an array tile stays within.
    pub row: u64,
}

impl PixelTiles {
    /// Those of a mapping.
    pub fn of(mapping: &MatrixMapping, rates: &Rates) -> Self {
        let (s, tile, trips) = (&mapping.shape, &mapping.tile, mapping.trips());
        let stops = s.stops_at_rows(rates.extents.row_ends);
        let images = lengths(s.n, tile.n, trips.n);
        let output = [lengths(s.p, tile.p, trips.p), lengths(s.q, tile.q, trips.q)];
        let mut sizes: SmallVec<[(TilePixels, u64); 8]> = SmallVec::new();
        for &(n, n_times) in &images {
            for &(p, p_times) in &output[0] {
                for &(q, q_times) in &output[1] {
                    let (pixels, times) = (n * p * q, n_times * p_times * q_times);
                    let size = TilePixels { pixels, row: if stops { q } else { pixels } };
                    match sizes.last_mut() {
                        Some((known, count)) if *known == size => *count += times,
                        _ => sizes.push((size, times)),
                    }
                }
            }
        }
        let halo = |axis: usize, extent: u32, tile: u32, input: u32| {
            halo_lengths(extent, tile, s.stride[axis], s.dilation[axis], s.kernel[axis], s.pad[axis], input)
        };
        Self { images, output, input: [halo(0, s.p, tile.p, s.h), halo(1, s.q, tile.q, s.w)], sizes }
    }

    /// Output pixels of a tile with the number of tiles; the first and the last step's stand first and last.
    pub(super) fn sizes(&self) -> &[(TilePixels, u64)] {
        &self.sizes
    }

    /// Those of the first and of the last step.
    pub(super) fn ends(&self) -> [TilePixels; 2] {
        let one = TilePixels { pixels: 1, row: 1 };
        [self.sizes.first(), self.sizes.last()].map(|size| size.map_or(one, |&(size, _)| size))
    }

    /// All stores of the layer.
    pub(super) fn stores(&self, mapping: &MatrixMapping, rates: &Rates, channels: &ChannelTiles) -> Transfers {
        if mapping.output_resident {
            return Transfers::default();
        }
        let shape = &mapping.shape;
        if shape.is_pair() {
            return anywhere(&self.images, &channels.output, shape.output_type, rates.requests);
        }
        let [rows, cols] = &self.output;
        let grid = [&self.images, rows, cols, &channels.output].map(Lengths::as_slice);
        grid_transfer(grid, Image::output(mapping), rates.requests)
    }

    /// Every tile of the input once.
    pub(super) fn inputs(&self, mapping: &MatrixMapping, rates: &Rates, channels: &ChannelTiles) -> Transfers {
        if mapping.input_resident {
            return Transfers::default();
        }
        let shape = &mapping.shape;
        if shape.is_pair() {
            return anywhere(&self.images, &channels.input, shape.input_type, rates.requests);
        }
        let [rows, cols] = &self.input;
        let grid = [&self.images, rows, cols, &channels.input].map(Lengths::as_slice);
        grid_transfer(grid, Image::input(mapping, rates), rates.requests)
    }
}

/// What a mapping's tiles of passes and channels have in common, whatever its tiles of pixels.
#[derive(Clone, Debug)]
pub struct ChannelTiles {
    /// Output and input channels of a tile within a pass; the first and the last step's stand first and last.
    pub(super) pass_outputs: Lengths,
    pub(super) pass_channels: Lengths,
    /// Channels of a tile, all its passes.
    output: Lengths,
    input: Lengths,
    /// Every tile of weights once.
    weights: Transfers,
    /// Every tile of parameter records once.
    parameters: Transfers,
}

impl ChannelTiles {
    /// Those of a mapping.
    pub fn of(mapping: &MatrixMapping, rates: &Rates) -> Self {
        let (tile, trips) = (&mapping.tile, mapping.trips());
        let passes = lengths(mapping.passes(), tile.passes, trips.passes);
        let pass_outputs = lengths(mapping.pass_outputs(), tile.o, trips.o);
        let pass_channels = lengths(mapping.pass_channels(), tile.c, trips.c);
        let output = pairs(&passes, &pass_outputs);
        let (mut weights, mut parameters) = (Transfers::default(), Transfers::default());
        let (taps, weight) = (mapping.shape.taps(), mapping.shape.weight_type);
        for &(o, o_times) in &output {
            for &(c, c_times) in &pass_channels {
                weights = weights.plus(rates.requests.of(1, o * c * taps, weight).times(o_times * c_times));
            }
            let records = rates.requests.of(1, o * u64::from(mapping.parameter_bytes), DType::UInt8);
            parameters = parameters.plus(records.times(o_times));
        }
        // Passes and channels are never both cut.
        Self { input: pairs(&passes, &pass_channels), output, pass_outputs, pass_channels, weights, parameters }
    }
}

/// Boxes of rows of channels of a tensor that may lie in any order: from below, each is one run.
fn anywhere(rows: &Lengths, channels: &Lengths, element: DType, requests: Requests) -> Transfers {
    let boxes =
        rows.iter().flat_map(|&(n, n_times)| channels.iter().map(move |&(c, c_times)| (n * c, n_times * c_times)));
    boxes.fold(Transfers::default(), |sum, (size, times)| sum.plus(requests.of(1, size, element).times(times)))
}

/// Lengths of both loops, one inside the other.
fn pairs(outer: &Lengths, inner: &Lengths) -> Lengths {
    let mut pairs = Lengths::new();
    for &(count, times) in outer {
        pairs.extend(inner.iter().map(|&(length, inner_times)| (count * length, times * inner_times)));
    }
    pairs
}

/// Every tile of an operand once.
#[derive(Clone, Copy, Debug)]
pub(super) struct Loads {
    inputs: Transfers,
    weights: Transfers,
    parameters: Transfers,
}

impl Loads {
    pub(super) fn of(mapping: &MatrixMapping, rates: &Rates, pixels: &PixelTiles, channels: &ChannelTiles) -> Self {
        let inputs = pixels.inputs(mapping, rates, channels);
        Self { inputs, weights: channels.weights, parameters: channels.parameters }
    }

    /// All loads of inputs: again for every output tile unless the tile is still there.
    pub(super) fn inputs(&self, mapping: &MatrixMapping, trips: Trips) -> Transfers {
        let again = match mapping.order {
            // The slot still holds the tile when the pixel loops have one trip and channels are not cut.
            OutputsOuter => trips.pixels() > 1 || trips.c > 1,
            PixelsOuter => trips.c > 1,
        };
        self.inputs.times(if again { u64::from(trips.o) } else { 1 })
    }

    /// All loads of weights, parameter records apart.
    pub(super) fn weights(&self, mapping: &MatrixMapping, trips: Trips) -> Transfers {
        let again = match mapping.order {
            OutputsOuter => trips.c > 1,
            PixelsOuter => trips.o > 1 || trips.c > 1,
        };
        self.weights.times(if again { trips.pixels() } else { 1 })
    }

    /// All loads of parameter records.
    pub(super) fn parameters(&self, mapping: &MatrixMapping, trips: Trips) -> Transfers {
        let again = mapping.order == PixelsOuter && trips.o > 1;
        self.parameters.times(if again { trips.pixels() } else { 1 })
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
    if shape.is_pair() {
        return rates.requests.of(1, u64::from(step.n.len) * channels, shape.input_type);
    }
    image_transfer([step.n.len.into(), rows, cols, channels], Image::input(mapping, rates), rates.requests)
}

/// One output tile's transfer.
pub(super) fn output_tile(mapping: &MatrixMapping, rates: &Rates, step: &Step) -> Transfers {
    if mapping.output_resident {
        return Transfers::default();
    }
    let shape = &mapping.shape;
    let channels = u64::from(step.o.len) * u64::from(step.passes.len);
    if shape.is_pair() {
        return rates.requests.of(1, step.pixels() * channels, shape.output_type);
    }
    let tile = [step.n.len.into(), step.p.len.into(), step.q.len.into(), channels];
    image_transfer(tile, Image::output(mapping), rates.requests)
}

/// One weight tile's transfer, parameter records apart.
pub(super) fn weight_tile(mapping: &MatrixMapping, rates: &Rates, step: &Step) -> Transfers {
    let elements = u64::from(step.passes.len) * u64::from(step.o.len) * u64::from(step.c.len) * mapping.shape.taps();
    rates.requests.of(1, elements, mapping.shape.weight_type)
}

/// A box `[n, rows, cols, channels]` of an NHWC image: contiguous runs grow across a dimension that the box covers whole.
pub(in crate::mapping) fn image_transfer(tile: [u64; 4], image: Image, requests: Requests) -> Transfers {
    let [n, rows, cols, channels] = tile;
    let [height, width, all_channels] = image.whole.map(u64::from);
    let steps = image.steps.map(u64::from);
    if n * rows * cols * channels == 0 {
        return Transfers::default();
    }
    let [fetched_rows, fetched_cols] = [rows.div_ceil(steps[0]), cols.div_ceil(steps[1])];
    let (mut run, mut count) = (channels, n * fetched_rows * fetched_cols);
    // Runs that may end where the next one begins: the last pixel of a row or an image, and the first of the next.
    let mut touching = 0;
    if channels == all_channels {
        if steps[1] == 1 {
            (run, count) = (run * cols, n * fetched_rows);
        }
        if cols == width {
            if steps == [1, 1] {
                (run, count) = (run * rows, n);
                if rows == height {
                    (run, count) = (run * n, 1);
                }
            } else {
                touching = if steps[0] == 1 { n * rows } else { n } - 1;
            }
        }
    }
    let separate = requests.of(count, run, image.element);
    // Two runs take one granule more at most than both as one.
    let bursts = separate.bursts.saturating_sub(touching.saturating_mul(requests.granule / requests.burst));
    let descriptors = if requests.strides { separate.descriptors } else { count - touching };
    Transfers { bursts, descriptors, ..separate }
}

/// The same of every box of a grid, given by the lengths of its images, rows, columns and channels.
pub(in crate::mapping) fn grid_transfer(
    [images, rows, cols, channels]: [&[(u64, u64)]; 4],
    image: Image,
    requests: Requests,
) -> Transfers {
    let [_, all_cols, all_channels] = image.whole.map(u64::from);
    let all_rows: u64 = rows.iter().map(|(length, count)| length.div_ceil(image.steps[0].into()) * count).sum();
    let boxes: u64 = rows.iter().filter(|(length, _)| *length > 0).map(|(_, count)| count).sum();
    // Half bytes at the end of an instruction are rounded up, box by box.
    let halves = image.element.bits() < 8;
    let mut sum = Transfers::default();
    for &(n, n_count) in images {
        for &(depth, depth_count) in channels {
            for &(width, width_count) in cols {
                let times = n_count * depth_count * width_count;
                if halves || (depth == all_channels && width == all_cols) {
                    for &(height, height_count) in rows {
                        let one = image_transfer([n, height, width, depth], image, requests);
                        sum = sum.plus(one.times(height_count * times));
                    }
                } else {
                    // No run crosses rows: each row counts alike.
                    let one = image_transfer([n, 1, width, depth], image, requests);
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
