//! Progress on standard error, for people at a terminal and only when something takes longer than a second.

use std::{
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
    fn stage(&mut self, name: &str, total: Option<u64>, unit: &'static str) {
        self.finish();
        if !self.visible {
            return;
        }
        let bar = ProgressBar::with_draw_target(total, ProgressDrawTarget::stderr());
        let (started, name) = (self.started, name.to_owned());
        let line = move |state: &ProgressState, out: &mut dyn std::fmt::Write| {
            if started.elapsed() >= PATIENCE {
                // A line that cannot be formed is not worth a failure.
                let _ = write_line(out, &name, unit, state);
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

/// `name: 1,200 of 4,000 unit, 30 %, 3 s, about 7 s left`. The time left takes all steps as equally long.
fn write_line(out: &mut dyn std::fmt::Write, name: &str, unit: &str, state: &ProgressState) -> std::fmt::Result {
    let elapsed = state.elapsed().as_secs_f64();
    write!(out, "{}", line(name, unit, state.pos(), state.len(), elapsed))
}

fn line(name: &str, unit: &str, done: u64, total: Option<u64>, seconds: f64) -> String {
    let Some(total) = total.filter(|&total| total > 0) else { return format!("{name}: {seconds:.0} s") };
    // What is counted may be an estimate from below.
    let done = done.min(total);
    let share = done as f64 / total as f64;
    let left = if done == 0 { String::new() } else { format!(", about {:.0} s left", seconds * (1.0 - share) / share) };
    format!(
        "{name}: {} of {} {unit}, {:.0} %, {seconds:.0} s{left}",
        HumanCount(done),
        HumanCount(total),
        (100.0 * share).floor()
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_line_has_units_a_percentage_and_the_time_that_is_left() {
        assert_eq!(
            line("timing", "tiles", 1200, Some(4000), 3.0),
            "timing: 1,200 of 4,000 tiles, 30 %, 3 s, about 7 s left"
        );
        assert_eq!(line("timing", "tiles", 0, Some(4000), 3.0), "timing: 0 of 4,000 tiles, 0 %, 3 s");
        assert_eq!(line("mapping", "", 5, None, 2.4), "mapping: 2 s");
        assert!(line("timing", "tiles", 5000, Some(4000), 3.0).contains("100 %"));
    }

    #[test]
    fn stages_may_come_in_any_order_and_number() {
        let mut progress = Terminal::new();
        progress.advance(3);
        progress.finish();
        progress.stage("map", Some(10), "layers");
        progress.advance(100);
        progress.stage("time", None, "");
        progress.finish();
        progress.finish();
    }
}
