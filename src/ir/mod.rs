//! The network as a graph: values and nodes in arenas, typed operators, shapes. Knows nothing of machines.
//!
//! Logical dimensions are ONNX's: images are `[N, C, H, W]`, matrices `[N, K]`. How a value lies in memory is a
//! `Layout` of the program, not of the graph.
//!
//! One set of operators serves all forms of a network. Whether a node is float or quantized is said by its values:
//! a `Conv` whose input, weight and output carry a `Quantization` is a quantized convolution.

pub mod fold;
pub mod infer;
pub mod macs;
pub mod op;
pub mod print;
pub mod verify;

use std::{marker::PhantomData, sync::Arc};

pub use op::{Activation, Kind, Op, Window};

use crate::tensor::{DType, Quantization, Tensor};

/// Index of a value in its graph.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct ValueId(pub u32);

/// Index of a node in its graph.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct NodeId(pub u32);

impl ValueId {
    /// As an index into `Graph::values`.
    pub const fn index(self) -> usize {
        self.0 as usize
    }
}

impl NodeId {
    /// As an index into `Graph::nodes`.
    pub const fn index(self) -> usize {
        self.0 as usize
    }
}

/// What a graph has been through; see [`Float`] and [`Quantized`].
pub trait Stage: Clone + std::fmt::Debug + 'static {
    /// For messages.
    const NAME: &'static str;
    /// Whether weights may be constants behind `QuantizeLinear` and `DequantizeLinear`, as in the QDQ form.
    const CONVERTS_WEIGHTS: bool;
}

/// As imported: float values, or any mixture with quantized ones (QDQ, `QOperator`).
#[derive(Clone, Debug)]
pub struct Float;

/// Ready for a machine: every operator of the array and the vector unit has quantized values, batch normalization
/// and activations are folded, constants are bound, `QuantizeLinear` and `DequantizeLinear` stand only at the
/// boundary or round a float operator of the host. `ir::verify` states the invariants.
#[derive(Clone, Debug)]
pub struct Quantized;

impl Stage for Float {
    const NAME: &'static str = "float";
    const CONVERTS_WEIGHTS: bool = true;
}

impl Stage for Quantized {
    const NAME: &'static str = "quantized";
    const CONVERTS_WEIGHTS: bool = false;
}

/// A constant's elements, at hand or made on demand.
#[derive(Clone, Debug)]
pub enum Constant {
    /// At hand.
    Dense(Arc<Tensor>),
    /// Made from a counter-based seed when needed: weights of layer lists.
    Synthetic(Synthetic),
}

/// Recipe of a synthetic constant: element `i` depends on `seed` and `i` alone.
#[derive(Clone, Debug, PartialEq)]
pub struct Synthetic {
    /// Seed of the counter-based generator, unique to the constant.
    pub seed: u64,
    /// What is drawn.
    pub distribution: Distribution,
}

/// Distributions of synthetic integer constants.
#[derive(Clone, Debug, PartialEq)]
pub enum Distribution {
    /// Rounded normal values of mean 0 and standard deviation `sigma` (in integer steps), clamped to `±limit`.
    Normal {
        /// Standard deviation.
        sigma: f32,
        /// Largest magnitude.
        limit: i32,
    },
    /// Uniform integers of `low..=high`.
    Uniform {
        /// Smallest.
        low: i32,
        /// Largest.
        high: i32,
    },
}

/// An edge of the graph.
#[derive(Clone, Debug)]
pub struct Value {
    /// Its name in the model; unique in the graph.
    pub name: String,
    /// Its dimensions.
    pub shape: Vec<usize>,
    /// Its element type.
    pub dtype: DType,
    /// Scale and zero point where it is quantized.
    pub quant: Option<Quantization>,
    /// Its elements where it is a constant.
    pub constant: Option<Constant>,
}

impl Value {
    /// Number of elements.
    pub fn elements(&self) -> u64 {
        self.shape.iter().map(|&dim| dim as u64).product()
    }

    /// Size in bytes where it is stored for execution, unpadded.
    pub fn bytes(&self) -> u64 {
        self.elements() * self.dtype.bytes()
    }

    /// Size in bytes on the machine, which packs elements of 4 bits.
    pub fn packed_bytes(&self) -> u64 {
        self.dtype.packed_bytes(self.elements())
    }

    /// `[N, C, H, W]` of a value of any rank up to 4: missing spatial dimensions are 1. A matrix is `[N, C, 1, 1]`,
    /// `[N, T, C]` of rank 3 is a batch of sequences and is **not** covered: `None`, as is a rank above 4.
    pub fn nchw(&self) -> Option<[usize; 4]> {
        match *self.shape.as_slice() {
            [] => Some([1, 1, 1, 1]),
            [c] => Some([1, c, 1, 1]),
            [n, c] => Some([n, c, 1, 1]),
            [n, c, h, w] => Some([n, c, h, w]),
            _ => None,
        }
    }
}

/// An operator with its operands.
#[derive(Clone, Debug)]
pub struct Node {
    /// Its name in the model, or one made from its output; unique in the graph.
    pub name: String,
    /// What it does.
    pub op: Op,
    /// Operands, in the order that [`Op`] documents.
    pub inputs: Vec<ValueId>,
    /// Results.
    pub outputs: Vec<ValueId>,
}

/// A network; nodes stand in topological order.
#[derive(Clone, Debug)]
pub struct Graph<S: Stage> {
    /// Its name.
    pub name: String,
    /// All values.
    pub values: Vec<Value>,
    /// All nodes, in an order in which every value is made before it is used.
    pub nodes: Vec<Node>,
    /// What the user feeds, in the model's order; constants are not among them.
    pub inputs: Vec<ValueId>,
    /// What the user gets.
    pub outputs: Vec<ValueId>,
    stage: PhantomData<S>,
}

impl<S: Stage> Graph<S> {
    /// An empty graph.
    pub fn new(name: impl Into<String>) -> Self {
        Self {
            name: name.into(),
            values: Vec::new(),
            nodes: Vec::new(),
            inputs: Vec::new(),
            outputs: Vec::new(),
            stage: PhantomData,
        }
    }

    /// The value of an id.
    pub fn value(&self, id: ValueId) -> &Value {
        &self.values[id.index()]
    }

    /// The value of an id, to change.
    pub fn value_mut(&mut self, id: ValueId) -> &mut Value {
        &mut self.values[id.index()]
    }

    /// The node of an id.
    pub fn node(&self, id: NodeId) -> &Node {
        &self.nodes[id.index()]
    }

    /// Adds a value.
    ///
    /// # Panics
    /// Past 2^32 values, which no importer lets through.
    pub fn add_value(&mut self, value: Value) -> ValueId {
        let id = ValueId(u32::try_from(self.values.len()).expect("importers bound the number of values"));
        self.values.push(value);
        id
    }

    /// Adds a node at the end of the order.
    ///
    /// # Panics
    /// Past 2^32 nodes, which no importer lets through.
    pub fn add_node(&mut self, node: Node) -> NodeId {
        let id = NodeId(u32::try_from(self.nodes.len()).expect("importers bound the number of nodes"));
        self.nodes.push(node);
        id
    }

    /// Nodes with their ids, in order.
    pub fn nodes_with_ids(&self) -> impl Iterator<Item = (NodeId, &Node)> {
        (0_u32..).map(NodeId).zip(&self.nodes)
    }

    /// The node that makes a value; `None` for inputs and constants. Linear in the number of nodes.
    pub fn producer(&self, value: ValueId) -> Option<NodeId> {
        self.nodes_with_ids().find(|(_, node)| node.outputs.contains(&value)).map(|(id, _)| id)
    }

    /// For each value, the nodes that read it, in order.
    pub fn consumers(&self) -> Vec<Vec<NodeId>> {
        let mut consumers = vec![Vec::new(); self.values.len()];
        for (id, node) in self.nodes_with_ids() {
            for input in &node.inputs {
                let list: &mut Vec<NodeId> = &mut consumers[input.index()];
                if list.last() != Some(&id) {
                    list.push(id);
                }
            }
        }
        consumers
    }

    /// The same graph under another stage. Only a pass that establishes the stage's invariants calls this.
    pub fn into_stage<T: Stage>(self) -> Graph<T> {
        Graph {
            name: self.name,
            values: self.values,
            nodes: self.nodes,
            inputs: self.inputs,
            outputs: self.outputs,
            stage: PhantomData,
        }
    }
}
