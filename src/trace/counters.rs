//! Values over time that are told in no order of time. Memory grows with the points between the beginning and the end of
//! what is traced, not with the run.

use std::collections::BTreeMap;

/// Points to hold before those that lie before the beginning are folded.
const MANY: usize = 1 << 14;

/// A sum of changes.
#[derive(Debug, Default)]
pub struct Changes {
    /// All changes before the first point.
    before: i64,
    points: BTreeMap<u64, i64>,
}

impl Changes {
    /// Adds a change at a point of time. No one asks what the value was before `from`.
    pub fn add(&mut self, at: u64, change: i64, from: u64) {
        if at <= from {
            self.before = self.before.saturating_add(change);
        } else {
            let value = self.points.entry(at).or_default();
            *value = value.saturating_add(change);
            self.fold(from);
        }
    }

    fn fold(&mut self, from: u64) {
        if self.points.len() > MANY && self.points.keys().next().is_some_and(|&first| first <= from) {
            let after = self.points.split_off(&from.saturating_add(1));
            self.before = self.points.values().fold(self.before, |sum, &change| sum.saturating_add(change));
            self.points = after;
        }
    }

    /// Points held.
    pub fn len(&self) -> usize {
        self.points.len()
    }

    /// The value at `from`, and from each point up to `until` on where it changes.
    pub fn values(&self, from: u64, until: u64) -> Vec<(u64, i64)> {
        let mut sum = self.before;
        let mut values = vec![(from, sum)];
        for (&at, &change) in self.points.range(..=until) {
            sum = sum.saturating_add(change);
            match values.last_mut() {
                Some((last, value)) if at <= *last => *value = sum,
                Some((_, value)) if *value == sum => {}
                _ => values.push((at, sum)),
            }
        }
        values
    }
}

/// Bytes in bins of equal length.
#[derive(Debug)]
pub struct Bins {
    length: u64,
    bytes: BTreeMap<u64, u64>,
    /// Bytes a bin of stretches that cover many.
    steady: Changes,
}

/// A stretch of more bins than this counts as a steady rate.
const LONG: u64 = 16;

impl Bins {
    /// Bins of this length.
    pub fn new(length: u64) -> Self {
        Self { length, bytes: BTreeMap::new(), steady: Changes::default() }
    }

    /// Adds bytes that move evenly over `start..end`. No one asks for bins before that of `from`.
    pub fn add(&mut self, start: u64, end: u64, bytes: u64, from: u64) {
        let from = from / self.length;
        let (first, last) = (start / self.length, end.saturating_sub(1).max(start) / self.length);
        let mut rest = bytes;
        if last - first > LONG {
            let rate = bytes / (last - first + 1);
            rest -= rate * (last - first + 1);
            let rate = i64::try_from(rate).unwrap_or(i64::MAX);
            self.steady.add(first, rate, from);
            self.steady.add(last + 1, -rate, from);
            self.count(first, rest, from);
            return;
        }
        for bin in first..last {
            let until = ((bin + 1) * self.length).min(end);
            let part = u128::from(rest) * u128::from(until - start.max(bin * self.length))
                / u128::from((end - start.max(bin * self.length)).max(1));
            let part = u64::try_from(part).unwrap_or(rest);
            self.count(bin, part, from);
            rest -= part;
        }
        self.count(last, rest, from);
    }

    fn count(&mut self, bin: u64, bytes: u64, from: u64) {
        if bin >= from && bytes > 0 {
            *self.bytes.entry(bin).or_default() += bytes;
            if self.bytes.len() > MANY && self.bytes.keys().next().is_some_and(|&first| first < from) {
                self.bytes = self.bytes.split_off(&from);
            }
        }
    }

    /// Values at most: each bin may begin and end one.
    pub fn len(&self) -> usize {
        2 * self.bytes.len() + self.steady.len()
    }

    /// Bytes of a bin, and the time from which on every bin has as many, from the bin of `from` to that of `until`.
    pub fn values(&self, from: u64, until: u64) -> Vec<(u64, u64)> {
        let (from, until) = (from / self.length, until / self.length);
        let mut changes = Changes::default();
        for (at, steady) in changes_of(&self.steady.values(from, until)) {
            changes.add(at, steady, 0);
        }
        for (&bin, &bytes) in self.bytes.range(from..=until) {
            let bytes = i64::try_from(bytes).unwrap_or(i64::MAX);
            changes.add(bin, bytes, 0);
            changes.add(bin + 1, -bytes, 0);
        }
        let values = changes.values(from, until);
        values.into_iter().map(|(bin, bytes)| (bin * self.length, u64::try_from(bytes).unwrap_or(0))).collect()
    }
}

fn changes_of(values: &[(u64, i64)]) -> Vec<(u64, i64)> {
    let mut before = 0;
    values.iter().map(|&(at, value)| (at, value - std::mem::replace(&mut before, value))).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_sum_of_changes_starts_with_what_came_before() {
        let mut changes = Changes::default();
        for (at, change) in [(5, 10), (20, -4), (8, 1), (12, 3), (12, -3), (30, -7)] {
            changes.add(at, change, 6);
        }
        assert_eq!(changes.values(6, 25), [(6, 10), (8, 11), (20, 7)]);
        assert_eq!(changes.values(10, 99), [(10, 11), (20, 7), (30, 0)]);
    }

    #[test]
    fn points_before_the_beginning_are_folded() {
        let mut changes = Changes::default();
        for at in 0..200_000_u64 {
            changes.add(at + 10, 1, at);
        }
        assert!(changes.len() <= MANY + 11, "{}", changes.len());
        assert_eq!(
            changes.values(200_000, 300_000),
            [
                (200_000, 199_991),
                (200_001, 199_992),
                (200_002, 199_993),
                (200_003, 199_994),
                (200_004, 199_995),
                (200_005, 199_996),
                (200_006, 199_997),
                (200_007, 199_998),
                (200_008, 199_999),
                (200_009, 200_000)
            ]
        );
    }

    #[test]
    fn bins_hold_all_bytes_where_they_moved() {
        let mut bins = Bins::new(100);
        bins.add(0, 50, 7, 0);
        bins.add(50, 150, 100, 0);
        // Longer than is kept bin by bin, and no multiple.
        bins.add(200, 200 + 100 * 40, 403, 0);
        let values = bins.values(0, 10_000);
        assert_eq!(values, [(0, 57), (100, 50), (200, 13), (300, 10), (4200, 0)]);
        let total: u64 = values.windows(2).map(|pair| pair[0].1 * (pair[1].0 - pair[0].0) / 100).sum();
        assert_eq!(total, 510);
        assert_eq!(bins.values(4000, 4100), [(4000, 10)]);
    }
}
