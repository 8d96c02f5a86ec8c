//! A waveform (VCD) of the array by its registers (`engine::pe`), with the names, widths and times that the emitted
//! `SystemVerilog` has under Verilator, so that both can be loaded side by side and compared signal by signal.

mod output;
mod signals;
mod stationary;

use std::{
    fmt::Write as _,
    fs::{self, File},
    io::{self, BufWriter, Write},
    path::{Path, PathBuf},
};

use rand::SeedableRng;
use rand_chacha::ChaCha8Rng;
use vcd::{IdCode, ReferenceIndex, SimulationCommand, TimescaleUnit, Value, VarType, Writer};

use super::{
    Failure,
    cosimulate::{codes, registers, write_vectors},
    wave::{WaveOptions, chosen_dataflow},
};
use crate::{
    config::Accelerator,
    diag::Diagnostic,
    engine::pe::{self, Array, Integers, Probe},
    rtl::{Command, Design, Load, Stream},
    units::thousands,
};
use signals::{Results, Scope, Signals, Tile};

/// Elements of the array times cycles. Each is some ten signals, and a hundred bytes of the file where all of them change.
const MOST_ELEMENT_CYCLES: u64 = 1 << 18;

/// The testbench's clock rises at odd times, and its first cycle ends with this edge; before it is reset.
const FIRST_EDGE: u64 = 9;

/// Times between two rising edges.
const PERIOD: u64 = 2;

/// What no waveform of the model has.
const ABSENT: &str = "The array of `engine::pe` with the names of the SystemVerilog of `systole rtl`. A bit is x where the model has no word; \
the hardware has what was there before.
    Not modelled, and absent: the sequencer and its timers, the counters of the load, raw operands before their zero points,
    a product and a sum inside the pipeline of an element whose operand stays, the registers beside the elements through which
    a skewed load travels, `complete`, the tokens that say where a sum goes, banks of accumulators but for what is written,
    the requantization stage; without shadow registers, what would take from them.";

/// What a waveform has.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Waveform {
    /// Signals of any width, the clock and the reset among them.
    pub signals: usize,
    /// Cycles from the first command's on.
    pub cycles: u64,
}

/// Writes the waveform of an array program.
///
/// # Errors
/// An array and a program that are too large together; what cannot be written.
pub fn waveform(design: &Design, commands: &[Command], file: &Path) -> Result<Waveform, Failure> {
    let array = &design.array;
    let internal = |conflict| Failure::Internal(format!("the array's registers: {conflict}"));
    let lanes = design.lanes() as usize;
    let begun: Vec<pe::Command> = commands.iter().map(|command| registers::command(design, array, command).0).collect();
    let tiles: Vec<Tile> = begun
        .iter()
        .filter_map(|command| match command {
            pe::Command::Stream(tile) => Some(Tile { sums: tile.sums, beats: tile.beats, accumulate: tile.accumulate }),
            pe::Command::Preload(_) => None,
        })
        .collect();
    check_size(design, least_cycles(design, tiles.iter().map(|tile| u64::from(tile.beats)).sum()))?;
    let outcomes = registers::run(design, array, commands).map_err(internal)?.outcomes;
    let cycles = outcomes.iter().map(|outcome| outcome.end).max().unwrap_or(0) + 1;
    check_size(design, cycles)?;

    let words = tiles.iter().map(|tile| tile.sums.address(tile.sums.rows, tile.sums.cols) + 1).max().unwrap_or(1);
    let integers = Integers {
        column_bits: array.column_bits,
        accumulator_bits: design.accumulator_bits,
        overflow: array.overflow,
    };
    let mut probed = Array::new(array, integers, words.max(lanes));
    for (command, outcome) in begun.iter().zip(&outcomes) {
        probed.begin(command, outcome.start).map_err(internal)?;
    }
    let starts = |of_loads: bool| -> Vec<u64> {
        let kinds = begun.iter().map(|command| matches!(command, pe::Command::Preload(_)));
        kinds.zip(&outcomes).filter(|(is_load, _)| *is_load == of_loads).map(|(_, outcome)| outcome.start).collect()
    };
    let mut signals = Signals::default();
    let results = Results::new(design, &tiles);
    signals::common(&mut signals, design, &results, starts(false));
    if design.is_stationary() {
        stationary::signals(&mut signals, design, &results, starts(true));
    } else {
        output::signals(&mut signals, design);
    }

    let unwritten = |error: io::Error| {
        Diagnostic::error(format!("cannot write the waveform: {error}"))
            .with_file(file)
            .with_help("give another file to `--vcd`")
    };
    let partial = PathBuf::from(format!("{}.partial", file.display()));
    let record = || -> Result<(), Failure> {
        let mut out = Recorder::create(&partial, &signals).map_err(unwritten)?;
        let mut probe = Probe::new(probed);
        for cycle in 0..cycles {
            probe.step().map_err(internal)?;
            out.cycle(cycle, &signals, &probe).map_err(unwritten)?;
        }
        Ok(out.finish(cycles).and_then(|()| fs::rename(&partial, file)).map_err(unwritten)?)
    };
    record().inspect_err(|_| {
        // The failure is told; what is left of the file is of no use.
        let _ = fs::remove_file(&partial);
    })?;
    Ok(Waveform { signals: signals.all.len() + 2, cycles })
}

/// A beat takes a cycle, and the last one goes from corner to corner.
fn least_cycles(design: &Design, beats: u64) -> u64 {
    beats + u64::from(design.array.rows) + u64::from(design.array.cols) - 1
}

fn check_size(design: &Design, cycles: u64) -> Result<(), Failure> {
    let [rows, cols] = [design.array.rows, design.array.cols];
    let size = (u64::from(rows) * u64::from(cols)).saturating_mul(cycles);
    if size <= MOST_ELEMENT_CYCLES {
        return Ok(());
    }
    let message = format!(
        "{rows} x {cols} elements in {} cycles are too many for a waveform: elements times cycles are {}, at most {} may be",
        thousands(cycles),
        thousands(size),
        thousands(MOST_ELEMENT_CYCLES)
    );
    let help = "take fewer tiles or beats, or a smaller array of the same structure: --set array.rows=4 --set array.cols=4 \
                --set array.weight_load.cycles=4";
    Err(Diagnostic::error(message).with_help(help).into())
}

/// The file as it is written: changes alone.
struct Recorder {
    out: Writer<BufWriter<File>>,
    clock: IdCode,
    reset: IdCode,
    ids: Vec<IdCode>,
    last: Vec<Vec<Value>>,
}

impl Recorder {
    fn create(path: &Path, signals: &Signals) -> io::Result<Self> {
        let mut out = Writer::new(BufWriter::new(File::create(path)?));
        out.comment(ABSENT)?;
        out.version(concat!("systole ", env!("CARGO_PKG_VERSION")))?;
        out.timescale(1, TimescaleUnit::PS)?;
        out.add_module("TOP")?;
        out.add_module("tb")?;
        let clock = out.add_wire(1, "clk")?;
        let reset = out.add_wire(1, "rst")?;
        let mut ids = vec![clock; signals.all.len()];
        define(&mut out, &signals.tree(), signals, &mut ids)?;
        out.upscope()?;
        out.upscope()?;
        out.enddefinitions()?;

        out.timestamp(0)?;
        out.begin(SimulationCommand::Dumpvars)?;
        out.change_scalar(clock, Value::V0)?;
        out.change_scalar(reset, Value::V1)?;
        let unknown: Vec<Vec<Value>> = signals.all.iter().map(|signal| vec![Value::X; signal.width as usize]).collect();
        let mut recorder = Self { out, clock, reset, ids, last: unknown.clone() };
        for (at, value) in unknown.into_iter().enumerate() {
            recorder.change(at, value)?;
        }
        recorder.out.end()?;
        for time in 1..FIRST_EDGE - 1 {
            recorder.tick(time)?;
        }
        Ok(recorder)
    }

    /// The clock at a time: it is high from odd ones on.
    fn tick(&mut self, time: u64) -> io::Result<()> {
        self.out.timestamp(time)?;
        self.out.change_scalar(self.clock, time % PERIOD == FIRST_EDGE % PERIOD)
    }

    fn change(&mut self, at: usize, value: Vec<Value>) -> io::Result<()> {
        match value[..] {
            [bit] => self.out.change_scalar(self.ids[at], bit)?,
            _ => self.out.change_vector(self.ids[at], value.iter().copied())?,
        }
        self.last[at] = value;
        Ok(())
    }

    /// What a cycle has, from the rising edge before it on; the first from the end of the reset on.
    fn cycle(&mut self, cycle: u64, signals: &Signals, probe: &Probe<Integers>) -> io::Result<()> {
        let falls = FIRST_EDGE + PERIOD * cycle - 1;
        if cycle == 0 {
            self.tick(falls)?;
            self.out.change_scalar(self.reset, Value::V0)?;
        } else {
            self.tick(falls - 1)?;
        }
        for (at, signal) in signals.all.iter().enumerate() {
            let value = (signal.read)(probe);
            if value != self.last[at] {
                self.change(at, value)?;
            }
        }
        if cycle > 0 {
            self.tick(falls)?;
        }
        Ok(())
    }

    fn finish(mut self, cycles: u64) -> io::Result<()> {
        self.tick(FIRST_EDGE + PERIOD * (cycles - 1))?;
        self.out.writer().flush()
    }
}

fn define(out: &mut Writer<BufWriter<File>>, scope: &Scope, signals: &Signals, ids: &mut [IdCode]) -> io::Result<()> {
    for &at in &scope.signals {
        let signal = &signals.all[at];
        let range = signal.is_vector.then(|| {
            let high = i32::try_from(signal.width).unwrap_or(i32::MAX) - 1;
            ReferenceIndex::Range(high, 0)
        });
        ids[at] = out.add_var(VarType::Wire, signal.width, &signal.name, range)?;
    }
    for inner in &scope.scopes {
        out.add_module(&inner.name)?;
        define(out, inner, signals, ids)?;
        out.upscope()?;
    }
    Ok(())
}

/// Writes the waveform of the tiles that [`super::wave`] draws, with random operands, and the same program as vectors for the
/// testbench. Returns what to say.
///
/// # Errors
/// As [`Design::of`] and [`waveform`]; a dataflow that the machine does not have; a folder that cannot be written.
pub fn record_wave(
    accelerator: &Accelerator,
    options: WaveOptions,
    file: &Path,
    vectors: Option<&Path>,
) -> Result<String, Failure> {
    let dataflow = chosen_dataflow(accelerator, options)?;
    let design = Design::of(accelerator, dataflow)?;
    // Before anything is allocated.
    check_size(&design, least_cycles(&design, u64::from(options.tiles) * u64::from(options.beats)))?;
    let commands = commands(&design, options)?;
    let Waveform { signals, cycles } = waveform(&design, &commands, file)?;
    let mut text = format!(
        "{}: {} x {} elements, {dataflow:?}, {signals} signals, {cycles} cycles\n",
        file.display(),
        design.array.rows,
        design.array.cols
    );
    if let Some(folder) = vectors {
        write_vectors(accelerator, &design, &commands, 1, folder)?;
        let _ = writeln!(text, "{}: the same program for the testbench of `systole rtl`", folder.display());
    }
    Ok(text)
}

/// Tiles of full size, each with an operand of its own.
fn commands(design: &Design, options: WaveOptions) -> Result<Vec<Command>, Failure> {
    let mut random = ChaCha8Rng::seed_from_u64(1);
    let (rows, cols, beats) = (design.array.rows, design.array.cols, options.beats);
    let results = if design.is_stationary() { beats } else { design.indices() };
    let needed = u64::from(options.tiles) * u64::from(results);
    if needed > design.depth.into() {
        let message = format!(
            "the accumulators hold {} rows of results, {} tiles of {results} need {needed}",
            design.depth, options.tiles
        );
        return Err(Diagnostic::error(message)
            .with_help("take fewer tiles or beats, or set `accumulators.bytes`")
            .into());
    }
    let mut operand = |dtype, count: u32, lanes: u32| codes(dtype, count as usize * lanes as usize, &mut random);
    let mut commands = Vec::new();
    for tile in 0..options.tiles {
        if design.is_stationary() {
            commands.push(Command::Load(Load { ready: 0, words: operand(design.top(), rows, cols), zero: 0 }));
        }
        commands.push(Command::Stream(Stream {
            ready: 0,
            accumulate: false,
            resume: false,
            hold: false,
            beats,
            beat_cycles: 1,
            rows,
            cols,
            address: tile * results,
            left: operand(design.left(), beats, rows),
            top: if design.is_stationary() { Vec::new() } else { operand(design.top(), beats, cols) },
            left_zero: 0,
            top_zero: 0,
        }));
    }
    Ok(commands)
}
