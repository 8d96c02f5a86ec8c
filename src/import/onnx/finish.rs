//! The last touches on an imported graph: scales reach the values that only move, and what nothing needs goes.

use crate::{
    ir::{Float, Graph, Node, Op, Value, ValueId},
    tensor::Quantization,
};

/// Whether the operator only moves elements, so that one scale serves operand and result.
fn moves(op: &Op) -> bool {
    op.is_selection() && !matches!(op, Op::Pad { .. }) || matches!(op, Op::Concat { .. })
}

/// Gives integer values that are only moved the scale of the value that they come from or go to.
pub(super) fn spread_scales(graph: &mut Graph<Float>) {
    fn give(value: &mut Value, quant: &Quantization) {
        if value.quant.is_none() && value.constant.is_none() && value.dtype.is_integer() {
            value.quant = Some(quant.clone());
        }
    }
    let single = |value: &Value| value.quant.clone().filter(Quantization::is_per_tensor);
    let Graph { nodes, values, .. } = graph;
    for node in nodes.iter().rev().filter(|node| moves(&node.op)) {
        if let Some(quant) = single(&values[node.outputs[0].index()]) {
            for input in &node.inputs {
                give(&mut values[input.index()], &quant);
            }
        }
    }
    for node in nodes.iter().filter(|node| moves(&node.op)) {
        if let Some(quant) = single(&values[node.inputs[0].index()]) {
            give(&mut values[node.outputs[0].index()], &quant);
        }
    }
}

/// Removes nodes and values that no output needs; inputs stay.
pub(super) fn prune(graph: Graph<Float>) -> Graph<Float> {
    let mut needed = vec![false; graph.values.len()];
    for id in graph.outputs.iter().chain(&graph.inputs) {
        needed[id.index()] = true;
    }
    let mut kept: Vec<Node> = Vec::with_capacity(graph.nodes.len());
    for node in graph.nodes.into_iter().rev() {
        if node.outputs.iter().any(|output| needed[output.index()]) {
            for input in &node.inputs {
                needed[input.index()] = true;
            }
            kept.push(node);
        }
    }
    let mut result = Graph::new(graph.name);
    let mut moved = vec![None; needed.len()];
    for ((value, needed), place) in graph.values.into_iter().zip(&needed).zip(&mut moved) {
        if *needed {
            *place = Some(result.add_value(value));
        }
    }
    let place = |ids: Vec<ValueId>| -> Vec<ValueId> { ids.into_iter().filter_map(|id| moved[id.index()]).collect() };
    for node in kept.into_iter().rev() {
        result.add_node(Node { inputs: place(node.inputs), outputs: place(node.outputs), ..node });
    }
    result.inputs = place(graph.inputs);
    result.outputs = place(graph.outputs);
    result
}
