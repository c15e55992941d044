//! Verdicts: one memo an expectation, so that editing one judges one.

use clnrm_backends::Span;
use clnrm_engine::{Cx, Query, Unit};

use crate::expectation::{Expectation, Verdict};
use crate::judge::{TraceSet, fail_over_gaps, judge};
use crate::model::MODEL;
use crate::render::{cell_of, number_of, numbered};
use crate::traces::TRACES;

/// An expectation, the scenario whose spans it looks at, and whether it is judged although evidence is
/// missing; the unit's part is its index.
///
/// It has no place in the file, so edits elsewhere in the file end here.
pub(crate) static EXPECTATION: Query<(Option<usize>, Expectation, bool)> =
    Query::new("expectation", 2, expectation);

/// The verdict on an expectation; `None` as long as some run is not known.
pub(crate) static VERDICT: Query<Option<Verdict>> = Query::new("verdict", 2, verdict);

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

fn expectation(cx: &Cx<'_>, unit: &Unit) -> (Option<usize>, Expectation, bool) {
    let model = cx.get(&MODEL, &cell_of(unit));
    let test = model.as_ref().as_ref().expect("expectations are asked for by files that have them");
    let index = number_of(unit).expect("expectations are asked for by number");
    let placed = &test.expectations[index];
    (placed.scenario, placed.expectation.clone(), placed.allow_incomplete)
}

fn verdict(cx: &Cx<'_>, unit: &Unit) -> Option<Verdict> {
    let expectation = cx.get(&EXPECTATION, unit);
    let (scenario, expectation, allow_incomplete) = expectation.as_ref();
    let test = cell_of(unit);
    let judged = scenario.map_or_else(|| test.clone(), |index| numbered(&test, index));
    let traces = cx.get(&TRACES, &judged);
    traces.as_ref().as_ref().map(|traces| {
        let mut verdict = judge(traces, expectation);
        if !allow_incomplete {
            fail_over_gaps(traces, expectation, &mut verdict);
        }
        verdict
    })
}
