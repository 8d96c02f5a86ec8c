//! A machine that computes something else is found out, and the report names the layer, the element and the
//! instruction.

use std::path::Path;

use systole::{
    config,
    diag::Silent,
    pipeline::{execute, load_model, map, prepare},
    program::Arithmetic,
    result::Status,
};

#[test]
fn a_wrong_output_zero_point_is_traced_to_its_layer_and_instruction() {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("models/mnist_cnn.onnx");
    let model = load_model(&path, Some(1)).unwrap();
    let accelerator = config::load("edge_16x16", &[]).unwrap();
    let network = prepare(&model, &accelerator, None, false).unwrap();
    let mut mapped = map(&network, &accelerator).unwrap();
    let layer = mapped
        .program
        .header
        .layers
        .iter()
        .position(|layer| layer.op == "Conv" && matches!(layer.arithmetic, Arithmetic::Matrix { .. }))
        .unwrap();
    let name = mapped.program.header.layers[layer].name.clone();
    assert_eq!(execute(&mapped, None, &mut Silent).unwrap().verification.status, Status::BitExact);

    let Arithmetic::Matrix { output, .. } = &mut mapped.program.header.layers[layer].arithmetic else { panic!() };
    output.zero_point[0] += 1;
    let verification = execute(&mapped, None, &mut Silent).unwrap().verification;
    assert_eq!(verification.status, Status::Mismatch);
    let divergence = verification.first_divergence.unwrap();
    assert_eq!(divergence.layer, name);
    assert_eq!(divergence.actual, divergence.expected + 1);
    assert!(divergence.accumulator.is_some());
    assert!(divergence.written_by.unwrap().contains("instruction"));
    assert!(divergence.mismatches > 0);
}
