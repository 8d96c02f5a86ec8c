//! What an instruction asks of its engine: durations, bursts, tiles and bytes, worked out when it is issued so that the
//! waiting instructions stay small.

use smallvec::SmallVec;

use super::{
    TimingError,
    array::{StreamedTile, Sums, product, sum},
    clock::times,
    dma::{DmaTransfer, Leg},
    runs,
};
use crate::{
    config::{Accelerator, BufferId, DepthwisePolicy, DrainPath, EngineKind, VectorFunction},
    program::{Header, Instruction, Matmul, Operation, PackedRange, Region, Space, Transfer, VectorKind, VectorOp},
    units::Time,
};

/// What an engine does for an instruction.
#[derive(Clone, Debug)]
pub(super) enum DecodedOp {
    Preload,
    /// Takes a place of the FIFO, for so long.
    Fetch(Time),
    /// Gives one back.
    PreloadNext,
    Stream(StreamedTile),
    Transfer(DmaTransfer),
    /// On the vector clock.
    Vector(Time),
    Host(HostOp),
    Fence,
}

/// A host operator.
#[derive(Clone, Debug)]
pub(super) struct HostOp {
    pub duration: Time,
    /// Memory spaces and the bytes that it reads or writes there.
    pub accesses: SmallVec<[(u8, u64); 4]>,
}

/// Bytes and multiply-accumulates that an instruction adds to its layer.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct LayerCounters {
    pub input: u64,
    pub weight: u64,
    pub output: u64,
    pub moved: u64,
    pub on_chip: u64,
    pub array_macs: u64,
    pub vector_macs: u64,
    pub host_macs: u64,
    pub beats: u64,
}

/// What the operand buffers deliver.
#[derive(Clone, Copy, Debug)]
pub struct BufferRates {
    rows: u64,
    /// Bytes that the input and the weight buffer deliver a cycle, and whether they are one.
    bytes: [u64; 2],
    shared: bool,
    /// Arrays that share them.
    arrays: u64,
    weight_buffer: BufferId,
}

impl BufferRates {
    /// Of a machine.
    ///
    /// # Errors
    /// A machine without operand buffers.
    pub fn of(accelerator: &Accelerator) -> Result<Self, TimingError> {
        let rate = |id: BufferId| {
            let buffer = accelerator.buffers.get(usize::from(id.0));
            let buffer = buffer.ok_or(TimingError::Machine("an operand buffer that is not listed"))?;
            product(product(buffer.banks.into(), buffer.word_bytes.into())?, buffer.ports.into())
        };
        let bytes = [rate(accelerator.input_buffer)?, rate(accelerator.weight_buffer)?];
        if bytes.contains(&0) {
            return Err(TimingError::Machine("a buffer without banks"));
        }
        Ok(Self {
            rows: accelerator.config.array.rows.into(),
            bytes,
            shared: accelerator.input_buffer == accelerator.weight_buffer,
            arrays: accelerator.config.array.count.into(),
            weight_buffer: accelerator.weight_buffer,
        })
    }

    /// Cycles in which the weight buffer delivers so many bytes to one of the arrays.
    fn fetch(&self, bytes: u64) -> Result<u64, TimingError> {
        Ok(product(bytes, self.arrays)?.div_ceil(self.bytes[1]).max(1))
    }

    /// Beats of an array tile, and the cycles that the operand buffers take for one.
    ///
    /// # Errors
    /// More than 64 bits hold.
    pub fn beats(&self, matmul: &Matmul) -> Result<[u64; 2], TimingError> {
        let [rows, k] = [runs::rows(&matmul.stream)?, runs::columns(&matmul.stream)?];
        // Of what a buffer delivers an array has an equal share.
        let take = |bytes: u64, of: u64| Ok::<_, TimingError>(product(bytes, self.arrays)?.div_ceil(of));
        let (beats, cycles) = if let Some(stationary) = matmul.stationary {
            let columns = runs::rows(&stationary)?;
            let [input, weight] = [packed(&matmul.stream, rows)?, packed(&stationary, columns)?];
            let cycles = if self.shared {
                take(sum(input, weight)?, self.bytes[0])?
            } else {
                take(input, self.bytes[0])?.max(take(weight, self.bytes[1])?)
            };
            (k, cycles)
        } else {
            // Input stationary streams weights: the buffer is that of the streamed region.
            let is_weight = matches!(matmul.stream.space, Space::Buffer(id) if id == self.weight_buffer);
            (rows, take(packed(&matmul.stream, k.min(self.rows))?, self.bytes[usize::from(is_weight)])?)
        };
        Ok([beats, cycles.max(1)])
    }
}

/// Works out instructions of one program on one machine.
#[derive(Debug)]
pub(super) struct Decoder<'a> {
    accelerator: &'a Accelerator,
    /// Bytes in which memory is touched, and the bursts in them, as powers of two.
    granule_shift: u32,
    granule_bursts: u32,
    rates: BufferRates,
    /// `(memory, first, end)` of the weight images, sorted.
    weights: Vec<(u8, u64, u64)>,
    /// What lies packed in memory, sorted.
    packed: Vec<PackedRange>,
    /// Useful bytes read from and written to each memory space so far.
    useful: Vec<[u64; 2]>,
    /// Bytes read from and written to each buffer so far, and last the accumulators.
    on_chip: Vec<[u64; 2]>,
}

impl<'a> Decoder<'a> {
    pub fn new(accelerator: &'a Accelerator, header: &Header) -> Result<Self, TimingError> {
        if accelerator.config.vector.lanes == 0 {
            return Err(TimingError::Machine("a vector unit without lanes"));
        }
        let mut weights: Vec<_> = header
            .weights
            .iter()
            .map(|image| (image.memory.0, image.base, image.base.saturating_add(image.bytes)))
            .collect();
        weights.sort_unstable();
        let dma = &accelerator.config.dma;
        Ok(Self {
            accelerator,
            granule_shift: dma.granule_bytes().trailing_zeros(),
            granule_bursts: dma.granule_bytes().trailing_zeros() - dma.burst_bytes.trailing_zeros(),
            rates: BufferRates::of(accelerator)?,
            weights,
            packed: header.packed.clone(),
            useful: vec![[0; 2]; accelerator.config.memories.len()],
            on_chip: vec![[0; 2]; accelerator.buffers.len() + 1],
        })
    }

    /// Useful bytes read from and written to a memory space so far.
    pub fn useful(&self, memory: usize) -> [u64; 2] {
        self.useful[memory]
    }

    /// Bytes read from and written to each buffer so far, and last the accumulators.
    pub fn on_chip(&self) -> impl Iterator<Item = [u64; 2]> {
        self.on_chip.iter().copied()
    }

    /// Counts a region that is read or written on chip.
    fn touch(&mut self, region: &Region, written: bool) -> Result<(), TimingError> {
        let index = match region.space {
            Space::Memory(_) => return Ok(()),
            Space::Buffer(id) => usize::from(id.0),
            Space::Accumulators => self.on_chip.len() - 1,
        };
        let bytes = self.bytes(region)?;
        let count = self.on_chip.get_mut(index).ok_or(TimingError::Machine("a buffer that is not listed"))?;
        count[usize::from(written)] = sum(count[usize::from(written)], bytes)?;
        Ok(())
    }

    /// Bytes of a region on the machine, elements of 4 bits two a byte.
    fn bytes(&self, region: &Region) -> Result<u64, TimingError> {
        let elements = runs::elements(region)?;
        match region.space {
            Space::Accumulators => product(elements, self.accelerator.accumulator_bytes()),
            Space::Memory(_) | Space::Buffer(_) => packed(region, elements),
        }
    }

    fn touch_all(&mut self, operation: &Operation) -> Result<(), TimingError> {
        match operation {
            Operation::Load(transfer) | Operation::Store(transfer) | Operation::Move(transfer) => {
                self.touch(&transfer.source, false)?;
                self.touch(&transfer.target, true)
            }
            Operation::Preload { stationary } | Operation::Fetch { stationary } => self.touch(stationary, false),
            Operation::Matmul(matmul) => {
                self.touch(&matmul.stream, false)?;
                if let Some(stationary) = &matmul.stationary {
                    self.touch(stationary, false)?;
                }
                if matmul.hold {
                    return Ok(());
                }
                if matmul.accumulate {
                    self.touch(&matmul.accumulators, false)?;
                }
                self.touch(&matmul.accumulators, true)
            }
            Operation::Vector(op) | Operation::Host(op) => {
                for input in &op.inputs {
                    self.touch(input, false)?;
                }
                self.touch(&op.output, true)
            }
            Operation::PreloadNext { .. } | Operation::Fence => Ok(()),
        }
    }

    /// What an instruction takes of its engine, and what it adds to its layer.
    pub fn decode(
        &mut self,
        instruction: &Instruction,
        kind: EngineKind,
    ) -> Result<(DecodedOp, LayerCounters), TimingError> {
        self.touch_all(&instruction.operation)?;
        let mut counters = LayerCounters::default();
        let op = match (&instruction.operation, kind) {
            (Operation::Fence, _) => DecodedOp::Fence,
            (Operation::Preload { .. }, EngineKind::Array) => DecodedOp::Preload,
            (Operation::PreloadNext { .. }, EngineKind::Array) => DecodedOp::PreloadNext,
            (Operation::Fetch { stationary }, EngineKind::Fifo) => {
                let cycles = self.rates.fetch(self.bytes(stationary)?)?;
                DecodedOp::Fetch(times(self.accelerator.array_period, cycles)?)
            }
            (Operation::Matmul(matmul), EngineKind::Array) => {
                let tile = self.tile(matmul)?;
                counters.array_macs = matmul.macs;
                counters.beats = tile.beats;
                DecodedOp::Stream(tile)
            }
            (
                Operation::Load(transfer) | Operation::Store(transfer) | Operation::Move(transfer),
                EngineKind::Load | EngineKind::Store | EngineKind::Vector,
            ) => DecodedOp::Transfer(self.transfer(transfer, &mut counters)?),
            (Operation::Vector(op), EngineKind::Vector | EngineKind::Store) => {
                counters.vector_macs = op.macs;
                DecodedOp::Vector(self.vector(op)?)
            }
            (Operation::Host(op), EngineKind::Host) => {
                counters.host_macs = op.macs;
                DecodedOp::Host(self.host(op, &mut counters)?)
            }
            _ => {
                return Err(TimingError::WrongEngine { index: instruction.index, engine: instruction.engine.0 });
            }
        };
        Ok((op, counters))
    }

    fn tile(&self, matmul: &Matmul) -> Result<StreamedTile, TimingError> {
        let [beats, beat_cycles] = self.rates.beats(matmul)?;
        let target = &matmul.accumulators;
        let plain = target.row_window.is_none()
            && target.window.is_none()
            && usize::from(target.split) == 3
            && [0, 1, 3, 4].iter().all(|&axis| target.dims[axis].count == 1);
        let sums = plain.then(|| Sums {
            first: target.base,
            row_stride: target.dims[2].stride.into(),
            col_stride: target.dims[5].stride.into(),
            cols: target.dims[5].count.into(),
        });
        Ok(StreamedTile {
            beats,
            beat_cycles,
            output_stationary: matmul.stationary.is_some(),
            accumulate: matmul.accumulate,
            resume: matmul.resume,
            hold: matmul.hold,
            sums,
            lanes: match (matmul.stationary.is_some(), self.accelerator.config.array.drain) {
                (true, DrainPath::Columns) => target.rows(),
                _ => target.cols(),
            },
        })
    }

    fn transfer(&mut self, transfer: &Transfer, counters: &mut LayerCounters) -> Result<DmaTransfer, TimingError> {
        let mut moved = DmaTransfer { descriptors: 1, ..DmaTransfer::default() };
        for (region, written) in [(&transfer.source, false), (&transfer.target, true)] {
            if let Space::Memory(memory) = region.space {
                let memory = self.memory(memory.0)?;
                let there = self.on_machine(memory, region)?;
                let touched = runs::touched(&there, self.granule_shift)?;
                if touched.blocks > 0 {
                    let bursts = product(touched.blocks, 1 << self.granule_bursts)?;
                    moved.legs.push(Leg { memory, write: written, region: there, bursts });
                    counters.moved = sum(counters.moved, product(touched.blocks, 1 << self.granule_shift)?)?;
                }
                if !self.accelerator.config.dma.strides {
                    moved.descriptors = moved.descriptors.max(touched.runs);
                }
                self.account(memory, region, written, counters)?;
            }
        }
        if moved.legs.is_empty() {
            moved.on_chip = self.bytes(&transfer.source)?.max(self.bytes(&transfer.target)?);
            counters.on_chip = moved.on_chip;
        }
        Ok(moved)
    }

    fn memory(&self, memory: u8) -> Result<u8, TimingError> {
        let known = usize::from(memory) < self.accelerator.config.memories.len();
        if known { Ok(memory) } else { Err(TimingError::UnknownMemory(memory)) }
    }

    /// Adds a region in memory to its layer's useful bytes; returns them.
    fn account(
        &mut self,
        memory: u8,
        region: &Region,
        written: bool,
        counters: &mut LayerCounters,
    ) -> Result<u64, TimingError> {
        let bytes = self.bytes(region)?;
        let operand = if written {
            &mut counters.output
        } else if self.is_weight(region) {
            &mut counters.weight
        } else {
            &mut counters.input
        };
        *operand = sum(*operand, bytes)?;
        let useful = &mut self.useful[usize::from(memory)][usize::from(written)];
        *useful = sum(*useful, bytes)?;
        Ok(bytes)
    }

    fn is_weight(&self, region: &Region) -> bool {
        let (Space::Memory(memory), Ok(address)) = (region.space, u64::try_from(region.base)) else { return false };
        let next = self.weights.partition_point(|&(space, first, _)| (space, first) <= (memory.0, address));
        next > 0 && self.weights[next - 1].0 == memory.0 && address < self.weights[next - 1].2
    }

    /// A region in memory by the machine's addresses: in units of half bytes where elements of 4 bits lie there, which stand
    /// two a byte from the first address of what holds them.
    fn on_machine(&self, memory: u8, region: &Region) -> Result<Region, TimingError> {
        if region.element.per_byte_shift() == 0 {
            return Ok(*region);
        }
        let (Ok(address), fault) = (u64::try_from(region.base), TimingError::Address(region.base)) else {
            return Err(TimingError::Address(region.base));
        };
        let next = self.packed.partition_point(|range| (range.memory.0, range.base) <= (memory, address));
        let range = next.checked_sub(1).map(|index| self.packed[index]);
        let range =
            range.filter(|range| range.memory.0 == memory && address - range.base < range.bytes).ok_or(fault)?;
        let origin = i64::try_from(range.base).map_err(|_| TimingError::Overflow)?;
        Ok(Region { base: region.base.checked_add(origin).ok_or(TimingError::Overflow)?, ..*region })
    }

    /// `startup + ceil(elements / lanes) * cycles`, on the vector clock.
    fn vector(&self, op: &VectorOp) -> Result<Time, TimingError> {
        let unit = &self.accelerator.config.vector;
        let lanes = u64::from(unit.lanes);
        let (function, elements) = match op.kind {
            VectorKind::Requantize => (VectorFunction::Requantize, runs::elements(&op.output)?),
            VectorKind::Depthwise => (VectorFunction::Depthwise, runs::elements(&op.output)?),
            VectorKind::Add => (VectorFunction::Add, runs::elements(&op.output)?),
            VectorKind::Mul => (VectorFunction::Mul, runs::elements(&op.output)?),
            VectorKind::Table => (VectorFunction::Table, runs::elements(&op.output)?),
            VectorKind::Copy => (VectorFunction::Copy, runs::elements(&op.output)?),
            VectorKind::Softmax => (VectorFunction::Softmax, runs::elements(&op.output)?),
            // A pool's input walk has one element an output and tap.
            VectorKind::MaxPool => (VectorFunction::MaxPool, input_elements(op)?),
            VectorKind::AvgPool | VectorKind::GlobalAvgPool => (VectorFunction::AvgPool, input_elements(op)?),
            VectorKind::WholeOperator { .. } => return Err(TimingError::VectorKind("a whole operator")),
        };
        let cost = unit.cycles_of(function).ok_or(TimingError::VectorKind("a function that it does not list"))?;
        let mut cycles = product(elements.div_ceil(lanes), cost.into())?;
        match (op.kind, self.accelerator.config.accumulators.read_width) {
            (VectorKind::Requantize, width @ 1..) => cycles = cycles.max(elements.div_ceil(width.into())),
            (VectorKind::Depthwise, _) => {
                let rate = match self.accelerator.config.depthwise {
                    DepthwisePolicy::Vector { macs_per_cycle } => u64::from(macs_per_cycle).max(1),
                    _ => lanes,
                };
                cycles = op.macs.div_ceil(rate);
            }
            _ => {}
        }
        times(self.accelerator.vector_period, sum(cycles, unit.startup_cycles.into())?)
    }

    /// `overhead + bytes / bandwidth + elements (or multiply-accumulates) / rate`.
    fn host(&mut self, op: &VectorOp, counters: &mut LayerCounters) -> Result<HostOp, TimingError> {
        let host = self.accelerator.config.host;
        let mut accesses: SmallVec<[(u8, u64); 4]> = SmallVec::new();
        let mut total = 0;
        let regions = op.inputs.iter().map(|region| (region, false)).chain([(&op.output, true)]);
        for (region, written) in regions {
            let Space::Memory(memory) = region.space else {
                total = sum(total, self.bytes(region)?)?;
                continue;
            };
            let memory = self.memory(memory.0)?;
            let bytes = self.account(memory, region, written, counters)?;
            total = sum(total, bytes)?;
            counters.moved = sum(counters.moved, bytes)?;
            accesses.push((memory, bytes));
        }
        let elements = match op.kind {
            _ if op.macs > 0 => op.macs,
            VectorKind::WholeOperator { elements } => elements,
            _ => runs::elements(&op.output)?,
        };
        let femtoseconds = host.overhead_us * 1e9
            + total as f64 * 1e6 / host.bandwidth_gb_per_s
            + elements as f64 * 1e6 / host.elements_per_ns;
        if !(0.0..9e18).contains(&femtoseconds) {
            return Err(TimingError::Overflow);
        }
        // In range by the check above.
        #[allow(clippy::cast_possible_truncation, clippy::cast_sign_loss)]
        let duration = Time(femtoseconds.round() as u64);
        Ok(HostOp { duration, accesses })
    }
}

/// Bytes of so many elements of a region's type on the machine.
fn packed(region: &Region, elements: u64) -> Result<u64, TimingError> {
    region.element.packed_bytes(elements).ok_or(TimingError::Overflow)
}

fn input_elements(op: &VectorOp) -> Result<u64, TimingError> {
    op.inputs.first().map_or(Ok(0), runs::elements)
}
