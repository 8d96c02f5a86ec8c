//! The invariants of a graph at each stage. `verify` holds after every importer and pass, `verify_quantized` when a
//! graph is ready for a machine. Faults are reported all at once and never by a panic.

mod quantized;

use std::collections::BTreeSet;

pub use quantized::verify_quantized;

use super::{
    Activation, Constant, Distribution, Graph, Node, Op, Stage, Value, ValueId, infer, infer::shape_text, op::Attribute,
};
use crate::{
    diag::{Diagnostic, Faults},
    tensor::{DType, Quantization, Tensor},
};

/// Checks what holds at every stage:
/// - ids are in range, names of values and of nodes are unique and not empty;
/// - every value has one origin (input, constant or one node) and is made before it is used;
/// - weights and biases of `Conv` and `MatMul` and the parameters of `BatchNorm` are constants; before quantization
///   they may also be dequantized or quantized from one, as the QDQ form has them;
/// - shapes are those that `infer` gives, types fit the operator, attributes are numbers that make sense;
/// - quantization parameters have the length of their axis, positive finite scales and zero points in range;
/// - constants have the shape and the type of their value.
///
/// # Errors
/// Everything that does not hold.
pub fn verify<S: Stage>(graph: &Graph<S>) -> Result<(), Faults> {
    let mut found = Vec::new();
    check_names(graph, &mut found);
    check_values(graph, &mut found);
    check_order(graph, &mut found);
    for node in &graph.nodes {
        if node.inputs.iter().chain(&node.outputs).all(|id| id.index() < graph.values.len()) {
            check_node(graph, node, &mut found);
        }
    }
    Faults::check(found)
}

fn node_fault(node: &Node, message: impl Into<String>) -> Diagnostic {
    Diagnostic::error(message).with_path(format!("node {:?}", node.name))
}

fn value_fault(value: &Value, message: impl Into<String>) -> Diagnostic {
    Diagnostic::error(message).with_path(format!("value {:?}", value.name))
}

fn check_names<S: Stage>(graph: &Graph<S>, found: &mut Vec<Diagnostic>) {
    let mut names = BTreeSet::new();
    for value in &graph.values {
        if value.name.is_empty() {
            found.push(value_fault(value, "a value needs a name"));
        } else if !names.insert(value.name.as_str()) {
            found.push(value_fault(value, "two values have this name"));
        }
    }
    names.clear();
    for node in &graph.nodes {
        if node.name.is_empty() {
            found.push(node_fault(node, "a node needs a name"));
        } else if !names.insert(node.name.as_str()) {
            found.push(node_fault(node, "two nodes have this name"));
        }
    }
}

/// Every value has one origin, and it comes before the uses.
fn check_order<S: Stage>(graph: &Graph<S>, found: &mut Vec<Diagnostic>) {
    let mut made: Vec<bool> = graph.values.iter().map(|value| value.constant.is_some()).collect();
    for &id in &graph.inputs {
        match made.get_mut(id.index()) {
            None => found.push(Diagnostic::error(format!("an input is not a value of the graph: id {}", id.0))),
            Some(true) => found.push(value_fault(graph.value(id), "an input is a constant or is listed twice")),
            Some(made) => *made = true,
        }
    }
    for node in &graph.nodes {
        for &id in &node.inputs {
            match made.get(id.index()) {
                None => found.push(node_fault(node, format!("reads what is not a value of the graph: id {}", id.0))),
                Some(false) => {
                    let name = &graph.value(id).name;
                    found.push(node_fault(node, format!("reads a value before it is made: {name:?}")));
                }
                Some(true) => {}
            }
        }
        for &id in &node.outputs {
            match made.get_mut(id.index()) {
                None => found.push(node_fault(node, format!("makes what is not a value of the graph: id {}", id.0))),
                Some(true) => {
                    let name = &graph.value(id).name;
                    found.push(node_fault(node, format!("makes a value that has another origin: {name:?}")));
                }
                Some(made) => *made = true,
            }
        }
    }
    for &id in &graph.outputs {
        match made.get(id.index()) {
            None => found.push(Diagnostic::error(format!("an output is not a value of the graph: id {}", id.0))),
            Some(false) => found.push(value_fault(graph.value(id), "nothing makes this output")),
            Some(true) => {}
        }
    }
}

fn check_values<S: Stage>(graph: &Graph<S>, found: &mut Vec<Diagnostic>) {
    for value in &graph.values {
        if let Err(error) = infer::infer(&Op::Relu, &[&value.shape], None) {
            let text = match error {
                infer::InferError::Empty { .. } => "has no elements",
                _ => "has more than 2^40 elements",
            };
            found.push(value_fault(value, format!("{text}: {}", shape_text(&value.shape))));
        }
        if let Some(quant) = &value.quant {
            check_quantization(value, quant, found);
        }
        match &value.constant {
            Some(Constant::Dense(tensor)) => check_dense(value, tensor, found),
            Some(Constant::Synthetic(synthetic)) => check_distribution(value, &synthetic.distribution, found),
            None => {}
        }
    }
}

fn check_quantization(value: &Value, quant: &Quantization, found: &mut Vec<Diagnostic>) {
    let Some((low, high)) = value.dtype.int_range() else {
        found.push(value_fault(value, format!("a quantized value has an integer type: {:?}", value.dtype)));
        return;
    };
    let expected = match quant.axis {
        None => Some(1),
        Some(axis) => value.shape.get(axis).copied(),
    };
    match expected {
        None => {
            let message = format!("axis of the scales does not fit the shape: {:?}", quant.axis);
            found.push(value_fault(value, message));
        }
        Some(expected) => {
            for (what, length) in [("scales", quant.scale.len()), ("zero points", quant.zero_point.len())] {
                if length != expected {
                    found.push(value_fault(value, format!("needs {expected} {what}: {length}")));
                }
            }
        }
    }
    if let Some(scale) = quant.scale.iter().find(|scale| !scale.is_finite() || **scale <= 0.0) {
        found.push(value_fault(value, format!("a scale is not a positive finite number: {scale}")));
    }
    if let Some(zero) = quant.zero_point.iter().find(|&&zero| i64::from(zero) < low || i64::from(zero) > high) {
        found.push(value_fault(value, format!("a zero point is outside {low}..={high}: {zero}")));
    }
}

fn check_dense(value: &Value, tensor: &Tensor, found: &mut Vec<Diagnostic>) {
    if tensor.shape() != value.shape {
        let (is, must) = (shape_text(tensor.shape()), shape_text(&value.shape));
        found.push(value_fault(value, format!("its constant must have the shape {must}: {is}")));
    }
    // Types that no tensor stores are kept in the next wider one.
    let stored = match value.dtype {
        DType::Int4 => DType::Int8,
        DType::Fp8 | DType::Bf16 | DType::Fp16 => DType::Fp32,
        other => other,
    };
    if tensor.dtype() != stored {
        found.push(value_fault(value, format!("its constant must be of type {stored:?}: {:?}", tensor.dtype())));
        return;
    }
    if value.dtype == DType::Int4
        && let (Some((low, high)), Tensor::I8(array)) = (value.dtype.int_range(), tensor)
        && let Some(wrong) = array.iter().find(|&&element| !(low..=high).contains(&i64::from(element)))
    {
        found.push(value_fault(value, format!("an element is outside {low}..={high}: {wrong}")));
    }
}

fn check_distribution(value: &Value, distribution: &Distribution, found: &mut Vec<Diagnostic>) {
    let Some((low, high)) = value.dtype.int_range() else {
        found.push(value_fault(value, format!("a synthetic constant has an integer type: {:?}", value.dtype)));
        return;
    };
    let (smallest, largest) = match *distribution {
        Distribution::Normal { sigma, limit } => {
            if !sigma.is_finite() || sigma < 0.0 || limit < 0 {
                let message = format!("a distribution needs a deviation and a limit from 0: {sigma}, {limit}");
                found.push(value_fault(value, message));
            }
            (-i64::from(limit), i64::from(limit))
        }
        Distribution::Uniform { low, high } => {
            if low > high {
                found.push(value_fault(value, format!("a distribution is empty: {low}..={high}")));
            }
            (i64::from(low), i64::from(high))
        }
    };
    if smallest < low || largest > high {
        found.push(value_fault(value, format!("a distribution leaves {low}..={high}: {smallest}..={largest}")));
    }
}

fn check_node<S: Stage>(graph: &Graph<S>, node: &Node, found: &mut Vec<Diagnostic>) {
    let [output] = node.outputs.as_slice() else {
        found.push(node_fault(node, format!("makes one value: {}", node.outputs.len())));
        return;
    };
    let output = graph.value(*output);
    let shapes: Vec<&[usize]> = node.inputs.iter().map(|&id| graph.value(id).shape.as_slice()).collect();
    match infer::infer(&node.op, &shapes, Some(&output.shape)) {
        Err(error) => found.push(node_fault(node, error.to_string())),
        Ok(inferred) => {
            if inferred.first() != Some(&output.shape) {
                let (is, must) =
                    (shape_text(&output.shape), inferred.first().map_or_else(String::new, |s| shape_text(s)));
                found.push(node_fault(node, format!("its result must have the shape {must}: {is}")));
            }
            // Only an operator with the right number of operands has passed `infer`.
            check_constants(graph, node, found);
            check_types(graph.value(node.inputs[0]), output, node, found);
        }
    }
    check_attributes(node, found);
}

fn check_constants<S: Stage>(graph: &Graph<S>, node: &Node, found: &mut Vec<Diagnostic>) {
    if matches!(node.op, Op::Conv { .. } | Op::MatMul { .. } | Op::BatchNorm { .. }) {
        for &id in &node.inputs[1..] {
            let value: &Value = graph.value(id);
            if value.constant.is_none() && !(S::CONVERTS_WEIGHTS && converted_constant(graph, id)) {
                found.push(node_fault(node, format!("needs a constant: {:?}", value.name)));
            }
        }
    }
}

/// Whether a value is a constant behind `QuantizeLinear` and `DequantizeLinear` alone.
fn converted_constant<S: Stage>(graph: &Graph<S>, mut id: ValueId) -> bool {
    // Nodes stand after what they read, so one walk backwards passes every conversion of a chain.
    for node in graph.nodes.iter().rev().filter(|node| matches!(node.op, Op::QuantizeLinear | Op::DequantizeLinear)) {
        if let ([x], [y]) = (node.inputs.as_slice(), node.outputs.as_slice())
            && *y == id
            && x.index() < graph.values.len()
        {
            id = *x;
        }
    }
    graph.value(id).constant.is_some()
}

fn check_types(x: &Value, y: &Value, node: &Node, found: &mut Vec<Diagnostic>) {
    let float = |value: &Value| value.quant.is_none() && !value.dtype.is_integer();
    match &node.op {
        Op::QuantizeLinear if !float(x) || y.quant.is_none() => {
            found.push(node_fault(node, "makes a quantized value of a float one"));
        }
        Op::DequantizeLinear if x.quant.is_none() || !float(y) => {
            found.push(node_fault(node, "makes a float value of a quantized one"));
        }
        _ if node.op.is_selection() && x.dtype != y.dtype => {
            found.push(node_fault(node, format!("keeps the element type: {:?} to {:?}", x.dtype, y.dtype)));
        }
        _ => {}
    }
}

fn check_attributes(node: &Node, found: &mut Vec<Diagnostic>) {
    let attributes = node.op.attributes();
    let fused = |attribute: &Attribute<'_>| match *attribute {
        Attribute::Activation(Activation::Clip { low, high }) => Some((low, high)),
        _ => None,
    };
    let limits = match node.op {
        Op::Clip { low, high } => Some((low, high)),
        _ => attributes.iter().find_map(fused),
    };
    // Written so that a NaN is a fault too.
    if let Some((low, high)) = limits.filter(|(low, high)| low.partial_cmp(high).is_none_or(std::cmp::Ordering::is_gt))
    {
        found.push(node_fault(node, format!("clips to an empty range: {low}..{high}")));
    }
    // Limits may be infinite.
    if limits.is_some() {
        return;
    }
    for (name, attribute) in node.op.spec().attributes.iter().zip(attributes) {
        if let Attribute::Real(number) = attribute
            && !number.is_finite()
        {
            found.push(node_fault(node, format!("`{name}` is not a finite number: {number}")));
        }
    }
}

/// Looks an id up; verified graphs have no other.
fn operand<'a, S: Stage>(graph: &'a Graph<S>, node: &Node, index: usize) -> Option<&'a Value> {
    node.inputs.get(index).map(|&id: &ValueId| graph.value(id))
}

#[cfg(test)]
mod tests;
