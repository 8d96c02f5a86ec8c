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

mod rates;
mod traffic;

use super::matrix::{MatrixMapping, Step, Trips};
use crate::{
    config::{Dataflow, KPacking},
    units::Time,
};
use rates::Memory;
pub use rates::Rates;
pub use traffic::{InputLengths, Transfers};
pub(in crate::mapping) use traffic::{Requests, grid_transfer, image_transfer};
use traffic::{input_tile, output_tile, pieces, transfers, weight_tile};

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

/// Folds of K over the rows for `channels` channels of a tile.
pub fn k_folds(packing: KPacking, rows: u64, taps: u64, channels: u64) -> u64 {
    match packing {
        KPacking::KernelAndChannels => (taps * channels).div_ceil(rows),
        KPacking::Channels => taps * channels.div_ceil(rows),
    }
}

/// The closed form of `mapping` on the machine of `rates`.
pub fn evaluate(mapping: &MatrixMapping, rates: &Rates) -> Cost {
    let lengths = [InputLengths::rows(mapping), InputLengths::cols(mapping)];
    Slotless::of(mapping, rates, [&lengths[0], &lengths[1]]).cost(mapping, rates)
}

/// The closed form before slots: the same for all choices of them.
#[derive(Clone, Copy, Debug)]
pub struct Slotless {
    cost: Cost,
    trips: Trips,
    /// The array's work with what stands before and after it.
    whole: Time,
    stores: Time,
}

impl Slotless {
    /// The cost under the mapping's slots.
    pub fn cost(&self, mapping: &MatrixMapping, rates: &Rates) -> Cost {
        let mut cost = self.cost;
        let serial = serial_time(mapping, rates, self.trips, &cost, self.stores);
        cost.estimate = cost.bound.max(self.whole + serial);
        cost
    }

    /// `lengths` are those of rows and columns.
    pub fn of(mapping: &MatrixMapping, rates: &Rates, lengths: [&InputLengths; 2]) -> Self {
        slotless(mapping, rates, lengths)
    }
}

fn slotless(mapping: &MatrixMapping, rates: &Rates, lengths: [&InputLengths; 2]) -> Slotless {
    let trips = mapping.trips();
    let mut cost = Cost::default();
    let parameters = transfers(mapping, rates, trips, lengths, &mut cost);
    let work = array_work(mapping, rates, trips, &mut cost);
    let first = mapping.step(0);
    let last = mapping.step(trips.steps() - 1);
    let tile_elements = |step: &Step| pixels(step) * u64::from(step.passes.len) * u64::from(step.o.len);
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
    let (weights_from, inputs_from) = (rates.weight_memory, mapping.input_memory);
    let loads = |weights: Transfers, inputs: Transfers| rates.loads(&[(weights_from, weights), (inputs_from, inputs)]);
    let stationary = match mapping.dataflow {
        _ if mapping.on_vector => Time::ZERO,
        Dataflow::WS => loads(first_weight, Transfers::default()) + rates.array(rates.weight_load),
        Dataflow::IS => loads(Transfers::default(), first_input) + rates.array(rates.weight_load),
        Dataflow::OS => Time::ZERO,
    };
    let head = start + loads(first_weight, first_input).max(stationary);
    let depth = match mapping.dataflow {
        _ if mapping.on_vector => Time::ZERO,
        Dataflow::OS => rates.array(rates.output_latency),
        Dataflow::WS | Dataflow::IS => rates.array(rates.stationary_latency),
    };
    let store_last = rates.one_store(output_tile(mapping, rates, &last), mapping.output_memory);
    let finish = vector(tile_elements(&last), 1) + store_last;
    let first_tile = rates.array(work.first_tile) + depth;

    let operands = Transfers {
        bytes: cost.weight.bytes.saturating_sub(parameters.bytes),
        bursts: cost.weight.bursts.saturating_sub(parameters.bursts),
        instructions: cost.weight.instructions.saturating_sub(parameters.instructions),
        descriptors: cost.weight.descriptors.saturating_sub(parameters.descriptors),
    };
    let all_loads = loads(cost.weight, cost.input);
    let operand_loads = loads(operands, cost.input) + rates.array(work.last_step) + depth;
    let stores = rates.stores(cost.output, mapping.output_memory);
    let moves = cost.input.plus(cost.weight).plus(cost.output).instructions;
    let commands = moves.saturating_add(output_tiles).saturating_add(if mapping.on_vector {
        0
    } else if rates.hardware_loops {
        trips.steps()
    } else {
        cost.preloads.saturating_add(cost.array_tiles)
    });
    let all_from = [(weights_from, cost.weight), (inputs_from, cost.input)];
    let vector_engine = rates.vector_engine(cost.vector, cost.output);
    let last_command = if mapping.output_resident { finish } else { store_last };
    let parts = [
        (Part::Array, head + cost.array + depth + finish),
        (Part::Load, start + all_loads.max(operand_loads) + finish),
        (Part::Store, head + first_tile + vector(tile_elements(&first), 1) + stores),
        (Part::Vector, head + first_tile + (cost.vector + store_last).max(vector_engine)),
        (Part::Memory, start + rates.shared_memory(&all_from, cost.output, mapping.output_memory)),
        (Part::Issue, rates.commands(commands) + last_command),
    ];
    // The first of equal parts, so that the explanation does not depend on iteration.
    for (part, time) in parts {
        if time > cost.bound {
            (cost.bound, cost.bound_by) = (time, part);
        }
    }
    Slotless { cost, trips, whole: head + cost.array + depth + finish, stores }
}

/// Time that single slots add: what they move or compute cannot overlap with the array.
fn serial_time(mapping: &MatrixMapping, rates: &Rates, trips: Trips, cost: &Cost, stores: Time) -> Time {
    let mut serial = Time::ZERO;
    let loads = |moved: Transfers, memory: Memory| {
        memory.service * moved.bursts + memory.latency * moved.instructions.saturating_sub(1)
    };
    let slots = &mapping.slots;
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
        serial += stores;
    }
    serial
}

/// Output pixels of a step.
const fn pixels(step: &Step) -> u64 {
    step.n.len as u64 * step.p.len as u64 * step.q.len as u64
}

/// What the array does for one pass of one step. Counts stop at the largest number, where time has ended long before.
#[derive(Clone, Copy, Debug, Default)]
struct StepWork {
    preloads: u64,
    tiles: u64,
    beats: u64,
    /// Cycles from the first stream's start to the start of the first stream after the step.
    gaps: u64,
}

impl StepWork {
    fn add(&mut self, other: Self, times: u64) {
        let add = |sum: &mut u64, one: u64| *sum = sum.saturating_add(one.saturating_mul(times));
        add(&mut self.preloads, other.preloads);
        add(&mut self.tiles, other.tiles);
        add(&mut self.beats, other.beats);
        add(&mut self.gaps, other.gaps);
    }
}

/// Cycles from the first stream's start to the last stream's end.
#[derive(Clone, Copy, Debug, Default)]
struct Stretches {
    /// In the first output tile.
    first_tile: u64,
    /// In the last step, which is the smallest.
    last_step: u64,
}

impl Rates {
    /// Streams of so many rows.
    fn streams(&self, rows: u64) -> u64 {
        if self.max_stream == 0 { 1 } else { rows.div_ceil(self.max_stream) }
    }

    /// Cycles from the first stream of a stationary operand of `rows` rows to the first of the next one.
    fn gap(&self, rows: u64) -> u64 {
        let streams = self.streams(rows);
        let bubble = self.min_stream.saturating_sub(rows - (streams - 1) * self.max_stream);
        let drained = rows + self.stationary_latency * streams;
        let own = if self.overlap { rows + bubble } else { drained.max(rows + bubble) };
        match self.shadow_depth {
            0 if self.overlap => own.max(rows + self.weight_load),
            0 => own.max(drained + self.weight_load),
            1 => own.max(self.weight_load),
            // Two loads may follow each other: `array_work` counts them as a whole.
            _ => own,
        }
    }

    /// Cycles from the first stream of a stationary operand to the end of its last.
    fn stretch(&self, rows: u64) -> u64 {
        if self.overlap { rows } else { rows + self.stationary_latency * (self.streams(rows) - 1) }
    }

    /// The same for an output stationary tile, to the next.
    fn output_gap(&self, depth: u64) -> u64 {
        let free = if self.overlap { depth.max(self.rows) } else { depth + self.output_latency };
        free.max(self.min_stream)
    }
}

/// The work of one pass of a step of `m` pixels, `outputs` output channels and `channels` input channels.
fn step_work(mapping: &MatrixMapping, rates: &Rates, m: u64, outputs: u64, channels: u64) -> StepWork {
    let taps = mapping.shape.taps();
    let windows = k_folds(rates.packing, rates.rows, taps, channels);
    // Rounds of `folds` stationary tiles one after the other; all rounds but the first add to the sums of the one before,
    // which must have left the array.
    let rounds = |folds: u64, rows: u64| {
        let round = folds.saturating_mul(rates.gap(rows));
        StepWork {
            preloads: windows * folds,
            tiles: (windows * folds).saturating_mul(rates.streams(rows)),
            beats: (windows * folds).saturating_mul(rows),
            gaps: (windows - 1).saturating_mul(round.max(rates.stationary_latency)).saturating_add(round),
        }
    };
    let mut work = StepWork::default();
    match mapping.dataflow {
        Dataflow::WS => work = rounds(outputs.div_ceil(rates.cols), m),
        Dataflow::IS => work.add(rounds(1, outputs), m.div_ceil(rates.cols)),
        Dataflow::OS => {
            let depth = taps * channels;
            work.tiles = m.div_ceil(rates.rows) * outputs.div_ceil(rates.cols);
            work.beats = work.tiles.saturating_mul(depth);
            work.gaps = work.tiles.saturating_mul(rates.output_gap(depth));
        }
    }
    work
}

/// An output stationary tile whose folds of K follow each other in the elements: what all its steps come to.
#[derive(Clone, Copy, Debug)]
struct KeptTile {
    work: StepWork,
    /// Cycles from its first stream's start to its last stream's end.
    stretch: u64,
}

impl KeptTile {
    /// `channels` are the sizes of its steps with their number.
    fn of(mapping: &MatrixMapping, rates: &Rates, channels: [(u64, u64); 2]) -> Self {
        let taps = mapping.shape.taps();
        let (mut work, mut occupied, mut last) = (StepWork::default(), 0, 0);
        for (c, times) in channels {
            let depth = taps * c;
            work.tiles += times;
            work.beats += depth * times;
            occupied += depth.max(rates.min_stream) * times;
            last = depth;
        }
        let stretch = occupied - last.max(rates.min_stream) + last;
        // One flush a tile: the rows shift out while the next tile streams, or before it.
        work.gaps = occupied.max(if rates.overlap { rates.rows } else { stretch + rates.output_latency });
        Self { work, stretch }
    }
}

fn array_work(mapping: &MatrixMapping, rates: &Rates, trips: Trips, cost: &mut Cost) -> Stretches {
    if mapping.on_vector {
        return Stretches::default();
    }
    let (shape, tile) = (&mapping.shape, &mapping.tile);
    let taps = shape.taps();
    let outputs = pieces(mapping.pass_outputs(), tile.o, trips.o);
    let channels = pieces(mapping.pass_channels(), tile.c, trips.c);
    let keeps = |limit: u64| u32::try_from(limit).unwrap_or(u32::MAX);
    let kept = mapping.keeps_sums(keeps(rates.rows), keeps(rates.cols)).then(|| KeptTile::of(mapping, rates, channels));
    let mut total = StepWork::default();
    for (n, n_times) in pieces(shape.n, tile.n, trips.n) {
        for (p, p_times) in pieces(shape.p, tile.p, trips.p) {
            for (q, q_times) in pieces(shape.q, tile.q, trips.q) {
                for (o, o_times) in outputs {
                    if let Some(kept) = &kept {
                        let times = n_times * p_times * q_times * o_times * u64::from(mapping.passes());
                        total.add(kept.work, times);
                        continue;
                    }
                    for (c, c_times) in channels {
                        let times = n_times * p_times * q_times * o_times * c_times * u64::from(mapping.passes());
                        if times > 0 {
                            total.add(step_work(mapping, rates, n * p * q, o, c), times);
                        }
                    }
                }
            }
        }
    }
    (cost.preloads, cost.array_tiles, cost.beats) = (total.preloads, total.tiles, total.beats);

    // From the start of the last unit of a step on, the stream alone counts, not the distance to a next one.
    let to_end = |gaps: u64, step: &Step, c: u32| {
        let (next, own) = match mapping.dataflow {
            Dataflow::WS => (rates.gap(pixels(step)), rates.stretch(pixels(step))),
            Dataflow::IS => (rates.gap(u64::from(step.o.len)), rates.stretch(u64::from(step.o.len))),
            Dataflow::OS => (rates.output_gap(taps * u64::from(c)), taps * u64::from(c)),
        };
        gaps.saturating_sub(next).saturating_add(own)
    };
    let (first, last) = (mapping.step(0), mapping.step(trips.steps() - 1));
    let mut cycles = match &kept {
        Some(kept) => total.gaps.saturating_sub(kept.work.gaps).saturating_add(kept.stretch),
        None => to_end(total.gaps, &last, last.c.len),
    };
    // The first `shadow_depth` loads need not wait for the first stream.
    cycles = cycles.max(total.preloads.saturating_sub(rates.shadow_depth.max(1)).saturating_mul(rates.weight_load));
    cost.array = rates.array(cycles);

    let (mut first_tile, mut last_step) = (StepWork::default(), StepWork::default());
    for (c, times) in channels {
        if times > 0 {
            let one = step_work(mapping, rates, pixels(&first), u64::from(first.o.len), c);
            first_tile.add(one, times * u64::from(first.passes.len));
        }
    }
    let one = step_work(mapping, rates, pixels(&last), u64::from(last.o.len), u64::from(last.c.len));
    last_step.add(one, u64::from(last.passes.len));
    Stretches {
        first_tile: kept.map_or_else(|| to_end(first_tile.gaps, &first, last.c.len), |kept| kept.stretch),
        last_step: to_end(last_step.gaps, &last, last.c.len),
    }
}
