//! From the quantized graph to a plan: which engine runs each layer and how, and where each tensor lies.

use std::collections::BTreeMap;

use rayon::prelude::*;

use super::{
    cost::{Cost, Part, Rates},
    matrix::{LoopOrder, MatrixMapping},
    search::{self, Found, Infeasible, Situation},
    shape::{MatrixShape, byte_width},
    vector::{self, OperandShape, VectorMapping, VectorShape},
};
use crate::{
    config::{Accelerator, BufferLayout, DepthwisePolicy, VectorFunction},
    diag::{Diagnostic, Faults},
    ir::{Graph, Node, NodeId, Op, Quantized, Value, ValueId, Window},
    units::{Time, thousands},
};

/// What the caller decides.
#[derive(Clone, Debug, Default)]
pub struct PlanOptions {
    /// Nodes of which an accumulator may overflow, so that the order of additions matters: their groups are not
    /// bundled.
    pub inexact: Vec<NodeId>,
}

/// How a layer runs.
#[derive(Clone, Debug, PartialEq)]
pub enum LayerMapping {
    /// On the array, or depthwise on the vector unit.
    Matrix(MatrixMapping),
    /// On the vector unit; several parts for a concatenation, one an operand.
    Vector(Vec<VectorMapping>),
    /// On the host, whole, on memory.
    Host,
    /// Nothing to do: the tensor already lies as it should, or the conversion is at the boundary.
    Free,
}

/// One layer of the plan.
#[derive(Clone, Debug)]
pub struct LayerPlan {
    /// The node.
    pub node: NodeId,
    /// How it runs.
    pub mapping: LayerMapping,
    /// What the closed form predicts.
    pub predicted: Predicted,
    /// Why it runs so, one sentence a line.
    pub reasons: Vec<String>,
}

/// The closed form of a layer.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Predicted {
    /// Lower bound of its span.
    pub bound: Time,
    /// Which part of the machine that is.
    pub bound_by: Part,
    /// Useful bytes of activations loaded.
    pub input_bytes: u64,
    /// Bytes of weights and parameter records loaded.
    pub weight_bytes: u64,
    /// Useful bytes stored.
    pub output_bytes: u64,
    /// Array cycles in which operands are accepted.
    pub beats: u64,
}

impl From<&Cost> for Predicted {
    fn from(cost: &Cost) -> Self {
        Self {
            bound: cost.bound,
            bound_by: cost.bound_by,
            input_bytes: cost.input.bytes,
            weight_bytes: cost.weight.bytes,
            output_bytes: cost.output.bytes,
            beats: cost.beats,
        }
    }
}

impl From<&vector::VectorCost> for Predicted {
    fn from(cost: &vector::VectorCost) -> Self {
        Self {
            bound: cost.bound,
            bound_by: cost.bound_by,
            input_bytes: cost.input_bytes,
            output_bytes: cost.output_bytes,
            ..Self::default()
        }
    }
}

/// Where a value lies.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Place {
    /// In the activations' memory space (constants of element-wise operators too).
    Memory,
    /// In the shared buffer, at its top or bottom end, from its producer to its consumer.
    Resident {
        /// At the high end.
        top: bool,
    },
    /// Same bytes as another value.
    Alias(ValueId),
    /// A range of channels of another value.
    Part {
        /// The concatenation.
        whole: ValueId,
        /// First channel.
        channel: usize,
    },
    /// On the user's side of a boundary conversion.
    Outside,
}

/// The plan of a network.
#[derive(Clone, Debug)]
pub struct Plan {
    /// One entry a node, in the graph's order.
    pub layers: Vec<LayerPlan>,
    /// Where each value lies, by value index; `None` for weights, biases and values that nothing uses.
    pub places: Vec<Option<Place>>,
}

/// Elements that a tensor must have less than.
pub const LARGEST_TENSOR: u64 = 1 << 31;

/// Alignment of a resident tensor and what it reserves.
pub const RESIDENT_ALIGNMENT: u64 = 64;

/// `[n, h, w, c]` of a value as it lies in memory: rank 4 as NHWC, other ranks as rows of the last dimension.
pub fn extents(shape: &[usize]) -> [usize; 4] {
    match *shape {
        [n, c, h, w] => [n, h, w, c],
        [] => [1, 1, 1, 1],
        [ref rows @ .., c] => [rows.iter().product(), 1, 1, c],
    }
}

/// Plans a network.
///
/// # Errors
/// All layers that fit nowhere, each with the buffer that is short and by how much, or with what the mapping cannot
/// take.
pub fn plan(graph: &Graph<Quantized>, accelerator: &Accelerator, options: &PlanOptions) -> Result<Plan, Faults> {
    let rates = Rates::of(accelerator);
    let mut planner = Planner {
        graph,
        accelerator,
        rates,
        options,
        consumers: graph.consumers(),
        producers: producers(graph),
        places: vec![None; graph.values.len()],
        known: BTreeMap::new(),
        faults: Vec::new(),
    };
    planner.check_sizes();
    Faults::check(std::mem::take(&mut planner.faults))?;
    planner.place();
    planner.search_ahead();
    let layers = planner.layers();
    Faults::check(std::mem::take(&mut planner.faults))?;
    Ok(Plan { layers, places: planner.places })
}

/// A search problem, ordered so that results can be kept in a map.
type Problem = (MatrixShapeKey, SituationKey);
type MatrixShapeKey = [u32; 18];
type SituationKey = (u64, bool, bool, bool);

fn problem(shape: &MatrixShape, situation: Situation) -> Problem {
    let s = shape;
    (
        [
            s.n,
            s.c,
            s.h,
            s.w,
            s.o,
            s.p,
            s.q,
            s.groups,
            s.kernel[0],
            s.kernel[1],
            s.stride[0],
            s.stride[1],
            s.dilation[0],
            s.dilation[1],
            s.pad[0],
            s.pad[1],
            s.input_bytes() * 16 + s.output_bytes(),
            s.weight_bytes,
        ],
        (situation.reserved, situation.input_resident, situation.output_resident, situation.single_groups),
    )
}

/// What a node is to the machine.
enum Class {
    Matrix(MatrixShape),
    Vector(VectorFunction, VectorShape, bool),
    Concat,
    Host,
    Free,
}

struct Planner<'a> {
    graph: &'a Graph<Quantized>,
    accelerator: &'a Accelerator,
    rates: Rates,
    options: &'a PlanOptions,
    consumers: Vec<Vec<NodeId>>,
    producers: Vec<Option<NodeId>>,
    places: Vec<Option<Place>>,
    known: BTreeMap<Problem, Result<Found, Infeasible>>,
    faults: Vec<Diagnostic>,
}

impl Planner<'_> {
    /// Offsets within a tensor are 32-bit numbers, in elements and in bytes.
    fn check_sizes(&mut self) {
        let graph = self.graph;
        let mut seen = vec![false; graph.values.len()];
        for node in &graph.nodes {
            for &id in node.inputs.iter().chain(&node.outputs) {
                if std::mem::replace(&mut seen[id.index()], true) {
                    continue;
                }
                if let Some(problem) = size_problem(graph.value(id)) {
                    let fault = Diagnostic::error(problem).with_path(path_of(node));
                    self.faults.push(fault.with_help("take a smaller batch or smaller images"));
                }
            }
        }
    }

    /// Where values lie before any residency: memory, aliases, parts of concatenations, outside.
    fn place(&mut self) {
        let graph = self.graph;
        for &input in &graph.inputs {
            self.places[input.index()] = Some(Place::Memory);
        }
        for (id, node) in graph.nodes_with_ids() {
            for &output in &node.outputs {
                self.places[output.index()] = Some(Place::Memory);
            }
            match &node.op {
                // Conversions between the user's floats and the network's integers are the user's side's work.
                _ if is_conversion(node) && self.is_boundary_input(node) => {
                    self.places[node.inputs[0].index()] = Some(Place::Outside);
                }
                _ if is_conversion(node) && self.is_boundary_output(node) => {
                    self.places[node.outputs[0].index()] = Some(Place::Outside);
                }
                Op::Reshape if is_free_reshape(graph.value(node.inputs[0]), graph.value(node.outputs[0])) => {
                    self.places[node.outputs[0].index()] = Some(Place::Alias(node.inputs[0]));
                }
                Op::Concat { axis }
                    if is_channel_axis(graph.value(node.outputs[0]), *axis)
                        && matches!(self.classify(node), Class::Concat) =>
                {
                    self.place_parts(id);
                }
                _ => {}
            }
            // Constants that operators read as they read activations lie in memory; weights have images of their own.
            let product = matches!(node.op, Op::Conv { .. } | Op::MatMul { .. });
            let read = if product && !matches!(self.classify(node), Class::Host) { 1 } else { node.inputs.len() };
            for &input in &node.inputs[..read] {
                if graph.value(input).constant.is_some() {
                    self.places[input.index()] = Some(Place::Memory);
                }
            }
        }
        for &output in &graph.outputs {
            self.places[output.index()].get_or_insert(Place::Memory);
        }
    }

    /// Whether a conversion belongs to the user's side of an input: nothing but conversions stand before it, and no one
    /// else reads what they convert.
    fn is_boundary_input(&self, node: &Node) -> bool {
        let mut value = node.inputs[0];
        loop {
            if self.consumers[value.index()].len() != 1 || self.graph.outputs.contains(&value) {
                return false;
            }
            if self.graph.inputs.contains(&value) {
                return true;
            }
            match self.producers[value.index()].map(|id| self.graph.node(id)) {
                Some(before) if is_conversion(before) => value = before.inputs[0],
                _ => return false,
            }
        }
    }

    /// Whether a conversion belongs to the user's side of an output: nothing but conversions stand behind it.
    fn is_boundary_output(&self, node: &Node) -> bool {
        let mut value = node.outputs[0];
        loop {
            match self.consumers[value.index()].as_slice() {
                [] => return self.graph.outputs.contains(&value),
                &[consumer] if is_conversion(self.graph.node(consumer)) && !self.graph.outputs.contains(&value) => {
                    value = self.graph.node(consumer).outputs[0];
                }
                _ => return false,
            }
        }
    }

    /// Operands of a concatenation that are produced by a layer and have the result's quantization are written where
    /// they will stand in it.
    fn place_parts(&mut self, concat: NodeId) {
        let graph = self.graph;
        let node = graph.node(concat);
        let whole = node.outputs[0];
        let mut channel = 0;
        for &input in &node.inputs {
            let (part, result) = (graph.value(input), graph.value(whole));
            let channels = extents(&part.shape)[3];
            let twice = node.inputs.iter().filter(|&&other| other == input).count() > 1;
            let elsewhere = graph.inputs.contains(&input) || graph.outputs.contains(&input);
            // The rows of a part are not adjacent: an alias with rows of another length could not be walked.
            let recut = self.consumers[input.index()].iter().any(|&consumer| {
                let other = graph.node(consumer);
                matches!(other.op, Op::Reshape) && extents(&graph.value(other.outputs[0]).shape)[3] != channels
            });
            if part.quant == result.quant
                && part.dtype == result.dtype
                && part.constant.is_none()
                && self.places[input.index()] == Some(Place::Memory)
                && !twice
                && !elsewhere
                && !recut
            {
                self.places[input.index()] = Some(Place::Part { whole, channel });
            }
            channel += channels;
        }
    }

    /// Solves all distinct shapes at once, as they would run without residency.
    fn search_ahead(&mut self) {
        let mut problems: BTreeMap<Problem, (MatrixShape, Situation)> = BTreeMap::new();
        for (id, node) in self.graph.nodes_with_ids() {
            if let Class::Matrix(shape) = self.classify(node) {
                let situation = self.situation(id, 0, false, false);
                problems.insert(problem(&shape, situation), (shape, situation));
            }
        }
        let (accelerator, rates) = (self.accelerator, &self.rates);
        let solved: Vec<_> = problems
            .into_par_iter()
            .map(|(key, (shape, situation))| (key, search::best(&shape, accelerator, rates, situation)))
            .collect();
        self.known.extend(solved);
    }

    fn situation(&self, node: NodeId, reserved: u64, input_resident: bool, output_resident: bool) -> Situation {
        Situation { reserved, input_resident, output_resident, single_groups: self.options.inexact.contains(&node) }
    }

    fn solve(&mut self, shape: &MatrixShape, situation: Situation) -> Result<Found, Infeasible> {
        let key = problem(shape, situation);
        if let Some(found) = self.known.get(&key) {
            return *found;
        }
        let found = search::best(shape, self.accelerator, &self.rates, situation);
        self.known.insert(key, found);
        found
    }

    fn classify(&self, node: &Node) -> Class {
        let graph = self.graph;
        let vector = &self.accelerator.config.vector;
        let quantized = |id: ValueId| graph.value(id).quant.is_some();
        let output = graph.value(node.outputs[0]);
        match &node.op {
            Op::QuantizeLinear | Op::DequantizeLinear => {
                if self.is_boundary_input(node) || self.is_boundary_output(node) { Class::Free } else { Class::Host }
            }
            Op::Reshape if is_free_reshape(graph.value(node.inputs[0]), output) => Class::Free,
            _ if !node.inputs.iter().all(|&id| quantized(id)) || output.quant.is_none() => Class::Host,
            Op::Conv { groups, .. } if *groups > 1 && self.accelerator.config.depthwise == DepthwisePolicy::Host => {
                Class::Host
            }
            Op::Conv { .. } | Op::MatMul { .. } => match MatrixShape::of(graph, node) {
                Ok(shape) if graph.value(node.inputs[1]).constant.is_some() => Class::Matrix(shape),
                _ => Class::Host,
            },
            // An instruction numbers its operand in eight bits.
            Op::Concat { axis } if is_channel_axis(output, *axis) && node.inputs.len() <= 255 => {
                let needs_table = node
                    .inputs
                    .iter()
                    .any(|&id| graph.value(id).quant != output.quant || graph.value(id).dtype != output.dtype);
                if needs_table && vector.cycles_of(VectorFunction::Table).is_none() {
                    Class::Host
                } else {
                    Class::Concat
                }
            }
            op => {
                let Some((function, whole_channels)) = vector_function(op, output) else { return Class::Host };
                let Some(shape) = vector_shape(graph, node) else { return Class::Host };
                if vector.cycles_of(function).is_none() {
                    return Class::Host;
                }
                Class::Vector(function, shape, whole_channels)
            }
        }
    }

    /// The layers in order, with residency decided from one to the next.
    fn layers(&mut self) -> Vec<LayerPlan> {
        let graph = self.graph;
        let mut layers = Vec::new();
        // Bytes and end of the pool of a tensor that the current layer finds on chip.
        let mut incoming: Option<(ValueId, u64, bool)> = None;
        for (id, node) in graph.nodes_with_ids() {
            let class = self.classify(node);
            if matches!(class, Class::Free) {
                layers.push(LayerPlan {
                    node: id,
                    mapping: LayerMapping::Free,
                    predicted: Predicted::default(),
                    reasons: vec![],
                });
                continue;
            }
            let reserved_in = incoming.map_or(0, |(_, bytes, _)| bytes);
            let resident_in = incoming.map(|(value, ..)| value);
            let outgoing = self.outgoing(id, &class, reserved_in, resident_in);
            let reserved = reserved_in + outgoing.unwrap_or(0);
            match self.layer(id, node, class, reserved, resident_in, outgoing.is_some()) {
                Ok(mut layer) => {
                    if let Some(bytes) = outgoing {
                        layer.reasons.push(format!("the result stays on chip for the next layer, in {bytes} bytes"));
                    }
                    layers.push(layer);
                }
                Err(short) => self.faults.push(shortage(node, &short)),
            }
            incoming = outgoing.map(|bytes| {
                let top = !incoming.is_some_and(|(_, _, top)| top);
                self.places[node.outputs[0].index()] = Some(Place::Resident { top });
                (node.outputs[0], bytes, top)
            });
        }
        layers
    }

    /// Bytes that the output of a layer reserves if it is to stay on chip: where its sole consumer is the next layer,
    /// it fits whole beside what both layers need, and the estimate says that it pays.
    fn outgoing(&mut self, id: NodeId, class: &Class, reserved_in: u64, resident_in: Option<ValueId>) -> Option<u64> {
        let config = &self.accelerator.config;
        if !config.residency || !matches!(config.buffers.layout, BufferLayout::Shared(_)) {
            return None;
        }
        if !matches!(class, Class::Matrix(_) | Class::Vector(..)) {
            return None;
        }
        let graph = self.graph;
        let output = graph.node(id).outputs[0];
        let &[consumer] = self.consumers[output.index()].as_slice() else { return None };
        let between = (id.0 + 1..consumer.0).all(|i| matches!(self.classify(graph.node(NodeId(i))), Class::Free));
        let next = graph.node(consumer);
        let uses = next.inputs.iter().filter(|&&input| input == output).count();
        if !between
            || uses != 1
            || graph.outputs.contains(&output)
            || self.places[output.index()] != Some(Place::Memory)
        {
            return None;
        }
        let next_class = self.classify(next);
        if !matches!(next_class, Class::Matrix(_) | Class::Vector(..)) {
            return None;
        }
        let bytes = graph.value(output).bytes().next_multiple_of(RESIDENT_ALIGNMENT);
        let pool = self.accelerator.buffers[0].bytes;
        if bytes + reserved_in >= pool {
            return None;
        }
        let stay_here = self.estimate(id, class, reserved_in + bytes, resident_in, true)?;
        let stay_next = self.estimate(consumer, &next_class, bytes, Some(output), false)?;
        let leave_here = self.estimate(id, class, reserved_in, resident_in, false)?;
        let leave_next = self.estimate(consumer, &next_class, 0, None, false)?;
        (stay_here + stay_next <= leave_here + leave_next).then_some(bytes)
    }

    fn estimate(
        &mut self,
        id: NodeId,
        class: &Class,
        reserved: u64,
        resident_in: Option<ValueId>,
        output_resident: bool,
    ) -> Option<Time> {
        let node = self.graph.node(id);
        match class {
            Class::Matrix(shape) => {
                let situation = self.situation(id, reserved, resident_in.is_some(), output_resident);
                self.solve(shape, situation).ok().map(|found| found.cost.estimate)
            }
            Class::Vector(function, shape, whole) => self
                .vector(node, *function, shape, *whole, reserved, resident_in, output_resident)
                .ok()
                .map(|(_, cost)| cost.estimate),
            _ => None,
        }
    }

    #[allow(clippy::too_many_arguments)] // The situation of a vector layer, which has no type of its own.
    fn vector(
        &self,
        node: &Node,
        function: VectorFunction,
        shape: &VectorShape,
        whole_channels: bool,
        reserved: u64,
        resident_in: Option<ValueId>,
        output_resident: bool,
    ) -> Result<(VectorMapping, vector::VectorCost), Infeasible> {
        let mut shape = shape.clone();
        shape.output_resident = output_resident;
        for (operand, &input) in shape.operands.iter_mut().zip(&node.inputs) {
            operand.resident = resident_in == Some(input);
        }
        let base = VectorMapping {
            function: Some(function),
            shape,
            cycles_per_element: self.accelerator.config.vector.cycles_of(function).unwrap_or(1),
            tile: [1; 4],
            input_slots: 1,
            output_slots: 1,
        };
        vector::best(&base, self.accelerator, &self.rates, reserved, whole_channels)
    }

    fn layer(
        &mut self,
        id: NodeId,
        node: &Node,
        class: Class,
        reserved: u64,
        resident_in: Option<ValueId>,
        output_resident: bool,
    ) -> Result<LayerPlan, Infeasible> {
        let (mapping, predicted, reasons) = match class {
            Class::Free => (LayerMapping::Free, Predicted::default(), vec![]),
            Class::Host => {
                let reason = "neither the array nor the vector unit does this operator".into();
                (LayerMapping::Host, Predicted::default(), vec![reason])
            }
            Class::Matrix(shape) => {
                let situation = self.situation(id, reserved, resident_in.is_some(), output_resident);
                let found = self.solve(&shape, situation)?;
                (
                    LayerMapping::Matrix(found.mapping),
                    Predicted::from(&found.cost),
                    reasons_of(&found, self.accelerator),
                )
            }
            Class::Vector(function, shape, whole) => {
                let (mapping, cost) =
                    self.vector(node, function, &shape, whole, reserved, resident_in, output_resident)?;
                let reasons = vec![bound_of(cost.bound_by, cost.bound, cost.estimate, self.accelerator)];
                (LayerMapping::Vector(vec![mapping]), Predicted::from(&cost), reasons)
            }
            Class::Concat => {
                let parts = self.concat(node)?;
                if parts.is_empty() {
                    let reason = "every operand was written where it stands in the result".into();
                    (LayerMapping::Free, Predicted::default(), vec![reason])
                } else {
                    let mut predicted = Predicted::default();
                    for (_, cost) in &parts {
                        // Parts overlap as tiles do: the longest is a bound of them all.
                        if cost.bound > predicted.bound {
                            (predicted.bound, predicted.bound_by) = (cost.bound, cost.bound_by);
                        }
                        predicted.input_bytes += cost.input_bytes;
                        predicted.output_bytes += cost.output_bytes;
                    }
                    (LayerMapping::Vector(parts.into_iter().map(|(part, _)| part).collect()), predicted, vec![])
                }
            }
        };
        Ok(LayerPlan { node: id, mapping, predicted, reasons })
    }

    /// The copies of a concatenation's operands that are not in place already.
    fn concat(&self, node: &Node) -> Result<Vec<(VectorMapping, vector::VectorCost)>, Infeasible> {
        let graph = self.graph;
        let output = graph.value(node.outputs[0]);
        let mut parts = Vec::new();
        for &input in &node.inputs {
            if matches!(self.places[input.index()], Some(Place::Part { whole, .. }) if whole == node.outputs[0]) {
                continue;
            }
            let value = graph.value(input);
            let extent = narrow(extents(&value.shape));
            let same = value.quant == output.quant && value.dtype == output.dtype;
            let base = VectorMapping {
                function: (!same).then_some(VectorFunction::Table),
                shape: VectorShape {
                    output: extent,
                    output_element: byte_width(output.dtype),
                    output_resident: false,
                    operands: vec![OperandShape {
                        extent,
                        element: byte_width(value.dtype),
                        resident: false,
                        constant: value.constant.is_some(),
                    }],
                    ..unit_window()
                },
                cycles_per_element: self.accelerator.config.vector.cycles_of(VectorFunction::Table).unwrap_or(1),
                tile: [1; 4],
                input_slots: 1,
                output_slots: 1,
            };
            parts.push(vector::best(&base, self.accelerator, &self.rates, 0, false)?);
        }
        Ok(parts)
    }
}

/// The node that makes each value.
fn producers(graph: &Graph<Quantized>) -> Vec<Option<NodeId>> {
    let mut producers = vec![None; graph.values.len()];
    for (id, node) in graph.nodes_with_ids() {
        for output in &node.outputs {
            producers[output.index()] = Some(id);
        }
    }
    producers
}

/// Whether a node only converts between real and quantized values.
const fn is_conversion(node: &Node) -> bool {
    matches!(node.op, Op::QuantizeLinear | Op::DequantizeLinear)
}

/// What is wrong with the size of a tensor, if anything is.
fn size_problem(value: &Value) -> Option<String> {
    let (name, element) = (&value.name, value.dtype.bytes());
    match value.shape.iter().try_fold(1_u64, |all, &dim| all.checked_mul(dim as u64)) {
        Some(0) => Some(format!("`{name}` has no elements")),
        Some(elements) if elements < LARGEST_TENSOR && u32::try_from(elements * element).is_ok() => None,
        Some(elements) => Some(format!(
            "`{name}` has {elements} elements of {element} bytes; fewer than 2^31 elements and 2^32 bytes can be mapped"
        )),
        None => Some(format!("`{name}` has more than 2^64 elements; fewer than 2^31 can be mapped")),
    }
}

fn path_of(node: &Node) -> String {
    format!("node \"{}\" ({})", node.name, node.op.name())
}

/// The fault of a layer that does not fit.
fn shortage(node: &Node, short: &Infeasible) -> Diagnostic {
    Diagnostic::error(format!(
        "the {} is {} bytes short for the smallest tile: it holds {}, {} are needed",
        short.buffer,
        short.needed.saturating_sub(short.available),
        short.available,
        short.needed
    ))
    .with_path(path_of(node))
    .with_help(format!("make the {} larger, or its tiles smaller with narrower types", short.buffer))
}

/// Which part of the machine bounds a layer.
fn bound_of(part: Part, bound: Time, estimate: Time, accelerator: &Accelerator) -> String {
    let cycles = |time: Time| thousands(time.cycles_ceil(accelerator.array_period).get());
    format!(
        "limited by {}: {} cycles at least from first to last, {} estimated",
        part.name(),
        cycles(bound),
        cycles(estimate)
    )
}

fn reasons_of(found: &Found, accelerator: &Accelerator) -> Vec<String> {
    let cost = &found.cost;
    let bound = bound_of(cost.bound_by, cost.bound, cost.estimate, accelerator);
    let mut reasons = vec![format!("{bound}; best of {} mappings", thousands(found.evaluated.into()))];
    if let Some(short) = &found.stopped_by {
        reasons.push(format!(
            "tile limited by the {}: the next larger one needs {} bytes, there are {}",
            short.buffer,
            thousands(short.needed),
            thousands(short.available)
        ));
    }
    if let Some((other, estimate)) = &found.runner_up {
        reasons.push(format!(
            "best of another kind: {:?}, {} outermost{}: {} cycles estimated",
            other.dataflow,
            match other.order {
                LoopOrder::OutputsOuter => "output channels",
                LoopOrder::PixelsOuter => "pixels",
            },
            if other.groups_per_pass > 1 {
                format!(", {} groups a pass", other.groups_per_pass)
            } else {
                String::new()
            },
            thousands(estimate.cycles_ceil(accelerator.array_period).get())
        ));
    }
    reasons
}

/// Whether a reshape leaves every byte where it lies.
fn is_free_reshape(input: &Value, output: &Value) -> bool {
    let spatial = |value: &Value| match *value.shape.as_slice() {
        [_, c, h, w] => c > 1 && h * w > 1,
        _ => false,
    };
    input.shape == output.shape || (!spatial(input) && !spatial(output))
}

/// Whether a dimension lies innermost in memory.
fn is_channel_axis(value: &Value, axis: usize) -> bool {
    match value.shape.len() {
        4 => axis == 1,
        rank => axis + 1 == rank,
    }
}

/// The vector unit's function for an operator, and whether channels must stay whole.
fn vector_function(op: &Op, output: &Value) -> Option<(VectorFunction, bool)> {
    Some(match op {
        Op::Add { .. } => (VectorFunction::Add, false),
        Op::Mul => (VectorFunction::Mul, false),
        Op::MaxPool { .. } => (VectorFunction::MaxPool, false),
        Op::AvgPool { .. } | Op::GlobalAvgPool => (VectorFunction::AvgPool, false),
        Op::Relu
        | Op::LeakyRelu { .. }
        | Op::Clip { .. }
        | Op::Sigmoid
        | Op::Tanh
        | Op::HardSigmoid { .. }
        | Op::HardSwish => (VectorFunction::Table, false),
        Op::Softmax { axis } if is_channel_axis(output, *axis) => (VectorFunction::Softmax, true),
        _ => return None,
    })
}

fn unit_window() -> VectorShape {
    VectorShape {
        output: [1; 4],
        output_element: 1,
        output_resident: false,
        operands: Vec::new(),
        kernel: [1, 1],
        stride: [1, 1],
        dilation: [1, 1],
        pad: [0, 0],
    }
}

fn narrow(extent: [usize; 4]) -> [u32; 4] {
    extent.map(|dim| u32::try_from(dim).expect("`check_sizes` has refused larger tensors"))
}

/// Loop bounds of a vector layer; `None` where the vector unit's walks do not cover it: other broadcasts, windows that
/// reach further than addresses do.
fn vector_shape(graph: &Graph<Quantized>, node: &Node) -> Option<VectorShape> {
    let output = graph.value(node.outputs[0]);
    let values: Vec<&Value> = node.inputs.iter().map(|&id| graph.value(id)).collect();
    let window = match &node.op {
        Op::MaxPool { window } | Op::AvgPool { window, .. } => *window,
        Op::GlobalAvgPool => {
            let &[_, _, h, w] = values[0].shape.as_slice() else { return None };
            Window { kernel: [h, w], stride: [1, 1], dilation: [1, 1], pad: [0; 4] }
        }
        _ => Window::UNIT,
    };
    let windowed = matches!(node.op, Op::MaxPool { .. } | Op::AvgPool { .. } | Op::GlobalAvgPool);
    if windowed && output.shape.len() != 4 {
        return None;
    }
    let whole = extents(&output.shape);
    let mut operands = Vec::new();
    for value in &values {
        let extent = if windowed { extents(&value.shape) } else { broadcast_extents(&value.shape, &output.shape)? };
        let fits = (0..4).all(|i| extent[i] == whole[i] || extent[i] == 1);
        if !windowed && !fits {
            return None;
        }
        operands.push(OperandShape {
            extent: narrow(extent),
            element: byte_width(value.dtype),
            resident: false,
            constant: value.constant.is_some(),
        });
    }
    if windowed && !super::shape::walkable(values[0], &window) {
        return None;
    }
    let pair = |of: [usize; 2]| Some([u32::try_from(of[0]).ok()?, u32::try_from(of[1]).ok()?]);
    Some(VectorShape {
        output: narrow(whole),
        output_element: byte_width(output.dtype),
        output_resident: false,
        operands,
        kernel: pair(window.kernel)?,
        stride: pair(window.stride)?,
        dilation: pair(window.dilation)?,
        pad: pair([window.pad[0], window.pad[1]])?,
    })
}

/// `[n, h, w, c]` of an operand that is broadcast to `output`; `None` where the walk of an output of another rank
/// cannot express it.
fn broadcast_extents(shape: &[usize], output: &[usize]) -> Option<[usize; 4]> {
    if shape == output {
        return Some(extents(shape));
    }
    let mut padded = vec![1; output.len().checked_sub(shape.len())?];
    padded.extend_from_slice(shape);
    let leading_ones = padded.iter().rev().skip(1).all(|&dim| dim == 1);
    (output.len() == 4 || leading_ones).then(|| extents(&padded))
}
