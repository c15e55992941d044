//! `clnrm dry-run`

use std::mem::ManuallyDrop;
use std::path::PathBuf;
use std::time::Instant;

use clnrm_backends::Cancel;
use clnrm_engine::{Query, Stopped};
use clnrm_queries::{CHECK, Check, Diagnostic, Severity};

use crate::args::{CheckArgs, CheckFormat, DryRunArgs};
use crate::exit::Exit;
use crate::interrupt;
use crate::known::{Deny, Detail, Known, checks};
use crate::printer::{self, DrySummary};
use crate::select::select;
use crate::workspace::Workspace;

/// A command that checks tests.
pub(crate) struct Checking<'a> {
    pub(crate) command: &'static str,
    pub(crate) query: &'static Query<Check>,
    pub(crate) paths: &'a [PathBuf],
    pub(crate) deny: Deny,
    pub(crate) check: &'a CheckArgs,
}

pub(crate) fn run(args: &DryRunArgs) -> anyhow::Result<Exit> {
    let deny = if args.strict { Deny::Unknown } else { Deny::Nothing };
    let DryRunArgs { paths, check: common, .. } = args;
    let checking = Checking { command: "dry-run", query: &CHECK, paths, deny, check: common };
    check(&checking, printer::dry_run)
}

/// Checks tests, and has it told.
pub(crate) fn check(
    checking: &Checking<'_>,
    tell: fn(&DrySummary<'_>, CheckFormat),
) -> anyhow::Result<Exit> {
    let began = Instant::now();
    let Checking { command, query, paths, deny, check } = checking;
    let workspace = Workspace::find(paths, &check.store)?.define(&check.variables.define)?;
    printer::files_are_in(workspace.place());
    let mut engine = workspace.engine();
    interrupt::listen(&engine, &Cancel::default())?;
    // What is about every file is let go of with the process.
    let selection = ManuallyDrop::new(select(&workspace, &mut engine, paths)?);
    let settings = super::run::settings(&mut engine)?;
    let of_settings = deny.taken(&settings.diagnostics);
    let is_sound = of_settings.iter().all(|one| one.severity < Severity::Error);
    if selection.units.is_empty() && is_sound {
        printer::talk("no tests found; `clnrm init` makes some");
        return Ok(Exit::Nothing.max(selection.exit()));
    }
    let detail = if *deny == Deny::Nothing { check.format.into() } else { Detail::Whole };
    let files = printer::many(selection.units.len() as u64, "file");
    let busy = printer::Busy::with(format!("checking {files}"));
    let (units, checks) = checks(&mut engine, query, selection.units.clone(), detail);
    drop(busy);
    let units = ManuallyDrop::new(units);
    let given_up = checks.iter().filter(|check| matches!(check, Err(Stopped::Cancelled))).count();
    if given_up > 0 {
        let done = checks.len() - given_up;
        printer::talk(&format!("interrupted: {done} of {} files are checked", checks.len()));
        return Ok(Exit::Interrupted.max(super::finish(&mut engine, command)));
    }
    let counts = engine.take_counts();
    let summary = ManuallyDrop::new(DrySummary {
        units: &units,
        checks,
        diagnostics: of_settings,
        deny: *deny,
        counts,
        duration: began.elapsed(),
    });
    tell(&summary, check.format);
    Ok(exit(&summary).max(selection.exit()).max(super::finish(&mut engine, command)))
}

/// Gives every diagnostic of tests to `see`; gives the workspace's root.
pub(crate) fn diagnostics(
    checking: &Checking<'_>,
    mut see: impl FnMut(&Diagnostic<&str>),
) -> anyhow::Result<PathBuf> {
    let Checking { command, query, paths, check, .. } = checking;
    let workspace = Workspace::find(paths, &check.store)?.define(&check.variables.define)?;
    let mut engine = workspace.engine();
    let selection = select(&workspace, &mut engine, paths)?;
    let (_, checks) = checks(&mut engine, query, selection.units, Detail::Whole);
    for check in checks.iter().flatten() {
        if let Ok(check) = check.view() {
            check.diagnostics.iter().for_each(&mut see);
        }
    }
    super::finish(&mut engine, command);
    Ok(workspace.root)
}

fn exit(summary: &DrySummary<'_>) -> Exit {
    let worst = summary.checks.iter().map(|check| match check {
        Err(stopped) => stopped.into(),
        Ok(Known::Green(_)) => Exit::Green,
        Ok(check) => match check.view() {
            Ok(check) if !summary.deny.is_sound(&check) => Exit::Diagnostics,
            _ => Exit::Green,
        },
    });
    let sound = summary.diagnostics.iter().all(|d| d.severity < Severity::Error);
    worst.max().unwrap_or(Exit::Nothing).max(if sound { Exit::Green } else { Exit::Diagnostics })
}
