//! The array alone in time: a sequence of its commands by the law, without queues, buffers or memories. For those who compare
//! the law with hardware.

use super::{
    TimingError,
    array::{ArrayTimer, Ready, StreamedTile},
    causes::{CauseGraph, Event},
    clock::times,
    decode::{DecodedOp, Decoder},
};
use crate::{
    config::{Accelerator, EngineKind},
    program::{Header, Instruction, Operation},
};

/// A command of the array, as far as it takes time.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ArrayCommand {
    /// Loads a stationary operand.
    Load,
    /// Streams a tile.
    Stream(StreamedTile),
}

/// Begin and end of each command in cycles of the array, where each may begin from a cycle on. A load ends when the next may
/// begin, a stream when its results and those of all before it are out.
///
/// # Errors
/// An array without elements; a time that does not fit.
pub fn array_cycles(
    accelerator: &Accelerator,
    commands: impl IntoIterator<Item = (u64, ArrayCommand)>,
) -> Result<Vec<[u64; 2]>, TimingError> {
    let mut graph = CauseGraph::new(usize::MAX, false);
    let mut timer = ArrayTimer::new(accelerator)?;
    let mut cycles = Vec::new();
    for (from, command) in commands {
        let tokens = Event { time: times(accelerator.array_period, from)?, ..Event::ORIGIN };
        let ready = Ready { tokens, issue: Event::ORIGIN };
        let phases = match command {
            ArrayCommand::Load => timer.preload(&mut graph, ready)?,
            ArrayCommand::Stream(tile) => timer.stream(&mut graph, &tile, ready)?,
        };
        cycles.push([phases.start, phases.end].map(|event| event.time.cycles_ceil(accelerator.array_period).0));
    }
    Ok(cycles)
}

/// The array's instructions among some of a program, each with its command.
///
/// # Errors
/// What the instructions' decoding finds.
pub fn array_commands(
    accelerator: &Accelerator,
    header: &Header,
    instructions: impl IntoIterator<Item = Instruction>,
) -> Result<Vec<(Instruction, ArrayCommand)>, TimingError> {
    let mut decoder = Decoder::new(accelerator, header)?;
    let mut commands = Vec::new();
    for instruction in instructions {
        if matches!(
            instruction.operation,
            Operation::Preload { .. } | Operation::PreloadNext { .. } | Operation::Matmul(_)
        ) {
            match decoder.decode(&instruction, EngineKind::Array)?.0 {
                DecodedOp::Preload | DecodedOp::PreloadNext => commands.push((instruction, ArrayCommand::Load)),
                DecodedOp::Stream(tile) => commands.push((instruction, ArrayCommand::Stream(tile))),
                _ => {}
            }
        }
    }
    Ok(commands)
}
