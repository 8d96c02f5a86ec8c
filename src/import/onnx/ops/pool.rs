//! Pooling and means.

use super::window::{self, Rounding};
use crate::{
    import::onnx::{
        importer::{Binding, Encoding, Importer},
        limits::{Fallible, refuse},
        node::{NodeView, axes},
    },
    ir::{Op, ValueId},
};

/// `MaxPool`, of floats or of quantized values, whose order it keeps.
pub(super) fn max_pool<'m>(imp: &mut Importer<'m>, node: &NodeView<'m>) -> Fallible<Vec<Binding<'m>>> {
    if node.int("storage_order", 0)? != 0 {
        refuse!("attribute not supported: `storage_order`");
    }
    let x = imp.operand(node, 0)?;
    let encoding = imp.encoding(x);
    if encoding.quant.as_ref().is_some_and(|quant| !quant.is_per_tensor()) {
        refuse!("operand has a scale a channel");
    }
    let (image, rank) = window::lift(imp, node, x)?;
    let shape = imp.shape(image);
    let rounding = if node.flag("ceil_mode", false)? { Rounding::Ceil } else { Rounding::Floor };
    let window = window::window(node, rank, [shape[2], shape[3]], None, rounding)?;
    let y = imp.emit(node, window::step(rank), Op::MaxPool { window }, vec![image], encoding, None)?;
    Ok(vec![Binding::Value(window::lower(imp, node, y, rank)?)])
}

/// `AveragePool`.
pub(super) fn average_pool<'m>(imp: &mut Importer<'m>, node: &NodeView<'m>) -> Fallible<Vec<Binding<'m>>> {
    let x = imp.float(node, 0)?;
    Ok(vec![Binding::Value(average_of(imp, node, x, Encoding::FLOAT)?)])
}

/// An average pool of any kind of value.
pub(super) fn average_of<'m>(
    imp: &mut Importer<'m>,
    node: &NodeView<'m>,
    x: ValueId,
    encoding: Encoding,
) -> Fallible<ValueId> {
    let (image, rank) = window::lift(imp, node, x)?;
    let shape = imp.shape(image);
    let count_include_pad = node.flag("count_include_pad", false)?;
    let rounding = match (node.flag("ceil_mode", false)?, count_include_pad) {
        (false, _) => Rounding::Floor,
        (true, false) => Rounding::Ceil,
        (true, true) => Rounding::CeilCounted,
    };
    let window = window::window(node, rank, [shape[2], shape[3]], None, rounding)?;
    let op = Op::AvgPool { window, count_include_pad };
    let y = imp.emit(node, window::step(rank), op, vec![image], encoding, None)?;
    window::lower(imp, node, y, rank)
}

/// `GlobalAveragePool`, `GlobalMaxPool`.
pub(super) fn global_pool<'m>(imp: &mut Importer<'m>, node: &NodeView<'m>) -> Fallible<Vec<Binding<'m>>> {
    let op = if node.op() == "GlobalMaxPool" { Op::GlobalMaxPool } else { Op::GlobalAvgPool };
    let x = imp.float(node, 0)?;
    Ok(vec![Binding::Value(global_of(imp, node, op, x, Encoding::FLOAT)?)])
}

/// A pool of a whole image of any kind of value.
pub(super) fn global_of<'m>(
    imp: &mut Importer<'m>,
    node: &NodeView<'m>,
    op: Op,
    x: ValueId,
    encoding: Encoding,
) -> Fallible<ValueId> {
    let (image, rank) = window::lift(imp, node, x)?;
    let y = imp.emit(node, window::step(rank), op, vec![image], encoding, None)?;
    window::lower(imp, node, y, rank)
}

/// `ReduceMean`, with axes as an attribute (before version 18) or an operand.
pub(super) fn reduce_mean<'m>(imp: &mut Importer<'m>, node: &NodeView<'m>) -> Fallible<Vec<Binding<'m>>> {
    let x = imp.float(node, 0)?;
    let rank = imp.shape(x).len();
    let given = match node.ints("axes")? {
        Some(list) => Some(list.to_vec()),
        None => imp.constant_ints(node, 1)?,
    };
    let axes = match given {
        Some(list) if !list.is_empty() => axes(&list, rank)?,
        _ if node.flag("noop_with_empty_axes", false)? => return Ok(vec![Binding::Value(x)]),
        _ => (0..rank).collect(),
    };
    let op = Op::ReduceMean { axes, keep_dims: node.flag("keepdims", true)? };
    Ok(vec![Binding::Value(imp.finish(node, op, vec![x], Encoding::FLOAT)?)])
}
