//! The TOML a file renders to, as a tree of values.
//!
//! The tree knows nothing of places: an edit of comments or blanks ends here. Who needs a place
//! asks for it by key, see [`place`].

mod merge;

use std::cell::RefCell;
use std::collections::BTreeMap;
use std::ops::Range;

use clnrm_engine::{Cx, Query, Unit};
use serde::{Deserialize, Serialize};
use toml_edit::{Array, ArrayOfTables, Item, TableLike, TomlError, Value};

use crate::diagnostic::{At, KeyPath, Part, Problem};
use crate::render::RENDERED;

/// The values of a file.
pub(crate) static DOCUMENT: Query<Document> = Query::new("document", 2, document);

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
    parse(&text.0)
}

/// The values in a text.
pub(crate) fn parse(text: &str) -> Document {
    with_parsed(text, |parsed| match parsed {
        Ok(parsed) => merged(table(parsed.document.as_table()), &parsed.names),
        Err(error) => Err(syntax_error(error)),
    })
}

/// A document whose tables that were written in parts are whole.
fn merged(mut tree: Tree, names: &Names) -> Document {
    if names.is_empty() {
        return Ok(tree);
    }
    let Tree::Table(entries) = &mut tree else { return Ok(tree) };
    let expect = entries.iter_mut().find(|(key, _)| key == "expect");
    let Some((_, Tree::Table(expect))) = expect else { return Ok(tree) };
    let path = KeyPath::top("expect");
    let mut whole: Vec<(String, Tree)> = Vec::new();
    for (key, value) in std::mem::take(expect) {
        let name = names.get(&key).map_or(key.as_str(), |name| name);
        let known = whole.iter_mut().find(|(known, _)| known == name);
        match known {
            Some((_, known)) => join(known, value, &path.key(name), &path.key(&key))?,
            None => whole.push((name.to_owned(), value)),
        }
    }
    *expect = whole;
    Ok(tree)
}

/// Adds a later part of a table: tables are united, lists appended.
fn join(known: &mut Tree, more: Tree, path: &KeyPath, part: &KeyPath) -> Result<(), Problem> {
    match (known, more) {
        (Tree::Table(known), Tree::Table(more)) => {
            for (key, value) in more {
                match known.iter_mut().find(|(name, _)| *name == key) {
                    Some((_, known)) => join(known, value, &path.key(&key), &part.key(&key))?,
                    None => known.push((key, value)),
                }
            }
        }
        (Tree::Array(known), Tree::Array(more)) => known.extend(more),
        (Tree::Array(known), table @ Tree::Table(_)) => known.push(table),
        (known @ Tree::Table(_), Tree::Array(more)) => {
            let first = std::mem::replace(known, Tree::Boolean(false));
            *known = Tree::Array(std::iter::once(first).chain(more).collect());
        }
        (known, more) if *known == more => {}
        (_, _) => {
            let message = format!("`{path}` is set twice, to different values");
            let problem = Problem::error("parse/conflict", At::Key(part.clone()), message);
            return Err(problem.also(path.clone(), "it was set first"));
        }
    }
    Ok(())
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

/// Where a key or value is in a rendered text; the nearest one around it when it is not written. `None` when the text does not parse, or nothing around it has a place.
pub(crate) fn place(text: &str, path: &KeyPath) -> Option<Range<usize>> {
    with_parsed(text, |parsed| {
        let Parsed { document, names } = parsed.ok()?;
        let (mut at, mut nearest) = (vec![Place::Table(document.as_table())], None);
        for (depth, part) in path.0.iter().enumerate() {
            let parts = match part {
                // A table that is written in parts.
                Part::Key(key) if depth == 1 && !names.is_empty() => {
                    let aliases = names.iter().filter(|(_, name)| **name == key);
                    let aliases = aliases.map(|(alias, _)| Part::Key(alias.clone()));
                    [part.clone()].into_iter().chain(aliases).collect()
                }
                _ => vec![part.clone()],
            };
            let found = parts.iter().flat_map(|part| step(&at, part)).collect::<Vec<_>>();
            let Some((range, _)) = found.first() else { break };
            nearest = range.clone().or(nearest);
            at = found.into_iter().filter_map(|(_, below)| below).collect();
        }
        nearest
    })
}

/// Where the text of a string is written, its quotes left out; where the key's name is one, when
/// its value is none. `None` for strings with escapes, whose bytes are not those of the text.
pub(crate) fn string_place(text: &str, path: &KeyPath) -> Option<Range<usize>> {
    let value = with_parsed(text, |parsed| {
        let document = &parsed.ok()?.document;
        let (last, above) = path.0.split_last()?;
        let mut at = Place::Table(document.as_table());
        for part in above {
            at = at.step(part)?.1?;
        }
        match (at, last) {
            (Place::Table(table), Part::Key(name)) => {
                table.get(name)?.as_value().filter(|value| value.is_str())?.span()
            }
            (Place::Array(array), Part::Index(index)) => {
                array.get(*index).filter(|value| value.is_str())?.span()
            }
            _ => None,
        }
    });
    let range = value.or_else(|| key_place(text, path))?;
    let written = &text[range.clone()];
    let quotes = ["\"\"\"", "'''", "\"", "'"].into_iter().find(|quote| written.starts_with(quote));
    let quotes = quotes.map_or(0, str::len);
    let inner = range.start + quotes..range.end - quotes;
    (!text[inner.clone()].contains('\\') || written.starts_with('\'')).then_some(inner)
}

/// Where the name of a key is written.
pub(crate) fn key_place(text: &str, path: &KeyPath) -> Option<Range<usize>> {
    with_parsed(text, |parsed| {
        let document = &parsed.ok()?.document;
        let (Part::Key(name), above) = path.0.split_last()? else { return None };
        let mut at = Place::Table(document.as_table());
        for part in above {
            at = at.step(part)?.1?;
        }
        let Place::Table(table) = at else { return None };
        let header = table.get(name).and_then(|item| item.as_table()).is_some();
        table.key(name).and_then(|key| key.span()).filter(|_| !header)
    })
}

/// A part of the things at hand, which are parts of one: of a list the elements are counted
/// through.
fn step<'a>(at: &[Place<'a>], part: &Part) -> Vec<(Option<Range<usize>>, Option<Place<'a>>)> {
    let Part::Index(index) = part else {
        return at.iter().filter_map(|place| place.step(part)).collect();
    };
    let mut left = *index;
    for place in at {
        let length = place.length();
        if left < length {
            return place.step(&Part::Index(left)).into_iter().collect();
        }
        left -= length;
    }
    Vec::new()
}

/// What has parts with places.
#[derive(Clone, Copy)]
enum Place<'a> {
    Table(&'a dyn TableLike),
    Tables(&'a ArrayOfTables),
    Array(&'a Array),
}

impl<'a> Place<'a> {
    /// How many elements a list has; a table that may also be a list of them is one of one.
    fn length(&self) -> usize {
        match self {
            Place::Table(_) => 1,
            Place::Tables(tables) => tables.len(),
            Place::Array(array) => array.len(),
        }
    }

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
            (Place::Table(table), Part::Index(0)) => Some((None, Some(Place::Table(*table)))),
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

/// What names of later parts of tables stand for.
type Names = BTreeMap<String, &'static str>;

/// A parsed text.
struct Parsed {
    document: toml_edit::Document<String>,
    names: Names,
}

impl Parsed {
    fn new(text: &str) -> Result<Parsed, TomlError> {
        let error = match toml_edit::Document::parse(text.to_owned()) {
            Ok(document) => return Ok(Parsed { document, names: Names::new() }),
            Err(error) => error,
        };
        let merge::Parts { text, names } = merge::parts(text).ok_or(error)?;
        Ok(Parsed { document: toml_edit::Document::parse(text)?, names })
    }
}

/// A text, and what parsing it gives.
type LastParsed = Option<(String, Result<Parsed, TomlError>)>;

thread_local! {
    /// The last text parsed on this thread: its places are asked for soon after its values, and
    /// parsing it costs more than either. It depends on nothing but the text.
    static LAST: RefCell<LastParsed> = const { RefCell::new(None) };
}

fn with_parsed<T>(text: &str, then: impl FnOnce(Result<&Parsed, &TomlError>) -> T) -> T {
    LAST.with_borrow_mut(|last| {
        if last.as_ref().is_none_or(|(parsed, _)| parsed != text) {
            *last = Some((text.to_owned(), Parsed::new(text)));
        }
        let (_, parsed) = last.as_ref().expect("it was just set");
        then(parsed.as_ref())
    })
}
