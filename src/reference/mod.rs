//! The oracle: executes a graph operator by operator with the plain meaning of each operator, float or quantized.
//!
//! Everything that an accelerator run must reproduce bit for bit is computed here a second time, from the formulas
//! and by other means than the engine's: this module uses no kernel of `kernels` or `engine`, and derives the
//! requantizers' parameters on its own. Tensors are logical (`[N, C, H, W]`), dense and row-major.

mod accumulate;
mod batch;
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
mod single;
#[cfg(test)]
mod speed;

use std::sync::Arc;

pub use single::{requantized, sum_of};

use crate::{
    ir::{Constant, Float, Graph, Kind, NodeId, Quantized, Stage, ValueId},
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
    let arity = node.op.spec().operands;
    if !arity.allows(operands.len()) || operands.len() != node.inputs.len() {
        return Err(Reason::OperandCount { expected: arity.text, found: operands.len() });
    }
    let [output] = node.outputs.as_slice() else {
        return Err(Reason::Shape(format!("{} results, expected 1", node.outputs.len())));
    };
    let output = graph.value(*output);
    let inputs: Vec<_> = node.inputs.iter().map(|&input| graph.value(input)).collect();
    let result = if let Some(moved) = movement::evaluate(&node.op, &inputs, output, operands)? {
        moved
    } else if node.op.kind() == Kind::Conversion || (output.quant.is_some() && inputs[0].quant.is_some()) {
        let order = match node.op.kind() {
            Kind::Product | Kind::Pair => (settings.order)(id),
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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        ir::{Activation, Node, Op, Value},
        tensor::Quantization,
    };

    /// `y = relu(x w^T + b)`, `z = softmax(y)`; the weight is synthetic, the bias dense.
    fn network() -> (Graph<Float>, [ValueId; 5]) {
        let mut graph = Graph::new("network");
        let mut value = |name: &str, shape: &[usize], constant| {
            let value = Value { name: name.into(), shape: shape.to_vec(), dtype: DType::Fp32, quant: None, constant };
            graph.add_value(value)
        };
        let recipe =
            crate::ir::Synthetic { seed: 1, distribution: crate::ir::Distribution::Uniform { low: 0, high: 0 } };
        let bias = Tensor::from_f32(&[2], vec![10.0, -100.0]).unwrap();
        let x = value("x", &[1, 3], None);
        let w = value("w", &[2, 3], Some(Constant::Synthetic(recipe)));
        let b = value("b", &[2], Some(Constant::Dense(bias.into())));
        let y = value("y", &[1, 2], None);
        let z = value("z", &[1, 2], None);
        let op = Op::MatMul { transposed: true, activation: Activation::Relu };
        graph.add_node(Node { name: "fc".into(), op, inputs: vec![x, w, b], outputs: vec![y] });
        graph.add_node(Node { name: "prob".into(), op: Op::Softmax { axis: 1 }, inputs: vec![y], outputs: vec![z] });
        graph.inputs = vec![x];
        graph.outputs = vec![z];
        (graph, [x, w, b, y, z])
    }

    fn weight() -> Tensor {
        Tensor::from_f32(&[2, 3], vec![1.0, 2.0, 3.0, 4.0, 5.0, 6.0]).unwrap()
    }

    #[test]
    fn a_graph_takes_dense_constants_from_itself_and_others_from_the_caller() {
        let (graph, [_, w, _, y, z]) = network();
        let x = Tensor::from_f32(&[1, 3], vec![1.0, 1.0, 1.0]).unwrap();
        let constants = |id| (id == w).then(weight);
        let execution = run_float(&graph, std::slice::from_ref(&x), &constants).unwrap();
        assert_eq!(execution.value(y).unwrap().to_f32(), [16.0, 0.0]);
        assert!(execution.value(z).unwrap().to_f32()[0] > 0.99);
        let missing = run_float(&graph, &[x], &|_| None).unwrap_err();
        assert_eq!(missing.to_string(), "in node \"fc\": value \"w\" is not available");
    }

    #[test]
    fn the_batch_may_differ_from_the_graphs_and_nothing_else() {
        let (graph, [_, w, _, y, _]) = network();
        let constants = |id| (id == w).then(weight);
        let x = Tensor::from_f32(&[2, 3], vec![1.0, 1.0, 1.0, 0.0, 0.0, 0.0]).unwrap();
        let execution = run_float(&graph, &[x], &constants).unwrap();
        assert_eq!(execution.value(y).unwrap().to_f32(), [16.0, 0.0, 10.0, 0.0]);
        let x = Tensor::from_f32(&[1, 4], vec![0.0; 4]).unwrap();
        let fault = run_float(&graph, &[x], &constants).unwrap_err();
        assert_eq!(fault.to_string(), "value \"x\" is Fp32 [1, 3], was fed Fp32 [1, 4]");
    }

    #[test]
    fn only_outputs_are_kept_where_that_is_asked() {
        let (graph, [_, w, _, _, z]) = network();
        let x = Tensor::from_f32(&[1, 3], vec![1.0, 1.0, 1.0]).unwrap();
        let constants = |id| (id == w).then(weight);
        let all = run_float(&graph, std::slice::from_ref(&x), &constants).unwrap();
        let some = run(&graph, &[x], &Settings::default(), Keep::Outputs, &constants).unwrap();
        assert_eq!(some.values.iter().filter(|value| value.is_some()).count(), 1);
        assert_eq!(some.value(z), all.value(z));
    }

    #[test]
    fn a_node_that_cannot_be_executed_is_named_with_the_reason() {
        let (mut graph, [x, w, ..]) = network();
        graph.value_mut(w).shape = vec![2, 4];
        let x = (graph.value(x).shape.clone(), vec![0.0; 3]);
        let x = Tensor::from_f32(&x.0, x.1).unwrap();
        let w = Tensor::from_f32(&[2, 4], vec![0.0; 8]).unwrap();
        let b = Tensor::from_f32(&[2], vec![0.0; 2]).unwrap();
        let fault = run_node(&graph, NodeId(0), &[&x, &w, &b], &Settings::default()).unwrap_err();
        assert_eq!(fault.to_string(), "in node \"fc\" (MatMul): shape: input [1, 3] and weight [2, 4] do not fit");
        let fault = run_node(&graph, NodeId(0), &[&x], &Settings::default()).unwrap_err();
        assert_eq!(fault.to_string(), "in node \"fc\" (MatMul): 1 operands, expected 2 or 3");
    }

    #[test]
    fn the_requantizer_and_the_order_act_on_quantized_products() {
        let mut graph = Graph::<Quantized>::new("product");
        let mut value = |name: &str, shape: &[usize], dtype| {
            let quant = Some(Quantization::per_tensor(if name == "y" { 2.0 } else { 1.0 }, 0));
            graph.add_value(Value { name: name.into(), shape: shape.to_vec(), dtype, quant, constant: None })
        };
        let x = value("x", &[1, 2], DType::Int8);
        let w = value("w", &[2, 1], DType::Int8);
        let y = value("y", &[1, 1], DType::Int8);
        let op = Op::MatMul { transposed: false, activation: Activation::None };
        let node = graph.add_node(Node { name: "fc".into(), op, inputs: vec![x, w], outputs: vec![y] });
        let tensor = |shape: &[usize], values: &[i64]| Tensor::from_integers(DType::Int8, shape, values).unwrap();
        let result = |values: [i64; 2], settings: &Settings<'_>| {
            let (x, w) = (tensor(&[1, 2], &values), tensor(&[2, 1], &[1, 1]));
            run_node(&graph, node, &[&x, &w], settings).unwrap()[0].to_integers().unwrap()[0]
        };
        // 1 / 2: to the even 0, or away from zero.
        assert_eq!(result([1, 0], &Settings::default()), 0);
        let away = Settings { requantizer: Requantizer::FixedDouble31, ..Settings::default() };
        assert_eq!(result([1, 0], &away), 1);
        // 100 + 100 in 8 bits.
        let narrow = |_| AccumulationOrder::Chunked {
            permutation: Vec::new(),
            chunks: vec![2],
            column_bits: 8,
            accumulator_bits: 16,
            overflow: crate::tensor::Overflow::Wrap,
        };
        assert_eq!(result([100, 100], &Settings { order: &narrow, ..Settings::default() }), -28);
        assert_eq!(result([100, 100], &Settings::default()), 100);
    }
}
