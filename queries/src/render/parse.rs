//! Parses templates: as Tera's, else by the rules of the dialect, else without their TOML comments.

use std::sync::LazyLock;

use clnrm_engine::Cx;
use regex::Regex;

use super::library::Mode;
use super::scope::Scope;
use super::{NOWHERE, skeleton};
use crate::dialect::{Default, Outline, Rewritten, SyntaxError};

/// The outline of a template, its mode, and how it is given to Tera.
pub(super) type Parsed<'a> = (Outline<'a>, Mode, tera::Template, Vec<Default>);

/// How a template has to be read.
pub(super) fn mode(cx: &Cx<'_>, folder: &str, text: &str) -> Result<Mode, SyntaxError> {
    parse(cx, folder, "template", text).map(|(_, mode, ..)| mode)
}

/// Parses a template: as Tera's, else by the rules of the dialect, else without its TOML comments.
pub(super) fn parse<'a>(
    cx: &Cx<'_>,
    folder: &str,
    name: &str,
    text: &'a str,
) -> Result<Parsed<'a>, SyntaxError> {
    let outline = match Outline::new(text, false) {
        Ok(outline) => outline,
        Err(error) => return parse_shielded(cx, folder, name, text).ok_or(error),
    };
    if let Ok(template) = skeleton::parse(name, text, &outline.segments) {
        return Ok((outline, Mode::Plain, template, Vec::new()));
    }
    match parse_rewritten(cx, folder, name, &outline) {
        Ok((template, defaults)) => Ok((outline, Mode::Dialect, template, defaults)),
        Err(error) => parse_shielded(cx, folder, name, text).ok_or(error),
    }
}

fn parse_shielded<'a>(cx: &Cx<'_>, folder: &str, name: &str, text: &'a str) -> Option<Parsed<'a>> {
    let outline = Outline::new(text, true).ok()?;
    let (template, defaults) = parse_rewritten(cx, folder, name, &outline).ok()?;
    Some((outline, Mode::Shielded, template, defaults))
}

fn parse_rewritten(
    cx: &Cx<'_>,
    folder: &str,
    name: &str,
    outline: &Outline<'_>,
) -> Result<(tera::Template, Vec<Default>), SyntaxError> {
    let scope = Scope::new(cx, folder, outline)?;
    // What does not fit its signature is told before what does not parse.
    scope.uses(0..outline.segments.len(), None)?;
    let rewritten = scope.rewrite(0..outline.segments.len(), None)?;
    let template = tera::Template::new(name, None, &rewritten.text)
        .map_err(|error| syntax_error(&error, &rewritten))?;
    Ok((template, rewritten.defaults))
}

/// What Tera says of a template that does not parse, at its place in the author's text.
fn syntax_error(error: &tera::Error, rewritten: &Rewritten) -> SyntaxError {
    static PLACE: LazyLock<Regex> =
        LazyLock::new(|| Regex::new(r"--> (\d+):(\d+)").expect("the pattern is a constant"));
    let text = chain(error);
    let number = |found: &regex::Captures<'_>, at: usize| found[at].parse::<usize>().ok();
    let place = PLACE.captures(&text).and_then(|it| Some((number(&it, 1)?, number(&it, 2)?)));
    let expected = text.lines().rev().find(|line| line.trim_start().starts_with("= "));
    let message = expected.map_or_else(
        || text.lines().next().unwrap_or_default().to_owned(),
        |line| line.trim_start().trim_start_matches("= ").to_owned(),
    );
    let offset = place.map_or(NOWHERE, |(line, column)| {
        let before =
            rewritten.text.split_inclusive('\n').take(line - 1).map(str::len).sum::<usize>();
        let line = rewritten.text[before..].split('\n').next().unwrap_or_default();
        let within = line.char_indices().nth(column - 1).map_or(line.len(), |(at, _)| at);
        rewritten.map.old(before + within)
    });
    SyntaxError::new(offset, message)
}

/// An error and its causes, a line each.
pub(super) fn chain(error: &tera::Error) -> String {
    let mut text = error.to_string();
    let mut cause = std::error::Error::source(error);
    while let Some(error) = cause {
        text = format!("{text}\n{error}");
        cause = error.source();
    }
    text
}
