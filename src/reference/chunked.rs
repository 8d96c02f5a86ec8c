//! Accumulators that can overflow: products are added in the array's own order, at its widths.
//!
//! A literal transcription of `AccumulationOrder::Chunked`: no reordering, no shortcut for wrapping adders.

use super::{
    Outcome, Reason,
    accumulate::{Operands, Product, per_output},
};
use crate::tensor::Overflow;

/// The order of one layer, checked against it.
pub(super) struct Order<'a> {
    /// For each step, the index of the product in the weight's own order.
    steps: Vec<usize>,
    chunks: &'a [u32],
    column: Adder,
    accumulator: Adder,
}

/// A two's complement adder.
#[derive(Clone, Copy)]
pub(super) struct Adder {
    bits: u8,
    overflow: Overflow,
}

impl Adder {
    pub(super) fn new(bits: u8, overflow: Overflow) -> Outcome<Self> {
        if (1..=64).contains(&bits) {
            Ok(Self { bits, overflow })
        } else {
            Err(Reason::Order(format!("an adder of {bits} bits, expected 1 to 64")))
        }
    }

    /// `a + b` at this width. `a` has the width; `b` may be wider.
    pub(super) fn add(self, a: i64, b: i64) -> i64 {
        let unused = 64 - u32::from(self.bits);
        let (low, high) = (i64::MIN >> unused, i64::MAX >> unused);
        match self.overflow {
            Overflow::Wrap => a.wrapping_add(b) << unused >> unused,
            // Past 64 bits the sum has the sign of both operands; `saturating_add` keeps it there.
            Overflow::Saturate => a.saturating_add(b).clamp(low, high),
        }
    }
}

impl<'a> Order<'a> {
    /// `taps` is the number of kernel positions, R * S, of a convolution; 1 for a matrix product. Orders count K as
    /// `(r, s, c)` with `c` fastest, weights lie as `(c, r, s)`.
    pub(super) fn new(
        product: &Product,
        permutation: &[u32],
        chunks: &'a [u32],
        [column_bits, accumulator_bits]: [u8; 2],
        overflow: Overflow,
    ) -> Outcome<Self> {
        let k = product.k();
        let taps = match product {
            Product::Conv(geometry) => geometry.window.kernel[0] * geometry.window.kernel[1],
            Product::Matrix { .. } => 1,
        };
        let channels = k / taps.max(1);
        let total: u64 = chunks.iter().map(|&length| u64::from(length)).sum();
        if total != k as u64 {
            return Err(Reason::Order(format!("the chunks add up to {total} products, expected {k}")));
        }
        let in_weight = |index: usize| index % channels * taps + index / channels;
        let steps: Vec<usize> = if permutation.is_empty() {
            (0..k).map(in_weight).collect()
        } else {
            let mut seen = vec![false; k];
            for &index in permutation {
                let known = seen.get_mut(index as usize).map(|seen| std::mem::replace(seen, true));
                if known != Some(false) {
                    return Err(Reason::Order(format!("product {index} of {k} is repeated or out of range")));
                }
            }
            if permutation.len() != k {
                return Err(Reason::Order(format!("the permutation has {} of {k} products", permutation.len())));
            }
            permutation.iter().map(|&index| in_weight(index as usize)).collect()
        };
        let column = Adder::new(column_bits, overflow)?;
        let accumulator = Adder::new(accumulator_bits, overflow)?;
        Ok(Self { steps, chunks, column, accumulator })
    }

    /// The outputs, in the operator's own order. `bias` is added to the accumulator last.
    pub(super) fn run(
        &self,
        product: &Product,
        operands: &Operands,
        bias: &[i64],
        finish: impl Fn(usize, i64) -> i32 + Sync,
    ) -> Vec<i32> {
        per_output(product, operands, |channel, taps| {
            let mut accumulator = 0;
            let mut steps = self.steps.iter();
            for &length in self.chunks {
                let mut column = 0;
                for &k in steps.by_ref().take(length as usize) {
                    let weight = operands.weight.get(product.weight_index(channel, k));
                    column = self.column.add(column, i64::from(taps[k]) * i64::from(weight));
                }
                accumulator = self.accumulator.add(accumulator, column);
            }
            if let Some(&bias) = bias.get(channel) {
                accumulator = self.accumulator.add(accumulator, bias);
            }
            finish(channel, accumulator)
        })
    }
}
