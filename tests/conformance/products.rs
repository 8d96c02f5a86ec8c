//! Products of two activations and attention blocks against ONNX Runtime, to the last bit.

use std::collections::BTreeMap;

use crate::{execute::run, import::entries};

#[test]
fn products_and_attention_blocks_equal_the_runtime_on_the_array() {
    let Some(folder) = crate::folder("SYSTOLE_PRODUCTS", "products") else { return };
    let mut compared: BTreeMap<&str, u64> = BTreeMap::new();
    let mut faults = Vec::new();
    let models: Vec<_> = entries(&folder)
        .into_iter()
        .filter(|path| path.extension().is_some_and(|extension| extension == "onnx"))
        .collect();
    for model in &models {
        let beside = |ending: &str| model.with_extension(ending).to_string_lossy().into_owned();
        let (path, input, expected) = (model.to_string_lossy(), beside("in.npz"), beside("out.npz"));
        for machine in ["edge_16x16", "edge_32x32"] {
            let json = match run(&[machine, &path, "--data", &input, "--expect", &expected]) {
                Ok(json) => json,
                Err(fault) => {
                    faults.push(format!("{path} on {machine}: {fault}"));
                    continue;
                }
            };
            let (verification, expectation) = (&json["verification"]["status"], &json["expectation"]);
            *compared.entry(machine).or_default() += expectation["compared"].as_u64().unwrap_or(0);
            if verification != "bit_exact" || expectation["mismatches"] != 0 {
                faults.push(format!("{path} on {machine}: {verification}, {expectation}"));
            }
            let layers = json["layers"].as_array().expect("a record has layers");
            // A tensor that is watched is laid out as the outside wants it: moving it there may be the host's.
            let block = path.contains("attention") && !path.contains("watched");
            let elsewhere = |layer: &&serde_json::Value| {
                matches!(layer["op"].as_str(), Some("MatMul" | "BatchMatMul")) && layer["runs_on"] != "array"
                    || block && layer["runs_on"] == "host"
            };
            faults
                .extend(layers.iter().filter(elsewhere).map(|layer| format!("{path} on {machine}: {}", layer["name"])));
        }
    }
    println!("{} models: {compared:?} elements compared", models.len());
    assert!(faults.is_empty(), "{}", faults.join("\n"));
    assert!(compared.len() == 2 && compared.values().all(|&count| count > 0), "nothing was compared");
}
