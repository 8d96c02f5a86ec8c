//! The elements where an operand stays: words stream along the rows, sums run down the columns.

use super::{
    Arithmetic, Meeting, Operand, Partial, Tag, Weight,
    accumulators::Accumulators,
    array::{Beat, Structure},
    line::Line,
};
use crate::config::Accumulate;

/// Registers of the rows, the columns and their ends.
#[derive(Clone, Debug)]
pub(super) struct Stationary<A: Arithmetic> {
    arithmetic: A,
    structure: Structure,
    /// By row: port, skew and elements.
    left: Vec<Line<Operand>>,
    /// Which beat's sums enter, a column later than its left neighbour.
    requests: Line<(Tag, u32)>,
    /// By column, from where sums are made or injected to the first element.
    top: Vec<Line<Partial<A::Sum>>>,
    /// Between the elements of a column: `[row][register][col]`, the registers written in turn, so that the oldest is next.
    between: Vec<Partial<A::Sum>>,
    /// Cycles for which a row has made no sum.
    quiet: Vec<usize>,
    /// By column, behind the last element.
    bottom: Vec<Line<Partial<A::Sum>>>,
    /// What the elements multiply by.
    pub active: Vec<Weight>,
    /// What waits beside it, by slot.
    pub shadow: Vec<Vec<Weight>>,
}

impl<A: Arithmetic> Stationary<A> {
    pub fn new(structure: &Structure, arithmetic: A) -> Self {
        let Structure { rows, cols, operand_hop, sum_hop, port, element, .. } = *structure;
        let elements = rows * cols;
        let unskew = |col: usize| if structure.deskewed { (cols - 1 - col) * operand_hop } else { 0 };
        let by_rows = structure.accumulate == Accumulate::InjectRows;
        Self {
            arithmetic,
            structure: structure.clone(),
            left: (0..rows).map(|row| Line::new(port + row * sum_hop + (cols - 1) * operand_hop)).collect(),
            requests: Line::new((cols - 1) * operand_hop),
            top: (0..cols).map(|col| Line::new(port + if by_rows { col * operand_hop } else { 0 })).collect(),
            between: vec![Partial::default(); elements * sum_hop],
            quiet: vec![sum_hop; rows],
            bottom: (0..cols).map(|col| Line::new(element + 1 + unskew(col))).collect(),
            active: vec![Weight::default(); elements],
            shadow: vec![vec![Weight::default(); elements]; structure.shadow_depth],
        }
    }

    pub fn is_empty(&self) -> bool {
        self.bottom.iter().all(Line::is_empty)
            && self.left.iter().all(Line::is_empty)
            && self.quiet.iter().all(|&cycles| cycles >= self.structure.sum_hop)
    }

    /// What element `(row, col)` multiplies.
    pub fn operand(&self, row: usize, col: usize) -> Operand {
        let Structure { operand_hop, sum_hop, port, .. } = self.structure;
        self.left[row].at(port + row * sum_hop + col * operand_hop)
    }

    pub fn arithmetic(&self) -> &A {
        &self.arithmetic
    }

    /// A row's words, from the port on.
    pub fn row(&self, row: usize) -> &[Operand] {
        self.left[row].words()
    }

    /// The sum that enters a column.
    pub fn entering(&self, col: usize) -> Partial<A::Sum> {
        self.top[col].end()
    }

    /// What an element above the last row made in a cycle: one of the last `sum_hop`.
    pub fn made(&self, row: usize, col: usize, cycle: u64) -> Partial<A::Sum> {
        let Structure { cols, sum_hop, .. } = self.structure;
        let register = usize::try_from(cycle % sum_hop as u64).unwrap_or(0);
        self.between[(row * sum_hop + register) * cols + col]
    }

    /// Below the last element of a column, from what that makes on.
    pub fn below(&self, col: usize) -> &[Partial<A::Sum>] {
        self.bottom[col].words()
    }

    /// What stands at the edge, by column.
    pub fn edge(&self) -> impl Iterator<Item = Partial<A::Sum>> + '_ {
        self.bottom.iter().map(Line::end)
    }

    /// Cycle `now`. `out` is told of every sum that stands at the edge: tile, row of the result, column.
    pub fn step(
        &mut self,
        now: u64,
        beat: Option<&Beat<'_>>,
        accumulators: &mut Accumulators<A>,
        out: &mut dyn FnMut(Tag),
    ) -> Result<(), (Tag, Meeting)> {
        let adds = self.structure.accumulate == Accumulate::AtOutput;
        for (col, line) in self.bottom.iter_mut().enumerate() {
            line.shift();
            let sum = line.end();
            let deposited = sum.tile > 0 && {
                let Partial { value, tile, index } = sum;
                accumulators.deposit(tile, index, col, value, adds).map_err(|meeting| (tile, meeting))?
            };
            if deposited {
                out(sum.tile);
            }
        }
        self.enter(beat, accumulators)?;
        self.multiply(now)
    }

    /// What comes in at the left and at the top.
    fn enter(&mut self, beat: Option<&Beat<'_>>, accumulators: &Accumulators<A>) -> Result<(), (Tag, Meeting)> {
        self.left.iter_mut().for_each(Line::shift);
        self.requests.shift();
        self.top.iter_mut().for_each(Line::shift);
        if let Some(beat) = beat {
            for (line, &value) in self.left.iter_mut().zip(beat.left) {
                line.put(Operand { value, ..beat.operand });
            }
            self.requests.put((beat.operand.tile, beat.operand.beat));
        }
        if self.requests.is_empty() {
            return Ok(());
        }
        for (col, line) in self.top.iter_mut().enumerate() {
            let position = match self.structure.accumulate {
                Accumulate::InjectRows => 0,
                Accumulate::AtOutput | Accumulate::InjectSkewed => col * self.structure.operand_hop,
            };
            let (tile, index) = self.requests.at(position);
            if tile > 0 {
                let value = match self.structure.accumulate {
                    Accumulate::AtOutput => A::Sum::default(),
                    _ => accumulators.inject(tile, index, col).map_err(|meeting| (tile, meeting))?,
                };
                line.put(Partial { value, tile, index });
            }
        }
        Ok(())
    }

    /// Every element once.
    fn multiply(&mut self, now: u64) -> Result<(), (Tag, Meeting)> {
        let Structure { rows, cols, operand_hop, sum_hop, port, .. } = self.structure;
        // In range: `sum_hop` is a small number.
        let register = usize::try_from(now % sum_hop as u64).unwrap_or(0);
        let at = |row: usize| (row * sum_hop + register) * cols;
        // From the last row up: each reads what the row above wrote `sum_hop` cycles ago, before that is overwritten.
        for row in (0..rows).rev() {
            let words = &self.left[row];
            if words.is_empty() {
                if self.quiet[row] < sum_hop {
                    self.quiet[row] += 1;
                    self.between[at(row)..][..cols].fill(Partial::default());
                }
                continue;
            }
            self.quiet[row] = 0;
            let words = &words.words()[port + row * sum_hop..];
            for col in 0..cols {
                let operand = words[col * operand_hop];
                let above = if row == 0 { self.top[col].end() } else { self.between[at(row - 1) + col] };
                let mut made = Partial::default();
                if operand.tile > 0 {
                    let element = row * cols + col;
                    if operand.takes {
                        self.active[element] = self.shadow[usize::from(operand.slot)][element];
                    }
                    let weight = self.active[element];
                    let own = usize::from(weight.row) == row && usize::from(weight.col) == col;
                    if weight.load != operand.partner || !own {
                        let meeting = Meeting::WrongWeight { row, col, found: weight.load, expected: operand.partner };
                        return Err((operand.tile, meeting));
                    }
                    if (above.tile, above.index) != (operand.tile, operand.beat) {
                        return Err((operand.tile, Meeting::WrongSum { row, col }));
                    }
                    let value = self.arithmetic.multiply_add(above.value, operand.value, weight.value);
                    made = Partial { value, tile: operand.tile, index: operand.beat };
                } else if above.tile > 0 {
                    return Err((above.tile, Meeting::WrongSum { row, col }));
                }
                if row + 1 == rows {
                    if made.tile > 0 {
                        self.bottom[col].put(made);
                    }
                } else {
                    self.between[at(row) + col] = made;
                }
            }
        }
        Ok(())
    }
}
