//! How several arrays share a product: each computes some of its sums whole, so that the order of K is that of one array.
//!
//! Either the outputs are dealt out or the pixels, in neighbouring parts of whole granules, as long as they reach; what takes the
//! first array fewer cycles, of equal ones the outputs, whose arrays could read the same pixels. The first array's part is
//! nowhere smaller than another's.

use smallvec::{SmallVec, smallvec};

use super::{ArrayExtents, ArrayTile, Command, Nest, Operand, Product, Range, Schedule, pieces};

/// What one array computes of a product.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Share {
    first_pixel: u32,
    first_output: u32,
    /// Its part, counted from 0.
    pub product: Product,
}

/// Parts in the order of the arrays; arrays beyond have none.
pub type Shares = SmallVec<[Share; 4]>;

/// Deals a product out to the arrays.
pub fn deal(schedule: &dyn Schedule, product: &Product, extents: &ArrayExtents) -> Shares {
    let whole = Share { first_pixel: 0, first_output: 0, product: *product };
    if extents.arrays <= 1 {
        return smallvec![whole];
    }
    let (by_outputs, by_pixels) = (outputs(schedule, product, extents), pixels(schedule, product, extents));
    let cycles = |shares: &Shares| shares.first().map_or(0, |share| cycles(schedule, &share.product, extents));
    if cycles(&by_pixels) < cycles(&by_outputs) { by_pixels } else { by_outputs }
}

/// Beats of a part, where a stationary operand takes at least as many as the array has rows.
fn cycles(schedule: &dyn Schedule, product: &Product, extents: &ArrayExtents) -> u64 {
    match schedule.nest(product, extents) {
        Nest::Stationary { repeats, folds, operands, runs, rows } => {
            let beats = runs.saturating_mul(rows).max(extents.rows);
            repeats.saturating_mul(folds).saturating_mul(operands).saturating_mul(beats)
        }
        Nest::Streaming { tiles, beats } => tiles.saturating_mul(beats),
    }
}

/// `total` of `granule` each in at most as many parts as there are arrays.
fn parts(total: u64, granule: u64, arrays: u64) -> impl Iterator<Item = Range> {
    pieces(total, total.div_ceil(granule).div_ceil(arrays) * granule)
}

fn outputs(schedule: &dyn Schedule, product: &Product, extents: &ArrayExtents) -> Shares {
    let [_, granule] = schedule.granules(extents);
    let share = |part: Range| Share {
        first_pixel: 0,
        first_output: part.start,
        product: Product { outputs: part.len.into(), ..*product },
    };
    parts(product.outputs, granule, extents.arrays).map(share).collect()
}

fn pixels(schedule: &dyn Schedule, product: &Product, extents: &ArrayExtents) -> Shares {
    // Stretches stay whole, where there are several.
    let (granule, stretch) = match product.rows() {
        1 => (schedule.granules(extents)[0], None),
        _ => (product.row, Some(product.row)),
    };
    let share = |part: Range| {
        let pixels = u64::from(part.len);
        Share {
            first_pixel: part.start,
            first_output: 0,
            product: Product { pixels, row: stretch.unwrap_or(pixels), ..*product },
        }
    };
    parts(product.pixels, granule, extents.arrays).map(share).collect()
}

impl Share {
    /// The commands of the part, in the whole product's pixels and outputs.
    pub fn commands(&self, schedule: &dyn Schedule, extents: &ArrayExtents, give: &mut dyn FnMut(Command)) {
        let pixels = |range: Range| Range { start: range.start + self.first_pixel, ..range };
        let outputs = |range: Range| Range { start: range.start + self.first_output, ..range };
        schedule.commands(&self.product, extents, &mut |command| {
            give(match command {
                Command::Preload { operand: operand @ Operand::Input, columns, k } => {
                    Command::Preload { operand, columns: pixels(columns), k }
                }
                Command::Preload { operand: operand @ Operand::Weight, columns, k } => {
                    Command::Preload { operand, columns: outputs(columns), k }
                }
                Command::Stream(tile) => Command::Stream(ArrayTile {
                    pixels: pixels(tile.pixels),
                    outputs: outputs(tile.outputs),
                    k: tile.k,
                }),
            });
        });
    }
}
