use proptest::prelude::*;

use super::*;

const ALL: [Dataflow; 3] = [Dataflow::WS, Dataflow::OS, Dataflow::IS];

fn extents(rows: u64, packing: KPacking) -> ArrayExtents {
    ArrayExtents { rows, cols: 8, max_stream: 0, packing, row_ends: RowEnds::Cross, arrays: 1 }
}

#[test]
fn folds_of_k_cover_it_once() {
    let pairs = |packing, taps, channels| -> Vec<(u32, u32)> {
        extents(16, packing).folds(taps, channels).iter().map(|fold| (fold.start, fold.len)).collect()
    };
    assert_eq!(pairs(KPacking::KernelAndChannels, 9, 3), [(0, 16), (16, 11)]);
    assert_eq!(pairs(KPacking::Channels, 2, 20), [(0, 16), (16, 4), (20, 16), (36, 4)]);
}

/// The nest as a walk counts it: preloads, streams and beats.
fn counted(nest: Nest, array: &ArrayExtents) -> [u64; 3] {
    match nest {
        Nest::Stationary { repeats, folds, operands, runs, rows } => {
            let operands = repeats * folds * operands;
            [operands, operands * runs * array.streams(rows), operands * runs * rows]
        }
        Nest::Streaming { tiles, beats } => [0, tiles, tiles * beats],
    }
}

proptest! {
    #[test]
    fn commands_multiply_each_element_once_in_the_order_of_the_folds_and_are_as_many_as_counted(
        dataflow in prop::sample::select(ALL.to_vec()),
        [stretches, row, outputs, taps, channels] in [1_u64..4, 1..12, 1..12, 1..5, 1..7],
        [rows, cols] in [1_u64..6, 1..6],
        max_stream in 0_u64..5,
        packing in prop::sample::select(vec![KPacking::KernelAndChannels, KPacking::Channels]),
    ) {
        let array = ArrayExtents { rows, cols, max_stream, packing, row_ends: RowEnds::Stop, arrays: 1 };
        let pixels = stretches * row;
        let product = Product { pixels, row, outputs, taps, channels };
        let schedule = schedule(dataflow);
        let [mut preloads, mut streams, mut beats] = [0; 3];
        let mut loaded: Option<(Operand, Range, Range)> = None;
        let mut sums = vec![Folds::new(); usize::try_from(pixels * outputs).unwrap()];
        let (mut stale, mut crossing) = (0, 0);
        schedule.commands(&product, &array, &mut |command| match command {
            Command::Preload { operand, columns, k } => {
                preloads += 1;
                loaded = Some((operand, columns, k));
            }
            Command::Stream(tile) => {
                let [first, last] = [tile.pixels.start, tile.pixels.start + tile.pixels.len - 1].map(u64::from);
                crossing += usize::from(first / row != last / row);
                streams += 1;
                beats += u64::from(match schedule.stationary() {
                    Some(Operand::Weight) => tile.pixels.len,
                    Some(Operand::Input) => tile.outputs.len,
                    None => tile.k.len,
                });
                let stays = schedule.stationary().map(|operand| match operand {
                    Operand::Weight => (operand, tile.outputs, tile.k),
                    Operand::Input => (operand, tile.pixels, tile.k),
                });
                stale += usize::from(loaded != stays);
                for pixel in tile.pixels.start..tile.pixels.start + tile.pixels.len {
                    for output in tile.outputs.start..tile.outputs.start + tile.outputs.len {
                        sums[usize::try_from(u64::from(pixel) * outputs + u64::from(output)).unwrap()].push(tile.k);
                    }
                }
            }
        });
        prop_assert_eq!(stale, 0, "a tile streams past another operand");
        prop_assert_eq!(crossing, 0, "a tile goes on past the end of a row");
        let folds = schedule.folds(taps, channels, &array);
        prop_assert!(sums.iter().all(|sum| *sum == folds));
        let mut next = 0;
        for fold in &folds {
            prop_assert_eq!(fold.start, next);
            next += fold.len;
        }
        prop_assert_eq!(u64::from(next), product.depth());
        prop_assert_eq!([preloads, streams, beats], counted(schedule.nest(&product, &array), &array));
    }
}

proptest! {
    /// Of all products of a size: the parts are all of it, once, in whole granules, and the first takes the longest.
    #[test]
    fn parts_of_a_product_are_the_whole(
        dataflow in prop_oneof![Just(Dataflow::WS), Just(Dataflow::OS), Just(Dataflow::IS)],
        [row, stretches, outputs, taps, channels] in [1_u64..60, 1..6, 1..60, 1..10, 1..20],
        [rows, cols, max_stream, arrays] in [1_u64..12, 1..12, 0..9, 1..9],
        row_ends in prop_oneof![Just(RowEnds::Cross), Just(RowEnds::Stop)],
    ) {
        let extents = ArrayExtents { rows, cols, max_stream, packing: KPacking::Channels, row_ends, arrays };
        let pixels = row * stretches;
        let row = if row_ends == RowEnds::Cross { pixels } else { row };
        let product = Product { pixels, row, outputs, taps, channels };
        let schedule = schedule(dataflow);
        let shares = deal(schedule, &product, &extents);
        prop_assert!(!shares.is_empty() && shares.len() as u64 <= arrays);
        let mut times = std::collections::BTreeMap::new();
        for share in &shares {
            share.commands(schedule, &extents, &mut |command| {
                let Command::Stream(tile) = command else { return };
                for pixel in tile.pixels.start..tile.pixels.start + tile.pixels.len {
                    for output in tile.outputs.start..tile.outputs.start + tile.outputs.len {
                        *times.entry((pixel, output)).or_insert(0) += tile.k.len;
                    }
                }
            });
        }
        let whole = u64::from(*times.keys().map(|(pixel, _)| pixel).max().unwrap()) < pixels
            && u64::from(*times.keys().map(|(_, output)| output).max().unwrap()) < outputs;
        prop_assert!(whole && times.len() as u64 == pixels * outputs, "{} sums", times.len());
        prop_assert!(times.values().all(|&depth| u64::from(depth) == taps * channels));
        // What the closed form takes for granted: the first array is done last.
        let first = schedule.nest(&shares[0].product, &extents);
        for share in &shares[1..] {
            let other = schedule.nest(&share.product, &extents);
            let smaller = match (first, other) {
                (Nest::Streaming { tiles, beats }, Nest::Streaming { tiles: fewer, beats: alike }) => {
                    fewer <= tiles && alike == beats
                }
                (
                    Nest::Stationary { repeats, folds, operands, runs, rows },
                    Nest::Stationary { repeats: r, folds: f, operands: o, runs: u, rows: w },
                ) => r <= repeats && f == folds && o <= operands && u <= runs && w <= rows,
                _ => false,
            };
            prop_assert!(smaller, "{first:?} {other:?}");
        }
    }
}
