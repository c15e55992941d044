//! `clnrm services`

use clnrm_backends::{Kept, Up, services_up};

use super::logs;
use crate::args::{ServicesArgs, ServicesCommand};
use crate::exit::Exit;
use crate::printer;

pub(crate) fn run(args: &ServicesArgs) -> anyhow::Result<Exit> {
    match &args.command {
        ServicesCommand::Status => Ok(status()),
        ServicesCommand::Logs { service, paths } => {
            logs::print(&args.store, paths, "", Some(service))
        }
        ServicesCommand::Restart { service } => {
            printer::complain_of(&format!(
                "`{service}` lives as long as its scenario; `clnrm run --force` starts it afresh"
            ));
            Ok(Exit::Usage)
        }
    }
}

/// What is up, in engines by their labels, and in the sandbox by what is kept.
fn status() -> Exit {
    let (up, troubles) = services_up();
    let kept = Kept::all();
    let kept = kept.iter().flat_map(|kept| kept.doors.iter().map(move |door| (kept, door)));
    let kept: Vec<_> = kept.filter(|(_, door)| door.is_in_sandbox()).collect();
    if up.is_empty() && kept.is_empty() {
        printer::talk("no service is up");
    }
    for Up { service, workspace, container, age } in &up {
        let (age, place) = (age.as_secs(), workspace.display());
        printer::text(&format!("{service}  up for {age} s  {container}  {place}\n"));
    }
    for (kept, door) in kept {
        printer::text(&format!("{}  kept up  `{}` in the sandbox\n", door.service, kept.scenario));
    }
    troubles.iter().for_each(|trouble| printer::complain_of(trouble));
    if troubles.is_empty() { Exit::Green } else { Exit::Backend }
}
