//! Element by element sums and products of quantized values, by the formulas of ONNX Runtime's `QLinearAdd` and
//! `QLinearMul`.

/// Coefficients of `y = clip(rne(fma(a, ra, fma(b, rb, K))))` on raw quantized operands.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct AddCoefficients {
    /// `f32(sa / sc)`.
    pub ra: f32,
    /// `f32(sb / sc)`.
    pub rb: f32,
    /// `f32(zc - fma(ra, za, f32(rb * zb)))`.
    pub k: f32,
}

impl AddCoefficients {
    /// From `(scale, zero point)` of the two operands and of the result.
    pub fn new(a: (f32, i32), b: (f32, i32), c: (f32, i32)) -> Self {
        let ra = a.0 / c.0;
        let rb = b.0 / c.0;
        let k = c.1 as f32 - ra.mul_add(a.1 as f32, rb * b.1 as f32);
        Self { ra, rb, k }
    }

    /// The real-valued sum in output steps, before rounding; `a` and `b` raw.
    #[inline(always)]
    #[allow(clippy::inline_always, reason = "so that its fused multiply-add is compiled for the caller's target")]
    fn sum(self, a: i32, b: i32) -> f32 {
        (a as f32).mul_add(self.ra, (b as f32).mul_add(self.rb, self.k))
    }
}

/// `out[i] = clip(rne(fma(a[i], ra, fma(b[i], rb, K))))`. Stops at the shortest slice.
pub fn add(a: &[i32], b: &[i32], coefficients: AddCoefficients, low: i32, high: i32, out: &mut [i32]) {
    #[cfg(target_arch = "x86_64")]
    if std::arch::is_x86_feature_detected!("fma") && std::arch::is_x86_feature_detected!("avx2") {
        // SAFETY: FMA and AVX2 are present, which is all that the function asks for.
        unsafe { add_fma(a, b, coefficients, low, high, out) };
        return;
    }
    add_plain(a, b, coefficients, low, high, out);
}

/// The same code, compiled for FMA and AVX2.
///
/// # Safety
/// FMA and AVX2 are present.
#[cfg(target_arch = "x86_64")]
#[target_feature(enable = "fma,avx2")]
unsafe fn add_fma(a: &[i32], b: &[i32], coefficients: AddCoefficients, low: i32, high: i32, out: &mut [i32]) {
    add_plain(a, b, coefficients, low, high, out);
}

#[inline(always)]
#[allow(
    clippy::inline_always,
    clippy::cast_possible_truncation,
    reason = "inlined to be compiled for FMA; the value is an integer within the clamp, and a NaN is meant to give 0"
)]
fn add_plain(a: &[i32], b: &[i32], coefficients: AddCoefficients, low: i32, high: i32, out: &mut [i32]) {
    let (low, high) = (low as f32, high as f32);
    for ((slot, &a), &b) in out.iter_mut().zip(a).zip(b) {
        let value = coefficients.sum(a, b);
        let value = if value < low { low } else { value };
        let value = if value > high { high } else { value };
        *slot = value.round_ties_even() as i32;
    }
}

/// Coefficients of `y = clip(rne(f32(f32(a - za) * f32(b - zb)) * scale + zero))` on raw quantized operands.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct MulCoefficients {
    /// Zero points of the operands.
    pub zeros: [i32; 2],
    /// `f32(f32(sa * sb) / sc)`.
    pub scale: f32,
    /// The result's zero point; goes in before the rounding.
    pub zero: i32,
}

impl MulCoefficients {
    /// From `(scale, zero point)` of the two operands and of the result.
    pub fn new(a: (f32, i32), b: (f32, i32), c: (f32, i32)) -> Self {
        Self { zeros: [a.1, b.1], scale: (a.0 * b.0) / c.0, zero: c.1 }
    }
}

/// `out[i] = clip(rne(f32(f32(a[i] - za) * f32(b[i] - zb)) * scale + zero))`. Stops at the shortest slice.
pub fn mul(a: &[i32], b: &[i32], coefficients: MulCoefficients, low: i32, high: i32, out: &mut [i32]) {
    #[cfg(target_arch = "x86_64")]
    if std::arch::is_x86_feature_detected!("avx2") {
        // SAFETY: AVX2 is present, which is all that the function asks for.
        unsafe { mul_avx2(a, b, coefficients, low, high, out) };
        return;
    }
    mul_plain(a, b, coefficients, low, high, out);
}

/// The same code, compiled for AVX2.
///
/// # Safety
/// AVX2 is present.
#[cfg(target_arch = "x86_64")]
#[target_feature(enable = "avx2")]
unsafe fn mul_avx2(a: &[i32], b: &[i32], coefficients: MulCoefficients, low: i32, high: i32, out: &mut [i32]) {
    mul_plain(a, b, coefficients, low, high, out);
}

#[inline(always)]
#[allow(
    clippy::inline_always,
    clippy::cast_possible_truncation,
    reason = "inlined to be compiled for AVX2; the value is an integer within the clamp"
)]
fn mul_plain(a: &[i32], b: &[i32], coefficients: MulCoefficients, low: i32, high: i32, out: &mut [i32]) {
    let (low, high) = (low as f32, high as f32);
    let MulCoefficients { zeros: [za, zb], scale, zero } = coefficients;
    for ((slot, &a), &b) in out.iter_mut().zip(a).zip(b) {
        let value = a.wrapping_sub(za) as f32 * b.wrapping_sub(zb) as f32 * scale + zero as f32;
        let value = if value < low { low } else { value };
        let value = if value > high { high } else { value };
        *slot = value.round_ties_even() as i32;
    }
}

/// One depthwise output pixel: `sums[c] = sum over taps of x[tap, c] * w[tap, c]`, modulo 2^32. `x` and `w` are
/// `[taps, sums.len()]`; operands past the shorter one do not count.
pub fn depthwise_row(x: &[i16], w: &[i32], sums: &mut [i32]) {
    #[cfg(target_arch = "x86_64")]
    if std::arch::is_x86_feature_detected!("avx2") {
        // SAFETY: AVX2 is present, which is all that the function asks for.
        unsafe { depthwise_avx2(x, w, sums) };
        return;
    }
    depthwise_plain(x, w, sums);
}

/// The same code, compiled for AVX2.
///
/// # Safety
/// AVX2 is present.
#[cfg(target_arch = "x86_64")]
#[target_feature(enable = "avx2")]
unsafe fn depthwise_avx2(x: &[i16], w: &[i32], sums: &mut [i32]) {
    depthwise_plain(x, w, sums);
}

#[inline(always)]
#[allow(clippy::inline_always, reason = "inlined to be compiled for AVX2")]
fn depthwise_plain(x: &[i16], w: &[i32], sums: &mut [i32]) {
    sums.fill(0);
    let channels = sums.len().max(1);
    for (x, w) in x.chunks_exact(channels).zip(w.chunks_exact(channels)) {
        for ((sum, &x), &w) in sums.iter_mut().zip(x).zip(w) {
            *sum = sum.wrapping_add(i32::from(x).wrapping_mul(w));
        }
    }
}

/// `sums[j] = sum over k of x[k] * w[j, k]`, modulo 2^64; `w` is `[sums.len(), x.len()]`.
pub fn wide_products(x: &[i32], w: &[i32], sums: &mut [i64]) {
    #[cfg(target_arch = "x86_64")]
    if std::arch::is_x86_feature_detected!("avx2") {
        // SAFETY: AVX2 is present, which is all that the function asks for.
        unsafe { wide_products_avx2(x, w, sums) };
        return;
    }
    wide_products_plain(x, w, sums);
}

/// The same code, compiled for AVX2.
///
/// # Safety
/// AVX2 is present.
#[cfg(target_arch = "x86_64")]
#[target_feature(enable = "avx2")]
unsafe fn wide_products_avx2(x: &[i32], w: &[i32], sums: &mut [i64]) {
    wide_products_plain(x, w, sums);
}

#[inline(always)]
#[allow(clippy::inline_always, reason = "inlined to be compiled for AVX2")]
fn wide_products_plain(x: &[i32], w: &[i32], sums: &mut [i64]) {
    for (sum, w) in sums.iter_mut().zip(w.chunks_exact(x.len().max(1))) {
        let products = x.iter().zip(w).map(|(&x, &w)| i64::from(x).wrapping_mul(i64::from(w)));
        *sum = products.fold(0, i64::wrapping_add);
    }
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

    proptest! {
        #[test]
        fn the_fused_kernel_equals_its_twin_and_f64(
            values in prop::collection::vec((0_i32..256, 0_i32..256), 1..50),
            sa in 0.001_f32..1.0, sb in 0.001_f32..1.0, sc in 0.001_f32..1.0, za in 0_i32..256, zc in 0_i32..256,
        ) {
            let coefficients = AddCoefficients::new((sa, za), (sb, 7), (sc, zc));
            let a: Vec<i32> = values.iter().map(|pair| pair.0).collect();
            let b: Vec<i32> = values.iter().map(|pair| pair.1).collect();
            let (mut fast, mut slow) = (vec![0; a.len()], vec![0; a.len()]);
            add(&a, &b, coefficients, 0, 255, &mut fast);
            add_plain(&a, &b, coefficients, 0, 255, &mut slow);
            prop_assert_eq!(&fast, &slow);
            for ((&a, &b), &got) in a.iter().zip(&b).zip(&fast) {
                // A product of two floats is exact in f64, and its sum with a third is rounded twice, which is
                // known to differ from one rounding in no case of a million.
                let inner = (f64::from(b as f32) * f64::from(coefficients.rb) + f64::from(coefficients.k)) as f32;
                let outer = (f64::from(a as f32) * f64::from(coefficients.ra) + f64::from(inner)) as f32;
                prop_assert_eq!(got, outer.round_ties_even().clamp(0.0, 255.0) as i32);
            }
        }

        #[test]
        fn products_equal_their_twin_and_follow_the_formula(
            values in prop::collection::vec((-32768_i32..65536, -32768_i32..65536), 1..50),
            sa in 0.001_f32..1.0, sb in 0.001_f32..1.0, shift in 0_i32..30, odd: bool,
            za in -128_i32..256, zc in -128_i32..256,
        ) {
            // Powers of two make ties.
            let (sa, sb) = if odd { (sa, sb) } else { (0.5, 1.0) };
            let coefficients = MulCoefficients::new((sa, za), (sb, 7), (2.0_f32.powi(shift), zc));
            let a: Vec<i32> = values.iter().map(|pair| pair.0).collect();
            let b: Vec<i32> = values.iter().map(|pair| pair.1).collect();
            let (mut fast, mut slow) = (vec![0; a.len()], vec![0; a.len()]);
            mul(&a, &b, coefficients, -32768, 32767, &mut fast);
            mul_plain(&a, &b, coefficients, -32768, 32767, &mut slow);
            prop_assert_eq!(&fast, &slow);
            for ((&a, &b), &got) in a.iter().zip(&b).zip(&fast) {
                let real = (a - za) as f32 * (b - 7) as f32 * (sa * sb / 2.0_f32.powi(shift)) + zc as f32;
                prop_assert_eq!(i64::from(got), (real.round_ties_even() as i64).clamp(-32768, 32767));
            }
        }

        #[test]
        fn wide_products_equal_their_twin_and_plain_loops(
            x in prop::collection::vec(-131_072_i32..131_072, 1..70), outputs in 1_usize..6, seed: u32,
        ) {
            let noise = |i: usize| i32::from((i + 1).wrapping_mul(seed as usize | 1).to_le_bytes()[1]) * 515 - 65_000;
            let w: Vec<i32> = (0..outputs * x.len()).map(noise).collect();
            let (mut fast, mut slow) = (vec![0; outputs], vec![0; outputs]);
            wide_products(&x, &w, &mut fast);
            wide_products_plain(&x, &w, &mut slow);
            prop_assert_eq!(&fast, &slow);
            for (j, &sum) in fast.iter().enumerate() {
                let expected: i64 = (0..x.len()).map(|k| i64::from(x[k]) * i64::from(w[j * x.len() + k])).sum();
                prop_assert_eq!(sum, expected);
            }
        }
    }
}
