//! What a run may take: bounds on work and memory that are checked before any of it is begun, so that a file of a few
//! lines cannot ask for days or for terabytes. `docs/architecture.md` lists them.

use super::Mapped;
use crate::{
    config::Accelerator,
    diag::{Diagnostic, Faults},
    ir::{self, Graph, Node, Op, Quantized, Stage},
    mapping::{LayerMapping, Plan, vector::VectorMapping},
    units::{Time, thousands},
};

/// Buffer tiles of a program: what its dependencies are tracked by.
pub const MOST_BUFFER_TILES: u64 = 1 << 24;

/// Array tiles and bursts of a program together: each is an event of the timing engine.
pub const MOST_EVENTS: u64 = 1 << 30;

/// Elements of all activations and constants of a network that is executed on values.
pub const MOST_ELEMENTS: u64 = 1 << 30;

/// Multiply-accumulates and elements under pooling windows of a network that is executed on values.
pub const MOST_OPERATIONS: u64 = 1 << 42;

/// Elements of the array times cycles of a run that is followed register by register.
pub const MOST_ELEMENT_UPDATES: u64 = 1 << 40;

fn limit(what: &str, found: u64, most: u64, help: &str) -> Result<(), Faults> {
    if found <= most {
        return Ok(());
    }
    let message = format!("{what}: {}, at most {} are taken", thousands(found), thousands(most));
    Err(Diagnostic::error(message).with_help(help).into())
}

/// That the closed form ends within the timebase.
pub(super) fn check_time(plan: &Plan) -> Result<(), Faults> {
    let total: Time = plan.layers.iter().map(|layer| layer.predicted.bound).sum();
    if total < Time::END { Ok(()) } else { Err(too_long().into()) }
}

/// A machine so slow, or a network so large, that the timebase ends.
pub(super) fn too_long() -> Diagnostic {
    Diagnostic::error("the run takes more than five hours of simulated time")
        .with_help("raise the clocks and bandwidths, or take a smaller batch")
}

fn sum(numbers: impl Iterator<Item = u64>) -> u64 {
    numbers.fold(0, u64::saturating_add)
}

fn buffer_tiles(plan: &Plan) -> u64 {
    sum(plan.layers.iter().map(|layer| match &layer.mapping {
        LayerMapping::Matrix(mapping) => mapping.trips().steps(),
        LayerMapping::Vector(parts) => sum(parts.iter().map(VectorMapping::steps)),
        LayerMapping::Host | LayerMapping::Free => 0,
    }))
}

/// Tiles of the array and of the buffers: at least the number of instructions that compute.
pub(super) fn tiles(plan: &Plan) -> u64 {
    sum(plan.layers.iter().map(|layer| layer.predicted.array_tiles)).saturating_add(buffer_tiles(plan))
}

/// That a program can be generated and timed instruction by instruction.
pub(super) fn check_program(mapped: &Mapped) -> Result<(), Faults> {
    let help = "take `--fidelity bound --no-execute`, larger buffers, or a smaller batch";
    let plan = &mapped.plan;
    limit("buffer tiles of the program", buffer_tiles(plan), MOST_BUFFER_TILES, help)?;
    let events = plan.layers.iter().map(|layer| layer.predicted.array_tiles.saturating_add(layer.predicted.bursts));
    limit("array tiles and bursts of the program", sum(events), MOST_EVENTS, help)
}

/// That the array's registers can be followed for so many cycles.
pub(super) fn check_registers(accelerator: &Accelerator, cycles: u64) -> Result<(), Faults> {
    let array = &accelerator.config.array;
    let updates = cycles.saturating_mul(u64::from(array.rows) * u64::from(array.cols));
    let help = "take `--fidelity tile`, which equals it, or a smaller network";
    limit("elements of the array times cycles", updates, MOST_ELEMENT_UPDATES, help)
}

/// That a mapped network can be executed on values.
pub(super) fn check_executable(mapped: &Mapped) -> Result<(), Faults> {
    let help = "`--no-execute` times the network without values; or take a smaller batch";
    check_execution(&mapped.network.quantized, help)?;
    check_program(mapped)
}

/// That the outputs of all samples can be kept.
pub(super) fn check_outputs<S: Stage>(graph: &Graph<S>, batch: usize, count: usize) -> Result<(), Faults> {
    let once = sum(graph.outputs.iter().map(|&id| graph.value(id).elements()));
    let elements = once.saturating_mul(count.div_ceil(batch.max(1)) as u64);
    limit("elements of the outputs of all samples", elements, MOST_ELEMENTS, "give fewer samples to `--data`")
}

/// That a graph can be executed on values; `help` says how to go without.
pub(super) fn check_execution<S: Stage>(graph: &Graph<S>, help: &str) -> Result<(), Faults> {
    let elements = sum(graph.values.iter().map(ir::Value::elements));
    limit("elements of the tensors to execute on", elements, MOST_ELEMENTS, help)?;
    let operations = sum(graph.nodes.iter().map(|node| operations(graph, node)));
    limit("operations to execute", operations, MOST_OPERATIONS, help)
}

/// That the multipliers of all products are numbers: `x_scale * w_scale / y_scale` of each channel, in float32 as ONNX
/// Runtime has it.
pub(super) fn check_scales(graph: &Graph<Quantized>) -> Result<(), Faults> {
    let mut faults = Vec::new();
    for node in graph.nodes.iter().filter(|node| matches!(node.op, Op::Conv { .. } | Op::MatMul { .. })) {
        let quant = |id: ir::ValueId| graph.value(id).quant.as_ref();
        let (Some(x), Some(w), Some(y)) = (quant(node.inputs[0]), quant(node.inputs[1]), quant(node.outputs[0])) else {
            continue;
        };
        let (Some(&x), Some(&y)) = (x.scale.first(), y.scale.first()) else { continue };
        if let Some(&w) = w.scale.iter().find(|&&w| !(x * w / y).is_finite()) {
            faults.push(
                Diagnostic::error(format!(
                    "the multiplier of its sums does not fit float32: input scale {x:e} x weight scale {w:e} / output \
                     scale {y:e}"
                ))
                .with_path(format!("node \"{}\" ({})", node.name, node.op.name()))
                .with_help("look for a wrong scale, or for an overflow in the float model"),
            );
        }
    }
    Faults::check(faults)
}

/// Products of a node, or elements under its windows.
fn operations<S: Stage>(graph: &Graph<S>, node: &Node) -> u64 {
    match &node.op {
        Op::MaxPool { window } | Op::AvgPool { window, .. } => {
            let taps = (window.kernel[0] as u64).saturating_mul(window.kernel[1] as u64);
            sum(node.outputs.iter().map(|&id| graph.value(id).elements().saturating_mul(taps)))
        }
        _ => ir::macs::macs(graph, node),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_array_is_followed_for_so_many_cycles_and_no_more() {
        let accelerator = crate::config::load("tpu_v1_like", &[]).unwrap();
        let most = MOST_ELEMENT_UPDATES / (256 * 256);
        assert!(check_registers(&accelerator, most).is_ok());
        let refused = check_registers(&accelerator, most + 1).unwrap_err().to_string();
        assert!(
            refused.contains("at most 1,099,511,627,776 are taken") && refused.contains("--fidelity tile"),
            "{refused}"
        );
        assert!(check_registers(&accelerator, u64::MAX).is_err());
    }
}
