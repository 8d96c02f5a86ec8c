//! What a timed run reports: plain data, in cycles of the array's clock and bytes.

use super::causes::{Causes, PhaseRecord};
use crate::units::{Bytes, Cycles, Macs, Time};

/// A timed program.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct TimingReport {
    /// From start to the end of the last layer; the sum of the layers' `cycles`.
    pub cycles: Cycles,
    /// The same as time.
    pub end: Time,
    /// One entry a layer of the header, in its order; layers without instructions have zeros.
    pub layers: Vec<LayerTiming>,
    /// One entry an engine of the machine, in its order.
    pub engines: Vec<EngineTiming>,
    /// Cycles by cause; the sum of the layers'.
    pub causes: Causes,
    /// One entry a memory space of the machine, in its order.
    pub memories: Vec<MemoryTiming>,
    /// One entry a buffer of the machine, in its order, then one of the accumulators.
    pub buffers: Vec<BufferTiming>,
    /// Instructions that were timed.
    pub instructions: u64,
    /// Cycles in which the issue unit stood before a full queue.
    pub issue_stalled: Cycles,
    /// Instructions in the order in which they started (`Options::record_order`), each engine's in its own order.
    pub issue_order: Vec<u64>,
    /// Every phase of every instruction (`Options::record_phases`).
    pub records: Vec<PhaseRecord>,
}

/// A layer's part of the run.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct LayerTiming {
    /// Its part of the timeline: end less the end of the layer before. May be 0.
    pub cycles: Cycles,
    /// From its first issue to its last retirement, rounded up.
    pub span: Cycles,
    /// Where its part of the timeline ends.
    pub end: Time,
    /// When the issue unit began with its first instruction.
    pub first_issue: Time,
    /// When its last instruction retired.
    pub last_retirement: Time,
    /// The record of the phase that ends there (`Options::record_phases`).
    pub last_phase: Option<usize>,
    /// Why its `cycles` passed; sums to them.
    pub causes: Causes,
    /// Cycles in which the array accepts its operands.
    pub beats: Cycles,
    /// Cycles in which the array loads, streams or drains for it, overlaps once. Neighbouring layers may overlap, so
    /// the sum over layers may exceed the array's own `busy`.
    pub array_busy: Cycles,
    /// Algebraic multiply-accumulates on the array.
    pub array_macs: Macs,
    /// On the vector unit.
    pub vector_macs: Macs,
    /// On the host.
    pub host_macs: Macs,
    /// Useful bytes of activations read from memory.
    pub input_bytes: Bytes,
    /// Useful bytes of weights and parameters read from memory.
    pub weight_bytes: Bytes,
    /// Useful bytes written to memory.
    pub output_bytes: Bytes,
    /// Bytes moved at the memories' pins: whole bursts, and the host's.
    pub moved_bytes: Bytes,
    /// Bytes moved between places on chip by DMA engines.
    pub on_chip_bytes: Bytes,
    /// Instructions.
    pub instructions: u64,
}

/// An engine's part of the run.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct EngineTiming {
    /// Cycles in which an instruction was at work (a DMA engine: from start to last arrival), overlaps once.
    pub busy: Cycles,
    /// Cycles in which the engine was idle and its next instruction, already issued, waited for a token.
    pub waiting_token: Cycles,
    /// Cycles in which the engine was idle before its next instruction was issued.
    pub waiting_issue: Cycles,
    /// Instructions.
    pub instructions: u64,
}

/// A memory's part of the run.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct MemoryTiming {
    /// Useful bytes read.
    pub read: Bytes,
    /// Useful bytes written.
    pub written: Bytes,
    /// Bytes at the pins: whole bursts, and the host's.
    pub moved: Bytes,
    /// The host's part of them.
    pub host: Bytes,
    /// Time in which it served bursts.
    pub busy: Time,
    /// Bytes moved in the busiest window of 1 us.
    pub peak_window: Bytes,
    /// 95th percentile (nearest rank) over all windows of 1 us.
    pub p95_window: Bytes,
}

/// A buffer's part of the run, as the instructions ask for it: operands that a walk visits more than once, and padding,
/// count as often as they are visited.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct BufferTiming {
    /// Bytes read.
    pub read: Bytes,
    /// Bytes written.
    pub written: Bytes,
}

impl MemoryTiming {
    /// Bandwidth of the busiest window, GB/s (1e9 bytes a second).
    pub const fn peak_gb_per_s(&self) -> f64 {
        self.peak_window.as_f64() / 1e3
    }

    /// Bandwidth of the 95th percentile of windows, GB/s.
    pub const fn p95_gb_per_s(&self) -> f64 {
        self.p95_window.as_f64() / 1e3
    }
}
