//! Convolutions and matrix products on the host, plainly: quantized in the layer's accumulation order, or in real
//! numbers summed in double precision.

use super::{Fault, Host, Output, Value, access::equal, real::nchw};
use crate::{
    engine::functional::{
        numbers::{Adders, Matrix, Operand},
        requantizer::Record,
        vector::{accumulate, finish},
    },
    ir::{Op, Window},
    program::{Arithmetic, TensorPlace},
    tensor::{AccumulationOrder, Quantization, Tensor},
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

/// Everything that a quantized product needs.
struct Quantized<'a> {
    geometry: Geometry,
    /// Quantizations of input, weights and output.
    quantizations: [&'a Quantization; 3],
    weights: Vec<i64>,
    /// Whether the weights are a matrix `[K, O]`.
    input_major: bool,
    biases: Option<Vec<i64>>,
    numbers: Matrix,
}

impl Quantized<'_> {
    fn run(&self, values: &[i32], adders: Adders) -> Result<Vec<i32>, Fault> {
        let [input, weight, output] = self.quantizations;
        let [_, o, ..] = self.geometry.output;
        let depth = self.geometry.channels;
        if weight.scale.is_empty() || weight.zero_point.is_empty() || input.scale.is_empty() || output.scale.is_empty()
        {
            return Err(Fault::Arithmetic("a scale"));
        }
        let mut out = Vec::new();
        self.geometry.for_each_output(|channel, taps| {
            let zero = weight.zero_point.get(channel).or(weight.zero_point.first()).copied().unwrap_or(0);
            let product = |index: usize| {
                let (x, w) = taps[index];
                let w = if self.input_major { w % depth * o + w / depth } else { w };
                let x = x.map_or(0, |x| i64::from(values[x]) - i64::from(self.numbers.input.zero));
                x * (self.weights[w] - i64::from(zero))
            };
            let sum = accumulate(&self.numbers.order, taps.len(), product)?;
            let bias = self.biases.as_ref().and_then(|all| all.get(channel)).copied().unwrap_or(0);
            let bias = i32::try_from(bias).map_err(|_| Fault::Arithmetic("a bias of 32 bits"))?;
            let scale = weight.scale.get(channel).or(weight.scale.first()).copied().unwrap_or(1.0);
            let scales = [input.scale[0], scale, output.scale[0]];
            let record = Record::derive(adders.requantizer, bias, scales, channel)?;
            out.push(finish(sum, record, &self.numbers, adders));
            Ok(())
        })?;
        Ok(out)
    }
}

/// The window of a quantized layer whose operator is not in its numbers: unit strides, no padding.
fn plain_window(x: &[usize], w: &[usize], y: &[usize]) -> Result<Window, Fault> {
    let &[_, _, rows, cols] = w else { return Ok(Window::UNIT) };
    let window = Window { kernel: [rows, cols], ..Window::UNIT };
    let ([.., h, w], [.., p, q]) = (nchw(x)?, nchw(y)?);
    if window.output(0, h) != Some(p) || window.output(1, w) != Some(q) {
        return Err(Fault::Unsupported("a quantized convolution whose numbers do not say its window"));
    }
    Ok(window)
}

impl Host<'_> {
    /// A quantized convolution or matrix product. Its numbers are `Arithmetic::Matrix` (weights from the layer's
    /// image, unit strides) or `Arithmetic::Elementwise` with the operator (weights and bias are the second and third
    /// operand; sums are exact).
    pub(super) fn quantized_matrix(
        &self,
        op: Option<&Op>,
        inputs: &[Value],
        place: &TensorPlace,
    ) -> Result<Output, Fault> {
        let x = inputs.first().ok_or(Fault::Arithmetic("an operand"))?;
        let (quantizations, numbers) = match &self.layer.arithmetic {
            Arithmetic::Matrix { input, weight, output, .. } => ([input, weight, output], self.layer.matrix()?.clone()),
            Arithmetic::Elementwise { inputs: all, output, output_type, clamp, .. } => {
                let [input, weight, ..] = all.as_slice() else { return Err(Fault::Arithmetic("weights")) };
                let weight_type = inputs.get(1).ok_or(Fault::Arithmetic("weights"))?.dtype;
                let numbers = Matrix {
                    input: Operand::new("the input", x.dtype, input)?,
                    weight: Operand::new("the weights", weight_type, weight)?,
                    output_type: *output_type,
                    output_zero: output.zero_point.first().copied().unwrap_or(0),
                    clamp: *clamp,
                    order: AccumulationOrder::Exact,
                };
                ([input, weight, output], numbers)
            }
            _ => return Err(Fault::Arithmetic("a matrix product")),
        };
        let integers = |value: &Value| Ok::<_, Fault>(value.integers()?.into_iter().map(i64::from).collect::<Vec<_>>());
        let (shape, weights, biases) = match (self.constants, inputs.get(1)) {
            (Some(constants), _) => {
                let weights = constants.weights.to_integers().ok_or(Fault::Arithmetic("integer weights"))?;
                let biases = constants.bias.as_ref().and_then(Tensor::to_integers);
                (constants.weights.shape().to_vec(), weights, biases)
            }
            (None, Some(weights)) => {
                (weights.shape.to_vec(), integers(weights)?, inputs.get(2).map(integers).transpose()?)
            }
            (None, None) => return Err(Fault::Arithmetic("weights")),
        };
        let (geometry, input_major) = if let &[_, per_group, ..] = shape.as_slice()
            && shape.len() == 4
        {
            let window = match op {
                Some(Op::Conv { window, .. }) => *window,
                _ => plain_window(x.shape, &shape, &place.shape)?,
            };
            let groups = nchw(x.shape)?[1].checked_div(per_group).unwrap_or(0);
            (Geometry::conv(x.shape, &shape, &window, groups, &place.shape)?, false)
        } else {
            let k = *x.shape.last().unwrap_or(&1);
            let n = *place.shape.last().unwrap_or(&1);
            let rows = x.shape.iter().product::<usize>() / k.max(1);
            equal("elements of the weights", (k * n) as u64, weights.len() as u64)?;
            // Where the operator does not say it and the matrix is square, `[K, O]` is ONNX's default.
            let input_major = match op {
                Some(Op::MatMul { transposed, .. }) => !transposed,
                _ => shape.first() == Some(&k),
            };
            (Geometry::conv(&[rows, k, 1, 1], &[n, k, 1, 1], &Window::UNIT, 1, &[rows, n, 1, 1])?, input_major)
        };
        // The array's narrow adders are not the host's.
        let adders = match self.layer.arithmetic {
            Arithmetic::Elementwise { .. } => Adders { column_bits: 64, accumulator_bits: 64, ..self.adders },
            _ => self.adders,
        };
        let quantized = Quantized { geometry, quantizations, weights, input_major, biases, numbers };
        Ok(Output::Integers(quantized.run(&x.integers()?, adders)?))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::tensor::DType;

    #[test]
    fn a_float_matrix_product_takes_either_orientation() {
        let bytes = [1.0_f32, 2.0, 3.0, 4.0].iter().flat_map(|value| value.to_le_bytes()).collect();
        let x = Value { shape: &[2, 2], dtype: DType::Fp32, quantization: None, bytes };
        let operands =
            Operands { shape: vec![2, 3], weights: vec![1.0, 0.0, 2.0, 0.0, 1.0, 3.0], bias: Some(vec![0.5; 3]) };
        assert_eq!(matmul(&x, &operands, false, &[2, 3]).unwrap(), [1.5, 2.5, 8.5, 3.5, 4.5, 18.5]);
        let turned = Operands { shape: vec![3, 2], weights: vec![1.0, 0.0, 0.0, 1.0, 2.0, 3.0], ..operands };
        assert_eq!(matmul(&x, &turned, true, &[2, 3]).unwrap(), [1.5, 2.5, 8.5, 3.5, 4.5, 18.5]);
    }
}
