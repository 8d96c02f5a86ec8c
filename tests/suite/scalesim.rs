//! SCALE-Sim's files through the program: its reports, its topologies, and our own engine on the machine that stands
//! closest to its config.

use std::{
    env, fs,
    path::{Path, PathBuf},
    time::Duration,
};

use assert_cmd::{assert::Assert, cargo::cargo_bin_cmd};
use systole::{
    config::{self, scalesim::ScaleSimConfig},
    diag::{Silent, Source},
    import::scalesim::{self as import, Convolution, Topology},
    pipeline, scalesim,
};
use tempfile::TempDir;

const CONFIG: &str = "[general]\nrun_name = a_run\n[architecture_presets]\nArrayHeight: 8\nArrayWidth: 16\n\
    IfmapSramSzkB: 1\nFilterSramSzkB: 1\nOfmapSramSzkB: 1\nDataflow: os\nBandwidth: 10\n\
    [run_presets]\nInterfaceBandwidth: CALC\n";

/// SCALE-Sim's own output for the two layers below on the config above, file by file.
const TOPOLOGY: &str = "Layer name, IFMAP Height, IFMAP Width, Filter Height, Filter Width, Channels, Num Filter, Strides,\n\
    Conv A,8,8,3,3,4,10,1,\nConv2,9,7,3,2,4,70,2,\n";
const COMPUTE: &str = "LayerID, Total Cycles (incl. prefetch), Total Cycles, Stall Cycles, Overall Util %, Mapping \
    Efficiency %, Compute Util %,\n\
    0, 347, 289, 0, 35.034602076124564, 56.25, 34.91379310344828,\n\
    1, 515, 459, 0, 45.751633986928105, 87.5, 45.652173913043484,\n";
const BANDWIDTH: &str = "LayerID, Avg IFMAP SRAM BW, Avg FILTER SRAM BW, Avg OFMAP SRAM BW, Avg IFMAP DRAM BW, Avg FILTER \
    DRAM BW, Avg OFMAP DRAM BW,\n\
    0, 4.484429065743945, 6.228373702422146, 1.6608996539792387, 9.846153846153847, 10.0, 15.652173913043478,\n\
    1, 4.183006535947713, 7.3202614379084965, 2.962962962962963, 9.692307692307692, 4.861678004535148, 4.382239382239383,\n";
const ACCESSES: &str = "\
    0, 1.0, 271.0, 1296, 1.0, 277.0, 1800, 35.0, 283.0, 480, -26.0, -1.0, 256, -36.0, -1.0, 360, 289.0, 311.0, 360,\n\
    1, 1.0, 444.0, 1920, 1.0, 443.0, 3360, 23.0, 449.0, 1360, -26.0, -1.0, 252, -50.0, 390.0, 2144, 207.0, 465.0, 1135,\n";

fn folder(config: &str, topology: &str) -> TempDir {
    let folder = tempfile::tempdir().unwrap();
    fs::write(folder.path().join("x.cfg"), config).unwrap();
    fs::write(folder.path().join("y.csv"), topology).unwrap();
    folder
}

fn systole(folder: &TempDir, line: &str) -> Assert {
    let mut command = cargo_bin_cmd!("systole");
    command.current_dir(folder.path()).timeout(Duration::from_secs(60)).args(line.split_whitespace()).assert()
}

fn texts(assert: &Assert) -> (String, String) {
    let output = assert.get_output();
    (String::from_utf8(output.stdout.clone()).unwrap(), String::from_utf8(output.stderr.clone()).unwrap())
}

fn read(folder: &TempDir, report: &str) -> String {
    fs::read_to_string(folder.path().join("out/a_run").join(report)).unwrap()
}

#[test]
fn the_three_reports_are_its_own_byte_for_byte() {
    let folder = folder(CONFIG, TOPOLOGY);
    let (out, err) = texts(&systole(&folder, "scalesim --config x.cfg --topology y.csv -o out").success());
    assert!(out.starts_with("CALC mode: ") && err.is_empty(), "{out}{err}");
    assert_eq!(read(&folder, "COMPUTE_REPORT.csv"), COMPUTE);
    assert_eq!(read(&folder, "BANDWIDTH_REPORT.csv"), BANDWIDTH);
    let accesses = read(&folder, "DETAILED_ACCESS_REPORT.csv");
    let (heading, rows) = accesses.split_once('\n').unwrap();
    assert_eq!(rows, ACCESSES);
    assert!(
        heading.starts_with("LayerID, SRAM IFMAP Start Cycle, SRAM IFMAP Stop Cycle, SRAM IFMAP Reads, SRAM Filter ")
    );
    assert!(heading.ends_with(" DRAM OFMAP Start Cycle, DRAM OFMAP Stop Cycle, DRAM OFMAP Writes,"), "{heading}");
    assert_eq!(fs::read_dir(folder.path().join("out/a_run")).unwrap().count(), 3);
}

#[test]
fn a_bad_row_is_named_and_the_rest_goes_on() {
    let folder = folder(CONFIG, &TOPOLOGY.replace("Conv2,", "bad,1,1,1,x,1,1,1,\nConv2,"));
    let (out, err) = texts(&systole(&folder, "scalesim -c x.cfg -t y.csv -o out").success());
    assert!(err.contains("y.csv:3:1: filter width is a whole number from 1 to 2^31: `x`"), "{err}");
    assert!(out.contains("2 layers; wrote 3 reports"), "{out}");
    assert_eq!(read(&folder, "COMPUTE_REPORT.csv"), COMPUTE);
    // The same row, left out of a run.
    let (out, err) = texts(&systole(&folder, "run x.cfg y.csv").success());
    assert!(err.contains("y.csv:3:1: filter width"), "{err}");
    assert!(out.contains("bit exact"), "{out}");
}

#[test]
fn a_layer_that_is_too_large_is_named_and_keeps_its_number() {
    let folder = folder(CONFIG, &TOPOLOGY.replace("Conv2,", "huge,65536,65536,3,3,3,1,1,\nConv2,"));
    let (_, err) = texts(&systole(&folder, "scalesim -c x.cfg -t y.csv -o out").success());
    assert!(err.contains("line 3: layer `huge` is left out: too large"), "{err}");
    assert_eq!(read(&folder, "COMPUTE_REPORT.csv"), COMPUTE.replace("\n1,", "\n2,"));
}

#[test]
fn user_mode_is_answered_by_our_engine_and_says_so() {
    let folder = folder(&CONFIG.replace("CALC", "USER"), TOPOLOGY);
    let (out, _) = texts(&systole(&folder, "scalesim -c x.cfg -t y.csv -o out").success());
    assert!(
        out.starts_with("USER mode: answered by Systole's own engine and memory model, not by SCALE-Sim's"),
        "{out}"
    );
    let compute = read(&folder, "COMPUTE_REPORT.csv");
    assert_eq!(compute.lines().count(), 3);
    assert!(compute.starts_with(COMPUTE.lines().next().unwrap()));
    assert_ne!(compute, COMPUTE);
}

#[test]
fn products_are_asked_for_and_told_apart() {
    let folder = folder(CONFIG, "Layer,M,N,K,\nL0,10,12,20,\nL1,40,50,33,\n");
    systole(&folder, "scalesim -c x.cfg -t y.csv --gemm -o out").success();
    let rows = "0, 114, 83, 0, 22.59036144578313, 46.875, 22.321428571428573,\n\
                1, 1178, 1099, 0, 46.91765241128299, 78.125, 46.87499999999997,\n";
    assert!(read(&folder, "COMPUTE_REPORT.csv").ends_with(rows));
    systole(&folder, "scalesim -c x.cfg -t y.csv -o out").code(1);
    let (out, _) = texts(&systole(&folder, "run x.cfg y.csv").success());
    assert!(out.contains("bit exact"), "{out}");
}

#[test]
fn hostile_files_are_refused_in_words() {
    let long = format!("Layer,{}", "1,".repeat(1 << 20));
    let up = CONFIG.replace("a_run", "../../up");
    let cases = [
        (CONFIG, "", "no row of the topology can be read"),
        (CONFIG, long.as_str(), "no row of the topology can be read"),
        ("", TOPOLOGY, "`ArrayHeight` of section"),
        (up.as_str(), TOPOLOGY, "`run_name` is a folder's name"),
    ];
    for (config, topology, message) in cases {
        let folder = folder(config, topology);
        let (out, err) = texts(&systole(&folder, "scalesim -c x.cfg -t y.csv -o out").code(1));
        let words: Vec<&str> = err.split_whitespace().filter(|word| *word != "│").collect();
        assert!(out.is_empty() && words.join(" ").contains(message), "{message}: {err}");
        assert!(err.len() < 4000, "{} bytes", err.len());
    }
    let folder = folder(CONFIG, TOPOLOGY);
    systole(&folder, "scalesim -c x.cfg -t . -o out").code(1);
    systole(&folder, "scalesim -c none.cfg -t y.csv -o out").code(1);
    systole(&folder, "scalesim -c x.cfg -t y.csv -o y.csv").code(1);
}

fn config(dataflow: &str, rows: u64, cols: u64) -> (ScaleSimConfig, config::Accelerator) {
    let text = CONFIG
        .replace("Height: 8", &format!("Height: {rows}"))
        .replace("Width: 16", &format!("Width: {cols}"))
        .replace("zkB: 1\n", "zkB: 256\n")
        .replace("Dataflow: os", &format!("Dataflow: {dataflow}"));
    let source = Source { name: "x.cfg".to_owned(), text: text.into() };
    let (config, _) = config::scalesim::parse(&source).unwrap();
    let machine = Source { name: "machine".to_owned(), text: config.machine().into() };
    (config, config::load_source(&machine, &[]).unwrap())
}

fn one(convolution: Convolution) -> Topology {
    let layer = import::Layer { name: "layer".to_owned(), line: 2, convolution };
    Topology { form: import::Form::Convolutions, layers: vec![layer], findings: Vec::new(), text: String::new() }
}

#[test]
fn its_ws_and_is_cycles_are_our_array_s_busy_time_less_one() {
    let layers = [
        Convolution { ifmap: [9, 8], filter: [3, 3], channels: 5, filters: 37, stride: 1 },
        Convolution { ifmap: [11, 11], filter: [3, 3], channels: 7, filters: 9, stride: 2 },
        Convolution { ifmap: [13, 1], filter: [1, 1], channels: 70, filters: 50, stride: 1 },
        Convolution { ifmap: [4, 4], filter: [4, 4], channels: 3, filters: 5, stride: 1 },
        Convolution { ifmap: [20, 20], filter: [1, 1], channels: 3, filters: 3, stride: 1 },
    ];
    let (mut equal, mut cut) = (0, 0);
    for dataflow in ["ws", "is"] {
        for [rows, cols] in [[8, 16], [4, 4], [16, 3], [1, 5]] {
            let (config, machine) = config(dataflow, rows, cols);
            for layer in layers {
                let theirs = scalesim::calc(&config, &layer).unwrap().total;
                let own = pipeline::scalesim_own(&machine, &one(layer), &mut Silent).pop().unwrap().unwrap();
                let more = own.array_busy - 1 - theirs;
                if more == 0 {
                    equal += 1;
                } else {
                    // The mapping may cut the pixels of a layer so that requantization begins sooner. A cut through a
                    // stream loads, fills and drains once more; a cut of stationary inputs is one more fold.
                    let again = 2 * rows + cols - 2 + if dataflow == "is" { layer.filters } else { 0 };
                    assert_eq!(more % again, 0, "{dataflow} {rows}x{cols} {layer:?}");
                    cut += 1;
                }
            }
        }
    }
    assert!(equal >= 3 * cut, "{equal} equal, {cut} cut");
}

#[test]
fn the_terms_of_a_difference_add_up_and_are_what_they_say() {
    let even = Convolution { ifmap: [9, 8], filter: [3, 3], channels: 5, filters: 37, stride: 1 };
    let uneven = Convolution { ifmap: [10, 8], filter: [3, 3], channels: 5, filters: 37, stride: 2 };
    for dataflow in ["os", "ws", "is"] {
        let (config, machine) = config(dataflow, 8, 16);
        for layer in [even, uneven] {
            let own = pipeline::scalesim_own(&machine, &one(layer), &mut Silent).pop().unwrap().unwrap();
            let it = pipeline::Difference::of(&config, &layer, &own).unwrap();
            assert_eq!(it.theirs + it.off_by_one + it.outputs + it.drain + it.folds + it.idle, it.ours);
            assert_eq!(it.ours, i64::try_from(own.cycles).unwrap());
            assert_eq!(it.outputs != 0, layer == uneven, "{dataflow} {it:?}");
            assert_eq!(it.drain != 0, dataflow == "os", "{dataflow} {it:?}");
            assert!(it.idle > 0, "{dataflow} {it:?}");
            if dataflow != "os" {
                assert_eq!(it.folds, 0, "{dataflow} {it:?}");
            }
        }
    }
    let folder = folder(CONFIG, TOPOLOGY);
    let (out, _) = texts(&systole(&folder, "scalesim -c x.cfg -t y.csv -o out --explain").success());
    for part in ["SCALE-Sim", "= ours", "Conv A", "+1: ", "drain: ", "idle: ", "our cycles by cause: "] {
        assert!(out.contains(part), "{part}: {out}");
    }
    // Which does not change what is reported.
    assert_eq!(read(&folder, "COMPUTE_REPORT.csv"), COMPUTE);
}

/// SCALE-Sim's own files, which are not ours to ship.
fn shipped() -> Option<PathBuf> {
    let beside = Path::new(env!("CARGO_MANIFEST_DIR")).join("../shared/data/scalesim");
    let folder = env::var_os("SYSTOLE_SCALESIM_DATA").map_or(beside, PathBuf::from);
    if folder.join("topologies").is_dir() {
        return Some(folder);
    }
    eprintln!("SKIPPED: SCALE-Sim's topologies and configs are not here: set SYSTOLE_SCALESIM_DATA to their folder");
    None
}

fn files(folder: &Path, extension: &str) -> Vec<PathBuf> {
    let mut found = Vec::new();
    for entry in fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            found.extend(files(&path, extension));
        } else if path.extension().is_some_and(|it| it == extension) {
            found.push(path);
        }
    }
    found.sort();
    found
}

#[test]
fn every_shipped_topology_is_read_and_bad_rows_are_named() {
    let Some(folder) = shipped() else { return };
    let paths = files(&folder.join("topologies"), "csv");
    assert_eq!(paths.len(), 131);
    let (mut layers, mut bad, mut unreadable) = (0, 0, Vec::new());
    for path in &paths {
        let name = path.strip_prefix(&folder).unwrap().display().to_string();
        match import::read(path, None) {
            Ok(topology) => {
                let rows = fs::read(path).unwrap();
                let filled = String::from_utf8_lossy(&rows)
                    .lines()
                    .skip(1)
                    .filter(|line| line.split(',').any(|field| !field.trim().is_empty()))
                    .count();
                let named = topology
                    .findings
                    .iter()
                    .filter(|it| it.help.as_deref().unwrap_or("").contains("row is left"))
                    .count();
                assert_eq!(topology.layers.len() + named, filled, "{name}");
                layers += topology.layers.len();
                bad += named;
            }
            Err(faults) => {
                assert!(faults.to_string().contains("no row of the topology can be read"), "{name}: {faults}");
                unreadable.push(name);
            }
        }
    }
    // Tabs for commas, and two of sizes that are letters.
    let expected = ["CSV/LSTM.csv", "conv_nets/UNet_maestro.csv", "rnn_eval/LSTM_template.csv"];
    let expected: Vec<String> = expected.iter().map(|name| format!("topologies/{name}")).collect();
    assert_eq!(unreadable, expected);
    assert!(layers > 5000 && bad < 60, "{layers} layers, {bad} bad rows");
}

#[test]
fn every_shipped_config_is_read_and_makes_a_machine() {
    let Some(folder) = shipped() else { return };
    let paths = files(&folder.join("configs"), "cfg");
    assert!(paths.len() >= 13);
    for path in paths {
        let path = path.display().to_string();
        config::load_scalesim(&path).unwrap_or_else(|faults| panic!("{faults}"));
        config::load(&path, &[]).unwrap_or_else(|faults| panic!("{faults}"));
    }
}
