//! The program on time: engines, queues, memory spaces, causes. Values do not exist here.
//!
//! [`simulate`] takes the resolved machine and the program's stream of instructions and says when everything happens,
//! and why it did not happen sooner. Memory grows with live tokens and layers, not with instructions.
//!
//! - `simulator`: issue unit, queues, tokens, the order of events
//! - `array`: the array's law
//! - `commands`: the array alone
//! - `dma`, `memory`: requests, those in flight, and when memory answers them
//! - `decode`, `runs`: what an instruction costs
//! - `causes`, `layers`: to whom and to what each cycle belongs
//! - `observer`, `occupancy`: who watches a run, and how full the buffers are
//! - `clock`: checked arithmetic of time
//! - `report`: the result

mod array;
mod causes;
mod clock;
mod commands;
mod decode;
mod dma;
mod layers;
mod memory;
mod observer;
mod occupancy;
mod report;
mod runs;
mod simulator;
mod tokens;

#[cfg(test)]
mod tests;

use thiserror::Error;

pub use array::{StreamedTile, Sums};
pub use causes::{Cause, Causes, PhaseRecord};
pub use commands::{ArrayCommand, array_commands, array_cycles};
pub use decode::BufferRates;
pub use memory::{AccessTap, MemoryAccess, WINDOW};
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
    /// A layer's causes do not sum to its share of the timeline.
    #[error("causes explain {explained} fs of layer {layer}, which takes {share} fs; they may differ by rounding only")]
    Unexplained {
        /// The layer.
        layer: usize,
        /// Its share of the timeline, fs.
        share: u64,
        /// What its causes sum to, fs.
        explained: u64,
    },
    /// A transfer touches fewer bursts than were counted when it was issued.
    #[error("a transfer has fewer than its {0} bursts")]
    Bursts(u64),
    /// Memory answers what nobody waits for.
    #[error("memory answers request {request} of engine {engine}, which waits for none such")]
    Answer {
        /// The engine.
        engine: u8,
        /// The number of its request.
        request: u64,
    },
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

/// The same, telling `tap` of every request of a DMA engine to memory, in the order of time. What the host reads and
/// writes has no requests.
///
/// # Errors
/// See [`TimingError`].
pub fn simulate_tapped<'a>(
    accelerator: &'a Accelerator,
    header: &'a Header,
    instructions: impl Iterator<Item = Instruction>,
    options: Options,
    tap: &'a mut AccessTap<'a>,
) -> Result<TimingReport, TimingError> {
    simulator::Simulator::new(accelerator, header, options, PHASES_HELD)?.with_tap(Some(tap)).run(instructions)
}

/// The same, telling an observer of everything on the way, and `tap` if there is one.
///
/// # Errors
/// See [`TimingError`].
pub fn observe<'a>(
    accelerator: &'a Accelerator,
    header: &'a Header,
    instructions: impl Iterator<Item = Instruction>,
    options: Options,
    observer: &'a mut impl Observer,
    tap: Option<&'a mut AccessTap<'a>>,
) -> Result<TimingReport, TimingError> {
    let simulator = simulator::Simulator::observed(accelerator, header, options, PHASES_HELD, Some(observer))?;
    simulator.with_tap(tap).run(instructions)
}
