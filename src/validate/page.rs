//! What was found, as a page in Markdown: a block a source between two marks, and a summary whose lines are replaced one by one, so that
//! some sources can be written anew without the others. Pure text.

use std::fmt::Write as _;

use super::{Compared, Kind, Outcome, Row, SOURCES, Validation, error, summary::filled};
use crate::{
    diag::{Diagnostic, Faults},
    units::thousands,
};

/// Columns of a line of text.
const WIDTH: usize = 140;

/// Headings of the summary.
const SUMMARY: &str = "| source | whose | figures | equal | mean error | largest | not compared | fitted constants |\n\
                       |---|---|---:|---:|---:|---:|---:|---:|\n";

/// The mark before and the mark behind what stands under a name.
fn marks(name: &str) -> [String; 2] {
    [format!("<!-- written by `systole validate`: {name} -->\n"), format!("<!-- end of {name} -->\n")]
}

/// A figure: whole ones with their thousands apart, others to a tenth.
fn number(value: f64) -> String {
    if value.fract() == 0.0 && value.abs() < 1e15 {
        let sign = if value < 0.0 { "-" } else { "" };
        // A count below 2^53.
        #[allow(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "whole and in range, as was asked")]
        let digits = thousands(value.abs() as u64);
        return format!("{sign}{digits}");
    }
    format!("{value:.1}")
}

/// Two figures that stand side by side: both whole, or both to a tenth.
pub(super) fn numbers(ours: f64, theirs: f64) -> [String; 2] {
    if ours.fract() == 0.0 && theirs.fract() == 0.0 {
        [ours, theirs].map(number)
    } else {
        [ours, theirs].map(|value| format!("{value:.1}"))
    }
}

/// A relative error as a percentage: `0` is equality and nothing else.
pub(super) fn percent(error: f64) -> String {
    if error == 0.0 { "0".to_owned() } else { format!("{:.2} %", 100.0 * error) }
}

/// Constants that were fitted, or the word for none.
pub(super) fn fitted(constants: &[&str]) -> String {
    if constants.is_empty() { "none".to_owned() } else { format!("{}: {}", constants.len(), constants.join(", ")) }
}

fn summary_line(validation: &Validation) -> String {
    let (source, found) = (&validation.source, &validation.findings);
    let total = found.total();
    let mean = total.error_mean().map_or_else(|| "-".to_owned(), percent);
    let most = if total.count == 0 { "-".to_owned() } else { percent(total.error_max) };
    format!(
        "| `{}`: {} | {} | {} | {} | {mean} | {most} | {} | {} |\n",
        source.name,
        source.title,
        source.kind.name(),
        thousands(total.count),
        thousands(total.equal),
        found.not_compared(),
        fitted(&found.fitted)
    )
}

/// A row's cells behind its name: ours, theirs, error, and how many figures, how many equal, where rows stand for several.
fn cells(row: &Row, has_groups: bool) -> String {
    let compared = match &row.outcome {
        Outcome::Compared(compared) => compared,
        Outcome::Not(reason) => return format!(" {reason} | | |{}", if has_groups { " | |" } else { "" }),
    };
    let Compared { count, equal, shown, .. } = *compared;
    let (ours, theirs, off) = shown.map_or_else(
        || ("-".to_owned(), "-".to_owned(), "-".to_owned()),
        |[ours, theirs]| {
            let off = error(ours, theirs);
            let [our_text, their_text] = numbers(ours, theirs);
            (our_text, their_text, if off == 0.0 { "0".to_owned() } else { format!("{:+.2} %", 100.0 * off) })
        },
    );
    let counts = if has_groups { format!(" {} | {} |", thousands(count), thousands(equal)) } else { String::new() };
    format!(" {ours} | {theirs} | {off} |{counts}")
}

/// What stands between the marks of a source.
pub fn block(validation: &Validation) -> String {
    let (source, found) = (&validation.source, &validation.findings);
    let mut text = format!("### {}\n\n", capital(source.title));
    filled(&mut text, &format!("`systole validate --source {}`. {}", source.name, source.about), WIDTH, "");
    text.push('\n');
    let has_groups = found.rows.iter().filter_map(Row::compared).any(|compared| compared.count > 1);
    let theirs = if source.kind == Kind::External { ["ours", "theirs"] } else { ["one", "other"] };
    let _ = write!(text, "| row | figure | {} | {} | error |", theirs[0], theirs[1]);
    text.push_str(if has_groups {
        " figures | equal |\n|---|---|---:|---:|---:|---:|---:|\n"
    } else {
        "\n|---|---|---:|---:|---:|\n"
    });
    for row in &found.rows {
        let _ = writeln!(text, "| {} | {} |{}", row.what, row.figure, cells(row, has_groups));
    }
    let total = found.total();
    if let Some(mean) = total.error_mean() {
        let must = if source.is_exact { "every figure must be equal" } else { "not required to be equal" };
        let _ = writeln!(
            text,
            "\nOf {} figures {} are equal ({must}); mean |error| {}, largest |error| {}. Fitted constants: {}.",
            thousands(total.count),
            thousands(total.equal),
            percent(mean),
            percent(total.error_max),
            fitted(&found.fitted)
        );
    }
    if !found.more.is_empty() {
        let _ = write!(text, "\n{}", found.more);
    }
    if !found.notes.is_empty() {
        text.push('\n');
        for note in &found.notes {
            filled(&mut text, &format!("- {note}"), WIDTH, "  ");
        }
    }
    text
}

fn capital(title: &str) -> String {
    let mut letters = title.chars();
    letters.next().map_or_else(String::new, |first| first.to_uppercase().chain(letters).collect())
}

/// Replaces what stands between two marks.
fn replace(page: &str, name: &str, text: &str) -> Result<String, Faults> {
    let [begin, end] = marks(name);
    let place =
        page.find(&begin).map(|at| at + begin.len()).and_then(|from| Some((from, from + page[from..].find(&end)?)));
    let Some((from, to)) = place else {
        let message = format!("the page has no place for `{name}`");
        let help = format!(
            "add the lines `{}` and `{}` where it is to stand, or give the name of a new file",
            begin.trim_end(),
            end.trim_end()
        );
        return Err(Diagnostic::error(message).with_help(help).into());
    };
    Ok(format!("{}{text}{}", &page[..from], &page[to..]))
}

/// A page with the blocks of some sources, and their lines of the summary, written anew. All else stays.
///
/// # Errors
/// A page that has no place for one of them.
pub fn spliced(page: &str, validations: &[Validation]) -> Result<String, Faults> {
    let mut page = page.to_owned();
    let [begin, end] = marks("summary");
    let old = page.find(&begin).map(|at| &page[at + begin.len()..]).and_then(|rest| rest.split(&end).next());
    let mut summary = SUMMARY.to_owned();
    for source in SOURCES {
        let start = format!("| `{}`", source.name);
        let fresh = validations.iter().find(|validation| validation.source.name == source.name).map(summary_line);
        let kept =
            || old.and_then(|old| old.lines().find(|line| line.starts_with(&start))).map(|line| format!("{line}\n"));
        summary += &fresh.or_else(kept).unwrap_or_default();
    }
    page = replace(&page, "summary", &summary)?;
    for validation in validations {
        page = replace(&page, validation.source.name, &block(validation))?;
    }
    Ok(page)
}

/// An empty page with a place for each of some sources.
pub fn new_page(validations: &[Validation]) -> String {
    let mut text = "# Validation\n\n".to_owned();
    let place = |text: &mut String, name: &str| {
        let [begin, end] = marks(name);
        let _ = writeln!(text, "{begin}{end}");
    };
    place(&mut text, "summary");
    for (kind, heading) in [(Kind::External, "What others measured"), (Kind::Internal, "Internal agreement")] {
        let mut of_kind = validations.iter().filter(|validation| validation.source.kind == kind).peekable();
        if of_kind.peek().is_some() {
            let _ = write!(text, "## {heading}\n\n");
        }
        for validation in of_kind {
            place(&mut text, validation.source.name);
        }
    }
    text
}
