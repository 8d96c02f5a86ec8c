//! Integer matrix product `C[m, n] (+)= A[m, k] * B[n, k]^T`: 16-bit operands, 32-bit wrapping sums.
//!
//! `B` is packed once (the stationary operand) and `A` streams. Panels of 16 columns hold pairs of neighbours along
//! `k`, so that one multiply-add of pairs (`vpmaddwd`) feeds eight columns: `panel[k / 2][column][k % 2]`. Sums wrap
//! modulo 2^32, which is exact wherever the true sum fits.

use super::gemm_avx2;

/// Columns of a panel.
pub const PANEL: usize = 16;

/// A packed right operand.
#[derive(Clone, Debug, Default)]
pub struct Packed {
    n: usize,
    k: usize,
    pairs: usize,
    data: Vec<i16>,
}

impl Packed {
    /// Makes room for `[n, k]`, all zeros. Keeps the allocation.
    pub fn reset(&mut self, n: usize, k: usize) {
        self.n = n;
        self.k = k;
        self.pairs = k.div_ceil(2);
        self.data.clear();
        self.data.resize(n.div_ceil(PANEL) * self.pairs * 2 * PANEL, 0);
    }

    /// Writes row `j`: `k` operands of column `j` of the product. Stops at `k`.
    ///
    /// # Panics
    /// If `j` is not below `n`.
    pub fn set_row(&mut self, j: usize, row: &[i16]) {
        assert!(j < self.n, "row {j} of a packed operand with {}", self.n);
        let stride = self.pairs * 2 * PANEL;
        let panel = &mut self.data[j / PANEL * stride..][..stride];
        let lane = j % PANEL * 2;
        let row = &row[..self.k.min(row.len())];
        let pairs = row.chunks_exact(2);
        let last = pairs.remainder();
        for (pair, group) in pairs.zip(panel.chunks_exact_mut(2 * PANEL)) {
            group[lane] = pair[0];
            group[lane + 1] = pair[1];
        }
        if let [single] = last {
            panel[row.len() / 2 * 2 * PANEL + lane] = *single;
        }
    }

    /// Rows: columns of the product.
    pub const fn n(&self) -> usize {
        self.n
    }

    /// Depth.
    pub const fn k(&self) -> usize {
        self.k
    }

    /// Depth rounded up to whole pairs: the number of operands that a row of `A` must have, the added one zero or
    /// anything (it meets a zero).
    pub const fn padded_k(&self) -> usize {
        self.pairs * 2
    }

    /// The operand at `(j, k)`.
    ///
    /// # Panics
    /// Outside `[n, k]`.
    pub fn at(&self, j: usize, k: usize) -> i16 {
        assert!(j < self.n && k < self.k);
        self.data[(j / PANEL * self.pairs + k / 2) * 2 * PANEL + j % PANEL * 2 + k % 2]
    }

    /// The pairs of a panel.
    pub(super) fn panel(&self, panel: usize) -> &[i16] {
        let stride = self.pairs * 2 * PANEL;
        &self.data[panel * stride..][..stride]
    }
}

/// `C[i, j] = (accumulate ? C[i, j] : 0) + sum over k of A[i, k] * B[j, k]`, modulo 2^32. Row `i` of `A` starts at
/// `i * b.padded_k()` of `a`; row `i` of `C` is `c[offsets[i]..][..b.n()]`. Rows of `C` may overlap only if they are
/// meant to be overwritten in order.
///
/// # Panics
/// If `a` or `c` is too short for what `offsets` asks.
pub fn gemm(a: &[i16], b: &Packed, c: &mut [i32], offsets: &[usize], accumulate: bool) {
    check(a, b, c, offsets);
    if b.n == 0 || offsets.is_empty() {
        return;
    }
    if !gemm_avx2::try_gemm(a, b, c, offsets, accumulate) {
        scalar_rows(a, b, c, offsets, accumulate);
    }
}

/// The scalar twin of [`gemm`]: the same result without vector instructions.
///
/// # Panics
/// As [`gemm`].
pub fn gemm_scalar(a: &[i16], b: &Packed, c: &mut [i32], offsets: &[usize], accumulate: bool) {
    check(a, b, c, offsets);
    scalar_rows(a, b, c, offsets, accumulate);
}

fn check(a: &[i16], b: &Packed, c: &[i32], offsets: &[usize]) {
    assert!(offsets.len().checked_mul(b.padded_k()).is_some_and(|needed| needed <= a.len()), "A is too short");
    let fits = |&start: &usize| start.checked_add(b.n).is_some_and(|end| end <= c.len());
    assert!(offsets.iter().all(fits), "C is too short");
}

fn scalar_rows(a: &[i16], b: &Packed, c: &mut [i32], offsets: &[usize], accumulate: bool) {
    let depth = b.padded_k();
    for (i, &offset) in offsets.iter().enumerate() {
        let row = &a[i * depth..][..depth];
        for first in (0..b.n).step_by(PANEL) {
            let mut sums = [0_i32; PANEL];
            for (pair, group) in row.chunks_exact(2).zip(b.panel(first / PANEL).chunks_exact(2 * PANEL)) {
                for (sum, weights) in sums.iter_mut().zip(group.chunks_exact(2)) {
                    let product = (i32::from(pair[0]) * i32::from(weights[0]))
                        .wrapping_add(i32::from(pair[1]) * i32::from(weights[1]));
                    *sum = sum.wrapping_add(product);
                }
            }
            let columns = PANEL.min(b.n - first);
            for (slot, sum) in c[offset + first..][..columns].iter_mut().zip(sums) {
                *slot = if accumulate { slot.wrapping_add(sum) } else { sum };
            }
        }
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

    fn packed(n: usize, k: usize, values: &[i16]) -> Packed {
        let mut b = Packed::default();
        b.reset(n, k);
        for (j, row) in values.chunks_exact(k).enumerate() {
            b.set_row(j, row);
        }
        b
    }

    proptest! {
        #[test]
        fn the_vector_kernel_its_scalar_twin_and_plain_loops_agree(
            m in 1_usize..20, n in 1_usize..70, k in 1_usize..50, accumulate: bool, seed: u64,
        ) {
            let mut state = seed;
            let mut next = || {
                state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
                i16::from_le_bytes([(state >> 33) as u8, (state >> 41) as u8])
            };
            let weights: Vec<i16> = (0..n * k).map(|_| next()).collect();
            let b = packed(n, k, &weights);
            let a: Vec<i16> = (0..m * b.padded_k()).map(|_| next()).collect();
            let before: Vec<i32> = (0..m * (n + 3)).map(|_| i32::from(next())).collect();
            let offsets: Vec<usize> = (0..m).map(|i| (m - 1 - i) * (n + 3)).collect();
            let (mut fast, mut slow, mut plain) = (before.clone(), before.clone(), before);
            gemm(&a, &b, &mut fast, &offsets, accumulate);
            gemm_scalar(&a, &b, &mut slow, &offsets, accumulate);
            for i in 0..m {
                for j in 0..n {
                    let slot = &mut plain[offsets[i] + j];
                    let mut sum = if accumulate { *slot } else { 0 };
                    for d in 0..k {
                        sum = sum.wrapping_add(i32::from(a[i * b.padded_k() + d]) * i32::from(weights[j * k + d]));
                    }
                    *slot = sum;
                }
            }
            prop_assert_eq!(&fast, &plain);
            prop_assert_eq!(&slow, &plain);
        }
    }

    #[test]
    fn the_one_pair_that_overflows_wraps() {
        let b = packed(1, 2, &[i16::MIN, i16::MIN]);
        let mut c = [0];
        gemm(&[i16::MIN, i16::MIN], &b, &mut c, &[0], false);
        assert_eq!(c, [i32::MIN]);
        gemm_scalar(&[i16::MIN, i16::MIN], &b, &mut c, &[0], false);
        assert_eq!(c, [i32::MIN]);
    }

    #[test]
    #[should_panic(expected = "C is too short")]
    fn a_short_result_is_refused_before_anything_is_written() {
        gemm(&[1, 1], &packed(3, 2, &[1; 6]), &mut [0; 3], &[1], false);
    }
}
