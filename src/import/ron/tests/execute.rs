//! A plain executor of quantized graphs, only to see that a network's numbers stay alive from end to end. It is no
//! reference: averages and sums are computed in float64 real values.

use ndarray::{Array2, ArrayD, ArrayViewD, Axis, Ix3, IxDyn, Slice, s};

use crate::{
    import::synthetic::{materialize, random_input},
    ir::{Activation, Constant, Float, Graph, Node, Op, Value, Window},
    tensor::Tensor,
};

/// Stored value less zero point, of every element; exact in float64.
type Centred = ArrayD<f64>;

fn centred(value: &Value, tensor: &Tensor) -> Centred {
    let zero = f64::from(value.quant.as_ref().unwrap().zero_of(0));
    let elements = tensor.to_integers().unwrap().iter().map(|&element| element as f64 - zero).collect();
    ArrayD::from_shape_vec(IxDyn(&value.shape), elements).unwrap()
}

fn constant(value: &Value) -> Centred {
    assert!(matches!(value.constant, Some(Constant::Synthetic(_))));
    centred(value, &materialize(value).unwrap())
}

/// What a node's stored values are like.
pub struct Statistics {
    pub node: String,
    /// Whether it stores under a scale of its own.
    pub own_scale: bool,
    /// Deviation in steps.
    pub deviation: f64,
    /// Share of the elements at the end of the type's range (what is cut at zero does not count).
    pub saturated: f64,
}

/// Executes the graph on a random image.
pub fn execute(graph: &Graph<Float>, seed: u64) -> Vec<Statistics> {
    let mut tensors: Vec<Option<Centred>> = vec![None; graph.values.len()];
    for &id in &graph.inputs {
        tensors[id.index()] = Some(centred(graph.value(id), &random_input(graph.value(id), seed)));
    }
    let mut all = Vec::new();
    for node in &graph.nodes {
        let y = graph.value(node.outputs[0]);
        let quant = y.quant.as_ref().unwrap();
        let (scale, zero) = (f64::from(quant.scale_of(0)), f64::from(quant.zero_of(0)));
        let (low, high) = y.dtype.int_range().map(|(low, high)| (low as f64 - zero, high as f64 - zero)).unwrap();
        let real = real_result(graph, node, &tensors);
        let result = real.mapv(|real| (real / scale).round_ties_even().clamp(low, high));
        let count = result.len() as f64;
        let mean = result.sum() / count;
        let deviation = (result.mapv(|element| (element - mean).powi(2)).sum() / count).sqrt();
        let at_end = result.iter().filter(|&&element| element >= high || (element <= low && low < 0.0)).count();
        let own_scale = !matches!(node.op, Op::MaxPool { .. } | Op::Reshape);
        all.push(Statistics { node: node.name.clone(), own_scale, deviation, saturated: at_end as f64 / count });
        tensors[node.outputs[0].index()] = Some(result);
    }
    all
}

/// The result in real values, before it is stored.
fn real_result(graph: &Graph<Float>, node: &Node, tensors: &[Option<Centred>]) -> Centred {
    let operand = |index: usize| {
        let id = node.inputs[index];
        let scale = f64::from(graph.value(id).quant.as_ref().unwrap().scale_of(0));
        tensors[id.index()].as_ref().unwrap().mapv(|element| element * scale)
    };
    let shape = &graph.value(node.outputs[0]).shape;
    let activated = |real: Centred, activation: Activation| match activation {
        Activation::None => real,
        Activation::Relu => real.mapv(|element| element.max(0.0)),
        Activation::Clip { low, high } => real.mapv(|element| element.clamp(low.into(), high.into())),
    };
    match &node.op {
        Op::Conv { window, groups, activation } => {
            activated(weighted(graph, node, &operand(0), window, *groups), *activation)
        }
        Op::MatMul { transposed: true, activation } => {
            let x = operand(0);
            let image = x.to_shape(IxDyn(&[shape[0], x.len() / shape[0], 1, 1])).unwrap().to_owned();
            activated(weighted(graph, node, &image, &Window::UNIT, 1), *activation)
                .into_shape_with_order(shape.clone())
                .unwrap()
        }
        Op::Add { activation } => activated(operand(0) + operand(1), *activation),
        Op::MaxPool { window } => max_pool(&operand(0), window, shape),
        Op::GlobalAvgPool => {
            let mean = operand(0).mean_axis(Axis(3)).unwrap().mean_axis(Axis(2)).unwrap();
            mean.into_shape_with_order(shape.clone()).unwrap()
        }
        Op::Concat { axis } => {
            let parts: Vec<Centred> = (0..node.inputs.len()).map(operand).collect();
            let views: Vec<ArrayViewD<'_, f64>> = parts.iter().map(|part| part.view()).collect();
            ndarray::concatenate(Axis(*axis), &views).unwrap()
        }
        Op::Reshape => operand(0).into_shape_with_order(shape.clone()).unwrap(),
        other => panic!("{} is not in the layer lists", other.name()),
    }
}

fn padded(x: &ndarray::ArrayView3<'_, f64>, pad: [usize; 4], fill: f64) -> ndarray::Array3<f64> {
    let (channels, rows, columns) = x.dim();
    let mut all = ndarray::Array3::from_elem((channels, pad[0] + rows + pad[2], pad[1] + columns + pad[3]), fill);
    all.slice_mut(s![.., pad[0]..pad[0] + rows, pad[1]..pad[1] + columns]).assign(x);
    all
}

/// The taps of one position in the kernel, `[C, P, Q]`.
fn taps<'a>(
    x: &'a ndarray::Array3<f64>,
    window: &Window,
    at: [usize; 2],
    out: [usize; 2],
) -> ndarray::ArrayView3<'a, f64> {
    let mut view = x.view();
    for axis in 0..2 {
        let start = at[axis] * window.dilation[axis];
        let end = start + (out[axis] - 1) * window.stride[axis] + 1;
        let step = isize::try_from(window.stride[axis]).unwrap();
        let slice = Slice::new(isize::try_from(start).unwrap(), Some(isize::try_from(end).unwrap()), step);
        view.slice_axis_inplace(Axis(axis + 1), slice);
    }
    view
}

/// Convolution of real `x` with the node's weight and bias.
fn weighted(graph: &Graph<Float>, node: &Node, x: &Centred, window: &Window, groups: usize) -> Centred {
    let (w_value, b_value) = (graph.value(node.inputs[1]), graph.value(node.inputs[2]));
    let (w, b) = (constant(w_value), constant(b_value));
    let (w_quant, b_quant) = (w_value.quant.as_ref().unwrap(), b_value.quant.as_ref().unwrap());
    let out = w.shape()[0];
    let channels = x.shape()[1];
    let [p, q] = [window.output(0, x.shape()[2]).unwrap(), window.output(1, x.shape()[3]).unwrap()];
    let (group_in, group_out) = (channels / groups, out / groups);
    let k = group_in * window.kernel[0] * window.kernel[1];
    let w = w.to_shape((out, k)).unwrap();
    let mut y = ArrayD::zeros(IxDyn(&[x.shape()[0], out, p, q]));
    for (image, mut result) in x.outer_iter().zip(y.outer_iter_mut()) {
        let image = padded(&image.into_dimensionality::<Ix3>().unwrap(), window.pad, 0.0);
        for group in 0..groups {
            let mut matrix = Array2::zeros((k, p * q));
            for row in 0..k {
                let (channel, tap) =
                    (row / (window.kernel[0] * window.kernel[1]), row % (window.kernel[0] * window.kernel[1]));
                let at = [tap / window.kernel[1], tap % window.kernel[1]];
                let view = taps(&image, window, at, [p, q]);
                let plane = view.index_axis(Axis(0), group * group_in + channel);
                matrix.row_mut(row).assign(&ndarray::Array1::from_iter(plane.iter().copied()));
            }
            let first = group * group_out;
            let product = w.slice(s![first..first + group_out, ..]).dot(&matrix);
            for (offset, row) in product.outer_iter().enumerate() {
                let o = first + offset;
                let bias = b[o] * f64::from(b_quant.scale_of(o));
                let real = row.mapv(|sum| sum * f64::from(w_quant.scale_of(o)) + bias);
                result.index_axis_mut(Axis(0), o).assign(&real.to_shape((p, q)).unwrap());
            }
        }
    }
    y
}

fn max_pool(x: &Centred, window: &Window, shape: &[usize]) -> Centred {
    let mut y = ArrayD::from_elem(IxDyn(shape), f64::NEG_INFINITY);
    for (image, mut result) in x.outer_iter().zip(y.outer_iter_mut()) {
        let image = padded(&image.into_dimensionality::<Ix3>().unwrap(), window.pad, f64::NEG_INFINITY);
        for at in 0..window.kernel[0] * window.kernel[1] {
            let view = taps(&image, window, [at / window.kernel[1], at % window.kernel[1]], [shape[2], shape[3]]);
            result.zip_mut_with(&view.into_dyn(), |result, &tap| *result = result.max(tap));
        }
    }
    y
}
