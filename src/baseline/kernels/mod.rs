//! Whole quantized operators on slices, in threads: what only the measured CPU baseline needs. They know slices and
//! numbers only, and have no `unsafe`: rows of elements are the business of `crate::kernels`.

pub mod broadcast;
pub mod conv;
pub mod pool;
pub mod reduce;
pub mod softmax;
pub mod strided;
pub mod wide;
