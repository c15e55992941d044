//! Settles reports: demand them, run what they wait for, and again, until none waits.
//!
//! The one place where containers start. No query is evaluated while one does.

#[cfg(test)]
mod lab;
#[cfg(test)]
mod proof;
#[cfg(test)]
mod what_ran;

use std::collections::{BTreeMap, BTreeSet};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use std::sync::mpsc::channel;
use std::time::{Duration, Instant};

use clnrm_backends::{Action, ActionKey, Backend, BackendError, Cancel, Outcome};
use clnrm_engine::{Bug, Digest, Encoded, Engine, Keep, Leaf, Unit};
use clnrm_queries::{PLAN, REPORT, Report, ReportGlance, State, encode};
use rayon::ThreadPool;

use crate::known::Known;

/// How long results of runs may wait to be written down.
const COMMIT_EVERY: Duration = Duration::from_millis(200);

/// How to settle.
pub(crate) struct Settle<'a> {
    pub(crate) backend: &'a dyn Backend,
    pub(crate) pool: &'a ThreadPool,
    pub(crate) cancel: &'a Cancel,
    pub(crate) again: Again,
    /// Run nothing; what would have to run stays pending.
    pub(crate) frozen: bool,
    /// Told of every finished run: how many are done, and of how many.
    pub(crate) progress: &'a dyn Fn(usize, usize),
}

/// Which scenarios run although their outcome is known.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Again {
    /// None of them.
    None,
    /// Those of tests that failed.
    Failed,
    /// All of them.
    All,
}

/// Reports in the order of their units, and what it took.
pub(crate) struct Settled {
    pub(crate) reports: Vec<Result<Known<Report>, Bug>>,
    /// The actions that were run.
    pub(crate) ran: BTreeSet<ActionKey>,
    /// How many scenarios were judged by an outcome that was known.
    pub(crate) reused: u64,
}

/// A scenario whose mounted files change during every one of so many runs is given up.
const MOST_ROUNDS: usize = 5;

impl Settle<'_> {
    /// The final reports of `units`.
    pub(crate) fn settle(&self, engine: &mut Engine, units: &[Unit]) -> Settled {
        let mut ran = BTreeSet::new();
        let known = if self.again == Again::All {
            vec![None; units.len()]
        } else {
            engine.recall(&REPORT, units)
        };
        let green = |encoded: Encoded| {
            let ReportGlance { passed, scenarios } = ReportGlance::decode(&encoded)?;
            passed.then_some(Known::Green { encoded, scenarios })
        };
        let mut reports: Vec<Option<Result<Known<Report>, Bug>>> =
            known.into_iter().map(|encoded| encoded.and_then(green).map(Ok)).collect();
        loop {
            // A report rests on its outcomes; one that was run again for another test may be new.
            let renewed = |report: &Known<Report>| {
                report.view().scenarios.iter().filter_map(|s| s.key).any(|key| ran.contains(&key))
            };
            for report in reports.iter_mut().filter(|_| !ran.is_empty()) {
                if report.as_ref().is_some_and(|r| r.as_ref().is_ok_and(renewed)) {
                    *report = None;
                }
            }
            let open: Vec<usize> = (0..units.len()).filter(|at| reports[*at].is_none()).collect();
            let before = ran.len();
            let open_units: Vec<Unit> = open.iter().map(|at| units[*at].clone()).collect();
            let settled = self.settle_open(engine, &open_units, &mut ran);
            for (at, report) in open.into_iter().zip(settled) {
                reports[at] = Some(report.map(Known::Told));
            }
            if ran.len() == before {
                break;
            }
        }
        let reports: Vec<Result<Known<Report>, Bug>> =
            reports.into_iter().map(|report| report.expect("every open unit is settled")).collect();
        let reused = reports.iter().flatten().map(|report| reused(report, &ran)).sum();
        Settled { reports, ran, reused }
    }

    fn settle_open(
        &self,
        engine: &mut Engine,
        units: &[Unit],
        ran: &mut BTreeSet<ActionKey>,
    ) -> Vec<Result<Arc<Report>, Bug>> {
        if units.is_empty() {
            return Vec::new();
        }
        let failed = |last: &Option<Encoded>| {
            let report = last.as_ref().and_then(|encoded| Report::<&str>::decode(encoded));
            report.is_some_and(|report| is_failed(&report))
        };
        let failed_before: Vec<bool> = engine.last(&REPORT, units).iter().map(failed).collect();
        let mut rounds = 0;
        loop {
            let reports = engine.demand(&REPORT, units);
            let stale = self.stale(&reports, &failed_before, ran);
            if !stale.is_empty() && !self.frozen {
                stale.iter().for_each(|key| engine.forget_effect(Digest(key.0)));
                continue;
            }
            let pending = pending(engine, units, &reports);
            if pending.is_empty() || self.frozen || self.cancel.is_cancelled() {
                return reports;
            }
            ran.extend(pending.keys().copied());
            rounds += 1;
            if rounds > MOST_ROUNDS {
                // It says nothing about what is mounted, so it takes no inputs.
                for (key, action) in &pending {
                    let unsettled = encode(action, &unsettled());
                    engine.set_effect(Digest(key.0), &unsettled, Keep::Earlier, &[]);
                }
                continue;
            }
            self.run(engine, pending);
        }
    }

    /// Keys whose outcome is known but must be seen again: all of them, or those of tests that
    /// failed when they were last run. A test that fails only now, because its
    /// expectations were edited, is judged on the evidence there is.
    fn stale(
        &self,
        reports: &[Result<Arc<Report>, Bug>],
        failed_before: &[bool],
        ran: &BTreeSet<ActionKey>,
    ) -> BTreeSet<ActionKey> {
        let mut stale = BTreeSet::new();
        for (report, failed_before) in reports.iter().zip(failed_before) {
            let Ok(report) = report else { continue };
            let all = self.again == Again::All
                || (self.again == Again::Failed && is_failed(report) && *failed_before);
            // Of a report that is not final it cannot be told whether it fails only now.
            let failed = report.scenarios.iter().any(|scenario| scenario.state == State::Pending);
            let again = report.scenarios.iter().filter(|scenario| match scenario.state {
                State::Pending => false,
                State::Failed => all || (failed && self.again != Again::None),
                _ => all,
            });
            stale.extend(again.filter_map(|scenario| scenario.key));
        }
        stale.retain(|key| !ran.contains(key));
        stale
    }

    /// Runs actions on the pool, whose threads hold no handle of the engine.
    fn run(&self, engine: &mut Engine, pending: BTreeMap<ActionKey, Action>) {
        engine.commit();
        let (send, results) = channel();
        let (backend, cancel, total) = (self.backend, self.cancel, pending.len());
        self.pool.in_place_scope(|scope| {
            for (key, action) in pending {
                let send = send.clone();
                scope.spawn(move |_| {
                    let result = if cancel.is_cancelled() {
                        Err(BackendError::Cancelled)
                    } else {
                        let run = AssertUnwindSafe(|| backend.run(&action, cancel));
                        catch_unwind(run).unwrap_or_else(|_| Err(panicked()))
                    };
                    // The receiver outlives the scope.
                    let _ = send.send((key, action, result));
                });
            }
            drop(send);
            let mut committed = Instant::now();
            for (done, (key, action, result)) in (1..).zip(&results) {
                take_in(engine, key, &action, &result);
                (self.progress)(done, total);
                if committed.elapsed() > COMMIT_EVERY {
                    engine.commit();
                    committed = Instant::now();
                }
            }
        });
    }
}

fn take_in(
    engine: &mut Engine,
    key: ActionKey,
    action: &Action,
    result: &Result<Outcome, BackendError>,
) {
    let keep = match result {
        Ok(outcome) if outcome.is_complete() => Keep::Value,
        Ok(_) => Keep::Nothing,
        // An engine that fails says nothing about the test.
        Err(_) => Keep::Earlier,
    };
    let mounts = action.services.iter().flat_map(|service| &service.mounts);
    let inputs: Vec<(Leaf, Digest)> = mounts
        .filter_map(|mount| {
            Some((Leaf::Tree(mount.source.as_str().into()), mount.digest.parse().ok()?))
        })
        .collect();
    engine.set_effect(Digest(key.0), &encode(action, result), keep, &inputs);
}

fn unsettled() -> Result<Outcome, BackendError> {
    Err(BackendError::Engine {
        engine: "clnrm".to_owned(),
        operation: "settle the test".to_owned(),
        reason: format!("what it mounts changed during each of {MOST_ROUNDS} runs"),
    })
}

fn panicked() -> BackendError {
    BackendError::Engine {
        engine: "clnrm".to_owned(),
        operation: "run the scenario".to_owned(),
        reason: "it panicked, which is a bug of clnrm".to_owned(),
    }
}

/// How many scenarios of a report were judged by an outcome that was known.
fn reused(report: &Known<Report>, ran: &BTreeSet<ActionKey>) -> u64 {
    let report = match report {
        Known::Green { scenarios, .. } => return *scenarios as u64,
        other => other.view(),
    };
    let reused = report.scenarios.iter().filter(|scenario| match scenario.state {
        State::Passed | State::Failed => scenario.key.is_some_and(|key| !ran.contains(&key)),
        _ => false,
    });
    reused.count() as u64
}

fn is_failed<S>(report: &Report<S>) -> bool {
    matches!(report.state(), State::Failed | State::Crashed(_))
}

/// The actions that reports wait for, each once.
fn pending(
    engine: &mut Engine,
    units: &[Unit],
    reports: &[Result<Arc<Report>, Bug>],
) -> BTreeMap<ActionKey, Action> {
    let mut parts = Vec::new();
    for (unit, report) in units.iter().zip(reports) {
        let scenarios = report.iter().flat_map(|report| report.scenarios.iter().enumerate());
        let waiting = scenarios.filter(|(_, scenario)| scenario.state == State::Pending);
        parts.extend(waiting.map(|(index, _)| unit.part(index.to_string())));
    }
    let plans = engine.demand(&PLAN, &parts);
    let actions = plans.iter().flatten().filter_map(|plan| plan.as_ref().as_ref().ok());
    actions.map(|action| (action.key(), action.clone())).collect()
}
