//! Verdicts: one memo an expectation, so that editing one judges one.

use clnrm_backends::Span;
use clnrm_engine::{Cx, Query, Unit};

use crate::expectation::{Expectation, Verdict};
use crate::judge::{TraceSet, judge};
use crate::model::MODEL;
use crate::render::{cell_of, number_of, numbered};
use crate::traces::TRACES;

/// An expectation and the scenario whose spans it looks at; the unit's part is its index.
///
/// It has no place in the file, so edits elsewhere in the file end here.
pub(crate) static EXPECTATION: Query<(Option<usize>, Expectation)> =
    Query::new("expectation", 1, expectation);

/// The verdict on an expectation; `None` as long as some run is not known.
pub(crate) static VERDICT: Query<Option<Verdict>> = Query::new("verdict", 1, verdict);

/// Judges spans against the expectations of a test file, each by itself, as if all spans were of the
/// code under test; gives what each is called, and whether it holds.
pub fn judged(text: &str, spans: Vec<Span>) -> Vec<(String, bool)> {
    let test = crate::model::read_text(text);
    let traces = TraceSet { spans, attempts: Some(0), ..TraceSet::default() };
    let judged = test.expectations.iter().map(|placed| {
        let verdict = judge(&traces, &placed.expectation);
        (placed.path.to_string(), verdict.failures.is_empty())
    });
    judged.collect()
}

fn expectation(cx: &Cx<'_>, unit: &Unit) -> (Option<usize>, Expectation) {
    let model = cx.get(&MODEL, &cell_of(unit));
    let test = model.as_ref().as_ref().expect("expectations are asked for by files that have them");
    let index = number_of(unit).expect("expectations are asked for by number");
    let placed = &test.expectations[index];
    (placed.scenario, placed.expectation.clone())
}

fn verdict(cx: &Cx<'_>, unit: &Unit) -> Option<Verdict> {
    let expectation = cx.get(&EXPECTATION, unit);
    let (scenario, expectation) = expectation.as_ref();
    let test = cell_of(unit);
    let judged = scenario.map_or_else(|| test.clone(), |index| numbered(&test, index));
    let traces = cx.get(&TRACES, &judged);
    traces.as_ref().as_ref().map(|traces| judge(traces, expectation))
}
