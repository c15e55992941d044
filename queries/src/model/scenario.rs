//! `[[scenario]]` and `[[steps]]`

use std::collections::BTreeMap;
use std::time::Duration;

use clnrm_backends::{Awaited, Host, Network};
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
    /// How long services get to export their spans before they are stopped; `None`: what the test
    /// says.
    pub settle: Option<Duration>,
    /// What can be reached; `None`: what the test says.
    pub network: Option<Network>,
    /// Hosts outside that may be reached all the same, besides the test's.
    pub allowed: Vec<Host>,
    /// How often it is run again when it fails.
    pub retries: u32,
    /// Whether its steps start at once.
    pub concurrent: bool,
    /// Whether it is expected that a step or service of it fails.
    pub expect_failure: bool,
    /// Whether its run may lose spans without failing for that alone.
    pub allow_incomplete: bool,
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
    /// Where that is written.
    pub command_path: KeyPath,
    /// Spans it waits for instead of running a command.
    pub awaits: Option<Awaited>,
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
    /// How often it is tried before it counts.
    pub attempts: u32,
    /// The pause between two tries.
    pub retry_delay: Duration,
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
        test.scenarios.push(Scenario { steps: top, ..Scenario::new(name, path) });
    }
    for key in ["scenario", "scenarios"] {
        for table in root.tables(&[key]) {
            let scenario = read(&table, test);
            test.scenarios.push(scenario);
        }
    }
}

/// All scenarios as one: they share an environment, and so are one action.
pub(super) fn share_environment(test: &mut Test) {
    if test.scenarios.len() < 2 {
        return;
    }
    let scenarios = std::mem::take(&mut test.scenarios);
    let (name, path) = (test.name.clone(), scenarios[0].path.clone());
    let limits = scenarios.iter().map(|scenario| scenario.time_limit);
    let time_limit = limits.sum();
    let expect_failure = scenarios.iter().all(|scenario| scenario.expect_failure);
    for scenario in scenarios.iter().filter(|it| it.expect_failure && !expect_failure) {
        let at = At::Key(scenario.path.key("expect_failure"));
        let message =
            "with `isolation = \"test\"` all scenarios are one run, which fails or does not";
        let problem = Problem::error("parse/conflict", at, message);
        test.problems.push(problem.hint("use `should_fail` on the step that must fail"));
    }
    let concurrent = scenarios.iter().all(|scenario| scenario.concurrent);
    let settle = scenarios.iter().filter_map(|scenario| scenario.settle).max();
    let allow_incomplete = scenarios.iter().any(|scenario| scenario.allow_incomplete);
    let retries = scenarios.iter().map(|scenario| scenario.retries).max().unwrap_or(0);
    let network = scenarios.iter().find_map(|scenario| scenario.network);
    let allowed = scenarios.iter().flat_map(|scenario| scenario.allowed.clone()).collect();
    let steps = scenarios.into_iter().flat_map(|scenario| {
        let named = move |mut step: Step| {
            if step.name != scenario.name {
                step.name = format!("{}/{}", scenario.name, step.name);
            }
            step
        };
        scenario.steps.into_iter().map(named)
    });
    let steps = steps.collect();
    test.scenarios.push(Scenario {
        steps,
        time_limit,
        settle,
        network,
        allowed,
        retries,
        concurrent,
        expect_failure,
        allow_incomplete,
        ..Scenario::new(name, path)
    });
    for placed in &mut test.expectations {
        placed.scenario = None;
    }
}

fn read(table: &Table<'_>, test: &mut Test) -> Scenario {
    let index = test.scenarios.len();
    let name = table.string(&["name"]).unwrap_or_default();
    let mut scenario = Scenario {
        steps: steps(table),
        time_limit: table.limit(),
        settle: table.duration(&["settle"], Duration::from_secs(1)),
        expect_failure: table.boolean(&["expect_failure"]).unwrap_or(false),
        ..Scenario::new(name, table.path().clone())
    };
    let service = table.string(&["service"]);
    let service_path = table.path().key("service");
    let env = table.environment(&["env", "environment"]);
    scenario.steps.extend(run(table, &scenario.name));
    let waits = wait_for(table).into_iter().map(|(awaits, limit, path)| Step {
        awaits: Some(awaits),
        time_limit: Some(limit),
        ..Step::new("wait_for", path, Vec::new())
    });
    scenario.steps.extend(waits);
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
        scenario.allow_incomplete = expect::read(&expect, Some(index), test);
    }
    table.skip(&["description", "tags"]);
    scenario.network = super::service::network(table).map(|(network, _)| network);
    let policy = policy(table);
    scenario.time_limit = scenario.time_limit.or(policy.time_limit);
    scenario.allowed = policy.allowed;
    if let Some(table) = table.table(&["artifacts"]) {
        // Spans and logs are kept in any case.
        let collected = table.strings(&["collect"]).unwrap_or_default();
        test.spans_on_stdout |= collected.iter().any(|what| what.starts_with("spans:"));
        if collected.iter().any(|what| !what.starts_with("spans:") && !what.starts_with("logs:")) {
            table.leave_out(&["collect"]);
        }
        table.finish();
    }
    scenario.retries =
        table.count(&["retries"]).map_or(0, |count| count.min(u64::from(MOST_RETRIES)) as u32);
    scenario.concurrent = table.boolean(&["concurrent"]).unwrap_or(false);
    if scenario.concurrent {
        for step in table.tables(&["steps", "step"]) {
            let Some((_, path)) = step.value(&["depends_on"]) else { continue };
            let message = "steps that start at once do not depend on each other";
            let problem = Problem::error("parse/concurrent", At::Key(path), message);
            table.problem(problem.hint("leave out `concurrent`, and they run in their order"));
        }
    }
    table.finish();
    scenario
}

/// What a policy allows.
#[derive(Default)]
pub(super) struct Policy {
    pub(super) time_limit: Option<Duration>,
    pub(super) allowed: Vec<Host>,
}

/// Whoever writes more means: until it passes.
const MOST_RETRIES: u32 = 100;

/// Ports of a host that is named without one.
const WEB: [u16; 2] = [80, 443];

/// `policy`
pub(super) fn policy(table: &Table<'_>) -> Policy {
    let Some(table) = table.table(&["policy"]) else { return Policy::default() };
    let time_limit = table.duration(&["max_execution_time"], Duration::from_secs(1));
    // The same at every level of security: what is not allowed cannot be reached.
    table.skip(&["security_level"]);
    let mut allowed = Vec::new();
    let hosts = table.strings(&["allowed_network_hosts"]).unwrap_or_default();
    for (index, said) in hosts.iter().enumerate() {
        match allowed_host(said) {
            Ok(hosts) => allowed.extend(hosts),
            Err(hint) => {
                let at = At::Key(table.path().key("allowed_network_hosts").index(index));
                let message = format!("`{said}` is no host that can be allowed");
                table.problem(Problem::error("parse/host", at, message).hint(hint));
            }
        }
    }
    allowed.sort();
    allowed.dedup();
    table.finish();
    Policy { time_limit, allowed }
}

/// A host by its name, and a port of it or those of the web; none for the container itself.
fn allowed_host(said: &str) -> Result<Vec<Host>, &'static str> {
    let (name, port) = match said.rsplit_once(':') {
        Some((name, port)) => (name, Some(port.parse().map_err(|_| "write `name:port`")?)),
        None => (said, None),
    };
    if name == "localhost" || name == "127.0.0.1" {
        return Ok(Vec::new());
    }
    if name.parse::<std::net::IpAddr>().is_ok() {
        return Err("only names can be allowed: an address is reached by nobody's help");
    }
    let plain = |c: char| c.is_ascii_alphanumeric() || "-._".contains(c);
    if name.is_empty() || !name.chars().all(plain) {
        return Err(
            "name each host, without patterns: `api.example.com` or `api.example.com:8443`",
        );
    }
    let ports = port.map_or(WEB.to_vec(), |port| vec![port]);
    let host = |port| Host { name: name.to_owned(), port, outside: name.to_owned(), service: None };
    Ok(ports.into_iter().map(host).collect())
}

/// `run`: shell text, or a list of `{service, command}`.
fn run(table: &Table<'_>, name: &str) -> Vec<Step> {
    match table.value(&["run"]) {
        Some((Tree::String(text), path)) => {
            let command_path = path.clone();
            let path =
                if EXPECTED.iter().any(|key| table.has(key)) { table.path().clone() } else { path };
            vec![expected(table, Step { command_path, ..Step::new(name, path, shell(text)) })]
        }
        Some((Tree::Array(_), _)) => {
            misplaced(table);
            let commands = table.tables(&["run"]).into_iter().enumerate();
            commands
                .filter_map(|(index, table)| step(&table, &format!("{name}-{}", index + 1)))
                .collect()
        }
        Some((other, path)) => {
            table.wrong_type(path, "shell text or a list of commands", other);
            Vec::new()
        }
        None => {
            misplaced(table);
            Vec::new()
        }
    }
}

/// How long spans may take to come, unless the file says otherwise.
const AWAITED_WITHIN: Duration = Duration::from_secs(5);

/// `wait_for` of a step or a scenario: spans, with how long they may take.
fn wait_for(table: &Table<'_>) -> Vec<(Awaited, Duration, KeyPath)> {
    let read = |wait: Table<'_>| {
        let span = wait.string(&["span"]);
        let count = wait.count(&["count"]).unwrap_or(1);
        let limit = wait.limit().unwrap_or(AWAITED_WITHIN);
        wait.finish_expectation();
        let at = || At::Key(wait.path().clone());
        if span.as_ref().is_none_or(|span| span.trim().is_empty()) {
            let problem =
                Problem::error("parse/wait", at(), "it does not say which span to wait for");
            wait.problem(problem.hint("write `wait_for = { span = \"…\" }`"));
        }
        if count == 0 {
            wait.problem(Problem::error("parse/wait", at(), "waiting for 0 spans is no wait"));
        }
        Some((Awaited { span: span?, count }, limit, wait.path().clone()))
    };
    let waits = table.tables(&["wait_for"]);
    if waits.is_empty() && table.has("wait_for") {
        let at = At::Key(table.path().key("wait_for"));
        table.problem(Problem::error("parse/wait", at, "there is nothing to wait for"));
    }
    waits.into_iter().filter_map(read).collect()
}

/// The keys that say how a step must end and what it must write, in the order of [`expected`].
const EXPECTED: [&str; 11] = [
    "expected_exit_code",
    "should_fail",
    "expected_output_regex",
    "expected_output_regex_not",
    "expected_output_contains",
    "expected_output",
    "retry",
    "retry_on_failure",
    "max_retries",
    "workdir",
    "working_dir",
];

/// Refuses keys of steps on a scenario whose steps have tables of their own.
fn misplaced(table: &Table<'_>) {
    for key in EXPECTED {
        if let Some((_, path)) = table.value(&[key]) {
            let message = format!("`{key}` belongs to one of the scenario's steps");
            table.problem(Problem::error("parse/misplaced", At::Key(path), message));
        }
    }
}

/// `step` with what the keys of `table` say of its end and its output.
fn expected(table: &Table<'_>, step: Step) -> Step {
    let code = exit_code(table);
    let should_fail = table.boolean(&["should_fail"]).unwrap_or(false);
    if should_fail && code == Some(0) {
        let at = At::Key(table.path().key("should_fail"));
        let message = "a step that should fail cannot be expected to end with 0";
        table.problem(Problem::error("parse/exit-code", at, message));
    }
    let (retries, retry_delay) = retries(table);
    Step {
        workdir: table.string(&["workdir", "working_dir"]),
        exit: match code {
            Some(code) => Exit::Code(code),
            None if should_fail => Exit::Failure,
            None => Exit::Code(0),
        },
        stdout_matches: table.string(&["expected_output_regex"]),
        stdout_matches_not: table.string(&["expected_output_regex_not"]),
        stdout_contains: table.string(&["expected_output_contains", "expected_output"]),
        attempts: retries.saturating_add(1),
        retry_delay,
        ..step
    }
}

fn steps(table: &Table<'_>) -> Vec<Step> {
    let tables = table.tables(&["steps", "step"]).into_iter().enumerate();
    let read = |(index, table): (usize, Table<'_>)| {
        let step = step(&table, &format!("step-{}", index + 1))?;
        Some((step, table.strings(&["depends_on"]).unwrap_or_default(), table.path().clone()))
    };
    let mut open: Vec<_> = tables.filter_map(read).collect();
    let names: Vec<String> = open.iter().map(|(step, ..)| step.name.clone()).collect();
    for (_, needs, path) in &mut open {
        needs.retain(|need| {
            let known = names.contains(need);
            if !known {
                let at = At::Key(path.key("depends_on"));
                let message = format!("it depends on the step `{need}`, which is not there");
                let problem = Problem::error("shape/unknown-step", at, message);
                table.problem(problem.did_you_mean(need, names.iter().map(String::as_str)));
            }
            known
        });
    }
    // In the order of the file, but each after those it depends on.
    let mut steps: Vec<Step> = Vec::new();
    while !open.is_empty() {
        let done = |need: &String| steps.iter().any(|step| step.name == *need);
        let Some(next) = open.iter().position(|(_, needs, _)| needs.iter().all(done)) else {
            let names: Vec<&str> = open.iter().map(|(step, ..)| step.name.as_str()).collect();
            let message = format!("steps depend on each other in a circle: {}", names.join(", "));
            let at = At::Key(open[0].2.key("depends_on"));
            table.problem(Problem::error("shape/dependency-cycle", at, message));
            steps.extend(open.into_iter().map(|(step, ..)| step));
            break;
        };
        steps.push(open.remove(next).0);
    }
    steps
}

fn step(table: &Table<'_>, default_name: &str) -> Option<Step> {
    let name = table.string(&["name"]).unwrap_or_else(|| default_name.to_owned());
    let argv = table.command(&["command", "cmd", "run"]);
    let command = ["command", "cmd", "run"].into_iter().find(|key| table.has(key));
    let step = Step {
        service: table.string(&["service"]),
        service_path: table.path().key("service"),
        command_path: table.path().key(command.unwrap_or("command")),
        env: table.environment(&["env", "environment"]),
        time_limit: table.limit(),
        continue_on_failure: table.boolean(&["continue_on_failure"]).unwrap_or(false),
        ..expected(table, Step::new(&name, table.path().clone(), Vec::new()))
    };
    table.skip(&["description", "depends_on"]);
    let waits = wait_for(table);
    if let [_, (.., second), ..] = &waits[..] {
        let message = "a step waits for spans of one name";
        let problem = Problem::error("parse/wait", At::Key(second.clone()), message);
        table.problem(problem.hint("make a step of each, or wait for them on the scenario"));
    }
    if !waits.is_empty() && argv.is_some() {
        let at = At::Key(table.path().key("wait_for"));
        let problem = Problem::error("parse/wait", at, "a step runs a command or waits, not both");
        table.problem(problem.hint("make two steps of it, or wait on the scenario"));
    }
    let wait = waits.into_iter().next().filter(|_| argv.is_none());
    table.finish();
    if let Some((awaits, limit, path)) = wait {
        let (awaits, command_path) = (Some(awaits), path);
        return Some(Step {
            awaits,
            command_path,
            time_limit: step.time_limit.or(Some(limit)),
            ..step
        });
    }
    match argv {
        Some(argv) => Some(Step { argv, ..step }),
        None => {
            let at = At::Key(table.path().clone());
            let message = format!("the step `{name}` has no command");
            table.problem(Problem::error("shape/no-command", at, message));
            None
        }
    }
}

/// How often a failed step is tried again, and after which pause: `retry_on_failure` with
/// `max_retries`, or `retry`.
fn retries(table: &Table<'_>) -> (u32, Duration) {
    let small = |count: u64| u32::try_from(count).unwrap_or(u32::MAX);
    let wanted = table.boolean(&["retry_on_failure"]);
    let most = table.count(&["max_retries"]).map(small);
    let own = match (wanted, most) {
        (Some(false), _) | (None, None) => 0,
        (_, Some(most)) => most,
        (Some(true), None) => 3,
    };
    let Some(retry) = table.table(&["retry"]) else { return (own, RETRY_DELAY) };
    let attempts = retry.count(&["max_attempts", "attempts"]);
    let attempts = attempts.map_or(own, |all| small(all).saturating_sub(1));
    let pause = retry.duration(&["delay_ms"], Duration::from_millis(1));
    let pause = pause.or(retry.duration(&["delay"], Duration::from_secs(1)));
    retry.skip(&["backoff"]);
    retry.finish();
    (attempts, pause.unwrap_or(RETRY_DELAY))
}

/// The pause between two tries, unless the file says another.
const RETRY_DELAY: Duration = Duration::from_millis(500);

/// Exit codes have eight bits.
fn exit_code(table: &Table<'_>) -> Option<i32> {
    let code = table.integer(&["expected_exit_code"])?;
    u8::try_from(code).ok().map(i32::from).or_else(|| {
        let at = At::Key(table.path().key("expected_exit_code"));
        table.problem(Problem::error("parse/range", at, format!("{code} is no exit code")));
        None
    })
}

impl Scenario {
    fn new(name: String, path: KeyPath) -> Scenario {
        Scenario {
            name,
            path,
            steps: Vec::new(),
            time_limit: None,
            settle: None,
            network: None,
            allowed: Vec::new(),
            retries: 0,
            concurrent: false,
            expect_failure: false,
            allow_incomplete: false,
        }
    }
}

impl Step {
    fn new(name: &str, path: KeyPath, argv: Vec<String>) -> Step {
        Step {
            name: name.to_owned(),
            service: None,
            service_path: path.clone(),
            command_path: path.clone(),
            awaits: None,
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
            attempts: 1,
            retry_delay: Duration::ZERO,
        }
    }
}
