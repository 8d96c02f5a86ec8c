//! How the CPU holds values: 8-bit elements of four dimensions as NHWC, of other ranks row-major; all else as a tensor.

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
    /// 8-bit elements.
    Bytes(Vec<u8>),
    /// In logical order.
    Whole(Tensor),
}

/// Which 8-bit type a value is of.
pub const fn narrow(dtype: DType) -> Option<Narrow> {
    match dtype {
        DType::UInt8 => Some(Narrow::U8),
        DType::Int8 | DType::Int4 => Some(Narrow::I8),
        _ => None,
    }
}

impl Held {
    /// Takes a tensor in.
    pub fn of(value: &Value, tensor: &Tensor) -> Self {
        let logical: Vec<u8> = match tensor {
            Tensor::U8(array) if narrow(value.dtype) == Some(Narrow::U8) => array.iter().copied().collect(),
            Tensor::I8(array) if narrow(value.dtype) == Some(Narrow::I8) => {
                array.iter().map(|element| element.cast_unsigned()).collect()
            }
            other => return Self::Whole(other.clone()),
        };
        Self::Bytes(to_inner(&value.shape, logical))
    }

    /// The tensor in logical order.
    pub fn tensor(&self, value: &Value) -> Option<Tensor> {
        let bytes = match self {
            Self::Nothing => return None,
            Self::Whole(tensor) => return Some(tensor.clone()),
            Self::Bytes(bytes) => to_logical(&value.shape, bytes.clone()),
        };
        let shape = value.shape.as_slice();
        if narrow(value.dtype)? == Narrow::U8 {
            return ndarray::ArrayD::from_shape_vec(shape, bytes).ok().map(Tensor::U8);
        }
        let signed = bytes.into_iter().map(u8::cast_signed).collect();
        ndarray::ArrayD::from_shape_vec(shape, signed).ok().map(Tensor::I8)
    }

    /// The bytes, where it is held so.
    pub fn bytes(&self) -> Option<&[u8]> {
        if let Self::Bytes(bytes) = self { Some(bytes) } else { None }
    }
}

/// `[N, C, H, W]` to `[N, H, W, C]`; other ranks stay.
pub fn to_inner(shape: &[usize], logical: Vec<u8>) -> Vec<u8> {
    match *shape {
        [_, c, h, w] if c > 1 && h * w > 1 => exchanged(&logical, c, h * w),
        _ => logical,
    }
}

/// The inverse of [`to_inner`].
pub fn to_logical(shape: &[usize], inner: Vec<u8>) -> Vec<u8> {
    match *shape {
        [_, c, h, w] if c > 1 && h * w > 1 => exchanged(&inner, h * w, c),
        _ => inner,
    }
}

/// `[N, rows, columns]` to `[N, columns, rows]`.
fn exchanged(bytes: &[u8], rows: usize, columns: usize) -> Vec<u8> {
    let mut out = Vec::with_capacity(bytes.len());
    for block in bytes.chunks_exact(rows * columns) {
        for column in 0..columns {
            out.extend(block.iter().skip(column).step_by(columns));
        }
    }
    out
}
