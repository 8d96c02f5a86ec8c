//! Quantities with their unit in the type: time, cycles, bytes, multiply-accumulates.
//!
//! Integer quantities use checked arithmetic in every build (the release profile keeps overflow checks): a silent
//! wrap of a cycle or byte count is this project's worst bug. Time alone stops at the end of its timebase.

use std::{
    fmt,
    iter::Sum,
    ops::{Add, AddAssign, Mul, Sub},
};

use serde::{Deserialize, Serialize};

/// An integer with its thousands separated: `1,048,576`.
pub fn thousands(value: u64) -> String {
    let digits = value.to_string();
    let mut text = String::new();
    for (index, digit) in digits.chars().enumerate() {
        if index > 0 && (digits.len() - index).is_multiple_of(3) {
            text.push(',');
        }
        text.push(digit);
    }
    text
}

/// `$add` and `$mul` are what `+` and `*` do to the bare numbers.
macro_rules! quantity {
    ($(#[$doc:meta])* $name:ident, $add:path, $mul:path) => {
        $(#[$doc])*
        #[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
        #[serde(transparent)]
        pub struct $name(pub u64);

        impl $name {
            /// Nothing of it.
            pub const ZERO: Self = Self(0);

            /// The bare number.
            pub const fn get(self) -> u64 {
                self.0
            }

            /// `self - other`, or zero where that would be negative.
            #[must_use]
            pub const fn saturating_sub(self, other: Self) -> Self {
                Self(self.0.saturating_sub(other.0))
            }

            /// `self + other`, or `None` where it does not fit.
            pub fn checked_add(self, other: Self) -> Option<Self> {
                self.0.checked_add(other.0).map(Self)
            }

            /// `self * count`, or `None` where it does not fit.
            pub fn checked_mul(self, count: u64) -> Option<Self> {
                self.0.checked_mul(count).map(Self)
            }

            /// As a real number, for ratios.
            pub const fn as_f64(self) -> f64 {
                self.0 as f64
            }
        }

        impl Add for $name {
            type Output = Self;
            fn add(self, other: Self) -> Self {
                Self($add(self.0, other.0))
            }
        }
        impl AddAssign for $name {
            fn add_assign(&mut self, other: Self) {
                self.0 = $add(self.0, other.0);
            }
        }
        impl Sub for $name {
            type Output = Self;
            fn sub(self, other: Self) -> Self {
                Self(self.0 - other.0)
            }
        }
        impl Mul<u64> for $name {
            type Output = Self;
            fn mul(self, count: u64) -> Self {
                Self($mul(self.0, count))
            }
        }
        impl Sum for $name {
            fn sum<I: Iterator<Item = Self>>(items: I) -> Self {
                items.fold(Self::ZERO, Add::add)
            }
        }
        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                self.0.fmt(f)
            }
        }
    };
}

quantity!(
    /// Simulated time in femtoseconds, the one timebase of all clock domains. 2^64 fs are five hours; sums and products
    /// stop at [`Time::END`], so that a closed form of too long a run is recognized and not a fault of its own.
    Time, u64::saturating_add, u64::saturating_mul
);
quantity!(
    /// Cycles of the array's clock, unless a name says otherwise.
    Cycles, u64::add, u64::mul
);
quantity!(
    /// Bytes.
    Bytes, u64::add, u64::mul
);
quantity!(
    /// Multiply-accumulate operations, algebraic: padding zeros count, the zeros between groups do not.
    Macs, u64::add, u64::mul
);

impl Time {
    /// Femtoseconds a second.
    pub const PER_SECOND: u64 = 1_000_000_000_000_000;
    /// The end of the timebase: what is not earlier is not known.
    pub const END: Self = Self(u64::MAX);

    /// In seconds.
    pub fn seconds(self) -> f64 {
        self.as_f64() / Self::PER_SECOND as f64
    }

    /// Whole periods that cover this time: rounded up to the next edge.
    ///
    /// # Panics
    /// If `period` is zero; a resolved accelerator has no such clock.
    pub fn cycles_ceil(self, period: Self) -> Cycles {
        Cycles(self.0.div_ceil(period.0))
    }
}

impl Cycles {
    /// The time that this many cycles of a clock of `period` take, at most [`Time::END`].
    pub fn time(self, period: Time) -> Time {
        Time(self.0.saturating_mul(period.0))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn time_rounds_up_to_whole_cycles() {
        let period = Time(2_000_000);
        assert_eq!(Time(0).cycles_ceil(period), Cycles(0));
        assert_eq!(Time(1).cycles_ceil(period), Cycles(1));
        assert_eq!(Time(2_000_000).cycles_ceil(period), Cycles(1));
        assert_eq!(Time(2_000_001).cycles_ceil(period), Cycles(2));
    }

    #[test]
    fn time_stops_at_its_end() {
        assert_eq!(Time(u64::MAX - 1) + Time(2), Time::END);
        assert_eq!(Time(1 << 40) * (1 << 40), Time::END);
        assert_eq!(Cycles(1 << 40).time(Time(1 << 40)), Time::END);
    }

    #[test]
    fn a_product_that_does_not_fit_is_none() {
        assert_eq!(Bytes(1 << 60).checked_mul(16), None);
        assert_eq!(Bytes(3).checked_mul(5), Some(Bytes(15)));
    }
}
