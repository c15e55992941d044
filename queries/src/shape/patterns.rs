//! Regular expressions and globs compile.

use regex_syntax::Error;

use crate::diagnostic::{At, KeyPath, Problem};
use crate::expectation::{Expectation, GraphExpectation, SpanExpectation, WindowExpectation};
use crate::judge;
use crate::model::{Placed, Test, Wait};

pub(super) fn check(test: &Test, problems: &mut Vec<Problem>) {
    for service in &test.services {
        for wait in service.waits.iter().flatten() {
            if let Wait::Log(pattern) = wait {
                regex(pattern, service.path.key("wait_for").key("log"), problems);
            }
        }
    }
    for step in test.scenarios.iter().flat_map(|scenario| &scenario.steps) {
        for (pattern, key) in [
            (&step.stdout_matches, "expected_output_regex"),
            (&step.stdout_matches_not, "expected_output_regex_not"),
        ] {
            pattern.iter().for_each(|pattern| regex(pattern, step.path.key(key), problems));
        }
    }
    for placed in &test.expectations {
        predicates(placed, problems);
        for (path, name) in names(placed) {
            glob(&name, path, problems);
        }
    }
}

/// The regular expressions in what attributes must be.
fn predicates(placed: &Placed, problems: &mut Vec<Problem>) {
    let path = &placed.path;
    let (first, second) = match &placed.expectation {
        Expectation::Span(SpanExpectation { attributes_all, attributes_any, .. }) => {
            let of = |which| path.key("attrs").key(which);
            ((of("all"), attributes_all), Some((of("any"), attributes_any)))
        }
        Expectation::Hermeticity(hermeticity) => {
            let path = path.key("resource_attrs").key("must_match");
            ((path, &hermeticity.resource_must_match), None)
        }
        _ => return,
    };
    for (path, predicates) in [Some(first), second].into_iter().flatten() {
        for (name, predicate) in predicates {
            let pattern = predicate.matches.iter();
            pattern.for_each(|it| regex(it, path.key(name).key("matches"), problems));
        }
    }
}

fn regex(pattern: &str, path: KeyPath, problems: &mut Vec<Problem>) {
    // Most are plain words: these always compile, which takes its time.
    if regex::escape(pattern) == pattern {
        return;
    }
    let (at, reason) = match regex_syntax::Parser::new().parse(pattern) {
        Err(Error::Parse(error)) => (error.span().start.offset, error.kind().to_string()),
        Err(Error::Translate(error)) => (error.span().start.offset, error.kind().to_string()),
        _ => match regex::Regex::new(pattern) {
            Ok(_) => return,
            Err(error) => (0, error.to_string()),
        },
    };
    let message = format!("`{pattern}` is no regular expression: {reason}");
    let problem = Problem::error("shape/regex", At::Within(path, at), message);
    problems.push(match reason.contains("look-around") {
        true => problem.hint("use expected_output_regex_not for what must not be there"),
        false => problem,
    });
}

fn glob(name: &str, path: KeyPath, problems: &mut Vec<Problem>) {
    let Some(reason) = judge::invalid_glob(name) else { return };
    let sign = if reason.contains("class") || reason.contains("range") { '[' } else { '{' };
    let at = name.rfind(sign).or_else(|| name.find(['}', ']'])).unwrap_or(0);
    let message = format!("`{name}` is no glob: {reason}");
    let problem = Problem::error("shape/glob", At::Within(path, at), message);
    problems.push(problem.hint("put signs that are meant as they are in brackets: `[{]`"));
}

/// The names and globs an expectation mentions, with their places.
fn names(placed: &Placed) -> Vec<(KeyPath, String)> {
    let path = &placed.path;
    let list = |key: KeyPath, names: &mut Vec<(KeyPath, _)>, all: &[String]| {
        let placed = all.iter().enumerate();
        names.extend(placed.map(|(at, name)| (key.index(at), name.clone())));
    };
    let mut found: Vec<(KeyPath, String)> = Vec::new();
    match &placed.expectation {
        Expectation::Span(SpanExpectation {
            name,
            parent,
            children_any,
            events_all,
            events_any,
            ..
        }) => {
            found.push((path.key("name"), name.clone()));
            found.extend(parent.iter().map(|parent| (path.key("parent"), parent.clone())));
            list(path.key("children").key("any"), &mut found, children_any);
            list(path.key("events").key("all"), &mut found, events_all);
            list(path.key("events").key("any"), &mut found, events_any);
        }
        Expectation::Graph(GraphExpectation { must_include, must_not_cross, .. }) => {
            for (key, pairs) in [("must_include", must_include), ("must_not_cross", must_not_cross)]
            {
                for (at, (first, second)) in pairs.iter().enumerate() {
                    let pair = path.key(key).index(at);
                    found.push((pair.index(0), first.clone()));
                    found.push((pair.index(1), second.clone()));
                }
            }
        }
        Expectation::Order(order) => {
            for (at, (first, second)) in order.must_precede.iter().enumerate() {
                let pair = path.key("must_precede").index(at);
                found.push((pair.index(0), first.clone()));
                found.push((pair.index(1), second.clone()));
            }
        }
        Expectation::Counts(counts) => {
            let by_name = counts.by_name.keys();
            found.extend(by_name.map(|name| (path.key("by_name").key(name), name.clone())));
        }
        Expectation::Status(status) => {
            let by_name = status.by_name.keys();
            found.extend(by_name.map(|name| (path.key("by_name").key(name), name.clone())));
        }
        Expectation::Window(WindowExpectation { outer, contains, start, end, .. }) => {
            for (key, name) in [("outer", outer), ("start_span", start), ("end_span", end)] {
                found.extend(name.iter().map(|name| (path.key(key), name.clone())));
            }
            list(path.key("contains"), &mut found, contains);
        }
        Expectation::Hermeticity(hermeticity) => {
            let keys = path.key("span_attrs").key("forbid_keys");
            list(keys, &mut found, &hermeticity.forbid_keys);
            list(path.key("allowed_hosts"), &mut found, &hermeticity.allowed_hosts);
        }
        Expectation::Assertion(_) => {}
    }
    found
}
