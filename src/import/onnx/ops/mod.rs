//! The supported operators: one table of names, operand counts and attributes, with the function that imports each
//! and the one that evaluates it where all operands are constant. Element-wise operators stand in `ir::op`'s table, and
//! here only where ONNX's form differs from the graph's.

mod conv;
mod elementwise;
mod matmul;
mod norm;
mod pool;
mod qdq;
mod qlinear;
mod shape;
mod weight;
mod window;

use super::{
    fold::{Fold, arithmetic, movement},
    importer::{Binding, Importer},
    limits::Fallible,
    node::NodeView,
};
use crate::ir::{Kind, op};

/// Imports a node and returns what its results are.
pub(super) type Run = for<'m> fn(&mut Importer<'m>, &NodeView<'m>) -> Fallible<Vec<Binding<'m>>>;

/// A supported operator.
#[derive(Clone, Copy)]
pub(super) struct Operator {
    /// Its operator set; empty for ONNX's own.
    pub domain: &'static str,
    /// Its name.
    pub name: &'static str,
    /// Fewest and most operands. The first so many must be present.
    pub operands: (usize, usize),
    /// Attributes that are understood; all others are refused.
    pub attributes: &'static [&'static str],
    /// Imports it; `None` where it is only evaluated.
    pub run: Option<Run>,
    /// Evaluates it; `None` where it stays a node even if all operands are constant.
    pub fold: Option<Fold>,
}

const MICROSOFT: &str = "com.microsoft";
const MANY: usize = usize::MAX;
const CONV: &[&str] = &["auto_pad", "dilations", "group", "kernel_shape", "pads", "strides"];
const REDUCE: &[&str] = &["axes", "keepdims", "noop_with_empty_axes"];
const QUANTIZE: &[&str] = &["axis", "saturate", "block_size", "output_dtype", "precision"];

const fn node(name: &'static str, operands: (usize, usize), attributes: &'static [&'static str], run: Run) -> Operator {
    Operator { domain: "", name, operands, attributes, run: Some(run), fold: None }
}

const fn both(
    name: &'static str,
    operands: (usize, usize),
    attributes: &'static [&'static str],
    run: Run,
    fold: Fold,
) -> Operator {
    Operator { domain: "", name, operands, attributes, run: Some(run), fold: Some(fold) }
}

const fn folded(
    name: &'static str,
    operands: (usize, usize),
    attributes: &'static [&'static str],
    fold: Fold,
) -> Operator {
    Operator { domain: "", name, operands, attributes, run: None, fold: Some(fold) }
}

const fn microsoft(
    name: &'static str,
    operands: (usize, usize),
    attributes: &'static [&'static str],
    run: Run,
) -> Operator {
    Operator { domain: MICROSOFT, name, operands, attributes, run: Some(run), fold: None }
}

/// The supported operators that are not element-wise, or have another form than in the graph.
const OPERATORS: &[Operator] = &[
    node("Conv", (2, 3), CONV, conv::conv),
    node("QLinearConv", (8, 9), CONV, conv::qlinear_conv),
    node("Gemm", (2, 3), &["alpha", "beta", "transA", "transB"], matmul::gemm),
    node("MatMul", (2, 2), &[], matmul::matmul),
    node("QLinearMatMul", (8, 8), &[], matmul::qlinear_matmul),
    both("Sum", (1, MANY), &[], elementwise::chain, arithmetic::elementwise),
    both("Min", (1, MANY), &[], elementwise::chain, arithmetic::elementwise),
    both("Max", (1, MANY), &[], elementwise::chain, arithmetic::elementwise),
    node("PRelu", (2, 2), &[], elementwise::prelu),
    node("Clip", (1, 3), &["min", "max"], elementwise::clip),
    node("BatchNormalization", (5, 5), &["epsilon", "momentum", "spatial", "training_mode"], norm::batch_norm),
    node("Softmax", (1, 1), &["axis"], norm::softmax),
    node(
        "MaxPool",
        (1, 1),
        &["auto_pad", "ceil_mode", "dilations", "kernel_shape", "pads", "storage_order", "strides"],
        pool::max_pool,
    ),
    node(
        "AveragePool",
        (1, 1),
        &["auto_pad", "ceil_mode", "count_include_pad", "dilations", "kernel_shape", "pads", "strides"],
        pool::average_pool,
    ),
    node("GlobalAveragePool", (1, 1), &[], pool::global_pool),
    node("GlobalMaxPool", (1, 1), &[], pool::global_pool),
    node("ReduceMean", (1, 2), REDUCE, pool::reduce_mean),
    both("Concat", (1, MANY), &["axis"], shape::concat, movement::concat),
    both("Flatten", (1, 1), &["axis"], shape::flatten, movement::flatten),
    both("Reshape", (2, 2), &["allowzero"], shape::reshape, movement::reshape),
    both("Squeeze", (1, 2), &["axes"], shape::squeeze, movement::squeeze),
    both("Unsqueeze", (1, 2), &["axes"], shape::unsqueeze, movement::unsqueeze),
    both("Transpose", (1, 1), &["perm"], shape::transpose, movement::transpose),
    node("Pad", (1, 4), &["mode", "pads", "value"], shape::pad),
    node("Dropout", (1, 3), &["ratio", "seed"], shape::dropout),
    node("Identity", (1, 1), &[], shape::identity),
    node("Shape", (1, 1), &["start", "end"], shape::shape),
    node("Size", (1, 1), &[], shape::size),
    node("Constant", (0, 0), &["value", "value_float", "value_floats", "value_int", "value_ints"], shape::constant),
    node("QuantizeLinear", (2, 3), QUANTIZE, qdq::quantize),
    node("DequantizeLinear", (2, 3), QUANTIZE, qdq::dequantize),
    folded("ConstantOfShape", (1, 1), &["value"], movement::constant_of_shape),
    folded("Gather", (2, 2), &["axis"], movement::gather),
    folded("Slice", (1, 5), &["starts", "ends", "axes"], movement::slice),
    folded("Expand", (2, 2), &[], movement::expand),
    folded("Where", (3, 3), &[], movement::choose),
    folded("Range", (3, 3), &[], movement::range),
    both("Cast", (1, 1), &["to", "saturate"], shape::cast, arithmetic::cast),
    folded("Mod", (2, 2), &["fmod"], arithmetic::elementwise),
    folded("Pow", (2, 2), &[], arithmetic::elementwise),
    folded("Floor", (1, 1), &[], arithmetic::unary),
    folded("Ceil", (1, 1), &[], arithmetic::unary),
    folded("Sqrt", (1, 1), &[], arithmetic::unary),
    folded("Neg", (1, 1), &[], arithmetic::unary),
    folded("Abs", (1, 1), &[], arithmetic::unary),
    folded("Not", (1, 1), &[], arithmetic::unary),
    folded("Equal", (2, 2), &[], arithmetic::compare),
    folded("Less", (2, 2), &[], arithmetic::compare),
    folded("LessOrEqual", (2, 2), &[], arithmetic::compare),
    folded("Greater", (2, 2), &[], arithmetic::compare),
    folded("GreaterOrEqual", (2, 2), &[], arithmetic::compare),
    folded("And", (2, 2), &[], arithmetic::compare),
    folded("Or", (2, 2), &[], arithmetic::compare),
    folded("ReduceProd", (1, 2), REDUCE, arithmetic::reduce),
    folded("ReduceSum", (1, 2), REDUCE, arithmetic::reduce),
    folded("ReduceMax", (1, 2), REDUCE, arithmetic::reduce),
    folded("ReduceMin", (1, 2), REDUCE, arithmetic::reduce),
    microsoft("QLinearAdd", (7, 8), &[], qlinear::binary),
    microsoft("QLinearMul", (7, 8), &[], qlinear::binary),
    microsoft("QLinearConcat", (5, MANY), &["axis"], qlinear::concat),
    microsoft(
        "QLinearAveragePool",
        (4, 5),
        &["auto_pad", "ceil_mode", "channels_last", "count_include_pad", "kernel_shape", "pads", "strides"],
        qlinear::average_pool,
    ),
    microsoft("QLinearGlobalAveragePool", (5, 5), &["channels_last"], qlinear::global_average_pool),
    microsoft("QLinearSoftmax", (4, 5), &["axis", "opset"], qlinear::softmax),
    microsoft("QLinearSigmoid", (4, 5), &[], qlinear::unary),
    microsoft("QLinearLeakyRelu", (4, 5), &["alpha"], qlinear::unary),
    microsoft("QGemm", (6, 9), &["alpha", "transA", "transB"], matmul::qgemm),
];

/// All supported operators.
pub(super) fn all() -> impl Iterator<Item = Operator> {
    let own =
        |spec: &&op::Spec| !OPERATORS.iter().any(|operator| operator.domain.is_empty() && operator.name == spec.name);
    OPERATORS.iter().copied().chain(op::ELEMENTWISE.iter().copied().filter(own).map(plain))
}

/// An element-wise operator of which ONNX's form is the graph's.
fn plain(spec: &'static op::Spec) -> Operator {
    let operands = (spec.operands.least, spec.operands.most);
    match spec.kind {
        // Attributes of binary operators are the graph's own.
        Kind::Binary => both(spec.name, operands, &[], elementwise::binary, arithmetic::elementwise),
        _ => node(spec.name, operands, spec.attributes, elementwise::function),
    }
}

/// The operator of a domain and name.
pub(super) fn find(domain: &str, name: &str) -> Option<Operator> {
    let domain = if domain == "ai.onnx" { "" } else { domain };
    all().find(|operator| operator.name == name && operator.domain == domain)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_operator_stands_twice() {
        let operators: Vec<Operator> = all().collect();
        for (index, operator) in operators.iter().enumerate() {
            let same = |other: &Operator| other.name == operator.name && other.domain == operator.domain;
            assert!(!operators[..index].iter().any(same), "{}", operator.name);
        }
    }
}
