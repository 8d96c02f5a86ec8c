//! A quantized graph made ready for the CPU: a kernel for each node, weights packed, a place for each value. Knows
//! neither machine nor clock.

use super::{
    layout::{Held, narrow},
    operator::Kernel,
};
use crate::{
    ir::{Graph, NodeId, Op, Quantized, ValueId},
    reference::{self, Settings},
    tensor::Tensor,
};

/// Why there is nothing to measure.
#[derive(Debug, thiserror::Error)]
pub enum BaselineError {
    /// An operator that only the reference has.
    #[error(transparent)]
    Reference(#[from] reference::ReferenceError),
    /// A value is missing or of another form.
    #[error("in node {0:?}: an operand is not as its kernel expects it")]
    Operand(String),
    /// The kernels do not compute what the reference does.
    #[error("the CPU's execution differs from the reference in {0:?}")]
    Differs(String),
}

struct NodeKernel {
    node: NodeId,
    kernel: Kernel,
    counted: bool,
}

/// A network with its values.
pub struct CpuNetwork<'a> {
    graph: &'a Graph<Quantized>,
    kernels: Vec<NodeKernel>,
    values: Vec<Held>,
}

impl<'a> CpuNetwork<'a> {
    /// Chooses kernels and packs weights. `free` says which nodes the machine does not count; of these, conversions at
    /// the boundary are not timed.
    ///
    /// # Errors
    /// Constants that are not at hand.
    pub fn new(
        graph: &'a Graph<Quantized>,
        constants: &dyn Fn(ValueId) -> Option<Tensor>,
        free: &dyn Fn(NodeId) -> bool,
    ) -> Result<Self, BaselineError> {
        let mut values: Vec<Held> = graph.values.iter().map(|_| Held::Nothing).collect();
        let mut kernels = Vec::with_capacity(graph.nodes.len());
        for (id, node) in graph.nodes_with_ids() {
            let kernel = Kernel::choose(graph, node, constants);
            for &input in &node.inputs[kernel.operands(node.inputs.len())] {
                if graph.value(input).constant.is_some() && matches!(values[input.index()], Held::Nothing) {
                    let tensor = constants(input).ok_or_else(|| BaselineError::Operand(node.name.clone()))?;
                    values[input.index()] = Held::of(graph.value(input), &tensor);
                }
            }
            let conversion = matches!(node.op, Op::QuantizeLinear | Op::DequantizeLinear);
            kernels.push(NodeKernel { node: id, kernel, counted: !(conversion && free(id)) });
        }
        Ok(Self { graph, kernels, values })
    }

    /// Runs every node on these inputs.
    ///
    /// # Errors
    /// A node that cannot be executed.
    pub fn run_all(&mut self, inputs: &[Tensor]) -> Result<(), BaselineError> {
        for (&id, tensor) in self.graph.inputs.iter().zip(inputs) {
            self.values[id.index()] = Held::of(self.graph.value(id), tensor);
        }
        self.run(false)
    }

    /// Runs again what counts, on the same inputs.
    ///
    /// # Errors
    /// A node that cannot be executed.
    pub fn run_counted(&mut self) -> Result<(), BaselineError> {
        self.run(true)
    }

    /// The operators of what counts that have no kernel, each once, in the order of the network.
    pub fn reference_ops(&self) -> Vec<String> {
        let mut names: Vec<String> = Vec::new();
        for one in self.kernels.iter().filter(|one| one.counted && matches!(one.kernel, Kernel::Reference)) {
            let name = self.graph.node(one.node).op.name();
            if !names.iter().any(|known| known == name) {
                names.push(name.to_owned());
            }
        }
        names
    }

    /// A value as it is now.
    pub fn value(&self, id: ValueId) -> Option<Tensor> {
        self.values[id.index()].tensor(self.graph.value(id))
    }

    /// On one of the pool's own threads, so that a kernel's tasks start without waking another.
    fn run(&mut self, counted: bool) -> Result<(), BaselineError> {
        rayon::scope(|_| self.run_here(counted))
    }

    fn run_here(&mut self, counted: bool) -> Result<(), BaselineError> {
        for one in self.kernels.iter().filter(|one| one.counted || !counted) {
            let node = self.graph.node(one.node);
            let output = node.outputs[0];
            // The allocation of the last run serves again.
            let out = std::mem::replace(&mut self.values[output.index()], Held::Nothing);
            let fault = || BaselineError::Operand(node.name.clone());
            let held = match &one.kernel {
                Kernel::Reference => {
                    let operands: Option<Vec<Tensor>> = node.inputs.iter().map(|&id| self.value(id)).collect();
                    let operands = operands.ok_or_else(fault)?;
                    let operands: Vec<&Tensor> = operands.iter().collect();
                    let results = reference::run_node(self.graph, one.node, &operands, &Settings::default())?;
                    let first = results.into_iter().next().ok_or_else(fault)?;
                    Held::of(self.graph.value(output), &first)
                }
                kernel => {
                    let operands = &node.inputs[kernel.operands(node.inputs.len())];
                    let operands: Option<Vec<&[u8]>> =
                        operands.iter().map(|&id| self.values[id.index()].bytes()).collect();
                    let mut out = if let Held::Bytes(bytes) = out { bytes } else { Vec::new() };
                    let value = self.graph.value(output);
                    let elements = usize::try_from(value.elements()).map_err(|_| fault())?;
                    out.resize(elements * narrow(value.dtype).ok_or_else(fault)?.bytes(), 0);
                    kernel.run(&operands.ok_or_else(fault)?, &mut out).ok_or_else(fault)?;
                    Held::Bytes(out)
                }
            };
            self.values[output.index()] = held;
        }
        Ok(())
    }
}
