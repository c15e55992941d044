//! A file's text.

use std::sync::Arc;

use clnrm_engine::{Content, Cx, Query, Unit};
use serde::{Deserialize, Serialize};

use crate::diagnostic::{At, Problem};

/// The text of a file, or why it has none.
pub(crate) static SOURCE: Query<Source> = Query::new("source", 1, source);

/// See [`SOURCE`].
pub(crate) type Source = Result<Text, Problem>;

/// Text as the author wrote it, without a byte order mark.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Text(pub Arc<str>);

/// Larger files are no tests.
const LARGEST: usize = 16 << 20;

fn source(cx: &Cx<'_>, unit: &Unit) -> Source {
    let bytes = match cx.file(&unit.path) {
        Content::Bytes(bytes) => bytes,
        Content::Absent => return Err(unreadable("there is no such file")),
        Content::Unreadable(reason) => return Err(unreadable(&reason)),
    };
    if bytes.len() > LARGEST {
        let message = format!("the file has {} MiB, the most is 16", bytes.len() >> 20);
        return Err(Problem::error("source/too-large", At::File, message));
    }
    let text = std::str::from_utf8(&bytes).map_err(|error| {
        let valid = String::from_utf8_lossy(&bytes[..error.valid_up_to()]);
        let (line, column) = line_and_column(&valid, valid.len());
        let message = format!("byte {} is not UTF-8", error.valid_up_to());
        Problem::error("source/not-utf8", At::Source(line, column), message)
            .hint("save the file as UTF-8")
    })?;
    let text = text.strip_prefix(MARK).unwrap_or(text);
    if text.starts_with(MARK) {
        let message = "the file begins with two byte-order marks";
        let problem = Problem::error("source/two-marks", At::Source(1, 1), message);
        return Err(problem.hint("save it as UTF-8, with one or none"));
    }
    Ok(Text(text.into()))
}

/// The byte-order mark with which some editors begin a file.
const MARK: char = '\u{feff}';

fn unreadable(reason: &str) -> Problem {
    Problem::error("source/unreadable", At::File, format!("the file cannot be read: {reason}"))
}

/// Line and column, from 1, of a byte of `text`; columns count characters.
pub(crate) fn line_and_column(text: &str, offset: usize) -> (u32, u32) {
    let mut offset = offset.min(text.len());
    while !text.is_char_boundary(offset) {
        offset -= 1;
    }
    let before = &text[..offset];
    let line = before.matches('\n').count() + 1;
    let column = before.rsplit('\n').next().unwrap_or(before).chars().count() + 1;
    (line as u32, column as u32)
}
