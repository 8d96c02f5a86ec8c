//! What a quantized network asks of a machine that the machine does not have.

use crate::{
    diag::Diagnostic,
    ir::{Kind, Op, ValueId},
    passes::work::{Slot, Work},
    tensor::Quantization,
};

use super::{Capabilities, params::symmetric};

/// What an operand is to its operator.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Role {
    /// Activation or elementwise constant.
    Data,
    /// Second operand of a convolution or matrix product.
    Weight,
    /// Third operand of a convolution or matrix product.
    Bias,
}

/// Role of the operand at a place.
pub const fn role(op: &Op, place: usize) -> Role {
    match (op.kind(), place) {
        (Kind::Product, 1) => Role::Weight,
        (Kind::Product, 2) => Role::Bias,
        _ => Role::Data,
    }
}

/// Whether a slot holds an operator that computes on integers.
pub fn computes_on_integers(work: &Work, slot: Slot) -> bool {
    work.node(slot).is_some_and(|node| {
        node.op.kind() != Kind::Conversion && node.outputs.iter().any(|&y| work.value(y).quant.is_some())
    })
}

/// Names of the nodes that ask for something, by what it is.
#[derive(Debug, Default)]
pub struct Findings {
    zero_points: Vec<String>,
    per_channel: Vec<String>,
    types: Vec<String>,
}

impl Findings {
    /// Whether the machine has everything.
    pub fn is_empty(&self) -> bool {
        self.zero_points.is_empty() && self.per_channel.is_empty() && self.types.is_empty()
    }

    /// One fault a kind.
    pub fn into_faults(self) -> Vec<Diagnostic> {
        let fault = |nodes: &[String], what: &str| {
            let first = nodes.first()?;
            let names = nodes.iter().take(3).map(|name| format!("`{name}`")).collect::<Vec<_>>().join(", ");
            let count = if nodes.len() == 1 { "1 node".to_owned() } else { format!("{} nodes", nodes.len()) };
            let message = format!("the model uses {what} in {count}, first {names}");
            let help =
                "`--requantize` recomputes the model for this machine; the result then says `arithmetic: machine`";
            Some(Diagnostic::error(message).with_path(format!("node \"{first}\"")).with_help(help))
        };
        [
            fault(&self.zero_points, "zero points, which the machine does not have,"),
            fault(&self.per_channel, "a scale for each channel, which the machine does not have,"),
            fault(&self.types, "integers wider than the machine's"),
        ]
        .into_iter()
        .flatten()
        .collect()
    }
}

/// Looks at every operand and result of every integer operator.
pub fn check(work: &Work, capabilities: &Capabilities) -> Findings {
    let mut findings = Findings::default();
    for slot in 0..work.slots() {
        let Some(node) = work.node(slot).filter(|_| computes_on_integers(work, slot)) else { continue };
        let operands = node.inputs.iter().enumerate().map(|(place, &x)| (role(&node.op, place), x));
        let all: Vec<(Role, ValueId)> = operands.chain(node.outputs.iter().map(|&y| (Role::Data, y))).collect();
        let any =
            |asks: &dyn Fn(Role, ValueId) -> bool| all.iter().any(|&(role, id)| role != Role::Bias && asks(role, id));
        let quant = |id: ValueId| work.value(id).quant.as_ref();
        if !capabilities.zero_points && any(&|_, id| quant(id).is_some_and(|quant| !quant.is_symmetric())) {
            findings.zero_points.push(node.name.clone());
        }
        if !capabilities.per_channel && any(&|_, id| quant(id).is_some_and(|quant| !quant.is_per_tensor())) {
            findings.per_channel.push(node.name.clone());
        }
        let wide = |role, id: ValueId| {
            let machine = if role == Role::Weight { capabilities.weight } else { capabilities.activation };
            quant(id).is_some() && work.value(id).dtype.bits() > symmetric(machine).0.bits()
        };
        if any(&wide) {
            findings.types.push(node.name.clone());
        }
    }
    findings
}

/// Parameters of channels that are all equal become one, which changes no bit.
pub fn collapse_equal_channels(work: &mut Work) {
    for index in (0_u32..).map(ValueId).take(work.values()) {
        let Some(quant) = &work.value(index).quant else { continue };
        let equal = quant.scale.windows(2).all(|pair| pair[0].to_bits() == pair[1].to_bits())
            && quant.zero_point.windows(2).all(|pair| pair[0] == pair[1]);
        if let (true, Some(&scale), Some(&zero)) = (equal, quant.scale.first(), quant.zero_point.first()) {
            work.value_mut(index).quant = Some(Quantization::per_tensor(scale, zero));
        }
    }
}
