//! Evaluates operators on constants. Importers fold what a file computes with it, the passes what rewriting leaves behind;
//! what only a file format knows (slices, casts, comparisons) is evaluated beside its importer. Knows nothing of graphs:
//! whoever folds bounds the sizes first.

use ndarray::{ArrayD, Dimension, IxDyn};
use thiserror::Error;

use super::{Activation, Op};
use crate::tensor::{DType, Tensor};

/// Why operands have no result.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
pub enum FoldError {
    /// Element types that do not go together, or that the operator does not work on.
    #[error("operands of types {0:?} and {1:?}")]
    Types(DType, DType),
    /// Shapes that do not broadcast.
    #[error("shapes {0:?} and {1:?} do not broadcast")]
    Broadcast(Vec<usize>, Vec<usize>),
    /// An integer result that no 64 bits hold, or a division by zero.
    #[error("integer overflow or division by zero")]
    Overflow,
    /// An integer result that its type does not hold.
    #[error("a result outside the range of {0:?}")]
    Range(DType),
    /// An operator that is not evaluated.
    #[error("cannot be evaluated")]
    Unsupported,
}

/// A function of two elements.
#[derive(Clone, Copy, Debug)]
pub struct Binary {
    /// Of floats, in single precision.
    pub float: fn(f32, f32) -> f32,
    /// Of integers; `None` where it has no value.
    pub integer: fn(i64, i64) -> Option<i64>,
}

impl Binary {
    /// The function of an operator, without a fused activation.
    pub fn of(op: &Op) -> Option<Self> {
        Some(match op {
            Op::Add { .. } => Self { float: |a, b| a + b, integer: i64::checked_add },
            Op::Sub => Self { float: |a, b| a - b, integer: i64::checked_sub },
            Op::Mul => Self { float: |a, b| a * b, integer: i64::checked_mul },
            // Integer division truncates.
            Op::Div => Self { float: |a, b| a / b, integer: i64::checked_div },
            // Of two zeros the second, of a NaN and a number the NaN, as ONNX Runtime has it.
            Op::Min => Self { float: |a, b| if a < b || a.is_nan() { a } else { b }, integer: |a, b| Some(a.min(b)) },
            Op::Max => Self { float: |a, b| if a > b || a.is_nan() { a } else { b }, integer: |a, b| Some(a.max(b)) },
            _ => return None,
        })
    }

    /// Applies it under numpy's broadcasting.
    ///
    /// # Errors
    /// Operands that do not fit each other, results that do not fit their type.
    pub fn apply(self, a: &Tensor, b: &Tensor) -> Result<Tensor, FoldError> {
        let types = FoldError::Types(a.dtype(), b.dtype());
        if a.dtype() != b.dtype() || a.dtype() == DType::Bool {
            return Err(types);
        }
        let shape = broadcast(a.shape(), b.shape())?;
        if let (Tensor::F32(a), Tensor::F32(b)) = (a, b) {
            let (mut a, b) = (stretched(a, &shape)?, stretched(b, &shape)?);
            a.zip_mut_with(&b, |a, &b| *a = (self.float)(*a, b));
            return Ok(Tensor::F32(a));
        }
        let (Some(left), Some(right)) = (a.to_integers(), b.to_integers()) else { return Err(types) };
        let array = |of: &Tensor, data| ArrayD::from_shape_vec(IxDyn(of.shape()), data).map_err(|_| types.clone());
        let (mut left, right) = (stretched(&array(a, left)?, &shape)?, stretched(&array(b, right)?, &shape)?);
        let mut fits = true;
        left.zip_mut_with(&right, |a, &b| match (self.integer)(*a, b) {
            Some(value) => *a = value,
            None => fits = false,
        });
        if !fits {
            return Err(FoldError::Overflow);
        }
        let values: Vec<i64> = left.iter().copied().collect();
        Tensor::from_integers(a.dtype(), &shape, &values).ok_or(FoldError::Range(a.dtype()))
    }
}

/// Numpy's broadcast of two shapes.
///
/// # Errors
/// Shapes that do not broadcast.
pub fn broadcast(a: &[usize], b: &[usize]) -> Result<Vec<usize>, FoldError> {
    let rank = a.len().max(b.len());
    let at = |shape: &[usize], i: usize| (i + shape.len()).checked_sub(rank).map_or(1, |j| shape[j]);
    (0..rank)
        .map(|i| match (at(a, i), at(b, i)) {
            (x, y) if x == y => Ok(x),
            (1, y) => Ok(y),
            (x, 1) => Ok(x),
            _ => Err(FoldError::Broadcast(a.to_vec(), b.to_vec())),
        })
        .collect()
}

/// An array under a broadcast shape, copied.
///
/// # Errors
/// A shape that it does not broadcast to.
pub fn stretched<T: Clone>(array: &ArrayD<T>, shape: &[usize]) -> Result<ArrayD<T>, FoldError> {
    let view = array.broadcast(IxDyn(shape));
    view.map(|view| view.to_owned())
        .ok_or_else(|| FoldError::Broadcast(array.raw_dim().slice().to_vec(), shape.to_vec()))
}

fn activated(tensor: Tensor, activation: Activation) -> Tensor {
    match (tensor, activation) {
        (Tensor::F32(array), Activation::Relu) => Tensor::F32(array.mapv(|x| x.max(0.0))),
        (Tensor::F32(array), Activation::Clip { low, high }) => Tensor::F32(array.mapv(|x| x.max(low).min(high))),
        (tensor, _) => tensor,
    }
}

/// The result of an operator on constants, of the shape that the graph says; floats as the float reference has them.
///
/// # Errors
/// Operators that are not evaluated, and operands without a result.
pub fn evaluate(op: &Op, operands: &[&Tensor], shape: &[usize]) -> Result<Tensor, FoldError> {
    let &x = operands.first().ok_or(FoldError::Unsupported)?;
    match (op, operands.get(1)) {
        (Op::Reshape, _) => x.clone().reshaped(shape).ok_or(FoldError::Unsupported),
        (Op::Transpose { perm }, _) => x.permuted(perm).ok_or(FoldError::Unsupported),
        (Op::Relu, _) => Ok(activated(x.clone(), Activation::Relu)),
        (&Op::Clip { low, high }, _) => Ok(activated(x.clone(), Activation::Clip { low, high })),
        (op, Some(b)) => {
            let result = Binary::of(op).ok_or(FoldError::Unsupported)?.apply(x, b)?;
            Ok(if let Op::Add { activation } = op { activated(result, *activation) } else { result })
        }
        _ => Err(FoldError::Unsupported),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn integers(values: &[i64]) -> Tensor {
        Tensor::from_integers(DType::Int8, &[values.len()], values).unwrap()
    }

    #[test]
    fn integers_that_do_not_fit_are_faults_and_not_wrapped() {
        let of = |op: Op, a: i64, b: i64| Binary::of(&op).unwrap().apply(&integers(&[a]), &integers(&[b]));
        assert_eq!(of(Op::Sub, 3, 5), Ok(integers(&[-2])));
        assert_eq!(of(Op::Div, -7, 2), Ok(integers(&[-3])));
        assert_eq!(of(Op::Mul, 100, 2), Err(FoldError::Range(DType::Int8)));
        assert_eq!(of(Op::Div, 1, 0), Err(FoldError::Overflow));
        assert_eq!(of(Op::Min, 3, -5), Ok(integers(&[-5])));
        let float = Tensor::from_f32(&[1], vec![0.0]).unwrap();
        assert_eq!(
            Binary::of(&Op::Mul).unwrap().apply(&float, &integers(&[1])),
            Err(FoldError::Types(DType::Fp32, DType::Int8))
        );
    }
}
