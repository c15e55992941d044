//! Signs that spans of a run are missing, or parts of spans: nothing is absent from evidence that is
//! not whole.

use std::collections::{BTreeMap, BTreeSet, HashMap};

use clnrm_backends::{Outcome, Source, Span, Value};
use clnrm_engine::{Cx, Query, Unit};
use serde::{Deserialize, Serialize};

use crate::model::{MODEL, Scenario, Test};
use crate::outcome::{OUTCOME, Run};
use crate::render::{cell_of, number_of, numbered};

/// The gaps in what came of a scenario; none as long as its run is not known. The unit's part is its
/// index.
pub(crate) static GAPS: Query<Vec<Gap>> = Query::new("gaps", 1, gaps);

/// The `service.name`s that exported spans in a scenario.
pub(crate) static EXPORTERS: Query<BTreeSet<String>> = Query::new("exporters", 1, exporters);

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
    /// The parent of some spans, which cannot be told.
    Parents,
    /// Attributes of spans.
    Attributes,
    /// Events of spans.
    Events,
    /// Nothing that an expectation looks at, for all that is known.
    Nothing,
}

fn gaps(cx: &Cx<'_>, unit: &Unit) -> Vec<Gap> {
    let (file, index) = (cell_of(unit), number_of(unit).unwrap_or(0));
    let (model, run) = (cx.get(&MODEL, &file), cx.get(&OUTCOME, unit));
    let (Ok(test), Run::Ran(_, outcome)) = (model.as_ref(), run.as_ref()) else {
        return Vec::new();
    };
    let Some(scenario) = test.scenarios.get(index) else { return Vec::new() };
    let before = (0..index).map(|index| cx.get(&EXPORTERS, &numbered(&file, index)));
    let before: BTreeSet<String> = before.flat_map(|all| all.as_ref().clone()).collect();
    let now = cx.get(&EXPORTERS, unit);
    let silent = before.difference(&now).map(|name| silent(test, scenario, outcome, name));
    of_run(test, scenario, outcome).into_iter().chain(silent).collect()
}

fn exporters(cx: &Cx<'_>, unit: &Unit) -> BTreeSet<String> {
    let run = cx.get(&OUTCOME, unit);
    let Run::Ran(_, outcome) = run.as_ref() else { return BTreeSet::new() };
    let of_code = outcome.spans.iter().filter(|span| span.source == Source::Otlp);
    let names = of_code.filter_map(|span| match span.resource.get("service.name") {
        Some(Value::String(name)) => Some(name.as_str()),
        _ => None,
    });
    names.collect::<BTreeSet<_>>().into_iter().map(str::to_owned).collect()
}

/// The gaps that a run shows by itself.
fn of_run(test: &Test, scenario: &Scenario, outcome: &Outcome) -> Vec<Gap> {
    let lost = outcome.losses.iter().chain(&outcome.incomplete);
    let lost = lost.map(|told| Gap { missing: Missing::Spans, told: told.clone() });
    lost.chain(parents(test, scenario, &outcome.spans)).chain(dropped(&outcome.spans)).collect()
}

/// Spans whose parent is no span of the run, or several spans of one id.
///
/// A context that the test itself sends, as in a `traceparent` header of a request, names no lost span.
fn parents(test: &Test, scenario: &Scenario, spans: &[Span]) -> Vec<Gap> {
    let mut ids: HashMap<(&str, &str), usize> = HashMap::new();
    for span in spans {
        *ids.entry((span.trace_id.as_str(), span.span_id.as_str())).or_default() += 1;
    }
    let (mut lost, mut doubtful) = (BTreeMap::new(), BTreeMap::new());
    for span in spans.iter().filter(|span| span.source == Source::Otlp) {
        let Some(parent) = span.parent_id.as_deref() else { continue };
        let names = match ids.get(&(span.trace_id.as_str(), parent)) {
            Some(1) => continue,
            Some(_) => &mut doubtful,
            None if is_sent(test, scenario, &span.trace_id, parent) => continue,
            None => &mut lost,
        };
        *names.entry(span.name.as_str()).or_insert(0) += 1;
    }
    let gap = |missing, what: &str, names: &BTreeMap<&str, usize>| {
        let told = format!("{what}: {}", listed(names));
        (!names.is_empty()).then_some(Gap { missing, told })
    };
    let lost = gap(Missing::Spans, "the parent never arrived of these spans", &lost);
    let doubtful =
        gap(Missing::Parents, "several spans share the id of the parent of these spans", &doubtful);
    lost.into_iter().chain(doubtful).collect()
}

/// Whether the test's own commands or variables name this span behind its trace, as the headers
/// `traceparent`, `b3` and `uber-trace-id` do.
fn is_sent(test: &Test, scenario: &Scenario, trace: &str, id: &str) -> bool {
    let of_services = test
        .services
        .iter()
        .flat_map(|service| service.argv.iter().flatten().chain(service.env.values()));
    let contexts = ["-", ":"].map(|sign| format!("{trace}{sign}{id}"));
    texts(scenario).chain(of_services).any(|text| {
        let text = text.to_ascii_lowercase();
        contexts.iter().any(|context| text.contains(context))
    })
}

/// What the commands of a scenario say.
fn texts(scenario: &Scenario) -> impl Iterator<Item = &String> {
    scenario.steps.iter().flat_map(|step| step.argv.iter().chain(step.env.values()))
}

/// A service that exported spans in an earlier scenario, and none in this one.
///
/// That spans are missing is known only where something asked the service: many scenarios use some
/// services of a test.
fn silent(test: &Test, scenario: &Scenario, outcome: &Outcome, name: &str) -> Gap {
    let asked = is_asked_by_steps(test, scenario, name) || is_asked_by_spans(&outcome.spans, name);
    let missing = if asked { Missing::Spans } else { Missing::Nothing };
    let told = format!("`{name}` exported spans in an earlier scenario, and none in this one");
    Gap { missing, told }
}

/// Whether a step names the service, or one of its ports.
fn is_asked_by_steps(test: &Test, scenario: &Scenario, name: &str) -> bool {
    let service = test.services.iter().find(|service| service.id == name);
    let ports = service.into_iter().flat_map(|service| &service.ports);
    let addresses: Vec<String> = ports.map(|port| format!(":{port}")).collect();
    texts(scenario)
        .any(|text| has_word(text, name) || addresses.iter().any(|address| has_word(text, address)))
}

/// Whether a span says that it called the service.
fn is_asked_by_spans(spans: &[Span], name: &str) -> bool {
    let peers = ["server.address", "net.peer.name", "peer.service"];
    spans.iter().any(|span| {
        let named = |key: &&str| {
            matches!(span.attributes.get(key), Some(Value::String(peer)) if peer == name)
        };
        peers.iter().any(named)
    })
}

/// Whether `word` is in the text, and neither goes on before nor behind.
fn has_word(text: &str, word: &str) -> bool {
    let goes_on = |letter: char| letter.is_alphanumeric() || "-_".contains(letter);
    text.match_indices(word).any(|(at, _)| {
        let before = text[..at].chars().next_back().filter(|_| !word.starts_with(':'));
        let behind = text[at + word.len()..].chars().next();
        !before.is_some_and(goes_on) && !behind.is_some_and(goes_on)
    })
}

/// What SDKs say they left out of spans.
fn dropped(spans: &[Span]) -> Vec<Gap> {
    let kinds = [
        ("attributes", Missing::Attributes),
        ("events", Missing::Events),
        ("links", Missing::Nothing),
    ];
    let of_kind = |(what, missing): (&str, Missing)| {
        let count = |span: &Span| match missing {
            Missing::Attributes => span.dropped.attributes,
            Missing::Events => span.dropped.events,
            _ => span.dropped.links,
        };
        let mut names = BTreeMap::new();
        for span in spans.iter().filter(|span| count(span) > 0) {
            *names.entry(span.name.as_str()).or_insert(0) += 1;
        }
        let all: u64 = spans.iter().map(|span| u64::from(count(span))).sum();
        (all > 0).then(|| {
            let told = format!("the SDK dropped {all} {what} of {}", listed(&names));
            Gap { missing, told }
        })
    };
    kinds.into_iter().filter_map(of_kind).collect()
}

/// Names with how many spans have them: `a` (1), `b` (2).
fn listed(names: &BTreeMap<&str, usize>) -> String {
    let shown = names.iter().take(LISTED).map(|(name, count)| format!("`{name}` ({count})"));
    let more = names.len().saturating_sub(LISTED);
    let rest = (more > 0).then(|| format!("and {more} more names"));
    shown.chain(rest).collect::<Vec<_>>().join(", ")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::judge::table::{outcome, traces};

    const TEST: &str = "[meta]\nname = \"t\"\n[services.api]\nargs = [\"/api\"]\nports = [8080]\n\
                        [[scenario]]\nname = \"s\"\n";

    fn told(run: &str, table: &str) -> Vec<(Missing, String)> {
        let test = crate::model::read_text(&format!("{TEST}run = '{run}'"));
        let outcome = outcome(traces(table).spans);
        let gaps = of_run(&test, &test.scenarios[0], &outcome);
        gaps.into_iter().map(|gap| (gap.missing, gap.told)).collect()
    }

    #[test]
    fn a_parent_that_never_arrived_is_missed_unless_the_test_sent_it() {
        let sign = "the parent never arrived of these spans: `b` (1)".to_owned();
        let table = "a 0..9\n  c 1..2\nb 1..2 orphan";
        assert_eq!(told("true", table), [(Missing::Spans, sign)]);
        assert_eq!(told("true", "a 0..9\n  c 1..2"), []);
        let sent = format!("curl -H \"traceparent: 00-{}-FFFFFFFFFFFFFFFF-01\" x", "1".repeat(32));
        assert_eq!(told(&sent, table), []);
        assert_eq!(told("echo ffffffffffffffff", table).len(), 1, "an id alone is no context");
        // What clnrm gave as a parent has arrived.
        assert_eq!(told("true", "clnrm.step:a 0..9 lifecycle\n  b 1..2"), []);
    }

    #[test]
    fn a_parent_of_two_spans_cannot_be_told() {
        let table = "a 0..9\n  c 1..2\nb 0..9 id=1";
        let sign = "several spans share the id of the parent of these spans: `c` (1)".to_owned();
        assert_eq!(told("true", table), [(Missing::Parents, sign)]);
        assert_eq!(told("true", "a 0..9\nb 0..9 id=1"), [], "no span has it as its parent");
    }

    #[test]
    fn what_sdks_drop_is_told_by_kind() {
        let table = "a 0..9 dropped=3,2,1\nb 0..9 dropped=1,0,0";
        assert_eq!(
            told("true", table),
            [
                (
                    Missing::Attributes,
                    "the SDK dropped 4 attributes of `a` (1), `b` (1)".to_owned()
                ),
                (Missing::Events, "the SDK dropped 2 events of `a` (1)".to_owned()),
                (Missing::Nothing, "the SDK dropped 1 links of `a` (1)".to_owned()),
            ]
        );
    }

    #[test]
    fn a_service_that_falls_silent_is_missed_where_it_was_asked() {
        let silent = |run: &str, table: &str, name: &str| {
            let test = crate::model::read_text(&format!("{TEST}run = '{run}'"));
            silent(&test, &test.scenarios[0], &outcome(traces(table).spans), name).missing
        };
        let nothing = "a 0..9";
        assert_eq!(silent("curl http://api/x", nothing, "api"), Missing::Spans);
        assert_eq!(silent("curl localhost:8080/x", nothing, "api"), Missing::Spans);
        assert_eq!(silent("curl localhost:80801", nothing, "api"), Missing::Nothing);
        assert_eq!(silent("curl http://api-2/", nothing, "api"), Missing::Nothing);
        assert_eq!(silent("true", nothing, "api"), Missing::Nothing);
        assert_eq!(silent("true", "a 0..9 server.address=api", "api"), Missing::Spans);
    }
}
