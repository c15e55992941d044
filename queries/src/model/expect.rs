//! `[expect.*]`

mod otel_validation;

use std::collections::BTreeMap;

use super::read::Table;
use super::{Placed, Test};
use crate::diagnostic::{At, KeyPath, Problem};
use crate::document::Tree;
use crate::expectation::{
    Assertion, Bounds, CountsExpectation, Expectation, ExpectedStatus, GraphExpectation,
    HermeticityExpectation, Literal, OrderExpectation, Predicate, Range, SpanExpectation,
    StatusExpectation, WindowExpectation,
};

/// The expectations of the whole test.
pub(super) fn read_all(root: &Table<'_>, test: &mut Test) {
    let expect = root.table(&["expect"]);
    let mut allow_incomplete = false;
    if let Some(expect) = &expect {
        allow_incomplete = read(expect, None, test);
    }
    if let Some(table) = root.table(&["otel_validation"]) {
        otel_validation::read(&table, test);
    }
    match root.value(&["assertions"]) {
        Some((Tree::Array(_), path)) => unchecked(root, "assertions", path, test),
        Some((value, path)) => {
            if let Some(table) = root.as_table(value, path) {
                assertions(&table, test);
            }
        }
        None => {}
    }
    if let Some((_, path)) = root.value(&["validation"]) {
        unchecked(root, "validation", path, test);
    }
    let older = root.table(&["test"]).and_then(|test| test.table(&["assertions"]));
    if let Some(table) = older {
        assertions(&table, test);
    }
    for placed in &mut test.expectations {
        placed.allow_incomplete |= allow_incomplete;
    }
    for scenario in &mut test.scenarios {
        scenario.allow_incomplete |= allow_incomplete;
    }
    // Those of the whole test first, in the order of the file otherwise.
    test.expectations.sort_by_key(|placed| placed.scenario.map_or(0, |scenario| scenario + 1));
}

/// One `expect` table; gives whether it allows that evidence is missing.
pub(super) fn read(expect: &Table<'_>, scenario: Option<usize>, test: &mut Test) -> bool {
    let before = test.expectations.len();
    let all = allows_gaps(expect);
    let mut add = |table: &Table<'_>, read: &dyn Fn(&Table<'_>) -> Expectation| {
        let allow_incomplete = all || allows_gaps(table);
        let (path, expectation) = (table.path().clone(), read(table));
        test.expectations.push(Placed { scenario, path, expectation, allow_incomplete });
    };
    for table in expect.tables(&["span", "spans"]) {
        add(&table, &|table| Expectation::Span(span(table)));
    }
    if let Some(table) = expect.table(&["graph"]) {
        add(&table, &|table| Expectation::Graph(graph(table)));
    }
    if let Some(table) = expect.table(&["order"]) {
        add(&table, &|table| Expectation::Order(order(table)));
    }
    // Two names of one table, which macros of different authors may use side by side.
    for table in ["counts", "count"].iter().filter_map(|name| expect.table(&[*name])) {
        add(&table, &|table| Expectation::Counts(counts(table)));
    }
    if let Some((Tree::Array(_), path)) = expect.value(&["status"]) {
        expect.misplaced(path, "`expect.status` is one table, not a list", OF_STATUS);
    } else if let Some(table) = expect.table(&["status"]) {
        add(&table, &|table| Expectation::Status(status(table)));
    }
    for table in expect.tables(&["window", "windows"]) {
        let allow_incomplete = all || allows_gaps(&table);
        for (path, window) in windows(&table) {
            let expectation = Expectation::Window(window);
            test.expectations.push(Placed { scenario, path, expectation, allow_incomplete });
        }
    }
    if let Some(table) = expect.table(&["hermeticity"]) {
        let allow_incomplete = all || allows_gaps(&table);
        let services = hosts(test);
        let path = table.path().clone();
        let expectation = Expectation::Hermeticity(hermeticity(&table, services));
        test.expectations.push(Placed { scenario, path, expectation, allow_incomplete });
        for key in OF_HERMETICITY {
            if let Some((_, path)) = table.value(&[key]) {
                unchecked(&table, key, path, test);
            }
        }
        table.finish_expectation();
    }
    for (key, hint) in OF_LATER_FILES {
        if let Some((_, path)) = expect.value(&[key]) {
            expect.misplaced(path, &format!("`expect.{key}` is no expectation of clnrm"), hint);
        }
    }
    // An unknown or a wrong entry is told by itself.
    let is_empty = |value: &Tree| matches!(value, Tree::Array(items) if items.is_empty());
    let says_nothing =
        expect.entries().all(|(name, value, _)| name == "allow_incomplete" || is_empty(value));
    if test.expectations.len() == before && says_nothing {
        expect.says_nothing(expect.path().clone(), "expects nothing");
    }
    expect.finish_expectation();
    all
}

/// Tables of later files of this format, and what says the same.
const OF_LATER_FILES: [(&str, &str); 2] = [
    ("output", "write `expected_output_regex` on the step whose output it is"),
    ("temporal", "write `must_precede` in `[expect.order]`, or a `[[expect.window]]`"),
];

/// What says how a step ends.
const OF_STATUS: &str =
    "`[expect.status]` is about spans; write `expected_exit_code` on the step for an exit code";

/// Whether an expectation is judged although something is known to be missing.
fn allows_gaps(table: &Table<'_>) -> bool {
    table.boolean(&["allow_incomplete"]) == Some(true)
}

/// The hosts of the test itself.
fn hosts(test: &Test) -> Vec<String> {
    let own = test.services.iter().map(|service| service.id.clone());
    own.chain(["default".to_owned()]).collect()
}

/// A window, or several as `"outer" = { contains = [...] }`.
fn windows(table: &Table<'_>) -> Vec<(KeyPath, WindowExpectation)> {
    let window = WindowExpectation {
        outer: table.string(&["outer"]),
        contains: table.names(&["contains"]).unwrap_or_default(),
        start: table.string(&["start_span", "start"]),
        end: table.string(&["end_span", "end"]),
        duration_ms: Range {
            min: table.number(&["min_duration_ms"]),
            max: table.number(&["max_duration_ms"]),
        },
        min_spans: table.count(&["min_span_count"]),
    };
    if window.min_spans == Some(0) {
        table.says_nothing(table.path().key("min_span_count"), "holds of every number");
    }
    if window.duration_ms.max == Some(f64::INFINITY) {
        table.says_nothing(table.path().key("max_duration_ms"), "holds of every duration");
    }
    table.skip(&["description", "name"]);
    let mut windows = Vec::new();
    if window != WindowExpectation::default() {
        windows.push((table.path().clone(), window));
    }
    for (outer, value, path) in table.unknown() {
        let Some(inner) = table.as_table(value, path.clone()) else { continue };
        let contains = inner.names(&["contains"]).unwrap_or_default();
        inner.finish_expectation();
        let outer = Some(outer.to_owned());
        windows.push((path, WindowExpectation { outer, contains, ..Default::default() }));
    }
    if windows.is_empty() {
        windows.push((table.path().clone(), WindowExpectation::default()));
    }
    windows
}

fn hermeticity(table: &Table<'_>, services: Vec<String>) -> HermeticityExpectation {
    let resource = table.filled(&["resource_attrs"]);
    let span = table.filled(&["span_attrs"]);
    let mut resource_must_match =
        resource.as_ref().map(|it| predicates(it, "must_match")).unwrap_or_default();
    resource_must_match.extend(predicates(table, "resource_attrs_must_match"));
    let mut forbid_keys =
        span.as_ref().and_then(|it| it.names(&["forbid_keys"])).unwrap_or_default();
    forbid_keys.extend(table.names(&["span_attrs_forbid_keys"]).unwrap_or_default());
    let no_network = table.boolean(&["allow_network"]).map(|allowed| !allowed);
    let closed = table.boolean(&["no_external_services"]);
    if (closed, no_network) == (Some(true), Some(false)) {
        let at = At::Key(table.path().key("allow_network"));
        let message = "`no_external_services` forbids what `allow_network` allows";
        table.problem(Problem::error("parse/conflict", at, message));
    }
    for inner in [resource, span].iter().flatten() {
        inner.finish_expectation();
    }
    let allowed_hosts = table.strings(&["allowed_hosts"]).unwrap_or_default();
    HermeticityExpectation {
        no_external_services: closed.or(no_network).unwrap_or(false),
        allowed_hosts,
        services,
        resource_must_match,
        forbid_keys,
    }
}

/// `[assertions]`: those that are known are judged, any other fails.
fn assertions(table: &Table<'_>, test: &mut Test) {
    if table.entries().next().is_none() {
        table.says_nothing(table.path().clone(), "expects nothing");
    }
    let mut add = |key: &str, expectation| {
        let path = table.path().key(key);
        test.expectations.push(Placed::new(path, expectation));
    };
    if is_asserted(table, "execution_should_be_hermetic") {
        let expectation =
            HermeticityExpectation { no_external_services: true, ..Default::default() };
        add("execution_should_be_hermetic", Expectation::Hermeticity(expectation));
    }
    if let Some(count) = table.count(&["container_should_have_executed_commands"]) {
        let assertion = Assertion::ExecutedCommands(count);
        add("container_should_have_executed_commands", Expectation::Assertion(assertion));
    }
    if is_asserted(table, "all_steps_should_succeed") {
        add("all_steps_should_succeed", Expectation::Assertion(Assertion::AllStepsSucceed));
    }
    if let Some(service) = table.string(&["service_should_start"]) {
        let assertion = Assertion::ServiceStarts(service);
        add("service_should_start", Expectation::Assertion(assertion));
    }
    let services = hosts(test);
    for placed in &mut test.expectations {
        if let Expectation::Hermeticity(hermeticity) = &mut placed.expectation
            && placed.path.0.first() == table.path().0.first()
        {
            hermeticity.services.clone_from(&services);
        }
    }
    for (name, _, path) in table.unknown() {
        unchecked(table, name, path, test);
    }
}

/// An assertion that clnrm does not know: a warning when the file is checked, and a failure when the
/// test has run.
fn unchecked(table: &Table<'_>, name: &str, path: KeyPath, test: &mut Test) {
    let message =
        format!("`{name}` cannot be checked, so the test fails: clnrm knows no such assertion");
    let problem = Problem::warning("parse/unknown-assertion", At::Key(path.clone()), message);
    let problem = problem.hint("expect spans, an exit code or output instead");
    table.problem(problem.did_you_mean(name, ASSERTIONS));
    let expectation = Expectation::Assertion(Assertion::Unknown(name.to_owned()));
    test.expectations.push(Placed::new(path, expectation));
}

/// Whether an assertion that is on or off is on; off, it would say nothing.
fn is_asserted(table: &Table<'_>, key: &'static str) -> bool {
    table.demand(&[key]) == Some(true)
}

/// What 0.6.0 had in `[expect.hermeticity]` and nothing can look at.
const OF_HERMETICITY: [&str; 4] =
    ["allow_filesystem_read", "allow_filesystem_write", "allowed_env_vars", "forbidden_syscalls"];

/// The assertions that are judged.
const ASSERTIONS: [&str; 4] = [
    "all_steps_should_succeed",
    "container_should_have_executed_commands",
    "execution_should_be_hermetic",
    "service_should_start",
];

fn span(table: &Table<'_>) -> SpanExpectation {
    let attributes = table.filled(&["attrs", "attributes"]);
    let events = table.filled(&["events"]);
    let children = table.filled(&["children"]);
    let part = |table: &Option<Table<'_>>, key| table.as_ref().map(|table| predicates(table, key));
    let names = |table: &Option<Table<'_>>, key| {
        table.as_ref().and_then(|table| table.names(&[key])).unwrap_or_default()
    };
    let span = SpanExpectation {
        name: table.string(&["name"]).unwrap_or_default(),
        kind: table.string(&["kind"]).map(|kind| kind.to_lowercase()),
        parent: table.string(&["parent"]),
        attributes_all: part(&attributes, "all").unwrap_or_default(),
        attributes_any: part(&attributes, "any").unwrap_or_default(),
        events_all: names(&events, "all"),
        events_any: names(&events, "any"),
        status: table.value(&["status"]).and_then(|(value, path)| one_status(table, value, path)),
        duration_ms: table.table(&["duration_ms"]).map(|range| {
            let read = Range { min: range.number(&["min"]), max: range.number(&["max"]) };
            range.finish_expectation();
            if read.max.is_none_or(f64::is_infinite) && read.min.is_none_or(|min| min <= 0.0) {
                range.says_nothing(range.path().clone(), "holds of every duration");
            }
            read
        }),
        count: table.value(&["count"]).and_then(|(value, path)| bounds(table, value, path)),
        exists: table.boolean(&["exists"]),
        children_any: names(&children, "any"),
        service: table.string(&["service"]),
        of_clnrm: table
            .value(&["source"])
            .is_some_and(|(value, path)| is_clnrm(table, value, path)),
    };
    let mut span = span;
    if let Some(attributes) = &attributes {
        // `attrs = { "http.method" = "GET" }` means all of them.
        for (name, value, path) in attributes.unknown() {
            if let Some(predicate) = predicate(attributes, value, path) {
                span.attributes_all.insert(name.to_owned(), predicate);
            }
        }
    }
    for inner in [events, children].iter().flatten() {
        inner.finish_expectation();
    }
    table.skip(&["description"]);
    table.finish_expectation();
    span
}

/// `source = "clnrm"`; spans of the code under test need no word.
fn is_clnrm(table: &Table<'_>, value: &Tree, path: KeyPath) -> bool {
    let named = matches!(value, Tree::String(text) if text == "clnrm");
    if !named {
        table.wrong_type(path, "\"clnrm\", for clnrm's own spans,", value);
    }
    named
}

/// `all` or `any` of the attributes: a table, or a list of `"k=v"`.
fn predicates(table: &Table<'_>, key: &'static str) -> BTreeMap<String, Predicate> {
    let mut read = BTreeMap::new();
    match table.value(&[key]) {
        Some((Tree::Table(entries), path)) => {
            if entries.is_empty() {
                table.says_nothing(path.clone(), "names no attribute");
            }
            for (name, value) in entries {
                if let Some(predicate) = predicate(table, value, path.key(name)) {
                    read.insert(name.clone(), predicate);
                }
            }
        }
        Some((Tree::Array(items), path)) => {
            if items.is_empty() {
                table.says_nothing(path.clone(), "names no attribute");
            }
            for (index, item) in items.iter().enumerate() {
                let pair = if let Tree::String(text) = item { text.split_once('=') } else { None };
                match pair {
                    Some((name, value)) => {
                        let eq = Some(Literal::String(value.to_owned()));
                        read.insert(name.to_owned(), Predicate { eq, ..Predicate::default() });
                    }
                    None => table.wrong_type(path.index(index), "a string \"key=value\"", item),
                }
            }
        }
        Some((other, path)) => table.wrong_type(path, "a table of attributes", other),
        None => {}
    }
    read
}

fn predicate(table: &Table<'_>, value: &Tree, path: KeyPath) -> Option<Predicate> {
    if !matches!(value, Tree::Table(_)) {
        return Some(Predicate { eq: Some(literal(table, value, path)?), ..Predicate::default() });
    }
    let rule = table.as_table(value, path)?;
    let one = |key| rule.value(&[key]).and_then(|(value, path)| literal(&rule, value, path));
    let bound = |key| {
        let (value, path) = rule.value(&[key])?;
        match value {
            Tree::Integer(_) | Tree::Float(_) => literal(&rule, value, path),
            other => {
                rule.wrong_type(path, "a number", other);
                None
            }
        }
    };
    let predicate = Predicate {
        eq: one("eq"),
        ne: one("ne"),
        gte: bound("gte"),
        lte: bound("lte"),
        gt: bound("gt"),
        lt: bound("lt"),
        contains: one("contains"),
        matches: rule.string(&["matches"]),
        exists: rule.boolean(&["exists"]),
        one_of: match one("one_of") {
            Some(Literal::List(values)) => Some(values),
            Some(value) => Some(vec![value]),
            None => None,
        },
    };
    rule.finish_expectation();
    if matches!(&predicate.contains, Some(Literal::String(part)) if part.is_empty()) {
        rule.says_nothing(rule.path().key("contains"), "holds of every text");
    }
    if predicate == Predicate::default() {
        let at = At::Key(rule.path().clone());
        let problem = Problem::error("parse/predicate", at, "nothing is said of this attribute");
        table.problem(problem.hint("a name with dots needs quotes: \"http.method\" = \"GET\""));
    }
    Some(predicate)
}

fn literal(table: &Table<'_>, value: &Tree, path: KeyPath) -> Option<Literal> {
    Some(match value {
        Tree::String(text) | Tree::Datetime(text) => Literal::String(text.clone()),
        Tree::Boolean(flag) => Literal::Bool(*flag),
        Tree::Integer(number) => Literal::Int(*number),
        Tree::Float(number) => Literal::Float(*number),
        Tree::Array(items) => {
            let items = items.iter().enumerate();
            let read = items.map(|(index, item)| literal(table, item, path.index(index)));
            Literal::List(read.collect::<Option<_>>()?)
        }
        Tree::Table(_) => {
            table.wrong_type(path, "a plain value", value);
            return None;
        }
    })
}

fn graph(table: &Table<'_>) -> GraphExpectation {
    let graph = GraphExpectation {
        must_include: ["must_include", "parent_child", "edges"]
            .into_iter()
            .flat_map(|key| pairs(table, key))
            .collect(),
        must_not_cross: pairs(table, "must_not_cross"),
        acyclic: table.demand(&["acyclic"]),
        max_depth: table.count(&["max_depth"]),
        must_be_connected: table.demand(&["must_be_connected"]),
        single_root: table.demand(&["single_root"]),
    };
    table.finish_expectation();
    graph
}

fn order(table: &Table<'_>) -> OrderExpectation {
    let reversed = pairs(table, "must_follow").into_iter().map(|(later, earlier)| (earlier, later));
    let must_precede = pairs(table, "must_precede").into_iter().chain(reversed).collect();
    table.finish_expectation();
    OrderExpectation { must_precede }
}

fn counts(table: &Table<'_>) -> CountsExpectation {
    let total = |keys: &[&'static str]| {
        table.value(keys).and_then(|(value, path)| bounds(table, value, path))
    };
    let by = |keys: &[&'static str]| {
        let mut read = BTreeMap::new();
        if let Some(names) = table.filled(keys) {
            for (name, value, path) in names.entries() {
                if let Some(bounds) = bounds(&names, value, path) {
                    read.insert(name.to_owned(), bounds);
                }
            }
        }
        read
    };
    let counts = CountsExpectation {
        spans_total: total(&["spans_total", "spans"]),
        events_total: total(&["events_total", "events"]),
        errors_total: total(&["errors_total", "errors"]),
        by_name: by(&["by_name"]),
        by_kind: by(&["by_kind", "spans_by_kind"])
            .into_iter()
            .map(|(kind, bounds)| (kind.to_lowercase(), bounds))
            .collect(),
        by_service: by(&["by_service"]),
    };
    table.finish_expectation();
    counts
}

/// `{gte, lte, eq, min, max}`, or a number for exactly that many.
fn bounds(table: &Table<'_>, value: &Tree, path: KeyPath) -> Option<Bounds> {
    if let Tree::Integer(number) = value {
        return match u64::try_from(*number) {
            Ok(number) => Some(Bounds { exactly: Some(number), ..Bounds::default() }),
            Err(_) => {
                let message = format!("{number} is less than 0");
                table.problem(Problem::error("parse/range", At::Key(path), message));
                None
            }
        };
    }
    let rule = table.as_table(value, path)?;
    let larger = |a: Option<u64>, b: Option<u64>| a.max(b);
    let smaller = |a: Option<u64>, b: Option<u64>| match (a, b) {
        (Some(a), Some(b)) => Some(a.min(b)),
        (a, b) => a.or(b),
    };
    let bounds = Bounds {
        at_least: larger(rule.count(&["gte"]), rule.count(&["min"])),
        at_most: smaller(rule.count(&["lte"]), rule.count(&["max"])),
        exactly: rule.count(&["eq"]),
    };
    rule.finish_expectation();
    if bounds == (Bounds { at_least: Some(0), ..Bounds::default() }) {
        rule.says_nothing(rule.path().clone(), "holds of every number");
    }
    Some(bounds)
}

fn status(table: &Table<'_>) -> StatusExpectation {
    let mut by_name = BTreeMap::new();
    if let Some(names) = table.filled(&["by_name"]) {
        for (name, value, path) in names.entries() {
            if let Some(status) = one_status(&names, value, path) {
                by_name.insert(name.to_owned(), status);
            }
        }
    }
    let all = table.value(&["all"]).and_then(|(value, path)| one_status(table, value, path));
    if let Some((_, path)) = table.value(&["exit_code"]) {
        table.misplaced(path, "spans have no `exit_code`", OF_STATUS);
    }
    table.finish_expectation();
    StatusExpectation { all, by_name }
}

fn one_status(table: &Table<'_>, value: &Tree, path: KeyPath) -> Option<ExpectedStatus> {
    let Tree::String(text) = value else {
        table.wrong_type(path, "a status", value);
        return None;
    };
    let status = match text.to_lowercase().as_str() {
        "ok" => ExpectedStatus::Ok,
        "error" => ExpectedStatus::Error,
        "unset" => ExpectedStatus::Unset,
        "explicit_ok" => ExpectedStatus::ExplicitOk,
        _ => {
            let message = format!("`{text}` is no status");
            let problem = Problem::error("parse/status", At::Key(path), message);
            table.problem(problem.hint("one of ok, error, unset, explicit_ok"));
            return None;
        }
    };
    Some(status)
}

/// A list of pairs of names.
fn pairs(table: &Table<'_>, key: &'static str) -> Vec<(String, String)> {
    let Some((value, path)) = table.value(&[key]) else { return Vec::new() };
    let Tree::Array(items) = value else {
        table.wrong_type(path, "a list of pairs", value);
        return Vec::new();
    };
    if items.is_empty() {
        table.says_nothing(path.clone(), "names no pair");
    }
    let read = |(index, item): (usize, &Tree)| match item {
        // An older way to write it.
        Tree::Table(_) => {
            let pair = table.as_table(item, path.index(index))?;
            let (parent, child) = (pair.string(&["parent"]), pair.string(&["child"]));
            pair.finish_expectation();
            let both = parent.zip(child);
            if both.is_none() {
                table.wrong_type(path.index(index), "a pair of names", item);
            }
            both
        }
        Tree::Array(pair) => match &pair[..] {
            [Tree::String(first), Tree::String(second)] => Some((first.clone(), second.clone())),
            _ => {
                table.wrong_type(path.index(index), "a pair of names", item);
                None
            }
        },
        _ => {
            table.wrong_type(path.index(index), "a pair of names", item);
            None
        }
    };
    items.iter().enumerate().filter_map(read).collect()
}
