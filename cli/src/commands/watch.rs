//! `clnrm watch`

use std::cell::RefCell;
use std::collections::{BTreeMap, BTreeSet};
use std::mem::take;
use std::sync::Arc;
use std::time::{Duration, Instant};

use anyhow::Context;
use clnrm_backends::{ActionKey, Cancel};
use clnrm_engine::{Digest, Engine, Unit};
use clnrm_queries::{REPORT, Settings, State};

use super::run::{choice, jobs, settings, summarise};
use crate::args::{WatchArgs, WatchFormat};
use crate::exit::Exit;
use crate::inbox::{Changes, Due, Happening, Inbox, Wish};
use crate::interrupt;
use crate::keys::{self, Keys};
use crate::known::{Detail, KnownReport};
use crate::printer::{self, Revision, RunSummary};
use crate::select::{Filter, select};
use crate::settle::{Again, Settle, Settled};
use crate::watcher::{Looked, Watcher};
use crate::why::{Reasons, explain};
use crate::workspace::{LazyBackend, Workspace};

/// Between two tries of what an engine failed to run.
const RETRY_AFTER: Duration = Duration::from_secs(1);
/// Where there is nothing to try again.
const FOREVER: Duration = Duration::from_secs(1 << 30);

pub(crate) fn run(args: &WatchArgs) -> anyhow::Result<Exit> {
    let began = Instant::now();
    let workspace = Workspace::find(&args.paths, &args.store)?.define(&args.variables.define)?;
    let backend = LazyBackend::new(&workspace);
    let mut engine = workspace.engine_for(&backend);
    let (inbox, cancel) = (Inbox::default(), Cancel::default());
    let wake = inbox.sender();
    interrupt::listen_and(&engine, &cancel, move || drop(wake.send(Happening::Interrupted)))?;
    let settings = settings(&mut engine)?;
    backend.choose(choice(args.runner.backend, &settings), args.runner.pull);
    if let Err(error) = backend.get() {
        printer::backend_failed(error);
        return Ok(Exit::Backend);
    }
    let pool = rayon::ThreadPoolBuilder::new().num_threads(jobs(&args.runner, &settings)).build();
    let watcher = Watcher::new(&workspace.root, inbox.sender(), args.poll);
    let is_human = args.format == WatchFormat::Human;
    let keys = if is_human { Keys::listen(inbox.sender()) } else { None };
    let mut watch = Watch {
        args,
        workspace: &workspace,
        backend: &backend,
        settings: &settings,
        pool: pool.context("cannot start threads for runs")?,
        watcher: RefCell::new(watcher.context("cannot watch for changes")?),
        inbox,
        cancel,
        filter: Filter { tags: args.runner.tags.clone(), ..Filter::default() },
        marks: BTreeMap::new(),
        crashed: BTreeSet::new(),
        ran: Vec::new(),
        failed: Vec::new(),
        told: BTreeSet::new(),
        why: Reasons::default(),
        has_keys: keys.is_some(),
    };
    watch.revision(&mut engine, Cause::Start, began)?;
    let pause = Duration::from_millis(args.debounce.into());
    while !watch.cancel.is_cancelled() {
        let patience = if watch.crashed.is_empty() { FOREVER } else { RETRY_AFTER };
        let Some(due) = watch.inbox.due(patience, pause) else { break };
        let began = Instant::now();
        match due {
            Due::Wish(wish) => watch.grant(&mut engine, wish, began)?,
            Due::Changes(changes) => {
                if changes.tell(&mut engine) || !watch.crashed.is_empty() {
                    watch.revision(&mut engine, Cause::Changes(changes), began)?;
                }
            }
        }
    }
    printer::ask(None);
    printer::stand(None);
    let removed = super::run::removed(backend.get().map_err(|error| anyhow::anyhow!("{error}"))?);
    let has_quit = keys.is_some_and(|keys| keys.has_quit());
    let ended = if has_quit { Exit::Green } else { Exit::Interrupted };
    Ok(ended.max(super::finish(&mut engine, "watch")).max(removed))
}

/// A loop from a change to what came of it.
struct Watch<'a> {
    args: &'a WatchArgs,
    workspace: &'a Workspace,
    backend: &'a LazyBackend,
    settings: &'a Settings,
    pool: rayon::ThreadPool,
    watcher: RefCell<Watcher>,
    inbox: Inbox,
    cancel: Cancel,
    filter: Filter,
    /// How each test stood when it was last told of.
    marks: BTreeMap<Unit, String>,
    /// What an engine failed to run.
    crashed: BTreeSet<ActionKey>,
    /// The tests of which something ran last.
    ran: Vec<Unit>,
    /// The tests that fail.
    failed: Vec<Unit>,
    /// The files whose tests were told of last.
    told: BTreeSet<Arc<str>>,
    /// Why tests ran last.
    why: Reasons,
    /// Whether keys are listened to.
    has_keys: bool,
}

/// What has everything looked at again.
enum Cause {
    /// It was never looked at.
    Start,
    /// Something has changed; if it is nothing, what an engine failed to run is tried again.
    Changes(Changes),
    /// These words of a wish, by which so much runs again.
    Wish(String, Again),
    /// These words of a wish for other tests.
    Filter(String),
}

impl Watch<'_> {
    /// Does what somebody wishes.
    fn grant(&mut self, engine: &mut Engine, wish: Wish, began: Instant) -> anyhow::Result<()> {
        let only = |what: &str, text: &str| match text {
            "" => Cause::Filter(format!("all tests, whatever their {what}")),
            text => Cause::Filter(format!("only tests with `{text}` in their {what}")),
        };
        let cause = match wish {
            Wish::All => Cause::Wish("all tests".to_owned(), Again::All),
            Wish::Failed => {
                self.forget(engine, self.failed.clone());
                Cause::Wish("the tests that fail".to_owned(), Again::None)
            }
            Wish::Again => {
                self.forget(engine, self.ran.clone());
                Cause::Wish("what ran last".to_owned(), Again::None)
            }
            Wish::Path(text) => {
                let cause = only("path", &text);
                self.filter.path = text;
                cause
            }
            Wish::Name(text) => {
                let cause = only("names and tags", &text);
                self.filter.name = text;
                cause
            }
            Wish::Why => {
                printer::reasons(&self.why);
                return Ok(());
            }
            Wish::Graph => {
                if self.told.is_empty() {
                    printer::tell("no test was told of yet");
                }
                let graph = engine.graph();
                engine.release();
                printer::stream(|out| graph.text(|unit| self.told.contains(&unit.path), out));
                return Ok(());
            }
        };
        self.revision(engine, cause, began)
    }

    /// Has the scenarios of tests run again, as far as the tests are wanted.
    fn forget(&self, engine: &mut Engine, units: Vec<Unit>) {
        let units = self.filter.keep(engine, units);
        for report in engine.roots(&REPORT, &units).iter().flatten() {
            for key in report.scenarios.iter().filter_map(|scenario| scenario.key) {
                engine.forget_effect(Digest(key.0));
            }
        }
    }

    /// What a cause, and everything that changes meanwhile, brings about.
    fn revision(
        &mut self,
        engine: &mut Engine,
        cause: Cause,
        began: Instant,
    ) -> anyhow::Result<()> {
        let (mut again, mut changes, mut wished) = (Again::None, Changes::default(), None);
        let is_first = matches!(cause, Cause::Start);
        let is_overview = is_first || matches!(cause, Cause::Filter(_));
        match cause {
            Cause::Start => again = Again::Failed,
            Cause::Changes(some) => changes = some,
            Cause::Wish(words, runs) => (wished, again) = (Some(words), runs),
            Cause::Filter(words) => wished = Some(words),
        }
        let is_retry = !is_overview && wished.is_none() && changes.is_empty();
        for key in take(&mut self.crashed) {
            engine.forget_effect(Digest(key.0));
        }
        self.watcher.borrow_mut().forget_missing();
        let why = RefCell::default();
        let (mut ran, mut started) = (BTreeSet::new(), 0);
        let (mut summary, asides) = loop {
            let why = (!changes.is_empty()).then_some(&why);
            let (mut summary, settled) = self.settled(engine, again, why, began)?;
            ran.extend(settled.ran);
            started += summary.stats.containers_started;
            summary.stats.containers_started = started;
            let more = self.inbox.noted();
            if more.is_empty() || self.cancel.is_cancelled() {
                break (summary, settled.asides);
            }
            // Only what came of the latest is told.
            changes.add(more);
            // What was wished has been done.
            again = Again::None;
        };
        if self.cancel.is_cancelled() {
            return Ok(());
        }
        summary.why = why.into_inner();
        if !ran.is_empty() {
            self.why.clone_from(&summary.why);
        }
        let ran = if is_retry { BTreeSet::new() } else { ran };
        // What came and went meanwhile, as editors have it, is of no interest.
        changes.paths.retain(|path| {
            self.workspace.root.join(path).exists()
                || self.marks.keys().any(|it| *it.path == **path)
        });
        let before = self.marks.len();
        let shown = self.told(&summary, &ran, is_overview);
        let is_told = is_overview || wished.is_some() || !shown.is_empty();
        if is_told || self.marks.len() < before {
            self.told = shown.iter().map(|at| summary.units[*at].path.clone()).collect();
            let (changes, wished, summary) = (&changes, wished.as_deref(), &summary);
            let has_keys = self.has_keys;
            let revision = Revision { changes, wished, has_keys, summary, shown, is_first };
            self.tell(&revision);
        }
        asides.iter().for_each(|aside| printer::warn(aside));
        self.rest(engine);
        if started > 0
            && let Ok(backend) = self.backend.get()
        {
            backend.linger();
        }
        Ok(())
    }

    fn tell(&self, revision: &Revision<'_>) {
        printer::revision(revision, self.args.format);
        if self.has_keys {
            let (passed, failed) = revision.totals();
            let all = revision.summary.units.len() as u64;
            let tests = printer::many(all, "test");
            let mut totals = format!("watching {tests}: {passed} passed, {failed} failed");
            if all > passed + failed {
                totals += &format!(", {} not run", all - passed - failed);
            }
            printer::stand(Some(&format!("{totals} | {}", keys::HINT)));
        }
    }

    /// The reports of all tests there are now; why what runs does goes to `reasons`.
    fn settled(
        &self,
        engine: &mut Engine,
        again: Again,
        reasons: Option<&RefCell<Reasons>>,
        began: Instant,
    ) -> anyhow::Result<(RunSummary, Settled)> {
        let selection = match select(self.workspace, engine, &self.args.paths) {
            Ok(selection) => selection,
            // A folder may be gone for a moment.
            Err(error) => {
                printer::complain(&error);
                Default::default()
            }
        };
        let units = self.filter.keep(engine, selection.units);
        let backend = self.backend.get().map_err(|error| anyhow::anyhow!("{error}"))?;
        let progress = printer::Runs::of(units.len());
        let settle = Settle {
            backend,
            pool: &self.pool,
            cancel: &self.cancel,
            again,
            detail: Detail::Glance,
            frozen: false,
            fail_fast: false,
            progress: &|event| progress.tell(event),
            before_runs: &|engine, units, reports| {
                self.watch(engine);
                if let Some(reasons) = reasons {
                    explain(engine, units, reports, &mut reasons.borrow_mut());
                }
            },
            inbox: &self.inbox,
        };
        let mut settled = settle.settle(engine, units);
        let (ran, asides) = (take(&mut settled.ran), take(&mut settled.asides));
        let summary = summarise(engine, settled, self.settings, self.backend, began);
        Ok((summary, Settled { ran, asides, ..Settled::default() }))
    }

    /// The places of the tests to be told of: in an overview those that do not pass, later those that ran
    /// and those that stand otherwise than before.
    fn told(
        &mut self,
        summary: &RunSummary,
        ran: &BTreeSet<ActionKey>,
        is_overview: bool,
    ) -> Vec<usize> {
        let (mut shown, mut marks) = (Vec::new(), BTreeMap::new());
        let (mut failed, mut of_these) = (Vec::new(), Vec::new());
        for (at, (unit, report)) in summary.units.iter().zip(&summary.reports).enumerate() {
            let mark = report.as_ref().map_or_else(|stopped| format!("{stopped:?}"), mark);
            let view = report.as_ref().ok().and_then(|report| report.view().ok());
            let scenarios = || view.iter().flat_map(|report| &report.scenarios);
            let has_run = scenarios().filter_map(|one| one.key).any(|key| ran.contains(&key));
            let crashed = scenarios().filter(|one| matches!(one.state, State::Crashed(_)));
            self.crashed.extend(crashed.filter_map(|one| one.key));
            if has_run {
                of_these.push(unit.clone());
            }
            if view.as_ref().is_some_and(|report| report.state() == State::Failed) {
                failed.push(unit.clone());
            }
            let is_other = self.marks.get(unit) != Some(&mark);
            if if is_overview { !mark.is_empty() } else { has_run || is_other } {
                shown.push(at);
            }
            marks.insert(unit.clone(), mark);
        }
        // Those that pass without remarks last.
        shown.sort_by_key(|at| marks[&summary.units[*at]].is_empty());
        self.marks = marks;
        self.failed = failed;
        if !of_these.is_empty() {
            self.ran = of_these;
        }
        shown
    }

    /// Writes down what was learned, and lets others use the store.
    fn rest(&self, engine: &mut Engine) {
        super::finish(engine, "watch");
        self.watch(engine);
        engine.release();
    }

    /// Watches what was looked at. What changed before that comes in as a change.
    fn watch(&self, engine: &Engine) {
        let (folders, trees) = engine.looked_at();
        let has = |folder: &str, name: &str| engine.has_looked_at(folder, name);
        let looked = Looked { folders: &folders, trees: &trees, has: &has };
        if self.watcher.borrow_mut().watch(&looked, printer::warn) {
            let _ = self.inbox.sender().send(Happening::Changed(Changes::anywhere()));
        }
    }
}

/// What there is to say of a report, without how long it took; nothing of one that passed without
/// remarks.
fn mark(report: &KnownReport) -> String {
    let Ok(report) = report.view() else { return String::new() };
    let remarks: Vec<_> = report.diagnostics().collect();
    if report.state() == State::Passed && remarks.is_empty() {
        return String::new();
    }
    let scenarios = report.scenarios.iter().map(|one| (one.name, &one.state, &one.failures));
    format!("{:?}", (report.state(), scenarios.collect::<Vec<_>>(), &report.failures, remarks))
}
