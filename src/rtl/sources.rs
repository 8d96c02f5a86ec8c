//! The files of a design. Modules stand under `sv` as they are emitted, but for lines between `//: if NAME`, `//: else` and
//! `//: end`.

use super::{Design, package::package};

/// A file of a design.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SourceFile {
    /// Its name.
    pub name: &'static str,
    /// Its text.
    pub text: String,
}

/// A design broken on purpose, to show that its comparison finds it: `right` becomes `wrong` in one of its files.
#[derive(Clone, Copy, Debug)]
pub struct Fault {
    /// What is wrong.
    pub name: &'static str,
    /// The file.
    pub file: &'static str,
    /// As it reads.
    pub right: &'static str,
    /// As it is to read.
    pub wrong: &'static str,
}

macro_rules! modules {
    ($($name:literal)*) => { &[$(($name, include_str!(concat!("sv/", $name)))),*] };
}

type Module = (&'static str, &'static str);

const COMMON: &[Module] =
    modules!("delay.sv" "skew.sv" "deskew.sv" "adder.sv" "operand_port.sv" "beats.sv" "accumulators.sv");
const STATIONARY: &[Module] =
    modules!("pe_stationary.sv" "array_stationary.sv" "weight_load.sv" "sequencer_stationary.sv");
const STATIONARY_TOP: &[Module] = &[("systole_top.sv", include_str!("sv/top_stationary.sv"))];
const OUTPUT: &[Module] = modules!("pe_output.sv" "array_output.sv" "sequencer_output.sv" "drain.sv");
const OUTPUT_TOP: &[Module] = &[("systole_top.sv", include_str!("sv/top_output.sv"))];
const REQUANTIZE: &[Module] = modules!("requantize.sv");
const TESTBENCH: &[Module] = modules!("tb.sv");

/// The name of the testbench's file; all others are the design's.
pub(super) const TESTBENCH_FILE: &str = "tb.sv";

/// The files of a design in the order in which a compiler wants them: package, modules, testbench. `fault` breaks one of
/// them on purpose.
///
/// # Panics
/// If the fault is none of this design: its place is not in the text.
pub fn sources(design: &Design, fault: Option<&Fault>) -> Vec<SourceFile> {
    let modules = [
        COMMON,
        if design.is_stationary() { STATIONARY } else { OUTPUT },
        if design.is_stationary() { STATIONARY_TOP } else { OUTPUT_TOP },
        if design.requantizer.is_some() { REQUANTIZE } else { &[] },
        TESTBENCH,
    ];
    let mut files = vec![SourceFile { name: "systole_pkg.sv", text: package(design) }];
    for &(name, text) in modules.into_iter().flatten() {
        files.push(SourceFile { name, text: chosen(text, design) });
    }
    if let Some(fault) = fault {
        let file = files.iter_mut().find(|file| file.name == fault.file).expect("a file of the design");
        assert!(file.text.contains(fault.right), "{}: `{}` is not in {}", fault.name, fault.right, fault.file);
        file.text = file.text.replacen(fault.right, fault.wrong, 1);
    }
    files
}

/// A module with the lines of this design alone; conditions may stand in conditions.
fn chosen(text: &str, design: &Design) -> String {
    let mut taken = String::new();
    let mut taking: Vec<bool> = Vec::new();
    for line in text.lines() {
        match line.strip_prefix("//: ") {
            Some("else") => {
                if let Some(last) = taking.last_mut() {
                    *last = !*last;
                }
            }
            Some("end") => {
                taking.pop();
            }
            Some("if STATIONARY") => taking.push(design.is_stationary()),
            Some("if REQUANTIZE") => taking.push(design.requantizer.is_some()),
            Some(other) => panic!("`{other}` is no line of a template"),
            None if taking.iter().all(|&taking| taking) => {
                taken.push_str(line);
                taken.push('\n');
            }
            None => {}
        }
    }
    taken
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        config::{Dataflow, load},
        tensor::Requantizer,
    };

    fn design(sets: &[&str], dataflow: Dataflow) -> Design {
        let sets: Vec<String> = sets.iter().map(|&set| set.to_owned()).collect();
        Design::of(&load("edge_16x16", &sets).unwrap(), dataflow).unwrap()
    }

    #[test]
    fn every_module_is_in_a_file_of_its_name_and_no_line_of_a_template_is_left() {
        let designs = [
            design(&[], Dataflow::WS),
            design(&["array.dataflows=[OS]", "vector.requantizer=FixedDouble31"], Dataflow::OS),
            design(&["array.dataflows=[WS,IS]", "vector.requantizer=FixedSingle31"], Dataflow::IS),
        ];
        for design in &designs {
            let files = sources(design, None);
            let quantizes = files.iter().any(|file| file.name == "requantize.sv");
            assert_eq!(quantizes, design.requantizer.is_some());
            for file in &files {
                let name = file.name.trim_end_matches(".sv");
                let kind = if name == "systole_pkg" { "package" } else { "module" };
                assert!(file.text.lines().any(|line| line.starts_with(&format!("{kind} {name}"))), "{name}");
                assert!(!file.text.contains("//: "), "{name}");
                // What belongs to loads is not in a design that has none.
                assert!(design.is_stationary() || !file.text.contains("load_command"), "{name}");
            }
        }
    }

    #[test]
    fn the_operands_change_places_where_inputs_stay_and_an_unsigned_one_has_a_bit_more() {
        let sets =
            ["array.dataflows=[WS,IS]", "array.input_type=UInt8", "array.weight_type=Int4", "array.zero_points=false"];
        let [ws, is] = [Dataflow::WS, Dataflow::IS].map(|dataflow| package(&design(&sets, dataflow)));
        for (text, left, top) in [(&ws, [8, 9], [4, 4]), (&is, [4, 4], [8, 9])] {
            for (name, [bits, value]) in [("LEFT", left), ("TOP", top)] {
                assert!(text.contains(&format!("{name}_BITS = {bits};")), "{text}");
                assert!(text.contains(&format!("{name}_VALUE_BITS = {value};")), "{text}");
            }
        }
    }

    #[test]
    fn float_operands_and_a_dataflow_that_the_machine_lacks_have_no_hardware() {
        let machine = load("neuroncore_like", &[]).unwrap();
        let faults = Design::of(&machine, Dataflow::OS).unwrap_err().to_string();
        let float = !machine.config.array.input_type.is_integer();
        assert!(!float || faults.contains("timed only"), "{faults}");
        assert!(faults.contains("`OS` is not one of the machine's dataflows"), "{faults}");
        assert_eq!(design(&[], Dataflow::WS).requantizer, None);
        let fixed = design(&["vector.requantizer=FixedDouble31"], Dataflow::WS);
        assert_eq!(fixed.requantizer, Some(Requantizer::FixedDouble31));
    }
}
