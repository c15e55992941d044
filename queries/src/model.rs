//! What a test file says: services, scenarios and expectations, typed.

mod expect;
mod otel;
mod read;
mod scenario;
mod service;
mod words;

use std::collections::BTreeMap;
use std::time::Duration;

use clnrm_backends::{Forward, Host, Limits, Network};
use clnrm_engine::{Cx, Query, Unit};
use serde::{Deserialize, Serialize};

use self::read::{Problems, Table};
use crate::diagnostic::{At, KeyPath, Problem};
use crate::document::{DOCUMENT, Tree};
use crate::expectation::Expectation;
use crate::settings::Settings;

pub(crate) use self::scenario::{Exit, Scenario, Step};
pub(crate) use self::service::{Service, Volume, Wait};

/// The test in a file, or why there is none.
pub(crate) static MODEL: Query<Model> = Query::new("model", 6, model);

/// See [`MODEL`].
pub(crate) type Model = Result<Test, Problem>;

/// A test.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub(crate) struct Test {
    /// Whether the file says that it is a test; its name may say so too.
    pub declared: bool,
    /// Its name; empty when the file gives none.
    pub name: String,
    /// Where that is written.
    pub name_path: Option<KeyPath>,
    /// Whether the file says which version it is.
    pub has_version: bool,
    /// Its tags.
    pub tags: Vec<String>,
    /// Limit of the whole test.
    pub time_limit: Option<Duration>,
    /// How long services get to export their spans before they are stopped.
    pub settle: Option<Duration>,
    /// What can be reached; `None`: its own services.
    pub network: Option<Network>,
    /// Hosts outside that may be reached all the same.
    pub allowed: Vec<Host>,
    /// Of tests that share this, one runs at a time.
    pub group: Option<String>,
    /// What each container may use.
    pub limits: Limits,
    /// Seed of all generators.
    pub seed: u64,
    /// Frozen clock, seconds since the epoch; without one it is the machine's own.
    pub clock: Option<i64>,
    /// Whether spans are looked for on standard output.
    pub spans_on_stdout: bool,
    /// Where everything is sent on to; the scenario is not told.
    pub forward: Option<Forward>,
    /// What `[otel]` sets in every container.
    pub otel: BTreeMap<String, String>,
    /// Services, in the order of the file.
    pub services: Vec<Service>,
    /// Scenarios, in the order of the file.
    pub scenarios: Vec<Scenario>,
    /// Expectations, those of the whole test first.
    pub expectations: Vec<Placed>,
    /// Whether its scenarios share an environment.
    pub one_environment: bool,
    /// What is wrong with the file so far.
    pub problems: Vec<Problem>,
}

/// An expectation and where it applies.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub(crate) struct Placed {
    /// The scenario whose spans it looks at; `None`: those of all.
    pub scenario: Option<usize>,
    /// Where it is written.
    pub path: KeyPath,
    /// What is expected.
    pub expectation: Expectation,
    /// Whether it is judged although something is known to be missing.
    pub allow_incomplete: bool,
}

impl Placed {
    /// An expectation of the whole test.
    fn new(path: KeyPath, expectation: Expectation) -> Placed {
        Placed { scenario: None, path, expectation, allow_incomplete: false }
    }
}

/// 2025-01-01T00:00:00Z
const FROZEN_CLOCK: i64 = 1_735_689_600;

fn model(cx: &Cx<'_>, unit: &Unit) -> Model {
    let document = cx.get(&DOCUMENT, unit);
    let tree = document.as_ref().as_ref().map_err(Clone::clone)?;
    let mut test = read(tree);
    if !test.name.is_empty() {
        test.name.push_str(&unit.part);
    }
    Ok(test)
}

/// Reads the text of a plain file; what is no TOML says nothing.
pub(crate) fn read_text(text: &str) -> Test {
    crate::document::parse(text).map(|tree| read(&tree)).unwrap_or_default()
}

/// Reads a whole document.
pub(crate) fn read(tree: &Tree) -> Test {
    let problems = Problems::default();
    let root = Table::new(tree, KeyPath::default(), &problems);
    let mut test =
        Test { declared: is_declared(tree), clock: Some(FROZEN_CLOCK), ..Test::default() };
    identity(&root, &mut test);
    determinism(&root, &mut test);
    service::read_all(&root, &mut test);
    scenario::read_all(&root, &mut test);
    expect::read_all(&root, &mut test);
    // Read where templates are rendered; no part of the test itself.
    root.skip(&["vars", "author", "description", "version"]);
    if let Some(template) = root.table(&["template"]) {
        axes(&template);
        template.skip(&["matrix", "otel", "vars"]);
        template.finish();
    }
    axes(&root);
    test.network = service::network(&root).map(|(network, _)| network);
    let policy = scenario::policy(&root);
    test.time_limit = test.time_limit.or(policy.time_limit);
    test.allowed = policy.allowed;
    limits(&root, &mut test);
    otel::read(&root, &mut test);
    root.leave_out(&["report"]);
    if test.one_environment {
        scenario::share_environment(&mut test);
    }
    root.finish();
    test.problems.extend(problems.take());
    test
}

/// `[matrix]`, which is read where templates are rendered: every axis is a list of values.
fn axes(table: &Table<'_>) {
    let Some(matrix) = table.table(&["matrix"]) else { return };
    for (name, value, path) in matrix.entries() {
        let is_list = match value {
            Tree::Array(items) => !items.is_empty(),
            // What a template wrote within quotes.
            Tree::String(text) => text.starts_with('[') && text.trim() != "[]",
            _ => false,
        };
        if !is_list {
            let message = format!("the axis `{name}` is no list with values, so it makes no tests");
            let problem = Problem::error("parse/matrix", At::Key(path), message);
            table.problem(problem.hint("write `name = [1, 2]`"));
        }
    }
}

/// What makes any TOML file a test.
fn is_declared(tree: &Tree) -> bool {
    let has = |key: &str| tree.get(key).is_some();
    let works = ["steps", "scenario", "scenarios"].into_iter().any(has);
    let tables = |key: &str| matches!(tree.get(key), Some(Tree::Table(_)));
    tables("test") || tables("meta") || (has("name") && works)
}

/// The name and what goes with it: `[meta]`, `[test.metadata]`, `[test]` or the top.
fn identity(root: &Table<'_>, test: &mut Test) {
    let meta = root.table(&["meta"]);
    let outer = root.table(&["test"]);
    let inner = outer.as_ref().and_then(|outer| outer.table(&["metadata"]));
    // Read with the expectations.
    outer.iter().for_each(|outer| outer.skip(&["assertions"]));
    for table in [&meta, &inner, &outer].into_iter().flatten() {
        named(table, test);
        table.finish();
    }
    named(root, test);
}

fn named(table: &Table<'_>, test: &mut Test) {
    if let Some(name) = table.string(&["name"]).filter(|_| test.name.is_empty()) {
        test.name = name;
        test.name_path = Some(table.path().key("name"));
    }
    test.has_version |= table.value(&["version"]).is_some();
    if let Some(tags) = table.strings(&["tags"]) {
        test.tags.extend(tags);
    }
    let limit = table.duration(&["timeout", "timeout_seconds"], Duration::from_secs(1));
    test.settle = test.settle.or(table.duration(&["settle"], Duration::from_secs(1)));
    test.time_limit = test.time_limit.or(limit);
    table.skip(&["author", "authors", "created", "description", "license", "updated", "version"]);
    match table.value(&["isolation"]) {
        Some((Tree::String(text), _)) if text == "test" => test.one_environment = true,
        Some((Tree::String(text), _)) if text == "scenario" => {}
        Some((_, path)) => {
            let problem = Problem::error("parse/isolation", At::Key(path), "this is no isolation");
            table.problem(problem.hint("`scenario`, the default, or `test`"));
        }
        None => {}
    }
}

fn limits(root: &Table<'_>, test: &mut Test) {
    let Some(table) = root.table(&["limits"]) else { return };
    let limit = table.duration(&["max_duration_seconds"], Duration::from_secs(1));
    test.time_limit = test.time_limit.or(limit);
    test.limits = Limits {
        cpu_millicores: positive(&table, "cpu_millicores"),
        memory_mb: positive(&table, "memory_mb"),
        pids: positive(&table, "pids"),
    };
    test.group = table.string(&["group"]);
    table.finish();
}

/// A number that is not 0.
fn positive<N: TryFrom<u64>>(table: &Table<'_>, key: &'static str) -> Option<N> {
    let number = table.count(&[key])?;
    let fits = N::try_from(number).ok().filter(|_| number > 0);
    if fits.is_none() {
        let message = format!("{number} is no limit that anything could run with");
        table.problem(Problem::error("parse/range", At::Key(table.path().key(key)), message));
    }
    fits
}

fn determinism(root: &Table<'_>, test: &mut Test) {
    let Some(table) = root.table(&["determinism"]) else { return };
    test.seed = table.integer(&["seed"]).map_or(0, |seed| seed as u64);
    if let Some((value, path)) = table.value(&["freeze_clock"]) {
        match value {
            Tree::String(text) | Tree::Datetime(text) => match text.parse::<jiff::Timestamp>() {
                Ok(clock) => test.clock = Some(clock.as_second()),
                Err(error) => {
                    let message = format!("`{text}` is no RFC 3339 time: {error}");
                    table.problem(Problem::error("parse/time", At::Key(path), message));
                }
            },
            Tree::Boolean(true) => {}
            Tree::Boolean(false) => test.clock = None,
            other => table.wrong_type(path, "a time or a boolean", other),
        }
    }
    table.finish();
}

fn json(tree: &Tree) -> serde_json::Value {
    match tree {
        Tree::Table(entries) => {
            entries.iter().map(|(key, value)| (key.clone(), json(value))).collect()
        }
        Tree::Array(items) => items.iter().map(json).collect(),
        Tree::String(text) | Tree::Datetime(text) => text.clone().into(),
        Tree::Integer(number) => (*number).into(),
        Tree::Float(number) => (*number).into(),
        Tree::Boolean(flag) => (*flag).into(),
    }
}

/// Reads the workspace's settings; gives what is wrong with them.
pub(crate) fn read_settings(tree: &Tree, settings: &mut Settings) -> Vec<Problem> {
    let problems = Problems::default();
    let root = Table::new(tree, KeyPath::default(), &problems);
    if let Some(image) = root.string(&["default_image"]) {
        settings.default_image = image;
    }
    settings.backend = root.string(&["backend"]);
    settings.jobs = root.count(&["jobs"]).map(|jobs| jobs.max(1) as usize);
    settings.timeout = root.duration(&["timeout"], Duration::from_secs(1));
    settings.settle = root.duration(&["settle"], Duration::from_secs(1));
    if let Some(vars) = root.table(&["vars"]) {
        let json = |value: &Tree| serde_json::to_string(&json(value)).expect("values are JSON");
        let vars = vars.entries().map(|(name, value, _)| (name.to_owned(), json(value)));
        settings.vars = vars.collect();
    }
    root.leave_out(&["cache", "network", "report"]);
    root.finish();
    problems.take()
}
