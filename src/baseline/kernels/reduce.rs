//! Means of quantized values over any dimensions, from exact sums.

use super::strided::{Dim, merged};
use crate::kernels::{
    requantize::{Limits, requantize_wide},
    widen::{Narrow, load, store},
};

/// Elements at a time.
const BLOCK: usize = 1 << 10;

/// `y = clip(rne(f32(S) * multiplier) + zero_point)` with `S` the sum of `x - zero` over `count` elements.
#[derive(Clone, Debug)]
pub struct Mean {
    /// Outermost first; the step `to` is that of the output's sums, 0 along what is summed.
    dims: Vec<Dim>,
    count: usize,
    kinds: [Narrow; 2],
    zero: i32,
    multiplier: f32,
    limits: Limits,
}

impl Mean {
    /// `dims` have a step of 0 in the output where they are summed; `kinds` are the input's and the output's. `None`
    /// where there is nothing to sum or too much for 64 bits.
    pub fn new(mut dims: Vec<Dim>, kinds: [Narrow; 2], zero: i32, multiplier: f32, limits: Limits) -> Option<Self> {
        let count = dims.iter().filter(|dim| dim.to == 0).map(|dim| dim.extent).product::<usize>();
        u32::try_from(count).ok().filter(|&count| count > 0)?;
        dims.sort_by_key(|dim| std::cmp::Reverse(dim.from));
        let mut dims = merged(dims);
        if dims.is_empty() {
            dims.push(Dim { extent: 1, from: 1, to: 0 });
        }
        Some(Self { dims, count, kinds, zero, multiplier, limits })
    }

    /// Runs on the input's bytes. `None` where a slice is too short.
    #[allow(clippy::cast_possible_wrap, reason = "the count fits 32 bits")]
    pub fn run(&self, x: &[u8], out: &mut [u8]) -> Option<()> {
        let [size, out_size] = self.kinds.map(Narrow::bytes);
        let outputs = out.len() / out_size;
        let reach = |step: fn(&Dim) -> usize| {
            self.dims.iter().map(|dim| (dim.extent.saturating_sub(1)) * step(dim)).sum::<usize>() + 1
        };
        if x.len() < reach(|dim| dim.from) * size || outputs < reach(|dim| dim.to) {
            return None;
        }
        let mut sums = vec![0_i64; outputs];
        self.sum(&self.dims, x, &mut sums);
        // The zero point leaves each of the summed elements.
        let offset = self.count as i64 * i64::from(self.zero);
        let mut values = [0; BLOCK];
        for (sums, out) in sums.chunks(BLOCK).zip(out.chunks_mut(BLOCK * out_size)) {
            for (value, sum) in values.iter_mut().zip(sums) {
                *value = requantize_wide(sum - offset, self.multiplier, self.limits);
            }
            store(self.kinds[1], &values[..sums.len()], out);
        }
        Some(())
    }

    fn sum(&self, dims: &[Dim], x: &[u8], sums: &mut [i64]) {
        let size = self.kinds[0].bytes();
        match *dims {
            [] => {}
            [Dim { extent, from: 1, to }] => {
                let mut values = [0; BLOCK];
                for (index, x) in x[..extent * size].chunks(BLOCK * size).enumerate() {
                    let values = &mut values[..x.len() / size];
                    load(self.kinds[0], x, values);
                    add(values, &mut sums[index * BLOCK * to..], to);
                }
            }
            [outer, ref inner @ ..] => {
                for index in 0..outer.extent {
                    let (x, sums) = (&x[index * outer.from * size..], &mut sums[index * outer.to..]);
                    if inner.is_empty() {
                        self.sum(&[Dim { extent: 1, from: 1, to: 0 }], x, sums);
                    } else {
                        self.sum(inner, x, sums);
                    }
                }
            }
        }
    }
}

/// Adds values to sums `to` apart, or all to the first.
fn add(values: &[i32], sums: &mut [i64], to: usize) {
    if to == 0 {
        // A block of 16-bit elements fits 32 bits.
        let sum = values.iter().fold(0_i32, |sum, &value| sum.wrapping_add(value));
        sums[0] = sums[0].wrapping_add(i64::from(sum));
    } else if to == 1 {
        sums.iter_mut().zip(values).for_each(|(sum, &value)| *sum = sum.wrapping_add(i64::from(value)));
    } else {
        let sums = sums.iter_mut().step_by(to);
        sums.zip(values).for_each(|(sum, &value)| *sum = sum.wrapping_add(i64::from(value)));
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn means_equal_their_plain_twin(
            extents in prop::array::uniform3(1_usize..40), summed in prop::array::uniform3(any::<bool>()),
            which in 0_usize..4, seed: u32, multiplier in 0.0001_f32..0.1,
        ) {
            let kind = [Narrow::U8, Narrow::I8, Narrow::U16, Narrow::I16][which];
            let [a, b, c] = extents;
            let noise = |i: usize| (i + 1).wrapping_mul(seed as usize | 1).wrapping_mul(2_654_435_761).to_le_bytes()[3];
            let x: Vec<u8> = (0..a * b * c * kind.bytes()).map(noise).collect();
            let mut values = vec![0; a * b * c];
            load(kind, &x, &mut values);
            // Whatever is kept lies in the output in the input's order.
            let (mut steps, mut outputs) = ([0; 3], 1);
            for i in (0..3).rev().filter(|&i| !summed[i]) {
                steps[i] = outputs;
                outputs *= extents[i];
            }
            let from = [b * c, c, 1];
            let dims = (0..3).map(|i| Dim { extent: extents[i], from: from[i], to: steps[i] }).collect();
            let limits = Limits { zero_point: 3, low: -30000, high: 30000 };
            let mean = Mean::new(dims, [kind, Narrow::I16], 5, multiplier, limits).unwrap();
            let mut out = vec![0; outputs * 2];
            mean.run(&x, &mut out).unwrap();
            let mut sums = vec![0_i64; outputs];
            for (index, &value) in values.iter().enumerate() {
                let at = [index / c / b, index / c % b, index % c];
                sums[(0..3).map(|i| at[i] * steps[i]).sum::<usize>()] += i64::from(value) - 5;
            }
            let mut found = vec![0; outputs];
            load(Narrow::I16, &out, &mut found);
            for (sum, found) in sums.into_iter().zip(found) {
                let expected = ((sum as f32 * multiplier).round_ties_even() + 3.0).clamp(-30000.0, 30000.0);
                prop_assert!((found as f32 - expected).abs() < 0.1);
            }
            prop_assert_eq!(mean.run(&x[1..], &mut out), None);
        }
    }
}
