//! Expected spans have a name, and a kind that OpenTelemetry knows.

use crate::diagnostic::{At, KeyPath, Problem, nearest};
use crate::expectation::Expectation;
use crate::model::Test;

/// OpenTelemetry's span kinds.
const KINDS: [&str; 5] = ["internal", "server", "client", "producer", "consumer"];

pub(super) fn check(test: &Test, problems: &mut Vec<Problem>) {
    for placed in &test.expectations {
        let path = &placed.path;
        match &placed.expectation {
            Expectation::Span(span) => {
                if span.name.trim().is_empty() {
                    let message = "an expected span needs a name";
                    let problem = Problem::error("shape/span-name", At::Key(path.clone()), message);
                    problems.push(problem.hint("add `name = \"…\"`; `*` stands for any"));
                }
                span.kind.iter().for_each(|kind| known(kind, path.key("kind"), problems));
            }
            Expectation::Counts(counts) => {
                for kind in counts.by_kind.keys() {
                    known(kind, path.key("by_kind").key(kind), problems);
                }
            }
            _ => {}
        }
    }
}

fn known(kind: &str, path: KeyPath, problems: &mut Vec<Problem>) {
    if KINDS.contains(&kind) {
        return;
    }
    let message = format!("`{kind}` is no span kind");
    let problem = Problem::error("shape/span-kind", At::Key(path), message);
    let known = KINDS.join(", ");
    problems.push(problem.hint(match nearest(kind, KINDS) {
        Some(meant) => format!("did you mean `{meant}`? the kinds are {known}"),
        None => format!("the kinds are {known}"),
    }));
}
