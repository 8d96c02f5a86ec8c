//! Gathers and scatters: elements of a walk to plain slices of numbers and back.

use super::{
    error::Fault,
    store::{Bytes, Store},
    unrolled::{Point, UnrolledRegion},
};
use crate::{
    kernels::widen::{Narrow, widen},
    program::Space,
    tensor::DType,
};

/// Elements of a byte stretch as integers; `out` is as long as the stretch has elements.
pub(super) fn decode(dtype: DType, bytes: &[u8], out: &mut [i32]) -> Result<(), Fault> {
    match dtype {
        DType::UInt8 | DType::Bool => {
            for (slot, &byte) in out.iter_mut().zip(bytes) {
                *slot = i32::from(byte);
            }
        }
        DType::Int8 | DType::Int4 => {
            for (slot, &byte) in out.iter_mut().zip(bytes) {
                *slot = i32::from(i8::from_le_bytes([byte]));
            }
        }
        DType::Int16 => {
            for (slot, pair) in out.iter_mut().zip(bytes.chunks_exact(2)) {
                *slot = i32::from(i16::from_le_bytes([pair[0], pair[1]]));
            }
        }
        DType::UInt16 => {
            for (slot, pair) in out.iter_mut().zip(bytes.chunks_exact(2)) {
                *slot = i32::from(u16::from_le_bytes([pair[0], pair[1]]));
            }
        }
        DType::Int32 => {
            for (slot, word) in out.iter_mut().zip(bytes.chunks_exact(4)) {
                *slot = i32::from_le_bytes([word[0], word[1], word[2], word[3]]);
            }
        }
        _ => return Err(Fault::Type { what: "integer operand", dtype }),
    }
    Ok(())
}

/// Integers as bytes of a type; the values are in its range (the low bytes are stored).
fn encode(dtype: DType, values: &[i32], out: &mut [u8]) -> Result<(), Fault> {
    match dtype {
        DType::UInt8 | DType::Int8 | DType::Int4 | DType::Bool => {
            for (slot, value) in out.iter_mut().zip(values) {
                *slot = value.to_le_bytes()[0];
            }
        }
        DType::Int16 | DType::UInt16 => {
            for (slot, value) in out.chunks_exact_mut(2).zip(values) {
                slot.copy_from_slice(&value.to_le_bytes()[..2]);
            }
        }
        DType::Int32 => {
            for (slot, value) in out.chunks_exact_mut(4).zip(values) {
                slot.copy_from_slice(&value.to_le_bytes());
            }
        }
        _ => return Err(Fault::Type { what: "integer result", dtype }),
    }
    Ok(())
}

/// The region's element size must be the type's.
pub(super) fn same_size(what: &'static str, walk: &UnrolledRegion, dtype: DType) -> Result<(), Fault> {
    equal(what, dtype.bytes(), walk.element as u64)
}

/// Two numbers that the program must make equal.
pub(super) fn equal(what: &'static str, expected: u64, found: u64) -> Result<(), Fault> {
    if expected == found { Ok(()) } else { Err(Fault::Shape { what, expected, found }) }
}

/// The bytes of a walk without padding, in its order.
pub(super) fn gather_bytes(bytes: &Bytes, walk: &UnrolledRegion, out: &mut Vec<u8>) -> Result<(), Fault> {
    out.clear();
    walk.stretches(|_, length, address| {
        let address = address.ok_or(Fault::Region("padding in a transfer"))?;
        out.extend_from_slice(bytes.read(address, length * walk.element)?);
        Ok(())
    })
}

/// Writes bytes along a walk without padding.
pub(super) fn scatter_bytes(bytes: &mut Bytes, walk: &UnrolledRegion, data: &[u8]) -> Result<(), Fault> {
    walk.stretches(|first, length, address| {
        let address = address.ok_or(Fault::Region("padding in a target"))?;
        let source = &data[first * walk.element..][..length * walk.element];
        bytes.write(address, source.len())?.copy_from_slice(source);
        Ok(())
    })
}

/// Elements as integers, `padding` where there is none.
pub(super) fn gather(
    bytes: &Bytes,
    walk: &UnrolledRegion,
    dtype: DType,
    padding: i32,
    out: &mut Vec<i32>,
) -> Result<(), Fault> {
    same_size("element size of an operand", walk, dtype)?;
    out.clear();
    out.resize(walk.elements(), 0);
    walk.stretches(|first, length, address| {
        let target = &mut out[first..first + length];
        match address {
            Some(address) => decode(dtype, bytes.read(address, length * walk.element)?, target)?,
            None => target.fill(padding),
        }
        Ok(())
    })
}

/// Writes integers along a walk without padding; as many values as the walk has elements.
pub(super) fn scatter(bytes: &mut Bytes, walk: &UnrolledRegion, dtype: DType, values: &[i32]) -> Result<(), Fault> {
    same_size("element size of a result", walk, dtype)?;
    equal("elements of a result", values.len() as u64, walk.elements() as u64)?;
    walk.stretches(|first, length, address| {
        let address = address.ok_or(Fault::Region("padding in a result"))?;
        encode(dtype, &values[first..first + length], bytes.write(address, length * walk.element)?)
    })
}

/// The 16-bit operands of a matrix, less their zero point, rows of `depth` (at least the walk's columns) apart;
/// padding is zero.
pub(super) fn gather_operands(
    bytes: &Bytes,
    walk: &UnrolledRegion,
    kind: Narrow,
    zero: i16,
    depth: usize,
    out: &mut Vec<i16>,
) -> Result<(), Fault> {
    equal("element size of a matrix operand", kind.bytes() as u64, walk.element as u64)?;
    let total = walk.rows.len().checked_mul(depth).ok_or(Fault::Region("too many elements"))?;
    // Rows are overwritten whole but for the odd operand at their end, which meets a zero in the packed operand.
    out.resize(total, 0);
    let rows = walk.rows.iter().zip(out.chunks_exact_mut(depth.max(1)));
    if let (Some(flat), Some((first, last))) = (walk.flat(), walk.offsets())
        && !bytes.is_checked()
        && walk.cols > 0
    {
        // One check of the bounds for all rows.
        let length = walk.cols * kind.bytes();
        let reach = usize::try_from(last - first).map_err(|_| Fault::Region("too many elements"))?;
        let all = bytes.read(flat + first, reach + length)?;
        for (point, row) in rows {
            let start = usize::try_from(point.offset - first).map_err(|_| Fault::Region("too many elements"))?;
            widen(kind, &all[start..start + length], zero, &mut row[..walk.cols]);
        }
        return Ok(());
    }
    for (&point, row) in rows {
        gather_operand_row(bytes, walk, point, kind, zero, row)?;
    }
    Ok(())
}

/// One row of [`gather_operands`].
#[inline]
pub(super) fn gather_operand_row(
    bytes: &Bytes,
    walk: &UnrolledRegion,
    point: Point,
    kind: Narrow,
    zero: i16,
    row: &mut [i16],
) -> Result<(), Fault> {
    let size = kind.bytes();
    walk.row(point, |first, length, address| {
        let target = &mut row[first..first + length];
        match address {
            Some(address) => widen(kind, bytes.read(address, length * size)?, zero, target),
            None => target.fill(0),
        }
        Ok(())
    })
}

/// Carries the zero points that lie beside weights along with a transfer of the weights; nothing where no layer has
/// several.
pub(super) fn carry_zeros(
    store: &mut Store,
    from: (Space, &UnrolledRegion),
    to: (Space, &UnrolledRegion),
) -> Result<(), Fault> {
    if store.bytes(from.0)?.zeros(0, 0)?.is_none() {
        return Ok(());
    }
    let mut zeros = Vec::new();
    let source = store.bytes(from.0)?;
    from.1.stretches(|_, length, address| {
        let found = source.zeros(address.unwrap_or_default(), length * from.1.element)?;
        zeros.extend_from_slice(found.unwrap_or_default());
        Ok::<_, Fault>(())
    })?;
    let target = store.bytes_mut(to.0)?;
    to.1.stretches(|first, length, address| {
        if let Some(slots) = target.zeros_mut(address.unwrap_or_default(), length * to.1.element)? {
            let start = first * to.1.element;
            slots.copy_from_slice(&zeros[start..start + slots.len()]);
        }
        Ok(())
    })
}
