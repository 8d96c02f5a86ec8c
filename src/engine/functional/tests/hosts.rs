//! Whole operators on the host, through the instruction, on tensors in memory.

use ndarray::{ArrayD, IxDyn};

use super::*;
use crate::ir::{Activation, Op, Window};

/// A tensor of the test: shape, type, quantization.
type Place<'a> = (&'a [usize], DType, Option<(f32, i32)>);

fn quantization(place: &Place) -> Quantization {
    let (scale, zero) = place.2.unwrap_or((1.0, 0));
    Quantization::per_tensor(scale, zero)
}

/// Executes `op` on tensors that lie one after the other in memory.
fn execute(op: Op, inputs: &[(Place, Tensor)], output: Place) -> Result<Tensor, FunctionalError> {
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
        let strides = (0..shape.len()).map(|axis| shape[axis + 1..].iter().product::<usize>() as u64 * dtype.bytes());
        header.tensors.push(TensorPlace {
            value: ValueId(0),
            name: format!("t{index}"),
            shape: shape.to_vec(),
            dtype: *dtype,
            space: MEMORY,
            base: 4096 * index as u64,
            strides: strides.collect(),
        });
    }
    header.layers[0].inputs = (0..inputs.len() as u32).map(TensorId).collect();
    let result = TensorId(inputs.len() as u32);
    header.layers[0].outputs = vec![result];
    let mut machine = machine(&accelerator(|_| ()), &header);
    for (id, (_, tensor)) in (0..).map(TensorId).zip(inputs) {
        machine.set_constant(id, tensor).unwrap();
    }
    let nothing = Region::flat(MEMORY, 0, 1, 1);
    let op = VectorOp {
        kind: VectorKind::WholeOperator,
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
fn floats_are_quantized_and_back() {
    let x = f32s(&[4], &[-1.0, 0.25, 0.75, 100.0]);
    let quantized: Place = (&[4], DType::UInt8, Some((0.5, 10)));
    let float: Place = (&[4], DType::Fp32, None);
    let q = execute(Op::QuantizeLinear, &[(float, x)], quantized).unwrap();
    // 0.25 and 0.75 are ties: to the even neighbour, before the zero point.
    assert_eq!(q, u8s(&[4], &[8, 10, 12, 210]));
    let back = execute(Op::DequantizeLinear, &[(quantized, q)], float).unwrap();
    assert_eq!(back, f32s(&[4], &[-1.0, 0.0, 1.0, 100.0]));
}

#[test]
fn moves_keep_elements() {
    let x = u8s(&[1, 2, 3], &[1, 2, 3, 4, 5, 6]);
    let from: Place = (&[1, 2, 3], DType::UInt8, Some((1.0, 9)));
    let turned =
        execute(Op::Transpose { perm: vec![0, 2, 1] }, &[(from, x.clone())], (&[1, 3, 2], DType::UInt8, from.2));
    assert_eq!(turned.unwrap(), u8s(&[1, 3, 2], &[1, 4, 2, 5, 3, 6]));
    let flat = execute(Op::Reshape, &[(from, x.clone())], (&[6], DType::UInt8, from.2));
    assert_eq!(flat.unwrap(), u8s(&[6], &[1, 2, 3, 4, 5, 6]));
    let pad = Op::Pad { before: vec![0, 0, 1], after: vec![0, 0, 0], value: -2.0 };
    let padded = execute(pad, &[(from, x)], (&[1, 2, 4], DType::UInt8, from.2));
    assert_eq!(padded.unwrap(), u8s(&[1, 2, 4], &[7, 1, 2, 3, 7, 4, 5, 6]));
}

#[test]
fn a_concatenation_rescales_each_part() {
    let parts = [
        ((&[2, 1][..], DType::UInt8, Some((1.0, 0))), u8s(&[2, 1], &[3, 200])),
        ((&[2, 2][..], DType::UInt8, Some((0.5, 2))), u8s(&[2, 2], &[2, 4, 3, 255])),
    ];
    let joined = execute(Op::Concat { axis: 1 }, &parts, (&[2, 3], DType::UInt8, Some((1.0, 1)))).unwrap();
    // 0.5 is a tie: to 0.
    assert_eq!(joined, u8s(&[2, 3], &[4, 1, 2, 201, 1, 127]));
}

#[test]
fn float_operators_work_element_by_element() {
    let place: Place = (&[2, 2], DType::Fp32, None);
    let row: Place = (&[2], DType::Fp32, None);
    let a = (place, f32s(&[2, 2], &[1.0, 2.0, 3.0, 4.0]));
    let b = (row, f32s(&[2], &[2.0, 4.0]));
    let both = |op| execute(op, &[a.clone(), b.clone()], place).unwrap().to_f32();
    assert_eq!(both(Op::Sub), [-1.0, -2.0, 1.0, 0.0]);
    assert_eq!(both(Op::Div), [0.5, 0.5, 1.5, 1.0]);
    assert_eq!(both(Op::Mul), [2.0, 8.0, 6.0, 16.0]);
    let clipped = Op::Add { activation: Activation::Clip { low: 0.0, high: 5.0 } };
    assert_eq!(both(clipped), [3.0, 5.0, 5.0, 5.0]);
    let mean = execute(Op::ReduceMean { axes: vec![0], keep_dims: false }, &[a], row).unwrap();
    assert_eq!(mean, f32s(&[2], &[2.0, 3.0]));
    let softmax = execute(Op::Softmax { axis: 1 }, &[(place, f32s(&[2, 2], &[0.0; 4]))], place).unwrap();
    assert_eq!(softmax, f32s(&[2, 2], &[0.5; 4]));
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
    let got = execute(op, &inputs, (&[1, 2, 2, 2], DType::UInt8, Some((8.0, 50)))).unwrap();
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
fn host_and_vector_unit_pool_alike() {
    let x = Noise(8).bytes(12);
    let from: Place = (&[1, 1, 3, 4], DType::UInt8, Some((0.5, 3)));
    let to: Place = (&[1, 1, 1, 1], DType::UInt8, Some((0.25, 1)));
    let sum: i64 = x.iter().map(|&q| i64::from(q) - 3).sum();
    let multiplier = 0.5_f32 / (0.25_f32 * 12.0);
    let expected = ((sum as f32 * multiplier).round_ties_even() + 1.0).clamp(0.0, 255.0) as u8;
    let got = execute(Op::GlobalAvgPool, &[(from, u8s(&[1, 1, 3, 4], &x))], to).unwrap();
    assert_eq!(got, u8s(&[1, 1, 1, 1], &[expected]));
    let axes = Op::ReduceMean { axes: vec![2, 3], keep_dims: true };
    assert_eq!(execute(axes, &[(from, u8s(&[1, 1, 3, 4], &x))], to).unwrap(), got);
}

#[test]
fn shapes_that_do_not_fit_are_faults() {
    let place: Place = (&[2, 2], DType::Fp32, None);
    let x = (place, f32s(&[2, 2], &[0.0; 4]));
    assert!(execute(Op::Transpose { perm: vec![0, 0] }, std::slice::from_ref(&x), place).is_err());
    assert!(execute(Op::Add { activation: Activation::None }, std::slice::from_ref(&x), place).is_err());
    assert!(execute(Op::Softmax { axis: 5 }, std::slice::from_ref(&x), place).is_err());
    assert!(execute(Op::Reshape, &[x], (&[5], DType::Fp32, None)).is_err());
}
