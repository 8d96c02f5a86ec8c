//! What the array asks of its buffers: counts of words and the cycles of the first and the last one. Knows no capacity.

use super::{
    Access, Operands,
    fold::{FoldIndex, Folds, Motion, Skewed},
};
use crate::{config::scalesim::Stays, import::scalesim::Convolution};

/// What a trace shows a cycle later than the array asks.
const HIT_LATENCY: u64 = 1;

/// Between the array and its buffers.
pub fn sram(folds: &Folds, layer: &Convolution) -> Operands<Access> {
    let (m, k, n) = (folds.m, folds.k, folds.n);
    let (row_folds, col_folds) = (folds.row_folds, folds.col_folds);
    let (ifmap, filter, ofmap) = match folds.dataflow {
        // Every fold counts an array's edge of results on top: SCALE-Sim's fault.
        Stays::Outputs => {
            (m * k * col_folds, k * n * row_folds, m * n + row_folds * col_folds * (folds.rows + folds.cols))
        }
        Stays::Filters => (m * k * col_folds, k * n, m * n * row_folds),
        Stays::Inputs => (m * k, k * n * col_folds, m * n * row_folds),
    };
    let read = |motion, stop, words| {
        let start = first(folds, motion) + HIT_LATENCY;
        Access { start: signed(start), stop: signed(stop + HIT_LATENCY), words }
    };
    let (begin, last) = (FoldIndex { col: 0, row: 0 }, folds.last());
    Operands {
        ifmap: read(folds.ifmap(), last_of_ifmap(folds, layer), ifmap),
        filter: read(folds.filter(), last_of(folds, folds.filter()), filter),
        ofmap: Access {
            start: signed(folds.begin(begin) + results(folds, begin).1),
            stop: signed(
                folds.begin(last) + {
                    let (stream, delay) = results(folds, last);
                    delay + stream.lanes + stream.beats - 2
                },
            ),
            words: ofmap,
        },
    }
}

/// Cycles and counts stay below 2^52 (`Folds::of`).
pub fn signed(cycle: u64) -> i64 {
    i64::try_from(cycle).unwrap_or(i64::MAX)
}

/// Results of a fold, and the cycle of the fold in which the first one is written. In OS the last product of a sum and
/// its result share a cycle, and rows leave from the last one up: no drain that waits for its operands.
pub fn results(folds: &Folds, fold: FoldIndex) -> (Skewed, u64) {
    let (rows, cols) = (folds.rows_of(fold.row), folds.cols_of(fold.col));
    match folds.dataflow {
        Stays::Outputs => (Skewed { lanes: cols, beats: rows }, folds.beats - 1 + folds.rows - rows),
        Stays::Filters | Stays::Inputs => (Skewed { lanes: cols, beats: folds.beats }, 2 * folds.rows - 1),
    }
}

/// The cycle in which the first word of an operand is asked for. The first window lies inside the map.
pub fn first(folds: &Folds, motion: Motion) -> u64 {
    match motion {
        Motion::IntoRows => folds.load(),
        Motion::IntoColumns => 0,
        Motion::Stays => folds.rows - folds.rows_of(0),
    }
}

/// The cycle in which the last word is asked for, where every address exists.
fn last_of(folds: &Folds, motion: Motion) -> u64 {
    let last = folds.last();
    let (rows, cols) = (folds.rows_of(last.row), folds.cols_of(last.col));
    folds.begin(last)
        + match motion {
            Motion::IntoRows => folds.load() + rows - 1 + folds.beats - 1,
            Motion::IntoColumns => cols - 1 + folds.beats - 1,
            Motion::Stays => folds.rows - 1,
        }
}

/// The same of the input, of which windows that leave the map ask for nothing.
fn last_of_ifmap(folds: &Folds, layer: &Convolution) -> u64 {
    if layer.inside() {
        return last_of(folds, folds.ifmap());
    }
    // The first fold has the first window, so there is a last word.
    (0..folds.col_folds)
        .rev()
        .flat_map(|col| (0..folds.row_folds).rev().map(move |row| FoldIndex { col, row }))
        .find_map(|fold| last_in_fold(folds, layer, fold).map(|cycle| folds.begin(fold) + cycle))
        .unwrap_or_default()
}

/// The cycle of a fold in which its last word of the input is asked for.
fn last_in_fold(folds: &Folds, layer: &Convolution, fold: FoldIndex) -> Option<u64> {
    let (first_row, rows) = (fold.row * folds.rows, folds.rows_of(fold.row));
    match folds.dataflow {
        Stays::Outputs => {
            (0..rows).filter_map(|row| layer.last_product(first_row + row).map(|product| row + product)).max()
        }
        Stays::Filters => (0..rows)
            .filter_map(|row| layer.last_window(first_row + row).map(|window| folds.load() + row + window))
            .max(),
        Stays::Inputs => {
            let (first_col, cols) = (fold.col * folds.cols, folds.cols_of(fold.col));
            let asks = |row: u64| (0..cols).any(|col| layer.address(first_col + col, first_row + row).is_some());
            (0..rows).find(|&row| asks(row)).map(|row| folds.rows - 1 - row)
        }
    }
}
