//! The whole array, cycle by cycle: ports, elements, accumulators. Commands begin when it is told; what they meet that they
//! should not is a [`Conflict`].

use std::collections::VecDeque;

use super::{
    Arithmetic, Command, Loading, Operand, Tag, Tile, Weight, accumulators::Accumulators, load::Loader,
    output::OutputStationary, stationary::Stationary,
};
use crate::config::{self, Accumulate, DrainPath, LoadPath, OutputSkew};

/// What the array is made of: counts of registers, and which wires there are.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Structure {
    pub rows: usize,
    pub cols: usize,
    /// Registers from an element to the next along a row, its own included: 1 and the extra ones.
    pub operand_hop: usize,
    /// The same down a column for sums.
    pub sum_hop: usize,
    /// Extra registers in an element.
    pub element: usize,
    /// Registers between ports and elements.
    pub port: usize,
    pub shadow_depth: usize,
    pub path: LoadPath,
    /// Rows that are loaded side by side.
    pub lanes: usize,
    /// Steps of a load, each of `lanes` rows.
    pub steps: usize,
    /// Cycles of a load.
    pub load_cycles: u64,
    pub accumulate: Accumulate,
    pub drain: DrainPath,
    pub deskewed: bool,
}

impl Structure {
    pub fn of(array: &config::Array) -> Self {
        let size = |count: u32| usize::try_from(count).unwrap_or(usize::MAX);
        let rows = size(array.rows.max(1));
        let load_cycles = array.weight_load.cycles.max(1);
        let lanes = rows.div_ceil(size(load_cycles));
        let operand_hop = 1 + size(array.hop_registers);
        let element = size(array.pe_registers);
        Self {
            rows,
            cols: size(array.cols.max(1)),
            operand_hop,
            sum_hop: operand_hop + element,
            element,
            port: size(array.port_registers),
            shadow_depth: array.weight_load.shadow_depth.into(),
            path: array.weight_load.path,
            lanes,
            steps: rows.div_ceil(lanes),
            load_cycles: load_cycles.into(),
            accumulate: array.accumulate,
            drain: array.drain,
            deskewed: array.output == OutputSkew::Deskewed,
        }
    }

    /// In which cycle of a load its `step`-th words are on the wires for the last time: steps are spread evenly.
    pub fn step_cycle(&self, step: usize) -> u64 {
        ((step as u64 + 1) * self.load_cycles).div_ceil(self.steps as u64) - 1
    }

    /// Lanes along which output stationary sums leave, and elements of each.
    pub const fn lanes_and_places(&self) -> (usize, usize) {
        match self.drain {
            DrainPath::Rows => (self.cols, self.rows),
            DrainPath::Columns => (self.rows, self.cols),
        }
    }
}

/// What came together that should not.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Meeting {
    /// Two tiles enter at once.
    #[error("the operand port is taken")]
    PortTaken,
    /// Two loads enter at once.
    #[error("the load port is taken")]
    LoadPortTaken,
    /// An element multiplies by a word of another load, or by one for another element.
    #[error("element ({row}, {col}) multiplies by load {found}, not {expected}")]
    WrongWeight {
        /// Row of the element.
        row: usize,
        /// Its column.
        col: usize,
        /// The load whose word it has.
        found: Tag,
        /// The load of its tile.
        expected: Tag,
    },
    /// An operand meets a sum of another beat or tile.
    #[error("element ({row}, {col}) adds to another sum")]
    WrongSum {
        /// Row of the element.
        row: usize,
        /// Its column.
        col: usize,
    },
    /// Words of different beats meet.
    #[error("element ({row}, {col}) multiplies words of different beats")]
    WrongPair {
        /// Row of the element.
        row: usize,
        /// Its column.
        col: usize,
    },
    /// A sum enters a register of the chain that still holds another.
    #[error("the chain still holds a sum of tile {by}")]
    ChainHeld {
        /// The tile of the sum that is there.
        by: Tag,
    },
    /// A sum is injected before it has come out.
    #[error("accumulator {address} is read before its sum has come out")]
    SumTooEarly {
        /// Its address.
        address: usize,
    },
    /// Sums reach an accumulator in another order than that of the program.
    #[error("accumulator {address} is written out of order")]
    SumOutOfOrder {
        /// Its address.
        address: usize,
    },
    /// A tile streams past an operand that was never loaded.
    #[error("no stationary operand is loaded")]
    NothingLoaded,
    /// A sum never came out.
    #[error("a sum never came out")]
    SumLost,
    /// An accumulator or operand outside the array's.
    #[error("the command is not one of this array")]
    OutOfRange,
}

/// Where, when and how a command met what it should not.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("tile {tile}, cycle {cycle}: {meeting}")]
pub struct Conflict {
    /// The tile, from 1; the load for a conflict of loads.
    pub tile: u32,
    /// The cycle.
    pub cycle: u64,
    /// What met.
    pub meeting: Meeting,
}

/// A beat at the array's ports.
#[derive(Clone, Copy, Debug)]
pub(super) struct Beat<'a> {
    /// What all its words have in common.
    pub operand: Operand,
    pub left: &'a [i32],
    pub top: Option<&'a [i32]>,
}

/// When a tile's sums came out.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Out {
    /// The first one.
    pub first: Option<u64>,
    /// The last one; where sums stay, the cycle from which all are complete.
    pub last: u64,
}

/// A tile that is done.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Finished<S> {
    /// In which cycle its last sum stood at the edge; where sums stay, from which all were complete.
    pub last_out: u64,
    /// The sums that it wrote, `[rows, cols]`; none where they stay.
    pub sums: Vec<S>,
}

#[derive(Clone, Debug)]
struct Stream {
    start: u64,
    tag: Tag,
    partner: Tag,
    slot: u8,
    takes: bool,
    tile: Tile,
}

impl Stream {
    fn end(&self) -> u64 {
        self.start + u64::from(self.tile.beats) * u64::from(self.tile.beat_cycles)
    }
}

/// The array.
#[derive(Clone, Debug)]
pub struct Array<A: Arithmetic> {
    structure: Structure,
    /// Cycles that are over.
    now: u64,
    tiles: Tag,
    loads: Tag,
    /// Loads that a tile has used.
    used_loads: usize,
    last_used: Tag,
    load_slot: u8,
    load_port_free: u64,
    port_free: u64,
    streams: VecDeque<Stream>,
    loader: Loader,
    stationary: Stationary<A>,
    output: OutputStationary<A>,
    accumulators: Accumulators<A>,
    /// By tile.
    outs: Vec<Out>,
    /// Element updates so far.
    updates: u64,
}

impl<A: Arithmetic> Array<A> {
    /// An empty array with `accumulators` words behind it.
    pub fn new(array: &config::Array, arithmetic: A, accumulators: usize) -> Self {
        let structure = Structure::of(array);
        Self {
            now: 0,
            tiles: 0,
            loads: 0,
            used_loads: 0,
            last_used: 0,
            load_slot: 0,
            load_port_free: 0,
            port_free: 0,
            streams: VecDeque::new(),
            loader: Loader::new(&structure),
            stationary: Stationary::new(&structure, arithmetic.clone()),
            output: OutputStationary::new(&structure, arithmetic.clone()),
            accumulators: Accumulators::new(arithmetic, accumulators),
            outs: Vec::new(),
            updates: 0,
            structure,
        }
    }

    pub(super) fn structure(&self) -> &Structure {
        &self.structure
    }

    /// Cycles that are over.
    pub const fn now(&self) -> u64 {
        self.now
    }

    /// Element updates so far: elements times cycles in which any of them had a word.
    pub const fn updates(&self) -> u64 {
        self.updates
    }

    /// When the sums of tile `tile` (from 1) came out, as far as they have.
    pub(super) fn out(&self, tile: Tag) -> Out {
        self.outs[tile as usize - 1]
    }

    /// What an accumulator holds; `None` where no tile has written.
    pub fn accumulator(&self, address: usize) -> Option<A::Sum> {
        self.accumulators.value(address)
    }

    /// Tiles that are done since the last call, in program order: when their sums came out, and the sums, `[rows, cols]`.
    pub fn take_finished(&mut self) -> Vec<Finished<A::Sum>> {
        let outs = &self.outs;
        let done = |(tile, sums): (Tag, Vec<A::Sum>)| Finished { last_out: outs[tile as usize - 1].last, sums };
        self.accumulators.take_finished().into_iter().map(done).collect()
    }

    /// Begins a command in cycle `start`, which is not over. Commands come in program order.
    ///
    /// # Errors
    /// A port that is taken, and commands that are none of this array's.
    pub fn begin(&mut self, command: &Command, start: u64) -> Result<(), Conflict> {
        match command {
            Command::Preload(words) => self.begin_load(words, start),
            Command::Stream(tile) => self.begin_stream(tile, start),
        }
    }

    fn begin_load(&mut self, words: &[i32], start: u64) -> Result<(), Conflict> {
        self.loads += 1;
        let conflict = |meeting| Conflict { tile: self.loads, cycle: start, meeting };
        if words.len() != self.structure.rows * self.structure.cols || start < self.now {
            return Err(conflict(Meeting::OutOfRange));
        }
        if start < self.load_port_free {
            return Err(conflict(Meeting::LoadPortTaken));
        }
        self.load_port_free = start + self.structure.load_cycles;
        // A load that no tile has used is overwritten.
        let slot = self.used_loads % self.structure.shadow_depth.max(1);
        self.load_slot = u8::try_from(slot).unwrap_or(0);
        self.loader.begin(start, self.loads, self.load_slot, words.to_vec());
        Ok(())
    }

    fn begin_stream(&mut self, tile: &Tile, start: u64) -> Result<(), Conflict> {
        self.tiles += 1;
        let tag = self.tiles;
        let conflict = |meeting| Conflict { tile: tag, cycle: start, meeting };
        let Structure { rows, cols, .. } = self.structure;
        let beats = tile.beats as usize;
        let sums = tile.sums;
        let (most_rows, last) = match &tile.top {
            Some(_) => (rows, sums.address(sums.rows.max(1) - 1, sums.cols.max(1) - 1)),
            None => (beats, sums.address(sums.rows.max(1) - 1, sums.cols.max(1) - 1)),
        };
        let fits = beats > 0
            && tile.beat_cycles > 0
            && tile.left.len() == beats * rows
            && tile.top.as_ref().is_none_or(|top| top.len() == beats * cols)
            && (1..=most_rows).contains(&sums.rows)
            && (1..=cols).contains(&sums.cols)
            && last < self.accumulators.words()
            && start >= self.now;
        if !fits {
            return Err(conflict(Meeting::OutOfRange));
        }
        if start < self.port_free {
            return Err(conflict(Meeting::PortTaken));
        }
        let (mut partner, mut takes) = (0, false);
        if tile.top.is_none() {
            if self.loads == 0 {
                return Err(conflict(Meeting::NothingLoaded));
            }
            partner = self.loads;
            if self.last_used != self.loads {
                (self.last_used, takes) = (self.loads, self.structure.shadow_depth > 0);
                self.used_loads += 1;
            }
        } else if tile.resume {
            partner = tag - 1;
        }
        self.accumulators.announce(tag, sums, tile.accumulate, tile.hold.then_some(rows * cols));
        self.outs.push(Out::default());
        let stream = Stream { start, tag, partner, slot: self.load_slot, takes, tile: tile.clone() };
        self.port_free = stream.end();
        self.streams.push_back(stream);
        Ok(())
    }

    /// Runs all cycles before `cycle`.
    ///
    /// # Errors
    /// The first conflict.
    pub fn advance(&mut self, cycle: u64) -> Result<(), Conflict> {
        while self.now < cycle {
            self.skip_idle(cycle);
            if self.now < cycle {
                self.step()?;
            }
        }
        Ok(())
    }

    /// Runs until every word has come out.
    ///
    /// # Errors
    /// The first conflict, and a sum that never comes.
    pub fn finish(&mut self) -> Result<(), Conflict> {
        while !(self.is_empty() && self.streams.is_empty()) {
            self.skip_idle(u64::MAX);
            self.step()?;
        }
        self.accumulators.unwritten().map_or(Ok(()), Err)
    }

    /// Goes to the cycle in which the next command begins, at most to `cycle`, where nothing happens until then.
    fn skip_idle(&mut self, cycle: u64) {
        if self.is_empty() {
            let next = self.streams.front().map_or(cycle, |stream| stream.start.min(cycle));
            self.now = self.now.max(next);
        }
    }

    /// Whether no word is on its way.
    fn is_empty(&self) -> bool {
        self.loader.is_empty() && self.stationary.is_empty() && self.output.is_empty()
    }

    pub(super) fn stationary(&self) -> &Stationary<A> {
        &self.stationary
    }

    pub(super) fn output(&self) -> &OutputStationary<A> {
        &self.output
    }

    pub(super) fn arithmetic(&self) -> &A {
        self.stationary.arithmetic()
    }

    pub(super) const fn element(&self, row: usize, col: usize) -> usize {
        row * self.structure.cols + col
    }

    /// What the load wires of an element have in the cycle between `self` and `after`.
    pub(super) fn loader_word(&self, after: &Self, row: usize, col: usize) -> Option<Loading> {
        match self.structure.path {
            // Words that travel are on the wires that the cycle has.
            LoadPath::Skewed => after.loader.passing(row, col),
            LoadPath::Chain | LoadPath::Rows => {
                let register = self.structure.shadow_depth;
                let held = |slot: u8, row: usize| {
                    let registers = if register == 0 {
                        &self.stationary.active
                    } else {
                        &self.stationary.shadow[usize::from(slot)]
                    };
                    registers[self.element(row, col)]
                };
                self.loader.arriving(self.now, row, col, held)
            }
        }
    }

    pub(super) fn step(&mut self) -> Result<(), Conflict> {
        let now = self.now;
        let Structure { rows, cols, .. } = self.structure;
        while self.streams.front().is_some_and(|stream| stream.end() <= now) {
            self.streams.pop_front();
        }
        let beat = self.streams.front().and_then(|stream| {
            // A beat stands at the port in the last of its cycles.
            let cycles = u64::from(stream.tile.beat_cycles);
            let passed = (now + 1).checked_sub(stream.start).filter(|&passed| passed > 0 && passed % cycles == 0)?;
            let index = usize::try_from(passed / cycles - 1).ok()?;
            let (tile, beat) = (&stream.tile, u32::try_from(index).ok()?);
            let operand = Operand {
                value: 0,
                tile: stream.tag,
                beat,
                partner: stream.partner,
                slot: stream.slot,
                takes: stream.takes && beat == 0,
                first: beat == 0,
                last: beat + 1 == tile.beats,
                leaves: !tile.hold,
            };
            let top = tile.top.as_ref().map(|top| &top[index * cols..][..cols]);
            Some(Beat { operand, left: &tile.left[index * rows..][..rows], top })
        });
        let (past, kept) = match beat {
            Some(Beat { top: Some(_), .. }) => (None, beat),
            _ => (beat, None),
        };
        let outs = &mut self.outs;
        let mut out = |tile: Tag| {
            let out = &mut outs[tile as usize - 1];
            out.first.get_or_insert(now);
            out.last = now;
        };
        let conflict = |(tile, meeting)| Conflict { tile, cycle: now, meeting };
        if past.is_some() || !self.stationary.is_empty() {
            self.updates += (rows * cols) as u64;
            self.stationary.step(now, past.as_ref(), &mut self.accumulators, &mut out).map_err(conflict)?;
        }
        if kept.is_some() || !self.output.is_empty() {
            self.updates += (rows * cols) as u64;
            self.output.step(now, kept.as_ref(), &mut self.accumulators, &mut out).map_err(conflict)?;
            for tile in self.output.completed.drain(..) {
                outs[tile as usize - 1].last = now + 1;
                self.accumulators.complete(tile);
            }
        }
        if !self.loader.is_empty() {
            let registers: &mut [Vec<Weight>] = if self.structure.shadow_depth == 0 {
                std::slice::from_mut(&mut self.stationary.active)
            } else {
                &mut self.stationary.shadow
            };
            self.loader.step(now, registers);
        }
        self.now += 1;
        Ok(())
    }
}
