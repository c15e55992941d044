//! `clnrm dry-run`

use std::mem::ManuallyDrop;
use std::time::Instant;

use clnrm_backends::Cancel;
use clnrm_engine::Stopped;
use clnrm_queries::Severity;

use crate::args::DryRunArgs;
use crate::exit::Exit;
use crate::interrupt;
use crate::known::{Known, checks};
use crate::printer::{self, DrySummary};
use crate::select::select;
use crate::workspace::Workspace;

pub(crate) fn run(args: &DryRunArgs) -> anyhow::Result<Exit> {
    let began = Instant::now();
    let workspace =
        Workspace::find(&args.paths, &args.common.store)?.define(&args.common.variables.define)?;
    let mut engine = workspace.engine();
    interrupt::listen(&engine, &Cancel::default())?;
    // What is about every file is let go of with the process.
    let selection = ManuallyDrop::new(select(&workspace, &mut engine, &args.paths)?);
    let settings = super::run::settings(&mut engine)?;
    if selection.units.is_empty() {
        printer::talk("no tests found; `clnrm init` makes some");
        return Ok(Exit::Nothing.max(selection.exit()));
    }
    let (units, checks) = checks(&mut engine, selection.units.clone(), args.common.format.into());
    let units = ManuallyDrop::new(units);
    let given_up = checks.iter().filter(|check| matches!(check, Err(Stopped::Cancelled))).count();
    if given_up > 0 {
        let done = checks.len() - given_up;
        printer::talk(&format!("interrupted: {done} of {} files are checked", checks.len()));
        return Ok(Exit::Interrupted.max(super::finish(&mut engine, "dry-run")));
    }
    let counts = engine.take_counts();
    let summary = ManuallyDrop::new(DrySummary {
        units: &units,
        checks,
        diagnostics: settings.diagnostics.clone(),
        counts,
        duration: began.elapsed(),
    });
    printer::dry_run(&summary, args.common.format);
    Ok(exit(&summary).max(selection.exit()).max(super::finish(&mut engine, "dry-run")))
}

fn exit(summary: &DrySummary<'_>) -> Exit {
    let worst = summary.checks.iter().map(|check| match check {
        Err(stopped) => stopped.into(),
        Ok(Known::Green(_) | Known::Recalled(_)) => Exit::Green,
        Ok(Known::Told(check)) if check.is_sound() => Exit::Green,
        Ok(Known::Told(_)) => Exit::Diagnostics,
    });
    let sound = summary.diagnostics.iter().all(|d| d.severity < Severity::Error);
    worst.max().unwrap_or(Exit::Nothing).max(if sound { Exit::Green } else { Exit::Diagnostics })
}
