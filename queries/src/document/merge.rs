//! Repeated headers of some tables of expectations, which are one table written in parts: two calls
//! of a macro, say. TOML allows a table once, so the later parts get names of the same length that
//! nobody uses, and nothing in the text moves.

use std::collections::{BTreeMap, BTreeSet};

use crate::toml_text::quote_after;

/// Tables that may be written in parts.
const TABLES: [&str; 7] = ["order", "graph", "window", "counts", "count", "status", "hermeticity"];

/// A text whose repeated headers have other names, and what these stand for.
pub(super) struct Parts {
    pub(super) text: String,
    pub(super) names: BTreeMap<String, &'static str>,
}

/// Gives repeated headers names of their own. `None` when there are none.
pub(super) fn parts(text: &str) -> Option<Parts> {
    let mut parts = Parts { text: text.to_owned(), names: BTreeMap::new() };
    let mut current: BTreeMap<&'static str, Part> = BTreeMap::new();
    let (mut offset, mut quote) = (0, None);
    let mut renamed: Vec<(usize, String)> = Vec::new();
    for line in text.split_inclusive('\n') {
        let header = if quote.is_none() { Header::of(line) } else { None };
        quote = quote_after(line, quote);
        if let Some(header) = header {
            let part = current.entry(header.table).or_default();
            let repeats_list = header.is_list && part.list == Some(true);
            let mixes =
                part.list.is_some_and(|list| list != header.is_list) && header.rest.is_empty();
            if mixes || (!repeats_list && part.seen.contains(&header.rest)) {
                let number = parts.names.len() + 1;
                let width = header.table.len() - 1;
                let alias = format!("_{number:0width$}");
                // So many parts that a name of this length is not enough are left to TOML.
                if alias.len() == header.table.len() {
                    parts.names.insert(alias.clone(), header.table);
                    *part = Part { alias: Some(alias), ..Part::default() };
                }
            }
            if header.rest.is_empty() {
                part.list = Some(header.is_list);
                if header.is_list {
                    part.seen.clear();
                }
            }
            part.seen.insert(header.rest);
            if let Some(alias) = &part.alias {
                renamed.push((offset + header.at, alias.clone()));
            }
        }
        offset += line.len();
    }
    for (at, alias) in &renamed {
        parts.text.replace_range(*at..at + alias.len(), alias);
    }
    (!renamed.is_empty()).then_some(parts)
}

/// The part of a table one is in.
#[derive(Default)]
struct Part {
    alias: Option<String>,
    /// Whether it is a list of tables, once that is known.
    list: Option<bool>,
    /// What followed the table's name in its headers.
    seen: BTreeSet<String>,
}

/// `[expect.table.rest]` or `[[expect.table]]`
struct Header {
    table: &'static str,
    /// Where the name begins in the line.
    at: usize,
    rest: String,
    is_list: bool,
}

impl Header {
    fn of(line: &str) -> Option<Header> {
        let start = line.trim_start();
        let indent = line.len() - start.len();
        let is_list = start.starts_with("[[");
        let brackets = if is_list { 2 } else { 1 };
        let path =
            start.get(brackets..)?.strip_prefix("expect.").filter(|_| start.starts_with('['))?;
        let end = path.find(|c: char| !c.is_ascii_alphanumeric() && c != '_' && c != '-')?;
        let table = TABLES.into_iter().find(|table| *table == &path[..end])?;
        let rest = path[end..].split(']').next()?.trim().to_owned();
        let at = indent + brackets + "expect.".len();
        Some(Header { table, at, rest, is_list })
    }
}
