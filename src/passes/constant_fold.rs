//! Folds nodes whose operands are all constants at hand; what they evaluate to, `ir::fold` says. Dequantized constants
//! stay as they are: the integers of a quantized model's weights are not to be lost.

use crate::{
    ir::{Constant, Kind, Op, ValueId, fold::evaluate},
    tensor::{Tensor, checked_elements},
};

use super::{
    constants::{MAX_FOLDED_ELEMENTS, dequantized, quantized},
    work::{Slot, Work},
};

/// Runs the pass; returns the number of changes.
pub fn run(work: &mut Work) -> usize {
    (0..work.slots()).filter(|&slot| fold(work, slot)).count()
}

/// Replaces `DequantizeLinear` of constants, for readers that no integer form was found for; returns the number of
/// changes. Weights of a convolution or a matrix product whose input is dequantized too keep their integers.
pub fn dequantize(work: &mut Work) -> usize {
    (0..work.slots()).filter(|&slot| dequantize_one(work, slot)).count()
}

/// Stores a folded result in the place of a node.
fn replace(work: &mut Work, slot: Slot, y: ValueId, constant: Constant) -> bool {
    work.remove(slot);
    if let Constant::Dense(tensor) = &constant {
        debug_assert_eq!(tensor.shape(), work.value(y).shape);
    }
    work.value_mut(y).constant = Some(constant);
    true
}

fn fold(work: &mut Work, slot: Slot) -> bool {
    let Some(node) = work.node(slot) else { return false };
    let &[y] = node.outputs.as_slice() else { return false };
    let Some(&x) = node.inputs.first() else { return false };
    if work.is_output(y) || !node.inputs.iter().all(|&input| work.is_constant(input)) {
        return false;
    }
    let shape = work.value(y).shape.clone();
    if checked_elements(&shape, MAX_FOLDED_ELEMENTS).is_none() {
        return false;
    }
    if let (Op::Reshape, Some(Constant::Synthetic(recipe))) = (&node.op, &work.value(x).constant) {
        let same = work.same_encoding(x, y) && work.value(x).elements() == work.value(y).elements();
        let recipe = recipe.clone();
        return same && work.value(y).quant.as_ref().is_none_or(|quant| quant.axis.is_none()) && {
            replace(work, slot, y, Constant::Synthetic(recipe))
        };
    }
    let Some(tensor) = work.dense(x) else { return false };
    let folded = match &node.op {
        Op::Reshape if work.same_encoding(x, y) => evaluate(&node.op, &[tensor], &shape).ok(),
        // A channel axis moves along; whoever made the node has seen to that.
        Op::Transpose { .. } if work.value(x).dtype == work.value(y).dtype => {
            evaluate(&node.op, &[tensor], &shape).ok()
        }
        Op::QuantizeLinear => {
            let value = work.value(y);
            value.quant.as_ref().and_then(|quant| quantized(tensor, quant, value.dtype))
        }
        op if matches!(op.kind(), Kind::Function | Kind::Binary) && work.is_float(y) => {
            floats(work, op, &node.inputs, &shape)
        }
        _ => None,
    };
    match folded {
        Some(tensor) if tensor.shape() == shape => replace(work, slot, y, Constant::Dense(tensor.into())),
        _ => false,
    }
}

/// An element-wise operator on floats.
fn floats(work: &Work, op: &Op, inputs: &[ValueId], shape: &[usize]) -> Option<Tensor> {
    let float = |&id: &ValueId| Tensor::from_f32(&work.value(id).shape, work.dense_float(id)?);
    let operands = inputs.iter().map(float).collect::<Option<Vec<_>>>()?;
    evaluate(op, &operands.iter().collect::<Vec<_>>(), shape).ok()
}

fn dequantize_one(work: &mut Work, slot: Slot) -> bool {
    let Some(node) = work.node(slot) else { return false };
    if node.op != Op::DequantizeLinear {
        return false;
    }
    let (&[q], &[y]) = (node.inputs.as_slice(), node.outputs.as_slice()) else { return false };
    if work.is_output(y) || work.consumers(y).iter().any(|&reader| keeps_integers(work, reader, y)) {
        return false;
    }
    let folded = work.dense(q).zip(work.value(q).quant.as_ref()).and_then(|(tensor, quant)| dequantized(tensor, quant));
    folded.is_some_and(|tensor| replace(work, slot, y, Constant::Dense(tensor.into())))
}

/// Whether `reader` takes `w` as the weight beside a dequantized input, and nothing that folds into it follows.
fn keeps_integers(work: &Work, reader: Slot, w: ValueId) -> bool {
    let Some(node) = work.node(reader) else { return false };
    if !matches!(node.op, Op::Conv { .. } | Op::MatMul { .. }) || node.inputs.get(1) != Some(&w) {
        return false;
    }
    let input = work.producing(node.inputs[0]).is_some_and(|(_, before)| before.op == Op::DequantizeLinear);
    let folds = node
        .outputs
        .iter()
        .flat_map(|&y| work.consumers(y))
        .any(|&after| work.node(after).is_some_and(|after| matches!(after.op, Op::BatchNorm { .. })));
    input && !folds
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        passes::testing::{Builder, check, evaluate},
        tensor::{DType, Quantization},
    };

    #[test]
    fn arithmetic_on_constants_is_evaluated_with_broadcasting() {
        let mut build = Builder::new();
        let x = build.input(&[2, 2]);
        let a = build.constant(&[2, 1], vec![1.0, 2.0]);
        let b = build.constant(&[2], vec![10.0, 20.0]);
        let c = build.node("sub", Op::Sub, &[a, b], &[2, 2]);
        let d = build.node("t", Op::Transpose { perm: vec![1, 0] }, &[c], &[2, 2]);
        let y = build.node("end", Op::Mul, &[x, d], &[2, 2]);
        build.output(y);
        let mut work = Work::new(build.graph);
        assert_eq!(run(&mut work), 2);
        let graph = work.finish();
        check(&graph);
        assert_eq!(graph.nodes.len(), 1);
        assert_eq!(evaluate(&graph, &[vec![1.0; 4]])[0], [-9.0, -8.0, -19.0, -18.0]);
    }

    #[test]
    fn a_quantized_float_weight_becomes_integers_and_its_dequantization_stays() {
        let mut build = Builder::new();
        let x = build.input(&[1, 2]);
        let x = build.qdq("x", x, DType::UInt8, Quantization::per_tensor(0.1, 0));
        let w = build.constant(&[2, 2], vec![0.5, -1.0, 1.5, 2.5]);
        let quant = Quantization { scale: vec![0.5, 1.0], zero_point: vec![0, 0], axis: Some(0) };
        let w = build.qdq("w", w, DType::Int8, quant);
        let matmul = Op::MatMul { transposed: true, activation: crate::ir::Activation::None };
        let y = build.node("fc", matmul, &[x, w], &[1, 2]);
        build.output(y);
        let mut work = Work::new(build.graph);
        assert_eq!(run(&mut work), 1);
        assert_eq!(dequantize(&mut work), 0);
        let graph = work.finish();
        let integers = graph.values.iter().find_map(|value| value.constant.as_ref());
        let Some(Constant::Dense(tensor)) = integers else { panic!("a dense constant") };
        assert_eq!(tensor.to_integers().unwrap(), [1, -2, 2, 2]);
    }

    #[test]
    fn a_dequantized_constant_of_another_operator_becomes_float() {
        let mut build = Builder::new();
        let x = build.input(&[1, 2]);
        let c = build.dq(DType::Int8, &[2], &[3, -4], Quantization::per_tensor(0.5, 1));
        let y = build.node("sub", Op::Sub, &[x, c], &[1, 2]);
        build.output(y);
        let mut work = Work::new(build.graph);
        assert_eq!(dequantize(&mut work), 1);
        assert_eq!(evaluate(&work.finish(), &[vec![0.0, 0.0]])[0], [-1.0, 2.5]);
    }
}
