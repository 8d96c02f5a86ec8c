//! The textual form of a program: one instruction a line, which `map --program` prints and golden files keep.
//!
//! ```text
//! 12 conv1 array! matmul 196x27 x 27x16 += acc[0..3136] wait 3 4 -> 5
//! ```
//! An exclamation mark behind the engine marks a command of its own, a number behind it several.

use std::fmt::{self, Write as _};

use super::{Header, Instruction, Matmul, Operation, Region, Space, VectorOp};
use crate::config::Accelerator;

/// One instruction as text.
pub struct Line<'a> {
    /// The machine, for engine names.
    pub accelerator: &'a Accelerator,
    /// The program, for layer names.
    pub header: &'a Header,
    /// The instruction.
    pub instruction: &'a Instruction,
}

impl fmt::Display for Line<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let i = self.instruction;
        let layer = self.header.layers.get(i.layer.index()).map_or("?", |layer| layer.name.as_str());
        let engine = self.accelerator.engines.get(usize::from(i.engine.0)).map_or("?", |engine| engine.name.as_str());
        write!(f, "{} {layer} {}", i.index, engine.replace(' ', ""))?;
        match i.commands {
            0 => f.write_char(' ')?,
            1 => f.write_str("! ")?,
            many => write!(f, "!{many} ")?,
        }
        match &i.operation {
            Operation::Load(t) => write!(f, "load {} <- {}", Short(&t.target), Short(&t.source))?,
            Operation::Store(t) => write!(f, "store {} <- {}", Short(&t.target), Short(&t.source))?,
            Operation::Move(t) => write!(f, "move {} <- {}", Short(&t.target), Short(&t.source))?,
            Operation::Preload { stationary } => {
                write!(f, "preload {}x{} {}", stationary.rows(), stationary.cols(), Short(stationary))?;
            }
            Operation::Fetch { stationary } => {
                write!(f, "fetch {}x{} {}", stationary.rows(), stationary.cols(), Short(stationary))?;
            }
            Operation::PreloadNext { columns, k } => write!(f, "preload {columns}x{k} fetched")?,
            Operation::Matmul(matmul) => write_matmul(f, matmul)?,
            Operation::Vector(op) => write_vector(f, "", op)?,
            Operation::Host(op) => write_vector(f, "host ", op)?,
            Operation::Fence => f.write_str("fence")?,
        }
        if !i.waits.is_empty() {
            f.write_str(" wait")?;
            for token in &i.waits {
                write!(f, " {}", token.0)?;
            }
        }
        if let Some(token) = i.signals {
            write!(f, " -> {}", token.0)?;
        }
        Ok(())
    }
}

fn write_matmul(f: &mut fmt::Formatter<'_>, matmul: &Matmul) -> fmt::Result {
    let (t, k, j) = (matmul.stream.rows(), matmul.stream.cols(), matmul.accumulators.cols());
    let sign = if matmul.accumulate { "+=" } else { "=" };
    f.write_str("matmul ")?;
    if matmul.hold {
        f.write_str("elements")?;
    } else {
        write!(f, "{}", Short(&matmul.accumulators))?;
    }
    let resume = if matmul.resume { "elements + " } else { "" };
    write!(f, " {sign} {resume}{t}x{k} {} * {k}x{j}", Short(&matmul.stream))?;
    if let Some(stationary) = &matmul.stationary {
        write!(f, " {}", Short(stationary))?;
    }
    Ok(())
}

fn write_vector(f: &mut fmt::Formatter<'_>, on: &str, op: &VectorOp) -> fmt::Result {
    let mut name = String::new();
    let kind = format!("{:?}", op.kind);
    for (at, letter) in kind.split(' ').next().unwrap_or_default().chars().enumerate() {
        if letter.is_uppercase() && at > 0 {
            name.push('_');
        }
        name.extend(letter.to_lowercase());
    }
    write!(f, "{on}{name} {}", Short(&op.output))?;
    for (at, input) in op.inputs.iter().enumerate() {
        write!(f, "{} {}", if at == 0 { " <-" } else { "," }, Short(input))?;
    }
    Ok(())
}

/// A region: its space, base, loops `count*stride` that matter, windows and padding.
struct Short<'a>(&'a Region);

impl fmt::Display for Short<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let region = self.0;
        match region.space {
            Space::Memory(id) => write!(f, "mem{}", id.0)?,
            Space::Buffer(id) => write!(f, "buf{}", id.0)?,
            Space::Accumulators => f.write_str("acc")?,
        }
        write!(f, "[{}", region.base)?;
        let mut loops = String::new();
        for (at, dim) in region.dims.iter().enumerate() {
            if at == usize::from(region.split) {
                loops.push_str(" |");
            }
            if dim.count != 1 {
                write!(loops, " {}*{}", dim.count, dim.stride)?;
            }
        }
        if loops.trim() != "|" {
            write!(f, "{}", loops.trim_end_matches(" |"))?;
        }
        if let Some((start, len)) = region.row_window {
            write!(f, " rows {start}+{len}")?;
        }
        if let Some((start, len)) = region.window {
            write!(f, " cols {start}+{len}")?;
        }
        if let Some(pad) = &region.pad {
            write!(f, " pad {},{} of {}x{}", pad.row0, pad.col0, pad.rows, pad.cols)?;
        }
        f.write_char(']')
    }
}
