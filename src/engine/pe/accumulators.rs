//! The accumulators behind the columns: each word with the tile that wrote it, so that a sum which is read too early or
//! written out of order is found by identity.

use std::collections::VecDeque;

use super::{Arithmetic, Conflict, Meeting, Sums, Tag};

/// One word.
#[derive(Clone, Copy, Debug, Default)]
struct Word<S> {
    value: S,
    /// The tile that wrote it last.
    writer: Tag,
}

/// A tile's place, and what must stand there before it adds or writes.
#[derive(Clone, Debug)]
struct Target<S> {
    sums: Sums,
    accumulate: bool,
    /// Writers before it in program order, `[rows, cols]`.
    before: Vec<Tag>,
    /// Sums that have not been written yet.
    left: usize,
    /// What was written, `[rows, cols]`.
    written: Vec<S>,
}

#[derive(Clone, Debug)]
pub(super) struct Accumulators<A: Arithmetic> {
    arithmetic: A,
    words: Vec<Word<A::Sum>>,
    /// By address, the last writer of the commands so far.
    announced: Vec<Tag>,
    /// Tiles from `first` on.
    targets: VecDeque<Target<A::Sum>>,
    first: Tag,
    /// Tiles that are done, in program order, and what they wrote.
    finished: Vec<(Tag, Vec<A::Sum>)>,
}

impl<A: Arithmetic> Accumulators<A> {
    pub fn new(arithmetic: A, words: usize) -> Self {
        Self {
            arithmetic,
            words: vec![Word::default(); words],
            announced: vec![0; words],
            targets: VecDeque::new(),
            first: 1,
            finished: Vec::new(),
        }
    }

    pub fn words(&self) -> usize {
        self.words.len()
    }

    /// The next tile, in program order. One whose sums stay is done when `keeping` elements have completed theirs.
    pub fn announce(&mut self, tile: Tag, sums: Sums, accumulate: bool, keeping: Option<usize>) {
        let mut before = Vec::new();
        if keeping.is_none() {
            before.reserve(sums.rows * sums.cols);
            for row in 0..sums.rows {
                for col in 0..sums.cols {
                    before.push(std::mem::replace(&mut self.announced[sums.address(row, col)], tile));
                }
            }
        }
        let written = vec![A::Sum::default(); before.len()];
        let left = keeping.unwrap_or(before.len());
        self.targets.push_back(Target { sums, accumulate, before, left, written });
    }

    fn index(&self, tile: Tag) -> Option<usize> {
        Some(tile.checked_sub(self.first)? as usize)
    }

    /// The sum that tile `tile` begins with at a row and column, where sums are injected.
    pub fn inject(&self, tile: Tag, row: u32, col: usize) -> Result<A::Sum, Meeting> {
        let Some(target) = self.index(tile).and_then(|index| self.targets.get(index)) else {
            return Ok(A::Sum::default());
        };
        let row = row as usize;
        if !target.accumulate || col >= target.sums.cols {
            return Ok(A::Sum::default());
        }
        let (address, expected) = (target.sums.address(row, col), target.before[row * target.sums.cols + col]);
        let word = self.words[address];
        if word.writer == expected { Ok(word.value) } else { Err(Meeting::SumTooEarly { address }) }
    }

    /// An element has completed a sum that stays.
    pub fn complete(&mut self, tile: Tag) {
        let index = self.index(tile);
        if let Some(target) = index.and_then(|index| self.targets.get_mut(index)) {
            target.left = target.left.saturating_sub(1);
        }
    }

    /// A sum that has come out.
    pub fn deposit(&mut self, tile: Tag, row: u32, col: usize, sum: A::Sum, adds: bool) -> Result<bool, Meeting> {
        let index = self.index(tile);
        let Some(target) = index.and_then(|index| self.targets.get_mut(index)) else { return Ok(false) };
        let row = row as usize;
        if row >= target.sums.rows || col >= target.sums.cols || target.before.is_empty() {
            return Ok(false);
        }
        let (address, expected) = (target.sums.address(row, col), target.before[row * target.sums.cols + col]);
        let accumulate = target.accumulate && adds;
        target.left -= 1;
        let word = self.words[address];
        if word.writer != expected {
            return Err(Meeting::SumOutOfOrder { address });
        }
        let held = if accumulate { word.value } else { A::Sum::default() };
        let value = self.arithmetic.accumulate(held, sum);
        target.written[row * target.sums.cols + col] = value;
        self.words[address] = Word { value, writer: tile };
        self.forget();
        Ok(true)
    }

    /// Lets go of tiles at the front that have written all their sums.
    fn forget(&mut self) {
        while self.targets.front().is_some_and(|target| target.left == 0) {
            let Some(done) = self.targets.pop_front() else { return };
            self.finished.push((self.first, done.written));
            self.first += 1;
        }
    }

    /// Tiles that are done since the last call, in program order, and the sums that they wrote, `[rows, cols]`; none of tiles
    /// whose sums stay.
    pub fn take_finished(&mut self) -> Vec<(Tag, Vec<A::Sum>)> {
        self.forget();
        std::mem::take(&mut self.finished)
    }

    /// What an accumulator holds; `None` where no tile has written.
    pub fn value(&self, address: usize) -> Option<A::Sum> {
        self.words.get(address).filter(|word| word.writer > 0).map(|word| word.value)
    }

    /// Whether all sums of all tiles are written.
    pub fn unwritten(&self) -> Option<Conflict> {
        let late = self.targets.iter().position(|target| target.left > 0)?;
        Some(Conflict {
            tile: self.first + u32::try_from(late).unwrap_or(0),
            cycle: u64::MAX,
            meeting: Meeting::SumLost,
        })
    }
}
