//! Operators that only move elements, on raw bytes: transposition, padding, concatenation.

use super::{Fault, Value, access::equal, place};

impl Value<'_> {
    /// Bytes of an element.
    pub(super) fn size(&self) -> usize {
        place::element_bytes(self.dtype)
    }
}

/// `y`'s dimension `i` is `x`'s dimension `perm[i]`.
pub(super) fn transpose(x: &Value, perm: &[usize]) -> Result<Vec<u8>, Fault> {
    let rank = x.shape.len();
    let mut seen = vec![false; rank];
    for &axis in perm {
        match seen.get_mut(axis) {
            Some(slot) if !*slot => *slot = true,
            _ => return Err(Fault::Region("a permutation")),
        }
    }
    equal("axes of a permutation", rank as u64, perm.len() as u64)?;
    let strides = row_major(x.shape);
    let shape: Vec<usize> = perm.iter().map(|&axis| x.shape[axis]).collect();
    let steps: Vec<usize> = perm.iter().map(|&axis| strides[axis]).collect();
    let size = x.size();
    let mut out = Vec::with_capacity(x.bytes.len());
    for_each_index(&shape, |index| {
        let at: usize = index.iter().zip(&steps).map(|(i, step)| i * step).sum();
        out.extend_from_slice(&x.bytes[at * size..][..size]);
    });
    Ok(out)
}

/// Constant padding with `filling`, one element's bytes.
pub(super) fn pad(x: &Value, before: &[usize], after: &[usize], filling: &[u8]) -> Result<Vec<u8>, Fault> {
    equal("dimensions of a padding", x.shape.len() as u64, before.len() as u64)?;
    equal("dimensions of a padding", x.shape.len() as u64, after.len() as u64)?;
    let grown = x.shape.iter().zip(before.iter().zip(after));
    let shape: Option<Vec<usize>> = grown.map(|(dim, (b, a))| dim.checked_add(*b)?.checked_add(*a)).collect();
    let shape = shape.filter(|shape| crate::tensor::checked_elements(shape, 1 << 32).is_some());
    let shape = shape.ok_or(Fault::Region("too many elements in a tensor"))?;
    let strides = row_major(x.shape);
    let size = x.size();
    let mut out = Vec::new();
    for_each_index(&shape, |index| {
        let mut at = Some(0);
        for ((&i, &first), (&dim, &stride)) in index.iter().zip(before).zip(x.shape.iter().zip(&strides)) {
            let inside = i.checked_sub(first).filter(|&i| i < dim);
            at = at.and_then(|at| Some(at + inside? * stride));
        }
        out.extend_from_slice(at.map_or(filling, |at: usize| &x.bytes[at * size..][..size]));
    });
    Ok(out)
}

/// Joins along a dimension.
pub(super) fn concat(inputs: &[Value], axis: usize) -> Result<Vec<u8>, Fault> {
    let first = inputs.first().ok_or(Fault::Arithmetic("an operand"))?;
    if axis >= first.shape.len() {
        return Err(Fault::Region("axis of a concatenation"));
    }
    let outer: usize = first.shape[..axis].iter().product();
    let mut out = Vec::new();
    for block in 0..outer {
        for input in inputs {
            equal("rows of a concatenation", outer as u64, input.shape.iter().take(axis).product::<usize>() as u64)?;
            let length = input.bytes.len() / outer;
            out.extend_from_slice(&input.bytes[block * length..][..length]);
        }
    }
    Ok(out)
}

/// Elements between neighbours along each dimension.
pub(super) fn row_major(shape: &[usize]) -> Vec<usize> {
    let mut strides = vec![1; shape.len()];
    for axis in (1..shape.len()).rev() {
        strides[axis - 1] = strides[axis] * shape[axis];
    }
    strides
}

/// All indices of a shape in row-major order.
pub(super) fn for_each_index(shape: &[usize], mut visit: impl FnMut(&[usize])) {
    if shape.contains(&0) {
        return;
    }
    let mut index = vec![0; shape.len()];
    'all: loop {
        visit(&index);
        for axis in (0..shape.len()).rev() {
            index[axis] += 1;
            if index[axis] < shape[axis] {
                continue 'all;
            }
            index[axis] = 0;
        }
        return;
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::tensor::DType;

    fn value<'a>(shape: &'a [usize], bytes: &[u8]) -> Value<'a> {
        Value { shape, dtype: DType::UInt8, quantization: None, bytes: bytes.to_vec() }
    }

    #[test]
    fn a_transposed_matrix_is_read_by_columns() {
        assert_eq!(transpose(&value(&[2, 3], &[1, 2, 3, 4, 5, 6]), &[1, 0]).unwrap(), [1, 4, 2, 5, 3, 6]);
    }

    #[test]
    fn padding_surrounds_the_elements() {
        assert_eq!(pad(&value(&[1, 2], &[1, 2]), &[1, 0], &[0, 1], &[9]).unwrap(), [9, 9, 9, 1, 2, 9]);
    }

    #[test]
    fn parts_of_a_concatenation_alternate_by_row() {
        let parts = [value(&[2, 1], &[1, 2]), value(&[2, 2], &[3, 4, 5, 6])];
        assert_eq!(concat(&parts, 1).unwrap(), [1, 3, 4, 2, 5, 6]);
    }
}
