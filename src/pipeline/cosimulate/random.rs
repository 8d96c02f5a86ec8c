//! Random array programs: ragged tiles, loads that no stream uses, beats that take several cycles, streams that add to sums
//! still on their way, commands that come late.

use rand::{Rng, SeedableRng};
use rand_chacha::ChaCha8Rng;

use super::{ArrayProgram, expect::Sums};
use crate::{
    rtl::{Command, Design, Load, Stream},
    tensor::DType,
};

/// `count` programs of some thirty commands each, of one seed.
pub fn random_programs(design: &Design, seed: u64, count: usize) -> Vec<ArrayProgram> {
    let mut random = ChaCha8Rng::seed_from_u64(seed);
    (0..count)
        .map(|index| {
            let mut writer = Writer::new(design, &mut random);
            // Half of the programs keep the array as busy as it can be.
            writer.is_dense = index % 2 == 0;
            if design.is_stationary() {
                writer.stationary();
            } else {
                writer.output();
            }
            ArrayProgram { name: format!("random_{index}"), commands: writer.commands }
        })
        .collect()
}

/// Random codes of an element type: zeros, the ends of its range, anything.
pub(in crate::pipeline) fn codes(dtype: DType, count: usize, random: &mut impl Rng) -> Vec<i32> {
    let (low, high) = dtype.int_range().unwrap_or((0, 0));
    let [low, high] = [low, high].map(|end| i32::try_from(end).unwrap_or(0));
    (0..count)
        .map(|_| match random.random_range(0..16) {
            0 => low,
            1 => high,
            2 => 0,
            _ => random.random_range(low..=high),
        })
        .collect()
}

struct Writer<'a, R> {
    design: &'a Design,
    random: &'a mut R,
    commands: Vec<Command>,
    sums: Sums<'a>,
    is_dense: bool,
    ready: u64,
}

impl<'a, R: Rng> Writer<'a, R> {
    fn new(design: &'a Design, random: &'a mut R) -> Self {
        Self { design, random, commands: Vec::new(), sums: Sums::new(design), is_dense: false, ready: 0 }
    }

    fn push(&mut self, command: Command) {
        self.sums.run(&command);
        self.commands.push(command);
    }

    /// Now and then, a command may begin only some time after the one before might.
    fn ready(&mut self) -> u64 {
        if !self.is_dense && self.random.random_ratio(1, 3) {
            let reach = 2 * (self.design.array.rows + self.design.array.cols) + 8;
            self.ready += u64::from(self.random.random_range(0..reach));
        }
        self.ready
    }

    fn used(&mut self, extent: u32) -> u32 {
        if self.random.random_ratio(1, 2) { extent } else { self.random.random_range(1..=extent) }
    }

    fn zero(&mut self, dtype: DType) -> i32 {
        if self.design.array.zero_points { codes(dtype, 1, self.random)[0] } else { 0 }
    }

    fn beats(&mut self) -> u32 {
        let span = self.design.array.rows + self.design.array.cols;
        match self.random.random_range(0..4) {
            0 => self.random.random_range(1..=3),
            1 => self.random.random_range(1..=span),
            2 => self.design.array.rows,
            _ => self.random.random_range(1..=2 * span + 4),
        }
    }

    fn beat_cycles(&mut self) -> u32 {
        if self.random.random_ratio(1, 6) { self.random.random_range(2..=3) } else { 1 }
    }

    fn load(&mut self) {
        let (array, top) = (&self.design.array, self.design.top());
        let count = array.rows as usize * array.cols as usize;
        let words = codes(top, count, self.random);
        let (ready, zero) = (self.ready(), self.zero(top));
        self.push(Command::Load(Load { ready, words, zero }));
    }

    fn stationary(&mut self) {
        let (rows, cols) = (self.design.array.rows, self.design.array.cols);
        for _ in 0..self.random.random_range(6..=12) {
            self.load();
            while self.random.random_ratio(1, 6) {
                self.load();
            }
            let streams = if self.random.random_ratio(2, 3) { 1 } else { self.random.random_range(1..=3) };
            for _ in 0..streams {
                let beats = self.beats().min(self.design.depth);
                let farthest = (self.design.depth - beats).min(if self.random.random() { 0 } else { 2 * rows });
                let mut stream = self.stream(beats);
                stream.address = self.random.random_range(0..=farthest);
                [stream.rows, stream.cols] = [self.used(rows), self.used(cols)];
                stream.accumulate = self.random.random_ratio(3, 4) && self.sums.holds(&stream);
                self.push(Command::Stream(stream));
            }
        }
    }

    fn output(&mut self) {
        let (rows, cols, indices) = (self.design.array.rows, self.design.array.cols, self.design.indices());
        for _ in 0..self.random.random_range(8..=16) {
            let extent = [self.used(rows), self.used(cols)];
            let address = self.random.random_range(0..=(self.design.depth - indices.min(self.design.depth)).min(4));
            let folds = if self.random.random_ratio(2, 3) { 1 } else { self.random.random_range(2..=3) };
            for fold in 0..folds {
                let beats = self.beats();
                let mut stream = self.stream(beats);
                stream.top = codes(self.design.top(), beats as usize * cols as usize, self.random);
                stream.top_zero = self.zero(self.design.top());
                [stream.rows, stream.cols] = extent;
                (stream.resume, stream.hold, stream.address) = (fold > 0, fold + 1 < folds, address);
                stream.accumulate = self.random.random() && self.sums.holds(&stream);
                self.push(Command::Stream(stream));
            }
        }
    }

    /// A stream of some beats; what is not said yet is the whole array.
    fn stream(&mut self, beats: u32) -> Stream {
        let left = self.design.left();
        let (rows, cols) = (self.design.array.rows, self.design.array.cols);
        Stream {
            ready: self.ready(),
            accumulate: false,
            resume: false,
            hold: false,
            beats,
            beat_cycles: self.beat_cycles(),
            rows,
            cols,
            address: 0,
            left: codes(left, beats as usize * rows as usize, self.random),
            top: Vec::new(),
            left_zero: self.zero(left),
            top_zero: 0,
        }
    }
}
