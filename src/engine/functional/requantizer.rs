//! From accumulators to outputs: the parameter record of a channel, and what the vector unit does with it. Formulas:
//! ONNX Runtime's (float32 multiplier), gemmlowp's and `TFLite`'s fixed-point ones, and an integer multiplier with a
//! shift as in NVDLA.

use super::error::Fault;
use crate::tensor::{Overflow, Requantizer, Rounding};

/// One record of the parameter memory, decoded.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Record {
    /// Added to the accumulator.
    pub bias: i32,
    /// Bits of a float32 for `F32Rne`, else an integer.
    pub multiplier: u32,
    /// Right shift after the multiplication; for the 31-bit multipliers `31 - e`, which may be negative.
    pub shift: i32,
}

impl Record {
    /// The record of a channel with these scales.
    ///
    /// # Errors
    /// Where the multiplier is not a finite number.
    pub fn derive(
        requantizer: Requantizer,
        bias: i32,
        [input, weight, output]: [f32; 3],
        channel: usize,
    ) -> Result<Self, Fault> {
        let exact = f64::from(input) * f64::from(weight) / f64::from(output);
        let single = input * weight / output;
        if !exact.is_finite() || !single.is_finite() || exact < 0.0 {
            return Err(Fault::Multiplier { channel, value: exact });
        }
        let (multiplier, shift) = match requantizer {
            Requantizer::F32Rne => (single.to_bits(), 0),
            Requantizer::FixedDouble31 | Requantizer::FixedSingle31 => {
                let (q, exponent) = mantissa31(exact);
                (q, 31 - exponent)
            }
            Requantizer::FixedMul { bits, max_shift, .. } => integer_multiplier(exact, bits, max_shift),
        };
        Ok(Self { bias, multiplier, shift })
    }

    /// Appends the record's bytes as they lie in memory.
    pub fn encode(self, requantizer: Requantizer, out: &mut Vec<u8>) {
        out.extend(self.bias.to_le_bytes());
        out.extend(self.multiplier.to_le_bytes());
        if requantizer != Requantizer::F32Rne {
            out.extend(self.shift.to_le_bytes());
        }
    }

    /// Reads a record; `bytes` is one whole record.
    pub fn decode(bytes: &[u8]) -> Self {
        let word = |index: usize| {
            bytes.get(4 * index..4 * index + 4).and_then(|word| word.try_into().ok()).map_or(0, u32::from_le_bytes)
        };
        let signed = |value: u32| i32::from_le_bytes(value.to_le_bytes());
        Self { bias: signed(word(0)), multiplier: word(1), shift: signed(word(2)) }
    }

    /// The multiplier as a float, under `F32Rne`.
    pub const fn single(self) -> f32 {
        f32::from_bits(self.multiplier)
    }

    /// The rounded product of an accumulator (bias added) and the multiplier, without zero point.
    #[inline]
    #[allow(clippy::cast_possible_truncation, reason = "a float to integer cast saturates, and the clamp follows")]
    pub fn scale(self, requantizer: Requantizer, acc: i64) -> i64 {
        let q = i128::from(i32::from_le_bytes(self.multiplier.to_le_bytes()));
        let value = match requantizer {
            Requantizer::F32Rne => return ((acc as f32) * self.single()).round_ties_even() as i64,
            Requantizer::FixedDouble31 => {
                let right = self.shift - 31;
                let product = (i128::from(acc) << right.min(0).unsigned_abs().min(31)) * q;
                let nudge = if product >= 0 { 1 << 30 } else { 1 - (1 << 30) };
                // A truncating division, as in gemmlowp, not a shift.
                let high = (product + nudge) / (1 << 31);
                shift_right(high, right.max(0).unsigned_abs(), Rounding::HalfAway)
            }
            Requantizer::FixedSingle31 if self.shift <= 0 => (i128::from(acc) * q) << self.shift.unsigned_abs().min(31),
            Requantizer::FixedSingle31 => shift_right(i128::from(acc) * q, self.shift.unsigned_abs(), Rounding::HalfUp),
            Requantizer::FixedMul { rounding, .. } => {
                shift_right(i128::from(acc) * q, self.shift.max(0).unsigned_abs(), rounding)
            }
        };
        value.clamp(i128::from(i64::MIN), i128::from(i64::MAX)) as i64
    }
}

/// `value / 2^shift`, rounded.
fn shift_right(value: i128, shift: u32, rounding: Rounding) -> i128 {
    if shift == 0 {
        return value;
    }
    // Beyond the width every value is below half a step.
    let shift = shift.min(120);
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

/// `value = q * 2^(exponent - 31)` with `q` of 31 bits, as `TFLite`'s `QuantizeMultiplier`.
#[allow(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "the mantissa is in 2^30..=2^31")]
fn mantissa31(value: f64) -> (u32, i32) {
    if value == 0.0 {
        return (0, 0);
    }
    let (mut mantissa, mut exponent) = (value, 0);
    while mantissa >= 1.0 {
        mantissa *= 0.5;
        exponent += 1;
    }
    while mantissa < 0.5 {
        mantissa *= 2.0;
        exponent -= 1;
    }
    let q = (mantissa * 2_147_483_648.0).round() as u64;
    // A left shift of more than 31 saturates every accumulator but zero, whatever its exact amount.
    if q == 1 << 31 { (1 << 30, (exponent + 1).min(62)) } else { (q as u32, exponent.min(62)) }
}

/// `value = q * 2^-shift` with the largest shift for which `q < 2^(bits - 1)`; the largest `q` where none is.
#[allow(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "below 2^31 by the comparison")]
fn integer_multiplier(value: f64, bits: u8, max_shift: u8) -> (u32, i32) {
    let limit = 2_f64.powi(i32::from(bits.clamp(2, 32)) - 1);
    let candidates = (0..=i32::from(max_shift.min(62))).rev();
    for shift in candidates {
        let q = (value * 2_f64.powi(shift)).round();
        if q < limit {
            return (q as u32, shift);
        }
    }
    ((limit - 1.0) as u32, 0)
}

/// Whether a sum does not fit an adder of `bits` bits.
#[inline]
pub(super) fn leaves(a: i64, b: i64, bits: u8) -> bool {
    let spare = 64 - u32::from(bits.min(64));
    a.checked_add(b).is_none_or(|sum| (sum << spare) >> spare != sum)
}

/// A sum cut to `bits` (8 to 64) by the policy. The operands are of at most 64 bits, so that their sum fits.
#[inline]
#[allow(clippy::cast_possible_truncation, reason = "dropping high bits is what `Wrap` means")]
pub(super) fn add(a: i64, b: i64, bits: u8, overflow: Overflow) -> i64 {
    if bits >= 64 {
        return match overflow {
            Overflow::Wrap => a.wrapping_add(b),
            Overflow::Saturate => a.saturating_add(b),
        };
    }
    let spare = 64 - u32::from(bits);
    match overflow {
        Overflow::Wrap => (a.wrapping_add(b) << spare) >> spare,
        Overflow::Saturate => {
            let limit = (1_i64 << (bits - 1)) - 1;
            a.saturating_add(b).clamp(-limit - 1, limit)
        }
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
    use proptest::prelude::*;

    use super::*;

    /// gemmlowp, in the words of its source: 32-bit saturating rounding doubling high multiply, then the rounding
    /// division by a power of two, with masks.
    fn gemmlowp(acc: i32, q: i32, exponent: i32) -> i64 {
        let (left, right) = (exponent.max(0), (-exponent).max(0));
        let product = i64::from(acc) * (1_i64 << left);
        let product = i128::from(product) * i128::from(q);
        let nudge = if product >= 0 { 1_i128 << 30 } else { 1 - (1_i128 << 30) };
        let high = ((product + nudge) / (1_i128 << 31)) as i64;
        let mask = (1_i64 << right) - 1;
        let threshold = (mask >> 1) + i64::from(high < 0);
        (high >> right) + i64::from((high & mask) > threshold)
    }

    proptest! {
        #[test]
        fn double_rounding_is_gemmlowps(acc: i32, scale in 0.00001_f32..3.0) {
            let record = Record::derive(Requantizer::FixedDouble31, 0, [scale, 1.0, 1.0], 0).unwrap();
            let exponent = 31 - record.shift;
            let expected = gemmlowp(acc, record.multiplier as i32, exponent);
            prop_assert_eq!(record.scale(Requantizer::FixedDouble31, i64::from(acc)), expected);
        }

        #[test]
        fn single_rounding_is_the_formula(acc: i32, scale in 0.00001_f32..3.0) {
            let record = Record::derive(Requantizer::FixedSingle31, 0, [scale, 1.0, 1.0], 0).unwrap();
            let e = 31 - record.shift;
            let q = i128::from(record.multiplier);
            let expected = (i128::from(acc) * q + (1_i128 << (30 - e))) >> (31 - e);
            prop_assert_eq!(i128::from(record.scale(Requantizer::FixedSingle31, i64::from(acc))), expected);
        }

        #[test]
        fn the_mantissa_is_the_multiplier_to_31_bits(scale in 1e-9_f32..1e9) {
            let (q, exponent) = mantissa31(f64::from(scale));
            prop_assert!((1 << 30..1_u32 << 31).contains(&q));
            let back = f64::from(q) * 2_f64.powi(exponent - 31);
            prop_assert!((back / f64::from(scale) - 1.0).abs() < 1e-9);
        }

        #[test]
        fn integer_multipliers_round_as_asked(acc in -100_000_i64..100_000, scale in 0.0001_f32..1.0, mode in 0..4) {
            let rounding =
                [Rounding::HalfEven, Rounding::HalfAway, Rounding::HalfUp, Rounding::Floor][mode as usize];
            let requantizer = Requantizer::FixedMul { bits: 8, max_shift: 20, rounding };
            let record = Record::derive(requantizer, 0, [scale, 1.0, 1.0], 0).unwrap();
            prop_assert!(record.multiplier < 128 && record.shift <= 20);
            // 8 bits times 17 bits over a power of two are exact in f64.
            let exact = acc as f64 * f64::from(record.multiplier) / 2_f64.powi(record.shift);
            let expected = match rounding {
                Rounding::HalfEven => exact.round_ties_even(),
                Rounding::HalfAway => exact.round(),
                Rounding::HalfUp => (exact + 0.5).floor(),
                Rounding::Floor => exact.floor(),
            };
            prop_assert_eq!(record.scale(requantizer, acc) as f64, expected);
        }

        #[test]
        fn sums_wrap_or_saturate_at_their_width(a: i32, b: i32, bits in 8_u8..=33) {
            let limit = |v: i64| v.clamp(-(1_i64 << (bits - 1)), (1_i64 << (bits - 1)) - 1);
            let (a, b) = (limit(i64::from(a)), limit(i64::from(b)));
            prop_assert_eq!(add(a, b, bits, Overflow::Saturate), limit(a + b));
            prop_assert_eq!(leaves(a, b, bits), limit(a + b) != a + b);
            let wrapped = add(a, b, bits, Overflow::Wrap);
            prop_assert_eq!(wrapped, limit(wrapped));
            prop_assert_eq!((wrapped - (a + b)).rem_euclid(1_i64 << bits), 0);
        }
    }

    #[test]
    fn the_largest_shift_that_fits_is_taken() {
        assert_eq!(integer_multiplier(0.5, 8, 62), (64, 7));
        assert_eq!(integer_multiplier(0.5, 8, 3), (4, 3));
        assert_eq!(integer_multiplier(1000.0, 8, 62), (127, 0));
        assert_eq!(integer_multiplier(0.999, 8, 62), (64, 6));
    }

    #[test]
    fn a_record_survives_memory() {
        let record = Record { bias: -5, multiplier: 0x4000_0001, shift: 38 };
        let mut bytes = Vec::new();
        record.encode(Requantizer::FixedDouble31, &mut bytes);
        assert_eq!((bytes.len(), Record::decode(&bytes)), (12, record));
    }
}
