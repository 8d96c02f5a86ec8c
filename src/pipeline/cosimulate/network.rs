//! Array programs of a network: the sequence of loads and streams that the generator makes of a layer, with random
//! operands. Accumulators are numbered anew, a row of lanes after the other.

use std::collections::BTreeMap;

use rand::SeedableRng;
use rand_chacha::ChaCha8Rng;

use super::{
    super::{Failure, Mapped},
    ArrayProgram,
    random::codes,
};
use crate::{
    engine::timing::{self, ArrayCommand},
    program::{Instruction, Operation, Region},
    rtl::{Command, Design, Load, Stream},
};

/// Most rows of operands in a program.
const MOST_ROWS: u64 = 12_000;
/// Most instructions of a layer that are looked at.
const MOST_INSTRUCTIONS: usize = 4_000;

/// The first `most` commands of a layer's array program, as many as there is room for in the design's accumulators and the
/// testbench's memories. `None` where the layer is not one of the array in the design's dataflow.
///
/// # Errors
/// What the instructions' decoding finds.
pub fn layer_program(
    mapped: &Mapped,
    design: &Design,
    layer: &str,
    most: usize,
) -> Result<Option<ArrayProgram>, Failure> {
    let program = &mapped.program;
    let header = &program.header;
    let Some(index) = header.layers.iter().position(|candidate| candidate.name == layer) else { return Ok(None) };
    if header.layers[index].dataflow != Some(design.dataflow) {
        return Ok(None);
    }
    let own = program
        .instructions()
        .filter(|instruction| instruction.layer.0 as usize >= index)
        .take_while(|instruction| instruction.layer.0 as usize == index)
        // Of several arrays the first: the design is one.
        .filter(|instruction| instruction.engine == program.accelerator.array_engine())
        .take(MOST_INSTRUCTIONS);
    let mut writer = Writer { design, random: ChaCha8Rng::seed_from_u64(1), places: BTreeMap::new(), next: 0, rows: 0 };
    let mut commands = Vec::new();
    for (instruction, timed) in timing::array_commands(&program.accelerator, header, own)? {
        if commands.len() == most {
            break;
        }
        let Some(command) = writer.command(&instruction, timed) else { break };
        commands.push(command);
    }
    let plain: String = layer.chars().map(|c| if c.is_ascii_alphanumeric() { c } else { '_' }).collect();
    Ok(Some(ArrayProgram { name: format!("layer_{plain}"), commands }).filter(|program| !program.commands.is_empty()))
}

struct Writer<'a> {
    design: &'a Design,
    random: ChaCha8Rng,
    /// Rows of the design's accumulators by where a tile's sums lie in the model's.
    places: BTreeMap<(i64, [u32; 4]), u32>,
    next: u32,
    rows: u64,
}

impl Writer<'_> {
    /// `None` where there is no more room.
    fn command(&mut self, instruction: &Instruction, timed: ArrayCommand) -> Option<Command> {
        let (rows, cols) = (self.design.array.rows as usize, self.design.array.cols as usize);
        match (&instruction.operation, timed) {
            (Operation::Preload { .. } | Operation::PreloadNext { .. }, _) => {
                self.rows += rows as u64;
                let words = codes(self.design.top(), rows * cols, &mut self.random);
                (self.rows <= MOST_ROWS).then_some(Command::Load(Load { ready: 0, words, zero: 0 }))
            }
            (Operation::Matmul(matmul), ArrayCommand::Stream(tile)) => {
                let beats = u32::try_from(tile.beats).ok()?;
                self.rows += tile.beats;
                let [used_rows, used_cols, sum_rows] = match &matmul.stationary {
                    Some(top) => [matmul.stream.rows(), top.rows(), self.design.indices()],
                    None => [matmul.stream.cols(), matmul.accumulators.cols(), beats],
                };
                let address = self.place(&matmul.accumulators, sum_rows)?;
                let top = matmul.stationary.map_or(0, |_| beats as usize * cols);
                (self.rows <= MOST_ROWS).then(|| {
                    Command::Stream(Stream {
                        ready: 0,
                        accumulate: matmul.accumulate,
                        resume: matmul.resume,
                        hold: matmul.hold,
                        beats,
                        beat_cycles: u32::try_from(tile.beat_cycles).unwrap_or(u32::MAX),
                        rows: used_rows,
                        cols: used_cols,
                        address,
                        left: codes(self.design.left(), beats as usize * rows, &mut self.random),
                        top: codes(self.design.top(), top, &mut self.random),
                        left_zero: 0,
                        top_zero: 0,
                    })
                })
            }
            _ => None,
        }
    }

    fn place(&mut self, sums: &Region, rows: u32) -> Option<u32> {
        let key = (sums.base, [sums.dims[2].stride, sums.dims[5].stride, sums.rows(), sums.cols()]);
        if let Some(&address) = self.places.get(&key) {
            return Some(address);
        }
        let address = self.next;
        self.next += rows;
        self.places.insert(key, address);
        (self.next <= self.design.depth).then_some(address)
    }
}
