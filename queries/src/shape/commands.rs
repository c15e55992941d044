//! Steps do something, and what is expected of their output can fail.

use crate::diagnostic::{At, KeyPath, Problem};
use crate::expectation::{Expectation, Predicate};
use crate::model::{Step, Test};

pub(super) fn check(test: &Test, problems: &mut Vec<Problem>) {
    for step in test.scenarios.iter().flat_map(|scenario| &scenario.steps) {
        if step.awaits.is_none() && does_nothing(step) {
            let at = At::Key(step.command_path.clone());
            let message = format!("the command of step `{}` is empty", step.name);
            let problem = Problem::error("shape/no-command", at, message);
            problems.push(problem.hint("write what it runs; `true` does nothing on purpose"));
        }
        let pattern = step.stdout_matches.iter();
        pattern.for_each(|it| matches_all(it, step.path.key("expected_output_regex"), problems));
        if step.stdout_contains.as_deref() == Some("") {
            let path = step.path.key("expected_output_contains");
            problems.push(always(path, "every output contains an empty text"));
        }
    }
    for placed in &test.expectations {
        let (path, predicates) = match &placed.expectation {
            Expectation::Span(span) => {
                let all = span.attributes_all.iter().chain(&span.attributes_any);
                (placed.path.key("attrs"), all.collect::<Vec<_>>())
            }
            Expectation::Hermeticity(hermeticity) => {
                let path = placed.path.key("resource_attrs").key("must_match");
                (path, hermeticity.resource_must_match.iter().collect())
            }
            _ => continue,
        };
        for (name, Predicate { matches, .. }) in predicates {
            matches.iter().for_each(|it| matches_all(it, path.key(name), problems));
        }
    }
}

/// Whether a command is nothing but blanks and comments of a shell.
fn does_nothing(step: &Step) -> bool {
    let words: Vec<&str> = step.argv.iter().map(|word| word.trim()).collect();
    let program = |word: &str| word.rsplit('/').next().unwrap_or_default().to_owned();
    let is_shell = |word: &&str| ["sh", "bash", "dash", "ash"].contains(&&*program(word));
    let Some(shell) = words.iter().position(is_shell) else {
        return words.iter().all(|word| word.is_empty());
    };
    let rest = &words[shell + 1..];
    // Without a script a shell reads its input, which is empty.
    let Some(script) = rest.iter().find(|word| !word.starts_with(['-', '+'])) else { return true };
    let is_text = rest.iter().any(|word| word.starts_with('-') && word.ends_with('c'));
    let says_nothing = |line: &str| matches!(line, "" | "\\") || line.starts_with('#');
    is_text && script.lines().map(str::trim).all(says_nothing)
}

/// Refuses a pattern that finds itself in every text: it matches an empty one, and not because of
/// its anchors.
fn matches_all(pattern: &str, path: KeyPath, problems: &mut Vec<Problem>) {
    let Ok(regex) = regex::Regex::new(pattern) else { return };
    if regex.is_match("") && regex.is_match("\u{fffd}\n\u{fffd}") {
        problems.push(always(path, &format!("`{pattern}` matches every text")));
    }
}

fn always(path: KeyPath, message: &str) -> Problem {
    let problem = Problem::error("shape/empty-expectation", At::Key(path), message);
    problem.hint("say what is expected, or take it out")
}
