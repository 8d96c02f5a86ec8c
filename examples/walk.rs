//! A network on a machine in five calls: load, prepare, map, execute and time, assemble. Run it with
//! `cargo run --release --example walk`.

use std::path::Path;

use systole::{
    config,
    diag::Silent,
    engine::timing,
    pipeline::{self, Failure, Options},
    report,
    result::{RunResult, Status},
};

/// The stages one by one; `pipeline::evaluate` is all of them but the first.
///
/// # Errors
/// What any stage finds.
///
/// # Panics
/// If the machine's bits were not the reference's.
pub fn walk() -> Result<RunResult, Failure> {
    let accelerator = config::load("edge_16x16", &["array.rows=32".to_owned()])?;

    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("models/mnist_cnn.onnx");
    let model = pipeline::load_model(&path, Some(1))?;
    // No samples to take ranges from, no need to requantize.
    let network = pipeline::prepare(&model, &accelerator, None, false)?;
    let mapped = pipeline::map(&network, &accelerator)?;
    let executed = pipeline::execute(&mapped, None, &mut Silent)?;
    let timing = pipeline::time(&mapped, timing::Options::default())?;
    let result = pipeline::assemble(&mapped, &model, &Options::default(), Some(&timing), &executed);

    assert_eq!(result.verification.status, Status::BitExact);
    Ok(result)
}

fn main() -> Result<(), Failure> {
    print!("{}", report::table(&walk()?));
    Ok(())
}
