//! A layer's arithmetic, made ready for its instructions: operand types with zero points, limits, widths of the datapath.

use super::error::Fault;
use crate::{
    config::{Accelerator, Accumulate, Dataflow},
    ir::NodeId,
    kernels::widen::Narrow,
    program::{Arithmetic, Header, Layer, TensorId},
    tensor::{AccumulationOrder, DType, Overflow, Quantization, Requantizer},
};

/// One operand of a matrix product.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Operand {
    /// Element type.
    pub dtype: DType,
    /// Subtracted from every element, unless `varied`.
    pub zero: i32,
    /// Whether channels have zero points of their own, which lie beside the bytes.
    pub varied: bool,
    /// As 16-bit operands, where the differences fit.
    pub narrow: Option<Narrow>,
    /// Largest magnitude of an element less its zero point.
    pub magnitude: u64,
}

impl Operand {
    /// Of a type and quantization; `what` for messages.
    pub fn new(what: &'static str, dtype: DType, quantization: &Quantization) -> Result<Self, Fault> {
        let (low, high) = match dtype {
            DType::Int4 | DType::UInt8 | DType::Int8 | DType::Int16 | DType::UInt16 => {
                dtype.int_range().ok_or(Fault::Type { what, dtype })?
            }
            _ => return Err(Fault::Type { what, dtype }),
        };
        let first = *quantization.zero_point.first().ok_or(Fault::Arithmetic("a zero point"))?;
        let varied = quantization.zero_point.iter().any(|&zero| zero != first);
        if quantization.zero_point.iter().any(|&zero| i64::from(zero) < low || i64::from(zero) > high) {
            return Err(Fault::Arithmetic("a zero point in its type's range"));
        }
        let narrow = match dtype {
            DType::UInt8 => Some(Narrow::U8),
            DType::Int8 | DType::Int4 => Some(Narrow::I8),
            DType::Int16 if first == 0 && !varied => Some(Narrow::I16),
            _ => None,
        };
        let zero = i64::from(first);
        let magnitude = if varied { high - low } else { (high - zero).max(zero - low) };
        Ok(Self { dtype, zero: first, varied, narrow, magnitude: magnitude.unsigned_abs() })
    }
}

/// Widths of the machine's adders, and what becomes of a sum that leaves them or is done.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Datapath {
    /// Width of the partial sums in a column.
    pub column_bits: u8,
    /// Width of an accumulator.
    pub accumulator_bits: u8,
    /// What both do past their width.
    pub overflow: Overflow,
    /// Whether a tile that adds to sums takes them up into its columns, rather than adding its own to them.
    pub injects: bool,
    /// How accumulators become outputs.
    pub requantizer: Requantizer,
    /// Bytes of a parameter record.
    pub record: usize,
}

impl Datapath {
    /// Of a machine.
    pub fn new(accelerator: &Accelerator) -> Self {
        Self {
            column_bits: accelerator.config.array.column_bits.clamp(1, 64),
            accumulator_bits: accelerator.config.accumulators.bits.clamp(1, 64),
            overflow: accelerator.config.array.overflow,
            injects: accelerator.config.array.accumulate != Accumulate::AtOutput,
            requantizer: accelerator.config.vector.requantizer,
            record: usize::try_from(accelerator.parameter_bytes()).unwrap_or(12),
        }
    }
}

/// Types, zero points and limits of a convolution or matrix product.
#[derive(Clone, Debug)]
pub(super) struct Matrix {
    /// Activations.
    pub input: Operand,
    /// Weights.
    pub weight: Operand,
    /// Type of the output.
    pub output_type: DType,
    /// Zero point of the output.
    pub output_zero: i32,
    /// Smallest and largest output.
    pub clamp: [i32; 2],
    /// The order that the mapping promised.
    pub order: AccumulationOrder,
}

/// What the instructions of a layer need to know of it.
#[derive(Clone, Debug)]
pub(super) struct LayerNumerics {
    /// Its name.
    pub name: String,
    /// Its node in the quantized graph.
    pub node: NodeId,
    /// The array's dataflow.
    pub dataflow: Option<Dataflow>,
    /// Of a matrix product.
    pub matrix: Option<Matrix>,
    /// As the header has it.
    pub arithmetic: Arithmetic,
    /// Activations that it reads.
    pub inputs: Vec<TensorId>,
    /// Activations that it writes.
    pub outputs: Vec<TensorId>,
}

impl LayerNumerics {
    /// Of a layer whose weights (if any) are of `weight_type`.
    pub fn new(
        layer: &Layer,
        header: &Header,
        accelerator: &Accelerator,
        weight_type: Option<DType>,
    ) -> Result<Self, Fault> {
        let matrix = match &layer.arithmetic {
            Arithmetic::Matrix { input, weight, output, output_type, clamp, order } => {
                let input_type = layer
                    .inputs
                    .first()
                    .and_then(|id| header.tensors.get(id.index()))
                    .map_or(accelerator.config.array.input_type, |place| place.dtype);
                let weight_type = weight_type.unwrap_or(accelerator.config.array.weight_type);
                Some(Matrix {
                    input: Operand::new("the input", input_type, input)?,
                    weight: Operand::new("the weights", weight_type, weight)?,
                    output_type: *output_type,
                    output_zero: *output.zero_point.first().ok_or(Fault::Arithmetic("a zero point"))?,
                    clamp: checked_clamp(*clamp, *output_type)?,
                    order: order.clone(),
                })
            }
            Arithmetic::Elementwise { output_type, clamp, .. } => {
                if output_type.is_integer() && output_type.bits() <= 16 {
                    checked_clamp(*clamp, *output_type)?;
                }
                None
            }
            _ => None,
        };
        Ok(Self {
            name: layer.name.clone(),
            node: layer.node,
            dataflow: layer.dataflow,
            matrix,
            arithmetic: layer.arithmetic.clone(),
            inputs: layer.inputs.clone(),
            outputs: layer.outputs.clone(),
        })
    }

    /// Of a matrix product; a fault for other layers.
    pub fn matrix(&self) -> Result<&Matrix, Fault> {
        self.matrix.as_ref().ok_or(Fault::Arithmetic("a matrix product"))
    }
}

/// A clamp must be an interval of the type's range: kernels store low bytes.
fn checked_clamp(clamp: [i32; 2], dtype: DType) -> Result<[i32; 2], Fault> {
    let (low, high) = dtype.int_range().ok_or(Fault::Type { what: "an output", dtype })?;
    if i64::from(clamp[0]) < low || i64::from(clamp[1]) > high || clamp[0] > clamp[1] {
        return Err(Fault::Arithmetic("a clamp inside the output type's range"));
    }
    Ok(clamp)
}
