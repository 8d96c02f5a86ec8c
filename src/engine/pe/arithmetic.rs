//! What an element computes. The array is the same for any; the values are this room's only.

use crate::tensor::Overflow;

/// Multiply, add, accumulate.
pub trait Arithmetic: Clone {
    /// A partial sum.
    type Sum: Copy + Default + PartialEq + std::fmt::Debug;

    /// `sum + a * b` by an element's adder.
    fn multiply_add(&self, sum: Self::Sum, a: i32, b: i32) -> Self::Sum;

    /// `held + sum` by the adder of an accumulator.
    fn accumulate(&self, held: Self::Sum, sum: Self::Sum) -> Self::Sum;

    /// A sum as it is drawn and written to a waveform.
    fn show(&self, sum: Self::Sum) -> i64;
}

/// Two's complement of given widths.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Integers {
    /// Bits of the sums in the elements, 8 to 64.
    pub column_bits: u8,
    /// Bits of an accumulator, 8 to 64.
    pub accumulator_bits: u8,
    /// What adders do past their width.
    pub overflow: Overflow,
}

impl Integers {
    /// `value`, which an adder of `bits` bits makes.
    #[allow(clippy::cast_possible_truncation, reason = "the value is clamped, or its low bits are meant")]
    fn cut(self, value: i128, bits: u8) -> i64 {
        let bits = u32::from(bits);
        match self.overflow {
            Overflow::Saturate => value.clamp(-(1 << (bits - 1)), (1 << (bits - 1)) - 1) as i64,
            Overflow::Wrap => ((value << (128 - bits)) >> (128 - bits)) as i64,
        }
    }
}

impl Arithmetic for Integers {
    type Sum = i64;

    #[inline]
    fn multiply_add(&self, sum: i64, a: i32, b: i32) -> i64 {
        let product = i64::from(a) * i64::from(b);
        // Most sums are far from any limit.
        match (self.column_bits, sum.checked_add(product)) {
            (64, Some(value)) => value,
            (bits @ ..64, Some(value)) if value.unsigned_abs() < 1 << (bits - 1) => value,
            _ => self.cut(i128::from(sum) + i128::from(product), self.column_bits),
        }
    }

    fn accumulate(&self, held: i64, sum: i64) -> i64 {
        self.cut(i128::from(held) + i128::from(sum), self.accumulator_bits)
    }

    fn show(&self, sum: i64) -> i64 {
        sum
    }
}
