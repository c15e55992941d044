//! Signs that spans of a run are missing, or parts of spans: nothing is absent from evidence that is
//! not whole.

use std::collections::{BTreeMap, HashSet};

use clnrm_backends::{Outcome, Source, Span};
use serde::{Deserialize, Serialize};

use crate::model::{Scenario, Test};

/// How many names are listed before the rest is only counted.
const LISTED: usize = 5;

/// Something that is known to be missing.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub(crate) struct Gap {
    /// What.
    pub missing: Missing,
    /// By which sign, as a sentence.
    pub told: String,
}

/// What evidence lacks.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) enum Missing {
    /// Whole spans, or nobody knows what.
    Spans,
    /// Attributes of spans.
    Attributes,
    /// Events of spans.
    Events,
    /// Something no expectation looks at.
    Links,
}

/// The gaps in what came of a scenario.
pub(crate) fn gaps(test: &Test, scenario: &Scenario, outcome: &Outcome) -> Vec<Gap> {
    let lost = outcome.losses.iter().chain(&outcome.incomplete);
    let lost = lost.map(|told| Gap { missing: Missing::Spans, told: told.clone() });
    lost.chain(lost_parents(test, scenario, outcome)).chain(dropped(&outcome.spans)).collect()
}

/// Spans whose parent is no span of the run. An id that the test itself sends, as in a `traceparent`
/// header of a request, is the parent of no lost span.
fn lost_parents(test: &Test, scenario: &Scenario, outcome: &Outcome) -> Option<Gap> {
    let ids: HashSet<(&str, &str)> =
        outcome.spans.iter().map(|span| (span.trace_id.as_str(), span.span_id.as_str())).collect();
    let is_lost = |span: &&Span| {
        let parent = span.parent_id.as_deref().filter(|_| span.source == Source::Otlp);
        parent.is_some_and(|parent| {
            !ids.contains(&(span.trace_id.as_str(), parent)) && !is_sent(test, scenario, parent)
        })
    };
    let names = tally(outcome.spans.iter().filter(is_lost));
    (!names.is_empty()).then(|| {
        let told = format!("the parent never arrived of {}", listed(&names));
        Gap { missing: Missing::Spans, told }
    })
}

/// Whether the test's own commands or variables name this span.
fn is_sent(test: &Test, scenario: &Scenario, id: &str) -> bool {
    let of_steps = scenario.steps.iter().flat_map(|step| step.argv.iter().chain(step.env.values()));
    let of_services = test
        .services
        .iter()
        .flat_map(|service| service.argv.iter().flatten().chain(service.env.values()));
    of_steps.chain(of_services).any(|text| text.to_ascii_lowercase().contains(id))
}

/// What SDKs say they left out of spans.
fn dropped(spans: &[Span]) -> Vec<Gap> {
    let kinds = [
        ("attributes", Missing::Attributes),
        ("events", Missing::Events),
        ("links", Missing::Links),
    ];
    let of_kind = |(what, missing): (&str, Missing)| {
        let count = |span: &Span| match missing {
            Missing::Attributes => span.dropped.attributes,
            Missing::Events => span.dropped.events,
            Missing::Links | Missing::Spans => span.dropped.links,
        };
        let names = tally(spans.iter().filter(|span| count(span) > 0));
        let all: u64 = spans.iter().map(|span| u64::from(count(span))).sum();
        (all > 0).then(|| {
            let told = format!("the SDK dropped {all} {what} of {}", listed(&names));
            Gap { missing, told }
        })
    };
    kinds.into_iter().filter_map(of_kind).collect()
}

fn tally<'a>(spans: impl Iterator<Item = &'a Span>) -> BTreeMap<&'a str, usize> {
    let mut names = BTreeMap::new();
    for span in spans {
        *names.entry(span.name.as_str()).or_insert(0) += 1;
    }
    names
}

/// Names with how many spans have them: `a` (1), `b` (2).
fn listed(names: &BTreeMap<&str, usize>) -> String {
    let shown = names.iter().take(LISTED).map(|(name, count)| format!("`{name}` ({count})"));
    let more = names.len().saturating_sub(LISTED);
    let rest = (more > 0).then(|| format!("and {more} more names"));
    shown.chain(rest).collect::<Vec<_>>().join(", ")
}
