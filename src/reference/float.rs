//! Float32 operators. They only have to be accurate, not equal to another implementation bit for bit: sums are made
//! in float64 where that is cheap, convolutions by float32 matrix products.

use std::{borrow::Cow, ops::Range};

use super::{
    Outcome, Reason,
    batch::Batch,
    elementwise::{broadcast, lanes},
    geometry::Geometry,
    integers::{array, to_float},
    pool,
    product::{convolve, matrix},
};
use crate::{
    ir::{Activation, Kind, Op},
    tensor::Tensor,
};

/// Evaluates an operator on float32 operands.
pub(super) fn evaluate(op: &Op, operands: &[&Tensor]) -> Outcome<Tensor> {
    let x = to_float(operands[0])?;
    let shape = operands[0].shape();
    let each = |f: &dyn Fn(f32) -> f32| tensor(shape, x.iter().map(|&x| f(x)).collect());
    match op {
        Op::Conv { window, groups, activation } => {
            let geometry = Geometry::new(shape, operands[1].shape(), window, *groups)?;
            let weight = to_float(operands[1])?;
            let bias = bias(operands.get(2), geometry.o * geometry.groups)?;
            let k = geometry.k();
            let part = |channels: Range<usize>| Cow::Borrowed(&weight[channels.start * k..channels.end * k]);
            let finish = |channel: usize, sum: f64| activate(narrow(sum + bias[channel]), *activation);
            tensor(&geometry.output(), convolve(&geometry, &x, part, geometry.k(), finish)?)
        }
        Op::MatMul { transposed, activation } => {
            let ([m, k, n], output) = matrix_shape(shape, operands[1].shape(), *transposed)?;
            let weight = to_float(operands[1])?;
            let bias = bias(operands.get(2), n)?;
            let part = |channels: Range<usize>| {
                if *transposed {
                    return Cow::Borrowed(&weight[channels.start * k..channels.end * k]);
                }
                Cow::Owned(weight.chunks_exact(n).flat_map(|row| &row[channels.clone()]).copied().collect())
            };
            let finish = |channel: usize, sum: f64| activate(narrow(sum + bias[channel]), *activation);
            tensor(&output, matrix([m, k, n], &x, part, *transposed, k, finish)?)
        }
        Op::BatchMatMul => {
            let batch = Batch::new(shape, operands[1].shape())?;
            let [m, k, n] = batch.matrix;
            let b = to_float(operands[1])?;
            let mut y = Vec::new();
            for (x, b) in batch.operands(&x, &b) {
                let part = |columns: Range<usize>| {
                    Cow::Owned(b.chunks_exact(n).flat_map(|row| &row[columns.clone()]).copied().collect())
                };
                y.extend(matrix([m, k, n], x, part, false, k, |_, sum| narrow(sum))?);
            }
            tensor(&batch.output, y)
        }
        op if op.kind() == Kind::Binary => {
            let b = to_float(operands[1])?;
            let (shape, y) = broadcast(shape, &x, operands[1].shape(), &b, |a, b| binary(op, a, b))?;
            tensor(&shape, y)
        }
        op if op.is_function() => each(&|x| unary(op, x)),
        Op::BatchNorm { epsilon } => batch_norm(shape, &x, &operands[1..], *epsilon),
        Op::AvgPool { window, count_include_pad } => {
            let (shape, y) = pool::average(shape, &x, window, |elements, padded, x| {
                let sum: f64 = elements.iter().map(|&index| f64::from(x[index])).sum();
                narrow(sum / if *count_include_pad { padded } else { elements.len() } as f64)
            })?;
            tensor(&shape, y)
        }
        Op::GlobalAvgPool => {
            let axes: Vec<usize> = (2..shape.len()).collect();
            float_mean(shape, &x, &axes, true)
        }
        Op::ReduceMean { axes, keep_dims } => float_mean(shape, &x, axes, *keep_dims),
        Op::Softmax { axis } => {
            let mut y = vec![0.0; x.len()];
            for lane in lanes(shape, *axis)? {
                let values: Vec<f64> = lane.clone().map(|index| f64::from(x[index])).collect();
                for (index, p) in lane.zip(softmax(&values)) {
                    y[index] = narrow(p);
                }
            }
            tensor(shape, y)
        }
        other => Err(Reason::Type(format!("{} has no float form", other.name()))),
    }
}

/// The function of an elementwise operator, in float32; transcendental ones in float64, rounded once.
///
/// # Panics
/// For another operator.
pub(super) fn unary(op: &Op, x: f32) -> f32 {
    match *op {
        Op::Relu => x.max(0.0),
        Op::LeakyRelu { alpha } => {
            if x < 0.0 {
                alpha * x
            } else {
                x
            }
        }
        Op::Clip { low, high } => x.max(low).min(high),
        // Three roundings, as ONNX Runtime's kernel has them.
        Op::Elu { alpha } => {
            if x < 0.0 {
                alpha * (narrow(f64::from(x).exp()) - 1.0)
            } else {
                x
            }
        }
        Op::Sigmoid => narrow(1.0 / (1.0 + (-f64::from(x)).exp())),
        Op::Tanh => narrow(f64::from(x).tanh()),
        Op::HardSigmoid { alpha, beta } => (alpha * x + beta).clamp(0.0, 1.0),
        Op::HardSwish => x * (x / 6.0 + 0.5).clamp(0.0, 1.0),
        Op::Affine { alpha, beta } => alpha * x + beta,
        ref other => unreachable!("{} is not an elementwise function", other.name()),
    }
}

/// The function of an operator on two elements, in float32. `Min` and `Max` give the NaN if there is one, and of two zeros
/// the second, as ONNX Runtime's do.
///
/// # Panics
/// For another operator.
pub(super) fn binary(op: &Op, a: f32, b: f32) -> f32 {
    match *op {
        Op::Add { activation } => activate(a + b, activation),
        Op::Sub => a - b,
        Op::Mul => a * b,
        Op::Div => a / b,
        Op::Min if a < b || a.is_nan() => a,
        Op::Max if a > b || a.is_nan() => a,
        Op::Min | Op::Max => b,
        Op::PRelu if a < 0.0 => b * a,
        Op::PRelu => a,
        ref other => unreachable!("{} is not a function of two elements", other.name()),
    }
}

/// `exp(x - max) / sum`, in float64.
pub(super) fn softmax(values: &[f64]) -> Vec<f64> {
    let largest = values.iter().copied().fold(f64::NEG_INFINITY, f64::max);
    let powers: Vec<f64> = values.iter().map(|value| (value - largest).exp()).collect();
    let sum: f64 = powers.iter().sum();
    powers.into_iter().map(|power| power / sum).collect()
}

/// `[m, k, n]` and the output's shape of `[..., k]` by a weight `[n, k]` if `transposed`, else `[k, n]`.
pub(super) fn matrix_shape(x: &[usize], weight: &[usize], transposed: bool) -> Outcome<([usize; 3], Vec<usize>)> {
    let fault = || Reason::Shape(format!("input {x:?} and weight {weight:?} do not fit"));
    let (&k, leading) = x.split_last().ok_or_else(fault)?;
    let (inner, n) = match *weight {
        [a, b] if transposed => (b, a),
        [a, b] => (a, b),
        _ => return Err(fault()),
    };
    if inner != k || k == 0 {
        return Err(fault());
    }
    let mut output = leading.to_vec();
    output.push(n);
    super::checked_size(&output)?;
    Ok(([leading.iter().product(), k, n], output))
}

fn tensor(shape: &[usize], data: Vec<f32>) -> Outcome<Tensor> {
    array(shape, data).map(Tensor::F32)
}

fn bias(operand: Option<&&Tensor>, channels: usize) -> Outcome<Vec<f64>> {
    let Some(operand) = operand else { return Ok(vec![0.0; channels]) };
    if operand.len() != channels {
        return Err(Reason::Shape(format!("a bias of {:?} for {channels} channels", operand.shape())));
    }
    Ok(to_float(operand)?.iter().map(|&bias| f64::from(bias)).collect())
}

fn activate(y: f32, activation: Activation) -> f32 {
    match activation {
        Activation::None => y,
        Activation::Relu => y.max(0.0),
        Activation::Clip { low, high } => y.max(low).min(high),
    }
}

/// `x f + (bias - mean f)` with `f = (1 / sqrt(var + epsilon)) scale`, in float32: ONNX Runtime's order, to the bit.
fn batch_norm(shape: &[usize], x: &[f32], parameters: &[&Tensor], epsilon: f32) -> Outcome<Tensor> {
    let channels = shape.get(1).copied().unwrap_or(1);
    let parameters = parameters.iter().map(|p| to_float(p)).collect::<Outcome<Vec<_>>>()?;
    if parameters.iter().any(|p| p.len() != channels) {
        return Err(Reason::Shape(format!("parameters of another number than the {channels} channels")));
    }
    let inner: usize = shape.iter().skip(2).product();
    let [scale, bias, mean, variance] = [0, 1, 2, 3].map(|which| &parameters[which]);
    let y = x.iter().enumerate().map(|(index, &x)| {
        let channel = index / inner % channels;
        let factor = 1.0 / (variance[channel] + epsilon).sqrt() * scale[channel];
        x * factor + (bias[channel] - mean[channel] * factor)
    });
    tensor(shape, y.collect())
}

fn float_mean(shape: &[usize], x: &[f32], axes: &[usize], keep_dims: bool) -> Outcome<Tensor> {
    let (shape, sums, count) = pool::sums(shape, axes, keep_dims, |index| f64::from(x[index]))?;
    tensor(&shape, sums.into_iter().map(|sum| narrow(sum / count as f64)).collect())
}

#[allow(clippy::cast_possible_truncation)] // The one rounding to float32.
fn narrow(value: f64) -> f32 {
    value as f32
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::ir::Window;

    fn floats(shape: &[usize], values: &[f32]) -> Tensor {
        Tensor::from_f32(shape, values.to_vec()).unwrap()
    }

    fn result(op: &Op, operands: &[&Tensor]) -> (Vec<usize>, Vec<f32>) {
        let y = evaluate(op, operands).unwrap();
        (y.shape().to_vec(), y.to_f32())
    }

    proptest! {
        #[test]
        fn a_convolution_is_the_sum_of_its_products(
            [n, groups, c, o] in prop::array::uniform4(1_usize..4),
            [h, w] in prop::array::uniform2(3_usize..7),
            stride in prop::array::uniform2(1_usize..3),
            pad in prop::array::uniform4(0_usize..3),
            seed in prop::collection::vec(-1.0_f32..1.0, 1200),
        ) {
            let window = Window { kernel: [3, 2], stride, dilation: [1, 2], pad };
            let x = floats(&[n, c * groups, h, w], &seed[..n * c * groups * h * w]);
            let weight = floats(&[o * groups, c, 3, 2], &seed[seed.len() - o * groups * c * 6..]);
            let bias = floats(&[o * groups], &seed[..o * groups]);
            let geometry = Geometry::new(x.shape(), weight.shape(), &window, groups).unwrap();
            let op = Op::Conv { window, groups, activation: Activation::None };
            let (shape, y) = result(&op, &[&x, &weight, &bias]);
            prop_assert_eq!(&shape, &geometry.output());
            let (x, weight) = (x.to_f32(), weight.to_f32());
            for (index, y) in y.into_iter().enumerate() {
                let (plane, pixel) = (index / (geometry.p * geometry.q), index % (geometry.p * geometry.q));
                let (image, channel) = (plane / (o * groups), plane % (o * groups));
                let group = image * groups + channel / o;
                let sum: f64 = (0..geometry.k())
                    .filter_map(|k| {
                        let tap = geometry.tap([pixel / geometry.q, pixel % geometry.q], k)?;
                        let product = x[group * c * h * w + tap] * weight[channel * geometry.k() + k];
                        Some(f64::from(product))
                    })
                    .sum();
                prop_assert!((f64::from(y) - sum - f64::from(seed[channel])).abs() < 1e-5);
            }
        }
    }

    #[test]
    fn elementwise_functions_have_their_values() {
        let functions = [
            (Op::Relu, -1.0, 0.0),
            (Op::LeakyRelu { alpha: 0.5 }, -3.0, -1.5),
            (Op::LeakyRelu { alpha: 0.5 }, 3.0, 3.0),
            (Op::Clip { low: 0.0, high: 6.0 }, 7.0, 6.0),
            (Op::Sigmoid, 0.0, 0.5),
            (Op::Sigmoid, -200.0, 0.0),
            (Op::Tanh, 20.0, 1.0),
            (Op::HardSigmoid { alpha: 0.25, beta: 0.5 }, 1.0, 0.75),
            (Op::HardSigmoid { alpha: 0.25, beta: 0.5 }, -9.0, 0.0),
            (Op::HardSwish, 3.0, 3.0),
            (Op::Affine { alpha: -0.5, beta: 0.25 }, 3.0, -1.25),
            (Op::HardSwish, -1.5, -0.375),
            (Op::Elu { alpha: 2.0 }, 3.0, 3.0),
            (Op::Elu { alpha: 2.0 }, -200.0, -2.0),
            // 2 (f32(exp(-1)) - 1).
            (Op::Elu { alpha: 2.0 }, -1.0, -1.264_241_1),
        ];
        for (op, x, y) in functions {
            assert!((unary(&op, x) - y).abs() < 1e-30, "{op:?} of {x}");
        }
    }

    #[test]
    fn operands_are_broadcast_from_the_last_dimension() {
        let a = floats(&[2, 1, 2], &[1.0, 2.0, 3.0, 4.0]);
        let b = floats(&[3, 1], &[10.0, 20.0, 30.0]);
        let (shape, y) = result(&Op::Sub, &[&a, &b]);
        assert_eq!(shape, [2, 3, 2]);
        assert_eq!(y, [-9.0, -8.0, -19.0, -18.0, -29.0, -28.0, -7.0, -6.0, -17.0, -16.0, -27.0, -26.0]);
        let scalar = floats(&[], &[2.0]);
        assert_eq!(result(&Op::Div, &[&b, &scalar]), (vec![3, 1], vec![5.0, 10.0, 15.0]));
        assert!(evaluate(&Op::Mul, &[&a, &floats(&[3], &[0.0; 3])]).is_err());
        let slope = floats(&[2], &[0.5, -2.0]);
        assert_eq!(result(&Op::PRelu, &[&floats(&[2, 2], &[-2.0, -2.0, 2.0, 2.0]), &slope]).1, [-1.0, 4.0, 2.0, 2.0]);
    }

    #[test]
    fn minima_and_maxima_give_the_nan_and_the_second_of_two_zeros() {
        let of = |op: &Op, a: f32, b: f32| binary(op, a, b);
        for op in [Op::Min, Op::Max] {
            assert!(of(&op, f32::NAN, 1.0).is_nan() && of(&op, 1.0, f32::NAN).is_nan());
            assert!(of(&op, 0.0, -0.0).is_sign_negative() && of(&op, -0.0, 0.0).is_sign_positive());
        }
        assert_eq!([of(&Op::Min, 1.0, -2.0), of(&Op::Max, 1.0, -2.0)].map(f32::to_bits), [-2.0, 1.0].map(f32::to_bits));
    }

    #[test]
    fn averages_count_the_padding_only_where_they_should() {
        let x = floats(&[1, 1, 1, 3], &[3.0, 6.0, 9.0]);
        let window = Window { kernel: [1, 3], stride: [1, 1], dilation: [1, 1], pad: [0, 1, 0, 1] };
        let pool = |count_include_pad| result(&Op::AvgPool { window, count_include_pad }, &[&x]).1;
        assert_eq!(pool(true), [3.0, 6.0, 5.0]);
        assert_eq!(pool(false), [4.5, 6.0, 7.5]);
        assert_eq!(result(&Op::GlobalAvgPool, &[&x]), (vec![1, 1, 1, 1], vec![6.0]));
        let matrix = floats(&[2, 2], &[1.0, 2.0, 5.0, 8.0]);
        let mean = |axes: &[usize], keep_dims| result(&Op::ReduceMean { axes: axes.to_vec(), keep_dims }, &[&matrix]);
        assert_eq!(mean(&[0], false), (vec![2], vec![3.0, 5.0]));
        assert_eq!(mean(&[1], true), (vec![2, 1], vec![1.5, 6.5]));
        assert_eq!(mean(&[0, 1], false), (vec![], vec![4.0]));
    }

    #[test]
    fn batch_normalization_is_per_channel() {
        let x = floats(&[1, 2, 1, 2], &[1.0, 3.0, 5.0, 7.0]);
        let parameters = [[2.0, 1.0], [0.5, 0.0], [1.0, 5.0], [3.0, 0.0]].map(|p| floats(&[2], &p));
        let operands: Vec<&Tensor> = std::iter::once(&x).chain(&parameters).collect();
        assert_eq!(result(&Op::BatchNorm { epsilon: 1.0 }, &operands).1, [0.5, 2.5, 0.0, 2.0]);
    }

    #[test]
    fn softmax_runs_along_its_axis() {
        let x = floats(&[2, 2], &[0.0, 1000.0, 0.0, 1000.0]);
        assert_eq!(result(&Op::Softmax { axis: 0 }, &[&x]).1, [0.5; 4]);
        assert_eq!(result(&Op::Softmax { axis: 1 }, &[&x]).1, [0.0, 1.0, 0.0, 1.0]);
    }
}
