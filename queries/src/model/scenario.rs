//! `[[scenario]]` and `[[steps]]`

use std::collections::BTreeMap;
use std::time::Duration;

use serde::{Deserialize, Serialize};

use super::read::{Table, shell};
use super::{Test, expect};
use crate::diagnostic::{At, KeyPath, Problem};
use crate::document::Tree;

/// Steps in a fresh environment.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub(crate) struct Scenario {
    /// Its name.
    pub name: String,
    /// Where it is written.
    pub path: KeyPath,
    /// What it does, in order.
    pub steps: Vec<Step>,
    /// Limit of all of it.
    pub time_limit: Option<Duration>,
}

/// A command in a service's container, and how it must end.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub(crate) struct Step {
    /// Its name.
    pub name: String,
    /// Where it is written.
    pub path: KeyPath,
    /// The service in whose container it runs; one of the default image when `None`.
    pub service: Option<String>,
    /// Where that is written.
    pub service_path: KeyPath,
    /// Argument vector.
    pub argv: Vec<String>,
    /// Environment on top of the service's.
    pub env: BTreeMap<String, String>,
    /// Working directory.
    pub workdir: Option<String>,
    /// Its limit.
    pub time_limit: Option<Duration>,
    /// How it must end.
    pub exit: Exit,
    /// A regular expression its standard output matches.
    pub stdout_matches: Option<String>,
    /// A regular expression its standard output does not match.
    pub stdout_matches_not: Option<String>,
    /// A text its standard output contains.
    pub stdout_contains: Option<String>,
    /// Whether later steps run although it did not end as it must.
    pub continue_on_failure: bool,
}

/// How a step must end.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) enum Exit {
    /// With this exit code.
    Code(i32),
    /// With any but 0.
    Failure,
}

pub(super) fn read_all(root: &Table<'_>, test: &mut Test) {
    let top = steps(root);
    if !top.is_empty() {
        let (name, path) = (test.name.clone(), KeyPath::top("steps"));
        test.scenarios.push(Scenario { name, path, steps: top, time_limit: None });
    }
    for key in ["scenario", "scenarios"] {
        for table in root.tables(&[key]) {
            let scenario = read(&table, test);
            test.scenarios.push(scenario);
        }
    }
}

fn read(table: &Table<'_>, test: &mut Test) -> Scenario {
    let index = test.scenarios.len();
    let name = table.string(&["name"]).unwrap_or_default();
    let mut scenario = Scenario {
        steps: steps(table),
        path: table.path().clone(),
        time_limit: table.limit(),
        name,
    };
    let service = table.string(&["service"]);
    let service_path = table.path().key("service");
    let env = table.environment(&["env", "environment"]);
    let own_steps = scenario.steps.len();
    scenario.steps.extend(run(table, &scenario.name));
    if let Some(code) = exit_code(table) {
        match &mut scenario.steps[own_steps..] {
            [run] => run.exit = Exit::Code(code),
            _ => {
                let at = At::Key(table.path().key("expected_exit_code"));
                let message = "this belongs to one of the scenario's steps";
                table.problem(Problem::error("parse/exit-code", at, message));
            }
        }
    }
    for step in &mut scenario.steps {
        if step.service.is_none() {
            step.service.clone_from(&service);
            step.service_path.clone_from(&service_path);
        }
        for (name, value) in &env {
            step.env.entry(name.clone()).or_insert_with(|| value.clone());
        }
    }
    if let Some(expect) = table.table(&["expect"]) {
        expect::read(&expect, Some(index), test);
    }
    table.skip(&["description", "tags"]);
    table.refuse(&["artifacts", "concurrent", "expect_failure", "network", "policy", "retries"]);
    table.finish();
    scenario
}

/// `run`: shell text, or a list of `{service, command}`.
fn run(table: &Table<'_>, name: &str) -> Vec<Step> {
    match table.value(&["run"]) {
        Some((Tree::String(text), path)) => vec![Step::new(name, path, shell(text))],
        Some((Tree::Array(_), _)) => {
            let commands = table.tables(&["run"]).into_iter().enumerate();
            commands
                .filter_map(|(index, table)| step(&table, &format!("{name}-{}", index + 1)))
                .collect()
        }
        Some((other, path)) => {
            table.wrong_type(path, "shell text or a list of commands", other);
            Vec::new()
        }
        None => Vec::new(),
    }
}

fn steps(table: &Table<'_>) -> Vec<Step> {
    let steps = table.tables(&["steps", "step"]).into_iter().enumerate();
    steps.filter_map(|(index, table)| step(&table, &format!("step-{}", index + 1))).collect()
}

fn step(table: &Table<'_>, default_name: &str) -> Option<Step> {
    let name = table.string(&["name"]).unwrap_or_else(|| default_name.to_owned());
    let argv = table.command(&["command", "cmd", "run"]);
    let code = exit_code(table);
    let should_fail = table.boolean(&["should_fail"]).unwrap_or(false);
    if should_fail && code == Some(0) {
        let at = At::Key(table.path().key("should_fail"));
        let message = "a step that should fail cannot be expected to end with 0";
        table.problem(Problem::error("parse/exit-code", at, message));
    }
    let step = Step {
        service: table.string(&["service"]),
        service_path: table.path().key("service"),
        env: table.environment(&["env", "environment"]),
        workdir: table.string(&["workdir", "working_dir"]),
        time_limit: table.limit(),
        exit: match code {
            Some(code) => Exit::Code(code),
            None if should_fail => Exit::Failure,
            None => Exit::Code(0),
        },
        stdout_matches: table.string(&["expected_output_regex"]),
        stdout_matches_not: table.string(&["expected_output_regex_not"]),
        stdout_contains: table.string(&["expected_output_contains", "expected_output"]),
        continue_on_failure: table.boolean(&["continue_on_failure"]).unwrap_or(false),
        ..Step::new(&name, table.path().clone(), Vec::new())
    };
    table.skip(&["description"]);
    table.refuse(&["depends_on", "max_retries", "retry", "retry_on_failure"]);
    table.finish();
    match argv {
        Some(argv) if !argv.is_empty() => Some(Step { argv, ..step }),
        _ => {
            let at = At::Key(table.path().clone());
            let message = format!("the step `{name}` has no command");
            table.problem(Problem::error("shape/no-command", at, message));
            None
        }
    }
}

/// Exit codes have eight bits.
fn exit_code(table: &Table<'_>) -> Option<i32> {
    let code = table.integer(&["expected_exit_code"])?;
    u8::try_from(code).ok().map(i32::from).or_else(|| {
        let at = At::Key(table.path().key("expected_exit_code"));
        table.problem(Problem::error("parse/range", at, format!("{code} is no exit code")));
        None
    })
}

impl Step {
    fn new(name: &str, path: KeyPath, argv: Vec<String>) -> Step {
        Step {
            name: name.to_owned(),
            service: None,
            service_path: path.clone(),
            path,
            argv,
            env: BTreeMap::new(),
            workdir: None,
            time_limit: None,
            exit: Exit::Code(0),
            stdout_matches: None,
            stdout_matches_not: None,
            stdout_contains: None,
            continue_on_failure: false,
        }
    }
}
