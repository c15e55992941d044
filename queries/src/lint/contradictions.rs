//! Expectations can be met, alone and beside each other.

use std::cmp::Ordering;

use crate::diagnostic::{At, KeyPath, Problem};
use crate::expectation::{
    Bounds, Expectation, ExpectedStatus, GraphExpectation, Literal, Predicate, SpanExpectation,
};
use crate::judge::Number;
use crate::model::{Placed, Test};

pub(super) fn check(test: &Test, problems: &mut Vec<Problem>) {
    for placed in &test.expectations {
        match &placed.expectation {
            Expectation::Span(span) => {
                of_span(span, &placed.path, problems);
                of_lifecycle(test, span, &placed.path, problems);
            }
            Expectation::Graph(graph) => of_graph(graph, &placed.path, problems),
            _ => {}
        }
    }
    between(test, problems);
}

fn never(path: KeyPath, why: impl Into<String>, problems: &mut Vec<Problem>) {
    problems.push(Problem::warning("lint/never-matches", At::Key(path), why));
}

fn of_span(span: &SpanExpectation, path: &KeyPath, problems: &mut Vec<Problem>) {
    let wanted = span.count.and_then(|count| count.at_least.max(count.exactly)) > Some(0);
    if span.exists == Some(false) && wanted {
        let why = "no span is to be there, and so many of them";
        never(path.key("exists"), why, problems);
    }
    if span.duration_ms.and_then(|range| range.max).is_some_and(|max| max < 0.0) {
        never(path.key("duration_ms"), "no span takes less than no time", problems);
    }
    for (which, attributes) in [("all", &span.attributes_all), ("any", &span.attributes_any)] {
        for (name, predicate) in attributes {
            if let Some(why) = of_predicate(predicate) {
                never(path.key("attrs").key(which).key(name), why, problems);
            }
        }
    }
}

fn of_predicate(predicate: &Predicate) -> Option<&'static str> {
    let Predicate { eq, ne, gte, lte, gt, lt, exists, one_of, .. } = predicate;
    let (least, most) = ([gte, gt], [lte, lt]);
    let bounded = least.iter().chain(&most).any(|bound| bound.is_some());
    let valued = eq.is_some() || bounded || one_of.is_some();
    let is_more = |least: &Literal, most: &Literal| {
        let both = Number::of_literal(least).zip(Number::of_literal(most));
        both.and_then(|(least, most)| least.compare(most)).is_some_and(Ordering::is_gt)
    };
    let mut pairs = least
        .into_iter()
        .flatten()
        .flat_map(|low| most.into_iter().flatten().map(move |high| (low, high)));
    if eq.is_some() && eq == ne {
        Some("nothing equals this and differs from it")
    } else if pairs.any(|(low, high)| is_more(low, high)) {
        Some("nothing lies between these bounds")
    } else if one_of.as_ref().is_some_and(Vec::is_empty) {
        Some("nothing is one of none")
    } else if *exists == Some(false) && valued {
        Some("an attribute that is not there has no value")
    } else {
        None
    }
}

/// Spans clnrm makes itself are internal.
fn of_lifecycle(test: &Test, span: &SpanExpectation, path: &KeyPath, problems: &mut Vec<Problem>) {
    let Some(kind) = span.kind.as_deref().filter(|kind| *kind != "internal") else { return };
    let own = span.name.starts_with("clnrm.")
        || span.name.rsplit_once('.').is_some_and(|(service, event)| {
            let known = service == "container" || test.services.iter().any(|it| it.id == service);
            known && ["start", "exec", "stop"].contains(&event)
        });
    if own {
        let why = format!("`{}` is a span of clnrm, which is internal, not {kind}", span.name);
        never(path.key("kind"), why, problems);
    }
}

fn of_graph(graph: &GraphExpectation, path: &KeyPath, problems: &mut Vec<Problem>) {
    for (number, pair) in graph.must_include.iter().enumerate() {
        if graph.must_not_cross.contains(pair) {
            let why = format!("`{}` is to lie under `{}`, and not to", pair.1, pair.0);
            never(path.key("must_include").index(number), why, problems);
        }
    }
    if !graph.must_include.is_empty() && graph.max_depth.is_some_and(|most| most < 2) {
        never(path.key("max_depth"), "what lies under another span is two levels deep", problems);
    }
}

/// Expectations of the same spans that exclude each other.
fn between(test: &Test, problems: &mut Vec<Problem>) {
    let none = |bounds: &Bounds| bounds.at_most == Some(0) || bounds.exactly == Some(0);
    for Placed { scenario, path, expectation, .. } in &test.expectations {
        let beside = || test.expectations.iter().filter(|other| other.scenario == *scenario);
        match expectation {
            Expectation::Counts(counts) => {
                let asked = |of: &dyn Fn(&SpanExpectation) -> bool| {
                    beside().any(|other| match &other.expectation {
                        Expectation::Span(span) => of(span) && wants_some(span),
                        _ => false,
                    })
                };
                for (name, _) in counts.by_name.iter().filter(|(_, bounds)| none(bounds)) {
                    if asked(&|span| span.name == *name) {
                        let why = format!("no `{name}` is to be there, but elsewhere one is");
                        never(path.key("by_name").key(name), why, problems);
                    }
                }
                for (kind, _) in counts.by_kind.iter().filter(|(_, bounds)| none(bounds)) {
                    if asked(&|span| span.kind.as_ref() == Some(kind)) {
                        let why = format!("no {kind} span is to be there, but elsewhere one is");
                        never(path.key("by_kind").key(kind), why, problems);
                    }
                }
            }
            Expectation::Status(status) if status.all == Some(ExpectedStatus::Error) => {
                let no_errors = beside().any(|other| match &other.expectation {
                    Expectation::Counts(counts) => counts.errors_total.as_ref().is_some_and(none),
                    _ => false,
                });
                if no_errors {
                    let why = "all spans are to be errors, but another expectation allows none";
                    never(path.key("all"), why, problems);
                }
            }
            _ => {}
        }
    }
}

fn wants_some(span: &SpanExpectation) -> bool {
    span.exists != Some(false)
        && span.count.is_none_or(|count| count.at_least.max(count.exactly) > Some(0))
}
