//! What stands in the array in one cycle, for drawings and waveforms: read off the registers, and nothing else.

use super::{Arithmetic, Array};

/// A word of a tile: the tile, from 1, and its beat (at an edge: the row of its result).
pub type Mark = Option<(u32, u32)>;

/// The array in one cycle. Elements are `[rows, cols]`, row by row.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Snapshot {
    /// The cycle.
    pub cycle: u64,
    /// What each element multiplies.
    pub elements: Vec<Mark>,
    /// The load, from 1, whose word each element multiplies by, and of those that wait in its shadow registers the newest; 0
    /// where there is none.
    pub loads: Vec<[u32; 2]>,
    /// What stands at the edge: by column past a stationary operand; by column, or by row where they leave along rows, where
    /// sums stay.
    pub edge: Vec<Mark>,
}

impl<A: Arithmetic> Array<A> {
    /// Runs one cycle, and says what stood in the array.
    ///
    /// # Errors
    /// A conflict.
    pub fn step_shown(&mut self) -> Result<Snapshot, super::Conflict> {
        let cycle = self.now();
        self.step()?;
        let structure = self.structure();
        let (rows, cols) = (structure.rows, structure.cols);
        let positions = (0..rows).flat_map(|row| (0..cols).map(move |col| (row, col)));
        let stationary = self.stationary();
        let output = self.output();
        let mark = |tile: u32, beat: u32| (tile > 0).then_some((tile, beat));
        let elements = positions.clone().map(|(row, col)| {
            let words = [stationary.operand(row, col), output.operand(row, col)];
            words.into_iter().find(|word| word.tile > 0).and_then(|word| mark(word.tile, word.beat))
        });
        let loads = positions.map(|(row, col)| {
            let at = row * cols + col;
            [stationary.active[at].load, stationary.shadow.iter().map(|slot| slot[at].load).max().unwrap_or(0)]
        });
        let edge = if output.is_empty() {
            stationary.edge().map(|sum| mark(sum.tile, sum.index)).collect()
        } else {
            output.edge().map(|sum| mark(sum.tile, sum.index)).collect()
        };
        Ok(Snapshot { cycle, elements: elements.collect(), loads: loads.collect(), edge })
    }
}
