//! Which of ONNX's node tests and model topologies import, and why the others do not.

use std::{
    collections::BTreeMap,
    fs,
    path::{Path, PathBuf},
    time::Instant,
};

use systole::{
    import::{ImportOptions, load, onnx},
    tensor::Tensor,
};

/// Operators whose node tests are tried, as the prefix of the test's name.
const PREFIXES: &[&str] = &[
    "add",
    "averagepool",
    "basic_conv",
    "batchnorm",
    "clip",
    "concat",
    "conv_",
    "dequantizelinear",
    "div",
    "dropout",
    "flatten",
    "gemm",
    "globalaveragepool",
    "hardsigmoid",
    "hardswish",
    "identity",
    "leakyrelu",
    "matmul_",
    "maxpool",
    "mul",
    "constant_pad",
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

/// Folders below `folder` that hold a model, in order of their names.
fn cases(folder: &Path) -> Vec<PathBuf> {
    let mut cases: Vec<PathBuf> = fs::read_dir(folder)
        .expect("the data folder is readable")
        .map(|entry| entry.expect("the data folder is readable").path())
        .filter(|path| path.join("model.onnx").is_file())
        .collect();
    cases.sort();
    cases
}

/// Names of a model's inputs and the tensors that the test feeds, all but the first bound as constants: node tests
/// make weights and scales inputs. `None` where an input file is not a plain tensor.
fn bound(case: &Path, names: &[String]) -> Option<BTreeMap<String, Tensor>> {
    let mut bound = BTreeMap::new();
    for (index, name) in names.iter().enumerate().skip(1) {
        let bytes = fs::read(case.join(format!("test_data_set_0/input_{index}.pb"))).ok()?;
        bound.insert(name.clone(), onnx::from_pb(&bytes).ok()?);
    }
    Some(bound)
}

#[test]
fn the_node_tests_of_supported_operators_import_or_say_why_not() {
    let Some(data) = crate::onnx_data("node tests") else { return };
    let (mut imported, mut refused) = (0, BTreeMap::<String, Vec<String>>::new());
    for case in cases(&data.join("node")) {
        let name = case.file_name().expect("a case has a name").to_string_lossy().into_owned();
        let plain = name.trim_start_matches("test_");
        if !PREFIXES.iter().any(|prefix| plain.starts_with(prefix)) || plain.contains("_expanded") {
            continue;
        }
        let bytes = fs::read(case.join("model.onnx")).expect("a case has a model");
        let names = onnx::input_names(&bytes).expect("node tests are valid models");
        let constants = bound(&case, &names).unwrap_or_default();
        match onnx::parse_bound(&bytes, &name, Some(&case), &ImportOptions::default(), &constants) {
            Ok(_) => imported += 1,
            Err(faults) => {
                let why = faults.0.iter().map(|fault| fault.message.clone()).collect::<Vec<_>>().join("; ");
                refused.entry(why).or_default().push(name);
            }
        }
    }
    let count: usize = refused.values().map(Vec::len).sum();
    println!("node tests: {imported} imported, {count} refused");
    for (why, names) in &refused {
        println!("  {why}\n      {}", names.join(" "));
    }
    assert!(imported >= 1, "only {imported} node tests imported");
}

#[test]
fn the_model_topologies_import_or_say_why_not() {
    let Some(data) = crate::onnx_data("model topologies") else { return };
    let mut models: Vec<PathBuf> = fs::read_dir(data.join("light"))
        .expect("the data folder is readable")
        .map(|entry| entry.expect("the data folder is readable").path())
        .filter(|path| path.extension().is_some_and(|extension| extension == "onnx"))
        .collect();
    models.sort();
    for path in models {
        let start = Instant::now();
        let name = path.file_stem().expect("a model has a name").to_string_lossy().into_owned();
        match load(&path, &ImportOptions::default()) {
            Ok(graph) => {
                let macs: u64 = graph.nodes.iter().map(|node| systole::ir::macs::macs(&graph, node)).sum();
                println!("{name}: {} nodes, {macs} MACs, {:.1?}", graph.nodes.len(), start.elapsed());
            }
            Err(faults) => println!("{name}: refused:\n{faults}"),
        }
    }
}
