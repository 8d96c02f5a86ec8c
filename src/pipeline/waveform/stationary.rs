//! Signals of an array whose operand stays: `systole_top`, `array_stationary` and `pe_stationary` of that design.

use vcd::Value;

use super::signals::{Bits, Geometry, Results, Signals, bits, bits_of, cell, stage};
use crate::{
    engine::pe::{Integers, Probe, Streaming},
    rtl::Design,
};

/// How a streamed word and the `take` before it stand in a register: `{take, take_slot, value}`.
#[derive(Clone, Copy)]
struct Link {
    value_bits: u32,
    slot_bits: u32,
    /// Without shadow registers nothing is taken.
    takes: bool,
}

impl Link {
    fn take(self, word: Option<Streaming>) -> Value {
        if self.takes { word.is_some_and(|word| word.takes).into() } else { Value::X }
    }

    fn slot(self, word: Option<Streaming>) -> Bits {
        bits(word.filter(|word| self.takes && word.takes).map(|word| word.slot.into()), self.slot_bits)
    }

    fn value(self, word: Option<Streaming>) -> Bits {
        bits(word.map(|word| word.value.into()), self.value_bits)
    }

    fn all(self, word: Option<Streaming>) -> Bits {
        [vec![self.take(word)], self.slot(word), self.value(word)].concat()
    }

    fn width(self) -> u32 {
        1 + self.slot_bits + self.value_bits
    }
}

pub(super) fn signals(signals: &mut Signals, design: &Design, results: &Results, loads: Vec<u64>) {
    let geometry = Geometry::of(design);
    let Geometry { rows, cols, port, element, operand_hop, sum_bits, .. } = geometry;
    let depth = u32::from(design.array.weight_load.shadow_depth);
    let link = Link { value_bits: geometry.left_bits, slot_bits: bits_of(depth), takes: depth > 0 };
    let sum_hop = operand_hop + element;
    let row_count = design.array.rows;
    let top = "top";
    signals.bit(top, "load_ready", move |probe| loads.binary_search(&probe.cycle()).is_ok().into());

    // Rows, from the port to the first element.
    for index in 0..port {
        let (scope, name) = stage("top.row_port", index);
        signals.packed(&scope, &name, [row_count, link.width()], move |p, row| link.all(p.left(row, 1 + index)));
    }
    signals.packed(top, "values", [row_count, link.value_bits], move |p, row| link.value(p.left(row, 0)));
    let entry = move |p: &Probe<Integers>, row: usize| p.left(row, port + row * sum_hop);
    if link.takes {
        signals.lanes(top, "array_take", row_count, move |p, row| link.take(entry(p, row)));
        signals.packed(top, "array_slot", [row_count, link.slot_bits], move |p, row| link.slot(entry(p, row)));
    }
    signals.packed(top, "array_value", [row_count, link.value_bits], move |p, row| link.value(entry(p, row)));
    for row in 0..rows {
        for index in 0..row * sum_hop {
            let (scope, name) = stage(&format!("top.skew_rows.g_lane[{row}].registers"), index);
            signals.vector(&scope, &name, link.width(), move |p| link.all(p.left(row, port + 1 + index)));
        }
        for col in 0..cols {
            element_signals(signals, link, design, results, [row, col]);
        }
    }

    // Columns, from their sums' entry to the edge.
    let lanes = [design.array.cols, sum_bits];
    let result = results.clone();
    signals.packed(top, "sum_top", lanes, move |p, col| bits(result.value(p.sum_top(col), col), sum_bits));
    let result = results.clone();
    let bottom = move |p: &Probe<Integers>, col: usize, age: usize| result.value(p.made(rows - 1, col, age), col);
    let below = bottom.clone();
    signals.packed(top, "sum_bottom", lanes, move |p, col| bits(below(p, col, element + 1), sum_bits));
    for col in 0..cols {
        let behind = if design.is_deskewed() { (cols - 1 - col) * operand_hop } else { 0 };
        for index in 0..behind {
            let (scope, name) = stage(&format!("top.g_deskewed.deskew_sums.g_lane[{col}].registers"), index);
            let bottom = bottom.clone();
            signals.number(&scope, &name, sum_bits, move |p| bottom(p, col, element + 2 + index));
        }
    }
}

fn element_signals(signals: &mut Signals, link: Link, design: &Design, results: &Results, [row, col]: [usize; 2]) {
    let Geometry { port, element, extra, operand_hop, top_bits, sum_bits, .. } = Geometry::of(design);
    let sum_hop = operand_hop + element;
    let cell = cell(row, col);
    let position = port + row * sum_hop + col * operand_hop;
    if col > 0 {
        for index in 0..operand_hop {
            let (scope, name) = stage(&format!("{cell}.g_hop.hop"), index);
            let place = position - operand_hop + 1 + index;
            signals.vector(&scope, &name, link.width(), move |p| link.all(p.left(row, place)));
        }
    }
    if row > 0 {
        for index in 0..extra {
            let (scope, name) = stage(&format!("{cell}.g_sum.hop"), index);
            let age = element + 2 + index;
            let result = results.clone();
            signals.number(&scope, &name, sum_bits, move |p| result.value(p.made(row - 1, col, age), col));
        }
    }
    let scope = format!("{cell}.element");
    signals.vector(&scope, "value", link.value_bits, move |p| link.value(p.left(row, position)));
    if link.takes {
        signals.bit(&scope, "take", move |p| link.take(p.left(row, position)));
        signals.vector(&scope, "take_slot", link.slot_bits, move |p| link.slot(p.left(row, position)));
    }

    signals.bit(&scope, "load", move |p| p.loading(row, col).is_some().into());
    let slots = design.array.weight_load.shadow_depth;
    let load_slot = move |p: &Probe<Integers>| p.loading(row, col).map(|load| load.slot.into());
    signals.number(&scope, "load_slot", link.slot_bits, load_slot);
    let word = move |p: &Probe<Integers>| p.loading(row, col)?.word.map(i64::from);
    signals.number(&scope, "word", top_bits, word);
    signals.number(&scope, "weight", top_bits, move |p| p.weight(row, col).map(i64::from));
    let active = move |p: &Probe<Integers>| p.active(row, col).map(i64::from);
    if slots == 0 {
        signals.number(&format!("{scope}.g_exposed"), "active", top_bits, active);
    } else {
        let scope = format!("{scope}.g_shadow");
        signals.number(&scope, "active", top_bits, active);
        for slot in 0..usize::from(slots) {
            let shadow = move |p: &Probe<Integers>| p.shadow(slot, row, col).map(i64::from);
            signals.number(&scope, &format!("shadow[{slot}]"), top_bits, shadow);
        }
    }

    let result = results.clone();
    signals.number(&scope, "sum_in", sum_bits, move |p| {
        result.value(if row == 0 { p.sum_top(col) } else { p.made(row - 1, col, sum_hop) }, col)
    });
    let result = results.clone();
    signals.number(&scope, "sum_out", sum_bits, move |p| result.value(p.made(row, col, element + 1), col));
}
