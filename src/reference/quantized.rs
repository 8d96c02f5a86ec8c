//! Quantized operators, bit for bit: ONNX Runtime's integer semantics, with the accelerator's requantizer and
//! order of accumulation in convolutions and matrix products.

use super::{
    Outcome, Reason,
    accumulate::{Operands, Product, Weight, exact},
    batch::Batch,
    chunked::Order,
    elementwise, float,
    geometry::Geometry,
    integers::{
        Target, array, elements, from_i32, per_tensor, quantization, real, round_even, saturating_i64, to_float, to_i32,
    },
    pool,
    requantize::{Requantize, activated_target},
};
use crate::{
    ir::{Activation, Op, Value},
    tensor::{AccumulationOrder, Quantization, Requantizer, Tensor},
};

/// Evaluates a quantized operator, or a conversion between float and quantized.
pub(super) fn evaluate(
    op: &Op,
    inputs: &[&Value],
    output: &Value,
    operands: &[&Tensor],
    requantizer: Requantizer,
    order: &AccumulationOrder,
) -> Outcome<Tensor> {
    let shape = operands[0].shape();
    match op {
        Op::QuantizeLinear => return quantize(output, operands[0]),
        Op::DequantizeLinear => return dequantize(inputs[0], operands[0]),
        Op::Conv { window, groups, activation } => {
            let geometry = Geometry::new(shape, operands[1].shape(), window, *groups)?;
            let y = products(
                &Product::Conv(geometry),
                0,
                inputs,
                operands,
                activated_target(output, *activation)?,
                requantizer,
                order,
            )?;
            return from_i32(output.dtype, &geometry.output(), &y);
        }
        Op::MatMul { transposed, activation } => {
            let ([m, k, n], shape) = float::matrix_shape(shape, operands[1].shape(), *transposed)?;
            let y = products(
                &Product::Matrix { m, k, n, transposed: *transposed },
                usize::from(!transposed),
                inputs,
                operands,
                activated_target(output, *activation)?,
                requantizer,
                order,
            )?;
            return from_i32(output.dtype, &shape, &y);
        }
        Op::BatchMatMul => return batch_products(inputs, operands, output, requantizer, order),
        _ => {}
    }
    let activation = if let Op::Add { activation } = op { *activation } else { Activation::None };
    let target = activated_target(output, activation)?;
    let (scale, zero) = per_tensor(inputs[0])?;
    if let Op::Concat { axis } = op {
        let parts = inputs
            .iter()
            .zip(operands)
            .map(|(&input, operand)| {
                let y = elementwise::rescale(per_tensor(input)?, target, &to_i32(operand)?);
                from_i32(output.dtype, operand.shape(), &y)
            })
            .collect::<Outcome<Vec<_>>>()?;
        return super::movement::concat(&parts.iter().collect::<Vec<_>>(), *axis);
    }
    let x = to_i32(operands[0])?;
    let (shape, y) = match op {
        Op::Add { .. } => {
            let f = elementwise::add((scale, zero), per_tensor(inputs[1])?, target);
            elementwise::broadcast(shape, &x, operands[1].shape(), &to_i32(operands[1])?, f)?
        }
        Op::Mul => {
            let f = elementwise::mul((scale, zero), per_tensor(inputs[1])?, target);
            elementwise::broadcast(shape, &x, operands[1].shape(), &to_i32(operands[1])?, f)?
        }
        Op::Min | Op::Max | Op::PRelu => {
            let f = elementwise::binary(op, (scale, zero), per_tensor(inputs[1])?, target);
            elementwise::broadcast(shape, &x, operands[1].shape(), &to_i32(operands[1])?, f)?
        }
        op if op.is_function() => (shape.to_vec(), elementwise::function(op, (scale, zero), target, &x)),
        Op::AvgPool { window, count_include_pad } => {
            pool::average(shape, &x, window, |elements, padded, x| {
                // The sum runs in float32, row by row, as in `QLinearAveragePool`; the order matters.
                let sum = elements.iter().fold(0.0_f32, |sum, &index| sum + real(x[index], scale, zero));
                let mean = sum / if *count_include_pad { padded } else { elements.len() } as f32;
                // The zero point goes in before the rounding.
                target.clip(saturating_i64(round_even(mean / target.scale + target.zero as f32)))
            })?
        }
        Op::GlobalAvgPool => {
            let axes: Vec<usize> = (2..shape.len()).collect();
            mean(shape, &axes, true, &x, (scale, zero), target)?
        }
        Op::ReduceMean { axes, keep_dims } => mean(shape, axes, *keep_dims, &x, (scale, zero), target)?,
        Op::Softmax { axis } => (shape.to_vec(), elementwise::softmax(shape, *axis, scale, target, &x)?),
        _ => return Err(Reason::NoQuantizedForm),
    };
    from_i32(output.dtype, &shape, &y)
}

/// A convolution or matrix product; `axis` is the dimension of the weight that output channels run along.
fn products(
    product: &Product,
    axis: usize,
    inputs: &[&Value],
    operands: &[&Tensor],
    target: Target,
    requantizer: Requantizer,
    order: &AccumulationOrder,
) -> Outcome<Vec<i32>> {
    let (input_scale, input_zero) = per_tensor(inputs[0])?;
    let quant = quantization(inputs[1])?;
    let channels = product.channels();
    if !quant.is_per_tensor() && (quant.axis != Some(axis) || quant.scale.len() != channels) {
        return Err(Reason::Quantization(format!(
            "value {:?} has {} scales along {:?}, expected {channels} along {axis}",
            inputs[1].name,
            quant.scale.len(),
            quant.axis
        )));
    }
    let requantize = Requantize::new(requantizer, input_scale, quant, target)?;
    let mut x = to_i32(operands[0])?;
    for x in &mut x {
        *x = x.checked_sub(input_zero).ok_or_else(out_of_range)?;
    }
    let weight = weight(product, operands[1], quant)?;
    let bias = match operands.get(2) {
        Some(bias) => bias.to_integers().ok_or_else(|| Reason::Type("a float bias".into()))?,
        None => Vec::new(),
    };
    if operands.len() > 2 && bias.len() != channels {
        return Err(Reason::Shape(format!("a bias of {} for {channels} channels", bias.len())));
    }
    let operands = Operands { x, weight };
    match order {
        AccumulationOrder::Exact => exact(product, &operands, |channel, sum| {
            requantize.apply(channel, sum.saturating_add(bias.get(channel).copied().unwrap_or(0)))
        }),
        AccumulationOrder::Chunked { permutation, chunks, column_bits, accumulator_bits, overflow } => {
            let order = Order::new(product, permutation, chunks, [*column_bits, *accumulator_bits], *overflow)?;
            Ok(order.run(product, &operands, &bias, |channel, sum| requantize.apply(channel, sum)))
        }
    }
}

/// Products of two activations: `sum (a - za)(b - zb)`, requantized.
fn batch_products(
    inputs: &[&Value],
    operands: &[&Tensor],
    output: &Value,
    requantizer: Requantizer,
    order: &AccumulationOrder,
) -> Outcome<Tensor> {
    let batch = Batch::new(operands[0].shape(), operands[1].shape())?;
    let [m, k, n] = batch.matrix;
    let (scale, _) = per_tensor(inputs[0])?;
    per_tensor(inputs[1])?;
    let target = activated_target(output, Activation::None)?;
    let requantize = Requantize::new(requantizer, scale, quantization(inputs[1])?, target)?;
    let less_zero = |operand: usize| -> Outcome<Vec<i32>> {
        let (_, zero) = per_tensor(inputs[operand])?;
        let subtract = |x: i32| x.checked_sub(zero).ok_or_else(out_of_range);
        to_i32(operands[operand])?.into_iter().map(subtract).collect()
    };
    let (a, b) = (less_zero(0)?, less_zero(1)?);
    let product = Product::Matrix { m, k, n, transposed: false };
    let mut y = Vec::new();
    for (a, b) in batch.operands(&a, &b) {
        let operands = Operands { x: a.to_vec(), weight: Weight::Wide(b.to_vec()) };
        y.extend(match order {
            AccumulationOrder::Exact => exact(&product, &operands, |channel, sum| requantize.apply(channel, sum))?,
            AccumulationOrder::Chunked { permutation, chunks, column_bits, accumulator_bits, overflow } => {
                let order = Order::new(&product, permutation, chunks, [*column_bits, *accumulator_bits], *overflow)?;
                order.run(&product, &operands, &[], |channel, sum| requantize.apply(channel, sum))
            }
        });
    }
    from_i32(output.dtype, &batch.output, &y)
}

/// The elements of a weight less their channel's zero point.
fn weight(product: &Product, tensor: &Tensor, quant: &Quantization) -> Outcome<Weight> {
    let narrow = match tensor {
        Tensor::I8(array) => Some(elements(array).iter().map(|&w| i16::from(w)).collect::<Vec<_>>()),
        Tensor::U8(array) => Some(elements(array).iter().map(|&w| i16::from(w)).collect()),
        _ => None,
    };
    // For each element with a zero point, its index and that.
    let zeros = (0..product.channels()).map(|channel| (channel, quant.zero_of(channel))).filter(|&(_, zero)| zero != 0);
    let zeros =
        zeros.flat_map(|(channel, zero)| (0..product.k()).map(move |k| (product.weight_index(channel, k), zero)));
    if let (Some(mut data), true) = (narrow, quant.zero_point.iter().all(|zero| zero.unsigned_abs() < 1 << 14)) {
        // At most 255 + 2^14: fits.
        for (index, zero) in zeros {
            data[index] -= i16::try_from(zero).map_err(|_| out_of_range())?;
        }
        return Ok(Weight::Narrow(data));
    }
    let mut data = to_i32(tensor)?;
    for (index, zero) in zeros {
        data[index] = data[index].checked_sub(zero).ok_or_else(out_of_range)?;
    }
    Ok(Weight::Wide(data))
}

fn out_of_range() -> Reason {
    Reason::Type("an operand less its zero point does not fit 32 bits".into())
}

/// `QLinearGlobalAveragePool`: `clip(rne(f32(S) * f32(sx / f32(sy * n))) + zy)` with `S = sum (x - zx)`.
fn mean(
    shape: &[usize],
    axes: &[usize],
    keep_dims: bool,
    x: &[i32],
    (scale, zero): (f32, i32),
    target: Target,
) -> Outcome<(Vec<usize>, Vec<i32>)> {
    let (shape, sums, count) = pool::sums(shape, axes, keep_dims, |index| i64::from(x[index]) - i64::from(zero))?;
    let multiplier = scale / (target.scale * count as f32);
    let y = sums.into_iter().map(|sum| target.place(round_even(sum as f32 * multiplier))).collect();
    Ok((shape, y))
}

fn quantize(output: &Value, x: &Tensor) -> Outcome<Tensor> {
    let quant = quantization(output)?;
    let x_values = to_float(x)?;
    let (low, high) = super::integers::range(output.dtype)?;
    let y: Vec<i32> = by_channel(quant.axis, x.shape(), quant.scale.len())?
        .zip(x_values.iter())
        .map(|(channel, &x)| {
            Target { scale: quant.scale_of(channel), zero: quant.zero_of(channel), low, high }.quantize(x)
        })
        .collect();
    from_i32(output.dtype, x.shape(), &y)
}

fn dequantize(input: &Value, x: &Tensor) -> Outcome<Tensor> {
    let quant = quantization(input)?;
    let y: Vec<f32> = by_channel(quant.axis, x.shape(), quant.scale.len())?
        .zip(to_i32(x)?)
        .map(|(channel, x)| real(x, quant.scale_of(channel), quant.zero_of(channel)))
        .collect();
    array(x.shape(), y).map(Tensor::F32)
}

/// The channel of each element in row-major order; 0 where there is one scale.
fn by_channel(axis: Option<usize>, shape: &[usize], scales: usize) -> Outcome<impl Iterator<Item = usize> + use<>> {
    let (channels, inner) = match axis {
        _ if scales == 1 => (1, 1),
        Some(axis) if shape.get(axis) == Some(&scales) => (scales, shape[axis + 1..].iter().product::<usize>().max(1)),
        _ => return Err(Reason::Quantization(format!("{scales} scales along {axis:?} of {shape:?}"))),
    };
    Ok((0..).map(move |index: usize| index / inner % channels))
}
