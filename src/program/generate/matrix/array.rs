//! The array tiles of one step of a layer: the commands of its dataflow as instructions on buffers and accumulators.

use smallvec::SmallVec;

use super::{
    super::{Builder, address},
    MatrixEmitter, Placement,
};
use crate::{
    dataflow::{ArrayExtents, Command, Operand, Range, schedule},
    mapping::matrix::Step,
    program::{
        Instruction, Matmul, Operation,
        hazards::{Access, Use},
        region::{Dim, Element, Region, Space},
    },
};

impl MatrixEmitter<'_> {
    /// The array tiles of a step.
    pub(super) fn array(&self, builder: &mut Builder, placement: &Placement) {
        let engine = builder.accelerator.array_engine();
        let extents = ArrayExtents::of(&builder.accelerator.config.array);
        let (step, mapping) = (&placement.step, self.mapping);
        let schedule = schedule(mapping.dataflow);
        let product = mapping.product(step, &extents);
        let narrow = |count: u64| u32::try_from(count).expect("a step's tiles fit buffers and accumulators");
        let (pixels, depth) = (narrow(product.pixels), narrow(product.depth()));
        let size = u32::from(self.image.element.bytes());
        let (weights, sums) = (self.weight_slot(placement.weight.0), self.accumulators(placement));
        let weight_space = Space::Buffer(builder.accelerator.weight_buffer);
        let input_access = self.input_access(builder, placement);
        let weight_access = self.weight_access(builder, placement);
        let accumulator_access = self.accumulator_access(Use::Write, placement);
        // The first instruction that touches an operand waits for it; the array's own order covers the others.
        let mut input_pending = Some(input_access);
        let mut weight_pending = Some(weight_access);
        let mut accumulator_pending = Some(accumulator_access);
        let mut first = true;
        let mut emit = |builder: &mut Builder, operation: Operation, pending: &[Option<Access>]| {
            let accesses: SmallVec<[Access; 3]> = pending.iter().flatten().copied().collect();
            let waits = if accesses.is_empty() { SmallVec::new() } else { builder.hazards.waits(engine, &accesses) };
            let [preload, stream] = builder.issued.tile(first);
            let commands = if matches!(operation, Operation::Preload { .. }) { preload } else { stream };
            builder.push(engine, commands, operation, waits, None);
            first = false;
        };
        // Folds of K across the steps of one output tile go on in the elements, or add up in the accumulators.
        let keeps = mapping.keeps_sums(&extents);
        let begun = step.index.c > 0;
        let hold = keeps && step.index.c + 1 < mapping.trips().c;
        for pass in 0..step.passes.len {
            let operands = PassOperands {
                input: self.walk(builder, placement, pass * step.c.len, step.c.len),
                pixels,
                channels: narrow(step.channels()),
                depth,
                weight: self.image.element,
                weights: weights + u64::from(pass) * u64::from(step.o.len * depth * size),
                weight_space,
                accumulators: sums + u64::from(pass * step.o.len),
            };
            schedule.commands(&product, &extents, &mut |command| match command {
                Command::Preload { operand, columns, k } => {
                    let pending = match operand {
                        Operand::Input => input_pending.take(),
                        Operand::Weight => weight_pending.take(),
                    };
                    let stationary = operands.region(operand, columns, k);
                    emit(builder, Operation::Preload { stationary }, &[pending]);
                }
                Command::Stream(tile) => {
                    let input = || operands.region(Operand::Input, tile.pixels, tile.k);
                    let weight = || operands.region(Operand::Weight, tile.outputs, tile.k);
                    let accumulators = operands.sums(tile.pixels, tile.outputs);
                    // Sums come out as the stationary operand lies: a column for each of its pixels or outputs.
                    let (stream, stationary, accumulators) = match schedule.stationary() {
                        Some(Operand::Weight) => (input(), None, accumulators),
                        Some(Operand::Input) => (weight(), None, transposed(accumulators)),
                        None => (input(), Some(weight()), accumulators),
                    };
                    let matmul = Matmul {
                        stream,
                        stationary,
                        accumulators,
                        accumulate: tile.k.start > 0 || (begun && !keeps),
                        resume: begun && keeps,
                        hold,
                        macs: self.density(step, tile.k, tile.outputs) * u64::from(tile.pixels.len),
                    };
                    let sums = if hold { None } else { accumulator_pending.take() };
                    let pending = [weight_pending.take(), input_pending.take(), sums];
                    emit(builder, Operation::Matmul(matmul), &pending);
                }
            });
        }
        let accesses = [input_access, weight_access, accumulator_access];
        let token = builder.hazards.signal(engine, if hold { &accesses[..2] } else { &accesses });
        let last: &mut Instruction = builder.queue.back_mut().expect("a step has at least one array tile");
        last.signals = Some(token);
    }

    /// Products a pixel of an array tile that count: all of `k x n`, less the zeros between groups. A tile of nothing but
    /// zeros streams all the same: it may be the first to write its sums.
    fn density(&self, step: &Step, fold: Range, outputs: Range) -> u64 {
        let mapping = self.mapping;
        if mapping.groups_per_pass == 1 {
            return u64::from(fold.len) * u64::from(outputs.len);
        }
        let group_channels = mapping.pass_channels() / mapping.groups_per_pass;
        let group_outputs = mapping.pass_outputs() / mapping.groups_per_pass;
        let first = step.o.start + outputs.start;
        let end = first + outputs.len;
        let mut products = 0;
        for k in fold.start..fold.start + fold.len {
            let group = (step.c.start + k % step.c.len) / group_channels;
            let low = first.max(group * group_outputs);
            let high = end.min((group + 1) * group_outputs);
            products += u64::from(high.saturating_sub(low));
        }
        products
    }
}

/// Where one pass of a buffer tile has its operands and sums.
struct PassOperands {
    /// The walk `[pixels, k]` over the input.
    input: Region,
    /// Pixels of the tile.
    pixels: u32,
    /// Output channels of the tile, all passes: the distance of neighbouring pixels in the accumulators.
    channels: u32,
    /// K of a pass.
    depth: u32,
    /// A weight.
    weight: Element,
    weights: u64,
    weight_space: Space,
    accumulators: u64,
}

impl PassOperands {
    /// Some pixels or output channels of an operand by a fold of K.
    fn region(&self, operand: Operand, rows: Range, k: Range) -> Region {
        match operand {
            Operand::Input => Region { row_window: part(rows, self.pixels), window: part(k, self.depth), ..self.input },
            Operand::Weight => {
                let size = u32::from(self.weight.bytes());
                let first = u64::from(rows.start) * u64::from(self.depth) + u64::from(k.start);
                Region::matrix(
                    self.weight_space,
                    address(self.weights + first * u64::from(size)),
                    self.weight,
                    Dim::new(rows.len, self.depth * size),
                    Dim::new(k.len, size),
                )
            }
        }
    }

    /// Sums `[pixels, outputs]`.
    fn sums(&self, pixels: Range, outputs: Range) -> Region {
        Region::matrix(
            Space::Accumulators,
            address(self.accumulators + u64::from(pixels.start) * u64::from(self.channels) + u64::from(outputs.start)),
            1,
            Dim::new(pixels.len, self.channels),
            Dim::new(outputs.len, 1),
        )
    }
}

/// A matrix with its rows as columns.
fn transposed(matrix: Region) -> Region {
    Region { dims: [Dim::ONE, Dim::ONE, matrix.dims[5], Dim::ONE, Dim::ONE, matrix.dims[2]], ..matrix }
}

/// A window that is left out where it covers everything.
fn part(range: Range, total: u32) -> Option<(u32, u32)> {
    (range.start > 0 || range.len < total).then_some((range.start, range.len))
}
