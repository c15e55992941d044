//! `clnrm render`

use std::path::Path;

use anyhow::{Context, bail};
use clnrm_queries::{CHECK, RENDERED};

use crate::args::RenderArgs;
use crate::exit::Exit;
use crate::printer;
use crate::select::unit;
use crate::workspace::Workspace;

pub(crate) fn run(args: &RenderArgs) -> anyhow::Result<Exit> {
    let paths = [args.file.clone()];
    let workspace = Workspace::find(&paths, &args.store)?.define(&args.variables.define)?;
    if Path::new(&args.file).is_dir() {
        bail!("{} is a folder; name one file", args.file.display());
    }
    let file = std::fs::canonicalize(&args.file)
        .with_context(|| format!("cannot find {}", args.file.display()))?;
    let mut engine = workspace.engine();
    let unit = &unit(&workspace, &file)?;
    let rendered = engine.demand(&RENDERED, std::slice::from_ref(unit)).pop();
    let exit = match rendered.expect("one was asked for") {
        Err(stopped) => {
            printer::stopped(&unit.path, &stopped);
            Exit::from(&stopped)
        }
        Ok(rendered) => match rendered.as_ref() {
            Ok(text) => {
                printer::text(&text.0);
                Exit::Green
            }
            Err(_) => {
                let checks = engine.roots(&CHECK, std::slice::from_ref(unit));
                let diagnostics = checks.iter().flatten().flat_map(|check| &check.diagnostics);
                diagnostics.for_each(printer::diagnostic_to_stderr);
                Exit::Diagnostics
            }
        },
    };
    Ok(exit.max(super::finish(&mut engine, "render")))
}
