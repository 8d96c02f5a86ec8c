//! Evaluation of operators that only move elements: reshape, transpose, slice, gather, join, broadcast.

use std::sync::Arc;

use ndarray::{ArrayD, IxDyn};

use super::{charge, list, operand, sizes};
use crate::{
    import::onnx::{
        limits::{Budget, Fallible, MAX_CONSTANT_ELEMENTS, refuse},
        node::{NodeView, axes, axis},
        tensor::{External, decode},
    },
    ir::fold::{broadcast, stretched},
    tensor::{DType, Tensor, map_array},
};

type Operands<'a> = &'a [Option<Arc<Tensor>>];

/// The shape that a `Reshape` asks for, with ONNX's 0 (copy) and -1 (infer) resolved.
pub(in crate::import::onnx) fn reshape_target(from: &[usize], to: &[i64], allow_zero: bool) -> Fallible<Vec<usize>> {
    let mut shape = Vec::with_capacity(to.len());
    let mut inferred = None;
    for (index, &dim) in to.iter().enumerate() {
        shape.push(match dim {
            -1 if inferred.is_some() => refuse!("more than one -1 in the shape {to:?}"),
            -1 => {
                inferred = Some(index);
                1
            }
            0 if allow_zero => 0,
            0 => match from.get(index) {
                Some(&dim) => dim,
                None => refuse!("a 0 in the shape {to:?} has no dimension of {from:?} to copy"),
            },
            _ => super::super::node::size(dim, "dimension")?,
        });
    }
    let count = |shape: &[usize]| shape.iter().try_fold(1_usize, |product, &dim| product.checked_mul(dim));
    let (Some(have), Some(known)) = (count(from), count(&shape)) else {
        refuse!("shape {to:?} is too large");
    };
    if let Some(index) = inferred {
        if known == 0 || have % known != 0 {
            refuse!("{from:?} cannot take the shape {to:?}");
        }
        shape[index] = have / known;
    } else if have != known {
        refuse!("{from:?} cannot take the shape {to:?}");
    }
    Ok(shape)
}

/// The shape that a `Flatten` gives.
pub(in crate::import::onnx) fn flatten_target(from: &[usize], at: i64) -> Fallible<Vec<usize>> {
    // Unlike other axes, this one may equal the rank.
    let at = if usize::try_from(at).is_ok_and(|at| at == from.len()) { from.len() } else { axis(at, from.len())? };
    let count = |shape: &[usize]| shape.iter().try_fold(1_usize, |product, &dim| product.checked_mul(dim));
    match (count(&from[..at]), count(&from[at..])) {
        (Some(rows), Some(columns)) => Ok(vec![rows, columns]),
        _ => refuse!("shape {from:?} is too large"),
    }
}

/// The shape that a `Squeeze` gives; all dimensions of 1 go where `list` is `None`.
pub(in crate::import::onnx) fn squeeze_target(from: &[usize], list: Option<&[i64]>) -> Fallible<Vec<usize>> {
    let Some(list) = list else { return Ok(from.iter().copied().filter(|&dim| dim != 1).collect()) };
    let gone = axes(list, from.len())?;
    if let Some(&wrong) = gone.iter().find(|&&axis| from[axis] != 1) {
        refuse!("dimension {wrong} of {from:?} is not 1");
    }
    Ok(from.iter().enumerate().filter(|(index, _)| !gone.contains(index)).map(|(_, &dim)| dim).collect())
}

/// The shape that an `Unsqueeze` gives.
pub(in crate::import::onnx) fn unsqueeze_target(from: &[usize], list: &[i64]) -> Fallible<Vec<usize>> {
    let rank = from.len() + list.len();
    let added = axes(list, rank)?;
    let mut rest = from.iter().copied();
    Ok((0..rank).map(|index| if added.contains(&index) { 1 } else { rest.next().unwrap_or(1) }).collect())
}

/// A permutation of dimensions, reversed by default.
pub(in crate::import::onnx) fn permutation(given: Option<&[i64]>, rank: usize) -> Fallible<Vec<usize>> {
    let Some(given) = given else { return Ok((0..rank).rev().collect()) };
    let perm = given.iter().map(|&item| axis(item, rank)).collect::<Fallible<Vec<_>>>()?;
    let mut sorted = perm.clone();
    sorted.sort_unstable();
    if sorted.len() != rank || !sorted.iter().copied().eq(0..rank) {
        refuse!("{given:?} is not a permutation of {rank} dimensions");
    }
    Ok(perm)
}

/// The same elements under another shape.
pub(in crate::import::onnx) fn reshaped(
    tensor: &Arc<Tensor>,
    shape: &[usize],
    budget: &mut Budget,
) -> Fallible<Arc<Tensor>> {
    if tensor.shape() == shape {
        return Ok(Arc::clone(tensor));
    }
    charge(shape, tensor.dtype(), budget)?;
    match Tensor::clone(tensor).reshaped(shape) {
        Some(tensor) => Ok(Arc::new(tensor)),
        None => refuse!("{:?} cannot take the shape {shape:?}", tensor.shape()),
    }
}

/// The dimensions in another order.
pub(in crate::import::onnx) fn transposed(
    tensor: &Arc<Tensor>,
    perm: &[usize],
    budget: &mut Budget,
) -> Fallible<Arc<Tensor>> {
    charge(tensor.shape(), tensor.dtype(), budget)?;
    match tensor.permuted(perm) {
        Some(moved) => Ok(Arc::new(moved)),
        None => refuse!("{perm:?} is not a permutation of {:?}", tensor.shape()),
    }
}

pub(in crate::import::onnx) fn reshape(
    node: &NodeView<'_>,
    operands: Operands<'_>,
    budget: &mut Budget,
) -> Fallible<Arc<Tensor>> {
    let data = operand(operands, 0)?;
    let to = list(operands, 1)?.ok_or("operand 1 is missing")?;
    reshaped(data, &reshape_target(data.shape(), &to, node.flag("allowzero", false)?)?, budget)
}

pub(in crate::import::onnx) fn flatten(
    node: &NodeView<'_>,
    operands: Operands<'_>,
    budget: &mut Budget,
) -> Fallible<Arc<Tensor>> {
    let data = operand(operands, 0)?;
    reshaped(data, &flatten_target(data.shape(), node.int("axis", 1)?)?, budget)
}

pub(in crate::import::onnx) fn squeeze(
    node: &NodeView<'_>,
    operands: Operands<'_>,
    budget: &mut Budget,
) -> Fallible<Arc<Tensor>> {
    let data = operand(operands, 0)?;
    let given = list(operands, 1)?;
    let given = if node.has("axes") { node.ints("axes")?.map(<[i64]>::to_vec) } else { given };
    reshaped(data, &squeeze_target(data.shape(), given.as_deref())?, budget)
}

pub(in crate::import::onnx) fn unsqueeze(
    node: &NodeView<'_>,
    operands: Operands<'_>,
    budget: &mut Budget,
) -> Fallible<Arc<Tensor>> {
    let data = operand(operands, 0)?;
    let given = list(operands, 1)?;
    let given = if node.has("axes") { node.ints("axes")?.map(<[i64]>::to_vec) } else { given };
    reshaped(data, &unsqueeze_target(data.shape(), &given.ok_or("`axes` are missing")?)?, budget)
}

pub(in crate::import::onnx) fn transpose(
    node: &NodeView<'_>,
    operands: Operands<'_>,
    budget: &mut Budget,
) -> Fallible<Arc<Tensor>> {
    let data = operand(operands, 0)?;
    transposed(data, &permutation(node.ints("perm")?, data.shape().len())?, budget)
}

/// Picks indices of one dimension.
fn select(data: &Tensor, at: usize, indices: &[usize], budget: &mut Budget) -> Fallible<Tensor> {
    let mut shape = data.shape().to_vec();
    shape[at] = indices.len();
    charge(&shape, data.dtype(), budget)?;
    if data.is_empty() {
        refuse!("picks from a tensor without elements");
    }
    Ok(data.selected(at, indices).ok_or("picks outside the tensor")?)
}

pub(in crate::import::onnx) fn gather(
    node: &NodeView<'_>,
    operands: Operands<'_>,
    budget: &mut Budget,
) -> Fallible<Arc<Tensor>> {
    let data = operand(operands, 0)?;
    let at = axis(node.int("axis", 0)?, data.shape().len())?;
    let indices = operand(operands, 1)?;
    budget.charge(indices.len(), 16)?;
    let picked = indices.to_integers().ok_or("indices must be integers")?;
    let picked = picked.iter().map(|&index| axis(index, data.shape()[at])).collect::<Fallible<Vec<_>>>()?;
    let mut shape = data.shape()[..at].to_vec();
    shape.extend(indices.shape());
    shape.extend(&data.shape()[at + 1..]);
    charge(&shape, data.dtype(), budget)?;
    reshaped(&Arc::new(select(data, at, &picked, budget)?), &shape, budget)
}

/// The indices that a slice picks from a dimension of `extent`.
fn slice_indices(extent: usize, start: i64, end: i64, step: i64) -> Fallible<Vec<usize>> {
    let signed = i64::try_from(extent).map_err(|_| "dimension too large".to_owned())?;
    let place = |at: i64| if at < 0 { at.saturating_add(signed) } else { at };
    let (first, last) = match step {
        0 => refuse!("a slice with step 0"),
        1.. => (place(start).clamp(0, signed), place(end).clamp(0, signed)),
        _ => (place(start).clamp(0, signed - 1), place(end).clamp(-1, signed - 1)),
    };
    let mut indices = Vec::new();
    let mut at = first;
    while extent > 0 && if step > 0 { at < last } else { at > last } {
        indices.push(usize::try_from(at).map_err(|_| "a slice before its start".to_owned())?);
        at = at.saturating_add(step);
    }
    Ok(indices)
}

pub(in crate::import::onnx) fn slice(
    node: &NodeView<'_>,
    operands: Operands<'_>,
    budget: &mut Budget,
) -> Fallible<Arc<Tensor>> {
    let data = operand(operands, 0)?;
    let rank = data.shape().len();
    let attribute = |name: &str| node.ints(name).map(|list| list.map(<[i64]>::to_vec));
    let (starts, ends, along, steps) = if node.version < 10 {
        (attribute("starts")?, attribute("ends")?, attribute("axes")?, None)
    } else {
        (list(operands, 1)?, list(operands, 2)?, list(operands, 3)?, list(operands, 4)?)
    };
    let (starts, ends) = (starts.ok_or("`starts` are missing")?, ends.ok_or("`ends` are missing")?);
    let along = match along {
        Some(along) => along,
        None => (0_i64..).take(starts.len()).collect(),
    };
    let steps = steps.unwrap_or_else(|| vec![1; starts.len()]);
    if ends.len() != starts.len() || along.len() != starts.len() || steps.len() != starts.len() {
        refuse!("`starts`, `ends`, `axes` and `steps` of different lengths");
    }
    let mut result = Arc::clone(data);
    for (((&start, &end), &along), &step) in starts.iter().zip(&ends).zip(&along).zip(&steps) {
        let at = axis(along, rank)?;
        let extent = result.shape()[at];
        budget.charge(extent, 8)?;
        result = Arc::new(select(&result, at, &slice_indices(extent, start, end, step)?, budget)?);
    }
    Ok(result)
}

pub(in crate::import::onnx) fn concat(
    node: &NodeView<'_>,
    operands: Operands<'_>,
    budget: &mut Budget,
) -> Fallible<Arc<Tensor>> {
    let first = operand(operands, 0)?;
    let at = axis(node.int("axis", 0)?, first.shape().len())?;
    let mut shape = first.shape().to_vec();
    shape[at] = 0;
    for index in 0..operands.len() {
        let one = operand(operands, index)?;
        if one.shape().len() != shape.len() || one.dtype() != first.dtype() {
            refuse!("joins tensors of different types or ranks");
        }
        if shape.iter().zip(one.shape()).enumerate().any(|(dim, (a, b))| dim != at && a != b) {
            refuse!("joins tensors of different shapes");
        }
        shape[at] = shape[at].saturating_add(one.shape()[at]);
    }
    charge(&shape, first.dtype(), budget)?;
    budget.charge(operands.len(), 128)?;
    let parts: Vec<&Tensor> = operands.iter().flatten().map(AsRef::as_ref).collect();
    Ok(Arc::new(Tensor::joined(&parts, at).ok_or("joins tensors of different shapes")?))
}

pub(in crate::import::onnx) fn expand(
    _: &NodeView<'_>,
    operands: Operands<'_>,
    budget: &mut Budget,
) -> Fallible<Arc<Tensor>> {
    let data = operand(operands, 0)?;
    let to = sizes(&list(operands, 1)?.ok_or("operand 1 is missing")?)?;
    let shape = broadcast(data.shape(), &to)?;
    charge(&shape, data.dtype(), budget)?;
    Ok(Arc::new(map_array!(&**data, array => stretched(array, &shape)?)))
}

pub(in crate::import::onnx) fn choose(
    _: &NodeView<'_>,
    operands: Operands<'_>,
    budget: &mut Budget,
) -> Fallible<Arc<Tensor>> {
    let (condition, yes, no) = (operand(operands, 0)?, operand(operands, 1)?, operand(operands, 2)?);
    let Tensor::Bool(condition) = &**condition else { refuse!("the condition must be boolean") };
    let shape = broadcast(&broadcast(condition.shape(), yes.shape())?, no.shape())?;
    // Three stretched copies and the result.
    for _ in 0..3 {
        charge(&shape, yes.dtype(), budget)?;
    }
    let condition = stretched(condition, &shape)?;
    macro_rules! pick {
        ($($variant:ident),*) => {
            match (&**yes, &**no) {
                $((Tensor::$variant(yes), Tensor::$variant(no)) => {
                    let mut result = stretched(no, &shape)?;
                    let yes = stretched(yes, &shape)?;
                    result.zip_mut_with(&ndarray::Zip::from(&condition).and(&yes).map_collect(|&c, &y| c.then_some(y)), |r, y| {
                        if let Some(y) = *y {
                            *r = y;
                        }
                    });
                    Tensor::$variant(result)
                })*
                _ => refuse!("chooses between tensors of different types"),
            }
        };
    }
    Ok(Arc::new(pick!(F32, I32, I64, Bool)))
}

pub(in crate::import::onnx) fn constant_of_shape(
    node: &NodeView<'_>,
    operands: Operands<'_>,
    budget: &mut Budget,
) -> Fallible<Arc<Tensor>> {
    let shape = sizes(&list(operands, 0)?.ok_or("operand 0 is missing")?)?;
    let value = match node.tensor("value")? {
        Some(proto) => decode(proto, &mut External::none())?,
        None => Tensor::F32(ArrayD::zeros(IxDyn(&[1]))),
    };
    if value.len() != 1 {
        refuse!("`value` must have one element");
    }
    charge(&shape, value.dtype(), budget)?;
    Ok(Arc::new(map_array!(&value, array => match array.first() {
        Some(&first) => ArrayD::from_elem(IxDyn(&shape), first),
        None => refuse!("`value` must have one element"),
    })))
}

pub(in crate::import::onnx) fn range(
    _: &NodeView<'_>,
    operands: Operands<'_>,
    budget: &mut Budget,
) -> Fallible<Arc<Tensor>> {
    let bounds = [operand(operands, 0)?, operand(operands, 1)?, operand(operands, 2)?];
    if bounds.iter().any(|bound| bound.len() != 1 || bound.dtype() != bounds[0].dtype()) {
        refuse!("bounds must be scalars of one type");
    }
    let dtype = bounds[0].dtype();
    if dtype == DType::Fp32 {
        let [start, limit, delta] = bounds.map(|bound| bound.to_f32()[0]);
        let count = ((f64::from(limit) - f64::from(start)) / f64::from(delta)).ceil().max(0.0);
        // The limit is far below 2^53.
        if delta == 0.0 || count.is_nan() || count > MAX_CONSTANT_ELEMENTS as f64 {
            refuse!("from {start} to {limit} in steps of {delta}");
        }
        #[allow(clippy::cast_possible_truncation, clippy::cast_sign_loss)]
        let count = count as usize;
        charge(&[count], dtype, budget)?;
        let values = (0..count).map(|index| start + index as f32 * delta).collect();
        return Tensor::from_f32(&[count], values).map(Arc::new).ok_or_else(|| "must be a list".into());
    }
    let [start, limit, delta] =
        bounds.map(|bound| bound.to_integers().unwrap_or_default().first().copied().unwrap_or(0));
    if delta == 0 {
        refuse!("from {start} to {limit} in steps of 0");
    }
    let distance =
        if delta > 0 { i128::from(limit) - i128::from(start) } else { i128::from(start) - i128::from(limit) };
    let step = i128::from(delta).abs();
    let count = usize::try_from((distance.max(0) + step - 1) / step).map_err(|_| "too many steps".to_owned())?;
    charge(&[count], DType::Int64, budget)?;
    let values: Vec<i64> = std::iter::successors(Some(start), |&at| at.checked_add(delta)).take(count).collect();
    Tensor::from_integers(dtype, &[count], &values).map(Arc::new).ok_or_else(|| "must hold numbers".into())
}
