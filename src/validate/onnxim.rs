//! Two matrix products in `ONNXim`, another simulator, on four arrays.

use super::{Findings, Kind, Row, Settings, Source, array, error};
use crate::{
    config::{self, Accelerator},
    diag::{self, Progress},
    import,
    pipeline::{Failure, Model, Options, evaluate},
};

pub(super) const SOURCE: Source = Source {
    name: "onnxim",
    title: "ONNXim's matrix products",
    kind: Kind::External,
    is_exact: false,
    is_quick: true,
    about: "Another simulator's cycles, memory included, on four weight stationary arrays of 128x128. Ours is a machine of four arrays, to \
            which the generator deals the product in whole tiles of 128 columns. `arrays alone`: the commands of the first array's part, \
            which is no smaller than another's, through the array's law, operands there from the beginning. `with memory`: the product as a \
            layer, through the whole timing engine.",
    run,
};

/// The machine; its arrays alone are those of the law too.
const CORES: &str = include_str!("onnxim.ron");

/// Cycles of `[m, k] x [k, n]` as the only layer of a network.
fn with_memory(machine: &Accelerator, [m, n, k]: [u64; 3]) -> Result<u64, Failure> {
    let list = format!(
        r#"(name: "product", input: (shape: [{k}], scale: 0.02), activations: Int16, weights: (type: Int16),
            layers: [(name: "product", op: FullyConnected(out: {n}, bias: false), weight: 0.002, scale: 0.02)])"#
    );
    let model = Model { graph: import::ron::parse(&list, "product", usize::try_from(m).ok())?, hash: 0 };
    let options = Options { requantize: true, no_execute: true, ..Options::default() };
    Ok(evaluate(&model, machine, &options)?.totals.cycles)
}

fn run(settings: &Settings, _: &mut dyn Progress) -> Result<Findings, Failure> {
    let table = settings.published.table("onnxim.csv")?;
    let machine = config::load_source(&diag::Source { name: "ONNXim's cores".to_owned(), text: CORES.into() }, &[])?;
    let mut found = Findings::default();
    for line in table.lines() {
        let [m, n, k] = ["M", "N", "K"].map(|column| line.count(column));
        let (m, n, k) = (m?, n?, k?);
        let theirs = line.count("cycles")?;
        let alone = array::cycles(&machine, array::product(&machine, [m, n, k])?)?;
        let whole = with_memory(&machine, [m, n, k])?;
        let what = |of: &str| format!("{m} x {n} x {k}, {of}");
        found.rows.push(Row::count(what("arrays alone, a bound"), "cycles", alone, theirs));
        found.rows.push(Row::count(what("with memory"), "cycles", whole, theirs));
        found.notes.push(format!(
            "{m} x {n} x {k}: {:+.1} % with memory, {:+.1} % without.",
            100.0 * error(whole as f64, theirs as f64),
            100.0 * error(alone as f64, theirs as f64)
        ));
    }
    found.notes.push(
        "ONNXim's cores have scratchpads of their own, so that each reads all of the operand that is not dealt out; our arrays share it in \
         theirs and move less. The latency of 100 ns, the vector unit, and DMA engines that never \
         bind are ours and fitted to nothing. ONNXim's own cuts, its interconnect and the memory that the figures were taken with are not \
         known to us, so agreement within some percent is chance in part."
            .to_owned(),
    );
    Ok(found)
}
