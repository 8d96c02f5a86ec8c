//! `QuantizeLinear` and `DequantizeLinear`, and the scales and zero points that all quantized operators carry as
//! operands.

use super::window;
use crate::{
    import::onnx::{
        importer::{Binding, Encoding, Importer},
        limits::{Fallible, clip, refuse},
        node::{NodeView, axis},
        tensor,
    },
    ir::{Op, ValueId},
    tensor::{DType, Quantization},
};

/// Scale and zero point of an operand or result, with the zero point's type where it is given.
pub(super) struct Scales {
    /// The parameters.
    pub quant: Quantization,
    /// Type of the zero point.
    pub dtype: Option<DType>,
}

impl Scales {
    /// Reads the operands `scale` and `zero`. A list of them runs along `along`; where that is `None` it is refused.
    pub(super) fn read(
        imp: &mut Importer<'_>,
        node: &NodeView<'_>,
        scale: usize,
        zero: usize,
        along: Option<usize>,
    ) -> Fallible<Self> {
        let name = |index: usize| clip(node.input(index).unwrap_or_default());
        let Some(tensor) = constant(imp, node, scale)? else { refuse!("scale, operand {scale}, is missing") };
        // A list of scales is copied for each reader.
        imp.budget.charge(tensor.len(), 16)?;
        if tensor.dtype() != DType::Fp32 {
            refuse!("scale {:?} is {:?}; expected float", name(scale), tensor.dtype());
        }
        let scales = tensor.to_f32();
        if let Some(wrong) = scales.iter().find(|scale| !(scale.is_finite() && **scale > 0.0)) {
            refuse!("scale {:?} must be finite and positive: {wrong}", name(scale));
        }
        if scales.is_empty() || tensor.shape().iter().filter(|&&dim| dim != 1).count() > 1 {
            refuse!("scale {:?} must be a scalar or a list: shape {:?}", name(scale), tensor.shape());
        }
        let axis = match along {
            _ if scales.len() == 1 => None,
            Some(axis) => Some(axis),
            None => refuse!("scale {:?} has {} values; only one is supported here", name(scale), scales.len()),
        };
        let mut quant = Quantization { zero_point: vec![0; scales.len()], scale: scales, axis };
        let mut dtype = None;
        if let Some(tensor) = constant(imp, node, zero)? {
            if tensor.len() != 1 && tensor.len() != quant.scale.len() {
                refuse!("{} zero points in {:?} for {} scales", tensor.len(), name(zero), quant.scale.len());
            }
            let Some(values) = tensor.to_integers() else { refuse!("zero point {:?} must be an integer", name(zero)) };
            let values = values.iter().map(|&value| i32::try_from(value)).collect::<Result<Vec<_>, _>>();
            let values = values.map_err(|_| format!("zero point {:?} does not fit 32 bits", name(zero)))?;
            if let [one] = *values {
                quant.zero_point.fill(one);
            } else {
                quant.zero_point = values;
            }
            dtype = Some(imp.dtype_of(&tensor));
        }
        Ok(Self { quant, dtype })
    }

    /// Reads the parameters of operand `index`, and checks their type and number against it.
    pub(super) fn of(
        imp: &mut Importer<'_>,
        node: &NodeView<'_>,
        index: usize,
        scale: usize,
        zero: usize,
        along: Option<usize>,
    ) -> Fallible<Self> {
        let scales = Self::read(imp, node, scale, zero, along)?;
        let (dtype, shape) = match imp.binding(node, index)? {
            Some(Binding::Value(id)) => (imp.graph.value(id).dtype, imp.shape(id)),
            Some(Binding::Constant(tensor, _)) => (imp.dtype_of(&tensor), tensor.shape().to_vec()),
            _ => refuse!("operand {index} is missing"),
        };
        let name = clip(node.input(index).unwrap_or_default());
        let known = [DType::Int4, DType::Int8, DType::UInt8, DType::Int16, DType::UInt16, DType::Int32];
        if !known.contains(&dtype) {
            refuse!("operand {name:?} is {dtype:?}; expected a quantized type");
        }
        if scales.dtype.is_some_and(|zero| zero != dtype) {
            refuse!("operand {name:?} is {dtype:?}, but its zero point is {:?}", scales.dtype.unwrap_or(dtype));
        }
        if let Some(axis) = scales.quant.axis
            && shape.get(axis) != Some(&scales.quant.scale.len())
        {
            refuse!("{} scales for dimension {axis} of {name:?}, which has shape {shape:?}", scales.quant.scale.len());
        }
        Ok(scales)
    }

    /// The parameters of a bias for this weight: scale `f32(input scale * weight scale)`, zero point 0.
    pub(super) fn bias(&self, input_scale: f32) -> Fallible<Quantization> {
        let scale: Vec<f32> = self.quant.scale.iter().map(|scale| input_scale * scale).collect();
        if let Some(wrong) = scale.iter().find(|scale| !(scale.is_finite() && **scale > 0.0)) {
            refuse!("input scale times weight scale must be finite and positive: {wrong}");
        }
        Ok(Quantization { zero_point: vec![0; scale.len()], axis: self.quant.axis.map(|_| 0), scale })
    }
}

/// A constant operand, looking through nothing.
fn constant(
    imp: &Importer<'_>,
    node: &NodeView<'_>,
    index: usize,
) -> Fallible<Option<std::sync::Arc<crate::tensor::Tensor>>> {
    let Some(name) = node.input(index) else { return Ok(None) };
    match imp.names.get(name) {
        Some(Binding::Constant(tensor, _)) => Ok(Some(std::sync::Arc::clone(tensor))),
        _ => refuse!("scale or zero point {:?} must be a constant", clip(name)),
    }
}

/// A quantized operand with one scale.
pub(super) fn activation<'m>(
    imp: &mut Importer<'m>,
    node: &NodeView<'m>,
    index: usize,
    scale: usize,
    zero: usize,
) -> Fallible<ValueId> {
    let scales = Scales::of(imp, node, index, scale, zero, None)?;
    imp.quantized(node, index, scales.quant)
}

/// A quantized weight, which must be constant.
pub(super) fn weight<'m>(
    imp: &mut Importer<'m>,
    node: &NodeView<'m>,
    index: usize,
    scales: Scales,
) -> Fallible<ValueId> {
    imp.constant(node, index)?;
    imp.quantized(node, index, scales.quant)
}

/// An int32 bias, which must be constant.
pub(super) fn bias<'m>(
    imp: &mut Importer<'m>,
    node: &NodeView<'m>,
    index: usize,
    quant: Quantization,
) -> Fallible<ValueId> {
    let Some(tensor) = imp.constant(node, index)? else { refuse!("bias is missing") };
    if tensor.dtype() != DType::Int32 {
        refuse!("bias is {:?}; expected Int32", tensor.dtype());
    }
    imp.quantized(node, index, quant)
}

/// Type and parameters of a quantized result; its type is the zero point's, or else that of operand `like`.
pub(super) fn result(
    imp: &mut Importer<'_>,
    node: &NodeView<'_>,
    scale: usize,
    zero: usize,
    like: ValueId,
) -> Fallible<Encoding> {
    let scales = Scales::read(imp, node, scale, zero, None)?;
    let dtype = scales.dtype.unwrap_or(imp.graph.value(like).dtype);
    if !matches!(dtype, DType::Int8 | DType::UInt8 | DType::Int16 | DType::UInt16) {
        refuse!("result of type {dtype:?} is not supported");
    }
    Ok(Encoding { dtype, quant: Some(scales.quant) })
}

/// Refuses quantization in blocks, and reads the axis.
fn channel_axis(node: &NodeView<'_>, rank: usize) -> Fallible<Option<usize>> {
    if node.int("block_size", 0)? != 0 {
        refuse!("attribute not supported: `block_size`");
    }
    // A scalar or a tensor with one scale has no use for the axis, whose default may not exist.
    Ok(axis(node.int("axis", 1)?, rank).ok())
}

/// The type that an attribute names; `None` where it is absent or 0.
fn named_type(node: &NodeView<'_>, attribute: &str) -> Fallible<Option<DType>> {
    match node.int(attribute, 0)? {
        0 => Ok(None),
        number => {
            let number = i32::try_from(number).map_err(|_| format!("unknown type in `{attribute}`"))?;
            Ok(Some(tensor::dtype(number)?))
        }
    }
}

/// `QuantizeLinear`: `[x, scale, zero?]`.
pub(super) fn quantize<'m>(imp: &mut Importer<'m>, node: &NodeView<'m>) -> Fallible<Vec<Binding<'m>>> {
    let x = imp.float(node, 0)?;
    let shape = imp.shape(x);
    let along = channel_axis(node, shape.len())?;
    if named_type(node, "precision")?.is_some_and(|dtype| dtype != DType::Fp32) {
        refuse!("attribute not supported: `precision`");
    }
    let scales = Scales::read(imp, node, 1, 2, along)?;
    let asked = named_type(node, "output_dtype")?;
    let dtype = scales.dtype.or(asked).unwrap_or(DType::UInt8);
    if asked.is_some_and(|asked| asked != dtype) {
        refuse!("`output_dtype` is {asked:?}, but the zero point is {dtype:?}");
    }
    if !matches!(dtype, DType::Int4 | DType::Int8 | DType::UInt8 | DType::Int16 | DType::UInt16) {
        refuse!("quantization to {dtype:?} is not supported");
    }
    if let Some(axis) = scales.quant.axis
        && shape[axis] != scales.quant.scale.len()
    {
        refuse!("{} scales for dimension {axis} of shape {shape:?}", scales.quant.scale.len());
    }
    let encoding = Encoding { dtype, quant: Some(scales.quant) };
    Ok(vec![Binding::Value(window::pointwise(imp, node, Op::QuantizeLinear, &[x], &[], encoding)?)])
}

/// `DequantizeLinear`: `[x, scale, zero?]`.
pub(super) fn dequantize<'m>(imp: &mut Importer<'m>, node: &NodeView<'m>) -> Fallible<Vec<Binding<'m>>> {
    let rank = match imp.binding(node, 0)? {
        Some(Binding::Value(id)) => imp.shape(id).len(),
        Some(Binding::Constant(tensor, _)) => tensor.shape().len(),
        _ => 0,
    };
    let along = channel_axis(node, rank)?;
    if named_type(node, "output_dtype")?.is_some_and(|dtype| dtype != DType::Fp32) {
        refuse!("attribute not supported: `output_dtype`");
    }
    let scales = Scales::of(imp, node, 0, 1, 2, along)?;
    let x = imp.quantized(node, 0, scales.quant)?;
    Ok(vec![Binding::Value(window::pointwise(imp, node, Op::DequantizeLinear, &[x], &[], Encoding::FLOAT)?)])
}
