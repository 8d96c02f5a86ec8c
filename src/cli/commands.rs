//! The calls into the facade, one function a command. Each takes settings and returns what to show; only this file of
//! the command line knows the facade's names.

use super::{
    exit::Failure,
    settings::{CheckSettings, InspectSettings, MapSettings, RunSettings},
};
use crate::{diag::Progress, result::RunResult};

/// What a call gives until the facade has it.
fn not_wired<T>(command: &str) -> Result<T, Failure> {
    Err(Failure::Internal(format!("`{command}` is not wired to the pipeline")))
}

/// Maps, executes, times and verifies. A mismatch is a result, not a failure.
pub fn run(_settings: &RunSettings, _progress: &mut dyn Progress) -> Result<RunResult, Failure> {
    // WIRE: crate::pipeline::run(...)
    not_wired("run")
}

/// A text that says that the config, and the network on it, are fine; else the faults.
pub fn check(_settings: &CheckSettings) -> Result<String, Failure> {
    // WIRE: crate::pipeline::check(...)
    not_wired("check")
}

/// The network's layers as text.
pub fn inspect(_settings: &InspectSettings) -> Result<String, Failure> {
    // WIRE: crate::pipeline::inspect(...)
    not_wired("inspect")
}

/// Each layer's mapping, and the program, as text.
pub fn map(_settings: &MapSettings) -> Result<String, Failure> {
    // WIRE: crate::pipeline::map(...)
    not_wired("map")
}

/// The list of presets, or one of them as a config file's text.
pub fn presets(_name: Option<&str>) -> Result<String, Failure> {
    // WIRE: crate::config presets
    not_wired("presets")
}

/// Faults as text on standard error.
pub fn render(failure: &Failure, _colour: bool) -> String {
    // WIRE: crate::cli::faults::render(&faults, colour) for `Failure::Input`
    match failure {
        Failure::Input(faults) => {
            let lines: Vec<String> = faults.0.iter().map(|fault| format!("error: {fault}")).collect();
            lines.join("\n")
        }
        internal @ Failure::Internal(_) => format!("{internal}\nplease report this with the command that you ran\n"),
    }
}
