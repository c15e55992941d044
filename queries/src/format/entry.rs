//! A key with its value, as it is written.

use std::borrow::Cow;

use toml_parser::parser::{Event, EventKind, RecursionGuard, ValidateWhitespace, parse_document};
use toml_parser::{ParseError, Source};

/// Deeper nesting is no TOML for `toml_edit`, either.
const DEEPEST: u32 = 80;

/// A key with its value.
pub(super) struct Entry<'a> {
    /// Its parts, between dots.
    pub(super) key: Vec<Key<'a>>,
    pub(super) value: Value<'a>,
    /// What follows on the line of the value.
    pub(super) rest: &'a str,
}

/// A part of a key.
pub(super) struct Key<'a> {
    pub(super) name: Cow<'a, str>,
    pub(super) written: &'a str,
}

/// A value.
pub(super) enum Value<'a> {
    /// A string, a number, a time or a boolean.
    Scalar(&'a str),
    Array(Array<'a>),
    Table(Table<'a>),
}

/// An array, and what is written between its items: blanks, line breaks and comments.
pub(super) struct Array<'a> {
    pub(super) items: Vec<Item<'a>>,
    /// After the last comma.
    pub(super) rest: &'a str,
    /// Whether a line ends between its items.
    pub(super) is_broken: bool,
}

/// An item of an array.
pub(super) struct Item<'a> {
    /// After the comma before it.
    pub(super) before: &'a str,
    pub(super) value: Value<'a>,
    /// Before the comma after it.
    pub(super) after: &'a str,
}

/// An inline table.
pub(super) struct Table<'a> {
    pub(super) entries: Vec<(Vec<Key<'a>>, Value<'a>)>,
    pub(super) written: &'a str,
    /// Whether a line ends between its entries.
    pub(super) is_broken: bool,
}

impl<'a> Entry<'a> {
    /// `None` when the text is something else. Of its values no more is known than that they look
    /// like some.
    pub(super) fn read(text: &'a str) -> Option<Entry<'a>> {
        let source = Source::new(text);
        let (mut events, mut error) = (Vec::<Event>::new(), None::<ParseError>);
        let mut sound = ValidateWhitespace::new(&mut events, source);
        let mut receiver = RecursionGuard::new(&mut sound, DEEPEST);
        parse_document(&source.lex().into_vec(), &mut receiver, &mut error);
        let mut reader = Reader { source, events: events.into_iter(), at: 0, error };
        let key = reader.key()?;
        let value = reader.value()?;
        let rest = &text[reader.at..];
        let is_rest = |kind| matches!(kind, EventKind::Whitespace | EventKind::Comment);
        let is_all = reader.events.all(|event| is_rest(event.kind()));
        (is_all && reader.error.is_none()).then_some(Entry { key, value, rest })
    }
}

/// Takes an entry apart.
struct Reader<'a> {
    source: Source<'a>,
    events: std::vec::IntoIter<Event>,
    /// Where the last event ends.
    at: usize,
    error: Option<ParseError>,
}

impl<'a> Reader<'a> {
    fn next(&mut self) -> Option<Event> {
        let event = self.events.next()?;
        self.at = event.span().end();
        Some(event)
    }

    /// A key, up to its value.
    fn key(&mut self) -> Option<Vec<Key<'a>>> {
        let mut key = Vec::new();
        loop {
            let event = self.next()?;
            match event.kind() {
                EventKind::SimpleKey => key.push(self.part(event)?),
                EventKind::Whitespace | EventKind::KeySep => {}
                EventKind::KeyValSep => return Some(key),
                _ => return None,
            }
        }
    }

    /// The part of a key that an event is.
    fn part(&mut self, event: Event) -> Option<Key<'a>> {
        let raw = self.source.get(event)?;
        let mut name = Cow::Borrowed("");
        raw.decode_key(&mut name, &mut self.error);
        Some(Key { name, written: raw.as_str() })
    }

    fn value(&mut self) -> Option<Value<'a>> {
        loop {
            let event = self.next()?;
            if event.kind() != EventKind::Whitespace {
                return self.value_of(event);
            }
        }
    }

    /// The value that an event begins.
    fn value_of(&mut self, event: Event) -> Option<Value<'a>> {
        match event.kind() {
            EventKind::Scalar => {
                let raw = self.source.get(event)?;
                let _ = raw.decode_scalar(&mut Cow::Borrowed(""), &mut self.error);
                Some(Value::Scalar(raw.as_str()))
            }
            EventKind::ArrayOpen => self.array().map(Value::Array),
            EventKind::InlineTableOpen => self.table(event.span().start()).map(Value::Table),
            _ => None,
        }
    }

    /// The rest of an array that has been opened.
    fn array(&mut self) -> Option<Array<'a>> {
        let (mut items, mut from) = (Vec::<Item<'_>>::new(), self.at);
        let (mut is_open, mut is_broken) = (false, false);
        loop {
            let event = self.next()?;
            let between = &self.source.input()[from..event.span().start()];
            match event.kind() {
                EventKind::Whitespace | EventKind::Comment => continue,
                EventKind::Newline => {
                    is_broken = true;
                    continue;
                }
                EventKind::ValueSep => {
                    items.last_mut()?.after = between;
                    is_open = false;
                }
                EventKind::ArrayClose if is_open => {
                    items.last_mut()?.after = between;
                    return Some(Array { items, rest: "", is_broken });
                }
                EventKind::ArrayClose => return Some(Array { items, rest: between, is_broken }),
                _ => {
                    let value = self.value_of(event)?;
                    items.push(Item { before: between, value, after: "" });
                    is_open = true;
                }
            }
            from = self.at;
        }
    }

    /// The rest of an inline table that begins at `start` and has been opened.
    fn table(&mut self, start: usize) -> Option<Table<'a>> {
        let (mut entries, mut key, mut is_broken) = (Vec::new(), Vec::new(), false);
        loop {
            let event = self.next()?;
            match event.kind() {
                EventKind::Newline => is_broken = true,
                EventKind::SimpleKey => key.push(self.part(event)?),
                EventKind::Whitespace
                | EventKind::Comment
                | EventKind::KeySep
                | EventKind::KeyValSep
                | EventKind::ValueSep => {}
                EventKind::InlineTableClose => {
                    let written = &self.source.input()[start..self.at];
                    return Some(Table { entries, written, is_broken });
                }
                _ => entries.push((std::mem::take(&mut key), self.value_of(event)?)),
            }
        }
    }
}
