//! An in-order engine with its queue, and what waits there. Decides nothing about time.

use std::collections::VecDeque;

use smallvec::SmallVec;

use crate::{
    config::EngineKind,
    engine::timing::{
        causes::Event,
        decode::DecodedOp,
        dma::{DmaEngine, DmaLaw},
    },
    program::Token,
    units::Time,
};

/// An instruction that is issued and has not started.
#[derive(Debug)]
pub(super) struct Queued {
    pub index: u64,
    pub layer: usize,
    pub is_command: bool,
    pub issue: Event,
    /// The last of its tokens that are signalled so far.
    pub tokens: Event,
    pub pending: SmallVec<[Token; 4]>,
    pub signals: Option<Token>,
    pub op: DecodedOp,
}

/// An in-order engine.
#[derive(Debug)]
pub(super) struct Engine {
    pub kind: EngineKind,
    pub period: Time,
    pub queue: VecDeque<Queued>,
    /// Commands in the queue.
    pub commands_waiting: usize,
    /// Starts of the last commands, at most as many as the queue holds.
    pub command_starts: VecDeque<Event>,
    /// When the next instruction can start (not the array: it has its law).
    pub free: Event,
    pub retired: Event,
    pub dma: DmaEngine,
    /// The transfer whose bursts are being requested, and its start.
    pub moving: Option<(Queued, Time)>,
    /// Those before it that wait for the answers of memory.
    pub landing: VecDeque<(Queued, Time)>,
    pub last_start: Time,
    pub busy_until: Time,
    pub busy: Time,
    pub waiting_token: Time,
    pub waiting_issue: Time,
    pub instructions: u64,
}

impl Engine {
    /// At rest, with nothing behind it.
    pub fn new(kind: EngineKind, period: Time, law: DmaLaw) -> Self {
        Self {
            kind,
            period,
            queue: VecDeque::new(),
            commands_waiting: 0,
            command_starts: VecDeque::new(),
            free: Event::ORIGIN,
            retired: Event::ORIGIN,
            dma: DmaEngine::new(law),
            moving: None,
            landing: VecDeque::new(),
            last_start: Time::ZERO,
            busy_until: Time::ZERO,
            busy: Time::ZERO,
            waiting_token: Time::ZERO,
            waiting_issue: Time::ZERO,
            instructions: 0,
        }
    }

    /// Whether all its transfers are over.
    pub fn rests(&self) -> bool {
        self.moving.is_none() && self.landing.is_empty()
    }

    /// Whether it can start this now. Only transfers go ahead of answers that memory still owes: all else retires
    /// behind them at once.
    pub fn takes(&self, op: &DecodedOp) -> bool {
        let asks = matches!(op, DecodedOp::Transfer(transfer) if !transfer.legs.is_empty());
        self.moving.is_none() && (asks || self.landing.is_empty())
    }
}
