//! Convolutions and matrix products of integers on the host, plainly: exact sums, then the machine's requantizer, by the
//! engine's own numbers and not the executor's.

use super::{Elementwise, Fault};
use crate::{
    engine::functional::{
        access::equal,
        numerics::{Datapath, Matrix, Operand},
        requantizer::Record,
        table,
        vector::{accumulate, finish},
    },
    ir::{Op, Window},
    tensor::{AccumulationOrder, Tensor},
};

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
    fn new(x: &[usize], w: &[usize], window: &Window, groups: usize, y: &[usize]) -> Result<Self, Fault> {
        let (&[_, c, ..], &[o, channels, r, s]) = (x, w) else {
            return Err(Fault::Region("weights of four dimensions"));
        };
        let image = |shape: &[usize]| shape.try_into().map_err(|_| Fault::Region("an image of four dimensions"));
        let (input, output): ([usize; 4], [usize; 4]) = (image(x)?, image(y)?);
        let whole = groups > 0 && o % groups == 0 && channels * groups == c && o == output[1];
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

/// A product of the first two operands; the third, if there is one, is the bias. `shape` is the result's.
pub(super) fn run(
    numbers: &Elementwise,
    operands: &[&Tensor],
    shape: &[usize],
    datapath: Datapath,
) -> Result<Tensor, Fault> {
    let &[x, weights, ref rest @ ..] = operands else { return Err(Fault::Arithmetic("weights")) };
    let [(input, input_type), (weight, weight_type)] = [numbers.operand(0)?, numbers.operand(1)?];
    let matrix = Matrix {
        input: Operand::new("the input", input_type, input)?,
        weight: Operand::new("the weights", weight_type, weight)?,
        output_type: numbers.output_type,
        output_zero: table::zero(numbers.output),
        clamp: numbers.clamp,
        order: AccumulationOrder::Exact,
    };
    // The array's narrow adders are not the host's: sums of fewer than 2^31 products of 16-bit operands, less their zero
    // points, are exact in 64 bits, so none can leave them and none is counted.
    let datapath = Datapath { column_bits: 64, accumulator_bits: 64, ..datapath };
    let integers = |tensor: &Tensor| tensor.to_integers().ok_or(Fault::Arithmetic("integer operands"));
    let biases = rest.first().map(|&bias| integers(bias)).transpose()?;
    let (x_shape, w_shape) = (x.shape(), weights.shape());
    let (x, weights) = (integers(x)?, integers(weights)?);
    let (geometry, input_major) = match *numbers.op {
        Op::Conv { ref window, groups, .. } => (Geometry::new(x_shape, w_shape, window, groups, shape)?, false),
        Op::MatMul { transposed, .. } => {
            let (k, n) = (x_shape.last().copied().unwrap_or(1), shape.last().copied().unwrap_or(1));
            let rows = x.len() / k.max(1);
            equal("elements of the weights", (k * n) as u64, weights.len() as u64)?;
            let shapes = [[rows, k, 1, 1], [n, k, 1, 1], [rows, n, 1, 1]];
            (Geometry::new(&shapes[0], &shapes[1], &Window::UNIT, 1, &shapes[2])?, !transposed)
        }
        _ => return Err(Fault::Arithmetic("a matrix product")),
    };
    let (depth, outputs) = (geometry.channels, geometry.output[1]);
    if [weight.scale.len(), weight.zero_point.len()].iter().any(|&count| count != 1 && count != outputs) {
        return Err(Fault::Arithmetic("one scale and zero point of the weights, or one an output channel"));
    }
    let mut out = Vec::new();
    geometry.for_each_output(|channel, taps| {
        let zero = i64::from(weight.zero_of(channel));
        let product = |index: usize| {
            let (x_at, w_at) = taps[index];
            let w_at = if input_major { w_at % depth * outputs + w_at / depth } else { w_at };
            x_at.map_or(0, |at| x[at] - i64::from(matrix.input.zero)) * (weights[w_at] - zero)
        };
        let sum = accumulate(&matrix.order, taps.len(), product, &mut 0)?;
        let bias = biases.as_ref().and_then(|all| all.get(channel)).copied().unwrap_or(0);
        let bias = i32::try_from(bias).map_err(|_| Fault::Arithmetic("a bias of 32 bits"))?;
        let scales = [table::scale(input), weight.scale_of(channel), table::scale(numbers.output)];
        let record = Record::derive(datapath.requantizer, bias, scales, channel)?;
        out.push(i64::from(finish(sum, record, &matrix, datapath)));
        Ok(())
    })?;
    Tensor::from_integers(numbers.output_type, shape, &out).ok_or(Fault::Region("elements of a product"))
}
