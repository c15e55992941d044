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
        each_name(placed, &mut |name, path| glob(name, path, problems));
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

fn glob(name: &str, path: &dyn Fn() -> KeyPath, problems: &mut Vec<Problem>) {
    let Some(reason) = judge::invalid_glob(name) else { return };
    let sign = if reason.contains("class") || reason.contains("range") { '[' } else { '{' };
    let at = name.rfind(sign).or_else(|| name.find(['}', ']'])).unwrap_or(0);
    let message = format!("`{name}` is no glob: {reason}");
    let problem = Problem::error("shape/glob", At::Within(path(), at), message);
    problems.push(problem.hint("put signs that are meant as they are in brackets: `[{]`"));
}

/// A name or glob, and how to find its place.
type See<'a> = &'a mut dyn FnMut(&str, &dyn Fn() -> KeyPath);

/// Shows the names and globs an expectation mentions.
fn each_name(placed: &Placed, see: See<'_>) {
    let path = &placed.path;
    match &placed.expectation {
        Expectation::Span(SpanExpectation {
            name,
            parent,
            children_any,
            events_all,
            events_any,
            ..
        }) => {
            see(name, &|| path.key("name"));
            parent.iter().for_each(|parent| see(parent, &|| path.key("parent")));
            each_of(&|| path.key("children").key("any"), children_any, see);
            each_of(&|| path.key("events").key("all"), events_all, see);
            each_of(&|| path.key("events").key("any"), events_any, see);
        }
        Expectation::Graph(GraphExpectation { must_include, must_not_cross, .. }) => {
            each_pair(&|| path.key("must_include"), must_include, see);
            each_pair(&|| path.key("must_not_cross"), must_not_cross, see);
        }
        Expectation::Order(order) => {
            each_pair(&|| path.key("must_precede"), &order.must_precede, see);
        }
        Expectation::Counts(counts) => {
            counts.by_name.keys().for_each(|name| see(name, &|| path.key("by_name").key(name)));
        }
        Expectation::Status(status) => {
            status.by_name.keys().for_each(|name| see(name, &|| path.key("by_name").key(name)));
        }
        Expectation::Window(WindowExpectation { outer, contains, start, end, .. }) => {
            for (key, name) in [("outer", outer), ("start_span", start), ("end_span", end)] {
                name.iter().for_each(|name| see(name, &|| path.key(key)));
            }
            each_of(&|| path.key("contains"), contains, see);
        }
        Expectation::Hermeticity(hermeticity) => {
            let keys = || path.key("span_attrs").key("forbid_keys");
            each_of(&keys, &hermeticity.forbid_keys, see);
            each_of(&|| path.key("allowed_hosts"), &hermeticity.allowed_hosts, see);
        }
        Expectation::Assertion(_) => {}
    }
}

fn each_of(list: &dyn Fn() -> KeyPath, names: &[String], see: See<'_>) {
    for (at, name) in names.iter().enumerate() {
        see(name, &|| list().index(at));
    }
}

fn each_pair(list: &dyn Fn() -> KeyPath, pairs: &[(String, String)], see: See<'_>) {
    for (at, (first, second)) in pairs.iter().enumerate() {
        see(first, &|| list().index(at).index(0));
        see(second, &|| list().index(at).index(1));
    }
}
