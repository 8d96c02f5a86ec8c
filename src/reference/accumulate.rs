//! Integer accumulators of convolutions and matrix products where nothing overflows: exact sums, by float matrix
//! products wherever these are proved to be exact.
//!
//! **Why a float product is exact.** Let `L` be the largest sum of `|w|` over the products of one output that one
//! float product adds up, and `X` the largest `|x|`. Each partial sum, in whatever order and grouping, is an integer of
//! magnitude at most `X * L`, and so is each single product. With `X * L <= 2^24` every one of them is a float32
//! (`<= 2^53`: a float64), thus no operation, fused or not, rounds. K is cut into equal pieces until float32 will do;
//! the pieces' sums are added in float64, where the same argument holds for the whole of K.

use rayon::prelude::*;

use super::{
    Outcome, Reason,
    geometry::Geometry,
    integers::exact_i64,
    product::{convolve, matrix},
};

/// Operands of an integer product, zero points subtracted.
pub(super) struct Operands {
    pub(super) x: Vec<i32>,
    /// Row-major as the operator has it.
    pub(super) weight: Vec<i32>,
}

/// Shape of the product.
#[derive(Clone, Copy)]
pub(super) enum Product {
    /// A convolution.
    Conv(Geometry),
    /// `x [m, k]` by a weight `[n, k]` if `transposed`, else `[k, n]`.
    Matrix {
        m: usize,
        k: usize,
        n: usize,
        transposed: bool,
    },
}

/// How a product is computed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Method {
    /// Float32 products of at most so many elements of K.
    Float32(usize),
    /// One float64 product.
    Float64,
    /// Loops over 64-bit integers.
    Loops,
}

const FLOAT32_EXACT: u64 = 1 << 24;
const FLOAT64_EXACT: u64 = 1 << 53;
const INTEGER_EXACT: u64 = 1 << 62;
/// Most pieces of K that are tried for float32; more would cost more than float64.
const SEGMENTS: usize = 8;

impl Product {
    /// Products of one output.
    pub(super) fn k(&self) -> usize {
        match self {
            Self::Conv(geometry) => geometry.k(),
            Self::Matrix { k, .. } => *k,
        }
    }

    /// Output channels.
    pub(super) fn channels(&self) -> usize {
        match self {
            Self::Conv(geometry) => geometry.o * geometry.groups,
            Self::Matrix { n, .. } => *n,
        }
    }

    /// Index into the weight of product `k` of an output channel.
    pub(super) fn weight_index(&self, channel: usize, k: usize) -> usize {
        match *self {
            Self::Matrix { n, transposed: false, .. } => k * n + channel,
            _ => channel * self.k() + k,
        }
    }
}

/// The sums of all outputs, each passed through `finish` with its output channel.
pub(super) fn exact(
    product: &Product,
    operands: &Operands,
    finish: impl Fn(usize, i64) -> i32 + Sync,
) -> Outcome<Vec<i32>> {
    if let Product::Conv(geometry) = product {
        if geometry.c == 1 {
            return depthwise(geometry, operands, finish);
        }
    }
    with_method(choose(product, operands)?, product, operands, finish)
}

/// [`exact`] by a method of the caller's choice.
pub(super) fn with_method(
    method: Method,
    product: &Product,
    operands: &Operands,
    finish: impl Fn(usize, i64) -> i32 + Sync,
) -> Outcome<Vec<i32>> {
    let k = product.k();
    let finish_float = |channel, sum| finish(channel, exact_i64(sum));
    match method {
        Method::Float32(piece) => {
            let x: Vec<f32> = operands.x.iter().map(|&value| value as f32).collect();
            let weight: Vec<f32> = operands.weight.iter().map(|&value| value as f32).collect();
            match *product {
                Product::Conv(geometry) => convolve(&geometry, &x, &weight, piece, finish_float),
                Product::Matrix { m, k, n, transposed } => {
                    matrix([m, k, n], &x, &weight, transposed, piece, finish_float)
                }
            }
        }
        Method::Float64 => {
            let x: Vec<f64> = operands.x.iter().map(|&value| f64::from(value)).collect();
            let weight: Vec<f64> = operands.weight.iter().map(|&value| f64::from(value)).collect();
            match *product {
                Product::Conv(geometry) => convolve(&geometry, &x, &weight, k, finish_float),
                Product::Matrix { m, k, n, transposed } => matrix([m, k, n], &x, &weight, transposed, k, finish_float),
            }
        }
        Method::Loops => Ok(per_output(product, operands, |channel, taps| {
            let sum = (0..k)
                .map(|k| i64::from(taps[k]) * i64::from(operands.weight[product.weight_index(channel, k)]))
                .sum();
            finish(channel, sum)
        })),
    }
}

/// The cheapest method that is exact.
fn choose(product: &Product, operands: &Operands) -> Outcome<Method> {
    let k = product.k();
    let (x_max, w_max) = (largest(&operands.x), largest(&operands.weight));
    let length = k.div_ceil(SEGMENTS).max(1);
    // Sums of |w| by output channel and segment of K, in the weight's own order.
    let mut sums = vec![[0_u64; SEGMENTS]; product.channels()];
    for (index, weight) in operands.weight.iter().enumerate() {
        let (channel, k) = match *product {
            Product::Matrix { n, transposed: false, .. } => (index % n, index / n),
            _ => (index / k, index % k),
        };
        sums[channel][k / length] += u64::from(weight.unsigned_abs());
    }
    for pieces in [1, 2, 4, 8] {
        let merged = SEGMENTS / pieces;
        let sum = sums.iter().flat_map(|sums| sums.chunks(merged)).map(|sums| sums.iter().sum::<u64>()).max();
        let bound = sum.unwrap_or(0).saturating_mul(x_max);
        if bound <= FLOAT32_EXACT && x_max <= FLOAT32_EXACT && w_max <= FLOAT32_EXACT {
            return Ok(Method::Float32(length * merged));
        }
    }
    let bound = sums.iter().map(|sums| sums.iter().sum::<u64>()).max().unwrap_or(0).saturating_mul(x_max);
    match bound {
        0..=FLOAT64_EXACT => Ok(Method::Float64),
        _ if bound <= INTEGER_EXACT => Ok(Method::Loops),
        _ => Err(Reason::Type("the sums of products do not fit 64 bits".into())),
    }
}

fn largest(values: &[i32]) -> u64 {
    values.iter().map(|value| u64::from(value.unsigned_abs())).max().unwrap_or(0)
}

/// One input channel a group: tap by tap over whole output rows.
fn depthwise(
    geometry: &Geometry,
    operands: &Operands,
    finish: impl Fn(usize, i64) -> i32 + Sync,
) -> Outcome<Vec<i32>> {
    let (pixels, image, k) = (geometry.p * geometry.q, geometry.h * geometry.w, geometry.k());
    let x_max = largest(&operands.x);
    let l1 = operands.weight.chunks(k).map(|w| w.iter().map(|w| u64::from(w.unsigned_abs())).sum::<u64>()).max();
    let bound = l1.unwrap_or(0).saturating_mul(x_max);
    if bound > INTEGER_EXACT {
        return Err(Reason::Type("the sums of products do not fit 64 bits".into()));
    }
    let mut output = vec![0; geometry.n * geometry.groups * geometry.o * pixels];
    output.par_chunks_mut(pixels.max(1)).enumerate().for_each(|(plane, output)| {
        let (n, channel) = (plane / (geometry.groups * geometry.o), plane % (geometry.groups * geometry.o));
        let x = &operands.x[(n * geometry.groups + channel / geometry.o) * image..][..image];
        let weight = &operands.weight[channel * k..][..k];
        if bound < 1 << 31 {
            let mut sums = vec![0_i32; pixels];
            add_taps(geometry, x, weight, &mut sums, |sum, x, w| *sum += x * w);
            for (output, sum) in output.iter_mut().zip(sums) {
                *output = finish(channel, i64::from(sum));
            }
        } else {
            let mut sums = vec![0_i64; pixels];
            add_taps(geometry, x, weight, &mut sums, |sum, x, w| *sum += i64::from(x) * i64::from(w));
            for (output, sum) in output.iter_mut().zip(sums) {
                *output = finish(channel, sum);
            }
        }
    });
    Ok(output)
}

fn add_taps<A>(geometry: &Geometry, x: &[i32], weight: &[i32], sums: &mut [A], add: impl Fn(&mut A, i32, i32)) {
    let [rows, columns] = geometry.window.kernel;
    let stride = geometry.window.stride[1];
    for p in 0..geometry.p {
        let line = &mut sums[p * geometry.q..][..geometry.q];
        for r in 0..rows {
            let Some(row) = geometry.row(p, r) else { continue };
            for s in 0..columns {
                let inside = geometry.inside(s);
                if inside.is_empty() {
                    continue;
                }
                let w = weight[r * columns + s];
                let first = inside.start * stride + s * geometry.window.dilation[1] - geometry.window.pad[1];
                let source = &x[row * geometry.w + first..(row + 1) * geometry.w];
                if stride == 1 {
                    line[inside].iter_mut().zip(source).for_each(|(sum, &x)| add(sum, x, w));
                } else {
                    line[inside].iter_mut().zip(source.iter().step_by(stride)).for_each(|(sum, &x)| add(sum, x, w));
                }
            }
        }
    }
}

/// Calls `output` for each output with its channel and the K operands that it meets, in the order of the weight
/// (`(c, r, s)` with `s` fastest), zero in the padding.
pub(super) fn per_output(
    product: &Product,
    operands: &Operands,
    output: impl Fn(usize, &[i32]) -> i32 + Sync,
) -> Vec<i32> {
    match *product {
        Product::Conv(geometry) => {
            let (pixels, k) = (geometry.p * geometry.q, geometry.k());
            let image = geometry.c * geometry.h * geometry.w;
            // [n, group, pixel] -> o outputs, then reordered to [n, group, o, pixel].
            let by_pixel: Vec<i32> = (0..geometry.n * geometry.groups * pixels)
                .into_par_iter()
                .flat_map_iter(|index| {
                    let (plane, pixel) = (index / pixels, index % pixels);
                    let x = &operands.x[plane * image..][..image];
                    let at = [pixel / geometry.q, pixel % geometry.q];
                    let taps: Vec<i32> = (0..k).map(|k| geometry.tap(at, k).map_or(0, |index| x[index])).collect();
                    let first = plane % geometry.groups * geometry.o;
                    (first..first + geometry.o).map(|channel| output(channel, &taps)).collect::<Vec<_>>()
                })
                .collect();
            let mut ordered = vec![0; by_pixel.len()];
            for (index, value) in by_pixel.into_iter().enumerate() {
                let (plane_pixel, o) = (index / geometry.o, index % geometry.o);
                let (plane, pixel) = (plane_pixel / pixels, plane_pixel % pixels);
                ordered[(plane * geometry.o + o) * pixels + pixel] = value;
            }
            ordered
        }
        Product::Matrix { k, n, m, .. } => (0..m)
            .into_par_iter()
            .flat_map_iter(|row| {
                let taps = &operands.x[row * k..][..k];
                (0..n).map(|channel| output(channel, taps)).collect::<Vec<_>>()
            })
            .collect(),
    }
}
