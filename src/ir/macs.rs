//! Multiply-accumulates of a node, algebraic: padding zeros count, the zeros between groups do not.

use super::{Graph, Node, Op, Stage};

/// Multiply-accumulates of `node`: results times the products of each, for convolutions (`N O P Q` times `C/g R S`)
/// and matrix products; 0 for every other operator. Saturates where the product passes 64 bits.
pub fn macs<S: Stage>(graph: &Graph<S>, node: &Node) -> u64 {
    let shape = |index: usize| node.inputs.get(index).map_or(&[][..], |&id| graph.value(id).shape.as_slice());
    let products: &[usize] = match &node.op {
        Op::Conv { .. } => shape(1).get(1..).unwrap_or_default(),
        Op::MatMul { .. } | Op::BatchMatMul => shape(0).last().map_or(&[][..], std::slice::from_ref),
        _ => return 0,
    };
    let results = node.outputs.first().map_or(&[][..], |&id| graph.value(id).shape.as_slice());
    results.iter().chain(products).fold(1_u64, |product, &dim| product.saturating_mul(dim as u64))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        ir::{Activation, Float, Value, ValueId, Window},
        tensor::DType,
    };

    fn graph(shapes: &[&[usize]]) -> Graph<Float> {
        let mut graph = Graph::new("test");
        for (index, shape) in shapes.iter().enumerate() {
            let name = format!("v{index}");
            graph.add_value(Value { name, shape: shape.to_vec(), dtype: DType::Fp32, quant: None, constant: None });
        }
        graph
    }

    fn node(op: Op) -> Node {
        Node { name: "n".into(), op, inputs: vec![ValueId(0), ValueId(1)], outputs: vec![ValueId(2)] }
    }

    #[test]
    fn groups_divide_the_products_of_a_convolution() {
        // The first depthwise layer of MobileNet: 32 channels, 3x3, 112x112.
        let graph = graph(&[&[1, 32, 112, 112], &[32, 1, 3, 3], &[1, 32, 112, 112]]);
        let op = Op::Conv { window: Window::UNIT, groups: 32, activation: Activation::None };
        assert_eq!(macs(&graph, &node(op)), 32 * 112 * 112 * 9);
    }

    #[test]
    fn a_matrix_product_counts_every_row() {
        let graph = graph(&[&[2, 5, 7], &[7, 3], &[2, 5, 3]]);
        let op = Op::MatMul { transposed: false, activation: Activation::None };
        assert_eq!(macs(&graph, &node(op)), 2 * 5 * 3 * 7);
        assert_eq!(macs(&graph, &node(Op::Sub)), 0);
    }
}
