//! The only module that prints. Data goes to standard output, talk to standard error.

mod github;
mod human;
mod json;
mod live;
mod progress;
mod sarif;
mod snippet;
mod style;

use std::fmt::Display;
use std::io::Write;
use std::sync::OnceLock;
use std::time::Duration;

use anstream::adapter::strip_str;
use anstream::{AutoStream, ColorChoice};
use clnrm_backends::{BackendError, Finding};
use clnrm_engine::{Counts, Engine, Impure, Stopped, Unit};
use clnrm_queries::{Diagnostic, Reached, Severity, State};
use serde::Serialize;

pub(crate) use self::progress::{Busy, Runs};
use crate::args::{CheckFormat, Format, WatchFormat};
use crate::exit::Exit;
use crate::inbox::Changes;
use crate::known::{Deny, KnownCheck, KnownReport};
use crate::why::Reasons;

/// How much is told.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Verbosity {
    /// What is not as it should be.
    Quiet,
    /// A line for everything, and more for what is not as it should be.
    Normal,
    /// All there is.
    Verbose,
}

static VERBOSITY: OnceLock<Verbosity> = OnceLock::new();

/// Sets how much is told from now on; called once.
pub(crate) fn talk_as(quiet: bool, verbose: bool) {
    let verbosity = match (quiet, verbose) {
        (true, _) => Verbosity::Quiet,
        (_, true) => Verbosity::Verbose,
        _ => Verbosity::Normal,
    };
    let _ = VERBOSITY.set(verbosity);
}

/// How much is told.
pub(crate) fn verbosity() -> Verbosity {
    *VERBOSITY.get().unwrap_or(&Verbosity::Normal)
}

static PLACE: OnceLock<String> = OnceLock::new();

/// Sets where the workspace is, from the repository's root on, by which code hosts know its files.
pub(crate) fn files_are_in(place: &str) {
    let slash = if place.is_empty() { "" } else { "/" };
    let _ = PLACE.set(format!("{place}{slash}"));
}

/// A file's path from the repository's root on.
fn in_repository(file: &str) -> String {
    format!("{}{file}", PLACE.get().map_or("", String::as_str))
}

/// All there is to say of a run.
pub(crate) struct RunSummary {
    /// One for each of the reports.
    pub(crate) units: Vec<Unit>,
    pub(crate) reports: Vec<Result<KnownReport, Stopped>>,
    /// Those that belong to no test.
    pub(crate) diagnostics: Vec<Diagnostic>,
    pub(crate) stats: Stats,
    /// Which backend, and why.
    pub(crate) backend: String,
    pub(crate) duration: Duration,
    /// Why tests ran, as far as somebody wants to know: a line for each reason.
    pub(crate) why: Reasons,
}

/// What a change or a wish brought about.
pub(crate) struct Revision<'a> {
    pub(crate) changes: &'a Changes,
    /// What was wished.
    pub(crate) wished: Option<&'a str>,
    /// Whether keys are listened to, of which a line tells that stays.
    pub(crate) has_keys: bool,
    pub(crate) summary: &'a RunSummary,
    /// The places of the tests to be told of.
    pub(crate) shown: Vec<usize>,
    /// Whether nothing was told before.
    pub(crate) is_first: bool,
}

impl Revision<'_> {
    /// How many tests pass, and how many fail.
    pub(crate) fn totals(&self) -> (u64, u64) {
        let (mut passed, mut failed) = (0, 0);
        for report in self.summary.reports.iter().flatten() {
            match report.view().map(|report| report.state()) {
                Ok(State::Passed) | Err(_) => passed += 1,
                Ok(State::Failed) => failed += 1,
                Ok(_) => {}
            }
        }
        (passed, failed)
    }
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
pub(crate) struct DrySummary<'a> {
    /// One for each of the checks.
    pub(crate) units: &'a [Unit],
    pub(crate) checks: Vec<Result<KnownCheck, Stopped>>,
    /// Those that belong to no test.
    pub(crate) diagnostics: Vec<Diagnostic>,
    pub(crate) deny: Deny,
    pub(crate) counts: Counts,
    pub(crate) duration: Duration,
}

impl DrySummary<'_> {
    /// Every diagnostic, and how bad it is taken to be.
    fn each(&self, mut see: impl FnMut(Severity, &Diagnostic<&str>)) {
        for diagnostic in &self.diagnostics {
            see(diagnostic.severity, &diagnostic.view());
        }
        for check in self.checks.iter().flatten() {
            for diagnostic in check.view().iter().flat_map(|check| &check.diagnostics) {
                see(self.deny.severity(diagnostic), diagnostic);
            }
        }
    }
}

pub(crate) fn run(summary: &RunSummary, format: Format) {
    report(|print| match format {
        Format::Human => human::run(summary, print),
        Format::Json => print(&mut json::run(summary)),
    });
}

pub(crate) fn revision(revision: &Revision<'_>, format: WatchFormat) {
    report(|print| match format {
        WatchFormat::Human => print(&mut human::revision(revision)),
        WatchFormat::Jsonl => print(&mut json::revision(revision)),
    });
}

pub(crate) fn dry_run(summary: &DrySummary<'_>, format: CheckFormat) {
    report(|print| match format {
        CheckFormat::Human => human::dry_run(summary, print),
        CheckFormat::Json => print(&mut json::dry_run(summary)),
        CheckFormat::Sarif => print(&mut sarif::dry_run(summary)),
        CheckFormat::Github => print(&mut github::dry_run(summary)),
    });
}

/// Why tests ran, all of it.
pub(crate) fn reasons(why: &Reasons) {
    if why.is_empty() {
        talk("nothing has run for a change yet");
    }
    report(|print| print(&mut human::reasons(why)));
}

/// What a template reads, a line each.
pub(crate) fn reached(reached: &[Reached]) {
    if reached.is_empty() {
        talk("it reads no variables");
    }
    report(|print| print(&mut human::reached(reached)));
}

/// Prints one of some texts, or without a name the names of all.
pub(crate) fn one_of(what: &str, texts: &[(&str, &str)], name: Option<&str>) -> Exit {
    let names = texts.iter().map(|(name, _)| *name);
    let Some(name) = name else {
        names.for_each(|name| text(&format!("{name}\n")));
        return Exit::Green;
    };
    match texts.iter().find(|(known, _)| *known == name) {
        Some((_, found)) => {
            text(found);
            Exit::Green
        }
        None => {
            let names: Vec<&str> = names.collect();
            let hint = format!("there are {}", names.join(", "));
            err(&human::error(&format!("there is no {what} `{name}`"), Some(&hint)));
            Exit::Usage
        }
    }
}

/// A report, piece by piece. It may be large, so no colours are put in only to be taken out again.
fn report(write: impl FnOnce(&dyn Fn(&mut String))) {
    style::show(AutoStream::choice(&std::io::stdout()) != ColorChoice::Never);
    write(&|piece| {
        text(piece);
        piece.clear();
    });
    style::show(true);
}

/// Data, as it is.
pub(crate) fn text(text: &str) {
    write_all(std::io::stdout(), text);
}

/// What a look at the machine has found, and which backend would be used.
pub(crate) fn findings(findings: &[Finding], used: &str) {
    report(|print| print(&mut human::findings(findings, used)));
}

/// The same for programs.
pub(crate) fn findings_as_json(findings: &[Finding], used: &str) {
    json(&json::findings(findings, used));
}

/// Data as JSON.
pub(crate) fn json(value: &impl Serialize) {
    text(&json::pretty(value));
}

/// Data that is written while it is made.
pub(crate) fn stream(write: impl FnOnce(&mut dyn Write) -> std::io::Result<()>) {
    let mut out = std::io::BufWriter::new(std::io::stdout().lock());
    // A reader that has gone away is no reason to fail.
    let _ = live::above(|| write(&mut out).and_then(|()| out.flush()));
}

/// A line of talk.
pub(crate) fn talk(line: &str) {
    if verbosity() != Verbosity::Quiet {
        tell(line);
    }
}

/// A line that is told however little is.
pub(crate) fn tell(line: &str) {
    err(&format!("{line}\n"));
}

pub(crate) fn diagnostic_to_stderr<S: AsRef<str>>(diagnostic: &Diagnostic<S>) {
    let mut text = String::new();
    human::diagnostic(&mut text, diagnostic, 0);
    err(&text);
}

/// Something to know that is of no test.
pub(crate) fn warn(what: &str) {
    err(&human::warning(what));
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

pub(crate) fn stopped(file: &str, stopped: &Stopped) {
    let mut text = String::new();
    human::stopped(&mut text, file, stopped);
    err(&text);
}

/// Nodes that came out otherwise than they are remembered.
pub(crate) fn impure(nodes: &[Impure]) {
    let tell = |Impure { node, remembered, computed }: &Impure| {
        format!("{node} ({remembered:?} is remembered, {computed:?} was computed)")
    };
    let nodes: Vec<String> = nodes.iter().map(tell).collect();
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

/// Shows a line below all others, on terminals only; or none any more.
pub(crate) fn stand(line: Option<&str>) {
    if live::is_seen() {
        live::stand(line.map(str::to_owned));
    }
}

/// The same as a question, with what was answered so far.
pub(crate) fn ask(line: Option<&str>) {
    live::ask(line.map(str::to_owned));
}

/// Whether somebody sees lines that change.
pub(crate) fn is_live() -> bool {
    live::is_seen()
}

fn err(text: &str) {
    let stderr = std::io::stderr();
    match AutoStream::choice(&stderr) {
        ColorChoice::Never => write_all(stderr, &strip_str(text).to_string()),
        _ => write_all(stderr, text),
    }
}

fn write_all(mut stream: impl Write, text: &str) {
    // A reader that has gone away is no reason to fail.
    let _ = live::above(|| stream.write_all(text.as_bytes()).and_then(|()| stream.flush()));
}

/// `1 test`, `2 tests`
pub(crate) fn many(count: impl Into<u64> + Display + Copy, thing: &str) -> String {
    if count.into() == 1 { format!("{count} {thing}") } else { format!("{count} {thing}s") }
}
