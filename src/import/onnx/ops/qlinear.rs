//! ONNX Runtime's quantized operators (`com.microsoft`): the float operators on quantized values.

use super::{norm, pool, qdq, window};
use crate::{
    import::onnx::{
        importer::{Binding, Importer},
        limits::{Fallible, refuse},
        node::{NodeView, axis},
    },
    ir::{Activation, Op},
};

/// `QLinearAdd`, `QLinearMul`: `[a, as, az, b, bs, bz, ys, yz]`.
pub(super) fn binary<'m>(imp: &mut Importer<'m>, node: &NodeView<'m>) -> Fallible<Vec<Binding<'m>>> {
    let a = qdq::activation(imp, node, 0, 1, 2)?;
    let b = qdq::activation(imp, node, 3, 4, 5)?;
    let encoding = qdq::result(imp, node, 6, 7, a)?;
    let op = if node.op() == "QLinearMul" { Op::Mul } else { Op::Add { activation: Activation::None } };
    Ok(vec![Binding::Value(window::pointwise(imp, node, op, &[a, b], &[], encoding)?)])
}

/// `QLinearSigmoid`, `QLinearLeakyRelu`: `[x, xs, xz, ys, yz]`.
pub(super) fn unary<'m>(imp: &mut Importer<'m>, node: &NodeView<'m>) -> Fallible<Vec<Binding<'m>>> {
    let op = match node.op() {
        "QLinearSigmoid" => Op::Sigmoid,
        _ => Op::LeakyRelu { alpha: node.float("alpha", 0.01)? },
    };
    let x = qdq::activation(imp, node, 0, 1, 2)?;
    let encoding = qdq::result(imp, node, 3, 4, x)?;
    Ok(vec![Binding::Value(window::pointwise(imp, node, op, &[x], &[], encoding)?)])
}

/// `QLinearConcat`: `[ys, yz, (x, xs, xz)...]`.
pub(super) fn concat<'m>(imp: &mut Importer<'m>, node: &NodeView<'m>) -> Fallible<Vec<Binding<'m>>> {
    let count = node.proto.input.len() - 2;
    if !count.is_multiple_of(3) {
        refuse!("{} operands; expected two and three for each joined tensor", count + 2);
    }
    let operands = (0..count / 3)
        .map(|index| qdq::activation(imp, node, 3 * index + 2, 3 * index + 3, 3 * index + 4))
        .collect::<Fallible<Vec<_>>>()?;
    let encoding = qdq::result(imp, node, 0, 1, operands[0])?;
    let axis = axis(node.int("axis", 0)?, imp.shape(operands[0]).len())?;
    Ok(vec![Binding::Value(imp.finish(node, Op::Concat { axis }, operands, encoding)?)])
}

fn channels_first(node: &NodeView<'_>) -> Fallible<()> {
    if node.flag("channels_last", false)? {
        refuse!("attribute not supported: `channels_last`");
    }
    Ok(())
}

/// `QLinearAveragePool`: `[x, xs, xz, ys, yz]`.
pub(super) fn average_pool<'m>(imp: &mut Importer<'m>, node: &NodeView<'m>) -> Fallible<Vec<Binding<'m>>> {
    channels_first(node)?;
    let x = qdq::activation(imp, node, 0, 1, 2)?;
    let encoding = qdq::result(imp, node, 3, 4, x)?;
    Ok(vec![Binding::Value(pool::average_of(imp, node, x, encoding)?)])
}

/// `QLinearGlobalAveragePool`: `[x, xs, xz, ys, yz]`.
pub(super) fn global_average_pool<'m>(imp: &mut Importer<'m>, node: &NodeView<'m>) -> Fallible<Vec<Binding<'m>>> {
    channels_first(node)?;
    let x = qdq::activation(imp, node, 0, 1, 2)?;
    let encoding = qdq::result(imp, node, 3, 4, x)?;
    Ok(vec![Binding::Value(pool::global_of(imp, node, Op::GlobalAvgPool, x, encoding)?)])
}

/// `QLinearSoftmax`: `[x, xs, xz, ys, yz]`; which rules hold for the axis is said by the attribute `opset`.
pub(super) fn softmax<'m>(imp: &mut Importer<'m>, node: &NodeView<'m>) -> Fallible<Vec<Binding<'m>>> {
    let x = qdq::activation(imp, node, 0, 1, 2)?;
    let encoding = qdq::result(imp, node, 3, 4, x)?;
    let version = node.int("opset", 1)?;
    Ok(vec![Binding::Value(norm::softmax_of(imp, node, x, encoding, version)?)])
}
