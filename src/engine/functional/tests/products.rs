//! Products on the array: dataflows, padding, strides, folds, datapath that overflow.

use proptest::prelude::*;

use super::*;
use crate::program::Pad;

/// A convolution's shape, NHWC with batch 1.
#[derive(Clone, Copy, Debug)]
struct Conv {
    h: u32,
    w: u32,
    c: u32,
    kernel: u32,
    stride: u32,
    dilation: u32,
    pad: u32,
    outputs: u32,
}

impl Conv {
    fn out(&self, extent: u32) -> u32 {
        (extent + 2 * self.pad - (self.dilation * (self.kernel - 1) + 1)) / self.stride + 1
    }

    fn depth(&self) -> u32 {
        self.kernel * self.kernel * self.c
    }

    fn pixels(&self) -> u32 {
        self.out(self.h) * self.out(self.w)
    }

    /// The whole im2col walk of an image at `base`.
    fn image(&self, base: i64) -> Region {
        let row = self.w * self.c;
        Region {
            space: BUFFER,
            base: base - i64::from(self.pad * row + self.pad * self.c),
            element: 1.into(),
            dims: [
                Dim::ONE,
                Dim::new(self.out(self.h), self.stride * row),
                Dim::new(self.out(self.w), self.stride * self.c),
                Dim::new(self.kernel, self.dilation * row),
                Dim::new(self.kernel, self.dilation * self.c),
                Dim::new(self.c, 1),
            ],
            split: 3,
            row_window: None,
            window: None,
            pad: Some(Pad {
                row0: -(self.pad as i32),
                rows: self.h,
                row_step: [self.stride, self.dilation],
                col0: -(self.pad as i32),
                cols: self.w,
                col_step: [self.stride, self.dilation],
            }),
        }
    }

    /// `sum (x - xzp)(w - wzp)` as `[pixel][output]`; `weights` are `[output, r, s, c]`.
    fn reference(&self, image: &[u8], weights: &[u8], x_zero: i64, w_zero: &dyn Fn(usize) -> i64) -> Vec<i64> {
        let mut sums = Vec::new();
        for pixel in 0..self.pixels() {
            let (oh, ow) = (pixel / self.out(self.w), pixel % self.out(self.w));
            for o in 0..self.outputs as usize {
                let mut sum = 0;
                for r in 0..self.kernel {
                    for s in 0..self.kernel {
                        let y = i64::from(oh * self.stride + r * self.dilation) - i64::from(self.pad);
                        let x = i64::from(ow * self.stride + s * self.dilation) - i64::from(self.pad);
                        if y < 0 || x < 0 || y >= i64::from(self.h) || x >= i64::from(self.w) {
                            continue;
                        }
                        for c in 0..self.c as usize {
                            let at = (y as usize * self.w as usize + x as usize) * self.c as usize + c;
                            let tap = ((o as u32 * self.kernel + r) * self.kernel + s) as usize * self.c as usize + c;
                            let weight = i64::from(weights[tap].cast_signed()) - w_zero(o);
                            sum += (i64::from(image[at].cast_signed()) - x_zero) * weight;
                        }
                    }
                }
                sums.push(sum);
            }
        }
        sums
    }
}

/// The weights `[outputs, depth]` at `base`.
fn weight_region(base: i64, outputs: u32, depth: u32) -> Region {
    Region::matrix(BUFFER, base, 1, Dim::new(outputs, depth), Dim::new(depth, 1))
}

fn folds(total: u32, fold: u32) -> impl Iterator<Item = (u32, u32)> {
    (0..total).step_by(fold as usize).map(move |start| (start, fold.min(total - start)))
}

/// Runs a convolution in folds on a dataflow and returns `[pixel][output]` sums.
fn run(
    conv: &Conv,
    dataflow: Dataflow,
    fold: [u32; 3],
    image: &[u8],
    weights: &[u8],
    machine: &mut Machine,
) -> Vec<i64> {
    let [fold_t, fold_k, fold_n] = fold;
    let weights_at = 500_000;
    poke(machine, BUFFER, 0, image);
    poke(machine, BUFFER, weights_at, weights);
    let (pixels, outputs, depth) = (conv.pixels(), conv.outputs, conv.depth());
    let pixel_major = dataflow != Dataflow::IS;
    let mut index = 0;
    let mut step = |machine: &mut Machine, operation| {
        machine.execute(&instruction(index, operation)).unwrap();
        index += 1;
    };
    for (k, (k0, k_len)) in folds(depth, fold_k).enumerate() {
        for (n0, n_len) in folds(outputs, fold_n) {
            for (t0, t_len) in folds(pixels, fold_t) {
                let input = Region { row_window: Some((t0, t_len)), window: Some((k0, k_len)), ..conv.image(0) };
                let stationary = Region {
                    row_window: Some((n0, n_len)),
                    window: Some((k0, k_len)),
                    ..weight_region(weights_at, outputs, depth)
                };
                let accumulators = if pixel_major {
                    let base = i64::from(t0 * outputs + n0);
                    Region::matrix(Space::Accumulators, base, 1, Dim::new(t_len, outputs), Dim::new(n_len, 1))
                } else {
                    let base = i64::from(n0 * pixels + t0);
                    Region::matrix(Space::Accumulators, base, 1, Dim::new(n_len, pixels), Dim::new(t_len, 1))
                };
                let product = |stream, stationary| {
                    Operation::Matmul(Matmul {
                        stream,
                        stationary,
                        accumulators,
                        accumulate: k > 0,
                        resume: false,
                        hold: false,
                        macs: 0,
                    })
                };
                match dataflow {
                    Dataflow::WS => {
                        step(machine, Operation::Preload { stationary });
                        step(machine, product(input, None));
                    }
                    Dataflow::IS => {
                        step(machine, Operation::Preload { stationary: input });
                        step(machine, product(stationary, None));
                    }
                    Dataflow::OS => step(machine, product(input, Some(stationary))),
                }
            }
        }
    }
    let sums = super::accumulators(machine, 0, (pixels * outputs) as usize);
    if pixel_major {
        return sums;
    }
    let (pixels, outputs) = (pixels as usize, outputs as usize);
    (0..pixels * outputs).map(|i| sums[i % outputs * pixels + i / outputs]).collect()
}

fn check(conv: Conv, dataflow: Dataflow, fold: [u32; 3], zeros: (i32, i32), seed: u64) {
    let mut noise = Noise(seed);
    let image = noise.bytes((conv.h * conv.w * conv.c) as usize);
    let weights = noise.bytes((conv.outputs * conv.depth()) as usize);
    let arithmetic = matrix(zeros.0, &[zeros.1], 0, [-128, 127], AccumulationOrder::Exact);
    let mut machine = machine(&accelerator(|_| ()), &header(arithmetic, Some(dataflow)));
    let sums = run(&conv, dataflow, fold, &image, &weights, &mut machine);
    let expected = conv.reference(&image, &weights, i64::from(zeros.0), &|_| i64::from(zeros.1));
    assert_eq!(sums, expected, "{conv:?} {dataflow:?} {fold:?}");
}

const SMALL: Conv = Conv { h: 6, w: 5, c: 3, kernel: 3, stride: 1, dilation: 1, pad: 1, outputs: 7 };

#[test]
fn a_padded_convolution_is_right_on_every_dataflow() {
    for dataflow in [Dataflow::WS, Dataflow::OS, Dataflow::IS] {
        check(SMALL, dataflow, [100, 100, 100], (3, -2), 1);
    }
}

#[test]
fn folds_of_k_accumulate() {
    for dataflow in [Dataflow::WS, Dataflow::OS, Dataflow::IS] {
        check(SMALL, dataflow, [8, 5, 4], (-7, 1), 2);
    }
}

#[test]
fn stride_and_dilation_step_over_pixels() {
    check(Conv { h: 11, w: 9, stride: 2, ..SMALL }, Dataflow::WS, [10, 16, 16], (0, 0), 3);
    check(Conv { h: 9, w: 9, dilation: 2, pad: 2, ..SMALL }, Dataflow::OS, [10, 16, 16], (9, 0), 4);
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]
    #[test]
    fn any_fold_of_any_convolution_gives_the_same_sums(
        h in 1_u32..9, w in 1_u32..9, c in 1_u32..6, kernel in 1_u32..4, stride in 1_u32..3, dilation in 1_u32..3,
        pad in 0_u32..3, outputs in 1_u32..20, fold in (1_u32..20, 1_u32..20, 1_u32..20),
        dataflow in prop::sample::select(vec![Dataflow::WS, Dataflow::OS, Dataflow::IS]),
        zeros in (-128_i32..128, -128_i32..128), seed: u64,
    ) {
        let conv = Conv { h, w, c, kernel, stride, dilation, pad, outputs };
        let reach = dilation * (kernel - 1) + 1;
        prop_assume!(reach <= h + 2 * pad && reach <= w + 2 * pad);
        check(conv, dataflow, [fold.0, fold.1, fold.2], zeros, seed);
    }
}

#[test]
fn channels_with_their_own_weight_zero_points_keep_them_through_a_load() {
    let conv = Conv { outputs: 5, ..SMALL };
    let zeros = [3, -4, 0, 127, -128];
    let mut noise = Noise(7);
    let image = noise.bytes(90);
    let weights = noise.bytes((conv.outputs * conv.depth()) as usize);
    for dataflow in [Dataflow::WS, Dataflow::OS, Dataflow::IS] {
        let mut header = header(matrix(2, &zeros, 0, [-128, 127], AccumulationOrder::Exact), Some(dataflow));
        header.weights.push(layers::image(&conv_shape(&conv), 1));
        let tensor = layers::oihw(&weights, &[5, 3, 3, 3]);
        let mut machine =
            Machine::with_options(&accelerator(|_| ()), &header, &|_| Some(tensor.clone()), Options { checked: true })
                .unwrap();
        let bytes = conv.outputs * conv.depth();
        let load =
            Transfer { source: Region::flat(MEMORY, 0, 1, bytes), target: Region::flat(BUFFER, 500_000, 1, bytes) };
        machine.execute(&instruction(0, Operation::Load(load))).unwrap();
        let resident = peek(&machine, BUFFER, 500_000, bytes as usize);
        assert_eq!(resident, weights);
        // The zero points lie beside the loaded bytes: writing the same bytes again keeps them.
        let sums = run(&conv, dataflow, [8, 8, 2], &image, &weights, &mut machine);
        let expected = conv.reference(&image, &weights, 2, &|o| i64::from(zeros[o]));
        assert_eq!(sums, expected, "{dataflow:?}");
    }
}

fn conv_shape(conv: &Conv) -> layers::Shape {
    layers::Shape { groups: 1, outputs: conv.outputs, channels: conv.c, kernel: [conv.kernel; 2], tiles: [64, 64] }
}

/// One product of `[t, k] x [n, k]` on a machine with a narrow datapath, against adders spelled out here; weight stationary,
/// or output stationary with all folds of K held in the elements.
#[allow(clippy::too_many_arguments)] // One case of a property.
fn narrow(
    column: u8,
    accumulator: u8,
    overflow: Overflow,
    t: u32,
    k: u32,
    n: u32,
    folds_k: u32,
    held: bool,
    seed: u64,
) {
    let mut noise = Noise(seed);
    let (x, w) = (noise.bytes((t * k) as usize), noise.bytes((n * k) as usize));
    let order = AccumulationOrder::Chunked {
        permutation: vec![],
        chunks: vec![],
        column_bits: column,
        accumulator_bits: accumulator,
        overflow,
    };
    let accelerator = accelerator(|config| {
        config.array.column_bits = column;
        config.array.overflow = overflow;
        config.accumulators.bits = accumulator;
    });
    let dataflow = if held { Dataflow::OS } else { Dataflow::WS };
    let mut machine = machine(&accelerator, &header(matrix(5, &[0], 0, [-128, 127], order), Some(dataflow)));
    poke(&mut machine, BUFFER, 0, &x);
    poke(&mut machine, BUFFER, 4096, &w);
    for (fold, (k0, length)) in folds(k, folds_k).enumerate() {
        let window = Some((k0, length));
        let stationary = Region { window, ..weight_region(4096, n, k) };
        let stream = Region { window, ..weight_region(0, t, k) };
        let accumulators = Region::matrix(Space::Accumulators, 0, 1, Dim::new(t, n), Dim::new(n, 1));
        let last = k0 + length == k;
        if !held {
            machine.execute(&instruction(0, Operation::Preload { stationary })).unwrap();
        }
        let matmul = Matmul {
            stream,
            stationary: held.then_some(stationary),
            accumulators,
            accumulate: !held && fold > 0,
            resume: held && fold > 0,
            hold: held && !last,
            macs: 0,
        };
        machine.execute(&instruction(1, Operation::Matmul(matmul))).unwrap();
    }
    let cut = |value: i64, bits: u8| {
        let (low, high) = (-(1_i64 << (bits - 1)), (1_i64 << (bits - 1)) - 1);
        match overflow {
            Overflow::Saturate => value.clamp(low, high),
            Overflow::Wrap => (value - low).rem_euclid(1_i64 << bits) + low,
        }
    };
    let mut expected = Vec::new();
    for i in 0..t {
        for j in 0..n {
            let mut acc = 0;
            let columns: Vec<_> = if held { vec![(0, k)] } else { folds(k, folds_k).collect() };
            for (k0, length) in columns {
                let mut sum = 0;
                for d in k0..k0 + length {
                    let a = i64::from(x[(i * k + d) as usize].cast_signed()) - 5;
                    sum = cut(sum + a * i64::from(w[(j * k + d) as usize].cast_signed()), column);
                }
                acc = cut(acc + sum, accumulator);
            }
            expected.push(acc);
        }
    }
    assert_eq!(super::accumulators(&machine, 0, (t * n) as usize), expected);
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]
    #[test]
    fn narrow_adders_overflow_where_the_hardware_does(
        column in 12_u8..40, accumulator in 12_u8..50, saturate: bool, t in 1_u32..6, k in 1_u32..40, n in 1_u32..20,
        folds_k in 1_u32..20, held: bool, seed: u64,
    ) {
        let overflow = if saturate { Overflow::Saturate } else { Overflow::Wrap };
        narrow(column, accumulator, overflow, t, k, n, folds_k, held, seed);
    }
}

#[test]
fn sums_that_no_tile_left_cannot_be_gone_on_with() {
    let accelerator = accelerator(|_| {});
    let arithmetic = matrix(0, &[0], 0, [-128, 127], AccumulationOrder::Exact);
    let mut machine = machine(&accelerator, &header(arithmetic, Some(Dataflow::OS)));
    poke(&mut machine, BUFFER, 0, &[1; 64]);
    let tile = |t: u32, resume: bool, hold: bool| Matmul {
        stream: weight_region(0, t, 4),
        stationary: Some(weight_region(8, 1, 4)),
        accumulators: Region::flat(Space::Accumulators, 0, 1, t),
        accumulate: false,
        resume,
        hold,
        macs: 4,
    };
    let mut run = |matmul: Matmul| machine.execute(&instruction(0, Operation::Matmul(matmul)));
    assert!(run(tile(1, true, false)).is_err());
    run(tile(1, false, true)).unwrap();
    run(tile(1, true, false)).unwrap();
    // They left with the last tile.
    assert!(run(tile(1, true, false)).is_err());
}

#[test]
fn a_saturating_column_depends_on_the_order_of_k() {
    // 127 * 127 * 3 is past 15 bits; then as much is taken away.
    let order = AccumulationOrder::Chunked {
        permutation: vec![],
        chunks: vec![4],
        column_bits: 16,
        accumulator_bits: 16,
        overflow: Overflow::Saturate,
    };
    let accelerator = accelerator(|config| {
        config.array.column_bits = 16;
        config.accumulators.bits = 16;
        config.array.overflow = Overflow::Saturate;
    });
    let mut machine = machine(&accelerator, &header(matrix(0, &[0], 0, [-128, 127], order), Some(Dataflow::OS)));
    poke(&mut machine, BUFFER, 0, &[127, 127, 127, 127]);
    poke(&mut machine, BUFFER, 8, &[127, 127, 127, 129]);
    let matmul = Matmul {
        stream: weight_region(0, 1, 4),
        stationary: Some(weight_region(8, 1, 4)),
        accumulators: Region::flat(Space::Accumulators, 0, 1, 1),
        accumulate: false,
        resume: false,
        hold: false,
        macs: 4,
    };
    machine.execute(&instruction(0, Operation::Matmul(matmul))).unwrap();
    assert_eq!(super::accumulators(&machine, 0, 1), [32767 - 127 * 127]);
}

#[test]
fn a_product_without_its_stationary_operand_is_refused() {
    let arithmetic = matrix(0, &[0], 0, [-128, 127], AccumulationOrder::Exact);
    let mut machine = machine(&accelerator(|_| ()), &header(arithmetic, Some(Dataflow::WS)));
    let matmul = Matmul {
        stream: weight_region(0, 1, 4),
        stationary: None,
        accumulators: Region::flat(Space::Accumulators, 0, 1, 1),
        accumulate: false,
        resume: false,
        hold: false,
        macs: 4,
    };
    let error = machine.execute(&instruction(9, Operation::Matmul(matmul))).unwrap_err();
    let expected = FunctionalError::Instruction { instruction: 9, layer: "layer".into(), fault: Fault::NoStationary };
    assert_eq!(error, expected);
}

#[test]
fn reading_what_nothing_wrote_names_instruction_and_address() {
    let arithmetic = matrix(0, &[0], 0, [-128, 127], AccumulationOrder::Exact);
    let mut machine = machine(&accelerator(|_| ()), &header(arithmetic, Some(Dataflow::WS)));
    poke(&mut machine, BUFFER, 0, &[1, 2, 3]);
    let error =
        machine.execute(&instruction(4, Operation::Preload { stationary: weight_region(0, 1, 4) })).unwrap_err();
    let fault = Fault::Undefined { space: BUFFER, address: 3 };
    assert_eq!(error, FunctionalError::Instruction { instruction: 4, layer: "layer".into(), fault });
    let outside = Operation::Preload { stationary: weight_region(1_048_574, 1, 4) };
    let error = machine.execute(&instruction(5, outside)).unwrap_err();
    let fault = Fault::Outside { space: BUFFER, address: 1_048_574, length: 4, size: 1_048_576 };
    assert_eq!(error, FunctionalError::Instruction { instruction: 5, layer: "layer".into(), fault });
}
