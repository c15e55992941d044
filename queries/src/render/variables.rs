//! What a template knows: its own `[vars]`, `[template.*]` and `[matrix]`, lifted out of its text
//! before it is rendered, then the project's, then what is built in; the command line before all.

use std::collections::{BTreeMap, BTreeSet};
use std::ops::Range;

use clnrm_engine::{Cx, Query, Unit};
use serde_json::{Map, Value};

use super::blocks::blocks;
use crate::dialect::{Kind, Outline, SyntaxError, is_template};
use crate::plan::facts;
use crate::settings::SETTINGS;
use crate::toml_text::quote_after;

/// A variable of the project's settings; the unit's part names it.
pub(crate) static PROJECT_VARIABLE: Query<Option<String>> =
    Query::new("project-variable", 1, project_variable);

/// What is built in: the name of a variable, the environment variable it is taken from, and what
/// it is when that is not set.
pub(crate) const BUILT_IN: [(&str, &str, &str); 7] = [
    ("svc", "SERVICE_NAME", "clnrm"),
    ("env", "ENV", "ci"),
    ("endpoint", "OTEL_ENDPOINT", "http://localhost:4318"),
    ("exporter", "OTEL_TRACES_EXPORTER", "otlp"),
    ("image", "CLNRM_IMAGE", "host"),
    ("freeze_clock", "FREEZE_CLOCK", super::FROZEN_CLOCK),
    ("token", "OTEL_TOKEN", ""),
];

/// Where a variable's value comes from.
#[derive(Clone, Copy, Debug, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Origin {
    /// `-D name=value`
    CommandLine,
    /// The file's own tables.
    File,
    /// `[vars]` of the project's settings.
    Project,
    /// The environment variable of a built-in one.
    Environment,
    /// A built-in default.
    BuiltIn,
}

/// The tables of a template that its own text may read.
#[derive(Clone, Debug, Default, PartialEq)]
pub(crate) struct Lifted {
    pub(crate) vars: Map<String, Value>,
    pub(crate) otel: Map<String, Value>,
    pub(crate) matrix: Map<String, Value>,
    pub(crate) seed: u64,
    pub(crate) clock: Option<String>,
    /// Whether it is the machine's own instead.
    pub(crate) real_clock: bool,
    /// The expressions that stand for themselves in the values above, until they are resolved.
    expressions: Vec<String>,
}

fn project_variable(cx: &Cx<'_>, unit: &Unit) -> Option<String> {
    let settings = cx.get(&SETTINGS, &crate::settings::unit());
    settings.vars.get(&*unit.part).cloned()
}

/// What a name of `[vars]` is where the file itself does not say, or is overruled.
pub(crate) fn defined(cx: &Cx<'_>, name: &str) -> Option<Value> {
    let text = String::from_utf8(cx.fact(facts::DEFINED, name)?).ok()?;
    Some(typed(&text))
}

/// What a name is that neither the command line nor the file says.
pub(crate) fn fallback(
    cx: &Cx<'_>,
    name: &str,
    env: impl Fn(&str) -> Option<String>,
) -> Option<(Value, Origin)> {
    let project = cx.get(&PROJECT_VARIABLE, &Unit::file("").part(name));
    if let Some(json) = project.as_ref() {
        return Some((serde_json::from_str(json).ok()?, Origin::Project));
    }
    let (_, variable, default) = BUILT_IN.iter().find(|(known, ..)| *known == name)?;
    Some(match env(variable) {
        Some(value) => (Value::String(value), Origin::Environment),
        None => (Value::String((*default).to_owned()), Origin::BuiltIn),
    })
}

/// The names a template may read, of all that are known without being in it.
pub(crate) fn known_names(cx: &Cx<'_>) -> BTreeSet<String> {
    let defined = cx.fact(facts::DEFINED_NAMES, "").unwrap_or_default();
    let defined = String::from_utf8(defined).unwrap_or_default();
    let settings = cx.get(&SETTINGS, &crate::settings::unit());
    let built_in = BUILT_IN.iter().map(|(name, ..)| (*name).to_owned());
    let defined = defined.lines().map(str::to_owned);
    defined.chain(settings.vars.keys().cloned()).chain(built_in).collect()
}

/// A value as it is typed on a command line: a number, a truth value, a list or a table when it
/// reads as one, else text.
pub(crate) fn typed(text: &str) -> Value {
    match text.parse::<toml_edit::Value>() {
        Ok(value) if !value.is_datetime() => json_value(&value),
        _ => Value::String(text.to_owned()),
    }
}

/// A stand-in for an expression within a string; its number and an end follow.
const WITHIN: char = '\u{e010}';
/// The same for one that is a whole value.
const WHOLE: char = '\u{e012}';
const END: char = '\u{e011}';

/// Lifts the tables of a template.
///
/// # Errors
/// When one of them is no TOML.
pub(crate) fn lift(outline: &Outline<'_>) -> Result<Lifted, SyntaxError> {
    let mut lifted = Lifted::default();
    for block in blocks(outline.text) {
        let (text, places) = shielded(outline, block, &mut lifted.expressions);
        let parsed = toml_edit::Document::parse(&text).map_err(|error| {
            let offset = error.span().map_or(0, |range| range.start);
            let piece = places.partition_point(|(new, _)| *new <= offset).saturating_sub(1);
            let (new, old) = places[piece];
            let message = error.message().trim().replace('\n', ", ");
            SyntaxError::new(old + (offset - new), message).code("parse/vars")
        })?;
        for (key, item) in parsed.as_table() {
            let value = json(item);
            match (key, value) {
                ("vars", Value::Object(vars)) => merge(&mut lifted.vars, vars),
                ("matrix", Value::Object(axes)) => merge(&mut lifted.matrix, axes),
                ("template", Value::Object(template)) => {
                    for (key, value) in template {
                        match (key.as_str(), value) {
                            ("vars", Value::Object(vars)) => merge(&mut lifted.vars, vars),
                            ("matrix", Value::Object(axes)) => merge(&mut lifted.matrix, axes),
                            ("otel", Value::Object(otel)) => merge(&mut lifted.otel, otel),
                            _ => {}
                        }
                    }
                }
                ("determinism", Value::Object(table)) => {
                    lifted.seed = table.get("seed").and_then(Value::as_i64).unwrap_or(0) as u64;
                    let clock = table.get("freeze_clock");
                    lifted.clock = clock.and_then(Value::as_str).map(str::to_owned);
                    lifted.real_clock = clock == Some(&Value::Bool(false));
                }
                _ => {}
            }
        }
    }
    Ok(lifted)
}

fn merge(all: &mut Map<String, Value>, more: Map<String, Value>) {
    for (key, value) in more {
        match (all.get_mut(&key), value) {
            (Some(Value::Object(known)), Value::Object(more)) => merge(known, more),
            (_, value) => drop(all.insert(key, value)),
        }
    }
}

/// A block with stand-ins for its expressions, and which parts of it come from where.
fn shielded(
    outline: &Outline<'_>,
    block: Range<usize>,
    expressions: &mut Vec<String>,
) -> (String, Vec<(usize, usize)>) {
    let (mut text, mut places, mut quote) = (String::new(), Vec::new(), None);
    let first = outline.segments.partition_point(|segment| segment.range.end <= block.start);
    for segment in &outline.segments[first..] {
        if segment.range.start >= block.end {
            break;
        }
        let range = segment.range.start.max(block.start)..segment.range.end.min(block.end);
        places.push((text.len(), range.start));
        let part = &outline.text[range];
        match segment.kind {
            Kind::Expression => {
                let number = expressions.len();
                expressions.push(part.to_owned());
                match quote {
                    Some(_) => text.push_str(&format!("{WITHIN}{number}{END}")),
                    None => text.push_str(&format!("\"{WHOLE}{number}{END}\"")),
                }
            }
            Kind::Comment | Kind::Statement => {}
            Kind::Text | Kind::Raw | Kind::Shielded => {
                quote = quote_after(part, quote);
                text.push_str(part);
            }
        }
    }
    if places.is_empty() {
        places.push((0, block.start));
    }
    (text, places)
}

/// What resolving the values of a template's tables takes.
pub(crate) struct Resolve<'a> {
    /// Renders a text with what is known so far.
    pub(crate) render: &'a mut dyn FnMut(&str, &Lifted) -> Result<String, SyntaxError>,
    /// What names are that the file does not say.
    pub(crate) outside: &'a dyn Fn(&str) -> Option<Value>,
    /// Where to tell of what cannot be resolved.
    pub(crate) place: &'a dyn Fn(&str) -> usize,
}

/// One of the tables.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Table {
    Vars,
    Otel,
    Matrix,
}

/// A key of one of the tables.
type Name = (Table, String);

/// Adds the keys of tables that an expression reads; a bare name is one of `[vars]`.
fn qualified(expression: &str, found: &mut BTreeSet<Name>) {
    let Ok(outline) = Outline::new(expression, false) else { return };
    for segment in 0..outline.segments.len() {
        let tokens = outline.tokens(segment);
        for at in (0..tokens.tokens.len()).filter(|at| tokens.is_word(*at)) {
            let table = match tokens.word(at) {
                "vars" => Table::Vars,
                "otel" => Table::Otel,
                "matrix" => Table::Matrix,
                bare if !tokens.is_attribute(at)
                    && !matches!(tokens.sign(at + 1), "(" | "=" | "::")
                    && tokens.sign(at.wrapping_sub(1)) != "|" =>
                {
                    found.insert((Table::Vars, bare.to_owned()));
                    continue;
                }
                _ => continue,
            };
            let key = match tokens.sign(at + 1) {
                "[" => tokens.string(at + 2),
                _ => tokens.text(at + 2),
            };
            found.insert((table, key.to_owned()));
        }
    }
}

impl Lifted {
    /// Whether some value is an expression.
    pub(crate) fn is_open(&self) -> bool {
        !self.expressions.is_empty()
    }

    /// The names that the values read.
    pub(crate) fn names(&self) -> BTreeSet<String> {
        self.expressions.iter().flat_map(|text| names(text)).collect()
    }

    fn table(&mut self, table: Table) -> &mut Map<String, Value> {
        match table {
            Table::Vars => &mut self.vars,
            Table::Otel => &mut self.otel,
            Table::Matrix => &mut self.matrix,
        }
    }

    /// Resolves the values that are expressions, each after those it reads.
    ///
    /// # Errors
    /// When one cannot be rendered, or they read each other in a circle.
    pub(crate) fn resolve(&mut self, how: Resolve<'_>) -> Result<(), SyntaxError> {
        let mut open: BTreeMap<Name, (Value, BTreeSet<Name>)> = BTreeMap::new();
        for table in [Table::Vars, Table::Otel, Table::Matrix] {
            for (key, value) in self.table(table).clone() {
                let mut reads = BTreeSet::new();
                if self.reads(&value, &mut reads) {
                    // One that names itself means what it is outside, or else its default.
                    let own = (table, key.clone());
                    if reads.contains(&own)
                        && ((how.outside)(&key).is_some() || self.has_default(&key))
                    {
                        reads.remove(&own);
                    }
                    self.table(table).remove(&key);
                    open.insert((table, key), (value, reads));
                }
            }
        }
        loop {
            let waits = |reads: &BTreeSet<Name>| open.keys().any(|name| reads.contains(name));
            let ready = open.iter().find(|(_, (_, reads))| !waits(reads));
            let Some(key) = ready.map(|(key, _)| key.clone()) else { break };
            let (value, reads) = open.remove(&key).expect("it was just found");
            let mut known = self.clone();
            let own = (key.0, key.1.clone());
            for (_, name) in
                reads.iter().chain([&own]).filter(|(_, name)| !self.vars.contains_key(name))
            {
                known.vars.extend((how.outside)(name).map(|value| (name.clone(), value)));
            }
            let resolved = self.render(&value, &known, how.render)?;
            self.table(key.0).insert(key.1, resolved);
        }
        if let Some((_, key)) = open.keys().next() {
            let circle: Vec<&str> = open.keys().map(|(_, key)| key.as_str()).collect();
            let message =
                format!("these variables read each other in a circle: {}", circle.join(", "));
            return Err(SyntaxError::new((how.place)(key), message).code("render/circle"));
        }
        Ok(())
    }

    /// Whether an expression that reads `name` says what it is where it is not set.
    fn has_default(&self, name: &str) -> bool {
        let reads = |text: &&String| names(text).contains(name);
        self.expressions.iter().filter(reads).any(|text| text.contains("default"))
    }

    fn expression(&self, stand_in: &str) -> Option<&str> {
        let number = stand_in.split(END).next()?.parse::<usize>().ok()?;
        self.expressions.get(number).map(String::as_str)
    }

    /// Adds the names that the expressions in a value read; whether there are expressions.
    fn reads(&self, value: &Value, found: &mut BTreeSet<Name>) -> bool {
        match value {
            Value::String(text) => {
                let stand_ins = text.split([WITHIN, WHOLE]).skip(1);
                let expressions: Vec<&str> =
                    stand_ins.filter_map(|rest| self.expression(rest)).collect();
                expressions.iter().for_each(|expression| qualified(expression, found));
                !expressions.is_empty()
            }
            Value::Array(items) => {
                items.iter().map(|item| self.reads(item, found)).max().unwrap_or(false)
            }
            Value::Object(entries) => {
                entries.values().map(|item| self.reads(item, found)).max().unwrap_or(false)
            }
            _ => false,
        }
    }

    fn render(
        &self,
        value: &Value,
        known: &Lifted,
        render: &mut dyn FnMut(&str, &Lifted) -> Result<String, SyntaxError>,
    ) -> Result<Value, SyntaxError> {
        Ok(match value {
            Value::String(text) if text.contains([WITHIN, WHOLE]) => {
                let whole = text.starts_with(WHOLE);
                let mut template = String::new();
                for (number, part) in text.split([WITHIN, WHOLE]).enumerate() {
                    match (number, part.split_once(END)) {
                        (0, _) | (_, None) => template.push_str(part),
                        (_, Some((number, rest))) => {
                            template.push_str(self.expression(number).unwrap_or_default());
                            template.push_str(rest);
                        }
                    }
                }
                let rendered = render(&template, known)?;
                if whole { typed(&rendered) } else { Value::String(rendered) }
            }
            Value::Array(items) => {
                let items = items.iter().map(|item| self.render(item, known, render));
                Value::Array(items.collect::<Result<_, _>>()?)
            }
            Value::Object(entries) => {
                let mut resolved = Map::new();
                for (key, value) in entries {
                    resolved.insert(key.clone(), self.render(value, known, render)?);
                }
                Value::Object(resolved)
            }
            other => other.clone(),
        })
    }
}

/// The names a template reads.
fn names(text: &str) -> BTreeSet<String> {
    if !is_template(text) {
        return BTreeSet::new();
    }
    let outline = Outline::new(text, false);
    outline.map(|outline| outline.names(0..outline.segments.len())).unwrap_or_default()
}

fn json(item: &toml_edit::Item) -> Value {
    match item {
        toml_edit::Item::None => Value::Null,
        toml_edit::Item::Value(value) => json_value(value),
        toml_edit::Item::Table(table) => json_table(table),
        toml_edit::Item::ArrayOfTables(tables) => tables.iter().map(json_table).collect(),
    }
}

fn json_table(table: &toml_edit::Table) -> Value {
    table.iter().map(|(key, item)| (key.to_owned(), json(item))).collect()
}

fn json_value(value: &toml_edit::Value) -> Value {
    use toml_edit::Value as Toml;
    match value {
        Toml::String(text) => text.value().clone().into(),
        Toml::Integer(number) => (*number.value()).into(),
        Toml::Float(number) => (*number.value()).into(),
        Toml::Boolean(flag) => (*flag.value()).into(),
        Toml::Datetime(date) => date.value().to_string().into(),
        Toml::Array(array) => array.iter().map(json_value).collect(),
        Toml::InlineTable(table) => {
            table.iter().map(|(key, value)| (key.to_owned(), json_value(value))).collect()
        }
    }
}
