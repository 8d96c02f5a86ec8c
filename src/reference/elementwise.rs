//! Broadcasting, lanes along an axis, and the quantized operators that work element by element.
//!
//! Sources: ONNX Runtime's `QLinearAdd`, `QLinearMul`, `QLinearConcat` and `QLinearSoftmax`, as measured; each function has its
//! formula, and `conformance.rs` holds them to stored results.

use rayon::prelude::*;

use super::{
    Outcome, Reason, checked_size, float,
    integers::{Target, real, round_even, saturating_i64},
};
use crate::ir::Op;

/// Applies `f` to two operands under numpy's broadcasting rules.
pub(super) fn broadcast<A: Copy + Sync, B: Copy + Sync, Y: Copy + Default + Send>(
    a_shape: &[usize],
    a: &[A],
    b_shape: &[usize],
    b: &[B],
    f: impl Fn(A, B) -> Y + Sync,
) -> Outcome<(Vec<usize>, Vec<Y>)> {
    const CHUNK: usize = 1 << 14;
    if a_shape == b_shape {
        let mut y = vec![Y::default(); a.len()];
        y.par_chunks_mut(CHUNK).zip(a.par_chunks(CHUNK)).zip(b.par_chunks(CHUNK)).for_each(|((y, a), b)| {
            for ((y, &a), &b) in y.iter_mut().zip(a).zip(b) {
                *y = f(a, b);
            }
        });
        return Ok((a_shape.to_vec(), y));
    }
    let rank = a_shape.len().max(b_shape.len());
    let dim = |shape: &[usize], axis: usize| (axis + shape.len()).checked_sub(rank).map_or(1, |axis| shape[axis]);
    let mut shape = Vec::with_capacity(rank);
    for axis in 0..rank {
        shape.push(match (dim(a_shape, axis), dim(b_shape, axis)) {
            (a, b) if a == b => a,
            (1, b) => b,
            (a, 1) => a,
            _ => return Err(Reason::Shape(format!("{a_shape:?} and {b_shape:?} do not broadcast"))),
        });
    }
    checked_size(&shape)?;
    let strides = |of: &[usize]| {
        let mut strides = vec![0; rank];
        let mut stride = 1;
        for axis in (0..rank).rev() {
            if dim(of, axis) > 1 {
                strides[axis] = stride;
            }
            stride *= dim(of, axis);
        }
        strides
    };
    let (a_strides, b_strides) = (strides(a_shape), strides(b_shape));
    let mut y = vec![Y::default(); shape.iter().product()];
    let line = shape.last().copied().unwrap_or(1).max(1);
    let inner = |strides: &[usize]| strides.last().copied().unwrap_or(0);
    y.par_chunks_mut(line).enumerate().for_each(|(index, y)| {
        let (mut rest, mut a_start, mut b_start) = (index, 0, 0);
        for axis in (0..rank.saturating_sub(1)).rev() {
            let at = rest % shape[axis];
            rest /= shape[axis];
            a_start += at * a_strides[axis];
            b_start += at * b_strides[axis];
        }
        for (at, y) in y.iter_mut().enumerate() {
            *y = f(a[a_start + at * inner(&a_strides)], b[b_start + at * inner(&b_strides)]);
        }
    });
    Ok((shape, y))
}

/// The indices of each lane along an axis.
pub(super) fn lanes(
    shape: &[usize],
    axis: usize,
) -> Outcome<impl Iterator<Item = std::iter::StepBy<std::ops::Range<usize>>> + use<>> {
    let Some(&length) = shape.get(axis) else {
        return Err(Reason::Shape(format!("axis {axis} of {shape:?}")));
    };
    let outer: usize = shape[..axis].iter().product();
    let inner: usize = shape[axis + 1..].iter().product();
    Ok((0..outer).flat_map(move |outer| {
        (0..inner).map(move |lane| {
            let start = outer * length * inner + lane;
            (start..start + length * inner).step_by(inner.max(1))
        })
    }))
}

/// `QLinearAdd`: `y = clip(rne(fma(a, ra, fma(b, rb, K))))` with `ra = f32(sa/sc)`, `rb = f32(sb/sc)` and
/// `K = f32(zc - fma(ra, za, f32(rb*zb)))`: the zero points go in before the rounding.
pub(super) fn add((sa, za): (f32, i32), (sb, zb): (f32, i32), target: Target) -> impl Fn(i32, i32) -> i32 + Sync {
    let (ra, rb) = (sa / target.scale, sb / target.scale);
    let k = target.zero as f32 - ra.mul_add(za as f32, rb * zb as f32);
    move |a, b| {
        let y = (a as f32).mul_add(ra, (b as f32).mul_add(rb, k));
        target.clip(saturating_i64(round_even(y)))
    }
}

/// `QLinearMul`: `clip(rne(f32(f32((a-za)(b-zb)) * f32(f32(sa*sb)/sc)) + zc))`.
pub(super) fn mul((sa, za): (f32, i32), (sb, zb): (f32, i32), target: Target) -> impl Fn(i32, i32) -> i32 + Sync {
    let scale = (sa * sb) / target.scale;
    move |a, b| {
        let product = (i64::from(a) - i64::from(za)) as f32 * (i64::from(b) - i64::from(zb)) as f32;
        target.clip(saturating_i64(round_even(product * scale + target.zero as f32)))
    }
}

/// The function of an elementwise operator: `clip(rne(f32(f(f32(x - zp) * s) / ys)) + yzp)`.
pub(super) fn function(op: &Op, (scale, zero): (f32, i32), target: Target, x: &[i32]) -> Vec<i32> {
    map_distinct(x, |x| target.quantize(float::unary(op, real(x, scale, zero))))
}

/// An operator on two elements that ONNX Runtime runs in float between `DequantizeLinear` and `QuantizeLinear`:
/// `clip(rne(f32(f(f32(a - za) * sa, f32(b - zb) * sb) / sy)) + yzp)`.
pub(super) fn binary(
    op: &Op,
    (sa, za): (f32, i32),
    (sb, zb): (f32, i32),
    target: Target,
) -> impl Fn(i32, i32) -> i32 + Sync {
    move |a, b| target.quantize(float::binary(op, real(a, sa, za), real(b, sb, zb)))
}

/// One operand of `QLinearConcat`: `clip(rne(((x - zx) * sx) / sy) + zy)`.
pub(super) fn rescale((scale, zero): (f32, i32), target: Target, x: &[i32]) -> Vec<i32> {
    map_distinct(x, |x| target.quantize(real(x, scale, zero)))
}

/// Applies a function of one integer; through a table where the elements are many and their range is small.
fn map_distinct(x: &[i32], f: impl Fn(i32) -> i32) -> Vec<i32> {
    let (low, high) = (x.iter().min().copied().unwrap_or(0), x.iter().max().copied().unwrap_or(0));
    match usize::try_from(i64::from(high) - i64::from(low)) {
        Ok(span) if span < x.len() => {
            let table: Vec<i32> = (low..=high).map(&f).collect();
            x.iter().map(|&x| table[usize::try_from(x - low).expect("low is the smallest")]).collect()
        }
        _ => x.iter().map(|&x| f(x)).collect(),
    }
}

/// Softmax along an axis: float64 softmax of the real values, then `clip(rne(p * floor(f32(1/ys))) + yzp)` in float64.
/// ONNX Runtime's `QLinearSoftmax` multiplies by the whole part of the reciprocal: at 1/255 an exact division misses
/// 1,990 of 24,000 elements, this form 1.
pub(super) fn softmax(shape: &[usize], axis: usize, scale: f32, target: Target, x: &[i32]) -> Outcome<Vec<i32>> {
    let mut y = vec![0; x.len()];
    let steps = f64::from((1.0 / target.scale).floor());
    for lane in lanes(shape, axis)? {
        // The zero point cancels.
        let values: Vec<f64> = lane.clone().map(|index| f64::from(x[index]) * f64::from(scale)).collect();
        for (index, p) in lane.zip(float::softmax(&values)) {
            let rounded = (p * steps).round_ties_even();
            y[index] = target.clip(super::integers::exact_i64(rounded).saturating_add(i64::from(target.zero)));
        }
    }
    Ok(y)
}
