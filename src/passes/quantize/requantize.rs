//! Recomputes a quantized network for a machine without its zero points, per-channel scales or types.
//!
//! Activations become symmetric: `scale = max(|low|, |high|) / limit` of the real range that the old parameters can
//! represent (uint8 with zero point 128 becomes int8 with the same scale, which changes no value). Where the old range
//! cut values off, an activation does so now: exporters drop a `Relu` that a zero point of 0 in uint8 implies. Weights get one
//! scale, the largest of the channels', and `rne(w * scale[c] / scale)`. Biases follow the new scales. Synthetic
//! weights keep their integers and get the median of the channels' scales, so that sums keep their usual size.
//! Quantized inputs and results of the network keep their types: they are converted at the boundary.

use crate::{
    diag::{Diagnostic, Faults},
    ir::{Activation, Constant, Distribution, Node, Op, Synthetic, ValueId, op::Integer},
    passes::{
        activation::compose,
        constants::{Channels, integers, saturated},
        work::{Slot, Work, activation_mut},
    },
    tensor::{DType, Quantization, Tensor},
};

use super::{
    Capabilities,
    capability::{Role, computes_on_integers, role},
    params::{scale_of, stored, symmetric},
    weights::{bias_steps, channelwise},
};

/// Does it, and says what was done in a line.
pub fn requantize(work: &mut Work, capabilities: &Capabilities) -> Result<String, Faults> {
    let old: Vec<Option<Quantization>> =
        (0_u32..).map(ValueId).take(work.values()).map(|id| work.value(id).quant.clone()).collect();
    let types: Vec<DType> = (0_u32..).map(ValueId).take(work.values()).map(|id| work.value(id).dtype).collect();
    let slots: Vec<Slot> = (0..work.slots()).filter(|&slot| computes_on_integers(work, slot)).collect();
    let (mut activations, mut weights, mut biases) = (0_usize, 0_usize, 0_usize);
    let mut found = Vec::new();
    let mut seen = vec![false; old.len()];

    for &slot in &slots {
        let Some(node) = work.node(slot).cloned() else { continue };
        let operands = node.inputs.iter().enumerate().map(|(place, &x)| (role(&node.op, place), x));
        for (role, id) in operands.chain(node.outputs.iter().map(|&y| (Role::Data, y))) {
            if role == Role::Bias || std::mem::replace(&mut seen[id.index()], true) {
                continue;
            }
            let changed = if role == Role::Data {
                activation(work, id, capabilities).inspect(|&changed| activations += usize::from(changed))
            } else {
                weight(work, id, &node.op, capabilities).inspect(|&changed| weights += usize::from(changed))
            };
            if changed.is_none() {
                let message = format!("`{}` cannot be requantized", work.value(id).name);
                found.push(Diagnostic::error(message).with_path(format!("node \"{}\"", node.name)));
            }
        }
    }
    let cuts = cuts(work, &slots, &old, &types);
    for &slot in &slots {
        if let Some(changed) = bias(work, slot, &old) {
            biases += usize::from(changed);
        } else {
            let name = work.node(slot).map_or_else(String::new, |node| node.name.clone());
            let message = "the bias cannot be requantized";
            found.push(Diagnostic::error(message).with_path(format!("node \"{name}\"")));
        }
    }
    Faults::check(found)?;
    let count = cuts.len();
    for (slot, cut) in cuts {
        cut_off(work, slot, cut);
    }
    boundary(work, &old, &types);
    let counts = format!("{activations} activations, {weights} weights, {biases} biases");
    Ok(format!("requantize: {counts}; {count} activations that the old ranges implied are explicit"))
}

/// Operators whose results the old range cut off and the new one does not, with the activation that does it.
fn cuts(work: &Work, slots: &[Slot], old: &[Option<Quantization>], types: &[DType]) -> Vec<(Slot, Activation)> {
    let limits = |id: ValueId| {
        let quant = old.get(id.index())?.as_ref().filter(|quant| quant.is_per_tensor())?;
        let (low, high) = types.get(id.index())?.int_range()?;
        let (scale, zero) = (quant.scale_of(0), i64::from(quant.zero_of(0)));
        Some(((low - zero) as f32 * scale, (high - zero) as f32 * scale))
    };
    let mut found = Vec::new();
    for &slot in slots {
        let Some(node) = work.node(slot) else { continue };
        let &[y] = node.outputs.as_slice() else { continue };
        let (Some((low, high)), Some(quant)) = (limits(y), &work.value(y).quant) else { continue };
        let Some((smallest, largest)) = work.value(y).dtype.int_range() else { continue };
        // A range that is one step short of the type's, as a symmetric one is, is the type's.
        let steps = |real: f32| f64::from(real / quant.scale_of(0)).round_ties_even();
        let low_cuts = steps(low) > (smallest + 1) as f64;
        let high_cuts = steps(high) < (largest - 1) as f64;
        let non_negative = |x: &ValueId| limits(*x).is_some_and(|(low, _)| low >= 0.0);
        let cut = match &node.op {
            Op::Conv { .. } | Op::MatMul { .. } | Op::Add { .. } => compose(
                if low_cuts { Activation::Clip { low, high: f32::INFINITY } } else { Activation::None },
                if high_cuts { Activation::Clip { low: f32::NEG_INFINITY, high } } else { Activation::None },
            ),
            // Ranges of other operators are their data's, but for a `Relu` that was dropped.
            Op::Relu | Op::Clip { .. } | Op::Sigmoid | Op::HardSigmoid { .. } | Op::Softmax { .. } => Activation::None,
            op if op.spec().integer != Integer::Kept && low == 0.0 && !node.inputs.iter().all(non_negative) => {
                Activation::Relu
            }
            _ => Activation::None,
        };
        if cut != Activation::None {
            found.push((slot, cut));
        }
    }
    found
}

/// Applies an activation to a node's result: fused where the operator can, else by an operator of its own.
fn cut_off(work: &mut Work, slot: Slot, cut: Activation) {
    let Some((name, y)) = work.node(slot).and_then(|node| Some((node.name.clone(), *node.outputs.first()?))) else {
        return;
    };
    let value = work.value(y);
    let ends = value.dtype.int_range().zip(value.quant.as_ref().map(|quant| quant.scale_of(0)));
    if let Some(place) = work.op_mut(slot).and_then(activation_mut) {
        *place = compose(*place, cut);
        // A side that nothing cuts ends where the type does.
        if let (Activation::Clip { low, high }, Some(((smallest, largest), scale))) = (place, ends) {
            *low = low.max(smallest as f32 * scale);
            *high = high.min(largest as f32 * scale);
        }
        return;
    }
    let (dtype, quant) = (work.value(y).dtype, work.value(y).quant.clone());
    let inner = work.add_like(y, ".uncut", dtype, quant);
    work.set_output(slot, inner);
    work.add_node(Node { name: format!("{name}.relu"), op: Op::Relu, inputs: vec![inner], outputs: vec![y] });
}

/// New parameters of an activation; `None` where the old ones serve.
fn target(dtype: DType, quant: &Quantization, capabilities: &Capabilities) -> Option<(DType, Quantization)> {
    let (wanted, limit) = symmetric(capabilities.activation);
    let fits = dtype.bits() <= wanted.bits();
    if fits && (capabilities.zero_points || (quant.is_symmetric() && dtype == wanted)) {
        return None;
    }
    let (low, high) = dtype.int_range()?;
    let (scale, zero) = (quant.scale_of(0), i64::from(quant.zero_of(0)));
    if fits && dtype == DType::UInt8 && zero == 128 {
        return Some((DType::Int8, Quantization::per_tensor(scale, 0)));
    }
    let steps = (low - zero).abs().max((high - zero).abs());
    let scale = scale_of(steps as f64 * f64::from(scale) / f64::from(limit));
    Some((wanted, Quantization::per_tensor(scale, 0)))
}

/// Whether the value was changed; `None` where it cannot be.
fn activation(work: &mut Work, id: ValueId, capabilities: &Capabilities) -> Option<bool> {
    let value = work.value(id);
    let Some(quant) = value.quant.clone() else { return Some(false) };
    if !quant.is_per_tensor() {
        return None;
    }
    let Some((dtype, new)) = target(value.dtype, &quant, capabilities) else { return Some(false) };
    let constant = match &value.constant {
        None => None,
        Some(Constant::Dense(tensor)) => {
            let (low, high) = dtype.int_range()?;
            let ratio = f64::from(quant.scale_of(0)) / f64::from(new.scale_of(0));
            let zero = i64::from(quant.zero_of(0));
            let integers: Vec<i64> = tensor
                .to_integers()?
                .into_iter()
                .map(|q| saturated(((q - zero) as f64 * ratio).round_ties_even(), low, high))
                .collect();
            Some(Constant::Dense(Tensor::from_integers(stored(dtype), tensor.shape(), &integers)?.into()))
        }
        Some(Constant::Synthetic(recipe)) => Some(Constant::Synthetic(shifted(recipe, quant.zero_of(0), dtype)?)),
    };
    let value = work.value_mut(id);
    (value.dtype, value.quant, value.constant) = (dtype, Some(new), constant);
    Some(true)
}

/// A recipe without its zero point, within a type.
fn shifted(recipe: &Synthetic, zero: i32, dtype: DType) -> Option<Synthetic> {
    let (_, limit) = symmetric(dtype);
    let distribution = match recipe.distribution {
        Distribution::Normal { sigma, limit: old } => Distribution::Normal { sigma, limit: old.min(limit) },
        Distribution::Uniform { low, high } => Distribution::Uniform {
            low: low.checked_sub(zero)?.clamp(-limit, limit),
            high: high.checked_sub(zero)?.clamp(-limit, limit),
        },
    };
    Some(Synthetic { seed: recipe.seed, distribution })
}

fn median(scales: &[f32]) -> Option<f32> {
    let mut sorted = scales.to_vec();
    sorted.sort_unstable_by(f32::total_cmp);
    sorted.get(sorted.len() / 2).copied()
}

/// Whether the weight was changed; `None` where it cannot be.
fn weight(work: &mut Work, id: ValueId, op: &Op, capabilities: &Capabilities) -> Option<bool> {
    let value = work.value(id);
    let quant = value.quant.clone()?;
    let (wanted, limit) = symmetric(capabilities.weight);
    let symmetric_enough = capabilities.zero_points || quant.is_symmetric();
    let few_enough = capabilities.per_channel || quant.is_per_tensor();
    if symmetric_enough && few_enough && value.dtype.bits() <= wanted.bits() {
        return Some(false);
    }
    let axis = usize::from(matches!(op, Op::MatMul { transposed: false, .. }));
    let (constant, new) = match value.constant.as_ref()? {
        Constant::Synthetic(recipe) => {
            let scale = if capabilities.per_channel { quant.scale.clone() } else { vec![median(&quant.scale)?] };
            (Constant::Synthetic(shifted(recipe, quant.zero_of(0), wanted)?), channelwise(scale, axis))
        }
        Constant::Dense(tensor) => {
            let (tensor, scale) = dense_weight(tensor, &quant, wanted, limit, capabilities.per_channel)?;
            (Constant::Dense(tensor.into()), channelwise(scale, axis))
        }
    };
    let value = work.value_mut(id);
    (value.dtype, value.quant, value.constant) = (wanted, Some(new), Some(constant));
    Some(true)
}

/// Symmetric integers of `dtype` and their scales. A scale grows only where integers would not fit: `-128` does.
fn dense_weight(
    tensor: &Tensor,
    quant: &Quantization,
    dtype: DType,
    limit: i32,
    per_channel: bool,
) -> Option<(Tensor, Vec<f32>)> {
    let shape = tensor.shape();
    let (low, high) = dtype.int_range()?;
    let channels = quant.scale.len();
    let along = Channels::new(shape, quant.axis.filter(|_| channels > 1));
    let channel = |position| along.of(position);
    let centred: Vec<i64> = tensor
        .to_integers()?
        .into_iter()
        .enumerate()
        .map(|(position, q)| q - i64::from(quant.zero_of(channel(position))))
        .collect();
    let mut scale: Vec<f64> = quant.scale.iter().copied().map(f64::from).collect();
    for (position, &q) in centred.iter().enumerate() {
        if q < low || q > high {
            let at = channel(position);
            scale[at] = scale[at].max(f64::from(quant.scale[at]) * q.abs() as f64 / f64::from(limit));
        }
    }
    if !per_channel {
        let largest = scale.iter().copied().fold(0.0, f64::max);
        scale = vec![largest; channels];
    }
    let scale: Vec<f32> = scale.into_iter().map(scale_of).collect();
    let tensor = integers(stored(dtype), shape, |position| {
        let at = channel(position);
        let real = centred[position] as f64 * f64::from(quant.scale[at]);
        saturated((real / f64::from(scale[at])).round_ties_even(), low, high)
    })?;
    Some((tensor, if per_channel { scale } else { scale.into_iter().take(1).collect() }))
}

/// Whether the bias was changed; `None` where it cannot be.
fn bias(work: &mut Work, slot: Slot, old: &[Option<Quantization>]) -> Option<bool> {
    let node = work.node(slot)?;
    if !matches!(node.op, Op::Conv { .. } | Op::MatMul { .. }) {
        return Some(false);
    }
    let &[x, w, b] = node.inputs.as_slice() else { return Some(false) };
    let channels = *work.value(b).shape.last()?;
    let factors = |x: &Quantization, w: &Quantization| -> Vec<f32> {
        (0..w.scale.len()).map(|channel| x.scale_of(0) * w.scale_of(channel)).collect()
    };
    let before = factors(old.get(x.index())?.as_ref()?, old.get(w.index())?.as_ref()?);
    let after = factors(work.value(x).quant.as_ref()?, work.value(w).quant.as_ref()?);
    if before == after {
        return Some(false);
    }
    let pick = |list: &[f32], channel: usize| list.get(if list.len() == 1 { 0 } else { channel }).copied();
    let mut value = work.value(b).clone();
    value.constant = Some(match value.constant.as_ref()? {
        Constant::Dense(tensor) => {
            let steps: Option<Vec<i64>> = tensor
                .to_integers()?
                .into_iter()
                .enumerate()
                .map(|(channel, q)| {
                    Some(bias_steps(q as f64 * f64::from(pick(&before, channel)?), pick(&after, channel)?))
                })
                .collect();
            Constant::Dense(Tensor::from_integers(DType::Int32, &[channels], &steps?)?.into())
        }
        Constant::Synthetic(recipe) => {
            let ratio = median(&before)? / median(&after)?;
            let scaled = |q: i32| i32::try_from(bias_steps(f64::from(q) * f64::from(ratio), 1.0)).ok();
            let distribution = match recipe.distribution {
                Distribution::Normal { sigma, limit } => {
                    Distribution::Normal { sigma: sigma * ratio, limit: scaled(limit)? }
                }
                Distribution::Uniform { low, high } => Distribution::Uniform { low: scaled(low)?, high: scaled(high)? },
            };
            Constant::Synthetic(Synthetic { seed: recipe.seed, distribution })
        }
    });
    value.quant = Some(channelwise(after, 0));
    // Another operator may read the same bias with other scales.
    if work.uses(b) == 1 {
        *work.value_mut(b) = value;
    } else {
        let own = work.add_value(value);
        work.set_input(slot, 2, own);
    }
    Some(true)
}

/// Gives quantized inputs and results of the network their old types back, through floats on the host.
fn boundary(work: &mut Work, old: &[Option<Quantization>], types: &[DType]) {
    let ends: Vec<ValueId> = work.inputs().iter().chain(work.outputs()).copied().collect();
    for id in ends {
        let (Some(quant), Some(&dtype)) = (old.get(id.index()).cloned(), types.get(id.index())) else { continue };
        if quant == work.value(id).quant && dtype == work.value(id).dtype {
            continue;
        }
        let (new_type, new_quant) = (work.value(id).dtype, work.value(id).quant.clone());
        let inner = work.add_like(id, ".machine", new_type, new_quant);
        work.replace_uses(id, inner);
        (work.value_mut(id).dtype, work.value_mut(id).quant) = (dtype, quant);
        match work.producer(id) {
            Some(producer) => {
                work.set_output(producer, inner);
                convert(work, inner, id);
            }
            None => convert(work, id, inner),
        }
    }
}

fn convert(work: &mut Work, from: ValueId, to: ValueId) {
    let name = work.value(to).name.clone();
    let float = work.add_like(to, ".float", DType::Fp32, None);
    let node = |suffix: &str, op, input, output| {
        let name = format!("{name}.{suffix}");
        Node { name, op, inputs: vec![input], outputs: vec![output] }
    };
    work.add_node(node("dequantize", Op::DequantizeLinear, from, float));
    work.add_node(node("quantize", Op::QuantizeLinear, float, to));
}
