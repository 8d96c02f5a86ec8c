//! Where the time of a row went: the causes of cycles, and how many cycles each has.

use std::fmt;

use serde::{Deserialize, Serialize};

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

/// Why time passed: cycles by cause; they add up to the cycles of the row they stand in.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Causes {
    /// The array accepts operands (bubbles of a minimum stream included).
    pub array_streaming: u64,
    /// Results run through the array after the last operand.
    pub fill_drain: u64,
    /// The stationary operand is loaded, exposed.
    pub weight_load: u64,
    /// The array waits for a buffer bank.
    pub buffer_bank: u64,
    /// The vector unit works.
    pub vector: u64,
    /// Commands are issued.
    pub issue: u64,
    /// Fences and layer launches.
    pub fence: u64,
    /// Data moves on chip, or a DMA engine moves bytes at its own rate.
    #[serde(rename = "move")]
    pub move_: u64,
    /// The host works.
    pub host: u64,
    /// Memory: its bandwidth binds.
    pub memory_bandwidth: u64,
    /// Memory: its latency binds.
    pub memory_latency: u64,
}

impl Causes {
    /// From the cycles of each cause, in the order of `entries`.
    pub const fn from_cycles(cycles: [u64; 11]) -> Self {
        let [
            array_streaming,
            fill_drain,
            weight_load,
            buffer_bank,
            vector,
            issue,
            fence,
            move_,
            host,
            memory_bandwidth,
            memory_latency,
        ] = cycles;
        Self {
            array_streaming,
            fill_drain,
            weight_load,
            buffer_bank,
            vector,
            issue,
            fence,
            move_,
            host,
            memory_bandwidth,
            memory_latency,
        }
    }

    /// Cycles of one cause.
    pub const fn of(&self, cause: Cause) -> u64 {
        match cause {
            Cause::ArrayStreaming => self.array_streaming,
            Cause::FillDrain => self.fill_drain,
            Cause::WeightLoad => self.weight_load,
            Cause::BufferBank => self.buffer_bank,
            Cause::Vector => self.vector,
            Cause::Issue => self.issue,
            Cause::Fence => self.fence,
            Cause::Move => self.move_,
            Cause::Host => self.host,
            Cause::MemoryBandwidth => self.memory_bandwidth,
            Cause::MemoryLatency => self.memory_latency,
        }
    }

    /// Cycles of each cause, in the order of [`Cause::ALL`].
    pub fn entries(&self) -> [(Cause, u64); 11] {
        Cause::ALL.map(|cause| (cause, self.of(cause)))
    }

    /// The cause with the most cycles, the first of equals; `None` without any cycles.
    pub fn largest(&self) -> Option<Cause> {
        let largest = self.entries().into_iter().rev().max_by_key(|&(_, cycles)| cycles)?;
        (largest.1 > 0).then_some(largest.0)
    }

    /// All of it.
    pub fn total(&self) -> u64 {
        self.entries().iter().map(|&(_, cycles)| cycles).sum()
    }
}

impl std::iter::Sum for Causes {
    fn sum<I: Iterator<Item = Self>>(rows: I) -> Self {
        let mut total = [0; 11];
        for row in rows {
            for (sum, (_, cycles)) in total.iter_mut().zip(row.entries()) {
                *sum += cycles;
            }
        }
        Self::from_cycles(total)
    }
}
