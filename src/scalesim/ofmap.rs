//! DRAM writes: the output buffer drained in portions of lines. Knows when results are written and not what they are.
//!
//! A buffer of `S` words has lines of `C` words and drains when it holds more than `D = S - ceil(S/2)`: the line being
//! filled is closed, its rest is padding, and the oldest `p = ceil(D/C)` lines leave, one a cycle. The count takes
//! whole lines off less the padding of the last one that left; padding inside the others is counted, and its room
//! believed to be free: an over-count that this file reproduces.

use std::collections::VecDeque;

use super::{
    Access,
    demand::{results, signed},
    fold::{FoldIndex, Folds, SizeError},
};
use crate::config::scalesim::Stays;

/// Portions that are followed one by one.
const MOST_PORTIONS: u64 = 1 << 23;

/// Lines that were filled one after the other: full ones, and one that was closed early.
#[derive(Clone, Copy, Debug)]
struct Run {
    full: u64,
    /// Words of the closed line; 0: none.
    closed: u64,
}

/// Lines in the order in which they were filled.
#[derive(Debug, Default)]
struct Lines(VecDeque<Run>);

impl Lines {
    fn close(&mut self, words: u64, width: u64) {
        self.0.push_back(Run { full: words / width, closed: words % width });
    }

    /// Takes up to `count` lines off; how many, and the words of the last one.
    fn take(&mut self, count: u64, width: u64) -> (u64, u64) {
        let (mut taken, mut last) = (0, width);
        while let Some(run) = self.0.front_mut()
            && taken < count
        {
            let full = run.full.min(count - taken);
            if full > 0 {
                (taken, last) = (taken + full, width);
                run.full -= full;
            }
            if run.full == 0 && run.closed > 0 && taken < count {
                (taken, last) = (taken + 1, run.closed);
                run.closed = 0;
            }
            if run.full == 0 && run.closed == 0 {
                self.0.pop_front();
            }
        }
        (taken, last)
    }
}

/// When each result is written, by its index.
struct Results<'a>(&'a Folds);

impl Results<'_> {
    /// Results of a row fold with so many columns.
    const fn of_fold(&self, cols: u64) -> u64 {
        match self.0.dataflow {
            Stays::Outputs => self.0.rows * cols,
            Stays::Filters | Stays::Inputs => self.0.beats * cols,
        }
    }

    /// Results of a column fold with so many columns.
    const fn of_column(&self, cols: u64) -> u64 {
        match self.0.dataflow {
            Stays::Outputs => self.0.over_rows * cols,
            Stays::Filters | Stays::Inputs => self.0.row_folds * self.0.beats * cols,
        }
    }

    const fn count(&self) -> u64 {
        self.of_column(self.0.over_cols)
    }

    fn cycle_of(&self, index: u64) -> u64 {
        let folds = self.0;
        let col = index / self.of_column(folds.cols);
        let index = index - col * self.of_column(folds.cols);
        let size = self.of_fold(folds.cols_of(col));
        let fold = FoldIndex { col, row: index / size };
        let (stream, delay) = results(folds, fold);
        folds.begin(fold) + delay + stream.cycle_of(index - fold.row * size)
    }

    /// Results that are written before a cycle.
    fn before(&self, cycle: u64) -> u64 {
        let folds = self.0;
        let fold = cycle / folds.period;
        let fold = FoldIndex { col: fold / folds.row_folds, row: fold % folds.row_folds };
        if fold.col >= folds.col_folds {
            return self.count();
        }
        let (stream, delay) = results(folds, fold);
        let inside = stream.before((cycle - folds.begin(fold)).saturating_sub(delay));
        fold.col * self.of_column(folds.cols) + fold.row * self.of_fold(folds.cols_of(fold.col)) + inside
    }
}

/// DRAM writes of a layer.
///
/// # Errors
/// More portions than can be followed.
pub fn writes(folds: &Folds, buffer_words: u64) -> Result<Access, SizeError> {
    let width = folds.cols;
    let threshold = buffer_words - buffer_words.div_ceil(2);
    let portion = threshold.div_ceil(width);
    let results = Results(folds);
    let count = results.count();
    if count / threshold.max(1) > MOST_PORTIONS {
        return Err(SizeError::Steps("portions of written words"));
    }

    let mut lines = Lines::default();
    // Words that came, words since the last line was closed, and words that the buffer believes to hold: it frees padding.
    let (mut came, mut open, mut held) = (0_u64, 0_u64, 0_i64);
    let (mut start, mut stop, mut words, mut drained) = (None, 0, 0, 0);
    loop {
        // The first word with which it holds more than the threshold and the last drain is over.
        let missing = u64::try_from(signed(threshold) - held).unwrap_or(0);
        let word = (came + missing).max(results.before(drained));
        if word >= count {
            break;
        }
        let more = word + 1 - came;
        (came, open, held) = (word + 1, open + more, held + signed(more));
        lines.close(open, width);
        open = 0;
        let (taken, last) = lines.take(portion, width);
        let freed = (taken - 1) * width + last;
        (words, held) = (words + freed, held - signed(freed));
        let cycle = results.cycle_of(word);
        start.get_or_insert(cycle);
        drained = cycle + taken;
        stop = drained - 1;
    }
    lines.close(open + count - came, width);
    // The rest leaves when the array is done, even beside a drain that is still under way.
    let mut cycle = folds.total();
    loop {
        let (taken, last) = lines.take(portion, width);
        if taken == 0 {
            break;
        }
        words += (taken - 1) * width + last;
        start.get_or_insert(cycle);
        cycle += taken;
        stop = stop.max(cycle - 1);
    }
    Ok(Access { start: signed(start.unwrap_or_default()), stop: signed(stop), words })
}
