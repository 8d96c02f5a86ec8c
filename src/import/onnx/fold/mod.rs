//! Evaluation of operators whose operands are all constants: the arithmetic on shapes that exporters leave behind, and
//! the weights that they compute. Every evaluation is charged to a budget before it allocates.

pub(super) mod arithmetic;
pub(super) mod movement;

use std::sync::Arc;

use super::{
    limits::{Budget, Fallible, MAX_CONSTANT_ELEMENTS, MAX_RANK, refuse},
    node::NodeView,
};
use crate::tensor::{DType, Tensor, checked_elements};

/// An evaluation: the node, its operands, what it may still cost.
pub(super) type Fold = for<'m> fn(&NodeView<'m>, &[Option<Arc<Tensor>>], &mut Budget) -> Fallible<Arc<Tensor>>;

/// An operand that must be there.
fn operand(operands: &[Option<Arc<Tensor>>], index: usize) -> Fallible<&Arc<Tensor>> {
    match operands.get(index) {
        Some(Some(tensor)) => Ok(tensor),
        _ => refuse!("operand {index} is missing"),
    }
}

/// A short list of integers; `None` where the operand is absent.
fn list(operands: &[Option<Arc<Tensor>>], index: usize) -> Fallible<Option<Vec<i64>>> {
    let Some(Some(tensor)) = operands.get(index) else { return Ok(None) };
    if tensor.len() > 4 * MAX_RANK || tensor.shape().len() > 1 {
        refuse!("operand {index} must be a short list of integers");
    }
    match tensor.to_integers() {
        Some(values) => Ok(Some(values)),
        None => refuse!("operand {index} must hold integers"),
    }
}

/// Charges a result of `shape` and returns its number of elements.
fn charge(shape: &[usize], dtype: DType, budget: &mut Budget) -> Fallible<usize> {
    if shape.len() > MAX_RANK {
        refuse!("{} dimensions; the limit is {MAX_RANK}", shape.len());
    }
    // A product with a zero in it may still overflow on the way: the zero may come last.
    let elements = if shape.contains(&0) { Some(0) } else { checked_elements(shape, MAX_CONSTANT_ELEMENTS) };
    let Some(elements) = elements.and_then(|elements| usize::try_from(elements).ok()) else {
        refuse!("shape {shape:?}: more than {MAX_CONSTANT_ELEMENTS} elements, which is the limit");
    };
    // Even an empty result costs something, so that a long chain of them ends.
    budget.charge(elements.max(1), usize::try_from(dtype.bytes()).unwrap_or(8))?;
    Ok(elements)
}

/// A list of non-negative sizes as a shape.
fn sizes(list: &[i64]) -> Fallible<Vec<usize>> {
    list.iter().map(|&value| super::node::size(value, "size")).collect()
}
