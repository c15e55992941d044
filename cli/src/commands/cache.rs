//! `clnrm cache`

use anyhow::Context;
use clnrm_engine::{Collected, Verified};

use crate::args::{CacheArgs, CacheCommand};
use crate::exit::Exit;
use crate::printer;
use crate::workspace::Workspace;

pub(crate) fn run(args: &CacheArgs) -> anyhow::Result<Exit> {
    let workspace = Workspace::find(&[], &args.store)?;
    let mut engine = workspace.engine();
    let mut exit = Exit::Green;
    let was_there = workspace.store().exists();
    match &args.command {
        CacheCommand::Stats => {
            let stats = engine.store_stats();
            printer::text(&format!(
                "store     {}\nbytes     {}\nroots     {}\nnodes     {}\nvalues    {}\noutcomes  {}\n",
                workspace.store().display(),
                stats.bytes,
                stats.roots,
                stats.nodes,
                stats.values,
                stats.effects,
            ));
        }
        CacheCommand::Clear => {
            let store = workspace.store().display();
            engine.clear_store().with_context(|| format!("cannot remove {store}"))?;
            printer::talk(&format!("removed {store}"));
        }
        CacheCommand::Verify => match engine.verify_store() {
            Some(Verified { rows, damaged }) => {
                printer::text(&format!("rows      {rows}\ndamaged   {damaged}\n"));
                if damaged > 0 {
                    exit = Exit::Failed;
                    // Opening it again sets it aside.
                    engine.store_stats();
                }
            }
            None if was_there => exit = Exit::Failed,
            None => printer::talk("there is no store yet"),
        },
        CacheCommand::Gc { max_size } => {
            let Collected { files, effects, bytes } = engine.collect(max_size << 20);
            printer::text(&format!("files     {files}\noutcomes  {effects}\nbytes     {bytes}\n"));
        }
        CacheCommand::Export { file } => {
            let exported = engine.export_store(file);
            exported.with_context(|| format!("cannot export to {}", file.display()))?;
            printer::talk(&format!("wrote {}", file.display()));
        }
        CacheCommand::Import { file } => {
            let imported = engine.import_store(file);
            imported.with_context(|| format!("cannot import {}", file.display()))?;
            printer::talk(&format!("took in {}", file.display()));
        }
    }
    printer::store_trouble(&engine);
    Ok(exit)
}
