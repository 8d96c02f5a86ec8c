//! What a model file may cost, so that no file can hang the program or fill its memory; and the text of refusals.

use crate::ir::fold::FoldError;

/// Largest model file in bytes, which is also protobuf's own limit.
pub const MAX_FILE_BYTES: u64 = 1 << 31;
/// Most external data in bytes, all tensors together.
pub(super) const MAX_EXTERNAL_BYTES: u64 = 1 << 31;
/// Most dimensions of a tensor.
pub(super) const MAX_RANK: usize = 8;
/// Most elements of a constant.
pub(super) const MAX_CONSTANT_ELEMENTS: u64 = 1 << 29;
/// Most elements of any value; keeps products of sizes within 64 bits.
pub(super) const MAX_VALUE_ELEMENTS: u64 = 1 << 31;
/// Most nodes, inputs, outputs and initializers, each, in the file and in the graph.
pub(super) const MAX_ENTRIES: usize = 1 << 17;
/// Most operands and results of all nodes together.
pub(super) const MAX_OPERANDS: usize = 1 << 20;
/// Most operands of one node.
pub(super) const MAX_NODE_OPERANDS: usize = 1 << 12;
/// Bytes that folding constants may make or read in total: the weights of VGG-19 from `ConstantOfShape` are 575 MB.
pub(super) const MAX_FOLDED_BYTES: u64 = 640 << 20;
/// Most faults that are listed.
pub(super) const MAX_FAULTS: usize = 100;

/// Why a node cannot be imported.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Refusal {
    /// What is wrong.
    pub message: String,
    /// What to do.
    pub help: Option<String>,
}

impl From<String> for Refusal {
    fn from(message: String) -> Self {
        Self { message, help: None }
    }
}

impl From<&str> for Refusal {
    fn from(message: &str) -> Self {
        Self::from(message.to_owned())
    }
}

impl From<FoldError> for Refusal {
    fn from(error: FoldError) -> Self {
        Self::from(error.to_string())
    }
}

/// The result of importing a part of a node.
pub(super) type Fallible<T> = Result<T, Refusal>;

/// `Err` with a formatted message.
macro_rules! refuse {
    ($($argument:tt)*) => {
        return Err($crate::import::onnx::limits::Refusal::from(format!($($argument)*)))
    };
}
pub(super) use refuse;

/// Work that a file may still cause.
#[derive(Debug)]
pub(super) struct Budget {
    left: u64,
}

impl Budget {
    pub(super) const fn new(bytes: u64) -> Self {
        Self { left: bytes }
    }

    /// Takes `elements` of `bytes` each.
    pub(super) fn charge(&mut self, elements: usize, bytes: usize) -> Fallible<()> {
        let cost = (elements as u64).checked_mul(bytes as u64);
        match cost.and_then(|cost| self.left.checked_sub(cost)) {
            Some(left) => {
                self.left = left;
                Ok(())
            }
            None => {
                refuse!("folding the model's constants takes more than {MAX_FOLDED_BYTES} bytes, which is the limit")
            }
        }
    }
}

/// A name from a file, short enough to print.
pub(super) fn clip(text: &str) -> &str {
    let end = text.char_indices().nth(80).map_or(text.len(), |(index, _)| index);
    &text[..end]
}
