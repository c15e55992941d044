//! How a file should be written: `clnrm fmt`.
//!
//! The text is laid out anew statement by statement, and what comes out is believed only when it
//! means the same: the same test, after templates are rendered. A file for which that cannot be
//! shown is left alone.

mod entry;
mod layout;
#[cfg(test)]
mod tests;
mod value;

use std::cell::LazyCell;
use std::ops::Range;
use std::sync::Arc;

use clnrm_engine::{Cx, Digest, Query, Unit};
use serde::{Deserialize, Serialize};

use self::layout::{Order, lay_out};
use crate::diagnostic::{At, Diagnostic, Problem};
use crate::dialect::{Kind, is_template, scan};
use crate::document::{self, Tree};
use crate::model;
use crate::render::{CELLS, RENDERED, Rendered, render};
use crate::report::Locator;
use crate::source::{SOURCE, Text};

/// A file as it should be written: the root of `fmt`.
pub static FORMATTED: Query<Formatted> = Query::new("formatted", 4, formatted).kept();

/// See [`FORMATTED`].
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub enum Formatted {
    /// It is written so.
    Same,
    /// It should be another text.
    Changed {
        /// The digest of the text it is made of; see [`source_digest`].
        from: Digest,
        /// The text, without a byte order mark.
        text: Arc<str>,
    },
    /// It stays as it is, for this reason.
    Left(Box<Diagnostic>),
}

/// The digest by which a text that was formatted is known.
pub fn source_digest(text: &str) -> Digest {
    Digest::of("clnrm 2026-11 formatted source", text.as_bytes())
}

fn formatted(cx: &Cx<'_>, unit: &Unit) -> Formatted {
    match attempt(cx, unit) {
        Ok(None) => Formatted::Same,
        Ok(Some((from, text))) => Formatted::Changed { from, text },
        Err(problem) => Formatted::Left(Box::new(Locator::new(cx, unit).diagnostic(&problem))),
    }
}

fn attempt(cx: &Cx<'_>, unit: &Unit) -> Result<Option<(Digest, Arc<str>)>, Problem> {
    let source = cx.get(&SOURCE, unit);
    let text = source.as_ref().as_ref().map_err(Clone::clone)?;
    let tags = tags(&text.0)?;
    let before = trees(cx, unit, text, |unit| cx.get(&RENDERED, unit).as_ref().clone())?;
    let before = LazyCell::new(|| meanings(before));
    for order in [Order::Sorted, Order::AsWritten] {
        let candidate = Text(lay_out(&text.0, &tags, order).into());
        if candidate == *text {
            return Ok(None);
        }
        let after = trees(cx, unit, &candidate, |unit| render(cx, unit, &candidate));
        if after.is_ok_and(|after| meanings(after) == *before) {
            return Ok(Some((source_digest(&text.0), candidate.0)));
        }
    }
    let message = "it is left as it is: laid out anew, it would not be the same test";
    Err(Problem::warning("format/meaning", At::File, message))
}

/// Where a text is no plain TOML.
fn tags(text: &str) -> Result<Vec<Range<usize>>, Problem> {
    if !is_template(text) {
        return Ok(Vec::new());
    }
    let segments = scan(text, false).or_else(|_| scan(text, true));
    let segments = segments.map_err(|error| crate::render::problem(text, error))?;
    let plain = |kind| matches!(kind, Kind::Text | Kind::Shielded);
    Ok(segments.into_iter().filter(|it| !plain(it.kind)).map(|it| it.range).collect())
}

/// The values of each test in a file of this text, which renders to `rendered`.
fn trees(
    cx: &Cx<'_>,
    unit: &Unit,
    text: &Text,
    rendered: impl Fn(&Unit) -> Rendered,
) -> Result<Vec<Tree>, Problem> {
    // Without template syntax it renders to itself, and is one test.
    if !is_template(&text.0) {
        return Ok(vec![document::parse(&text.0)?]);
    }
    let cells = cx.get(&CELLS, unit);
    let parts = if cells.is_empty() { vec![String::new()] } else { cells.as_ref().clone() };
    let units = parts.into_iter().map(|part| Unit { part: part.into(), ..unit.clone() });
    units.map(|unit| document::parse(&rendered(&unit)?.0)).collect()
}

/// What they say: the values without their order, and the test. As bytes, of which a NaN has the same
/// as another.
fn meanings(trees: Vec<Tree>) -> Vec<Vec<u8>> {
    let meanings = trees.into_iter().map(|tree| {
        let test = model::read(&tree);
        postcard::to_stdvec(&(sorted(tree), test)).expect("a test is plain data")
    });
    meanings.collect()
}

/// The same with the keys of all tables in one order.
fn sorted(tree: Tree) -> Tree {
    match tree {
        Tree::Table(entries) => {
            let mut entries: Vec<(String, Tree)> =
                entries.into_iter().map(|(key, value)| (key, sorted(value))).collect();
            entries.sort_by(|(a, _), (b, _)| a.cmp(b));
            Tree::Table(entries)
        }
        Tree::Array(items) => Tree::Array(items.into_iter().map(sorted).collect()),
        other => other,
    }
}
