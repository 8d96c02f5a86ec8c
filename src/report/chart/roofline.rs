//! The roofline: operations a second against operations a byte, both logarithmic, an operation being half a
//! multiply-accumulate. S. Williams, A. Waterman, D. Patterson, "Roofline", CACM 52(4), 2009.
//!
//! A filled point stands at the bytes that moved, its hollow twin at the compulsory bytes: the distance between them
//! is what tiling and bursts cost.

use std::collections::BTreeSet;

use super::{
    axis::Log,
    frame::{LEFT, PANEL, RIGHT, TOP, bold, key, nothing, regular, scene as frame},
    layers::{NUMBERED, costliest},
    palette::{AXIS, CAUSES, Colour, GREY, GRID, INK, VERMILLION, WHITE},
    scene::{Align, Face, Scene, fit, overlap, text_width},
};
use crate::{
    report::format::{si, with_unit, words},
    result::{Causes, RunResult},
};

/// Edges of the plot.
const PLOT: Frame = Frame { left: LEFT + 52.0, top: TOP, right: PANEL - 28.0, bottom: 478.0 };

/// Radius of the points of layers that cost next to nothing.
const SMALLEST: f64 = 2.25;
/// With more points than this, only numbered layers get a hollow point.
const CROWD: usize = 250;

struct Frame {
    left: f64,
    top: f64,
    right: f64,
    bottom: f64,
}

/// A layer or the network.
#[derive(Clone, Debug)]
struct Point {
    /// Operations a byte at the bytes that moved; none where nothing moved.
    measured: Option<f64>,
    /// Operations a byte at the compulsory bytes.
    compulsory: Option<f64>,
    /// Operations a second over the layer's span.
    rate: f64,
    /// Part of the run's cycles; below 0 for the network, which is drawn last.
    share: f64,
    colour: Colour,
    /// The layer's index; none for the network.
    index: Option<usize>,
}

/// The machine's limits: operations a second and bytes a second; 0 where unknown.
struct Ceilings {
    peak: f64,
    mapped: f64,
    pins: f64,
    achieved: f64,
}

/// Lays the chart out. Layers without multiply-accumulates have no point.
pub fn scene(result: &RunResult) -> Scene {
    let points = points(result);
    let limits = ceilings(result);
    let layers = points.iter().filter(|point| point.index.is_some()).count();
    let silent = points.iter().filter(|point| point.measured.is_none()).count();
    let mut note = format!("{layers} of {} layers have MACs", result.layers.len());
    if silent > 0 {
        note += &format!(", {silent} moved no bytes");
    }
    let mut scene = frame(result, "roofline", &note);
    if points.is_empty() {
        nothing(&mut scene, "no layer has multiply-accumulates and a span");
        return scene;
    }
    let ridge = [limits.peak / limits.pins, limits.peak / limits.achieved, limits.mapped / limits.pins];
    let intensities = points.iter().flat_map(|point| [point.measured, point.compulsory]).flatten();
    let x = Log::around(intensities.chain(ridge), 2.0);
    let rates = points.iter().map(|point| point.rate);
    let y = Log::around(rates.chain([limits.peak, limits.mapped]), 2.0);
    let plot = Plot { x, y };
    plot.grid(&mut scene);
    plot.ceilings(&mut scene, &limits);
    // Hollow points of many layers would only be noise.
    let numbered = costliest(result);
    let crowded = points.len() > CROWD;
    let twins = |point: &Point| !crowded || point.index.is_none_or(|index| numbered.contains(&index));
    plot.points(&mut scene, &points, twins);
    plot.numbers(&mut scene, result, &points);
    panel(&mut scene, result, &limits, &points);
    scene
}

/// A number that a logarithm takes.
fn positive(value: f64) -> Option<f64> {
    (value.is_finite() && value > 0.0).then_some(value)
}

fn ceilings(result: &RunResult) -> Ceilings {
    let fine = |value: f64| positive(value).unwrap_or(0.0);
    let peak = fine(2.0 * result.machine.peak_macs_per_s);
    Ceilings {
        peak,
        mapped: fine(peak * result.totals.mapping_efficiency.min(1.0)),
        pins: fine(result.machine.peak_bandwidth_gb_per_s * 1e9),
        achieved: fine(result.totals.average_bandwidth_gb_per_s * 1e9),
    }
}

fn points(result: &RunResult) -> Vec<Point> {
    let hertz = result.machine.clock_mhz * 1e6;
    let point = |macs: u64, seconds: f64, moved: u64, compulsory: u64| {
        let operations = 2.0 * macs as f64;
        let rate = positive(operations / seconds)?;
        let intensity = |bytes: u64| positive(operations / bytes as f64);
        Some((rate, intensity(moved), intensity(compulsory)))
    };
    let mut all = Vec::new();
    for (index, layer) in result.layers.iter().enumerate() {
        let seconds = layer.span as f64 / hertz;
        let Some((rate, measured, compulsory)) =
            point(layer.macs, seconds, layer.traffic.moved_bytes, layer.compulsory_bytes)
        else {
            continue;
        };
        let share = (layer.cycles as f64 / result.totals.cycles.max(1) as f64).min(1.0);
        let colour = CAUSES[main_cause(&layer.causes)];
        all.push(Point { measured, compulsory, rate, share, colour, index: Some(index) });
    }
    let t = &result.totals;
    if let Some((rate, measured, compulsory)) = point(t.macs, t.seconds, t.traffic.moved_bytes, t.compulsory_bytes) {
        all.push(Point { measured, compulsory, rate, share: -1.0, colour: INK, index: None });
    }
    all
}

/// Index of the cause with the most cycles, the first of equals.
fn main_cause(causes: &Causes) -> usize {
    let entries = causes.entries();
    (0..entries.len()).rev().max_by_key(|&index| entries[index].1).unwrap_or(0)
}

/// Area in proportion to the share of the cycles, with a least size that can be seen.
fn radius(point: &Point) -> f64 {
    if point.index.is_none() { 6.0 } else { (20.0 * point.share.sqrt()).clamp(SMALLEST, 9.0) }
}

struct Plot {
    x: Log,
    y: Log,
}

impl Plot {
    fn at(&self, intensity: f64, rate: f64) -> (f64, f64) {
        let x = PLOT.left + (PLOT.right - PLOT.left) * self.x.share(intensity);
        let y = PLOT.bottom - (PLOT.bottom - PLOT.top) * self.y.share(rate);
        (x, y)
    }

    /// Where a point stands, if it is on both axes.
    fn place(&self, intensity: Option<f64>, rate: f64) -> Option<(f64, f64)> {
        let intensity = intensity.filter(|&value| self.x.contains(value))?;
        self.y.contains(rate).then(|| self.at(intensity, rate))
    }

    fn grid(&self, scene: &mut Scene) {
        let (major, minor) = self.x.ticks();
        let vertical = |scene: &mut Scene, value: f64, width: f64| {
            let (x, _) = self.at(value, self.y.low);
            scene.line(&[(x, PLOT.top), (x, PLOT.bottom)], width, GRID);
            x
        };
        for value in minor {
            vertical(scene, value, 0.25);
        }
        let mut last = f64::NEG_INFINITY;
        for value in major {
            let x = vertical(scene, value, 0.75);
            let label = if value < 1.0 { plain(value) } else { si_tick(value) };
            let half = text_width(&label, 9.0, Face::Regular) / 2.0;
            if x - half > last + 4.0 && x + half < PLOT.right + 20.0 {
                scene.text(label, (x, PLOT.bottom + 11.0), Align::Middle, regular(9.0, GREY));
                last = x + half;
            }
        }
        let (major, minor) = self.y.ticks();
        let horizontal = |scene: &mut Scene, value: f64, width: f64| {
            let (_, y) = self.at(self.x.low, value);
            scene.line(&[(PLOT.left, y), (PLOT.right, y)], width, GRID);
            y
        };
        for value in minor {
            horizontal(scene, value, 0.25);
        }
        for value in major {
            let y = horizontal(scene, value, 0.75);
            if y > PLOT.top + 8.0 {
                scene.text(si_tick(value), (PLOT.left - 6.0, y), Align::End, regular(9.0, GREY));
            }
        }
        scene.line(&[(PLOT.left, PLOT.top), (PLOT.left, PLOT.bottom), (PLOT.right, PLOT.bottom)], 0.75, AXIS);
        let middle = f64::midpoint(PLOT.left, PLOT.right);
        scene.text("operations a byte (2 a MAC)", (middle, PLOT.bottom + 26.0), Align::Middle, regular(9.5, GREY));
        scene.text("operations a second", (LEFT, PLOT.top - 9.0), Align::Start, regular(9.5, GREY));
    }

    fn ceilings(&self, scene: &mut Scene, limits: &Ceilings) {
        let ridge = |rate: f64| if limits.pins > 0.0 { rate / limits.pins } else { 0.0 };
        for (rate, dashed) in [(limits.peak, false), (limits.mapped, true)] {
            if !self.y.contains(rate) {
                continue;
            }
            let (from, to) = (self.at(ridge(rate).clamp(self.x.low, self.x.high), rate), self.at(self.x.high, rate));
            draw(scene, from, to, INK, dashed);
        }
        for (bandwidth, dashed) in [(limits.pins, false), (limits.achieved, true)] {
            if bandwidth <= 0.0 {
                continue;
            }
            // The part of `rate = intensity x bandwidth` below the peak and inside the plot.
            let top = if limits.peak > 0.0 { limits.peak.min(self.y.high) } else { self.y.high };
            let low = self.x.low.max(self.y.low / bandwidth);
            let high = self.x.high.min(top / bandwidth);
            if low < high {
                draw(scene, self.at(low, low * bandwidth), self.at(high, high * bandwidth), VERMILLION, dashed);
            }
        }
    }

    fn points(&self, scene: &mut Scene, points: &[Point], twins: impl Fn(&Point) -> bool) {
        // Large ones first, so that they hide no small ones; the network last.
        let mut order: Vec<&Point> = points.iter().collect();
        order.sort_by(|one, two| two.share.total_cmp(&one.share));
        self.thin_out(&mut order);
        for point in order.iter().copied().filter(|point| twins(point)) {
            let filled = self.place(point.measured, point.rate);
            let hollow = self.place(point.compulsory, point.rate);
            if let (Some(filled), Some(hollow)) = (filled, hollow) {
                scene.line(&[filled, hollow], 0.75, point.colour.with_alpha(0.45));
            }
            let radius = radius(point);
            if let Some(centre) = hollow.filter(|&centre| fits(centre, radius)) {
                scene.disc(centre, radius, WHITE.with_alpha(0.8));
                scene.ring(centre, radius, 1.0, point.colour);
            }
        }
        for point in order {
            let radius = radius(point);
            if let Some(centre) = self.place(point.measured, point.rate).filter(|&centre| fits(centre, radius)) {
                scene.disc(centre, radius + 0.75, WHITE);
                scene.disc(centre, radius, point.colour);
            }
        }
    }

    /// Leaves out small points that another of the same colour covers, so that a picture of any record has a bounded
    /// size.
    fn thin_out(&self, points: &mut Vec<&Point>) {
        let mut seen = BTreeSet::new();
        points.retain(|point| {
            let Some((x, y)) = self.place(point.measured, point.rate) else { return true };
            let Colour(r, g, b, _) = point.colour;
            let place = [x, y].map(|value| (value * 2.0).round().to_bits());
            radius(point) > SMALLEST || seen.insert((place, [r, g, b]))
        });
    }

    /// Numbers of the costliest layers and the network's name beside their filled points, where there is room.
    fn numbers(&self, scene: &mut Scene, result: &RunResult, points: &[Point]) {
        let numbers = costliest(result);
        let discs: Vec<[f64; 4]> = points
            .iter()
            .flat_map(|point| {
                let r = radius(point);
                [point.measured, point.compulsory]
                    .map(|intensity| self.place(intensity, point.rate).map(|(x, y)| [x - r, y - r, x + r, y + r]))
            })
            .flatten()
            .collect();
        let number = |point: &Point| numbers.iter().position(|&index| Some(index) == point.index);
        let mut order: Vec<(usize, &Point)> = points
            .iter()
            .filter_map(
                |point| if point.index.is_none() { Some((0, point)) } else { Some((number(point)? + 1, point)) },
            )
            .collect();
        order.sort_by_key(|&(number, _)| number);
        let mut taken: Vec<[f64; 4]> = Vec::new();
        for (number, point) in order {
            let Some((x, y)) = self.place(point.measured.or(point.compulsory), point.rate) else { continue };
            let text = if number == 0 { "network".to_owned() } else { number.to_string() };
            let size = if number == 0 { 10.0 } else { 9.0 };
            let half = (text_width(&text, size, Face::Bold) / 2.0 + 1.0, size * 0.5);
            let reach = radius(point) + 2.0;
            let candidates = [0.0, 7.0, 14.0, 24.0, 36.0].into_iter().flat_map(|further| {
                [(1.0, 0.0), (-1.0, 0.0), (0.0, -1.0), (0.0, 1.0), (0.8, -0.8), (-0.8, -0.8), (0.8, 0.8), (-0.8, 0.8)]
                    .map(|(dx, dy)| (x + dx * (reach + further + half.0), y + dy * (reach + further + half.1)))
            });
            let bounds = |(x, y): (f64, f64)| [x - half.0, y - half.1, x + half.0, y + half.1];
            let inside = |b: [f64; 4]| b[0] > PLOT.left && b[1] > PLOT.top && b[2] < PLOT.right && b[3] < PLOT.bottom;
            let free = |b: [f64; 4]| inside(b) && !taken.iter().any(|other| overlap(*other, b));
            let fine: Vec<(f64, f64)> = candidates.filter(|&at| free(bounds(at))).collect();
            // Best clear of every disc; else where it hides the least.
            let hidden = |at: (f64, f64)| discs.iter().filter(|disc| overlap(**disc, bounds(at))).count();
            let Some(&at) = fine.iter().min_by_key(|&&at| hidden(at)) else { continue };
            taken.push(bounds(at));
            if (at.0 - x).hypot(at.1 - y) > reach + half.0 + half.1 + 4.0 {
                scene.line(&[(x, y), at], 0.5, GREY);
            }
            let [left, top, right, bottom] = bounds(at);
            scene.rect(left, top, right, bottom, WHITE.with_alpha(0.75));
            scene.text(text, at, Align::Middle, bold(size, INK));
        }
    }
}

/// Whether a disc lies in the plot, its edge aside.
fn fits((x, y): (f64, f64), radius: f64) -> bool {
    x - radius > PLOT.left - 12.0
        && x + radius < PLOT.right + 12.0
        && y - radius > PLOT.top - 12.0
        && y + radius < PLOT.bottom + 6.0
}

fn draw(scene: &mut Scene, from: (f64, f64), to: (f64, f64), colour: Colour, dashed: bool) {
    if dashed {
        scene.dashed(from, to, 1.25, colour);
    } else {
        scene.line(&[from, to], 1.75, colour);
    }
}

/// `0.05`.
fn plain(value: f64) -> String {
    if value >= 1e-3 { format!("{value:.3}").trim_end_matches('0').to_owned() } else { format!("{value:.0e}") }
}

/// A round value with its prefix: `20 G`.
fn si_tick(value: f64) -> String {
    let text = si(value);
    match text.split_once(' ') {
        Some((number, prefix)) if number.contains('.') => {
            format!("{} {prefix}", number.trim_end_matches('0').trim_end_matches('.'))
        }
        None if text.contains('.') && !text.contains('e') => {
            text.trim_end_matches('0').trim_end_matches('.').to_owned()
        }
        _ => text,
    }
}

/// Ceilings, what the marks mean, and the key of the numbers.
fn panel(scene: &mut Scene, result: &RunResult, limits: &Ceilings, points: &[Point]) {
    let mut y = TOP + 6.0;
    scene.text("ceilings", (PANEL, y), Align::Start, bold(10.0, INK));
    y += 17.0;
    let lines = [
        ("peak", limits.peak, "OP/s", INK, false),
        ("x mapping efficiency", limits.mapped, "OP/s", INK, true),
        ("memory pins", limits.pins, "B/s", VERMILLION, false),
        ("bandwidth achieved", limits.achieved, "B/s", VERMILLION, true),
    ];
    for (name, value, unit, colour, dashed) in lines {
        draw(scene, (PANEL, y), (PANEL + 22.0, y), colour, dashed);
        scene.text(name.replace("x ", "× "), (PANEL + 28.0, y), Align::Start, regular(9.0, INK));
        let value = if value > 0.0 { with_unit(&si(value), unit) } else { "unknown".to_owned() };
        scene.text(value, (RIGHT, y), Align::End, regular(9.0, GREY));
        y += 14.5;
    }
    y += 9.0;
    scene.text("points", (PANEL, y), Align::Start, bold(10.0, INK));
    scene.text("area: share of cycles", (RIGHT, y), Align::End, regular(8.5, GREY));
    y += 16.0;
    scene.disc((PANEL + 6.0, y), 4.0, GREY);
    scene.text("bytes moved", (PANEL + 16.0, y), Align::Start, regular(9.0, INK));
    scene.ring((PANEL + 92.0, y), 4.0, 1.0, GREY);
    let twins = if points.len() > CROWD { "compulsory (numbered)" } else { "compulsory" };
    scene.text(twins, (PANEL + 102.0, y), Align::Start, regular(8.5, INK));
    y += 17.0;
    scene.text("largest cause", (PANEL, y), Align::Start, regular(8.5, GREY));
    y += 14.0;
    let causes = result.totals.causes.entries();
    let present: Vec<usize> = (0..causes.len())
        .filter(|&cause| points.iter().any(|point| point.index.is_some() && point.colour == CAUSES[cause]))
        .collect();
    for (place, cause) in present.iter().enumerate() {
        let left = PANEL + (place % 2) as f64 * 106.0;
        scene.disc((left + 6.0, y), 4.0, CAUSES[*cause]);
        let name = fit(&words(causes[*cause].0.as_str()), 90.0, 8.5, Face::Regular);
        scene.text(name, (left + 16.0, y), Align::Start, regular(8.5, INK));
        if place % 2 == 1 || place + 1 == present.len() {
            y += 13.5;
        }
    }
    let rows = costliest(result).len().min(NUMBERED);
    if rows > 0 && y + 12.0 + 17.0 + rows as f64 * 14.5 < 512.0 {
        key(scene, result, y + 10.0, |index| points.iter().any(|point| point.index == Some(index)));
    }
}
