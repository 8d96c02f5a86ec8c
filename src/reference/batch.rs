//! Batches of matrix products: which matrix of each operand belongs to which of the result.

use super::{Outcome, Reason, checked_size};

/// Products `[..., m, k] x [..., k, n]`.
#[derive(Debug)]
pub(super) struct Batch {
    /// `[m, k, n]` of each product.
    pub matrix: [usize; 3],
    /// The result's shape.
    pub output: Vec<usize>,
    /// For each product the matrix of the first and of the second operand.
    pairs: Vec<[usize; 2]>,
}

impl Batch {
    /// Of operands of these shapes.
    pub fn new(a: &[usize], b: &[usize]) -> Outcome<Self> {
        let fault = || Reason::Shape(format!("operands {a:?} and {b:?} do not fit"));
        let ([a_batch @ .., m, k], [b_batch @ .., inner, n]) = (a, b) else { return Err(fault()) };
        if k != inner || a.contains(&0) || b.contains(&0) {
            return Err(fault());
        }
        let rank = a_batch.len().max(b_batch.len());
        let mut pairs = vec![[0, 0]];
        let mut output = Vec::new();
        for axis in 0..rank {
            let at = |batch: &[usize]| (axis + batch.len()).checked_sub(rank).map_or(1, |own| batch[own]);
            let (a, b) = (at(a_batch), at(b_batch));
            let extent = if a == 1 { b } else { a };
            if b != 1 && b != extent {
                return Err(fault());
            }
            output.push(extent);
            checked_size(&output)?;
            let step = |dim: usize, index: usize| if dim == 1 { 0 } else { index };
            let inner = |[x, y]: [usize; 2]| (0..extent).map(move |i| [x * a + step(a, i), y * b + step(b, i)]);
            pairs = pairs.into_iter().flat_map(inner).collect();
        }
        output.extend([*m, *n]);
        checked_size(&output)?;
        Ok(Self { matrix: [*m, *k, *n], output, pairs })
    }

    /// Both matrices of each product, in the result's order.
    pub fn operands<'a, T>(&'a self, a: &'a [T], b: &'a [T]) -> impl Iterator<Item = (&'a [T], &'a [T])> {
        let [m, k, n] = self.matrix;
        self.pairs.iter().map(move |&[i, j]| (&a[i * m * k..][..m * k], &b[j * k * n..][..k * n]))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn matrices_are_repeated_along_dimensions_of_one() {
        let batch = Batch::new(&[2, 1, 5, 7], &[3, 7, 4]).unwrap();
        assert_eq!((batch.matrix, batch.output), ([5, 7, 4], vec![2, 3, 5, 4]));
        assert_eq!(batch.pairs, [[0, 0], [0, 1], [0, 2], [1, 0], [1, 1], [1, 2]]);
        assert_eq!(Batch::new(&[5, 7], &[7, 4]).unwrap().pairs, [[0, 0]]);
        assert!(Batch::new(&[2, 5, 7], &[3, 7, 4]).is_err());
        assert!(Batch::new(&[2, 5, 7], &[2, 6, 4]).is_err());
    }
}
