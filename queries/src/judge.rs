//! Judges spans against expectations: one pure function of a trace set and an expectation.

mod absence;
mod assertion;
mod attribute;
mod counts;
mod graph;
mod hermeticity;
mod hosts;
mod names;
mod number;
#[cfg(test)]
mod oracle;
mod order;
mod span;
mod status;
mod traces;
mod window;

use std::collections::BTreeSet;

use crate::expectation::{
    About, Expectation, Failure, GraphExpectation, Range, SpanExpectation, Verdict, Warning,
    WindowExpectation,
};
pub(crate) use absence::fail_over_gaps;
use names::Pattern;
pub(crate) use names::invalid_glob;
pub(crate) use number::Number;
use traces::Index;
#[cfg(test)]
pub(crate) use traces::table;

pub(crate) use traces::TraceSet;

const NO_SPANS: &str = "no spans were collected from the code under test; it may not export OTLP, \
                        or not to the address in OTEL_EXPORTER_OTLP_ENDPOINT";

/// Judges one expectation.
///
/// Depends on nothing but its arguments, and neither on the order of the spans nor on their ids.
pub(crate) fn judge(traces: &TraceSet, expectation: &Expectation) -> Verdict {
    let index = Index::new(traces);
    let patterns: Vec<_> = names(expectation).into_iter().map(Pattern::new).collect();
    let looked_at = index.looked_at(&patterns);
    let mut verdict = Verdict { looked_at, failures: Vec::new(), warnings: Vec::new() };
    if nothing_to_judge(&index, expectation, &patterns) {
        verdict.looked_at = 0;
        verdict.fail("", NO_SPANS, None);
        return verdict;
    }
    match expectation {
        Expectation::Span(expected) => span::judge(&index, expected, &mut verdict),
        Expectation::Graph(expected) => graph::judge(&index, expected, &mut verdict),
        Expectation::Order(expected) => order::judge(&index, expected, &mut verdict),
        Expectation::Counts(expected) => counts::judge(&index, expected, &mut verdict),
        Expectation::Status(expected) => status::judge(&index, expected, &mut verdict),
        Expectation::Window(expected) => window::judge(&index, expected, &mut verdict),
        Expectation::Hermeticity(expected) => hermeticity::judge(&index, expected, &mut verdict),
        Expectation::Assertion(expected) => assertion::judge(&index, expected, &mut verdict),
    }
    verdict
}

/// Whether `expectation` names a lifecycle span: `clnrm.*`, an alias `container.*`, or a name in
/// `lifecycle`.
///
/// If one expectation of a file does, all of them are judged with `lifecycle_counts`.
pub(crate) fn names_lifecycle(expectation: &Expectation, lifecycle: &BTreeSet<String>) -> bool {
    names(expectation)
        .into_iter()
        .any(|name| lifecycle.contains(name) || Pattern::new(name).is_reserved())
}

impl Verdict {
    fn warn(&mut self, about: About, told: impl Into<String>) {
        self.warnings.push(Warning { about, told: told.into() });
    }

    fn fail(
        &mut self,
        rule: impl Into<String>,
        message: impl Into<String>,
        nearest: Option<String>,
    ) {
        self.failures.push(Failure { rule: rule.into(), message: message.into(), nearest });
    }
}

/// Whether the spans that `expectation` looks at are an empty set, over which anything would hold.
///
/// Without spans of the code under test, lifecycle spans are enough only where all that is looked
/// at are lifecycle spans.
fn nothing_to_judge(
    index: &Index<'_>,
    expectation: &Expectation,
    patterns: &[Pattern<'_>],
) -> bool {
    if index.has_code_spans() {
        return false;
    }
    match expectation {
        Expectation::Span(SpanExpectation { of_clnrm: true, .. }) => return false,
        Expectation::Assertion(_) => return false,
        // What the kernel saw needs no spans.
        Expectation::Hermeticity(hermeticity) => {
            return !hermeticity.resource_must_match.is_empty()
                || !hermeticity.forbid_keys.is_empty();
        }
        _ => {}
    }
    let looks_at_all = looks_at_all(expectation);
    if looks_at_all {
        return true;
    }
    match expectation {
        // A glob without spans is a warning here, so it need not find any as long as others do.
        Expectation::Status(_) => !patterns.iter().any(|pattern| index.looks_at_lifecycle(pattern)),
        _ if patterns.is_empty() => true,
        _ => !patterns.iter().all(|pattern| index.looks_at_lifecycle(pattern)),
    }
}

/// Whether some rule looks at all spans, whatever their names.
fn looks_at_all(expectation: &Expectation) -> bool {
    match expectation {
        Expectation::Span(_) | Expectation::Order(_) | Expectation::Assertion(_) => false,
        Expectation::Hermeticity(_) => true,
        Expectation::Window(window) => {
            let bounded = window.duration_ms != Range::default() || window.min_spans.is_some();
            bounded
                && (window.start.is_none() || window.end.is_none() || window.min_spans.is_some())
        }
        Expectation::Graph(graph) => {
            let shapes = [graph.acyclic, graph.must_be_connected, graph.single_root];
            shapes.contains(&Some(true)) || graph.max_depth.is_some()
        }
        Expectation::Counts(counts) => {
            let totals = [counts.spans_total, counts.events_total, counts.errors_total];
            totals.iter().any(Option::is_some)
                || !counts.by_kind.is_empty()
                || !counts.by_service.is_empty()
        }
        Expectation::Status(status) => status.all.is_some(),
    }
}

/// The span names and globs that `expectation` mentions.
pub(crate) fn names(expectation: &Expectation) -> Vec<&str> {
    match expectation {
        Expectation::Span(SpanExpectation { name, parent, children_any, .. }) => {
            [name].into_iter().chain(parent).chain(children_any).map(String::as_str).collect()
        }
        Expectation::Graph(GraphExpectation { must_include, must_not_cross, .. }) => {
            both(must_include.iter().chain(must_not_cross))
        }
        Expectation::Order(order) => both(order.must_precede.iter()),
        Expectation::Counts(counts) => counts.by_name.keys().map(String::as_str).collect(),
        Expectation::Status(status) => status.by_name.keys().map(String::as_str).collect(),
        Expectation::Window(WindowExpectation { outer, contains, start, end, .. }) => {
            let names = outer.iter().chain(contains).chain(start).chain(end);
            names.map(String::as_str).collect()
        }
        Expectation::Hermeticity(_) | Expectation::Assertion(_) => Vec::new(),
    }
}

fn both<'a>(pairs: impl Iterator<Item = &'a (String, String)>) -> Vec<&'a str> {
    pairs.flat_map(|(a, b)| [a.as_str(), b.as_str()]).collect()
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::traces::table::traces;
    use super::*;
    use crate::expectation::{
        Assertion, Bounds, CountsExpectation, ExpectedStatus, HermeticityExpectation,
        OrderExpectation, StatusExpectation,
    };

    #[test]
    fn lifecycle_names_are_known() {
        let lifecycle = BTreeSet::from(["db.start".to_owned(), "login".to_owned()]);
        let names = |first: &str, second: &str| {
            let must_precede = vec![(first.to_owned(), second.to_owned())];
            names_lifecycle(&Expectation::Order(OrderExpectation { must_precede }), &lifecycle)
        };
        for name in
            ["login", "db.start", "clnrm.step:*", "clnrm.x", "container.stop", "container.*"]
        {
            assert!(names("a", name), "{name}");
        }
        for name in ["*", "db.*", "log*", "container.image", "clnrm", "logins"] {
            assert!(!names("a", name), "{name}");
        }
    }

    /// A span by its name, place of its parent, start, duration and further looks.
    type Row = (&'static str, Option<usize>, u8, u8, u8);

    fn rows() -> impl Strategy<Value = Vec<Row>> {
        let names = prop::sample::select(vec!["a", "b", "c", "a.start"]);
        let row = (names, prop::option::of(0..8_usize), 0..3_u8, 0..3_u8, 0..16_u8);
        prop::collection::vec(row, 0..10)
    }

    /// The rows as spans, each with the id that `ids` has for its place.
    fn set(rows: &[Row], ids: &[usize], lifecycle_counts: bool) -> TraceSet {
        let id = |place: usize| format!("{:016x}", ids[place] + 1);
        let span = |(place, (name, parent, start, duration, looks)): (usize, &Row)| {
            let kind = if looks & 1 == 0 { "server" } else { "client" };
            let status = if looks & 2 == 0 { "ok" } else { "error" };
            let event = if looks & 4 == 0 { "" } else { "!x" };
            let source = if looks & 8 == 0 || *name == "a" { "" } else { "lifecycle" };
            let line =
                format!("{name} {start}..{} {kind} {status} {event} {source}", start + duration);
            let mut span = traces(&line).spans.remove(0);
            span.span_id = id(place);
            span.parent_id = parent.filter(|parent| *parent < rows.len()).map(id);
            span
        };
        TraceSet {
            spans: rows.iter().enumerate().map(span).collect(),
            lifecycle_counts,
            attempts: Some(0),
            ..TraceSet::default()
        }
    }

    fn expectations() -> Vec<Expectation> {
        let pairs = || {
            let pairs = [("a", "b"), ("b", "c"), ("*", "a"), ("a", "container.*"), ("a", "a")];
            pairs.map(|(a, b)| (a.to_owned(), b.to_owned())).to_vec()
        };
        let span = SpanExpectation {
            name: "*".to_owned(),
            kind: Some("server".to_owned()),
            parent: Some("a".to_owned()),
            status: Some(ExpectedStatus::Ok),
            children_any: vec!["b".to_owned()],
            ..SpanExpectation::default()
        };
        let zero = Bounds { exactly: Some(0), ..Bounds::default() };
        let none = Some(zero);
        vec![
            Expectation::Span(SpanExpectation { count: none, ..span.clone() }),
            Expectation::Span(SpanExpectation { exists: Some(false), ..span.clone() }),
            Expectation::Span(span),
            Expectation::Graph(GraphExpectation {
                must_include: pairs(),
                must_not_cross: pairs(),
                acyclic: Some(true),
                max_depth: Some(1),
                must_be_connected: Some(true),
                single_root: Some(true),
            }),
            Expectation::Order(OrderExpectation { must_precede: pairs() }),
            Expectation::Counts(CountsExpectation {
                spans_total: none,
                events_total: none,
                errors_total: none,
                by_name: [("b".to_owned(), zero)].into(),
                by_kind: [("server".to_owned(), zero)].into(),
                ..CountsExpectation::default()
            }),
            Expectation::Status(StatusExpectation {
                all: Some(ExpectedStatus::Ok),
                by_name: [("b".to_owned(), ExpectedStatus::Error)].into(),
            }),
            Expectation::Window(WindowExpectation {
                outer: Some("a".to_owned()),
                contains: vec!["b".to_owned(), "*".to_owned()],
                min_spans: Some(4),
                duration_ms: Range { min: Some(2.0), max: Some(3.0) },
                ..WindowExpectation::default()
            }),
            Expectation::Hermeticity(HermeticityExpectation {
                no_external_services: true,
                forbid_keys: vec!["*".to_owned()],
                ..HermeticityExpectation::default()
            }),
            Expectation::Assertion(Assertion::ExecutedCommands(1)),
        ]
    }

    proptest! {
        #[test]
        fn neither_order_nor_ids_matter(
            rows in rows(),
            ids in Just((0..10).collect::<Vec<usize>>()).prop_shuffle(),
            lifecycle_counts: bool,
        ) {
            let one = set(&rows, &(0..10).collect::<Vec<_>>(), lifecycle_counts);
            let mut other = set(&rows, &ids, lifecycle_counts);
            other.spans.iter_mut().for_each(|span| span.trace_id = "2".repeat(32));
            // As good a permutation as any, and one that changes with `ids`.
            other.spans.sort_by(|a, b| a.span_id.cmp(&b.span_id));
            for expectation in expectations() {
                prop_assert_eq!(judge(&one, &expectation), judge(&other, &expectation));
            }
        }

        #[test]
        fn counts_of_names_add_up_to_the_total(rows in rows()) {
            let traces = set(&rows, &(0..10).collect::<Vec<_>>(), true);
            prop_assume!(Index::new(&traces).has_code_spans());
            let found = |expected: &dyn Fn(Bounds) -> CountsExpectation| {
                let holds = |count: &u64| {
                    let bounds = Bounds { exactly: Some(*count), ..Bounds::default() };
                    judge(&traces, &Expectation::Counts(expected(bounds))).failures.is_empty()
                };
                (0..=10).find(holds)
            };
            let total = found(&|bounds| CountsExpectation {
                spans_total: Some(bounds),
                ..CountsExpectation::default()
            });
            let by_name = ["a", "b", "c", "a.start"].map(|name| {
                found(&|bounds| CountsExpectation {
                    by_name: [(name.to_owned(), bounds)].into(),
                    ..CountsExpectation::default()
                })
            });
            prop_assert_eq!(by_name.into_iter().sum::<Option<u64>>(), total);
            prop_assert_eq!(total, Some(rows.len() as u64));
        }
    }
}
