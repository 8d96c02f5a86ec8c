//! Random layers and small networks: one seed, one graph.

use systole::{
    ir::{Activation, Graph, Op, Quantized, ValueId, Window, infer::infer},
    tensor::Quantization,
};

use crate::support::{Builder, OperandTypes};

/// One random layer of any kind that the machine may meet.
pub fn random_layer(seed: u64) -> Graph<Quantized> {
    layer_of(seed, OperandTypes::BYTES)
}

/// The same of other types.
pub fn layer_of(seed: u64, types: OperandTypes) -> Graph<Quantized> {
    let mut b = Builder::of(seed, types);
    match b.pick(0, 15) {
        0..=4 => conv(b),
        5 => grouped(b),
        6 => matmul(b),
        7 => binary(b),
        8 | 9 => pool(b),
        10 => table(b),
        11 => concat(b),
        12 | 13 => product(b),
        14 => attention(b),
        _ => softmax(b),
    }
}

fn size(b: &mut Builder, low: i64, high: i64) -> usize {
    usize::try_from(b.pick(low, high)).unwrap()
}

/// A window that fits an image of `h x w`, with everything that a convolution can have.
pub fn window(b: &mut Builder, h: usize, w: usize) -> Window {
    loop {
        let window = Window {
            kernel: [size(b, 1, 4), size(b, 1, 4)],
            stride: [size(b, 1, 3), size(b, 1, 3)],
            dilation: [size(b, 1, 2), size(b, 1, 2)],
            pad: [size(b, 0, 2), size(b, 0, 2), size(b, 0, 2), size(b, 0, 2)],
        };
        if window.output(0, h).is_some() && window.output(1, w).is_some() {
            return window;
        }
    }
}

fn conv(mut b: Builder) -> Graph<Quantized> {
    let (n, h, w) = (size(&mut b, 1, 3), size(&mut b, 1, 9), size(&mut b, 1, 9));
    let (c, o) = (size(&mut b, 1, 40), size(&mut b, 1, 50));
    let x = b.input(&[n, c, h, w]);
    let window = window(&mut b, h, w);
    let y = b.conv(x, o, 1, window);
    b.finish(&[y])
}

fn grouped(mut b: Builder) -> Graph<Quantized> {
    let (n, h, w) = (size(&mut b, 1, 2), size(&mut b, 1, 8), size(&mut b, 1, 8));
    let groups = size(&mut b, 2, 12);
    let depthwise = b.pick(0, 1) == 0;
    let (c, o) = if depthwise { (1, 1) } else { (size(&mut b, 1, 4), size(&mut b, 1, 4)) };
    let x = b.input(&[n, c * groups, h, w]);
    let window = window(&mut b, h, w);
    let y = b.conv(x, o * groups, groups, window);
    b.finish(&[y])
}

fn matmul(mut b: Builder) -> Graph<Quantized> {
    let shape = if b.pick(0, 1) == 0 {
        vec![size(&mut b, 1, 20), size(&mut b, 1, 200)]
    } else {
        vec![size(&mut b, 1, 3), size(&mut b, 1, 9), size(&mut b, 1, 60)]
    };
    let x = b.input(&shape);
    let outputs = size(&mut b, 1, 70);
    let y = b.matmul(x, outputs);
    b.finish(&[y])
}

/// A product of two activations of rank 2 to 4, with batches that broadcast, of operands that may be transposed.
fn product(mut b: Builder) -> Graph<Quantized> {
    let [m, k, n] = [size(&mut b, 1, 40), size(&mut b, 1, 50), size(&mut b, 1, 40)];
    let batch: Vec<usize> = (0..b.pick(0, 2)).map(|_| size(&mut b, 1, 3)).collect();
    let operand = |b: &mut Builder, rows: usize, cols: usize| {
        let own = batch[size(b, 0, i64::try_from(batch.len()).unwrap())..].to_vec();
        let mut shape: Vec<usize> = own.into_iter().map(|dim| if b.pick(0, 3) == 0 { 1 } else { dim }).collect();
        let turned = b.pick(0, 2) == 0;
        shape.extend(if turned { [cols, rows] } else { [rows, cols] });
        let x = if b.pick(0, 5) == 0 {
            let scale = b.scale();
            b.data(&shape, scale, -7)
        } else {
            b.input(&shape)
        };
        if turned {
            let last = shape.len() - 1;
            let mut perm: Vec<usize> = (0..=last).collect();
            perm.swap(last - 1, last);
            transposed(b, x, perm)
        } else {
            x
        }
    };
    let x = operand(&mut b, m, k);
    let y = operand(&mut b, k, n);
    let z = pair(&mut b, x, y);
    b.finish(&[z])
}

fn pair(b: &mut Builder, x: ValueId, y: ValueId) -> ValueId {
    let shapes = [x, y].map(|id| b.graph.value(id).shape.clone());
    let shape = infer(&Op::BatchMatMul, &[&shapes[0], &shapes[1]], None).unwrap().remove(0);
    let [x_scale, y_scale] = [x, y].map(|id| b.graph.value(id).quant.as_ref().unwrap().scale_of(0));
    let (dtype, mut quant) = b.activation();
    // Results neither all saturate nor vanish.
    let steps = x_scale * y_scale * b.widening([x, y], dtype);
    quant.scale[0] = steps * (*shapes[0].last().unwrap() as f32).sqrt() * b.pick(20, 200) as f32;
    b.node(Op::BatchMatMul, &[x, y], &shape, dtype, Some(quant))
}

fn transposed(b: &mut Builder, x: ValueId, perm: Vec<usize>) -> ValueId {
    let value = b.graph.value(x).clone();
    let shape: Vec<usize> = perm.iter().map(|&axis| value.shape[axis]).collect();
    b.node(Op::Transpose { perm }, &[x], &shape, value.dtype, value.quant)
}

/// An attention block: projections, heads, scores with scale and mask, softmax, values, projection, residual.
pub fn attention(mut b: Builder) -> Graph<Quantized> {
    let [n, t, heads, depth] = [size(&mut b, 1, 2), size(&mut b, 2, 12), size(&mut b, 1, 4), size(&mut b, 1, 9)];
    let x = b.input(&[n, t, heads * depth]);
    let split = |b: &mut Builder, perm: &[usize]| {
        let projected = b.matmul(x, heads * depth);
        let value = b.graph.value(projected).clone();
        let split = b.node(Op::Reshape, &[projected], &[n, t, heads, depth], value.dtype, value.quant);
        transposed(b, split, perm.to_vec())
    };
    let q = split(&mut b, &[0, 2, 1, 3]);
    let k = split(&mut b, &[0, 2, 3, 1]);
    let v = split(&mut b, &[0, 2, 1, 3]);
    let scores = pair(&mut b, q, k);
    let shape = [n, heads, t, t];
    let own = |b: &mut Builder, op: Op, inputs: &[ValueId]| {
        let (dtype, quant) = b.activation();
        b.node(op, inputs, &shape, dtype, Some(quant))
    };
    let scale = b.scale();
    let dtype = b.data_type();
    let (_, largest) = dtype.int_range().unwrap();
    let factor = b.constant(&[], dtype, Some(Quantization::per_tensor(scale, 0)), largest, largest);
    let scaled = own(&mut b, Op::Mul, &[scores, factor]);
    let mask = b.data(&[1, 1, t, t], scale, 3);
    let masked = own(&mut b, Op::Add { activation: Activation::None }, &[scaled, mask]);
    let weights = own(&mut b, Op::Softmax { axis: 3 }, &[masked]);
    let mixed = pair(&mut b, weights, v);
    let mixed = transposed(&mut b, mixed, vec![0, 2, 1, 3]);
    let value = b.graph.value(mixed).clone();
    let joined = b.node(Op::Reshape, &[mixed], &[n, t, heads * depth], value.dtype, value.quant);
    let projected = b.matmul(joined, heads * depth);
    let (dtype, quant) = b.activation();
    let add = Op::Add { activation: Activation::None };
    let y = b.node(add, &[x, projected], &[n, t, heads * depth], dtype, Some(quant));
    b.finish(&[y])
}

fn image(b: &mut Builder) -> Vec<usize> {
    vec![size(b, 1, 3), size(b, 1, 30), size(b, 1, 8), size(b, 1, 8)]
}

fn binary(mut b: Builder) -> Graph<Quantized> {
    let shape = image(&mut b);
    let x = b.input(&shape);
    let op = match b.pick(0, 4) {
        0 => Op::Add { activation: Activation::None },
        1 => Op::Mul,
        2 => Op::Min,
        3 => Op::Max,
        _ => Op::PRelu,
    };
    let other = match b.pick(0, 2) {
        0 => b.input(&shape),
        1 => b.input(&[shape[0], shape[1], 1, 1]),
        _ => {
            let scale = b.scale();
            b.data(&[shape[1], 1, 1], scale, 3)
        }
    };
    let (dtype, quant) = b.activation();
    let y = b.node(op, &[x, other], &shape, dtype, Some(quant));
    b.finish(&[y])
}

fn pool(mut b: Builder) -> Graph<Quantized> {
    let shape = image(&mut b);
    let x = b.input(&shape);
    let input = b.graph.value(x).clone();
    let kind = b.pick(0, 3);
    if kind == 3 {
        let y = b.node(Op::GlobalMaxPool, &[x], &[shape[0], shape[1], 1, 1], input.dtype, input.quant);
        return b.finish(&[y]);
    }
    if kind == 2 {
        let (dtype, quant) = b.activation();
        let y = b.node(Op::GlobalAvgPool, &[x], &[shape[0], shape[1], 1, 1], dtype, Some(quant));
        return b.finish(&[y]);
    }
    // A pool's padding is smaller than its kernel, so that every window sees an element.
    let window = loop {
        let mut window = window(&mut b, shape[2], shape[3]);
        window.dilation = [1, 1];
        let smaller = (0..4).all(|side| window.pad[side] < window.kernel[side % 2]);
        if smaller && window.output(0, shape[2]).is_some() && window.output(1, shape[3]).is_some() {
            break window;
        }
    };
    let out = [shape[0], shape[1], window.output(0, shape[2]).unwrap(), window.output(1, shape[3]).unwrap()];
    let y = if kind == 0 {
        b.node(Op::MaxPool { window }, &[x], &out, input.dtype, input.quant)
    } else {
        let (dtype, quant) = b.activation();
        let count_include_pad = b.pick(0, 1) == 1;
        b.node(Op::AvgPool { window, count_include_pad }, &[x], &out, dtype, Some(quant))
    };
    b.finish(&[y])
}

fn table(mut b: Builder) -> Graph<Quantized> {
    let shape = image(&mut b);
    let x = b.input(&shape);
    let (dtype, quant) = b.activation();
    let op = match b.pick(0, 8) {
        0 => Op::Relu,
        1 => Op::LeakyRelu { alpha: 0.1 },
        2 => Op::Clip { low: -0.5, high: 2.0 },
        3 => Op::Sigmoid,
        4 => Op::Tanh,
        5 => Op::HardSigmoid { alpha: 0.2, beta: 0.5 },
        6 => Op::Elu { alpha: 0.7 },
        7 => Op::Affine { alpha: -0.7, beta: 0.3 },
        _ => Op::HardSwish,
    };
    let y = b.node(op, &[x], &shape, dtype, Some(quant));
    b.finish(&[y])
}

fn concat(mut b: Builder) -> Graph<Quantized> {
    let mut shape = image(&mut b);
    let (dtype, quant) = b.activation();
    let mut parts: Vec<ValueId> = Vec::new();
    let mut channels = 0;
    for _ in 0..b.pick(2, 4) {
        shape[1] = size(&mut b, 1, 12);
        channels += shape[1];
        let x = b.input(&shape);
        // Some operands are made by a layer and have the result's numbers, so that they are written in place.
        let part = if b.pick(0, 1) == 0 { b.node(Op::Relu, &[x], &shape, dtype, Some(quant.clone())) } else { x };
        parts.push(part);
    }
    shape[1] = channels;
    let y = b.node(Op::Concat { axis: 1 }, &parts, &shape, dtype, Some(quant));
    b.finish(&[y])
}

fn softmax(mut b: Builder) -> Graph<Quantized> {
    let shape = [size(&mut b, 1, 5), size(&mut b, 1, 60)];
    let x = b.input(&shape);
    let dtype = b.types.activations[0];
    let quant = Quantization::per_tensor(1.0 / (1_u64 << dtype.bits()) as f32, 0);
    let y = b.node(Op::Softmax { axis: 1 }, &[x], &shape, dtype, Some(quant));
    b.finish(&[y])
}

/// A small network with every kind of connection: convolution, depthwise, residual, branches, pooling, flattening, fully
/// connected.
pub fn small_network(seed: u64) -> Graph<Quantized> {
    network_of(seed, OperandTypes::BYTES)
}

/// The same of other types.
pub fn network_of(seed: u64, types: OperandTypes) -> Graph<Quantized> {
    let mut b = Builder::of(seed, types);
    let (h, w) = (size(&mut b, 4, 9), size(&mut b, 4, 9));
    let n = size(&mut b, 1, 2);
    let channels = size(&mut b, 2, 20);
    let three = Window { kernel: [3, 3], pad: [1; 4], ..Window::UNIT };
    let inputs = size(&mut b, 1, 4);
    let x = b.input(&[n, inputs, h, w]);
    let stem = b.conv(x, channels, 1, three);
    let depthwise = b.conv(stem, channels, channels, three);
    let branch = b.conv(depthwise, channels, 1, Window::UNIT);
    let (dtype, quant) = b.activation();
    let sum =
        b.node(Op::Add { activation: Activation::Relu }, &[stem, branch], &[n, channels, h, w], dtype, Some(quant));
    let value = b.graph.value(sum).clone();
    let pool = Window { kernel: [2, 2], stride: [2, 2], ..Window::UNIT };
    let (p, q) = (pool.output(0, h).unwrap(), pool.output(1, w).unwrap());
    let pooled = b.node(Op::MaxPool { window: pool }, &[sum], &[n, channels, p, q], value.dtype, value.quant);
    let left = b.conv(pooled, channels, 1, Window::UNIT);
    let right = b.conv(pooled, channels + 3, 1, three);
    let (dtype, quant) = b.activation();
    let both = b.node(Op::Concat { axis: 1 }, &[left, right], &[n, 2 * channels + 3, p, q], dtype, Some(quant));
    let (dtype, quant) = b.activation();
    let mean = b.node(Op::GlobalAvgPool, &[both], &[n, 2 * channels + 3, 1, 1], dtype, Some(quant.clone()));
    let flat = b.node(Op::Reshape, &[mean], &[n, 2 * channels + 3], dtype, Some(quant));
    let y = b.matmul(flat, 10);
    b.finish(&[y])
}
