//! Judges `[expect.order]`: which spans come before which.

use super::names::{Pattern, plural};
use super::traces::{Index, UNTIMED, is_timed};
use crate::expectation::{OrderExpectation, Verdict};

pub(super) fn judge(index: &Index<'_>, expected: &OrderExpectation, verdict: &mut Verdict) {
    for (number, (first, second)) in expected.must_precede.iter().enumerate() {
        let rule = format!("must_precede[{number}]");
        let (first, second) = (Pattern::new(first), Pattern::new(second));
        let (firsts, seconds) = (index.named(&first), index.named(&second));
        if firsts.is_empty() || seconds.is_empty() {
            missing(index, &rule, [(&first, &firsts), (&second, &seconds)], verdict);
        } else {
            judge_pair(index, &rule, &firsts, &seconds, verdict);
        }
    }
}

/// Fails for each of the two names that no span has.
pub(super) fn missing(
    index: &Index<'_>,
    rule: &str,
    named: [(&Pattern<'_>, &Vec<usize>); 2],
    verdict: &mut Verdict,
) {
    for (pattern, _) in named.into_iter().filter(|(_, places)| places.is_empty()) {
        let message = format!("no span is named `{}`", pattern.text);
        verdict.fail(rule, message, index.instead_of(pattern));
    }
}

fn judge_pair(
    index: &Index<'_>,
    rule: &str,
    firsts: &[usize],
    seconds: &[usize],
    verdict: &mut Verdict,
) {
    let is_timed = |place: &usize| is_timed(index.spans[*place]);
    if let Some(untimed) = seconds.iter().find(|place| !is_timed(place)) {
        verdict.fail(rule, format!("`{}` {UNTIMED}", index.spans[*untimed].name), None);
        return;
    }
    let firsts: Vec<usize> = firsts.iter().copied().filter(is_timed).collect();
    if firsts.is_empty() {
        verdict.fail(rule, format!("every first span {UNTIMED}"), None);
        return;
    }
    let mut by_end = firsts.clone();
    by_end.sort_by_key(|place| (index.spans[*place].end_ns, *place));
    let above = index.earliest_above(&firsts);
    // A span does not precede itself, so the earliest to end may not be the one.
    let earliest = |second: usize| by_end.iter().copied().find(|first| *first != second);
    let is_preceded = |second: usize| {
        let start_ns = index.spans[second].start_ns;
        above[second].is_some_and(|first| index.spans[first].start_ns <= start_ns)
            || earliest(second).is_some_and(|first| index.spans[first].end_ns <= start_ns)
    };
    let early: Vec<_> = seconds.iter().copied().filter(|second| !is_preceded(*second)).collect();
    if let Some(second) = early.first() {
        let mut message = told(index, earliest(*second), *second);
        if seconds.len() > 1 {
            let all = plural(seconds.len() as u64, "span");
            message += &format!(" ({} of {all} are too early)", early.len());
        }
        verdict.fail(rule, message, clocks(index, earliest(*second), *second));
    }
}

/// What may have had `second` begin early.
fn clocks(index: &Index<'_>, first: Option<usize>, second: usize) -> Option<String> {
    let first = index.spans[first?];
    let early = i128::from(first.end_ns) - i128::from(index.spans[second].start_ns);
    let told =
        "SDKs whose clocks count milliseconds, as Node's, may have a span begin up to 1 ms early";
    (early < 1_000_000).then(|| told.to_owned())
}

/// What is wrong with the order of these two.
fn told(index: &Index<'_>, first: Option<usize>, second: usize) -> String {
    let name = &index.spans[second].name;
    let start = index.ms(index.spans[second].start_ns);
    match first.map(|first| index.spans[first]) {
        Some(first) => {
            let end = index.ms(first.end_ns);
            format!(
                "`{name}` began at {start} ms, but the first `{}` ended at {end} ms",
                first.name
            )
        }
        None => format!("`{name}` began at {start} ms, and there is no other span to precede it"),
    }
}

#[cfg(test)]
mod tests {
    use expect_test::expect;

    use super::super::traces::table::{check, check_with_lifecycle};
    use super::*;
    use crate::expectation::Expectation;

    fn order(pairs: &[(&str, &str)]) -> Expectation {
        let must_precede = pairs.iter().map(|(a, b)| (a.to_string(), b.to_string())).collect();
        Expectation::Order(OrderExpectation { must_precede })
    }

    #[test]
    fn every_second_has_a_first_that_ended_no_later_than_it_began() {
        check(
            "a 0..2\na 0..9\nb 2..3\nb 4..5",
            order(&[("a", "b")]),
            expect!["holds, 4 looked at"],
        );
        check(
            "a 10..15\nb 12..13\nb 14.5..16\nb 15..16",
            order(&[("a", "b")]),
            expect![[r#"
            fails, 4 looked at
            must_precede[0]: `b` began at 2 ms, but the first `a` ended at 5 ms (2 of 3 spans are too early)
        "#]],
        );
        check(
            "a 0..5\nb 3..6",
            order(&[("a", "b"), ("b", "a")]),
            expect![[r#"
            fails, 2 looked at
            must_precede[0]: `b` began at 3 ms, but the first `a` ended at 5 ms
            must_precede[1]: `a` began at 0 ms, but the first `b` ended at 6 ms
        "#]],
        );
    }

    #[test]
    fn a_moment_too_early_may_be_a_matter_of_clocks() {
        check(
            "a 0..1.5\nb 1..2",
            order(&[("a", "b")]),
            expect![[r#"
                fails, 2 looked at
                must_precede[0]: `b` began at 1 ms, but the first `a` ended at 1.5 ms
                  nearest: SDKs whose clocks count milliseconds, as Node's, may have a span begin up to 1 ms early
            "#]],
        );
    }

    #[test]
    fn an_ancestor_need_only_begin_first() {
        check("a 0..9\n  x 1..8\n    b 2..3", order(&[("a", "b")]), expect!["holds, 3 looked at"]);
        check(
            "a 3..9\n  b 2..4",
            order(&[("a", "b")]),
            expect![[r#"
            fails, 2 looked at
            must_precede[0]: `b` began at 0 ms, but the first `a` ended at 7 ms
        "#]],
        );
    }

    #[test]
    fn a_span_does_not_precede_itself() {
        check(
            "a 0..0",
            order(&[("a", "*")]),
            expect![[r#"
            fails, 1 looked at
            must_precede[0]: `a` began at 0 ms, and there is no other span to precede it
        "#]],
        );
        check("a 0..0\na 0..0", order(&[("a", "a")]), expect!["holds, 2 looked at"]);
    }

    #[test]
    fn both_names_must_occur() {
        check(
            "query 0..1",
            order(&[("connect", "query"), ("query", "qurey")]),
            expect![[r#"
            fails, 1 looked at
            must_precede[0]: no span is named `connect`
              nearest: there are `query` (1)
            must_precede[1]: no span is named `qurey`
              nearest: did you mean `query`? there are `query` (1)
        "#]],
        );
        check("", order(&[("a", "b")]), expect!["fails, 0 looked at, no spans"]);
    }

    #[test]
    fn lifecycle_spans_are_ordered_when_named() {
        let table =
            "db.start 0..1 lifecycle\ndb.exec 1..5 lifecycle\n  query 2..3\ndb.stop 5..6 lifecycle";
        let phases = [("container.start", "container.exec"), ("container.exec", "container.stop")];
        check(table, order(&phases), expect!["holds, 4 looked at"]);
        check(
            table,
            order(&[("db.exec", "query"), ("db.stop", "query")]),
            expect![[r#"
            fails, 3 looked at
            must_precede[1]: `query` began at 2 ms, but the first `db.stop` ended at 6 ms
        "#]],
        );
        check_with_lifecycle(
            "db.start 0..1 lifecycle",
            order(&[("db.start", "query")]),
            expect!["fails, 0 looked at, no spans"],
        );
    }

    #[test]
    fn what_never_ended_is_in_no_order() {
        check(
            "a 10..0\nb 5..9",
            order(&[("a", "b")]),
            expect![[r#"
                fails, 2 looked at
                must_precede[0]: every first span never ended, or ended before it began
            "#]],
        );
        check(
            "a 1..2\nb 5..0",
            order(&[("a", "b")]),
            expect![[r#"
                fails, 2 looked at
                must_precede[0]: `b` never ended, or ended before it began
            "#]],
        );
        check("a 1..2\nb 5..9", order(&[("a", "b")]), expect!["holds, 2 looked at"]);
    }
}
