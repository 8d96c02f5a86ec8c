//! Each layer's array utilization as the product of its three factors: four aligned panels that share the layers.

use super::{
    causes::{order_title, positions},
    frame::{LEFT, PANEL, RIGHT, TOP, bold, key_entry, nothing, regular, scene as frame, spread},
    layers::{Column, ROWS, columns, costliest},
    palette::{AXIS, BLUE, Colour, GREEN, GREY, GRID, INK, ORANGE, PURPLE},
    scene::{Align, Face, Scene, fit, fit_name, text_width},
};
use crate::{
    report::{format::percent, names::Names},
    result::RunResult,
};

/// One factor, or their product.
struct Factor {
    name: &'static str,
    formula: &'static str,
    colour: Colour,
    /// What stands between it and the factor before it.
    sign: &'static str,
    network: f64,
}

/// Lays the chart out. Layers without work on the array are left out.
pub fn scene(result: &RunResult) -> Scene {
    let shown = columns(result, |layer| layer.array_macs > 0);
    let others = result.layers.iter().filter(|layer| layer.array_macs == 0).count();
    let note = match others {
        0 => String::new(),
        1 => "1 layer without work on the array left out".to_owned(),
        n => format!("{n} layers without work on the array left out"),
    };
    let mut scene = frame(result, "how full the array is", &note);
    if shown.is_empty() {
        nothing(&mut scene, "no layer works on the array");
        return scene;
    }
    let totals = &result.totals;
    let factors = [
        ("mapping efficiency", "array MACs / (beats × R × C)", GREEN, "", totals.mapping_efficiency),
        ("pipeline efficiency", "beats / array busy", ORANGE, "×", totals.pipeline_efficiency),
        ("array activity", "array busy / span", PURPLE, "×", totals.array_activity),
        ("array utilization", "array MACs / (span × R × C)", BLUE, "=", totals.array_utilization),
    ]
    .map(|(name, formula, colour, sign, network)| Factor { name, formula, colour, sign, network });
    if shown.len() <= ROWS {
        rows(&mut scene, result, &shown, &factors);
    } else {
        thin_columns(&mut scene, result, &shown, &factors);
    }
    scene
}

/// Whether a share is on its axis.
fn on_axis(share: f64) -> bool {
    (0.0..=1.0).contains(&share)
}

fn rows(scene: &mut Scene, result: &RunResult, shown: &[Column], factors: &[Factor; 4]) {
    // Between panels, with the values of the one on the left in it.
    const GAP: f64 = 46.0;
    let top = TOP + 44.0;
    let pitch = ((488.0 - top) / shown.len() as f64).min(64.0);
    let half = (pitch * 0.38).min(15.0);
    let bottom = top + pitch * shown.len() as f64;
    let size = (pitch * 0.72).clamp(7.5, 11.0);
    let all = Names::of(result);
    let names: Vec<String> =
        shown.iter().map(|column| fit_name(&all, &column.name, 190.0, size, Face::Regular)).collect();
    let widest = names.iter().map(|name| text_width(name, size, Face::Regular)).fold(20.0, f64::max);
    let start = LEFT + widest + 8.0;
    let width = (RIGHT - start - 3.0 * GAP - 22.0) / 4.0;
    for (index, name) in names.into_iter().enumerate() {
        scene.text(name, (start - 6.0, top + (index as f64 + 0.5) * pitch), Align::End, regular(size, INK));
    }
    for (position, factor) in factors.iter().enumerate() {
        let left = start + position as f64 * (width + GAP);
        let x = |share: f64| left + width * share;
        scene.text(factor.sign, (left - 14.0, TOP + 2.0), Align::Middle, bold(15.0, INK));
        scene.text(factor.name, (left, TOP), Align::Start, bold(10.5, INK));
        scene.text(factor.formula, (left, TOP + 15.0), Align::Start, regular(8.5, GREY));
        let network = format!("network {}", percent(factor.network));
        scene.text(fit(&network, width, 9.0, Face::Bold), (left, TOP + 30.0), Align::Start, bold(9.0, INK));
        for share in [0.0, 0.5, 1.0] {
            scene.line(&[(x(share), top), (x(share), bottom)], 0.5, GRID);
            let label = format!("{:.0} %", share * 100.0);
            scene.text(label, (x(share), bottom + 11.0), Align::Middle, regular(8.5, GREY));
        }
        for (index, column) in shown.iter().enumerate() {
            let middle = top + (index as f64 + 0.5) * pitch;
            scene.rect(left, middle - half, x(column.factors[position]), middle + half, factor.colour);
        }
        if on_axis(factor.network) {
            scene.dashed((x(factor.network), top - 4.0), (x(factor.network), bottom), 1.0, INK);
        }
        for (index, column) in shown.iter().enumerate() {
            let at = (left + width + 22.0, top + (index as f64 + 0.5) * pitch);
            let text = format!("{:.0}", column.factors[position] * 100.0);
            scene.text(text, at, Align::End, regular(size.min(9.5), INK));
        }
        scene.line(&[(left, top), (left, bottom)], 0.75, AXIS);
    }
}

fn thin_columns(scene: &mut Scene, result: &RunResult, shown: &[Column], factors: &[Factor; 4]) {
    const START: f64 = LEFT + 40.0;
    const END: f64 = PANEL - 22.0;
    const PITCH: f64 = 92.0;
    const HEIGHT: f64 = 78.0;
    let top = TOP + 8.0;
    let bottom = top + 3.0 * PITCH + HEIGHT;
    let pitch = (END - START) / shown.len() as f64;
    let gap = if pitch >= 3.0 { pitch * 0.18 } else { 0.0 };
    guides(scene, shown, (START, END), pitch, (top, bottom));
    for (position, factor) in factors.iter().enumerate() {
        let panel_top = top + position as f64 * PITCH;
        let y = |share: f64| panel_top + HEIGHT * (1.0 - share);
        for share in [0.0, 0.5, 1.0] {
            scene.line(&[(START, y(share)), (END, y(share))], 0.5, GRID);
            let label = format!("{:.0} %", share * 100.0);
            scene.text(label, (START - 6.0, y(share)), Align::End, regular(8.5, GREY));
        }
        for (index, column) in shown.iter().enumerate() {
            let left = START + index as f64 * pitch;
            let share = column.factors[position];
            scene.rect(left + gap / 2.0, y(share), left + pitch - gap / 2.0, y(0.0), factor.colour);
        }
        if on_axis(factor.network) {
            scene.dashed((START, y(factor.network)), (END, y(factor.network)), 1.0, INK);
        }
        scene.line(&[(START, y(0.0)), (END, y(0.0))], 0.75, AXIS);
        let middle = panel_top + HEIGHT / 2.0;
        scene.text(factor.sign, (PANEL - 6.0, middle - 17.0), Align::Middle, bold(14.0, INK));
        scene.text(factor.name, (PANEL + 6.0, middle - 17.0), Align::Start, bold(11.0, INK));
        scene.text(factor.formula, (PANEL + 6.0, middle), Align::Start, regular(9.0, GREY));
        let network = format!("network {} (dashed)", percent(factor.network));
        scene.text(network, (PANEL + 6.0, middle + 17.0), Align::Start, regular(10.0, INK));
    }
    positions(scene, shown, START, pitch, bottom + 11.0);
    scene.text(order_title(shown), (f64::midpoint(START, END), bottom + 25.0), Align::Middle, regular(9.5, GREY));
    key_below(scene, result, shown, bottom + 43.0);
}

/// The costliest layers' numbers above the panels, and a thin line down through all of them.
fn guides(scene: &mut Scene, shown: &[Column], (start, end): (f64, f64), pitch: f64, (top, bottom): (f64, f64)) {
    let marked: Vec<(usize, f64)> = shown
        .iter()
        .enumerate()
        .filter_map(|(index, column)| Some((column.number?, start + (index as f64 + 0.5) * pitch)))
        .collect();
    let mut labels: Vec<f64> = marked.iter().map(|&(_, x)| x).collect();
    spread(&mut labels, 13.0, start, end);
    for (&(number, x), label) in marked.iter().zip(labels) {
        scene.line(&[(label, top - 7.0), (x, top - 2.0), (x, bottom)], 0.5, AXIS.with_alpha(0.8));
        scene.text(number.to_string(), (label, top - 13.0), Align::Middle, bold(9.0, INK));
    }
}

/// The key of the numbers in lines of four below the panels.
fn key_below(scene: &mut Scene, result: &RunResult, shown: &[Column], top: f64) {
    const ACROSS: usize = 4;
    let width = (RIGHT - LEFT) / ACROSS as f64;
    let names = Names::of(result);
    let on_array = costliest(result)
        .into_iter()
        .enumerate()
        .filter(|&(_, index)| shown.iter().any(|column| column.number.is_some() && column.first == index));
    for (place, (number, index)) in on_array.enumerate() {
        let left = LEFT + (place % ACROSS) as f64 * width;
        let y = top + (place / ACROSS) as f64 * 12.5;
        key_entry(scene, result, &names, (left, left + width - 18.0), y, (number + 1, index));
    }
}
