//! A DMA engine in time: descriptor, bursts, requests in flight. Splits each transfer's region into requests; which
//! engine's request comes next, and when memory answers it, is for others to say.
//!
//! Burst `k` of an engine is requested at `r_k = max(r_{k-1} + burst / bytes_per_cycle, slot)`, where `slot` is the first
//! arrival among the requests in flight if there are as many as are allowed; the first one of a transfer
//! `descriptor_cycles` for each of its descriptors after its start. A burst arrives on an edge of the engine's clock,
//! no sooner than memory has it and no sooner than the engine can move it. The bursts of a transfer may arrive in any
//! order, those of the next one not before the last of this one.

use std::collections::VecDeque;

use super::{
    TimingError,
    causes::{Cause, CauseGraph, Event, Lazy},
    clock::{after, edge, times},
    memory::{AccessTap, Completion, Memory, Request},
    runs::Bursts,
};
use crate::{config::Accelerator, program::Region, units::Time};

/// The side of a transfer that is in memory.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Leg {
    /// The memory space.
    pub memory: u8,
    pub write: bool,
    /// By the machine's addresses, see [`super::runs`].
    pub region: Region,
    /// Bursts that the region touches; at least one.
    pub bursts: u64,
}

/// A transfer: bursts from or to memory, or bytes that stay on chip.
#[derive(Clone, Debug, Default)]
pub(super) struct DmaTransfer {
    /// Sides in memory, one after the other.
    pub legs: Vec<Leg>,
    /// Bytes moved on chip, where no side is in memory.
    pub on_chip: u64,
    /// Descriptors that it takes; at least one.
    pub descriptors: u64,
}

/// What the engine is like.
#[derive(Clone, Copy, Debug)]
pub(super) struct DmaLaw {
    /// Its number among the machine's engines.
    engine: u8,
    period: Time,
    /// Time in which the engine moves a burst, whole cycles.
    pace: Time,
    bytes_per_cycle: u64,
    burst: u32,
    /// Bytes in which memory is touched, as a power of two.
    granule_shift: u32,
    descriptor: Time,
    in_flight: usize,
}

impl DmaLaw {
    pub fn new(accelerator: &Accelerator, engine: u8, period: Time) -> Result<Self, TimingError> {
        let dma = &accelerator.config.dma;
        if dma.bytes_per_cycle == 0 || !dma.burst_bytes.is_power_of_two() || dma.bursts_in_flight == 0 {
            return Err(TimingError::Machine("a DMA engine without width, burst or requests in flight"));
        }
        Ok(Self {
            engine,
            period,
            pace: times(period, dma.burst_bytes.div_ceil(dma.bytes_per_cycle).into())?,
            bytes_per_cycle: dma.bytes_per_cycle.into(),
            burst: dma.burst_bytes,
            granule_shift: dma.granule_bytes().trailing_zeros(),
            descriptor: times(period, dma.descriptor_cycles.into())?,
            in_flight: usize::try_from(dma.bursts_in_flight).unwrap_or(usize::MAX),
        })
    }

    fn bursts(&self, leg: &Leg) -> Result<Bursts, TimingError> {
        Bursts::new(&leg.region, self.granule_shift, self.burst)
    }
}

/// A transfer whose bursts are being requested.
#[derive(Debug)]
struct Active {
    legs: Vec<Leg>,
    leg: usize,
    remaining: u64,
    bursts: Bursts,
    /// The request before, and when the engine can make the next one.
    previous: Lazy,
    paced: Time,
    /// The next request; `None` while it waits for what memory has not answered.
    request: Option<Lazy>,
}

/// A transfer that has begun and whose data are not all there.
#[derive(Debug)]
struct Landing {
    /// Requests whose arrival is not known.
    open: u64,
    all_requested: bool,
}

/// A request whose arrival is not known.
#[derive(Debug)]
struct Open {
    tag: u64,
    /// Its transfer, counted from the run's start.
    transfer: u64,
    request: Lazy,
    /// When memory has it; waits for the end of the transfer before.
    data: Option<Lazy>,
}

/// A DMA engine.
#[derive(Debug)]
pub(super) struct DmaEngine {
    law: DmaLaw,
    active: Option<Active>,
    /// Transfers that have begun, the oldest first.
    landing: VecDeque<Landing>,
    /// Transfers that have ended.
    landed: u64,
    /// Requests made.
    requests: u64,
    /// Arrivals of bursts that may still be in flight, the first one first.
    flights: VecDeque<Lazy>,
    /// Requests in flight of which memory has not said when.
    open: Vec<Open>,
    /// The end of the last transfer that has ended.
    floor: Lazy,
    /// The last arrival of the oldest transfer, so far.
    last: Lazy,
}

/// What came of the requests of one turn.
#[derive(Debug, Default)]
pub(super) struct DmaProgress {
    /// All bursts of the transfer are requested: from here on the engine can take the next one.
    pub free: Option<Event>,
    /// An answer to another request than the last.
    pub completion: Option<Completion>,
}

impl DmaEngine {
    pub fn new(law: DmaLaw) -> Self {
        let never = Lazy { base: Event::ORIGIN, cause: Cause::Move, time: Time::ZERO };
        Self {
            law,
            active: None,
            landing: VecDeque::new(),
            landed: 0,
            requests: 0,
            flights: VecDeque::new(),
            open: Vec::new(),
            floor: never,
            last: never,
        }
    }

    /// Begins a transfer; the one before must have requested all of its bursts. One that needs no memory is done at
    /// the event returned.
    pub fn begin(
        &mut self,
        graph: &mut CauseGraph,
        start: Event,
        transfer: &DmaTransfer,
    ) -> Result<Option<Event>, TimingError> {
        let described = after(edge(start.time, self.law.period)?, times(self.law.descriptor, transfer.descriptors)?)?;
        if let Some(first) = transfer.legs.first() {
            self.landing.push_back(Landing { open: 0, all_requested: false });
            self.active = Some(Active {
                legs: transfer.legs.clone(),
                leg: 0,
                remaining: first.bursts,
                bursts: self.law.bursts(first)?,
                previous: Lazy { base: start, cause: Cause::Move, time: start.time },
                paced: described,
                request: None,
            });
            self.schedule(graph)?;
            return Ok(None);
        }
        let cycles = transfer.on_chip.div_ceil(self.law.bytes_per_cycle);
        let end = after(described, times(self.law.period, cycles)?)?;
        graph.phase(start, Cause::Move, end).map(Some)
    }

    /// When the next burst is requested, as far as memory has answered.
    #[inline]
    pub fn next_request(&self) -> Option<Time> {
        self.active.as_ref().and_then(|active| active.request).map(|request| request.time)
    }

    /// Whether it waits for answers of memory.
    pub fn is_open(&self) -> bool {
        !self.open.is_empty()
    }

    /// Finds out when the next burst is requested.
    #[inline]
    fn schedule(&mut self, graph: &mut CauseGraph) -> Result<(), TimingError> {
        let Some(active) = &mut self.active else { return Ok(()) };
        if active.remaining == 0 {
            // A copy from memory to memory is stored and forwarded.
            active.request = None;
            if self.landing.len() > 1 || self.landing.front().is_some_and(|transfer| transfer.open > 0) {
                return Ok(());
            }
            active.leg += 1;
            let leg = &active.legs[active.leg];
            (active.remaining, active.bursts) = (leg.bursts, self.law.bursts(leg)?);
            (active.previous, active.paced) = (self.last, self.last.time);
        }
        while self.flights.front().is_some_and(|flight| flight.time <= active.paced) {
            self.flights.pop_front();
        }
        active.request = if self.flights.len() + self.open.len() < self.law.in_flight {
            Some(graph.extend(active.previous, Cause::Move, active.paced)?)
        } else {
            self.flights.front().copied()
        };
        Ok(())
    }

    /// Requests bursts before `until`, at most until the transfer has requested all of its own, the graph is full, or
    /// memory leaves one without an answer. At least one burst is requested.
    pub fn serve(
        &mut self,
        graph: &mut CauseGraph,
        memories: &mut [Memory],
        until: Time,
        tap: &mut Option<&mut AccessTap<'_>>,
    ) -> Result<DmaProgress, TimingError> {
        loop {
            let Some(active) = &mut self.active else { return Ok(DmaProgress::default()) };
            let Some(at) = active.request else { return Ok(DmaProgress::default()) };
            if self.flights.len() + self.open.len() >= self.law.in_flight {
                self.flights.pop_front();
            }
            let leg = &active.legs[active.leg];
            let Some(address) = active.bursts.next() else { return Err(TimingError::Bursts(leg.bursts)) };
            let tag = self.requests;
            self.requests += 1;
            let (bytes, engine) = (self.law.burst, self.law.engine);
            let request = Request { memory: leg.memory, address, bytes, write: leg.write, engine, tag, at };
            if let Some(tap) = tap {
                tap(request.access());
            }
            let memory = &mut memories[usize::from(leg.memory)];
            memory.offer(graph, request)?;
            active.remaining -= 1;
            active.previous = at;
            active.paced = after(at.time, self.law.pace)?;
            let ended = active.remaining == 0 && active.leg + 1 == active.legs.len();

            let mut progress = DmaProgress::default();
            let answer = memory.next_completion(at.time);
            let at_once = self.landing.len() == 1;
            match answer {
                Some(done) if at_once && done.tag == tag && done.engine == self.law.engine => {
                    self.arrive(graph, at, done.data)?;
                }
                other => {
                    let transfer = self.landed + self.landing.len() as u64 - 1;
                    self.open.push(Open { tag, transfer, request: at, data: None });
                    if let Some(transfer) = self.landing.back_mut() {
                        transfer.open += 1;
                    }
                    progress.completion = other;
                }
            }
            if ended {
                let free = graph.extend(at, Cause::Move, after(at.time, self.law.pace)?)?;
                progress.free = Some(graph.realize(free)?);
                self.active = None;
                if let Some(transfer) = self.landing.back_mut() {
                    transfer.all_requested = true;
                }
                return Ok(progress);
            }
            self.schedule(graph)?;
            if self.is_open() || self.next_request().is_none_or(|next| next >= until) || graph.is_full() {
                return Ok(progress);
            }
        }
    }

    /// A burst of the oldest transfer arrives.
    #[inline]
    fn arrive(&mut self, graph: &mut CauseGraph, request: Lazy, data: Lazy) -> Result<(), TimingError> {
        let paced = after(request.time, self.law.pace)?;
        let mut arrival = Lazy { time: edge(data.time, self.law.period)?, ..data };
        if paced > arrival.time {
            arrival = graph.extend(request, Cause::Move, paced)?;
        }
        if arrival.time < self.floor.time {
            arrival = self.floor;
        }
        if arrival.time >= self.last.time {
            self.last = arrival;
        }
        if self.flights.back().is_none_or(|last| last.time <= arrival.time) {
            self.flights.push_back(arrival);
        } else {
            let at = self.flights.partition_point(|flight| flight.time <= arrival.time);
            self.flights.insert(at, arrival);
        }
        Ok(())
    }

    /// Takes an answer of memory to a request that was left open.
    pub fn deliver(&mut self, graph: &mut CauseGraph, done: Completion) -> Result<(), TimingError> {
        let Some(open) = self.open.iter_mut().find(|open| open.tag == done.tag) else {
            return Err(TimingError::Answer { engine: done.engine, request: done.tag });
        };
        open.data = Some(done.data);
        self.settle(graph)
    }

    /// Lets the answered bursts of the oldest transfer arrive.
    fn settle(&mut self, graph: &mut CauseGraph) -> Result<(), TimingError> {
        let mut index = 0;
        while let Some(&Open { transfer, request, data, .. }) = self.open.get(index) {
            let Some(data) = data.filter(|_| transfer == self.landed) else {
                index += 1;
                continue;
            };
            self.open.remove(index);
            if let Some(oldest) = self.landing.front_mut() {
                oldest.open -= 1;
            }
            self.arrive(graph, request, data)?;
        }
        self.schedule(graph)
    }

    /// The end of the oldest transfer, once: all of its data are where they belong.
    pub fn landed(&mut self, graph: &mut CauseGraph) -> Result<Option<Event>, TimingError> {
        if self.landing.front().is_none_or(|oldest| oldest.open > 0 || !oldest.all_requested) {
            return Ok(None);
        }
        self.landing.pop_front();
        self.landed += 1;
        let end = graph.realize(self.last)?;
        // The node exists now; later uses need not make it again.
        self.last = Lazy { base: end, cause: self.last.cause, time: end.time };
        self.floor = self.last;
        self.settle(graph)?;
        Ok(Some(end))
    }

    /// Every event that it still depends on.
    pub fn visit_events(&mut self, visit: &mut dyn FnMut(&mut Event)) {
        if let Some(active) = &mut self.active {
            visit(&mut active.previous.base);
            active.request.iter_mut().for_each(|request| visit(&mut request.base));
        }
        self.flights.iter_mut().for_each(|flight| visit(&mut flight.base));
        for open in &mut self.open {
            visit(&mut open.request.base);
            open.data.iter_mut().for_each(|data| visit(&mut data.base));
        }
        visit(&mut self.floor.base);
        visit(&mut self.last.base);
    }
}
