//! The graph under construction: what each name of the file stands for, and the one way in which nodes, values and
//! constants enter the graph.

use std::{
    collections::{HashMap, HashSet},
    sync::Arc,
};

use super::{
    limits::{Budget, Fallible, MAX_ENTRIES, MAX_FOLDED_BYTES, MAX_RANK, MAX_VALUE_ELEMENTS, clip, refuse},
    node::NodeView,
    proto::TensorProto,
    tensor::{self, External},
};
use crate::{
    ir::{Constant, Float, Graph, Node, Op, Value, ValueId, infer},
    tensor::{DType, Quantization, Tensor, checked_elements},
};

/// What a name of the file stands for.
#[derive(Clone, Debug)]
pub(super) enum Binding<'m> {
    /// A value of the graph.
    Value(ValueId),
    /// A constant, with its first name; it enters the graph where a node reads it.
    Constant(Arc<Tensor>, &'m str),
    /// Made by a node that was refused; its readers are passed over.
    Refused,
}

/// Element type and quantization of a result.
#[derive(Clone, Debug)]
pub(super) struct Encoding {
    /// Element type.
    pub dtype: DType,
    /// Scale and zero point, where known.
    pub quant: Option<Quantization>,
}

impl Encoding {
    /// Single precision.
    pub(super) const FLOAT: Self = Self { dtype: DType::Fp32, quant: None };
}

/// How a node of the graph is named after the file's node, where that becomes several: what is appended to the names
/// of node and value; nothing where it is empty.
#[derive(Clone, Copy, Debug)]
pub(super) struct NameSuffix {
    node: &'static str,
    value: &'static str,
}

impl NameSuffix {
    /// The only node, or one that stands for the whole and makes its result.
    pub(super) const WHOLE: Self = Self { node: "", value: "" };

    /// A helper before or between.
    pub(super) const fn helper(suffix: &'static str) -> Self {
        Self { node: suffix, value: suffix }
    }

    /// The node that does the work, with helpers behind it that make the result.
    pub(super) const fn work(value: &'static str) -> Self {
        Self { node: "", value }
    }

    /// The helper that makes the result.
    pub(super) const fn last(node: &'static str) -> Self {
        Self { node, value: "" }
    }
}

/// Hands out names that are unique in the graph.
#[derive(Debug, Default)]
pub(super) struct Namer<'m> {
    reserved: HashSet<&'m str>,
    given: HashSet<String>,
    next: HashMap<String, u64>,
}

impl<'m> Namer<'m> {
    /// Keeps a name of the file from being made up.
    pub(super) fn reserve(&mut self, name: &'m str) -> bool {
        self.reserved.insert(name)
    }

    /// The name itself the first time, a fresh one like it later.
    pub(super) fn claim(&mut self, name: &str) -> String {
        if self.given.insert(name.to_owned()) { name.to_owned() } else { self.fresh(name) }
    }

    /// A name like `base` that nothing has.
    pub(super) fn fresh(&mut self, base: &str) -> String {
        let base = clip(base);
        if !self.reserved.contains(base) && self.given.insert(base.to_owned()) {
            return base.to_owned();
        }
        let mut number = self.next.get(base).copied().unwrap_or(2);
        loop {
            let name = format!("{base}_{number}");
            number += 1;
            if !self.reserved.contains(name.as_str()) && self.given.insert(name.clone()) {
                self.next.insert(base.to_owned(), number);
                return name;
            }
        }
    }
}

/// A constant that entered the graph: its quantization and its value.
struct Entered {
    quant: Option<Quantization>,
    value: ValueId,
}

/// The graph under construction.
pub(super) struct Importer<'m> {
    /// What was built so far.
    pub graph: Graph<Float>,
    /// What the names of the file stand for.
    pub names: HashMap<&'m str, Binding<'m>>,
    /// Names of values.
    pub value_names: Namer<'m>,
    /// Names of nodes.
    pub node_names: Namer<'m>,
    /// What folding may still cost.
    pub budget: Budget,
    /// Where external data lies.
    pub external: External,
    /// The model's fixed batch and the one that replaces it.
    pub rebatch: Option<(usize, usize)>,
    /// The four-dimensional twins of three-dimensional values, so that a chain of 1-D operators reshapes once.
    pub twins: HashMap<ValueId, ValueId>,
    producers: Vec<Option<usize>>,
    entered: HashMap<usize, Vec<Entered>>,
    finite: HashSet<usize>,
    /// Constants of 4 bits, which tensors hold in 8, by their address: those that live are kept by what binds them.
    nibbles: HashSet<usize>,
}

impl<'m> Importer<'m> {
    pub(super) fn new(name: &str, external: External) -> Self {
        Self {
            graph: Graph::new(name),
            names: HashMap::new(),
            value_names: Namer::default(),
            node_names: Namer::default(),
            budget: Budget::new(MAX_FOLDED_BYTES),
            external,
            rebatch: None,
            twins: HashMap::new(),
            producers: Vec::new(),
            entered: HashMap::new(),
            finite: HashSet::new(),
            nibbles: HashSet::new(),
        }
    }

    /// A constant of the file.
    pub(super) fn decoded(&mut self, proto: &TensorProto) -> Result<Arc<Tensor>, String> {
        let tensor = tensor::decode(proto, &mut self.external)?;
        Ok(self.kept(tensor, proto.data_type.unwrap_or_default()))
    }

    /// A constant whose type in the file has this number.
    pub(super) fn kept(&mut self, tensor: Tensor, number: i32) -> Arc<Tensor> {
        let tensor = Arc::new(tensor);
        if tensor::dtype(number) == Ok(DType::Int4) {
            self.nibbles.insert(Arc::as_ptr(&tensor).addr());
        }
        tensor
    }

    /// Element type of a constant.
    pub(super) fn dtype_of(&self, tensor: &Arc<Tensor>) -> DType {
        if self.nibbles.contains(&Arc::as_ptr(tensor).addr()) { DType::Int4 } else { tensor.dtype() }
    }

    /// What an operand is; `None` where it is absent.
    pub(super) fn binding(&self, node: &NodeView<'m>, index: usize) -> Fallible<Option<Binding<'m>>> {
        let Some(name) = node.input(index) else { return Ok(None) };
        match self.names.get(name) {
            Some(binding) => Ok(Some(binding.clone())),
            None => refuse!("reads {:?}, which nothing makes", clip(name)),
        }
    }

    /// An operand that must be a constant; `None` where it is absent.
    pub(super) fn constant(&self, node: &NodeView<'m>, index: usize) -> Fallible<Option<Arc<Tensor>>> {
        match self.binding(node, index)? {
            None => Ok(None),
            Some(Binding::Constant(tensor, _)) => Ok(Some(tensor)),
            Some(_) => refuse!("operand {:?} must be a constant", clip(node.input(index).unwrap_or_default())),
        }
    }

    /// An operand that must be a constant list of integers; `None` where it is absent.
    pub(super) fn constant_ints(&self, node: &NodeView<'m>, index: usize) -> Fallible<Option<Vec<i64>>> {
        let Some(tensor) = self.constant(node, index)? else { return Ok(None) };
        if tensor.len() > 4 * MAX_RANK || tensor.shape().len() > 1 {
            refuse!("operand {:?} must be a short list of integers", clip(node.input(index).unwrap_or_default()));
        }
        match tensor.to_integers() {
            Some(values) => Ok(Some(values)),
            None => refuse!("operand {:?} must hold integers", clip(node.input(index).unwrap_or_default())),
        }
    }

    /// An operand as a value of the graph, of any type.
    pub(super) fn operand(&mut self, node: &NodeView<'m>, index: usize) -> Fallible<ValueId> {
        match self.binding(node, index)? {
            Some(binding) => self.enter(&binding, None),
            None => refuse!("operand {index} is missing"),
        }
    }

    /// An operand as a float value of the graph.
    pub(super) fn float(&mut self, node: &NodeView<'m>, index: usize) -> Fallible<ValueId> {
        let value = self.operand(node, index)?;
        let dtype = self.graph.value(value).dtype;
        if dtype != DType::Fp32 {
            refuse!("operand {:?} is {dtype:?}; only float is supported here", clip(&self.graph.value(value).name));
        }
        Ok(value)
    }

    /// An operand as a quantized value of the graph.
    pub(super) fn quantized(&mut self, node: &NodeView<'m>, index: usize, quant: Quantization) -> Fallible<ValueId> {
        match self.binding(node, index)? {
            Some(binding) => self.enter(&binding, Some(quant)),
            None => refuse!("operand {index} is missing"),
        }
    }

    /// A binding as a value of the graph, read with `quant` if it is quantized.
    pub(super) fn enter(&mut self, binding: &Binding<'m>, quant: Option<Quantization>) -> Fallible<ValueId> {
        match binding {
            Binding::Refused => refuse!("an operand was refused"),
            Binding::Constant(tensor, name) => self.enter_constant(Arc::clone(tensor), name, quant),
            Binding::Value(id) => {
                let Some(quant) = quant else { return Ok(*id) };
                let value = self.graph.value_mut(*id);
                match &value.quant {
                    Some(made) if *made != quant => refuse!(
                        "{:?} is read with scale {} and zero point {}, but it has scale {} and zero point {}",
                        clip(&value.name),
                        quant.scale_of(0),
                        quant.zero_of(0),
                        made.scale_of(0),
                        made.zero_of(0)
                    ),
                    Some(_) => {}
                    None => value.quant = Some(quant),
                }
                Ok(*id)
            }
        }
    }

    /// A constant as a value of the graph; the same one where it entered before with the same quantization.
    pub(super) fn enter_constant(
        &mut self,
        tensor: Arc<Tensor>,
        name: &str,
        quant: Option<Quantization>,
    ) -> Fallible<ValueId> {
        if tensor.is_empty() {
            refuse!("operand {:?} has no elements: shape {:?}", clip(name), tensor.shape());
        }
        // The graph keeps the tensor alive, so its address identifies it.
        let address = Arc::as_ptr(&tensor).addr();
        // Only the latest few are compared: a hostile file could make the list long.
        let before = self.entered.get(&address).map(Vec::as_slice).unwrap_or_default();
        if let Some(found) = before.iter().rev().take(8).find(|entered| entered.quant == quant) {
            return Ok(found.value);
        }
        let name = self.value_names.claim(name);
        let dtype = self.dtype_of(&tensor);
        let value = self.add_constant(name, tensor, dtype, quant.clone());
        self.entered.entry(address).or_default().push(Entered { quant, value });
        Ok(value)
    }

    /// A new constant made from one of the file.
    pub(super) fn derive_constant(
        &mut self,
        tensor: Arc<Tensor>,
        base: &str,
        quant: Option<Quantization>,
    ) -> Fallible<ValueId> {
        if tensor.is_empty() {
            refuse!("a constant without elements: shape {:?}", tensor.shape());
        }
        let name = self.value_names.fresh(base);
        let dtype = tensor.dtype();
        Ok(self.add_constant(name, tensor, dtype, quant))
    }

    fn add_constant(
        &mut self,
        name: String,
        tensor: Arc<Tensor>,
        dtype: DType,
        quant: Option<Quantization>,
    ) -> ValueId {
        self.graph.add_value(Value {
            name,
            shape: tensor.shape().to_vec(),
            dtype,
            quant,
            constant: Some(Constant::Dense(tensor)),
        })
    }

    /// The tensor of a value, if it is a constant.
    pub(super) fn tensor_of(&self, value: ValueId) -> Option<Arc<Tensor>> {
        match &self.graph.value(value).constant {
            Some(Constant::Dense(tensor)) => Some(Arc::clone(tensor)),
            _ => None,
        }
    }

    /// The node that makes a value.
    pub(super) fn producer(&self, value: ValueId) -> Option<&Node> {
        self.producers.get(value.index()).copied().flatten().map(|index| &self.graph.nodes[index])
    }

    /// Where `value` is a constant that was dequantized: the constant.
    pub(super) fn dequantized_constant(&self, value: ValueId) -> Option<ValueId> {
        let node = self.producer(value)?;
        let &source = node.inputs.first()?;
        (node.op == Op::DequantizeLinear && self.graph.value(source).constant.is_some()).then_some(source)
    }

    /// Whether a value is a constant, or one that only went through `QuantizeLinear` and `DequantizeLinear`.
    pub(super) fn is_fixed(&self, mut value: ValueId) -> bool {
        for _ in 0..4 {
            if self.graph.value(value).constant.is_some() {
                return true;
            }
            match self.producer(value) {
                Some(node) if matches!(node.op, Op::QuantizeLinear | Op::DequantizeLinear) => value = node.inputs[0],
                _ => return false,
            }
        }
        false
    }

    /// Refuses a weight that is not constant, or that holds what no weight should.
    pub(super) fn check_weight(&mut self, value: ValueId) -> Fallible<()> {
        let name = &self.graph.value(value).name;
        if !self.is_fixed(value) {
            refuse!("weight or bias {:?} must be a constant: only MatMul takes two computed tensors", clip(name));
        }
        let Some(tensor) = self.tensor_of(value) else { return Ok(()) };
        if self.finite.insert(Arc::as_ptr(&tensor).addr())
            && let Tensor::F32(array) = &*tensor
            && array.iter().any(|value| !value.is_finite())
        {
            refuse!("weight or bias {:?} holds NaN or infinity", clip(name));
        }
        Ok(())
    }

    /// Adds the node that makes the result of the file's node.
    pub(super) fn finish(
        &mut self,
        node: &NodeView<'m>,
        op: Op,
        inputs: Vec<ValueId>,
        encoding: Encoding,
    ) -> Fallible<ValueId> {
        self.emit(node, NameSuffix::WHOLE, op, inputs, encoding, None)
    }

    /// Adds a node as one step of the file's node. `requested` is the shape of a `Reshape`'s result.
    pub(super) fn emit(
        &mut self,
        node: &NodeView<'m>,
        step: NameSuffix,
        op: Op,
        inputs: Vec<ValueId>,
        encoding: Encoding,
        requested: Option<&[usize]>,
    ) -> Fallible<ValueId> {
        let shapes: Vec<&[usize]> = inputs.iter().map(|&input| self.graph.value(input).shape.as_slice()).collect();
        let mut shapes = match infer::infer(&op, &shapes, requested) {
            Ok(shapes) => shapes,
            Err(error) => refuse!("{error}"),
        };
        let Some(shape) = shapes.pop().filter(|_| shapes.is_empty()) else { refuse!("must have one result") };
        check_shape(&shape)?;
        if self.graph.nodes.len() >= MAX_ENTRIES {
            refuse!("more than {MAX_ENTRIES} nodes, which is the limit");
        }
        let suffixed =
            |namer: &mut Namer<'m>, base: &str, suffix: &str| namer.fresh(&format!("{}/{suffix}", clip(base)));
        let value_name = match step.value {
            "" => self.value_names.claim(node.output(0)),
            suffix => suffixed(&mut self.value_names, node.output(0), suffix),
        };
        let node_name = match step.node {
            "" => node.name.clone(),
            suffix => suffixed(&mut self.node_names, &node.name, suffix),
        };
        let value = Value { name: value_name, shape, dtype: encoding.dtype, quant: encoding.quant, constant: None };
        Ok(self.add(node_name, op, inputs, value))
    }

    /// A copy of `value` under the name of a result of the model.
    pub(super) fn copy(&mut self, value: ValueId, name: &str) -> ValueId {
        let node = self.node_names.claim(name);
        let copy = Value { name: self.value_names.claim(name), constant: None, ..self.graph.value(value).clone() };
        self.add(node, Op::Reshape, vec![value], copy)
    }

    fn add(&mut self, name: String, op: Op, inputs: Vec<ValueId>, output: Value) -> ValueId {
        let value = self.graph.add_value(output);
        let index = self.graph.nodes.len();
        self.graph.add_node(Node { name, op, inputs, outputs: vec![value] });
        self.producers.resize(value.index() + 1, None);
        self.producers[value.index()] = Some(index);
        value
    }

    /// Adds a reshape of `value` to `shape`, keeping type and quantization.
    pub(super) fn reshape(
        &mut self,
        node: &NodeView<'m>,
        step: NameSuffix,
        value: ValueId,
        shape: &[usize],
    ) -> Fallible<ValueId> {
        let encoding = self.encoding(value);
        self.emit(node, step, Op::Reshape, vec![value], encoding, Some(shape))
    }

    /// Element type and quantization of a value.
    pub(super) fn encoding(&self, value: ValueId) -> Encoding {
        let value = self.graph.value(value);
        Encoding { dtype: value.dtype, quant: value.quant.clone() }
    }

    /// Shape of a value.
    pub(super) fn shape(&self, value: ValueId) -> Vec<usize> {
        self.graph.value(value).shape.clone()
    }
}

/// Refuses shapes without elements, with too many, or with too many dimensions.
pub(super) fn check_shape(shape: &[usize]) -> Fallible<()> {
    if shape.len() > MAX_RANK {
        refuse!("{} dimensions; the limit is {MAX_RANK}", shape.len());
    }
    match checked_elements(shape, MAX_VALUE_ELEMENTS) {
        Some(0) => refuse!("shape {shape:?} has no elements"),
        Some(_) => Ok(()),
        None => refuse!("shape {shape:?}: more than {MAX_VALUE_ELEMENTS} elements, which is the limit"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn made_up_names_avoid_those_of_the_file() {
        let mut namer = Namer::default();
        namer.reserve("y");
        namer.reserve("y_2");
        assert_eq!(namer.claim("y"), "y");
        assert_eq!(namer.claim("y"), "y_3");
        assert_eq!(namer.fresh("z"), "z");
        assert_eq!(namer.fresh("z"), "z_2");
    }

    #[test]
    fn values_without_elements_or_with_too_many_are_refused() {
        assert!(check_shape(&[1, 0]).is_err());
        assert!(check_shape(&[1 << 20, 1 << 20]).is_err());
        assert!(check_shape(&[usize::MAX, usize::MAX]).is_err());
        assert!(check_shape(&[1; 9]).is_err());
        assert!(check_shape(&[]).is_ok());
    }
}
