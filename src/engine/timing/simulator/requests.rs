//! Requests to memory in the order of time, the one thing that does not follow in program order, and what their answers
//! end.

use super::Simulator;
use crate::{
    engine::timing::{
        TimingError,
        array::Phases,
        causes::Event,
        memory::{Completion, Memory},
        observer::{Observer, Unit},
    },
    units::Time,
};

impl<O: Observer> Simulator<'_, O> {
    /// Makes requests in the order of time until some transfer has requested all of its own bursts or memory answers one
    /// that it owed; whether any transfer is at work.
    pub(super) fn serve(&mut self) -> Result<bool, TimingError> {
        loop {
            let mut first: Option<(Time, usize)> = None;
            let mut second: Option<(Time, usize)> = None;
            for (id, engine) in self.engines.iter().enumerate() {
                let Some(time) = engine.dma.next_request() else { continue };
                if first.is_none_or(|best| (time, id) < best) {
                    second = first;
                    first = Some((time, id));
                } else if second.is_none_or(|best| (time, id) < best) {
                    second = Some((time, id));
                }
            }
            // An answer may let an engine make an earlier request.
            let owed = self.memories.iter().map(Memory::earliest).min().unwrap_or(Time::END);
            let horizon = first.map_or(Time::END, |(time, _)| time);
            if owed <= horizon
                && let Some(memory) = self.memories.iter_mut().find(|memory| memory.earliest() == owed)
                && let Some(done) = memory.next_completion(horizon)
            {
                self.deliver(done)?;
                return Ok(true);
            }
            let Some((_, id)) = first else { return Ok(false) };
            // Of equal requests the lower engine's goes first.
            let until = second.map_or(Time::END, |(time, other)| time + Time(u64::from(id < other)));
            let engine = &mut self.engines[id];
            self.graph.instruction = engine.moving.as_ref().map_or(0, |(queued, _)| queued.index);
            let progress = engine.dma.serve(&mut self.graph, &mut self.memories, until.min(owed), &mut self.tap)?;
            if let Some((queued, _)) = &engine.moving {
                self.watch.phases(&mut self.graph.noted, Unit::Engine(id), queued.layer, queued.index);
            }
            if let Some(free) = progress.free {
                engine.free = free;
                engine.landing.extend(engine.moving.take());
                self.land(id)?;
            }
            if let Some(done) = progress.completion {
                self.deliver(done)?;
            }
            if progress.free.is_some() || progress.completion.is_some() {
                return Ok(true);
            }
            if self.graph.is_full() {
                // Nothing else can be resolved now, so what is unknown comes after the next request, or after an answer
                // that memory owes.
                let owes = self.engines.iter().any(|engine| engine.dma.is_open());
                let next = self.engines.iter().filter_map(|engine| engine.dma.next_request()).min();
                self.compact(next.filter(|_| !owes).unwrap_or(Time::ZERO));
            }
        }
    }

    /// Hands an answer of memory to the engine that asked.
    fn deliver(&mut self, done: Completion) -> Result<(), TimingError> {
        let id = usize::from(done.engine);
        let engine = &mut self.engines[id];
        let oldest = engine.landing.front().or(engine.moving.as_ref());
        self.graph.instruction = oldest.map_or(0, |(queued, _)| queued.index);
        engine.dma.deliver(&mut self.graph, done)?;
        if let Some((queued, _)) = oldest {
            self.watch.phases(&mut self.graph.noted, Unit::Engine(id), queued.layer, queued.index);
        }
        self.land(id)
    }

    /// Retires an engine's transfers whose data are all there.
    fn land(&mut self, id: usize) -> Result<(), TimingError> {
        loop {
            let engine = &mut self.engines[id];
            if let Some((queued, _)) = engine.landing.front() {
                self.graph.instruction = queued.index;
            }
            let Some(end) = engine.dma.landed(&mut self.graph)? else { return Ok(()) };
            if let Some((queued, start)) = engine.landing.pop_front() {
                self.finish(id, &queued, Phases { start: Event { time: start, ..end }, end })?;
            }
        }
    }
}
