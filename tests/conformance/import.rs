//! Which of ONNX's node tests and model topologies import, with the shapes and types that the tests expect; and why
//! the others do not. Both lists are snapshots: after a change that is meant, `INSTA_UPDATE=always
//! tests/conformance/run` writes them anew.

use std::{
    collections::BTreeMap,
    fmt::Write as _,
    fs,
    path::{Path, PathBuf},
    time::{Duration, Instant},
};

use rand::{Rng, SeedableRng};
use rand_chacha::ChaCha8Rng;
use systole::{
    import::{ImportOptions, load, onnx},
    ir::{Float, Graph, ValueId, macs::macs},
    tensor::{DType, Tensor},
};

/// The operators whose node tests are tried, as the start of the test's name after `test_`.
const TRIED: &[&str] = &[
    "add",
    "averagepool",
    "basic_conv",
    "batchnorm",
    "clip",
    "concat",
    "constant_pad",
    "conv_",
    "dequantizelinear",
    "div",
    "dropout",
    "elu",
    "flatten",
    "gemm",
    "globalaveragepool",
    "globalmaxpool",
    "hardsigmoid",
    "hardswish",
    "identity",
    "leakyrelu",
    "matmul_",
    "max_",
    "maxpool",
    "min_",
    "mul",
    "prelu",
    "qlinearconv",
    "qlinearmatmul",
    "quantizelinear",
    "reduce_mean",
    "relu",
    "reshape",
    "sigmoid",
    "softmax",
    "squeeze",
    "sub",
    "sum",
    "tanh",
    "transpose",
    "unsqueeze",
];

/// What a folder holds, in order of names.
pub fn entries(folder: &Path) -> Vec<PathBuf> {
    let entries = fs::read_dir(folder).expect("the data folder is readable");
    let mut paths: Vec<PathBuf> = entries.map(|entry| entry.expect("the data folder is readable").path()).collect();
    paths.sort();
    paths
}

pub fn name(path: &Path) -> String {
    path.file_stem().expect("a case has a name").to_string_lossy().into_owned()
}

/// One of a node test's tensors; `None` if it is none (a sequence, a type that is not supported).
pub fn tensor(case: &Path, file: &str) -> Option<Tensor> {
    onnx::from_pb(&fs::read(case.join("test_data_set_0").join(file)).ok()?).ok()
}

/// Imports a node test, and holds the result to the shape and type that it expects. All inputs but the first become
/// constants: node tests leave weights, scales and axes to the user.
pub fn import_case(case: &Path) -> Result<Graph<Float>, String> {
    let bytes = fs::read(case.join("model.onnx")).map_err(|error| error.to_string())?;
    let names = onnx::input_names(&bytes).map_err(|faults| faults.to_string())?;
    let inputs = names.iter().enumerate().skip(1);
    let bound: BTreeMap<String, Tensor> =
        inputs.filter_map(|(index, name)| Some((name.clone(), tensor(case, &format!("input_{index}.pb"))?))).collect();
    let options = ImportOptions::default();
    let graph = onnx::parse_bound(&bytes, &name(case), Some(case), &options, &bound)
        .map_err(|faults| faults.0.iter().map(|fault| fault.message.clone()).collect::<Vec<_>>().join("; "))?;
    for (index, &output) in graph.outputs.iter().enumerate() {
        let expected = tensor(case, &format!("output_{index}.pb")).expect("a supported test has plain outputs");
        let value = graph.value(output);
        assert_eq!(value.shape, expected.shape(), "{}", case.display());
        // Elements of int4 are stored a byte each.
        let stored = if value.dtype == DType::Int4 { DType::Int8 } else { value.dtype };
        assert_eq!(stored, expected.dtype(), "{}", case.display());
    }
    Ok(graph)
}

/// Whether a node test is of an operator that is tried.
pub fn is_tried(name: &str) -> bool {
    let operator = name.trim_start_matches("test_");
    TRIED.iter().any(|start| operator.starts_with(start)) && !operator.contains("_expanded")
}

#[test]
fn node_tests_of_supported_operators_import_or_say_why_not() {
    let Some(data) = crate::onnx_data("node tests") else { return };
    let (mut imported, mut refused) = (0, BTreeMap::<String, Vec<String>>::new());
    for case in entries(&data.join("node")) {
        let name = name(&case);
        if !is_tried(&name) {
            continue;
        }
        match import_case(&case) {
            Ok(_) => imported += 1,
            Err(why) => refused.entry(why).or_default().push(name),
        }
    }
    let count: usize = refused.values().map(Vec::len).sum();
    let mut list = format!("{imported} imported, {count} refused\n");
    for (why, names) in &refused {
        writeln!(list, "\n{why}").expect("writes to a string");
        for name in names {
            writeln!(list, "    {name}").expect("writes to a string");
        }
    }
    println!("{list}");
    insta::assert_snapshot!(list);
}

#[test]
fn model_topologies_import_or_say_why_not() {
    let Some(data) = crate::onnx_data("model topologies") else { return };
    let mut list = String::new();
    for path in entries(&data.join("light")) {
        if path.extension().is_none_or(|extension| extension != "onnx") {
            continue;
        }
        let start = Instant::now();
        let line = match load(&path, &ImportOptions::default()).map(|imported| imported.graph) {
            Ok(graph) => {
                let total: u64 = graph.nodes.iter().map(|node| macs(&graph, node)).sum();
                let output = &graph.value(graph.outputs[0]).shape;
                format!("{} nodes, {total} MACs, result {output:?}", graph.nodes.len())
            }
            Err(faults) => {
                let whys = faults
                    .0
                    .iter()
                    .map(|fault| format!("{}: {}", fault.path.as_deref().unwrap_or_default(), fault.message));
                format!("refused: {}", whys.collect::<Vec<_>>().join("; "))
            }
        };
        assert!(start.elapsed() < Duration::from_secs(20), "{} took {:?}", path.display(), start.elapsed());
        writeln!(list, "{}: {line}", name(&path)).expect("writes to a string");
    }
    println!("{list}");
    insta::assert_snapshot!(list);
}

#[test]
fn models_quantized_by_the_runtime_import() {
    let Some(models) = crate::models("quantized models") else { return };
    let mut list = String::new();
    for path in entries(&models) {
        let imported = load(&path, &ImportOptions { batch: Some(2) }).unwrap_or_else(|faults| panic!("{faults}"));
        let graph = imported.graph;
        // All must import; two are enough to read.
        if !["QOperator_channel_QUInt8", "QDQ_tensor_QInt8"].contains(&name(&path).as_str()) {
            continue;
        }
        writeln!(list, "{}", name(&path)).expect("writes to a string");
        for node in &graph.nodes {
            // Scales differ from machine to machine in the last place; whether there are any does not.
            let describe = |id: &ValueId| {
                let value = graph.value(*id);
                let scales = value.quant.as_ref().map_or(String::new(), |quant| match quant.axis {
                    None => " scaled".to_owned(),
                    Some(axis) => format!(" scaled by dimension {axis}"),
                });
                let constant = if value.constant.is_some() { " constant" } else { "" };
                format!("{:?}{:?}{scales}{constant}", value.dtype, value.shape)
            };
            let inputs: Vec<String> = node.inputs.iter().map(describe).collect();
            let line = format!("    {} ({}) -> {}", node.op.name(), inputs.join(", "), describe(&node.outputs[0]));
            writeln!(list, "{line}").expect("writes to a string");
        }
    }
    println!("{list}");
    insta::assert_snapshot!(list);
}

#[test]
fn damaged_models_are_refused_or_imported_but_never_panic() {
    let Some(models) = crate::models("damaged models") else { return };
    let mut random = ChaCha8Rng::seed_from_u64(7);
    let (mut imported, mut refused) = (0, 0);
    for path in entries(&models) {
        let bytes = fs::read(&path).expect("the script made it");
        for _ in 0..500 {
            let mut damaged = bytes.clone();
            for _ in 0..random.random_range(1..6) {
                let place = random.random_range(0..damaged.len());
                match random.random_range(0..4) {
                    0 => damaged[place] = random.random(),
                    1 => damaged[place] ^= 1 << random.random_range(0..8),
                    2 => drop(damaged.remove(place)),
                    _ => damaged.truncate(place.max(1)),
                }
            }
            let start = Instant::now();
            match onnx::parse(&damaged, "damaged", None, &ImportOptions::default()) {
                Ok(_) => imported += 1,
                Err(_) => refused += 1,
            }
            assert!(start.elapsed() < Duration::from_secs(5), "{} took {:?}", path.display(), start.elapsed());
        }
    }
    println!("{imported} imported, {refused} refused");
    assert!(imported > 0 && refused > 0, "{imported} imported, {refused} refused");
}
