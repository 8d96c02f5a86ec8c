//! Numbers and names as short text, shared by the table and the charts. Every function takes any value, the extreme
//! ones included, and none of them panics.

pub use crate::units::thousands;

/// Three significant digits and a decimal prefix: `1.23 M`, `640 k`, `0`. No unit; append it.
pub fn si(value: f64) -> String {
    const PREFIXES: [(f64, &str); 8] =
        [(1e18, " E"), (1e15, " P"), (1e12, " T"), (1e9, " G"), (1e6, " M"), (1e3, " k"), (1.0, ""), (1e-3, " m")];
    if !value.is_finite() {
        return "-".to_owned();
    }
    if value == 0.0 {
        return "0".to_owned();
    }
    let magnitude = value.abs();
    if !(1e-3..1e21).contains(&magnitude) {
        return format!("{value:.1e}");
    }
    // 0.9995 is where three digits round up to the next prefix.
    let (scale, prefix) = PREFIXES.into_iter().find(|&(scale, _)| magnitude >= scale * 0.9995).unwrap_or((1e-3, " m"));
    format!("{}{prefix}", three_digits(value / scale))
}

/// [`si`] of a count that needs no decimals below a thousand.
pub fn si_count(value: u64) -> String {
    if value < 1000 { value.to_string() } else { si(value as f64) }
}

/// `3.47 MB`, `512 B`: decimal prefixes.
pub fn bytes(value: u64) -> String {
    with_unit(&si_count(value), "B")
}

/// A text of [`si`] with its unit: `1.23 MB`, `12 B`.
pub fn with_unit(number: &str, unit: &str) -> String {
    if number.contains(' ') { format!("{number}{unit}") } else { format!("{number} {unit}") }
}

/// `24.7 ms`.
pub fn seconds(value: f64) -> String {
    if !value.is_finite() {
        return "- s".to_owned();
    }
    let magnitude = value.abs();
    if magnitude == 0.0 || magnitude >= 1.0 {
        return if magnitude < 1e6 { format!("{} s", three_digits(value)) } else { format!("{value:.2e} s") };
    }
    for (scale, unit) in [(1e-3, "ms"), (1e-6, "us"), (1e-9, "ns")] {
        if magnitude >= scale * 0.9995 {
            return format!("{} {unit}", three_digits(value / scale));
        }
    }
    format!("{value:.1e} s")
}

/// A share as `41.2 %`.
pub fn percent(share: f64) -> String {
    let value = share * 100.0;
    if !value.is_finite() {
        "- %".to_owned()
    } else if value.abs() >= 1e4 {
        format!("{value:.0e} %")
    } else {
        format!("{value:.1} %")
    }
}

/// `part / whole`, 0 where there is no whole.
pub fn share(part: u64, whole: u64) -> f64 {
    if whole == 0 { 0.0 } else { part as f64 / whole as f64 }
}

/// Three significant digits, for values from 1 to 1000.
fn three_digits(value: f64) -> String {
    let magnitude = value.abs();
    if magnitude < 9.995 {
        format!("{value:.2}")
    } else if magnitude < 99.95 {
        format!("{value:.1}")
    } else {
        format!("{value:.0}")
    }
}

/// A name from a file, safe to print on one line: control and direction characters become U+FFFD.
pub fn clean(text: &str) -> String {
    text.chars()
        .map(|c| match c {
            '\u{200b}'..='\u{200f}' | '\u{2028}'..='\u{202e}' | '\u{2060}'..='\u{206f}' | '\u{feff}'
            // Not allowed in XML, which SVG is.
            | '\u{fffe}'..='\u{ffff}' => '\u{fffd}',
            c if c.is_control() => '\u{fffd}',
            c => c,
        })
        .collect()
}

/// Terminal columns that a character takes at most. Wide ones (East Asian, emoji) count two and combining ones one,
/// so that a sum of these is never too small.
fn columns(c: char) -> usize {
    match c {
        '\u{1100}'..='\u{115f}'
        | '\u{2300}'..='\u{24ff}'
        | '\u{25a0}'..='\u{2bff}'
        | '\u{2e80}'..='\u{a4cf}'
        | '\u{ac00}'..='\u{d7a3}'
        | '\u{f900}'..='\u{faff}'
        | '\u{fe10}'..='\u{fe6f}'
        | '\u{ff00}'..='\u{ffe6}'
        | '\u{16000}'..='\u{3fffd}' => 2,
        _ => 1,
    }
}

/// Terminal columns of a text at most.
pub fn width(text: &str) -> usize {
    text.chars().map(columns).sum()
}

/// Cuts the middle out of a text that is wider than `limit` columns. Layer names differ at their ends, so the end
/// keeps two thirds.
pub fn shorten(text: &str, limit: usize) -> String {
    if width(text) <= limit {
        return text.to_owned();
    }
    let room = limit.saturating_sub(1);
    let tail = take(text.chars().rev(), room * 2 / 3 + room % 3 / 2);
    let head = take(text.chars(), room.saturating_sub(tail.chars().map(columns).sum()));
    let tail: String = tail.chars().rev().collect();
    if limit == 0 { String::new() } else { format!("{head}…{tail}") }
}

/// The first characters that fit.
fn take(text: impl Iterator<Item = char>, limit: usize) -> String {
    let mut used = 0;
    text.take_while(|&c| {
        used += columns(c);
        used <= limit
    })
    .collect()
}

/// `text` padded with blanks on the right, shortened if it is too wide.
pub fn left(text: &str, limit: usize) -> String {
    let text = shorten(text, limit);
    let blanks = limit.saturating_sub(width(&text));
    text + &" ".repeat(blanks)
}

/// `text` padded with blanks on the left, shortened if it is too wide.
pub fn right(text: &str, limit: usize) -> String {
    let text = shorten(text, limit);
    " ".repeat(limit.saturating_sub(width(&text))) + &text
}

/// Lines of at most `limit` columns, broken at blanks; a word that is too long for a line is cut into several.
pub fn wrap(text: &str, limit: usize) -> Vec<String> {
    let limit = limit.max(2);
    let mut lines = Vec::new();
    let mut line = String::new();
    for word in text.split_whitespace() {
        if !line.is_empty() && width(&line) + 1 + width(word) > limit {
            lines.push(std::mem::take(&mut line));
        }
        if !line.is_empty() {
            line.push(' ');
        }
        for c in word.chars() {
            if width(&line) + columns(c) > limit {
                lines.push(std::mem::take(&mut line));
            }
            line.push(c);
        }
    }
    if !line.is_empty() || lines.is_empty() {
        lines.push(line);
    }
    lines
}

/// The first few of a list of names; a long list does not drown what it stands in.
pub fn some_of(names: &[String], shown: usize) -> String {
    let mut text = names.iter().take(shown).map(|name| clean(name)).collect::<Vec<_>>().join(", ");
    if names.len() > shown {
        text += &format!(", and {} more", names.len() - shown);
    }
    text
}

/// A cause or status as a person writes it: `memory_bandwidth` is `memory bandwidth`.
pub fn words(key: &str) -> String {
    if key == "fill_drain" { "fill and drain".to_owned() } else { key.replace('_', " ") }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_keep_three_digits_at_every_prefix() {
        let cases = [
            (0.0, "0"),
            (999.0, "999"),
            (999.7, "1.00 k"),
            (1234.0, "1.23 k"),
            (640_000.0, "640 k"),
            (12_345_678.0, "12.3 M"),
            (0.25, "250 m"),
            (1e-9, "1.0e-9"),
            (f64::NAN, "-"),
        ];
        for (value, text) in cases {
            assert_eq!(si(value), text);
        }
        assert_eq!(thousands(u64::MAX), "18,446,744,073,709,551,615");
        assert_eq!(thousands(999), "999");
        assert_eq!(seconds(0.024_69), "24.7 ms");
        assert_eq!(bytes(512), "512 B");
        assert_eq!(bytes(3_470_000), "3.47 MB");
    }

    #[test]
    fn shortened_text_fits_and_keeps_both_ends() {
        let name = "features.3.expand.conv.weight_quantized";
        let short = shorten(name, 20);
        assert_eq!(width(&short), 20);
        assert!(short.starts_with("featur") && short.ends_with("quantized"), "{short}");
        for limit in 0..8 {
            assert!(width(&shorten("数据流数据流", limit)) <= limit);
        }
    }

    #[test]
    fn wrapping_cuts_words_that_are_longer_than_a_line() {
        let lines = wrap(&format!("short {}", "x".repeat(25)), 10);
        assert!(lines.iter().all(|line| width(line) <= 10), "{lines:?}");
        assert_eq!(lines.concat().len(), 30);
        assert_eq!(wrap("", 10), vec![String::new()]);
    }

    #[test]
    fn escape_sequences_in_names_are_defused() {
        assert_eq!(clean("a\u{1b}[31mb\n"), "a\u{fffd}[31mb\u{fffd}");
    }
}
