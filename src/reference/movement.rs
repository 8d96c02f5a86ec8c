//! Operators that only move or select elements, on any element type: Reshape, Transpose, Pad, Concat of equal
//! parameters, `MaxPool`, and the float and integer forms alike.

use ndarray::ArrayD;
use rayon::prelude::*;

use super::{
    Outcome, Reason, checked_size,
    geometry::{Geometry, image, window_output},
    integers::{Target, array, elements, quantization},
};
use crate::{
    ir::{Op, Value, Window},
    tensor::{DType, Tensor, map_array},
};

/// The result, or `None` where the operator is not one of this file's.
pub(super) fn evaluate(op: &Op, inputs: &[&Value], output: &Value, operands: &[&Tensor]) -> Outcome<Option<Tensor>> {
    let same = |input: &Value| input.quant == output.quant;
    match op {
        op if op.is_selection() && !same(inputs[0]) => {
            Err(Reason::Quantization(format!("{:?} and {:?} differ in it", inputs[0].name, output.name)))
        }
        Op::Reshape => reshape(operands[0], &output.shape).map(Some),
        Op::Transpose { perm } => transpose(operands[0], perm).map(Some),
        Op::Pad { before, after, value } => pad(operands[0], before, after, *value, output).map(Some),
        Op::MaxPool { window } => max_pool(operands[0], window).map(Some),
        Op::GlobalMaxPool => {
            let [_, _, h, w] = image(operands[0].shape())?;
            max_pool(operands[0], &Window { kernel: [h, w], ..Window::UNIT }).map(Some)
        }
        Op::Concat { axis } if output.quant.is_none() => concat(operands, *axis).map(Some),
        _ => Ok(None),
    }
}

/// The batch may differ from the declared one: the first dimension then follows from the number of elements.
fn reshape(x: &Tensor, declared: &[usize]) -> Outcome<Tensor> {
    let mut shape = declared.to_vec();
    let rest = checked_size(declared.get(1..).unwrap_or_default())?;
    if let Some(first) = shape.first_mut().filter(|first| rest > 0 && **first != x.len() / rest) {
        *first = x.len() / rest;
    }
    let fault = || Reason::Shape(format!("{:?} does not become {declared:?}", x.shape()));
    x.clone().reshaped(&shape).ok_or_else(fault)
}

fn transpose(x: &Tensor, perm: &[usize]) -> Outcome<Tensor> {
    x.permuted(perm).ok_or_else(|| Reason::Shape(format!("{perm:?} does not permute {:?}", x.shape())))
}

/// Joins along an axis; all other dimensions must agree.
pub(super) fn concat(operands: &[&Tensor], axis: usize) -> Outcome<Tensor> {
    let types = operands.iter().map(|operand| (operand.dtype(), operand.shape())).collect::<Vec<_>>();
    Tensor::joined(operands, axis).ok_or_else(|| Reason::Shape(format!("{types:?} are not joined along axis {axis}")))
}

fn pad(x: &Tensor, before: &[usize], after: &[usize], value: f32, output: &Value) -> Outcome<Tensor> {
    fn padded<T: Copy>(x: &ArrayD<T>, before: &[usize], after: &[usize], fill: T) -> Outcome<ArrayD<T>> {
        let sum = |((&x, &b), &a): ((&usize, &usize), &usize)| x.checked_add(b)?.checked_add(a);
        let shape: Option<Vec<usize>> = x.shape().iter().zip(before).zip(after).map(sum).collect();
        let shape = shape.ok_or(Reason::TooLarge)?;
        checked_size(&shape)?;
        let mut padded = ArrayD::from_elem(shape, fill);
        // Bounded by `checked_size`, but for axes beside an empty one: there is nothing to assign then.
        let bound = |index: usize| isize::try_from(index).unwrap_or(isize::MAX);
        padded
            .slice_each_axis_mut(|axis| {
                let start = before[axis.axis.index()];
                ndarray::Slice::new(bound(start), Some(bound(start + x.len_of(axis.axis))), 1)
            })
            .assign(x);
        Ok(padded)
    }
    if before.len() != x.shape().len() || after.len() != before.len() {
        return Err(Reason::Shape(format!("padding {before:?} and {after:?} of {:?}", x.shape())));
    }
    let fill = match &output.quant {
        Some(_) => {
            let quant = quantization(output)?;
            if !quant.is_per_tensor() {
                return Err(Reason::Quantization("padding of a tensor with a scale a channel".into()));
            }
            Target::new(output)?.quantize(value)
        }
        None => super::integers::saturating_i64(value).try_into().unwrap_or(0),
    };
    macro_rules! integer {
        ($x:expr, $variant:ident) => {{
            let fill = fill.try_into().map_err(|_| Reason::Type(format!("padding {fill} does not fit")))?;
            Tensor::$variant(padded($x, before, after, fill)?)
        }};
    }
    Ok(match x {
        Tensor::F32(x) => Tensor::F32(padded(x, before, after, value)?),
        Tensor::F64(x) => Tensor::F64(padded(x, before, after, f64::from(value))?),
        Tensor::I8(x) => integer!(x, I8),
        Tensor::U8(x) => integer!(x, U8),
        Tensor::I16(x) => integer!(x, I16),
        Tensor::U16(x) => integer!(x, U16),
        Tensor::I32(x) => Tensor::I32(padded(x, before, after, fill)?),
        Tensor::U32(x) => integer!(x, U32),
        Tensor::I64(x) => Tensor::I64(padded(x, before, after, i64::from(fill))?),
        Tensor::Bool(x) => Tensor::Bool(padded(x, before, after, fill != 0)?),
    })
}

fn max_pool(x: &Tensor, window: &Window) -> Outcome<Tensor> {
    if x.dtype() == DType::Bool {
        return Err(Reason::Type("truth values have no order".into()));
    }
    Ok(map_array!(x, a => pooled(a, window)?))
}

/// The largest element of each window; a window that lies in the padding alone is refused.
fn pooled<T: Copy + Default + PartialOrd + Send + Sync>(x: &ArrayD<T>, window: &Window) -> Outcome<ArrayD<T>> {
    let [n, c, h, w] = image(x.shape())?;
    let [p, q] = window_output(window, h, w)?;
    checked_size(&[n, c, p, q])?;
    let [kernel_rows, kernel_columns] = window.kernel;
    // A plane by itself: a convolution of one channel has the same taps.
    let geometry = Geometry { n: 1, c: 1, h, w, o: 1, p, q, groups: 1, window: *window };
    let alone = || Reason::Shape("a window lies in the padding alone".into());
    let first_row = |p| (0..kernel_rows).find_map(|r| geometry.row(p, r)).ok_or_else(alone);
    let first_column = |q| (0..kernel_columns).find_map(|s| geometry.column(q, s)).ok_or_else(alone);
    let first_rows = (0..p).map(first_row).collect::<Outcome<Vec<_>>>()?;
    let first_columns = (0..q).map(first_column).collect::<Outcome<Vec<_>>>()?;
    let data = elements(x);
    let mut largest = vec![T::default(); n * c * p * q];
    largest.par_chunks_mut((p * q).max(1)).enumerate().for_each(|(plane, largest)| {
        let plane = &data[plane * h * w..][..h * w];
        // Tap by tap over whole rows: each window still meets its elements in row-major order.
        for (p, line) in largest.chunks_exact_mut(q.max(1)).enumerate() {
            for (largest, column) in line.iter_mut().zip(&first_columns) {
                *largest = plane[first_rows[p] * w + column];
            }
            for (r, s) in (0..kernel_rows).flat_map(|r| (0..kernel_columns).map(move |s| (r, s))) {
                let inside = geometry.inside(s);
                let (Some(row), Some(first)) = (geometry.row(p, r), geometry.column(inside.start, s)) else { continue };
                let source = plane[row * w + first..(row + 1) * w].iter().step_by(window.stride[1]);
                for (largest, &value) in line[inside].iter_mut().zip(source) {
                    *largest = if value <= *largest { *largest } else { value };
                }
            }
        }
    });
    array(&[n, c, p, q], largest)
}

/// Offsets in a plane of the elements that the window of output `[p, q]` covers, in row-major order, without the
/// padding.
pub(super) fn window_elements(
    window: &Window,
    [h, w]: [usize; 2],
    [p, q]: [usize; 2],
) -> impl Iterator<Item = usize> + use<> {
    let window = *window;
    let position = move |axis: usize, out: usize, tap: usize, extent: usize| {
        let padded = out * window.stride[axis] + tap * window.dilation[axis];
        padded.checked_sub(window.pad[axis]).filter(|&index| index < extent)
    };
    let column = move |s| position(1, q, s, w);
    (0..window.kernel[0])
        .filter_map(move |r| position(0, p, r, h))
        .flat_map(move |row| (0..window.kernel[1]).filter_map(column).map(move |column| row * w + column))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::tensor::Quantization;

    fn value(shape: &[usize], quant: Option<Quantization>) -> Value {
        Value { name: "v".into(), shape: shape.to_vec(), dtype: DType::UInt8, quant, constant: None }
    }

    fn bytes(shape: &[usize], values: &[i64]) -> Tensor {
        Tensor::from_integers(DType::UInt8, shape, values).unwrap()
    }

    fn result(op: &Op, x: &Tensor, output: &[usize]) -> Outcome<Tensor> {
        let quant = Some(Quantization::per_tensor(0.5, 7));
        let (input, output) = (value(x.shape(), quant.clone()), value(output, quant));
        evaluate(op, &[&input], &output, &[x]).map(|result| result.expect("a movement"))
    }

    #[test]
    fn padding_has_the_quantized_value() {
        let x = bytes(&[1, 2], &[1, 2]);
        let pad = |value| Op::Pad { before: vec![1, 0], after: vec![0, 1], value };
        assert_eq!(result(&pad(0.0), &x, &[2, 3]).unwrap(), bytes(&[2, 3], &[7, 7, 7, 1, 2, 7]));
        assert_eq!(result(&pad(2.0), &x, &[2, 3]).unwrap(), bytes(&[2, 3], &[11, 11, 11, 1, 2, 11]));
    }

    #[test]
    fn a_permutation_moves_dimensions_and_must_be_one() {
        let x = bytes(&[1, 2, 3], &[0, 1, 2, 3, 4, 5]);
        let transposed = result(&Op::Transpose { perm: vec![2, 0, 1] }, &x, &[3, 1, 2]).unwrap();
        assert_eq!(transposed, bytes(&[3, 1, 2], &[0, 3, 1, 4, 2, 5]));
        assert!(result(&Op::Transpose { perm: vec![0, 1, 1] }, &x, &[1, 2, 2]).is_err());
    }

    #[test]
    fn a_reshape_follows_the_batch() {
        let x = bytes(&[2, 2, 2], &[0, 1, 2, 3, 4, 5, 6, 7]);
        assert_eq!(result(&Op::Reshape, &x, &[1, 4]).unwrap().shape(), [2, 4]);
        assert!(result(&Op::Reshape, &x, &[1, 3]).is_err());
    }

    #[test]
    fn padding_never_wins_in_a_maximum() {
        let x = bytes(&[1, 1, 1, 2], &[0, 0]);
        let window = Window { kernel: [1, 2], stride: [1, 1], dilation: [1, 1], pad: [0, 1, 0, 1] };
        assert_eq!(result(&Op::MaxPool { window }, &x, &[1, 1, 1, 3]).unwrap(), bytes(&[1, 1, 1, 3], &[0, 0, 0]));
        let outside = Window { pad: [0, 2, 0, 2], ..window };
        assert!(result(&Op::MaxPool { window: outside }, &x, &[1, 1, 1, 5]).is_err());
    }

    #[test]
    fn an_operator_that_only_moves_cannot_change_the_quantization() {
        let (input, output) =
            (value(&[1], Some(Quantization::per_tensor(0.5, 7))), value(&[1], Some(Quantization::per_tensor(0.5, 8))));
        assert!(evaluate(&Op::Reshape, &[&input], &output, &[&bytes(&[1], &[0])]).is_err());
    }

    #[test]
    fn tensors_of_different_types_do_not_join() {
        let floats = Tensor::from_f32(&[1], vec![0.0]).unwrap();
        assert!(concat(&[&bytes(&[1], &[0]), &floats], 0).is_err());
        assert_eq!(concat(&[&bytes(&[1], &[3]), &bytes(&[2], &[4, 5])], 0).unwrap(), bytes(&[3], &[3, 4, 5]));
    }
}
