//! Instructions of a layer on the array, and of a depthwise layer on the vector unit: one step of the outer loops at a
//! time.

mod array;

use smallvec::smallvec;

use super::{Builder, address, bounding, element, fetched, image, span, stride};
use crate::{
    mapping::{MatrixMapping, cost::Requests, matrix::Step, tiling::Range},
    program::{
        Operation, Program, TensorPlace, Transfer, VectorKind, VectorOp, WeightImage,
        build::LayerProgram,
        hazards::{Access, Use},
        region::{Dim, Element, Pad, Region, Space},
    },
};

/// A slot in use: what it holds and which of the operand's slots it is.
#[derive(Clone, Copy, Debug, Default)]
struct Current<Key> {
    key: Option<Key>,
    slot: u32,
}

impl<Key: PartialEq + Copy> Current<Key> {
    /// The slot for `key`, and whether it must be filled.
    fn take(&mut self, key: Key, slots: u32) -> (u32, bool) {
        match self.key {
            Some(held) if held == key => (self.slot, false),
            None => {
                self.key = Some(key);
                (self.slot, true)
            }
            Some(_) => {
                self.key = Some(key);
                self.slot = (self.slot + 1) % slots;
                (self.slot, true)
            }
        }
    }
}

/// Which slots a step uses and which of them it must fill.
#[derive(Clone, Copy, Debug)]
struct Placement {
    step: Step,
    input: (u32, bool),
    weight: (u32, bool),
    parameters: (u32, bool),
    /// Of the output tile: accumulators and output buffer.
    output: u32,
    /// Whether these loads have been emitted.
    loaded: [bool; 3],
}

/// Addresses of the slots.
#[derive(Clone, Copy, Debug)]
struct Addresses {
    input: u64,
    weight: u64,
    parameters: u64,
    output: u64,
}

/// Emits one layer.
#[derive(Debug)]
pub(super) struct MatrixEmitter<'a> {
    mapping: &'a MatrixMapping,
    image: &'a WeightImage,
    input: &'a TensorPlace,
    /// The second operand, where it is an activation.
    second: Option<&'a TensorPlace>,
    output: &'a TensorPlace,
    at: Addresses,
    /// Of the buffers' images.
    scale: u64,
    steps: u64,
    next: u64,
    input_now: Current<(u32, u32, u32, u32, u32)>,
    weight_now: Current<(u32, u32, u32)>,
    parameters_now: Current<(u32, u32)>,
    output_now: Current<(u32, u32, u32, u32, u32)>,
    /// The placement of the step that is next, when its loads were looked at early.
    ahead: Option<Placement>,
}

impl<'a> MatrixEmitter<'a> {
    pub(super) fn new(program: &'a Program, index: usize, mapping: &'a MatrixMapping) -> Self {
        let header = &program.header;
        let layer: &LayerProgram = &program.layers[index];
        let accelerator = &program.accelerator;
        let slots = &mapping.slots;
        let image = &header.weights[layer.image.expect("a layer with weights has an image")];
        let scale = header.buffer_scale;
        let input = mapping.input_slot() * scale * u64::from(slots.input);
        let weight = mapping.weight_slot() * scale * u64::from(slots.weight);
        let parameters = mapping.parameter_slot() * scale * u64::from(slots.weight);
        let at = if accelerator.buffers.len() == 1 {
            let input_base = layer.free.0;
            Addresses {
                input: input_base,
                weight: input_base + input,
                parameters: input_base + input + weight,
                output: input_base + input + weight + parameters,
            }
        } else {
            Addresses { input: 0, weight: 0, parameters: weight, output: 0 }
        };
        Self {
            mapping,
            image,
            input: &header.tensors[layer.operands[0].index()],
            second: mapping.shape.is_pair().then(|| &header.tensors[layer.operands[1].index()]),
            output: &header.tensors[header.layers[index].outputs[0].index()],
            at,
            scale,
            steps: mapping.trips().steps(),
            next: 0,
            input_now: Current::default(),
            weight_now: Current::default(),
            parameters_now: Current::default(),
            output_now: Current::default(),
            ahead: None,
        }
    }

    /// Emits the next step; `false` when there is none.
    pub(super) fn emit_next(&mut self, builder: &mut Builder) -> bool {
        if self.next == self.steps {
            return false;
        }
        let mut now = match self.ahead.take() {
            Some(placement) => placement,
            None => self.placement(self.next),
        };
        self.load(builder, &mut now, None);
        self.next += 1;
        if self.next < self.steps {
            let mut ahead = self.placement(self.next);
            self.load(builder, &mut ahead, Some(&now));
            self.ahead = Some(ahead);
        }
        if !self.mapping.on_vector {
            self.array(builder, &now);
        }
        if now.step.index.c + 1 == self.mapping.trips().c {
            self.finish(builder, &now);
        }
        true
    }

    fn placement(&mut self, index: u64) -> Placement {
        let step = self.mapping.step(index);
        let i = step.index;
        let slots = &self.mapping.slots;
        Placement {
            step,
            input: self.input_now.take((i.passes, i.n, i.p, i.q, i.c), slots.input),
            weight: self.weight_now.take((i.passes, i.o, i.c), slots.weight),
            parameters: self.parameters_now.take((i.passes, i.o), slots.weight),
            output: self.output_now.take((i.passes, i.n, i.p, i.q, i.o), slots.output.max(slots.accumulator)).0,
            loaded: [self.mapping.input_resident, false, false],
        }
    }

    /// Emits the loads of a step that are still missing; those whose slot the step `before` uses must come after it.
    fn load(&self, builder: &mut Builder, placement: &mut Placement, before: Option<&Placement>) {
        let (input, weight, parameters) = (placement.input, placement.weight, placement.parameters);
        if weight.1 && !placement.loaded[1] && before.is_none_or(|now| now.weight.0 != weight.0) {
            placement.loaded[1] = true;
            self.load_weights(builder, &placement.step, weight.0);
        }
        if input.1 && !placement.loaded[0] && before.is_none_or(|now| now.input.0 != input.0) {
            placement.loaded[0] = true;
            self.load_input(builder, &placement.step, input.0);
        }
        if parameters.1 && !placement.loaded[2] && before.is_none_or(|now| now.parameters.0 != parameters.0) {
            placement.loaded[2] = true;
            self.load_parameters(builder, &placement.step, parameters.0);
        }
    }

    fn weight_bytes(&self, step: &Step) -> u64 {
        let elements =
            u64::from(step.passes.len) * u64::from(step.o.len) * u64::from(step.c.len) * self.mapping.shape.taps();
        elements * u64::from(self.image.element.bytes())
    }

    fn load_weights(&self, builder: &mut Builder, step: &Step, slot: u32) {
        if let Some(second) = self.second {
            let (batch, [k, o]) = self.matrix(second, step);
            let target = (Space::Buffer(builder.accelerator.weight_buffer), self.weight_slot(slot));
            return load_rows(builder, (second, batch), [(step.o, o), (step.c, k)], target);
        }
        let bytes = self.weight_bytes(step);
        let source = self.image.tile_address(step.passes.start, step.index.o, step.index.c);
        let target = self.weight_slot(slot);
        self.load_flat(builder, source, target, bytes, self.image.element);
    }

    fn load_parameters(&self, builder: &mut Builder, step: &Step, slot: u32) {
        let record = u64::from(self.mapping.parameter_bytes);
        // All products of a batch share their records.
        let pass = if self.second.is_some() { 0 } else { step.passes.start };
        let first = u64::from(pass) * u64::from(self.mapping.pass_outputs()) + u64::from(step.o.start);
        let bytes = step.channels() * record;
        let source = self.image.base + self.image.parameters_offset + first * record;
        let target = self.parameter_slot(slot);
        self.load_flat(builder, source, target, bytes, Element::from(1));
    }

    fn load_flat(&self, builder: &mut Builder, source: u64, target: u64, bytes: u64, element: Element) {
        let (memory, buffer) = (Space::Memory(self.image.memory), Space::Buffer(builder.accelerator.weight_buffer));
        let elements = bytes / u64::from(element.bytes());
        let count = u32::try_from(elements).expect("a tile fits a buffer of less than 2^32 bytes");
        let transfer = Transfer {
            source: Region::flat(memory, address(source), element, count),
            target: Region::flat(buffer, address(target), element, count),
        };
        let accesses =
            [span(Use::Read, memory, source, bytes), builder.slot(Use::Write, buffer, target, bytes, element)];
        let engine = builder.next_load_engine();
        builder.whole(engine, Operation::Load(transfer), &accesses);
    }

    fn input_slot(&self, slot: u32) -> u64 {
        self.at.input + u64::from(slot) * self.mapping.input_slot() * self.scale
    }

    fn weight_slot(&self, slot: u32) -> u64 {
        self.at.weight + u64::from(slot) * self.mapping.weight_slot() * self.scale
    }

    fn parameter_slot(&self, slot: u32) -> u64 {
        self.at.parameters + u64::from(slot) * self.mapping.parameter_slot() * self.scale
    }

    fn output_slot(&self, placement: &Placement) -> u64 {
        let slot = self.mapping.output_slot() * self.scale;
        self.at.output + u64::from(placement.output % self.mapping.slots.output) * slot
    }

    fn accumulators(&self, placement: &Placement) -> u64 {
        u64::from(placement.output % self.mapping.slots.accumulator) * self.mapping.accumulator_slot()
    }

    /// First input channel of the layer that a step's tile holds, and their number.
    fn input_channels(&self, step: &Step) -> (u32, u32) {
        let first = step.passes.start * self.mapping.pass_channels() + step.c.start;
        (first, step.passes.len * step.c.len)
    }

    /// First output channel of the layer of a step.
    fn first_output(&self, step: &Step) -> u32 {
        step.passes.start * self.mapping.pass_outputs() + step.o.start
    }

    /// Bytes of the input tile of a step in the image of its slot.
    fn input_bytes(&self, step: &Step) -> u64 {
        let rows = u64::from(self.mapping.rows(step.p).present.len);
        let cols = u64::from(self.mapping.cols(step.q).present.len);
        let (_, channels) = self.input_channels(step);
        u64::from(step.n.len) * rows * cols * u64::from(channels) * u64::from(element(self.input).bytes())
    }

    fn load_input(&self, builder: &mut Builder, step: &Step, slot: u32) {
        if self.second.is_some() {
            let (batch, [m, k]) = self.matrix(self.input, step);
            let target = (Space::Buffer(builder.accelerator.input_buffer), self.input_slot(slot));
            return load_rows(builder, (self.input, batch), [(step.n, m), (step.c, k)], target);
        }
        let rows = self.mapping.rows(step.p).present;
        let cols = self.mapping.cols(step.q).present;
        let (first_channel, channels) = self.input_channels(step);
        if rows.len == 0 || cols.len == 0 {
            return;
        }
        let [n, h, w, c] = image(self.input);
        let size = u32::from(element(self.input).bytes());
        let offset = u64::from(step.n.start) * u64::from(n.stride)
            + u64::from(rows.start) * u64::from(h.stride)
            + u64::from(cols.start) * u64::from(w.stride)
            + u64::from(first_channel) * u64::from(c.stride);
        let row_bytes = cols.len * channels * size;
        let source = Region {
            base: address(self.input.base + offset),
            dims: [
                Dim::new(step.n.len, n.stride),
                Dim::new(rows.len, h.stride),
                Dim::new(cols.len, w.stride),
                Dim::ONE,
                Dim::ONE,
                Dim::new(channels, c.stride),
            ],
            ..Region::flat(self.input.space, 0, element(self.input), 1)
        };
        let base = self.input_slot(slot);
        let buffer = Space::Buffer(builder.accelerator.input_buffer);
        let target = Region {
            base: address(base),
            dims: [
                Dim::new(step.n.len, rows.len * row_bytes),
                Dim::new(rows.len, row_bytes),
                Dim::new(cols.len, channels * size),
                Dim::ONE,
                Dim::ONE,
                Dim::new(channels, size),
            ],
            ..Region::flat(buffer, 0, element(self.input), 1)
        };
        let steps = self.mapping.input_steps(Requests::new(&builder.accelerator.config.dma));
        let [source, target] = [source, target].map(|region| fetched(region, steps));
        let target_access = builder.slot(Use::Write, buffer, base, self.input_bytes(step), element(self.input));
        let accesses = [bounding(Use::Read, &source), target_access];
        let engine = builder.next_load_engine();
        builder.whole(engine, Operation::Load(Transfer { source, target }), &accesses);
    }

    /// Of a product of two activations: where the matrix of a step's pass starts within an operand or the result, and
    /// the distances of its rows and columns.
    fn matrix(&self, place: &TensorPlace, step: &Step) -> (u64, [u64; 2]) {
        let mut pass = u64::from(step.passes.start);
        let mut offset = 0;
        let ([batch @ .., _, _], [strides @ .., row, col]) = (self.output.shape.as_slice(), place.strides.as_slice())
        else {
            return (0, [0; 2]);
        };
        // Aligned at the last dimension; what an operand has one of is repeated.
        for (&extent, (&dim, &stride)) in batch.iter().rev().zip(place.shape.iter().zip(strides).rev()) {
            if dim > 1 {
                offset += pass % extent as u64 * stride;
            }
            pass /= extent as u64;
        }
        (offset, [*row, *col])
    }

    /// The image walk `[n, oh, ow | r, s, c]` of a step over `channels` channels from `first` within the tile.
    fn walk(&self, builder: &Builder, placement: &Placement, first: u32, channels: u32) -> Region {
        let (step, shape) = (&placement.step, &self.mapping.shape);
        let (rows, cols) = (self.mapping.rows(step.p), self.mapping.cols(step.q));
        let size = u32::from(element(self.input).bytes());
        // Where image row 0, column 0 of the part that exists lies, and the strides of that image.
        let (space, origin, strides, present, from);
        if self.mapping.input_resident {
            let [n, h, w, c] = image(self.input);
            let (first_channel, _) = self.input_channels(step);
            space = self.input.space;
            origin = self.input.base
                + u64::from(step.n.start) * u64::from(n.stride)
                + u64::from(first_channel + first) * u64::from(c.stride);
            strides = [n.stride, h.stride, w.stride, c.stride];
            present = [shape.h, shape.w];
            from = [rows.first_tap, cols.first_tap];
        } else {
            let (_, tile_channels) = self.input_channels(step);
            let pixel = tile_channels * size;
            space = Space::Buffer(builder.accelerator.input_buffer);
            origin = self.input_slot(placement.input.0) + u64::from(first) * u64::from(size);
            let row = cols.present.len * pixel;
            strides = [rows.present.len * row, row, pixel, size];
            present = [rows.present.len, cols.present.len];
            from = [rows.first_tap - i64::from(rows.present.start), cols.first_tap - i64::from(cols.present.start)];
        }
        let base = address(origin) + from[0] * i64::from(strides[1]) + from[1] * i64::from(strides[2]);
        let last = |axis: usize, len: u32| {
            from[axis]
                + i64::from(len - 1) * i64::from(shape.stride[axis])
                + i64::from(shape.kernel[axis] - 1) * i64::from(shape.dilation[axis])
        };
        let inside = from[0] >= 0
            && from[1] >= 0
            && last(0, step.p.len) < i64::from(present[0])
            && last(1, step.q.len) < i64::from(present[1]);
        let coordinate = |value: i64| i32::try_from(value).expect("image coordinates are below 2^31");
        let pad = (!inside).then(|| Pad {
            row0: coordinate(from[0]),
            rows: present[0],
            row_step: [shape.stride[0], shape.dilation[0]],
            col0: coordinate(from[1]),
            cols: present[1],
            col_step: [shape.stride[1], shape.dilation[1]],
        });
        Region {
            space,
            base,
            element: element(self.input),
            dims: [
                Dim::new(step.n.len, strides[0]),
                Dim::stepping(step.p.len, shape.stride[0], strides[1]),
                Dim::stepping(step.q.len, shape.stride[1], strides[2]),
                Dim::stepping(shape.kernel[0], shape.dilation[0], strides[1]),
                Dim::stepping(shape.kernel[1], shape.dilation[1], strides[2]),
                Dim::new(channels, strides[3]),
            ],
            split: 3,
            row_window: None,
            window: None,
            pad,
        }
    }

    /// The interval that array and vector unit read of the input.
    fn input_access(&self, builder: &Builder, placement: &Placement) -> Access {
        if self.mapping.input_resident {
            let [n, h, w, c] = image(self.input);
            let end = [n, h, w, c].iter().map(|dim| u64::from(dim.count - 1) * u64::from(dim.stride)).sum::<u64>()
                + u64::from(element(self.input).bytes());
            return builder.slot(Use::Read, self.input.space, self.input.base, end, element(self.input));
        }
        let buffer = Space::Buffer(builder.accelerator.input_buffer);
        let (slot, bytes) = (self.input_slot(placement.input.0), self.input_bytes(&placement.step));
        builder.slot(Use::Read, buffer, slot, bytes, element(self.input))
    }

    fn weight_access(&self, builder: &Builder, placement: &Placement) -> Access {
        let buffer = Space::Buffer(builder.accelerator.weight_buffer);
        let (slot, bytes) = (self.weight_slot(placement.weight.0), self.weight_bytes(&placement.step));
        builder.slot(Use::Read, buffer, slot, bytes, self.image.element)
    }

    fn accumulator_access(&self, usage: Use, placement: &Placement) -> Access {
        let step = &placement.step;
        let words = step.pixels() * step.channels();
        span(usage, Space::Accumulators, self.accumulators(placement), words)
    }

    /// Requantization and store of an output tile that is complete; the whole work of a depthwise tile on the vector
    /// unit.
    fn finish(&self, builder: &mut Builder, placement: &Placement) {
        let (step, mapping) = (&placement.step, self.mapping);
        let channels = u32::try_from(step.channels()).expect("a tile's channels fit a buffer");
        let [mut n, h, w, mut c] = image(self.output);
        let (mut batch, mut first) = (0, self.first_output(step));
        if self.second.is_some() {
            let (start, [row, col]) = self.matrix(self.output, step);
            (batch, first) = (start, step.o.start);
            (n, c) = (Dim::new(n.count, stride(row)), Dim::new(c.count, stride(col)));
        }
        let offset = batch
            + u64::from(step.n.start) * u64::from(n.stride)
            + u64::from(step.p.start) * u64::from(h.stride)
            + u64::from(step.q.start) * u64::from(w.stride)
            + u64::from(first) * u64::from(c.stride);
        // The tile where it finally lies.
        let place = Region {
            base: address(self.output.base + offset),
            dims: [
                Dim::new(step.n.len, n.stride),
                Dim::new(step.p.len, h.stride),
                Dim::new(step.q.len, w.stride),
                Dim::ONE,
                Dim::ONE,
                Dim::new(channels, c.stride),
            ],
            ..Region::flat(self.output.space, 0, element(self.output), 1)
        };
        let size = u32::from(element(self.output).bytes());
        let buffer = Space::Buffer(builder.accelerator.output_buffer);
        let base = self.output_slot(placement);
        let bytes = step.pixels() * u64::from(channels) * u64::from(size);
        let packed = Region {
            base: address(base),
            dims: [
                Dim::new(step.n.len, step.p.len * step.q.len * channels * size),
                Dim::new(step.p.len, step.q.len * channels * size),
                Dim::new(step.q.len, channels * size),
                Dim::ONE,
                Dim::ONE,
                Dim::new(channels, size),
            ],
            ..Region::flat(buffer, 0, element(self.output), 1)
        };
        let (result, result_access) = if mapping.output_resident {
            (place, builder.spread(bounding(Use::Write, &place), element(self.output), self.output.base))
        } else {
            (packed, builder.slot(Use::Write, buffer, base, bytes, element(self.output)))
        };
        let weight_buffer = Space::Buffer(builder.accelerator.weight_buffer);
        let record = mapping.parameter_bytes;
        let parameters = self.parameter_slot(placement.parameters.0);
        let parameter_bytes = u64::from(channels) * u64::from(record);
        let records =
            Region::matrix(weight_buffer, address(parameters), 1, Dim::new(channels, record), Dim::new(record, 1));
        let parameter_access = builder.slot(Use::Read, weight_buffer, parameters, parameter_bytes, Element::from(1));
        let engine = builder.accelerator.vector_engine();
        if mapping.on_vector {
            let walk = self.walk(builder, placement, 0, channels);
            let taps = u32::try_from(mapping.shape.taps()).expect("kernels are small");
            let weight = self.image.element;
            let size = u32::from(weight.bytes());
            let weights = Region::matrix(
                weight_buffer,
                address(self.weight_slot(placement.weight.0)),
                weight,
                Dim::new(channels, stride(u64::from(taps) * u64::from(size))),
                Dim::new(taps, size),
            );
            let macs = step.pixels() * u64::from(channels) * u64::from(taps);
            let op = VectorOp {
                kind: VectorKind::Depthwise,
                operand: 0,
                inputs: smallvec![walk, weights, records],
                output: result,
                macs,
            };
            let accesses = [
                self.input_access(builder, placement),
                self.weight_access(builder, placement),
                parameter_access,
                result_access,
            ];
            builder.whole(engine, Operation::Vector(op), &accesses);
        } else {
            let m = u32::try_from(step.pixels()).expect("a tile's pixels fit the accumulators");
            let sums = Region::matrix(
                Space::Accumulators,
                address(self.accumulators(placement)),
                1,
                Dim::new(m, channels),
                Dim::new(channels, 1),
            );
            let op = VectorOp {
                kind: VectorKind::Requantize,
                operand: 0,
                inputs: smallvec![sums, records],
                output: result,
                macs: 0,
            };
            let accesses = [self.accumulator_access(Use::Read, placement), parameter_access, result_access];
            builder.whole(engine, Operation::Vector(op), &accesses);
        }
        if !mapping.output_resident {
            let read = builder.slot(Use::Read, buffer, base, bytes, element(self.output));
            let accesses = [read, bounding(Use::WriteOnce, &place)];
            let engine = builder.next_store_engine();
            builder.whole(engine, Operation::Store(Transfer { source: packed, target: place }), &accesses);
        }
    }
}

/// Loads rows of columns of a matrix that starts `from` bytes into a tensor, given by ranges with the distances of
/// neighbours, packed to a slot. The walk goes along whichever lies closer together in memory: the DMA engine turns the
/// matrix as it writes it.
fn load_rows(
    builder: &mut Builder,
    (tensor, from): (&TensorPlace, u64),
    [(rows, down), (cols, right)]: [(Range, u64); 2],
    (buffer, slot): (Space, u64),
) {
    let element = element(tensor);
    let size = u32::from(element.bytes());
    let offset = from + u64::from(rows.start) * down + u64::from(cols.start) * right;
    let packed = cols.len * size;
    let mut loops = [(rows.len, stride(down), packed), (cols.len, stride(right), size)];
    if right > down {
        loops.swap(0, 1);
    }
    let region = |space, base, [outer, inner]: [u32; 2]| {
        Region::matrix(space, address(base), element, Dim::new(loops[0].0, outer), Dim::new(loops[1].0, inner))
    };
    let source = region(tensor.space, tensor.base + offset, loops.map(|(_, memory, _)| memory));
    let target = region(buffer, slot, loops.map(|(.., slot)| slot));
    let bytes = u64::from(rows.len) * u64::from(packed);
    let accesses = [bounding(Use::Read, &source), builder.slot(Use::Write, buffer, slot, bytes, element)];
    let engine = builder.next_load_engine();
    builder.whole(engine, Operation::Load(Transfer { source, target }), &accesses);
}
