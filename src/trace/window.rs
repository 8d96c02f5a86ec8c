//! Which part of a run is traced: cycles or a layer, in femtoseconds as far as they are known yet.

use crate::{
    diag::{Diagnostic, Faults},
    units::{Cycles, Time},
};

/// Names that a fault lists.
const MOST_LISTED: usize = 20;

/// What is asked for.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Window {
    /// The whole run.
    #[default]
    All,
    /// From the first cycle to before the second, or to the end.
    Cycles(Cycles, Option<Cycles>),
    /// One layer's work, and the counters meanwhile.
    Layer(usize),
}

impl Window {
    /// Reads `START..END` in cycles, either of which may be left out, or a layer's name.
    ///
    /// # Errors
    /// Says what is wrong, and which layers there are.
    pub fn read(text: &str, layers: &[String]) -> Result<Self, Faults> {
        if let Some(layer) = layers.iter().position(|name| name == text) {
            return Ok(Self::Layer(layer));
        }
        let fault = |message: String| Diagnostic::error(message).with_path("--trace-window");
        let number = |part: &str| part.chars().all(|c| c.is_ascii_digit());
        let Some((from, to)) = text.split_once("..").filter(|(from, to)| number(from) && number(to)) else {
            let names = layers.iter().take(MOST_LISTED).map(String::as_str).collect::<Vec<_>>().join(", ");
            let more = match layers.len().checked_sub(MOST_LISTED) {
                Some(more) if more > 0 => format!(" and {more} more"),
                _ => String::new(),
            };
            return Err(fault(format!("no layer is named `{text}`, and it is no range of cycles"))
                .with_help(format!("give START..END in cycles of the array, or one of the layers: {names}{more}"))
                .into());
        };
        let cycles = |part: &str| {
            part.parse().map(Cycles).map_err(|_| Faults::from(fault(format!("`{part}` cycles are too many"))))
        };
        let start = if from.is_empty() { Cycles::ZERO } else { cycles(from)? };
        let end = if to.is_empty() { None } else { Some(cycles(to)?) };
        if end.is_some_and(|end| end <= start) {
            return Err(fault(format!("`{text}` holds no cycle")).with_help("the end must be after the start").into());
        }
        Ok(Self::Cycles(start, end))
    }
}

/// The window in time. A layer's is only known when the layer is over.
#[derive(Debug)]
pub struct Span {
    window: Window,
    /// Nothing before this is traced.
    pub from: u64,
    /// Nothing from here on is, once it is known.
    pub until: Option<u64>,
    /// The layer's instructions that are issued and not done, and the end of those that are done.
    outstanding: u64,
    last: u64,
    begun: bool,
}

impl Span {
    pub fn new(window: Window, period: Time) -> Self {
        let (from, until) = match window {
            Window::Cycles(start, end) => (start.time(period).0, end.map(|end| end.time(period).0)),
            Window::All | Window::Layer(_) => (0, None),
        };
        Self { window, from, until, outstanding: 0, last: 0, begun: false }
    }

    /// An instruction of a layer is issued at `time`. Layers and issues come in order.
    pub fn issued(&mut self, layer: usize, time: u64) {
        let Window::Layer(wanted) = self.window else { return };
        if layer <= wanted && !self.begun {
            self.from = time;
        }
        if layer == wanted {
            self.begun = true;
            self.outstanding += 1;
        } else if layer > wanted {
            self.settle();
        }
    }

    /// An instruction of a layer is done.
    pub fn done(&mut self, layer: usize, end: u64) {
        if self.window == Window::Layer(layer) {
            self.outstanding = self.outstanding.saturating_sub(1);
            self.last = self.last.max(end);
        }
    }

    /// Takes the end of the layer if no more of it comes.
    pub fn settle(&mut self) {
        if self.begun && self.outstanding == 0 && self.until.is_none() && matches!(self.window, Window::Layer(_)) {
            self.until = Some(self.last);
        }
    }

    /// Whether a stretch of a layer's work is traced.
    pub fn holds(&self, layer: usize, start: u64, end: u64) -> bool {
        match self.window {
            Window::Layer(wanted) => wanted == layer,
            _ => end > self.from && self.until.is_none_or(|until| start < until),
        }
    }

    /// Whether a point of time may be traced.
    pub fn reaches(&self, time: u64) -> bool {
        self.until.is_none_or(|until| time < until)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_window_is_a_layer_or_a_range_of_cycles() {
        let layers = ["conv1".to_owned(), "1..2".to_owned()];
        let read = |text: &str| Window::read(text, &layers);
        assert_eq!(read("conv1").unwrap(), Window::Layer(0));
        // A layer's name goes first.
        assert_eq!(read("1..2").unwrap(), Window::Layer(1));
        assert_eq!(read("10..20").unwrap(), Window::Cycles(Cycles(10), Some(Cycles(20))));
        assert_eq!(read("..20").unwrap(), Window::Cycles(Cycles(0), Some(Cycles(20))));
        assert_eq!(read("10..").unwrap(), Window::Cycles(Cycles(10), None));
        for (text, expected) in [
            ("conv2", "conv1, 1..2"),
            ("20..10", "no cycle"),
            ("5..5", "no cycle"),
            ("-1..5", "no range"),
            ("99999999999999999999..", "too many"),
        ] {
            let fault = read(text).unwrap_err().to_string();
            assert!(fault.contains(expected) && fault.contains("--trace-window"), "{text}: {fault}");
        }
    }

    #[test]
    fn a_layer_lasts_from_its_first_issue_to_its_last_end() {
        let mut span = Span::new(Window::Layer(1), Time(1000));
        span.issued(0, 3);
        span.issued(1, 7);
        span.issued(1, 9);
        span.done(1, 50);
        span.issued(2, 60);
        assert_eq!((span.from, span.until), (7, None));
        span.done(1, 40);
        span.settle();
        assert_eq!((span.from, span.until), (7, Some(50)));
        assert!(span.holds(1, 90, 99) && !span.holds(0, 10, 20));
    }
}
