//! Removes operators that change nothing: reshapes to the same shape, chains of reshapes and transposes, empty
//! padding, 1x1 pooling, and a quantization of what was dequantized with the same parameters.

use crate::ir::{Op, ValueId};

use super::work::{Slot, Work};

/// Runs the pass; returns the number of changes.
pub fn run(work: &mut Work) -> usize {
    (0..work.slots()).filter(|&slot| shorten(work, slot) || round_trip(work, slot) || drop_identity(work, slot)).count()
}

fn drop_identity(work: &mut Work, slot: Slot) -> bool {
    let Some(node) = work.node(slot) else { return false };
    let (&[x, ..], &[y]) = (node.inputs.as_slice(), node.outputs.as_slice()) else { return false };
    if !work.same_encoding(x, y) || work.value(x).shape != work.value(y).shape {
        return false;
    }
    let identity = match &node.op {
        Op::Reshape => true,
        Op::Transpose { perm } => keeps(work, x, perm),
        Op::Pad { before, after, .. } => before.iter().chain(after).all(|&count| count == 0),
        Op::Concat { .. } => node.inputs.len() == 1,
        Op::MaxPool { window } | Op::AvgPool { window, .. } => {
            window.kernel == [1, 1] && window.stride == [1, 1] && window.pad == [0; 4]
        }
        Op::Clip { low, high } => *low == f32::NEG_INFINITY && *high == f32::INFINITY,
        Op::ReduceMean { axes, .. } => axes.iter().all(|&axis| work.value(x).shape.get(axis) == Some(&1)),
        Op::GlobalAvgPool | Op::GlobalMaxPool => matches!(work.value(x).shape.as_slice(), [_, _, 1, 1]),
        _ => false,
    };
    identity && work.bypass(slot)
}

/// Whether a permutation moves only dimensions of extent 1, so that memory stays as it is.
fn keeps(work: &Work, x: ValueId, perm: &[usize]) -> bool {
    let shape = &work.value(x).shape;
    let moved: Vec<usize> =
        perm.iter().copied().filter(|&dim| shape.get(dim).is_some_and(|&extent| extent != 1)).collect();
    moved.is_sorted()
}

/// `Reshape(Reshape(x))` and `Transpose(Transpose(x))` read `x` directly; a transposition that moves only
/// dimensions of extent 1 becomes a reshape.
fn shorten(work: &mut Work, slot: Slot) -> bool {
    let Some(node) = work.node(slot) else { return false };
    let &[x] = node.inputs.as_slice() else { return false };
    if let Op::Transpose { perm } = &node.op
        && keeps(work, x, perm)
    {
        if let Some(op) = work.op_mut(slot) {
            *op = Op::Reshape;
        }
        return true;
    }
    let Some((_, before)) = work.producing(x) else { return false };
    let &[origin] = before.inputs.as_slice() else { return false };
    if !work.same_encoding(origin, x) {
        return false;
    }
    let merged = match (&before.op, &node.op) {
        (Op::Reshape, Op::Reshape) => Op::Reshape,
        (Op::Transpose { perm: first }, Op::Transpose { perm: second }) if first.len() == second.len() => {
            Op::Transpose { perm: second.iter().map(|&dim| first[dim]).collect() }
        }
        _ => return false,
    };
    if let Some(op) = work.op_mut(slot) {
        *op = merged;
    }
    work.set_inputs(slot, vec![origin]);
    work.prune(x);
    true
}

/// `QuantizeLinear(DequantizeLinear(q))` with the parameters of `q` is `q`: `rne(f32(f32(n s) / s)) = n` for every
/// integer of at most 16 bits.
fn round_trip(work: &mut Work, slot: Slot) -> bool {
    let Some(node) = work.node(slot) else { return false };
    if node.op != Op::QuantizeLinear {
        return false;
    }
    let (&[x], &[y]) = (node.inputs.as_slice(), node.outputs.as_slice()) else { return false };
    let Some((_, before)) = work.producing(x) else { return false };
    if before.op != Op::DequantizeLinear {
        return false;
    }
    let &[q] = before.inputs.as_slice() else { return false };
    if !work.same_encoding(q, y) || work.value(q).dtype.bits() > 16 || work.is_output(y) {
        return false;
    }
    work.remove(slot);
    work.replace_uses(y, q);
    work.prune(x);
    true
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        passes::testing::{Builder, check, listing},
        tensor::{DType, Quantization},
    };

    #[test]
    fn chains_of_reshapes_and_transposes_collapse() {
        let mut build = Builder::new();
        let x = build.input(&[1, 2, 3, 4]);
        let a = build.node("t1", Op::Transpose { perm: vec![0, 2, 3, 1] }, &[x], &[1, 3, 4, 2]);
        let b = build.node("t2", Op::Transpose { perm: vec![0, 3, 1, 2] }, &[a], &[1, 2, 3, 4]);
        let c = build.node("r1", Op::Reshape, &[b], &[2, 12]);
        let d = build.node("r2", Op::Reshape, &[c], &[24]);
        let e = build.node("act", Op::Tanh, &[d], &[24]);
        build.output(e);
        let mut work = Work::new(build.graph);
        while run(&mut work) > 0 {}
        let graph = work.finish();
        check(&graph);
        assert_eq!(listing(&graph), "r2 Reshape: Fp32[1, 2, 3, 4] -> Fp32[24]\nact Tanh: Fp32[24] -> Fp32[24]\n");
    }

    #[test]
    fn an_identity_at_the_output_keeps_the_output_name() {
        let mut build = Builder::new();
        let x = build.input(&[4]);
        let y = build.node("act", Op::Tanh, &[x], &[4]);
        let z = build.node("end", Op::Reshape, &[y], &[4]);
        build.output(z);
        let mut work = Work::new(build.graph);
        assert_eq!(run(&mut work), 1);
        let graph = work.finish();
        check(&graph);
        assert_eq!(graph.nodes.len(), 1);
        assert_eq!(graph.value(graph.outputs[0]).name, "end:0");
    }

    #[test]
    fn an_identity_from_input_to_output_stays() {
        let mut build = Builder::new();
        let x = build.input(&[4]);
        let y = build.node("only", Op::Reshape, &[x], &[4]);
        build.output(y);
        let mut work = Work::new(build.graph);
        assert_eq!(run(&mut work), 0);
        assert_eq!(work.finish().nodes.len(), 1);
    }

    #[test]
    fn a_round_trip_goes_only_with_equal_parameters() {
        for (scale, left) in [(0.5, 1), (0.25, 3)] {
            let mut build = Builder::new();
            let q = build.value("q", &[4], DType::UInt8, Some(Quantization::per_tensor(0.5, 3)));
            build.graph.inputs.push(q);
            let x = build.node("dq", Op::DequantizeLinear, &[q], &[4]);
            let quant = Some(Quantization::per_tensor(scale, 3));
            let y = build.node_as("q2", Op::QuantizeLinear, &[x], &[4], DType::UInt8, quant);
            let z = build.node("end", Op::DequantizeLinear, &[y], &[4]);
            build.output(z);
            let mut work = Work::new(build.graph);
            run(&mut work);
            assert_eq!(work.finish().nodes.len(), left);
        }
    }
}
