//! Signals of an array whose sums stay: `systole_top`, `array_output` and `pe_output` of that design.

use vcd::Value;

use super::signals::{Bits, Geometry, Signals, bits, cell, stage};
use crate::{
    engine::pe::{Integers, Probe, Streaming, Sum},
    rtl::Design,
};

/// The control of a pair, which travels with its left value; what it is without one.
fn valid(word: Option<Streaming>) -> Value {
    word.is_some().into()
}

/// Sums begin at zero.
fn first(word: Option<Streaming>) -> Value {
    word.is_some_and(|word| word.first && !word.resumes).into()
}

fn last(word: Option<Streaming>) -> Value {
    word.is_some_and(|word| word.last).into()
}

fn hold(word: Option<Streaming>) -> Value {
    word.map_or(Value::X, |word| word.holds.into())
}

/// As they stand in a register, the highest bit first.
const CONTROLS: [fn(Option<Streaming>) -> Value; 4] = [valid, first, last, hold];

fn control(word: Option<Streaming>) -> Bits {
    CONTROLS.iter().map(|read| read(word)).collect()
}

fn operand(word: Option<Streaming>) -> Option<i64> {
    word.map(|word| word.value.into())
}

fn value(sum: Option<Sum>) -> Option<i64> {
    sum.map(|sum| sum.value)
}

/// `{valid, first, last, hold, value}`.
fn link(word: Option<Streaming>, width: u32) -> Bits {
    [control(word), bits(operand(word), width)].concat()
}

/// `{valid, sum}`.
fn chained(sum: Option<Sum>, width: u32) -> Bits {
    [vec![sum.is_some().into()], bits(value(sum), width)].concat()
}

pub(super) fn signals(signals: &mut Signals, design: &Design) {
    let geometry = Geometry::of(design);
    let Geometry { rows, cols, port, operand_hop, left_bits, top_bits, sum_bits, .. } = geometry;
    let top = "top";

    // Both operands, from the ports to the first elements.
    for index in 0..port {
        let (scope, name) = stage("top.ports", index);
        let all = move |p: &Probe<Integers>| {
            let left = (0..rows).rev().flat_map(|row| link(p.left(row, 1 + index), left_bits));
            let above = (0..cols).rev().flat_map(|col| bits(p.top(col, 1 + index).map(i64::from), top_bits));
            left.chain(above).collect()
        };
        let width = design.array.rows * (4 + left_bits) + design.array.cols * top_bits;
        signals.vector(&scope, &name, width, all);
    }
    for (name, read) in ["array_valid", "array_first", "array_last", "array_hold"].into_iter().zip(CONTROLS) {
        signals.lanes(top, name, design.array.rows, move |p, row| read(p.left(row, port + row * operand_hop)));
    }
    let [row_count, col_count] = [design.array.rows, design.array.cols];
    let left = move |p: &Probe<Integers>, row: usize, place: usize| bits(operand(p.left(row, place)), left_bits);
    let above = move |p: &Probe<Integers>, col: usize, place: usize| bits(p.top(col, place).map(i64::from), top_bits);
    signals.packed(top, "left_values", [row_count, left_bits], move |p, row| left(p, row, 0));
    signals.packed(top, "top_values", [col_count, top_bits], move |p, col| above(p, col, 0));
    let entry = move |lane: usize| port + lane * operand_hop;
    signals.packed(top, "array_left", [row_count, left_bits], move |p, row| left(p, row, entry(row)));
    signals.packed(top, "array_top", [col_count, top_bits], move |p, col| above(p, col, entry(col)));
    for row in 0..rows {
        for index in 0..row * operand_hop {
            let (scope, name) = stage(&format!("top.skew_left.g_lane[{row}].registers"), index);
            signals.vector(&scope, &name, 4 + left_bits, move |p| link(p.left(row, port + 1 + index), left_bits));
        }
    }
    for col in 0..cols {
        for index in 0..col * operand_hop {
            let (scope, name) = stage(&format!("top.skew_top.g_lane[{col}].registers"), index);
            signals.vector(&scope, &name, top_bits, move |p| above(p, col, port + 1 + index));
        }
    }
    for row in 0..rows {
        for col in 0..cols {
            element_signals(signals, geometry, design.along_rows(), [row, col]);
        }
    }

    // Lanes, from the chain's end to the edge.
    let lanes = design.lanes();
    let reach = |lane: usize| if design.is_deskewed() { (lanes as usize - 1 - lane) * operand_hop } else { 0 };
    let edges: Vec<usize> = (0..lanes as usize).map(reach).collect();
    signals.lanes(top, "lane_valid", lanes, |p, lane| p.left_chain(lane, 0).is_some().into());
    signals.lanes(top, "out_valid", lanes, |p, lane| p.edge(lane).is_some().into());
    signals.packed(top, "lane_sums", [lanes, sum_bits], move |p, lane| bits(value(p.left_chain(lane, 0)), sum_bits));
    for (lane, registers) in edges.into_iter().enumerate() {
        for index in 0..registers {
            let (scope, name) = stage(&format!("top.g_deskewed.deskew_sums.g_lane[{lane}].registers"), index);
            let read = move |p: &Probe<Integers>| chained(p.left_chain(lane, 1 + index), sum_bits);
            signals.vector(&scope, &name, 1 + sum_bits, read);
        }
    }
}

fn element_signals(signals: &mut Signals, geometry: Geometry, along_rows: bool, [row, col]: [usize; 2]) {
    let Geometry { port, element, extra, operand_hop, left_bits, top_bits, sum_bits, .. } = geometry;
    let cell = cell(row, col);
    let position = port + (row + col) * operand_hop;
    let left = move |p: &Probe<Integers>| p.left(row, position);
    for index in 0..operand_hop {
        let place = (position + 1 + index).saturating_sub(operand_hop);
        if col > 0 {
            let (scope, name) = stage(&format!("{cell}.g_left_hop.hop"), index);
            signals.vector(&scope, &name, 4 + left_bits, move |p| link(p.left(row, place), left_bits));
        }
        if row > 0 {
            let (scope, name) = stage(&format!("{cell}.g_top_hop.hop"), index);
            signals.number(&scope, &name, top_bits, move |p| p.top(col, place).map(i64::from));
        }
    }
    // The place of the chain before this one.
    let before =
        if along_rows { col.checked_sub(1).map(|col| (row, col)) } else { row.checked_sub(1).map(|row| (row, col)) };
    if let Some((row, col)) = before {
        for index in 0..extra {
            let (scope, name) = stage(&format!("{cell}.g_chain_hop.hop"), index);
            let read = move |p: &Probe<Integers>| chained(p.behind(row, col, 1 + index), sum_bits);
            signals.vector(&scope, &name, 1 + sum_bits, read);
        }
    }

    let scope = format!("{cell}.element");
    for (name, read) in ["valid", "first", "last", "hold"].into_iter().zip(CONTROLS) {
        signals.bit(&scope, name, move |p| read(left(p)));
    }
    signals.number(&scope, "left", left_bits, move |p| operand(left(p)));
    signals.number(&scope, "top", top_bits, move |p| p.top(col, position).map(i64::from));
    let product_bits = left_bits + top_bits;
    for index in 0..element {
        let (scope, name) = stage(&format!("{scope}.pipeline"), index);
        let read = move |p: &Probe<Integers>| {
            let pair = p.pair(row, col, 1 + index);
            let product = pair.map(|(left, top)| i64::from(left.value) * i64::from(top));
            [bits(product, product_bits), control(pair.map(|(left, _)| left))].concat()
        };
        signals.vector(&scope, &name, product_bits + 4, read);
    }
    signals.bit(&scope, "late_valid", move |p| {
        valid(if element == 0 { left(p) } else { p.pair(row, col, element).map(|(left, _)| left) })
    });
    signals.number(&scope, "sum", sum_bits, move |p| p.kept(row, col));
    signals.bit(&scope, "copy", move |p| p.is_copied(row, col).into());

    signals.bit(&scope, "full", move |p| p.place(row, col).is_some().into());
    signals.bit(&scope, "waiting", move |p| p.place(row, col).is_some_and(|place| place.is_own).into());
    signals.number(&scope, "chain", sum_bits, move |p| value(p.place(row, col).map(|place| place.sum)));
    signals.bit(&scope, "chain_out_valid", move |p| p.place(row, col).is_some_and(|place| place.leaves).into());
    let entering = move |p: &Probe<Integers>| before.and_then(|(row, col)| p.behind(row, col, extra));
    signals.bit(&scope, "chain_in_valid", move |p| entering(p).is_some().into());
    if before.is_some() {
        signals.number(&scope, "chain_in", sum_bits, move |p| value(entering(p)));
    }
}
