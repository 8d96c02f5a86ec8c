//! The instructions of a program, generated layer by layer and tile by tile as they are asked for.
//!
//! Within a layer, the loads of the next tile stand before the array work of the present one wherever the operand has a
//! second slot: the generator software-pipelines, so that the issue unit never holds up a load behind array tiles.

mod matrix;
mod vector;

use std::collections::VecDeque;

use smallvec::SmallVec;

use super::{
    Arithmetic, Instruction, LayerId, Operation, Program, TensorPlace, Token, VectorKind, VectorOp,
    build::LayerProgram,
    hazards::{Access, Hazards, Use},
    region::{Dim, Element, Region, Space},
};
use crate::{
    config::{Accelerator, EngineId},
    ir::Op,
    mapping::{LayerMapping, cost::Commands},
};

/// The stream of a program's instructions, in program order.
#[derive(Debug)]
pub struct Instructions<'a> {
    builder: Builder<'a>,
    /// The next layer to start.
    next_layer: usize,
    /// The layer that is being emitted.
    current: Option<Emitter<'a>>,
}

#[derive(Debug)]
#[allow(clippy::large_enum_variant, reason = "there is one at a time")]
enum Emitter<'a> {
    Matrix(matrix::MatrixEmitter<'a>),
    Vector(vector::VectorEmitter<'a>),
}

impl Program {
    /// The instructions, from the first.
    pub fn instructions(&self) -> Instructions<'_> {
        let accelerator = &self.accelerator;
        let mut readers: Vec<EngineId> =
            (0..accelerator.config.dma.load_engines).map(|index| accelerator.load_engine(index)).collect();
        if self.layers.iter().any(|layer| layer.mapping == LayerMapping::Host) {
            readers.push(accelerator.host_engine());
        }
        Instructions {
            builder: Builder {
                program: self,
                accelerator: &self.accelerator,
                hazards: Hazards::new(accelerator.engines.len(), readers),
                queue: VecDeque::new(),
                layer: LayerId(0),
                next_index: 0,
                issued: Commands::of(&accelerator.config.control),
                loads: 0,
                stores: 0,
            },
            next_layer: 0,
            current: None,
        }
    }
}

impl Iterator for Instructions<'_> {
    type Item = Instruction;

    fn next(&mut self) -> Option<Instruction> {
        loop {
            if let Some(instruction) = self.builder.queue.pop_front() {
                return Some(instruction);
            }
            let more = match &mut self.current {
                Some(Emitter::Matrix(emitter)) => emitter.emit_next(&mut self.builder),
                Some(Emitter::Vector(emitter)) => emitter.emit_next(&mut self.builder),
                None => false,
            };
            if !more {
                self.current = None;
                if self.next_layer == self.builder.program.layers.len() {
                    return None;
                }
                self.start_layer();
            }
        }
    }
}

impl Instructions<'_> {
    fn start_layer(&mut self) {
        let program = self.builder.program;
        let index = self.next_layer;
        self.next_layer += 1;
        let layer = &program.layers[index];
        self.builder.layer = LayerId(u32::try_from(index).expect("fewer than 2^32 layers"));
        if matches!(layer.mapping, LayerMapping::Free) {
            return;
        }
        if program.accelerator.config.control.fence_layers && self.builder.next_index > 0 {
            self.builder.fence();
        }
        self.current = match &layer.mapping {
            LayerMapping::Matrix(mapping) => Some(Emitter::Matrix(matrix::MatrixEmitter::new(program, index, mapping))),
            LayerMapping::Vector(parts) => Some(Emitter::Vector(vector::VectorEmitter::new(program, index, parts))),
            LayerMapping::Host => {
                self.builder.host(index, layer);
                None
            }
            LayerMapping::Free => None,
        };
    }
}

/// What the emitters share: numbering, dependencies, the queue.
#[derive(Debug)]
struct Builder<'a> {
    program: &'a Program,
    accelerator: &'a Accelerator,
    hazards: Hazards,
    queue: VecDeque<Instruction>,
    layer: LayerId,
    next_index: u64,
    issued: Commands,
    /// Loads and stores so far, which the DMA engines take in turn.
    loads: u32,
    stores: u32,
}

impl Builder<'_> {
    fn push(
        &mut self,
        engine: EngineId,
        commands: u32,
        operation: Operation,
        waits: SmallVec<[Token; 4]>,
        signals: Option<Token>,
    ) {
        let index = self.next_index;
        self.next_index += 1;
        self.queue.push_back(Instruction { index, layer: self.layer, engine, commands, operation, waits, signals });
    }

    /// An instruction of its own command, or of several, that signals its completion.
    fn whole(&mut self, engine: EngineId, operation: Operation, accesses: &[Access]) {
        let waits = self.hazards.waits(engine, accesses);
        let token = self.hazards.signal(engine, accesses);
        let commands = match &operation {
            Operation::Load(transfer) | Operation::Store(transfer) => self.transfer_commands(&transfer.source),
            _ => 1,
        };
        self.push(engine, commands, operation, waits, Some(token));
    }

    /// Commands that move a box: rows are what lies innermost.
    fn transfer_commands(&self, region: &Region) -> u32 {
        let [outer @ .., row] = &region.dims;
        let rows = outer.iter().map(|dim| u64::from(dim.count)).product();
        let fits = "a buffer tile has less than 2^32 bytes";
        let bytes = region.element.packed_bytes(row.count.into()).expect(fits);
        u32::try_from(self.issued.transfer(rows, bytes)).expect(fits)
    }

    fn next_load_engine(&mut self) -> EngineId {
        self.loads = self.loads.wrapping_add(1);
        self.accelerator.load_engine(self.loads.wrapping_sub(1))
    }

    fn next_store_engine(&mut self) -> EngineId {
        self.stores = self.stores.wrapping_add(1);
        self.accelerator.store_engine(self.stores.wrapping_sub(1))
    }

    /// An interval of a buffer's image, as long as what it covers is on the machine, in the image's scale: elements of 4 bits
    /// fill their part of the image, others half of it. `origin` is where the slot or the tensor begins. Two intervals then
    /// meet where they do on the machine. Other spaces have no scale.
    fn spread(&self, access: Access, element: Element, origin: u64) -> Access {
        let (usage, space, start, end) = access;
        if !matches!(space, Space::Buffer(_)) {
            return access;
        }
        let scaled = |address: u64| {
            origin + (((address - origin) * self.program.header.buffer_scale) >> element.per_byte_shift())
        };
        (usage, space, scaled(start), scaled(end))
    }

    /// The interval of a slot of such elements, `bytes` in the image.
    fn slot(&self, usage: Use, space: Space, start: u64, bytes: u64, element: Element) -> Access {
        self.spread(span(usage, space, start, bytes), element, start)
    }

    fn fence(&mut self) {
        self.hazards.fence();
        let engine = self.accelerator.array_engine();
        self.push(engine, 1, Operation::Fence, SmallVec::new(), None);
    }

    /// A layer on the host: its whole operator, on the tensors where they lie.
    fn host(&mut self, index: usize, layer: &LayerProgram) {
        let header = &self.program.header;
        let place = |tensor: &super::TensorId| &header.tensors[tensor.index()];
        let inputs: SmallVec<[Region; 3]> = layer.operands.iter().map(|tensor| whole(place(tensor))).collect();
        let outputs: Vec<Region> = header.layers[index].outputs.iter().map(|tensor| whole(place(tensor))).collect();
        let Some(&output) = outputs.first() else { return };
        let mut accesses: Vec<Access> = inputs.iter().map(|region| bounding(Use::Read, region)).collect();
        accesses.extend(outputs.iter().map(|region| bounding(Use::WriteOnce, region)));
        let macs = header.layers[index].macs.get();
        let shapes = [layer.operands.first(), header.layers[index].outputs.first()]
            .map(|tensor| tensor.map_or(&[][..], |id| place(id).shape.as_slice()));
        let elements = host_elements(&header.layers[index].arithmetic, shapes);
        let op = VectorOp { kind: VectorKind::WholeOperator { elements }, operand: 0, inputs, output, macs };
        self.whole(self.accelerator.host_engine(), Operation::Host(op), &accesses);
    }
}

/// Elements of a result, times the taps of each where windows are pooled. `[first operand, result]` are the shapes.
fn host_elements(arithmetic: &Arithmetic, [operand, result]: [&[usize]; 2]) -> u64 {
    let elements = |shape: &[usize]| shape.iter().fold(1_u64, |product, &dim| product.saturating_mul(dim as u64));
    let op = match arithmetic {
        Arithmetic::Elementwise { op, .. } | Arithmetic::Host { op } => op,
        Arithmetic::Matrix { .. } | Arithmetic::Free => return elements(result),
    };
    match op {
        Op::MaxPool { window } | Op::AvgPool { window, .. } => {
            elements(result).saturating_mul(elements(&window.kernel))
        }
        Op::GlobalAvgPool | Op::GlobalMaxPool => elements(operand),
        _ => elements(result),
    }
}

/// A whole tensor as a region, in the loops of its layout.
fn whole(place: &TensorPlace) -> Region {
    let [n, h, w, c] = image(place);
    Region {
        space: place.space,
        base: i64::try_from(place.base).expect("addresses are below 2^63"),
        element: element(place),
        dims: [n, h, w, Dim::ONE, Dim::ONE, c],
        split: 3,
        row_window: None,
        window: None,
        pad: None,
    }
}

fn element(place: &TensorPlace) -> Element {
    Element::of(place.dtype)
}

/// The loops `[n, h, w, c]` over a tensor, as its layout numbers them.
fn image(place: &TensorPlace) -> [Dim; 4] {
    let extent = place.layout.extents(&place.shape).map(narrow);
    let strides = place.layout.loop_strides(&place.strides);
    std::array::from_fn(|i| Dim::new(extent[i], stride(strides[i])))
}

fn narrow(extent: usize) -> u32 {
    u32::try_from(extent).expect("tensors of 2^31 elements are refused")
}

fn stride(stride: u64) -> u32 {
    u32::try_from(stride).expect("tensors of 2^31 bytes are refused")
}

fn address(address: u64) -> i64 {
    i64::try_from(address).expect("addresses are below 2^63")
}

/// Of a box of an image every so many rows and columns.
fn fetched(mut region: Region, steps: [u32; 2]) -> Region {
    for (dim, step) in region.dims[1..].iter_mut().zip(steps).filter(|(_, step)| *step > 1) {
        *dim = Dim::stepping(dim.count.div_ceil(step), step, dim.stride);
    }
    region
}

/// The bounding interval of a region without padding.
fn bounding(usage: Use, region: &Region) -> Access {
    let last: u64 = region.dims.iter().map(|dim| u64::from(dim.count.saturating_sub(1)) * u64::from(dim.stride)).sum();
    let start = u64::try_from(region.base).expect("a region without padding starts inside its space");
    (usage, region.space, start, start + last + u64::from(region.element.bytes()))
}

/// An interval of a slot.
fn span(usage: Use, space: Space, start: u64, bytes: u64) -> Access {
    (usage, space, start, start + bytes)
}
