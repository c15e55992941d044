//! How the steps and services of a run ended, beside how they must end.

use clnrm_backends::{Ended, Outcome, ServiceOutcome};

use crate::model::{Exit, Scenario, Step};

/// What a shell ends with when it cannot start a program.
const NOT_STARTED: [i32; 2] = [126, 127];

/// Whether a scenario did what it says, by its steps and services alone.
pub(crate) fn steps_succeeded(scenario: &Scenario, outcome: &Outcome) -> bool {
    if scenario.expect_failure {
        return missing_failure(scenario, outcome).is_none();
    }
    let services = outcome.services.iter().all(|it| service_failure(it).is_none());
    services && ends(scenario, outcome).all(|(step, ended)| as_expected(step, ended))
}

/// Why a scenario that must fail did not: no step failed by itself, with every service ready.
pub(crate) fn missing_failure(scenario: &Scenario, outcome: &Outcome) -> Option<String> {
    if let Some(reason) = outcome.services.iter().find_map(service_failure) {
        return Some(format!("expected a step to fail, but a service did: {reason}"));
    }
    // A limit that was met, say, of memory or processes.
    if let Some(doubt) = outcome.doubts.first() {
        return Some(format!("expected a step to fail by itself, but {doubt}"));
    }
    for (step, ended) in ends(scenario, outcome) {
        let why = match ended {
            Ended::NotStarted(reason) => format!("did not start: {reason}"),
            Ended::TimedOut => "reached its limit".to_owned(),
            Ended::Missed(what) => format!("missed what it waited for: {what}"),
            Ended::Code(code) if is_missing_program(step, *code) => {
                format!(
                    "ended with exit code {code}, which shells use for a program they cannot start"
                )
            }
            _ => continue,
        };
        return Some(format!("expected a step to fail by itself, but `{}` {why}", step.name));
    }
    let failed = ends(scenario, outcome)
        .any(|(step, ended)| *ended != Ended::Skipped && !as_expected(step, ended));
    (!failed).then(|| "every step ended as it must, expected a failure".to_owned())
}

fn ends<'a>(
    scenario: &'a Scenario,
    outcome: &'a Outcome,
) -> impl Iterator<Item = (&'a Step, &'a Ended)> {
    scenario.steps.iter().zip(outcome.steps.iter().map(|step| &step.ended))
}

/// Whether a step ended as it must. A signal counts as shells have it: 128 and its number.
///
/// A step that must fail has to start first: an unknown program is not the failure that was meant.
pub(crate) fn as_expected(step: &Step, ended: &Ended) -> bool {
    match (step.exit, ended) {
        (Exit::Code(expected), Ended::Code(code)) => expected == *code,
        (Exit::Code(expected), Ended::Signal(signal)) => expected == 128 + signal,
        (Exit::Failure, Ended::Code(code)) => *code != 0 && !is_missing_program(step, *code),
        (Exit::Failure, Ended::Signal(_)) => true,
        _ => false,
    }
}

/// Whether a shell says that it could not start the program it was told to.
fn is_missing_program(step: &Step, code: i32) -> bool {
    let is_shell = step.argv.first().is_some_and(|program| program.ends_with("sh"));
    let expected = step.exit == Exit::Code(code);
    is_shell && NOT_STARTED.contains(&code) && !expected
}

/// Why a service is not what it must be: ready, and up until it is stopped or ends with 0.
pub(crate) fn service_failure(outcome: &ServiceOutcome) -> Option<String> {
    match &outcome.ended {
        _ if outcome.failed.is_some() => outcome.failed.clone(),
        None | Some(Ended::Code(0)) => None,
        Some(Ended::Code(code)) => Some(format!("it ended with exit code {code}")),
        Some(Ended::Signal(signal)) => Some(format!("it was ended by signal {signal}")),
        Some(Ended::NotStarted(reason)) => Some(format!("it did not start: {reason}")),
        Some(Ended::TimedOut | Ended::Skipped | Ended::Missed(_)) => {
            Some("it did not run".to_owned())
        }
    }
}
