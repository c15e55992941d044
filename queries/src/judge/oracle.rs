//! An answer key for the judge: every rule once more as `docs/format.md` states it, without lookups or
//! shortcuts, over random traces and expectations. The seed is fixed, so every run tries the same.

mod generate;
mod rules;
mod values;

use std::collections::{BTreeMap, BTreeSet};

use clnrm_backends::Span;

use self::generate::Random;
use super::{fail_over_gaps, judge};
use crate::expectation::Expectation;

/// Pairs of a trace set and an expectation that one run tries.
const PAIRS: u64 = 10_000;

/// How many pairs held, failed, and failed for missing evidence alone.
#[derive(Default)]
struct Totals {
    held: u64,
    failed: u64,
    over_gaps: u64,
}

#[test]
fn the_judge_and_the_answer_key_agree() {
    let mut totals: BTreeMap<&str, Totals> = BTreeMap::new();
    for seed in 0..PAIRS {
        let mut random = Random::new(seed);
        let traces = random.traces();
        let expectation = random.expectation();
        let mut verdict = judge(&traces, &expectation);
        let failing = |verdict: &crate::expectation::Verdict| {
            verdict.failures.iter().map(|failure| failure.rule.clone()).collect::<BTreeSet<_>>()
        };
        let (whole, expected) = (failing(&verdict), rules::failing(&traces, &expectation));
        assert_eq!(whole, expected, "pair {seed}: {expectation:?} over {}", told(&traces.spans));
        fail_over_gaps(&traces, &expectation, &mut verdict);
        let mut missing = rules::failing_over_gaps(&traces, &expectation);
        missing.extend(expected);
        let all = failing(&verdict);
        assert_eq!(all, missing, "pair {seed}: {expectation:?} over {:?}", traces.gaps);
        let total = totals.entry(kind(&expectation)).or_default();
        total.held += u64::from(all.is_empty());
        total.failed += u64::from(!whole.is_empty());
        total.over_gaps += u64::from(whole.is_empty() && !all.is_empty());
    }
    for (kind, Totals { held, failed, over_gaps }) in &totals {
        println!("{kind}: {held} held, {failed} failed, {over_gaps} over missing evidence");
    }
    let all: u64 = totals.values().map(|it| it.held + it.failed + it.over_gaps).sum();
    println!("{all} verdicts agree");
    assert_eq!(all, PAIRS);
    for (kind, total) in totals {
        assert!(total.held >= 100 && total.failed >= 100, "{kind} is tried both ways");
    }
}

/// One span a line.
fn told(spans: &[Span]) -> String {
    spans.iter().map(|span| format!("\n{span:?}")).collect()
}

fn kind(expectation: &Expectation) -> &'static str {
    match expectation {
        Expectation::Span(_) => "span",
        Expectation::Graph(_) => "graph",
        Expectation::Order(_) => "order",
        Expectation::Counts(_) => "counts",
        Expectation::Status(_) => "status",
        Expectation::Window(_) => "window",
        Expectation::Hermeticity(_) => "hermeticity",
        Expectation::Assertion(_) => "assertion",
    }
}
