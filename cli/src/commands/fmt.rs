//! `clnrm fmt`

use std::io::Read;
use std::panic::resume_unwind;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::mpsc::{Receiver, channel};

use anyhow::Context;
use clnrm_backends::Cancel;
use clnrm_engine::{Digest, Unit};
use clnrm_queries::{Diagnostic, FORMATTED, Formatted, Severity, source_digest};
use rayon::prelude::*;
use rayon::{ThreadPool, ThreadPoolBuilder};
use similar::TextDiff;

use crate::args::FmtArgs;
use crate::exit::Exit;
use crate::interrupt;
use crate::overlay::Overlay;
use crate::printer;
use crate::replace::{CHANGED, Replacement, replace_all};
use crate::select::select;
use crate::workspace::Workspace;

/// The name of what comes from the standard input, unless it is given one.
const STDIN: &str = "stdin.clnrm.toml";
/// How many files are looked at before those of them that change are replaced, with one wait for the
/// disk.
const AT_ONCE: usize = 1024;
const MARK: &str = "\u{feff}";

pub(crate) fn run(args: &FmtArgs) -> anyhow::Result<Exit> {
    if args.stdin {
        return from_stdin(args);
    }
    let workspace = Workspace::find(&args.paths, &args.store)?.define(&args.variables.define)?;
    let mut engine = workspace.engine();
    let cancel = Cancel::default();
    interrupt::listen(&engine, &cancel)?;
    let selection = select(&workspace, &mut engine, &args.paths)?;
    if selection.units.is_empty() {
        printer::talk("no tests found; `clnrm init` makes some");
        return Ok(Exit::Nothing.max(selection.exit()));
    }
    let files = printer::many(selection.units.len() as u64, "file");
    let busy = printer::Busy::with(format!("formatting {files}"));
    let mut exit = selection.exit();
    let (sender, changes) = channel();
    let carried_out = std::thread::scope(|scope| {
        // The disk is waited for while others are formatted, and what was learned is written down.
        let carried_out = scope.spawn(|| carry_out_all(args, &workspace.root, changes, &cancel));
        for units in selection.units.chunks(AT_ONCE) {
            let mut some = Vec::new();
            for (unit, formatted) in units.iter().zip(engine.roots(&FORMATTED, units)) {
                match formatted.as_deref() {
                    Ok(Formatted::Same) => {}
                    Ok(Formatted::Left(diagnostic)) => exit = exit.max(left(diagnostic)),
                    Ok(Formatted::Changed { from, text }) => {
                        some.push(Change { unit, from: *from, text: text.clone() });
                    }
                    Err(stopped) => exit = exit.max(stopped.into()),
                }
            }
            // If nobody receives it, why is told below.
            let _ = sender.send(some);
        }
        drop((sender, busy));
        exit = exit.max(super::finish(&mut engine, "fmt"));
        carried_out.join().unwrap_or_else(|panic| resume_unwind(panic))
    });
    let (changed, worst) = carried_out?;
    let (all, verb) = (selection.units.len() as u64, verb(args));
    printer::talk(&format!("{changed} of {} {verb}", printer::many(all, "file")));
    Ok(exit.max(worst))
}

/// Makes all changes, unless they are only asked for, and shows each; gives how many there are, and
/// the worst of what came of them.
fn carry_out_all(
    args: &FmtArgs,
    root: &Path,
    changes: Receiver<Vec<Change<'_>>>,
    cancel: &Cancel,
) -> anyhow::Result<(u64, Exit)> {
    let (mut changed, mut exit, mut pool) = (0, Exit::Green, None);
    for some in changes {
        if cancel.is_cancelled() {
            exit = exit.max(Exit::Interrupted);
            continue;
        }
        if some.is_empty() {
            continue;
        }
        let pool = match &pool {
            Some(pool) => pool,
            None => &*pool.insert(writers()?),
        };
        for (change, shown) in some.iter().zip(pool.install(|| carry_out(args, root, &some))) {
            match shown {
                Ok(shown) => {
                    changed += 1;
                    printer::text(&shown);
                    exit = exit.max(if args.check { Exit::Failed } else { Exit::Green });
                }
                Err(error) => {
                    printer::complain(&error.context(format!("cannot format {}", change.unit)));
                    exit = exit.max(Exit::Usage);
                }
            }
        }
    }
    Ok((changed, exit))
}

/// Threads for this alone: who waits for it is one of those that format, with one core the only one.
fn writers() -> anyhow::Result<ThreadPool> {
    ThreadPoolBuilder::new().build().context("cannot start threads to write with")
}

fn verb(args: &FmtArgs) -> &'static str {
    if args.check || args.diff { "would be formatted" } else { "formatted" }
}

/// Tells why a file stays as it is.
fn left(diagnostic: &Diagnostic) -> Exit {
    printer::diagnostic_to_stderr(diagnostic);
    if diagnostic.severity == Severity::Error { Exit::Diagnostics } else { Exit::Green }
}

/// A file that is to have another text.
struct Change<'a> {
    unit: &'a Unit,
    /// Of the text it is made of.
    from: Digest,
    text: Arc<str>,
}

/// What a change looks like.
struct Look {
    file: Replacement,
    shown: String,
}

/// Makes changes, unless they are only asked for; gives what is shown of each.
fn carry_out(args: &FmtArgs, root: &Path, changes: &[Change<'_>]) -> Vec<anyhow::Result<String>> {
    // Nothing is written, so nobody minds what has changed meanwhile.
    if args.check && !args.diff {
        return changes.iter().map(|change| Ok(format!("{}\n", change.unit))).collect();
    }
    let looks = changes.par_iter().map(|change| change.look(root, args.diff));
    let looks: Vec<anyhow::Result<Look>> = looks.collect();
    let files = looks.iter().flatten().map(|look| &look.file);
    let files: Vec<&Replacement> = files.filter(|_| !args.diff).collect();
    let mut replaced = replace_all(&files).into_iter();
    let carried_out = looks.into_iter().map(|look| {
        let look = look?;
        replaced.next().transpose()?;
        Ok(look.shown)
    });
    carried_out.collect()
}

impl Change<'_> {
    fn look(&self, root: &Path, as_diff: bool) -> anyhow::Result<Look> {
        let Change { unit, from, text } = self;
        let path = root.join(&*unit.path);
        let before = std::fs::read_to_string(&path)?;
        let plain = before.strip_prefix(MARK);
        let (mark, plain) = plain.map_or(("", &*before), |plain| (MARK, plain));
        anyhow::ensure!(source_digest(plain) == *from, CHANGED);
        let shown = if as_diff {
            let diff = TextDiff::from_lines(plain, &**text);
            let (old, new) = (format!("a/{unit}"), format!("b/{unit}"));
            diff.unified_diff().header(&old, &new).to_string()
        } else {
            format!("{unit}\n")
        };
        let after = format!("{mark}{text}");
        Ok(Look { file: Replacement { path, before, after }, shown })
    }
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
            (text.as_bytes().to_vec(), exit)
        }
    };
    if !args.check {
        printer::stream(|out| out.write_all(&text));
    }
    Ok(exit)
}
