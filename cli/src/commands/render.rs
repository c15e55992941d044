//! `clnrm render`

use std::path::Path;

use anyhow::{Context, bail};
use clnrm_engine::{Engine, Query, Stopped, Unit};
use clnrm_queries::{CELLS, CHECK, REACH, RENDERED};
use serde::Serialize;
use serde::de::DeserializeOwned;

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
    let file = unit(&workspace, &file)?;
    let unit = match ask(&mut engine, &CELLS, &file) {
        Ok(cells) => cell(&file, &cells, args.cell.as_deref())?,
        Err(stopped) => {
            printer::stopped(&file.path, &stopped);
            return Ok(Exit::from(&stopped));
        }
    };
    let told = match args.map {
        true => ask(&mut engine, &REACH, &unit).map(|reached| match reached.as_ref() {
            Ok(reached) => {
                printer::reached(reached);
                true
            }
            Err(_) => false,
        }),
        false => ask(&mut engine, &RENDERED, &unit).map(|rendered| match rendered.as_ref() {
            Ok(text) => {
                printer::text(&text.0);
                true
            }
            Err(_) => false,
        }),
    };
    let exit = match told {
        Err(stopped) => {
            printer::stopped(&unit.path, &stopped);
            Exit::from(&stopped)
        }
        Ok(true) => Exit::Green,
        Ok(false) => {
            let checks = engine.roots(&CHECK, std::slice::from_ref(&unit));
            let diagnostics = checks.iter().flatten().flat_map(|check| &check.diagnostics);
            diagnostics.for_each(printer::diagnostic_to_stderr);
            Exit::Diagnostics
        }
    };
    Ok(exit.max(super::finish(&mut engine, "render")))
}

fn ask<V: Serialize + DeserializeOwned + Send + Sync + 'static>(
    engine: &mut Engine,
    query: &'static Query<V>,
    unit: &Unit,
) -> Result<std::sync::Arc<V>, Stopped> {
    engine.demand(query, std::slice::from_ref(unit)).pop().expect("one was asked for")
}

/// The test to render: of a matrix file the cell that is named, else the first.
fn cell(file: &Unit, cells: &[String], wanted: Option<&str>) -> anyhow::Result<Unit> {
    let found = match wanted {
        None => cells.first(),
        Some(wanted) => {
            let found = cells.iter().find(|cell| *cell == wanted);
            if found.is_none() {
                let there = match cells.len() {
                    0 => "the file has no matrix".to_owned(),
                    _ => format!("there are {}", cells.join(", ")),
                };
                bail!("there is no cell {wanted}; {there}");
            }
            found
        }
    };
    Ok(found.map_or_else(|| file.clone(), |cell| file.part(cell.as_str())))
}
