//! Pooling of one output pixel at a time: maxima, averages, means over whole images.

use super::{table, vector::Elementwise};
use crate::{
    ir::{Op, Window},
    program::VectorKind,
    tensor::Quantization,
};

/// One pooled row at a time. Averages are ONNX Runtime's: `QLinearAveragePool` adds dequantized values in the order
/// of `(r, s)` in single precision, `QLinearGlobalAveragePool` adds integers.
pub(super) struct Pool<'a> {
    kind: VectorKind,
    channels: usize,
    taps: usize,
    include_padding: bool,
    input: &'a Quantization,
    output: &'a Quantization,
    clamp: [i32; 2],
    largest: Vec<i32>,
    sums: Vec<f32>,
    totals: Vec<i64>,
    /// Elements of channel 0 that were not padding.
    present: usize,
}

impl<'a> Pool<'a> {
    /// Of a layer's numbers, for windows of `taps` elements.
    pub fn new(
        kind: VectorKind,
        numbers: &Elementwise<'a>,
        input: &'a Quantization,
        channels: usize,
        taps: usize,
    ) -> Self {
        Self {
            kind,
            channels,
            taps: match numbers.op {
                Op::AvgPool { window: Window { kernel, .. }, .. } => kernel[0].saturating_mul(kernel[1]),
                _ => taps,
            },
            include_padding: matches!(numbers.op, Op::AvgPool { count_include_pad: true, .. }),
            input,
            output: numbers.output,
            clamp: numbers.clamp,
            largest: vec![0; channels],
            sums: vec![0.0; channels],
            totals: vec![0; channels],
            present: 0,
        }
    }

    /// Starts another output pixel.
    pub fn start(&mut self) {
        self.largest.fill(i32::MIN);
        self.sums.fill(0.0);
        self.totals.fill(0);
        self.present = 0;
    }

    /// Elements from `channel` on, going round the channels tap after tap.
    pub fn take(&mut self, mut channel: usize, mut line: &[i32]) {
        while !line.is_empty() {
            let here = line.len().min(self.channels - channel);
            let (now, rest) = line.split_at(here);
            let range = channel..channel + here;
            match self.kind {
                VectorKind::MaxPool => {
                    for (slot, &value) in self.largest[range].iter_mut().zip(now) {
                        *slot = (*slot).max(value);
                    }
                }
                VectorKind::GlobalAvgPool => {
                    let zero = i64::from(table::zero(self.input));
                    for (slot, &value) in self.totals[range].iter_mut().zip(now) {
                        *slot += i64::from(value) - zero;
                    }
                }
                _ => {
                    for (slot, &value) in self.sums[range].iter_mut().zip(now) {
                        *slot += table::dequantize(value, self.input);
                    }
                }
            }
            self.present += usize::from(channel == 0);
            channel = 0;
            line = rest;
        }
    }

    /// The pixel's outputs, one a channel.
    pub fn finish(&self, out: &mut Vec<i32>) {
        let [low, high] = self.clamp;
        match self.kind {
            VectorKind::MaxPool => out.extend(self.largest.iter().map(|&value| value.clamp(low, high))),
            VectorKind::GlobalAvgPool => {
                let multiplier = table::scale(self.input) / (table::scale(self.output) * self.taps as f32);
                let zero = table::zero(self.output);
                let mean = |&total: &i64| table::round_and_clip(total as f32 * multiplier, zero, self.clamp);
                out.extend(self.totals.iter().map(mean));
            }
            _ => {
                let count = if self.include_padding { self.taps } else { self.present } as f32;
                out.extend(self.sums.iter().map(|&sum| table::quantize_mean(sum / count, self.output, self.clamp)));
            }
        }
    }
}
