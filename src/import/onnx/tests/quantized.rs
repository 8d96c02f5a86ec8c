//! Quantized operators: `QOperator` and QDQ forms.

use super::{Model, constant, float, int, ints, ops, result, single};
use crate::{
    import::onnx::proto::tensor_proto::DataType,
    ir::{Activation, Op, Window},
    tensor::{DType, Quantization},
};

/// A model with an 8-bit input `x`, scales `s1` = 0.5, `s2` = 0.25, zero points `z1` = 3 (unsigned), `z2` = 128, and
/// `i0` = 0 (signed).
fn model(dims: &[i64]) -> Model {
    Model::new(13)
        .typed_input("x", DataType::Uint8, dims)
        .floats("s1", &[], &[0.5])
        .floats("s2", &[], &[0.25])
        .small("z1", DataType::Uint8, &[], &[3])
        .small("z2", DataType::Uint8, &[], &[128])
        .small("i0", DataType::Int8, &[], &[0])
}

fn quant(graph: &crate::ir::Graph<crate::ir::Float>, node: usize, operand: usize) -> Quantization {
    graph.value(graph.nodes[node].inputs[operand]).quant.clone().unwrap()
}

#[test]
fn a_quantized_convolution_carries_scales_on_its_values() {
    let graph = model(&[1, 2, 4, 4])
        .small("w", DataType::Int8, &[2, 2, 1, 1], &[1, -2, 3, -4])
        .floats("ws", &[2], &[0.1, 0.2])
        .small("wz", DataType::Int8, &[2], &[0, 1])
        .small("b", DataType::Int32, &[2], &[7, -9])
        .node("QLinearConv", "x s1 z1 w ws wz s2 z2 b", "y", vec![])
        .output("y")
        .ok();
    let node = single(&graph);
    assert_eq!(node.op, Op::Conv { window: Window::UNIT, groups: 1, activation: Activation::None });
    assert_eq!(quant(&graph, 0, 0), Quantization::per_tensor(0.5, 3));
    assert_eq!(quant(&graph, 0, 1), Quantization { scale: vec![0.1, 0.2], zero_point: vec![0, 1], axis: Some(0) });
    let bias = Quantization { scale: vec![0.5_f32 * 0.1, 0.5_f32 * 0.2], zero_point: vec![0, 0], axis: Some(0) };
    assert_eq!(quant(&graph, 0, 2), bias);
    assert_eq!(constant(&graph, node, 2), [7.0, -9.0]);
    assert_eq!(result(&graph).dtype, DType::UInt8);
    assert_eq!(result(&graph).quant, Some(Quantization::per_tensor(0.25, 128)));
}

#[test]
fn a_quantized_sequence_keeps_its_scales_on_the_way() {
    let graph = model(&[1, 1, 8])
        .small("w", DataType::Int8, &[1, 1, 3], &[1, 2, 3])
        .node("QLinearConv", "x s1 z1 w s1 i0 s2 z2", "c", vec![])
        .node("MaxPool", "c", "p", vec![ints("kernel_shape", &[2])])
        .list("flat", &[1, 5])
        .node("Reshape", "p flat", "y", vec![])
        .output("y")
        .ok();
    for node in &graph.nodes {
        for id in node.inputs.iter().chain(&node.outputs) {
            assert!(graph.value(*id).quant.is_some(), "{}", graph.value(*id).name);
        }
    }
    assert_eq!(result(&graph).quant, Some(Quantization::per_tensor(0.25, 128)));
}

#[test]
fn scales_reach_values_that_only_move_before_they_are_read() {
    let graph = model(&[1, 1, 4, 4])
        .node("MaxPool", "x", "p", vec![ints("kernel_shape", &[2, 2])])
        .node("DequantizeLinear", "p s1 z1", "y", vec![])
        .output("y")
        .ok();
    assert_eq!(graph.value(graph.inputs[0]).quant, Some(Quantization::per_tensor(0.5, 3)));
}

#[test]
fn products_run_their_scales_along_columns() {
    let base = model(&[2, 3])
        .small("w", DataType::Int8, &[3, 2], &[1, 2, 3, 4, 5, 6])
        .floats("ws", &[2], &[0.1, 0.2])
        .small("wz", DataType::Int8, &[2], &[0, 0])
        .small("c", DataType::Int32, &[2], &[5, 6]);
    let graph = base.clone().node("QLinearMatMul", "x s1 z1 w ws wz s2 z2", "y", vec![]).output("y").ok();
    assert_eq!(single(&graph).op, Op::MatMul { transposed: false, activation: Activation::None });
    assert_eq!(quant(&graph, 0, 1).axis, Some(1));
    let graph = base.clone().node("com.microsoft.QGemm", "x s1 z1 w ws wz c s2 z2", "y", vec![]).output("y").ok();
    assert_eq!(quant(&graph, 0, 1).axis, Some(1));
    assert_eq!(
        quant(&graph, 0, 2),
        Quantization { scale: vec![0.5 * 0.1, 0.5 * 0.2], zero_point: vec![0, 0], axis: Some(0) }
    );
    let no_scale = base.clone().node("com.microsoft.QGemm", "x s1 z1 w ws wz c", "y", vec![]).output("y");
    assert!(no_scale.refused().contains("float result"));
    let scaled =
        base.node("com.microsoft.QGemm", "x s1 z1 w ws wz c s2 z2", "y", vec![float("alpha", 2.0)]).output("y");
    assert!(scaled.refused().contains("alpha"));
}

#[test]
fn the_runtimes_quantized_operators_become_the_plain_ones() {
    for (op, operands, attributes, expected) in [
        ("QLinearAdd", "x s1 z1 x s1 z1 s2 z2", vec![], Op::Add { activation: Activation::None }),
        ("QLinearMul", "x s1 z1 x s1 z1 s2 z2", vec![], Op::Mul),
        ("QLinearSigmoid", "x s1 z1 s2 z2", vec![], Op::Sigmoid),
        ("QLinearLeakyRelu", "x s1 - s2 -", vec![float("alpha", 0.1)], Op::LeakyRelu { alpha: 0.1 }),
        ("QLinearConcat", "s2 z2 x s1 z1 x s1 z1", vec![int("axis", 1)], Op::Concat { axis: 1 }),
        ("QLinearGlobalAveragePool", "x s1 z1 s2 z2", vec![], Op::GlobalAvgPool),
        ("QLinearSoftmax", "x s1 z1 s2 z2", vec![int("axis", 1), int("opset", 13)], Op::Softmax { axis: 1 }),
        (
            "QLinearAveragePool",
            "x s1 z1 s2 z2",
            vec![ints("kernel_shape", &[1, 1])],
            Op::AvgPool { window: Window::UNIT, count_include_pad: false },
        ),
    ] {
        let name = format!("com.microsoft.{op}");
        let graph = model(&[1, 2, 4, 4]).node(&name, operands, "y", attributes).output("y").ok();
        assert_eq!(single(&graph).op, expected);
        assert_eq!(result(&graph).dtype, DType::UInt8, "{op}");
        assert_eq!(result(&graph).quant.as_ref().unwrap().scale, [0.25], "{op}");
    }
}

#[test]
fn quantize_and_dequantize_stay_nodes_also_on_weights() {
    let graph = model(&[1, 2, 4, 4])
        .small("w", DataType::Int8, &[2, 2, 1, 1], &[1, 2, 3, 4])
        .floats("ws", &[2], &[0.1, 0.2])
        .small("wz", DataType::Int8, &[2], &[0, 0])
        .small("b", DataType::Int32, &[2], &[1, 2])
        .floats("bs", &[2], &[0.05, 0.1])
        .node("DequantizeLinear", "x s1 z1", "xf", vec![])
        .node("DequantizeLinear", "w ws wz", "wf", vec![int("axis", 0)])
        .node("DequantizeLinear", "b bs", "bf", vec![int("axis", 0)])
        .node("Conv", "xf wf bf", "c", vec![])
        .node("QuantizeLinear", "c s2 z2", "y", vec![])
        .output("y")
        .ok();
    assert_eq!(ops(&graph), ["DequantizeLinear", "DequantizeLinear", "DequantizeLinear", "Conv", "QuantizeLinear"]);
    assert_eq!(result(&graph).quant, Some(Quantization::per_tensor(0.25, 128)));
    assert_eq!(quant(&graph, 1, 0).axis, Some(0));
}

#[test]
fn a_transposed_dequantized_weight_is_transposed_below_its_dequantization() {
    let graph = Model::new(13)
        .input("x", &[1, 2])
        .small("w", DataType::Int8, &[3, 2], &[1, 2, 3, 4, 5, 6])
        .floats("ws", &[3], &[0.1, 0.2, 0.3])
        .node("DequantizeLinear", "w ws", "wf", vec![int("axis", 0)])
        .node("Transpose", "wf", "wt", vec![])
        .node("MatMul", "x wt", "y", vec![])
        .output("y")
        .ok();
    assert_eq!(ops(&graph), ["DequantizeLinear", "MatMul"]);
    assert_eq!(constant(&graph, &graph.nodes[0], 0), [1.0, 3.0, 5.0, 2.0, 4.0, 6.0]);
    assert_eq!(quant(&graph, 0, 0).axis, Some(1));
}

#[test]
fn one_constant_read_with_two_scales_is_two_values() {
    let graph = Model::new(13)
        .small("w", DataType::Uint8, &[4], &[1, 2, 3, 4])
        .floats("s1", &[], &[0.5])
        .floats("s2", &[], &[0.25])
        .node("DequantizeLinear", "w s1", "a", vec![])
        .node("DequantizeLinear", "w s2", "b", vec![])
        .node("Add", "a b", "y", vec![])
        .output("y")
        .ok();
    assert_eq!(graph.values.iter().filter(|value| value.constant.is_some()).count(), 2);
}

#[test]
fn a_value_read_with_another_scale_than_it_has_is_refused() {
    let text = model(&[2])
        .node("DequantizeLinear", "x s1 z1", "a", vec![])
        .node("DequantizeLinear", "x s2 z1", "b", vec![])
        .node("Add", "a b", "y", vec![])
        .output("y")
        .refused();
    assert!(text.contains("is read with scale 0.25"), "{text}");
}

#[test]
fn scales_that_are_not_positive_numbers_and_wrong_zero_points_are_refused() {
    for scale in [0.0, -0.5, f32::NAN, f32::INFINITY] {
        let text = model(&[2])
            .floats("bad", &[], &[scale])
            .node("DequantizeLinear", "x bad z1", "y", vec![])
            .output("y")
            .refused();
        assert!(text.contains("finite and positive"), "{text}");
    }
    for (operands, why) in [
        ("x s1 i0", "its zero point is"),
        ("x two z1", "2 scales for dimension 1"),
        ("x s1 zz", "2 zero points"),
        ("x matrix z1", "scalar or a list"),
        ("x none z1", "scalar or a list"),
        ("x x z1", "must be a constant"),
        ("x s1 s1", "must be an integer"),
    ] {
        let model = model(&[3, 3])
            .floats("two", &[2], &[0.1, 0.2])
            .small("zz", DataType::Uint8, &[2], &[1, 2])
            .floats("matrix", &[2, 2], &[0.1; 4])
            .floats("none", &[0], &[]);
        let text = model.node("DequantizeLinear", operands, "y", vec![]).output("y").refused();
        assert!(text.contains(why), "{operands}: {text}");
    }
}

#[test]
fn quantization_in_blocks_and_to_types_that_are_not_known_is_refused() {
    let float_model = |attributes| {
        Model::new(21)
            .input("x", &[4])
            .floats("s", &[], &[0.5])
            .node("QuantizeLinear", "x s", "y", attributes)
            .output("y")
    };
    assert_eq!(result(&float_model(vec![]).ok()).dtype, DType::UInt8);
    assert_eq!(result(&float_model(vec![int("output_dtype", DataType::Int16 as i64)]).ok()).dtype, DType::Int16);
    assert!(float_model(vec![int("block_size", 2)]).refused().contains("block_size"));
    assert_eq!(result(&float_model(vec![int("output_dtype", DataType::Int4 as i64)]).ok()).dtype, DType::Int4);
    assert!(float_model(vec![int("output_dtype", DataType::Uint4 as i64)]).refused().contains("UINT4"));
    assert!(float_model(vec![int("output_dtype", DataType::Float8e5m2 as i64)]).refused().contains("FLOAT8E5M2"));
}

/// `y = x w^T` with a weight of 4 bits between `DequantizeLinear` and, if asked for, operators on the packed constant.
fn packed_weight(operators: &[&str]) -> Model {
    let mut model = Model::new(21).input("x", &[1, 3]).small("w", DataType::Int4, &[2, 3], &[0x21, 0x83, 0xf7]).floats(
        "s",
        &[2],
        &[0.5, 0.25],
    );
    let mut weight = "w".to_owned();
    for op in operators {
        model = model.node(op, &weight, &format!("{weight}{op}"), vec![]);
        weight.push_str(op);
    }
    let inputs = format!("{weight} s zs");
    model
        .small("zs", DataType::Int4, &[2], &[0])
        .node("DequantizeLinear", &inputs, "d", vec![int("axis", 0)])
        .node("Gemm", "x d", "y", vec![int("transB", 1)])
        .output("y")
}

#[test]
fn weights_of_four_bits_keep_their_type_and_other_uses_of_them_are_refused_by_name() {
    for operators in [&[][..], &["Identity"]] {
        let graph = packed_weight(operators).ok();
        let weight = graph.values.iter().find(|value| value.quant.is_some()).unwrap();
        assert_eq!(weight.dtype, DType::Int4);
        let Some(crate::ir::Constant::Dense(tensor)) = &weight.constant else { panic!("a constant") };
        assert_eq!(tensor.to_integers().unwrap(), [1, 2, 3, -8, 7, -1]);
    }
    let text = packed_weight(&["Transpose"]).refused();
    assert!(text.contains("Transpose") && text.contains("INT4"), "{text}");
}

#[test]
fn float_operators_on_integers_are_refused_by_type() {
    let text = model(&[2]).node("Relu", "x", "y", vec![]).output("y").refused();
    assert!(text.contains("is UInt8; only float"), "{text}");
}

/// A float weight that is quantized in the graph, as some exporters leave it, in a convolution of one dimension.
#[test]
fn a_weight_that_is_quantized_in_the_graph_may_be_reshaped() {
    let graph = Model::new(13)
        .input("x", &[1, 3, 8])
        .weight("w", &[4, 3, 3])
        .floats("s", &[4], &[0.5, 0.25, 1.0, 2.0])
        .small("z", DataType::Int8, &[4], &[0; 4])
        .node("QuantizeLinear", "w s z", "wq", vec![int("axis", 0)])
        .node("DequantizeLinear", "wq s z", "wf", vec![int("axis", 0)])
        .node("Conv", "x wf", "y", vec![])
        .output("y")
        .ok();
    let conv = graph.nodes.iter().find(|node| matches!(node.op, Op::Conv { .. })).unwrap();
    let dequantize = graph.nodes.iter().find(|node| node.outputs[0] == conv.inputs[1]).unwrap();
    let integers = graph.value(dequantize.inputs[0]);
    assert_eq!((integers.shape.as_slice(), integers.dtype), ([4, 3, 1, 3].as_slice(), DType::Int8));
    let quant = integers.quant.as_ref().unwrap();
    assert_eq!((quant.axis, quant.scale.as_slice()), (Some(0), [0.5, 0.25, 1.0, 2.0].as_slice()));
}

#[test]
fn the_value_of_a_pad_may_be_a_dequantized_constant() {
    let graph = Model::new(13)
        .input("x", &[1, 1, 2, 2])
        .list("p", &[0, 0, 1, 0, 0, 0, 0, 1])
        .small("v", DataType::Uint8, &[], &[7])
        .floats("s", &[], &[0.5])
        .small("z", DataType::Uint8, &[], &[3])
        .node("DequantizeLinear", "v s z", "f", vec![])
        .node("Pad", "x p f", "y", vec![])
        .output("y")
        .ok();
    let expected = Op::Pad { before: vec![0, 0, 1, 0], after: vec![0, 0, 0, 1], value: 2.0 };
    assert!(graph.nodes.iter().any(|node| node.op == expected));
}
