//! Conformance with other people's models and expected results. The material is not part of the project: the script
//! `tests/conformance/run` fetches or makes it and names its place in environment variables. Without it these tests say loudly
//! that they did nothing.

mod elementwise;
mod execute;
mod import;
mod products;

use std::path::{Path, PathBuf};

use serde_json::Value as Json;

/// The folder of ONNX's backend tests (`onnx/backend/test/data` of the `PyPI` package), if the script provides it.
fn onnx_data(test: &str) -> Option<PathBuf> {
    folder("SYSTOLE_ONNX_DATA", test)
}

/// The folder of the models that `models.py` makes, if the script provides it.
fn models(test: &str) -> Option<PathBuf> {
    folder("SYSTOLE_MODELS", test)
}

/// The folder of quantized models with what the runtime computes for them, made by `execute.py`.
fn runs(test: &str) -> Option<PathBuf> {
    folder("SYSTOLE_RUNS", test)
}

/// Whether only a part is to run, for a machine that waits for it.
fn is_quick() -> bool {
    std::env::var_os("SYSTOLE_QUICK").is_some()
}

fn folder(variable: &str, test: &str) -> Option<PathBuf> {
    let folder = std::env::var_os(variable).map(PathBuf::from).filter(|folder| folder.is_dir());
    if folder.is_none() {
        eprintln!("SKIPPED: {test}: run `tests/conformance/run`, which fetches the material");
    }
    folder
}

/// Runs each model of a folder on both edge machines, on the inputs that lie beside it and with the runtime's outputs as the judge:
/// each must compare something and differ nowhere. `check` is given name, machine and record, and says what else is wrong.
fn judge(folder: &Path, mut check: impl FnMut(&str, &'static str, &Json) -> Vec<String>) {
    let mut faults = Vec::new();
    let (mut models, mut compared) = (0, 0);
    for model in import::entries(folder).iter().filter(|path| path.extension().is_some_and(|end| end == "onnx")) {
        let beside = |ending: &str| model.with_extension(ending).to_string_lossy().into_owned();
        let (path, input, expected) = (model.to_string_lossy(), beside("in.npz"), beside("out.npz"));
        models += 1;
        for machine in ["edge_16x16", "edge_32x32"] {
            let found = match execute::run(&[machine, &path, "--data", &input, "--expect", &expected]) {
                Ok(record) => {
                    let expectation = &record["expectation"];
                    let count = expectation["compared"].as_u64().unwrap_or(0);
                    compared += count;
                    let mut found = check(&import::name(model), machine, &record);
                    if count == 0 || expectation["mismatches"] != 0 {
                        found.push(format!("{expectation}"));
                    }
                    found
                }
                Err(fault) => vec![fault],
            };
            faults.extend(found.into_iter().map(|fault| format!("{path} on {machine}: {fault}")));
        }
    }
    println!("{models} models: {compared} elements compared");
    assert!(faults.is_empty(), "{}", faults.join("\n"));
    assert!(compared > 0, "nothing was compared");
}
