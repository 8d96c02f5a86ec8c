//! Geometry of a convolution: extents, checked once, and the input elements that meet each tap.

use std::ops::Range;

use super::{Outcome, Reason, checked_size};
use crate::ir::Window;

/// Extents of a convolution `[n, groups * c, h, w] * [groups * o, c, r, s] -> [n, groups * o, p, q]`.
#[derive(Clone, Copy, Debug)]
pub(super) struct Geometry {
    pub(super) n: usize,
    /// Input channels of one group.
    pub(super) c: usize,
    pub(super) h: usize,
    pub(super) w: usize,
    /// Output channels of one group.
    pub(super) o: usize,
    pub(super) p: usize,
    pub(super) q: usize,
    pub(super) groups: usize,
    pub(super) window: Window,
}

/// Refuses windows whose kernel, stride or dilation is zero, and returns the output's rows and columns.
pub(super) fn window_output(window: &Window, h: usize, w: usize) -> Outcome<[usize; 2]> {
    let fault = || Reason::Shape(format!("{window:?} does not fit an input of {h} x {w}"));
    if [window.kernel, window.stride, window.dilation].iter().flatten().any(|&extent| extent == 0) {
        return Err(fault());
    }
    checked_size(&window.kernel)?;
    Ok([window.output(0, h).ok_or_else(fault)?, window.output(1, w).ok_or_else(fault)?])
}

/// The four dimensions of an image tensor.
pub(super) fn image(shape: &[usize]) -> Outcome<[usize; 4]> {
    shape.try_into().map_err(|_| Reason::Shape(format!("{shape:?}, expected [N, C, H, W]")))
}

impl Geometry {
    pub(super) fn new(x: &[usize], weight: &[usize], window: &Window, groups: usize) -> Outcome<Self> {
        let [n, channels, h, w] = image(x)?;
        let [outputs, c, r, s] = image(weight)?;
        let fits = groups > 0
            && c.checked_mul(groups) == Some(channels)
            && outputs % groups == 0
            && [r, s] == window.kernel
            && c > 0;
        if !fits {
            return Err(Reason::Shape(format!(
                "input {x:?}, weight {weight:?}, kernel {:?} and {groups} groups do not fit",
                window.kernel
            )));
        }
        let [p, q] = window_output(window, h, w)?;
        let geometry = Self { n, c, h, w, o: outputs / groups, p, q, groups, window: *window };
        checked_size(&geometry.output())?;
        checked_size(&[c, r, s])?;
        Ok(geometry)
    }

    /// Products of one output.
    pub(super) fn k(&self) -> usize {
        self.c * self.window.kernel[0] * self.window.kernel[1]
    }

    /// Shape of the output.
    pub(super) fn output(&self) -> [usize; 4] {
        [self.n, self.o * self.groups, self.p, self.q]
    }

    /// Whether each tap of a row-major input is the input itself: a 1x1 window that moves by 1.
    pub(super) fn is_pointwise(&self) -> bool {
        self.window.kernel == [1, 1] && self.window.stride == [1, 1] && self.window.pad == [0; 4]
    }

    /// The input row that output row `p` meets at kernel row `r`; `None` in the padding.
    pub(super) fn row(&self, p: usize, r: usize) -> Option<usize> {
        let padded = p * self.window.stride[0] + r * self.window.dilation[0];
        padded.checked_sub(self.window.pad[0]).filter(|&row| row < self.h)
    }

    /// The input column that output column `q` meets at kernel column `s`; `None` in the padding.
    pub(super) fn column(&self, q: usize, s: usize) -> Option<usize> {
        let padded = q * self.window.stride[1] + s * self.window.dilation[1];
        padded.checked_sub(self.window.pad[1]).filter(|&column| column < self.w)
    }

    /// The output columns that meet the input (not the padding) at kernel column `s`.
    pub(super) fn inside(&self, s: usize) -> Range<usize> {
        let [stride, offset, pad] = [self.window.stride[1], s * self.window.dilation[1], self.window.pad[1]];
        let first = pad.saturating_sub(offset).div_ceil(stride).min(self.q);
        // Columns with q * stride + offset < w + pad.
        let end = (self.w + pad).saturating_sub(offset).div_ceil(stride).min(self.q);
        first..end.max(first)
    }

    /// The element of a group's input that product `k = (c * R + r) * S + s` of output `(p, q)` reads, as offsets
    /// `(channel, row, column)`; `None` in the padding.
    pub(super) fn tap(&self, [p, q]: [usize; 2], k: usize) -> Option<usize> {
        let [rows, columns] = self.window.kernel;
        let (c, r, s) = (k / (rows * columns), k / columns % rows, k % columns);
        Some((c * self.h + self.row(p, r)?) * self.w + self.column(q, s)?)
    }

    /// Fills `[k, rows * Q]` with the elements that the products `k` of the outputs in `rows` meet; zero in the
    /// padding. `image` is one group's input `[c, h, w]`.
    pub(super) fn unfold<T: Copy + Default>(
        &self,
        image: &[T],
        k: Range<usize>,
        rows: Range<usize>,
        unfolded: &mut Vec<T>,
    ) {
        let [kernel_rows, kernel_columns] = self.window.kernel;
        let stride = self.window.stride[1];
        unfolded.clear();
        unfolded.resize(k.len() * rows.len() * self.q, T::default());
        let mut lines = unfolded.chunks_exact_mut(self.q.max(1));
        for k in k {
            let (c, r, s) = (k / (kernel_rows * kernel_columns), k / kernel_columns % kernel_rows, k % kernel_columns);
            let inside = self.inside(s);
            for p in rows.clone() {
                let Some(line) = lines.next() else { return };
                let (Some(row), Some(first)) = (self.row(p, r), self.column(inside.start, s)) else { continue };
                let source = &image[(c * self.h + row) * self.w + first..(c * self.h + row + 1) * self.w];
                let target = &mut line[inside.clone()];
                if stride == 1 {
                    target.copy_from_slice(&source[..target.len()]);
                } else {
                    for (target, &value) in target.iter_mut().zip(source.iter().step_by(stride)) {
                        *target = value;
                    }
                }
            }
        }
    }
}
