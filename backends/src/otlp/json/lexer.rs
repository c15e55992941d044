//! JSON taken apart where it lies, one token after another. Text that is not Unicode is a token as
//! well, so that it costs a value and not the request.

use std::borrow::Cow;

use super::number;

/// As deep as objects and lists may lie in each other.
const MAX_DEPTH: usize = 128;

/// The beginning of a value, or all of it.
#[derive(Debug)]
pub(super) enum Token<'a> {
    Null,
    Bool(bool),
    /// As it is written. `NaN`, `Infinity` and `-Infinity` count, though JSON has no such numbers.
    Number(&'a str),
    /// Without escapes; `None` when it is not Unicode.
    Text(Option<Cow<'a, str>>),
    /// The fields follow: see [`Lexer::key`].
    Object,
    /// The items follow: see [`Lexer::item`].
    List,
}

/// Where and why a body is not JSON.
#[derive(Debug)]
pub(super) struct Malformed {
    pub(super) reason: String,
    pub(super) at: usize,
}

pub(super) struct Lexer<'a> {
    body: &'a [u8],
    at: usize,
    depth: usize,
    /// True directly after the start of an object or a list.
    fresh: bool,
    /// Objects and lists so far.
    pub(super) parts: usize,
}

impl<'a> Lexer<'a> {
    pub(super) fn new(body: &'a [u8]) -> Lexer<'a> {
        let at = if body.starts_with(b"\xef\xbb\xbf") { 3 } else { 0 };
        Lexer { body, at, depth: 0, fresh: false, parts: 0 }
    }

    /// The next token.
    pub(super) fn token(&mut self) -> Result<Token<'a>, Malformed> {
        self.skip_space();
        match self.peek() {
            Some(b'{') => self.open(Token::Object),
            Some(b'[') => self.open(Token::List),
            Some(b'"') => self.text().map(Token::Text),
            Some(b'-' | b'0'..=b'9' | b'N' | b'I') => self.number(),
            Some(_) if self.eat(b"null") => Ok(Token::Null),
            Some(_) if self.eat(b"true") => Ok(Token::Bool(true)),
            Some(_) if self.eat(b"false") => Ok(Token::Bool(false)),
            _ => self.malformed("expected a value"),
        }
    }

    /// The next field's key in the object that was opened last; `None` at its end. The field's
    /// value must be read before the next key.
    pub(super) fn key(&mut self) -> Result<Option<Cow<'a, str>>, Malformed> {
        if !self.more(b'}', "expected `,` or `}`")? {
            return Ok(None);
        }
        self.skip_space();
        if self.peek() != Some(b'"') {
            return self.malformed("expected a key");
        }
        let key = self.text()?.unwrap_or_default();
        self.skip_space();
        if !self.eat(b":") {
            return self.malformed("expected `:`");
        }
        Ok(Some(key))
    }

    /// Returns true if the innermost open list has another item. The caller must then read that item.
    pub(super) fn item(&mut self) -> Result<bool, Malformed> {
        self.more(b']', "expected `,` or `]`")
    }

    /// Takes a `null`, if one is next.
    pub(super) fn null(&mut self) -> bool {
        self.skip_space();
        self.eat(b"null")
    }

    /// Reads what remains of a value that began with `token`.
    pub(super) fn skip(&mut self, token: &Token<'_>) -> Result<(), Malformed> {
        match token {
            Token::Object => {
                while self.key()?.is_some() {
                    let value = self.token()?;
                    self.skip(&value)?;
                }
            }
            Token::List => {
                while self.item()? {
                    let value = self.token()?;
                    self.skip(&value)?;
                }
            }
            _ => {}
        }
        Ok(())
    }

    /// Makes sure that nothing follows.
    pub(super) fn end(&mut self) -> Result<(), Malformed> {
        self.skip_space();
        if self.peek().is_some() { self.malformed("expected nothing more") } else { Ok(()) }
    }

    pub(super) fn malformed<T>(&self, reason: &str) -> Result<T, Malformed> {
        Err(Malformed { reason: reason.to_owned(), at: self.at })
    }

    fn open(&mut self, token: Token<'a>) -> Result<Token<'a>, Malformed> {
        self.at += 1;
        self.depth += 1;
        self.parts += 1;
        self.fresh = true;
        if self.depth > MAX_DEPTH {
            return self.malformed("objects and lists are nested too deeply");
        }
        Ok(token)
    }

    /// Returns true if another entry follows, false after it has read `close`.
    fn more(&mut self, close: u8, expected: &str) -> Result<bool, Malformed> {
        self.skip_space();
        let fresh = std::mem::take(&mut self.fresh);
        if self.eat(&[close]) {
            self.depth -= 1;
            return Ok(false);
        }
        if fresh || self.eat(b",") { Ok(true) } else { self.malformed(expected) }
    }

    fn number(&mut self) -> Result<Token<'a>, Malformed> {
        let begin = self.at;
        let is_part = |byte: &u8| byte.is_ascii_alphanumeric() || b"+-.".contains(byte);
        let length = self.body[begin..].iter().take_while(|byte| is_part(byte)).count();
        self.at += length;
        let text = std::str::from_utf8(&self.body[begin..self.at]).unwrap_or_default();
        let named = ["NaN", "Infinity", "-Infinity"].contains(&text);
        if named || number::is_number(text) {
            Ok(Token::Number(text))
        } else {
            self.at = begin;
            self.malformed("expected a number")
        }
    }

    /// A text from its opening quote to its closing one.
    fn text(&mut self) -> Result<Option<Cow<'a, str>>, Malformed> {
        self.at += 1;
        let plain = self.plain_text()?;
        if self.eat(b"\"") {
            return Ok(std::str::from_utf8(plain).ok().map(Cow::Borrowed));
        }
        let (mut bytes, mut is_unicode) = (plain.to_vec(), true);
        while !self.eat(b"\"") {
            self.at += 1; // the backslash
            match self.escaped()? {
                Some(character) => {
                    bytes.extend_from_slice(character.encode_utf8(&mut [0; 4]).as_bytes());
                }
                None => is_unicode = false,
            }
            bytes.extend_from_slice(self.plain_text()?);
        }
        Ok(String::from_utf8(bytes).ok().filter(|_| is_unicode).map(Cow::Owned))
    }

    /// Text up to a quote or a backslash.
    fn plain_text(&mut self) -> Result<&'a [u8], Malformed> {
        let rest = &self.body[self.at..];
        let Some(length) = rest.iter().position(|&byte| matches!(byte, b'"' | b'\\' | 0..0x20))
        else {
            self.at = self.body.len();
            return self.malformed("a text does not end");
        };
        self.at += length;
        if rest[length] < 0x20 {
            return self.malformed("a control character in a text");
        }
        Ok(&rest[..length])
    }

    /// The character of an escape; `None` when it is half a surrogate pair.
    fn escaped(&mut self) -> Result<Option<char>, Malformed> {
        let escape = self.peek();
        self.at += 1;
        Ok(Some(match escape {
            Some(plain @ (b'"' | b'\\' | b'/')) => char::from(plain),
            Some(b'b') => '\u{8}',
            Some(b'f') => '\u{c}',
            Some(b'n') => '\n',
            Some(b'r') => '\r',
            Some(b't') => '\t',
            Some(b'u') => return self.unit().and_then(|unit| self.character(unit)),
            _ => return self.malformed("expected an escape"),
        }))
    }

    fn character(&mut self, unit: u32) -> Result<Option<char>, Malformed> {
        if !(0xd800..0xdc00).contains(&unit) || !self.body[self.at..].starts_with(b"\\u") {
            return Ok(char::from_u32(unit));
        }
        let before = self.at;
        self.at += 2;
        let low = self.unit()?;
        if (0xdc00..0xe000).contains(&low) {
            return Ok(char::from_u32(0x1_0000 + ((unit - 0xd800) << 10) + (low - 0xdc00)));
        }
        self.at = before;
        Ok(None)
    }

    /// Four hex digits.
    fn unit(&mut self) -> Result<u32, Malformed> {
        let digits = self.body.get(self.at..self.at + 4);
        let digits = digits.filter(|digits| digits.iter().all(u8::is_ascii_hexdigit));
        let text = digits.and_then(|digits| std::str::from_utf8(digits).ok());
        let Some(unit) = text.and_then(|text| u32::from_str_radix(text, 16).ok()) else {
            return self.malformed("expected four hex digits");
        };
        self.at += 4;
        Ok(unit)
    }

    fn peek(&self) -> Option<u8> {
        self.body.get(self.at).copied()
    }

    fn eat(&mut self, word: &[u8]) -> bool {
        let found = self.body.get(self.at..).is_some_and(|rest| rest.starts_with(word));
        self.at += if found { word.len() } else { 0 };
        found
    }

    fn skip_space(&mut self) {
        while let Some(b' ' | b'\t' | b'\n' | b'\r') = self.peek() {
            self.at += 1;
        }
    }
}
