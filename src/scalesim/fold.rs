//! How a layer folds onto the array, how long its folds take, and the utilizations. Knows no addresses and no buffers.

use crate::{
    config::scalesim::{ScaleSimConfig, Stays},
    import::scalesim::Convolution,
};

/// Rows or columns of the largest array.
pub const ARRAY_LIMIT: u64 = 1 << 16;
/// Cycles and words beyond which SCALE-Sim's own numbers, which pass through doubles, are no integers any more.
const EXACT: u64 = 1 << 52;
/// Folds whose utilizations are added one by one, as SCALE-Sim does.
const ADDED_FOLDS: u64 = 1 << 20;

/// Why a layer is not counted.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum SizeError {
    /// A figure of the layer leaves the range in which SCALE-Sim's are exact.
    #[error("too large: its {0} are more than 2^52, beyond which SCALE-Sim's own figures are not exact")]
    Inexact(&'static str),
    /// An input that no table holds.
    #[error("too large: its input has {0} words, and 2^30 can be told apart")]
    Input(u64),
    /// Counting takes too long.
    #[error("too large: its {0} are more than can be counted (docs/scalesim.md has the limits)")]
    Steps(&'static str),
}

/// How an operand meets the array.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Motion {
    /// Streams into the rows, row by row in skew; the same for all column folds.
    IntoRows,
    /// Streams into the columns, in skew; the same for all row folds of a column fold.
    IntoColumns,
    /// Is loaded before each fold, a row a cycle, the last row of the fold first.
    Stays,
}

/// A layer as `S_R` rows by `S_C` columns by `T` beats on an array of `R x C`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Folds {
    /// The dataflow.
    pub dataflow: Stays,
    /// Output pixels.
    pub m: u64,
    /// Products of a sum.
    pub k: u64,
    /// Filters.
    pub n: u64,
    /// `R`.
    pub rows: u64,
    /// `C`.
    pub cols: u64,
    /// `S_R`.
    pub over_rows: u64,
    /// `S_C`.
    pub over_cols: u64,
    /// `T`.
    pub beats: u64,
    /// `RF = ceil(S_R / R)`.
    pub row_folds: u64,
    /// `CF = ceil(S_C / C)`.
    pub col_folds: u64,
    /// `F`: cycles of a fold, ragged or not.
    pub period: u64,
}

/// A fold's place: column folds are the outer loop.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct FoldIndex {
    /// Of `CF`.
    pub col: u64,
    /// Of `RF`.
    pub row: u64,
}

impl Folds {
    /// Folds a layer.
    ///
    /// # Errors
    /// Sizes whose figures SCALE-Sim cannot hold exactly.
    pub fn of(layer: &Convolution, config: &ScaleSimConfig) -> Result<Self, SizeError> {
        let bounded = |what, factors: &[u64]| {
            factors
                .iter()
                .try_fold(1_u64, |product, &factor| product.checked_mul(factor))
                .filter(|&product| product < EXACT)
                .ok_or(SizeError::Inexact(what))
        };
        let [height, width] = layer.output();
        let m = bounded("output pixels", &[height, width])?;
        let k = bounded("products of a sum", &[layer.filter[0], layer.filter[1], layer.channels])?;
        let n = layer.filters;
        let (rows, cols) = (config.rows, config.cols);
        let (over_rows, over_cols, beats) = match config.dataflow {
            Stays::Outputs => (m, n, k),
            Stays::Filters => (k, n, m),
            Stays::Inputs => (k, m, n),
        };
        let load = if config.dataflow == Stays::Outputs { 0 } else { rows };
        let period = beats + load + rows + cols - 2;
        let (row_folds, col_folds) = (over_rows.div_ceil(rows), over_cols.div_ceil(cols));
        bounded("cycles", &[row_folds, col_folds, period])?;
        bounded("words", &[row_folds, col_folds, rows + cols, 2])?;
        // How often each operand passes between the array and its buffer.
        let [ifmap, filter, ofmap] = match config.dataflow {
            Stays::Outputs => [col_folds, row_folds, 1],
            Stays::Filters => [col_folds, 1, row_folds],
            Stays::Inputs => [1, col_folds, row_folds],
        };
        bounded("words", &[m, k, ifmap])?;
        bounded("words", &[k, n, filter])?;
        bounded("words", &[m, n, ofmap])?;
        bounded("products", &[m, k, n])?;
        bounded("words", &[layer.ifmap[0], layer.ifmap[1], layer.channels])?;
        Ok(Self {
            dataflow: config.dataflow,
            m,
            k,
            n,
            rows,
            cols,
            over_rows,
            over_cols,
            beats,
            row_folds,
            col_folds,
            period,
        })
    }

    /// `Total Cycles`: one less than the folds take.
    pub const fn total(&self) -> u64 {
        self.serial() - 1
    }

    /// What the folds take one after the other.
    pub const fn serial(&self) -> u64 {
        self.row_folds * self.col_folds * self.period
    }

    /// How the input meets the array.
    pub const fn ifmap(&self) -> Motion {
        match self.dataflow {
            Stays::Outputs | Stays::Filters => Motion::IntoRows,
            Stays::Inputs => Motion::Stays,
        }
    }

    /// How the weights meet the array.
    pub const fn filter(&self) -> Motion {
        match self.dataflow {
            Stays::Outputs => Motion::IntoColumns,
            Stays::Filters => Motion::Stays,
            Stays::Inputs => Motion::IntoRows,
        }
    }

    /// Cycles of a fold before operands stream into the rows: a stationary operand's load.
    pub const fn load(&self) -> u64 {
        match self.dataflow {
            Stays::Outputs => 0,
            Stays::Filters | Stays::Inputs => self.rows,
        }
    }

    /// Rows that a row fold uses.
    pub const fn rows_of(&self, row: u64) -> u64 {
        let left = self.over_rows - row * self.rows;
        if left < self.rows { left } else { self.rows }
    }

    /// Columns that a column fold uses.
    pub const fn cols_of(&self, col: u64) -> u64 {
        let left = self.over_cols - col * self.cols;
        if left < self.cols { left } else { self.cols }
    }

    /// The cycle in which a fold begins.
    pub const fn begin(&self, fold: FoldIndex) -> u64 {
        (fold.col * self.row_folds + fold.row) * self.period
    }

    /// The last fold.
    pub const fn last(&self) -> FoldIndex {
        FoldIndex { col: self.col_folds - 1, row: self.row_folds - 1 }
    }

    /// `Overall Util %`: stalls in, cold start out. Evaluated in SCALE-Sim's order, to its last digit.
    pub fn overall_utilization(&self, total: u64) -> f64 {
        (100 * u128::from(self.m * self.n * self.k)) as f64 / (u128::from(total) * u128::from(self.elements())) as f64
    }

    /// `Mapping Efficiency %`.
    pub fn mapping_efficiency(&self) -> f64 {
        let held = u128::from(self.row_folds * self.col_folds) * u128::from(self.elements());
        (u128::from(self.over_rows) * u128::from(self.over_cols)) as f64 / held as f64 * 100.0
    }

    /// `Compute Util %`: the mean over folds of `mapping * T / F'`, where `F'` counts the columns twice for a
    /// stationary operand (its fault). Added fold by fold as SCALE-Sim does, which decides the last digits.
    pub fn compute_utilization(&self) -> f64 {
        let period = if self.dataflow == Stays::Outputs { self.period } else { self.period + self.cols - 1 } as f64;
        let (beats, elements) = (self.beats as f64, self.elements() as f64);
        let folds = self.row_folds * self.col_folds;
        if folds > ADDED_FOLDS {
            return self.mapping_efficiency() * beats / period;
        }
        let mut sum = 0.0;
        for col in 0..self.col_folds {
            for row in 0..self.row_folds {
                let mapped = (self.rows_of(row) * self.cols_of(col)) as f64 / elements;
                sum += mapped * beats / period;
            }
        }
        sum / folds as f64 * 100.0
    }

    const fn elements(&self) -> u64 {
        self.rows * self.cols
    }
}

/// Words on lanes of which each begins a cycle after the one before it: lane `l` has a word in cycles `l..l + beats`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Skewed {
    /// How many lanes.
    pub lanes: u64,
    /// Words of a lane.
    pub beats: u64,
}

impl Skewed {
    /// Words in cycles before `cycle`.
    pub fn before(&self, cycle: u64) -> u64 {
        let begun = self.lanes.min(cycle);
        // Lane `l` is over when `cycle - l >= beats`.
        let over = if cycle < self.beats { 0 } else { self.lanes.min(cycle - self.beats + 1) };
        // Between them lanes `over..begun` have `cycle - l` words each.
        let running: u64 = if begun > over {
            let (count, first, last) = (begun - over, cycle - over, cycle - (begun - 1));
            count * (first + last) / 2
        } else {
            0
        };
        over * self.beats + running
    }

    /// The cycle of the word with this index, counted from 0 cycle by cycle.
    pub fn cycle_of(&self, word: u64) -> u64 {
        let (mut low, mut high) = (0, self.lanes + self.beats - 1);
        // The first cycle with `before(cycle + 1) > word`.
        while low < high {
            let middle = low.midpoint(high);
            if self.before(middle + 1) > word { high = middle } else { low = middle + 1 }
        }
        low
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_skewed_stream_is_what_it_says_lane_by_lane() {
        for (lanes, beats) in [(1, 1), (1, 5), (4, 1), (3, 7), (7, 3), (5, 5)] {
            let stream = Skewed { lanes, beats };
            let mut cycles: Vec<u64> = (0..lanes).flat_map(|lane| lane..lane + beats).collect();
            cycles.sort_unstable();
            for (index, &cycle) in (0_u64..).zip(&cycles) {
                assert_eq!(stream.cycle_of(index), cycle, "{stream:?} {index}");
            }
            for cycle in 0..lanes + beats + 2 {
                let expected = cycles.iter().filter(|&&at| at < cycle).count() as u64;
                assert_eq!(stream.before(cycle), expected, "{stream:?} {cycle}");
            }
        }
    }
}
