//! The mapping of layers on the vector unit: element-wise functions, pooling, softmax, copies. All are walks over an
//! output `[n, p, q, c]` that read one or two images; element-wise ones have a 1x1 window.

use smallvec::{SmallVec, smallvec};

use super::{
    cost::{Image, Part, Rates, Requests, Transfers, grid_transfer, image_transfer},
    search::Infeasible,
    tiling::{Halo, Lengths, Range, apart, distinct_tiles, halo, halo_lengths, reach, read, tile_lengths, tile_range},
};
use crate::{
    config::{Accelerator, BufferLayout, MemoryId, VectorFunction},
    tensor::DType,
    units::Time,
};

/// An operand's extents where it is not the whole image: a dimension of 1 is broadcast.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct OperandShape {
    /// Images, rows, columns, channels.
    pub extent: [u32; 4],
    /// Type of its elements.
    pub element: DType,
    /// Whether it lies on chip already.
    pub resident: bool,
    /// The memory space that it is loaded from.
    pub memory: MemoryId,
}

/// Loop bounds of a layer on the vector unit: a window over images, or element by element.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct VectorShape {
    /// Output images, rows, columns, channels.
    pub output: [u32; 4],
    /// Type of output elements.
    pub output_element: DType,
    /// Whether the output stays on chip.
    pub output_resident: bool,
    /// The memory space that it is stored to.
    pub output_memory: MemoryId,
    /// Operands: one or two.
    pub operands: Vec<OperandShape>,
    /// Kernel rows and columns of the first operand's window.
    pub kernel: [u32; 2],
    /// Step between outputs.
    pub stride: [u32; 2],
    /// Step between taps.
    pub dilation: [u32; 2],
    /// Padding at the top and at the left.
    pub pad: [u32; 2],
}

/// How one layer, or one operand of a concatenation, runs.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct VectorMapping {
    /// What is computed; `None` where data is only moved through a buffer.
    pub function: Option<VectorFunction>,
    /// The loop bounds.
    pub shape: VectorShape,
    /// Cycles a lane takes for one element, or one tap of it.
    pub cycles_per_element: u32,
    /// Tile: images, output rows, output columns, channels.
    pub tile: [u32; 4],
    /// Slots of each operand.
    pub input_slots: u32,
    /// Slots of the output.
    pub output_slots: u32,
}

/// A tile of the output, by its indices.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct VectorStep {
    /// Images, output rows, output columns, channels.
    pub ranges: [Range; 4],
}

impl VectorMapping {
    /// Trip counts: images, rows, columns, channels.
    pub fn trips(&self) -> [u32; 4] {
        std::array::from_fn(|i| self.shape.output[i].div_ceil(self.tile[i]))
    }

    /// Tiles of the output.
    pub fn steps(&self) -> u64 {
        self.trips().iter().map(|&trips| u64::from(trips)).product()
    }

    /// The `index`-th tile, channels fastest.
    ///
    /// # Panics
    /// Never for an index below `steps()`.
    pub fn step(&self, index: u64) -> VectorStep {
        let trips = self.trips();
        let mut rest = index;
        let mut ranges = [Range { start: 0, len: 0 }; 4];
        for i in (0..4).rev() {
            let digit = u32::try_from(rest % u64::from(trips[i])).expect("below a 32-bit count");
            rest /= u64::from(trips[i]);
            ranges[i] = tile_range(self.shape.output[i], self.tile[i], digit);
        }
        VectorStep { ranges }
    }

    /// Whether the operand is read through a window; then there is only one. Element-wise functions broadcast instead.
    pub fn is_windowed(&self) -> bool {
        let s = &self.shape;
        s.kernel != [1, 1] || s.stride != [1, 1] || s.pad != [0, 0]
    }

    /// Bytes of a windowed operand that are read: rows and columns that no window reaches, or that one tap steps over,
    /// are not.
    pub fn window_read(&self) -> u64 {
        let (s, operand) = (&self.shape, &self.shape.operands[0]);
        let [n, height, width, c] = operand.extent;
        let [rows, cols] = [(0, height), (1, width)].map(|(axis, input)| {
            read(s.output[1 + axis], s.stride[axis], s.dilation[axis], s.kernel[axis], s.pad[axis], input)
        });
        operand.element.packed_bytes([n, rows, cols, c].iter().map(|&count| u64::from(count)).product())
    }

    /// Input rows (axis 0) or columns (axis 1) of operand 0 for an output range.
    pub fn halo(&self, axis: usize, output: Range) -> Halo {
        let s = &self.shape;
        let input = s.operands[0].extent[1 + axis];
        halo(output, s.stride[axis], s.dilation[axis], s.kernel[axis], s.pad[axis], input)
    }

    /// The box of operand `operand` that a tile needs: images, rows, columns, channels.
    pub fn operand_box(&self, operand: usize, step: &VectorStep) -> [Range; 4] {
        let extent = self.shape.operands[operand].extent;
        if self.is_windowed() {
            let [n, p, q, c] = step.ranges;
            return [n, self.halo(0, p).present, self.halo(1, q).present, c];
        }
        std::array::from_fn(|i| if extent[i] == 1 { Range { start: 0, len: 1 } } else { step.ranges[i] })
    }

    /// The sides of those boxes with their number, of all tiles, whose sides are `lengths`.
    fn operand_lengths(&self, operand: usize, lengths: &[Lengths; 4]) -> [Lengths; 4] {
        let s = &self.shape;
        let extent = s.operands[operand].extent;
        let windowed = |axis: usize| {
            let (output, tile) = (s.output[1 + axis], self.tile[1 + axis]);
            halo_lengths(output, tile, s.stride[axis], s.dilation[axis], s.kernel[axis], s.pad[axis], extent[1 + axis])
        };
        if self.is_windowed() {
            return [lengths[0].clone(), windowed(0), windowed(1), lengths[3].clone()];
        }
        let trips = self.trips();
        std::array::from_fn(|i| if extent[i] == 1 { smallvec![(1, u64::from(trips[i]))] } else { lengths[i].clone() })
    }

    /// Most input rows and columns that a window needs for a tile.
    fn reach(&self) -> [u32; 2] {
        [0, 1].map(|axis| {
            let (s, input) = (&self.shape, self.shape.operands[0].extent[1 + axis]);
            reach(self.tile[1 + axis], s.stride[axis], s.dilation[axis], s.kernel[axis], input)
        })
    }

    /// A load fetches every how many rows and columns of the box that a tile needs of an operand.
    pub fn operand_steps(&self, operand: usize, requests: Requests) -> [u32; 2] {
        let (s, shape) = (&self.shape, &self.shape.operands[operand]);
        if !self.is_windowed() {
            return [1, 1];
        }
        let [rows, cols] = self.reach();
        let [_, height, width, channels] = shape.extent;
        let apart = [0, 1].map(|axis| apart(s.stride[axis], s.kernel[axis], s.pad[axis]));
        requests.steps(apart, [rows, cols, self.tile[3]], [height, width, channels], shape.element)
    }

    fn operand_image(&self, operand: usize, requests: Requests) -> Image {
        let OperandShape { extent: [_, whole @ ..], element, .. } = self.shape.operands[operand];
        Image { whole, element, steps: self.operand_steps(operand, requests) }
    }

    fn output_image(&self) -> Image {
        let [_, whole @ ..] = self.shape.output;
        Image { whole, element: self.shape.output_element, steps: [1, 1] }
    }

    /// Bytes of a slot of an operand; 0 where it is resident.
    pub fn operand_slot(&self, operand: usize) -> u64 {
        let shape = &self.shape.operands[operand];
        if shape.resident {
            return 0;
        }
        let elements = if self.is_windowed() {
            let [rows, cols] = self.reach().map(u64::from);
            u64::from(self.tile[0]) * rows * cols * u64::from(self.tile[3])
        } else {
            (0..4).map(|i| u64::from(self.tile[i].min(shape.extent[i]))).product()
        };
        shape.element.packed_bytes(elements)
    }

    /// Bytes of an output slot; 0 where the output is resident or the data is only moved.
    pub fn output_slot(&self) -> u64 {
        if self.shape.output_resident || self.function.is_none() {
            return 0;
        }
        self.shape.output_element.packed_bytes(self.tile.iter().map(|&extent| u64::from(extent)).product())
    }

    /// Bytes by role: inputs and outputs.
    pub fn footprint(&self) -> (u64, u64) {
        let inputs: u64 = (0..self.shape.operands.len()).map(|i| self.operand_slot(i)).sum();
        (inputs * u64::from(self.input_slots), self.output_slot() * u64::from(self.output_slots))
    }

    fn fits(&self, accelerator: &Accelerator, reserved: u64) -> Result<(), Infeasible> {
        let (inputs, outputs) = self.footprint();
        let check = |buffer, needed: u64, available: u64| {
            if needed > available { Err(Infeasible { buffer, needed, available }) } else { Ok(()) }
        };
        match accelerator.config.buffers.layout {
            BufferLayout::Shared(pool) => check("shared buffer", inputs + outputs, pool.bytes.saturating_sub(reserved)),
            BufferLayout::Split { input, output, .. } => {
                check("input buffer", inputs, input.bytes)?;
                check("output buffer", outputs, output.bytes)
            }
        }
    }
}

/// Closed form of a vector layer.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct VectorCost {
    /// Useful bytes loaded.
    pub input_bytes: u64,
    /// Useful bytes stored.
    pub output_bytes: u64,
    /// Bursts that they take at least.
    pub bursts: u64,
    /// Lower bound of the span.
    pub bound: Time,
    /// Which part of the machine that is.
    pub bound_by: Part,
    /// What the choice minimizes.
    pub estimate: Time,
}

/// What all tiles move, and what the first and the last do.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
struct Movement {
    /// By operand, from its memory space.
    loads: SmallVec<[(MemoryId, Transfers); 3]>,
    /// The first tile's part of them.
    first: SmallVec<[(MemoryId, Transfers); 3]>,
    stores: Transfers,
    /// The last tile's store.
    last_store: Transfers,
    /// Elements of the first and the last tile.
    elements: [u64; 2],
}

/// Sums over tiles by the number of tiles of each size.
fn movement(mapping: &VectorMapping, requests: Requests) -> Movement {
    let shape = &mapping.shape;
    let lengths: [Lengths; 4] = std::array::from_fn(|i| tile_lengths(shape.output[i], mapping.tile[i]));
    let steps = [mapping.step(0), mapping.step(mapping.steps() - 1)];
    let size = |ranges: [Range; 4]| ranges.map(|range| u64::from(range.len));
    let mut movement =
        Movement { elements: steps.map(|step| size(step.ranges).iter().product()), ..Movement::default() };
    for (i, operand) in shape.operands.iter().enumerate().filter(|(_, operand)| !operand.resident) {
        let image = mapping.operand_image(i, requests);
        let grid =
            grid_transfer(mapping.operand_lengths(i, &lengths).each_ref().map(Lengths::as_slice), image, requests);
        let first = image_transfer(size(mapping.operand_box(i, &steps[0])), image, requests);
        movement.loads.push((operand.memory, grid));
        movement.first.push((operand.memory, first));
    }
    if !shape.output_resident {
        let image = mapping.output_image();
        movement.stores = grid_transfer(lengths.each_ref().map(Lengths::as_slice), image, requests);
        movement.last_store = image_transfer(size(steps[1].ranges), image, requests);
    }
    movement
}

/// The closed form of a mapping.
pub fn evaluate(mapping: &VectorMapping, rates: &Rates) -> VectorCost {
    let shape = &mapping.shape;
    let steps = mapping.steps();
    let Movement { loads, stores, first, last_store, elements } = movement(mapping, rates.requests());
    let taps = u64::from(shape.kernel[0]) * u64::from(shape.kernel[1]);
    let work = |elements: u64, instructions: u64| match mapping.function {
        None => Time::ZERO,
        Some(_) => rates.vector(
            elements.saturating_mul(taps),
            u64::from(mapping.cycles_per_element),
            rates.lanes(),
            instructions,
        ),
    };
    let [first_work, last_work] = elements.map(|elements| work(elements, 1));
    let elements: u64 = shape.output.iter().map(|&extent| u64::from(extent)).product();
    let total_work = work(elements, steps);
    let start = rates.commands(1);
    let head = start + rates.loads(&first);
    let load = rates.loads(&loads);
    // The last tile is the smallest.
    let store_last = rates.one_store(last_store, shape.output_memory);
    let all = loads.iter().fold(Transfers::default(), |sum, &(_, one)| sum.plus(one));
    let moves = rates.issued.transfers(all.plus(stores));
    let commands = moves.saturating_add(if mapping.function.is_some() { steps } else { 0 });
    let last_command = if shape.output_resident { last_work } else { store_last };
    let parts = [
        (Part::Vector, head + (total_work + store_last).max(rates.vector_engine(total_work, stores))),
        (Part::Load, start + load + last_work + store_last),
        (Part::Store, head + first_work + rates.stores(stores, shape.output_memory)),
        (Part::Memory, start + rates.shared_memory(&loads, stores, shape.output_memory)),
        (Part::Issue, rates.commands(commands) + last_command),
    ];
    let (mut bound, mut bound_by) = (Time::ZERO, Part::Vector);
    for (part, time) in parts {
        if time > bound {
            (bound, bound_by) = (time, part);
        }
    }
    let single = mapping.input_slots == 1 && steps > 1;
    let estimate = if single { bound.max(start + load + total_work + store_last) } else { bound };
    VectorCost {
        input_bytes: all.bytes,
        output_bytes: stores.bytes,
        bursts: all.plus(stores).bursts,
        bound,
        bound_by,
        estimate,
    }
}

/// The best tile of a vector layer. `whole_channels`: the channels must not be cut (softmax).
///
/// # Errors
/// Which buffer is short at the smallest tile.
pub fn best(
    base: &VectorMapping,
    accelerator: &Accelerator,
    rates: &Rates,
    reserved: u64,
    whole_channels: bool,
) -> Result<(VectorMapping, VectorCost), Infeasible> {
    /// Tiles that a layer may have at most in the comparison: more only add instructions.
    const MOST_STEPS: u64 = 4096;
    let [n, p, q, c] = base.shape.output;
    let mut pixels: Vec<[u32; 3]> = distinct_tiles(n).into_iter().map(|n| [n, p, q]).collect();
    pixels.extend(distinct_tiles(p).into_iter().map(|p| [1, p, q]));
    pixels.extend(distinct_tiles(q).into_iter().map(|q| [1, 1, q]));
    pixels.dedup();
    let channels = if whole_channels { vec![c] } else { distinct_tiles(c) };
    let slot_choices: &[u32] = if accelerator.config.buffers.double_buffering { &[2, 1] } else { &[1] };
    let mut chosen: Option<(VectorMapping, VectorCost)> = None;
    let mut shortage = None;
    for &channel_tile in &channels {
        for &slots in slot_choices {
            let mut tried = 0;
            for tile in &pixels {
                let mut mapping = VectorMapping {
                    tile: [tile[0], tile[1], tile[2], channel_tile],
                    input_slots: slots,
                    output_slots: slots,
                    ..base.clone()
                };
                let steps = mapping.steps();
                if steps == 1 {
                    (mapping.input_slots, mapping.output_slots) = (1, 1);
                }
                if let Err(short) = mapping.fits(accelerator, reserved) {
                    shortage = Some(short);
                    continue;
                }
                if steps > MOST_STEPS && chosen.is_some() {
                    break;
                }
                let cost = evaluate(&mapping, rates);
                if chosen.as_ref().is_none_or(|(_, known)| cost.estimate < known.estimate) {
                    chosen = Some((mapping, cost));
                }
                tried += 1;
                if tried == 12 {
                    break;
                }
            }
        }
        // Cutting channels makes runs short: only where nothing else fits.
        if chosen.is_some() {
            break;
        }
    }
    chosen.ok_or_else(|| shortage.unwrap_or(Infeasible { buffer: "shared buffer", needed: 0, available: 0 }))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    /// The same tile by tile.
    fn walk_each(mapping: &VectorMapping, requests: Requests) -> Movement {
        let shape = &mapping.shape;
        let size = |ranges: [Range; 4]| ranges.map(|range| u64::from(range.len));
        let mut movement = Movement::default();
        let loaded = shape.operands.iter().filter(|operand| !operand.resident);
        movement.loads.extend(loaded.map(|operand| (operand.memory, Transfers::default())));
        for index in 0..mapping.steps() {
            let step = mapping.step(index);
            let loaded = shape.operands.iter().enumerate().filter(|(_, operand)| !operand.resident);
            for ((i, _), (_, sum)) in loaded.zip(&mut movement.loads) {
                let tile = size(mapping.operand_box(i, &step));
                *sum = sum.plus(image_transfer(tile, mapping.operand_image(i, requests), requests));
            }
            if !shape.output_resident {
                movement.last_store = image_transfer(size(step.ranges), mapping.output_image(), requests);
                movement.stores = movement.stores.plus(movement.last_store);
            }
            movement.elements[1] = size(step.ranges).iter().product();
            if index == 0 {
                movement.first.clone_from(&movement.loads);
                movement.elements[0] = movement.elements[1];
            }
        }
        movement
    }

    fn elements() -> impl Strategy<Value = DType> {
        prop::sample::select(vec![DType::Int4, DType::Int8, DType::UInt16])
    }

    fn operand() -> impl Strategy<Value = (OperandShape, [bool; 4])> {
        ([1_u32..4, 1..12, 1..12, 1..9], elements(), any::<[bool; 6]>()).prop_map(
            |(extent, element, [resident, rarely, broadcast @ ..])| {
                let memory = MemoryId(u8::from(rarely));
                (OperandShape { extent, element, resident: resident && rarely, memory }, broadcast)
            },
        )
    }

    proptest! {
        #[test]
        fn sums_by_size_of_tile_are_those_of_a_walk_over_all_tiles(
            (mut first, broadcast) in operand(),
            (mut second, also_broadcast) in operand(),
            output in [1_u32..4, 1..12, 1..12, 1..9],
            tile in [1_u32..4, 1..12, 1..12, 1..9],
            [kernel, stride, dilation, pad] in [[1_u32..5, 1..5], [1..4, 1..4], [1..3, 1..3], [0..5, 0..5]],
            windowed in any::<bool>(),
            output_resident in any::<bool>(),
            output_element in elements(),
            burst in prop::sample::select(vec![1_u64, 4, 64]),
            granules in prop::sample::select(vec![1_u64, 8]),
            strides in any::<bool>(),
        ) {
            let mut shape = VectorShape {
                output,
                output_element,
                output_resident,
                output_memory: MemoryId(0),
                operands: Vec::new(),
                kernel: [1, 1],
                stride: [1, 1],
                dilation: [1, 1],
                pad: [0, 0],
            };
            if windowed {
                (shape.kernel, shape.stride, shape.dilation, shape.pad) = (kernel, stride, dilation, pad);
                (first.extent[0], first.extent[3]) = (output[0], output[3]);
                shape.operands = vec![first];
            }
            if shape.operands.is_empty() || shape.kernel == [1, 1] && shape.stride == [1, 1] && shape.pad == [0, 0] {
                for (operand, broadcast) in [(&mut first, broadcast), (&mut second, also_broadcast)] {
                    operand.extent = std::array::from_fn(|i| if broadcast[i] { 1 } else { output[i] });
                }
                shape.operands = vec![first, second];
            }
            let mapping = VectorMapping {
                function: Some(VectorFunction::Add),
                shape,
                cycles_per_element: 1,
                tile: std::array::from_fn(|i| tile[i].min(output[i])),
                input_slots: 1,
                output_slots: 1,
            };
            let requests = Requests { burst, granule: burst * granules, strides };
            prop_assert_eq!(movement(&mapping, requests), walk_each(&mapping, requests));
        }
    }
}
