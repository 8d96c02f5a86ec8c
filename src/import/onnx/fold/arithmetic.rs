//! Evaluation of elementwise operators, casts and reductions. Integers run in checked 64-bit arithmetic, floats in
//! single precision; operators that graphs have too are evaluated by `ir::fold`.

use std::sync::Arc;

use ndarray::{ArrayD, Axis, IxDyn, Zip};

use super::{charge, list, operand};
use crate::{
    import::onnx::{
        limits::{Budget, Fallible, refuse},
        node::{NodeView, axes},
        tensor,
    },
    ir::{
        fold::{Binary, broadcast, stretched},
        op,
    },
    tensor::{DType, Tensor},
};

type Operands<'a> = &'a [Option<Arc<Tensor>>];

fn integers(tensor: &Tensor, budget: &mut Budget) -> Fallible<ArrayD<i64>> {
    budget.charge(tensor.len(), 8)?;
    let values = tensor.to_integers().ok_or("must hold integers")?;
    ArrayD::from_shape_vec(IxDyn(tensor.shape()), values).map_err(|_| "inconsistent shape".into())
}

fn narrowed(dtype: DType, array: &ArrayD<i64>) -> Fallible<Arc<Tensor>> {
    let values: Vec<i64> = array.iter().copied().collect();
    let result = if dtype == DType::Bool {
        ArrayD::from_shape_vec(IxDyn(array.shape()), values.iter().map(|&value| value != 0).collect())
            .ok()
            .map(Tensor::Bool)
    } else {
        Tensor::from_integers(dtype, array.shape(), &values)
    };
    result.map(Arc::new).ok_or_else(|| format!("a result outside the range of {dtype:?}").into())
}

fn binary(name: &str) -> Option<Binary> {
    Some(match name {
        // The remainder of the divisor's sign, as in Python; ONNX forbids floats without `fmod`.
        "Mod" => Binary {
            float: |a, b| a % b,
            integer: |a, b| {
                let rest = a.checked_rem(b)?;
                Some(if rest != 0 && (rest < 0) != (b < 0) { rest + b } else { rest })
            },
        },
        "Pow" => Binary { float: f32::powf, integer: |a, b| a.checked_pow(u32::try_from(b).ok()?) },
        _ => return op::elementwise(name)?.default.as_ref().and_then(Binary::of),
    })
}

/// `Add`, `Sub`, `Mul`, `Div`, `Mod`, `Min`, `Max`, `Pow` and `Sum` of two or more operands.
pub(in crate::import::onnx) fn elementwise(
    node: &NodeView<'_>,
    operands: Operands<'_>,
    budget: &mut Budget,
) -> Fallible<Arc<Tensor>> {
    let name = if node.op() == "Sum" { "Add" } else { node.op() };
    let Some(operator) = binary(name) else { refuse!("cannot be evaluated") };
    if node.int("fmod", 0)? != 0 {
        refuse!("`fmod` is not supported");
    }
    let mut result = Arc::clone(operand(operands, 0)?);
    for index in 1..operands.len() {
        let other = operand(operands, index)?;
        let shape = broadcast(result.shape(), other.shape())?;
        for _ in 0..2 {
            charge(&shape, DType::Int64, budget)?;
        }
        // Integers are widened first.
        for tensor in [&*result, &**other].into_iter().filter(|tensor| !matches!(tensor, Tensor::F32(_))) {
            budget.charge(tensor.len(), 8)?;
        }
        result = Arc::new(operator.apply(&result, other)?);
    }
    Ok(result)
}

/// A comparison of floats and of integers.
type Comparison = (fn(f32, f32) -> bool, fn(i64, i64) -> bool);

/// `Equal`, `Less`, `LessOrEqual`, `Greater`, `GreaterOrEqual`, `And`, `Or`.
// `Equal` is defined as exact equality.
#[allow(clippy::float_cmp)]
pub(in crate::import::onnx) fn compare(
    node: &NodeView<'_>,
    operands: Operands<'_>,
    budget: &mut Budget,
) -> Fallible<Arc<Tensor>> {
    let (a, b) = (operand(operands, 0)?, operand(operands, 1)?);
    if a.dtype() != b.dtype() {
        refuse!("operands of types {:?} and {:?}", a.dtype(), b.dtype());
    }
    let shape = broadcast(a.shape(), b.shape())?;
    for _ in 0..3 {
        charge(&shape, DType::Int64, budget)?;
    }
    let (float, integer): Comparison = match node.op() {
        "Equal" => (|a, b| a == b, |a, b| a == b),
        "Less" => (|a, b| a < b, |a, b| a < b),
        "LessOrEqual" => (|a, b| a <= b, |a, b| a <= b),
        "Greater" => (|a, b| a > b, |a, b| a > b),
        "GreaterOrEqual" => (|a, b| a >= b, |a, b| a >= b),
        "And" => (|_, _| false, |a, b| a != 0 && b != 0),
        "Or" => (|_, _| false, |a, b| a != 0 || b != 0),
        _ => refuse!("cannot be evaluated"),
    };
    let result = if let (Tensor::F32(a), Tensor::F32(b)) = (&**a, &**b) {
        Zip::from(&stretched(a, &shape)?).and(&stretched(b, &shape)?).map_collect(|&a, &b| float(a, b))
    } else {
        let (a, b) = (integers(a, budget)?, integers(b, budget)?);
        Zip::from(&stretched(&a, &shape)?).and(&stretched(&b, &shape)?).map_collect(|&a, &b| integer(a, b))
    };
    Ok(Arc::new(Tensor::Bool(result)))
}

/// `Floor`, `Ceil`, `Sqrt`, `Neg`, `Abs`, `Not`.
pub(in crate::import::onnx) fn unary(
    node: &NodeView<'_>,
    operands: Operands<'_>,
    budget: &mut Budget,
) -> Fallible<Arc<Tensor>> {
    let data = operand(operands, 0)?;
    charge(data.shape(), DType::Int64, budget)?;
    if let Tensor::F32(array) = &**data {
        let operator: fn(f32) -> f32 = match node.op() {
            "Floor" => f32::floor,
            "Ceil" => f32::ceil,
            "Sqrt" => f32::sqrt,
            "Neg" => |value| -value,
            "Abs" => f32::abs,
            _ => refuse!("cannot be evaluated on floats"),
        };
        return Ok(Arc::new(Tensor::F32(array.mapv(operator))));
    }
    let operator: fn(i64) -> Option<i64> = match (node.op(), data.dtype()) {
        ("Not", DType::Bool) => |value| Some(1 - value),
        ("Neg", dtype) if dtype != DType::Bool => i64::checked_neg,
        ("Abs", dtype) if dtype != DType::Bool => i64::checked_abs,
        (_, dtype) => refuse!("cannot be evaluated on {dtype:?}"),
    };
    let mut fits = true;
    let array = integers(data, budget)?.mapv(|value| {
        operator(value).unwrap_or_else(|| {
            fits = false;
            0
        })
    });
    if !fits {
        refuse!("integer overflow");
    }
    narrowed(data.dtype(), &array)
}

pub(in crate::import::onnx) fn cast(
    node: &NodeView<'_>,
    operands: Operands<'_>,
    budget: &mut Budget,
) -> Fallible<Arc<Tensor>> {
    let data = operand(operands, 0)?;
    let to = i32::try_from(node.int("to", 0)?).map_err(|_| "unknown type in `to`".to_owned())?;
    let to = tensor::dtype(to)?;
    if to == DType::Int4 {
        refuse!("to INT4 is not supported");
    }
    if to == data.dtype() {
        return Ok(Arc::clone(data));
    }
    for _ in 0..2 {
        charge(data.shape(), DType::Int64, budget)?;
    }
    match &**data {
        Tensor::F32(array) if to == DType::Bool => Ok(Arc::new(Tensor::Bool(array.mapv(|value| value != 0.0)))),
        Tensor::F32(array) => {
            // Beyond 2^62, and for NaN, the conversion has no agreed value.
            if !array.iter().all(|value| value.abs() < 4.6e18) {
                refuse!("a float outside the range of {to:?}");
            }
            #[allow(clippy::cast_possible_truncation)]
            let whole = array.mapv(|value| value as i64);
            narrowed(to, &whole)
        }
        _ if to == DType::Fp32 => Ok(Arc::new(Tensor::F32(integers(data, budget)?.mapv(|value| value as f32)))),
        _ => narrowed(to, &integers(data, budget)?),
    }
}

/// `ReduceProd`, `ReduceSum`, `ReduceMax`, `ReduceMin`.
pub(in crate::import::onnx) fn reduce(
    node: &NodeView<'_>,
    operands: Operands<'_>,
    budget: &mut Budget,
) -> Fallible<Arc<Tensor>> {
    let data = operand(operands, 0)?;
    let rank = data.shape().len();
    let given = if node.has("axes") { node.ints("axes")?.map(<[i64]>::to_vec) } else { list(operands, 1)? };
    let along = match given {
        Some(given) if !given.is_empty() => axes(&given, rank)?,
        _ if node.flag("noop_with_empty_axes", false)? => return Ok(Arc::clone(data)),
        _ => (0..rank).collect(),
    };
    let keep = node.flag("keepdims", true)?;
    let operator = match node.op() {
        "ReduceProd" => binary("Mul"),
        "ReduceSum" => binary("Add"),
        "ReduceMax" => binary("Max"),
        "ReduceMin" => binary("Min"),
        _ => None,
    };
    let Some(operator) = operator else { refuse!("cannot be evaluated") };
    // Without elements only the sum and the product have a value.
    let start = match node.op() {
        "ReduceProd" => Some(1_i8),
        "ReduceSum" => Some(0),
        _ if data.is_empty() => refuse!("of a tensor without elements"),
        _ => None,
    };
    for _ in 0..2 {
        charge(data.shape(), DType::Int64, budget)?;
    }
    let mut fits = true;
    macro_rules! fold {
        ($array:expr, $start:expr, $operator:expr) => {{
            let mut array = $array;
            for &axis in along.iter().rev() {
                array = array.map_axis(Axis(axis), |lane| match $start {
                    Some(start) => lane.iter().fold(start, |a, &b| $operator(a, b)),
                    None => lane.iter().copied().reduce(|a, b| $operator(a, b)).unwrap_or_default(),
                });
                if keep {
                    array.insert_axis_inplace(Axis(axis));
                }
            }
            array
        }};
    }
    if let Tensor::F32(array) = &**data {
        let result = fold!(array.clone(), start.map(f32::from), operator.float);
        return Ok(Arc::new(Tensor::F32(result)));
    }
    let step = |a: i64, b: i64, fits: &mut bool| {
        (operator.integer)(a, b).unwrap_or_else(|| {
            *fits = false;
            0
        })
    };
    let result = fold!(integers(data, budget)?, start.map(i64::from), |a, b| step(a, b, &mut fits));
    if !fits {
        refuse!("integer overflow");
    }
    narrowed(data.dtype(), &result)
}
