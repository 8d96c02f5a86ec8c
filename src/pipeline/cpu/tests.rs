mod operators;

use std::path::Path;

use super::*;
use crate::{
    config::Accelerator,
    pipeline::{Network as Prepared, load_config, load_model, map, prepare},
};

fn prepared(model: &Path) -> (Accelerator, Prepared) {
    let accelerator = load_config("edge_16x16", &[]).unwrap();
    let network = prepare(&load_model(model, Some(2)).unwrap(), &accelerator, None, false).unwrap();
    (accelerator, network)
}

/// Every kernel at once: groups, depthwise, strides, padding on one side, averages, joins, a residual.
const LAYERS: &str = r#"(
    name: "all", input: (shape: [6, 13, 11], scale: 0.02, zero: 120),
    layers: [
        (name: "first", op: Conv(out: 12, kernel: 3, stride: 2, pad: 1, activation: Relu), weight: 0.01, scale: 0.02),
        (name: "depthwise", op: Conv(out: 12, kernel: 3, pad: 1, groups: 12), weight: 0.01, scale: 0.02, zero: 100),
        (name: "grouped", op: Conv(out: 8, kernel: 3, pad: 1, groups: 4), weight: 0.01, scale: 0.02, zero: 130),
        (name: "wide", from: "first", op: Conv(out: 8, kernel: 1), weight: 0.01, scale: 0.02, zero: 90),
        (name: "sum", from: ["grouped", "wide"], op: Add(activation: Relu), scale: 0.02),
        (name: "max", op: MaxPool(kernel: 3, stride: 2, pad: [0, 0, 1, 1])),
        (name: "average", from: "sum", op: AvgPool(kernel: 3, stride: 2, pad: [0, 0, 1, 1]), scale: 0.015, zero: 3),
        (name: "joined", from: ["max", "average"], op: Concat, scale: 0.018, zero: 5),
        (name: "flat", op: Flatten),
        (name: "fc", op: FullyConnected(out: 130), weight: 0.01, scale: 0.02, zero: 128),
    ],
)"#;

#[test]
fn every_kernel_equals_the_reference() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("all.ron");
    std::fs::write(&path, LAYERS).unwrap();
    let (accelerator, network) = prepared(&path);
    let mapped = map(&network, &accelerator).unwrap();
    let graph = &network.quantized;
    for (id, node) in graph.nodes_with_ids() {
        let kernel = kernel::Kernel::choose(graph, node, &|id| constant(graph, id));
        assert!(!matches!(kernel, kernel::Kernel::Reference), "{id:?} {} has no kernel", node.name);
    }
    let inputs = random_inputs(graph);
    let constants = |id| constant(graph, id);
    let expected = reference::run(graph, &inputs, &Settings::default(), Keep::All, &constants).unwrap();
    let mut network = Network::new(graph, &constants, &|_| false).unwrap();
    network.run_all(&inputs).unwrap();
    for node in &graph.nodes {
        assert_eq!(network.value(node.outputs[0]).as_ref(), expected.value(node.outputs[0]), "{}", node.name);
    }
    let time = measure(&mapped, 0.5).unwrap();
    assert_eq!(time.reference_ops, [""; 0]);
    assert!(time.measured && (3..=50).contains(&time.runs) && time.threads > 0);
    assert!(time.seconds > 0.0 && (time.accelerator_speedup / time.seconds - 2.0).abs() < 1e-9);
}

#[test]
fn a_trained_network_is_measured_without_its_boundary_conversions() {
    let (accelerator, network) = prepared(&Path::new(env!("CARGO_MANIFEST_DIR")).join("models/mnist_cnn.onnx"));
    let mapped = map(&network, &accelerator).unwrap();
    assert!(measure(&mapped, 1.0).unwrap().runs >= 3);
}
