//! The machine's rates as the closed form needs them, and how long transfers and vector work take at those rates, from
//! below.

use super::{Commands, Requests, Transfers};
use crate::{
    config::{Accelerator, DepthwisePolicy, MemoryId, VectorFunction, VectorPlacement},
    dataflow::{ArrayExtents, ArrayLaw},
    units::{Bytes, Cycles, Time},
};

/// The machine's rates as the closed form needs them; made once.
#[derive(Clone, Debug)]
pub struct Rates {
    pub(in crate::mapping) law: ArrayLaw,
    pub(in crate::mapping) extents: ArrayExtents,
    pub(in crate::mapping) array_period: Time,
    pub(in crate::mapping) vector_period: Time,
    pub(in crate::mapping) lanes: u64,
    pub(in crate::mapping) read_width: u64,
    pub(in crate::mapping) startup: u64,
    pub(in crate::mapping) requantize: u64,
    pub(in crate::mapping) depthwise_macs: u64,
    pub(in crate::mapping) vector_in_store_path: bool,
    pub(in crate::mapping) requests: Requests,
    /// Cycles in which a DMA engine moves a burst.
    pub(in crate::mapping) pace: u64,
    pub(in crate::mapping) descriptor: u64,
    pub(in crate::mapping) in_flight: u64,
    pub(in crate::mapping) load_engines: u64,
    pub(in crate::mapping) store_engines: u64,
    memories: Vec<Memory>,
    /// Where weights and parameter records lie.
    pub(in crate::mapping) weight_memory: MemoryId,
    pub(in crate::mapping) issue: u64,
    pub(in crate::mapping) launch: u64,
    /// What the host issues.
    pub(in crate::mapping) issued: Commands,
}

/// One memory space.
#[derive(Clone, Copy, Debug)]
pub(in crate::mapping) struct Memory {
    /// Time of one burst at its bandwidth.
    pub(in crate::mapping) service: Time,
    /// From a request's service to its data.
    pub(in crate::mapping) latency: Time,
}

impl Rates {
    /// The rates of a machine.
    pub fn of(accelerator: &Accelerator) -> Self {
        let config = &accelerator.config;
        let memory = |id: MemoryId| Memory {
            service: accelerator.memory_service(id, Bytes(u64::from(config.dma.burst_bytes))),
            latency: accelerator.memory_latency(id),
        };
        let memories = (0_u8..).zip(&config.memories).map(|(id, _)| memory(MemoryId(id))).collect();
        let array = &config.array;
        Self {
            law: ArrayLaw::of(array),
            extents: ArrayExtents::of(array),
            array_period: accelerator.array_period,
            vector_period: accelerator.vector_period,
            lanes: u64::from(config.vector.lanes),
            read_width: u64::from(config.accumulators.read_width),
            startup: u64::from(config.vector.startup_cycles),
            requantize: u64::from(config.vector.cycles_of(VectorFunction::Requantize).unwrap_or(1)),
            depthwise_macs: match config.depthwise {
                DepthwisePolicy::Vector { macs_per_cycle } => u64::from(macs_per_cycle),
                _ => 1,
            },
            vector_in_store_path: config.vector.placement == VectorPlacement::InStorePath,
            requests: Requests::new(&config.dma),
            pace: u64::from(config.dma.burst_bytes.div_ceil(config.dma.bytes_per_cycle)),
            descriptor: u64::from(config.dma.descriptor_cycles),
            in_flight: u64::from(config.dma.bursts_in_flight),
            load_engines: u64::from(config.dma.load_engines),
            store_engines: u64::from(config.dma.store_engines),
            memories,
            weight_memory: accelerator.weight_memory,
            issue: u64::from(config.control.issue_cycles),
            launch: u64::from(config.control.launch_cycles),
            issued: Commands::of(&config.control),
        }
    }

    pub(in crate::mapping) fn array(&self, cycles: u64) -> Time {
        Cycles(cycles).time(self.array_period)
    }

    /// Time of vector work of `elements` at `cycles` each, `lanes` at once, in `instructions` instructions, from below.
    pub(in crate::mapping) fn vector(&self, elements: u64, cycles: u64, lanes: u64, instructions: u64) -> Time {
        let lanes = elements.div_ceil(lanes).saturating_mul(cycles);
        Cycles(lanes.saturating_add(self.startup.saturating_mul(instructions))).time(self.vector_period)
    }

    /// Time to requantize so many accumulators.
    pub(in crate::mapping) fn requantize(&self, elements: u64, instructions: u64) -> Time {
        let work = self.vector(elements, self.requantize, self.lanes, instructions);
        if self.read_width == 0 { work } else { work.max(self.vector(elements, 1, self.read_width, instructions)) }
    }

    /// Time in which `engines` DMA engines get transfers done, the memory apart.
    pub(in crate::mapping) fn engine_time(&self, moved: Transfers, engines: u64) -> Time {
        let cycles = self.descriptor.saturating_mul(moved.descriptors);
        self.array(cycles.saturating_add(self.pace.saturating_mul(moved.bursts)) / engines)
    }

    /// Time until the last byte has arrived, each request waiting for a place in flight.
    pub(in crate::mapping) fn round_trips(&self, bursts: u64, engines: u64, memory: Memory) -> Time {
        let Some(before) = bursts.div_ceil(engines).checked_sub(1) else { return Time::ZERO };
        let trip = memory.service + memory.latency;
        trip * (before / self.in_flight) + memory.service * (before % self.in_flight) + trip
    }

    /// Time from the first command until transfers over one memory are done.
    pub(in crate::mapping) fn transfer(&self, moved: Transfers, engines: u64, memory: Memory) -> Time {
        if moved.bursts == 0 {
            return Time::ZERO;
        }
        let served = memory.service * moved.bursts + memory.latency;
        let first = self.array(self.descriptor);
        (first + served.max(self.round_trips(moved.bursts, engines, memory))).max(self.engine_time(moved, engines))
    }

    /// One memory space.
    pub(in crate::mapping) fn memory(&self, id: MemoryId) -> Memory {
        self.memories[usize::from(id.0)]
    }

    /// Time from the first command until loads from some memory spaces are done.
    pub(in crate::mapping) fn loads(&self, moved: &[(MemoryId, Transfers)]) -> Time {
        let all = moved.iter().fold(Transfers::default(), |sum, &(_, one)| sum.plus(one));
        if all.bursts == 0 {
            return Time::ZERO;
        }
        if let [(first, _), others @ ..] = moved
            && others.iter().all(|(other, _)| other == first)
        {
            return self.transfer(all, self.load_engines, self.memory(*first));
        }
        let mut time = self.engine_time(all, self.load_engines);
        let mut either: Option<Memory> = None;
        for (index, &(id, _)) in moved.iter().enumerate() {
            if moved[..index].iter().any(|&(before, _)| before == id) {
                continue;
            }
            let here = moved.iter().filter(|&&(other, _)| other == id);
            let here = here.fold(Transfers::default(), |sum, &(_, one)| sum.plus(one));
            if here.bursts == 0 {
                continue;
            }
            let memory = self.memory(id);
            time = time.max(self.transfer(here, self.load_engines, memory));
            either = Some(either.map_or(memory, |other| Memory {
                service: other.service.min(memory.service),
                latency: other.latency.min(memory.latency),
            }));
        }
        either.map_or(time, |either| time.max(self.round_trips(all.bursts, self.load_engines, either)))
    }

    /// Time from the first command until so many stores to a memory space are done.
    pub(in crate::mapping) fn stores(&self, moved: Transfers, memory: MemoryId) -> Time {
        self.transfer(moved, self.store_engines, self.memory(memory))
    }

    /// Time of one store.
    pub(in crate::mapping) fn one_store(&self, moved: Transfers, memory: MemoryId) -> Time {
        self.transfer(moved, 1, self.memory(memory))
    }

    /// Time in which the memory that results go to serves all that is loaded from it and stored to it.
    pub(in crate::mapping) fn shared_memory(
        &self,
        loads: &[(MemoryId, Transfers)],
        stores: Transfers,
        output: MemoryId,
    ) -> Time {
        let memory = self.memory(output);
        let here = loads.iter().filter(|&&(id, _)| id == output);
        let bursts = here.fold(stores, |sum, &(_, one)| sum.plus(one)).bursts;
        if bursts == 0 { Time::ZERO } else { memory.service * bursts + memory.latency }
    }

    /// Time of vector work and stores where one engine does both; else of the vector work.
    pub(in crate::mapping) fn vector_engine(&self, work: Time, stores: Transfers) -> Time {
        let shared = self.vector_in_store_path && self.store_engines == 1;
        if shared { work + self.engine_time(stores, 1) } else { work }
    }

    /// How runs in memory become requests.
    pub(in crate::mapping) fn requests(&self) -> Requests {
        self.requests
    }

    /// Lanes of the vector unit.
    pub(in crate::mapping) fn lanes(&self) -> u64 {
        self.lanes
    }

    /// A layer's launch and the issue of so many commands.
    pub(in crate::mapping) fn commands(&self, commands: u64) -> Time {
        self.array(self.launch.saturating_add(self.issue.saturating_mul(commands)))
    }
}
