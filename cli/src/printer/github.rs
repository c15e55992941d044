//! Annotations of GitHub Actions: workflow commands, one a line.

use std::fmt::Write;

use clnrm_queries::{Diagnostic, Severity};

use super::DrySummary;

pub(super) fn dry_run(summary: &DrySummary<'_>) -> String {
    let mut text = String::new();
    summary.each(|severity, diagnostic| annotation(&mut text, severity, diagnostic));
    text
}

fn annotation(text: &mut String, severity: Severity, diagnostic: &Diagnostic<&str>) {
    let Diagnostic { code, message, file, line, column, length, hint, .. } = diagnostic;
    let command = match severity {
        Severity::Error => "error",
        Severity::Warning => "warning",
        Severity::Note => "notice",
    };
    let _ = write!(text, "::{command} file={}", property(file));
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
