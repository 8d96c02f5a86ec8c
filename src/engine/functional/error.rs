//! What can go wrong when a program runs on values. A fault here is a fault of the program's generator or of a header
//! that does not belong to the model, never a wrong result.

use crate::{
    program::{LayerId, Space, TensorId},
    tensor::DType,
};

/// Why the machine refused to go on.
#[derive(Clone, Debug, PartialEq, thiserror::Error)]
pub enum FunctionalError {
    /// The images cannot be built.
    #[error("layer `{layer}`: {fault}")]
    Image {
        /// The layer whose image it is.
        layer: String,
        /// What is wrong.
        fault: Fault,
    },
    /// An instruction cannot be executed.
    #[error("instruction {instruction} of layer `{layer}`: {fault}")]
    Instruction {
        /// Its position in program order.
        instruction: u64,
        /// The layer that it belongs to.
        layer: String,
        /// What is wrong.
        fault: Fault,
    },
    /// A tensor cannot be read or written from outside.
    #[error("tensor `{tensor}`: {fault}")]
    Tensor {
        /// Its name.
        tensor: String,
        /// What is wrong.
        fault: Fault,
    },
    /// There is no such tensor.
    #[error("no tensor {0:?} in the program's header")]
    NoTensor(TensorId),
    /// There is no such network input.
    #[error("the network has no input {0}")]
    NoInput(usize),
    /// The machine's memories are larger than the host should give away.
    #[error("the memory images take {0} bytes, more than the limit of {limit}", limit = super::MEMORY_LIMIT)]
    TooLarge(u64),
}

/// What is wrong, without the place.
#[derive(Clone, Debug, PartialEq, thiserror::Error)]
pub enum Fault {
    /// An access outside a space.
    #[error("access of {length} at address {address} is outside {space:?} of size {size}")]
    Outside {
        /// The space.
        space: Space,
        /// First address.
        address: i64,
        /// Address units.
        length: u64,
        /// The space's size.
        size: u64,
    },
    /// A read of what nothing has written (checked mode).
    #[error("read of address {address} in {space:?}, which nothing has written")]
    Undefined {
        /// The space.
        space: Space,
        /// The address.
        address: u64,
    },
    /// A space that the machine does not have.
    #[error("no space {0:?} in this machine")]
    NoSpace(Space),
    /// A layer that the header does not have.
    #[error("no layer {0:?} in the program's header")]
    NoLayer(LayerId),
    /// A region that cannot be unrolled.
    #[error("malformed region: {0}")]
    Region(&'static str),
    /// Regions that do not fit each other.
    #[error("{what}: expected {expected}, found {found}")]
    Shape {
        /// Of what.
        what: &'static str,
        /// Expected number.
        expected: u64,
        /// Number at hand.
        found: u64,
    },
    /// A product without its stationary operand.
    #[error("a product streams, but no stationary operand of its layer is in the array")]
    NoStationary,
    /// A tile that goes on with sums that the elements do not hold.
    #[error("a product goes on with sums of its layer and tile, but the elements hold none")]
    NoHeldSums,
    /// An element type that the operation does not take.
    #[error("{what}: elements of type {dtype:?} cannot be used")]
    Type {
        /// Of what.
        what: &'static str,
        /// The type.
        dtype: DType,
    },
    /// The layer's arithmetic does not fit the instruction.
    #[error("the layer's arithmetic has no numbers for {0}")]
    Arithmetic(&'static str),
    /// An operator on the host of a machine that has no executor for it.
    #[error("the operator runs on the host, and the machine was given no executor for it")]
    NoHost,
    /// What the host's executor says.
    #[error("on the host: {0}")]
    Host(String),
    /// A constant that the graph does not give.
    #[error("the constant of value {0} is not at hand")]
    NoConstant(u32),
    /// A number that the requantizer cannot hold.
    #[error("channel {channel}: the multiplier {value} cannot be represented")]
    Multiplier {
        /// Output channel.
        channel: usize,
        /// `input scale * weight scale / output scale`.
        value: f64,
    },
    /// What the engine does not do.
    #[error("not executed by this engine: {0}")]
    Unsupported(&'static str),
}
