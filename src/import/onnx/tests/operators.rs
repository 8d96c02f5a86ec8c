//! Float operators one by one.

use super::{Model, becomes, constant, float, int, ints, ops, result, single, text, unary};
use crate::ir::{Activation, Op, Window};

fn window(kernel: [usize; 2], stride: [usize; 2], pad: [usize; 4]) -> Window {
    Window { kernel, stride, dilation: [1, 1], pad }
}

fn conv(dims: &[i64], weight: &[i64], attributes: Vec<super::AttributeProto>) -> Model {
    Model::new(13).input("x", dims).weight("w", weight).named("c", "Conv", "x w", "y", attributes).output("y")
}

#[test]
fn a_convolution_takes_its_kernel_from_the_weight() {
    let (op, shape) = becomes(&conv(&[1, 3, 8, 8], &[4, 3, 3, 5], vec![ints("pads", &[1, 2, 0, 1])]));
    let expected = Op::Conv { window: window([3, 5], [1, 1], [1, 2, 0, 1]), groups: 1, activation: Activation::None };
    assert_eq!(op, expected);
    assert_eq!(shape, [1, 4, 7, 7]);
}

#[test]
fn depthwise_strided_dilated_convolutions_keep_their_numbers() {
    let attributes =
        vec![int("group", 4), ints("strides", &[2, 1]), ints("dilations", &[1, 2]), ints("kernel_shape", &[3, 3])];
    let (op, shape) = becomes(&conv(&[2, 4, 9, 9], &[4, 1, 3, 3], attributes));
    let window = Window { kernel: [3, 3], stride: [2, 1], dilation: [1, 2], pad: [0; 4] };
    assert_eq!(op, Op::Conv { window, groups: 4, activation: Activation::None });
    assert_eq!(shape, [2, 4, 4, 5]);
}

#[test]
fn automatic_padding_is_resolved() {
    for (auto, pad) in
        [("SAME_UPPER", [0, 0, 1, 1]), ("SAME_LOWER", [1, 1, 0, 0]), ("VALID", [0; 4]), ("NOTSET", [0; 4])]
    {
        let attributes = vec![text("auto_pad", auto), ints("strides", &[2, 2])];
        let (op, _) = becomes(&conv(&[1, 1, 8, 8], &[1, 1, 3, 3], attributes));
        let expected = Op::Conv { window: window([3, 3], [2, 2], pad), groups: 1, activation: Activation::None };
        assert_eq!(op, expected, "{auto}");
    }
    assert!(conv(&[1, 1, 8, 8], &[1, 1, 3, 3], vec![text("auto_pad", "SAME")]).refused().contains("auto_pad"));
}

#[test]
fn what_a_convolution_cannot_have_is_said_with_its_node() {
    let refused = |attributes| conv(&[1, 3, 8, 8], &[4, 3, 3, 3], attributes).refused();
    for (attributes, why) in [
        (vec![ints("strides", &[0, 1])], "strides"),
        (vec![ints("pads", &[-1, 0, 0, 0])], "negative"),
        (vec![ints("pads", &[1, 1])], "pads"),
        (vec![ints("kernel_shape", &[5, 5])], "kernel_shape"),
        (vec![int("group", 2)], "groups"),
        (vec![int("group", 0)], "groups"),
        (vec![int("group", -1)], "negative"),
        (vec![int("extra", 2)], "attribute not supported: `extra`"),
        (vec![float("group", 2.0)], "of type FLOAT"),
        (vec![int("group", 1), int("group", 1)], "twice"),
        (vec![ints("dilations", &[100, 100])], "does not fit"),
        (vec![ints("dilations", &[i64::MAX, 1])], "does not fit"),
    ] {
        let text = refused(attributes);
        assert!(text.starts_with("node \"c\" (Conv): ") && text.contains(why), "{why}: {text}");
    }
    let computed =
        Model::new(13).input("x", &[1, 3, 8, 8]).input("w", &[4, 3, 3, 3]).node("Conv", "x w", "y", vec![]).output("y");
    assert!(computed.refused().contains("must be a constant"));
    assert!(conv(&[1, 3, 8, 8, 8], &[4, 3, 3, 3, 3], vec![]).refused().contains("only [N, C, H, W]"));
    let nan = Model::new(13)
        .input("x", &[1, 1, 8, 8])
        .floats("w", &[1, 1, 1, 1], &[f32::NAN])
        .node("Conv", "x w", "y", vec![])
        .output("y");
    assert!(nan.refused().contains("NaN"));
}

#[test]
fn a_chain_of_one_dimensional_convolutions_reshapes_at_its_ends_only() {
    let graph = Model::new(13)
        .input("x", &[1, 2, 16])
        .weight("w", &[4, 2, 3])
        .weight("b", &[4])
        .weight("v", &[4, 1, 5])
        .named("first", "Conv", "x w b", "a", vec![ints("pads", &[1, 1]), ints("strides", &[2])])
        .node("Relu", "a", "r", vec![])
        .node("Conv", "r v", "c", vec![int("group", 4), ints("dilations", &[1])])
        .node("MaxPool", "c", "y", vec![ints("kernel_shape", &[2])])
        .output("y")
        .ok();
    assert_eq!(ops(&graph), ["Reshape", "Conv", "Relu", "Conv", "MaxPool", "Reshape"]);
    assert_eq!(graph.nodes[1].name, "first");
    assert_eq!(graph.value(graph.nodes[1].outputs[0]).shape, [1, 4, 1, 8]);
    let expected = Op::Conv { window: window([1, 3], [1, 2], [0, 1, 0, 1]), groups: 1, activation: Activation::None };
    assert_eq!(graph.nodes[1].op, expected);
    assert_eq!((result(&graph).name.as_str(), result(&graph).shape.as_slice()), ("y", &[1, 4, 3][..]));
}

#[test]
fn gemm_folds_its_factors_and_its_bias() {
    let model = |attributes, c: &[i64]| {
        Model::new(13)
            .input("x", &[2, 3])
            .weight("w", &[4, 3])
            .weight("c", c)
            .named("g", "Gemm", "x w c", "y", attributes)
            .output("y")
    };
    let graph = model(vec![int("transB", 1)], &[1, 4]).ok();
    assert_eq!(single(&graph).op, Op::MatMul { transposed: true, activation: Activation::None });
    assert_eq!(graph.value(single(&graph).inputs[2]).shape, [4]);
    assert_eq!(constant(&graph, single(&graph), 2), [-3.0, -2.0, -1.0, 0.0]);
    let graph = model(vec![int("transB", 1), float("alpha", 0.5), float("beta", 2.0)], &[4]).ok();
    assert_eq!(constant(&graph, single(&graph), 1)[..2], [-1.5, -1.0]);
    assert_eq!(constant(&graph, single(&graph), 2)[..2], [-6.0, -4.0]);
    // A scalar is a bias for all, a matrix is added.
    let graph = model(vec![int("transB", 1)], &[1]).ok();
    assert_eq!(constant(&graph, single(&graph), 2), [-3.0; 4]);
    let graph = model(vec![int("transB", 1)], &[2, 4]).ok();
    assert_eq!(ops(&graph), ["MatMul", "Add"]);
    assert_eq!(graph.nodes[0].name, "g");
    assert!(model(vec![int("transB", 1)], &[3]).refused().contains("broadcast"));
    assert!(model(vec![], &[4]).refused().contains("(Gemm)"));
    assert!(model(vec![int("transA", 1)], &[4]).refused().contains("transA"));
}

#[test]
fn matrix_products_take_vectors_and_one_matrix() {
    let model = |x: &[i64], w: &[i64]| {
        Model::new(13).input("x", x).weight("w", w).node("MatMul", "x w", "y", vec![]).output("y")
    };
    for (x, w, y) in [
        (&[2, 3][..], &[3, 4][..], &[2, 4][..]),
        (&[5, 2, 3], &[3, 4], &[5, 2, 4]),
        (&[3], &[3, 4], &[4]),
        (&[2, 3], &[3], &[2]),
        (&[5, 2, 3], &[1, 3, 4], &[5, 2, 4]),
    ] {
        assert_eq!(result(&model(x, w).ok()).shape, y, "{x:?} {w:?}");
    }
    assert!(model(&[2, 3], &[4, 3]).refused().contains("(MatMul)"));
}

#[test]
fn a_matmul_of_two_computed_factors_follows_the_rules_of_numpy_too() {
    let model = |x: &[i64], w: &[i64]| {
        Model::new(13).input("x", x).input("w", w).node("MatMul", "x w", "y", vec![]).output("y")
    };
    for (x, w, y) in [
        (&[2, 3][..], &[3, 4][..], &[2, 4][..]),
        (&[5, 2, 3], &[5, 3, 4], &[5, 2, 4]),
        (&[5, 1, 2, 3], &[6, 3, 4], &[5, 6, 2, 4]),
        (&[3], &[5, 3, 4], &[5, 4]),
        (&[5, 2, 3], &[3], &[5, 2]),
    ] {
        let graph = model(x, w).ok();
        assert_eq!(result(&graph).shape, y, "{x:?} {w:?}");
        assert!(ops(&graph).contains(&"BatchMatMul"));
    }
    assert!(model(&[5, 2, 3], &[4, 3, 4]).refused().contains("(MatMul)"));
    assert!(model(&[1, 1, 1, 2, 3], &[3, 4]).refused().contains("1 to 4 dimensions"));
}

#[test]
fn elementwise_operators_broadcast_and_put_constants_second() {
    for (name, op) in
        [("Add", Op::Add { activation: Activation::None }), ("Sub", Op::Sub), ("Mul", Op::Mul), ("Div", Op::Div)]
    {
        let model = Model::new(13).input("x", &[1, 3, 2, 2]).weight("c", &[3, 1, 1]);
        let graph = model.node(name, "c x", "y", vec![]).output("y").ok();
        assert_eq!((&single(&graph).op, result(&graph).shape.as_slice()), (&op, &[1, 3, 2, 2][..]));
        let constant_is_second = graph.value(single(&graph).inputs[1]).constant.is_some();
        assert_eq!(constant_is_second, matches!(name, "Add" | "Mul"), "{name}");
    }
    let graph = Model::new(13).input("x", &[2, 2]).node("Sum", "x x x", "y", vec![]).output("y").ok();
    assert_eq!(ops(&graph), ["Add", "Add"]);
    let graph = Model::new(13)
        .input("x", &[2, 2])
        .node("Sum", "x", "y", vec![])
        .node("Relu", "y", "z", vec![])
        .output("z")
        .ok();
    assert_eq!(ops(&graph), ["Relu"]);
}

#[test]
fn activations_have_the_defaults_of_the_standard() {
    for (name, attributes, op) in [
        ("Relu", vec![], Op::Relu),
        ("Sigmoid", vec![], Op::Sigmoid),
        ("Tanh", vec![], Op::Tanh),
        ("HardSwish", vec![], Op::HardSwish),
        ("LeakyRelu", vec![], Op::LeakyRelu { alpha: 0.01 }),
        ("LeakyRelu", vec![float("alpha", 0.3)], Op::LeakyRelu { alpha: 0.3 }),
        ("HardSigmoid", vec![], Op::HardSigmoid { alpha: 0.2, beta: 0.5 }),
        ("Elu", vec![], Op::Elu { alpha: 1.0 }),
        ("Elu", vec![float("alpha", -0.5)], Op::Elu { alpha: -0.5 }),
    ] {
        assert_eq!(becomes(&unary(14, name, &[2, 3], attributes)), (op, vec![2, 3]));
    }
    for name in ["LeakyRelu", "Elu", "HardSigmoid"] {
        for number in [f32::INFINITY, f32::NAN] {
            assert!(unary(14, name, &[2], vec![float("alpha", number)]).refused().contains("finite"));
        }
        assert!(unary(14, name, &[2], vec![int("alpha", 1)]).refused().contains("alpha"));
    }
}

#[test]
fn minima_and_maxima_of_several_operands_become_chains_with_constants_second() {
    for (name, op) in [("Min", Op::Min), ("Max", Op::Max)] {
        let model = Model::new(13).input("x", &[2, 2]).input("z", &[2]).floats("c", &[1], &[0.5]);
        let graph = model.node(name, "c x z", "y", vec![]).output("y").ok();
        assert_eq!(graph.nodes.iter().map(|node| node.op.clone()).collect::<Vec<_>>(), [op.clone(), op]);
        assert!(graph.value(graph.nodes[0].inputs[1]).constant.is_some());
        let one = Model::new(13).input("x", &[2]).node(name, "x", "t", vec![]).node("Tanh", "t", "y", vec![]);
        assert_eq!(ops(&one.output("y").ok()), ["Tanh"]);
        let none = Model::new(13).input("x", &[2]).node(name, "", "y", vec![]).output("y");
        assert!(none.refused().contains("operands"));
    }
}

#[test]
fn a_prelu_of_one_constant_slope_is_a_leaky_relu() {
    let model = |shape: &[i64], slopes: &[f32]| {
        Model::new(16)
            .input("x", &[1, 2, 3, 3])
            .floats("s", shape, slopes)
            .node("PRelu", "x s", "y", vec![])
            .output("y")
    };
    assert_eq!(model(&[1, 1], &[0.5]).ok().nodes[0].op, Op::LeakyRelu { alpha: 0.5 });
    assert_eq!(model(&[2, 1, 1], &[0.5, -1.0]).ok().nodes[0].op, Op::PRelu);
    assert!(model(&[1], &[f32::NAN]).refused().contains("finite"));
    assert!(model(&[3, 1, 1], &[1.0; 3]).refused().contains("broadcast"));
    assert!(model(&[4, 2, 3, 3], &[1.0; 72]).refused().contains("broadcast"));
}

#[test]
fn a_global_maximum_is_of_images_and_sequences() {
    assert_eq!(becomes(&unary(13, "GlobalMaxPool", &[2, 3, 4, 5], vec![])), (Op::GlobalMaxPool, vec![2, 3, 1, 1]));
    let sequence = unary(13, "GlobalMaxPool", &[2, 3, 4], vec![]).ok();
    assert_eq!(sequence.value(sequence.outputs[0]).shape, [2, 3, 1]);
    assert!(unary(13, "GlobalMaxPool", &[2, 3], vec![]).refused().contains("only [N, C, H, W]"));
}

#[test]
fn clips_have_limits_as_attributes_or_operands_or_none() {
    let old = |attributes| unary(6 + 1, "Clip", &[2], attributes);
    assert_eq!(becomes(&old(vec![float("min", 0.0), float("max", 6.0)])).0, Op::Clip { low: 0.0, high: 6.0 });
    assert_eq!(becomes(&old(vec![float("min", 0.0)])).0, Op::Relu);
    let new = |operands: &str| {
        Model::new(13)
            .input("x", &[2])
            .floats("zero", &[], &[0.0])
            .floats("six", &[], &[6.0])
            .floats("nan", &[], &[f32::NAN])
            .node("Clip", operands, "c", vec![])
            .node("Tanh", "c", "y", vec![])
            .output("y")
    };
    assert_eq!(new("x zero six").ok().nodes[0].op, Op::Clip { low: 0.0, high: 6.0 });
    assert_eq!(new("x - six").ok().nodes[0].op, Op::Clip { low: f32::NEG_INFINITY, high: 6.0 });
    assert_eq!(ops(&new("x zero").ok()), ["Relu", "Tanh"]);
    assert_eq!(ops(&new("x").ok()), ["Tanh"]);
    assert!(new("x six zero").refused().contains("above"));
    assert!(new("x nan").refused().contains("not a number"));
}

#[test]
fn batch_normalization_is_inference_only() {
    let model = |attributes| {
        let mut model = Model::new(13).input("x", &[1, 3, 2, 2]);
        for name in ["s", "b", "m", "v"] {
            model = model.weight(name, &[3]);
        }
        model.node("BatchNormalization", "x s b m v", "y", attributes).output("y")
    };
    assert_eq!(single(&model(vec![]).ok()).op, Op::BatchNorm { epsilon: 1e-5 });
    assert!(model(vec![int("training_mode", 1)]).refused().contains("training_mode"));
    assert!(model(vec![int("spatial", 0)]).refused().contains("spatial"));
    assert!(model(vec![float("epsilon", -1.0)]).refused().contains("epsilon"));
}

#[test]
fn pools_round_up_by_padding() {
    let pool = |op: &str, more: Vec<super::AttributeProto>| {
        let mut attributes = vec![ints("kernel_shape", &[3, 3]), ints("strides", &[2, 2])];
        attributes.extend(more);
        unary(13, op, &[1, 2, 112, 112], attributes)
    };
    assert_eq!(becomes(&pool("MaxPool", vec![])).1, [1, 2, 55, 55]);
    let (op, shape) = becomes(&pool("MaxPool", vec![int("ceil_mode", 1)]));
    assert_eq!(op, Op::MaxPool { window: window([3, 3], [2, 2], [0, 0, 1, 1]) });
    assert_eq!(shape, [1, 2, 56, 56]);
    let (op, _) = becomes(&pool("AveragePool", vec![int("count_include_pad", 1), ints("pads", &[1, 1, 1, 1])]));
    let expected = Op::AvgPool { window: window([3, 3], [2, 2], [1, 1, 1, 1]), count_include_pad: true };
    assert_eq!(op, expected);
    let counted = vec![int("count_include_pad", 1), int("ceil_mode", 1)];
    assert!(pool("AveragePool", counted).refused().contains("ceil_mode"));
    assert!(pool("MaxPool", vec![int("storage_order", 1)]).refused().contains("storage_order"));
    assert!(pool("MaxPool", vec![ints("pads", &[3, 3, 3, 3])]).refused().contains("padding"));
}

#[test]
fn indices_of_a_pool_are_refused_only_where_they_are_read() {
    let model = |output: &str| {
        Model::new(13)
            .input("x", &[1, 1, 4, 4])
            .node("MaxPool", "x", "y i", vec![ints("kernel_shape", &[2, 2])])
            .output(output)
    };
    assert_eq!(ops(&model("y").ok()), ["MaxPool"]);
    assert!(model("i").refused().contains("second result"));
}

#[test]
fn means_have_their_axes_as_attribute_or_operand() {
    assert_eq!(becomes(&unary(13, "GlobalAveragePool", &[1, 2, 4, 4], vec![])), (Op::GlobalAvgPool, vec![1, 2, 1, 1]));
    assert_eq!(result(&unary(13, "GlobalAveragePool", &[1, 2, 4], vec![]).ok()).shape, [1, 2, 1]);
    let (op, shape) =
        becomes(&unary(13, "ReduceMean", &[1, 2, 4, 4], vec![ints("axes", &[-1, 2]), int("keepdims", 0)]));
    assert_eq!((op, shape), (Op::ReduceMean { axes: vec![2, 3], keep_dims: false }, vec![1, 2]));
    let model = Model::new(18).input("x", &[1, 2, 4]).list("a", &[1]);
    let (op, shape) = becomes(&model.node("ReduceMean", "x a", "y", vec![]).output("y"));
    assert_eq!((op, shape), (Op::ReduceMean { axes: vec![1], keep_dims: true }, vec![1, 1, 4]));
    assert_eq!(becomes(&unary(18, "ReduceMean", &[2, 3], vec![])).1, [1, 1]);
    assert!(unary(13, "ReduceMean", &[2, 3], vec![ints("axes", &[0, -2])]).refused().contains("twice"));
    assert!(unary(13, "ReduceMean", &[2, 3], vec![ints("axes", &[2])]).refused().contains("axis 2"));
}

#[test]
fn softmax_before_version_13_normalizes_the_rest_together() {
    assert_eq!(becomes(&unary(13, "Softmax", &[2, 3, 4], vec![])).0, Op::Softmax { axis: 2 });
    assert_eq!(becomes(&unary(11, "Softmax", &[2, 3, 1, 1], vec![])).0, Op::Softmax { axis: 1 });
    assert_eq!(becomes(&unary(11, "Softmax", &[2, 1, 3], vec![])).0, Op::Softmax { axis: 2 });
    let graph = unary(11, "Softmax", &[2, 3, 4], vec![]).ok();
    assert_eq!(ops(&graph), ["Reshape", "Softmax", "Reshape"]);
    assert_eq!(graph.value(graph.nodes[1].inputs[0]).shape, [2, 12]);
    assert_eq!(result(&graph).shape, [2, 3, 4]);
}

#[test]
fn operators_on_constants_only_are_listed_behind_what_is_unsupported_too() {
    let text = Model::new(13)
        .input("x", &[1, 3, 8, 8])
        .named("l1", "LRN", "x", "a", vec![])
        .named("c1", "ConstantOfShape", "a", "b", vec![])
        .named("s1", "Shape", "a", "s", vec![])
        // A shape is constant whatever the tensor is: nothing is wrong here once `l1` is mended.
        .named("f1", "Floor", "s", "t", vec![])
        .output("b")
        .output("t")
        .refused();
    let lines: Vec<&str> = text.lines().collect();
    assert_eq!(
        lines,
        [
            "node \"l1\" (LRN): operator not supported",
            "node \"c1\" (ConstantOfShape): supported only where its operands are constants",
        ],
        "{text}"
    );
}

#[test]
fn unsupported_operators_are_all_listed_with_counts() {
    let text = Model::new(13)
        .input("x", &[1, 3, 8, 8])
        .named("l1", "LRN", "x", "a", vec![])
        .named("l2", "LRN", "a", "b", vec![])
        .named("l3", "LRN", "b", "c", vec![])
        .node("acme.Gadget", "c", "d", vec![])
        .node("Relu", "d", "e", vec![int("alpha", 3)])
        .node("Nothing", "x", "dead", vec![])
        .output("e")
        .refused();
    let lines: Vec<&str> = text.lines().collect();
    assert_eq!(
        lines,
        [
            "node \"l1\" (LRN): operator not supported (and 2 more such nodes)",
            "node \"d\" (Gadget): operator not supported: domain \"acme\"",
            "node \"e\" (Relu): attribute not supported: `alpha`",
        ]
    );
}

#[test]
fn wrong_numbers_of_operands_are_named() {
    let model = |operands: &str| {
        Model::new(13).input("x", &[2, 2]).weight("w", &[2, 2]).node("MatMul", operands, "y", vec![]).output("y")
    };
    for operands in ["x", "x w w", "x -", ""] {
        assert!(model(operands).refused().contains("operands"), "{operands:?}");
    }
    assert!(model("x nowhere").refused().contains("\"nowhere\", which nothing makes"));
}
