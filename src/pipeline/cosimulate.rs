//! The array's hardware beside the model: array programs through the emitted `SystemVerilog` under Verilator, every result held
//! to the reference and every cycle to the timing engine.
//!
//! The register-level engine joins at [`cycles_of`]: what it says of each command must be what the law says.

mod expect;
mod network;
mod random;
pub(super) mod registers;

use std::path::{Path, PathBuf};

pub use network::layer_program;
pub(super) use random::codes;
pub use random::random_programs;

use super::Failure;
use crate::{
    config::{Accelerator, Dataflow},
    diag::{Diagnostic, Faults},
    engine::timing::{self, ArrayCommand, StreamedTile, Sums, TimingError},
    rtl::{self, Command, Design, Expected, Fault, Simulation, Stream},
    units::thousands,
};

/// Most rows of accumulators in a simulated design: as many as the programs use, whatever the machine has.
const DEPTH: u32 = 1 << 12;

/// Random programs that are written beside a design; of one that is too large to simulate, the first.
const EMITTED_PROGRAMS: usize = 8;

/// Elements of the largest array that is compiled for a simulation: each is a module of its own, and one of 64x64 takes a
/// compiler minutes.
const MOST_ELEMENTS: u32 = 1 << 12;

/// Commands of the array with their operands.
#[derive(Clone, Debug)]
pub struct ArrayProgram {
    /// What it is, as a name for a folder.
    pub name: String,
    /// The commands.
    pub commands: Vec<Command>,
}

/// What a comparison found.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Comparison {
    /// Designs that were compiled.
    pub configurations: u64,
    /// Programs that ran on them.
    pub programs: u64,
    /// Results that were compared.
    pub outputs: u64,
    /// Begins and ends of commands that were compared.
    pub cycles: u64,
    /// How many of all these differ.
    pub differences: u64,
    /// What differs, in the testbench's words; a few of each program.
    pub told: Vec<String>,
}

impl Comparison {
    /// Adds what another one found.
    pub fn add(&mut self, other: Self) {
        self.configurations += other.configurations;
        self.programs += other.programs;
        self.outputs += other.outputs;
        self.cycles += other.cycles;
        self.differences += other.differences;
        self.told.extend(other.told);
    }
}

impl std::fmt::Display for Comparison {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(
            f,
            "{} configurations, {} programs, {} outputs, {} cycles, {} differences",
            self.configurations, self.programs, self.outputs, self.cycles, self.differences
        )
    }
}

/// The design that is simulated: the machine's, with no more accumulators than programs use.
///
/// # Errors
/// As [`Design::of`]; an array that is too large for it.
pub fn simulated_design(accelerator: &Accelerator, dataflow: Dataflow) -> Result<Design, Faults> {
    let mut design = Design::of(accelerator, dataflow)?;
    if elements(&design) > MOST_ELEMENTS {
        let message = format!("an array of {} elements is too large to simulate", thousands(elements(&design).into()));
        let help = format!(
            "compare a smaller one of the same structure, of at most {} elements: `--set array.rows=16 --set \
             array.cols=16 --set array.weight_load.cycles=16`",
            thousands(MOST_ELEMENTS.into())
        );
        return Err(Diagnostic::error(message).with_path("array.rows").with_help(help).into());
    }
    design.depth = design.depth.min(DEPTH);
    Ok(design)
}

/// Begin and end of each command by the law, which must be those of the array's registers.
///
/// # Errors
/// As [`timing::array_cycles`]; a difference is a fault of this program.
pub fn cycles_of(accelerator: &Accelerator, design: &Design, commands: &[Command]) -> Result<Vec<[u64; 2]>, Failure> {
    let by_law = cycles_by_law(accelerator, design, commands)?;
    let by_registers = registers::cycles(design, &accelerator.config.array, commands)
        .map_err(|conflict| Failure::Internal(format!("the array's registers: {conflict}")))?;
    if by_law != by_registers {
        return Err(Failure::Internal(format!(
            "commands begin and end in cycles {by_law:?} by the law and {by_registers:?} by the array's registers"
        )));
    }
    Ok(by_law)
}

fn cycles_by_law(
    accelerator: &Accelerator,
    design: &Design,
    commands: &[Command],
) -> Result<Vec<[u64; 2]>, TimingError> {
    let timed = commands.iter().map(|command| match command {
        Command::Load(load) => (load.ready, ArrayCommand::Load),
        Command::Stream(stream) => (stream.ready, ArrayCommand::Stream(streamed(design, stream))),
    });
    timing::array_cycles(accelerator, timed)
}

/// An array program by the law and the reference, and by the array's registers.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct BothWays {
    /// Begin and end of each command, by the law and by the registers.
    pub cycles: Vec<[[u64; 2]; 2]>,
    /// What accumulators hold in the end, by the reference and by the registers; those that were written.
    pub sums: Vec<[Option<i64>; 2]>,
}

/// Runs an array program both ways. That they agree is for the caller to judge.
///
/// # Errors
/// As [`timing::array_cycles`]; words that meet in the array and should not, which is a fault of this program.
pub fn both_ways(accelerator: &Accelerator, design: &Design, commands: &[Command]) -> Result<BothWays, Failure> {
    let by_law = cycles_by_law(accelerator, design, commands)?;
    let by_registers = registers::cycles_and_sums(design, &accelerator.config.array, commands)
        .map_err(|conflict| Failure::Internal(format!("the array's registers: {conflict}")))?;
    let by_reference: Vec<_> = expect::accumulators(design, commands).into_iter().flatten().collect();
    if [by_law.len(), by_reference.len()] != [by_registers.cycles.len(), by_registers.sums.len()] {
        return Err(Failure::Internal(
            "the array's registers have other commands or accumulators than its law".to_owned(),
        ));
    }
    Ok(BothWays {
        cycles: by_law.into_iter().zip(by_registers.cycles).map(|(law, registers)| [law, registers]).collect(),
        sums: by_reference
            .into_iter()
            .zip(by_registers.sums)
            .map(<[_; 2]>::from)
            .filter(|sums| *sums != [None; 2])
            .collect(),
    })
}

/// A stream as the timing engine knows it. A row of accumulators has a word a lane.
fn streamed(design: &Design, stream: &Stream) -> StreamedTile {
    let lanes = i64::from(design.lanes());
    StreamedTile {
        beats: stream.beats.into(),
        beat_cycles: stream.beat_cycles.into(),
        output_stationary: !design.is_stationary(),
        accumulate: stream.accumulate,
        resume: stream.resume,
        hold: stream.hold,
        sums: Some(Sums {
            first: i64::from(stream.address) * lanes,
            row_stride: lanes,
            col_stride: 1,
            cols: stream.cols.into(),
        }),
        lanes: if design.along_rows() { stream.rows } else { stream.cols },
    }
}

/// What a program must give: results by the reference's arithmetic, cycles by the law. `seed` chooses what the requantization
/// stage is given.
///
/// # Errors
/// As [`cycles_of`].
pub fn expected(
    accelerator: &Accelerator,
    design: &Design,
    commands: &[Command],
    seed: u64,
) -> Result<Expected, Failure> {
    let (results, quantized) = expect::values(design, commands, seed);
    Ok(Expected { cycles: cycles_of(accelerator, design, commands)?, results, quantized })
}

/// Writes the files of a machine's design into a folder, with random programs as vectors below it; returns their names.
///
/// # Errors
/// As [`Design::of`] and [`cycles_of`]; a folder that cannot be written.
pub fn emit(accelerator: &Accelerator, dataflow: Dataflow, folder: &Path) -> Result<Vec<String>, Failure> {
    let design = Design::of(accelerator, dataflow)?;
    let files = rtl::sources(&design, None);
    Simulation::write(&files, folder)?;
    let mut names: Vec<String> = files.iter().map(|file| file.name.to_owned()).collect();
    let count = if elements(&design) > MOST_ELEMENTS { 1 } else { EMITTED_PROGRAMS };
    for program in random_programs(&design, 1, count) {
        write(accelerator, &design, &program, 1, folder)?;
        names.push(format!("vectors/{}", program.name));
    }
    Ok(names)
}

/// Elements of an array; at most 2^20 by the config's ranges.
fn elements(design: &Design) -> u32 {
    design.array.rows * design.array.cols
}

/// Writes a program's vectors below a folder; returns where, and how many outputs are due.
fn write(
    accelerator: &Accelerator,
    design: &Design,
    program: &ArrayProgram,
    seed: u64,
    folder: &Path,
) -> Result<(PathBuf, u64), Failure> {
    let vectors = folder.join("vectors").join(&program.name);
    let outputs = write_vectors(accelerator, design, &program.commands, seed, &vectors)?;
    Ok((vectors, outputs))
}

/// Writes a program's vectors into a folder; returns how many outputs are due.
pub(super) fn write_vectors(
    accelerator: &Accelerator,
    design: &Design,
    commands: &[Command],
    seed: u64,
    folder: &Path,
) -> Result<u64, Failure> {
    let expected = expected(accelerator, design, commands, seed)?;
    rtl::write_vectors(folder, design, commands, &expected)
        .map_err(|error| Diagnostic::error(format!("cannot write: {error}")).with_file(folder))?;
    let outputs = expected.results.iter().map(Vec::len).sum::<usize>()
        + expected.quantized.iter().flat_map(|row| &row.outputs).flatten().count();
    Ok(outputs as u64)
}

/// Compiles the design of a machine in `folder` and runs programs on it. `fault` breaks it on purpose.
///
/// # Errors
/// Verilator is not there, or does not accept the design; a folder that cannot be written.
pub fn cosimulate(
    accelerator: &Accelerator,
    dataflow: Dataflow,
    programs: &[ArrayProgram],
    folder: &Path,
    fault: Option<&Fault>,
) -> Result<Comparison, Failure> {
    let design = simulated_design(accelerator, dataflow)?;
    let mut due = Vec::new();
    for (seed, program) in (1_u64..).zip(programs) {
        due.push((program, write(accelerator, &design, program, seed, folder)?));
    }
    let simulation = Simulation::build(&rtl::sources(&design, fault), folder, fault.is_none(), false)?;
    let mut found = Comparison { configurations: 1, ..Comparison::default() };
    for (program, (vectors, due)) in due {
        let observed = simulation.run(&vectors, false, None)?;
        let told = observed.text.lines().filter(|line| line.contains("expected"));
        found.told.extend(told.map(|line| format!("{} {}: {line}", folder.display(), program.name)));
        // A run that compares less than was due has not agreed.
        let silent = u64::from(observed.differences == 0 && observed.outputs != due);
        found.add(Comparison {
            programs: 1,
            outputs: observed.outputs,
            cycles: observed.cycles,
            differences: observed.differences + silent,
            ..Comparison::default()
        });
    }
    Ok(found)
}

/// Waveforms of one program.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Waveforms {
    /// What the design did under Verilator.
    pub hardware: PathBuf,
    /// What the array's registers do.
    pub model: PathBuf,
}

/// Compiles the design of a machine in `folder`, and writes what programs do on it and in the array's registers as waveforms.
///
/// # Errors
/// As [`cosimulate`] and [`super::waveform`]; a program that does not give what it must.
pub fn cosimulate_waveforms(
    accelerator: &Accelerator,
    dataflow: Dataflow,
    programs: &[ArrayProgram],
    folder: &Path,
) -> Result<Vec<Waveforms>, Failure> {
    let design = simulated_design(accelerator, dataflow)?;
    let simulation = Simulation::build(&rtl::sources(&design, None), folder, true, true)?;
    let mut written = Vec::new();
    for (seed, program) in (1_u64..).zip(programs) {
        let (vectors, due) = write(accelerator, &design, program, seed, folder)?;
        let waveforms = Waveforms { hardware: vectors.join("hardware.vcd"), model: vectors.join("model.vcd") };
        let observed = simulation.run(&vectors, false, Some(&waveforms.hardware))?;
        if observed.differences > 0 || observed.outputs != due {
            let message = format!("{} {}: {}", folder.display(), program.name, observed.text);
            return Err(Failure::Internal(message));
        }
        super::waveform(&design, &program.commands, &waveforms.model)?;
        written.push(waveforms);
    }
    Ok(written)
}
