//! Conformance with other people's models and expected results. The material is not part of the project: the script
//! `tests/conformance/run` fetches it and names its place in `SYSTOLE_ONNX_DATA`. Without it these tests say loudly
//! that they did nothing.

mod import;

use std::path::PathBuf;

/// The folder of ONNX's backend tests (`onnx/backend/test/data` of the `PyPI` package), if the script provides it.
fn onnx_data(test: &str) -> Option<PathBuf> {
    let folder = std::env::var_os("SYSTOLE_ONNX_DATA").map(PathBuf::from).filter(|folder| folder.is_dir());
    if folder.is_none() {
        eprintln!("SKIPPED: {test}: run `tests/conformance/run`, which fetches the material");
    }
    folder
}
