//! Batch normalization and softmax.

use super::window;
use crate::{
    import::onnx::{
        importer::{Binding, Encoding, Importer, NameSuffix},
        limits::{Fallible, refuse},
        node::{NodeView, axis},
    },
    ir::{Op, ValueId},
};

/// `BatchNormalization` in its inference form: `[x, scale, bias, mean, var]`.
pub(super) fn batch_norm<'m>(imp: &mut Importer<'m>, node: &NodeView<'m>) -> Fallible<Vec<Binding<'m>>> {
    if node.flag("training_mode", false)? {
        refuse!("attribute not supported: `training_mode`");
    }
    if !node.flag("spatial", true)? {
        refuse!("attribute not supported: `spatial` of 0");
    }
    let epsilon = node.float("epsilon", 1e-5)?;
    if !(epsilon.is_finite() && epsilon >= 0.0) {
        refuse!("`epsilon` must be finite and not negative: {epsilon}");
    }
    let x = imp.float(node, 0)?;
    let mut parameters = Vec::with_capacity(4);
    for index in 1..5 {
        let parameter = imp.float(node, index)?;
        imp.check_weight(parameter)?;
        parameters.push(parameter);
    }
    let y = window::pointwise(imp, node, Op::BatchNorm { epsilon }, &[x], &parameters, Encoding::FLOAT)?;
    Ok(vec![Binding::Value(y)])
}

/// `Softmax`.
pub(super) fn softmax<'m>(imp: &mut Importer<'m>, node: &NodeView<'m>) -> Fallible<Vec<Binding<'m>>> {
    let x = imp.float(node, 0)?;
    Ok(vec![Binding::Value(softmax_of(imp, node, x, Encoding::FLOAT, node.version)?)])
}

/// A softmax by the rules of `version`: before 13, all dimensions from the axis on are normalized together.
pub(super) fn softmax_of<'m>(
    imp: &mut Importer<'m>,
    node: &NodeView<'m>,
    x: ValueId,
    encoding: Encoding,
    version: i64,
) -> Fallible<ValueId> {
    let shape = imp.shape(x);
    let at = axis(node.int("axis", if version < 13 { 1 } else { -1 })?, shape.len())?;
    let together = shape[at..].iter().filter(|&&dim| dim != 1).count();
    if version >= 13 {
        return imp.finish(node, Op::Softmax { axis: at }, vec![x], encoding);
    }
    if together <= 1 {
        let at = (at..shape.len()).find(|&dim| shape[dim] != 1).unwrap_or(at);
        return imp.finish(node, Op::Softmax { axis: at }, vec![x], encoding);
    }
    let rows = shape[..at].iter().product();
    let columns = shape[at..].iter().product();
    let flat = imp.reshape(node, NameSuffix::helper("flat"), x, &[rows, columns])?;
    let normal = imp.emit(node, NameSuffix::work("rows"), Op::Softmax { axis: 1 }, vec![flat], encoding, None)?;
    imp.reshape(node, NameSuffix::last("unflat"), normal, &shape)
}
