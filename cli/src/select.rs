//! Finds test files.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};

use anyhow::{Context, bail};
use clnrm_engine::Unit;
use clnrm_queries::SETTINGS_FILES;
use ignore::{DirEntry, WalkBuilder};

use crate::exit::Exit;
use crate::printer;
use crate::workspace::Workspace;

/// What was selected.
#[derive(Debug, Default)]
pub(crate) struct Selection {
    /// Files that are tests by their name, or were named: they must be tests.
    pub(crate) tests: Vec<Unit>,
    /// Other TOML files: tests if they say so.
    pub(crate) candidates: Vec<Unit>,
    /// Whether there is something that could not be looked at; it was told.
    passed_over: bool,
}

impl Selection {
    /// Tests may be hidden in what could not be looked at, so that is no success.
    pub(crate) fn exit(&self) -> Exit {
        if self.passed_over { Exit::Diagnostics } else { Exit::Green }
    }
}

/// The endings by which a file is a test.
const TEST_ENDINGS: [&str; 3] = [".clnrm.toml", ".clnrm.toml.tera", ".toml.tera"];

/// The test files among and below `paths`, below the current folder when there are none.
pub(crate) fn select(workspace: &Workspace, paths: &[PathBuf]) -> anyhow::Result<Selection> {
    let (mut tests, mut candidates) = (BTreeSet::new(), BTreeSet::new());
    let mut passed_over = false;
    let mut pass_over = |what: String| {
        printer::complain_of(&what);
        passed_over = true;
    };
    let everything = [PathBuf::from(".")];
    let paths = if paths.is_empty() { &everything[..] } else { paths };
    for path in paths {
        let start = std::fs::canonicalize(path)
            .with_context(|| format!("cannot find {}", path.display()))?;
        if start.is_file() {
            tests.insert(unit(workspace, &start)?);
            continue;
        }
        for entry in walk(&start) {
            let entry = match entry {
                Ok(entry) => entry,
                Err(error) => {
                    pass_over(error.to_string());
                    continue;
                }
            };
            if !entry.file_type().is_some_and(|kind| kind.is_file()) {
                continue;
            }
            let Some(name) = entry.file_name().to_str().filter(|_| entry.path().to_str().is_some())
            else {
                pass_over(format!("{}: its name is not UTF-8", entry.path().display()));
                continue;
            };
            if TEST_ENDINGS.iter().any(|ending| name.ends_with(ending)) {
                tests.insert(unit(workspace, entry.path())?);
            } else if name.ends_with(".toml") && !SETTINGS_FILES.contains(&name) {
                candidates.insert(unit(workspace, entry.path())?);
            }
        }
    }
    candidates.retain(|unit| !tests.contains(unit));
    Ok(Selection {
        tests: tests.into_iter().collect(),
        candidates: candidates.into_iter().collect(),
        passed_over,
    })
}

/// Everything below a folder but what is ignored, hidden, a library or made by a build.
fn walk(start: &Path) -> ignore::Walk {
    let wanted = |entry: &DirEntry| {
        let name = entry.file_name().as_encoded_bytes();
        entry.depth() == 0
            || !(name.starts_with(b"_") || name == b"target" || name == b"node_modules")
    };
    WalkBuilder::new(start)
        .require_git(false)
        .add_custom_ignore_filename(".clnrmignore")
        .filter_entry(wanted)
        .build()
}

fn unit(workspace: &Workspace, path: &Path) -> anyhow::Result<Unit> {
    let Ok(relative) = path.strip_prefix(&workspace.root) else {
        bail!("{} lies outside the workspace {}", path.display(), workspace.root.display());
    };
    let relative = relative.to_str().context("a path that is not UTF-8 cannot be a test")?;
    Ok(Unit::file(relative))
}
