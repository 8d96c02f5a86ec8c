//! The array tiles of one step of a layer: preloads and streams in the order of its dataflow.

use smallvec::{SmallVec, smallvec};

use super::{
    super::{Builder, address},
    MatrixEmitter, Placement, channels, pixels,
};
use crate::{
    config::Dataflow,
    mapping::{matrix::Step, order::k_windows},
    program::{
        Instruction, Matmul, Operation,
        hazards::{Access, Use},
        region::{Dim, Region, Space},
    },
};

impl MatrixEmitter<'_> {
    /// The array tiles of a step.
    pub(super) fn array(&self, builder: &mut Builder, placement: &Placement) {
        let engine = builder.accelerator.array_engine();
        let array = &builder.accelerator.config.array;
        let (rows, cols, max_stream) = (array.rows, array.cols, array.max_stream);
        let (step, mapping) = (&placement.step, self.mapping);
        let taps = u32::try_from(mapping.shape.taps()).expect("kernels are small");
        let m = u32::try_from(pixels(step)).expect("a tile's pixels fit the accumulators");
        let depth = taps * step.c.len;
        let windows: SmallVec<[(u32, u32); 32]> = match mapping.dataflow {
            Dataflow::OS => smallvec![(0, depth)],
            _ => k_windows(array.k_packing, rows, taps, step.c.len).collect(),
        };
        let tile = Tile {
            channels: u32::try_from(channels(step)).expect("a tile's channels fit the accumulators"),
            depth,
            size: u32::from(self.image.element_bytes),
            weights: self.weight_slot(placement.weight.0),
            weight_space: Space::Buffer(builder.accelerator.weight_buffer),
            accumulators: self.accumulators(placement),
        };
        let input_access = self.input_access(builder, placement);
        let weight_access = self.weight_access(builder, placement);
        let accumulator_access = self.accumulator_access(Use::Write, placement);
        // The first instruction that touches an operand waits for it; the array's own order covers the others.
        let mut input_pending = Some(input_access);
        let mut weight_pending = Some(weight_access);
        let mut accumulator_pending = Some(accumulator_access);
        let mut first = true;
        let hardware_loops = builder.accelerator.config.control.hardware_loops;
        let mut emit = |builder: &mut Builder, operation: Operation, pending: &[Option<Access>]| {
            let accesses: SmallVec<[Access; 3]> = pending.iter().flatten().copied().collect();
            let waits = if accesses.is_empty() { SmallVec::new() } else { builder.hazards.waits(engine, &accesses) };
            builder.push(engine, first || !hardware_loops, operation, waits, None);
            first = false;
        };
        // Folds of K across the steps of one output tile go on in the elements.
        let keeps = mapping.keeps_sums(rows, cols);
        let hold = keeps && step.index.c + 1 < mapping.trips().c;
        let mut written: SmallVec<[bool; 64]> = SmallVec::new();
        for pass in 0..step.passes.len {
            let walk = self.walk(builder, placement, pass * step.c.len, step.c.len);
            let pass_tile = Tile {
                weights: tile.weights + u64::from(pass) * u64::from(step.o.len * depth * tile.size),
                accumulators: tile.accumulators + u64::from(pass * step.o.len),
                ..tile
            };
            match mapping.dataflow {
                Dataflow::WS => {
                    // Folds of K outside: neighbouring tiles write different columns, so that a tile that adds to sums
                    // still under way in the array waits as little as possible.
                    let folds: SmallVec<[(u32, u32); 16]> = chunks(step.o.len, cols).collect();
                    written.clear();
                    written.resize(folds.len(), step.index.c > 0);
                    for &window in &windows {
                        for (fold, &n) in folds.iter().enumerate() {
                            let macs = self.density(step, window, n);
                            let stationary = pass_tile.weight_region(n, window);
                            emit(builder, Operation::Preload { stationary }, &[weight_pending.take()]);
                            for rows in chunks(m, max_stream) {
                                let matmul = Matmul {
                                    stream: Region { row_window: part(rows, m), window: part(window, depth), ..walk },
                                    stationary: None,
                                    accumulators: pass_tile.accumulator_region(rows, n),
                                    accumulate: written[fold],
                                    resume: false,
                                    hold: false,
                                    macs: macs * u64::from(rows.1),
                                };
                                let pending = [input_pending.take(), accumulator_pending.take()];
                                emit(builder, Operation::Matmul(matmul), &pending);
                            }
                            written[fold] = true;
                        }
                    }
                }
                Dataflow::IS => {
                    for pixels in chunks(m, cols) {
                        // Output channels that hold a sum already, by stream.
                        let streams: SmallVec<[(u32, u32); 16]> = chunks(step.o.len, max_stream).collect();
                        written.clear();
                        written.resize(streams.len(), step.index.c > 0);
                        for &window in &windows {
                            let stationary =
                                Region { row_window: part(pixels, m), window: part(window, depth), ..walk };
                            emit(builder, Operation::Preload { stationary }, &[input_pending.take()]);
                            for (stream, &n) in streams.iter().enumerate() {
                                let macs = self.density(step, window, n);
                                let matmul = Matmul {
                                    stream: pass_tile.weight_region(n, window),
                                    stationary: None,
                                    accumulators: pass_tile.transposed_region(n, pixels),
                                    accumulate: written[stream],
                                    resume: false,
                                    hold: false,
                                    macs: macs * u64::from(pixels.1),
                                };
                                let pending = [weight_pending.take(), accumulator_pending.take()];
                                emit(builder, Operation::Matmul(matmul), &pending);
                                written[stream] = true;
                            }
                        }
                    }
                }
                Dataflow::OS => {
                    for pixels in chunks(m, rows) {
                        for n in chunks(step.o.len, cols) {
                            let macs = self.density(step, (0, depth), n);
                            let matmul = Matmul {
                                stream: Region { row_window: part(pixels, m), ..walk },
                                stationary: Some(pass_tile.weight_region(n, (0, depth))),
                                accumulators: pass_tile.accumulator_region(pixels, n),
                                accumulate: step.index.c > 0 && !keeps,
                                resume: step.index.c > 0 && keeps,
                                hold,
                                macs: macs * u64::from(pixels.1),
                            };
                            let sums = if hold { None } else { accumulator_pending.take() };
                            let pending = [weight_pending.take(), input_pending.take(), sums];
                            emit(builder, Operation::Matmul(matmul), &pending);
                        }
                    }
                }
            }
        }
        let accesses = [input_access, weight_access, accumulator_access];
        let token = builder.hazards.signal(engine, if hold { &accesses[..2] } else { &accesses });
        let last: &mut Instruction = builder.queue.back_mut().expect("a step has at least one array tile");
        last.signals = Some(token);
    }

    /// Products a pixel of an array tile that count: all of `k x n`, less the zeros between groups. A tile of nothing but
    /// zeros streams all the same: it may be the first to write its sums.
    fn density(&self, step: &Step, window: (u32, u32), outputs: (u32, u32)) -> u64 {
        let mapping = self.mapping;
        if mapping.groups_per_pass == 1 {
            return u64::from(window.1) * u64::from(outputs.1);
        }
        let group_channels = mapping.pass_channels() / mapping.groups_per_pass;
        let group_outputs = mapping.pass_outputs() / mapping.groups_per_pass;
        let outputs = (step.o.start + outputs.0, step.o.start + outputs.0 + outputs.1);
        let mut products = 0;
        for k in window.0..window.0 + window.1 {
            let group = (step.c.start + k % step.c.len) / group_channels;
            let low = outputs.0.max(group * group_outputs);
            let high = outputs.1.min((group + 1) * group_outputs);
            products += u64::from(high.saturating_sub(low));
        }
        products
    }
}

/// Where one pass of a buffer tile has its weights and sums.
#[derive(Clone, Copy)]
struct Tile {
    /// Output channels of the tile, all passes: the distance of neighbouring pixels in the accumulators.
    channels: u32,
    /// K of a pass.
    depth: u32,
    /// Bytes of a weight.
    size: u32,
    weights: u64,
    weight_space: Space,
    accumulators: u64,
}

impl Tile {
    /// Weights `[outputs, k]` of some output channels and a fold of K.
    fn weight_region(&self, outputs: (u32, u32), window: (u32, u32)) -> Region {
        let first = u64::from(outputs.0) * u64::from(self.depth) + u64::from(window.0);
        Region::matrix(
            self.weight_space,
            address(self.weights + first * u64::from(self.size)),
            u8::try_from(self.size).expect("at most 8"),
            Dim::new(outputs.1, self.depth * self.size),
            Dim::new(window.1, self.size),
        )
    }

    /// Sums `[pixels, outputs]`.
    fn accumulator_region(&self, pixels: (u32, u32), outputs: (u32, u32)) -> Region {
        Region::matrix(
            Space::Accumulators,
            address(self.accumulators + u64::from(pixels.0) * u64::from(self.channels) + u64::from(outputs.0)),
            1,
            Dim::new(pixels.1, self.channels),
            Dim::new(outputs.1, 1),
        )
    }

    /// Sums `[outputs, pixels]`, as input stationary arrays deliver them.
    fn transposed_region(&self, outputs: (u32, u32), pixels: (u32, u32)) -> Region {
        let straight = self.accumulator_region(pixels, outputs);
        let dims = [Dim::ONE, Dim::ONE, straight.dims[5], Dim::ONE, Dim::ONE, straight.dims[2]];
        Region { dims, ..straight }
    }
}

/// `total` in pieces of `size` (0: in one): first index and length of each.
fn chunks(total: u32, size: u32) -> impl Iterator<Item = (u32, u32)> {
    let size = if size == 0 { total.max(1) } else { size };
    (0..total.div_ceil(size)).map(move |index| (index * size, size.min(total - index * size)))
}

/// A window that is left out where it covers everything.
fn part(range: (u32, u32), total: u32) -> Option<(u32, u32)> {
    (range != (0, total)).then_some(range)
}
