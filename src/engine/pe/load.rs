//! How a stationary operand reaches the elements: the words on the wires, and the registers that they end in.

use std::collections::VecDeque;

use super::{Loading, Tag, Weight, array::Structure, line::Line};
use crate::config::LoadPath;

/// A stationary operand on its way.
#[derive(Clone, Debug)]
struct Load {
    start: u64,
    tag: Tag,
    slot: u8,
    /// `[rows, cols]`.
    words: Vec<i32>,
}

/// The wires of the load.
#[derive(Clone, Debug)]
pub(super) struct Loader {
    structure: Structure,
    /// Loads that have begun or will, of which words are still to enter.
    loads: VecDeque<Load>,
    /// By lane and column, where words travel with the wave.
    lines: Vec<Line<Weight>>,
}

impl Loader {
    pub fn new(structure: &Structure) -> Self {
        let travels = structure.path == LoadPath::Skewed;
        let lanes = if travels { structure.lanes } else { 0 };
        let depth =
            |col: usize| structure.port + col * structure.operand_hop + (structure.rows - 1) * structure.sum_hop;
        let lines = (0..lanes).flat_map(|_| (0..structure.cols).map(|col| Line::new(depth(col)))).collect();
        Self { structure: structure.clone(), loads: VecDeque::new(), lines }
    }

    pub fn begin(&mut self, start: u64, tag: Tag, slot: u8, words: Vec<i32>) {
        self.loads.push_back(Load { start, tag, slot, words });
    }

    pub fn is_empty(&self) -> bool {
        self.loads.is_empty() && self.lines.iter().all(Line::is_empty)
    }

    /// Cycle `now`: what reaches its register at the end of it. `registers` are those of the elements by slot,
    /// `[slot][row, col]`.
    pub fn step(&mut self, now: u64, registers: &mut [Vec<Weight>]) {
        if self.structure.path == LoadPath::Skewed {
            self.travel(now, registers);
        } else {
            self.arrive(now, registers);
        }
    }

    /// The steps of the loads that are at `now`, as `(step, load)`.
    fn steps(&self, now: u64) -> Option<(usize, &Load)> {
        let structure = &self.structure;
        self.loads.iter().find_map(|load| {
            let cycle = now.checked_sub(load.start)?;
            (0..structure.steps).find(|&step| structure.step_cycle(step) == cycle).map(|step| (step, load))
        })
    }

    /// What passes an element where words travel, in the cycle that the wires are in.
    pub fn passing(&self, row: usize, col: usize) -> Option<Loading> {
        let Structure { lanes, cols, port, operand_hop, sum_hop, .. } = self.structure;
        let word = self.lines[(row % lanes) * cols + col].at(port + col * operand_hop + row * sum_hop);
        let is_own = word.load > 0 && usize::from(word.row) == row;
        is_own.then_some(Loading { word: Some(word.value), slot: word.slot })
    }

    /// What an element is to take in cycle `now` where a step acts at once. `held` is what the registers have, by slot and row
    /// of the column.
    pub fn arriving(&self, now: u64, row: usize, col: usize, held: impl Fn(u8, usize) -> Weight) -> Option<Loading> {
        let Structure { rows, cols, lanes, steps, port, .. } = self.structure;
        let (step, load) = self.steps(now.checked_sub(port as u64)?)?;
        let source = match self.structure.path {
            LoadPath::Chain if row >= lanes => {
                let word = held(load.slot, row - lanes);
                return Some(Loading { word: (word.load > 0).then_some(word.value), slot: load.slot });
            }
            LoadPath::Chain => (steps - 1 - step) * lanes + row,
            _ => Some(row).filter(|row| row / lanes == step)?,
        };
        let word = (source < rows).then(|| load.words[source * cols + col]);
        Some(Loading { word, slot: load.slot })
    }

    /// Forgets loads whose last step is over.
    fn forget(&mut self, now: u64) {
        let last = self.structure.step_cycle(self.structure.steps - 1);
        while self.loads.front().is_some_and(|load| load.start + last <= now) {
            self.loads.pop_front();
        }
    }

    /// Words run down the columns beside the wave, and each element takes its own as it passes.
    fn travel(&mut self, now: u64, registers: &mut [Vec<Weight>]) {
        let structure = &self.structure;
        let (rows, cols, lanes) = (structure.rows, structure.cols, structure.lanes);
        self.lines.iter_mut().for_each(Line::shift);
        let entering: Vec<(usize, Weight)> = self
            .steps(now)
            .map(|(step, load)| {
                let first = step * lanes;
                (first..rows.min(first + lanes))
                    .flat_map(|row| (0..cols).map(move |col| (row, col)))
                    .map(|(row, col)| ((row - first) * cols + col, word(load, cols, row, col)))
                    .collect()
            })
            .unwrap_or_default();
        for (line, word) in entering {
            self.lines[line].put(word);
        }
        self.forget(now);
        for row in 0..rows {
            for col in 0..cols {
                let line = &self.lines[(row % lanes) * cols + col];
                if line.is_empty() {
                    continue;
                }
                let structure = &self.structure;
                let position = structure.port + col * structure.operand_hop + row * structure.sum_hop;
                let word = line.at(position);
                if word.load > 0 && usize::from(word.row) == row {
                    registers[usize::from(word.slot)][row * cols + col] = word;
                }
            }
        }
    }

    /// A step acts on all columns at once, behind the ports' registers.
    fn arrive(&mut self, now: u64, registers: &mut [Vec<Weight>]) {
        let structure = &self.structure;
        let (rows, cols, lanes) = (structure.rows, structure.cols, structure.lanes);
        let Some(now) = now.checked_sub(structure.port as u64) else { return };
        if let Some((step, load)) = self.steps(now) {
            let register = &mut registers[usize::from(load.slot)];
            if structure.path == LoadPath::Rows {
                let first = step * lanes;
                for row in first..rows.min(first + lanes) {
                    for col in 0..cols {
                        register[row * cols + col] = word(load, cols, row, col);
                    }
                }
            } else {
                // Chains of every `lanes`-th row; the word for the last row enters first.
                for row in (lanes..rows).rev() {
                    register.copy_within((row - lanes) * cols..(row - lanes + 1) * cols, row * cols);
                }
                let first = (structure.steps - 1 - step) * lanes;
                for lane in 0..lanes.min(rows) {
                    for col in 0..cols {
                        let row = first + lane;
                        register[lane * cols + col] =
                            if row < rows { word(load, cols, row, col) } else { Weight::default() };
                    }
                }
            }
        }
        self.forget(now);
    }
}

fn word(load: &Load, cols: usize, row: usize, col: usize) -> Weight {
    let [Ok(at_row), Ok(at_col)] = [row, col].map(u16::try_from) else {
        unreachable!("at most 1,024 rows and columns")
    };
    Weight { value: load.words[row * cols + col], load: load.tag, row: at_row, col: at_col, slot: load.slot }
}
