//! Makes changes of what the operating system says about files.
//!
//! Folders are watched, not files: half of the ways in which editors save put another file in the
//! place of the one there was. Links are followed: what is watched is the folder that a path leads
//! to, and the folder of each link on the way.

mod links;

use std::collections::{BTreeMap, BTreeSet};
use std::os::unix::fs::MetadataExt;
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

/// What is watched.
#[derive(Default)]
struct Watched {
    /// By their paths, which have no links in them.
    folders: BTreeMap<PathBuf, Folder>,
    /// If one of these comes, goes or changes, other paths lead elsewhere: links, what they lead
    /// to, and what is missing.
    points: BTreeSet<PathBuf>,
}

/// How a folder is watched.
#[derive(Clone, Copy, Default, PartialEq, Eq)]
struct Folder {
    /// Whether something was read in it by this very path.
    direct: bool,
    /// Whether something was read in it by another path, which leads through links.
    linked: bool,
    /// Whether all below it is watched, too.
    deep: bool,
    /// Device and number of the folder that the kernel watches.
    inode: Option<(u64, u64)>,
}

/// What has to be watched.
pub(crate) struct Looked<'a> {
    /// Folders in which something was looked at.
    pub(crate) folders: &'a [Arc<str>],
    /// What was looked at as a whole.
    pub(crate) trees: &'a [Arc<str>],
    /// Whether this file in this folder was looked at.
    pub(crate) has: &'a dyn Fn(&str, &str) -> bool,
}

/// Watches folders of a workspace.
pub(crate) struct Watcher {
    /// Without links in its path.
    root: PathBuf,
    send: Sender<Happening>,
    /// `None` where all is looked at every now and then.
    watcher: Option<RecommendedWatcher>,
    watched: Arc<Mutex<Watched>>,
}

impl Watcher {
    /// Watches nothing yet; what changes is sent to `send`. With `poll`, it is said every now and then
    /// that all has to be looked at.
    pub(crate) fn new(root: &Path, send: Sender<Happening>, poll: bool) -> notify::Result<Watcher> {
        let root = root.canonicalize().unwrap_or_else(|_| root.to_owned());
        let watched = Arc::<Mutex<Watched>>::default();
        let watcher = if poll {
            remind(send.clone());
            None
        } else {
            Some(watcher(&root, send.clone(), watched.clone())?)
        };
        Ok(Watcher { root, send, watcher, watched })
    }

    /// Watches this too, whose paths are relative to the workspace; says whether something new is
    /// watched. Troubles go to `tell`.
    pub(crate) fn watch(&mut self, looked: &Looked<'_>, tell: impl Fn(&str)) -> bool {
        let Some(watcher) = &mut self.watcher else { return false };
        let wanted = wanted(&self.root, looked);
        // Whoever tells of changes takes this lock, too, and `watch` waits for it: it is never held
        // meanwhile.
        let watched = || self.watched.lock().expect("no holder panics");
        let mut is_more = !watched().points.is_superset(&wanted.points);
        watched().points.extend(wanted.points);
        for (path, folder) in wanted.folders {
            let known = watched().folders.get(&path).copied();
            let merged = known.unwrap_or_default().and(folder);
            if known == Some(merged) {
                continue;
            }
            let mode = match merged.deep {
                true => RecursiveMode::Recursive,
                false => RecursiveMode::NonRecursive,
            };
            let inode = inode(&path);
            match watcher.watch(&path, mode) {
                Ok(()) => {
                    watched().folders.insert(path, Folder { inode, ..merged });
                    is_more = true;
                }
                Err(error) if matches!(error.kind, notify::ErrorKind::MaxFilesWatch) => {
                    tell(
                        "the kernel watches no more folders for this user, so they are looked at \
                         every now and then; `sysctl fs.inotify.max_user_watches=524288` lets it",
                    );
                    remind(self.send.clone());
                    self.watcher = None;
                    return true;
                }
                // It is not there, and its parent is watched for when it comes.
                Err(_) => {}
            }
        }
        is_more
    }

    /// Forgets folders that are gone or others now, so that they are watched again.
    pub(crate) fn forget_missing(&mut self) {
        let Some(watcher) = &mut self.watcher else { return };
        let mut gone = Vec::new();
        self.watched.lock().expect("no holder panics").folders.retain(|path, folder| {
            let is_same = folder.inode.is_some() && inode(path) == folder.inode;
            if !is_same {
                gone.push(path.clone());
            }
            is_same
        });
        for path in gone {
            // Where the folder is gone, the kernel has forgotten it before.
            let _ = watcher.unwatch(&path);
        }
    }
}

impl Folder {
    /// Watched for both.
    fn and(self, other: Folder) -> Folder {
        Folder {
            direct: self.direct || other.direct,
            linked: self.linked || other.linked,
            deep: self.deep || other.deep,
            inode: self.inode,
        }
    }
}

/// Device and number of the folder at a path, if there is one.
fn inode(path: &Path) -> Option<(u64, u64)> {
    let meta = path.symlink_metadata().ok().filter(|meta| meta.is_dir())?;
    Some((meta.dev(), meta.ino()))
}

/// What has to be watched so that every change of what was looked at is told.
fn wanted(root: &Path, looked: &Looked<'_>) -> Watched {
    let mut wanted = Watched::default();
    for path in looked.folders {
        let Some(end) = wanted.follow(root, root, path) else { continue };
        let is_direct = end == root.join(&**path);
        wanted.add(&end, Folder { direct: is_direct, linked: !is_direct, ..Folder::default() });
        for name in links::links_in(&end) {
            if let Some(name) = name.to_str()
                && (looked.has)(path, name)
                && let Some(end) = wanted.follow(root, &end, name)
            {
                wanted.point(end);
            }
        }
    }
    for path in looked.trees {
        let Some(end) = wanted.follow(root, root, path) else { continue };
        let is_direct = end == root.join(&**path);
        let (direct, linked) = (is_direct, !is_direct);
        if end.is_dir() {
            wanted.add(&end, Folder { direct, linked, deep: true, inode: None });
        } else if let Some(folder) = end.parent() {
            // A file is watched by its folder.
            wanted.add(folder, Folder { direct, ..Folder::default() });
            if linked {
                wanted.points.insert(end);
            }
        }
    }
    wanted
}

impl Watched {
    /// Where `path` leads from the folder `from`; what makes it lead there is watched.
    fn follow(&mut self, root: &Path, from: &Path, path: &str) -> Option<PathBuf> {
        let way = links::Way::follow(from, Path::new(path));
        way.points.into_iter().for_each(|point| self.point(point));
        let end = way.end?;
        if !end.starts_with(root) {
            self.point(end.clone());
        }
        Some(end)
    }

    fn add(&mut self, path: &Path, folder: Folder) {
        let known = self.folders.entry(path.to_owned()).or_default();
        *known = known.and(folder);
    }

    fn point(&mut self, path: PathBuf) {
        if let Some(folder) = path.parent() {
            self.add(folder, Folder::default());
        }
        self.points.insert(path);
    }

    /// Whether what happens at a path is in a folder that is watched in this manner.
    fn holds(&self, path: &Path, is: impl Fn(&Folder) -> bool) -> bool {
        path.ancestors().enumerate().any(|(above, folder)| {
            let folder = self.folders.get(folder);
            folder.is_some_and(|folder| is(folder) && (folder.deep || above <= 1))
        })
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
    watched: Arc<Mutex<Watched>>,
) -> notify::Result<RecommendedWatcher> {
    let root = root.to_owned();
    let tell = move |event: notify::Result<Event>| {
        let changes = match event {
            Ok(event) => changes(&event, &root, &watched.lock().expect("no holder panics")),
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
fn changes(event: &Event, root: &Path, watched: &Watched) -> Changes {
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
        if relative.components().any(|part| part == Component::Normal(OWN_FOLDER.as_ref())) {
            continue;
        }
        // Of what was read by another path it is not known what that is called there.
        let is_linked = watched.holds(path, |folder| folder.linked);
        changes.is_more |= is_linked || watched.points.contains(path);
        if watched.holds(path, |folder| folder.direct)
            && let Some(path) = relative.to_str()
        {
            changes.paths.insert(path.to_owned());
        }
    }
    // What is in a folder that came or went was not told of.
    let is_folder = |path: &PathBuf| path.is_dir() || watched.folders.contains_key(path);
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
    std::fs::symlink_metadata(path).is_ok_and(|meta| meta.is_symlink() || meta.nlink() > 1)
}

#[cfg(test)]
mod tests {
    use notify::event::{DataChange, Flag, RenameMode};

    use super::*;

    fn paths(kind: EventKind, path: &str) -> Option<Vec<String>> {
        let event = Event::new(kind).add_path(Path::new("/w").join(path));
        let Changes { paths, is_more } = changes(&event, Path::new("/w"), &watched());
        (!is_more).then(|| paths.into_iter().collect())
    }

    /// The workspace and a folder in it; a folder elsewhere to which a link leads, and one in which
    /// only another link is of interest.
    fn watched() -> Watched {
        let mut watched = Watched::default();
        for folder in ["/w", "/w/a", "/w/folder"] {
            watched.add(Path::new(folder), Folder { direct: true, ..Folder::default() });
        }
        let linked = Folder { linked: true, deep: true, ..Folder::default() };
        watched.add(Path::new("/linked"), linked);
        watched.point(PathBuf::from("/quiet/link"));
        watched
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
        assert_eq!(changes(&lost, Path::new("/w"), &watched()), Changes::anywhere());
    }

    #[test]
    fn behind_a_link_anything_may_have_changed_and_beside_it_nothing_has() {
        let written = EventKind::Access(AccessKind::Close(AccessMode::Write));
        assert_eq!(paths(written, "/linked/file"), None);
        assert_eq!(paths(written, "/linked/far/below/file"), None);
        assert_eq!(paths(EventKind::Remove(RemoveKind::File), "/quiet/link"), None);
        assert_eq!(paths(written, "/quiet/other"), Some(Vec::new()));
        assert_eq!(paths(written, "/linked/.clnrm/store-v1.redb"), Some(Vec::new()));
    }
}
