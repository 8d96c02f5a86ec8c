mod operators;

use super::*;
use crate::pipeline::{constant, load_config, load_model, prepare, random_inputs};

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
    let accelerator = load_config("edge_16x16", &[]).unwrap();
    let network = prepare(&load_model(&path, Some(2)).unwrap(), &accelerator, None, false).unwrap();
    let graph = &network.quantized;
    for (id, node) in graph.nodes_with_ids() {
        let kernel = operator::Kernel::choose(graph, node, &|id| constant(graph, id));
        assert!(!matches!(kernel, operator::Kernel::Reference), "{id:?} {} has no kernel", node.name);
    }
    let inputs = random_inputs(graph);
    let constants = |id| constant(graph, id);
    let expected = reference::run(graph, &inputs, &Settings::default(), Keep::All, &constants).unwrap();
    let mut network = CpuNetwork::new(graph, &constants, &|_| false).unwrap();
    network.run_all(&inputs).unwrap();
    for node in &graph.nodes {
        assert_eq!(network.value(node.outputs[0]).as_ref(), expected.value(node.outputs[0]), "{}", node.name);
    }
    assert_eq!(network.reference_ops(), [""; 0]);
}
