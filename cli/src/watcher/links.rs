//! Where a path really leads: through which links, and to what.

use std::collections::BTreeSet;
use std::ffi::OsString;
use std::fs;
use std::io;
use std::path::{Component, Path, PathBuf};

/// As many links as the kernel follows in one path.
const MOST_LINKS: u32 = 40;

/// Where a path leads.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct Way {
    /// What is there in the end, without links in its path; `None` when nothing is.
    pub(super) end: Option<PathBuf>,
    /// The links that lead there, the folders on the way behind a link, and on the way to nothing
    /// the first thing that is missing.
    pub(super) points: BTreeSet<PathBuf>,
}

impl Way {
    /// Follows `path` from the folder `from`, whose own path has no links.
    pub(super) fn follow(from: &Path, path: &Path) -> Way {
        let mut way = Way::default();
        let mut left = MOST_LINKS;
        way.end = way.walk(from.to_owned(), path, &mut left);
        way
    }

    fn walk(&mut self, from: PathBuf, path: &Path, left: &mut u32) -> Option<PathBuf> {
        let mut real = from;
        for part in path.components() {
            match part {
                Component::Prefix(_) | Component::CurDir => continue,
                Component::RootDir => {
                    real = PathBuf::from("/");
                    continue;
                }
                Component::ParentDir => {
                    real.pop();
                    continue;
                }
                Component::Normal(name) => real.push(name),
            }
            match fs::read_link(&real) {
                Ok(target) => {
                    self.points.insert(real.clone());
                    *left = left.checked_sub(1)?;
                    real.pop();
                    real = self.walk(real, &target, left)?;
                }
                Err(error) if error.kind() == io::ErrorKind::NotFound => {
                    self.points.insert(real);
                    return None;
                }
                // It is no link, but behind one.
                Err(_) if *left < MOST_LINKS => drop(self.points.insert(real.clone())),
                Err(_) => {}
            }
        }
        Some(real)
    }
}

/// The names of the links in a folder.
pub(super) fn links_in(folder: &Path) -> Vec<OsString> {
    let entries = fs::read_dir(folder).into_iter().flatten().flatten();
    let is_link = |entry: &fs::DirEntry| entry.file_type().is_ok_and(|kind| kind.is_symlink());
    entries.filter(is_link).map(|entry| entry.file_name()).collect()
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::symlink;

    use super::*;

    /// The end and the points of a way, as far as they are in the folder it starts from.
    fn follow(from: &Path, path: &str) -> (Option<String>, String) {
        let way = Way::follow(from, Path::new(path));
        let name = |path: &PathBuf| path.strip_prefix(from).map(|it| it.display().to_string());
        let points: Vec<String> = way.points.iter().flat_map(name).collect();
        (way.end.map(|end| name(&end).unwrap()), points.join(" ").trim().to_owned())
    }

    #[test]
    fn links_are_followed_wherever_they_are_in_a_path() {
        let folder = tempfile::tempdir().unwrap();
        let root = folder.path().canonicalize().unwrap();
        fs::create_dir_all(root.join("rel/2/app")).unwrap();
        fs::write(root.join("rel/2/app/file"), "").unwrap();
        symlink("rel/2", root.join("current")).unwrap();
        symlink("current", root.join("latest")).unwrap();
        symlink("app/file", root.join("rel/2/name")).unwrap();
        symlink("nowhere/file", root.join("broken")).unwrap();
        symlink("loop", root.join("loop")).unwrap();
        symlink(root.join("rel"), root.join("whole")).unwrap();
        let table = [
            ("rel/2/app", Some("rel/2/app"), ""),
            ("./rel/../rel/2", Some("rel/2"), ""),
            ("current/app", Some("rel/2/app"), "current rel rel/2 rel/2/app"),
            (
                "latest/name",
                Some("rel/2/app/file"),
                "current latest rel rel/2 rel/2/app rel/2/app/file rel/2/name",
            ),
            ("whole/2", Some("rel/2"), "rel rel/2 whole"),
            ("current/..", Some("rel"), "current rel rel/2"),
            ("broken", None, "broken nowhere"),
            ("rel/3/app", None, "rel/3"),
            ("loop", None, "loop"),
        ];
        for (path, end, points) in table {
            assert_eq!(follow(&root, path), (end.map(str::to_owned), points.to_owned()), "{path}");
        }
        assert_eq!(links_in(&root.join("rel/2")), ["name"]);
    }
}
