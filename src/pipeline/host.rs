//! The reference as the executor of a machine's host.

use crate::{
    engine::functional::HostExecutor,
    ir::{Graph, NodeId, Quantized},
    reference::{self, Settings},
    tensor::Tensor,
};

/// Runs nodes of a graph as the reference does. The accelerator's requantizer and its order of accumulation act only on
/// products of integers, which the machine does not ask for here.
#[derive(Clone, Copy, Debug)]
pub struct ReferenceHost<'a>(pub &'a Graph<Quantized>);

impl HostExecutor for ReferenceHost<'_> {
    fn execute(&self, node: NodeId, operands: &[&Tensor]) -> Result<Vec<Tensor>, String> {
        reference::run_node(self.0, node, operands, &Settings::default()).map_err(|error| error.to_string())
    }
}
