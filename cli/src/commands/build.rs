//! `clnrm build`

use clnrm_backends::Cancel;
use clnrm_queries::{CHECK, Severity};

use crate::args::{BuildArgs, GraphFormat};
use crate::exit::Exit;
use crate::interrupt;
use crate::known::{Detail, checks};
use crate::printer;
use crate::select::select;
use crate::workspace::Workspace;

pub(crate) fn run(args: &BuildArgs) -> anyhow::Result<Exit> {
    let workspace = Workspace::find(&args.paths, &args.store)?.define(&args.variables.define)?;
    let mut engine = workspace.engine();
    interrupt::listen(&engine, &Cancel::default())?;
    let selection = select(&workspace, &mut engine, &args.paths)?;
    let settings = super::run::settings(&mut engine)?;
    if selection.units.is_empty() {
        printer::talk("no tests found; `clnrm init` makes some");
        return Ok(Exit::Nothing.max(selection.exit()));
    }
    let (units, checks) = checks(&mut engine, &CHECK, selection.units.clone(), Detail::Glance);
    // The graph is what was written down.
    let finished = super::finish(&mut engine, "build");
    settings.diagnostics.iter().for_each(printer::diagnostic_to_stderr);
    let sound = settings.diagnostics.iter().all(|d| d.severity < Severity::Error);
    let mut exit = if sound { Exit::Green } else { Exit::Diagnostics };
    for (unit, check) in units.iter().zip(&checks) {
        match check {
            Err(stopped) => {
                printer::stopped(&unit.path, stopped);
                exit = exit.max(stopped.into());
            }
            Ok(check) => {
                let Ok(check) = check.view() else { continue };
                check.diagnostics.iter().for_each(printer::diagnostic_to_stderr);
                if !check.is_sound() {
                    exit = exit.max(Exit::Diagnostics);
                }
            }
        }
    }
    if let Some(format) = args.graph {
        let graph = engine.graph();
        // Others may write while a slow reader reads.
        engine.release();
        printer::stream(|out| match format {
            GraphFormat::Text => graph.text(|_| true, out),
            GraphFormat::Dot => graph.dot(out),
            GraphFormat::Json => graph.json(out),
        });
    }
    Ok(exit.max(selection.exit()).max(finished))
}
