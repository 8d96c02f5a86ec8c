//! Every figure of `docs/metrics.md` that is made from others, made again here from the record's raw numbers by its
//! documented formula. A key of the record is either raw or has a formula below: one that is neither fails the test.

use std::{collections::BTreeSet, path::Path};

use assert_cmd::Command;
use serde_json::Value;

/// A record as the command line prints it.
fn record(arguments: &[&str]) -> Value {
    let output = Command::cargo_bin("systole")
        .unwrap()
        .current_dir(Path::new(env!("CARGO_MANIFEST_DIR")))
        .args(["run", "--json"])
        .args(arguments)
        .output()
        .unwrap();
    assert!(output.status.success(), "{arguments:?}: {}", String::from_utf8_lossy(&output.stderr));
    serde_json::from_slice(&output.stdout).unwrap()
}

/// A number by its path: `traffic.moved_bytes`.
fn number(row: &Value, path: &str) -> f64 {
    let value = path.split('.').fold(row, |value, key| &value[key]);
    value.as_f64().unwrap_or_else(|| panic!("{path} is no number: {value}"))
}

/// A share or a rate; of nothing it is 0.
fn over(part: f64, whole: f64) -> f64 {
    if whole == 0.0 { 0.0 } else { part / whole }
}

/// A formula over a row and the record that it stands in.
type Formula = fn(&Value, &Value) -> f64;

/// Cycles a second of the array: its period is a whole number of femtoseconds.
fn clock(run: &Value) -> f64 {
    1e15 / (1e9 / number(run, "machine.clock_mhz")).round()
}

fn cells(run: &Value) -> f64 {
    number(run, "machine.rows") * number(run, "machine.cols")
}

/// The row of the memory space that holds the activations; at `bound` fidelity there is none.
fn activations(run: &Value) -> Option<&Value> {
    run["memories"].as_array().unwrap().iter().find(|row| row["name"] == run["machine"]["memory"])
}

fn sum(run: &Value, path: &str) -> f64 {
    run["layers"].as_array().unwrap().iter().map(|row| number(row, path)).sum()
}

/// Raw keys and formulas of one kind of row.
struct Kind {
    raw: &'static [&'static str],
    formulas: &'static [(&'static str, Formula)],
}

const MACHINE: Kind = Kind {
    raw: &["rows", "cols", "arrays", "clock_mhz", "peak_bandwidth_gb_per_s", "memory", "first_out_latency"],
    formulas: &[("peak_macs_per_s", |_, run| {
        cells(run) * number(run, "machine.arrays") * number(run, "machine.clock_mhz") * 1e6
    })],
};

const TOTALS: Kind = Kind {
    raw: &["bound_by", "compulsory_bytes", "causes", "traffic"],
    formulas: &[
        ("cycles", |_, run| sum(run, "cycles")),
        ("seconds", |row, run| number(row, "cycles") / clock(run)),
        ("samples_per_s", |row, run| over(number(run, "provenance.batch"), number(row, "cycles") / clock(run))),
        ("macs", |_, run| sum(run, "macs")),
        ("array_macs", |_, run| sum(run, "array_macs")),
        ("vector_macs", |_, run| sum(run, "vector_macs")),
        ("host_macs", |_, run| {
            let rows = run["layers"].as_array().unwrap();
            rows.iter().filter(|row| row["runs_on"] == "host").map(|row| number(row, "macs")).sum()
        }),
        ("beats", |_, run| sum(run, "beats")),
        ("array_busy", |_, run| sum(run, "array_busy")),
        ("mapping_efficiency", |row, run| over(number(row, "array_macs"), number(row, "beats") * cells(run))),
        ("pipeline_efficiency", |row, _| over(number(row, "beats"), number(row, "array_busy"))),
        ("array_activity", |row, run| {
            over(number(row, "array_busy"), number(row, "cycles") * number(run, "machine.arrays"))
        }),
        ("array_utilization", |row, run| {
            over(number(row, "array_macs"), number(row, "cycles") * cells(run) * number(run, "machine.arrays"))
        }),
        ("average_bandwidth_gb_per_s", |row, run| {
            let moved = activations(run)
                .map_or_else(|| number(row, "traffic.moved_bytes"), |memory| number(memory, "moved_bytes"));
            over(moved, number(row, "cycles") / clock(run)) / 1e9
        }),
        ("peak_bandwidth_gb_per_s", |_, run| {
            activations(run).map_or(0.0, |row| number(row, "peak_bandwidth_gb_per_s"))
        }),
        ("p95_bandwidth_gb_per_s", |_, run| activations(run).map_or(0.0, |row| number(row, "p95_bandwidth_gb_per_s"))),
        ("memory_efficiency", |row, run| {
            let moved = activations(run)
                .map_or_else(|| number(row, "traffic.moved_bytes"), |memory| number(memory, "moved_bytes"));
            over(moved, number(row, "cycles") / clock(run)) / 1e9 / number(run, "machine.peak_bandwidth_gb_per_s")
        }),
    ],
};

const LAYER: Kind = Kind {
    raw: &[
        "name",
        "op",
        "runs_on",
        "dataflow",
        "span",
        "bound",
        "macs",
        "array_macs",
        "vector_macs",
        "beats",
        "array_busy",
        "traffic",
        "compulsory_bytes",
        "causes",
        "mapping",
        "may_overflow",
        "overflows",
    ],
    formulas: &[
        ("cycles", |row, _| row["causes"].as_object().unwrap().values().map(|cycles| cycles.as_f64().unwrap()).sum()),
        ("mapping_efficiency", |row, run| over(number(row, "array_macs"), number(row, "beats") * cells(run))),
        ("pipeline_efficiency", |row, _| over(number(row, "beats"), number(row, "array_busy"))),
        ("array_activity", |row, run| {
            over(number(row, "array_busy"), number(row, "span") * number(run, "machine.arrays"))
        }),
        ("array_utilization", |row, run| {
            over(number(row, "array_macs"), number(row, "span") * cells(run) * number(run, "machine.arrays"))
        }),
        ("average_bandwidth_gb_per_s", |row, run| {
            over(number(row, "traffic.moved_bytes"), number(row, "span") / clock(run)) / 1e9
        }),
    ],
};

const ENGINE: Kind = Kind { raw: &["name", "busy", "waiting", "instructions"], formulas: &[] };

const MEMORY: Kind = Kind {
    raw: &[
        "name",
        "pins_gb_per_s",
        "read_bytes",
        "written_bytes",
        "moved_bytes",
        "p95_bandwidth_gb_per_s",
        "peak_bandwidth_gb_per_s",
    ],
    formulas: &[
        ("average_bandwidth_gb_per_s", |row, run| {
            over(number(row, "moved_bytes"), number(run, "totals.cycles") / clock(run)) / 1e9
        }),
        ("efficiency", |row, run| {
            over(number(row, "moved_bytes"), number(run, "totals.cycles") / clock(run))
                / 1e9
                / number(row, "pins_gb_per_s")
        }),
    ],
};

const BUFFER: Kind =
    Kind { raw: &["name", "capacity_bytes", "peak_bytes", "read_bytes", "written_bytes"], formulas: &[] };

/// Holds a row to its formulas, and its keys to the list.
fn hold(name: &str, row: &Value, run: &Value, kind: &Kind, bound: bool) {
    let keys: BTreeSet<&str> = row.as_object().unwrap().keys().map(String::as_str).collect();
    let known: BTreeSet<&str> = kind.raw.iter().copied().chain(kind.formulas.iter().map(|&(key, _)| key)).collect();
    assert_eq!(keys, known, "{name}: each key is raw or has a formula");
    for &(key, formula) in kind.formulas {
        let (shown, made) = (number(row, key), formula(row, run));
        assert!(
            (shown - made).abs() <= 1e-9 * made.abs().max(1e-12),
            "{name}: {key} is {shown}, by its formula {made}"
        );
    }
    for share in ["mapping_efficiency", "pipeline_efficiency", "array_activity", "array_utilization"] {
        if keys.contains(share) {
            assert!((0.0..=1.0 + 1e-9).contains(&number(row, share)), "{name}: {share} is {}", row[share]);
        }
    }
    if !bound && keys.contains("span") {
        assert!(number(row, "bound") <= number(row, "span"), "{name}: bound above span");
    }
}

fn hold_record(run: &Value) {
    let bound = run["provenance"]["fidelity"] == "bound";
    hold("machine", &run["machine"], run, &MACHINE, bound);
    hold("totals", &run["totals"], run, &TOTALS, bound);
    let totals = &run["totals"];
    let causes = totals["causes"].as_object().unwrap();
    for cause in causes.keys() {
        let path = format!("causes.{cause}");
        assert!((number(totals, &path) - sum(run, &path)).abs() < 0.5, "{path} of the totals is not the layers' sum");
    }
    let all: f64 = causes.values().map(|cycles| cycles.as_f64().unwrap()).sum();
    assert!((all - number(totals, "cycles")).abs() < 0.5, "causes of the totals: {all}");
    for key in ["input_bytes", "weight_bytes", "output_bytes", "moved_bytes"] {
        let path = format!("traffic.{key}");
        assert!((number(totals, &path) - sum(run, &path)).abs() < 0.5, "{path} of the totals is not the layers' sum");
    }
    let rows = |key: &str| run[key].as_array().unwrap();
    let (mut inside, mut layers) = (0, 0);
    for row in rows("layers") {
        hold(&format!("layer {}", row["name"]), row, run, &LAYER, bound);
        layers += 1;
        inside += usize::from(number(row, "average_bandwidth_gb_per_s") > 0.0);
    }
    assert!(layers > 3 && inside > 1, "too little to judge by: {layers} layers, {inside} with traffic");
    for row in rows("engines") {
        hold(&format!("engine {}", row["name"]), row, run, &ENGINE, bound);
        assert!(number(row, "busy") + number(row, "waiting") <= number(totals, "cycles"), "{row}");
    }
    let mut moved = 0.0;
    for row in rows("memories") {
        hold(&format!("memory {}", row["name"]), row, run, &MEMORY, bound);
        assert!(number(row, "p95_bandwidth_gb_per_s") <= number(row, "peak_bandwidth_gb_per_s"), "{row}");
        assert!(number(row, "peak_bandwidth_gb_per_s") <= number(row, "pins_gb_per_s") * (1.0 + 1e-9), "{row}");
        assert!(number(row, "read_bytes") + number(row, "written_bytes") <= number(row, "moved_bytes"), "{row}");
        moved += number(row, "moved_bytes");
    }
    assert!(bound || (moved - number(totals, "traffic.moved_bytes")).abs() < 0.5, "moved by memories: {moved}");
    for row in rows("buffers") {
        hold(&format!("buffer {}", row["name"]), row, run, &BUFFER, bound);
        assert!(number(row, "peak_bytes") <= number(row, "capacity_bytes"), "{row}");
        assert_eq!(row["read_bytes"].is_null(), bound, "{row}");
    }
}

#[test]
fn every_figure_is_what_its_documented_formula_gives() {
    let mnist = "models/mnist_cnn.onnx";
    let mobilenet = "models/mobilenet_v2.ron";
    for arguments in [
        &["edge_16x16", mnist][..],
        &["edge_32x32", mnist, "--batch", "3", "--no-execute"],
        &["edge_16x16", mnist, "--no-execute", "--set", "depthwise=Host"],
        &["edge_16x16", mnist, "--no-execute", "--set", "vector.clock_mhz=333"],
        &["gemmini_like", mobilenet, "--no-execute", "--requantize"],
        &["tpu_v1_like", mobilenet, "--no-execute", "--requantize"],
        &["edge_32x32", mobilenet, "--fidelity", "bound", "--no-execute"],
    ] {
        hold_record(&record(arguments));
    }
}

#[test]
fn the_measured_cpu_is_compared_with_the_machine_as_documented() {
    let run = record(&["edge_16x16", "models/mnist_cnn.onnx", "--cpu-time"]);
    let (cpu, seconds) = (number(&run, "cpu.seconds"), number(&run, "totals.seconds"));
    assert!(cpu > 0.0 && seconds > 0.0);
    assert!((number(&run, "cpu.accelerator_speedup") / (cpu / seconds) - 1.0).abs() < 1e-9);
}
