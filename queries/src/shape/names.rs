//! Names are there, and there once.

use std::collections::BTreeSet;

use crate::diagnostic::{At, Problem};
use crate::model::Test;

pub(super) fn check(test: &Test, problems: &mut Vec<Problem>) {
    if test.name.trim().is_empty() {
        let problem = Problem::error("shape/no-name", At::File, "the test has no name");
        problems.push(problem.hint("add `[meta]` with `name = \"…\"`"));
    }
    let mut seen = BTreeSet::new();
    for scenario in &test.scenarios {
        let at = At::Key(scenario.path.clone());
        if scenario.name.trim().is_empty() {
            problems.push(Problem::error("shape/no-name", at, "the scenario has no name"));
        } else if !seen.insert(&scenario.name) {
            let message = format!("two scenarios are named `{}`", scenario.name);
            problems.push(Problem::error("shape/duplicate-name", at, message));
        }
        if scenario.steps.is_empty() {
            let at = At::Key(scenario.path.clone());
            let message = format!("the scenario `{}` does nothing", scenario.name);
            let problem = Problem::error("shape/nothing-to-run", at, message);
            problems.push(problem.hint("add `run = \"…\"` or steps"));
        }
    }
}
