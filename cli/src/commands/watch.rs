//! `clnrm watch`

use std::cell::RefCell;
use std::collections::{BTreeMap, BTreeSet};
use std::mem::take;
use std::time::{Duration, Instant};

use anyhow::Context;
use clnrm_backends::{ActionKey, Cancel};
use clnrm_engine::{Digest, Engine, Unit};
use clnrm_queries::{Settings, State};

use super::run::{choice, default_jobs, settings, summarise};
use crate::args::WatchArgs;
use crate::exit::Exit;
use crate::inbox::{Changes, Happening, Inbox};
use crate::interrupt;
use crate::known::{Detail, KnownReport};
use crate::printer::{self, Revision, RunSummary};
use crate::select::select;
use crate::settle::{Again, Settle, Settled};
use crate::watcher::Watcher;
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
    backend.choose(choice(args.backend, &settings), args.pull);
    if let Err(error) = backend.get() {
        printer::backend_failed(error);
        return Ok(Exit::Backend);
    }
    let jobs = args.jobs.map(usize::from).or(settings.jobs).unwrap_or_else(default_jobs);
    let pool = rayon::ThreadPoolBuilder::new().num_threads(jobs).build();
    let watcher = Watcher::new(&workspace.root, inbox.sender(), args.poll);
    let mut watch = Watch {
        args,
        workspace: &workspace,
        backend: &backend,
        settings: &settings,
        pool: pool.context("cannot start threads for runs")?,
        watcher: RefCell::new(watcher.context("cannot watch for changes")?),
        inbox,
        cancel,
        marks: BTreeMap::new(),
        crashed: BTreeSet::new(),
    };
    watch.revision(&mut engine, None, began)?;
    let pause = Duration::from_millis(args.debounce.into());
    while !watch.cancel.is_cancelled() {
        let patience = if watch.crashed.is_empty() { FOREVER } else { RETRY_AFTER };
        let Some(changes) = watch.inbox.changes(patience, pause) else { break };
        let began = Instant::now();
        if changes.tell(&mut engine) || !watch.crashed.is_empty() {
            watch.revision(&mut engine, Some(changes), began)?;
        }
    }
    let removed = super::run::removed(backend.get().map_err(|error| anyhow::anyhow!("{error}"))?);
    Ok(Exit::Interrupted.max(super::finish(&mut engine, "watch")).max(removed))
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
    /// How each test stood when it was last told of.
    marks: BTreeMap<Unit, String>,
    /// What an engine failed to run.
    crashed: BTreeSet<ActionKey>,
}

impl Watch<'_> {
    /// What changed, and everything that changes meanwhile, brings about; at first, all there is.
    fn revision(
        &mut self,
        engine: &mut Engine,
        changes: Option<Changes>,
        began: Instant,
    ) -> anyhow::Result<()> {
        let is_first = changes.is_none();
        let mut changes = changes.unwrap_or_default();
        // Nothing changed: what an engine failed to run is tried again.
        let is_retry = !is_first && changes.is_empty();
        for key in take(&mut self.crashed) {
            engine.forget_effect(Digest(key.0));
        }
        self.watcher.borrow_mut().forget_missing();
        let again = if is_first { Again::Failed } else { Again::None };
        let (mut ran, mut started) = (BTreeSet::new(), 0);
        let (summary, asides) = loop {
            let (mut summary, settled) = self.settled(engine, again, began)?;
            ran.extend(settled.ran);
            started += summary.stats.containers_started;
            summary.stats.containers_started = started;
            let more = self.inbox.noted();
            if more.is_empty() || self.cancel.is_cancelled() {
                break (summary, settled.asides);
            }
            // Only what came of the latest is told.
            changes.add(more);
        };
        if self.cancel.is_cancelled() {
            return Ok(());
        }
        let ran = if is_retry { BTreeSet::new() } else { ran };
        // What came and went meanwhile, as editors have it, is of no interest.
        changes.paths.retain(|path| {
            self.workspace.root.join(path).exists()
                || self.marks.keys().any(|it| *it.path == **path)
        });
        let before = self.marks.len();
        let shown = self.told(&summary, &ran, is_first);
        if is_first || !shown.is_empty() || self.marks.len() < before {
            let revision = Revision { changes: &changes, summary: &summary, shown, is_first };
            printer::revision(&revision, self.args.format);
        }
        asides.iter().for_each(|aside| printer::warn(aside));
        self.rest(engine);
        Ok(())
    }

    /// The reports of all tests there are now.
    fn settled(
        &self,
        engine: &mut Engine,
        again: Again,
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
        let backend = self.backend.get().map_err(|error| anyhow::anyhow!("{error}"))?;
        let (progress, before_runs) = (printer::progress(), |engine: &Engine| self.watch(engine));
        let settle = Settle {
            backend,
            pool: &self.pool,
            cancel: &self.cancel,
            again,
            detail: Detail::Glance,
            frozen: false,
            fail_fast: false,
            progress: &progress,
            before_runs: &before_runs,
            inbox: &self.inbox,
        };
        let mut settled = settle.settle(engine, selection.units);
        let (ran, asides) = (take(&mut settled.ran), take(&mut settled.asides));
        let summary = summarise(engine, settled, self.settings, self.backend, began);
        Ok((summary, Settled { ran, asides, ..Settled::default() }))
    }

    /// The places of the tests to be told of: at first those that do not pass, later those that ran
    /// and those that stand otherwise than before.
    fn told(
        &mut self,
        summary: &RunSummary,
        ran: &BTreeSet<ActionKey>,
        is_first: bool,
    ) -> Vec<usize> {
        let (mut shown, mut marks) = (Vec::new(), BTreeMap::new());
        for (at, (unit, report)) in summary.units.iter().zip(&summary.reports).enumerate() {
            let mark = report.as_ref().map_or_else(|stopped| format!("{stopped:?}"), mark);
            let view = report.as_ref().ok().and_then(|report| report.view().ok());
            let scenarios = || view.iter().flat_map(|report| &report.scenarios);
            let has_run = scenarios().filter_map(|one| one.key).any(|key| ran.contains(&key));
            let crashed = scenarios().filter(|one| matches!(one.state, State::Crashed(_)));
            self.crashed.extend(crashed.filter_map(|one| one.key));
            let is_other = self.marks.get(unit) != Some(&mark);
            if if is_first { !mark.is_empty() } else { has_run || is_other } {
                shown.push(at);
            }
            marks.insert(unit.clone(), mark);
        }
        self.marks = marks;
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
        let [folders, trees] = [&folders, &trees].map(|all| all.iter().map(|path| &**path));
        if self.watcher.borrow_mut().watch(folders, trees, printer::warn) {
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
