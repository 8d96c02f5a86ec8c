//! Integer accumulators of convolutions and matrix products where nothing overflows: exact sums, by float matrix
//! products wherever these are proved to be exact.
//!
//! **Why a float product is exact.** Let `L` be the largest sum of `|w|` over the products of one output that one
//! float product adds up, and `X` the largest `|x|`. Each partial sum, in whatever order and grouping, is an integer of
//! magnitude at most `X * L`, and so is each single product. With `X * L <= 2^24` every one of them is a float32
//! (`<= 2^53`: a float64), thus no operation, fused or not, rounds. K is cut into equal pieces until float32 will do;
//! the pieces' sums are added in float64, where the same argument holds for the whole of K.

use std::{borrow::Cow, ops::Range};

use rayon::prelude::*;

use super::{
    Outcome, Reason,
    geometry::Geometry,
    integers::exact_i64,
    product::{Real, convolve, matrix},
};

/// Operands of an integer product, zero points subtracted.
#[derive(Debug)]
pub(super) struct Operands {
    pub(super) x: Vec<i32>,
    pub(super) weight: Weight,
}

/// A weight, row-major as the operator has it; narrow where it can be, for large ones take hundreds of megabytes.
#[derive(Debug)]
pub(super) enum Weight {
    Narrow(Vec<i16>),
    Wide(Vec<i32>),
}

impl Weight {
    pub(super) fn get(&self, index: usize) -> i32 {
        match self {
            Self::Narrow(data) => i32::from(data[index]),
            Self::Wide(data) => data[index],
        }
    }

    fn len(&self) -> usize {
        match self {
            Self::Narrow(data) => data.len(),
            Self::Wide(data) => data.len(),
        }
    }

    /// Sum and largest of the magnitudes of each output channel, piece by piece of K: `[channel][piece]`.
    fn magnitudes(&self, product: &Product, length: usize) -> (Vec<[u64; SEGMENTS]>, u64) {
        match self {
            Self::Narrow(data) => magnitudes(product, data, length, |w| u64::from(w.unsigned_abs())),
            Self::Wide(data) => magnitudes(product, data, length, |w| u64::from(w.unsigned_abs())),
        }
    }

    /// The elements of some ranges, one after the other, converted.
    fn copy<T>(&self, ranges: impl Iterator<Item = Range<usize>>, convert: impl Fn(i32) -> T) -> Vec<T> {
        let mut copied = Vec::new();
        for range in ranges {
            match self {
                Self::Narrow(data) => copied.extend(data[range].iter().map(|&w| convert(i32::from(w)))),
                Self::Wide(data) => copied.extend(data[range].iter().map(|&w| convert(w))),
            }
        }
        copied
    }
}

/// Shape of the product.
#[derive(Clone, Copy)]
pub(super) enum Product {
    /// A convolution.
    Conv(Geometry),
    /// `x [m, k]` by a weight `[n, k]` if `transposed`, else `[k, n]`.
    Matrix { m: usize, k: usize, n: usize, transposed: bool },
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
/// Weights of at most so many elements are converted once, others block by block: 64 MiB of float32.
const CONVERTED_ONCE: usize = 1 << 24;
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
    if let Product::Conv(geometry) = product
        && geometry.c == 1
    {
        return depthwise(geometry, operands, finish);
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
    match method {
        Method::Float32(piece) => by_floats::<f32>(product, operands, piece, |value| value as f32, finish),
        Method::Float64 => by_floats::<f64>(product, operands, k, f64::from, finish),
        Method::Loops => Ok(per_output(product, operands, |channel, taps| {
            let sum = (0..k)
                .map(|k| i64::from(taps[k]) * i64::from(operands.weight.get(product.weight_index(channel, k))))
                .sum();
            finish(channel, sum)
        })),
    }
}

/// Sums of products by matrix products of `T`; `convert` is exact on the operands.
fn by_floats<T: Real>(
    product: &Product,
    operands: &Operands,
    piece: usize,
    convert: impl Fn(i32) -> T + Sync,
    finish: impl Fn(usize, i64) -> i32 + Sync,
) -> Outcome<Vec<i32>> {
    let x: Vec<T> = operands.x.iter().map(|&value| convert(value)).collect();
    let finish = |channel, sum| finish(channel, exact_i64(sum));
    let weight = &operands.weight;
    match *product {
        Product::Matrix { m, k, n, transposed } => {
            let part = |channels: Range<usize>| {
                Cow::Owned(if transposed {
                    weight.copy(std::iter::once(channels.start * k..channels.end * k), &convert)
                } else {
                    weight.copy((0..k).map(|k| k * n + channels.start..k * n + channels.end), &convert)
                })
            };
            matrix([m, k, n], &x, part, transposed, piece, finish)
        }
        Product::Conv(geometry) => {
            let k = geometry.k();
            let range = |channels: Range<usize>| channels.start * k..channels.end * k;
            let whole = if weight.len() <= CONVERTED_ONCE {
                weight.copy(std::iter::once(0..weight.len()), &convert)
            } else {
                Vec::new()
            };
            let part = |channels: Range<usize>| match whole.get(range(channels.clone())) {
                Some(part) => Cow::Borrowed(part),
                None => Cow::Owned(weight.copy(std::iter::once(range(channels)), &convert)),
            };
            convolve(&geometry, &x, part, piece, finish)
        }
    }
}

/// The cheapest method that is exact.
fn choose(product: &Product, operands: &Operands) -> Outcome<Method> {
    let k = product.k();
    let weight = &operands.weight;
    let x_max = largest(&operands.x);
    let length = k.div_ceil(SEGMENTS).max(1);
    let (sums, w_max) = weight.magnitudes(product, length);
    for pieces in [1, 2, 4, 8] {
        let merged = SEGMENTS / pieces;
        let sum = sums.iter().flat_map(|sums| sums.chunks(merged)).map(|sums| sums.iter().sum::<u64>()).max();
        let bound = sum.unwrap_or(0).saturating_mul(x_max);
        if bound <= FLOAT32_EXACT && x_max <= FLOAT32_EXACT && w_max <= FLOAT32_EXACT {
            return Ok(Method::Float32((length * merged).min(k)));
        }
    }
    let bound = sums.iter().map(|sums| sums.iter().sum::<u64>()).max().unwrap_or(0).saturating_mul(x_max);
    match bound {
        0..=FLOAT64_EXACT => Ok(Method::Float64),
        _ if bound <= INTEGER_EXACT => Ok(Method::Loops),
        _ => Err(Reason::Type("the sums of products do not fit 64 bits".into())),
    }
}

/// Walks the weight in its own order: positions are counted and not divided for.
fn magnitudes<T: Copy>(
    product: &Product,
    weight: &[T],
    length: usize,
    magnitude: impl Fn(T) -> u64,
) -> (Vec<[u64; SEGMENTS]>, u64) {
    let mut sums = vec![[0_u64; SEGMENTS]; product.channels()];
    let mut largest = 0;
    let mut add = |sum: &mut u64, w: T| {
        let magnitude = magnitude(w);
        largest = magnitude.max(largest);
        *sum += magnitude;
    };
    match *product {
        Product::Matrix { n, transposed: false, .. } => {
            for (segment, rows) in weight.chunks((length * n).max(1)).enumerate() {
                for row in rows.chunks(n.max(1)) {
                    sums.iter_mut().zip(row).for_each(|(sums, &w)| add(&mut sums[segment], w));
                }
            }
        }
        _ => {
            for (sums, row) in sums.iter_mut().zip(weight.chunks(product.k().max(1))) {
                for (sum, segment) in sums.iter_mut().zip(row.chunks(length)) {
                    for &w in segment {
                        add(sum, w);
                    }
                }
            }
        }
    }
    (sums, largest)
}

fn largest(values: &[i32]) -> u64 {
    values.iter().map(|value| u64::from(value.unsigned_abs())).max().unwrap_or(0)
}

/// One input channel a group: tap by tap over whole output rows.
fn depthwise(geometry: &Geometry, operands: &Operands, finish: impl Fn(usize, i64) -> i32 + Sync) -> Outcome<Vec<i32>> {
    let (pixels, image, k) = (geometry.p * geometry.q, geometry.h * geometry.w, geometry.k());
    let x_max = largest(&operands.x);
    // One piece: K itself.
    let (sums, _) = operands.weight.magnitudes(&Product::Conv(*geometry), k.max(1));
    let bound = sums.iter().map(|sums| sums[0]).max().unwrap_or(0).saturating_mul(x_max);
    if bound > INTEGER_EXACT {
        return Err(Reason::Type("the sums of products do not fit 64 bits".into()));
    }
    let mut output = vec![0; geometry.n * geometry.groups * geometry.o * pixels];
    output.par_chunks_mut(pixels.max(1)).enumerate().for_each(|(plane, output)| {
        let (n, channel) = (plane / (geometry.groups * geometry.o), plane % (geometry.groups * geometry.o));
        let x = &operands.x[(n * geometry.groups + channel / geometry.o) * image..][..image];
        let weight: Vec<i32> = (channel * k..(channel + 1) * k).map(|index| operands.weight.get(index)).collect();
        if bound < 1 << 31 {
            let mut sums = vec![0_i32; pixels];
            // By the bound nothing wraps; said so, rows go by vectors.
            add_taps(geometry, x, &weight, &mut sums, |sum, x, w| *sum = sum.wrapping_add(x.wrapping_mul(w)));
            for (output, sum) in output.iter_mut().zip(sums) {
                *output = finish(channel, i64::from(sum));
            }
        } else {
            let mut sums = vec![0_i64; pixels];
            add_taps(geometry, x, &weight, &mut sums, |sum, x, w| *sum += i64::from(x) * i64::from(w));
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
                let Some(first) = geometry.column(inside.start, s) else { continue };
                let w = weight[r * columns + s];
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

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::{
        ir::Window,
        reference::{chunked::Order, integers::saturating_i64},
        tensor::Overflow,
    };

    /// The definition: seven loops, signed coordinates.
    fn direct(geometry: &Geometry, operands: &Operands) -> Vec<i64> {
        let window = geometry.window;
        let signed = |value: usize| i64::try_from(value).unwrap();
        let mut sums = Vec::new();
        for n in 0..geometry.n {
            for channel in 0..geometry.o * geometry.groups {
                for (p, q) in (0..geometry.p).flat_map(|p| (0..geometry.q).map(move |q| (p, q))) {
                    let mut sum = 0;
                    for c in 0..geometry.c {
                        for (r, s) in (0..window.kernel[0]).flat_map(|r| (0..window.kernel[1]).map(move |s| (r, s))) {
                            let y = signed(p * window.stride[0] + r * window.dilation[0]) - signed(window.pad[0]);
                            let x = signed(q * window.stride[1] + s * window.dilation[1]) - signed(window.pad[1]);
                            if y < 0 || x < 0 || y >= signed(geometry.h) || x >= signed(geometry.w) {
                                continue;
                            }
                            let (y, x) = (usize::try_from(y).unwrap(), usize::try_from(x).unwrap());
                            let input = channel / geometry.o * geometry.c + c;
                            let plane = n * geometry.groups * geometry.c + input;
                            let w = ((channel * geometry.c + c) * window.kernel[0] + r) * window.kernel[1] + s;
                            let x = operands.x[(plane * geometry.h + y) * geometry.w + x];
                            sum += i64::from(x) * i64::from(operands.weight.get(w));
                        }
                    }
                    sums.push(sum);
                }
            }
        }
        sums
    }

    /// A `finish` that keeps what matters of a sum in 32 bits.
    fn fold(channel: usize, sum: i64) -> i32 {
        let mixed = sum.wrapping_mul(0x9e37_79b9).wrapping_add(i64::try_from(channel).unwrap());
        i32::try_from((mixed ^ (mixed >> 29)) & 0x7fff_ffff).unwrap()
    }

    fn folded(sums: &[i64], channels: usize, pixels: usize) -> Vec<i32> {
        sums.iter().enumerate().map(|(index, &sum)| fold(index / pixels % channels, sum)).collect()
    }

    prop_compose! {
        fn geometries()(
            n in 1_usize..3, groups in 1_usize..4, c in 1_usize..5, o in 1_usize..5,
            size in prop::array::uniform2(1_usize..8),
            kernel in prop::array::uniform2(1_usize..4), stride in prop::array::uniform2(1_usize..4),
            dilation in prop::array::uniform2(1_usize..3), pad in prop::array::uniform4(0_usize..4),
        ) -> Option<Geometry> {
            let window = Window { kernel, stride, dilation, pad };
            let [h, w] = size;
            Geometry::new(&[n, c * groups, h, w], &[o * groups, c, kernel[0], kernel[1]], &window, groups).ok()
        }
    }

    fn convolutions(bound: i32) -> impl Strategy<Value = (Geometry, Operands)> {
        geometries().prop_filter_map("fits", |geometry| geometry).prop_flat_map(move |geometry| {
            let x = prop::collection::vec(
                -bound..=bound,
                geometry.n * geometry.groups * geometry.c * geometry.h * geometry.w,
            );
            let weight = prop::collection::vec(-bound..=bound, geometry.groups * geometry.o * geometry.k());
            (Just(geometry), x, weight)
                .prop_map(|(geometry, x, weight)| (geometry, Operands { x, weight: Weight::Wide(weight) }))
        })
    }

    proptest! {
        #[test]
        fn every_method_computes_the_convolution_as_defined(
            (geometry, operands) in prop_oneof![convolutions(255), convolutions(65535)], piece in 1_usize..40,
        ) {
            let product = Product::Conv(geometry);
            let expected = folded(&direct(&geometry, &operands), product.channels(), geometry.p * geometry.q);
            let small = largest(&operands.x) < 256;
            prop_assert_eq!(&exact(&product, &operands, fold).unwrap(), &expected);
            prop_assert_eq!(&with_method(choose(&product, &operands).unwrap(), &product, &operands, fold).unwrap(), &expected);
            prop_assert_eq!(&with_method(Method::Float64, &product, &operands, fold).unwrap(), &expected);
            prop_assert_eq!(&with_method(Method::Loops, &product, &operands, fold).unwrap(), &expected);
            if small {
                prop_assert_eq!(&with_method(Method::Float32(piece), &product, &operands, fold).unwrap(), &expected);
            }
            if geometry.c == 1 {
                prop_assert_eq!(&depthwise(&geometry, &operands, fold).unwrap(), &expected);
            }
        }

        #[test]
        fn every_method_computes_the_matrix_product_as_defined(
            [m, k, n] in prop::array::uniform3(1_usize..20),
            transposed in any::<bool>(),
            seed in prop::collection::vec(-255..=255, 800),
        ) {
            let operands = Operands { x: seed[..m * k].to_vec(), weight: Weight::Wide(seed[400..400 + k * n].to_vec()) };
            let product = Product::Matrix { m, k, n, transposed };
            let mut expected = Vec::new();
            for row in 0..m {
                for column in 0..n {
                    let weight = |k_at: usize| if transposed { column * k + k_at } else { k_at * n + column };
                    let sum = (0..k).map(|at| i64::from(operands.x[row * k + at] * operands.weight.get(weight(at)))).sum();
                    expected.push(fold(column, sum));
                }
            }
            for method in [Method::Float32(3), Method::Float32(k), Method::Float64, Method::Loops] {
                prop_assert_eq!(&with_method(method, &product, &operands, fold).unwrap(), &expected, "{:?}", method);
            }
            prop_assert_eq!(&exact(&product, &operands, fold).unwrap(), &expected);
        }

        #[test]
        fn chunks_of_ample_width_give_the_exact_sums_in_any_order(
            (geometry, operands) in convolutions(255), cut in 1_u32..9, turn in 0_usize..50,
            overflow in prop_oneof![Just(Overflow::Wrap), Just(Overflow::Saturate)],
            bits in prop::array::uniform2(32_u8..=64),
        ) {
            let product = Product::Conv(geometry);
            let k = u32::try_from(product.k()).unwrap();
            let mut permutation: Vec<u32> = (0..k).rev().collect();
            permutation.rotate_left(turn % product.k());
            let mut chunks = vec![cut; (k / cut) as usize];
            chunks.push(k % cut);
            for permutation in [&[][..], &permutation] {
                let order = Order::new(&product, permutation, &chunks, bits, overflow).unwrap();
                prop_assert_eq!(
                    order.run(&product, &operands, &[], fold),
                    exact(&product, &operands, fold).unwrap()
                );
            }
        }

        #[test]
        fn wrapping_adders_of_one_width_give_the_low_bits_of_the_exact_sum(
            (geometry, operands) in convolutions(255), cut in 1_u32..9, bits in 1_u8..40,
        ) {
            let product = Product::Conv(geometry);
            let k = u32::try_from(product.k()).unwrap();
            let mut chunks = vec![cut; (k / cut) as usize];
            chunks.push(k % cut);
            let order = Order::new(&product, &[], &chunks, [bits; 2], Overflow::Wrap).unwrap();
            let modulus = 1_i64 << bits;
            let low_bits = |channel, sum: i64| {
                let low = sum.rem_euclid(modulus);
                fold(channel, if low >= modulus / 2 { low - modulus } else { low })
            };
            prop_assert_eq!(order.run(&product, &operands, &[], fold), exact(&product, &operands, low_bits).unwrap());
        }
    }

    #[test]
    fn float32_is_chosen_up_to_its_exact_range_and_not_past_it() {
        let operands = |x: i32, k: usize| Operands { x: vec![x; k], weight: Weight::Narrow(vec![127; k]) };
        let matrix = |k| Product::Matrix { m: 1, k, n: 1, transposed: true };
        let choice = |x, k| choose(&matrix(k), &operands(x, k)).unwrap();
        assert_eq!(choice(255, 518), Method::Float32(518));
        assert_eq!(choice(255, 519), Method::Float32(260));
        assert_eq!(choice(255, 4608), Method::Float64);
        assert_eq!(choice(65535, 2), Method::Float32(2));
        assert_eq!(choice(65535, 100), Method::Float64);
    }

    #[test]
    fn saturating_adders_depend_on_the_order_and_follow_it() {
        // K = 4 products: 100, 100, -100, -100; 8-bit adders.
        let operands = Operands { x: vec![100, 100, -100, -100], weight: Weight::Narrow(vec![1; 4]) };
        let product = Product::Matrix { m: 1, k: 4, n: 1, transposed: true };
        let run = |permutation: &[u32], chunks: &[u32], bits, bias: &[i64]| {
            let order = Order::new(&product, permutation, chunks, bits, Overflow::Saturate).unwrap();
            order.run(&product, &operands, bias, |_, sum| i32::try_from(sum).unwrap())[0]
        };
        // 100, 127, 27, -73.
        assert_eq!(run(&[], &[4], [8, 32], &[]), -73);
        // 100, 0, 100, 0.
        assert_eq!(run(&[0, 2, 1, 3], &[4], [8, 32], &[]), 0);
        // Chunks start at zero: 127, then -128; the wide accumulator adds them.
        assert_eq!(run(&[], &[2, 2], [8, 32], &[]), -1);
        // Wide columns, narrow accumulator: 200 becomes 127, then -73; the bias saturates as well.
        assert_eq!(run(&[], &[2, 2], [32, 8], &[]), -73);
        assert_eq!(run(&[], &[2, 2], [32, 8], &[-1000]), -128);
    }

    #[test]
    fn the_order_counts_kernel_positions_before_channels() {
        // Two channels of a 1x2 kernel. In the weight's own order (c, s) the products are 5, -5, 5, -5; the array meets
        // (s, c): 5, 5, -5, -5. In chunks of 2, a 4-bit column saturates at 7 and at -8.
        let window = Window { kernel: [1, 2], ..Window::UNIT };
        let geometry = Geometry::new(&[1, 2, 1, 2], &[1, 2, 1, 2], &window, 1).unwrap();
        let operands = Operands { x: vec![5, -5, 5, -5], weight: Weight::Narrow(vec![1; 4]) };
        let product = Product::Conv(geometry);
        let run = |permutation: &[u32]| {
            let order = Order::new(&product, permutation, &[2, 2], [4, 32], Overflow::Saturate).unwrap();
            order.run(&product, &operands, &[], |_, sum| i32::try_from(sum).unwrap())[0]
        };
        assert_eq!(run(&[]), 7 - 8);
        assert_eq!(run(&[0, 2, 1, 3]), 0);
    }

    #[test]
    fn an_order_that_is_not_one_of_the_product_is_refused() {
        let product = Product::Matrix { m: 1, k: 3, n: 1, transposed: true };
        let order = |permutation: &[u32], chunks: &[u32], bits| {
            Order::new(&product, permutation, chunks, bits, Overflow::Wrap).is_ok()
        };
        assert!(order(&[2, 0, 1], &[1, 2], [8, 64]));
        for (permutation, chunks, bits) in [
            (&[0, 1][..], &[3][..], [8, 8]),
            (&[0, 1, 1], &[3], [8, 8]),
            (&[0, 1, 3], &[3], [8, 8]),
            (&[0, 1, 2, 2], &[3], [8, 8]),
            (&[], &[2], [8, 8]),
            (&[], &[3], [0, 8]),
            (&[], &[3], [8, 65]),
        ] {
            assert!(!order(permutation, chunks, bits), "{permutation:?} {chunks:?} {bits:?}");
        }
        assert_eq!(saturating_i64(f32::NAN), 0);
    }
}
