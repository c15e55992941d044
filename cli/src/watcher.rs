//! Makes changes of what the operating system says about files.
//!
//! Folders are watched, not files: half of the ways in which editors save put another file in the
//! place of the one there was.

use std::collections::BTreeSet;
use std::path::{Component, Path, PathBuf};
use std::sync::mpsc::Sender;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use clnrm_engine::OWN_FOLDER;
use notify::event::{AccessKind, AccessMode, CreateKind, ModifyKind, RemoveKind};
use notify::{Config, Event, EventKind, RecommendedWatcher, RecursiveMode, Watcher as _};

use crate::inbox::{Changes, Happening};

/// How often files are looked at where nobody says that they have changed.
const LOOK_EVERY: Duration = Duration::from_millis(200);

/// The folders that are watched.
type Watched = Arc<Mutex<BTreeSet<PathBuf>>>;

/// Watches folders of a workspace.
pub(crate) struct Watcher {
    root: PathBuf,
    send: Sender<Happening>,
    /// `None` where all is looked at every now and then.
    watcher: Option<RecommendedWatcher>,
    watched: Watched,
}

impl Watcher {
    /// Watches nothing yet; what changes is sent to `send`. With `poll`, it is said every now and then
    /// that all has to be looked at.
    pub(crate) fn new(root: &Path, send: Sender<Happening>, poll: bool) -> notify::Result<Watcher> {
        let watched = Watched::default();
        let watcher = if poll {
            remind(send.clone());
            None
        } else {
            Some(watcher(root, send.clone(), watched.clone())?)
        };
        Ok(Watcher { root: root.to_owned(), send, watcher, watched })
    }

    /// Watches these folders too, which are relative to the workspace, and all below each of `trees`;
    /// says whether there was a new one. Troubles go to `tell`.
    pub(crate) fn watch<'a>(
        &mut self,
        folders: impl Iterator<Item = &'a str>,
        trees: impl Iterator<Item = &'a str>,
        tell: impl Fn(&str),
    ) -> bool {
        let Some(watcher) = &mut self.watcher else { return false };
        let folders = folders.map(|folder| (self.root.join(folder), RecursiveMode::NonRecursive));
        let trees = trees.map(|tree| {
            let tree = self.root.join(tree);
            // A file is watched by its folder.
            if tree.is_dir() {
                (tree, RecursiveMode::Recursive)
            } else {
                let folder = tree.parent().unwrap_or(Path::new("/")).to_owned();
                (folder, RecursiveMode::NonRecursive)
            }
        });
        let mut watched = self.watched.lock().expect("no holder panics");
        let mut is_more = false;
        for (folder, mode) in folders.chain(trees) {
            if watched.contains(&folder) {
                continue;
            }
            match watcher.watch(&folder, mode) {
                Ok(()) => is_more |= watched.insert(folder),
                Err(error) if matches!(error.kind, notify::ErrorKind::MaxFilesWatch) => {
                    tell(
                        "the kernel watches no more folders for this user, so they are looked at \
                         every now and then; `sysctl fs.inotify.max_user_watches=524288` lets it",
                    );
                    remind(self.send.clone());
                    drop(watched);
                    self.watcher = None;
                    return true;
                }
                // It is not there, and its parent is watched for when it comes.
                Err(_) => {}
            }
        }
        is_more
    }

    /// Forgets folders that are gone, so that they are watched when they come back.
    pub(crate) fn forget_missing(&mut self) {
        self.watched.lock().expect("no holder panics").retain(|folder| folder.is_dir());
    }
}

/// Says every now and then that anything may have changed.
fn remind(send: Sender<Happening>) {
    std::thread::spawn(move || {
        while send.send(Happening::Changed(Changes::anywhere())).is_ok() {
            std::thread::sleep(LOOK_EVERY);
        }
    });
}

fn watcher(
    root: &Path,
    send: Sender<Happening>,
    watched: Watched,
) -> notify::Result<RecommendedWatcher> {
    let root = root.to_owned();
    let tell = move |event: notify::Result<Event>| {
        let changes = match event {
            Ok(event) => {
                let known = |path: &Path| watched.lock().is_ok_and(|all| all.contains(path));
                changes(&event, &root, known)
            }
            Err(_) => Changes::anywhere(),
        };
        if !changes.is_empty() {
            // Nobody listens any more when the program ends.
            let _ = send.send(Happening::Changed(changes));
        }
    };
    RecommendedWatcher::new(tell, Config::default().with_follow_symlinks(false))
}

/// What an event says has changed. Nothing while a file is still being written: its close is told.
fn changes(event: &Event, root: &Path, is_watched: impl Fn(&Path) -> bool) -> Changes {
    if event.need_rescan() {
        return Changes::anywhere();
    }
    let counts = match event.kind {
        EventKind::Access(AccessKind::Close(AccessMode::Write)) => true,
        EventKind::Access(_) => false,
        EventKind::Modify(ModifyKind::Data(_)) => false,
        EventKind::Create(CreateKind::File) => event.paths.iter().any(|path| is_whole(path)),
        _ => true,
    };
    let mut changes = Changes::default();
    if !counts {
        return changes;
    }
    for path in &event.paths {
        let relative = path.strip_prefix(root).unwrap_or(path);
        let is_ours =
            relative.components().any(|part| part == Component::Normal(OWN_FOLDER.as_ref()));
        match relative.to_str() {
            Some(path) if !is_ours => drop(changes.paths.insert(path.to_owned())),
            _ => {}
        }
    }
    // What is in a folder that came or went was not told of.
    let is_folder = |path: &PathBuf| path.is_dir() || is_watched(path);
    let of_folder = match event.kind {
        EventKind::Create(CreateKind::Folder) | EventKind::Remove(RemoveKind::Folder) => true,
        EventKind::Modify(ModifyKind::Name(_)) => event.paths.iter().any(is_folder),
        _ => false,
    };
    changes.is_more |= of_folder && !changes.paths.is_empty();
    changes
}

/// Whether a file that came has not to be written first: a link, or another name for one.
fn is_whole(path: &Path) -> bool {
    use std::os::unix::fs::MetadataExt;
    std::fs::symlink_metadata(path).is_ok_and(|meta| meta.is_symlink() || meta.nlink() > 1)
}

#[cfg(test)]
mod tests {
    use notify::event::{DataChange, Flag, RenameMode};

    use super::*;

    fn paths(kind: EventKind, path: &str) -> Option<Vec<String>> {
        let event = Event::new(kind).add_path(Path::new("/w").join(path));
        let watched = |path: &Path| path == Path::new("/w/folder");
        let Changes { paths, is_more } = changes(&event, Path::new("/w"), watched);
        (!is_more).then(|| paths.into_iter().collect())
    }

    #[test]
    fn a_save_is_told_when_it_is_complete() {
        let written = EventKind::Access(AccessKind::Close(AccessMode::Write));
        assert_eq!(paths(written, "a/b.toml"), Some(vec!["a/b.toml".to_owned()]));
        let under_way = EventKind::Modify(ModifyKind::Data(DataChange::Any));
        assert_eq!(paths(under_way, "a/b.toml"), Some(Vec::new()));
        assert_eq!(paths(EventKind::Create(CreateKind::File), "new.toml"), Some(Vec::new()));
    }

    #[test]
    fn reading_and_our_own_files_are_no_changes() {
        let read = EventKind::Access(AccessKind::Close(AccessMode::Read));
        assert_eq!(paths(read, "a.toml"), Some(Vec::new()));
        let written = EventKind::Access(AccessKind::Close(AccessMode::Write));
        assert_eq!(paths(written, ".clnrm/store-v1.redb"), Some(Vec::new()));
    }

    #[test]
    fn of_a_folder_that_is_gone_all_may_have_changed() {
        let renamed = EventKind::Modify(ModifyKind::Name(RenameMode::From));
        assert_eq!(paths(renamed, "folder"), None);
        assert_eq!(paths(EventKind::Remove(RemoveKind::Folder), "folder"), None);
        assert_eq!(paths(renamed, "a.toml"), Some(vec!["a.toml".to_owned()]));
        let lost = Event::new(EventKind::Other).set_flag(Flag::Rescan);
        assert_eq!(changes(&lost, Path::new("/w"), |_| false), Changes::anywhere());
    }
}
