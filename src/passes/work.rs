//! A graph under rewriting: nodes in removable slots, with producers and consumers kept up to date, names kept
//! unique, and the topological order and dead code settled once at the end. Knows no pass.

use std::{collections::HashSet, mem};

use crate::{
    ir::{Activation, Constant, Float, Graph, Node, Op, Value, ValueId},
    tensor::{DType, Quantization, Tensor},
};

/// Index of a node's slot while a graph is rewritten. Slots are never reused.
pub type Slot = usize;

/// A graph under rewriting.
#[derive(Debug)]
pub struct Work {
    graph: Graph<Float>,
    slots: Vec<Option<Node>>,
    producer: Vec<Option<Slot>>,
    /// One entry for each reference, so a node that reads a value twice stands twice.
    consumers: Vec<Vec<Slot>>,
    is_output: Vec<bool>,
    names: HashSet<String>,
    node_names: HashSet<String>,
    /// Lines for the user about what a pass did beyond its count.
    pub notes: Vec<String>,
}

impl Work {
    /// Takes a graph apart. Names that are empty or stand twice are made unique.
    pub fn new(mut graph: Graph<Float>) -> Self {
        let nodes = mem::take(&mut graph.nodes);
        let values = mem::take(&mut graph.values);
        let mut work = Self {
            is_output: Vec::new(),
            slots: Vec::with_capacity(nodes.len()),
            producer: Vec::new(),
            consumers: Vec::new(),
            names: HashSet::new(),
            node_names: HashSet::new(),
            notes: Vec::new(),
            graph,
        };
        for value in values {
            work.add_value(value);
        }
        for &output in &work.graph.outputs {
            work.is_output[output.index()] = true;
        }
        for node in nodes {
            work.add_node(node);
        }
        for value in (0_u32..).map(ValueId).take(work.values()) {
            work.prune(value);
        }
        work
    }

    /// Number of slots, removed nodes included.
    pub fn slots(&self) -> usize {
        self.slots.len()
    }

    /// Number of values, dead ones included.
    pub fn values(&self) -> usize {
        self.graph.values.len()
    }

    /// The node of a slot, unless it was removed.
    pub fn node(&self, slot: Slot) -> Option<&Node> {
        self.slots.get(slot)?.as_ref()
    }

    /// The operator of a slot, to change.
    pub fn op_mut(&mut self, slot: Slot) -> Option<&mut Op> {
        self.slots.get_mut(slot)?.as_mut().map(|node| &mut node.op)
    }

    /// A value.
    pub fn value(&self, id: ValueId) -> &Value {
        self.graph.value(id)
    }

    /// A value, to change.
    pub fn value_mut(&mut self, id: ValueId) -> &mut Value {
        self.graph.value_mut(id)
    }

    /// What the user feeds.
    pub fn inputs(&self) -> &[ValueId] {
        &self.graph.inputs
    }

    /// What the user gets.
    pub fn outputs(&self) -> &[ValueId] {
        &self.graph.outputs
    }

    /// The slot that makes a value.
    pub fn producer(&self, value: ValueId) -> Option<Slot> {
        self.producer[value.index()]
    }

    /// The node that makes a value, with its slot.
    pub fn producing(&self, value: ValueId) -> Option<(Slot, &Node)> {
        let slot = self.producer(value)?;
        Some((slot, self.node(slot)?))
    }

    /// The slots that read a value, one entry for each reference.
    pub fn consumers(&self, value: ValueId) -> &[Slot] {
        &self.consumers[value.index()]
    }

    /// Number of references to a value; being a result of the graph is one.
    pub fn uses(&self, value: ValueId) -> usize {
        self.consumers[value.index()].len() + usize::from(self.is_output[value.index()])
    }

    /// Whether a value is a result of the graph.
    pub fn is_output(&self, value: ValueId) -> bool {
        self.is_output[value.index()]
    }

    /// Whether the user feeds the value.
    pub fn is_input(&self, value: ValueId) -> bool {
        self.graph.inputs.contains(&value)
    }

    /// Whether a value holds real numbers that no quantization describes.
    pub fn is_float(&self, value: ValueId) -> bool {
        let value = self.value(value);
        value.quant.is_none() && !value.dtype.is_integer()
    }

    /// Whether any node makes a quantized value.
    pub fn has_quantized_results(&self) -> bool {
        self.slots.iter().flatten().flat_map(|node| &node.outputs).any(|&y| self.value(y).quant.is_some())
    }

    /// The elements of a constant that is at hand.
    pub fn dense(&self, value: ValueId) -> Option<&Tensor> {
        match &self.value(value).constant {
            Some(Constant::Dense(tensor)) => Some(tensor),
            _ => None,
        }
    }

    /// The elements of a float constant that is at hand.
    pub fn dense_float(&self, value: ValueId) -> Option<Vec<f32>> {
        if !self.is_float(value) {
            return None;
        }
        match self.dense(value)? {
            tensor @ (Tensor::F32(_) | Tensor::F64(_)) => Some(tensor.to_f32()),
            _ => None,
        }
    }

    /// Whether a value is a constant of either kind.
    pub fn is_constant(&self, value: ValueId) -> bool {
        self.value(value).constant.is_some()
    }

    /// Whether two values describe their elements in the same way.
    pub fn same_encoding(&self, a: ValueId, b: ValueId) -> bool {
        let (a, b) = (self.value(a), self.value(b));
        a.dtype == b.dtype && a.quant == b.quant
    }

    fn unique(taken: &mut HashSet<String>, wanted: &str) -> String {
        let base = if wanted.is_empty() { "unnamed" } else { wanted };
        let mut name = base.to_owned();
        let mut count = 1_u32;
        while !taken.insert(name.clone()) {
            count += 1;
            name = format!("{base}.{count}");
        }
        name
    }

    /// Adds a value; its name is made unique.
    pub fn add_value(&mut self, mut value: Value) -> ValueId {
        value.name = Self::unique(&mut self.names, &value.name);
        self.producer.push(None);
        self.consumers.push(Vec::new());
        self.is_output.push(false);
        self.graph.add_value(value)
    }

    /// Adds a float constant.
    pub fn add_float_constant(&mut self, name: &str, shape: &[usize], elements: Vec<f32>) -> Option<ValueId> {
        let tensor = Tensor::from_f32(shape, elements)?;
        Some(self.add_constant(name, DType::Fp32, None, tensor))
    }

    /// Adds a constant.
    pub fn add_constant(&mut self, name: &str, dtype: DType, quant: Option<Quantization>, tensor: Tensor) -> ValueId {
        let shape = tensor.shape().to_vec();
        let constant = Some(Constant::Dense(tensor.into()));
        self.add_value(Value { name: name.to_owned(), shape, dtype, quant, constant })
    }

    /// Adds a value of the shape of another.
    pub fn add_like(&mut self, other: ValueId, suffix: &str, dtype: DType, quant: Option<Quantization>) -> ValueId {
        let Value { name, shape, .. } = self.value(other);
        let (name, shape) = (format!("{name}{suffix}"), shape.clone());
        self.add_value(Value { name, shape, dtype, quant, constant: None })
    }

    /// Exchanges the names of two values.
    pub fn take_name(&mut self, to: ValueId, from: ValueId) {
        let name = mem::take(&mut self.value_mut(from).name);
        self.value_mut(from).name = mem::replace(&mut self.value_mut(to).name, name);
    }

    /// Adds a node; its name is made unique. Its place in the order is found at the end.
    pub fn add_node(&mut self, mut node: Node) -> Slot {
        if node.name.is_empty() {
            node.name = node.outputs.first().map(|&id| self.value(id).name.clone()).unwrap_or_default();
        }
        node.name = Self::unique(&mut self.node_names, &node.name);
        let slot = self.slots.len();
        for &input in &node.inputs {
            self.consumers[input.index()].push(slot);
        }
        for &output in &node.outputs {
            self.producer[output.index()] = Some(slot);
        }
        self.slots.push(Some(node));
        slot
    }

    fn forget_use(&mut self, value: ValueId, slot: Slot) {
        let list = &mut self.consumers[value.index()];
        if let Some(position) = list.iter().position(|&consumer| consumer == slot) {
            list.swap_remove(position);
        }
    }

    /// Removes a node; its results have no producer from then on.
    pub fn remove(&mut self, slot: Slot) {
        let Some(node) = self.slots.get_mut(slot).and_then(Option::take) else { return };
        for input in node.inputs {
            self.forget_use(input, slot);
        }
        for output in node.outputs {
            if self.producer[output.index()] == Some(slot) {
                self.producer[output.index()] = None;
            }
        }
    }

    /// Removes the producers of a value that nobody reads, and theirs.
    pub fn prune(&mut self, value: ValueId) {
        let mut pending = vec![value];
        while let Some(value) = pending.pop() {
            if self.uses(value) > 0 {
                continue;
            }
            let Some((slot, node)) = self.producing(value) else { continue };
            if node.outputs.iter().all(|&output| self.uses(output) == 0) {
                pending.extend(&node.inputs);
                self.remove(slot);
            }
        }
    }

    /// Gives a node other operands.
    pub fn set_inputs(&mut self, slot: Slot, inputs: Vec<ValueId>) {
        let Some(node) = self.slots.get_mut(slot).and_then(Option::as_mut) else { return };
        let old = mem::replace(&mut node.inputs, inputs.clone());
        for input in old {
            self.forget_use(input, slot);
        }
        for input in inputs {
            self.consumers[input.index()].push(slot);
        }
    }

    /// Gives a node another operand in one place, appending where the place is the next one.
    pub fn set_input(&mut self, slot: Slot, place: usize, input: ValueId) {
        let Some(node) = self.node(slot) else { return };
        let mut inputs = node.inputs.clone();
        if place < inputs.len() {
            inputs[place] = input;
        } else {
            inputs.push(input);
        }
        self.set_inputs(slot, inputs);
    }

    /// Lets a node make another value instead of its first result.
    pub fn set_output(&mut self, slot: Slot, output: ValueId) {
        let Some(node) = self.slots.get_mut(slot).and_then(Option::as_mut) else { return };
        let old = mem::replace(&mut node.outputs[0], output);
        if self.producer[old.index()] == Some(slot) {
            self.producer[old.index()] = None;
        }
        self.producer[output.index()] = Some(slot);
    }

    /// Lets every node that reads `old` read `new`. Results of the graph are not touched.
    pub fn replace_uses(&mut self, old: ValueId, new: ValueId) {
        for slot in mem::take(&mut self.consumers[old.index()]) {
            if let Some(node) = self.slots[slot].as_mut() {
                for input in &mut node.inputs {
                    if *input == old {
                        *input = new;
                    }
                }
            }
            self.consumers[new.index()].push(slot);
        }
    }

    /// Gives a node's operand other elements: in place if no one else reads the constant, else as a new constant.
    pub fn set_constant(&mut self, slot: Slot, place: usize, tensor: Tensor, quant: Option<Quantization>) {
        let Some(&old) = self.node(slot).and_then(|node| node.inputs.get(place)) else { return };
        let dtype = tensor.dtype();
        if self.uses(old) == 1 {
            let value = self.value_mut(old);
            value.shape = tensor.shape().to_vec();
            value.dtype = dtype;
            value.quant = quant;
            value.constant = Some(Constant::Dense(tensor.into()));
        } else {
            let name = self.value(old).name.clone();
            let new = self.add_constant(&name, dtype, quant, tensor);
            self.set_input(slot, place, new);
        }
    }

    /// Drops the one-operand node `slot` (`x -> y`) by letting readers of `y` read `x`; a result of the graph keeps
    /// its name. `false`, and nothing done, where that is impossible.
    pub fn bypass(&mut self, slot: Slot) -> bool {
        let Some(node) = self.node(slot) else { return false };
        let (&[x, ..], &[y]) = (node.inputs.as_slice(), node.outputs.as_slice()) else { return false };
        if self.is_output(y) {
            let Some(producer) = self.producer(x) else { return false };
            if self.is_output(x) || self.node(producer).is_none_or(|node| node.outputs.len() != 1) {
                return false;
            }
            self.remove(slot);
            self.replace_uses(x, y);
            self.set_output(producer, y);
        } else {
            self.remove(slot);
            self.replace_uses(y, x);
        }
        true
    }

    /// Puts the graph together: live nodes in topological order, close to the old one; live values only, in their
    /// old order; all inputs.
    pub fn finish(self) -> Graph<Float> {
        let Self { mut graph, mut slots, producer, .. } = self;
        let live = live_slots(&slots, &producer, &graph.outputs);
        let order = topological(&slots, &producer, &live);
        let nodes: Vec<Node> = order.into_iter().filter_map(|slot| slots[slot].take()).collect();

        let mut keep = vec![false; graph.values.len()];
        let ends = graph.inputs.iter().chain(&graph.outputs);
        let inner = nodes.iter().flat_map(|node| node.inputs.iter().chain(&node.outputs));
        for id in ends.chain(inner) {
            keep[id.index()] = true;
        }
        let mut renumbered = vec![ValueId(u32::MAX); keep.len()];
        for (index, value) in mem::take(&mut graph.values).into_iter().enumerate() {
            if keep[index] {
                renumbered[index] = graph.add_value(value);
            }
        }
        let renumber = |ids: &mut Vec<ValueId>| ids.iter_mut().for_each(|id| *id = renumbered[id.index()]);
        renumber(&mut graph.inputs);
        renumber(&mut graph.outputs);
        for mut node in nodes {
            renumber(&mut node.inputs);
            renumber(&mut node.outputs);
            graph.add_node(node);
        }
        graph
    }
}

fn live_slots(slots: &[Option<Node>], producer: &[Option<Slot>], outputs: &[ValueId]) -> Vec<bool> {
    let mut live = vec![false; slots.len()];
    let mut pending: Vec<Slot> = outputs.iter().filter_map(|output| producer[output.index()]).collect();
    while let Some(slot) = pending.pop() {
        if !mem::replace(&mut live[slot], true) {
            let inputs = slots[slot].iter().flat_map(|node| &node.inputs);
            pending.extend(inputs.filter_map(|input| producer[input.index()]));
        }
    }
    live
}

/// Slots in their own order, each after the slots that it needs. Without recursion: a chain may be long.
fn topological(slots: &[Option<Node>], producer: &[Option<Slot>], live: &[bool]) -> Vec<Slot> {
    let mut placed = vec![false; slots.len()];
    let mut order = Vec::with_capacity(slots.len());
    let mut stack = Vec::new();
    for (root, _) in live.iter().enumerate().filter(|(_, live)| **live) {
        stack.push((root, 0_usize));
        while let Some((slot, next)) = stack.pop() {
            if placed[slot] {
                continue;
            }
            let Some(node) = &slots[slot] else { continue };
            if let Some(input) = node.inputs.get(next) {
                stack.push((slot, next + 1));
                if let Some(needed) = producer[input.index()].filter(|&needed| !placed[needed]) {
                    stack.push((needed, 0));
                }
            } else {
                placed[slot] = true;
                order.push(slot);
            }
        }
    }
    order
}

/// The fused activation of an operator that has one.
pub fn activation_of(op: &Op) -> Option<Activation> {
    match op {
        Op::Conv { activation, .. } | Op::MatMul { activation, .. } | Op::Add { activation } => Some(*activation),
        _ => None,
    }
}

/// The place of an operator's fused activation, where it has one.
pub fn activation_mut(op: &mut Op) -> Option<&mut Activation> {
    match op {
        Op::Conv { activation, .. } | Op::MatMul { activation, .. } | Op::Add { activation } => Some(activation),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::passes::testing::Builder;

    #[test]
    fn appended_nodes_are_placed_before_their_readers() {
        let mut build = Builder::new();
        let x = build.input(&[1, 2]);
        let y = build.node("last", Op::Relu, &[x], &[1, 2]);
        build.output(y);
        let mut work = Work::new(build.graph);
        let middle = work.add_like(x, "_middle", DType::Fp32, None);
        work.add_node(Node { name: "first".into(), op: Op::Tanh, inputs: vec![x], outputs: vec![middle] });
        work.set_input(0, 0, middle);
        let graph = work.finish();
        let names: Vec<&str> = graph.nodes.iter().map(|node| node.name.as_str()).collect();
        assert_eq!(names, ["first", "last"]);
    }

    #[test]
    fn dead_nodes_and_values_are_dropped_and_names_made_unique() {
        let mut build = Builder::new();
        let x = build.input(&[2]);
        let y = build.node("same", Op::Relu, &[x], &[2]);
        build.node("same", Op::Tanh, &[x], &[2]);
        let z = build.node("same", Op::Sigmoid, &[y], &[2]);
        build.output(z);
        let graph = Work::new(build.graph).finish();
        let names: Vec<&str> = graph.nodes.iter().map(|node| node.name.as_str()).collect();
        assert_eq!(names, ["same", "same.3"]);
        assert_eq!(graph.values.len(), 3);
    }
}
