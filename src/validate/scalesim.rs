//! SCALE-Sim's own figures in CALC mode against those that `systole scalesim` reports: a compatible answer, not our opinion.

use std::collections::BTreeMap;

use super::{Compared, Findings, Kind, Row, Settings, Source, published::Line};
use crate::{
    config::scalesim::{Interface, ScaleSimConfig, Stays},
    diag::{Diagnostic, Faults, Progress},
    import::scalesim::Convolution,
    pipeline::Failure,
    scalesim::{ARRAY_LIMIT, LayerReport, calc},
};

/// The table of both comparisons with SCALE-Sim.
pub(super) const TABLE: &str = "scalesim_layers.csv";

pub(super) const SOURCE: Source = Source {
    name: "scalesim",
    title: "SCALE-Sim 3.0.0, answered as it answers",
    kind: Kind::External,
    is_exact: true,
    is_quick: true,
    about: "Layers that SCALE-Sim itself ran in CALC mode (`tests/scalesim/layers.csv`), its faults included (`docs/scalesim.md`). Ours: what \
            `systole scalesim` reports, twelve figures a layer: cycles with and without prefetch, stalls, three percentages, words between \
            array and buffers and between buffers and memory, of each operand. A row here is all layers of a topology, an array and a \
            dataflow, and shows the sum of their cycles.",
    run,
};

/// What was asked of SCALE-Sim.
pub(super) fn question(line: &Line) -> Result<(ScaleSimConfig, Convolution), Faults> {
    let dataflow = match line.text("dataflow")? {
        "os" => Stays::Outputs,
        "ws" => Stays::Filters,
        "is" => Stays::Inputs,
        other => return Err(line.fault("dataflow", &format!("expected `os`, `ws` or `is`, found `{other}`"))),
    };
    let positive = |column: &str, most: u64| {
        let count = line.count(column)?;
        if (1..=most).contains(&count) {
            Ok(count)
        } else {
            Err(line.fault(column, &format!("expected a whole number from 1 to {most}")))
        }
    };
    let size = |column| positive(column, 1 << 31);
    let config = ScaleSimConfig {
        run_name: "published".to_owned(),
        rows: positive("array_rows", ARRAY_LIMIT)?,
        cols: positive("array_cols", ARRAY_LIMIT)?,
        ifmap_kb: positive("ifmap_kb", 1 << 20)?,
        filter_kb: positive("filter_kb", 1 << 20)?,
        ofmap_kb: positive("ofmap_kb", 1 << 20)?,
        dataflow,
        bandwidth: 10,
        interface: Interface::Calc,
    };
    let layer = Convolution {
        ifmap: [size("H")?, size("W")?],
        filter: [size("fh")?, size("fw")?],
        channels: size("Cin")?,
        filters: size("N")?,
        stride: size("sh")?,
    };
    if (0..2).any(|axis| layer.filter[axis] > layer.ifmap[axis]) {
        return Err(line.fault("fh", "the filter is larger than the map"));
    }
    Ok((config, layer))
}

/// What a line is a part of: topology, array, dataflow.
pub(super) fn group(line: &Line) -> Result<String, Faults> {
    Ok(format!(
        "{}, {}x{} {}",
        line.text("topology")?,
        line.text("array_rows")?,
        line.text("array_cols")?,
        line.text("dataflow")?.to_uppercase()
    ))
}

/// Figures with their columns.
fn figures(report: &LayerReport) -> [(&'static str, f64); 12] {
    let count = |words: u64| words as f64;
    [
        ("total_cycles", count(report.total)),
        ("total_incl_prefetch", count(report.total_with_prefetch)),
        ("stall_cycles", count(report.stalls)),
        ("overall_util", report.overall_utilization),
        ("mapping_eff", report.mapping_efficiency),
        ("compute_util", report.compute_utilization),
        ("sram_ifmap_count", count(report.sram.ifmap.words)),
        ("sram_filter_count", count(report.sram.filter.words)),
        ("sram_ofmap_count", count(report.sram.ofmap.words)),
        ("dram_ifmap_count", count(report.dram.ifmap.words)),
        ("dram_filter_count", count(report.dram.filter.words)),
        ("dram_ofmap_count", count(report.dram.ofmap.words)),
    ]
}

fn run(settings: &Settings, _: &mut dyn Progress) -> Result<Findings, Failure> {
    let table = settings.published.table(TABLE)?;
    let mut groups: BTreeMap<String, Compared> = BTreeMap::new();
    let mut layers = 0_usize;
    for line in table.lines() {
        let (config, layer) = question(&line)?;
        let report = calc(&config, &layer).map_err(|error| Diagnostic::error(error.to_string()))?;
        let compared = groups.entry(group(&line)?).or_default();
        for (column, ours) in figures(&report) {
            compared.add(ours, line.real(column)?);
        }
        compared.show(report.total as f64, line.real("total_cycles")?);
        layers += 1;
    }
    let rows = groups.into_iter().map(|(what, compared)| Row::group(what, "cycles", compared)).collect();
    let notes = vec![format!(
        "{layers} layers. Percentages are equal to 1e-9. `tests/scalesim/run` asks SCALE-Sim anew and compares every number of its three \
         reports."
    )];
    Ok(Findings { rows, notes, ..Findings::default() })
}
