//! Operators on real values in single precision, and the index arithmetic that they share with the quantized ones.

use super::{
    Fault, Value,
    access::equal,
    moves::{for_each_index, row_major},
    table,
};
use crate::ir::{Op, Window};

/// Any operator that has no form of its own, on dequantized operands.
#[allow(clippy::cast_possible_truncation, reason = "rounding to single precision is meant")]
pub(super) fn compute(op: &Op, inputs: &[Value], shape: &[usize]) -> Result<Vec<f32>, Fault> {
    let first = inputs.first().ok_or(Fault::Arithmetic("an operand"))?;
    let x = first.reals()?;
    Ok(match op {
        Op::Add { .. } | Op::Sub | Op::Mul | Op::Div => {
            let second = inputs.get(1).ok_or(Fault::Arithmetic("a second operand"))?;
            let a = broadcast(&x, first.shape, shape)?;
            let b = broadcast(&second.reals()?, second.shape, shape)?;
            let function = match op {
                Op::Add { .. } => |a: f32, b: f32| a + b,
                Op::Sub => |a: f32, b: f32| a - b,
                Op::Mul => |a: f32, b: f32| a * b,
                _ => |a: f32, b: f32| a / b,
            };
            let result = a.into_iter().zip(b).map(|(a, b)| function(a, b)).collect();
            match op {
                Op::Add { activation } => super::activated(result, *activation),
                _ => result,
            }
        }
        op if op.is_function() => x.into_iter().map(|x| table::function(op, x)).collect(),
        Op::QuantizeLinear | Op::DequantizeLinear | Op::Reshape => x,
        Op::BatchNorm { epsilon } => batch_norm(&x, first.shape, inputs, *epsilon)?,
        Op::MaxPool { window } => {
            pool(&x, (first.shape, shape), window, |taps| taps.iter().copied().fold(f32::NEG_INFINITY, f32::max))?
        }
        Op::AvgPool { window, count_include_pad } => {
            let whole = window.kernel[0].saturating_mul(window.kernel[1]);
            pool(&x, (first.shape, shape), window, |taps| {
                let count = if *count_include_pad { whole } else { taps.len() };
                // As every mean of real values here: summed in double precision.
                let sum: f64 = taps.iter().copied().map(f64::from).sum();
                (sum / count as f64) as f32
            })?
        }
        Op::GlobalAvgPool => {
            let axes: Vec<usize> = (2..first.shape.len()).collect();
            mean(&x, first.shape, &axes)?
        }
        Op::ReduceMean { axes, .. } => mean(&x, first.shape, axes)?,
        Op::Softmax { axis } => softmax(&x, first.shape, *axis)?,
        Op::Concat { axis } => {
            let outer: usize = first.shape.iter().take(*axis).product::<usize>().max(1);
            let parts = inputs.iter().map(Value::reals).collect::<Result<Vec<_>, _>>()?;
            let blocks = (0..outer).flat_map(|block| {
                parts.iter().flat_map(move |part| {
                    let length = part.len() / outer;
                    part[block * length..][..length].iter().copied()
                })
            });
            blocks.collect()
        }
        Op::Conv { .. } | Op::MatMul { .. } | Op::Transpose { .. } | Op::Pad { .. } => {
            return Err(Fault::Unsupported("this operator on real values"));
        }
        _ => unreachable!("a function of one element"),
    })
}

/// Means over axes, summed in double precision.
#[allow(clippy::cast_possible_truncation, reason = "rounding to single precision is meant")]
fn mean(x: &[f32], shape: &[usize], axes: &[usize]) -> Result<Vec<f32>, Fault> {
    let groups = groups(shape, axes)?;
    let mean = |group: &Vec<usize>| {
        let sum: f64 = group.iter().map(|&index| f64::from(x[index])).sum();
        (sum / group.len() as f64) as f32
    };
    Ok(groups.iter().map(mean).collect())
}

/// Exact in double precision, rounded to single.
#[allow(clippy::cast_possible_truncation, reason = "rounding to single precision is meant")]
fn softmax(x: &[f32], shape: &[usize], axis: usize) -> Result<Vec<f32>, Fault> {
    let mut out = vec![0.0; x.len()];
    for_each_line(shape, axis, |line| {
        let largest = line.iter().map(|&index| x[index]).fold(f32::NEG_INFINITY, f32::max);
        let powers: Vec<f64> = line.iter().map(|&index| (f64::from(x[index]) - f64::from(largest)).exp()).collect();
        let sum: f64 = powers.iter().sum();
        line.iter().zip(powers).for_each(|(&index, power)| out[index] = (power / sum) as f32);
    })?;
    Ok(out)
}

fn batch_norm(x: &[f32], shape: &[usize], inputs: &[Value], epsilon: f32) -> Result<Vec<f32>, Fault> {
    let channels = *shape.get(1).ok_or(Fault::Region("channels of a batch normalization"))?;
    let parameter = |index: usize| {
        let value = inputs.get(index).ok_or(Fault::Arithmetic("parameters of a batch normalization"))?.reals()?;
        equal("parameters of a batch normalization", channels as u64, value.len() as u64)?;
        Ok::<_, Fault>(value)
    };
    let [scale, bias, mean, variance] = [parameter(1)?, parameter(2)?, parameter(3)?, parameter(4)?];
    let inner: usize = shape.iter().skip(2).product::<usize>().max(1);
    let normalized = x.iter().enumerate().map(|(index, &x)| {
        let c = index / inner % channels.max(1);
        (x - mean[c]) / (variance[c] + epsilon).sqrt() * scale[c] + bias[c]
    });
    Ok(normalized.collect())
}

/// Repeats elements to a larger shape, as `NumPy` does.
pub(super) fn broadcast<T: Copy>(x: &[T], from: &[usize], to: &[usize]) -> Result<Vec<T>, Fault> {
    let extra = to.len().checked_sub(from.len()).ok_or(Fault::Region("broadcast to fewer dimensions"))?;
    let strides = row_major(from);
    let mut steps = vec![0; to.len()];
    for (axis, (&dim, &stride)) in from.iter().zip(&strides).enumerate() {
        if dim == to[extra + axis] {
            steps[extra + axis] = stride;
        } else if dim != 1 {
            return Err(Fault::Region("shapes that do not broadcast"));
        }
    }
    let mut out = Vec::new();
    for_each_index(to, |index| {
        let at: usize = index.iter().zip(&steps).map(|(i, step)| i * step).sum();
        out.push(x[at]);
    });
    Ok(out)
}

/// Calls `visit` with the flat indices of each line along an axis.
pub(super) fn for_each_line(shape: &[usize], axis: usize, mut visit: impl FnMut(&[usize])) -> Result<(), Fault> {
    let length = *shape.get(axis).ok_or(Fault::Region("axis outside the shape"))?;
    let step: usize = shape[axis + 1..].iter().product();
    let outer: usize = shape[..axis].iter().product();
    for block in 0..outer {
        for inner in 0..step {
            let start = block * length * step + inner;
            let line: Vec<usize> = (0..length).map(|i| start + i * step).collect();
            visit(&line);
        }
    }
    Ok(())
}

/// For each element that remains when `axes` are reduced, the flat indices of those that fall together.
pub(super) fn groups(shape: &[usize], axes: &[usize]) -> Result<Vec<Vec<usize>>, Fault> {
    if axes.iter().any(|&axis| axis >= shape.len()) {
        return Err(Fault::Region("axis outside the shape"));
    }
    let kept: Vec<usize> = (0..shape.len()).map(|axis| if axes.contains(&axis) { 1 } else { shape[axis] }).collect();
    let steps = row_major(&kept);
    let mut groups = vec![Vec::new(); kept.iter().product()];
    let mut flat = 0;
    for_each_index(shape, |index| {
        let position = index.iter().zip(&kept).zip(&steps);
        let at: usize = position.map(|((&i, &dim), step)| if dim == 1 { 0 } else { i * step }).sum();
        groups[at].push(flat);
        flat += 1;
    });
    Ok(groups)
}

/// `[N, C, H, W]`, or a fault.
pub(super) fn nchw(shape: &[usize]) -> Result<[usize; 4], Fault> {
    match *shape {
        [n, c, h, w] => Ok([n, c, h, w]),
        [n, c] => Ok([n, c, 1, 1]),
        _ => Err(Fault::Region("an image of four dimensions")),
    }
}

/// A window's function over `[N, C, H, W]`; it gets the elements that are not padding, in the order of `(r, s)`.
pub(super) fn pool<T: Copy>(
    x: &[T],
    (from, to): (&[usize], &[usize]),
    window: &Window,
    function: impl Fn(&[T]) -> T,
) -> Result<Vec<T>, Fault> {
    let [n, c, h, w] = nchw(from)?;
    let [_, _, p, q] = nchw(to)?;
    let mut out = Vec::new();
    let mut taps = Vec::new();
    for plane in 0..n * c {
        for row in 0..p {
            for col in 0..q {
                taps.clear();
                for r in 0..window.kernel[0] {
                    for s in 0..window.kernel[1] {
                        let y = (row * window.stride[0] + r * window.dilation[0]).checked_sub(window.pad[0]);
                        let z = (col * window.stride[1] + s * window.dilation[1]).checked_sub(window.pad[1]);
                        if let (Some(y), Some(z)) = (y.filter(|&y| y < h), z.filter(|&z| z < w)) {
                            taps.push(x[(plane * h + y) * w + z]);
                        }
                    }
                }
                out.push(function(&taps));
            }
        }
    }
    Ok(out)
}

#[cfg(test)]
#[allow(
    clippy::cast_possible_truncation,
    clippy::cast_possible_wrap,
    clippy::cast_sign_loss,
    clippy::float_cmp,
    reason = "small numbers, and exact ones"
)]
mod tests {
    use super::*;

    #[test]
    fn a_column_broadcasts_over_rows() {
        assert_eq!(broadcast(&[1, 2], &[2, 1], &[2, 3]).unwrap(), [1, 1, 1, 2, 2, 2]);
        assert!(broadcast(&[1, 2], &[2], &[3]).is_err());
    }

    #[test]
    fn reduced_axes_fall_together() {
        assert_eq!(groups(&[2, 2], &[0]).unwrap(), [[0, 2], [1, 3]]);
    }

    #[test]
    fn lines_run_along_their_axis() {
        let mut lines = Vec::new();
        for_each_line(&[2, 3], 0, |line| lines.push(line.to_vec())).unwrap();
        assert_eq!(lines, [[0, 3], [1, 4], [2, 5]]);
    }

    #[test]
    fn padding_is_no_element_of_a_pool() {
        let window = Window { kernel: [2, 2], stride: [1, 1], dilation: [1, 1], pad: [1, 1, 0, 0] };
        let sizes =
            pool(&[5, 6, 7, 8], (&[1, 1, 2, 2], &[1, 1, 2, 2]), &window, |taps| i32::try_from(taps.len()).unwrap())
                .unwrap();
        assert_eq!(sizes, [1, 2, 2, 4]);
    }
}
