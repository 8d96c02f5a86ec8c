//! Execution against other implementations: ONNX's node tests with their expected results, whole networks quantized by
//! ONNX Runtime with its results, to the last bit, and real topologies, on which the machine must equal the reference.

use std::{
    collections::BTreeMap,
    fmt::Write as _,
    path::{Path, PathBuf},
    process::Command,
    time::Instant,
};

use rayon::prelude::*;
use serde_json::Value as Json;
use systole::{
    diag::Silent,
    ir::{Float, Graph},
    pipeline::{self, Failure, Model, Samples},
    reference,
    tensor::Tensor,
    verify::{Tolerance, compare_with_tolerance, diff},
};

use crate::import::{entries, import_case, is_tried, name, tensor};

/// What ONNX's own node tests allow for floats.
const TOLERANCE: Tolerance = Tolerance { absolute: 1e-7, relative: 1e-3, of_largest: false };

/// Differences of the graph's results from the expected ones: any bit of an integer, more than the tolerance of a float.
fn differences(case: &Path, results: &[Tensor]) -> Option<String> {
    results.iter().enumerate().find_map(|(index, result)| {
        let expected = tensor(case, &format!("output_{index}.pb"))?;
        let found = if expected.dtype().is_integer() {
            diff(&expected, result)
        } else {
            compare_with_tolerance(&expected, result, TOLERANCE)
        };
        found.map(|difference| difference.to_string())
    })
}

/// Runs the graph as it was imported, operator by operator.
fn execute_reference(graph: &Graph<Float>, inputs: &[Tensor]) -> Result<Vec<Tensor>, String> {
    let execution = reference::run_float(graph, inputs, &|id| pipeline::constant(graph, id));
    let execution = execution.map_err(|error| error.to_string())?;
    graph.outputs.iter().map(|&id| execution.value(id).cloned().ok_or_else(|| "no result".into())).collect()
}

/// Passes, mapping and the machine; float graphs are quantized from the range of the test's own input. Returns the
/// machine's results; it must equal its reference.
fn execute_machine(graph: &Graph<Float>, inputs: &[Tensor]) -> Result<Vec<Tensor>, Failure> {
    let accelerator = pipeline::load_config("edge_16x16", &[])?;
    let model = Model { graph: graph.clone(), hash: 0 };
    let samples = Samples::of(inputs.to_vec(), None);
    let network = pipeline::prepare(&model, &accelerator, Some(&samples), false)?;
    let mapped = pipeline::map(&network, &accelerator)?;
    let executed = pipeline::execute(&mapped, Some(&samples), &mut Silent)?;
    let verification = &executed.verification;
    if verification.status == systole::result::Status::Mismatch {
        return Err(Failure::Internal(format!("mismatch: {:?}", verification.first_divergence)));
    }
    Ok(executed.outputs)
}

/// Adds a heading and the names below it for each reason.
fn list_reasons(list: &mut String, title: &str, reasons: &BTreeMap<String, Vec<String>>) {
    for (why, names) in reasons {
        writeln!(list, "\n{title}: {why}").expect("writes to a string");
        for name in names {
            writeln!(list, "    {name}").expect("writes to a string");
        }
    }
}

#[test]
fn node_tests_give_the_expected_results_on_the_reference_and_the_machine() {
    let Some(data) = crate::onnx_data("node tests") else { return };
    let (mut exact, mut near, mut on_machine) = (0, 0, 0);
    let (mut different, mut refused) = (BTreeMap::<String, Vec<String>>::new(), BTreeMap::<String, Vec<String>>::new());
    for case in entries(&data.join("node")) {
        let name = name(&case);
        let Some(graph) = is_tried(&name).then(|| import_case(&case).ok()).flatten() else { continue };
        let inputs: Vec<Tensor> = (0..graph.inputs.len())
            .map(|index| tensor(&case, &format!("input_{index}.pb")).expect("an imported case has plain inputs"))
            .collect();
        let quantized = graph.values.iter().any(|value| value.quant.is_some());
        match execute_reference(&graph, &inputs) {
            Ok(results) => match differences(&case, &results) {
                None if results.iter().all(|result| result.dtype().is_integer()) => exact += 1,
                None => near += 1,
                Some(difference) => different.entry(format!("reference, {difference}")).or_default().push(name.clone()),
            },
            Err(why) => refused.entry(format!("reference, {why}")).or_default().push(name.clone()),
        }
        match execute_machine(&graph, &inputs) {
            // What a float network gives once it is quantized here has no expected result.
            Ok(results) => match differences(&case, &results).filter(|_| quantized) {
                None => on_machine += 1,
                Some(difference) => different.entry(format!("machine, {difference}")).or_default().push(name),
            },
            Err(Failure::User(faults)) => {
                let why = faults.0.first().map_or_else(String::new, |fault| fault.message.clone());
                refused.entry(format!("machine, {why}")).or_default().push(name);
            }
            Err(Failure::Internal(fault)) => different.entry(format!("machine, {fault}")).or_default().push(name),
        }
    }
    let mut list = format!("reference: {exact} exact, {near} within the tolerance; machine: {on_machine} bit exact\n");
    list_reasons(&mut list, "different", &different);
    list_reasons(&mut list, "refused", &refused);
    println!("{list}");
    insta::assert_snapshot!(list);
}

/// `systole run` as a user calls it; its JSON, or what it complained about.
pub(crate) fn run(arguments: &[&str]) -> Result<Json, String> {
    let output = Command::new(env!("CARGO_BIN_EXE_systole")).arg("run").args(arguments).arg("--json").output();
    let output = output.map_err(|error| error.to_string())?;
    // Exit code 2 says that something differs; the JSON says what.
    if !matches!(output.status.code(), Some(0 | 2)) {
        return Err(String::from_utf8_lossy(&output.stderr).trim().to_owned());
    }
    serde_json::from_slice(&output.stdout).map_err(|error| error.to_string())
}

/// One model on one machine; what went wrong, if anything did.
fn check_run(model: &Path, machine: &str, requantized: bool) -> Option<String> {
    let beside = |ending: &str| model.with_extension(ending).to_string_lossy().into_owned();
    let (model, input, expected) = (model.to_string_lossy(), beside("in.npz"), beside("out.npz"));
    let mut arguments = vec![machine, &model, "--data", &input];
    // The runtime's numbers are not those of a machine that has to requantize.
    if requantized {
        arguments.push("--requantize");
    } else {
        arguments.extend(["--expect", &expected]);
    }
    let fault = match run(&arguments) {
        Err(fault) => fault,
        Ok(json) => {
            let (verification, expectation) = (&json["verification"], &json["expectation"]);
            let exact = verification["status"] == "bit_exact";
            let expected = requantized
                || (expectation["mismatches"] == 0 && expectation["compared"].as_u64().is_some_and(|count| count > 0));
            if exact && expected {
                return None;
            }
            format!("verification {verification}, expectation {expectation}")
        }
    };
    Some(format!("{} on {machine}: {fault}", name(Path::new(&*model))))
}

#[test]
fn networks_quantized_by_the_runtime_give_its_results_to_the_last_bit() {
    let Some(folder) = crate::runs("quantized networks") else { return };
    let models: Vec<PathBuf> =
        entries(&folder).into_iter().filter(|path| path.extension().is_some_and(|is| is == "onnx")).collect();
    assert!(!models.is_empty(), "{} holds models", folder.display());
    for (machine, requantized) in
        [("edge_16x16", false), ("edge_32x32", false), ("gemmini_like", true), ("tpu_v1_like", true)]
    {
        let faults: Vec<String> =
            models.par_iter().filter_map(|model| check_run(model, machine, requantized)).collect();
        let what = if requantized { "requantized and equal to the reference" } else { "equal to ONNX Runtime" };
        println!("{machine}: {} of {} networks {what}", models.len() - faults.len(), models.len());
        assert!(
            faults.is_empty(),
            "`tests/conformance/locate.py MODEL` finds the first layer that differs from the runtime:\n{}",
            faults.join("\n")
        );
    }
}

#[test]
fn real_topologies_are_mapped_and_equal_the_reference() {
    let Some(data) = crate::onnx_data("real topologies") else { return };
    let all: &[&str] = &["squeezenet", "shufflenet", "inception_v2", "resnet50", "densenet121", "vgg19"];
    for name in if crate::is_quick() { &all[..2] } else { all } {
        let path = data.join("light").join(format!("light_{name}.onnx"));
        let start = Instant::now();
        let json = run(&["edge_32x32", &path.to_string_lossy()]).unwrap_or_else(|fault| panic!("{name}: {fault}"));
        let (totals, verification) = (&json["totals"], &json["verification"]);
        assert_eq!(verification["status"], "bit_exact", "{name}: {verification}");
        println!(
            "{name}: {} MACs in {} cycles, {} values compared, {:.1} s",
            totals["macs"],
            totals["cycles"],
            verification["compared"],
            start.elapsed().as_secs_f64()
        );
    }
}
