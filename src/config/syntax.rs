//! A reader of RON text that keeps where everything stands. It is more lenient than the `ron` crate, which decides
//! what is accepted; this one finds the places of fields for diagnostics, and reads the values of overrides.
//! Bounded in depth, linear in the text.

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
            Some(c) if c.is_ascii_digit() || matches!(c, '+' | '-' | '.') => (None, Body::Scalar(self.number()?)),
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
        let mut text = String::new();
        while let Some(c) = self.peek() {
            self.at += c.len_utf8();
            match c {
                '"' => return Ok(text),
                '\\' => {
                    if let Some(escaped) = self.peek() {
                        self.at += escaped.len_utf8();
                        text.push(match escaped {
                            'n' => '\n',
                            't' => '\t',
                            other => other,
                        });
                    }
                }
                c => text.push(c),
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

    fn number(&mut self) -> Result<Value, SyntaxError> {
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
        let token = self.text[start..self.at].replace('_', "");
        let radix = |prefix: &str, radix| token.strip_prefix(prefix).map(|digits| u64::from_str_radix(digits, radix));
        let integer = radix("0x", 16)
            .or_else(|| radix("0b", 2))
            .or_else(|| radix("0o", 8))
            .unwrap_or_else(|| token.trim_start_matches('+').parse::<u64>());
        if let Ok(value) = integer {
            return Ok(value.into());
        }
        if let Ok(value) = token.parse::<i64>() {
            return Ok(value.into());
        }
        if let Ok(value) = token.parse::<f64>() {
            return Ok(serde_json::Number::from_f64(value).map_or(Value::Null, Value::Number));
        }
        let message = format!("expected a number, found `{}`", token.chars().take(40).collect::<String>());
        Err(SyntaxError { span: start..self.at.max(start + 1), message, beyond_limits: false })
    }
}

impl Node {
    /// One step down a path: into a field, an item, or the contents of the variant of that name.
    fn step(&self, segment: &str) -> Option<&Self> {
        if self.name.as_deref() == Some(segment) {
            return Some(match &self.body {
                Body::Tuple(items) if items.len() == 1 => &items[0],
                _ => self,
            });
        }
        match &self.body {
            Body::Fields(fields) => fields.iter().find(|entry| entry.key == segment).map(|entry| &entry.value),
            Body::Tuple(items) | Body::List(items) => items.get(segment.parse::<usize>().ok()?),
            Body::Name | Body::Scalar(_) => None,
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
            Body::Name | Body::Scalar(_) => self.span.clone(),
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
        for (text, place) in [("(a: 1", 5), ("(a: 1 b: 2)", 6), ("(a: 1e)", 4), ("", 0), ("(a: \"x", 4), ("(a: /* ", 4)]
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
    }
}
