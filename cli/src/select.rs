//! Finds test files.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};

use anyhow::{Context, bail};
use clnrm_engine::Unit;
use clnrm_queries::SETTINGS_FILES;
use ignore::{DirEntry, WalkBuilder};

use crate::workspace::Workspace;

/// What was selected.
#[derive(Debug, Default)]
pub(crate) struct Selection {
    /// Files that are tests by their name, or were named: they must be tests.
    pub(crate) tests: Vec<Unit>,
    /// Other TOML files: tests if they say so.
    pub(crate) candidates: Vec<Unit>,
    /// What was passed over, a line each.
    pub(crate) passed_over: Vec<String>,
}

/// The endings by which a file is a test.
const TEST_ENDINGS: [&str; 3] = [".clnrm.toml", ".clnrm.toml.tera", ".toml.tera"];

/// The test files among and below `paths`, below the current folder when there are none.
pub(crate) fn select(workspace: &Workspace, paths: &[PathBuf]) -> anyhow::Result<Selection> {
    let (mut tests, mut candidates) = (BTreeSet::new(), BTreeSet::new());
    let mut passed_over = Vec::new();
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
            let Ok(entry) = entry else { continue };
            if !entry.file_type().is_some_and(|kind| kind.is_file()) {
                continue;
            }
            let Some(name) = entry.file_name().to_str().filter(|_| entry.path().to_str().is_some())
            else {
                passed_over.push(format!("{}: its name is not UTF-8", entry.path().display()));
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
