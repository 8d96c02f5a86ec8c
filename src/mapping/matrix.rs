//! The mapping of one convolution or matrix product: tiles, loop order, slots, and the footprints that follow.

use super::{
    cost::Requests,
    shape::MatrixShape,
    tiling::{Halo, Range, apart, halo, reach, tile_range},
};
use crate::{
    config::{Dataflow, MemoryId},
    dataflow::{ArrayExtents, Product, schedule},
};

/// Extents of a buffer tile. Groups are bundled into passes; a tile covers either several whole passes, or a part of
/// one.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct BufferTile {
    /// Whole passes, 1 where the tile is a part of one.
    pub passes: u32,
    /// Images.
    pub n: u32,
    /// Output rows.
    pub p: u32,
    /// Output columns.
    pub q: u32,
    /// Output channels of a pass.
    pub o: u32,
    /// Input channels of a pass.
    pub c: u32,
}

/// Order of the outer loops, outermost first. Passes are outside everything, input channels inside: partial sums stay
/// in the accumulators.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum LoopOrder {
    /// Output channels, then pixels: a weight tile is loaded once and inputs are streamed again for each.
    OutputsOuter,
    /// Pixels, then output channels: an input tile is loaded once and weights are streamed again for each.
    PixelsOuter,
}

/// Slots by operand: 1, or 2 to fill one while the other is used.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Slots {
    /// Input tiles.
    pub input: u32,
    /// Weight tiles, and their parameter records.
    pub weight: u32,
    /// Output tiles on their way to memory.
    pub output: u32,
    /// Output tiles in the accumulators.
    pub accumulator: u32,
}

/// Room that a layer takes on chip.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Occupied {
    /// Bytes of all slots of inputs.
    pub input: u64,
    /// Of weights and their parameter records.
    pub weight: u64,
    /// Of outputs.
    pub output: u64,
    /// Of tensors that stay on chip, which lie in the shared pool.
    pub resident: u64,
    /// Accumulators.
    pub accumulators: u64,
}

/// How one layer runs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct MatrixMapping {
    /// The loop bounds.
    pub shape: MatrixShape,
    /// What stays in the array; unused on the vector unit.
    pub dataflow: Dataflow,
    /// Whether it is a depthwise convolution on the vector unit.
    pub on_vector: bool,
    /// Groups bundled into one pass.
    pub groups_per_pass: u32,
    /// What the buffers hold at a time.
    pub tile: BufferTile,
    /// Which operand the outer loops keep.
    pub order: LoopOrder,
    /// How many tiles of each operand there is room for.
    pub slots: Slots,
    /// Whether the input lies on chip already.
    pub input_resident: bool,
    /// Whether the output stays on chip.
    pub output_resident: bool,
    /// The memory space that inputs are loaded from.
    pub input_memory: MemoryId,
    /// The memory space that weights are loaded from.
    pub weight_memory: MemoryId,
    /// The memory space that results are stored to.
    pub output_memory: MemoryId,
    /// Bytes of one parameter record.
    pub parameter_bytes: u32,
}

/// Trip counts of the outer loops.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Trips {
    /// Tiles of passes.
    pub passes: u32,
    /// Tiles of images.
    pub n: u32,
    /// Tiles of output rows.
    pub p: u32,
    /// Tiles of output columns.
    pub q: u32,
    /// Tiles of output channels.
    pub o: u32,
    /// Tiles of input channels.
    pub c: u32,
}

impl Trips {
    /// Tiles of pixels.
    pub const fn pixels(&self) -> u64 {
        self.n as u64 * self.p as u64 * self.q as u64
    }

    /// Buffer tiles.
    pub const fn steps(&self) -> u64 {
        self.passes as u64 * self.pixels() * self.o as u64 * self.c as u64
    }

    /// Indices of the first step, in any order of the loops.
    pub(super) const FIRST: Self = Self { passes: 0, n: 0, p: 0, q: 0, o: 0, c: 0 };

    /// Indices of the last step, in any order of the loops.
    pub(super) const fn last(&self) -> Self {
        let Self { passes, n, p, q, o, c } = *self;
        Self { passes: passes - 1, n: n - 1, p: p - 1, q: q - 1, o: o - 1, c: c - 1 }
    }
}

/// One step of the outer loops.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Step {
    /// Index of each loop.
    pub index: Trips,
    /// Passes of this tile.
    pub passes: Range,
    /// Images.
    pub n: Range,
    /// Output rows.
    pub p: Range,
    /// Output columns.
    pub q: Range,
    /// Output channels within a pass.
    pub o: Range,
    /// Input channels within a pass.
    pub c: Range,
}

impl Step {
    /// Output pixels.
    pub const fn pixels(&self) -> u64 {
        self.n.len as u64 * self.p.len as u64 * self.q.len as u64
    }

    /// Output channels, all passes.
    pub const fn channels(&self) -> u64 {
        self.passes.len as u64 * self.o.len as u64
    }
}

impl MatrixMapping {
    /// Passes of the whole layer.
    pub const fn passes(&self) -> u32 {
        self.shape.groups / self.groups_per_pass
    }

    /// Output channels of a pass.
    pub const fn pass_outputs(&self) -> u32 {
        self.shape.o / self.shape.groups * self.groups_per_pass
    }

    /// Input channels of a pass.
    pub const fn pass_channels(&self) -> u32 {
        self.shape.c / self.shape.groups * self.groups_per_pass
    }

    /// How often each of the outer loops runs.
    pub const fn trips(&self) -> Trips {
        Trips {
            passes: self.passes().div_ceil(self.tile.passes),
            n: self.shape.n.div_ceil(self.tile.n),
            p: self.shape.p.div_ceil(self.tile.p),
            q: self.shape.q.div_ceil(self.tile.q),
            o: self.pass_outputs().div_ceil(self.tile.o),
            c: self.pass_channels().div_ceil(self.tile.c),
        }
    }

    /// One pass of a step, as the array multiplies it.
    pub fn product(&self, step: &Step, array: &ArrayExtents) -> Product {
        let pixels = step.pixels();
        Product {
            pixels,
            row: if self.shape.stops_at_rows(array.row_ends) { step.q.len.into() } else { pixels },
            outputs: step.o.len.into(),
            taps: self.shape.taps(),
            channels: step.c.len.into(),
        }
    }

    /// Whether the sums of an output tile stay in the elements of an output stationary array over all steps of K: the
    /// tile is one array tile, and K is cut.
    pub fn keeps_sums(&self, array: &ArrayExtents) -> bool {
        schedule(self.dataflow).holds_sums()
            && !self.on_vector
            && self.tile.passes == 1
            && u64::from(self.tile.o) <= array.cols
            && self.tile_pixels() <= array.rows
            && (u64::from(self.tile.n) * u64::from(self.tile.p) == 1 || !self.shape.stops_at_rows(array.row_ends))
            && self.tile.c < self.pass_channels()
    }

    /// The `index`-th step of the outer loops in their order.
    ///
    /// # Panics
    /// Never for an index below `trips().steps()`.
    pub fn step(&self, index: u64) -> Step {
        let trips = self.trips();
        let mut rest = index;
        let mut digit = |count: u32| {
            let digit = rest % u64::from(count);
            rest /= u64::from(count);
            u32::try_from(digit).expect("below a 32-bit count")
        };
        let c = digit(trips.c);
        let (n, p, q, o);
        match self.order {
            LoopOrder::OutputsOuter => {
                q = digit(trips.q);
                p = digit(trips.p);
                n = digit(trips.n);
                o = digit(trips.o);
            }
            LoopOrder::PixelsOuter => {
                o = digit(trips.o);
                q = digit(trips.q);
                p = digit(trips.p);
                n = digit(trips.n);
            }
        }
        let passes = digit(trips.passes);
        self.step_at(Trips { passes, n, p, q, o, c })
    }

    /// The step at these indices of the loops.
    pub fn step_at(&self, index: Trips) -> Step {
        Step {
            index,
            passes: tile_range(self.passes(), self.tile.passes, index.passes),
            n: tile_range(self.shape.n, self.tile.n, index.n),
            p: tile_range(self.shape.p, self.tile.p, index.p),
            q: tile_range(self.shape.q, self.tile.q, index.q),
            o: tile_range(self.pass_outputs(), self.tile.o, index.o),
            c: tile_range(self.pass_channels(), self.tile.c, index.c),
        }
    }

    /// Input rows of a range of output rows.
    pub fn rows(&self, p: Range) -> Halo {
        let s = &self.shape;
        halo(p, s.stride[0], s.dilation[0], s.kernel[0], s.pad[0], s.h)
    }

    /// Input columns of a range of output columns.
    pub fn cols(&self, q: Range) -> Halo {
        let s = &self.shape;
        halo(q, s.stride[1], s.dilation[1], s.kernel[1], s.pad[1], s.w)
    }

    /// A load fetches every how many rows and columns of the input tile that it fills.
    pub fn input_steps(&self, requests: Requests) -> [u32; 2] {
        let s = &self.shape;
        let (rows, cols) = self.largest_halo();
        let tile = [rows, cols, self.tile.passes * self.tile.c];
        let apart = [0, 1].map(|axis| apart(s.stride[axis], s.kernel[axis], s.pad[axis]));
        requests.steps(apart, tile, [s.h, s.w, s.c], s.input_type)
    }

    /// Most input rows and columns that a tile needs.
    fn largest_halo(&self) -> (u32, u32) {
        let s = &self.shape;
        let most =
            |outputs, axis: usize, input| reach(outputs, s.stride[axis], s.dilation[axis], s.kernel[axis], input);
        (most(self.tile.p, 0, s.h), most(self.tile.q, 1, s.w))
    }

    /// Bytes of an input slot on the machine; 0 where the input is resident.
    pub fn input_slot(&self) -> u64 {
        if self.input_resident {
            return 0;
        }
        let (rows, cols) = self.largest_halo();
        let pixels = u64::from(self.tile.n) * u64::from(rows) * u64::from(cols);
        self.shape.input_type.packed_bytes(pixels * u64::from(self.tile.c) * u64::from(self.tile.passes))
    }

    /// Bytes of a weight slot.
    pub fn weight_slot(&self) -> u64 {
        let outputs = u64::from(self.tile.passes) * u64::from(self.tile.o);
        self.shape.weight_type.packed_bytes(outputs * u64::from(self.tile.c) * self.shape.taps())
    }

    /// Bytes of a slot of parameter records.
    pub fn parameter_slot(&self) -> u64 {
        u64::from(self.tile.passes) * u64::from(self.tile.o) * u64::from(self.parameter_bytes)
    }

    /// Output pixels of a tile.
    pub fn tile_pixels(&self) -> u64 {
        u64::from(self.tile.n) * u64::from(self.tile.p) * u64::from(self.tile.q)
    }

    /// Bytes of an output slot; 0 where the output is resident.
    pub fn output_slot(&self) -> u64 {
        if self.output_resident { 0 } else { self.shape.output_type.packed_bytes(self.accumulator_slot()) }
    }

    /// What the slots take on chip.
    pub fn occupied(&self) -> Occupied {
        let slots = &self.slots;
        Occupied {
            input: self.input_slot() * u64::from(slots.input),
            weight: (self.weight_slot() + self.parameter_slot()) * u64::from(slots.weight),
            output: self.output_slot() * u64::from(slots.output),
            resident: 0,
            accumulators: if self.on_vector { 0 } else { self.accumulator_slot() * u64::from(slots.accumulator) },
        }
    }

    /// Accumulators of an output tile.
    pub fn accumulator_slot(&self) -> u64 {
        self.tile_pixels() * u64::from(self.tile.passes) * u64::from(self.tile.o)
    }
}
