//! Finds test files.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};

use anyhow::{Context, bail};
use clnrm_engine::{Engine, Unit};
use clnrm_queries::{CHECK, Check, SELECTION, Selection, Severity};

use crate::exit::Exit;
use crate::known::expanded;
use crate::printer;
use crate::workspace::Workspace;

/// What was selected.
#[derive(Debug, Default)]
pub(crate) struct Selected {
    /// The tests, sorted.
    pub(crate) units: Vec<Unit>,
    /// Whether there is something that could not be looked at; it was told.
    passed_over: bool,
}

impl Selected {
    /// Tests may be hidden in what could not be looked at, so that is no success.
    pub(crate) fn exit(&self) -> Exit {
        if self.passed_over { Exit::Diagnostics } else { Exit::Green }
    }
}

/// Which of the tests are wanted: those that meet all of it.
#[derive(Debug, Default)]
pub(crate) struct Filter {
    /// Tags of which they have one, if there are any.
    pub(crate) tags: Vec<String>,
    /// What their paths contain.
    pub(crate) path: String,
    /// What their name, a scenario's or a tag contains.
    pub(crate) name: String,
}

impl Filter {
    /// Those of `units` that are wanted. One that cannot be read may be wanted.
    pub(crate) fn keep(&self, engine: &mut Engine, mut units: Vec<Unit>) -> Vec<Unit> {
        units.retain(|unit| unit.path.contains(&self.path));
        if self.tags.is_empty() && self.name.is_empty() {
            return units;
        }
        let mut checks = engine.roots(&CHECK, &units);
        let is_other = |at: usize| !checks[at].as_ref().is_ok_and(|check| check.glance.is_matrix);
        if let Some(cells) = expanded(engine, &units, is_other) {
            units = cells;
            checks = engine.roots(&CHECK, &units);
        }
        let mut wanted = checks.iter().map(|check| match check {
            Ok(check) => self.wants(check),
            Err(_) => true,
        });
        units.retain(|_| wanted.next().expect("there is one for each"));
        units
    }

    fn wants(&self, check: &Check) -> bool {
        // What is wrong with it may be its tags.
        let has_both = !check.scenarios.is_empty() && !check.tags.is_empty();
        let is_unread = !has_both && check.glance.worst == Some(Severity::Error);
        let tagged = self.tags.is_empty() || check.tags.iter().any(|tag| self.tags.contains(tag));
        let mut names = check.tags.iter().chain(&check.scenarios).chain([&check.name]);
        is_unread || (tagged && names.any(|name| name.contains(&self.name)))
    }
}

/// The tests among and below `paths`, below the current folder when there are none.
///
/// A file that is named, or is a test by its name, must be one; others are if they say so.
pub(crate) fn select(
    workspace: &Workspace,
    engine: &mut Engine,
    paths: &[PathBuf],
) -> anyhow::Result<Selected> {
    let everything = [PathBuf::from(".")];
    let paths = if paths.is_empty() { &everything[..] } else { paths };
    let (mut units, mut folders) = (Vec::new(), Vec::new());
    for path in paths {
        let start = std::fs::canonicalize(path)
            .with_context(|| format!("cannot find {}", path.display()))?;
        let unit = unit(workspace, &start)?;
        if start.is_dir() { folders.push(unit) } else { units.push(unit) }
    }
    let mut passed_over = false;
    let mut candidates = BTreeSet::new();
    for folder in folders {
        let folder = [folder];
        let recalled = engine.recall(&SELECTION, &folder, Selection::decode).pop().flatten();
        let found = match recalled {
            Some(found) => found,
            None => {
                let selected = engine.demand(&SELECTION, &folder).pop().expect("one was asked for");
                selected.map_err(|s| anyhow::anyhow!(Exit::from(&s)).context(s))?.units()
            }
        };
        if units.is_empty() {
            units = found.tests;
        } else {
            units.extend(found.tests);
        }
        candidates.extend(found.candidates);
        for what in &found.passed_over {
            printer::complain_of(what);
            passed_over = true;
        }
    }
    let candidates: Vec<Unit> = candidates.into_iter().collect();
    let checks = engine.roots(&CHECK, &candidates);
    // One that cannot even be checked is looked at again, and told of, as a test.
    let declared = candidates.into_iter().zip(checks).filter_map(|(unit, check)| {
        check.map_or(true, |check: std::sync::Arc<Check>| check.glance.declared).then_some(unit)
    });
    units.extend(declared);
    units.sort_unstable();
    units.dedup();
    Ok(Selected { units, passed_over })
}

/// What a path is in the workspace.
pub(crate) fn unit(workspace: &Workspace, path: &Path) -> anyhow::Result<Unit> {
    let Ok(relative) = path.strip_prefix(&workspace.root) else {
        bail!("{} lies outside the workspace {}", path.display(), workspace.root.display());
    };
    let relative = relative.to_str().context("a path that is not UTF-8 cannot be a test")?;
    Ok(Unit::file(relative))
}
