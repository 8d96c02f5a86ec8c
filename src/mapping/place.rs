//! Where each value lies before anything stays on chip: in a memory space of its own, in another value's bytes, or on the
//! user's side of the boundary.

use super::classify::{Class, Classifier, View, is_conversion};
use crate::{
    config::{Accelerator, MemoryId},
    ir::{Graph, NodeId, Op, Quantized, ValueId},
};

/// Where a value lies.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Place {
    /// In a memory space of its own ([`super::Plan::memories`]).
    Memory,
    /// In the shared buffer, at its top or bottom end, from its producer to its consumer.
    Resident {
        /// At the high end.
        top: bool,
    },
    /// Same bytes as another value.
    Alias(ValueId),
    /// A range of channels of another value.
    Part {
        /// The concatenation.
        whole: ValueId,
        /// First channel.
        channel: usize,
    },
    /// The same bytes as the other side of a transposition.
    View {
        /// The other side.
        of: ValueId,
        /// The transposition.
        transposition: NodeId,
    },
    /// On the user's side of a boundary conversion.
    Outside,
}

/// Place and memory space of every value, by value index.
pub(super) fn places(
    graph: &Graph<Quantized>,
    accelerator: &Accelerator,
    nodes: &Classifier,
) -> (Vec<Option<Place>>, Vec<MemoryId>) {
    let mut placer = Placer { graph, accelerator, nodes, places: vec![None; graph.values.len()] };
    placer.place();
    let spaces = placer.spaces();
    (placer.places, spaces)
}

struct Placer<'a> {
    graph: &'a Graph<Quantized>,
    accelerator: &'a Accelerator,
    nodes: &'a Classifier<'a>,
    places: Vec<Option<Place>>,
}

impl Placer<'_> {
    fn place(&mut self) {
        let graph = self.graph;
        for &input in &graph.inputs {
            self.places[input.index()] = Some(Place::Memory);
        }
        for (id, node) in graph.nodes_with_ids() {
            for &output in &node.outputs {
                self.places[output.index()] = Some(Place::Memory);
            }
            match &node.op {
                // Conversions between the user's floats and the network's integers are the user's side's work.
                _ if is_conversion(node) && self.nodes.is_boundary_input(node) => {
                    self.places[node.inputs[0].index()] = Some(Place::Outside);
                }
                _ if is_conversion(node) && self.nodes.is_boundary_output(node) => {
                    self.places[node.outputs[0].index()] = Some(Place::Outside);
                }
                Op::Reshape if self.nodes.is_free_reshape(node) => {
                    self.places[node.outputs[0].index()] = Some(Place::Alias(node.inputs[0]));
                }
                Op::Transpose { .. } => {
                    let (x, y) = (node.inputs[0], node.outputs[0]);
                    match self.nodes.view(node) {
                        Some(View::OfOperand) => {
                            self.places[y.index()] = Some(Place::View { of: x, transposition: id });
                        }
                        Some(View::OfResult) => {
                            self.places[x.index()] = Some(Place::View { of: y, transposition: id });
                        }
                        None => {}
                    }
                }
                Op::Concat { axis }
                    if self.nodes.is_channel_axis(node.outputs[0], *axis)
                        && matches!(self.nodes.classify(node), Class::Concat) =>
                {
                    self.place_parts(id);
                }
                _ => {}
            }
            // Constants that operators read as they read activations lie in memory; weights have images of their own.
            let product = matches!(node.op, Op::Conv { .. } | Op::MatMul { .. });
            let read = if product && !matches!(self.nodes.classify(node), Class::Host) { 1 } else { node.inputs.len() };
            for &input in &node.inputs[..read] {
                if graph.value(input).constant.is_some() {
                    self.places[input.index()] = Some(Place::Memory);
                }
            }
        }
        for &output in &graph.outputs {
            self.places[output.index()].get_or_insert(Place::Memory);
        }
    }

    /// Operands of a concatenation that are produced by a layer and have the result's quantization are written where
    /// they will stand in it.
    fn place_parts(&mut self, concat: NodeId) {
        let graph = self.graph;
        let node = graph.node(concat);
        let whole = node.outputs[0];
        let mut channel = 0;
        for &input in &node.inputs {
            let (part, result) = (graph.value(input), graph.value(whole));
            let channels = self.nodes.extents(input)[3];
            let twice = node.inputs.iter().filter(|&&other| other == input).count() > 1;
            let elsewhere = graph.inputs.contains(&input) || graph.outputs.contains(&input);
            // The rows of a part are not adjacent: an alias with rows of another length could not be walked.
            let recut = self.nodes.consumers[input.index()].iter().any(|&consumer| {
                let other = graph.node(consumer);
                matches!(other.op, Op::Reshape) && self.nodes.extents(other.outputs[0])[3] != channels
            });
            if part.quant == result.quant
                && part.dtype == result.dtype
                && part.constant.is_none()
                && self.places[input.index()] == Some(Place::Memory)
                && !twice
                && !elsewhere
                && !recut
            {
                self.places[input.index()] = Some(Place::Part { whole, channel });
            }
            channel += channels;
        }
    }

    /// The memory space of each value: constants are weights; inputs and outputs are those on the machine's side of the
    /// conversions at the boundary; what is both is an input.
    fn spaces(&self) -> Vec<MemoryId> {
        let (graph, machine) = (self.graph, self.accelerator);
        let mut spaces: Vec<MemoryId> = graph
            .values
            .iter()
            .map(|value| if value.constant.is_some() { machine.weight_memory } else { machine.activation_memory })
            .collect();
        for &output in &graph.outputs {
            let made_by = graph.nodes.iter().find(|node| node.outputs.contains(&output));
            let id = match (self.places[output.index()], made_by) {
                (Some(Place::Outside), Some(node)) => node.inputs[0],
                _ => output,
            };
            spaces[self.owner(id).index()] = machine.output_memory;
        }
        for &input in &graph.inputs {
            if self.places[input.index()] == Some(Place::Outside) {
                for &consumer in &self.nodes.consumers[input.index()] {
                    spaces[self.owner(graph.node(consumer).outputs[0]).index()] = machine.input_memory;
                }
            } else {
                spaces[input.index()] = machine.input_memory;
            }
        }
        (0_u32..).zip(&graph.values).map(|(index, _)| spaces[self.owner(ValueId(index)).index()]).collect()
    }

    /// The value whose bytes hold another's.
    fn owner(&self, mut id: ValueId) -> ValueId {
        while let Some(Place::Alias(of) | Place::Part { whole: of, .. } | Place::View { of, .. }) =
            self.places[id.index()]
        {
            id = of;
        }
        id
    }
}
