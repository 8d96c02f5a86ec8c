//! A topology of SCALE-Sim, answered twice: as SCALE-Sim answers it, and by our own engine, each layer alone on the
//! machine that stands closest to the config; and where the two differ. SCALE-Sim starts every layer anew, so ours do too.

use std::{collections::BTreeMap, fmt::Write as _};

use rayon::prelude::*;

use super::{Failure, Model, map_cached, prepare, time};
use crate::{
    config::{
        Accelerator,
        scalesim::{Interface, ScaleSimConfig, Stays},
    },
    diag::Progress,
    engine::timing::{self, Cause, Causes, TimingReport},
    import::scalesim::{self as import, Convolution, Form, Layer, Topology},
    mapping::MappingCache,
    scalesim::{self, Access, Folds, LayerReport, Operands, SizeError},
    units::thousands,
};

/// Layers that are answered between two reports of progress.
const BLOCK: usize = 64;

/// A layer's figures in our engine, in cycles of the array and bytes.
#[derive(Clone, Debug, Default)]
pub struct OwnTiming {
    /// From its first load to its last store.
    pub cycles: u64,
    /// In which the array loads, streams or drains.
    pub array_busy: u64,
    /// In which it takes operands.
    pub beats: u64,
    /// Multiply-accumulates.
    pub macs: u64,
    /// Why they passed.
    pub causes: Causes,
    /// Bytes from and to memory.
    pub dram: Operands<u64>,
    /// Bytes between buffers and array: inputs and weights read, results written.
    pub sram: Operands<u64>,
}

/// What SCALE-Sim reports in CALC mode, layer by layer.
pub fn scalesim_calc(
    config: &ScaleSimConfig,
    topology: &Topology,
    progress: &mut dyn Progress,
) -> Vec<Result<LayerReport, SizeError>> {
    answer(&topology.layers, progress, "counting", |layer| scalesim::calc(config, &layer.convolution))
}

/// What our own engine makes of each layer alone.
///
/// # Errors
/// Layer by layer: what mapping and timing find.
pub fn scalesim_own(
    accelerator: &Accelerator,
    topology: &Topology,
    progress: &mut dyn Progress,
) -> Vec<Result<OwnTiming, Failure>> {
    let mappings = MappingCache::default();
    // Rows repeat in published topologies; a layer does not depend on its name.
    let mut distinct: Vec<Layer> = Vec::new();
    let mut index_of: BTreeMap<[u64; 7], usize> = BTreeMap::new();
    let key = |layer: &Convolution| {
        let ([height, width], [rows, cols]) = (layer.ifmap, layer.filter);
        [height, width, rows, cols, layer.channels, layer.filters, layer.stride]
    };
    for layer in &topology.layers {
        index_of.entry(key(&layer.convolution)).or_insert_with(|| {
            distinct.push(layer.clone());
            distinct.len() - 1
        });
    }
    let own = answer(&distinct, progress, "timing", |layer| alone(accelerator, layer, topology.form, &mappings));
    topology.layers.iter().map(|layer| own[index_of[&key(&layer.convolution)]].clone()).collect()
}

/// Answers all layers side by side.
fn answer<T: Send>(
    layers: &[Layer],
    progress: &mut dyn Progress,
    stage: &str,
    of: impl Fn(&Layer) -> T + Sync,
) -> Vec<T> {
    progress.stage(stage, Some(layers.len() as u64), "layers");
    let mut answers = Vec::with_capacity(layers.len());
    for block in layers.chunks(BLOCK) {
        answers.par_extend(block.par_iter().map(&of));
        progress.advance(block.len() as u64);
    }
    answers
}

fn alone(accelerator: &Accelerator, layer: &Layer, form: Form, mappings: &MappingCache) -> Result<OwnTiming, Failure> {
    let one = Topology { form, layers: vec![layer.clone()], findings: Vec::new(), text: String::new() };
    let model = Model { graph: import::graph(&one, &layer.name, 1)?, hash: 0 };
    let network = prepare(&model, accelerator, None, true)?;
    let mapped = map_cached(&network, accelerator, mappings)?;
    let report = time(&mapped, timing::Options::default())?;
    Ok(figures(&report))
}

fn figures(report: &TimingReport) -> OwnTiming {
    let sum = |of: fn(&timing::LayerTiming) -> u64| report.layers.iter().map(of).sum();
    let buffer = |index: usize| report.buffers.get(index).copied().unwrap_or_default();
    OwnTiming {
        cycles: report.cycles.get(),
        array_busy: sum(|layer| layer.array_busy.get()),
        beats: sum(|layer| layer.beats.get()),
        macs: sum(|layer| layer.array_macs.get()),
        causes: report.causes,
        dram: Operands {
            ifmap: sum(|layer| layer.input_bytes.get()),
            filter: sum(|layer| layer.weight_bytes.get()),
            ofmap: sum(|layer| layer.output_bytes.get()),
        },
        sram: Operands { ifmap: buffer(0).read.get(), filter: buffer(1).read.get(), ofmap: buffer(2).written.get() },
    }
}

/// Our figures in the columns of SCALE-Sim. What it has no word for is told as it stands: transfers are spread over the
/// whole run, stalls are the cycles whose cause is memory, and the cold start is part of the run.
pub fn in_its_columns(config: &ScaleSimConfig, own: &OwnTiming) -> LayerReport {
    let elements = (config.rows * config.cols) as f64;
    let percent = |cycles: u64| 100.0 * own.macs as f64 / (cycles.max(1) as f64 * elements);
    let access = |words: u64| {
        let stop = i64::try_from(own.cycles).unwrap_or(i64::MAX) - 1;
        Access { start: 0, stop: stop.max(0), words }
    };
    let accesses = |words: &Operands<u64>| Operands {
        ifmap: access(words.ifmap),
        filter: access(words.filter),
        ofmap: access(words.ofmap),
    };
    LayerReport {
        total_with_prefetch: own.cycles,
        total: own.cycles,
        stalls: own.causes[Cause::MemoryBandwidth] + own.causes[Cause::MemoryLatency],
        overall_utilization: percent(own.cycles),
        mapping_efficiency: percent(own.beats),
        compute_utilization: percent(own.array_busy),
        sram: accesses(&own.sram),
        dram: accesses(&own.dram),
    }
}

/// Where our cycles come from, beginning with SCALE-Sim's: terms that add up.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Difference {
    /// SCALE-Sim's `Total Cycles`.
    pub theirs: i64,
    /// The cycle that its total leaves out.
    pub off_by_one: i64,
    /// Outputs that it has and nobody else: it rounds their number up where a stride leaves a remainder.
    pub outputs: i64,
    /// Output stationary: sums that leave after they are complete take `R` cycles more, a fold.
    pub drain: i64,
    /// Folds that overlap, loads that hide, and other cuts than its `ceil(S_R/R) ceil(S_C/C)` folds: what is left of the
    /// array's busy time.
    pub folds: i64,
    /// Cycles in which the array is idle: first loads, memory, requantization, last stores.
    pub idle: i64,
    /// Ours.
    pub ours: i64,
}

impl Difference {
    /// Takes a layer's difference apart.
    ///
    /// # Errors
    /// A layer that is too large to be counted.
    pub fn of(config: &ScaleSimConfig, layer: &Convolution, own: &OwnTiming) -> Result<Self, SizeError> {
        let signed = |cycles: u64| i64::try_from(cycles).unwrap_or(i64::MAX);
        let theirs = Folds::of(layer, config)?;
        // The same layer without the rows and columns that no whole window reaches.
        let whole = |axis: usize| {
            let rest = layer.ifmap[axis] - layer.filter[axis];
            rest / layer.stride * layer.stride + layer.filter[axis]
        };
        let folds = Folds::of(&Convolution { ifmap: [whole(0), whole(1)], ..*layer }, config)?;
        let drain = if config.dataflow == Stays::Outputs { folds.row_folds * folds.col_folds * folds.rows } else { 0 };
        Ok(Self {
            theirs: signed(theirs.total()),
            off_by_one: 1,
            outputs: signed(folds.serial()) - signed(theirs.serial()),
            drain: signed(drain),
            folds: signed(own.array_busy) - signed(folds.serial()) - signed(drain),
            idle: signed(own.cycles) - signed(own.array_busy),
            ours: signed(own.cycles),
        })
    }

    /// The terms with their names, in the order in which they are added.
    const fn terms(&self) -> [(&'static str, i64); 7] {
        [
            ("SCALE-Sim", self.theirs),
            ("+1", self.off_by_one),
            ("outputs", self.outputs),
            ("drain", self.drain),
            ("folds", self.folds),
            ("idle", self.idle),
            ("= ours", self.ours),
        ]
    }
}

/// Layer by layer where our cycles differ from SCALE-Sim's and why, as text.
pub fn explain(config: &ScaleSimConfig, topology: &Topology, own: &[Result<OwnTiming, Failure>]) -> String {
    const NAME: usize = 20;
    let mut rows: Vec<(String, Difference, Causes)> = Vec::new();
    for (layer, own) in topology.layers.iter().zip(own) {
        if let Ok(own) = own
            && let Ok(difference) = Difference::of(config, &layer.convolution, own)
        {
            rows.push((layer.name.clone(), difference, own.causes));
        }
    }
    let mut text = format!("{:<NAME$}", "cycles");
    for (name, _) in Difference::of_nothing().terms() {
        let _ = write!(text, " {name:>13}");
    }
    text.push('\n');
    for (name, difference, _) in &rows {
        let name: String = name.chars().filter(|c| !c.is_control()).take(NAME).collect();
        let _ = write!(text, "{name:<NAME$}");
        for (_, cycles) in difference.terms() {
            let sign = if cycles < 0 { "-" } else { "" };
            let _ = write!(text, " {:>13}", format!("{sign}{}", thousands(cycles.unsigned_abs())));
        }
        text.push('\n');
    }
    text.push('\n');
    let any = |of: fn(&Difference) -> i64| rows.iter().any(|(_, difference, _)| of(difference) != 0);
    let reasons: [(bool, &str); 5] = [
        (true, "+1: its total is the number of its last cycle, counted from 0"),
        (
            any(|it| it.outputs),
            "outputs: it rounds the number of outputs up where the stride leaves a remainder; those windows leave the map",
        ),
        (
            any(|it| it.drain),
            "drain: its output stationary sums leave before their last operands have reached them; ours take R cycles a fold",
        ),
        (
            any(|it| it.folds),
            "folds: its folds never overlap and are never cut; ours may overlap, hide loads, and are cut to fit the buffers",
        ),
        (
            any(|it| it.idle),
            "idle: the array waits for its first operands, for memory, for requantization, for the last stores",
        ),
    ];
    for (_, reason) in reasons.iter().filter(|(applies, _)| *applies) {
        let _ = writeln!(text, "{reason}");
    }
    let mut causes = Causes::default();
    for (_, _, of_layer) in &rows {
        causes += *of_layer;
    }
    let spent: Vec<String> = causes
        .entries()
        .into_iter()
        .filter(|&(_, cycles)| cycles > 0)
        .map(|(cause, cycles)| format!("{cause} {}", thousands(cycles)))
        .collect();
    let _ = writeln!(text, "our cycles by cause: {}", spent.join(", "));
    text
}

impl Difference {
    /// For the names of the terms.
    const fn of_nothing() -> Self {
        Self { theirs: 0, off_by_one: 0, outputs: 0, drain: 0, folds: 0, idle: 0, ours: 0 }
    }
}

/// One sentence on who answers, for the user to read beside the numbers.
pub const fn answered_by(config: &ScaleSimConfig) -> &'static str {
    match config.interface {
        Interface::Calc => "CALC mode: every figure is SCALE-Sim 3.0.0's own, counted",
        Interface::User => {
            "USER mode: answered by Systole's own engine and memory model, not by SCALE-Sim's, whose stalls come from a \
             buffer that forgets everything when it is full; its columns, our figures (docs/scalesim.md)"
        }
    }
}
