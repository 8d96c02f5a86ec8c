//! A memory space in time: first come, first served, at a fixed bandwidth; its traffic, and its bandwidth over windows
//! of 1 us.

use std::collections::{BTreeMap, VecDeque};

use super::{
    TimingError,
    array::sum,
    causes::{CauseGraph, Event},
    report::MemoryTiming,
};
use crate::{
    config::{Accelerator, MemoryId},
    units::{Bytes, Time},
};

/// Length of a window: 1 us.
pub const WINDOW: Time = Time(1_000_000_000);

/// One memory space.
#[derive(Debug)]
pub(super) struct Memory {
    id: u8,
    /// Bytes of one request.
    burst: u64,
    /// How long one request holds the memory, fs.
    service: u64,
    /// From the end of service to the data's arrival, fs.
    pub latency: u64,
    /// The end of the last request's service.
    pub free: Event,
    bursts: u64,
    host_bytes: u64,
    windows: Windows,
}

impl Memory {
    pub fn new(accelerator: &Accelerator, memory: MemoryId) -> Self {
        let burst = u64::from(accelerator.config.dma.burst_bytes);
        Self {
            id: memory.0,
            burst,
            service: accelerator.memory_service(memory, Bytes(burst)).0,
            latency: accelerator.memory_latency(memory).0,
            free: Event::ORIGIN,
            bursts: 0,
            host_bytes: 0,
            windows: Windows::default(),
        }
    }

    /// Serves the request that came at `request`, which is made an event only if the memory is free then. Requests
    /// must come in the order of time.
    #[inline]
    pub fn serve(&mut self, graph: &mut CauseGraph, request: super::causes::Lazy) -> Result<Event, TimingError> {
        let pred = if self.free.time > request.time { self.free } else { graph.realize(request)? };
        let end = sum(pred.time, self.service)?;
        let served = graph.service(pred, end, (self.id, self.burst))?;
        self.windows.add(pred.time, end, self.burst);
        self.free = served;
        self.bursts += 1;
        Ok(served)
    }

    /// Accounts for bytes that the host reads or writes at its own pace.
    pub fn host_access(&mut self, start: u64, end: u64, bytes: u64) -> Result<(), TimingError> {
        self.host_bytes = sum(self.host_bytes, bytes)?;
        self.windows.spread(start, end, bytes);
        Ok(())
    }

    /// The memory's figures after a run of `end` in which so many useful bytes were read and written.
    pub fn report(&mut self, end: u64, [read, written]: [u64; 2]) -> Result<MemoryTiming, TimingError> {
        let [peak, p95] = self.windows.finish(end);
        let moved = self.bursts.checked_mul(self.burst).ok_or(TimingError::Overflow)?;
        Ok(MemoryTiming {
            read: Bytes(read),
            written: Bytes(written),
            moved: Bytes(sum(moved, self.host_bytes)?),
            host: Bytes(self.host_bytes),
            busy: Time(self.bursts.checked_mul(self.service).ok_or(TimingError::Overflow)?),
            peak_window: Bytes(peak),
            p95_window: Bytes(p95),
        })
    }
}

/// Bytes by window, kept as a histogram: a run may have millions of windows, but few different fillings.
#[derive(Debug, Default)]
struct Windows {
    /// The window that is being filled, and where it ends.
    current: u64,
    filled: u64,
    /// Windows by bytes.
    histogram: BTreeMap<u64, u64>,
    /// Stretches of constant rate that are known ahead of time: `(start, end, bytes)`, in the order of time.
    spread: VecDeque<(u64, u64, u64)>,
}

impl Windows {
    /// Adds bytes that move evenly over `start..end`; calls come in the order of time, and stretches are short.
    #[inline]
    fn add(&mut self, start: u64, end: u64, bytes: u64) {
        let boundary = self.boundary();
        if end <= boundary {
            self.filled += bytes;
        } else {
            self.add_across(start, end, bytes);
        }
    }

    fn boundary(&self) -> u64 {
        self.current.saturating_add(1).saturating_mul(WINDOW.0)
    }

    #[cold]
    fn add_across(&mut self, start: u64, end: u64, bytes: u64) {
        self.close_until(start / WINDOW.0);
        let boundary = self.boundary();
        if end <= boundary {
            self.filled += bytes;
            return;
        }
        if end - boundary > WINDOW.0 {
            // A slow memory's burst may cover any number of windows.
            self.spread(start, end, bytes);
            return;
        }
        let part = share(bytes, boundary - start, end - start);
        self.filled += part;
        self.close_until(self.current + 1);
        self.filled += bytes - part;
    }

    /// Adds bytes of a stretch that begins no earlier than what was added so far; it may be long.
    fn spread(&mut self, start: u64, end: u64, bytes: u64) {
        if bytes > 0 {
            // What would fall into windows that are closed already counts in the open one.
            let start = start.max(self.current.saturating_mul(WINDOW.0));
            let at = self.spread.partition_point(|&(other, ..)| other <= start);
            self.spread.insert(at, (start, end.max(start + 1), bytes));
        }
    }

    /// Closes the windows before `target`.
    fn close_until(&mut self, target: u64) {
        while self.current < target {
            let [from, to] = [self.current.saturating_mul(WINDOW.0), self.boundary()];
            let mut bytes = self.filled;
            for &(start, end, total) in &self.spread {
                if start >= to {
                    break;
                }
                let until = |time: u64| share(total, time.clamp(start, end) - start, end - start);
                bytes += until(to) - until(from);
            }
            while self.spread.front().is_some_and(|&(_, end, _)| end <= to) {
                self.spread.pop_front();
            }
            self.count(bytes, 1);
            self.filled = 0;
            self.current += 1;
            // Many windows without a burst are closed at once: empty ones, and those inside one long stretch.
            if let Some(&(start, end, total)) = self.spread.front() {
                if start > self.current.saturating_mul(WINDOW.0) {
                    let empty = (start / WINDOW.0).min(target).saturating_sub(self.current);
                    self.count(0, empty);
                    self.current += empty;
                } else if self.spread.len() == 1 {
                    let inside = (end / WINDOW.0).min(target).saturating_sub(self.current);
                    self.count(share(total, WINDOW.0, end - start), inside);
                    self.current += inside;
                }
            } else {
                let empty = target.saturating_sub(self.current);
                self.count(0, empty);
                self.current += empty;
            }
        }
    }

    fn count(&mut self, bytes: u64, windows: u64) {
        if windows > 0 {
            *self.histogram.entry(bytes).or_default() += windows;
        }
    }

    /// The largest window and the 95th percentile (nearest rank) over `0..end`.
    fn finish(&mut self, end: u64) -> [u64; 2] {
        self.close_until(end.div_ceil(WINDOW.0).max(self.current + 1));
        let total: u64 = self.histogram.values().sum();
        let peak = self.histogram.keys().next_back().copied().unwrap_or(0);
        let mut above = total / 20;
        let mut p95 = peak;
        for (&bytes, &windows) in self.histogram.iter().rev() {
            p95 = bytes;
            if windows > above {
                break;
            }
            above -= windows;
        }
        [peak, p95]
    }
}

/// `bytes * part / whole`, rounded down; `part <= whole`.
fn share(bytes: u64, part: u64, whole: u64) -> u64 {
    let value = u128::from(bytes) * u128::from(part) / u128::from(whole.max(1));
    u64::try_from(value).unwrap_or(bytes)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bytes_of_a_window_are_those_that_moved_in_it() {
        let us = WINDOW.0;
        let mut windows = Windows::default();
        windows.add(0, us / 2, 100);
        windows.add(us / 2, us + us / 2, 100);
        windows.add(3 * us, 3 * us + 10, 7);
        windows.spread(4 * us, 8 * us, 40);
        let [peak, _] = windows.finish(20 * us);
        assert_eq!(peak, 150);
        let expected: Vec<(u64, u64)> = vec![(0, 13), (7, 1), (10, 4), (50, 1), (150, 1)];
        assert_eq!(windows.histogram.into_iter().collect::<Vec<_>>(), expected);
    }

    #[test]
    fn the_percentile_leaves_out_the_largest_twentieth() {
        let mut windows = Windows::default();
        for index in 0..100_u64 {
            windows.add(index * WINDOW.0, index * WINDOW.0 + 1, index + 1);
        }
        assert_eq!(windows.finish(100 * WINDOW.0), [100, 95]);
    }
}
