//! First come, first served, at a fixed bandwidth and a fixed latency, with a pause between reads and writes. Knows nothing of banks or rows.

use super::{Completion, Request, Traffic};
use crate::{
    config::{Accelerator, MemoryId},
    engine::timing::{
        TimingError,
        causes::{Cause, CauseGraph, Event, Lazy},
        clock::after,
        observer::Served,
    },
    units::{Bytes, Time},
};

/// What serves each request when it has served the one before.
#[derive(Debug)]
pub(super) struct Ideal {
    /// How long one request holds the memory.
    service: Time,
    /// From the end of service to the data's arrival.
    latency: Time,
    /// From a read's service to a write's, and back.
    turnaround: Time,
    /// The end of the last request's service, and whether that was a write.
    free: Event,
    wrote: Option<bool>,
    /// The answer to the last request: no later one can change it.
    answer: Option<Completion>,
}

impl Ideal {
    pub fn new(accelerator: &Accelerator, memory: MemoryId) -> Self {
        let burst = Bytes(accelerator.config.dma.burst_bytes.into());
        Self {
            service: accelerator.memory_service(memory, burst),
            latency: accelerator.memory_latency(memory),
            turnaround: accelerator.memory_turnaround(memory),
            free: Event::ORIGIN,
            wrote: None,
            answer: None,
        }
    }

    /// The request is made an event only if the memory is free then. The answer must be fetched before the next offer.
    #[inline]
    pub fn offer(
        &mut self,
        graph: &mut CauseGraph,
        traffic: &mut Traffic,
        request: Request,
    ) -> Result<(), TimingError> {
        let turns = self.wrote.is_some_and(|wrote| wrote != request.write);
        let free = if turns { after(self.free.time, self.turnaround)? } else { self.free.time };
        let (pred, start) =
            if free > request.at.time { (self.free, free) } else { (graph.realize(request.at)?, request.at.time) };
        let end = after(start, self.service)?;
        let served = Served { memory: request.memory, bytes: request.bytes.into(), start };
        let served = graph.service(pred, end, served)?;
        traffic.serve(start, end, request.bytes);
        self.free = served;
        self.wrote = Some(request.write);
        let data = Lazy { base: served, cause: Cause::MemoryLatency, time: after(end, self.latency)? };
        debug_assert!(self.answer.is_none(), "an answer was not fetched");
        self.answer = Some(Completion { engine: request.engine, tag: request.tag, data });
        Ok(())
    }

    #[inline]
    pub fn next_completion(&mut self, _horizon: Time) -> Option<Completion> {
        self.answer.take()
    }

    #[inline]
    pub fn earliest(&self) -> Time {
        self.answer.map_or(Time::END, |answer| answer.data.time)
    }

    pub fn visit_events(&mut self, visit: &mut dyn FnMut(&mut Event)) {
        visit(&mut self.free);
        self.answer.iter_mut().for_each(|answer| visit(&mut answer.data.base));
    }
}
