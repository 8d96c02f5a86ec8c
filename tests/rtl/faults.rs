//! The emitted hardware broken on purpose: each fault must be found by the comparison on a machine that has what is broken.

use systole::{pipeline, rtl::Fault};

use crate::{MACHINES, folder, is_wanted, on_all, programs};

/// A fault, the machine on which it is made, and whether values must differ: a timer that is one cycle too short must not only
/// shift cycles, or the law would wait for longer than the registers need.
struct Broken {
    machine: &'static str,
    breaks_values: bool,
    fault: Fault,
}

const fn broken(
    name: &'static str,
    machine: &'static str,
    file: &'static str,
    right: &'static str,
    wrong: &'static str,
) -> Broken {
    Broken { machine, breaks_values: true, fault: Fault { name, file, right, wrong } }
}

const FAULTS: &[Broken] = &[
    broken(
        "the last lane skewed by one more",
        "ws_4x4",
        "skew.sv",
        "lane * STEP)",
        "lane * STEP + (lane == LANES - 1 ? 1 : 0))",
    ),
    broken(
        "deskewed by one more",
        "ws_4x4",
        "deskew.sv",
        "(LANES - 1 - lane) * STEP)",
        "(LANES - 1 - lane) * STEP + 1)",
    ),
    broken(
        "the shadow register's word is not kept",
        "ws_4x4",
        "pe_stationary.sv",
        "active <= weight;",
        "active <= active;",
    ),
    broken(
        "always the same shadow register",
        "ws_deep_skewed",
        "sequencer_stationary.sv",
        "next_take <= after(next_take)",
        "next_take <= next_take",
    ),
    broken("a hop too long", "ws_4x4", "array_stationary.sv", ".STAGES(OPERAND_HOP)", ".STAGES(OPERAND_HOP + 1)"),
    broken("unused rows count", "ws_4x4", "operand_port.sv", "lane < int'(used)", "lane <= int'(used)"),
    broken(
        "the zero point is added",
        "ws_4x4",
        "operand_port.sv",
        "extend(in[lane]) - subtrahend",
        "extend(in[lane]) + subtrahend",
    ),
    broken("the chain's first rows first", "ws_chain", "systole_top.sv", "LOAD_PATH == CHAIN", "LOAD_PATH != CHAIN"),
    broken(
        "wraps instead of saturating",
        "ws_narrow_saturating",
        "adder.sv",
        "if (SATURATE) begin",
        "if (SATURATE && A_BITS == 0) begin",
    ),
    broken(
        "sums are added where they should not be",
        "ws_4x4",
        "accumulators.sv",
        "accumulate[lane] ?",
        "!accumulate[lane] ?",
    ),
    broken(
        "what comes out is not injected in the same cycle",
        "ws_inject_skewed",
        "accumulators.sv",
        "write_address[lane] == read_address[lane] ?",
        "write_address[lane] != read_address[lane] ?",
    ),
    broken("drained a cycle late", "os_4x4", "systole_top.sv", "PE_REGISTERS + 2)", "PE_REGISTERS + 3)"),
    broken("held sums begin anew", "os_4x4", "systole_top.sv", "first_beat && !running.resume", "first_beat"),
    broken(
        "sums do not wait for the last row's",
        "os_4x4",
        "pe_output.sv",
        "(!waiting || go)",
        "(!waiting || go || full)",
    ),
    broken("ties of HalfUp go down", "ws_narrow_wrapping", "requantize.sv", "rest >= half;", "rest > half;"),
    broken(
        "the doubling multiply rounds up",
        "ws_narrow_saturating",
        "requantize.sv",
        "exact < 0 ? 1 - HALF : HALF",
        "HALF",
    ),
    broken(
        "a load a cycle too early behind the wave: chain",
        "ws_chain",
        "systole_pkg.sv",
        "ROOM = room();",
        "ROOM = room() - 1;",
    ),
    broken(
        "a load a cycle too early behind the wave: rows",
        "ws_rows",
        "systole_pkg.sv",
        "ROOM = room();",
        "ROOM = room() - 1;",
    ),
    broken(
        "a stream a cycle too early behind its load: skewed",
        "ws_4x4",
        "systole_pkg.sv",
        "LOAD = load();",
        "LOAD = load() - 1;",
    ),
    broken(
        "a stream a cycle too early behind its load: rows",
        "ws_rows",
        "systole_pkg.sv",
        "LOAD = load();",
        "LOAD = load() - 1;",
    ),
    broken(
        "injected a cycle too early: skewed",
        "ws_inject_skewed",
        "systole_pkg.sv",
        "PE_REGISTERS + 1;",
        "PE_REGISTERS;",
    ),
    broken("injected a cycle too early: rows", "ws_inject_rows", "systole_pkg.sv", "LATENCY + 1;", "LATENCY;"),
    broken("the chain is taken a cycle too soon", "os_4x4", "systole_pkg.sv", "DRAIN = 1 +", "DRAIN ="),
];

#[test]
fn hardware_that_is_broken_on_purpose_is_found() {
    let Some(folder) = folder("injected faults") else { return };
    let machine = |broken: &Broken| MACHINES.iter().find(|machine| machine.name == broken.machine).unwrap();
    let wanted: Vec<&Broken> = FAULTS.iter().filter(|broken| is_wanted(machine(broken))).collect();
    let found = on_all(&wanted, |broken| {
        let machine = machine(broken);
        let place = folder.join("faults").join(broken.fault.name.replace([' ', ':'], "_"));
        let (accelerator, fault) = (machine.accelerator(), Some(&broken.fault));
        let found = pipeline::cosimulate(&accelerator, machine.dataflow(), &programs(machine), &place, fault)
            .unwrap_or_else(|failure| panic!("{}: {failure}", broken.fault.name));
        let values =
            found.told.iter().filter(|line| line.contains(" result ") || line.contains(" requantized ")).count();
        let is_found = found.differences > 0 && (values > 0 || !broken.breaks_values);
        let verdict = if is_found { "found" } else { "NOT FOUND" };
        println!("{:<60} {:<20} {verdict}: {} differences", broken.fault.name, machine.name, found.differences);
        is_found
    });
    let count = found.iter().filter(|&&is_found| is_found).count();
    println!("{} faults, {count} found", found.len());
    assert!(!found.is_empty() && count == found.len());
}
