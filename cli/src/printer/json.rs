//! Reports for programs: one JSON object, whose shape is kept.

use clnrm_backends::{BackendError, Finding, Health};
use clnrm_engine::Stopped;
use clnrm_queries::{Diagnostic, Failure, Report, ScenarioReport, State};
use serde::Serialize;
use serde_json::{Value, json};

use super::{DrySummary, Revision, RunSummary};
use crate::known::KnownReport;

pub(super) fn run(summary: &RunSummary) -> String {
    let views: Vec<_> = summary
        .units
        .iter()
        .zip(&summary.reports)
        .map(|(unit, report)| (&*unit.path, report.as_ref().map(|report| whole(report.view()))))
        .collect();
    let reports = || views.iter().filter_map(|(_, report)| report.as_ref().ok());
    let count =
        |wanted: &[State]| reports().filter(|report| wanted.contains(&report.state())).count();
    let passed = count(&[State::Passed]);
    let skipped = count(&[State::Pending, State::Crashed(BackendError::Cancelled)]);
    let tests: Vec<Value> = views.iter().map(|(file, report)| test(file, report)).collect();
    let of_tests = reports().flat_map(|report| report.diagnostics());
    let of_none = summary.diagnostics.iter().map(Diagnostic::view);
    let diagnostics: Vec<_> = of_none.chain(of_tests.cloned()).map(diagnostic).collect();
    pretty(&json!({
        "summary": {
            "passed": passed,
            "failed": summary.units.len() - passed - skipped,
            "skipped": skipped,
            "duration_ms": milliseconds(summary.duration),
        },
        "tests": tests,
        "diagnostics": diagnostics,
        "stats": summary.stats,
        "backend": summary.backend,
    }))
}

/// One line.
pub(super) fn revision(revision: &Revision<'_>) -> String {
    let Revision { changes, summary, shown, is_first, .. } = revision;
    let (passed, failed) = revision.totals();
    let (mut tests, mut of_tests) = (Vec::new(), Vec::new());
    for at in shown {
        let (unit, report) = (&summary.units[*at], &summary.reports[*at]);
        let file = &*unit.path;
        let mut told = match report.as_ref().map(KnownReport::view) {
            Ok(Ok(report)) => {
                of_tests.extend(report.diagnostics().cloned().map(diagnostic));
                test(file, &Ok(report))
            }
            Ok(Err(green)) => json!({
                "name": green.name,
                "file": file,
                "state": word(&State::Passed),
                "duration_ms": milliseconds(green.duration),
            }),
            Err(error) => stopped(file, error),
        };
        if let Some(why) = summary.why.get(unit) {
            told["why"] = json!(why);
        }
        tests.push(told);
    }
    let line = json!({
        "event": if *is_first { "watching" } else { "revision" },
        "changed": changes.paths,
        "summary": {
            "passed": passed,
            "failed": failed,
            "others": summary.units.len() as u64 - passed - failed,
            "duration_ms": milliseconds(summary.duration),
        },
        "tests": tests,
        "diagnostics": of_tests,
        "stats": summary.stats,
    });
    format!("{line}\n")
}

fn diagnostic(diagnostic: Diagnostic<&str>) -> Value {
    let Diagnostic {
        code, severity, message, file, line, column, length, notes, hint, edit, ..
    } = diagnostic;
    json!({
        "code": code,
        "severity": severity,
        "message": message,
        "file": file,
        "line": line,
        "column": column,
        "length": length,
        "notes": notes,
        "hint": hint,
        "fix": edit.map(|edit| json!({ "start": edit.start, "end": edit.end, "text": edit.text })),
    })
}

fn test(file: &str, report: &Result<Report<&str>, &Stopped>) -> Value {
    let report = match report {
        Ok(report) => report,
        Err(stopped) => return self::stopped(file, stopped),
    };
    let duration = report.scenarios.iter().map(|scenario| scenario.duration).sum();
    let scenarios: Vec<Value> = report.scenarios.iter().map(scenario).collect();
    json!({
        "name": report.check.name,
        "file": file,
        "tags": report.check.tags,
        "state": word(&report.state()),
        "duration_ms": milliseconds(duration),
        "scenarios": scenarios,
        "failures": failures(&report.failures),
    })
}

/// What this format tells is never told by a glance.
fn whole<T, G>(view: Result<T, G>) -> T {
    view.ok().expect("all of it was asked for")
}

fn stopped(file: &str, stopped: &Stopped) -> Value {
    match stopped {
        Stopped::Bug(reason) => json!({ "file": file, "state": "bug", "error": reason }),
        Stopped::Cancelled => json!({ "file": file, "state": "skipped" }),
    }
}

fn scenario(scenario: &ScenarioReport<&str>) -> Value {
    let error = match &scenario.state {
        State::Crashed(error) => Some(error.to_string()),
        _ => None,
    };
    json!({
        "name": scenario.name,
        "state": word(&scenario.state),
        "duration_ms": milliseconds(scenario.duration),
        "run_key": scenario.key.map(|key| key.to_string()),
        "spans": scenario.spans,
        "isolation": scenario.isolation.split(", ").filter(|part| !part.is_empty()).collect::<Vec<_>>(),
        "failures": failures(&scenario.failures),
        "error": error,
    })
}

fn failures(failures: &[Failure]) -> Vec<Value> {
    let failure = |failure: &Failure| {
        json!({
            "subject": failure.subject,
            "message": failure.message,
            "nearest": failure.nearest,
            "output": failure.output,
            "file": failure.file,
            "line": failure.line,
            "column": failure.column,
        })
    };
    failures.iter().map(failure).collect()
}

fn word(state: &State) -> &'static str {
    match state {
        State::Passed => "passed",
        State::Failed => "failed",
        State::Broken => "broken",
        State::Crashed(_) => "crashed",
        State::Pending => "skipped",
    }
}

pub(super) fn dry_run(summary: &DrySummary<'_>) -> String {
    let views: Vec<_> = summary
        .units
        .iter()
        .zip(&summary.checks)
        .map(|(unit, check)| (&*unit.path, check.as_ref().map(|check| whole(check.view()))))
        .collect();
    let checks = || views.iter().filter_map(|(_, check)| check.as_ref().ok());
    let deny = summary.deny;
    let sound = checks().filter(|check| deny.is_sound(check)).count();
    let tests: Vec<Value> = views
        .iter()
        .map(|(file, check)| match check {
            Ok(check) => json!({
                "name": check.name,
                "file": file,
                "tags": check.tags,
                "state": if deny.is_sound(check) { "passed" } else { "broken" },
                "scenarios": check.glance.scenarios,
            }),
            Err(stopped) => self::stopped(file, stopped),
        })
        .collect();
    let of_none = summary.diagnostics.iter().map(Diagnostic::view);
    let of_files = checks().flat_map(|check| &check.diagnostics).cloned();
    let diagnostics = of_none.chain(of_files).map(|one| {
        let severity = deny.severity(&one);
        diagnostic(Diagnostic { severity, ..one })
    });
    let diagnostics: Vec<Value> = diagnostics.collect();
    pretty(&json!({
        "summary": {
            "passed": sound,
            "failed": summary.units.len() - sound,
            "skipped": 0,
            "duration_ms": milliseconds(summary.duration),
        },
        "tests": tests,
        "diagnostics": diagnostics,
        "stats": {
            "containers_started": 0,
            "outcomes_reused": 0,
            "nodes_executed": summary.counts.executed,
            "nodes_recalled": summary.counts.recalled,
            "nodes_cut_off": summary.counts.cut_off,
        },
    }))
}

/// Whole microseconds, so that the text is short.
fn milliseconds(duration: std::time::Duration) -> f64 {
    duration.as_micros() as f64 / 1000.0
}

pub(super) fn pretty(value: &impl Serialize) -> String {
    serde_json::to_string_pretty(value).expect("reports are plain data") + "\n"
}

pub(super) fn findings(findings: &[Finding], used: &str) -> Value {
    let finding = |Finding { name, state, detail, mend }: &Finding| {
        let state = match state {
            Health::Good => "good",
            Health::Lacking => "lacking",
            Health::Broken => "broken",
        };
        json!({"name": name, "state": state, "detail": detail, "mend": mend})
    };
    json!({"findings": findings.iter().map(finding).collect::<Vec<_>>(), "used": used})
}
