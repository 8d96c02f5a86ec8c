//! Weight stationary: rows hold K, columns hold output channels, input rows stream.

use super::{ArrayExtents, ArrayLaw, ArrayTile, Command, Folds, Nest, Operand, Product, Schedule, pieces};

pub(super) struct WeightStationary;

impl Schedule for WeightStationary {
    fn stationary(&self) -> Option<Operand> {
        Some(Operand::Weight)
    }

    /// Folds of K outside: neighbouring tiles write different columns, so that a tile that adds to sums still under way
    /// in the array waits as little as possible.
    fn commands(&self, product: &Product, array: &ArrayExtents, give: &mut dyn FnMut(Command)) {
        for k in self.folds(product.taps, product.channels, array) {
            for outputs in pieces(product.outputs, array.cols) {
                give(Command::Preload { operand: Operand::Weight, columns: outputs, k });
                for pixels in product.pixel_pieces(array.max_stream) {
                    give(Command::Stream(ArrayTile { pixels, outputs, k }));
                }
            }
        }
    }

    fn nest(&self, product: &Product, array: &ArrayExtents) -> Nest {
        Nest::Stationary {
            repeats: 1,
            folds: array.fold_count(product.taps, product.channels),
            operands: product.outputs.div_ceil(array.cols),
            runs: product.rows(),
            rows: product.row,
        }
    }

    fn granules(&self, array: &ArrayExtents) -> [u64; 2] {
        [1, array.cols]
    }

    fn folds(&self, taps: u64, channels: u64, array: &ArrayExtents) -> Folds {
        array.folds(taps, channels)
    }

    fn result_latency(&self, law: &ArrayLaw) -> u64 {
        law.stationary_latency(1)
    }

    fn description(&self) -> &'static str {
        "for each fold of outputs and of K, preload weights and stream pixels"
    }
}
