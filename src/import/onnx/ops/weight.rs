//! Weights and biases under another shape or order: a constant is rewritten, and a dequantized constant is rewritten
//! below its `DequantizeLinear`, so that later passes still find constant, `DequantizeLinear`, operator.

use std::sync::Arc;

use crate::{
    import::onnx::{
        fold::movement,
        importer::{Encoding, Importer, NameSuffix},
        limits::Fallible,
        node::NodeView,
    },
    ir::{Op, ValueId},
    tensor::Quantization,
};

/// Per-channel parameters after a reshape from `from` to `to`; `None` if the channels' dimension is torn.
fn reshaped_axis(quant: &Quantization, from: &[usize], to: &[usize]) -> Option<Quantization> {
    let Some(axis) = quant.axis else { return Some(quant.clone()) };
    let before = |shape: &[usize], axis: usize| shape[..axis].iter().product::<usize>();
    let kept = (0..to.len()).find(|&new| to[new] == from[axis] && before(to, new) == before(from, axis))?;
    Some(Quantization { axis: Some(kept), ..quant.clone() })
}

/// A constant, a dequantized constant or one that is quantized first, under another shape; `None` if `value` is none of
/// them.
pub(super) fn reshaped<'m>(
    imp: &mut Importer<'m>,
    node: &NodeView<'m>,
    value: ValueId,
    shape: &[usize],
) -> Fallible<Option<ValueId>> {
    if imp.graph.value(value).shape == shape {
        return Ok(Some(value));
    }
    let source = imp.dequantized_constant(value).unwrap_or(value);
    let Some(tensor) = imp.tensor_of(source) else { return reshaped_before_quantization(imp, node, value, shape) };
    let before = imp.graph.value(source);
    let quant = match &before.quant {
        Some(quant) => match reshaped_axis(quant, &before.shape, shape) {
            Some(quant) => Some(quant),
            None => return Ok(None),
        },
        None => None,
    };
    let tensor = movement::reshaped(&tensor, shape, &mut imp.budget)?;
    rebuilt(imp, node, value, source, tensor, quant).map(Some)
}

/// A float constant that goes through `QuantizeLinear` and `DequantizeLinear`, reshaped before both.
fn reshaped_before_quantization<'m>(
    imp: &mut Importer<'m>,
    node: &NodeView<'m>,
    value: ValueId,
    shape: &[usize],
) -> Fallible<Option<ValueId>> {
    let input_of = |value: ValueId, op: &Op| {
        let node = imp.producer(value).filter(|node| node.op == *op)?;
        node.inputs.first().copied()
    };
    let Some(integers) = input_of(value, &Op::DequantizeLinear) else { return Ok(None) };
    let Some(floats) = input_of(integers, &Op::QuantizeLinear) else { return Ok(None) };
    let Some(tensor) = imp.tensor_of(floats) else { return Ok(None) };
    let before = imp.graph.value(integers);
    let dtype = before.dtype;
    let Some(quant) = before.quant.as_ref().and_then(|quant| reshaped_axis(quant, &before.shape, shape)) else {
        return Ok(None);
    };
    let tensor = movement::reshaped(&tensor, shape, &mut imp.budget)?;
    let base = imp.graph.value(floats).name.clone();
    let constant = imp.derive_constant(tensor, &base, None)?;
    let encoding = Encoding { dtype, quant: Some(quant) };
    let integers =
        imp.emit(node, NameSuffix::helper("quantized"), Op::QuantizeLinear, vec![constant], encoding, None)?;
    imp.emit(node, NameSuffix::helper("dequantized"), Op::DequantizeLinear, vec![integers], Encoding::FLOAT, None)
        .map(Some)
}

/// A constant or dequantized constant with its dimensions in another order; `None` if `value` is neither.
pub(super) fn transposed<'m>(
    imp: &mut Importer<'m>,
    node: &NodeView<'m>,
    value: ValueId,
    perm: &[usize],
) -> Fallible<Option<ValueId>> {
    let source = imp.dequantized_constant(value).unwrap_or(value);
    let Some(tensor) = imp.tensor_of(source) else { return Ok(None) };
    let quant = imp.graph.value(source).quant.clone().map(|quant| {
        let axis = quant.axis.and_then(|axis| perm.iter().position(|&from| from == axis));
        Quantization { axis, ..quant }
    });
    let tensor = movement::transposed(&tensor, perm, &mut imp.budget)?;
    rebuilt(imp, node, value, source, tensor, quant).map(Some)
}

fn rebuilt<'m>(
    imp: &mut Importer<'m>,
    node: &NodeView<'m>,
    value: ValueId,
    source: ValueId,
    tensor: Arc<crate::tensor::Tensor>,
    quant: Option<Quantization>,
) -> Fallible<ValueId> {
    let before = imp.graph.value(source);
    let (dtype, base) = (before.dtype, before.name.clone());
    let constant = imp.derive_constant(tensor, &base, quant)?;
    // Of 4 bits, which tensors hold in 8.
    imp.graph.value_mut(constant).dtype = dtype;
    if source == value {
        return Ok(constant);
    }
    imp.emit(node, NameSuffix::helper("dequantized"), Op::DequantizeLinear, vec![constant], Encoding::FLOAT, None)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn per_channel_parameters_follow_their_dimension_or_refuse() {
        let quant = Quantization { scale: vec![1.0; 4], zero_point: vec![0; 4], axis: Some(0) };
        assert_eq!(reshaped_axis(&quant, &[4, 2, 3], &[4, 2, 1, 3]).unwrap().axis, Some(0));
        assert_eq!(reshaped_axis(&quant, &[4, 6], &[1, 4, 6]).unwrap().axis, Some(1));
        assert!(reshaped_axis(&quant, &[4, 6], &[24]).is_none());
    }
}
