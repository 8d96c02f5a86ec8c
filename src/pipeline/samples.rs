//! Samples from an `.npz` file: one array an input of the graph, named as the input, first dimension the samples;
//! optional `labels`.

use std::path::Path;

use crate::{
    diag::{Diagnostic, Faults},
    ir::{Graph, Stage},
    tensor::{Tensor, npz},
};

/// Samples for all inputs of a graph.
#[derive(Clone, Debug)]
pub struct Samples {
    /// One tensor an input, `[samples, ...]`.
    pub inputs: Vec<Tensor>,
    /// Classes, where the file has them.
    pub labels: Option<Vec<i64>>,
    /// Number of samples.
    pub count: usize,
}

impl Samples {
    /// Reads samples for a graph's inputs.
    ///
    /// # Errors
    /// All that does not fit: missing arrays, shapes, types, different numbers of samples, labels that are no integers.
    pub fn read<S: Stage>(path: &Path, graph: &Graph<S>) -> Result<Self, Faults> {
        let arrays = npz::read_npz(path)?;
        let named = |name: &str| arrays.iter().find(|(known, _)| known == name).map(|(_, tensor)| tensor);
        let names: Vec<&str> = arrays.iter().map(|(name, _)| name.as_str()).collect();
        let mut faults = Vec::new();
        let mut inputs = Vec::new();
        let mut count = None;
        for &id in &graph.inputs {
            let value = graph.value(id);
            let Some(tensor) = named(&value.name) else {
                faults.push(
                    Diagnostic::error(format!("no array named `{}`, which is an input of the model", value.name))
                        .with_file(path)
                        .with_help(format!("the file has: {}", names.join(", "))),
                );
                continue;
            };
            if tensor.shape().len() != value.shape.len() || tensor.shape().get(1..) != value.shape.get(1..) {
                faults.push(
                    Diagnostic::error(format!(
                        "array `{}` has shape {:?}; the model takes {:?} with any first dimension",
                        value.name,
                        tensor.shape(),
                        value.shape
                    ))
                    .with_file(path),
                );
                continue;
            }
            let tensor = match (value.dtype, tensor) {
                (crate::tensor::DType::Fp32, Tensor::F64(array)) => {
                    // The model computes in float32.
                    #[allow(clippy::cast_possible_truncation)]
                    Tensor::F32(array.mapv(|x| x as f32))
                }
                _ => tensor.clone(),
            };
            if tensor.dtype() != value.dtype {
                faults.push(
                    Diagnostic::error(format!(
                        "array `{}` is {:?}; the model takes {:?}",
                        value.name,
                        tensor.dtype(),
                        value.dtype
                    ))
                    .with_file(path),
                );
                continue;
            }
            let own = tensor.shape().first().copied().unwrap_or(1);
            if *count.get_or_insert(own) != own {
                faults.push(
                    Diagnostic::error(format!(
                        "array `{}` has {own} samples, another input has more or fewer",
                        value.name
                    ))
                    .with_file(path),
                );
            }
            inputs.push(tensor);
        }
        let count = count.unwrap_or(0);
        if faults.is_empty() && count == 0 {
            faults.push(Diagnostic::error("the file has no samples").with_file(path));
        }
        let labels = match named("labels").map(|tensor| tensor.to_integers().map(|labels| (tensor, labels))) {
            None => None,
            Some(Some((tensor, labels))) if tensor.shape() == [count] => Some(labels),
            Some(_) => {
                faults.push(
                    Diagnostic::error(format!("`labels` must be {count} integers, one a sample")).with_file(path),
                );
                None
            }
        };
        Faults::check(faults)?;
        Ok(Self { inputs, labels, count })
    }
}

/// Samples `start..start + len` of a tensor; the last sample is repeated where there are not enough.
pub(super) fn batch_of(tensor: &Tensor, start: usize, len: usize) -> Tensor {
    macro_rules! each {
        ($($variant:ident),*) => {
            match tensor {
                // One number, the same for all samples.
                $(Tensor::$variant(array) if array.ndim() == 0 => Tensor::$variant(array.clone()),)*
                $(Tensor::$variant(array) => {
                    let last = array.shape()[0] - 1;
                    let indices: Vec<usize> = (start..start + len).map(|i| i.min(last)).collect();
                    Tensor::$variant(array.select(ndarray::Axis(0), &indices))
                })*
            }
        };
    }
    each!(F32, F64, I8, U8, I16, U16, I32, U32, I64, Bool)
}

/// Joins tensors along the first dimension and keeps the first `count` samples.
pub(super) fn join(parts: &[Tensor], count: usize) -> Option<Tensor> {
    macro_rules! each {
        ($($variant:ident),*) => {
            match parts.first()? {
                $(Tensor::$variant(_) => {
                    let views: Vec<_> = parts
                        .iter()
                        .map(|part| if let Tensor::$variant(array) = part { Some(array.view()) } else { None })
                        .collect::<Option<_>>()?;
                    let joined = ndarray::concatenate(ndarray::Axis(0), &views).ok()?;
                    let kept = joined.shape()[0].min(count);
                    let cut = joined.slice_axis(ndarray::Axis(0), ndarray::Slice::from(..kept)).to_owned();
                    Tensor::$variant(cut)
                })*
            }
        };
    }
    Some(each!(F32, F64, I8, U8, I16, U16, I32, U32, I64, Bool))
}
