//! Draws a scene with the plotters backends: SVG, and a bitmap that is drawn larger and averaged down, so that every
//! edge is smooth. Text in the bitmap is placed here, glyph by glyph with its bearing, which plotters leaves out.

use ab_glyph::{Font, Glyph, PxScale, ScaleFont, point};
use plotters::{
    backend::{BitMapBackend, DrawingBackend, SVGBackend},
    style::{
        Color, FontFamily, FontStyle, RGBAColor, ShapeStyle, TextStyle,
        text_anchor::{HPos, Pos, VPos},
    },
};

use super::{
    ChartError,
    palette::{Colour, WHITE},
    scene::{Align, Face, HEIGHT, Scene, Shape, WIDTH, font},
};

/// Drawn pixels a logical pixel.
const SCALE: u32 = 4;
/// Drawn pixels a side that become one pixel of the file.
const SHRINK: u32 = 2;
/// What viewers of the SVG use: the embedded face where it is installed, else one of the same widths.
const FAMILY: &str = "DejaVu Sans, Verdana, sans-serif";
/// The middle of small letters above the baseline, in ems: half of the embedded face's x height. SVG's `0.5ex`.
const HALF_X_HEIGHT: f64 = 0.273;

/// A colour and a line width in drawn pixels for plotters.
fn stroke(colour: Colour, width: u32) -> ShapeStyle {
    ShapeStyle { color: rgba(colour), filled: true, stroke_width: width }
}

fn rgba(colour: Colour) -> RGBAColor {
    RGBAColor(colour.0, colour.1, colour.2, colour.3)
}

/// The scene as an SVG document.
///
/// # Errors
/// The backend's.
pub fn svg(scene: &Scene) -> Result<String, ChartError> {
    let mut text = String::new();
    let (width, height) = drawn_size();
    {
        let mut backend = SVGBackend::with_string(&mut text, (width, height));
        let corner = (i32::try_from(width).unwrap_or(i32::MAX), i32::try_from(height).unwrap_or(i32::MAX));
        backend.draw_rect((0, 0), corner, &stroke(WHITE, 0), true).map_err(draw_error)?;
        shapes(&mut backend, scene, |backend, shape| svg_text(backend, shape))?;
        backend.present().map_err(draw_error)?;
    }
    // The coordinates stay fine; only the size that the document asks for is that of the PNG.
    let asked = format!("width=\"{}\" height=\"{}\" ", width / SHRINK, height / SHRINK);
    Ok(text.replacen(&format!("width=\"{width}\" height=\"{height}\" "), &asked, 1))
}

/// The scene as a PNG file of 8-bit RGB.
///
/// # Errors
/// The backend's or the encoder's.
pub fn png(scene: &Scene) -> Result<Vec<u8>, ChartError> {
    let (width, height) = drawn_size();
    let mut pixels = vec![255; 3 * index(width) * index(height)];
    {
        let mut backend = BitMapBackend::with_buffer(&mut pixels, (width, height));
        shapes(&mut backend, scene, |backend, shape| bitmap_text(backend, shape))?;
        backend.present().map_err(draw_error)?;
    }
    let (width, height, pixels) = (width / SHRINK, height / SHRINK, shrink(&pixels, index(width)));
    let mut file = Vec::new();
    let mut encoder = png::Encoder::new(&mut file, width, height);
    encoder.set_color(png::ColorType::Rgb);
    encoder.set_depth(png::BitDepth::Eight);
    // Flat areas compress best as they are.
    encoder.set_filter(png::FilterType::NoFilter);
    encoder.set_compression(png::Compression::Default);
    let mut writer = encoder.write_header()?;
    writer.write_image_data(&pixels)?;
    writer.finish()?;
    Ok(file)
}

/// Means of squares of `SHRINK` x `SHRINK` pixels.
fn shrink(pixels: &[u8], width: usize) -> Vec<u8> {
    let side = index(SHRINK);
    let row = 3 * width;
    let mut out = Vec::with_capacity(pixels.len() / (side * side));
    for rows in pixels.chunks_exact(row * side) {
        for x in (0..row).step_by(3 * side) {
            for channel in 0..3 {
                let sum: u32 =
                    (0..side * side).map(|i| u32::from(rows[(i / side) * row + x + 3 * (i % side) + channel])).sum();
                out.push(u8::try_from(sum / (SHRINK * SHRINK)).unwrap_or(u8::MAX));
            }
        }
    }
    out
}

/// Draws all shapes; `text` draws the texts.
fn shapes<B: DrawingBackend>(
    backend: &mut B,
    scene: &Scene,
    mut text: impl FnMut(&mut B, &Shape) -> Result<(), ChartError>,
) -> Result<(), ChartError> {
    for shape in &scene.shapes {
        match shape {
            Shape::Rect { corners: [left, top, right, bottom], colour } => {
                let (left, top, right, bottom) = (pixel(*left), pixel(*top), pixel(*right), pixel(*bottom));
                // A polygon, because the two backends disagree on whether a rectangle's last row belongs to it.
                if right > left && bottom > top {
                    let corners = [(left, top), (right, top), (right, bottom), (left, bottom)];
                    backend.fill_polygon(corners, &stroke(*colour, 0)).map_err(draw_error)?;
                }
            }
            Shape::Line { points, width, colour } => {
                let points = points.iter().map(|&(x, y)| (pixel(x), pixel(y)));
                let stroke = stroke(*colour, size(*width).max(1));
                backend.draw_path(points, &stroke).map_err(draw_error)?;
            }
            Shape::Disc { centre, radius, colour } => {
                let stroke = stroke(*colour, 0);
                backend
                    .draw_circle((pixel(centre.0), pixel(centre.1)), size(*radius), &stroke, true)
                    .map_err(draw_error)?;
            }
            Shape::Ring { centre, radius, width, colour } => {
                let stroke = stroke(*colour, size(*width).max(1));
                backend
                    .draw_circle((pixel(centre.0), pixel(centre.1)), size(*radius), &stroke, false)
                    .map_err(draw_error)?;
            }
            Shape::Text { .. } => text(backend, shape)?,
        }
    }
    Ok(())
}

fn svg_text(backend: &mut SVGBackend<'_>, shape: &Shape) -> Result<(), ChartError> {
    let Shape::Text { text, at, size, face, align, colour } = shape else { return Ok(()) };
    let h_pos = match align {
        Align::Start => HPos::Left,
        Align::Middle => HPos::Center,
        Align::End => HPos::Right,
    };
    // plotters divides its size by 1.24 for the document.
    let ink = rgba(*colour);
    let style = TextStyle::from((FontFamily::Name(FAMILY), size * f64::from(SCALE) * 1.24))
        .color(&ink)
        .pos(Pos::new(h_pos, VPos::Center));
    let style = match face {
        Face::Regular => style,
        Face::Bold => TextStyle { font: style.font.style(FontStyle::Bold), ..style },
    };
    backend.draw_text(text, &style, (pixel(at.0), pixel(at.1))).map_err(draw_error)
}

fn bitmap_text(backend: &mut BitMapBackend<'_>, shape: &Shape) -> Result<(), ChartError> {
    let Shape::Text { text, at, size, face, colour, .. } = shape else { return Ok(()) };
    let font = font(*face);
    let em = size * f64::from(SCALE);
    let units = font.units_per_em().unwrap_or(2048.0);
    // ab_glyph's scale is the height from descent to ascent.
    let scale = PxScale::from(real(em) * font.height_unscaled() / units);
    let scaled = font.as_scaled(scale);
    let mut x = real(shape.bounds()[0] * f64::from(SCALE));
    let baseline = real(at.1 * f64::from(SCALE) + em * HALF_X_HEIGHT);
    let (width, height) = drawn_size();
    for c in text.chars() {
        let id = font.glyph_id(c);
        let glyph: Glyph = id.with_scale_and_position(scale, point(x, baseline));
        x += scaled.h_advance(id);
        let Some(outline) = font.outline_glyph(glyph) else { continue };
        let corner = outline.px_bounds().min;
        let mut failed = None;
        outline.draw(|dx, dy, coverage| {
            let at = (floor(corner.x) + i64::from(dx), floor(corner.y) + i64::from(dy));
            let (Ok(x), Ok(y)) = (u32::try_from(at.0), u32::try_from(at.1)) else { return };
            if x < width && y < height && coverage > 0.0 {
                let point = (i32::try_from(x).unwrap_or(0), i32::try_from(y).unwrap_or(0));
                let colour = colour.with_alpha(f64::from(coverage.min(1.0)) * colour.3);
                if let Err(error) = backend.draw_pixel(point, rgba(colour).to_backend_color()) {
                    failed = Some(draw_error(error));
                }
            }
        });
        if let Some(error) = failed {
            return Err(error);
        }
    }
    Ok(())
}

#[allow(clippy::needless_pass_by_value, reason = "used as a function in `map_err`")]
fn draw_error(error: impl std::fmt::Display) -> ChartError {
    ChartError::Draw(error.to_string())
}

/// The drawing's size in drawn pixels.
#[allow(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "constants that fit")]
const fn drawn_size() -> (u32, u32) {
    (WIDTH as u32 * SCALE, HEIGHT as u32 * SCALE)
}

/// A logical coordinate in drawn pixels.
#[allow(clippy::cast_possible_truncation, reason = "clamped; not-a-number becomes 0")]
fn pixel(value: f64) -> i32 {
    (value * f64::from(SCALE)).round().clamp(-1e6, 1e6) as i32
}

/// A logical length in drawn pixels.
fn size(value: f64) -> u32 {
    u32::try_from(pixel(value)).unwrap_or(0)
}

#[allow(clippy::cast_possible_truncation, reason = "glyph positions lie in the picture; clamped")]
fn floor(value: f32) -> i64 {
    value.floor().clamp(-1e6, 1e6) as i64
}

#[allow(clippy::cast_possible_truncation, reason = "positions need no more than f32")]
fn real(value: f64) -> f32 {
    value as f32
}

/// A pixel count as an index.
fn index(value: u32) -> usize {
    usize::try_from(value).expect("a picture's side fits an index")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::report::chart::{palette::BLUE, scene::Style};

    #[test]
    fn a_rectangle_covers_the_same_pixels_that_it_names() {
        let mut scene = Scene::default();
        scene.rect(10.0, 20.0, 12.0, 23.0, BLUE);
        let file = png(&scene).unwrap();
        let mut reader = png::Decoder::new(file.as_slice()).read_info().unwrap();
        let mut pixels = vec![0; reader.output_buffer_size()];
        let info = reader.next_frame(&mut pixels).unwrap();
        assert_eq!((info.width, info.height), (1920, 1080));
        let at = |x: usize, y: usize| &pixels[3 * (y * 1920 + x)..][..3];
        assert_eq!(at(21, 42), [0, 114, 178]);
        assert_eq!(at(18, 42), [255; 3]);
        assert_eq!(at(26, 42), [255; 3]);
        assert_eq!(at(21, 48), [255; 3]);
    }

    #[test]
    fn markup_in_a_text_is_escaped() {
        let mut scene = Scene::default();
        let style = Style { size: 10.0, face: Face::Bold, colour: BLUE };
        scene.text("<script>&\"", (50.0, 50.0), Align::Start, style);
        let text = svg(&scene).unwrap();
        assert!(text.contains("&lt;script&gt;&amp;&quot;") && text.contains("font-weight=\"bold\""), "{text}");
        assert!(text.starts_with("<svg width=\"1920\" height=\"1080\" viewBox=\"0 0 3840 2160\""), "{text}");
    }
}
