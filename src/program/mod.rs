//! The mapped network as one stream of tile-level instructions with explicit dependencies: what both engines run.
//!
//! A `Header` holds what stays put: layers, tensors, weight images. The instructions are generated segment by segment
//! and never all held at once: VGG-16 on a 4x4 array has nine million array tiles.

pub mod build;
pub mod generate;
pub mod hazards;
pub mod instruction;
pub mod orders;
pub mod region;
pub mod text;
pub mod verify;

pub use build::Program;
pub use instruction::{Instruction, Matmul, Operation, Token, Transfer, VectorKind, VectorOp};
pub use region::{Dim, Element, Pad, Region, Space};

use crate::{
    config::{Dataflow, MemoryId},
    ir::{NodeId, Op, ValueId},
    mapping::Layout,
    tensor::{AccumulationOrder, DType, Quantization},
    units::Macs,
};

/// Index of a layer in `Header::layers`. Layers are in program order; the timeline is partitioned among them.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct LayerId(pub u32);

/// Index of a tensor in `Header::tensors`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct TensorId(pub u32);

impl LayerId {
    /// As an index into `Header::layers`.
    pub const fn index(self) -> usize {
        self.0 as usize
    }
}

impl TensorId {
    /// As an index into `Header::tensors`.
    pub const fn index(self) -> usize {
        self.0 as usize
    }
}

/// What stays put while the instructions stream.
#[derive(Clone, Debug)]
pub struct Header {
    /// The network's name.
    pub name: String,
    /// Layers, in program order.
    pub layers: Vec<Layer>,
    /// Activations, in memory or resident in a buffer.
    pub tensors: Vec<TensorPlace>,
    /// Weights and requantization parameters in memory.
    pub weights: Vec<WeightImage>,
    /// Bytes that the images take in each memory space.
    pub memory_bytes: Vec<u64>,
    /// What lies packed in memory, by memory space and address.
    pub packed: Vec<PackedRange>,
    /// How many bytes the images of buffers have for each byte of the buffer: 2 where there are elements of 4 bits, of which
    /// a full buffer holds two a byte. A slot or a resident begins in the image at so many times its address in the buffer.
    pub buffer_scale: u64,
    /// The network's inputs, in the graph's order.
    pub inputs: Vec<TensorId>,
    /// The network's outputs, in the graph's order.
    pub outputs: Vec<TensorId>,
}

/// A range of a memory space that holds elements of 4 bits: one a byte in the image, from the same address on two a byte
/// on the machine. Half of the range is then a hole, as it costs address space and not time.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct PackedRange {
    /// The memory space.
    pub memory: MemoryId,
    /// First address.
    pub base: u64,
    /// Bytes in the image.
    pub bytes: u64,
}

impl Header {
    /// Bytes that tensors and weights take in each memory space of the machine.
    pub fn machine_bytes(&self) -> Vec<u64> {
        let mut all = self.memory_bytes.clone();
        for range in &self.packed {
            all[usize::from(range.memory.0)] -= range.bytes / 2;
        }
        all
    }
}

/// Where most of a layer's work runs.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum LayerKind {
    /// On the array: convolution, matrix product.
    Array,
    /// On the vector unit.
    Vector,
    /// On the host.
    Host,
    /// Nowhere: a reshape that moves nothing, or a boundary quantization, which is listed and not counted.
    Free,
}

/// One layer.
#[derive(Clone, Debug)]
pub struct Layer {
    /// The node's name.
    pub name: String,
    /// The node in the quantized graph.
    pub node: NodeId,
    /// The operator's name, as in reports: `Conv`, `Conv depthwise`, `Add`...
    pub op: String,
    /// Where it runs.
    pub kind: LayerKind,
    /// Algebraic multiply-accumulates.
    pub macs: Macs,
    /// The dataflow of a layer on the array.
    pub dataflow: Option<Dataflow>,
    /// Its numbers.
    pub arithmetic: Arithmetic,
    /// What it reads (activations only).
    pub inputs: Vec<TensorId>,
    /// What it writes.
    pub outputs: Vec<TensorId>,
}

/// The numbers that a layer's instructions compute with. A machine holds them in registers; multipliers and biases
/// come from memory as parameter records (see [`WeightImage`]).
#[derive(Clone, Debug)]
pub enum Arithmetic {
    /// A convolution or matrix product with constant weights.
    Matrix {
        /// Scale and zero point of the input.
        input: Quantization,
        /// Scales and zero points of the weights; axis 0 where there are several.
        weight: Quantization,
        /// Scale and zero point of the output.
        output: Quantization,
        /// Output type.
        output_type: DType,
        /// Smallest and largest quantized output: the type's range cut by the fused activation.
        clamp: [i32; 2],
        /// In which order the array adds.
        order: AccumulationOrder,
    },
    /// An element-wise or pooling function of quantized tensors.
    Elementwise {
        /// Scale and zero point of each operand.
        inputs: Vec<Quantization>,
        /// Types of the operands.
        input_types: Vec<DType>,
        /// Scale and zero point of the result.
        output: Quantization,
        /// Type of the result.
        output_type: DType,
        /// Smallest and largest quantized output.
        clamp: [i32; 2],
        /// The operator, for what its kind alone does not say (a table's function, a pool's divisor).
        op: Op,
    },
    /// A whole operator on the host, on tensors as they lie in memory; constants come from the graph.
    Host {
        /// The operator.
        op: Op,
    },
    /// None.
    Free,
}

/// Where a tensor lies: logical index `i` is at `base + sum(i[d] * strides[d])`.
#[derive(Clone, Debug)]
pub struct TensorPlace {
    /// The value in the quantized graph.
    pub value: ValueId,
    /// Its name.
    pub name: String,
    /// Logical dimensions, as in the graph (`[N, C, H, W]`, `[N, K]`...).
    pub shape: Vec<usize>,
    /// Element type.
    pub dtype: DType,
    /// A memory space, or a buffer for a tensor that stays on chip.
    pub space: Space,
    /// Address of the first element, bytes.
    pub base: u64,
    /// In which order the dimensions are walked.
    pub layout: Layout,
    /// Bytes between neighbours along each logical dimension: the layout's, or for a part of a concatenation the
    /// whole's.
    pub strides: Vec<u64>,
}

/// Weights and parameters of one layer in memory, in the order in which the program loads them.
///
/// The weights of a layer are `passes` blocks of `outputs x (kernel x channels)`: one for a dense layer, one a group
/// (or bundle of groups) otherwise. A pass is cut into tiles of at most `output_tile x channel_tile`; tile `(o, c)` of
/// pass `p` starts at `base + element * (p*outputs*taps*channels + o*output_tile*taps*channels +
/// c*channel_tile*taps*len_o)` with `taps = R*S` and `len_o` the tile's own number of outputs; inside it the element
/// `(n, r, s, c)` is at `((n*R + r)*S + s)*len_c + c`.
///
/// After the weights, at `base + parameters_offset`, stands one record an output channel of the layer: bias (i32,
/// little endian), then the requantizer's multiplier (f32 bits for `F32Rne`, else i32) and for the fixed-point ones a
/// right shift (i32): `Accelerator::parameter_bytes` in all.
#[derive(Clone, Debug)]
pub struct WeightImage {
    /// The layer.
    pub layer: LayerId,
    /// The memory space.
    pub memory: MemoryId,
    /// Address of the image.
    pub base: u64,
    /// Its size.
    pub bytes: u64,
    /// The weights in the graph: `[O, C/g, R, S]`, or a matrix. None where the second operand is an activation: then
    /// the image holds one record an output channel of a block, for all blocks.
    pub weights: Option<ValueId>,
    /// Whether `weights` is a matrix `[K, O]` rather than `[O, ...]`.
    pub input_major: bool,
    /// The bias in the graph: int32 of `[O]`.
    pub bias: Option<ValueId>,
    /// One weight.
    pub element: Element,
    /// Blocks.
    pub passes: u32,
    /// Groups of the convolution in one block; their blocks stand on the diagonal, zero-point weights between.
    pub groups_per_pass: u32,
    /// Output channels of a block.
    pub outputs: u32,
    /// Input channels of a block.
    pub channels: u32,
    /// Kernel rows and columns.
    pub kernel: [u32; 2],
    /// Output channels of a tile.
    pub output_tile: u32,
    /// Input channels of a tile.
    pub channel_tile: u32,
    /// Where the parameter records start, from `base`.
    pub parameters_offset: u64,
}

impl WeightImage {
    /// Elements of one output channel's weights in a block: `kernel x channels`.
    pub const fn depth(&self) -> u64 {
        self.kernel[0] as u64 * self.kernel[1] as u64 * self.channels as u64
    }

    /// Address of tile `(output tile, channel tile)` of a pass. See the type's own page for the formula.
    pub fn tile_address(&self, pass: u32, output_tile: u32, channel_tile: u32) -> u64 {
        let taps = u64::from(self.kernel[0]) * u64::from(self.kernel[1]);
        let first = u64::from(output_tile) * u64::from(self.output_tile);
        let length = u64::from(self.output_tile).min(u64::from(self.outputs) - first);
        let elements = u64::from(pass) * u64::from(self.outputs) * self.depth()
            + first * self.depth()
            + u64::from(channel_tile) * u64::from(self.channel_tile) * taps * length;
        self.base + elements * u64::from(self.element.bytes())
    }

    /// Bytes on the machine: weights of 4 bits two a byte, the records on a multiple of 4 behind them.
    pub const fn machine_bytes(&self) -> u64 {
        let weights = self.parameters_offset.div_ceil(1 << self.element.per_byte_shift());
        weights.next_multiple_of(4) + self.bytes - self.parameters_offset
    }
}
