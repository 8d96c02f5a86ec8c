//! Copies between arrays that hold the same elements in different orders, and operands that broadcasting repeats.

use rayon::prelude::*;

use crate::kernels::widen::{Narrow, load};

/// Elements of one task, about.
const TASK: usize = 1 << 14;
/// Rows and columns of one tile of a transposition: 64 lines of the cache at a time.
const TILE: usize = 64;

/// One dimension of a walk over two arrays, in elements.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Dim {
    /// How many.
    pub extent: usize,
    /// Step in the source.
    pub from: usize,
    /// Step in the destination.
    pub to: usize,
}

/// Dimensions that one step passes through are one; those of extent 1 are none. Outermost first.
pub(super) fn merged(dims: impl IntoIterator<Item = Dim>) -> Vec<Dim> {
    let mut merged: Vec<Dim> = Vec::new();
    for dim in dims.into_iter().filter(|dim| dim.extent != 1) {
        match merged.last_mut() {
            Some(outer) if outer.from == dim.from * dim.extent && outer.to == dim.to * dim.extent => {
                *outer = Dim { extent: outer.extent * dim.extent, ..dim };
            }
            _ => merged.push(dim),
        }
    }
    merged
}

/// How far apart the first and the last element are, plus one.
fn span(dims: &[Dim], step: impl Fn(&Dim) -> usize) -> usize {
    1 + dims.iter().map(|dim| (dim.extent - 1) * step(dim)).sum::<usize>()
}

/// A copy of a box of elements from one array into another.
#[derive(Clone, Debug)]
pub struct StridedCopy {
    /// By step in the destination, largest first.
    dims: Vec<Dim>,
    from: usize,
    to: usize,
    empty: bool,
}

impl StridedCopy {
    /// From element `from` of the source to element `to` of the destination. `None` where two elements would be
    /// written to one place.
    pub fn new(dims: &[Dim], from: usize, to: usize) -> Option<Self> {
        let empty = dims.iter().any(|dim| dim.extent == 0);
        let mut dims: Vec<Dim> = dims.iter().copied().filter(|dim| dim.extent > 1).collect();
        dims.sort_by_key(|dim| std::cmp::Reverse(dim.to));
        if empty {
            dims.clear();
        }
        for (index, dim) in dims.iter().enumerate() {
            if dim.to < span(&dims[index + 1..], |dim| dim.to) {
                return None;
            }
        }
        Some(Self { dims: merged(dims), from, to, empty })
    }

    /// Whether elements lie in both arrays in the same order and without gaps, and from the start.
    pub fn is_identity(&self) -> bool {
        let plain = match self.dims.as_slice() {
            [] => true,
            [dim] => dim.from == 1 && dim.to == 1,
            _ => false,
        };
        plain && self.from == 0 && self.to == 0
    }

    /// `destination[...] = map(source[...])`; the rest of the destination stays. `None` where a slice is too short.
    pub fn copy<T: Copy + Sync, U: Copy + Send>(
        &self,
        source: &[T],
        destination: &mut [U],
        map: impl Fn(T) -> U + Copy + Sync,
    ) -> Option<()> {
        if self.empty {
            return Some(());
        }
        let source = source.get(self.from..)?.get(..span(&self.dims, |dim| dim.from))?;
        let destination = destination.get_mut(self.to..)?.get_mut(..span(&self.dims, |dim| dim.to))?;
        let Some((&outer, inner)) = self.dims.split_first() else {
            destination[0] = map(source[0]);
            return Some(());
        };
        let each = inner.iter().map(|dim| dim.extent).product::<usize>();
        let piece = (TASK / each).clamp(1, outer.extent);
        if piece == outer.extent {
            block(&near(self.dims.clone()), source, destination, map);
            return Some(());
        }
        destination.par_chunks_mut(outer.to * piece).enumerate().for_each(|(index, destination)| {
            let extent = piece.min(outer.extent - index * piece);
            let mut dims = self.dims.clone();
            dims[0] = Dim { extent, ..outer };
            block(&near(dims), &source[index * piece * outer.from..], destination, map);
        });
        Some(())
    }
}

/// Puts the dimension that is dense in the source beside the one that is dense in the destination.
fn near(mut dims: Vec<Dim>) -> Vec<Dim> {
    let last = dims.len() - 1;
    if let Some(dense) = dims[..last].iter().position(|dim| dim.from == 1) {
        let dim = dims.remove(dense);
        dims.insert(last - 1, dim);
    }
    dims
}

fn block<T: Copy, U: Copy>(dims: &[Dim], source: &[T], destination: &mut [U], map: impl Fn(T) -> U + Copy) {
    match *dims {
        [] => {}
        [Dim { extent, from: 1, to: 1 }] => {
            destination[..extent].iter_mut().zip(&source[..extent]).for_each(|(out, &x)| *out = map(x));
        }
        [Dim { extent, from: 0, to }] => {
            let value = map(source[0]);
            destination.iter_mut().step_by(to).take(extent).for_each(|out| *out = value);
        }
        [Dim { extent, from, to }] => {
            let pairs = destination.iter_mut().step_by(to).zip(source.iter().step_by(from));
            pairs.take(extent).for_each(|(out, &x)| *out = map(x));
        }
        [Dim { extent: rows, from: 1, to }, Dim { extent: columns, from, to: 1 }] if from > 0 => {
            for row in (0..rows).step_by(TILE) {
                for column in (0..columns).step_by(TILE) {
                    let width = TILE.min(columns - column);
                    for row in row..rows.min(row + TILE) {
                        let line = &mut destination[row * to + column..][..width];
                        let column = source[row + column * from..].iter().step_by(from);
                        line.iter_mut().zip(column).for_each(|(out, &x)| *out = map(x));
                    }
                }
            }
        }
        [outer, ref inner @ ..] => {
            for index in 0..outer.extent {
                block(inner, &source[index * outer.from..], &mut destination[index * outer.to..], map);
            }
        }
    }
}

/// An operand as broadcasting sees it: the array that an output's elements read, in the output's order.
#[derive(Clone, Debug)]
pub struct Spread {
    /// Extents of the output with steps of the operand, outermost first; never empty.
    dims: Vec<Dim>,
}

impl Spread {
    /// From `(extent of the output, step of the operand)` of each dimension, outermost first.
    pub fn new(dims: impl IntoIterator<Item = (usize, usize)>) -> Self {
        let mut dims = merged(dims.into_iter().map(|(extent, from)| Dim { extent, from, to: 0 }));
        if dims.is_empty() {
            dims.push(Dim { extent: 1, from: 0, to: 0 });
        }
        Self { dims }
    }

    /// How many elements the operand must have.
    pub fn reach(&self) -> usize {
        if self.dims.iter().any(|dim| dim.extent == 0) { 0 } else { span(&self.dims, |dim| dim.from) }
    }

    /// `out[i]` = what output element `first + i` reads.
    pub fn load(&self, kind: Narrow, bytes: &[u8], first: usize, out: &mut [i32]) {
        let size = kind.bytes();
        let Some((&Dim { extent, from: step, .. }, outer)) = self.dims.split_last() else { return };
        let (mut line, mut within, mut done) = (first / extent, first % extent, 0);
        while done < out.len() {
            let (mut rest, mut start) = (line, within * step);
            for dim in outer.iter().rev() {
                start += rest % dim.extent * dim.from;
                rest /= dim.extent;
            }
            let length = (extent - within).min(out.len() - done);
            let part = &mut out[done..done + length];
            match step {
                1 => load(kind, &bytes[start * size..][..length * size], part),
                0 => {
                    load(kind, &bytes[start * size..], &mut part[..1]);
                    let value = part[0];
                    part.fill(value);
                }
                _ => {
                    for (index, out) in part.iter_mut().enumerate() {
                        load(kind, &bytes[(start + index * step) * size..], std::slice::from_mut(out));
                    }
                }
            }
            done += length;
            line += 1;
            within = 0;
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    /// All positions of a box, each with its offset in both arrays.
    fn offsets(dims: &[Dim]) -> Vec<(usize, usize)> {
        let mut all = vec![(0, 0)];
        for dim in dims {
            let next = all.iter().flat_map(|&(from, to)| {
                (0..dim.extent).map(move |index| (from + index * dim.from, to + index * dim.to))
            });
            all = next.collect();
        }
        all
    }

    /// Steps of a dense array whose dimensions lie in memory in `order`, outermost first.
    fn steps(extents: &[usize], order: &[usize]) -> Vec<usize> {
        let mut steps = vec![0; extents.len()];
        let mut step = 1;
        for &dim in order.iter().rev() {
            steps[dim] = step;
            step *= extents[dim];
        }
        steps
    }

    proptest! {
        #[test]
        fn a_copy_equals_its_plain_twin(
            extents in prop::collection::vec(1_usize..20, 4),
            before in prop::collection::vec(0_usize..3, 4),
            from in Just(vec![0_usize, 1, 2, 3]).prop_shuffle(),
            to in Just(vec![0_usize, 1, 2, 3]).prop_shuffle(),
        ) {
            let padded: Vec<usize> = extents.iter().zip(&before).map(|(extent, before)| extent + 2 * before).collect();
            let (from, to) = (steps(&extents, &from), steps(&padded, &to));
            let dims: Vec<Dim> =
                (0..4).map(|i| Dim { extent: extents[i], from: from[i], to: to[i] }).collect();
            let start: usize = before.iter().zip(&to).map(|(before, step)| before * step).sum();
            let source: Vec<usize> = (0..extents.iter().product()).collect();
            let mut expected = vec![usize::MAX; padded.iter().product()];
            for (from, to) in offsets(&dims) {
                expected[start + to] = source[from] * 3;
            }
            let mut out = vec![usize::MAX; expected.len()];
            StridedCopy::new(&dims, 0, start).unwrap().copy(&source, &mut out, |x| x * 3).unwrap();
            prop_assert_eq!(&out, &expected);
        }

        #[test]
        fn a_spread_operand_equals_its_plain_twin(
            extents in prop::collection::vec(1_usize..7, 3),
            held in prop::collection::vec(any::<bool>(), 3),
            order in Just(vec![0_usize, 1, 2]).prop_shuffle(),
            cut in 0.0_f64..1.0,
        ) {
            let own: Vec<usize> = extents.iter().zip(&held).map(|(&extent, &held)| if held { extent } else { 1 }).collect();
            let own_steps = steps(&own, &order);
            let reads: Vec<(usize, usize)> =
                (0..3).map(|i| (extents[i], if held[i] { own_steps[i] } else { 0 })).collect();
            let bytes: Vec<u8> = (0..=u8::MAX).take(own.iter().product()).collect();
            let dims: Vec<Dim> = reads.iter().map(|&(extent, from)| Dim { extent, from, to: 0 }).collect();
            let expected: Vec<i32> = offsets(&dims).iter().map(|&(from, _)| i32::from(bytes[from])).collect();
            let spread = Spread::new(reads);
            prop_assert!(spread.reach() <= bytes.len());
            #[allow(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "a share of a small number")]
            let first = (cut * expected.len() as f64) as usize;
            let mut out = vec![0; expected.len() - first];
            spread.load(Narrow::U8, &bytes, first, &mut out);
            prop_assert_eq!(&out, &expected[first..]);
        }
    }

    #[test]
    fn places_that_would_be_written_twice_and_short_slices_are_refused() {
        let dims = [Dim { extent: 2, from: 1, to: 1 }, Dim { extent: 2, from: 2, to: 1 }];
        assert!(StridedCopy::new(&dims, 0, 0).is_none());
        let copy = StridedCopy::new(&dims[..1], 1, 0).unwrap();
        assert_eq!(copy.copy(&[1, 2], &mut [0; 2], |x: u8| x), None);
        assert_eq!(copy.copy(&[1, 2, 3], &mut [0; 1], |x: u8| x), None);
        assert!(!copy.is_identity() && StridedCopy::new(&dims[..1], 0, 0).unwrap().is_identity());
        let none = StridedCopy::new(&[Dim { extent: 0, from: 1, to: 1 }], 0, 0).unwrap();
        assert_eq!(none.copy(&[0_u8; 0], &mut [0_u8; 0], |x| x), Some(()));
    }
}
