//! From the quantized graph to a plan: which engine runs each layer and how, and where each tensor lies.

use std::{collections::BTreeSet, sync::Arc};

use rayon::prelude::*;

use super::{
    cache::{Known, MappingCache},
    classify::{Class, Classifier, narrow, unit_window},
    cost::{Cost, Part, Rates},
    layout::Layout,
    matrix::{LoopOrder, MatrixMapping, Occupied},
    place::{self, Place},
    search::{self, Constraints, Found, Infeasible},
    shape::MatrixShape,
    vector::{self, OperandShape, VectorMapping, VectorShape},
};
use crate::{
    config::{Accelerator, BufferLayout, MemoryId, VectorFunction},
    dataflow::ArrayExtents,
    diag::{Diagnostic, Faults},
    ir::{Graph, Kind, Node, NodeId, Quantized, Value, ValueId},
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

impl LayerMapping {
    /// Bytes of the image that the layer reads through a window, if it does.
    pub fn window_read(&self) -> Option<u64> {
        match self {
            Self::Matrix(mapping) if !mapping.shape.is_pair() => Some(mapping.shape.input_read()),
            Self::Vector(parts) => parts.iter().find(|part| part.is_windowed()).map(VectorMapping::window_read),
            _ => None,
        }
    }
}

/// One layer of the plan.
#[derive(Clone, Debug)]
pub struct LayerPlan {
    /// The operator in the graph.
    pub node: NodeId,
    /// How it runs.
    pub mapping: LayerMapping,
    /// What the closed form predicts.
    pub predicted: Predicted,
    /// What it takes on chip.
    pub occupied: Occupied,
    /// Why it runs so, one sentence a line.
    pub reasons: Vec<String>,
}

impl LayerMapping {
    /// What its slots take on chip.
    fn occupied(&self) -> Occupied {
        match self {
            Self::Matrix(mapping) => mapping.occupied(),
            Self::Vector(parts) => {
                parts.iter().map(VectorMapping::footprint).fold(Occupied::default(), |most, (input, output)| Occupied {
                    input: most.input.max(input),
                    output: most.output.max(output),
                    ..most
                })
            }
            Self::Host | Self::Free => Occupied::default(),
        }
    }
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
    /// Array tiles streamed.
    pub array_tiles: u64,
    /// Bursts that the transfers take at least.
    pub bursts: u64,
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
            array_tiles: cost.array_tiles,
            bursts: cost.input.plus(cost.weight).plus(cost.output).bursts,
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
            bursts: cost.bursts,
            ..Self::default()
        }
    }
}

/// The plan of a network.
#[derive(Clone, Debug)]
pub struct Plan {
    /// One entry a node, in the graph's order.
    pub layers: Vec<LayerPlan>,
    /// Where each value lies, by value index; `None` for weights, biases and values that nothing uses.
    pub places: Vec<Option<Place>>,
    /// How each value lies, by value index.
    pub layouts: Vec<Layout>,
    /// The memory space of each value, by value index, for those that lie in one.
    pub memories: Vec<MemoryId>,
}

/// Elements that a tensor must have less than.
pub const LARGEST_TENSOR: u64 = 1 << 31;

/// Alignment of a resident tensor and what it reserves.
pub const RESIDENT_ALIGNMENT: u64 = 64;

/// Plans a network.
///
/// # Errors
/// All layers that fit nowhere, each with the buffer that is short and by how much, or with what the mapping cannot
/// take.
pub fn plan(graph: &Graph<Quantized>, accelerator: &Accelerator, options: &PlanOptions) -> Result<Plan, Faults> {
    plan_cached(graph, accelerator, options, &MappingCache::default())
}

/// [`plan`], with the mappings that earlier plans found; the plan is the same with any cache.
///
/// # Errors
/// As [`plan`].
pub fn plan_cached(
    graph: &Graph<Quantized>,
    accelerator: &Accelerator,
    options: &PlanOptions,
    cache: &MappingCache,
) -> Result<Plan, Faults> {
    let rates = Rates::of(accelerator);
    let mut planner = Planner {
        graph,
        accelerator,
        rates,
        options,
        nodes: Classifier::new(graph, accelerator),
        places: Vec::new(),
        memories: Vec::new(),
        known: cache.of(accelerator),
        faults: Vec::new(),
    };
    planner.check_sizes();
    Faults::check(std::mem::take(&mut planner.faults))?;
    (planner.places, planner.memories) = place::places(graph, accelerator, &planner.nodes);
    planner.search_ahead();
    let layers = planner.layers();
    Faults::check(std::mem::take(&mut planner.faults))?;
    Ok(Plan { layers, places: planner.places, layouts: planner.nodes.layouts, memories: planner.memories })
}

struct Planner<'a> {
    graph: &'a Graph<Quantized>,
    accelerator: &'a Accelerator,
    rates: Rates,
    options: &'a PlanOptions,
    nodes: Classifier<'a>,
    places: Vec<Option<Place>>,
    memories: Vec<MemoryId>,
    known: Arc<Known>,
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

    /// Solves all distinct shapes at once, as they would run without residency.
    fn search_ahead(&mut self) {
        let mut problems: BTreeSet<(MatrixShape, Constraints)> = BTreeSet::new();
        for (id, node) in self.graph.nodes_with_ids() {
            if let Class::Matrix(shape) = self.nodes.classify(node) {
                let constraints = self.constraints(id, 0, false, false);
                if !self.known.has(&(shape, constraints)) {
                    problems.insert((shape, constraints));
                }
            }
        }
        let (accelerator, rates) = (self.accelerator, &self.rates);
        let solved: Vec<_> = problems
            .into_par_iter()
            .map(|(shape, constraints)| ((shape, constraints), search::best(&shape, accelerator, rates, constraints)))
            .collect();
        self.known.extend(solved);
    }

    fn constraints(&self, id: NodeId, reserved: u64, input_resident: bool, output_resident: bool) -> Constraints {
        let node = self.graph.node(id);
        let is_pair = node.op.kind() == Kind::Pair;
        Constraints {
            reserved,
            input_resident,
            output_resident,
            input_memory: self.memories[node.inputs[0].index()],
            weight_memory: if is_pair { self.memories[node.inputs[1].index()] } else { self.accelerator.weight_memory },
            output_memory: self.memories[node.outputs[0].index()],
            single_groups: self.options.inexact.contains(&id),
        }
    }

    fn solve(&self, shape: &MatrixShape, constraints: Constraints) -> Result<Found, Infeasible> {
        self.known.matrix((*shape, constraints), || search::best(shape, self.accelerator, &self.rates, constraints))
    }

    /// The layers in order, with residency decided from one to the next.
    fn layers(&mut self) -> Vec<LayerPlan> {
        let graph = self.graph;
        let mut layers = Vec::new();
        // Bytes and end of the pool of a tensor that the current layer finds on chip.
        let mut incoming: Option<(ValueId, u64, bool)> = None;
        for (id, node) in graph.nodes_with_ids() {
            let class = self.nodes.classify(node);
            if matches!(class, Class::Free) {
                layers.push(LayerPlan {
                    node: id,
                    mapping: LayerMapping::Free,
                    predicted: Predicted::default(),
                    occupied: Occupied::default(),
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
        let &[consumer] = self.nodes.consumers[output.index()].as_slice() else { return None };
        let between = (id.0 + 1..consumer.0).all(|i| matches!(self.nodes.classify(graph.node(NodeId(i))), Class::Free));
        let next = graph.node(consumer);
        let uses = next.inputs.iter().filter(|&&input| input == output).count();
        if !between
            || uses != 1
            || graph.outputs.contains(&output)
            || self.places[output.index()] != Some(Place::Memory)
        {
            return None;
        }
        // Operands of a product of two activations are cut and repeated by batch, on their way from memory.
        if next.op.kind() == Kind::Pair {
            return None;
        }
        let next_class = self.nodes.classify(next);
        if !matches!(next_class, Class::Matrix(_) | Class::Vector(..)) {
            return None;
        }
        let bytes = graph.value(output).packed_bytes().next_multiple_of(RESIDENT_ALIGNMENT);
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
                let constraints = self.constraints(id, reserved, resident_in.is_some(), output_resident);
                self.solve(shape, constraints).ok().map(|found| found.cost.estimate)
            }
            Class::Vector(function, shape, whole) => self
                .vector(node, *function, shape, *whole, reserved, resident_in, output_resident)
                .ok()
                .map(|(_, cost)| cost.estimate),
            _ => None,
        }
    }

    #[allow(clippy::too_many_arguments)] // The constraints of a vector layer, which has no type of its own.
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
        shape.output_memory = self.memories[node.outputs[0].index()];
        for (operand, &input) in shape.operands.iter_mut().zip(&node.inputs) {
            operand.resident = resident_in == Some(input);
            operand.memory = self.memories[input.index()];
        }
        let base = VectorMapping {
            function: Some(function),
            shape,
            cycles_per_element: self.accelerator.config.vector.cycles_of(function).unwrap_or(1),
            tile: [1; 4],
            input_slots: 1,
            output_slots: 1,
        };
        self.solve_vector(&base, reserved, whole_channels)
    }

    fn solve_vector(
        &self,
        base: &VectorMapping,
        reserved: u64,
        whole_channels: bool,
    ) -> Result<(VectorMapping, vector::VectorCost), Infeasible> {
        let key = (base.function, base.shape.clone(), reserved, whole_channels);
        self.known.vector(key, || vector::best(base, self.accelerator, &self.rates, reserved, whole_channels))
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
                let constraints = self.constraints(id, reserved, resident_in.is_some(), output_resident);
                let found = self.solve(&shape, constraints)?;
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
                        predicted.bursts += cost.bursts;
                    }
                    (LayerMapping::Vector(parts.into_iter().map(|(part, _)| part).collect()), predicted, vec![])
                }
            }
        };
        let occupied = Occupied { resident: reserved, ..mapping.occupied() };
        Ok(LayerPlan { node: id, mapping, predicted, occupied, reasons })
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
            let extent = narrow(self.nodes.extents(input));
            let same = value.quant == output.quant && value.dtype == output.dtype;
            let base = VectorMapping {
                function: (!same).then_some(VectorFunction::Table),
                shape: VectorShape {
                    output: extent,
                    output_element: output.dtype,
                    output_resident: false,
                    output_memory: self.memories[node.outputs[0].index()],
                    operands: vec![OperandShape {
                        extent,
                        element: value.dtype,
                        resident: false,
                        memory: self.memories[input.index()],
                    }],
                    ..unit_window()
                },
                cycles_per_element: self.accelerator.config.vector.cycles_of(VectorFunction::Table).unwrap_or(1),
                tile: [1; 4],
                input_slots: 1,
                output_slots: 1,
            };
            parts.push(self.solve_vector(&base, 0, false)?);
        }
        Ok(parts)
    }
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
    if found.mapping.keeps_sums(&ArrayExtents::of(&accelerator.config.array)) {
        let steps = found.mapping.trips().c;
        reasons
            .push(format!("the sums stay in the elements over the {steps} tiles of input channels, then drain once"));
    }
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
