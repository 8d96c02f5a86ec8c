//! The operators, with their attributes resolved: no `auto_pad`, no optional attribute, no string.

/// A sliding window over `[H, W]`. One-dimensional operators are imported with `H = 1`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Window {
    /// Rows and columns of the kernel.
    pub kernel: [usize; 2],
    /// Step between outputs, rows and columns.
    pub stride: [usize; 2],
    /// Step between taps.
    pub dilation: [usize; 2],
    /// Padding at top, left, bottom, right.
    pub pad: [usize; 4],
}

impl Window {
    /// A 1x1 window without padding.
    pub const UNIT: Self = Self { kernel: [1, 1], stride: [1, 1], dilation: [1, 1], pad: [0; 4] };

    /// Output extent along one axis (0 rows, 1 columns) for an input extent, rounding down as ONNX's
    /// `ceil_mode = 0`; `None` where the window does not fit the padded input.
    pub fn output(&self, axis: usize, input: usize) -> Option<usize> {
        let reach = self.dilation[axis].checked_mul(self.kernel[axis].checked_sub(1)?)?.checked_add(1)?;
        let padded = input.checked_add(self.pad[axis])?.checked_add(self.pad[axis + 2])?;
        Some(padded.checked_sub(reach)? / self.stride[axis] + 1)
    }
}

/// What is applied to an output before it is stored. In real values; the quantized limits follow from the output's
/// scale and zero point: `clip(rne(limit / scale) + zero_point)`.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub enum Activation {
    /// Nothing but the output type's own range.
    #[default]
    None,
    /// `max(x, 0)`.
    Relu,
    /// `min(max(x, low), high)`.
    Clip {
        /// Lower limit.
        low: f32,
        /// Upper limit.
        high: f32,
    },
}

/// An operator. Operands are listed as `[inputs] -> [outputs]`; `?` marks one that may be absent at the end.
#[derive(Clone, Debug, PartialEq)]
pub enum Op {
    /// `[x [N,C,H,W], w [O,C/g,R,S], b? [O]] -> [y [N,O,P,Q]]`; `w` and `b` constant.
    Conv {
        /// Kernel (equal to `w`'s), stride, dilation, padding.
        window: Window,
        /// Groups; `C` and `O` are multiples.
        groups: usize,
        /// Fused into the store.
        activation: Activation,
    },
    /// `[x [..., K], w, b? [N]] -> [y [..., N]]`; `w` is `[N, K]` if `transposed`, else `[K, N]`; constant.
    MatMul {
        /// Whether the weight is `[N, K]`.
        transposed: bool,
        /// Fused into the store.
        activation: Activation,
    },
    /// `[a, b] -> [y]`, broadcasting; `b` may be constant.
    Add {
        /// Fused into the store.
        activation: Activation,
    },
    /// `[a, b] -> [y]`, broadcasting.
    Sub,
    /// `[a, b] -> [y]`, broadcasting.
    Mul,
    /// `[a, b] -> [y]`, broadcasting.
    Div,
    /// `[x] -> [y]`.
    Relu,
    /// `[x] -> [y]`: `x < 0 ? alpha x : x`.
    LeakyRelu {
        /// Slope below zero.
        alpha: f32,
    },
    /// `[x] -> [y]`.
    Clip {
        /// Lower limit.
        low: f32,
        /// Upper limit.
        high: f32,
    },
    /// `[x] -> [y]`: `1 / (1 + exp(-x))`.
    Sigmoid,
    /// `[x] -> [y]`.
    Tanh,
    /// `[x] -> [y]`: `max(0, min(1, alpha x + beta))`.
    HardSigmoid {
        /// Slope.
        alpha: f32,
        /// Offset.
        beta: f32,
    },
    /// `[x] -> [y]`: `x max(0, min(1, x / 6 + 0.5))`.
    HardSwish,
    /// `[x [N,C,...], scale [C], bias [C], mean [C], var [C]] -> [y]`, inference form.
    BatchNorm {
        /// Added to the variance.
        epsilon: f32,
    },
    /// `[x [N,C,H,W]] -> [y [N,C,P,Q]]`; padding never wins.
    MaxPool {
        /// Kernel, stride, dilation, padding.
        window: Window,
    },
    /// `[x [N,C,H,W]] -> [y [N,C,P,Q]]`.
    AvgPool {
        /// Kernel, stride, dilation, padding.
        window: Window,
        /// Whether padding counts in the divisor.
        count_include_pad: bool,
    },
    /// `[x [N,C,H,W]] -> [y [N,C,1,1]]`.
    GlobalAvgPool,
    /// `[x] -> [y]`: mean over `axes` (non-negative, sorted).
    ReduceMean {
        /// Reduced dimensions.
        axes: Vec<usize>,
        /// Whether they stay as 1.
        keep_dims: bool,
    },
    /// `[a, b, ...] -> [y]`.
    Concat {
        /// Joined dimension.
        axis: usize,
    },
    /// `[x] -> [y]`: same elements in row-major (logical) order under the output value's shape. Flatten, Reshape,
    /// Squeeze and Unsqueeze all become this.
    Reshape,
    /// `[x] -> [y]`.
    Transpose {
        /// `y`'s dimension `i` is `x`'s dimension `perm[i]`.
        perm: Vec<usize>,
    },
    /// `[x] -> [y]`, constant padding.
    Pad {
        /// Elements before, by dimension.
        before: Vec<usize>,
        /// Elements after, by dimension.
        after: Vec<usize>,
        /// Real value of the padding.
        value: f32,
    },
    /// `[x] -> [y]`.
    Softmax {
        /// Normalized dimension.
        axis: usize,
    },
    /// `[x float] -> [y quantized]`; parameters are `y`'s.
    QuantizeLinear,
    /// `[x quantized] -> [y float]`; parameters are `x`'s.
    DequantizeLinear,
}

impl Op {
    /// The operator's name, as in reports.
    pub const fn name(&self) -> &'static str {
        match self {
            Self::Conv { .. } => "Conv",
            Self::MatMul { .. } => "MatMul",
            Self::Add { .. } => "Add",
            Self::Sub => "Sub",
            Self::Mul => "Mul",
            Self::Div => "Div",
            Self::Relu => "Relu",
            Self::LeakyRelu { .. } => "LeakyRelu",
            Self::Clip { .. } => "Clip",
            Self::Sigmoid => "Sigmoid",
            Self::Tanh => "Tanh",
            Self::HardSigmoid { .. } => "HardSigmoid",
            Self::HardSwish => "HardSwish",
            Self::BatchNorm { .. } => "BatchNorm",
            Self::MaxPool { .. } => "MaxPool",
            Self::AvgPool { .. } => "AvgPool",
            Self::GlobalAvgPool => "GlobalAvgPool",
            Self::ReduceMean { .. } => "ReduceMean",
            Self::Concat { .. } => "Concat",
            Self::Reshape => "Reshape",
            Self::Transpose { .. } => "Transpose",
            Self::Pad { .. } => "Pad",
            Self::Softmax { .. } => "Softmax",
            Self::QuantizeLinear => "QuantizeLinear",
            Self::DequantizeLinear => "DequantizeLinear",
        }
    }
}
