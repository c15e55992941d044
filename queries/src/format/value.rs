//! How keys and values are written. Strings, numbers and times stay as they are.

use std::borrow::Cow;

use super::entry::{Array, Entry, Key, Table, Value};

/// Longer lines are broken at their array.
const WIDTH: usize = 80;
const INDENT: usize = 2;

/// A key with its value, as it should be written, and the parts of the key to sort by; `None` when
/// the text is something else. With `keep`, the tables in it keep their order.
pub(super) fn entry(text: &str, keep: bool) -> Option<(Vec<Cow<'_, str>>, Cow<'_, str>)> {
    if let Some(key) = plain_key(text) {
        return Some((vec![key.into()], text.into()));
    }
    let Entry { key, value, rest } = Entry::read(text)?;
    let mut line = written(&key) + " = ";
    let writer = Writer { keep: keep || matches!(&*key[0].name, "service" | "services") };
    line += &writer.value(&value, line.chars().count(), 0);
    let comment = rest.trim_end();
    if !comment.is_empty() && !comment.starts_with([' ', '\t']) {
        line.push(' ');
    }
    line += comment;
    Some((key.into_iter().map(|part| part.name).collect(), line.into()))
}

/// The key of what is written as it should be, as far as that can be seen without a parser: a bare
/// key, and a string without escapes, a whole number or a boolean.
fn plain_key(text: &str) -> Option<&str> {
    let (key, value) = text.split_once(" = ")?;
    let is_bare = |char: char| char.is_ascii_alphanumeric() || char == '_' || char == '-';
    let content = value.strip_prefix('"').and_then(|value| value.strip_suffix('"'));
    let is_plain = match content {
        Some(content) => !content.contains(['"', '\\']) && !content.contains(char::is_control),
        None => {
            let is_number = value.starts_with(|first| matches!(first, '1'..='9'))
                && value.len() < 19
                && value.bytes().all(|byte| byte.is_ascii_digit());
            is_number || matches!(value, "true" | "false")
        }
    };
    (!key.is_empty() && key.chars().all(is_bare) && is_plain).then_some(key)
}

fn names<'a>(key: &'a [Key<'_>]) -> impl Iterator<Item = &'a str> {
    key.iter().map(|part| &*part.name)
}

fn written(key: &[Key<'_>]) -> String {
    key.iter().map(|part| part.written).collect::<Vec<_>>().join(".")
}

/// How values are written.
struct Writer {
    /// Whether tables keep their order.
    keep: bool,
}

impl Writer {
    /// A value that begins at `column`, on a line that is indented by `indent`.
    fn value(&self, value: &Value<'_>, column: usize, indent: usize) -> String {
        match value {
            Value::Scalar(written) => (*written).to_owned(),
            Value::Array(array) => self.array(array, column, indent),
            Value::Table(table) => self.table(table, indent),
        }
    }

    fn array(&self, array: &Array<'_>, column: usize, indent: usize) -> String {
        if !array.is_broken {
            let items = array.items.iter().map(|item| self.value(&item.value, 0, indent));
            let items: Vec<String> = items.collect();
            let line = format!("[{}]", items.join(", "));
            let fits = !line.contains('\n') && column + line.chars().count() <= WIDTH;
            if fits || items.is_empty() {
                return line;
            }
        }
        let own = indent + INDENT;
        let mut lines: Vec<String> = vec!["[".to_owned()];
        let mut add = |text: String| lines.push(format!("{:own$}{text}", ""));
        let mut pending: Option<String> = None;
        for item in &array.items {
            let (same, above) = comments(item.before);
            flush(&mut pending, same, &mut add);
            above.into_iter().for_each(&mut add);
            let mut text = self.value(&item.value, own, own) + ",";
            let (same, below) = comments(item.after);
            let is_commented = same.is_some();
            if let Some(same) = same {
                text += &format!(" {same}");
            }
            pending = Some(text);
            // A comment behind the comma gets a line of its own.
            if is_commented || !below.is_empty() {
                flush(&mut pending, None, &mut add);
                below.into_iter().for_each(&mut add);
            }
        }
        let (same, below) = comments(array.rest);
        flush(&mut pending, same, &mut add);
        below.into_iter().for_each(&mut add);
        lines.push(format!("{:indent$}]", ""));
        lines.join("\n")
    }

    fn table(&self, table: &Table<'_>, indent: usize) -> String {
        if table.is_broken {
            return table.written.to_owned();
        }
        if table.entries.is_empty() {
            return "{}".to_owned();
        }
        let mut entries: Vec<&(Vec<Key<'_>>, Value<'_>)> = table.entries.iter().collect();
        if !self.keep {
            entries.sort_by(|(a, _), (b, _)| names(a).cmp(names(b)));
        }
        // An array in it is broken only when it is too long by itself.
        let entries = entries
            .into_iter()
            .map(|(key, value)| format!("{} = {}", written(key), self.value(value, 0, indent)));
        format!("{{ {} }}", entries.collect::<Vec<_>>().join(", "))
    }
}

/// Writes an item that waited for the comment behind it.
fn flush(pending: &mut Option<String>, comment: Option<&str>, add: &mut impl FnMut(String)) {
    match (pending.take(), comment) {
        (Some(text), Some(comment)) => add(format!("{text} {comment}")),
        (Some(text), None) => add(text),
        (None, Some(comment)) => add(comment.to_owned()),
        (None, None) => {}
    }
}

/// The comment that ends the line one is on, and those that have lines of their own.
fn comments(between: &str) -> (Option<&str>, Vec<String>) {
    let mut lines = between.split('\n').map(str::trim);
    let same = lines.next().filter(|line| line.starts_with('#'));
    (same, lines.filter(|line| line.starts_with('#')).map(str::to_owned).collect())
}
