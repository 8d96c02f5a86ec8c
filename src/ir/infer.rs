//! Shape inference of the operators, from the operands' shapes to the results'. Never panics and never overflows,
//! whatever the shapes: importers call it on untrusted files.

use thiserror::Error;

use super::{Kind, Op, Window, fold};
use crate::tensor::checked_elements;

/// Largest number of elements of any tensor: 2^40, a tebibyte of bytes. Products of two such numbers with small
/// factors stay far inside `u64`.
pub const MAX_ELEMENTS: u64 = 1 << 40;

/// Why the operands do not fit an operator.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
pub enum InferError {
    /// Too few or too many operands.
    #[error("{op} takes {expected} operands: {found}")]
    Operands {
        /// The operator's name.
        op: &'static str,
        /// How many it takes, in words.
        expected: &'static str,
        /// How many there are.
        found: usize,
    },
    /// An operand of the wrong rank.
    #[error("{op} takes {operand} of rank {expected}: {}", shape_text(.found))]
    Rank {
        /// The operator's name.
        op: &'static str,
        /// The operand's name, as in `Op`'s documentation.
        operand: &'static str,
        /// The rank it must have, in words.
        expected: &'static str,
        /// Its shape.
        found: Vec<usize>,
    },
    /// Two extents that must agree and do not.
    #[error("{what} of {op} must be {expected}: {found}")]
    Extent {
        /// The operator's name.
        op: &'static str,
        /// What the extent is.
        what: &'static str,
        /// What it must be.
        expected: usize,
        /// What it is.
        found: usize,
    },
    /// Shapes that do not broadcast.
    #[error("shapes of {op} do not broadcast: {} and {}", shape_text(.a), shape_text(.b))]
    Broadcast {
        /// The operator's name.
        op: &'static str,
        /// The first shape.
        a: Vec<usize>,
        /// The second shape.
        b: Vec<usize>,
    },
    /// An axis, a permutation or a list of extents that does not fit the operand's rank.
    #[error("{what} of {op} does not fit rank {rank}: {}", shape_text(.found))]
    Axes {
        /// The operator's name.
        op: &'static str,
        /// What the attribute is.
        what: &'static str,
        /// The operand's rank.
        rank: usize,
        /// The attribute.
        found: Vec<usize>,
    },
    /// A window of zero extent, stride or dilation.
    #[error(
        "kernel, stride and dilation of {op} must be at least 1: kernel {kernel:?}, stride {stride:?}, dilation {dilation:?}"
    )]
    EmptyWindow {
        /// The operator's name.
        op: &'static str,
        /// Its kernel.
        kernel: [usize; 2],
        /// Its stride.
        stride: [usize; 2],
        /// Its dilation.
        dilation: [usize; 2],
    },
    /// A window larger than the padded input.
    #[error("window {kernel:?} of {op} does not fit the padded input {}", shape_text(.input))]
    WindowTooLarge {
        /// The operator's name.
        op: &'static str,
        /// Its kernel.
        kernel: [usize; 2],
        /// The input's shape.
        input: Vec<usize>,
    },
    /// A pooling window that sees nothing but padding, so that it has no value.
    #[error("a window of {op} lies wholly in the padding: kernel {kernel:?}, padding {pad:?}, input {}", shape_text(.input))]
    OnlyPadding {
        /// The operator's name.
        op: &'static str,
        /// Its kernel.
        kernel: [usize; 2],
        /// Its padding.
        pad: [usize; 4],
        /// The input's shape.
        input: Vec<usize>,
    },
    /// Channels that do not divide into the groups.
    #[error("{what} of {op} must be a multiple of its groups: {channels} channels, {groups} groups")]
    Groups {
        /// The operator's name.
        op: &'static str,
        /// Which channels.
        what: &'static str,
        /// How many there are.
        channels: usize,
        /// Number of groups.
        groups: usize,
    },
    /// A reshape that changes the number of elements.
    #[error("Reshape must keep the number of elements: {} to {}", shape_text(.from), shape_text(.to))]
    Reshape {
        /// The operand's shape.
        from: Vec<usize>,
        /// The requested shape.
        to: Vec<usize>,
    },
    /// A reshape whose result shape is not known.
    #[error("Reshape needs the shape of its result")]
    NoShape,
    /// A tensor with an extent of zero.
    #[error("{op} meets a tensor without elements: {}", shape_text(.shape))]
    Empty {
        /// The operator's name.
        op: &'static str,
        /// The shape.
        shape: Vec<usize>,
    },
    /// A tensor of more than [`MAX_ELEMENTS`].
    #[error("{op} meets a tensor of more than 2^40 elements: {}", shape_text(.shape))]
    TooLarge {
        /// The operator's name.
        op: &'static str,
        /// The shape; empty where an extent itself does not fit.
        shape: Vec<usize>,
    },
}

/// `1x3x224x224`, and `scalar` for the empty shape.
pub fn shape_text(shape: &[usize]) -> String {
    if shape.is_empty() {
        return "scalar".to_owned();
    }
    shape.iter().map(usize::to_string).collect::<Vec<_>>().join("x")
}

/// Shapes of an operator's results. `requested` is the result shape that the model states, which only `Reshape`
/// needs (it must hold as many elements as the operand).
///
/// # Errors
/// Operands that do not fit the operator or each other, results without elements or with more than
/// [`MAX_ELEMENTS`].
pub fn infer(op: &Op, inputs: &[&[usize]], requested: Option<&[usize]>) -> Result<Vec<Vec<usize>>, InferError> {
    let name = op.name();
    for shape in inputs {
        check_size(name, shape)?;
    }
    let arity = op.spec().operands;
    let (Some(&x), true) = (inputs.first(), arity.allows(inputs.len())) else {
        return Err(InferError::Operands { op: name, expected: arity.text, found: inputs.len() });
    };
    let result = match op {
        op if matches!(op.kind(), Kind::Function | Kind::Conversion) => x.to_vec(),
        Op::PRelu if broadcast(name, x, inputs[1])? != x => {
            return Err(InferError::Broadcast { op: name, a: x.to_vec(), b: inputs[1].to_vec() });
        }
        op if op.kind() == Kind::Binary => broadcast(name, x, inputs[1])?,
        Op::Conv { window, groups, .. } => conv(name, inputs, window, *groups)?,
        Op::MatMul { transposed, .. } => matmul(name, inputs, *transposed)?,
        Op::BatchMatMul => batch_matmul(name, x, inputs[1])?,
        Op::BatchNorm { .. } => batch_norm(name, x, &inputs[1..])?,
        Op::MaxPool { window } | Op::AvgPool { window, .. } => {
            let [n, c, h, w] = rank4(name, "x", x)?;
            check_window(name, window)?;
            check_padding(name, window, x, [h, w])?;
            let [p, q] = spatial(name, window, x, [h, w])?;
            vec![n, c, p, q]
        }
        Op::GlobalAvgPool | Op::GlobalMaxPool => {
            let [n, c, _, _] = rank4(name, "x", x)?;
            vec![n, c, 1, 1]
        }
        Op::ReduceMean { axes, keep_dims } => reduce(name, x, axes, *keep_dims)?,
        Op::Concat { axis } => concat(name, inputs, *axis)?,
        Op::Reshape => {
            let to = requested.ok_or(InferError::NoShape)?;
            check_size(name, to)?;
            if checked_elements(x, MAX_ELEMENTS) != checked_elements(to, MAX_ELEMENTS) {
                return Err(InferError::Reshape { from: x.to_vec(), to: to.to_vec() });
            }
            to.to_vec()
        }
        Op::Transpose { perm } => transpose(name, x, perm)?,
        Op::Pad { before, after, .. } => pad(name, x, before, after)?,
        Op::Softmax { axis } => {
            if *axis >= x.len() {
                return Err(InferError::Axes { op: name, what: "axis", rank: x.len(), found: vec![*axis] });
            }
            x.to_vec()
        }
        _ => unreachable!("{name} is element-wise"),
    };
    check_size(name, &result)?;
    Ok(vec![result])
}

fn check_size(op: &'static str, shape: &[usize]) -> Result<(), InferError> {
    if shape.contains(&0) {
        return Err(InferError::Empty { op, shape: shape.to_vec() });
    }
    match checked_elements(shape, MAX_ELEMENTS) {
        Some(_) => Ok(()),
        None => Err(InferError::TooLarge { op, shape: shape.to_vec() }),
    }
}

fn rank4(op: &'static str, operand: &'static str, shape: &[usize]) -> Result<[usize; 4], InferError> {
    shape.try_into().map_err(|_| InferError::Rank { op, operand, expected: "4", found: shape.to_vec() })
}

fn extent(op: &'static str, what: &'static str, expected: usize, found: usize) -> Result<(), InferError> {
    if expected == found { Ok(()) } else { Err(InferError::Extent { op, what, expected, found }) }
}

/// A bias or another parameter of `[channels]`.
fn vector(op: &'static str, operand: &'static str, shape: &[usize], channels: usize) -> Result<(), InferError> {
    match *shape {
        [found] => extent(op, operand, channels, found),
        _ => Err(InferError::Rank { op, operand, expected: "1", found: shape.to_vec() }),
    }
}

fn check_window(op: &'static str, window: &Window) -> Result<(), InferError> {
    let Window { kernel, stride, dilation, .. } = *window;
    if [kernel, stride, dilation].iter().flatten().any(|&part| part == 0) {
        return Err(InferError::EmptyWindow { op, kernel, stride, dilation });
    }
    Ok(())
}

/// Output extents of a window that [`check_window`] has seen.
fn spatial(op: &'static str, window: &Window, x: &[usize], hw: [usize; 2]) -> Result<[usize; 2], InferError> {
    let too_large = || InferError::WindowTooLarge { op, kernel: window.kernel, input: x.to_vec() };
    Ok([window.output(0, hw[0]).ok_or_else(too_large)?, window.output(1, hw[1]).ok_or_else(too_large)?])
}

/// The maximum and the mean over padding alone have no value. Such a window exists if the first one ends before the
/// input, the last one starts behind it, or the taps of one straddle it.
fn check_padding(op: &'static str, window: &Window, x: &[usize], hw: [usize; 2]) -> Result<(), InferError> {
    let outputs = spatial(op, window, x, hw)?;
    for axis in 0..2 {
        let (before, after) = (window.pad[axis], window.pad[axis + 2]);
        // The sums and products are bounded by the padded input, which `output` has computed without overflow.
        let reach = window.dilation[axis] * (window.kernel[axis] - 1) + 1;
        let last_start = (outputs[axis] - 1) * window.stride[axis];
        let straddles = window.dilation[axis] > hw[axis] && before > 0 && after > 0 && window.kernel[axis] > 1;
        if before >= reach || last_start >= before + hw[axis] || straddles {
            return Err(InferError::OnlyPadding { op, kernel: window.kernel, pad: window.pad, input: x.to_vec() });
        }
    }
    Ok(())
}

fn conv(op: &'static str, inputs: &[&[usize]], window: &Window, groups: usize) -> Result<Vec<usize>, InferError> {
    let (x, w, b) = (inputs[0], inputs[1], inputs.get(2));
    let [n, c, h, width] = rank4(op, "x", x)?;
    let [o, c_group, r, s] = rank4(op, "w", w)?;
    check_window(op, window)?;
    extent(op, "kernel rows of w", window.kernel[0], r)?;
    extent(op, "kernel columns of w", window.kernel[1], s)?;
    for (what, channels) in [("input channels", c), ("output channels", o)] {
        if groups == 0 || channels % groups != 0 {
            return Err(InferError::Groups { op, what, channels, groups });
        }
    }
    extent(op, "input channels a group of w", c / groups, c_group)?;
    if let Some(b) = b {
        vector(op, "b", b, o)?;
    }
    let [p, q] = spatial(op, window, x, [h, width])?;
    Ok(vec![n, o, p, q])
}

fn matmul(op: &'static str, inputs: &[&[usize]], transposed: bool) -> Result<Vec<usize>, InferError> {
    let (x, w, b) = (inputs[0], inputs[1], inputs.get(2));
    let [leading @ .., k] = x else {
        return Err(InferError::Rank { op, operand: "x", expected: "2 or more", found: x.to_vec() });
    };
    if leading.is_empty() {
        return Err(InferError::Rank { op, operand: "x", expected: "2 or more", found: x.to_vec() });
    }
    let [first, second] = *w else {
        return Err(InferError::Rank { op, operand: "w", expected: "2", found: w.to_vec() });
    };
    let (n, w_k) = if transposed { (first, second) } else { (second, first) };
    extent(op, "reduced dimension of w", *k, w_k)?;
    if let Some(b) = b {
        vector(op, "b", b, n)?;
    }
    let mut result = leading.to_vec();
    result.push(n);
    Ok(result)
}

fn batch_matmul(op: &'static str, a: &[usize], b: &[usize]) -> Result<Vec<usize>, InferError> {
    let short =
        |operand, found: &[usize]| InferError::Rank { op, operand, expected: "2 or more", found: found.to_vec() };
    let [a_batch @ .., m, k] = a else { return Err(short("a", a)) };
    let [b_batch @ .., b_k, n] = b else { return Err(short("b", b)) };
    extent(op, "reduced dimension of b", *k, *b_k)?;
    let mut result = broadcast(op, a_batch, b_batch)?;
    result.extend([*m, *n]);
    Ok(result)
}

/// [`fold::broadcast`], with the operator in its error.
fn broadcast(op: &'static str, a: &[usize], b: &[usize]) -> Result<Vec<usize>, InferError> {
    fold::broadcast(a, b).map_err(|_| InferError::Broadcast { op, a: a.to_vec(), b: b.to_vec() })
}

fn batch_norm(op: &'static str, x: &[usize], parameters: &[&[usize]]) -> Result<Vec<usize>, InferError> {
    let &[_, c, ..] = x else {
        return Err(InferError::Rank { op, operand: "x", expected: "2 or more", found: x.to_vec() });
    };
    for (what, shape) in ["scale", "bias", "mean", "var"].into_iter().zip(parameters) {
        vector(op, what, shape, c)?;
    }
    Ok(x.to_vec())
}

fn reduce(op: &'static str, x: &[usize], axes: &[usize], keep_dims: bool) -> Result<Vec<usize>, InferError> {
    let ordered = axes.windows(2).all(|pair| pair[0] < pair[1]);
    if !ordered || axes.last().is_some_and(|&axis| axis >= x.len()) {
        return Err(InferError::Axes { op, what: "axes", rank: x.len(), found: axes.to_vec() });
    }
    Ok(x.iter()
        .enumerate()
        .filter_map(|(axis, &dim)| match (axes.binary_search(&axis), keep_dims) {
            (Err(_), _) => Some(dim),
            (Ok(_), true) => Some(1),
            (Ok(_), false) => None,
        })
        .collect())
}

fn concat(op: &'static str, inputs: &[&[usize]], axis: usize) -> Result<Vec<usize>, InferError> {
    let (first, rest) = (inputs[0], &inputs[1..]);
    if axis >= first.len() {
        return Err(InferError::Axes { op, what: "axis", rank: first.len(), found: vec![axis] });
    }
    let mut result = first.to_vec();
    for shape in rest {
        if shape.len() != first.len() {
            return Err(InferError::Extent {
                op,
                what: "rank of an operand",
                expected: first.len(),
                found: shape.len(),
            });
        }
        for (dim, (&expected, &found)) in first.iter().zip(*shape).enumerate() {
            if dim != axis {
                extent(op, "an extent outside the joined axis", expected, found)?;
            }
        }
        let joined = result[axis].checked_add(shape[axis]);
        result[axis] = joined.ok_or(InferError::TooLarge { op, shape: Vec::new() })?;
    }
    Ok(result)
}

fn transpose(op: &'static str, x: &[usize], perm: &[usize]) -> Result<Vec<usize>, InferError> {
    let mut seen = vec![false; x.len()];
    let fresh = perm.iter().all(|&from| seen.get_mut(from).is_some_and(|seen| !std::mem::replace(seen, true)));
    if !fresh || perm.len() != x.len() {
        return Err(InferError::Axes { op, what: "permutation", rank: x.len(), found: perm.to_vec() });
    }
    Ok(perm.iter().map(|&from| x[from]).collect())
}

fn pad(op: &'static str, x: &[usize], before: &[usize], after: &[usize]) -> Result<Vec<usize>, InferError> {
    for (what, amounts) in [("padding before", before), ("padding after", after)] {
        if amounts.len() != x.len() {
            return Err(InferError::Axes { op, what, rank: x.len(), found: amounts.to_vec() });
        }
    }
    x.iter()
        .zip(before.iter().zip(after))
        .map(|(&dim, (&before, &after))| {
            let padded = dim.checked_add(before).and_then(|sum| sum.checked_add(after));
            padded.ok_or(InferError::TooLarge { op, shape: Vec::new() })
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ir::Activation;

    fn one(op: &Op, inputs: &[&[usize]]) -> Result<Vec<usize>, InferError> {
        infer(op, inputs, None).map(|mut shapes| shapes.pop().unwrap())
    }

    fn conv_op(kernel: usize, stride: usize, pad: usize, groups: usize) -> Op {
        let window = Window { kernel: [kernel; 2], stride: [stride; 2], dilation: [1; 2], pad: [pad; 4] };
        Op::Conv { window, groups, activation: Activation::None }
    }

    #[test]
    fn a_convolution_counts_stride_padding_and_groups() {
        let x: &[usize] = &[2, 64, 56, 57];
        assert_eq!(one(&conv_op(3, 2, 1, 1), &[x, &[128, 64, 3, 3], &[128]]), Ok(vec![2, 128, 28, 29]));
        assert_eq!(one(&conv_op(3, 1, 1, 64), &[x, &[64, 1, 3, 3]]), Ok(vec![2, 64, 56, 57]));
        assert!(matches!(one(&conv_op(3, 1, 1, 5), &[x, &[60, 1, 3, 3]]), Err(InferError::Groups { .. })));
        assert!(matches!(one(&conv_op(3, 1, 1, 0), &[x, &[60, 1, 3, 3]]), Err(InferError::Groups { .. })));
        assert!(matches!(one(&conv_op(3, 1, 1, 1), &[x, &[60, 64, 5, 3]]), Err(InferError::Extent { .. })));
        assert!(matches!(one(&conv_op(3, 1, 1, 1), &[x, &[60, 64, 3, 3], &[61]]), Err(InferError::Extent { .. })));
        assert!(matches!(one(&conv_op(99, 1, 1, 1), &[x, &[4, 64, 99, 99]]), Err(InferError::WindowTooLarge { .. })));
        assert!(matches!(one(&conv_op(3, 0, 1, 1), &[x, &[4, 64, 3, 3]]), Err(InferError::EmptyWindow { .. })));
    }

    #[test]
    fn a_matrix_product_keeps_leading_dimensions() {
        let op = |transposed| Op::MatMul { transposed, activation: Activation::None };
        assert_eq!(one(&op(false), &[&[2, 7, 5], &[5, 3], &[3]]), Ok(vec![2, 7, 3]));
        assert_eq!(one(&op(true), &[&[7, 5], &[3, 5]]), Ok(vec![7, 3]));
        assert!(matches!(one(&op(true), &[&[7, 5], &[5, 3]]), Err(InferError::Extent { .. })));
        assert!(matches!(one(&op(true), &[&[5], &[3, 5]]), Err(InferError::Rank { .. })));
    }

    #[test]
    fn elementwise_operators_broadcast_as_numpy_does() {
        assert_eq!(one(&Op::Mul, &[&[2, 3, 4], &[3, 1]]), Ok(vec![2, 3, 4]));
        assert_eq!(one(&Op::Sub, &[&[], &[3, 1]]), Ok(vec![3, 1]));
        assert_eq!(one(&Op::Div, &[&[1, 8, 1, 1], &[2, 8, 5, 6]]), Ok(vec![2, 8, 5, 6]));
        assert!(matches!(one(&Op::Mul, &[&[2, 3], &[2]]), Err(InferError::Broadcast { .. })));
        assert!(matches!(one(&Op::Mul, &[&[2, 3]]), Err(InferError::Operands { found: 1, .. })));
        assert_eq!(one(&Op::PRelu, &[&[2, 8, 5, 6], &[8, 1, 1]]), Ok(vec![2, 8, 5, 6]));
        assert!(matches!(one(&Op::PRelu, &[&[8, 1, 1], &[2, 8, 5, 6]]), Err(InferError::Broadcast { .. })));
    }

    #[test]
    fn pooling_refuses_a_window_of_padding_alone() {
        let pool =
            |kernel, pad| Op::MaxPool { window: Window { kernel: [kernel; 2], stride: [2; 2], dilation: [1; 2], pad } };
        assert_eq!(one(&pool(3, [0, 0, 1, 1]), &[&[1, 4, 112, 112]]), Ok(vec![1, 4, 56, 56]));
        assert!(matches!(one(&pool(2, [2; 4]), &[&[1, 4, 6, 6]]), Err(InferError::OnlyPadding { .. })));
        assert!(matches!(one(&pool(3, [0, 0, 3, 3]), &[&[1, 4, 6, 6]]), Err(InferError::OnlyPadding { .. })));
        assert_eq!(one(&Op::GlobalAvgPool, &[&[3, 9, 7, 7]]), Ok(vec![3, 9, 1, 1]));
        assert_eq!(one(&Op::GlobalMaxPool, &[&[3, 9, 7, 7]]), Ok(vec![3, 9, 1, 1]));
        assert!(matches!(one(&Op::GlobalMaxPool, &[&[3, 9]]), Err(InferError::Rank { .. })));
    }

    #[test]
    fn batches_of_products_broadcast() {
        let a: &[usize] = &[2, 1, 5, 7];
        assert_eq!(one(&Op::BatchMatMul, &[a, &[3, 7, 4]]), Ok(vec![2, 3, 5, 4]));
        assert_eq!(one(&Op::BatchMatMul, &[&[5, 7], &[7, 4]]), Ok(vec![5, 4]));
        assert!(matches!(one(&Op::BatchMatMul, &[a, &[3, 6, 4]]), Err(InferError::Extent { .. })));
        assert!(matches!(one(&Op::BatchMatMul, &[a, &[3, 3, 7, 4]]), Err(InferError::Broadcast { .. })));
        assert!(matches!(one(&Op::BatchMatMul, &[a, &[7]]), Err(InferError::Rank { .. })));
    }

    #[test]
    fn data_movement_keeps_or_joins_extents() {
        assert_eq!(one(&Op::Concat { axis: 1 }, &[&[1, 2, 5], &[1, 3, 5]]), Ok(vec![1, 5, 5]));
        assert!(one(&Op::Concat { axis: 1 }, &[&[1, 2, 5], &[1, 3, 6]]).is_err());
        assert!(one(&Op::Concat { axis: 3 }, &[&[1, 2, 5]]).is_err());
        assert!(one(&Op::Concat { axis: 0 }, &[]).is_err());
        assert_eq!(one(&Op::Transpose { perm: vec![0, 2, 1] }, &[&[4, 5, 6]]), Ok(vec![4, 6, 5]));
        assert!(one(&Op::Transpose { perm: vec![0, 0, 1] }, &[&[4, 5, 6]]).is_err());
        assert!(one(&Op::Transpose { perm: vec![0, 1] }, &[&[4, 5, 6]]).is_err());
        let pad = Op::Pad { before: vec![0, 1], after: vec![2, 0], value: 0.0 };
        assert_eq!(one(&pad, &[&[4, 5]]), Ok(vec![6, 6]));
        assert!(one(&pad, &[&[4]]).is_err());
        let mean = |keep_dims| Op::ReduceMean { axes: vec![1, 2], keep_dims };
        assert_eq!(one(&mean(true), &[&[4, 5, 6]]), Ok(vec![4, 1, 1]));
        assert_eq!(one(&mean(false), &[&[4, 5, 6]]), Ok(vec![4]));
        assert!(one(&mean(false), &[&[4, 5]]).is_err());
        assert!(one(&Op::Softmax { axis: 2 }, &[&[4, 5]]).is_err());
        assert_eq!(one(&Op::BatchNorm { epsilon: 1e-5 }, &[&[1, 2, 3], &[2], &[2], &[2], &[2]]), Ok(vec![1, 2, 3]));
    }

    #[test]
    fn a_reshape_keeps_the_number_of_elements() {
        let reshape = |to: Option<&[usize]>| infer(&Op::Reshape, &[&[2, 3, 4]], to);
        assert_eq!(reshape(Some(&[2, 12])), Ok(vec![vec![2, 12]]));
        assert!(matches!(reshape(Some(&[2, 13])), Err(InferError::Reshape { .. })));
        assert_eq!(reshape(None), Err(InferError::NoShape));
    }

    #[test]
    fn absurd_shapes_are_errors_and_not_panics() {
        let huge = usize::MAX;
        let relu = |shape: &[usize]| infer(&Op::Relu, &[shape], None);
        assert!(matches!(relu(&[huge, huge]), Err(InferError::TooLarge { .. })));
        assert!(matches!(relu(&[1 << 20, (1 << 20) + 1]), Err(InferError::TooLarge { .. })));
        assert!(relu(&[1 << 20, 1 << 20]).is_ok());
        assert!(matches!(relu(&[3, 0]), Err(InferError::Empty { .. })));
        let mut window = Window { kernel: [1; 2], stride: [1; 2], dilation: [1; 2], pad: [huge; 4] };
        let op = |window| Op::Conv { window, groups: 1, activation: Activation::None };
        assert!(one(&op(window), &[&[1, 1, 4, 4], &[1, 1, 1, 1]]).is_err());
        window = Window { kernel: [2; 2], stride: [1; 2], dilation: [huge; 2], pad: [0; 4] };
        assert!(one(&op(window), &[&[1, 1, 4, 4], &[1, 1, 2, 2]]).is_err());
        window.pad = [1 << 30; 4];
        assert!(one(&Op::MaxPool { window }, &[&[1, 1, 4, 4]]).is_err());
        let pad = Op::Pad { before: vec![huge], after: vec![huge], value: 0.0 };
        assert!(one(&pad, &[&[4]]).is_err());
        let outer = one(&Op::Add { activation: Activation::None }, &[&[1 << 30, 1], &[1, 1 << 30]]);
        assert!(matches!(outer, Err(InferError::TooLarge { .. })));
    }
}
