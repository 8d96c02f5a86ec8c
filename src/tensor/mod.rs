//! Values: element types, shapes, dense tensors, quantization parameters, integer arithmetic policies, and the
//! file formats of plain arrays. Knows nothing of graphs or machines.

pub mod arithmetic;
pub mod npz;
pub mod quant;

use ndarray::{ArrayD, Axis, IxDyn};
use serde::{Deserialize, Serialize};

pub use arithmetic::{AccumulationOrder, Overflow, Requantizer, Rounding};
pub use quant::Quantization;

/// Element type of a tensor. The types of `Tensor` are a subset; the others exist for bytes and timing.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[allow(missing_docs)]
pub enum DType {
    Bool,
    Int4,
    Int8,
    UInt8,
    Int16,
    UInt16,
    Int32,
    UInt32,
    Int64,
    Fp8,
    Bf16,
    Fp16,
    Fp32,
    Fp64,
}

impl DType {
    /// Size of one element in bits.
    pub const fn bits(self) -> u32 {
        match self {
            Self::Int4 => 4,
            Self::Bool | Self::Int8 | Self::UInt8 | Self::Fp8 => 8,
            Self::Int16 | Self::UInt16 | Self::Bf16 | Self::Fp16 => 16,
            Self::Int32 | Self::UInt32 | Self::Fp32 => 32,
            Self::Int64 | Self::Fp64 => 64,
        }
    }

    /// Size of one element in bytes where it is stored for execution; int4 takes a whole byte there.
    pub const fn bytes(self) -> u64 {
        self.bits().div_ceil(8) as u64
    }

    /// Bytes of so many elements on the machine, which packs them: two of int4 in a byte.
    pub const fn packed_bytes(self, elements: u64) -> u64 {
        bytes_of_bits(elements.saturating_mul(self.bits() as u64))
    }

    /// Whether the array executes it bit for bit.
    pub const fn is_integer(self) -> bool {
        !matches!(self, Self::Fp8 | Self::Bf16 | Self::Fp16 | Self::Fp32 | Self::Fp64)
    }

    /// Smallest and largest value of an integer type of at most 32 bits.
    pub const fn int_range(self) -> Option<(i64, i64)> {
        Some(match self {
            Self::Bool => (0, 1),
            Self::Int4 => (-8, 7),
            Self::Int8 => (-128, 127),
            Self::UInt8 => (0, 255),
            Self::Int16 => (-32768, 32767),
            Self::UInt16 => (0, 65535),
            Self::Int32 => (i32::MIN as i64, i32::MAX as i64),
            Self::UInt32 => (0, u32::MAX as i64),
            _ => return None,
        })
    }
}

/// A dense tensor in row-major order.
#[derive(Clone, Debug, PartialEq)]
#[allow(missing_docs)]
pub enum Tensor {
    F32(ArrayD<f32>),
    F64(ArrayD<f64>),
    I8(ArrayD<i8>),
    U8(ArrayD<u8>),
    I16(ArrayD<i16>),
    U16(ArrayD<u16>),
    I32(ArrayD<i32>),
    U32(ArrayD<u32>),
    I64(ArrayD<i64>),
    Bool(ArrayD<bool>),
}

/// Runs `$body` with `$array` bound to the typed array inside `$tensor`.
#[macro_export]
macro_rules! with_array {
    ($tensor:expr, $array:ident => $body:expr) => {
        $crate::with_array!(@each $tensor, $array => $body; F32 F64 I8 U8 I16 U16 I32 U32 I64 Bool)
    };
    (@each $tensor:expr, $array:ident => $body:expr; $($variant:ident)*) => {
        match $tensor {
            $($crate::tensor::Tensor::$variant($array) => $body,)*
        }
    };
}

/// As [`with_array`], where `$body` makes an array of the same type: wraps it as a tensor again. `$tensor` may also be
/// `all` and a slice of tensors: `$array` is then the vector of their arrays, and the result `None` where there are no
/// tensors or their types differ.
macro_rules! map_array {
    (all $tensors:expr, $arrays:ident => $body:expr) => {
        $crate::tensor::map_array!(@all $tensors, $arrays => $body; F32 F64 I8 U8 I16 U16 I32 U32 I64 Bool)
    };
    ($tensor:expr, $array:ident => $body:expr) => {
        $crate::tensor::map_array!(@each $tensor, $array => $body; F32 F64 I8 U8 I16 U16 I32 U32 I64 Bool)
    };
    (@each $tensor:expr, $array:ident => $body:expr; $($variant:ident)*) => {
        match $tensor {
            $($crate::tensor::Tensor::$variant($array) => $crate::tensor::Tensor::$variant($body),)*
        }
    };
    (@all $tensors:expr, $arrays:ident => $body:expr; $($variant:ident)*) => {
        match $tensors.first() {
            $(Some($crate::tensor::Tensor::$variant(_)) => {
                let typed = $tensors.iter().map(|tensor| match tensor {
                    $crate::tensor::Tensor::$variant(array) => Some(array),
                    _ => None,
                });
                match typed.collect::<Option<Vec<_>>>() {
                    Some($arrays) => Some($crate::tensor::Tensor::$variant($body)),
                    None => None,
                }
            })*
            None => None,
        }
    };
}

pub(crate) use map_array;

impl Tensor {
    /// Its dimensions, outermost first; `[]` for a scalar.
    pub fn shape(&self) -> &[usize] {
        with_array!(self, array => array.shape())
    }

    /// Number of elements.
    pub fn len(&self) -> usize {
        with_array!(self, array => array.len())
    }

    /// Whether it has no elements.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Its element type.
    pub const fn dtype(&self) -> DType {
        match self {
            Self::F32(_) => DType::Fp32,
            Self::F64(_) => DType::Fp64,
            Self::I8(_) => DType::Int8,
            Self::U8(_) => DType::UInt8,
            Self::I16(_) => DType::Int16,
            Self::U16(_) => DType::UInt16,
            Self::I32(_) => DType::Int32,
            Self::U32(_) => DType::UInt32,
            Self::I64(_) => DType::Int64,
            Self::Bool(_) => DType::Bool,
        }
    }

    /// A float tensor. `None` if the number of values is not the product of the shape.
    pub fn from_f32(shape: &[usize], values: Vec<f32>) -> Option<Self> {
        ArrayD::from_shape_vec(IxDyn(shape), values).ok().map(Self::F32)
    }

    /// An integer tensor of `dtype` from values that must be in its range; int4 is stored as int8. `None` if they are not, or
    /// if the number of values is not the product of the shape, or if `dtype` is not one that `Tensor` stores.
    pub fn from_integers(dtype: DType, shape: &[usize], values: &[i64]) -> Option<Self> {
        fn typed<T: TryFrom<i64>>(shape: &[usize], values: &[i64]) -> Option<ArrayD<T>> {
            let values = values.iter().map(|&value| T::try_from(value).ok()).collect::<Option<Vec<T>>>()?;
            ArrayD::from_shape_vec(IxDyn(shape), values).ok()
        }
        Some(match dtype {
            DType::Int4 if values.iter().any(|value| !(-8..=7).contains(value)) => return None,
            DType::Int4 | DType::Int8 => Self::I8(typed(shape, values)?),
            DType::UInt8 => Self::U8(typed(shape, values)?),
            DType::Int16 => Self::I16(typed(shape, values)?),
            DType::UInt16 => Self::U16(typed(shape, values)?),
            DType::Int32 => Self::I32(typed(shape, values)?),
            DType::UInt32 => Self::U32(typed(shape, values)?),
            DType::Int64 => Self::I64(typed(shape, values)?),
            _ => return None,
        })
    }

    /// All elements as 64-bit integers, in row-major order; `None` for a float tensor.
    pub fn to_integers(&self) -> Option<Vec<i64>> {
        Some(match self {
            Self::F32(_) | Self::F64(_) => return None,
            Self::I8(array) => array.iter().map(|&value| i64::from(value)).collect(),
            Self::U8(array) => array.iter().map(|&value| i64::from(value)).collect(),
            Self::I16(array) => array.iter().map(|&value| i64::from(value)).collect(),
            Self::U16(array) => array.iter().map(|&value| i64::from(value)).collect(),
            Self::I32(array) => array.iter().map(|&value| i64::from(value)).collect(),
            Self::U32(array) => array.iter().map(|&value| i64::from(value)).collect(),
            Self::I64(array) => array.iter().copied().collect(),
            Self::Bool(array) => array.iter().map(|&value| i64::from(value)).collect(),
        })
    }

    /// All elements as single-precision floats, in row-major order (integers beyond 2^24 are rounded).
    #[allow(clippy::cast_possible_truncation)]
    pub fn to_f32(&self) -> Vec<f32> {
        match self {
            Self::F32(array) => array.iter().copied().collect(),
            Self::F64(array) => array.iter().map(|&value| value as f32).collect(),
            other => other.to_integers().unwrap_or_default().iter().map(|&value| value as f32).collect(),
        }
    }

    /// The same elements under another shape of the same length; `None` if the lengths differ.
    pub fn reshaped(self, shape: &[usize]) -> Option<Self> {
        Some(map_array!(self, array => {
            array.as_standard_layout().into_owned().into_shape_with_order(IxDyn(shape)).ok()?
        }))
    }

    /// The tensor with dimension `i` being the old dimension `perm[i]`; `None` unless `perm` is a permutation.
    pub fn permuted(&self, perm: &[usize]) -> Option<Self> {
        let mut sorted = perm.to_vec();
        sorted.sort_unstable();
        if !sorted.into_iter().eq(0..self.shape().len()) {
            return None;
        }
        Some(map_array!(self, array => array.view().permuted_axes(perm).as_standard_layout().into_owned()))
    }

    /// The elements at `indices` of a dimension, in their order; `None` where the dimension or an index is not there.
    pub fn selected(&self, axis: usize, indices: &[usize]) -> Option<Self> {
        let extent = *self.shape().get(axis)?;
        if indices.iter().any(|&index| index >= extent) {
            return None;
        }
        Some(map_array!(self, array => array.select(Axis(axis), indices)))
    }

    /// Tensors one after the other along a dimension; `None` where there are none, or types or other dimensions differ.
    pub fn joined(parts: &[&Self], axis: usize) -> Option<Self> {
        map_array!(all parts, arrays => {
            let views: Vec<_> = arrays.iter().map(|array| array.view()).collect();
            let fits = views.iter().all(|view| axis < view.ndim() && view.ndim() == views[0].ndim());
            ndarray::concatenate(Axis(axis), if fits { &views } else { &[] }).ok()?.as_standard_layout().into_owned()
        })
    }
}

/// Whole bytes that hold so many bits.
pub const fn bytes_of_bits(bits: u64) -> u64 {
    bits.div_ceil(8)
}

/// Product of the dimensions, or `None` where it passes `limit`.
pub fn checked_elements(shape: &[usize], limit: u64) -> Option<u64> {
    let mut product = 1_u64;
    for &dim in shape {
        product = product.checked_mul(dim as u64)?;
    }
    (product <= limit).then_some(product)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn counting(shape: &[usize]) -> Tensor {
        let values: Vec<i64> = (0..).take(shape.iter().product()).collect();
        Tensor::from_integers(DType::Int16, shape, &values).unwrap()
    }

    #[test]
    fn two_elements_of_four_bits_share_a_byte_and_are_stored_in_one_each() {
        assert_eq!([0, 1, 2, 3].map(|elements| DType::Int4.packed_bytes(elements)), [0, 1, 1, 2]);
        assert_eq!((DType::Int4.bytes(), DType::Int16.packed_bytes(3), DType::Int8.packed_bytes(3)), (1, 6, 3));
        let stored = Tensor::from_integers(DType::Int4, &[2], &[-8, 7]).unwrap();
        assert_eq!((stored.dtype(), stored.to_integers().unwrap()), (DType::Int8, vec![-8, 7]));
        assert_eq!(Tensor::from_integers(DType::Int4, &[1], &[8]), None);
    }

    #[test]
    fn only_permutations_permute() {
        let turned = counting(&[2, 3]).permuted(&[1, 0]).unwrap();
        assert_eq!((turned.shape(), turned.to_integers().unwrap()), (&[3, 2][..], vec![0, 3, 1, 4, 2, 5]));
        assert_eq!(counting(&[2, 3]).permuted(&[0, 0]), None);
        assert_eq!(counting(&[2, 3]).permuted(&[0]), None);
    }

    #[test]
    fn what_is_selected_is_there() {
        let picked = counting(&[2, 3]).selected(1, &[2, 0, 2]).unwrap();
        assert_eq!((picked.shape(), picked.to_integers().unwrap()), (&[2, 3][..], vec![2, 0, 2, 5, 3, 5]));
        assert_eq!(counting(&[2, 3]).selected(1, &[3]), None);
        assert_eq!(counting(&[2, 3]).selected(2, &[0]), None);
    }

    #[test]
    fn what_is_joined_has_one_type_and_fits() {
        let (a, b) = (counting(&[2, 1]), counting(&[2, 2]));
        let joined = Tensor::joined(&[&a, &b], 1).unwrap();
        assert_eq!((joined.shape(), joined.to_integers().unwrap()), (&[2, 3][..], vec![0, 0, 1, 1, 2, 3]));
        assert_eq!(Tensor::joined(&[&a, &b], 0), None);
        assert_eq!(Tensor::joined(&[&a, &a], 2), None);
        assert_eq!(Tensor::joined(&[&a, &counting(&[2])], 0), None);
        assert_eq!(Tensor::joined(&[&a, &Tensor::from_f32(&[2, 1], vec![0.0; 2]).unwrap()], 0), None);
        assert_eq!(Tensor::joined(&[], 0), None);
    }
}
