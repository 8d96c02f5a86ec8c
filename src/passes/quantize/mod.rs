//! From a simplified graph to one whose operators a machine executes on integers: float parts are quantized from
//! observed ranges, quantized parts are taken to the bit, and what the machine cannot do is refused or recomputed.

#![allow(clippy::trivially_copy_pass_by_ref)] // capabilities are a record that may grow

mod capability;
mod lower;
mod params;
mod plain;
mod requantize;
mod weights;

use crate::{
    diag::{Diagnostic, Faults},
    ir::{Float, Graph, Op, Quantized, Stage, Value, ValueId},
    tensor::DType,
};

use super::{check_form, identity, matmul, work::Work};

/// What a machine's arithmetic can do, as far as a network's numbers depend on it.
///
/// A machine of 8 bits with zero points takes int8 and uint8 activations alike (its operand path has a ninth bit);
/// without zero points it is given int8, and takes uint8 with zero point 0.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Capabilities {
    /// Whether operands may have zero points other than 0.
    pub zero_points: bool,
    /// Whether weights may have a scale for each output channel.
    pub per_channel: bool,
    /// Type of activations: `Int8` and `UInt8` mean 8 bits, `Int16` 16 bits (symmetric), `Int4` 4 bits (symmetric).
    /// A machine of a float type is given 8 bits.
    pub activation: DType,
    /// Type of weights, always symmetric where this module makes them.
    pub weight: DType,
    /// Whether outputs are requantized with a float32 multiplier; said in the log where it is not, because the
    /// arithmetic then is the machine's whatever the model is.
    pub requantizer_is_f32: bool,
}

/// Smallest and largest value of each float tensor, observed on calibration data.
#[derive(Clone, Debug, Default)]
pub struct Ranges(pub Vec<Option<(f32, f32)>>);

impl Ranges {
    /// No range for any of so many values.
    pub fn new(values: usize) -> Self {
        Self(vec![None; values])
    }

    /// The range of a value of the simplified graph.
    pub fn get(&self, value: ValueId) -> Option<(f32, f32)> {
        self.0.get(value.index()).copied().flatten()
    }

    /// Widens a value's range.
    pub fn observe(&mut self, value: ValueId, low: f32, high: f32) {
        if value.index() >= self.0.len() {
            self.0.resize(value.index() + 1, None);
        }
        let slot = &mut self.0[value.index()];
        *slot = Some(slot.map_or((low, high), |(old_low, old_high)| (old_low.min(low), old_high.max(high))));
    }
}

/// Whose numbers a run computes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Arithmetic {
    /// The model's own scales, zero points and integers, to the bit.
    AsModel,
    /// Numbers chosen here for the machine.
    Machine,
}

/// A network ready for a machine.
#[derive(Clone, Debug)]
pub struct Prepared {
    /// The network.
    pub graph: Graph<Quantized>,
    /// Whose numbers it computes.
    pub arithmetic: Arithmetic,
    /// A line a pass about what was done.
    pub log: Vec<String>,
}

/// Quantizes what is float in a simplified graph, and fits what is quantized to the machine.
///
/// - Activations: min-max, zero exactly representable; uint8 asymmetric, or symmetric without zero points.
///   `MaxPool`, `Reshape`, `Transpose` and `Pad` keep their operand's parameters, `Softmax` has 1/256, 0 (uint8) or
///   1/128, 0 (int8).
/// - Weights: symmetric, `scale = max|w| / 127`, along output channels where the machine can. Biases: int32,
///   `rne(b / f32(xs * ws))`.
/// - `Sub`, `Div`, `BatchNorm`, other means and products of two activations stay float, on the host, between
///   `DequantizeLinear` and `QuantizeLinear`.
/// - In a model that states a scale for any activation, float operators stay on the host too: other numbers would be
///   another model. Only where one of them is a `Conv` or a `MatMul`, all are quantized.
/// - Biases are given the parameters that `ir::verify` asks for; their integers stay.
///
/// `ranges` is indexed by the values of `graph`.
///
/// # Errors
/// Values without an observed range, constants that are not finite, synthetic float weights; without `requantize`
/// also zero points, per-channel scales and types that the machine does not have; activations with more than one scale.
pub fn quantize(
    graph: &Graph<Float>,
    ranges: &Ranges,
    capabilities: &Capabilities,
    requantize: bool,
) -> Result<Prepared, Faults> {
    check_form(graph)?;
    let mut work = Work::new(graph.clone());
    let mut arithmetic = Arithmetic::AsModel;

    let plain = plain::describe(&mut work)?;
    if plain > 0 {
        work.notes.push(format!("describe-integers: {plain} tensors without a scale are taken with scale 1"));
    }
    let lowered = lower::lower(&mut work, ranges, capabilities)?;
    if lowered > 0 {
        arithmetic = Arithmetic::Machine;
        let note = format!("quantize-floats: {lowered} float operators; {}", params::describe(capabilities));
        work.notes.push(note);
    }
    if !capabilities.per_channel {
        capability::collapse_equal_channels(&mut work);
    }
    let findings = capability::check(&work, capabilities);
    if !findings.is_empty() {
        if !requantize {
            return Err(Faults(findings.into_faults()));
        }
        let note = requantize::requantize(&mut work, capabilities)?;
        work.notes.push(note);
        arithmetic = Arithmetic::Machine;
    }
    if !capabilities.requantizer_is_f32 {
        work.notes.push("check-capabilities: outputs are not requantized with a float32 multiplier".into());
    }
    matmul::transpose_weights(&mut work);
    matmul::whole_image(&mut work);
    while identity::run(&mut work) > 0 {}
    settle_biases(&mut work);

    let mut log = std::mem::take(&mut work.notes);
    let graph = work.finish();
    check_activations(&graph)?;
    let host: Vec<&str> = graph.nodes.iter().filter(|node| on_host(&graph, node)).map(|node| node.op.name()).collect();
    if !host.is_empty() {
        log.push(format!("quantize: {} float operators stay on the host: {}", host.len(), summary(&host)));
    }
    Ok(Prepared { graph: graph.into_stage(), arithmetic, log })
}

/// Says of every bias that its steps are `f32(input scale * weight scale)`, which is what the arithmetic takes them
/// for. Models state it rounded otherwise, or not at all.
fn settle_biases(work: &mut Work) {
    for slot in 0..work.slots() {
        let Some(node) = work.node(slot) else { continue };
        let (Op::Conv { .. } | Op::MatMul { .. }, &[x, w, b]) = (&node.op, node.inputs.as_slice()) else { continue };
        let (Some(x), Some(w)) = (&work.value(x).quant, &work.value(w).quant) else { continue };
        let quant = Some(weights::channelwise(w.scale.iter().map(|scale| x.scale_of(0) * scale).collect(), 0));
        if work.value(b).quant == quant {
            continue;
        }
        if work.uses(b) == 1 {
            work.value_mut(b).quant = quant;
        } else {
            let own = Value { quant, ..work.value(b).clone() };
            let own = work.add_value(own);
            work.set_input(slot, 2, own);
        }
    }
}

/// Whether [`quantize`] gives float operators of this graph an integer form, for which it needs ranges.
pub fn wants_ranges(graph: &Graph<Float>) -> bool {
    lower::lowers(&Work::new(graph.clone()))
}

/// Whether a node works on floats.
fn on_host(graph: &Graph<Float>, node: &crate::ir::Node) -> bool {
    !matches!(node.op, Op::QuantizeLinear | Op::DequantizeLinear)
        && node.outputs.iter().any(|&y| graph.value(y).quant.is_none())
}

/// The first few distinct names.
fn summary(names: &[&str]) -> String {
    let mut distinct: Vec<&str> = names.to_vec();
    distinct.sort_unstable();
    distinct.dedup();
    distinct.truncate(8);
    distinct.join(", ")
}

/// No machine here takes an activation that has a scale for each channel; only weights and biases may.
fn check_activations<S: Stage>(graph: &Graph<S>) -> Result<(), Faults> {
    let several =
        |value: &&Value| value.constant.is_none() && value.quant.as_ref().is_some_and(|quant| !quant.is_per_tensor());
    let found = graph.values.iter().filter(several).map(|value| {
        let scales = value.quant.as_ref().map_or(0, |quant| quant.scale.len());
        Diagnostic::error(format!("an activation has {scales} scales, expected one for the tensor"))
            .with_path(format!("value \"{}\"", value.name))
            .with_help("quantize activations per tensor; only weights may have a scale for each channel")
    });
    Faults::check(found.collect())
}

#[cfg(test)]
mod tests;
