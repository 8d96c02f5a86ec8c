//! `--fidelity pe`: whole networks whose array commands run register by register, on machines of every structure.

use proptest::prelude::*;
use systole::{
    config,
    config::Accelerator,
    import,
    pipeline::{Failure, Fidelity, Model, Options, WaveOptions, evaluate, wave},
    result::{RunResult, Status},
};

use crate::support::{cases, machines};

/// Convolutions of several sizes and a matrix product.
fn network(channels: u32, kernel: u32, stride: u32) -> Model {
    let list = format!(
        r#"(name: "small", input: (shape: [3, 9, 9], scale: 0.02, zero: 114), layers: [
        (name: "conv", op: Conv(out: {channels}, kernel: {kernel}, stride: {stride}, pad: 1, activation: Relu), weight: 0.002,
            scale: 0.021),
        (name: "one", op: Conv(out: 5, kernel: 1), weight: 0.01, scale: 0.03),
        (name: "pool", op: GlobalAvgPool, scale: 0.02),
        (name: "flat", op: Flatten),
        (name: "fc", op: FullyConnected(out: 10), weight: 0.003, scale: 0.09, zero: 128),
    ])"#
    );
    Model { graph: import::ron::parse(&list, "small", Some(1)).unwrap(), hash: 0 }
}

fn by_registers(model: &Model, accelerator: &Accelerator) -> Result<RunResult, Failure> {
    evaluate(model, accelerator, &Options { fidelity: Fidelity::Pe, requantize: true, ..Options::default() })
}

proptest! {
    #![proptest_config(cases(150))]

    #[test]
    fn networks_take_the_cycles_and_give_the_sums_of_the_registers(
        accelerator in machines(),
        [channels, kernel, stride] in [1_u32..24, 1..4, 1..3],
    ) {
        match by_registers(&network(channels, kernel, stride), &accelerator) {
            Ok(result) => {
                prop_assert_eq!(result.verification.status, Status::BitExact);
                let check = result.registers.unwrap();
                prop_assert!(check.tiles >= 3 && check.sums > 0 && check.element_updates > 0, "{check:?}");
                // Every multiply-accumulate of the array was an element's.
                prop_assert!(check.element_updates >= result.totals.array_macs, "{check:?}");
            }
            // A layer that fits no buffer is the machine's fault; anything else is this program's.
            Err(Failure::User(faults)) => return Err(TestCaseError::reject(faults.to_string())),
            Err(Failure::Internal(message)) => return Err(TestCaseError::fail(message)),
        }
    }
}

#[test]
fn the_record_counts_what_was_compared() {
    let accelerator = config::load("edge_16x16", &[]).unwrap();
    let model = network(8, 3, 1);
    let result = by_registers(&model, &accelerator).unwrap();
    let tile = evaluate(&model, &accelerator, &Options { requantize: true, ..Options::default() }).unwrap();
    assert_eq!((result.totals.cycles, &result.layers), (tile.totals.cycles, &tile.layers));
    assert_eq!(tile.registers, None);
    // Sums of the three layers, once for each fold of K that adds to them: K of 27, 8 and 5 in rows of 16.
    assert_eq!(result.registers.unwrap().sums, 2 * 81 * 8 + 81 * 5 + 10);
}

#[test]
fn registers_need_values() {
    let accelerator = config::load("edge_16x16", &[]).unwrap();
    let options = Options { fidelity: Fidelity::Pe, no_execute: true, ..Options::default() };
    let Err(Failure::User(faults)) = evaluate(&network(8, 3, 1), &accelerator, &options) else { panic!("no fault") };
    assert!(faults.to_string().contains("leave out `--no-execute`"), "{faults}");
}

/// The grid of a drawing.
fn drawn(machine: &str, sets: &[&str], options: WaveOptions) -> String {
    let sets: Vec<String> = sets.iter().map(ToString::to_string).collect();
    let text = wave(&config::load(machine, &sets).unwrap(), options).unwrap();
    text.split("\n\n").nth(1).unwrap().to_owned()
}

const SMALL: [&str; 3] = ["array.rows=3", "array.cols=3", "array.weight_load.cycles=3"];

/// `systole wave` draws them again.
#[test]
fn the_drawings_of_the_timing_page_are_those_of_the_registers() {
    let page = include_str!("../../docs/timing.md");
    let options = WaveOptions { tiles: 2, beats: 4, dataflow: None };
    for (machine, dataflow) in [("edge_16x16", config::Dataflow::WS), ("edge_32x32", config::Dataflow::OS)] {
        let grid = drawn(machine, &SMALL, WaveOptions { dataflow: Some(dataflow), ..options });
        assert!(page.contains(&grid), "docs/timing.md lacks\n{grid}");
    }
}

#[test]
fn a_drawing_shows_the_wires_of_the_machine() {
    let options = WaveOptions { tiles: 1, beats: 1, dataflow: None };
    let sets = [
        "array.rows=2",
        "array.cols=2",
        "array.weight_load.cycles=2",
        "array.weight_load.path=Rows",
        "array.output=Skewed",
    ];
    // A row a cycle for all columns, a sum a column later than its left neighbour's.
    let expected = "\
cycle      0  1  2  3  4
(0,0)     w1 a0  .  .  .
(0,1)     w1  . a0  .  .
(1,0)      . w1 a0  .  .
(1,1)      . w1  . a0  .
col 0 out  .  .  . a0  .
col 1 out  .  .  .  . a0";
    assert_eq!(drawn("edge_16x16", &sets, options), expected);
}

#[test]
fn what_cannot_be_drawn_says_what_can() {
    let refused = |sets: &[&str], options: WaveOptions| {
        let sets: Vec<String> = sets.iter().map(ToString::to_string).collect();
        let Err(Failure::User(faults)) = wave(&config::load("edge_16x16", &sets).unwrap(), options) else {
            panic!("no fault")
        };
        faults.to_string()
    };
    let options = WaveOptions { tiles: 2, beats: 4, dataflow: None };
    assert!(refused(&[], options).contains("--set array.rows=3"));
    assert!(refused(&SMALL, WaveOptions { dataflow: Some(config::Dataflow::OS), ..options }).contains("[WS]"));
    assert!(refused(&SMALL, WaveOptions { tiles: 26, beats: 256, ..options }).contains("fewer tiles"));
}
