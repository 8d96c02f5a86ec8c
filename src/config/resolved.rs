//! The machine after validation: names became indices, clocks became integer periods, engines became a list. Made
//! only from a validated config; everything after `config` uses this.

use serde::{Deserialize, Serialize};

use super::{
    load,
    schema::{AcceleratorConfig, Buffer, BufferLayout, MemoryModel, VectorPlacement},
};
use crate::{
    diag::Faults,
    tensor::DType,
    units::{Bytes, Time},
};

/// Index of an engine in `Accelerator::engines`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
pub struct EngineId(pub u8);

/// Index of a memory space in `AcceleratorConfig::memories`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
pub struct MemoryId(pub u8);

/// Index of a physical buffer in `Accelerator::buffers`: one if shared, three if split.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
pub struct BufferId(pub u8);

/// What an engine does.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
pub enum EngineKind {
    /// Memory to buffer.
    Load,
    /// The array: preloads and matrix products.
    Array,
    /// What fetches weights for an array ahead of it.
    Fifo,
    /// The vector unit.
    Vector,
    /// Buffer to memory.
    Store,
    /// The host processor.
    Host,
}

/// An in-order engine.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct EngineInfo {
    /// For reports: `load 0`, `array` (`array 0` where there are several), `vector`, `store 0`, `host`.
    pub name: String,
    /// What it does.
    pub kind: EngineKind,
    /// Period of its clock.
    pub period: Time,
}

/// A validated accelerator.
#[derive(Clone, Debug, PartialEq)]
pub struct Accelerator {
    /// The config as read, overrides applied.
    pub config: AcceleratorConfig,
    /// All engines: loads, arrays, weight FIFO if there is one, vector (where it is one of its own), stores, host; in this order.
    pub engines: Vec<EngineInfo>,
    /// Physical buffers.
    pub buffers: Vec<Buffer>,
    /// The buffer that holds inputs.
    pub input_buffer: BufferId,
    /// The buffer that holds weights.
    pub weight_buffer: BufferId,
    /// The buffer that holds outputs.
    pub output_buffer: BufferId,
    /// Where weights live.
    pub weight_memory: MemoryId,
    /// Where activations live.
    pub activation_memory: MemoryId,
    /// Where the network's inputs live.
    pub input_memory: MemoryId,
    /// Where the network's outputs live.
    pub output_memory: MemoryId,
    /// Period of the array's clock.
    pub array_period: Time,
    /// Period of the vector unit's clock.
    pub vector_period: Time,
}

/// Period of a clock in femtoseconds, rounded to the nearest: 2,400 MHz is 416,667 fs.
#[allow(clippy::cast_possible_truncation, clippy::cast_sign_loss)]
pub fn period_of_mhz(mhz: f64) -> Time {
    Time((1e9 / mhz).round() as u64)
}

impl Accelerator {
    /// The machine of a config that was made in memory.
    ///
    /// # Errors
    /// Every fault that a file of this config would have.
    pub fn new(config: &AcceleratorConfig) -> Result<Self, Faults> {
        load::with_overrides(config, &[])
    }

    /// As [`Accelerator::new`], where the config is known to be legal.
    ///
    /// # Panics
    /// With the faults of a config that is not.
    #[allow(clippy::needless_pass_by_value, reason = "most callers have made it for this machine alone")]
    pub fn from_valid(config: AcceleratorConfig) -> Self {
        Self::new(&config).unwrap_or_else(|faults| panic!("not a legal machine:\n{faults}"))
    }

    /// Resolves a config that was checked.
    pub(super) fn resolve(config: AcceleratorConfig) -> Self {
        let array_period = period_of_mhz(config.array.clock_mhz);
        let vector_period =
            if config.vector.clock_mhz == 0.0 { array_period } else { period_of_mhz(config.vector.clock_mhz) };
        let mut engines = Vec::new();
        let mut add = |name: String, kind, period| engines.push(EngineInfo { name, kind, period });
        for index in 0..config.dma.load_engines {
            add(format!("load {index}"), EngineKind::Load, array_period);
        }
        for index in 0..config.array.count {
            let name = if config.array.count == 1 { "array".into() } else { format!("array {index}") };
            add(name, EngineKind::Array, array_period);
        }
        if config.buffers.weight_fifo_tiles > 0 {
            add("weight fifo".into(), EngineKind::Fifo, array_period);
        }
        if config.vector.placement != VectorPlacement::InStorePath {
            add("vector".into(), EngineKind::Vector, vector_period);
        }
        for index in 0..config.dma.store_engines {
            add(format!("store {index}"), EngineKind::Store, array_period);
        }
        add("host".into(), EngineKind::Host, array_period);
        let memory = |name: &str| {
            let index = config.memories.iter().position(|space| space.name == name).expect("validated");
            MemoryId(u8::try_from(index).expect("validated"))
        };
        let (buffers, [input_buffer, weight_buffer, output_buffer]) = match config.buffers.layout {
            BufferLayout::Shared(pool) => (vec![pool], [BufferId(0); 3]),
            BufferLayout::Split { input, weight, output } => {
                (vec![input, weight, output], [BufferId(0), BufferId(1), BufferId(2)])
            }
        };
        let [weight_memory, activation_memory, input_memory, output_memory] =
            config.placement.entries().map(|(_, name)| memory(name));
        Self {
            config,
            engines,
            buffers,
            input_buffer,
            weight_buffer,
            output_buffer,
            weight_memory,
            activation_memory,
            input_memory,
            output_memory,
            array_period,
            vector_period,
        }
    }

    /// The first engine of a kind.
    fn first(&self, kind: EngineKind) -> Option<EngineId> {
        let index = self.engines.iter().position(|engine| engine.kind == kind)?;
        u8::try_from(index).ok().map(EngineId)
    }

    /// The `index`-th load engine, counted round.
    ///
    /// # Panics
    /// Never: a validated config has at least one.
    pub fn load_engine(&self, index: u32) -> EngineId {
        EngineId(u8::try_from(index % self.config.dma.load_engines).expect("validated"))
    }

    /// The engine of the array, or of the first of several.
    ///
    /// # Panics
    /// Never: every machine has one.
    pub fn array_engine(&self) -> EngineId {
        self.first(EngineKind::Array).expect("every machine has an array")
    }

    /// The engines of all arrays, in their order.
    pub fn array_engines(&self) -> impl Iterator<Item = EngineId> + use<> {
        let first = self.array_engine().0;
        (first..).take(self.config.array.count as usize).map(EngineId)
    }

    /// Which array an engine is, from 0; `None` if it is none.
    pub fn array_of(&self, engine: EngineId) -> Option<usize> {
        let index = engine.0.checked_sub(self.array_engine().0)?;
        (u32::from(index) < self.config.array.count).then_some(index.into())
    }

    /// The engine of the weight FIFO; `None` where the machine has none. Only a single array has one.
    pub fn fifo_engine(&self) -> Option<EngineId> {
        self.first(EngineKind::Fifo)
    }

    /// The engine that runs vector work: its own, or the store engine in whose path it sits.
    pub fn vector_engine(&self) -> EngineId {
        self.first(EngineKind::Vector).unwrap_or_else(|| self.store_engine(0))
    }

    /// The `index`-th store engine, counted round.
    ///
    /// # Panics
    /// Never: a validated config has at least one.
    pub fn store_engine(&self, index: u32) -> EngineId {
        let first = self.first(EngineKind::Store).expect("validated").0;
        EngineId(first + u8::try_from(index % self.config.dma.store_engines).expect("validated"))
    }

    /// The host's engine.
    ///
    /// # Panics
    /// Never: every machine has one.
    pub fn host_engine(&self) -> EngineId {
        self.first(EngineKind::Host).expect("every machine has a host")
    }

    /// What an engine is.
    pub fn engine(&self, id: EngineId) -> &EngineInfo {
        &self.engines[usize::from(id.0)]
    }

    /// Bytes that one accumulator takes.
    pub fn accumulator_bytes(&self) -> u64 {
        u64::from(self.config.accumulators.bits).div_ceil(8)
    }

    /// Accumulators that fit.
    pub fn accumulator_words(&self) -> u64 {
        self.config.accumulators.bytes / self.accumulator_bytes()
    }

    /// Time for which a memory space is busy with `bytes`: its bandwidth alone.
    #[allow(clippy::cast_possible_truncation, clippy::cast_sign_loss)]
    pub fn memory_service(&self, memory: MemoryId, bytes: Bytes) -> Time {
        let MemoryModel::Ideal { bandwidth_gb_per_s, .. } = self.config.memories[usize::from(memory.0)].model;
        Time((bytes.as_f64() * 1e6 / bandwidth_gb_per_s).round() as u64)
    }

    /// A memory space's fixed latency.
    #[allow(clippy::cast_possible_truncation, clippy::cast_sign_loss)]
    pub fn memory_latency(&self, memory: MemoryId) -> Time {
        let MemoryModel::Ideal { latency_ns, .. } = self.config.memories[usize::from(memory.0)].model;
        Time((latency_ns * 1e6).round() as u64)
    }

    /// What a memory space loses where a write follows a read or a read a write.
    #[allow(clippy::cast_possible_truncation, clippy::cast_sign_loss)]
    pub fn memory_turnaround(&self, memory: MemoryId) -> Time {
        let MemoryModel::Ideal { turnaround_ns, .. } = self.config.memories[usize::from(memory.0)].model;
        Time((turnaround_ns * 1e6).round() as u64)
    }

    /// Whether the array's operands are integers, so that programs are executed and not only timed.
    pub fn executes(&self) -> bool {
        self.config.array.input_type.is_integer() && self.config.array.weight_type.is_integer()
    }

    /// Bytes of requantization parameters a channel: bias, multiplier, and for fixed-point requantizers a shift.
    pub fn parameter_bytes(&self) -> u64 {
        match self.config.vector.requantizer {
            crate::tensor::Requantizer::F32Rne => 8,
            _ => 12,
        }
    }

    /// Activation type of the machine.
    pub fn input_type(&self) -> DType {
        self.config.array.input_type
    }
}
