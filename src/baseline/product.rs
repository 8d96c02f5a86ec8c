//! Convolutions and matrix products on the CPU: weights packed once, run by `kernels`.

use rayon::prelude::*;

use super::{
    kernels::{
        conv::{Conv, Window as KernelWindow},
        wide::WideConv,
    },
    layout::narrow,
    operator::limits,
};
use crate::{
    ir::{Graph, Node, Op, Quantized, Value, ValueId, Window},
    kernels::{
        elementwise::depthwise_row,
        requantize::{Limits, requantize_row},
        widen::{Narrow, widen},
    },
    tensor::Tensor,
};

/// Output channels of one task where there is a single output pixel.
const OUTPUTS: usize = 64;

/// A dense product: one part a group, or where there is one pixel, one part a block of output channels.
#[derive(Debug)]
pub struct Dense {
    parts: Vec<(Conv, Vec<i32>, Vec<f32>)>,
    groups: usize,
    limits: Limits,
}

/// A depthwise convolution with one output a channel.
#[derive(Debug)]
pub struct Depthwise {
    window: Window,
    image: [usize; 3],
    output: [usize; 2],
    kind: Narrow,
    zero: i16,
    weights: Vec<i32>,
    bias: Vec<i32>,
    multiplier: Vec<f32>,
    limits: Limits,
}

/// A convolution or matrix product of 16-bit operands, or with sums of more than 32 bits.
#[derive(Debug)]
pub struct Wide(WideConv);

/// What all are made of; `W` holds a weight less its zero point.
struct Parameters<W> {
    /// `[O, R, S, C]`, less the zero points.
    weights: Vec<W>,
    depth: usize,
    bias: Vec<i64>,
    multiplier: Vec<f32>,
    /// Types of the input and of the output.
    kinds: [Narrow; 2],
    zero: i32,
    limits: Limits,
}

/// Elements as integers, `[O, taps, C]` from `[O, C, taps]`, or `[O, K]` from `[K, O]`.
fn output_major<W: Copy>(
    tensor: &Tensor,
    [outer, middle, inner]: [usize; 3],
    convert: impl Fn(i32) -> Option<W>,
) -> Option<Vec<W>> {
    let elements: Vec<W> = match tensor {
        Tensor::I8(array) => array.iter().map(|&element| convert(element.into())).collect::<Option<_>>(),
        Tensor::U8(array) => array.iter().map(|&element| convert(element.into())).collect(),
        Tensor::I16(array) => array.iter().map(|&element| convert(element.into())).collect(),
        Tensor::U16(array) => array.iter().map(|&element| convert(element.into())).collect(),
        _ => None,
    }?;
    if elements.len() != outer * middle * inner {
        return None;
    }
    if middle == 1 || inner == 1 {
        return Some(elements);
    }
    let mut moved = Vec::with_capacity(elements.len());
    for block in elements.chunks_exact(middle * inner) {
        for i in 0..inner {
            moved.extend(block.iter().skip(i).step_by(inner));
        }
    }
    Some(moved)
}

impl<W: Copy + Into<i32> + TryFrom<i32>> Parameters<W> {
    /// `None` where the network's types or sizes are not those that the kernels are exact for.
    fn new(
        graph: &Graph<Quantized>,
        node: &Node,
        outputs: usize,
        order: [usize; 3],
        constants: &dyn Fn(ValueId) -> Option<Tensor>,
    ) -> Option<Self> {
        let (x, w, y) = (graph.value(node.inputs[0]), graph.value(node.inputs[1]), graph.value(node.outputs[0]));
        let (x_quant, w_quant, y_quant) = (x.quant.as_ref()?, w.quant.as_ref()?, y.quant.as_ref()?);
        let kinds = [narrow(x.dtype)?, narrow(y.dtype)?];
        let (low, high) = x.dtype.int_range()?;
        let zero = x_quant.zero_of(0);
        if !(low..=high).contains(&i64::from(zero)) || outputs == 0 {
            return None;
        }
        let mut weights = output_major(&constants(node.inputs[1])?, order, |weight| W::try_from(weight).ok())?;
        let depth = weights.len() / outputs;
        if depth == 0 {
            return None;
        }
        let bias = match node.inputs.get(2) {
            Some(&id) => constants(id)?.to_integers()?,
            None => vec![0; outputs],
        };
        if bias.len() != outputs {
            return None;
        }
        for (channel, row) in weights.chunks_exact_mut(depth).enumerate() {
            let zero = w_quant.zero_of(channel);
            for weight in row.iter_mut().filter(|_| zero != 0) {
                *weight = W::try_from((*weight).into().checked_sub(zero)?).ok()?;
            }
        }
        let multiplier: Vec<f32> =
            (0..outputs).map(|channel| x_quant.scale_of(0) * w_quant.scale_of(channel) / y_quant.scale_of(0)).collect();
        let (Op::Conv { activation, .. } | Op::MatMul { activation, .. }) = node.op else { return None };
        multiplier.iter().all(|multiplier| multiplier.is_finite()).then_some(())?;
        let limits = limits(y, activation)?;
        Some(Self { weights, depth, bias, multiplier, kinds, zero, limits })
    }
}

impl<W: Copy + Into<i32> + TryFrom<i32>> Parameters<W> {
    /// Those of a convolution, with the extents `[h, w, c]` of its image and `[p, q, o]` of its result.
    fn of_conv(
        graph: &Graph<Quantized>,
        node: &Node,
        (window, groups): (&Window, usize),
        constants: &dyn Fn(ValueId) -> Option<Tensor>,
    ) -> Option<(Self, [usize; 3], [usize; 3])> {
        let [_, c, h, w] = image(graph.value(node.inputs[0]))?;
        let [_, o, p, q] = image(graph.value(node.outputs[0]))?;
        let taps = window.kernel[0] * window.kernel[1];
        let parameters = Self::new(graph, node, o, [o, c / groups, taps], constants)?;
        Some((parameters, [h, w, c], [p, q, o]))
    }

    /// Those of a matrix product, as an image of one column, row-major.
    fn of_matrix(
        graph: &Graph<Quantized>,
        node: &Node,
        transposed: bool,
        constants: &dyn Fn(ValueId) -> Option<Tensor>,
    ) -> Option<(Self, [usize; 3], [usize; 3])> {
        let [m, k, o] = matrix(graph, node)?;
        let order = if transposed { [o, 1, k] } else { [1, k, o] };
        let parameters = Self::new(graph, node, o, order, constants)?;
        Some((parameters, [m, 1, k], [m, 1, o]))
    }
}

impl Parameters<i16> {
    /// The input's type and zero point, and the bias, for the kernels of 8-bit elements and 32-bit sums. `None` where
    /// sums could wrap: those would not be the network's.
    fn narrow(&self) -> Option<((Narrow, i16), Vec<i32>)> {
        if self.kinds.iter().any(|kind| kind.bytes() != 1) {
            return None;
        }
        for (row, bias) in self.weights.chunks_exact(self.depth).zip(&self.bias) {
            let largest = row.iter().map(|weight| i64::from(weight.unsigned_abs())).sum::<i64>() * 255;
            if largest.checked_add(bias.checked_abs()?)? > i64::from(i32::MAX) {
                return None;
            }
        }
        let bias = self.bias.iter().map(|&bias| i32::try_from(bias)).collect::<Result<_, _>>().ok()?;
        Some(((self.kinds[0], i16::try_from(self.zero).ok()?), bias))
    }

    /// Packs output channels `[first, first + count)` as a convolution of their own.
    fn part(
        &self,
        (input, bias): (&(Narrow, i16), &[i32]),
        image: [usize; 3],
        window: KernelWindow,
        (first, count): (usize, usize),
    ) -> Option<(Conv, Vec<i32>, Vec<f32>)> {
        let weights = &self.weights[first * self.depth..][..count * self.depth];
        let conv = Conv::new(image, count, window, *input, weights)?;
        Some((conv, bias[first..first + count].to_vec(), self.multiplier[first..first + count].to_vec()))
    }
}

fn image(value: &Value) -> Option<[usize; 4]> {
    value.shape.as_slice().try_into().ok()
}

/// The same window, as the kernels have it.
pub const fn kernel_window(window: &Window) -> KernelWindow {
    KernelWindow { kernel: window.kernel, stride: window.stride, dilation: window.dilation, pad: window.pad }
}

/// Rows, depth and outputs of a matrix product.
fn matrix(graph: &Graph<Quantized>, node: &Node) -> Option<[usize; 3]> {
    let (x, y) = (graph.value(node.inputs[0]), graph.value(node.outputs[0]));
    let (&k, rows) = x.shape.split_last()?;
    let &o = y.shape.last()?;
    (y.shape.len() == x.shape.len()).then(|| [rows.iter().product(), k, o])
}

impl Dense {
    /// A convolution.
    pub fn conv(
        graph: &Graph<Quantized>,
        node: &Node,
        (window, groups): (&Window, usize),
        constants: &dyn Fn(ValueId) -> Option<Tensor>,
    ) -> Option<Self> {
        let (parameters, [h, w, c], [p, q, o]) = Parameters::of_conv(graph, node, (window, groups), constants)?;
        let block = if groups == 1 && p * q == 1 { OUTPUTS } else { o / groups };
        Self::new(&parameters, [h, w, c / groups], kernel_window(window), (o, block, groups))
    }

    /// A matrix product.
    pub fn matrix(
        graph: &Graph<Quantized>,
        node: &Node,
        transposed: bool,
        constants: &dyn Fn(ValueId) -> Option<Tensor>,
    ) -> Option<Self> {
        let (parameters, column, [m, _, o]) = Parameters::of_matrix(graph, node, transposed, constants)?;
        let unit = kernel_window(&Window::UNIT);
        Self::new(&parameters, column, unit, (o, if m == 1 { OUTPUTS } else { o }, 1))
    }

    fn new(
        parameters: &Parameters<i16>,
        image: [usize; 3],
        window: KernelWindow,
        (outputs, block, groups): (usize, usize, usize),
    ) -> Option<Self> {
        let (input, bias) = parameters.narrow()?;
        let parts = (0..outputs)
            .into_par_iter()
            .step_by(block.max(1))
            .map(|first| parameters.part((&input, &bias), image, window, (first, block.min(outputs - first))))
            .collect::<Option<Vec<_>>>()?;
        Some(Self { parts, groups, limits: parameters.limits })
    }

    /// All images of the batch. `None` where a slice has another length.
    pub fn run(&self, x: &[u8], out: &mut [u8]) -> Option<()> {
        let (conv, ..) = self.parts.first()?;
        let [h, w, c] = conv.image();
        let [p, q, per_group] = conv.output();
        let outputs: usize = self.parts.iter().map(|(conv, ..)| conv.output()[2]).sum();
        let (x_size, out_size) = (h * w * c * self.groups, p * q * outputs);
        if x_size == 0 || out_size == 0 {
            return None;
        }
        for (x, out) in x.chunks_exact(x_size).zip(out.chunks_exact_mut(out_size)) {
            if self.groups > 1 {
                self.grouped(x, out, [c, per_group])?;
            } else if let [(conv, bias, multiplier)] = self.parts.as_slice() {
                conv.run(x, bias, multiplier, self.limits, out)?;
            } else {
                // One pixel: the parts' outputs follow each other.
                self.parts
                    .par_iter()
                    .zip(out.par_chunks_mut(per_group))
                    .try_for_each(|((conv, bias, multiplier), out)| conv.run(x, bias, multiplier, self.limits, out))?;
            }
        }
        Some(())
    }

    fn grouped(&self, x: &[u8], out: &mut [u8], [c, o]: [usize; 2]) -> Option<()> {
        let results = self.parts.par_iter().enumerate().map(|(group, (conv, bias, multiplier))| {
            let own = x.chunks_exact(c * self.groups).flat_map(|pixel| &pixel[group * c..][..c]);
            let own: Vec<u8> = own.copied().collect();
            let mut result = vec![0; out.len() / self.groups];
            conv.run(&own, bias, multiplier, self.limits, &mut result).map(|()| result)
        });
        let results: Vec<Vec<u8>> = results.collect::<Option<_>>()?;
        for (group, result) in results.iter().enumerate() {
            for (pixel, result) in out.chunks_exact_mut(o * self.groups).zip(result.chunks_exact(o)) {
                pixel[group * o..][..o].copy_from_slice(result);
            }
        }
        Some(())
    }
}

impl Depthwise {
    /// `None` where a channel has several outputs, or as for [`Dense::conv`].
    pub fn new(
        graph: &Graph<Quantized>,
        node: &Node,
        (window, groups): (&Window, usize),
        constants: &dyn Fn(ValueId) -> Option<Tensor>,
    ) -> Option<Self> {
        let [x, y] = [node.inputs[0], node.outputs[0]].map(|id| image(graph.value(id)));
        let channels = [x?[1], y?[1]];
        if channels != [groups; 2] {
            return None;
        }
        let (parameters, [h, w, c], [p, q, _]) = Parameters::of_conv(graph, node, (window, groups), constants)?;
        let taps = window.kernel[0] * window.kernel[1];
        let ((kind, zero), bias) = parameters.narrow()?;
        let weights = (0..taps).flat_map(|tap| parameters.weights.iter().skip(tap).step_by(taps));
        let weights = weights.map(|&weight| i32::from(weight)).collect();
        let Parameters { multiplier, limits, .. } = parameters;
        Some(Self { window: *window, image: [h, w, c], output: [p, q], kind, zero, weights, bias, multiplier, limits })
    }

    /// All images of the batch. `None` where a slice has another length.
    pub fn run(&self, x: &[u8], out: &mut [u8]) -> Option<()> {
        let ([h, w, c], [p, q]) = (self.image, self.output);
        let images = x.len().checked_div(h * w * c)?;
        if x.len() != images * h * w * c || out.len() != images * p * q * c || out.is_empty() {
            return None;
        }
        let Window { kernel, stride, dilation, pad } = self.window;
        let scratch = || (vec![0_i16; kernel[0] * kernel[1] * c], vec![0_i32; c]);
        out.par_chunks_mut(q * c).enumerate().for_each_init(scratch, |(taps, sums), (line, out)| {
            let x = &x[line / p * h * w * c..][..h * w * c];
            for (column, out) in out.chunks_exact_mut(c).enumerate() {
                for (index, tap) in taps.chunks_exact_mut(c).enumerate() {
                    let at = |axis: usize, out: usize, tap: usize, extent: usize| {
                        (out * stride[axis] + tap * dilation[axis]).checked_sub(pad[axis]).filter(|&at| at < extent)
                    };
                    let row = at(0, line % p, index / kernel[1], h);
                    match row.zip(at(1, column, index % kernel[1], w)) {
                        Some((row, column)) => widen(self.kind, &x[(row * w + column) * c..][..c], self.zero, tap),
                        None => tap.fill(0),
                    }
                }
                depthwise_row(taps, &self.weights, sums);
                requantize_row(sums, &self.bias, &self.multiplier, self.limits, out);
            }
        });
        Some(())
    }
}

impl Wide {
    /// A convolution.
    pub fn conv(
        graph: &Graph<Quantized>,
        node: &Node,
        (window, groups): (&Window, usize),
        constants: &dyn Fn(ValueId) -> Option<Tensor>,
    ) -> Option<Self> {
        let (parameters, image, output) = Parameters::of_conv(graph, node, (window, groups), constants)?;
        Some(Self::new(parameters, image, output, kernel_window(window), groups))
    }

    /// A matrix product.
    pub fn matrix(
        graph: &Graph<Quantized>,
        node: &Node,
        transposed: bool,
        constants: &dyn Fn(ValueId) -> Option<Tensor>,
    ) -> Option<Self> {
        let (parameters, image, output) = Parameters::of_matrix(graph, node, transposed, constants)?;
        Some(Self::new(parameters, image, output, kernel_window(&Window::UNIT), 1))
    }

    fn new(
        parameters: Parameters<i32>,
        image: [usize; 3],
        output: [usize; 3],
        window: KernelWindow,
        groups: usize,
    ) -> Self {
        let Parameters { weights, bias, multiplier, kinds, zero, limits, .. } = parameters;
        Self(WideConv { image, output, window, groups, kinds, zero, weights, bias, multiplier, limits })
    }

    /// All images of the batch. `None` where a slice has another length.
    pub fn run(&self, x: &[u8], out: &mut [u8]) -> Option<()> {
        let Self(conv) = self;
        let x_size = conv.image.iter().product::<usize>() * conv.kinds[0].bytes();
        let out_size = conv.output.iter().product::<usize>() * conv.kinds[1].bytes();
        let images = x.len().checked_div(x_size)?;
        if x.len() != images * x_size || out.len() != images * out_size || out_size == 0 {
            return None;
        }
        x.chunks_exact(x_size).zip(out.chunks_exact_mut(out_size)).try_for_each(|(x, out)| conv.run(x, out))
    }
}
