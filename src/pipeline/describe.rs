//! What `systole map` prints: each layer's loop nest and why, and the program.

use std::fmt::{self, Write};

use super::{Failure, Mapped, limits};
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

/// Writes the mapping of all layers, or of one; with the instructions where asked for, as they are generated: a program
/// may be larger than memory.
///
/// # Errors
/// A program with too many instructions. A writer that takes no more ends the text and is no error here.
pub fn describe_mapping(
    mapped: &Mapped,
    only: Option<&str>,
    program: bool,
    text: &mut dyn Write,
) -> Result<(), Failure> {
    if program {
        limits::check_program(mapped)?;
    }
    // The writer knows why it failed, and who made it can ask.
    let _ = write_mapping(mapped, only, program, text);
    Ok(())
}

fn write_mapping(mapped: &Mapped, only: Option<&str>, program: bool, text: &mut dyn Write) -> fmt::Result {
    let header = &mapped.program.header;
    let accelerator = &mapped.program.accelerator;
    let mut instructions = mapped.program.instructions().peekable();
    for (index, (layer, plan)) in header.layers.iter().zip(&mapped.plan.layers).enumerate() {
        let wanted = only.is_none_or(|name| layer.name == name);
        if wanted {
            let macs = match layer.macs.get() {
                0 => String::new(),
                macs => format!(", {} MACs", thousands(macs)),
            };
            writeln!(text, "{} ({}){macs}", layer.name, layer.op)?;
            if layer.kind == LayerKind::Free {
                writeln!(text, "    {}", why_free(&layer.op))?;
            } else {
                for line in describe::loop_nest(&plan.mapping).lines() {
                    writeln!(text, "    {line}")?;
                }
            }
            for reason in &plan.reasons {
                writeln!(text, "    {reason}")?;
            }
        }
        if program {
            while let Some(instruction) = instructions.next_if(|next| next.layer.index() <= index) {
                if wanted {
                    let line = Line { accelerator, header, instruction: &instruction };
                    writeln!(text, "    {line}")?;
                }
            }
        }
    }
    Ok(())
}
