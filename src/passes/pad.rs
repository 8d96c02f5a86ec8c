//! Folds constant padding into the windows of the convolutions and pools that read it.

use crate::ir::{Activation, Op, ValueId, Window};

use super::work::{Slot, Work};

/// Runs the pass; returns the number of changes.
pub fn run(work: &mut Work) -> usize {
    (0..work.slots()).filter(|&slot| fold(work, slot).is_some()).count()
}

fn fold(work: &mut Work, slot: Slot) -> Option<()> {
    let node = work.node(slot)?;
    let x = *node.inputs.first()?;
    let (_, padding) = work.producing(x)?;
    let Op::Pad { before, after, value } = &padding.op else { return None };
    let &[origin] = padding.inputs.as_slice() else { return None };
    let (&[0, 0, top, left], &[0, 0, bottom, right]) = (before.as_slice(), after.as_slice()) else { return None };
    if !work.same_encoding(origin, x) {
        return None;
    }
    let added = [top, left, bottom, right];
    let mut op = node.op.clone();
    match &mut op {
        Op::Conv { window, .. } if *value == 0.0 => widen(window, added, false)?,
        Op::AvgPool { window, count_include_pad } if *value == 0.0 && (*count_include_pad || window.pad == [0; 4]) => {
            widen(window, added, true)?;
            *count_include_pad = true;
        }
        Op::MaxPool { window } if *value <= f32::MIN || (*value == 0.0 && non_negative(work, origin)) => {
            widen(window, added, true)?;
        }
        _ => return None,
    }
    *work.op_mut(slot)? = op;
    work.set_input(slot, 0, origin);
    work.prune(x);
    Some(())
}

/// Adds to a window's padding; a pool's window must not fit into the padding alone.
fn widen(window: &mut Window, added: [usize; 4], pool: bool) -> Option<()> {
    for (side, (pad, added)) in window.pad.iter_mut().zip(added).enumerate() {
        *pad = pad.checked_add(added)?;
        if pool && (*pad >= window.kernel[side % 2] || window.dilation[side % 2] != 1) {
            return None;
        }
    }
    Some(())
}

/// Whether a value cannot be below zero: then a maximum with zero changes nothing.
fn non_negative(work: &Work, x: ValueId) -> bool {
    let value = work.value(x);
    if let (Some(quant), Some((low, _))) = (&value.quant, value.dtype.int_range())
        && quant.zero_point.iter().all(|&zero| i64::from(zero) == low)
    {
        return true;
    }
    let at_least_zero = |activation: &Activation| match activation {
        Activation::None => false,
        Activation::Relu => true,
        Activation::Clip { low, .. } => *low >= 0.0,
    };
    work.producing(x).is_some_and(|(_, node)| match &node.op {
        Op::Relu | Op::Sigmoid | Op::HardSigmoid { .. } | Op::Softmax { .. } => true,
        Op::Clip { low, .. } => *low >= 0.0,
        op => super::work::activation_of(op).as_ref().is_some_and(at_least_zero),
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::passes::testing::{Builder, check, conv, difference, evaluate, numbers};

    const WINDOW: Window = Window { kernel: [3, 3], stride: [2, 2], dilation: [1, 1], pad: [0; 4] };

    fn folds(op: Op, relu: bool, value: f32, channels: usize) -> bool {
        let mut build = Builder::new();
        let input = build.input(&[1, 2, 6, 6]);
        let act = if relu { Op::Relu } else { Op::Tanh };
        let x = build.node("act", act, &[input], &[1, 2, 6, 6]);
        let pad = Op::Pad { before: vec![0, 0, 0, 1], after: vec![0, 0, 2, 1], value };
        let padded = build.node("pad", pad, &[x], &[1, 2, 8, 8]);
        let mut inputs = vec![padded];
        if matches!(op, Op::Conv { .. }) {
            inputs.push(build.constant(&[channels, 2, 3, 3], numbers(channels * 18, 3)));
        }
        let y = build.node("op", op, &inputs, &[1, channels, 3, 3]);
        build.output(y);
        let before = build.graph.clone();
        let mut work = Work::new(build.graph);
        let folded = run(&mut work) == 1;
        let after = work.finish();
        check(&after);
        let data = [numbers(72, 5)];
        assert!(difference(&evaluate(&before, &data), &evaluate(&after, &data)) < 1e-7);
        folded
    }

    #[test]
    fn zero_padding_folds_into_convolutions_and_averages() {
        assert!(folds(conv(WINDOW, 1), false, 0.0, 3));
        assert!(!folds(conv(WINDOW, 1), false, 1.0, 3));
        assert!(folds(Op::AvgPool { window: WINDOW, count_include_pad: false }, false, 0.0, 2));
        let padded = Window { pad: [0, 0, 0, 0], ..WINDOW };
        assert!(folds(Op::AvgPool { window: padded, count_include_pad: true }, false, 0.0, 2));
    }

    #[test]
    fn padding_folds_into_a_maximum_only_where_it_cannot_win() {
        let pool = Op::MaxPool { window: WINDOW };
        assert!(folds(pool.clone(), true, 0.0, 2));
        assert!(!folds(pool.clone(), false, 0.0, 2));
        assert!(folds(pool, false, f32::NEG_INFINITY, 2));
    }
}
