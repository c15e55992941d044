//! Bounds leave something in between, and every expectation expects something.

use crate::diagnostic::{At, KeyPath, Problem};
use crate::expectation::{
    Bounds, CountsExpectation, Expectation, HermeticityExpectation, Range, SpanExpectation,
    WindowExpectation,
};
use crate::model::{Placed, Test};

pub(super) fn check(test: &Test, problems: &mut Vec<Problem>) {
    for Placed { path, expectation, .. } in &test.expectations {
        match expectation {
            Expectation::Span(SpanExpectation { duration_ms, count, .. }) => {
                if let Some(range) = duration_ms {
                    in_range(*range, path.key("duration_ms"), problems);
                }
                count.iter().for_each(|count| bounds(*count, path.key("count"), problems));
            }
            Expectation::Counts(expected) => counts(expected, path, problems),
            Expectation::Window(expected) => window(expected, path, problems),
            _ => {}
        }
        let told = |problem: &Problem| match &problem.at {
            At::Key(at) => at.0.starts_with(&path.0),
            _ => false,
        };
        if says_nothing(expectation) && !problems.iter().any(told) {
            let message = format!("`{path}` expects nothing");
            let at = At::Key(path.clone());
            let problem = Problem::error("shape/empty-expectation", at, message);
            problems.push(problem.hint("say what is expected, or take it out"));
        }
    }
}

fn counts(counts: &CountsExpectation, path: &KeyPath, problems: &mut Vec<Problem>) {
    for (name, total) in [
        ("spans_total", counts.spans_total),
        ("events_total", counts.events_total),
        ("errors_total", counts.errors_total),
    ] {
        total.into_iter().for_each(|total| bounds(total, path.key(name), problems));
    }
    for (by, named) in [
        ("by_name", &counts.by_name),
        ("by_kind", &counts.by_kind),
        ("by_service", &counts.by_service),
    ] {
        for (name, count) in named {
            bounds(*count, path.key(by).key(name), problems);
        }
    }
}

fn window(window: &WindowExpectation, path: &KeyPath, problems: &mut Vec<Problem>) {
    in_range(window.duration_ms, path.clone(), problems);
    let half = match (&window.outer, window.contains.is_empty()) {
        (Some(outer), true) => Some(format!("nothing is said to lie within `{outer}`")),
        (None, false) => Some("it is not said what `contains` these".to_owned()),
        _ => None,
    };
    if let Some(message) = half {
        let problem = Problem::error("shape/half-window", At::Key(path.clone()), message);
        problems.push(problem.hint("write `outer = \"…\"` and `contains = [\"…\"]`"));
    }
}

fn bounds(bounds: Bounds, path: KeyPath, problems: &mut Vec<Problem>) {
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
    let range = Range { min: least.map(|n| n as f64), max: most.map(|n| n as f64) };
    in_range(range, path, problems);
}

fn in_range(range: Range, path: KeyPath, problems: &mut Vec<Problem>) {
    if let Range { min: Some(min), max: Some(max) } = range
        && min > max
    {
        let message = format!("nothing is at least {min} and at most {max}");
        let problem = Problem::error("shape/min-max", At::Key(path), message);
        problems.push(problem.hint("swap the two?"));
    }
}

fn says_nothing(expectation: &Expectation) -> bool {
    match expectation {
        Expectation::Span(_) | Expectation::Assertion(_) => false,
        Expectation::Graph(graph) => *graph == Default::default(),
        Expectation::Order(order) => order.must_precede.is_empty(),
        Expectation::Counts(counts) => *counts == Default::default(),
        Expectation::Status(status) => *status == Default::default(),
        Expectation::Window(window) => *window == Default::default(),
        Expectation::Hermeticity(HermeticityExpectation {
            no_external_services,
            resource_must_match,
            forbid_keys,
            ..
        }) => !no_external_services && resource_must_match.is_empty() && forbid_keys.is_empty(),
    }
}
