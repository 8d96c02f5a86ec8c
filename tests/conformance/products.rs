//! Products of two activations and attention blocks against ONNX Runtime, to the last bit.

#[test]
fn products_and_attention_blocks_equal_the_runtime_on_the_array() {
    let Some(folder) = crate::folder("SYSTOLE_PRODUCTS", "products") else { return };
    crate::judge(&folder, |name, _, record| {
        // A tensor that is watched is laid out as the outside wants it: moving it there may be the host's.
        let block = name.contains("attention") && !name.contains("watched");
        let elsewhere = |layer: &&serde_json::Value| {
            matches!(layer["op"].as_str(), Some("MatMul" | "BatchMatMul")) && layer["runs_on"] != "array"
                || block && layer["runs_on"] == "host"
        };
        let layers = record["layers"].as_array().expect("a record has layers");
        let status = &record["verification"]["status"];
        let exact = (status != "bit_exact").then(|| status.to_string());
        layers.iter().filter(elsewhere).map(|layer| layer["name"].to_string()).chain(exact).collect()
    });
}
