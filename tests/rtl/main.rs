//! The emitted hardware beside the model. `tests/rtl/run` names a folder in the environment and has Verilator; without it
//! these tests say loudly what they did not do, and the golden vectors stand in for it.

mod faults;
mod golden;
mod machines;
mod waveform;

use std::{
    path::{Path, PathBuf},
    sync::{
        Mutex,
        atomic::{AtomicUsize, Ordering},
    },
    time::Instant,
};

use machines::{MACHINES, Machine};
use systole::pipeline::{self, ArrayProgram, Comparison};

/// Machines with structures drawn at random, where all run.
const DRAWN: usize = 16;

/// The folder for designs and vectors, if the script provides it.
fn folder(test: &str) -> Option<PathBuf> {
    let folder = std::env::var_os("SYSTOLE_RTL").map(PathBuf::from);
    if folder.is_none() {
        eprintln!("SKIPPED: {test}: run `tests/rtl/run`, which has Verilator");
    }
    folder
}

fn is_quick() -> bool {
    std::env::var_os("SYSTOLE_QUICK").is_some()
}

/// Whether a machine is to run: `ONLY` names some.
fn is_wanted(machine: &Machine) -> bool {
    match std::env::var("ONLY") {
        Ok(only) => only.split(',').any(|name| machine.name.contains(name)),
        Err(_) => machine.is_quick || !is_quick(),
    }
}

/// The programs of a machine: random ones, and those of its networks' layers.
fn programs(machine: &Machine) -> Vec<ArrayProgram> {
    let accelerator = machine.accelerator();
    let design = pipeline::simulated_design(&accelerator, machine.dataflow()).unwrap();
    let count = if is_quick() { 8 } else { 24 };
    let mut programs = pipeline::random_programs(&design, 1, count);
    let models = Path::new(env!("CARGO_MANIFEST_DIR")).join("models");
    for name in machine.networks {
        let model = pipeline::load_model(&models.join(name), Some(1)).unwrap();
        let network = pipeline::prepare(&model, &accelerator, None, true).unwrap();
        let mapped = pipeline::map(&network, &accelerator).unwrap();
        let layers = &mapped.program.header.layers;
        let mut taken = 0;
        for layer in layers.iter().skip(if name.starts_with("resnet") { 2 } else { 0 }) {
            if let Some(program) = pipeline::layer_program(&mapped, &design, &layer.name, 60).unwrap() {
                programs.push(program);
                taken += 1;
            }
            if taken == 3 {
                break;
            }
        }
        assert!(taken > 0, "{}: no layer of {name} runs on the array", machine.name);
    }
    programs
}

/// Runs `work` on every machine, two at once.
fn on_all<M: Sync, T: Send>(machines: &[&M], work: impl Fn(&M) -> T + Sync) -> Vec<T> {
    let next = AtomicUsize::new(0);
    let done = Mutex::new(Vec::new());
    std::thread::scope(|scope| {
        for _ in 0..2 {
            scope.spawn(|| {
                while let Some(machine) = machines.get(next.fetch_add(1, Ordering::Relaxed)) {
                    let one = work(machine);
                    done.lock().unwrap().push(one);
                }
            });
        }
    });
    done.into_inner().unwrap()
}

#[test]
fn the_hardware_gives_the_reference_s_values_in_the_law_s_cycles() {
    let Some(folder) = folder("co-simulation") else { return };
    let drawn = machines::drawn(if is_quick() { 0 } else { DRAWN });
    let machines: Vec<&Machine> = MACHINES.iter().chain(&drawn).filter(|machine| is_wanted(machine)).collect();
    let found = on_all(&machines, |machine| {
        let started = Instant::now();
        let (accelerator, programs) = (machine.accelerator(), programs(machine));
        let found = pipeline::cosimulate(&accelerator, machine.dataflow(), &programs, &folder.join(machine.name), None)
            .unwrap_or_else(|failure| panic!("{}: {failure}", machine.name));
        println!("{:<28} {found} ({:.1} s)", machine.name, started.elapsed().as_secs_f64());
        found
    });
    let mut all = Comparison::default();
    for one in found {
        all.add(one);
    }
    for line in all.told.iter().take(60) {
        println!("{line}");
    }
    println!("{all}");
    assert!(all.outputs > 0 && all.cycles > 0, "nothing was compared");
    assert_eq!(all.differences, 0);
}
