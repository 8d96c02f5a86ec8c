//! An output stationary array by others in RTL: cycles of whole products, and of the first result.

use super::{Findings, Kind, Row, Settings, Source, array};
use crate::{dataflow::ArrayLaw, diag::Progress, pipeline::Failure};

pub(super) const SOURCE: Source = Source {
    name: "os_array",
    title: "an output stationary array in others' RTL",
    kind: Kind::External,
    is_exact: true,
    is_quick: true,
    about: "abarajithan11/axis-systolic-array under Verilator, from the first accepted beat to the last output beat, and to the first. Ours: \
            the commands of the whole product as the generator cuts it, through the array's law. Sums leave along the rows \
            (`array.drain: Columns`), as theirs do; the multiplier's register is `pe_registers: 1`. They count the cycle in which \
            a result is taken, one after the cycle in which it is out.",
    run,
};

/// Cycles from a result being out to its being taken.
const TAKEN: u64 = 1;

fn run(settings: &Settings, _: &mut dyn Progress) -> Result<Findings, Failure> {
    let table = settings.published.table("os_array_rtl.csv")?;
    let mut found = Findings::default();
    for line in table.lines() {
        let [rows, cols, m, n, k] = ["R", "C", "M", "N", "K"].map(|column| line.count(column));
        let (rows, cols, m, n, k) = (rows?, cols?, m?, n?, k?);
        let what = format!("{rows}x{cols}, {m} x {n} x {k}");
        if line.count("ready_pct")? < 100 || line.count("valid_pct")? < 100 {
            let reason = "not comparable: operands or results are held up at random";
            found.rows.push(Row::not(what, "cycles", reason));
            continue;
        }
        let mut sets = array::extent(rows, cols).to_vec();
        sets.extend(["dataflows=[OS]", "drain=Columns", "pe_registers=1"].map(str::to_owned));
        let machine = array::machine(&sets)?;
        let ours = array::cycles(&machine, array::product(&machine, [m, n, k])?)? + TAKEN;
        let first = ArrayLaw::of(&machine.config.array).first_out(false, k);
        found.rows.push(Row::count(what.clone(), "cycles", ours, line.count("cycles")?));
        found.rows.push(Row::count(what, "first output", first, line.count("first_out_latency")?));
    }
    found.notes.push(
        "The RTL's cycles are `T K + R + 2 C`, T tiles, which `docs/timing.md` derives from the registers.".to_owned(),
    );
    Ok(found)
}
