//! Networks on machines of other operand types than bytes, from a model of floats to the record: quantized to the type,
//! executed to the bit, with the bytes that the type has.

use std::{collections::BTreeSet, path::Path};

use systole::{
    config,
    engine::timing::{self, MemoryAccess},
    pipeline::{Model, Options, Samples, evaluate, load_model, map, prepare},
    report,
    result::{RunResult, Status},
};

use crate::networks::check;

fn digits() -> Model {
    load_model(&Path::new(env!("CARGO_MANIFEST_DIR")).join("models/mnist_cnn.onnx"), None).unwrap()
}

/// A run of the digit classifier on `edge_16x16` with operands of these types and other changes.
fn run([input, weight]: [&str; 2], changes: &[&str], execute: bool) -> RunResult {
    let types = [format!("array.input_type={input}"), format!("array.weight_type={weight}")];
    let changes: Vec<String> = types.into_iter().chain(changes.iter().map(|&change| change.to_owned())).collect();
    let model = digits();
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("models/mnist_calibrate.npz");
    let calibration = Some(Samples::open(&path, &model.graph).unwrap());
    let options = Options { calibration, no_execute: !execute, ..Options::default() };
    evaluate(&model, &config::load("edge_16x16", &changes).unwrap(), &options).unwrap()
}

#[test]
fn a_network_runs_to_the_bit_on_operands_of_every_type_and_mixture() {
    let wide = ["accumulators.bits=64", "array.column_bits=64", "accumulators.bytes=131072"];
    for types in [
        ["Int16", "Int16"],
        ["Int16", "Int8"],
        ["Int16", "Int4"],
        ["Int8", "Int16"],
        ["Int8", "Int4"],
        ["UInt8", "Int4"],
        ["Int4", "Int4"],
        ["Int4", "Int8"],
    ] {
        for changes in [&[][..], &wide] {
            let result = run(types, changes, true);
            assert_eq!(result.verification.status, Status::BitExact, "{types:?} {changes:?}");
            check(&result);
            let overflows = result.layers.iter().filter_map(|layer| layer.overflows).sum::<u64>();
            // 32 bits do not hold sums of products of 16-bit operands, and it is said.
            let narrow = types == ["Int16", "Int16"] && changes.is_empty();
            assert_eq!(overflows > 0, narrow, "{types:?} {changes:?}: {overflows}");
            assert_eq!(report::table(&result).contains("OVERFLOW: "), narrow, "{types:?} {changes:?}");
        }
    }
}

#[test]
fn bytes_are_those_of_the_type_and_two_elements_of_4_bits_share_one() {
    let [bytes, words, halves] =
        [["Int8", "Int8"], ["Int16", "Int16"], ["Int4", "Int4"]].map(|types| run(types, &[], false));
    // What has to move does not depend on the tiles: records of 8 bytes an output channel have one size in all types.
    let compulsory = [&halves, &bytes, &words].map(|result| result.totals.compulsory_bytes);
    let elements = compulsory[2] - compulsory[1];
    assert!(elements > 25_000, "{compulsory:?}");
    // A row of 10 results and images of weights that end on a multiple of 4 bytes.
    assert!((2 * (compulsory[1] - compulsory[0])).abs_diff(elements) <= 64, "{compulsory:?}");
    let layer = |result: &RunResult, name: &str| {
        let row = result.layers.iter().find(|row| row.name == name).unwrap();
        [row.traffic.input_bytes, row.traffic.weight_bytes - 8 * 32, row.traffic.output_bytes]
    };
    // The tiles are alike in this layer.
    let conv = [&halves, &bytes, &words].map(|result| layer(result, "conv2"));
    for part in 0..3 {
        assert_eq!(conv.map(|row| row[part]), [1, 2, 4].map(|factor| conv[0][part] * factor), "{conv:?}");
    }
    assert!(halves.totals.traffic.moved_bytes < bytes.totals.traffic.moved_bytes);
    assert!(halves.provenance.not_modelled.iter().any(|line| line.contains("4 bits")));
    assert!(!bytes.provenance.not_modelled.iter().any(|line| line.contains("4 bits")));
    for result in [&bytes, &words, &halves] {
        check(result);
        for buffer in &result.buffers {
            assert!(buffer.peak_bytes <= buffer.capacity_bytes, "{}", buffer.name);
        }
    }
}

#[test]
fn bursts_of_packed_elements_lie_in_the_first_half_of_their_range() {
    let changes = ["array.input_type=Int4", "array.weight_type=Int4"].map(str::to_owned);
    let accelerator = config::load("edge_16x16", &changes).unwrap();
    let network = prepare(&digits(), &accelerator, None, false).unwrap();
    let mapped = map(&network, &accelerator).unwrap();
    let header = &mapped.program.header;
    let mut seen = BTreeSet::new();
    {
        let mut tap = |access: MemoryAccess| {
            seen.insert((access.memory, access.address));
        };
        let options = timing::Options::default();
        timing::simulate_tapped(&accelerator, header, mapped.program.instructions(), options, &mut tap).unwrap();
    }
    let burst = u64::from(accelerator.config.dma.burst_bytes);
    assert_eq!(accelerator.config.dma.granule_bytes(), accelerator.config.dma.burst_bytes);
    let mut weights = 0;
    for range in &header.packed {
        let memory = range.memory.0;
        let bursts = |from: u64, to: u64| seen.range((memory, from)..(memory, to)).count() as u64;
        let middle = (range.base + range.bytes.div_ceil(2)).next_multiple_of(burst);
        let end = (range.base + range.bytes) / burst * burst;
        assert_eq!(bursts(middle, end.max(middle)), 0, "{range:?}");
        // Weights are loaded whole.
        if header.weights.iter().any(|image| (image.memory, image.base) == (range.memory, range.base)) {
            weights += 1;
            assert_eq!(bursts(range.base, middle), (middle - range.base) / burst, "{range:?}");
        }
    }
    assert_eq!(weights, header.weights.len());
}

#[test]
fn a_model_of_bytes_is_requantized_to_4_bits_and_a_machine_of_4_bits_refuses_it_without() {
    let model = load_model(&Path::new(env!("CARGO_MANIFEST_DIR")).join("models/mobilenet_v2.ron"), None).unwrap();
    let changes = ["array.input_type=Int4", "array.weight_type=Int4"].map(str::to_owned);
    let accelerator = config::load("edge_16x16", &changes).unwrap();
    let timed = Options { no_execute: true, ..Options::default() };
    let refused = evaluate(&model, &accelerator, &timed).unwrap_err().to_string();
    assert!(refused.contains("wider than the machine's") && refused.contains("--requantize"), "{refused}");
    let run = |accelerator: &config::Accelerator| {
        let options = Options { requantize: true, no_execute: true, ..Options::default() };
        evaluate(&model, accelerator, &options).unwrap()
    };
    let (halves, bytes) = (run(&accelerator), run(&config::load("edge_16x16", &[]).unwrap()));
    check(&halves);
    let share = halves.totals.compulsory_bytes as f64 / bytes.totals.compulsory_bytes as f64;
    assert!((0.5..0.56).contains(&share), "{share}");
}
