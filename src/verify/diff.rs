//! The first element at which two tensors differ, and how far and how often they do.

use std::fmt;

use ndarray::ArrayD;

use crate::tensor::{DType, Tensor};

/// One element, in the terms of its type.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Number {
    /// Of an integer or boolean tensor.
    Integer(i64),
    /// Of a float tensor.
    Float(f64),
}

impl Number {
    /// As a real number; integers past 2^53 are rounded.
    pub fn as_f64(self) -> f64 {
        match self {
            Self::Integer(value) => value as f64,
            Self::Float(value) => value,
        }
    }
}

impl fmt::Display for Number {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Integer(value) => value.fmt(f),
            Self::Float(value) => write!(f, "{value:?}"),
        }
    }
}

/// How two tensors differ.
#[derive(Clone, Debug, PartialEq)]
pub struct TensorDiff {
    /// Index of the first element that differs, in row-major order; empty where `form` is given.
    pub index: Vec<u64>,
    /// What should stand there.
    pub expected: Number,
    /// What stands there.
    pub actual: Number,
    /// How many elements differ: all, where `form` is given.
    pub mismatches: u64,
    /// How many elements there are.
    pub elements: u64,
    /// Largest magnitude of a difference; NaN where one of two different elements is a NaN, or where `form` is given.
    pub max_abs: f64,
    /// Given where types or shapes are different, so that elements cannot be compared.
    pub form: Option<FormDiff>,
}

/// Types and shapes that are not the same.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct FormDiff {
    /// Type and shape that were expected.
    pub expected: (DType, Vec<usize>),
    /// Type and shape of the other.
    pub actual: (DType, Vec<usize>),
}

impl fmt::Display for TensorDiff {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if let Some(FormDiff { expected, actual }) = &self.form {
            return write!(f, "expected {:?} {:?}, found {:?} {:?}", expected.0, expected.1, actual.0, actual.1);
        }
        write!(
            f,
            "{} of {} elements differ, by at most {}; first at {:?}: expected {}, found {}",
            self.mismatches, self.elements, self.max_abs, self.index, self.expected, self.actual
        )
    }
}

/// How far float elements may differ: `|actual - expected| <= absolute + relative * |expected|`, or, with
/// `of_largest`, `<= absolute + relative * max|expected|`.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Tolerance {
    /// In the tensor's unit.
    pub absolute: f64,
    /// A fraction.
    pub relative: f64,
    /// Whether `relative` is of the tensor's largest magnitude instead of each element's own. Sums in another order
    /// differ by a fraction of the largest output, whatever the size of their own result.
    pub of_largest: bool,
}

/// The differences between two tensors, `None` if there are none. Floats are compared by their bits: `0.0` and
/// `-0.0` differ, a NaN equals only itself.
pub fn diff(expected: &Tensor, actual: &Tensor) -> Option<TensorDiff> {
    compare(expected, actual, |_, _| false)
}

/// The differences past a tolerance, `None` if there are none. Float types may differ. Integers are compared by the
/// same rule. NaN equals NaN, an infinity itself, neither anything else.
pub fn compare_with_tolerance(expected: &Tensor, actual: &Tensor, tolerance: Tolerance) -> Option<TensorDiff> {
    let largest = numbers(expected).map(Number::as_f64).filter(|x| x.is_finite()).fold(0.0, |a, b| b.abs().max(a));
    compare(expected, actual, |expected, actual| {
        let (expected, actual) = (expected.as_f64(), actual.as_f64());
        if expected.is_nan() && actual.is_nan() {
            return true;
        }
        let scale = if tolerance.of_largest { largest } else { expected.abs() };
        (actual - expected).abs() <= tolerance.absolute + tolerance.relative * scale
            && expected.is_finite()
            && actual.is_finite()
    })
}

fn compare(expected: &Tensor, actual: &Tensor, accept: impl Fn(Number, Number) -> bool) -> Option<TensorDiff> {
    let is_float = |tensor: &Tensor| !tensor.dtype().is_integer();
    let same_type = expected.dtype() == actual.dtype() || (is_float(expected) && is_float(actual));
    if !same_type || expected.shape() != actual.shape() {
        let form = |tensor: &Tensor| (tensor.dtype(), tensor.shape().to_vec());
        return Some(TensorDiff {
            index: Vec::new(),
            expected: Number::Float(f64::NAN),
            actual: Number::Float(f64::NAN),
            mismatches: expected.len() as u64,
            elements: expected.len() as u64,
            max_abs: f64::NAN,
            form: Some(FormDiff { expected: form(expected), actual: form(actual) }),
        });
    }
    if same_bits(expected, actual) {
        return None;
    }
    let mut first = None;
    let (mut mismatches, mut elements, mut max_abs) = (0_u64, 0_u64, 0.0_f64);
    for (at, (expected, actual)) in (0_u64..).zip(numbers(expected).zip(numbers(actual))) {
        elements += 1;
        if equal(expected, actual) || accept(expected, actual) {
            continue;
        }
        mismatches += 1;
        first.get_or_insert((at, expected, actual));
        let distance = match (expected, actual) {
            (Number::Integer(a), Number::Integer(b)) => a.abs_diff(b) as f64,
            _ => (expected.as_f64() - actual.as_f64()).abs(),
        };
        max_abs = if distance.is_nan() || max_abs.is_nan() { f64::NAN } else { max_abs.max(distance) };
    }
    let (mut at, expected_number, actual_number) = first?;
    let mut index: Vec<u64> = expected.shape().iter().map(|&dim| dim as u64).collect();
    for position in index.iter_mut().rev() {
        let dim = *position;
        *position = at % dim;
        at /= dim;
    }
    Some(TensorDiff {
        index,
        expected: expected_number,
        actual: actual_number,
        mismatches,
        elements,
        max_abs,
        form: None,
    })
}

/// Whether two tensors of one type have the same bits. Whole slices are compared, far faster than elements as numbers:
/// almost every comparison finds no difference.
fn same_bits(expected: &Tensor, actual: &Tensor) -> bool {
    macro_rules! each {
        ($($variant:ident),*) => {
            match (expected, actual) {
                (Tensor::F32(a), Tensor::F32(b)) => a.iter().zip(b).all(|(a, b)| a.to_bits() == b.to_bits()),
                (Tensor::F64(a), Tensor::F64(b)) => a.iter().zip(b).all(|(a, b)| a.to_bits() == b.to_bits()),
                $((Tensor::$variant(a), Tensor::$variant(b)) => a == b,)*
                _ => false,
            }
        };
    }
    each!(I8, U8, I16, U16, I32, U32, I64, Bool)
}

/// Equality of bits; a float32 widens to float64 without losing any.
fn equal(a: Number, b: Number) -> bool {
    match (a, b) {
        (Number::Integer(a), Number::Integer(b)) => a == b,
        (Number::Float(a), Number::Float(b)) => a.to_bits() == b.to_bits(),
        _ => false,
    }
}

/// The elements in row-major order.
fn numbers(tensor: &Tensor) -> Box<dyn Iterator<Item = Number> + '_> {
    fn each<'a, T: Copy, F: Fn(T) -> Number + 'a>(
        array: &'a ArrayD<T>,
        number: F,
    ) -> Box<dyn Iterator<Item = Number> + 'a> {
        Box::new(array.iter().map(move |&value| number(value)))
    }
    fn integer<T: Into<i64>>(value: T) -> Number {
        Number::Integer(value.into())
    }
    match tensor {
        Tensor::F32(array) => each(array, |value| Number::Float(f64::from(value))),
        Tensor::F64(array) => each(array, Number::Float),
        Tensor::I8(array) => each(array, integer),
        Tensor::U8(array) => each(array, integer),
        Tensor::I16(array) => each(array, integer),
        Tensor::U16(array) => each(array, integer),
        Tensor::I32(array) => each(array, integer),
        Tensor::U32(array) => each(array, integer),
        Tensor::I64(array) => each(array, integer),
        Tensor::Bool(array) => each(array, integer),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn bytes(shape: &[usize], values: &[i64]) -> Tensor {
        Tensor::from_integers(DType::UInt8, shape, values).unwrap()
    }

    fn floats(values: &[f32]) -> Tensor {
        Tensor::from_f32(&[values.len()], values.to_vec()).unwrap()
    }

    #[test]
    fn equal_tensors_have_no_difference() {
        assert_eq!(diff(&bytes(&[2, 2], &[1, 2, 3, 4]), &bytes(&[2, 2], &[1, 2, 3, 4])), None);
        assert_eq!(diff(&floats(&[f32::NAN, -0.0]), &floats(&[f32::NAN, -0.0])), None);
    }

    #[test]
    fn the_first_difference_is_found_with_its_index_and_all_are_counted() {
        let found = diff(&bytes(&[2, 3], &[0, 0, 0, 0, 7, 0]), &bytes(&[2, 3], &[0, 0, 0, 0, 9, 255])).unwrap();
        let expected = TensorDiff {
            index: vec![1, 1],
            expected: Number::Integer(7),
            actual: Number::Integer(9),
            mismatches: 2,
            elements: 6,
            max_abs: 255.0,
            form: None,
        };
        assert_eq!(found, expected);
        assert_eq!(found.to_string(), "2 of 6 elements differ, by at most 255; first at [1, 1]: expected 7, found 9");
    }

    #[test]
    fn zeros_of_different_sign_differ_in_their_bits_and_not_within_a_tolerance() {
        let (plus, minus) = (floats(&[0.0]), floats(&[-0.0]));
        assert!(diff(&plus, &minus).is_some());
        let none = Tolerance { absolute: 0.0, relative: 0.0, of_largest: false };
        assert_eq!(compare_with_tolerance(&plus, &minus, none), None);
    }

    #[test]
    fn a_tolerance_holds_at_its_edge_and_not_past_it() {
        let tolerance = Tolerance { absolute: 0.5, relative: 0.25, of_largest: false };
        assert_eq!(compare_with_tolerance(&floats(&[4.0]), &floats(&[5.5]), tolerance), None);
        assert!(compare_with_tolerance(&floats(&[4.0]), &floats(&[5.500_001]), tolerance).is_some());
        let of_largest = Tolerance { absolute: 0.0, relative: 0.25, of_largest: true };
        assert_eq!(compare_with_tolerance(&floats(&[0.0, 8.0]), &floats(&[2.0, 8.0]), of_largest), None);
        assert!(compare_with_tolerance(&floats(&[0.0, 8.0]), &floats(&[2.1, 8.0]), of_largest).is_some());
    }

    #[test]
    fn a_nan_or_an_infinity_is_never_within_a_tolerance_of_a_number() {
        let tolerance = Tolerance { absolute: f64::MAX, relative: 1.0, of_largest: false };
        for odd in [f32::NAN, f32::INFINITY] {
            assert!(compare_with_tolerance(&floats(&[1.0]), &floats(&[odd]), tolerance).is_some());
            assert!(compare_with_tolerance(&floats(&[odd]), &floats(&[1.0]), tolerance).is_some());
            assert_eq!(compare_with_tolerance(&floats(&[odd]), &floats(&[odd]), tolerance), None);
        }
    }

    #[test]
    fn the_fast_comparison_of_bits_finds_a_difference_in_any_element_of_any_type() {
        let integers =
            [DType::Int8, DType::UInt8, DType::Int16, DType::UInt16, DType::Int32, DType::UInt32, DType::Int64];
        for at in [0, 16, 32] {
            let mut other = vec![3; 33];
            other[at] = 4;
            for dtype in integers {
                let of = |values: &[i64]| Tensor::from_integers(dtype, &[33], values).unwrap();
                assert!(diff(&of(&[3; 33]), &of(&[3; 33])).is_none());
                assert_eq!(diff(&of(&[3; 33]), &of(&other)).unwrap().index, [at as u64], "{dtype:?}");
            }
            let mut real = vec![f32::NAN; 33];
            let same = floats(&real);
            assert!(diff(&same, &same.clone()).is_none());
            real[at] = 0.0;
            assert_eq!(diff(&same, &floats(&real)).unwrap().index, [at as u64]);
        }
    }

    #[test]
    fn another_shape_or_type_is_a_difference_of_form() {
        let found = diff(&bytes(&[2], &[1, 2]), &bytes(&[2, 1], &[1, 2])).unwrap();
        assert_eq!(found.to_string(), "expected UInt8 [2], found UInt8 [2, 1]");
        assert!(diff(&bytes(&[1], &[1]), &floats(&[1.0])).unwrap().form.is_some());
    }
}
