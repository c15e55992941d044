//! How keys and values are written. Strings, numbers and times stay as they are.

use toml_edit::{Array, DocumentMut, InlineTable, Item, Key, Value};

/// Longer lines are broken at their array.
const WIDTH: usize = 80;
const INDENT: usize = 2;

/// A key with its value, as it should be written, and the parts of the key to sort by; `None` when
/// the text is something else. With `keep`, the tables in it keep their order.
pub(super) fn entry(text: &str, keep: bool) -> Option<(Vec<String>, String)> {
    if let Some(key) = plain_key(text) {
        return Some((vec![key.to_owned()], text.to_owned()));
    }
    let document: DocumentMut = text.parse().ok()?;
    let (mut table, mut keys, mut shown) = (document.as_table(), Vec::new(), Vec::new());
    let value = loop {
        let (name, item) = table.iter().next().filter(|_| table.len() == 1)?;
        let key = table.key(name)?;
        keys.push(name.to_owned());
        shown.push(written(key));
        match item {
            Item::Table(inner) if inner.is_dotted() => table = inner,
            Item::Value(value) => break value,
            _ => return None,
        }
    };
    let start = format!("{} = ", shown.join("."));
    let writer = Writer { keep: keep || matches!(&*keys[0], "service" | "services") };
    let column = start.chars().count();
    let mut line = start + &writer.value(value, column, 0);
    let suffix = value.decor().suffix().and_then(|raw| raw.as_str()).unwrap_or_default();
    // What follows the value on its line; a document's end belongs to nobody.
    let end = suffix.split('\n').next().unwrap_or_default();
    let comment = if end.trim().is_empty() { document.trailing().as_str()? } else { end };
    let comment = comment.trim_end();
    if !comment.trim_start().starts_with('#') {
        return comment.is_empty().then_some((keys, line));
    }
    if !comment.starts_with([' ', '\t']) {
        line.push(' ');
    }
    line.push_str(comment);
    Some((keys, line))
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

fn written(key: &Key) -> String {
    key.display_repr().into_owned()
}

/// How values are written.
struct Writer {
    /// Whether tables keep their order.
    keep: bool,
}

impl Writer {
    /// A value that begins at `column`, on a line that is indented by `indent`.
    fn value(&self, value: &Value, column: usize, indent: usize) -> String {
        match value {
            Value::String(text) => text.display_repr().into_owned(),
            Value::Integer(number) => number.display_repr().into_owned(),
            Value::Float(number) => number.display_repr().into_owned(),
            Value::Boolean(flag) => flag.display_repr().into_owned(),
            Value::Datetime(time) => time.display_repr().into_owned(),
            Value::Array(array) => self.array(array, column, indent),
            Value::InlineTable(table) => self.table(table, indent),
        }
    }

    fn array(&self, array: &Array, column: usize, indent: usize) -> String {
        if !is_broken(array) {
            let items = array.iter().map(|item| self.value(item, 0, indent));
            let items: Vec<String> = items.collect();
            let line = format!("[{}]", items.join(", "));
            if !line.contains('\n') && column + line.chars().count() <= WIDTH {
                return line;
            }
            if items.is_empty() {
                return line;
            }
        }
        let own = indent + INDENT;
        let mut lines: Vec<String> = vec!["[".to_owned()];
        let mut add = |text: String| lines.push(format!("{:own$}{text}", ""));
        let mut pending: Option<String> = None;
        for item in array {
            let (same, above) = comments(raw(item.decor().prefix()));
            flush(&mut pending, same, &mut add);
            above.into_iter().for_each(&mut add);
            let mut text = self.value(item, own, own) + ",";
            let (same, below) = comments(raw(item.decor().suffix()));
            if let Some(same) = same {
                text += &format!(" {same}");
            }
            pending = Some(text);
            if !below.is_empty() {
                flush(&mut pending, None, &mut add);
                below.into_iter().for_each(&mut add);
            }
        }
        let (same, below) = comments(array.trailing().as_str().unwrap_or_default());
        flush(&mut pending, same, &mut add);
        below.into_iter().for_each(&mut add);
        lines.push(format!("{:indent$}]", ""));
        lines.join("\n")
    }

    fn table(&self, table: &InlineTable, indent: usize) -> String {
        if is_broken_table(table) {
            return table.to_string().trim().to_owned();
        }
        let mut entries: Vec<(Vec<&Key>, &Value)> = table.get_values();
        if !self.keep {
            let names = |keys: &[&Key]| keys.iter().map(|key| key.get().to_owned()).collect();
            entries.sort_by_key(|(keys, _)| -> Vec<String> { names(keys) });
        }
        if entries.is_empty() {
            return "{}".to_owned();
        }
        let entries = entries.into_iter().map(|(keys, value)| {
            let keys: Vec<String> = keys.into_iter().map(written).collect();
            let start = format!("{} = ", keys.join("."));
            // An array in it is broken only when it is too long by itself.
            start + &self.value(value, 0, indent)
        });
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

fn raw(text: Option<&toml_edit::RawString>) -> &str {
    text.and_then(toml_edit::RawString::as_str).unwrap_or_default()
}

/// Whether an array is written over several lines.
fn is_broken(array: &Array) -> bool {
    let breaks = |text: &str| text.contains(['\n', '#']);
    breaks(array.trailing().as_str().unwrap_or_default())
        || array.iter().any(|item| {
            let decor = item.decor();
            breaks(raw(decor.prefix())) || breaks(raw(decor.suffix()))
        })
}

fn is_broken_table(table: &InlineTable) -> bool {
    let breaks = |text: &str| text.contains(['\n', '#']);
    breaks(table.trailing().as_str().unwrap_or_default())
        || table.get_values().iter().any(|(keys, value)| {
            let decor = value.decor();
            let of_keys = keys.iter().any(|key| {
                let decors = [key.leaf_decor(), key.dotted_decor()];
                decors.iter().any(|it| breaks(raw(it.prefix())) || breaks(raw(it.suffix())))
            });
            of_keys || breaks(raw(decor.prefix())) || breaks(raw(decor.suffix()))
        })
}
