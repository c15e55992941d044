//! Renders templates; a file without template syntax is its own rendering.

mod blocks;
mod functions;
mod generators;
mod guard;
mod job;
mod library;
mod matrix;
mod pack;
mod parse;
mod places;
mod prepared;
mod reach;
mod scope;
mod skeleton;
mod template;
mod variables;

use std::collections::BTreeSet;

use clnrm_engine::{Cx, Query, Unit};

use self::template::Template;
use crate::diagnostic::{At, Problem};
use crate::dialect::{EVERYTHING, SyntaxError, is_template};
use crate::settings::FILES as SETTINGS_FILES;
use crate::source::{SOURCE, Text, line_and_column};

#[cfg(test)]
pub(crate) use self::generators::all as generators;
pub(crate) use self::library::{
    BUNDLE, FRAGMENT, SIGNATURE, TEMPLATE_EXISTS, TEMPLATE_PLACE, TEMPLATE_SYNTAX, TEMPLATE_TEXT,
};
pub use self::matrix::{CELLS, numbered};
pub(crate) use self::matrix::{cell_of, number_of};
pub use self::pack::PACK;
pub(crate) use self::places::PLACES;
pub use self::reach::{REACH, Reached};
#[cfg(test)]
pub(crate) use self::skeleton::parse as parse_skeleton;
pub use self::variables::Origin;
pub(crate) use self::variables::PROJECT_VARIABLE;

/// The TOML text of a file, or of a cell of its matrix, which the unit's part names.
pub static RENDERED: Query<Rendered> = Query::new("rendered", 3, rendered);

/// See [`RENDERED`].
pub type Rendered = Result<Text, Problem>;

/// The code of what keeps a matrix file from being one test.
pub(crate) const IS_MATRIX: &str = "render/is-matrix";

/// The most a template may render to.
const LARGEST: usize = 8 << 20;
/// The most a template may have.
const LARGEST_TEMPLATE: usize = 4 << 20;
/// How deep macros may call each other, and templates include others.
const DEEPEST: usize = 16;
/// The clock of templates unless a test sets its own.
const FROZEN_CLOCK: &str = "2025-01-01T00:00:00Z";

fn rendered(cx: &Cx<'_>, unit: &Unit) -> Rendered {
    let source = cx.get(&SOURCE, &Unit::file(unit.path.clone()));
    let text = source.as_ref().as_ref().map_err(Clone::clone)?;
    render(cx, unit, text)
}

/// What a file, or a cell of its matrix, would render to if this were its text.
pub(crate) fn render(cx: &Cx<'_>, unit: &Unit, text: &Text) -> Rendered {
    // Settings are what templates read, so they are none.
    if !is_template(&text.0) || SETTINGS_FILES.contains(&&*unit.path) {
        return Ok(text.clone());
    }
    let rendered = Template::new(cx, unit, &text.0).and_then(|mut template| {
        if unit.part.is_empty() && !template.axes.is_empty() {
            let message = "the file is one test for each cell of its matrix";
            return Err(SyntaxError::new(NOWHERE, message).code(IS_MATRIX));
        }
        template.render()
    });
    rendered.map(|it| Text(it.into())).map_err(|error| problem(&text.0, error))
}

/// The names a file's text and what it uses read; `None` when they read all there are, or cannot be
/// told.
pub(crate) fn names_read(cx: &Cx<'_>, unit: &Unit) -> Option<BTreeSet<String>> {
    let source = cx.get(&SOURCE, &Unit::file(unit.path.clone()));
    let text = source.as_ref().as_ref().ok()?;
    if !is_template(&text.0) {
        return Some(BTreeSet::new());
    }
    let template = Template::new(cx, unit, &text.0).ok()?;
    let mut names = template.uses.names;
    names.extend(template.lifted.names());
    (!names.contains(EVERYTHING)).then_some(names)
}

/// An error in a template as a problem of the file it is in.
pub(crate) fn problem(text: &str, error: SyntaxError) -> Problem {
    let SyntaxError { offset, code, message, hint } = error;
    let at = if offset == NOWHERE {
        At::File
    } else {
        let (line, column) = line_and_column(text, offset);
        At::Source(line, column)
    };
    Problem { hint, ..Problem::error(&code, at, message) }
}

/// The offset of an error that is of no place.
const NOWHERE: usize = usize::MAX;
