//! `clnrm shell`

use anyhow::{Context, bail};
use clnrm_backends::Kept;

use crate::args::ShellArgs;
use crate::exit::Exit;

pub(crate) fn run(args: &ShellArgs) -> anyhow::Result<Exit> {
    let wanted = args.scenario.as_deref().unwrap_or_default();
    let all = Kept::all();
    let mut fitting = all.iter().filter(|kept| kept.scenario.contains(wanted));
    let Some(kept) = fitting.next() else {
        bail!(
            "no environment `{wanted}` is up; `clnrm run --keep` keeps that of a failed scenario up"
        );
    };
    if let Some(other) = fitting.next() {
        bail!("several are up, `{}` and `{}`: name one", kept.scenario, other.scenario);
    }
    let is_it = |name: &String| args.service.as_ref().is_none_or(|service| service == name);
    let door = kept.doors.iter().find(|door| is_it(&door.service)).with_context(|| {
        let services: Vec<&str> = kept.doors.iter().map(|door| door.service.as_str()).collect();
        format!("`{}` has the services {}", kept.scenario, services.join(", "))
    })?;
    let shell = ["sh".to_owned()];
    let program = if args.program.is_empty() { &shell[..] } else { &args.program };
    let status = door.enter(program).context("cannot enter the container")?;
    Ok(if status.success() { Exit::Green } else { Exit::Failed })
}
