//! `clnrm fmt`

use std::io::Read;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use anyhow::Context;
use clnrm_backends::Cancel;
use clnrm_engine::{Digest, Unit};
use clnrm_queries::{Diagnostic, FORMATTED, Formatted, Severity, source_digest};
use rayon::ThreadPoolBuilder;
use rayon::prelude::*;
use similar::TextDiff;

use crate::args::FmtArgs;
use crate::exit::Exit;
use crate::interrupt;
use crate::overlay::Overlay;
use crate::printer;
use crate::replace::replace;
use crate::select::select;
use crate::workspace::Workspace;

/// The name of what comes from the standard input, unless it is given one.
const STDIN: &str = "stdin.clnrm.toml";
const MARK: &str = "\u{feff}";

pub(crate) fn run(args: &FmtArgs) -> anyhow::Result<Exit> {
    if args.stdin {
        return from_stdin(args);
    }
    let workspace = Workspace::find(&args.paths, &args.store)?.define(&args.variables.define)?;
    let mut engine = workspace.engine();
    interrupt::listen(&engine, &Cancel::default())?;
    let selection = select(&workspace, &mut engine, &args.paths)?;
    if selection.units.is_empty() {
        printer::talk("no tests found; `clnrm init` makes some");
        return Ok(Exit::Nothing.max(selection.exit()));
    }
    let files = printer::many(selection.units.len() as u64, "file");
    let busy = printer::Busy::with(format!("formatting {files}"));
    let all = engine.roots(&FORMATTED, &selection.units);
    let changes = side_by_side(|| {
        let pairs = selection.units.par_iter().zip(&all);
        let changes = pairs.map(|(unit, formatted)| match formatted.as_deref() {
            Ok(Formatted::Changed { from, text }) => {
                let done = change(args, &workspace.root, unit, *from, text);
                Some(done.with_context(|| format!("cannot format {unit}")))
            }
            _ => None,
        });
        changes.collect::<Vec<_>>()
    });
    drop(busy);
    let (mut changed, mut exit) = (0_u64, selection.exit());
    for (formatted, change) in all.iter().zip(changes) {
        match formatted.as_deref() {
            Ok(Formatted::Left(diagnostic)) => exit = exit.max(left(diagnostic)),
            Ok(_) => {}
            Err(stopped) => exit = exit.max(stopped.into()),
        }
        match change {
            Some(Ok(shown)) => {
                changed += 1;
                printer::text(&shown);
                exit = exit.max(if args.check { Exit::Failed } else { Exit::Green });
            }
            Some(Err(error)) => {
                printer::complain(&error);
                exit = exit.max(Exit::Usage);
            }
            None => {}
        }
    }
    let (files, verb) = (printer::many(all.len() as u64, "file"), verb(args));
    printer::talk(&format!("{changed} of {files} {verb}"));
    Ok(exit.max(super::finish(&mut engine, "fmt")))
}

fn verb(args: &FmtArgs) -> &'static str {
    if args.check || args.diff { "would be formatted" } else { "formatted" }
}

/// Tells why a file stays as it is.
fn left(diagnostic: &Diagnostic) -> Exit {
    printer::diagnostic_to_stderr(diagnostic);
    if diagnostic.severity == Severity::Error { Exit::Diagnostics } else { Exit::Green }
}

/// Works on as many files at once as disks like: most of it is waiting for them.
fn side_by_side<T: Send>(work: impl FnOnce() -> T + Send) -> T {
    const AT_ONCE: usize = 16;
    match ThreadPoolBuilder::new().num_threads(AT_ONCE).build() {
        Ok(pool) => pool.install(work),
        // Without more threads it takes longer.
        Err(_) => work(),
    }
}

/// Makes a change unless it is only asked for; gives what is shown of it.
fn change(
    args: &FmtArgs,
    root: &Path,
    unit: &Unit,
    from: Digest,
    text: &str,
) -> anyhow::Result<String> {
    let path = root.join(&*unit.path);
    let before = std::fs::read_to_string(&path)?;
    let (mark, before) = match before.strip_prefix(MARK) {
        Some(before) => (MARK, before),
        None => ("", before.as_str()),
    };
    if source_digest(before) != from {
        anyhow::bail!("it has changed meanwhile, and is left as it is");
    }
    if !args.check && !args.diff {
        replace(&path, format!("{mark}{text}").as_bytes())?;
    }
    if !args.diff {
        return Ok(format!("{unit}\n"));
    }
    let diff = TextDiff::from_lines(before, text);
    let (old, new) = (format!("a/{unit}"), format!("b/{unit}"));
    Ok(diff.unified_diff().header(&old, &new).to_string())
}

/// Formats what comes from the standard input to the standard output, as if it were the file that is
/// named.
fn from_stdin(args: &FmtArgs) -> anyhow::Result<Exit> {
    let mut content = Vec::new();
    std::io::stdin().read_to_end(&mut content).context("cannot read the standard input")?;
    let named = args.paths.first().map_or(Path::new(STDIN), PathBuf::as_path);
    let folder = named.parent().filter(|folder| !folder.as_os_str().is_empty());
    let folder = folder.map_or_else(|| PathBuf::from("."), Path::to_owned);
    let workspace = Workspace::find(&[folder], &args.store)?.define(&args.variables.define)?;
    let path = std::path::absolute(named)?;
    let path = path.strip_prefix(&workspace.root).unwrap_or(named).to_owned();
    let overlay = Overlay::new(&workspace.root, &path, content.clone());
    let mut engine = workspace.engine_over(Arc::new(overlay));
    let unit = Unit::file(path.to_string_lossy().into_owned());
    let formatted = engine.demand(&FORMATTED, &[unit]).pop().expect("one was asked for");
    let (text, exit) = match formatted?.as_ref() {
        Formatted::Same => (content, Exit::Green),
        Formatted::Left(diagnostic) => (content, left(diagnostic)),
        Formatted::Changed { text, .. } => {
            let exit = if args.check { Exit::Failed } else { Exit::Green };
            (text.clone().into_bytes(), exit)
        }
    };
    if !args.check {
        printer::stream(|out| out.write_all(&text));
    }
    Ok(exit)
}
