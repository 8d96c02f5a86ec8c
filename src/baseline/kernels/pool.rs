//! Windows that slide over a quantized image `[H, W, C]`: the largest element and the average, channels together.

use rayon::prelude::*;

use super::conv::Window;
use crate::kernels::{
    requantize::Limits,
    widen::{Narrow, load, store},
};

/// Where windows lie, on what.
#[derive(Clone, Copy, Debug)]
pub struct Pool {
    /// Geometry.
    pub window: Window,
    /// Rows, columns and channels of the image.
    pub image: [usize; 3],
    /// Rows and columns of the output.
    pub output: [usize; 2],
    /// Type of the input.
    pub kind: Narrow,
}

/// The numbers of an average: `clip(rne(sum / divisor / scale + zero_point))`, the sum of real values in float32.
#[derive(Clone, Copy, Debug)]
pub struct Average {
    /// Scale and zero point of the input.
    pub input: (f32, i32),
    /// Scale of the output.
    pub scale: f32,
    /// Type of the output.
    pub output: Narrow,
    /// Where outputs lie.
    pub limits: Limits,
    /// Whether the padding counts in the divisor.
    pub count_padding: bool,
}

#[derive(Default)]
struct Scratch {
    values: Vec<i32>,
    largest: Vec<i32>,
    sums: Vec<f32>,
}

impl Pool {
    /// The largest element under each window, of the images of a batch; padding never wins. `None` where a slice has
    /// another length.
    pub fn maximum(&self, x: &[u8], out: &mut [u8]) -> Option<()> {
        self.pixels(x, self.kind, out, |scratch, taps, out| {
            if self.kind.bytes() == 1 {
                maximum(self.kind, taps, out);
                return;
            }
            let Scratch { values, largest, .. } = scratch;
            values.resize(self.image[2], 0);
            largest.clear();
            largest.resize(self.image[2], i32::MIN);
            for x in taps {
                load(self.kind, x, values);
                largest.iter_mut().zip(values.iter()).for_each(|(largest, &value)| *largest = value.max(*largest));
            }
            store(self.kind, largest, out);
        })
    }

    /// The average under each window, of the images of a batch. `None` where a slice has another length.
    pub fn average(&self, by: &Average, x: &[u8], out: &mut [u8]) -> Option<()> {
        self.pixels(x, by.output, out, |Scratch { values, sums, .. }, taps, out| {
            values.resize(self.image[2], 0);
            sums.clear();
            sums.resize(self.image[2], 0.0);
            let mut count = 0;
            // Row by row: the float sum's rounding depends on the order.
            for x in taps {
                count += 1;
                load(self.kind, x, values);
                add_real(values, by.input, sums);
            }
            let window = self.window.kernel[0] * self.window.kernel[1];
            by.finish(sums, if by.count_padding { window } else { count } as f32, values);
            store(by.output, values, out);
        })
    }

    /// Calls `pixel` for each output pixel with the pixels under its window, row by row, without the padding.
    fn pixels<'a>(
        &self,
        x: &'a [u8],
        output: Narrow,
        out: &mut [u8],
        pixel: impl Fn(&mut Scratch, Taps<'a>, &mut [u8]) + Sync,
    ) -> Option<()> {
        let ([h, w, c], [p, q]) = (self.image, self.output);
        let (own, size) = (h * w * c * self.kind.bytes(), c * output.bytes());
        let images = x.len().checked_div(own)?;
        if x.len() != images * own || out.len() != images * p * q * size || out.is_empty() {
            return None;
        }
        out.par_chunks_mut(q * size).enumerate().for_each_init(Scratch::default, |scratch, (line, out)| {
            let x = &x[line / p * own..][..own];
            for (column, out) in out.chunks_exact_mut(size).enumerate() {
                let taps = Taps::new(self, x, [line % p, column]);
                pixel(scratch, taps, out);
            }
        });
        Some(())
    }
}

/// The pixels under one window.
struct Taps<'a> {
    x: &'a [u8],
    bytes: usize,
    width: usize,
    /// Rows and columns of the image that the window covers, as first, end and step.
    rows: [usize; 3],
    columns: [usize; 3],
    column: usize,
}

impl<'a> Taps<'a> {
    fn new(pool: &Pool, x: &'a [u8], at: [usize; 2]) -> Self {
        let Window { kernel, stride, dilation, pad } = pool.window;
        let covered = |axis: usize| {
            let (start, step) = (at[axis] * stride[axis], dilation[axis].max(1));
            let skipped = pad[axis].saturating_sub(start).div_ceil(step);
            let end = (start + kernel[axis] * step).saturating_sub(pad[axis]).min(pool.image[axis]);
            [(start + skipped * step).saturating_sub(pad[axis]), end, step]
        };
        let (rows, columns) = (covered(0), covered(1));
        let bytes = pool.image[2] * pool.kind.bytes();
        Self { x, bytes, width: pool.image[1], rows, columns, column: columns[0] }
    }
}

impl<'a> Iterator for Taps<'a> {
    type Item = &'a [u8];

    fn next(&mut self) -> Option<&'a [u8]> {
        if self.column >= self.columns[1] {
            self.column = self.columns[0];
            self.rows[0] += self.rows[2];
        }
        if self.rows[0] >= self.rows[1] || self.column >= self.columns[1] {
            return None;
        }
        let at = self.rows[0] * self.width + self.column;
        self.column += self.columns[2];
        Some(&self.x[at * self.bytes..][..self.bytes])
    }
}

fn maximum<'a>(kind: Narrow, taps: impl Iterator<Item = &'a [u8]>, out: &mut [u8]) {
    // Flipping the sign bit puts two's complement in the order of plain bytes.
    let flip = if kind == Narrow::U8 { 0 } else { 0x80 };
    out.fill(0);
    for x in taps {
        out.iter_mut().zip(x).for_each(|(out, &x)| *out = (*out).max(x ^ flip));
    }
    for out in out.iter_mut() {
        *out ^= flip;
    }
}

fn add_real(values: &[i32], (scale, zero): (f32, i32), sums: &mut [f32]) {
    sums.iter_mut().zip(values).for_each(|(sum, &value)| *sum += value.wrapping_sub(zero) as f32 * scale);
}

impl Average {
    #[allow(clippy::cast_possible_truncation, reason = "a float's cast saturates, and the clip follows")]
    fn finish(&self, sums: &[f32], divisor: f32, out: &mut [i32]) {
        let Limits { zero_point, low, high } = self.limits;
        for (out, sum) in out.iter_mut().zip(sums) {
            // The zero point goes in before the rounding.
            let value = (sum / divisor / self.scale + zero_point as f32).round_ties_even();
            *out = (value as i32).max(low).min(high);
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn windows_equal_their_plain_twin(
            [h, w] in prop::array::uniform2(1_usize..9), c in 1_usize..5,
            kernel in prop::array::uniform2(1_usize..4), stride in prop::array::uniform2(1_usize..3),
            dilation in prop::array::uniform2(1_usize..3), pad in prop::array::uniform4(0_usize..3),
            seed: u32, which in 0_usize..4, count_padding: bool,
        ) {
            let window = Window { kernel, stride, dilation, pad };
            let extent = |axis: usize, size: usize| {
                (size + pad[axis] + pad[axis + 2]).checked_sub((kernel[axis] - 1) * dilation[axis] + 1).map(|room| room / stride[axis] + 1)
            };
            let (Some(p), Some(q)) = (extent(0, h), extent(1, w)) else { return Ok(()) };
            let kind = [Narrow::U8, Narrow::I8, Narrow::U16, Narrow::I16][which];
            let pool = Pool { window, image: [h, w, c], output: [p, q], kind };
            let noise = |i: usize| (i + 1).wrapping_mul(seed as usize | 1).wrapping_mul(2_654_435_761).to_le_bytes()[3];
            let x: Vec<u8> = (0..2 * h * w * c * kind.bytes()).map(noise).collect();
            let mut values = vec![0; 2 * h * w * c];
            load(kind, &x, &mut values);
            let limits = Limits { zero_point: 3, low: -100, high: 100 };
            let by = Average { input: (0.37, 5), scale: 0.21, output: Narrow::I8, limits, count_padding };
            let mut largest = vec![0; 2 * p * q * c * kind.bytes()];
            let mut average = vec![0; 2 * p * q * c];
            pool.maximum(&x, &mut largest).unwrap();
            pool.average(&by, &x, &mut average).unwrap();
            let mut found = vec![0; average.len()];
            load(kind, &largest, &mut found);
            for (index, (&largest, &average)) in found.iter().zip(&average).enumerate() {
                let (channel, pixel) = (index % c, index / c);
                let (column, row, image) = (pixel % q, pixel / q % p, pixel / q / p);
                let mut covered = Vec::new();
                for (r, s) in (0..kernel[0]).flat_map(|r| (0..kernel[1]).map(move |s| (r, s))) {
                    let y = (row * stride[0] + r * dilation[0]).checked_sub(pad[0]).filter(|&y| y < h);
                    let z = (column * stride[1] + s * dilation[1]).checked_sub(pad[1]).filter(|&z| z < w);
                    if let Some((y, z)) = y.zip(z) {
                        covered.push(values[((image * h + y) * w + z) * c + channel]);
                    }
                }
                // The graph's checks refuse a window in the padding alone.
                let Some(expected) = covered.iter().max() else { continue };
                prop_assert_eq!(largest, *expected);
                let sum = covered.iter().fold(0.0_f32, |sum, &value| sum + (value - 5) as f32 * 0.37);
                let divisor = if count_padding { kernel[0] * kernel[1] } else { covered.len() } as f32;
                let expected = (sum / divisor / 0.21 + 3.0).round_ties_even().clamp(-100.0, 100.0);
                prop_assert!((f32::from(average.cast_signed()) - expected).abs() < 0.1);
            }
        }
    }

    #[test]
    fn slices_of_another_length_are_refused() {
        let window = Window { kernel: [1, 1], stride: [1, 1], dilation: [1, 1], pad: [0; 4] };
        let pool = Pool { window, image: [2, 2, 3], output: [2, 2], kind: Narrow::I16 };
        assert_eq!(pool.maximum(&[0; 24], &mut [0; 24]), Some(()));
        assert_eq!(pool.maximum(&[0; 24], &mut [0; 12]), None);
        assert_eq!(pool.maximum(&[0; 23], &mut [0; 24]), None);
    }
}
