//! Judges `[[expect.span]]`: some span, or so many, satisfies all conditions together.

use std::cmp::Ordering;

use clnrm_backends::Span;

use super::attribute::Attribute;
use super::counts::{is_kind, kind_word, service_of, unmet};
use super::names::{Pattern, listed, plural, tally};
use super::number::compare_ms;
use super::status::told;
use super::traces::{Index, UNTIMED, is_timed, took};
use crate::expectation::{Bounds, Range, SpanExpectation, Verdict};

pub(super) fn judge(index: &Index<'_>, expected: &SpanExpectation, verdict: &mut Verdict) {
    let conditions = Conditions::new(expected);
    let named = match expected.of_clnrm {
        true => index.of_clnrm(&conditions.name),
        false => index.named(&conditions.name),
    };
    let misses: Vec<_> = named
        .iter()
        .map(|place| (index.spans[*place].name.as_str(), conditions.misses(index, *place)))
        .collect();
    let found = misses.iter().filter(|(_, misses)| misses.is_empty()).count() as u64;
    let nearest = || match misses.is_empty() {
        true if expected.of_clnrm => index.instead_of_clnrm(&conditions.name),
        true => index.instead_of(&conditions.name),
        false => nearest_miss(&misses),
    };
    let name = &expected.name;
    if expected.exists == Some(false) && found > 0 {
        let spans = plural(found, "span");
        verdict.fail("exists", format!("expected no such span `{name}`, found {spans}"), None);
    }
    for unmet in expected.count.iter().flat_map(|bounds| unmet(bounds, found, "span")) {
        let is_too_few = expected.count.is_some_and(|bounds| too_few(&bounds, found));
        let nearest = if is_too_few { nearest() } else { None };
        verdict.fail("count", format!("{unmet} `{name}` that satisfy all of it"), nearest);
    }
    // A span without an end may well have taken so long.
    let doubtful =
        misses.iter().find(|(_, misses)| matches!(&misses[..], [miss] if miss == UNTIMED));
    if let Some((name, _)) = doubtful.filter(|_| verdict.failures.is_empty())
        && let Some(rule) = limiting(expected)
    {
        verdict.fail(rule, format!("how long `{name}` took is not known: it {UNTIMED}"), None);
    }
    let wants_one = expected.exists.unwrap_or(expected.count.is_none());
    if wants_one && found == 0 {
        let message = match named.len() {
            0 => format!("no span is named `{name}`"),
            1 => format!("the span `{name}` does not satisfy all of it"),
            many => format!("none of {many} spans `{name}` satisfies all of it"),
        };
        verdict.fail("", message, nearest());
    }
}

/// A span expectation, ready to be held against many spans.
struct Conditions<'a> {
    expected: &'a SpanExpectation,
    name: Pattern<'a>,
    parent: Option<Pattern<'a>>,
    children_any: Vec<Pattern<'a>>,
    events_all: Vec<Pattern<'a>>,
    events_any: Vec<Pattern<'a>>,
    attributes_all: Vec<Attribute<'a>>,
    attributes_any: Vec<Attribute<'a>>,
}

impl<'a> Conditions<'a> {
    fn new(expected: &'a SpanExpectation) -> Conditions<'a> {
        let patterns =
            |names: &'a [String]| names.iter().map(|name| Pattern::new(name)).collect::<Vec<_>>();
        Conditions {
            expected,
            name: Pattern::new(&expected.name),
            parent: expected.parent.as_deref().map(Pattern::new),
            children_any: patterns(&expected.children_any),
            events_all: patterns(&expected.events_all),
            events_any: patterns(&expected.events_any),
            attributes_all: expected.attributes_all.iter().map(Attribute::new).collect(),
            attributes_any: expected.attributes_any.iter().map(Attribute::new).collect(),
        }
    }

    /// What is wrong with the span at `place`, a text for each condition it does not satisfy.
    fn misses(&self, index: &Index<'_>, place: usize) -> Vec<String> {
        let span = index.spans[place];
        let own = [
            self.kind(span),
            self.service(span),
            self.status(span),
            self.duration(span),
            self.parent(index, place),
            self.children(index, place),
            self.any_event(span),
            self.any_attribute(span),
        ];
        let attributes = self.attributes_all.iter().filter_map(|attribute| attribute.miss(span));
        own.into_iter().flatten().chain(attributes).chain(self.missing_events(span)).collect()
    }

    fn kind(&self, span: &Span) -> Option<String> {
        let kind = self.expected.kind.as_deref().filter(|kind| !is_kind(span, kind))?;
        Some(format!("kind is {}, expected {kind}", kind_word(span.kind)))
    }

    fn service(&self, span: &Span) -> Option<String> {
        let expected = self.expected.service.as_deref()?;
        match service_of(span) {
            Some(found) if found == expected => None,
            Some(found) => Some(format!("service is `{found}`, expected `{expected}`")),
            None => Some(format!("has no service, expected `{expected}`")),
        }
    }

    fn status(&self, span: &Span) -> Option<String> {
        let expected = self.expected.status.filter(|status| !status.is_met_by(&span.status))?;
        Some(format!("status is {}, expected {}", told(&span.status), expected.word()))
    }

    fn duration(&self, span: &Span) -> Option<String> {
        let Range { min, max } = self.expected.duration_ms?;
        if !is_timed(span) {
            return Some(UNTIMED.to_owned());
        }
        let is = |bound: &f64| compare_ms(took(span), *bound);
        let below = min.filter(|min| is(min).is_none_or(Ordering::is_lt));
        let above = max.filter(|max| is(max).is_none_or(Ordering::is_gt));
        let below = below.map(|min| format!("at least {min}"));
        let above = above.map(|max| format!("at most {max}"));
        let found = took(span) as f64 / 1e6;
        Some(format!("took {found} ms, expected {} ms", below.or(above)?))
    }

    fn parent(&self, index: &Index<'_>, place: usize) -> Option<String> {
        let pattern = self.parent.as_ref()?;
        let expected = pattern.text;
        match index.parent(place) {
            Some(parent) if index.is_named(parent, pattern) => None,
            Some(parent) => {
                Some(format!("parent is `{}`, expected `{expected}`", index.spans[parent].name))
            }
            None if index.is_orphan(place) => {
                Some(format!("its parent was not collected, expected `{expected}`"))
            }
            None => Some(format!("has no parent, expected `{expected}`")),
        }
    }

    fn children(&self, index: &Index<'_>, place: usize) -> Option<String> {
        let children = index.children(place);
        let is_met = |pattern| children.iter().any(|child| index.is_named(*child, pattern));
        if self.children_any.is_empty() || self.children_any.iter().any(is_met) {
            return None;
        }
        let names = tally(children.iter().map(|child| index.spans[*child].name.as_str()));
        Some(format!("children are {}, expected {}", listed(&names), either(&self.children_any)))
    }

    fn any_event(&self, span: &Span) -> Option<String> {
        let is_met = |pattern: &Pattern<'_>| has_event(span, pattern);
        if self.events_any.is_empty() || self.events_any.iter().any(is_met) {
            return None;
        }
        Some(format!("events are {}, expected {}", events(span), either(&self.events_any)))
    }

    fn missing_events(&self, span: &Span) -> Vec<String> {
        let missing = self.events_all.iter().filter(|pattern| !has_event(span, pattern));
        missing.map(|it| format!("events are {}, expected `{}`", events(span), it.text)).collect()
    }

    fn any_attribute(&self, span: &Span) -> Option<String> {
        let misses: Vec<_> =
            self.attributes_any.iter().map(|attribute| attribute.miss(span)).collect();
        let misses: Vec<_> = misses.into_iter().collect::<Option<_>>()?;
        (!misses.is_empty()).then(|| misses.join(", or "))
    }
}

/// The span that misses the fewest conditions, and which.
fn nearest_miss(misses: &[(&str, Vec<String>)]) -> Option<String> {
    let missing = misses.iter().filter(|(_, misses)| !misses.is_empty());
    let (name, misses) = missing.min_by_key(|(name, misses)| (misses.len(), misses, *name))?;
    Some(format!("`{name}`: {}", misses.join("; ")))
}

/// The rule by which more such spans would be too many, if there is one.
fn limiting(expected: &SpanExpectation) -> Option<&'static str> {
    let is_limited = |bounds: &Bounds| bounds.at_most.or(bounds.exactly).is_some();
    match expected.exists {
        Some(false) => Some("exists"),
        _ => expected.count.as_ref().filter(|it| is_limited(it)).map(|_| "count"),
    }
}

fn too_few(bounds: &Bounds, found: u64) -> bool {
    bounds.at_least.max(bounds.exactly).is_some_and(|bound| found < bound)
}

fn has_event(span: &Span, pattern: &Pattern<'_>) -> bool {
    span.events.iter().any(|event| pattern.matches(&event.name))
}

fn events(span: &Span) -> String {
    listed(&tally(span.events.iter().map(|event| event.name.as_str())))
}

/// `` `a` or `b` ``
fn either(patterns: &[Pattern<'_>]) -> String {
    patterns.iter().map(|it| format!("`{}`", it.text)).collect::<Vec<_>>().join(" or ")
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use expect_test::expect;

    use super::super::traces::table::{check, check_with_lifecycle};
    use super::*;
    use crate::expectation::{Expectation, ExpectedStatus, Literal, Predicate};

    const TABLE: &str = "
        clnrm.step:hello 0..90 lifecycle
          http.get 0..9.5 server http.status_code=500 resource.service.name=api !retry
            db.query 1..2 client error:refused rows=3 resource.service.name=db
            db.query 3..4 client ok rows=12 resource.service.name=db";

    fn named(name: &str) -> SpanExpectation {
        SpanExpectation { name: name.to_owned(), ..SpanExpectation::default() }
    }

    fn equals(pairs: &[(&str, Literal)]) -> BTreeMap<String, Predicate> {
        let predicate = |literal: &Literal| Predicate { eq: Some(literal.clone()), ..none() };
        pairs.iter().map(|(key, literal)| (key.to_string(), predicate(literal))).collect()
    }

    fn none() -> Predicate {
        Predicate::default()
    }

    fn string(text: &str) -> Literal {
        Literal::String(text.to_owned())
    }

    fn one(key: &str, predicate: Predicate) -> Expectation {
        let attributes_all = BTreeMap::from([(key.to_owned(), predicate)]);
        Expectation::Span(SpanExpectation { attributes_all, ..named("http.get") })
    }

    #[test]
    fn one_span_satisfies_everything_together() {
        let expected = SpanExpectation {
            kind: Some("client".to_owned()),
            parent: Some("http.*".to_owned()),
            attributes_all: equals(&[
                ("rows", string("12")),
                ("resource.service.name", string("db")),
            ]),
            attributes_any: equals(&[("rows", Literal::Int(99)), ("service.name", string("db"))]),
            status: Some(ExpectedStatus::ExplicitOk),
            duration_ms: Some(Range { min: Some(1.0), max: Some(1.0) }),
            service: Some("db".to_owned()),
            ..named("db.query")
        };
        check(TABLE, Expectation::Span(expected.clone()), expect!["holds, 3 looked at"]);
        // Each of the two satisfies one half of this.
        let attributes_all = equals(&[("rows", Literal::Int(3))]);
        let halves = SpanExpectation { attributes_all, ..expected };
        check(
            TABLE,
            Expectation::Span(halves),
            expect![[r#"
            fails, 3 looked at
            : none of 2 spans `db.query` satisfies all of it
              nearest: `db.query`: attribute `rows` is 12, expected 3
        "#]],
        );
    }

    #[test]
    fn the_nearest_miss_tells_each_condition() {
        let expected = SpanExpectation {
            kind: Some("internal".to_owned()),
            parent: Some("gateway".to_owned()),
            attributes_all: equals(&[
                ("http.status_code", Literal::Int(200)),
                ("user", string("x")),
            ]),
            attributes_any: equals(&[("a", Literal::Int(1)), ("service.name", string("b"))]),
            events_all: vec!["retry".to_owned(), "done".to_owned()],
            events_any: vec!["x".to_owned(), "y*".to_owned()],
            status: Some(ExpectedStatus::Error),
            duration_ms: Some(Range { min: None, max: Some(9.0) }),
            children_any: vec!["cache".to_owned(), "queue".to_owned()],
            service: Some("web".to_owned()),
            ..named("http.get")
        };
        check(
            TABLE,
            Expectation::Span(expected),
            expect![[r#"
            fails, 3 looked at
            : the span `http.get` does not satisfy all of it
              nearest: `http.get`: kind is server, expected internal; service is `api`, expected `web`; status is unset, expected error; took 9.5 ms, expected at most 9 ms; parent is `clnrm.step:hello`, expected `gateway`; children are `db.query` (2), expected `cache` or `queue`; events are `retry` (1), expected `x` or `y*`; attribute `a` is missing, expected 1, or attribute `service.name` is "api", expected "b"; attribute `http.status_code` is 500, expected 200; attribute `user` is missing, expected "x"; events are `retry` (1), expected `done`
        "#]],
        );
    }

    #[test]
    fn a_parent_may_be_absent_or_lost() {
        let parent = |name| SpanExpectation { parent: Some("x".to_owned()), ..named(name) };
        check(
            "a 0..1\nb 1..2 orphan",
            Expectation::Span(parent("a")),
            expect![[r#"
            fails, 2 looked at
            : the span `a` does not satisfy all of it
              nearest: `a`: has no parent, expected `x`
        "#]],
        );
        check(
            "a 0..1\nb 1..2 orphan",
            Expectation::Span(parent("b")),
            expect![[r#"
            fails, 2 looked at
            : the span `b` does not satisfy all of it
              nearest: `b`: its parent was not collected, expected `x`
        "#]],
        );
    }

    #[test]
    fn a_name_that_no_span_has_is_answered_with_those_there_are() {
        check(
            TABLE,
            Expectation::Span(named("db.qeury")),
            expect![[r#"
            fails, 3 looked at
            : no span is named `db.qeury`
              nearest: did you mean `db.query`? there are `db.query` (2), `http.get` (1)
        "#]],
        );
        check(
            TABLE,
            Expectation::Span(named("clnrm.step:helo")),
            expect![[r#"
            fails, 3 looked at
            : no span is named `clnrm.step:helo`
              nearest: did you mean `clnrm.step:hello`? there are `clnrm.step:hello` (1), `db.query` (2), `http.get` (1)
        "#]],
        );
    }

    #[test]
    fn counts_are_of_spans_that_satisfy_everything() {
        let counted = |count, exists| {
            let status = Some(ExpectedStatus::Ok);
            Expectation::Span(SpanExpectation { count, exists, status, ..named("db.query") })
        };
        let exactly = |count| Some(Bounds { exactly: Some(count), ..Bounds::default() });
        check(TABLE, counted(exactly(1), None), expect!["holds, 3 looked at"]);
        check(
            TABLE,
            counted(exactly(2), None),
            expect![[r#"
            fails, 3 looked at
            count: expected exactly 2 spans, found 1 `db.query` that satisfy all of it
              nearest: `db.query`: status is error ("refused"), expected ok
        "#]],
        );
        check(
            TABLE,
            counted(exactly(0), None),
            expect![[r#"
            fails, 3 looked at
            count: expected exactly 0 spans, found 1 `db.query` that satisfy all of it
        "#]],
        );
        check(
            TABLE,
            counted(None, Some(false)),
            expect![[r#"
            fails, 3 looked at
            exists: expected no such span `db.query`, found 1 span
        "#]],
        );
        check(TABLE, counted(None, Some(true)), expect!["holds, 3 looked at"]);
        let absent = |count, exists| {
            Expectation::Span(SpanExpectation { count, exists, ..named("db.drop") })
        };
        check(TABLE, absent(None, Some(false)), expect!["holds, 3 looked at"]);
        check(TABLE, absent(exactly(0), None), expect!["holds, 3 looked at"]);
    }

    #[test]
    fn a_span_without_an_end_may_have_taken_any_time() {
        let slow = |name, exists, count| {
            let duration_ms = Some(Range { min: Some(5.0), max: None });
            Expectation::Span(SpanExpectation { duration_ms, exists, count, ..named(name) })
        };
        let most = |count| Some(Bounds { at_most: Some(count), ..Bounds::default() });
        let table = "quick 0..1\nslow 0..9\nhung 5..0";
        check(table, slow("quick", Some(false), None), expect!["holds, 3 looked at"]);
        check(table, slow("slow", None, most(1)), expect!["holds, 3 looked at"]);
        check(
            table,
            slow("hung", Some(false), None),
            expect![[r#"
                fails, 3 looked at
                exists: how long `hung` took is not known: it never ended, or ended before it began
            "#]],
        );
        check(
            table,
            slow("*", None, most(1)),
            expect![[r#"
                fails, 3 looked at
                count: how long `hung` took is not known: it never ended, or ended before it began
            "#]],
        );
    }

    #[test]
    fn nothing_is_no_evidence_of_absence() {
        let absent =
            |name| Expectation::Span(SpanExpectation { exists: Some(false), ..named(name) });
        let lifecycle = "clnrm.run 0..9 lifecycle";
        check("", absent("db.drop"), expect!["fails, 0 looked at, no spans"]);
        check(lifecycle, absent("db.drop"), expect!["fails, 0 looked at, no spans"]);
        check_with_lifecycle(lifecycle, absent("db.*"), expect!["fails, 0 looked at, no spans"]);
        check(lifecycle, Expectation::Span(named("clnrm.run")), expect!["holds, 1 looked at"]);
        check(lifecycle, Expectation::Span(named("*")), expect!["fails, 0 looked at, no spans"]);
    }

    #[test]
    fn predicates_say_what_they_wanted() {
        let number = |gte, lt| Predicate { gte, lt, ..none() };
        check(
            TABLE,
            one("http.status_code", number(Some(Literal::Int(500)), Some(Literal::Float(500.5)))),
            expect!["holds, 3 looked at"],
        );
        let everything = Predicate {
            eq: Some(Literal::Bool(true)),
            ne: Some(Literal::Float(500.0)),
            gte: Some(Literal::Float(500.5)),
            lte: Some(Literal::Int(400)),
            gt: Some(Literal::Int(500)),
            lt: Some(Literal::Float(500.0)),
            contains: Some(string("5")),
            matches: Some("^4".to_owned()),
            exists: Some(false),
            one_of: Some(vec![Literal::Int(200), string("204")]),
        };
        check(
            TABLE,
            one("http.status_code", everything),
            expect![[r#"
            fails, 3 looked at
            : the span `http.get` does not satisfy all of it
              nearest: `http.get`: attribute `http.status_code` is 500, expected true and anything but 500 and at least 500.5 and at most 400 and more than 500 and less than 500 and something that contains "5" and a match of /^4/ and one of 200, "204" and no such attribute
        "#]],
        );
        check(
            TABLE,
            one("absent", Predicate { ne: Some(string("x")), ..none() }),
            expect![[r#"
                fails, 3 looked at
                : the span `http.get` does not satisfy all of it
                  nearest: `http.get`: attribute `absent` is missing, expected anything but "x"
            "#]],
        );
        check(
            TABLE,
            one("absent", Predicate { matches: Some("(".to_owned()), ..none() }),
            expect![[r#"
                fails, 3 looked at
                : the span `http.get` does not satisfy all of it
                  nearest: `http.get`: attribute `absent` is missing, expected a match of /(/
            "#]],
        );
    }
}
