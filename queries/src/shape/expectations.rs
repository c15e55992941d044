//! Expectations say something, and nothing that cannot be.

use std::collections::BTreeMap;

use crate::diagnostic::{At, KeyPath, Problem};
use crate::expectation::{
    Bounds, CountsExpectation, Expectation, OrderExpectation, SpanExpectation,
};
use crate::model::{Placed, Test};

/// OpenTelemetry's span kinds.
const KINDS: [&str; 5] = ["internal", "server", "client", "producer", "consumer"];

pub(super) fn check(test: &Test, problems: &mut Vec<Problem>) {
    for Placed { path, expectation, .. } in &test.expectations {
        match expectation {
            Expectation::Span(span) => check_span(span, path, problems),
            Expectation::Order(order) => check_order(order, path, problems),
            Expectation::Counts(counts) => check_counts(counts, path, problems),
            Expectation::Graph(_) | Expectation::Status(_) => {}
        }
        let told = |problem: &Problem| match &problem.at {
            At::Key(at) => at.0.starts_with(&path.0),
            _ => false,
        };
        if says_nothing(expectation) && !problems.iter().any(told) {
            let message = format!("`{path}` expects nothing");
            let at = At::Key(path.clone());
            problems.push(Problem::error("shape/empty-expectation", at, message));
        }
    }
}

fn check_span(span: &SpanExpectation, path: &KeyPath, problems: &mut Vec<Problem>) {
    if span.name.trim().is_empty() {
        let message = "an expected span needs a name";
        problems.push(Problem::error("shape/span-name", At::Key(path.clone()), message));
    }
    if let Some(kind) = &span.kind {
        check_kind(kind, path.key("kind"), problems);
    }
    if let Some(range) = span.duration_ms
        && let (Some(min), Some(max)) = (range.min, range.max)
        && min > max
    {
        min_above_max(min, max, path.key("duration_ms"), problems);
    }
    if let Some(bounds) = span.count {
        check_bounds(bounds, path.key("count"), problems);
    }
}

fn check_kind(kind: &str, path: KeyPath, problems: &mut Vec<Problem>) {
    if !KINDS.contains(&kind) {
        let problem =
            Problem::error("shape/span-kind", At::Key(path), format!("`{kind}` is no span kind"));
        let known = KINDS.join(", ");
        let meant = crate::diagnostic::nearest(kind, KINDS);
        problems.push(problem.hint(match meant {
            Some(meant) => format!("did you mean `{meant}`? the kinds are {known}"),
            None => format!("the kinds are {known}"),
        }));
    }
}

fn check_counts(counts: &CountsExpectation, path: &KeyPath, problems: &mut Vec<Problem>) {
    for (name, total) in [
        ("spans_total", counts.spans_total),
        ("events_total", counts.events_total),
        ("errors_total", counts.errors_total),
    ] {
        total.into_iter().for_each(|bounds| check_bounds(bounds, path.key(name), problems));
    }
    for (by, named) in [
        ("by_name", &counts.by_name),
        ("by_kind", &counts.by_kind),
        ("by_service", &counts.by_service),
    ] {
        for (name, bounds) in named {
            check_bounds(*bounds, path.key(by).key(name), problems);
        }
    }
    for kind in counts.by_kind.keys() {
        check_kind(kind, path.key("by_kind").key(kind), problems);
    }
}

fn check_bounds(bounds: Bounds, path: KeyPath, problems: &mut Vec<Problem>) {
    let Bounds { at_least, at_most, exactly } = bounds;
    if bounds == Bounds::default() {
        let message = format!("`{path}` has no bound");
        let problem = Problem::error("shape/no-bound", At::Key(path), message);
        problems.push(problem.hint("give min, max or eq"));
        return;
    }
    let least = at_least.max(exactly);
    let most = match (at_most, exactly) {
        (Some(most), Some(exactly)) => Some(most.min(exactly)),
        (most, exactly) => most.or(exactly),
    };
    if let (Some(least), Some(most)) = (least, most)
        && least > most
    {
        min_above_max(least as f64, most as f64, path, problems);
    }
}

fn min_above_max(min: f64, max: f64, path: KeyPath, problems: &mut Vec<Problem>) {
    let message = format!("nothing is at least {min} and at most {max}");
    problems.push(Problem::error("shape/min-max", At::Key(path), message));
}

/// Pairs that demand an order must not demand it both ways round.
fn check_order(order: &OrderExpectation, path: &KeyPath, problems: &mut Vec<Problem>) {
    let mut after = BTreeMap::<&str, Vec<&str>>::new();
    for (first, second) in &order.must_precede {
        after.entry(first).or_default().push(second);
    }
    for start in after.keys() {
        if let Some(cycle) = way_back(start, &after) {
            let message = format!("no order satisfies {}", cycle.join(" → "));
            problems.push(Problem::error("shape/order-cycle", At::Key(path.clone()), message));
            return;
        }
    }
}

/// A way from `start` back to it.
fn way_back<'a>(start: &'a str, after: &BTreeMap<&'a str, Vec<&'a str>>) -> Option<Vec<&'a str>> {
    let (mut open, mut seen) = (vec![vec![start]], Vec::new());
    while let Some(way) = open.pop() {
        for next in after.get(way.last()?).into_iter().flatten() {
            let longer: Vec<&str> = way.iter().chain([next]).copied().collect();
            if *next == start {
                return Some(longer);
            }
            if !seen.contains(next) {
                seen.push(*next);
                open.push(longer);
            }
        }
    }
    None
}

fn says_nothing(expectation: &Expectation) -> bool {
    match expectation {
        Expectation::Span(_) => false,
        Expectation::Graph(graph) => *graph == Default::default(),
        Expectation::Order(order) => order.must_precede.is_empty(),
        Expectation::Counts(counts) => *counts == Default::default(),
        Expectation::Status(status) => *status == Default::default(),
    }
}
