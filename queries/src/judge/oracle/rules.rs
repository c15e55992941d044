//! The rules that do not hold, by the words of `docs/format.md`.

use std::collections::BTreeSet;

use clnrm_backends::{Source, Span, SpanKind, StatusCode, Value};

use super::values::{attribute, is_glob, keys, matches, satisfies};
use crate::expectation::{
    Assertion, Bounds, CountsExpectation, Expectation, ExpectedStatus, GraphExpectation,
    HermeticityExpectation, Range, SpanExpectation, StatusExpectation, WindowExpectation,
};
use crate::gaps::Missing;
use crate::judge::TraceSet;

/// Rules by their key paths; the empty one is the expectation as a whole.
type Rules = BTreeSet<String>;

/// The rules that do not hold of what has arrived.
pub(super) fn failing(traces: &TraceSet, expectation: &Expectation) -> Rules {
    let set = Set { traces, spans: &traces.spans };
    let mut rules = Rules::new();
    if set.is_empty_for(expectation) {
        rules.insert(String::new());
        return rules;
    }
    match expectation {
        Expectation::Span(expected) => set.span(expected, &mut rules),
        Expectation::Graph(expected) => set.graph(expected, &mut rules),
        Expectation::Order(expected) => {
            for (number, (first, second)) in expected.must_precede.iter().enumerate() {
                if !set.precedes(first, second) {
                    rules.insert(format!("must_precede[{number}]"));
                }
            }
        }
        Expectation::Counts(expected) => set.counts(expected, &mut rules),
        Expectation::Status(expected) => set.status(expected, &mut rules),
        Expectation::Window(expected) => set.window(expected, &mut rules),
        Expectation::Hermeticity(expected) => set.hermeticity(expected, &mut rules),
        Expectation::Assertion(expected) => {
            if !set.asserts(expected) {
                rules.insert(String::new());
            }
        }
    }
    rules
}

struct Set<'a> {
    traces: &'a TraceSet,
    spans: &'a [Span],
}

impl Set<'_> {
    fn all(&self) -> std::ops::Range<usize> {
        0..self.spans.len()
    }

    fn is_own(&self, at: usize) -> bool {
        self.spans[at].source == Source::Lifecycle
    }

    /// The spans that totals look at.
    fn counted(&self) -> Vec<usize> {
        self.all().filter(|at| self.traces.lifecycle_counts || !self.is_own(*at)).collect()
    }

    /// clnrm's own spans want to be named.
    fn is_named(&self, at: usize, text: &str) -> bool {
        let name = &self.spans[at].name;
        if !self.is_own(at) {
            return matches(text, name);
        }
        (self.traces.lifecycle_counts || !is_glob(text) || is_reserved(text))
            && (matches(text, name) || is_alias(text, name))
    }

    fn named(&self, text: &str) -> Vec<usize> {
        self.all().filter(|at| self.is_named(*at, text)).collect()
    }

    /// The one span of the id that a span names as its parent, in its trace.
    fn parent(&self, at: usize) -> Option<usize> {
        let span = &self.spans[at];
        let is_it = |other: &usize| {
            let other = &self.spans[*other];
            other.trace_id == span.trace_id && Some(&other.span_id) == span.parent_id.as_ref()
        };
        let all: Vec<usize> = self.all().filter(is_it).collect();
        if let [one] = all[..] { Some(one) } else { None }
    }

    /// All spans above, but not the span itself.
    fn ancestors(&self, at: usize) -> BTreeSet<usize> {
        let mut above = BTreeSet::new();
        let mut next = self.parent(at);
        while let Some(place) = next.filter(|place| above.insert(*place)) {
            next = self.parent(place);
        }
        above.remove(&at);
        above
    }

    fn is_timed(&self, at: usize) -> bool {
        self.spans[at].start_ns <= self.spans[at].end_ns
    }

    /// Nothing is expected of no spans: without any of the code under test, only names of clnrm's own
    /// can be judged.
    fn is_empty_for(&self, expectation: &Expectation) -> bool {
        if self.all().any(|at| !self.is_own(at)) {
            return false;
        }
        let has_own = !self.spans.is_empty();
        let is_there = |text: &&String| {
            is_reserved(text) && has_own || self.all().any(|at| self.is_named(at, text))
        };
        let pairs = |pairs: &[(String, String)]| -> Vec<String> {
            pairs.iter().flat_map(|(a, b)| [a.clone(), b.clone()]).collect()
        };
        let only = |names: Vec<String>| names.is_empty() || !names.iter().all(|it| is_there(&it));
        match expectation {
            Expectation::Assertion(_) => false,
            Expectation::Span(span) if span.of_clnrm => false,
            Expectation::Span(span) => {
                let mut names = vec![span.name.clone()];
                names.extend(span.parent.clone());
                names.extend(span.children_any.clone());
                only(names)
            }
            Expectation::Order(order) => only(pairs(&order.must_precede)),
            Expectation::Graph(graph) => {
                let whole = graph.acyclic.is_some()
                    || graph.max_depth.is_some()
                    || graph.must_be_connected.is_some()
                    || graph.single_root.is_some();
                whole || only([pairs(&graph.must_include), pairs(&graph.must_not_cross)].concat())
            }
            Expectation::Counts(counts) => {
                let totals = [counts.spans_total, counts.events_total, counts.errors_total];
                totals.iter().any(Option::is_some)
                    || !counts.by_kind.is_empty()
                    || !counts.by_service.is_empty()
                    || only(counts.by_name.keys().cloned().collect())
            }
            Expectation::Status(status) => {
                status.all.is_some() || !status.by_name.keys().any(|name| is_there(&name))
            }
            Expectation::Window(window) => {
                let bounded = window.duration_ms != Range::default();
                let ends = window.start.is_some() && window.end.is_some();
                let names = [&window.outer, &window.start, &window.end];
                let names = names.into_iter().flatten().chain(&window.contains).cloned();
                window.min_spans.is_some() || bounded && !ends || only(names.collect())
            }
            Expectation::Hermeticity(hermeticity) => {
                !hermeticity.resource_must_match.is_empty() || !hermeticity.forbid_keys.is_empty()
            }
        }
    }

    fn span(&self, expected: &SpanExpectation, rules: &mut Rules) {
        let is_named = |at: &usize| match expected.of_clnrm {
            true => self.is_own(*at) && is_own_name(&expected.name, &self.spans[*at].name),
            false => self.is_named(*at, &expected.name),
        };
        let but_for_time: Vec<usize> =
            self.all().filter(is_named).filter(|at| self.satisfies(*at, expected)).collect();
        let in_time = |at: &&usize| {
            expected.duration_ms.is_none_or(|range| {
                self.is_timed(**at) && is_within(duration(&self.spans[**at]), range)
            })
        };
        let found = but_for_time.iter().filter(in_time).count() as u64;
        let is_unknown =
            expected.duration_ms.is_some() && but_for_time.iter().any(|at| !self.is_timed(*at));
        if expected.exists == Some(false) && (found > 0 || is_unknown) {
            rules.insert("exists".to_owned());
        }
        if let Some(count) = expected.count {
            let is_limited = count.at_most.is_some() || count.exactly.is_some();
            if !is_in(count, found) || is_limited && is_unknown {
                rules.insert("count".to_owned());
            }
        }
        if expected.exists.unwrap_or(expected.count.is_none()) && found == 0 {
            rules.insert(String::new());
        }
    }

    /// All conditions but the duration.
    fn satisfies(&self, at: usize, expected: &SpanExpectation) -> bool {
        let span = &self.spans[at];
        let has_event = |text: &String| span.events.iter().any(|it| matches(text, &it.name));
        let children = || self.all().filter(|child| self.parent(*child) == Some(at));
        let is_child = |text: &String| children().any(|child| self.is_named(child, text));
        let any = &expected.attributes_any;
        expected.kind.as_deref().is_none_or(|kind| kind == kind_of(span))
            && expected.service.as_deref().is_none_or(|service| is_of(span, service))
            && expected.status.is_none_or(|status| is_status(span, status))
            && expected.parent.as_ref().is_none_or(|text| {
                self.parent(at).is_some_and(|parent| self.is_named(parent, text))
            })
            && (expected.children_any.is_empty() || expected.children_any.iter().any(is_child))
            && expected.events_all.iter().all(has_event)
            && (expected.events_any.is_empty() || expected.events_any.iter().any(has_event))
            && expected.attributes_all.iter().all(|(key, it)| satisfies(it, attribute(span, key)))
            && (any.is_empty() || any.iter().any(|(key, it)| satisfies(it, attribute(span, key))))
    }

    fn graph(&self, expected: &GraphExpectation, rules: &mut Rules) {
        for (number, (parent, child)) in expected.must_include.iter().enumerate() {
            let is_under =
                |at: usize| self.parent(at).is_some_and(|above| self.is_named(above, parent));
            if !self.named(child).into_iter().any(is_under) {
                rules.insert(format!("must_include[{number}]"));
            }
        }
        for (number, (above, below)) in expected.must_not_cross.iter().enumerate() {
            let crosses = |at: usize| self.ancestors(at).iter().any(|it| self.is_named(*it, above));
            if self.named(below).into_iter().any(crosses) {
                rules.insert(format!("must_not_cross[{number}]"));
            }
        }
        let counted = self.counted();
        let parent = |at: usize| self.parent(at).filter(|it| counted.contains(it));
        let chain = |at: usize| {
            let mut chain = vec![at];
            while let Some(above) = parent(chain[chain.len() - 1]) {
                if chain.contains(&above) {
                    return (chain, true);
                }
                chain.push(above);
            }
            (chain, false)
        };
        let roots = counted.iter().filter(|at| parent(**at).is_none()).count();
        if expected.acyclic.is_some() && counted.iter().any(|at| chain(*at).1) {
            rules.insert("acyclic".to_owned());
        }
        let deepest = counted.iter().map(|at| chain(*at).0.len() as u64).max().unwrap_or(0);
        if expected.max_depth.is_some_and(|most| deepest > most) {
            rules.insert("max_depth".to_owned());
        }
        if expected.single_root.is_some() && roots != 1 {
            rules.insert("single_root".to_owned());
        }
        // Spans that hang together end at one root, or in one circle.
        let ends: BTreeSet<usize> = counted
            .iter()
            .map(|at| match chain(*at) {
                (chain, false) => chain[chain.len() - 1],
                (chain, true) => {
                    let back = parent(chain[chain.len() - 1]).expect("it goes round");
                    let from = chain.iter().position(|it| *it == back).expect("it goes round");
                    *chain[from..].iter().min().expect("it is not empty")
                }
            })
            .collect();
        if expected.must_be_connected.is_some() && ends.len() > 1 {
            rules.insert("must_be_connected".to_owned());
        }
    }

    fn precedes(&self, first: &str, second: &str) -> bool {
        let (firsts, seconds) = (self.named(first), self.named(second));
        let precedes = |first: usize, second: usize| {
            let (a, b) = (&self.spans[first], &self.spans[second]);
            let above = self.ancestors(second).contains(&first);
            first != second
                && self.is_timed(first)
                && (a.end_ns <= b.start_ns || above && a.start_ns <= b.start_ns)
        };
        let is_preceded = |second: &usize| {
            self.is_timed(*second) && firsts.iter().any(|first| precedes(*first, *second))
        };
        !seconds.is_empty() && seconds.iter().all(is_preceded)
    }

    fn counts(&self, expected: &CountsExpectation, rules: &mut Rules) {
        let counted: Vec<&Span> = self.counted().into_iter().map(|at| &self.spans[at]).collect();
        let mut total = |rule: String, bounds: Option<&Bounds>, found: usize| {
            if bounds.is_some_and(|bounds| !is_in(*bounds, found as u64)) {
                rules.insert(rule);
            }
        };
        let errors = counted.iter().filter(|span| span.status.code == StatusCode::Error);
        let events = counted.iter().flat_map(|span| &span.events);
        total("spans_total".to_owned(), expected.spans_total.as_ref(), counted.len());
        total("errors_total".to_owned(), expected.errors_total.as_ref(), errors.count());
        total("events_total".to_owned(), expected.events_total.as_ref(), events.count());
        for (name, bounds) in &expected.by_name {
            total(format!("by_name.{name}"), Some(bounds), self.named(name).len());
        }
        for (kind, bounds) in &expected.by_kind {
            let found = counted.iter().filter(|span| kind_of(span) == kind).count();
            total(format!("by_kind.{kind}"), Some(bounds), found);
        }
        for (service, bounds) in &expected.by_service {
            let found = counted.iter().filter(|span| is_of(span, service)).count();
            total(format!("by_service.{service}"), Some(bounds), found);
        }
    }

    fn status(&self, expected: &StatusExpectation, rules: &mut Rules) {
        // An exact name goes before every glob, and a longer glob before a shorter one.
        let rank = |name: &&String| (!is_glob(name), name.len());
        let rule_of = |at: usize| {
            expected.by_name.keys().filter(|name| self.is_named(at, name)).max_by_key(rank)
        };
        for at in self.all() {
            if let Some(name) = rule_of(at)
                && !is_status(&self.spans[at], expected.by_name[name])
            {
                rules.insert(format!("by_name.{name}"));
            }
        }
        for name in expected.by_name.keys() {
            if !is_glob(name) && self.named(name).is_empty() {
                rules.insert(format!("by_name.{name}"));
            }
        }
        if let Some(status) = expected.all {
            let mut rest = self.counted().into_iter().filter(|at| rule_of(*at).is_none());
            if rest.any(|at| !is_status(&self.spans[at], status)) {
                rules.insert("all".to_owned());
            }
        }
    }

    fn window(&self, expected: &WindowExpectation, rules: &mut Rules) {
        if let Some(outer) = &expected.outer {
            self.contains(outer, &expected.contains, rules);
        }
        let has_bounds = expected.duration_ms != Range::default() || expected.min_spans.is_some();
        if !has_bounds && expected.start.is_none() && expected.end.is_none() {
            return;
        }
        let mut edge = |name: &Option<String>, rule: &str| {
            let spans = name.as_ref().map_or_else(|| self.counted(), |name| self.named(name));
            if spans.is_empty() && name.is_some() {
                rules.insert(rule.to_owned());
            }
            spans
        };
        let starts = edge(&expected.start, "start_span");
        let ends = edge(&expected.end, "end_span");
        if starts.iter().chain(&ends).any(|at| !self.is_timed(*at)) {
            rules.insert(String::new());
            return;
        }
        let start = starts.iter().map(|at| self.spans[*at].start_ns).min();
        let end = ends.iter().map(|at| self.spans[*at].end_ns).max();
        let (Some(start), Some(end)) = (start, end) else { return };
        if end < start {
            rules.insert(String::new());
            return;
        }
        let took = i128::from(end) - i128::from(start);
        let Range { min, max } = expected.duration_ms;
        if !is_within(took, Range { min, max: None }) {
            rules.insert("min_duration_ms".to_owned());
        }
        if !is_within(took, Range { min: None, max }) {
            rules.insert("max_duration_ms".to_owned());
        }
        let mut edges: Vec<usize> = Vec::new();
        edges.extend(expected.start.iter().flat_map(|_| &starts));
        edges.extend(expected.end.iter().flat_map(|_| &ends));
        let lies_within = |at: &usize| {
            let below = self.ancestors(*at).iter().any(|above| edges.contains(above));
            self.is_timed(*at) && covers((start, end), &self.spans[*at], below)
        };
        let found = self.counted().iter().filter(|at| lies_within(at)).count() as u64;
        if expected.min_spans.is_some_and(|min| found < min) {
            rules.insert("min_span_count".to_owned());
        }
    }

    fn contains(&self, outer: &str, contained: &[String], rules: &mut Rules) {
        let outers: Vec<usize> =
            self.named(outer).into_iter().filter(|at| self.is_timed(*at)).collect();
        if outers.is_empty() {
            rules.insert("outer".to_owned());
            return;
        }
        let is_contained = |inner: &usize| {
            let above = self.ancestors(*inner);
            let covers = |outer: &usize| {
                let times = (self.spans[*outer].start_ns, self.spans[*outer].end_ns);
                outer != inner && covers(times, &self.spans[*inner], above.contains(outer))
            };
            self.is_timed(*inner) && outers.iter().any(covers)
        };
        for (number, name) in contained.iter().enumerate() {
            let inners = self.named(name);
            if inners.is_empty() || !inners.iter().all(is_contained) {
                rules.insert(format!("contains[{number}]"));
            }
        }
    }

    fn hermeticity(&self, expected: &HermeticityExpectation, rules: &mut Rules) {
        let code: Vec<&Span> =
            self.spans.iter().filter(|span| span.source == Source::Otlp).collect();
        if expected.no_external_services && self.traces.attempts != Some(0) {
            rules.insert("no_external_services".to_owned());
        }
        for (key, predicate) in &expected.resource_must_match {
            if code.iter().any(|span| !satisfies(predicate, span.resource.get(key))) {
                rules.insert(format!("resource_attrs.must_match.{key}"));
            }
        }
        for forbidden in &expected.forbid_keys {
            let has = |span: &&Span| {
                let mut all = keys(&span.attributes);
                all.extend(keys(&span.resource));
                all.extend(span.events.iter().flat_map(|event| keys(&event.attributes)));
                all.iter().any(|key| matches(forbidden, key))
            };
            if code.iter().any(has) {
                rules.insert(format!("span_attrs.forbid_keys.{forbidden}"));
            }
        }
    }

    fn asserts(&self, expected: &Assertion) -> bool {
        let own = || self.spans.iter().filter(|span| span.source == Source::Lifecycle);
        match expected {
            Assertion::ExecutedCommands(count) => {
                own().filter(|span| span.name.starts_with("clnrm.step:")).count() as u64 == *count
            }
            // The spans tried here have no result.
            Assertion::AllStepsSucceed | Assertion::Unknown(_) => false,
            Assertion::ServiceStarts(service) => {
                let mut started: Vec<&Span> =
                    own().filter(|span| span.name == format!("{service}.start")).collect();
                started.sort_by_key(|span| (span.start_ns, span.end_ns));
                started.first().is_some_and(|span| span.status.code != StatusCode::Error)
            }
        }
    }
}

/// The rules of absence that what is missing concerns, by the table in `docs/format.md`.
pub(super) fn failing_over_gaps(traces: &TraceSet, expectation: &Expectation) -> Rules {
    let mut rules = Rules::new();
    for gap in &traces.gaps {
        for (rule, also) in absences(expectation) {
            if gap.missing == Missing::Spans && rule.is_some()
                || also.contains(&gap.missing) && gap.missing != Missing::Nothing
            {
                rules.insert(rule.unwrap_or_default());
            }
        }
    }
    rules
}

/// The rules of absence, each with what else than whole spans it rests on. The one without a name is
/// an attribute that is not there, which spans that are missing do not change.
fn absences(expectation: &Expectation) -> Vec<(Option<String>, Vec<Missing>)> {
    use Missing::{Attributes, Events, Parents};
    let limits = |bounds: &Bounds| bounds.at_most.is_some() || bounds.exactly.is_some();
    let mut rules = Vec::new();
    let mut rule = |holds: bool, rule: String, also: &[Missing]| {
        if holds {
            rules.push((Some(rule), also.to_vec()));
        }
    };
    match expectation {
        Expectation::Span(span) => {
            if span.of_clnrm || is_reserved(&span.name) {
                return rules;
            }
            let predicates = || span.attributes_all.values().chain(span.attributes_any.values());
            let conditions = [
                (predicates().next().is_some() || span.service.is_some(), Attributes),
                (!span.events_all.is_empty() || !span.events_any.is_empty(), Events),
                (span.parent.is_some() || !span.children_any.is_empty(), Parents),
            ];
            let also: Vec<Missing> =
                conditions.into_iter().filter(|(holds, _)| *holds).map(|(_, it)| it).collect();
            rule(span.exists == Some(false), "exists".into(), &also);
            rule(span.count.as_ref().is_some_and(limits), "count".into(), &also);
            if predicates().any(|it| it.exists == Some(false)) {
                rules.push((None, vec![Attributes]));
            }
        }
        Expectation::Graph(graph) => {
            for number in 0..graph.must_not_cross.len() {
                rule(true, format!("must_not_cross[{number}]"), &[Parents]);
            }
            rule(graph.acyclic.is_some(), "acyclic".into(), &[Parents]);
            rule(graph.max_depth.is_some(), "max_depth".into(), &[Parents]);
            rule(graph.single_root.is_some(), "single_root".into(), &[Parents]);
            rule(graph.must_be_connected.is_some(), "must_be_connected".into(), &[Parents]);
        }
        Expectation::Counts(counts) => {
            rule(counts.spans_total.as_ref().is_some_and(limits), "spans_total".into(), &[]);
            rule(counts.errors_total.as_ref().is_some_and(limits), "errors_total".into(), &[]);
            let events = counts.events_total.as_ref().is_some_and(limits);
            rule(events, "events_total".into(), &[Events]);
            for (name, bounds) in &counts.by_name {
                rule(limits(bounds) && !is_reserved(name), format!("by_name.{name}"), &[]);
            }
            for (kind, bounds) in &counts.by_kind {
                rule(limits(bounds), format!("by_kind.{kind}"), &[]);
            }
            for (service, bounds) in &counts.by_service {
                rule(limits(bounds), format!("by_service.{service}"), &[]);
            }
        }
        Expectation::Status(status) => {
            rule(status.all.is_some(), "all".into(), &[]);
            for name in status.by_name.keys() {
                rule(!is_reserved(name), format!("by_name.{name}"), &[]);
            }
        }
        Expectation::Window(window) => {
            rule(window.duration_ms.max.is_some(), "max_duration_ms".into(), &[]);
        }
        Expectation::Hermeticity(expected) => {
            rule(expected.no_external_services, "no_external_services".into(), &[Attributes]);
            for (key, predicate) in &expected.resource_must_match {
                let also: &[_] = if predicate.exists == Some(false) { &[Attributes] } else { &[] };
                rule(true, format!("resource_attrs.must_match.{key}"), also);
            }
            for key in &expected.forbid_keys {
                rule(true, format!("span_attrs.forbid_keys.{key}"), &[Attributes, Events]);
            }
        }
        Expectation::Order(_) | Expectation::Assertion(_) => {}
    }
    rules
}

/// Whether a name can only be meant for spans of clnrm.
fn is_reserved(text: &str) -> bool {
    let aliases = ["container.start", "container.exec", "container.stop"];
    text.starts_with("clnrm.")
        || aliases.contains(&text)
        || text.starts_with("container.") && is_glob(text)
}

/// Every service's spans are also called `container.start`, `exec` and `stop`.
fn is_alias(text: &str, name: &str) -> bool {
    let Some((service, phase)) = name.rsplit_once('.') else { return false };
    text.starts_with("container.")
        && !name.starts_with("clnrm.")
        && !service.is_empty()
        && ["start", "exec", "stop"].contains(&phase)
        && matches(text, &format!("container.{phase}"))
}

/// With `source = "clnrm"` a scenario goes by its plain name, too.
fn is_own_name(text: &str, name: &str) -> bool {
    let plain = name.strip_prefix("clnrm.scenario.");
    matches(text, name) || is_alias(text, name) || plain.is_some_and(|name| matches(text, name))
}

fn duration(span: &Span) -> i128 {
    i128::from(span.end_ns) - i128::from(span.start_ns)
}

/// Whether so many nanoseconds lie within a range of milliseconds, which is in halves here.
fn is_within(ns: i128, Range { min, max }: Range) -> bool {
    let halves = |bound: f64| (bound * 2.0) as i128 * 500_000;
    min.is_none_or(|min| ns >= halves(min)) && max.is_none_or(|max| ns <= halves(max))
}

/// Whether a span lies within these times; one below what bounds them less than 1 ms outside.
fn covers((start, end): (i64, i64), span: &Span, is_below: bool) -> bool {
    let outside = |ns: i128| ns <= 0 || is_below && ns < 1_000_000;
    outside(i128::from(start) - i128::from(span.start_ns))
        && outside(i128::from(span.end_ns) - i128::from(end))
}

fn is_in(bounds: Bounds, found: u64) -> bool {
    bounds.at_least.is_none_or(|least| found >= least)
        && bounds.at_most.is_none_or(|most| found <= most)
        && bounds.exactly.is_none_or(|exactly| found == exactly)
}

fn is_status(span: &Span, expected: ExpectedStatus) -> bool {
    let code = span.status.code;
    match expected {
        ExpectedStatus::Ok => code != StatusCode::Error,
        ExpectedStatus::Error => code == StatusCode::Error,
        ExpectedStatus::Unset => code == StatusCode::Unset,
        ExpectedStatus::ExplicitOk => code == StatusCode::Ok,
    }
}

fn is_of(span: &Span, service: &str) -> bool {
    span.resource.get("service.name") == Some(&Value::String(service.to_owned()))
}

fn kind_of(span: &Span) -> &'static str {
    match span.kind {
        SpanKind::Unspecified => "unspecified",
        SpanKind::Internal => "internal",
        SpanKind::Server => "server",
        SpanKind::Client => "client",
        SpanKind::Producer => "producer",
        SpanKind::Consumer => "consumer",
    }
}
