//! The command line: arguments to settings, settings to the facade, results to standard output, exit status.
//!
//! The only place that prints, reads the environment or looks at the clock.

mod args;
mod commands;
mod exit;
mod faults;
mod output;
mod progress;
mod report;
mod scalesim;
mod settings;
mod validate;

use std::{
    num::NonZeroUsize,
    panic::{self, AssertUnwindSafe},
    process::ExitCode,
};

use clap::{Parser, error::ErrorKind};

pub use args::Fidelity;
use args::{Command, LowArgs};
pub use exit::{Exit, Failure};
pub use progress::Terminal;
pub use settings::{
    CheckSettings, Expect, InspectSettings, MachineSettings, MapSettings, OutputSettings, Override, ReportSettings,
    RtlSettings, RunSettings, ScaleSimSettings, ValidateSettings, WaveSettings,
};

use crate::{
    diag::Progress as _,
    result::{RunResult, Status},
};

/// The program. Reads the process's arguments.
pub fn main() -> ExitCode {
    let args = match LowArgs::try_parse() {
        Ok(args) => args,
        Err(error) => {
            // Fails only where no one reads it.
            let _ = error.print();
            return usage(error.kind()).into();
        }
    };
    let colour = output::colour(args.color);
    // The default hook prints where a panic happened; it is always a fault of this program.
    let ended = panic::catch_unwind(AssertUnwindSafe(|| command(args.command)));
    match ended {
        Ok(Ok(exit)) => exit.into(),
        Ok(Err(failure)) => {
            output::complain(&commands::render(&failure, colour));
            failure.exit().into()
        }
        Err(_) => {
            output::complain("internal error: the program panicked; please report this with the command that you ran");
            Exit::Internal.into()
        }
    }
}

/// The status where the arguments ask for no command.
const fn usage(kind: ErrorKind) -> Exit {
    match kind {
        ErrorKind::DisplayHelp | ErrorKind::DisplayVersion => Exit::Done,
        _ => Exit::Input,
    }
}

fn command(command: Command) -> Result<Exit, Failure> {
    let text = match command {
        Command::Run(args) => {
            let (settings, output, threads) = settings::run(args);
            return run(&settings, &output, threads);
        }
        Command::Check(args) => commands::check(&args.into())?,
        Command::Inspect(args) => commands::inspect(&args.into())?,
        Command::Map(args) => {
            let mut out = output::Stdout::new();
            commands::map(&args.into(), &mut out)?;
            out.finish().map_err(|error| unwritten(&error))?;
            return Ok(Exit::Done);
        }
        Command::Wave(args) => commands::wave(&args.into())?,
        Command::Rtl(args) => {
            let mut progress = Terminal::new();
            let found = commands::rtl(&args.into(), &mut progress);
            progress.finish();
            let (text, agrees) = found?;
            print(&text)?;
            return Ok(if agrees { Exit::Done } else { Exit::Mismatch });
        }
        Command::Report(args) => report::run(&args.into())?,
        Command::Presets(args) => commands::presets(args.name.as_deref())?,
        Command::Scalesim(args) => {
            let mut progress = Terminal::new();
            let answer = scalesim::run(&args.into(), &mut progress);
            progress.finish();
            let answer = answer?;
            for finding in &answer.findings {
                output::complain(&format!("warning: {finding}"));
            }
            answer.text
        }
        Command::Validate(args) => {
            let mut progress = Terminal::new();
            let found = validate::run(&args.into(), &mut progress);
            progress.finish();
            let (text, holds) = found?;
            print(&text)?;
            return Ok(if holds { Exit::Done } else { Exit::Mismatch });
        }
    };
    print(&text)?;
    Ok(Exit::Done)
}

fn run(settings: &RunSettings, output: &OutputSettings, threads: Option<NonZeroUsize>) -> Result<Exit, Failure> {
    if let Some(threads) = threads {
        rayon::ThreadPoolBuilder::new()
            .num_threads(threads.get())
            .build_global()
            .map_err(|error| Failure::Internal(format!("cannot set the number of threads: {error}")))?;
    }
    let mut progress = Terminal::new();
    let result = commands::run(settings, &mut progress);
    progress.finish();
    let result = result?;
    let mut text = if output.json { crate::report::json(&result) } else { crate::report::table(&result) };
    if let Some(dir) = &output.out {
        let written = report::write(&result, dir)?;
        if output.json {
            output::complain(&written);
        } else {
            text.push('\n');
            text += &written;
        }
    }
    print(&text)?;
    Ok(verdict(&result))
}

/// A mismatch of either kind makes the exit status.
fn verdict(result: &RunResult) -> Exit {
    let unexpected = result.expectation.as_ref().is_some_and(|expectation| expectation.mismatches > 0);
    if unexpected || result.verification.status == Status::Mismatch { Exit::Mismatch } else { Exit::Done }
}

fn print(text: &str) -> Result<(), Failure> {
    output::print(text).map_err(|error| unwritten(&error))
}

fn unwritten(error: &std::io::Error) -> Failure {
    crate::diag::Diagnostic::error(format!("cannot write to standard output: {error}")).into()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::result::{Expectation, Machine, Provenance, SCHEMA, Totals, Verification};

    #[test]
    fn help_and_version_succeed_and_a_wrong_option_is_the_user_s() {
        let exit = |line: &str| usage(LowArgs::try_parse_from(line.split(' ')).unwrap_err().kind());
        assert_eq!(exit("systole --help"), Exit::Done);
        assert_eq!(exit("systole run --help"), Exit::Done);
        assert_eq!(exit("systole --version"), Exit::Done);
        assert_eq!(exit("systole"), Exit::Input);
        assert_eq!(exit("systole run"), Exit::Input);
        assert_eq!(exit("systole report --nonsense"), Exit::Input);
    }

    #[test]
    fn either_mismatch_is_the_exit_status() {
        let mut result = RunResult {
            schema: SCHEMA,
            provenance: Provenance::default(),
            machine: Machine::default(),
            totals: Totals::default(),
            layers: Vec::new(),
            engines: Vec::new(),
            memories: Vec::new(),
            buffers: Vec::new(),
            verification: Verification { status: Status::BitExact, ..Verification::default() },
            expectation: None,
            accuracy: None,
            registers: None,
            cpu: None,
        };
        assert_eq!(verdict(&result), Exit::Done);
        result.expectation = Some(Expectation { mismatches: 1, ..Expectation::default() });
        assert_eq!(verdict(&result), Exit::Mismatch);
        result.expectation = None;
        result.verification.status = Status::Mismatch;
        assert_eq!(verdict(&result), Exit::Mismatch);
    }
}
