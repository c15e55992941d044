//! Diagnostics: something to tell the user, with a place.
//!
//! Queries make [`Problem`]s, which name a key or an offset and so survive edits elsewhere in the
//! file; only when one is reported does it get the line and column it has at that moment.

use std::fmt;

use serde::{Deserialize, Serialize};

/// How bad it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Severity {
    /// Good to know.
    Note,
    /// Probably not what was meant.
    Warning,
    /// The test cannot be run or judged as it says.
    Error,
}

/// Something to tell about a file, before it has a line.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Problem {
    /// Stage and rule: `shape/unknown-service`.
    pub code: String,
    /// How bad it is.
    pub severity: Severity,
    /// One sentence, lower case, without a full stop.
    pub message: String,
    /// The next step.
    pub hint: Option<String>,
    /// What few problems have.
    pub aside: Option<Box<Aside>>,
    /// Where.
    pub at: At,
}

/// What few problems have.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Aside {
    /// What else belongs to it, with where that is.
    pub notes: Vec<(KeyPath, String)>,
    /// A change of the file that mends it.
    pub fix: Option<Fix>,
}

/// A change of a file, before it has a place.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub enum Fix {
    /// The key gets another name.
    Rename(KeyPath, String),
    /// The key goes, with its value and its line.
    Remove(KeyPath),
    /// These lines come after the line of the key.
    InsertAfter(KeyPath, String),
}

/// The code of a key in an expectation that nobody understands.
pub(crate) const UNKNOWN_EXPECTATION: &str = "parse/unknown-expectation";

/// Where a problem is.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub enum At {
    /// The file as a whole.
    File,
    /// A line and a column of the file as it was written, from 1.
    Source(u32, u32),
    /// A byte of the rendered text.
    Rendered(usize),
    /// A key of the document.
    Key(KeyPath),
    /// So many bytes into the string that a key is set to, or into the key's name where it is set
    /// to something else.
    Within(KeyPath, usize),
}

/// The way to a value in a document.
#[derive(Clone, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub struct KeyPath(pub Vec<Part>);

/// A step on the way to a value.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub enum Part {
    /// Into a table.
    Key(String),
    /// Into an array.
    Index(usize),
}

impl KeyPath {
    /// Of a key at the top.
    pub fn top(key: &str) -> KeyPath {
        KeyPath::default().key(key)
    }

    /// Of a key in the table here.
    pub fn key(&self, key: &str) -> KeyPath {
        let mut parts = self.0.clone();
        parts.push(Part::Key(key.to_owned()));
        KeyPath(parts)
    }

    /// Of an element of the array here.
    pub fn index(&self, index: usize) -> KeyPath {
        let mut parts = self.0.clone();
        parts.push(Part::Index(index));
        KeyPath(parts)
    }
}

impl fmt::Display for KeyPath {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (place, part) in self.0.iter().enumerate() {
            match part {
                Part::Key(key) if place == 0 => write!(f, "{key}")?,
                Part::Key(key) => write!(f, ".{key}")?,
                Part::Index(index) => write!(f, "[{index}]")?,
            }
        }
        Ok(())
    }
}

impl Problem {
    /// An error.
    pub fn error(code: &str, at: At, message: impl Into<String>) -> Problem {
        let (code, message) = (code.to_owned(), message.into());
        Problem { code, severity: Severity::Error, message, hint: None, aside: None, at }
    }

    /// A warning.
    pub fn warning(code: &str, at: At, message: impl Into<String>) -> Problem {
        Problem { severity: Severity::Warning, ..Problem::error(code, at, message) }
    }

    /// With the next step for the user.
    pub fn hint(self, hint: impl Into<String>) -> Problem {
        Problem { hint: Some(hint.into()), ..self }
    }

    /// With something else that belongs to it.
    pub fn also(mut self, path: KeyPath, note: impl Into<String>) -> Problem {
        self.aside.get_or_insert_default().notes.push((path, note.into()));
        self
    }

    /// With a change that mends it.
    pub fn fix(mut self, fix: Fix) -> Problem {
        self.aside.get_or_insert_default().fix = Some(fix);
        self
    }

    /// With a hint at the nearest of the names that would have been right.
    pub fn did_you_mean<'a>(
        self,
        name: &str,
        candidates: impl IntoIterator<Item = &'a str>,
    ) -> Problem {
        match nearest(name, candidates) {
            Some(candidate) => self.hint(format!("did you mean `{candidate}`?")),
            None => self,
        }
    }
}

/// Something to tell the user, with a place in a file.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Diagnostic<S = String> {
    /// Stage and rule: `shape/unknown-service`.
    pub code: S,
    /// How bad it is.
    pub severity: Severity,
    /// One sentence, lower case, without a full stop.
    pub message: S,
    /// Path relative to the workspace.
    pub file: S,
    /// From 1; 0 when the file as a whole is meant.
    pub line: u32,
    /// From 1, in characters; 0 when the line as a whole is meant.
    pub column: u32,
    /// How many characters of the line are meant; 0 when that cannot be told.
    pub length: u32,
    /// The line as its author wrote it; empty when there is none.
    pub excerpt: S,
    /// What else belongs to it, each with its place.
    pub notes: Vec<S>,
    /// The next step.
    pub hint: Option<S>,
    /// A change of the file that mends it.
    pub edit: Option<Edit<S>>,
}

/// A change of a file: the bytes from `start` to `end` become `text`.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[allow(missing_docs, reason = "said above")]
pub struct Edit<S = String> {
    pub start: u32,
    pub end: u32,
    pub text: S,
}

impl Diagnostic {
    /// The same, with its texts where they are.
    pub fn view(&self) -> Diagnostic<&str> {
        Diagnostic {
            code: &self.code,
            severity: self.severity,
            message: &self.message,
            file: &self.file,
            line: self.line,
            column: self.column,
            length: self.length,
            excerpt: &self.excerpt,
            notes: self.notes.iter().map(String::as_str).collect(),
            hint: self.hint.as_deref(),
            edit: self.edit.as_ref().map(|edit| Edit {
                start: edit.start,
                end: edit.end,
                text: edit.text.as_str(),
            }),
        }
    }
}

/// The candidate closest to `name`, if any is close.
pub(crate) fn nearest<'a>(
    name: &str,
    candidates: impl IntoIterator<Item = &'a str>,
) -> Option<&'a str> {
    let scored = candidates
        .into_iter()
        .map(|candidate| (strsim::damerau_levenshtein(name, candidate), candidate));
    let (distance, candidate) = scored.min()?;
    let length = name.chars().count();
    // Short names are near to everything.
    (length > 2 && distance <= 1 + length / 4).then_some(candidate)
}
