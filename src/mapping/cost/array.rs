//! The array's work in closed form, from below: the law of `dataflow` summed over the tiles of a layer without a walk.

use super::{ChannelTiles, Cost, PixelTiles, Rates, traffic::TilePixels};
use crate::{
    dataflow::{Nest, Product, Share, deal, schedule},
    mapping::{
        matrix::{MatrixMapping, Trips},
        tiling::Lengths,
    },
};

/// What the array does for one pass of one step. Counts stop at the largest number, where time has ended long before.
#[derive(Clone, Copy, Debug, Default)]
struct PassWork {
    preloads: u64,
    tiles: u64,
    beats: u64,
    /// Cycles from the first stream's start to the start of the first stream after the pass.
    gaps: u64,
}

impl PassWork {
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
pub(super) struct Stretches {
    /// In the first output tile.
    pub first_tile: u64,
    /// In the last step, which is the smallest.
    pub last_step: u64,
}

impl Rates {
    /// Cycles from a run of `rows` rows to the next one past the same operand.
    fn run(&self, rows: u64) -> u64 {
        let (law, streams) = (&self.law, self.extents.streams(rows));
        let bubble = law.min_stream.saturating_sub(rows - (streams - 1) * self.extents.max_stream);
        let drained = rows + law.stationary_latency(1) * streams;
        if law.overlap { rows + bubble } else { drained.max(rows + bubble) }
    }

    /// Cycles from the first stream of a stationary operand that `runs` runs of `rows` rows pass to the first of the next
    /// one.
    fn gap(&self, runs: u64, rows: u64) -> u64 {
        let (law, own) = (&self.law, self.run(rows));
        let before = own.saturating_mul(runs - 1);
        // From a beat that uses the operand to the next operand's stream.
        let load = law.room + law.load;
        // That loads follow each other is counted by `array_work` as a whole: a stream may wait for more than its load.
        match law.shadow_depth {
            0 if law.overlap => before.saturating_add(own.max(rows - 1 + load)),
            0 => {
                let drained = rows + law.stationary_latency(1) * self.extents.streams(rows);
                before.saturating_add(own.max(rows - 1 + load).max(drained + law.load))
            }
            1 => before.saturating_add(own).max(load),
            // Two loads may follow each other: `array_work` counts them as a whole.
            _ => before.saturating_add(own),
        }
    }

    /// Cycles from the first stream of a stationary operand to the end of its last.
    fn stretch(&self, runs: u64, rows: u64) -> u64 {
        let drains = if self.law.overlap { 0 } else { self.extents.streams(rows) - 1 };
        self.run(rows).saturating_mul(runs - 1).saturating_add(rows + self.law.stationary_latency(1) * drains)
    }

    /// Cycles from the stream of an output stationary tile to the next one's.
    fn output_gap(&self, depth: u64) -> u64 {
        let law = &self.law;
        let free = if law.overlap { depth.max(law.drain) } else { depth + law.output_latency(1) };
        free.max(law.min_stream)
    }

    /// Preloads, array tiles and beats, whatever time they take.
    fn count(&self, nest: Nest) -> PassWork {
        match nest {
            Nest::Stationary { repeats, folds, operands, runs, rows } => {
                let loads = repeats.saturating_mul(folds * operands);
                let streams = loads.saturating_mul(runs);
                PassWork {
                    preloads: loads,
                    tiles: streams.saturating_mul(self.extents.streams(rows)),
                    beats: streams.saturating_mul(rows),
                    gaps: 0,
                }
            }
            Nest::Streaming { tiles, beats } => {
                PassWork { preloads: 0, tiles, beats: tiles.saturating_mul(beats), gaps: 0 }
            }
        }
    }

    fn work(&self, nest: Nest) -> PassWork {
        let gaps = match nest {
            // All folds but the first add to sums of the one before, which must have come out where they are injected.
            Nest::Stationary { repeats, folds, operands, runs, rows } => {
                let fold = operands.saturating_mul(self.gap(runs, rows));
                let next = fold.max(self.law.accumulation_wait.unwrap_or(0));
                (folds - 1).saturating_mul(next).saturating_add(fold).saturating_mul(repeats)
            }
            Nest::Streaming { tiles, beats } => tiles.saturating_mul(self.output_gap(beats)),
        };
        PassWork { gaps, ..self.count(nest) }
    }

    /// Of so many cycles between streams, those until the last stream's end: from the last unit on, its stream alone
    /// counts, not the distance to a next one.
    fn to_end(&self, gaps: u64, nest: Nest) -> u64 {
        let (next, own) = match nest {
            Nest::Stationary { runs, rows, .. } => (self.gap(runs, rows), self.stretch(runs, rows)),
            Nest::Streaming { beats, .. } => (self.output_gap(beats), beats),
        };
        gaps.saturating_sub(next).saturating_add(own)
    }
}

/// An output stationary tile whose folds of K follow each other in the elements: what all its steps come to.
#[derive(Clone, Copy, Debug)]
struct KeptTile {
    work: PassWork,
    /// Cycles from its first stream's start to its last stream's end.
    stretch: u64,
}

impl KeptTile {
    /// `channels` are the sizes of its steps with their number.
    fn of(taps: u64, rates: &Rates, channels: &Lengths) -> Self {
        let law = &rates.law;
        let (mut work, mut occupied, mut last) = (PassWork::default(), 0, 0);
        for &(c, times) in channels {
            let depth = taps * c;
            work.tiles += times;
            work.beats += depth * times;
            occupied += depth.max(law.min_stream) * times;
            last = depth;
        }
        let stretch = occupied - last.max(law.min_stream) + last;
        // One flush a tile: the rows shift out while the next tile streams, or before it.
        work.gaps = occupied.max(if law.overlap { law.drain } else { stretch + law.output_latency(1) });
        Self { work, stretch }
    }
}

/// Adds the array's work of a layer to its cost.
pub(super) fn array_work(
    mapping: &MatrixMapping,
    rates: &Rates,
    trips: Trips,
    pixels: &PixelTiles,
    channels: &ChannelTiles,
    cost: &mut Cost,
) -> Stretches {
    if mapping.on_vector {
        return Stretches::default();
    }
    let (tile, taps) = (&mapping.tile, mapping.shape.taps());
    let schedule = schedule(mapping.dataflow);
    let shares = |size: TilePixels, outputs: u64, channels: u64| {
        let TilePixels { pixels, row } = size;
        deal(schedule, &Product { pixels, row, outputs, taps, channels }, &rates.extents)
    };
    // The first of several arrays has the largest share of every product: the others are done no later.
    let nest = |size, outputs, channels| schedule.nest(&shares(size, outputs, channels)[0].product, &rates.extents);
    let passes = u64::from(mapping.passes());
    let first_passes = u64::from(mapping.tile.passes.min(mapping.passes()));
    let last_passes = passes - u64::from(trips.passes - 1) * u64::from(tile.passes);
    let (outputs, channels) = (&channels.pass_outputs, &channels.pass_channels);
    let last = |lengths: &[(u64, u64)]| lengths.last().map_or(0, |&(length, _)| length);
    let [first_pixels, last_pixels] = pixels.ends();
    let last_nest = nest(last_pixels, last(outputs), last(channels));
    let mut last_step = PassWork::default();
    last_step.add(rates.work(last_nest), last_passes);
    let last_step = rates.to_end(last_step.gaps, last_nest);

    let (mut total, mut others) = (PassWork::default(), PassWork::default());
    let (mut cycles, first_tile);
    if mapping.keeps_sums(&rates.extents) {
        let kept = KeptTile::of(taps, rates, channels);
        total.add(kept.work, trips.pixels() * u64::from(trips.o) * passes);
        cycles = total.gaps.saturating_sub(kept.work.gaps).saturating_add(kept.stretch);
        first_tile = kept.stretch;
    } else {
        let mut first = PassWork::default();
        let mut is_first = true;
        for &(m, m_times) in pixels.sizes() {
            for &(o, o_times) in outputs {
                for &(c, c_times) in channels {
                    let (shares, times) = (shares(m, o, c), m_times * o_times * c_times * passes);
                    let nest = |share: &Share| schedule.nest(&share.product, &rates.extents);
                    let work = rates.work(nest(&shares[0]));
                    total.add(work, times);
                    for share in &shares[1..] {
                        others.add(rates.count(nest(share)), times);
                    }
                    if is_first {
                        first.add(work, c_times * first_passes);
                    }
                }
                is_first = false;
            }
        }
        cycles = rates.to_end(total.gaps, last_nest);
        first_tile = rates.to_end(first.gaps, nest(first_pixels, outputs[0].0, last(channels)));
    }
    cost.preloads = total.preloads.saturating_add(others.preloads);
    cost.array_tiles = total.tiles.saturating_add(others.tiles);
    cost.beats = total.beats.saturating_add(others.beats);
    // The first loads need not wait for the first stream; from then on they follow each other, and a stream the last.
    let law = &rates.law;
    if let Some(behind @ 1..) = total.preloads.checked_sub(law.shadow_depth.max(1)) {
        cycles = cycles.max((behind - 1).saturating_mul(law.load_period).saturating_add(law.load));
    }
    cost.array = rates.array(cycles);
    Stretches { first_tile, last_step }
}
