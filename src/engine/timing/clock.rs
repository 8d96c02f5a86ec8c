//! Checked arithmetic of simulated time: what does not fit the timebase is an error, not the timebase's end. Knows
//! nothing of what takes the time.

use super::TimingError;
use crate::units::Time;

/// A moment `duration` after `time`.
#[inline]
pub(super) fn after(time: Time, duration: Time) -> Result<Time, TimingError> {
    time.checked_add(duration).ok_or(TimingError::Overflow)
}

/// `count` times a duration.
#[inline]
pub(super) fn times(duration: Time, count: u64) -> Result<Time, TimingError> {
    duration.checked_mul(count).ok_or(TimingError::Overflow)
}

/// The first edge of a clock at or after `time`.
#[inline]
pub(super) fn edge(time: Time, period: Time) -> Result<Time, TimingError> {
    times(period, time.0.div_ceil(period.0))
}
