//! DRAM reads of the input where windows overlap or leave the map: the demanded addresses are gone through and counted,
//! by stretches of time in which the buffer does not fill up, and word by word where it does.
//!
//! A word of the map has one bit. Words of one row of a window lie side by side, so a window of a stretch of time takes
//! as many steps as it has rows and 64ths of words. Repetitions of the same demand (column folds) are skipped where the
//! buffer was last full at a place that was seen before.

use std::{collections::BTreeMap, ops::Range};

use super::{
    Access,
    demand::first,
    fold::{FoldIndex, Folds, SizeError},
    reads::{ReadBuffer, regular},
};
use crate::{config::scalesim::Stays, import::scalesim::Convolution};

/// Words of a map that can be told apart.
const MOST_WORDS: u64 = 1 << 30;
/// Words and stretches that are gone through.
const MOST_STEPS: u64 = 1 << 30;

/// DRAM reads of the input.
///
/// # Errors
/// A map or a walk that is too long.
pub fn reads(folds: &Folds, layer: &Convolution, buffer_words: u64) -> Result<Access, SizeError> {
    if layer.inside() && layer.disjoint() {
        return Ok(regular(folds, folds.ifmap(), buffer_words));
    }
    let buffer = ReadBuffer::of(buffer_words);
    let map_words = layer.ifmap[0] * layer.ifmap[1] * layer.channels;
    let words = usize::try_from(map_words)
        .ok()
        .filter(|_| map_words <= MOST_WORDS)
        .ok_or(SizeError::Input(map_words))?
        .div_ceil(64);
    let mut walk = Walk {
        folds,
        layer,
        capacity: buffer.capacity,
        bits: vec![0; words],
        epochs: vec![0; words],
        epoch: 1,
        undo: Vec::new(),
        stride: 1,
        held: 0,
        words: 0,
        full: None,
        steps: 0,
    };
    walk.all()?;
    Ok(buffer.access(
        walk.words,
        first(folds, folds.ifmap()),
        walk.full.map(|full| folds.begin(full.fold) + full.cycle),
    ))
}

/// Where the buffer was last full: fold, cycle of the fold, and lane.
#[derive(Clone, Copy, Debug)]
struct Full {
    fold: FoldIndex,
    cycle: u64,
    lane: u64,
}

struct Walk<'a> {
    folds: &'a Folds,
    layer: &'a Convolution,
    capacity: u64,
    /// Whether a word is held, where the entry is of this epoch.
    bits: Vec<u64>,
    /// The epoch of an entry; a full buffer begins a new one and forgets everything.
    epochs: Vec<u32>,
    epoch: u32,
    /// Entries before the stretch that is tried.
    undo: Vec<(usize, u64, u32)>,
    /// How many times more cycles are tried at once than are sure to fit.
    stride: u64,
    held: u64,
    words: u64,
    full: Option<Full>,
    steps: u64,
}

impl Walk<'_> {
    fn all(&mut self) -> Result<(), SizeError> {
        let folds = self.folds;
        // Column folds repeat the demand unless the input is what stays.
        let repeats = folds.dataflow != Stays::Inputs;
        let mut seen: BTreeMap<(u64, u64, u64), (u64, u64)> = BTreeMap::new();
        let mut col = 0;
        while col < folds.col_folds {
            let (words, full) = (self.words, self.full.map(|full| full.fold.col));
            for row in 0..folds.row_folds {
                let fold = FoldIndex { col, row };
                self.fold(fold)?;
            }
            if repeats && self.words == words && full == self.full.map(|full| full.fold.col) {
                // All is held, for good.
                break;
            }
            if let Some(full) = self.full.filter(|full| repeats && full.fold.col == col) {
                // What is held is what was asked for since, so the same place brings the same future.
                let key = (full.fold.row, full.cycle, full.lane);
                if let Some((before, words)) = seen.insert(key, (col, self.words)) {
                    let (period, gain) = (col - before, self.words - words);
                    let skipped = (folds.col_folds - 1 - col) / period;
                    self.words += skipped * gain;
                    col += skipped * period;
                    self.full = Some(Full { fold: FoldIndex { col, ..full.fold }, ..full });
                    seen.clear();
                }
            }
            col += 1;
        }
        Ok(())
    }

    /// Cycles of a fold in which the input is asked for, counted from the first.
    fn cycles(&self, fold: FoldIndex) -> u64 {
        let rows = self.folds.rows_of(fold.row);
        match self.folds.dataflow {
            Stays::Outputs | Stays::Filters => rows + self.folds.beats - 1,
            Stays::Inputs => rows,
        }
    }

    /// Lanes of a fold that ask for input.
    fn lanes(&self, fold: FoldIndex) -> u64 {
        match self.folds.dataflow {
            Stays::Outputs | Stays::Filters => self.folds.rows_of(fold.row),
            Stays::Inputs => self.folds.cols_of(fold.col),
        }
    }

    /// Cycles of a fold before the first of [`Walk::cycles`].
    fn delay(&self, fold: FoldIndex) -> u64 {
        match self.folds.dataflow {
            Stays::Outputs | Stays::Filters => self.folds.load(),
            Stays::Inputs => self.folds.rows - self.folds.rows_of(fold.row),
        }
    }

    /// Goes through all cycles of a fold.
    fn fold(&mut self, fold: FoldIndex) -> Result<(), SizeError> {
        let (cycles, lanes) = (self.cycles(fold), self.lanes(fold));
        let mut cycle = 0;
        while cycle < cycles {
            if self.steps > MOST_STEPS {
                return Err(SizeError::Steps("reads of the input"));
            }
            // So many cycles fit even if every word is new. Most are not, so more are tried as long as that goes well.
            let safe = ((self.capacity - self.held - 1) / lanes).max(1);
            let end = cycle.saturating_add(safe.saturating_mul(self.stride)).min(cycles);
            if self.fits(fold, &(cycle..end)) {
                self.stride = self.stride.saturating_mul(2);
                cycle = end;
            } else if end - cycle > 1 {
                self.stride = (self.stride / 4).max(1);
            } else {
                self.stride = 1;
                self.cycle(fold, cycle);
                cycle += 1;
            }
        }
        Ok(())
    }

    /// Holds all that a stretch asks for, if that does not fill the buffer.
    fn fits(&mut self, fold: FoldIndex, cycles: &Range<u64>) -> bool {
        self.undo.clear();
        let room = self.capacity - self.held;
        let mut new = 0;
        let (folds, layer) = (self.folds, self.layer);
        let (first_row, rows) = (fold.row * folds.rows, folds.rows_of(fold.row));
        let fitted = match folds.dataflow {
            Stays::Outputs => (0..rows.min(cycles.end)).all(|row| {
                let products = cycles.start.saturating_sub(row)..folds.k.min(cycles.end - row);
                self.hold(layer, first_row + row, products, room, &mut new)
            }),
            Stays::Filters => (cycles.start.saturating_sub(rows - 1)..folds.m.min(cycles.end)).all(|window| {
                let from = cycles.start.saturating_sub(window);
                let products = first_row + from..first_row + rows.min(cycles.end - window);
                self.hold(layer, window, products, room, &mut new)
            }),
            Stays::Inputs => {
                let (first_col, cols) = (fold.col * folds.cols, folds.cols_of(fold.col));
                let end = first_row + rows;
                (first_col..first_col + cols)
                    .all(|window| self.hold(layer, window, end - cycles.end..end - cycles.start, room, &mut new))
            }
        };
        if fitted {
            self.held += new;
            self.words += new;
        } else {
            for (index, bits, epoch) in self.undo.drain(..).rev() {
                (self.bits[index], self.epochs[index]) = (bits, epoch);
            }
        }
        fitted
    }

    /// Holds some products' words of a window; whether fewer than `room` are new so far.
    fn hold(&mut self, layer: &Convolution, window: u64, products: Range<u64>, room: u64, new: &mut u64) -> bool {
        layer.runs(window, products).all(|run| {
            self.steps += 1;
            let (mut word, end) = (run.start, run.end);
            while word < end {
                let (entry, bit) = (index(word / 64), word % 64);
                let count = (64 - bit).min(end - word);
                let mask = (u64::MAX >> (64 - count)) << bit;
                let current = self.epochs[entry] == self.epoch;
                let held = if current { self.bits[entry] } else { 0 };
                let missing = mask & !held;
                if missing != 0 {
                    self.undo.push((entry, self.bits[entry], self.epochs[entry]));
                    (self.bits[entry], self.epochs[entry]) = (held | mask, self.epoch);
                    *new += u64::from(missing.count_ones());
                }
                self.steps += 1;
                word += count;
            }
            *new < room
        })
    }

    /// Goes through one cycle lane by lane.
    fn cycle(&mut self, fold: FoldIndex, cycle: u64) {
        let (folds, layer) = (self.folds, self.layer);
        let (first_row, rows) = (fold.row * folds.rows, folds.rows_of(fold.row));
        let streaming = cycle.saturating_sub(folds.beats - 1)..rows.min(cycle + 1);
        match folds.dataflow {
            Stays::Outputs => {
                for row in streaming {
                    self.ask(fold, cycle, row, layer.address(first_row + row, cycle - row));
                }
            }
            Stays::Filters => {
                for row in streaming {
                    self.ask(fold, cycle, row, layer.address(cycle - row, first_row + row));
                }
            }
            Stays::Inputs => {
                let first_col = fold.col * folds.cols;
                for col in 0..folds.cols_of(fold.col) {
                    self.ask(fold, cycle, col, layer.address(first_col + col, first_row + rows - 1 - cycle));
                }
            }
        }
    }

    /// Asks for one word.
    fn ask(&mut self, fold: FoldIndex, cycle: u64, lane: u64, address: Option<u64>) {
        self.steps += 1;
        let Some(word) = address else { return };
        let (entry, bit) = (index(word / 64), 1 << (word % 64));
        if self.epochs[entry] != self.epoch {
            (self.bits[entry], self.epochs[entry]) = (0, self.epoch);
        }
        if self.bits[entry] & bit != 0 {
            return;
        }
        self.bits[entry] |= bit;
        self.words += 1;
        self.held += 1;
        if self.held == self.capacity {
            self.held = 0;
            self.epoch = self.epoch.wrapping_add(1);
            if self.epoch == 0 {
                // The numbers of epochs begin again, so what carries an old one is taken away.
                self.epochs.fill(0);
                self.epoch = 1;
            }
            self.full = Some(Full { fold, cycle: self.delay(fold) + cycle, lane });
        }
    }
}

/// Entries are fewer than 2^24.
fn index(entry: u64) -> usize {
    usize::try_from(entry).expect("the map was measured")
}
