//! Real functions of one quantized operand, entry by entry, as a vector unit's table holds them:
//! `y = f(f32(x - zp) * xs)`, `q = clip(rne(f32(y / ys)) + yzp)`.
//!
//! Derived otherwise than the reference's, so that each is a witness for the other: every step in double precision and then
//! rounded by [`single`], which is the operation of single precision (a sum, product or quotient of singles that is
//! rounded to 53 bits rounds to the same 24, as 53 >= 2 * 24 + 2; Figueroa, "When is double rounding innocuous?", 1995);
//! sigmoid and tanh from exponentials of what is not positive; rounding by the distance to the integer below.

use crate::{ir::Op, tensor::Quantization};

/// The one rounding to single precision at the end of a step.
#[allow(clippy::cast_possible_truncation, reason = "rounding to single precision is meant")]
fn single(exact: f64) -> f32 {
    exact as f32
}

/// `f32(a * b)`.
fn times(a: f32, b: f32) -> f32 {
    single(f64::from(a) * f64::from(b))
}

/// `f32(a / b)`.
fn over(a: f32, b: f32) -> f32 {
    single(f64::from(a) / f64::from(b))
}

/// `f32(a + b)`.
fn plus(a: f32, b: f32) -> f32 {
    single(f64::from(a) + f64::from(b))
}

/// `x` raised to `low`, then cut to `high`.
fn between(x: f32, [low, high]: [f32; 2]) -> f32 {
    let raised = if x < low { low } else { x };
    if raised > high { high } else { raised }
}

/// The operator's function, the identity for operators that only move or rescale.
pub(super) fn function(op: &Op, x: f32) -> f32 {
    match *op {
        Op::Relu => between(x, [0.0, f32::INFINITY]),
        Op::LeakyRelu { alpha } if x < 0.0 => times(alpha, x),
        Op::Clip { low, high } => between(x, [low, high]),
        Op::Sigmoid => {
            // 1 / (1 + e^-x) = e^x / (1 + e^x).
            let power = (-f64::from(x).abs()).exp();
            single(if x < 0.0 { power } else { 1.0 } / (1.0 + power))
        }
        // e^x is rounded before 1 is taken from it, as in ONNX Runtime.
        Op::Elu { alpha } if x < 0.0 => times(alpha, plus(single(f64::from(x).exp()), -1.0)),
        Op::Tanh => {
            // (1 - e^-2x) / (1 + e^-2x), odd.
            let less = (-2.0 * f64::from(x).abs()).exp_m1();
            single((-less / (2.0 + less)).copysign(f64::from(x)))
        }
        Op::HardSigmoid { alpha, beta } => between(plus(times(alpha, x), beta), [0.0, 1.0]),
        Op::HardSwish => times(x, between(plus(over(x, 6.0), 0.5), [0.0, 1.0])),
        Op::Affine { alpha, beta } => plus(times(alpha, x), beta),
        _ => x,
    }
}

/// `f32(q - zero point) * scale`, per tensor.
pub(super) fn dequantize(q: i32, quantization: &Quantization) -> f32 {
    times(single(f64::from(q) - f64::from(zero(quantization))), scale(quantization))
}

/// `clip(rne(f32(y / scale)) + zero point)`; a NaN gives the zero point.
pub(super) fn quantize(y: f32, quantization: &Quantization, clamp: [i32; 2]) -> i32 {
    round_and_clip(over(y, scale(quantization)), zero(quantization), clamp)
}

/// A mean as `QLinearAveragePool` quantizes it: `clip(rne(f32(f32(mean / scale) + zero point)))`, the zero point before the
/// rounding.
pub(super) fn quantize_mean(mean: f32, quantization: &Quantization, clamp: [i32; 2]) -> i32 {
    let shifted = plus(over(mean, scale(quantization)), single(f64::from(zero(quantization))));
    round_and_clip(shifted, 0, clamp)
}

/// `clip(rne(value) + zero)`: up from the integer below where that is more than half a step away, or half a step and odd.
#[allow(clippy::cast_possible_truncation, reason = "a float to integer cast saturates, and the clamp is of 32 bits")]
#[allow(clippy::float_cmp, reason = "a tie is exactly half a step")]
pub(super) fn round_and_clip(value: f32, zero: i32, [low, high]: [i32; 2]) -> i32 {
    let below = f64::from(value).floor();
    let above = f64::from(value) - below;
    let below = below as i64;
    let rounded = below.saturating_add(i64::from(above > 0.5 || (above == 0.5 && below % 2 != 0)));
    rounded.saturating_add(i64::from(zero)).clamp(i64::from(low), i64::from(high.max(low))) as i32
}

/// The output of one input value.
pub(super) fn entry(op: &Op, q: i32, input: &Quantization, output: &Quantization, clamp: [i32; 2]) -> i32 {
    quantize(function(op, dequantize(q, input)), output, clamp)
}

/// A `PRelu` of integers: below its zero point an element times its slope, in single precision, else the element, rescaled.
pub(super) fn prelu(
    (q, input): (i32, &Quantization),
    (slope, slopes): (i32, &Quantization),
    output: &Quantization,
    clamp: [i32; 2],
) -> i32 {
    let x = dequantize(q, input);
    quantize(if q < zero(input) { times(x, dequantize(slope, slopes)) } else { x }, output, clamp)
}

/// The tensor's scale.
pub(super) fn scale(quantization: &Quantization) -> f32 {
    quantization.scale.first().copied().unwrap_or(1.0)
}

/// The tensor's zero point.
pub(super) fn zero(quantization: &Quantization) -> i32 {
    quantization.zero_point.first().copied().unwrap_or(0)
}

/// Softmax of one row of quantized values, in double precision; the result is multiplied by the whole part of `1 / scale`
/// before rounding, as ONNX Runtime's `QLinearSoftmax` does.
#[allow(clippy::cast_possible_truncation, reason = "a float to integer cast saturates, and the clamp is of 32 bits")]
pub(super) fn softmax(row: &[i32], input: &Quantization, output: &Quantization, clamp: [i32; 2], out: &mut [i32]) {
    let Some(&largest) = row.iter().max() else { return };
    // How far below the largest, in steps: a product of at most 41 bits, exact.
    let below = |q: i32| (f64::from(q) - f64::from(largest)) * f64::from(scale(input));
    let powers: Vec<f64> = row.iter().map(|&q| below(q).exp()).collect();
    let sum: f64 = powers.iter().sum();
    let steps = f64::from((1.0 / scale(output)).floor());
    for (slot, power) in out.iter_mut().zip(powers) {
        let rounded = (power / sum * steps).round_ties_even() as i64;
        let shifted = rounded.saturating_add(i64::from(zero(output)));
        *slot = shifted.clamp(i64::from(clamp[0]), i64::from(clamp[1].max(clamp[0]))) as i32;
    }
}

#[cfg(test)]
#[allow(
    clippy::cast_possible_truncation,
    clippy::cast_possible_wrap,
    clippy::cast_sign_loss,
    clippy::float_cmp,
    reason = "small numbers, and exact ones"
)]
mod tests {
    use super::*;

    #[test]
    fn a_rescaling_rounds_half_to_even_and_clips() {
        let (input, output) = (Quantization::per_tensor(0.5, 10), Quantization::per_tensor(1.0, 3));
        let rescale = |q| entry(&Op::Concat { axis: 1 }, q, &input, &output, [0, 255]);
        assert_eq!([10, 11, 13, 0, 255].map(rescale), [3, 3, 5, 0, 125]);
    }

    #[test]
    fn functions_meet_their_definitions_at_known_points() {
        assert_eq!(function(&Op::Sigmoid, 0.0), 0.5);
        assert_eq!(function(&Op::HardSwish, 3.0), 3.0);
        assert_eq!(function(&Op::HardSwish, -3.0), 0.0);
        assert_eq!(function(&Op::LeakyRelu { alpha: 0.25 }, -4.0), -1.0);
        assert_eq!(function(&Op::Clip { low: 0.0, high: 6.0 }, 7.0), 6.0);
        assert_eq!(function(&Op::HardSigmoid { alpha: 0.2, beta: 0.5 }, -10.0), 0.0);
        assert_eq!(function(&Op::Tanh, 0.0), 0.0);
        assert_eq!(function(&Op::Relu, -1.0), 0.0);
        assert_eq!(function(&Op::Elu { alpha: 3.0 }, -100.0), -3.0);
        assert_eq!(function(&Op::Elu { alpha: 3.0 }, 0.5), 0.5);
    }

    #[test]
    fn a_prelu_scales_what_is_below_its_zero_point() {
        let (input, slopes) = (Quantization::per_tensor(0.5, 10), Quantization::per_tensor(0.25, -1));
        let of = |q| prelu((q, &input), (3, &slopes), &Quantization::per_tensor(0.5, 0), [-128, 127]);
        assert_eq!([8, 9, 10, 14].map(of), [-2, -1, 0, 4]);
    }

    #[test]
    fn softmax_of_equal_values_is_uniform() {
        let mut out = [0; 4];
        let output = Quantization::per_tensor(1.0 / 256.0, 0);
        softmax(&[7; 4], &Quantization::per_tensor(0.1, 3), &output, [0, 255], &mut out);
        assert_eq!(out, [64; 4]);
    }
}
