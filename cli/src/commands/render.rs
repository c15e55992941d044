//! `clnrm render`

use std::path::Path;

use anyhow::bail;
use clnrm_queries::{CHECK, RENDERED};

use crate::args::RenderArgs;
use crate::exit::Exit;
use crate::printer;
use crate::select::select;
use crate::workspace::Workspace;

pub(crate) fn run(args: &RenderArgs) -> anyhow::Result<Exit> {
    let paths = [args.file.clone()];
    let workspace = Workspace::find(&paths, &args.store)?;
    if Path::new(&args.file).is_dir() {
        bail!("{} is a folder; name one file", args.file.display());
    }
    let selection = select(&workspace, &paths)?;
    let mut engine = workspace.engine();
    let unit = selection.tests.first().expect("a file that was named is selected");
    let rendered = engine.demand(&RENDERED, std::slice::from_ref(unit)).pop();
    let exit = match rendered.expect("one was asked for") {
        Err(bug) => {
            printer::bug(&unit.path, &bug);
            Exit::Bug
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
    Ok(exit.max(super::finish(&mut engine)))
}
