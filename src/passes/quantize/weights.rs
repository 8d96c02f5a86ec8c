//! Integer weights and biases from float ones.

use crate::{
    passes::constants::{Channels, integers, saturated},
    tensor::{DType, Quantization, Tensor},
};

use super::{
    Capabilities,
    params::{scale_of, stored, symmetric},
};

/// Integer weight and bias of a convolution or matrix product.
#[derive(Debug)]
pub struct Integers {
    pub weight: Tensor,
    pub dtype: DType,
    pub quant: Quantization,
    /// Tensor and parameters.
    pub bias: Option<(Tensor, Quantization)>,
}

/// Quantizes a weight symmetrically, `axis` being its dimension of output channels, and a bias with
/// `f32(input_scale * weight_scale)`. A channel whose bias would not fit 31 bits gets a larger weight scale.
/// `None` where a number is not finite or the bias does not fit the channels.
pub fn quantize(
    weight: &[f32],
    shape: &[usize],
    axis: usize,
    bias: Option<&[f32]>,
    input_scale: f32,
    capabilities: &Capabilities,
) -> Option<Integers> {
    let channels = *shape.get(axis)?;
    let finite = |list: &[f32]| list.iter().all(|value| value.is_finite());
    if !finite(weight) || !bias.is_none_or(|bias| bias.len() == channels && finite(bias)) {
        return None;
    }
    let (dtype, limit) = symmetric(capabilities.weight);
    let count = if capabilities.per_channel { channels } else { 1 };
    let slot = |channel: usize| if capabilities.per_channel { channel } else { 0 };
    let mut largest = vec![0.0_f64; count];
    let along = Channels::new(shape, Some(axis));
    for (position, w) in weight.iter().enumerate() {
        let place = &mut largest[slot(along.of(position))];
        *place = place.max(f64::from(w.abs()));
    }
    let mut smallest_scale = vec![0.0_f64; count];
    for (channel, b) in bias.into_iter().flatten().enumerate() {
        let place = &mut smallest_scale[slot(channel)];
        *place = place.max(f64::from(b.abs()) / f64::from(input_scale) / f64::from(1_u32 << 30));
    }
    let scale: Vec<f32> = largest
        .iter()
        .zip(&smallest_scale)
        .map(|(largest, smallest)| scale_of((largest / f64::from(limit)).max(*smallest)))
        .collect();

    let (low, high) = (i64::from(-limit), i64::from(limit));
    let weight = integers(stored(dtype), shape, |position| {
        let steps = (weight[position] / scale[slot(along.of(position))]).round_ties_even();
        saturated(f64::from(steps), low, high)
    })?;
    let factors: Vec<f32> = scale.iter().map(|scale| input_scale * scale).collect();
    let bias = match bias {
        None => None,
        Some(bias) => {
            let integers: Vec<i64> =
                bias.iter().enumerate().map(|(channel, &b)| bias_steps(f64::from(b), factors[slot(channel)])).collect();
            Some((Tensor::from_integers(DType::Int32, &[channels], &integers)?, channelwise(factors, 0)))
        }
    };
    Some(Integers { weight, dtype, quant: channelwise(scale, axis), bias })
}

/// A bias in steps of `factor`, rounded half to even and saturated to int32.
pub fn bias_steps(bias: f64, factor: f32) -> i64 {
    let steps = (bias / f64::from(factor)).round_ties_even();
    if steps.is_nan() { 0 } else { saturated(steps, i64::from(i32::MIN), i64::from(i32::MAX)) }
}

/// Symmetric parameters: per tensor for one scale, else along `axis`.
pub fn channelwise(scale: Vec<f32>, axis: usize) -> Quantization {
    let axis = (scale.len() > 1).then_some(axis);
    Quantization { zero_point: vec![0; scale.len()], scale, axis }
}

#[cfg(test)]
mod tests {
    use super::*;

    const MACHINE: Capabilities = Capabilities {
        zero_points: true,
        per_channel: true,
        activation: DType::Int8,
        weight: DType::Int8,
        requantizer_is_f32: true,
    };

    #[test]
    fn weights_are_symmetric_per_channel_and_biases_use_the_product_of_scales() {
        let weight = [127.0, -63.5, 2.54, 1.0];
        let made = quantize(&weight, &[2, 2], 0, Some(&[1.0, -3.0]), 0.5, &MACHINE).unwrap();
        assert_eq!(made.quant.scale, [1.0, 2.54 / 127.0]);
        assert_eq!(made.weight.to_integers().unwrap(), [127, -64, 127, 50]);
        let (bias, quant) = made.bias.unwrap();
        assert_eq!(bias.to_integers().unwrap(), [2, -300]);
        assert_eq!(quant.scale, [0.5, 0.5 * (2.54 / 127.0)]);
    }

    #[test]
    fn one_scale_serves_all_channels_of_a_machine_without_more() {
        let machine = Capabilities { per_channel: false, ..MACHINE };
        let made = quantize(&[127.0, -63.5, 2.54, 1.0], &[2, 2], 0, None, 0.5, &machine).unwrap();
        assert!(made.quant.is_per_tensor());
        assert_eq!(made.weight.to_integers().unwrap(), [127, -64, 3, 1]);
    }

    #[test]
    fn a_channel_of_zeros_with_a_large_bias_keeps_its_bias() {
        let made = quantize(&[0.0, 1e-30], &[2, 1], 0, Some(&[5.0, 5.0]), 1e-3, &MACHINE).unwrap();
        let (bias, quant) = made.bias.unwrap();
        for (steps, scale) in bias.to_integers().unwrap().into_iter().zip(quant.scale) {
            assert!((steps as f32 * scale - 5.0).abs() < 1e-2, "{steps} steps of {scale}");
        }
    }

    #[test]
    fn a_number_that_is_not_finite_is_refused() {
        assert!(quantize(&[f32::NAN], &[1, 1], 0, None, 1.0, &MACHINE).is_none());
        assert!(quantize(&[1.0], &[1, 1], 0, Some(&[f32::INFINITY]), 1.0, &MACHINE).is_none());
    }

    #[test]
    fn four_bit_weights_stay_within_seven() {
        let machine = Capabilities { weight: DType::Int4, ..MACHINE };
        let made = quantize(&[7.0, -7.0, 3.4], &[1, 3], 0, None, 1.0, &machine).unwrap();
        assert_eq!((made.dtype, made.weight.to_integers().unwrap()), (DType::Int4, vec![7, -7, 3]));
    }
}
