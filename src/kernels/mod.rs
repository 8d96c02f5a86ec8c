//! Fast integer kernels on rows of elements, for the functional engine and the measured CPU baseline, never for `reference`.
//!
//! They know slices and numbers only: no region, no layer, no machine. Each kernel that uses the processor's vector
//! instructions has a scalar twin that a property test holds it to; which of the two runs is decided once, at run
//! time. All of the crate's `unsafe` stands in this module.

pub mod elementwise;
pub mod gemm;
mod gemm_avx2;
pub mod requantize;
pub mod widen;
