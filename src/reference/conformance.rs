//! Holds the reference to ONNX Runtime: single-operator cases made by `tests/conformance/make_operator_cases.py`, which
//! describes their form. The reference is the machine's host too, where nothing else checks it.

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
const HOST_CASES: &[u8] = include_bytes!("../../tests/conformance/host_cases.npz");

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
    let flag = |key: &str| attributes[key].as_u64() == Some(1);
    #[allow(clippy::cast_possible_truncation)] // Written from a float32.
    let real = |key: &str| attributes[key].as_f64().unwrap() as f32;
    match name.strip_prefix("QLinear").unwrap_or(name) {
        "Conv" => Op::Conv { window: window(), groups: number("group"), activation: Activation::None },
        "MatMul" => Op::MatMul { transposed: false, activation: Activation::None },
        "Add" => Op::Add { activation: Activation::None },
        "Sub" => Op::Sub,
        "Mul" => Op::Mul,
        "Div" => Op::Div,
        "Min" => Op::Min,
        "Max" => Op::Max,
        "PRelu" => Op::PRelu,
        "Relu" => Op::Relu,
        "LeakyRelu" => Op::LeakyRelu { alpha: real("alpha") },
        "Clip" => Op::Clip { low: real("low"), high: real("high") },
        "Elu" => Op::Elu { alpha: real("alpha") },
        "Sigmoid" => Op::Sigmoid,
        "Tanh" => Op::Tanh,
        "HardSigmoid" => Op::HardSigmoid { alpha: real("alpha"), beta: real("beta") },
        "HardSwish" => Op::HardSwish,
        "BatchNormalization" => Op::BatchNorm { epsilon: real("epsilon") },
        "MaxPool" => Op::MaxPool { window: window() },
        "GlobalMaxPool" => Op::GlobalMaxPool,
        "AveragePool" => Op::AvgPool { window: window(), count_include_pad: flag("count_include_pad") },
        "GlobalAveragePool" => Op::GlobalAvgPool,
        "ReduceMean" => Op::ReduceMean { axes: list("axes", &[]), keep_dims: flag("keepdims") },
        "Softmax" => Op::Softmax { axis: number("axis") },
        "Concat" => Op::Concat { axis: number("axis") },
        "Reshape" => Op::Reshape,
        "Transpose" => Op::Transpose { perm: list("perm", &[]) },
        "Pad" => Op::Pad { before: list("before", &[]), after: list("after", &[]), value: real("value") },
        "QuantizeLinear" => Op::QuantizeLinear,
        "DequantizeLinear" => Op::DequantizeLinear,
        other => panic!("operator {other}"),
    }
}

/// Runs each case of a file and calls `judge(operator, class, [the reference's result, ONNX Runtime's])`.
fn for_each_case(file: &'static [u8], mut judge: impl FnMut(&str, &str, [&Tensor; 2])) -> usize {
    let mut file = NpzReader::new(Cursor::new(file)).unwrap();
    let text: Array1<u8> = file.by_name("cases").unwrap();
    let data: Array1<u8> = file.by_name("data").unwrap();
    let cases: Vec<Json> = from_slice(text.as_slice().unwrap()).unwrap();
    let mut data = data.as_slice().unwrap();
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
        judge(name, case["class"].as_str().unwrap(), [&actual, &expected.0]);
    }
    assert!(data.is_empty(), "the file holds more than its cases say");
    cases.len()
}

#[test]
fn every_operator_case_of_onnx_runtime_is_reproduced_bit_for_bit() {
    // Cases, elements, elements that differ, by operator and class.
    let mut score: BTreeMap<String, [usize; 3]> = BTreeMap::new();
    let cases = for_each_case(CASES, |name, class, [actual, expected]| {
        let differing = match (actual, expected) {
            (Tensor::F32(a), Tensor::F32(b)) => a.iter().zip(b).filter(|(a, b)| a.to_bits() != b.to_bits()).count(),
            (a, b) => {
                let (a, b) = (a.to_integers().unwrap(), b.to_integers().unwrap());
                a.iter().zip(&b).filter(|(a, b)| a != b).count()
            }
        };
        let [count, elements, wrong] = score.entry(format!("{name} {class}")).or_default();
        *count += 1;
        *elements += actual.len();
        *wrong += differing;
    });
    assert!(cases >= 748 && score.len() > 30, "{cases} {score:#?}");
    assert!(score.values().all(|[_, _, wrong]| *wrong == 0), "[cases, elements, wrong]: {score:#?}");
}

/// Operators of floats whose roundings are known: equal in every bit.
const EXACT: [&str; 13] = [
    "Relu",
    "LeakyRelu",
    "Clip",
    "Add",
    "Sub",
    "Mul",
    "Div",
    "BatchNormalization",
    "MaxPool",
    "Concat",
    "Reshape",
    "Transpose",
    "Pad",
];

/// Sums of floats and transcendental functions may end in other last bits: within this share of the largest magnitude
/// of the tensor, four units in the last place.
const CLOSE: f64 = 4.0 * f32::EPSILON as f64;

#[test]
fn what_the_host_runs_is_what_onnx_runtime_computes() {
    // The largest difference as a share of the tensor's largest magnitude; of integers, elements that are one step off.
    let mut worst: BTreeMap<String, f64> = BTreeMap::new();
    let mut steps: BTreeMap<String, [usize; 2]> = BTreeMap::new();
    let cases = for_each_case(HOST_CASES, |name, class, [actual, expected]| {
        if let (Tensor::F32(a), Tensor::F32(b)) = (actual, expected) {
            let largest = b.iter().fold(0.0_f64, |largest, &y| largest.max(f64::from(y).abs()));
            let difference = |(a, b): (&f32, &f32)| (f64::from(*a) - f64::from(*b)).abs() / largest;
            let share = a.iter().zip(b).map(difference).fold(0.0, f64::max);
            let slot = worst.entry(name.to_owned()).or_default();
            *slot = slot.max(share);
            return;
        }
        let [off, elements] = steps.entry(format!("{name} {class}")).or_default();
        *elements += actual.len();
        for (a, b) in actual.to_integers().unwrap().iter().zip(expected.to_integers().unwrap()) {
            assert!((a - b).abs() <= 1, "{name} {class}: {a} and {b}");
            *off += usize::from(*a != b);
        }
    });
    assert!(cases > 100 && worst.len() > 20 && steps.len() > 10, "{worst:#?} {steps:#?}");
    for (name, &share) in &worst {
        let allowed = if EXACT.contains(&name.as_str()) { 0.0 } else { CLOSE };
        assert!(share <= allowed, "{name}: {share:e} of the largest magnitude; all: {worst:#?}");
    }
    for (name, &[off, _]) in &steps {
        assert_eq!(off, 0, "{name}: elements that are one step off; all: {steps:#?}");
    }
}
