//! Fast integer kernels, used by the functional engine and by the measured CPU baseline, never by `reference`.
//!
//! They know slices and numbers only: no region, no layer, no machine. Each kernel that uses the processor's vector
//! instructions has a scalar twin that a property test holds it to; which of the two runs is decided once, at run
//! time. All of the crate's `unsafe` stands in this module.

pub mod broadcast;
pub mod conv;
pub mod elementwise;
pub mod gemm;
mod gemm_avx2;
pub mod pool;
pub mod reduce;
pub mod requantize;
pub mod softmax;
pub mod strided;
pub mod wide;
pub mod widen;
