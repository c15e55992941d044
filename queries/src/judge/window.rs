//! Judges `[[expect.window]]`: when spans are, and how long they take.

use std::cmp::Ordering;

use super::names::{Pattern, plural};
use super::number::compare_ms;
use super::traces::{Index, UNTIMED, is_timed};
use crate::expectation::{About, Verdict, WindowExpectation};

pub(super) fn judge(index: &Index<'_>, expected: &WindowExpectation, verdict: &mut Verdict) {
    if let Some(outer) = &expected.outer {
        contains(index, &Pattern::new(outer), &expected.contains, verdict);
    }
    let has_bounds = expected.duration_ms != Default::default() || expected.min_spans.is_some();
    let has_ends = expected.start.is_some() || expected.end.is_some();
    if !has_bounds && !has_ends {
        return;
    }
    let Some(window) = Window::open(index, expected, verdict) else { return };
    window.judge(index, expected, verdict);
}

/// Every span that `contained` names lies within some span `outer`.
fn contains(index: &Index<'_>, outer: &Pattern<'_>, contained: &[String], verdict: &mut Verdict) {
    let outers = index.named(outer);
    if outers.is_empty() {
        let message = format!("no span is named `{}`", outer.text);
        verdict.fail("outer", message, index.instead_of(outer));
        return;
    }
    let timed: Vec<usize> =
        outers.iter().copied().filter(|place| is_timed(index.spans[*place])).collect();
    if timed.is_empty() {
        verdict.fail("outer", format!("every `{}` {UNTIMED}", outer.text), None);
        return;
    }
    let covers = Covers::new(index, &timed);
    for (number, name) in contained.iter().enumerate() {
        let rule = format!("contains[{number}]");
        let pattern = Pattern::new(name);
        let inners = index.named(&pattern);
        if inners.is_empty() {
            let message = format!("no span is named `{name}`");
            verdict.fail(rule, message, index.instead_of(&pattern));
            continue;
        }
        let within = |inner: &usize| is_timed(index.spans[*inner]) && covers.hold(index, *inner);
        let outside = inners.iter().copied().filter(|inner| !within(inner));
        let (tolerated, outside): (Vec<usize>, Vec<usize>) =
            outside.partition(|inner| is_tolerated(index, *inner, &timed));
        if !tolerated.is_empty() {
            let (count, all) = (tolerated.len(), plural(inners.len() as u64, "span"));
            let told = format!(
                "{count} of {all} `{name}` lie less than 1 ms outside the `{}` above: \
                 clocks of SDKs differ by so much",
                outer.text
            );
            verdict.warn(About::Clocks, told);
        }
        let Some(first) = outside.first() else { continue };
        let (count, all) = (outside.len(), plural(inners.len() as u64, "span"));
        let message = format!("{count} of {all} `{name}` lie outside every `{}`", outer.text);
        verdict.fail(rule, message, Some(told(index, *first, &timed)));
    }
}

/// How far a span may lie outside one that it is a descendant of: less than a millisecond. Node's SDK
/// counts the start of a span in whole milliseconds and its duration in nanoseconds, so a child may
/// end nearly one millisecond after its parent.
const TOLERANCE_NS: i64 = 999_999;

/// Whether a span lies within one of `outers` above it, but for the tolerance of clocks.
fn is_tolerated(index: &Index<'_>, inner: usize, outers: &[usize]) -> bool {
    let span = index.spans[inner];
    let covers = |place: usize| {
        let outer = index.spans[place];
        place != inner
            && outer.start_ns.saturating_sub(TOLERANCE_NS) <= span.start_ns
            && outer.end_ns.saturating_add(TOLERANCE_NS) >= span.end_ns
    };
    // Parents may go round.
    let above = std::iter::successors(index.parent(inner), |place| index.parent(*place));
    let mut above = above.take(index.spans.len());
    is_timed(span) && above.any(|place| outers.binary_search(&place).is_ok() && covers(place))
}

/// Spans by their start, each with the latest two ends of those that begin no later.
struct Covers(Vec<Cover>);

#[derive(Clone, Copy)]
struct Cover {
    start_ns: i64,
    /// The latest end, and whose it is.
    last: (i64, usize),
    /// The latest end of another.
    next: i64,
}

impl Covers {
    fn new(index: &Index<'_>, places: &[usize]) -> Covers {
        // Places are in the order of starts.
        let mut covers: Vec<Cover> = Vec::with_capacity(places.len());
        for place in places {
            let span = index.spans[*place];
            let (start_ns, end) = (span.start_ns, (span.end_ns, *place));
            covers.push(match covers.last() {
                None => Cover { start_ns, last: end, next: i64::MIN },
                Some(Cover { last, .. }) if end.0 > last.0 => {
                    Cover { start_ns, last: end, next: last.0 }
                }
                Some(Cover { last, next, .. }) => {
                    Cover { start_ns, last: *last, next: end.0.max(*next) }
                }
            });
        }
        Covers(covers)
    }

    /// Whether the span at `inner` lies within one of these that is not itself.
    fn hold(&self, index: &Index<'_>, inner: usize) -> bool {
        let span = index.spans[inner];
        let before = self.0.partition_point(|cover| cover.start_ns <= span.start_ns);
        self.0[..before].last().is_some_and(|Cover { last, next, .. }| {
            let end = if last.1 == inner { *next } else { last.0 };
            end >= span.end_ns
        })
    }
}

/// The span, and the outer one that covers most of it.
fn told(index: &Index<'_>, inner: usize, outers: &[usize]) -> String {
    let span = index.spans[inner];
    let overlap = |place: &usize| {
        let outer = index.spans[*place];
        let shared =
            outer.end_ns.min(span.end_ns).saturating_sub(outer.start_ns.max(span.start_ns));
        (shared, std::cmp::Reverse(*place))
    };
    let nearest = outers.iter().filter(|place| **place != inner).max_by_key(|place| overlap(place));
    let (start, end) = (index.ms(span.start_ns), index.ms(span.end_ns));
    if !is_timed(span) {
        return format!("`{}` {UNTIMED}", span.name);
    }
    let own = format!("`{}` is from {start} to {end} ms", span.name);
    match nearest.map(|place| index.spans[*place]) {
        Some(outer) => {
            let (start, end) = (index.ms(outer.start_ns), index.ms(outer.end_ns));
            format!("{own}, `{}` from {start} to {end} ms", outer.name)
        }
        None => format!("{own}, and there is no other `{}`", span.name),
    }
}

/// A stretch of time.
struct Window {
    start_ns: i64,
    end_ns: i64,
    /// The spans that bound it, where they are named.
    bounds: Vec<usize>,
    told: String,
}

impl Window {
    /// `None` when it never opens or closes, which is told.
    fn open(
        index: &Index<'_>,
        expected: &WindowExpectation,
        verdict: &mut Verdict,
    ) -> Option<Window> {
        let mut bound = |name: &Option<String>, rule: &str| match name {
            Some(name) => {
                let pattern = Pattern::new(name);
                let places = index.named(&pattern);
                if places.is_empty() {
                    let message = format!("no span is named `{name}`");
                    verdict.fail(rule, message, index.instead_of(&pattern));
                }
                places
            }
            None => index.counted().collect(),
        };
        let starts = bound(&expected.start, "start_span");
        let ends = bound(&expected.end, "end_span");
        let mut all = starts.iter().chain(&ends);
        if let Some(untimed) = all.find(|place| !is_timed(index.spans[**place])) {
            verdict.fail("", format!("`{}` {UNTIMED}", index.spans[*untimed].name), None);
            return None;
        }
        let start_ns = starts.iter().map(|place| index.spans[*place].start_ns).min()?;
        let end_ns = ends.iter().map(|place| index.spans[*place].end_ns).max()?;
        let told = match (&expected.start, &expected.end) {
            (None, None) => "the whole trace".to_owned(),
            (start, end) => {
                let told = |name: &Option<String>, of_all: &str| {
                    name.as_ref().map_or(of_all.to_owned(), |name| format!("`{name}`"))
                };
                let start = told(start, "the first span");
                format!("the window from {start} to {}", told(end, "the last span"))
            }
        };
        let named = [(&expected.start, starts), (&expected.end, ends)];
        let named = named.into_iter().filter(|(name, _)| name.is_some());
        let mut bounds: Vec<usize> = named.flat_map(|(_, places)| places).collect();
        bounds.sort_unstable();
        Some(Window { start_ns, end_ns, bounds, told })
    }

    fn judge(&self, index: &Index<'_>, expected: &WindowExpectation, verdict: &mut Verdict) {
        let Window { start_ns, end_ns, told, .. } = self;
        let (start, end) = (index.ms(*start_ns), index.ms(*end_ns));
        if end_ns < start_ns {
            let message = format!("{told} closes at {end} ms, before it opens at {start} ms");
            verdict.fail("", message, None);
            return;
        }
        let took = i128::from(*end_ns) - i128::from(*start_ns);
        let is = |bound: &f64| compare_ms(took, *bound);
        let below = expected.duration_ms.min.filter(|min| is(min).is_none_or(Ordering::is_lt));
        let above = expected.duration_ms.max.filter(|max| is(max).is_none_or(Ordering::is_gt));
        let took = took as f64 / 1e6;
        let at = Some(format!("it is open from {start} to {end} ms"));
        if let Some(min) = below {
            let message = format!("{told} took {took} ms, expected at least {min} ms");
            verdict.fail("min_duration_ms", message, at.clone());
        }
        if let Some(max) = above {
            let message = format!("{told} took {took} ms, expected at most {max} ms");
            verdict.fail("max_duration_ms", message, at);
        }
        if let Some(min) = expected.min_spans {
            self.holds(index, min, verdict);
        }
    }

    /// At least `min` spans lie within; those below a span that bounds it with the tolerance of clocks.
    fn holds(&self, index: &Index<'_>, min: u64, verdict: &mut Verdict) {
        let under = index.earliest_above(&self.bounds);
        let within = |place: &usize, tolerance: i64| {
            let span = index.spans[*place];
            is_timed(span)
                && span.start_ns >= self.start_ns.saturating_sub(tolerance)
                && span.end_ns <= self.end_ns.saturating_add(tolerance)
        };
        let found = index.counted().filter(|place| within(place, 0)).count() as u64;
        let tolerated = index.counted().filter(|place| {
            under[*place].is_some() && !within(place, 0) && within(place, TOLERANCE_NS)
        });
        let tolerated = if found < min { tolerated.count() as u64 } else { 0 };
        let told = &self.told;
        if found + tolerated < min {
            let (min, note) = (plural(min, "span"), index.counted_note());
            let message = format!("expected at least {min} within {told}, found {found}{note}");
            verdict.fail("min_span_count", message, None);
        } else if tolerated > 0 {
            let spans = plural(tolerated, "span");
            let told = format!(
                "{spans} lie less than 1 ms outside {told}: clocks of SDKs differ by so much"
            );
            verdict.warn(About::Clocks, told);
        }
    }
}

#[cfg(test)]
mod tests {
    use expect_test::expect;

    use super::super::traces::table::{check, check_with_lifecycle};
    use super::*;
    use crate::expectation::{Expectation, Range};

    fn within(outer: &str, contained: &[&str]) -> Expectation {
        Expectation::Window(WindowExpectation {
            outer: Some(outer.to_owned()),
            contains: contained.iter().map(|name| (*name).to_owned()).collect(),
            ..WindowExpectation::default()
        })
    }

    const SET: &str = "run 0..10\n  a 0..10\n  b 1..9\n  late 8..11\na 20..30\nb 21..22";

    /// Node's SDK has children end up to a millisecond after their parents.
    #[test]
    fn clocks_have_a_tolerance_that_is_told() {
        check(
            "p 0..9\n  x 1..8\n    c 1..9.9\n  c 1..2",
            within("p", &["c"]),
            expect![[r#"
                holds, 4 looked at
                warning: 1 of 2 spans `c` lie less than 1 ms outside the `p` above: clocks of SDKs differ by so much
            "#]],
        );
        check("p 0..9\n  c 1..9", within("p", &["c"]), expect!["holds, 2 looked at"]);
        check(
            "p 0..9\n  c 1..10.1",
            within("p", &["c"]),
            expect![[r#"
                fails, 2 looked at
                contains[0]: 1 of 1 span `c` lie outside every `p`
                  nearest: `c` is from 1 to 10.1 ms, `p` from 0 to 9 ms
            "#]],
        );
        check(
            "p 0..9\n  c 1..9.9",
            between(Some("p"), Some("p"), Range::default(), Some(2)),
            expect![[r#"
                holds, 2 looked at
                warning: 1 span lie less than 1 ms outside the window from `p` to `p`: clocks of SDKs differ by so much
            "#]],
        );
        check(
            "p 0..9\nc 1..9.9",
            between(Some("p"), Some("p"), Range::default(), Some(2)),
            expect![[r#"
                fails, 2 looked at
                min_span_count: expected at least 2 spans within the window from `p` to `p`, found 1
            "#]],
        );
        // What is no descendant has no such excuse.
        check(
            "p 0..9\nc 1..9.1",
            within("p", &["c"]),
            expect![[r#"
                fails, 2 looked at
                contains[0]: 1 of 1 span `c` lie outside every `p`
                  nearest: `c` is from 1 to 9.1 ms, `p` from 0 to 9 ms
            "#]],
        );
    }

    fn whole() -> Expectation {
        let duration_ms = Range { min: None, max: Some(100.0) };
        Expectation::Window(WindowExpectation { duration_ms, ..WindowExpectation::default() })
    }

    #[test]
    fn over_spans_without_an_end_nothing_holds() {
        let never = "never ended, or ended before it began";
        for (table, expectation) in [
            ("p 10..20\n  c 15..0", within("p", &["c"])),
            ("p 10..0\n  c 15..16", within("p", &["c"])),
            ("p 10..0", whole()),
        ] {
            let verdict =
                super::super::judge(&super::super::traces::table::traces(table), &expectation);
            let told = format!("{:?}", verdict.failures);
            assert!(told.contains(never), "{table}: {told}");
        }
    }

    #[test]
    fn what_lies_within() {
        check(
            SET,
            within("run", &["a"]),
            expect![[r#"
            fails, 6 looked at
            contains[0]: 1 of 2 spans `a` lie outside every `run`
              nearest: `a` is from 20 to 30 ms, `run` from 0 to 10 ms
        "#]],
        );
        check(SET, within("a", &["b"]), expect!["holds, 6 looked at"]);
        check(
            SET,
            within("run", &["b", "late"]),
            expect![[r#"
            fails, 6 looked at
            contains[0]: 1 of 2 spans `b` lie outside every `run`
              nearest: `b` is from 21 to 22 ms, `run` from 0 to 10 ms
            contains[1]: 1 of 1 span `late` lie outside every `run`
              nearest: `late` is from 8 to 11 ms, `run` from 0 to 10 ms
        "#]],
        );
        check(
            SET,
            within("ran", &["b"]),
            expect![[r#"
            fails, 6 looked at
            outer: no span is named `ran`
              nearest: did you mean `run`? there are `a` (2), `b` (2), `late` (1), `run` (1)
        "#]],
        );
        check(
            SET,
            within("run", &["bb"]),
            expect![[r#"
            fails, 6 looked at
            contains[0]: no span is named `bb`
              nearest: did you mean `b`? there are `a` (2), `b` (2), `late` (1), `run` (1)
        "#]],
        );
        check(SET, within("*", &["b"]), expect!["holds, 6 looked at"]);
        check(SET, within("*", &["run"]), expect!["holds, 6 looked at"]);
        check("", within("run", &["a"]), expect!["fails, 0 looked at, no spans"]);
    }

    #[test]
    fn both_ends_are_included() {
        check("o 1..5\ni 1..5", within("o", &["i"]), expect!["holds, 2 looked at"]);
        check(
            "o 1..5\ni 1..5.1",
            within("o", &["i"]),
            expect![[r#"
            fails, 2 looked at
            contains[0]: 1 of 1 span `i` lie outside every `o`
              nearest: `i` is from 0 to 4.1 ms, `o` from 0 to 4 ms
        "#]],
        );
        check(
            "o 1..5\ni 0.9..5",
            within("o", &["i"]),
            expect![[r#"
            fails, 2 looked at
            contains[0]: 1 of 1 span `i` lie outside every `o`
              nearest: `i` is from 0 to 4.1 ms, `o` from 0.1 to 4.1 ms
        "#]],
        );
    }

    fn between(
        start: Option<&str>,
        end: Option<&str>,
        duration_ms: Range,
        min_spans: Option<u64>,
    ) -> Expectation {
        let (start, end) = (start.map(str::to_owned), end.map(str::to_owned));
        Expectation::Window(WindowExpectation {
            start,
            end,
            duration_ms,
            min_spans,
            ..WindowExpectation::default()
        })
    }

    fn at_most(max: f64) -> Range {
        Range { max: Some(max), ..Range::default() }
    }

    #[test]
    fn how_long_it_takes() {
        check(SET, between(None, None, at_most(30.0), None), expect!["holds, 6 looked at"]);
        check(
            SET,
            between(None, None, at_most(29.5), None),
            expect![[r#"
            fails, 6 looked at
            max_duration_ms: the whole trace took 30 ms, expected at most 29.5 ms
              nearest: it is open from 0 to 30 ms
        "#]],
        );
        check(
            SET,
            between(None, None, Range { min: Some(40.0), max: None }, None),
            expect![[r#"
            fails, 6 looked at
            min_duration_ms: the whole trace took 30 ms, expected at least 40 ms
              nearest: it is open from 0 to 30 ms
        "#]],
        );
        check(
            SET,
            between(Some("b"), Some("late"), at_most(10.0), Some(3)),
            expect![[r#"
            fails, 6 looked at
            min_span_count: expected at least 3 spans within the window from `b` to `late`, found 2
        "#]],
        );
        check(
            SET,
            between(Some("b"), Some("late"), at_most(9.0), Some(4)),
            expect![[r#"
            fails, 6 looked at
            max_duration_ms: the window from `b` to `late` took 10 ms, expected at most 9 ms
              nearest: it is open from 1 to 11 ms
            min_span_count: expected at least 4 spans within the window from `b` to `late`, found 2
        "#]],
        );
        check(
            SET,
            between(Some("late"), Some("run"), at_most(1.0), None),
            expect![[r#"
            fails, 6 looked at
            max_duration_ms: the window from `late` to `run` took 2 ms, expected at most 1 ms
              nearest: it is open from 8 to 10 ms
        "#]],
        );
        check(
            "a 5..6\nb 0..1",
            between(Some("a"), Some("b"), at_most(1.0), None),
            expect![[r#"
            fails, 2 looked at
            : the window from `a` to `b` closes at 1 ms, before it opens at 5 ms
        "#]],
        );
        check(
            SET,
            between(Some("lat"), Some("b"), at_most(1.0), None),
            expect![[r#"
            fails, 6 looked at
            start_span: no span is named `lat`
              nearest: did you mean `late`? there are `a` (2), `b` (2), `late` (1), `run` (1)
        "#]],
        );
        check("", between(None, None, at_most(1.0), None), expect!["fails, 0 looked at, no spans"]);
        check(
            "db.start 0..9 lifecycle",
            between(None, None, at_most(1.0), None),
            expect!["fails, 0 looked at, no spans"],
        );
        check_with_lifecycle(
            "db.start 0..9 lifecycle",
            between(None, None, at_most(1.0), None),
            expect!["fails, 0 looked at, no spans"],
        );
    }
}
