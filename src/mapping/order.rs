//! In which order the array adds a layer's products, as plain data for the reference, and whether it matters.

use super::matrix::MatrixMapping;
use crate::{
    config::{Accelerator, Accumulate},
    dataflow::{ArrayExtents, schedule},
    ir::{Constant, Distribution, Graph, Node, Op, Quantized, Value},
    tensor::{AccumulationOrder, Tensor},
};

/// Largest magnitude of a value less its zero point, from its type.
fn largest_magnitude(value: &Value) -> i128 {
    let (low, high) = value.dtype.int_range().unwrap_or((i64::MIN / 2, i64::MAX / 2));
    let zeros = value.quant.as_ref().map_or(&[0][..], |quant| &quant.zero_point);
    zeros
        .iter()
        .map(|&zero| (i128::from(low) - i128::from(zero)).abs().max((i128::from(high) - i128::from(zero)).abs()))
        .max()
        .unwrap_or(0)
}

/// Largest magnitude of a bias.
fn largest_bias(value: &Value) -> i128 {
    match &value.constant {
        Some(Constant::Dense(tensor)) => match tensor.as_ref() {
            Tensor::I32(array) => array.iter().map(|&bias| i128::from(bias).abs()).max().unwrap_or(0),
            other => {
                other.to_integers().unwrap_or_default().iter().map(|&bias| i128::from(bias).abs()).max().unwrap_or(0)
            }
        },
        Some(Constant::Synthetic(recipe)) => match recipe.distribution {
            Distribution::Normal { limit, .. } => i128::from(limit).abs(),
            Distribution::Uniform { low, high } => i128::from(low).abs().max(i128::from(high).abs()),
        },
        None => i128::from(i32::MAX),
    }
}

/// Whether a partial sum of a convolution or matrix product could leave the machine's adders, judged by the types'
/// ranges: if not, any order of additions gives the same bits.
pub fn may_overflow(graph: &Graph<Quantized>, node: &Node, accelerator: &Accelerator) -> bool {
    let (x, w) = (graph.value(node.inputs[0]), graph.value(node.inputs[1]));
    if x.quant.is_none() || w.quant.is_none() {
        // Floats are the host's.
        return false;
    }
    let depth: u64 = match w.shape.as_slice() {
        [_, rest @ .., _] if matches!(node.op, Op::Conv { .. }) => {
            rest.iter().map(|&dim| dim as u64).product::<u64>() * w.shape[w.shape.len() - 1] as u64
        }
        _ => x.shape.last().copied().unwrap_or(1) as u64,
    };
    let bias = node.inputs.get(2).map_or(0, |&id| largest_bias(graph.value(id)));
    let sum = largest_magnitude(x) * largest_magnitude(w) * i128::from(depth) + bias;
    let bits = accelerator.config.array.column_bits.min(accelerator.config.accumulators.bits);
    sum > (1_i128 << (bits - 1)) - 1
}

/// The order in which the mapped layer adds.
pub fn accumulation_order(mapping: &MatrixMapping, accelerator: &Accelerator) -> AccumulationOrder {
    let (array, extents) = (&accelerator.config.array, ArrayExtents::of(&accelerator.config.array));
    let accumulator_bits = accelerator.config.accumulators.bits;
    let injects = array.accumulate != Accumulate::AtOutput;
    let (channels, taps) = (mapping.pass_channels(), u32::try_from(mapping.shape.taps()).unwrap_or(u32::MAX));
    let mut permutation = Vec::new();
    let mut chunks = Vec::new();
    if mapping.on_vector {
        chunks.push(taps * channels);
        return AccumulationOrder::Chunked {
            permutation,
            chunks,
            column_bits: accumulator_bits,
            accumulator_bits,
            overflow: array.overflow,
        };
    }
    for tile in 0..mapping.trips().c {
        let range = super::tiling::tile_range(channels, mapping.tile.c, tile);
        for tap in 0..taps {
            permutation.extend((range.start..range.start + range.len).map(|c| tap * channels + c));
        }
        match chunks.last_mut() {
            // Sums that stay in the elements, or run through the columns again, go on where they were.
            Some(whole) if mapping.keeps_sums(&extents) || injects => *whole += taps * range.len,
            None if injects => chunks.push(taps * range.len),
            _ => {
                let folds = schedule(mapping.dataflow).folds(taps.into(), range.len.into(), &extents);
                chunks.extend(folds.iter().map(|fold| fold.len));
            }
        }
    }
    AccumulationOrder::Chunked {
        permutation,
        chunks,
        column_bits: array.column_bits,
        accumulator_bits,
        overflow: array.overflow,
    }
}
