//! `clnrm cache`

use anyhow::Context;

use crate::args::{CacheArgs, CacheCommand};
use crate::exit::Exit;
use crate::printer;
use crate::workspace::Workspace;

pub(crate) fn run(args: &CacheArgs) -> anyhow::Result<Exit> {
    let workspace = Workspace::find(&[], &args.store)?;
    let engine = workspace.engine();
    match args.command {
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
    }
    printer::store_trouble(&engine);
    Ok(Exit::Green)
}
