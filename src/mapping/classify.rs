//! What each node is to the machine: work of the array, of the vector unit, of the host, or nothing to do.

use super::{
    layout::{Layout, layouts},
    shape::{MatrixShape, walkable},
    vector::{OperandShape, VectorShape},
};
use crate::{
    config::{Accelerator, DepthwisePolicy, MemoryId, VectorFunction},
    ir::{Graph, Kind, Node, NodeId, Op, Quantized, Value, ValueId, Window},
    tensor::DType,
};

/// What a node is to the machine.
pub(super) enum Class {
    Matrix(MatrixShape),
    Vector(VectorFunction, VectorShape, bool),
    Concat,
    Host,
    Free,
}

/// Which side of a transposition is a view of the other.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum View {
    /// The result is read where the operand lies.
    OfOperand,
    /// The operand is written where it will stand in the result.
    OfResult,
}

/// Tells what nodes are, with who makes and reads each value at hand.
pub(super) struct Classifier<'a> {
    graph: &'a Graph<Quantized>,
    accelerator: &'a Accelerator,
    /// How each value lies.
    pub layouts: Vec<Layout>,
    /// For each value, the nodes that read it.
    pub consumers: Vec<Vec<NodeId>>,
    producers: Vec<Option<NodeId>>,
}

impl<'a> Classifier<'a> {
    pub fn new(graph: &'a Graph<Quantized>, accelerator: &'a Accelerator) -> Self {
        Self { graph, accelerator, layouts: layouts(graph), consumers: graph.consumers(), producers: producers(graph) }
    }

    /// Whether a conversion belongs to the user's side of an input: nothing but conversions stand before it, and no one
    /// else reads what they convert.
    pub fn is_boundary_input(&self, node: &Node) -> bool {
        let mut value = node.inputs[0];
        loop {
            if self.consumers[value.index()].len() != 1 || self.graph.outputs.contains(&value) {
                return false;
            }
            if self.graph.inputs.contains(&value) {
                return true;
            }
            match self.producers[value.index()].map(|id| self.graph.node(id)) {
                Some(before) if is_conversion(before) => value = before.inputs[0],
                _ => return false,
            }
        }
    }

    /// Whether a conversion belongs to the user's side of an output: nothing but conversions stand behind it.
    pub fn is_boundary_output(&self, node: &Node) -> bool {
        let mut value = node.outputs[0];
        loop {
            match self.consumers[value.index()].as_slice() {
                [] => return self.graph.outputs.contains(&value),
                &[consumer] if is_conversion(self.graph.node(consumer)) && !self.graph.outputs.contains(&value) => {
                    value = self.graph.node(consumer).outputs[0];
                }
                _ => return false,
            }
        }
    }

    /// What a node is.
    pub fn classify(&self, node: &Node) -> Class {
        let graph = self.graph;
        let vector = &self.accelerator.config.vector;
        let quantized = |id: ValueId| graph.value(id).quant.is_some();
        let output = graph.value(node.outputs[0]);
        match &node.op {
            Op::QuantizeLinear | Op::DequantizeLinear => {
                if self.is_boundary_input(node) || self.is_boundary_output(node) { Class::Free } else { Class::Host }
            }
            Op::Reshape if self.is_free_reshape(node) => Class::Free,
            _ if !node.inputs.iter().all(|&id| quantized(id)) || output.quant.is_none() => Class::Host,
            Op::Conv { groups, .. } if *groups > 1 && self.accelerator.config.depthwise == DepthwisePolicy::Host => {
                Class::Host
            }
            Op::BatchMatMul => MatrixShape::of(graph, node).map_or(Class::Host, Class::Matrix),
            Op::Transpose { .. } if self.view(node).is_some() => Class::Free,
            Op::Conv { .. } | Op::MatMul { .. } => match MatrixShape::of(graph, node) {
                Ok(shape) if graph.value(node.inputs[1]).constant.is_some() => Class::Matrix(shape),
                _ => Class::Host,
            },
            // An instruction numbers its operand in eight bits.
            Op::Concat { axis } if self.is_channel_axis(node.outputs[0], *axis) && node.inputs.len() <= 255 => {
                let needs_table = node
                    .inputs
                    .iter()
                    .any(|&id| graph.value(id).quant != output.quant || graph.value(id).dtype != output.dtype);
                if needs_table && vector.cycles_of(VectorFunction::Table).is_none() {
                    Class::Host
                } else {
                    Class::Concat
                }
            }
            op => {
                let Some((function, whole_channels)) = self.vector_function(op, node.outputs[0]) else {
                    return Class::Host;
                };
                let Some(shape) = self.vector_shape(node) else { return Class::Host };
                if vector.cycles_of(function).is_none() {
                    return Class::Host;
                }
                Class::Vector(function, shape, whole_channels)
            }
        }
    }

    /// Whether a transposition moves nothing, because one side is a view of the other.
    pub fn view(&self, node: &Node) -> Option<View> {
        let (graph, from, to) = (self.graph, node.inputs[0], node.outputs[0]);
        let bounds = |id: ValueId| graph.inputs.contains(&id) || graph.outputs.contains(&id);
        if graph.value(from).quant.is_none() || graph.value(from).constant.is_some() || bounds(to) {
            return None;
        }
        let on_array = |id: &NodeId| {
            let node = graph.node(*id);
            node.op.kind() == Kind::Pair && matches!(self.classify(node), Class::Matrix(_))
        };
        let made_by = self.producers[from.index()];
        if made_by.as_ref().is_some_and(on_array) && self.consumers[from.index()].len() == 1 && !bounds(from) {
            return Some(View::OfResult);
        }
        self.consumers[to.index()].iter().all(on_array).then_some(View::OfOperand)
    }

    /// Trips of the loops over a value.
    pub fn extents(&self, id: ValueId) -> [usize; 4] {
        self.layouts[id.index()].extents(&self.graph.value(id).shape)
    }

    /// Whether a dimension lies innermost in memory.
    pub fn is_channel_axis(&self, id: ValueId, axis: usize) -> bool {
        self.layouts[id.index()].channel_axis(self.graph.value(id).shape.len()) == axis
    }

    /// Whether a reshape leaves every byte where it lies.
    pub fn is_free_reshape(&self, node: &Node) -> bool {
        let (from, to) = (node.inputs[0], node.outputs[0]);
        let row_major = |id: ValueId| self.layouts[id.index()].is_row_major(&self.graph.value(id).shape);
        let same = self.layouts[from.index()] == self.layouts[to.index()];
        (same && self.graph.value(from).shape == self.graph.value(to).shape) || (row_major(from) && row_major(to))
    }

    /// The vector unit's function for an operator, and whether channels must stay whole.
    fn vector_function(&self, op: &Op, output: ValueId) -> Option<(VectorFunction, bool)> {
        Some(match op {
            // An adder compares, and a multiplier scales what is below zero.
            Op::Add { .. } | Op::Min | Op::Max => (VectorFunction::Add, false),
            Op::Mul | Op::PRelu => (VectorFunction::Mul, false),
            Op::MaxPool { .. } | Op::GlobalMaxPool => (VectorFunction::MaxPool, false),
            Op::AvgPool { .. } | Op::GlobalAvgPool => (VectorFunction::AvgPool, false),
            op if op.is_function() => (VectorFunction::Table, false),
            Op::Softmax { axis } if self.is_channel_axis(output, *axis) => (VectorFunction::Softmax, true),
            _ => return None,
        })
    }

    /// Loop bounds of a vector layer, nothing resident and all in one memory space; `None` where the vector unit's
    /// walks do not cover it: other broadcasts, windows that reach further than addresses do.
    fn vector_shape(&self, node: &Node) -> Option<VectorShape> {
        let graph = self.graph;
        let output = graph.value(node.outputs[0]);
        let values: Vec<&Value> = node.inputs.iter().map(|&id| graph.value(id)).collect();
        let layout = self.layouts[node.outputs[0].index()];
        let window = match &node.op {
            Op::MaxPool { window } | Op::AvgPool { window, .. } => *window,
            Op::GlobalAvgPool | Op::GlobalMaxPool => {
                let &[_, _, h, w] = values[0].shape.as_slice() else { return None };
                Window { kernel: [h, w], stride: [1, 1], dilation: [1, 1], pad: [0; 4] }
            }
            _ => Window::UNIT,
        };
        let windowed =
            matches!(node.op, Op::MaxPool { .. } | Op::AvgPool { .. } | Op::GlobalAvgPool | Op::GlobalMaxPool);
        if windowed && output.shape.len() != 4 {
            return None;
        }
        let whole = layout.extents(&output.shape);
        let mut operands = Vec::new();
        for (value, &id) in values.iter().zip(&node.inputs) {
            let extent =
                if windowed { self.extents(id) } else { broadcast_extents(layout, &value.shape, &output.shape)? };
            let fits = (0..4).all(|i| extent[i] == whole[i] || extent[i] == 1);
            if !windowed && !fits {
                return None;
            }
            operands.push(OperandShape {
                extent: narrow(extent),
                element: value.dtype,
                resident: false,
                memory: MemoryId(0),
            });
        }
        if windowed && !walkable(values[0], &window) {
            return None;
        }
        let pair = |of: [usize; 2]| Some([u32::try_from(of[0]).ok()?, u32::try_from(of[1]).ok()?]);
        Some(VectorShape {
            output: narrow(whole),
            output_element: output.dtype,
            output_resident: false,
            output_memory: MemoryId(0),
            operands,
            kernel: pair(window.kernel)?,
            stride: pair(window.stride)?,
            dilation: pair(window.dilation)?,
            pad: pair([window.pad[0], window.pad[1]])?,
        })
    }
}

/// The node that makes each value.
fn producers(graph: &Graph<Quantized>) -> Vec<Option<NodeId>> {
    let mut producers = vec![None; graph.values.len()];
    for (id, node) in graph.nodes_with_ids() {
        for output in &node.outputs {
            producers[output.index()] = Some(id);
        }
    }
    producers
}

/// Whether a node only converts between real and quantized values.
pub(super) const fn is_conversion(node: &Node) -> bool {
    matches!(node.op, Op::QuantizeLinear | Op::DequantizeLinear)
}

pub(super) fn unit_window() -> VectorShape {
    VectorShape {
        output: [1; 4],
        output_element: DType::UInt8,
        output_resident: false,
        output_memory: MemoryId(0),
        operands: Vec::new(),
        kernel: [1, 1],
        stride: [1, 1],
        dilation: [1, 1],
        pad: [0, 0],
    }
}

pub(super) fn narrow(extent: [usize; 4]) -> [u32; 4] {
    extent.map(|dim| u32::try_from(dim).expect("`check_sizes` has refused larger tensors"))
}

/// `[n, h, w, c]` of an operand that is broadcast to `output`; `None` where the walk of an output of another rank
/// cannot express it.
fn broadcast_extents(layout: Layout, shape: &[usize], output: &[usize]) -> Option<[usize; 4]> {
    if shape == output {
        return Some(layout.extents(shape));
    }
    let mut padded = vec![1; output.len().checked_sub(shape.len())?];
    padded.extend_from_slice(shape);
    let leading_ones = padded.iter().rev().skip(1).all(|&dim| dim == 1);
    (output.len() == 4 || leading_ones).then(|| layout.extents(&padded))
}
