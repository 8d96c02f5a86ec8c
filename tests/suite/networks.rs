//! The shipped networks on the shipped machines, through the facade: what the record promises holds for every layer.

use std::path::Path;

use systole::{
    config,
    pipeline::{Failure, Options, evaluate, load_model},
    result::{Fidelity, RunResult, Status},
};

const NETWORKS: [&str; 5] = ["resnet50", "vgg16", "mobilenet_v2", "alexnet", "googlenet"];
const MACHINES: [&str; 4] = ["edge_16x16", "edge_32x32", "gemmini_like", "tpu_v1_like"];

/// Two of the machines have neither zero points nor scales for each channel.
fn options(execute: bool) -> Options {
    Options { requantize: true, no_execute: !execute, ..Options::default() }
}

fn run(machine: &str, network: &str, options: &Options) -> Result<RunResult, Failure> {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("models").join(format!("{network}.ron"));
    evaluate(&load_model(&path, None)?, &config::load(machine, &[])?, options)
}

fn close(a: f64, b: f64) -> bool {
    (a - b).abs() <= 1e-9 * a.abs().max(b.abs()).max(1e-12)
}

/// What holds for every record of a timed run.
pub fn check(result: &RunResult) {
    let name = format!("{} on {}", result.provenance.model, result.provenance.config);
    let totals = &result.totals;
    assert_eq!(totals.causes.total(), totals.cycles, "{name}: causes of the totals");
    assert_eq!(result.layers.iter().map(|row| row.cycles).sum::<u64>(), totals.cycles, "{name}: layers partition time");
    for row in &result.layers {
        assert_eq!(row.causes.total(), row.cycles, "{name}: causes of {}", row.name);
        assert!(row.bound <= row.span, "{name}: {} is bounded by {} and takes {}", row.name, row.bound, row.span);
        let product = row.mapping_efficiency * row.pipeline_efficiency * row.array_activity;
        assert!(close(product, row.array_utilization), "{name}: utilization of {}", row.name);
    }
    let product = totals.mapping_efficiency * totals.pipeline_efficiency * totals.array_activity;
    assert!(close(product, totals.array_utilization), "{name}: utilization of the totals");
    assert_eq!(totals.array_macs + totals.vector_macs + totals.host_macs, totals.macs, "{name}: where MACs ran");
    for engine in &result.engines {
        assert!(engine.busy <= totals.cycles, "{name}: {} is busier than the run is long", engine.name);
    }
    // Bandwidth is a roofline: no run moves bytes faster than the pins.
    assert!(totals.memory_efficiency <= 1.0 + 1e-9, "{name}: {} of the pins", totals.memory_efficiency);
}

#[test]
fn every_network_on_every_machine_keeps_the_books() {
    for network in NETWORKS {
        for machine in MACHINES.iter().chain(&["neuroncore_like"]) {
            let result = run(machine, network, &options(false)).unwrap();
            assert_eq!(result.verification.status, Status::NotExecuted);
            check(&result);
        }
    }
}

fn bit_exact(machine: &str, network: &str) {
    let result = run(machine, network, &options(true)).unwrap();
    let verification = &result.verification;
    assert_eq!(verification.status, Status::BitExact, "{network} on {machine}: {:?}", verification.first_divergence);
    assert!(verification.compared > 100_000);
    check(&result);
}

#[test]
fn the_smaller_networks_are_bit_exact_on_every_machine() {
    for machine in MACHINES {
        for network in ["mobilenet_v2", "alexnet"] {
            bit_exact(machine, network);
        }
    }
}

#[test]
#[ignore = "minutes in the dev profile: cargo test --release --test suite -- --ignored networks"]
fn every_network_is_bit_exact_on_every_machine() {
    for machine in MACHINES {
        for network in NETWORKS {
            bit_exact(machine, network);
        }
    }
}

#[test]
fn a_machine_on_floats_says_that_it_was_not_executed() {
    let result = run("neuroncore_like", "alexnet", &options(true)).unwrap();
    assert_eq!(result.verification.status, Status::NotExecuted);
}

#[test]
fn a_machine_without_zero_points_names_the_way_on() {
    let options = Options { requantize: false, ..options(false) };
    let message = run("gemmini_like", "mobilenet_v2", &options).unwrap_err().to_string();
    assert!(message.contains("--requantize"), "{message}");
}

#[test]
fn a_bound_is_below_the_run_that_it_bounds() {
    let tile = run("edge_32x32", "resnet50", &options(false)).unwrap();
    let bound = run("edge_32x32", "resnet50", &Options { fidelity: Fidelity::Bound, ..options(false) }).unwrap();
    assert_eq!(bound.totals.causes.total(), bound.totals.cycles);
    for (row, timed) in bound.layers.iter().zip(&tile.layers) {
        assert!(row.cycles <= timed.span, "{}", row.name);
        assert_eq!(row.traffic.weight_bytes, timed.traffic.weight_bytes, "{}", row.name);
        assert_eq!(row.traffic.input_bytes, timed.traffic.input_bytes, "{}", row.name);
        assert_eq!(row.traffic.output_bytes, timed.traffic.output_bytes, "{}", row.name);
    }
}
