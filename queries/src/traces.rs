//! The trace sets expectations are judged on: a scenario's, and the union of a test's.

use std::collections::BTreeSet;
use std::sync::Arc;

use clnrm_backends::{
    Attributes, Dropped, Outcome, Source, Span, SpanKind, Status, StatusCode, Value,
};
use clnrm_engine::{Cx, Query, Unit};

use crate::gaps::GAPS;
use crate::judge::{TraceSet, names_lifecycle};
use crate::model::{MODEL, Scenario, Test};
use crate::outcome::{OUTCOME, Run};
use crate::render::{cell_of, number_of, numbered};
use crate::steps::steps_succeeded;

/// The spans of a scenario, or with an empty part those of the whole test, laid end to end in the
/// order of the file; `None` as long as some run of it is not known.
pub(crate) static TRACES: Query<Option<TraceSet>> = Query::new("traces", 4, traces);

/// Whether some expectation of a test names one of clnrm's own spans.
pub(crate) static LIFECYCLE_NAMED: Query<bool> = Query::new("lifecycle-named", 1, lifecycle_named);

fn traces(cx: &Cx<'_>, unit: &Unit) -> Option<TraceSet> {
    let file = cell_of(unit);
    let lifecycle_counts = *cx.get(&LIFECYCLE_NAMED, &file);
    let model = cx.get(&MODEL, &file);
    let test = model.as_ref().as_ref().ok()?;
    let wanted: Vec<usize> = match number_of(unit) {
        Some(index) => vec![index],
        None => (0..test.scenarios.len()).collect(),
    };
    let (mut timeline, mut attempts) = (Timeline::default(), Some(0));
    let (mut found, mut outside, mut own_addresses) = (Vec::new(), Vec::new(), Vec::new());
    for index in wanted {
        let run = cx.get(&OUTCOME, &numbered(&file, index));
        let Run::Ran(_, outcome) = run.as_ref() else { return None };
        attempts = attempts.zip(outcome.attempts).map(|(all, more)| all + more);
        let scenario = &test.scenarios[index];
        for gap in cx.get(&GAPS, &numbered(&file, index)).iter() {
            if !found.contains(gap) {
                found.push(gap.clone());
            }
        }
        outside.extend(outcome.outside.iter().cloned());
        own_addresses.extend(&outcome.addresses);
        timeline.append(scenario, outcome);
    }
    let spans = timeline.end(&test.name);
    let gaps = found;
    Some(TraceSet {
        spans,
        lifecycle_counts,
        attempts,
        outside,
        own_addresses,
        gaps,
        ..TraceSet::default()
    })
}

fn lifecycle_named(cx: &Cx<'_>, unit: &Unit) -> bool {
    let model = cx.get(&MODEL, unit);
    let Ok(test) = model.as_ref() else { return false };
    let names = lifecycle_names(test);
    test.expectations.iter().any(|placed| names_lifecycle(&placed.expectation, &names))
}

/// The names of the spans clnrm makes, as far as they are not its own namespace.
fn lifecycle_names(test: &Test) -> BTreeSet<String> {
    let services = test.services.iter().map(|service| service.id.as_str()).chain(["default"]);
    services
        .flat_map(|service| ["start", "exec", "stop"].map(|event| format!("{service}.{event}")))
        .collect()
}

/// Id of the trace that `clnrm.run` and `clnrm.test` belong to; runs have random ones. Ids of the
/// code under test are hex digits, and so are never these.
const TEST_TRACE: &str = "trace of clnrm.test";
const RUN_SPAN: &str = "span of clnrm.run";
const TEST_SPAN: &str = "span of clnrm.test";

/// Runs laid end to end.
#[derive(Default)]
struct Timeline {
    spans: Vec<Span>,
    at_ns: i64,
    failed: bool,
    /// How many runs there are so far.
    runs: usize,
}

impl Timeline {
    fn append(&mut self, scenario: &Scenario, outcome: &Outcome) {
        let good = steps_succeeded(scenario, outcome);
        self.failed |= !good;
        // Spans of the code under test say what they like about when they were; ours do not.
        let offset = self.at_ns;
        let own_trace = outcome.spans.iter().find(|span| is_scenario(span));
        let own_trace = own_trace.map(|span| span.trace_id.clone()).unwrap_or_default();
        let of_clnrm = |span: &&Span| span.source == Source::Lifecycle;
        let own: BTreeSet<&str> =
            outcome.spans.iter().filter(of_clnrm).map(|span| span.span_id.as_str()).collect();
        let run = self.runs;
        self.runs += 1;
        for span in &outcome.spans {
            let mut span = moved(span, offset);
            if span.source == Source::Otlp && run > 0 {
                // Two runs may use the same ids: a span has its parent in its own run.
                let parent = span.parent_id.take();
                span.parent_id = parent.map(|id| match own.contains(id.as_str()) {
                    true => id,
                    false => format!("{id} of run {run}"),
                });
                span.span_id = format!("{} of run {run}", span.span_id);
            }
            if span.trace_id == own_trace {
                // All runs of a test are parts of one trace.
                TEST_TRACE.clone_into(&mut span.trace_id);
            }
            if is_scenario(&span) {
                span.name = format!("clnrm.scenario.{}", scenario.name);
                span.parent_id = Some(TEST_SPAN.to_owned());
                if !good {
                    span.status.code = StatusCode::Error;
                }
            }
            if span.source == Source::Lifecycle {
                self.at_ns = self.at_ns.max(span.end_ns);
            }
            self.spans.push(span);
        }
    }

    /// All spans, with those of the test as a whole.
    fn end(mut self, test: &str) -> Vec<Span> {
        let result = if self.failed { "fail" } else { "pass" };
        let code = if self.failed { StatusCode::Error } else { StatusCode::Ok };
        let whole =
            |name: &str, span_id: &str, parent: Option<&str>, key: &str, value: &str| Span {
                trace_id: TEST_TRACE.to_owned(),
                span_id: span_id.to_owned(),
                parent_id: parent.map(str::to_owned),
                name: name.to_owned(),
                kind: SpanKind::Internal,
                start_ns: 0,
                end_ns: self.at_ns,
                status: Status { code, message: String::new() },
                attributes: Attributes::from([(key.to_owned(), Value::String(value.to_owned()))]),
                resource: Arc::default(),
                scope: "clnrm".to_owned(),
                events: Vec::new(),
                dropped: Dropped::default(),
                source: Source::Lifecycle,
            };
        let run = whole("clnrm.run", RUN_SPAN, None, "result", result);
        let test = whole("clnrm.test", TEST_SPAN, Some(RUN_SPAN), "test.name", test);
        self.spans.extend([run, test]);
        self.spans.sort_by(|a, b| {
            (a.start_ns, a.end_ns, &a.name, &a.trace_id, &a.span_id).cmp(&(
                b.start_ns,
                b.end_ns,
                &b.name,
                &b.trace_id,
                &b.span_id,
            ))
        });
        self.spans
    }
}

/// Whether this is the root of a run.
fn is_scenario(span: &Span) -> bool {
    span.source == Source::Lifecycle && span.name == "clnrm.scenario"
}

fn moved(span: &Span, offset: i64) -> Span {
    let mut span = span.clone();
    span.start_ns = span.start_ns.saturating_add(offset);
    span.end_ns = span.end_ns.saturating_add(offset);
    for event in &mut span.events {
        event.at_ns = event.at_ns.saturating_add(offset);
    }
    span
}

#[cfg(test)]
mod tests {
    use super::*;

    fn span(source: Source, name: &str, id: &str, parent: Option<&str>) -> Span {
        Span {
            trace_id: "a".repeat(32),
            span_id: id.to_owned(),
            parent_id: parent.map(str::to_owned),
            name: name.to_owned(),
            kind: SpanKind::Internal,
            start_ns: 0,
            end_ns: 1,
            status: Status { code: StatusCode::Unset, message: String::new() },
            attributes: Attributes::new(),
            resource: Arc::default(),
            scope: String::new(),
            events: Vec::new(),
            dropped: Dropped::default(),
            source,
        }
    }

    /// Small numbers are ids as good as any.
    #[test]
    fn ids_of_the_code_under_test_are_never_ours() {
        let root = span(Source::Lifecycle, "clnrm.scenario", &"b".repeat(16), None);
        let mut outcome = crate::judge::table::outcome(vec![root]);
        let id = |number: usize| format!("{number:016x}");
        for number in 0..20_usize {
            let parent = number.checked_sub(1).map(id);
            let name = format!("own {number}");
            outcome.spans.push(span(Source::Otlp, &name, &id(number), parent.as_deref()));
        }
        let test = crate::model::read_text(
            "[meta]\nname = \"t\"\n[[scenario]]\nname = \"s\"\nrun = \"true\"\n",
        );
        let mut timeline = Timeline::default();
        timeline.append(&test.scenarios[0], &outcome);
        let spans = timeline.end("t");
        let mut ids: Vec<&str> = spans.iter().map(|span| span.span_id.as_str()).collect();
        ids.sort_unstable();
        ids.dedup();
        assert_eq!(ids.len(), spans.len(), "no two spans share an id");
    }
}
