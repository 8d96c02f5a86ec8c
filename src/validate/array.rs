//! The array alone under a product or a sequence of equal tiles: what those who measure arrays measure.

use crate::{
    config::{self, Accelerator},
    dataflow::{ArrayExtents, Command, Product, deal, schedule},
    diag::{Diagnostic, Faults, Source},
    engine::timing::{ArrayCommand, StreamedTile, array_cycles},
    pipeline::Failure,
};

/// Most commands of one measurement.
const MOST_COMMANDS: u64 = 1 << 24;

/// A plain machine around the array that is looked at; only its array matters.
const MACHINE: &str = include_str!("array.ron");

/// An array with fields of `array` set: `rows=8`, `weight_load.path=Chain`.
pub(super) fn machine(sets: &[String]) -> Result<Accelerator, Faults> {
    let source = Source { name: "the array of a published figure".to_owned(), text: MACHINE.into() };
    let overrides: Vec<String> = sets.iter().map(|set| format!("array.{set}")).collect();
    config::load_source(&source, &overrides)
}

/// Rows and columns, and as many cycles for a load as rows.
pub(super) fn extent(rows: u64, cols: u64) -> [String; 3] {
    [format!("rows={rows}"), format!("cols={cols}"), format!("weight_load.cycles={rows}")]
}

/// A tile of `beats` that uses the whole array and adds to nothing.
pub(super) fn tile(accelerator: &Accelerator, beats: u64) -> ArrayCommand {
    let array = &accelerator.config.array;
    ArrayCommand::Stream(StreamedTile {
        beats,
        beat_cycles: 1,
        output_stationary: !stays(accelerator),
        accumulate: false,
        resume: false,
        hold: false,
        sums: None,
        lanes: array.rows.max(array.cols),
    })
}

/// Whether an operand stays in the array, in the only dataflow that it has.
pub(super) fn stays(accelerator: &Accelerator) -> bool {
    accelerator.config.array.dataflows.first().is_some_and(|&dataflow| schedule(dataflow).stationary().is_some())
}

/// The commands of the first array's part of `[M, K] x [K, N]` in the machine's only dataflow, all whole tiles: ragged ones take the same time where every
/// column is waited for.
pub(super) fn product(accelerator: &Accelerator, [m, n, k]: [u64; 3]) -> Result<Vec<ArrayCommand>, Failure> {
    let array = &accelerator.config.array;
    let [rows, cols] = [array.rows, array.cols].map(u64::from);
    // At least one extent in each of two directions is cut to tiles, by rows or by columns.
    let side = rows.min(cols);
    let tiles = [m, n, k].iter().map(|size| size.div_ceil(side)).try_fold(1_u64, u64::checked_mul);
    if [m, n, k].contains(&0) || tiles.is_none_or(|tiles| tiles > MOST_COMMANDS) || m.max(n).max(k) >= 1 << 31 {
        let message = format!("a product of {m} x {n} x {k} is empty, or too large for an array of {rows} x {cols}");
        return Err(Diagnostic::error(message).into());
    }
    let Some(&dataflow) = array.dataflows.first() else { return Ok(Vec::new()) };
    let product = Product { pixels: m, row: m, outputs: n, taps: 1, channels: k };
    let mut commands = Vec::new();
    let (schedule, extents) = (schedule(dataflow), ArrayExtents::of(array));
    let shares = deal(schedule, &product, &extents);
    let Some(share) = shares.first() else { return Ok(commands) };
    share.commands(schedule, &extents, &mut |command| {
        commands.push(match command {
            Command::Preload { .. } => ArrayCommand::Load,
            Command::Stream(one) => {
                let beats = match schedule.stationary() {
                    None => one.k.len,
                    Some(crate::dataflow::Operand::Weight) => one.pixels.len,
                    Some(crate::dataflow::Operand::Input) => one.outputs.len,
                };
                tile(accelerator, beats.into())
            }
        });
    });
    Ok(commands)
}

/// Cycles until the last result of commands is out whose operands are there from the beginning.
pub(super) fn cycles(
    accelerator: &Accelerator,
    commands: impl IntoIterator<Item = ArrayCommand>,
) -> Result<u64, Failure> {
    let times = array_cycles(accelerator, commands.into_iter().map(|command| (0, command)))?;
    Ok(times.iter().map(|&[_, end]| end).max().unwrap_or(0))
}

/// Cycles of `folds` tiles one after the other, each with a load of its own where an operand stays.
pub(super) fn folds(accelerator: &Accelerator, folds: u64, beats: u64) -> Result<u64, Failure> {
    if folds > MOST_COMMANDS {
        return Err(Diagnostic::error(format!("{folds} array tiles are too many to time")).into());
    }
    let (stays, stream) = (stays(accelerator), tile(accelerator, beats));
    let one = std::iter::once(ArrayCommand::Load).filter(|_| stays).chain([stream]);
    cycles(accelerator, (0..folds).flat_map(|_| one.clone()))
}
