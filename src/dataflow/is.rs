//! Input stationary: rows hold K, columns hold output pixels, weight rows stream.

use super::{ArrayExtents, ArrayLaw, ArrayTile, Command, Folds, Nest, Operand, Product, Schedule, pieces};

pub(super) struct InputStationary;

impl Schedule for InputStationary {
    fn stationary(&self) -> Option<Operand> {
        Some(Operand::Input)
    }

    fn commands(&self, product: &Product, array: &ArrayExtents, give: &mut dyn FnMut(Command)) {
        let folds = self.folds(product.taps, product.channels, array);
        for pixels in product.pixel_pieces(array.cols) {
            for &k in &folds {
                give(Command::Preload { operand: Operand::Input, columns: pixels, k });
                for outputs in pieces(product.outputs, array.max_stream) {
                    give(Command::Stream(ArrayTile { pixels, outputs, k }));
                }
            }
        }
    }

    fn nest(&self, product: &Product, array: &ArrayExtents) -> Nest {
        Nest::Stationary {
            repeats: product.pixel_folds(array.cols),
            folds: array.fold_count(product.taps, product.channels),
            operands: 1,
            runs: 1,
            rows: product.outputs,
        }
    }

    fn granules(&self, array: &ArrayExtents) -> [u64; 2] {
        [array.cols, 1]
    }

    fn folds(&self, taps: u64, channels: u64, array: &ArrayExtents) -> Folds {
        array.folds(taps, channels)
    }

    fn result_latency(&self, law: &ArrayLaw) -> u64 {
        law.stationary_latency(1)
    }

    fn description(&self) -> &'static str {
        "for each fold of pixels and of K, preload pixels and stream weights"
    }
}
