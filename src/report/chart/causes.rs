//! Cycles by layer and cause: rows with names while they fit, thin columns with numbers beyond.

use super::{
    axis,
    frame::{LEFT, PANEL, RIGHT, TOP, bold, key, nothing, regular, scene as frame},
    layers::{Column, ROWS, columns},
    palette::{AXIS, CAUSES, Colour, GREY, GRID, INK, NO_CAUSE},
    scene::{Align, Face, Scene, fit_name, overlap, text_width, wrap},
};
use crate::{
    report::{
        format::{clean, percent, share, words},
        names::Names,
    },
    result::RunResult,
};

/// Lower edge of the bars.
const BOTTOM: f64 = 478.0;
/// Right edge of the bars.
const END: f64 = PANEL - 32.0;

/// Lays the chart out.
pub fn scene(result: &RunResult) -> Scene {
    let shown = columns(result, |layer| layer.cycles > 0);
    let free = result.layers.iter().filter(|layer| layer.cycles == 0).count();
    let note = match free {
        0 => String::new(),
        1 => "1 layer without cycles left out".to_owned(),
        n => format!("{n} layers without cycles left out"),
    };
    let mut scene = frame(result, "where the cycles go", &note);
    let most = shown.iter().map(|column| column.cycles).fold(0.0, f64::max);
    if most <= 0.0 {
        nothing(&mut scene, "no layer has cycles");
        return scene;
    }
    let after_legend = legend(&mut scene, result);
    if shown.len() <= ROWS {
        rows(&mut scene, result, &shown, most);
        bound(&mut scene, result, after_legend + 26.0);
    } else {
        thin_columns(&mut scene, result, &shown, most);
        key(&mut scene, result, after_legend + 22.0, |_| true);
    }
    scene
}

/// The causes that occur, with their shares; the middle of its last row.
fn legend(scene: &mut Scene, result: &RunResult) -> f64 {
    let mut y = TOP + 6.0;
    scene.text("cause", (PANEL, y), Align::Start, bold(10.0, INK));
    scene.text("of all cycles", (RIGHT, y), Align::End, regular(8.5, GREY));
    y += 17.0;
    let whole = result.totals.cycles;
    let in_a_layer = |cause: usize| result.layers.iter().any(|layer| layer.causes.entries()[cause].1 > 0);
    for (index, (name, cycles)) in result.totals.causes.entries().into_iter().enumerate() {
        if cycles == 0 && !in_a_layer(index) {
            continue;
        }
        scene.rect(PANEL, y - 5.0, PANEL + 10.0, y + 5.0, CAUSES[index]);
        scene.text(words(name.as_str()), (PANEL + 16.0, y), Align::Start, regular(9.5, INK));
        scene.text(percent(share(cycles, whole)), (RIGHT, y), Align::End, regular(9.5, INK));
        y += 15.0;
    }
    // At fidelity `bound` no cause is known.
    let rest = result.totals.causes.entries().iter().fold(whole, |rest, &(_, cycles)| rest.saturating_sub(cycles));
    if rest > 0 {
        scene.rect(PANEL, y - 5.0, PANEL + 10.0, y + 5.0, NO_CAUSE);
        scene.text("not attributed", (PANEL + 16.0, y), Align::Start, regular(9.5, INK));
        scene.text(percent(share(rest, whole)), (RIGHT, y), Align::End, regular(9.5, INK));
        y += 15.0;
    }
    y - 15.0
}

/// The stacked parts of a bar: from, to and colour, in cycles.
fn parts(column: &Column) -> Vec<(f64, f64, Colour)> {
    let mut from = 0.0;
    let mut parts = Vec::new();
    for (cause, colour) in column.causes.iter().zip(CAUSES) {
        let to = (from + cause).min(column.cycles);
        parts.push((from, to, colour));
        from = to;
    }
    parts.push((from, column.cycles, NO_CAUSE));
    parts
}

/// The run's own sentence on what bounds it, below the legend.
fn bound(scene: &mut Scene, result: &RunResult, top: f64) {
    const SIZE: f64 = 9.5;
    let text = clean(&result.totals.bound_by);
    if text.trim().is_empty() {
        return;
    }
    scene.text("what bounds the run", (PANEL, top), Align::Start, bold(10.0, INK));
    for (line, text) in wrap(&text, RIGHT - PANEL, SIZE, Face::Regular).into_iter().take(9).enumerate() {
        scene.text(text, (PANEL, top + 17.0 + line as f64 * 14.0), Align::Start, regular(SIZE, INK));
    }
}

fn axis_title(scene: &mut Scene, result: &RunResult, at: (f64, f64), align: Align) {
    let text = format!("cycles of the array clock ({} MHz)", trimmed(result.machine.clock_mhz));
    scene.text(text, at, align, regular(9.5, GREY));
}

/// A clock without needless digits.
fn trimmed(value: f64) -> String {
    if (1e-3..1e7).contains(&value) {
        format!("{value:.3}").trim_end_matches('0').trim_end_matches('.').to_owned()
    } else {
        format!("{value:.1e}")
    }
}

fn rows(scene: &mut Scene, result: &RunResult, shown: &[Column], most: f64) {
    let pitch = ((BOTTOM - TOP) / shown.len() as f64).min(72.0);
    let bottom = TOP + pitch * shown.len() as f64;
    let size = (pitch * 0.72).clamp(7.5, 11.0);
    let all = Names::of(result);
    let names: Vec<String> =
        shown.iter().map(|column| fit_name(&all, &column.name, 190.0, size, Face::Regular)).collect();
    let widest = names.iter().map(|name| text_width(name, size, Face::Regular)).fold(20.0, f64::max);
    let start = LEFT + widest + 8.0;
    // Room for the share behind the longest bar.
    let end = most * (END - start) / (END - start - 44.0);
    let x = |cycles: f64| start + (END - start) * cycles / end;
    let ticks = axis::linear(end, 6);
    for (tick, label) in ticks.iter().zip(axis::labels(&ticks)) {
        scene.line(&[(x(*tick), TOP), (x(*tick), bottom)], 0.5, GRID);
        scene.text(label, (x(*tick), bottom + 12.0), Align::Middle, regular(9.0, GREY));
    }
    axis_title(scene, result, (f64::midpoint(start, END), bottom + 27.0), Align::Middle);
    for (index, (column, name)) in shown.iter().zip(names).enumerate() {
        let middle = TOP + (index as f64 + 0.5) * pitch;
        let half = (pitch * 0.38).min(18.0);
        scene.text(name, (start - 6.0, middle), Align::End, regular(size, INK));
        for (from, to, colour) in parts(column) {
            scene.rect(x(from), middle - half, x(to), middle + half, colour);
        }
        let share = percent(if result.totals.cycles == 0 { 0.0 } else { column.cycles / result.totals.cycles as f64 });
        scene.text(share, (x(column.cycles) + 5.0, middle), Align::Start, regular(size.min(9.5), GREY));
    }
    scene.line(&[(start, TOP), (start, bottom)], 0.75, AXIS);
}

fn thin_columns(scene: &mut Scene, result: &RunResult, shown: &[Column], most: f64) {
    const START: f64 = LEFT + 40.0;
    // Room for numbers above the highest column.
    const ABOVE: f64 = 34.0;
    let top = TOP + ABOVE;
    let y = |cycles: f64| BOTTOM - (BOTTOM - top) * cycles / most;
    let ticks = axis::linear(most, 6);
    for (tick, label) in ticks.iter().zip(axis::labels(&ticks)) {
        scene.line(&[(START, y(*tick)), (END, y(*tick))], 0.5, GRID);
        scene.text(label, (START - 6.0, y(*tick)), Align::End, regular(9.0, GREY));
    }
    axis_title(scene, result, (LEFT, TOP + 4.0), Align::Start);
    let pitch = (END - START) / shown.len() as f64;
    let gap = if pitch >= 3.0 { pitch * 0.18 } else { 0.0 };
    for (index, column) in shown.iter().enumerate() {
        let left = START + index as f64 * pitch;
        for (from, to, colour) in parts(column) {
            scene.rect(left + gap / 2.0, y(to), left + pitch - gap / 2.0, y(from), colour);
        }
    }
    scene.line(&[(START, BOTTOM), (END, BOTTOM)], 0.75, AXIS);
    positions(scene, shown, START, pitch, BOTTOM + 11.0);
    scene.text(order_title(shown), (f64::midpoint(START, END), BOTTOM + 26.0), Align::Middle, regular(9.5, GREY));
    numbers(scene, shown, START, pitch, y);
}

/// What the axis below thin columns shows.
pub fn order_title(shown: &[Column]) -> &'static str {
    if shown.iter().any(|column| column.layers > 1) {
        "layers in program order, neighbours grouped (index as in layers.csv)"
    } else {
        "layers in program order (index as in layers.csv)"
    }
}

/// Index labels below thin columns. Where the layer of a round index is left out, its label stands where it would be.
pub fn positions(scene: &mut Scene, shown: &[Column], start: f64, pitch: f64, y: f64) {
    let last = shown.last().map_or(0, |column| column.first);
    let step = axis::linear(last as f64, 10).get(1).copied().unwrap_or(1.0).max(1.0);
    let mut next = 0.0;
    for (index, column) in shown.iter().enumerate() {
        let mut passed = None;
        while next <= column.first as f64 {
            passed = Some(next);
            next += step;
        }
        if let Some(label) = passed {
            let inside = if label < column.first as f64 { 0.0 } else { 0.5 };
            let x = start + (index as f64 + inside) * pitch;
            scene.line(&[(x, y - 11.0), (x, y - 8.0)], 0.75, AXIS);
            scene.text(format!("{label:.0}"), (x, y), Align::Middle, regular(9.0, GREY));
        }
    }
}

/// The numbers of the costliest layers above their columns, clear of higher neighbours and of each other.
fn numbers(scene: &mut Scene, shown: &[Column], start: f64, pitch: f64, y: impl Fn(f64) -> f64) {
    const SIZE: f64 = 9.0;
    let mut placed: Vec<[f64; 4]> = Vec::new();
    let mut order: Vec<(usize, usize)> =
        shown.iter().enumerate().filter_map(|(index, column)| Some((column.number?, index))).collect();
    order.sort_unstable();
    for (number, index) in order {
        let text = number.to_string();
        let half = text_width(&text, SIZE, Face::Bold) / 2.0 + 1.0;
        let x = (start + (index as f64 + 0.5) * pitch).min(END - half);
        let near = shown.iter().enumerate().filter(|&(other, _)| {
            let centre = start + (other as f64 + 0.5) * pitch;
            (centre - x).abs() < half + pitch / 2.0
        });
        let highest = near.map(|(_, column)| column.cycles).fold(0.0, f64::max);
        let mut middle = y(highest) - 7.0;
        let bounds = |middle: f64| [x - half, middle - SIZE * 0.5, x + half, middle + SIZE * 0.5];
        while placed.iter().any(|other| overlap(*other, bounds(middle))) && middle > TOP + 20.0 {
            middle -= 3.0;
        }
        if placed.iter().any(|other| overlap(*other, bounds(middle))) {
            continue;
        }
        placed.push(bounds(middle));
        let own = y(shown[index].cycles);
        if own - middle > 10.0 {
            scene.line(&[(x, own - 1.0), (x, middle + 6.0)], 0.5, GREY);
        }
        scene.text(text, (x, middle), Align::Middle, bold(SIZE, INK));
    }
}
