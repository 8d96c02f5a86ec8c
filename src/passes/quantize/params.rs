//! Scales and zero points from real ranges.

use crate::tensor::{DType, Quantization};

use super::Capabilities;

/// The type that symmetric integers of a machine type are kept in, and their largest magnitude.
pub const fn symmetric(dtype: DType) -> (DType, i32) {
    match dtype {
        DType::Int4 => (DType::Int4, 7),
        DType::Int16 | DType::UInt16 | DType::Int32 | DType::UInt32 | DType::Int64 => (DType::Int16, 32767),
        _ => (DType::Int8, 127),
    }
}

/// The type whose tensors hold the elements of `dtype`: int4 is stored in bytes.
pub const fn stored(dtype: DType) -> DType {
    match dtype {
        DType::Int4 => DType::Int8,
        other => other,
    }
}

/// What the log says about the choices.
pub fn describe(capabilities: &Capabilities) -> String {
    let activation = if asymmetric(capabilities) {
        "uint8 asymmetric".to_owned()
    } else {
        format!("{:?} symmetric", symmetric(capabilities.activation).0).to_lowercase()
    };
    let weight = format!("{:?}", symmetric(capabilities.weight).0).to_lowercase();
    let channels = if capabilities.per_channel { "per channel" } else { "per tensor" };
    format!("activations {activation}, weights {weight} symmetric {channels}")
}

/// Whether activations get zero points.
pub const fn asymmetric(capabilities: &Capabilities) -> bool {
    capabilities.zero_points && matches!(symmetric(capabilities.activation).0, DType::Int8)
}

/// A positive, finite, normal scale.
#[allow(clippy::cast_possible_truncation)] // rounding to f32 is meant
pub fn scale_of(value: f64) -> f32 {
    let scale = value as f32;
    if value == 0.0 { 1.0 } else { scale.clamp(f32::MIN_POSITIVE, f32::MAX) }
}

/// Parameters of an activation of a real range, with zero exactly representable; `None` for a range that is not
/// finite.
#[allow(clippy::cast_possible_truncation)] // the zero point is clamped to 0..=255
pub fn activation(low: f32, high: f32, capabilities: &Capabilities) -> Option<(DType, Quantization)> {
    if !low.is_finite() || !high.is_finite() {
        return None;
    }
    let (low, high) = (f64::from(low.min(0.0)), f64::from(high.max(0.0)));
    if asymmetric(capabilities) {
        let scale = scale_of((high - low) / 255.0);
        let zero = (-low / f64::from(scale)).round_ties_even().clamp(0.0, 255.0) as i32;
        return Some((DType::UInt8, Quantization::per_tensor(scale, zero)));
    }
    let (dtype, limit) = symmetric(capabilities.activation);
    Some((dtype, Quantization::per_tensor(scale_of(high.max(-low) / f64::from(limit)), 0)))
}

/// Parameters of a softmax's result, which lies in 0..=1.
pub fn softmax(capabilities: &Capabilities) -> (DType, Quantization) {
    if asymmetric(capabilities) {
        return (DType::UInt8, Quantization::per_tensor(1.0 / 256.0, 0));
    }
    let (dtype, limit) = symmetric(capabilities.activation);
    (dtype, Quantization::per_tensor(1.0 / (limit + 1) as f32, 0))
}

#[cfg(test)]
mod tests {
    use super::*;

    pub const EVERYTHING: Capabilities = Capabilities {
        zero_points: true,
        per_channel: true,
        activation: DType::Int8,
        weight: DType::Int8,
        requantizer_is_f32: true,
    };

    #[test]
    fn zero_is_exactly_representable() {
        let (dtype, quant) = activation(-1.0, 3.0, &EVERYTHING).unwrap();
        assert_eq!((dtype, quant.zero_point[0]), (DType::UInt8, 64));
        let (_, quant) = activation(1.0, 3.0, &EVERYTHING).unwrap();
        assert_eq!((quant.zero_point[0], quant.scale[0]), (0, 3.0 / 255.0));
        let (_, quant) = activation(-3.0, -1.0, &EVERYTHING).unwrap();
        assert_eq!(quant.zero_point[0], 255);
    }

    #[test]
    fn a_machine_without_zero_points_gets_symmetric_integers() {
        let machine = Capabilities { zero_points: false, ..EVERYTHING };
        assert_eq!(activation(-2.0, 1.0, &machine), Some((DType::Int8, Quantization::per_tensor(2.0 / 127.0, 0))));
        let machine = Capabilities { activation: DType::Int16, ..EVERYTHING };
        assert_eq!(activation(0.0, 1.0, &machine), Some((DType::Int16, Quantization::per_tensor(1.0 / 32767.0, 0))));
    }

    #[test]
    fn degenerate_ranges_have_usable_scales() {
        assert_eq!(activation(0.0, 0.0, &EVERYTHING), Some((DType::UInt8, Quantization::per_tensor(1.0, 0))));
        assert_eq!(activation(f32::NAN, 1.0, &EVERYTHING), None);
        assert_eq!(activation(0.0, f32::INFINITY, &EVERYTHING), None);
        let (_, quant) = activation(0.0, 1e-44, &EVERYTHING).unwrap();
        assert!(quant.scale[0].is_normal());
        let (_, quant) = activation(f32::MIN, f32::MAX, &EVERYTHING).unwrap();
        assert!(quant.scale[0].is_finite());
    }
}
