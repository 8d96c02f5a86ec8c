//! What an instruction asks of its engine: durations, bursts, tiles and bytes, worked out when it is issued so that the
//! waiting instructions stay small.

use smallvec::SmallVec;

use super::{
    TimingError,
    array::{StreamedTile, product, sum},
    clock::times,
    dma::{DmaTransfer, Leg},
    runs,
};
use crate::{
    config::{Accelerator, DepthwisePolicy, EngineKind, VectorFunction},
    program::{Header, Instruction, Matmul, Operation, Region, Space, Transfer, VectorKind, VectorOp},
    units::Time,
};

/// What an engine does for an instruction.
#[derive(Clone, Debug)]
pub(super) enum DecodedOp {
    Preload,
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

/// Works out instructions of one program on one machine.
#[derive(Debug)]
pub(super) struct Decoder<'a> {
    accelerator: &'a Accelerator,
    /// Bytes in which memory is touched, and the bursts in them, as powers of two.
    granule_shift: u32,
    granule_bursts: u32,
    rows: u64,
    /// Bytes that the input and the weight buffer deliver a cycle, and whether they are one.
    buffer_rate: [u64; 2],
    shared: bool,
    /// `(memory, first, end)` of the weight images, sorted.
    weights: Vec<(u8, u64, u64)>,
    /// Useful bytes read from and written to each memory space so far.
    useful: Vec<[u64; 2]>,
    /// Bytes read from and written to each buffer so far, and last the accumulators.
    on_chip: Vec<[u64; 2]>,
}

impl<'a> Decoder<'a> {
    pub fn new(accelerator: &'a Accelerator, header: &Header) -> Result<Self, TimingError> {
        let rate = |id: crate::config::BufferId| {
            let buffer = accelerator.buffers.get(usize::from(id.0));
            let buffer = buffer.ok_or(TimingError::Machine("an operand buffer that is not listed"))?;
            product(product(buffer.banks.into(), buffer.word_bytes.into())?, buffer.ports.into())
        };
        let buffer_rate = [rate(accelerator.input_buffer)?, rate(accelerator.weight_buffer)?];
        if buffer_rate.contains(&0) || accelerator.config.vector.lanes == 0 {
            return Err(TimingError::Machine("a buffer without banks or a vector unit without lanes"));
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
            rows: accelerator.config.array.rows.into(),
            buffer_rate,
            shared: accelerator.input_buffer == accelerator.weight_buffer,
            weights,
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
        let (index, unit) = match region.space {
            Space::Memory(_) => return Ok(()),
            Space::Buffer(id) => (usize::from(id.0), region.element.into()),
            Space::Accumulators => (self.on_chip.len() - 1, self.accelerator.accumulator_bytes()),
        };
        let bytes = product(runs::elements(region)?, unit)?;
        let count = self.on_chip.get_mut(index).ok_or(TimingError::Machine("a buffer that is not listed"))?;
        count[usize::from(written)] = sum(count[usize::from(written)], bytes)?;
        Ok(())
    }

    fn touch_all(&mut self, operation: &Operation) -> Result<(), TimingError> {
        match operation {
            Operation::Load(transfer) | Operation::Store(transfer) | Operation::Move(transfer) => {
                self.touch(&transfer.source, false)?;
                self.touch(&transfer.target, true)
            }
            Operation::Preload { stationary } => self.touch(stationary, false),
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
            Operation::Fence => Ok(()),
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
        let [rows, k] = [runs::rows(&matmul.stream)?, runs::columns(&matmul.stream)?];
        let element = u64::from(matmul.stream.element);
        let (beats, beat_cycles) = if let Some(stationary) = matmul.stationary {
            let columns = runs::rows(&stationary)?;
            let [input, weight] = [product(rows, element)?, product(columns, stationary.element.into())?];
            let cycles = if self.shared {
                sum(input, weight)?.div_ceil(self.buffer_rate[0])
            } else {
                input.div_ceil(self.buffer_rate[0]).max(weight.div_ceil(self.buffer_rate[1]))
            };
            (k, cycles)
        } else {
            // Input stationary streams weights: the buffer is that of the streamed region.
            let rate = match matmul.stream.space {
                Space::Buffer(id) if id == self.accelerator.weight_buffer => self.buffer_rate[1],
                _ => self.buffer_rate[0],
            };
            (rows, product(k.min(self.rows), element)?.div_ceil(rate))
        };
        let target = &matmul.accumulators;
        let accumulators = if target.row_window.is_none() && target.window.is_none() {
            let mut reach = 0_i64;
            for dim in &target.dims {
                let step = i64::from(dim.count.saturating_sub(1)).checked_mul(i64::from(dim.stride));
                reach = step.and_then(|step| reach.checked_add(step)).ok_or(TimingError::Overflow)?;
            }
            [target.base, target.base.checked_add(reach).ok_or(TimingError::Overflow)?]
        } else {
            let address = |row: u32, column: u32| {
                let address = target.address(row, column).and_then(|address| i64::try_from(address).ok());
                address.unwrap_or(target.base)
            };
            [address(0, 0), address(target.rows().saturating_sub(1), target.cols().saturating_sub(1))]
        };
        let row_axis = usize::from(target.split).clamp(1, target.dims.len()) - 1;
        Ok(StreamedTile {
            beats,
            beat_cycles: beat_cycles.max(1),
            output_stationary: matmul.stationary.is_some(),
            accumulate: matmul.accumulate,
            resume: matmul.resume,
            hold: matmul.hold,
            accumulators,
            row_stride: target.dims[row_axis].stride,
            row_width: if target.dims[5].stride == 1 && target.window.is_none() { target.cols() } else { 0 },
        })
    }

    fn transfer(&mut self, transfer: &Transfer, counters: &mut LayerCounters) -> Result<DmaTransfer, TimingError> {
        let mut moved = DmaTransfer { descriptors: 1, ..DmaTransfer::default() };
        for (region, written) in [(&transfer.source, false), (&transfer.target, true)] {
            if let Space::Memory(memory) = region.space {
                let memory = self.memory(memory.0)?;
                let touched = runs::touched(region, self.granule_shift)?;
                if touched.blocks > 0 {
                    let bursts = product(touched.blocks, 1 << self.granule_bursts)?;
                    moved.legs.push(Leg { memory, write: written, region: *region, bursts });
                    counters.moved = sum(counters.moved, product(touched.blocks, 1 << self.granule_shift)?)?;
                }
                if !self.accelerator.config.dma.strides {
                    moved.descriptors = moved.descriptors.max(touched.runs);
                }
                self.account(memory, region, written, counters)?;
            }
        }
        if moved.legs.is_empty() {
            let bytes = [transfer.source, transfer.target].map(|region| {
                let unit = match region.space {
                    Space::Accumulators => self.accelerator.accumulator_bytes(),
                    _ => region.element.into(),
                };
                runs::elements(&region).and_then(|elements| product(elements, unit))
            });
            let [source, target] = bytes;
            moved.on_chip = source?.max(target?);
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
        let bytes = product(runs::elements(region)?, region.element.into())?;
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
                let bytes = product(runs::elements(region)?, region.element.into())?;
                total = sum(total, bytes)?;
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

fn input_elements(op: &VectorOp) -> Result<u64, TimingError> {
    op.inputs.first().map_or(Ok(0), runs::elements)
}
