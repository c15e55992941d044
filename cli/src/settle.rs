//! Settles reports: demand them, run what they wait for, and again, until none waits.
//!
//! The one place where containers start. No query is evaluated while one does.

#[cfg(test)]
mod lab;
mod memory;
#[cfg(test)]
mod proof;
#[cfg(test)]
mod what_ran;

use std::collections::{BTreeMap, BTreeSet};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use clnrm_backends::{Action, ActionKey, Backend, BackendError, Cancel, Outcome};
use clnrm_engine::{Digest, Engine, Keep, Leaf, Stopped, Unit};
use clnrm_queries::{PLAN, REPORT, Report, State, encode, numbered, stored};
use rayon::ThreadPool;

use self::memory::Memory;
use crate::inbox::{Happening, Inbox};
use crate::known::{Detail, Known, KnownReport, expanded, passed};

/// How long results of runs may wait to be written down.
const COMMIT_EVERY: Duration = Duration::from_millis(200);

/// How to settle.
pub(crate) struct Settle<'a> {
    pub(crate) backend: &'a dyn Backend,
    pub(crate) pool: &'a ThreadPool,
    pub(crate) cancel: &'a Cancel,
    pub(crate) again: Again,
    /// How much is wanted of reports that are known.
    pub(crate) detail: Detail,
    /// Run nothing; what would have to run stays pending.
    pub(crate) frozen: bool,
    /// Start nothing more once something has failed.
    pub(crate) fail_fast: bool,
    /// Told how far the runs are.
    pub(crate) progress: &'a (dyn Fn(Progress<'_>) + Sync),
    /// Done before containers start, when all that matters was looked at.
    pub(crate) before_runs: &'a BeforeRuns<'a>,
    /// Where ends of runs come in, and changes while they go on.
    pub(crate) inbox: &'a Inbox,
}

/// Something that is done with units and their reports, some of which wait for runs.
pub(crate) type BeforeRuns<'a> = dyn Fn(&mut Engine, &[Unit], &[Told]) + 'a;

/// A report that was asked for.
pub(crate) type Told = Result<Arc<Report>, Stopped>;

/// Something about the runs under way.
pub(crate) enum Progress<'a> {
    /// So many more are to be made.
    More(usize),
    /// One begins, for a scenario of this name.
    Begins(ActionKey, &'a str),
    /// One is over.
    Ends(ActionKey),
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
#[derive(Default)]
pub(crate) struct Settled {
    /// The tests: those that were asked for, with the cells of matrix files.
    pub(crate) units: Vec<Unit>,
    pub(crate) reports: Vec<Result<KnownReport, Stopped>>,
    /// How many runs were started.
    pub(crate) started: u64,
    /// How many scenarios were judged by an outcome that was known.
    pub(crate) reused: u64,
    /// What is to be told of the runs besides what came of them.
    pub(crate) asides: BTreeSet<String>,
    /// What was run.
    pub(crate) ran: BTreeSet<ActionKey>,
}

/// What the runs took so far.
#[derive(Default)]
struct Took {
    started: u64,
    /// What was started because something changed while others ran.
    ran_later: BTreeSet<ActionKey>,
    asides: BTreeSet<String>,
}

/// Between two looks at whether everything is cancelled.
const GLANCE: Duration = Duration::from_millis(20);
/// The pause before a failed scenario is tried again; it doubles each time, six times.
const FIRST_PAUSE: Duration = Duration::from_millis(100);

/// A scenario whose mounted files change during every one of so many runs is given up.
const MOST_ROUNDS: usize = 5;

impl Settle<'_> {
    /// The final reports of `units`.
    pub(crate) fn settle(&self, engine: &mut Engine, units: Vec<Unit>) -> Settled {
        let (mut ran, mut took) = (BTreeSet::new(), Took::default());
        let passed = |engine: &mut Engine, units: &[Unit]| match self.again {
            Again::All => units.iter().map(|_| None).collect(),
            Again::None | Again::Failed => passed(engine, units, self.detail),
        };
        let mut reports: Vec<Option<Result<KnownReport, Stopped>>> = passed(engine, &units);
        let units = match expanded(engine, &units, |at| reports[at].is_some()) {
            None => units,
            Some(units) => {
                reports = passed(engine, &units);
                units
            }
        };
        let all = &units[..];
        loop {
            if !ran.is_empty() {
                self.reopen(engine, all, &mut reports, &ran);
            }
            let open: Vec<usize> = (0..units.len()).filter(|at| reports[*at].is_none()).collect();
            let before = ran.len();
            let open_units: Vec<Unit> = open.iter().map(|at| units[*at].clone()).collect();
            let settled = self.settle_open(engine, &open_units, &mut ran, &mut took);
            for (at, report) in open.into_iter().zip(settled) {
                reports[at] = Some(report.map(Known::Told));
            }
            if ran.len() == before {
                break;
            }
        }
        let reports: Vec<Result<KnownReport, Stopped>> =
            reports.into_iter().map(|report| report.expect("every open unit is settled")).collect();
        let reused = reports.iter().flatten().map(|report| reused(report, &ran)).sum();
        let Took { started, asides, .. } = took;
        Settled { units, reports, started, reused, asides, ran }
    }

    /// A report rests on its outcomes; one that was run again for another test may be new.
    fn reopen(
        &self,
        engine: &Engine,
        units: &[Unit],
        reports: &mut [Option<Result<KnownReport, Stopped>>],
        ran: &BTreeSet<ActionKey>,
    ) {
        let has_run = |report: &Report| {
            report
                .scenarios
                .iter()
                .filter_map(|scenario| scenario.key)
                .any(|key| ran.contains(&key))
        };
        let mut recalled = Vec::new();
        for (at, report) in reports.iter_mut().enumerate() {
            match report {
                Some(Ok(Known::Told(told))) if has_run(told) => *report = None,
                Some(Ok(Known::Green(_) | Known::Recalled(_))) => recalled.push(at),
                _ => {}
            }
        }
        // What rests on an outcome of this process is not recalled.
        let recalled_units: Vec<Unit> = recalled.iter().map(|at| units[*at].clone()).collect();
        for (at, again) in recalled.into_iter().zip(passed(engine, &recalled_units, self.detail)) {
            reports[at] = again;
        }
    }

    fn settle_open(
        &self,
        engine: &mut Engine,
        units: &[Unit],
        ran: &mut BTreeSet<ActionKey>,
        took: &mut Took,
    ) -> Vec<Told> {
        if units.is_empty() {
            return Vec::new();
        }
        let failed = |last: &[u8]| Report::<&str>::decode(last).map(|report| is_failed(&report));
        let failed_before: Vec<bool> =
            engine.last(&REPORT, units, failed).iter().map(|last| *last == Some(true)).collect();
        let (mut rounds, mut more, mut tries) = (0, 0, Tries::default());
        loop {
            let reports = engine.demand(&REPORT, units);
            let mut stale = self.stale(&reports, &failed_before, ran);
            if !self.cancel.is_cancelled() {
                stale.extend(tries.again(&reports));
            }
            if !stale.is_empty() && !self.frozen {
                for key in stale {
                    tries.had.insert(key, settled(engine, key));
                    engine.forget_effect(Digest(key.0));
                }
                continue;
            }
            let mut pending = pending(engine, units, &reports);
            for (key, Wanted { action, .. }) in &mut pending {
                // Other tests may rest on what the services had time for before.
                action.settle = tries.had.get(key).copied().unwrap_or_default().max(action.settle);
            }
            let failed = || reports.iter().flatten().any(|report| is_failed(report));
            let over = self.frozen || self.cancel.is_cancelled() || (self.fail_fast && failed());
            if pending.is_empty() || over {
                return reports;
            }
            if self.fail_fast {
                // As many at once as are judged before others start.
                let rest = pending.keys().nth(self.pool.current_num_threads()).copied();
                more = rest.map_or(0, |rest| pending.split_off(&rest).len());
            }
            ran.extend(pending.keys().copied());
            rounds += usize::from(more == 0);
            if rounds > MOST_ROUNDS + tries.most() {
                // It says nothing about what is mounted, so it takes no inputs.
                for (key, wanted) in &pending {
                    let unsettled = encode(&wanted.action, &unsettled());
                    engine.set_effect(Digest(key.0), &unsettled, Keep::Earlier, &[]);
                }
                continue;
            }
            (self.before_runs)(engine, units, &reports);
            self.run(engine, units, pending, &mut tries, took);
            ran.append(&mut took.ran_later);
            // What ran before the interruption is still judged.
            engine.cancellation().end();
        }
    }

    /// Keys whose outcome is known but must be seen again: all of them, or those of tests that
    /// failed when they were last run. A test that fails only now, because its
    /// expectations were edited, is judged on the evidence there is.
    fn stale(
        &self,
        reports: &[Told],
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

    /// A run that can be ended by itself.
    fn job(&self, (key, wanted): (ActionKey, Wanted), tries: &mut Tries) -> Job {
        let failed = tries.begin(key, &wanted.action);
        Job { key, wanted, failed, cancel: self.cancel.child() }
    }

    /// Runs actions on the pool, whose threads hold no handle of the engine. What changes meanwhile
    /// ends those that nobody wants any more, starts what is wanted instead, and leaves all others
    /// alone.
    fn run(
        &self,
        engine: &mut Engine,
        units: &[Unit],
        pending: BTreeMap<ActionKey, Wanted>,
        tries: &mut Tries,
        took: &mut Took,
    ) {
        let (started, memory) = (AtomicU64::new(0), Memory::available());
        let (backend, progress) = (self.backend, self.progress);
        progress(Progress::More(pending.len()));
        let actions: Vec<&Action> = pending.values().map(|wanted| &wanted.action).collect();
        backend.expect(&actions, self.pool.current_num_threads());
        self.pool.in_place_scope(|scope| {
            let mut running: BTreeMap<ActionKey, Cancel> = BTreeMap::new();
            let mut superseded = BTreeSet::new();
            let start = |chain: Vec<Job>| {
                let (send, started, memory) = (self.inbox.sender(), &started, &memory);
                scope.spawn(move |_| {
                    for Job { key, wanted: Wanted { action, name }, failed, cancel } in chain {
                        rest(pause(failed), &cancel);
                        let _share = memory.take(&action);
                        let result = if cancel.is_cancelled() {
                            Err(BackendError::Cancelled)
                        } else {
                            started.fetch_add(1, Ordering::Relaxed);
                            progress(Progress::Begins(key, &name));
                            let run = AssertUnwindSafe(|| backend.run(&action, &cancel));
                            catch_unwind(run).unwrap_or_else(|_| Err(panicked()))
                        };
                        let result = result.map(|outcome| doubtful_after(failed, outcome));
                        // The receiver outlives the scope.
                        let _ = send.send(Happening::Ran(key, Box::new(action), Box::new(result)));
                    }
                });
            };
            for chain in chains(pending) {
                let jobs: Vec<Job> = chain.into_iter().map(|it| self.job(it, tries)).collect();
                running.extend(jobs.iter().map(|job| (job.key, job.cancel.clone())));
                start(jobs);
            }
            // While they run: the disk takes as long as a short one does.
            engine.commit();
            let mut committed = Instant::now();
            while !running.is_empty() {
                match self.inbox.next() {
                    Happening::Ran(key, action, result) => {
                        running.remove(&key);
                        progress(Progress::Ends(key));
                        if !superseded.contains(&key) {
                            take_in(engine, key, &action, &result);
                            took.asides.extend(result.into_iter().flat_map(|it| it.asides));
                        }
                        if committed.elapsed() > COMMIT_EVERY {
                            engine.commit();
                            committed = Instant::now();
                        }
                    }
                    Happening::Changed(changes) => {
                        let changes = self.inbox.with_others(changes);
                        if self.cancel.is_cancelled() || !changes.tell(engine) {
                            continue;
                        }
                        self.inbox.note(changes);
                        let reports = engine.demand(&REPORT, units);
                        let wanted = self::pending(engine, units, &reports);
                        (self.before_runs)(engine, units, &reports);
                        for (key, cancel) in &running {
                            if !wanted.contains_key(key) {
                                cancel.cancel();
                                superseded.insert(*key);
                            }
                        }
                        // Those of a group wait until the others of it have ended.
                        let new = wanted.into_iter().filter(|(key, wanted)| {
                            wanted.action.group.is_none() && !running.contains_key(key)
                        });
                        for (key, wanted) in new.collect::<Vec<_>>() {
                            let job = self.job((key, wanted), tries);
                            running.insert(key, job.cancel.clone());
                            superseded.remove(&key);
                            took.ran_later.insert(key);
                            progress(Progress::More(1));
                            start(vec![job]);
                        }
                    }
                    Happening::Wished(wish) => self.inbox.put_off(wish),
                    // Its runs end by `cancel`.
                    Happening::Interrupted => {}
                }
            }
        });
        took.started += started.into_inner();
    }
}

/// How long the services of a run that is known had to export their spans.
fn settled(engine: &Engine, key: ActionKey) -> Duration {
    let outcome = engine.effect(Digest(key.0)).and_then(|bytes| stored(&bytes)?.ok());
    outcome.map_or(Duration::ZERO, |outcome| outcome.settled)
}

/// A run that is to be made.
struct Job {
    key: ActionKey,
    wanted: Wanted,
    /// How often it failed before.
    failed: u32,
    cancel: Cancel,
}

/// What a report waits for.
struct Wanted {
    action: Action,
    /// The test and its scenario, for people.
    name: String,
}

/// What may run at once; one after the other in each are those of a group.
fn chains(pending: BTreeMap<ActionKey, Wanted>) -> Vec<Vec<(ActionKey, Wanted)>> {
    let mut groups: BTreeMap<String, Vec<(ActionKey, Wanted)>> = BTreeMap::new();
    let mut chains = Vec::new();
    for (key, wanted) in pending {
        match wanted.action.group.clone() {
            None => chains.push(vec![(key, wanted)]),
            Some(group) => groups.entry(group).or_default().push((key, wanted)),
        }
    }
    // They take the longest, so they begin first.
    groups.into_values().chain(chains).collect()
}

/// How often actions were run whose test may be tried again.
#[derive(Default)]
struct Tries {
    /// How often each failed, and how often it may.
    failed: BTreeMap<ActionKey, (u32, u32)>,
    /// How long the services of what is run again had to export their spans.
    had: BTreeMap<ActionKey, Duration>,
}

impl Tries {
    /// An action is about to run; gives how often it failed.
    fn begin(&mut self, key: ActionKey, action: &Action) -> u32 {
        self.failed.entry(key).or_insert((0, action.retries)).0
    }

    /// What is to be run again: failures of actions that were run here and may be tried again.
    fn again(&mut self, reports: &[Told]) -> BTreeSet<ActionKey> {
        let scenarios = reports.iter().flatten().flat_map(|report| &report.scenarios);
        let failed = scenarios.filter(|scenario| scenario.state == State::Failed);
        let failed: BTreeSet<ActionKey> = failed.filter_map(|scenario| scenario.key).collect();
        let may_again = |key: &ActionKey| {
            let Some((failed, most)) = self.failed.get_mut(key) else { return false };
            *failed += 1;
            *failed <= *most
        };
        failed.into_iter().filter(may_again).collect()
    }

    /// The most often any may be tried again.
    fn most(&self) -> usize {
        self.failed.values().map(|(_, most)| *most as usize).max().unwrap_or(0)
    }
}

/// Before a try that follows so many failures.
fn pause(failures: u32) -> Duration {
    match failures {
        0 => Duration::ZERO,
        more => FIRST_PAUSE.saturating_mul(1 << (more - 1).min(6)),
    }
}

/// Lets a pause go by, unless everything is cancelled meanwhile.
fn rest(pause: Duration, cancel: &Cancel) {
    let over = Instant::now() + pause;
    while !cancel.is_cancelled() && Instant::now() < over {
        std::thread::sleep(GLANCE.min(pause));
    }
}

/// What passes now and failed before is told, and proves nothing later.
fn doubtful_after(failures: u32, mut outcome: Outcome) -> Outcome {
    if failures > 0 {
        let times = if failures == 1 { "once".to_owned() } else { format!("{failures} times") };
        outcome.doubts.push(format!("the scenario failed {times} before, and was run again"));
    }
    outcome
}

fn take_in(
    engine: &mut Engine,
    key: ActionKey,
    action: &Action,
    result: &Result<Outcome, BackendError>,
) {
    let keep = match result {
        Ok(outcome) if action.lasting && outcome.is_complete() => Keep::Value,
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
fn reused(report: &KnownReport, ran: &BTreeSet<ActionKey>) -> u64 {
    let report = match report.view() {
        Ok(report) => report,
        Err(green) => return green.scenarios as u64,
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
fn pending(engine: &mut Engine, units: &[Unit], reports: &[Told]) -> BTreeMap<ActionKey, Wanted> {
    let (mut parts, mut names) = (Vec::new(), Vec::new());
    for (unit, report) in units.iter().zip(reports) {
        let scenarios = report.iter().flat_map(|report| report.scenarios.iter().enumerate());
        for (index, scenario) in scenarios.filter(|(_, one)| one.state == State::Pending) {
            parts.push(numbered(unit, index));
            names.push(format!("{unit}: {}", scenario.name));
        }
    }
    let plans = engine.demand(&PLAN, &parts);
    let mut wanted = BTreeMap::<ActionKey, Wanted>::new();
    for (plan, name) in plans.into_iter().zip(names) {
        let Ok(plan) = plan else { continue };
        let Ok(action) = plan.as_ref().clone() else { continue };
        // One run serves all that want it, if its services get the longest time to export.
        let settle = action.settle;
        let one = wanted.entry(action.key()).or_insert(Wanted { action, name });
        one.action.settle = one.action.settle.max(settle);
    }
    wanted
}
