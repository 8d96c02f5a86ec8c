//! What SCALE-Sim 3.0.0 reports about a layer in its CALC mode, exactly, its faults included: a pure function of a
//! topology's row and a config, by closed forms and by counting. Not our own opinion about an array or a memory:
//! knows no graph, no program and no engine. `docs/scalesim.md` says what it means and where it is wrong.
//!
//! Sources: SCALE-Sim's papers (arXiv 1811.02883, ISPASS 2020), and what the program itself prints and traces. In cycles
//! and words; a word has one byte.

mod demand;
mod fold;
mod ofmap;
mod reads;
mod reports;
mod windows;

pub use fold::{ARRAY_LIMIT, Folds, SizeError};
pub use reports::{Reports, python_number};

use crate::{config::scalesim::ScaleSimConfig, import::scalesim::Convolution};

/// Words that a prefetch brings in a cycle, whatever the config says: CALC mode does not read `Bandwidth`.
pub const PREFETCH_WORDS: u64 = 10;

/// Words that pass an interface, and when.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Access {
    /// Cycle of the first one; negative where it is prefetched.
    pub start: i64,
    /// Cycle of the last one.
    pub stop: i64,
    /// How many.
    pub words: u64,
}

impl Access {
    /// Words a cycle.
    pub fn bandwidth(&self) -> f64 {
        self.words as f64 / (self.stop - self.start + 1) as f64
    }
}

/// The three operands.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Operands<T> {
    /// Activations.
    pub ifmap: T,
    /// Weights.
    pub filter: T,
    /// Results.
    pub ofmap: T,
}

/// Everything that the three reports say about a layer.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct LayerReport {
    /// `Total Cycles (incl. prefetch)`: from the first prefetch to the last write to DRAM.
    pub total_with_prefetch: u64,
    /// `Total Cycles`.
    pub total: u64,
    /// `Stall Cycles`; 0 in CALC mode.
    pub stalls: u64,
    /// `Overall Util %`.
    pub overall_utilization: f64,
    /// `Mapping Efficiency %`.
    pub mapping_efficiency: f64,
    /// `Compute Util %`.
    pub compute_utilization: f64,
    /// Between array and on-chip buffers.
    pub sram: Operands<Access>,
    /// Between buffers and memory.
    pub dram: Operands<Access>,
}

/// What CALC mode reports about a layer.
///
/// # Errors
/// A layer that is too large to be counted.
pub fn calc(config: &ScaleSimConfig, layer: &Convolution) -> Result<LayerReport, SizeError> {
    let folds = Folds::of(layer, config)?;
    let total = folds.total();
    let sram = demand::sram(&folds, layer);
    let [ifmap_words, filter_words, ofmap_words] =
        [config.ifmap_kb, config.filter_kb, config.ofmap_kb].map(|kilobytes| kilobytes * 1024);
    let dram = Operands {
        ifmap: windows::reads(&folds, layer, ifmap_words)?,
        filter: reads::regular(&folds, folds.filter(), filter_words),
        ofmap: ofmap::writes(&folds, ofmap_words)?,
    };
    let first = dram.ifmap.start.min(dram.filter.start).min(0);
    let last = dram.ofmap.stop.max(dram.ifmap.stop).max(dram.filter.stop);
    Ok(LayerReport {
        total_with_prefetch: (last - first).unsigned_abs(),
        total,
        stalls: 0,
        overall_utilization: folds.overall_utilization(total),
        mapping_efficiency: folds.mapping_efficiency(),
        compute_utilization: folds.compute_utilization(),
        sram,
        dram,
    })
}

#[cfg(test)]
mod tests;
