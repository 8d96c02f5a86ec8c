//! Integer views of quantized tensors, and the conversions between integers and floats that the formulas name.

use std::borrow::Cow;

use ndarray::{ArrayD, IxDyn};

use super::{Outcome, Reason};
use crate::{
    ir::Value,
    tensor::{DType, Quantization, Tensor},
};

/// The elements of an array in row-major order.
pub(super) fn elements<T: Clone>(array: &ArrayD<T>) -> Cow<'_, [T]> {
    match array.as_slice() {
        Some(slice) => Cow::Borrowed(slice),
        None => Cow::Owned(array.iter().cloned().collect()),
    }
}

/// A tensor of a shape whose product is the number of elements.
pub(super) fn array<T>(shape: &[usize], data: Vec<T>) -> Outcome<ArrayD<T>> {
    let length = data.len();
    ArrayD::from_shape_vec(IxDyn(shape), data)
        .map_err(|_| Reason::Shape(format!("{length} elements do not have the shape {shape:?}")))
}

/// The elements of an integer tensor of at most 32 bits.
pub(super) fn to_i32(tensor: &Tensor) -> Outcome<Vec<i32>> {
    Ok(match tensor {
        Tensor::I8(array) => elements(array).iter().map(|&value| i32::from(value)).collect(),
        Tensor::U8(array) => elements(array).iter().map(|&value| i32::from(value)).collect(),
        Tensor::I16(array) => elements(array).iter().map(|&value| i32::from(value)).collect(),
        Tensor::U16(array) => elements(array).iter().map(|&value| i32::from(value)).collect(),
        Tensor::I32(array) => elements(array).into_owned(),
        other => return Err(Reason::Type(format!("{:?} is not a quantized type", other.dtype()))),
    })
}

/// The elements of a float32 tensor.
pub(super) fn to_float(tensor: &Tensor) -> Outcome<Cow<'_, [f32]>> {
    match tensor {
        Tensor::F32(array) => Ok(elements(array)),
        other => Err(Reason::Type(format!("{:?}, expected Fp32", other.dtype()))),
    }
}

/// A tensor of a quantized type from values that are in its range.
pub(super) fn from_i32(dtype: DType, shape: &[usize], data: &[i32]) -> Outcome<Tensor> {
    fn typed<T: TryFrom<i32>>(shape: &[usize], data: &[i32]) -> Outcome<ArrayD<T>> {
        let data: Option<Vec<T>> = data.iter().map(|&value| T::try_from(value).ok()).collect();
        array(shape, data.ok_or_else(|| Reason::Type("a value is out of its type's range".into()))?)
    }
    Ok(match dtype {
        DType::Int4 | DType::Int8 => Tensor::I8(typed(shape, data)?),
        DType::UInt8 => Tensor::U8(typed(shape, data)?),
        DType::Int16 => Tensor::I16(typed(shape, data)?),
        DType::UInt16 => Tensor::U16(typed(shape, data)?),
        DType::Int32 => Tensor::I32(array(shape, data.to_vec())?),
        other => return Err(Reason::Type(format!("{other:?} is not a quantized type"))),
    })
}

/// The range of a quantized type of at most 32 bits, signed.
pub(super) fn range(dtype: DType) -> Outcome<(i64, i64)> {
    match dtype {
        DType::Int4 | DType::Int8 | DType::UInt8 | DType::Int16 | DType::UInt16 | DType::Int32 => dtype.int_range(),
        _ => None,
    }
    .ok_or_else(|| Reason::Type(format!("{dtype:?} is not a quantized type")))
}

/// A value's quantization, checked: as many zero points as scales, one or one a channel, all scales finite and
/// positive.
pub(super) fn quantization(value: &Value) -> Outcome<&Quantization> {
    let fault = |what: String| Err(Reason::Quantization(format!("value {:?} {what}", value.name)));
    let Some(quant) = &value.quant else { return fault("has none".into()) };
    if quant.scale.len() != quant.zero_point.len() {
        return fault(format!("has {} scales and {} zero points", quant.scale.len(), quant.zero_point.len()));
    }
    if let Some(scale) = quant.scale.iter().find(|scale| !(scale.is_finite() && **scale > 0.0)) {
        return fault(format!("has the scale {scale}"));
    }
    let channels = quant.axis.and_then(|axis| value.shape.get(axis)).copied();
    if quant.scale.len() != 1 && channels != Some(quant.scale.len()) {
        return fault(format!("of shape {:?} has {} scales along {:?}", value.shape, quant.scale.len(), quant.axis));
    }
    Ok(quant)
}

/// The one scale and zero point of an activation.
pub(super) fn per_tensor(value: &Value) -> Outcome<(f32, i32)> {
    let quant = quantization(value)?;
    if !quant.is_per_tensor() {
        return Err(Reason::Quantization(format!("value {:?} has a scale a channel, expected one", value.name)));
    }
    Ok((quant.scale[0], quant.zero_point[0]))
}

/// Scale and zero point of a quantized output, with the range that its elements are clipped to.
#[derive(Clone, Copy, Debug)]
pub(super) struct Target {
    pub(super) scale: f32,
    pub(super) zero: i32,
    pub(super) low: i64,
    pub(super) high: i64,
}

impl Target {
    pub(super) fn new(value: &Value) -> Outcome<Self> {
        let (scale, zero) = per_tensor(value)?;
        let (low, high) = range(value.dtype)?;
        Ok(Self { scale, zero, low, high })
    }

    /// `clip(q)`. Where an activation made the limits cross, the upper one wins, as in ONNX's Clip.
    #[allow(clippy::cast_possible_truncation)] // Limits are those of a type of at most 32 bits, signed.
    #[inline]
    pub(super) fn clip(&self, q: i64) -> i32 {
        q.max(self.low).min(self.high) as i32
    }

    /// `clip(rounded + zero_point)` of a float that is already rounded.
    #[inline]
    pub(super) fn place(&self, rounded: f32) -> i32 {
        self.clip(saturating_i64(rounded).saturating_add(i64::from(self.zero)))
    }

    /// `QuantizeLinear`: `clip(rne(f32(x / s)) + zp)`.
    #[inline]
    pub(super) fn quantize(&self, real: f32) -> i32 {
        self.place(round_even(real / self.scale))
    }
}

/// The nearest integer, ties to the even one, without the call into a library that `round_ties_even` is where a processor
/// without SSE4.1 must be served.
#[inline]
pub(super) fn round_even(value: f32) -> f32 {
    // 1.5 * 2^23: next to it float32 values are one apart, so that the sum is rounded as asked for, and the difference exact.
    const INTEGERS: f32 = 12_582_912.0;
    if value.abs() < 4_194_304.0 { (value + INTEGERS) - INTEGERS } else { value.round_ties_even() }
}

/// The integer of a rounded float; past the range its end, NaN becomes 0.
#[allow(clippy::cast_possible_truncation)] // `as` saturates, which is what is asked for.
#[inline]
pub(super) fn saturating_i64(rounded: f32) -> i64 {
    rounded as i64
}

/// The integer that a float64 holds exactly.
#[allow(clippy::cast_possible_truncation)] // The caller proved that it is an integer of at most 2^53.
#[inline]
pub(super) fn exact_i64(value: f64) -> i64 {
    value as i64
}

/// `f32(x - zp) * s`, the real value of an element.
pub(super) fn real(q: i32, scale: f32, zero: i32) -> f32 {
    (i64::from(q) - i64::from(zero)) as f32 * scale
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn ties_go_to_the_even_neighbour_at_every_size(
            value in prop_oneof![
                any::<f32>(),
                (-(1_i32 << 24)..(1 << 24)).prop_map(|half| half as f32 / 2.0),
                (8_388_607_i32..8_388_610).prop_map(|half| half as f32 / 2.0),
            ],
        ) {
            prop_assert_eq!(saturating_i64(round_even(value)), saturating_i64(value.round_ties_even()));
        }
    }
}
