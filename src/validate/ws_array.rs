//! A weight stationary array by others in RTL: cycles of whole products tile by tile, and of a tile's first result.

use super::{Findings, Kind, Row, Settings, Source, array};
use crate::{dataflow::ArrayLaw, diag::Progress, pipeline::Failure};

pub(super) const SOURCE: Source = Source {
    name: "ws_array",
    title: "a weight stationary array in others' RTL",
    kind: Kind::External,
    is_exact: true,
    is_quick: true,
    about: "Arjun0170/Systolic-Tensors, a bank of weights and no second one, elements of three stages and a hop. Ours: a load and a stream \
            through the array's law for each tile, and the cycle in which the bench takes the last result before it begins the next. The \
            structure is read off their source: `pe_registers: 3`, one register in front of each row (`port_registers: 1`), weights through a \
            chain (`weight_load.path: Chain`, `shadow_depth: 0`), columns in skew.",
    run,
};

/// Cycles from a result being out to its being taken.
const TAKEN: u64 = 1;

fn run(settings: &Settings, _: &mut dyn Progress) -> Result<Findings, Failure> {
    let table = settings.published.table("ws_array_rtl.csv")?;
    let mut found = Findings::default();
    for line in table.lines() {
        let [rows, cols, m, n, k] = ["R", "C", "M", "N", "K"].map(|column| line.count(column));
        let (rows, cols, m, n, k) = (rows?, cols?, m?, n?, k?);
        let what = format!("{rows}x{cols}, {m} x {n} x {k}");
        let mut sets = array::extent(rows, cols).to_vec();
        sets.extend(
            [
                "pe_registers=3",
                "port_registers=1",
                "weight_load.path=Chain",
                "weight_load.shadow_depth=0",
                "output=Skewed",
            ]
            .map(str::to_owned),
        );
        let machine = array::machine(&sets)?;
        let tiles = array::product(&machine, [m, n, k])?.len() as u64 / 2;
        let ours = tiles * (array::folds(&machine, 1, m)? + TAKEN);
        let first = ArrayLaw::of(&machine.config.array).first_out(true, m);
        found.rows.push(Row::count(what.clone(), "cycles", ours, line.count("cycles")?));
        found.rows.push(Row::count(what, "first output", first, line.count("first_out_offset")?));
    }
    found.notes.push(
        "The totals follow the bench's schedule of load, stream and drain; what their RTL itself shows is each output at its offset \
         from the stream's start."
            .to_owned(),
    );
    Ok(found)
}
