//! The only module that prints. Data goes to standard output, talk to standard error.

mod human;
mod json;
mod style;

use std::fmt::Display;
use std::io::{IsTerminal, Write};
use std::sync::Arc;
use std::time::Duration;

use anstream::adapter::strip_str;
use anstream::{AutoStream, ColorChoice};
use clnrm_backends::BackendError;
use clnrm_engine::{Bug, Counts, Engine, Node};
use clnrm_queries::{Check, Diagnostic, Report};
use serde::Serialize;

use crate::args::Format;
use crate::known::Known;

/// All there is to say of a run.
pub(crate) struct RunSummary {
    pub(crate) tests: Vec<TestResult>,
    /// Those that belong to no test.
    pub(crate) diagnostics: Vec<Diagnostic>,
    pub(crate) stats: Stats,
    /// Which backend, and why.
    pub(crate) backend: String,
    pub(crate) duration: Duration,
}

pub(crate) struct TestResult {
    pub(crate) file: Arc<str>,
    pub(crate) report: Result<Known<Report>, Bug>,
}

/// What the run took.
#[derive(Clone, Copy, Debug, Serialize)]
pub(crate) struct Stats {
    pub(crate) containers_started: u64,
    pub(crate) outcomes_reused: u64,
    pub(crate) nodes_executed: u64,
    pub(crate) nodes_recalled: u64,
    pub(crate) nodes_cut_off: u64,
}

/// All there is to say of a dry run.
pub(crate) struct DrySummary {
    pub(crate) files: Vec<CheckResult>,
    /// Those that belong to no test.
    pub(crate) diagnostics: Vec<Diagnostic>,
    pub(crate) counts: Counts,
    pub(crate) duration: Duration,
}

pub(crate) struct CheckResult {
    pub(crate) file: Arc<str>,
    pub(crate) check: Result<Known<Check>, Bug>,
}

pub(crate) fn run(summary: &RunSummary, format: Format) {
    clear_progress();
    match format {
        Format::Human => out(&human::run(summary)),
        Format::Json => out(&json::run(summary)),
    }
}

pub(crate) fn dry_run(summary: &DrySummary, format: Format) {
    match format {
        Format::Human => out(&human::dry_run(summary)),
        Format::Json => out(&json::dry_run(summary)),
    }
}

/// Data, as it is.
pub(crate) fn text(text: &str) {
    out(text);
}

/// A line of talk.
pub(crate) fn talk(line: &str) {
    err(&format!("{line}\n"));
}

pub(crate) fn diagnostic_to_stderr(diagnostic: &Diagnostic) {
    err(&human::diagnostic(diagnostic));
}

/// An error that is of no test.
pub(crate) fn complain_of(what: &str) {
    err(&human::error(what, None));
}

/// An error of the command itself.
pub(crate) fn complain(error: &anyhow::Error) {
    err(&human::error(&format!("{error:#}"), None));
}

pub(crate) fn backend_failed(error: &BackendError) {
    err(&human::error(&error.to_string(), error.hint()));
}

pub(crate) fn bug(file: &str, bug: &Bug) {
    err(&human::error(&format!("a bug of clnrm, met with {file}: {}", bug.0), None));
}

/// Queries that gave another value for equal reads.
pub(crate) fn impure(nodes: &[Node]) {
    let nodes: Vec<String> = nodes.iter().map(Node::to_string).collect();
    let message =
        format!("a bug of clnrm: computed again, these came out different: {}", nodes.join(", "));
    err(&human::error(&message, Some("the store was removed; please report this")));
}

/// What went wrong with the store, as warnings.
pub(crate) fn store_trouble(engine: &Engine) {
    for line in engine.take_store_trouble() {
        err(&human::warning(&line));
    }
}

/// A line that counts finished runs, on terminals only.
pub(crate) fn progress() -> impl Fn(usize, usize) {
    let shown = std::io::stderr().is_terminal();
    move |done, total| {
        if shown {
            err(&format!("\r\x1b[K{done} of {total} runs done"));
        }
    }
}

fn clear_progress() {
    if std::io::stderr().is_terminal() {
        err("\r\x1b[K");
    }
}

fn out(text: &str) {
    let stdout = std::io::stdout();
    put(AutoStream::choice(&stdout), stdout.lock(), text);
}

fn err(text: &str) {
    let stderr = std::io::stderr();
    put(AutoStream::choice(&stderr), stderr.lock(), text);
}

/// Writes in one piece, without colours where nobody sees them.
fn put(choice: ColorChoice, mut stream: impl Write, text: &str) {
    let plain = (choice == ColorChoice::Never).then(|| strip_str(text).to_string());
    // A reader that has gone away is no reason to fail.
    let _ = stream.write_all(plain.as_deref().unwrap_or(text).as_bytes());
    let _ = stream.flush();
}

/// `1 test`, `2 tests`
fn many(count: impl Into<u64> + Display + Copy, thing: &str) -> String {
    if count.into() == 1 { format!("{count} {thing}") } else { format!("{count} {thing}s") }
}
