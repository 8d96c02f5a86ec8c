//! Every register and wire of the array in one cycle, with values, for waveforms: read off an array that runs anyway, and a
//! copy of it from the cycle before. Knows no names of signals; an array that is not probed does nothing for it.

use super::{Arithmetic, Array, Conflict, Operand, Partial, Weight};

/// A word of an operand that streams, and the control that travels with it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[allow(clippy::struct_excessive_bools, reason = "one wire each")]
pub struct Streaming {
    /// The word, less its zero point.
    pub value: i32,
    /// Which beat of its tile.
    pub beat: u32,
    /// Elements take the stationary operand from shadow register `slot` as it passes.
    pub takes: bool,
    /// See `takes`.
    pub slot: u8,
    /// First beat of its tile.
    pub first: bool,
    /// Last beat of its tile.
    pub last: bool,
    /// Where sums stay: whether they begin with those that the elements hold.
    pub resumes: bool,
    /// Where sums stay: whether they go on staying after the last beat.
    pub holds: bool,
}

impl Streaming {
    fn of(word: Operand) -> Option<Self> {
        let Operand { value, tile, beat, takes, slot, first, last, leaves, partner } = word;
        let one = Self { value, beat, takes, slot, first, last, resumes: partner > 0, holds: !leaves };
        (tile > 0).then_some(one)
    }
}

/// What a load writes into an element's register at the end of a cycle.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Loading {
    /// The word; `None` on a chain whose length is no multiple of the rows that are loaded side by side, past the operand.
    pub word: Option<i32>,
    /// The shadow register.
    pub slot: u8,
}

/// A sum, and what it belongs to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Sum {
    /// Its value.
    pub value: i64,
    /// Its tile, from 1.
    pub tile: u32,
    /// Its row of the result past a stationary operand, its place along the chain where sums stay.
    pub index: u32,
}

/// What stands in a place of the chain along which sums leave.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Place {
    /// The sum.
    pub sum: Sum,
    /// Whether it is the element's own, and not one that passes.
    pub is_own: bool,
    /// Whether it goes on in this cycle.
    pub leaves: bool,
}

/// An array that is read register by register.
#[derive(Clone, Debug)]
pub struct Probe<A: Arithmetic> {
    /// Registers as the cycle before left them.
    before: Array<A>,
    /// The wires of the cycle, and what the registers have at its end.
    after: Array<A>,
}

impl<A: Arithmetic> Probe<A> {
    /// An array whose commands have begun, or will.
    pub fn new(array: Array<A>) -> Self {
        Self { before: array.clone(), after: array }
    }

    /// Runs one cycle, which is then the one that is read.
    ///
    /// # Errors
    /// A conflict.
    pub fn step(&mut self) -> Result<(), Conflict> {
        self.before.clone_from(&self.after);
        self.after.step()
    }

    /// The cycle.
    pub const fn cycle(&self) -> u64 {
        self.before.now()
    }

    fn sum_of(&self, sum: Partial<A::Sum>) -> Option<Sum> {
        let value = self.after.arithmetic().show(sum.value);
        (sum.tile > 0).then_some(Sum { value, tile: sum.tile, index: sum.index })
    }

    /// What is `position` registers behind the left port in a row.
    pub fn left(&self, row: usize, position: usize) -> Option<Streaming> {
        let (past, kept) = (self.after.stationary().row(row), self.after.output().row(row));
        [past, kept].into_iter().find_map(|words| words.get(position).copied().and_then(Streaming::of))
    }

    /// What is `position` registers behind the top port in a column, where both operands stream.
    pub fn top(&self, col: usize, position: usize) -> Option<i32> {
        let word = self.after.output().column(col).get(position).copied();
        word.and_then(Streaming::of).map(|word| word.value)
    }

    /// What an element's load wires have.
    pub fn loading(&self, row: usize, col: usize) -> Option<Loading> {
        self.before.loader_word(&self.after, row, col)
    }

    fn word(weight: Weight) -> Option<i32> {
        (weight.load > 0).then_some(weight.value)
    }

    /// An element's stationary operand as its register has it.
    pub fn active(&self, row: usize, col: usize) -> Option<i32> {
        Self::word(self.before.stationary().active[self.before.element(row, col)])
    }

    /// What an element multiplies by: of a shadow register in the cycle in which it is taken.
    pub fn weight(&self, row: usize, col: usize) -> Option<i32> {
        let array = if self.before.structure().shadow_depth == 0 { &self.before } else { &self.after };
        Self::word(array.stationary().active[array.element(row, col)])
    }

    /// A shadow register.
    pub fn shadow(&self, slot: usize, row: usize, col: usize) -> Option<i32> {
        let registers = self.before.stationary().shadow.get(slot)?;
        Self::word(registers[self.before.element(row, col)])
    }

    /// The sum that enters a column of stationary operands.
    pub fn sum_top(&self, col: usize) -> Option<Sum> {
        self.sum_of(self.after.stationary().entering(col))
    }

    /// The sum that an element with a stationary operand began to make `age` cycles ago: from 1 to those that the next one is
    /// away. Below the last row up to the edge.
    pub fn made(&self, row: usize, col: usize, age: usize) -> Option<Sum> {
        if row + 1 == self.after.structure().rows {
            return self.after.stationary().below(col).get(age).copied().and_then(|sum| self.sum_of(sum));
        }
        let cycle = self.cycle().checked_sub(age as u64)?;
        self.sum_of(self.before.stationary().made(row, col, cycle))
    }

    /// What stands at a lane's edge.
    pub fn edge(&self, lane: usize) -> Option<Sum> {
        let past = self.after.stationary().edge().nth(lane);
        let kept = self.after.output().edge().nth(lane);
        [past, kept].into_iter().flatten().find_map(|sum| self.sum_of(sum))
    }

    /// An element's sum that stays.
    pub fn kept(&self, row: usize, col: usize) -> Option<i64> {
        let (value, tile) = self.before.output().kept(row, col);
        (tile > 0).then(|| self.before.arithmetic().show(value))
    }

    /// Whether an element's sum became complete in the cycle before, and goes to the chain.
    pub fn is_copied(&self, row: usize, col: usize) -> bool {
        self.before.output().is_complete(row, col)
    }

    /// The pair that entered an element's pipeline `age` cycles ago, from 1 to its registers.
    pub fn pair(&self, row: usize, col: usize, age: usize) -> Option<(Streaming, i32)> {
        let cycle = self.cycle().checked_sub(age as u64)?;
        let (left, top) = self.before.output().pair(row, col, cycle)?;
        Streaming::of(left).map(|left| (left, top))
    }

    /// A place of the chain.
    pub fn place(&self, row: usize, col: usize) -> Option<Place> {
        let output = self.before.output();
        let (sum, wait) = output.chained(row, col);
        let sum = self.sum_of(sum)?;
        Some(Place { sum, is_own: output.is_own(row, col, sum.index), leaves: wait == 0 })
    }

    /// What is `position` registers behind a place of the chain.
    pub fn behind(&self, row: usize, col: usize, position: usize) -> Option<Sum> {
        self.after.output().hop(row, col).get(position).copied().and_then(|sum| self.sum_of(sum))
    }

    /// What is `position` registers behind the last place of a lane of the chain.
    pub fn left_chain(&self, lane: usize, position: usize) -> Option<Sum> {
        self.after.output().lane(lane).get(position).copied().and_then(|sum| self.sum_of(sum))
    }

    /// What an accumulator has at the end of the cycle; `None` where no tile has written.
    pub fn accumulator(&self, address: usize) -> Option<i64> {
        self.after.accumulator(address).map(|value| self.after.arithmetic().show(value))
    }
}
