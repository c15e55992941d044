//! The order of a file: its statements, what comments belong to, and where there are blank lines.

use std::borrow::Cow;
use std::ops::Range;

use super::value;

/// Whether keys are sorted.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) enum Order {
    /// Within a section, in groups between blank lines.
    #[default]
    Sorted,
    /// They stay where they are.
    AsWritten,
}

/// Tables whose keys are names that have an order of their own: services start in it.
const ORDERED: [&str; 2] = ["service", "services"];

/// A statement, from the beginning of a line to the end of one.
#[derive(Clone, Copy, Debug, PartialEq)]
enum Statement<'a> {
    Blank,
    Comment(&'a str),
    Header(&'a str),
    Entry(&'a str),
    /// Text of a template, or what is not understood: it stays as it is.
    Fixed(&'a str),
}

/// The text laid out anew; `tags` are the parts that belong to a template, in their order.
pub(super) fn lay_out(text: &str, tags: &[Range<usize>], order: Order) -> String {
    let mut layout = Layout { order, ..Layout::default() };
    let mut at = 0;
    while at < text.len() {
        let (end, is_fixed) = end_of(text, at, tags);
        layout.add(statement(&text[at..end], is_fixed));
        at = end + 1;
    }
    layout.end()
}

/// The end of the statement that begins at `from`, without its line break, and whether it cannot be
/// told what it is.
fn end_of(text: &str, from: usize, tags: &[Range<usize>]) -> (usize, bool) {
    const QUOTES: [&[u8]; 4] = [b"\"\"\"", b"'''", b"\"", b"'"];
    let (mut at, mut depth, mut quote) = (from, 0_usize, None::<&[u8]>);
    let (mut is_comment, mut is_fixed) = (false, false);
    // No byte of a longer character is one of these signs.
    let bytes = text.as_bytes();
    while at < text.len() {
        let next = tags.partition_point(|tag| tag.end <= at);
        if let Some(tag) = tags.get(next).filter(|tag| tag.start <= at) {
            (at, is_fixed) = (tag.end, true);
            continue;
        }
        let rest = &bytes[at..];
        match (quote, rest[0]) {
            (Some(open), _) if rest.starts_with(open) => {
                quote = None;
                at += open.len();
                continue;
            }
            (Some([b'"', ..]), b'\\') => at += rest.len().min(2) - 1,
            // It was not closed.
            (Some([_]), b'\n') => return (at, true),
            (Some(_), _) => {}
            (None, b'\n') if depth == 0 => return (at, is_fixed),
            (None, b'\n') => is_comment = false,
            (None, _) if is_comment => {}
            (None, b'#') => is_comment = true,
            (None, b'"' | b'\'') => {
                quote = QUOTES.into_iter().find(|quote| rest.starts_with(quote));
                at += quote.map_or(1, <[u8]>::len);
                continue;
            }
            (None, b'[' | b'{') => depth += 1,
            (None, b']' | b'}') => depth = depth.saturating_sub(1),
            (None, _) => {}
        }
        at += 1;
    }
    (text.len(), is_fixed || depth > 0 || quote.is_some())
}

fn statement(text: &str, is_fixed: bool) -> Statement<'_> {
    let plain = text.trim();
    match plain.chars().next() {
        _ if is_fixed => Statement::Fixed(text),
        None => Statement::Blank,
        Some('#') => Statement::Comment(plain),
        Some('[') => Statement::Header(plain),
        Some(_) => Statement::Entry(text.strip_suffix('\r').unwrap_or(text)),
    }
}

/// A file that is being laid out.
#[derive(Default)]
struct Layout<'a> {
    order: Order,
    out: String,
    /// Whether the keys of this section have an order of their own.
    is_ordered: bool,
    /// Entries that may change places, each with the comments above it.
    group: Vec<Placed<'a>>,
    /// Comments whose entry has not come yet.
    comments: Vec<&'a str>,
    is_blank_wanted: bool,
    /// Whether the comment at the top of the file, which stays there, is over.
    is_below_top: bool,
}

/// An entry as it is to be written.
struct Placed<'a> {
    key: Vec<Cow<'a, str>>,
    comments: Vec<&'a str>,
    text: Cow<'a, str>,
}

impl<'a> Layout<'a> {
    fn add(&mut self, statement: Statement<'a>) {
        let is_top = !self.is_below_top;
        self.is_below_top |= match statement {
            Statement::Comment(_) => false,
            Statement::Blank => !self.out.is_empty(),
            _ => true,
        };
        match statement {
            // A licence or a `#:schema`, whatever the order of what follows.
            Statement::Comment(text) if is_top => self.line(text),
            Statement::Comment(text) => self.comments.push(text),
            Statement::Entry(text) => {
                let keep = self.is_ordered || self.order == Order::AsWritten;
                if let Some((key, text)) = value::entry(text, keep) {
                    let comments = std::mem::take(&mut self.comments);
                    return self.group.push(Placed { key, comments, text });
                }
                self.close_group();
                self.line(text);
            }
            Statement::Blank => {
                self.close_group();
                self.is_blank_wanted = true;
            }
            Statement::Header(text) => {
                self.close_group();
                let name = text.trim_start_matches('[');
                let name = name.split(']').next().unwrap_or_default().trim();
                self.is_ordered = ORDERED.contains(&name);
                self.line(text);
            }
            Statement::Fixed(text) => {
                self.close_group();
                self.line(text);
            }
        }
    }

    fn close_group(&mut self) {
        let mut group = std::mem::take(&mut self.group);
        if self.order == Order::Sorted && !self.is_ordered {
            group.sort_by(|a, b| a.key.cmp(&b.key));
        }
        for entry in group {
            entry.comments.iter().for_each(|comment| self.line(comment));
            self.line(&entry.text);
        }
        let comments = std::mem::take(&mut self.comments);
        comments.iter().for_each(|comment| self.line(comment));
    }

    fn line(&mut self, text: &str) {
        if std::mem::take(&mut self.is_blank_wanted) && !self.out.is_empty() {
            self.out.push('\n');
        }
        self.out.push_str(text);
        self.out.push('\n');
    }

    fn end(mut self) -> String {
        self.close_group();
        self.out
    }
}
