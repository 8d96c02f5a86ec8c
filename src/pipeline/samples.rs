//! Samples: one array an input of the graph, named as the input, first dimension the samples; optional `labels`. Held
//! in memory, or left in an `.npz` file and read in blocks.

use std::path::Path;

use rayon::prelude::*;

use super::Failure;
use crate::{
    diag::{Diagnostic, Faults, Progress},
    ir::{Graph, Stage},
    tensor::{
        DType, Tensor,
        npz::{self, StoredArray},
    },
};

/// Bytes that the values of one block may take: blocks of large images are single samples.
const BLOCK_BYTES: u64 = 64 << 20;

/// Most samples of a block.
const BLOCK_SAMPLES: u64 = 64;

/// Samples for all inputs of a graph.
#[derive(Clone, Debug)]
pub struct Samples {
    inputs: Vec<Source>,
    /// Classes, where there are any.
    pub labels: Option<Vec<i64>>,
    /// Number of samples.
    pub count: usize,
}

/// Where the samples of one input are.
#[derive(Clone, Debug)]
enum Source {
    /// `[samples, ...]`.
    Held(Tensor),
    File(StoredArray),
}

impl Samples {
    /// Samples in memory, one tensor an input of the graph, `[samples, ...]`.
    pub fn of(inputs: Vec<Tensor>, labels: Option<Vec<i64>>) -> Self {
        let count = inputs.first().and_then(|input| input.shape().first().copied()).unwrap_or(1);
        Self { inputs: inputs.into_iter().map(Source::Held).collect(), labels, count }
    }

    /// The same, with a count that the inputs do not tell: the first dimension of an input may be no batch.
    pub(super) const fn counted(mut self, count: usize) -> Self {
        self.count = count;
        self
    }

    /// Samples in a file for a graph's inputs. Only the labels are read; arrays whose samples do not stand one after the
    /// other (`fortran_order`) are read whole, and so is what has no samples dimension.
    ///
    /// # Errors
    /// All that does not fit: missing arrays, shapes, types, different numbers of samples, labels that are no integers.
    pub fn open<S: Stage>(path: &Path, graph: &Graph<S>) -> Result<Self, Faults> {
        let arrays = npz::open_npz(path)?;
        let named = |name: &str| arrays.iter().find(|array| array.name() == name);
        let names: Vec<&str> = arrays.iter().map(StoredArray::name).collect();
        let mut faults = Vec::new();
        let mut inputs = Vec::new();
        let mut count = None;
        for &id in &graph.inputs {
            let value = graph.value(id);
            let Some(array) = named(&value.name) else {
                faults.push(
                    Diagnostic::error(format!("no array named `{}`, which is an input of the model", value.name))
                        .with_file(path)
                        .with_help(format!("the file has: {}", names.join(", "))),
                );
                continue;
            };
            if array.shape().len() != value.shape.len() || array.shape().get(1..) != value.shape.get(1..) {
                faults.push(
                    Diagnostic::error(format!(
                        "array `{}` has shape {:?}; the model takes {:?} with any first dimension",
                        value.name,
                        array.shape(),
                        value.shape
                    ))
                    .with_file(path),
                );
                continue;
            }
            if array.dtype() != value.dtype && (value.dtype, array.dtype()) != (DType::Fp32, DType::Fp64) {
                let fault = Diagnostic::error(format!(
                    "array `{}` is {:?}; the model takes {:?}",
                    value.name,
                    array.dtype(),
                    value.dtype
                ));
                let fault = if value.dtype == DType::Int4 {
                    fault.with_help("arrays have no type of 4 bits: run without `--data`, or take a model of floats")
                } else {
                    fault
                };
                faults.push(fault.with_file(path));
                continue;
            }
            let own = array.shape().first().copied().unwrap_or(1);
            if *count.get_or_insert(own) != own {
                faults.push(
                    Diagnostic::error(format!(
                        "array `{}` has {own} samples, another input has more or fewer",
                        value.name
                    ))
                    .with_file(path),
                );
            }
            if array.by_rows() {
                inputs.push(Source::File(array.clone()));
            } else {
                inputs.push(Source::Held(single(array.read()?)));
            }
        }
        if faults.is_empty() && count.unwrap_or(0) == 0 {
            faults.push(Diagnostic::error("the file has no samples").with_file(path));
        }
        let labels = match named("labels") {
            Some(array) if array.shape().len() == 1 && count.is_none_or(|count| array.shape() == [count]) => {
                array.read()?.to_integers()
            }
            _ => None,
        };
        if labels.is_none() && named("labels").is_some() {
            let integers = count.map_or("integers".into(), |count| format!("{count} integers"));
            faults.push(Diagnostic::error(format!("`labels` must be {integers}, one a sample")).with_file(path));
        }
        let count = count.unwrap_or(0);
        Faults::check(faults)?;
        Ok(Self { inputs, labels, count })
    }

    /// The first `count` samples, or all where there are fewer.
    pub(super) fn first(&self, count: usize) -> Result<Vec<Tensor>, Faults> {
        self.blocks(count.max(1))?.next().unwrap_or_else(|| Ok(Vec::new()))
    }

    /// The samples in blocks of `size`, in order; a block of all of them has the tensors as they are.
    fn blocks(&self, size: usize) -> Result<Blocks<'_>, Faults> {
        let readers = self.inputs.iter().map(|source| match source {
            Source::Held(tensor) => Ok(Reader::Held(tensor)),
            Source::File(array) => array.rows().map(Reader::File),
        });
        Ok(Blocks { readers: readers.collect::<Result<_, _>>()?, size, at: 0, count: self.count })
    }

    /// Runs `work` on every block, at most `workers` at a time and each on a thread of its own, and hands back the
    /// results in order: what they are does not depend on the number of threads.
    pub(super) fn each_block<T: Send>(
        &self,
        size: usize,
        workers: usize,
        progress: &mut dyn Progress,
        work: impl Fn(usize, &[Tensor]) -> Result<T, Failure> + Sync,
    ) -> Result<Vec<T>, Failure> {
        let mut blocks = self.blocks(size)?;
        let mut results = Vec::new();
        loop {
            let first = results.len();
            let wave = blocks.by_ref().take(workers.max(1)).collect::<Result<Vec<_>, _>>()?;
            if wave.is_empty() {
                return Ok(results);
            }
            let ended: Vec<Result<T, Failure>> =
                wave.par_iter().enumerate().map(|(index, block)| work(first + index, block)).collect();
            // In order, so that the first of several faults is always the same.
            for result in ended {
                results.push(result?);
            }
            progress.advance((results.len() - first).saturating_mul(size).min(self.count) as u64);
        }
    }
}

/// The model computes in float32.
fn single(tensor: Tensor) -> Tensor {
    match tensor {
        #[allow(clippy::cast_possible_truncation)]
        Tensor::F64(array) => Tensor::F32(array.mapv(|x| x as f32)),
        other => other,
    }
}

enum Reader<'a> {
    Held(&'a Tensor),
    File(npz::Rows),
}

struct Blocks<'a> {
    readers: Vec<Reader<'a>>,
    size: usize,
    at: usize,
    count: usize,
}

impl Iterator for Blocks<'_> {
    type Item = Result<Vec<Tensor>, Faults>;

    fn next(&mut self) -> Option<Self::Item> {
        let start = self.at;
        let len = self.size.min(self.count.checked_sub(start).filter(|&left| left > 0)?);
        self.at += len;
        let whole = len == self.count;
        let tensors = self.readers.iter_mut().map(|reader| match reader {
            Reader::Held(tensor) if whole => Ok((*tensor).clone()),
            Reader::Held(tensor) => Ok(batch_of(tensor, start, len)),
            Reader::File(rows) => rows.next(len).map(single),
        });
        Some(tensors.collect())
    }
}

/// Samples of a block for a graph, and how many blocks may be under way. `kept` says whether all values of a run are
/// kept; what an operator takes on the way is its operands and results several times over, in wider types.
pub(super) fn block_of<S: Stage>(graph: &Graph<S>, kept: bool) -> usize {
    const WIDER: u64 = 16;
    let elements = |ids: &[crate::ir::ValueId]| -> u64 {
        let activations = ids.iter().map(|&id| graph.value(id)).filter(|value| value.constant.is_none());
        activations.map(crate::ir::Value::elements).fold(0, u64::saturating_add)
    };
    let nodes = graph.nodes.iter().map(|node| elements(&node.inputs).saturating_add(elements(&node.outputs)));
    let bytes = if kept { nodes.fold(0, u64::saturating_add) } else { nodes.max().unwrap_or(0) }.saturating_mul(WIDER);
    let batch = graph.inputs.first().and_then(|&id| graph.value(id).shape.first().copied()).unwrap_or(1).max(1);
    let batches = (BLOCK_BYTES / bytes.max(1)).clamp(1, BLOCK_SAMPLES.div_ceil(batch as u64));
    usize::try_from(batches).unwrap_or(1).saturating_mul(batch)
}

/// Samples `start..start + len` of a tensor; the last sample is repeated where there are not enough.
pub(super) fn batch_of(tensor: &Tensor, start: usize, len: usize) -> Tensor {
    // One number is the same for all samples.
    let Some(&samples) = tensor.shape().first() else { return tensor.clone() };
    let indices: Vec<usize> = (start..start + len).map(|index| index.min(samples.saturating_sub(1))).collect();
    tensor.selected(0, &indices).unwrap_or_else(|| tensor.clone())
}

/// Joins tensors along the first dimension and keeps the first `count` samples.
pub(super) fn join(parts: &[Tensor], count: usize) -> Option<Tensor> {
    let joined = Tensor::joined(&parts.iter().collect::<Vec<_>>(), 0)?;
    let kept: Vec<usize> = (0..count.min(*joined.shape().first()?)).collect();
    joined.selected(0, &kept)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        diag::Silent,
        ir::{Float, Value},
        tensor::npz::write_npz,
    };

    fn graph(shape: &[usize]) -> Graph<Float> {
        let mut graph = Graph::new("net");
        let value = Value { name: "x".into(), shape: shape.to_vec(), dtype: DType::Fp32, quant: None, constant: None };
        let id = graph.add_value(value);
        graph.inputs = vec![id];
        graph
    }

    #[test]
    fn blocks_come_in_order_with_every_sample_once_from_memory_and_from_a_file() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("x.npz");
        let values: Vec<f64> = (0..22).map(f64::from).collect();
        let tensor = Tensor::F64(ndarray::ArrayD::from_shape_vec(vec![11, 2], values).unwrap());
        write_npz(&path, &[("x", &tensor)]).unwrap();
        let file = Samples::open(&path, &graph(&[1, 2])).unwrap();
        let held = Samples::of(vec![single(tensor.clone())], None);
        for samples in [file, held] {
            for (size, workers) in [(1, 1), (3, 2), (4, 5), (11, 1), (20, 3)] {
                let parts = samples.each_block(size, workers, &mut Silent, |_, block| Ok(block[0].clone())).unwrap();
                assert_eq!(parts.len(), 11_usize.div_ceil(size));
                assert_eq!(join(&parts, 11), Some(single(tensor.clone())));
            }
        }
    }

    #[test]
    fn faults_name_the_array_and_what_the_model_takes() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("x.npz");
        let tensor = Tensor::from_f32(&[4, 3], vec![0.0; 12]).unwrap();
        write_npz(&path, &[("x", &tensor)]).unwrap();
        let message = Samples::open(&path, &graph(&[1, 2])).unwrap_err().to_string();
        assert!(message.contains("`x` has shape [4, 3]") && message.contains("[1, 2]"), "{message}");
        write_npz(&path, &[("y", &tensor), ("labels", &tensor)]).unwrap();
        let message = Samples::open(&path, &graph(&[1, 3])).unwrap_err().to_string();
        assert!(message.contains("no array named `x`") && message.contains("`labels` must be"), "{message}");
    }

    #[test]
    fn blocks_of_large_samples_are_small_and_whole_batches() {
        let mut large = graph(&[1, 1 << 21]);
        let (x, op) = (large.inputs[0], crate::ir::Op::Relu);
        large.add_node(crate::ir::Node { name: "a".into(), op: op.clone(), inputs: vec![x], outputs: vec![x] });
        assert_eq!(block_of(&large, false), 1);
        let mut small = graph(&[3, 10]);
        let x = small.inputs[0];
        small.add_node(crate::ir::Node { name: "a".into(), op, inputs: vec![x], outputs: vec![x] });
        assert_eq!(block_of(&small, false) % 3, 0);
        assert!((64..67).contains(&block_of(&small, false)));
    }
}
