//! Quantization parameters of a tensor: `real = scale * (q - zero_point)`, per tensor or per channel.

use serde::{Deserialize, Serialize};

/// Scale and zero point, one for the tensor or one for each index of `axis`.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Quantization {
    /// One scale, or one for each channel; finite and positive.
    pub scale: Vec<f32>,
    /// As many zero points as scales.
    pub zero_point: Vec<i32>,
    /// The dimension that channels run along; `None` for one parameter a tensor.
    pub axis: Option<usize>,
}

impl Quantization {
    /// One scale and zero point for the whole tensor.
    pub fn per_tensor(scale: f32, zero_point: i32) -> Self {
        Self { scale: vec![scale], zero_point: vec![zero_point], axis: None }
    }

    /// Whether one scale serves the whole tensor.
    pub fn is_per_tensor(&self) -> bool {
        self.scale.len() == 1
    }

    /// Whether every zero point is zero.
    pub fn is_symmetric(&self) -> bool {
        self.zero_point.iter().all(|&zero| zero == 0)
    }

    /// Scale of a channel; the only one where there is one.
    pub fn scale_of(&self, channel: usize) -> f32 {
        if self.scale.len() == 1 { self.scale[0] } else { self.scale[channel] }
    }

    /// Zero point of a channel; the only one where there is one.
    pub fn zero_of(&self, channel: usize) -> i32 {
        if self.zero_point.len() == 1 { self.zero_point[0] } else { self.zero_point[channel] }
    }
}
