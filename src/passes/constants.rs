//! Operations on dense constants that several passes need: quantization, dequantization.

use ndarray::{ArrayD, IxDyn};
use rayon::prelude::*;

use crate::tensor::{DType, Quantization, Tensor};

/// Largest number of elements that folding may make: 2^28, a gigabyte of floats.
pub const MAX_FOLDED_ELEMENTS: u64 = 1 << 28;

/// From an element's row-major position to its index along one axis.
#[derive(Clone, Copy, Debug)]
pub struct Channels {
    inner: usize,
    count: usize,
}

impl Channels {
    /// Along `axis`, or index 0 everywhere without one.
    pub fn new(shape: &[usize], axis: Option<usize>) -> Self {
        let along = |axis: usize| Some((shape.iter().skip(axis + 1).product::<usize>(), *shape.get(axis)?));
        let (inner, count) = axis.and_then(along).unwrap_or((1, 1));
        Self { inner: inner.max(1), count: count.max(1) }
    }

    /// The index of the element at `position`.
    pub fn of(self, position: usize) -> usize {
        position / self.inner % self.count
    }
}

/// An integer tensor of one number a position, each clamped to the type's range; `None` for a type that no tensor
/// has. Large weights are made in parallel and in their own type.
pub fn integers(dtype: DType, shape: &[usize], number: impl Fn(usize) -> i64 + Send + Sync) -> Option<Tensor> {
    fn typed<T>(shape: &[usize], number: impl Fn(usize) -> T + Send + Sync) -> Option<ArrayD<T>>
    where
        T: Send,
    {
        let count = shape.iter().product::<usize>();
        let values: Vec<T> = (0..count).into_par_iter().with_min_len(1 << 14).map(number).collect();
        ArrayD::from_shape_vec(IxDyn(shape), values).ok()
    }
    let (low, high) = dtype.int_range()?;
    macro_rules! each {
        ($($dtype:ident => $variant:ident $type:ty),*) => {
            match dtype {
                $(DType::$dtype => Tensor::$variant(typed(shape, |position| {
                    <$type>::try_from(number(position).clamp(low, high)).unwrap_or_default()
                })?),)*
                _ => return None,
            }
        };
    }
    Some(each!(Int8 => I8 i8, UInt8 => U8 u8, Int16 => I16 i16, UInt16 => U16 u16, Int32 => I32 i32))
}

/// Whether a quantization fits a shape: as many scales as channels, all positive and finite.
pub fn fits(quant: &Quantization, shape: &[usize]) -> bool {
    let count = quant.scale.len();
    let channels = match quant.axis {
        Some(axis) if count != 1 => shape.get(axis) == Some(&count),
        _ => count == 1,
    };
    channels && quant.zero_point.len() == count && quant.scale.iter().all(|scale| scale.is_finite() && *scale > 0.0)
}

/// `f32(q - zero_point) * scale`, elementwise; `None` for floats or parameters that do not fit.
pub fn dequantized(tensor: &Tensor, quant: &Quantization) -> Option<Tensor> {
    let shape = tensor.shape();
    if !fits(quant, shape) {
        return None;
    }
    let channels = Channels::new(shape, quant.axis);
    let real = |(position, q): (usize, i64)| {
        let channel = channels.of(position);
        (q - i64::from(quant.zero_of(channel))) as f32 * quant.scale_of(channel)
    };
    Tensor::from_f32(shape, tensor.to_integers()?.into_iter().enumerate().map(real).collect())
}

/// `clip(rne(f32(x / scale)) + zero_point)`, elementwise, as ONNX's `QuantizeLinear`; `None` for integers, for
/// NaN, and for parameters or types that do not fit.
pub fn quantized(tensor: &Tensor, quant: &Quantization, dtype: DType) -> Option<Tensor> {
    let shape = tensor.shape();
    if !matches!(tensor, Tensor::F32(_) | Tensor::F64(_)) || !fits(quant, shape) {
        return None;
    }
    let channels = Channels::new(shape, quant.axis);
    let values = tensor.to_f32();
    if values.iter().any(|value| value.is_nan()) {
        return None;
    }
    integers(dtype, shape, |position| {
        let channel = channels.of(position);
        quantize_one(values[position], quant.scale_of(channel), quant.zero_of(channel), dtype).unwrap_or_default()
    })
}

/// `clip(rne(f32(x / scale)) + zero_point)`; `None` for NaN and for types that are not integers.
pub fn quantize_one(x: f32, scale: f32, zero_point: i32, dtype: DType) -> Option<i64> {
    let (low, high) = dtype.int_range()?;
    let steps = (x / scale).round_ties_even();
    (!steps.is_nan()).then(|| saturated(f64::from(steps) + f64::from(zero_point), low, high))
}

/// An integral `f64` as an integer of `low..=high`.
#[allow(clippy::cast_possible_truncation)] // clamped to at most 32-bit limits first
pub fn saturated(value: f64, low: i64, high: i64) -> i64 {
    value.clamp(low as f64, high as f64) as i64
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn quantization_rounds_half_to_even_adds_the_zero_point_last_and_saturates() {
        let at = |x: f32, zero| quantize_one(x, 2.0, zero, DType::UInt8);
        assert_eq!(at(1.0, 3), Some(3));
        assert_eq!(at(3.0, 3), Some(5));
        assert_eq!(at(5.0, 3), Some(5));
        assert_eq!(at(-100.0, 3), Some(0));
        assert_eq!(at(f32::INFINITY, 3), Some(255));
        assert_eq!(at(f32::NAN, 3), None);
    }

    #[test]
    fn channels_have_their_own_parameters() {
        let tensor = Tensor::from_integers(DType::Int8, &[2, 2], &[1, 2, 3, 4]).unwrap();
        let quant = Quantization { scale: vec![1.0, 10.0], zero_point: vec![0, 1], axis: Some(1) };
        let real = dequantized(&tensor, &quant).unwrap();
        assert_eq!(real.to_f32(), [1.0, 10.0, 3.0, 30.0]);
        assert_eq!(quantized(&real, &quant, DType::Int8), Some(tensor));
    }
}
