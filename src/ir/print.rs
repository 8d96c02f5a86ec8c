//! The textual form of a graph: one node a line, for people, error reports and golden files. Not read back.

use std::fmt;

use super::{
    Activation, Constant, Distribution, Graph, Node, Op, Stage, Value, ValueId, Window, infer::shape_text,
    op::Attribute,
};
use crate::tensor::{DType, Quantization};

impl<S: Stage> fmt::Display for Graph<S> {
    /// A head, the inputs, the nodes in order, the outputs. Constants are described where they are used. Ids out of
    /// range are printed as such: a graph that the verifier refuses can still be printed.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(
            f,
            "graph {} ({}): {} nodes, {} values",
            Name(&self.name),
            S::NAME,
            self.nodes.len(),
            self.values.len()
        )?;
        for &id in &self.inputs {
            writeln!(f, "  input {}", described(self, id))?;
        }
        for node in &self.nodes {
            writeln!(f, "  {}", node_line(self, node))?;
        }
        for &id in &self.outputs {
            writeln!(f, "  output {}", named(self, id))?;
        }
        Ok(())
    }
}

/// A name, quoted where it would not read as one word.
struct Name<'a>(&'a str);

impl fmt::Display for Name<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let plain = |c: char| c.is_ascii_alphanumeric() || "_./:-".contains(c);
        if !self.0.is_empty() && self.0.chars().all(plain) { f.write_str(self.0) } else { write!(f, "{:?}", self.0) }
    }
}

/// `conv1: %y u8[1x64x112x112] q(0.0235) = Conv(%x, %w i8[64x3x7x7] ...) kernel 7x7 stride 2 pad 3 relu`.
fn node_line<S: Stage>(graph: &Graph<S>, node: &Node) -> String {
    let list = |ids: &[ValueId], text: &dyn Fn(ValueId) -> String| {
        ids.iter().map(|&id| text(id)).collect::<Vec<_>>().join(", ")
    };
    let operand = |id: ValueId| match graph.values.get(id.index()) {
        Some(value) if value.constant.is_some() => described(graph, id),
        _ => named(graph, id),
    };
    let outputs = list(&node.outputs, &|id| described(graph, id));
    let inputs = list(&node.inputs, &operand);
    let call = format!("{}: {outputs} = {}({inputs})", Name(&node.name), node.op.name());
    std::iter::once(call).chain(attributes(&node.op)).collect::<Vec<_>>().join(" ")
}

fn named<S: Stage>(graph: &Graph<S>, id: ValueId) -> String {
    graph.values.get(id.index()).map_or_else(|| format!("%?{}", id.0), |value| format!("%{}", Name(&value.name)))
}

fn described<S: Stage>(graph: &Graph<S>, id: ValueId) -> String {
    let name = named(graph, id);
    graph.values.get(id.index()).map_or_else(|| name.clone(), |value| format!("{name} {}", value_text(value)))
}

/// Type, shape, quantization and, of a synthetic constant, its distribution: `i8[64x3x7x7] q(64 along 0:
/// 0.001..0.004) normal(24)`.
pub fn value_text(value: &Value) -> String {
    let mut parts = vec![format!("{}[{}]", dtype_text(value.dtype), shape_text(&value.shape))];
    parts.extend(value.quant.as_ref().map(quant_text));
    if let Some(Constant::Synthetic(synthetic)) = &value.constant {
        parts.push(match synthetic.distribution {
            Distribution::Normal { sigma, .. } => format!("normal({sigma})"),
            Distribution::Uniform { low, high } => format!("uniform({low}..{high})"),
        });
    }
    parts.join(" ")
}

/// `u8`, `i16`, `f32`: the element type in two or three letters.
pub const fn dtype_text(dtype: DType) -> &'static str {
    match dtype {
        DType::Bool => "bool",
        DType::Int4 => "i4",
        DType::Int8 => "i8",
        DType::UInt8 => "u8",
        DType::Int16 => "i16",
        DType::UInt16 => "u16",
        DType::Int32 => "i32",
        DType::UInt32 => "u32",
        DType::Int64 => "i64",
        DType::Fp8 => "f8",
        DType::Bf16 => "bf16",
        DType::Fp16 => "f16",
        DType::Fp32 => "f32",
        DType::Fp64 => "f64",
    }
}

/// `q(0.0235)`, `q(0.0235, zero 114)`, `q(64 along 0: 0.001..0.004)`.
fn quant_text(quant: &Quantization) -> String {
    let span = |values: &[f32]| {
        let low = values.iter().copied().fold(f32::INFINITY, f32::min);
        let high = values.iter().copied().fold(f32::NEG_INFINITY, f32::max);
        if low < high { format!("{low}..{high}") } else { format!("{high}") }
    };
    let scales = match quant.axis {
        Some(axis) => format!("{} along {axis}: {}", quant.scale.len(), span(&quant.scale)),
        None => span(&quant.scale),
    };
    if quant.is_symmetric() {
        return format!("q({scales})");
    }
    let low = quant.zero_point.iter().min().copied().unwrap_or(0);
    let high = quant.zero_point.iter().max().copied().unwrap_or(0);
    if low < high { format!("q({scales}, zeros {low}..{high})") } else { format!("q({scales}, zero {high})") }
}

/// Attributes that are not what one expects by default, in words: `alpha 0.1`, `kernel 3x3 stride 2`, `keep dims`.
fn attributes(op: &Op) -> Vec<String> {
    if let Op::Clip { low, high } = op {
        return vec![format!("{low}..{high}")];
    }
    let text = |(name, value): (&&str, Attribute<'_>)| match (*name, value) {
        (_, Attribute::Window(window)) => window_text(&window),
        (_, Attribute::Activation(activation)) => activation_text(activation).into_iter().collect(),
        (_, Attribute::Flag(false)) | ("groups", Attribute::Size(1)) => Vec::new(),
        (name, Attribute::Flag(true)) => vec![name.replace('_', " ")],
        ("perm", Attribute::Sizes(list)) => vec![format!("{list:?}")],
        (name, Attribute::Real(number)) => vec![format!("{name} {number}")],
        (name, Attribute::Size(size)) => vec![format!("{name} {size}")],
        (name, Attribute::Sizes(list)) => vec![format!("{name} {list:?}")],
    };
    op.spec().attributes.iter().zip(op.attributes()).flat_map(text).collect()
}

fn activation_text(activation: Activation) -> Option<String> {
    match activation {
        Activation::None => None,
        Activation::Relu => Some("relu".to_owned()),
        Activation::Clip { low, high } => Some(format!("clip {low}..{high}")),
    }
}

fn window_text(window: &Window) -> Vec<String> {
    let pair = |[rows, columns]: [usize; 2]| {
        if rows == columns { rows.to_string() } else { format!("{rows}x{columns}") }
    };
    let mut parts = vec![format!("kernel {}x{}", window.kernel[0], window.kernel[1])];
    if window.stride != [1, 1] {
        parts.push(format!("stride {}", pair(window.stride)));
    }
    if window.dilation != [1, 1] {
        parts.push(format!("dilation {}", pair(window.dilation)));
    }
    match window.pad {
        [0, 0, 0, 0] => {}
        [top, left, bottom, right] if [left, bottom, right] == [top; 3] => parts.push(format!("pad {top}")),
        pad => parts.push(format!("pad {pad:?}")),
    }
    parts
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ir::{Float, Synthetic};

    fn value(name: &str, dtype: DType, shape: &[usize], quant: Option<Quantization>, sigma: Option<f32>) -> Value {
        let normal = |sigma| Synthetic { seed: 1, distribution: Distribution::Normal { sigma, limit: 127 } };
        let constant = sigma.map(|sigma| Constant::Synthetic(normal(sigma)));
        Value { name: name.to_owned(), shape: shape.to_vec(), dtype, quant, constant }
    }

    #[test]
    fn a_graph_prints_one_node_a_line() {
        let mut graph = Graph::<Float>::new("tiny net");
        let scales = Quantization { scale: vec![0.5, 0.25], zero_point: vec![0, 0], axis: Some(0) };
        let x =
            graph.add_value(value("x", DType::UInt8, &[1, 3, 8, 8], Some(Quantization::per_tensor(0.5, 114)), None));
        let w = graph.add_value(value("w", DType::Int8, &[2, 3, 3, 3], Some(scales), Some(24.0)));
        let y =
            graph.add_value(value("y", DType::UInt8, &[1, 2, 4, 4], Some(Quantization::per_tensor(0.125, 0)), None));
        let z = graph.add_value(value("z", DType::Fp32, &[1, 32], None, None));
        let window = Window { kernel: [3, 3], stride: [2, 2], dilation: [1, 1], pad: [0, 0, 1, 1] };
        let conv = Op::Conv { window, groups: 1, activation: Activation::Clip { low: 0.0, high: 6.0 } };
        graph.add_node(Node { name: "conv".into(), op: conv, inputs: vec![x, w], outputs: vec![y] });
        graph.add_node(Node { name: "flat".into(), op: Op::Reshape, inputs: vec![y], outputs: vec![z] });
        graph.add_node(Node { name: "bad".into(), op: Op::Relu, inputs: vec![ValueId(99)], outputs: vec![] });
        graph.inputs = vec![x];
        graph.outputs = vec![z];
        let expected = "\
graph \"tiny net\" (float): 3 nodes, 4 values
  input %x u8[1x3x8x8] q(0.5, zero 114)
  conv: %y u8[1x2x4x4] q(0.125) = Conv(%x, %w i8[2x3x3x3] q(2 along 0: 0.25..0.5) normal(24)) kernel 3x3 stride 2 pad [0, 0, 1, 1] clip 0..6
  flat: %z f32[1x32] = Reshape(%y)
  bad:  = Relu(%?99)
  output %z
";
        assert_eq!(graph.to_string(), expected);
    }
}
