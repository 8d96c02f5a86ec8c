//! From the fields of a layer list to a graph, layer by layer. A faulty layer does not hide the faults of others.

use std::collections::{BTreeMap, BTreeSet};

use super::{
    schema::{self, LayerOp, ListedLayer, Pad, Pair},
    source::{FaultList, List, Located},
};
use crate::{
    diag::Faults,
    import::synthetic,
    ir::{
        Constant, Distribution, Float, Graph, Node, Op, Synthetic, Value, ValueId, Window,
        infer::{InferError, infer, shape_text},
        verify::verify,
    },
    tensor::{DType, Quantization, checked_elements},
};

/// Most elements of one weight: what fits the memory of the machines that simulate it.
const MAX_WEIGHT_ELEMENTS: u64 = synthetic::MAX_ELEMENTS;
/// Most output channels of all layers together, each of which has scales.
const MAX_CHANNELS: usize = 1 << 22;
/// The name that layers know the input by.
const INPUT: &str = "input";

/// Builds the graph for a batch.
///
/// # Errors
/// Faults of names, shapes and scales.
pub fn build(list: &List, batch: usize) -> Result<Graph<Float>, Faults> {
    let mut builder = Builder {
        list,
        graph: Graph::new(list.name.clone()),
        known: BTreeMap::new(),
        names: BTreeSet::new(),
        found: FaultList::new(&list.text),
        channels: 0,
        read: BTreeSet::new(),
    };
    builder.input(batch);
    builder.weights();
    let mut previous = INPUT;
    for layer in &list.layers {
        builder.layer(layer, previous);
        previous = &layer.value.name;
    }
    builder.outputs(previous);
    if !builder.found.is_empty() {
        return Err(builder.found.into_faults());
    }
    // A fault here would be ours; it is told and not hidden.
    verify(&builder.graph)?;
    Ok(builder.graph)
}

struct Builder<'a> {
    list: &'a List,
    graph: Graph<Float>,
    /// What a layer's name stands for; `None` if the layer is at fault.
    known: BTreeMap<&'a str, Option<ValueId>>,
    /// Names of all values.
    names: BTreeSet<String>,
    found: FaultList<'a>,
    /// Output channels so far.
    channels: usize,
    /// Layers that another one reads.
    read: BTreeSet<&'a str>,
}

/// What a layer that has weights needs to know of them.
struct WeightShape {
    shape: Vec<usize>,
    bias: bool,
}

impl<'a> Builder<'a> {
    fn input(&mut self, batch: usize) {
        let part = &self.list.input;
        let shape: Vec<usize> = std::iter::once(batch).chain(part.value.shape.iter().copied()).collect();
        if part.value.shape.is_empty() || shape.len() > 4 {
            self.found.add(part, "shape", "an input has 1 to 3 dimensions behind the batch", None);
        } else if let Err(error) = infer(&Op::Relu, &[&shape], None) {
            let message = match error {
                InferError::Empty { .. } => "an input has elements",
                _ => "an input has at most 2^40 elements",
            };
            self.found.add(part, "shape", format!("{message}: {}", shape_text(&shape)), None);
        }
        let dtype = self.list.activations.dtype();
        self.positive(part, "scale", part.value.scale);
        self.zero(part, part.value.zero);
        let usable = self.found.is_empty();
        let quant = Some(Quantization::per_tensor(part.value.scale, part.value.zero));
        let value = Value { name: INPUT.to_owned(), shape, dtype, quant, constant: None };
        let id = self.graph.add_value(value);
        self.graph.inputs.push(id);
        self.names.insert(INPUT.to_owned());
        self.known.insert(INPUT, usable.then_some(id));
    }

    fn weights(&mut self) {
        let part = &self.list.weights;
        let sigma = part.value.sigma();
        if !(sigma > 0.0 && sigma <= f32::from(part.value.kind.limit())) {
            let message = format!("a deviation is above 0 and at most the largest weight: {sigma}");
            self.found.add(part, "sigma", message, None);
        }
        if !(0.0..=0.9).contains(&part.value.spread) {
            self.found.add(part, "spread", format!("a spread is of 0 to 0.9: {}", part.value.spread), None);
        }
    }

    fn outputs(&mut self, last: &'a str) {
        let stated = &self.list.outputs.0;
        let names: Vec<&'a str> =
            if stated.is_empty() { vec![last] } else { stated.iter().map(String::as_str).collect() };
        for name in &names {
            match self.known.get(name) {
                None => self.found.add_top("outputs", format!("no layer has this name: {name:?}")),
                Some(None) => {}
                Some(Some(id)) if self.graph.outputs.contains(id) => {
                    self.found.add_top("outputs", format!("an output is listed twice: {name:?}"));
                }
                Some(Some(id)) => self.graph.outputs.push(*id),
            }
        }
        if !self.found.is_empty() {
            // The layer that should have read another may be the one at fault.
            return;
        }
        for layer in &self.list.layers {
            let name = layer.value.name.as_str();
            if !self.read.contains(name) && !names.contains(&name) {
                let help = "name it in another layer's `from` or in `outputs`";
                self.found.add(layer, "", "nothing reads this layer", Some(help.to_owned()));
            }
        }
    }

    fn layer(&mut self, part: &'a Located<ListedLayer>, previous: &'a str) {
        let name = part.value.name.as_str();
        let sound = self.fields(part);
        let inputs = self.operands(part, previous).filter(|_| sound);
        let made = inputs.and_then(|inputs| self.operator(part, &inputs));
        if name.is_empty() {
            self.found.add(part, "name", "a layer needs a name", None);
        } else if self.known.contains_key(name) {
            self.found.add(part, "name", format!("another layer has this name: {name:?}"), None);
        } else {
            self.known.insert(name, made);
        }
    }

    /// Whether the numbers that stand alone are in range.
    fn fields(&mut self, part: &Located<ListedLayer>) -> bool {
        let ListedLayer { scale, zero, weight, op, .. } = &part.value;
        let mut sound = scale.is_none_or(|scale| self.positive(part, "scale", scale));
        sound &= weight.is_none_or(|weight| self.positive(part, "weight", weight));
        sound &= zero.is_none_or(|zero| self.zero(part, zero));
        if let Some(schema::Activation::Clip { low, high }) = op.activation()
            && !(low.is_finite() && high.is_finite() && low < high)
        {
            self.found.add(part, "op.activation", format!("clips to an empty range: {low}..{high}"), None);
            sound = false;
        }
        sound
    }

    /// The values that a layer reads; `None` where one is at fault.
    fn operands(&mut self, part: &'a Located<ListedLayer>, previous: &'a str) -> Option<Vec<ValueId>> {
        let stated = &part.value.from.0;
        let names: Vec<&'a str> =
            if stated.is_empty() { vec![previous] } else { stated.iter().map(String::as_str).collect() };
        let mut inputs = Some(Vec::with_capacity(names.len()));
        for name in names {
            self.read.insert(name);
            match self.known.get(name) {
                None => {
                    let help = Some("a layer reads earlier layers or \"input\"".to_owned());
                    self.found.add(part, "from", format!("no earlier layer has this name: {name:?}"), help);
                    inputs = None;
                }
                Some(None) => inputs = None,
                Some(Some(id)) => {
                    if let Some(inputs) = &mut inputs {
                        inputs.push(*id);
                    }
                }
            }
        }
        inputs
    }

    /// Adds the node and its values.
    fn operator(&mut self, part: &'a Located<ListedLayer>, inputs: &[ValueId]) -> Option<ValueId> {
        let x = self.graph.value(*inputs.first()?).clone();
        let (op, weight, requested) = self.resolve(part, &x)?;
        let mut shapes: Vec<&[usize]> = inputs.iter().map(|&id| self.graph.value(id).shape.as_slice()).collect();
        let bias = weight.as_ref().filter(|weight| weight.bias).map(|weight| vec![weight.shape[0]]);
        shapes.extend(weight.as_ref().map(|weight| weight.shape.as_slice()));
        shapes.extend(bias.as_deref());
        let count = inputs.len();
        let shape = match infer(&op, &shapes, requested.as_deref()) {
            Ok(mut shapes) => shapes.pop()?,
            Err(error) => {
                let message = match error {
                    // The operands of the list, not of the operator.
                    InferError::Operands { op, .. } if weight.is_some() => format!("{op} reads one layer: {count}"),
                    InferError::Operands { op, expected, .. } => format!("{op} reads {expected} layers: {count}"),
                    other => other.to_string(),
                };
                let field = if message.contains(" reads ") { "from" } else { "op" };
                self.found.add(part, field, message, None);
                return None;
            }
        };
        let quant = self.result_quantization(part, &op, inputs)?;
        let mut operands = inputs.to_vec();
        if let Some(weight) = weight {
            operands.extend(self.constants(part, &x, weight)?);
        } else if part.value.weight.is_some() {
            self.found.add(part, "weight", "this operator has no weights", None);
            return None;
        }
        let name = part.value.name.clone();
        let dtype = self.list.activations.dtype();
        let y = self.add_value(part, Value { name: name.clone(), shape, dtype, quant: Some(quant), constant: None })?;
        self.graph.add_node(Node { name, op, inputs: operands, outputs: vec![y] });
        Some(y)
    }

    /// The operator, the shape of its weight, and the result's shape where the operator does not say it.
    fn resolve(
        &mut self,
        part: &Located<ListedLayer>,
        x: &Value,
    ) -> Option<(Op, Option<WeightShape>, Option<Vec<usize>>)> {
        let window = |kernel: Pair, stride: Pair, dilation: Pair, pad: Pad| Window {
            kernel: kernel.0,
            stride: stride.0,
            dilation: dilation.0,
            pad: pad.0,
        };
        let one = Pair([1, 1]);
        let plain = |op| Some((op, None, None));
        match part.value.op {
            LayerOp::Conv { out, kernel, stride, pad, dilation, groups, bias, activation } => {
                let window = window(kernel, stride, dilation, pad);
                self.convolution(part, x, window, groups, out, bias, activation)
            }
            LayerOp::Depthwise { kernel, stride, pad, dilation, bias, activation } => {
                let channels = x.shape.get(1).copied().unwrap_or(1);
                let window = window(kernel, stride, dilation, pad);
                self.convolution(part, x, window, channels, channels, bias, activation)
            }
            LayerOp::FullyConnected { out, bias, activation } => {
                let &[_, k] = x.shape.as_slice() else {
                    let message = format!("FullyConnected reads a matrix: {}", shape_text(&x.shape));
                    self.found.add(part, "op", message, Some("put a `Flatten` layer in front".to_owned()));
                    return None;
                };
                let op = Op::MatMul { transposed: true, activation: activation.into() };
                Some((op, Some(WeightShape { shape: vec![out, k], bias }), None))
            }
            LayerOp::Add { activation } => plain(Op::Add { activation: activation.into() }),
            LayerOp::MaxPool { kernel, stride, pad } => plain(Op::MaxPool { window: window(kernel, stride, one, pad) }),
            LayerOp::AvgPool { kernel, stride, pad, count_include_pad } => {
                plain(Op::AvgPool { window: window(kernel, stride, one, pad), count_include_pad })
            }
            LayerOp::GlobalAvgPool => plain(Op::GlobalAvgPool),
            LayerOp::GlobalMaxPool => plain(Op::GlobalMaxPool),
            LayerOp::Min => plain(Op::Min),
            LayerOp::Max => plain(Op::Max),
            LayerOp::Concat => plain(Op::Concat { axis: 1 }),
            LayerOp::Flatten => {
                let (batch, rest) = x.shape.split_first()?;
                // Bounded: every value's elements are.
                Some((Op::Reshape, None, Some(vec![*batch, rest.iter().product()])))
            }
            LayerOp::Softmax => plain(Op::Softmax { axis: x.shape.len().checked_sub(1)? }),
        }
    }

    #[allow(clippy::too_many_arguments)] // One place for the two kinds of convolution.
    fn convolution(
        &mut self,
        part: &Located<ListedLayer>,
        x: &Value,
        window: Window,
        groups: usize,
        out: usize,
        bias: bool,
        activation: schema::Activation,
    ) -> Option<(Op, Option<WeightShape>, Option<Vec<usize>>)> {
        let &[_, channels, _, _] = x.shape.as_slice() else {
            let message = format!("Conv reads an image of rank 4: {}", shape_text(&x.shape));
            self.found.add(part, "op", message, None);
            return None;
        };
        for (what, channels) in [("input channels", channels), ("output channels", out)] {
            if groups == 0 || channels % groups != 0 {
                let error = InferError::Groups { op: "Conv", what, channels, groups };
                self.found.add(part, "op.groups", error.to_string(), None);
                return None;
            }
        }
        let activation = activation.into();
        let shape = vec![out, channels / groups, window.kernel[0], window.kernel[1]];
        Some((Op::Conv { window, groups, activation }, Some(WeightShape { shape, bias }), None))
    }

    /// Scale and zero point of a layer's result.
    fn result_quantization(
        &mut self,
        part: &Located<ListedLayer>,
        op: &Op,
        inputs: &[ValueId],
    ) -> Option<Quantization> {
        let dtype = self.list.activations.dtype();
        let kept = self.graph.value(inputs[0]).quant.clone()?;
        let equal = inputs.iter().all(|&id| self.graph.value(id).quant.as_ref() == Some(&kept));
        let default = match op {
            op if op.is_selection() => {
                if part.value.scale.is_some() || part.value.zero.is_some() {
                    let field = if part.value.scale.is_some() { "scale" } else { "zero" };
                    self.found.add(part, field, format!("{} keeps the scale of what it reads", op.name()), None);
                    return None;
                }
                return Some(kept);
            }
            Op::AvgPool { .. } | Op::GlobalAvgPool => Some(kept),
            Op::Concat { .. } => equal.then_some(kept),
            Op::Softmax { .. } => {
                let zero = dtype.int_range().and_then(|(low, _)| i32::try_from(low).ok())?;
                let scale = 1.0 / (1_u64 << dtype.bits()) as f32;
                Some(Quantization::per_tensor(scale, zero))
            }
            _ => None,
        };
        match (part.value.scale, default) {
            (Some(scale), _) => Some(Quantization::per_tensor(scale, part.value.zero.unwrap_or(0))),
            (None, Some(_)) if part.value.zero.is_some() => {
                self.found.add(part, "zero", "a zero point needs a scale", Some("state `scale` too".to_owned()));
                None
            }
            (None, Some(default)) => Some(default),
            (None, None) => {
                self.found.add(part, "", "needs `scale`, the scale of its result", None);
                None
            }
        }
    }

    fn zero<T>(&mut self, part: &Located<T>, zero: i32) -> bool {
        let dtype = self.list.activations.dtype();
        let (low, high) = dtype.int_range().unwrap_or_default();
        let fits = (low..=high).contains(&i64::from(zero));
        if !fits {
            self.found.add(part, "zero", format!("a zero point of {dtype:?} is of {low} to {high}: {zero}"), None);
        }
        fits
    }

    /// Whether a scale is a normal positive number: products of two such ones are still numbers.
    fn positive<T>(&mut self, part: &Located<T>, field: &str, scale: f32) -> bool {
        let fits = (1e-15..=1e15).contains(&scale);
        if !fits {
            self.found.add(part, field, format!("a scale is of 1e-15 to 1e15: {scale:e}"), None);
        }
        fits
    }

    /// The weight, and the bias if the layer has one.
    fn constants(&mut self, part: &Located<ListedLayer>, x: &Value, weight: WeightShape) -> Option<Vec<ValueId>> {
        let statistics = self.list.weights.value;
        let Some(base) = part.value.weight else {
            self.found.add(part, "", "needs `weight`, the base scale of its weights", None);
            return None;
        };
        let out = weight.shape[0];
        self.channels = self.channels.saturating_add(out);
        if checked_elements(&weight.shape, MAX_WEIGHT_ELEMENTS).is_none() {
            let message = format!("weights of {} are more than a simulation holds", shape_text(&weight.shape));
            self.found.add(part, "op", message, None);
            return None;
        }
        if self.channels > MAX_CHANNELS {
            let message = format!("the layers up to here have more than {MAX_CHANNELS} output channels, the limit");
            self.found.add(part, "op", message, None);
            return None;
        }
        let name = part.value.name.as_str();
        let seed = |what| synthetic::seed(&[&self.list.name, name, what]);
        let sigma = statistics.sigma();
        let limit = i32::from(statistics.kind.limit());
        let scales = channel_scales(base, statistics.spread, seed("scale"), out);
        let x_scale = x.quant.as_ref()?.scale_of(0);
        let bias_scales = scales.iter().map(|scale| x_scale * scale).collect();
        let quantized = |scale: Vec<f32>| Some(Quantization { zero_point: vec![0; scale.len()], scale, axis: Some(0) });
        let synthetic = |what, sigma, limit| {
            Some(Constant::Synthetic(Synthetic {
                seed: seed(what),
                distribution: Distribution::Normal { sigma, limit },
            }))
        };
        let products: usize = weight.shape[1..].iter().product();
        let bias_sigma = 8.0 * sigma * (products as f32).sqrt();
        let bias = weight.bias.then(|| Value {
            name: format!("{name}.bias"),
            shape: vec![out],
            dtype: DType::Int32,
            quant: quantized(bias_scales),
            constant: synthetic("bias", bias_sigma, i32::MAX / 4),
        });
        let weight = Value {
            name: format!("{name}.weight"),
            shape: weight.shape,
            dtype: statistics.kind.dtype(),
            quant: quantized(scales),
            constant: synthetic("weight", sigma, limit),
        };
        std::iter::once(weight).chain(bias).map(|value| self.add_value(part, value)).collect()
    }

    fn add_value(&mut self, part: &Located<ListedLayer>, value: Value) -> Option<ValueId> {
        if !self.names.insert(value.name.clone()) {
            self.found.add(part, "name", format!("another tensor has this name: {:?}", value.name), None);
            return None;
        }
        Some(self.graph.add_value(value))
    }
}

/// `base * (1 + spread * k / 128)` of each channel, `k` a random byte of -128..=127.
fn channel_scales(base: f32, spread: f32, seed: u64, channels: usize) -> Vec<f32> {
    let scale = |channel: u64| {
        let byte = i16::try_from(synthetic::hash(seed, channel) & 0xFF).expect("a byte") - 128;
        base * (1.0 + spread * (f32::from(byte) / 128.0))
    };
    (0..channels as u64).map(scale).collect()
}
