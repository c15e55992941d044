//! The shape check: what can be told to be wrong before anything runs.

mod bounds;
mod commands;
mod kinds;
mod missing;
mod names;
mod order;
mod patterns;
mod services;
mod volumes;

use clnrm_engine::{Cx, Query, Unit};
use serde::{Deserialize, Serialize};

use crate::diagnostic::{At, Problem};
use crate::model::{MODEL, Test};
use crate::source::SOURCE;

pub(crate) use self::services::start_order;

/// What the shape check has to say of a file.
pub(crate) static SHAPE: Query<Shape> = Query::new("shape", 5, shape);

/// See [`SHAPE`].
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub(crate) struct Shape {
    /// Whether the file says that it is a test.
    pub declared: bool,
    /// The test's name.
    pub name: String,
    /// Its tags.
    pub tags: Vec<String>,
    /// The names of its scenarios.
    pub scenarios: Vec<String>,
    /// What is wrong with it, in the order of the rules.
    pub problems: Vec<Problem>,
}

/// A rule looks at a test and says what is wrong with it.
type Rule = fn(&Test, &mut Vec<Problem>);

const RULES: [Rule; 8] = [
    names::check,
    services::check,
    volumes::check,
    patterns::check,
    commands::check,
    kinds::check,
    order::check,
    bounds::check,
];

fn shape(cx: &Cx<'_>, unit: &Unit) -> Shape {
    match cx.get(&MODEL, unit).as_ref() {
        Ok(test) => {
            let mut shape = check(test);
            shape.problems.extend(missing::check(cx, test));
            shape
        }
        Err(problem) => Shape {
            declared: looks_declared(cx, unit),
            name: String::new(),
            tags: Vec::new(),
            scenarios: Vec::new(),
            problems: vec![problem.clone()],
        },
    }
}

/// Whether a file that cannot be read as TOML says, line by line, that it is a test.
fn looks_declared(cx: &Cx<'_>, unit: &Unit) -> bool {
    let source = cx.get(&SOURCE, &Unit::file(unit.path.clone()));
    let headers =
        ["[meta]", "[test]", "[test.metadata]", "[[scenario]]", "[[scenarios]]", "[[steps]]"];
    source.as_ref().as_ref().is_ok_and(|text| {
        text.0.lines().any(|line| headers.contains(&line.split('#').next().unwrap_or(line).trim()))
    })
}

/// Checks a test against all rules.
pub(crate) fn check(test: &Test) -> Shape {
    let mut problems = test.problems.clone();
    for rule in RULES {
        rule(test, &mut problems);
    }
    if test.scenarios.is_empty() {
        let message = "there is nothing to run: no `[[scenario]]` and no `[[steps]]`";
        problems.push(Problem::error("shape/nothing-to-run", At::File, message));
    }
    Shape {
        declared: test.declared,
        name: test.name.clone(),
        tags: test.tags.clone(),
        scenarios: test.scenarios.iter().map(|scenario| scenario.name.clone()).collect(),
        problems,
    }
}
