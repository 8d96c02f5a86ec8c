//! The waveform of the array's registers beside that of the emitted hardware: every signal that the model names, at every rising
//! edge of the clock. Without Verilator, the names alone are held to the emitted text.

use std::{
    collections::BTreeMap,
    fs::{self, File},
    io::BufReader,
    path::Path,
};

use systole::{
    config::Dataflow,
    pipeline::{self, Failure, WaveOptions},
    rtl::{self, Design},
};
use vcd::{Command, IdCode, Parser, ReferenceIndex, ScopeItem, Value};

use crate::{MACHINES, Machine, folder, is_quick, is_wanted, on_all};

/// Machines whose waveforms are compared: those of the first row in the quick run, too.
const TRACED: [&[&str]; 2] = [
    &["ws_4x4", "os_4x4"],
    &[
        "ws_exposed_apart",
        "ws_deep_skewed",
        "ws_side_by_side",
        "ws_chain",
        "ws_chain_side",
        "ws_rows_deep",
        "ws_inject_skewed_pipelined",
        "ws_inject_rows_pipelined",
        "os_columns_pipelined",
        "os_columns_skewed_out",
        "os_pipelined",
        "is_4x6",
    ],
];

/// Random programs of each machine.
const PROGRAMS: usize = 4;

/// Of the pairs of signal and cycle, how many in a hundred must have a value in the model: half of what the least busy machine
/// has.
const LEAST_DEFINED_PERCENT: u64 = 25;

/// A signal as it is declared.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Declared {
    width: u32,
    range: Option<(i32, i32)>,
    id: IdCode,
}

/// A waveform that is held whole.
#[derive(Clone)]
struct Wave {
    /// By path.
    signals: BTreeMap<String, Declared>,
    /// In order: time, signal, its bits from the highest on.
    changes: Vec<(u64, IdCode, Vec<Value>)>,
    comments: String,
}

impl Wave {
    fn read(path: &Path) -> Self {
        let mut parser = Parser::new(BufReader::new(File::open(path).unwrap()));
        let header = parser.parse_header().unwrap();
        assert_eq!(header.timescale, Some((1, vcd::TimescaleUnit::PS)));
        let mut wave = Self { signals: BTreeMap::new(), changes: Vec::new(), comments: String::new() };
        wave.declare("", &header.items);
        let mut time = 0;
        for command in parser {
            match command.unwrap() {
                Command::Timestamp(at) => time = at,
                Command::ChangeScalar(id, value) => wave.changes.push((time, id, vec![value])),
                Command::ChangeVector(id, value) => wave.changes.push((time, id, value.iter().collect())),
                _ => {}
            }
        }
        wave
    }

    fn declare(&mut self, scope: &str, items: &[ScopeItem]) {
        for item in items {
            match item {
                ScopeItem::Scope(inner) => self.declare(&format!("{scope}{}.", inner.identifier), &inner.items),
                ScopeItem::Var(var) => {
                    let range = match var.index {
                        Some(ReferenceIndex::Range(high, low)) => Some((high, low)),
                        _ => None,
                    };
                    let declared = Declared { width: var.size, range, id: var.code };
                    let before = self.signals.insert(format!("{scope}{}", var.reference), declared);
                    assert_eq!(before, None, "{scope}{} stands there twice", var.reference);
                }
                ScopeItem::Comment(text) => self.comments += text,
                _ => {}
            }
        }
    }

    fn rising_edges(&self) -> Vec<u64> {
        let clock = self.signals["TOP.tb.clk"].id;
        let is_rise = |(_, id, bits): &&(u64, IdCode, Vec<Value>)| *id == clock && bits[..] == [Value::V1];
        self.changes.iter().filter(is_rise).map(|&(time, ..)| time).collect()
    }
}

/// What stands in a waveform at a time.
struct Reader<'a> {
    wave: &'a Wave,
    next: usize,
    now: BTreeMap<IdCode, &'a [Value]>,
}

impl<'a> Reader<'a> {
    fn new(wave: &'a Wave) -> Self {
        Self { wave, next: 0, now: BTreeMap::new() }
    }

    /// Goes on to what registers see at an edge: all changes before it.
    fn before(&mut self, time: u64) {
        while let Some((_, id, bits)) = self.wave.changes.get(self.next).filter(|(at, ..)| *at < time) {
            self.now.insert(*id, bits);
            self.next += 1;
        }
    }

    /// The bits of a signal, as many as it has: what is left out repeats an x, and else is zero.
    fn bits(&self, signal: &Declared) -> Vec<Value> {
        let bits = self.now.get(&signal.id).copied().unwrap_or(&[]);
        let fill = match bits.first() {
            Some(Value::V0 | Value::V1) => Value::V0,
            _ => Value::X,
        };
        let missing = (signal.width as usize).saturating_sub(bits.len());
        std::iter::repeat_n(fill, missing).chain(bits.iter().copied()).collect()
    }
}

#[derive(Clone, Debug, Default, PartialEq, Eq)]
struct Found {
    signals: usize,
    cycles: usize,
    /// Pairs of signal and edge of which the model has a bit at least.
    values: u64,
    differences: u64,
    told: Vec<String>,
    /// Signals that the model never had.
    silent: Vec<String>,
}

impl Found {
    /// Adds what another design has.
    fn add(&mut self, other: Self) {
        self.signals += other.signals;
        self.cycles += other.cycles;
        self.values += other.values;
        self.differences += other.differences;
        self.told.extend(other.told);
    }
}

impl std::fmt::Display for Found {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let Self { signals, cycles, values, differences, .. } = self;
        write!(f, "{signals} signals, {cycles} clock cycles, {values} values compared, {differences} differences")
    }
}

/// Holds every signal of the model to the hardware's of the same name, in every bit that is not x.
fn compare(model: &Wave, hardware: &Wave) -> Result<Found, String> {
    let mut pairs = Vec::new();
    for (path, ours) in &model.signals {
        let theirs = hardware.signals.get(path).ok_or(format!("the hardware has no signal {path}"))?;
        if (ours.width, ours.range) != (theirs.width, theirs.range) {
            return Err(format!("{path}: {ours:?}, in the hardware {theirs:?}"));
        }
        pairs.push((path, ours, theirs, false));
    }
    let edges = model.rising_edges();
    if pairs.is_empty() || edges.is_empty() || !hardware.rising_edges().starts_with(&edges) {
        return Err(format!("{} signals, {} clock cycles: nothing to compare", pairs.len(), edges.len()));
    }
    let mut found = Found { signals: pairs.len(), cycles: edges.len(), ..Found::default() };
    let (mut ours_now, mut theirs_now) = (Reader::new(model), Reader::new(hardware));
    for time in edges {
        ours_now.before(time);
        theirs_now.before(time);
        for (path, ours, theirs, is_defined) in &mut pairs {
            let (ours, theirs) = (ours_now.bits(ours), theirs_now.bits(theirs));
            let mut defined = ours.iter().zip(&theirs).filter(|(ours, _)| **ours != Value::X).peekable();
            if defined.peek().is_none() {
                continue;
            }
            *is_defined = true;
            found.values += 1;
            if defined.any(|(ours, theirs)| ours != theirs) {
                found.differences += 1;
                let [ours, theirs] = [ours, theirs].map(|bits| bits.iter().map(Value::to_string).collect::<String>());
                found.told.push(format!("at {time} {path}: {ours}, in the hardware {theirs}"));
            }
        }
    }
    found.silent = pairs.iter().filter(|pair| !pair.3).map(|pair| pair.0.clone()).collect();
    Ok(found)
}

/// The model's waveform with what each case breaks: it must not agree any more.
fn is_broken_found(model: &Wave, hardware: &Wave) {
    let mut renamed = model.clone();
    let one = renamed.signals.remove("TOP.tb.top.beat").unwrap();
    renamed.signals.insert("TOP.tb.top.beet".into(), one);
    assert_eq!(compare(&renamed, hardware).unwrap_err(), "the hardware has no signal TOP.tb.top.beet");

    let mut late = model.clone();
    let clock = model.signals["TOP.tb.clk"].id;
    late.changes.iter_mut().filter(|(_, id, _)| *id != clock).for_each(|(time, ..)| *time += 2);
    late.changes.sort_by_key(|&(time, ..)| time);
    assert!(compare(&late, hardware).unwrap().differences > 0, "a cycle late");

    let mut swapped = model.clone();
    let sum = |col: usize| {
        let names = ["sum", "sum_out"].map(|name| format!("TOP.tb.top.array.g_row[0].g_col[{col}].element.{name}"));
        names.into_iter().find(|name| model.signals.contains_key(name)).unwrap()
    };
    let [one, other] = [model.signals[&sum(0)].clone(), model.signals[&sum(1)].clone()];
    swapped.signals.insert(sum(0), other);
    swapped.signals.insert(sum(1), one);
    assert!(compare(&swapped, hardware).unwrap().differences > 0, "two registers swapped");

    let mut empty = model.clone();
    empty.signals.retain(|path, _| path == "TOP.tb.clk");
    empty.changes.retain(|(_, id, bits)| *id == clock && bits[..] == [Value::V0]);
    assert!(compare(&empty, hardware).is_err(), "nothing to compare");
}

#[test]
fn the_registers_of_the_model_are_those_of_the_hardware_signal_by_signal() {
    let Some(folder) = folder("waveforms") else { return };
    let names: Vec<&str> = TRACED.iter().take(if is_quick() { 1 } else { 2 }).copied().flatten().copied().collect();
    let machines: Vec<&Machine> =
        MACHINES.iter().filter(|machine| names.contains(&machine.name) && is_wanted(machine)).collect();
    assert!(machines.len() == names.len() || std::env::var_os("ONLY").is_some(), "a machine of {names:?} is not there");
    let found = on_all(&machines, |machine| {
        let accelerator = machine.accelerator();
        let design = pipeline::simulated_design(&accelerator, machine.dataflow()).unwrap();
        let programs = pipeline::random_programs(&design, 1, PROGRAMS);
        let place = folder.join("waveforms").join(machine.name);
        let written = pipeline::cosimulate_waveforms(&accelerator, machine.dataflow(), &programs, &place)
            .unwrap_or_else(|failure| panic!("{}: {failure}", machine.name));
        let mut all = Found::default();
        let mut silent: Option<Vec<String>> = None;
        for waveforms in &written {
            let (model, hardware) = (Wave::read(&waveforms.model), Wave::read(&waveforms.hardware));
            let found =
                compare(&model, &hardware).unwrap_or_else(|error| panic!("{}: {error}", waveforms.model.display()));
            let pairs = (found.signals * found.cycles) as u64;
            assert!(found.values * 100 >= pairs * LEAST_DEFINED_PERCENT, "{}: {found} of {pairs}", machine.name);
            if found.differences == 0 {
                is_broken_found(&model, &hardware);
            }
            let before = silent.take();
            let is_silent = |path: &String| before.as_ref().is_none_or(|before| before.contains(path));
            silent = Some(found.silent.iter().filter(|path| is_silent(path)).cloned().collect());
            // The same signals in every program.
            let signals = found.signals;
            all.add(found);
            all.signals = signals;
        }
        println!("waveforms of {:<28} {all}", machine.name);
        (machine.name, all, silent.unwrap_or_default())
    });
    let mut all = Found::default();
    for (name, one, silent) in found {
        assert!(silent.is_empty() || one.differences > 0, "{name}: never had a value: {silent:?}");
        all.add(one);
    }
    for line in all.told.iter().take(60) {
        println!("{line}");
    }
    println!("waveforms: {all}");
    assert!(all.values > 0 || machines.is_empty(), "nothing was compared");
    assert_eq!(all.differences, 0);
}

/// The module of an instance in a module's text, or the same module for a label of a generate block.
fn inside<'a>(modules: &BTreeMap<&str, &'a str>, text: &'a str, name: &str) -> Option<&'a str> {
    let name = name.split('[').next().unwrap();
    let lines: Vec<&str> = text.lines().map(str::trim).collect();
    if lines.iter().any(|line| line.ends_with(&format!("begin : {name}"))) {
        return Some(text);
    }
    let at = lines.iter().position(|line| line.ends_with(&format!(" {name} (")))?;
    // Parameters stand before the instance's name.
    let head = lines[..=at].iter().rev().find(|line| line.ends_with("#(") || !line.starts_with([')', '.']))?;
    modules.get(head.split(' ').next()?).copied()
}

/// Whether a module declares a name.
fn declares(text: &str, name: &str) -> bool {
    let name = name.split('[').next().unwrap();
    let is_name = |c: char| c.is_alphanumeric() || c == '_';
    text.lines()
        .filter(|line| line.contains("logic"))
        .any(|line| line.split("//").next().unwrap().split(|c| !is_name(c)).any(|word| word == name))
}

#[test]
fn the_names_of_a_waveform_are_declared_in_the_emitted_text() {
    let folder = tempfile::tempdir().unwrap();
    let sets = "rows=3 cols=3 weight_load.cycles=3 pe_registers=1 hop_registers=1 port_registers=1";
    for dataflow in [Dataflow::WS, Dataflow::OS] {
        let accelerator = Machine::plain(&format!("dataflows=[{dataflow:?}] {sets}"));
        let options = WaveOptions { tiles: 2, beats: 4, dataflow: None };
        let file = folder.path().join("model.vcd");
        let vectors = folder.path().join("vectors");
        let said = pipeline::record_wave(&accelerator, options, &file, Some(&vectors)).unwrap();
        assert!(said.contains("3 x 3 elements"), "{said}");
        assert!(vectors.join("streams.hex").exists());

        let wave = Wave::read(&file);
        assert!(wave.comments.contains("Not modelled"), "{}", wave.comments);
        assert!(wave.signals.len() > 100, "{}", wave.signals.len());
        assert!(!wave.rising_edges().is_empty());
        let design = Design::of(&accelerator, dataflow).unwrap();
        let sources = rtl::sources(&design, None);
        let modules: BTreeMap<&str, &str> =
            sources.iter().map(|file| (file.name.trim_end_matches(".sv"), file.text.as_str())).collect();
        let mut elements = 0;
        for path in wave.signals.keys() {
            let parts: Vec<&str> = path.split('.').collect();
            let [top, scopes @ .., name] = &parts[..] else { panic!("{path}") };
            assert_eq!(*top, "TOP");
            let mut text = modules["tb"];
            for scope in &scopes[1..] {
                text = inside(&modules, text, scope).unwrap_or_else(|| panic!("{path}: no scope {scope}"));
            }
            assert!(declares(text, name), "{path}: {name} is not declared");
            elements += u32::from(path.ends_with("element.sum_in") || path.ends_with("element.sum"));
        }
        assert_eq!(elements, 9, "an element each");
        for scope in ["g_row[2].g_col[2].element.", "pipeline", "deskew_sums", "g_lane[2].registers.g_registers.stage"]
        {
            // The product and the sum of a stationary element are one word in the model.
            let is_there = wave.signals.keys().any(|path| path.contains(scope));
            assert_eq!(is_there, scope != "pipeline" || dataflow == Dataflow::OS, "{scope}");
        }
    }
}

#[test]
fn a_waveform_that_is_too_large_or_cannot_be_written_is_refused_with_a_way_out() {
    let folder = tempfile::tempdir().unwrap();
    let refused = |sets: &str, beats: u32, file: &Path| -> String {
        let options = WaveOptions { tiles: 26, beats, dataflow: None };
        match pipeline::record_wave(&Machine::plain(sets), options, file, None) {
            Err(Failure::User(faults)) => faults.to_string(),
            other => panic!("{other:?}"),
        }
    };
    let large = refused("rows=16 cols=16 weight_load.cycles=16", 256, &folder.path().join("x.vcd"));
    assert!(large.contains("elements times cycles") && large.contains("fewer tiles"), "{large}");
    let nowhere = folder.path().join("nowhere").join("x.vcd");
    let unwritten = refused("", 2, &nowhere);
    assert!(unwritten.contains("x.vcd") && unwritten.contains("cannot write the waveform"), "{unwritten}");
    assert_eq!(fs::read_dir(folder.path()).unwrap().count(), 0, "nothing is left");
}
