//! What went wrong with the services and steps of a scenario.

use std::borrow::Cow;

use clnrm_backends::{Ended, Outcome, Source, StepOutcome};
use regex::RegexBuilder;

use super::locate::Place;
use super::{Failure, Locator};
use crate::diagnostic::{At, KeyPath, Part};
use crate::model::{Exit, Scenario, Step, Test};
use crate::shape;
use crate::steps::{as_expected, missing_failure, service_failure};

/// How many lines of output are shown.
const SHOWN_LINES: usize = 12;

/// Everything about a run, spans apart, that is not as expected.
pub(super) fn failures(
    test: &Test,
    scenario: &Scenario,
    outcome: &Outcome,
    locator: &Locator<'_>,
) -> Vec<Failure> {
    let fail = |path: &KeyPath, subject: String, message: String, output: &str| {
        let Place { line, column, .. } = locator.place(&At::Key(path.clone()));
        let output = last_lines(output);
        let file = locator.file();
        Failure { subject, message, nearest: None, output, file, line, column }
    };
    let mut failures = Vec::new();
    let order = shape::start_order(&test.services).unwrap_or_default();
    // A service that failed is told as the reason why no step failed by itself.
    let judged = order.iter().filter(|_| !scenario.expect_failure);
    for (index, service) in judged.map(|index| &test.services[*index]).enumerate() {
        let Some(outcome) = outcome.services.get(index) else { continue };
        if let Some(reason) = service_failure(outcome) {
            let subject = format!("service `{}`", service.id);
            failures.push(fail(&service.path, subject, reason, &outcome.log.text()));
        }
    }
    for (step, outcome) in scenario.steps.iter().zip(&outcome.steps) {
        for (key, message) in step_failures(step, outcome) {
            if scenario.expect_failure && key == "expected_exit_code" {
                continue;
            }
            let output = format!("{}{}", outcome.stdout.text(), outcome.stderr.text());
            let subject = format!("step `{}`", step.name);
            failures.push(fail(&step.path.key(key), subject, message, &output));
        }
    }
    if scenario.expect_failure
        && let Some(message) = missing_failure(scenario, outcome)
    {
        let subject = format!("scenario `{}`", scenario.name);
        failures.push(fail(&scenario.path.key("expect_failure"), subject, message, ""));
    }
    for reason in outcome.incomplete.iter().filter(|_| !scenario.allow_incomplete) {
        failures.push(fail(&scenario.path, "the run".to_owned(), reason.clone(), ""));
    }
    failures
}

/// Spans that were exported by the code under test.
pub(super) fn spans_of_code(outcome: &Outcome) -> u64 {
    outcome.spans.iter().filter(|span| span.source == Source::Otlp).count() as u64
}

/// The key of a rule within an expectation: `must_precede[1]`, `by_kind.server`.
pub(super) fn rule_path(path: &KeyPath, rule: &str) -> KeyPath {
    let (head, rest) = rule.split_once('.').unwrap_or((rule, ""));
    let mut path = match head.strip_suffix(']').and_then(|head| head.split_once('[')) {
        Some((key, index)) => {
            let path = path.key(key);
            index.parse().map_or(path.clone(), |index| path.index(index))
        }
        None => path.key(head),
    };
    if !rest.is_empty() {
        path.0.push(Part::Key(rest.to_owned()));
    }
    path
}

/// The keys of the step that do not hold, each with the reason.
pub(crate) fn step_failures(step: &Step, outcome: &StepOutcome) -> Vec<(&'static str, String)> {
    let mut failures = Vec::new();
    if outcome.ended == Ended::Skipped {
        return failures;
    }
    if !as_expected(step, &outcome.ended) {
        let expected = match step.exit {
            Exit::Code(code) => format!("expected exit code {code}"),
            Exit::Failure => "expected it to fail".to_owned(),
        };
        let message = match &outcome.ended {
            Ended::Missed(what) => what.clone(),
            end => format!("{}, {expected}", ended(end, outcome.duration)),
        };
        failures.push(("expected_exit_code", message));
    }
    // What was left out is not searched: a text that must be there may have been in it, but one
    // that must not be there cannot be said to be absent.
    let kept = [text(&outcome.stdout.head), text(&outcome.stdout.tail)];
    let left_out = outcome.stdout.dropped;
    let matches = |pattern: &str| {
        let regex = RegexBuilder::new(pattern).dot_matches_new_line(true).build();
        regex.is_ok_and(|regex| kept.iter().any(|part| regex.is_match(part)))
    };
    if let Some(pattern) = step.stdout_matches.as_deref().filter(|pattern| !matches(pattern)) {
        let message = format!("standard output does not match `{}`", in_a_line(pattern));
        failures.push(("expected_output_regex", message));
    }
    if let Some(pattern) = step.stdout_matches_not.as_deref().filter(|pattern| matches(pattern)) {
        let message =
            format!("standard output matches `{}`, which it must not", in_a_line(pattern));
        failures.push(("expected_output_regex_not", message));
    } else if step.stdout_matches_not.is_some() && left_out > 0 {
        let message = format!(
            "standard output is too long to say what is not in it: {left_out} bytes were left out"
        );
        failures.push(("expected_output_regex_not", message));
    }
    let contains = |text: &&str| kept.iter().any(|part| part.contains(*text));
    if let Some(text) = step.stdout_contains.as_deref().filter(|text| !contains(text)) {
        let message = format!("standard output does not contain `{}`", in_a_line(text));
        failures.push(("expected_output_contains", message));
    }
    failures
}

/// A text of the file as it is shown within a line.
fn in_a_line(text: &str) -> String {
    text.replace('\n', "\\n").replace('\r', "\\r").replace('\t', "\\t")
}

fn text(bytes: &[u8]) -> Cow<'_, str> {
    String::from_utf8_lossy(bytes)
}

fn ended(ended: &Ended, duration: std::time::Duration) -> String {
    match ended {
        Ended::Code(code) => format!("ended with exit code {code}"),
        Ended::Signal(signal) => format!("was ended by signal {signal}"),
        Ended::TimedOut => format!("was killed at its limit after {:.1} s", duration.as_secs_f64()),
        Ended::NotStarted(reason) => format!("did not start: {reason}"),
        Ended::Missed(what) => what.clone(),
        Ended::Skipped => "was left out".to_owned(),
    }
}

fn last_lines(text: &str) -> Option<String> {
    let lines: Vec<&str> = text.trim_end().lines().collect();
    let shown = &lines[lines.len().saturating_sub(SHOWN_LINES)..];
    (!shown.is_empty()).then(|| shown.join("\n"))
}
