//! A quantized convolution whose operands have up to 16 bits or whose sums may pass 32: 64-bit sums, any output type.
//! What fits 32 bits is faster in [`super::conv`].

use rayon::prelude::*;

use super::conv::Window;
use crate::kernels::{
    elementwise::wide_products,
    requantize::{Limits, requantize_wide},
    widen::{Narrow, load, store},
};

/// One image `[H, W, C]` to `[P, Q, O]`, in groups.
#[derive(Clone, Debug)]
pub struct WideConv {
    /// Rows, columns and channels of the image.
    pub image: [usize; 3],
    /// Rows, columns and channels of the output.
    pub output: [usize; 3],
    /// Geometry.
    pub window: Window,
    /// Groups of channels; divide both.
    pub groups: usize,
    /// Types of the input and of the output.
    pub kinds: [Narrow; 2],
    /// Zero point of the input.
    pub zero: i32,
    /// `[O, R, S, C / groups]`, less the zero points.
    pub weights: Vec<i32>,
    /// One an output channel.
    pub bias: Vec<i64>,
    /// One an output channel.
    pub multiplier: Vec<f32>,
    /// Where outputs lie.
    pub limits: Limits,
}

#[derive(Default)]
struct Scratch {
    pixel: Vec<i32>,
    columns: Vec<i32>,
    sums: Vec<i64>,
    values: Vec<i32>,
}

impl WideConv {
    /// `clip(rne(f32(sum + bias) * multiplier) + zero_point)` of each output. `None` where a slice has another length.
    pub fn run(&self, x: &[u8], out: &mut [u8]) -> Option<()> {
        let ([h, w, c], [p, q, o]) = (self.image, self.output);
        let own = c.checked_div(self.groups)?;
        let depth = self.window.kernel[0] * self.window.kernel[1] * own;
        let size = o * self.kinds[1].bytes();
        let fits = x.len() == h * w * c * self.kinds[0].bytes()
            && out.len() == p * q * size
            && self.weights.len() == o * depth
            && self.bias.len() == o
            && self.multiplier.len() == o
            && depth * size > 0
            && c == own * self.groups
            && o.is_multiple_of(self.groups);
        if !fits {
            return None;
        }
        out.par_chunks_mut(size).enumerate().for_each_init(Scratch::default, |scratch, (pixel, out)| {
            self.gather(x, [pixel / q, pixel % q], scratch);
            let Scratch { columns, sums, values, .. } = scratch;
            let per_group = o / self.groups;
            sums.resize(o, 0);
            values.resize(o, 0);
            let groups = columns.chunks_exact(depth).zip(self.weights.chunks_exact(depth * per_group));
            for ((columns, weights), sums) in groups.zip(sums.chunks_exact_mut(per_group)) {
                wide_products(columns, weights, sums);
            }
            for (j, (value, &sum)) in values.iter_mut().zip(sums.iter()).enumerate() {
                *value = requantize_wide(sum.saturating_add(self.bias[j]), self.multiplier[j], self.limits);
            }
            store(self.kinds[1], values, out);
        });
        Some(())
    }

    /// The operands of one output pixel, `[groups, R, S, C / groups]`, less the zero point; 0 in the padding.
    fn gather(&self, x: &[u8], [row, column]: [usize; 2], Scratch { pixel, columns, .. }: &mut Scratch) {
        let [h, w, c] = self.image;
        let Window { kernel, stride, dilation, pad } = self.window;
        let (own, taps) = (c / self.groups, kernel[0] * kernel[1]);
        columns.clear();
        columns.resize(taps * c, 0);
        pixel.resize(c, 0);
        for tap in 0..taps {
            let (r, s) = (tap / kernel[1], tap % kernel[1]);
            let y = (row * stride[0] + r * dilation[0]).checked_sub(pad[0]).filter(|&y| y < h);
            let z = (column * stride[1] + s * dilation[1]).checked_sub(pad[1]).filter(|&z| z < w);
            let Some((y, z)) = y.zip(z) else { continue };
            let bytes = c * self.kinds[0].bytes();
            load(self.kinds[0], &x[(y * w + z) * bytes..][..bytes], pixel);
            for (group, pixel) in pixel.chunks_exact(own).enumerate() {
                let target = &mut columns[(group * taps + tap) * own..][..own];
                target.iter_mut().zip(pixel).for_each(|(target, &x)| *target = x.wrapping_sub(self.zero));
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sums_past_32_bits_and_padding_are_exact() {
        let window = Window { kernel: [1, 2], stride: [1, 1], dilation: [1, 1], pad: [0, 1, 0, 0] };
        let conv = WideConv {
            image: [1, 2, 2],
            output: [1, 2, 2],
            window,
            groups: 2,
            kinds: [Narrow::U16, Narrow::I16],
            zero: 1,
            weights: vec![30_000, 32_000, -1, -2],
            bias: vec![0, 7],
            multiplier: vec![0.5_f32.powi(18), 1.0],
            limits: Limits { zero_point: 5, low: -32768, high: 32767 },
        };
        let x: Vec<u8> = [65_535_u16, 1, 65_534, 4].into_iter().flat_map(u16::to_le_bytes).collect();
        let mut out = [0; 8];
        conv.run(&x, &mut out).unwrap();
        let mut found = [0; 4];
        load(Narrow::I16, &out, &mut found);
        // 65534 * 32000 / 2^18 = 7999.75, and with 65533 and 30000: 15499.4.
        assert_eq!(found, [8005, 12, 15504, 6]);
        assert_eq!(conv.run(&x, &mut [0; 7]), None);
    }
}
