//! Operators that move elements or only ask for shapes.

use std::sync::Arc;

use ndarray::{ArrayD, IxDyn};

use super::weight;
use crate::{
    import::onnx::{
        fold::movement::{flatten_target, permutation, reshape_target, squeeze_target, unsqueeze_target},
        importer::{Binding, Encoding, Importer, NameSuffix},
        limits::{Fallible, clip, refuse},
        node::{NodeView, axis, size as non_negative},
        tensor::dtype,
    },
    ir::{Op, ValueId},
    tensor::{DType, Quantization, Tensor},
};

/// The type of a moved value, which must have one scale: channels would not stay where they are.
fn movable(imp: &Importer<'_>, value: ValueId) -> Fallible<Encoding> {
    let encoding = imp.encoding(value);
    if encoding.quant.as_ref().is_some_and(|quant| !quant.is_per_tensor()) {
        refuse!("operand has a scale a channel");
    }
    Ok(encoding)
}

fn reshape_to<'m>(
    imp: &mut Importer<'m>,
    node: &NodeView<'m>,
    x: ValueId,
    shape: &[usize],
) -> Fallible<Vec<Binding<'m>>> {
    if imp.shape(x) == shape {
        return Ok(vec![Binding::Value(x)]);
    }
    if imp.dequantized_constant(x).is_some()
        && let Some(value) = weight::reshaped(imp, node, x, shape)?
    {
        return Ok(vec![Binding::Value(value)]);
    }
    movable(imp, x)?;
    Ok(vec![Binding::Value(imp.reshape(node, NameSuffix::WHOLE, x, shape)?)])
}

/// `Reshape`: `[x, shape]`, the shape constant.
pub(super) fn reshape<'m>(imp: &mut Importer<'m>, node: &NodeView<'m>) -> Fallible<Vec<Binding<'m>>> {
    let x = imp.operand(node, 0)?;
    let Some(mut asked) = imp.constant_ints(node, 1)? else { refuse!("the shape is missing") };
    let from = imp.shape(x);
    let allow_zero = node.flag("allowzero", false)?;
    // A shape that was written for another batch: its first number is that batch, and the operand has the new one.
    if let Some((old, new)) = imp.rebatch
        && let (Some(first), Some(&batch)) = (asked.first_mut(), from.first())
        && usize::try_from(*first) == Ok(old)
        && batch == new
    {
        *first = i64::try_from(new).map_err(|_| "batch too large".to_owned())?;
    }
    let shape = match (reshape_target(&from, &asked, allow_zero), imp.rebatch) {
        (Ok(shape), _) => shape,
        (Err(refusal), Some((old, new))) => {
            refuse!("{}: the model was made for a batch of {old} and cannot take one of {new} here", refusal.message)
        }
        (Err(refusal), None) => return Err(refusal),
    };
    reshape_to(imp, node, x, &shape)
}

/// `Flatten`.
pub(super) fn flatten<'m>(imp: &mut Importer<'m>, node: &NodeView<'m>) -> Fallible<Vec<Binding<'m>>> {
    let x = imp.operand(node, 0)?;
    let shape = flatten_target(&imp.shape(x), node.int("axis", 1)?)?;
    reshape_to(imp, node, x, &shape)
}

/// The axes of `Squeeze` and `Unsqueeze`: an attribute before version 13, an operand since.
fn given_axes(imp: &Importer<'_>, node: &NodeView<'_>) -> Fallible<Option<Vec<i64>>> {
    if node.has("axes") {
        return Ok(node.ints("axes")?.map(<[i64]>::to_vec));
    }
    match node.input(1).map(|name| imp.names.get(name)) {
        None => Ok(None),
        Some(Some(Binding::Constant(tensor, _))) if tensor.len() <= 16 => match tensor.to_integers() {
            Some(list) => Ok(Some(list)),
            None => refuse!("`axes` must be integers"),
        },
        Some(_) => refuse!("`axes` must be a constant list"),
    }
}

/// `Squeeze`.
pub(super) fn squeeze<'m>(imp: &mut Importer<'m>, node: &NodeView<'m>) -> Fallible<Vec<Binding<'m>>> {
    let axes = given_axes(imp, node)?;
    let x = imp.operand(node, 0)?;
    let shape = squeeze_target(&imp.shape(x), axes.as_deref())?;
    reshape_to(imp, node, x, &shape)
}

/// `Unsqueeze`.
pub(super) fn unsqueeze<'m>(imp: &mut Importer<'m>, node: &NodeView<'m>) -> Fallible<Vec<Binding<'m>>> {
    let Some(axes) = given_axes(imp, node)? else { refuse!("`axes` are missing") };
    let x = imp.operand(node, 0)?;
    let shape = unsqueeze_target(&imp.shape(x), &axes)?;
    reshape_to(imp, node, x, &shape)
}

/// `Transpose`.
pub(super) fn transpose<'m>(imp: &mut Importer<'m>, node: &NodeView<'m>) -> Fallible<Vec<Binding<'m>>> {
    let x = imp.operand(node, 0)?;
    let perm = permutation(node.ints("perm")?, imp.shape(x).len())?;
    if perm.iter().copied().eq(0..perm.len()) {
        return Ok(vec![Binding::Value(x)]);
    }
    if imp.dequantized_constant(x).is_some()
        && let Some(value) = weight::transposed(imp, node, x, &perm)?
    {
        return Ok(vec![Binding::Value(value)]);
    }
    let mut encoding = imp.encoding(x);
    encoding.quant = encoding.quant.map(|quant| {
        let axis = quant.axis.and_then(|axis| perm.iter().position(|&from| from == axis));
        Quantization { axis, ..quant }
    });
    Ok(vec![Binding::Value(imp.finish(node, Op::Transpose { perm }, vec![x], encoding)?)])
}

/// `Concat`.
pub(super) fn concat<'m>(imp: &mut Importer<'m>, node: &NodeView<'m>) -> Fallible<Vec<Binding<'m>>> {
    if !node.has("axis") {
        refuse!("`axis` is missing");
    }
    let count = node.proto.input.len();
    let mut operands = (0..count).map(|index| imp.operand(node, index)).collect::<Fallible<Vec<_>>>()?;
    let mut encoding = movable(imp, operands[0])?;
    let quant = operands.iter().find_map(|&operand| imp.graph.value(operand).quant.clone());
    if let Some(quant) = quant {
        // All must be read alike, since the result has one scale.
        for (index, operand) in operands.iter_mut().enumerate() {
            *operand = imp.quantized(node, index, quant.clone())?;
        }
        encoding.quant = Some(quant);
    }
    if operands.iter().any(|&operand| imp.graph.value(operand).dtype != encoding.dtype) {
        refuse!("joins values of different types");
    }
    let axis = axis(node.int("axis", 0)?, imp.shape(operands[0]).len())?;
    Ok(vec![Binding::Value(imp.finish(node, Op::Concat { axis }, operands, encoding)?)])
}

/// The value of a `Pad`: 0 where it is absent; a constant, dequantized or not.
fn fill(imp: &Importer<'_>, node: &NodeView<'_>) -> Fallible<f32> {
    let dequantized = match imp.binding(node, 2)? {
        Some(Binding::Value(value)) => imp.dequantized_constant(value),
        _ => None,
    };
    let (tensor, quant) = match dequantized {
        Some(source) => (imp.tensor_of(source), imp.graph.value(source).quant.clone()),
        None => (imp.constant(node, 2)?, None),
    };
    let Some(tensor) = tensor else { return Ok(0.0) };
    if tensor.len() != 1 {
        refuse!("the value must have one element");
    }
    let value = tensor.to_f32()[0];
    Ok(quant.map_or(value, |quant| (value - quant.zero_of(0) as f32) * quant.scale_of(0)))
}

/// `Pad` with constants: `[x, pads, value?, axes?]`, or attributes before version 11.
pub(super) fn pad<'m>(imp: &mut Importer<'m>, node: &NodeView<'m>) -> Fallible<Vec<Binding<'m>>> {
    let mode = node.text("mode", "constant")?;
    if mode != "constant" {
        refuse!("attribute not supported: `mode` of {:?}", clip(mode));
    }
    let x = imp.operand(node, 0)?;
    let rank = imp.shape(x).len();
    let attributes = node.version < 11;
    let pads = if attributes { node.ints("pads")?.map(<[i64]>::to_vec) } else { imp.constant_ints(node, 1)? };
    let Some(pads) = pads else { refuse!("`pads` are missing") };
    let along = match if attributes { None } else { imp.constant_ints(node, 3)? } {
        Some(list) => list.iter().map(|&item| axis(item, rank)).collect::<Fallible<Vec<_>>>()?,
        None => (0..rank).collect(),
    };
    if pads.len() != 2 * along.len() {
        refuse!("{} `pads` for {} dimensions", pads.len(), along.len());
    }
    let (mut before, mut after) = (vec![0; rank], vec![0; rank]);
    for (index, &dim) in along.iter().enumerate() {
        before[dim] = non_negative(pads[index], "`pads`")?;
        after[dim] = non_negative(pads[index + along.len()], "`pads`")?;
    }
    let fill = if attributes { node.float("value", 0.0)? } else { fill(imp, node)? };
    let encoding = movable(imp, x)?;
    let value = match (&encoding.quant, encoding.dtype) {
        (Some(quant), _) => (fill - quant.zero_of(0) as f32) * quant.scale_of(0),
        (None, DType::Fp32) => fill,
        (None, dtype) => refuse!("padding of {dtype:?} whose scale is not known"),
    };
    if !value.is_finite() {
        refuse!("the value must be finite: {value}");
    }
    if before.iter().chain(&after).all(|&count| count == 0) {
        return Ok(vec![Binding::Value(x)]);
    }
    Ok(vec![Binding::Value(imp.finish(node, Op::Pad { before, after, value }, vec![x], encoding)?)])
}

/// `Dropout`, which does nothing in inference.
pub(super) fn dropout<'m>(imp: &mut Importer<'m>, node: &NodeView<'m>) -> Fallible<Vec<Binding<'m>>> {
    if let Some(training) = imp.constant(node, 2)?
        && (training.len() != 1 || training.to_f32()[0] != 0.0)
    {
        refuse!("training mode is not supported");
    }
    identity(imp, node)
}

/// `Cast` between types that are one here, such as half and single precision; others are only evaluated.
pub(super) fn cast<'m>(imp: &mut Importer<'m>, node: &NodeView<'m>) -> Fallible<Vec<Binding<'m>>> {
    let x = imp.operand(node, 0)?;
    let from = imp.graph.value(x).dtype;
    let to = dtype(i32::try_from(node.int("to", 0)?).map_err(|_| "unknown type in `to`".to_owned())?)?;
    if from != to || imp.graph.value(x).quant.is_some() {
        refuse!("from {from:?} to {to:?} is supported only where the operand is a constant");
    }
    Ok(vec![Binding::Value(x)])
}

/// `Identity`.
pub(super) fn identity<'m>(imp: &mut Importer<'m>, node: &NodeView<'m>) -> Fallible<Vec<Binding<'m>>> {
    match imp.binding(node, 0)? {
        Some(binding) => Ok(vec![binding]),
        None => refuse!("operand 0 is missing"),
    }
}

/// A list of sizes as a constant.
fn sizes<'m>(node: &NodeView<'m>, values: &[usize], shape: &[usize]) -> Fallible<Vec<Binding<'m>>> {
    let values = values.iter().map(|&value| i64::try_from(value)).collect::<Result<Vec<_>, _>>();
    let values = values.map_err(|_| "size too large".to_owned())?;
    match Tensor::from_integers(DType::Int64, shape, &values) {
        Some(tensor) => Ok(vec![Binding::Constant(Arc::new(tensor), node.output(0))]),
        None => refuse!("inconsistent shape"),
    }
}

/// The shape of an operand, constant or not.
fn shape_of(imp: &Importer<'_>, node: &NodeView<'_>) -> Fallible<Vec<usize>> {
    match imp.binding(node, 0)? {
        Some(Binding::Value(id)) => Ok(imp.shape(id)),
        Some(Binding::Constant(tensor, _)) => Ok(tensor.shape().to_vec()),
        _ => refuse!("operand 0 is missing"),
    }
}

/// `Shape`, which is a constant once shapes are known.
pub(super) fn shape<'m>(imp: &mut Importer<'m>, node: &NodeView<'m>) -> Fallible<Vec<Binding<'m>>> {
    let shape = shape_of(imp, node)?;
    let rank = i64::try_from(shape.len()).map_err(|_| "too many dimensions".to_owned())?;
    let place = |at: i64| {
        let at = if at < 0 { at.saturating_add(rank) } else { at };
        usize::try_from(at.clamp(0, rank)).unwrap_or(0)
    };
    let (start, end) = (place(node.int("start", 0)?), place(node.int("end", rank)?));
    let part = shape.get(start..end).unwrap_or_default();
    sizes(node, part, &[part.len()])
}

/// `Size`, a constant likewise.
pub(super) fn size<'m>(imp: &mut Importer<'m>, node: &NodeView<'m>) -> Fallible<Vec<Binding<'m>>> {
    sizes(node, &[shape_of(imp, node)?.iter().product()], &[])
}

/// `Constant`.
pub(super) fn constant<'m>(imp: &mut Importer<'m>, node: &NodeView<'m>) -> Fallible<Vec<Binding<'m>>> {
    if node.proto.attribute.len() != 1 {
        refuse!("must have one value");
    }
    if let Some(proto) = node.tensor("value")? {
        return Ok(vec![Binding::Constant(imp.decoded(proto)?, node.output(0))]);
    }
    let tensor = if node.has("value_int") {
        Tensor::I64(ArrayD::from_elem(IxDyn(&[]), node.int("value_int", 0)?))
    } else if node.has("value_float") {
        Tensor::F32(ArrayD::from_elem(IxDyn(&[]), node.any_float("value_float", 0.0)?))
    } else if let Some(list) = node.ints("value_ints")? {
        Tensor::I64(
            ArrayD::from_shape_vec(IxDyn(&[list.len()]), list.to_vec()).map_err(|_| "inconsistent list".to_owned())?,
        )
    } else if let Some(list) = node.floats("value_floats")? {
        Tensor::F32(
            ArrayD::from_shape_vec(IxDyn(&[list.len()]), list.to_vec()).map_err(|_| "inconsistent list".to_owned())?,
        )
    } else {
        refuse!("must have a value");
    };
    Ok(vec![Binding::Constant(Arc::new(tensor), node.output(0))])
}
