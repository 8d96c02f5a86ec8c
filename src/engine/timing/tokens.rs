//! Tokens in time. Those that can bind nothing any more are forgotten, so that memory holds live tokens only.

use std::collections::VecDeque;

use super::{TimingError, causes::Event};
use crate::{program::Token, units::Time};

/// What is known of a token.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum TokenState {
    /// Not signalled yet.
    Pending,
    /// Signalled then.
    Signalled(Event),
    /// Signalled before anything that is still to come is issued.
    Past,
}

const PENDING: Time = Time::END;

/// All tokens that instructions issued so far signal.
#[derive(Debug, Default)]
pub(super) struct Tokens {
    first: u32,
    events: VecDeque<Event>,
}

impl Tokens {
    /// Announces the token that an issued instruction will signal.
    pub fn announce(&mut self, token: Token) -> Result<(), TimingError> {
        let next = u64::from(self.first) + self.events.len() as u64;
        if u64::from(token.0) != next {
            return Err(TimingError::TokenOrder { token: token.0, expected: next });
        }
        self.events.push_back(Event { time: PENDING, node: 0 });
        Ok(())
    }

    #[inline]
    pub fn state(&self, token: Token) -> Result<TokenState, TimingError> {
        let Some(index) = token.0.checked_sub(self.first) else { return Ok(TokenState::Past) };
        match self.events.get(index as usize) {
            None => Err(TimingError::UnknownToken(token.0)),
            Some(event) if event.time == PENDING => Ok(TokenState::Pending),
            Some(event) => Ok(TokenState::Signalled(*event)),
        }
    }

    pub fn signal(&mut self, token: Token, event: Event) {
        let slot = token.0.checked_sub(self.first).and_then(|index| self.events.get_mut(index as usize));
        if let Some(slot) = slot {
            *slot = event;
        }
    }

    /// Forgets tokens signalled before `time`; every instruction that may still ask is issued at `time` or later.
    pub fn forget_before(&mut self, time: Time) {
        // `PENDING` is later than any time.
        while self.events.front().is_some_and(|event| event.time < time) {
            self.events.pop_front();
            self.first += 1;
        }
    }

    /// Every event that may still bind.
    pub fn visit_events(&mut self, visit: &mut dyn FnMut(&mut Event)) {
        self.events.iter_mut().filter(|event| event.time != PENDING).for_each(visit);
    }
}
