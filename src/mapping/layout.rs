//! The order in which a tensor's dimensions lie in memory, decided here and read everywhere else. It knows shapes, not
//! places: where a tensor starts, and whether it lies inside another one, is `place`'s business.

use crate::ir::{Graph, Quantized, Value};

/// How a tensor's dimensions lie in memory. Either way the program walks it in four loops, outermost first, of which the
/// innermost numbers the channels.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Layout {
    /// `[N, C, H, W]` as NHWC.
    Image,
    /// Row-major: the last dimension innermost.
    Rows,
}

impl Layout {
    /// That of a value: rank 4 is an image.
    fn of(value: &Value) -> Self {
        if value.shape.len() == 4 { Self::Image } else { Self::Rows }
    }

    /// The dimension that lies innermost.
    pub const fn channel_axis(self, rank: usize) -> usize {
        match self {
            Self::Image => 1,
            Self::Rows => rank.saturating_sub(1),
        }
    }

    /// One entry a loop, of one entry a dimension; dimensions before the last one are `merged` where the rank is not 4.
    fn loops<T: Copy>(self, dims: &[T], missing: T, merged: impl FnOnce(&[T]) -> T) -> [T; 4] {
        match (self, dims) {
            (Self::Image, &[n, c, h, w]) => [n, h, w, c],
            (_, &[n, h, w, c]) => [n, h, w, c],
            (_, []) => [missing; 4],
            (_, [rows @ .., c]) => [merged(rows), missing, missing, *c],
        }
    }

    /// Trips of the loops over a shape.
    pub fn extents(self, shape: &[usize]) -> [usize; 4] {
        self.loops(shape, 1, |rows| rows.iter().product())
    }

    /// Bytes between the trips of the loops, from those between neighbours along each dimension.
    pub fn loop_strides(self, strides: &[u64]) -> [u64; 4] {
        self.loops(strides, 0, |rows| rows.last().copied().unwrap_or(0))
    }

    /// Bytes between neighbours along each dimension of a tensor that lies by itself.
    pub fn strides(self, shape: &[usize], element: u64) -> Vec<u64> {
        let row_major = |shape: &[usize]| {
            let mut strides = vec![element; shape.len()];
            for axis in (1..shape.len()).rev() {
                strides[axis - 1] = strides[axis] * shape[axis] as u64;
            }
            strides
        };
        match (self, shape) {
            (Self::Image, &[n, c, h, w]) => {
                let nhwc = row_major(&[n, h, w, c]);
                vec![nhwc[0], nhwc[3], nhwc[1], nhwc[2]]
            }
            _ => row_major(shape),
        }
    }

    /// Whether the bytes are those of the row-major order.
    pub fn is_row_major(self, shape: &[usize]) -> bool {
        match (self, shape) {
            (Self::Image, &[_, c, h, w]) => c == 1 || h * w == 1,
            _ => true,
        }
    }
}

/// The layout of every value, by value index.
pub(super) fn layouts(graph: &Graph<Quantized>) -> Vec<Layout> {
    graph.values.iter().map(Layout::of).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn channels_of_an_image_lie_innermost_and_rows_follow_each_other() {
        let shape = [2, 3, 4, 5];
        assert_eq!(Layout::Image.strides(&shape, 2), [120, 2, 30, 6]);
        assert_eq!(Layout::Rows.strides(&shape, 2), [120, 40, 10, 2]);
        assert_eq!(Layout::Image.extents(&shape), [2, 4, 5, 3]);
        assert_eq!(Layout::Rows.extents(&shape), shape);
        assert_eq!(Layout::Rows.extents(&shape[1..]), [12, 1, 1, 5]);
        for layout in [Layout::Image, Layout::Rows] {
            let strides = layout.strides(&shape, 2);
            assert_eq!(strides[layout.channel_axis(4)], 2);
            assert!(layout.loop_strides(&strides).is_sorted_by(|outer, inner| outer >= inner));
        }
    }

    #[test]
    fn an_image_of_one_channel_or_pixel_is_row_major() {
        for shape in [[2, 1, 4, 5], [2, 3, 1, 1]] {
            assert!(Layout::Image.is_row_major(&shape));
        }
        assert!(!Layout::Image.is_row_major(&[1, 2, 1, 2]));
        assert!(Layout::Rows.is_row_major(&[1, 2, 1, 2]));
    }
}
