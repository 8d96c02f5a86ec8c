//! Chooses what runs a node on the CPU: a kernel for each operator of quantized networks, the reference for the rest.

use std::ops::Range;

use super::{
    kernels::{
        broadcast::{Binary, Broadcast},
        pool::{Average, Pool},
        reduce::Mean,
        softmax::Softmax,
        strided::{Dim, Spread},
    },
    layout::{held_order, held_steps, narrow},
    movement::{Move, reshape},
    product::{Dense, Depthwise, Wide, kernel_window},
};
use crate::{
    ir::{Activation, Graph, Node, Op, Quantized, Value, ValueId, Window},
    kernels::{
        elementwise::{AddCoefficients, MulCoefficients},
        requantize::Limits,
        widen::Narrow,
    },
    tensor::Tensor,
};

/// A node's kernel.
pub enum Kernel {
    /// Convolution or matrix product.
    Dense(Dense),
    /// Depthwise convolution.
    Depthwise(Depthwise),
    /// Convolution or matrix product of 16-bit operands, or with sums of more than 32 bits.
    Wide(Wide),
    /// A matrix product between values that are held as NHWC.
    Rows {
        /// To row-major order.
        before: Move,
        /// Elements of the product's result, in bytes.
        bytes: usize,
        /// The product.
        product: Box<Self>,
        /// From row-major order.
        after: Move,
    },
    /// Sum or product of two operands.
    Broadcast(Broadcast),
    /// The largest under a window.
    MaxPool(Pool),
    /// The average under a window.
    AvgPool(Pool, Average),
    /// A mean over dimensions.
    Mean(Mean),
    /// Softmax over blocks of so many elements along the axis and inside of it.
    Softmax(Softmax, [usize; 2]),
    /// Steps one after the other; none is a plain copy.
    Moves(Vec<Move>),
    /// Each operand to its place.
    Parts(Vec<Move>),
    /// An operand among padding.
    Pad {
        /// The padding's bytes.
        fill: [u8; 2],
        /// Bytes of an element.
        size: usize,
        /// The operand's way.
        inside: Move,
    },
    /// The whole operator as the reference runs it.
    Reference,
}

/// The outputs' range under an activation: `clip(rne(limit / scale) + zero_point)`.
#[allow(clippy::cast_possible_truncation, reason = "a float's cast saturates, and the type's range follows")]
pub fn limits(output: &Value, activation: Activation) -> Option<Limits> {
    let (scale, zero) = parameters(output)?;
    let (low, high) = output.dtype.int_range()?;
    let (low, high) = (i32::try_from(low).ok()?, i32::try_from(high).ok()?);
    let limit = |real: f32| ((real / scale).round_ties_even() as i32).saturating_add(zero).max(low).min(high);
    let (low, high) = match activation {
        Activation::None => (low, high),
        Activation::Relu => (limit(0.0), high),
        Activation::Clip { low, high } => (limit(low), limit(high)),
    };
    Some(Limits { zero_point: zero, low, high })
}

/// The one scale and zero point of a value, where the zero point is one of its type.
fn parameters(value: &Value) -> Option<(f32, i32)> {
    let quant = value.quant.as_ref().filter(|quant| quant.is_per_tensor())?;
    let (low, high) = value.dtype.int_range()?;
    let (scale, zero) = (quant.scale_of(0), quant.zero_of(0));
    ((low..=high).contains(&i64::from(zero)) && scale.is_finite() && scale > 0.0).then_some((scale, zero))
}

impl Kernel {
    /// The fastest that is exact for this node; the reference where there is none.
    pub fn choose(graph: &Graph<Quantized>, node: &Node, constants: &dyn Fn(ValueId) -> Option<Tensor>) -> Self {
        Self::fast(graph, node, constants).unwrap_or(Self::Reference)
    }

    fn fast(graph: &Graph<Quantized>, node: &Node, constants: &dyn Fn(ValueId) -> Option<Tensor>) -> Option<Self> {
        let x = graph.value(*node.inputs.first()?);
        let y = graph.value(*node.outputs.first()?);
        let kinds = [narrow(x.dtype)?, narrow(y.dtype)?];
        x.quant.as_ref().zip(y.quant.as_ref())?;
        let moved = x.quant == y.quant && x.dtype == y.dtype;
        match &node.op {
            Op::Conv { window, groups, .. } => {
                let geometry = (window, *groups);
                Depthwise::new(graph, node, geometry, constants)
                    .map(Self::Depthwise)
                    .or_else(|| Dense::conv(graph, node, geometry, constants).map(Self::Dense))
                    .or_else(|| Wide::conv(graph, node, geometry, constants).map(Self::Wide))
            }
            Op::MatMul { transposed, .. } => {
                let product = Dense::matrix(graph, node, *transposed, constants)
                    .map(Self::Dense)
                    .or_else(|| Wide::matrix(graph, node, *transposed, constants).map(Self::Wide))?;
                if x.shape.len() != 4 {
                    return Some(product);
                }
                let before = Move::to_logical(&x.shape, kinds[0])?;
                let after = Move::to_held(&y.shape, kinds[1])?;
                let bytes = y.shape.iter().product::<usize>() * kinds[1].bytes();
                Some(Self::Rows { before, bytes, product: Box::new(product), after })
            }
            Op::Add { activation } => Self::binary(graph, node, limits(y, *activation)?, |a, b, y| {
                let by = AddCoefficients::new(a, b, y);
                (by.ra.is_finite() && by.rb.is_finite() && by.k.is_finite()).then_some(Binary::Add(by))
            }),
            Op::Mul => Self::binary(graph, node, limits(y, Activation::None)?, |a, b, y| {
                let by = MulCoefficients::new(a, b, y);
                by.scale.is_finite().then_some(Binary::Mul(by))
            }),
            op if op.is_function() => Some(Self::Moves(vec![Move::function(&node.op, x, y)?])),
            Op::MaxPool { window } if moved => pool(window, x, y, kinds[0]).map(Self::MaxPool),
            Op::AvgPool { window, count_include_pad } => {
                let average = Average {
                    input: parameters(x)?,
                    scale: parameters(y)?.0,
                    output: kinds[1],
                    limits: limits(y, Activation::None)?,
                    count_padding: *count_include_pad,
                };
                pool(window, x, y, kinds[0]).map(|pool| Self::AvgPool(pool, average))
            }
            Op::GlobalAvgPool => Self::mean(x, y, kinds, &(2..x.shape.len()).collect::<Vec<_>>(), true),
            Op::ReduceMean { axes, keep_dims } => Self::mean(x, y, kinds, axes, *keep_dims),
            Op::Softmax { axis } => {
                let steps = f64::from((1.0 / parameters(y)?.0).floor());
                let softmax = Softmax::new(parameters(x)?.0, steps, kinds, limits(y, Activation::None)?);
                let (&length, &inner) = (x.shape.get(*axis)?, held_steps(&x.shape).get(*axis)?);
                Some(Self::Softmax(softmax, [length, inner]))
            }
            Op::Concat { axis } => {
                let mut first = 0;
                let parts = node.inputs.iter().map(|&id| {
                    let part = graph.value(id);
                    // A part that is quantized otherwise goes through a table, which needs one scale.
                    parameters(part)?;
                    let place = Move::part(*axis, first, part, y)?;
                    first += part.shape.get(*axis)?;
                    Some(place)
                });
                Some(Self::Parts(parts.collect::<Option<_>>()?))
            }
            Op::Reshape if moved => reshape(x, y).map(Self::Moves),
            Op::Transpose { perm } if moved => Some(Self::Moves(vec![Move::transpose(perm, x, y)?])),
            Op::Pad { before, value, .. } if moved => {
                let (scale, _) = parameters(y)?;
                let Limits { zero_point, low, high } = limits(y, Activation::None)?;
                #[allow(clippy::cast_possible_truncation, reason = "a float's cast saturates, and the clip follows")]
                let fill = ((value / scale).round_ties_even() as i32).saturating_add(zero_point).max(low).min(high);
                let [first, second, ..] = fill.to_le_bytes();
                let inside = Move::inside(before, x, y)?;
                Some(Self::Pad { fill: [first, second], size: kinds[1].bytes(), inside })
            }
            _ => None,
        }
    }

    fn binary(
        graph: &Graph<Quantized>,
        node: &Node,
        limits: Limits,
        binary: impl Fn((f32, i32), (f32, i32), (f32, i32)) -> Option<Binary>,
    ) -> Option<Self> {
        let &[a, b] = node.inputs.as_slice() else { return None };
        let [a, b, y] = [a, b, node.outputs[0]].map(|id| graph.value(id));
        let rank = y.shape.len();
        let spread = |operand: &Value| {
            let missing = rank.checked_sub(operand.shape.len())?;
            let steps = held_steps(&operand.shape);
            let dims = held_order(rank).into_iter().map(|axis| {
                let own = axis.checked_sub(missing).filter(|&own| operand.shape[own] != 1);
                (y.shape[axis], own.map_or(0, |own| steps[own]))
            });
            Some(Spread::new(dims))
        };
        Some(Self::Broadcast(Broadcast {
            binary: binary(parameters(a)?, parameters(b)?, parameters(y)?)?,
            spreads: [spread(a)?, spread(b)?],
            kinds: [narrow(a.dtype)?, narrow(b.dtype)?],
            output: narrow(y.dtype)?,
            range: [limits.low, limits.high],
        }))
    }

    fn mean(x: &Value, y: &Value, kinds: [Narrow; 2], axes: &[usize], keep_dims: bool) -> Option<Self> {
        let ((scale, zero), (own, _)) = (parameters(x)?, parameters(y)?);
        let (from, to) = (held_steps(&x.shape), held_steps(&y.shape));
        let mut kept = 0;
        let mut dims = Vec::new();
        let mut count = 1;
        for (axis, (&extent, &from)) in x.shape.iter().zip(&from).enumerate() {
            let summed = axes.contains(&axis);
            let place = if keep_dims { axis } else { kept };
            if summed {
                count *= extent;
            } else {
                kept += 1;
            }
            dims.push(Dim { extent, from, to: if summed { 0 } else { *to.get(place)? } });
        }
        let multiplier = scale / (own * count as f32);
        Mean::new(dims, kinds, zero, multiplier, limits(y, Activation::None)?).map(Self::Mean)
    }

    /// Which of a node's operands the kernel reads as values: not the weights that it has packed.
    pub const fn operands(&self, all: usize) -> Range<usize> {
        match self {
            Self::Dense(_) | Self::Depthwise(_) | Self::Wide(_) | Self::Rows { .. } => 0..1,
            _ => 0..all,
        }
    }

    /// Runs on held elements. `None` where a slice has another length.
    pub fn run(&self, operands: &[&[u8]], out: &mut [u8]) -> Option<()> {
        let &x = operands.first()?;
        match self {
            Self::Dense(dense) => dense.run(x, out),
            Self::Depthwise(depthwise) => depthwise.run(x, out),
            Self::Wide(wide) => wide.run(x, out),
            Self::Rows { before, bytes, product, after } => {
                let (mut rows, mut result) = (vec![0; x.len()], vec![0; *bytes]);
                before.run(x, &mut rows)?;
                product.run(&[&rows], &mut result)?;
                after.run(&result, out)
            }
            Self::Broadcast(broadcast) => broadcast.run(operands.try_into().ok()?, out),
            Self::MaxPool(pool) => pool.maximum(x, out),
            Self::AvgPool(pool, average) => pool.average(average, x, out),
            Self::Mean(mean) => mean.run(x, out),
            Self::Softmax(softmax, block) => softmax.run(x, *block, out),
            Self::Moves(moves) => match moves.as_slice() {
                [] => {
                    out.get_mut(..x.len())?.copy_from_slice(x);
                    Some(())
                }
                [only] => only.run(x, out),
                [first, second] => {
                    let mut between = vec![0; x.len()];
                    first.run(x, &mut between)?;
                    second.run(&between, out)
                }
                _ => None,
            },
            Self::Parts(parts) => operands.iter().zip(parts).try_for_each(|(x, part)| part.run(x, out)),
            Self::Pad { fill, size, inside } => {
                if *size == 1 {
                    out.fill(fill[0]);
                } else {
                    out.as_chunks_mut().0.fill(*fill);
                }
                inside.run(x, out)
            }
            Self::Reference => None,
        }
    }
}

fn pool(window: &Window, x: &Value, y: &Value, kind: Narrow) -> Option<Pool> {
    let (&[_, c, h, w], &[_, _, p, q]) = (x.shape.as_slice(), y.shape.as_slice()) else { return None };
    Some(Pool { window: kernel_window(window), image: [h, w, c], output: [p, q], kind })
}
