//! The loop bounds of a layer on the array or of a depthwise layer on the vector unit, taken from its node. Every
//! convolution and matrix product is one shape: a matrix product `[M, K] x [K, N]` is a 1x1 convolution of `M` images
//! of one pixel.

use crate::{
    ir::{Graph, Node, Op, Quantized, Window},
    tensor::DType,
};

/// Loop bounds of a convolution: `y[n, o, p, q] = sum over c, r, s of x[n, c, p*stride + r*dilation - pad, ...] *
/// w[o, c, r, s]`, `c` within the output's group.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct MatrixShape {
    /// Images.
    pub n: u32,
    /// Input channels, all groups.
    pub c: u32,
    /// Input rows.
    pub h: u32,
    /// Input columns.
    pub w: u32,
    /// Output channels, all groups.
    pub o: u32,
    /// Output rows.
    pub p: u32,
    /// Output columns.
    pub q: u32,
    /// Groups.
    pub groups: u32,
    /// Kernel rows and columns.
    pub kernel: [u32; 2],
    /// Step between outputs.
    pub stride: [u32; 2],
    /// Step between taps.
    pub dilation: [u32; 2],
    /// Padding at the top and at the left.
    pub pad: [u32; 2],
    /// Type of input elements.
    pub input_type: DType,
    /// Bytes of a weight.
    pub weight_bytes: u32,
    /// Type of output elements.
    pub output_type: DType,
}

/// Largest extent of a dimension and largest number of elements of a tensor that the mapping accepts.
const LARGEST: u64 = 1 << 31;

impl MatrixShape {
    /// The shape of a `Conv` or `MatMul` node.
    ///
    /// # Errors
    /// One sentence, where the node is neither or is too large.
    pub fn of(graph: &Graph<Quantized>, node: &Node) -> Result<Self, String> {
        let (x, w, y) = match (node.inputs.as_slice(), node.outputs.first()) {
            ([x, w, ..], Some(&y)) => (graph.value(*x), graph.value(*w), graph.value(y)),
            _ => return Err("the node has no weights".into()),
        };
        for value in [x, w, y] {
            if value.shape.iter().try_fold(1_u64, |all, &dim| all.checked_mul(dim as u64)).is_none_or(|n| n >= LARGEST)
            {
                return Err(format!("`{}` has 2^31 elements or more, which the mapping does not take", value.name));
            }
            if value.shape.contains(&0) {
                return Err(format!("`{}` has no elements", value.name));
            }
        }
        let dim = |value: usize| u32::try_from(value).map_err(|_| "a dimension is 2^32 or more".to_string());
        let types = |shape: Self| Self {
            input_type: x.dtype,
            output_type: y.dtype,
            weight_bytes: byte_width(w.dtype),
            ..shape
        };
        match &node.op {
            Op::Conv { window, groups, .. } => {
                let (&[n, c, h, w], &[_, o, p, q]) = (x.shape.as_slice(), y.shape.as_slice()) else {
                    return Err("a convolution needs operands of rank 4".into());
                };
                let Window { kernel, stride, dilation, pad } = *window;
                Ok(types(Self {
                    n: dim(n)?,
                    c: dim(c)?,
                    h: dim(h)?,
                    w: dim(w)?,
                    o: dim(o)?,
                    p: dim(p)?,
                    q: dim(q)?,
                    groups: dim(*groups)?,
                    kernel: [dim(kernel[0])?, dim(kernel[1])?],
                    stride: [dim(stride[0])?, dim(stride[1])?],
                    dilation: [dim(dilation[0])?, dim(dilation[1])?],
                    pad: [dim(pad[0])?, dim(pad[1])?],
                    ..Self::EMPTY
                }))
            }
            Op::MatMul { .. } => {
                let (Some(&k), Some(&o)) = (x.shape.last(), y.shape.last()) else {
                    return Err("a matrix product needs operands of rank 1 or more".into());
                };
                let rows: usize = x.shape[..x.shape.len() - 1].iter().product();
                Ok(types(Self { n: dim(rows)?, c: dim(k)?, o: dim(o)?, ..Self::EMPTY }))
            }
            other => Err(format!("`{}` does not run on the array", other.name())),
        }
    }

    /// One image of one pixel and one channel.
    pub const EMPTY: Self = Self {
        n: 1,
        c: 1,
        h: 1,
        w: 1,
        o: 1,
        p: 1,
        q: 1,
        groups: 1,
        kernel: [1, 1],
        stride: [1, 1],
        dilation: [1, 1],
        pad: [0, 0],
        input_type: DType::UInt8,
        weight_bytes: 1,
        output_type: DType::UInt8,
    };

    /// Kernel positions.
    pub const fn taps(&self) -> u64 {
        self.kernel[0] as u64 * self.kernel[1] as u64
    }

    /// Output pixels of all images.
    pub const fn pixels(&self) -> u64 {
        self.n as u64 * self.p as u64 * self.q as u64
    }

    /// Algebraic multiply-accumulates.
    pub const fn macs(&self) -> u64 {
        self.pixels() * self.o as u64 * self.taps() * (self.c / self.groups) as u64
    }

    /// Whether each channel has a filter of its own.
    pub const fn is_depthwise(&self) -> bool {
        self.groups > 1 && self.groups == self.c && self.o == self.c
    }

    /// Bytes of an input element.
    pub fn input_bytes(&self) -> u32 {
        byte_width(self.input_type)
    }

    /// Bytes of an output element.
    pub fn output_bytes(&self) -> u32 {
        byte_width(self.output_type)
    }
}

/// Bytes of an element as a 32-bit number.
pub const fn byte_width(dtype: DType) -> u32 {
    dtype.bits().div_ceil(8)
}
