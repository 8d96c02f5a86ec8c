//! Each kind of vector work against its formula written out here in double precision or plain loops.

use proptest::prelude::*;

use super::*;
use crate::{
    ir::{Op, Window},
    program::Pad,
};

fn elementwise(op: Op, inputs: &[(f32, i32)], output: (f32, i32), dtype: DType) -> Arithmetic {
    let (low, high) = dtype.int_range().unwrap();
    Arithmetic::Elementwise {
        inputs: inputs.iter().map(|&(scale, zero)| Quantization::per_tensor(scale, zero)).collect(),
        input_types: vec![dtype; inputs.len()],
        output: Quantization::per_tensor(output.0, output.1),
        output_type: dtype,
        clamp: [low as i32, high as i32],
        op,
    }
}

fn run(arithmetic: Arithmetic, kind: VectorKind, operands: &[(&[u8], Region)], output: Region) -> Vec<u8> {
    let mut machine = machine(&accelerator(|_| ()), &header(arithmetic, None));
    for (bytes, region) in operands {
        let base = region.base.div_euclid(10_000) * 10_000;
        poke(&mut machine, BUFFER, base, bytes);
    }
    let inputs: Vec<Region> = operands.iter().map(|operand| operand.1).collect();
    machine.execute(&instruction(0, vector(kind, &inputs, output))).unwrap();
    peek(&machine, BUFFER, output.base, output.elements() as usize)
}

fn flat(base: i64, count: usize) -> Region {
    Region::flat(BUFFER, base, 1, count as u32)
}

/// A window over an image `[h, w, c]` at 20,000, without room for padding in memory.
fn window(h: u32, w: u32, c: u32, window: &Window) -> Region {
    let kernel = window.kernel.map(|k| k as u32);
    let stride = window.stride.map(|s| s as u32);
    let [top, left, ..] = window.pad.map(|pad| pad as u32);
    Region {
        space: BUFFER,
        base: 20_000 - i64::from((top * w + left) * c),
        element: 1.into(),
        dims: [
            Dim::ONE,
            Dim::new(window.output(0, h as usize).unwrap() as u32, stride[0] * w * c),
            Dim::new(window.output(1, w as usize).unwrap() as u32, stride[1] * c),
            Dim::new(kernel[0], w * c),
            Dim::new(kernel[1], c),
            Dim::new(c, 1),
        ],
        split: 3,
        row_window: None,
        window: None,
        pad: Some(Pad {
            row0: -(top as i32),
            rows: h,
            row_step: [stride[0], 1],
            col0: -(left as i32),
            cols: w,
            col_step: [stride[1], 1],
        }),
    }
}

/// The values under each window, `[pixel][channel]`.
fn taps(image: &[u8], h: usize, w: usize, c: usize, window: &Window) -> Vec<Vec<i64>> {
    let mut all = Vec::new();
    for oh in 0..window.output(0, h).unwrap() {
        for ow in 0..window.output(1, w).unwrap() {
            for channel in 0..c {
                let mut here = Vec::new();
                for r in 0..window.kernel[0] {
                    for s in 0..window.kernel[1] {
                        let y = (oh * window.stride[0] + r) as i64 - window.pad[0] as i64;
                        let x = (ow * window.stride[1] + s) as i64 - window.pad[1] as i64;
                        if (0..h as i64).contains(&y) && (0..w as i64).contains(&x) {
                            here.push(i64::from(image[(y as usize * w + x as usize) * c + channel]));
                        }
                    }
                }
                all.push(here);
            }
        }
    }
    all
}

const POOL: Window = Window { kernel: [3, 2], stride: [2, 1], dilation: [1, 1], pad: [1, 1, 1, 0] };

fn pooled(op: Op, kind: VectorKind, window_: &Window, image: &[u8], input: (f32, i32), output: (f32, i32)) -> Vec<u8> {
    let region = window(5, 4, 3, window_);
    let pixels = region.rows();
    let target = Region::matrix(BUFFER, 40_000, 1, Dim::new(pixels, 3), Dim::new(3, 1));
    let mut machine = machine(&accelerator(|_| ()), &header(elementwise(op, &[input], output, DType::UInt8), None));
    poke(&mut machine, BUFFER, 20_000, image);
    machine.execute(&instruction(0, vector(kind, &[region], target))).unwrap();
    peek(&machine, BUFFER, 40_000, pixels as usize * 3)
}

#[test]
fn a_maximum_ignores_padding() {
    let image = Noise(1).bytes(60);
    let got = pooled(Op::MaxPool { window: POOL }, VectorKind::MaxPool, &POOL, &image, (0.1, 200), (0.1, 200));
    let expected: Vec<u8> = taps(&image, 5, 4, 3, &POOL).iter().map(|taps| *taps.iter().max().unwrap() as u8).collect();
    assert_eq!(got, expected);
}

#[test]
fn an_average_divides_by_what_its_layer_says() {
    let image = Noise(2).bytes(60);
    for count_include_pad in [false, true] {
        let op = Op::AvgPool { window: POOL, count_include_pad };
        let got = pooled(op, VectorKind::AvgPool, &POOL, &image, (0.5, 10), (0.25, 7));
        let expected: Vec<u8> = taps(&image, 5, 4, 3, &POOL)
            .iter()
            .map(|taps| {
                let sum: f32 = taps.iter().fold(0.0, |sum, &q| sum + (q - 10) as f32 * 0.5);
                let count = if count_include_pad { 6 } else { taps.len() };
                ((sum / count as f32) / 0.25 + 7.0).round_ties_even().clamp(0.0, 255.0) as u8
            })
            .collect();
        assert_eq!(got, expected);
    }
}

#[test]
fn a_global_average_is_the_integer_formula() {
    let image = Noise(3).bytes(60);
    let whole = Window { kernel: [5, 4], ..Window::UNIT };
    let got = pooled(Op::GlobalAvgPool, VectorKind::GlobalAvgPool, &whole, &image, (0.02, 100), (0.011, 90));
    let expected: Vec<u8> = taps(&image, 5, 4, 3, &whole)
        .iter()
        .map(|taps| {
            let sum: i64 = taps.iter().map(|q| q - 100).sum();
            let multiplier = 0.02_f32 / (0.011_f32 * 20.0);
            ((sum as f32 * multiplier).round_ties_even() + 90.0).clamp(0.0, 255.0) as u8
        })
        .collect();
    assert_eq!(got, expected);
}

/// Any scales, and powers of two, which put results halfway between two integers.
fn scales() -> impl Strategy<Value = f32> {
    prop_oneof![0.001_f32..1.0, (0_i32..8).prop_map(|exponent| 0.5_f32.powi(exponent))]
}

#[test]
fn the_zero_point_of_a_product_goes_in_before_the_rounding() {
    let operands = [(&[3_u8, 5][..], flat(0, 2)), (&[1_u8, 1][..], flat(10_000, 2))];
    let product = |zero| {
        let op = elementwise(Op::Mul, &[(1.0, 0), (1.0, 0)], (2.0, zero), DType::UInt8);
        run(op, VectorKind::Mul, &operands, flat(30_000, 2))
    };
    // 1.5 and 2.5 to the even neighbour; 2.5 and 3.5 likewise.
    assert_eq!((product(0), product(1)), (vec![2, 2], vec![2, 4]));
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(128))]
    #[test]
    fn sums_and_products_follow_onnx_runtime(
        a in prop::collection::vec(any::<u8>(), 12), b in prop::collection::vec(any::<u8>(), 12),
        sa in scales(), sb in scales(), sc in scales(), zeros in (0_i32..256, 0_i32..256, 0_i32..256),
    ) {
        let (qa, qb, qc) = ((sa, zeros.0), (sb, zeros.1), (sc, zeros.2));
        let operands = [(a.as_slice(), flat(0, 12)), (b.as_slice(), flat(10_000, 12))];
        let add = Op::Add { activation: crate::ir::Activation::None };
        let got = run(elementwise(add, &[qa, qb], qc, DType::UInt8), VectorKind::Add, &operands, flat(30_000, 12));
        let (ra, rb) = (sa / sc, sb / sc);
        let k = zeros.2 as f32 - ra.mul_add(zeros.0 as f32, rb * zeros.1 as f32);
        for i in 0..12 {
            let sum = f32::from(a[i]).mul_add(ra, f32::from(b[i]).mul_add(rb, k));
            prop_assert_eq!(got[i], sum.round_ties_even().clamp(0.0, 255.0) as u8);
        }
        let got = run(elementwise(Op::Mul, &[qa, qb], qc, DType::UInt8), VectorKind::Mul, &operands, flat(30_000, 12));
        for i in 0..12 {
            let product = ((i32::from(a[i]) - zeros.0) * (i32::from(b[i]) - zeros.1)) as f32 * (sa * sb / sc);
            let value = (product + zeros.2 as f32).round_ties_even();
            prop_assert_eq!(got[i], value.clamp(0.0, 255.0) as u8);
        }
    }
}

#[test]
fn an_operand_with_a_stride_of_zero_broadcasts() {
    let row: Vec<u8> = vec![10, 20, 30];
    let image = Noise(4).bytes(12);
    let repeated = Region::matrix(BUFFER, 10_000, 1, Dim::new(4, 0), Dim::new(3, 1));
    let operands = [(image.as_slice(), flat(0, 12)), (row.as_slice(), repeated)];
    let quantization = (1.0, 0);
    let op = elementwise(Op::Mul, &[(1.0, 0), (0.1, 0)], quantization, DType::UInt8);
    let got = run(op, VectorKind::Mul, &operands, flat(30_000, 12));
    for i in 0..12 {
        let product = (u32::from(image[i]) * u32::from(row[i % 3])) as f32 * 0.1_f32;
        assert_eq!(got[i], product.round_ties_even().min(255.0) as u8);
    }
}

#[test]
fn a_table_reads_the_operand_that_it_names() {
    let arithmetic = elementwise(Op::Concat { axis: 1 }, &[(1.0, 0), (2.0, 5)], (1.0, 1), DType::UInt8);
    let mut machine = machine(&accelerator(|_| ()), &header(arithmetic, None));
    poke(&mut machine, BUFFER, 0, &[0, 5, 7, 250]);
    for (operand, expected) in [(0, [1, 6, 8, 251]), (1, [0, 1, 5, 255])] {
        let Operation::Vector(mut op) = vector(VectorKind::Table, &[flat(0, 4)], flat(100, 4)) else { unreachable!() };
        op.operand = operand;
        machine.execute(&instruction(0, Operation::Vector(op))).unwrap();
        assert_eq!(peek(&machine, BUFFER, 100, 4), expected);
    }
}

#[test]
fn a_sigmoid_table_is_the_function_at_every_entry() {
    let all: Vec<u8> = (0..=255).collect();
    let arithmetic = elementwise(Op::Sigmoid, &[(0.05, 0)], (1.0 / 256.0, -128), DType::Int8);
    let got = run(arithmetic, VectorKind::Table, &[(&all, flat(0, 256))], flat(30_000, 256));
    for (byte, got) in all.iter().zip(got) {
        let x = f32::from(byte.cast_signed()) * 0.05_f32;
        let y = (1.0 / (1.0 + (-f64::from(x)).exp())) as f32 / (1.0 / 256.0);
        assert_eq!(f64::from(got.cast_signed()), (f64::from(y.round_ties_even()) - 128.0).clamp(-128.0, 127.0));
    }
}

#[test]
fn softmax_runs_along_columns() {
    let values = [10, 20, 30, 200, 200, 0];
    let arithmetic = elementwise(Op::Softmax { axis: 1 }, &[(0.1, 3)], (1.0 / 256.0, 0), DType::UInt8);
    let rows = Region::matrix(BUFFER, 0, 1, Dim::new(2, 3), Dim::new(3, 1));
    let target = Region { base: 30_000, ..rows };
    let got = run(arithmetic, VectorKind::Softmax, &[(&values, rows)], target);
    for (row, got) in values.chunks(3).zip(got.chunks(3)) {
        let powers: Vec<f64> = row.iter().map(|&q| (f64::from(q) * 0.1).exp()).collect();
        let sum: f64 = powers.iter().sum();
        for (power, &got) in powers.iter().zip(got) {
            assert!((power / sum * 256.0 - f64::from(got)).abs() <= 0.501);
        }
    }
}

#[test]
fn a_copy_fills_padding_with_the_operators_value() {
    let pad = Op::Pad { before: vec![0, 0, 1, 1], after: vec![0, 0, 0, 0], value: 2.0 };
    let arithmetic = elementwise(pad, &[(0.5, 3)], (0.5, 3), DType::UInt8);
    let border = Window { kernel: [1, 1], stride: [1, 1], dilation: [1, 1], pad: [1, 1, 0, 0] };
    let source = window(2, 2, 1, &border);
    let mut machine = machine(&accelerator(|_| ()), &header(arithmetic, None));
    poke(&mut machine, BUFFER, 20_000, &[11, 12, 13, 14]);
    let target = flat(30_000, 9);
    machine.execute(&instruction(0, vector(VectorKind::Copy, &[source], target))).unwrap();
    assert_eq!(peek(&machine, BUFFER, 30_000, 9), [7, 7, 7, 7, 11, 12, 7, 13, 14]);
}

/// Depthwise 3x3 over `[5, 4, 3]` with a chunked order or an exact one.
fn depthwise(order: AccumulationOrder, cut: impl Fn(i64) -> i64) {
    let mut noise = Noise(6);
    let image = noise.bytes(60);
    let weights = noise.bytes(27);
    let same = Window { kernel: [3, 3], stride: [1, 1], dilation: [1, 1], pad: [1, 1, 1, 1] };
    let mut machine = machine(&accelerator(|_| ()), &header(matrix(4, &[1], 2, [-128, 127], order), None));
    poke(&mut machine, BUFFER, 20_000, &image);
    poke(&mut machine, BUFFER, 0, &weights);
    let mut records = Vec::new();
    for channel in 0..3 {
        let record = requantizer::Record::derive(Requantizer::F32Rne, channel * 50, [0.5, 0.25, 2.0], 0).unwrap();
        record.encode(Requantizer::F32Rne, &mut records);
    }
    poke(&mut machine, BUFFER, 100, &records);
    let inputs = [
        window(5, 4, 3, &same),
        Region::matrix(BUFFER, 0, 1, Dim::new(3, 9), Dim::new(9, 1)),
        Region::matrix(BUFFER, 100, 1, Dim::new(3, 8), Dim::new(8, 1)),
    ];
    let target = Region::matrix(BUFFER, 40_000, 1, Dim::new(20, 3), Dim::new(3, 1));
    machine.execute(&instruction(0, vector(VectorKind::Depthwise, &inputs, target))).unwrap();
    let got = peek(&machine, BUFFER, 40_000, 60);
    for (oh, ow, c) in (0..5).flat_map(|h| (0..4).flat_map(move |w| (0..3).map(move |c| (h, w, c)))) {
        let mut sum = 0;
        for (r, s) in (0..3).flat_map(|r| (0..3).map(move |s| (r, s))) {
            let (y, x) = (oh + r - 1, ow + s - 1);
            if (0..5).contains(&y) && (0..4).contains(&x) {
                let value = i64::from(image[((y * 4 + x) * 3 + c) as usize].cast_signed()) - 4;
                sum = cut(sum + value * (i64::from(weights[(c * 9 + r * 3 + s) as usize].cast_signed()) - 1));
            }
        }
        let scaled = ((sum + c * 50) as f32 / 16.0).round_ties_even() as i64 + 2;
        let at = ((oh * 4 + ow) * 3 + c) as usize;
        assert_eq!(i64::from(got[at].cast_signed()), scaled.clamp(-128, 127));
    }
}

#[test]
fn depthwise_windows_are_exact() {
    depthwise(AccumulationOrder::Exact, |sum| sum);
}

#[test]
fn depthwise_windows_follow_a_chunked_order() {
    let order = AccumulationOrder::Chunked {
        permutation: vec![],
        chunks: vec![9],
        column_bits: 12,
        accumulator_bits: 32,
        overflow: Overflow::Saturate,
    };
    depthwise(order, |sum| sum.clamp(-2048, 2047));
}

#[test]
fn a_result_of_sixteen_bits_is_stored_whole() {
    let arithmetic = Arithmetic::Elementwise {
        inputs: vec![Quantization::per_tensor(1.0, 0)],
        input_types: vec![DType::Int8],
        output: Quantization::per_tensor(0.01, 0),
        output_type: DType::Int16,
        clamp: [-32768, 32767],
        op: Op::Relu,
    };
    let mut machine = machine(&accelerator(|_| ()), &header(arithmetic, None));
    poke(&mut machine, BUFFER, 0, &[100, 0x80]);
    let target = Region::flat(BUFFER, 10, 2, 2);
    machine.execute(&instruction(0, vector(VectorKind::Table, &[flat(0, 2)], target))).unwrap();
    assert_eq!(peek(&machine, BUFFER, 10, 4), [0x10, 0x27, 0, 0]);
}
