//! Why a scenario has to run.

use std::collections::BTreeMap;

use clnrm_backends::differences;
use clnrm_engine::{Digest, Engine, Unit};
use clnrm_queries::{PLAN, REPORT, Report, State, numbered, parts};

use crate::settle::Told;

/// Why tests ran: a line for each reason.
pub(crate) type Reasons = BTreeMap<Unit, Vec<String>>;

/// Of so many tests it is told why they run.
const MOST_EXPLAINED: usize = 20;

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
            reasons.entry(unit.clone()).or_insert(lines);
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
            lines.push(match same.state {
                State::Failed => format!("{name} failed when it last ran"),
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
        let shown = |value: Option<String>| value.unwrap_or_else(|| "not there".to_owned());
        lines.extend(changed.into_iter().map(|difference| {
            let (before, now) = (shown(difference.before), shown(difference.now));
            format!("{name}: {} was {before}, is {now}", difference.part)
        }));
    }
    lines
}
