//! Folds per-channel scales and shifts (batch normalization; addition, subtraction, multiplication and division by
//! constants) into the float convolutions and matrix products beside them, and rewrites what is left.
//!
//! All arithmetic is in f64 and rounded once: batch normalization is `x s + t` with
//! `s = scale / sqrt(var + epsilon)`, `t = bias - mean s`. Only what stays in float is rounded as ONNX Runtime does.

use crate::{
    ir::{Activation, Node, Op, ValueId, Window},
    tensor::Tensor,
};

use super::{
    activation::compose,
    constants::Channels,
    work::{Slot, Work, activation_mut, activation_of},
};

/// `y[c] = x[c] scale[c] + shift[c]`.
struct Affine {
    scale: Vec<f64>,
    shift: Vec<f64>,
    activation: Activation,
}

/// Folds into the operator before; returns the number of changes.
pub fn fold_after(work: &mut Work) -> usize {
    (0..work.slots()).filter(|&slot| into_before(work, slot).is_some()).count()
}

/// Folds into the operator after; returns the number of changes.
pub fn fold_before(work: &mut Work) -> usize {
    (0..work.slots()).filter(|&slot| into_after(work, slot).is_some()).count()
}

/// Rewrites what could not be folded: batch normalization as a depthwise 1x1 convolution (rank 4, in a float model) or as
/// a product and a sum, which a model that arrived quantized leaves to the host, in float as it says; in a float model also
/// subtraction and division by a constant as addition and multiplication. Returns the number of changes.
pub fn lower(work: &mut Work) -> usize {
    let float_model = !work.has_quantized_results();
    (0..work.slots())
        .filter(|&slot| {
            lower_batch_norm(work, slot, float_model).is_some() || (float_model && lower_inverse(work, slot).is_some())
        })
        .count()
}

/// The operand and the function of a node that is affine along `axis` of its operand.
fn affine_of(work: &Work, slot: Slot, axis: usize) -> Option<(ValueId, Affine)> {
    let node = work.node(slot)?;
    let &[y] = node.outputs.as_slice() else { return None };
    if let Op::BatchNorm { epsilon } = node.op {
        let &[x, scale, bias, mean, variance] = node.inputs.as_slice() else { return None };
        if axis != 1 || !work.is_float(x) {
            return None;
        }
        let constant = |id| work.dense_float(id);
        let (scale, bias, mean, variance) = (constant(scale)?, constant(bias)?, constant(mean)?, constant(variance)?);
        let channels = *work.value(x).shape.get(1)?;
        if [&scale, &bias, &mean, &variance].iter().any(|list| list.len() != channels) {
            return None;
        }
        let divided =
            |(&scale, &variance): (&f32, &f32)| f64::from(scale) / (f64::from(variance) + f64::from(epsilon)).sqrt();
        let scale: Vec<f64> = scale.iter().zip(&variance).map(divided).collect();
        let shift = (0..channels).map(|c| f64::from(bias[c]) - f64::from(mean[c]) * scale[c]).collect();
        return finite(Affine { scale, shift, activation: Activation::None }).map(|affine| (x, affine));
    }
    let &[a, b] = node.inputs.as_slice() else { return None };
    let (x, constant, swapped) = if work.is_constant(b) { (a, b, false) } else { (b, a, true) };
    if work.is_constant(x) || !work.is_float(x) || work.value(x).shape != work.value(y).shape {
        return None;
    }
    let channels = *work.value(x).shape.get(axis)?;
    let c = per_channel(work, constant, work.value(x).shape.len(), axis, channels)?;
    let (one, zero) = (vec![1.0; channels], vec![0.0; channels]);
    let (scale, shift) = match (&node.op, swapped) {
        (Op::Add { .. }, _) => (one, c),
        (Op::Sub, false) => (one, c.iter().map(|c| -c).collect()),
        (Op::Sub, true) => (vec![-1.0; channels], c),
        (Op::Mul, _) => (c, zero),
        (Op::Div, false) => (c.iter().map(|c| 1.0 / c).collect(), zero),
        _ => return None,
    };
    let activation = activation_of(&node.op).unwrap_or_default();
    finite(Affine { scale, shift, activation }).map(|affine| (x, affine))
}

fn finite(affine: Affine) -> Option<Affine> {
    affine.scale.iter().chain(&affine.shift).all(|value| value.is_finite()).then_some(affine)
}

/// A constant that broadcasts along one axis of a tensor of `rank`, as one number a channel.
fn per_channel(work: &Work, constant: ValueId, rank: usize, axis: usize, channels: usize) -> Option<Vec<f64>> {
    let data = work.dense_float(constant)?;
    if let &[single] = data.as_slice() {
        return Some(vec![f64::from(single); channels]);
    }
    let shape = &work.value(constant).shape;
    let skip = rank.checked_sub(shape.len())?;
    let only_channels = shape.iter().enumerate().all(|(index, &dim)| dim == 1 || skip + index == axis);
    (only_channels && data.len() == channels).then(|| data.into_iter().map(f64::from).collect())
}

/// Weight, bias and geometry of a float convolution or matrix product whose constants are at hand.
struct Linear {
    weight: Vec<f32>,
    shape: Vec<usize>,
    bias: Option<Vec<f32>>,
    /// The weight's axis of output channels.
    output_axis: usize,
    outputs: usize,
}

fn linear(work: &Work, slot: Slot) -> Option<Linear> {
    let node = work.node(slot)?;
    let output_axis = match node.op {
        Op::Conv { .. } => 0,
        Op::MatMul { transposed, .. } => usize::from(!transposed),
        _ => return None,
    };
    let weight = work.dense_float(*node.inputs.get(1)?)?;
    let bias = match node.inputs.get(2) {
        Some(&bias) => Some(work.dense_float(bias)?),
        None => None,
    };
    if !node.outputs.iter().all(|&y| work.is_float(y)) {
        return None;
    }
    let shape = work.value(node.inputs[1]).shape.clone();
    let outputs = *shape.get(output_axis)?;
    let fits = bias.as_ref().is_none_or(|bias| bias.len() == outputs);
    fits.then_some(Linear { weight, shape, bias, output_axis, outputs })
}

#[allow(clippy::cast_possible_truncation)] // rounding to f32 is meant
fn rounded(values: impl Iterator<Item = f64>) -> Option<Vec<f32>> {
    values.map(|value| Some(value as f32).filter(|value| value.is_finite())).collect()
}

/// Writes weight and bias back.
fn store(work: &mut Work, slot: Slot, shape: &[usize], weight: Vec<f32>, bias: Vec<f32>) -> Option<()> {
    let count = bias.len();
    let (weight, bias) = (Tensor::from_f32(shape, weight)?, Tensor::from_f32(&[count], bias)?);
    work.set_constant(slot, 1, weight, None);
    let node = work.node(slot)?;
    if node.inputs.len() > 2 {
        work.set_constant(slot, 2, bias, None);
    } else {
        let name = format!("{}.bias", node.name);
        let bias = work.add_constant(&name, crate::tensor::DType::Fp32, None, bias);
        work.set_input(slot, 2, bias);
    }
    Some(())
}

/// Always exact in real arithmetic.
fn into_before(work: &mut Work, slot: Slot) -> Option<()> {
    let node = work.node(slot)?;
    let &[y] = node.outputs.as_slice() else { return None };
    let (before, axis) = node.inputs.iter().find_map(|&x| {
        let (before, producer) = work.producing(x)?;
        let axis = match producer.op {
            Op::Conv { activation: Activation::None, .. } => 1,
            Op::MatMul { activation: Activation::None, .. } => work.value(x).shape.len().checked_sub(1)?,
            _ => return None,
        };
        Some((before, axis))
    })?;
    let (x, affine) = affine_of(work, slot, axis)?;
    if work.producer(x) != Some(before) || work.uses(x) != 1 || !work.is_float(y) {
        return None;
    }
    let linear = linear(work, before)?;
    if linear.outputs != affine.scale.len() {
        return None;
    }
    let channels = Channels::new(&linear.shape, Some(linear.output_axis));
    let weight = linear.weight.iter().enumerate().map(|(at, &w)| f64::from(w) * affine.scale[channels.of(at)]);
    let weight = rounded(weight)?;
    let old = |c: usize| linear.bias.as_ref().map_or(0.0, |bias| f64::from(bias[c]));
    let bias = rounded((0..linear.outputs).map(|c| old(c) * affine.scale[c] + affine.shift[c]))?;
    store(work, before, &linear.shape, weight, bias)?;
    if let Some(place) = work.op_mut(before).and_then(activation_mut) {
        *place = compose(*place, affine.activation);
    }
    work.remove(slot);
    work.set_output(before, y);
    Some(())
}

/// A scale is always exact; a shift only where no padding (real zero) stands among the shifted inputs.
fn into_after(work: &mut Work, slot: Slot) -> Option<()> {
    let node = work.node(slot)?;
    let x = *node.inputs.first()?;
    let before = work.producer(x)?;
    let (axis, groups, padded) = match node.op {
        Op::Conv { window, groups, .. } => (1, groups, window.pad != [0; 4]),
        Op::MatMul { .. } => (work.value(x).shape.len().checked_sub(1)?, 1, false),
        _ => return None,
    };
    let (origin, affine) = affine_of(work, before, axis)?;
    let shifts = affine.shift.iter().any(|&shift| shift != 0.0);
    if affine.activation != Activation::None || work.uses(x) != 1 || (padded && shifts) {
        return None;
    }
    let linear = linear(work, slot)?;
    let per_group = *linear.shape.get(1 - linear.output_axis)?;
    if groups == 0 || per_group.checked_mul(groups)? != affine.scale.len() || linear.outputs % groups != 0 {
        return None;
    }
    let mut bias: Vec<f64> = match &linear.bias {
        Some(bias) => bias.iter().copied().map(f64::from).collect(),
        None => vec![0.0; linear.outputs],
    };
    let along = |axis| Channels::new(&linear.shape, Some(axis));
    let (outputs, inputs) = (along(linear.output_axis), along(1 - linear.output_axis));
    let mut weight = Vec::with_capacity(linear.weight.len());
    for (position, &w) in linear.weight.iter().enumerate() {
        let output = outputs.of(position);
        let channel = output / (linear.outputs / groups) * per_group + inputs.of(position);
        weight.push(f64::from(w) * affine.scale[channel]);
        bias[output] += f64::from(w) * affine.shift[channel];
    }
    let (weight, bias) = (rounded(weight.into_iter())?, rounded(bias.into_iter())?);
    if shifts || linear.bias.is_some() {
        store(work, slot, &linear.shape, weight, bias)?;
    } else {
        work.set_constant(slot, 1, Tensor::from_f32(&linear.shape, weight)?, None);
    }
    work.set_input(slot, 0, origin);
    work.prune(x);
    Some(())
}

fn lower_batch_norm(work: &mut Work, slot: Slot, float_model: bool) -> Option<()> {
    let Node { name, op: Op::BatchNorm { epsilon }, inputs, outputs } = work.node(slot)?.clone() else { return None };
    let (x, affine) = affine_of(work, slot, 1)?;
    let (scale, shift) = if float_model {
        (rounded(affine.scale.into_iter())?, rounded(affine.shift.into_iter())?)
    } else {
        normalization(work, &inputs[1..], epsilon)?
    };
    let channels = scale.len();
    let rank = work.value(x).shape.len();
    if rank == 4 && float_model {
        let w = work.add_float_constant(&format!("{name}.scale"), &[channels, 1, 1, 1], scale)?;
        let b = work.add_float_constant(&format!("{name}.shift"), &[channels], shift)?;
        *work.op_mut(slot)? = Op::Conv { window: Window::UNIT, groups: channels, activation: Activation::None };
        work.set_inputs(slot, vec![x, w, b]);
    } else {
        let mut shape = vec![1; rank.checked_sub(1)?];
        *shape.first_mut()? = channels;
        let w = work.add_float_constant(&format!("{name}.scale"), &shape, scale)?;
        let b = work.add_float_constant(&format!("{name}.shift"), &shape, shift)?;
        let dtype = work.value(x).dtype;
        let product = work.add_like(*outputs.first()?, ".product", dtype, None);
        *work.op_mut(slot)? = Op::Add { activation: Activation::None };
        work.set_inputs(slot, vec![product, b]);
        let name = format!("{name}.product");
        work.add_node(Node { name, op: Op::Mul, inputs: vec![x, w], outputs: vec![product] });
    }
    Some(())
}

/// Scale and shift as ONNX Runtime makes them of a normalization's parameters, every operation rounded to f32:
/// `s = (1 / sqrt(var + epsilon)) scale`, `t = bias - mean s`. With `x s + t` in f32 no bit of 24,762 results differs from
/// 1.32.0; of eleven other orders and roundings the nearest differs in 2,456.
fn normalization(work: &Work, parameters: &[ValueId], epsilon: f32) -> Option<(Vec<f32>, Vec<f32>)> {
    let [scale, bias, mean, variance] = parameters else { return None };
    let data = |&id: &ValueId| work.dense_float(id);
    let (scale, bias, mean, variance) = (data(scale)?, data(bias)?, data(mean)?, data(variance)?);
    let scale: Vec<f32> = scale.iter().zip(variance).map(|(s, var)| 1.0 / (var + epsilon).sqrt() * s).collect();
    let shift: Vec<f32> = bias.iter().zip(mean).zip(&scale).map(|((bias, mean), s)| bias - mean * s).collect();
    scale.iter().chain(&shift).all(|value| value.is_finite()).then_some((scale, shift))
}

fn lower_inverse(work: &mut Work, slot: Slot) -> Option<()> {
    let node = work.node(slot)?;
    let &[x, c] = node.inputs.as_slice() else { return None };
    let (op, inverse): (Op, fn(f32) -> f32) = match node.op {
        Op::Sub => (Op::Add { activation: Activation::None }, |c| -c),
        Op::Div => (Op::Mul, |c| 1.0 / c),
        _ => return None,
    };
    if work.is_constant(x) || !work.is_float(x) {
        return None;
    }
    let data: Vec<f32> = work.dense_float(c)?.into_iter().map(inverse).collect();
    if !data.iter().all(|value| value.is_finite()) {
        return None;
    }
    let tensor = Tensor::from_f32(&work.value(c).shape, data)?;
    work.set_constant(slot, 1, tensor, None);
    *work.op_mut(slot)? = op;
    Some(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        passes::testing::{Builder, check, conv, difference, evaluate, numbers},
        tensor::{DType, Quantization},
    };

    fn batch_norm(build: &mut Builder, x: ValueId, shape: &[usize]) -> ValueId {
        let channels = shape[1];
        let list = |seed, offset: f32| numbers(channels, seed).into_iter().map(|v| v + offset).collect();
        let parameters: Vec<ValueId> =
            [list(1, 0.5), list(2, 0.0), list(3, 0.0), list(4, 1.5)].map(|v| build.constant(&[channels], v)).to_vec();
        let inputs: Vec<ValueId> = std::iter::once(x).chain(parameters).collect();
        build.node("bn", Op::BatchNorm { epsilon: 1e-3 }, &inputs, shape)
    }

    fn same_values(build: Builder, passes: &[fn(&mut Work) -> usize], nodes: &[&str]) {
        let before = build.graph.clone();
        let mut work = Work::new(build.graph);
        for pass in passes {
            pass(&mut work);
        }
        let after = work.finish();
        check(&after);
        assert_eq!(after.nodes.iter().map(|node| node.op.name()).collect::<Vec<_>>(), nodes);
        let size = before.value(before.inputs[0]).shape.iter().product();
        let data = [numbers(size, 77)];
        assert!(difference(&evaluate(&before, &data), &evaluate(&after, &data)) < 1e-6);
    }

    #[test]
    fn batch_norm_folds_into_the_convolution_before_it() {
        let mut build = Builder::new();
        let x = build.input(&[1, 4, 5, 5]);
        let w = build.constant(&[6, 2, 3, 3], numbers(108, 9));
        let b = build.constant(&[6], numbers(6, 8));
        let window = Window { kernel: [3, 3], stride: [1, 1], dilation: [1, 1], pad: [1; 4] };
        let y = build.node("conv", conv(window, 2), &[x, w, b], &[1, 6, 5, 5]);
        let z = batch_norm(&mut build, y, &[1, 6, 5, 5]);
        build.output(z);
        same_values(build, &[fold_after], &["Conv"]);
    }

    #[test]
    fn batch_norm_folds_into_the_convolution_after_it_only_without_padding() {
        for (pad, nodes) in [(0, vec!["Conv"]), (1, vec!["BatchNorm", "Conv"])] {
            let mut build = Builder::new();
            let x = build.input(&[1, 4, 5, 5]);
            let y = batch_norm(&mut build, x, &[1, 4, 5, 5]);
            let w = build.constant(&[6, 2, 3, 3], numbers(108, 9));
            let window = Window { kernel: [3, 3], stride: [1, 1], dilation: [1, 1], pad: [pad; 4] };
            let size = 3 + 2 * pad;
            let z = build.node("conv", conv(window, 2), &[y, w], &[1, 6, size, size]);
            build.output(z);
            same_values(build, &[fold_before], &nodes);
        }
    }

    #[test]
    fn a_lone_batch_norm_becomes_a_depthwise_convolution_or_a_product_and_a_sum() {
        for (shape, nodes) in [(vec![2, 3, 4, 4], vec!["Conv"]), (vec![2, 3, 4], vec!["Mul", "Add"])] {
            let mut build = Builder::new();
            let x = build.input(&shape);
            let y = batch_norm(&mut build, x, &shape);
            build.output(y);
            same_values(build, &[lower], &nodes);
        }
    }

    #[test]
    fn a_quantized_model_keeps_a_lone_batch_norm_in_float_with_the_runtime_s_roundings() {
        let mut build = Builder::new();
        let shape = [1, 1, 3, 3];
        let x = build.input(&shape);
        let before = build.qdq("before", x, DType::UInt8, Quantization::per_tensor(0.1, 3));
        let [scale, bias, mean, variance] = [1.824, 0.917, 1.067, 2.664].map(|value| build.constant(&[1], vec![value]));
        let normal = Op::BatchNorm { epsilon: 1e-3 };
        let normal = build.node("bn", normal, &[before, scale, bias, mean, variance], &shape);
        let after = build.qdq("after", normal, DType::UInt8, Quantization::per_tensor(0.2, 5));
        build.output(after);
        let mut work = Work::new(build.graph);
        assert_eq!(lower(&mut work), 1);
        // From numpy in float32. Every other order of the roundings, fused or in float64, ends in other last digits.
        for (constant, value) in [("bn.scale", 1.117_316_6_f32), ("bn.shift", -0.275_176_82)] {
            let of =
                |work: &Work, id: ValueId| (work.value(id).name == constant).then(|| work.dense_float(id)).flatten();
            let found = (0..).map(ValueId).take(work.values()).find_map(|id| of(&work, id)).unwrap();
            assert_eq!(found[0].to_bits(), value.to_bits(), "{constant}: {found:?}");
        }
        let graph = work.finish();
        let names: Vec<&str> = graph.nodes.iter().map(|node| node.op.name()).collect();
        let quantized = ["QuantizeLinear", "DequantizeLinear"];
        assert_eq!(names, [&quantized[..], &["Mul", "Add"], &quantized].concat());
    }

    #[test]
    fn arithmetic_with_constants_folds_into_matrix_products() {
        let mut build = Builder::new();
        let x = build.input(&[2, 3, 4]);
        let c = build.constant(&[1], vec![0.25]);
        let x1 = build.node("div", Op::Div, &[x, c], &[2, 3, 4]);
        let w = build.constant(&[4, 5], numbers(20, 3));
        let matmul = Op::MatMul { transposed: false, activation: Activation::None };
        let y = build.node("fc", matmul, &[x1, w], &[2, 3, 5]);
        let b = build.constant(&[5], numbers(5, 4));
        let z = build.node("bias", Op::Add { activation: Activation::Relu }, &[b, y], &[2, 3, 5]);
        build.output(z);
        same_values(build, &[fold_after, fold_before], &["MatMul"]);
    }

    #[test]
    fn a_subtraction_from_a_constant_folds_into_the_convolution_before_it() {
        let mut build = Builder::new();
        let x = build.input(&[1, 2, 3, 3]);
        let w = build.constant(&[2, 2, 1, 1], numbers(4, 5));
        let y = build.node("conv", conv(Window::UNIT, 1), &[x, w], &[1, 2, 3, 3]);
        let c = build.constant(&[2, 1, 1], vec![1.0, 2.0]);
        let z = build.node("sub", Op::Sub, &[c, y], &[1, 2, 3, 3]);
        build.output(z);
        same_values(build, &[fold_after], &["Conv"]);
    }

    #[test]
    fn a_constant_per_column_is_not_folded() {
        let mut build = Builder::new();
        let x = build.input(&[1, 2, 3, 3]);
        let w = build.constant(&[2, 2, 1, 1], numbers(4, 5));
        let y = build.node("conv", conv(Window::UNIT, 1), &[x, w], &[1, 2, 3, 3]);
        let c = build.constant(&[3], vec![1.0, 2.0, 3.0]);
        let z = build.node("sub", Op::Sub, &[y, c], &[1, 2, 3, 3]);
        build.output(z);
        same_values(build, &[fold_after, lower], &["Conv", "Add"]);
    }

    #[test]
    fn a_shared_weight_is_copied_before_it_is_changed() {
        let mut build = Builder::new();
        let x = build.input(&[1, 2, 3, 3]);
        let w = build.constant(&[2, 2, 1, 1], numbers(4, 5));
        let y = build.node("conv1", conv(Window::UNIT, 1), &[x, w], &[1, 2, 3, 3]);
        let z = batch_norm(&mut build, y, &[1, 2, 3, 3]);
        let end = build.node("conv2", conv(Window::UNIT, 1), &[z, w], &[1, 2, 3, 3]);
        build.output(end);
        same_values(build, &[fold_after], &["Conv", "Conv"]);
    }
}
