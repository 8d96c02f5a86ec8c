//! From a plan to a program: addresses of tensors and weight images, layers with their numbers. The instructions are
//! generated from the result, see `generate`.

use super::{
    Arithmetic, Header, Layer, LayerId, LayerKind, PackedRange, TensorId, TensorPlace, WeightImage,
    region::{Element, Space},
};
use crate::{
    config::{Accelerator, MemoryId},
    ir::{Activation, Graph, Node, Op, Quantized, Value, ValueId},
    mapping::{
        LayerMapping, Layout, MatrixMapping, Place, Plan, Second,
        order::{accumulation_order, may_overflow},
        plan::RESIDENT_ALIGNMENT,
    },
    tensor::{AccumulationOrder, Quantization},
    units::Macs,
};

/// A layer's part of the program: what `generate` needs beside the header.
#[derive(Clone, Debug)]
pub struct LayerProgram {
    /// How it runs.
    pub mapping: LayerMapping,
    /// Its weights, as an index into `Header::weights`.
    pub image: Option<usize>,
    /// Operands in the node's order: activations and constants of element-wise operators.
    pub operands: Vec<TensorId>,
    /// For a concatenation, which operand each part of the mapping copies.
    pub parts: Vec<usize>,
    /// First and last-plus-one address of the shared pool that is free for slots.
    pub free: (u64, u64),
}

/// A mapped network, ready to run.
#[derive(Clone, Debug)]
pub struct Program {
    /// What stays put.
    pub header: Header,
    /// One entry a layer.
    pub layers: Vec<LayerProgram>,
    /// The machine that it was mapped for.
    pub accelerator: Accelerator,
}

/// Alignment of tensors and images in memory, at least.
const ALIGNMENT: u64 = 64;

impl Program {
    /// Lays out tensors and images and resolves each layer's numbers.
    ///
    /// # Panics
    /// On a plan that was not made for this graph.
    pub fn build(graph: &Graph<Quantized>, plan: &Plan, accelerator: &Accelerator) -> Self {
        let mut builder = Builder {
            graph,
            plan,
            accelerator,
            next: vec![0; accelerator.config.memories.len()],
            packed: Vec::new(),
            ids: vec![None; graph.values.len()],
            tensors: Vec::new(),
            buffer_scale: if graph.values.iter().any(|value| Element::of(value.dtype).per_byte_shift() > 0) {
                2
            } else {
                1
            },
        };
        builder.tensors();
        let mut header = Header {
            name: graph.name.clone(),
            layers: Vec::new(),
            tensors: Vec::new(),
            weights: Vec::new(),
            memory_bytes: Vec::new(),
            packed: Vec::new(),
            buffer_scale: builder.buffer_scale,
            inputs: graph.inputs.iter().map(|&id| builder.machine_side(id)).collect(),
            outputs: graph.outputs.iter().map(|&id| builder.machine_side(id)).collect(),
        };
        let mut layers = Vec::new();
        for (index, layer) in (0_u32..).zip(&plan.layers) {
            let node = graph.node(layer.node);
            let image = match &layer.mapping {
                LayerMapping::Matrix(mapping) => {
                    header.weights.push(builder.image(LayerId(index), node, mapping));
                    Some(header.weights.len() - 1)
                }
                _ => None,
            };
            header.layers.push(builder.layer(layer.node, node, &layer.mapping));
            layers.push(LayerProgram {
                image,
                operands: node.inputs.iter().filter_map(|&id| builder.ids[id.index()]).collect(),
                parts: builder.parts(node),
                free: builder.free(node),
                mapping: layer.mapping.clone(),
            });
        }
        header.tensors = builder.tensors;
        header.memory_bytes = builder.next;
        header.packed = builder.packed;
        header.packed.sort_unstable();
        Self { header, layers, accelerator: accelerator.clone() }
    }
}

struct Builder<'a> {
    graph: &'a Graph<Quantized>,
    plan: &'a Plan,
    accelerator: &'a Accelerator,
    /// First free address of each memory space.
    next: Vec<u64>,
    packed: Vec<PackedRange>,
    buffer_scale: u64,
    ids: Vec<Option<TensorId>>,
    tensors: Vec<TensorPlace>,
}

impl Builder<'_> {
    /// Room for `bytes` in an image, of which the first `elements` bytes are elements of that kind.
    fn allocate(&mut self, memory: MemoryId, bytes: u64, (element, elements): (Element, u64)) -> u64 {
        let alignment = ALIGNMENT.max(u64::from(self.accelerator.config.dma.granule_bytes()));
        let next = &mut self.next[usize::from(memory.0)];
        let base = next.next_multiple_of(alignment);
        *next = base + bytes;
        if element.per_byte_shift() > 0 && elements > 0 {
            self.packed.push(PackedRange { memory, base, bytes: elements });
        }
        base
    }

    /// Bytes that a resident reserves in the image of its buffer.
    fn resident(&self, value: &Value) -> u64 {
        value.packed_bytes().next_multiple_of(RESIDENT_ALIGNMENT) * self.buffer_scale
    }

    /// Bytes of the image of the buffer that residents lie in.
    fn pool(&self) -> u64 {
        self.accelerator.buffers[usize::from(self.accelerator.output_buffer.0)].bytes * self.buffer_scale
    }

    /// Places every value that has a place of its own, then those that lie in others.
    fn tensors(&mut self) {
        let graph = self.graph;
        // A part of a concatenation, or an alias, may lie in a value that stands later: resolve on demand.
        for index in 0..graph.values.len() {
            let id = ValueId(u32::try_from(index).expect("value ids are 32 bit"));
            self.tensor(id);
        }
    }

    fn tensor(&mut self, id: ValueId) -> Option<TensorId> {
        if let Some(known) = self.ids[id.index()] {
            return Some(known);
        }
        let value = self.graph.value(id);
        let element = value.dtype.bytes();
        let layout = self.plan.layouts[id.index()];
        let own_strides = layout.strides(&value.shape, element);
        let (space, base, strides) = match self.plan.places[id.index()]? {
            Place::Outside => return None,
            Place::Memory => {
                let memory = self.plan.memories[id.index()];
                let bytes = value.bytes();
                let base = self.allocate(memory, bytes, (Element::of(value.dtype), bytes));
                (Space::Memory(memory), base, own_strides)
            }
            Place::Resident { top } => {
                let (buffer, pool) = (self.accelerator.output_buffer, self.pool());
                let bytes = self.resident(value);
                (Space::Buffer(buffer), if top { pool - bytes } else { 0 }, own_strides)
            }
            Place::Alias(of) => {
                let of = self.tensor(of)?;
                let place = self.tensors[of.0 as usize].clone();
                let strides = if place.strides == place.layout.strides(&place.shape, element) {
                    own_strides
                } else {
                    // Rows of a part of a concatenation: the innermost dimension is contiguous, rows are a whole apart.
                    alias_strides(&value.shape, layout, &place, element)
                };
                (place.space, place.base, strides)
            }
            Place::View { of, transposition } => {
                let of = self.tensor(of)?;
                let place = &self.tensors[of.0 as usize];
                let Op::Transpose { perm } = &self.graph.node(transposition).op else { return None };
                let mut strides = vec![0; perm.len()];
                let backwards = self.graph.node(transposition).inputs[0] == id;
                for (to, &from) in perm.iter().enumerate() {
                    if backwards {
                        strides[from] = place.strides[to];
                    } else {
                        strides[to] = place.strides[from];
                    }
                }
                (place.space, place.base, strides)
            }
            Place::Part { whole, channel } => {
                let whole = self.tensor(whole)?;
                let place = &self.tensors[whole.0 as usize];
                let channel_stride = place.strides[place.layout.channel_axis(place.shape.len())];
                (place.space, place.base + channel as u64 * channel_stride, place.strides.clone())
            }
        };
        let tensor = TensorId(u32::try_from(self.tensors.len()).expect("fewer than 2^32 values"));
        self.tensors.push(TensorPlace {
            value: id,
            name: value.name.clone(),
            shape: value.shape.clone(),
            dtype: value.dtype,
            space,
            base,
            layout,
            strides,
        });
        self.ids[id.index()] = Some(tensor);
        Some(tensor)
    }

    /// The tensor of a network input or output on the machine's side of the conversions at the boundary.
    fn machine_side(&self, id: ValueId) -> TensorId {
        let mut value = id;
        loop {
            if let Some(tensor) = self.ids[value.index()] {
                return tensor;
            }
            // From an input on to what its conversion makes, from an output back to what its conversion reads.
            let other_side = self.graph.nodes.iter().find_map(|node| match node.op {
                Op::QuantizeLinear | Op::DequantizeLinear if self.graph.inputs.contains(&id) => {
                    (node.inputs[0] == value).then_some(node.outputs[0])
                }
                Op::QuantizeLinear | Op::DequantizeLinear => (node.outputs[0] == value).then_some(node.inputs[0]),
                _ => None,
            });
            value = other_side.expect("every input and output has a place on the machine's side");
        }
    }

    fn image(&mut self, layer: LayerId, node: &Node, mapping: &MatrixMapping) -> WeightImage {
        let shape = &mapping.shape;
        let element = Element::of(shape.weight_type);
        let (weights, records) = match shape.second {
            Second::Image => {
                let elements = u64::from(shape.o) * u64::from(mapping.pass_channels()) * shape.taps();
                (elements * u64::from(element.bytes()), shape.o)
            }
            Second::Activation => (0, mapping.pass_outputs()),
        };
        let parameters_offset = weights.next_multiple_of(4);
        let bytes = parameters_offset + u64::from(records) * u64::from(mapping.parameter_bytes);
        let memory = self.accelerator.weight_memory;
        let base = self.allocate(memory, bytes, (element, parameters_offset));
        WeightImage {
            layer,
            memory,
            base,
            bytes,
            weights: (shape.second == Second::Image).then(|| node.inputs[1]),
            input_major: matches!(node.op, Op::MatMul { transposed: false, .. }),
            bias: node.inputs.get(2).copied(),
            element,
            passes: mapping.passes(),
            groups_per_pass: mapping.groups_per_pass,
            outputs: mapping.pass_outputs(),
            channels: mapping.pass_channels(),
            kernel: shape.kernel,
            output_tile: mapping.tile.o,
            channel_tile: mapping.tile.c,
            parameters_offset,
        }
    }

    fn layer(&self, id: crate::ir::NodeId, node: &Node, mapping: &LayerMapping) -> Layer {
        let graph = self.graph;
        let output = graph.value(node.outputs[0]);
        let (kind, macs, dataflow) = match mapping {
            LayerMapping::Matrix(m) => {
                let kind = if m.on_vector { LayerKind::Vector } else { LayerKind::Array };
                (kind, m.shape.macs(), (!m.on_vector).then_some(m.dataflow))
            }
            LayerMapping::Vector(_) => (LayerKind::Vector, 0, None),
            LayerMapping::Host => {
                (LayerKind::Host, crate::mapping::MatrixShape::of(graph, node).map_or(0, |shape| shape.macs()), None)
            }
            LayerMapping::Free => (LayerKind::Free, 0, None),
        };
        let quant = |value: &Value| value.quant.clone().unwrap_or_else(|| Quantization::per_tensor(1.0, 0));
        let arithmetic = match mapping {
            LayerMapping::Matrix(m) => Arithmetic::Matrix {
                input: quant(graph.value(node.inputs[0])),
                weight: quant(graph.value(node.inputs[1])),
                output: quant(output),
                output_type: output.dtype,
                clamp: clamp(node, output),
                order: if may_overflow(graph, node, self.accelerator) {
                    accumulation_order(m, self.accelerator)
                } else {
                    AccumulationOrder::Exact
                },
            },
            // On the host too, an operator that touches integers needs their scales.
            LayerMapping::Vector(_) | LayerMapping::Host
                if node.inputs.iter().chain(&node.outputs).any(|&id| graph.value(id).quant.is_some()) =>
            {
                Arithmetic::Elementwise {
                    inputs: node.inputs.iter().map(|&id| quant(graph.value(id))).collect(),
                    input_types: node.inputs.iter().map(|&id| graph.value(id).dtype).collect(),
                    output: quant(output),
                    output_type: output.dtype,
                    clamp: clamp(node, output),
                    op: node.op.clone(),
                }
            }
            LayerMapping::Vector(_) | LayerMapping::Host => Arithmetic::Host { op: node.op.clone() },
            LayerMapping::Free => Arithmetic::Free,
        };
        Layer {
            name: node.name.clone(),
            node: id,
            op: label(graph, node),
            kind,
            macs: Macs(macs),
            dataflow,
            arithmetic,
            inputs: node.inputs.iter().filter_map(|&id| self.ids[id.index()]).collect(),
            outputs: node.outputs.iter().filter_map(|&id| self.ids[id.index()]).collect(),
        }
    }

    /// Which operands of a concatenation are copied: those that are not in place.
    fn parts(&self, node: &Node) -> Vec<usize> {
        let in_place = |id: ValueId| matches!(self.plan.places[id.index()], Some(Place::Part { whole, .. }) if whole == node.outputs[0]);
        (0..node.inputs.len()).filter(|&operand| !in_place(node.inputs[operand])).collect()
    }

    /// What resident operands and results of a node leave of the shared pool.
    fn free(&self, node: &Node) -> (u64, u64) {
        let pool = self.pool();
        let (mut low, mut high) = (0, pool);
        for &id in node.inputs.iter().chain(&node.outputs) {
            if let Some(Place::Resident { top }) = self.plan.places[id.index()] {
                let bytes = self.resident(self.graph.value(id));
                if top {
                    high = high.min(pool - bytes);
                } else {
                    low = low.max(bytes);
                }
            }
        }
        (low, high)
    }
}

/// The operator's name in reports.
fn label(graph: &Graph<Quantized>, node: &Node) -> String {
    match &node.op {
        Op::Conv { groups, .. } if *groups > 1 => {
            let depthwise = graph.value(node.inputs[0]).shape.get(1) == Some(groups);
            if depthwise { "Conv depthwise".into() } else { "Conv grouped".into() }
        }
        op => op.name().into(),
    }
}

/// Strides of a free reshape of a tensor whose rows are not adjacent: neighbouring pixels keep their distance.
fn alias_strides(shape: &[usize], layout: Layout, of: &TensorPlace, element: u64) -> Vec<u64> {
    // A free reshape changes no more than the leading dimensions or drops ones, so that rows of the innermost dimension
    // stay rows; their distance is the whole's pixel stride.
    let [n, h, w, _] = of.layout.loop_strides(&of.strides);
    let row = match of.layout.extents(&of.shape) {
        _ if of.shape.len() < 2 => element,
        [_, _, cols, _] if cols > 1 => w,
        [_, rows, ..] if rows > 1 => h,
        _ => n,
    };
    let mut strides = vec![element; shape.len()];
    if let (Layout::Image, &[_, _, h, w]) = (layout, shape) {
        strides[3] = row;
        strides[2] = row * w as u64;
        strides[0] = row * w as u64 * h as u64;
        return strides;
    }
    let mut distance = row;
    for axis in (0..shape.len().saturating_sub(1)).rev() {
        strides[axis] = distance;
        distance *= shape[axis] as u64;
    }
    strides
}

/// Smallest and largest quantized output: the type's range cut by the fused activation, whose real limits are
/// quantized like any value: `clip(rne(limit / scale) + zero_point)`.
pub fn clamp(node: &Node, output: &Value) -> [i32; 2] {
    let activation = match &node.op {
        Op::Conv { activation, .. } | Op::MatMul { activation, .. } | Op::Add { activation } => *activation,
        _ => Activation::None,
    };
    let (low, high) = output.dtype.int_range().unwrap_or((i64::from(i32::MIN), i64::from(i32::MAX)));
    let narrow = |value: i64| i32::try_from(value).unwrap_or(if value < 0 { i32::MIN } else { i32::MAX });
    let Some(quant) = &output.quant else { return [narrow(low), narrow(high)] };
    let quantized = |real: f32| -> i64 {
        // The cast saturates, and a limit that is not a number leaves the type's range.
        #[allow(clippy::cast_possible_truncation)]
        let steps = (real / quant.scale_of(0)).round_ties_even() as i64;
        steps.saturating_add(i64::from(quant.zero_of(0))).clamp(low, high)
    };
    match activation {
        Activation::None => [narrow(low), narrow(high)],
        Activation::Relu => [narrow(quantized(0.0)), narrow(high)],
        Activation::Clip { low: l, high: h } => [
            if l.is_finite() { narrow(quantized(l)) } else { narrow(low) },
            if h.is_finite() { narrow(quantized(h)) } else { narrow(high) },
        ],
    }
}
