//! A drawing of the array over time: a few tiles through its registers, element by element and cycle by cycle. The cycles are
//! those that the registers allow (`engine::pe`); the law's are beside them.

use std::fmt::Write as _;

use super::Failure;
use crate::{
    config::{Accelerator, Dataflow, DrainPath},
    dataflow::{ArrayLaw, schedule},
    diag::Diagnostic,
    engine::pe::{Array, Command, Integers, Mark, Ready, Sequencer, Snapshot, Sums, Tile},
    tensor::Overflow,
};

/// Elements of an array that can still be drawn.
const MOST_ELEMENTS: u32 = 64;

/// Cycles of a drawing.
const MOST_CYCLES: usize = 400;

/// What to draw.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct WaveOptions {
    /// Tiles that follow each other.
    pub tiles: u32,
    /// Beats of each: rows that stream past a stationary operand, or K.
    pub beats: u32,
    /// One of the machine's; its first without.
    pub dataflow: Option<Dataflow>,
}

/// Draws tiles `a`, `b`... of full size, each with an operand of its own, that start as soon as they can.
///
/// # Errors
/// An array or a drawing too large; a dataflow that the machine does not have.
pub fn wave(accelerator: &Accelerator, options: WaveOptions) -> Result<String, Failure> {
    let array = &accelerator.config.array;
    if array.rows * array.cols > MOST_ELEMENTS {
        let message = format!("an array of {} x {} elements is too large to draw", array.rows, array.cols);
        return Err(Diagnostic::error(message)
            .with_help("draw a small one of the same structure: --set array.rows=3 --set array.cols=3 --set array.weight_load.cycles=3")
            .into());
    }
    let dataflow = chosen_dataflow(accelerator, options)?;
    let stays = schedule(dataflow).stationary().is_some();
    let commands = commands(options, [array.rows as usize, array.cols as usize], stays);
    let words = commands.len() * (options.beats.max(array.rows) * array.cols) as usize;
    let exact = Integers { column_bits: 64, accumulator_bits: 64, overflow: Overflow::Wrap };
    let internal = |conflict| Failure::Internal(format!("the array's registers: {conflict}"));

    let mut sequencer = Sequencer::new(array, exact, words);
    for command in &commands {
        sequencer.push(command, Ready::default()).map_err(internal)?;
    }
    let outcomes = sequencer.finish().outcomes;
    let last = outcomes.iter().map(|outcome| outcome.end).max().unwrap_or(0);
    let cycles = usize::try_from(last).unwrap_or(usize::MAX).saturating_add(1);
    if cycles > MOST_CYCLES {
        return Err(Diagnostic::error(format!("{cycles} cycles are too many to draw, at most {MOST_CYCLES} are"))
            .with_help("take fewer tiles or beats")
            .into());
    }
    let mut drawn = Array::new(array, exact, words);
    for (command, outcome) in commands.iter().zip(&outcomes) {
        drawn.begin(command, outcome.start).map_err(internal)?;
    }
    let snapshots = (0..cycles).map(|_| drawn.step_shown()).collect::<Result<Vec<_>, _>>().map_err(internal)?;

    let mut text = format!(
        "{}: {} x {} elements, {dataflow:?}, {} tiles of {} beats\n\n",
        accelerator.config.name, array.rows, array.cols, options.tiles, options.beats
    );
    let by_rows = !stays && array.drain == DrainPath::Columns;
    text += &grid(&snapshots, array.cols as usize, if by_rows { "row" } else { "col" });
    text.push_str(
        "\na0: beat (at an edge: result row or column) 0 of tile a; w1: the word of load 1 enters a register\n\n",
    );
    let law = ArrayLaw::of(array);
    for (tile, outcome) in outcomes
        .iter()
        .zip(&commands)
        .filter(|(_, command)| matches!(command, Command::Stream(_)))
        .map(|(outcome, _)| outcome)
        .enumerate()
    {
        let first = outcome.first_out.map_or_else(String::new, |first| format!("first result in cycle {first}, "));
        let _ = writeln!(
            text,
            "tile {}: starts in cycle {}, {first}last in {}",
            letter(u32::try_from(tile + 1).unwrap_or(0)),
            outcome.start,
            outcome.end
        );
    }
    let beats = u64::from(options.beats);
    let lanes = u64::from(if by_rows { array.rows } else { array.cols });
    let latency = if stays { law.stationary_latency(lanes) } else { law.output_latency(lanes) };
    let _ = writeln!(
        text,
        "the law: first result {} cycles after a start, last {}",
        law.first_out(stays, beats),
        beats + latency
    );
    Ok(text)
}

/// The dataflow that the options name, which the machine must have.
pub(super) fn chosen_dataflow(accelerator: &Accelerator, options: WaveOptions) -> Result<Dataflow, Failure> {
    let array = &accelerator.config.array;
    let dataflow = options.dataflow.unwrap_or(array.dataflows[0]);
    if !array.dataflows.contains(&dataflow) {
        return Err(Diagnostic::error(format!("the machine has no dataflow {dataflow:?}"))
            .with_help(format!("draw one of {:?}, or set `array.dataflows`", array.dataflows))
            .into());
    }
    Ok(dataflow)
}

fn commands(options: WaveOptions, [rows, cols]: [usize; 2], stays: bool) -> Vec<Command> {
    let beats = options.beats as usize;
    let mut commands = Vec::new();
    for index in 0..options.tiles as usize {
        if stays {
            commands.push(Command::Preload(vec![1; rows * cols]));
        }
        let results = if stays { beats } else { rows };
        commands.push(Command::Stream(Tile {
            beats: options.beats,
            beat_cycles: 1,
            left: vec![1; beats * rows],
            top: (!stays).then(|| vec![1; beats * cols]),
            sums: Sums { first: index * results * cols, rows: results, cols, row_stride: cols, col_stride: 1 },
            ..Tile::default()
        }));
    }
    commands
}

/// `a`, `b`... for tiles 1, 2...
fn letter(tile: u32) -> char {
    char::from(b'a' + u8::try_from((tile.max(1) - 1) % 26).unwrap_or(0))
}

fn mark(mark: Mark) -> String {
    mark.map_or_else(String::new, |(tile, beat)| format!("{}{beat}", letter(tile)))
}

/// A row for each element and lane of the edge, a column for each cycle.
fn grid(snapshots: &[Snapshot], cols: usize, lane: &str) -> String {
    let elements = snapshots.first().map_or(0, |first| first.elements.len());
    let lanes = snapshots.iter().map(|snapshot| snapshot.edge.len()).max().unwrap_or(0);
    let mut rows: Vec<(String, Vec<String>)> = Vec::new();
    rows.push(("cycle".into(), snapshots.iter().map(|snapshot| snapshot.cycle.to_string()).collect()));
    for element in 0..elements {
        let mut before = [0, 0];
        let cells = snapshots.iter().map(|snapshot| {
            let now = snapshot.loads[element];
            // What moves from a shadow register to its element was there before.
            let written = now.iter().copied().filter(|load| *load > before[0] && *load > before[1]).max();
            before = now;
            let load = written.map_or_else(String::new, |load| format!("w{load}"));
            mark(snapshot.elements[element]) + &load
        });
        rows.push((format!("({},{})", element / cols, element % cols), cells.collect()));
    }
    for index in 0..lanes {
        let cells = snapshots.iter().map(|snapshot| mark(snapshot.edge.get(index).copied().flatten()));
        rows.push((format!("{lane} {index} out"), cells.collect()));
    }
    let label = rows.iter().map(|(label, _)| label.len()).max().unwrap_or(0);
    let width = rows.iter().flat_map(|(_, cells)| cells.iter().map(String::len)).max().unwrap_or(1);
    let mut text = String::new();
    for (name, cells) in rows {
        let mut line = format!("{name:label$}");
        for cell in cells {
            let _ = write!(line, " {:>width$}", if cell.is_empty() { "." } else { &cell });
        }
        let _ = writeln!(text, "{}", line.trim_end());
    }
    text
}
