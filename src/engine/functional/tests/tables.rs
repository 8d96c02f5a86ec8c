//! The vector unit's tables and the reference's functions, which are derived apart, on every 8-bit input.

use super::*;
use crate::{
    engine::functional::table,
    ir::{Graph, Node, NodeId, Op, Quantized, Value},
    reference::{Settings, run_node},
};

/// What the reference makes of all inputs of a type.
fn reference(op: &Op, inputs: &Tensor, input: &Quantization, output: &Quantization, dtype: DType) -> Vec<i64> {
    let mut graph = Graph::<Quantized>::new("one");
    let mut value = |name: &str, quant: &Quantization| {
        let quant = Some(quant.clone());
        graph.add_value(Value { name: name.into(), shape: inputs.shape().to_vec(), dtype, quant, constant: None })
    };
    let (x, y) = (value("x", input), value("y", output));
    graph.add_node(Node { name: "node".into(), op: op.clone(), inputs: vec![x], outputs: vec![y] });
    run_node(&graph, NodeId(0), &[inputs], &Settings::default()).unwrap()[0].to_integers().unwrap()
}

#[test]
fn tables_equal_the_reference_on_all_inputs_under_many_scales() {
    let mut noise = Noise(11);
    let operators = [
        Op::Relu,
        Op::LeakyRelu { alpha: 0.1 },
        Op::Clip { low: -0.3, high: 0.9 },
        Op::Clip { low: 1.0, high: -1.0 },
        Op::Sigmoid,
        Op::Tanh,
        Op::HardSigmoid { alpha: 0.2, beta: 0.5 },
        Op::HardSwish,
        Op::Affine { alpha: -0.7, beta: 0.3 },
        Op::Concat { axis: 0 },
    ];
    for dtype in [DType::UInt8, DType::Int8] {
        let (low, high) = dtype.int_range().unwrap();
        let all: Vec<i64> = (low..=high).collect();
        let inputs = Tensor::from_integers(dtype, &[256], &all).unwrap();
        for round in 0..200 {
            let mut quantization = || {
                // A third are powers of two, for ties.
                let exponent = -((noise.next() % 12) as i32);
                let share = if round % 3 == 0 { 1.0 } else { 1.0 + (noise.next() % 1000) as f32 / 1000.0 };
                Quantization::per_tensor(share * 2.0_f32.powi(exponent), (low + (noise.next() % 256) as i64) as i32)
            };
            let (input, output) = (quantization(), quantization());
            for op in &operators {
                let clamp = [low as i32, high as i32];
                let entry = |&q: &i64| i64::from(table::entry(op, q as i32, &input, &output, clamp));
                let made: Vec<i64> = all.iter().map(entry).collect();
                assert_eq!(made, reference(op, &inputs, &input, &output, dtype), "{op:?} {input:?} {output:?}");
            }
            let mut made = vec![0; 256];
            let row: Vec<i32> = all.iter().map(|&q| q as i32).collect();
            table::softmax(&row, &input, &output, [low as i32, high as i32], &mut made);
            let made: Vec<i64> = made.into_iter().map(i64::from).collect();
            assert_eq!(made, reference(&Op::Softmax { axis: 0 }, &inputs, &input, &output, dtype));
        }
    }
}

#[test]
fn numbers_that_are_none_or_too_large_end_at_the_zero_point_and_the_limits() {
    let rounded = |value| table::round_and_clip(value, 7, [-128, 127]);
    assert_eq!([f32::NAN, f32::INFINITY, f32::NEG_INFINITY, 3e38].map(rounded), [7, 127, -128, 127]);
    assert_eq!([0.5, 1.5, -0.5, -1.5, 2.500_000_2, -2.500_000_2].map(rounded), [7, 9, 7, 5, 10, 4]);
}
