//! Two matrix products in `ONNXim`, another simulator, on four arrays.

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
            the product is dealt by hand: each array takes its part of N in whole tiles of 128 columns (1024^3: two tiles on each of four; 128^3: \
            one tile on one array), and one of them is timed. `array alone`: the commands of that part through the array's law, operands there from the \
            beginning. `one core`: that part through the whole timing engine, as a layer on a core that has the memory's pins in equal parts with the cores that work.",
    run,
};

/// Arrays that share the work, rows and columns of each.
const ARRAYS: u64 = 4;
const SIDE: u64 = 128;

/// A core after `ONNXim`'s config of this shape.
const CORE: &str = include_str!("onnxim.ron");

/// GB/s of the memory, for all arrays.
const BANDWIDTH: f64 = 614.4;

/// Columns of N that the busiest array takes, and how many arrays work.
fn dealt(n: u64) -> (u64, u64) {
    let most = n.div_ceil(SIDE).div_ceil(ARRAYS) * SIDE;
    (most.min(n), n.div_ceil(most.max(1)))
}

/// Cycles of `[m, k] x [k, n]` as the only layer of a network on one of the cores that share the memory.
fn on_a_core([m, n, k]: [u64; 3], cores: u64) -> Result<u64, Failure> {
    let core = diag::Source { name: "ONNXim's core".to_owned(), text: CORE.into() };
    let bandwidth = BANDWIDTH / cores.max(1) as f64;
    let overrides = [format!("memories.HBM.model.Ideal.bandwidth_gb_per_s={bandwidth}")];
    let machine = config::load_source(&core, &overrides)?;
    let list = format!(
        r#"(name: "product", input: (shape: [{k}], scale: 0.02), activations: Int16, weights: (type: Int16),
            layers: [(name: "product", op: FullyConnected(out: {n}, bias: false), weight: 0.002, scale: 0.02)])"#
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
        let (part, cores) = dealt(n);
        let part = [m, part, k];
        let alone = array::cycles(&machine, array::product(&machine, part)?)?;
        let core = on_a_core(part, cores)?;
        let what = |of: &str| format!("{m} x {n} x {k}, {of}");
        found.rows.push(Row::count(what("array alone, a bound"), "cycles", alone, theirs));
        found.rows.push(Row::count(what("one core"), "cycles", core, theirs));
        found.notes.push(format!(
            "{m} x {n} x {k}: {:+.1} % on a core, {:+.1} % without memory.",
            100.0 * error(core as f64, theirs as f64),
            100.0 * error(alone as f64, theirs as f64)
        ));
    }
    found.notes.push(
        "A core of ours reads all of the other operand by itself, loads ahead by one buffer tile and stores behind the last; the latency of 100 ns, \
         the vector unit and DMA engines that never bind are ours and fitted to nothing. ONNXim's own cuts, its interconnect and the memory that the \
         figures were taken with are not known to us, so agreement within some percent is chance in part."
            .to_owned(),
    );
    Ok(found)
}
