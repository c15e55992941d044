//! The states of leaves: looked at once, remembered until told to look again.
//!
//! A file's digest comes from the stat index when its stat is as it was left; otherwise the file
//! is read and hashed, and those very bytes are what queries see. The index is kept by folder: the
//! files of one are looked at together, relative to its descriptor.

mod folder;

use std::collections::HashMap;
use std::io::{self, Read as _};
use std::os::unix::ffi::OsStrExt;
use std::path::{Component, Path};
use std::sync::{Arc, Mutex, OnceLock};

use rayon::prelude::*;
use serde::{Deserialize, Serialize};

pub(crate) use self::folder::FolderIndex;
use self::folder::{Fingerprint, Folder, Seen};
use crate::digest::Digest;
use crate::fault::{self, Fault};
use crate::key::Leaf;
use crate::shelf::Shelf;
use crate::system::{Entry, EntryKind, Kind, Stat, System};

/// An entry whose times are not this much older than the scan is racy: the file may change again
/// without its times telling (git's rule for its index).
const RACY_NS: i64 = 20_000_000;
/// The same on file systems that keep whole seconds, of which some keep only even ones.
const COARSE_RACY_NS: i64 = 2_100_000_000;
const SECOND_NS: i64 = 1_000_000_000;

/// Larger files have a digest, but queries do not see their content.
const LARGEST: u64 = 64 << 20;
/// How much of what was read is held for whoever asks next.
const HELD: usize = 32 << 20;

/// The folder of the program's own store, which is no part of any tree or listing.
pub const OWN_FOLDER: &str = ".clnrm";

/// What is stated about the world by the program: kind and name to bytes, or absence.
pub type Facts = Arc<dyn Fn(&str, &str) -> Option<Vec<u8>> + Send + Sync>;

/// What reading a file or another leaf gives.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Content {
    /// Its bytes.
    Bytes(Arc<[u8]>),
    /// Nothing is there.
    Absent,
    /// Something is there that cannot be read, and why.
    Unreadable(Arc<str>),
}

/// Something in a folder.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Listed {
    /// Its name; something like it as an `Err` when it is not UTF-8.
    pub name: Result<String, String>,
    /// What it is, itself: links are not followed.
    pub kind: ListedKind,
}

/// What something in a folder is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum ListedKind {
    /// A regular file.
    File,
    /// A folder.
    Folder,
    /// A link, device, socket or pipe.
    Other,
}

/// The world, as far as it was looked at.
pub(crate) struct World {
    system: Arc<dyn System>,
    facts: Facts,
    tool: Digest,
    /// Where the stat index is kept.
    shelf: Arc<Shelf>,
    /// Whether stats tell anything.
    trusting: bool,
    /// Files and listings.
    folders: Mutex<HashMap<Arc<str>, Arc<Mutex<Folder>>>>,
    /// All other leaves. Looking at one may take long, and is done once whoever asks.
    others: Mutex<HashMap<Leaf, Arc<OnceLock<Looked>>>>,
    held: Mutex<Held>,
}

/// What looking at a leaf gives.
#[derive(Clone)]
struct Looked {
    digest: Digest,
    /// What was read to get the digest, if it was.
    content: Option<Content>,
    /// For files and listings, the stat, if that tells whether it has changed since.
    stat: Option<Fingerprint>,
}

/// What reading gives: a digest, what has it, and the stat of that afterwards.
type Read = (Digest, Content, Stat);

/// Why devices, sockets and pipes are not read.
const NOT_REGULAR: &str = "not a regular file";

/// Content that was read, for whoever asks for it next.
#[derive(Default)]
struct Held {
    content: HashMap<Leaf, (Digest, Content)>,
    bytes: usize,
}

impl World {
    /// `trusting` says whether a file whose stat is as it was left need not be read.
    pub(crate) fn new(
        system: Arc<dyn System>,
        facts: Facts,
        tool: Digest,
        shelf: Arc<Shelf>,
        trusting: bool,
    ) -> World {
        let (folders, others, held) = Default::default();
        World { system, facts, tool, shelf, trusting, folders, others, held }
    }

    /// Now, in seconds since the epoch.
    pub(crate) fn seconds(&self) -> u64 {
        u64::try_from(self.system.now_ns() / SECOND_NS).unwrap_or(0)
    }

    /// Whether there is anything at a path, now.
    pub(crate) fn exists(&self, path: &str) -> bool {
        let absent = [io::ErrorKind::NotFound, io::ErrorKind::NotADirectory];
        self.system.stat(Path::new(path)).map_or_else(|e| !absent.contains(&e.kind()), |_| true)
    }

    /// What is to be stored, encoded, of folders whose index was changed since it was last given.
    pub(crate) fn take_changed_index(&self) -> Vec<(Arc<str>, Vec<u8>)> {
        let folders = self.folders.lock().expect("no holder panics");
        let changed = folders.iter().filter_map(|(path, folder)| {
            let index = folder.lock().expect("no holder panics").take_changed()?;
            Some((path.clone(), index))
        });
        changed.collect()
    }

    /// The state of a leaf other than an effect.
    pub(crate) fn digest(&self, leaf: &Leaf) -> Digest {
        self.digest_and(leaf, |looked| self.hold(leaf, looked))
    }

    /// The same; `with` gets what was read for it, if something was.
    fn digest_and(&self, leaf: &Leaf, with: impl FnOnce(&Looked)) -> Digest {
        let (path, name) = match leaf {
            Leaf::Tool => return self.tool,
            Leaf::File(path) => {
                let (folder, name) = split(path);
                (folder, Some(name))
            }
            Leaf::Listing(path) => (&**path, None),
            _ => return self.other(leaf).0,
        };
        let folder = self.folder(path);
        if let Some(digest) = folder.lock().expect("no holder panics").current(name) {
            return digest;
        }
        let seen = folder.lock().expect("no holder panics").seen(name);
        let looked = self.look_again(leaf, seen);
        with(&looked);
        let seen = Seen { stat: looked.stat, digest: looked.digest };
        folder.lock().expect("no holder panics").record(name, seen)
    }

    /// The states of files of one folder, by their names.
    pub(crate) fn digests(&self, path: &str, names: &[&str]) -> Vec<Digest> {
        let folder = self.folder(path);
        let scan_ns = self.system.now_ns();
        let stat_all = |names: &[&str]| {
            let stats = self.system.stat_all(Path::new(path), names).into_iter();
            stats.map(Result::ok).collect()
        };
        let known = folder.lock().expect("no holder panics").verify(names, stat_all);
        let digest = |(name, known): (&&str, Result<Digest, Option<Stat>>)| {
            let stat = match known {
                Ok(digest) => return digest,
                Err(stat) => stat,
            };
            let file = join(path, name);
            // Whoever compares digests has no need of what was read, and there may be much of it.
            let Some(stat) = stat else { return self.digest_and(&Leaf::File(file.into()), |_| {}) };
            let looked = self.read(Ok(stat), scan_ns, |stat| self.file_at(Path::new(&file), stat));
            let seen = Seen { stat: looked.stat, digest: looked.digest };
            folder.lock().expect("no holder panics").record(Some(name), seen)
        };
        names.iter().zip(known).map(digest).collect()
    }

    /// What a leaf with this digest holds; `None` when that can no longer be told, because it
    /// changed.
    pub(crate) fn content(&self, leaf: &Leaf, digest: Digest) -> Option<Content> {
        if digest == absent() {
            return Some(Content::Absent);
        }
        if !matches!(leaf, Leaf::File(_) | Leaf::Listing(_)) {
            let (now, content) = self.other(leaf);
            return (now == digest).then_some(content);
        }
        if let Some((held, content)) = self.held.lock().expect("no holder panics").content.get(leaf)
            && *held == digest
        {
            return Some(content.clone());
        }
        let looked = self.look_again(leaf, None);
        self.hold(leaf, &looked);
        looked.content.filter(|_| looked.digest == digest || fault::is(Fault::OtherContentReturned))
    }

    /// Forgets the states of these leaves, so that they are looked at again.
    pub(crate) fn forget(&self, leaves: &[Leaf]) {
        if fault::is(Fault::StateNotForgotten) {
            return;
        }
        for leaf in leaves {
            self.in_folder(leaf, |folder, name| folder.forget(name));
            self.others.lock().expect("no holder panics").remove(leaf);
        }
    }

    /// Forgets the states of these leaves, and what the index says of them.
    pub(crate) fn distrust(&self, leaves: &[Leaf]) {
        for leaf in leaves {
            self.in_folder(leaf, |folder, name| folder.distrust(name));
            self.others.lock().expect("no holder panics").remove(leaf);
        }
    }

    /// The leaves whose state now is not the one that is known, sorted.
    pub(crate) fn changed(&self) -> Vec<Leaf> {
        let others: Vec<(Leaf, Digest)> = {
            let others = self.others.lock().expect("no holder panics");
            let known = |(leaf, cell): (&Leaf, &Arc<OnceLock<Looked>>)| {
                Some((leaf.clone(), cell.get()?.digest))
            };
            others.iter().filter_map(known).collect()
        };
        let changed = others.into_iter().filter(|(leaf, known)| self.look(leaf).digest != *known);
        let mut changed: Vec<Leaf> = changed.map(|(leaf, _)| leaf).collect();
        let folders: Vec<_> = {
            let folders = self.folders.lock().expect("no holder panics");
            folders.iter().map(|(path, folder)| (path.clone(), folder.clone())).collect()
        };
        changed.par_extend(folders.par_iter().flat_map_iter(|(path, folder)| {
            let known = folder.lock().expect("no holder panics").all_current();
            known.into_iter().filter_map(|(name, digest)| {
                let leaf = match &name {
                    Some(name) => Leaf::File(join(path, name.as_str()).into()),
                    None => Leaf::Listing(path.clone()),
                };
                let seen = folder.lock().expect("no holder panics").seen(name.as_deref());
                (self.look_again(&leaf, seen).digest != digest).then_some(leaf)
            })
        }));
        changed.sort();
        changed
    }

    /// The folders in which something was looked at, and the trees.
    pub(crate) fn looked_at(&self) -> (Vec<Arc<str>>, Vec<Arc<str>>) {
        let folders = self.folders.lock().expect("no holder panics");
        let mut folders: Vec<Arc<str>> = folders.keys().cloned().collect();
        let others = self.others.lock().expect("no holder panics");
        let tree = |leaf: &Leaf| match leaf {
            Leaf::Tree(path) => Some(path.clone()),
            _ => None,
        };
        let mut trees: Vec<Arc<str>> = others.keys().filter_map(tree).collect();
        folders.sort();
        trees.sort();
        (folders, trees)
    }

    /// Whether the file of this name in a folder was looked at.
    pub(crate) fn has_looked_at(&self, folder: &str, name: &str) -> bool {
        let folder = self.folders.lock().expect("no holder panics").get(folder).cloned();
        folder.is_some_and(|it| it.lock().expect("no holder panics").current(Some(name)).is_some())
    }

    /// The trees that were looked at and have this path in them.
    pub(crate) fn trees_with(&self, path: &str) -> Vec<Leaf> {
        fn parts(path: &str) -> impl Iterator<Item = Component<'_>> {
            Path::new(path).components().filter(|part| *part != Component::CurDir)
        }
        let others = self.others.lock().expect("no holder panics");
        let holds = |leaf: &&Leaf| match leaf {
            Leaf::Tree(tree) => parts(tree).eq(parts(path).take(parts(tree).count())),
            _ => false,
        };
        others.keys().filter(holds).cloned().collect()
    }

    fn in_folder(&self, leaf: &Leaf, then: impl FnOnce(&mut Folder, Option<&str>)) {
        let (path, name) = match leaf {
            Leaf::File(path) => {
                let (folder, name) = split(path);
                (folder, Some(name))
            }
            Leaf::Listing(path) => (&**path, None),
            _ => return,
        };
        self.held.lock().expect("no holder panics").content.remove(leaf);
        then(&mut self.folder(path).lock().expect("no holder panics"), name);
    }

    /// A folder, with what the index says of it.
    fn folder(&self, path: &str) -> Arc<Mutex<Folder>> {
        if let Some(folder) = self.folders.lock().expect("no holder panics").get(path) {
            return folder.clone();
        }
        let index = self.shelf.snapshot().and_then(|snapshot| snapshot.folder(path));
        let folder = Arc::new(Mutex::new(Folder::new(index.unwrap_or_default())));
        let mut folders = self.folders.lock().expect("no holder panics");
        folders.entry(path.into()).or_insert(folder).clone()
    }

    /// A leaf that is neither file nor listing.
    fn other(&self, leaf: &Leaf) -> (Digest, Content) {
        let state = |looked: &Looked| {
            let content = looked.content.clone();
            (looked.digest, content.unwrap_or_else(|| Content::Bytes([].into())))
        };
        let cell = {
            let mut others = self.others.lock().expect("no holder panics");
            match others.get(leaf) {
                Some(cell) => cell.clone(),
                None => others.entry(leaf.clone()).or_default().clone(),
            }
        };
        state(cell.get_or_init(|| self.look(leaf)))
    }

    fn look(&self, leaf: &Leaf) -> Looked {
        self.look_again(leaf, None)
    }

    fn look_again(&self, leaf: &Leaf, seen: Option<Seen>) -> Looked {
        match leaf {
            Leaf::File(path) => self.file(Path::new(&**path), seen),
            Leaf::Listing(path) => self.listing(Path::new(&**path), seen),
            Leaf::Tree(path) => match self.tree(Path::new(&**path)) {
                Ok(digest) => Looked { digest, content: None, stat: None },
                Err(error) => unreadable(&error),
            },
            Leaf::Env(name) => match self.system.env(name).map(String::into_bytes) {
                Some(secret) if leaf.is_secret() => {
                    Looked::of(self.shelf.store.keys().digest_of_secret(&secret), secret)
                }
                set => value("env", set),
            },
            Leaf::Fact(kind, name) => value("fact", (self.facts)(kind, name)),
            Leaf::Tool => Looked { digest: self.tool, content: None, stat: None },
            Leaf::Effect(_) => unreachable!("effects are states of the session, not of the world"),
        }
    }

    fn file(&self, path: &Path, seen: Option<Seen>) -> Looked {
        self.look_by_stat(path, seen, |stat| self.file_at(path, stat))
    }

    /// What is in the file at `path`, which had this stat.
    fn file_at(&self, path: &Path, stat: &Stat) -> io::Result<Read> {
        match stat.kind {
            Kind::Folder => return Err(io::ErrorKind::IsADirectory.into()),
            Kind::Special => return Err(io::Error::other(NOT_REGULAR)),
            Kind::File => {}
        }
        let too_large = || {
            let most = LARGEST >> 20;
            Err(io::Error::other(format!("it is larger than {most} MiB")))
        };
        if stat.size > LARGEST {
            return too_large();
        }
        let mut opened = self.system.open(path)?;
        let mut bytes = Vec::with_capacity(stat.size as usize);
        opened.by_ref().take(stat.size).read_to_end(&mut bytes)?;
        let after = opened.stat()?;
        if after.kind != Kind::File {
            return Err(io::Error::other(NOT_REGULAR));
        }
        // Files that the system makes up while they are read say that they are empty.
        if after.size != stat.size || stat.size == 0 {
            opened.take(LARGEST + 1 - stat.size).read_to_end(&mut bytes)?;
        }
        if bytes.len() as u64 > LARGEST {
            return too_large();
        }
        Ok((Digest::of("file", &bytes), Content::Bytes(bytes.into()), after))
    }

    /// A file of which only the digest is wanted.
    fn large_file(&self, path: &Path, seen: Option<Seen>) -> Looked {
        self.look_by_stat(path, seen, |_| {
            let mut opened = self.system.open(path)?;
            let digest = Digest::of_reader("large file", &mut opened)?;
            Ok((digest, Content::Bytes([].into()), opened.stat()?))
        })
    }

    fn listing(&self, path: &Path, seen: Option<Seen>) -> Looked {
        let list = |stat: &Stat| {
            if stat.kind != Kind::Folder {
                return Err(io::ErrorKind::NotADirectory.into());
            }
            let entries = self.system.list(path)?.into_iter();
            let entries = entries.filter(|entry| entry.name != OWN_FOLDER).map(|entry| Listed {
                name: match entry.name.to_str() {
                    Some(name) => Ok(name.to_owned()),
                    None => Err(entry.name.to_string_lossy().into_owned()),
                },
                kind: match entry.kind {
                    EntryKind::File => ListedKind::File,
                    EntryKind::Folder => ListedKind::Folder,
                    EntryKind::Link(_) | EntryKind::Special => ListedKind::Other,
                },
            });
            let listed: Vec<Listed> = entries.collect();
            let bytes = postcard::to_stdvec(&listed).expect("names are plain data");
            let digest = Digest::of("listing", &bytes);
            Ok((digest, Content::Bytes(bytes.into()), self.system.stat(path)?))
        };
        self.look_by_stat(path, seen, list)
    }

    /// Reads what is at `path`, unless its stat says that it is as it was when it was last seen.
    fn look_by_stat(
        &self,
        path: &Path,
        seen: Option<Seen>,
        read: impl FnOnce(&Stat) -> io::Result<Read>,
    ) -> Looked {
        let scan_ns = self.system.now_ns();
        let stat = self.system.stat(path);
        let fingerprint = stat.as_ref().ok().map(Stat::fingerprint);
        match seen.filter(|seen| self.trusting && seen.stat.is_some() && seen.stat == fingerprint) {
            Some(seen) => Looked { digest: seen.digest, content: None, stat: fingerprint },
            None => self.read(stat, scan_ns, read),
        }
    }

    /// Reads what had this stat at that time or later.
    fn read(
        &self,
        stat: io::Result<Stat>,
        scan_ns: i64,
        read: impl FnOnce(&Stat) -> io::Result<Read>,
    ) -> Looked {
        match stat.and_then(|stat| Ok((stat, read(&stat)?))) {
            Ok((stat, (digest, content, after))) => {
                // Only a stat that was the same before and after describes the bytes in between.
                let settled = after == stat && !is_racy(&stat, scan_ns);
                let stat = settled.then(|| stat.fingerprint());
                Looked { digest, content: Some(content), stat }
            }
            Err(error) => unreadable(&error),
        }
    }

    /// Of a file: its digest and permissions; of a folder: what is in it, with links as links:
    /// a container sees where they lead inside.
    fn tree(&self, path: &Path) -> io::Result<Digest> {
        let stat = self.system.stat(path)?;
        match stat.kind {
            Kind::Special => Err(io::Error::other("not a regular file or folder")),
            Kind::File => {
                let digest = self.tree_file(path, stat.size > LARGEST)?;
                let mode = stat.mode.to_le_bytes();
                Ok(Digest::of_parts("tree file", &[&digest.0, &mode]))
            }
            Kind::Folder => {
                let mut parts = Vec::new();
                for Entry { name, kind } in self.system.list(path)? {
                    if name == OWN_FOLDER {
                        continue;
                    }
                    let digest = match kind {
                        EntryKind::Link(target) => {
                            Digest::of("tree link", target.as_os_str().as_bytes())
                        }
                        _ => self.tree(&path.join(&name)).map_err(below)?,
                    };
                    parts.extend([name.as_bytes().to_vec(), digest.0.to_vec()]);
                }
                let parts: Vec<&[u8]> = parts.iter().map(Vec::as_slice).collect();
                Ok(Digest::of_parts("tree folder", &parts))
            }
        }
    }

    /// A file of a tree: by the index, which learns of it, but always by its stat of now.
    fn tree_file(&self, path: &Path, large: bool) -> io::Result<Digest> {
        // Queries never see what is in a large file, so its digest has a name of its own there.
        let mark = if large { "/" } else { "" };
        let look = |seen| if large { self.large_file(path, seen) } else { self.file(path, seen) };
        let looked = match path.to_str() {
            Some(text) => {
                let (folder, name) = split(text);
                let (folder, name) = (self.folder(folder), [name, mark].concat());
                let seen = folder.lock().expect("no holder panics").seen(Some(&name));
                let looked = look(seen);
                let seen = Seen { stat: looked.stat, digest: looked.digest };
                folder.lock().expect("no holder panics").learn(&name, seen);
                looked
            }
            // Names that are not Unicode have no place in the index.
            None => look(None),
        };
        match looked.content {
            Some(Content::Unreadable(reason)) if looked.digest == unreadable_digest(&reason) => {
                Err(io::Error::other(reason.to_string()))
            }
            Some(Content::Absent) => Err(io::ErrorKind::NotFound.into()),
            _ => Ok(looked.digest),
        }
    }

    fn hold(&self, leaf: &Leaf, looked: &Looked) {
        let Some(content) = &looked.content else { return };
        let mut held = self.held.lock().expect("no holder panics");
        let bytes = content.bytes().map_or(0, <[u8]>::len);
        if held.bytes + bytes > HELD {
            *held = Held::default();
        }
        held.bytes += bytes;
        held.content.insert(leaf.clone(), (looked.digest, content.clone()));
    }
}

/// Whether something could change again without its stat telling.
fn is_racy(stat: &Stat, scan_ns: i64) -> bool {
    if fault::is(Fault::RacyStatTrusted) {
        return false;
    }
    let coarse = stat.mtime_ns % SECOND_NS == 0 && stat.ctime_ns % SECOND_NS == 0;
    let margin = if coarse { COARSE_RACY_NS } else { RACY_NS };
    stat.mtime_ns.max(stat.ctime_ns) >= scan_ns.saturating_sub(margin)
}

/// A file's folder and its name in it.
pub(crate) fn split(path: &str) -> (&str, &str) {
    path.rsplit_once('/').unwrap_or(("", path))
}

/// The path of a file in a folder.
pub(crate) fn join(folder: &str, name: &str) -> String {
    if folder.is_empty() { name.to_owned() } else { [folder, name].join("/") }
}

/// Something that was listed and is gone says nothing about the folder it was in.
fn below(error: io::Error) -> io::Error {
    match error.kind() {
        io::ErrorKind::NotFound => io::Error::other("something in it went away"),
        _ => error,
    }
}

impl Content {
    /// The bytes, when there are any.
    pub fn bytes(&self) -> Option<&[u8]> {
        match self {
            Content::Bytes(bytes) => Some(bytes),
            Content::Absent | Content::Unreadable(_) => None,
        }
    }
}

fn value(domain: &str, bytes: Option<Vec<u8>>) -> Looked {
    let Some(bytes) = bytes else { return Looked::absent() };
    Looked::of(Digest::of(domain, &bytes), bytes)
}

impl Looked {
    fn of(digest: Digest, bytes: Vec<u8>) -> Looked {
        Looked { digest, content: Some(Content::Bytes(bytes.into())), stat: None }
    }

    fn absent() -> Looked {
        Looked { digest: absent(), content: Some(Content::Absent), stat: None }
    }
}

pub(crate) fn absent() -> Digest {
    static ABSENT: std::sync::LazyLock<Digest> =
        std::sync::LazyLock::new(|| Digest::of("absent", b""));
    *ABSENT
}

fn unreadable(error: &io::Error) -> Looked {
    if error.kind() == io::ErrorKind::NotFound || error.kind() == io::ErrorKind::NotADirectory {
        return Looked::absent();
    }
    let reason = error.to_string();
    let digest = unreadable_digest(&reason);
    Looked { digest, content: Some(Content::Unreadable(reason.into())), stat: None }
}

fn unreadable_digest(reason: &str) -> Digest {
    Digest::of("unreadable", reason.as_bytes())
}
