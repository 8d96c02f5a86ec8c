//! A memory space in time: takes requests, says when they are answered, and keeps count of its traffic. How it serves
//! them is its model's; why they come is not its business.

mod ideal;
#[cfg(test)]
mod shuffled;
mod windows;

pub use windows::WINDOW;

use super::{
    TimingError,
    array::sum,
    causes::{CauseGraph, Event, Lazy},
    report::MemoryTiming,
};
use crate::{
    config::{Accelerator, MemoryId},
    units::{Bytes, Time},
};

/// A burst that an engine asks for.
#[derive(Clone, Copy, Debug)]
pub(super) struct Request {
    /// The memory space.
    pub memory: u8,
    /// Where, aligned to `bytes`.
    pub address: u64,
    pub bytes: u32,
    pub write: bool,
    /// Who asks, and by which of its requests.
    pub engine: u8,
    pub tag: u64,
    /// When.
    pub at: Lazy,
}

impl Request {
    /// As traces show it.
    pub const fn access(&self) -> MemoryAccess {
        let Self { memory, address, bytes, write, engine, at, .. } = *self;
        MemoryAccess { time: at.time, address, bytes, write, memory, engine }
    }
}

/// The answer to a request.
#[derive(Clone, Copy, Debug)]
pub(super) struct Completion {
    pub engine: u8,
    pub tag: u64,
    /// When the data are there, or written.
    pub data: Lazy,
}

/// A burst as it was requested, for traces.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct MemoryAccess {
    /// When the engine asked for it.
    pub time: Time,
    /// Where, aligned to `bytes`.
    pub address: u64,
    /// Bytes of the burst.
    pub bytes: u32,
    /// Whether it is written.
    pub write: bool,
    /// Number of the memory space.
    pub memory: u8,
    /// Number of the engine.
    pub engine: u8,
}

/// Who is told of every request, in the order of time.
pub type AccessTap<'a> = dyn FnMut(MemoryAccess) + 'a;

/// Which requests a memory serves first, and how long each takes.
#[derive(Debug)]
enum Model {
    Ideal(ideal::Ideal),
    #[cfg(test)]
    Shuffled(Box<shuffled::Shuffled>),
}

/// What moved at the pins.
#[derive(Debug, Default)]
struct Traffic {
    bytes: u64,
    busy: Time,
    windows: windows::Windows,
}

impl Traffic {
    /// Accounts for a burst; calls come in the order of time.
    #[inline]
    fn serve(&mut self, start: Time, end: Time, bytes: u32) {
        self.windows.add(start, end, bytes.into());
        self.bytes += u64::from(bytes);
        self.busy += end - start;
    }
}

/// One memory space.
#[derive(Debug)]
pub(super) struct Memory {
    model: Model,
    traffic: Traffic,
    host_bytes: u64,
}

impl Memory {
    pub fn new(accelerator: &Accelerator, memory: MemoryId) -> Self {
        Self::with(Model::Ideal(ideal::Ideal::new(accelerator, memory)))
    }

    fn with(model: Model) -> Self {
        Self { model, traffic: Traffic::default(), host_bytes: 0 }
    }

    /// One that answers in an order of its own.
    #[cfg(test)]
    pub fn shuffled(seed: u64, spread: Time) -> Self {
        Self::with(Model::Shuffled(Box::new(shuffled::Shuffled::new(seed, spread))))
    }

    /// Takes a request. Requests come in the order of time.
    #[inline]
    pub fn offer(&mut self, graph: &mut CauseGraph, request: Request) -> Result<(), TimingError> {
        match &mut self.model {
            Model::Ideal(model) => model.offer(graph, &mut self.traffic, request),
            #[cfg(test)]
            Model::Shuffled(model) => model.offer(graph, &mut self.traffic, request),
        }
    }

    /// The next answer that no later request can change, if none comes before `horizon`. Each is given once; they may
    /// lie in the future and come in any order.
    #[inline]
    pub fn next_completion(&mut self, horizon: Time) -> Option<Completion> {
        match &mut self.model {
            Model::Ideal(model) => model.next_completion(horizon),
            #[cfg(test)]
            Model::Shuffled(model) => model.next_completion(horizon),
        }
    }

    /// No answer that is not given yet lies before this; [`Time::END`] where none is due.
    #[inline]
    pub fn earliest(&self) -> Time {
        match &self.model {
            Model::Ideal(model) => model.earliest(),
            #[cfg(test)]
            Model::Shuffled(model) => model.earliest(),
        }
    }

    /// Accounts for bytes that the host reads or writes at its own pace.
    pub fn host_access(&mut self, start: Time, end: Time, bytes: u64) -> Result<(), TimingError> {
        self.host_bytes = sum(self.host_bytes, bytes)?;
        self.traffic.windows.spread(start, end, bytes);
        Ok(())
    }

    /// The memory's figures after a run of `end` in which so many useful bytes were read and written.
    pub fn report(&mut self, end: Time, [read, written]: [u64; 2]) -> Result<MemoryTiming, TimingError> {
        let [peak, p95] = self.traffic.windows.finish(end);
        Ok(MemoryTiming {
            read: Bytes(read),
            written: Bytes(written),
            moved: Bytes(sum(self.traffic.bytes, self.host_bytes)?),
            host: Bytes(self.host_bytes),
            busy: self.traffic.busy,
            peak_window: Bytes(peak),
            p95_window: Bytes(p95),
        })
    }

    /// Every event that it still depends on.
    pub fn visit_events(&mut self, visit: &mut dyn FnMut(&mut Event)) {
        match &mut self.model {
            Model::Ideal(model) => model.visit_events(visit),
            #[cfg(test)]
            Model::Shuffled(model) => model.visit_events(visit),
        }
    }
}
