//! A shift register that moves a word every cycle.

/// `depth` registers behind a wire: position 0 is the wire, position `k` what was on it `k` cycles ago.
#[derive(Clone, Debug)]
pub(super) struct Line<T> {
    words: Vec<T>,
    /// Cycles since a word entered; a line that holds none need not move.
    idle: usize,
}

impl<T: Copy + Default> Line<T> {
    pub fn new(depth: usize) -> Self {
        Self { words: vec![T::default(); depth + 1], idle: depth + 1 }
    }

    /// The next cycle, with nothing on the wire.
    pub fn shift(&mut self) {
        if self.idle < self.words.len() {
            let depth = self.words.len() - 1;
            self.words.copy_within(..depth, 1);
            self.words[0] = T::default();
            self.idle += 1;
        }
    }

    /// Puts a word on the wire.
    pub fn put(&mut self, word: T) {
        self.words[0] = word;
        self.idle = 0;
    }

    pub fn at(&self, position: usize) -> T {
        self.words[position]
    }

    pub fn words(&self) -> &[T] {
        &self.words
    }

    /// What reaches the end.
    pub fn end(&self) -> T {
        self.words[self.words.len() - 1]
    }

    pub fn is_empty(&self) -> bool {
        self.idle >= self.words.len()
    }
}
