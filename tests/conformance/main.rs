//! Conformance with other people's models and expected results. The material is not part of the project: the script
//! `tests/conformance/run` fetches or makes it and names its place in environment variables. Without it these tests say loudly
//! that they did nothing.

mod elementwise;
mod execute;
mod import;
mod products;

use std::path::PathBuf;

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
