//! `--fidelity pe`: the array's commands of a timed program, with their values, through the array's registers. Each begins in
//! the cycle in which the timing engine began it; what meets, when sums come out, and the sums themselves must be what the
//! two engines say. A difference is a fault of this program.

use std::collections::VecDeque;

use super::{Failure, Mapped, Samples, execute, limits};
use crate::{
    config::{Accelerator, EngineId},
    diag::Progress,
    engine::{
        functional::Machine,
        pe::{Array, Command, Finished, Integers, Sums, Tile},
        timing::{self, BufferRates, Done, Observer, Unit},
    },
    program::{Instruction, Matmul, Operation, Region},
    result::RegisterCheck,
    units::Time,
};

/// When the arrays' instructions began and ended, in the order of each.
struct ArrayTimes<'a> {
    accelerator: &'a Accelerator,
    times: Vec<VecDeque<[u64; 2]>>,
}

impl Observer for ArrayTimes<'_> {
    fn done(&mut self, done: &Done) {
        let Unit::Engine(engine) = done.unit else { return };
        let array = u8::try_from(engine).ok().and_then(|engine| self.accelerator.array_of(EngineId(engine)));
        if let Some(array) = array {
            let cycles = |time: Time| time.cycles_ceil(self.accelerator.array_period).0;
            self.times[array].push_back([done.start, done.end].map(cycles));
        }
    }
}

/// Runs the array's part of a mapped network register by register, on the first of the samples.
///
/// # Errors
/// A network too large for it; a cycle or a sum that differs, which is a fault of this program.
pub(super) fn check(
    mapped: &Mapped,
    samples: Option<&Samples>,
    progress: &mut dyn Progress,
) -> Result<RegisterCheck, Failure> {
    let program = &mapped.program;
    let accelerator = &program.accelerator;
    let mut observed =
        ArrayTimes { accelerator, times: vec![VecDeque::new(); accelerator.config.array.count as usize] };
    let instructions = program.instructions();
    timing::observe(accelerator, &program.header, instructions, timing::Options::default(), &mut observed, None)?;
    let ends = observed.times.iter().map(|times| times.back().map_or(0, |&[_, end]| end));
    let cycles = ends.fold(0, u64::saturating_add);
    limits::check_registers(accelerator, cycles)?;

    progress.stage("the array, register by register", Some(cycles), "cycles");
    let (mut machine, inputs) = execute::first_run(mapped, samples)?;
    for (index, input) in inputs.iter().enumerate() {
        machine.set_input(index, input).map_err(internal)?;
    }
    let mut arrays = Vec::new();
    for times in observed.times {
        arrays.push(Replay::new(accelerator, times)?);
    }
    // Operands in the weight FIFO.
    let mut fetched = VecDeque::new();
    for instruction in program.instructions() {
        if let Operation::Fetch { stationary } = &instruction.operation {
            let words = machine.array_operand(&instruction, stationary, true).map_err(internal)?;
            fetched.push_back(words);
        }
        let Some(replay) = accelerator.array_of(instruction.engine).and_then(|index| arrays.get_mut(index)) else {
            machine.execute(&instruction).map_err(internal)?;
            continue;
        };
        match &instruction.operation {
            Operation::Preload { stationary } => {
                let words = machine.array_operand(&instruction, stationary, true).map_err(internal)?;
                replay.load(&instruction, &words, stationary.cols())?;
            }
            Operation::PreloadNext { k, .. } => {
                let words = fetched.pop_front();
                let words = words.ok_or_else(|| internal("an operand that was not fetched"))?;
                replay.load(&instruction, &words, *k)?;
            }
            Operation::Matmul(matmul) => {
                let tile = replay.tile(&mut machine, &instruction, matmul)?;
                machine.execute(&instruction).map_err(internal)?;
                let sums = if matmul.hold {
                    Vec::new()
                } else {
                    machine.sums(&instruction, &matmul.accumulators).map_err(internal)?
                };
                let before = replay.array.now();
                replay.stream(&instruction, tile, sums)?;
                progress.advance(replay.array.now() - before);
                continue;
            }
            _ => {}
        }
        machine.execute(&instruction).map_err(internal)?;
    }
    let mut found = RegisterCheck::default();
    for array in arrays {
        let RegisterCheck { tiles, sums, element_updates } = array.finish()?;
        found.tiles += tiles;
        found.sums += sums;
        found.element_updates += element_updates;
    }
    Ok(found)
}

fn internal(error: impl std::fmt::Display) -> Failure {
    Failure::Internal(error.to_string())
}

/// A tile that must still come out.
struct Expected {
    instruction: u64,
    layer: u32,
    end: u64,
    sums: Vec<i64>,
}

struct Replay {
    array: Array<Integers>,
    rows: usize,
    cols: usize,
    rates: BufferRates,
    times: VecDeque<[u64; 2]>,
    last_load: u64,
    /// Beginning of the last stream; no later command begins before the earlier of this and the last load.
    last_stream: u64,
    expected: VecDeque<Expected>,
    /// Instructions retire in order, so that an end is that of all before.
    result: u64,
    found: RegisterCheck,
}

impl Replay {
    fn new(accelerator: &Accelerator, times: VecDeque<[u64; 2]>) -> Result<Self, Failure> {
        let (array, accumulators) = (&accelerator.config.array, &accelerator.config.accumulators);
        let integers =
            Integers { column_bits: array.column_bits, accumulator_bits: accumulators.bits, overflow: array.overflow };
        let words = usize::try_from(accumulators.bytes / accelerator.accumulator_bytes()).unwrap_or(usize::MAX);
        Ok(Self {
            array: Array::new(array, integers, words),
            rows: array.rows as usize,
            cols: array.cols as usize,
            rates: BufferRates::of(accelerator)?,
            times,
            last_load: 0,
            last_stream: 0,
            expected: VecDeque::new(),
            result: 0,
            found: RegisterCheck::default(),
        })
    }

    fn times(&mut self) -> Result<[u64; 2], Failure> {
        self.times.pop_front().ok_or_else(|| internal("an instruction of the array was not timed"))
    }

    /// Loads an operand `[columns, k]`.
    fn load(&mut self, instruction: &Instruction, words: &[i32], k: u32) -> Result<(), Failure> {
        // To `[rows of K, columns]`.
        let k = k as usize;
        let mut stationary = vec![0; self.rows * self.cols];
        for (at, &word) in words.iter().enumerate() {
            stationary[(at % k) * self.cols + at / k] = word;
        }
        let [start, _] = self.times()?;
        self.last_load = start;
        self.begin(instruction, &Command::Preload(stationary), start)
    }

    /// The tile of an instruction with the values of its operands.
    fn tile(&mut self, machine: &mut Machine, instruction: &Instruction, matmul: &Matmul) -> Result<Tile, Failure> {
        let mut operand = |region: &Region, stays| machine.array_operand(instruction, region, stays).map_err(internal);
        let target = &matmul.accumulators;
        let [row_stride, col_stride] = [target.dims[2].stride, target.dims[5].stride].map(|stride| stride as usize);
        let sums = Sums {
            first: usize::try_from(target.base).map_err(internal)?,
            rows: target.rows() as usize,
            cols: target.cols() as usize,
            row_stride,
            col_stride,
        };
        let (beats, left, top) = match &matmul.stationary {
            None => {
                let words = operand(&matmul.stream, false)?;
                let (t, k) = (matmul.stream.rows() as usize, matmul.stream.cols() as usize);
                (t, spread(&words, [t, k], [k, 1], self.rows), None)
            }
            Some(second) => {
                let (t, k) = (matmul.stream.rows() as usize, matmul.stream.cols() as usize);
                let j = second.rows() as usize;
                let left = spread(&operand(&matmul.stream, false)?, [k, t], [1, k], self.rows);
                let top = spread(&operand(second, true)?, [k, j], [1, k], self.cols);
                (k, left, Some(top))
            }
        };
        Ok(Tile {
            beats: u32::try_from(beats).map_err(internal)?,
            beat_cycles: u32::try_from(self.rates.beats(matmul)?[1]).map_err(internal)?,
            left,
            top,
            accumulate: matmul.accumulate,
            resume: matmul.resume,
            hold: matmul.hold,
            sums,
        })
    }

    /// Streams a tile whose sums the program's execution says.
    fn stream(&mut self, instruction: &Instruction, tile: Tile, sums: Vec<i64>) -> Result<(), Failure> {
        let [start, end] = self.times()?;
        self.found.tiles += 1;
        self.last_stream = start;
        self.expected.push_back(Expected { instruction: instruction.index, layer: instruction.layer.0, end, sums });
        self.begin(instruction, &Command::Stream(tile), start)
    }

    fn begin(&mut self, instruction: &Instruction, command: &Command, start: u64) -> Result<(), Failure> {
        let met = |conflict| {
            internal(format!(
                "instruction {} of layer {} begins in cycle {start}, and the array's registers do not let it: {conflict}",
                instruction.index, instruction.layer.0
            ))
        };
        self.array.begin(command, start).map_err(met)?;
        self.array.advance(self.last_load.min(self.last_stream)).map_err(met)?;
        self.compare()
    }

    /// What has come out since the last time.
    fn compare(&mut self) -> Result<(), Failure> {
        for Finished { last_out, sums } in self.array.take_finished() {
            let expected =
                self.expected.pop_front().ok_or_else(|| internal("a tile too many came out of the array"))?;
            let Expected { instruction, layer, end, sums: values } = expected;
            self.result = self.result.max(last_out);
            if self.result != end {
                return Err(internal(format!(
                    "instruction {instruction} of layer {layer}: the array's registers hold its last sum in cycle {}, \
                     the array's law says {end}",
                    self.result
                )));
            }
            if let Some(at) = sums.iter().zip(&values).position(|(ours, theirs)| ours != theirs) {
                return Err(internal(format!(
                    "instruction {instruction} of layer {layer}: sum {at} is {} in the array's registers and {} in the \
                     program's execution",
                    sums[at], values[at]
                )));
            }
            if sums.len() != values.len() {
                return Err(internal(format!("instruction {instruction} of layer {layer}: sums that never came out")));
            }
            self.found.sums += sums.len() as u64;
        }
        Ok(())
    }

    fn finish(mut self) -> Result<RegisterCheck, Failure> {
        self.array.finish().map_err(|conflict| internal(format!("the array's registers at the end: {conflict}")))?;
        self.compare()?;
        if !self.expected.is_empty() || !self.times.is_empty() {
            return Err(internal("tiles that never came out of the array"));
        }
        self.found.element_updates = self.array.updates();
        Ok(self.found)
    }
}

/// `words` at `[beat, lane]` strides as `[beats, lanes]` of the array, zero where a lane is not used.
fn spread(words: &[i32], [beats, used]: [usize; 2], [by_beat, by_lane]: [usize; 2], lanes: usize) -> Vec<i32> {
    let mut spread = vec![0; beats * lanes];
    for beat in 0..beats {
        for lane in 0..used {
            spread[beat * lanes + lane] = words[beat * by_beat + lane * by_lane];
        }
    }
    spread
}
