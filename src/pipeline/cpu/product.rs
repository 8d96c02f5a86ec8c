//! Convolutions and matrix products on the CPU: weights packed once, run by `kernels`.

use rayon::prelude::*;

use super::{kernel::limits, layout::narrow};
use crate::{
    ir::{Graph, Node, Op, Quantized, Value, ValueId, Window},
    kernels::{
        conv::{Conv, Window as KernelWindow},
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

/// What both are made of.
struct Parameters {
    /// `[O, R, S, C]`, less the zero points.
    weights: Vec<i16>,
    depth: usize,
    bias: Vec<i32>,
    multiplier: Vec<f32>,
    kind: Narrow,
    zero: i16,
    limits: Limits,
}

/// Elements as integers, `[O, taps, C]` from `[O, C, taps]`, or `[O, K]` from `[K, O]`.
fn output_major(tensor: &Tensor, [outer, middle, inner]: [usize; 3]) -> Option<Vec<i16>> {
    let elements: Vec<i16> = match tensor {
        Tensor::I8(array) => array.iter().map(|&element| element.into()).collect(),
        Tensor::U8(array) => array.iter().map(|&element| element.into()).collect(),
        _ => return None,
    };
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

impl Parameters {
    /// `None` where the network's types or sums are not those that the kernels are exact for.
    fn new(
        graph: &Graph<Quantized>,
        node: &Node,
        outputs: usize,
        order: [usize; 3],
        constants: &dyn Fn(ValueId) -> Option<Tensor>,
    ) -> Option<Self> {
        let (x, w, y) = (graph.value(node.inputs[0]), graph.value(node.inputs[1]), graph.value(node.outputs[0]));
        let (x_quant, w_quant, y_quant) = (x.quant.as_ref()?, w.quant.as_ref()?, y.quant.as_ref()?);
        let (kind, _) = (narrow(x.dtype)?, narrow(y.dtype)?);
        let (low, high) = x.dtype.int_range()?;
        let zero = x_quant.zero_of(0);
        if !(low..=high).contains(&i64::from(zero)) || outputs == 0 {
            return None;
        }
        let mut weights = output_major(&constants(node.inputs[1])?, order)?;
        let depth = weights.len() / outputs;
        if depth == 0 {
            return None;
        }
        let bias: Vec<i32> = match node.inputs.get(2) {
            Some(&id) => constants(id)?.to_integers()?.into_iter().map(i32::try_from).collect::<Result<_, _>>().ok()?,
            None => vec![0; outputs],
        };
        if bias.len() != outputs {
            return None;
        }
        for (channel, row) in weights.chunks_exact_mut(depth).enumerate() {
            let zero = i16::try_from(w_quant.zero_of(channel)).ok().filter(|zero| zero.unsigned_abs() < 1 << 14)?;
            for weight in row.iter_mut() {
                *weight -= zero;
            }
            // Sums that wrap are not the network's.
            let largest = row.iter().map(|weight| i64::from(weight.unsigned_abs())).sum::<i64>() * 255;
            if largest + i64::from(bias[channel]).abs() > i64::from(i32::MAX) {
                return None;
            }
        }
        let multiplier: Vec<f32> =
            (0..outputs).map(|channel| x_quant.scale_of(0) * w_quant.scale_of(channel) / y_quant.scale_of(0)).collect();
        let (Op::Conv { activation, .. } | Op::MatMul { activation, .. }) = node.op else { return None };
        multiplier.iter().all(|multiplier| multiplier.is_finite()).then_some(())?;
        let limits = limits(y, activation)?;
        Some(Self { weights, depth, bias, multiplier, kind, zero: i16::try_from(zero).ok()?, limits })
    }

    /// Packs output channels `[first, first + count)` as a convolution of their own.
    fn part(
        &self,
        image: [usize; 3],
        window: KernelWindow,
        first: usize,
        count: usize,
    ) -> Option<(Conv, Vec<i32>, Vec<f32>)> {
        let weights = &self.weights[first * self.depth..][..count * self.depth];
        let conv = Conv::new(image, count, window, (self.kind, self.zero), weights)?;
        Some((conv, self.bias[first..first + count].to_vec(), self.multiplier[first..first + count].to_vec()))
    }
}

fn image(value: &Value) -> Option<[usize; 4]> {
    value.shape.as_slice().try_into().ok()
}

const fn kernel_window(window: &Window) -> KernelWindow {
    KernelWindow { kernel: window.kernel, stride: window.stride, dilation: window.dilation, pad: window.pad }
}

impl Dense {
    /// A convolution.
    pub fn conv(
        graph: &Graph<Quantized>,
        node: &Node,
        (window, groups): (&Window, usize),
        constants: &dyn Fn(ValueId) -> Option<Tensor>,
    ) -> Option<Self> {
        let [_, c, h, w] = image(graph.value(node.inputs[0]))?;
        let [_, o, p, q] = image(graph.value(node.outputs[0]))?;
        let (per_group, taps) = (c / groups, window.kernel[0] * window.kernel[1]);
        let parameters = Parameters::new(graph, node, o, [o, per_group, taps], constants)?;
        let block = if groups == 1 && p * q == 1 { OUTPUTS } else { o / groups };
        Self::new(&parameters, [h, w, per_group], kernel_window(window), (o, block, groups))
    }

    /// A matrix product: an image of one column.
    pub fn matrix(
        graph: &Graph<Quantized>,
        node: &Node,
        transposed: bool,
        constants: &dyn Fn(ValueId) -> Option<Tensor>,
    ) -> Option<Self> {
        let (x, y) = (graph.value(node.inputs[0]), graph.value(node.outputs[0]));
        let (&k, rows) = x.shape.split_last()?;
        let &o = y.shape.last()?;
        if x.shape.len() == 4 || y.shape.len() != x.shape.len() {
            return None;
        }
        let m = rows.iter().product();
        let order = if transposed { [o, 1, k] } else { [1, k, o] };
        let parameters = Parameters::new(graph, node, o, order, constants)?;
        let unit = KernelWindow { kernel: [1, 1], stride: [1, 1], dilation: [1, 1], pad: [0; 4] };
        Self::new(&parameters, [m, 1, k], unit, (o, if m == 1 { OUTPUTS } else { o }, 1))
    }

    fn new(
        parameters: &Parameters,
        image: [usize; 3],
        window: KernelWindow,
        (outputs, block, groups): (usize, usize, usize),
    ) -> Option<Self> {
        let parts = (0..outputs)
            .into_par_iter()
            .step_by(block.max(1))
            .map(|first| parameters.part(image, window, first, block.min(outputs - first)))
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
        let [_, c, h, w] = image(graph.value(node.inputs[0]))?;
        let [_, o, p, q] = image(graph.value(node.outputs[0]))?;
        if groups != c || o != c {
            return None;
        }
        let taps = window.kernel[0] * window.kernel[1];
        let parameters = Parameters::new(graph, node, o, [o, 1, taps], constants)?;
        let weights = (0..taps).flat_map(|tap| parameters.weights.iter().skip(tap).step_by(taps));
        let weights = weights.map(|&weight| i32::from(weight)).collect();
        let Parameters { bias, multiplier, kind, zero, limits, .. } = parameters;
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
