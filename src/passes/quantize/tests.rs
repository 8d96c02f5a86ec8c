//! Whole runs of `simplify` and `quantize` on small graphs.

use proptest::prelude::*;

use super::*;
use crate::{
    ir::{
        Activation, Constant, Distribution, Stage, Synthetic, Window,
        verify::{verify, verify_quantized},
    },
    passes::{
        simplify,
        testing::{Builder, check, conv, difference, evaluate, listing, numbers},
    },
    tensor::Quantization,
};

const FULL: Capabilities = Capabilities {
    zero_points: true,
    per_channel: true,
    activation: DType::Int8,
    weight: DType::Int8,
    requantizer_is_f32: true,
};
const PLAIN: Capabilities = Capabilities { zero_points: false, per_channel: false, ..FULL };
const ADD: Op = Op::Add { activation: Activation::None };
const MATMUL: Op = Op::MatMul { transposed: false, activation: Activation::None };

/// Ranges from evaluating every value on some data.
fn observed(graph: &Graph<Float>, data: &[Vec<f32>]) -> Ranges {
    let mut all = graph.clone();
    all.outputs = (0_u32..).map(ValueId).take(all.values.len()).collect();
    let mut ranges = Ranges::new(0);
    for (id, values) in all.outputs.iter().zip(evaluate(&all, data)) {
        for value in values {
            #[allow(clippy::cast_possible_truncation)]
            let value = value as f32;
            ranges.observe(*id, value, value);
        }
    }
    ranges
}

/// Every operator is integer or listed as the host's, and operators that keep parameters do.
fn check_quantized(graph: &Graph<Quantized>) {
    check(graph);
    verify_quantized(graph).unwrap();
    for node in &graph.nodes {
        let quant = |id: &ValueId| graph.value(*id).quant.clone();
        match node.op {
            Op::QuantizeLinear => assert!(quant(&node.inputs[0]).is_none() && quant(&node.outputs[0]).is_some()),
            Op::DequantizeLinear => assert!(quant(&node.inputs[0]).is_some() && quant(&node.outputs[0]).is_none()),
            _ => {
                let bias = |id: &&ValueId| graph.value(**id).dtype == DType::Int32;
                let all = node.inputs.iter().chain(&node.outputs).filter(|id| !bias(id));
                let integer = all.clone().filter(|id| quant(id).is_some()).count();
                assert!(integer == 0 || integer == all.count(), "{} mixes floats and integers", node.name);
            }
        }
        if matches!(node.op, Op::MaxPool { .. } | Op::Reshape | Op::Transpose { .. } | Op::Pad { .. }) {
            assert_eq!(quant(&node.inputs[0]), quant(&node.outputs[0]), "{}", node.name);
        }
        assert!(!matches!(node.op, Op::BatchNorm { .. }), "{}", node.name);
    }
}

fn ops<S: Stage>(graph: &Graph<S>) -> Vec<&'static str> {
    graph.nodes.iter().map(|node| node.op.name()).collect()
}

/// Input, convolution, batch norm, Relu, pool, flatten, matrix product, with the training framework's clutter.
fn small_network() -> Builder {
    let mut build = Builder::new();
    let x = build.input(&[1, 2, 6, 6]);
    let pad = Op::Pad { before: vec![0, 0, 1, 1], after: vec![0, 0, 1, 1], value: 0.0 };
    let p = build.node("pad", pad, &[x], &[1, 2, 8, 8]);
    let w = build.constant(&[4, 2, 3, 3], numbers(72, 1));
    let window = Window { kernel: [3, 3], stride: [1, 1], dilation: [1, 1], pad: [0; 4] };
    let y = build.node("conv", conv(window, 1), &[p, w], &[1, 4, 6, 6]);
    let parameters: Vec<ValueId> = [(1.0, 2), (0.0, 3), (0.0, 4), (1.5, 5)]
        .map(|(offset, seed)| build.constant(&[4], numbers(4, seed).into_iter().map(|v| v * 0.5 + offset).collect()))
        .to_vec();
    let inputs: Vec<ValueId> = std::iter::once(y).chain(parameters).collect();
    let y = build.node("bn", Op::BatchNorm { epsilon: 1e-5 }, &inputs, &[1, 4, 6, 6]);
    let y = build.node("relu", Op::Relu, &[y], &[1, 4, 6, 6]);
    let pool = Window { kernel: [2, 2], stride: [2, 2], dilation: [1, 1], pad: [0; 4] };
    let y = build.node("pool", Op::MaxPool { window: pool }, &[y], &[1, 4, 3, 3]);
    let y = build.node("flat", Op::Reshape, &[y], &[1, 36]);
    let w = build.constant(&[36, 5], numbers(180, 6));
    let y = build.node("fc", MATMUL, &[y, w], &[1, 5]);
    let b = build.constant(&[5], numbers(5, 7));
    let y = build.node("bias", ADD, &[y, b], &[1, 5]);
    build.output(y);
    build
}

#[test]
fn a_float_network_is_simplified_and_quantized_for_each_machine() {
    let float = small_network().graph;
    let data = [numbers(72, 9)];
    let (simple, log) = simplify(float.clone()).unwrap();
    check(&simple);
    assert_eq!(ops(&simple), ["Conv", "MaxPool", "Conv", "Reshape"]);
    assert!(log.iter().any(|line| line == "fold-affine-after: 2 changes"), "{log:?}");
    assert!(difference(&evaluate(&float, &data), &evaluate(&simple, &data)) < 1e-6);

    let ranges = observed(&simple, &data);
    for (machine, activation) in [(FULL, DType::UInt8), (PLAIN, DType::Int8)] {
        let made = quantize(&simple, &ranges, &machine, false).unwrap();
        assert_eq!(made.arithmetic, Arithmetic::Machine);
        check_quantized(&made.graph);
        let names = ["QuantizeLinear", "Conv", "MaxPool", "Conv", "Reshape", "DequantizeLinear"];
        assert_eq!(ops(&made.graph), names);
        let conv = &made.graph.nodes[1];
        assert_eq!(made.graph.value(conv.outputs[0]).dtype, activation);
        assert_eq!(
            made.graph.value(conv.inputs[1]).quant.as_ref().unwrap().scale.len(),
            if machine.per_channel { 4 } else { 1 }
        );
        assert_eq!(made.graph.value(conv.inputs[2]).dtype, DType::Int32);
        assert_eq!(made.graph.value(made.graph.outputs[0]).name, "bias:0");
        assert!(difference(&evaluate(&float, &data), &evaluate(&made.graph, &data)) < 0.02);
    }
}

#[test]
fn ranges_that_are_missing_are_counted_in_one_fault() {
    let (simple, _) = simplify(small_network().graph).unwrap();
    let faults = quantize(&simple, &Ranges::default(), &FULL, false).unwrap_err();
    assert_eq!(faults.0.len(), 1);
    assert_eq!(faults.0[0].message, "no observed range for 3 values, first `in0`");
}

#[test]
fn softmax_has_fixed_parameters_and_host_operators_stay_float() {
    let mut build = Builder::new();
    let a = build.input(&[1, 4]);
    let b = build.input(&[1, 4]);
    let y = build.node("sub", Op::Sub, &[a, b], &[1, 4]);
    let z = build.node("softmax", Op::Softmax { axis: 1 }, &[y], &[1, 4]);
    build.output(z);
    let mut ranges = Ranges::default();
    ranges.observe(y, -1.0, 1.55);
    let made = quantize(&build.graph, &ranges, &FULL, false).unwrap();
    check_quantized(&made.graph);
    assert_eq!(
        listing(&made.graph),
        "sub Sub: Fp32[1, 4] Fp32[1, 4] -> Fp32[1, 4]\n\
         sub:0.quantize QuantizeLinear: Fp32[1, 4] -> UInt8(0.01, 100)[1, 4]\n\
         softmax Softmax: UInt8(0.01, 100)[1, 4] -> UInt8(0.00390625, 0)[1, 4]\n\
         softmax:0.dequantize DequantizeLinear: UInt8(0.00390625, 0)[1, 4] -> Fp32[1, 4]\n"
    );
    assert!(made.log.iter().any(|line| line.contains("1 float operators stay on the host: Sub")), "{:?}", made.log);
}

#[test]
fn an_elementwise_constant_becomes_an_integer_constant() {
    let mut build = Builder::new();
    let x = build.input(&[1, 2]);
    let c = build.constant(&[1, 2], vec![0.0, 2.55]);
    let y = build.node("mul", Op::Mul, &[x, c], &[1, 2]);
    build.output(y);
    let mut ranges = Ranges::default();
    ranges.observe(x, 0.0, 1.0);
    ranges.observe(y, 0.0, 2.55);
    let made = quantize(&build.graph, &ranges, &FULL, false).unwrap();
    check_quantized(&made.graph);
    let mul = made.graph.nodes.iter().find(|node| node.name == "mul").unwrap();
    let Some(Constant::Dense(tensor)) = &made.graph.value(mul.inputs[1]).constant else { panic!("dense") };
    assert_eq!(tensor.to_integers().unwrap(), [0, 255]);
}

/// A quantized convolution and sum as an importer of `QOperator` models makes them.
fn quantized_model(zero: i32, channels: usize) -> Builder {
    let mut build = Builder::new();
    let x = build.value("x", &[1, 2, 3, 3], DType::UInt8, Some(Quantization::per_tensor(0.5, zero)));
    build.graph.inputs.push(x);
    let scale: Vec<f32> = [0.5, 0.25, 0.125, 0.5].into_iter().take(channels).collect();
    let quant = Quantization { zero_point: vec![0; channels], scale, axis: (channels > 1).then_some(0) };
    let w = build.integers(DType::Int8, &[4, 2, 1, 1], &[100, -50, 3, 4, 127, 6, -128, 8], Some(quant));
    let b = build.integers(DType::Int32, &[4], &[1000, -100, 10, 7], None);
    let output = Some(Quantization::per_tensor(2.0, zero));
    let y = build.node_as("conv", conv(Window::UNIT, 1), &[x, w, b], &[1, 4, 3, 3], DType::UInt8, output.clone());
    let z = build.node_as("add", ADD, &[y, y], &[1, 4, 3, 3], DType::UInt8, output);
    build.output(z);
    build
}

#[test]
fn a_quantized_model_is_taken_to_the_bit() {
    let graph = quantized_model(3, 4).graph;
    let (simple, _) = simplify(graph.clone()).unwrap();
    let made = quantize(&simple, &Ranges::default(), &FULL, false).unwrap();
    assert_eq!(made.arithmetic, Arithmetic::AsModel);
    check_quantized(&made.graph);
    assert_eq!(listing(&made.graph), listing(&graph).replace("Int32[4]", "Int32(x4)[4]"));
    for (before, after) in graph.values.iter().zip(&made.graph.values) {
        let integers = |value: &Value| match &value.constant {
            Some(Constant::Dense(tensor)) => tensor.to_integers(),
            _ => None,
        };
        assert_eq!(integers(before), integers(after));
    }
    let bias = made.graph.value(made.graph.nodes[0].inputs[2]);
    assert_eq!(bias.quant.as_ref().unwrap().scale, [0.25, 0.125, 0.0625, 0.25]);
}

#[test]
fn a_machine_without_zero_points_or_channel_scales_refuses_a_model_with_them() {
    let faults = quantize(&quantized_model(3, 4).graph, &Ranges::default(), &PLAIN, false).unwrap_err();
    assert_eq!(faults.0.len(), 2);
    let message = "the model uses zero points, which the machine does not have, in 2 nodes, first `conv`, `add`";
    assert_eq!(faults.0[0].message, message);
    let message = "the model uses a scale for each channel, which the machine does not have, in 1 node, first `conv`";
    assert_eq!(faults.0[1].message, message);
    for fault in faults.0 {
        assert!(fault.help.unwrap().contains("`--requantize`"));
    }
    let made = quantize(&quantized_model(0, 1).graph, &Ranges::default(), &PLAIN, false).unwrap();
    assert_eq!(made.arithmetic, Arithmetic::AsModel);
}

#[test]
fn a_float_network_wants_ranges_whatever_its_operators() {
    let mut build = Builder::new();
    let x = build.input(&[1, 2, 3, 3]);
    let y = build.node("relu", Op::Relu, &[x], &[1, 2, 3, 3]);
    build.output(y);
    assert!(wants_ranges(&build.graph));
    assert!(!wants_ranges(&quantized_model(3, 4).graph));
    // The float tail of a quantized model stays on the host.
    let mut build = quantized_model(3, 4);
    let sum = build.graph.outputs[0];
    let tail = build.node("dequantized", Op::DequantizeLinear, &[sum], &[1, 4, 3, 3]);
    let tail = build.node("tail", Op::Relu, &[tail], &[1, 4, 3, 3]);
    build.graph.outputs = vec![tail];
    assert!(!wants_ranges(&build.graph));
}

#[test]
fn an_activation_with_a_scale_for_each_channel_is_a_fault_of_the_model() {
    let mut build = quantized_model(0, 1);
    let sum = build.graph.nodes[1].outputs[0];
    build.graph.value_mut(sum).quant =
        Some(Quantization { scale: vec![2.0, 1.0, 2.0, 1.0], zero_point: vec![0; 4], axis: Some(1) });
    let faults = quantize(&build.graph, &Ranges::default(), &FULL, false).unwrap_err();
    assert_eq!(faults.0.len(), 1);
    assert_eq!(faults.0[0].message, "an activation has 4 scales, expected one for the tensor");
    assert_eq!(faults.0[0].path.as_deref(), Some("value \"add:0\""));
}

#[test]
fn equal_channel_scales_are_one_scale() {
    let mut build = quantized_model(0, 4);
    let w = build.graph.nodes[0].inputs[1];
    build.graph.value_mut(w).quant.as_mut().unwrap().scale = vec![0.5; 4];
    let made = quantize(&build.graph, &Ranges::default(), &PLAIN, false).unwrap();
    assert_eq!(made.arithmetic, Arithmetic::AsModel);
    assert!(made.graph.value(made.graph.nodes[0].inputs[1]).quant.as_ref().unwrap().is_per_tensor());
}

#[test]
fn requantization_gives_the_machine_what_it_can_and_keeps_the_interface() {
    for zero in [3, 128] {
        let mut graph = quantized_model(zero, 4).graph;
        // The evaluator needs the bias's parameters.
        let bias = graph.nodes[0].inputs[2];
        let scale = vec![0.25, 0.125, 0.0625, 0.25];
        graph.value_mut(bias).quant = Some(Quantization { scale, zero_point: vec![0; 4], axis: Some(0) });
        let made = quantize(&graph, &Ranges::default(), &PLAIN, true).unwrap();
        assert_eq!(made.arithmetic, Arithmetic::Machine);
        check_quantized(&made.graph);
        let names = ["DequantizeLinear", "QuantizeLinear", "Conv", "Add", "DequantizeLinear", "QuantizeLinear"];
        assert_eq!(ops(&made.graph), names);
        for id in made.graph.inputs.iter().chain(&made.graph.outputs) {
            let value = made.graph.value(*id);
            assert_eq!((value.dtype, value.quant.as_ref().unwrap().zero_point[0]), (DType::UInt8, zero));
        }
        let conv = &made.graph.nodes[2];
        for id in [conv.inputs[0], conv.inputs[1], conv.outputs[0]] {
            let value = made.graph.value(id);
            assert_eq!(value.dtype, DType::Int8);
            assert!(value.quant.as_ref().unwrap().is_symmetric() && value.quant.as_ref().unwrap().is_per_tensor());
        }
        let scale = made.graph.value(conv.inputs[0]).quant.as_ref().unwrap().scale[0];
        assert!((scale - if zero == 128 { 0.5 } else { 252.0 * 0.5 / 127.0 }).abs() < 1e-6);
        let data = [numbers(18, 3)];
        assert!(difference(&evaluate(&graph, &data), &evaluate(&made.graph, &data)) < 0.01);
    }
}

#[test]
fn a_relu_that_a_zero_point_implied_is_explicit_after_requantization() {
    let mut build = Builder::new();
    let quant = |scale, zero| Some(Quantization::per_tensor(scale, zero));
    let x = build.value("x", &[1, 2, 3, 3], DType::Int8, quant(0.1, 0));
    build.graph.inputs.push(x);
    let w = build.integers(DType::Int8, &[2, 2, 1, 1], &[100, -50, -30, 4], quant(0.01, 0));
    let y = build.node_as("conv", conv(Window::UNIT, 1), &[x, w], &[1, 2, 3, 3], DType::UInt8, quant(0.01, 0));
    let z = build.node_as("mul", Op::Mul, &[x, y], &[1, 2, 3, 3], DType::Int8, quant(0.5, -128));
    let v = build.node_as("add", ADD, &[z, y], &[1, 2, 3, 3], DType::UInt8, quant(0.5, 55));
    build.output(v);
    let made = quantize(&build.graph, &Ranges::default(), &PLAIN, true).unwrap();
    check_quantized(&made.graph);
    assert_eq!(ops(&made.graph), ["Conv", "Mul", "Relu", "Add", "DequantizeLinear", "QuantizeLinear"]);
    let activation = |index: usize| crate::passes::work::activation_of(&made.graph.nodes[index].op);
    assert_eq!(activation(0), Some(Activation::Relu));
    assert_eq!(activation(3), Some(Activation::Clip { low: -27.5, high: 100.0 }));
}

#[test]
fn only_per_channel_scales_are_merged_where_zero_points_are_there() {
    let graph = quantized_model(3, 4).graph;
    let machine = Capabilities { per_channel: false, ..FULL };
    let made = quantize(&graph, &Ranges::default(), &machine, true).unwrap();
    assert_eq!(ops(&made.graph), ["Conv", "Add"]);
    let conv = &made.graph.nodes[0];
    let integers = |place: usize| match &made.graph.value(conv.inputs[place]).constant {
        Some(Constant::Dense(tensor)) => tensor.to_integers().unwrap(),
        _ => panic!("dense"),
    };
    assert_eq!(integers(1), [100, -50, 2, 2, 32, 2, -128, 8]);
    assert_eq!(integers(2), [1000, -50, 2, 7]);
}

#[test]
fn synthetic_weights_are_never_made() {
    let mut build = quantized_model(3, 4);
    for (place, limit) in [(1, 20), (2, 4000)] {
        let id = build.graph.nodes[0].inputs[place];
        let distribution = Distribution::Normal { sigma: 5.0, limit };
        build.graph.value_mut(id).constant = Some(Constant::Synthetic(Synthetic { seed: 4, distribution }));
    }
    let (simple, _) = simplify(build.graph).unwrap();
    assert!(quantize(&simple, &Ranges::default(), &FULL, false).is_ok());
    let made = quantize(&simple, &Ranges::default(), &PLAIN, true).unwrap();
    let conv = made.graph.nodes.iter().find(|node| node.name == "conv").unwrap();
    let weight = made.graph.value(conv.inputs[1]);
    assert_eq!(weight.quant.as_ref().unwrap().scale, [0.5]);
    assert!(matches!(weight.constant, Some(Constant::Synthetic(_))));
}

#[test]
fn a_float_tail_of_a_quantized_model_stays_on_the_host() {
    let mut build = quantized_model(3, 4);
    let z = build.graph.outputs.pop().unwrap();
    let f = build.node("dq", Op::DequantizeLinear, &[z], &[1, 4, 3, 3]);
    let f = build.node("softmax", Op::Softmax { axis: 1 }, &[f], &[1, 4, 3, 3]);
    build.output(f);
    let made = quantize(&build.graph, &Ranges::default(), &PLAIN, true).unwrap();
    assert_eq!(ops(&made.graph)[2..], ["Conv", "Add", "DequantizeLinear", "Softmax"]);
    let made = quantize(&build.graph, &Ranges::default(), &FULL, false).unwrap();
    assert_eq!(made.arithmetic, Arithmetic::AsModel);
}

#[test]
fn float_operators_between_the_integers_of_a_quantized_model_stay_on_the_host() {
    let mut build = quantized_model(3, 4);
    let z = build.graph.outputs.pop().unwrap();
    let f = build.node("dq", Op::DequantizeLinear, &[z], &[1, 4, 3, 3]);
    let f = build.node("tanh", Op::Tanh, &[f], &[1, 4, 3, 3]);
    let f = build.node("mean", Op::GlobalAvgPool, &[f], &[1, 4, 1, 1]);
    let f = build.qdq("mean", f, DType::UInt8, Quantization::per_tensor(0.01, 7));
    build.output(f);
    let made = quantize(&build.graph, &Ranges::default(), &FULL, false).unwrap();
    check_quantized(&made.graph);
    assert_eq!(made.arithmetic, Arithmetic::AsModel);
    assert!(made.log.iter().any(|line| line.contains("GlobalAvgPool, Tanh")), "{:?}", made.log);
}

/// `op` between the scales of the model, and nothing else: its second operand is another activation, or a float constant.
fn lone_operator(op: Op, activation: bool) -> Prepared {
    let mut build = Builder::new();
    let x = build.input(&[1, 2, 3, 3]);
    let x = build.qdq("x", x, DType::UInt8, Quantization::per_tensor(0.5, 3));
    let channels = if matches!(op, Op::BatchNorm { .. }) { vec![2] } else { vec![2, 1, 1] };
    let mut inputs = vec![x];
    if activation {
        let z = build.input(&[1, 2, 3, 3]);
        inputs.push(build.qdq("z", z, DType::UInt8, Quantization::per_tensor(0.125, 7)));
    } else {
        inputs.push(build.constant(&channels, vec![0.3, 1.7]));
    }
    if matches!(op, Op::BatchNorm { .. }) {
        inputs.extend([0.1, 0.2, 1.5].map(|value| build.constant(&channels, vec![value; 2])));
    }
    let y = build.node("lone", op, &inputs, &[1, 2, 3, 3]);
    let y = build.qdq("y", y, DType::UInt8, Quantization::per_tensor(0.25, 9));
    build.output(y);
    let (simple, _) = simplify(build.graph).unwrap();
    assert!(!wants_ranges(&simple));
    let made = quantize(&simple, &Ranges::default(), &FULL, false).unwrap();
    check_quantized(&made.graph);
    made
}

#[test]
fn an_operator_between_scales_of_the_model_keeps_them_where_nothing_else_is_quantized() {
    let ends = ["QuantizeLinear", "DequantizeLinear"];
    for op in [ADD, Op::Mul] {
        let made = lone_operator(op.clone(), true);
        assert_eq!(ops(&made.graph), ["QuantizeLinear", "QuantizeLinear", op.name(), "DequantizeLinear"]);
        let result = made.graph.value(made.graph.nodes[2].outputs[0]);
        assert_eq!(result.quant, Some(Quantization::per_tensor(0.25, 9)));
        assert_eq!(made.arithmetic, Arithmetic::AsModel);
    }
    // The runtime computes these in float: so does the host, between the model's scales.
    for op in [ADD, Op::Mul, Op::Sub, Op::Div, Op::BatchNorm { epsilon: 1e-3 }] {
        let made = lone_operator(op.clone(), false);
        let inner = if matches!(op, Op::BatchNorm { .. }) { vec!["Mul", "Add"] } else { vec![op.name()] };
        assert_eq!(ops(&made.graph), [&ends[..], &inner, &ends].concat());
        let scales = made.graph.values.iter().filter_map(|value| value.quant.as_ref()).map(|quant| quant.scale[0]);
        assert_eq!(scales.collect::<Vec<_>>(), [0.5, 0.25]);
        assert_eq!(made.arithmetic, Arithmetic::AsModel);
    }
}

#[test]
fn a_product_without_a_quantized_result_keeps_the_model_s_weights() {
    [DType::Int8, DType::Int4, DType::Int16].into_iter().for_each(keeps_weights_of);
}

fn keeps_weights_of(dtype: DType) {
    let mut build = Builder::new();
    let x = build.input(&[1, 2]);
    let x = build.qdq("x", x, DType::UInt8, Quantization::per_tensor(0.5, 3));
    let quant = Quantization { scale: vec![0.5, 0.25], zero_point: vec![0; 2], axis: Some(1) };
    let w = build.dq(dtype, &[2, 2], &[1, 2, 3, 4], quant);
    let b = build.constant(&[2], vec![1.0, -0.5]);
    let y = build.node("fc", MATMUL, &[x, w, b], &[1, 2]);
    build.output(y);
    let (simple, _) = simplify(build.graph).unwrap();
    let y = simple.outputs[0];
    let mut ranges = Ranges::default();
    ranges.observe(y, -1.0, 1.0);
    let machine = Capabilities { weight: dtype, ..FULL };
    let made = quantize(&simple, &ranges, &machine, false).unwrap();
    check_quantized(&made.graph);
    assert_eq!(ops(&made.graph), ["QuantizeLinear", "MatMul", "DequantizeLinear"]);
    let node = &made.graph.nodes[1];
    assert!(matches!(node.op, Op::MatMul { transposed: true, .. }));
    let integers = |place: usize| match &made.graph.value(node.inputs[place]).constant {
        Some(Constant::Dense(tensor)) => tensor.to_integers().unwrap(),
        _ => panic!("dense"),
    };
    assert_eq!((integers(1), integers(2)), (vec![1, 3, 2, 4], vec![4, -4]));
    assert_eq!(made.graph.value(node.inputs[1]).dtype, dtype);
    assert_eq!(made.arithmetic, Arithmetic::Machine);
}

/// A random chain of operators on `[1, 4, h, w]` images, with residual additions.
fn random_network(choices: &[(u8, u8)]) -> Graph<Float> {
    let mut build = Builder::new();
    let mut x = build.input(&[1, 4, 6, 6]);
    let mut older = x;
    for (index, &(choice, detail)) in choices.iter().enumerate() {
        let seed = u32::from(detail) + 100;
        let shape = build.graph.value(x).shape.clone();
        let name = format!("n{index}");
        let before = x;
        x = match choice % 12 {
            0 => {
                let w = build.constant(&[4, 4, 1, 1], numbers(16, seed));
                let mut inputs = vec![x, w];
                if detail % 2 == 0 {
                    inputs.push(build.constant(&[4], numbers(4, seed)));
                }
                build.node(&name, conv(Window::UNIT, 1), &inputs, &shape)
            }
            1 => {
                let w = build.constant(&[4, 2, 3, 3], numbers(72, seed));
                let window = Window { kernel: [3, 3], stride: [1, 1], dilation: [1, 1], pad: [1; 4] };
                build.node(&name, conv(window, 2), &[x, w], &shape)
            }
            2 => {
                let list = |seed, offset: f32| numbers(4, seed).into_iter().map(|v| v * 0.5 + offset).collect();
                let parameters: Vec<ValueId> = [(seed, 1.0), (seed + 1, 0.0), (seed + 2, 0.0), (seed + 3, 1.0)]
                    .map(|(seed, offset)| build.constant(&[4], list(seed, offset)))
                    .to_vec();
                let inputs: Vec<ValueId> = std::iter::once(x).chain(parameters).collect();
                build.node(&name, Op::BatchNorm { epsilon: 1e-3 }, &inputs, &shape)
            }
            3 => build.node(&name, Op::Relu, &[x], &shape),
            4 => build.node(&name, Op::Clip { low: -1.0, high: 2.0 }, &[x], &shape),
            5 | 6 => {
                let sizes: [&[usize]; 4] = [&[1], &[4, 1, 1], &[1, 4, 1, 1], &[1, 1, 1]];
                let size = sizes[usize::from(detail) % 4];
                let data = numbers(size.iter().product(), seed).into_iter().map(|v| v + 1.5).collect();
                let c = build.constant(size, data);
                let op = [ADD, Op::Sub, Op::Mul, Op::Div][usize::from(detail / 4) % 4].clone();
                build.node(&name, op, &[x, c], &shape)
            }
            7 if build.graph.value(older).shape == shape => build.node(&name, ADD, &[x, older], &shape),
            8 => {
                let pad = Op::Pad { before: vec![0, 0, 1, 1], after: vec![0, 0, 1, 1], value: 0.0 };
                let padded = build.node(&format!("{name}p"), pad, &[x], &[1, 4, shape[2] + 2, shape[3] + 2]);
                let window = Window { kernel: [3, 3], stride: [1, 1], dilation: [1, 1], pad: [0; 4] };
                let op = if detail % 2 == 0 {
                    Op::MaxPool { window }
                } else {
                    Op::AvgPool { window, count_include_pad: detail % 4 == 1 }
                };
                build.node(&name, op, &[padded], &shape)
            }
            9 => {
                let turned = [shape[0], shape[2], shape[3], shape[1]];
                let t = build.node(&format!("{name}t"), Op::Transpose { perm: vec![0, 2, 3, 1] }, &[x], &turned);
                build.node(&name, Op::Transpose { perm: vec![0, 3, 1, 2] }, &[t], &shape)
            }
            _ => build.node(&name, Op::Reshape, &[x], &shape),
        };
        if detail % 3 == 0 {
            older = before;
        }
        if detail % 17 == 5 {
            build.output(x);
        }
    }
    let size = build.graph.value(x).shape.iter().product();
    let flat = build.node("flat", Op::Reshape, &[x], &[1, size]);
    let w = build.constant(&[size, 3], numbers(size * 3, 50));
    let y = build.node("fc", MATMUL, &[flat, w], &[1, 3]);
    build.output(y);
    build.graph
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 96, ..ProptestConfig::default() })]

    #[test]
    fn simplification_keeps_the_values_of_random_networks(
        choices in prop::collection::vec((any::<u8>(), any::<u8>()), 1..10),
        seed in 0_u32..1000,
    ) {
        let graph = random_network(&choices);
        let data = [numbers(144, seed)];
        let (simple, _) = simplify(graph.clone()).unwrap();
        check(&simple);
        verify(&simple).unwrap();
        prop_assert_eq!(graph.outputs.len(), simple.outputs.len());
        let (before, after) = (evaluate(&graph, &data), evaluate(&simple, &data));
        for (before, after) in before.into_iter().zip(after) {
            prop_assert!(difference(&[before], &[after]) < 1e-4);
        }
        let (again, _) = simplify(simple.clone()).unwrap();
        prop_assert_eq!(listing(&again), listing(&simple));
        for machine in [FULL, PLAIN] {
            let ranges = observed(&simple, &data);
            let made = quantize(&simple, &ranges, &machine, false).unwrap();
            check_quantized(&made.graph);
            let made_again = quantize(&simple, &ranges, &machine, false).unwrap();
            prop_assert_eq!(listing(&made.graph), listing(&made_again.graph));
        }
    }
}
