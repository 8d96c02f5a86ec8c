//! The closed form of one mapping: how much work each engine has, a lower bound of the layer's span, and the estimate
//! that the search minimizes. No loop over buffer tiles; a few hundred nanoseconds an evaluation.
//!
//! # The bound
//! Every part is a lower bound of what the timing engine does at `tile` fidelity, so `bound <= span` holds for every
//! layer (a property test). With `start` the launch and the first command's issue, `head` the time until the first
//! array tile can stream, `depth` from the end of a stream to its last result, and `finish` the smallest output tile's
//! vector work and store:
//! - array: `head + array work + depth + finish`;
//! - loads: all loads, then the array work of the smallest step, `depth + finish`; parameter records come last and are
//!   followed by `finish` alone;
//! - stores: `head`, one output tile's array and vector work, then all stores;
//! - vector: `head`, one output tile's array work, then all vector work, then the last store; in the store path, where
//!   one engine does both, all stores;
//! - a memory that both loads and stores use: all its bursts;
//! - issue: all commands, then the last one's own work.
//!
//! Array work is a sum over stationary tiles of the distance from one stream's start to the next one's: the stream with
//! its bubbles, the next tile's load where it cannot hide, and the pipeline where the next tile adds to the same rows.
//!
//! # The estimate
//! The bound, and where an operand has one slot only, the time that its transfers then add to the array's.

mod array;
mod commands;
mod rates;
mod traffic;

use super::matrix::{MatrixMapping, Step, Trips};
use crate::{
    dataflow::{Operand, schedule},
    units::Time,
};
use array::array_work;
pub use commands::Commands;
use rates::Memory;
pub use rates::Rates;
pub use traffic::{ChannelTiles, PixelTiles, Requests, Transfers};
pub(in crate::mapping) use traffic::{Image, grid_transfer, image_transfer};
use traffic::{Loads, input_tile, output_tile, weight_tile};

/// Work of one layer by engine, and what follows.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Cost {
    /// Array cycles in which operands are accepted.
    pub beats: u64,
    /// Stationary tiles loaded.
    pub preloads: u64,
    /// Array tiles streamed.
    pub array_tiles: u64,
    /// Array work from below: streams, bubbles, exposed loads.
    pub array: Time,
    /// Activations loaded.
    pub input: Transfers,
    /// Weights and parameter records loaded.
    pub weight: Transfers,
    /// Results stored.
    pub output: Transfers,
    /// Vector work.
    pub vector: Time,
    /// Lower bound of the span.
    pub bound: Time,
    /// What the search minimizes.
    pub estimate: Time,
    /// Which part is the bound.
    pub bound_by: Part,
}

impl Cost {
    /// Useful bytes that are moved.
    pub fn bytes(&self) -> u64 {
        self.input.plus(self.weight).plus(self.output).bytes
    }
}

/// The parts of the bound.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[allow(missing_docs)]
pub enum Part {
    #[default]
    Array,
    Load,
    Store,
    Vector,
    Memory,
    Issue,
}

impl Part {
    /// As a word in an explanation.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Array => "the array",
            Self::Load => "loads",
            Self::Store => "stores",
            Self::Vector => "the vector unit",
            Self::Memory => "memory bandwidth",
            Self::Issue => "command issue",
        }
    }
}

/// The closed form of `mapping` on the machine of `rates`.
pub fn evaluate(mapping: &MatrixMapping, rates: &Rates) -> Cost {
    let (pixels, channels) = (PixelTiles::of(mapping, rates), ChannelTiles::of(mapping, rates));
    let ordered = TileCost::of(mapping, rates, mapping.trips(), &pixels, &channels).ordered(mapping, rates);
    ordered.cost(ordered.estimate(mapping, rates))
}

/// What all loop orders and slots of one tile share of the closed form.
#[derive(Clone, Debug)]
pub struct TileCost {
    trips: Trips,
    /// All but what depends on how often operands are loaded.
    cost: Cost,
    loads: Loads,
    /// Until the first instruction can start.
    start: Time,
    /// The array's work of the smallest step, until its last result.
    last_step: Time,
    /// The smallest output tile's vector work and store.
    finish: Time,
    store_last: Time,
    stores: Time,
    /// The parts of the bound that do not depend on loads.
    array: Time,
    store: Time,
    vector: Time,
}

impl TileCost {
    /// The closed form before loop order and slots; trips and tiles are the mapping's.
    pub fn of(
        mapping: &MatrixMapping,
        rates: &Rates,
        trips: Trips,
        pixels: &PixelTiles,
        channels: &ChannelTiles,
    ) -> Self {
        let [first, last] = [Trips::FIRST, trips.last()].map(|index| mapping.step_at(index));
        let mut cost = Cost { output: pixels.stores(mapping, rates, channels), ..Cost::default() };
        let work = array_work(mapping, rates, trips, pixels, channels, &mut cost);
        let tile_elements = |step: &Step| step.pixels() * step.channels();
        let output_tiles = trips.steps() / u64::from(trips.c);
        let outputs = mapping.shape.pixels() * u64::from(mapping.shape.o);
        let vector = |elements: u64, instructions: u64| {
            if mapping.on_vector {
                rates.vector(elements.saturating_mul(mapping.shape.taps()), 1, rates.depthwise_macs, instructions)
            } else {
                rates.requantize(elements, instructions)
            }
        };
        cost.vector = vector(outputs, output_tiles);

        let start = rates.commands(1);
        let first_input = input_tile(mapping, rates, &first);
        let first_weight = weight_tile(mapping, rates, &first);
        let loads = |weights: Transfers, inputs: Transfers| {
            rates.loads(&[(mapping.weight_memory, weights), (mapping.input_memory, inputs)])
        };
        let schedule = schedule(mapping.dataflow);
        let mut until_streaming = loads(first_weight, first_input);
        let mut depth = Time::ZERO;
        if !mapping.on_vector {
            depth = rates.array(schedule.result_latency(&rates.law));
            let stationary = match schedule.stationary() {
                Some(Operand::Weight) => loads(first_weight, Transfers::default()) + rates.array(rates.law.load),
                Some(Operand::Input) => loads(Transfers::default(), first_input) + rates.array(rates.law.load),
                None => Time::ZERO,
            };
            until_streaming = until_streaming.max(stationary);
        }
        let head = start + until_streaming;
        let store_last = rates.one_store(output_tile(mapping, rates, &last), mapping.output_memory);
        let finish = vector(tile_elements(&last), 1) + store_last;
        let first_tile = rates.array(work.first_tile) + depth;
        let stores = rates.stores(cost.output, mapping.output_memory);
        let vector_engine = rates.vector_engine(cost.vector, cost.output);
        Self {
            trips,
            loads: Loads::of(mapping, rates, pixels, channels),
            start,
            last_step: rates.array(work.last_step) + depth,
            finish,
            store_last,
            stores,
            array: head + cost.array + depth + finish,
            store: head + first_tile + vector(tile_elements(&first), 1) + stores,
            vector: head + first_tile + (cost.vector + store_last).max(vector_engine),
            cost,
        }
    }

    /// The closed form in the mapping's loop order, before slots.
    pub fn ordered(&self, mapping: &MatrixMapping, rates: &Rates) -> OrderCost {
        let trips = self.trips;
        let (operands, parameters) = (self.loads.weights(mapping, trips), self.loads.parameters(mapping, trips));
        let inputs = self.loads.inputs(mapping, trips);
        let (input, weight) = if mapping.shape.is_pair() {
            (inputs.plus(operands), parameters)
        } else {
            (inputs, operands.plus(parameters))
        };
        let mut cost = Cost { input, weight, ..self.cost };
        let operands_from = [(mapping.weight_memory, operands), (mapping.input_memory, inputs)];
        let all_from = [operands_from[0], (rates.weight_memory, parameters), operands_from[1]];
        let operand_loads = rates.loads(&operands_from) + self.last_step;
        let moves = rates.issued.transfers(cost.input.plus(cost.weight).plus(cost.output));
        let output_tiles = trips.steps() / u64::from(trips.c);
        let tiles =
            if mapping.on_vector { 0 } else { rates.issued.tiles(trips.steps(), cost.preloads, cost.array_tiles) };
        let commands = moves.saturating_add(output_tiles).saturating_add(tiles);
        let last_command = if mapping.output_resident { self.finish } else { self.store_last };
        let parts = [
            (Part::Array, self.array),
            (Part::Load, self.start + rates.loads(&all_from).max(operand_loads) + self.finish),
            (Part::Store, self.store),
            (Part::Vector, self.vector),
            (Part::Memory, self.start + rates.shared_memory(&all_from, cost.output, mapping.output_memory)),
            (Part::Issue, rates.commands(commands) + last_command),
        ];
        // The first of equal parts, so that the explanation does not depend on iteration.
        for (part, time) in parts {
            if time > cost.bound {
                (cost.bound, cost.bound_by) = (time, part);
            }
        }
        OrderCost { cost, trips, array: self.array, stores: self.stores }
    }
}

/// What all slots of one tile in one loop order share of the closed form.
#[derive(Clone, Copy, Debug)]
pub struct OrderCost {
    cost: Cost,
    trips: Trips,
    /// The array's work with what stands before and after it.
    array: Time,
    stores: Time,
}

impl OrderCost {
    /// The estimate under the mapping's slots.
    pub fn estimate(&self, mapping: &MatrixMapping, rates: &Rates) -> Time {
        self.cost.bound.max(self.array + self.serial_time(mapping, rates))
    }

    /// The cost with that estimate.
    pub const fn cost(&self, estimate: Time) -> Cost {
        Cost { estimate, ..self.cost }
    }

    /// Useful bytes that are moved.
    pub fn bytes(&self) -> u64 {
        self.cost.bytes()
    }

    /// Time that single slots add: what they move or compute cannot overlap with the array.
    fn serial_time(&self, mapping: &MatrixMapping, rates: &Rates) -> Time {
        let (cost, trips, slots) = (&self.cost, self.trips, &mapping.slots);
        let mut serial = Time::ZERO;
        let loads = |moved: Transfers, memory: Memory| {
            memory.service * moved.bursts + memory.latency * moved.instructions.saturating_sub(1)
        };
        if slots.input == 1 && cost.input.instructions > 1 {
            serial += loads(cost.input, rates.memory(mapping.input_memory));
        }
        if slots.weight == 1 && cost.weight.instructions > 2 {
            serial += loads(cost.weight, rates.memory(rates.weight_memory));
        }
        let output_tiles = trips.steps() / u64::from(trips.c);
        if output_tiles > 1 && !mapping.on_vector && slots.accumulator == 1 {
            serial += cost.vector;
        }
        if output_tiles > 1 && slots.output == 1 && !mapping.output_resident {
            serial += self.stores;
        }
        serial
    }
}
