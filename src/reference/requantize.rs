//! From accumulator to output: every requantizer, applied to exact 64-bit accumulators.
//!
//! Intermediate values are held in 128 bits and never wrap, so that a definition has no hidden width. Results past
//! the output's range are clipped, whatever their size.

use super::{Outcome, Reason, integers::Target};
use crate::{
    ir::{Activation, Value},
    tensor::{Quantization, Requantizer, Rounding},
};

/// The derived parameters of one output channel.
#[derive(Clone, Copy, Debug, PartialEq)]
enum Multiplier {
    /// `rne(f32(acc) * m)`.
    Float(f32),
    /// `M = q * 2^(e - 31)`, two roundings.
    Double { q: i32, e: i32 },
    /// `M = q * 2^(e - 31)`, one rounding.
    Single { q: i32, e: i32 },
    /// `M = q * 2^-shift`.
    Shift { q: i64, shift: u32, rounding: Rounding },
}

/// A layer's requantizer: one multiplier a channel (or one for all), and the output's range.
#[derive(Clone, Debug)]
pub(super) struct Requantize {
    multipliers: Vec<Multiplier>,
    target: Target,
}

impl Requantize {
    /// Derives the multipliers of `input_scale * weight_scale / output_scale`. `target` carries the fused
    /// activation's limits already.
    pub(super) fn new(
        requantizer: Requantizer,
        input_scale: f32,
        weight: &Quantization,
        target: Target,
    ) -> Outcome<Self> {
        let multipliers = weight
            .scale
            .iter()
            .enumerate()
            .map(|(channel, &weight_scale)| {
                let multiplier = f64::from(input_scale) * f64::from(weight_scale) / f64::from(target.scale);
                let derived = match requantizer {
                    Requantizer::F32Rne => {
                        let m = (input_scale * weight_scale) / target.scale;
                        m.is_finite().then_some(Multiplier::Float(m))
                    }
                    Requantizer::FixedDouble31 => {
                        mantissa_31(multiplier).map(|(q, e)| Multiplier::Double { q, e })
                    }
                    Requantizer::FixedSingle31 => {
                        mantissa_31(multiplier).map(|(q, e)| Multiplier::Single { q, e })
                    }
                    Requantizer::FixedMul { bits, max_shift, rounding } => {
                        integer_multiplier(multiplier, bits, max_shift)
                            .map(|(q, shift)| Multiplier::Shift { q, shift, rounding })
                    }
                };
                derived.ok_or(Reason::Multiplier { channel, multiplier, requantizer })
            })
            .collect::<Outcome<Vec<_>>>()?;
        Ok(Self { multipliers, target })
    }

    /// The output of one accumulator.
    pub(super) fn apply(&self, channel: usize, accumulator: i64) -> i32 {
        let multiplier = if self.multipliers.len() == 1 { self.multipliers[0] } else { self.multipliers[channel] };
        let scaled = match multiplier {
            Multiplier::Float(m) => return self.target.place((accumulator as f32 * m).round_ties_even()),
            Multiplier::Double { q, e } => double_rounded(accumulator, q, e),
            Multiplier::Single { q, e } => {
                let product = i128::from(accumulator) * i128::from(q);
                if e >= 31 {
                    shift_left(product, e.unsigned_abs() - 31)
                } else {
                    round_shift(product, (31 - e).unsigned_abs(), Rounding::HalfUp)
                }
            }
            Multiplier::Shift { q, shift, rounding } => {
                round_shift(i128::from(accumulator) * i128::from(q), shift, rounding)
            }
        };
        self.target.clip(saturate(scaled).saturating_add(i64::from(self.target.zero)))
    }
}

/// The output's range after a fused activation: `clip(rne(limit / scale) + zero_point)`.
pub(super) fn activated(target: Target, activation: Activation) -> Target {
    let limit = |real: f32| i64::from(target.quantize(real));
    match activation {
        Activation::None => target,
        Activation::Relu => Target { low: limit(0.0), ..target },
        Activation::Clip { low, high } => Target { low: limit(low), high: limit(high), ..target },
    }
}

/// The output of a node with a fused activation.
pub(super) fn activated_target(output: &Value, activation: Activation) -> Outcome<Target> {
    Ok(activated(Target::new(output)?, activation))
}

/// `M = q * 2^(e - 31)` with `2^30 <= q < 2^31`: `frexp`, then `q = round(m * 2^31)`, and where that is 2^31, `q / 2`
/// and `e + 1` (TFLite's `QuantizeMultiplier`, without its flush of multipliers below 2^-32 to zero: for 32-bit
/// accumulators they round to zero anyway).
fn mantissa_31(multiplier: f64) -> Option<(i32, i32)> {
    // A product and quotient of float32 values is far from float64's subnormals and its overflow.
    if !(multiplier.is_normal() && multiplier > 0.0) {
        return None;
    }
    let exponent = i32::try_from((multiplier.to_bits() >> 52) & 0x7ff).ok()? - 1022;
    let mantissa = f64::from_bits((multiplier.to_bits() & !(0x7ff << 52)) | (1022 << 52));
    #[allow(clippy::cast_possible_truncation)] // In [2^30, 2^31].
    let q = (mantissa * f64::from(1_u32 << 31)).round() as i64;
    let (q, exponent) = if q == 1 << 31 { (q / 2, exponent + 1) } else { (q, exponent) };
    Some((i32::try_from(q).ok()?, exponent))
}

/// `M = q * 2^-shift` with the largest `shift <= max_shift` for which `q = round(M * 2^shift) < 2^(bits - 1)`, ties
/// away from zero. `None` where not even shift 0 will do.
fn integer_multiplier(multiplier: f64, bits: u8, max_shift: u8) -> Option<(i64, u32)> {
    if !(2..=32).contains(&bits) || max_shift > 62 || !multiplier.is_finite() {
        return None;
    }
    let limit = f64::from(1_u32 << (bits - 1));
    (0..=u32::from(max_shift)).rev().find_map(|shift| {
        // Exact: a power of two.
        let scaled = (multiplier * (1_u64 << shift) as f64).round();
        #[allow(clippy::cast_possible_truncation)] // Below 2^31.
        (scaled < limit).then_some((scaled as i64, shift))
    })
}

/// gemmlowp: saturating rounding doubling high multiply of `acc << max(e, 0)` and `q`, then a rounding right shift by
/// `max(-e, 0)`, half away from zero.
fn double_rounded(accumulator: i64, q: i32, e: i32) -> i128 {
    // Past 2^94 every further step ends beyond any output's range; the clamp keeps the product in 128 bits.
    let bound = 1_i128 << 94;
    let shifted = shift_left(i128::from(accumulator), e.max(0).unsigned_abs()).clamp(-bound, bound);
    let product = shifted * i128::from(q);
    let nudge = if product >= 0 { 1_i128 << 30 } else { 1 - (1_i128 << 30) };
    // Division truncates toward zero.
    let high = (product + nudge) / (1_i128 << 31);
    round_shift(high, e.min(0).unsigned_abs(), Rounding::HalfAway)
}

/// `value * 2^shift`, saturating.
fn shift_left(value: i128, shift: u32) -> i128 {
    if value == 0 {
        return 0;
    }
    value.saturating_mul(1_i128 << shift.min(126))
}

/// `value / 2^shift`, rounded.
fn round_shift(value: i128, shift: u32, rounding: Rounding) -> i128 {
    if shift == 0 {
        return value;
    }
    if shift > 126 {
        // Values here have at most 95 + 31 bits: nothing but the sign is left.
        return if rounding == Rounding::Floor && value < 0 { -1 } else { 0 };
    }
    let floor = value >> shift;
    let rest = value - (floor << shift);
    let half = 1_i128 << (shift - 1);
    let up = match rounding {
        Rounding::Floor => false,
        Rounding::HalfUp => rest >= half,
        Rounding::HalfAway => rest > half || (rest == half && value >= 0),
        Rounding::HalfEven => rest > half || (rest == half && floor & 1 == 1),
    };
    floor + i128::from(up)
}

fn saturate(value: i128) -> i64 {
    i64::try_from(value).unwrap_or(if value < 0 { i64::MIN } else { i64::MAX })
}
