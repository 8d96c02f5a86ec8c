//! Two matrix products in ONNXim, another simulator, on four arrays.

use super::{Findings, Kind, Row, Settings, Source, array, error};
use crate::{
    config, diag,
    diag::Progress,
    import,
    pipeline::{Failure, Model, Options, evaluate},
};

pub(super) const SOURCE: Source = Source {
    name: "onnxim",
    title: "ONNXim's matrix products",
    kind: Kind::External,
    is_exact: false,
    is_quick: true,
    about: "Another simulator's cycles, memory included, on four weight stationary arrays of 128x128. A machine of ours has one array, so \
            the product is dealt by hand: each array takes a fourth of N in whole tiles of 128 columns (128^3 has one tile, on one array), \
            and the slowest array counts. `array alone`: the commands of that part through the array's law, operands there from the \
            beginning. `one core`: that part through the whole timing engine, as a layer on a core with a fourth of the memory's pins.",
    run,
};

/// Arrays that share the work, rows and columns of each.
const ARRAYS: u64 = 4;
const SIDE: u64 = 128;

/// A core after ONNXim's config of this shape: 1 GHz, elements of 2 bytes, 32 MiB and 4 MiB a core, 16 channels of 16 bytes at 2.4 GT/s for
/// all four. Ours: the latency, the DMA engines and the vector unit.
const CORE: &str = r#"(
    name: "core",
    array: (rows: 128, cols: 128, clock_mhz: 1000, dataflows: [WS], input_type: Bf16, weight_type: Bf16,
            weight_load: (cycles: 128, shadow_depth: 1)),
    buffers: (layout: Shared((bytes: 33554432, banks: 128, word_bytes: 32))),
    accumulators: (bytes: 4194304),
    dma: (load_engines: 2, store_engines: 1, bytes_per_cycle: 1024, burst_bytes: 64, bursts_in_flight: 1024),
    memories: [(name: "HBM", model: Ideal(bandwidth_gb_per_s: 153.6, latency_ns: 100))],
    placement: (weights: "HBM", activations: "HBM"),
    vector: (lanes: 128, cycles: [(Requantize, 1), (Copy, 1)]),
    control: (issue_cycles: 0, hardware_loops: true, launch_cycles: 0),
)"#;

/// Columns of N that the busiest array takes.
const fn share(n: u64) -> u64 {
    let tiles = n.div_ceil(SIDE).div_ceil(ARRAYS);
    let most = tiles * SIDE;
    if most < n { most } else { n }
}

/// Cycles of `[m, k] x [k, n]` as the only layer of a network on a core.
fn on_a_core([m, n, k]: [u64; 3]) -> Result<u64, Failure> {
    let core = diag::Source { name: "ONNXim's core".to_owned(), text: CORE.into() };
    let machine = config::load_source(&core, &[])?;
    let list = format!(
        r#"(name: "product", input: (shape: [{k}], scale: 0.02), layers: [
            (name: "product", op: FullyConnected(out: {n}, bias: false), weight: 0.002, scale: 0.02),
        ])"#
    );
    let model = Model { graph: import::ron::parse(&list, "product", usize::try_from(m).ok())?, hash: 0 };
    let options = Options { requantize: true, no_execute: true, ..Options::default() };
    Ok(evaluate(&model, &machine, &options)?.totals.cycles)
}

fn run(settings: &Settings, _: &mut dyn Progress) -> Result<Findings, Failure> {
    let table = settings.published.table("onnxim.csv")?;
    let mut sets = array::extent(SIDE, SIDE).to_vec();
    sets.push("dataflows=[WS]".to_owned());
    let machine = array::machine(&sets)?;
    let mut found = Findings::default();
    for line in table.lines() {
        let [m, n, k] = ["M", "N", "K"].map(|column| line.count(column));
        let (m, n, k) = (m?, n?, k?);
        let theirs = line.count("cycles")?;
        let part = [m, share(n), k];
        let alone = array::cycles(&machine, array::product(&machine, part)?)?;
        let core = on_a_core(part)?;
        let what = |of: &str| format!("{m} x {n} x {k}, {of}");
        found.rows.push(Row::count(what("array alone"), "cycles", alone, theirs));
        found.rows.push(Row::count(what("one core of four"), "cycles", core, theirs));
        found.notes.push(format!(
            "{m} x {n} x {k}: {:+.1} % on a core, {:+.1} % without memory.",
            100.0 * error(core as f64, theirs as f64),
            100.0 * error(alone as f64, theirs as f64)
        ));
    }
    Ok(found)
}
