//! Single sums and outputs, for those who compare hardware: the adders and requantizers of whole operators, one value at a
//! time.

use super::{chunked::Adder, requantize::FixedPoint};
use crate::tensor::{Overflow, Requantizer};

/// `start` and some terms, added one after the other at a width. `start` has the width, terms may be wider.
///
/// # Panics
/// If the width is not one of 1 to 64 bits.
pub fn sum_of(start: i64, terms: impl IntoIterator<Item = i64>, bits: u8, overflow: Overflow) -> i64 {
    let adder = Adder::new(bits, overflow).unwrap_or_else(|_| panic!("an adder of {bits} bits"));
    terms.into_iter().fold(start, |sum, term| adder.add(sum, term))
}

/// The output of an accumulator whose bias is added: `clamp(round(accumulator * M) + zero)`, where `M` is `multiplier *
/// 2^-shift`, and `2^-31` times that for multipliers of 31 bits. `None` for the requantizer in floating point.
pub fn requantized(
    requantizer: Requantizer,
    multiplier: i32,
    shift: i32,
    accumulator: i64,
    zero: i32,
    [low, high]: [i32; 2],
) -> Option<i32> {
    let fixed = match requantizer {
        Requantizer::F32Rne => return None,
        Requantizer::FixedDouble31 => FixedPoint::Double { q: multiplier, e: -shift },
        Requantizer::FixedSingle31 => FixedPoint::Single { q: multiplier, e: -shift },
        Requantizer::FixedMul { rounding, .. } => {
            FixedPoint::Shift { q: multiplier.into(), shift: u32::try_from(shift).ok()?, rounding }
        }
    };
    let placed = fixed.scale(accumulator).saturating_add(zero.into()).clamp(low.into(), high.into());
    i32::try_from(placed).ok()
}

#[cfg(test)]
mod tests {
    use super::{
        super::{integers::Target, requantize::Requantize},
        *,
    };
    use crate::tensor::{Quantization, Rounding};

    #[test]
    fn a_single_output_is_that_of_a_layer() {
        // M = 0.3: 0.6 * 2^-1; at 16 bits 0.3 * 2^16 = 19,661.
        let target = Target { scale: 1.0, zero: -7, low: -128, high: 127 };
        let mul = Requantizer::FixedMul { bits: 16, max_shift: 16, rounding: Rounding::HalfEven };
        for (requantizer, multiplier, shift) in [
            (Requantizer::FixedDouble31, 1_288_490_240, 1),
            (Requantizer::FixedSingle31, 1_288_490_240, 1),
            (mul, 19_661, 16),
        ] {
            let layer = Requantize::new(requantizer, 0.3, &Quantization::per_tensor(1.0, 0), target).unwrap();
            for accumulator in -700..700 {
                let single = requantized(requantizer, multiplier, shift, accumulator, -7, [-128, 127]);
                assert_eq!(single, Some(layer.apply(0, accumulator)), "{requantizer:?} {accumulator}");
            }
        }
        assert_eq!(requantized(Requantizer::F32Rne, 1, 0, 1, 0, [0, 1]), None);
    }

    #[test]
    fn a_sum_leaves_its_width_as_the_adders_do() {
        assert_eq!(sum_of(100, [100, -100], 8, Overflow::Saturate), 27);
        assert_eq!(sum_of(100, [100, -100], 8, Overflow::Wrap), 100);
    }
}
