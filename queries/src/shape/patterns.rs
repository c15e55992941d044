//! Regular expressions and globs compile.

use regex::Regex;

use crate::diagnostic::{At, KeyPath, Problem};
use crate::expectation::{Expectation, Predicate};
use crate::judge;
use crate::model::{Test, Wait};

pub(super) fn check(test: &Test, problems: &mut Vec<Problem>) {
    let mut compiles = |pattern: &str, path: KeyPath| {
        // Most are plain words: these always compile, which takes its time.
        if regex::escape(pattern) == pattern {
            return;
        }
        if let Err(error) = Regex::new(pattern) {
            let reason = error.to_string();
            let reason = reason.lines().last().unwrap_or_default().trim_start_matches("error: ");
            let message = format!("`{pattern}` is no regular expression: {reason}");
            problems.push(Problem::error("shape/regex", At::Key(path), message));
        }
    };
    let mut globs = Vec::new();
    for service in &test.services {
        for wait in service.waits.iter().flatten() {
            if let Wait::Log(pattern) = wait {
                compiles(pattern, service.path.key("wait_for").key("log"));
            }
        }
    }
    for step in test.scenarios.iter().flat_map(|scenario| &scenario.steps) {
        for (pattern, key) in [
            (&step.stdout_matches, "expected_output_regex"),
            (&step.stdout_matches_not, "expected_output_regex_not"),
        ] {
            if let Some(pattern) = pattern {
                compiles(pattern, step.path.key(key));
            }
        }
    }
    for placed in &test.expectations {
        for name in judge::names(&placed.expectation) {
            if let Some(reason) = judge::invalid_glob(name) {
                let message = format!("`{name}` is no glob: {reason}");
                let problem = Problem::error("shape/glob", At::Key(placed.path.clone()), message);
                globs.push(problem.hint("put signs that are meant as they are in brackets: `[{]`"));
            }
        }
        let Expectation::Span(span) = &placed.expectation else { continue };
        for (which, predicates) in [("all", &span.attributes_all), ("any", &span.attributes_any)] {
            for (name, predicate) in predicates {
                if let Predicate { matches: Some(pattern), .. } = predicate {
                    compiles(pattern, placed.path.key("attrs").key(which).key(name).key("matches"));
                }
            }
        }
    }
    problems.extend(globs);
}
