//! Selects the test files in and below a folder.

use std::fmt;
use std::path::Path;
use std::sync::Arc;

use clnrm_engine::{Content, Cx, ListedKind, Query, Unit};
use ignore::Match;
use ignore::gitignore::{Gitignore, GitignoreBuilder};
use serde::de::{SeqAccess, Visitor};
use serde::{Deserialize, Deserializer, Serialize};

use crate::plan::facts;
use crate::settings::FILES as SETTINGS_FILES;

/// The test files in and below a folder; the empty path is the whole workspace.
///
/// What is hidden, ignored, a library (`_…`) or made by a build is left out. Only ignore files of
/// the repository count, not those of the user: a selection is the same on every machine.
pub static SELECTION: Query<Selection> = Query::new("selection", 1, selection).kept();

/// See [`SELECTION`]. Files are paths, or units for those who go on with them.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Selection<F = Vec<String>> {
    /// Files that are tests by their name, sorted.
    pub tests: F,
    /// Other TOML files, sorted: tests if they say so.
    pub candidates: F,
    /// What could not be looked at, and why; tests may be hidden in it.
    pub passed_over: Vec<String>,
}

impl Selection {
    /// The same with units.
    pub fn units(&self) -> Selection<Vec<Unit>> {
        let units = |paths: &[String]| paths.iter().map(|path| Unit::file(path.as_str())).collect();
        Selection {
            tests: units(&self.tests),
            candidates: units(&self.candidates),
            passed_over: self.passed_over.clone(),
        }
    }
}

impl Selection<Vec<Unit>> {
    /// Reads an encoded selection; `None` when it is none.
    pub fn decode(bytes: &[u8]) -> Option<Selection<Vec<Unit>>> {
        let read: Selection<Units> = postcard::from_bytes(bytes).ok()?;
        let Selection { tests, candidates, passed_over } = read;
        Some(Selection { tests: tests.0, candidates: candidates.0, passed_over })
    }
}

/// Units that are read without a copy of all their paths in between: there are many.
struct Units(Vec<Unit>);

impl<'de> Deserialize<'de> for Units {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Units, D::Error> {
        struct Paths;
        impl<'de> Visitor<'de> for Paths {
            type Value = Units;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("paths")
            }

            fn visit_seq<A: SeqAccess<'de>>(self, mut paths: A) -> Result<Units, A::Error> {
                let most = paths.size_hint().unwrap_or(0).min(1 << 20);
                let mut units = Vec::with_capacity(most);
                while let Some(path) = paths.next_element::<&str>()? {
                    units.push(Unit::file(path));
                }
                Ok(Units(units))
            }
        }
        deserializer.deserialize_seq(Paths)
    }
}

/// The endings by which a file is a test.
const TEST_ENDINGS: [&str; 3] = [".clnrm.toml", ".clnrm.toml.tera", ".toml.tera"];

/// Files that say what to ignore; the first has the last word.
const IGNORE_FILES: [&str; 3] = [".clnrmignore", ".ignore", ".gitignore"];

fn selection(cx: &Cx<'_>, unit: &Unit) -> Selection {
    let mut selection: Selection = Selection::default();
    let (mut ignored, place) = above(cx, &unit.path);
    let mut open = vec![unit.path.to_string()];
    // The last one found comes first, so that all that is below a folder comes before its
    // neighbours.
    while let Some(folder) = open.pop() {
        let entries = match cx.list(&folder) {
            Ok(entries) => entries.unwrap_or_default(),
            Err(reason) => {
                selection.passed_over.push(format!("{folder}: {reason}"));
                continue;
            }
        };
        let there = |name: &str| entries.iter().any(|entry| entry.name.as_deref() == Ok(name));
        ignored = ignored.up_to(&folder).with(cx, &folder, &place, there);
        for entry in &entries {
            let name = match &entry.name {
                Ok(name) => name,
                Err(like) => {
                    let what = format!("{}: its name is not UTF-8", join(&folder, like));
                    selection.passed_over.push(what);
                    continue;
                }
            };
            let path = join(&folder, name);
            let is_folder = entry.kind == ListedKind::Folder;
            let left_out = name.starts_with('_') || name == "target" || name == "node_modules";
            if left_out || ignored.ignores(&place, &path, name, is_folder) {
                continue;
            }
            match entry.kind {
                ListedKind::Folder => open.push(path),
                ListedKind::Other => {}
                ListedKind::File if TEST_ENDINGS.iter().any(|ending| name.ends_with(ending)) => {
                    selection.tests.push(path);
                }
                ListedKind::File => {
                    if name.ends_with(".toml") && !SETTINGS_FILES.contains(&name.as_str()) {
                        selection.candidates.push(path);
                    }
                }
            }
        }
    }
    selection.tests.sort();
    selection.candidates.sort();
    selection.passed_over.sort();
    selection
}

/// The ignore files from a folder upward.
#[derive(Clone, Default)]
struct Ignored {
    /// Of the folder and those above it in this order, with the folders' paths.
    levels: Vec<(String, Arc<[Option<Gitignore>; 3]>)>,
}

/// The ignore files above a folder, up to the repository's root, and where the workspace lies in
/// it.
fn above(cx: &Cx<'_>, start: &str) -> (Ignored, String) {
    let place = cx.fact(facts::REPOSITORY, "").and_then(|place| String::from_utf8(place).ok());
    let place = place.unwrap_or_default();
    let depth = place.split('/').filter(|part| !part.is_empty()).count();
    let mut ignored = Ignored::default();
    for level in (1..=depth).rev() {
        ignored = ignored.with(cx, &vec![".."; level].join("/"), &place, |_| true);
    }
    let ends = start.match_indices('/').map(|(end, _)| end);
    let top = if start.is_empty() { None } else { Some(0) };
    for end in top.into_iter().chain(ends) {
        ignored = ignored.with(cx, &start[..end], &place, |_| true);
    }
    (ignored, place)
}

impl Ignored {
    /// Those of folders that `folder` is in.
    fn up_to(mut self, folder: &str) -> Ignored {
        let holds = |(level, _): &(String, _)| {
            level.is_empty()
                || level.starts_with("..")
                || folder.strip_prefix(level.as_str()).is_some_and(|rest| rest.starts_with('/'))
        };
        self.levels.retain(holds);
        self
    }

    /// And those of `folder`, of which `there` says which may exist.
    fn with(
        mut self,
        cx: &Cx<'_>,
        folder: &str,
        place: &str,
        there: impl Fn(&str) -> bool,
    ) -> Ignored {
        let read = |name: &str| {
            let content = there(name).then(|| cx.file(&join(folder, name)))?;
            let Content::Bytes(bytes) = content else { return None };
            let mut builder = GitignoreBuilder::new(in_repository(place, folder));
            for line in String::from_utf8_lossy(&bytes).lines() {
                // As in git, a line that is no pattern says nothing.
                let _ = builder.add_line(None, line);
            }
            builder.build().ok()
        };
        let files = IGNORE_FILES.map(read);
        if files.iter().any(Option::is_some) {
            self.levels.push((folder.to_owned(), Arc::new(files)));
        }
        self
    }

    fn ignores(&self, place: &str, path: &str, name: &str, is_folder: bool) -> bool {
        let hidden = name.starts_with('.');
        if self.levels.is_empty() {
            return hidden;
        }
        let path = in_repository(place, path);
        for file in 0..IGNORE_FILES.len() {
            for (_, files) in self.levels.iter().rev() {
                let Some(rules) = &files[file] else { continue };
                match rules.matched(Path::new(&path), is_folder) {
                    Match::None => {}
                    Match::Ignore(_) => return true,
                    Match::Whitelist(_) => return false,
                }
            }
        }
        hidden
    }
}

/// The path from the repository's root, which is `/` here, of a path in the workspace.
fn in_repository(place: &str, path: &str) -> String {
    let mut parts: Vec<&str> = place.split('/').collect();
    for part in path.split('/') {
        match part {
            ".." => drop(parts.pop()),
            part => parts.push(part),
        }
    }
    parts.retain(|part| !part.is_empty());
    format!("/{}", parts.join("/"))
}

fn join(folder: &str, name: &str) -> String {
    if folder.is_empty() { name.to_owned() } else { format!("{folder}/{name}") }
}
