//! Bytes that a memory space moves in each window of 1 us. Knows nothing of requests or engines.

use std::collections::{BTreeMap, VecDeque};

use crate::units::Time;

/// Length of a window: 1 us.
pub const WINDOW: Time = Time(1_000_000_000);

/// Bytes by window, kept as a histogram: a run may have millions of windows, but few different fillings.
#[derive(Debug, Default)]
pub(super) struct Windows {
    /// The window that is being filled, and where it ends.
    current: u64,
    filled: u64,
    /// Windows by bytes.
    histogram: BTreeMap<u64, u64>,
    /// Stretches of constant rate that are known ahead of time: `(start, end, bytes)`, in the order of time.
    spread: VecDeque<(Time, Time, u64)>,
}

impl Windows {
    /// Adds bytes that move evenly over `start..end`; calls come in the order of time, and stretches are short.
    #[inline]
    pub fn add(&mut self, start: Time, end: Time, bytes: u64) {
        let boundary = self.boundary();
        if end <= boundary {
            self.filled += bytes;
        } else {
            self.add_across(start, end, bytes);
        }
    }

    fn boundary(&self) -> Time {
        WINDOW * self.current.saturating_add(1)
    }

    #[cold]
    fn add_across(&mut self, start: Time, end: Time, bytes: u64) {
        self.close_until(start.0 / WINDOW.0);
        let boundary = self.boundary();
        if end <= boundary {
            self.filled += bytes;
            return;
        }
        if end - boundary > WINDOW {
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
    pub fn spread(&mut self, start: Time, end: Time, bytes: u64) {
        if bytes > 0 {
            // What would fall into windows that are closed already counts in the open one.
            let start = start.max(WINDOW * self.current);
            let at = self.spread.partition_point(|&(other, ..)| other <= start);
            self.spread.insert(at, (start, end.max(start + Time(1)), bytes));
        }
    }

    /// Closes the windows before `target`.
    fn close_until(&mut self, target: u64) {
        while self.current < target {
            let [from, to] = [WINDOW * self.current, self.boundary()];
            let mut bytes = self.filled;
            for &(start, end, total) in &self.spread {
                if start >= to {
                    break;
                }
                let until = |time: Time| share(total, time.clamp(start, end) - start, end - start);
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
                if start > WINDOW * self.current {
                    let empty = (start.0 / WINDOW.0).min(target).saturating_sub(self.current);
                    self.count(0, empty);
                    self.current += empty;
                } else if self.spread.len() == 1 {
                    let inside = (end.0 / WINDOW.0).min(target).saturating_sub(self.current);
                    self.count(share(total, WINDOW, end - start), inside);
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
    pub fn finish(&mut self, end: Time) -> [u64; 2] {
        self.close_until(end.0.div_ceil(WINDOW.0).max(self.current + 1));
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
fn share(bytes: u64, part: Time, whole: Time) -> u64 {
    let value = u128::from(bytes) * u128::from(part.0) / u128::from(whole.0.max(1));
    u64::try_from(value).unwrap_or(bytes)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bytes_of_a_window_are_those_that_moved_in_it() {
        let us = |quarters: u64| Time(WINDOW.0 / 4 * quarters);
        let mut windows = Windows::default();
        windows.add(us(0), us(2), 100);
        windows.add(us(2), us(6), 100);
        windows.add(us(12), us(12) + Time(10), 7);
        windows.spread(us(16), us(32), 40);
        let [peak, _] = windows.finish(us(80));
        assert_eq!(peak, 150);
        let expected: Vec<(u64, u64)> = vec![(0, 13), (7, 1), (10, 4), (50, 1), (150, 1)];
        assert_eq!(windows.histogram.into_iter().collect::<Vec<_>>(), expected);
    }

    #[test]
    fn the_percentile_leaves_out_the_largest_twentieth() {
        let mut windows = Windows::default();
        for index in 0..100_u64 {
            windows.add(WINDOW * index, WINDOW * index + Time(1), index + 1);
        }
        assert_eq!(windows.finish(WINDOW * 100), [100, 95]);
    }
}
