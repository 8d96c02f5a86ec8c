//! What is loaded where a window steps over pixels: the bursts that hold what some tap reads, counted by hand, and
//! whatever is left out, the same bits.

use std::collections::BTreeSet;

use proptest::prelude::*;
use systole::{
    config::{Accelerator, AcceleratorConfig, Buffer, BufferLayout, MemoryModel},
    engine::timing,
    import::ron,
    ir::{Graph, Op, Quantized, Window},
    pipeline::{self, Model},
    tensor::DType,
};

use crate::{
    engine::bit_exact,
    invariants,
    programs::{planned, race_free},
    support::{Builder, cases, plain_config, spread_machines, tight_output_stationary},
};

/// One tap, every second row and column.
const HALVED: Window = Window { kernel: [1, 1], stride: [2, 2], dilation: [1, 1], pad: [0; 4] };

/// A machine with room for any image of this file and a memory so slow that no mapping fetches a burst twice.
fn roomy() -> AcceleratorConfig {
    let mut config = plain_config();
    let pool = Buffer { bytes: 1 << 20, banks: 8, word_bytes: 64, ports: 2, latency: 1 };
    config.buffers.layout = BufferLayout::Shared(pool);
    config.memories[0].model = MemoryModel::Ideal { bandwidth_gb_per_s: 0.5, latency_ns: 60.0, turnaround_ns: 0.0 };
    config
}

/// A convolution of an image of `width x width` pixels, or a pool.
fn layer(channels: usize, width: usize, is_pool: bool) -> Graph<Quantized> {
    let mut b = Builder::new(1);
    let x = b.input(&[1, channels, width, width]);
    let y = if is_pool {
        let value = b.graph.value(x).clone();
        let half = width.div_ceil(2);
        b.node(Op::MaxPool { window: HALVED }, &[x], &[1, channels, half, half], value.dtype, value.quant)
    } else {
        b.conv(x, 8, 1, HALVED)
    };
    b.finish(&[y])
}

/// Bytes of the input that are loaded, and the bursts that are requested for them, counted from the input's address; the
/// closed form says the same bytes and no more bursts.
fn fetched(graph: &Graph<Quantized>, config: AcceleratorConfig) -> (u64, BTreeSet<u64>) {
    let accelerator = Accelerator::from_valid(config);
    let burst = u64::from(accelerator.config.dma.burst_bytes);
    let (plan, program) = planned(graph, &accelerator).unwrap();
    let input = &program.header.tensors[program.header.inputs[0].index()];
    let size = input.shape.iter().product::<usize>() as u64 * input.dtype.bytes();
    assert_eq!(input.base % 512, 0);
    let mut bursts = BTreeSet::new();
    let mut all = 0;
    let mut tap = |access: timing::MemoryAccess| {
        all += 1;
        if (input.base..input.base + size).contains(&access.address) {
            assert!(!access.write);
            assert!(
                bursts.insert((access.address - input.base) / burst),
                "a burst is fetched twice: {:?}",
                plan.layers[0].mapping
            );
        }
    };
    let instructions = program.instructions();
    let options = timing::Options::default();
    let report = timing::simulate_tapped(&accelerator, &program.header, instructions, options, &mut tap).unwrap();
    let bytes = report.layers[0].input_bytes.get();
    assert_eq!(plan.layers[0].predicted.input_bytes, bytes);
    assert!(plan.layers[0].predicted.bursts <= all, "{} of {all}", plan.layers[0].predicted.bursts);
    (bytes, bursts)
}

/// Bursts of every second row of `row` bursts, of which `of_row` are fetched.
fn of_rows(rows: u64, row: u64, of_row: &(impl Iterator<Item = u64> + Clone)) -> BTreeSet<u64> {
    (0..rows).flat_map(|p| of_row.clone().map(move |at| 2 * p * row + at)).collect()
}

#[test]
fn a_pixel_of_a_burst_is_fetched_where_a_tap_reads_it_and_not_otherwise() {
    // 56 x 56 pixels of 64 bytes, 28 x 28 of them read: a quarter.
    let quarter = (28 * 28 * 64, of_rows(28, 56, &(0..28).map(|q| 2 * q)));
    for is_pool in [false, true] {
        assert_eq!(fetched(&layer(64, 56, is_pool), roomy()), quarter, "pool: {is_pool}");
    }
    // 57 x 57: the last row and column are read, and the last pixel of a row and the first of the next are not together.
    assert_eq!(fetched(&layer(64, 57, false), roomy()), (29 * 29 * 64, of_rows(29, 57, &(0..29).map(|q| 2 * q))));
    // 32 channels of two bytes.
    let mut graph = layer(32, 56, false);
    let x = graph.inputs[0];
    graph.value_mut(x).dtype = DType::Int16;
    let mut config = roomy();
    config.array.input_type = DType::Int16;
    assert_eq!(fetched(&graph, config), quarter);
}

#[test]
fn pixels_of_less_than_a_granule_share_it_and_only_rows_are_left_out() {
    // 56 pixels of 16 bytes a row, which is 14 bursts of four pixels. The last pixel of a row is not read.
    assert_eq!(fetched(&layer(16, 56, false), roomy()), (28 * 55 * 16, of_rows(28, 14, &(0..14))));
    // Pixels of a burst under granules of two.
    let mut config = roomy();
    config.dma.alignment_bytes = 128;
    assert_eq!(fetched(&layer(64, 56, false), config), (28 * 55 * 64, of_rows(28, 56, &(0..56))));
}

#[test]
fn pixels_that_meet_across_rows_or_images_are_one_run() {
    // A pixel of 12 bytes an image, or a row: 36 bytes in five bursts of 8, and not in two each.
    for (shape, stride) in [([3, 12, 1, 1], [2, 2]), ([1, 12, 3, 1], [1, 2])] {
        let mut b = Builder::new(1);
        let x = b.input(&shape);
        let y = b.conv(x, 8, 1, Window { stride, ..HALVED });
        let mut config = roomy();
        config.dma.burst_bytes = 8;
        assert_eq!(fetched(&b.finish(&[y]), config), (36, (0..5).collect()));
    }
}

#[test]
fn without_strides_a_run_is_not_cut() {
    let mut config = roomy();
    (config.dma.strides, config.dma.descriptor_cycles) = (false, 1000);
    // Of 56 columns the last is not read: rows are runs of their own, and half of them are not needed.
    assert_eq!(fetched(&layer(64, 56, false), config.clone()), (28 * 55 * 64, of_rows(28, 56, &(0..55))));
    // 57 columns are all fetched, and the rows of a tile are one run.
    let (bytes, bursts) = fetched(&layer(64, 57, false), config);
    assert_eq!(bytes, bursts.len() as u64 * 64);
    assert!(bursts.iter().all(|at| bursts.contains(&(at / 57 * 57)) && bursts.contains(&(at / 57 * 57 + 56))));
    assert!(bursts.contains(&57), "a row within a tile is left out");
}

#[test]
fn what_no_tap_reads_is_not_compulsory() {
    let text = r#"(
        name: "half",
        input: (shape: [64, 56, 56], scale: 0.02),
        layers: [(name: "conv", op: Conv(out: 8, kernel: 1, stride: 2), weight: 0.004, scale: 0.03)],
    )"#;
    let model = Model { graph: ron::parse(text, "half", Some(1)).unwrap(), hash: 0 };
    let accelerator = Accelerator::from_valid(roomy());
    let run = pipeline::evaluate(&model, &accelerator, &pipeline::Options::default()).unwrap();
    let row = run.layers.iter().find(|row| row.name == "conv").unwrap();
    let outputs = 28 * 28 * 8;
    assert_eq!(row.compulsory_bytes, 28 * 28 * 64 + outputs + row.traffic.weight_bytes);
    assert!(row.compulsory_bytes <= row.traffic.moved_bytes, "{row:?}");
    assert_eq!(run.totals.compulsory_bytes, row.compulsory_bytes);
}

/// A convolution or pool with one tap along an axis at least, most of them with a stride.
fn strided(seed: u64) -> Graph<Quantized> {
    let mut b = Builder::new(seed);
    let size = |b: &mut Builder, low: i64, high: i64| usize::try_from(b.pick(low, high)).unwrap();
    let shape = [size(&mut b, 1, 3), size(&mut b, 1, 80), size(&mut b, 1, 12), size(&mut b, 1, 12)];
    let mut window = Window { kernel: [1, 1], stride: [size(&mut b, 1, 4), size(&mut b, 1, 4)], ..HALVED };
    if b.pick(0, 3) == 0 {
        let axis = size(&mut b, 0, 1);
        window.kernel[axis] = size(&mut b, 1, shape[2 + axis].min(3).try_into().unwrap());
    }
    let x = b.input(&shape);
    let y = match b.pick(0, 3) {
        0 => {
            let value = b.graph.value(x).clone();
            let [p, q] = [0, 1].map(|axis| window.output(axis, shape[2 + axis]).unwrap());
            b.node(Op::MaxPool { window }, &[x], &[shape[0], shape[1], p, q], value.dtype, value.quant)
        }
        1 => b.conv(x, shape[1], shape[1], window),
        _ => {
            // Past the high edges is padding that leaves taps where they are.
            window.pad = [0, 0, size(&mut b, 0, 3), size(&mut b, 0, 3)];
            let outputs = size(&mut b, 1, 20);
            b.conv(x, outputs, 1, window)
        }
    };
    b.finish(&[y])
}

fn check(seed: u64, accelerator: &Accelerator) -> Result<(), TestCaseError> {
    let graph = strided(seed);
    bit_exact(&graph, accelerator, seed)?;
    race_free(&graph, accelerator)?;
    invariants::check(&graph, accelerator)
}

proptest! {
    #![proptest_config(cases(200))]

    #[test]
    fn what_is_left_out_is_never_missed(seed in any::<u64>(), accelerator in spread_machines()) {
        check(seed, &accelerator)?;
    }

    #[test]
    fn nor_with_little_room(seed in any::<u64>(), accelerator in tight_output_stationary()) {
        check(seed, &accelerator)?;
    }
}
