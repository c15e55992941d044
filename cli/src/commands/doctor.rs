//! `clnrm doctor`

use std::path::Path;

use clnrm_backends::{Choice, Finding, Health, Pull, choose, survey};

use crate::args::{DoctorArgs, Format};
use crate::exit::Exit;
use crate::printer;
use crate::workspace::Workspace;

pub(crate) fn run(args: &DoctorArgs) -> anyhow::Result<Exit> {
    let workspace = Workspace::find(&[], &args.store)?;
    let program = Path::new("/proc/self/exe");
    let mut findings = survey(&workspace.root, program);
    findings.push(store(workspace.store()));
    let chosen = choose(
        args.backend.map_or(Choice::Auto, |backend| backend.choice()),
        Pull::Never,
        &workspace.root,
        program,
    );
    let used = match &chosen {
        Ok(chosen) => format!("{}: {}", chosen.backend.kind().name(), chosen.reason),
        Err(error) => error.to_string(),
    };
    let exit = match &chosen {
        Ok(chosen) if works(chosen.backend.kind().name(), &findings) => Exit::Green,
        _ => Exit::Backend,
    };
    match args.format {
        Format::Human => printer::findings(&findings, &used),
        Format::Json => printer::findings_as_json(&findings, &used),
    }
    Ok(exit)
}

/// Whether a container ran on the backend of this name.
fn works(backend: &str, findings: &[Finding]) -> bool {
    let of_backend = |finding: &&Finding| finding.name.to_lowercase() == backend;
    findings.iter().filter(of_backend).any(|finding| finding.state == Health::Good)
}

/// Whether results can be remembered.
fn store(path: &Path) -> Finding {
    let found = |state, detail, mend: Option<&str>| Finding {
        name: "store".to_owned(),
        state,
        detail,
        mend: mend.map(str::to_owned),
    };
    let place = path.display();
    match std::fs::metadata(path) {
        Ok(meta) => found(Health::Good, format!("{place}, {} KiB", meta.len() >> 10), None),
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => {
            found(Health::Good, format!("{place} is not there yet"), None)
        }
        Err(error) => {
            found(Health::Broken, format!("{place}: {error}"), Some("clnrm run --store FILE"))
        }
    }
}
