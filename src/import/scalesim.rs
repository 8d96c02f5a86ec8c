//! SCALE-Sim's topologies: rows of convolutions or of matrix products, each a layer for itself. A row that cannot be
//! read is named, and the others are read all the same.
//!
//! ```text
//! Layer name, IFMAP Height, IFMAP Width, Filter Height, Filter Width, Channels, Num Filter, Strides,
//! Conv1, 224, 224, 7, 7, 3, 64, 2,
//! ```
//! ```text
//! Layer, M, N, K,
//! L0, 196, 384, 192,
//! ```
//!
//! The first line is a heading, whatever stands in it. Sizes are whole numbers from 1 to 2^31; maps are padded
//! already. What stands behind the stride is not read: a batch, a sparsity (`2:4`), notes. Neither the comma at the
//! end of a line nor empty lines matter.

mod graph;
mod topology;

pub use graph::graph;
pub use topology::{Convolution, Form, Layer, Topology, read};

#[cfg(test)]
mod tests;
