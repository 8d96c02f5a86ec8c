//! Recognizes global average pooling: a mean over rows and columns.

use crate::ir::{Node, Op};

use super::work::{Slot, Work};

/// Runs the pass; returns the number of changes.
pub fn run(work: &mut Work) -> usize {
    (0..work.slots()).filter(|&slot| recognize(work, slot).is_some()).count()
}

fn recognize(work: &mut Work, slot: Slot) -> Option<()> {
    let node = work.node(slot)?;
    let (&[x], &[y]) = (node.inputs.as_slice(), node.outputs.as_slice()) else { return None };
    let &[n, c, _, _] = work.value(x).shape.as_slice() else { return None };
    let Op::ReduceMean { axes, keep_dims } = &node.op else { return None };
    if axes.as_slice() != [2, 3] {
        return None;
    }
    if *keep_dims {
        *work.op_mut(slot)? = Op::GlobalAvgPool;
        return Some(());
    }
    let (name, dtype, quant) = (format!("{}.pool", node.name), work.value(y).dtype, work.value(y).quant.clone());
    let pooled = work.add_like(y, ".pooled", dtype, quant);
    work.value_mut(pooled).shape = vec![n, c, 1, 1];
    *work.op_mut(slot)? = Op::Reshape;
    work.set_inputs(slot, vec![pooled]);
    work.add_node(Node { name, op: Op::GlobalAvgPool, inputs: vec![x], outputs: vec![pooled] });
    Some(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::passes::testing::{Builder, check, difference, evaluate, numbers};

    #[test]
    fn a_mean_over_rows_and_columns_is_global_average_pooling() {
        for (keep_dims, shape, nodes) in
            [(true, vec![2, 3, 1, 1], vec!["GlobalAvgPool"]), (false, vec![2, 3], vec!["GlobalAvgPool", "Reshape"])]
        {
            let mut build = Builder::new();
            let x = build.input(&[2, 3, 4, 5]);
            let y = build.node("mean", Op::ReduceMean { axes: vec![2, 3], keep_dims }, &[x], &shape);
            build.output(y);
            let before = build.graph.clone();
            let mut work = Work::new(build.graph);
            assert_eq!(run(&mut work), 1);
            let after = work.finish();
            check(&after);
            assert_eq!(after.nodes.iter().map(|node| node.op.name()).collect::<Vec<_>>(), nodes);
            let data = [numbers(120, 5)];
            assert!(difference(&evaluate(&before, &data), &evaluate(&after, &data)) < 1e-12);
        }
    }
}
