//! Why a scenario has to run.

use std::collections::BTreeMap;

use clnrm_backends::{ActionKey, Difference, differences};
use clnrm_engine::{Digest, Engine, Unit, looks_secret};
use clnrm_queries::{PLAN, REPORT, Report, State, numbered, parts, stored};

use crate::settle::Told;

/// Why tests ran: a line for each reason.
pub(crate) type Reasons = BTreeMap<Unit, Vec<String>>;

/// Of so many tests it is told why they run.
const MOST_EXPLAINED: usize = 20;

/// So much of a value is shown.
const MOST_SHOWN: usize = 200;
/// What is shorter is found anywhere.
const SHORTEST_SECRET: usize = 4;

/// Why what waits for runs does, of some tests.
pub(crate) fn explain(
    engine: &mut Engine,
    units: &[Unit],
    reports: &[Told],
    reasons: &mut Reasons,
) {
    let waits = |report: &Report| report.scenarios.iter().any(|one| one.state == State::Pending);
    let tests =
        units.iter().zip(reports).filter_map(|(unit, report)| Some((unit, report.as_ref().ok()?)));
    for (unit, report) in tests.filter(|(_, report)| waits(report)).take(MOST_EXPLAINED) {
        let lines = why(engine, unit, report);
        if !lines.is_empty() {
            reasons.insert(unit.clone(), lines);
        }
    }
}

/// For each scenario of a test that has to run, why: a line each.
pub(crate) fn why<S: AsRef<str>>(
    engine: &mut Engine,
    unit: &Unit,
    report: &Report<S>,
) -> Vec<String> {
    let last = std::slice::from_ref(unit);
    let last = engine.last(&REPORT, last, |encoded| Report::<String>::decode(encoded));
    let last = last.into_iter().next().flatten();
    let mut lines = Vec::new();
    for (index, scenario) in report.scenarios.iter().enumerate() {
        if scenario.state != State::Pending {
            continue;
        }
        let name = scenario.name.as_ref();
        let same = last.as_ref().and_then(|last| last.scenarios.iter().find(|it| it.name == name));
        let Some(same) = same else {
            lines.push(format!("{name} has never run"));
            continue;
        };
        if same.key == scenario.key {
            let has_failed = last.as_ref().is_some_and(|last| last.state() == State::Failed);
            lines.push(match &same.state {
                State::Failed => format!("{name} failed when it last ran"),
                _ if has_failed => "the test failed when it last ran".to_owned(),
                _ if is_stored(engine, scenario.key) => format!(
                    "{name} ran when no expectation looked at its spans: its services were stopped \
                     without a wait for the last ones"
                ),
                _ => format!("the last outcome of {name} is not known here"),
            });
            continue;
        }
        let before = same.key.and_then(|key| parts(&engine.effect(Digest(key.0))?));
        let plan = engine.demand(&PLAN, &[numbered(unit, index)]).pop();
        let now =
            plan.and_then(Result::ok).and_then(|plan| Some(plan.as_ref().as_ref().ok()?.parts()));
        let Some((before, now)) = before.zip(now) else {
            lines.push(format!("{name} is another than when it last ran"));
            continue;
        };
        let changed = differences(&before, &now);
        lines.extend(changed.into_iter().map(|Difference { part, before, now }| {
            let values = [&before, &now];
            if values.into_iter().flatten().any(|value| holds_a_secret(value)) {
                return format!("{name}: {part} has changed; it holds a secret");
            }
            let [before, now] = values.map(shown);
            format!("{name}: {part} was {before}, is {now}")
        }));
    }
    lines
}

/// Whether a run's outcome is stored, whatever it is good for.
fn is_stored(engine: &Engine, key: Option<ActionKey>) -> bool {
    let bytes = key.and_then(|key| engine.effect(Digest(key.0)));
    bytes.is_some_and(|bytes| matches!(stored(&bytes), Some(Ok(_))))
}

/// A value, or its beginning.
fn shown(value: &Option<String>) -> String {
    match value {
        None => "not there".to_owned(),
        Some(value) if value.chars().count() <= MOST_SHOWN => value.clone(),
        Some(value) => value.chars().take(MOST_SHOWN).chain(['…']).collect(),
    }
}

/// Whether there is the value of a variable in it that looks like a secret.
fn holds_a_secret(text: &str) -> bool {
    let mut secrets = std::env::vars_os().filter_map(|(name, value)| {
        let value = value.into_string().ok()?;
        (looks_secret(name.to_str()?) && value.len() >= SHORTEST_SECRET).then_some(value)
    });
    secrets.any(|secret| text.contains(&secret))
}
