//! Instructions: what an engine does, to which regions, after which tokens.
//!
//! Engines are in order: an instruction starts after every earlier one of its engine has started, and retires after
//! every earlier one has retired. A token is signalled when its instruction retires (all its writes are visible).
//! Everything else that must be ordered waits for a token.

use smallvec::SmallVec;

use super::{LayerId, Region};
use crate::config::EngineId;

/// The completion of one instruction. Signalled once; numbered from 0 in program order of the signalling instructions.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Token(pub u32);

/// One instruction.
#[derive(Clone, Debug)]
pub struct Instruction {
    /// Position in program order, from 0.
    pub index: u64,
    /// The layer that it belongs to.
    pub layer: LayerId,
    /// The engine that it runs on.
    pub engine: EngineId,
    /// Commands that the issue unit spends on it. 0 for the body of a hardware loop, where the machine has them, and for
    /// what another's commands bring along: its issue costs nothing. (The generator has applied `control`.)
    pub commands: u32,
    /// What it does.
    pub operation: Operation,
    /// Tokens that it waits for, none implied by another or by the engine's order.
    pub waits: SmallVec<[Token; 4]>,
    /// The token that it signals.
    pub signals: Option<Token>,
}

/// What an instruction does.
#[derive(Clone, Debug)]
pub enum Operation {
    /// Memory to buffer.
    Load(Transfer),
    /// Buffer to memory.
    Store(Transfer),
    /// Between two places of any kind, by the engine that the instruction names.
    Move(Transfer),
    /// Puts the stationary operand into the array's (shadow) registers: a region `[columns, k]`. The next `Matmul`s
    /// use it until another `Preload`. Ordered with them by the engine alone.
    Preload {
        /// `[columns, k]`: weights `[outputs, k]` (WS) or input pixels `[pixels, k]` (IS).
        stationary: Region,
    },
    /// Reads weights `[columns, k]` into the array's FIFO, on the FIFO's engine.
    Fetch {
        /// As of `Preload`.
        stationary: Region,
    },
    /// As `Preload`, with the oldest weights of the array's FIFO.
    PreloadNext {
        /// How many columns they have.
        columns: u32,
        /// And how many rows.
        k: u32,
    },
    /// Streams one array tile.
    Matmul(Matmul),
    /// Vector work, on the vector unit's engine.
    Vector(VectorOp),
    /// Waits until every earlier instruction of every engine has retired; later ones of every engine start after it.
    Fence,
    /// A whole operator on the host, or vector work that the vector unit cannot do, on regions in memory.
    Host(VectorOp),
}

/// Elements in the order of `source`'s walk go to those of `target`'s; equal counts and element sizes; no padding.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Transfer {
    /// Read.
    pub source: Region,
    /// Written.
    pub target: Region,
}

/// One array tile: `accumulators[t, j] (+)= sum over k of stream[t, k] * stationary[j, k]`, operands less their zero
/// points; padding of an input region is the zero point, hence zero.
///
/// WS: `stream` is input pixels, stationary weights were preloaded, beats = t. IS: `stream` is weights `[outputs, k]`,
/// stationary input pixels were preloaded, beats = t. OS: both stream, `stationary` is given, beats = k.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Matmul {
    /// `[t, k]`.
    pub stream: Region,
    /// OS only: `[j, k]`.
    pub stationary: Option<Region>,
    /// `[t, j]` in accumulators.
    pub accumulators: Region,
    /// Whether the sums are added to what the accumulators hold, rather than written.
    pub accumulate: bool,
    /// OS: whether the sums begin with those that the elements hold from the tile before, rather than with zero.
    pub resume: bool,
    /// OS: whether the sums stay in the elements for the next tile; the accumulators are then not touched.
    pub hold: bool,
    /// Algebraic multiply-accumulates of this tile: the zeros between groups do not count.
    pub macs: u64,
}

/// What a vector instruction computes. Numbers (scales, zero points, tables) are the layer's `Arithmetic`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum VectorKind {
    /// `inputs[0]` accumulators `[m, n]`, `inputs[1]` parameter records (bytes, `[n, record]`) -> `[m, n]`.
    Requantize,
    /// `inputs[0]` image walk `[n,oh,ow | r,s,c]`, `inputs[1]` weights `[c, taps]`, `inputs[2]` parameter records
    /// `[c, record]` -> `[pixels, c]`: bias, requantization and clamp included.
    Depthwise,
    /// The sum of `inputs[0]` and `inputs[1]` or the smaller or larger of them, as the layer's operator says, element by
    /// element (a stride of 0 broadcasts).
    Add,
    /// `inputs[0] * inputs[1]`, element by element; of a `PRelu` only where `inputs[0]` is below zero.
    Mul,
    /// `inputs[0]` image walk `[n,oh,ow | r,s,c]` -> `[pixels, c]`; padding never wins.
    MaxPool,
    /// `inputs[0]` image walk -> `[pixels, c]`; the divisor is the layer's business.
    AvgPool,
    /// Mean over all of `r, s` by the integer formula of `QLinearGlobalAveragePool`.
    GlobalAvgPool,
    /// A 256-entry table made from the layer's operator and quantization (activation functions, rescaling).
    Table,
    /// Softmax along the columns of `inputs[0]`.
    Softmax,
    /// Elements as they are.
    Copy,
    /// Only under `Operation::Host`: the layer's whole operator, on its tensors.
    WholeOperator {
        /// Elements that it produces, of pooling the taps that it goes over.
        elements: u64,
    },
}

/// Vector work.
#[derive(Clone, Debug)]
pub struct VectorOp {
    /// What is computed.
    pub kind: VectorKind,
    /// Which of the layer's operands a `Table` or `Copy` reads (a concatenation rescales each on its own); else 0.
    pub operand: u8,
    /// Operands; see `VectorKind`.
    pub inputs: SmallVec<[Region; 3]>,
    /// Result; for a whole operator the first result's region.
    pub output: Region,
    /// Multiply-accumulates that count for the layer (depthwise), else 0.
    pub macs: u64,
}
