//! Integers that no scale describes: where a machine has to order them, they are taken with scale 1 and zero point 0, so
//! that their real values are the integers themselves.

use crate::{
    diag::{Diagnostic, Faults},
    ir::{Node, Op, ValueId},
    passes::work::{Slot, Work},
    tensor::{DType, Quantization},
};

/// Operators whose result is a choice of their operands' elements, so that all have one scale.
const fn chooses(op: &Op) -> bool {
    op.is_selection() || matches!(op, Op::Concat { .. } | Op::Relu)
}

fn is_plain(work: &Work, id: ValueId) -> bool {
    let value = work.value(id);
    value.quant.is_none() && value.dtype.is_integer()
}

fn values(node: &Node) -> impl Iterator<Item = ValueId> {
    node.inputs.iter().chain(&node.outputs).copied()
}

/// Describes the plain integers of every `MaxPool`, and of what moves them before and after; returns the number of
/// values. Plain integers that are only moved stay as they are: the host does that without knowing what they mean.
///
/// # Errors
/// Pools of types that no machine here has, and operators that have both plain and described integers.
pub fn describe(work: &mut Work) -> Result<usize, Faults> {
    let mut found = Vec::new();
    let mut count = 0;
    let pools = |work: &Work| -> Vec<Slot> {
        let is_pool = |&slot: &Slot| work.node(slot).is_some_and(|node| matches!(node.op, Op::MaxPool { .. }));
        (0..work.slots()).filter(is_pool).collect()
    };
    let mut open = pools(work);
    while let Some(slot) = open.pop() {
        let Some(node) = work.node(slot).filter(|node| values(node).any(|id| is_plain(work, id))).cloned() else {
            continue;
        };
        let known: Vec<ValueId> = values(&node).filter(|&id| work.value(id).quant.is_some()).collect();
        let one = Quantization::per_tensor(1.0, 0);
        let fault = |message: String| Diagnostic::error(message).with_path(format!("node \"{}\"", node.name));
        if let Some(other) = known.iter().map(|&id| work.value(id)).find(|value| value.quant.as_ref() != Some(&one)) {
            found.push(
                fault(format!(
                    "{} has integers without a scale beside `{}`, which has one",
                    node.op.name(),
                    other.name
                ))
                .with_help("put `DequantizeLinear` and `QuantizeLinear` around it, or quantize neither"),
            );
            continue;
        }
        for id in values(&node).filter(|&id| is_plain(work, id)).collect::<Vec<_>>() {
            let dtype = work.value(id).dtype;
            if !matches!(dtype, DType::Int8 | DType::UInt8 | DType::Int16 | DType::UInt16) {
                found.push(
                    fault(format!(
                        "{} of {dtype:?}, expected a float type or integers of 8 or 16 bits",
                        node.op.name()
                    ))
                    .with_help("cast the tensor in the model before it is pooled"),
                );
                break;
            }
            work.value_mut(id).quant = Some(one.clone());
            count += 1;
            let around = work.producer(id).into_iter().chain(work.consumers(id).iter().copied());
            open.extend(around.filter(|&next| work.node(next).is_some_and(|node| chooses(&node.op))));
        }
    }
    found.dedup_by(|a, b| a.path == b.path);
    Faults::check(found)?;
    Ok(count)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{ir::Window, passes::testing::Builder};

    fn pool() -> Op {
        Op::MaxPool { window: Window::UNIT }
    }

    #[test]
    fn a_pool_of_plain_integers_has_scale_1_and_so_has_what_moves_them() {
        let mut build = Builder::new();
        let x = build.value("x", &[1, 2, 2, 3], DType::UInt8, None);
        build.graph.inputs.push(x);
        let moved =
            build.node_as("moved", Op::Transpose { perm: vec![0, 3, 1, 2] }, &[x], &[1, 3, 2, 2], DType::UInt8, None);
        let y = build.node_as("pool", pool(), &[moved], &[1, 3, 2, 2], DType::UInt8, None);
        let z = build.node_as("flat", Op::Reshape, &[y], &[1, 12], DType::UInt8, None);
        build.output(z);
        let mut work = Work::new(build.graph);
        assert_eq!(describe(&mut work).unwrap(), 4);
        for id in [x, moved, y, z] {
            assert_eq!(work.value(id).quant, Some(Quantization::per_tensor(1.0, 0)));
        }
        assert_eq!(describe(&mut work).unwrap(), 0);
    }

    #[test]
    fn integers_that_are_only_moved_stay_plain() {
        let mut build = Builder::new();
        let x = build.value("x", &[2, 6], DType::Int64, None);
        build.graph.inputs.push(x);
        let y = build.node_as("flat", Op::Reshape, &[x], &[12], DType::Int64, None);
        build.output(y);
        assert_eq!(describe(&mut Work::new(build.graph)).unwrap(), 0);
    }

    #[test]
    fn wide_integers_and_a_mixture_of_scales_are_named() {
        let mut build = Builder::new();
        let wide = build.value("wide", &[1, 1, 2, 2], DType::Int32, None);
        let plain = build.value("plain", &[1, 1, 2, 2], DType::Int8, None);
        let scaled = build.value("scaled", &[1, 1, 2, 2], DType::Int8, Some(Quantization::per_tensor(0.5, 0)));
        build.graph.inputs.extend([wide, plain, scaled]);
        let a = build.node_as("a", pool(), &[wide], &[1, 1, 2, 2], DType::Int32, None);
        let both = build.node_as("both", Op::Concat { axis: 1 }, &[plain, scaled], &[1, 2, 2, 2], DType::Int8, None);
        let b = build.node_as("b", pool(), &[both], &[1, 2, 2, 2], DType::Int8, None);
        build.output(a);
        build.output(b);
        let faults = describe(&mut Work::new(build.graph)).unwrap_err().to_string();
        assert!(faults.contains("MaxPool of Int32") && faults.contains("beside `scaled`"), "{faults}");
    }
}
