//! The line a diagnostic is about, with a caret below.

use annotate_snippets::{AnnotationKind, Group, Level, Renderer, Snippet};
use clnrm_queries::{Diagnostic, Severity};

use super::style;

/// Adds the excerpt of a diagnostic that has one, so far from the margin.
pub(super) fn snippet<S: AsRef<str>>(text: &mut String, diagnostic: &Diagnostic<S>, margin: &str) {
    let Diagnostic { line, column, length, excerpt, severity, .. } = diagnostic;
    let excerpt = excerpt.as_ref();
    if *line == 0 || *column == 0 || excerpt.trim().is_empty() {
        return;
    }
    let place = |column: u32| {
        let at = excerpt.char_indices().nth(column as usize).map(|(at, _)| at);
        at.unwrap_or(excerpt.len())
    };
    let start = place(column - 1);
    let end = place(column - 1 + (*length).max(1)).max(start);
    let level = match severity {
        Severity::Error => Level::ERROR,
        Severity::Warning => Level::WARNING,
        Severity::Note => Level::NOTE,
    };
    let source = Snippet::source(excerpt)
        .line_start(*line as usize)
        .annotation(AnnotationKind::Primary.span(start..end));
    let renderer = if style::shown() { Renderer::styled() } else { Renderer::plain() };
    let rendered = renderer.render(&[Group::with_level(level).element(source)]);
    for line in rendered.lines().filter(|line| !line.trim().is_empty()) {
        text.push_str(margin);
        text.push_str(line.trim_end());
        text.push('\n');
    }
}
