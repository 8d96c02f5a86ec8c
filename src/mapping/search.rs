//! Chooses the mapping of a convolution or matrix product: a bounded, deterministic enumeration on the closed form.
//!
//! The space: the machine's dataflows x bundles of groups x tiles of output channels, input channels and pixels x
//! two loop orders x slots. Candidates of a dimension are the smallest tile of each trip count and the multiples of
//! the array's extent; of pixel tiles the largest few that fit. Ties go to fewest bytes, then fewest buffer tiles, then
//! the order of enumeration. The interface is `best`: a provably optimal search can take its place.

use super::{
    cost::{ChannelTiles, Cost, OrderCost, PixelTiles, Rates, TileCost},
    matrix::{BufferTile, LoopOrder, MatrixMapping, Slots, Trips},
    shape::MatrixShape,
    tiling::distinct_tiles,
};
use crate::{
    config::{Accelerator, BufferLayout, Dataflow, DepthwisePolicy, MemoryId, VectorFunction},
    dataflow::OFF_THE_ARRAY,
    units::Time,
};

/// On-chip space that a layer may use, and where its tensors lie.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Constraints {
    /// Bytes of the shared pool taken by resident tensors.
    pub reserved: u64,
    /// Whether the input is resident.
    pub input_resident: bool,
    /// Whether the output is to stay.
    pub output_resident: bool,
    /// The memory space that inputs are loaded from.
    pub input_memory: MemoryId,
    /// The memory space that weights are loaded from.
    pub weight_memory: MemoryId,
    /// The memory space that results are stored to.
    pub output_memory: MemoryId,
    /// Whether groups must not be bundled: an accumulator may overflow, and the order of zeros between groups would
    /// be the array's business.
    pub single_groups: bool,
}

/// What the search found.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Found {
    /// The one that takes least.
    pub mapping: MatrixMapping,
    /// Its closed form.
    pub cost: Cost,
    /// The best of another dataflow, loop order or bundle of groups, with its estimate.
    pub runner_up: Option<(MatrixMapping, Time)>,
    /// Mappings evaluated.
    pub evaluated: u32,
    /// What keeps the tile from being larger: the buffer that the next larger one would not fit; `None` where the
    /// layer is one tile or where larger ones fit and are slower.
    pub stopped_by: Option<Infeasible>,
}

/// A layer that fits no buffer: which one is short, by how much, at the smallest tile.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Infeasible {
    /// `input buffer`, `weight buffer`, `output buffer`, `shared buffer`, `accumulators`.
    pub buffer: &'static str,
    /// Bytes that the smallest tile needs.
    pub needed: u64,
    /// Bytes that there are.
    pub available: u64,
}

/// Whether a mapping fits the buffers.
///
/// # Errors
/// The first buffer that is short, and by how much.
pub fn fits(mapping: &MatrixMapping, accelerator: &Accelerator, constraints: &Constraints) -> Result<(), Infeasible> {
    Footprint::of(mapping).fits(mapping, accelerator, constraints)
}

/// Sizes of one slot of each kind, the same for all choices of slots.
#[derive(Clone, Copy, Debug)]
struct Footprint {
    input: u64,
    weight: u64,
    output: u64,
    accumulators: u64,
}

impl Footprint {
    fn of(mapping: &MatrixMapping) -> Self {
        Self {
            input: mapping.input_slot(),
            weight: mapping.weight_slot() + mapping.parameter_slot(),
            output: mapping.output_slot(),
            accumulators: mapping.accumulator_slot(),
        }
    }

    fn fits(
        &self,
        mapping: &MatrixMapping,
        accelerator: &Accelerator,
        constraints: &Constraints,
    ) -> Result<(), Infeasible> {
        let slots = &mapping.slots;
        let input = self.input * u64::from(slots.input);
        let weight = self.weight * u64::from(slots.weight);
        let output = self.output * u64::from(slots.output);
        let check = |buffer, needed: u64, available: u64| {
            if needed > available { Err(Infeasible { buffer, needed, available }) } else { Ok(()) }
        };
        match accelerator.config.buffers.layout {
            BufferLayout::Shared(pool) => {
                check("shared buffer", input + weight + output, pool.bytes.saturating_sub(constraints.reserved))?;
            }
            BufferLayout::Split { input: i, weight: w, output: o } => {
                check("input buffer", input, i.bytes)?;
                check("weight buffer", weight, w.bytes)?;
                check("output buffer", output, o.bytes)?;
            }
        }
        if !mapping.on_vector {
            let words = self.accumulators * u64::from(slots.accumulator);
            check("accumulators", words * accelerator.accumulator_bytes(), accelerator.config.accumulators.bytes)?;
        }
        Ok(())
    }
}

/// A tile with what all its loop orders and slots share; its cost is worked out when one of them fits.
struct Candidate {
    trips: Trips,
    footprint: Footprint,
    cost: Option<TileCost>,
    /// By loop order.
    ordered: [Option<OrderCost>; 2],
}

/// Slot choices, most overlap first.
const SLOTS: [[u32; 4]; 7] =
    [[2, 2, 2, 2], [1, 2, 2, 2], [2, 1, 2, 2], [2, 2, 1, 1], [1, 2, 1, 1], [2, 1, 1, 1], [1, 1, 1, 1]];

/// Pixel tiles tried for one choice of channels: the largest that fits and the next smaller ones.
const PIXEL_TILES: usize = 4;

/// Whether a depthwise layer runs on the vector unit of this machine.
pub fn depthwise_on_vector(shape: &MatrixShape, accelerator: &Accelerator) -> bool {
    shape.is_depthwise()
        && matches!(accelerator.config.depthwise, DepthwisePolicy::Vector { .. })
        && accelerator.config.vector.cycles_of(VectorFunction::Depthwise).is_some()
}

/// The best mapping of a shape.
///
/// # Errors
/// Which buffer is short at the smallest tile, where nothing fits.
///
/// # Panics
/// Never: a parameter record has 8 or 12 bytes.
pub fn best(
    shape: &MatrixShape,
    accelerator: &Accelerator,
    rates: &Rates,
    constraints: Constraints,
) -> Result<Found, Infeasible> {
    let config = &accelerator.config;
    let on_vector = depthwise_on_vector(shape, accelerator);
    let bundled = config.depthwise == DepthwisePolicy::BlockDiagonal && !constraints.single_groups && !shape.is_pair();
    let bundles: Vec<u32> =
        if bundled { bundle_candidates(shape, config.array.rows, config.array.cols) } else { vec![1] };
    let dataflows: &[Dataflow] = if on_vector { &[OFF_THE_ARRAY] } else { &config.array.dataflows };
    let smallest = MatrixMapping {
        shape: *shape,
        dataflow: dataflows[0],
        on_vector,
        groups_per_pass: 1,
        tile: BufferTile { passes: 1, n: 1, p: 1, q: 1, o: 1, c: 1 },
        order: LoopOrder::OutputsOuter,
        slots: Slots { input: 1, weight: 1, output: 1, accumulator: 1 },
        input_resident: constraints.input_resident,
        output_resident: constraints.output_resident,
        input_memory: constraints.input_memory,
        weight_memory: constraints.weight_memory,
        output_memory: constraints.output_memory,
        parameter_bytes: u32::try_from(accelerator.parameter_bytes()).expect("8 or 12"),
    };
    // No tile takes less: what does not fit now never will.
    fits(&smallest, accelerator, &constraints)?;
    let mut search = Search { accelerator, rates, constraints, best: None, runner_up: None, evaluated: 0 };
    for thorough in [false, true] {
        for &dataflow in dataflows {
            for &groups_per_pass in &bundles {
                search.enumerate(&MatrixMapping { dataflow, groups_per_pass, ..smallest }, thorough);
            }
        }
        if search.best.is_some() {
            break;
        }
    }
    let tightest = search.tightest();
    match search.best {
        Some((mapping, cost)) => Ok(Found {
            mapping,
            cost,
            runner_up: search.runner_up.map(|(mapping, cost)| (mapping, cost.estimate)),
            evaluated: search.evaluated,
            stopped_by: tightest,
        }),
        // The smallest tile fits, and the thorough enumeration has it.
        None => Err(Infeasible { buffer: "buffers", needed: 0, available: 0 }),
    }
}

/// Bundles of groups worth trying: one, and the divisors of the number of groups whose blocks fill columns or rows at
/// most about once.
fn bundle_candidates(shape: &MatrixShape, rows: u32, cols: u32) -> Vec<u32> {
    let outputs = shape.o / shape.groups;
    let depth = u64::from(shape.c / shape.groups) * shape.taps();
    let by_columns = (cols / outputs).max(1);
    let by_rows = u32::try_from((u64::from(rows) / depth).clamp(1, u64::from(u32::MAX))).expect("clamped");
    let mut bundles: Vec<u32> = vec![1];
    for limit in [by_rows, by_columns] {
        if let Some(divisor) = (1..=limit.min(shape.groups)).rev().find(|divisor| shape.groups.is_multiple_of(*divisor))
        {
            bundles.push(divisor);
        }
    }
    bundles.sort_unstable();
    bundles.dedup();
    bundles
}

struct Search<'a> {
    accelerator: &'a Accelerator,
    rates: &'a Rates,
    constraints: Constraints,
    best: Option<(MatrixMapping, Cost)>,
    runner_up: Option<(MatrixMapping, Cost)>,
    evaluated: u32,
}

impl Search<'_> {
    /// Why the best tile is not larger: what is short if one more loop were closed, the innermost that is open first.
    fn tightest(&self) -> Option<Infeasible> {
        let (mapping, _) = self.best?;
        let (tile, shape, trips) = (mapping.tile, &mapping.shape, mapping.trips());
        let larger = [
            (trips.c, BufferTile { c: mapping.pass_channels(), ..tile }),
            (trips.q, BufferTile { q: shape.q, ..tile }),
            (trips.p, BufferTile { p: grown(shape.p, trips.p), ..tile }),
            (trips.n, BufferTile { n: grown(shape.n, trips.n), ..tile }),
            (trips.o, BufferTile { o: grown(mapping.pass_outputs(), trips.o), ..tile }),
            (trips.passes, BufferTile { passes: grown(mapping.passes(), trips.passes), ..tile }),
        ];
        let larger = &larger[..if shape.is_pair() { larger.len() - 1 } else { larger.len() }];
        larger.iter().filter(|(trips, _)| *trips > 1).find_map(|&(_, tile)| {
            let mut mapping = MatrixMapping { tile, ..mapping };
            let trips = mapping.trips();
            normalize_slots(&mut mapping, trips);
            fits(&mapping, self.accelerator, &self.constraints).err()
        })
    }

    fn enumerate(&mut self, base: &MatrixMapping, thorough: bool) {
        let array = &self.accelerator.config.array;
        let taps = u32::try_from(base.shape.taps()).unwrap_or(u32::MAX);
        let outputs = tile_candidates(base.pass_outputs(), array.cols, thorough);
        let channels = if base.on_vector {
            vec![base.pass_channels()]
        } else {
            let step = array.rows / gcd(array.rows, taps);
            tile_candidates(base.pass_channels(), step, thorough)
        };
        let pixels = pixel_tiles(base);
        let slot_choices: &[[u32; 4]] =
            if self.accelerator.config.buffers.double_buffering { &SLOTS } else { &SLOTS[SLOTS.len() - 1..] };
        // Whole passes together, or parts of one.
        let mut combinations: Vec<(u32, u32, u32)> = Vec::new();
        // Products of a batch lie anywhere: one at a time.
        if base.passes() > 1 && !base.shape.is_pair() {
            for passes in distinct_tiles(base.passes()) {
                if passes > 1 {
                    combinations.push((passes, base.pass_outputs(), base.pass_channels()));
                }
            }
        }
        for &o in &outputs {
            for &c in &channels {
                combinations.push((1, o, c));
            }
        }
        let pixel_tiles: Vec<PixelTiles> = pixels
            .iter()
            .map(|&(n, p, q)| {
                PixelTiles::of(&MatrixMapping { tile: BufferTile { n, p, q, ..base.tile }, ..*base }, self.rates)
            })
            .collect();
        let mut candidates: Vec<Candidate> = Vec::with_capacity(pixels.len());
        for (passes, o, c) in combinations {
            let channel_tiles = ChannelTiles::of(
                &MatrixMapping { tile: BufferTile { passes, o, c, ..base.tile }, ..*base },
                self.rates,
            );
            candidates.clear();
            candidates.extend(pixels.iter().map(|&(n, p, q)| {
                let mapping = MatrixMapping { tile: BufferTile { passes, n, p, q, o, c }, ..*base };
                Candidate { trips: mapping.trips(), footprint: Footprint::of(&mapping), cost: None, ordered: [None; 2] }
            }));
            for slots in slot_choices {
                let mut tried = 0;
                for ((&(n, p, q), pixels), candidate) in pixels.iter().zip(&pixel_tiles).zip(&mut candidates) {
                    let mut mapping = MatrixMapping {
                        tile: BufferTile { passes, n, p, q, o, c },
                        slots: Slots { input: slots[0], weight: slots[1], output: slots[2], accumulator: slots[3] },
                        ..*base
                    };
                    let trips = candidate.trips;
                    normalize_slots(&mut mapping, trips);
                    if candidate.footprint.fits(&mapping, self.accelerator, &self.constraints).is_err() {
                        continue;
                    }
                    let orders = [LoopOrder::OutputsOuter, LoopOrder::PixelsOuter];
                    let tile = candidate
                        .cost
                        .get_or_insert_with(|| TileCost::of(&mapping, self.rates, trips, pixels, &channel_tiles));
                    for (order, ordered) in orders.into_iter().zip(&mut candidate.ordered) {
                        mapping.order = order;
                        let ordered = &*ordered.get_or_insert_with(|| tile.ordered(&mapping, self.rates));
                        self.consider(&mapping, ordered);
                        if trips.o == 1 || trips.pixels() == 1 {
                            break;
                        }
                    }
                    tried += 1;
                    if tried == PIXEL_TILES {
                        break;
                    }
                }
            }
        }
    }

    fn consider(&mut self, mapping: &MatrixMapping, ordered: &OrderCost) {
        self.evaluated += 1;
        let estimate = ordered.estimate(mapping, self.rates);
        // By the estimate, then bytes, then buffer tiles.
        let better = |than: &Option<(MatrixMapping, Cost)>| {
            than.as_ref().is_none_or(|(other, known)| {
                let order = estimate.cmp(&known.estimate).then_with(|| ordered.bytes().cmp(&known.bytes()));
                order.then_with(|| mapping.trips().steps().cmp(&other.trips().steps())).is_lt()
            })
        };
        let class = |m: &MatrixMapping| (m.dataflow, m.order, m.groups_per_pass);
        if better(&self.best) {
            if let Some(previous) = self.best.take()
                && class(&previous.0) != class(mapping)
            {
                self.runner_up = Some(previous);
            }
            if self.runner_up.as_ref().is_some_and(|(other, _)| class(other) == class(mapping)) {
                self.runner_up = None;
            }
            self.best = Some((*mapping, ordered.cost(estimate)));
        } else if self.best.as_ref().is_some_and(|(other, _)| class(other) != class(mapping)) && better(&self.runner_up)
        {
            self.runner_up = Some((*mapping, ordered.cost(estimate)));
        }
    }
}

/// Drops slots that an operand with a single tile would never use.
fn normalize_slots(mapping: &mut MatrixMapping, trips: Trips) {
    let passes = u64::from(trips.passes);
    let limit = |slots: &mut u32, tiles: u64| {
        if tiles == 1 {
            *slots = 1;
        }
    };
    limit(&mut mapping.slots.input, passes * trips.pixels() * u64::from(trips.c));
    limit(&mut mapping.slots.weight, passes * u64::from(trips.o) * u64::from(trips.c));
    limit(&mut mapping.slots.output, passes * trips.pixels() * u64::from(trips.o));
    limit(&mut mapping.slots.accumulator, passes * trips.pixels() * u64::from(trips.o));
}

/// Tiles of a channel dimension: whole, the smallest of the first trip counts, multiples of `step` in powers of two.
/// `thorough` takes every distinct one, or of very many the powers of two.
fn tile_candidates(extent: u32, step: u32, thorough: bool) -> Vec<u32> {
    /// Distinct tiles of an extent of 4096.
    const MANY: usize = 128;
    let mut tiles = distinct_tiles(extent);
    if thorough && tiles.len() > MANY {
        return tile_candidates(extent, 1, false);
    }
    if !thorough {
        tiles.truncate(6);
        let mut tile = u64::from(step.max(1));
        while tile < u64::from(extent) {
            tiles.push(u32::try_from(tile).expect("below a 32-bit extent"));
            tile *= 2;
        }
        tiles.sort_unstable_by(|a, b| b.cmp(a));
        tiles.dedup();
    }
    tiles
}

/// Pixel tiles, largest first: whole images, then rows of one image, then parts of one row.
fn pixel_tiles(base: &MatrixMapping) -> Vec<(u32, u32, u32)> {
    let shape = &base.shape;
    let mut tiles: Vec<(u32, u32, u32)> = Vec::new();
    tiles.extend(distinct_tiles(shape.n).into_iter().map(|n| (n, shape.p, shape.q)));
    tiles.extend(distinct_tiles(shape.p).into_iter().map(|p| (1, p, shape.q)));
    tiles.extend(distinct_tiles(shape.q).into_iter().map(|q| (1, 1, q)));
    tiles.dedup();
    tiles
}

/// The smallest tile of one trip fewer.
fn grown(extent: u32, trips: u32) -> u32 {
    extent.div_ceil(trips.saturating_sub(1).max(1))
}

fn gcd(a: u32, b: u32) -> u32 {
    if b == 0 { a } else { gcd(b, a % b) }
}
