//! What a graph must satisfy to be mapped onto a machine, beyond what holds at every stage.

use super::{Diagnostic, Faults, Graph, Node, Op, Value, node_fault, operand, value_fault, verify};
use crate::{
    ir::{Constant, Quantized},
    tensor::DType,
};

/// Checks [`verify`] and, if that holds, what [`Quantized`] promises:
/// - no batch normalization; every constant is bound;
/// - `Conv` and `MatMul` have quantized values only; any other operator has either quantized values only or float values
///   only (it runs on the host);
/// - quantized activations have 4, 8 or 16 bits and one scale for the tensor;
/// - weights have at most 16 bits and one scale for the tensor or one for each output channel; biases are int32 with
///   zero point 0 and the scale `f32(x_scale * w_scale[c])`, bit for bit;
/// - `MaxPool`, `Reshape`, `Transpose` and `Pad` keep the element type and the parameters.
///
/// # Errors
/// Everything that does not hold.
pub fn verify_quantized(graph: &Graph<Quantized>) -> Result<(), Faults> {
    verify(graph)?;
    let mut found = Vec::new();
    for node in &graph.nodes {
        match &node.op {
            Op::BatchNorm { .. } => found.push(node_fault(node, "batch normalization is not folded")),
            Op::QuantizeLinear => activation(graph.value(node.outputs[0]), &mut found),
            Op::DequantizeLinear => {}
            Op::Conv { .. } => weighted(graph, node, 0, &mut found),
            Op::MatMul { transposed, .. } => weighted(graph, node, usize::from(!transposed), &mut found),
            _ => other(graph, node, &mut found),
        }
    }
    for &id in &graph.inputs {
        let value = graph.value(id);
        if value.quant.is_some() {
            activation(value, &mut found);
        }
    }
    Faults::check(found)
}

/// A quantized activation: 4, 8 or 16 bits, one scale.
fn activation(value: &Value, found: &mut Vec<Diagnostic>) {
    let Some(quant) = &value.quant else {
        found.push(value_fault(value, "is not quantized"));
        return;
    };
    if !matches!(value.dtype, DType::Int4 | DType::Int8 | DType::UInt8 | DType::Int16 | DType::UInt16) {
        found.push(value_fault(value, format!("an activation has 4, 8 or 16 bits: {:?}", value.dtype)));
    }
    if !quant.is_per_tensor() {
        found.push(value_fault(value, format!("an activation has one scale: {}", quant.scale.len())));
    }
}

/// `Conv` and `MatMul`; the weight's output channels run along `axis`.
fn weighted(graph: &Graph<Quantized>, node: &Node, axis: usize, found: &mut Vec<Diagnostic>) {
    let (Some(x), Some(w)) = (operand(graph, node, 0), operand(graph, node, 1)) else { return };
    let y = graph.value(node.outputs[0]);
    activation(x, found);
    activation(y, found);
    let (Some(x_quant), Some(w_quant)) = (&x.quant, &w.quant) else {
        if w.quant.is_none() {
            found.push(node_fault(node, format!("its weight is not quantized: {:?}", w.name)));
        }
        return;
    };
    if w.dtype.bits() > 16 {
        found.push(value_fault(w, format!("a weight has at most 16 bits: {:?}", w.dtype)));
    }
    if w_quant.axis.is_some_and(|is| is != axis) {
        let message = format!("scales of a weight run along its output channels, dimension {axis}: {:?}", w_quant.axis);
        found.push(value_fault(w, message));
        return;
    }
    let Some(b) = operand(graph, node, 2) else { return };
    if b.dtype != DType::Int32 {
        found.push(value_fault(b, format!("a bias is of type Int32: {:?}", b.dtype)));
    }
    let Some(b_quant) = &b.quant else {
        found.push(value_fault(b, "a bias has the scale of input times weight: none"));
        return;
    };
    if !b_quant.is_symmetric() {
        found.push(value_fault(b, "a bias has zero point 0"));
    }
    for channel in 0..w.shape[axis] {
        let expected = x_quant.scale_of(0) * w_quant.scale_of(channel);
        let is = b_quant.scale_of(channel);
        if is.to_bits() != expected.to_bits() {
            let message = format!("scale {channel} of a bias is that of input times weight, {expected:e}: {is:e}");
            found.push(value_fault(b, message));
            return;
        }
    }
}

/// Every operator without weights.
fn other(graph: &Graph<Quantized>, node: &Node, found: &mut Vec<Diagnostic>) {
    let y = graph.value(node.outputs[0]);
    let values: Vec<&Value> = node.inputs.iter().map(|&id| graph.value(id)).chain([y]).collect();
    let quantized = values.iter().filter(|value| value.quant.is_some()).count();
    if quantized == 0 {
        return;
    }
    if quantized < values.len() {
        let float = values.iter().find(|value| value.quant.is_none()).map_or("", |value| value.name.as_str());
        found.push(node_fault(node, format!("has quantized and float values: {float:?} is float")));
        return;
    }
    for value in &values {
        // A value is judged where it is made; constants and inputs have no such place.
        if value.name == y.name || matches!(value.constant, Some(Constant::Dense(_) | Constant::Synthetic(_))) {
            activation(value, found);
        }
    }
    if node.op.is_selection() && (values[0].dtype != y.dtype || values[0].quant != y.quant) {
        found.push(node_fault(node, "keeps the element type and the scale"));
    }
}
