//! Whole tensors between their logical form and where they lie.

use ndarray::{ArrayD, IxDyn};

use super::{
    access::equal,
    error::Fault,
    store::{Bytes, Store},
};
use crate::{
    program::TensorPlace,
    tensor::{DType, Tensor, checked_elements},
};

/// Elements of one tensor at most.
const LIMIT: u64 = 1 << 32;

/// Calls `visit(address)` for each element in row-major logical order.
fn for_each_address(place: &TensorPlace, mut visit: impl FnMut(i64) -> Result<(), Fault>) -> Result<(), Fault> {
    equal("strides of a tensor", place.shape.len() as u64, place.strides.len() as u64)?;
    if elements(place)? == 0 {
        return Ok(());
    }
    let far = || Fault::Region("strides of a tensor");
    let strides = place.strides.iter().map(|&stride| i64::try_from(stride)).collect::<Result<Vec<_>, _>>();
    let strides = strides.map_err(|_| far())?;
    let mut index = vec![0_usize; place.shape.len()];
    let mut address = i64::try_from(place.base).map_err(|_| far())?;
    'elements: loop {
        visit(address)?;
        for dimension in (0..index.len()).rev() {
            index[dimension] += 1;
            address = address.checked_add(strides[dimension]).ok_or_else(far)?;
            if index[dimension] < place.shape[dimension] {
                continue 'elements;
            }
            let count = i64::try_from(index[dimension]).map_err(|_| far())?;
            address =
                strides[dimension].checked_mul(count).and_then(|back| address.checked_sub(back)).ok_or_else(far)?;
            index[dimension] = 0;
        }
        return Ok(());
    }
}

/// Number of elements, bounded.
fn elements(place: &TensorPlace) -> Result<usize, Fault> {
    checked_elements(&place.shape, LIMIT)
        .and_then(|count| usize::try_from(count).ok())
        .ok_or(Fault::Region("too many elements in a tensor"))
}

/// Bytes of one element.
fn element_bytes(dtype: DType) -> usize {
    usize::try_from(dtype.bytes()).unwrap_or(8)
}

/// The tensor's bytes in row-major logical order.
fn gather(store: &Store, place: &TensorPlace) -> Result<Vec<u8>, Fault> {
    let size = element_bytes(place.dtype);
    let bytes = store.bytes(place.space)?;
    let mut out = Vec::new();
    for_each_address(place, |address| {
        out.extend_from_slice(bytes.read(address, size)?);
        Ok(())
    })?;
    Ok(out)
}

/// Writes bytes in row-major logical order to where the tensor lies; `constant` for what a reset keeps.
fn scatter(store: &mut Store, place: &TensorPlace, data: &[u8], constant: bool) -> Result<(), Fault> {
    let size = element_bytes(place.dtype);
    equal("bytes of a tensor", (elements(place)? * size) as u64, data.len() as u64)?;
    let bytes: &mut Bytes = store.bytes_mut(place.space)?;
    let mut chunks = data.chunks_exact(size);
    for_each_address(place, |address| {
        bytes.write(address, size)?.copy_from_slice(chunks.next().unwrap_or_default());
        if constant { bytes.keep(address, size) } else { Ok(()) }
    })
}

/// The tensor in logical form.
pub(super) fn read(store: &Store, place: &TensorPlace) -> Result<Tensor, Fault> {
    from_bytes(place.dtype, &place.shape, &gather(store, place)?)
}

/// Writes a tensor of the place's shape and type to where it lies; `constant` for what a reset keeps.
pub(super) fn write(store: &mut Store, place: &TensorPlace, tensor: &Tensor, constant: bool) -> Result<(), Fault> {
    let stored = if place.dtype == DType::Int4 { DType::Int8 } else { place.dtype };
    if tensor.dtype() != stored {
        return Err(Fault::Type { what: "a tensor's new value", dtype: tensor.dtype() });
    }
    if tensor.shape() != place.shape {
        return Err(Fault::Region("a tensor's new value has another shape"));
    }
    scatter(store, place, &to_bytes(tensor), constant)
}

/// Address of one element; `None` outside the shape.
pub(super) fn address(place: &TensorPlace, index: &[usize]) -> Option<i64> {
    if index.len() != place.shape.len() || index.iter().zip(&place.shape).any(|(i, dim)| i >= dim) {
        return None;
    }
    let mut steps = index.iter().zip(&place.strides);
    let address = steps.try_fold(place.base, |sum, (&i, &stride)| sum.checked_add(stride.checked_mul(i as u64)?))?;
    i64::try_from(address).ok()
}

/// A tensor's elements as little-endian bytes, row-major.
fn to_bytes(tensor: &Tensor) -> Vec<u8> {
    macro_rules! each {
        ($array:expr) => {
            $array.iter().flat_map(|value| value.to_le_bytes()).collect()
        };
    }
    match tensor {
        Tensor::F32(array) => each!(array),
        Tensor::F64(array) => each!(array),
        Tensor::I8(array) => each!(array),
        Tensor::U8(array) => array.iter().copied().collect(),
        Tensor::I16(array) => each!(array),
        Tensor::U16(array) => each!(array),
        Tensor::I32(array) => each!(array),
        Tensor::U32(array) => each!(array),
        Tensor::I64(array) => each!(array),
        Tensor::Bool(array) => array.iter().map(|&value| u8::from(value)).collect(),
    }
}

/// A tensor from little-endian bytes in row-major order.
fn from_bytes(dtype: DType, shape: &[usize], bytes: &[u8]) -> Result<Tensor, Fault> {
    macro_rules! each {
        ($variant:ident, $type:ty) => {{
            let values = bytes.chunks_exact(size_of::<$type>()).filter_map(|raw| raw.try_into().ok());
            ArrayD::from_shape_vec(IxDyn(shape), values.map(<$type>::from_le_bytes).collect()).map(Tensor::$variant)
        }};
    }
    match dtype {
        DType::Fp32 => each!(F32, f32),
        DType::Fp64 => each!(F64, f64),
        DType::Int8 | DType::Int4 => each!(I8, i8),
        DType::UInt8 => each!(U8, u8),
        DType::Int16 => each!(I16, i16),
        DType::UInt16 => each!(U16, u16),
        DType::Int32 => each!(I32, i32),
        DType::UInt32 => each!(U32, u32),
        DType::Int64 => each!(I64, i64),
        DType::Bool => {
            ArrayD::from_shape_vec(IxDyn(shape), bytes.iter().map(|&byte| byte != 0).collect()).map(Tensor::Bool)
        }
        DType::Fp8 | DType::Bf16 | DType::Fp16 => return Err(Fault::Type { what: "a tensor", dtype }),
    }
    .map_err(|_| Fault::Region("elements of a tensor"))
}
