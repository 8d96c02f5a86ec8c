//! The order in which a tensor's dimensions lie in memory, decided here and read everywhere else. It knows shapes, not
//! places: where a tensor starts, and whether it lies inside another one, is `place`'s business.

use crate::ir::{Graph, Kind, Node, Op, Quantized, Value};

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
        match *dims {
            [n, second, third, last] => match self {
                Self::Image => [n, third, last, second],
                Self::Rows => [n, second, third, last],
            },
            [] => [missing; 4],
            [ref rows @ .., c] => [merged(rows), missing, missing, c],
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

/// The layout of every value, by value index. Rank 4 is an image, but for what is tied to a product of two activations
/// by operators that do not look at an image: there the last dimension is read as rows of a matrix.
pub(super) fn layouts(graph: &Graph<Quantized>) -> Vec<Layout> {
    let mut layouts: Vec<Layout> = graph.values.iter().map(Layout::of).collect();
    if !graph.nodes.iter().any(is_pair) {
        return layouts;
    }
    let mut groups = Groups((0..graph.values.len()).collect());
    let of_node = |node: &Node| {
        let ids = node.inputs.iter().chain(&node.outputs).map(|id| id.index());
        ids.filter(|&index| graph.values[index].shape.len() == 4).collect::<Vec<_>>()
    };
    for node in &graph.nodes {
        for pair in of_node(node).windows(2) {
            groups.join(pair[0], pair[1]);
        }
    }
    let mut rows = vec![false; graph.values.len()];
    let mut image = vec![false; graph.values.len()];
    for node in &graph.nodes {
        for index in of_node(node) {
            let group = groups.of(index);
            rows[group] |= is_pair(node);
            image[group] |= !takes_rows(node);
        }
    }
    for (index, layout) in layouts.iter_mut().enumerate() {
        let group = groups.of(index);
        if rows[group] && !image[group] {
            *layout = Layout::Rows;
        }
    }
    layouts
}

fn is_pair(node: &Node) -> bool {
    node.op.kind() == Kind::Pair
}

/// Whether an operator works on rank 4 in row-major order as well.
fn takes_rows(node: &Node) -> bool {
    match node.op.kind() {
        Kind::Pair | Kind::Function | Kind::Binary | Kind::Conversion => true,
        _ => matches!(node.op, Op::Softmax { .. } | Op::Transpose { .. } | Op::Reshape | Op::Concat { .. }),
    }
}

/// Disjoint groups of values.
struct Groups(Vec<usize>);

impl Groups {
    /// The group of a value.
    fn of(&self, mut index: usize) -> usize {
        while self.0[index] != index {
            index = self.0[index];
        }
        index
    }

    fn join(&mut self, a: usize, b: usize) {
        let (a, b) = (self.of(a), self.of(b));
        self.0[a.max(b)] = a.min(b);
    }
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
