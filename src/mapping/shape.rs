//! The loop bounds of a layer on the array or of a depthwise layer on the vector unit, taken from its node. Every
//! convolution and matrix product is one shape: a matrix product `[M, K] x [K, N]` is a 1x1 convolution of `M` images
//! of one pixel.

use super::tiling::read;
use crate::{
    config::RowEnds,
    ir::{Graph, Node, Op, Quantized, Value, Window},
    tensor::DType,
};

/// Where the second operand of a layer on the array comes from.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Second {
    /// Constant weights, in an image that is tiled beforehand.
    #[default]
    Image,
    /// An activation, as it lies in memory.
    Activation,
}

/// Loop bounds of a convolution: `y[n, o, p, q] = sum over c, r, s of x[n, c, p*stride + r*dilation - pad, ...] *
/// w[o, c, r, s]`, `c` within the output's group.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
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
    /// Where weights come from. Each product of a batch of two activations is a group.
    pub second: Second,
    /// Type of input elements.
    pub input_type: DType,
    /// Type of weights.
    pub weight_type: DType,
    /// Type of output elements.
    pub output_type: DType,
}

/// Largest extent of a window, dilation included, along an axis with padding: so many tiles may each need another
/// part of the input.
const LARGEST_PADDED_WINDOW: u64 = 1 << 16;

/// Whether every offset of a window's walk over an image `[N, C, H, W]` with its padding fits 32 bits, whatever the
/// tile: a step of the window, a tap, the image's rows and columns; and a padded window is not absurdly large.
pub fn walkable(image: &Value, window: &Window) -> bool {
    let &[_, c, h, w] = image.shape.as_slice() else { return false };
    let size = image.dtype.bytes();
    let padded = |input: usize, axis: usize| {
        let sum = (input as u64).checked_add(window.pad[axis] as u64)?.checked_add(window.pad[axis + 2] as u64)?;
        (sum < 1 << 31).then_some(sum)
    };
    let (Some(rows), Some(cols)) = (padded(h, 0), padded(w, 1)) else { return false };
    let small = |value: usize| u32::try_from(value).is_ok();
    let pixel = c as u64 * size;
    let fits = |count: u64, bytes: u64| count.checked_mul(bytes).is_some_and(|all| u32::try_from(all).is_ok());
    fits(rows, w as u64 * pixel)
        && fits(cols, pixel)
        && window.kernel.iter().chain(&window.stride).chain(&window.dilation).all(|&value| small(value))
        && (0..2).all(|axis| {
            let extent = (window.kernel[axis] as u64).saturating_mul(window.dilation[axis] as u64);
            extent <= LARGEST_PADDED_WINDOW || (window.pad[axis] == 0 && window.pad[axis + 2] == 0)
        })
}

impl MatrixShape {
    /// The shape of a `Conv` or `MatMul` node.
    ///
    /// # Errors
    /// One sentence, where the node is neither or reaches too far.
    pub fn of(graph: &Graph<Quantized>, node: &Node) -> Result<Self, String> {
        let (x, w, y) = match (node.inputs.as_slice(), node.outputs.first()) {
            ([x, w, ..], Some(&y)) => (graph.value(*x), graph.value(*w), graph.value(y)),
            _ => return Err("the node has no weights".into()),
        };
        let dim = |value: usize| u32::try_from(value).map_err(|_| "a dimension is 2^32 or more".to_string());
        let types = |shape: Self| Self { input_type: x.dtype, output_type: y.dtype, weight_type: w.dtype, ..shape };
        match &node.op {
            Op::Conv { window, groups, .. } => {
                let (&[n, c, h, w], &[_, o, p, q]) = (x.shape.as_slice(), y.shape.as_slice()) else {
                    return Err("a convolution needs operands of rank 4".into());
                };
                if !walkable(x, window) {
                    return Err(format!("the window reaches too far beyond `{}`", x.name));
                }
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
                if x.shape.len() == 4 {
                    // Rank 4 lies as an image, whose innermost dimension is not the last.
                    return Err("a matrix product of rank 4 does not run on the array".into());
                }
                let rows: usize = x.shape[..x.shape.len() - 1].iter().product();
                Ok(types(Self { n: dim(rows)?, c: dim(k)?, o: dim(o)?, ..Self::EMPTY }))
            }
            Op::BatchMatMul => {
                let (&[.., m, k], &[ref batch @ .., _, o]) = (x.shape.as_slice(), y.shape.as_slice()) else {
                    return Err("a matrix product needs operands of rank 2 or more".into());
                };
                let groups: usize = batch.iter().product();
                let all = |size: usize| dim(size.saturating_mul(groups));
                let second = Second::Activation;
                let groups = dim(groups)?;
                Ok(types(Self { n: dim(m)?, c: all(k)?, o: all(o)?, groups, second, ..Self::EMPTY }))
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
        second: Second::Image,
        input_type: DType::UInt8,
        weight_type: DType::Int8,
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

    /// Whether array tiles end where an output row does. A convolution of one tap that neither steps nor pads is a
    /// matrix product of its pixels and has rows only for [`RowEnds::Stop`]; a matrix product's images of one pixel have
    /// none.
    pub fn stops_at_rows(&self, ends: RowEnds) -> bool {
        let windows = self.taps() > 1 || self.stride != [1, 1] || [self.p, self.q] != [self.h, self.w];
        match ends {
            RowEnds::Cross => false,
            RowEnds::StopWindows => windows,
            RowEnds::Stop => windows || self.p > 1 || self.q > 1,
        }
    }

    /// Algebraic multiply-accumulates.
    pub const fn macs(&self) -> u64 {
        self.pixels() * self.o as u64 * self.taps() * (self.c / self.groups) as u64
    }

    /// Bytes of the input that are read: rows and columns that no window reaches, or that one tap steps over, are not.
    pub fn input_read(&self) -> u64 {
        let [rows, cols] = [(0, self.p, self.h), (1, self.q, self.w)].map(|(axis, outputs, input)| {
            read(outputs, self.stride[axis], self.dilation[axis], self.kernel[axis], self.pad[axis], input)
        });
        let pixels = u64::from(self.n) * u64::from(rows) * u64::from(cols);
        self.input_type.packed_bytes(pixels * u64::from(self.c))
    }

    /// Whether each channel has a filter of its own.
    pub fn is_depthwise(&self) -> bool {
        self.groups > 1 && self.groups == self.c && self.o == self.c && !self.is_pair()
    }

    /// Whether it is a product of two activations.
    pub fn is_pair(&self) -> bool {
        self.second == Second::Activation
    }
}
