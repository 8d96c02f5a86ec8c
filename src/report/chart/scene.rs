//! A picture as a list of shapes in logical pixels, and the measure of its text. Knows no chart and no file format.

use std::sync::LazyLock;

use ab_glyph::{Font, FontRef};

use super::palette::Colour;
use crate::report::names::Names;

/// Width of every chart in logical pixels.
pub const WIDTH: f64 = 960.0;
/// Height of every chart in logical pixels.
pub const HEIGHT: f64 = 540.0;

/// Which of the two embedded faces.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Face {
    /// `DejaVuSans`.
    Regular,
    /// `DejaVuSans-Bold`.
    Bold,
}

/// Where a text stands relative to its point, horizontally. Vertically its middle is at the point.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Align {
    /// It starts there.
    Start,
    /// Its middle is there.
    Middle,
    /// It ends there.
    End,
}

/// One shape.
#[derive(Clone, Debug, PartialEq)]
pub enum Shape {
    /// A filled rectangle: left, top, right, bottom.
    Rect { corners: [f64; 4], colour: Colour },
    /// A line of straight pieces.
    Line { points: Vec<(f64, f64)>, width: f64, colour: Colour },
    /// A disc.
    Disc { centre: (f64, f64), radius: f64, colour: Colour },
    /// A circle's line.
    Ring { centre: (f64, f64), radius: f64, width: f64, colour: Colour },
    /// Text on one line.
    Text { text: String, at: (f64, f64), size: f64, face: Face, align: Align, colour: Colour },
}

/// Shapes, later ones over earlier ones.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Scene {
    /// The shapes.
    pub shapes: Vec<Shape>,
}

/// How a text looks.
#[derive(Clone, Copy, Debug)]
pub struct Style {
    /// Em size in logical pixels.
    pub size: f64,
    /// Regular or bold.
    pub face: Face,
    /// Its colour.
    pub colour: Colour,
}

impl Scene {
    /// Adds a rectangle, unless it has no area.
    pub fn rect(&mut self, left: f64, top: f64, right: f64, bottom: f64, colour: Colour) {
        if right > left && bottom > top {
            self.shapes.push(Shape::Rect { corners: [left, top, right, bottom], colour });
        }
    }

    /// Adds a line.
    pub fn line(&mut self, points: &[(f64, f64)], width: f64, colour: Colour) {
        self.shapes.push(Shape::Line { points: points.to_vec(), width, colour });
    }

    /// Adds a dashed straight line.
    pub fn dashed(&mut self, from: (f64, f64), to: (f64, f64), width: f64, colour: Colour) {
        const DASH: f64 = 5.0;
        const GAP: f64 = 3.5;
        let (dx, dy) = (to.0 - from.0, to.1 - from.1);
        let length = dx.hypot(dy);
        let mut start = 0.0;
        while start < length {
            let end = (start + DASH).min(length);
            let at = |along: f64| (from.0 + dx * along / length, from.1 + dy * along / length);
            self.line(&[at(start), at(end)], width, colour);
            start += DASH + GAP;
        }
    }

    /// Adds a disc.
    pub fn disc(&mut self, centre: (f64, f64), radius: f64, colour: Colour) {
        self.shapes.push(Shape::Disc { centre, radius, colour });
    }

    /// Adds a circle's line.
    pub fn ring(&mut self, centre: (f64, f64), radius: f64, width: f64, colour: Colour) {
        self.shapes.push(Shape::Ring { centre, radius, width, colour });
    }

    /// Adds a text.
    pub fn text(&mut self, text: impl Into<String>, at: (f64, f64), align: Align, style: Style) {
        let Style { size, face, colour } = style;
        self.shapes.push(Shape::Text { text: text.into(), at, size, face, align, colour });
    }

    /// Whether everything is finite and stands inside the picture.
    #[cfg(test)]
    pub fn check(&self) -> Result<(), String> {
        let inside = |x: f64, y: f64| (-0.01..=WIDTH + 0.01).contains(&x) && (-0.01..=HEIGHT + 0.01).contains(&y);
        for shape in &self.shapes {
            let fine = match shape {
                Shape::Rect { corners: [l, t, r, b], .. } => inside(*l, *t) && inside(*r, *b),
                Shape::Line { points, .. } => points.iter().all(|&(x, y)| inside(x, y)),
                Shape::Disc { centre: (x, y), radius, .. } | Shape::Ring { centre: (x, y), radius, .. } => {
                    inside(x - radius, y - radius) && inside(x + radius, y + radius)
                }
                Shape::Text { .. } => {
                    let [left, top, right, bottom] = shape.bounds();
                    inside(left, top) && inside(right, bottom)
                }
            };
            if !fine {
                return Err(format!("not inside the picture: {shape:?} {:?}", shape.bounds()));
            }
        }
        // Texts of one picture never overlap.
        let texts: Vec<_> = self.shapes.iter().filter(|shape| matches!(shape, Shape::Text { .. })).collect();
        for (index, one) in texts.iter().enumerate() {
            for two in &texts[..index] {
                if overlap(one.bounds(), two.bounds()) {
                    return Err(format!("texts overlap: {one:?} and {two:?}"));
                }
            }
        }
        Ok(())
    }
}

impl Shape {
    /// The box of a text, cap height and descent left out above and below; for other shapes an empty box at the origin.
    pub fn bounds(&self) -> [f64; 4] {
        let Self::Text { text, at: (x, y), size, face, align, .. } = self else { return [0.0; 4] };
        let width = text_width(text, *size, *face);
        let left = match align {
            Align::Start => *x,
            Align::Middle => x - width / 2.0,
            Align::End => x - width,
        };
        [left, y - size * 0.45, left + width, y + size * 0.45]
    }
}

/// Whether two boxes share area.
pub fn overlap(one: [f64; 4], two: [f64; 4]) -> bool {
    one[0] < two[2] && two[0] < one[2] && one[1] < two[3] && two[1] < one[3]
}

/// The embedded font of a face.
pub fn font(face: Face) -> &'static FontRef<'static> {
    static REGULAR: LazyLock<FontRef<'static>> =
        LazyLock::new(|| load(include_bytes!("../fonts/DejaVuSans.subset.ttf")));
    static BOLD: LazyLock<FontRef<'static>> =
        LazyLock::new(|| load(include_bytes!("../fonts/DejaVuSans-Bold.subset.ttf")));
    match face {
        Face::Regular => &REGULAR,
        Face::Bold => &BOLD,
    }
}

fn load(bytes: &'static [u8]) -> FontRef<'static> {
    FontRef::try_from_slice(bytes).expect("the embedded font is a font")
}

/// Width of a text in the units of its em size.
pub fn text_width(text: &str, size: f64, face: Face) -> f64 {
    let font = font(face);
    let units = f64::from(font.units_per_em().unwrap_or(2048.0));
    let advance: f64 = text.chars().map(|c| f64::from(font.h_advance_unscaled(font.glyph_id(c)))).sum();
    advance / units * size
}

/// Cuts the middle out of a text that is wider than `room`; the end keeps two thirds, as layer names differ there.
pub fn fit(text: &str, room: f64, size: f64, face: Face) -> String {
    if text_width(text, size, face) <= room {
        return text.to_owned();
    }
    let dots = text_width("…", size, face);
    let take = |characters: &mut dyn Iterator<Item = char>, room: f64| {
        let mut used = 0.0;
        let mut taken = Vec::new();
        for c in characters {
            used += text_width(c.encode_utf8(&mut [0; 4]), size, face);
            if used > room {
                break;
            }
            taken.push(c);
        }
        taken
    };
    let tail = take(&mut text.chars().rev(), (room - dots) * 0.64);
    let tail: String = tail.into_iter().rev().collect();
    let left = room - dots - text_width(&tail, size, face);
    let head: String = take(&mut text.chars(), left).into_iter().collect();
    format!("{head}…{tail}")
}

/// [`fit`] for a layer's name: what most names share goes first.
pub fn fit_name(names: &Names, name: &str, room: f64, size: f64, face: Face) -> String {
    let short = names.short(name, |text| text_width(text, size, face) <= room);
    fit(&short, room, size, face)
}

/// Lines no wider than `room`, broken at blanks; a word that is too long is shortened.
pub fn wrap(text: &str, room: f64, size: f64, face: Face) -> Vec<String> {
    let mut lines: Vec<String> = Vec::new();
    for word in text.split_whitespace() {
        let word = fit(word, room, size, face);
        match lines.last_mut() {
            Some(line) if text_width(&format!("{line} {word}"), size, face) <= room => *line += &format!(" {word}"),
            _ => lines.push(word),
        }
    }
    lines
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_fitted_text_fits_and_keeps_its_end() {
        let name = "features.12.depthwise.conv.weight";
        let short = fit(name, 80.0, 10.0, Face::Regular);
        assert!(text_width(&short, 10.0, Face::Regular) <= 80.0);
        assert!(short.ends_with("weight") && short.contains('…'), "{short}");
        assert_eq!(fit("short", 80.0, 10.0, Face::Regular), "short");
    }

    #[test]
    fn bold_is_wider_than_regular() {
        assert!(text_width("utilization", 10.0, Face::Bold) > text_width("utilization", 10.0, Face::Regular));
        let m = text_width("M", 100.0, Face::Regular);
        assert!((m - 86.3).abs() < 0.1, "{m}");
    }
}
