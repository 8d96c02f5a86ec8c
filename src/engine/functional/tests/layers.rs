//! Weight images, whole small layers from memory to memory, traces, observers.

use ndarray::{ArrayD, IxDyn};

use super::*;

/// A layer's weights: `groups` of `outputs / groups x channels / groups`, in tiles of `[outputs, channels]`.
pub(super) struct Shape {
    pub groups: u32,
    pub outputs: u32,
    pub channels: u32,
    pub kernel: [u32; 2],
    pub tiles: [u32; 2],
}

/// Its image, `bundle` groups a pass.
pub(super) fn image(shape: &Shape, bundle: u32) -> WeightImage {
    let passes = shape.groups.div_ceil(bundle);
    let [outputs, channels] = [shape.outputs, shape.channels].map(|all| all / shape.groups * bundle);
    let weights = u64::from(passes * outputs * channels * shape.kernel[0] * shape.kernel[1]);
    let parameters_offset = weights.next_multiple_of(64);
    WeightImage {
        layer: LayerId(0),
        memory: MemoryId(0),
        base: 0,
        bytes: parameters_offset + u64::from(shape.outputs) * 12,
        weights: Some(ValueId(0)),
        input_major: false,
        bias: None,
        element: 1.into(),
        passes,
        groups_per_pass: bundle,
        outputs,
        channels,
        kernel: shape.kernel,
        output_tile: shape.tiles[0],
        channel_tile: shape.tiles[1],
        parameters_offset,
    }
}

/// Bytes in `[O, R, S, C]` order as a tensor `[O, C, R, S]`.
pub(super) fn oihw(bytes: &[u8], shape: &[usize; 4]) -> Tensor {
    let [o, c, r, s] = *shape;
    let ohwi = ArrayD::from_shape_vec(IxDyn(&[o, r, s, c]), bytes.iter().map(|byte| byte.cast_signed()).collect());
    Tensor::I8(ohwi.unwrap().permuted_axes(IxDyn(&[0, 3, 1, 2])))
}

#[test]
fn tiles_of_block_diagonal_groups_lie_as_documented() {
    // Five groups of 2 outputs x 3 channels, two a pass: the last pass is ragged. Tiles cut groups.
    let shape = Shape { groups: 5, outputs: 10, channels: 15, kernel: [2, 1], tiles: [3, 4] };
    let image = image(&shape, 2);
    let zero = -7_i8;
    let mut noise = Noise(3);
    let weights: Vec<i8> = noise.bytes(10 * 3 * 2).iter().map(|byte| byte.cast_signed()).collect();
    let tensor = Tensor::I8(ArrayD::from_shape_vec(IxDyn(&[10, 3, 2, 1]), weights.clone()).unwrap());
    let mut header = header(matrix(0, &[i32::from(zero)], 0, [-128, 127], AccumulationOrder::Exact), None);
    header.weights.push(image.clone());
    let machine =
        Machine::with_options(&accelerator(|_| ()), &header, &|_| Some(tensor.clone()), Options { checked: true });
    let machine = machine.unwrap();
    for pass in 0..image.passes {
        for n in 0..image.outputs {
            for r in 0..2 {
                for c in 0..image.channels {
                    let (o_tile, c_tile) = (n / 3, c / 4);
                    let columns = 4.min(image.channels - c_tile * 4);
                    let inside = ((n % 3 * 2 + r) * columns + c % 4) as i64;
                    let address = image.tile_address(pass, o_tile, c_tile) as i64 + inside;
                    let output = pass * image.outputs + n;
                    let own = n / 2 == c / 3 && output < 10;
                    let expected = if own { weights[((output * 3 + c % 3) * 2 + r) as usize] } else { zero };
                    assert_eq!(peek(&machine, MEMORY, address, 1)[0].cast_signed(), expected, "{pass} {n} {r} {c}");
                }
            }
        }
    }
}

#[test]
fn a_matrix_with_its_inputs_first_is_turned() {
    let shape = Shape { groups: 1, outputs: 3, channels: 4, kernel: [1, 1], tiles: [2, 4] };
    let image = WeightImage { input_major: true, ..image(&shape, 1) };
    let tensor = Tensor::I8(ArrayD::from_shape_vec(IxDyn(&[4, 3]), (0..12).collect()).unwrap());
    let mut header = header(matrix(0, &[0], 0, [-128, 127], AccumulationOrder::Exact), None);
    header.weights.push(image);
    let machine = Machine::new(&accelerator(|_| ()), &header, &|_| Some(tensor.clone())).unwrap();
    assert_eq!(peek(&machine, MEMORY, 0, 12), [0, 3, 6, 9, 1, 4, 7, 10, 2, 5, 8, 11]);
}

#[test]
fn an_image_that_does_not_fit_its_weights_is_refused() {
    let shape = Shape { groups: 1, outputs: 3, channels: 4, kernel: [1, 1], tiles: [2, 4] };
    let mut header = header(matrix(0, &[0], 0, [-128, 127], AccumulationOrder::Exact), None);
    header.weights.push(image(&shape, 1));
    let tensor = Tensor::I8(ArrayD::zeros(IxDyn(&[3, 5])));
    let error = Machine::new(&accelerator(|_| ()), &header, &|_| Some(tensor.clone())).unwrap_err();
    let fault = Fault::Shape { what: "elements of the weights", expected: 12, found: 15 };
    assert_eq!(error, FunctionalError::Image { layer: "layer".into(), fault });
    let absurd = Header { memory_bytes: vec![1 << 40], weights: vec![], ..header };
    let error = Machine::new(&accelerator(|_| ()), &absurd, &|_| None).unwrap_err();
    assert!(matches!(error, FunctionalError::TooLarge(_)));
}

/// A 1x1 convolution of 2x3 pixels, 4 channels to 5, from memory to memory.
fn pointwise(requantizer: Requantizer) -> (Machine<'static>, Vec<Instruction>, Tensor, Vec<i64>) {
    let shape = Shape { groups: 1, outputs: 5, channels: 4, kernel: [1, 1], tiles: [5, 4] };
    let mut header = header(matrix(3, &[0], -1, [-100, 100], AccumulationOrder::Exact), Some(Dataflow::WS));
    let place = |name: &str, shape: [usize; 4], base: u64| {
        let [_, c, h, w] = shape;
        TensorPlace {
            value: ValueId(9),
            name: name.into(),
            shape: shape.to_vec(),
            dtype: DType::Int8,
            space: MEMORY,
            base,
            layout: crate::mapping::Layout::Image,
            strides: vec![(c * h * w) as u64, 1, (w * c) as u64, c as u64],
        }
    };
    header.tensors = vec![place("x", [1, 4, 2, 3], 1000), place("y", [1, 5, 2, 3], 2000)];
    header.layers[0].inputs = vec![TensorId(0)];
    header.layers[0].outputs = vec![TensorId(1)];
    header.inputs = vec![TensorId(0)];
    header.outputs = vec![TensorId(1)];
    header.weights.push(WeightImage { bias: Some(ValueId(1)), ..image(&shape, 1) });
    let mut noise = Noise(11);
    let weights = noise.bytes(20);
    let constants = [
        oihw(&weights, &[5, 4, 1, 1]),
        Tensor::I32(ArrayD::from_shape_vec(IxDyn(&[5]), vec![100, -200, 0, 7, 3000]).unwrap()),
    ];
    let accelerator = accelerator(|config| config.vector.requantizer = requantizer);
    let constant = |id: ValueId| Some(constants[id.index()].clone());
    let mut machine = Machine::with_options(&accelerator, &header, &constant, Options { checked: true }).unwrap();
    let x = noise.bytes(24);
    let input = Tensor::I8(
        ArrayD::from_shape_vec(IxDyn(&[1, 4, 2, 3]), x.iter().map(|byte| byte.cast_signed()).collect()).unwrap(),
    );
    machine.set_input(0, &input).unwrap();
    let record = accelerator.parameter_bytes() as u32;
    let flat = |space, base, count| Region::flat(space, base, 1, count);
    let accumulators = Region::matrix(Space::Accumulators, 0, 1, Dim::new(6, 5), Dim::new(5, 1));
    let operations = vec![
        Operation::Load(Transfer { source: flat(MEMORY, 1000, 24), target: flat(BUFFER, 0, 24) }),
        Operation::Load(Transfer { source: flat(MEMORY, 0, 20), target: flat(BUFFER, 100, 20) }),
        Operation::Load(Transfer { source: flat(MEMORY, 64, 5 * record), target: flat(BUFFER, 200, 5 * record) }),
        Operation::Preload { stationary: Region::matrix(BUFFER, 100, 1, Dim::new(5, 4), Dim::new(4, 1)) },
        Operation::Matmul(Matmul {
            stream: Region::matrix(BUFFER, 0, 1, Dim::new(6, 4), Dim::new(4, 1)),
            stationary: None,
            accumulators,
            accumulate: false,
            resume: false,
            hold: false,
            macs: 120,
        }),
        vector(
            VectorKind::Requantize,
            &[accumulators, Region::matrix(BUFFER, 200, 1, Dim::new(5, record), Dim::new(record, 1))],
            Region::matrix(BUFFER, 400, 1, Dim::new(6, 5), Dim::new(5, 1)),
        ),
        Operation::Fence,
        Operation::Store(Transfer { source: flat(BUFFER, 400, 30), target: flat(MEMORY, 2000, 30) }),
    ];
    let instructions = (0..).zip(operations).map(|(index, operation)| instruction(index, operation)).collect();
    // [output][pixel], bias included.
    let bias = [100, -200, 0, 7, 3000];
    let sums = (0..30).map(|i| {
        let (o, pixel) = (i / 6, i % 6);
        let products = (0..4)
            .map(|c| (i64::from(x[c * 6 + pixel].cast_signed()) - 3) * i64::from(weights[o * 4 + c].cast_signed()));
        products.sum::<i64>() + bias[o]
    });
    (machine, instructions, input, sums.collect())
}

#[test]
fn a_layer_runs_from_memory_to_memory_with_every_requantizer() {
    use crate::tensor::Rounding;
    // The multiplier is 1/16 exactly, so that each requantizer's rounding is all that differs.
    let cases: [(Requantizer, fn(f64) -> f64); 5] = [
        (Requantizer::F32Rne, f64::round_ties_even),
        // Truncation towards zero of a doubled product, then half away: on 2^-3 * 2^-1 exact, half away.
        (Requantizer::FixedDouble31, |value| (value * 8.0 / 8.0).round()),
        (Requantizer::FixedSingle31, |value| (value + 0.5).floor()),
        (Requantizer::FixedMul { bits: 16, max_shift: 40, rounding: Rounding::Floor }, f64::floor),
        (Requantizer::FixedMul { bits: 8, max_shift: 2, rounding: Rounding::HalfAway }, |value| {
            // At most two bits of shift: 1/16 is not representable, and rounds to zero.
            value * 0.0
        }),
    ];
    for (requantizer, round) in cases {
        let (mut machine, instructions, _, sums) = pointwise(requantizer);
        machine.run(instructions).unwrap();
        let got = machine.outputs().unwrap()[0].to_integers().unwrap();
        let expected: Vec<i64> =
            sums.iter().map(|&sum| (round(sum as f64 / 16.0) as i64 - 1).clamp(-100, 100)).collect();
        if requantizer == Requantizer::FixedDouble31 {
            // The first of its two roundings is half up in the 32-bit high product: compare where no tie can arise.
            for ((got, expected), sum) in got.iter().zip(&expected).zip(&sums) {
                assert!(got == expected || sum.rem_euclid(16) == 8 || sum.rem_euclid(16) == 7, "{sum}");
            }
        } else {
            assert_eq!(got, expected, "{requantizer:?}");
        }
    }
}

#[test]
fn any_order_that_respects_the_dependencies_gives_the_same_bits() {
    let (mut machine, instructions, ..) = pointwise(Requantizer::F32Rne);
    machine.run(instructions.clone()).unwrap();
    let expected = machine.outputs().unwrap();
    for order in [[2, 1, 3, 0, 4, 5, 6, 7], [1, 3, 0, 4, 2, 5, 7, 6]] {
        let (mut machine, instructions, ..) = pointwise(Requantizer::F32Rne);
        machine.run(order.map(|index: usize| instructions[index].clone())).unwrap();
        assert_eq!(machine.outputs().unwrap(), expected);
    }
    // The input after the product: a broken dependency is found, not computed with.
    let (mut machine, instructions, ..) = pointwise(Requantizer::F32Rne);
    assert!(machine.run([1, 3, 4].map(|index: usize| instructions[index].clone())).is_err());
}

#[test]
fn an_observer_sees_a_layer_when_it_is_done() {
    let (mut machine, instructions, input, _) = pointwise(Requantizer::F32Rne);
    let mut seen = Vec::new();
    machine
        .run_observed(instructions, &mut |layer, machine| {
            assert_eq!(machine.tensor(TensorId(0)).unwrap(), input);
            seen.push((layer, machine.tensor(TensorId(1)).unwrap()));
        })
        .unwrap();
    assert_eq!(seen.len(), 1);
    assert_eq!(seen[0].1, machine.outputs().unwrap()[0]);
}

#[test]
fn a_trace_tells_the_accumulator_and_both_instructions() {
    let (mut machine, instructions, _, sums) = pointwise(Requantizer::F32Rne);
    let bias = [100, -200, 0, 7, 3000];
    machine.set_trace(Some(&TracedElement { tensor: TensorId(1), index: vec![0, 3, 1, 2] })).unwrap();
    machine.run(instructions).unwrap();
    let origin = Origin { instruction: 5, accumulator: Some(sums[3 * 6 + 5] - bias[3]), carried_by: Some(7) };
    assert_eq!(machine.traced(), Some(origin));
    assert!(machine.set_trace(Some(&TracedElement { tensor: TensorId(1), index: vec![0, 5, 0, 0] })).is_err());
}

#[test]
fn a_second_sample_gives_the_same_bits_and_forgets_the_first() {
    let (mut machine, instructions, input, _) = pointwise(Requantizer::F32Rne);
    machine.run(instructions.clone()).unwrap();
    let first = machine.outputs().unwrap();
    machine.reset_activations();
    assert!(machine.outputs().is_err());
    assert!(machine.run(instructions.clone()).is_err());
    machine.reset_activations();
    machine.set_input(0, &input).unwrap();
    machine.run(instructions).unwrap();
    assert_eq!(machine.outputs().unwrap(), first);
}

#[test]
fn an_input_of_another_shape_or_type_is_refused() {
    let (mut machine, ..) = pointwise(Requantizer::F32Rne);
    assert!(machine.set_input(0, &Tensor::I8(ArrayD::zeros(IxDyn(&[1, 4, 3, 2])))).is_err());
    assert!(machine.set_input(0, &Tensor::U8(ArrayD::zeros(IxDyn(&[1, 4, 2, 3])))).is_err());
    assert_eq!(machine.set_input(1, &Tensor::U8(ArrayD::zeros(IxDyn(&[1])))), Err(FunctionalError::NoInput(1)));
}
