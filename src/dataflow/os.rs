//! Output stationary: rows hold output pixels, columns output channels, K streams and the sums drain.

use smallvec::smallvec;

use super::{
    ArrayExtents, ArrayLaw, ArrayTile, Command, Folds, Nest, Operand, Product, Range, Schedule, narrow, pieces,
};

pub(super) struct OutputStationary;

impl Schedule for OutputStationary {
    fn stationary(&self) -> Option<Operand> {
        None
    }

    fn commands(&self, product: &Product, array: &ArrayExtents, give: &mut dyn FnMut(Command)) {
        let k = Range { start: 0, len: narrow(product.depth()) };
        for pixels in product.pixel_pieces(array.rows) {
            for outputs in pieces(product.outputs, array.cols) {
                give(Command::Stream(ArrayTile { pixels, outputs, k }));
            }
        }
    }

    fn nest(&self, product: &Product, array: &ArrayExtents) -> Nest {
        Nest::Streaming {
            tiles: product.pixel_folds(array.rows) * product.outputs.div_ceil(array.cols),
            beats: product.depth(),
        }
    }

    fn granules(&self, array: &ArrayExtents) -> [u64; 2] {
        [array.rows, array.cols]
    }

    fn folds(&self, taps: u64, channels: u64, _array: &ArrayExtents) -> Folds {
        smallvec![Range { start: 0, len: narrow(taps * channels) }]
    }

    fn result_latency(&self, law: &ArrayLaw) -> u64 {
        law.output_latency(1)
    }

    fn description(&self) -> &'static str {
        "for each fold of pixels and of outputs, stream K and drain"
    }
}
