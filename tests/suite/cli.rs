//! The program as it is typed: exit status, text, files. Everything runs in a folder of its own on the small network.

use std::{
    fs,
    path::{Path, PathBuf},
    time::Duration,
};

use assert_cmd::{Command, assert::Assert, cargo::cargo_bin_cmd};
use ndarray_npy::NpzWriter;
use serde_json::Value;
use tempfile::TempDir;

/// Bad input is refused within a second or two; the rest is room for a busy machine and an unoptimized build.
const PATIENCE: Duration = Duration::from_secs(20);

fn models() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("models")
}

/// A folder with the small network in it.
fn folder() -> TempDir {
    let folder = tempfile::tempdir().unwrap();
    fs::copy(models().join("mnist_cnn.onnx"), folder.path().join("net.onnx")).unwrap();
    folder
}

/// `systole LINE` in a folder.
fn systole(folder: &TempDir, line: &str) -> Command {
    let mut command = cargo_bin_cmd!("systole");
    command.current_dir(folder.path()).timeout(PATIENCE).args(line.split_whitespace());
    command
}

fn stdout(assert: &Assert) -> String {
    String::from_utf8(assert.get_output().stdout.clone()).unwrap()
}

fn stderr(assert: &Assert) -> String {
    String::from_utf8(assert.get_output().stderr.clone()).unwrap()
}

/// Refused as the user's fault, in words: no panic, no path of this machine, no output. The words, without line breaks.
fn refused(folder: &TempDir, line: &str) -> String {
    let assert = systole(folder, line).assert().code(1);
    assert!(assert.get_output().stdout.is_empty(), "{line}");
    let text = stderr(&assert);
    let lower = text.to_lowercase();
    assert!(!text.trim().is_empty() && !lower.contains("panic") && !lower.contains("internal error"), "{line}: {text}");
    for path in [folder.path(), Path::new(env!("CARGO_MANIFEST_DIR"))] {
        assert!(!text.contains(&path.display().to_string()), "{line} names a path of this machine: {text}");
    }
    // Where a line breaks depends on the length of the folder's name.
    text.split_whitespace().filter(|word| *word != "│").collect::<Vec<_>>().join(" ")
}

/// An `.npz` file with the network's output, all of one value.
fn expectation(path: &Path, value: f32) {
    let mut file = NpzWriter::new(fs::File::create(path).unwrap());
    file.add_array("logits", &ndarray::Array2::from_elem((1, 10), value)).unwrap();
    file.finish().unwrap();
}

#[test]
fn a_run_is_bit_exact_and_fits_80_columns() {
    let folder = folder();
    let text = stdout(&systole(&folder, "run edge_16x16 net.onnx").assert().code(0));
    assert!(text.contains("bit exact") && text.contains("where the cycles go"), "{text}");
    assert!(text.lines().all(|line| line.chars().count() <= 80), "{text}");
}

#[test]
fn the_record_on_standard_output_has_the_documented_keys() {
    let folder = folder();
    fs::copy(models().join("mnist_calibrate.npz"), folder.path().join("data.npz")).unwrap();
    expectation(&folder.path().join("expect.npz"), 0.0);
    let line = "run edge_16x16 net.onnx --json --set control.issue_cycles=2";
    let record: Value = serde_json::from_str(&stdout(&systole(&folder, line).assert().code(0))).unwrap();
    for key in ["schema", "provenance", "machine", "totals", "layers", "engines", "verification"] {
        assert!(!record[key].is_null(), "{key}");
    }
    for key in ["expectation", "accuracy", "cpu"] {
        assert!(record.get(key).is_some_and(Value::is_null), "{key} was not asked for");
    }
    for key in [
        "cycles",
        "seconds",
        "macs",
        "array_macs",
        "vector_macs",
        "beats",
        "mapping_efficiency",
        "pipeline_efficiency",
        "array_activity",
        "array_utilization",
        "causes",
    ] {
        assert!(record["totals"].get(key).is_some(), "totals.{key}");
    }
    assert_eq!(record["verification"]["status"], "bit_exact");
    assert!(record["verification"]["compared"].as_u64().unwrap() > 10_000);
    assert_eq!(record["provenance"]["overrides"][0], "control.issue_cycles=2");
    // Layers partition the run, and causes a layer.
    let sum = |causes: &Value| causes.as_object().unwrap().values().map(|n| n.as_u64().unwrap()).sum::<u64>();
    let layers = record["layers"].as_array().unwrap();
    let mut total = 0;
    for layer in layers {
        let cycles = layer["cycles"].as_u64().unwrap();
        assert_eq!(sum(&layer["causes"]), cycles, "{layer}");
        total += cycles;
    }
    assert_eq!(record["totals"]["cycles"], total);
    assert_eq!(sum(&record["totals"]["causes"]), total);

    let line = "run edge_16x16 net.onnx --json --data data.npz --calibrate data.npz";
    let record: Value = serde_json::from_str(&stdout(&systole(&folder, line).assert().code(0))).unwrap();
    for key in ["float", "quantized", "accelerator"] {
        for score in ["top1", "top5", "loss"] {
            assert!(record["accuracy"][key][score].is_number(), "accuracy.{key}.{score}");
        }
    }
    assert_eq!(record["accuracy"]["quantized"], record["accuracy"]["accelerator"], "the same bits score the same");
    assert!(record["accuracy"]["accelerator"]["top1"].as_f64().unwrap() > 0.95);

    let line = "run edge_16x16 net.onnx --json --no-execute";
    let record: Value = serde_json::from_str(&stdout(&systole(&folder, line).assert().code(0))).unwrap();
    assert_eq!(record["verification"]["status"], "not_executed");
}

#[test]
fn wrong_expected_values_exit_with_2_and_a_large_tolerance_accepts_them() {
    let folder = folder();
    expectation(&folder.path().join("expect.npz"), 1e6);
    let text = stdout(&systole(&folder, "run edge_16x16 net.onnx --expect expect.npz").assert().code(2));
    assert!(text.contains("MISMATCH: 10 of 10"), "{text}");
    let line = "run edge_16x16 net.onnx --expect expect.npz --tolerance 1e7 --json";
    let record: Value = serde_json::from_str(&stdout(&systole(&folder, line).assert().code(0))).unwrap();
    assert_eq!(record["expectation"]["compared"], 10);
    assert_eq!(record["expectation"]["mismatches"], 0);
    assert!(record["expectation"]["max_abs_difference"].as_f64().unwrap() > 1e5);
}

#[test]
fn check_reports_every_fault_of_a_config_at_once() {
    let folder = folder();
    let good = stdout(&systole(&folder, "presets edge_16x16").assert().code(0));
    let bad = good.replacen("rows: 16", "rows: 0", 1).replacen("clock_mhz: 500.0", "clock_mhz: fast", 1).replacen(
        "residency: true",
        "residence: true",
        1,
    );
    fs::write(folder.path().join("bad.ron"), bad).unwrap();
    let text = refused(&folder, "check bad.ron");
    for part in ["array.rows", "array.clock_mhz", "`residency`", "bad.ron:", "3 errors"] {
        assert!(text.contains(part), "{part} is not in:\n{text}");
    }
    let text = refused(&folder, "check bad.ron missing.onnx");
    assert!(text.contains("missing.onnx") && text.contains("4 errors"), "{text}");
    fs::write(folder.path().join("good.ron"), good).unwrap();
    let text = stdout(&systole(&folder, "check good.ron net.onnx").assert().code(0));
    assert!(text.contains("edge_16x16") && text.contains("mnist_cnn"), "{text}");
    assert!(!text.contains("warning"), "{text}");
    let text = stdout(&systole(&folder, "check good.ron net.onnx --set accumulators.bits=8").assert().code(0));
    assert!(text.contains("warning: sums of") && text.contains("`accumulators.bits` 8"), "{text}");
}

#[test]
fn labels_name_runs_and_records_and_come_once_for_each() {
    let folder = folder();
    let line = "run edge_16x16 net.onnx --no-execute --label mine --out a";
    let text = stdout(&systole(&folder, line).assert().code(0));
    assert!(text.contains("mnist_cnn on edge_16x16 (mine)"), "{text}");
    let line = "report a/run.json a/run.json --label one --label two --out b";
    let text = stdout(&systole(&folder, line).assert().code(0));
    assert!(text.contains("edge_16x16 (one)") && text.contains("edge_16x16 (two)"), "{text}");
    assert!(folder.path().join("b/mnist_cnn_on_edge_16x16__one_").is_dir());
    let text = refused(&folder, "report a/run.json a/run.json --label one");
    assert!(text.contains("2 records have 1 labels"), "{text}");
}

#[test]
fn the_array_is_written_as_hardware_a_folder_a_dataflow() {
    let folder = folder();
    let sets = "--set array.rows=3 --set array.cols=5 --set array.dataflows=[WS,OS]";
    let text = stdout(&systole(&folder, &format!("rtl edge_16x16 -o hw {sets}")).assert().code(0));
    assert!(text.contains("hw/ws: systole_pkg.sv") && text.contains("no requantization stage"), "{text}");
    for (file, line) in [
        ("ws/systole_pkg.sv", "localparam int COLS = 5;"),
        ("ws/pe_stationary.sv", "module pe_stationary"),
        ("os/systole_top.sv", "module systole_top"),
        ("os/tb.sv", "module tb;"),
    ] {
        let path = folder.path().join("hw").join(file);
        let found = fs::read_to_string(&path).unwrap_or_else(|error| panic!("{}: {error}", path.display()));
        assert!(found.contains(line), "{file}");
    }
    assert!(folder.path().join("hw/os/vectors/random_0/streams.hex").is_file());
    assert!(!folder.path().join("hw/is").exists());
    let one = format!("rtl edge_16x16 -o one {sets} --dataflow OS --set vector.requantizer=FixedDouble31");
    let text = stdout(&systole(&folder, &one).assert().code(0));
    assert!(text.contains("requantize.sv") && !text.contains("one/ws"), "{text}");
    let text = refused(&folder, "rtl neuroncore_like -o float");
    assert!(text.contains("array.weight_type") && text.contains("integer multipliers"), "{text}");
    let text = refused(&folder, "rtl edge_16x16 -o none --dataflow IS");
    assert!(text.contains("`IS` is not one of the machine's dataflows"), "{text}");
    refused(&folder, "rtl edge_16x16");
}

#[test]
fn a_waveform_is_written_with_its_program_as_vectors() {
    let folder = folder();
    let sets = "--set array.rows=2 --set array.cols=2 --set array.weight_load.cycles=2";
    let text = stdout(&systole(&folder, &format!("wave edge_16x16 {sets} --vcd x.vcd --vectors v")).assert().code(0));
    assert!(text.contains("x.vcd: 2 x 2 elements, WS, ") && text.contains("v: the same program"), "{text}");
    let wave = fs::read_to_string(folder.path().join("x.vcd")).unwrap();
    assert!(wave.contains("$scope module g_row[1] $end") && wave.contains("#9\n"), "{wave}");
    assert!(folder.path().join("v/loads.hex").is_file());
    let text = refused(&folder, &format!("wave edge_16x16 {sets} --vcd none/x.vcd"));
    assert!(text.contains("none/x.vcd") && text.contains("give another file"), "{text}");
    let text = refused(&folder, "wave edge_16x16 --vcd x.vcd --beats 256 --tiles 26");
    assert!(text.contains("elements times cycles") && text.contains("fewer tiles or beats"), "{text}");
    let text = refused(&folder, "wave neuroncore_like --vcd x.vcd");
    assert!(text.contains("integer multipliers"), "{text}");
    refused(&folder, &format!("wave edge_16x16 {sets} --vectors v"));
}

#[test]
fn an_array_that_is_too_large_to_simulate_is_refused_before_it_is_compiled() {
    let text = refused(&folder(), "rtl edge_16x16 --check --set array.rows=128 --set array.cols=64");
    assert!(text.contains("8,192 elements") && text.contains("--set array.rows=16"), "{text}");
}

#[test]
fn a_comparison_without_verilator_says_what_to_install() {
    let folder = folder();
    let mut command = systole(&folder, "rtl edge_16x16 --check");
    let text =
        String::from_utf8(command.env("PATH", folder.path()).assert().code(1).get_output().stderr.clone()).unwrap();
    assert!(text.contains("cannot run `verilator`") && text.contains("apt-get install verilator"), "{text}");
}

#[test]
fn every_preset_is_listed_and_checks() {
    let folder = folder();
    let list = stdout(&systole(&folder, "presets").assert().code(0));
    let names: Vec<&str> = list.lines().filter_map(|line| line.split_whitespace().next()).collect();
    assert_eq!(names, ["edge_16x16", "edge_32x32", "gemmini_like", "tpu_v1_like", "neuroncore_like"]);
    for name in names {
        systole(&folder, &format!("check {name} net.onnx")).assert().code(0);
    }
    let text = refused(&folder, "presets edge_16x61");
    assert!(text.contains("`edge_16x16`"), "{text}");
}

#[test]
fn a_single_layer_is_mapped_and_its_program_printed() {
    let folder = folder();
    let whole = stdout(&systole(&folder, "map edge_16x16 net.onnx").assert().code(0));
    let one = stdout(&systole(&folder, "map edge_16x16 net.onnx --layer conv2").assert().code(0));
    assert!(one.starts_with("conv2 (Conv)") && one.lines().count() < whole.lines().count() / 4, "{one}");
    assert!(whole.contains(&one), "{one}");
    let program = stdout(&systole(&folder, "map edge_16x16 net.onnx --layer conv2 --program").assert().code(0));
    assert!(program.lines().count() > one.lines().count() + 20, "{program}");
    let text = refused(&folder, "map edge_16x16 net.onnx --layer conv22");
    assert!(text.contains("`conv22`") && text.contains("conv2,"), "{text}");
}

/// A small machine's mapping and program of a few layers, in full: tiles with and without padding, residency, fetches
/// ahead, waits.
#[test]
fn the_program_of_a_small_network_is_as_kept() {
    let folder = folder();
    let model = r#"(name: "tiny", input: (shape: [4, 6, 6], scale: 0.02, zero: 3), layers: [
        (name: "conv", op: Conv(out: 12, kernel: 3, pad: 1, activation: Relu), weight: 0.01, scale: 0.03),
        (name: "down", op: Conv(out: 12, kernel: 1, stride: 2), weight: 0.01, scale: 0.02, zero: 7),
        (name: "pool", op: GlobalAvgPool),
        (name: "flatten", op: Flatten),
        (name: "fc", op: FullyConnected(out: 5), weight: 0.01, scale: 0.05, zero: 100),
    ])"#;
    fs::write(folder.path().join("tiny.ron"), model).unwrap();
    let line = "map edge_16x16 tiny.ron --program --set array.rows=8 --set array.cols=8 --set array.weight_load.cycles=8 \
                --set buffers.layout.Shared.bytes=1024 --set accumulators.bytes=1024";
    insta::assert_snapshot!(stdout(&systole(&folder, line).assert().code(0)));
}

/// An output stationary array whose weight buffer is too small for all of K: sums stay in the elements.
#[test]
fn a_program_that_holds_sums_is_as_kept() {
    let folder = folder();
    let model = r#"(name: "tiny", input: (shape: [40], scale: 0.02, zero: 3), layers: [
        (name: "fc", op: FullyConnected(out: 8), weight: 0.01, scale: 0.05, zero: 100),
    ])"#;
    fs::write(folder.path().join("tiny.ron"), model).unwrap();
    let line = "map edge_16x16 tiny.ron --program --set array.rows=8 --set array.cols=8 --set array.dataflows=[OS] \
                --set buffers.layout=Split(input:(bytes:96),weight:(bytes:300),output:(bytes:64))";
    insta::assert_snapshot!(stdout(&systole(&folder, line).assert().code(0)));
}

#[test]
fn inspect_lists_layers_and_work() {
    let folder = folder();
    let text = stdout(&systole(&folder, "inspect net.onnx").assert().code(0));
    assert!(text.contains("block1_depthwise") && text.contains("BatchNorm"), "{text}");
    assert!(text.contains("2,088,368 MACs"), "{text}");
}

/// The files of a folder that must not depend on anything but the run.
fn contents(folder: &Path) -> Vec<(String, Vec<u8>)> {
    let mut files: Vec<_> = fs::read_dir(folder)
        .unwrap()
        .map(|entry| {
            let path = entry.unwrap().path();
            (path.file_name().unwrap().to_str().unwrap().to_owned(), fs::read(&path).unwrap())
        })
        .collect();
    files.sort();
    files
}

#[test]
fn one_and_two_threads_write_the_same_bytes_and_report_remakes_them() {
    let folder = folder();
    for (threads, out) in [(1, "one"), (2, "two")] {
        systole(&folder, &format!("run edge_32x32 net.onnx --threads {threads} --out {out}")).assert().code(0);
    }
    let one = contents(&folder.path().join("one"));
    let names: Vec<&str> = one.iter().map(|(name, _)| name.as_str()).collect();
    let expected = ["causes.png", "causes.svg", "layers.csv", "roofline.png", "roofline.svg", "run.json"];
    assert!(expected.iter().all(|name| names.contains(name)), "{names:?}");
    systole(&folder, "report one/run.json --out again").assert().code(0);
    for other in ["two", "again"] {
        let other_files = contents(&folder.path().join(other));
        assert_eq!(names, other_files.iter().map(|(name, _)| name.as_str()).collect::<Vec<_>>());
        for ((name, first), (_, second)) in one.iter().zip(&other_files) {
            assert!(first == second, "{other}/{name} differs");
        }
    }
}

#[test]
fn an_interrupted_or_refused_run_leaves_no_files() {
    let folder = folder();
    refused(&folder, "run edge_16x16 missing.onnx --out results");
    assert!(!folder.path().join("results").exists());
}

#[test]
fn what_is_no_model_is_refused() {
    let folder = folder();
    let at = |name: &str| folder.path().join(name);
    let whole = fs::read(at("net.onnx")).unwrap();
    fs::write(at("empty.onnx"), b"").unwrap();
    fs::write(at("half.onnx"), &whole[..whole.len() / 2]).unwrap();
    fs::write(at("start.onnx"), &whole[..40]).unwrap();
    fs::write(
        at("noise.onnx"),
        (0..4000_u32).map(|i| i.wrapping_mul(2_654_435_761).to_le_bytes()[2]).collect::<Vec<_>>(),
    )
    .unwrap();
    fs::create_dir(at("folder.onnx")).unwrap();
    fs::create_dir(at("folder")).unwrap();
    fs::write(at("deep.ron"), "(".repeat(30_000)).unwrap();
    fs::write(at("lists.ron"), format!("(name: \"x\", layers: {}", "[".repeat(30_000))).unwrap();
    fs::write(at("empty.ron"), "").unwrap();
    fs::write(at("text.txt"), "hello").unwrap();
    for name in [
        "empty.onnx",
        "half.onnx",
        "start.onnx",
        "noise.onnx",
        "folder.onnx",
        "folder",
        "deep.ron",
        "lists.ron",
        "empty.ron",
        "text.txt",
        "missing.onnx",
        "missing.ron",
    ] {
        for line in [format!("run edge_16x16 {name}"), format!("inspect {name}"), format!("map edge_16x16 {name}")] {
            let text = refused(&folder, &line);
            assert!(text.contains(name), "{line} does not name the file: {text}");
        }
    }
    assert!(refused(&folder, "run edge_16x16 folder").contains("is a folder"));
}

#[test]
fn a_model_with_changed_bytes_runs_or_is_refused() {
    let folder = folder();
    let whole = fs::read(folder.path().join("net.onnx")).unwrap();
    for step in 0..40_usize {
        // Mostly in the node list at the start, where the structure is.
        let at = if step % 2 == 0 { step * 37 } else { step * 2_801 } % whole.len();
        let mut changed = whole.clone();
        changed[at] ^= [0xff, 0x01, 0x80, 0x10][step % 4];
        fs::write(folder.path().join("changed.onnx"), changed).unwrap();
        let assert = systole(&folder, "run edge_16x16 changed.onnx --no-execute").assert();
        let output = assert.get_output();
        let text = String::from_utf8_lossy(&output.stderr).to_lowercase();
        assert!(matches!(output.status.code(), Some(0 | 1)), "byte {at}: {:?} {text}", output.status);
        assert!(!text.contains("panic"), "byte {at}: {text}");
    }
}

#[test]
fn what_is_no_config_is_refused() {
    let folder = folder();
    let at = |name: &str| folder.path().join(name);
    fs::write(at("deep.ron"), "(".repeat(30_000)).unwrap();
    fs::write(at("fields.ron"), "(array:".repeat(30_000)).unwrap();
    fs::write(at("empty.ron"), "").unwrap();
    fs::write(at("bytes.ron"), [0xff, 0xfe, 0x00]).unwrap();
    fs::create_dir(at("folder.ron")).unwrap();
    for name in ["deep.ron", "fields.ron", "empty.ron", "bytes.ron", "folder.ron", "missing.ron", "edge_61x16"] {
        for line in [format!("run {name} net.onnx"), format!("check {name}")] {
            refused(&folder, &line);
        }
    }
    for data in ["--data missing.npz", "--data empty.ron", "--expect folder.ron", "--calibrate net.onnx"] {
        refused(&folder, &format!("run edge_16x16 net.onnx {data}"));
    }
    for record in ["missing.json", "folder.ron", "empty.ron", "deep.ron", "net.onnx"] {
        refused(&folder, &format!("report {record} --out results"));
    }
}

/// Path, smallest and largest value of every number of a config, from the reference page, which is written from the table
/// that checks them.
fn ranges() -> Vec<(String, String, String)> {
    let page = fs::read_to_string(Path::new(env!("CARGO_MANIFEST_DIR")).join("docs/config.md")).unwrap();
    let mut found = Vec::new();
    for line in page.lines() {
        let cells: Vec<&str> = line.split(" | ").collect();
        let [name, range, ..] = cells.as_slice() else { continue };
        let Some(name) = name.strip_prefix("| `").and_then(|name| name.strip_suffix('`')) else { continue };
        let kind = ["an integer from ", "a number from ", "a power of two from "];
        let Some((low, high)) =
            kind.iter().find_map(|kind| range.strip_prefix(kind)).and_then(|rest| rest.split_once(" to "))
        else {
            continue;
        };
        let high = high.split(", or").next().unwrap().replace(',', "");
        // The preset has neither of these variants.
        if !name.contains("Split") && !name.contains("FixedMul") {
            found.push((name.replace('*', "0"), low.replace(',', ""), high));
        }
    }
    assert!(found.len() > 40, "{found:?}");
    found
}

#[test]
fn a_config_with_numbers_at_their_ends_runs_or_is_refused() {
    let folder = folder();
    let numbers = ranges();
    let try_values = |values: Vec<String>| {
        let mut command = systole(&folder, "run edge_16x16 net.onnx --no-execute");
        for value in &values {
            command.args(["--set", value]);
        }
        let assert = command.assert();
        let output = assert.get_output();
        let text = String::from_utf8_lossy(&output.stderr).to_lowercase();
        assert!(matches!(output.status.code(), Some(0 | 1)), "{values:?}: {:?} {text}", output.status);
        assert!(!text.contains("panic"), "{values:?}: {text}");
        output.status.code()
    };
    let all = |value: &dyn Fn(&(String, String, String)) -> String| {
        let known = numbers.iter().filter(|number| number.0 != "array.count");
        try_values(known.map(|number| format!("{}={}", number.0, value(number))).collect())
    };
    assert_eq!(all(&|_| "0".into()), Some(1), "all numbers at 0");
    assert_eq!(all(&|_| u64::MAX.to_string()), Some(1), "all numbers at 2^64 - 1");
    assert_eq!(all(&|number| number.2.clone()), Some(0), "all numbers at their maximum");
    all(&|number| number.1.clone());
    for (path, low, high) in &numbers {
        for value in [low, high, "0", "18446744073709551616", "-1", "nan", "1e400"] {
            try_values(vec![format!("{path}={value}")]);
        }
    }
}

/// An ONNX file of one operator on `x` of type 2 (uint8) or 6 (int32), written by hand: `MaxPool` of 2x2 on 1x1x4x4.
fn pool_of_integers(path: &Path, element: u8) {
    fn field(number: u8, content: &[u8]) -> Vec<u8> {
        let length = u8::try_from(content.len()).unwrap();
        assert!(length < 128);
        [&[number << 3 | 2, length], content].concat()
    }
    let value = |name: &str, rows: u8| {
        let dims = [1, 1, rows, rows].map(|dim| field(1, &[8, dim])).concat();
        let tensor = [&[8, element], field(2, &dims).as_slice()].concat();
        [field(1, name.as_bytes()), field(2, &field(1, &tensor))].concat()
    };
    // `kernel_shape` is of the type INTS, 7, in field 20.
    let kernel = [field(1, b"kernel_shape"), vec![0x40, 2, 0x40, 2, 0xa0, 1, 7]].concat();
    let node = [field(1, b"x"), field(2, b"y"), field(3, b"pool"), field(4, b"MaxPool"), field(5, &kernel)].concat();
    let graph = [field(1, &node), field(2, b"g"), field(11, &value("x", 4)), field(12, &value("y", 3))].concat();
    let model = [vec![8, 8], field(7, &graph), field(8, &[16, 13])].concat();
    fs::write(path, model).unwrap();
}

#[test]
fn integers_without_a_scale_are_pooled_as_they_are_or_refused_by_the_node_s_name() {
    let folder = folder();
    pool_of_integers(&folder.path().join("pool.onnx"), 2);
    let text = stdout(&systole(&folder, "run edge_16x16 pool.onnx").assert().code(0));
    assert!(text.contains("bit exact"), "{text}");
    pool_of_integers(&folder.path().join("wide.onnx"), 6);
    let text = refused(&folder, "run edge_16x16 wide.onnx");
    assert!(text.contains("node \"pool\"") && text.contains("MaxPool of Int32"), "{text}");
}

/// A layer list of one input and some layers.
fn layers(folder: &TempDir, input: &str, layers: &str) {
    let text = format!("(name: \"n\", input: (shape: {input}, scale: 0.02, zero: 100), layers: [{layers}])");
    fs::write(folder.path().join("list.ron"), text).unwrap();
}

#[test]
fn shapes_near_the_largest_are_bounded_at_once() {
    let folder = folder();
    let product = "weight: 0.01, scale: 0.02";
    for (input, list) in [
        ("[1, 32768, 32768]", "(name: \"a\", op: MaxPool(kernel: 3, pad: 1))".to_owned()),
        ("[1, 1, 1073741824]", "(name: \"a\", op: MaxPool(kernel: (1, 3), pad: (0, 1)))".to_owned()),
        ("[1, 1, 536870912]", format!("(name: \"a\", op: Conv(out: 1, kernel: 1), {product})")),
        ("[4, 16384, 16384]", format!("(name: \"a\", op: Conv(out: 4, kernel: 3, pad: 1), {product})")),
        ("[1, 1, 1]", format!("(name: \"a\", op: Conv(out: 1, kernel: 1, pad: 16000), {product})")),
        ("[1, 1, 1]", format!("(name: \"a\", op: Conv(out: 1, kernel: 67108864, pad: 33554432), {product})")),
        (
            "[16777216, 1, 1]",
            format!("(name: \"f\", op: Flatten), (name: \"a\", op: FullyConnected(out: 127), {product})"),
        ),
    ] {
        layers(&folder, input, &list);
        for machine in ["", "--set array.rows=1 --set array.cols=1 --set buffers.layout.Shared.bytes=512"] {
            for line in ["run edge_16x16 list.ron --fidelity bound --no-execute", "map edge_16x16 list.ron"] {
                let assert = systole(&folder, &format!("{line} {machine}")).assert();
                let output = assert.get_output();
                let text = String::from_utf8_lossy(&output.stderr);
                assert!(matches!(output.status.code(), Some(0 | 1)), "{input} {list} {machine}: {text}");
            }
        }
    }
}

#[test]
fn what_would_take_days_or_all_memory_is_refused_with_its_limit() {
    let folder = folder();
    layers(&folder, "[1, 32768, 32768]", "(name: \"a\", op: MaxPool(kernel: 3, pad: 1))");
    let tiny = "--set buffers.layout.Shared.bytes=512";
    for line in ["run edge_16x16 list.ron --no-execute", "map edge_16x16 list.ron --program"] {
        assert!(refused(&folder, &format!("{line} {tiny}")).contains("buffer tiles of the program"), "{line}");
    }
    assert!(refused(&folder, "run edge_16x16 list.ron").contains("elements of the tensors to execute on"));
    layers(&folder, "[1, 16384, 16384]", "(name: \"a\", op: MaxPool(kernel: 256))");
    assert!(refused(&folder, "run edge_16x16 list.ron").contains("operations to execute"));
    layers(
        &folder,
        "[1, 1, 1]",
        "(name: \"f\", op: Flatten), (name: \"a\", op: FullyConnected(out: 16777216), weight: 0.01, scale: 0.02)",
    );
    assert!(refused(&folder, "inspect list.ron").contains("more than 4194304"));
    let large = "--set accumulators.bytes=1073741824 --set accumulators.bits=8";
    assert!(refused(&folder, &format!("run edge_16x16 net.onnx {large}")).contains("the memory images take"));
}

#[test]
fn a_closed_form_beyond_the_timebase_is_refused() {
    let folder = folder();
    layers(
        &folder,
        "[4, 16384, 16384]",
        "(name: \"a\", op: Conv(out: 4, kernel: 3, pad: 1), weight: 0.01, scale: 0.02)",
    );
    let slow = "--set array.rows=1 --set array.cols=1 --set array.clock_mhz=1";
    for line in ["run edge_16x16 list.ron --fidelity bound --no-execute", "map edge_16x16 list.ron"] {
        assert!(refused(&folder, &format!("{line} {slow}")).contains("five hours"), "{line}");
    }
}

#[test]
fn a_memory_trace_has_a_row_for_each_burst() {
    let folder = folder();
    let line = "run edge_16x16 net.onnx --requantize --no-execute --json --memory-trace trace.csv";
    let run: Value = serde_json::from_str(&stdout(&systole(&folder, line).assert().success())).unwrap();
    let text = fs::read_to_string(folder.path().join("trace.csv")).unwrap();
    let mut rows = text.lines();
    assert_eq!(rows.next(), Some("time_fs,address,bytes,access,memory,engine"));
    let (mut before, mut moved, mut written) = (0, 0, 0);
    for row in rows {
        let cells: Vec<&str> = row.split(',').collect();
        let [time, address, bytes] = [0, 1, 2].map(|at| cells[at].parse::<u64>().unwrap());
        assert!(time >= before && address.is_multiple_of(bytes), "{row}");
        before = time;
        moved += bytes;
        written += u64::from(cells[3] == "write");
    }
    assert_eq!(Some(moved), run["memories"][0]["moved_bytes"].as_u64());
    assert!(written > 0);
    assert!(refused(&folder, &format!("{line} --fidelity bound")).contains("leave out `--fidelity bound`"));
    assert!(refused(&folder, &line.replace("trace.csv", "no/trace.csv")).contains("no/trace.csv"));
}
