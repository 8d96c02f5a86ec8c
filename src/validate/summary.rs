//! What was found, for a terminal of 80 columns. Pure text.

use std::fmt::Write as _;

use super::{
    Kind, Outcome, Validation,
    page::{fitted, numbers, percent},
};
use crate::units::thousands;

/// Columns of the terminal.
const WIDTH: usize = 80;

/// A line a source, others' figures apart from our own, and what must be equal and is not.
pub fn summary(validations: &[Validation]) -> String {
    let mut text = String::new();
    for kind in [Kind::External, Kind::Internal] {
        let of_kind: Vec<&Validation> =
            validations.iter().filter(|validation| validation.source.kind == kind).collect();
        if of_kind.is_empty() {
            continue;
        }
        let heading = match kind {
            Kind::External => "external: others' figures",
            Kind::Internal => "internal: same authors",
        };
        let _ =
            writeln!(text, "{heading:<30}{:>9}{:>9}{:>10}{:>10}  must be", "figures", "equal", "mean err", "max err");
        for validation in of_kind {
            let found = &validation.findings;
            let total = found.total();
            let must = if validation.source.is_exact { "equal" } else { "-" };
            let errors = total
                .error_mean()
                .map_or_else(|| ["-".to_owned(), "-".to_owned()], |mean| [percent(mean), percent(total.error_max)]);
            let _ = writeln!(
                text,
                "{:<30}{:>9}{:>9}{:>10}{:>10}  {must}",
                validation.source.name,
                thousands(total.count),
                thousands(total.equal),
                errors[0],
                errors[1]
            );
        }
        text.push('\n');
    }
    let constants: Vec<&str> =
        validations.iter().flat_map(|validation| validation.findings.fitted.iter().copied()).collect();
    wrapped(&mut text, &format!("fitted constants: {}", fitted(&constants)));
    for validation in validations {
        let mut reasons: Vec<(&str, usize)> = Vec::new();
        for row in &validation.findings.rows {
            if let Outcome::Not(reason) = &row.outcome {
                match reasons.iter_mut().find(|(known, _)| known == reason) {
                    Some((_, count)) => *count += 1,
                    None => reasons.push((reason, 1)),
                }
            }
        }
        for (reason, count) in reasons {
            let rows = if count == 1 { "row" } else { "rows" };
            wrapped(&mut text, &format!("{}: {count} {rows} {reason}", validation.source.name));
        }
    }
    for validation in validations.iter().filter(|validation| !validation.holds()) {
        for row in &validation.findings.rows {
            if let Some(compared) = row.compared().filter(|compared| compared.equal < compared.count) {
                let shown = compared.shown.map_or_else(String::new, |[ours, theirs]| {
                    let [ours, theirs] = numbers(ours, theirs);
                    format!(": ours {ours}, theirs {theirs}")
                });
                let figures = if compared.count == 1 {
                    String::new()
                } else {
                    format!(" ({} of {} differ)", thousands(compared.count - compared.equal), thousands(compared.count))
                };
                let line =
                    format!("NOT EQUAL  {}: {}, {}{shown}{figures}", validation.source.name, row.what, row.figure);
                wrapped(&mut text, &line);
            }
        }
    }
    text
}

/// Every row, and why figures differ.
pub fn rows(validations: &[Validation]) -> String {
    /// Room for a row's name and figure.
    const NAME: usize = 45;
    let mut text = String::new();
    for validation in validations {
        let (source, found) = (&validation.source, &validation.findings);
        wrapped(&mut text, &format!("{} ({}): {}", source.name, source.kind.name(), source.title));
        for row in &found.rows {
            let name = format!("{}: {}", row.what, row.figure);
            let line = match &row.outcome {
                Outcome::Not(reason) => format!("  {name}: {reason}"),
                Outcome::Compared(compared) => {
                    let columns = compared.shown.map_or_else(
                        || format!("{:>11} of {:>8} equal", thousands(compared.equal), thousands(compared.count)),
                        |[ours, theirs]| {
                            let off = percent(super::error(ours, theirs));
                            let [ours, theirs] = numbers(ours, theirs);
                            format!("{ours:>12}{theirs:>12}{off:>9}")
                        },
                    );
                    if name.chars().count() > NAME {
                        let _ = writeln!(text, "  {name}");
                        format!("  {:<NAME$}{columns}", "")
                    } else {
                        format!("  {name:<NAME$}{columns}")
                    }
                }
            };
            wrapped(&mut text, &line);
        }
        for note in &found.notes {
            wrapped(&mut text, note);
        }
        text.push('\n');
    }
    text
}

/// A paragraph in lines that the terminal has room for; what fits stays as it is.
fn wrapped(text: &mut String, paragraph: &str) {
    if paragraph.chars().count() <= WIDTH {
        let _ = writeln!(text, "{paragraph}");
    } else {
        filled(text, paragraph, WIDTH, "  ");
    }
}

/// A paragraph in lines of at most `width`, all but the first behind `indent`.
pub(super) fn filled(text: &mut String, paragraph: &str, width: usize, indent: &str) {
    let mut line = String::new();
    let mut is_empty = true;
    for word in paragraph.split_whitespace() {
        if !is_empty && line.chars().count() + 1 + word.chars().count() > width {
            let _ = writeln!(text, "{line}");
            indent.clone_into(&mut line);
            is_empty = true;
        }
        if !is_empty {
            line.push(' ');
        }
        line.push_str(word);
        is_empty = false;
    }
    let _ = writeln!(text, "{line}");
}
