//! Which layers a chart shows, which of them get a number, and how neighbours are grouped when there are too many.

use crate::{
    report::format::clean,
    result::{LayerResult, RunResult},
};

/// Layers that get a number and stand in a chart's key.
pub const NUMBERED: usize = 10;
/// Up to this many layers have a row with their name each; more become thin columns.
pub const ROWS: usize = 32;
/// Columns at most; beyond it neighbours are grouped.
const COLUMNS: usize = 300;

/// One layer, or neighbours of which none is numbered.
#[derive(Clone, Debug, PartialEq)]
pub struct Column {
    /// Index of its first layer in the record.
    pub first: usize,
    /// Its layers.
    pub layers: u64,
    /// The layer's name; empty for a group.
    pub name: String,
    /// 1 for the costliest layer of the network, and so on; the same in every chart.
    pub number: Option<usize>,
    /// Its part of the timeline.
    pub cycles: f64,
    /// Cycles by cause.
    pub causes: [f64; 11],
    /// Mapping efficiency, pipeline efficiency, array activity, array utilization, from 0 to 1.
    pub factors: [f64; 4],
    array_macs: f64,
    beats: f64,
    array_busy: f64,
    span: f64,
}

/// Indices of the costliest layers, at most [`NUMBERED`]; the first of equals first.
pub fn costliest(result: &RunResult) -> Vec<usize> {
    let mut order: Vec<usize> = (0..result.layers.len()).filter(|&index| result.layers[index].cycles > 0).collect();
    order.sort_by_key(|&index| std::cmp::Reverse(result.layers[index].cycles));
    order.truncate(NUMBERED);
    order
}

/// The layers for which `shown` holds, in program order; more than [`COLUMNS`] are grouped, the numbered ones never.
pub fn columns(result: &RunResult, shown: impl Fn(&LayerResult) -> bool) -> Vec<Column> {
    let numbers = costliest(result);
    let elements = result.machine.rows as f64 * result.machine.cols as f64;
    let chosen: Vec<usize> = (0..result.layers.len()).filter(|&index| shown(&result.layers[index])).collect();
    let group = u64::try_from(chosen.len().div_ceil(COLUMNS)).unwrap_or(u64::MAX);
    let mut columns: Vec<Column> = Vec::new();
    for index in chosen {
        let number = numbers.iter().position(|&other| other == index).map(|position| position + 1);
        let one = column(index, number, &result.layers[index]);
        match columns.last_mut() {
            Some(last) if last.layers < group && last.number.is_none() && number.is_none() => last.add(&one, elements),
            _ => columns.push(one),
        }
    }
    columns
}

/// A share that can be drawn.
fn drawable(share: f64) -> f64 {
    if share.is_nan() { 0.0 } else { share.clamp(0.0, 1.0) }
}

fn column(first: usize, number: Option<usize>, layer: &LayerResult) -> Column {
    Column {
        first,
        layers: 1,
        name: clean(&layer.name),
        number,
        cycles: layer.cycles as f64,
        causes: layer.causes.entries().map(|(_, cycles)| cycles as f64),
        factors: [layer.mapping_efficiency, layer.pipeline_efficiency, layer.array_activity, layer.array_utilization]
            .map(drawable),
        array_macs: layer.array_macs as f64,
        beats: layer.beats as f64,
        array_busy: layer.array_busy as f64,
        span: layer.span as f64,
    }
}

impl Column {
    /// Adds a neighbour: sums, and the factors from the sums.
    fn add(&mut self, other: &Self, elements: f64) {
        self.layers += other.layers;
        self.name.clear();
        self.cycles += other.cycles;
        for (mine, theirs) in self.causes.iter_mut().zip(other.causes) {
            *mine += theirs;
        }
        self.array_macs += other.array_macs;
        self.beats += other.beats;
        self.array_busy += other.array_busy;
        self.span += other.span;
        let ratio = |part: f64, whole: f64| drawable(if whole > 0.0 { part / whole } else { 0.0 });
        self.factors = [
            ratio(self.array_macs, self.beats * elements),
            ratio(self.beats, self.array_busy),
            ratio(self.array_busy, self.span),
            ratio(self.array_macs, self.span * elements),
        ];
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::report::sample;

    #[test]
    fn grouping_keeps_the_cycles_and_leaves_numbered_layers_alone() {
        let result = sample::run(1000);
        let columns = columns(&result, |_| true);
        assert!(columns.len() <= COLUMNS + 2 * NUMBERED, "{}", columns.len());
        let sum: f64 = columns.iter().map(|column| column.cycles).sum();
        assert!((sum - result.totals.cycles as f64).abs() < 1.0);
        let numbered: Vec<_> = columns.iter().filter(|column| column.number.is_some()).collect();
        assert_eq!(numbered.len(), NUMBERED);
        assert!(numbered.iter().all(|column| column.layers == 1));
        assert_eq!(columns.iter().map(|column| column.layers).sum::<u64>(), 1000);
    }

    #[test]
    fn few_layers_stay_single_and_the_costliest_is_number_one() {
        let result = sample::run(20);
        let columns = columns(&result, |_| true);
        assert_eq!(columns.len(), 20);
        let first = columns.iter().find(|column| column.number == Some(1)).unwrap();
        assert!(columns.iter().all(|column| column.cycles <= first.cycles));
    }
}
