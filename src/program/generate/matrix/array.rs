//! The array tiles of one step of a layer: the commands of its dataflow as instructions on buffers and accumulators.

use smallvec::{SmallVec, smallvec};

use super::{
    super::{Builder, address},
    MatrixEmitter, Placement,
};
use crate::{
    config::EngineId,
    dataflow::{ArrayExtents, Command, Operand, Range, Schedule, Shares, deal, schedule},
    mapping::matrix::Step,
    program::{
        Matmul, Operation, Token,
        hazards::{Access, Use},
        region::{Dim, Element, Region, Space},
    },
};

impl MatrixEmitter<'_> {
    /// The array tiles of a step, dealt out to the arrays.
    pub(super) fn array(&self, builder: &mut Builder, placement: &Placement) {
        let accelerator = builder.accelerator;
        let extents = ArrayExtents::of(&accelerator.config.array);
        let (step, mapping) = (&placement.step, self.mapping);
        let schedule = schedule(mapping.dataflow);
        let product = mapping.product(step, &extents);
        let shares = deal(schedule, &product, &extents);
        let narrow = |count: u64| u32::try_from(count).expect("a step's tiles fit buffers and accumulators");
        let (pixels, depth) = (narrow(product.pixels), narrow(product.depth()));
        let size = u32::from(self.image.element.bytes());
        let (weights, sums) = (self.weight_slot(placement.weight.0), self.accumulators(placement));
        let weight_space = Space::Buffer(accelerator.weight_buffer);
        // Folds of K across the steps of one output tile go on in the elements, or add up in the accumulators.
        let keeps = mapping.keeps_sums(&extents);
        let begun = step.index.c > 0;
        let hold = keeps && step.index.c + 1 < mapping.trips().c;
        let input = self.input_access(builder, placement);
        let weight = self.weight_access(builder, placement);
        let accumulators = self.accumulator_access(Use::Write, placement);
        // The first instruction that touches an operand waits for it; an array's own order covers the others. Sums that an
        // array goes on with are its own.
        let waits_for_sums = !hold && (keeps || !begun);
        let mut arrays: SmallVec<[ArrayQueue; 4]> = accelerator
            .array_engines()
            .zip(&shares)
            .map(|(engine, _)| ArrayQueue {
                engine,
                input: Some(input),
                weight: Some(weight),
                sums: waits_for_sums.then_some(accumulators),
            })
            .collect();
        let fifo = accelerator.fifo_engine();
        let mut first = true;
        let mut emit = |builder: &mut Builder, engine, operation: Operation, waits| {
            let [preload, stream] = builder.issued.tile(first);
            let commands = if matches!(operation, Operation::Matmul(_)) { stream } else { preload };
            builder.push(engine, commands, operation, waits, None);
            first = false;
        };
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
            in_turn(schedule, &extents, &shares, &mut |array, command| {
                let array = &mut arrays[array];
                match command {
                    Command::Preload { operand, columns, k } => {
                        let pending = match operand {
                            Operand::Input => array.input.take(),
                            Operand::Weight => array.weight.take(),
                        };
                        let stationary = operands.region(operand, columns, k);
                        if let (Operand::Weight, Some(fifo)) = (operand, fifo) {
                            let fetched = fetch(builder, fifo, stationary, pending, weight);
                            let waits = builder.hazards.wait_for(array.engine, fetched, fifo);
                            let next = Operation::PreloadNext { columns: columns.len, k: k.len };
                            emit(builder, array.engine, next, waits);
                        } else {
                            let waits = builder.waits(array.engine, &[pending]);
                            emit(builder, array.engine, Operation::Preload { stationary }, waits);
                        }
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
                        let waits =
                            builder.waits(array.engine, &[array.weight.take(), array.input.take(), array.sums.take()]);
                        emit(builder, array.engine, Operation::Matmul(matmul), waits);
                    }
                }
            });
        }
        // Tokens are numbered in the order of the program.
        let last_of = |array: &ArrayQueue| {
            let last = builder.queue.iter().rposition(|instruction| instruction.engine == array.engine);
            last.expect("an array's share has at least one array tile")
        };
        let mut lasts: SmallVec<[(usize, EngineId); 4]> =
            arrays.iter().map(|array| (last_of(array), array.engine)).collect();
        lasts.sort_unstable();
        // The first takes the accumulators over from what was before; each of the others adds its part.
        let mut part = Use::Write;
        let fetched = schedule.stationary() == Some(Operand::Weight) && fifo.is_some();
        for (last, engine) in lasts {
            let mut accesses: SmallVec<[Access; 3]> = smallvec![input];
            if !fetched {
                accesses.push(weight);
            }
            if !hold {
                accesses.push(self.accumulator_access(part, placement));
            }
            let token = builder.hazards.signal(engine, &accesses);
            builder.queue[last].signals = Some(token);
            part = Use::WriteOnce;
        }
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

/// An array, and what it must still wait for in a step.
struct ArrayQueue {
    engine: EngineId,
    input: Option<Access>,
    weight: Option<Access>,
    sums: Option<Access>,
}

/// Fetches weights for an array on the engine of its FIFO. The command that loads them into the array brings the fetch along.
fn fetch(builder: &mut Builder, fifo: EngineId, stationary: Region, pending: Option<Access>, weight: Access) -> Token {
    let waits = builder.waits(fifo, &[pending]);
    let token = builder.hazards.signal(fifo, &[weight]);
    builder.push(fifo, 0, Operation::Fetch { stationary }, waits, Some(token));
    token
}

impl Builder<'_> {
    /// What an instruction must wait for by what it touches first in its step.
    fn waits(&mut self, engine: EngineId, pending: &[Option<Access>]) -> SmallVec<[Token; 4]> {
        let accesses: SmallVec<[Access; 3]> = pending.iter().flatten().copied().collect();
        if accesses.is_empty() { SmallVec::new() } else { self.hazards.waits(engine, &accesses) }
    }
}

/// The commands of all shares with the array of each; arrays take turns, so that none waits for the issue of another's share.
fn in_turn(schedule: &dyn Schedule, extents: &ArrayExtents, shares: &Shares, give: &mut dyn FnMut(usize, Command)) {
    if let [only] = shares.as_slice() {
        return only.commands(schedule, extents, &mut |command| give(0, command));
    }
    let mut queues = Vec::new();
    for share in shares {
        let mut commands = Vec::new();
        share.commands(schedule, extents, &mut |command| commands.push(command));
        queues.push(commands);
    }
    let longest = queues.iter().map(Vec::len).max().unwrap_or(0);
    for turn in 0..longest {
        for (array, queue) in queues.iter().enumerate() {
            if let Some(&command) = queue.get(turn) {
                give(array, command);
            }
        }
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
