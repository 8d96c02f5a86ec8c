//! What the model does not act on yet, in one place: kinds and policies are refused, numbers are listed in results.

use std::fmt::Display;

use super::{
    places::Places,
    resolved::Accelerator,
    schema::{AcceleratorConfig, ArrayKind, Buffer, BufferLayout},
};
use crate::diag::Diagnostic;

/// Kinds and policies that the schema has and the model does not.
pub(super) fn refusals(config: &AcceleratorConfig, places: &Places) -> Vec<Diagnostic> {
    let mut found = Vec::new();
    if config.array.kind == ArrayKind::DotTree {
        found.push(places.fault("array.kind", "not modelled yet: `DotTree`").with_help("use `Systolic`"));
    }
    if config.array.count > 1 {
        let message = format!("not modelled yet: {} arrays in a core", config.array.count);
        found.push(places.fault("array.count", message).with_help("use 1"));
    }
    found
}

/// Fields whose value differs from the default and has no effect on time: `path = value: why`. Also memory spaces in
/// which no operand lives.
pub fn not_modelled(accelerator: &Accelerator) -> Vec<String> {
    let config = &accelerator.config;
    let mut list = Vec::new();
    let accumulators = &config.accumulators;
    note(&mut list, "accumulators.banks", accumulators.banks, 1, "accumulator banks never conflict");
    note(&mut list, "accumulators.ports", accumulators.ports, 2, "accumulator ports never conflict");
    let mut buffer = |path: &str, buffer: &Buffer| {
        note(&mut list, path, buffer.latency, 1, "buffer latency is part of the array's fill");
    };
    let buffers = &config.buffers;
    match &buffers.layout {
        BufferLayout::Shared(pool) => buffer("buffers.layout.Shared.latency", pool),
        BufferLayout::Split { input, weight, output } => {
            buffer("buffers.layout.Split.input.latency", input);
            buffer("buffers.layout.Split.weight.latency", weight);
            buffer("buffers.layout.Split.output.latency", output);
        }
    }
    let why = "the array takes tiles from the weight buffer itself";
    note(&mut list, "buffers.weight_fifo_tiles", buffers.weight_fifo_tiles, 0, why);
    let dma = &config.dma;
    note(&mut list, "dma.zero_fill", dma.zero_fill, true, "padding is made in front of the array and never loaded");
    note(&mut list, "dma.channel_brick", dma.channel_brick, 1, "tensors lie in memory without gaps");
    let placed = config.placement.entries();
    for space in &config.memories {
        if placed.iter().all(|(_, name)| *name != space.name) {
            list.push(format!("memory `{}`: no operand lives there, so it has no effect", space.name));
        }
    }
    list
}

fn note<T: Copy + PartialEq + Display>(list: &mut Vec<String>, path: &str, value: T, default: T, why: &str) {
    if value != default {
        list.push(format!("{path} = {value}: {why}"));
    }
}
