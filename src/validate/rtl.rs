//! The emitted `SystemVerilog` under Verilator against the model, on small arrays: internal. Says so where it did not run.

use super::{Compared, Findings, Kind, Row, Settings, Source, pe};
use crate::{
    diag::Progress,
    pipeline::{Failure, cosimulate, random_programs},
    rtl::Simulation,
};

pub(super) const SOURCE: Source = Source {
    name: "rtl",
    title: "the array in SystemVerilog and the model",
    kind: Kind::Internal,
    is_exact: true,
    is_quick: false,
    about: "What `systole rtl` writes of two arrays of 4x4, compiled with Verilator: every sum that reaches an accumulator against the \
            reference, every command's begin and end against the array's law.",
    run,
};

/// Random programs of each design, and their seed.
const PROGRAMS: usize = 8;
const SEED: u64 = 1;

/// What is said where nothing ran.
const NOT_RUN: &str = "not run here: `tests/rtl/run`, which needs Verilator";

fn run(settings: &Settings, progress: &mut dyn Progress) -> Result<Findings, Failure> {
    let mut found = Findings::default();
    let folder = settings.folder.as_ref().filter(|_| Simulation::is_possible());
    for (what, name, structure) in [("WS 4x4", "ws", ""), ("OS 4x4", "os", "dataflows=[OS]")] {
        let Some(folder) = folder else {
            found.rows.push(Row::not(what, "sums and cycles", NOT_RUN));
            continue;
        };
        progress.stage(&format!("{what} under Verilator"), None, "");
        let (machine, design) = pe::machine(structure, [4, 4])?;
        let programs = random_programs(&design, SEED, PROGRAMS);
        let comparison = cosimulate(&machine, design.dataflow, &programs, &folder.join(name), None)?;
        let (all, differ) = (comparison.outputs + comparison.cycles, comparison.differences);
        let mut compared = Compared::default();
        for index in 0..all {
            // Which value differs is the testbench's to tell; here it is one that is not equal.
            compared.add(if index < differ { 1.0 } else { 0.0 }, 0.0);
        }
        found.rows.push(Row::group(format!("{what}, {} programs", comparison.programs), "sums and cycles", compared));
        found.notes.extend(comparison.told.into_iter().take(4));
    }
    found.notes.push("`tests/rtl/run` compares some forty machines, and layers of networks.".to_owned());
    Ok(found)
}
