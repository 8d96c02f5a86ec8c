//! Times a network and writes a trace of it: gives the run's parts their names. What a trace looks like is not known here.

use std::path::{Path, PathBuf};

use super::{Failure, Mapped, time_observed};
use crate::{
    config::BufferLayout,
    diag::{Diagnostic, Progress},
    engine::timing::{self, TimingReport},
    trace::{Limits, Names, Window, Writer},
};

/// What to trace, and where to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TraceSettings {
    /// Where the trace is written.
    pub file: PathBuf,
    /// Cycles or a layer's name; all without it.
    pub window: Option<String>,
    /// Slices' ends and counters' values at which it is cut; layers come on top.
    pub events: u64,
}

/// Times a mapped network at `tile` fidelity and writes its trace; that of its requests to memory too, if it has a path.
///
/// # Errors
/// As without a trace; a window that the run does not have; a file that cannot be written.
pub fn time_traced(
    mapped: &Mapped,
    settings: &TraceSettings,
    memory_trace: Option<&Path>,
    progress: &mut dyn Progress,
) -> Result<TimingReport, Failure> {
    let unwritten = |error: std::io::Error| {
        Diagnostic::error(format!("cannot write the trace: {error}"))
            .with_file(&settings.file)
            .with_help("give another file to `--trace`")
    };
    let names = names(mapped);
    let window = settings.window.as_deref().map_or(Ok(Window::All), |window| Window::read(window, &names.layers))?;
    let limits = Limits { window, events: settings.events };
    let mut writer = Writer::create(&settings.file, names, limits).map_err(unwritten)?;
    let report = time_observed(mapped, timing::Options::default(), Some(&mut writer), memory_trace, progress)?;
    let written = writer.finish().map_err(unwritten)?;
    let help = if written.cut.is_some() { "; give a `--trace-window`, or more `--trace-events`" } else { "" };
    progress.note(&format!("{written}{help}"));
    Ok(report)
}

fn names(mapped: &Mapped) -> Names {
    let program = &mapped.program;
    let accelerator = &program.accelerator;
    let buffers: &[&str] = match accelerator.config.buffers.layout {
        BufferLayout::Shared(_) => &["buffer"],
        BufferLayout::Split { .. } => &["input buffer", "weight buffer", "output buffer"],
    };
    Names {
        title: format!("{} on {}", program.header.name, accelerator.config.name),
        layers: program.header.layers.iter().map(|layer| layer.name.clone()).collect(),
        engines: accelerator.engines.iter().map(|engine| engine.name.clone()).collect(),
        memories: accelerator.config.memories.iter().map(|memory| memory.name.clone()).collect(),
        buffers: buffers.iter().chain(&["accumulators"]).map(|&name| name.to_owned()).collect(),
        period: accelerator.array_period,
    }
}
