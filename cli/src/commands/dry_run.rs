//! `clnrm dry-run`

use std::sync::Arc;
use std::time::Instant;

use clnrm_engine::{Bug, Counts, Engine, Unit};
use clnrm_queries::{CHECK, Check, Severity};

use crate::args::DryRunArgs;
use crate::exit::Exit;
use crate::printer::{self, CheckResult, DrySummary};
use crate::select::select;
use crate::workspace::Workspace;

pub(crate) fn run(args: &DryRunArgs) -> anyhow::Result<Exit> {
    let began = Instant::now();
    let workspace = Workspace::find(&args.paths, &args.common.store)?;
    let selection = select(&workspace, &args.paths)?;
    let mut engine = workspace.engine();
    let settings = super::run::settings(&mut engine)?;
    let units = super::run::tests(&mut engine, &selection)?;
    if units.is_empty() {
        printer::talk("no tests found; `clnrm init` makes some");
        return Ok(Exit::Nothing.max(selection.exit()));
    }
    let checks = checks(&mut engine, &units);
    let counts = Counts::of(&engine.take_events());
    let files = units.iter().zip(checks);
    let files = files.map(|(unit, check)| CheckResult { file: unit.path.to_string(), check });
    let summary = DrySummary {
        files: files.collect(),
        diagnostics: settings.diagnostics.clone(),
        counts,
        duration: began.elapsed(),
    };
    printer::dry_run(&summary, args.common.format);
    engine.commit();
    printer::store_trouble(&engine);
    Ok(exit(&summary).max(selection.exit()))
}

/// The checks of `units`: those that still hold, and the others computed.
pub(crate) fn checks(engine: &mut Engine, units: &[Unit]) -> Vec<Result<Arc<Check>, Bug>> {
    let known = engine.recall(&CHECK, units);
    let open = units.iter().zip(&known).filter(|(_, check)| check.is_none());
    let open: Vec<Unit> = open.map(|(unit, _)| unit.clone()).collect();
    let mut computed =
        if open.is_empty() { Vec::new() } else { engine.demand(&CHECK, &open) }.into_iter();
    let checks = known.into_iter().map(|check| match check {
        Some(check) => Ok(check),
        None => computed.next().expect("there is one for every open unit"),
    });
    checks.collect()
}

fn exit(summary: &DrySummary) -> Exit {
    let worst = summary.files.iter().map(|file| match &file.check {
        Err(_) => Exit::Bug,
        Ok(check) if check.is_sound() => Exit::Green,
        Ok(_) => Exit::Diagnostics,
    });
    let sound = summary.diagnostics.iter().all(|d| d.severity < Severity::Error);
    worst.max().unwrap_or(Exit::Nothing).max(if sound { Exit::Green } else { Exit::Diagnostics })
}
