//! A reader of RON text that keeps where everything stands, for configs and the values of overrides. It knows no field;
//! names in front of structs are read and mean nothing. Bounded in depth, linear in the text.

use std::ops::Range;

use serde_json::Value;

use super::fields::{MAX_DEPTH, MAX_VALUES};

/// A value and where it stands.
#[derive(Debug)]
pub struct Node {
    /// The bytes of the whole value, its name included.
    pub span: Range<usize>,
    /// The name in front of the parentheses, or the bare name.
    pub name: Option<String>,
    /// What follows.
    pub body: Body,
}

/// What a value is.
#[derive(Debug)]
pub enum Body {
    /// A bare name: `WS`.
    Name,
    /// A number, a text or a truth value; `null` for a number that JSON does not have (infinite or not a number).
    Scalar(Value),
    /// What begins like a number and is none, as people write sizes: `128KiB`, `128 * 1024`.
    Odd(String),
    /// `(name: value, ...)`.
    Fields(Vec<Entry>),
    /// `(value, ...)`.
    Tuple(Vec<Node>),
    /// `[value, ...]`.
    List(Vec<Node>),
}

/// One named field.
#[derive(Debug)]
pub struct Entry {
    /// Its name.
    pub key: String,
    /// The bytes of its name.
    pub key_span: Range<usize>,
    /// Its value.
    pub value: Node,
}

/// Why a text could not be read.
#[derive(Debug)]
pub struct SyntaxError {
    /// Where.
    pub span: Range<usize>,
    /// What was expected there.
    pub message: String,
    /// Whether the text is well formed so far, but deeper or longer than allowed.
    pub beyond_limits: bool,
}

/// Reads one value that fills the whole text, comments and `#![enable(...)]` aside.
///
/// # Errors
/// The first place at which the text is not RON, or is nested deeper than `MAX_DEPTH`, or has more than
/// `MAX_VALUES` values.
pub fn parse(text: &str) -> Result<Node, SyntaxError> {
    let mut reader = Reader { text, at: 0, values: 0 };
    reader.skip_attributes()?;
    let node = reader.value(0)?;
    reader.space()?;
    if reader.at < text.len() {
        return Err(reader.fault("expected nothing after the last parenthesis"));
    }
    Ok(node)
}

struct Reader<'text> {
    text: &'text str,
    at: usize,
    values: usize,
}

const fn in_name(c: char) -> bool {
    c.is_ascii_alphanumeric() || c == '_'
}

impl<'text> Reader<'text> {
    fn rest(&self) -> &'text str {
        self.text.get(self.at..).unwrap_or("")
    }

    fn peek(&self) -> Option<char> {
        self.rest().chars().next()
    }

    fn take(&mut self, token: &str) -> bool {
        let found = self.rest().starts_with(token);
        if found {
            self.at += token.len();
        }
        found
    }

    fn take_while(&mut self, keep: impl Fn(char) -> bool) -> &'text str {
        let rest = self.rest();
        let length = rest.find(|c| !keep(c)).unwrap_or(rest.len());
        self.at += length;
        &rest[..length]
    }

    fn fault(&self, message: impl Into<String>) -> SyntaxError {
        let length = self.peek().map_or(0, char::len_utf8);
        let at = self.at.min(self.text.len());
        let found =
            self.peek().map_or_else(|| "the end of the text".to_owned(), |c| format!("`{}`", c.escape_default()));
        SyntaxError {
            span: at..at + length,
            message: format!("{}, found {found}", message.into()),
            beyond_limits: false,
        }
    }

    /// Skips white space and comments.
    fn space(&mut self) -> Result<(), SyntaxError> {
        loop {
            self.take_while(char::is_whitespace);
            if self.take("//") {
                self.take_while(|c| c != '\n');
            } else if self.rest().starts_with("/*") {
                let start = self.at;
                let mut level = 0_usize;
                loop {
                    if self.take("/*") {
                        level += 1;
                    } else if self.take("*/") {
                        level -= 1;
                        if level == 0 {
                            break;
                        }
                    } else if let Some(c) = self.peek() {
                        self.at += c.len_utf8();
                    } else {
                        let message = "expected `*/` at the end of this comment".to_owned();
                        return Err(SyntaxError { span: start..start + 2, message, beyond_limits: false });
                    }
                }
            } else {
                return Ok(());
            }
        }
    }

    fn skip_attributes(&mut self) -> Result<(), SyntaxError> {
        self.space()?;
        while self.rest().starts_with("#!") {
            let Some(end) = self.rest().find(']') else {
                return Err(self.fault("expected `#![enable(...)]`"));
            };
            self.at += end + 1;
            self.space()?;
        }
        Ok(())
    }

    fn value(&mut self, depth: usize) -> Result<Node, SyntaxError> {
        self.values += 1;
        let limit = match (depth > MAX_DEPTH, self.values > MAX_VALUES) {
            (true, _) => Some(format!("nested deeper than {MAX_DEPTH} levels")),
            (_, true) => Some(format!("more than {MAX_VALUES} values")),
            _ => None,
        };
        if let Some(message) = limit {
            return Err(SyntaxError { span: self.at..self.at, message, beyond_limits: true });
        }
        self.space()?;
        let start = self.at;
        let (name, body) = match self.peek() {
            Some('(') => (None, self.parentheses(depth)?),
            Some('[') => (None, Body::List(self.list(depth)?)),
            Some('"') => (None, Body::Scalar(Value::String(self.string()?))),
            Some('r') if self.raw_string_ahead() => (None, Body::Scalar(Value::String(self.raw_string()?))),
            Some(c) if c.is_ascii_digit() || matches!(c, '+' | '-' | '.') => (None, self.number()),
            Some(c) if c.is_ascii_alphabetic() || c == '_' => self.named(depth)?,
            _ => return Err(self.fault("expected a value")),
        };
        Ok(Node { span: start..self.at, name, body })
    }

    fn named(&mut self, depth: usize) -> Result<(Option<String>, Body), SyntaxError> {
        let name = self.take_while(in_name);
        match name {
            "true" | "false" => return Ok((None, Body::Scalar(Value::Bool(name == "true")))),
            "inf" | "NaN" | "nan" | "infinity" => return Ok((None, Body::Scalar(Value::Null))),
            _ => {}
        }
        let end = self.at;
        self.space()?;
        if self.peek() == Some('(') {
            return Ok((Some(name.to_owned()), self.parentheses(depth)?));
        }
        self.at = end;
        Ok((Some(name.to_owned()), Body::Name))
    }

    /// After a value: a comma, or the closing token, which is left.
    fn separator(&mut self, close: char, after: &str) -> Result<(), SyntaxError> {
        self.space()?;
        if self.take(",") || self.peek() == Some(close) {
            return Ok(());
        }
        Err(self.fault(format!("expected `,` or `{close}` after {after}")))
    }

    fn parentheses(&mut self, depth: usize) -> Result<Body, SyntaxError> {
        self.take("(");
        let mut fields = Vec::new();
        let mut items = Vec::new();
        loop {
            self.space()?;
            if self.take(")") {
                break;
            }
            match self.key()? {
                Some((key, key_span)) if items.is_empty() => {
                    let value = self.value(depth + 1)?;
                    self.separator(')', &format!("the value of `{key}`"))?;
                    fields.push(Entry { key, key_span, value });
                }
                None if fields.is_empty() => {
                    items.push(self.value(depth + 1)?);
                    self.separator(')', "this value")?;
                }
                _ => return Err(self.fault("expected `name: value`")),
            }
        }
        Ok(if items.is_empty() { Body::Fields(fields) } else { Body::Tuple(items) })
    }

    /// `name:`, if that is what comes.
    fn key(&mut self) -> Result<Option<(String, Range<usize>)>, SyntaxError> {
        let start = self.at;
        self.take("r#");
        let name = self.take_while(in_name).to_owned();
        let span = start..self.at;
        self.space()?;
        if !name.is_empty() && !name.starts_with(|c: char| c.is_ascii_digit()) && self.take(":") {
            return Ok(Some((name, span)));
        }
        self.at = start;
        Ok(None)
    }

    fn list(&mut self, depth: usize) -> Result<Vec<Node>, SyntaxError> {
        self.take("[");
        let mut items = Vec::new();
        loop {
            self.space()?;
            if self.take("]") {
                return Ok(items);
            }
            items.push(self.value(depth + 1)?);
            self.separator(']', "this value")?;
        }
    }

    fn string(&mut self) -> Result<String, SyntaxError> {
        let start = self.at;
        self.take("\"");
        while let Some(c) = self.peek() {
            self.at += c.len_utf8();
            match c {
                '"' => {
                    let quoted = &self.text[start..self.at];
                    return ron::from_str(quoted).map_err(|error| SyntaxError {
                        span: start..self.at,
                        message: format!("expected a text: {}", error.code),
                        beyond_limits: false,
                    });
                }
                '\\' => self.at += self.peek().map_or(0, char::len_utf8),
                _ => {}
            }
        }
        let message = "expected `\"` at the end of this text".to_owned();
        Err(SyntaxError { span: start..start + 1, message, beyond_limits: false })
    }

    fn raw_string_ahead(&self) -> bool {
        self.rest()[1..].trim_start_matches('#').starts_with('"')
    }

    fn raw_string(&mut self) -> Result<String, SyntaxError> {
        self.take("r");
        let hashes = self.take_while(|c| c == '#');
        self.take("\"");
        let close = format!("\"{hashes}");
        let Some(length) = self.rest().find(&close) else {
            return Err(self.fault("expected the end of a raw text"));
        };
        let text = self.rest()[..length].to_owned();
        self.at += length + close.len();
        Ok(text)
    }

    fn number(&mut self) -> Body {
        let start = self.at;
        let mut previous = ' ';
        let rest = self.rest();
        let hexadecimal = rest.starts_with("0x");
        for c in rest.chars() {
            let sign = matches!(c, '+' | '-') && (self.at == start || (!hexadecimal && matches!(previous, 'e' | 'E')));
            if !(in_name(c) || c == '.' || sign) {
                break;
            }
            previous = c;
            self.at += c.len_utf8();
        }
        if self.goes_on() {
            self.take_while(|c| !matches!(c, ',' | ')' | ']' | '/' | '\n'));
            return Body::Odd(self.text[start..self.at].trim_end().to_owned());
        }
        let written = &self.text[start..self.at];
        let token = written.replace('_', "");
        let radix = |prefix: &str, radix| token.strip_prefix(prefix).map(|digits| u64::from_str_radix(digits, radix));
        let integer = radix("0x", 16)
            .or_else(|| radix("0b", 2))
            .or_else(|| radix("0o", 8))
            .unwrap_or_else(|| token.trim_start_matches('+').parse::<u64>());
        if let Ok(value) = integer {
            return Body::Scalar(value.into());
        }
        if let Ok(value) = token.parse::<i64>() {
            return Body::Scalar(value.into());
        }
        if let Ok(value) = token.parse::<f64>() {
            return Body::Scalar(serde_json::Number::from_f64(value).map_or(Value::Null, Value::Number));
        }
        Body::Odd(written.to_owned())
    }

    /// Whether a number is followed by an operator or a unit on its line.
    fn goes_on(&self) -> bool {
        let rest = self.rest().trim_start_matches([' ', '\t']);
        let word = &rest[..rest.find(|c| !in_name(c)).unwrap_or(rest.len())];
        let unit = !word.is_empty() && factor_of_unit(word, 1024).is_some() && !rest[word.len()..].starts_with(':');
        unit || rest.starts_with('*') || rest.starts_with("<<")
    }
}

/// Bytes of a unit, with so many in a kilobyte.
fn factor_of_unit(unit: &str, kilobyte: u64) -> Option<u64> {
    Some(match unit.to_ascii_lowercase().as_str() {
        "" | "b" => 1,
        "k" | "kib" => 1 << 10,
        "m" | "mib" => 1 << 20,
        "g" | "gib" => 1 << 30,
        "kb" => kilobyte,
        "mb" => kilobyte.pow(2),
        "gb" => kilobyte.pow(3),
        _ => return None,
    })
}

/// What a product, a shift or a number with a unit of bytes comes to, with so many bytes in a kilobyte: `128 * 1024`,
/// `1 << 17` and `128KiB` are 131,072. `None` for anything else.
pub fn worth(text: &str, kilobyte: u64) -> Option<u64> {
    if let Some((value, shift)) = text.split_once("<<") {
        let power = 1_u64.checked_shl(shift.trim().parse().ok()?)?;
        return worth(value, kilobyte)?.checked_mul(power);
    }
    text.split('*').try_fold(1_u64, |product, factor| {
        let factor = factor.trim();
        let unit = factor.find(|c: char| c.is_ascii_alphabetic()).unwrap_or(factor.len());
        let number: u64 = factor[..unit].trim_end().replace('_', "").parse().ok()?;
        product.checked_mul(number)?.checked_mul(factor_of_unit(&factor[unit..], kilobyte)?)
    })
}

impl Node {
    /// One step down a path: into a field, an item, or the contents of the variant of that name.
    fn step(&self, segment: &str) -> Option<&Self> {
        if self.name.as_deref().is_some_and(|name| name.eq_ignore_ascii_case(segment)) {
            return Some(match &self.body {
                Body::Tuple(items) if items.len() == 1 => &items[0],
                _ => self,
            });
        }
        match &self.body {
            Body::Fields(fields) => fields.iter().find(|entry| entry.key == segment).map(|entry| &entry.value),
            Body::Tuple(items) | Body::List(items) => items.get(segment.parse::<usize>().ok()?),
            Body::Name | Body::Scalar(_) | Body::Odd(_) => None,
        }
    }

    /// Where a dotted path stands: the range of the deepest part of it that the text has. Segments are field
    /// names, list positions and names of variants.
    pub fn locate(&self, path: &str) -> Range<usize> {
        let mut node = self;
        for segment in path.split('.').filter(|segment| !segment.is_empty()) {
            let Some(next) = node.step(segment) else { break };
            node = next;
        }
        node.head()
    }

    /// Where the name of a field stands inside the group at `path`.
    pub fn locate_key(&self, path: &str, key: &str) -> Option<Range<usize>> {
        let mut node = self;
        for segment in path.split('.').filter(|segment| !segment.is_empty()) {
            node = node.step(segment)?;
        }
        match &node.body {
            Body::Fields(fields) => {
                fields.iter().rev().find(|entry| entry.key == key).map(|entry| entry.key_span.clone())
            }
            _ => None,
        }
    }

    /// The value itself where it holds no others, else its name or opening parenthesis.
    fn head(&self) -> Range<usize> {
        match &self.body {
            Body::Name | Body::Scalar(_) | Body::Odd(_) => self.span.clone(),
            _ => self.span.start..self.span.start + self.name.as_ref().map_or(1, String::len),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const TEXT: &str = "(a: 1, /* c */ b: Shared((x: 2.5, y: [WS, (Add, 3)])), // end\n c: \"t\")";

    fn at(path: &str) -> &'static str {
        let node = parse(TEXT).unwrap();
        &TEXT[node.locate(path)]
    }

    #[test]
    fn a_path_leads_to_its_place_in_the_text() {
        assert_eq!(at("a"), "1");
        assert_eq!(at("b.Shared.x"), "2.5");
        assert_eq!(at("b.Shared.y.0"), "WS");
        assert_eq!(at("b.Shared.y.1.1"), "3");
        assert_eq!(at("c"), "\"t\"");
    }

    #[test]
    fn a_path_that_the_text_lacks_leads_to_its_parent() {
        let node = parse(TEXT).unwrap();
        assert_eq!(&TEXT[node.locate("b.Shared.z")], "(");
        assert_eq!(&TEXT[node.locate("b.Other.z")], "Shared");
        assert_eq!(node.locate_key("b.Shared", "y").map(|range| &TEXT[range]), Some("y"));
        assert_eq!(node.locate_key("b.Shared", "z"), None);
    }

    #[test]
    fn nesting_and_broken_text_are_errors_with_a_place() {
        assert!(parse(&"(".repeat(100_000)).unwrap_err().beyond_limits);
        assert!(parse(&"[".repeat(100_000)).unwrap_err().beyond_limits);
        for (text, place) in
            [("(a: 1", 5), ("(a: 1 b: 2)", 6), ("", 0), ("(a: \"x", 4), ("(a: \"\\q\")", 4), ("(a: /* ", 4)]
        {
            assert_eq!(parse(text).unwrap_err().span.start, place, "{text}");
        }
    }

    #[test]
    fn numbers_are_read_as_ron_does() {
        let scalar = |text: &str| match parse(text).unwrap().body {
            Body::Scalar(value) => value,
            other => panic!("{other:?}"),
        };
        assert_eq!(scalar("1_000"), 1000);
        assert_eq!(scalar("0xff"), 255);
        assert_eq!(scalar("-3"), -3);
        assert_eq!(scalar("1e3"), 1000.0);
        assert_eq!(scalar("inf"), Value::Null);
        assert_eq!(scalar("1e999"), Value::Null);
        assert_eq!(scalar("-inf"), Value::Null);
        assert_eq!(scalar("\"caf\\u{e9} \\x41\\n\""), "caf\u{e9} A\n");
    }

    #[test]
    fn sizes_as_people_write_them_are_read_and_understood() {
        for (text, bytes) in [
            ("128KiB", 131_072),
            ("128 KiB", 131_072),
            ("128kb", 131_072),
            ("128 * 1024", 131_072),
            ("1 << 17", 131_072),
            ("2*64K", 131_072),
            ("1_0 MiB", 10 << 20),
        ] {
            let Body::Odd(written) = parse(&format!("{text} // why")).unwrap().body else { panic!("{text}") };
            assert_eq!((written.as_str(), worth(&written, 1024)), (text, Some(bytes)));
        }
        assert_eq!(worth("128kB", 1000), Some(128_000));
        for text in ["", "x", "1 +", "1 << 64", "1 * ", "3 elephants", "18446744073709551615 * 2"] {
            assert_eq!(worth(text, 1024), None, "{text}");
        }
        // A comma that is missing is still told as that.
        assert!(parse("(a: 1 bits: 2)").is_err() && parse("(a: 1\n k: 2)").is_err());
    }
}
