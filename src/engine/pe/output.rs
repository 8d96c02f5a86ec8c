//! The elements where sums stay: both operands stream, and the sums leave along a chain while the next tile is computed.

use super::{
    Arithmetic, Meeting, Operand, Partial, Tag,
    accumulators::Accumulators,
    array::{Beat, Structure},
    line::Line,
};
use crate::config::DrainPath;

/// A pair of words that meet in an element, on its way through the element's pipeline.
#[derive(Clone, Copy, Debug, Default)]
struct Pair {
    left: Operand,
    top: i32,
}

/// What an element holds.
#[derive(Clone, Copy, Debug, Default)]
struct Held<S> {
    value: S,
    tile: Tag,
    /// Beats added so far.
    beats: u32,
    /// Whether it is complete and goes to the chain next.
    complete: bool,
}

/// A word of the chain, and how long it stands in its own element before it moves.
#[derive(Clone, Copy, Debug, Default)]
struct Leaving<S> {
    sum: Partial<S>,
    wait: usize,
}

/// Registers of rows, columns, elements and the chain.
#[derive(Clone, Debug)]
pub(super) struct OutputStationary<A: Arithmetic> {
    arithmetic: A,
    structure: Structure,
    left: Vec<Line<Operand>>,
    top: Vec<Line<Operand>>,
    /// `[register][row, col]`, written in turn.
    pipeline: Vec<Vec<Pair>>,
    elements: Vec<Held<A::Sum>>,
    /// By lane (a column, or a row of elements) and place along it.
    chain: Vec<Leaving<A::Sum>>,
    /// Registers on the hop behind each place of the chain.
    hops: Vec<Line<Partial<A::Sum>>>,
    /// By lane, behind the chain.
    edge: Vec<Line<Partial<A::Sum>>>,
    /// Pairs in pipelines, sums that are complete, and words in the chain.
    busy: usize,
    /// Tiles of which an element completed its sum in this cycle and keeps it.
    pub completed: Vec<Tag>,
}

impl<A: Arithmetic> OutputStationary<A> {
    pub fn new(structure: &Structure, arithmetic: A) -> Self {
        let Structure { rows, cols, operand_hop, port, element, .. } = *structure;
        let (lanes, _) = structure.lanes_and_places();
        let unskew = |lane: usize| if structure.deskewed { (lanes - 1 - lane) * operand_hop } else { 0 };
        let reach = (rows - 1 + cols - 1) * operand_hop;
        Self {
            arithmetic,
            structure: structure.clone(),
            left: (0..rows).map(|_| Line::new(port + reach)).collect(),
            top: (0..cols).map(|_| Line::new(port + reach)).collect(),
            pipeline: vec![vec![Pair::default(); rows * cols]; element],
            elements: vec![Held::default(); rows * cols],
            chain: vec![Leaving::default(); rows * cols],
            hops: (0..rows * cols).map(|_| Line::new(operand_hop - 1)).collect(),
            edge: (0..lanes).map(|lane| Line::new(unskew(lane))).collect(),
            busy: 0,
            completed: Vec::new(),
        }
    }

    pub fn is_empty(&self) -> bool {
        self.busy == 0
            && self.left.iter().all(Line::is_empty)
            && self.hops.iter().all(Line::is_empty)
            && self.edge.iter().all(Line::is_empty)
    }

    /// What reaches element `(row, col)` from its left.
    pub fn operand(&self, row: usize, col: usize) -> Operand {
        self.left[row].at(self.structure.port + (row + col) * self.structure.operand_hop)
    }

    /// A row's words, from the port on.
    pub fn row(&self, row: usize) -> &[Operand] {
        self.left[row].words()
    }

    /// A column's words, from the port on.
    pub fn column(&self, col: usize) -> &[Operand] {
        self.top[col].words()
    }

    /// The sum of an element, and its tile.
    pub fn kept(&self, row: usize, col: usize) -> (A::Sum, Tag) {
        let held = &self.elements[row * self.structure.cols + col];
        (held.value, held.tile)
    }

    /// Whether an element's sum goes to the chain next.
    pub fn is_complete(&self, row: usize, col: usize) -> bool {
        self.elements[row * self.structure.cols + col].complete
    }

    /// The pair that an element's pipeline took in a cycle: one of as many as it has registers.
    pub fn pair(&self, row: usize, col: usize, cycle: u64) -> Option<(Operand, i32)> {
        let register = usize::try_from(cycle.checked_rem(self.pipeline.len() as u64)?).unwrap_or(0);
        let pair = self.pipeline[register][row * self.structure.cols + col];
        Some((pair.left, pair.top))
    }

    /// What stands in an element's place of the chain, and how long it still stays.
    pub fn chained(&self, row: usize, col: usize) -> (Partial<A::Sum>, usize) {
        let word = &self.chain[self.place(row, col)];
        (word.sum, word.wait)
    }

    /// Whether the sum with an index along the chain is that of an element.
    pub fn is_own(&self, row: usize, col: usize, index: u32) -> bool {
        narrow(if self.structure.drain == DrainPath::Rows { row } else { col }) == index
    }

    /// The registers behind an element's place of the chain, from its wire on.
    pub fn hop(&self, row: usize, col: usize) -> &[Partial<A::Sum>] {
        self.hops[self.place(row, col)].words()
    }

    /// The registers behind a lane of the chain, from its wire on.
    pub fn lane(&self, lane: usize) -> &[Partial<A::Sum>] {
        self.edge[lane].words()
    }

    /// What stands at the edge, by lane.
    pub fn edge(&self) -> impl Iterator<Item = Partial<A::Sum>> + '_ {
        self.edge.iter().map(Line::end)
    }

    /// Cycle `now`. `out` is told of every sum that stands at the edge.
    pub fn step(
        &mut self,
        now: u64,
        beat: Option<&Beat<'_>>,
        accumulators: &mut Accumulators<A>,
        out: &mut dyn FnMut(Tag),
    ) -> Result<(), (Tag, Meeting)> {
        if self.is_empty() && beat.is_none() {
            return Ok(());
        }
        self.drain(accumulators, out)?;
        self.left.iter_mut().for_each(Line::shift);
        self.top.iter_mut().for_each(Line::shift);
        if let Some(beat) = beat {
            for (line, &value) in self.left.iter_mut().zip(beat.left) {
                line.put(Operand { value, ..beat.operand });
            }
            for (line, &value) in self.top.iter_mut().zip(beat.top.unwrap_or(&[])) {
                line.put(Operand { value, ..beat.operand });
            }
        }
        self.multiply(now)
    }

    /// Where an element stands in the chain: lane and place, the last place at the edge.
    fn place(&self, row: usize, col: usize) -> usize {
        match self.structure.drain {
            DrainPath::Rows => col * self.structure.rows + row,
            DrainPath::Columns => row * self.structure.cols + col,
        }
    }

    /// The chain moves, and takes the sums that were completed in the cycle before.
    fn drain(&mut self, accumulators: &mut Accumulators<A>, out: &mut dyn FnMut(Tag)) -> Result<(), (Tag, Meeting)> {
        let (lanes, places) = self.structure.lanes_and_places();
        let by_rows = self.structure.drain == DrainPath::Rows;
        self.hops.iter_mut().for_each(Line::shift);
        self.edge.iter_mut().for_each(Line::shift);
        for lane in 0..lanes {
            for place in 0..places {
                let at = lane * places + place;
                let word = &mut self.chain[at];
                if word.sum.tile == 0 {
                    continue;
                }
                if word.wait > 0 {
                    word.wait -= 1;
                    continue;
                }
                let sum = std::mem::take(word).sum;
                if place + 1 == places {
                    self.busy -= 1;
                    self.edge[lane].put(sum);
                } else {
                    self.hops[at].put(sum);
                }
            }
            let sum = self.edge[lane].end();
            if sum.tile > 0 {
                let (row, col) = if by_rows { (sum.index, lane) } else { (narrow(lane), sum.index as usize) };
                if accumulators.deposit(sum.tile, row, col, sum.value, true).map_err(|meeting| (sum.tile, meeting))? {
                    out(sum.tile);
                }
            }
        }
        // What left a place enters the next one, unless that is held.
        for lane in 0..lanes {
            for place in 1..places {
                let at = lane * places + place;
                let sum = self.hops[at - 1].end();
                if sum.tile > 0 {
                    self.enter_chain(at, Leaving { sum, wait: 0 })?;
                }
            }
        }
        for row in 0..self.structure.rows {
            for col in 0..self.structure.cols {
                let held = &mut self.elements[row * self.structure.cols + col];
                if !held.complete {
                    continue;
                }
                held.complete = false;
                let (value, tile) = (held.value, held.tile);
                let place = if by_rows { row } else { col };
                let sum = Partial { value, tile, index: narrow(place) };
                let wait = (places - 1 - place) * self.structure.operand_hop;
                self.enter_chain(self.place(row, col), Leaving { sum, wait })?;
            }
        }
        Ok(())
    }

    fn enter_chain(&mut self, at: usize, word: Leaving<A::Sum>) -> Result<(), (Tag, Meeting)> {
        if self.chain[at].sum.tile > 0 {
            return Err((word.sum.tile, Meeting::ChainHeld { by: self.chain[at].sum.tile }));
        }
        self.chain[at] = word;
        Ok(())
    }

    /// Every element once.
    fn multiply(&mut self, now: u64) -> Result<(), (Tag, Meeting)> {
        let Structure { rows, cols, operand_hop, port, element, .. } = self.structure;
        if self.busy == 0 && self.left.iter().all(Line::is_empty) {
            return Ok(());
        }
        for row in 0..rows {
            for col in 0..cols {
                let at = row * cols + col;
                let position = port + (row + col) * operand_hop;
                let (left, top) = (self.left[row].at(position), self.top[col].at(position));
                if (left.tile, left.beat) != (top.tile, top.beat) {
                    return Err((left.tile.max(top.tile), Meeting::WrongPair { row, col }));
                }
                let mut pair = Pair { left, top: top.value };
                if element > 0 {
                    let register = usize::try_from(now % element as u64).unwrap_or(0);
                    self.busy += usize::from(left.tile > 0);
                    pair = std::mem::replace(&mut self.pipeline[register][at], pair);
                    self.busy -= usize::from(pair.left.tile > 0);
                }
                if pair.left.tile > 0 {
                    self.add(at, [row, col], &pair)?;
                }
            }
        }
        Ok(())
    }

    /// An element's adder.
    fn add(&mut self, at: usize, [row, col]: [usize; 2], pair: &Pair) -> Result<(), (Tag, Meeting)> {
        let (held, operand) = (&mut self.elements[at], pair.left);
        if operand.first {
            if operand.partner == 0 {
                held.value = A::Sum::default();
            } else if held.tile != operand.partner {
                return Err((operand.tile, Meeting::WrongSum { row, col }));
            }
            (held.tile, held.beats) = (operand.tile, 0);
        }
        if (held.tile, held.beats) != (operand.tile, operand.beat) {
            return Err((operand.tile, Meeting::WrongSum { row, col }));
        }
        held.value = self.arithmetic.multiply_add(held.value, operand.value, pair.top);
        held.beats += 1;
        if operand.last {
            if operand.leaves {
                held.complete = true;
                self.busy += 1;
            } else {
                self.completed.push(operand.tile);
            }
        }
        Ok(())
    }
}

fn narrow(index: usize) -> u32 {
    u32::try_from(index).unwrap_or(u32::MAX)
}
