//! Faults as the terminal shows them: what is wrong, the place in the text with a caret, what to do; all of them, and
//! how many at the end.

use std::{fmt, ops::Range};

use miette::{
    GraphicalReportHandler, GraphicalTheme, LabeledSpan, MietteError, MietteSpanContents, SourceCode, SourceSpan,
    SpanContents,
};

use crate::diag::{Diagnostic, Faults, Severity, Source};

/// Width to which messages are wrapped.
const WIDTH: usize = 80;
/// Characters of a source line that are shown before and after the place; lines may be as long as a file.
const CONTEXT: usize = 48;

/// All faults as text that ends with a line break; with terminal colours if `colour`.
pub fn render(faults: &Faults, colour: bool) -> String {
    let mut theme = if colour { GraphicalTheme::unicode() } else { GraphicalTheme::unicode_nocolor() };
    theme.characters.underline = '^';
    let handler = GraphicalReportHandler::new_themed(theme)
        .with_width(WIDTH)
        .with_links(false)
        .with_context_lines(1)
        .without_syntax_highlighting();
    let mut text = String::new();
    for fault in &faults.0 {
        if handler.render_report(&mut text, &Shown::new(fault)).is_err() {
            text.push_str(&fault.to_string());
        }
        text.push('\n');
    }
    text.push_str(&count(faults));
    text.push('\n');
    text
}

/// `3 errors, 1 warning`.
fn count(faults: &Faults) -> String {
    let of = |severity| faults.0.iter().filter(|fault| fault.severity == severity).count();
    let plural = |count: usize, what: &str| format!("{count} {what}{}", if count == 1 { "" } else { "s" });
    match (of(Severity::Error), of(Severity::Warning)) {
        (errors, 0) => plural(errors, "error"),
        (0, warnings) => plural(warnings, "warning"),
        (errors, warnings) => format!("{}, {}", plural(errors, "error"), plural(warnings, "warning")),
    }
}

/// The piece of a line in which a place stands, without what could steer a terminal.
#[derive(Debug)]
struct Excerpt {
    name: String,
    text: String,
    /// Where `text` starts in the source, in bytes.
    start: usize,
    /// The place in the source, in bytes, cut to its first line.
    place: Range<usize>,
    /// Line and column of the place, from 0.
    line: usize,
    column: usize,
}

impl Excerpt {
    /// `None` for a range that is not in the text.
    fn new(source: &Source, range: &Range<usize>) -> Option<Self> {
        let text = &*source.text;
        let (before, place) = (text.get(..range.start)?, text.get(range.clone())?);
        let place_end = range.start + place.find(['\r', '\n']).unwrap_or(place.len()).min(2 * CONTEXT);
        let place_end = (range.start..=place_end).rev().find(|&at| text.is_char_boundary(at))?;
        let line_start = before.rfind('\n').map_or(0, |at| at + 1);
        let shown_before = before[line_start..].char_indices().rev().take(CONTEXT).last().map_or(0, |(at, _)| at);
        let start = line_start + shown_before;
        let after = &text[place_end..];
        let after = &after[..after.find(['\r', '\n']).unwrap_or(after.len())];
        let end = place_end + after.char_indices().nth(CONTEXT).map_or(after.len(), |(at, _)| at);
        // Replacements have as many bytes, so that positions stay.
        let plain = |c: char| {
            if c.is_control() && c != '\t' { "?".repeat(c.len_utf8()) } else { c.to_string() }
        };
        Some(Self {
            name: source.name.clone(),
            text: text[start..end].chars().map(plain).collect(),
            start,
            place: range.start..place_end,
            line: before.matches('\n').count(),
            column: before[line_start..].chars().count(),
        })
    }
}

impl SourceCode for Excerpt {
    /// The whole excerpt; with no context asked for, only where the place is.
    fn read_span<'a>(
        &'a self,
        _span: &SourceSpan,
        context_before: usize,
        _context_after: usize,
    ) -> Result<Box<dyn SpanContents<'a> + 'a>, MietteError> {
        let column = if context_before == 0 { self.column } else { 0 };
        let span = SourceSpan::new(self.start.into(), self.text.len());
        let contents =
            MietteSpanContents::new_named(self.name.clone(), self.text.as_bytes(), span, self.line, column, 1);
        Ok(Box::new(contents))
    }
}

/// A finding in the form that `miette` renders.
#[derive(Debug)]
struct Shown<'fault> {
    fault: &'fault Diagnostic,
    excerpt: Option<Excerpt>,
}

impl<'fault> Shown<'fault> {
    fn new(fault: &'fault Diagnostic) -> Self {
        let excerpt = fault.span.as_ref().and_then(|(source, range)| Excerpt::new(source, range));
        Self { fault, excerpt }
    }
}

impl fmt::Display for Shown<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match (&self.excerpt, &self.fault.file, &self.fault.span) {
            (None, Some(file), _) => write!(f, "{}: ", file.display())?,
            (None, None, Some((source, _))) => write!(f, "{}: ", source.name)?,
            _ => {}
        }
        if let Some(path) = &self.fault.path {
            write!(f, "{path}: ")?;
        }
        f.write_str(&self.fault.message)
    }
}

impl std::error::Error for Shown<'_> {}

impl miette::Diagnostic for Shown<'_> {
    fn severity(&self) -> Option<miette::Severity> {
        Some(match self.fault.severity {
            Severity::Error => miette::Severity::Error,
            Severity::Warning => miette::Severity::Warning,
        })
    }

    fn help<'a>(&'a self) -> Option<Box<dyn fmt::Display + 'a>> {
        self.fault.help.as_ref().map(|help| Box::new(help) as Box<dyn fmt::Display>)
    }

    fn source_code(&self) -> Option<&dyn SourceCode> {
        self.excerpt.as_ref().map(|excerpt| excerpt as &dyn SourceCode)
    }

    fn labels(&self) -> Option<Box<dyn Iterator<Item = LabeledSpan> + '_>> {
        let place = &self.excerpt.as_ref()?.place;
        Some(Box::new(std::iter::once(LabeledSpan::new(None, place.start, place.len()))))
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::*;

    fn source(text: &str) -> Source {
        Source { name: "machine.ron".into(), text: Arc::from(text) }
    }

    #[test]
    fn a_fault_shows_its_line_with_a_caret_its_help_and_the_count() {
        let text = "(\n    array: (\n        rows: 0,\n    ),\n)\n";
        let at = text.find('0').unwrap();
        let faults = Faults(vec![
            Diagnostic::error("expected an integer from 1 to 1,024, found `0`")
                .with_path("array.rows")
                .with_span(source(text), at..at + 1)
                .with_help("raise it to at least 1"),
            Diagnostic::warning("an odd value").with_file("model.onnx").with_path("node \"conv1\""),
        ]);
        let shown = render(&faults, false);
        let expected = "  × array.rows: expected an integer from 1 to 1,024, found `0`
   ╭─[machine.ron:3:15]
 3 │         rows: 0,
   ·               ^
   ╰────
  help: raise it to at least 1

  ⚠ model.onnx: node \"conv1\": an odd value

1 error, 1 warning
";
        assert_eq!(shown, expected, "{shown}");
        assert!(render(&faults, true).contains("\u{1b}["));
    }

    #[test]
    fn long_messages_are_wrapped_to_the_width() {
        let fault = Diagnostic::error("word ".repeat(60)).with_help("do ".repeat(90));
        let shown = render(&fault.into(), false);
        assert!(shown.lines().all(|line| line.chars().count() <= WIDTH), "{shown}");
    }

    #[test]
    fn every_fault_of_a_bad_config_is_shown() {
        let sets = ["array.rows=0", "array.colz=3", "placement.weights=DDR"].map(String::from);
        let faults = crate::config::load("edge_16x16", &sets).unwrap_err();
        let shown = render(&faults, false);
        assert!(shown.contains("3 errors") && shown.contains("[--set:1:12]"), "{shown}");
    }

    #[test]
    fn long_lines_are_cut_and_control_characters_are_not_passed_on() {
        let text = format!("{}\u{1b}[31m!{}", "x".repeat(5000), "y".repeat(5000));
        let fault = Diagnostic::error("odd").with_span(source(&text), 5005..5006);
        let shown = render(&fault.into(), false);
        assert!(shown.contains("x?[31m!y") && shown.contains("[machine.ron:1:5006]"), "{shown}");
        assert!(shown.lines().all(|line| line.chars().count() <= 110), "{shown}");
    }

    #[test]
    fn odd_ranges_and_texts_do_not_fail() {
        for (text, range) in [("", 0..0), ("é", 1..2), ("abc", 2..900), ("a\r\nb", 1..3), ("a\nb\nc", 0..5)] {
            let fault = Diagnostic::error("x").with_span(source(text), range);
            assert!(render(&fault.into(), false).contains('x'));
        }
    }
}
