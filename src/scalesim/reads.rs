//! DRAM reads of an operand all of whose addresses differ, in closed form. The buffer behind every operand is
//! SCALE-Sim's: a miss brings one word, and a buffer that is full forgets everything.

use super::{
    Access, PREFETCH_WORDS,
    demand::{first, signed},
    fold::{FoldIndex, Folds, Motion, Skewed},
};

/// A buffer of `words`, of which half holds what is used.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ReadBuffer {
    /// `g`: words of a line.
    line: u64,
    /// Words until it forgets.
    pub capacity: u64,
}

impl ReadBuffer {
    /// 100 lines, of which 50 hold what is used.
    pub const fn of(words: u64) -> Self {
        let line = words / 100;
        Self { line, capacity: 50 * line }
    }

    /// What DRAM sees: `words` were missed, the buffer was first asked in cycle `first`, and was last full in `full`.
    ///
    /// The first fill comes before the run. All later ones come while the one before them is used, so the last one is
    /// there when the last full buffer is given up.
    pub fn access(&self, words: u64, first: u64, full: Option<u64>) -> Access {
        match full {
            None => {
                let lines = words.div_ceil(self.line) * self.line;
                Access { start: -signed(lines.div_ceil(PREFETCH_WORDS)), stop: -1, words }
            }
            Some(cycle) => Access {
                start: signed(first) - signed(self.capacity.div_ceil(PREFETCH_WORDS)),
                stop: signed(cycle) + 1,
                words,
            },
        }
    }
}

/// Reads of blocks of words that all differ, each block gone through several times before the next.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Repeated {
    capacity: u64,
    held: u64,
    words: u64,
    /// Block, repetition and word at which the buffer was last full.
    full: Option<(u64, u64, u64)>,
}

impl Repeated {
    /// A block of `size` words, `times` over. None of it is held when it begins.
    fn block(&mut self, index: u64, size: u64, times: u64) {
        if size >= self.capacity {
            // A word comes again after as many others as the buffer forgets: it is never found.
            let asked = size * times;
            let fills = (self.held + asked) / self.capacity;
            if fills > 0 {
                let word = fills * self.capacity - self.held - 1;
                self.full = Some((index, word / size, word % size));
            }
            self.held = (self.held + asked) % self.capacity;
            self.words += asked;
            return;
        }
        self.words += size;
        self.held += size;
        if self.held >= self.capacity {
            // What came before the buffer was full is forgotten and read once more; then the block fits.
            let after = self.held - self.capacity;
            self.full = Some((index, 0, size - after - 1));
            self.held = after;
            if times > 1 {
                self.words += size - after;
                self.held = size;
            }
        }
    }
}

/// DRAM reads of an operand whose addresses all differ.
pub fn regular(folds: &Folds, motion: Motion, buffer_words: u64) -> Access {
    let buffer = ReadBuffer::of(buffer_words);
    let mut reads = Repeated { capacity: buffer.capacity, held: 0, words: 0, full: None };
    match motion {
        Motion::IntoRows => reads.block(0, folds.over_rows * folds.beats, folds.col_folds),
        Motion::IntoColumns => {
            for col in 0..folds.col_folds {
                reads.block(col, folds.cols_of(col) * folds.beats, folds.row_folds);
            }
        }
        Motion::Stays => reads.block(0, folds.over_rows * folds.over_cols, 1),
    }
    let full = reads.full.map(|(block, repetition, word)| match motion {
        Motion::IntoRows => {
            let row = word / (folds.rows * folds.beats);
            let stream = Skewed { lanes: folds.rows_of(row), beats: folds.beats };
            let cycle = stream.cycle_of(word - row * folds.rows * folds.beats);
            folds.begin(FoldIndex { col: repetition, row }) + folds.load() + cycle
        }
        Motion::IntoColumns => {
            let stream = Skewed { lanes: folds.cols_of(block), beats: folds.beats };
            folds.begin(FoldIndex { col: block, row: repetition }) + stream.cycle_of(word)
        }
        Motion::Stays => {
            let col = word / (folds.over_rows * folds.cols);
            let word = word - col * folds.over_rows * folds.cols;
            let cols = folds.cols_of(col);
            let row = word / (folds.rows * cols);
            let line = (word - row * folds.rows * cols) / cols;
            folds.begin(FoldIndex { col, row }) + folds.rows - folds.rows_of(row) + line
        }
    });
    buffer.access(reads.words, first(folds, motion), full)
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;

    /// Word by word, as the buffer is described.
    fn walked(capacity: u64, blocks: &[(u64, u64)]) -> (u64, Option<(u64, u64, u64)>) {
        let (mut held, mut words, mut full) = (BTreeSet::new(), 0, None);
        for (index, &(size, times)) in (0..).zip(blocks) {
            for repetition in 0..times {
                for word in 0..size {
                    if held.insert((index, word)) {
                        words += 1;
                        if held.len() as u64 == capacity {
                            held.clear();
                            full = Some((index, repetition, word));
                        }
                    }
                }
            }
        }
        (words, full)
    }

    #[test]
    fn blocks_in_closed_form_are_blocks_word_by_word() {
        for capacity in 1..14 {
            for size in 1..16 {
                for times in 1..5 {
                    for last in 1..=size {
                        let blocks = [(size, times), (size, times), (size, times), (last, times)];
                        let mut reads = Repeated { capacity, held: 0, words: 0, full: None };
                        for (index, &(size, times)) in (0..).zip(&blocks) {
                            reads.block(index, size, times);
                        }
                        assert_eq!((reads.words, reads.full), walked(capacity, &blocks), "{capacity} {blocks:?}");
                    }
                }
            }
        }
    }
}
