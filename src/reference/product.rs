//! Convolutions and matrix products by ndarray's float matrix product, in blocks over output rows and channels.
//!
//! Blocks depend on shapes alone, so results are the same for any number of threads, float ones too. The caller says
//! where K is cut: each piece is one float product, and pieces are added in float64.

use std::{borrow::Cow, ops::Range};

use ndarray::{ArrayView2, LinalgScalar, ShapeBuilder, linalg::general_mat_mul};
use rayon::prelude::*;

use super::{Outcome, Reason, geometry::Geometry};

/// What the matrix product works on: float32 or float64.
pub(super) trait Real: LinalgScalar + Default + Send + Sync + Into<f64> {}
impl Real for f32 {}
impl Real for f64 {}

/// Elements of an unfolded block: 1 MiB of float32.
const BLOCK_ELEMENTS: usize = 1 << 18;

/// Output channels of a block where one block would otherwise hold the whole layer.
const BLOCK_CHANNELS: usize = 128;

/// One block of work: an image, a group, output rows and output channels of the group.
struct Block {
    n: usize,
    group: usize,
    rows: Range<usize>,
    channels: Range<usize>,
}

/// Convolves `x [n, groups * c, h, w]` with a weight `[groups * o, c, r, s]`; `finish` turns the sum of an output
/// channel into an output. `piece` is the number of products that one float product may add up. `weight` makes the
/// filters of a range of output channels.
pub(super) fn convolve<'a, T: Real, Y: Copy + Default + Send>(
    geometry: &Geometry,
    x: &[T],
    weight: impl Fn(Range<usize>) -> Cow<'a, [T]> + Sync,
    piece: usize,
    finish: impl Fn(usize, f64) -> Y + Sync,
) -> Outcome<Vec<Y>> {
    let (pixels, k) = (geometry.p * geometry.q, geometry.k());
    let mut output = vec![Y::default(); geometry.n * geometry.groups * geometry.o * pixels];
    if output.is_empty() || geometry.h * geometry.w == 0 {
        return Ok(output);
    }
    let blocks = blocks(geometry);
    let results: Vec<Vec<Y>> = blocks
        .par_iter()
        .map(|block| {
            let image_size = geometry.c * geometry.h * geometry.w;
            let image = &x[(block.n * geometry.groups + block.group) * image_size..][..image_size];
            let first = block.group * geometry.o;
            let filters = weight(first + block.channels.start..first + block.channels.end);
            let filters = view(&filters, [block.channels.len(), k], [k, 1])?;
            let columns = block.rows.len() * geometry.q;
            let mut unfolded = Vec::new();
            let sums = in_pieces(k, piece, block.channels.len() * columns, |range, out| {
                let taps = if geometry.is_pointwise() {
                    let offset = range.start * pixels + block.rows.start * geometry.q;
                    view(&image[offset..], [range.len(), columns], [pixels, 1])?
                } else {
                    geometry.unfold(image, range.clone(), block.rows.clone(), &mut unfolded);
                    view(&unfolded, [range.len(), columns], [columns, 1])?
                };
                let filters = filters.slice(ndarray::s![.., range]);
                multiply(&filters, &taps, out)
            })?;
            let mut finished = Vec::with_capacity(sums.len());
            for (sums, channel) in sums.chunks_exact(columns).zip(block.channels.clone()) {
                finished.extend(sums.iter().map(|&sum| finish(first + channel, sum)));
            }
            Ok(finished)
        })
        .collect::<Outcome<_>>()?;
    for (block, result) in blocks.iter().zip(results) {
        let columns = block.rows.len() * geometry.q;
        for (line, channel) in result.chunks_exact(columns).zip(block.channels.clone()) {
            let plane = (block.n * geometry.groups + block.group) * geometry.o + channel;
            output[plane * pixels + block.rows.start * geometry.q..][..columns].copy_from_slice(line);
        }
    }
    Ok(output)
}

fn blocks(geometry: &Geometry) -> Vec<Block> {
    let rows = (BLOCK_ELEMENTS / (geometry.k() * geometry.q).max(1)).clamp(1, geometry.p);
    let single = rows == geometry.p && geometry.n * geometry.groups == 1;
    let channels = if single { BLOCK_CHANNELS } else { geometry.o };
    let mut blocks = Vec::new();
    for n in 0..geometry.n {
        for group in 0..geometry.groups {
            for row in (0..geometry.p).step_by(rows) {
                for channel in (0..geometry.o).step_by(channels) {
                    blocks.push(Block {
                        n,
                        group,
                        rows: row..(row + rows).min(geometry.p),
                        channels: channel..(channel + channels).min(geometry.o),
                    });
                }
            }
        }
    }
    blocks
}

/// Multiplies `x [m, k]` by a weight of `n` output channels; see [`convolve`] for the rest. `weight` makes the part of a
/// range of `c` channels: `[c, k]` if `transposed`, else `[k, c]`.
pub(super) fn matrix<'a, T: Real, Y: Copy + Default + Send>(
    [m, k, n]: [usize; 3],
    x: &[T],
    weight: impl Fn(Range<usize>) -> Cow<'a, [T]> + Sync,
    transposed: bool,
    piece: usize,
    finish: impl Fn(usize, f64) -> Y + Sync,
) -> Outcome<Vec<Y>> {
    let mut output = vec![Y::default(); m * n];
    let x = view(x, [m, k], [k, 1])?;
    let rows = BLOCK_ELEMENTS / BLOCK_CHANNELS;
    let blocks: Vec<(Range<usize>, Range<usize>)> = (0..n)
        .step_by(BLOCK_CHANNELS)
        .flat_map(|channel| (0..m).step_by(rows).map(move |row| (row, channel)))
        .map(|(row, channel)| (row..(row + rows).min(m), channel..(channel + BLOCK_CHANNELS).min(n)))
        .collect();
    let results: Vec<Vec<f64>> = blocks
        .par_iter()
        .map(|(rows, channels)| {
            let c = channels.len();
            let weight = weight(channels.clone());
            let weight = view(&weight, [k, c], if transposed { [1, k] } else { [c, 1] })?;
            in_pieces(k, piece, rows.len() * c, |range, out| {
                let x = x.slice(ndarray::s![rows.clone(), range.clone()]);
                multiply(&x, &weight.slice(ndarray::s![range, ..]), out)
            })
        })
        .collect::<Outcome<_>>()?;
    for ((rows, channels), sums) in blocks.into_iter().zip(results) {
        for (row, sums) in rows.zip(sums.chunks_exact(channels.len())) {
            for (channel, &sum) in channels.clone().zip(sums) {
                output[row * n + channel] = finish(channel, sum);
            }
        }
    }
    Ok(output)
}

/// Runs `product` for each piece of K and adds the pieces' results in float64.
fn in_pieces<T: Real>(
    k: usize,
    piece: usize,
    outputs: usize,
    mut product: impl FnMut(Range<usize>, &mut [T]) -> Outcome<()>,
) -> Outcome<Vec<f64>> {
    let mut sums = vec![0.0; outputs];
    let mut out = vec![T::zero(); outputs];
    for start in (0..k).step_by(piece.max(1)) {
        product(start..(start + piece.max(1)).min(k), &mut out)?;
        for (sum, &value) in sums.iter_mut().zip(&out) {
            *sum += value.into();
        }
    }
    Ok(sums)
}

fn multiply<T: Real>(a: &ArrayView2<'_, T>, b: &ArrayView2<'_, T>, out: &mut [T]) -> Outcome<()> {
    let mut out = ndarray::ArrayViewMut2::from_shape((a.nrows(), b.ncols()), out)
        .map_err(|fault| Reason::Shape(fault.to_string()))?;
    general_mat_mul(T::one(), a, b, T::zero(), &mut out);
    Ok(())
}

fn view<T>(data: &[T], [rows, columns]: [usize; 2], [down, right]: [usize; 2]) -> Outcome<ArrayView2<'_, T>> {
    ArrayView2::from_shape((rows, columns).strides((down, right)), data)
        .map_err(|fault| Reason::Shape(fault.to_string()))
}
