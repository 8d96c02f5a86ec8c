//! The program on time: engines, queues, memory spaces, causes. Values do not exist here.
//!
//! [`simulate`] takes the resolved machine and the program's stream of instructions and says when everything happens,
//! and why it did not happen sooner. Memory grows with live tokens and layers, not with instructions.
//!
//! - `simulator`: issue unit, queues, tokens, the order of events
//! - `array`: the array's law
//! - `dma`, `memory`: bursts, requests in flight, bandwidth and latency
//! - `work`, `runs`: what an instruction costs
//! - `causes`, `layers`: to whom and to what each cycle belongs
//! - `observer`, `occupancy`: who watches a run, and how full the buffers are
//! - `report`: the result

mod array;
mod causes;
mod dma;
mod layers;
mod memory;
mod observer;
mod occupancy;
mod report;
mod runs;
mod simulator;
mod tokens;
mod work;

#[cfg(test)]
mod tests;

use thiserror::Error;

pub use causes::{Cause, CauseVector, PhaseRecord};
pub use memory::WINDOW;
pub use observer::{Done, Fill, Issued, LayerSpan, Observer, Phase, Transferred, Unit};
pub use report::{BufferTiming, EngineTiming, LayerTiming, MemoryTiming, TimingReport};

use crate::{
    config::Accelerator,
    program::{Header, Instruction},
};

/// What to record beside the figures.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Options {
    /// The order in which instructions start: 16 bytes an instruction.
    pub record_order: bool,
    /// Every phase with its binding predecessor: about 100 bytes an instruction or burst.
    pub record_phases: bool,
}

/// Why a program cannot be timed. All but `Overflow` and `Machine` are faults of the program's generator.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
pub enum TimingError {
    /// Five hours of simulated time, or 2^64 of something else.
    #[error("a time, byte or cycle count does not fit 64 bits")]
    Overflow,
    /// The config was not validated.
    #[error("the machine has {0}")]
    Machine(&'static str),
    /// An engine that is not there, or cannot do this.
    #[error("instruction {index}: engine {engine} does not exist or cannot do this operation")]
    WrongEngine {
        /// Position in program order.
        index: u64,
        /// The engine.
        engine: u8,
    },
    /// The vector unit cannot do this.
    #[error("the vector unit is given {0}")]
    VectorKind(&'static str),
    /// A memory space that is not there.
    #[error("memory space {0} does not exist")]
    UnknownMemory(u8),
    /// A region in memory begins below address 0.
    #[error("a region in memory begins at address {0}")]
    Address(i64),
    /// A layer that is not in the header.
    #[error("layer {0} does not exist")]
    UnknownLayer(usize),
    /// Layers must come one after the other.
    #[error("an instruction of layer {0} comes after one of a later layer")]
    LayerOrder(usize),
    /// Tokens are numbered in program order.
    #[error("token {token} is signalled where token {expected} is due")]
    TokenOrder {
        /// The token.
        token: u32,
        /// The next number.
        expected: u64,
    },
    /// Who signals stands before who waits.
    #[error("token {0} is waited for before the instruction that signals it")]
    UnknownToken(u32),
    /// Nothing can go on.
    #[error("instruction {0} can never be issued")]
    Stuck(u64),
    /// A hardware loop without end behind an instruction that waits.
    #[error("instruction {0}: more than four million instructions wait for one engine")]
    TooManyWaiting(u64),
    /// More phases than can be recorded.
    #[error("more than four thousand million phases to record")]
    TooManyPhases,
}

/// Phases to hold before those that nothing depends on are dropped.
const PHASES_HELD: usize = 1 << 18;

/// Times a program on a machine.
///
/// Instructions must come in program order: layers one after the other, tokens numbered by their signalling
/// instructions, who signals before who waits.
///
/// # Errors
/// See [`TimingError`].
pub fn simulate(
    accelerator: &Accelerator,
    header: &Header,
    instructions: impl Iterator<Item = Instruction>,
    options: Options,
) -> Result<TimingReport, TimingError> {
    simulator::Simulator::new(accelerator, header, options, PHASES_HELD)?.run(instructions)
}

/// Times a program and tells an observer of everything on the way. The report is that of [`simulate`].
///
/// # Errors
/// See [`TimingError`].
pub fn observe(
    accelerator: &Accelerator,
    header: &Header,
    instructions: impl Iterator<Item = Instruction>,
    options: Options,
    observer: &mut impl Observer,
) -> Result<TimingReport, TimingError> {
    simulator::Simulator::observed(accelerator, header, options, PHASES_HELD, Some(observer))?.run(instructions)
}
