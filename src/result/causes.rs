//! Where the time of a row went: the causes of cycles, and how many cycles each has.

use std::{
    collections::BTreeMap,
    fmt,
    iter::Sum,
    ops::{AddAssign, Index, IndexMut},
};

use serde::{Deserialize, Deserializer, Serialize, Serializer, de::Error as _};

named! {
    /// Why a cycle passed.
    #[derive(Hash, PartialOrd, Ord)]
    Cause {
        /// The array accepts operands (bubbles of a minimum stream included).
        ArrayStreaming = "array_streaming",
        /// Results run through the array after the last operand.
        FillDrain = "fill_drain",
        /// The stationary operand is loaded, exposed.
        WeightLoad = "weight_load",
        /// The array waits for a buffer bank.
        BufferBank = "buffer_bank",
        /// The vector unit works.
        Vector = "vector",
        /// Commands are issued.
        Issue = "issue",
        /// Fences and layer launches.
        Fence = "fence",
        /// Data moves on chip, or a DMA engine moves bytes at its own rate.
        Move = "move",
        /// The host works.
        Host = "host",
        /// Memory: its bandwidth binds.
        MemoryBandwidth = "memory_bandwidth",
        /// Memory: its latency binds.
        MemoryLatency = "memory_latency",
    }
}

/// Why time passed: an amount for each cause, in the order of [`Cause::ALL`]. In a record, a map from names to cycles, which add
/// up to the cycles of the row they stand in.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Causes(pub [u64; Cause::ALL.len()]);

impl Index<Cause> for Causes {
    type Output = u64;

    fn index(&self, cause: Cause) -> &u64 {
        &self.0[cause as usize]
    }
}

impl IndexMut<Cause> for Causes {
    fn index_mut(&mut self, cause: Cause) -> &mut u64 {
        &mut self.0[cause as usize]
    }
}

impl Serialize for Causes {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_map(self.entries())
    }
}

impl<'de> Deserialize<'de> for Causes {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let given = BTreeMap::<Cause, u64>::deserialize(deserializer)?;
        let mut causes = Self::default();
        for cause in Cause::ALL {
            causes[cause] = *given.get(&cause).ok_or_else(|| D::Error::missing_field(cause.as_str()))?;
        }
        Ok(causes)
    }
}

impl Causes {
    /// Each cause with its amount.
    pub fn entries(&self) -> [(Cause, u64); Cause::ALL.len()] {
        Cause::ALL.map(|cause| (cause, self[cause]))
    }

    /// The cause with the largest amount, the first of equals; `None` where all are 0.
    pub fn largest(&self) -> Option<Cause> {
        let largest = self.entries().into_iter().rev().max_by_key(|&(_, cycles)| cycles)?;
        (largest.1 > 0).then_some(largest.0)
    }

    /// All of it.
    pub fn total(&self) -> u64 {
        self.0.iter().sum()
    }
}

impl AddAssign for Causes {
    fn add_assign(&mut self, other: Self) {
        for (mine, theirs) in self.0.iter_mut().zip(other.0) {
            *mine += theirs;
        }
    }
}

impl Sum for Causes {
    fn sum<I: Iterator<Item = Self>>(rows: I) -> Self {
        rows.fold(Self::default(), |mut total, row| {
            total += row;
            total
        })
    }
}
