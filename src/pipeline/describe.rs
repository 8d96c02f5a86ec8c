//! What `systole map` prints: each layer's loop nest and why, and the program.

use std::fmt::Write as _;

use super::Mapped;
use crate::{
    mapping::describe,
    program::{LayerKind, text::Line},
    units::thousands,
};

/// Why a layer takes no time.
fn why_free(op: &str) -> &'static str {
    match op {
        "QuantizeLinear" | "DequantizeLinear" => "at the boundary of the network: listed, takes no cycles",
        _ => "nothing to do: the tensor already lies as it should",
    }
}

/// The mapping of all layers, or of one; with the instructions where asked for.
pub fn describe_mapping(mapped: &Mapped, only: Option<&str>, program: bool) -> String {
    let header = &mapped.program.header;
    let accelerator = &mapped.program.accelerator;
    let mut text = String::new();
    let mut instructions = mapped.program.instructions().peekable();
    for (index, (layer, plan)) in header.layers.iter().zip(&mapped.plan.layers).enumerate() {
        let wanted = only.is_none_or(|name| layer.name == name);
        if wanted {
            let macs = match layer.macs.get() {
                0 => String::new(),
                macs => format!(", {} MACs", thousands(macs)),
            };
            let _ = writeln!(text, "{} ({}){macs}", layer.name, layer.op);
            if layer.kind == LayerKind::Free {
                let _ = writeln!(text, "    {}", why_free(&layer.op));
            } else {
                for line in describe::loop_nest(&plan.mapping).lines() {
                    let _ = writeln!(text, "    {line}");
                }
            }
            for reason in &plan.reasons {
                let _ = writeln!(text, "    {reason}");
            }
        }
        if program {
            while let Some(instruction) = instructions.next_if(|next| next.layer.index() <= index) {
                if wanted {
                    let line = Line { accelerator, header, instruction: &instruction };
                    let _ = writeln!(text, "    {line}");
                }
            }
        }
    }
    text
}
