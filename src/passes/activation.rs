//! Fuses `Relu` and `Clip` into the convolution, matrix product or addition before them.

use crate::ir::{Activation, Op};

use super::work::{Slot, Work, activation_mut, activation_of};

/// Runs the pass; returns the number of changes.
pub fn run(work: &mut Work) -> usize {
    (0..work.slots()).filter(|&slot| fuse(work, slot)).count()
}

/// The activation that a standalone operator applies.
fn standalone(op: &Op) -> Option<Activation> {
    match *op {
        Op::Relu => Some(Activation::Relu),
        Op::Clip { low, high } if low <= high => Some(Activation::Clip { low, high }),
        _ => None,
    }
}

/// `second(first(x))` as one activation.
pub fn compose(first: Activation, second: Activation) -> Activation {
    let limits = |activation| match activation {
        Activation::None => (f32::NEG_INFINITY, f32::INFINITY),
        Activation::Relu => (0.0, f32::INFINITY),
        Activation::Clip { low, high } => (low, high),
    };
    let ((low1, high1), (low2, high2)) = (limits(first), limits(second));
    let (low, high) = (low1.max(low2).min(high2), high1.min(high2).max(low2));
    if low == 0.0 && high == f32::INFINITY {
        Activation::Relu
    } else if low == f32::NEG_INFINITY && high == f32::INFINITY {
        Activation::None
    } else {
        Activation::Clip { low, high }
    }
}

/// The intermediate value must have no other reader, and, where it is quantized, the parameters of the result:
/// then clamping integers to `clip(rne(limit / scale) + zero_point)` is what both forms do.
fn fuse(work: &mut Work, slot: Slot) -> bool {
    let Some(node) = work.node(slot) else { return false };
    let Some(second) = standalone(&node.op) else { return false };
    let (&[x], &[y]) = (node.inputs.as_slice(), node.outputs.as_slice()) else { return false };
    if work.uses(x) != 1 || !work.same_encoding(x, y) {
        return false;
    }
    let Some((before, producer)) = work.producing(x) else { return false };
    let Some(first) = activation_of(&producer.op).or_else(|| standalone(&producer.op)) else { return false };
    let both = compose(first, second);
    let Some(op) = work.op_mut(before) else { return false };
    match (activation_mut(op), both) {
        (Some(place), _) => *place = both,
        (None, Activation::Clip { low, high }) => *op = Op::Clip { low, high },
        (None, Activation::Relu) => *op = Op::Relu,
        (None, Activation::None) => return false,
    }
    work.remove(slot);
    work.set_output(before, y);
    true
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        ir::Window,
        passes::testing::{Builder, check, conv, difference, evaluate, numbers},
    };

    #[test]
    fn activations_compose_in_order() {
        let clip = |low, high| Activation::Clip { low, high };
        assert_eq!(compose(Activation::None, Activation::Relu), Activation::Relu);
        assert_eq!(compose(Activation::Relu, clip(-1.0, 6.0)), clip(0.0, 6.0));
        assert_eq!(compose(clip(-1.0, 6.0), Activation::Relu), clip(0.0, 6.0));
        assert_eq!(compose(clip(3.0, 6.0), clip(0.0, 1.0)), clip(1.0, 1.0));
        assert_eq!(compose(clip(-3.0, -2.0), Activation::Relu), clip(0.0, 0.0));
    }

    #[test]
    fn a_chain_of_activations_is_fused_and_keeps_values() {
        let mut build = Builder::new();
        let x = build.input(&[1, 2, 4, 4]);
        let w = build.constant(&[3, 2, 1, 1], numbers(6, 1));
        let y = build.node("conv", conv(Window::UNIT, 1), &[x, w], &[1, 3, 4, 4]);
        let z = build.node("relu", Op::Relu, &[y], &[1, 3, 4, 4]);
        let c = build.node("clip", Op::Clip { low: -1.0, high: 0.5 }, &[z], &[1, 3, 4, 4]);
        build.output(c);
        let before = build.graph.clone();
        let mut work = Work::new(build.graph);
        assert_eq!(run(&mut work), 2);
        let after = work.finish();
        check(&after);
        assert_eq!(after.nodes.len(), 1);
        assert_eq!(activation_of(&after.nodes[0].op), Some(Activation::Clip { low: 0.0, high: 0.5 }));
        let data = [numbers(32, 2)];
        assert!(difference(&evaluate(&before, &data), &evaluate(&after, &data)) < 1e-7);
    }

    #[test]
    fn an_activation_stays_where_its_operand_is_read_twice() {
        let mut build = Builder::new();
        let x = build.input(&[1, 2, 4, 4]);
        let w = build.constant(&[3, 2, 1, 1], numbers(6, 1));
        let y = build.node("conv", conv(Window::UNIT, 1), &[x, w], &[1, 3, 4, 4]);
        let z = build.node("relu", Op::Relu, &[y], &[1, 3, 4, 4]);
        build.output(y);
        build.output(z);
        let mut work = Work::new(build.graph);
        assert_eq!(run(&mut work), 0);
    }
}
