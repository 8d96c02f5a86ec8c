//! A memory for tests: serves any number of requests at once and each after a random time, so that answers come in
//! any order and none is known when its request is made.

use rand::{Rng, SeedableRng};
use rand_chacha::ChaCha8Rng;

use super::{Completion, Request, Traffic};
use crate::{
    engine::timing::{
        TimingError,
        causes::{Cause, CauseGraph, Event, Lazy},
        clock::after,
    },
    units::Time,
};

#[derive(Debug)]
pub(super) struct Shuffled {
    random: ChaCha8Rng,
    /// The longest time that a request takes.
    spread: Time,
    pending: Vec<Completion>,
}

impl Shuffled {
    pub fn new(seed: u64, spread: Time) -> Self {
        Self { random: ChaCha8Rng::seed_from_u64(seed), spread, pending: Vec::new() }
    }

    pub fn offer(
        &mut self,
        graph: &mut CauseGraph,
        traffic: &mut Traffic,
        request: Request,
    ) -> Result<(), TimingError> {
        let base = graph.realize(request.at)?;
        let time = after(base.time, Time(self.random.random_range(0..=self.spread.0)))?;
        traffic.serve(base.time, base.time, request.bytes);
        let data = Lazy { base, cause: Cause::MemoryLatency, time };
        self.pending.push(Completion { engine: request.engine, tag: request.tag, data });
        Ok(())
    }

    pub fn next_completion(&mut self, horizon: Time) -> Option<Completion> {
        let first = (0..self.pending.len()).min_by_key(|&index| self.pending[index].data.time)?;
        (self.pending[first].data.time <= horizon).then(|| self.pending.swap_remove(first))
    }

    pub fn earliest(&self) -> Time {
        self.pending.iter().map(|answer| answer.data.time).min().unwrap_or(Time::END)
    }

    pub fn visit_events(&mut self, visit: &mut dyn FnMut(&mut Event)) {
        self.pending.iter_mut().for_each(|answer| visit(&mut answer.data.base));
    }
}
