//! Networks of a single element-wise operator between the model's own scales against ONNX Runtime, to the last bit.

use std::collections::BTreeMap;

use systole::result::RANDOM_RANGES;

use crate::{
    execute::run,
    import::{entries, name},
};

/// Whether the runtime has an integer form of the operator, as its operands are; the machine then has it too.
fn is_integer(model: &str) -> bool {
    let operator = model.starts_with("add_") || model.starts_with("mul_");
    operator && ["_activation_", "_dequantized_", "_quantized_"].iter().any(|second| model.contains(second))
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
        let wanted = if is_integer(&name(model)) { "vector" } else { "host" };
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
                matches!(layer["op"].as_str(), Some("Add" | "Mul" | "Sub" | "Div" | "BatchNorm"))
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
