//! How the CPU holds values: quantized elements of at most 16 bits as bytes, of four dimensions as NHWC, of other ranks
//! row-major; all else as a tensor.

use ndarray::ArrayD;

use super::movement::Move;
use crate::{
    ir::Value,
    kernels::widen::Narrow,
    tensor::{DType, Tensor},
};

/// A value of the network.
#[derive(Clone, Debug)]
pub enum Held {
    /// Nothing yet.
    Nothing,
    /// Quantized elements, little endian.
    Bytes(Vec<u8>),
    /// In logical order.
    Whole(Tensor),
}

/// How elements of a type lie in memory, where they are of at most 16 bits.
pub const fn narrow(dtype: DType) -> Option<Narrow> {
    match dtype {
        DType::UInt8 => Some(Narrow::U8),
        DType::Int8 | DType::Int4 => Some(Narrow::I8),
        DType::UInt16 => Some(Narrow::U16),
        DType::Int16 => Some(Narrow::I16),
        _ => None,
    }
}

/// Step of each logical dimension of a dense row-major array, in elements.
pub fn logical_steps(shape: &[usize]) -> Vec<usize> {
    let mut steps = vec![1; shape.len()];
    for axis in (1..shape.len()).rev() {
        steps[axis - 1] = steps[axis] * shape[axis];
    }
    steps
}

/// Step of each logical dimension as the CPU holds it, in elements.
pub fn held_steps(shape: &[usize]) -> Vec<usize> {
    match *shape {
        [_, c, h, w] => vec![c * h * w, 1, w * c, c],
        _ => logical_steps(shape),
    }
}

/// The logical dimensions of a shape in the order in which the CPU holds them, outermost first.
pub fn held_order(rank: usize) -> Vec<usize> {
    if rank == 4 { vec![0, 2, 3, 1] } else { (0..rank).collect() }
}

impl Held {
    /// Takes a tensor in.
    pub fn of(value: &Value, tensor: &Tensor) -> Self {
        let logical: Option<(Narrow, Vec<u8>)> = match tensor {
            Tensor::U8(array) => Some((Narrow::U8, array.iter().copied().collect())),
            Tensor::I8(array) => Some((Narrow::I8, array.iter().map(|element| element.cast_unsigned()).collect())),
            Tensor::U16(array) => Some((Narrow::U16, array.iter().flat_map(|element| element.to_le_bytes()).collect())),
            Tensor::I16(array) => Some((Narrow::I16, array.iter().flat_map(|element| element.to_le_bytes()).collect())),
            _ => None,
        };
        let held = logical.filter(|(kind, _)| narrow(value.dtype) == Some(*kind)).and_then(|(kind, bytes)| {
            let mut held = vec![0; bytes.len()];
            Move::to_held(&value.shape, kind)?.run(&bytes, &mut held).map(|()| Self::Bytes(held))
        });
        held.unwrap_or_else(|| Self::Whole(tensor.clone()))
    }

    /// The tensor in logical order.
    pub fn tensor(&self, value: &Value) -> Option<Tensor> {
        let held = match self {
            Self::Nothing => return None,
            Self::Whole(tensor) => return Some(tensor.clone()),
            Self::Bytes(bytes) => bytes,
        };
        let kind = narrow(value.dtype)?;
        let mut bytes = vec![0; held.len()];
        Move::to_logical(&value.shape, kind)?.run(held, &mut bytes)?;
        let shape = value.shape.as_slice();
        let pairs = bytes.as_chunks::<2>().0.iter().copied();
        let tensor = match kind {
            Narrow::U16 => Tensor::U16(ArrayD::from_shape_vec(shape, pairs.map(u16::from_le_bytes).collect()).ok()?),
            Narrow::I16 => Tensor::I16(ArrayD::from_shape_vec(shape, pairs.map(i16::from_le_bytes).collect()).ok()?),
            Narrow::I8 => {
                let signed = bytes.into_iter().map(u8::cast_signed).collect();
                Tensor::I8(ArrayD::from_shape_vec(shape, signed).ok()?)
            }
            Narrow::U8 => Tensor::U8(ArrayD::from_shape_vec(shape, bytes).ok()?),
        };
        Some(tensor)
    }

    /// The bytes, where it is held so.
    pub fn bytes(&self) -> Option<&[u8]> {
        if let Self::Bytes(bytes) = self { Some(bytes) } else { None }
    }
}
