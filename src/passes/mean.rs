//! Recognizes global average pooling: a mean over rows and columns, or a float average over a window that is the image
//! (quantized, the two round differently).

use crate::ir::{Node, Op};

use super::work::{Slot, Work};

/// Runs the pass; returns the number of changes.
pub fn run(work: &mut Work) -> usize {
    let float_model = !work.has_quantized_results();
    (0..work.slots()).filter(|&slot| recognize(work, slot, float_model).is_some()).count()
}

fn recognize(work: &mut Work, slot: Slot, float_model: bool) -> Option<()> {
    let node = work.node(slot)?;
    let (&[x], &[y]) = (node.inputs.as_slice(), node.outputs.as_slice()) else { return None };
    let &[n, c, h, w] = work.value(x).shape.as_slice() else { return None };
    if let Op::AvgPool { window, .. } = node.op {
        let whole = window.kernel == [h, w] && window.pad == [0; 4] && window.dilation == [1, 1];
        if !whole || !work.is_float(x) || !work.is_float(y) || !float_model {
            return None;
        }
        *work.op_mut(slot)? = Op::GlobalAvgPool;
        return Some(());
    }
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
    use crate::ir::Window;
    use crate::passes::testing::{Builder, check, difference, evaluate, numbers};

    #[test]
    fn a_float_average_of_the_whole_image_is_global_average_pooling() {
        let mut build = Builder::new();
        let x = build.input(&[2, 3, 4, 5]);
        let window = Window { kernel: [4, 5], ..Window::UNIT };
        let y = build.node("pool", Op::AvgPool { window, count_include_pad: false }, &[x], &[2, 3, 1, 1]);
        build.output(y);
        let mut work = Work::new(build.graph);
        assert_eq!(run(&mut work), 1);
        assert_eq!(work.finish().nodes[0].op, Op::GlobalAvgPool);
    }

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
