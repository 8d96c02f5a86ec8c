//! A run as a trace for Perfetto (`ui.perfetto.dev`): what an observer of the timing engine is told, written as it comes.
//!
//! Knows the engine's observer and nothing else of it: no program, no config, no record. The file holds tracks for the
//! layers' parts of the timeline, the issue unit, each engine (its instructions, and below them its phases by cause) and
//! each memory, counters for bandwidth and for what lies in the buffers, and arrows from an instruction that signals a
//! token to those that wait for it. Stretches of one track that overlap stand in as many tracks of one name.
//!
//! Slices go to the file as they come. Counters, which come in no order of time, are held to the end, within the window
//! and the limit of events.

mod counters;
mod file;
mod proto;
mod window;

#[cfg(test)]
mod tests;

use std::{
    collections::{HashMap, VecDeque},
    fmt, io,
    path::{Path, PathBuf},
};

pub use window::Window;

use self::{
    counters::{Bins, Changes},
    file::{FS_PER_NS, Iid, Kind, Packets, Slice, Track, Unit as CounterUnit, Value},
    window::Span,
};
use crate::{
    engine::timing::{Cause, Done, Fill, Issued, LayerSpan, Observer, Phase, Transferred, Unit},
    units::{Time, thousands},
};

/// Length of the stretches over which bandwidth is averaged: 100 ns.
const BIN: u64 = 100 * FS_PER_NS;
/// Rank of the layers' track: before all engines.
const LAYERS: usize = 1;
/// Slices that wait for an arrow to begin at them before they go to the file.
const WAITING: usize = 1 << 16;

/// What the run's parts are called, in the order of their indices.
#[derive(Clone, Debug, Default)]
pub struct Names {
    /// The whole.
    pub title: String,
    /// Layers.
    pub layers: Vec<String>,
    /// Engines.
    pub engines: Vec<String>,
    /// Memory spaces.
    pub memories: Vec<String>,
    /// Buffers, and the accumulators after them.
    pub buffers: Vec<String>,
    /// The array's clock.
    pub period: Time,
}

/// What to trace.
#[derive(Clone, Copy, Debug)]
pub struct Limits {
    /// Which part of the run.
    pub window: Window,
    /// Events at most: beginnings and ends of slices, and values of counters.
    pub events: u64,
}

/// A trace that is written.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Written {
    /// Where.
    pub path: PathBuf,
    /// Its events.
    pub events: u64,
    /// Where the limit cut it: the cycle, and the slices that are left out.
    pub cut: Option<(u64, u64)>,
}

impl fmt::Display for Written {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "wrote a trace of {} events to {}", thousands(self.events), self.path.display())?;
        if let Some((cycle, left_out)) = self.cut {
            let [cycle, left_out] = [thousands(cycle), thousands(left_out)];
            write!(f, "; it is cut near cycle {cycle}, and {left_out} slices are left out")?;
        }
        Ok(())
    }
}

/// A kind of slice that an engine or memory has a track for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
enum Row {
    Layers,
    Instructions(Unit),
    QueueFull,
    Cause(Unit, Cause),
    Memory(usize),
}

/// One of the tracks of a row.
#[derive(Clone, Copy, Debug)]
struct Lane {
    track: Track,
    until: u64,
    /// Its last slice: number, and the instruction.
    last: (u64, u64),
}

/// What is remembered of an instruction until it is done.
#[derive(Debug)]
struct Waiting {
    operation: &'static str,
    waits: Vec<u32>,
    signals: Option<u32>,
}

/// Tracks that stand from the beginning.
#[derive(Debug, Default)]
struct Tracks {
    root: Track,
    about: Track,
    issue: Track,
    engines: Vec<Track>,
    memories: Vec<Track>,
    bandwidth: Vec<Track>,
    buffers: Vec<Track>,
}

/// Writes what it is told.
pub struct Writer {
    names: Names,
    limit: u64,
    span: Span,
    file: Packets,
    path: PathBuf,
    tracks: Tracks,
    lanes: HashMap<Row, Vec<Lane>>,
    waiting: HashMap<u64, Waiting>,
    /// Slices that are not in the file yet, and the number of the first.
    held: VecDeque<Slice>,
    first_held: u64,
    /// Slices that signal tokens, by token, while they are held.
    signals: HashMap<u32, u64>,
    flows: u64,
    buffers: Vec<Changes>,
    bandwidth: Vec<Bins>,
    slices: u64,
    left_out: u64,
    /// The beginning of the first slice that is left out.
    cut: Option<u64>,
    end: u64,
}

impl Writer {
    /// Begins a trace at `path`, which is there when [`Writer::finish`] says so.
    ///
    /// # Errors
    /// The system's.
    pub fn create(path: &Path, names: Names, limits: Limits) -> io::Result<Self> {
        let mut file = Packets::create(path)?;
        let root = file.track(&names.title, None, 0, None);
        let mut tracks =
            Tracks { root, about: file.track("about this trace", Some(root), 0, None), ..Tracks::default() };
        let mut rank = LAYERS;
        let mut track = |file: &mut Packets, name: &str, parent: Track, unit| {
            rank += 1;
            file.track(name, Some(parent), rank, unit)
        };
        tracks.issue = track(&mut file, "issue", root, None);
        for engine in &names.engines {
            tracks.engines.push(track(&mut file, engine, root, None));
        }
        for memory in &names.memories {
            let parent = track(&mut file, memory, root, None);
            tracks.memories.push(parent);
            tracks.bandwidth.push(track(&mut file, "bandwidth", parent, Some(CounterUnit::GigabytesPerSecond)));
        }
        for buffer in &names.buffers {
            tracks.buffers.push(track(&mut file, buffer, root, Some(CounterUnit::Bytes)));
        }
        Ok(Self {
            limit: limits.events,
            span: Span::new(limits.window, names.period),
            file,
            path: path.to_path_buf(),
            tracks,
            lanes: HashMap::new(),
            waiting: HashMap::new(),
            held: VecDeque::new(),
            first_held: 0,
            signals: HashMap::new(),
            flows: 0,
            buffers: names.buffers.iter().map(|_| Changes::default()).collect(),
            bandwidth: names.memories.iter().map(|_| Bins::new(BIN)).collect(),
            slices: 0,
            left_out: 0,
            cut: None,
            end: 0,
            names,
        })
    }

    /// Writes what is held, and gives the file its name.
    ///
    /// # Errors
    /// The first that the system said.
    pub fn finish(mut self) -> io::Result<Written> {
        self.span.settle();
        while let Some(slice) = self.held.pop_front() {
            self.file.slice(&slice);
        }
        let from = self.span.from;
        let last = self.span.until.map_or(self.end, |until| until.saturating_sub(1));
        let until = self.cut.map_or(last, |cut| cut.min(last)).max(from);
        let mut points = 0;
        for (&track, changes) in self.tracks.buffers.iter().zip(&self.buffers) {
            for (time, value) in in_nanoseconds(changes.values(from / FS_PER_NS, until / FS_PER_NS)) {
                self.file.bytes(track, time, value);
                points += 1;
            }
        }
        for (&track, bins) in self.tracks.bandwidth.iter().zip(&self.bandwidth) {
            for (time, bytes) in bins.values(from, until) {
                // Bytes a nanosecond are GB/s.
                self.file.rate(track, time, bytes as f64 * FS_PER_NS as f64 / BIN as f64);
                points += 1;
            }
        }
        let cycle = |time: u64| time.checked_div(self.names.period.0).unwrap_or(0);
        let about = self.tracks.about;
        let whole = "times are nanoseconds: femtoseconds rounded down, so that a slice may be up to 1 ns off";
        self.file.remark(about, from, whole.to_owned());
        if from > 0 || self.span.until.is_some() {
            let (first, last) = (thousands(cycle(from)), thousands(cycle(last)));
            self.file.remark(about, from, format!("a part of the run only: cycles {first} to {last}"));
        }
        let cut = self.cut.map(|time| (cycle(time), self.left_out));
        if let Some((cycle, left_out)) = cut {
            let [limit, cycle, left_out] = [self.limit, cycle, left_out].map(thousands);
            let text = format!("cut at {limit} events, near cycle {cycle}: {left_out} slices are left out");
            self.file.remark(about, until, text);
        }
        self.file.finish()?;
        Ok(Written { path: self.path, events: 2 * self.slices + points, cut })
    }

    /// Events so far.
    fn events(&self) -> u64 {
        let points =
            self.buffers.iter().map(Changes::len).sum::<usize>() + self.bandwidth.iter().map(Bins::len).sum::<usize>();
        2 * self.slices + points as u64
    }

    /// Whether a counter may get a point at `time`.
    fn takes_point(&mut self, time: u64) -> bool {
        if self.cut.is_none() && self.events() >= self.limit {
            self.cut = Some(time);
        }
        self.span.reaches(time) && self.cut.is_none_or(|cut| time <= cut)
    }

    /// Adds a slice to a row, and returns its number if it is traced. `instruction` tells those apart that must not be
    /// drawn as one.
    fn slice(&mut self, row: Row, layer: usize, instruction: u64, slice: Slice) -> Option<u64> {
        if !self.span.holds(layer, slice.start, slice.end) {
            return None;
        }
        let lanes = self.lanes.entry(row).or_default();
        let (start, end) = (slice.start, slice.end);
        // Stretches of one instruction that touch are one slice: bursts behind each other, and the waits of all bursts of a
        // transfer, which begin together.
        let joins = |lane: &&mut Lane| lane.until >= start && lane.last.1 == instruction;
        if !matches!(row, Row::Instructions(_) | Row::Layers)
            && let Some(lane) = lanes.iter_mut().find(joins)
            && let Some(held) = lane.last.0.checked_sub(self.first_held)
            && let Some(before) = usize::try_from(held).ok().and_then(|index| self.held.get_mut(index))
            && before.start <= start
        {
            lane.until = lane.until.max(end);
            before.end = lane.until;
            return Some(lane.last.0);
        }
        // Layers are few, and come last.
        if row != Row::Layers && (self.cut.is_some() || self.events() + 2 > self.limit) {
            self.cut.get_or_insert(start);
            self.left_out += 1;
            return None;
        }
        self.slices += 1;
        let number = self.first_held + self.held.len() as u64;
        let lanes = self.lanes.entry(row).or_default();
        let track = if let Some(lane) = lanes.iter_mut().find(|lane| lane.until <= start) {
            *lane = Lane { until: end, last: (number, instruction), ..*lane };
            lane.track
        } else {
            let (name, parent, rank) = place(&self.tracks, row);
            let track = self.file.track(name, Some(parent), rank, None);
            self.lanes.entry(row).or_default().push(Lane { track, until: end, last: (number, instruction) });
            track
        };
        self.held.push_back(Slice { track, ..slice });
        if self.held.len() > WAITING
            && let Some(oldest) = self.held.pop_front()
        {
            self.first_held += 1;
            self.file.slice(&oldest);
            if self.first_held.is_multiple_of(WAITING as u64) {
                let first = self.first_held;
                self.signals.retain(|_, number| *number >= first);
            }
        }
        Some(number)
    }

    /// Draws an arrow from the slice that signals a token to another.
    fn arrow(&mut self, token: u32, to: u64) {
        let index = |number: u64| number.checked_sub(self.first_held).and_then(|index| usize::try_from(index).ok());
        let Some(from) = self.signals.get(&token).and_then(|&from| index(from)) else { return };
        let Some(to) = index(to) else { return };
        self.flows += 1;
        if let Some(slice) = self.held.get_mut(from) {
            slice.flows.push(self.flows);
        }
        if let Some(slice) = self.held.get_mut(to) {
            slice.ends.push(self.flows);
        }
    }

    fn layer_name(&mut self, kind: Kind, layer: usize) -> Iid {
        let name = self.names.layers.get(layer).map_or("?", String::as_str);
        self.file.intern(kind, name)
    }

    /// The instruction, as an argument of a slice.
    fn number(&mut self, instruction: u64) -> (Iid, Value) {
        (self.file.intern(Kind::Argument, "instruction"), Value::Number(instruction))
    }

    fn layer_argument(&mut self, layer: usize) -> (Iid, Value) {
        let name = self.layer_name(Kind::Text, layer);
        (self.file.intern(Kind::Argument, "layer"), Value::Text(name))
    }
}

impl Observer for Writer {
    fn issued(&mut self, issued: &Issued) {
        self.span.issued(issued.layer, issued.begin.0);
        let waits = issued.waits.iter().map(|token| token.0).collect();
        let signals = issued.signals.map(|token| token.0);
        self.waiting.insert(issued.instruction, Waiting { operation: issued.operation, waits, signals });
        if issued.ready < issued.begin {
            let slice = Slice {
                start: issued.ready.0,
                end: issued.begin.0,
                name: self.file.intern(Kind::Name, "queue full"),
                category: self.file.intern(Kind::Category, "stall"),
                arguments: [Some(self.number(issued.instruction)), Some(self.layer_argument(issued.layer))],
                ..Slice::default()
            };
            self.slice(Row::QueueFull, issued.layer, issued.instruction, slice);
        }
    }

    fn phase(&mut self, phase: &Phase) {
        let slice = Slice {
            start: phase.start.0,
            end: phase.end.0,
            name: self.file.intern(Kind::Name, phase.cause.as_str()),
            category: self.file.intern(Kind::Category, "cause"),
            arguments: [Some(self.number(phase.instruction)), Some(self.layer_argument(phase.layer))],
            ..Slice::default()
        };
        self.slice(Row::Cause(phase.unit, phase.cause), phase.layer, phase.instruction, slice);
    }

    fn done(&mut self, done: &Done) {
        self.end = self.end.max(done.end.0);
        self.span.done(done.layer, done.end.0);
        let Some(waiting) = self.waiting.remove(&done.instruction) else { return };
        let slice = Slice {
            start: done.start.0,
            end: done.end.0,
            name: self.layer_name(Kind::Name, done.layer),
            category: self.file.intern(Kind::Category, waiting.operation),
            arguments: [Some(self.number(done.instruction)), None],
            ..Slice::default()
        };
        let Some(number) = self.slice(Row::Instructions(done.unit), done.layer, done.instruction, slice) else {
            return;
        };
        for token in waiting.waits {
            self.arrow(token, number);
        }
        if let Some(token) = waiting.signals {
            self.signals.insert(token, number);
        }
    }

    fn transferred(&mut self, moved: &Transferred) {
        if self.takes_point(moved.start.0)
            && let Some(bins) = self.bandwidth.get_mut(moved.memory)
        {
            bins.add(moved.start.0, moved.end.0, moved.bytes, self.span.from);
        }
        if !moved.by_host {
            let engine = self.names.engines.get(moved.engine).map_or("?", String::as_str);
            let slice = Slice {
                start: moved.start.0,
                end: moved.end.0,
                category: self.file.intern(Kind::Category, engine),
                name: self.layer_name(Kind::Name, moved.layer),
                arguments: [Some(self.number(moved.instruction)), None],
                ..Slice::default()
            };
            self.slice(Row::Memory(moved.memory), moved.layer, moved.instruction, slice);
        }
    }

    fn filled(&mut self, fill: &Fill) {
        if self.takes_point(fill.time.0)
            && let Some(changes) = self.buffers.get_mut(fill.buffer)
        {
            // What changes within one nanosecond is one value: a buffer that is written over is not twice as full.
            changes.add(fill.time.0 / FS_PER_NS, fill.change, self.span.from / FS_PER_NS);
        }
    }

    fn layer(&mut self, span: &LayerSpan) {
        let [start, end] = span.part.map(|time| time.0);
        self.end = self.end.max(end);
        let slice = Slice {
            start,
            end,
            name: self.layer_name(Kind::Name, span.layer),
            category: self.file.intern(Kind::Category, "layer"),
            ..Slice::default()
        };
        if start < end {
            self.slice(Row::Layers, span.layer, 0, slice);
        }
    }
}

/// A row's name, the track that it belongs under, and its rank there.
fn place(tracks: &Tracks, row: Row) -> (&'static str, Track, usize) {
    let parent = |unit| match unit {
        Unit::Issue => tracks.issue,
        Unit::Engine(engine) => tracks.engines.get(engine).copied().unwrap_or(tracks.root),
    };
    match row {
        Row::Layers => ("layers", tracks.root, LAYERS),
        Row::Instructions(unit) => ("instructions", parent(unit), 0),
        Row::QueueFull => ("queue full", tracks.issue, 1),
        Row::Cause(unit, cause) => (cause.as_str(), parent(unit), 2 + cause as usize),
        Row::Memory(memory) => ("transfers", tracks.memories.get(memory).copied().unwrap_or(tracks.root), 0),
    }
}

fn in_nanoseconds(values: Vec<(u64, i64)>) -> impl Iterator<Item = (u64, i64)> {
    values.into_iter().map(|(time, value)| (time.saturating_mul(FS_PER_NS), value))
}
