//! Whole operators on the host, through the instruction, on tensors in memory.

use std::sync::Mutex;

use ndarray::{ArrayD, IxDyn};

use super::*;
use crate::ir::{Activation, NodeId, Op, Window};

/// A tensor of the test: shape, type, quantization.
type Place<'a> = (&'a [usize], DType, Option<(f32, i32)>);

fn quantization(place: &Place) -> Quantization {
    let (scale, zero) = place.2.unwrap_or((1.0, 0));
    Quantization::per_tensor(scale, zero)
}

/// An executor that answers the same whatever it is asked, and keeps what it was asked.
#[derive(Debug, Default)]
struct Answer {
    results: Vec<Tensor>,
    asked: Mutex<Vec<(NodeId, Vec<Tensor>)>>,
}

impl HostExecutor for Answer {
    fn execute(&self, node: NodeId, operands: &[&Tensor]) -> Result<Vec<Tensor>, String> {
        let operands = operands.iter().map(|&tensor| tensor.clone()).collect();
        self.asked.lock().unwrap().push((node, operands));
        if self.results.is_empty() { Err("no answer".into()) } else { Ok(self.results.clone()) }
    }
}

/// Executes `op` on tensors that lie one after the other in memory, the first dimension innermost.
fn execute(
    op: Op,
    inputs: &[(Place, Tensor)],
    output: Place,
    host: Option<Arc<Answer>>,
) -> Result<Tensor, FunctionalError> {
    let range = output.1.int_range().unwrap_or((0, 0));
    let arithmetic = Arithmetic::Elementwise {
        inputs: inputs.iter().map(|input| quantization(&input.0)).collect(),
        input_types: inputs.iter().map(|input| input.0.1).collect(),
        output: quantization(&output),
        output_type: output.1,
        clamp: [range.0 as i32, range.1 as i32],
        op,
    };
    let mut header = header(arithmetic, None);
    let places: Vec<&Place> = inputs.iter().map(|input| &input.0).chain([&output]).collect();
    for (index, (shape, dtype, _)) in places.into_iter().enumerate() {
        let strides = (0..shape.len()).map(|axis| shape[..axis].iter().product::<usize>() as u64 * dtype.bytes());
        header.tensors.push(TensorPlace {
            value: ValueId(0),
            name: format!("t{index}"),
            shape: shape.to_vec(),
            dtype: *dtype,
            space: MEMORY,
            base: 4096 * index as u64,
            layout: crate::mapping::Layout::Rows,
            strides: strides.collect(),
        });
    }
    header.layers[0].inputs = (0..inputs.len() as u32).map(TensorId).collect();
    let result = TensorId(inputs.len() as u32);
    header.layers[0].outputs = vec![result];
    header.layers[0].node = NodeId(7);
    let mut machine = machine(&accelerator(|_| ()), &header);
    if let Some(host) = host {
        machine = machine.with_host(host);
    }
    for (id, (_, tensor)) in (0..).map(TensorId).zip(inputs) {
        machine.set_constant(id, tensor).unwrap();
    }
    let nothing = Region::flat(MEMORY, 0, 1, 1);
    let op = VectorOp {
        kind: VectorKind::WholeOperator { elements: 1 },
        operand: 0,
        inputs: smallvec::smallvec![],
        output: nothing,
        macs: 0,
    };
    machine.execute(&instruction(0, Operation::Host(op)))?;
    machine.tensor(result)
}

fn u8s(shape: &[usize], values: &[u8]) -> Tensor {
    Tensor::U8(ArrayD::from_shape_vec(IxDyn(shape), values.to_vec()).unwrap())
}

fn f32s(shape: &[usize], values: &[f32]) -> Tensor {
    Tensor::from_f32(shape, values.to_vec()).unwrap()
}

#[test]
fn a_grouped_quantized_convolution_with_stride_and_padding() {
    let window = Window { kernel: [2, 2], stride: [2, 2], dilation: [1, 1], pad: [1, 0, 0, 0] };
    let op = Op::Conv { window, groups: 2, activation: Activation::None };
    let mut noise = Noise(5);
    let (x, w) = (noise.bytes(2 * 3 * 4), noise.bytes(2 * 4));
    let bias = [1000, -1000];
    let inputs = [
        ((&[1, 2, 3, 4][..], DType::UInt8, Some((0.5, 100))), u8s(&[1, 2, 3, 4], &x)),
        ((&[2, 1, 2, 2][..], DType::UInt8, Some((0.25, 128))), u8s(&[2, 1, 2, 2], &w)),
        ((&[2][..], DType::Int32, None), Tensor::I32(ArrayD::from_shape_vec(IxDyn(&[2]), bias.to_vec()).unwrap())),
    ];
    let got = execute(op, &inputs, (&[1, 2, 2, 2], DType::UInt8, Some((8.0, 50))), None).unwrap();
    let mut expected = Vec::new();
    for (o, p, q) in (0..2).flat_map(|o| (0..2).flat_map(move |p| (0..2).map(move |q| (o, p, q)))) {
        let mut sum = bias[o];
        for (r, s) in [(0_usize, 0), (0, 1), (1, 0), (1, 1)] {
            if let Some(y) = usize::checked_sub(p * 2 + r, 1) {
                let value = i32::from(x[(o * 3 + y) * 4 + q * 2 + s]) - 100;
                sum += value * (i32::from(w[o * 4 + r * 2 + s]) - 128);
            }
        }
        expected.push((((sum as f32) / 64.0).round_ties_even() + 50.0).clamp(0.0, 255.0) as u8);
    }
    assert_eq!(got, u8s(&[1, 2, 2, 2], &expected));
}

#[test]
fn a_matrix_product_takes_either_orientation() {
    let x = ((&[2, 2][..], DType::UInt8, Some((1.0, 1))), u8s(&[2, 2], &[2, 3, 4, 5]));
    let product = |transposed, shape: &[usize], weights: &[u8]| {
        let op = Op::MatMul { transposed, activation: Activation::None };
        let weights = ((shape, DType::UInt8, Some((0.5, 0))), u8s(shape, weights));
        execute(op, &[x.clone(), weights], (&[2, 3], DType::UInt8, Some((0.5, 10))), None).unwrap()
    };
    // [1, 2; 3, 4] by [1, 0, 2; 0, 1, 3], and the output's zero point.
    let expected = u8s(&[2, 3], &[11, 12, 18, 13, 14, 28]);
    assert_eq!(product(false, &[2, 3], &[1, 0, 2, 0, 1, 3]), expected);
    assert_eq!(product(true, &[3, 2], &[1, 0, 0, 1, 2, 3]), expected);
}

#[test]
fn the_executor_gets_the_node_and_its_operands_and_its_result_is_written_back() {
    let place: Place = (&[2, 3], DType::Fp32, None);
    let [a, b, answer] =
        [1.0, 10.0, 100.0].map(|first| f32s(&[2, 3], &[0.0, 1.0, 2.0, 3.0, 4.0, 5.0].map(|x| first * x)));
    let host = Arc::new(Answer { results: vec![answer.clone()], ..Answer::default() });
    let got = execute(Op::Sub, &[(place, a.clone()), (place, b.clone())], place, Some(Arc::clone(&host))).unwrap();
    assert_eq!(got, answer);
    assert_eq!(*host.asked.lock().unwrap(), [(NodeId(7), vec![a, b])]);
}

#[test]
fn what_the_executor_cannot_do_is_a_fault() {
    let place: Place = (&[2], DType::Fp32, None);
    let fault = |results: Option<Vec<Tensor>>| {
        let host = results.map(|results| Arc::new(Answer { results, ..Answer::default() }));
        execute(Op::Relu, &[(place, f32s(&[2], &[0.0; 2]))], place, host).unwrap_err().to_string()
    };
    assert!(fault(None).ends_with("the machine was given no executor for it"));
    assert!(fault(Some(Vec::new())).ends_with("on the host: no answer"));
    assert!(fault(Some(vec![f32s(&[3], &[0.0; 3])])).ends_with("has another shape"));
    assert!(fault(Some(vec![u8s(&[2], &[0; 2])])).contains("elements of type UInt8"));
    assert!(fault(Some(vec![f32s(&[2], &[0.0; 2]); 2])).ends_with("results of a host operator: expected 1, found 2"));
}
