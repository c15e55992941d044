//! Finds the line and column of a problem, in the file as its author wrote it.

use clnrm_engine::{Cx, Unit};

use crate::diagnostic::{At, Diagnostic, KeyPath, Problem};
use crate::document;
use crate::render::RENDERED;
use crate::source::{SOURCE, line_and_column};

/// Looks places up. It reads the file's text only when asked for one, so a report without
/// diagnostics does not depend on where anything stands.
pub(crate) struct Locator<'a> {
    cx: &'a Cx<'a>,
    unit: Unit,
}

impl<'a> Locator<'a> {
    pub(crate) fn new(cx: &'a Cx<'a>, unit: &Unit) -> Locator<'a> {
        Locator { cx, unit: Unit::file(unit.path.clone()) }
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
    /// Where the file is a template it is the line that reads the same in both, if there is
    /// exactly one; a line that a macro or a loop has made has no place of its own.
    fn written(&self, offset: usize) -> (u32, u32) {
        let (rendered, source) =
            (self.cx.get(&RENDERED, &self.unit), self.cx.get(&SOURCE, &self.unit));
        let (Ok(rendered), Ok(source)) = (rendered.as_ref(), source.as_ref()) else {
            return (0, 0);
        };
        let (line, column) = line_and_column(&rendered.0, offset);
        if rendered == source {
            return (line, column);
        }
        let text = rendered.0.lines().nth(line as usize - 1).unwrap_or_default();
        let mut same = (1..).zip(source.0.lines()).filter(|(_, other)| *other == text);
        match (same.next(), same.next()) {
            (Some((line, _)), None) => (line, column),
            _ => (0, 0),
        }
    }
}
