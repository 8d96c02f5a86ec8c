//! Policies of integer arithmetic, as plain data that the reference and the engines each implement on their own:
//! how an accumulator overflows, in which order it adds, and how its value becomes an output.

use serde::{Deserialize, Serialize};

/// What an adder does past its width (two's complement).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub enum Overflow {
    /// Keep the low bits.
    #[default]
    Wrap,
    /// Stay at the largest or smallest value.
    Saturate,
}

/// How the bits that a shift drops are rounded.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub enum Rounding {
    /// Ties to the even neighbour.
    #[default]
    HalfEven,
    /// Ties away from zero.
    HalfAway,
    /// Ties toward plus infinity.
    HalfUp,
    /// Toward minus infinity: the bits are dropped.
    Floor,
}

/// How an accumulator becomes an output of the layer's type: `clamp(round(acc * multiplier) + zero_point)`.
/// With `M = input_scale * weight_scale / output_scale` of the channel.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub enum Requantizer {
    /// ONNX Runtime and Gemmini: `M` in float32 as `f32(f32(xs*ws)/ys)`, `rne(f32(acc) * M)`.
    #[default]
    F32Rne,
    /// `TFLite`, gemmlowp: `M` in float64 as `q * 2^(e-31)`; rounding doubling high multiply, then a rounding right
    /// shift, half away from zero: two roundings.
    FixedDouble31,
    /// The same multiplier with one rounding, half up: `(acc*q + 2^(30-e)) >> (31-e)`.
    FixedSingle31,
    /// An integer multiplier of `bits` bits (its sign bit included), a right shift of at most `max_shift`, one
    /// rounding. `M` in float64 becomes `q * 2^-shift` with the largest shift for which `q < 2^(bits-1)`, where
    /// `q = round(M * 2^shift)`, half away from zero. An `M` that does not even fit at shift 0 is refused.
    FixedMul {
        /// Width of the multiplier, 2 to 32.
        bits: u8,
        /// Largest right shift, 0 to 62.
        max_shift: u8,
        /// Rounding of the shift.
        rounding: Rounding,
    },
}

/// The order in which a layer's products are added, for accumulators that can overflow. Plain data: the mapping
/// exports what the array does, and the reference follows it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum AccumulationOrder {
    /// No partial sum can leave the accumulator's range: any order gives the same bits.
    Exact,
    /// Products are added chunk by chunk. Inside a chunk they run through an adder chain of `column_bits` that
    /// starts at zero; a chunk's sum is then added to the accumulator of `accumulator_bits`, which starts at zero.
    /// The bias is added to the accumulator last, with the same policy.
    Chunked {
        /// The K indices in the order of `(r, s, c)` with `c` fastest, as the array meets them; empty for the
        /// identity.
        permutation: Vec<u32>,
        /// Lengths of the chunks; their sum is K.
        chunks: Vec<u32>,
        /// Width of the adders inside a chunk.
        column_bits: u8,
        /// Width of the accumulator.
        accumulator_bits: u8,
        /// What both do past their width.
        overflow: Overflow,
    },
}
