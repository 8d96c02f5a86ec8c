//! Files that mean harm or were damaged: an error, soon, with little memory, and never a panic.

use std::time::{Duration, Instant};

use proptest::prelude::*;
use prost::Message;

use super::{Model, import_bytes, int, ints, tensor};
use crate::import::onnx::proto::{TensorProto, tensor_proto::DataType};

/// The error of bytes that must be refused within a second.
fn refused(bytes: &[u8]) -> String {
    let start = Instant::now();
    let text = match import_bytes(bytes, None) {
        Ok(graph) => panic!("was imported: {} nodes", graph.nodes.len()),
        Err(text) => text,
    };
    println!("{:?}: {text:.100}", start.elapsed());
    assert!(start.elapsed() < Duration::from_secs(5), "took {:?}: {text}", start.elapsed());
    assert!(text.len() < 100_000, "{} bytes of text", text.len());
    text
}

/// A length-delimited field.
fn field(number: u8, content: &[u8]) -> Vec<u8> {
    let mut bytes = vec![number << 3 | 2];
    let mut length = content.len();
    while length >= 0x80 {
        bytes.push(u8::try_from(length & 0x7f).unwrap() | 0x80);
        length >>= 7;
    }
    bytes.push(u8::try_from(length).unwrap());
    bytes.extend(content);
    bytes
}

fn sample() -> Model {
    Model::new(13)
        .input("x", &[1, 2, 6, 6])
        .weight("w", &[3, 2, 3, 3])
        .weight("b", &[3])
        .list("to", &[1, -1])
        .weight("v", &[48, 2])
        .floats("s", &[], &[0.5])
        .small("z", DataType::Uint8, &[], &[9])
        .named("conv", "Conv", "x w b", "c", vec![ints("strides", &[1, 1])])
        .node("MaxPool", "c", "p", vec![ints("kernel_shape", &[1, 1])])
        .node("Reshape", "p to", "r", vec![])
        .node("MatMul", "r v", "m", vec![])
        .node("QuantizeLinear", "m s z", "q", vec![])
        .node("DequantizeLinear", "q s z", "y", vec![])
        .output("y")
}

#[test]
fn nesting_of_thirty_thousand_subgraphs_is_skipped_not_followed() {
    // Fields of a node's subgraph: node (1), attribute (5), g (6), and again; wrapped from the inside.
    let mut headers = Vec::new();
    let mut length = 0;
    for _ in 0..30_000 {
        for number in [6_u8, 5, 1] {
            let mut header = vec![number << 3 | 2];
            prost::encoding::encode_varint(length, &mut header);
            length += header.len() as u64;
            headers.push(header);
        }
    }
    let graph: Vec<u8> = headers.into_iter().rev().flatten().collect();
    refused(&field(7, &graph));
}

#[test]
fn a_length_beyond_the_file_is_refused() {
    let mut bytes = vec![0x3a];
    prost::encoding::encode_varint(1 << 60, &mut bytes);
    refused(&bytes);
    bytes.extend([0; 100]);
    refused(&bytes);
}

#[test]
fn a_file_cut_anywhere_is_refused_or_still_a_model() {
    let bytes = sample().bytes();
    assert!(import_bytes(&bytes, None).is_ok());
    for end in 0..bytes.len() {
        let _ = import_bytes(&bytes[..end], None);
    }
    assert!(refused(&[]).contains("operator set"));
    assert!(refused(b"not a model at all").contains("ONNX model"));
}

#[test]
fn absurd_shapes_are_refused() {
    let relu = |dims: &[i64]| Model::new(13).input("x", dims).node("Relu", "x", "y", vec![]).output("y");
    for dims in [&[1, 1 << 40][..], &[1 << 32, 1 << 32, 1 << 32], &[1, i64::MAX], &[1, i64::MIN], &[1; 100], &[2, 0]] {
        refused(&relu(dims).bytes());
    }
    let weight = Model::new(13).input("x", &[1, 2]).node("MatMul", "x w", "y", vec![]).output("y");
    for dims in [&[2, 1 << 40][..], &[-1, 2], &[2, 3]] {
        refused(&weight.clone().floats("w", dims, &[1.0]).bytes());
    }
}

#[test]
fn constants_that_grow_beyond_the_limit_are_refused() {
    let base = || Model::new(13).input("x", &[1, 2]).list("huge", &[1 << 20, 1 << 20]).list("big", &[1 << 14, 1 << 14]);
    let end = |model: Model| model.node("Add", "x c", "y", vec![]).output("y").bytes();
    let value = TensorProto {
        data_type: Some(DataType::Float as i32),
        dims: vec![1],
        float_data: vec![1.0],
        ..TensorProto::default()
    };
    refused(&end(base().node("ConstantOfShape", "huge", "c", vec![tensor("value", value)])));
    refused(&end(base().floats("one", &[1], &[1.0]).node("Expand", "one huge", "c", vec![])));
    refused(&end(base().list("n", &[1 << 40]).list("l0", &[0]).list("l1", &[1]).node("Range", "l0 n l1", "c", vec![])));
    // Many that are large, but each within the limit.
    let mut many = base();
    for index in 0..64 {
        many = many.node("ConstantOfShape", "big", &format!("c{index}"), vec![]);
    }
    let names: Vec<String> = (0..64).map(|index| format!("c{index}")).collect();
    refused(&many.node("Sum", &names.join(" "), "c", vec![]).node("Add", "x c", "y", vec![]).output("y").bytes());
    // Doubling.
    let mut doubling = Model::new(13).input("x", &[1]).floats("c0", &[1], &[1.0]);
    for index in 0..60 {
        let from = format!("c{index} c{index}");
        doubling = doubling.node("Concat", &from, &format!("c{}", index + 1), vec![int("axis", 0)]);
    }
    refused(&doubling.node("Add", "x c60", "y", vec![]).output("y").bytes());
}

#[test]
fn values_that_grow_beyond_the_limit_are_refused() {
    let mut doubling = Model::new(13).input("c0", &[1, 2]);
    for index in 0..60 {
        let from = format!("c{index} c{index}");
        doubling = doubling.node("Concat", &from, &format!("c{}", index + 1), vec![int("axis", 0)]);
    }
    refused(&doubling.output("c60").bytes());
    let pads = vec![ints("pads", &[0, 0, i64::MAX, i64::MAX])];
    refused(&Model::new(7).input("x", &[1, 2]).node("Pad", "x", "y", pads).output("y").bytes());
    let pads = vec![ints("pads", &[i64::MAX; 4])];
    let conv = Model::new(13).input("x", &[1, 1, 2, 2]).weight("w", &[1, 1, 1, 1]).node("Conv", "x w", "y", pads);
    refused(&conv.output("y").bytes());
}

#[test]
fn cycles_and_doubled_names_are_refused() {
    let cycle =
        Model::new(13).input("x", &[2]).node("Add", "x b", "a", vec![]).node("Relu", "a", "b", vec![]).output("b");
    assert!(refused(&cycle.bytes()).contains("cycle"));
    let twice =
        Model::new(13).input("x", &[2]).node("Relu", "x", "y", vec![]).node("Tanh", "x", "y", vec![]).output("y");
    assert!(refused(&twice.bytes()).contains("made twice"));
    let inputs = Model::new(13).input("x", &[2]).input("x", &[2]).node("Relu", "x", "y", vec![]).output("y");
    assert!(refused(&inputs.bytes()).contains("twice"));
    let weights =
        Model::new(13).input("x", &[2]).weight("w", &[2]).weight("w", &[2]).node("Add", "x w", "y", vec![]).output("y");
    assert!(refused(&weights.bytes()).contains("twice"));
    let shadow = Model::new(13).input("x", &[2]).node("Relu", "x", "x", vec![]).output("x");
    refused(&shadow.bytes());
    let outputs = Model::new(13).input("x", &[2]).node("Relu", "x", "y", vec![]).output("y").output("y");
    assert!(refused(&outputs.bytes()).contains("twice"));
    assert!(refused(&Model::new(13).input("x", &[2]).output("nowhere").bytes()).contains("nothing makes it"));
    assert!(refused(&Model::new(13).input("x", &[2]).bytes()).contains("no outputs"));
}

#[test]
fn operator_sets_that_are_not_supported_are_named() {
    for version in [0, 6, 24, i64::MAX, -1] {
        let model = Model::new(version).input("x", &[2]).node("Relu", "x", "y", vec![]).output("y");
        assert!(refused(&model.bytes()).contains("7 to 23"), "{version}");
    }
}

#[test]
fn huge_counts_are_refused_before_they_cost_memory() {
    // Five million empty nodes in ten megabytes.
    let graph: Vec<u8> = std::iter::repeat_n([0x0a, 0x00], 5_000_000).flatten().collect();
    assert!(refused(&field(7, &graph)).contains("in memory"));
    // Half a million nodes that say something.
    let mut model = Model::new(13).input("x", &[2]);
    let node = model.clone().node("LRN", "x", "y", vec![]).graph().node[0].clone();
    model.graph().node = vec![node; 300_000];
    assert!(refused(&model.output("y").bytes()).contains("limit"));
    // Dimensions, attributes, operands.
    refused(&Model::new(13).input("x", &vec![1; 1_000_000]).node("Relu", "x", "y", vec![]).output("y").bytes());
    let attributes = (0..100_000).map(|index| int(&format!("a{index}"), 1)).collect();
    refused(&Model::new(13).input("x", &[1]).node("Relu", "x", "y", attributes).output("y").bytes());
    let operands = "x ".repeat(3_000_000);
    refused(&Model::new(13).input("x", &[1]).node("Sum", &operands, "y", vec![]).output("y").bytes());
    for count in [500_000, 5_000] {
        let operands = "x ".repeat(count);
        refused(&Model::new(13).input("x", &[1]).node("Sum", &operands, "y", vec![]).output("y").bytes());
    }
}

#[test]
fn many_different_faults_are_cut_off() {
    let mut model = Model::new(13).input("x", &[2]);
    for index in 0..5000 {
        model = model.node(&format!("Op{index}"), "x", &format!("y{index}"), vec![]).output(&format!("y{index}"));
    }
    let text = refused(&model.bytes());
    assert!(text.ends_with("4900 further faults are not listed"), "{text}");
}

#[test]
fn work_that_repeats_on_a_large_constant_ends() {
    // One large constant, sliced, reduced and compared by many nodes.
    let mut model = Model::new(13).input("x", &[1]).list("n", &[1 << 22]).node("ConstantOfShape", "n", "big", vec![]);
    for index in 0..20_000 {
        let name = format!("r{index}");
        model = model.node("ReduceMax", "big", &name, vec![]).output(&name);
    }
    assert!(refused(&model.bytes()).contains("folding"));
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 2000, ..ProptestConfig::default() })]

    #[test]
    fn a_damaged_file_never_panics(
        changes in prop::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 1..8),
        end in any::<prop::sample::Index>(),
        cut in any::<bool>(),
        batch in prop::option::of(0_usize..4),
    ) {
        let mut bytes = sample().bytes();
        for (place, byte) in changes {
            let place = place.index(bytes.len());
            bytes[place] = byte;
        }
        if cut {
            bytes.truncate(end.index(bytes.len()));
        }
        let _ = import_bytes(&bytes, batch);
    }

    #[test]
    fn a_changed_number_never_panics(
        dims in prop::collection::vec(prop_oneof![Just(0_i64), Just(-1), Just(i64::MAX), Just(i64::MIN), -3_i64..9], 0..6),
        numbers in prop::collection::vec(prop_oneof![Just(i64::MAX), Just(i64::MIN), -3_i64..5], 4),
        op in prop::sample::select(vec!["MaxPool", "AveragePool", "Conv", "Transpose", "Softmax", "Flatten", "Concat", "ReduceMean", "Squeeze", "Unsqueeze", "Pad", "Gather", "Slice"]),
        version in prop::sample::select(vec![7_i64, 9, 11, 13, 18, 21]),
    ) {
        let lists = |name: &str, length: usize| ints(name, &numbers[..length]);
        let attributes = match op {
            "MaxPool" | "AveragePool" => vec![lists("kernel_shape", 2), lists("strides", 2), lists("pads", 4), int("ceil_mode", numbers[3] & 1)],
            "Conv" => vec![lists("dilations", 2), lists("pads", 4), int("group", numbers[0])],
            "Transpose" => vec![lists("perm", dims.len().min(4))],
            "ReduceMean" | "Squeeze" | "Unsqueeze" => vec![lists("axes", 2)],
            "Pad" => vec![lists("pads", 4)],
            _ => vec![int("axis", numbers[0])],
        };
        let operands = match op {
            "Conv" | "Gather" | "Concat" => "x w",
            "Slice" => "w l l l l",
            _ => "x",
        };
        let model = Model::new(version).input("x", &dims).weight("w", &[2, 2, 3, 3]).list("l", &numbers[..2]).node(op, operands, "y", attributes).output("y");
        let _ = import_bytes(&model.bytes(), None);
    }
}

#[test]
fn a_model_of_bytes_that_are_not_text_is_refused() {
    let mut model = sample().0;
    model.graph.as_mut().unwrap().node[0].name = Some("conv".into());
    let mut bytes = model.encode_to_vec();
    let at = bytes.windows(4).position(|window| window == b"conv").unwrap();
    bytes[at] = 0xff;
    assert!(refused(&bytes).contains("not an ONNX model"));
}
