//! `[otel_validation]`

use std::collections::BTreeMap;

use super::{bounds, counts, graph, hermeticity, hosts, order, pairs, predicates, status};
use crate::diagnostic::{At, KeyPath, Problem};
use crate::document::Tree;
use crate::expectation::{Expectation, GraphExpectation, Predicate, Range, SpanExpectation};
use crate::model::read::Table;
use crate::model::{Placed, Test};

/// `[otel_validation]`, an older way to say some of what `[expect]` says.
pub(super) fn read(table: &Table<'_>, test: &mut Test) {
    let enabled = table.boolean(&["enabled"]).unwrap_or(true);
    let spans = table.boolean(&["validate_spans"]).unwrap_or(true);
    let traces = table.boolean(&["validate_traces"]).unwrap_or(true);
    let mut found = Vec::new();
    for table in table.tables(&["expected_spans"]) {
        let (span, required) = expected_span(&table);
        if spans && required {
            found.push((table.path().clone(), Expectation::Span(span)));
        }
    }
    for table in table.tables(&["expected_traces"]) {
        let expected = expected_trace(&table);
        if traces {
            found.extend(expected);
        }
    }
    for (key, read) in [
        ("expect_counts", (|table| Expectation::Counts(counts(table))) as fn(&Table<'_>) -> _),
        ("expect_order", |table| Expectation::Order(order(table))),
        ("expect_status", |table| Expectation::Status(status(table))),
        ("expect_graph", |table| Expectation::Graph(graph(table))),
    ] {
        if let Some(table) = table.table(&[key]) {
            found.push((table.path().clone(), read(&table)));
        }
    }
    if let Some(table) = table.table(&["expect_hermeticity"]) {
        let expectation = Expectation::Hermeticity(hermeticity(&table, hosts(test)));
        table.finish_expectation();
        found.push((table.path().clone(), expectation));
    }
    table.finish_expectation();
    if enabled && found.is_empty() {
        table.says_nothing(table.path().clone(), "expects nothing");
    }
    if enabled {
        let placed = |(path, expectation)| Placed::new(path, expectation);
        test.expectations.extend(found.into_iter().map(placed));
    }
}

/// One of `expected_spans`, and whether it must be there.
fn expected_span(table: &Table<'_>) -> (SpanExpectation, bool) {
    // Older files write a least duration of 0 where they mean none.
    let min = table.number(&["min_duration_ms"]).filter(|min| *min != 0.0);
    let duration = Range { min, max: table.number(&["max_duration_ms"]) };
    let span = SpanExpectation {
        name: table.string(&["name"]).unwrap_or_default(),
        kind: table.string(&["kind"]).map(|kind| kind.to_lowercase()),
        parent: table.string(&["parent"]),
        attributes_all: predicates(table, "attributes"),
        count: table.value(&["count"]).and_then(|(value, path)| bounds(table, value, path)),
        duration_ms: (duration != Range::default()).then_some(duration),
        ..Default::default()
    };
    let mut span = span;
    require_attributes(table, &mut span.attributes_all);
    let required = table.boolean(&["required"]).unwrap_or(true);
    let limited = ["count", "max_duration_ms", "parent", "required_attributes"];
    if !required && (min.is_some() || limited.iter().any(|key| table.has(key))) {
        table.says_nothing(table.path().clone(), "expects nothing when it is not required");
    }
    table.finish_expectation();
    (span, required)
}

/// `required_attributes`: names of attributes that must be there, or attributes with their values.
fn require_attributes(table: &Table<'_>, all: &mut BTreeMap<String, Predicate>) {
    const KEY: &str = "required_attributes";
    if let Some((Tree::Table(_), path)) = table.value(&[KEY]) {
        for (name, predicate) in predicates(table, KEY) {
            if all.contains_key(&name) {
                let message = format!("`attributes` has `{name}` too");
                let at = At::Key(path.key(&name));
                table.problem(Problem::error("parse/twice", at, message).hint("keep one of them"));
            }
            all.insert(name, predicate);
        }
        return;
    }
    for name in table.names(&[KEY]).unwrap_or_default() {
        // A value that is expected is one that must be there.
        let there = Predicate { exists: Some(true), ..Predicate::default() };
        all.entry(name).or_insert(there);
    }
}

/// One of `expected_traces`.
fn expected_trace(table: &Table<'_>) -> Vec<(KeyPath, Expectation)> {
    let names = table.names(&["span_names"]).unwrap_or_default();
    let complete = table.boolean(&["complete"]).unwrap_or(true);
    let must_include = pairs(table, "parent_child");
    table.finish_expectation();
    let names = match (complete, names.len()) {
        (true, _) | (false, 0 | 1) => names,
        // One of them is enough.
        _ => vec![format!("{{{}}}", names.join(","))],
    };
    let path = table.path();
    let span = |name| Expectation::Span(SpanExpectation { name, ..Default::default() });
    let spans = names.into_iter().map(|name| (path.clone(), span(name)));
    let graph = GraphExpectation { must_include, ..Default::default() };
    let graph =
        (graph != GraphExpectation::default()).then(|| (path.clone(), Expectation::Graph(graph)));
    spans.chain(graph).collect()
}
