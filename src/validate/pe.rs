//! The array's law against the array's registers, and the reference's sums against theirs: internal.

use super::{Compared, Findings, Kind, Row, Settings, Source, array};
use crate::{
    config::Accelerator,
    diag::Progress,
    pipeline::{BothWays, Failure, both_ways, random_programs, simulated_design},
    rtl::{Command, Design, Stream},
};

pub(super) const SOURCE: Source = Source {
    name: "pe",
    title: "the array's law and its registers",
    kind: Kind::Internal,
    is_exact: true,
    is_quick: true,
    about: "Random array programs, some thirty commands each, on arrays of each structure in three sizes. Ours: when each command begins and \
            ends by the array's law, and what the accumulators hold by the reference. Theirs: `engine::pe`, which has every register and no \
            formula. The table shows the sums of the last ends.",
    run,
};

/// Programs of each machine, and the seed that they are drawn from.
const PROGRAMS: usize = 4;
const SEED: u64 = 11;

/// Rows and columns.
const SIZES: [[u64; 2]; 3] = [[4, 4], [3, 7], [8, 5]];

/// Structures of an array: what makes each, as fields of `array`.
pub(super) const STRUCTURES: [(&str, &str); 13] = [
    ("WS, weights beside the wave", ""),
    ("WS, beside, no shadow register", "weight_load.shadow_depth=0"),
    ("WS, chain, no shadow register", "weight_load.path=Chain weight_load.shadow_depth=0"),
    ("WS, weights through a chain", "weight_load.path=Chain"),
    ("WS, row by row, no shadow register", "weight_load.path=Rows weight_load.shadow_depth=0"),
    ("WS, row by row, two shadow registers", "weight_load.path=Rows weight_load.shadow_depth=2"),
    ("WS, sums injected in skew", "accumulate=InjectSkewed output=Skewed"),
    ("WS, whole rows of sums injected", "accumulate=InjectRows"),
    ("WS, pipelined, columns in skew", "pe_registers=1 hop_registers=1 output=Skewed"),
    ("WS, chain, tiles do not overlap", "overlap_tiles=false weight_load.path=Chain weight_load.shadow_depth=0"),
    ("IS", "dataflows=[IS]"),
    ("OS, sums leave down the columns", "dataflows=[OS]"),
    ("OS, sums leave along the rows", "dataflows=[OS] drain=Columns"),
];

/// The machine of a structure and a size, and its design.
pub(super) fn machine(structure: &str, [rows, cols]: [u64; 2]) -> Result<(Accelerator, Design), Failure> {
    let mut sets = array::extent(rows, cols).to_vec();
    sets.extend(structure.split_whitespace().map(str::to_owned));
    let machine = array::machine(&sets)?;
    let Some(&dataflow) = machine.config.array.dataflows.first() else {
        return Err(Failure::Internal("an array without a dataflow".to_owned()));
    };
    let design = simulated_design(&machine, dataflow)?;
    Ok((machine, design))
}

fn compare(compared: &mut Compared, both: &BothWays) {
    for [law, registers] in &both.cycles {
        for (&ours, &theirs) in law.iter().zip(registers) {
            compared.add(ours as f64, theirs as f64);
        }
    }
    for both in &both.sums {
        match *both {
            [Some(ours), Some(theirs)] => compared.add(ours as f64, theirs as f64),
            // A sum that only one of them has.
            _ => compared.add(1.0, 0.0),
        }
    }
    let last = |which: usize| both.cycles.iter().map(|times| times[which][1]).max().unwrap_or(0) as f64;
    compared.show(last(0), last(1));
}

/// Tiles of `beats` on an output stationary array, one after the other.
fn short_tiles(design: &Design, beats: u32) -> Vec<Command> {
    /// More than the chain holds.
    const TILES: u32 = 6;
    let array = &design.array;
    let words = |lanes: u32| (0..beats * lanes).map(|at| i32::try_from(at % 7).unwrap_or(0) - 3).collect();
    let tile = |index: u32| Stream {
        ready: 0,
        accumulate: index > 0,
        resume: false,
        hold: false,
        beats,
        beat_cycles: 1,
        rows: array.rows,
        cols: array.cols,
        address: 0,
        left: words(array.rows),
        top: words(array.cols),
        left_zero: 0,
        top_zero: 0,
    };
    (0..TILES).map(|index| Command::Stream(tile(index))).collect()
}

fn run(_: &Settings, _: &mut dyn Progress) -> Result<Findings, Failure> {
    let mut found = Findings::default();
    let mut programs = 0_usize;
    for (what, structure) in STRUCTURES {
        let mut compared = Compared::default();
        for size in SIZES {
            let (machine, design) = machine(structure, size)?;
            for program in random_programs(&design, SEED, PROGRAMS) {
                compare(&mut compared, &both_ways(&machine, &design, &program.commands)?);
                programs += 1;
            }
        }
        found.rows.push(Row::group(what, "cycles", compared));
    }
    for (structure, chain) in [("dataflows=[OS]", "rows"), ("dataflows=[OS] drain=Columns", "columns")] {
        for beats in [1, 3, 7] {
            let (machine, design) = machine(structure, [8, 8])?;
            let mut compared = Compared::default();
            compare(&mut compared, &both_ways(&machine, &design, &short_tiles(&design, beats))?);
            let what = format!("OS 8x8, K = {beats}, a chain of 8 {chain}");
            found.rows.push(Row::group(what, "cycles", compared));
        }
    }
    found.notes.push(format!(
        "{programs} programs. `cargo test --release --lib engine::timing::tests::pe` draws thousands more, and all products up to \
         9 x 9 x 9 on all arrays up to 4x4."
    ));
    found.notes.push(
        "Products whose K is shorter than the chain through which sums leave wait for it: a tile takes max(K, D) cycles (`docs/timing.md`). \
         Law and registers agree on it, and nobody outside has measured it: the RTL above has no such product."
            .to_owned(),
    );
    Ok(found)
}
