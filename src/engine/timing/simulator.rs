//! The event loop: one issue unit, in-order engines with queues, tokens between them.
//!
//! Everything but requests to memory and their answers follows in program order from what is known. So instructions are
//! resolved as soon as all that they depend on is, and only requests are made in the order of time: when nothing else
//! can be resolved, every instruction still unknown depends on a request that is not made or not answered yet, hence
//! cannot make a request before the earliest of those. That one comes next.

mod engine;
mod requests;

use std::collections::VecDeque;

use smallvec::SmallVec;

use engine::{Engine, Queued};

use super::{
    Options, TimingError,
    array::{ArrayTimer, Phases, Ready},
    causes::{Cause, CauseGraph, Causes, Event, latest},
    clock::{after, edge, times},
    decode::{DecodedOp, Decoder},
    dma::DmaLaw,
    layers::LayerBook,
    memory::{AccessTap, Memory},
    observer::{Done, Observer, Unit, Watch},
    report::{BufferTiming, EngineTiming, TimingReport},
    tokens::{TokenState, Tokens},
};
use crate::{
    config::{Accelerator, Dataflow, EngineKind, MemoryId},
    dataflow::schedule,
    program::{Header, Instruction},
    units::{Bytes, Cycles, Time},
};

/// Instructions that may wait in front of one engine (bodies of hardware loops included), so that a program cannot
/// take unbounded memory.
const MOST_WAITING: usize = 1 << 22;

/// How often past tokens are forgotten, in instructions.
const FORGET_EVERY: u64 = 256;

/// A program being timed.
pub(super) struct Simulator<'a, O> {
    header: &'a Header,
    decoder: Decoder<'a>,
    graph: CauseGraph,
    period: Time,
    vector_period: Time,
    queue_depth: usize,
    issue_time: Time,
    launch_time: Time,
    fence_time: Time,
    switch_cycles: u64,
    /// When the issue unit is done with the last instruction.
    issued: Event,
    issue_stalled: Time,
    instructions: u64,
    engines: Vec<Engine>,
    /// The arrays, each with the dataflow that it was last used in.
    arrays: Vec<(ArrayTimer, Option<Dataflow>)>,
    first_array: usize,
    /// Free places in the weight FIFO, each from when on.
    fifo_places: VecDeque<Event>,
    memories: Vec<Memory>,
    tokens: Tokens,
    layers: LayerBook,
    order: Option<Vec<(Time, u64)>>,
    tap: Option<&'a mut AccessTap<'a>>,
    watch: Watch<'a, O>,
}

impl<'a> Simulator<'a, ()> {
    pub fn new(
        accelerator: &'a Accelerator,
        header: &'a Header,
        options: Options,
        limit: usize,
    ) -> Result<Self, TimingError> {
        Self::observed(accelerator, header, options, limit, None)
    }
}

impl<'a, O: Observer> Simulator<'a, O> {
    pub fn observed(
        accelerator: &'a Accelerator,
        header: &'a Header,
        options: Options,
        limit: usize,
        observer: Option<&'a mut O>,
    ) -> Result<Self, TimingError> {
        let period = accelerator.array_period;
        if period == Time::ZERO
            || accelerator.vector_period == Time::ZERO
            || accelerator.engines.iter().any(|engine| engine.period == Time::ZERO)
        {
            return Err(TimingError::Machine("a clock of no period"));
        }
        let control = &accelerator.config.control;
        let mut engines = Vec::new();
        for (id, engine) in accelerator.engines.iter().enumerate() {
            let id = u8::try_from(id).map_err(|_| TimingError::Machine("more than 256 engines"))?;
            engines.push(Engine::new(engine.kind, engine.period, DmaLaw::new(accelerator, id, engine.period)?));
        }
        let mut memories = Vec::new();
        for index in 0..accelerator.config.memories.len() {
            let id = u8::try_from(index).map_err(|_| TimingError::Machine("more than 256 memory spaces"))?;
            memories.push(Memory::new(accelerator, MemoryId(id)));
        }
        let mut graph = CauseGraph::new(limit, options.record_phases);
        if O::ACTIVE {
            graph.observe();
        }
        Ok(Self {
            header,
            decoder: Decoder::new(accelerator, header)?,
            graph,
            period,
            vector_period: accelerator.vector_period,
            queue_depth: usize::try_from(control.queue_depth.max(1)).unwrap_or(usize::MAX),
            issue_time: times(period, control.issue_cycles.into())?,
            launch_time: times(period, control.launch_cycles.into())?,
            fence_time: times(period, control.fence_cycles.into())?,
            switch_cycles: accelerator.config.array.dataflow_switch_cycles.into(),
            issued: Event::ORIGIN,
            issue_stalled: Time::ZERO,
            instructions: 0,
            engines,
            arrays: (0..accelerator.config.array.count)
                .map(|_| Ok((ArrayTimer::new(accelerator)?, None)))
                .collect::<Result<_, TimingError>>()?,
            first_array: usize::from(accelerator.array_engine().0),
            fifo_places: vec![Event::ORIGIN; accelerator.config.buffers.weight_fifo_tiles as usize].into(),
            memories,
            tokens: Tokens::default(),
            layers: LayerBook::new(header.layers.len(), period),
            order: options.record_order.then(Vec::new),
            tap: None,
            watch: Watch::new(accelerator, header.buffer_scale, observer),
        })
    }

    /// Tells of every request to memory.
    pub fn with_tap(mut self, tap: Option<&'a mut AccessTap<'a>>) -> Self {
        self.tap = tap;
        self
    }

    /// The same with other memories, one for each of the machine's.
    #[cfg(test)]
    pub fn with_memories(mut self, memories: Vec<Memory>) -> Self {
        self.memories = memories;
        self
    }

    /// Times all instructions.
    pub fn run(mut self, instructions: impl Iterator<Item = Instruction>) -> Result<TimingReport, TimingError> {
        let mut instructions = instructions;
        let mut next = instructions.next();
        loop {
            while let Some(instruction) = &next {
                if !self.issue(instruction)? {
                    break;
                }
                if self.graph.is_full() {
                    self.compact(Time::ZERO);
                }
                next = instructions.next();
            }
            if self.start_all()? || self.serve()? {
                continue;
            }
            let Some(stuck) = next else { break };
            return Err(TimingError::Stuck(stuck.index));
        }
        self.layers.finish();
        self.layers.settle(&self.graph)?;
        self.report()
    }

    /// Issues an instruction, unless its queue is full or it must wait for what is not known yet.
    fn issue(&mut self, instruction: &Instruction) -> Result<bool, TimingError> {
        let id = usize::from(instruction.engine.0);
        let Some(engine) = self.engines.get(id) else {
            return Err(TimingError::WrongEngine { index: instruction.index, engine: instruction.engine.0 });
        };
        let is_fence = matches!(instruction.operation, crate::program::Operation::Fence);
        if is_fence {
            if self.engines.iter().any(|engine| !engine.rests() || !engine.queue.is_empty()) {
                return Ok(false);
            }
        } else if instruction.commands > 0 && engine.commands_waiting >= self.queue_depth {
            return Ok(false);
        } else if engine.queue.len() >= MOST_WAITING {
            return Err(TimingError::TooManyWaiting(instruction.index));
        }
        let (op, counters) = self.decoder.decode(instruction, engine.kind)?;

        self.graph.instruction = instruction.index;
        let mut begin = self.issued;
        if instruction.commands > 0 && !is_fence {
            // The command `queue_depth` before it on this engine must have started.
            let started = engine.command_starts.len() + engine.commands_waiting;
            if let Some(slot) = started.checked_sub(self.queue_depth).and_then(|at| engine.command_starts.get(at)) {
                begin = latest([*slot, begin]);
            }
        }
        self.issue_stalled += begin.time - self.issued.time;
        let layer = instruction.layer.index();
        self.watch.issued(instruction, self.issued.time, begin.time);
        let mut now = begin;
        if self.layers.is_new(layer) && self.launch_time > Time::ZERO {
            let end = after(edge(now.time, self.period)?, self.launch_time)?;
            now = self.graph.phase(now, Cause::Fence, end)?;
        }
        let issue_time = times(self.issue_time, instruction.commands.into())?;
        if issue_time > Time::ZERO {
            let end = after(edge(now.time, self.period)?, issue_time)?;
            now = self.graph.phase(now, Cause::Issue, end)?;
        }
        self.issued = now;
        self.watch.phases(&mut self.graph.noted, Unit::Issue, layer, instruction.index);
        self.layers.issue(layer, begin.time, &counters)?;
        self.instructions += 1;

        let mut tokens = Event::ORIGIN;
        let mut pending = SmallVec::new();
        for &token in &instruction.waits {
            match self.tokens.state(token)? {
                TokenState::Past => {}
                TokenState::Signalled(event) => tokens = latest([tokens, event]),
                TokenState::Pending => pending.push(token),
            }
        }
        if let Some(token) = instruction.signals {
            self.tokens.announce(token)?;
        }
        let queued = Queued {
            index: instruction.index,
            layer,
            is_command: instruction.commands > 0,
            issue: now,
            tokens,
            pending,
            signals: instruction.signals,
            op,
        };
        if is_fence {
            self.fence(&queued)?;
            return Ok(true);
        }
        let engine = &mut self.engines[id];
        engine.commands_waiting += usize::from(queued.is_command);
        let ready = engine.queue.is_empty() && engine.takes(&queued.op) && queued.pending.is_empty();
        if ready && self.has_place(&queued.op) {
            self.start(id, queued)?;
        } else {
            self.engines[id].queue.push_back(queued);
            self.start_head(id)?;
        }
        if self.instructions.is_multiple_of(FORGET_EVERY) {
            let mut time = self.issued.time;
            for engine in &self.engines {
                if let Some(oldest) = engine.queue.front() {
                    time = time.min(oldest.issue.time);
                }
            }
            self.tokens.forget_before(time);
        }
        Ok(true)
    }

    /// Waits for every engine, then holds the issue unit. All engines are known to come to rest.
    fn fence(&mut self, queued: &Queued) -> Result<(), TimingError> {
        let mut bound = queued.tokens;
        for engine in &self.engines {
            bound = latest([bound, engine.retired]);
        }
        bound = latest([bound, queued.issue]);
        let end = after(edge(bound.time, self.period)?, self.fence_time)?;
        let end = self.graph.phase(bound, Cause::Fence, end)?;
        self.issued = end;
        self.watch.phases(&mut self.graph.noted, Unit::Issue, queued.layer, queued.index);
        self.watch.done(&done(Unit::Issue, queued, Phases { start: queued.issue, end }))?;
        if let Some(order) = &mut self.order {
            order.push((end.time, queued.index));
        }
        self.retire(queued, end)
    }

    /// Starts every instruction that can start; whether there was any.
    fn start_all(&mut self) -> Result<bool, TimingError> {
        let mut any = false;
        loop {
            let mut progress = false;
            for id in 0..self.engines.len() {
                while self.start_head(id)? {
                    progress = true;
                    if self.graph.is_full() {
                        self.compact(Time::ZERO);
                    }
                }
            }
            any |= progress;
            if !progress {
                return Ok(any);
            }
        }
    }

    /// Starts the oldest waiting instruction of an engine if all its tokens are known.
    fn start_head(&mut self, id: usize) -> Result<bool, TimingError> {
        let engine = &self.engines[id];
        if engine.queue.front().is_none_or(|head| !engine.takes(&head.op) || !self.has_place(&head.op)) {
            return Ok(false);
        }
        let Some(head) = self.engines[id].queue.front_mut() else { return Ok(false) };
        while let Some(&token) = head.pending.last() {
            match self.tokens.state(token)? {
                TokenState::Pending => return Ok(false),
                TokenState::Past => {}
                TokenState::Signalled(event) => head.tokens = latest([head.tokens, event]),
            }
            head.pending.pop();
        }
        let Some(head) = self.engines[id].queue.pop_front() else { return Ok(false) };
        self.start(id, head)?;
        Ok(true)
    }

    /// Whether it is known when there is room in the FIFO, where that is needed.
    fn has_place(&self, op: &DecodedOp) -> bool {
        !matches!(op, DecodedOp::Fetch(_)) || !self.fifo_places.is_empty()
    }

    /// Holds an engine for a time that depends on nothing else, from the first edge at or after `bound` on.
    fn work(
        &mut self,
        id: usize,
        queued: &Queued,
        bound: Event,
        duration: Time,
        cause: Cause,
    ) -> Result<(), TimingError> {
        let period = if cause == Cause::Vector { self.vector_period } else { self.period };
        let at = edge(bound.time, period)?;
        let start = self.graph.phase(bound, cause, at)?;
        let end = self.graph.phase(start, cause, after(at, duration)?)?;
        self.engines[id].free = end;
        self.started(id, queued, start);
        self.finish(id, queued, Phases { start, end })
    }

    /// Starts an instruction whose tokens are known, on an engine that has started all before it.
    fn start(&mut self, id: usize, queued: Queued) -> Result<(), TimingError> {
        self.graph.instruction = queued.index;
        let engine = &self.engines[id];
        let ready = Ready { tokens: queued.tokens, issue: queued.issue };
        let bound = latest([queued.tokens, engine.free, queued.issue]);
        match &queued.op {
            DecodedOp::Fetch(duration) => {
                let place = self.fifo_places.pop_front().ok_or(TimingError::Machine("a fetch without a place"))?;
                self.work(id, &queued, latest([bound, place]), *duration, Cause::WeightLoad)
            }
            DecodedOp::Preload | DecodedOp::PreloadNext | DecodedOp::Stream(_) => {
                let dataflow = self.header.layers.get(queued.layer).and_then(|layer| layer.dataflow);
                let array = id.checked_sub(self.first_array).and_then(|index| self.arrays.get_mut(index));
                let Some((array, current)) = array else {
                    return Err(TimingError::Machine("an array that is not listed"));
                };
                if dataflow.is_some() && dataflow != *current {
                    let stays = |dataflow| schedule(dataflow).stationary().is_some();
                    let wired_alike = current.map(stays) == dataflow.map(stays);
                    if current.is_some() && !(wired_alike && self.switch_cycles == 0) {
                        array.switch_dataflow(&mut self.graph, self.switch_cycles)?;
                    }
                    *current = dataflow;
                }
                let phases = match &queued.op {
                    DecodedOp::Stream(tile) => array.stream(&mut self.graph, tile, ready)?,
                    _ => array.preload(&mut self.graph, ready)?,
                };
                if matches!(queued.op, DecodedOp::PreloadNext) {
                    self.fifo_places.push_back(phases.end);
                }
                self.started(id, &queued, phases.start);
                self.finish(id, &queued, phases)
            }
            DecodedOp::Vector(duration) => self.work(id, &queued, bound, *duration, Cause::Vector),
            DecodedOp::Host(host) => {
                let at = edge(bound.time, self.period)?;
                let start = self.graph.phase(bound, Cause::Host, at)?;
                let end = edge(after(at, host.duration)?, self.period)?;
                let end = self.graph.phase(start, Cause::Host, end)?;
                for &(memory, bytes) in &host.accesses {
                    self.memories[usize::from(memory)].host_access(at, end.time, bytes)?;
                    let during = done(Unit::Engine(id), &queued, Phases { start, end });
                    self.watch.host_access(&during, memory, bytes);
                }
                self.engines[id].free = end;
                self.started(id, &queued, start);
                self.finish(id, &queued, Phases { start, end })
            }
            DecodedOp::Transfer(transfer) => {
                let at = edge(bound.time, engine.period)?;
                let start = self.graph.phase(bound, Cause::Move, at)?;
                let moved = self.engines[id].dma.begin(&mut self.graph, start, transfer)?;
                self.started(id, &queued, start);
                if let Some(end) = moved {
                    self.engines[id].free = end;
                    self.finish(id, &queued, Phases { start, end })
                } else {
                    self.watch.phases(&mut self.graph.noted, Unit::Engine(id), queued.layer, queued.index);
                    self.engines[id].moving = Some((queued, start.time));
                    Ok(())
                }
            }
            // Fences are the issue unit's.
            DecodedOp::Fence => Ok(()),
        }
    }

    /// Accounts for a start.
    fn started(&mut self, id: usize, queued: &Queued, start: Event) {
        let engine = &mut self.engines[id];
        engine.instructions += 1;
        let idle_until_issue = queued.issue.time.clamp(engine.busy_until, start.time.max(engine.busy_until));
        engine.waiting_issue += idle_until_issue - engine.busy_until;
        engine.waiting_token += start.time.saturating_sub(idle_until_issue);
        engine.last_start = engine.last_start.max(start.time);
        if queued.is_command {
            engine.commands_waiting -= 1;
            // A start that is past, or beyond the queue's depth, binds nothing.
            let issued = self.issued.time;
            while engine.command_starts.len() >= self.queue_depth
                || engine.command_starts.front().is_some_and(|oldest| oldest.time < issued)
            {
                engine.command_starts.pop_front();
            }
            // The queue is in order: a slot frees no earlier than the one before.
            let slot = engine.command_starts.back().map_or(start, |before| latest([start, *before]));
            engine.command_starts.push_back(slot);
        }
        if let Some(order) = &mut self.order {
            order.push((engine.last_start, queued.index));
        }
    }

    /// Accounts for work that is done at `phases.end`.
    fn finish(&mut self, id: usize, queued: &Queued, phases: Phases) -> Result<(), TimingError> {
        self.watch.phases(&mut self.graph.noted, Unit::Engine(id), queued.layer, queued.index);
        self.watch.done(&done(Unit::Engine(id), queued, phases))?;
        let engine = &mut self.engines[id];
        let from = phases.start.time.max(engine.busy_until);
        let busy = phases.end.time.saturating_sub(from);
        engine.busy += busy;
        engine.busy_until = from + busy;
        if engine.kind == EngineKind::Array {
            // A load behind another tile's stream is hidden; only what shows makes the array busy.
            let start =
                if matches!(queued.op, DecodedOp::Preload | DecodedOp::PreloadNext) { from } else { phases.start.time };
            self.layers.array_busy(queued.layer, id - self.first_array, start, phases.end.time);
        }
        let engine = &mut self.engines[id];
        engine.retired = latest([phases.end, engine.retired]);
        let retired = engine.retired;
        self.retire(queued, retired)
    }

    fn retire(&mut self, queued: &Queued, event: Event) -> Result<(), TimingError> {
        if let Some(token) = queued.signals {
            self.tokens.signal(token, event);
        }
        self.layers.retire(queued.layer, event);
        self.layers.settle(&self.graph)
    }

    /// Drops the part of the cause graph that nothing depends on. What is not resolved yet retires no earlier than
    /// `pending`.
    fn compact(&mut self, pending: Time) {
        let safe = self.layers.earliest_boundary(self.issued.time, pending);
        let mut roots = Vec::new();
        self.visit_events(&mut |event| roots.push(event.node));
        let renamed = self.graph.compact(&roots, self.layers.base(), safe);
        self.visit_events(&mut |event| event.node = renamed[event.node as usize]);
    }

    fn visit_events(&mut self, visit: &mut dyn FnMut(&mut Event)) {
        visit(&mut self.issued);
        self.arrays.iter_mut().for_each(|(array, _)| array.visit_events(visit));
        self.fifo_places.iter_mut().for_each(&mut *visit);
        self.tokens.visit_events(visit);
        self.layers.visit_events(visit);
        self.memories.iter_mut().for_each(|memory| memory.visit_events(visit));
        for engine in &mut self.engines {
            visit(&mut engine.free);
            visit(&mut engine.retired);
            engine.dma.visit_events(visit);
            engine.command_starts.iter_mut().for_each(&mut *visit);
            let moving = engine.moving.iter_mut().chain(&mut engine.landing).map(|(queued, _)| queued);
            for queued in engine.queue.iter_mut().chain(moving) {
                visit(&mut queued.issue);
                visit(&mut queued.tokens);
            }
        }
    }

    fn report(mut self) -> Result<TimingReport, TimingError> {
        let end = self.layers.base();
        let cycles = |time: Time| time.cycles_ceil(self.period);
        let engines = self.engines.iter().map(|engine| EngineTiming {
            busy: cycles(engine.busy),
            waiting_token: cycles(engine.waiting_token),
            waiting_issue: cycles(engine.waiting_issue),
            instructions: engine.instructions,
        });
        let mut report = TimingReport {
            cycles: cycles(end),
            end,
            engines: engines.collect(),
            instructions: self.instructions,
            issue_stalled: cycles(self.issue_stalled),
            records: self.graph.records(),
            ..TimingReport::default()
        };
        for (index, memory) in self.memories.iter_mut().enumerate() {
            report.memories.push(memory.report(end, self.decoder.useful(index))?);
        }
        let on_chip = self.decoder.on_chip();
        report.buffers =
            on_chip.map(|[read, written]| BufferTiming { read: Bytes(read), written: Bytes(written) }).collect();
        if let Some(mut order) = self.order {
            order.sort_unstable();
            report.issue_order = order.into_iter().map(|(_, index)| index).collect();
        }
        report.layers = self.layers.into_timings();
        self.watch.finish(report.layers.iter().map(|layer| layer.end));
        let mut causes = Causes::default();
        let mut total = Cycles::ZERO;
        for layer in &report.layers {
            causes += layer.causes;
            total += layer.cycles;
        }
        debug_assert_eq!(total, report.cycles, "layers partition the timeline");
        report.causes = causes;
        Ok(report)
    }
}

/// An instruction that is done, as an observer is told of it.
fn done(unit: Unit, queued: &Queued, phases: Phases) -> Done {
    let Phases { start, end } = phases;
    Done { unit, layer: queued.layer, instruction: queued.index, start: start.time, end: end.time }
}
