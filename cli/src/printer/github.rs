//! Annotations of GitHub Actions: workflow commands, one a line.

use std::fmt::Write;
use std::sync::LazyLock;

use clnrm_queries::{Diagnostic, Failure, Report, Severity, State};

use super::{DrySummary, in_repository};

pub(super) fn dry_run(summary: &DrySummary<'_>) -> String {
    let mut text = String::new();
    summary.each(|severity, diagnostic| annotation(&mut text, severity, diagnostic));
    text
}

/// Lines that are no commands, whatever they say.
pub(super) fn harmless(lines: &str) -> String {
    let harmless = |line: &str| {
        let mark = if line.trim_start().starts_with("::") { "| " } else { "" };
        format!("{mark}{line}\n")
    };
    lines.lines().map(harmless).collect()
}

/// What begins lines that are folded under the first of them.
pub(super) const GROUP: &str = "::group::";
pub(super) const END_OF_GROUP: &str = "::endgroup::\n";

/// Whether it is GitHub that reads.
pub(super) fn is_here() -> bool {
    static IS_HERE: LazyLock<bool> =
        LazyLock::new(|| std::env::var_os("GITHUB_ACTIONS").is_some_and(|value| value == "true"));
    *IS_HERE
}

/// What is wrong with a test, where it is.
pub(super) fn report(text: &mut String, report: &Report<&str>) {
    report.diagnostics().for_each(|one| annotation(text, one.severity, one));
    let of_scenarios = report.scenarios.iter().flat_map(|scenario| &scenario.failures);
    for failure in of_scenarios.chain(&report.failures) {
        let Failure { subject, message, nearest, file, line, column, .. } = failure;
        let _ = write!(text, "::error file={}", property(&in_repository(file)));
        for (name, number) in [("line", line), ("col", column)] {
            if *number > 0 {
                let _ = write!(text, ",{name}={number}");
            }
        }
        let nearest = nearest.as_ref().map(|nearest| format!("\nnearest: {nearest}"));
        let told = format!("{message}{}", nearest.unwrap_or_default());
        let _ = writeln!(text, ",title={}::{}", property(subject), data(&told));
    }
    for scenario in &report.scenarios {
        if let State::Crashed(reason) = &scenario.state {
            let told = data(&format!("scenario `{}`: {reason}", scenario.name));
            let _ = writeln!(text, "::error title={}::{told}", property(report.check.name));
        }
    }
}

fn annotation(text: &mut String, severity: Severity, diagnostic: &Diagnostic<&str>) {
    let Diagnostic { code, message, file, line, column, length, hint, .. } = diagnostic;
    let command = match severity {
        Severity::Error => "error",
        Severity::Warning => "warning",
        Severity::Note => "notice",
    };
    let _ = write!(text, "::{command} file={}", property(&in_repository(file)));
    if *line > 0 {
        let _ = write!(text, ",line={line}");
    }
    if *column > 0 {
        let _ = write!(text, ",col={column},endColumn={}", column + length.max(&1));
    }
    let hint = hint.map(|hint| format!("\nhint: {hint}")).unwrap_or_default();
    let _ = writeln!(text, ",title={}::{}", property(code), data(&format!("{message}{hint}")));
}

/// Signs that end a message are written otherwise.
fn data(text: &str) -> String {
    text.replace('%', "%25").replace('\r', "%0D").replace('\n', "%0A")
}

fn property(text: &str) -> String {
    data(text).replace(':', "%3A").replace(',', "%2C")
}
