//! Networks of a single element-wise operator between the model's own scales against ONNX Runtime, to the last bit.

use std::collections::BTreeMap;

use systole::result::RANDOM_RANGES;

use crate::{
    execute::run,
    import::{entries, name},
};

/// Where a layer runs: on the vector unit what the runtime has in integers, and what is a table of one operand.
fn place(model: &str) -> &'static str {
    let starts = |operators: &[&str]| operators.iter().any(|operator| model.starts_with(operator));
    let second = |seconds: &[&str]| seconds.iter().any(|second| model.contains(second));
    let integers = starts(&["add_", "mul_"]) && second(&["_activation_", "_dequantized_", "_quantized_"]);
    let table = starts(&["add_", "mul_", "sub_", "div_"]) && second(&["_number_"]);
    if integers || table { "vector" } else { "host" }
}

#[test]
fn a_lone_operator_between_scales_of_the_model_equals_the_runtime() {
    let Some(folder) = crate::folder("SYSTOLE_ELEMENTWISE", "element-wise operators") else { return };
    let mut compared: BTreeMap<(&str, &str), u64> = BTreeMap::new();
    let mut faults = Vec::new();
    let models: Vec<_> = entries(&folder)
        .into_iter()
        .filter(|path| path.extension().is_some_and(|extension| extension == "onnx"))
        .collect();
    for model in &models {
        let beside = |ending: &str| model.with_extension(ending).to_string_lossy().into_owned();
        let (path, input, expected) = (model.to_string_lossy(), beside("in.npz"), beside("out.npz"));
        let wanted = place(&name(model));
        for machine in ["edge_16x16", "edge_32x32"] {
            let json = match run(&[machine, &path, "--data", &input, "--expect", &expected]) {
                Ok(json) => json,
                Err(fault) => {
                    faults.push(format!("{path} on {machine}: {fault}"));
                    continue;
                }
            };
            let expectation = &json["expectation"];
            *compared.entry((machine, wanted)).or_default() += expectation["compared"].as_u64().unwrap_or(0);
            if expectation["mismatches"] != 0 || json["verification"]["status"] == "mismatch" {
                faults.push(format!("{path} on {machine}: {expectation}, {}", json["verification"]));
            }
            let provenance = &json["provenance"];
            if provenance["arithmetic"] != "as_model" || provenance.to_string().contains(RANDOM_RANGES) {
                faults.push(format!("{path} on {machine}: {provenance}"));
            }
            let layers = json["layers"].as_array().expect("a record has layers");
            let own = |layer: &&serde_json::Value| {
                matches!(layer["op"].as_str(), Some("Add" | "Mul" | "Sub" | "Div" | "Affine"))
            };
            if !layers.iter().any(|layer| own(&layer)) {
                faults.push(format!("{path} on {machine}: no layer of the operator"));
            }
            let elsewhere = layers.iter().filter(own).filter(|layer| layer["runs_on"] != wanted);
            faults.extend(elsewhere.map(|layer| format!("{path} on {machine}: {} not on {wanted}", layer["name"])));
        }
    }
    println!("{} models: {compared:?} elements compared", models.len());
    assert!(faults.is_empty(), "{}", faults.join("\n"));
    assert!(compared.len() == 4 && compared.values().all(|&count| count > 0), "{compared:?}");
}
