//! Real functions of one quantized operand, entry by entry, as a vector unit's table holds them:
//! `y = f(f32(x - zp) * xs)`, `q = clip(rne(f32(y / ys)) + yzp)`.

use crate::{ir::Op, tensor::Quantization};

/// The operator's function in single precision; sigmoid and tanh through double. The identity for operators that only
/// move or rescale.
#[allow(clippy::cast_possible_truncation, reason = "rounding to single precision is meant")]
pub(super) fn function(op: &Op, x: f32) -> f32 {
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
        Op::Elu { alpha } if x < 0.0 => alpha * (f64::from(x).exp() as f32 - 1.0),
        Op::Sigmoid => (1.0 / (1.0 + (-f64::from(x)).exp())) as f32,
        Op::Tanh => f64::from(x).tanh() as f32,
        Op::HardSigmoid { alpha, beta } => (alpha * x + beta).clamp(0.0, 1.0),
        Op::HardSwish => x * (x / 6.0 + 0.5).clamp(0.0, 1.0),
        _ => x,
    }
}

/// `f32(q - zero point) * scale`, per tensor.
pub(super) fn dequantize(q: i32, quantization: &Quantization) -> f32 {
    (i64::from(q) - i64::from(zero(quantization))) as f32 * scale(quantization)
}

/// `clip(rne(f32(y / scale)) + zero point)`; a NaN gives the zero point.
pub(super) fn quantize(y: f32, quantization: &Quantization, clamp: [i32; 2]) -> i32 {
    round_and_clip(y / scale(quantization), zero(quantization), clamp)
}

/// A mean as `QLinearAveragePool` quantizes it: `clip(rne(f32(f32(mean / scale) + zero point)))`, the zero point before the
/// rounding.
#[allow(clippy::cast_precision_loss, reason = "zero points are of at most 16 bits")]
pub(super) fn quantize_mean(mean: f32, quantization: &Quantization, clamp: [i32; 2]) -> i32 {
    round_and_clip(mean / scale(quantization) + zero(quantization) as f32, 0, clamp)
}

/// `clip(rne(value) + zero)`.
#[allow(clippy::cast_possible_truncation, reason = "a float to integer cast saturates, and the clamp is of 32 bits")]
pub(super) fn round_and_clip(value: f32, zero: i32, [low, high]: [i32; 2]) -> i32 {
    let rounded = (value.round_ties_even() as i64).saturating_add(i64::from(zero));
    rounded.clamp(i64::from(low), i64::from(high.max(low))) as i32
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
    quantize(if q < zero(input) { x * dequantize(slope, slopes) } else { x }, output, clamp)
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
    let real = |q: i32| f64::from(q) * f64::from(scale(input));
    let Some(&largest) = row.iter().max() else { return };
    let powers: Vec<f64> = row.iter().map(|&q| (real(q) - real(largest)).exp()).collect();
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
