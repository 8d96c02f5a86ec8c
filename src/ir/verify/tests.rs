use super::*;
use crate::ir::{Float, Quantized, Synthetic, Window};

fn add(graph: &mut Graph<Float>, name: &str, dtype: DType, shape: &[usize], quant: Option<Quantization>) -> ValueId {
    graph.add_value(Value { name: name.to_owned(), shape: shape.to_vec(), dtype, quant, constant: None })
}

fn synthetic(graph: &mut Graph<Float>, id: ValueId, low: i32, high: i32) {
    let distribution = Distribution::Uniform { low, high };
    graph.value_mut(id).constant = Some(Constant::Synthetic(Synthetic { seed: 7, distribution }));
}

/// Ids of `small`'s values.
const X: ValueId = ValueId(0);
const W: ValueId = ValueId(1);
const B: ValueId = ValueId(2);
const Y: ValueId = ValueId(3);
const Z: ValueId = ValueId(4);

/// A quantized convolution and a pool.
fn small() -> Graph<Float> {
    let mut graph = Graph::<Float>::new("small");
    let scale = |value| Some(Quantization::per_tensor(value, 3));
    let channels = |scale: [f32; 2]| Quantization { scale: scale.to_vec(), zero_point: vec![0; 2], axis: Some(0) };
    let x = add(&mut graph, "x", DType::UInt8, &[1, 3, 8, 8], scale(0.1));
    let w = add(&mut graph, "w", DType::Int8, &[2, 3, 3, 3], Some(channels([0.01, 0.03])));
    let b = add(&mut graph, "b", DType::Int32, &[2], Some(channels([0.1 * 0.01, 0.1 * 0.03])));
    let y = add(&mut graph, "y", DType::UInt8, &[1, 2, 6, 6], scale(0.2));
    let z = add(&mut graph, "z", DType::UInt8, &[1, 2, 3, 3], scale(0.2));
    synthetic(&mut graph, w, -127, 127);
    synthetic(&mut graph, b, -1000, 1000);
    let window = Window { kernel: [3, 3], ..Window::UNIT };
    let op = Op::Conv { window, groups: 1, activation: Activation::Relu };
    graph.add_node(Node { name: "conv".into(), op, inputs: vec![x, w, b], outputs: vec![y] });
    let op = Op::MaxPool { window: Window { kernel: [2, 2], stride: [2, 2], ..Window::UNIT } };
    graph.add_node(Node { name: "pool".into(), op, inputs: vec![y], outputs: vec![z] });
    graph.inputs = vec![x];
    graph.outputs = vec![z];
    graph
}

fn faults(change: impl FnOnce(&mut Graph<Float>)) -> String {
    let mut graph = small();
    change(&mut graph);
    verify(&graph).map_or_else(|faults| faults.to_string(), |()| String::new())
}

fn quantized_faults(change: impl FnOnce(&mut Graph<Float>)) -> String {
    let mut graph = small();
    change(&mut graph);
    assert!(verify(&graph).is_ok(), "the change must only break what quantized graphs promise");
    verify_quantized(&graph.into_stage::<Quantized>()).map_or_else(|faults| faults.to_string(), |()| String::new())
}

#[test]
fn a_sound_graph_has_no_faults() {
    assert_eq!(faults(|_| {}), "");
    assert_eq!(quantized_faults(|_| {}), "");
}

#[test]
fn order_and_origin_are_checked() {
    assert!(faults(|graph| graph.nodes.reverse()).contains("node \"pool\": reads a value before it is made: \"y\""));
    assert!(faults(|graph| graph.nodes[1].outputs = vec![Y]).contains("another origin: \"y\""));
    assert!(faults(|graph| graph.nodes[0].inputs[0] = ValueId(77)).contains("not a value of the graph: id 77"));
    assert!(faults(|graph| graph.nodes[1].outputs = vec![ValueId(77)]).contains("not a value of the graph: id 77"));
    assert!(faults(|graph| graph.inputs.push(X)).contains("value \"x\": an input is a constant or is listed twice"));
    assert!(faults(|graph| graph.inputs.push(ValueId(9))).contains("an input is not a value"));
    assert!(faults(|graph| graph.outputs.push(ValueId(9))).contains("an output is not a value"));
    assert!(faults(|graph| drop(graph.nodes.pop())).contains("value \"z\": nothing makes this output"));
}

#[test]
fn names_are_unique_and_all_faults_come_at_once() {
    let text = faults(|graph| {
        graph.value_mut(Y).name = "x".into();
        graph.nodes[1].name = "conv".into();
        graph.value_mut(Z).shape = vec![1, 2, 3, 4];
    });
    assert!(text.contains("value \"x\": two values have this name"), "{text}");
    assert!(text.contains("node \"conv\": two nodes have this name"), "{text}");
    assert!(text.contains("its result must have the shape 1x2x3x3: 1x2x3x4"), "{text}");
    assert_eq!(text.lines().count(), 3, "{text}");
}

#[test]
fn quantization_fits_its_axis_and_type() {
    let quant = |graph: &mut Graph<Float>| graph.value_mut(W).quant.clone().unwrap();
    let with = |change: &dyn Fn(&mut Quantization)| {
        faults(|graph| {
            let mut new = quant(graph);
            change(&mut new);
            graph.value_mut(W).quant = Some(new);
        })
    };
    assert!(with(&|quant| quant.scale.truncate(1)).contains("value \"w\": needs 2 scales: 1"));
    assert!(with(&|quant| quant.zero_point.push(0)).contains("needs 2 zero points: 3"));
    assert!(with(&|quant| quant.axis = Some(4)).contains("axis of the scales"));
    assert!(with(&|quant| quant.axis = None).contains("needs 1 scales: 2"));
    assert!(with(&|quant| quant.scale[1] = f32::NAN).contains("not a positive finite number: NaN"));
    assert!(with(&|quant| quant.zero_point[1] = 128).contains("outside -128..=127: 128"));
    assert!(faults(|graph| graph.value_mut(X).dtype = DType::Fp32).contains("a quantized value has an integer type"));
}

#[test]
fn constants_fit_their_values() {
    assert!(faults(|graph| graph.value_mut(W).constant = None).contains("node \"conv\": needs a constant: \"w\""));
    assert!(faults(|graph| synthetic(graph, W, -200, 3)).contains("leaves -128..=127: -200..=3"));
    assert!(faults(|graph| synthetic(graph, W, 3, 2)).contains("is empty: 3..=2"));
    let dense = |shape: &[usize], dtype| {
        let tensor = Tensor::from_integers(dtype, shape, &vec![1; shape.iter().product()]).unwrap();
        faults(|graph| graph.value_mut(B).constant = Some(Constant::Dense(std::sync::Arc::new(tensor))))
    };
    assert_eq!(dense(&[2], DType::Int32), "");
    assert!(dense(&[3], DType::Int32).contains("must have the shape 2: 3"));
    assert!(dense(&[2], DType::Int64).contains("must be of type Int32: Int64"));
}

#[test]
fn attributes_are_numbers_that_make_sense() {
    let clip = |low, high| {
        faults(|graph| {
            let Op::Conv { activation, .. } = &mut graph.nodes[0].op else { unreachable!() };
            *activation = Activation::Clip { low, high };
        })
    };
    assert_eq!(clip(0.0, 6.0), "");
    assert!(clip(6.0, 0.0).contains("empty range"));
    assert!(clip(f32::NAN, 0.0).contains("empty range"));
}

#[test]
fn a_machine_needs_quantized_values() {
    let bias = quantized_faults(|graph| graph.value_mut(B).quant.as_mut().unwrap().scale[1] = 0.004);
    assert!(bias.contains("value \"b\": scale 1 of a bias"), "{bias}");
    assert!(quantized_faults(|graph| graph.value_mut(B).quant = None).contains("a bias has the scale of input"));
    assert!(quantized_faults(|graph| graph.value_mut(W).quant = None).contains("weight is not quantized: \"w\""));
    assert!(quantized_faults(|graph| graph.value_mut(Y).quant = None).contains("value \"y\": is not quantized"));
    assert!(quantized_faults(|graph| graph.value_mut(X).dtype = DType::Int32).contains("8 or 16 bits: Int32"));
    let pool = quantized_faults(|graph| graph.value_mut(Z).quant = Some(Quantization::per_tensor(0.3, 3)));
    assert!(pool.contains("node \"pool\": keeps the element type and the scale"), "{pool}");
    let axis = quantized_faults(|graph| {
        let quant = graph.value_mut(W).quant.as_mut().unwrap();
        *quant = Quantization { scale: vec![0.1; 3], zero_point: vec![0; 3], axis: Some(2) };
    });
    assert!(axis.contains("run along its output channels"), "{axis}");
}

#[test]
fn a_host_operator_is_all_float_or_all_quantized() {
    let with_softmax = |quant: Option<Quantization>, dtype| {
        quantized_faults(|graph| {
            let s = add(graph, "s", dtype, &[1, 2, 3, 3], quant);
            let op = Op::Softmax { axis: 1 };
            graph.add_node(Node { name: "softmax".into(), op, inputs: vec![Z], outputs: vec![s] });
        })
    };
    assert_eq!(with_softmax(Some(Quantization::per_tensor(1.0 / 256.0, 0)), DType::UInt8), "");
    let mixed = with_softmax(None, DType::Fp32);
    assert!(mixed.contains("node \"softmax\": has quantized and float values: \"s\" is float"), "{mixed}");
}

/// `small`'s convolution in floats with a weight that is dequantized from `W`.
fn qdq() -> Graph<Float> {
    let mut graph = Graph::<Float>::new("qdq");
    let x = add(&mut graph, "x", DType::Fp32, &[1, 3, 8, 8], None);
    let q = add(&mut graph, "w_q", DType::Int8, &[2, 3, 3, 3], Some(Quantization::per_tensor(0.01, 0)));
    let w = add(&mut graph, "w", DType::Fp32, &[2, 3, 3, 3], None);
    let y = add(&mut graph, "y", DType::Fp32, &[1, 2, 6, 6], None);
    synthetic(&mut graph, q, -127, 127);
    graph.add_node(Node { name: "dq".into(), op: Op::DequantizeLinear, inputs: vec![q], outputs: vec![w] });
    let window = Window { kernel: [3, 3], ..Window::UNIT };
    let op = Op::Conv { window, groups: 1, activation: Activation::None };
    graph.add_node(Node { name: "conv".into(), op, inputs: vec![x, w], outputs: vec![y] });
    graph.inputs = vec![x];
    graph.outputs = vec![y];
    graph
}

#[test]
fn a_dequantized_constant_is_a_weight_before_quantization_and_not_after() {
    verify(&qdq()).unwrap();
    let fault = verify_quantized(&qdq().into_stage::<Quantized>()).unwrap_err();
    assert!(fault.to_string().contains("needs a constant: \"w\""), "{fault}");
    let mut computed = qdq();
    computed.value_mut(ValueId(1)).constant = None;
    computed.inputs.push(ValueId(1));
    assert!(verify(&computed).unwrap_err().to_string().contains("needs a constant: \"w\""));
}
