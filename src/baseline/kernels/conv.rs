//! A whole quantized convolution on the host's processor: im2col in cache-sized blocks, packed weights, matrix product,
//! requantization; threads by rayon. This is the measured CPU baseline, not the engine.

use rayon::prelude::*;

use crate::kernels::{
    gemm::{Packed, gemm},
    requantize::{Limits, requantize_row},
    widen::{Narrow, widen},
};
/// Depth of one packed block: a panel of it stays in the first-level cache.
const DEPTH: usize = 256;
/// Most output pixels of one task.
const PIXELS: usize = 96;

/// A sliding window over `[H, W]`; rows first.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Window {
    /// Rows and columns.
    pub kernel: [usize; 2],
    /// Step between outputs; positive.
    pub stride: [usize; 2],
    /// Step between taps.
    pub dilation: [usize; 2],
    /// Padding at top, left, bottom, right.
    pub pad: [usize; 4],
}

impl Window {
    /// Output extent along one axis; `None` where the window does not fit.
    fn output(&self, axis: usize, input: usize) -> Option<usize> {
        let reach = self.dilation[axis].checked_mul(self.kernel[axis].checked_sub(1)?)?.checked_add(1)?;
        let padded = input.checked_add(self.pad[axis])?.checked_add(self.pad[axis + 2])?;
        padded.checked_sub(reach)?.checked_div(self.stride[axis])?.checked_add(1)
    }
}

/// A dense convolution over one image `[H, W, C]`, weights packed.
#[derive(Clone, Debug)]
pub struct Conv {
    image: [usize; 3],
    output: [usize; 3],
    window: Window,
    kind: Narrow,
    zero: i16,
    blocks: Vec<Packed>,
}

impl Conv {
    /// Packs `weights`: `[O, R, S, C]`, less their zero points. `kind` and `zero` are the input's; `None` where the
    /// window does not fit the image or the weights are not of that many elements.
    pub fn new(
        image: [usize; 3],
        outputs: usize,
        window: Window,
        (kind, zero): (Narrow, i16),
        weights: &[i16],
    ) -> Option<Self> {
        let [h, w, c] = image;
        let depth = window.kernel[0].checked_mul(window.kernel[1])?.checked_mul(c)?;
        if depth == 0 || weights.len() != depth.checked_mul(outputs)? {
            return None;
        }
        let output = [window.output(0, h)?, window.output(1, w)?, outputs];
        let blocks = (0..depth).step_by(DEPTH).map(|first| {
            let length = DEPTH.min(depth - first);
            let mut packed = Packed::default();
            packed.reset(outputs, length);
            for (j, row) in weights.chunks_exact(depth).enumerate() {
                packed.set_row(j, &row[first..first + length]);
            }
            packed
        });
        Some(Self { image, output, window, kind, zero, blocks: blocks.collect() })
    }

    /// Shape of the image: `[H, W, C]`.
    pub const fn image(&self) -> [usize; 3] {
        self.image
    }

    /// Shape of the result: `[P, Q, O]`.
    pub const fn output(&self) -> [usize; 3] {
        self.output
    }

    /// Convolves an image into `out`, 8-bit outputs `[P, Q, O]`, with the float32 requantizer. Bias and multiplier
    /// are one an output channel. `None` where a slice has another length.
    pub fn run(&self, x: &[u8], bias: &[i32], multiplier: &[f32], limits: Limits, out: &mut [u8]) -> Option<()> {
        let [h, w, c] = self.image;
        let [p, q, o] = self.output;
        let fits = x.len() == h * w * c * self.kind.bytes() && out.len() == p * q * o;
        if !fits || bias.len() != o || multiplier.len() != o {
            return None;
        }
        if o == 0 {
            return Some(());
        }
        // As many tasks for each thread; what they compute does not depend on it.
        let threads = rayon::current_num_threads();
        let tasks = (p * q).div_ceil(PIXELS).next_multiple_of(threads);
        let each = (p * q).div_ceil(tasks).max(1);
        out.par_chunks_mut(each * o).enumerate().for_each_init(Scratch::default, |scratch, (task, out)| {
            let pixels = out.len() / o;
            scratch.sums.resize(pixels * o, 0);
            scratch.offsets.clear();
            scratch.offsets.extend((0..pixels).map(|i| i * o));
            for (index, block) in self.blocks.iter().enumerate() {
                self.gather(x, task * each, pixels, index, &mut scratch.columns);
                gemm(&scratch.columns, block, &mut scratch.sums, &scratch.offsets, index > 0);
            }
            for (sums, out) in scratch.sums.chunks_exact(o).zip(out.chunks_exact_mut(o)) {
                requantize_row(sums, bias, multiplier, limits, out);
            }
        });
        Some(())
    }

    /// The operands of `pixels` outputs from `first` on, for one block of the depth.
    fn gather(&self, x: &[u8], first: usize, pixels: usize, block: usize, columns: &mut Vec<i16>) {
        let [h, w, c] = self.image;
        let Window { kernel, stride, dilation, pad } = self.window;
        let depth = self.blocks[block].padded_k();
        let size = self.kind.bytes();
        columns.clear();
        columns.resize(pixels * depth, 0);
        for (pixel, row) in columns.chunks_exact_mut(depth).enumerate() {
            let (oh, ow) = ((first + pixel) / self.output[1], (first + pixel) % self.output[1]);
            let mut at = block * DEPTH;
            let end = at + self.blocks[block].k();
            while at < end {
                let (tap, channel) = (at / c, at % c);
                let (r, s) = (tap / kernel[1], tap % kernel[1]);
                let length = (c - channel).min(end - at);
                let y = (oh * stride[0] + r * dilation[0]).checked_sub(pad[0]).filter(|&y| y < h);
                let z = (ow * stride[1] + s * dilation[1]).checked_sub(pad[1]).filter(|&z| z < w);
                if let (Some(y), Some(z)) = (y, z) {
                    let start = ((y * w + z) * c + channel) * size;
                    let target = &mut row[at - block * DEPTH..][..length];
                    widen(self.kind, &x[start..start + length * size], self.zero, target);
                }
                at += length;
            }
        }
    }
}

/// What one thread works in.
#[derive(Default)]
struct Scratch {
    columns: Vec<i16>,
    sums: Vec<i32>,
    offsets: Vec<usize>,
}

#[cfg(test)]
#[allow(
    clippy::cast_possible_truncation,
    clippy::cast_possible_wrap,
    clippy::cast_sign_loss,
    reason = "small numbers, or low bits that are meant"
)]
mod tests {
    use super::*;

    #[test]
    fn a_convolution_equals_plain_loops_across_depth_blocks_and_tasks() {
        let window = Window { kernel: [3, 3], stride: [2, 1], dilation: [1, 1], pad: [1, 1, 1, 0] };
        let (h, w, c, o) = (23, 14, 37, 19);
        let noise = |i: usize| (i.wrapping_mul(2_654_435_761) >> 7) as u8;
        let x: Vec<u8> = (0..h * w * c).map(noise).collect();
        let weights: Vec<i16> = (0..o * 9 * c).map(|i| i16::from(noise(i + 99)) - 128).collect();
        let conv = Conv::new([h, w, c], o, window, (Narrow::U8, 7), &weights).unwrap();
        let [p, q, _] = conv.output();
        let limits = Limits { zero_point: 100, low: 0, high: 255 };
        let bias: Vec<i32> = (0..o as i32).map(|i| i * 100).collect();
        let multiplier = vec![0.000_3; o];
        let mut out = vec![0; p * q * o];
        conv.run(&x, &bias, &multiplier, limits, &mut out).unwrap();
        for (oh, ow, j) in (0..p).flat_map(|a| (0..q).flat_map(move |b| (0..o).map(move |j| (a, b, j)))) {
            let mut sum = bias[j];
            for (r, s) in (0..3).flat_map(|r| (0..3).map(move |s| (r, s))) {
                let (y, z) = ((oh * 2 + r) as i64 - 1, (ow + s) as i64 - 1);
                if (0..h as i64).contains(&y) && (0..w as i64).contains(&z) {
                    for d in 0..c {
                        let value = i32::from(x[(y as usize * w + z as usize) * c + d]) - 7;
                        sum += value * i32::from(weights[(j * 9 + r * 3 + s) * c + d]);
                    }
                }
            }
            let expected = ((sum as f32 * 0.000_3).round_ties_even() + 100.0).clamp(0.0, 255.0) as u8;
            assert_eq!(out[(oh * q + ow) * o + j], expected);
        }
    }

    #[test]
    fn slices_of_another_length_are_refused() {
        let unit = Window { kernel: [1, 1], stride: [1, 1], dilation: [1, 1], pad: [0; 4] };
        let conv = Conv::new([2, 2, 1], 1, unit, (Narrow::I8, 0), &[1]).unwrap();
        let limits = Limits { zero_point: 0, low: -128, high: 127 };
        assert_eq!(conv.run(&[0; 3], &[0], &[1.0], limits, &mut [0; 4]), None);
        assert!(Conv::new([2, 2, 1], 1, unit, (Narrow::I8, 0), &[1, 2]).is_none());
    }
}
