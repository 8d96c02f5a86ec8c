//! Whole operators on the host: operands are gathered from where they lie, the operator is computed, the result is
//! written back to where it belongs. Products of integers are computed here, plainly; everything else by an executor
//! that whoever runs the machine hands in. This room knows no operator's meaning but the products'.

mod product;

use super::{
    error::Fault,
    numerics::{Datapath, LayerNumerics},
    place,
    store::Store,
    vector::Elementwise,
};
use crate::{
    ir::{NodeId, Op},
    program::{Arithmetic, Layer, LayerKind, TensorId, TensorPlace},
    tensor::Tensor,
};

/// Computes whole operators for a machine's host.
pub trait HostExecutor: std::fmt::Debug + Send + Sync {
    /// The results of a node of the quantized graph. Operands stand in the node's order, dense and row-major, constants
    /// included.
    ///
    /// # Errors
    /// Why the operator cannot be computed, as text that names the node.
    fn execute(&self, node: NodeId, operands: &[&Tensor]) -> Result<Vec<Tensor>, String>;
}

/// Whether a layer's values come from the [`HostExecutor`]. If that is what they are compared with, the comparison says
/// nothing about the operator.
pub fn is_delegated(layer: &Layer) -> bool {
    layer.kind == LayerKind::Host && !is_product(&layer.arithmetic)
}

/// A convolution or matrix product of integers, with integers as its result.
fn is_product(arithmetic: &Arithmetic) -> bool {
    match arithmetic {
        Arithmetic::Elementwise { op: Op::Conv { .. } | Op::MatMul { .. }, input_types, output_type, .. } => {
            input_types.iter().take(2).chain([output_type]).all(|dtype| dtype.is_integer())
        }
        _ => false,
    }
}

/// Executes the layer's operator.
pub(super) fn execute(
    store: &mut Store,
    tensors: &[TensorPlace],
    layer: &LayerNumerics,
    datapath: Datapath,
    executor: Option<&dyn HostExecutor>,
) -> Result<(), Fault> {
    let place = |id: &TensorId| tensors.get(id.index()).ok_or(Fault::Arithmetic("a tensor of this operator"));
    let mut operands = Vec::new();
    for id in &layer.inputs {
        operands.push(place::read(store, place(id)?)?);
    }
    let operands: Vec<&Tensor> = operands.iter().collect();
    let outputs = layer.outputs.iter().map(place).collect::<Result<Vec<_>, _>>()?;
    let results = if is_product(&layer.arithmetic) {
        let shape = outputs.first().map_or(&[][..], |place| &place.shape);
        vec![product::run(&Elementwise::of(layer)?, &operands, shape, datapath)?]
    } else {
        executor.ok_or(Fault::NoHost)?.execute(layer.node, &operands).map_err(Fault::Host)?
    };
    super::access::equal("results of a host operator", outputs.len() as u64, results.len() as u64)?;
    outputs.into_iter().zip(&results).try_for_each(|(place, tensor)| place::write(store, place, tensor, false))
}
