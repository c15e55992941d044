//! Finds the line and column of a problem, in the file as its author wrote it.

use clnrm_engine::{Cx, Unit};

use crate::diagnostic::{At, Diagnostic, KeyPath, Problem};
use crate::document;
use crate::render::{PLACES, RENDERED};
use crate::source::{SOURCE, line_and_column};

/// Looks places up. It reads the file's text only when asked for one, so a report without
/// diagnostics does not depend on where anything stands.
pub(crate) struct Locator<'a> {
    cx: &'a Cx<'a>,
    unit: Unit,
}

impl<'a> Locator<'a> {
    pub(crate) fn new(cx: &'a Cx<'a>, unit: &Unit) -> Locator<'a> {
        Locator { cx, unit: unit.clone() }
    }

    pub(crate) fn file(&self) -> String {
        self.unit.path.to_string()
    }

    /// In the order of the file.
    pub(crate) fn diagnostics(&self, problems: &[Problem]) -> Vec<Diagnostic> {
        let mut diagnostics: Vec<Diagnostic> =
            problems.iter().map(|problem| self.diagnostic(problem)).collect();
        diagnostics.sort_by_key(|diagnostic| (diagnostic.line, diagnostic.column));
        diagnostics
    }

    pub(crate) fn diagnostic(&self, problem: &Problem) -> Diagnostic {
        let (line, column) = self.place(&problem.at);
        Diagnostic {
            code: problem.code.clone(),
            severity: problem.severity,
            message: problem.message.clone(),
            file: self.unit.path.to_string(),
            line,
            column,
            hint: problem.hint.clone(),
        }
    }

    pub(crate) fn place(&self, at: &At) -> (u32, u32) {
        match at {
            At::File => (0, 0),
            At::Source(line, column) => (*line, *column),
            At::Rendered(offset) => self.written(*offset),
            At::Key(path) => self.key(path).map_or((0, 0), |offset| self.written(offset)),
        }
    }

    fn key(&self, path: &KeyPath) -> Option<usize> {
        let rendered = self.cx.get(&RENDERED, &self.unit);
        document::place(&rendered.as_ref().as_ref().ok()?.0, path)
    }

    /// The place in the author's text of an offset in the rendered text.
    ///
    /// What a macro or another template has written lies where the template asks for it.
    fn written(&self, offset: usize) -> (u32, u32) {
        let file = Unit::file(self.unit.path.clone());
        let (rendered, source) = (self.cx.get(&RENDERED, &self.unit), self.cx.get(&SOURCE, &file));
        let (Ok(rendered), Ok(source)) = (rendered.as_ref(), source.as_ref()) else {
            return (0, 0);
        };
        if rendered == source {
            return line_and_column(&source.0, offset);
        }
        let places = self.cx.get(&PLACES, &self.unit);
        let place = places.as_ref().as_ref().and_then(|places| places.of(offset));
        place.map_or((0, 0), |(offset, _)| line_and_column(&source.0, offset))
    }
}
