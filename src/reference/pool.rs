//! Averages: sliding windows and reductions, over float or integer elements.

use rayon::prelude::*;

use super::{
    Outcome, Reason, checked_size,
    geometry::{image, window_output},
    movement::window_elements,
};
use crate::ir::Window;

/// Calls `mean(elements, padded, plane)` for each window: the offsets in the plane that it covers, in row-major order,
/// and how many there would be if padding counted. A window that lies in the padding alone is refused.
pub(super) fn average<X: Sync, Y: Clone + Send>(
    shape: &[usize],
    x: &[X],
    window: &Window,
    mean: impl Fn(&[usize], usize, &[X]) -> Y + Sync,
) -> Outcome<(Vec<usize>, Vec<Y>)> {
    let [n, c, h, w] = image(shape)?;
    let [p, q] = window_output(window, h, w)?;
    checked_size(&[n, c, p, q])?;
    let padded = window.kernel[0] * window.kernel[1];
    let covered: Vec<Vec<usize>> =
        (0..p * q).map(|pixel| window_elements(window, [h, w], [pixel / q, pixel % q]).collect()).collect();
    if covered.iter().any(Vec::is_empty) {
        return Err(Reason::Shape("a window lies in the padding alone".into()));
    }
    let planes: Vec<Vec<Y>> = (0..n * c)
        .into_par_iter()
        .map(|plane| {
            let plane = &x[plane * h * w..][..h * w];
            covered.iter().map(|elements| mean(elements, padded, plane)).collect()
        })
        .collect();
    Ok((vec![n, c, p, q], planes.concat()))
}

/// Sums over `axes`: the result's shape, the sums and how many elements each has.
pub(super) fn sums<S: Copy + Default + std::ops::AddAssign>(
    shape: &[usize],
    axes: &[usize],
    keep_dims: bool,
    element: impl Fn(usize) -> S,
) -> Outcome<(Vec<usize>, Vec<S>, usize)> {
    if axes.iter().any(|&axis| axis >= shape.len()) {
        return Err(Reason::Shape(format!("axes {axes:?} of {shape:?}")));
    }
    let reduced = |axis: usize| axes.contains(&axis);
    let kept: Vec<usize> = (0..shape.len()).map(|axis| if reduced(axis) { 1 } else { shape[axis] }).collect();
    let count: usize = (0..shape.len()).filter(|&axis| reduced(axis)).map(|axis| shape[axis]).product();
    if count == 0 {
        return Err(Reason::Shape(format!("the mean of no elements of {shape:?}")));
    }
    let mut sums = vec![S::default(); kept.iter().product()];
    let elements: usize = shape.iter().product();
    let mut at = vec![0; shape.len()];
    for index in 0..elements {
        let target = at.iter().zip(&kept).fold(0, |offset, (&at, &dim)| offset * dim + if dim == 1 { 0 } else { at });
        sums[target] += element(index);
        for axis in (0..shape.len()).rev() {
            at[axis] += 1;
            if at[axis] < shape[axis] {
                break;
            }
            at[axis] = 0;
        }
    }
    let output = if keep_dims {
        kept
    } else {
        (0..shape.len()).filter(|&axis| !reduced(axis)).map(|axis| shape[axis]).collect()
    };
    Ok((output, sums, count))
}
