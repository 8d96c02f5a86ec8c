//! Array programs as the array's registers run them: when commands begin and end, a second opinion on the law.

use crate::{
    config::Array,
    engine::pe::{self, Conflict, Integers, Ready, Run, Sequencer, Tile},
    rtl::{Command, Design, Stream},
};

/// A program's run through the registers.
pub(super) struct Replayed {
    /// As [`cycles`].
    pub cycles: Vec<[u64; 2]>,
    /// What each accumulator holds in the end, row of lanes by row; `None` where nothing was written.
    pub sums: Vec<Option<i64>>,
}

/// Begin and end of each command in cycles. A load ends when the next may begin, a stream when its results and those of all
/// before it are out.
pub(super) fn cycles(design: &Design, array: &Array, commands: &[Command]) -> Result<Vec<[u64; 2]>, Conflict> {
    Ok(of_run(&run(design, array, commands)?, commands))
}

/// The same, and what the accumulators hold in the end.
pub(super) fn cycles_and_sums(design: &Design, array: &Array, commands: &[Command]) -> Result<Replayed, Conflict> {
    let run = run(design, array, commands)?;
    let sums = (0..words(design)).map(|address| run.array.accumulator(address)).collect();
    Ok(Replayed { cycles: of_run(&run, commands), sums })
}

fn of_run(run: &Run<Integers>, commands: &[Command]) -> Vec<[u64; 2]> {
    let mut result = 0;
    let both = run.outcomes.iter().zip(commands).map(|(outcome, command)| match command {
        Command::Load(_) => [outcome.start, outcome.end],
        Command::Stream(_) => {
            result = result.max(outcome.end);
            [outcome.start, result]
        }
    });
    both.collect()
}

fn words(design: &Design) -> usize {
    design.depth as usize * design.lanes() as usize
}

pub(in crate::pipeline) fn run(
    design: &Design,
    array: &Array,
    commands: &[Command],
) -> Result<Run<Integers>, Conflict> {
    let integers = Integers {
        column_bits: array.column_bits,
        accumulator_bits: design.accumulator_bits,
        overflow: array.overflow,
    };
    let mut sequencer = Sequencer::new(array, integers, words(design));
    for command in commands {
        let (command, ready) = self::command(design, array, command);
        sequencer.push(&command, Ready(ready))?;
    }
    Ok(sequencer.finish())
}

/// A command as the array's registers take it, and from which cycle on it may begin.
pub(in crate::pipeline) fn command(design: &Design, array: &Array, command: &Command) -> (pe::Command, u64) {
    match command {
        Command::Load(load) => {
            let words = load.words.iter().map(|&word| word - load.zero).collect();
            (pe::Command::Preload(words), load.ready)
        }
        Command::Stream(stream) => (pe::Command::Stream(tile(design, array, stream)), stream.ready),
    }
}

fn tile(design: &Design, array: &Array, stream: &Stream) -> Tile {
    let [rows, cols] = [array.rows, array.cols].map(|count| count as usize);
    let [used_rows, used_cols] = [stream.rows, stream.cols].map(|count| count as usize);
    let stays = design.is_stationary();
    let operand = |words: &[i32], lanes: usize, used: usize, zero: i32| -> Vec<i32> {
        words.iter().enumerate().map(|(at, &word)| if at % lanes < used { word - zero } else { 0 }).collect()
    };
    let lanes = design.lanes() as usize;
    let (row_stride, col_stride) = if design.along_rows() { (1, lanes) } else { (lanes, 1) };
    Tile {
        beats: stream.beats,
        beat_cycles: stream.beat_cycles,
        left: operand(&stream.left, rows, used_rows, stream.left_zero),
        top: (!stays).then(|| operand(&stream.top, cols, used_cols, stream.top_zero)),
        accumulate: stream.accumulate,
        resume: stream.resume,
        hold: stream.hold,
        sums: pe::Sums {
            first: stream.address as usize * lanes,
            rows: if stays { stream.beats as usize } else { used_rows },
            cols: used_cols,
            row_stride,
            col_stride,
        },
    }
}
