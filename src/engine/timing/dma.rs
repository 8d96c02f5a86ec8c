//! A DMA engine in time: descriptor, bursts, requests in flight. Bursts of all engines are served in the order of
//! their requests; the caller picks whose turn it is.
//!
//! Burst `k` of an engine is requested at `r_k = max(r_{k-1} + burst / bytes_per_cycle, arrival of burst k - F)`, with
//! `F` bursts in flight; the first one of a transfer `descriptor_cycles` for each of its descriptors after its start. The memory serves
//! it for `burst / bandwidth` when it is free, and it arrives `latency` after that, in order, on an edge of the
//! engine's clock, and no sooner than the engine can move it.

use std::collections::VecDeque;

use smallvec::SmallVec;

use super::{
    TimingError,
    causes::{Cause, CauseGraph, Event, Lazy},
    clock::{after, edge, times},
    memory::Memory,
};
use crate::{config::Accelerator, units::Time};

/// The bursts of one side of a transfer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Leg {
    /// The memory space.
    pub memory: u8,
    /// Bursts; at least one.
    pub bursts: u64,
}

/// A transfer: bursts from or to memory, or bytes that stay on chip.
#[derive(Clone, Debug, Default)]
pub(super) struct Move {
    /// Sides in memory, one after the other.
    pub legs: SmallVec<[Leg; 2]>,
    /// Bytes moved on chip, where no side is in memory.
    pub on_chip: u64,
    /// Descriptors that it takes; at least one.
    pub descriptors: u64,
}

/// What the engine is like.
#[derive(Clone, Copy, Debug)]
pub(super) struct DmaLaw {
    period: Time,
    /// Time in which the engine moves a burst, whole cycles.
    pace: Time,
    bytes_per_cycle: u64,
    descriptor: Time,
    in_flight: usize,
}

impl DmaLaw {
    pub fn new(accelerator: &Accelerator, period: Time) -> Result<Self, TimingError> {
        let dma = &accelerator.config.dma;
        if dma.bytes_per_cycle == 0 || !dma.burst_bytes.is_power_of_two() || dma.bursts_in_flight == 0 {
            return Err(TimingError::Machine("a DMA engine without width, burst or requests in flight"));
        }
        Ok(Self {
            period,
            pace: times(period, dma.burst_bytes.div_ceil(dma.bytes_per_cycle).into())?,
            bytes_per_cycle: dma.bytes_per_cycle.into(),
            descriptor: times(period, dma.descriptor_cycles.into())?,
            in_flight: usize::try_from(dma.bursts_in_flight).unwrap_or(usize::MAX),
        })
    }
}

/// A transfer whose bursts are being requested.
#[derive(Debug)]
struct Active {
    legs: SmallVec<[Leg; 2]>,
    leg: usize,
    remaining: u64,
    request: Lazy,
}

/// A DMA engine.
#[derive(Debug)]
pub(super) struct DmaEngine {
    law: DmaLaw,
    active: Option<Active>,
    /// Arrivals of bursts that may still be in flight.
    flights: VecDeque<Lazy>,
    last_arrival: Lazy,
}

/// What a transfer came to.
#[derive(Clone, Copy, Debug)]
pub(super) struct Moved {
    /// From here on the engine can take the next transfer.
    pub free: Event,
    /// All data are where they belong.
    pub end: Event,
}

impl DmaEngine {
    pub const fn new(law: DmaLaw) -> Self {
        let never = Lazy { base: Event::ORIGIN, cause: Cause::Move, time: Time::ZERO };
        Self { law, active: None, flights: VecDeque::new(), last_arrival: never }
    }

    /// Begins a transfer; what needs no memory is done at once. The one before must be done.
    pub fn begin(&mut self, graph: &mut CauseGraph, start: Event, work: &Move) -> Result<Option<Moved>, TimingError> {
        let described = after(edge(start.time, self.law.period)?, times(self.law.descriptor, work.descriptors)?)?;
        if let Some(first) = work.legs.first() {
            let earliest = Lazy { base: start, cause: Cause::Move, time: described };
            let request = admit(&mut self.flights, self.law.in_flight, described).unwrap_or(earliest);
            self.active = Some(Active { legs: work.legs.clone(), leg: 0, remaining: first.bursts, request });
            return Ok(None);
        }
        let cycles = work.on_chip.div_ceil(self.law.bytes_per_cycle);
        let end = after(described, times(self.law.period, cycles)?)?;
        let end = graph.phase(start, Cause::Move, end)?;
        Ok(Some(Moved { free: end, end }))
    }

    /// When the next burst is requested, while a transfer is at work.
    #[inline]
    pub fn next_request(&self) -> Option<Time> {
        self.active.as_ref().map(|active| active.request.time)
    }

    /// Serves bursts while they are requested before `until`, at most until the transfer has requested all of its
    /// own or the graph is full. At least one burst is served.
    pub fn serve(
        &mut self,
        graph: &mut CauseGraph,
        memories: &mut [Memory],
        until: Time,
    ) -> Result<Option<Moved>, TimingError> {
        let Some(active) = &mut self.active else { return Ok(None) };
        let law = self.law;
        loop {
            let memory = &mut memories[usize::from(active.legs[active.leg].memory)];
            let request = active.request;
            let served = memory.serve(graph, request)?;
            let data = edge(after(served.time, memory.latency)?, law.period)?;
            let paced = after(request.time, law.pace)?;
            let mut arrival = Lazy { base: served, cause: Cause::MemoryLatency, time: data };
            if paced > data {
                arrival = graph.extend(request, Cause::Move, paced)?;
            }
            if arrival.time >= self.last_arrival.time {
                self.last_arrival = arrival;
            }
            self.flights.push_back(self.last_arrival);

            active.remaining -= 1;
            if active.remaining == 0 {
                if let Some(next) = active.legs.get(active.leg + 1) {
                    // A copy from memory to memory is stored and forwarded.
                    active.leg += 1;
                    active.remaining = next.bursts;
                    active.request = self.last_arrival;
                    self.flights.clear();
                } else {
                    let free = graph.extend(request, Cause::Move, paced)?;
                    let free = graph.realize(free)?;
                    let end = graph.realize(self.last_arrival)?;
                    // The node exists now; later uses need not make it again.
                    self.last_arrival = Lazy { base: end, cause: self.last_arrival.cause, time: end.time };
                    self.active = None;
                    return Ok(Some(Moved { free, end }));
                }
            } else {
                active.request = match admit(&mut self.flights, law.in_flight, paced) {
                    Some(arrival) => arrival,
                    None => graph.extend(request, Cause::Move, paced)?,
                };
            }
            if active.request.time >= until || graph.is_full() {
                return Ok(None);
            }
        }
    }

    /// Every event that it still depends on.
    pub fn visit_events(&mut self, visit: &mut dyn FnMut(&mut Event)) {
        if let Some(active) = &mut self.active {
            visit(&mut active.request.base);
        }
        self.flights.iter_mut().for_each(|flight| visit(&mut flight.base));
        visit(&mut self.last_arrival.base);
    }
}

/// The arrival that a request must wait for, if at `time` as many as allowed are still in flight.
#[inline]
fn admit(flights: &mut VecDeque<Lazy>, allowed: usize, time: Time) -> Option<Lazy> {
    while flights.front().is_some_and(|flight| flight.time <= time) {
        flights.pop_front();
    }
    if flights.len() >= allowed { flights.pop_front() } else { None }
}
