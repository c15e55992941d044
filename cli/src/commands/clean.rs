//! `clnrm clean`

use clnrm_backends::clean;

use crate::args::CleanArgs;
use crate::exit::Exit;
use crate::printer;

pub(crate) fn run(args: &CleanArgs) -> anyhow::Result<Exit> {
    let (removed, troubles) = clean(args.images);
    if removed.is_empty() && troubles.is_empty() {
        printer::talk("there is nothing to remove");
    }
    for what in removed {
        printer::text(&format!("removed {what}\n"));
    }
    troubles.iter().for_each(|trouble| printer::complain_of(trouble));
    Ok(if troubles.is_empty() { Exit::Green } else { Exit::Backend })
}
