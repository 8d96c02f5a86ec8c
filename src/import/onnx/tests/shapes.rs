//! Operators that move elements, arithmetic on shapes, the batch, names.

use super::{Model, TensorProto, becomes, constant, float, int, ints, ops, result, single, tensor, text, unary};
use crate::{import::onnx::proto::tensor_proto::DataType, ir::Op, tensor::DType};

#[test]
fn reshapes_resolve_zero_and_minus_one() {
    let model = |shape: &[i64], attributes| {
        Model::new(14).input("x", &[2, 3, 4]).list("s", shape).node("Reshape", "x s", "y", attributes).output("y")
    };
    assert_eq!(becomes(&model(&[0, -1], vec![])), (Op::Reshape, vec![2, 12]));
    assert_eq!(becomes(&model(&[4, 6], vec![])).1, [4, 6]);
    for (shape, why) in [
        (&[-1, -1][..], "more than one -1"),
        (&[5, -1], "cannot take"),
        (&[7], "cannot take"),
        (&[1, 1, 1, 0], "no dimension"),
        (&[-2, 3], "negative"),
    ] {
        assert!(model(shape, vec![]).refused().contains(why), "{shape:?}");
    }
    assert!(model(&[0, -1], vec![int("allowzero", 1)]).refused().contains("cannot take"));
}

#[test]
fn flatten_squeeze_and_unsqueeze_become_reshapes() {
    assert_eq!(becomes(&unary(13, "Flatten", &[2, 3, 4], vec![])), (Op::Reshape, vec![2, 12]));
    assert_eq!(becomes(&unary(13, "Flatten", &[2, 3, 4], vec![int("axis", -1)])).1, [6, 4]);
    assert_eq!(becomes(&unary(13, "Flatten", &[2, 3], vec![int("axis", 2)])).1, [6, 1]);
    assert_eq!(becomes(&unary(11, "Squeeze", &[1, 3, 1], vec![ints("axes", &[-1])])).1, [1, 3]);
    assert_eq!(becomes(&unary(11, "Squeeze", &[1, 3, 1], vec![])).1, [3]);
    assert_eq!(becomes(&unary(11, "Unsqueeze", &[3], vec![ints("axes", &[0, -1])])).1, [1, 3, 1]);
    let model = Model::new(13).input("x", &[1, 3, 1]).list("a", &[0]);
    assert_eq!(becomes(&model.clone().node("Squeeze", "x a", "y", vec![]).output("y")).1, [3, 1]);
    assert_eq!(becomes(&model.node("Unsqueeze", "x a", "y", vec![]).output("y")).1, [1, 1, 3, 1]);
    assert!(unary(11, "Squeeze", &[1, 3], vec![ints("axes", &[1])]).refused().contains("is not 1"));
}

#[test]
fn transposes_reverse_by_default_and_vanish_where_they_do_nothing() {
    assert_eq!(
        becomes(&unary(13, "Transpose", &[2, 3, 4], vec![])),
        (Op::Transpose { perm: vec![2, 1, 0] }, vec![4, 3, 2])
    );
    let model = unary(13, "Transpose", &[2, 3], vec![ints("perm", &[0, 1])]);
    // The model's output is its input: a copy keeps both names.
    assert_eq!(becomes(&model).0, Op::Reshape);
    assert_eq!(result(&model.ok()).name, "y");
    assert!(unary(13, "Transpose", &[2, 3], vec![ints("perm", &[0, 0])]).refused().contains("permutation"));
    assert!(unary(13, "Transpose", &[2, 3], vec![ints("perm", &[0])]).refused().contains("permutation"));
}

#[test]
fn joins_take_constants_and_count_axes_from_the_end() {
    let model = Model::new(13).input("x", &[1, 2, 4]).weight("c", &[1, 2, 1]);
    let (op, shape) = becomes(&model.clone().node("Concat", "x c x", "y", vec![int("axis", -1)]).output("y"));
    assert_eq!((op, shape), (Op::Concat { axis: 2 }, vec![1, 2, 9]));
    assert!(model.clone().node("Concat", "x c", "y", vec![]).output("y").refused().contains("`axis` is missing"));
    assert!(model.node("Concat", "x c", "y", vec![int("axis", 1)]).output("y").refused().contains("(Concat)"));
}

#[test]
fn padding_is_constant_and_not_negative() {
    let old = |attributes| unary(7, "Pad", &[1, 1, 2, 2], attributes);
    let expected = Op::Pad { before: vec![0, 0, 1, 0], after: vec![0, 0, 0, 2], value: 1.5 };
    assert_eq!(
        becomes(&old(vec![ints("pads", &[0, 0, 1, 0, 0, 0, 0, 2]), float("value", 1.5)])),
        (expected.clone(), vec![1, 1, 3, 4])
    );
    let new =
        Model::new(18).input("x", &[1, 1, 2, 2]).list("p", &[1, 0, 0, 2]).floats("v", &[], &[1.5]).list("a", &[2, -1]);
    assert_eq!(becomes(&new.node("Pad", "x p v a", "y", vec![]).output("y")).0, expected);
    assert!(old(vec![ints("pads", &[0; 8]), text("mode", "reflect")]).refused().contains("reflect"));
    assert!(old(vec![ints("pads", &[0, 0, -1, 0, 0, 0, 0, 0])]).refused().contains("negative"));
    assert!(old(vec![]).refused().contains("missing"));
}

#[test]
fn what_does_nothing_vanishes() {
    let graph = Model::new(13)
        .input("x", &[2, 3])
        .node("Dropout", "x", "a mask", vec![])
        .node("Identity", "a", "b", vec![])
        .node("Relu", "b", "c", vec![])
        .node("Identity", "c", "y", vec![])
        .output("y")
        .ok();
    assert_eq!(ops(&graph), ["Relu"]);
    assert_eq!(result(&graph).name, "y");
    assert_eq!(graph.nodes[0].name, "c");
}

#[test]
fn an_exporters_flatten_folds_to_one_reshape() {
    // x.view(x.size(0), -1) as PyTorch writes it.
    let graph = Model::new(11)
        .symbolic("x", &["batch", "3", "2", "2"])
        .list("zero", &[0])
        .node("Shape", "x", "shape", vec![])
        .node("Gather", "shape zero", "n", vec![int("axis", 0)])
        .node("Squeeze", "n", "scalar", vec![ints("axes", &[0])])
        .node("Unsqueeze", "scalar", "rows", vec![ints("axes", &[0])])
        .node("Constant", "", "minus", vec![ints("value_ints", &[-1])])
        .node("Concat", "rows minus", "to", vec![int("axis", 0)])
        .node("Reshape", "x to", "y", vec![])
        .output("y");
    assert_eq!(becomes(&graph), (Op::Reshape, vec![1, 12]));
    assert_eq!(result(&graph.batch(Some(5)).unwrap()).shape, [5, 12]);
}

/// Imports a model that computes a shape from constants and reshapes `x [24]` to it.
fn computed(build: impl Fn(Model) -> Model) -> Result<Vec<usize>, String> {
    let model =
        Model::new(13).input("x", &[24]).list("a", &[2, 3, 4]).list("b", &[1, 2, 2]).list("i1", &[1]).list("i0", &[0]);
    let graph = build(model).node("Reshape", "x s", "r", vec![]).node("Relu", "r", "y", vec![]).output("y").import()?;
    Ok(result(&graph).shape.clone())
}

#[test]
fn arithmetic_on_shapes_is_evaluated() {
    let cast = |to: DataType| vec![int("to", to as i64)];
    let check = |expected: &[usize], build: &dyn Fn(Model) -> Model| assert_eq!(computed(build).unwrap(), expected);
    check(&[24], &|m| m.node("ReduceProd", "a", "s", vec![int("keepdims", 1)]));
    check(&[4, 3, 2], &|m| m.list("m1", &[-1]).list("far", &[i64::MIN]).node("Slice", "a m1 far - m1", "s", vec![]));
    check(&[3, 4, 2], &|m| {
        m.list("ends", &[i64::MAX]).node("Slice", "a i1 ends", "t", vec![]).list("two", &[2]).node(
            "Concat",
            "t two",
            "s",
            vec![int("axis", 0)],
        )
    });
    check(&[2, 6, 2], &|m| {
        m.node("Div", "a b", "d", vec![]).node("Mul", "d b", "t", vec![]).list("six", &[2, 6, 2]).node(
            "Max",
            "six b",
            "s",
            vec![],
        )
    });
    check(&[3, 8], &|m| {
        m.list("j", &[1, 0]).node("Gather", "a j", "g", vec![]).list("f", &[0, 6]).node("Add", "g f", "s", vec![])
    });
    check(&[2, 12], &|m| {
        m.node("Cast", "a", "f", cast(DataType::Float))
            .floats("half", &[], &[0.5])
            .node("Mul", "f half", "h", vec![])
            .node("Floor", "h", "w", vec![])
            .node("Cast", "w", "c", cast(DataType::Int64))
            .list("six", &[0, 2])
            .node("Gather", "c six", "g", vec![])
            .list("k", &[2, 6])
            .node("Mul", "g k", "s2", vec![])
            .list("fix", &[0, 0])
            .node("Add", "s2 fix", "s", vec![])
    });
    check(&[1, 24], &|m| {
        m.list("w", &[-1, 24])
            .list("minus", &[-1])
            .node("Equal", "w minus", "is", vec![])
            .list("two", &[2])
            .node("ConstantOfShape", "two", "ones", vec![tensor("value", int64(&[1], &[1]))])
            .node("Where", "is ones w", "s", vec![])
    });
    check(&[1, 2, 3, 4], &|m| {
        m.node("Range", "one five one", "s", vec![]).small("one", DataType::Int32, &[], &[1]).small(
            "five",
            DataType::Int32,
            &[],
            &[5],
        )
    });
    check(&[2, 2, 2, 3], &|m| {
        m.list("three", &[3]).list("two", &[2]).node("Expand", "two three", "t", vec![]).node(
            "Concat",
            "t three",
            "s",
            vec![int("axis", 0)],
        )
    });
    check(&[24, 1], &|m| m.node("Shape", "x", "n", vec![]).node("Concat", "n i1", "s", vec![int("axis", 0)]));
    check(&[24], &|m| m.node("Size", "x", "n", vec![]).node("Unsqueeze", "n i0", "s", vec![]));
    check(&[4, 6], &|m| m.list("p", &[4, 6]).node("Neg", "p", "n", vec![]).node("Abs", "n", "s", vec![]));
}

fn int64(dims: &[i64], values: &[i64]) -> TensorProto {
    TensorProto {
        data_type: Some(DataType::Int64 as i32),
        dims: dims.to_vec(),
        int64_data: values.to_vec(),
        ..TensorProto::default()
    }
}

#[test]
fn every_evaluated_operator_has_the_value_of_the_standard() {
    let value = |version: i64, op: &str, operands: &str, attributes: Vec<super::AttributeProto>| {
        let graph = Model::new(version)
            .input("x", &[1])
            .list("a", &[7, -7, 3])
            .list("b", &[3, 3, -2])
            .list("two", &[2])
            .list("axis", &[0])
            .floats("f", &[2], &[2.25, -2.5])
            .floats("g", &[1], &[4.0])
            .small("t", DataType::Bool, &[2], &[1, 0])
            .small("u", DataType::Bool, &[1], &[1])
            .node(op, operands, "s", attributes)
            .node("Cast", "s", "c", vec![int("to", DataType::Float as i64)])
            .node("Add", "x c", "y", vec![])
            .output("y")
            .ok();
        constant(&graph, single(&graph), 1)
    };
    let check =
        |op: &str, operands: &str, expected: &[f32]| assert_eq!(value(18, op, operands, vec![]), expected, "{op}");
    check("Mod", "a b", &[1.0, 2.0, -1.0]);
    check("Div", "a b", &[2.0, -2.0, -1.0]);
    check("Sub", "a b", &[4.0, -10.0, 5.0]);
    check("Pow", "a two", &[49.0, 49.0, 9.0]);
    check("Min", "a b", &[3.0, -7.0, -2.0]);
    check("Max", "a b two", &[7.0, 3.0, 3.0]);
    check("Sum", "a b two", &[12.0, -2.0, 3.0]);
    check("Less", "a b", &[0.0, 1.0, 0.0]);
    check("LessOrEqual", "b b", &[1.0, 1.0, 1.0]);
    check("Greater", "a b", &[1.0, 0.0, 1.0]);
    check("GreaterOrEqual", "f g", &[0.0, 0.0]);
    check("Equal", "f f", &[1.0, 1.0]);
    check("And", "t u", &[1.0, 0.0]);
    check("Or", "t u", &[1.0, 1.0]);
    check("Not", "t", &[0.0, 1.0]);
    check("Floor", "f", &[2.0, -3.0]);
    check("Ceil", "f", &[3.0, -2.0]);
    check("Sqrt", "g", &[2.0]);
    check("Neg", "f", &[-2.25, 2.5]);
    check("Abs", "f", &[2.25, 2.5]);
    check("Mul", "f g", &[9.0, -10.0]);
    check("ReduceSum", "a axis", &[3.0]);
    check("ReduceMin", "a", &[-7.0]);
    check("ReduceMax", "f", &[2.25]);
    check("ReduceProd", "a", &[-147.0]);
    check("Identity", "f", &[2.25, -2.5]);
    let cast = |operands: &str, to: DataType| value(13, "Cast", operands, vec![int("to", to as i64)]);
    assert_eq!(cast("f", DataType::Int32), [2.0, -2.0]);
    assert_eq!(cast("f", DataType::Bool), [1.0, 1.0]);
    assert_eq!(cast("t", DataType::Int8), [1.0, 0.0]);
    let slice = vec![ints("starts", &[1]), ints("ends", &[3])];
    assert_eq!(value(9, "Slice", "a", slice), [-7.0, 3.0]);
}

#[test]
fn arithmetic_that_has_no_value_is_refused_by_name() {
    let check = |why: &str, build: &dyn Fn(Model) -> Model| {
        let text = computed(build).unwrap_err();
        assert!(text.contains(why), "{text}");
    };
    check("(Div): integer overflow or division by zero", &|m| m.node("Div", "a i0", "s", vec![]));
    check("(Mul): integer overflow", &|m| m.list("huge", &[i64::MAX]).node("Mul", "a huge", "s", vec![]));
    check("(Gather): axis 9", &|m| m.list("nine", &[9]).node("Gather", "a nine", "s", vec![]));
    check("(Add): shapes", &|m| m.list("two", &[2, 2]).node("Add", "a two", "s", vec![]));
    check("only where its operands are constants", &|m| m.node("ReduceMax", "x", "s", vec![]));
    check("must hold integers", &|m| m.floats("s", &[1], &[24.0]));
}

#[test]
fn folded_weights_are_constants() {
    let graph = Model::new(13)
        .input("x", &[1, 2])
        .weight("w", &[3, 2])
        .node("Transpose", "w", "t", vec![ints("perm", &[1, 0])])
        .node("MatMul", "x t", "y", vec![])
        .output("y")
        .ok();
    assert_eq!(constant(&graph, single(&graph), 1), [-3.0, -1.0, 1.0, -2.0, 0.0, 2.0]);
}

#[test]
fn the_batch_is_bound_and_other_symbols_are_named() {
    let model = Model::new(13).symbolic("x", &["N", "3", "8", "8"]).node("Relu", "x", "y", vec![]).output("y");
    assert_eq!(result(&model.ok()).shape, [1, 3, 8, 8]);
    assert_eq!(result(&model.batch(Some(4)).unwrap()).shape, [4, 3, 8, 8]);
    assert!(model.batch(Some(0)).is_err());
    let inner = Model::new(13).symbolic("x", &["3", "batch_size"]).node("Relu", "x", "y", vec![]).output("y");
    assert_eq!(result(&inner.ok()).shape, [3, 1]);
    let text = Model::new(13)
        .symbolic("x", &["N", "3", "height", "width"])
        .node("Relu", "x", "y", vec![])
        .output("y")
        .refused();
    assert!(
        text.starts_with(
            "input \"x\": only the batch may be symbolic: dimension 2 is \"height\", dimension 3 is \"width\""
        ),
        "{text}"
    );
    let open = Model::new(13).input("x", &[0, 3]).node("Relu", "x", "y", vec![]).output("y");
    assert_eq!(result(&open.batch(Some(2)).unwrap()).shape, [2, 3]);
}

#[test]
fn a_fixed_batch_is_replaced_also_in_reshapes() {
    let model = |to: &[i64]| {
        Model::new(13).input("x", &[1, 4, 6]).list("s", to).node("Reshape", "x s", "y", vec![]).output("y")
    };
    for to in [&[1, 24][..], &[1, -1], &[0, -1], &[-1, 24]] {
        assert_eq!(result(&model(to).ok()).shape, [1, 24]);
        assert_eq!(result(&model(to).batch(Some(3)).unwrap()).shape, [3, 24], "{to:?}");
    }
    let text = model(&[4, 6]).batch(Some(3)).unwrap_err();
    assert!(text.contains("batch of 1") && text.contains("(Reshape)"), "{text}");
}

#[test]
fn unnamed_and_equally_named_nodes_get_names_of_their_own() {
    let graph = Model::new(13)
        .input("x", &[2])
        .named("same", "Relu", "x", "a", vec![])
        .named("same", "Tanh", "a", "b", vec![])
        .node("Sigmoid", "b", "y", vec![])
        .output("y")
        .ok();
    let names: Vec<&str> = graph.nodes.iter().map(|node| node.name.as_str()).collect();
    assert_eq!(names, ["same", "same_2", "y"]);
}

#[test]
fn inputs_with_an_initializer_are_constants_and_types_are_single_precision() {
    let graph = Model::new(13)
        .typed_input("x", DataType::Float16, &[1, 2])
        .input("w", &[2, 2])
        .weight("w", &[2, 2])
        .node("MatMul", "x w", "m", vec![])
        .node("Cast", "m", "y", vec![int("to", DataType::Double as i64)])
        .output("y")
        .ok();
    assert_eq!(graph.inputs.len(), 1);
    assert_eq!(graph.value(graph.inputs[0]).dtype, DType::Fp32);
    assert_eq!((ops(&graph), result(&graph).name.as_str()), (vec!["MatMul"], "y"));
}

#[test]
fn bound_inputs_are_constants() {
    let model = Model::new(13).input("x", &[1, 2]).input("w", &[2, 2]).node("MatMul", "x w", "y", vec![]).output("y");
    assert_eq!(ops(&model.ok()), ["BatchMatMul"]);
    assert_eq!(crate::import::onnx::input_names(&model.bytes()).unwrap(), ["x", "w"]);
    let weight = crate::tensor::Tensor::from_f32(&[2, 2], vec![1.0; 4]).unwrap();
    let bound = std::collections::BTreeMap::from([("w".to_owned(), weight)]);
    let options = crate::import::ImportOptions::default();
    let graph = crate::import::onnx::parse_bound(&model.bytes(), "m", None, &options, &bound).unwrap();
    assert_eq!(graph.inputs.len(), 1);
}

#[test]
fn a_model_file_finds_its_external_weights_and_names_itself_in_faults() {
    use crate::import::{ImportOptions, load, onnx::proto::StringStringEntryProto};
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("net.onnx");
    let entry = StringStringEntryProto { key: Some("location".into()), value: Some("weights.bin".into()) };
    let mut model = Model::new(13).input("x", &[1, 2]).node("MatMul", "x w", "y", vec![]).output("y");
    model.graph().initializer.push(TensorProto {
        name: Some("w".into()),
        data_type: Some(DataType::Float as i32),
        dims: vec![2, 1],
        external_data: vec![entry],
        data_location: Some(1),
        ..TensorProto::default()
    });
    std::fs::write(&path, model.bytes()).unwrap();
    let text = load(&path, &ImportOptions::default()).unwrap_err().to_string();
    assert!(text.starts_with(&format!("{}: initializer \"w\": external data", path.display())), "{text}");
    let bytes: Vec<u8> = [1.5_f32, -2.0].iter().flat_map(|value| value.to_le_bytes()).collect();
    std::fs::write(directory.path().join("weights.bin"), bytes).unwrap();
    let graph = load(&path, &ImportOptions::default()).unwrap().graph;
    assert_eq!(constant(&graph, single(&graph), 1), [1.5, -2.0]);
    assert!(model.refused().contains("not read from a file"));
}
