//! Brings matrix products into the form that machines want: constant weights as `[N, K]`, and a product that reads a
//! flattened image as a convolution whose window is the whole image, so that the image need not be rearranged.

use crate::{
    ir::{Constant, Node, Op, ValueId, Window},
    tensor::Quantization,
};

use super::work::{Slot, Work};

/// Transposes weights at hand to `[N, K]`; returns the number of changes.
pub fn transpose_weights(work: &mut Work) -> usize {
    (0..work.slots()).filter(|&slot| transpose(work, slot).is_some()).count()
}

/// Turns products of flattened images into convolutions; returns the number of changes.
pub fn whole_image(work: &mut Work) -> usize {
    (0..work.slots()).filter(|&slot| as_convolution(work, slot).is_some()).count()
}

fn transpose(work: &mut Work, slot: Slot) -> Option<()> {
    let node = work.node(slot)?;
    let Op::MatMul { transposed: false, activation } = node.op else { return None };
    let w = *node.inputs.get(1)?;
    let turned = work.dense(w)?.permuted(&[1, 0])?;
    let quant =
        work.value(w).quant.clone().map(|quant| Quantization { axis: quant.axis.map(|axis| 1 - axis.min(1)), ..quant });
    // An int4 constant is stored in bytes; its type is not the tensor's.
    let dtype = work.value(w).dtype;
    work.set_constant(slot, 1, turned, quant);
    let w = *work.node(slot)?.inputs.get(1)?;
    work.value_mut(w).dtype = dtype;
    *work.op_mut(slot)? = Op::MatMul { transposed: true, activation };
    Some(())
}

/// The image that a matrix is flattened from, its shape, and whether it was flattened with channels innermost.
fn flattened(work: &Work, matrix: ValueId) -> Option<(ValueId, [usize; 4], bool)> {
    let (_, reshape) = work.producing(matrix)?;
    let (&Op::Reshape, &[x]) = (&reshape.op, reshape.inputs.as_slice()) else { return None };
    let &[rows, _] = work.value(matrix).shape.as_slice() else { return None };
    if !work.same_encoding(x, matrix) {
        return None;
    }
    let (image, innermost) = match work.producing(x) {
        Some((_, Node { op: Op::Transpose { perm }, inputs, .. })) if perm.as_slice() == [0, 2, 3, 1] => {
            (*inputs.first()?, true)
        }
        _ => (x, false),
    };
    let &[n, c, h, w] = work.value(image).shape.as_slice() else { return None };
    (n == rows && h.checked_mul(w)? > 1 && work.same_encoding(image, x)).then_some((image, [n, c, h, w], innermost))
}

fn as_convolution(work: &mut Work, slot: Slot) -> Option<()> {
    let node = work.node(slot)?;
    let Op::MatMul { transposed: true, activation } = node.op else { return None };
    let (matrix, weight, y) = (*node.inputs.first()?, *node.inputs.get(1)?, *node.outputs.first()?);
    let (image, [n, c, h, w], innermost) = flattened(work, matrix)?;
    let &[outputs, _] = work.value(weight).shape.as_slice() else { return None };
    let (name, bias) = (node.name.clone(), node.inputs.get(2).copied());

    let source = work.value(weight);
    let quant = source.quant.clone();
    if quant.as_ref().is_some_and(|quant| !quant.is_per_tensor() && quant.axis != Some(0)) {
        return None;
    }
    let mut value = source.clone();
    value.shape = vec![outputs, c, h, w];
    value.constant = Some(match source.constant.as_ref()? {
        Constant::Dense(tensor) if innermost => {
            let nhwc = tensor.as_ref().clone().reshaped(&[outputs, h, w, c])?;
            Constant::Dense(nhwc.permuted(&[0, 3, 1, 2])?.into())
        }
        Constant::Dense(tensor) => Constant::Dense(tensor.as_ref().clone().reshaped(&value.shape)?.into()),
        Constant::Synthetic(recipe) => Constant::Synthetic(recipe.clone()),
    });
    let weight = if work.uses(weight) == 1 {
        value.name.clone_from(&work.value(weight).name);
        *work.value_mut(weight) = value;
        weight
    } else {
        work.add_value(value)
    };

    let (dtype, quant) = (work.value(y).dtype, work.value(y).quant.clone());
    let result = work.add_like(y, ".image", dtype, quant);
    work.value_mut(result).shape = vec![n, outputs, 1, 1];
    let window = Window { kernel: [h, w], ..Window::UNIT };
    *work.op_mut(slot)? = Op::Conv { window, groups: 1, activation };
    work.set_inputs(slot, [image, weight].into_iter().chain(bias).collect());
    work.set_output(slot, result);
    let name = format!("{name}.flatten");
    work.add_node(Node { name, op: Op::Reshape, inputs: vec![result], outputs: vec![y] });
    work.prune(matrix);
    Some(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        ir::{Activation, Distribution, Synthetic, Value},
        passes::testing::{Builder, check, difference, evaluate, numbers},
        tensor::DType,
    };

    const MATMUL: Op = Op::MatMul { transposed: false, activation: Activation::None };

    #[test]
    fn a_product_of_a_flattened_image_becomes_a_convolution_with_the_same_values() {
        for innermost in [false, true] {
            let mut build = Builder::new();
            let x = build.input(&[2, 3, 4, 5]);
            let mut image = x;
            if innermost {
                image = build.node("t", Op::Transpose { perm: vec![0, 2, 3, 1] }, &[x], &[2, 4, 5, 3]);
            }
            let flat = build.node("flat", Op::Reshape, &[image], &[2, 60]);
            let w = build.constant(&[60, 7], numbers(420, 1));
            let b = build.constant(&[7], numbers(7, 2));
            let y = build.node("fc", MATMUL, &[flat, w, b], &[2, 7]);
            build.output(y);
            let before = build.graph.clone();
            let mut work = Work::new(build.graph);
            assert_eq!((transpose_weights(&mut work), whole_image(&mut work)), (1, 1));
            let after = work.finish();
            check(&after);
            let names: Vec<&str> = after.nodes.iter().map(|node| node.name.as_str()).collect();
            assert_eq!(names, ["fc", "fc.flatten"]);
            let data = [numbers(120, 3)];
            assert!(difference(&evaluate(&before, &data), &evaluate(&after, &data)) < 1e-12);
        }
    }

    #[test]
    fn a_product_of_pooled_features_stays_a_product() {
        let mut build = Builder::new();
        let x = build.input(&[2, 6, 1, 1]);
        let flat = build.node("flat", Op::Reshape, &[x], &[2, 6]);
        let w = build.constant(&[6, 7], numbers(42, 1));
        let y = build.node("fc", MATMUL, &[flat, w], &[2, 7]);
        build.output(y);
        let mut work = Work::new(build.graph);
        assert_eq!((transpose_weights(&mut work), whole_image(&mut work)), (1, 0));
    }

    #[test]
    fn a_synthetic_weight_is_viewed_and_never_made() {
        let quant = Some(Quantization::per_tensor(0.5, 0));
        for (transposed, conversions) in [(true, 1), (false, 0)] {
            let mut build = Builder::new();
            let x = build.value("x", &[1, 3, 2, 2], DType::Int8, quant.clone());
            build.graph.inputs.push(x);
            let flat = build.node_as("flat", Op::Reshape, &[x], &[1, 12], DType::Int8, quant.clone());
            let recipe = Synthetic { seed: 1, distribution: Distribution::Uniform { low: -3, high: 3 } };
            let w = build.graph.add_value(Value {
                name: "w".into(),
                shape: if transposed { vec![7, 12] } else { vec![12, 7] },
                dtype: DType::Int8,
                quant: quant.clone(),
                constant: Some(Constant::Synthetic(recipe)),
            });
            let op = Op::MatMul { transposed, activation: Activation::None };
            let y = build.node_as("fc", op, &[flat, w], &[1, 7], DType::Int8, quant.clone());
            build.output(y);
            let mut work = Work::new(build.graph);
            assert_eq!((transpose_weights(&mut work), whole_image(&mut work)), (0, conversions));
            check(&work.finish());
        }
    }
}
