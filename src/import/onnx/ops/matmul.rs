//! Matrix products, float and quantized.

use std::sync::Arc;

use super::{
    qdq::{self, Scales},
    weight,
};
use crate::{
    import::onnx::{
        importer::{Binding, Encoding, Importer, NameSuffix},
        limits::{Fallible, clip, refuse},
        node::NodeView,
    },
    ir::{Activation, Op, ValueId},
    tensor::{DType, Tensor},
};

/// `MatMul`: `[a, b]`.
pub(super) fn matmul<'m>(imp: &mut Importer<'m>, node: &NodeView<'m>) -> Fallible<Vec<Binding<'m>>> {
    let x = imp.float(node, 0)?;
    let w = imp.float(node, 1)?;
    if imp.is_fixed(w) && matrix_of(&imp.shape(x), &imp.shape(w)).is_some() {
        return build(imp, node, x, w, Encoding::FLOAT);
    }
    pair(imp, node, [x, w], Encoding::FLOAT)
}

/// `QLinearMatMul`: `[a, as, az, b, bs, bz, ys, yz]`; scales of `b` for each column where it is one constant matrix.
pub(super) fn qlinear_matmul<'m>(imp: &mut Importer<'m>, node: &NodeView<'m>) -> Fallible<Vec<Binding<'m>>> {
    let x_shape = match imp.binding(node, 0)? {
        Some(Binding::Value(id)) => imp.shape(id),
        Some(Binding::Constant(tensor, _)) => tensor.shape().to_vec(),
        _ => refuse!("operand 0 is missing"),
    };
    let constant = match imp.binding(node, 3)? {
        Some(Binding::Constant(tensor, _)) => Some(tensor.shape().to_vec()),
        _ => None,
    };
    let Some(shape) = constant.filter(|shape| matrix_of(&x_shape, shape).is_some()) else {
        let a = qdq::activation(imp, node, 0, 1, 2)?;
        let b = qdq::activation(imp, node, 3, 4, 5)?;
        let encoding = qdq::result(imp, node, 6, 7, a)?;
        return pair(imp, node, [a, b], encoding);
    };
    let rank = shape.len();
    let scales = Scales::of(imp, node, 3, 4, 5, rank.checked_sub(1))?;
    let x = qdq::activation(imp, node, 0, 1, 2)?;
    let w = qdq::weight(imp, node, 3, scales)?;
    let encoding = qdq::result(imp, node, 6, 7, x)?;
    build(imp, node, x, w, encoding)
}

/// `[k, n]` of a second factor that is one matrix.
fn matrix_of(x: &[usize], w: &[usize]) -> Option<[usize; 2]> {
    match *w {
        [k] => Some([k, 1]),
        [ref batch @ .., k, n] if batch.iter().all(|&dim| dim == 1) && w.len() <= x.len().max(2) => Some([k, n]),
        _ => None,
    }
}

/// A product of two tensors by numpy's rules.
fn pair<'m>(
    imp: &mut Importer<'m>,
    node: &NodeView<'m>,
    [mut a, mut b]: [ValueId; 2],
    encoding: Encoding,
) -> Fallible<Vec<Binding<'m>>> {
    let (a_shape, b_shape) = (imp.shape(a), imp.shape(b));
    if a_shape.is_empty() || b_shape.is_empty() || a_shape.len().max(b_shape.len()) > 4 {
        refuse!("factors of shapes {a_shape:?} and {b_shape:?}; expected 1 to 4 dimensions");
    }
    if let [k] = *a_shape.as_slice() {
        a = imp.reshape(node, NameSuffix::helper("as_row"), a, &[1, k])?;
    }
    if let [k] = *b_shape.as_slice() {
        b = imp.reshape(node, NameSuffix::helper("as_column"), b, &[k, 1])?;
    }
    let direct = a_shape.len() > 1 && b_shape.len() > 1;
    let step = if direct { NameSuffix::WHOLE } else { NameSuffix::work("matrix") };
    let y = imp.emit(node, step, Op::BatchMatMul, vec![a, b], encoding, None)?;
    if direct {
        return Ok(vec![Binding::Value(y)]);
    }
    // A vector on either side leaves no dimension in the result.
    let mut shape = imp.shape(y);
    if b_shape.len() == 1 {
        shape.pop();
    }
    if a_shape.len() == 1 {
        let row = shape.len() - usize::from(b_shape.len() > 1) - 1;
        shape.remove(row);
    }
    Ok(vec![Binding::Value(imp.reshape(node, NameSuffix::last("as_vector"), y, &shape)?)])
}

/// A product by numpy's rules whose second factor is one constant matrix.
fn build<'m>(
    imp: &mut Importer<'m>,
    node: &NodeView<'m>,
    x: ValueId,
    w: ValueId,
    encoding: Encoding,
) -> Fallible<Vec<Binding<'m>>> {
    imp.check_weight(w)?;
    let (x_shape, w_shape) = (imp.shape(x), imp.shape(w));
    let Some(matrix) = matrix_of(&x_shape, &w_shape) else {
        refuse!("second factor of shape {w_shape:?}; expected one matrix");
    };
    let Some(w) = weight::reshaped(imp, node, w, &matrix)? else {
        refuse!("second factor of shape {w_shape:?} must be a constant");
    };
    let rows =
        if let [k] = *x_shape.as_slice() { imp.reshape(node, NameSuffix::helper("as_matrix"), x, &[1, k])? } else { x };
    // A vector on either side leaves no dimension in the result.
    let mut shape = x_shape.clone();
    shape.pop();
    if w_shape.len() > 1 {
        shape.push(matrix[1]);
    }
    let direct = x_shape.len() > 1 && w_shape.len() > 1;
    let op = Op::MatMul { transposed: false, activation: Activation::None };
    let y = imp.emit(
        node,
        if direct { NameSuffix::WHOLE } else { NameSuffix::work("matrix") },
        op,
        vec![rows, w],
        encoding,
        None,
    )?;
    Ok(vec![Binding::Value(if direct { y } else { imp.reshape(node, NameSuffix::last("as_vector"), y, &shape)? })])
}

/// Whether a factor changes nothing; anything else is multiplied in.
fn is_one(factor: f32) -> bool {
    factor.to_bits() == 1.0_f32.to_bits()
}

/// `Gemm`: `alpha a b + beta c`, `b` constant.
pub(super) fn gemm<'m>(imp: &mut Importer<'m>, node: &NodeView<'m>) -> Fallible<Vec<Binding<'m>>> {
    let (alpha, beta) = (node.float("alpha", 1.0)?, node.float("beta", 1.0)?);
    let transposed = node.flag("transB", false)?;
    let mut x = imp.float(node, 0)?;
    let mut w = imp.float(node, 1)?;
    if node.flag("transA", false)? {
        let rank = imp.shape(x).len();
        if rank != 2 {
            refuse!("operand of {rank} dimensions; expected a matrix");
        }
        match weight::transposed(imp, node, x, &[1, 0])? {
            Some(constant) => x = constant,
            None => refuse!("attribute not supported: `transA` on a computed operand"),
        }
    }
    imp.check_weight(w)?;
    if imp.shape(x).len() != 2 || imp.shape(w).len() != 2 {
        refuse!("operands of shapes {:?} and {:?}; expected matrices", imp.shape(x), imp.shape(w));
    }
    if !is_one(alpha) {
        w = scaled(imp, w, alpha, "alpha")?;
    }
    let columns = imp.shape(w)[usize::from(!transposed)];
    let op = Op::MatMul { transposed, activation: Activation::None };
    let mut c = if node.input(2).is_some() && beta != 0.0 { Some(imp.float(node, 2)?) } else { None };
    if let (Some(value), true) = (c, !is_one(beta)) {
        c = Some(scaled(imp, value, beta, "beta")?);
    }
    let bias = match c {
        Some(value) => bias_list(imp, node, value, columns)?,
        None => None,
    };
    let y = match (bias, c) {
        (None, None) => imp.finish(node, op, vec![x, w], Encoding::FLOAT)?,
        (Some(bias), _) => {
            imp.check_weight(bias)?;
            imp.finish(node, op, vec![x, w, bias], Encoding::FLOAT)?
        }
        (None, Some(c)) => {
            let product = imp.emit(node, NameSuffix::work("product"), op, vec![x, w], Encoding::FLOAT, None)?;
            let product_shape = imp.shape(product);
            let add = Op::Add { activation: Activation::None };
            let sum = imp.emit(node, NameSuffix::last("bias"), add, vec![product, c], Encoding::FLOAT, None)?;
            if imp.shape(sum) != product_shape {
                refuse!("C of shape {:?} is larger than the product {product_shape:?}", imp.shape(c));
            }
            sum
        }
    };
    Ok(vec![Binding::Value(y)])
}

/// A float constant times a factor.
fn scaled(imp: &mut Importer<'_>, value: ValueId, factor: f32, name: &str) -> Fallible<ValueId> {
    let Some(tensor) = imp.tensor_of(value) else {
        refuse!("attribute not supported: `{name}` of {factor} where its factor is not a float constant")
    };
    let Tensor::F32(array) = &*tensor else { refuse!("`{name}` of {factor} on {:?}", tensor.dtype()) };
    imp.budget.charge(array.len(), 4)?;
    let base = imp.graph.value(value).name.clone();
    imp.derive_constant(Arc::new(Tensor::F32(array.mapv(|element| element * factor))), &base, None)
}

/// `c` as a bias of `[columns]`, if it is fixed and the same for all rows.
fn bias_list<'m>(imp: &mut Importer<'m>, node: &NodeView<'m>, c: ValueId, columns: usize) -> Fallible<Option<ValueId>> {
    if !imp.is_fixed(c) {
        return Ok(None);
    }
    let shape = imp.shape(c);
    let elements = shape.iter().product::<usize>();
    if elements == columns && shape.last() == Some(&columns) {
        return weight::reshaped(imp, node, c, &[columns]);
    }
    let Some(tensor) = imp.tensor_of(c).filter(|_| elements == 1) else { return Ok(None) };
    imp.budget.charge(columns, 4)?;
    let base = imp.graph.value(c).name.clone();
    let list = Tensor::from_f32(&[columns], vec![tensor.to_f32()[0]; columns]);
    imp.derive_constant(Arc::new(list.ok_or("inconsistent bias")?), &base, None).map(Some)
}

/// `QGemm`: `[a, as, az, b, bs, bz, c?, ys?, yz?]`, `b` constant.
pub(super) fn qgemm<'m>(imp: &mut Importer<'m>, node: &NodeView<'m>) -> Fallible<Vec<Binding<'m>>> {
    if !is_one(node.float("alpha", 1.0)?) {
        refuse!("attribute not supported: `alpha` other than 1");
    }
    if node.flag("transA", false)? {
        refuse!("attribute not supported: `transA`");
    }
    if node.input(7).is_none() {
        refuse!("a float result (no `y_scale`) is not supported");
    }
    let transposed = node.flag("transB", false)?;
    let scales = Scales::of(imp, node, 3, 4, 5, Some(usize::from(!transposed)))?;
    let x = qdq::activation(imp, node, 0, 1, 2)?;
    let input_scale = imp.graph.value(x).quant.as_ref().map_or(1.0, |quant| quant.scale_of(0));
    let bias = scales.bias(input_scale)?;
    let w = qdq::weight(imp, node, 3, scales)?;
    if imp.shape(x).len() != 2 || imp.shape(w).len() != 2 {
        refuse!("operands of shapes {:?} and {:?}; expected matrices", imp.shape(x), imp.shape(w));
    }
    let columns = imp.shape(w)[usize::from(!transposed)];
    let mut inputs = vec![x, w];
    if let Some(name) = node.input(6) {
        let Some(tensor) = imp.constant(node, 6)? else { refuse!("bias is missing") };
        if tensor.dtype() != DType::Int32 {
            refuse!("bias {:?} is {:?}; expected Int32", clip(name), tensor.dtype());
        }
        if tensor.len() != columns || tensor.shape().last() != Some(&columns) {
            refuse!("bias {:?} of shape {:?}; expected [{columns}]", clip(name), tensor.shape());
        }
        let c = qdq::bias(imp, node, 6, bias.clone())?;
        if tensor.shape().len() == 1 {
            inputs.push(c);
        } else {
            let list = crate::import::onnx::fold::movement::reshaped(&tensor, &[columns], &mut imp.budget)?;
            inputs.push(imp.derive_constant(list, name, Some(bias))?);
        }
    }
    let encoding = qdq::result(imp, node, 7, 8, x)?;
    let op = Op::MatMul { transposed, activation: Activation::None };
    Ok(vec![Binding::Value(imp.finish(node, op, inputs, encoding)?)])
}
