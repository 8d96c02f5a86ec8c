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

use smallvec::SmallVec;

use super::{
    matrix::{MatrixMapping, Step, Trips},
    order::k_windows,
    tiling::tile_range,
};
use crate::{
    config::{
        Accelerator, Dataflow, DepthwisePolicy, KPacking, MemoryId, MemoryModel, VectorFunction, VectorPlacement,
    },
    units::{Bytes, Cycles, Time},
};

/// The machine's rates as the closed form needs them; made once.
#[derive(Clone, Debug)]
#[allow(clippy::struct_excessive_bools)] // Independent switches of the machine.
pub struct Rates {
    rows: u64,
    cols: u64,
    min_stream: u64,
    max_stream: u64,
    weight_load: u64,
    shadow_depth: u64,
    overlap: bool,
    /// From the end of a stream to its last result, a stationary operand in the array.
    stationary_latency: u64,
    /// The same, output stationary, results shifted out.
    output_latency: u64,
    packing: KPacking,
    array_period: Time,
    vector_period: Time,
    lanes: u64,
    read_width: u64,
    startup: u64,
    requantize: u64,
    depthwise_macs: u64,
    vector_in_store_path: bool,
    burst: u64,
    /// Cycles in which a DMA engine moves a burst.
    pace: u64,
    descriptor: u64,
    in_flight: u64,
    load_engines: u64,
    store_engines: u64,
    weight_memory: Memory,
    activation_memory: Memory,
    same_memory: bool,
    issue: u64,
    launch: u64,
    hardware_loops: bool,
}

/// One memory space.
#[derive(Clone, Copy, Debug)]
struct Memory {
    /// Time of one burst at its bandwidth.
    service: Time,
    /// Its latency.
    latency: Time,
}

impl Rates {
    /// The rates of a machine.
    pub fn of(accelerator: &Accelerator) -> Self {
        let config = &accelerator.config;
        let memory = |id: MemoryId| Memory {
            service: accelerator.memory_service(id, Bytes(u64::from(config.dma.burst_bytes))),
            latency: accelerator.memory_latency(id),
        };
        let array = &config.array;
        let [rows, cols, element, hop] =
            [array.rows, array.cols, array.pe_registers, array.hop_registers].map(u64::from);
        // The array's law, `engine::timing::array`.
        let across = (rows - 1) * (1 + hop) + (cols - 1) * (1 + hop);
        Self {
            rows,
            cols,
            min_stream: u64::from(array.min_stream),
            max_stream: u64::from(array.max_stream),
            weight_load: u64::from(array.weight_load.cycles),
            shadow_depth: u64::from(array.weight_load.shadow_depth),
            overlap: array.overlap_tiles,
            stationary_latency: across + rows * element,
            output_latency: across + element + rows,
            packing: array.k_packing,
            array_period: accelerator.array_period,
            vector_period: accelerator.vector_period,
            lanes: u64::from(config.vector.lanes),
            read_width: u64::from(config.accumulators.read_width),
            startup: u64::from(config.vector.startup_cycles),
            requantize: u64::from(config.vector.cycles_of(VectorFunction::Requantize).unwrap_or(1)),
            depthwise_macs: match config.depthwise {
                DepthwisePolicy::Vector { macs_per_cycle } => u64::from(macs_per_cycle),
                _ => 1,
            },
            vector_in_store_path: config.vector.placement == VectorPlacement::InStorePath,
            burst: u64::from(config.dma.burst_bytes),
            pace: u64::from(config.dma.burst_bytes.div_ceil(config.dma.bytes_per_cycle)),
            descriptor: u64::from(config.dma.descriptor_cycles),
            in_flight: u64::from(config.dma.bursts_in_flight),
            load_engines: u64::from(config.dma.load_engines),
            store_engines: u64::from(config.dma.store_engines),
            weight_memory: memory(accelerator.weight_memory),
            activation_memory: memory(accelerator.activation_memory),
            same_memory: accelerator.weight_memory == accelerator.activation_memory,
            issue: u64::from(config.control.issue_cycles),
            launch: u64::from(config.control.launch_cycles),
            hardware_loops: config.control.hardware_loops,
        }
    }

    fn array(&self, cycles: u64) -> Time {
        Cycles(cycles).time(self.array_period)
    }

    /// Time of vector work of `elements` at `cycles` each, `lanes` at once, in `instructions` instructions, from below.
    pub(super) fn vector(&self, elements: u64, cycles: u64, lanes: u64, instructions: u64) -> Time {
        Cycles(elements.div_ceil(lanes) * cycles + self.startup * instructions).time(self.vector_period)
    }

    /// Time to requantize so many accumulators.
    fn requantize(&self, elements: u64, instructions: u64) -> Time {
        let work = self.vector(elements, self.requantize, self.lanes, instructions);
        if self.read_width == 0 { work } else { work.max(self.vector(elements, 1, self.read_width, instructions)) }
    }

    /// Time in which `engines` DMA engines get transfers done, the memory apart.
    fn engine_time(&self, moved: Transfers, engines: u64) -> Time {
        self.array((self.descriptor * moved.instructions + self.pace * moved.bursts) / engines)
    }

    /// Time until the last byte has arrived, each request waiting for a place in flight.
    fn round_trips(&self, bursts: u64, engines: u64, memory: Memory) -> Time {
        let Some(before) = bursts.div_ceil(engines).checked_sub(1) else { return Time::ZERO };
        let trip = memory.service + memory.latency;
        trip * (before / self.in_flight) + memory.service * (before % self.in_flight) + trip
    }

    /// Time from the first command until transfers over one memory are done.
    fn transfer(&self, moved: Transfers, engines: u64, memory: Memory) -> Time {
        if moved.bursts == 0 {
            return Time::ZERO;
        }
        let served = memory.service * moved.bursts + memory.latency;
        let first = self.array(self.descriptor);
        (first + served.max(self.round_trips(moved.bursts, engines, memory))).max(self.engine_time(moved, engines))
    }

    /// Time from the first command until loads from the weights' and the activations' memory are done.
    pub(super) fn loads(&self, weights: Transfers, activations: Transfers) -> Time {
        let (w, a) = (self.weight_memory, self.activation_memory);
        let both = weights.plus(activations);
        if self.same_memory {
            return self.transfer(both, self.load_engines, w);
        }
        if both.bursts == 0 {
            return Time::ZERO;
        }
        let either = Memory { service: w.service.min(a.service), latency: w.latency.min(a.latency) };
        self.transfer(weights, self.load_engines, w)
            .max(self.transfer(activations, self.load_engines, a))
            .max(self.engine_time(both, self.load_engines))
            .max(self.round_trips(both.bursts, self.load_engines, either))
    }

    /// Time from the first command until so many stores are done.
    pub(super) fn stores(&self, moved: Transfers) -> Time {
        self.transfer(moved, self.store_engines, self.activation_memory)
    }

    /// Time of one store.
    pub(super) fn one_store(&self, moved: Transfers) -> Time {
        self.transfer(moved, 1, self.activation_memory)
    }

    /// Time in which the memory that results go to serves all that is loaded from it and stored to it.
    pub(super) fn shared_memory(&self, weights: Transfers, activations: Transfers, stores: Transfers) -> Time {
        let memory = self.activation_memory;
        let mut bursts = activations.bursts + stores.bursts;
        if self.same_memory {
            bursts += weights.bursts;
        }
        if bursts == 0 { Time::ZERO } else { memory.service * bursts + memory.latency }
    }

    /// Time of vector work and stores where one engine does both; else of the vector work.
    pub(super) fn vector_engine(&self, work: Time, stores: Transfers) -> Time {
        let shared = self.vector_in_store_path && self.store_engines == 1;
        if shared { work + self.engine_time(stores, 1) } else { work }
    }

    /// Bytes of a burst.
    pub(super) fn burst(&self) -> u64 {
        self.burst
    }

    /// Lanes of the vector unit.
    pub(super) fn lanes(&self) -> u64 {
        self.lanes
    }

    /// A layer's launch and the issue of so many commands.
    pub(super) fn commands(&self, commands: u64) -> Time {
        self.array(self.launch + self.issue * commands)
    }
}

/// Bytes and the bursts that they take at least.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Transfers {
    /// Useful bytes.
    pub bytes: u64,
    /// Aligned bursts that their contiguous runs overlap at least.
    pub bursts: u64,
    /// Instructions.
    pub instructions: u64,
}

impl Transfers {
    fn runs(count: u64, bytes: u64, burst: u64) -> Self {
        Self { bytes: count * bytes, bursts: count * bytes.div_ceil(burst), instructions: 0 }
    }

    pub(super) fn times(self, count: u64) -> Self {
        Self { bytes: self.bytes * count, bursts: self.bursts * count, instructions: self.instructions * count }
    }

    pub(super) fn plus(self, other: Self) -> Self {
        Self {
            bytes: self.bytes + other.bytes,
            bursts: self.bursts + other.bursts,
            instructions: self.instructions + other.instructions,
        }
    }
}

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
    let trips = mapping.trips();
    let mut cost = Cost::default();
    let parameters = transfers(mapping, rates, trips, &mut cost);
    let work = array_work(mapping, rates, trips, &mut cost);
    let first = mapping.step(0);
    let last = mapping.step(trips.steps() - 1);
    let tile_elements = |step: &Step| pixels(step) * u64::from(step.passes.len) * u64::from(step.o.len);
    let output_tiles = trips.steps() / u64::from(trips.c);
    let outputs = mapping.shape.pixels() * u64::from(mapping.shape.o);
    let vector = |elements: u64, instructions: u64| {
        if mapping.on_vector {
            rates.vector(elements * mapping.shape.taps(), 1, rates.depthwise_macs, instructions)
        } else {
            rates.requantize(elements, instructions)
        }
    };
    cost.vector = vector(outputs, output_tiles);

    let start = rates.commands(1);
    let first_input = input_tile(mapping, rates, &first);
    let first_weight = weight_tile(mapping, rates, &first);
    let stationary = match mapping.dataflow {
        _ if mapping.on_vector => Time::ZERO,
        Dataflow::WS => rates.loads(first_weight, Transfers::default()) + rates.array(rates.weight_load),
        Dataflow::IS => rates.loads(Transfers::default(), first_input) + rates.array(rates.weight_load),
        Dataflow::OS => Time::ZERO,
    };
    let head = start + rates.loads(first_weight, first_input).max(stationary);
    let depth = match mapping.dataflow {
        _ if mapping.on_vector => Time::ZERO,
        Dataflow::OS => rates.array(rates.output_latency),
        Dataflow::WS | Dataflow::IS => rates.array(rates.stationary_latency),
    };
    let store_last = rates.one_store(output_tile(mapping, rates, &last));
    let finish = vector(tile_elements(&last), 1) + store_last;
    let first_tile = rates.array(work.first_tile) + depth;

    let operands = Transfers {
        bytes: cost.weight.bytes - parameters.bytes,
        bursts: cost.weight.bursts - parameters.bursts,
        instructions: cost.weight.instructions - parameters.instructions,
    };
    let all_loads = rates.loads(cost.weight, cost.input);
    let operand_loads = rates.loads(operands, cost.input) + rates.array(work.last_step) + depth;
    let stores = rates.stores(cost.output);
    let commands = cost.input.instructions
        + cost.weight.instructions
        + cost.output.instructions
        + output_tiles
        + if mapping.on_vector {
            0
        } else if rates.hardware_loops {
            trips.steps()
        } else {
            cost.preloads + cost.array_tiles
        };
    let vector_engine = rates.vector_engine(cost.vector, cost.output);
    let last_command = if mapping.output_resident { finish } else { store_last };
    let parts = [
        (Part::Array, head + cost.array + depth + finish),
        (Part::Load, start + all_loads.max(operand_loads) + finish),
        (Part::Store, head + first_tile + vector(tile_elements(&first), 1) + stores),
        (Part::Vector, head + first_tile + (cost.vector + store_last).max(vector_engine)),
        (Part::Memory, start + rates.shared_memory(cost.weight, cost.input, cost.output)),
        (Part::Issue, rates.commands(commands) + last_command),
    ];
    // The first of equal parts, so that the explanation does not depend on iteration.
    for (part, time) in parts {
        if time > cost.bound {
            (cost.bound, cost.bound_by) = (time, part);
        }
    }
    let serial = serial_time(mapping, rates, trips, &cost, stores);
    cost.estimate = cost.bound.max(head + cost.array + serial + depth + finish);
    cost
}

/// Time that single slots add: what they move or compute cannot overlap with the array.
fn serial_time(mapping: &MatrixMapping, rates: &Rates, trips: Trips, cost: &Cost, stores: Time) -> Time {
    let mut serial = Time::ZERO;
    let loads = |moved: Transfers, memory: Memory| {
        memory.service * moved.bursts + memory.latency * moved.instructions.saturating_sub(1)
    };
    let slots = &mapping.slots;
    if slots.input == 1 && cost.input.instructions > 1 {
        serial += loads(cost.input, rates.activation_memory);
    }
    if slots.weight == 1 && cost.weight.instructions > 2 {
        serial += loads(cost.weight, rates.weight_memory);
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

/// What the array does for one pass of one step.
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
        self.preloads += other.preloads * times;
        self.tiles += other.tiles * times;
        self.beats += other.beats * times;
        self.gaps += other.gaps * times;
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

/// The work of one pass of a step of `m` pixels, over output channels `o` and input channels `c` (first, number).
fn step_work(mapping: &MatrixMapping, rates: &Rates, m: u64, o: (u32, u32), c: (u32, u32)) -> StepWork {
    let taps = mapping.shape.taps();
    let outputs = u64::from(o.1);
    let windows = k_folds(rates.packing, rates.rows, taps, u64::from(c.1));
    // Units with their operand in the array one after the other; all but the first add to the rows of the one before.
    let chain = |units: u64, rows: u64| {
        let gap = rates.gap(rows);
        StepWork {
            preloads: units,
            tiles: units * rates.streams(rows),
            beats: units * rows,
            gaps: (units - 1) * gap.max(rates.stationary_latency) + gap,
        }
    };
    let mut work = StepWork::default();
    match mapping.dataflow {
        Dataflow::WS if mapping.groups_per_pass == 1 => work.add(chain(windows, m), outputs.div_ceil(rates.cols)),
        Dataflow::IS if mapping.groups_per_pass == 1 => work.add(chain(windows, outputs), m.div_ceil(rates.cols)),
        Dataflow::WS => {
            for n in chunks(o.1, rates.cols) {
                let units = windows_of(mapping, rates, c.1).filter(|&k| is_dense(mapping, o.0, c, k, n)).count() as u64;
                if units > 0 {
                    work.add(chain(units, m), 1);
                }
            }
        }
        Dataflow::IS => {
            let mut one = StepWork { preloads: windows, ..StepWork::default() };
            for k in windows_of(mapping, rates, c.1) {
                let (mut rows, mut streams) = (0, 0);
                for n in chunks(o.1, rates.max_stream).filter(|&n| is_dense(mapping, o.0, c, k, n)) {
                    rows += u64::from(n.1);
                    streams += 1;
                }
                one.tiles += streams;
                one.beats += rows;
                one.gaps += if rows > 0 && rates.shadow_depth == 1 { rows.max(rates.weight_load) } else { rows };
            }
            work.add(one, m.div_ceil(rates.cols));
        }
        Dataflow::OS => {
            let depth = taps * u64::from(c.1);
            work.tiles = m.div_ceil(rates.rows) * outputs.div_ceil(rates.cols);
            work.beats = work.tiles * depth;
            work.gaps = work.tiles * rates.output_gap(depth);
        }
    }
    work
}

/// `total` in pieces of `size` (0: in one): first index and length of each.
fn chunks(total: u32, size: u64) -> impl Iterator<Item = (u32, u32)> {
    let size = u32::try_from(size).ok().filter(|&size| size > 0).unwrap_or(total);
    (0..total.div_ceil(size)).map(move |index| (index * size, size.min(total - index * size)))
}

fn windows_of(mapping: &MatrixMapping, rates: &Rates, channels: u32) -> impl Iterator<Item = (u32, u32)> {
    let narrow = |value: u64| u32::try_from(value).unwrap_or(u32::MAX);
    k_windows(rates.packing, narrow(rates.rows), narrow(mapping.shape.taps()), channels)
}

/// Whether an array tile of several groups holds anything but the zeros between them: only then is it streamed.
fn is_dense(mapping: &MatrixMapping, first: u32, c: (u32, u32), k: (u32, u32), n: (u32, u32)) -> bool {
    let group_channels = mapping.pass_channels() / mapping.groups_per_pass;
    let group_outputs = mapping.pass_outputs() / mapping.groups_per_pass;
    let groups = [(first + n.0) / group_outputs, (first + n.0 + n.1 - 1) / group_outputs];
    (k.0..k.0 + k.1).any(|k| (groups[0]..=groups[1]).contains(&((c.0 + k % c.1) / group_channels)))
}

fn array_work(mapping: &MatrixMapping, rates: &Rates, trips: Trips, cost: &mut Cost) -> Stretches {
    if mapping.on_vector {
        return Stretches::default();
    }
    let (shape, tile) = (&mapping.shape, &mapping.tile);
    let taps = shape.taps();
    let bundled = mapping.groups_per_pass > 1;
    // Tiles of channels with their number: where tiles are not all alike, each on its own.
    let channel_tiles = |extent: u32, tile: u32, trips: u32| -> SmallVec<[((u32, u32), u64); 2]> {
        if bundled {
            return (0..trips).map(|i| tile_range(extent, tile, i)).map(|r| ((r.start, r.len), 1)).collect();
        }
        let last = tile_range(extent, tile, trips - 1);
        let mut tiles = SmallVec::new();
        if trips > 1 {
            tiles.push(((0, tile), u64::from(trips - 1)));
        }
        tiles.push(((last.start, last.len), 1));
        tiles
    };
    let outputs = channel_tiles(mapping.pass_outputs(), tile.o, trips.o);
    let channels = channel_tiles(mapping.pass_channels(), tile.c, trips.c);
    let mut total = StepWork::default();
    for (n, n_times) in pieces(shape.n, tile.n, trips.n) {
        for (p, p_times) in pieces(shape.p, tile.p, trips.p) {
            for (q, q_times) in pieces(shape.q, tile.q, trips.q) {
                let times = n_times * p_times * q_times;
                if times == 0 {
                    continue;
                }
                for &(o, o_times) in &outputs {
                    for &(c, c_times) in &channels {
                        let one = step_work(mapping, rates, n * p * q, o, c);
                        total.add(one, times * o_times * c_times * u64::from(mapping.passes()));
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
            Dataflow::IS if bundled => (rates.gap(u64::from(step.o.len)), 0),
            Dataflow::IS => (rates.gap(u64::from(step.o.len)), rates.stretch(u64::from(step.o.len))),
            Dataflow::OS => (rates.output_gap(taps * u64::from(c)), taps * u64::from(c)),
        };
        gaps.saturating_sub(next) + own
    };
    let (first, last) = (mapping.step(0), mapping.step(trips.steps() - 1));
    let mut cycles = to_end(total.gaps, &last, last.c.len);
    if !bundled {
        // The first `shadow_depth` loads need not wait for the first stream.
        cycles = cycles.max(total.preloads.saturating_sub(rates.shadow_depth.max(1)) * rates.weight_load);
    }
    cost.array = rates.array(cycles);

    let (mut first_tile, mut last_step) = (StepWork::default(), StepWork::default());
    for &(c, times) in &channels {
        let one = step_work(mapping, rates, pixels(&first), (first.o.start, first.o.len), c);
        first_tile.add(one, times * u64::from(first.passes.len));
    }
    if !bundled {
        let (o, c) = ((last.o.start, last.o.len), (last.c.start, last.c.len));
        last_step.add(step_work(mapping, rates, pixels(&last), o, c), u64::from(last.passes.len));
        last_step.gaps = to_end(last_step.gaps, &last, last.c.len);
    }
    Stretches { first_tile: to_end(first_tile.gaps, &first, last.c.len), last_step: last_step.gaps }
}

/// One input tile's transfer.
fn input_tile(mapping: &MatrixMapping, rates: &Rates, step: &Step) -> Transfers {
    if mapping.input_resident {
        return Transfers::default();
    }
    let shape = &mapping.shape;
    let channels = u64::from(step.c.len) * u64::from(step.passes.len);
    let rows = u64::from(mapping.rows(step.p).present.len);
    let cols = u64::from(mapping.cols(step.q).present.len);
    image_transfer(
        [u64::from(step.n.len), rows, cols, channels],
        [u64::from(shape.h), u64::from(shape.w), u64::from(shape.c)],
        u64::from(shape.input_bytes()),
        rates.burst,
    )
}

/// One output tile's transfer.
fn output_tile(mapping: &MatrixMapping, rates: &Rates, step: &Step) -> Transfers {
    if mapping.output_resident {
        return Transfers::default();
    }
    let shape = &mapping.shape;
    let channels = u64::from(step.o.len) * u64::from(step.passes.len);
    image_transfer(
        [u64::from(step.n.len), u64::from(step.p.len), u64::from(step.q.len), channels],
        [u64::from(shape.p), u64::from(shape.q), u64::from(shape.o)],
        u64::from(shape.output_bytes()),
        rates.burst,
    )
}

/// One weight tile's transfer, parameter records apart.
fn weight_tile(mapping: &MatrixMapping, rates: &Rates, step: &Step) -> Transfers {
    let bytes = u64::from(step.passes.len)
        * u64::from(step.o.len)
        * u64::from(step.c.len)
        * mapping.shape.taps()
        * u64::from(mapping.shape.weight_bytes);
    Transfers { instructions: 1, ..Transfers::runs(1, bytes, rates.burst) }
}

/// A box `[n, rows, cols, channels]` of an NHWC image `[_, height, width, channels]`: contiguous runs grow across a
/// dimension that the box covers whole.
pub(super) fn image_transfer(tile: [u64; 4], whole: [u64; 3], element: u64, burst: u64) -> Transfers {
    let [n, rows, cols, channels] = tile;
    let [height, width, all_channels] = whole;
    if n * rows * cols * channels == 0 {
        return Transfers::default();
    }
    let (mut run, mut count) = (channels * element, n * rows * cols);
    if channels == all_channels {
        (run, count) = (run * cols, n * rows);
        if cols == width {
            (run, count) = (run * rows, n);
            if rows == height {
                (run, count) = (run * n, 1);
            }
        }
    }
    Transfers { instructions: 1, ..Transfers::runs(count, run, burst) }
}

/// All transfers of the layer; returns those of the parameter records, which count as weights.
fn transfers(mapping: &MatrixMapping, rates: &Rates, trips: Trips, cost: &mut Cost) -> Transfers {
    let (shape, tile) = (&mapping.shape, &mapping.tile);
    let passes = mapping.passes();
    let reloads = input_loads_per_tile(mapping, trips);
    // Channels of a tile: passes and channels are never both cut.
    let sum_boxes = |ranges_p: &[(u64, u64)], ranges_q: &[(u64, u64)], channels: &[(u64, u64)], whole, element| {
        let mut sum = Transfers::default();
        for &(rows, rows_count) in ranges_p {
            for &(cols, cols_count) in ranges_q {
                for &(depth, depth_count) in channels {
                    for (images, images_count) in cut(shape.n, tile.n, trips.n) {
                        let one = image_transfer([images, rows, cols, depth], whole, element, rates.burst);
                        sum = sum.plus(one.times(rows_count * cols_count * depth_count * images_count));
                    }
                }
            }
        }
        sum
    };
    if !mapping.input_resident {
        let rows =
            count_equal((0..trips.p).map(|i| mapping.rows(super::tiling::tile_range(shape.p, tile.p, i)).present.len));
        let cols =
            count_equal((0..trips.q).map(|i| mapping.cols(super::tiling::tile_range(shape.q, tile.q, i)).present.len));
        let mut channels = Vec::new();
        for (count, times) in cut(passes, tile.passes, trips.passes) {
            for (c, c_times) in cut(mapping.pass_channels(), tile.c, trips.c) {
                channels.push((count * c, times * c_times));
            }
        }
        let whole = [u64::from(shape.h), u64::from(shape.w), u64::from(shape.c)];
        cost.input = sum_boxes(&rows, &cols, &channels, whole, u64::from(shape.input_bytes())).times(reloads);
    }
    if !mapping.output_resident {
        let mut channels = Vec::new();
        for (count, times) in cut(passes, tile.passes, trips.passes) {
            for (o, o_times) in cut(mapping.pass_outputs(), tile.o, trips.o) {
                channels.push((count * o, times * o_times));
            }
        }
        let whole = [u64::from(shape.p), u64::from(shape.q), u64::from(shape.o)];
        let (rows, cols) = (cut(shape.p, tile.p, trips.p), cut(shape.q, tile.q, trips.q));
        cost.output = sum_boxes(&rows, &cols, &channels, whole, u64::from(shape.output_bytes()));
    }
    let taps = shape.taps();
    let mut parameters = Transfers::default();
    for (count, times) in cut(passes, tile.passes, trips.passes) {
        for (o, o_times) in cut(mapping.pass_outputs(), tile.o, trips.o) {
            for (c, c_times) in cut(mapping.pass_channels(), tile.c, trips.c) {
                let bytes = count * o * c * taps * u64::from(shape.weight_bytes);
                let one = Transfers { instructions: 1, ..Transfers::runs(1, bytes, rates.burst) };
                cost.weight =
                    cost.weight.plus(one.times(times * o_times * c_times * weight_loads_per_tile(mapping, trips)));
            }
            let records = Transfers {
                instructions: 1,
                ..Transfers::runs(1, count * o * u64::from(mapping.parameter_bytes), rates.burst)
            };
            parameters = parameters.plus(records.times(times * o_times * parameter_loads_per_tile(mapping, trips)));
        }
    }
    cost.weight = cost.weight.plus(parameters);
    parameters
}

/// Sizes of the tiles of an extent with their number: full ones and the last.
fn cut(extent: u32, tile: u32, trips: u32) -> Vec<(u64, u64)> {
    let last = u64::from(extent) - u64::from(trips - 1) * u64::from(tile);
    if trips == 1 { vec![(last, 1)] } else { vec![(u64::from(tile), u64::from(trips - 1)), (last, 1)] }
}

/// The same, with no tiles in place of a missing kind.
fn pieces(extent: u32, tile: u32, trips: u32) -> [(u64, u64); 2] {
    let last = u64::from(extent) - u64::from(trips - 1) * u64::from(tile);
    [(u64::from(tile), u64::from(trips - 1)), (last, 1)]
}

/// Distinct lengths with their number.
fn count_equal(lengths: impl Iterator<Item = u32>) -> Vec<(u64, u64)> {
    let mut counts: Vec<(u64, u64)> = Vec::new();
    for length in lengths {
        match counts.iter_mut().find(|(known, _)| *known == u64::from(length)) {
            Some((_, count)) => *count += 1,
            None => counts.push((u64::from(length), 1)),
        }
    }
    counts
}

/// How often each input tile is loaded: again for every output tile unless it is still there.
pub fn input_loads_per_tile(mapping: &MatrixMapping, trips: Trips) -> u64 {
    use super::matrix::LoopOrder::{OutputsOuter, PixelsOuter};
    let again = match mapping.order {
        // The slot still holds the tile when the pixel loops have one trip and channels are not cut.
        OutputsOuter => trips.pixels() > 1 || trips.c > 1,
        PixelsOuter => trips.c > 1,
    };
    if again { u64::from(trips.o) } else { 1 }
}

/// How often each weight tile is loaded.
pub fn weight_loads_per_tile(mapping: &MatrixMapping, trips: Trips) -> u64 {
    use super::matrix::LoopOrder::{OutputsOuter, PixelsOuter};
    let again = match mapping.order {
        OutputsOuter => trips.c > 1,
        PixelsOuter => trips.o > 1 || trips.c > 1,
    };
    if again { trips.pixels() } else { 1 }
}

/// How often each tile of parameter records is loaded.
pub fn parameter_loads_per_tile(mapping: &MatrixMapping, trips: Trips) -> u64 {
    use super::matrix::LoopOrder::{OutputsOuter, PixelsOuter};
    match mapping.order {
        OutputsOuter => 1,
        PixelsOuter => {
            if trips.o > 1 {
                trips.pixels()
            } else {
                1
            }
        }
    }
}

/// Peak rates of a memory, for explanations.
pub fn memory_gb_per_s(model: &MemoryModel) -> f64 {
    let MemoryModel::Ideal { bandwidth_gb_per_s, .. } = model;
    *bandwidth_gb_per_s
}
