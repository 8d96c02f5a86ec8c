//! Layer lists: networks written by hand in RON, with scales and zero points in the file and synthetic weights.
//!
//! ```ron
//! (
//!     name: "example",
//!     input: (shape: [3, 32, 32], scale: 0.0186, zero: 114),
//!     layers: [
//!         (name: "stem",    op: Conv(out: 16, kernel: 3, pad: 1, activation: Relu), weight: 0.002, scale: 0.021),
//!         (name: "branch",  op: Depthwise(kernel: 3, pad: 1), weight: 0.004, scale: 0.03, zero: 121),
//!         (name: "add",     from: ["stem", "branch"], op: Add(activation: Relu), scale: 0.035),
//!         (name: "pool",    op: GlobalAvgPool, scale: 0.02),
//!         (name: "flatten", op: Flatten),
//!         (name: "fc",      op: FullyConnected(out: 10), weight: 0.003, scale: 0.09, zero: 128),
//!     ],
//! )
//! ```
//!
//! **The network**: `name`; `input` with its `shape` without the batch, `scale` and `zero` (0); `activations`, the
//! type of every activation (`UInt8`; `Int4`, `Int8`, `UInt16`, `Int16`); `weights: (type, sigma, spread)`, see below;
//! `outputs`, names of layers (the last layer). The batch is the first dimension of everything and is bound when the
//! file is read.
//!
//! **A layer**: `name`; `from`, one name or a list (the layer before; the first reads `"input"`), always of earlier
//! layers; `op`; `scale` and `zero` (0) of its result; `weight`, the base scale of its weights. `MaxPool`,
//! `GlobalMaxPool` and `Flatten` keep the scale of what they read; `AvgPool`, `GlobalAvgPool` and `Concat` of equal scales do so unless
//! they state one; `Softmax` has 1/256 (1/65536 of 16 bits) and the type's lowest value as zero point, unless it states
//! one.
//!
//! **Operators**, with their defaults: `Conv(out, kernel, stride: 1, pad: 0, dilation: 1, groups: 1, bias: true,
//! activation)`, `Depthwise(kernel, stride: 1, pad: 0, dilation: 1, bias: true, activation)`,
//! `FullyConnected(out, bias: true, activation)`, `Add(activation)`, `MaxPool(kernel, stride: 1, pad: 0)`,
//! `AvgPool(kernel, stride: 1, pad: 0, count_include_pad: false)`, `GlobalAvgPool`, `GlobalMaxPool`, `Min`, `Max`,
//! `Concat` (of channels), `Flatten`, `Softmax` (of the last dimension). `kernel`, `stride` and `dilation` are a number or `[rows, columns]`; `pad` is a
//! number, `[rows, columns]` or `[top, left, bottom, right]`. `activation` is `Relu`, `Relu6` or
//! `Clip(low: a, high: b)`.
//!
//! **Weights** are synthetic ([`super::synthetic`]): `type` (`Int8`; `Int4`, `Int16`), normal with a deviation of
//! `sigma` steps (2/9 of the type's largest value: 28.2 for int8), symmetric, clamped to `±(2^(bits-1) - 1)`. Output
//! channel `c` has the scale `weight * (1 + spread * k / 128)`, where `k` of -128..=127 is the low byte, less 128, of
//! [`synthetic::hash`] at the seed of `(network, layer, "scale")` and counter `c`; `spread` is 0.5. Biases are int32 of
//! scale `f32(x_scale * weight_scale[c])`, normal with a deviation of `8 sigma sqrt(K)` steps, `K` the products of an
//! output: about a fifth of what the products come to.
//!
//! Results are as imported from a quantized ONNX model (`QOperator`): `Conv` of `x`, int8 `w` and int32 `b`; a
//! `FullyConnected` is a `MatMul` with `w` of `[out, K]`; a `Flatten` is a `Reshape`.

mod build;
mod schema;
mod source;

use std::{fs, io::Read, path::Path};

use crate::{
    diag::{Diagnostic, Faults},
    ir::{Float, Graph},
};

/// Largest layer list, in bytes.
const MAX_BYTES: u64 = 16 << 20;

/// A layer list's text.
///
/// # Errors
/// A file that cannot be read, is too large or is no text.
pub(super) fn read(path: &Path) -> Result<String, Faults> {
    let fault = |message: String| Faults::from(Diagnostic::error(message).with_file(path));
    let mut text = String::new();
    // A pipe would be waited for, so what it is comes first.
    let metadata = fs::metadata(path).map_err(|error| fault(format!("cannot open the layer list: {error}")))?;
    if !metadata.is_file() {
        return Err(fault("a layer list is a file".to_owned()));
    }
    let file = fs::File::open(path).map_err(|error| fault(format!("cannot open the layer list: {error}")))?;
    // One byte past the limit tells a file that is too large from one that just fits.
    let read = file.take(MAX_BYTES + 1).read_to_string(&mut text);
    read.map_err(|error| fault(format!("cannot read the layer list: {error}")))?;
    if text.len() as u64 > MAX_BYTES {
        return Err(fault("a layer list has at most 16 MiB".to_owned()));
    }
    Ok(text)
}

/// Reads a layer list from its text; `name` stands for the file in messages, `batch` is the first dimension of every
/// activation (1).
///
/// # Errors
/// Faults of syntax, of fields, of names, of shapes and of scales, all at once, each with line, column and field.
pub fn parse(text: &str, name: &str, batch: Option<usize>) -> Result<Graph<Float>, Faults> {
    let list = source::read(text, name)?;
    build::build(&list, batch.unwrap_or(1))
}

#[cfg(test)]
mod tests;
