//! `clnrm init`

use std::fs;
use std::io::ErrorKind;
use std::path::Path;

use anyhow::Context;

use clnrm_queries::PACK;

use crate::args::InitArgs;
use crate::exit::Exit;
use crate::printer;
use crate::workspace::home_templates;

/// The project, by path and content.
const FILES: [(&str, &str); 5] = [
    ("clnrm.toml", include_str!("../../../templates/starter/clnrm.toml")),
    ("tests/hello.clnrm.toml", include_str!("../../../templates/starter/hello.clnrm.toml")),
    (
        "tests/greeting.clnrm.toml.tera",
        include_str!("../../../templates/starter/greeting.clnrm.toml.tera"),
    ),
    ("tests/_my_app.clnrm.toml", include_str!("../../../templates/starter/_my_app.clnrm.toml")),
    (".gitignore", ".clnrm/\n"),
];

pub(crate) fn run(args: &InitArgs) -> anyhow::Result<Exit> {
    if args.templates {
        let folder = home_templates().context("HOME is not set")?;
        for (name, content) in PACK {
            write_and_tell(&folder.join(name), content)?;
        }
        return Ok(Exit::Green);
    }
    for (name, content) in FILES {
        write_and_tell(&args.folder.join(name), content)?;
    }
    let here = args.folder == Path::new(".");
    let folder = if here { String::new() } else { format!(" {}", args.folder.display()) };
    printer::talk(&format!("now: clnrm run{folder}"));
    Ok(Exit::Green)
}

fn write_and_tell(path: &Path, content: &str) -> anyhow::Result<()> {
    if write_new(path, content)? {
        printer::talk(&format!("wrote {}", path.display()));
    } else {
        printer::talk(&format!("left {} as it is", path.display()));
    }
    Ok(())
}

/// Writes a file unless something is there; says whether it did.
fn write_new(path: &Path, content: &str) -> anyhow::Result<bool> {
    let folder = path.parent().unwrap_or(Path::new("."));
    fs::create_dir_all(folder).with_context(|| format!("cannot make {}", folder.display()))?;
    let file = fs::OpenOptions::new().write(true).create_new(true).open(path);
    match file {
        Ok(mut file) => {
            std::io::Write::write_all(&mut file, content.as_bytes())
                .with_context(|| format!("cannot write {}", path.display()))?;
            Ok(true)
        }
        Err(error) if error.kind() == ErrorKind::AlreadyExists => Ok(false),
        Err(error) => Err(error).with_context(|| format!("cannot write {}", path.display())),
    }
}
