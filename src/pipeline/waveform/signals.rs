//! Signals by name and how each is read from the array's registers; those that arrays of every dataflow have. Scopes and names
//! are those of the modules under `src/rtl/sv`.

use std::rc::Rc;

use vcd::Value;

use crate::{
    config::DrainPath,
    engine::pe::{Integers, Probe, Sum, Sums},
    rtl::Design,
};

/// Bits of a signal, the highest first.
pub(super) type Bits = Vec<Value>;

type Read = Box<dyn Fn(&Probe<Integers>) -> Bits>;

/// A signal of the hardware.
pub(super) struct Signal {
    /// Instances and generate blocks below the testbench, from the outermost on, with dots between.
    scope: String,
    pub name: String,
    pub width: u32,
    /// Whether it is declared with a range, as one bit may be too.
    pub is_vector: bool,
    pub read: Read,
}

/// The signals of a waveform.
#[derive(Default)]
pub(super) struct Signals {
    pub all: Vec<Signal>,
}

/// A scope with what stands in it.
#[derive(Default)]
pub(super) struct Scope {
    pub name: String,
    /// Places in [`Signals::all`].
    pub signals: Vec<usize>,
    pub scopes: Vec<Scope>,
}

impl Signals {
    /// A single bit.
    pub fn bit(&mut self, scope: &str, name: &str, read: impl Fn(&Probe<Integers>) -> Value + 'static) {
        let read: Read = Box::new(move |probe| vec![read(probe)]);
        self.all.push(Signal { scope: scope.into(), name: name.into(), width: 1, is_vector: false, read });
    }

    /// `width` bits with a range.
    pub fn vector(&mut self, scope: &str, name: &str, width: u32, read: impl Fn(&Probe<Integers>) -> Bits + 'static) {
        self.all.push(Signal { scope: scope.into(), name: name.into(), width, is_vector: true, read: Box::new(read) });
    }

    /// A number; x where there is none.
    pub fn number(
        &mut self,
        scope: &str,
        name: &str,
        width: u32,
        read: impl Fn(&Probe<Integers>) -> Option<i64> + 'static,
    ) {
        self.vector(scope, name, width, move |probe| bits(read(probe), width));
    }

    /// A vector with a bit a lane, lane 0 the lowest.
    pub fn lanes(
        &mut self,
        scope: &str,
        name: &str,
        lanes: u32,
        read: impl Fn(&Probe<Integers>, usize) -> Value + 'static,
    ) {
        self.vector(scope, name, lanes, move |probe| (0..lanes as usize).rev().map(|lane| read(probe, lane)).collect());
    }

    /// A packed array: `width` bits a lane, those of lane 0 the lowest.
    pub fn packed(
        &mut self,
        scope: &str,
        name: &str,
        [lanes, width]: [u32; 2],
        read: impl Fn(&Probe<Integers>, usize) -> Bits + 'static,
    ) {
        let all = move |probe: &Probe<Integers>| (0..lanes as usize).rev().flat_map(|lane| read(probe, lane)).collect();
        self.vector(scope, name, lanes * width, all);
    }

    /// All scopes below the testbench, in the order in which they came.
    pub fn tree(&self) -> Scope {
        let mut root = Scope::default();
        for (at, signal) in self.all.iter().enumerate() {
            let mut scope = &mut root;
            for name in signal.scope.split('.').filter(|name| !name.is_empty()) {
                let found = scope.scopes.iter().position(|inner| inner.name == name);
                let index = found.unwrap_or_else(|| {
                    scope.scopes.push(Scope { name: name.into(), ..Scope::default() });
                    scope.scopes.len() - 1
                });
                scope = &mut scope.scopes[index];
            }
            scope.signals.push(at);
        }
        root
    }
}

/// The low bits of a number, the highest first; all x without one.
pub(super) fn bits(value: Option<i64>, width: u32) -> Bits {
    let bit = |at: u32| value.map_or(Value::X, |value| Value::from(value >> at.min(63) & 1 == 1));
    (0..width).rev().map(bit).collect()
}

/// Bits that count values below a number, as `bits_of` in the package.
pub(super) fn bits_of(values: u32) -> u32 {
    if values <= 2 { 1 } else { values.next_power_of_two().ilog2() }
}

/// What a tile writes.
#[derive(Clone, Copy, Debug)]
pub(super) struct Tile {
    pub sums: Sums,
    pub beats: u32,
    pub accumulate: bool,
}

/// Registers between the array's words, and its widths.
#[derive(Clone, Copy, Debug)]
pub(super) struct Geometry {
    pub rows: usize,
    pub cols: usize,
    pub port: usize,
    pub element: usize,
    /// Registers on a hop beyond the one that an element has.
    pub extra: usize,
    pub operand_hop: usize,
    pub left_bits: u32,
    pub top_bits: u32,
    pub sum_bits: u32,
}

impl Geometry {
    pub fn of(design: &Design) -> Self {
        let array = &design.array;
        Self {
            rows: array.rows as usize,
            cols: array.cols as usize,
            port: array.port_registers as usize,
            element: array.pe_registers as usize,
            extra: array.hop_registers as usize,
            operand_hop: 1 + array.hop_registers as usize,
            left_bits: design.value_bits(design.left()),
            top_bits: design.value_bits(design.top()),
            sum_bits: array.column_bits.into(),
        }
    }
}

/// The scope of an element's wires and hops, in the array.
pub(super) fn cell(row: usize, col: usize) -> String {
    format!("top.array.g_row[{row}].g_col[{col}]")
}

/// The name of register `index` of a `delay`, and the scope that it stands in.
pub(super) fn stage(delay: &str, index: usize) -> (String, String) {
    (format!("{delay}.g_registers"), format!("stage[{index}]"))
}

/// Beats at the ports, starts of streams, and results.
pub(super) fn common(signals: &mut Signals, design: &Design, results: &Results, starts: Vec<u64>) {
    signals.number("", "cycle", 32, |probe| i64::try_from(probe.cycle()).ok());
    let top = "top";
    signals.bit(top, "stream_ready", move |probe| starts.binary_search(&probe.cycle()).is_ok().into());
    signals.bit(top, "beat", |probe| probe.left(0, 0).is_some().into());
    signals.bit(top, "first_beat", |probe| probe.left(0, 0).is_some_and(|word| word.first).into());
    signals.bit(top, "last_beat", |probe| probe.left(0, 0).is_some_and(|word| word.last).into());
    signals.number(top, "beat_index", 32, |probe| probe.left(0, 0).map(|word| word.beat.into()));

    let lanes = design.lanes();
    let result = results.clone();
    signals.lanes(top, "result_valid", lanes, move |probe, lane| result.address(probe, lane).is_some().into());
    let result = results.clone();
    signals.lanes(top, "result_last", lanes, move |probe, lane| result.is_last(probe, lane).into());
    let sum_bits = design.array.column_bits.into();
    let result = results.clone();
    signals.packed(top, "sums", [lanes, sum_bits], move |probe, lane| {
        bits(result.value(probe.edge(lane), lane), sum_bits)
    });
    let result = results.clone();
    let accumulator_bits = design.accumulator_bits.into();
    signals.packed(top, "result", [lanes, accumulator_bits], move |probe, lane| {
        bits(result.address(probe, lane).and_then(|address| probe.accumulator(address)), accumulator_bits)
    });
    let (result, address_bits) = (results.clone(), bits_of(design.depth));
    signals.packed(top, "write_address", [lanes, address_bits], move |probe, lane| {
        // A row of accumulators has a word a lane.
        let row = result.address(probe, lane).map(|address| address / lanes as usize);
        bits(row.and_then(|row| i64::try_from(row).ok()), address_bits)
    });
}

/// What sums are of use, and where those at the edge go.
#[derive(Clone)]
pub(super) struct Results {
    tiles: Rc<[Tile]>,
    is_stationary: bool,
    /// Whether sums that stay leave down the columns, a row after the other.
    by_rows: bool,
    injects: bool,
}

impl Results {
    pub fn new(design: &Design, tiles: &[Tile]) -> Self {
        Self {
            tiles: tiles.into(),
            is_stationary: design.is_stationary(),
            by_rows: design.array.drain == DrainPath::Rows,
            injects: design.injects(),
        }
    }

    /// The value of a sum of a column that is there. Where sums are injected, a column that the tile does not use begins with
    /// what its accumulator happens to hold, and the model with zero.
    pub fn value(&self, sum: Option<Sum>, col: usize) -> Option<i64> {
        let sum = sum?;
        let tile = self.tile(sum)?;
        let is_foreign = self.injects && tile.accumulate && col >= tile.sums.cols;
        (!is_foreign).then_some(sum.value)
    }

    fn tile(&self, sum: Sum) -> Option<Tile> {
        self.tiles.get(sum.tile as usize - 1).copied()
    }

    /// The accumulator to which the sum at a lane's edge goes; none of sums that do not count.
    fn address(&self, probe: &Probe<Integers>, lane: usize) -> Option<usize> {
        let sum = probe.edge(lane)?;
        let sums = self.tile(sum)?.sums;
        let index = sum.index as usize;
        let (row, col) = if self.is_stationary || self.by_rows { (index, lane) } else { (lane, index) };
        (row < sums.rows && col < sums.cols).then(|| sums.address(row, col))
    }

    /// Whether a lane's sum is its last one of its tile. The chain gives its far end last.
    fn is_last(&self, probe: &Probe<Integers>, lane: usize) -> bool {
        let Some(sum) = probe.edge(lane) else { return false };
        let last = if self.is_stationary { self.tile(sum).map(|tile| tile.beats - 1) } else { Some(0) };
        last == Some(sum.index)
    }
}
