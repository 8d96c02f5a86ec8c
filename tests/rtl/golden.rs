//! What the hardware did, kept: `golden.txt` has for each small machine the first random program, the cycles in which its commands
//! began and ended under Verilator, and a hash of each lane's results. `tests/rtl/run golden` makes the file; without Verilator
//! the timing engine and the reference's arithmetic are held to it.

use std::{fmt::Write as _, fs, path::Path};

use systole::{
    pipeline,
    rtl::{Command, Design, Simulation},
};

use crate::{MACHINES, Machine, folder, on_all};

const FILE: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/rtl/golden.txt");
const HEAD: &str = "# Observed under Verilator 5.006; written by `tests/rtl/run golden`. A line a command, then a line a lane:\n\
    # load: ready | begin end\n\
    # stream: ready beats beat_cycles rows cols address [accumulate] [resume] [hold] | begin end\n\
    # lane: results, FNV-1a of their low 64 bits\n";

/// The machines that are kept: of at most 64 elements.
fn kept() -> Vec<&'static Machine> {
    let is_small = |machine: &&Machine| {
        let array = machine.accelerator().config.array;
        array.rows * array.cols <= 64
    };
    MACHINES.iter().filter(is_small).collect()
}

/// A lane's results so far.
struct Lane {
    count: u64,
    hash: u64,
}

impl Lane {
    fn add(&mut self, value: u64) {
        self.count += 1;
        for byte in value.to_le_bytes() {
            self.hash = (self.hash ^ u64::from(byte)).wrapping_mul(0x0100_0000_01b3);
        }
    }
}

/// The text of a machine's part.
fn part(machine: &Machine, commands: &[Command], cycles: &[[u64; 2]], lanes: &[Lane]) -> String {
    let mut text = format!("\n{}\n", machine.name);
    for (command, [begin, end]) in commands.iter().zip(cycles) {
        let what = match command {
            Command::Load(load) => format!("load {}", load.ready),
            Command::Stream(s) => {
                let mut what =
                    format!("stream {} {} {} {} {} {}", s.ready, s.beats, s.beat_cycles, s.rows, s.cols, s.address);
                for (is_set, name) in [(s.accumulate, "accumulate"), (s.resume, "resume"), (s.hold, "hold")] {
                    if is_set {
                        let _ = write!(what, " {name}");
                    }
                }
                what
            }
        };
        let _ = writeln!(text, "{what} | {begin} {end}");
    }
    for lane in lanes {
        let _ = writeln!(text, "lane {} {:016x}", lane.count, lane.hash);
    }
    text
}

fn lanes(design: &Design) -> Vec<Lane> {
    (0..design.lanes()).map(|_| Lane { count: 0, hash: 0xcbf2_9ce4_8422_2325 }).collect()
}

fn first_program(machine: &Machine) -> (Design, pipeline::ArrayProgram) {
    let design = pipeline::simulated_design(&machine.accelerator(), machine.dataflow()).unwrap();
    let program = pipeline::random_programs(&design, 1, 1).remove(0);
    (design, program)
}

/// What the hardware does that the comparison compiled.
fn observed(machine: &Machine, folder: &Path) -> String {
    let (design, program) = first_program(machine);
    let place = folder.join(machine.name);
    let found = Simulation::existing(&place).run(&place.join("vectors").join(&program.name), true, None).unwrap();
    let (mut loads, mut streams) = (Vec::new(), Vec::new());
    let mut lanes = lanes(&design);
    for line in found.text.lines() {
        let words: Vec<&str> = line.split(' ').collect();
        let number = |index: usize| words[index].parse::<u64>().unwrap();
        match words[0] {
            "load" => loads.push([number(2), number(3)]),
            "stream" => streams.push([number(2), number(3)]),
            "result" => {
                lanes[words[1].parse::<usize>().unwrap()].add(u64::from_str_radix(words[2], 16).unwrap());
            }
            _ => {}
        }
    }
    let (mut loads, mut streams) = (loads.into_iter(), streams.into_iter());
    let cycles: Vec<[u64; 2]> = program
        .commands
        .iter()
        .map(|command| if matches!(command, Command::Load(_)) { loads.next() } else { streams.next() }.unwrap())
        .collect();
    part(machine, &program.commands, &cycles, &lanes)
}

/// What the model says.
fn modelled(machine: &Machine) -> String {
    let (design, program) = first_program(machine);
    let expected = pipeline::expected(&machine.accelerator(), &design, &program.commands, 1).unwrap();
    let mut lanes = lanes(&design);
    for (lane, results) in lanes.iter_mut().zip(&expected.results) {
        for &result in results {
            lane.add(result.cast_unsigned() & (u64::MAX >> (64 - design.accumulator_bits)));
        }
    }
    part(machine, &program.commands, &expected.cycles, &lanes)
}

#[test]
fn the_model_does_what_the_hardware_was_seen_to_do() {
    let golden = fs::read_to_string(FILE).unwrap();
    let mut text = HEAD.to_owned();
    for machine in kept() {
        text += &modelled(machine);
    }
    for (number, (model, hardware)) in text.lines().zip(golden.lines()).enumerate() {
        assert_eq!(model, hardware, "line {} of {FILE}", number + 1);
    }
    assert_eq!(text.lines().count(), golden.lines().count(), "lines of {FILE}");
}

#[test]
fn the_golden_vectors_are_made_by_the_hardware() {
    if std::env::var_os("REMAKE").is_none() {
        return;
    }
    let Some(folder) = folder("golden vectors") else { return };
    let mut parts = on_all(&kept(), |machine| (machine.name, observed(machine, &folder)));
    parts.sort_by_key(|(name, _)| MACHINES.iter().position(|machine| machine.name == *name));
    let text = parts.into_iter().fold(HEAD.to_owned(), |text, (_, part)| text + &part);
    fs::write(FILE, text).unwrap();
}
