//! Progress on standard error, for people at a terminal and only when something takes longer than a second.

use std::{
    fmt::Write as _,
    io::IsTerminal,
    time::{Duration, Instant},
};

use indicatif::{HumanCount, ProgressBar, ProgressDrawTarget, ProgressState, ProgressStyle};

use crate::diag::Progress;

/// What takes less than this shows nothing.
const PATIENCE: Duration = Duration::from_secs(1);

/// A line on the terminal, or nothing where standard error is no terminal.
pub struct Terminal {
    started: Instant,
    bar: Option<ProgressBar>,
    visible: bool,
}

impl Terminal {
    /// Shows nothing yet.
    pub fn new() -> Self {
        Self { started: Instant::now(), bar: None, visible: std::io::stderr().is_terminal() }
    }
}

impl Default for Terminal {
    fn default() -> Self {
        Self::new()
    }
}

impl Progress for Terminal {
    fn stage(&mut self, name: &str, total: Option<u64>) {
        self.finish();
        if !self.visible {
            return;
        }
        let bar = ProgressBar::with_draw_target(total, ProgressDrawTarget::stderr());
        let (started, name) = (self.started, name.to_owned());
        let line = move |state: &ProgressState, out: &mut dyn std::fmt::Write| {
            if started.elapsed() >= PATIENCE {
                // A line that cannot be formed is not worth a failure.
                let _ = write_line(out, &name, state);
            }
        };
        let style = ProgressStyle::with_template("{line}").map(|style| style.with_key("line", line));
        if let Ok(style) = style {
            bar.set_style(style);
            bar.enable_steady_tick(Duration::from_millis(250));
            self.bar = Some(bar);
        }
    }

    fn advance(&mut self, n: u64) {
        if let Some(bar) = &self.bar {
            bar.inc(n);
        }
    }

    fn finish(&mut self) {
        if let Some(bar) = self.bar.take() {
            bar.finish_and_clear();
        }
    }

    fn note(&mut self, text: &str) {
        self.finish();
        super::output::complain(text);
    }
}

impl Drop for Terminal {
    fn drop(&mut self) {
        self.finish();
    }
}

/// `name 12/40 3 s`.
fn write_line(out: &mut dyn std::fmt::Write, name: &str, state: &ProgressState) -> std::fmt::Result {
    write!(out, "{name}")?;
    if let Some(total) = state.len() {
        write!(out, " {}/{}", HumanCount(state.pos()), HumanCount(total))?;
    }
    let mut seconds = String::new();
    write!(seconds, "{:.0}", state.elapsed().as_secs_f64())?;
    write!(out, " {seconds} s")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn stages_may_come_in_any_order_and_number() {
        let mut progress = Terminal::new();
        progress.advance(3);
        progress.finish();
        progress.stage("map", Some(10));
        progress.advance(100);
        progress.stage("time", None);
        progress.finish();
        progress.finish();
    }
}
