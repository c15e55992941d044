//! The TOML a file renders to, as a tree of values.
//!
//! The tree knows nothing of places: an edit of comments or blanks ends here. Who needs a place
//! asks for it by key, see [`PLACES`].

use std::collections::BTreeMap;
use std::ops::Range;

use clnrm_engine::{Cx, Query, Unit};
use serde::{Deserialize, Serialize};
use toml_edit::{Document as Parsed, Item, TableLike, Value};

use crate::diagnostic::{At, KeyPath, Problem};
use crate::render::RENDERED;

/// The values of a file.
pub(crate) static DOCUMENT: Query<Document> = Query::new("document", 1, document);

/// Where the keys and values of a file are in its rendered text; empty when it does not parse.
pub(crate) static PLACES: Query<Places> = Query::new("places", 1, places);

/// See [`DOCUMENT`].
pub(crate) type Document = Result<Tree, Problem>;

/// See [`PLACES`]: byte ranges of keys, and of values in arrays.
pub(crate) type Places = BTreeMap<KeyPath, Range<usize>>;

/// A TOML value.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[allow(missing_docs, reason = "TOML's own types")]
pub(crate) enum Tree {
    /// In the order of the file.
    Table(Vec<(String, Tree)>),
    Array(Vec<Tree>),
    String(String),
    Integer(i64),
    Float(f64),
    Boolean(bool),
    /// As it was written.
    Datetime(String),
}

impl Tree {
    /// The value of a key, when this is a table that has it.
    pub(crate) fn get(&self, key: &str) -> Option<&Tree> {
        let Tree::Table(entries) = self else { return None };
        entries.iter().find(|(name, _)| name == key).map(|(_, value)| value)
    }

    /// What it is, for a message.
    pub(crate) fn kind(&self) -> &'static str {
        match self {
            Tree::Table(_) => "a table",
            Tree::Array(_) => "an array",
            Tree::String(_) => "a string",
            Tree::Integer(_) => "an integer",
            Tree::Float(_) => "a float",
            Tree::Boolean(_) => "a boolean",
            Tree::Datetime(_) => "a date",
        }
    }
}

fn document(cx: &Cx<'_>, unit: &Unit) -> Document {
    let rendered = cx.get(&RENDERED, unit);
    let text = rendered.as_ref().as_ref().map_err(Clone::clone)?;
    match Parsed::parse(text.0.as_str()) {
        Ok(parsed) => Ok(table(parsed.as_table())),
        Err(error) => Err(syntax_error(&error)),
    }
}

fn syntax_error(error: &toml_edit::TomlError) -> Problem {
    let at = error.span().map_or(At::File, |range| At::Rendered(range.start));
    let message = error.message().trim().replace('\n', ", ");
    let problem = Problem::error("parse/syntax", at, message.clone());
    if message.contains("duplicate key") {
        return problem.hint("a key may be set once; merge the two");
    }
    problem
}

fn table(table: &dyn TableLike) -> Tree {
    Tree::Table(table.iter().map(|(key, item)| (key.to_owned(), tree(item))).collect())
}

fn tree(item: &Item) -> Tree {
    match item {
        Item::Value(value) => value_tree(value),
        Item::Table(entries) => table(entries),
        Item::ArrayOfTables(tables) => Tree::Array(tables.iter().map(|t| table(t)).collect()),
        Item::None => Tree::Table(Vec::new()),
    }
}

fn value_tree(value: &Value) -> Tree {
    match value {
        Value::String(text) => Tree::String(text.value().clone()),
        Value::Integer(number) => Tree::Integer(*number.value()),
        Value::Float(number) => Tree::Float(*number.value()),
        Value::Boolean(flag) => Tree::Boolean(*flag.value()),
        Value::Datetime(date) => Tree::Datetime(date.value().to_string()),
        Value::Array(array) => Tree::Array(array.iter().map(value_tree).collect()),
        Value::InlineTable(entries) => table(entries),
    }
}

fn places(cx: &Cx<'_>, unit: &Unit) -> Places {
    let mut places = Places::new();
    if let Ok(text) = cx.get(&RENDERED, unit).as_ref()
        && let Ok(parsed) = Parsed::parse(text.0.as_str())
    {
        table_places(parsed.as_table(), &KeyPath::default(), &mut places);
    }
    places
}

fn table_places(table: &dyn TableLike, path: &KeyPath, places: &mut Places) {
    for (name, item) in table.iter() {
        let path = path.key(name);
        // A table's own place is its header, which the key of a dotted header is not.
        let key = table.key(name).and_then(|key| key.span());
        if let Some(range) = key.or_else(|| item.span()) {
            places.insert(path.clone(), range);
        }
        item_places(item, &path, places);
    }
}

fn item_places(item: &Item, path: &KeyPath, places: &mut Places) {
    match item {
        Item::Table(table) => {
            if let Some(range) = table.span() {
                places.insert(path.clone(), range);
            }
            table_places(table, path, places);
        }
        Item::ArrayOfTables(tables) => {
            for (index, table) in tables.iter().enumerate() {
                let path = path.index(index);
                if let Some(range) = table.span() {
                    places.insert(path.clone(), range);
                }
                table_places(table, &path, places);
            }
        }
        Item::Value(value) => value_places(value, path, places),
        Item::None => {}
    }
}

fn value_places(value: &Value, path: &KeyPath, places: &mut Places) {
    match value {
        Value::Array(array) => {
            for (index, value) in array.iter().enumerate() {
                let path = path.index(index);
                if let Some(range) = value.span() {
                    places.insert(path.clone(), range);
                }
                value_places(value, &path, places);
            }
        }
        Value::InlineTable(table) => table_places(table, path, places),
        _ => {}
    }
}
