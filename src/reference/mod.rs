//! The oracle: executes a graph operator by operator with the plain meaning of each operator, float or quantized.
//!
//! Everything that an accelerator run must reproduce bit for bit is computed here a second time, from the formulas
//! and by other means than the engine's: this module uses no kernel of `kernels` or `engine`, and derives the
//! requantizers' parameters on its own. Tensors are logical (`[N, C, H, W]`), dense and row-major.

mod accumulate;
mod chunked;
#[cfg(test)]
mod conformance;
mod elementwise;
mod float;
mod geometry;
mod integers;
mod movement;
mod pool;
mod product;
mod quantized;
mod requantize;
#[cfg(test)]
mod speed;

use std::sync::Arc;

use crate::{
    ir::{Constant, Float, Graph, NodeId, Op, Quantized, Stage, ValueId},
    tensor::{AccumulationOrder, DType, Requantizer, Tensor},
};

/// Most elements that one tensor may have here; a larger result is refused before it is allocated.
pub const MAX_ELEMENTS: u64 = 1 << 31;

/// The values of one execution.
#[derive(Clone, Debug)]
pub struct Execution {
    /// By `ValueId`: the graph's inputs and everything that nodes made; `None` for constants that are not outputs
    /// of the graph, and for what was not kept.
    pub values: Vec<Option<Tensor>>,
}

impl Execution {
    /// The value of an id, where it was kept.
    pub fn value(&self, id: ValueId) -> Option<&Tensor> {
        self.values.get(id.index())?.as_ref()
    }
}

/// Which values an [`Execution`] holds at its end.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Keep {
    /// All of them.
    #[default]
    All,
    /// The graph's outputs; others are dropped after their last use.
    Outputs,
}

/// What the accelerator's arithmetic decides about quantized convolutions and matrix products. Every other operator
/// has one meaning.
#[derive(Clone, Copy)]
pub struct Settings<'a> {
    /// How an accumulator becomes an output.
    pub requantizer: Requantizer,
    /// In which order a node's products are added.
    pub order: &'a dyn Fn(NodeId) -> AccumulationOrder,
}

impl Default for Settings<'_> {
    /// ONNX Runtime's: float32 multiplier, accumulators that never overflow.
    fn default() -> Self {
        Self { requantizer: Requantizer::F32Rne, order: &|_| AccumulationOrder::Exact }
    }
}

/// Why a graph or a node could not be executed.
#[derive(Clone, Debug, PartialEq, thiserror::Error)]
pub enum ReferenceError {
    /// The number of tensors fed is not the number of the graph's inputs.
    #[error("the graph has {expected} inputs, {found} were fed")]
    InputCount {
        /// Inputs of the graph.
        expected: usize,
        /// Tensors fed.
        found: usize,
    },
    /// A tensor does not fit the value that it is fed as. The first dimension, the batch, may differ.
    #[error("value {value:?} is {expected}, was fed {found}")]
    Input {
        /// Name of the value.
        value: String,
        /// Its shape and type.
        expected: String,
        /// The tensor's.
        found: String,
    },
    /// A value is neither fed, nor made by an earlier node, nor a constant that is at hand.
    #[error("in node {node:?}: value {value:?} is not available")]
    Missing {
        /// Name of the node that reads it.
        node: String,
        /// Name of the value.
        value: String,
    },
    /// A node cannot be executed.
    #[error("in node {node:?} ({op}): {reason}")]
    Node {
        /// Name of the node.
        node: String,
        /// Its operator.
        op: &'static str,
        /// What is wrong.
        reason: Reason,
    },
}

/// What is wrong with a node.
#[derive(Clone, Debug, PartialEq, thiserror::Error)]
pub enum Reason {
    /// Operands are missing or too many.
    #[error("{found} operands, expected {expected}")]
    OperandCount {
        /// As text: `2 or 3`.
        expected: &'static str,
        /// Operands given.
        found: usize,
    },
    /// Shapes do not fit each other or the operator.
    #[error("shape: {0}")]
    Shape(String),
    /// An element type that the operator does not work on.
    #[error("type: {0}")]
    Type(String),
    /// Scales or zero points are missing, of the wrong number, or not finite and positive.
    #[error("quantization: {0}")]
    Quantization(String),
    /// The multiplier of a channel has no representation in the requantizer.
    #[error("requantizer: the multiplier {multiplier:e} of channel {channel} does not fit {requantizer:?}")]
    Multiplier {
        /// Output channel.
        channel: usize,
        /// `input_scale * weight_scale / output_scale`.
        multiplier: f64,
        /// The requantizer.
        requantizer: Requantizer,
    },
    /// An accumulation order that is not one of this operator.
    #[error("accumulation order: {0}")]
    Order(String),
    /// The operator has no quantized form; it belongs between `DequantizeLinear` and `QuantizeLinear`.
    #[error("no quantized form")]
    NoQuantizedForm,
    /// The result would have too many elements.
    #[error("more than {MAX_ELEMENTS} elements")]
    TooLarge,
}

type Outcome<T> = Result<T, Reason>;

/// Executes a float (or mixed) graph and keeps all values.
///
/// `inputs` stand in the graph's order; their first dimension, the batch, may differ from the graph's. `constants`
/// is asked first for a constant; where it has none, a dense constant of the graph is used.
///
/// # Errors
/// Inputs that do not fit, or a node that cannot be executed.
pub fn run_float(
    graph: &Graph<Float>,
    inputs: &[Tensor],
    constants: &dyn Fn(ValueId) -> Option<Tensor>,
) -> Result<Execution, ReferenceError> {
    run(graph, inputs, &Settings::default(), Keep::All, constants)
}

/// Executes a quantized graph and keeps all values; see [`run_float`] for `inputs` and `constants`.
///
/// # Errors
/// Inputs that do not fit, or a node that cannot be executed.
pub fn run_quantized(
    graph: &Graph<Quantized>,
    inputs: &[Tensor],
    settings: &Settings<'_>,
    constants: &dyn Fn(ValueId) -> Option<Tensor>,
) -> Result<Execution, ReferenceError> {
    run(graph, inputs, settings, Keep::All, constants)
}

/// Executes a graph of any stage and keeps what is asked; see [`run_float`] for `inputs` and `constants`.
///
/// # Errors
/// Inputs that do not fit, or a node that cannot be executed.
pub fn run<S: Stage>(
    graph: &Graph<S>,
    inputs: &[Tensor],
    settings: &Settings<'_>,
    keep: Keep,
    constants: &dyn Fn(ValueId) -> Option<Tensor>,
) -> Result<Execution, ReferenceError> {
    if inputs.len() != graph.inputs.len() {
        return Err(ReferenceError::InputCount { expected: graph.inputs.len(), found: inputs.len() });
    }
    let mut values: Vec<Option<Tensor>> = vec![None; graph.values.len()];
    for (&id, tensor) in graph.inputs.iter().zip(inputs) {
        let value = graph.value(id);
        if !same_but_batch(&value.shape, tensor.shape()) || storage_type(value.dtype) != tensor.dtype() {
            return Err(ReferenceError::Input {
                value: value.name.clone(),
                expected: format!("{:?} {:?}", value.dtype, value.shape),
                found: format!("{:?} {:?}", tensor.dtype(), tensor.shape()),
            });
        }
        values[id.index()] = Some(tensor.clone());
    }
    let mut last_use = vec![None; graph.values.len()];
    for (id, node) in graph.nodes_with_ids() {
        for value in node.inputs.iter().chain(&node.outputs) {
            last_use[value.index()] = Some(id);
        }
    }
    for (id, node) in graph.nodes_with_ids() {
        let fetched = node
            .inputs
            .iter()
            .map(|&input| {
                if values[input.index()].is_some() {
                    return Ok(None);
                }
                fetch(graph, input, constants).map(Some).ok_or_else(|| ReferenceError::Missing {
                    node: node.name.clone(),
                    value: graph.value(input).name.clone(),
                })
            })
            .collect::<Result<Vec<_>, _>>()?;
        let operands: Vec<&Tensor> = node
            .inputs
            .iter()
            .zip(&fetched)
            .filter_map(|(input, constant)| constant.as_deref().or(values[input.index()].as_ref()))
            .collect();
        let results = run_node(graph, id, &operands, settings)?;
        for (output, tensor) in node.outputs.iter().zip(results) {
            values[output.index()] = Some(tensor);
        }
        if keep == Keep::Outputs {
            for value in node.inputs.iter().chain(&node.outputs) {
                if last_use[value.index()] == Some(id) && !graph.outputs.contains(value) {
                    values[value.index()] = None;
                }
            }
        }
    }
    if keep == Keep::Outputs {
        for input in graph.inputs.iter().filter(|&input| !graph.outputs.contains(input)) {
            values[input.index()] = None;
        }
    }
    for &output in &graph.outputs {
        if values[output.index()].is_none() {
            values[output.index()] = fetch(graph, output, constants).map(Arc::unwrap_or_clone);
        }
    }
    Ok(Execution { values })
}

fn fetch<S: Stage>(
    graph: &Graph<S>,
    id: ValueId,
    constants: &dyn Fn(ValueId) -> Option<Tensor>,
) -> Option<Arc<Tensor>> {
    let constant = graph.value(id).constant.as_ref();
    constants(id).map(Arc::new).or_else(|| match constant? {
        Constant::Dense(tensor) => Some(Arc::clone(tensor)),
        Constant::Synthetic(_) => None,
    })
}

/// Executes one node on the given operands, in the node's order. Whether it is quantized is said by its values.
///
/// # Errors
/// Operands that do not fit the operator, or a form of it that has no meaning here.
pub fn run_node<S: Stage>(
    graph: &Graph<S>,
    node: NodeId,
    operands: &[&Tensor],
    settings: &Settings<'_>,
) -> Result<Vec<Tensor>, ReferenceError> {
    let name = graph.node(node);
    evaluate(graph, node, operands, settings).map(|tensor| vec![tensor]).map_err(|reason| ReferenceError::Node {
        node: name.name.clone(),
        op: name.op.name(),
        reason,
    })
}

fn evaluate<S: Stage>(graph: &Graph<S>, id: NodeId, operands: &[&Tensor], settings: &Settings<'_>) -> Outcome<Tensor> {
    let node = graph.node(id);
    let expected = match node.op {
        Op::Conv { .. } | Op::MatMul { .. } => (2..=3, "2 or 3"),
        Op::Add { .. } | Op::Sub | Op::Mul | Op::Div => (2..=2, "2"),
        Op::BatchNorm { .. } => (5..=5, "5"),
        Op::Concat { .. } => (1..=usize::MAX, "at least 1"),
        _ => (1..=1, "1"),
    };
    if !expected.0.contains(&operands.len()) || operands.len() != node.inputs.len() {
        return Err(Reason::OperandCount { expected: expected.1, found: operands.len() });
    }
    let [output] = node.outputs.as_slice() else {
        return Err(Reason::Shape(format!("{} results, expected 1", node.outputs.len())));
    };
    let output = graph.value(*output);
    let inputs: Vec<_> = node.inputs.iter().map(|&input| graph.value(input)).collect();
    let result = if let Some(moved) = movement::evaluate(&node.op, &inputs, output, operands)? {
        moved
    } else if matches!(node.op, Op::QuantizeLinear | Op::DequantizeLinear)
        || (output.quant.is_some() && inputs[0].quant.is_some())
    {
        let order = match node.op {
            Op::Conv { .. } | Op::MatMul { .. } => (settings.order)(id),
            _ => AccumulationOrder::Exact,
        };
        quantized::evaluate(&node.op, &inputs, output, operands, settings.requantizer, &order)?
    } else {
        float::evaluate(&node.op, operands)?
    };
    if !same_but_batch(&output.shape, result.shape()) {
        return Err(Reason::Shape(format!(
            "the result is {:?}, the graph says {:?} of {:?}",
            result.shape(),
            output.shape,
            output.name
        )));
    }
    Ok(result)
}

/// Whether two shapes differ in nothing but the first of at least two dimensions.
fn same_but_batch(declared: &[usize], found: &[usize]) -> bool {
    declared == found || (declared.len() == found.len() && declared.len() > 1 && declared[1..] == found[1..])
}

/// The element type of the `Tensor` that stores a value of a type: int4 lies in int8, small floats in float32.
fn storage_type(dtype: DType) -> DType {
    match dtype {
        DType::Int4 => DType::Int8,
        DType::Fp8 | DType::Bf16 | DType::Fp16 => DType::Fp32,
        other => other,
    }
}

/// Refuses shapes whose product passes [`MAX_ELEMENTS`].
fn checked_size(shape: &[usize]) -> Outcome<usize> {
    let elements = crate::tensor::checked_elements(shape, MAX_ELEMENTS).ok_or(Reason::TooLarge)?;
    usize::try_from(elements).map_err(|_| Reason::TooLarge)
}
