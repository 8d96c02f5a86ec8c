//! What `systole map` prints: each layer's loop nest and why, and the program.

use std::fmt::Write as _;

use super::Mapped;
use crate::{mapping::describe, program::text::Line};

/// The mapping of all layers, or of one; with the instructions where asked for.
pub fn describe_mapping(mapped: &Mapped, only: Option<&str>, program: bool) -> String {
    let header = &mapped.program.header;
    let accelerator = &mapped.program.accelerator;
    let mut text = String::new();
    let mut instructions = mapped.program.instructions().peekable();
    for (index, (layer, plan)) in header.layers.iter().zip(&mapped.plan.layers).enumerate() {
        let wanted = only.is_none_or(|name| layer.name == name);
        if wanted {
            let _ = writeln!(text, "{} ({}), {} MACs", layer.name, layer.op, layer.macs);
            for line in describe::loop_nest(&plan.mapping).lines() {
                let _ = writeln!(text, "    {line}");
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
