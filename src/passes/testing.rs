//! Helpers of the tests of the passes: a builder of small graphs and a naive float evaluator of a few operators.

use crate::{
    ir::{Activation, Constant, Float, Graph, Node, Op, Stage, Value, ValueId, Window},
    tensor::{DType, Quantization, Tensor},
};

/// Builds small graphs.
pub struct Builder {
    pub graph: Graph<Float>,
}

impl Builder {
    pub fn new() -> Self {
        Self { graph: Graph::new("test") }
    }

    pub fn value(&mut self, name: &str, shape: &[usize], dtype: DType, quant: Option<Quantization>) -> ValueId {
        let shape = shape.to_vec();
        self.graph.add_value(Value { name: name.into(), shape, dtype, quant, constant: None })
    }

    pub fn input(&mut self, shape: &[usize]) -> ValueId {
        let name = format!("in{}", self.graph.inputs.len());
        let id = self.value(&name, shape, DType::Fp32, None);
        self.graph.inputs.push(id);
        id
    }

    pub fn output(&mut self, id: ValueId) {
        self.graph.outputs.push(id);
    }

    pub fn constant(&mut self, shape: &[usize], values: Vec<f32>) -> ValueId {
        let name = format!("c{}", self.graph.values.len());
        let id = self.value(&name, shape, DType::Fp32, None);
        self.graph.value_mut(id).constant =
            Some(Constant::Dense(Tensor::from_f32(shape, values).expect("length fits").into()));
        id
    }

    pub fn integers(&mut self, dtype: DType, shape: &[usize], values: &[i64], quant: Option<Quantization>) -> ValueId {
        let name = format!("q{}", self.graph.values.len());
        let id = self.value(&name, shape, dtype, quant);
        let tensor = Tensor::from_integers(dtype, shape, values).expect("values fit");
        self.graph.value_mut(id).constant = Some(Constant::Dense(tensor.into()));
        id
    }

    /// Adds a node whose float result has the given shape.
    pub fn node(&mut self, name: &str, op: Op, inputs: &[ValueId], shape: &[usize]) -> ValueId {
        self.node_as(name, op, inputs, shape, DType::Fp32, None)
    }

    pub fn node_as(
        &mut self,
        name: &str,
        op: Op,
        inputs: &[ValueId],
        shape: &[usize],
        dtype: DType,
        quant: Option<Quantization>,
    ) -> ValueId {
        let y = self.value(&format!("{name}:0"), shape, dtype, quant);
        self.graph.add_node(Node { name: name.into(), op, inputs: inputs.to_vec(), outputs: vec![y] });
        y
    }

    /// Quantize, then dequantize.
    pub fn qdq(&mut self, name: &str, x: ValueId, dtype: DType, quant: Quantization) -> ValueId {
        let shape = self.graph.value(x).shape.clone();
        let q = self.node_as(&format!("{name}_q"), Op::QuantizeLinear, &[x], &shape, dtype, Some(quant));
        self.node(&format!("{name}_dq"), Op::DequantizeLinear, &[q], &shape)
    }

    /// A dequantized integer constant.
    pub fn dq(&mut self, dtype: DType, shape: &[usize], values: &[i64], quant: Quantization) -> ValueId {
        let q = self.integers(dtype, shape, values, Some(quant));
        let name = format!("dq{}", self.graph.values.len());
        self.node(&name, Op::DequantizeLinear, &[q], shape)
    }
}

/// A convolution without activation.
pub fn conv(window: Window, groups: usize) -> Op {
    Op::Conv { window, groups, activation: Activation::None }
}

/// Repeatable numbers in -1..1.
pub fn numbers(count: usize, seed: u32) -> Vec<f32> {
    let mut state = seed.wrapping_mul(2_654_435_761).wrapping_add(12345);
    (0..count)
        .map(|_| {
            state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
            f32::from(u16::try_from(state >> 16).expect("16 bits")) / 32768.0 - 1.0
        })
        .collect()
}

/// `name Op(inputs) -> outputs`, a line a node.
pub fn listing<S: Stage>(graph: &Graph<S>) -> String {
    let name = |id: &ValueId| {
        let value = graph.value(*id);
        let quant = value.quant.as_ref().map_or(String::new(), |quant| {
            if quant.is_per_tensor() {
                format!("({}, {})", quant.scale[0], quant.zero_point[0])
            } else {
                format!("(x{})", quant.scale.len())
            }
        });
        format!("{:?}{}{:?}", value.dtype, quant, value.shape)
    };
    let list = |ids: &[ValueId]| ids.iter().map(name).collect::<Vec<_>>().join(" ");
    graph.nodes.iter().fold(String::new(), |text, node| {
        text + &format!("{} {}: {} -> {}\n", node.name, node.op.name(), list(&node.inputs), list(&node.outputs))
    })
}

/// Every node stands after its producers, and names are unique.
pub fn check<S: Stage>(graph: &Graph<S>) {
    let mut made: Vec<bool> = graph.values.iter().map(|value| value.constant.is_some()).collect();
    graph.inputs.iter().for_each(|id| made[id.index()] = true);
    for node in &graph.nodes {
        for input in &node.inputs {
            assert!(made[input.index()], "node {} reads {} too early", node.name, graph.value(*input).name);
        }
        node.outputs.iter().for_each(|id| made[id.index()] = true);
    }
    for output in &graph.outputs {
        assert!(made[output.index()], "output {} is not made", graph.value(*output).name);
    }
    let mut names: Vec<&str> = graph.values.iter().map(|value| value.name.as_str()).collect();
    names.sort_unstable();
    assert!(names.windows(2).all(|pair| pair[0] != pair[1]), "value names are unique: {names:?}");
    let mut names: Vec<&str> = graph.nodes.iter().map(|node| node.name.as_str()).collect();
    names.sort_unstable();
    assert!(names.windows(2).all(|pair| pair[0] != pair[1]), "node names are unique: {names:?}");
    for value in &graph.values {
        if let Some(Constant::Dense(tensor)) = &value.constant {
            assert_eq!(tensor.shape(), value.shape, "shape of constant {}", value.name);
        }
    }
}

/// Evaluates a graph in f64. Only what the tests use. Quantized constants stand for their real values; between
/// operators nothing is rounded, but quantized results are cut off at the ends of their range.
pub fn evaluate<S: Stage>(graph: &Graph<S>, inputs: &[Vec<f32>]) -> Vec<Vec<f64>> {
    let mut at: Vec<Vec<f64>> = graph
        .values
        .iter()
        .map(|value| match &value.constant {
            Some(Constant::Dense(tensor)) => {
                let quant = value.quant.as_ref();
                let real = quant.map(|quant| super::constants::dequantized(tensor, quant).expect("parameters fit"));
                real.as_ref().unwrap_or(tensor).to_f32().into_iter().map(f64::from).collect()
            }
            _ => Vec::new(),
        })
        .collect();
    for (id, data) in graph.inputs.iter().zip(inputs) {
        at[id.index()] = data.iter().copied().map(f64::from).collect();
    }
    for node in &graph.nodes {
        let shape_of = |id: ValueId| graph.value(id).shape.clone();
        let y = node.outputs[0];
        let data = |place: usize| &at[node.inputs[place].index()];
        let out = apply(
            &node.op,
            &node.inputs.iter().map(|&id| shape_of(id)).collect::<Vec<_>>(),
            &(0..node.inputs.len()).map(|place| data(place).as_slice()).collect::<Vec<_>>(),
            &shape_of(y),
        );
        assert_eq!(out.len(), shape_of(y).iter().product::<usize>(), "{}", node.name);
        at[y.index()] = out.into_iter().map(|real| saturate(graph.value(y), real)).collect();
    }
    graph.outputs.iter().map(|id| at[id.index()].clone()).collect()
}

fn saturate(value: &Value, real: f64) -> f64 {
    let (Some(quant), Some((low, high))) = (&value.quant, value.dtype.int_range()) else { return real };
    let (scale, zero) = (f64::from(quant.scale[0]), i64::from(quant.zero_point[0]));
    real.clamp((low - zero) as f64 * scale, (high - zero) as f64 * scale)
}

fn activate(activation: Activation, value: f64) -> f64 {
    match activation {
        Activation::None => value,
        Activation::Relu => value.max(0.0),
        Activation::Clip { low, high } => value.max(f64::from(low)).min(f64::from(high)),
    }
}

fn unravel(mut index: usize, shape: &[usize]) -> Vec<usize> {
    let mut at = vec![0; shape.len()];
    for dim in (0..shape.len()).rev() {
        at[dim] = index % shape[dim];
        index /= shape[dim];
    }
    at
}

fn ravel(at: &[usize], shape: &[usize]) -> usize {
    at.iter().zip(shape).fold(0, |index, (&position, &dim)| index * dim + position)
}

fn broadcast(at: &[usize], shape: &[usize]) -> usize {
    let skip = at.len() - shape.len();
    shape.iter().zip(&at[skip..]).fold(0, |index, (&dim, &position)| index * dim + if dim == 1 { 0 } else { position })
}

/// Row and column in the kernel, and in the image where the tap is inside.
type Tap = (usize, usize, Option<(usize, usize)>);

fn taps(at: &[usize], input: [usize; 2], window: &Window) -> Vec<Tap> {
    let mut list = Vec::new();
    for r in 0..window.kernel[0] {
        for s in 0..window.kernel[1] {
            let row = at[0] * window.stride[0] + r * window.dilation[0];
            let column = at[1] * window.stride[1] + s * window.dilation[1];
            let inside = row.checked_sub(window.pad[0]).zip(column.checked_sub(window.pad[1]));
            list.push((r, s, inside.filter(|&(row, column)| row < input[0] && column < input[1])));
        }
    }
    list
}

fn apply(op: &Op, shapes: &[Vec<usize>], data: &[&[f64]], out: &[usize]) -> Vec<f64> {
    let x = data[0];
    let count: usize = out.iter().product();
    let binary = |f: &dyn Fn(f64, f64) -> f64| -> Vec<f64> {
        (0..count)
            .map(|index| {
                let at = unravel(index, out);
                f(data[0][broadcast(&at, &shapes[0])], data[1][broadcast(&at, &shapes[1])])
            })
            .collect()
    };
    match op {
        Op::Conv { window, groups, activation } => (0..count)
            .map(|index| {
                let at = unravel(index, out);
                let (per_group, outs) = (shapes[1][1], shapes[1][0] / groups);
                let mut sum = data.get(2).map_or(0.0, |bias| bias[at[1]]);
                for (r, s, inside) in taps(&at[2..], [shapes[0][2], shapes[0][3]], window) {
                    let Some((row, column)) = inside else { continue };
                    for c in 0..per_group {
                        let channel = at[1] / outs * per_group + c;
                        sum += x[ravel(&[at[0], channel, row, column], &shapes[0])]
                            * data[1][ravel(&[at[1], c, r, s], &shapes[1])];
                    }
                }
                activate(*activation, sum)
            })
            .collect(),
        Op::MatMul { transposed, activation } => {
            let n = *out.last().expect("rank at least 2");
            let k = x.len() / (count / n);
            (0..count)
                .map(|index| {
                    let (row, column) = (index / n, index % n);
                    let weight = |i: usize| data[1][if *transposed { column * k + i } else { i * n + column }];
                    let sum: f64 = (0..k).map(|i| x[row * k + i] * weight(i)).sum();
                    activate(*activation, sum + data.get(2).map_or(0.0, |bias| bias[column]))
                })
                .collect()
        }
        Op::Add { activation } => binary(&|a, b| activate(*activation, a + b)),
        Op::Sub => binary(&|a, b| a - b),
        Op::Mul => binary(&|a, b| a * b),
        Op::Div => binary(&|a, b| a / b),
        Op::Relu => x.iter().map(|v| v.max(0.0)).collect(),
        Op::Clip { low, high } => x.iter().map(|v| v.max(f64::from(*low)).min(f64::from(*high))).collect(),
        Op::Tanh => x.iter().map(|v| v.tanh()).collect(),
        Op::BatchNorm { epsilon } => (0..count)
            .map(|index| {
                let c = unravel(index, out)[1];
                (x[index] - data[3][c]) / (data[4][c] + f64::from(*epsilon)).sqrt() * data[1][c] + data[2][c]
            })
            .collect(),
        Op::MaxPool { window } | Op::AvgPool { window, .. } => (0..count)
            .map(|index| {
                let at = unravel(index, out);
                let all = taps(&at[2..], [shapes[0][2], shapes[0][3]], window);
                let total = all.len() as f64;
                let inside: Vec<f64> = all
                    .into_iter()
                    .filter_map(|(_, _, place)| place)
                    .map(|(row, column)| x[ravel(&[at[0], at[1], row, column], &shapes[0])])
                    .collect();
                match op {
                    Op::AvgPool { count_include_pad: true, .. } => inside.iter().sum::<f64>() / total,
                    Op::AvgPool { .. } => inside.iter().sum::<f64>() / inside.len() as f64,
                    _ => inside.iter().copied().fold(f64::NEG_INFINITY, f64::max),
                }
            })
            .collect(),
        Op::GlobalAvgPool | Op::ReduceMean { .. } => {
            let area = x.len() / count;
            x.chunks(area).map(|chunk| chunk.iter().sum::<f64>() / area as f64).collect()
        }
        Op::Reshape | Op::QuantizeLinear | Op::DequantizeLinear => x.to_vec(),
        Op::Transpose { perm } => (0..count)
            .map(|index| {
                let at = unravel(index, out);
                let mut from = vec![0; at.len()];
                perm.iter().enumerate().for_each(|(i, &dim)| from[dim] = at[i]);
                x[ravel(&from, &shapes[0])]
            })
            .collect(),
        Op::Pad { before, value, .. } => (0..count)
            .map(|index| {
                let at = unravel(index, out);
                let from: Option<Vec<usize>> = at.iter().zip(before).map(|(&a, &b)| a.checked_sub(b)).collect();
                from.filter(|from| from.iter().zip(&shapes[0]).all(|(a, dim)| a < dim))
                    .map_or(f64::from(*value), |from| x[ravel(&from, &shapes[0])])
            })
            .collect(),
        other => panic!("the evaluator does not know {}", other.name()),
    }
}

/// Largest difference between two results, relative to the largest magnitude.
pub fn difference(a: &[Vec<f64>], b: &[Vec<f64>]) -> f64 {
    assert_eq!(a.len(), b.len());
    let mut worst = 0.0_f64;
    let mut largest = 1e-6_f64;
    for (a, b) in a.iter().zip(b) {
        assert_eq!(a.len(), b.len());
        for (a, b) in a.iter().zip(b) {
            worst = worst.max((a - b).abs());
            largest = largest.max(a.abs());
        }
    }
    worst / largest
}
