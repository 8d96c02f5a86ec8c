//! Weight images: the graph's weights cut into tiles, groups on the diagonal, parameter records behind; exactly as
//! `program::WeightImage` documents.

use super::{access::equal, error::Fault, requantizer::Record, store::Bytes};
use crate::{
    program::WeightImage,
    tensor::{Quantization, Requantizer, Tensor},
};

/// An element that weights may have, and its bytes.
trait Weight: Copy {
    fn put(self, out: &mut [u8]);
    fn of(value: i32) -> Self;
}

macro_rules! weight {
    ($($type:ty),*) => {
        $(impl Weight for $type {
            #[inline]
            fn put(self, out: &mut [u8]) {
                out.copy_from_slice(&self.to_le_bytes());
            }
            #[allow(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "zero points were checked to be in the type's range")]
            fn of(value: i32) -> Self {
                value as Self
            }
        })*
    };
}
weight!(i8, u8, i16, u16);

/// The sizes of an image as `usize`, checked against the weights.
struct Geometry {
    outputs: usize,
    channels: usize,
    taps: usize,
    /// Output and input channels of one group.
    group: [usize; 2],
    /// Output channels of the layer.
    total: usize,
    element: usize,
}

impl Geometry {
    fn new(image: &WeightImage, weights: &Tensor) -> Result<Self, Fault> {
        let size = |value: u32| usize::try_from(value).map_err(|_| Fault::Region("weight image"));
        let [outputs, channels] = [size(image.outputs)?, size(image.channels)?];
        let groups = size(image.groups_per_pass)?;
        let taps = size(image.kernel[0])?.checked_mul(size(image.kernel[1])?).ok_or(Fault::Region("weight image"))?;
        if groups == 0
            || outputs % groups != 0
            || channels % groups != 0
            || image.output_tile == 0
            || image.channel_tile == 0
        {
            return Err(Fault::Region("weight image: groups and tiles"));
        }
        let shape = weights.shape();
        let total = *(if image.input_major { shape.last() } else { shape.first() }).unwrap_or(&0);
        let group = [outputs / groups, channels / groups];
        let expected = total.checked_mul(group[1]).and_then(|count| count.checked_mul(taps));
        equal("elements of the weights", expected.map_or(u64::MAX, |count| count as u64), weights.len() as u64)?;
        let blocks = u64::from(image.passes).checked_mul(outputs as u64).unwrap_or(0);
        if blocks < total as u64 {
            return Err(Fault::Shape {
                what: "output channels of the weight image",
                expected: total as u64,
                found: blocks,
            });
        }
        let element = usize::from(image.element.bytes());
        equal("bytes of a weight", weights.dtype().bytes(), element as u64)?;
        let bytes = blocks.checked_mul(image.depth()).and_then(|count| count.checked_mul(element as u64));
        match bytes {
            Some(bytes) if bytes <= image.parameters_offset => {}
            _ => return Err(Fault::Region("weight image: weights reach into the parameters")),
        }
        Ok(Self { outputs, channels, taps, group, total, element })
    }
}

/// Writes an image. `weight` has the zero points that fill the space between groups.
pub(super) fn weights(
    image: &WeightImage,
    weights: &Tensor,
    weight: &Quantization,
    memory: &mut Bytes,
) -> Result<usize, Fault> {
    let geometry = Geometry::new(image, weights)?;
    macro_rules! typed {
        ($array:expr) => {
            fill(image, &geometry, $array.as_standard_layout().as_slice().unwrap_or_default(), weight, memory)
        };
    }
    match weights {
        Tensor::I8(array) => typed!(array),
        Tensor::U8(array) => typed!(array),
        Tensor::I16(array) => typed!(array),
        Tensor::U16(array) => typed!(array),
        other => Err(Fault::Type { what: "weights", dtype: other.dtype() }),
    }?;
    Ok(geometry.total)
}

fn fill<T: Weight>(
    image: &WeightImage,
    geometry: &Geometry,
    source: &[T],
    weight: &Quantization,
    memory: &mut Bytes,
) -> Result<(), Fault> {
    let &Geometry { outputs, channels, taps, group, total, element } = geometry;
    let [output_tile, channel_tile] =
        [image.output_tile, image.channel_tile].map(|tile| usize::try_from(tile).unwrap_or(usize::MAX));
    let depth = group[1] * taps;
    for pass in 0..image.passes {
        let first_output = outputs * usize::try_from(pass).unwrap_or(0);
        for (o, tile_output) in (0_u32..).zip((0..outputs).step_by(output_tile)) {
            let rows = output_tile.min(outputs - tile_output);
            for (c, tile_channel) in (0_u32..).zip((0..channels).step_by(channel_tile)) {
                let columns = channel_tile.min(channels - tile_channel);
                let row_bytes = taps * columns * element;
                let mut address =
                    i64::try_from(image.tile_address(pass, o, c)).map_err(|_| Fault::Region("address"))?;
                for n in tile_output..tile_output + rows {
                    let output = first_output + n;
                    let zero = zero_of(weight, output);
                    let own = n / group[0] * group[1];
                    // The group's own channels inside this tile.
                    let from = own.clamp(tile_channel, tile_channel + columns);
                    let to = (own + group[1]).clamp(tile_channel, tile_channel + columns);
                    let target = memory.write(address, row_bytes)?;
                    for (tap, line) in target.chunks_exact_mut((columns * element).max(1)).enumerate() {
                        let mut slots = line.chunks_exact_mut(element);
                        let zeros = |count: usize, slots: &mut std::slice::ChunksExactMut<u8>| {
                            slots.by_ref().take(count).for_each(|slot| T::of(zero).put(slot));
                        };
                        if output >= total || from >= to {
                            zeros(columns, &mut slots);
                            continue;
                        }
                        zeros(from - tile_channel, &mut slots);
                        let step = if image.input_major { taps * total } else { taps };
                        let start = if image.input_major {
                            ((from - own) * taps + tap) * total + output
                        } else {
                            output * depth + (from - own) * taps + tap
                        };
                        let values = source[start..].iter().step_by(step);
                        slots.by_ref().take(to - from).zip(values).for_each(|(slot, value)| value.put(slot));
                        zeros(tile_channel + columns - to, &mut slots);
                    }
                    if let Some(zeros) = memory.zeros_mut(address, row_bytes)? {
                        zeros.fill(zero);
                    }
                    memory.keep(address, row_bytes)?;
                    address += i64::try_from(row_bytes).map_err(|_| Fault::Region("address"))?;
                }
            }
        }
    }
    Ok(())
}

/// The zero point of an output channel; that of the last one beyond them (a ragged bundle of groups).
fn zero_of(weight: &Quantization, output: usize) -> i32 {
    match weight.zero_point.get(output).or(weight.zero_point.last()) {
        Some(&zero) => zero,
        None => 0,
    }
}

/// Writes the parameter records of `total` output channels behind the weights.
pub(super) fn parameters(
    image: &WeightImage,
    total: usize,
    bias: Option<&Tensor>,
    [input, weight, output]: [&Quantization; 3],
    requantizer: Requantizer,
    memory: &mut Bytes,
) -> Result<(), Fault> {
    let biases = match bias {
        None => None,
        Some(tensor) => {
            equal("elements of the bias", total as u64, tensor.len() as u64)?;
            Some(tensor.to_integers().ok_or(Fault::Type { what: "a bias", dtype: tensor.dtype() })?)
        }
    };
    for quantization in [input, weight, output] {
        if quantization.scale.is_empty() {
            return Err(Fault::Arithmetic("a scale"));
        }
    }
    if !weight.is_per_tensor() {
        equal("scales of the weights", total as u64, weight.scale.len() as u64)?;
    }
    let mut bytes = Vec::new();
    for channel in 0..total {
        let bias = biases.as_ref().map_or(0, |values| values[channel]);
        let bias = i32::try_from(bias).map_err(|_| Fault::Arithmetic("a bias of 32 bits"))?;
        let scales = [input.scale[0], weight.scale_of(channel), output.scale[0]];
        Record::derive(requantizer, bias, scales, channel)?.encode(requantizer, &mut bytes);
    }
    let address = image.base.checked_add(image.parameters_offset).and_then(|address| i64::try_from(address).ok());
    let address = address.ok_or(Fault::Region("address"))?;
    if image.parameters_offset.checked_add(bytes.len() as u64).is_none_or(|end| end > image.bytes) {
        return Err(Fault::Region("weight image: parameters past its end"));
    }
    memory.write(address, bytes.len())?.copy_from_slice(&bytes);
    memory.keep(address, bytes.len())
}
