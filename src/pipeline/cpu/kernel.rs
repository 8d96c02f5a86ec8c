//! What runs a node on the CPU: products and the operators around them on 8-bit elements; what is rare, the reference.

use std::ops::Range;

use rayon::prelude::*;

use super::{
    layout::{narrow, to_inner, to_logical},
    product::{Dense, Depthwise},
};
use crate::{
    ir::{Activation, Graph, Node, Op, Quantized, Value, ValueId, Window},
    kernels::{
        elementwise::{AddCoefficients, add},
        requantize::Limits,
        widen::Narrow,
    },
    reference::{self, Settings},
    tensor::{Quantization, Tensor},
};

/// Elements of one task.
const CHUNK: usize = 1 << 12;

/// A node's kernel.
pub enum Kernel {
    /// Convolution or matrix product.
    Dense(Dense),
    /// Depthwise convolution.
    Depthwise(Depthwise),
    /// A sum of two operands of one shape.
    Sum {
        /// Scales and zero points.
        coefficients: AddCoefficients,
        /// Types of the operands.
        kinds: [Narrow; 2],
        /// Where outputs lie.
        limits: Limits,
    },
    /// A function of one element.
    Table(Box<[u8; 256]>),
    /// A sliding window.
    Pool {
        /// Geometry.
        window: Window,
        /// Rows, columns and channels of the image.
        image: [usize; 3],
        /// Rows and columns of the output.
        output: [usize; 2],
        /// The type.
        kind: Narrow,
        /// Of an average; `None` for the maximum.
        average: Option<Average>,
    },
    /// The mean of each channel.
    Mean {
        /// Pixels and channels.
        shape: [usize; 2],
        /// Type and zero point of the input.
        input: (Narrow, i32),
        /// From sums to outputs.
        multiplier: f32,
        /// Where outputs lie.
        limits: Limits,
    },
    /// Parts next to each other, each through its table.
    Concat {
        /// Bytes of each part in one block of the output, and its table.
        parts: Vec<(usize, Box<[u8; 256]>)>,
    },
    /// The same elements, in the layouts of two shapes.
    Reshape([Vec<usize>; 2]),
    /// The whole operator as the reference runs it.
    Reference,
}

/// The numbers of an average over a window.
#[derive(Clone, Copy)]
pub struct Average {
    input: (f32, i32),
    scale: f32,
    limits: Limits,
    count_padding: bool,
}

/// The outputs' range under an activation: `clip(rne(limit / scale) + zero_point)`.
#[allow(clippy::cast_possible_truncation, reason = "a float's cast saturates, and the type's range follows")]
pub fn limits(output: &Value, activation: Activation) -> Option<Limits> {
    let quant = output.quant.as_ref()?;
    let (scale, zero) = (quant.scale_of(0), quant.zero_of(0));
    let (low, high) = output.dtype.int_range()?;
    let (low, high) = (i32::try_from(low).ok()?, i32::try_from(high).ok()?);
    let limit = |real: f32| ((real / scale).round_ties_even() as i32).saturating_add(zero).max(low).min(high);
    let (low, high) = match activation {
        Activation::None => (low, high),
        Activation::Relu => (limit(0.0), high),
        Activation::Clip { low, high } => (limit(low), limit(high)),
    };
    Some(Limits { zero_point: zero, low, high })
}

#[allow(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "within a byte; its low bits are meant")]
const fn low_byte(value: i32) -> u8 {
    value as u8
}

fn element(kind: Narrow, byte: u8) -> i32 {
    if kind == Narrow::U8 { byte.into() } else { byte.cast_signed().into() }
}

/// `clip(rounded + zero_point)`.
#[allow(clippy::cast_possible_truncation, reason = "a float's cast saturates, and the clip follows")]
fn place(limits: Limits, rounded: f32) -> u8 {
    let value = (rounded as i32).saturating_add(limits.zero_point);
    low_byte(value.max(limits.low).min(limits.high))
}

/// What the reference makes of each of the 256 elements, by the byte; `input` is the operand that is not constant.
fn table(op: &Op, input: &Value, output: &Value) -> Option<Box<[u8; 256]>> {
    let shape = vec![1, 256, 1, 1];
    let mut graph = Graph::<Quantized>::new("table");
    let x = graph.add_value(Value { shape: shape.clone(), constant: None, ..input.clone() });
    let y = graph.add_value(Value { shape: shape.clone(), constant: None, ..output.clone() });
    let node = graph.add_node(Node { name: "table".into(), op: op.clone(), inputs: vec![x], outputs: vec![y] });
    let kind = narrow(input.dtype)?;
    let elements: Vec<i64> = (0..=u8::MAX).map(|byte| element(kind, byte).into()).collect();
    let dtype = if kind == Narrow::U8 { crate::tensor::DType::UInt8 } else { crate::tensor::DType::Int8 };
    let tensor = Tensor::from_integers(dtype, &shape, &elements)?;
    let results = reference::run_node(&graph, node, &[&tensor], &Settings::default()).ok()?;
    let outputs = results.first()?.to_integers()?;
    narrow(output.dtype)?;
    let bytes: Vec<u8> = outputs.into_iter().map(|value| value.to_le_bytes()[0]).collect();
    bytes.into_boxed_slice().try_into().ok()
}

impl Kernel {
    /// The fastest that is exact for this node; the reference where there is none.
    pub fn choose(graph: &Graph<Quantized>, node: &Node, constants: &dyn Fn(ValueId) -> Option<Tensor>) -> Self {
        Self::fast(graph, node, constants).unwrap_or(Self::Reference)
    }

    fn fast(graph: &Graph<Quantized>, node: &Node, constants: &dyn Fn(ValueId) -> Option<Tensor>) -> Option<Self> {
        let x = graph.value(*node.inputs.first()?);
        let y = graph.value(*node.outputs.first()?);
        let kind = narrow(x.dtype)?;
        narrow(y.dtype)?;
        let image = || <[usize; 4]>::try_from(x.shape.as_slice()).ok();
        match &node.op {
            Op::Conv { window, groups, .. } => {
                let geometry = (window, *groups);
                Depthwise::new(graph, node, geometry, constants)
                    .map(Self::Depthwise)
                    .or_else(|| Dense::conv(graph, node, geometry, constants).map(Self::Dense))
            }
            Op::MatMul { transposed, .. } => Dense::matrix(graph, node, *transposed, constants).map(Self::Dense),
            Op::Add { activation } => {
                let b = graph.value(*node.inputs.get(1)?);
                if b.shape != x.shape {
                    return None;
                }
                let pair = |value: &Value| value.quant.as_ref().map(|quant| (quant.scale_of(0), quant.zero_of(0)));
                let coefficients = AddCoefficients::new(pair(x)?, pair(b)?, pair(y)?);
                Some(Self::Sum { coefficients, kinds: [kind, narrow(b.dtype)?], limits: limits(y, *activation)? })
            }
            Op::Relu
            | Op::LeakyRelu { .. }
            | Op::Clip { .. }
            | Op::Sigmoid
            | Op::Tanh
            | Op::HardSigmoid { .. }
            | Op::HardSwish => table(&node.op, x, y).map(Self::Table),
            Op::MaxPool { window } => Self::pool(window, image()?, y, kind, None),
            Op::AvgPool { window, count_include_pad } => {
                let (quant, own): (&Quantization, _) = (x.quant.as_ref()?, y.quant.as_ref()?);
                let average = Average {
                    input: (quant.scale_of(0), quant.zero_of(0)),
                    scale: own.scale_of(0),
                    limits: limits(y, Activation::None)?,
                    count_padding: *count_include_pad,
                };
                Self::pool(window, image()?, y, kind, Some(average))
            }
            Op::GlobalAvgPool => Self::mean(x, y, kind, image()?),
            Op::ReduceMean { axes, .. } if axes == &[2, 3] => Self::mean(x, y, kind, image()?),
            Op::Concat { axis } => {
                let rank = y.shape.len();
                let inner: usize = match (rank, axis) {
                    (4, 1) => 1,
                    (4, 2..) => return None,
                    _ => y.shape[*axis + 1..].iter().product(),
                };
                let parts = node.inputs.iter().map(|&id| {
                    let part = graph.value(id);
                    let table = table(&Op::Concat { axis: 1 }, part, y)?;
                    Some((part.shape[*axis] * inner, table))
                });
                Some(Self::Concat { parts: parts.collect::<Option<_>>()? })
            }
            Op::Reshape if x.quant == y.quant && x.dtype == y.dtype => {
                Some(Self::Reshape([x.shape.clone(), y.shape.clone()]))
            }
            _ => None,
        }
    }

    fn pool(
        window: &Window,
        [_, c, h, w]: [usize; 4],
        output: &Value,
        kind: Narrow,
        average: Option<Average>,
    ) -> Option<Self> {
        let &[_, _, p, q] = output.shape.as_slice() else { return None };
        Some(Self::Pool { window: *window, image: [h, w, c], output: [p, q], kind, average })
    }

    fn mean(x: &Value, y: &Value, kind: Narrow, [_, c, h, w]: [usize; 4]) -> Option<Self> {
        let (quant, own) = (x.quant.as_ref()?, y.quant.as_ref()?);
        // Sums of that many bytes fit 32 bits.
        u32::try_from(h * w).ok().filter(|&pixels| pixels < 1 << 22)?;
        let multiplier = quant.scale_of(0) / (own.scale_of(0) * (h * w) as f32);
        let limits = limits(y, Activation::None)?;
        Some(Self::Mean { shape: [h * w, c], input: (kind, quant.zero_of(0)), multiplier, limits })
    }

    /// Which of a node's operands the kernel reads as values: not the weights that it has packed.
    pub const fn operands(&self, all: usize) -> Range<usize> {
        match self {
            Self::Dense(_) | Self::Depthwise(_) => 0..1,
            _ => 0..all,
        }
    }

    /// Runs on held elements. `None` where a slice has another length.
    pub fn run(&self, operands: &[&[u8]], out: &mut [u8]) -> Option<()> {
        let (&x, rest) = operands.split_first()?;
        match self {
            Self::Dense(dense) => dense.run(x, out),
            Self::Depthwise(depthwise) => depthwise.run(x, out),
            Self::Sum { coefficients, kinds, limits } => sum(x, rest.first()?, *coefficients, *kinds, *limits, out),
            Self::Table(table) => {
                same(x.len(), out.len())?;
                out.par_chunks_mut(CHUNK).zip(x.par_chunks(CHUNK)).for_each(|(out, x)| look_up(table, x, out));
                Some(())
            }
            Self::Pool { window, image, output, kind, average } => {
                let [p, q] = *output;
                let [h, w, c] = *image;
                let images = x.len().checked_div(h * w * c)?;
                same(out.len(), images * p * q * c)?;
                same(x.len(), images * h * w * c)?;
                out.par_chunks_mut((q * c).max(1)).enumerate().for_each_init(Vec::new, |sums, (line, out)| {
                    let x = &x[line / p * h * w * c..][..h * w * c];
                    for (column, out) in out.chunks_exact_mut(c).enumerate() {
                        let taps = taps(window, [h, w], [line % p, column]).map(|at| &x[at * c..][..c]);
                        match average {
                            None => maximum(*kind, taps, out),
                            Some(average) => average.run(*kind, window, taps, sums, out),
                        }
                    }
                });
                Some(())
            }
            Self::Mean { shape: [pixels, c], input: (kind, zero), multiplier, limits } => {
                let mut sums = vec![0; *c];
                same(x.len() * c, out.len() * pixels * c)?;
                for (x, out) in x.chunks_exact((pixels * c).max(1)).zip(out.chunks_exact_mut(*c)) {
                    sums.fill(0);
                    for x in x.chunks_exact(*c) {
                        sums.iter_mut().zip(x).for_each(|(sum, &x)| *sum += element(*kind, x) - zero);
                    }
                    for (out, &sum) in out.iter_mut().zip(&sums) {
                        *out = place(*limits, (sum as f32 * multiplier).round_ties_even());
                    }
                }
                Some(())
            }
            Self::Concat { parts } => {
                let block: usize = parts.iter().map(|(bytes, _)| bytes).sum();
                let mut first = 0;
                for (&x, (bytes, table)) in operands.iter().zip(parts) {
                    same(x.len() * block, out.len() * bytes)?;
                    let blocks = out.par_chunks_exact_mut(block.max(1)).zip(x.par_chunks_exact((*bytes).max(1)));
                    blocks.with_min_len(64).for_each(|(out, x)| look_up(table, x, &mut out[first..first + bytes]));
                    first += bytes;
                }
                Some(())
            }
            Self::Reshape([from, to]) => {
                same(x.len(), out.len())?;
                out.copy_from_slice(&to_inner(to, to_logical(from, x.to_vec())));
                Some(())
            }
            Self::Reference => None,
        }
    }
}

const fn same(a: usize, b: usize) -> Option<()> {
    if a == b { Some(()) } else { None }
}

fn look_up(table: &[u8; 256], x: &[u8], out: &mut [u8]) {
    out.iter_mut().zip(x).for_each(|(out, &x)| *out = table[usize::from(x)]);
}

fn sum(a: &[u8], b: &[u8], by: AddCoefficients, kinds: [Narrow; 2], limits: Limits, out: &mut [u8]) -> Option<()> {
    same(a.len(), out.len())?;
    same(b.len(), out.len())?;
    let tasks = out.par_chunks_mut(CHUNK).zip(a.par_chunks(CHUNK)).zip(b.par_chunks(CHUNK));
    tasks.for_each_init(
        || [(); 3].map(|()| vec![0; CHUNK]),
        |[wide_a, wide_b, sums], ((out, a), b)| {
            wide_a.iter_mut().zip(a).for_each(|(wide, &byte)| *wide = element(kinds[0], byte));
            wide_b.iter_mut().zip(b).for_each(|(wide, &byte)| *wide = element(kinds[1], byte));
            let length = out.len();
            add(&wide_a[..length], &wide_b[..length], by, limits.low, limits.high, &mut sums[..length]);
            out.iter_mut().zip(sums).for_each(|(out, &mut sum)| *out = low_byte(sum));
        },
    );
    Some(())
}

/// The pixels under a window, row by row, without the padding.
fn taps(window: &Window, [h, w]: [usize; 2], [p, q]: [usize; 2]) -> impl Iterator<Item = usize> {
    let Window { kernel, stride, dilation, pad } = *window;
    let at = move |axis: usize, out: usize, tap: usize, extent: usize| {
        (out * stride[axis] + tap * dilation[axis]).checked_sub(pad[axis]).filter(|&at| at < extent)
    };
    (0..kernel[0])
        .filter_map(move |r| at(0, p, r, h))
        .flat_map(move |row| (0..kernel[1]).filter_map(move |s| at(1, q, s, w)).map(move |column| row * w + column))
}

fn maximum<'a>(kind: Narrow, taps: impl Iterator<Item = &'a [u8]>, out: &mut [u8]) {
    // Flipping the sign bit puts two's complement in the order of plain bytes.
    let flip = if kind == Narrow::U8 { 0 } else { 0x80 };
    out.fill(0);
    for x in taps {
        out.iter_mut().zip(x).for_each(|(out, &x)| *out = (*out).max(x ^ flip));
    }
    for out in out.iter_mut() {
        *out ^= flip;
    }
}

impl Average {
    /// The sum runs in float32, row by row: the order matters.
    fn run<'a>(
        &self,
        kind: Narrow,
        window: &Window,
        taps: impl Iterator<Item = &'a [u8]>,
        sums: &mut Vec<f32>,
        out: &mut [u8],
    ) {
        sums.clear();
        sums.resize(out.len(), 0.0);
        let (scale, zero) = self.input;
        let mut count = 0;
        for x in taps {
            count += 1;
            sums.iter_mut().zip(x).for_each(|(sum, &x)| *sum += (element(kind, x) - zero) as f32 * scale);
        }
        let divisor = if self.count_padding { window.kernel[0] * window.kernel[1] } else { count } as f32;
        // The zero point goes in before the rounding.
        let inside = Limits { zero_point: 0, ..self.limits };
        for (out, sum) in out.iter_mut().zip(sums) {
            *out = place(inside, (*sum / divisor / self.scale + self.limits.zero_point as f32).round_ties_even());
        }
    }
}
