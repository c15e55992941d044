//! Judges `[expect.status]`: how spans ended.

use clnrm_backends::{Span, Status, StatusCode};

use super::names::{Pattern, plural};
use super::traces::Index;
use crate::expectation::{About, ExpectedStatus, StatusExpectation, Verdict};

/// How many offending spans are told.
const TOLD: usize = 5;

pub(super) fn judge(index: &Index<'_>, expected: &StatusExpectation, verdict: &mut Verdict) {
    let mut rules: Vec<_> = expected
        .by_name
        .iter()
        .map(|(name, status)| Rule { pattern: Pattern::new(name), status: *status })
        .collect();
    // Later rules override earlier ones.
    rules.sort_by_key(|rule| (!rule.pattern.is_glob(), rule.pattern.text.len()));
    let mut rule_of = vec![None; index.spans.len()];
    for (number, rule) in rules.iter().enumerate() {
        let places = index.named(&rule.pattern);
        if places.is_empty() {
            no_span(index, &rule.pattern, verdict);
        }
        places.into_iter().for_each(|place| rule_of[place] = Some(number));
    }
    if let Some(status) = expected.all {
        let rest = index.counted().filter(|place| rule_of[*place].is_none());
        judge_spans(
            "all",
            status,
            rest.map(|place| index.spans[place]),
            index.counted_note(),
            verdict,
        );
    }
    for (number, Rule { pattern, status }) in rules.iter().enumerate() {
        let spans = index.spans.iter().zip(&rule_of).filter(|(_, rule)| **rule == Some(number));
        let path = format!("by_name.{}", pattern.text);
        judge_spans(&path, *status, spans.map(|(span, _)| *span), "", verdict);
    }
}

/// A status that spans of a name must have.
struct Rule<'a> {
    pattern: Pattern<'a>,
    status: ExpectedStatus,
}

impl ExpectedStatus {
    pub(super) fn is_met_by(self, status: &Status) -> bool {
        match self {
            ExpectedStatus::Ok => status.code != StatusCode::Error,
            ExpectedStatus::Error => status.code == StatusCode::Error,
            ExpectedStatus::Unset => status.code == StatusCode::Unset,
            ExpectedStatus::ExplicitOk => status.code == StatusCode::Ok,
        }
    }

    pub(super) fn word(self) -> &'static str {
        match self {
            ExpectedStatus::Ok => "ok",
            ExpectedStatus::Error => "error",
            ExpectedStatus::Unset => "unset",
            ExpectedStatus::ExplicitOk => "explicitly ok",
        }
    }
}

/// A span's status as it is told: `error ("connection refused")`.
pub(super) fn told(status: &Status) -> String {
    let code = match status.code {
        StatusCode::Unset => "unset",
        StatusCode::Ok => "ok",
        StatusCode::Error => "error",
    };
    if status.message.is_empty() {
        code.to_owned()
    } else {
        format!("{code} ({:?})", status.message)
    }
}

/// The spans with their status, in order of time, the first few of them.
pub(super) fn told_of_each<'a>(spans: impl IntoIterator<Item = &'a Span>) -> Option<String> {
    let mut offending: Vec<_> = spans
        .into_iter()
        .map(|span| (span.start_ns, format!("`{}` is {}", span.name, told(&span.status))))
        .collect();
    offending.sort();
    let more = offending.len().saturating_sub(TOLD);
    let mut texts: Vec<_> = offending.into_iter().take(TOLD).map(|(_, text)| text).collect();
    if more > 0 {
        texts.push(format!("and {more} more"));
    }
    (!texts.is_empty()).then(|| texts.join(", "))
}

fn judge_spans<'a>(
    rule: &str,
    expected: ExpectedStatus,
    spans: impl Iterator<Item = &'a Span>,
    note: &str,
    verdict: &mut Verdict,
) {
    let (met, offending): (Vec<&Span>, Vec<&Span>) =
        spans.partition(|span| expected.is_met_by(&span.status));
    if offending.is_empty() {
        return;
    }
    let all = plural((met.len() + offending.len()) as u64, "span");
    let (expected, count) = (expected.word(), offending.len());
    let message = format!("expected status {expected}, not met by {count} of {all}{note}");
    verdict.fail(rule, message, told_of_each(offending));
}

/// A glob may be there for what does not happen every time; an exact name is meant to occur.
fn no_span(index: &Index<'_>, pattern: &Pattern<'_>, verdict: &mut Verdict) {
    let name = pattern.text;
    if pattern.is_glob() {
        let told = format!("`by_name.{name}` was not tried: no span matches `{name}`");
        verdict.warn(About::Names, told);
    } else {
        let nearest = index.instead_of(pattern);
        verdict.fail(format!("by_name.{name}"), format!("no span is named `{name}`"), nearest);
    }
}

#[cfg(test)]
mod tests {
    use expect_test::expect;

    use super::super::traces::table::{check, check_with_lifecycle};
    use super::*;
    use crate::expectation::Expectation;

    fn status(all: Option<ExpectedStatus>, by_name: &[(&str, ExpectedStatus)]) -> Expectation {
        let by_name = by_name.iter().map(|(name, status)| (name.to_string(), *status)).collect();
        Expectation::Status(StatusExpectation { all, by_name })
    }

    #[test]
    fn each_status_has_its_meaning() {
        let met = |expected: ExpectedStatus| {
            [StatusCode::Unset, StatusCode::Ok, StatusCode::Error]
                .map(|code| expected.is_met_by(&Status { code, message: String::new() }))
        };
        assert_eq!(met(ExpectedStatus::Ok), [true, true, false]);
        assert_eq!(met(ExpectedStatus::Error), [false, false, true]);
        assert_eq!(met(ExpectedStatus::Unset), [true, false, false]);
        assert_eq!(met(ExpectedStatus::ExplicitOk), [false, true, false]);
    }

    #[test]
    fn names_override_all_and_the_more_exact_name_wins() {
        let table = "a 0..9 ok\nerror_x 1..2 error\nerror_known 2..3";
        let (ok, error) = (ExpectedStatus::Ok, ExpectedStatus::Error);
        let by_name = [("error_*", error), ("error_known", ok), ("*", error)];
        check(table, status(Some(ok), &by_name[..2]), expect!["holds, 3 looked at"]);
        check(
            table,
            status(Some(ok), &by_name),
            expect![[r#"
            fails, 3 looked at
            by_name.*: expected status error, not met by 1 of 1 span
              nearest: `a` is ok
        "#]],
        );
    }

    #[test]
    fn the_first_five_offending_spans_are_told() {
        let table = "a 0..9 ok\nb 1..2 error:refused\nc 2..3 error\nc 3..4 error\nc 4..5 error
            d 5..6 error\ne 6..7 error";
        check(
            table,
            status(Some(ExpectedStatus::Ok), &[]),
            expect![[r#"
            fails, 7 looked at
            all: expected status ok, not met by 6 of 7 spans
              nearest: `b` is error ("refused"), `c` is error, `c` is error, `c` is error, `d` is error, and 1 more
        "#]],
        );
    }

    #[test]
    fn a_name_without_spans_fails_and_a_glob_warns() {
        let by_name = [("http.reqest", ExpectedStatus::Ok), ("db.*", ExpectedStatus::Ok)];
        check(
            "http.request 0..1",
            status(None, &by_name),
            expect![[r#"
            fails, 1 looked at
            by_name.http.reqest: no span is named `http.reqest`
              nearest: did you mean `http.request`? there are `http.request` (1)
            warning: `by_name.db.*` was not tried: no span matches `db.*`
        "#]],
        );
    }

    #[test]
    fn all_is_about_the_code_under_test_unless_lifecycle_counts() {
        let table = "clnrm.run 0..9 lifecycle error\n  a 1..2";
        check(table, status(Some(ExpectedStatus::Ok), &[]), expect!["holds, 1 looked at"]);
        check_with_lifecycle(
            table,
            status(Some(ExpectedStatus::Ok), &[]),
            expect![[r#"
            fails, 2 looked at
            all: expected status ok, not met by 1 of 2 spans (clnrm's own spans included)
              nearest: `clnrm.run` is error
        "#]],
        );
    }

    #[test]
    fn nothing_is_not_ok() {
        let ok = ExpectedStatus::Ok;
        check("", status(Some(ok), &[]), expect!["fails, 0 looked at, no spans"]);
        let table = "db.start 0..1 lifecycle ok";
        check(table, status(Some(ok), &[]), expect!["fails, 0 looked at, no spans"]);
        check(table, status(None, &[("http*", ok)]), expect!["fails, 0 looked at, no spans"]);
        check_with_lifecycle(
            table,
            status(None, &[("http*", ok)]),
            expect!["fails, 0 looked at, no spans"],
        );
        let by_name = [("container.*", ok), ("error_*", ExpectedStatus::Error)];
        check_with_lifecycle(
            table,
            status(Some(ok), &by_name),
            expect!["fails, 0 looked at, no spans"],
        );
    }
}
