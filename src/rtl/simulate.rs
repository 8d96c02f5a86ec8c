//! Verilator: lints a design, makes a program of it and its testbench, and runs that on vectors.

use std::{
    ffi::OsStr,
    fs, io,
    path::{Path, PathBuf},
    process::{Command, Output},
};

use super::{SourceFile, sources::TESTBENCH_FILE};
use crate::diag::{Diagnostic, Faults};

const INSTALL: &str = "install Verilator 5 (`apt-get install verilator` on Debian), with a C++20 compiler and `make`";

/// A design that was compiled with its testbench.
#[derive(Clone, Debug)]
pub struct Simulation {
    binary: PathBuf,
}

/// What a run of the testbench said.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Observed {
    /// Accumulators and requantized outputs that were compared.
    pub outputs: u64,
    /// Begins and ends of commands that were compared.
    pub cycles: u64,
    /// How many of them differ.
    pub differences: u64,
    /// All that was printed.
    pub text: String,
}

fn fault(message: String) -> Faults {
    Diagnostic::error(message).into()
}

fn run(program: &OsStr, folder: &Path, arguments: &[String]) -> io::Result<Output> {
    Command::new(program).args(arguments).current_dir(folder).output()
}

fn verilator(folder: &Path, arguments: &[String], is_strict: bool) -> Result<(), Faults> {
    let output = run(OsStr::new("verilator"), folder, arguments).map_err(|error| {
        Faults::from(Diagnostic::error(format!("cannot run `verilator`: {error}")).with_help(INSTALL))
    })?;
    let said = String::from_utf8_lossy(&output.stderr);
    if output.status.success() && !(is_strict && said.contains("%Warning")) {
        return Ok(());
    }
    let told: Vec<&str> = said.lines().take(40).collect();
    let what = arguments.first().map_or("", String::as_str);
    Err(fault(format!("verilator {what} in {}: {}", folder.display(), told.join("\n"))))
}

impl Simulation {
    /// Whether there is a Verilator to compile a design with.
    pub fn is_possible() -> bool {
        run(OsStr::new("verilator"), Path::new("."), &["--version".to_owned()])
            .is_ok_and(|output| output.status.success())
    }

    /// Writes the files of a design into a folder.
    ///
    /// # Errors
    /// A folder that cannot be written.
    pub fn write(files: &[SourceFile], folder: &Path) -> Result<(), Faults> {
        let write = || {
            fs::create_dir_all(folder)?;
            files.iter().try_for_each(|file| fs::write(folder.join(file.name), &file.text))
        };
        write().map_err(|error| Diagnostic::error(format!("cannot write: {error}")).with_file(folder).into())
    }

    /// Lints the files of a design and compiles them with the testbench. A design that `is_strict` has no warnings, one that
    /// `is_traced` can write waveforms and is slower.
    ///
    /// # Errors
    /// Verilator is not there, or complains; a folder that cannot be written.
    pub fn build(files: &[SourceFile], folder: &Path, is_strict: bool, is_traced: bool) -> Result<Self, Faults> {
        Self::write(files, folder)?;
        let with = |options: &[&str], has_testbench: bool| -> Vec<String> {
            let names = files.iter().map(|file| file.name).filter(|&name| has_testbench || name != TESTBENCH_FILE);
            options.iter().copied().chain(names).map(str::to_owned).collect()
        };
        let strictness = if is_strict { "-Wall" } else { "-Wno-fatal" };
        verilator(folder, &with(&["--lint-only", strictness, "--top-module", "systole_top"], false), is_strict)?;
        let build = folder.join("build");
        let runtime = folder.parent().unwrap_or(folder).join(if is_traced { "verilated_traced" } else { "verilated" });
        // Verilator's own part of each program is the same: objects of an earlier one spare half of the compilation.
        let copied = fs::create_dir_all(&build).and_then(|()| copy_objects(&runtime, &build));
        let options = [
            "--binary",
            strictness,
            if is_traced { "--trace" } else { "--no-trace" },
            "-O3",
            "--x-assign",
            "fast",
            "--x-initial",
            "fast",
            "--top-module",
            "tb",
            // Programs are short: the compiler's time is most of it.
            "-MAKEFLAGS",
            "OPT_FAST=-O0 OPT_SLOW=-O0",
            "--Mdir",
            "build",
        ];
        verilator(folder, &with(&options, true), is_strict)?;
        if !matches!(copied, Ok(1..)) {
            // Without them the next one takes longer, and that is all.
            let _ = fs::create_dir_all(&runtime).and_then(|()| copy_objects(&build, &runtime));
        }
        Ok(Self::existing(folder))
    }

    /// A design that was built in a folder before.
    pub fn existing(folder: &Path) -> Self {
        Self { binary: folder.join("build").join("Vtb") }
    }

    /// Runs a program's vectors; `print` has all that happens printed. `waveform` is a file for what a traced design does.
    ///
    /// # Errors
    /// The program cannot be run, or says nothing that can be read.
    pub fn run(&self, vectors: &Path, print: bool, waveform: Option<&Path>) -> Result<Observed, Faults> {
        let mut arguments = vec![format!("+dir={}", vectors.display())];
        arguments.extend(print.then(|| "+print".to_owned()));
        arguments.extend(waveform.map(|file| format!("+vcd={}", file.display())));
        let output = run(self.binary.as_os_str(), Path::new("."), &arguments)
            .map_err(|error| fault(format!("cannot run {}: {error}", self.binary.display())))?;
        let text = String::from_utf8_lossy(&output.stdout).into_owned() + &String::from_utf8_lossy(&output.stderr);
        parse(&text).ok_or_else(|| fault(format!("{}: no counts in what it says:\n{text}", self.binary.display())))
    }
}

/// Copies the objects of Verilator's runtime; how many there were.
fn copy_objects(from: &Path, to: &Path) -> io::Result<u32> {
    let mut count = 0;
    for entry in fs::read_dir(from)? {
        let path = entry?.path();
        let name = path.file_name().unwrap_or_default();
        let is_object = path.extension().is_some_and(|extension| extension == "o");
        if is_object && name.to_string_lossy().starts_with("verilated") {
            fs::copy(&path, to.join(name))?;
            count += 1;
        }
    }
    Ok(count)
}

/// Reads the line `N outputs, N cycles, N differences`.
fn parse(text: &str) -> Option<Observed> {
    let line = text.lines().find(|line| line.ends_with(" differences"))?;
    let mut counts = line.split(", ").map(|part| part.split(' ').next()?.parse().ok());
    let mut next = || counts.next().flatten();
    Some(Observed { outputs: next()?, cycles: next()?, differences: next()?, text: text.to_owned() })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_counts_are_read_from_the_last_line_and_silence_is_no_agreement() {
        let observed =
            parse("start of load 3: 4 (4), expected 5 (5)\n12 outputs, 8 cycles, 1 differences\n- tb.sv:9\n").unwrap();
        assert_eq!([observed.outputs, observed.cycles, observed.differences], [12, 8, 1]);
        assert_eq!(parse("%Error: something\n"), None);
        assert_eq!(parse("many outputs, 8 cycles, 0 differences\n"), None);
    }
}
