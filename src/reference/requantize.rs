//! From accumulator to output: every requantizer, applied to exact 64-bit accumulators.
//!
//! Intermediate values are held in 128 bits and never wrap, so that a definition has no hidden width. Results past
//! the output's range are clipped, whatever their size.

use super::{
    Outcome, Reason,
    integers::{Target, round_even},
};
use crate::{
    ir::{Activation, Value},
    tensor::{Quantization, Requantizer, Rounding},
};

/// The derived parameters of one output channel.
#[derive(Clone, Copy, Debug, PartialEq)]
enum Multiplier {
    /// `rne(f32(acc) * m)`.
    Float(f32),
    /// Integers.
    Fixed(FixedPoint),
}

/// A multiplier `M` in integers.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) enum FixedPoint {
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
                        mantissa_31(multiplier).map(|(q, e)| Multiplier::Fixed(FixedPoint::Double { q, e }))
                    }
                    Requantizer::FixedSingle31 => {
                        mantissa_31(multiplier).map(|(q, e)| Multiplier::Fixed(FixedPoint::Single { q, e }))
                    }
                    Requantizer::FixedMul { bits, max_shift, rounding } => {
                        integer_multiplier(multiplier, bits, max_shift)
                            .map(|(q, shift)| Multiplier::Fixed(FixedPoint::Shift { q, shift, rounding }))
                    }
                };
                derived.ok_or(Reason::Multiplier { channel, multiplier, requantizer })
            })
            .collect::<Outcome<Vec<_>>>()?;
        Ok(Self { multipliers, target })
    }

    /// The output of one accumulator.
    #[inline]
    pub(super) fn apply(&self, channel: usize, accumulator: i64) -> i32 {
        let multiplier = if self.multipliers.len() == 1 { self.multipliers[0] } else { self.multipliers[channel] };
        match multiplier {
            Multiplier::Float(m) => self.target.place(round_even(accumulator as f32 * m)),
            Multiplier::Fixed(multiplier) => {
                let scaled = saturate(multiplier.scale(accumulator));
                self.target.clip(scaled.saturating_add(i64::from(self.target.zero)))
            }
        }
    }
}

impl FixedPoint {
    /// The accumulator times `M`, rounded.
    pub(super) fn scale(self, accumulator: i64) -> i128 {
        match self {
            Self::Double { q, e } => double_rounded(accumulator, q, e),
            Self::Single { q, e } => {
                let product = i128::from(accumulator) * i128::from(q);
                if e >= 31 {
                    shift_left(product, e.unsigned_abs() - 31)
                } else {
                    round_shift(product, (31 - e).unsigned_abs(), Rounding::HalfUp)
                }
            }
            Self::Shift { q, shift, rounding } => round_shift(i128::from(accumulator) * i128::from(q), shift, rounding),
        }
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
/// and `e + 1` (`TFLite`'s `QuantizeMultiplier`, without its flush of multipliers below 2^-32 to zero: for 32-bit
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

#[cfg(test)]
#[allow(clippy::float_cmp)] // Exact values are what is tested.
mod tests {
    use proptest::prelude::*;

    use super::*;

    const WIDE: Target = Target { scale: 1.0, zero: 0, low: i32::MIN as i64, high: i32::MAX as i64 };

    fn requantize(requantizer: Requantizer, multiplier: f32, target: Target) -> Requantize {
        Requantize::new(requantizer, multiplier, &Quantization::per_tensor(1.0, 0), target).unwrap()
    }

    /// gemmlowp's `SaturatingRoundingDoublingHighMul` and `RoundingDivideByPOT`, as they stand there.
    fn gemmlowp(accumulator: i32, q: i32, e: i32) -> i64 {
        let shifted = i64::from(accumulator) << e.max(0);
        let product = i128::from(shifted) * i128::from(q);
        let nudge = if product >= 0 { 1_i128 << 30 } else { 1 - (1_i128 << 30) };
        let high = i64::try_from((product + nudge) / (1 << 31)).unwrap();
        let exponent = (-e).max(0);
        let mask = (1_i64 << exponent) - 1;
        let threshold = (mask >> 1) + i64::from(high < 0);
        (high >> exponent) + i64::from((high & mask) > threshold)
    }

    fn clipped(value: i64) -> i32 {
        i32::try_from(value.clamp(WIDE.low, WIDE.high)).unwrap()
    }

    /// Whether `result` is `numerator / 2^shift` rounded by a rule, judged by distances alone.
    fn is_rounded(numerator: i128, shift: u32, rounding: Rounding, result: i128) -> bool {
        let twice_error = 2 * (result * (1 << shift) - numerator);
        let unit = 1_i128 << shift;
        match rounding {
            Rounding::Floor => twice_error <= 0 && twice_error > -2 * unit,
            _ if twice_error.abs() != unit => twice_error.abs() < unit,
            Rounding::HalfUp => twice_error > 0,
            Rounding::HalfAway => (twice_error > 0) == (numerator > 0),
            Rounding::HalfEven => result % 2 == 0,
        }
    }

    fn roundings() -> impl Strategy<Value = Rounding> {
        prop_oneof![Just(Rounding::HalfEven), Just(Rounding::HalfAway), Just(Rounding::HalfUp), Just(Rounding::Floor)]
    }

    /// Accumulators with many ties and many past 2^24.
    fn accumulators() -> impl Strategy<Value = i32> {
        prop_oneof![-2000..2000, any::<i32>(), (-500..500).prop_map(|half| half * 4096 + 2048), Just(i32::MIN)]
    }

    /// Multipliers over the useful range, powers of two among them.
    fn multipliers() -> impl Strategy<Value = f32> {
        prop_oneof![(-26_i32..6).prop_map(|e| 2.0_f32.powi(e)), (-18.0_f32..4.0).prop_map(f32::exp)]
    }

    proptest! {
        #[test]
        fn the_float_multiplier_rounds_the_accumulator_then_the_product_then_the_result(
            accumulator in prop_oneof![accumulators().prop_map(i64::from), -(1_i64 << 40)..(1 << 40)],
            m in multipliers(),
        ) {
            // A product of two float32 values is exact in float64; `as f32` is the one rounding of it.
            #[allow(clippy::cast_possible_truncation)]
            let product = (f64::from(accumulator as f32) * f64::from(m)) as f32;
            let floor = f64::from(product).floor();
            let rest = f64::from(product) - floor;
            let up = rest > 0.5 || (rest == 0.5 && floor % 2.0 != 0.0);
            #[allow(clippy::cast_possible_truncation)]
            let expected = clipped((floor + f64::from(u8::from(up))) as i64);
            prop_assert_eq!(requantize(Requantizer::F32Rne, m, WIDE).apply(0, accumulator), expected);
        }

        #[test]
        fn two_roundings_are_those_of_gemmlowp(accumulator in accumulators(), m in multipliers()) {
            let (q, e) = mantissa_31(f64::from(m)).unwrap();
            let expected = clipped(gemmlowp(accumulator, q, e));
            prop_assert_eq!(requantize(Requantizer::FixedDouble31, m, WIDE).apply(0, accumulator.into()), expected);
        }

        #[test]
        fn one_rounding_is_the_nearest_integer_ties_up(accumulator in accumulators(), m in multipliers()) {
            let (q, e) = mantissa_31(f64::from(m)).unwrap();
            let numerator = i128::from(accumulator) * i128::from(q);
            let result = requantize(Requantizer::FixedSingle31, m, WIDE).apply(0, accumulator.into());
            let clips = i64::from(result) == WIDE.low || i64::from(result) == WIDE.high;
            prop_assert!(
                clips || is_rounded(numerator, (31 - e).unsigned_abs(), Rounding::HalfUp, result.into()),
                "{} * {} * 2^({} - 31) = {}", accumulator, q, e, result
            );
        }

        #[test]
        fn an_integer_multiplier_rounds_as_it_says(
            accumulator in accumulators(),
            m in (-18.0_f32..-1.0).prop_map(f32::exp),
            bits in 4_u8..=32,
            max_shift in 0_u8..=62,
            rounding in roundings(),
        ) {
            let (q, shift) = integer_multiplier(f64::from(m), bits, max_shift).unwrap();
            let fixed = Requantizer::FixedMul { bits, max_shift, rounding };
            let result = requantize(fixed, m, WIDE).apply(0, accumulator.into());
            prop_assert!(is_rounded(i128::from(accumulator) * i128::from(q), shift, rounding, result.into()));
        }

        #[test]
        fn a_31_bit_mantissa_is_the_nearest(m in any::<f32>().prop_filter("a scale", |m| m.is_normal() && *m > 0.0)) {
            let (q, e) = mantissa_31(f64::from(m)).unwrap();
            prop_assert!(q >= 1 << 30);
            // A float32 has 24 bits: its mantissa is exact.
            prop_assert_eq!(f64::from(q) * 2_f64.powi(e - 31), f64::from(m));
        }

        #[test]
        fn an_integer_multiplier_has_the_largest_shift_that_fits(
            m in (-18.0_f64..3.0).prop_map(f64::exp), bits in 6_u8..=32, max_shift in 0_u8..=62,
        ) {
            let limit = f64::from(1_u32 << (bits - 1));
            let (q, shift) = integer_multiplier(m, bits, max_shift).unwrap();
            let error = (q as f64 - m * 2_f64.powi(i32::try_from(shift).unwrap())).abs();
            prop_assert!((q as f64) < limit && error <= 0.5);
            prop_assert!(shift == u32::from(max_shift) || (m * 2_f64.powi(i32::try_from(shift).unwrap() + 1)) >= limit - 0.5);
        }
    }

    #[test]
    fn a_mantissa_that_rounds_to_two_to_the_31_is_halved() {
        let below_one = 1.0 - 2_f64.powi(-40);
        assert_eq!(mantissa_31(below_one), Some((1 << 30, 1)));
    }

    #[test]
    fn ties_go_to_the_even_neighbour_before_the_zero_point_is_added() {
        let target = Target { scale: 1.0, zero: 3, low: 0, high: 255 };
        let half = requantize(Requantizer::F32Rne, 0.5, target);
        assert_eq!([1, 3, 5, -1, -3].map(|acc| half.apply(0, acc)), [3, 5, 5, 3, 1]);
    }

    #[test]
    fn the_accumulator_is_rounded_to_float32_once() {
        // 2^24 + 1 lies between two float32 values and goes to the even one; in 64 bits it would stay.
        let one = requantize(Requantizer::F32Rne, 1.0, WIDE);
        assert_eq!(one.apply(0, (1 << 24) + 1), 1 << 24);
        assert_eq!(one.apply(0, (1 << 24) + 3), (1 << 24) + 4);
    }

    #[test]
    fn a_fused_activation_clips_at_its_quantized_limits() {
        let target = Target { scale: 0.5, zero: 10, low: 0, high: 255 };
        let relu6 = activated(target, Activation::Clip { low: 0.0, high: 6.0 });
        assert_eq!((relu6.low, relu6.high), (10, 22));
        assert_eq!(activated(target, Activation::Relu).high, 255);
        // 0.75 / 0.5 = 1.5 goes to 2, 1.25 / 0.5 = 2.5 as well.
        let ties = activated(target, Activation::Clip { low: 0.75, high: 1.25 });
        assert_eq!((ties.low, ties.high), (12, 12));
    }

    #[test]
    fn a_multiplier_that_does_not_fit_is_refused() {
        let fixed = Requantizer::FixedMul { bits: 8, max_shift: 31, rounding: Rounding::HalfUp };
        let error = Requantize::new(fixed, 127.6, &Quantization::per_tensor(1.0, 0), WIDE).unwrap_err();
        assert!(matches!(error, Reason::Multiplier { channel: 0, .. }), "{error}");
        assert!(Requantize::new(fixed, 127.4, &Quantization::per_tensor(1.0, 0), WIDE).is_ok());
    }

    #[test]
    fn accumulators_of_64_bits_saturate_and_do_not_wrap() {
        for requantizer in [Requantizer::FixedDouble31, Requantizer::FixedSingle31, Requantizer::F32Rne] {
            for multiplier in [1e-30, 1.0, 1e30] {
                let r = requantize(requantizer, multiplier, WIDE);
                let expected = if multiplier < 1.0 { [0, 0] } else { [i32::MAX, i32::MIN] };
                assert_eq!([i64::MAX, i64::MIN].map(|acc| r.apply(0, acc)), expected, "{requantizer:?} {multiplier}");
            }
        }
    }
}
