//! What an array program gives, command by command in plain loops, with the reference's adders and requantizers.

use rand::{Rng, SeedableRng};
use rand_chacha::ChaCha8Rng;

use crate::{
    reference::{requantized, sum_of},
    rtl::{Command, Design, LaneParameters, QuantizedRow, Stream},
    tensor::Requantizer,
};

/// Rows that go through the requantization stage behind a program.
const QUANTIZED_ROWS: usize = 12;

/// The accumulators, and what was written to them.
pub(super) struct Sums<'a> {
    design: &'a Design,
    /// `[row][lane]`; `None` before the first write.
    pub memory: Vec<Vec<Option<i64>>>,
    /// By lane, in the order of the program.
    results: Vec<Vec<i64>>,
    /// `[rows, columns]` of the array: the operand that stays, or the sums that do.
    stationary: Vec<i64>,
}

/// By lane what is written to the accumulators, and some of their rows behind the program, requantized.
pub(super) fn values(design: &Design, commands: &[Command], seed: u64) -> (Vec<Vec<i64>>, Vec<QuantizedRow>) {
    let mut sums = Sums::new(design);
    for command in commands {
        sums.run(command);
    }
    let quantized = design.requantizer.map_or_else(Vec::new, |requantizer| sums.quantized(requantizer, seed));
    (sums.results, quantized)
}

/// What each accumulator holds behind a program, `[row][lane]`.
pub(super) fn accumulators(design: &Design, commands: &[Command]) -> Vec<Vec<Option<i64>>> {
    let mut sums = Sums::new(design);
    for command in commands {
        sums.run(command);
    }
    sums.memory
}

impl<'a> Sums<'a> {
    pub fn new(design: &'a Design) -> Self {
        let lanes = design.lanes() as usize;
        Self {
            design,
            memory: vec![vec![None; lanes]; design.depth as usize],
            results: vec![Vec::new(); lanes],
            stationary: vec![0; design.array.rows as usize * design.array.cols as usize],
        }
    }

    /// Whether a stream that adds to the accumulators finds sums in all that it writes.
    pub fn holds(&self, stream: &Stream) -> bool {
        let (rows, lanes) = self.extent(stream);
        let first = stream.address as usize;
        self.memory[first..first + rows].iter().all(|row| row[..lanes].iter().all(Option::is_some))
    }

    /// Rows of accumulators and lanes that a stream writes.
    fn extent(&self, stream: &Stream) -> (usize, usize) {
        let [rows, cols] = [stream.rows, stream.cols].map(|count| count as usize);
        match (self.design.is_stationary(), self.design.along_rows()) {
            (true, _) => (stream.beats as usize, cols),
            (false, false) => (rows, cols),
            (false, true) => (cols, rows),
        }
    }

    pub fn run(&mut self, command: &Command) {
        match command {
            Command::Load(load) => {
                self.stationary = load.words.iter().map(|&word| i64::from(word) - i64::from(load.zero)).collect();
            }
            Command::Stream(stream) if self.design.is_stationary() => self.stream_past(stream),
            Command::Stream(stream) => self.stream_both(stream),
        }
    }

    fn stream_past(&mut self, stream: &Stream) {
        let array = &self.design.array;
        let cols = array.cols as usize;
        let injects = self.design.injects() && stream.accumulate;
        for (beat, values) in stream.left.chunks_exact(array.rows as usize).enumerate() {
            let values = &values[..stream.rows as usize];
            for lane in 0..stream.cols as usize {
                let terms = values.iter().enumerate().map(|(r, &value)| {
                    (i64::from(value) - i64::from(stream.left_zero)) * self.stationary[r * cols + lane]
                });
                let row = stream.address as usize + beat;
                let start = self.memory[row][lane].filter(|_| injects);
                let start = sum_of(0, start, array.column_bits, array.overflow);
                let column = sum_of(start, terms, array.column_bits, array.overflow);
                self.deposit(row, lane, column, stream.accumulate && !injects);
            }
        }
    }

    fn stream_both(&mut self, stream: &Stream) {
        let array = &self.design.array;
        let (rows, cols) = (array.rows as usize, array.cols as usize);
        let (left_zero, top_zero) = (i64::from(stream.left_zero), i64::from(stream.top_zero));
        for r in 0..stream.rows as usize {
            for c in 0..stream.cols as usize {
                let terms = (0..stream.beats as usize).map(|beat| {
                    (i64::from(stream.left[beat * rows + r]) - left_zero)
                        * (i64::from(stream.top[beat * cols + c]) - top_zero)
                });
                let start = if stream.resume { self.stationary[r * cols + c] } else { 0 };
                self.stationary[r * cols + c] = sum_of(start, terms, array.column_bits, array.overflow);
            }
        }
        if stream.hold {
            return;
        }
        // The chain gives its far end last.
        let (indices, lanes) = self.extent(stream);
        for index in (0..indices).rev() {
            for lane in 0..lanes {
                let (r, c) = if self.design.along_rows() { (lane, index) } else { (index, lane) };
                self.deposit(stream.address as usize + index, lane, self.stationary[r * cols + c], stream.accumulate);
            }
        }
    }

    fn deposit(&mut self, row: usize, lane: usize, column: i64, accumulate: bool) {
        let place = &mut self.memory[row][lane];
        let start = place.filter(|_| accumulate).unwrap_or(0);
        let sum = sum_of(start, [column], self.design.accumulator_bits, self.design.array.overflow);
        *place = Some(sum);
        self.results[lane].push(sum);
    }

    fn quantized(&self, requantizer: Requantizer, seed: u64) -> Vec<QuantizedRow> {
        let mut random = ChaCha8Rng::seed_from_u64(seed);
        let written =
            self.memory.iter().enumerate().filter(|(_, row)| row.iter().any(Option::is_some)).take(QUANTIZED_ROWS);
        written
            .map(|(address, row)| {
                let limits = *[[-128, 127], [0, 255], [i32::MIN, i32::MAX]].get(address % 3).unwrap_or(&[0, 0]);
                let zero = random.random_range(-128..128);
                let lanes: Vec<LaneParameters> = row.iter().map(|_| parameters(requantizer, &mut random)).collect();
                let output = |(&sum, lane): (&Option<i64>, &LaneParameters)| {
                    let (bits, overflow) = (self.design.accumulator_bits, self.design.array.overflow);
                    let sum = sum_of(sum?, [i64::from(lane.bias)], bits, overflow);
                    requantized(requantizer, lane.multiplier, lane.shift.into(), sum, zero, limits)
                };
                let outputs = row.iter().zip(&lanes).map(output).collect();
                QuantizedRow { address: u32::try_from(address).unwrap_or(u32::MAX), zero, limits, lanes, outputs }
            })
            .collect()
    }
}

/// Multipliers and shifts of the useful range, some of the ends of it, and powers of two, which make ties.
fn parameters(requantizer: Requantizer, random: &mut impl Rng) -> LaneParameters {
    let bias = if random.random() { random.random_range(-1000..1000) } else { random.random() };
    let is_power = random.random_ratio(1, 3);
    let (multiplier, shift) = match requantizer {
        Requantizer::FixedMul { bits, max_shift, .. } => {
            let largest = i32::MAX >> (32 - u32::from(bits));
            let power = 1 << random.random_range(0..u32::from(bits) - 1);
            let multiplier = if is_power { power } else { random.random_range(0..=largest) };
            (multiplier, random.random_range(0..=i8::try_from(max_shift).unwrap_or(62)))
        }
        _ => (
            if is_power { 1 << 30 } else { random.random_range(1 << 30..=i32::MAX) },
            if random.random_ratio(1, 4) { random.random_range(-31..=62) } else { random.random_range(0..12) },
        ),
    };
    LaneParameters { bias, multiplier, shift }
}
