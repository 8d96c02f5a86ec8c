//! Convolutions and matrix products on the host, plainly: quantized in the layer's accumulation order, or in real
//! numbers summed in double precision.

use super::{Fault, Host, Output, Value, access::equal, real::nchw};
use crate::{
    engine::functional::{
        requantizer::Record,
        vector::{accumulate, finish},
    },
    ir::Window,
    program::{Arithmetic, TensorPlace},
};

/// Real-valued constants.
pub(super) struct Operands {
    /// Shape of the weights.
    pub shape: Vec<usize>,
    /// Row-major.
    pub weights: Vec<f32>,
    /// One an output channel.
    pub bias: Option<Vec<f32>>,
}

/// `[N,C,H,W] x [O,C/g,R,S] -> [N,O,P,Q]` in real numbers.
#[allow(clippy::cast_possible_truncation, reason = "rounding to single precision is meant")]
pub(super) fn conv(
    x: &Value,
    operands: &Operands,
    window: &Window,
    groups: usize,
    shape: &[usize],
) -> Result<Vec<f32>, Fault> {
    let values = x.reals()?;
    let geometry = Geometry::conv(x.shape, &operands.shape, window, groups, shape)?;
    let mut out = Vec::new();
    geometry.for_each_output(|o, taps| {
        let sum = taps
            .iter()
            .fold(0.0, |sum, &(x, w)| sum + x.map_or(0.0, |x| f64::from(values[x]) * f64::from(operands.weights[w])));
        let bias = operands.bias.as_ref().and_then(|bias| bias.get(o)).map_or(0.0, |&bias| f64::from(bias));
        out.push((sum + bias) as f32);
        Ok(())
    })?;
    Ok(out)
}

/// `[..., K] x [K, N]` (or `[N, K]`) in real numbers.
pub(super) fn matmul(x: &Value, operands: &Operands, transposed: bool, shape: &[usize]) -> Result<Vec<f32>, Fault> {
    let k = *x.shape.last().unwrap_or(&1);
    let n = *shape.last().unwrap_or(&1);
    equal("elements of the weights", (k * n) as u64, operands.weights.len() as u64)?;
    let mut weights = operands.weights.clone();
    if !transposed {
        for o in 0..n {
            for i in 0..k {
                weights[o * k + i] = operands.weights[i * n + o];
            }
        }
    }
    let rows = x.shape.iter().product::<usize>() / k.max(1);
    let operands = Operands { shape: vec![n, k, 1, 1], weights, bias: operands.bias.clone() };
    let flat = Value { shape: &[rows, k, 1, 1], dtype: x.dtype, quantization: x.quantization, bytes: x.bytes.clone() };
    conv(&flat, &operands, &Window::UNIT, 1, &[rows, n, 1, 1])
}

/// Shapes of a convolution, checked against each other.
struct Geometry {
    input: [usize; 4],
    output: [usize; 4],
    /// Channels a group.
    channels: usize,
    groups: usize,
    window: Window,
}

impl Geometry {
    fn conv(x: &[usize], w: &[usize], window: &Window, groups: usize, y: &[usize]) -> Result<Self, Fault> {
        let input = nchw(x)?;
        let output = nchw(y)?;
        let &[o, channels, r, s] = w else { return Err(Fault::Region("weights of four dimensions")) };
        let whole = groups > 0 && o % groups == 0 && channels * groups == input[1] && o == output[1];
        if !whole || [r, s] != window.kernel || input[0] != output[0] {
            return Err(Fault::Region("shapes of a convolution"));
        }
        Ok(Self { input, output, channels, groups, window: *window })
    }

    /// For each output in `[N,O,P,Q]` order: its channel, and its taps in the order of `(r, s, c)` as flat indices
    /// into `x` (`None` for padding) and `w`.
    fn for_each_output(
        &self,
        mut visit: impl FnMut(usize, &[(Option<usize>, usize)]) -> Result<(), Fault>,
    ) -> Result<(), Fault> {
        let [n, c, h, w] = self.input;
        let [_, o, p, q] = self.output;
        let Window { kernel: [rows, cols], stride, dilation, pad } = self.window;
        let mut taps = Vec::new();
        for image in 0..n {
            for output in 0..o {
                let first = output / (o / self.groups).max(1) * self.channels;
                for (row, col) in (0..p).flat_map(|row| (0..q).map(move |col| (row, col))) {
                    taps.clear();
                    for (r, s) in (0..rows).flat_map(|r| (0..cols).map(move |s| (r, s))) {
                        let y = (row * stride[0] + r * dilation[0]).checked_sub(pad[0]).filter(|&y| y < h);
                        let z = (col * stride[1] + s * dilation[1]).checked_sub(pad[1]).filter(|&z| z < w);
                        for channel in 0..self.channels {
                            let x = y.zip(z).map(|(y, z)| ((image * c + first + channel) * h + y) * w + z);
                            taps.push((x, ((output * self.channels + channel) * rows + r) * cols + s));
                        }
                    }
                    visit(output, &taps)?;
                }
            }
        }
        Ok(())
    }
}

impl Host<'_> {
    /// A quantized convolution or matrix product by the layer's own numbers. The window is not in them, so that only
    /// products of plain matrices and convolutions that cover their output by stride 1 without padding are whole
    /// operators here; windows come through `VectorKind::Depthwise` or the array.
    pub(super) fn quantized_matrix(&self, inputs: &[Value], place: &TensorPlace) -> Result<Output, Fault> {
        let Arithmetic::Matrix { input, weight, output, .. } = &self.layer.arithmetic else {
            return Err(Fault::Arithmetic("a matrix product"));
        };
        let matrix = self.layer.matrix()?;
        let constants = self.constants.ok_or(Fault::Arithmetic("weights"))?;
        let x = inputs.first().ok_or(Fault::Arithmetic("an operand"))?;
        let values = x.integers()?;
        let weights = constants.weights.to_integers().ok_or(Fault::Arithmetic("integer weights"))?;
        let biases = constants.bias.as_ref().and_then(crate::tensor::Tensor::to_integers);
        let geometry = if let &[_, per_group, rows, cols] = constants.weights.shape() {
            let [_, c, ..] = nchw(x.shape)?;
            let groups = if per_group == 0 { 0 } else { c / per_group };
            let window = Window { kernel: [rows, cols], ..Window::UNIT };
            let fits = |axis: usize| window.output(axis, nchw(x.shape).ok()?[axis + 2]);
            let [.., p, q] = nchw(&place.shape)?;
            if fits(0) != Some(p) || fits(1) != Some(q) {
                return Err(Fault::Unsupported("a quantized convolution with stride or padding as a whole operator"));
            }
            Geometry::conv(x.shape, constants.weights.shape(), &window, groups, &place.shape)?
        } else {
            let k = *x.shape.last().unwrap_or(&1);
            let n = *place.shape.last().unwrap_or(&1);
            let rows = x.shape.iter().product::<usize>() / k.max(1);
            equal("elements of the weights", (k * n) as u64, weights.len() as u64)?;
            Geometry::conv(&[rows, k, 1, 1], &[n, k, 1, 1], &Window::UNIT, 1, &[rows, n, 1, 1])?
        };
        let [_, o, ..] = geometry.output;
        // A matrix is `[K, O]` or `[O, K]`; where it is square, `[K, O]` is ONNX's default.
        let depth = geometry.channels;
        let input_major = constants.weights.shape().len() == 2 && constants.weights.shape()[0] == depth;
        let mut out = Vec::new();
        geometry.for_each_output(|channel, taps| {
            let zero = i64::from(weight.zero_of(channel.min(weight.zero_point.len().saturating_sub(1))));
            let product = |index: usize| {
                let (x, w) = taps[index];
                let w = if input_major { w % depth * o + w / depth } else { w };
                x.map_or(0, |x| (i64::from(values[x]) - i64::from(matrix.input.zero)) * (weights[w] - zero))
            };
            let sum = accumulate(&matrix.order, taps.len(), product)?;
            let bias = biases.as_ref().and_then(|all| all.get(channel)).copied().unwrap_or(0);
            let bias = i32::try_from(bias).map_err(|_| Fault::Arithmetic("a bias of 32 bits"))?;
            let scale = weight.scale.get(channel).or(weight.scale.first()).copied().unwrap_or(1.0);
            let scales = [input.scale[0], scale, output.scale[0]];
            let record = Record::derive(self.adders.requantizer, bias, scales, channel)?;
            out.push(finish(sum, record, matrix, self.adders));
            Ok(())
        })?;
        Ok(Output::Integers(out))
    }
}
