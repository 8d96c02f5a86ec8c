//! Whole operators on the host: gather the operands in logical form, compute plainly, write the result to where it
//! lies. Slow and simple; the machine's fast paths are elsewhere.
//!
//! Operators on quantized values whose formula ONNX Runtime states in integers are computed by it, as the vector unit
//! does. All others go through real numbers: dequantize, compute in single precision, quantize.

mod matrix;
mod moves;
mod real;

use super::{
    access,
    error::Fault,
    numbers::{Adders, Numbers},
    place,
    store::Store,
    table, vector,
};
use crate::{
    ir::{Activation, Op, Window},
    kernels::elementwise::AddCoefficients,
    program::{Arithmetic, TensorPlace},
    tensor::{DType, Quantization, Tensor},
};

/// Constant operands of a matrix operator.
#[derive(Clone, Debug)]
pub(super) struct Constants {
    /// As in the graph.
    pub weights: Tensor,
    /// As in the graph.
    pub bias: Option<Tensor>,
}

/// One operator to execute.
pub(super) struct Host<'a> {
    /// All tensors.
    pub tensors: &'a [TensorPlace],
    /// What is known of their quantization.
    pub quantizations: &'a [Option<Quantization>],
    /// The layer's weights, if it has an image.
    pub constants: Option<&'a Constants>,
    /// The layer.
    pub layer: &'a Numbers,
    /// The machine's adders.
    pub adders: Adders,
}

/// An operand or result in logical, row-major form.
struct Value<'a> {
    shape: &'a [usize],
    dtype: DType,
    quantization: Option<&'a Quantization>,
    bytes: Vec<u8>,
}

impl Value<'_> {
    /// Integers as they are.
    fn integers(&self) -> Result<Vec<i32>, Fault> {
        let count = self.bytes.len() / place::element_bytes(self.dtype);
        let mut values = vec![0; count];
        access::decode(self.dtype, &self.bytes, &mut values)?;
        Ok(values)
    }

    /// Real values, dequantized by the channel's parameters where it is quantized.
    fn reals(&self) -> Result<Vec<f32>, Fault> {
        let Some(quantization) = self.quantization.filter(|_| self.dtype.is_integer()) else {
            return Ok(place::from_bytes(self.dtype, self.shape, &self.bytes)?.to_f32());
        };
        let parameters = Channels::new(quantization, self.shape)?;
        let real = |(index, q): (usize, i32)| {
            let (scale, zero) = parameters.of(index);
            (i64::from(q) - i64::from(zero)) as f32 * scale
        };
        Ok(self.integers()?.into_iter().enumerate().map(real).collect())
    }
}

/// Quantization parameters by element, per tensor or along an axis.
struct Channels<'a> {
    quantization: &'a Quantization,
    /// Elements between neighbours along the axis, and its length.
    step: usize,
    length: usize,
}

impl<'a> Channels<'a> {
    fn new(quantization: &'a Quantization, shape: &[usize]) -> Result<Self, Fault> {
        let count = quantization.scale.len();
        if count == 0 || quantization.zero_point.is_empty() {
            return Err(Fault::Arithmetic("a scale"));
        }
        let axis = quantization.axis.unwrap_or(0).min(shape.len());
        let length = if count == 1 { 1 } else { *shape.get(axis).unwrap_or(&0) };
        access::equal("scales of a tensor", length as u64, count as u64)?;
        Ok(Self { quantization, step: shape.iter().skip(axis + 1).product::<usize>().max(1), length })
    }

    fn of(&self, index: usize) -> (f32, i32) {
        let channel = index / self.step % self.length;
        (self.quantization.scale_of(channel), self.quantization.zero_of(channel))
    }
}

/// A result before it is encoded.
enum Output {
    /// Final integers.
    Integers(Vec<i32>),
    /// Real values, to be quantized or stored as they are.
    Reals(Vec<f32>),
    /// Bytes in logical order.
    Bytes(Vec<u8>),
}

impl<'a> Host<'a> {
    /// Executes the layer's operator.
    pub fn execute(&self, store: &mut Store) -> Result<(), Fault> {
        let op = match &self.layer.arithmetic {
            Arithmetic::Host { op } | Arithmetic::Elementwise { op, .. } => Some(op),
            Arithmetic::Matrix { .. } => None,
            Arithmetic::Free => return Ok(()),
        };
        let inputs = (0..self.layer.inputs.len()).map(|i| self.input(store, i)).collect::<Result<Vec<_>, _>>()?;
        let (place, quantization) = self.output()?;
        let output = match op {
            None => self.quantized_matrix(None, &inputs, place)?,
            Some(op) => self.compute(op, &inputs, place, quantization)?,
        };
        let clamp = match &self.layer.arithmetic {
            Arithmetic::Elementwise { clamp, output_type, .. } if output_type.is_integer() => *clamp,
            _ => place.dtype.int_range().map_or([i32::MIN, i32::MAX], |(low, high)| {
                [low, high].map(|limit| i32::try_from(limit).unwrap_or(i32::MAX))
            }),
        };
        let bytes = encode(output, place, quantization, clamp)?;
        place::scatter(store, place, &bytes, false)
    }

    fn place(&self, id: Option<&crate::program::TensorId>) -> Result<&'a TensorPlace, Fault> {
        id.and_then(|id| self.tensors.get(id.index())).ok_or(Fault::Arithmetic("a tensor of this operator"))
    }

    fn input(&self, store: &Store, index: usize) -> Result<Value<'a>, Fault>
    where
        Self: 'a,
    {
        let id = self.layer.inputs.get(index);
        let place = self.place(id)?;
        let known = id.and_then(|id| self.quantizations.get(id.index())).and_then(Option::as_ref);
        let said = match &self.layer.arithmetic {
            Arithmetic::Elementwise { inputs, .. } => inputs.get(index),
            Arithmetic::Matrix { input, .. } if index == 0 => Some(input),
            _ => None,
        };
        Ok(Value {
            shape: &place.shape,
            dtype: place.dtype,
            quantization: said.or(known).filter(|_| place.dtype.is_integer()),
            bytes: place::gather(store, place)?,
        })
    }

    fn output(&self) -> Result<(&'a TensorPlace, Option<&'a Quantization>), Fault> {
        let id = self.layer.outputs.first();
        let place = self.place(id)?;
        let known = id.and_then(|id| self.quantizations.get(id.index())).and_then(Option::as_ref);
        let said = match &self.layer.arithmetic {
            Arithmetic::Elementwise { output, .. } | Arithmetic::Matrix { output, .. } => Some(output),
            _ => None,
        };
        Ok((place, said.or(known).filter(|_| place.dtype.is_integer())))
    }

    fn compute(
        &self,
        op: &Op,
        inputs: &[Value],
        place: &TensorPlace,
        quantization: Option<&Quantization>,
    ) -> Result<Output, Fault> {
        let first = inputs.first().ok_or(Fault::Arithmetic("an operand"))?;
        let clamp = match &self.layer.arithmetic {
            Arithmetic::Elementwise { clamp, .. } => *clamp,
            _ => [i32::MIN, i32::MAX],
        };
        let quantized = inputs.iter().all(|value| value.quantization.is_some());
        if let (true, Some(output)) = (quantized, quantization)
            && let Some(values) = quantized_op(op, inputs, &place.shape, output, clamp)?
        {
            return Ok(Output::Integers(values));
        }
        let shape = place.shape.as_slice();
        Ok(match op {
            Op::Reshape => Output::Bytes(first.bytes.clone()),
            Op::Transpose { perm } => Output::Bytes(moves::transpose(first, perm)?),
            Op::Pad { before, after, value } => {
                let filling = match quantization {
                    Some(output) => {
                        let range =
                            place.dtype.int_range().ok_or(Fault::Type { what: "padding", dtype: place.dtype })?;
                        let limits = [range.0, range.1].map(|limit| i32::try_from(limit).unwrap_or(i32::MAX));
                        i64::from(table::quantize(*value, output, limits)).to_le_bytes()[..first.size()].to_vec()
                    }
                    None if place.dtype == DType::Fp32 => value.to_le_bytes().to_vec(),
                    None if *value == 0.0 => vec![0; first.size()],
                    None => return Err(Fault::Type { what: "padding", dtype: place.dtype }),
                };
                Output::Bytes(moves::pad(first, before, after, &filling)?)
            }
            Op::Concat { axis } if inputs.iter().all(|input| input.dtype == place.dtype) => {
                Output::Bytes(moves::concat(inputs, *axis)?)
            }
            Op::Conv { .. } | Op::MatMul { .. } if first.quantization.is_some() && quantization.is_some() => {
                self.quantized_matrix(Some(op), inputs, place)?
            }
            Op::Conv { window, groups, activation } => {
                let operands = self.float_constants(inputs)?;
                Output::Reals(activated(matrix::conv(first, &operands, window, *groups, shape)?, *activation))
            }
            Op::MatMul { transposed, activation } => {
                let operands = self.float_constants(inputs)?;
                Output::Reals(activated(matrix::matmul(first, &operands, *transposed, shape)?, *activation))
            }
            _ => Output::Reals(real::compute(op, inputs, shape)?),
        })
    }

    /// Weights and bias of a float operator: the layer's constants, or its second and third operand.
    fn float_constants(&self, inputs: &[Value]) -> Result<matrix::Operands, Fault> {
        if let Some(constants) = self.constants {
            return Ok(matrix::Operands {
                shape: constants.weights.shape().to_vec(),
                weights: constants.weights.to_f32(),
                bias: constants.bias.as_ref().map(Tensor::to_f32),
            });
        }
        let weights = inputs.get(1).ok_or(Fault::Arithmetic("weights"))?;
        Ok(matrix::Operands {
            shape: weights.shape.to_vec(),
            weights: weights.reals()?,
            bias: inputs.get(2).map(Value::reals).transpose()?,
        })
    }
}

/// Operators that ONNX Runtime defines on quantized values; `None` for others.
fn quantized_op(
    op: &Op,
    inputs: &[Value],
    shape: &[usize],
    output: &Quantization,
    clamp: [i32; 2],
) -> Result<Option<Vec<i32>>, Fault> {
    let first = inputs.first().ok_or(Fault::Arithmetic("an operand"))?;
    let Some(quantization) = first.quantization else { return Ok(None) };
    let pair = |q: &Quantization| (table::scale(q), table::zero(q));
    Ok(match op {
        Op::Add { .. } | Op::Mul => {
            let second = inputs.get(1).ok_or(Fault::Arithmetic("a second operand"))?;
            let Some(other) = second.quantization else { return Ok(None) };
            let a = real::broadcast(&first.integers()?, first.shape, shape)?;
            let b = real::broadcast(&second.integers()?, second.shape, shape)?;
            let (qa, qb, qc) = (pair(quantization), pair(other), pair(output));
            let mut out = vec![0; a.len()];
            if matches!(op, Op::Mul) {
                let products = a.iter().zip(&b).map(|(&x, &y)| vector::multiply(x, y, qa, qb, qc, clamp));
                out = products.collect();
            } else {
                let coefficients = AddCoefficients::new(qa, qb, qc);
                crate::kernels::elementwise::add(&a, &b, coefficients, clamp[0], clamp[1], &mut out);
            }
            Some(out)
        }
        op if op.is_function() => {
            let entry = |q: i32| table::entry(op, q, quantization, output, clamp);
            Some(first.integers()?.into_iter().map(entry).collect())
        }
        Op::Softmax { axis } => {
            let values = first.integers()?;
            let mut out = vec![0; values.len()];
            real::for_each_line(first.shape, *axis, |line| {
                let row: Vec<i32> = line.iter().map(|&index| values[index]).collect();
                let mut result = vec![0; row.len()];
                table::softmax(&row, quantization, output, clamp, &mut result);
                line.iter().zip(result).for_each(|(&index, value)| out[index] = value);
            })?;
            Some(out)
        }
        Op::Concat { axis } => {
            let mut parts = Vec::new();
            for value in inputs {
                let Some(own) = value.quantization else { return Ok(None) };
                let values = value.integers()?;
                let bytes = values.iter().flat_map(|&q| table::entry(op, q, own, output, clamp).to_le_bytes());
                let bytes = bytes.collect();
                parts.push(Value { shape: value.shape, dtype: DType::Int32, quantization: None, bytes });
            }
            let bytes = moves::concat(&parts, *axis)?;
            let joined = Value { shape, dtype: DType::Int32, quantization: None, bytes };
            Some(joined.integers()?)
        }
        Op::MaxPool { window } => Some(real::pool(&first.integers()?, (first.shape, shape), window, |taps| {
            taps.iter().copied().max().unwrap_or(clamp[0]).clamp(clamp[0], clamp[1])
        })?),
        Op::AvgPool { window, count_include_pad } => {
            let whole = window.kernel[0].saturating_mul(window.kernel[1]);
            Some(real::pool(&first.integers()?, (first.shape, shape), window, |taps| {
                let sum = taps.iter().fold(0.0, |sum, &q| sum + table::dequantize(q, quantization));
                let count = if *count_include_pad { whole } else { taps.len() };
                table::quantize_mean(sum / count as f32, output, clamp)
            })?)
        }
        Op::GlobalAvgPool => {
            let [_, _, rows, cols] = real::nchw(first.shape)?;
            let window = Window { kernel: [rows, cols], ..Window::UNIT };
            let mean = |taps: &[i32]| integer_mean(taps, quantization, output, clamp);
            Some(real::pool(&first.integers()?, (first.shape, &real::nchw(shape)?), &window, mean)?)
        }
        Op::ReduceMean { axes, .. } => {
            let values = first.integers()?;
            let groups = real::groups(first.shape, axes)?;
            Some(
                groups
                    .iter()
                    .map(|group| {
                        let taps: Vec<i32> = group.iter().map(|&index| values[index]).collect();
                        integer_mean(&taps, quantization, output, clamp)
                    })
                    .collect(),
            )
        }
        _ => None,
    })
}

/// `clip(rne(f32(S) * f32(sx / f32(sy * n))) + zy)` with `S` the sum of the values less their zero point.
fn integer_mean(values: &[i32], input: &Quantization, output: &Quantization, clamp: [i32; 2]) -> i32 {
    let zero = i64::from(table::zero(input));
    let sum: i64 = values.iter().map(|&value| i64::from(value) - zero).sum();
    let multiplier = table::scale(input) / (table::scale(output) * values.len() as f32);
    table::round_and_clip(sum as f32 * multiplier, table::zero(output), clamp)
}

/// The fused activation of a float operator.
fn activated(mut values: Vec<f32>, activation: Activation) -> Vec<f32> {
    match activation {
        Activation::None => {}
        Activation::Relu => values.iter_mut().for_each(|value| *value = value.max(0.0)),
        Activation::Clip { low, high } => values.iter_mut().for_each(|value| *value = value.max(low).min(high)),
    }
    values
}

/// A result as bytes of the output's type.
fn encode(
    output: Output,
    place: &TensorPlace,
    quantization: Option<&Quantization>,
    clamp: [i32; 2],
) -> Result<Vec<u8>, Fault> {
    let integers = match output {
        Output::Bytes(bytes) => return Ok(bytes),
        Output::Integers(values) => values,
        Output::Reals(values) => match quantization {
            None if place.dtype == DType::Fp32 => {
                return Ok(values.iter().flat_map(|value| value.to_le_bytes()).collect());
            }
            None => return Err(Fault::Arithmetic("the quantization of the result")),
            Some(quantization) => {
                let parameters = Channels::new(quantization, &place.shape)?;
                let quantized = values.iter().enumerate().map(|(index, &value)| {
                    let (scale, zero) = parameters.of(index);
                    table::round_and_clip(value / scale, zero, clamp)
                });
                quantized.collect()
            }
        },
    };
    let size = place::element_bytes(place.dtype);
    Ok(integers.iter().flat_map(|&value| i64::from(value).to_le_bytes().into_iter().take(size)).collect())
}
