//! What all charts share: title, subtitle, footer, the key of numbered layers, text styles.

use super::{
    layers::costliest,
    palette::{Colour, GREY, INK},
    scene::{Align, Face, Scene, Style, WIDTH, fit, fit_name, text_width},
};
use crate::{
    report::{
        format::{clean, percent, seconds, share, si, si_count, thousands, with_unit},
        names::Names,
        title,
    },
    result::RunResult,
};

/// Left edge of everything.
pub const LEFT: f64 = 24.0;
/// Right edge of everything.
pub const RIGHT: f64 = WIDTH - 24.0;
/// Where charts begin below the header.
pub const TOP: f64 = 80.0;
/// Left edge of the panel on the right.
pub const PANEL: f64 = 728.0;
/// Middle of the footer's line.
const FOOTER: f64 = 526.0;

/// A regular text.
pub const fn regular(size: f64, colour: Colour) -> Style {
    Style { size, face: Face::Regular, colour }
}

/// A bold text.
pub const fn bold(size: f64, colour: Colour) -> Style {
    Style { size, face: Face::Bold, colour }
}

/// A scene with title, subtitle and footer. `what` says what the chart shows.
pub fn scene(result: &RunResult, what: &str, note: &str) -> Scene {
    let mut scene = Scene::default();
    let (totals, machine) = (&result.totals, &result.machine);
    let tail = format!(": {what}");
    let room = RIGHT - LEFT - text_width(&tail, 18.0, Face::Bold);
    let name = fit(&title(result), room, 18.0, Face::Bold);
    scene.text(name + &tail, (LEFT, 28.0), Align::Start, bold(18.0, INK));
    let mut subtitle = format!(
        "{} cycles = {} · array utilization {} · batch {}",
        thousands(totals.cycles),
        seconds(totals.seconds),
        percent(totals.array_utilization),
        si_count(result.provenance.batch)
    );
    if !note.is_empty() {
        subtitle += &format!(" · {note}");
    }
    line(&mut scene, &subtitle, 50.0, 11.0);
    let footer = format!(
        "{} x {} array at {}, peak {} · systole {} · fidelity {} · config {} · model {}",
        si_count(machine.rows),
        si_count(machine.cols),
        with_unit(&si(machine.clock_mhz * 1e6), "Hz"),
        with_unit(&si(machine.peak_macs_per_s), "MAC/s"),
        clean(&result.provenance.systole_version),
        result.provenance.fidelity,
        clean(&result.provenance.config_hash),
        clean(&result.provenance.model_hash),
    );
    line(&mut scene, &footer, FOOTER, 8.0);
    scene
}

fn line(scene: &mut Scene, text: &str, y: f64, size: f64) {
    scene.text(fit(text, RIGHT - LEFT, size, Face::Regular), (LEFT, y), Align::Start, regular(size, GREY));
}

/// A chart that has nothing to show says so.
pub fn nothing(scene: &mut Scene, text: &str) {
    scene.text(text, (WIDTH / 2.0, 280.0), Align::Middle, regular(14.0, GREY));
}

/// The key of the numbered layers from `top` down in the panel on the right; `skip` leaves out numbers that the chart
/// does not show.
pub fn key(scene: &mut Scene, result: &RunResult, top: f64, shown: impl Fn(usize) -> bool) {
    scene.text("costliest layers", (PANEL, top), Align::Start, bold(10.0, INK));
    scene.text("of all cycles", (RIGHT, top), Align::End, regular(8.5, GREY));
    let names = Names::of(result);
    let rows = costliest(result).into_iter().enumerate().filter(|&(_, index)| shown(index));
    for (row, (number, index)) in rows.enumerate() {
        let y = top + 17.0 + row as f64 * 14.5;
        key_entry(scene, result, &names, (PANEL, RIGHT), y, (number + 1, index));
    }
}

/// One row of a key: number, name, share.
pub fn key_entry(
    scene: &mut Scene,
    result: &RunResult,
    names: &Names,
    (left, right): (f64, f64),
    y: f64,
    numbered: (usize, usize),
) {
    let (number, index) = numbered;
    let layer = &result.layers[index];
    let share = percent(share(layer.cycles, result.totals.cycles));
    scene.text(number.to_string(), (left + 11.0, y), Align::End, bold(9.0, INK));
    let room = right - left - 16.0 - text_width(&share, 9.0, Face::Regular) - 6.0;
    let name = fit_name(names, &layer.name, room, 9.0, Face::Regular);
    scene.text(name, (left + 16.0, y), Align::Start, regular(9.0, INK));
    scene.text(share, (right, y), Align::End, regular(9.0, GREY));
}

/// Moves centres apart so that neighbours are `distance` from each other, inside `low..high`; they stay in order.
pub fn spread(centres: &mut [f64], distance: f64, low: f64, high: f64) {
    let mut least = low;
    for centre in centres.iter_mut() {
        *centre = centre.max(least);
        least = *centre + distance;
    }
    let mut most = high;
    for centre in centres.iter_mut().rev() {
        *centre = centre.min(most);
        most = *centre - distance;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn spread_centres_keep_their_distance_and_order() {
        let mut centres = [10.0, 11.0, 12.0, 99.0, 100.0];
        spread(&mut centres, 10.0, 0.0, 100.0);
        assert!(centres.windows(2).all(|pair| pair[1] - pair[0] >= 9.999), "{centres:?}");
        assert!(centres.iter().all(|centre| (0.0..=100.0).contains(centre)));
    }
}
