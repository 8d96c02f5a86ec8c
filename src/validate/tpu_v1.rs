//! Google's first TPU as published: how much of the time its array works on fully connected layers, and what it waits for.

use super::{Findings, Kind, Row, Settings, Source};
use crate::{
    config,
    diag::Progress,
    import,
    pipeline::{Failure, Model, Options, evaluate},
    result::{Cause, RunResult},
};

pub(super) const SOURCE: Source = Source {
    name: "tpu_v1",
    title: "TPU v1's stall shares",
    kind: Kind::External,
    is_exact: false,
    is_quick: true,
    about: "Measured on the hardware, in percent of all cycles. Ours: the preset `tpu_v1_like`, timed on layers whose weights are fetched \
            once a batch. The shapes of its applications are not public; ours are five square layers of 2,048, at the application's \
            batch (MLP0 has five layers and 20 M weights). `array active`: beats of the array over cycles; `weight stall`: cycles \
            whose cause is memory or the DMA engine; `weight shift`: the load of a tile where nothing hides it; `the rest`: all other causes, \
            theirs the non-matrix cycles.",
    run,
};

/// A tile of weights: 256 x 256 bytes.
const TILE: u64 = 256 * 256;
/// Width and number of the layers.
const WIDTH: u64 = 2048;
const LAYERS: u64 = 5;

/// The layers on the preset, at a batch.
fn timed(batch: u64) -> Result<RunResult, Failure> {
    let layers: String = (0..LAYERS)
        .map(|index| {
            format!(r#"(name: "fc{index}", op: FullyConnected(out: {WIDTH}, activation: Relu), weight: 0.002, scale: 0.02),"#)
        })
        .collect();
    let list = format!(r#"(name: "layers", input: (shape: [{WIDTH}], scale: 0.02), layers: [{layers}])"#);
    let model = Model { graph: import::ron::parse(&list, "layers", usize::try_from(batch).ok())?, hash: 0 };
    let options = Options { requantize: true, no_execute: true, ..Options::default() };
    evaluate(&model, &config::load("tpu_v1_like", &[])?, &options)
}

fn run(settings: &Settings, _: &mut dyn Progress) -> Result<Findings, Failure> {
    /// Cycles in which a tile's bytes pass 34 GB/s at 700 MHz, as hardware's literature rounds it.
    const BETWEEN_TILES: f64 = 1349.0;
    let table = settings.published.table("tpu_v1.csv")?;
    let mut found = Findings::default();
    // At a batch of one, weights alone count: the time between two tiles.
    let tiles = LAYERS * WIDTH * WIDTH / TILE;
    let between = timed(1)?.totals.cycles as f64 / tiles as f64;
    found.rows.push(Row::of("one tile of weights", "cycles", between.round(), BETWEEN_TILES));
    for line in table.lines() {
        let app = line.text("app")?;
        let batch = line.count("batch")?;
        let what = format!("{app}, batch {batch}");
        if line.text("fully_connected")? != "yes" {
            let reason = "not comparable: weights do not bind, and its layers are not public";
            found.rows.push(Row::not(what, "array active, %", reason));
            continue;
        }
        let totals = timed(batch)?.totals;
        let percent = |cycles: u64| 100.0 * cycles as f64 / totals.cycles.max(1) as f64;
        let causes = &totals.causes;
        let stall = causes[Cause::MemoryBandwidth] + causes[Cause::MemoryLatency] + causes[Cause::Move];
        let [active, stall, shift] = [totals.beats, stall, causes[Cause::WeightLoad]].map(percent);
        for (figure, column, ours) in [
            ("array active, %", "array_active", active),
            ("weight stall, %", "weight_stall", stall),
            ("weight shift, %", "weight_shift", shift),
            ("the rest, %", "non_matrix", 100.0 - active - stall - shift),
        ] {
            found.rows.push(Row::of(what.clone(), figure, ours, line.real(column)?));
        }
        let bound = 100.0 * batch as f64 / BETWEEN_TILES;
        found.notes.push(format!("{app}: at most {bound:.1} % active, {batch} of 1,349 cycles a tile."));
    }
    Ok(found)
}
