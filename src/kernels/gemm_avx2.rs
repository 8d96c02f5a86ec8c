//! The matrix product's micro-kernel for x86-64 with AVX2: four rows by sixteen columns in registers.

use super::gemm::Packed;

/// Runs the product if the processor can; `false` if nothing was done. The caller has checked the lengths as
/// `gemm::check` does.
#[cfg(target_arch = "x86_64")]
pub(super) fn try_gemm(a: &[i16], b: &Packed, c: &mut [i32], offsets: &[usize], accumulate: bool) -> bool {
    if !std::arch::is_x86_feature_detected!("avx2") {
        return false;
    }
    // SAFETY: AVX2 is present; the caller has checked that `a` has `offsets.len() * padded_k` operands and that every
    // row `c[offset..offset + n]` exists, which is all that the kernel touches.
    unsafe { x86::gemm(a, b, c, offsets, accumulate) };
    true
}

/// Other processors have the scalar twin only.
#[cfg(not(target_arch = "x86_64"))]
pub(super) fn try_gemm(_: &[i16], _: &Packed, _: &mut [i32], _: &[usize], _: bool) -> bool {
    false
}

#[cfg(target_arch = "x86_64")]
mod x86 {
    use std::arch::x86_64::{
        __m256i, _mm256_add_epi32, _mm256_loadu_si256, _mm256_madd_epi16, _mm256_maskload_epi32,
        _mm256_maskstore_epi32, _mm256_set1_epi32, _mm256_setzero_si256, _mm256_storeu_si256,
    };

    use crate::kernels::gemm::{PANEL, Packed};

    /// Rows of `A` whose operands stay in the first-level cache while every panel passes over them.
    const BLOCK: usize = 48;
    /// Rows of the micro-kernel.
    const ROWS: usize = 4;

    /// `all ones` for the first `columns` of eight lanes.
    #[allow(clippy::cast_possible_truncation, clippy::cast_possible_wrap, reason = "lane numbers are below 8")]
    unsafe fn mask(columns: usize) -> __m256i {
        let mut lanes = [0_i32; 8];
        for (lane, value) in lanes.iter_mut().enumerate() {
            *value = if lane < columns { -1 } else { 0 };
        }
        // SAFETY: an unaligned load of exactly the array's 32 bytes.
        unsafe { _mm256_loadu_si256(lanes.as_ptr().cast()) }
    }

    /// # Safety
    /// AVX2 is present; `a.len() >= offsets.len() * b.padded_k()`; `offset + b.n() <= c.len()` for every offset.
    #[target_feature(enable = "avx2")]
    pub(super) unsafe fn gemm(a: &[i16], b: &Packed, c: &mut [i32], offsets: &[usize], accumulate: bool) {
        let depth = b.padded_k();
        for (block, rows) in offsets.chunks(BLOCK).enumerate() {
            for first in (0..b.n()).step_by(PANEL) {
                let panel = b.panel(first / PANEL);
                let columns = PANEL.min(b.n() - first);
                for (group, targets) in rows.chunks(ROWS).enumerate() {
                    let start = (block * BLOCK + group * ROWS) * depth;
                    // SAFETY: the rows `start..start + targets.len() * depth` of `a` exist by the caller's contract,
                    // as do `columns` accumulators from `target + first`; the panel has `depth / 2` groups of pairs.
                    unsafe {
                        let a = a.as_ptr().add(start);
                        match targets.len() {
                            4 => tile::<4>(a, depth, panel, c, targets, first, columns, accumulate),
                            3 => tile::<3>(a, depth, panel, c, targets, first, columns, accumulate),
                            2 => tile::<2>(a, depth, panel, c, targets, first, columns, accumulate),
                            _ => tile::<1>(a, depth, panel, c, targets, first, columns, accumulate),
                        }
                    }
                }
            }
        }
    }

    /// `M` rows by one panel.
    ///
    /// # Safety
    /// AVX2 is present; `a` points to `M` rows of `depth` operands (even); `panel` has `depth * PANEL` operands;
    /// `targets` has `M` offsets with `offset + first + columns <= c.len()` and `columns <= PANEL`.
    #[allow(clippy::too_many_arguments, reason = "inlined: the loop's registers, not an interface")]
    #[target_feature(enable = "avx2")]
    #[inline]
    unsafe fn tile<const M: usize>(
        a: *const i16,
        depth: usize,
        panel: &[i16],
        c: &mut [i32],
        targets: &[usize],
        first: usize,
        columns: usize,
        accumulate: bool,
    ) {
        // SAFETY: all pointers stay within what the caller promised: pairs `p < depth / 2` of each row and of the
        // panel, and accumulators `target + first + 0..columns`, where masked lanes are not accessed.
        unsafe {
            let mut low = [_mm256_setzero_si256(); M];
            let mut high = [_mm256_setzero_si256(); M];
            let mut weights = panel.as_ptr();
            for pair in 0..depth / 2 {
                let left = _mm256_loadu_si256(weights.cast());
                let right = _mm256_loadu_si256(weights.add(PANEL).cast());
                weights = weights.add(2 * PANEL);
                for row in 0..M {
                    let operand = a.add(row * depth + 2 * pair).cast::<i32>().read_unaligned();
                    let operand = _mm256_set1_epi32(operand);
                    low[row] = _mm256_add_epi32(low[row], _mm256_madd_epi16(operand, left));
                    high[row] = _mm256_add_epi32(high[row], _mm256_madd_epi16(operand, right));
                }
            }
            let base = c.as_mut_ptr();
            if columns == PANEL {
                for row in 0..M {
                    let target = base.add(*targets.get_unchecked(row) + first);
                    let (mut x, mut y) = (low[row], high[row]);
                    if accumulate {
                        x = _mm256_add_epi32(x, _mm256_loadu_si256(target.cast()));
                        y = _mm256_add_epi32(y, _mm256_loadu_si256(target.add(8).cast()));
                    }
                    _mm256_storeu_si256(target.cast(), x);
                    _mm256_storeu_si256(target.add(8).cast(), y);
                }
            } else {
                let left = mask(columns);
                let right = mask(columns.saturating_sub(8));
                for row in 0..M {
                    let target = base.add(*targets.get_unchecked(row) + first);
                    let (mut x, mut y) = (low[row], high[row]);
                    if accumulate {
                        x = _mm256_add_epi32(x, _mm256_maskload_epi32(target, left));
                    }
                    _mm256_maskstore_epi32(target, left, x);
                    if columns > 8 {
                        let target = target.add(8);
                        if accumulate {
                            y = _mm256_add_epi32(y, _mm256_maskload_epi32(target, right));
                        }
                        _mm256_maskstore_epi32(target, right, y);
                    }
                }
            }
        }
    }
}
