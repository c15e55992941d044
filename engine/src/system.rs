//! The outside world as the engine reads it: files and environment.

use std::collections::BTreeMap;
use std::ffi::OsString;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use rustix::fs::{AtFlags, CWD, FileType, StatxFlags};
use serde::{Deserialize, Serialize};

/// Files and environment; the real ones, or a test's.
pub trait System: Send + Sync {
    /// The file's stat, following links.
    ///
    /// # Errors
    /// `NotFound` when nothing is there, anything else when it cannot be looked at.
    fn stat(&self, path: &Path) -> io::Result<Stat>;
    /// The file's content.
    ///
    /// # Errors
    /// As the operating system has them.
    fn read(&self, path: &Path) -> io::Result<Vec<u8>>;
    /// What is in a folder, sorted by name.
    ///
    /// # Errors
    /// As the operating system has them.
    fn list(&self, path: &Path) -> io::Result<Vec<Entry>>;
    /// An environment variable; `None` when unset or not Unicode.
    fn env(&self, name: &str) -> Option<String>;
    /// Now, on the clock of the file system, in nanoseconds since the epoch.
    fn now_ns(&self) -> i64;
}

/// What tells two states of a file apart without reading it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Stat {
    /// What it is.
    pub kind: Kind,
    /// Permissions, the lower twelve bits of the mode.
    pub mode: u16,
    /// Bytes.
    pub size: u64,
    /// Modification time, nanoseconds since the epoch.
    pub mtime_ns: i64,
    /// Time of the last change of content or attributes, nanoseconds since the epoch.
    pub ctime_ns: i64,
    /// Device and inode.
    pub inode: (u64, u64),
}

/// Something in a folder.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Entry {
    /// Its name.
    pub name: OsString,
    /// Where it leads, when it is a symbolic link.
    pub link: Option<PathBuf>,
}

/// What a path names.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Kind {
    /// A regular file.
    File,
    /// A folder.
    Folder,
    /// A device, socket or pipe, which is never read.
    Special,
}

/// The machine the program runs on; relative paths start at a workspace.
pub struct Os {
    workspace: PathBuf,
}

impl Os {
    /// Of the workspace in this folder.
    pub fn new(workspace: &Path) -> Os {
        Os { workspace: workspace.to_owned() }
    }
}

impl System for Os {
    fn stat(&self, path: &Path) -> io::Result<Stat> {
        let wanted = StatxFlags::BASIC_STATS;
        let path = self.workspace.join(path);
        let stat = rustix::fs::statx(CWD, path, AtFlags::empty(), wanted)?;
        let kind = match FileType::from_raw_mode(stat.stx_mode.into()) {
            FileType::RegularFile => Kind::File,
            FileType::Directory => Kind::Folder,
            _ => Kind::Special,
        };
        let ns = |seconds: i64, nanoseconds: u32| {
            seconds.saturating_mul(1_000_000_000).saturating_add(nanoseconds.into())
        };
        Ok(Stat {
            kind,
            mode: stat.stx_mode & 0o7777,
            size: stat.stx_size,
            mtime_ns: ns(stat.stx_mtime.tv_sec, stat.stx_mtime.tv_nsec),
            ctime_ns: ns(stat.stx_ctime.tv_sec, stat.stx_ctime.tv_nsec),
            inode: (rustix::fs::makedev(stat.stx_dev_major, stat.stx_dev_minor), stat.stx_ino),
        })
    }

    fn read(&self, path: &Path) -> io::Result<Vec<u8>> {
        std::fs::read(self.workspace.join(path))
    }

    fn list(&self, path: &Path) -> io::Result<Vec<Entry>> {
        let mut entries = Vec::new();
        for entry in std::fs::read_dir(self.workspace.join(path))? {
            let entry = entry?;
            let is_link = entry.file_type()?.is_symlink();
            let link = if is_link { Some(std::fs::read_link(entry.path())?) } else { None };
            entries.push(Entry { name: entry.file_name(), link });
        }
        entries.sort();
        Ok(entries)
    }

    fn env(&self, name: &str) -> Option<String> {
        std::env::var(name).ok()
    }

    fn now_ns(&self) -> i64 {
        let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or(Duration::ZERO);
        now.as_nanos() as i64
    }
}

/// Files and environment of a test.
#[derive(Clone, Default)]
pub struct Memory {
    world: Arc<Mutex<World>>,
}

#[derive(Default)]
struct World {
    files: BTreeMap<String, (Vec<u8>, Stat)>,
    env: BTreeMap<String, String>,
    /// A clock that moves with every change.
    now_ns: i64,
    inodes: u64,
}

/// More than a file's time stamps can be off by.
const TICK_NS: i64 = 1_000_000_000;

impl Memory {
    /// Writes a file; its times and inode tell it from the one before.
    pub fn write(&self, path: &str, content: impl Into<Vec<u8>>) {
        let content = content.into();
        let mut world = self.lock();
        world.now_ns += TICK_NS;
        world.inodes += 1;
        let stat = Stat {
            kind: Kind::File,
            mode: 0o644,
            size: content.len() as u64,
            mtime_ns: world.now_ns,
            ctime_ns: world.now_ns,
            inode: (1, world.inodes),
        };
        world.files.insert(path.to_owned(), (content, stat));
        // Whoever scans now does so safely later.
        world.now_ns += TICK_NS;
    }

    /// Removes a file.
    pub fn remove(&self, path: &str) {
        self.lock().files.remove(path);
    }

    /// Sets or unsets a variable.
    pub fn set_env(&self, name: &str, value: Option<&str>) {
        let mut world = self.lock();
        match value {
            Some(value) => world.env.insert(name.to_owned(), value.to_owned()),
            None => world.env.remove(name),
        };
    }

    /// The content of a file.
    pub fn content(&self, path: &str) -> Option<Vec<u8>> {
        self.lock().files.get(path).map(|(content, _)| content.clone())
    }

    /// The paths of all files, sorted.
    pub fn paths(&self) -> Vec<String> {
        self.lock().files.keys().cloned().collect()
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, World> {
        self.world.lock().expect("no holder panics")
    }
}

impl System for Memory {
    fn stat(&self, path: &Path) -> io::Result<Stat> {
        let path = path.to_str().ok_or(io::ErrorKind::NotFound)?;
        let world = self.lock();
        if let Some((_, stat)) = world.files.get(path) {
            return Ok(*stat);
        }
        let folder = format!("{path}/");
        if !world.files.keys().any(|file| file.starts_with(&folder)) {
            return Err(io::ErrorKind::NotFound.into());
        }
        Ok(Stat {
            kind: Kind::Folder,
            mode: 0o755,
            size: 0,
            mtime_ns: 0,
            ctime_ns: 0,
            inode: (1, 0),
        })
    }

    fn read(&self, path: &Path) -> io::Result<Vec<u8>> {
        path.to_str().and_then(|path| self.content(path)).ok_or(io::ErrorKind::NotFound.into())
    }

    fn list(&self, path: &Path) -> io::Result<Vec<Entry>> {
        let folder = format!("{}/", path.display());
        let world = self.lock();
        let below = world.files.keys().filter_map(|file| file.strip_prefix(&folder));
        let mut names: Vec<&str> =
            below.map(|rest| rest.split('/').next().unwrap_or(rest)).collect();
        names.dedup();
        Ok(names.into_iter().map(|name| Entry { name: name.into(), link: None }).collect())
    }

    fn env(&self, name: &str) -> Option<String> {
        self.lock().env.get(name).cloned()
    }

    fn now_ns(&self) -> i64 {
        self.lock().now_ns
    }
}
