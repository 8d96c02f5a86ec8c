use std::collections::BTreeSet;

use super::{demand::signed, fold::FoldIndex, *};
use crate::config::scalesim::{Interface, Stays};

/// Layers as SCALE-Sim 3.0.0 reported them in CALC mode: measured facts, without starts and stops of transfers.
const LAYERS: &str = include_str!("../../tests/scalesim/layers.csv");
/// The same with them, of smaller buffers and odder layers; `tests/scalesim/make_accesses.py` asked SCALE-Sim.
const ACCESSES: &str = include_str!("../../tests/scalesim/accesses.csv");

fn config(dataflow: Stays, array: [u64; 2], kilobytes: [u64; 3]) -> ScaleSimConfig {
    ScaleSimConfig {
        run_name: "test".to_owned(),
        rows: array[0],
        cols: array[1],
        ifmap_kb: kilobytes[0],
        filter_kb: kilobytes[1],
        ofmap_kb: kilobytes[2],
        dataflow,
        bandwidth: 10,
        interface: Interface::Calc,
    }
}

fn dataflow(name: &str) -> Stays {
    match name {
        "os" => Stays::Outputs,
        "ws" => Stays::Filters,
        "is" => Stays::Inputs,
        other => panic!("no dataflow: {other}"),
    }
}

/// A table's rows, with the columns found by name.
struct Row<'a> {
    heading: &'a [&'a str],
    fields: Vec<&'a str>,
}

impl Row<'_> {
    fn text(&self, column: &str) -> &str {
        self.fields[self.heading.iter().position(|name| *name == column).unwrap_or_else(|| panic!("{column}"))]
    }

    fn number(&self, column: &str) -> u64 {
        self.text(column).parse().unwrap_or_else(|_| panic!("{column}: {}", self.text(column)))
    }

    fn signed(&self, column: &str) -> i64 {
        self.text(column).parse().unwrap_or_else(|_| panic!("{column}: {}", self.text(column)))
    }

    fn real(&self, column: &str) -> f64 {
        self.text(column).parse().unwrap_or_else(|_| panic!("{column}: {}", self.text(column)))
    }

    fn question(&self) -> (ScaleSimConfig, Convolution) {
        let config = config(
            dataflow(self.text("dataflow")),
            ["array_rows", "array_cols"].map(|column| self.number(column)),
            ["ifmap_kb", "filter_kb", "ofmap_kb"].map(|column| self.number(column)),
        );
        let layer = Convolution {
            ifmap: ["H", "W"].map(|column| self.number(column)),
            filter: ["fh", "fw"].map(|column| self.number(column)),
            channels: self.number("Cin"),
            filters: self.number("N"),
            stride: self.number("sh"),
        };
        (config, layer)
    }
}

fn each_row(table: &str, mut judge: impl FnMut(&Row)) -> usize {
    let mut lines = table.lines().filter(|line| !line.starts_with('#'));
    let heading: Vec<&str> = lines.next().unwrap().split(',').collect();
    lines.map(|line| judge(&Row { heading: &heading, fields: line.split(',').collect() })).count()
}

#[test]
fn every_measured_layer_is_equal_in_every_integer_and_percentage() {
    let rows = each_row(LAYERS, |row| {
        let (config, layer) = row.question();
        assert_eq!(row.text("sh"), row.text("sw"));
        let report = calc(&config, &layer).unwrap();
        let integers = [
            ("total_incl_prefetch", report.total_with_prefetch),
            ("total_cycles", report.total),
            ("stall_cycles", report.stalls),
            ("sram_ifmap_count", report.sram.ifmap.words),
            ("sram_filter_count", report.sram.filter.words),
            ("sram_ofmap_count", report.sram.ofmap.words),
            ("dram_ifmap_count", report.dram.ifmap.words),
            ("dram_filter_count", report.dram.filter.words),
            ("dram_ofmap_count", report.dram.ofmap.words),
        ];
        for (column, ours) in integers {
            assert_eq!(ours, row.number(column), "{column} of {:?}", row.fields);
        }
        let percentages = [
            ("overall_util", report.overall_utilization),
            ("mapping_eff", report.mapping_efficiency),
            ("compute_util", report.compute_utilization),
        ];
        for (column, ours) in percentages {
            assert!((ours - row.real(column)).abs() <= 1e-9, "{column} of {:?}: {ours}", row.fields);
        }
    });
    assert_eq!(rows, 405);
}

#[test]
fn every_start_and_stop_is_equal() {
    let rows = each_row(ACCESSES, |row| {
        let (config, layer) = row.question();
        let report = calc(&config, &layer).unwrap();
        assert_eq!(report.total_with_prefetch, row.number("total_incl_prefetch"), "{:?}", row.fields);
        assert_eq!(report.total, row.number("total_cycles"), "{:?}", row.fields);
        for (level, accesses) in [("sram", report.sram), ("dram", report.dram)] {
            for (operand, access) in [("ifmap", accesses.ifmap), ("filter", accesses.filter), ("ofmap", accesses.ofmap)]
            {
                let column = |what: &str| row.signed(&format!("{level}_{operand}_{what}"));
                let expected = [column("start"), column("stop"), column("count")];
                let ours = [access.start, access.stop, signed(access.words)];
                assert_eq!(ours, expected, "{level} {operand} of {:?}", row.fields);
            }
        }
    });
    assert!(rows >= 100, "{rows}");
}

/// DRAM reads of the input word by word.
fn walked(folds: &Folds, layer: &Convolution, capacity: u64) -> (u64, Option<u64>) {
    let (mut held, mut words, mut full) = (BTreeSet::new(), 0, None);
    for col in 0..folds.col_folds {
        for row in 0..folds.row_folds {
            let fold = FoldIndex { col, row };
            let (rows, cols) = (folds.rows_of(row), folds.cols_of(col));
            let mut asked: Vec<(u64, u64, u64, u64)> = Vec::new();
            match folds.dataflow {
                Stays::Inputs => {
                    for lane in 0..cols {
                        for at in 0..rows {
                            asked.push((folds.rows - 1 - at, lane, col * folds.cols + lane, row * folds.rows + at));
                        }
                    }
                }
                flow => {
                    for lane in 0..rows {
                        for beat in 0..folds.beats {
                            let index = row * folds.rows + lane;
                            let (window, product) = if flow == Stays::Outputs { (index, beat) } else { (beat, index) };
                            asked.push((folds.load() + lane + beat, lane, window, product));
                        }
                    }
                }
            }
            asked.sort_unstable();
            for (cycle, _, window, product) in asked {
                if let Some(address) = layer.address(window, product)
                    && held.insert(address)
                {
                    words += 1;
                    if held.len() as u64 == capacity {
                        held.clear();
                        full = Some(folds.begin(fold) + cycle);
                    }
                }
            }
        }
    }
    (words, full)
}

#[test]
fn overlapping_windows_in_stretches_are_windows_word_by_word() {
    let layers = [
        ([9, 8], [3, 3], 5, 1),
        ([11, 7], [2, 3], 3, 2),
        ([6, 13], [1, 4], 7, 3),
        ([12, 12], [5, 5], 1, 1),
        ([10, 10], [1, 1], 9, 3),
    ];
    let arrays = [[4, 4], [3, 7], [1, 1], [16, 5]];
    for (ifmap, filter, channels, stride) in layers {
        let layer = Convolution { ifmap, filter, channels, filters: 23, stride };
        for array in arrays {
            for flow in [Stays::Outputs, Stays::Filters, Stays::Inputs] {
                let folds = Folds::of(&layer, &config(flow, array, [1; 3])).unwrap();
                // Lines of 1 to 5 words: 50 to 250 words are held.
                for line in [1, 2, 3, 5] {
                    let buffer = reads::ReadBuffer::of(line * 100);
                    let (words, full) = walked(&folds, &layer, buffer.capacity);
                    let expected = buffer.access(words, demand::first(&folds, folds.ifmap()), full);
                    let ours = windows::reads(&folds, &layer, line * 100).unwrap();
                    assert_eq!(ours, expected, "{layer:?} {array:?} {flow:?} {line}");
                }
            }
        }
    }
}

#[test]
fn inputs_without_overlap_in_closed_form_are_inputs_word_by_word() {
    let layers = [([6, 8], [2, 2], 3, 2), ([1, 9], [1, 9], 4, 1), ([17, 1], [1, 1], 11, 1), ([4, 4], [4, 4], 2, 5)];
    for (ifmap, filter, channels, stride) in layers {
        for filters in [1, 9, 23] {
            let layer = Convolution { ifmap, filter, channels, filters, stride };
            assert!(layer.inside() && layer.disjoint());
            for array in [[4, 4], [3, 7], [1, 1], [16, 5]] {
                for flow in [Stays::Outputs, Stays::Filters, Stays::Inputs] {
                    let folds = Folds::of(&layer, &config(flow, array, [1; 3])).unwrap();
                    let buffer = reads::ReadBuffer::of(100);
                    let (words, full) = walked(&folds, &layer, buffer.capacity);
                    let expected = buffer.access(words, demand::first(&folds, folds.ifmap()), full);
                    assert_eq!(reads::regular(&folds, folds.ifmap(), 100), expected, "{layer:?} {array:?} {flow:?}");
                }
            }
        }
    }
}

#[test]
fn enormous_layers_are_counted_or_refused_and_never_walked() {
    let sizes = [1, 1 << 16, 1 << 31];
    for ifmap in sizes {
        for filter in [1, 3, ifmap] {
            for (channels, filters, stride) in
                [(1, 1, 1), (1 << 31, 1, 2), (1, 1 << 31, 1), (1 << 31, 1 << 31, 1 << 31)]
            {
                let filter = filter.min(ifmap);
                let layer = Convolution { ifmap: [ifmap; 2], filter: [filter; 2], channels, filters, stride };
                for flow in [Stays::Outputs, Stays::Filters, Stays::Inputs] {
                    for array in [[1, 1], [128, 128], [1 << 16, 1]] {
                        // Whatever it says, it says so without an overflow; tests stop at one.
                        let _ = Folds::of(&layer, &config(flow, array, [1 << 20; 3]));
                    }
                }
            }
        }
    }
    let product = Convolution::product(1 << 20, 1 << 12, 1 << 12);
    let report = calc(&config(Stays::Filters, [256, 256], [256; 3]), &product).unwrap();
    assert_eq!(report.dram.filter.words, 1 << 24);
    let endless = Convolution::product(1 << 20, 1 << 15, 1 << 15);
    let refused = calc(&config(Stays::Filters, [256, 256], [256; 3]), &endless).unwrap_err();
    assert_eq!(refused, SizeError::Steps("portions of written words"));
    let image = Convolution { ifmap: [1 << 16; 2], filter: [3; 2], channels: 3, filters: 1, stride: 1 };
    let refused = calc(&config(Stays::Outputs, [16, 16], [64; 3]), &image).unwrap_err();
    assert_eq!(refused, SizeError::Input(3 << 32));
}
