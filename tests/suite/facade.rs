//! The facade on values: one process evaluates as often as it likes, and gets what the command line gets.

use std::{path::Path, process::Command};

use systole::{
    config,
    diag::Silent,
    import,
    pipeline::{Evaluator, Expected, Failure, Model, Options, Samples, evaluate, load_model, map, map_cached, prepare},
    report,
    result::{RunResult, RunsOn, Status},
    tensor::{DType, Tensor, npz},
};

#[allow(dead_code, reason = "the example's `main` is the example's")]
#[path = "../../examples/walk.rs"]
mod walk;

fn tiny() -> Model {
    let list = r#"(name: "tiny", input: (shape: [3, 8, 8], scale: 0.02, zero: 114), layers: [
        (name: "conv", op: Conv(out: 8, kernel: 3, pad: 1, activation: Relu), weight: 0.002, scale: 0.021),
        (name: "pool", op: GlobalAvgPool, scale: 0.02),
        (name: "flat", op: Flatten),
        (name: "fc", op: FullyConnected(out: 10), weight: 0.003, scale: 0.09, zero: 128),
    ])"#;
    Model { graph: import::ron::parse(list, "tiny", Some(1)).unwrap(), hash: 0 }
}

fn digits() -> Model {
    load_model(&Path::new(env!("CARGO_MANIFEST_DIR")).join("models/mnist_cnn.onnx"), Some(1)).unwrap()
}

/// Pixels that differ from sample to sample.
fn images(count: usize) -> Tensor {
    let graph = digits().graph;
    let value = graph.value(graph.inputs[0]);
    let size: usize = value.shape[1..].iter().product();
    let pixel = |index: usize| ((index * 2_654_435_761) >> 7) % 256;
    let shape: Vec<usize> = std::iter::once(count).chain(value.shape[1..].iter().copied()).collect();
    let pixels = (0..count * size).map(pixel);
    match value.dtype {
        DType::Fp32 => Tensor::from_f32(&shape, pixels.map(|x| x as f32 / 255.0).collect()).unwrap(),
        dtype => {
            let pixels: Vec<i64> = pixels.map(|x| i64::try_from(x % 128).unwrap()).collect();
            Tensor::from_integers(dtype, &shape, &pixels).unwrap()
        }
    }
}

#[test]
fn the_five_calls_of_the_example_give_what_one_call_gives() {
    let result = walk::walk().unwrap();
    let accelerator = config::load("edge_16x16", &["array.rows=32".to_owned()]).unwrap();
    assert_eq!(evaluate(&digits(), &accelerator, &Options::default()).unwrap(), result);
}

#[test]
fn an_evaluator_that_knows_other_machines_and_networks_gives_the_same_results() {
    let evaluator = Evaluator::default();
    let options = Options { no_execute: true, ..Options::default() };
    let models = [tiny(), digits()];
    let changes = ["array.rows=16", "array.rows=8", "residency=true", "dma.burst_bytes=32", "array.rows=16"];
    for change in changes {
        let accelerator = config::load("edge_16x16", &[change.to_owned()]).unwrap();
        for model in &models {
            let known = evaluator.evaluate(model, &accelerator, &options, &mut Silent).unwrap();
            assert_eq!(known, evaluate(model, &accelerator, &options).unwrap(), "{change}");
        }
    }
    // The last machine is the first: nothing new was looked for.
    let accelerator = config::load("edge_16x16", &[changes[0].to_owned()]).unwrap();
    let before = evaluator.mappings.len();
    let network = prepare(&models[1], &accelerator, None, false).unwrap();
    let mapped = map_cached(&network, &accelerator, &evaluator.mappings).unwrap();
    assert_eq!(evaluator.mappings.len(), before);
    assert_eq!(mapped.plan.layers.len(), map(&network, &accelerator).unwrap().plan.layers.len());
}

fn in_pool(threads: usize, options: &Options) -> RunResult {
    let accelerator = config::load("edge_16x16", &[]).unwrap();
    let pool = rayon::ThreadPoolBuilder::new().num_threads(threads).build().unwrap();
    pool.install(|| evaluate(&digits(), &accelerator, options).unwrap())
}

#[test]
fn samples_give_the_same_record_for_any_number_of_threads_and_from_a_file_or_from_memory() {
    let count = 150;
    let images = images(count);
    let labels: Vec<i64> = (0..150).map(|index| index % 10).collect();
    let held = Options { samples: Some(Samples::of(vec![images.clone()], Some(labels.clone()))), ..Options::default() };
    let one = in_pool(1, &held);
    assert_eq!(one.verification.status, Status::BitExact);
    let accuracy = one.accuracy.as_ref().unwrap();
    assert_eq!((accuracy.samples, accuracy.accelerator), (150, accuracy.quantized));

    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("samples.npz");
    let graph = digits().graph;
    let name = graph.value(graph.inputs[0]).name.clone();
    let labels = Tensor::from_integers(DType::Int64, &[count], &labels).unwrap();
    npz::write_npz(&path, &[(&name, &images), ("labels", &labels)]).unwrap();
    let filed = Options { samples: Some(Samples::open(&path, &graph).unwrap()), ..Options::default() };
    assert_eq!(in_pool(3, &filed), one);
    assert_eq!(in_pool(2, &held), one);
}

#[test]
fn every_sample_is_its_own_and_the_last_ones_are_not_lost() {
    let accelerator = config::load("edge_16x16", &[]).unwrap();
    let network = prepare(&digits(), &accelerator, None, false).unwrap();
    let mapped = map(&network, &accelerator).unwrap();
    let images = images(67);
    let all = systole::pipeline::execute(&mapped, Some(&Samples::of(vec![images.clone()], None)), &mut Silent).unwrap();
    let rows = |tensor: &Tensor| -> Vec<Vec<f32>> {
        tensor.to_f32().chunks(tensor.len() / tensor.shape()[0]).map(<[f32]>::to_vec).collect()
    };
    let (inputs, outputs) = (rows(&images), rows(&all.outputs[0]));
    assert_eq!((outputs.len(), all.reference[0].clone()), (67, all.outputs[0].clone()));
    for index in [0, 1, 63, 64, 66] {
        let mut shape = images.shape().to_vec();
        shape[0] = 1;
        let one = match images.dtype() {
            DType::Fp32 => Tensor::from_f32(&shape, inputs[index].clone()).unwrap(),
            _ => panic!("the shipped model takes floats"),
        };
        let alone = systole::pipeline::execute(&mapped, Some(&Samples::of(vec![one], None)), &mut Silent).unwrap();
        assert_eq!(rows(&alone.outputs[0])[0], outputs[index], "sample {index}");
    }
}

#[test]
fn sums_that_leave_the_adders_are_counted_and_said() {
    let run = |changes: &[&str]| {
        let changes: Vec<String> = changes.iter().map(|&change| change.to_owned()).collect();
        evaluate(&tiny(), &config::load("edge_16x16", &changes).unwrap(), &Options::default()).unwrap()
    };
    let wide = run(&[]);
    assert!(wide.layers.iter().all(|layer| !layer.may_overflow && layer.overflows == Some(0)));
    assert!(!report::table(&wide).contains("OVERFLOW"));
    for policy in ["Wrap", "Saturate"] {
        let narrow = run(&["accumulators.bits=8", &format!("array.overflow={policy}")]);
        assert_eq!(narrow.verification.status, Status::BitExact, "{policy}");
        let conv = narrow.layers.iter().find(|layer| layer.name == "conv").unwrap();
        assert!(conv.may_overflow && conv.overflows > Some(100), "{policy}: {:?}", conv.overflows);
        assert!(report::table(&narrow).contains("OVERFLOW: "), "{policy}");
    }
    let timed = Options { no_execute: true, ..Options::default() };
    let narrow = config::load("edge_16x16", &["accumulators.bits=8".to_owned()]).unwrap();
    let timed = evaluate(&tiny(), &narrow, &timed).unwrap();
    assert!(timed.layers[0].overflows.is_none() && report::table(&timed).contains("may leave"));
}

#[test]
fn the_host_s_sums_are_exact_on_a_machine_with_narrow_adders() {
    let list = r#"(name: "apart", input: (shape: [8, 6, 6], scale: 0.02, zero: 114), layers: [
        (name: "apart", op: Conv(out: 8, kernel: 3, pad: 1, groups: 8), weight: 0.02, scale: 0.02, zero: 120),
    ])"#;
    let model = Model { graph: import::ron::parse(list, "apart", Some(1)).unwrap(), hash: 0 };
    let run = |policy: &str| {
        let changes =
            ["accumulators.bits=8".to_owned(), "array.column_bits=8".to_owned(), format!("depthwise={policy}")];
        evaluate(&model, &config::load("edge_16x16", &changes).unwrap(), &Options::default()).unwrap()
    };
    let (host, array) = (run("Host"), run("PerGroup"));
    let layer = |result: &RunResult| result.layers.iter().find(|layer| layer.name == "apart").unwrap().clone();
    // The same layer loses sums where narrow adders make them.
    assert!(layer(&array).may_overflow && layer(&array).overflows > Some(0));
    let layer = layer(&host);
    assert_eq!((layer.runs_on, layer.may_overflow, layer.overflows), (RunsOn::Host, false, Some(0)));
    assert_eq!(host.verification.status, Status::BitExact);
    assert_eq!(host.verification.compared_same_implementation, 0);
}

#[test]
fn a_wrong_expectation_names_the_output_the_element_and_a_known_reason() {
    let accelerator = config::load("edge_16x16", &[]).unwrap();
    let network = prepare(&tiny(), &accelerator, None, false).unwrap();
    let mapped = map(&network, &accelerator).unwrap();
    let executed = systole::pipeline::execute(&mapped, None, &mut Silent).unwrap();
    let name = network.quantized.value(network.quantized.outputs[0]).name.clone();
    let right = executed.outputs[0].clone();
    let mut values = right.to_integers().unwrap();
    (values[3], values[7]) = (values[3] ^ 1, values[7] ^ 2);
    let wrong = Tensor::from_integers(right.dtype(), right.shape(), &values).unwrap();
    let run = |tensor: &Tensor, tolerance| {
        let expected = Expected { arrays: vec![(name.clone(), tensor.clone())], tolerance, ..Expected::default() };
        let options = Options { expected: Some(expected), ..Options::default() };
        evaluate(&tiny(), &accelerator, &options).unwrap().expectation.unwrap()
    };
    let found = run(&wrong, 0.0);
    let first = found.first_mismatch.unwrap();
    assert_eq!((first.output.as_str(), first.index.as_slice()), (name.as_str(), &[0, 3][..]));
    assert_eq!((first.mismatches, first.elements, first.max_abs_difference), (2, 10, 2.0));
    assert!(found.note.unwrap().contains("session.x64quantprecision"));
    let found = run(&wrong, 1.0);
    assert_eq!(found.first_mismatch.unwrap().index, [0, 7]);
    let found = run(&right, 0.0);
    assert!(found.first_mismatch.is_none() && found.note.is_none());
}

#[test]
fn scales_whose_multiplier_overflows_are_the_model_s_fault_and_name_the_layer() {
    let list = r#"(name: "hot", input: (shape: [4, 1, 1], scale: 1e14), layers: [
        (name: "conv", op: Conv(out: 2, kernel: 1, bias: false), weight: 1e14, scale: 1e-15),
    ])"#;
    let model = Model { graph: import::ron::parse(list, "hot", Some(1)).unwrap(), hash: 0 };
    let accelerator = config::load("edge_16x16", &[]).unwrap();
    let failure = evaluate(&model, &accelerator, &Options { no_execute: true, ..Options::default() }).unwrap_err();
    assert!(matches!(failure, Failure::User(_)), "{failure}");
    assert!(failure.to_string().contains("conv") && failure.to_string().contains("float32"), "{failure}");
}

#[test]
fn titles_say_what_a_copy_of_a_machine_is() {
    let changes = vec!["array.rows=32".to_owned()];
    let accelerator = config::load("edge_16x16", &changes).unwrap();
    let options = Options { no_execute: true, overrides: changes, ..Options::default() };
    let plain = evaluate(&tiny(), &accelerator, &options).unwrap();
    assert_eq!(report::title(&plain), "tiny on edge_16x16 with array.rows=32");
    let options = Options { label: Some("tall".into()), ..options };
    let labelled = evaluate(&tiny(), &accelerator, &options).unwrap();
    assert_eq!(report::title(&labelled), "tiny on edge_16x16 (tall)");
    assert_eq!(report::read_json(&report::json(&labelled)).unwrap(), labelled);
}

#[test]
fn expected_outputs_need_an_executed_run() {
    let accelerator = config::load("edge_16x16", &[]).unwrap();
    let options = Options { no_execute: true, expected: Some(Expected::default()), ..Options::default() };
    assert!(evaluate(&tiny(), &accelerator, &options).unwrap_err().to_string().contains("executed"));
}

/// Resident memory of this process in kB.
fn resident() -> u64 {
    let status = std::fs::read_to_string("/proc/self/status").unwrap();
    let line = status.lines().find(|line| line.starts_with("VmRSS")).unwrap();
    line.split_whitespace().nth(1).unwrap().parse().unwrap()
}

/// The other half of the next test: tests of one process share its memory.
#[test]
#[ignore = "run by another test, in a process of its own"]
fn a_thousand_calls_in_a_process_of_their_own() {
    let (evaluator, model, options) = (Evaluator::default(), tiny(), Options::default());
    let mut early = 0;
    for call in 0..1000_u32 {
        // A machine that comes back, and ever new ones.
        let change = if call.is_multiple_of(2) { 0 } else { call };
        let change = format!("dma.descriptor_cycles={change}");
        let accelerator = config::load("edge_16x16", &[change]).unwrap();
        let result = evaluator.evaluate(&model, &accelerator, &options, &mut Silent).unwrap();
        assert_eq!(result.verification.status, Status::BitExact);
        if call == 250 {
            early = resident();
        }
    }
    let late = resident();
    assert!(late < early + 4096, "{early} kB after 250 calls, {late} kB after 1,000");
}

#[test]
#[cfg(target_os = "linux")]
fn memory_is_flat_over_a_thousand_calls() {
    let child = Command::new(std::env::current_exe().unwrap())
        .args(["--exact", "facade::a_thousand_calls_in_a_process_of_their_own", "--ignored"])
        .output()
        .unwrap();
    let text = String::from_utf8_lossy(&child.stdout);
    assert!(child.status.success() && text.contains("1 passed"), "{text}");
}
