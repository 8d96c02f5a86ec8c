//! The recurrence on events and the closed form of `mapping::cost` say the same of the array: two derivations of one law.

use proptest::prelude::*;

use super::{
    super::{
        array::{ArrayTimer, Ready, StreamedTile, Sums},
        causes::{CauseGraph, Event},
    },
    *,
};
use crate::{
    config::{Accumulate, DrainPath, KPacking, LoadPath, OutputSkew, RowEnds},
    dataflow::{ArrayExtents, ArrayTile, Command, Product, schedule},
    mapping::{
        BufferTile, LoopOrder, MatrixMapping, MatrixShape, Slots,
        cost::{Rates, evaluate},
    },
};

/// The tile as the decoder reads it off the instruction: sums `[pixels, outputs]`, transposed where inputs stay.
fn streamed(tile: &ArrayTile, dataflow: Dataflow, outputs: u32) -> StreamedTile {
    let at = |pixel: u32, output: u32| i64::from(pixel) * i64::from(outputs) + i64::from(output);
    let [beats, row_stride, col_stride, cols] = match dataflow {
        Dataflow::WS => [tile.pixels.len, outputs, 1, tile.outputs.len],
        Dataflow::OS => [tile.k.len, outputs, 1, tile.outputs.len],
        Dataflow::IS => [tile.outputs.len, 1, outputs, tile.pixels.len],
    };
    let [row_stride, col_stride] = [row_stride, col_stride].map(i64::from);
    StreamedTile {
        beats: beats.into(),
        beat_cycles: 1,
        output_stationary: dataflow == Dataflow::OS,
        accumulate: tile.k.start > 0,
        resume: false,
        hold: false,
        sums: Some(Sums {
            first: at(tile.pixels.start, tile.outputs.start),
            row_stride,
            col_stride,
            cols: cols.into(),
        }),
        lanes: cols,
    }
}

/// Cycles from the first stream's start to the last one's end, by the recurrence.
fn recurrence(accelerator: &Accelerator, dataflow: Dataflow, product: &Product) -> u64 {
    let mut graph = CauseGraph::new(1 << 20, false);
    let mut timer = ArrayTimer::new(accelerator).unwrap();
    let ready = Ready { tokens: Event::ORIGIN, issue: Event::ORIGIN };
    let outputs = u32::try_from(product.outputs).unwrap();
    let (mut first, mut last) = (None, Event::ORIGIN);
    schedule(dataflow).commands(product, &ArrayExtents::of(&accelerator.config.array), &mut |command| match command {
        Command::Preload { .. } => {
            timer.preload(&mut graph, ready).unwrap();
        }
        Command::Stream(tile) => {
            let phases = timer.stream(&mut graph, &streamed(&tile, dataflow, outputs), ready).unwrap();
            first.get_or_insert(phases.start);
            last = timer.stream_end();
        }
    });
    (last.time - first.unwrap().time).cycles_ceil(accelerator.array_period).0
}

/// The same in closed form, all in one buffer tile.
fn closed_form(accelerator: &Accelerator, dataflow: Dataflow, product: &Product) -> u64 {
    let [p, q, c, o, taps] = [product.rows(), product.row, product.channels, product.outputs, product.taps]
        .map(|count| u32::try_from(count).unwrap());
    let mapping = MatrixMapping {
        shape: MatrixShape { p, q, c, o, h: p + taps - 1, w: q, kernel: [taps, 1], ..MatrixShape::EMPTY },
        dataflow,
        on_vector: false,
        groups_per_pass: 1,
        tile: BufferTile { passes: 1, n: 1, p, q, o, c },
        order: LoopOrder::OutputsOuter,
        slots: Slots { input: 1, weight: 1, output: 1, accumulator: 1 },
        input_resident: false,
        output_resident: false,
        input_memory: MemoryId(0),
        weight_memory: MemoryId(0),
        output_memory: MemoryId(0),
        parameter_bytes: 8,
    };
    evaluate(&mapping, &Rates::of(accelerator)).array.cycles_ceil(accelerator.array_period).0
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(1000))]

    #[test]
    fn the_closed_form_is_the_recurrence_where_a_stream_is_whole_and_one_operand_waits_at_most(
        [stretches, row, outputs, taps, channels] in [1_u64..5, 1..60, 1..40, 1..4, 1..20],
        [rows, cols, registers, hops] in [1_u32..16, 1..16, 0..3, 0..3],
        dataflow in prop::sample::select(vec![Dataflow::WS, Dataflow::OS, Dataflow::IS]),
        packing in prop::sample::select(vec![KPacking::KernelAndChannels, KPacking::Channels]),
        [load, min_stream, max_stream] in [1_u32..40, 1..30, 0..30],
        shadow_depth in 0_u8..=2,
        path in prop::sample::select(vec![LoadPath::Skewed, LoadPath::Chain, LoadPath::Rows]),
        drain in prop::sample::select(vec![DrainPath::Rows, DrainPath::Columns]),
        accumulate in prop::sample::select(vec![Accumulate::AtOutput, Accumulate::InjectSkewed, Accumulate::InjectRows]),
        row_ends in prop::sample::select(vec![RowEnds::Cross, RowEnds::Stop]),
        [overlap, flush_idle] in any::<[bool; 2]>(),
    ) {
        let mut config = config();
        let array = &mut config.array;
        (array.rows, array.cols, array.pe_registers, array.hop_registers) = (rows, cols, registers, hops);
        let shadow_depth = if path == LoadPath::Chain { shadow_depth.min(1) } else { shadow_depth };
        let accumulate = if dataflow == Dataflow::OS { Accumulate::AtOutput } else { accumulate };
        array.weight_load = WeightLoad { cycles: load, shadow_depth, path };
        (array.drain, array.accumulate) = (drain, accumulate);
        array.output = if accumulate == Accumulate::InjectSkewed { OutputSkew::Skewed } else { OutputSkew::Deskewed };
        array.dataflows = vec![dataflow];
        (array.k_packing, array.overlap_tiles) = (packing, overlap);
        (array.row_ends, array.flush_idle) = (row_ends, flush_idle);
        array.max_stream = max_stream;
        array.min_stream = if max_stream == 0 { min_stream } else { min_stream.min(max_stream) };
        let even = overlap || array.output == OutputSkew::Deskewed;
        let accelerator = Accelerator::from_valid(config);
        let pixels = stretches * row;
        let product =
            Product { pixels, row: if row_ends == RowEnds::Cross { pixels } else { row }, outputs, taps, channels };
        let exact = recurrence(&accelerator, dataflow, &product);
        let closed = closed_form(&accelerator, dataflow, &product);
        prop_assert!(closed <= exact, "{closed} is no lower bound of {exact}");
        // In skew, the last lane of a ragged tile comes early; sums may hold up a stream beyond its load; rows may be loaded
        // while the first stream waits: all are rounded down.
        let whole = max_stream == 0 && shadow_depth < 2 && path != LoadPath::Rows;
        if whole && even && !flush_idle && accumulate == Accumulate::AtOutput {
            prop_assert_eq!(closed, exact);
        }
    }
}
