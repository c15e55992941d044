//! `clnrm man`

use anyhow::Context;
use clap::CommandFactory;

use crate::args::{Args, ManArgs};
use crate::exit::Exit;
use crate::printer;

pub(crate) fn run(args: &ManArgs) -> anyhow::Result<Exit> {
    match &args.folder {
        Some(folder) => {
            std::fs::create_dir_all(folder)
                .and_then(|()| clap_mangen::generate_to(Args::command(), folder))
                .with_context(|| format!("cannot write to {}", folder.display()))?;
        }
        None => printer::stream(|out| clap_mangen::Man::new(Args::command()).render(out)),
    }
    Ok(Exit::Green)
}
