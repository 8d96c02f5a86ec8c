//! Elements of synthetic constants and of random inputs. An element depends on its seed and its index alone, by
//! integer arithmetic and single IEEE operations, so that every machine and every order of work gives the same bits.

use ndarray::{ArrayD, IxDyn};
use std::sync::LazyLock;

use crate::{
    ir::{Constant, Distribution, Value},
    tensor::{DType, Tensor, checked_elements},
};

/// Largest number of elements that [`materialize`] and [`random_input`] make.
pub const MAX_ELEMENTS: u64 = 1 << 31;

/// Increment of splitmix64 (Steele, Lea, Flood 2014): 2^64 divided by the golden ratio.
const GOLDEN: u64 = 0x9E37_79B9_7F4A_7C15;

/// The seed of a named thing: FNV-1a over the parts, each closed by a zero byte. Seeds of a layer list are made of the
/// network's name, the layer's name and `weight` or `bias`, so that a layer's constants stay when others come and go.
pub fn seed(parts: &[&str]) -> u64 {
    let bytes = parts.iter().flat_map(|part| part.bytes().chain([0]));
    bytes.fold(0xCBF2_9CE4_8422_2325, |hash, byte| (hash ^ u64::from(byte)).wrapping_mul(0x0100_0000_01B3))
}

/// 64 random bits of a position: splitmix64's output at counter `index`.
#[inline]
pub const fn hash(seed: u64, index: u64) -> u64 {
    let mut bits = seed.wrapping_add(index.wrapping_add(1).wrapping_mul(GOLDEN));
    bits = (bits ^ (bits >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
    bits = (bits ^ (bits >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
    bits ^ (bits >> 31)
}

/// The elements of a synthetic constant of type int4, int8, uint8, int16, uint16 or int32 (int4 is stored as int8).
/// `None` for a value without a recipe, of another type, of more than [`MAX_ELEMENTS`], or whose distribution leaves
/// its type.
pub fn materialize(value: &Value) -> Option<Tensor> {
    let Some(Constant::Synthetic(recipe)) = &value.constant else { return None };
    let count = usize::try_from(checked_elements(&value.shape, MAX_ELEMENTS)?).ok()?;
    let (low, high) = value.dtype.int_range()?;
    let (smallest, largest) = match recipe.distribution {
        Distribution::Normal { sigma, limit } if sigma.is_finite() && sigma >= 0.0 && limit >= 0 => (-limit, limit),
        Distribution::Uniform { low, high } if low <= high => (low, high),
        _ => return None,
    };
    if i64::from(smallest) < low || i64::from(largest) > high {
        return None;
    }
    let shape = value.shape.as_slice();
    let (seed, distribution) = (recipe.seed, &recipe.distribution);
    match value.dtype {
        DType::Int4 | DType::Int8 => array(shape, narrow(seed, distribution, count)).map(Tensor::I8),
        DType::UInt8 => array(shape, narrow(seed, distribution, count)).map(Tensor::U8),
        DType::Int16 => array(shape, wide(seed, distribution, count)).map(Tensor::I16),
        DType::UInt16 => array(shape, wide(seed, distribution, count)).map(Tensor::U16),
        DType::Int32 => array(shape, wide(seed, distribution, count)).map(Tensor::I32),
        _ => None,
    }
}

fn array<T>(shape: &[usize], elements: Vec<T>) -> Option<ArrayD<T>> {
    ArrayD::from_shape_vec(IxDyn(shape), elements).ok()
}

/// Number of entries of a quantile table: 16 bits of a hash choose one.
const ENTRIES: usize = 1 << 16;

/// Elements of 8 bits: a table of the distribution's quantiles, four elements a hash. About 0.6 ns an element.
fn narrow<T: Copy + Default + TryFrom<i32>>(seed: u64, distribution: &Distribution, count: usize) -> Vec<T> {
    let table: Vec<T> =
        quantiles(distribution).into_iter().map(|value| T::try_from(value).unwrap_or_default()).collect();
    let table: &[T; ENTRIES] = table.as_slice().try_into().expect("a quantile table has 2^16 entries");
    let mut elements = vec![T::default(); count];
    let lane = |bits: u64, shift: u32| table[usize::from(low16(bits >> shift))];
    let mut blocks = elements.chunks_exact_mut(4);
    let mut index = 0_u64;
    for block in &mut blocks {
        let bits = hash(seed, index);
        block.copy_from_slice(&[lane(bits, 0), lane(bits, 16), lane(bits, 32), lane(bits, 48)]);
        index += 1;
    }
    let bits = hash(seed, index);
    for (element, shift) in blocks.into_remainder().iter_mut().zip([0, 16, 32]) {
        *element = lane(bits, shift);
    }
    elements
}

#[allow(clippy::cast_possible_truncation)] // The upper bits are what is dropped.
const fn low16(bits: u64) -> u16 {
    bits as u16
}

/// The distribution's value at each of 2^16 equally likely ranks, in ascending order.
///
/// The normal distribution is that of the sum of twelve uniform bytes (Irwin and Hall): symmetric around 1530, with a
/// standard deviation of 255.998, and 2^16 ranks reach 4.2 deviations. All of it is exact integer arithmetic up to one
/// rounded product, so the table does not depend on a mathematics library.
fn quantiles(distribution: &Distribution) -> Vec<i32> {
    match *distribution {
        Distribution::Uniform { low, high } => {
            let span = (i64::from(high) - i64::from(low) + 1).unsigned_abs();
            (0..ENTRIES as u64).map(|rank| scaled(low, span, rank << 16)).collect()
        }
        Distribution::Normal { sigma, limit } => {
            let mut table = Vec::with_capacity(ENTRIES);
            for (sum, &end) in IRWIN_HALL.iter().enumerate() {
                let deviation = (sum as f64 - 1530.0) / 256.0;
                table.resize(end, rounded(deviation * f64::from(sigma), limit));
            }
            table
        }
    }
}

/// For each sum of twelve uniform bytes, the number of the 2^16 ranks at or below it.
static IRWIN_HALL: LazyLock<Vec<usize>> = LazyLock::new(|| {
    // Ways to reach each sum: a convolution with 256 ones for each byte, by prefix sums; at most 256^12 = 2^96.
    let mut ways = vec![1_u128];
    for _ in 0..12 {
        let mut next = Vec::with_capacity(ways.len() + 255);
        let mut window = 0;
        for sum in 0..ways.len() + 255 {
            window += ways.get(sum).copied().unwrap_or(0);
            next.push(window);
            window -= sum.checked_sub(255).and_then(|old| ways.get(old)).copied().unwrap_or(0);
        }
        ways = next;
    }
    let mut below = 0_u128;
    ways.iter()
        .map(|&ways| {
            below += ways;
            usize::try_from((below + (1 << 79)) >> 80).expect("a share of 2^16 ranks fits")
        })
        .collect()
});

/// Rounds to the nearest integer, ties to even, clamped to `±limit`.
#[allow(clippy::cast_possible_truncation)] // Clamped to the range of `limit` first.
fn rounded(value: f64, limit: i32) -> i32 {
    value.round_ties_even().clamp(-f64::from(limit), f64::from(limit)) as i32
}

/// `low + floor(span * bits / 2^32)`, for 32 bits and a span of at most 2^32.
fn scaled(low: i32, span: u64, bits: u64) -> i32 {
    let offset = i64::try_from((span * bits) >> 32).expect("an offset is below its span");
    i32::try_from(i64::from(low) + offset).expect("an offset stays inside its span")
}

/// Elements of more than 8 bits, which are few: normal values from the sum of eight uniform 16-bit numbers (standard
/// deviation 53509.9), two hashes an element.
fn wide<T: Default + TryFrom<i32>>(seed: u64, distribution: &Distribution, count: usize) -> Vec<T> {
    let element = |index: u64| match *distribution {
        Distribution::Uniform { low, high } => {
            let span = (i64::from(high) - i64::from(low) + 1).unsigned_abs();
            scaled(low, span, hash(seed, index) >> 32)
        }
        Distribution::Normal { sigma, limit } => {
            let [first, second] = [hash(seed, 2 * index), hash(seed, 2 * index + 1)];
            let lanes =
                [0, 16, 32, 48].map(|shift| u32::from(low16(first >> shift)) + u32::from(low16(second >> shift)));
            let sum: u32 = lanes.iter().sum();
            rounded((f64::from(sum) - 262_140.0) / 53_509.9 * f64::from(sigma), limit)
        }
    };
    (0..count as u64).map(|index| T::try_from(element(index)).unwrap_or_default()).collect()
}

/// A random input with the statistics of a normalized photograph: smooth over the last two dimensions, alike across
/// channels, a little noise; of rank below 3, noise alone. Integers are centred on their range with a deviation of
/// about a fifth of it; floats have mean 0 and a deviation of about 1.
///
/// # Panics
/// If the value has more than [`MAX_ELEMENTS`]; importers bound inputs.
pub fn random_input(value: &Value, seed: u64) -> Tensor {
    let count = checked_elements(&value.shape, MAX_ELEMENTS).expect("importers bound inputs");
    let pixels = Pixels::new(&value.shape, seed);
    let shape = IxDyn(&value.shape);
    let offset = |zero: i32| move |pixel: i32| u8::try_from(pixel + zero).unwrap_or_default();
    match value.dtype {
        DType::Bool => Tensor::Bool(all(shape, count, &pixels, |pixel| pixel >= 0)),
        DType::UInt8 => Tensor::U8(all(shape, count, &pixels, offset(128))),
        DType::Int4 => Tensor::I8(all(shape, count, &pixels, |pixel| i8::try_from(pixel >> 4).unwrap_or_default())),
        DType::Int8 => Tensor::I8(all(shape, count, &pixels, |pixel| i8::try_from(pixel).unwrap_or_default())),
        DType::Int16 => Tensor::I16(all(shape, count, &pixels, |pixel| i16::try_from(pixel * 256).unwrap_or_default())),
        DType::UInt16 => {
            Tensor::U16(all(shape, count, &pixels, |pixel| u16::try_from((pixel + 128) * 256).unwrap_or_default()))
        }
        DType::Int32 => Tensor::I32(all(shape, count, &pixels, |pixel| pixel)),
        DType::UInt32 => Tensor::U32(all(shape, count, &pixels, i32::unsigned_abs)),
        DType::Int64 => Tensor::I64(all(shape, count, &pixels, i64::from)),
        DType::Fp64 => Tensor::F64(all(shape, count, &pixels, |pixel| f64::from(pixel) / 50.0)),
        DType::Fp8 | DType::Bf16 | DType::Fp16 | DType::Fp32 => {
            Tensor::F32(all(shape, count, &pixels, |pixel| f32::from(i16::try_from(pixel).unwrap_or_default()) / 50.0))
        }
    }
}

/// All elements, each from a number of -128..=127.
fn all<T>(shape: IxDyn, count: u64, pixels: &Pixels, convert: impl Fn(i32) -> T) -> ArrayD<T> {
    let elements = (0..count).map(|index| convert(pixels.at(index))).collect();
    ArrayD::from_shape_vec(shape, elements).expect("as many elements as the shape holds")
}

/// Value noise: a coarse random grid, interpolated, and noise a pixel.
struct Pixels {
    seed: u64,
    /// Rows and columns of an image.
    size: [u64; 2],
    channels: u64,
    /// Whether there are images at all.
    smooth: bool,
}

/// Cells of the coarse grid along each side of an image.
const CELLS: u64 = 8;

impl Pixels {
    fn new(shape: &[usize], seed: u64) -> Self {
        let (channels, size, smooth) = match *shape {
            [.., channels, rows, columns] if shape.len() > 3 => (channels, [rows, columns], true),
            [.., rows, columns] if shape.len() == 3 => (1, [rows, columns], true),
            _ => (1, [1, 1], false),
        };
        Self { seed, size: size.map(|extent| extent as u64), channels: channels as u64, smooth }
    }

    /// Of -128..=127.
    fn at(&self, index: u64) -> i32 {
        let bits = hash(self.seed, index);
        if !self.smooth {
            return byte(bits);
        }
        let [rows, columns] = self.size;
        let (column, row) = (index % columns, index / columns % rows);
        let plane = index / (rows * columns);
        let image = plane / self.channels;
        // Position in 1/256 of a cell.
        let [y, x] = [row * CELLS * 256 / rows, column * CELLS * 256 / columns];
        let corner = |plane: u64, down: u64, right: u64| {
            let at = (plane * (CELLS + 1) + y / 256 + down) * (CELLS + 1) + x / 256 + right;
            i64::from(byte(hash(!self.seed, at)))
        };
        let [fy, fx] = [y % 256, x % 256].map(|part| i64::try_from(part).expect("below 256"));
        let smooth = |plane: u64| {
            let along = |down| corner(plane, down, 0) * (256 - fx) + corner(plane, down, 1) * fx;
            (along(0) * (256 - fy) + along(1) * fy) >> 16
        };
        // Two parts luminance, which an image's channels share, and one part colour.
        let luminance = smooth(image * (self.channels + 1));
        let colour = smooth(image * (self.channels + 1) + 1 + plane % self.channels);
        let pixel = i64::midpoint(luminance * 2, colour) + i64::from(byte(bits)) / 8;
        i32::try_from(pixel.clamp(-128, 127)).expect("clamped to a byte")
    }
}

/// The low byte, as -128..=127.
fn byte(bits: u64) -> i32 {
    i32::from(low16(bits & 0xFF)) - 128
}

#[cfg(test)]
mod tests;
