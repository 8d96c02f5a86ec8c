//! What the model does not act on yet, in one place: kinds and policies are refused, numbers are listed in results.

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
    let mut note = |path: &str, value: u64, default: u64, why: &str| {
        if value != default {
            list.push(format!("{path} = {value}: {why}"));
        }
    };
    let accumulators = &config.accumulators;
    note("accumulators.banks", accumulators.banks.into(), 1, "accumulator banks never conflict");
    note("accumulators.ports", accumulators.ports.into(), 2, "accumulator ports never conflict");
    let mut buffer = |path: &str, buffer: &Buffer| {
        note(&format!("{path}.ports"), buffer.ports.into(), 1, "a bank serves one access a cycle");
        note(&format!("{path}.latency"), buffer.latency.into(), 1, "buffer latency is part of the array's fill");
    };
    match &config.buffers.layout {
        BufferLayout::Shared(pool) => buffer("buffers.layout.Shared", pool),
        BufferLayout::Split { input, weight, output } => {
            buffer("buffers.layout.Split.input", input);
            buffer("buffers.layout.Split.weight", weight);
            buffer("buffers.layout.Split.output", output);
        }
    }
    let placement = &config.placement;
    for space in &config.memories {
        if space.name != placement.weights && space.name != placement.activations {
            list.push(format!("memory `{}`: no operand lives there, so it has no effect", space.name));
        }
    }
    list
}
