//! Sums and products of two quantized operands under broadcasting.

use rayon::prelude::*;

use super::strided::Spread;
use crate::kernels::{
    elementwise::{AddCoefficients, MulCoefficients, add, mul},
    widen::{Narrow, store},
};

/// Elements of one task.
const TASK: usize = 1 << 14;
/// Elements at a time: two operands and a result stay in the first-level cache.
const BLOCK: usize = 1 << 10;

/// What is done to two elements.
#[derive(Clone, Copy, Debug)]
pub enum Binary {
    /// `QLinearAdd`.
    Add(AddCoefficients),
    /// `QLinearMul`.
    Mul(MulCoefficients),
}

/// A whole operator.
#[derive(Clone, Debug)]
pub struct Broadcast {
    /// What is done.
    pub binary: Binary,
    /// How the output's elements read each operand.
    pub spreads: [Spread; 2],
    /// Types of the operands.
    pub kinds: [Narrow; 2],
    /// Type of the output.
    pub output: Narrow,
    /// Smallest and largest output.
    pub range: [i32; 2],
}

impl Broadcast {
    /// Runs on the operands' bytes. `None` where an operand is too short.
    pub fn run(&self, operands: [&[u8]; 2], out: &mut [u8]) -> Option<()> {
        for (index, operand) in operands.iter().enumerate() {
            if operand.len() < self.spreads[index].reach() * self.kinds[index].bytes() {
                return None;
            }
        }
        let size = self.output.bytes();
        if out.len() <= TASK * size {
            self.task(operands, 0, out);
        } else {
            let tasks = out.par_chunks_mut(TASK * size).enumerate();
            tasks.for_each(|(index, out)| self.task(operands, index * TASK, out));
        }
        Some(())
    }

    fn task(&self, operands: [&[u8]; 2], first: usize, out: &mut [u8]) {
        let mut blocks = [[0; BLOCK]; 3];
        let [a, b, y] = &mut blocks;
        let [low, high] = self.range;
        let size = self.output.bytes();
        for (index, out) in out.chunks_mut(BLOCK * size).enumerate() {
            let (first, length) = (first + index * BLOCK, out.len() / size);
            self.spreads[0].load(self.kinds[0], operands[0], first, &mut a[..length]);
            self.spreads[1].load(self.kinds[1], operands[1], first, &mut b[..length]);
            match self.binary {
                Binary::Add(by) => add(&a[..length], &b[..length], by, low, high, &mut y[..length]),
                Binary::Mul(by) => mul(&a[..length], &b[..length], by, low, high, &mut y[..length]),
            }
            store(self.output, &y[..length], out);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_product_a_channel_equals_plain_loops_across_blocks_and_tasks() {
        let (pixels, channels) = (700, 37);
        let noise = |i: usize| i.wrapping_mul(2_654_435_761).to_le_bytes()[2];
        let x: Vec<u8> = (0..pixels * channels).map(noise).collect();
        let scale: Vec<u8> = (0..channels).map(noise).collect();
        let by = MulCoefficients::new((0.02, 120), (0.004, 0), (0.01, 100));
        let product = Broadcast {
            binary: Binary::Mul(by),
            spreads: [Spread::new([(pixels, channels), (channels, 1)]), Spread::new([(pixels, 0), (channels, 1)])],
            kinds: [Narrow::U8, Narrow::U8],
            output: Narrow::U8,
            range: [0, 255],
        };
        let mut out = vec![0; x.len()];
        product.run([&x, &scale], &mut out).unwrap();
        for (index, &out) in out.iter().enumerate() {
            let product = (f32::from(x[index]) - 120.0) * f32::from(scale[index % channels]);
            let expected = (product * by.scale + 100.0).round_ties_even().clamp(0.0, 255.0);
            assert!((f32::from(out) - expected).abs() < 0.1, "{index}: {out}, not {expected}");
        }
        assert_eq!(product.run([&x, &scale[1..]], &mut out), None);
    }
}
