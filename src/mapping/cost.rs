//! The closed form of one mapping: how much work each engine has, a lower bound of the layer's span, and the estimate
//! that the search minimizes. No loop over buffer tiles; a few hundred nanoseconds an evaluation.
//!
//! # The bound
//! Every part is a lower bound of what the timing engine does at `tile` fidelity, so `bound <= span` holds for every
//! layer (a property test). With `head` the time until the first operands can have arrived, `tail` the time from the
//! last operand to the last stored byte:
//! - array: `head + array work + tail`;
//! - loads: all load bursts through their memory and their engines, then `tail`;
//! - stores: `head`, one output tile's array work, then all store bursts;
//! - vector: `head`, one output tile's array work, then all vector work, then the last store;
//! - a memory that both loads and stores use: all its bursts;
//! - issue: the commands.
//!
//! # The estimate
//! The bound, and where an operand has one slot only, the time that its transfers then add to the array's.

use smallvec::{SmallVec, smallvec};

use super::{
    matrix::{MatrixMapping, Step, Trips},
    tiling::tile_range,
};
use crate::{
    config::{Accelerator, Dataflow, DepthwisePolicy, KPacking, MemoryId, MemoryModel, VectorFunction},
    units::{Bytes, Cycles, Time},
};

/// The machine's rates as the closed form needs them; made once.
#[derive(Clone, Debug)]
pub struct Rates {
    rows: u64,
    cols: u64,
    min_stream: u64,
    max_stream: u64,
    weight_load: u64,
    shadow: bool,
    overlap: bool,
    packing: KPacking,
    array_period: Time,
    vector_period: Time,
    lanes: u64,
    read_width: u64,
    startup: u64,
    requantize: u64,
    depthwise_macs: u64,
    burst: u64,
    in_flight: u64,
    dma_bytes_per_cycle: u64,
    load_engines: u64,
    store_engines: u64,
    weight_memory: Memory,
    activation_memory: Memory,
    same_memory: bool,
    issue: u64,
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
        Self {
            rows: u64::from(config.array.rows),
            cols: u64::from(config.array.cols),
            min_stream: u64::from(config.array.min_stream),
            max_stream: u64::from(config.array.max_stream),
            weight_load: u64::from(config.array.weight_load.cycles),
            shadow: config.array.weight_load.shadow_depth > 0,
            overlap: config.array.overlap_tiles,
            packing: config.array.k_packing,
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
            burst: u64::from(config.dma.burst_bytes),
            in_flight: u64::from(config.dma.bursts_in_flight),
            dma_bytes_per_cycle: u64::from(config.dma.bytes_per_cycle),
            load_engines: u64::from(config.dma.load_engines),
            store_engines: u64::from(config.dma.store_engines),
            weight_memory: memory(accelerator.weight_memory),
            activation_memory: memory(accelerator.activation_memory),
            same_memory: accelerator.weight_memory == accelerator.activation_memory,
            issue: u64::from(config.control.issue_cycles),
            hardware_loops: config.control.hardware_loops,
        }
    }

    fn array(&self, cycles: u64) -> Time {
        Cycles(cycles).time(self.array_period)
    }

    /// Time of vector work of `elements` at `cycles` each in `instructions` instructions, from below.
    pub fn vector(&self, elements: u64, cycles: u64, width: u64, instructions: u64) -> Time {
        Cycles(elements.div_ceil(width) * cycles + self.startup * instructions).time(self.vector_period)
    }

    /// Time of `bursts` and `bytes` through `engines` DMA engines, the memory's own service apart.
    fn engine_time(&self, bursts: u64, bytes: u64, engines: u64, memory: Memory) -> Time {
        let own = self.array(bytes / (self.dma_bytes_per_cycle * engines));
        let slots = self.in_flight * engines;
        let round_trips = Time((memory.service + memory.latency).0 * (bursts / slots));
        own.max(round_trips)
    }

    /// Latency of the activations' memory and of its transfers, for `mapping::vector`.
    pub(super) fn activation_transfer(&self, bursts: u64, bytes: u64, stores: bool) -> Time {
        let engines = if stores { self.store_engines } else { self.load_engines };
        (self.activation_memory.service * bursts).max(self.engine_time(bursts, bytes, engines, self.activation_memory))
    }

    /// Latency of the activations' memory.
    pub(super) fn activation_latency(&self) -> Time {
        self.activation_memory.latency
    }

    /// Service time of `bursts` at the activations' memory.
    pub(super) fn activation_service(&self, bursts: u64) -> Time {
        self.activation_memory.service * bursts
    }

    /// Bytes of a burst.
    pub(super) fn burst(&self) -> u64 {
        self.burst
    }

    /// Lanes of the vector unit.
    pub(super) fn lanes(&self) -> u64 {
        self.lanes
    }

    /// Array cycles to issue a command, as a time.
    pub(super) fn issue(&self, commands: u64) -> Time {
        self.array(self.issue * commands)
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

    fn times(self, count: u64) -> Self {
        Self { bytes: self.bytes * count, bursts: self.bursts * count, instructions: self.instructions * count }
    }

    fn plus(self, other: Self) -> Self {
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

/// Sum of `f` over the tiles of an extent: all but the last are full.
fn over_tiles(extent: u32, tile: u32, trips: u32, f: impl Fn(u64) -> u64) -> u64 {
    let last = u64::from(extent) - u64::from(trips - 1) * u64::from(tile);
    u64::from(trips - 1) * f(u64::from(tile)) + f(last)
}

/// The closed form of `mapping` on the machine of `rates`.
pub fn evaluate(mapping: &MatrixMapping, rates: &Rates) -> Cost {
    let halos = [InputLengths::rows(mapping), InputLengths::cols(mapping)];
    Slotless::of(mapping, rates, [&halos[0], &halos[1]]).cost(mapping, rates)
}

/// Lengths of the input ranges of all tiles along one axis, with their number. They depend on the tile's extent on that
/// axis alone, and take a step a tile to find: a search keeps them.
#[derive(Clone, Debug)]
pub struct InputLengths(Cut);

impl InputLengths {
    /// Of rows.
    pub fn rows(mapping: &MatrixMapping) -> Self {
        let (extent, tile) = (mapping.shape.p, mapping.tile.p);
        Self(count_equal((0..extent.div_ceil(tile)).map(|i| mapping.rows(tile_range(extent, tile, i)).present.len)))
    }

    /// Of columns.
    pub fn cols(mapping: &MatrixMapping) -> Self {
        let (extent, tile) = (mapping.shape.q, mapping.tile.q);
        Self(count_equal((0..extent.div_ceil(tile)).map(|i| mapping.cols(tile_range(extent, tile, i)).present.len)))
    }
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
        cost.estimate = cost.bound.max(self.whole + serial_time(mapping, rates, self.trips, &cost, self.stores));
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
    array_work(mapping, rates, trips, &mut cost);
    transfers(mapping, rates, trips, lengths, &mut cost);
    let first = mapping.step(0);
    let last = mapping.step(trips.steps() - 1);
    let tile_elements = |step: &Step| pixels(step) * u64::from(step.passes.len) * u64::from(step.o.len);
    let output_tiles = trips.steps() / u64::from(trips.c);
    let outputs = mapping.shape.pixels() * u64::from(mapping.shape.o);
    let taps = mapping.shape.taps();
    let vector = |elements: u64, instructions: u64| {
        if mapping.on_vector {
            rates.vector(elements * taps, 1, rates.depthwise_macs, instructions)
        } else {
            let width = if rates.read_width == 0 { rates.lanes } else { rates.lanes.min(rates.read_width) };
            rates.vector(elements, rates.requantize, width, instructions)
        }
    };
    cost.vector = vector(outputs, output_tiles);

    // Head: the first tile's operands, over one memory or two.
    let (w, a) = (rates.weight_memory, rates.activation_memory);
    let first_input = input_tile(mapping, rates, &first);
    let first_weight = weight_tile(mapping, rates, &first);
    let arrival = |memory: Memory, moved: Transfers| {
        if moved.bursts == 0 { Time::ZERO } else { memory.latency + memory.service * moved.bursts }
    };
    let head = if rates.same_memory {
        arrival(w, first_weight.plus(first_input))
    } else {
        arrival(w, first_weight).max(arrival(a, first_input))
    };
    let depth = if mapping.on_vector { Time::ZERO } else { rates.array(rates.rows + rates.cols - 2) };
    let store_last = arrival(a, output_tile(mapping, rates, &last));
    let tail = depth + vector(tile_elements(&last), 1) + store_last;
    let first_tile =
        if mapping.on_vector { Time::ZERO } else { rates.array(first_tile_beats(mapping, rates, &first)) + depth };

    let loads = cost.input.plus(cost.weight);
    let load_service = if rates.same_memory {
        w.service * loads.bursts
    } else {
        (w.service * cost.weight.bursts).max(a.service * cost.input.bursts)
    };
    let load_engines = if rates.same_memory {
        rates.engine_time(loads.bursts, loads.bytes, rates.load_engines, w)
    } else {
        rates.array(loads.bytes / (rates.dma_bytes_per_cycle * rates.load_engines))
    };
    let stores = rates.activation_transfer(cost.output.bursts, cost.output.bytes, true);
    let shared = if rates.same_memory {
        w.service * (loads.bursts + cost.output.bursts)
    } else {
        a.service * (cost.input.bursts + cost.output.bursts)
    };
    let commands = loads.instructions
        + cost.output.instructions
        + output_tiles
        + if mapping.on_vector {
            0
        } else if rates.hardware_loops {
            trips.steps()
        } else {
            cost.preloads + cost.array_tiles
        };
    let parts = [
        (Part::Array, head + cost.array + tail),
        (Part::Load, load_service.max(load_engines) + tail),
        (Part::Store, head + first_tile + stores),
        (Part::Vector, head + first_tile + cost.vector + store_last),
        (Part::Memory, shared),
        (Part::Issue, rates.issue(commands.saturating_sub(1))),
    ];
    // The first of equal parts, so that the explanation does not depend on iteration.
    for (part, time) in parts {
        if time > cost.bound {
            (cost.bound, cost.bound_by) = (time, part);
        }
    }
    Slotless { cost, trips, whole: head + cost.array + tail, stores }
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

/// Beats of the first output tile, all its channel tiles: what the first result must wait for.
fn first_tile_beats(mapping: &MatrixMapping, rates: &Rates, first: &Step) -> u64 {
    let (m, o) = (pixels(first), u64::from(first.o.len));
    let trips = mapping.trips();
    let taps = mapping.shape.taps();
    let folds =
        over_tiles(mapping.pass_channels(), mapping.tile.c, trips.c, |c| k_folds(rates.packing, rates.rows, taps, c));
    u64::from(first.passes.len)
        * match mapping.dataflow {
            Dataflow::WS => o.div_ceil(rates.cols) * folds * m,
            Dataflow::IS => m.div_ceil(rates.cols) * folds * o,
            Dataflow::OS => m.div_ceil(rates.rows) * o.div_ceil(rates.cols) * taps * u64::from(mapping.pass_channels()),
        }
}

fn array_work(mapping: &MatrixMapping, rates: &Rates, trips: Trips, cost: &mut Cost) {
    if mapping.on_vector {
        return;
    }
    let (shape, tile) = (&mapping.shape, &mapping.tile);
    let taps = shape.taps();
    let passes = u64::from(mapping.passes());
    let folds = over_tiles(mapping.pass_channels(), tile.c, trips.c, |c| k_folds(rates.packing, rates.rows, taps, c));
    let column_folds = over_tiles(mapping.pass_outputs(), tile.o, trips.o, |o| o.div_ceil(rates.cols));
    // Sums over the pixel tiles: full and last along each of n, p, q.
    let over_pixels = |f: &dyn Fn(u64) -> u64| {
        over_tiles(shape.n, tile.n, trips.n, |n| {
            over_tiles(shape.p, tile.p, trips.p, |p| over_tiles(shape.q, tile.q, trips.q, |q| f(n * p * q)))
        })
    };
    // One stream of `rows` rows: how many instructions, and how long with the bubbles of a minimum stream.
    let streams = |rows: u64| if rates.max_stream == 0 { 1 } else { rows.div_ceil(rates.max_stream) };
    let stretched = |rows: u64| {
        if rates.max_stream == 0 || rows <= rates.max_stream {
            return rows.max(rates.min_stream);
        }
        let last = (rows - 1) % rates.max_stream + 1;
        (rows - last) + last.max(rates.min_stream)
    };
    let occupied;
    match mapping.dataflow {
        Dataflow::WS => {
            let tiles = passes * folds * column_folds;
            cost.preloads = tiles * trips.pixels();
            cost.array_tiles = tiles * over_pixels(&streams);
            cost.beats = tiles * shape.pixels();
            occupied = tiles * over_pixels(&stretched);
        }
        Dataflow::IS => {
            let pixel_folds = over_pixels(&|m| m.div_ceil(rates.cols));
            let tiles = passes * folds * pixel_folds;
            let sum = |f: &dyn Fn(u64) -> u64| over_tiles(mapping.pass_outputs(), tile.o, trips.o, f);
            cost.preloads = tiles * u64::from(trips.o);
            cost.array_tiles = tiles * sum(&streams);
            cost.beats = tiles * u64::from(mapping.pass_outputs());
            occupied = tiles * sum(&stretched);
        }
        Dataflow::OS => {
            let tiles = passes * column_folds * over_pixels(&|m| m.div_ceil(rates.rows));
            cost.array_tiles = tiles * u64::from(trips.c);
            cost.beats = tiles * taps * u64::from(mapping.pass_channels());
            occupied = cost.beats;
        }
    }
    let loads = cost.preloads.saturating_sub(1) * rates.weight_load;
    let mut cycles = if rates.shadow { occupied.max(loads) } else { occupied + loads };
    if !rates.overlap && mapping.dataflow != Dataflow::OS {
        cycles = cycles.max(cost.beats + (cost.array_tiles.saturating_sub(1)) * (rates.rows + rates.cols - 2));
    }
    cost.array = rates.array(cycles);
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

/// All transfers of the layer.
fn transfers(mapping: &MatrixMapping, rates: &Rates, trips: Trips, lengths: [&InputLengths; 2], cost: &mut Cost) {
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
        let [InputLengths(rows), InputLengths(cols)] = lengths;
        let mut channels = Cut::new();
        for (count, times) in cut(passes, tile.passes, trips.passes) {
            for (c, c_times) in cut(mapping.pass_channels(), tile.c, trips.c) {
                channels.push((count * c, times * c_times));
            }
        }
        let whole = [u64::from(shape.h), u64::from(shape.w), u64::from(shape.c)];
        cost.input = sum_boxes(rows, cols, &channels, whole, u64::from(shape.input_bytes())).times(reloads);
    }
    if !mapping.output_resident {
        let mut channels = Cut::new();
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
            cost.weight = cost.weight.plus(records.times(times * o_times * parameter_loads_per_tile(mapping, trips)));
        }
    }
}

/// Sizes of tiles with their number.
type Cut = SmallVec<[(u64, u64); 4]>;

/// Sizes of the tiles of an extent with their number: full ones and the last.
fn cut(extent: u32, tile: u32, trips: u32) -> Cut {
    let last = u64::from(extent) - u64::from(trips - 1) * u64::from(tile);
    if trips == 1 { smallvec![(last, 1)] } else { smallvec![(u64::from(tile), u64::from(trips - 1)), (last, 1)] }
}

/// Distinct lengths with their number.
fn count_equal(lengths: impl Iterator<Item = u32>) -> Cut {
    let mut counts = Cut::new();
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
