//! Array programs as the testbench's hex files: a line a command, a row of operands, a result.

use std::{fs, io, path::Path};

use super::{Command, Design, Expected};

/// What the testbench holds at most: commands, rows of operands, results.
const MOST: [usize; 3] = [1 << 13, 1 << 17, 1 << 21];

/// A packed word, lowest bits first.
#[derive(Default)]
struct Word {
    bits: u128,
    count: u32,
    nibbles: Vec<u8>,
}

impl Word {
    fn push(&mut self, value: u64, bits: u32) {
        let mask = u128::from(u64::MAX >> (64 - bits));
        self.bits |= (u128::from(value) & mask) << self.count;
        self.count += bits;
        while self.count >= 4 {
            self.nibble();
        }
    }

    fn nibble(&mut self) {
        self.nibbles.push((self.bits & 0xf).to_le_bytes()[0]);
        self.bits >>= 4;
        self.count = self.count.saturating_sub(4);
    }

    /// Appends it as a line.
    fn line(mut self, text: &mut String) {
        if self.count > 0 {
            self.nibble();
        }
        text.extend(self.nibbles.iter().rev().map(|&nibble| char::from(b"0123456789abcdef"[usize::from(nibble)])));
        text.push('\n');
    }
}

/// A line of 32-bit fields, the first one highest.
fn fields(text: &mut String, values: &[u64]) {
    let mut word = Word::default();
    for &value in values.iter().rev() {
        word.push(value, 32);
    }
    word.line(text);
}

fn row(text: &mut String, values: impl IntoIterator<Item = i32>, bits: u32) {
    let mut word = Word::default();
    for value in values {
        word.push(i64::from(value).cast_unsigned(), bits);
    }
    word.line(text);
}

fn code(value: i32) -> u64 {
    u64::from(value.cast_unsigned())
}

/// Writes a program and what it must give into a folder.
///
/// # Errors
/// A folder that cannot be written; a program that is too long for the testbench's memories.
///
/// # Panics
/// If the program's operands have not the array's extents.
pub fn write_vectors(folder: &Path, design: &Design, commands: &[Command], expected: &Expected) -> io::Result<()> {
    let (rows, cols) = (design.array.rows as usize, design.array.cols as usize);
    let [side, steps] = design.load_steps().map(|count| count as usize);
    let [left_bits, top_bits] = [design.left().bits(), design.top().bits()];
    let [mut loads, mut streams, mut left, mut top, mut tiles] = [const { String::new() }; 5];
    let [mut load_cycles, mut stream_cycles] = [const { String::new() }; 2];
    let [mut load_count, mut stream_count, mut tile_count, mut left_rows, mut top_rows] = [0_u64; 5];
    // Whether the last load waits for its first stream.
    let mut fresh = false;
    for (command, &[start, end]) in commands.iter().zip(&expected.cycles) {
        match command {
            Command::Load(load) => {
                assert_eq!(load.words.len(), rows * cols, "a whole operand");
                fields(&mut loads, &[load.ready, stream_count, u64::from(fresh), top_rows, code(load.zero)]);
                fields(&mut load_cycles, &[start, end]);
                for step in 0..steps {
                    let words = (step * side..(step + 1) * side)
                        .flat_map(|r| (0..cols).map(move |c| (r, c)))
                        .map(|(r, c)| if r < rows { load.words[r * cols + c] } else { 0 });
                    row(&mut top, words, top_bits);
                    top_rows += 1;
                }
                load_count += 1;
                fresh = true;
            }
            Command::Stream(stream) => {
                assert_eq!(stream.left.len(), stream.beats as usize * rows, "whole rows");
                fields(
                    &mut streams,
                    &[
                        stream.ready,
                        load_count,
                        u64::from(fresh),
                        u64::from(stream.accumulate),
                        u64::from(stream.resume),
                        u64::from(stream.hold),
                        stream.beats.into(),
                        stream.beat_cycles.into(),
                        left_rows,
                        stream.rows.into(),
                        top_rows,
                        stream.address.into(),
                        stream.cols.into(),
                        code(stream.left_zero),
                        code(stream.top_zero),
                    ],
                );
                fields(&mut stream_cycles, &[start, end]);
                for beat in stream.left.chunks_exact(rows) {
                    row(&mut left, beat.iter().copied(), left_bits);
                    left_rows += 1;
                }
                for beat in stream.top.chunks_exact(cols) {
                    row(&mut top, beat.iter().copied(), top_bits);
                    top_rows += 1;
                }
                if !stream.hold {
                    let lanes = if design.along_rows() { stream.rows } else { stream.cols };
                    fields(&mut tiles, &[stream_count, lanes.into()]);
                    tile_count += 1;
                }
                stream_count += 1;
                fresh = false;
            }
        }
    }
    let [mut lanes, mut results] = [const { String::new() }; 2];
    let mut result_count = 0_u64;
    for lane in &expected.results {
        fields(&mut lanes, &[result_count]);
        for &value in lane {
            let mut word = Word::default();
            word.push(value.cast_unsigned(), design.accumulator_bits.into());
            word.line(&mut results);
            result_count += 1;
        }
    }
    fields(&mut lanes, &[result_count]);
    let [mut quantize, mut quantize_lanes, mut quantize_expected] = [const { String::new() }; 3];
    for entry in &expected.quantized {
        let [low, high] = entry.limits;
        fields(&mut quantize, &[entry.address.into(), code(entry.zero), code(low), code(high)]);
        let (mut parameters, mut outputs) = (Word::default(), Word::default());
        for (lane, output) in entry.lanes.iter().zip(&entry.outputs) {
            for value in [i32::from(lane.shift), lane.multiplier, lane.bias] {
                parameters.push(code(value), 32);
            }
            outputs.push(output.map_or(0, code), 32);
            outputs.push(u64::from(output.is_some()), 32);
        }
        parameters.line(&mut quantize_lanes);
        outputs.line(&mut quantize_expected);
    }
    let longest = load_count.max(stream_count).max(expected.quantized.len() as u64);
    for ((count, most), what) in
        [longest, left_rows.max(top_rows), result_count].into_iter().zip(MOST).zip(["commands", "rows", "results"])
    {
        if count > most as u64 {
            return Err(io::Error::other(format!("{count} {what}: the testbench holds {most}")));
        }
    }
    let last = expected.cycles.iter().map(|&[_, end]| end).max().unwrap_or(0);
    let mut sizes = String::new();
    // Long enough to see what comes too late or should not come.
    let cycles = last + 200 + 8 * (rows + cols) as u64;
    for size in [load_count, stream_count, tile_count, cycles, expected.quantized.len() as u64] {
        fields(&mut sizes, &[size]);
    }
    fs::create_dir_all(folder)?;
    let mut files = vec![
        ("sizes", sizes),
        ("streams", streams),
        ("streams_expected", stream_cycles),
        ("tiles", tiles),
        ("left", left),
        ("top", top),
        ("lanes", lanes),
        ("results", results),
    ];
    if design.is_stationary() {
        files.extend([("loads", loads), ("loads_expected", load_cycles)]);
    }
    if design.requantizer.is_some() {
        files.extend([
            ("quantize", quantize),
            ("quantize_lanes", quantize_lanes),
            ("quantize_expected", quantize_expected),
        ]);
    }
    for (name, text) in files {
        fs::write(folder.join(name).with_extension("hex"), text)?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_word_has_its_first_value_in_its_lowest_bits() {
        let mut text = String::new();
        row(&mut text, [1, -1, 2], 4);
        row(&mut text, [-1, 3], 5);
        fields(&mut text, &[1, 0xabcd]);
        row(&mut text, [-2, 0], 64);
        assert_eq!(text, "2f1\n07f\n000000010000abcd\n0000000000000000fffffffffffffffe\n");
    }
}
