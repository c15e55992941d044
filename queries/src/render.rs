//! Renders templates; a file without template syntax is its own rendering.

mod functions;
mod prepared;
mod recursion;

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, LazyLock};

use clnrm_engine::{Content, Cx, Query, Unit};
use regex::Regex;
use serde::{Deserialize, Serialize};
use tera::Context;

use self::functions::Environment;
use self::recursion::Calls;
use crate::diagnostic::{At, Problem};
use crate::source::{SOURCE, Text, line_and_column};

/// The TOML text of a file.
pub static RENDERED: Query<Rendered> = Query::new("rendered", 1, rendered);

/// See [`RENDERED`].
pub type Rendered = Result<Text, Problem>;

/// The most a template may render to.
const LARGEST: usize = 8 << 20;

fn rendered(cx: &Cx<'_>, unit: &Unit) -> Rendered {
    let source = cx.get(&SOURCE, unit);
    let text = source.as_ref().as_ref().map_err(Clone::clone)?;
    if !is_template(&text.0) {
        return Ok(text.clone());
    }
    let references = references(&text.0);
    let libraries = libraries(cx, unit, &text.0, &references)?;
    refuse_recursion(unit, &text.0, references, &libraries)?;
    let context = context(&text.0)?;
    let clock = {
        let source = source.clone();
        move || source.as_ref().as_ref().map_or_else(|_| String::new(), |text| clock(&text.0))
    };
    let files = libraries.iter().map(|(name, used)| (name.clone(), used.library.text.clone()));
    prepared::with_template(files.collect(), &unit.path, &text.0, |tera| {
        // A function cannot reach `cx`, so it stops at the first variable it does not know yet,
        // and rendering starts again with that one: exactly the variables that are read are
        // recorded.
        let known = Environment::default();
        functions::register(tera, &known, &clock);
        loop {
            let outcome = tera.render(&unit.path, &context);
            let Some(name) = known.take_wanted() else { return finish(outcome, &text.0) };
            let value = cx.env(&name);
            known.insert(name, value);
        }
    })
    .map_err(|error| syntax_error(&error, &libraries))?
}

/// Whether a text is a template.
pub(crate) fn is_template(text: &str) -> bool {
    ["{{", "{%", "{#"].iter().any(|mark| text.contains(mark))
}

fn finish(outcome: tera::Result<String>, source: &str) -> Rendered {
    let text = outcome.map_err(|error| render_error(&error, source))?;
    if text.len() > LARGEST {
        let message = format!("the template renders to {} MiB, the most is 8", text.len() >> 20);
        return Err(Problem::error("render/too-large", At::File, message));
    }
    Ok(Text(text))
}

/// What templates import, include or extend; the unit is the file. `None` when there is none.
pub(crate) static LIBRARY: Query<Option<Result<Library, String>>> =
    Query::new("library", 1, library);

/// A file that templates use.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub(crate) struct Library {
    text: Arc<str>,
    /// The files it uses itself, with the places of their names.
    references: Vec<(String, usize)>,
    /// A way from one of its macros back to itself, if there is one.
    circle: Option<Vec<String>>,
}

fn library(cx: &Cx<'_>, unit: &Unit) -> Option<Result<Library, String>> {
    match cx.file(&unit.path) {
        Content::Absent => None,
        Content::Unreadable(reason) => Some(Err(format!("cannot be read: {reason}"))),
        Content::Bytes(bytes) => Some(match std::str::from_utf8(&bytes) {
            Ok(text) => Ok(Library {
                text: text.into(),
                references: references(text),
                circle: recursion::cycle(&recursion::macro_calls(text)),
            }),
            Err(_) => Err("is not UTF-8".to_owned()),
        }),
    }
}

/// The files a template imports, includes or extends, directly or not, by the names it uses.
type Libraries = BTreeMap<String, Used>;

struct Used {
    library: Library,
    /// Where the template asks for it, or for what asks for it.
    at: At,
}

fn libraries(
    cx: &Cx<'_>,
    unit: &Unit,
    text: &str,
    references: &[(String, usize)],
) -> Result<Libraries, Problem> {
    let (mut found, mut seen) = (BTreeMap::new(), BTreeSet::new());
    let mut open: Vec<(String, At)> = references
        .iter()
        .map(|(name, offset)| {
            let (line, column) = line_and_column(text, *offset);
            (name.clone(), At::Source(line, column))
        })
        .collect();
    while let Some((name, at)) = open.pop() {
        if !seen.insert(name.clone()) {
            continue;
        }
        let library = find_library(cx, unit, &name, &at)?;
        open.extend(library.references.iter().map(|(name, _)| (name.clone(), at.clone())));
        found.insert(name, Used { library, at });
    }
    Ok(found)
}

/// No file includes itself, and no macro calls itself, directly or not.
fn refuse_recursion(
    unit: &Unit,
    text: &str,
    references: Vec<(String, usize)>,
    libraries: &Libraries,
) -> Result<(), Problem> {
    let own = recursion::cycle(&recursion::macro_calls(text));
    let own = (unit.path.to_string(), references, own, &At::File);
    let others = libraries.iter().map(|(name, Used { library, at })| {
        (name.clone(), library.references.clone(), library.circle.clone(), at)
    });
    let mut files = Calls::new();
    for (name, references, circle, at) in [own].into_iter().chain(others) {
        if let Some(circle) = circle {
            let message =
                format!("macros of {name} call each other in a circle: {}", circle.join(" → "));
            return Err(Problem::error("render/recursion", at.clone(), message));
        }
        files.insert(name, references.into_iter().map(|(name, _)| name).collect());
    }
    if let Some(circle) = recursion::cycle(&files) {
        let used = circle.iter().find_map(|name| libraries.get(name));
        let at = used.map_or(At::File, |used| used.at.clone());
        let message = format!("templates include each other in a circle: {}", circle.join(" → "));
        return Err(Problem::error("render/recursion", at, message));
    }
    Ok(())
}

/// Looks for a library beside the file, then in the workspace's `templates/`.
fn find_library(cx: &Cx<'_>, unit: &Unit, name: &str, at: &At) -> Result<Library, Problem> {
    let outside = name.starts_with('/') || name.split('/').any(|part| part == "..");
    if outside {
        let message = format!("`{name}` lies outside the folders templates are taken from");
        return Err(Problem::error("render/outside", at.clone(), message));
    }
    let folder = unit.path.rsplit_once('/').map_or("", |(folder, _)| folder);
    let mut places = vec![join(folder, name), join("templates", name), name.to_owned()];
    places.dedup();
    if places.first() == places.last() {
        places.truncate(2);
    }
    for place in &places {
        match cx.get(&LIBRARY, &Unit::file(place.as_str())).as_ref() {
            None => {}
            Some(Ok(library)) => return Ok(library.clone()),
            Some(Err(reason)) => {
                let message = format!("`{place}` {reason}");
                return Err(Problem::error("render/unreadable", at.clone(), message));
            }
        }
    }
    let message = format!("there is no template `{name}`");
    Err(Problem::error("render/missing-template", at.clone(), message)
        .hint(format!("looked for {}", places.join(", "))))
}

fn join(folder: &str, name: &str) -> String {
    if folder.is_empty() { name.to_owned() } else { format!("{folder}/{name}") }
}

/// The template files a text names, with the places of the names.
fn references(text: &str) -> Vec<(String, usize)> {
    static TAG: LazyLock<Regex> = LazyLock::new(|| {
        let tag = Regex::new(r#"\{%-?\s*(?:import|include|extends)\s+["'`]([^"'`]+)["'`]"#);
        tag.expect("the pattern is a constant")
    });
    let names = TAG.captures_iter(text).filter_map(|found| found.get(1));
    names.map(|name| (name.as_str().to_owned(), name.start())).collect()
}

/// What a template sees: its own `[vars]`, as `vars.x` and as `x`.
fn context(text: &str) -> Result<Context, Problem> {
    let mut context = Context::new();
    let mut vars = serde_json::Map::new();
    for (start, block) in blocks(text, &["[vars]", "[template.vars]"]) {
        let parsed = toml_edit::Document::parse(block).map_err(|error| {
            let offset = start + error.span().map_or(0, |range| range.start);
            let (line, column) = line_and_column(text, offset);
            let message = error.message().trim().replace('\n', ", ");
            Problem::error("parse/vars", At::Source(line, column), message)
        })?;
        for (key, item) in parsed.as_table() {
            vars.insert(key.to_owned(), json(item));
        }
    }
    for (key, value) in &vars {
        context.insert(key, value);
    }
    context.insert("vars", &vars);
    Ok(context)
}

/// The clock of templates unless a test sets its own.
const FROZEN_CLOCK: &str = "2025-01-01T00:00:00Z";

/// The time a template's own `[determinism]` freezes the clock at.
fn clock(text: &str) -> String {
    let set = blocks(text, &["[determinism]"]).into_iter().find_map(|(_, block)| {
        // What does not parse is told of where the document is read.
        let parsed = toml_edit::Document::parse(block).ok()?;
        let value = parsed.as_table().get("freeze_clock")?.as_value()?;
        value.as_str().map(str::to_owned).or_else(|| value.as_datetime().map(|d| d.to_string()))
    });
    set.unwrap_or_else(|| FROZEN_CLOCK.to_owned())
}

/// The lines below some headers, up to the next header or template tag, with where they begin.
fn blocks<'a>(text: &'a str, headers: &[&str]) -> Vec<(usize, &'a str)> {
    let (mut blocks, mut open, mut offset) = (Vec::new(), None, 0);
    for line in text.split_inclusive('\n') {
        let trimmed = line.split('#').next().unwrap_or(line).trim();
        let ends = trimmed.starts_with('[') || trimmed.starts_with('{');
        if let Some(start) = open.filter(|_| ends) {
            blocks.push((start, &text[start..offset]));
            open = None;
        }
        offset += line.len();
        if headers.contains(&trimmed) {
            open = Some(offset);
        }
    }
    blocks.extend(open.map(|start| (start, &text[start..])));
    blocks
}

fn json(item: &toml_edit::Item) -> serde_json::Value {
    item.as_value().map_or(serde_json::Value::Null, json_value)
}

fn json_value(value: &toml_edit::Value) -> serde_json::Value {
    use toml_edit::Value;
    match value {
        Value::String(text) => text.value().clone().into(),
        Value::Integer(number) => (*number.value()).into(),
        Value::Float(number) => (*number.value()).into(),
        Value::Boolean(flag) => (*flag.value()).into(),
        Value::Datetime(date) => date.value().to_string().into(),
        Value::Array(array) => array.iter().map(json_value).collect(),
        Value::InlineTable(table) => {
            table.iter().map(|(key, value)| (key.to_owned(), json_value(value))).collect()
        }
    }
}

/// A template that does not parse; Tera tells the file and the place in its message.
fn syntax_error(error: &tera::Error, libraries: &Libraries) -> Problem {
    let text = chain(error);
    let place = Regex::new(r"--> (\d+):(\d+)").expect("the pattern is a constant");
    let place = place
        .captures(&text)
        .and_then(|found| Some((found[1].parse::<u32>().ok()?, found[2].parse::<u32>().ok()?)));
    let expected = text.lines().rev().find(|line| line.trim_start().starts_with("= "));
    let message = expected.map_or_else(
        || text.lines().next().unwrap_or_default().to_owned(),
        |line| line.trim_start().trim_start_matches("= ").to_owned(),
    );
    let names = |(name, _): &(&String, &Used)| text.contains(&format!("Failed to parse '{name}'"));
    match (libraries.iter().find(names), place) {
        (Some((name, used)), place) => {
            let (line, column) = place.unwrap_or_default();
            let message = format!("{name}:{line}:{column}: {message}");
            Problem::error("render/syntax", used.at.clone(), message)
        }
        (None, Some((line, column))) => {
            Problem::error("render/syntax", At::Source(line, column), message)
        }
        (None, None) => Problem::error("render/syntax", At::File, message),
    }
}

/// A template that fails while it renders; Tera names what failed but not where, so the first
/// place where that name is written is shown.
fn render_error(error: &tera::Error, source: &str) -> Problem {
    let mut reasons = chain(error).lines().map(str::to_owned).collect::<Vec<_>>();
    if reasons.len() > 1 && reasons[0].starts_with("Failed to render") {
        reasons.remove(0);
    }
    let message = reasons.join(": ");
    let message = message.split(" while rendering ").next().unwrap_or_default();
    let named = Regex::new("[`']([^`']+)[`']").expect("the pattern is a constant");
    let offset = named.captures_iter(message).find_map(|found| source.find(found.get(1)?.as_str()));
    let at = offset.map_or(At::File, |offset| {
        let (line, column) = line_and_column(source, offset);
        At::Source(line, column)
    });
    let first = message.chars().next().map(|first| first.to_lowercase().to_string());
    let rest: String = message.chars().skip(1).collect();
    Problem::error("render/failed", at, first.unwrap_or_default() + &rest)
}

/// An error and its causes, a line each.
fn chain(error: &tera::Error) -> String {
    let mut text = error.to_string();
    let mut cause = std::error::Error::source(error);
    while let Some(error) = cause {
        text = format!("{text}\n{error}");
        cause = error.source();
    }
    text
}
