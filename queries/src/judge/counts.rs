//! Judges `[expect.counts]`: how many spans, events and errors there are.

use clnrm_backends::{Span, SpanKind, StatusCode, Value};

use super::names::{Pattern, plural};
use super::status::told_of_each;
use super::traces::Index;
use crate::expectation::{Bounds, CountsExpectation, Verdict};

pub(super) fn judge(index: &Index<'_>, expected: &CountsExpectation, verdict: &mut Verdict) {
    let spans: Vec<&Span> = index.counted().map(|place| index.spans[place]).collect();
    let mut total = |rule: &str, noun, bounds, found: usize, nearest: Option<String>| {
        for unmet in unmet(bounds, found as u64, noun) {
            verdict.fail(rule, unmet + index.counted_note(), nearest.clone());
        }
    };
    if let Some(bounds) = &expected.spans_total {
        total("spans_total", "span", bounds, spans.len(), None);
    }
    if let Some(bounds) = &expected.events_total {
        total(
            "events_total",
            "event",
            bounds,
            spans.iter().map(|span| span.events.len()).sum(),
            None,
        );
    }
    if let Some(bounds) = &expected.errors_total {
        let errors: Vec<&Span> = spans.iter().copied().filter(|span| is_error(span)).collect();
        total("errors_total", "error", bounds, errors.len(), told_of_each(errors));
    }
    for (kind, bounds) in &expected.by_kind {
        let found = spans.iter().filter(|span| is_kind(span, kind)).count();
        total(&format!("by_kind.{kind}"), "span", bounds, found, None);
    }
    for (service, bounds) in &expected.by_service {
        let found = spans.iter().filter(|span| is_service(span, service)).count();
        total(&format!("by_service.{service}"), "span", bounds, found, None);
    }
    for (name, bounds) in &expected.by_name {
        judge_name(index, name, bounds, verdict);
    }
}

/// A sentence for each bound that `found` is out of.
pub(super) fn unmet(bounds: &Bounds, found: u64, noun: &str) -> Vec<String> {
    let Bounds { at_least, at_most, exactly } = *bounds;
    [
        (at_least.filter(|bound| found < *bound), "at least"),
        (at_most.filter(|bound| found > *bound), "at most"),
        (exactly.filter(|bound| found != *bound), "exactly"),
    ]
    .into_iter()
    .filter_map(|(bound, words)| Some((bound?, words)))
    .map(|(bound, words)| format!("expected {words} {}, found {found}", plural(bound, noun)))
    .collect()
}

pub(super) fn is_kind(span: &Span, kind: &str) -> bool {
    kind_word(span.kind).eq_ignore_ascii_case(kind)
}

pub(super) fn kind_word(kind: SpanKind) -> &'static str {
    match kind {
        SpanKind::Unspecified => "unspecified",
        SpanKind::Internal => "internal",
        SpanKind::Server => "server",
        SpanKind::Client => "client",
        SpanKind::Producer => "producer",
        SpanKind::Consumer => "consumer",
    }
}

/// The `service.name` of a span's resource.
pub(super) fn service_of(span: &Span) -> Option<&str> {
    match span.resource.get("service.name") {
        Some(Value::String(service)) => Some(service),
        _ => None,
    }
}

fn judge_name(index: &Index<'_>, name: &str, bounds: &Bounds, verdict: &mut Verdict) {
    let pattern = Pattern::new(name);
    let found = index.named(&pattern).len() as u64;
    for unmet in unmet(bounds, found, "span") {
        let nearest = if found == 0 { index.instead_of(&pattern) } else { None };
        verdict.fail(format!("by_name.{name}"), unmet, nearest);
    }
}

fn is_error(span: &Span) -> bool {
    span.status.code == StatusCode::Error
}

fn is_service(span: &Span, service: &str) -> bool {
    service_of(span) == Some(service)
}

#[cfg(test)]
mod tests {
    use expect_test::expect;

    use super::super::traces::table::{check, check_with_lifecycle};
    use super::*;
    use crate::expectation::Expectation;

    const TABLE: &str = "
        clnrm.run 0..90 lifecycle error
          http.get 0..9 server resource.service.name=api !started !done
            db.query 1..2 client error:refused resource.service.name=api
            db.query 3..4 client resource.service.name=worker";

    fn bounds(at_least: impl Into<Option<u64>>, at_most: impl Into<Option<u64>>) -> Bounds {
        Bounds { at_least: at_least.into(), at_most: at_most.into(), exactly: None }
    }

    fn exactly(count: u64) -> Bounds {
        Bounds { exactly: Some(count), ..Bounds::default() }
    }

    fn totals(spans: Bounds, events: Bounds, errors: Bounds) -> Expectation {
        Expectation::Counts(CountsExpectation {
            spans_total: Some(spans),
            events_total: Some(events),
            errors_total: Some(errors),
            ..CountsExpectation::default()
        })
    }

    fn by(
        name: &[(&str, Bounds)],
        kind: &[(&str, Bounds)],
        service: &[(&str, Bounds)],
    ) -> Expectation {
        let map = |pairs: &[(&str, Bounds)]| {
            pairs.iter().map(|(key, bounds)| (key.to_string(), *bounds)).collect()
        };
        Expectation::Counts(CountsExpectation {
            by_name: map(name),
            by_kind: map(kind),
            by_service: map(service),
            ..CountsExpectation::default()
        })
    }

    #[test]
    fn bounds_are_inclusive() {
        check(
            TABLE,
            totals(bounds(3, 3), exactly(2), bounds(1, None)),
            expect!["holds, 3 looked at"],
        );
        let kinds = [("server", exactly(1)), ("CLIENT", bounds(2, 2)), ("internal", exactly(0))];
        let services = [("api", exactly(2)), ("worker", exactly(1)), ("none", exactly(0))];
        let names = [("db.*", exactly(2)), ("http.post", exactly(0)), ("clnrm.run", exactly(1))];
        check(TABLE, by(&names, &kinds, &services), expect!["holds, 4 looked at"]);
    }

    #[test]
    fn each_bound_that_does_not_hold_is_a_failure() {
        check(
            TABLE,
            totals(bounds(4, 2), bounds(3, None), exactly(0)),
            expect![[r#"
            fails, 3 looked at
            spans_total: expected at least 4 spans, found 3
            spans_total: expected at most 2 spans, found 3
            events_total: expected at least 3 events, found 2
            errors_total: expected exactly 0 errors, found 1
              nearest: `db.query` is error ("refused")
        "#]],
        );
        let names = [("db.query", bounds(None, 1)), ("db.qeury", bounds(1, None))];
        check(
            TABLE,
            by(&names, &[("server", exactly(2))], &[("api", exactly(3))]),
            expect![[r#"
            fails, 3 looked at
            by_kind.server: expected exactly 2 spans, found 1
            by_service.api: expected exactly 3 spans, found 2
            by_name.db.qeury: expected at least 1 span, found 0
              nearest: did you mean `db.query`? there are `db.query` (2), `http.get` (1)
            by_name.db.query: expected at most 1 span, found 2
        "#]],
        );
    }

    #[test]
    fn totals_say_when_lifecycle_spans_count() {
        check_with_lifecycle(
            TABLE,
            totals(exactly(3), exactly(2), exactly(1)),
            expect![[r#"
            fails, 4 looked at
            spans_total: expected exactly 3 spans, found 4 (clnrm's own spans included)
            errors_total: expected exactly 1 error, found 2 (clnrm's own spans included)
              nearest: `clnrm.run` is error, `db.query` is error ("refused")
        "#]],
        );
    }

    #[test]
    fn nothing_is_not_few() {
        check(
            "",
            totals(bounds(None, 9), exactly(0), exactly(0)),
            expect!["fails, 0 looked at, no spans"],
        );
        let lifecycle = "clnrm.run 0..9 lifecycle";
        check(
            lifecycle,
            by(&[("db.drop", exactly(0))], &[], &[]),
            expect!["fails, 0 looked at, no spans"],
        );
        check_with_lifecycle(
            lifecycle,
            by(&[("db.drop", exactly(0))], &[], &[]),
            expect!["fails, 0 looked at, no spans"],
        );
        check(
            lifecycle,
            by(&[], &[("server", exactly(0))], &[]),
            expect!["fails, 0 looked at, no spans"],
        );
        check(lifecycle, by(&[("clnrm.run", exactly(1))], &[], &[]), expect!["holds, 1 looked at"]);
    }
}
