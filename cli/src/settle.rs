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
use std::sync::Arc;
use std::sync::mpsc::channel;
use std::time::{Duration, Instant};

use clnrm_backends::{Action, ActionKey, Backend, BackendError, Cancel, Outcome};
use clnrm_engine::{Bug, Digest, Engine, Leaf, Unit};
use clnrm_queries::{PLAN, REPORT, Report, State, encode};
use rayon::ThreadPool;

/// How long results of runs may wait to be written down.
const COMMIT_EVERY: Duration = Duration::from_millis(200);

/// How to settle.
pub(crate) struct Settle<'a> {
    pub(crate) backend: &'a dyn Backend,
    pub(crate) pool: &'a ThreadPool,
    pub(crate) cancel: &'a Cancel,
    /// Run everything, known or not.
    pub(crate) force: bool,
    /// Told of every finished run: how many are done, and of how many.
    pub(crate) progress: &'a dyn Fn(usize, usize),
}

/// Reports in the order of their units, and what it took.
pub(crate) struct Settled {
    pub(crate) reports: Vec<Result<Arc<Report>, Bug>>,
    /// The actions that were run.
    pub(crate) ran: BTreeSet<ActionKey>,
}

impl Settle<'_> {
    /// The final reports of `units`.
    pub(crate) fn settle(&self, engine: &mut Engine, units: &[Unit]) -> Settled {
        let mut ran = BTreeSet::new();
        let known =
            if self.force { vec![None; units.len()] } else { engine.recall(&REPORT, units) };
        let known: Vec<Option<Arc<Report>>> =
            known.into_iter().map(|report| report.filter(|report| !is_failed(report))).collect();
        let open: Vec<Unit> = units
            .iter()
            .zip(&known)
            .filter(|(_, report)| report.is_none())
            .map(|(unit, _)| unit.clone())
            .collect();
        let mut opened = self.settle_open(engine, &open, &mut ran).into_iter();
        let reports = known.into_iter().map(|report| match report {
            Some(report) => Ok(report),
            None => opened.next().expect("there is one for every open unit"),
        });
        Settled { reports: reports.collect(), ran }
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
        loop {
            let reports = engine.demand(&REPORT, units);
            let stale = self.stale(engine, units, &reports, ran);
            if !stale.is_empty() {
                stale.iter().for_each(|key| engine.forget_effect(Digest(key.0)));
                continue;
            }
            let pending = pending(engine, units, &reports);
            if pending.is_empty() || self.cancel.is_cancelled() {
                return reports;
            }
            ran.extend(pending.keys().copied());
            self.run(engine, pending);
        }
    }

    /// Keys whose outcome is known but must be seen again: with `force` all of them, else those of
    /// tests that failed before. A test that fails only now, after an edit, is not run for it.
    fn stale(
        &self,
        engine: &Engine,
        units: &[Unit],
        reports: &[Result<Arc<Report>, Bug>],
        ran: &BTreeSet<ActionKey>,
    ) -> BTreeSet<ActionKey> {
        let new = engine.came_out_new(&REPORT);
        let mut stale = BTreeSet::new();
        for (unit, report) in units.iter().zip(reports) {
            let Ok(report) = report else { continue };
            let all = self.force || (is_failed(report) && !new.contains(unit));
            // Of a report that is not final it cannot be told whether it fails only now.
            let failed = report.scenarios.iter().any(|scenario| scenario.state == State::Pending);
            let again = report.scenarios.iter().filter(|scenario| match scenario.state {
                State::Pending => false,
                State::Failed => all || failed,
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
                        backend.run(&action, cancel)
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
    let lasting = result.as_ref().is_ok_and(Outcome::is_complete);
    let mounts = action.services.iter().flat_map(|service| &service.mounts);
    let inputs: Vec<(Leaf, Digest)> = mounts
        .filter_map(|mount| {
            Some((Leaf::Tree(mount.source.as_str().into()), mount.digest.parse().ok()?))
        })
        .collect();
    engine.set_effect(Digest(key.0), &encode(result), lasting, &inputs);
}

fn is_failed(report: &Report) -> bool {
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
