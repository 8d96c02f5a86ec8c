//! Elementwise float operators.

use super::window;
use crate::{
    import::onnx::{
        importer::{Binding, Encoding, Importer, NameSuffix},
        limits::{Fallible, refuse},
        node::NodeView,
    },
    ir::{Activation, Op, ValueId, op::elementwise},
};

const ADD: Op = Op::Add { activation: Activation::None };

/// The graph's operator of the node's name, with ONNX's default attributes.
fn named(node: &NodeView<'_>) -> Fallible<Op> {
    match elementwise(node.op()).and_then(|spec| spec.default.clone()) {
        Some(op) => Ok(op),
        None => refuse!("{} is not element-wise", node.op()),
    }
}

/// A function of one element, with its attributes.
pub(super) fn function<'m>(imp: &mut Importer<'m>, node: &NodeView<'m>) -> Fallible<Vec<Binding<'m>>> {
    let mut op = named(node)?;
    for (name, value) in op.reals_mut() {
        *value = node.float(name, *value)?;
    }
    let x = imp.float(node, 0)?;
    Ok(vec![Binding::Value(window::pointwise(imp, node, op, &[x], &[], Encoding::FLOAT)?)])
}

/// An operator on two operands.
pub(super) fn binary<'m>(imp: &mut Importer<'m>, node: &NodeView<'m>) -> Fallible<Vec<Binding<'m>>> {
    let op = named(node)?;
    let mut operands = vec![imp.float(node, 0)?, imp.float(node, 1)?];
    constant_second(imp, &op, &mut operands);
    Ok(vec![Binding::Value(window::pointwise(imp, node, op, &operands, &[], Encoding::FLOAT)?)])
}

/// Where order does not matter, a constant stands second.
fn constant_second(imp: &Importer<'_>, op: &Op, operands: &mut [ValueId]) {
    let commutes = matches!(op, Op::Add { .. } | Op::Mul | Op::Min | Op::Max);
    if commutes && imp.is_fixed(operands[0]) && !imp.is_fixed(operands[1]) {
        operands.swap(0, 1);
    }
}

/// `Sum`, `Min` and `Max` of any number of operands: a chain, from the left.
pub(super) fn chain<'m>(imp: &mut Importer<'m>, node: &NodeView<'m>) -> Fallible<Vec<Binding<'m>>> {
    let op = if node.op() == "Sum" { ADD } else { named(node)? };
    let count = node.proto.input.len();
    let mut total = imp.float(node, 0)?;
    for index in 1..count {
        let mut operands = [total, imp.float(node, index)?];
        constant_second(imp, &op, &mut operands);
        let step = if index + 1 == count { NameSuffix::WHOLE } else { NameSuffix::helper("partial") };
        total = imp.emit(node, step, op.clone(), operands.to_vec(), Encoding::FLOAT, None)?;
    }
    Ok(vec![Binding::Value(total)])
}

/// `PRelu`; with one constant slope for all elements it is a `LeakyRelu`, which a table computes.
pub(super) fn prelu<'m>(imp: &mut Importer<'m>, node: &NodeView<'m>) -> Fallible<Vec<Binding<'m>>> {
    let x = imp.float(node, 0)?;
    let rank = imp.shape(x).len();
    let (op, operands) = match imp.binding(node, 1)? {
        Some(Binding::Constant(slope, _)) if slope.len() == 1 && slope.shape().len() <= rank => {
            let alpha = slope.to_f32()[0];
            if !alpha.is_finite() {
                refuse!("its slope is not a finite number: {alpha}");
            }
            (Op::LeakyRelu { alpha }, vec![x])
        }
        _ => (Op::PRelu, vec![x, imp.float(node, 1)?]),
    };
    Ok(vec![Binding::Value(window::pointwise(imp, node, op, &operands, &[], Encoding::FLOAT)?)])
}

/// `Clip`, with limits as attributes (before version 11) or operands. Without limits it is nothing, with a lower
/// limit of 0 alone a `Relu`.
pub(super) fn clip<'m>(imp: &mut Importer<'m>, node: &NodeView<'m>) -> Fallible<Vec<Binding<'m>>> {
    let limit = |index: usize, name: &str, absent: f32| -> Fallible<f32> {
        let value = if node.version < 11 {
            node.any_float(name, absent)?
        } else if node.has(name) {
            refuse!("attribute not supported: `{name}` (an operand since version 11)")
        } else {
            match imp.constant(node, index)? {
                Some(tensor) if tensor.len() == 1 => tensor.to_f32()[0],
                Some(tensor) => refuse!("`{name}` must have one element: shape {:?}", tensor.shape()),
                None => absent,
            }
        };
        if value.is_nan() {
            refuse!("`{name}` is not a number");
        }
        // Older exporters write the largest float for no limit.
        let none = value.abs() >= f32::MAX && value.is_sign_negative() == absent.is_sign_negative();
        Ok(if none { absent } else { value })
    };
    let low = limit(1, "min", f32::NEG_INFINITY)?;
    let high = limit(2, "max", f32::INFINITY)?;
    if low > high {
        refuse!("`min` is above `max`: {low} and {high}");
    }
    let x = imp.float(node, 0)?;
    let op = match (low, high) {
        (f32::NEG_INFINITY, f32::INFINITY) => return Ok(vec![Binding::Value(x)]),
        (0.0, f32::INFINITY) => Op::Relu,
        _ => Op::Clip { low, high },
    };
    Ok(vec![Binding::Value(window::pointwise(imp, node, op, &[x], &[], Encoding::FLOAT)?)])
}
