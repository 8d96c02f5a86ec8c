//! Softmax of quantized values by the formula of ONNX Runtime's `QLinearSoftmax`, the exponentials from a table.

use rayon::prelude::*;

use crate::kernels::{
    requantize::Limits,
    widen::{Narrow, load, store},
};

/// `y = clip(rne(exp((x - max) * scale) / sum * steps) + zero_point)` along an axis, in float64.
#[derive(Clone, Debug)]
pub struct Softmax {
    /// `exp(-d * scale)` by `d`, how far an element is below the largest.
    powers: Vec<f64>,
    steps: f64,
    kinds: [Narrow; 2],
    limits: Limits,
}

impl Softmax {
    /// `kinds` are the input's and the output's; `steps` is the whole part of the reciprocal of the output's scale.
    pub fn new(scale: f32, steps: f64, kinds: [Narrow; 2], limits: Limits) -> Self {
        let entries = if kinds[0].bytes() == 1 { 1 << 8 } else { 1 << 16 };
        // An element times its scale, and the difference of two of these, are exact in float64: the table's entries
        // are the exponentials of the very differences.
        let powers = (0..entries).map(|below| (-(f64::from(below) * f64::from(scale))).exp()).collect();
        Self { powers, steps, kinds, limits }
    }

    /// Each block of `[length, inner]` elements, along `length`. `None` where slices are not whole blocks of a number.
    pub fn run(&self, x: &[u8], [length, inner]: [usize; 2], out: &mut [u8]) -> Option<()> {
        let each = length.checked_mul(inner).filter(|&each| each > 0)?;
        let [x_size, out_size] = self.kinds.map(|kind| each * kind.bytes());
        if !x.len().is_multiple_of(x_size)
            || !out.len().is_multiple_of(out_size)
            || x.len() / x_size != out.len() / out_size
        {
            return None;
        }
        let blocks = out.par_chunks_mut(out_size).zip(x.par_chunks(x_size));
        blocks.for_each_init(Scratch::default, |scratch, (out, x)| self.block(x, inner, scratch, out));
        Some(())
    }

    #[allow(
        clippy::cast_possible_truncation,
        clippy::cast_sign_loss,
        reason = "a float's cast saturates and the clip follows; no element is above the largest"
    )]
    fn block(&self, x: &[u8], inner: usize, scratch: &mut Scratch, out: &mut [u8]) {
        let Scratch { values, largest, sums } = scratch;
        values.resize(x.len() / self.kinds[0].bytes(), 0);
        load(self.kinds[0], x, values);
        largest.clear();
        largest.extend_from_slice(&values[..inner]);
        for row in values.chunks_exact(inner) {
            largest.iter_mut().zip(row).for_each(|(largest, &value)| *largest = value.max(*largest));
        }
        let power = |value: i32, largest: i32| self.powers[largest.wrapping_sub(value) as usize];
        sums.clear();
        sums.resize(inner, 0.0);
        // In the order of the axis: the sum's rounding depends on it.
        for row in values.chunks_exact(inner) {
            for ((sum, &value), &largest) in sums.iter_mut().zip(row).zip(largest.iter()) {
                *sum += power(value, largest);
            }
        }
        let Limits { zero_point, low, high } = self.limits;
        for row in values.chunks_exact_mut(inner) {
            for ((value, &largest), &sum) in row.iter_mut().zip(largest.iter()).zip(sums.iter()) {
                let rounded = (power(*value, largest) / sum * self.steps).round_ties_even() as i32;
                *value = rounded.saturating_add(zero_point).max(low).min(high);
            }
        }
        store(self.kinds[1], values, out);
    }
}

#[derive(Default)]
struct Scratch {
    values: Vec<i32>,
    largest: Vec<i32>,
    sums: Vec<f64>,
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn probabilities_follow_the_formula(
            rows in prop::collection::vec(prop::collection::vec(any::<i8>(), 3), 1..40), scale in 0.001_f32..1.0,
        ) {
            let limits = Limits { zero_point: -128, low: -128, high: 127 };
            let softmax = Softmax::new(scale, 256.0, [Narrow::I8; 2], limits);
            let x: Vec<u8> = rows.iter().flatten().map(|value| value.cast_unsigned()).collect();
            let mut out = vec![0; x.len()];
            softmax.run(&x, [rows.len(), 3], &mut out).unwrap();
            for lane in 0..3 {
                let values: Vec<f64> = rows.iter().map(|row| f64::from(row[lane]) * f64::from(scale)).collect();
                let largest = values.iter().copied().fold(f64::NEG_INFINITY, f64::max);
                let powers: Vec<f64> = values.iter().map(|value| (value - largest).exp()).collect();
                let sum: f64 = powers.iter().sum();
                for (row, power) in powers.iter().enumerate() {
                    let expected = ((power / sum * 256.0).round_ties_even() - 128.0).clamp(-128.0, 127.0);
                    prop_assert!((f64::from(out[row * 3 + lane].cast_signed()) - expected).abs() < 0.1);
                }
            }
        }
    }

    #[test]
    fn slices_that_are_not_whole_blocks_are_refused() {
        let limits = Limits { zero_point: 0, low: 0, high: 255 };
        let softmax = Softmax::new(0.1, 255.0, [Narrow::U8, Narrow::U16], limits);
        assert_eq!(softmax.run(&[0; 4], [2, 1], &mut [0; 8]), Some(()));
        assert_eq!(softmax.run(&[0; 4], [2, 1], &mut [0; 4]), None);
        assert_eq!(softmax.run(&[0; 4], [3, 1], &mut [0; 8]), None);
        assert_eq!(softmax.run(&[0; 4], [0, 1], &mut [0; 8]), None);
    }
}
