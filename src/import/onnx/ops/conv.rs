//! Convolutions, float and quantized.

use super::{
    qdq::{self, Scales},
    weight,
    window::{self, Rounding},
};
use crate::{
    import::onnx::{
        importer::{Binding, Encoding, Importer},
        limits::{Fallible, refuse},
        node::{NodeView, size},
    },
    ir::{Activation, Op, ValueId},
};

/// `Conv`: `[x, w, b?]`.
pub(super) fn conv<'m>(imp: &mut Importer<'m>, node: &NodeView<'m>) -> Fallible<Vec<Binding<'m>>> {
    let x = imp.float(node, 0)?;
    let w = imp.float(node, 1)?;
    let b = if node.input(2).is_some() { Some(imp.float(node, 2)?) } else { None };
    build(imp, node, x, w, b, Encoding::FLOAT)
}

/// `QLinearConv`: `[x, xs, xz, w, ws, wz, ys, yz, b?]`.
pub(super) fn qlinear_conv<'m>(imp: &mut Importer<'m>, node: &NodeView<'m>) -> Fallible<Vec<Binding<'m>>> {
    let scales = Scales::of(imp, node, 3, 4, 5, Some(0))?;
    let x = qdq::activation(imp, node, 0, 1, 2)?;
    let input_scale = imp.graph.value(x).quant.as_ref().map_or(1.0, |quant| quant.scale_of(0));
    let bias = scales.bias(input_scale)?;
    let w = qdq::weight(imp, node, 3, scales)?;
    let b = if node.input(8).is_some() { Some(qdq::bias(imp, node, 8, bias)?) } else { None };
    let encoding = qdq::result(imp, node, 6, 7, x)?;
    build(imp, node, x, w, b, encoding)
}

fn build<'m>(
    imp: &mut Importer<'m>,
    node: &NodeView<'m>,
    x: ValueId,
    w: ValueId,
    b: Option<ValueId>,
    encoding: Encoding,
) -> Fallible<Vec<Binding<'m>>> {
    imp.check_weight(w)?;
    if let Some(b) = b {
        imp.check_weight(b)?;
    }
    let (image, rank) = window::lift(imp, node, x)?;
    let shape = imp.shape(w);
    if shape.len() != rank {
        refuse!("weight of shape {shape:?} for an operand of {rank} dimensions");
    }
    let w = match *shape.as_slice() {
        [o, c, length] => match weight::reshaped(imp, node, w, &[o, c, 1, length])? {
            Some(w) => w,
            None => refuse!("weight of shape {shape:?} must be a constant"),
        },
        _ => w,
    };
    let kernel = imp.shape(w);
    let image_shape = imp.shape(image);
    let hw = [image_shape[2], image_shape[3]];
    let window = window::window(node, rank, hw, Some([kernel[2], kernel[3]]), Rounding::Floor)?;
    let groups = size(node.int("group", 1)?, "`group`")?;
    let mut inputs = vec![image, w];
    inputs.extend(b);
    let op = Op::Conv { window, groups, activation: Activation::None };
    let y = imp.emit(node, window::step(rank), op, inputs, encoding, None)?;
    Ok(vec![Binding::Value(window::lower(imp, node, y, rank)?)])
}
