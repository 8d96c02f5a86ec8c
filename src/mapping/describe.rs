//! A mapping in words: one line for tables, a loop nest for `systole map`.

use std::fmt::Write as _;

use super::{
    matrix::{LoopOrder, MatrixMapping},
    plan::LayerMapping,
    vector::VectorMapping,
};
use crate::{dataflow::schedule, units::thousands};

/// A layer's mapping in one line of a table.
pub fn line(mapping: &LayerMapping) -> String {
    match mapping {
        LayerMapping::Matrix(m) => {
            let t = &m.tile;
            let place = if m.on_vector { "vector".to_string() } else { format!("{:?}", m.dataflow) };
            let order = match m.order {
                LoopOrder::OutputsOuter => "outputs outer",
                LoopOrder::PixelsOuter => "pixels outer",
            };
            let groups = if m.shape.groups > 1 {
                format!(", {} groups a pass, {} passes a tile", m.groups_per_pass, t.passes)
            } else {
                String::new()
            };
            let slots = format!("{}/{}/{}/{}", m.slots.input, m.slots.weight, m.slots.output, m.slots.accumulator);
            let stays = match (m.input_resident, m.output_resident) {
                (true, true) => ", input and output stay on chip",
                (true, false) => ", input stays on chip",
                (false, true) => ", output stays on chip",
                (false, false) => "",
            };
            format!("{place} tile n{} p{} q{} o{} c{}, {order}, slots {slots}{groups}{stays}", t.n, t.p, t.q, t.o, t.c)
        }
        LayerMapping::Vector(parts) => {
            let tile = parts.first().map_or([0; 4], |part| part.tile);
            let moved = if parts.iter().all(|part| part.function.is_none()) { "moved" } else { "vector" };
            format!("{moved} tile n{} p{} q{} c{}", tile[0], tile[1], tile[2], tile[3])
        }
        LayerMapping::Host => "host".into(),
        LayerMapping::Free => String::new(),
    }
}

/// The loop nest, outermost first, one loop a line.
pub fn loop_nest(mapping: &LayerMapping) -> String {
    match mapping {
        LayerMapping::Matrix(m) => matrix_nest(m),
        LayerMapping::Vector(parts) => parts.iter().map(vector_nest).collect(),
        LayerMapping::Host => "on the host, whole\n".into(),
        LayerMapping::Free => "nothing to do\n".into(),
    }
}

/// A loop of more than one trip.
fn open(nest: &mut String, depth: &mut usize, name: &str, trips: u32, what: &str) {
    if trips > 1 {
        let _ = writeln!(nest, "{:indent$}for {name} in 0..{trips}{what}", "", indent = 2 * *depth);
        *depth += 1;
    }
}

fn matrix_nest(m: &MatrixMapping) -> String {
    let (trips, tile, shape) = (m.trips(), &m.tile, &m.shape);
    let mut nest = String::new();
    let mut depth = 0;
    let cut = |part: u32, whole: u32| format!("   # {part} of {whole}");
    open(&mut nest, &mut depth, "pass", trips.passes, &cut(tile.passes, m.passes()));
    let outputs = cut(tile.o, m.pass_outputs());
    let pixels = [
        ("n", trips.n, cut(tile.n, shape.n)),
        ("p", trips.p, cut(tile.p, shape.p)),
        ("q", trips.q, cut(tile.q, shape.q)),
    ];
    if m.order == LoopOrder::OutputsOuter {
        open(&mut nest, &mut depth, "o", trips.o, &outputs);
    }
    for (name, count, what) in &pixels {
        open(&mut nest, &mut depth, name, *count, what);
    }
    if m.order == LoopOrder::PixelsOuter {
        open(&mut nest, &mut depth, "o", trips.o, &outputs);
    }
    open(&mut nest, &mut depth, "c", trips.c, &cut(tile.c, m.pass_channels()));
    let indent = 2 * depth;
    let tile = |bytes: u64, slots: u32, stays: bool| {
        let bytes = match (stays, bytes) {
            (true, _) => return "stays on chip".to_string(),
            (false, bytes) => format!("{} B", thousands(bytes)),
        };
        if slots > 1 { format!("{slots} x {bytes}") } else { bytes }
    };
    let _ = writeln!(
        nest,
        "{:indent$}buffers: input {}, weights {}, output {}",
        "",
        tile(m.input_slot(), m.slots.input, m.input_resident),
        tile(m.weight_slot() + m.parameter_slot(), m.slots.weight, false),
        tile(m.output_slot(), m.slots.output, m.output_resident),
    );
    if !m.on_vector {
        let sums = tile_count(m.accumulator_slot(), m.slots.accumulator);
        let _ = writeln!(nest, "{:indent$}accumulators: {sums}", "");
    }
    let inside = if m.on_vector {
        "vector unit: depthwise, then requantize".to_string()
    } else {
        format!("array, {:?}: {}", m.dataflow, schedule(m.dataflow).description())
    };
    let _ = writeln!(nest, "{:indent$}{inside}", "");
    nest
}

fn tile_count(count: u64, slots: u32) -> String {
    let count = thousands(count);
    if slots > 1 { format!("{slots} x {count}") } else { count }
}

fn vector_nest(m: &VectorMapping) -> String {
    let (trips, tile, whole) = (m.trips(), m.tile, m.shape.output);
    let mut nest = String::new();
    let mut depth = 0;
    for (i, name) in ["n", "p", "q", "c"].iter().enumerate() {
        open(&mut nest, &mut depth, name, trips[i], &format!("   # {} of {}", tile[i], whole[i]));
    }
    let what = m.function.map_or("move through a buffer".to_string(), |function| format!("vector unit: {function:?}"));
    let _ = writeln!(nest, "{:indent$}{what}", "", indent = 2 * depth);
    nest
}
