//! Reports for people.

use std::borrow::Cow;
use std::fmt::{Display, Write};
use std::time::Duration;

use clnrm_backends::{Finding, Health};
use clnrm_engine::{Stopped, Unit, looks_secret};
use clnrm_queries::{
    Diagnostic, Failure, Origin, Reached, Report, ScenarioReport, Severity, State,
};
use rayon::prelude::*;

use super::snippet::snippet;
use super::style::{bad, doubtful, good, quiet};
use super::{DrySummary, Revision, RunSummary, Verbosity, github, many, verbosity};
use crate::known::{Deny, KnownCheck, KnownReport};
use crate::why::Reasons;

/// So many tests are told of at once, on all cores.
const BATCH: usize = 4096;
/// So many of them on one.
const SHARE: usize = 256;

/// Tells of units and what became of them, each of which gives text and something to count; prints
/// in their order.
fn tell_all<T: Sync, C: Send>(
    text: &mut String,
    (units, all): (&[Unit], &[T]),
    tell: impl Fn(&mut String, &Unit, &T) -> C + Sync,
    mut count: impl FnMut(C),
    print: &dyn Fn(&mut String),
) {
    print(text);
    for (units, batch) in units.chunks(BATCH).zip(all.chunks(BATCH)) {
        let share = |(units, share): (&[Unit], &[T])| {
            let mut text = String::new();
            let each = units.iter().zip(share);
            let counted: Vec<C> = each.map(|(unit, one)| tell(&mut text, unit, one)).collect();
            (text, counted)
        };
        let shares = units.par_chunks(SHARE).zip(batch.par_chunks(SHARE));
        let shares: Vec<(String, Vec<C>)> = shares.map(share).collect();
        for (mut told, counted) in shares {
            counted.into_iter().for_each(&mut count);
            print(&mut told);
        }
    }
}

/// A test's file, with the cell of its matrix.
fn name_of(unit: &Unit) -> Cow<'_, str> {
    if unit.part.is_empty() {
        Cow::Borrowed(&unit.path)
    } else {
        Cow::Owned(format!("{}{}", unit.path, unit.part))
    }
}

pub(super) fn run(summary: &RunSummary, print: &dyn Fn(&mut String)) {
    let mut text = String::new();
    summary.diagnostics.iter().for_each(|diagnostic| self::diagnostic(&mut text, diagnostic, 0));
    let width = |unit: &Unit| unit.path.chars().count() + unit.part.chars().count();
    let width = summary.units.iter().map(width).max().unwrap_or(0);
    let (mut passed, mut failed) = (0, 0);
    let tests = (&summary.units[..], &summary.reports[..]);
    let tell = |text: &mut String, unit: &Unit, report: &Result<KnownReport, Stopped>| {
        one_test(text, &name_of(unit), report, width, summary.why.get(unit))
    };
    let count = |state| match state {
        Some(State::Passed) => passed += 1,
        Some(State::Failed) => failed += 1,
        _ => {}
    };
    tell_all(&mut text, tests, tell, count, print);
    totals(&mut text, summary, passed, failed);
    print(&mut text);
}

/// The lines at the end: how many tests stand how, and what that took.
fn totals(text: &mut String, summary: &RunSummary, passed: u64, failed: u64) {
    if verbosity() == Verbosity::Quiet && passed == summary.reports.len() as u64 {
        return;
    }
    let rest = summary.reports.len() as u64 - passed - failed;
    let mut totals = good(format!("{passed} passed")).to_string();
    if failed > 0 {
        let _ = write!(totals, ", {}", bad(format!("{failed} failed")));
    }
    if rest > 0 {
        let _ = write!(totals, ", {}", bad(format!("{rest} not run")));
    }
    let stats = summary.stats;
    let cost = format!(
        "{}, {} reused, {} executed, {} recalled",
        many(stats.containers_started, "run"),
        many(stats.outcomes_reused, "outcome"),
        many(stats.nodes_executed, "query").replace("querys", "queries"),
        stats.nodes_recalled,
    );
    let _ = writeln!(text, "\n{totals} in {}", seconds(summary.duration));
    let on =
        if summary.backend.is_empty() { String::new() } else { format!("; {}", summary.backend) };
    let _ = writeln!(text, "{}", quiet(cost + &on));
}

/// So many changes are told by their names.
const MOST_NAMED: usize = 3;

pub(super) fn revision(revision: &Revision<'_>) -> String {
    let Revision { changes, wished, summary, shown, has_keys, is_first } = revision;
    let mut text = String::new();
    let is_green = |at: &usize| {
        let report = summary.reports[*at].as_ref().map(KnownReport::view);
        report.is_ok_and(|view| view.map_or(true, |report| report.state() == State::Passed))
    };
    if verbosity() == Verbosity::Quiet && shown.iter().all(is_green) {
        return text;
    }
    let mut names: Vec<&str> = changes.paths.iter().map(String::as_str).collect();
    let more = names.len().saturating_sub(MOST_NAMED);
    names.truncate(MOST_NAMED);
    let more = if more > 0 { format!(" and {more} more") } else { String::new() };
    match wished {
        Some(wished) => drop(writeln!(text, "\n{}", quiet(wished))),
        None if names.is_empty() => {}
        None => drop(writeln!(text, "\n{}", quiet(format!("changed: {}{more}", names.join(", "))))),
    }
    let width = |at: &usize| name_of(&summary.units[*at]).chars().count();
    let width = shown.iter().map(width).max().unwrap_or(0);
    for at in shown {
        let unit = &summary.units[*at];
        one_test(&mut text, &name_of(unit), &summary.reports[*at], width, summary.why.get(unit));
    }
    let (passed, failed) = revision.totals();
    totals(&mut text, summary, passed, failed);
    if *is_first && !has_keys {
        let _ = writeln!(text, "{}", quiet("watching; Ctrl-C ends it"));
    }
    text
}

pub(super) fn reasons(why: &Reasons) -> String {
    let mut text = String::new();
    for (unit, reasons) in why {
        let _ = writeln!(text, "{}", name_of(unit));
        reasons.iter().for_each(|reason| text += &indented(reason, 2));
    }
    text
}

/// Tells of a test; gives its state, unless there was a bug.
fn one_test(
    text: &mut String,
    file: &str,
    report: &Result<KnownReport, Stopped>,
    width: usize,
    why: Option<&Vec<String>>,
) -> Option<State> {
    let report = match report.as_ref().map(KnownReport::view) {
        Ok(Ok(report)) => report,
        Ok(Err(green)) => {
            if verbosity() != Verbosity::Quiet {
                headline(text, good("PASS"), (file, width), &green.name, green.duration);
            }
            return Some(State::Passed);
        }
        Err(stopped) => {
            self::stopped(text, file, stopped);
            return None;
        }
    };
    let state = report.state();
    let has_remarks = report.diagnostics().next().is_some();
    if verbosity() == Verbosity::Quiet && state == State::Passed && !has_remarks {
        return Some(state);
    }
    let word = match &state {
        State::Passed => good("PASS"),
        State::Failed => bad("FAIL"),
        State::Broken => bad("ERR "),
        State::Crashed(_) => bad("ENG "),
        State::Pending => doubtful("SKIP"),
    };
    let on_github = state != State::Passed && github::is_here();
    if on_github {
        text.push_str(github::GROUP);
    }
    headline(text, word, (file, width), report.check.name, report.glance.duration);
    reasons_of(text, why.map_or(&[], Vec::as_slice));
    if verbosity() == Verbosity::Verbose {
        report.scenarios.iter().for_each(|scenario| one_scenario(text, scenario));
    }
    if state != State::Passed || has_remarks {
        let begin = text.len();
        details(text, &report);
        if on_github {
            let harmless = github::harmless(&text[begin..]);
            text.replace_range(begin.., &harmless);
        }
    }
    if on_github {
        text.push_str(github::END_OF_GROUP);
        github::report(text, &report);
    }
    Some(state)
}

/// Tells why a test ran: the first reason, unless all is to be told.
fn reasons_of(text: &mut String, reasons: &[String]) {
    let told = if verbosity() == Verbosity::Verbose { reasons.len() } else { 1 };
    for (at, reason) in reasons.iter().take(told).enumerate() {
        let more = match reasons.len() - told {
            more if at + 1 == told && more > 0 => {
                format!(" (and {})", many(more as u64, "more reason"))
            }
            _ => String::new(),
        };
        let _ = writeln!(text, "      {}", quiet(format!("why: {reason}{more}")));
    }
}

fn one_scenario(text: &mut String, scenario: &ScenarioReport<&str>) {
    let word = match &scenario.state {
        State::Passed => good("ok  "),
        State::Failed | State::Broken | State::Crashed(_) => bad("FAIL"),
        State::Pending => doubtful("SKIP"),
    };
    let spans = many(scenario.spans, "span");
    let took = quiet(format!("{}, {spans}", seconds(scenario.duration)));
    let _ = writeln!(text, "      {word}  {}  {took}", scenario.name);
}

fn headline(
    text: &mut String,
    word: impl Display,
    (file, width): (&str, usize),
    name: &str,
    duration: Duration,
) {
    let _ = write!(text, "{word}  {file:width$}  {name}");
    if !duration.is_zero() {
        let _ = write!(text, "  {}", quiet(seconds(duration)));
    }
    text.push('\n');
}

fn details(text: &mut String, report: &Report<&str>) {
    report.diagnostics().for_each(|diagnostic| self::diagnostic(text, diagnostic, 2));
    for scenario in &report.scenarios {
        if let State::Crashed(reason) = &scenario.state {
            let line = error(&format!("scenario `{}`: {reason}", scenario.name), reason.hint());
            *text += &indented(&line, 2);
        }
        for failure in &scenario.failures {
            *text += &self::failure(failure, Some(scenario.name));
        }
    }
    for failure in &report.failures {
        *text += &self::failure(failure, None);
    }
}

fn failure(failure: &Failure, scenario: Option<&str>) -> String {
    let place = place(&failure.file, failure.line, failure.column);
    let within = scenario.map(|name| format!("scenario `{name}`, ")).unwrap_or_default();
    let mut text = format!("  {place}: {within}{}\n", failure.subject);
    let _ = writeln!(text, "    {}", bad(&failure.message));
    if let Some(nearest) = &failure.nearest {
        text += &indented(&format!("nearest: {nearest}\n"), 4);
    }
    for line in failure.output.iter().flat_map(|output| output.lines()) {
        let _ = writeln!(text, "    {} {line}", quiet("|"));
    }
    text
}

pub(super) fn dry_run(summary: &DrySummary<'_>, print: &dyn Fn(&mut String)) {
    let mut text = String::new();
    summary.diagnostics.iter().for_each(|diagnostic| self::diagnostic(&mut text, diagnostic, 0));
    let (mut sound, mut broken) = (0u64, 0u64);
    let files = (summary.units, &summary.checks[..]);
    let tell = |text: &mut String, unit: &Unit, check: &Result<KnownCheck, Stopped>| {
        one_file(text, &name_of(unit), check, summary.deny)
    };
    let count = |is_sound| *if is_sound { &mut sound } else { &mut broken } += 1;
    tell_all(&mut text, files, tell, count, print);
    if verbosity() == Verbosity::Quiet && broken == 0 {
        return print(&mut text);
    }
    let mut totals = good(format!("{sound} ok")).to_string();
    if broken > 0 {
        let _ = write!(totals, ", {}", bad(format!("{broken} with errors")));
    }
    let executed = many(summary.counts.executed, "query").replace("querys", "queries");
    let cost = quiet(format!("{executed} executed, {} recalled", summary.counts.recalled));
    let _ = writeln!(text, "\n{totals} in {}  {cost}", seconds(summary.duration));
    print(&mut text);
}

/// Tells of a file; gives whether it is sound.
fn one_file(
    text: &mut String,
    file: &str,
    check: &Result<KnownCheck, Stopped>,
    deny: Deny,
) -> bool {
    match check.as_ref().map(KnownCheck::view) {
        Ok(Err(green)) => {
            if verbosity() != Verbosity::Quiet {
                checked(text, good("ok "), file, green.scenarios);
            }
            true
        }
        Ok(Ok(check)) => {
            let is_sound = deny.is_sound(&check);
            if verbosity() == Verbosity::Quiet && check.diagnostics.is_empty() {
                return is_sound;
            }
            let word = if is_sound { good("ok ") } else { bad("ERR") };
            checked(text, word, file, check.glance.scenarios);
            for one in check.diagnostics {
                let severity = deny.severity(&one);
                self::diagnostic(text, &Diagnostic { severity, ..one }, 2);
            }
            is_sound
        }
        Err(stopped) => {
            self::stopped(text, file, stopped);
            false
        }
    }
}

/// What a template reads, in columns.
pub(super) fn reached(reached: &[Reached]) -> String {
    let rows = reached.iter().map(|Reached { name, value, origin, lines }| {
        let value = match value {
            Some(_) if looks_secret(name) => "(hidden)".to_owned(),
            Some(value) => value.clone(),
            None => "(not set)".to_owned(),
        };
        let origin = match origin {
            Origin::CommandLine => "command line",
            Origin::File => "file",
            Origin::Project => "clnrm.toml",
            Origin::Environment => "environment",
            Origin::BuiltIn => "built in",
        };
        [name.clone(), value, origin.to_owned(), ranges(lines)]
    });
    let rows: Vec<[String; 4]> = rows.collect();
    let width =
        |column: usize| rows.iter().map(|row| row[column].chars().count()).max().unwrap_or(0);
    let (first, second, third) = (width(0), width(1), width(2));
    let line = |[name, value, origin, lines]: &[String; 4]| {
        format!("{name:first$}  {value:second$}  {origin:third$}  {lines}\n")
    };
    rows.iter().map(line).collect()
}

/// `lines 1-3, 7`
fn ranges(lines: &[u32]) -> String {
    let mut ranges: Vec<(u32, u32)> = Vec::new();
    for line in lines {
        match ranges.last_mut() {
            Some((_, end)) if *end + 1 == *line => *end = *line,
            _ => ranges.push((*line, *line)),
        }
    }
    let told = |(start, end): &(u32, u32)| match start == end {
        true => start.to_string(),
        false => format!("{start}-{end}"),
    };
    let told: Vec<String> = ranges.iter().map(told).collect();
    match lines.len() {
        0 => "no line".to_owned(),
        1 => format!("line {}", told.join(", ")),
        _ => format!("lines {}", told.join(", ")),
    }
}

/// Tells of a file of which nothing came.
pub(super) fn stopped(text: &mut String, file: &str, stopped: &Stopped) {
    match stopped {
        Stopped::Bug(reason) => {
            let line = error(&format!("a bug of clnrm: {reason}"), None);
            let _ = write!(text, "{}  {file}\n{line}", bad("BUG "));
        }
        Stopped::Cancelled => {
            let _ = writeln!(text, "{}  {file}", doubtful("SKIP"));
        }
    }
}

fn checked(text: &mut String, word: impl Display, file: &str, scenarios: usize) {
    let plural = if scenarios == 1 { "" } else { "s" };
    let _ = write!(text, "{word}");
    ["  ", file, "  "].into_iter().for_each(|part| text.push_str(part));
    let _ = writeln!(text, "{}", quiet(format_args!("{scenarios} scenario{plural}")));
}

/// Tells of a diagnostic, so far from the margin.
pub(super) fn diagnostic<S: AsRef<str>>(
    text: &mut String,
    diagnostic: &Diagnostic<S>,
    indent: usize,
) {
    let Diagnostic { code, severity, message, file, line, column, notes, hint, .. } = diagnostic;
    let severity = match severity {
        Severity::Error => bad("error"),
        Severity::Warning => doubtful("warning"),
        Severity::Note => quiet("note"),
    };
    let margin = " ".repeat(indent);
    // A large workspace has many: pushed rather than formatted.
    text.push_str(&margin);
    text.push_str(file.as_ref());
    for number in [line, column].into_iter().take_while(|number| **number > 0) {
        let _ = write!(text, ":{number}");
    }
    let _ = write!(text, ": {severity}");
    for part in ["[", code.as_ref(), "]: "] {
        text.push_str(part);
    }
    for (number, line) in message.as_ref().lines().enumerate() {
        if number > 0 {
            text.push_str(&margin);
        }
        text.push_str(line);
        text.push('\n');
    }
    snippet(text, diagnostic, &margin);
    for note in notes {
        let _ = writeln!(text, "{margin}  note: {}", note.as_ref());
    }
    if let Some(hint) = hint {
        let _ = writeln!(text, "{margin}  hint: {}", hint.as_ref());
    }
}

pub(super) fn error(message: &str, hint: Option<&str>) -> String {
    let mut text = format!("{}: {message}\n", bad("error"));
    if let Some(hint) = hint {
        let _ = writeln!(text, "  hint: {hint}");
    }
    text
}

pub(super) fn warning(message: &str) -> String {
    format!("{}: {message}\n", doubtful("warning"))
}

fn place(file: &str, line: u32, column: u32) -> String {
    match (line, column) {
        (0, _) => file.to_owned(),
        (line, 0) => format!("{file}:{line}"),
        (line, column) => format!("{file}:{line}:{column}"),
    }
}

fn indented(text: &str, by: usize) -> String {
    text.lines().map(|line| format!("{:by$}{line}\n", "")).collect()
}

fn seconds(duration: Duration) -> String {
    if duration < Duration::from_secs(1) {
        format!("{} ms", duration.as_millis())
    } else {
        format!("{:.2} s", duration.as_secs_f64())
    }
}

pub(super) fn findings(findings: &[Finding], used: &str) -> String {
    let mut text = String::new();
    for Finding { name, state, detail, mend } in findings {
        let word = match state {
            Health::Good => good("ok  "),
            Health::Lacking => doubtful("lack"),
            Health::Broken => bad("FAIL"),
        };
        let _ = writeln!(text, "{word}  {name}: {detail}");
        if let Some(mend) = mend {
            let _ = writeln!(text, "        mend: {mend}");
        }
    }
    let _ = writeln!(text, "\nused: {used}");
    text
}
