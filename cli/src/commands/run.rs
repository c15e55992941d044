//! `clnrm run`

use std::cell::RefCell;
use std::mem::ManuallyDrop;
use std::sync::Arc;
use std::time::Instant;

use anyhow::Context;
use clnrm_backends::{Backend, BackendError, Cancel, Choice, Kept, Published};
use clnrm_engine::{Engine, Stopped, Unit};
use clnrm_queries::{
    CHECK, Diagnostic, PLAN, SETTINGS, ScenarioReport, Settings, Severity, State, numbered,
    settings_unit,
};

use crate::args::{BackendArg, DryRunArgs, RunArgs, RunnerArgs};
use crate::exit::Exit;
use crate::inbox::Inbox;
use crate::interrupt;
use crate::known::{Deny, KnownReport, expanded};
use crate::printer::{self, RunSummary, Stats, Verbosity};
use crate::select::{Filter, select};
use crate::settle::{Again, Settle, Settled};
use crate::shard::shard;
use crate::why::{Reasons, explain, why};
use crate::workspace::{LazyBackend, Workspace};

/// Of so many tests that may not run it is told why they would have to.
const MOST_EXPLAINED: usize = 10;

pub(crate) fn run(args: &RunArgs) -> anyhow::Result<Exit> {
    if args.dry_run {
        return super::dry_run::run(&DryRunArgs {
            paths: args.paths.clone(),
            strict: args.strict,
            check: args.common.check(),
        });
    }
    if args.watch {
        return super::watch::run(&args.watching());
    }
    let began = Instant::now();
    let workspace =
        Workspace::find(&args.paths, &args.common.store)?.define(&args.common.variables.define)?;
    printer::files_are_in(workspace.place());
    let backend = LazyBackend::new(&workspace);
    let mut engine = workspace.engine_for(&backend);
    let cancel = Cancel::default();
    interrupt::listen(&engine, &cancel)?;
    // What is about every file is let go of with the process.
    let mut selection = ManuallyDrop::new(select(&workspace, &mut engine, &args.paths)?);
    let filter = Filter { tags: args.runner.tags.clone(), ..Filter::default() };
    selection.units = filter.keep(&mut engine, std::mem::take(&mut selection.units));
    if let Some(part) = args.shard {
        let units = std::mem::take(&mut selection.units);
        selection.units = shard(&mut engine, units, part, args.shard_by);
    }
    let settings = settings(&mut engine)?;
    backend.choose(choice(args.runner.backend, &settings), args.runner.pull);
    let deny = if args.strict { Deny::Unknown } else { Deny::Nothing };
    let mut against = deny.taken(&settings.diagnostics);
    against.extend(denied(&mut engine, &selection.units, deny));
    if against.iter().any(|one| one.severity == Severity::Error) {
        // Whatever they were to say, nothing is run without it.
        let nothing = summarise(&engine, Settled::default(), &settings, &backend, began);
        let summary = RunSummary { diagnostics: against, ..nothing };
        printer::run(&summary, args.common.format);
        return Ok(Exit::Diagnostics);
    }
    if selection.units.is_empty() {
        printer::tell(&match &args.runner.tags[..] {
            [] => "no tests found; `clnrm init` makes some".to_owned(),
            tags => format!("no test has the tag {}", tags.join(" or ")),
        });
        return Ok(Exit::Nothing.max(selection.exit()));
    }
    let backend_in_use = match backend.get() {
        Ok(backend) => backend,
        Err(error) => {
            printer::backend_failed(error);
            return Ok(Exit::Backend);
        }
    };
    let jobs = jobs(&args.runner, &settings);
    let pool = rayon::ThreadPoolBuilder::new().num_threads(jobs).build();
    let why = RefCell::new(Reasons::default());
    let progress = printer::Runs::of(selection.units.len());
    let settle = Settle {
        backend: backend_in_use,
        pool: &pool.context("cannot start threads for runs")?,
        cancel: &cancel,
        again: again(args),
        detail: args.common.format.into(),
        frozen: args.frozen,
        fail_fast: args.fail_fast,
        before_runs: &|engine, units, reports| {
            if printer::verbosity() == Verbosity::Verbose && !args.force {
                explain(engine, units, reports, &mut why.borrow_mut());
            }
        },
        inbox: &Inbox::default(),
        progress: &|event| progress.tell(event),
    };
    let mut settled = settle.settle(&mut engine, selection.units.clone());
    drop(progress);
    let asides = std::mem::take(&mut settled.asides);
    let summary = summarise(&engine, settled, &settings, &backend, began);
    let summary = ManuallyDrop::new(RunSummary { why: why.take(), ..summary });
    // A slow reader of what is printed must not keep others from the store.
    engine.release();
    printer::run(&summary, args.common.format);
    asides.iter().for_each(|aside| printer::warn(aside));
    let exit = if cancel.is_cancelled() {
        Exit::Interrupted
    } else if args.frozen {
        frozen(&mut engine, &summary)
    } else if args.fail_fast {
        fail_fast(&summary)
    } else {
        exit(&summary)
    };
    if args.keep && !cancel.is_cancelled() {
        keep(&mut engine, backend_in_use, &summary, &cancel);
    }
    let written = super::finish(&mut engine, "run");
    Ok(exit.max(selection.exit()).max(written).max(removed(backend_in_use)))
}

/// The errors of tests, if some of them are errors only by `deny`.
fn denied(engine: &mut Engine, units: &[Unit], deny: Deny) -> Vec<Diagnostic> {
    if deny == Deny::Nothing {
        return Vec::new();
    }
    let cells = expanded(engine, units, |_| false);
    let checks = engine.demand(&CHECK, cells.as_deref().unwrap_or(units));
    let told = || checks.iter().flatten().flat_map(|check| &check.diagnostics);
    let is_denied = told().any(|one| deny.severity(one) > one.severity);
    let errors = told().filter(|one| is_denied && deny.severity(one) == Severity::Error);
    errors.map(|one| Diagnostic { severity: Severity::Error, ..one.clone() }).collect()
}

/// Keeps the first scenario that failed up until Ctrl-C.
fn keep(engine: &mut Engine, backend: &dyn Backend, summary: &RunSummary, cancel: &Cancel) {
    let views = summary.reports.iter().map(|report| report.as_ref().ok()?.view().ok());
    let failed = summary.units.iter().zip(views).find_map(|(unit, report)| {
        let report = report?;
        let failed = |scenario: &ScenarioReport<_>| scenario.state == State::Failed;
        let at = report.scenarios.iter().position(failed)?;
        Some((numbered(unit, at), report.scenarios[at].name.to_string()))
    });
    let Some((unit, name)) = failed else {
        printer::tell("no scenario failed, so none is kept");
        return;
    };
    let plan = engine.demand(&PLAN, &[unit]).pop().and_then(Result::ok);
    let Some(Ok(action)) = plan.as_deref() else { return };
    // Others may use the store meanwhile.
    engine.commit();
    engine.release();
    let up = |kept: &Kept| {
        let services: Vec<&str> = kept.doors.iter().map(|door| door.service.as_str()).collect();
        printer::tell(&format!("`{}` is kept up, with {}", kept.scenario, services.join(", ")));
        for Published { service, port, at } in &kept.published {
            printer::tell(&format!("port {port} of `{service}` is at 127.0.0.1:{at}"));
        }
        printer::tell("enter it with `clnrm shell`; Ctrl-C removes it");
    };
    if let Err(error) = backend.keep(action, &name, cancel, &up) {
        printer::backend_failed(&error);
    }
}

/// Waits until nothing is left of what was run.
pub(super) fn removed(backend: &dyn Backend) -> Exit {
    match backend.finish() {
        Ok(()) => Exit::Green,
        Err(error) => {
            printer::backend_failed(&error);
            Exit::Backend
        }
    }
}

pub(crate) fn settings(engine: &mut Engine) -> anyhow::Result<Arc<Settings>> {
    let settings = engine.roots(&SETTINGS, &[settings_unit()]).pop().expect("one was asked for");
    settings.map_err(|stopped| anyhow::anyhow!(Exit::from(&stopped)).context(stopped))
}

fn again(args: &RunArgs) -> Again {
    match args {
        RunArgs { force: true, .. } => Again::All,
        RunArgs { reuse_failures: true, .. } => Again::None,
        _ => Again::Failed,
    }
}

/// As without `--fail-fast`, but what was not run says nothing.
fn fail_fast(summary: &RunSummary) -> Exit {
    let ran = |report: &&Result<KnownReport, Stopped>| !is_open(report);
    summary.reports.iter().filter(ran).map(exit_of).max().unwrap_or(Exit::Nothing)
}

/// Whether something of it would still have to run.
fn is_open(report: &Result<KnownReport, Stopped>) -> bool {
    let report = report.as_ref().ok().and_then(|report| report.view().ok());
    report.is_some_and(|report| report.state() == State::Pending)
}

/// As without `--frozen`, but what would have to run is a failure.
fn frozen(engine: &mut Engine, summary: &RunSummary) -> Exit {
    let open = summary.units.iter().zip(&summary.reports).filter(|(_, report)| is_open(report));
    let open: Vec<_> = open.collect();
    if open.is_empty() {
        return exit(summary);
    }
    let (many, of) = (open.len(), summary.reports.len());
    printer::complain_of(&format!(
        "{many} of {of} tests would have to run, and --frozen forbids it"
    ));
    for (unit, report) in open.into_iter().take(MOST_EXPLAINED) {
        let Some(report) = report.as_ref().ok().and_then(|report| report.view().ok()) else {
            continue;
        };
        for line in why(engine, unit, &report) {
            printer::tell(&format!("  {unit}: {line}"));
        }
    }
    let others = summary.reports.iter().filter(|report| !is_open(report)).map(exit_of);
    others.max().unwrap_or(Exit::Green).max(Exit::Failed)
}

pub(super) fn choice(argument: Option<BackendArg>, settings: &Settings) -> Choice {
    match (argument, settings.backend.as_deref()) {
        (Some(argument), _) => argument.choice(),
        (None, Some("podman")) => Choice::Podman,
        (None, Some("docker")) => Choice::Docker,
        (None, Some("sandbox")) => Choice::Sandbox,
        (None, _) => Choice::Auto,
    }
}

/// How many scenarios run at once.
pub(super) fn jobs(args: &RunnerArgs, settings: &Settings) -> usize {
    let cores = || std::thread::available_parallelism().map_or(1, usize::from);
    args.jobs.map(usize::from).or(settings.jobs).unwrap_or_else(cores)
}

pub(super) fn summarise(
    engine: &Engine,
    settled: Settled,
    settings: &Settings,
    backend: &LazyBackend,
    began: Instant,
) -> RunSummary {
    let counts = engine.take_counts();
    let stats = Stats {
        containers_started: settled.started,
        outcomes_reused: settled.reused,
        nodes_executed: counts.executed,
        nodes_recalled: counts.recalled,
        nodes_cut_off: counts.cut_off,
    };
    RunSummary {
        units: settled.units,
        reports: settled.reports,
        diagnostics: settings.diagnostics.clone(),
        stats,
        backend: backend.reason().unwrap_or_default().to_owned(),
        duration: began.elapsed(),
        why: Reasons::default(),
    }
}

fn exit(summary: &RunSummary) -> Exit {
    summary.reports.iter().map(exit_of).max().unwrap_or(Exit::Nothing)
}

fn exit_of(report: &Result<KnownReport, Stopped>) -> Exit {
    match report.as_ref().map(KnownReport::view) {
        Err(stopped) => stopped.into(),
        Ok(Err(_)) => Exit::Green,
        Ok(Ok(report)) => match report.state() {
            State::Passed => Exit::Green,
            State::Failed => Exit::Failed,
            State::Crashed(BackendError::Cancelled) | State::Pending => Exit::Interrupted,
            State::Crashed(_) => Exit::Backend,
            State::Broken => {
                let of_backend = |d: &Diagnostic<&str>| {
                    d.code.starts_with("image/") || d.code.starts_with("backend/")
                };
                if report.diagnostics().any(of_backend) { Exit::Backend } else { Exit::Diagnostics }
            }
        },
    }
}
