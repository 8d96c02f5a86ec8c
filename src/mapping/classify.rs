//! What each node is to the machine: work of the array, of the vector unit, of the host, or nothing to do.

use super::{
    place::extents,
    shape::{MatrixShape, byte_width, walkable},
    vector::{OperandShape, VectorShape},
};
use crate::{
    config::{Accelerator, DepthwisePolicy, MemoryId, VectorFunction},
    ir::{Graph, Node, NodeId, Op, Quantized, Value, ValueId, Window},
};

/// What a node is to the machine.
pub(super) enum Class {
    Matrix(MatrixShape),
    Vector(VectorFunction, VectorShape, bool),
    Concat,
    Host,
    Free,
}

/// Tells what nodes are, with who makes and reads each value at hand.
pub(super) struct Classifier<'a> {
    graph: &'a Graph<Quantized>,
    accelerator: &'a Accelerator,
    /// For each value, the nodes that read it.
    pub consumers: Vec<Vec<NodeId>>,
    producers: Vec<Option<NodeId>>,
}

impl<'a> Classifier<'a> {
    pub fn new(graph: &'a Graph<Quantized>, accelerator: &'a Accelerator) -> Self {
        Self { graph, accelerator, consumers: graph.consumers(), producers: producers(graph) }
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
            Op::Reshape if is_free_reshape(graph.value(node.inputs[0]), output) => Class::Free,
            _ if !node.inputs.iter().all(|&id| quantized(id)) || output.quant.is_none() => Class::Host,
            Op::Conv { groups, .. } if *groups > 1 && self.accelerator.config.depthwise == DepthwisePolicy::Host => {
                Class::Host
            }
            Op::Conv { .. } | Op::MatMul { .. } => match MatrixShape::of(graph, node) {
                Ok(shape) if graph.value(node.inputs[1]).constant.is_some() => Class::Matrix(shape),
                _ => Class::Host,
            },
            // An instruction numbers its operand in eight bits.
            Op::Concat { axis } if is_channel_axis(output, *axis) && node.inputs.len() <= 255 => {
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
                let Some((function, whole_channels)) = vector_function(op, output) else { return Class::Host };
                let Some(shape) = vector_shape(graph, node) else { return Class::Host };
                if vector.cycles_of(function).is_none() {
                    return Class::Host;
                }
                Class::Vector(function, shape, whole_channels)
            }
        }
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

/// Whether a reshape leaves every byte where it lies.
pub(super) fn is_free_reshape(input: &Value, output: &Value) -> bool {
    let spatial = |value: &Value| match *value.shape.as_slice() {
        [_, c, h, w] => c > 1 && h * w > 1,
        _ => false,
    };
    input.shape == output.shape || (!spatial(input) && !spatial(output))
}

/// Whether a dimension lies innermost in memory.
pub(super) fn is_channel_axis(value: &Value, axis: usize) -> bool {
    match value.shape.len() {
        4 => axis == 1,
        rank => axis + 1 == rank,
    }
}

/// The vector unit's function for an operator, and whether channels must stay whole.
fn vector_function(op: &Op, output: &Value) -> Option<(VectorFunction, bool)> {
    Some(match op {
        // An adder compares, and a multiplier scales what is below zero.
        Op::Add { .. } | Op::Min | Op::Max => (VectorFunction::Add, false),
        Op::Mul | Op::PRelu => (VectorFunction::Mul, false),
        Op::MaxPool { .. } | Op::GlobalMaxPool => (VectorFunction::MaxPool, false),
        Op::AvgPool { .. } | Op::GlobalAvgPool => (VectorFunction::AvgPool, false),
        op if op.is_function() => (VectorFunction::Table, false),
        Op::Softmax { axis } if is_channel_axis(output, *axis) => (VectorFunction::Softmax, true),
        _ => return None,
    })
}

pub(super) fn unit_window() -> VectorShape {
    VectorShape {
        output: [1; 4],
        output_element: 1,
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

/// Loop bounds of a vector layer, nothing resident and all in one memory space; `None` where the vector unit's walks do not cover it: other broadcasts, windows that
/// reach further than addresses do.
fn vector_shape(graph: &Graph<Quantized>, node: &Node) -> Option<VectorShape> {
    let output = graph.value(node.outputs[0]);
    let values: Vec<&Value> = node.inputs.iter().map(|&id| graph.value(id)).collect();
    let window = match &node.op {
        Op::MaxPool { window } | Op::AvgPool { window, .. } => Some(*window),
        Op::GlobalAvgPool | Op::GlobalMaxPool => {
            let &[_, _, h, w] = values[0].shape.as_slice() else { return None };
            Some(Window { kernel: [h, w], ..Window::UNIT })
        }
        _ => None,
    };
    let windowed = window.is_some();
    let window = window.unwrap_or(Window::UNIT);
    if windowed && output.shape.len() != 4 {
        return None;
    }
    let whole = extents(&output.shape);
    let mut operands = Vec::new();
    for value in &values {
        let extent = if windowed { extents(&value.shape) } else { broadcast_extents(&value.shape, &output.shape)? };
        let fits = (0..4).all(|i| extent[i] == whole[i] || extent[i] == 1);
        if !windowed && !fits {
            return None;
        }
        operands.push(OperandShape {
            extent: narrow(extent),
            element: byte_width(value.dtype),
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
        output_element: byte_width(output.dtype),
        output_resident: false,
        output_memory: MemoryId(0),
        operands,
        kernel: pair(window.kernel)?,
        stride: pair(window.stride)?,
        dilation: pair(window.dilation)?,
        pad: pair([window.pad[0], window.pad[1]])?,
    })
}

/// `[n, h, w, c]` of an operand that is broadcast to `output`; `None` where the walk of an output of another rank
/// cannot express it.
fn broadcast_extents(shape: &[usize], output: &[usize]) -> Option<[usize; 4]> {
    if shape == output {
        return Some(extents(shape));
    }
    let mut padded = vec![1; output.len().checked_sub(shape.len())?];
    padded.extend_from_slice(shape);
    let leading_ones = padded.iter().rev().skip(1).all(|&dim| dim == 1);
    (output.len() == 4 || leading_ones).then(|| extents(&padded))
}
