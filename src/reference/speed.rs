//! Host speed of the reference, on layers of the shapes that matter. Ignored by default; the harness tells the time:
//!
//! `cargo test --release --lib reference::speed -- --ignored --test-threads 1`

use rand::{Rng, SeedableRng};
use rand_chacha::ChaCha8Rng;

use super::{Keep, Settings, run};
use crate::{
    ir::{Activation, Constant, Graph, Node, Op, Quantized, Value, Window},
    tensor::{DType, Quantization, Tensor},
};

/// Runs a quantized convolution of each `(c, size, o, kernel, stride, groups, count)` `count` times, as a chain of
/// graphs of one node; returns the multiply-accumulates.
fn convolve(layers: &[(usize, usize, usize, usize, usize, usize, usize)], batch: usize) -> u64 {
    let mut random = ChaCha8Rng::seed_from_u64(7);
    let mut macs = 0;
    for &(c, size, o, kernel, stride, groups, count) in layers {
        let mut graph = Graph::<Quantized>::new("layer");
        let pad = (kernel - 1) / 2;
        let window = Window { kernel: [kernel; 2], stride: [stride; 2], dilation: [1, 1], pad: [pad; 4] };
        let out = window.output(0, size).unwrap();
        let mut value = |name: &str, dtype, shape: &[usize], quant, fill: Option<(i64, i64)>| {
            let tensor = fill.map(|(low, high)| {
                let elements: Vec<i64> = (0..shape.iter().product()).map(|_| random.random_range(low..=high)).collect();
                Tensor::from_integers(dtype, shape, &elements).unwrap()
            });
            let constant = tensor.map(|tensor| Constant::Dense(tensor.into()));
            graph.add_value(Value { name: name.into(), shape: shape.to_vec(), dtype, quant, constant })
        };
        let quant = |scale, zero| Some(Quantization::per_tensor(scale, zero));
        let weights = Quantization { scale: vec![0.01; o], zero_point: vec![0; o], axis: Some(0) };
        let x = value("x", DType::UInt8, &[batch, c, size, size], quant(0.02, 3), None);
        let w = value("w", DType::Int8, &[o, c / groups, kernel, kernel], Some(weights), Some((-60, 60)));
        let b = value("b", DType::Int32, &[o], quant(0.0002, 0), Some((-9999, 9999)));
        let y = value("y", DType::UInt8, &[batch, o, out, out], quant(0.1, 0), None);
        let op = Op::Conv { window, groups, activation: Activation::Relu };
        graph.add_node(Node { name: "conv".into(), op, inputs: vec![x, w, b], outputs: vec![y] });
        graph.inputs.push(x);
        graph.outputs.push(y);
        let elements: Vec<i64> = (0..batch * c * size * size).map(|_| random.random_range(0..=255)).collect();
        let input = Tensor::from_integers(DType::UInt8, &[batch, c, size, size], &elements).unwrap();
        for _ in 0..count {
            let outputs =
                run(&graph, std::slice::from_ref(&input), &Settings::default(), Keep::Outputs, &|_| None).unwrap();
            assert!(outputs.value(y).is_some());
            macs += (batch * out * out * o * c / groups * kernel * kernel) as u64;
        }
    }
    macs
}

/// The convolutions of ResNet-50 at 224x224.
const RESNET50: [(usize, usize, usize, usize, usize, usize, usize); 24] = [
    (3, 224, 64, 7, 2, 1, 1),
    (64, 56, 64, 1, 1, 1, 1),
    (64, 56, 64, 3, 1, 1, 3),
    (64, 56, 256, 1, 1, 1, 4),
    (256, 56, 64, 1, 1, 1, 2),
    (256, 56, 128, 1, 1, 1, 1),
    (128, 56, 128, 3, 2, 1, 1),
    (256, 56, 512, 1, 2, 1, 1),
    (128, 28, 512, 1, 1, 1, 4),
    (512, 28, 128, 1, 1, 1, 3),
    (128, 28, 128, 3, 1, 1, 3),
    (512, 28, 256, 1, 1, 1, 1),
    (256, 28, 256, 3, 2, 1, 1),
    (512, 28, 1024, 1, 2, 1, 1),
    (256, 14, 1024, 1, 1, 1, 6),
    (1024, 14, 256, 1, 1, 1, 5),
    (256, 14, 256, 3, 1, 1, 5),
    (1024, 14, 512, 1, 1, 1, 1),
    (512, 14, 512, 3, 2, 1, 1),
    (1024, 14, 2048, 1, 2, 1, 1),
    (512, 7, 2048, 1, 1, 1, 3),
    (2048, 7, 512, 1, 1, 1, 2),
    (512, 7, 512, 3, 1, 1, 2),
    (2048, 1, 1000, 1, 1, 1, 1),
];

#[test]
#[ignore = "measures host speed"]
fn ten_times_the_convolutions_of_resnet50() {
    let macs: u64 = (0..10).map(|_| convolve(&RESNET50, 1)).sum();
    assert!((40.0e9..42.0e9).contains(&(macs as f64)), "{macs}");
}

#[test]
#[ignore = "measures host speed"]
fn ten_times_the_depthwise_layers_of_mobilenet() {
    let layers = [
        (32, 112, 32, 3, 1, 32, 1),
        (96, 112, 96, 3, 2, 96, 1),
        (144, 56, 144, 3, 1, 144, 3),
        (576, 14, 576, 3, 1, 576, 5),
    ];
    assert!((0..10).map(|_| convolve(&layers, 1)).sum::<u64>() > 100_000_000);
}

#[test]
#[ignore = "measures host speed"]
fn five_hundred_small_images() {
    let layers =
        [(1, 28, 16, 3, 1, 1, 1), (16, 28, 16, 3, 1, 16, 1), (16, 28, 32, 1, 1, 1, 1), (32, 14, 32, 3, 1, 1, 1)];
    assert!(convolve(&layers, 500) > 1_000_000_000);
}
