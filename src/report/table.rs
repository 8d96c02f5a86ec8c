//! The report that a terminal shows: at most 80 columns, whatever the record holds.

use super::{
    format::{
        bytes, clean, left, percent, right, seconds, share, shorten, si, si_count, some_of, thousands, width,
        with_unit, words, wrap,
    },
    names::Names,
    title,
};
use crate::result::{
    Accuracy, Arithmetic, Divergence, EngineResult, Fidelity, LayerResult, MemoryResult, RANDOM_RANGES, RunResult,
    Score, Status,
};

/// The report's width in terminal columns.
const WIDTH: usize = 80;
/// Width of the labels on the left of the summary.
const LABEL: usize = 13;
/// Layers in the list of the costliest.
const COSTLIEST: usize = 10;
/// Width of their names.
const NAME: usize = 27;

/// A record as text of at most 80 columns: what bounds the run, totals, verification, causes, the costliest layers,
/// engines. Plain characters and Unicode blocks, no colour.
pub fn table(result: &RunResult) -> String {
    let mut out = Text::default();
    out.wrapped(&title(result));
    out.wrapped(&machine_line(result));
    out.blank();
    summary(&mut out, result);
    causes(&mut out, result);
    layers(&mut out, result);
    engines(&mut out, result);
    storage(&mut out, result);
    out.0
}

/// Lines with a newline after each.
#[derive(Default)]
struct Text(String);

impl Text {
    fn line(&mut self, text: &str) {
        self.0.push_str(text.trim_end());
        self.0.push('\n');
    }

    fn blank(&mut self) {
        self.0.push('\n');
    }

    fn wrapped(&mut self, text: &str) {
        for line in wrap(text, WIDTH) {
            self.line(&line);
        }
    }

    /// `label` on the left of a text that wraps beside it.
    fn entry(&mut self, label: &str, text: &str) {
        for (index, line) in wrap(text, WIDTH - LABEL).iter().enumerate() {
            self.line(&format!("{}{line}", left(if index == 0 { label } else { "" }, LABEL)));
        }
    }
}

fn machine_line(result: &RunResult) -> String {
    let m = &result.machine;
    let arrays = if m.arrays == 1 { String::new() } else { format!("{} arrays of ", si_count(m.arrays)) };
    let memory = if m.memory.is_empty() { "memory".to_owned() } else { clean(&m.memory) };
    format!(
        "{arrays}{} x {} at {}, peak {}; {memory} {}; batch {}, fidelity {}",
        si_count(m.rows),
        si_count(m.cols),
        with_unit(&si(m.clock_mhz * 1e6), "Hz"),
        with_unit(&si(m.peak_macs_per_s), "MAC/s"),
        with_unit(&si(m.peak_bandwidth_gb_per_s * 1e9), "B/s"),
        thousands(result.provenance.batch),
        result.provenance.fidelity,
    )
}

fn summary(out: &mut Text, result: &RunResult) {
    let t = &result.totals;
    if !t.bound_by.is_empty() {
        out.entry("bound by", &clean(&t.bound_by));
    }
    let closed_form = result.provenance.fidelity == Fidelity::Bound;
    let mut time =
        format!("{} cycles = {}, {} samples/s", thousands(t.cycles), seconds(t.seconds), si(t.samples_per_s));
    if closed_form {
        time += "; the lower bounds of the layers, added up, as if none overlapped";
    }
    out.entry("time", &time);
    let mut work = format!("{} MACs: {} on the array", si_count(t.macs), si_count(t.array_macs));
    for (macs, place) in [(t.vector_macs, "vector unit"), (t.host_macs, "host")] {
        if macs > 0 {
            work += &format!(", {} on the {place}", si_count(macs));
        }
    }
    out.entry("work", &work);
    out.entry(
        "utilization",
        &format!(
            "{} = mapping {} x pipeline {} x activity {}",
            percent(t.array_utilization),
            percent(t.mapping_efficiency),
            percent(t.pipeline_efficiency),
            percent(t.array_activity)
        ),
    );
    let gb = |value: f64| with_unit(&si(value * 1e9), "B/s");
    let mut memory = format!(
        "{} moved, {} compulsory; {} on average ({} of the pins)",
        bytes(t.traffic.moved_bytes),
        bytes(t.compulsory_bytes),
        gb(t.average_bandwidth_gb_per_s),
        percent(t.memory_efficiency),
    );
    if !closed_form {
        memory += &format!(
            ", {} at the 95th percentile, {} at most",
            gb(t.p95_bandwidth_gb_per_s),
            gb(t.peak_bandwidth_gb_per_s)
        );
    }
    out.entry("memory", &memory);
    if result.provenance.passes.iter().any(|line| line.starts_with(RANDOM_RANGES)) {
        out.entry("ranges", "from random inputs; `--calibrate FILE.npz` takes them from data");
    }
    verification(out, result);
    if let Some(accuracy) = &result.accuracy {
        self::accuracy(out, accuracy);
    }
    if let Some(cpu) = &result.cpu {
        out.entry(
            "CPU",
            &format!(
                "{} measured on this host (median of {} runs, {} threads): the machine is {} times as fast",
                seconds(cpu.seconds),
                si_count(cpu.runs),
                si_count(cpu.threads),
                si(cpu.accelerator_speedup)
            ),
        );
        if !cpu.reference_ops.is_empty() {
            let names = some_of(&cpu.reference_ops, 8);
            out.entry(
                "",
                &format!("includes operators without a fast CPU kernel, as the reference runs them: {names}"),
            );
        }
    }
    if !result.provenance.overrides.is_empty() {
        out.entry("overrides", &some_of(&result.provenance.overrides, 8));
    }
    if !result.provenance.not_modelled.is_empty() {
        out.entry("not modelled", &some_of(&result.provenance.not_modelled, 8));
    }
    out.blank();
}

fn verification(out: &mut Text, result: &RunResult) {
    let v = &result.verification;
    let arithmetic = match result.provenance.arithmetic {
        Arithmetic::Machine => ", in the machine's arithmetic and not the model's",
        Arithmetic::AsModel => "",
    };
    let same = match v.compared_same_implementation {
        0 => String::new(),
        same => format!("; {} of them are of the host, which is the reference itself", thousands(same)),
    };
    let compared = thousands(v.compared);
    let text = match v.status {
        Status::BitExact => format!("bit exact: {compared} elements equal the reference{arithmetic}{same}"),
        Status::SameImplementation => {
            format!("not verified: the host, which is the reference itself, computed all {compared} elements")
        }
        Status::Mismatch => format!("MISMATCH against the reference, {compared} elements compared"),
        Status::NotExecuted => "not executed: timed only".to_owned(),
    };
    out.entry("bits", &text);
    if let Some(check) = &result.registers {
        let text = if check.tiles == 0 {
            "nothing to follow register by register: no layer runs on it".to_owned()
        } else {
            format!(
                "register by register: {} array tiles and their {} sums equal, to the cycle and the bit",
                thousands(check.tiles),
                thousands(check.sums)
            )
        };
        out.entry("array", &text);
    }
    if let Some(text) = overflows(result) {
        out.entry("", &text);
    }
    if let Some(divergence) = &v.first_divergence {
        out.entry("", &divergence_text(divergence));
    }
    if let Some(e) = &result.expectation {
        let verdict = if e.mismatches == 0 {
            format!("all {} elements within {} of the expected ones", thousands(e.compared), real(e.tolerance))
        } else {
            format!(
                "MISMATCH: {} of {} elements differ by more than {}",
                thousands(e.mismatches),
                thousands(e.compared),
                real(e.tolerance)
            )
        };
        out.entry("expected", &format!("{verdict}; largest difference {}", real(e.max_abs_difference)));
        if let Some(first) = &e.first_mismatch {
            let index = first.index.iter().map(u64::to_string).collect::<Vec<_>>().join(", ");
            let text = format!(
                "first in output {} [{index}]: expected {}, got {}; {} of its {} elements differ, by at most {}",
                clean(&first.output),
                real(first.expected),
                real(first.actual),
                thousands(first.mismatches),
                thousands(first.elements),
                real(first.max_abs_difference)
            );
            out.entry("", &text);
        }
        if let Some(note) = &e.note {
            out.entry("", &clean(note));
        }
    }
}

/// What equals the reference may still be destroyed arithmetic.
fn overflows(result: &RunResult) -> Option<String> {
    let may: Vec<&LayerResult> = result.layers.iter().filter(|layer| layer.may_overflow).collect();
    let (first, layers) = (may.first()?, may.len());
    let plural = |count: usize| if count == 1 { "1 layer".to_owned() } else { format!("{count} layers") };
    let did: Vec<(&LayerResult, u64)> =
        may.iter().filter_map(|layer| Some((*layer, layer.overflows.filter(|&sums| sums > 0)?))).collect();
    if let Some(&(most, largest)) = did.iter().reduce(|best, next| if next.1 > best.1 { next } else { best }) {
        let sums = did.iter().fold(0_u64, |sum, &(_, sums)| sum.saturating_add(sums));
        return Some(format!(
            "OVERFLOW: {} sums of {} left the width of their adders, {} of them in {}: machine and reference lose the \
             same bits",
            thousands(sums),
            plural(did.len()),
            thousands(largest),
            clean(&most.name)
        ));
    }
    let seen = if may.iter().any(|layer| layer.overflows.is_some()) { "; none did on these inputs" } else { "" };
    Some(format!(
        "sums of {} may leave the width of their adders, first of {}{seen}",
        plural(layers),
        clean(&first.name)
    ))
}

fn divergence_text(d: &Divergence) -> String {
    let index = d.index.iter().map(u64::to_string).collect::<Vec<_>>().join(", ");
    let mut text = format!(
        "first in layer {}, tensor {} [{index}]: expected {}, got {}",
        clean(&d.layer),
        clean(&d.tensor),
        d.expected,
        d.actual
    );
    if let Some(accumulator) = d.accumulator {
        text += &format!(" (accumulator {accumulator})");
    }
    if let Some(written_by) = &d.written_by {
        text += &format!("; written by {}", clean(written_by));
    }
    text + &format!("; {} elements of this tensor differ", thousands(d.mismatches))
}

/// A tolerance or difference: short, and exact enough to recognise.
fn real(value: f64) -> String {
    if value == 0.0 || (1e-4..1e7).contains(&value.abs()) {
        format!("{value:.6}").trim_end_matches('0').trim_end_matches('.').to_owned()
    } else {
        format!("{value:.3e}")
    }
}

fn accuracy(out: &mut Text, accuracy: &Accuracy) {
    let rows: [(&str, Option<Score>); 3] =
        [("float", accuracy.float), ("quantized", accuracy.quantized), ("accelerator", accuracy.accelerator)];
    let mut label = "accuracy";
    for (name, score) in rows {
        let Some(score) = score else { continue };
        let loss = if score.loss.abs() < 1e6 { format!("{:.4}", score.loss) } else { format!("{:.3e}", score.loss) };
        let text = format!("{name:<12} top-1 {}, top-5 {}, loss {loss} nats", percent(score.top1), percent(score.top5));
        // Not wrapped, so that the three lines stay below each other.
        out.line(&format!("{}{}", left(label, LABEL), shorten(&text, WIDTH - LABEL)));
        label = "";
    }
    out.entry(label, &format!("over {} samples", thousands(accuracy.samples)));
}

fn causes(out: &mut Text, result: &RunResult) {
    const CAUSE: usize = 18;
    const BAR: usize = WIDTH - CAUSE - 9 - 2 - 9;
    let whole = result.totals.cycles;
    let mut entries = result.totals.causes.entries().map(|(cause, cycles)| (cause.as_str(), cycles)).to_vec();
    // At fidelity `bound` no cause is known.
    let rest = entries.iter().fold(whole, |rest, &(_, cycles)| rest.saturating_sub(cycles));
    entries.push(("not_attributed", rest));
    entries.retain(|&(_, cycles)| cycles > 0);
    if entries.is_empty() {
        return;
    }
    entries.sort_by_key(|&(_, cycles)| std::cmp::Reverse(cycles));
    let largest = entries[0].1;
    out.line("where the cycles go");
    for (name, cycles) in entries {
        out.line(&format!(
            "{}{}  {}{}",
            left(&words(name), CAUSE),
            left(&bar(share(cycles, largest), BAR), BAR),
            right(&si_count(cycles), 9),
            right(&percent(share(cycles, whole)), 9),
        ));
    }
    out.blank();
}

/// A bar of `limit` columns at full length, in eighths of a column; at least one eighth for what is not zero.
fn bar(share: f64, limit: usize) -> String {
    const PARTS: [&str; 8] = ["", "▏", "▎", "▍", "▌", "▋", "▊", "▉"];
    let wanted = share.clamp(0.0, 1.0) * 8.0;
    let mut eighths = 1;
    while (eighths + 1) as f64 <= wanted * limit as f64 && eighths < 8 * limit {
        eighths += 1;
    }
    "█".repeat(eighths / 8) + PARTS[eighths % 8]
}

fn layers(out: &mut Text, result: &RunResult) {
    let mut order: Vec<&LayerResult> = result.layers.iter().filter(|layer| layer.cycles > 0).collect();
    if order.is_empty() {
        return;
    }
    // The sort is stable: equals stay in program order.
    order.sort_by_key(|layer| std::cmp::Reverse(layer.cycles));
    let shown = order.len().min(COSTLIEST);
    let names = Names::of(result);
    out.line(&row("costliest layers", "on", "cycles", "share", "array", "most of it"));
    for layer in &order[..shown] {
        let utilization = if layer.array_macs > 0 { percent(layer.array_utilization) } else { "-".to_owned() };
        out.line(&row(
            &names.short(&layer.name, |name| width(name) <= NAME),
            layer.runs_on.as_str(),
            &count(layer.cycles),
            &percent(share(layer.cycles, result.totals.cycles)),
            &utilization,
            &layer.causes.largest().map_or_else(String::new, |cause| words(cause.as_str())),
        ));
    }
    let rest = result.layers.len() - shown;
    if rest > 0 {
        let cycles = order[shown..].iter().fold(0u64, |sum, layer| sum.saturating_add(layer.cycles));
        let others = if rest == 1 { "1 other".to_owned() } else { format!("{rest} others") };
        out.line(&row(&others, "", &count(cycles), &percent(share(cycles, result.totals.cycles)), "", ""));
    }
    out.blank();
}

/// With separators where that fits the column, else with a prefix.
fn count(cycles: u64) -> String {
    if cycles < 1_000_000_000 { thousands(cycles) } else { si_count(cycles) }
}

fn row(name: &str, on: &str, cycles: &str, share: &str, utilization: &str, cause: &str) -> String {
    format!(
        "{} {} {} {} {}  {}",
        left(name, NAME),
        left(on, 6),
        right(cycles, 11),
        right(share, 7),
        right(utilization, 7),
        left(cause, 16)
    )
}

fn engines(out: &mut Text, result: &RunResult) {
    if result.engines.is_empty() {
        return;
    }
    out.line(&part("engine", ["busy", "", "waiting", "", "instrs"]));
    for EngineResult { name, busy, waiting, instructions } in &result.engines {
        out.line(&part(
            name,
            [
                &count(*busy),
                &percent(share(*busy, result.totals.cycles)),
                &count(*waiting),
                &percent(share(*waiting, result.totals.cycles)),
                &si_count(*instructions),
            ],
        ));
    }
    out.blank();
}

fn storage(out: &mut Text, result: &RunResult) {
    let used = |memory: &&MemoryResult| memory.moved_bytes > 0;
    if result.memories.iter().any(|memory| used(&memory)) {
        out.line(&part("memory", ["moved", "of pins", "read", "written", ""]));
    }
    for memory in result.memories.iter().filter(used) {
        let [moved, read, written] = [memory.moved_bytes, memory.read_bytes, memory.written_bytes].map(bytes);
        out.line(&part(&memory.name, [&moved, &percent(memory.efficiency), &read, &written, ""]));
    }
    if !result.buffers.is_empty() {
        out.line(&part("buffer", ["peak", "of size", "read", "written", ""]));
    }
    for buffer in &result.buffers {
        let [read, written] = [buffer.read_bytes, buffer.written_bytes].map(|n| n.map_or("-".to_owned(), bytes));
        let full = percent(share(buffer.peak_bytes, buffer.capacity_bytes));
        out.line(&part(&buffer.name, [&bytes(buffer.peak_bytes), &full, &read, &written, ""]));
    }
}

/// A row of a part of the machine.
fn part(name: &str, cells: [&str; 5]) -> String {
    let [first, first_share, second, second_share, last] = cells;
    let row = format!(
        "{} {} {} {} {} {}",
        left(&clean(name), 27),
        right(first, 11),
        right(first_share, 9),
        right(second, 11),
        right(second_share, 9),
        right(last, 8)
    );
    row.trim_end().to_owned()
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::{
        report::sample,
        result::{Cause, Causes, Expectation, Verification},
    };

    proptest! {
        #[test]
        fn no_record_makes_a_line_wider_than_80_columns(seed in any::<u64>()) {
            for line in table(&sample::random(seed)).lines() {
                // Unicode blocks are one column wide; `width` counts what it does not know as two.
                prop_assert!(width(line) <= WIDTH, "{} columns: {line}", width(line));
                prop_assert!(!line.chars().any(char::is_control));
            }
        }
    }

    #[test]
    fn a_small_run_reads_as_expected() {
        let mut result = sample::run(12);
        let score = |top1| Some(Score { top1, top5: 0.9, loss: 1.25 });
        result.accuracy =
            Some(Accuracy { samples: 5000, float: score(0.718), quantized: score(0.709), accelerator: score(0.709) });
        result.expectation =
            Some(Expectation { compared: 1000, max_abs_difference: 1.0, tolerance: 1.0, ..Expectation::default() });
        insta::assert_snapshot!(table(&result));
    }

    #[test]
    fn a_mismatch_says_where_and_what() {
        let mut result = sample::run(3);
        result.verification = Verification {
            status: Status::Mismatch,
            compared: 4096,
            compared_same_implementation: 0,
            first_divergence: Some(Divergence {
                layer: "features.0.conv".to_owned(),
                tensor: "t7".to_owned(),
                index: vec![0, 3, 2, 1],
                expected: -5,
                actual: -4,
                accumulator: Some(-1234),
                written_by: Some("matmul 17".to_owned()),
                mismatches: 9,
            }),
        };
        let text = table(&result).split_whitespace().collect::<Vec<_>>().join(" ");
        assert!(text.contains("MISMATCH against the reference, 4,096 elements compared"), "{text}");
        assert!(text.contains("layer features.0.conv, tensor t7 [0, 3, 2, 1]: expected -5, got -4"), "{text}");
        assert!(text.contains("accumulator -1234") && text.contains("written by matmul 17"), "{text}");
    }

    #[test]
    fn what_the_reference_compared_with_itself_is_said() {
        let mut result = sample::run(3);
        result.verification.compared_same_implementation = 1000;
        let words = |result: &RunResult| table(result).split_whitespace().collect::<Vec<_>>().join(" ");
        let text = words(&result);
        let some =
            "1,204,712 elements equal the reference; 1,000 of them are of the host, which is the reference itself";
        assert!(text.contains(some), "{text}");
        result.verification.status = Status::SameImplementation;
        let text = words(&result);
        assert!(text.contains("not verified: the host, which is the reference itself, computed all"), "{text}");
        assert!(!text.contains("bit exact"), "{text}");
    }

    #[test]
    fn bars_are_full_at_one_and_visible_at_almost_nothing() {
        assert_eq!(bar(1.0, 4), "████");
        assert_eq!(bar(0.5, 4), "██");
        assert_eq!(bar(1e-12, 4), "▏");
        assert_eq!(bar(f64::NAN, 4), "▏");
    }

    #[test]
    fn the_first_of_equal_causes_is_the_main_one() {
        let mut causes = Causes::default();
        (causes[Cause::FillDrain], causes[Cause::Vector]) = (5, 5);
        assert_eq!(causes.largest(), Some(Cause::FillDrain));
        assert_eq!(Causes::default().largest(), None);
    }
}
