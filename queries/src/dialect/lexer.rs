//! Takes a template apart: text, expressions, statements, comments and raw text, and the tokens of
//! what is between the braces.

use std::ops::Range;

use serde::{Deserialize, Serialize};

/// Deeper nesting of brackets or statements is refused: Tera's parser takes four times as long for
/// each level of calls, and its renderer recurses.
const DEEPEST: usize = 8;
/// The same for statements, which cost nothing but stack.
const DEEPEST_STATEMENT: usize = 48;
/// More operators in one tag are refused: trees of them are as deep as they are many.
const MOST_OPERATORS: usize = 200;

/// A stretch of a template.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Segment {
    pub(crate) kind: Kind,
    /// All of it.
    pub(crate) range: Range<usize>,
    /// What is between the braces and their dashes.
    pub(crate) inner: Range<usize>,
}

/// What a [`Segment`] is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Kind {
    /// Goes to the output as it is.
    Text,
    /// `{{ … }}`
    Expression,
    /// `{% … %}`
    Statement,
    /// `{# … #}`
    Comment,
    /// `{% raw %} … {% endraw %}`
    Raw,
    /// A line of text that is a TOML comment, and is no template whatever it looks like.
    Shielded,
}

/// A token of an expression or statement; white space lies between tokens.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Token {
    pub(crate) kind: TokenKind,
    pub(crate) range: Range<usize>,
}

/// What a [`Token`] is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum TokenKind {
    /// A name or a word.
    Word,
    /// A string in any of Tera's three quotes.
    String,
    /// Digits, with at most one dot among them.
    Number,
    /// A sign, or two that belong together.
    Sign,
}

/// A template that cannot be taken apart, or not be rewritten.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub(crate) struct SyntaxError {
    /// Where, as a byte of the author's text.
    pub(crate) offset: usize,
    pub(crate) code: String,
    pub(crate) message: String,
    pub(crate) hint: Option<String>,
}

impl SyntaxError {
    pub(crate) fn new(offset: usize, message: impl Into<String>) -> SyntaxError {
        let code = "render/syntax".to_owned();
        SyntaxError { offset, code, message: message.into(), hint: None }
    }

    pub(crate) fn hint(self, hint: impl Into<String>) -> SyntaxError {
        SyntaxError { hint: Some(hint.into()), ..self }
    }

    pub(crate) fn code(self, code: &str) -> SyntaxError {
        SyntaxError { code: code.to_owned(), ..self }
    }
}

/// Whether a text is a template.
pub(crate) fn is_template(text: &str) -> bool {
    text.match_indices('{').any(|(at, _)| opens(text.as_bytes(), at))
}

fn opens(bytes: &[u8], at: usize) -> bool {
    bytes.get(at) == Some(&b'{') && matches!(bytes.get(at + 1), Some(b'{' | b'%' | b'#'))
}

/// The segments of a template, which together are all of it.
///
/// With `shield`, lines that are TOML comments are no part of the template.
pub(crate) fn scan(text: &str, shield: bool) -> Result<Vec<Segment>, SyntaxError> {
    let mut scanner = Scanner { text, bytes: text.as_bytes(), segments: Vec::new(), at: 0 };
    let mut plain_from = 0;
    while scanner.at < text.len() {
        if shield && let Some(end) = scanner.comment_line() {
            scanner.push_text(plain_from);
            scanner.push(Kind::Shielded, end, 0, 0);
            plain_from = scanner.at;
        } else if opens(scanner.bytes, scanner.at) {
            scanner.push_text(plain_from);
            scanner.tag()?;
            plain_from = scanner.at;
        } else {
            scanner.skip_text(shield);
        }
    }
    scanner.push_text(plain_from);
    depth_of_statements(text, &scanner.segments)?;
    Ok(scanner.segments)
}

struct Scanner<'a> {
    text: &'a str,
    bytes: &'a [u8],
    segments: Vec<Segment>,
    at: usize,
}

impl Scanner<'_> {
    fn push(&mut self, kind: Kind, end: usize, before: usize, after: usize) {
        let range = self.at..end;
        self.segments.push(Segment { kind, inner: self.at + before..end - after, range });
        self.at = end;
    }

    fn push_text(&mut self, from: usize) {
        if from < self.at {
            let range = from..self.at;
            self.segments.push(Segment { kind: Kind::Text, inner: range.clone(), range });
        }
    }

    /// Goes on to the next brace, or with `lines` to the next line.
    fn skip_text(&mut self, lines: bool) {
        if lines && self.bytes[self.at] == b'\n' {
            self.at += 1;
            return;
        }
        let rest = &self.bytes[self.at + 1..];
        let next = rest.iter().position(|byte| *byte == b'{' || (lines && *byte == b'\n'));
        self.at = next.map_or(self.bytes.len(), |next| self.at + 1 + next);
    }

    /// The end of the line that begins here, if it is a TOML comment.
    fn comment_line(&self) -> Option<usize> {
        let begins = self.at == 0 || self.bytes[self.at - 1] == b'\n';
        let line = begins.then(|| self.text[self.at..].split_inclusive('\n').next())??;
        line.trim_start().starts_with('#').then_some(self.at + line.len())
    }

    fn tag(&mut self) -> Result<(), SyntaxError> {
        let (start, sign) = (self.at, self.bytes[self.at + 1]);
        let dash = usize::from(self.bytes.get(start + 2) == Some(&b'-'));
        let body = start + 2 + dash;
        if sign == b'#' {
            let end = self.text[body..].find("#}").ok_or_else(|| unclosed(start, "comment"))?;
            let end = body + end;
            let last = usize::from(end > body && self.bytes[end - 1] == b'-');
            self.push(Kind::Comment, end + 2, 2 + dash, 2 + last);
            return Ok(());
        }
        let (kind, closing) =
            if sign == b'{' { (Kind::Expression, b'}') } else { (Kind::Statement, b'%') };
        let end = self.end_of_tag(start, body, closing)?;
        let last = usize::from(end > body && self.bytes[end - 1] == b'-');
        if kind == Kind::Statement && self.text[body..end - last].trim() == "raw" {
            return self.raw(start, end + 2);
        }
        self.push(kind, end + 2, 2 + dash, 2 + last);
        Ok(())
    }

    /// Where the tag that began at `start` closes: at a sign and a brace outside of strings and
    /// brackets.
    fn end_of_tag(&self, start: usize, body: usize, closing: u8) -> Result<usize, SyntaxError> {
        let what = if closing == b'}' { "`{{`" } else { "`{%`" };
        let (mut at, mut depth, mut braces) = (body, 0usize, 0usize);
        while let Some(byte) = self.bytes.get(at) {
            match byte {
                b'"' | b'\'' | b'`' => {
                    let string = &self.bytes[at + 1..];
                    let end = string.iter().position(|b| b == byte);
                    at += end.ok_or_else(|| unclosed(at, "string"))? + 1;
                }
                _ if braces == 0 && *byte == closing && self.bytes.get(at + 1) == Some(&b'}') => {
                    return Ok(at);
                }
                b'(' | b'[' | b'{' => {
                    depth += 1;
                    braces += usize::from(*byte == b'{');
                    if depth > DEEPEST {
                        let message = format!("brackets are nested more than {DEEPEST} deep");
                        return Err(SyntaxError::new(at, message)
                            .code("render/too-deep")
                            .hint("give parts of it names with `{% set … %}`"));
                    }
                }
                b')' | b']' => depth = depth.saturating_sub(1),
                b'}' => {
                    depth = depth.saturating_sub(1);
                    braces = braces.saturating_sub(1);
                }
                _ => {}
            }
            at += 1;
        }
        Err(unclosed(start, what))
    }

    fn raw(&mut self, start: usize, body: usize) -> Result<(), SyntaxError> {
        let mut from = body;
        while let Some(found) = self.text[from..].find("{%") {
            let open = from + found;
            let Some(close) = self.text[open + 2..].find("%}") else { break };
            let inner = self.text[open + 2..open + 2 + close].trim_matches('-').trim();
            if inner == "endraw" {
                self.push(Kind::Raw, open + close + 4, body - start, close + 4);
                return Ok(());
            }
            from = open + 2;
        }
        Err(unclosed(start, "`{% raw %}`"))
    }
}

fn unclosed(at: usize, what: &str) -> SyntaxError {
    SyntaxError::new(at, format!("this {what} is not closed"))
}

/// Refuses statements within statements without end.
fn depth_of_statements(text: &str, segments: &[Segment]) -> Result<(), SyntaxError> {
    let mut depth = 0usize;
    for segment in segments.iter().filter(|segment| segment.kind == Kind::Statement) {
        let inner = text[segment.inner.clone()].trim_start();
        let word = inner.split(|c: char| !c.is_ascii_alphanumeric() && c != '_').next();
        match word.unwrap_or_default() {
            "if" | "for" | "filter" | "block" | "macro" => depth += 1,
            word if word.starts_with("end") => depth = depth.saturating_sub(1),
            _ => {}
        }
        if depth > DEEPEST_STATEMENT {
            let message = format!("statements are nested more than {DEEPEST_STATEMENT} deep");
            let error = SyntaxError::new(segment.range.start, message);
            return Err(error.code("render/too-deep"));
        }
    }
    Ok(())
}

/// The tokens of an expression or statement.
pub(crate) fn tokens(text: &str, segment: &Segment) -> Result<Vec<Token>, SyntaxError> {
    let (bytes, mut at, end) = (text.as_bytes(), segment.inner.start, segment.inner.end);
    let (mut tokens, mut operators) = (Vec::new(), 0);
    while at < end {
        let start = at;
        let run = |at: usize, of: fn(&u8) -> bool| {
            at + bytes[at..end].iter().position(|byte| !of(byte)).unwrap_or(end - at)
        };
        let kind = match bytes[at] {
            byte if byte.is_ascii_whitespace() => {
                at += 1;
                continue;
            }
            quote @ (b'"' | b'\'' | b'`') => {
                let closing = bytes[at + 1..end].iter().position(|byte| *byte == quote);
                at += closing.ok_or_else(|| unclosed(at, "string"))? + 2;
                TokenKind::String
            }
            byte if byte.is_ascii_alphabetic() || byte == b'_' => {
                at = run(at, |byte| byte.is_ascii_alphanumeric() || *byte == b'_');
                operators += usize::from(matches!(&text[start..at], "and" | "or" | "not"));
                TokenKind::Word
            }
            byte if byte.is_ascii_digit() => {
                at = run(at, u8::is_ascii_digit);
                if bytes.get(at) == Some(&b'.') && bytes.get(at + 1).is_some_and(u8::is_ascii_digit)
                {
                    at = run(at + 1, u8::is_ascii_digit);
                }
                TokenKind::Number
            }
            _ => {
                let two = text.get(at..at + 2).filter(|_| at + 2 <= end);
                let two = two.filter(|two| ["::", "==", "!=", "<=", ">="].contains(two));
                let one = text[at..].chars().next().map_or(1, char::len_utf8);
                at += if two.is_some() { 2 } else { one };
                // A single `=` names an argument.
                let is_operator = two.is_some_and(|two| two != "::")
                    || (two.is_none() && b"+-*/%~|<>".contains(&bytes[start]));
                operators += usize::from(is_operator);
                TokenKind::Sign
            }
        };
        tokens.push(Token { kind, range: start..at });
    }
    if operators > MOST_OPERATORS {
        let message = format!("more than {MOST_OPERATORS} operators in one tag");
        return Err(SyntaxError::new(segment.range.start, message).code("render/too-deep"));
    }
    Ok(tokens)
}
