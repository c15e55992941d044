//! The TOML a file renders to, as a tree of values.
//!
//! The tree knows nothing of places: an edit of comments or blanks ends here. Who needs a place
//! asks for it by key, see [`place`].

use std::cell::RefCell;
use std::ops::Range;

use clnrm_engine::{Cx, Query, Unit};
use serde::{Deserialize, Serialize};
use toml_edit::{Array, ArrayOfTables, Document as Parsed, Item, TableLike, TomlError, Value};

use crate::diagnostic::{At, KeyPath, Part, Problem};
use crate::render::RENDERED;

/// The values of a file.
pub(crate) static DOCUMENT: Query<Document> = Query::new("document", 1, document);

/// See [`DOCUMENT`].
pub(crate) type Document = Result<Tree, Problem>;

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
    with_parsed(&text.0, |parsed| match parsed {
        Ok(parsed) => Ok(table(parsed.as_table())),
        Err(error) => Err(syntax_error(error)),
    })
}

fn syntax_error(error: &TomlError) -> Problem {
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

/// Where a key or value begins in a rendered text; the nearest one around it when it is not
/// written. `None` when the text does not parse, or nothing around it has a place.
pub(crate) fn place(text: &str, path: &KeyPath) -> Option<usize> {
    with_parsed(text, |parsed| {
        let (mut at, mut nearest) = (Place::Table(parsed.ok()?.as_table()), None);
        for part in &path.0 {
            let Some((range, below)) = at.step(part) else { break };
            nearest = range.or(nearest);
            let Some(below) = below else { break };
            at = below;
        }
        nearest.map(|range| range.start)
    })
}

/// What has parts with places.
enum Place<'a> {
    Table(&'a dyn TableLike),
    Tables(&'a ArrayOfTables),
    Array(&'a Array),
}

impl<'a> Place<'a> {
    /// The range of a part, and the part itself when it has parts.
    fn step(&self, part: &Part) -> Option<(Option<Range<usize>>, Option<Place<'a>>)> {
        match (self, part) {
            (Place::Table(table), Part::Key(name)) => {
                let item = table.get(name)?;
                // A table's own place is its header, which the key of a dotted header is not.
                let header = item.as_table().and_then(|table| table.span());
                let key = || table.key(name).and_then(|key| key.span());
                Some((header.or_else(key).or_else(|| item.span()), Place::of(item)))
            }
            (Place::Tables(tables), Part::Index(index)) => {
                let table = tables.get(*index)?;
                Some((table.span(), Some(Place::Table(table))))
            }
            (Place::Array(array), Part::Index(index)) => {
                let value = array.get(*index)?;
                Some((value.span(), Place::of_value(value)))
            }
            _ => None,
        }
    }

    fn of(item: &'a Item) -> Option<Place<'a>> {
        match item {
            Item::Table(table) => Some(Place::Table(table)),
            Item::ArrayOfTables(tables) => Some(Place::Tables(tables)),
            Item::Value(value) => Place::of_value(value),
            Item::None => None,
        }
    }

    fn of_value(value: &'a Value) -> Option<Place<'a>> {
        match value {
            Value::Array(array) => Some(Place::Array(array)),
            Value::InlineTable(table) => Some(Place::Table(table)),
            _ => None,
        }
    }
}

/// A text, and what parsing it gives.
type LastParsed = Option<(String, Result<Parsed<String>, TomlError>)>;

thread_local! {
    /// The last text parsed on this thread: its places are asked for soon after its values, and
    /// parsing it costs more than either. It depends on nothing but the text.
    static LAST: RefCell<LastParsed> = const { RefCell::new(None) };
}

fn with_parsed<T>(text: &str, then: impl FnOnce(Result<&Parsed<String>, &TomlError>) -> T) -> T {
    LAST.with_borrow_mut(|last| {
        if last.as_ref().is_none_or(|(parsed, _)| parsed != text) {
            *last = Some((text.to_owned(), Parsed::parse(text.to_owned())));
        }
        let (_, parsed) = last.as_ref().expect("it was just set");
        then(parsed.as_ref())
    })
}
