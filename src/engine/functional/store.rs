//! The machine's state between instructions: memory images, on-chip buffers, accumulators. Every access is checked
//! against the space's bounds and, in checked mode, against what has been written.

use super::error::Fault;
use crate::{
    config::Accelerator,
    program::{Header, Space},
};

/// What an unwritten byte of a buffer holds: a value that shows up in any sum.
const POISON: u8 = 0xa5;

/// What is known of an address in checked mode.
const UNDEFINED: u8 = 0;
const DEFINED: u8 = 1;
/// Written from outside once, for all samples: weights and constants.
const CONSTANT: u8 = 2;

/// A byte-addressed space.
#[derive(Clone, Debug)]
pub(super) struct Bytes {
    space: Space,
    data: Vec<u8>,
    /// One mark an address, in checked mode.
    marks: Option<Vec<u8>>,
    /// For each address the zero point of the weight that starts there; only where a layer has weights of several
    /// zero points, whose channel an address in a buffer does not tell.
    zeros: Option<Vec<i32>>,
}

impl Bytes {
    fn new(space: Space, size: usize, fill: u8, checked: bool, zeros: bool) -> Self {
        Self {
            space,
            data: vec![fill; size],
            marks: checked.then(|| vec![UNDEFINED; size]),
            zeros: zeros.then(|| vec![0; size]),
        }
    }

    /// Whether reads are checked against writes.
    pub fn is_checked(&self) -> bool {
        self.marks.is_some()
    }

    fn outside(&self, address: i64, length: usize) -> Fault {
        Fault::Outside { space: self.space, address, length: length as u64, size: self.data.len() as u64 }
    }

    #[inline]
    fn range(&self, address: i64, length: usize) -> Result<std::ops::Range<usize>, Fault> {
        let start = usize::try_from(address).map_err(|_| self.outside(address, length))?;
        match start.checked_add(length) {
            Some(end) if end <= self.data.len() => Ok(start..end),
            _ => Err(self.outside(address, length)),
        }
    }

    /// The bytes from an address on.
    #[inline]
    pub fn read(&self, address: i64, length: usize) -> Result<&[u8], Fault> {
        let range = self.range(address, length)?;
        if let Some(marks) = &self.marks {
            check(self.space, marks, &range)?;
        }
        Ok(&self.data[range])
    }

    /// The bytes from an address on, to overwrite all of them.
    #[inline]
    pub fn write(&mut self, address: i64, length: usize) -> Result<&mut [u8], Fault> {
        let range = self.range(address, length)?;
        if let Some(marks) = &mut self.marks {
            marks[range.clone()].fill(DEFINED);
        }
        Ok(&mut self.data[range])
    }

    /// Marks bytes as constants that a reset keeps.
    pub fn keep(&mut self, address: i64, length: usize) -> Result<(), Fault> {
        let range = self.range(address, length)?;
        if let Some(marks) = &mut self.marks {
            marks[range].fill(CONSTANT);
        }
        Ok(())
    }

    /// The zero points that belong to bytes; `None` where no layer needs them.
    pub fn zeros(&self, address: i64, length: usize) -> Result<Option<&[i32]>, Fault> {
        let range = self.range(address, length)?;
        Ok(self.zeros.as_ref().map(|zeros| &zeros[range]))
    }

    /// The zero points that belong to bytes, to overwrite.
    pub fn zeros_mut(&mut self, address: i64, length: usize) -> Result<Option<&mut [i32]>, Fault> {
        let range = self.range(address, length)?;
        Ok(self.zeros.as_mut().map(|zeros| &mut zeros[range]))
    }

    fn reset(&mut self) {
        if let Some(marks) = &mut self.marks {
            for mark in marks.iter_mut().filter(|mark| **mark == DEFINED) {
                *mark = UNDEFINED;
            }
        }
    }
}

/// A read of a range is a fault unless all of it has been written.
fn check(space: Space, marks: &[u8], range: &std::ops::Range<usize>) -> Result<(), Fault> {
    match marks[range.clone()].iter().position(|&mark| mark == UNDEFINED) {
        None => Ok(()),
        Some(first) => Err(Fault::Undefined { space, address: (range.start + first) as u64 }),
    }
}

/// Accumulator words, sign-extended from their width.
#[derive(Clone, Debug)]
pub(super) enum Words {
    /// Of at most 32 bits.
    Narrow(Vec<i32>),
    /// Wider.
    Wide(Vec<i64>),
}

/// The accumulator memory.
#[derive(Clone, Debug)]
pub(super) struct Accumulators {
    /// The words.
    pub words: Words,
    marks: Option<Vec<u8>>,
}

impl Accumulators {
    fn new(size: usize, bits: u8, checked: bool) -> Self {
        let words =
            if bits <= 32 { Words::Narrow(vec![0x5a5a; size]) } else { Words::Wide(vec![0x5a5a_5a5a_5a5a; size]) };
        Self { words, marks: checked.then(|| vec![UNDEFINED; size]) }
    }

    /// Words.
    pub fn size(&self) -> usize {
        match &self.words {
            Words::Narrow(words) => words.len(),
            Words::Wide(words) => words.len(),
        }
    }

    /// Whether reads are checked against writes.
    pub fn is_checked(&self) -> bool {
        self.marks.is_some()
    }

    /// The indices of a row of words that is about to be read.
    pub fn reading(&self, address: i64, length: usize) -> Result<std::ops::Range<usize>, Fault> {
        let range = self.range(address, length)?;
        if let Some(marks) = &self.marks {
            check(Space::Accumulators, marks, &range)?;
        }
        Ok(range)
    }

    /// The indices of a row of words that is about to be overwritten.
    pub fn writing(&mut self, address: i64, length: usize) -> Result<std::ops::Range<usize>, Fault> {
        let range = self.range(address, length)?;
        if let Some(marks) = &mut self.marks {
            marks[range.clone()].fill(DEFINED);
        }
        Ok(range)
    }

    fn range(&self, address: i64, length: usize) -> Result<std::ops::Range<usize>, Fault> {
        let size = self.size();
        let outside =
            || Fault::Outside { space: Space::Accumulators, address, length: length as u64, size: size as u64 };
        let start = usize::try_from(address).map_err(|_| outside())?;
        match start.checked_add(length) {
            Some(end) if end <= size => Ok(start..end),
            _ => Err(outside()),
        }
    }
}

/// All spaces of one machine.
#[derive(Clone, Debug)]
pub(super) struct Store {
    memories: Vec<Bytes>,
    buffers: Vec<Bytes>,
    /// Behind the array.
    pub accumulators: Accumulators,
}

impl Store {
    /// Spaces of the given sizes. The caller has bounded the memories; buffers and accumulators are bounded here.
    ///
    /// # Errors
    /// The size that is past `limit`.
    pub fn new(
        accelerator: &Accelerator,
        header: &Header,
        checked: bool,
        zeros: bool,
        limit: u64,
    ) -> Result<Self, u64> {
        let on_chip: Vec<u64> =
            accelerator.buffers.iter().map(|buffer| buffer.bytes.saturating_mul(header.buffer_scale)).collect();
        let words = accelerator.accumulator_words();
        let total = header
            .memory_bytes
            .iter()
            .chain(&on_chip)
            .chain([&words, &words, &words, &words])
            .try_fold(0_u64, |total, &size| total.checked_add(size))
            .unwrap_or(u64::MAX);
        if total > limit {
            return Err(total);
        }
        let size = |bytes: u64| usize::try_from(bytes).map_err(|_| bytes);
        let mut memories = Vec::new();
        for (id, &bytes) in (0_u8..).zip(&header.memory_bytes) {
            let space = Space::Memory(crate::config::MemoryId(id));
            memories.push(Bytes::new(space, size(bytes)?, 0, checked, zeros));
        }
        let mut buffers = Vec::new();
        for (id, &bytes) in (0_u8..).zip(&on_chip) {
            let space = Space::Buffer(crate::config::BufferId(id));
            buffers.push(Bytes::new(space, size(bytes)?, POISON, checked, zeros));
        }
        let accumulators = Accumulators::new(size(words)?, accelerator.config.accumulators.bits, checked);
        Ok(Self { memories, buffers, accumulators })
    }

    /// A byte-addressed space.
    pub fn bytes(&self, space: Space) -> Result<&Bytes, Fault> {
        match space {
            Space::Memory(id) => self.memories.get(usize::from(id.0)),
            Space::Buffer(id) => self.buffers.get(usize::from(id.0)),
            Space::Accumulators => None,
        }
        .ok_or(Fault::NoSpace(space))
    }

    /// A byte-addressed space, to write.
    pub fn bytes_mut(&mut self, space: Space) -> Result<&mut Bytes, Fault> {
        match space {
            Space::Memory(id) => self.memories.get_mut(usize::from(id.0)),
            Space::Buffer(id) => self.buffers.get_mut(usize::from(id.0)),
            Space::Accumulators => None,
        }
        .ok_or(Fault::NoSpace(space))
    }

    /// Forgets activations: what is not constant is undefined again, buffers are poisoned.
    pub fn reset(&mut self) {
        for memory in &mut self.memories {
            memory.reset();
        }
        for buffer in &mut self.buffers {
            buffer.data.fill(POISON);
            buffer.reset();
        }
        if let Some(marks) = &mut self.accumulators.marks {
            marks.fill(UNDEFINED);
        }
    }
}
