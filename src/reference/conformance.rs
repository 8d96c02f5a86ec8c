//! Holds the reference to ONNX Runtime: single-operator cases made by `tests/conformance/make_operator_cases.py`,
//! which describes their form. Every element of every case must be equal.

use std::{collections::BTreeMap, io::Cursor};

use ndarray::Array1;
use ndarray_npy::NpzReader;
use serde_json::{Value as Json, from_slice};

use super::{Settings, run_node};
use crate::{
    ir::{Activation, Graph, Node, Op, Quantized, Value, ValueId, Window},
    tensor::{DType, Quantization, Tensor},
};

const CASES: &[u8] = include_bytes!("../../tests/conformance/operator_cases.npz");

/// Reads the next tensor and its quantization from the file's bytes.
fn tensor(description: &Json, data: &mut &[u8]) -> (Tensor, Option<Quantization>) {
    let list = |json: &Json| -> Vec<u64> { json.as_array().unwrap().iter().map(|n| n.as_u64().unwrap()).collect() };
    let shape: Vec<usize> = list(&description[1]).iter().map(|&dim| usize::try_from(dim).unwrap()).collect();
    let elements: usize = shape.iter().product();
    let mut take = |size: usize| {
        let (taken, rest) = data.split_at(elements * size);
        *data = rest;
        taken
    };
    let dtype = description[0].as_str().unwrap();
    let (dtype, integers): (_, Vec<i64>) = match dtype {
        "uint8" => (DType::UInt8, take(1).iter().map(|&byte| i64::from(byte)).collect()),
        "int8" => (DType::Int8, take(1).iter().map(|&byte| i64::from(i8::from_le_bytes([byte]))).collect()),
        "int32" | "float32" => {
            let words = take(4).chunks(4).map(|bytes| <[u8; 4]>::try_from(bytes).unwrap());
            if dtype == "float32" {
                return (Tensor::from_f32(&shape, words.map(f32::from_le_bytes).collect()).unwrap(), None);
            }
            (DType::Int32, words.map(|bytes| i64::from(i32::from_le_bytes(bytes))).collect())
        }
        other => panic!("type {other}"),
    };
    let scale = list(&description[2]).iter().map(|&bits| f32::from_bits(u32::try_from(bits).unwrap())).collect();
    let zero_point =
        description[3].as_array().unwrap().iter().map(|n| i32::try_from(n.as_i64().unwrap()).unwrap()).collect();
    let axis = description[4].as_u64().map(|axis| usize::try_from(axis).unwrap());
    (Tensor::from_integers(dtype, &shape, &integers).unwrap(), Some(Quantization { scale, zero_point, axis }))
}

fn operator(name: &str, attributes: &Json) -> Op {
    let list = |key: &str, default: &[usize]| -> Vec<usize> {
        attributes[key].as_array().map_or(default.to_vec(), |list| {
            list.iter().map(|n| usize::try_from(n.as_u64().unwrap()).unwrap()).collect()
        })
    };
    let number = |key: &str| usize::try_from(attributes[key].as_u64().unwrap()).unwrap();
    let window = || Window {
        kernel: list("kernel_shape", &[]).try_into().unwrap(),
        stride: list("strides", &[1, 1]).try_into().unwrap(),
        dilation: list("dilations", &[1, 1]).try_into().unwrap(),
        pad: list("pads", &[0; 4]).try_into().unwrap(),
    };
    #[allow(clippy::cast_possible_truncation)] // Written from a float32.
    let alpha = || attributes["alpha"].as_f64().unwrap() as f32;
    match name {
        "QLinearConv" => Op::Conv { window: window(), groups: number("group"), activation: Activation::None },
        "QLinearMatMul" => Op::MatMul { transposed: false, activation: Activation::None },
        "QLinearAdd" => Op::Add { activation: Activation::None },
        "QLinearMul" => Op::Mul,
        "QLinearGlobalAveragePool" => Op::GlobalAvgPool,
        "QLinearAveragePool" => Op::AvgPool { window: window(), count_include_pad: number("count_include_pad") == 1 },
        "MaxPool" => Op::MaxPool { window: window() },
        "QLinearConcat" => Op::Concat { axis: number("axis") },
        "QLinearSoftmax" => Op::Softmax { axis: number("axis") },
        "QLinearSigmoid" => Op::Sigmoid,
        "QLinearLeakyRelu" => Op::LeakyRelu { alpha: alpha() },
        "GlobalMaxPool" => Op::GlobalMaxPool,
        "Elu" => Op::Elu { alpha: alpha() },
        "Min" => Op::Min,
        "Max" => Op::Max,
        "PRelu" => Op::PRelu,
        "QuantizeLinear" => Op::QuantizeLinear,
        "DequantizeLinear" => Op::DequantizeLinear,
        other => panic!("operator {other}"),
    }
}

#[test]
fn every_operator_case_of_onnx_runtime_is_reproduced_bit_for_bit() {
    let mut file = NpzReader::new(Cursor::new(CASES)).unwrap();
    let text: Array1<u8> = file.by_name("cases").unwrap();
    let data: Array1<u8> = file.by_name("data").unwrap();
    let cases: Vec<Json> = from_slice(text.as_slice().unwrap()).unwrap();
    let mut data = data.as_slice().unwrap();
    // Cases, elements, elements that differ, by operator and class.
    let mut score: BTreeMap<String, [usize; 3]> = BTreeMap::new();
    for case in &cases {
        let mut graph = Graph::<Quantized>::new("case");
        let add = |graph: &mut Graph<Quantized>, name: String, (tensor, quant): &(Tensor, Option<Quantization>)| {
            let (shape, dtype) = (tensor.shape().to_vec(), tensor.dtype());
            graph.add_value(Value { name, shape, dtype, quant: quant.clone(), constant: None })
        };
        let inputs: Vec<_> = case["inputs"].as_array().unwrap().iter().map(|input| tensor(input, &mut data)).collect();
        let expected = tensor(&case["output"], &mut data);
        let inputs_ids: Vec<ValueId> =
            inputs.iter().enumerate().map(|(index, input)| add(&mut graph, format!("i{index}"), input)).collect();
        let output = add(&mut graph, "y".into(), &expected);
        let name = case["op"].as_str().unwrap();
        let op = operator(name, &case["attributes"]);
        let node = graph.add_node(Node { name: name.into(), op, inputs: inputs_ids, outputs: vec![output] });
        let operands: Vec<&Tensor> = inputs.iter().map(|(tensor, _)| tensor).collect();
        let actual = run_node(&graph, node, &operands, &Settings::default()).unwrap().remove(0);
        assert_eq!((actual.shape(), actual.dtype()), (expected.0.shape(), expected.0.dtype()), "{case}");
        let differing = match (&actual, &expected.0) {
            (Tensor::F32(a), Tensor::F32(b)) => a.iter().zip(b).filter(|(a, b)| a.to_bits() != b.to_bits()).count(),
            (a, b) => {
                let (a, b) = (a.to_integers().unwrap(), b.to_integers().unwrap());
                a.iter().zip(&b).filter(|(a, b)| a != b).count()
            }
        };
        let [count, elements, wrong] = score.entry(format!("{name} {}", case["class"])).or_default();
        *count += 1;
        *elements += actual.len();
        *wrong += differing;
    }
    assert!(data.is_empty(), "the file holds more than its cases say");
    assert!(cases.len() > 300 && score.len() > 15, "{score:#?}");
    assert!(score.values().all(|[_, _, wrong]| *wrong == 0), "[cases, elements, wrong]: {score:#?}");
}
