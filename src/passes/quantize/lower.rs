//! Gives float operators an integer form: parameters from observed ranges, integer weights, and `QuantizeLinear` and
//! `DequantizeLinear` where integers meet floats.

use crate::{
    diag::{Diagnostic, Faults},
    ir::{Constant, Kind, Node, Op, ValueId, op::Integer},
    passes::{
        constants,
        work::{Slot, Work},
    },
    tensor::{DType, Quantization},
};

use super::{
    Capabilities, Ranges,
    params::{self, stored},
    weights,
};

type Encoding = (DType, Quantization);

/// Where an operator's result gets its parameters from.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Form {
    /// Convolution or matrix product with a constant weight.
    Linear,
    /// Integer operands, a result with parameters of its own.
    Own,
    /// The operand's parameters.
    Kept,
    /// In 0..=1, whatever the data.
    Softmax,
}

struct Lowering<'a> {
    work: &'a mut Work,
    ranges: &'a Ranges,
    capabilities: &'a Capabilities,
    /// The integer form of a float value.
    form: Vec<Option<ValueId>>,
    /// Parameters that a later `QuantizeLinear` of the model asks for.
    hint: Vec<Option<Encoding>>,
    missing: Vec<String>,
    found: Vec<Diagnostic>,
}

/// Lowers all float operators that have an integer form; returns their number. See [`super::quantize`] for which.
pub fn lower(work: &mut Work, ranges: &Ranges, capabilities: &Capabilities) -> Result<usize, Faults> {
    if !lowers(work) {
        return Ok(0);
    }
    let slots = work.slots();
    let hint = hints(work, slots);
    let form = vec![None; work.values()];
    let mut lowering = Lowering { work, ranges, capabilities, form, hint, missing: Vec::new(), found: Vec::new() };
    let mut count = 0;
    for slot in 0..slots {
        count += usize::from(lowering.visit(slot));
    }
    lowering.report_missing();
    let Lowering { form, found, .. } = lowering;
    Faults::check(found)?;
    meet_floats(work, &form);
    Ok(count)
}

/// Whether there are float operators to lower: any in a float model; in one that has scales of its own, only what the
/// host cannot be left with.
pub fn lowers(work: &Work) -> bool {
    let arrived_quantized = work.has_quantized_results();
    let mut nodes = (0..work.slots()).filter_map(|slot| work.node(slot));
    nodes.any(|node| form_of(work, node).is_some() && (!arrived_quantized || belongs_to_machine(&node.op)))
}

/// Whether a graph for a machine must not have the operator in floats. All others have a float form on the host.
fn belongs_to_machine(op: &Op) -> bool {
    op.kind() == Kind::Product
}

/// How a float operator becomes an integer one; `None` for integer operators and those of the host.
fn form_of(work: &Work, node: &Node) -> Option<Form> {
    let form = match (&node.op, node.op.spec().integer) {
        (_, Integer::None) => return None,
        (_, Integer::Kept) => Form::Kept,
        (Op::Softmax { .. }, Integer::Own) => Form::Softmax,
        (op, Integer::Own) if op.kind() == Kind::Product => Form::Linear,
        (_, Integer::Own) => Form::Own,
    };
    let operands = if form == Form::Linear { node.inputs.get(..1)? } else { node.inputs.as_slice() };
    if !operands.iter().chain(&node.outputs).all(|&id| work.is_float(id)) {
        return None;
    }
    let wanted_rank = if matches!(node.op, Op::Conv { .. }) { 4 } else { 2 };
    let good = form != Form::Linear || {
        let &w = node.inputs.get(1)?;
        let bias = node.inputs.get(2).is_none_or(|&b| work.is_constant(b) || dequantized_constant(work, b).is_some());
        work.value(w).shape.len() == wanted_rank
            && (work.is_constant(w) || dequantized_constant(work, w).is_some())
            && bias
            && !work.is_constant(node.inputs[0])
    };
    good.then_some(form)
}

/// The constant integers that a float value is dequantized from.
fn dequantized_constant(work: &Work, x: ValueId) -> Option<ValueId> {
    let (_, before) = work.producing(x)?;
    match (&before.op, before.inputs.as_slice()) {
        (Op::DequantizeLinear, &[q]) if work.dense(q).is_some() => Some(q),
        _ => None,
    }
}

/// What the model's own `QuantizeLinear` asks of float values, also through operators that keep parameters.
fn hints(work: &Work, slots: usize) -> Vec<Option<Encoding>> {
    let mut hint: Vec<Option<Encoding>> = vec![None; work.values()];
    for node in (0..slots).rev().filter_map(|slot| work.node(slot)) {
        let (Some(&x), Some(&y)) = (node.inputs.first(), node.outputs.first()) else { continue };
        let wanted = match form_of(work, node) {
            _ if node.op == Op::QuantizeLinear => {
                let value = work.value(y);
                value.quant.clone().filter(Quantization::is_per_tensor).map(|quant| (value.dtype, quant))
            }
            Some(Form::Kept) => hint[y.index()].clone(),
            _ => None,
        };
        if hint[x.index()].is_none() {
            hint[x.index()] = wanted;
        }
    }
    hint
}

impl Lowering<'_> {
    /// Whether the node was a float operator and has an integer form now.
    fn visit(&mut self, slot: Slot) -> bool {
        let Some(node) = self.work.node(slot).cloned() else { return false };
        let (Some(&x), Some(&y)) = (node.inputs.first(), node.outputs.first()) else { return false };
        match node.op {
            Op::DequantizeLinear => {
                let per_tensor = self.work.value(x).quant.as_ref().is_some_and(Quantization::is_per_tensor);
                self.form[y.index()] = Some(x).filter(|_| per_tensor);
                return false;
            }
            Op::QuantizeLinear => {
                if let Some(q) = self.form[x.index()] {
                    if self.work.same_encoding(q, y) && !self.work.is_output(y) {
                        self.work.remove(slot);
                        self.work.replace_uses(y, q);
                    }
                } else {
                    self.form[x.index()] =
                        Some(y).filter(|&y| self.work.value(y).quant.as_ref().is_some_and(Quantization::is_per_tensor));
                }
                return false;
            }
            _ => {}
        }
        let Some(form) = form_of(self.work, &node) else { return false };
        let inputs = if form == Form::Linear {
            self.linear_operands(&node)
        } else {
            node.inputs.iter().map(|&x| self.integer(x)).collect()
        };
        let Some(inputs) = inputs else { return false };
        let encoding = match form {
            Form::Kept => {
                let value = self.work.value(inputs[0]);
                value.quant.clone().map(|quant| (value.dtype, quant))
            }
            _ => self.wanted(y, form == Form::Softmax),
        };
        let Some((dtype, quant)) = encoding else { return false };
        let result = self.work.add_like(y, ".quantized", dtype, Some(quant));
        self.work.set_inputs(slot, inputs);
        self.work.set_output(slot, result);
        self.form[y.index()] = Some(result);
        true
    }

    /// Parameters of a float value: the model's own, or from its range.
    fn wanted(&mut self, y: ValueId, softmax: bool) -> Option<Encoding> {
        if let Some(hint) = &self.hint[y.index()] {
            return Some(hint.clone());
        }
        if softmax {
            return Some(params::softmax(self.capabilities));
        }
        let name = &self.work.value(y).name;
        let Some((low, high)) = self.ranges.get(y) else {
            self.missing.push(name.clone());
            // Any parameters do: the fault ends the run, and the operators after it are still looked at.
            return params::activation(0.0, 1.0, self.capabilities);
        };
        let encoding = params::activation(low, high, self.capabilities);
        if encoding.is_none() {
            let message = format!("the observed range of `{name}` must be finite: {low} to {high}");
            self.found.push(Diagnostic::error(message).with_help("look for an overflow in the float model"));
        }
        encoding
    }

    /// The integer form of a float value, made where there is none.
    fn integer(&mut self, x: ValueId) -> Option<ValueId> {
        if let Some(q) = self.form[x.index()] {
            return Some(q);
        }
        let q = if self.work.is_constant(x) {
            self.integer_constant(x)?
        } else {
            let (dtype, quant) = self.wanted(x, false)?;
            let q = self.work.add_like(x, ".quantized", dtype, Some(quant));
            let name = format!("{}.quantize", self.work.value(x).name);
            self.work.add_node(Node { name, op: Op::QuantizeLinear, inputs: vec![x], outputs: vec![q] });
            q
        };
        self.form[x.index()] = Some(q);
        Some(q)
    }

    /// An elementwise operand, quantized like an activation of its own range.
    fn integer_constant(&mut self, x: ValueId) -> Option<ValueId> {
        let name = self.work.value(x).name.clone();
        let made = self.work.dense(x).and_then(|tensor| {
            let data = tensor.to_f32();
            let low = data.iter().copied().fold(f32::INFINITY, f32::min);
            let high = data.iter().copied().fold(f32::NEG_INFINITY, f32::max);
            let (dtype, quant) = params::activation(low, high, self.capabilities)?;
            let integers = constants::quantized(tensor, &quant, stored(dtype))?;
            Some((dtype, quant, integers))
        });
        let Some((dtype, quant, integers)) = made else {
            self.found.push(Diagnostic::error(format!("constant `{name}` must hold finite floats")));
            return None;
        };
        Some(self.work.add_constant(&format!("{name}.quantized"), dtype, Some(quant), integers))
    }

    /// Operands of a convolution or matrix product: its input's integer form, weight and bias.
    fn linear_operands(&mut self, node: &Node) -> Option<Vec<ValueId>> {
        let axis = usize::from(matches!(node.op, Op::MatMul { transposed: false, .. }));
        let x = self.integer(node.inputs[0])?;
        let input_scale = self.work.value(x).quant.as_ref()?.scale_of(0);
        let (w, b) = (node.inputs[1], node.inputs.get(2).copied());
        let fail = |found: &mut Vec<Diagnostic>, message: &str| {
            found.push(Diagnostic::error(message).with_path(format!("node \"{}\"", node.name)));
            None
        };
        if matches!(self.work.value(w).constant, Some(Constant::Synthetic(_))) {
            return fail(&mut self.found, "a synthetic weight must be quantized");
        }
        let bias = match b {
            None => None,
            Some(b) => match self.real_constant(b) {
                Some(bias) => Some(bias),
                None => return fail(&mut self.found, "the bias must be a constant at hand"),
            },
        };
        if let Some((q, scales)) = self.integer_weight(w, axis) {
            let mut operands = vec![x, q];
            if let Some(bias) = bias {
                operands.push(self.bias_beside(node, &bias, &scales, input_scale)?);
            }
            return Some(operands);
        }
        let shape = self.work.value(w).shape.clone();
        let made = self.real_constant(w).and_then(|weight| {
            weights::quantize(&weight, &shape, axis, bias.as_deref(), input_scale, self.capabilities)
        });
        let Some(made) = made else {
            return fail(&mut self.found, "weight and bias must hold finite numbers, one bias a channel");
        };
        let name = self.work.value(w).name.clone();
        let mut operands =
            vec![x, self.work.add_constant(&format!("{name}.quantized"), made.dtype, Some(made.quant), made.weight)];
        if let Some((bias, quant)) = made.bias {
            let name = b.map_or_else(String::new, |b| self.work.value(b).name.clone());
            operands.push(self.work.add_constant(&format!("{name}.quantized"), DType::Int32, Some(quant), bias));
        }
        Some(operands)
    }

    /// Elements of a float constant, or of a dequantized one.
    fn real_constant(&self, x: ValueId) -> Option<Vec<f32>> {
        if let Some(data) = self.work.dense_float(x) {
            return Some(data);
        }
        let q = dequantized_constant(self.work, x)?;
        let value = self.work.value(q);
        Some(constants::dequantized(self.work.dense(q)?, value.quant.as_ref()?)?.to_f32())
    }

    /// The model's own integers of a dequantized weight, with a scale for each channel.
    fn integer_weight(&self, w: ValueId, axis: usize) -> Option<(ValueId, Vec<f32>)> {
        let q = dequantized_constant(self.work, w)?;
        let value = self.work.value(q);
        let quant = value.quant.as_ref()?;
        let good = constants::fits(quant, &value.shape) && (quant.is_per_tensor() || quant.axis == Some(axis));
        (good && value.dtype.bits() <= 16).then(|| (q, quant.scale.clone()))
    }

    fn bias_beside(&mut self, node: &Node, bias: &[f32], scales: &[f32], input_scale: f32) -> Option<ValueId> {
        let factors: Vec<f32> = scales.iter().map(|scale| input_scale * scale).collect();
        let factor = |channel: usize| if factors.len() == 1 { factors[0] } else { factors[channel] };
        if factors.len() != 1 && factors.len() != bias.len() {
            return None;
        }
        let steps: Vec<i64> =
            bias.iter().enumerate().map(|(channel, &b)| weights::bias_steps(f64::from(b), factor(channel))).collect();
        let tensor = crate::tensor::Tensor::from_integers(DType::Int32, &[bias.len()], &steps)?;
        let quant = weights::channelwise(factors, 0);
        Some(self.work.add_constant(&format!("{}.bias.quantized", node.name), DType::Int32, Some(quant), tensor))
    }

    fn report_missing(&mut self) {
        let Some(first) = self.missing.first() else { return };
        let message = match self.missing.len() {
            1 => format!("no observed range for value `{first}`"),
            count => format!("no observed range for {count} values, first `{first}`"),
        };
        let help = "a float model is quantized from ranges: calibrate it on data";
        self.found.push(Diagnostic::error(message).with_help(help));
    }
}

/// Dequantizes integer forms for readers that stay float, and lets integer forms take the names of float values that
/// are gone.
fn meet_floats(work: &mut Work, form: &[Option<ValueId>]) {
    for (x, &q) in (0_u32..).map(ValueId).zip(form) {
        let Some(q) = q else { continue };
        if work.producer(x).is_some() || work.is_input(x) {
            work.prune(x);
        } else if work.uses(x) == 0 {
            work.take_name(q, x);
        } else if !work.is_constant(x) {
            let name = format!("{}.dequantize", work.value(x).name);
            work.add_node(Node { name, op: Op::DequantizeLinear, inputs: vec![q], outputs: vec![x] });
        }
    }
}
