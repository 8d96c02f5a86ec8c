//! Accumulators to outputs with the float32 multiplier of ONNX Runtime: `clip(rne(f32(acc) * M) + zp)`.

/// Adding and subtracting 1.5 * 2^23 rounds a float of magnitude below 2^22 to an integer, half to even; the sum's
/// low bits are that integer.
const MAGIC: f32 = 12_582_912.0;

/// Where outputs may lie: the layer's clamp and zero point.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Limits {
    /// Added after rounding.
    pub zero_point: i32,
    /// Smallest output.
    pub low: i32,
    /// Largest output.
    pub high: i32,
}

/// One row: `out[j] = clip(rne(f32(acc[j] + bias[j]) * multiplier[j]) + zero_point)` as the low byte (two's complement
/// for a signed output). The bias is added modulo 2^32. `low`, `high` and `zero_point` are within +-2^17, so that the
/// limits less the zero point are exact floats that [`MAGIC`] can round. Multipliers are finite.
///
/// Stops at the shortest of the slices.
pub fn requantize_row(acc: &[i32], bias: &[i32], multiplier: &[f32], limits: Limits, out: &mut [u8]) {
    #[cfg(target_arch = "x86_64")]
    if std::arch::is_x86_feature_detected!("avx2") {
        // SAFETY: AVX2 is present, which is all that the function asks for.
        unsafe { row_avx2(acc, bias, multiplier, limits, out) };
        return;
    }
    row(acc, bias, multiplier, limits, out);
}

/// The same code, compiled for AVX2.
///
/// # Safety
/// AVX2 is present.
#[cfg(target_arch = "x86_64")]
#[target_feature(enable = "avx2")]
unsafe fn row_avx2(acc: &[i32], bias: &[i32], multiplier: &[f32], limits: Limits, out: &mut [u8]) {
    row(acc, bias, multiplier, limits, out);
}

#[inline(always)]
#[allow(
    clippy::inline_always,
    clippy::cast_possible_truncation,
    clippy::cast_sign_loss,
    clippy::cast_possible_wrap,
    reason = "inlined to be compiled for AVX2; the limits keep the value in a byte, whose low bits are meant"
)]
fn row(acc: &[i32], bias: &[i32], multiplier: &[f32], limits: Limits, out: &mut [u8]) {
    let low = (limits.low - limits.zero_point) as f32;
    let high = (limits.high - limits.zero_point) as f32;
    let offset = limits.zero_point.wrapping_sub(MAGIC.to_bits() as i32);
    for (((slot, &acc), &bias), &multiplier) in out.iter_mut().zip(acc).zip(bias).zip(multiplier) {
        let value = acc.wrapping_add(bias) as f32 * multiplier;
        // Clamping first changes nothing, as the limits are integers and rounding is monotone.
        let value = if value < low { low } else { value };
        let value = if value > high { high } else { value };
        *slot = ((value + MAGIC).to_bits() as i32).wrapping_add(offset) as u8;
    }
}

/// `clip(rne(f32(acc) * multiplier) + zero_point)` of one 64-bit sum, for an output of any type.
#[inline]
#[allow(clippy::cast_possible_truncation, reason = "a float's cast saturates, and the clip follows")]
pub fn requantize_wide(acc: i64, multiplier: f32, limits: Limits) -> i32 {
    let rounded = (acc as f32 * multiplier).round_ties_even() as i32;
    rounded.saturating_add(limits.zero_point).max(limits.low).min(limits.high)
}

#[cfg(test)]
#[allow(
    clippy::cast_possible_truncation,
    clippy::cast_possible_wrap,
    clippy::cast_sign_loss,
    reason = "small numbers, or low bits that are meant"
)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn plain(acc: i32, bias: i32, multiplier: f32, limits: Limits) -> u8 {
        let rounded = (acc.wrapping_add(bias) as f32 * multiplier).round_ties_even();
        let clipped =
            (f64::from(rounded) + f64::from(limits.zero_point)).clamp(f64::from(limits.low), f64::from(limits.high));
        (clipped as i64) as u8
    }

    proptest! {
        #[test]
        fn rows_follow_the_formula_ties_and_large_sums_included(
            values in prop::collection::vec((any::<i32>(), -1000_i32..1000, 0_u8..40, any::<bool>()), 1..40),
            zero in -128_i32..128, signed: bool,
        ) {
            let range = if signed { (-128, 127) } else { (0, 255) };
            let limits = Limits { zero_point: zero.max(range.0), low: range.0, high: range.1 };
            // Powers of two make ties; others do not.
            let rows: Vec<(i32, i32, f32)> = values
                .iter()
                .map(|&(acc, bias, shift, odd)| {
                    let scale = 0.5_f32.powi(i32::from(shift)) * if odd { 0.731 } else { 1.0 };
                    (acc >> (shift % 31), bias, scale)
                })
                .collect();
            let acc: Vec<i32> = rows.iter().map(|row| row.0).collect();
            let bias: Vec<i32> = rows.iter().map(|row| row.1).collect();
            let multiplier: Vec<f32> = rows.iter().map(|row| row.2).collect();
            let expected: Vec<u8> = rows.iter().map(|row| plain(row.0, row.1, row.2, limits)).collect();
            let mut out = vec![0; acc.len()];
            requantize_row(&acc, &bias, &multiplier, limits, &mut out);
            prop_assert_eq!(&out, &expected);
            row(&acc, &bias, &multiplier, limits, &mut out);
            prop_assert_eq!(&out, &expected);
            for ((acc, bias, multiplier), expected) in rows.into_iter().zip(expected) {
                let wide = requantize_wide(acc.wrapping_add(bias).into(), multiplier, limits);
                prop_assert_eq!(wide as u8, expected);
            }
        }
    }

    #[test]
    fn ties_go_to_the_even_neighbour() {
        let limits = Limits { zero_point: 0, low: -128, high: 127 };
        let mut out = [0; 4];
        requantize_row(&[1, 3, -1, -3], &[0; 4], &[0.5; 4], limits, &mut out);
        assert_eq!(out.map(u8::cast_signed), [0, 2, 0, -2]);
    }
}
