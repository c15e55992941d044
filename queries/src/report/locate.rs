//! Finds the line and column of a problem, in the file as its author wrote it.

use std::ops::Range;
use std::sync::Arc;

use clnrm_engine::{Cx, Unit};

use crate::diagnostic::{At, Diagnostic, Edit, Fix, KeyPath, Problem};
use crate::document;
use crate::render::{PLACES, RENDERED};
use crate::source::{SOURCE, Source, line_and_column};

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
        let place = self.place(&problem.at);
        let note = |(path, note): &(KeyPath, String)| {
            let Place { line, column, .. } = self.place(&At::Key(path.clone()));
            format!("{}:{line}:{column}: {note}", self.unit.path)
        };
        let aside = problem.aside.as_deref();
        let mut notes: Vec<String> =
            aside.iter().flat_map(|aside| &aside.notes).map(note).collect();
        notes.extend(place.written_in.map(|place| format!("{place} writes it")));
        Diagnostic {
            code: problem.code.clone(),
            severity: problem.severity,
            message: problem.message.clone(),
            file: self.unit.path.to_string(),
            line: place.line,
            column: place.column,
            length: place.length,
            excerpt: place.excerpt,
            notes,
            hint: problem.hint.clone(),
            edit: aside.and_then(|aside| self.edit(aside.fix.as_ref()?)),
        }
    }

    pub(crate) fn place(&self, at: &At) -> Place {
        match at {
            // The file as a whole: its beginning.
            At::File => Place { line: 1, column: 1, ..Place::default() },
            At::Source(line, column) => self.in_source(*line, *column),
            At::Rendered(offset) => self.written(*offset..*offset),
            At::Key(path) => {
                self.key(path).map_or_else(Place::default, |range| self.written(range))
            }
            At::Within(path, bytes) => {
                let rendered = self.cx.get(&RENDERED, &self.unit);
                let text = rendered.as_ref().as_ref().map_or("", |text| &text.0);
                match document::string_place(text, path) {
                    Some(range) => {
                        let start = (range.start + bytes).min(range.end);
                        self.written(start..start + 1)
                    }
                    None => self.place(&At::Key(path.clone())),
                }
            }
        }
    }

    fn in_source(&self, line: u32, column: u32) -> Place {
        let source = self.source();
        let text = source.as_ref().as_ref().map_or("", |text| &text.0);
        let excerpt = text.lines().nth((line as usize).saturating_sub(1)).unwrap_or_default();
        Place { line, column, excerpt: shortened(excerpt), ..Place::default() }
    }

    fn source(&self) -> Arc<Source> {
        self.cx.get(&SOURCE, &Unit::file(self.unit.path.clone()))
    }

    fn key(&self, path: &KeyPath) -> Option<Range<usize>> {
        let rendered = self.cx.get(&RENDERED, &self.unit);
        document::place(&rendered.as_ref().as_ref().ok()?.0, path)
    }

    /// The place in the author's text of a range of the rendered text.
    ///
    /// What a macro or another template has written lies where the template asks for it.
    fn written(&self, range: Range<usize>) -> Place {
        let (rendered, source) = (self.cx.get(&RENDERED, &self.unit), self.source());
        let (Ok(rendered), Ok(source)) = (rendered.as_ref(), source.as_ref()) else {
            return Place::default();
        };
        if rendered == source {
            let (line, column) = line_and_column(&source.0, range.start);
            let within = source.0[range].lines().next().unwrap_or_default();
            return Place { length: within.chars().count() as u32, ..self.in_source(line, column) };
        }
        let places = self.cx.get(&PLACES, &self.unit);
        let place = places.as_ref().as_ref().and_then(|places| places.of(range.start));
        place.map_or_else(Place::default, |(offset, written_in)| {
            let (line, column) = line_and_column(&source.0, offset);
            let written_in = written_in.map(str::to_owned);
            Place { written_in, ..self.in_source(line, column) }
        })
    }

    /// A change with its place; only of what the author wrote as it is.
    fn edit(&self, fix: &Fix) -> Option<Edit> {
        let (rendered, source) = (self.cx.get(&RENDERED, &self.unit), self.source());
        let text = &source.as_ref().as_ref().ok()?.0;
        if rendered.as_ref().as_ref().ok()?.0 != *text {
            return None;
        }
        let line_of = |at: usize| {
            let start = text[..at].rfind('\n').map_or(0, |end| end + 1);
            let end = text[at..].find('\n').map_or(text.len(), |end| at + end + 1);
            start..end
        };
        let (range, new) = match fix {
            Fix::Rename(path, name) => {
                let place = document::key_place(text, path)?;
                (place, toml_edit::Key::new(name).to_string())
            }
            Fix::Remove(path) => {
                let key = document::key_place(text, path)?;
                let value = self.key(path)?;
                (line_of(key.start).start..line_of(value.end.max(key.end) - 1).end, String::new())
            }
            Fix::InsertAfter(path, lines) => {
                let end = line_of(document::key_place(text, path)?.start).end;
                (end..end, format!("{lines}\n"))
            }
        };
        Some(Edit { start: range.start as u32, end: range.end as u32, text: new })
    }
}

/// A place as it is told.
#[derive(Clone, Debug, Default, PartialEq)]
pub(crate) struct Place {
    pub(crate) line: u32,
    pub(crate) column: u32,
    length: u32,
    excerpt: String,
    /// The template whose text is there when it is not the file's own.
    written_in: Option<String>,
}

/// So much of a line is shown.
const SHOWN: usize = 160;

fn shortened(line: &str) -> String {
    match line.char_indices().nth(SHOWN) {
        Some((end, _)) => format!("{}…", &line[..end]),
        None => line.to_owned(),
    }
}
