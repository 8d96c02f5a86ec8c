//! Networks of a single element-wise operator between the model's own scales against ONNX Runtime, to the last bit.

use std::collections::BTreeSet;

use systole::result::RANDOM_RANGES;

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
    let mut seen = BTreeSet::new();
    crate::judge(&folder, |name, machine, record| {
        let wanted = place(name);
        seen.insert((machine, wanted));
        let mut faults = Vec::new();
        if record["verification"]["status"] == "mismatch" {
            faults.push(record["verification"].to_string());
        }
        let provenance = &record["provenance"];
        if provenance["arithmetic"] != "as_model" || provenance.to_string().contains(RANDOM_RANGES) {
            faults.push(provenance.to_string());
        }
        let layers = record["layers"].as_array().expect("a record has layers");
        let own =
            |layer: &&serde_json::Value| matches!(layer["op"].as_str(), Some("Add" | "Mul" | "Sub" | "Div" | "Affine"));
        if !layers.iter().any(|layer| own(&layer)) {
            faults.push("no layer of the operator".into());
        }
        let elsewhere = layers.iter().filter(own).filter(|layer| layer["runs_on"] != wanted);
        faults.extend(elsewhere.map(|layer| format!("{} not on {wanted}", layer["name"])));
        faults
    });
    assert_eq!(seen.len(), 4, "not every place on every machine: {seen:?}");
}
