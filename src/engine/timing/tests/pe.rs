//! The array's law against its registers: every command of random programs begins and ends in the cycle in which
//! `engine::pe`, which knows no law, finds that it can; the sums are those of plain loops.

use proptest::prelude::*;
use rayon::prelude::*;

use super::{
    super::{
        array::{ArrayTimer, Ready, StreamedTile, Sums},
        causes::{Cause, CauseGraph, Event},
    },
    *,
};
use crate::{
    config::{Accumulate, DrainPath, LoadPath, OutputSkew},
    dataflow::{self, ArrayExtents, ArrayLaw, Operand, Product, Range, schedule},
    engine::pe::{self, Arithmetic as _, Command, Integers, Sequencer, Tile},
    tensor::Overflow,
    units::Time,
};

/// Accumulators of the array.
const WORDS: usize = 4096;

/// A command, apart from its values.
#[derive(Clone, Debug)]
#[allow(clippy::struct_excessive_bools, reason = "as a tile has them")]
struct Draw {
    /// Whether an operand is loaded before; ignored where there is none.
    load: bool,
    output_stationary: bool,
    beats: u32,
    beat_cycles: u32,
    /// Rows and columns that are used, cut to the array's.
    used: [u32; 2],
    first: u32,
    accumulate: bool,
    hold: bool,
    /// Cycles after the command before at which it is ready.
    ready: [u64; 2],
}

fn draw(longest: u32) -> impl Strategy<Value = Draw> {
    let sizes = (1..longest, prop_oneof![4 => Just(1_u32), 1 => 2..4_u32], 1..9_u32, 1..9_u32);
    let flags = (any::<bool>(), prop::bool::weighted(0.3), any::<bool>(), prop::bool::weighted(0.3));
    let ready = prop_oneof![3 => Just(0_u64), 1 => 0..30_u64];
    (sizes, flags, 0..12_u32, [ready.clone(), ready]).prop_map(|(sizes, flags, first, ready)| Draw {
        load: flags.0,
        output_stationary: flags.1,
        beats: sizes.0,
        beat_cycles: sizes.1,
        used: [sizes.2, sizes.3],
        first,
        accumulate: flags.2,
        hold: flags.3,
        ready,
    })
}

prop_compose! {
    /// Arrays of every structure that can be built.
    fn arrays(largest: u32)(
        [rows, cols] in [1..=largest, 1..=largest],
        [pe_registers, hop_registers, port_registers] in [0..3_u32, 0..3_u32, 0..3_u32],
        load in 1..=2 * largest + 1,
        depth in 0..=3_u8,
        path in prop::sample::select(vec![LoadPath::Skewed, LoadPath::Chain, LoadPath::Rows]),
        accumulate in prop::sample::select(vec![Accumulate::AtOutput, Accumulate::InjectSkewed, Accumulate::InjectRows]),
        drain in prop::sample::select(vec![DrainPath::Rows, DrainPath::Columns]),
        skewed in any::<bool>(),
        min_stream in prop_oneof![2 => Just(1_u32), 1 => 1..12_u32],
        overlap_tiles in prop::bool::weighted(0.75),
        [flush_idle, switch] in [0..2_u32, 0..4_u32],
    ) -> AcceleratorConfig {
        let mut config = config();
        let array = &mut config.array;
        (array.rows, array.cols) = (rows, cols);
        (array.pe_registers, array.hop_registers, array.port_registers) = (pe_registers, hop_registers, port_registers);
        let shadow_depth = if path == LoadPath::Chain { depth.min(1) } else { depth };
        array.weight_load = WeightLoad { cycles: load, shadow_depth, path };
        (array.accumulate, array.drain) = (accumulate, drain);
        array.output = match accumulate {
            Accumulate::InjectSkewed => OutputSkew::Skewed,
            Accumulate::AtOutput if skewed => OutputSkew::Skewed,
            Accumulate::AtOutput | Accumulate::InjectRows => OutputSkew::Deskewed,
        };
        array.dataflows = if accumulate == Accumulate::AtOutput { vec![Dataflow::WS, Dataflow::OS] } else { vec![Dataflow::WS] };
        (array.min_stream, array.overlap_tiles, array.dataflow_switch_cycles) = (min_stream, overlap_tiles, switch);
        array.flush_idle = flush_idle == 1 && accumulate == Accumulate::AtOutput;
        config
    }
}

/// A value that differs from its neighbours'.
fn value(seed: &mut u32) -> i32 {
    *seed = seed.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
    i32::try_from(*seed >> 24).unwrap() - 128
}

/// A command with values, ready at a time after the one before.
type Timed = (Command, u64);

/// The commands of a program, `None` for a change of dataflow.
fn program(draws: &[Draw], array: &crate::config::Array) -> Vec<Option<Timed>> {
    let [rows, cols] = [array.rows as usize, array.cols as usize];
    let mut seed = 7;
    let mut commands = Vec::new();
    let (mut loaded, mut dataflow, mut held) = (false, None, None);
    for (index, draw) in draws.iter().enumerate() {
        let output_stationary = draw.output_stationary && array.dataflows.contains(&Dataflow::OS);
        if dataflow.is_some_and(|before| before != output_stationary) {
            commands.push(None);
            held = None;
        }
        dataflow = Some(output_stationary);
        let [used_rows, used_cols] = [(draw.used[0] as usize).min(rows), (draw.used[1] as usize).min(cols)];
        let mut matrix = |height: usize, width: usize, used: [usize; 2]| -> Vec<i32> {
            (0..height * width)
                .map(|at| if at / width < used[0] && at % width < used[1] { value(&mut seed) } else { 0 })
                .collect()
        };
        if !output_stationary && (draw.load || !loaded) {
            loaded = true;
            commands.push(Some((Command::Preload(matrix(rows, cols, [used_rows, used_cols])), draw.ready[0])));
        }
        let beats = draw.beats as usize;
        let next = draws.get(index + 1);
        // A tile that goes on with held sums has their shape.
        let shape = held.take();
        let [used_rows, used_cols] =
            if output_stationary { shape.unwrap_or([used_rows, used_cols]) } else { [used_rows, used_cols] };
        let hold = output_stationary && draw.hold && next.is_some_and(|next| next.output_stationary);
        let tile = Tile {
            beats: draw.beats,
            beat_cycles: draw.beat_cycles,
            left: matrix(beats, rows, [beats, used_rows]),
            top: output_stationary.then(|| matrix(beats, cols, [beats, used_cols])),
            accumulate: draw.accumulate && !hold,
            resume: output_stationary && shape.is_some(),
            hold,
            sums: pe::Sums {
                // A sum meets those of the lane that it came out of.
                first: draw.first as usize * if output_stationary { rows * cols } else { cols },
                rows: if output_stationary { used_rows } else { beats },
                cols: used_cols,
                row_stride: cols,
                col_stride: 1,
            },
        };
        held = hold.then_some([used_rows, used_cols]);
        commands.push(Some((Command::Stream(tile), draw.ready[1])));
    }
    commands
}

/// Sums by plain loops: what each accumulator holds in the end.
fn plain(commands: &[Option<Timed>], array: &crate::config::Array, integers: Integers) -> Vec<Option<i64>> {
    let [rows, cols] = [array.rows as usize, array.cols as usize];
    let mut words: Vec<Option<i64>> = vec![None; WORDS];
    let mut weights = Vec::new();
    let mut elements = vec![0; rows * cols];
    for (command, _) in commands.iter().flatten() {
        let tile = match command {
            Command::Preload(words) => {
                weights.clone_from(words);
                continue;
            }
            Command::Stream(tile) => tile,
        };
        for row in 0..tile.sums.rows {
            for col in 0..tile.sums.cols {
                let address = tile.sums.address(row, col);
                let held = if tile.accumulate { words[address].unwrap_or(0) } else { 0 };
                let injected = array.accumulate != Accumulate::AtOutput && tile.top.is_none();
                let mut sum = if injected { held } else { 0 };
                if tile.resume {
                    sum = elements[row * cols + col];
                }
                match &tile.top {
                    None => {
                        for k in 0..rows {
                            sum = integers.multiply_add(sum, tile.left[row * rows + k], weights[k * cols + col]);
                        }
                    }
                    Some(top) => {
                        for k in 0..tile.beats as usize {
                            sum = integers.multiply_add(sum, tile.left[k * rows + row], top[k * cols + col]);
                        }
                    }
                }
                if tile.top.is_some() {
                    elements[row * cols + col] = sum;
                }
                if !tile.hold {
                    words[address] = Some(integers.accumulate(if injected { 0 } else { held }, sum));
                }
            }
        }
    }
    words
}

/// What the law says of each command: start and end in cycles.
fn by_law(commands: &[Option<Timed>], accelerator: &Accelerator) -> Vec<[u64; 2]> {
    let array = &accelerator.config.array;
    let period = accelerator.array_period;
    let mut graph = CauseGraph::new(1 << 20, false);
    let mut timer = ArrayTimer::new(accelerator).unwrap();
    let mut clock = 0;
    let mut all = Vec::new();
    for command in commands {
        let Some((command, after)) = command else {
            timer.switch_dataflow(&mut graph, array.dataflow_switch_cycles.into()).unwrap();
            continue;
        };
        clock += after;
        let tokens = graph.phase(Event::ORIGIN, Cause::Issue, Time(period.0 * clock)).unwrap();
        let ready = Ready { tokens, issue: Event::ORIGIN };
        let phases = match command {
            Command::Preload(_) => timer.preload(&mut graph, ready).unwrap(),
            Command::Stream(tile) => {
                let sums = tile.sums;
                let [first, row_stride, col_stride, cols] =
                    [sums.first, sums.row_stride, sums.col_stride, sums.cols].map(|size| i64::try_from(size).unwrap());
                let lanes = match (&tile.top, array.drain) {
                    (Some(_), DrainPath::Columns) => sums.rows,
                    _ => sums.cols,
                };
                let streamed = StreamedTile {
                    beats: tile.beats.into(),
                    beat_cycles: tile.beat_cycles.into(),
                    output_stationary: tile.top.is_some(),
                    accumulate: tile.accumulate,
                    resume: tile.resume,
                    hold: tile.hold,
                    sums: Some(Sums { first, row_stride, col_stride, cols }),
                    lanes: u32::try_from(lanes).unwrap(),
                };
                timer.stream(&mut graph, &streamed, ready).unwrap()
            }
        };
        all.push([phases.start, phases.end].map(|event| event.time.cycles_ceil(period).0));
    }
    all
}

/// The same by registers, and what the accumulators hold.
fn by_registers(
    commands: &[Option<Timed>],
    array: &crate::config::Array,
    integers: Integers,
) -> (Vec<[u64; 2]>, pe::Run<Integers>) {
    let mut sequencer = Sequencer::new(array, integers, WORDS);
    let mut clock = 0;
    for command in commands {
        match command {
            None => sequencer.switch(array.dataflow_switch_cycles.into()),
            Some((command, after)) => {
                clock += after;
                sequencer.push(command, pe::Ready(clock)).unwrap();
            }
        }
    }
    let run = sequencer.finish();
    let law = ArrayLaw::of(array);
    for ((command, _), outcome) in commands.iter().flatten().zip(&run.outcomes) {
        if let (Command::Stream(tile), Some(first)) = (command, outcome.first_out) {
            let stays = tile.top.is_none();
            let places = if array.drain == DrainPath::Rows {
                [tile.sums.rows, array.rows as usize]
            } else {
                [tile.sums.cols, array.cols as usize]
            };
            if !stays && places[0] < places[1] {
                // What comes first is not used.
                continue;
            }
            let cycles = u64::from(tile.beats) * u64::from(tile.beat_cycles);
            let beat = if stays { u64::from(tile.beat_cycles) - 1 } else { 0 };
            assert_eq!(first, outcome.start + beat + law.first_out(stays, cycles), "the first result, {array:?}");
        }
    }
    // Instructions retire in order: the end is that of all tiles so far.
    let mut result = 0;
    let both = commands.iter().flatten().zip(&run.outcomes).map(|((command, _), outcome)| match command {
        Command::Preload(_) => [outcome.start, outcome.end],
        Command::Stream(_) => {
            result = result.max(outcome.end);
            [outcome.start, result]
        }
    });
    (both.collect(), run)
}

fn agree(draws: &[Draw], config: AcceleratorConfig, integers: Integers) {
    let accelerator = Accelerator::from_valid(config);
    let array = &accelerator.config.array;
    let commands = program(draws, array);
    let (registers, run) = by_registers(&commands, array, integers);
    assert_eq!(by_law(&commands, &accelerator), registers, "law (left) and registers (right), {array:?}");
    let expected = plain(&commands, array, integers);
    for (address, &sum) in expected.iter().enumerate() {
        assert_eq!(run.array.accumulator(address), sum, "accumulator {address}, {array:?}");
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(2000))]

    #[test]
    fn commands_begin_and_end_when_the_registers_let_them(
        config in arrays(6),
        draws in prop::collection::vec(draw(16), 1..7),
        [column_bits, accumulator_bits] in [prop::sample::select(vec![12_u8, 18, 32, 64]), prop::sample::select(vec![16_u8, 32, 64])],
        saturate in any::<bool>(),
    ) {
        let overflow = if saturate { Overflow::Saturate } else { Overflow::Wrap };
        agree(&draws, config, Integers { column_bits, accumulator_bits, overflow });
    }
}

/// The commands of a product `[pixels, K] x [K, outputs]` in one buffer tile.
fn of_product(dataflow: Dataflow, product: &Product, array: &crate::config::Array) -> Vec<Option<Timed>> {
    let [rows, cols] = [array.rows as usize, array.cols as usize];
    let outputs = usize::try_from(product.outputs).unwrap();
    let at = |range: Range| range.start as usize..(range.start + range.len) as usize;
    // Operands `[pixels, K]` and `[outputs, K]`, all different.
    let input = |pixel: usize, k: usize| i32::try_from((pixel * 31 + k * 7) % 251).unwrap() - 125;
    let weight = |output: usize, k: usize| i32::try_from((output * 17 + k * 13) % 241).unwrap() - 120;
    let spread = |height: usize, width: usize, value: &dyn Fn(usize, usize) -> Option<i32>| -> Vec<i32> {
        (0..height * width).map(|index| value(index / width, index % width).unwrap_or(0)).collect()
    };
    let mut commands = Vec::new();
    schedule(dataflow).commands(product, &ArrayExtents::of(array), &mut |command| {
        let command = match command {
            dataflow::Command::Preload { operand, columns, k } => {
                let (lines, k) = (at(columns), at(k));
                Command::Preload(spread(rows, cols, &|row, col| {
                    let (line, k) = (lines.clone().nth(col)?, k.clone().nth(row)?);
                    Some(if operand == Operand::Weight { weight(line, k) } else { input(line, k) })
                }))
            }
            dataflow::Command::Stream(tile) => {
                let (pixels, outs, k) = (at(tile.pixels), at(tile.outputs), at(tile.k));
                let first = pixels.start * outputs + outs.start;
                let stays = schedule(dataflow).stationary();
                let (lines, row_stride, col_stride, columns) = match stays {
                    Some(Operand::Input) => (&outs, 1, outputs, pixels.len()),
                    _ => (&pixels, outputs, 1, outs.len()),
                };
                let beats = if stays.is_some() { lines.len() } else { k.len() };
                let left = match stays {
                    Some(Operand::Input) => {
                        spread(beats, rows, &|beat, row| Some(weight(outs.clone().nth(beat)?, k.clone().nth(row)?)))
                    }
                    Some(Operand::Weight) => {
                        spread(beats, rows, &|beat, row| Some(input(pixels.clone().nth(beat)?, k.clone().nth(row)?)))
                    }
                    None => {
                        spread(beats, rows, &|beat, row| Some(input(pixels.clone().nth(row)?, k.clone().nth(beat)?)))
                    }
                };
                let top = stays.is_none().then(|| {
                    spread(beats, cols, &|beat, col| Some(weight(outs.clone().nth(col)?, k.clone().nth(beat)?)))
                });
                Command::Stream(Tile {
                    beats: u32::try_from(beats).unwrap(),
                    beat_cycles: 1,
                    left,
                    top,
                    accumulate: k.start > 0,
                    resume: false,
                    hold: false,
                    sums: pe::Sums { first, rows: lines.len(), cols: columns, row_stride, col_stride },
                })
            }
        };
        commands.push(Some((command, 0)));
    });
    commands
}

/// Arrays of each structure: dataflow, load, where sums are added, how they leave.
fn structures() -> Vec<(Dataflow, crate::config::Array)> {
    let plain = config().array;
    let load = |path, shadow_depth| WeightLoad { shadow_depth, path, ..plain.weight_load };
    let ws = |change: &dyn Fn(&mut crate::config::Array)| {
        let mut array = plain.clone();
        change(&mut array);
        (Dataflow::WS, array)
    };
    let os = |drain| (Dataflow::OS, crate::config::Array { dataflows: vec![Dataflow::OS], drain, ..plain.clone() });
    vec![
        ws(&|_| {}),
        ws(&|array| array.weight_load = load(LoadPath::Skewed, 0)),
        ws(&|array| array.weight_load = load(LoadPath::Chain, 0)),
        ws(&|array| array.weight_load = load(LoadPath::Chain, 1)),
        ws(&|array| array.weight_load = load(LoadPath::Rows, 0)),
        ws(&|array| array.weight_load = load(LoadPath::Rows, 2)),
        ws(&|array| (array.accumulate, array.output) = (Accumulate::InjectSkewed, OutputSkew::Skewed)),
        ws(&|array| array.accumulate = Accumulate::InjectRows),
        ws(&|array| (array.pe_registers, array.hop_registers, array.output) = (1, 1, OutputSkew::Skewed)),
        ws(&|array| (array.overlap_tiles, array.weight_load) = (false, load(LoadPath::Chain, 0))),
        (Dataflow::IS, crate::config::Array { dataflows: vec![Dataflow::IS], ..plain.clone() }),
        os(DrainPath::Rows),
        os(DrainPath::Columns),
    ]
}

/// Products of all sizes of `sizes` on all arrays to 4x4, of each structure; how many.
fn products_agree(sizes: &[u64]) -> usize {
    let shapes = || (1..=4_u32).flat_map(|rows| (1..=4_u32).map(move |cols| (rows, cols)));
    let arrays: Vec<(Dataflow, crate::config::Array)> = structures()
        .into_iter()
        .flat_map(|(dataflow, array)| {
            shapes().map(move |(rows, cols)| {
                let mut array = array.clone();
                (array.rows, array.cols, array.weight_load.cycles) = (rows, cols, rows);
                (dataflow, array)
            })
        })
        .collect();
    let integers = Integers { column_bits: 32, accumulator_bits: 32, overflow: Overflow::Wrap };
    let each = |(dataflow, array): &(Dataflow, crate::config::Array)| {
        let accelerator = Accelerator::from_valid(AcceleratorConfig { array: array.clone(), ..config() });
        let mut compared = 0;
        for &pixels in sizes {
            for &outputs in sizes {
                for &channels in sizes {
                    let product = Product { pixels, row: pixels, outputs, taps: 1, channels };
                    let commands = of_product(*dataflow, &product, array);
                    let (registers, run) = by_registers(&commands, array, integers);
                    assert_eq!(by_law(&commands, &accelerator), registers, "{product:?} on {array:?}");
                    let expected = plain(&commands, array, integers);
                    let all = 0..usize::try_from(pixels * outputs).unwrap();
                    assert!(all.clone().all(|at| expected[at].is_some()), "{product:?} on {array:?}");
                    assert!(
                        all.clone().all(|at| run.array.accumulator(at) == expected[at]),
                        "{product:?} on {array:?}"
                    );
                    compared += 1;
                }
            }
        }
        compared
    };
    arrays.par_iter().map(each).sum()
}

#[test]
fn whole_products_take_the_cycles_of_the_registers() {
    assert_eq!(products_agree(&[1, 4, 5, 9]), 64 * 16 * 13);
}

/// `cargo test --release --lib all_small_products -- --ignored`.
#[test]
#[ignore = "takes minutes"]
fn all_small_products_take_the_cycles_of_the_registers() {
    assert_eq!(products_agree(&[1, 2, 3, 4, 5, 6, 7, 8, 9]), 729 * 16 * 13);
}
