//! Instructions of a layer on the vector unit: load a tile, compute, store; the loads of the next tile first.

use smallvec::SmallVec;

use super::{Builder, address, bounding, element, fetched, image};
use crate::{
    config::VectorFunction,
    ir::Op,
    mapping::{
        cost::Requests,
        tiling::Range,
        vector::{VectorMapping, VectorStep},
    },
    program::{
        Arithmetic, Operation, Program, TensorPlace, Transfer, VectorKind, VectorOp,
        hazards::{Access, Use},
        region::{Dim, Element, Pad, Region, Space},
    },
};

/// Emits one layer, part by part.
#[derive(Debug)]
pub(super) struct VectorEmitter<'a> {
    program: &'a Program,
    layer: usize,
    parts: &'a [VectorMapping],
    part: usize,
    step: u64,
    /// Whether the loads of the next step have been emitted.
    loaded_ahead: bool,
}

impl<'a> VectorEmitter<'a> {
    pub(super) fn new(program: &'a Program, layer: usize, parts: &'a [VectorMapping]) -> Self {
        Self { program, layer, parts, part: 0, step: 0, loaded_ahead: false }
    }

    /// Emits the next step; `false` when there is none.
    pub(super) fn emit_next(&mut self, builder: &mut Builder) -> bool {
        let Some(mapping) = self.parts.get(self.part) else { return false };
        let part = Part::new(self.program, self.layer, self.part, mapping);
        let steps = mapping.steps();
        if !self.loaded_ahead {
            part.load(builder, self.step);
        }
        let ahead = self.step + 1 < steps && mapping.input_slots > 1;
        if ahead {
            part.load(builder, self.step + 1);
        }
        part.compute_and_store(builder, self.step);
        self.loaded_ahead = ahead;
        self.step += 1;
        if self.step == steps {
            (self.part, self.step, self.loaded_ahead) = (self.part + 1, 0, false);
        }
        true
    }
}

/// One part of a layer with its places.
struct Part<'a> {
    mapping: &'a VectorMapping,
    kind: Option<VectorKind>,
    /// Which operand of the layer the first operand of this part is.
    operand: usize,
    operands: SmallVec<[&'a TensorPlace; 2]>,
    output: &'a TensorPlace,
    /// First channel of the output that this part writes.
    channel: u32,
    /// First address of each operand's slots and of the output's.
    inputs_at: SmallVec<[u64; 2]>,
    output_at: u64,
    /// Of the buffers' images.
    scale: u64,
}

impl<'a> Part<'a> {
    fn new(program: &'a Program, index: usize, part: usize, mapping: &'a VectorMapping) -> Self {
        let (header, layer) = (&program.header, &program.layers[index]);
        let op = match &header.layers[index].arithmetic {
            Arithmetic::Elementwise { op, .. } => Some(op),
            _ => None,
        };
        let is_concat = matches!(op, Some(Op::Concat { .. }));
        let place = |operand: usize| &header.tensors[layer.operands[operand].index()];
        let operand = if is_concat { layer.parts[part] } else { 0 };
        let operands: SmallVec<[&TensorPlace; 2]> = if is_concat {
            std::iter::once(place(operand)).collect()
        } else {
            (0..mapping.shape.operands.len()).map(place).collect()
        };
        let channel = if is_concat { (0..operand).map(|before| image(place(before))[3].count).sum() } else { 0 };
        let mut at = layer.free.0;
        let mut inputs_at = SmallVec::new();
        for i in 0..operands.len() {
            inputs_at.push(at);
            at += mapping.operand_slot(i) * header.buffer_scale * u64::from(mapping.input_slots);
        }
        let kind = mapping.function.map(|function| match (function, op) {
            (VectorFunction::AvgPool, Some(Op::GlobalAvgPool)) => VectorKind::GlobalAvgPool,
            (VectorFunction::AvgPool, _) => VectorKind::AvgPool,
            (VectorFunction::Add, _) => VectorKind::Add,
            (VectorFunction::Mul, _) => VectorKind::Mul,
            (VectorFunction::MaxPool, _) => VectorKind::MaxPool,
            (VectorFunction::Table, _) => VectorKind::Table,
            (VectorFunction::Softmax, _) => VectorKind::Softmax,
            (VectorFunction::Requantize | VectorFunction::Copy | VectorFunction::Depthwise, _) => VectorKind::Copy,
        });
        Self {
            mapping,
            kind,
            operand,
            operands,
            output: &header.tensors[header.layers[index].outputs[0].index()],
            channel,
            inputs_at,
            output_at: if program.accelerator.buffers.len() == 1 { at } else { 0 },
            scale: header.buffer_scale,
        }
    }

    fn input_slot(&self, operand: usize, step: u64) -> u64 {
        let slot = self.mapping.operand_slot(operand) * self.scale;
        self.inputs_at[operand] + step % u64::from(self.mapping.input_slots) * slot
    }

    fn load(&self, builder: &mut Builder, index: u64) {
        let step = self.mapping.step(index);
        for (i, place) in self.operands.iter().enumerate() {
            let tile = self.mapping.operand_box(i, &step);
            if self.mapping.shape.operands[i].resident || tile.iter().any(|range| range.len == 0) {
                continue;
            }
            let steps = self.mapping.operand_steps(i, Requests::new(&builder.accelerator.config.dma));
            let source = fetched(self.box_in(place, tile, 0, i), steps);
            let base = self.input_slot(i, index);
            let buffer = Space::Buffer(builder.accelerator.input_buffer);
            let target = fetched(packed(buffer, base, tile, element(place)), steps);
            let bytes = volume(tile) * place.dtype.bytes();
            let target_access = builder.slot(Use::Write, buffer, base, bytes, element(place));
            let accesses = [bounding(Use::Read, &source), target_access];
            let engine = builder.next_load_engine();
            builder.whole(engine, Operation::Load(Transfer { source, target }), &accesses);
        }
    }

    /// A box of a tensor where it lies; dimensions of one element that the output repeats do not move.
    fn box_in(&self, place: &TensorPlace, tile: [Range; 4], channel: u32, operand: usize) -> Region {
        let dims = self.loops(place, operand);
        let first = [tile[0].start, tile[1].start, tile[2].start, tile[3].start + channel];
        let offset: u64 = dims.iter().zip(first).map(|(dim, start)| u64::from(dim.stride) * u64::from(start)).sum();
        Region {
            base: address(place.base + offset),
            dims: [
                Dim::new(tile[0].len, dims[0].stride),
                Dim::new(tile[1].len, dims[1].stride),
                Dim::new(tile[2].len, dims[2].stride),
                Dim::ONE,
                Dim::ONE,
                Dim::new(tile[3].len, dims[3].stride),
            ],
            ..Region::flat(place.space, 0, element(place), 1)
        }
    }

    /// The loops `[n, h, w, c]` over an operand whose shape may have fewer dimensions than the output's.
    fn loops(&self, place: &TensorPlace, operand: usize) -> [Dim; 4] {
        if operand == usize::MAX || place.shape.len() == self.output.shape.len() {
            return image(place);
        }
        let missing = self.output.shape.len() - place.shape.len();
        let mut padded = place.clone();
        padded.layout = self.output.layout;
        padded.shape = vec![1; missing];
        padded.shape.extend_from_slice(&place.shape);
        padded.strides = vec![0; missing];
        padded.strides.extend_from_slice(&place.strides);
        image(&padded)
    }

    /// What the vector unit reads of an operand for a tile, and the interval of it.
    fn operand_region(&self, builder: &Builder, i: usize, index: u64, step: &VectorStep) -> (Region, Access) {
        let (mapping, place) = (self.mapping, self.operands[i]);
        let shape = &mapping.shape;
        let tile = mapping.operand_box(i, step);
        let resident = shape.operands[i].resident;
        let size = u32::from(element(place).bytes());
        let (space, origin, strides, access);
        if resident {
            let dims = self.loops(place, i);
            let whole: u64 = dims.iter().map(|dim| u64::from(dim.count - 1) * u64::from(dim.stride)).sum();
            space = place.space;
            strides = dims.map(|dim| dim.stride);
            origin = place.base;
            access = builder.slot(Use::Read, space, place.base, whole + u64::from(size), element(place));
        } else {
            space = Space::Buffer(builder.accelerator.input_buffer);
            origin = self.input_slot(i, index);
            let row = tile[2].len * tile[3].len * size;
            strides = [tile[1].len * row, row, tile[3].len * size, size];
            access = builder.slot(Use::Read, space, origin, volume(tile) * u64::from(size), element(place));
        }
        let mut region = Region { space, element: element(place), ..Region::flat(space, 0, 1, 1) };
        if mapping.is_windowed() {
            let (rows, cols) = (mapping.halo(0, step.ranges[1]), mapping.halo(1, step.ranges[2]));
            let (from, present) = if resident {
                ([rows.first_tap, cols.first_tap], [shape.operands[i].extent[1], shape.operands[i].extent[2]])
            } else {
                (
                    [rows.first_tap - i64::from(rows.present.start), cols.first_tap - i64::from(cols.present.start)],
                    [rows.present.len, cols.present.len],
                )
            };
            let first = if resident {
                u64::from(step.ranges[0].start) * u64::from(strides[0])
                    + u64::from(step.ranges[3].start) * u64::from(strides[3])
            } else {
                0
            };
            region.base = address(origin + first) + from[0] * i64::from(strides[1]) + from[1] * i64::from(strides[2]);
            region.dims = [
                Dim::new(step.ranges[0].len, strides[0]),
                Dim::stepping(step.ranges[1].len, shape.stride[0], strides[1]),
                Dim::stepping(step.ranges[2].len, shape.stride[1], strides[2]),
                Dim::stepping(shape.kernel[0], shape.dilation[0], strides[1]),
                Dim::stepping(shape.kernel[1], shape.dilation[1], strides[2]),
                Dim::new(step.ranges[3].len, strides[3]),
            ];
            let coordinate = |value: i64| i32::try_from(value).expect("image coordinates are below 2^31");
            // Pools always carry the predicate: the divisor of an average counts what exists.
            region.pad = Some(Pad {
                row0: coordinate(from[0]),
                rows: present[0],
                row_step: [shape.stride[0], shape.dilation[0]],
                col0: coordinate(from[1]),
                cols: present[1],
                col_step: [shape.stride[1], shape.dilation[1]],
            });
            return (region, access);
        }
        let extent = shape.operands[i].extent;
        let dims: [Dim; 4] = std::array::from_fn(|axis| {
            // A dimension of one element under a longer one of the output is repeated.
            let repeated = extent[axis] == 1 && shape.output[axis] > 1;
            Dim::new(step.ranges[axis].len, if repeated { 0 } else { strides[axis] })
        });
        let first: u64 = if resident {
            dims.iter().zip(step.ranges).map(|(dim, range)| u64::from(dim.stride) * u64::from(range.start)).sum()
        } else {
            0
        };
        region.base = address(origin + first);
        region.dims = [dims[0], dims[1], dims[2], Dim::ONE, Dim::ONE, dims[3]];
        (region, access)
    }

    fn compute_and_store(&self, builder: &mut Builder, index: u64) {
        let step = self.mapping.step(index);
        let resident = self.mapping.shape.output_resident;
        let place = self.box_in(self.output, step.ranges, self.channel, usize::MAX);
        let size = element(self.output);
        let Some(kind) = self.kind else {
            // Only moved: stored from where it was loaded.
            let buffer = Space::Buffer(builder.accelerator.input_buffer);
            let base = self.input_slot(0, index);
            let source = packed(buffer, base, step.ranges, size);
            let bytes = volume(step.ranges) * u64::from(size.bytes());
            let accesses = [builder.slot(Use::Read, buffer, base, bytes, size), bounding(Use::WriteOnce, &place)];
            let engine = builder.next_store_engine();
            builder.whole(engine, Operation::Store(Transfer { source, target: place }), &accesses);
            return;
        };
        let buffer = Space::Buffer(builder.accelerator.output_buffer);
        let base =
            self.output_at + index % u64::from(self.mapping.output_slots) * self.mapping.output_slot() * self.scale;
        let bytes = volume(step.ranges) * u64::from(size.bytes());
        let result = if resident { place } else { packed(buffer, base, step.ranges, size) };
        let mut accesses: SmallVec<[Access; 4]> = SmallVec::new();
        let mut inputs = SmallVec::new();
        for i in 0..self.operands.len() {
            let (region, access) = self.operand_region(builder, i, index, &step);
            inputs.push(region);
            accesses.push(access);
        }
        accesses.push(if resident {
            builder.spread(bounding(Use::Write, &place), size, self.output.base)
        } else {
            builder.slot(Use::Write, buffer, base, bytes, size)
        });
        let operand = u8::try_from(self.operand).expect("concatenations of more than 255 operands run on the host");
        let op = VectorOp { kind, operand, inputs, output: result, macs: 0 };
        let engine = builder.accelerator.vector_engine();
        builder.whole(engine, Operation::Vector(op), &accesses);
        if !resident {
            let accesses = [builder.slot(Use::Read, buffer, base, bytes, size), bounding(Use::WriteOnce, &place)];
            let engine = builder.next_store_engine();
            builder.whole(engine, Operation::Store(Transfer { source: result, target: place }), &accesses);
        }
    }
}

/// Elements of a box.
fn volume(tile: [Range; 4]) -> u64 {
    tile.iter().map(|range| u64::from(range.len)).product()
}

/// A box packed at an address of a buffer.
fn packed(space: Space, base: u64, tile: [Range; 4], element: Element) -> Region {
    let size = u32::from(element.bytes());
    let row = tile[2].len * tile[3].len * size;
    Region {
        base: address(base),
        dims: [
            Dim::new(tile[0].len, tile[1].len * row),
            Dim::new(tile[1].len, row),
            Dim::new(tile[2].len, tile[3].len * size),
            Dim::ONE,
            Dim::ONE,
            Dim::new(tile[3].len, size),
        ],
        ..Region::flat(space, 0, element, 1)
    }
}
