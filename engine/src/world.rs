//! The states of leaves: read once, remembered until told to look again.
//!
//! A file's digest comes from the stat index when its stat is as it was left; otherwise the file
//! is read and hashed, and those very bytes are what queries see.

use std::collections::{BTreeMap, HashMap};
use std::io;
use std::os::unix::ffi::OsStrExt;
use std::path::Path;
use std::sync::{Arc, Mutex};

use serde::{Deserialize, Serialize};

use crate::digest::Digest;
use crate::key::Leaf;
use crate::system::{Entry, Kind, Stat, System};

/// An entry whose times are not this much older than the scan is racy: the file may change again
/// without its times telling (git's rule for its index).
const RACY_NS: i64 = 20_000_000;
/// The same on file systems that keep whole seconds, of which some keep only even ones.
const COARSE_RACY_NS: i64 = 2_100_000_000;
const SECOND_NS: i64 = 1_000_000_000;

/// The folder of the program's own store, which is no part of any tree.
const OWN_FOLDER: &str = ".clnrm";

/// What is stated about the world by the program: kind and name to bytes, or absence.
pub type Facts = Arc<dyn Fn(&str, &str) -> Option<Vec<u8>> + Send + Sync>;

/// The state of a leaf.
#[derive(Clone)]
pub(crate) struct State {
    pub(crate) digest: Digest,
    /// What was read to get the digest, if it was.
    pub(crate) content: Option<Content>,
}

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

/// Digests of files by their stats: what was seen when they were last read.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub(crate) struct StatIndex(pub(crate) BTreeMap<Arc<str>, (Stat, Digest)>);

/// The stat index, and whether it was changed since it was last given away.
#[derive(Default)]
struct Index {
    files: StatIndex,
    changed: bool,
}

/// The world, as far as it was looked at.
pub(crate) struct World {
    system: Arc<dyn System>,
    facts: Facts,
    tool: Digest,
    known: Mutex<HashMap<Leaf, State>>,
    index: Mutex<Index>,
}

impl World {
    pub(crate) fn new(system: Arc<dyn System>, facts: Facts, tool: Digest) -> World {
        World { system, facts, tool, known: Mutex::default(), index: Mutex::default() }
    }

    pub(crate) fn set_index(&self, index: StatIndex) {
        self.index.lock().expect("no holder panics").files = index;
    }

    /// The index if it was changed since it was last given.
    pub(crate) fn take_changed_index(&self) -> Option<StatIndex> {
        let mut index = self.index.lock().expect("no holder panics");
        std::mem::take(&mut index.changed).then(|| index.files.clone())
    }

    /// The state of a leaf other than an effect.
    pub(crate) fn state(&self, leaf: &Leaf) -> State {
        if let Some(state) = self.known.lock().expect("no holder panics").get(leaf) {
            return state.clone();
        }
        let state = self.look(leaf);
        let mut known = self.known.lock().expect("no holder panics");
        known.entry(leaf.clone()).or_insert(state).clone()
    }

    /// Forgets the states of these leaves, so that they are looked at again.
    pub(crate) fn forget(&self, leaves: &[Leaf]) {
        let mut known = self.known.lock().expect("no holder panics");
        leaves.iter().for_each(|leaf| drop(known.remove(leaf)));
    }

    /// Forgets the states of these leaves, and what the index says of them.
    pub(crate) fn distrust(&self, leaves: &[Leaf]) {
        self.forget(leaves);
        let mut index = self.index.lock().expect("no holder panics");
        for leaf in leaves {
            if let Leaf::File(path) = leaf {
                index.files.0.remove(path);
            }
        }
    }

    /// The leaves whose state now is not the one that is known.
    pub(crate) fn changed(&self) -> Vec<Leaf> {
        let known: Vec<(Leaf, Digest)> = {
            let known = self.known.lock().expect("no holder panics");
            known.iter().map(|(leaf, state)| (leaf.clone(), state.digest)).collect()
        };
        let differs = |(leaf, digest): &(Leaf, Digest)| self.look(leaf).digest != *digest;
        let mut changed: Vec<Leaf> =
            known.into_iter().filter(differs).map(|(leaf, _)| leaf).collect();
        changed.sort();
        changed
    }

    /// What a leaf with `state` holds; `None` when that can no longer be told, because it changed.
    pub(crate) fn content(&self, leaf: &Leaf, state: &State) -> Option<Content> {
        if let Some(content) = &state.content {
            return Some(content.clone());
        }
        let Leaf::File(path) = leaf else { return None };
        let fresh = self.read(Path::new(&**path));
        (fresh.digest == state.digest).then_some(fresh.content).flatten()
    }

    fn look(&self, leaf: &Leaf) -> State {
        match leaf {
            Leaf::File(path) => self.file(path),
            Leaf::Tree(path) => match self.tree(Path::new(&**path)) {
                Ok(digest) => State { digest, content: None },
                Err(error) => unreadable(&error),
            },
            Leaf::Env(name) => value("env", self.system.env(name).map(String::into_bytes)),
            Leaf::Fact(kind, name) => value("fact", (self.facts)(kind, name)),
            Leaf::Tool => State { digest: self.tool, content: None },
            Leaf::Effect(_) => unreachable!("effects are states of the session, not of the world"),
        }
    }

    fn file(&self, path: &str) -> State {
        let stat = match self.system.stat(Path::new(path)) {
            Ok(stat) => stat,
            Err(error) => return unreadable(&error),
        };
        match stat.kind {
            Kind::Folder => return unreadable(&io::ErrorKind::IsADirectory.into()),
            Kind::Special => return unreadable(&io::Error::other("not a regular file")),
            Kind::File => {}
        }
        let index = self.index.lock().expect("no holder panics");
        if let Some((_, digest)) = index.files.0.get(path).filter(|(known, _)| *known == stat) {
            return State { digest: *digest, content: None };
        }
        drop(index);
        let scan_ns = self.system.now_ns();
        let state = self.read(Path::new(path));
        // Only a stat that was the same before and after describes the bytes in between.
        let settled = self.system.stat(Path::new(path)).is_ok_and(|after| after == stat);
        let coarse = stat.mtime_ns % SECOND_NS == 0 && stat.ctime_ns % SECOND_NS == 0;
        let margin = if coarse { COARSE_RACY_NS } else { RACY_NS };
        let safe = stat.mtime_ns.max(stat.ctime_ns) < scan_ns - margin;
        if settled && safe && matches!(state.content, Some(Content::Bytes(_))) {
            let mut index = self.index.lock().expect("no holder panics");
            index.files.0.insert(path.into(), (stat, state.digest));
            index.changed = true;
        }
        state
    }

    fn read(&self, path: &Path) -> State {
        match self.system.read(path) {
            Ok(bytes) => State {
                digest: Digest::of("file", &bytes),
                content: Some(Content::Bytes(bytes.into())),
            },
            Err(error) => unreadable(&error),
        }
    }

    /// Of a file: its digest and permissions; of a folder: what is in it, with
    /// links as links: a container sees where they lead inside.
    fn tree(&self, path: &Path) -> io::Result<Digest> {
        let stat = self.system.stat(path)?;
        match stat.kind {
            Kind::Special => Err(io::Error::other("not a regular file or folder")),
            Kind::File => {
                let state = match path.to_str() {
                    Some(path) => self.file(path),
                    // Names that are not Unicode have no place in the index.
                    None => self.read(path),
                };
                if let Some(Content::Unreadable(reason)) = state.content {
                    return Err(io::Error::other(reason.to_string()));
                }
                let mode = stat.mode.to_le_bytes();
                Ok(Digest::of_parts("tree file", &[&state.digest.0, &mode]))
            }
            Kind::Folder => {
                let mut parts = Vec::new();
                for Entry { name, link } in self.system.list(path)? {
                    if name == OWN_FOLDER {
                        continue;
                    }
                    let digest = match link {
                        Some(target) => Digest::of("tree link", target.as_os_str().as_bytes()),
                        None => self.tree(&path.join(&name)).map_err(below)?,
                    };
                    parts.extend([name.as_bytes().to_vec(), digest.0.to_vec()]);
                }
                let parts: Vec<&[u8]> = parts.iter().map(Vec::as_slice).collect();
                Ok(Digest::of_parts("tree folder", &parts))
            }
        }
    }
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

fn value(domain: &str, bytes: Option<Vec<u8>>) -> State {
    match bytes {
        Some(bytes) => State {
            digest: Digest::of(domain, &bytes),
            content: Some(Content::Bytes(bytes.into())),
        },
        None => absent(),
    }
}

fn absent() -> State {
    State { digest: Digest::of("absent", b""), content: Some(Content::Absent) }
}

fn unreadable(error: &io::Error) -> State {
    if error.kind() == io::ErrorKind::NotFound || error.kind() == io::ErrorKind::NotADirectory {
        return absent();
    }
    let reason = error.to_string();
    State {
        digest: Digest::of("unreadable", reason.as_bytes()),
        content: Some(Content::Unreadable(reason.into())),
    }
}
