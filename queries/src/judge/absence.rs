//! Which rules of an expectation say that something is not there, or that all of something is so:
//! they hold over incomplete evidence by chance.

use super::names::Pattern;
use super::traces::TraceSet;
use crate::expectation::{Bounds, Expectation, Predicate, SpanExpectation, Verdict};
use crate::gaps::Missing;

/// Has every rule of absence fail that `traces` may hold only because of what is missing.
pub(crate) fn fail_over_gaps(traces: &TraceSet, expectation: &Expectation, verdict: &mut Verdict) {
    if traces.gaps.is_empty() {
        return;
    }
    for (rule, concerns) in absences(expectation) {
        let gap = traces.gaps.iter().find(|gap| concerns.contains(&gap.missing));
        let has_failed = verdict.failures.iter().any(|failure| failure.rule == rule);
        if let Some(gap) = gap.filter(|_| !has_failed) {
            let message = format!("this cannot be said, because evidence is missing: {}", gap.told);
            let nearest = "`allow_incomplete = true` judges what has arrived".to_owned();
            verdict.fail(rule, message, Some(nearest));
        }
    }
}

const SPANS: &[Missing] = &[Missing::Spans];
const EVENTS: &[Missing] = &[Missing::Spans, Missing::Events];
const ATTRIBUTES: &[Missing] = &[Missing::Spans, Missing::Attributes];
const PARENTS: &[Missing] = &[Missing::Spans, Missing::Parents];
const KEYS: &[Missing] = &[Missing::Spans, Missing::Attributes, Missing::Events];

/// The rules of absence in an expectation, each with what must not be missing for it.
fn absences(expectation: &Expectation) -> Vec<(String, Vec<Missing>)> {
    let mut rules = Vec::new();
    let mut add = |holds: bool, rule: &str, concerns: Vec<Missing>| {
        if holds {
            rules.push((rule.to_owned(), concerns));
        }
    };
    match expectation {
        // clnrm's own spans are all there.
        Expectation::Span(span) if span.of_clnrm || is_own(&span.name) => {}
        Expectation::Span(span) => {
            let concerns = conditions(span);
            add(span.exists == Some(false), "exists", concerns.clone());
            add(span.count.is_some_and(is_bounded), "count", concerns);
            let mut predicates = span.attributes_all.values().chain(span.attributes_any.values());
            add(predicates.any(is_absence), "", vec![Missing::Attributes]);
        }
        Expectation::Graph(graph) => {
            for number in 0..graph.must_not_cross.len() {
                add(true, &format!("must_not_cross[{number}]"), PARENTS.to_vec());
            }
            add(graph.acyclic == Some(true), "acyclic", PARENTS.to_vec());
            add(graph.max_depth.is_some(), "max_depth", PARENTS.to_vec());
            add(graph.must_be_connected == Some(true), "must_be_connected", PARENTS.to_vec());
            add(graph.single_root == Some(true), "single_root", PARENTS.to_vec());
        }
        Expectation::Counts(counts) => {
            add(counts.spans_total.is_some_and(is_bounded), "spans_total", SPANS.to_vec());
            add(counts.errors_total.is_some_and(is_bounded), "errors_total", SPANS.to_vec());
            add(counts.events_total.is_some_and(is_bounded), "events_total", EVENTS.to_vec());
            let by = [
                ("by_name", &counts.by_name),
                ("by_kind", &counts.by_kind),
                ("by_service", &counts.by_service),
            ];
            for (key, named) in by {
                for (name, bounds) in named {
                    let own = key == "by_name" && is_own(name);
                    add(is_bounded(*bounds) && !own, &format!("{key}.{name}"), SPANS.to_vec());
                }
            }
        }
        Expectation::Status(status) => {
            add(status.all.is_some(), "all", SPANS.to_vec());
            for name in status.by_name.keys() {
                add(!is_own(name), &format!("by_name.{name}"), SPANS.to_vec());
            }
        }
        Expectation::Window(window) => {
            add(window.duration_ms.max.is_some(), "max_duration_ms", SPANS.to_vec());
        }
        Expectation::Hermeticity(hermeticity) => {
            add(hermeticity.no_external_services, "no_external_services", ATTRIBUTES.to_vec());
            for (key, predicate) in &hermeticity.resource_must_match {
                let concerns = if is_absence(predicate) { ATTRIBUTES } else { SPANS };
                add(true, &format!("resource_attrs.must_match.{key}"), concerns.to_vec());
            }
            for key in &hermeticity.forbid_keys {
                add(true, &format!("span_attrs.forbid_keys.{key}"), KEYS.to_vec());
            }
        }
        Expectation::Order(_) | Expectation::Assertion(_) => {}
    }
    rules
}

/// What must not be missing for a span to be known not to satisfy an expectation.
fn conditions(span: &SpanExpectation) -> Vec<Missing> {
    let no_attributes = span.attributes_all.is_empty() && span.attributes_any.is_empty();
    let no_events = span.events_all.is_empty() && span.events_any.is_empty();
    let mut concerns = vec![Missing::Spans];
    if span.parent.is_some() || !span.children_any.is_empty() {
        concerns.push(Missing::Parents);
    }
    if !no_attributes || span.service.is_some() {
        concerns.push(Missing::Attributes);
    }
    if !no_events {
        concerns.push(Missing::Events);
    }
    concerns
}

/// Whether an attribute must not be there.
fn is_absence(predicate: &Predicate) -> bool {
    predicate.exists == Some(false)
}

/// Whether a name is one of clnrm's own spans.
fn is_own(name: &str) -> bool {
    Pattern::new(name).is_reserved()
}

/// Whether more of them would be too many.
fn is_bounded(bounds: Bounds) -> bool {
    bounds.at_most.is_some() || bounds.exactly.is_some()
}

#[cfg(test)]
mod tests {
    use super::super::judge;
    use super::super::traces::table::traces;
    use super::*;
    use crate::gaps::Gap;

    /// The rules that fail over a set in which `missing` is missing, and no others would.
    fn failing(toml: &str, missing: Missing) -> Vec<String> {
        let text = format!("[meta]\nname = \"t\"\n{toml}\n");
        let test = crate::model::read_text(&text);
        let whole = traces("a 0..9 ok k=v resource.env=ci !e\n  b 1..2 ok resource.env=ci");
        let gap = Gap { missing, told: "a sign".to_owned() };
        let holed = TraceSet { gaps: vec![gap], ..whole.clone() };
        let mut rules = Vec::new();
        for placed in &test.expectations {
            let verdict = judge(&whole, &placed.expectation);
            assert_eq!(verdict.failures, [], "{toml}");
            let mut verdict = judge(&holed, &placed.expectation);
            fail_over_gaps(&holed, &placed.expectation, &mut verdict);
            rules.extend(verdict.failures.into_iter().map(|failure| failure.rule));
        }
        rules
    }

    #[test]
    fn nothing_is_absent_from_evidence_that_is_not_whole() {
        use Missing::{Attributes, Events, Nothing, Parents, Spans};
        let none = Vec::<String>::new;
        for (toml, rule) in [
            ("[expect.counts]\nerrors_total = 0", "errors_total"),
            ("[expect.counts]\nspans_total = { max = 9 }", "spans_total"),
            ("[expect.counts]\nby_name = { b = 1 }", "by_name.b"),
            ("[[expect.span]]\nname = \"z\"\nexists = false", "exists"),
            ("[[expect.span]]\nname = \"a\"\ncount = { max = 1 }", "count"),
            ("[expect.status]\nall = \"ok\"", "all"),
            ("[expect.graph]\nmust_not_cross = [[\"b\", \"a\"]]", "must_not_cross[0]"),
            ("[expect.graph]\nmax_depth = 2", "max_depth"),
            ("[expect.graph]\nsingle_root = true", "single_root"),
            ("[[expect.window]]\nmax_duration_ms = 9", "max_duration_ms"),
            ("[expect.hermeticity]\nno_external_services = true", "no_external_services"),
        ] {
            assert_eq!(failing(toml, Spans), [rule], "{toml}");
            assert_eq!(failing(toml, Nothing), none(), "{toml}");
        }
        for toml in [
            "[expect.counts]\nspans_total = { min = 1 }",
            "[[expect.span]]\nname = \"a\"",
            "[expect.order]\nmust_precede = [[\"a\", \"b\"]]",
            "[expect.graph]\nmust_include = [[\"a\", \"b\"]]",
        ] {
            assert_eq!(failing(toml, Spans), none(), "{toml}");
        }
        for rule in ["acyclic = true", "max_depth = 2", "must_be_connected = true"] {
            let toml = format!("[expect.graph]\n{rule}");
            for missing in [Spans, Parents] {
                assert_eq!(failing(&toml, missing).len(), 1, "{toml}");
            }
            assert_eq!(failing(&toml, Events), none(), "{toml}");
        }
        let errors = "[expect.counts]\nerrors_total = 0";
        assert_eq!(failing(errors, Attributes), none());
        let keys = "[expect.hermeticity]\nspan_attrs.forbid_keys = [\"x\"]";
        for missing in [Spans, Attributes, Events] {
            assert_eq!(failing(keys, missing), ["span_attrs.forbid_keys.x"]);
        }
        let events = "[expect.counts]\nevents_total = 1";
        assert_eq!(failing(events, Events), ["events_total"]);
        assert_eq!(failing(events, Attributes), none());
        let span =
            |condition: &str| format!("[[expect.span]]\nname = \"a\"\nexists = false\n{condition}");
        let none_of = [
            ("attrs.all = { k = \"x\" }", Attributes),
            ("service = \"x\"", Attributes),
            ("events.any = [\"x\"]", Events),
            ("parent = \"b\"", Parents),
            ("children.any = [\"x\"]", Parents),
        ];
        for (condition, missing) in none_of {
            assert_eq!(failing(&span(condition), missing), ["exists"], "{condition}");
        }
        for missing in [Attributes, Events, Parents] {
            assert_eq!(failing(&span("kind = \"server\""), missing), none());
        }
        let own = "[[expect.span]]\nname = \"clnrm.run\"\nexists = false";
        assert_eq!(failing(own, Spans), none());
        let absent = "[[expect.span]]\nname = \"a\"\nattrs.all = { z = { exists = false } }";
        assert_eq!(failing(absent, Attributes), [""]);
    }
}
