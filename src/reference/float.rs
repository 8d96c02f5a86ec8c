//! Float32 operators. They only have to be accurate, not equal to another implementation bit for bit: sums are made
//! in float64 where that is cheap, convolutions by float32 matrix products.

use super::{
    Outcome, Reason,
    elementwise::{broadcast, lanes},
    geometry::Geometry,
    integers::{array, to_float},
    pool,
    product::{convolve, matrix},
};
use crate::{
    ir::{Activation, Op},
    tensor::Tensor,
};

/// Evaluates an operator on float32 operands.
pub(super) fn evaluate(op: &Op, operands: &[&Tensor]) -> Outcome<Tensor> {
    let x = to_float(operands[0])?;
    let shape = operands[0].shape();
    let each = |f: &dyn Fn(f32) -> f32| tensor(shape, x.iter().map(|&x| f(x)).collect());
    let pair = |f: fn(f32, f32) -> f32| {
        let b = to_float(operands[1])?;
        let (shape, y) = broadcast(shape, &x, operands[1].shape(), &b, f)?;
        Ok((shape, y))
    };
    match op {
        Op::Conv { window, groups, activation } => {
            let geometry = Geometry::new(shape, operands[1].shape(), window, *groups)?;
            let weight = to_float(operands[1])?;
            let bias = bias(operands.get(2), geometry.o * geometry.groups)?;
            let finish = |channel: usize, sum: f64| activate(narrow(sum + bias[channel]), *activation);
            tensor(&geometry.output(), convolve(&geometry, &x, &weight, geometry.k(), finish)?)
        }
        Op::MatMul { transposed, activation } => {
            let ([m, k, n], output) = matrix_shape(shape, operands[1].shape(), *transposed)?;
            let weight = to_float(operands[1])?;
            let bias = bias(operands.get(2), n)?;
            let finish = |channel: usize, sum: f64| activate(narrow(sum + bias[channel]), *activation);
            tensor(&output, matrix([m, k, n], &x, &weight, *transposed, k, finish)?)
        }
        Op::Add { activation } => {
            let (shape, y) = pair(|a, b| a + b)?;
            tensor(&shape, y.into_iter().map(|y| activate(y, *activation)).collect())
        }
        Op::Sub => pair(|a, b| a - b).and_then(|(shape, y)| tensor(&shape, y)),
        Op::Mul => pair(|a, b| a * b).and_then(|(shape, y)| tensor(&shape, y)),
        Op::Div => pair(|a, b| a / b).and_then(|(shape, y)| tensor(&shape, y)),
        Op::Relu
        | Op::LeakyRelu { .. }
        | Op::Clip { .. }
        | Op::Sigmoid
        | Op::Tanh
        | Op::HardSigmoid { .. }
        | Op::HardSwish => each(&|x| unary(op, x)),
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
        Op::Sigmoid => narrow(1.0 / (1.0 + (-f64::from(x)).exp())),
        Op::Tanh => narrow(f64::from(x).tanh()),
        Op::HardSigmoid { alpha, beta } => (alpha * x + beta).clamp(0.0, 1.0),
        Op::HardSwish => x * (x / 6.0 + 0.5).clamp(0.0, 1.0),
        ref other => unreachable!("{} is not an elementwise function", other.name()),
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

fn batch_norm(shape: &[usize], x: &[f32], parameters: &[&Tensor], epsilon: f32) -> Outcome<Tensor> {
    let channels = shape.get(1).copied().unwrap_or(1);
    let parameters = parameters.iter().map(|p| to_float(p)).collect::<Outcome<Vec<_>>>()?;
    if parameters.iter().any(|p| p.len() != channels) {
        return Err(Reason::Shape(format!("parameters of another number than the {channels} channels")));
    }
    let inner: usize = shape.iter().skip(2).product();
    let y = x.iter().enumerate().map(|(index, &x)| {
        let channel = index / inner % channels;
        let [scale, bias, mean, var] = [0, 1, 2, 3].map(|which| f64::from(parameters[which][channel]));
        narrow((f64::from(x) - mean) / (var + f64::from(epsilon)).sqrt() * scale + bias)
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
