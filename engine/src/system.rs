//! The outside world as the engine reads it: files and environment.

use std::collections::BTreeMap;
use std::ffi::OsString;
use std::fs::File;
use std::io::{self, Read};
use std::os::fd::{AsFd, BorrowedFd};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use rustix::fs::{AtFlags, CWD, FileType, Mode, OFlags};
use xxhash_rust::xxh3::xxh3_128;

use crate::fault::{self, Fault};

/// Files and environment; the real ones, or a test's.
pub trait System: Send + Sync {
    /// The file's stat, following links.
    ///
    /// # Errors
    /// `NotFound` when nothing is there, anything else when it cannot be looked at.
    fn stat(&self, path: &Path) -> io::Result<Stat>;
    /// The stats of files of one folder, in their order, following links.
    fn stat_all(&self, folder: &Path, names: &[&str]) -> Vec<io::Result<Stat>>;
    /// A file, opened for reading without waiting for anybody.
    ///
    /// # Errors
    /// As the operating system has them.
    fn open(&self, path: &Path) -> io::Result<Box<dyn Opened>>;
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

/// An open file.
pub trait Opened: Read {
    /// Its stat now: of the very file that is read, whatever is at its path by then.
    ///
    /// # Errors
    /// As the operating system has them.
    fn stat(&self) -> io::Result<Stat>;
}

/// What tells two states of a file apart without reading it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
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

impl Stat {
    /// Bytes of a fingerprint.
    pub(crate) const FINGERPRINT: usize = 16;

    /// A hash of all of it. An index holds a great many of these, and has no other use for a stat
    /// than to compare it.
    pub(crate) fn fingerprint(&self) -> [u8; Stat::FINGERPRINT] {
        let mut bytes = [0; 43];
        bytes[0] = self.kind as u8;
        bytes[1..3].copy_from_slice(&self.mode.to_le_bytes());
        let mut numbers =
            [self.size, self.mtime_ns as u64, self.ctime_ns as u64, self.inode.0, self.inode.1];
        if fault::is(Fault::TimesIgnored) {
            (numbers[1], numbers[2]) = (0, 0);
        }
        for (place, number) in bytes[3..].chunks_exact_mut(8).zip(numbers) {
            place.copy_from_slice(&number.to_le_bytes());
        }
        xxh3_128(&bytes).to_le_bytes()
    }
}

/// Something in a folder.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Entry {
    /// Its name.
    pub name: OsString,
    /// What it is, itself: links are not followed.
    pub kind: EntryKind,
}

/// What is listed in a folder.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum EntryKind {
    /// A regular file.
    File,
    /// A folder.
    Folder,
    /// A symbolic link, and where it leads.
    Link(PathBuf),
    /// A device, socket or pipe.
    Special,
}

/// What a path names.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
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
        stat_at(CWD, self.workspace.join(path))
    }

    fn stat_all(&self, folder: &Path, names: &[&str]) -> Vec<io::Result<Stat>> {
        // Names relative to an open folder spare the kernel the way to it.
        let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC;
        match rustix::fs::open(self.workspace.join(folder), flags, Mode::empty()) {
            Ok(folder) => names.iter().map(|name| stat_at(folder.as_fd(), *name)).collect(),
            Err(error) => names.iter().map(|_| Err(error.into())).collect(),
        }
    }

    fn open(&self, path: &Path) -> io::Result<Box<dyn Opened>> {
        // Opening a pipe that nobody writes to would wait for ever.
        let flags = OFlags::RDONLY | OFlags::NONBLOCK | OFlags::CLOEXEC;
        let file = rustix::fs::open(self.workspace.join(path), flags, Mode::empty())?;
        Ok(Box::new(File::from(file)))
    }

    fn list(&self, path: &Path) -> io::Result<Vec<Entry>> {
        let mut entries = Vec::new();
        for entry in std::fs::read_dir(self.workspace.join(path))? {
            let entry = entry?;
            let kind = match entry.file_type()? {
                kind if kind.is_symlink() => EntryKind::Link(std::fs::read_link(entry.path())?),
                kind if kind.is_file() => EntryKind::File,
                kind if kind.is_dir() => EntryKind::Folder,
                _ => EntryKind::Special,
            };
            entries.push(Entry { name: entry.file_name(), kind });
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

impl Opened for File {
    fn stat(&self) -> io::Result<Stat> {
        Ok(stat_of(&rustix::fs::fstat(self)?))
    }
}

fn stat_at(folder: BorrowedFd<'_>, path: impl rustix::path::Arg) -> io::Result<Stat> {
    // Not statx: it tells nothing more of what is wanted here, and takes longer.
    Ok(stat_of(&rustix::fs::statat(folder, path, AtFlags::empty())?))
}

fn stat_of(stat: &rustix::fs::Stat) -> Stat {
    let kind = match FileType::from_raw_mode(stat.st_mode) {
        FileType::RegularFile => Kind::File,
        FileType::Directory => Kind::Folder,
        _ => Kind::Special,
    };
    let ns = |seconds: i64, nanoseconds: i64| {
        seconds.saturating_mul(1_000_000_000).saturating_add(nanoseconds)
    };
    Stat {
        kind,
        mode: (stat.st_mode & 0o7777) as u16,
        size: stat.st_size as u64,
        mtime_ns: ns(stat.st_mtime, stat.st_mtime_nsec as i64),
        ctime_ns: ns(stat.st_ctime, stat.st_ctime_nsec as i64),
        inode: (stat.st_dev, stat.st_ino),
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
    /// Those of the files; they stay when they are empty.
    folders: BTreeMap<String, Stat>,
    env: BTreeMap<String, String>,
    /// A clock that moves with every change.
    now_ns: i64,
    inodes: u64,
}

impl World {
    /// Of something that was changed now, safely before whoever scans next.
    fn new_stat(&mut self, kind: Kind, size: usize) -> Stat {
        self.now_ns += TICK_NS;
        self.inodes += 1;
        let stat = Stat {
            kind,
            mode: 0o644,
            size: size as u64,
            mtime_ns: self.now_ns,
            ctime_ns: self.now_ns,
            inode: (1, self.inodes),
        };
        self.now_ns += TICK_NS;
        stat
    }

    /// The folder a file was made or removed in has new times, as has the one in which it came to
    /// be itself.
    fn touch_folders(&mut self, path: &str) {
        let mut folder = parent(path);
        loop {
            let stat = self.new_stat(Kind::Folder, 0);
            let known = self.folders.insert(folder.to_owned(), stat).is_some();
            if known || folder.is_empty() {
                return;
            }
            folder = parent(folder);
        }
    }
}

fn parent(path: &str) -> &str {
    path.rsplit_once('/').map_or("", |(folder, _)| folder)
}

/// More than a file's time stamps can be off by.
const TICK_NS: i64 = 1_000_000_000;

impl Memory {
    /// Writes a file; its times and inode tell it from the one before.
    pub fn write(&self, path: &str, content: impl Into<Vec<u8>>) {
        let content = content.into();
        let mut world = self.lock();
        let stat = world.new_stat(Kind::File, content.len());
        let known = world.files.insert(path.to_owned(), (content, stat)).is_some();
        if !known {
            world.touch_folders(path);
        }
    }

    /// Writes a file in place and sets its modification time back to what it was.
    pub fn overwrite(&self, path: &str, content: impl Into<Vec<u8>>) {
        let content = content.into();
        let mut world = self.lock();
        let moved = world.new_stat(Kind::File, content.len());
        if let Some((old, stat)) = world.files.get_mut(path) {
            (stat.size, stat.ctime_ns) = (moved.size, moved.ctime_ns);
            *old = content;
        }
    }

    /// Writes a file in place in the very moment of the last change: if it was written then, too,
    /// and is as long, its stat does not tell.
    pub fn overwrite_at_once(&self, path: &str, content: impl Into<Vec<u8>>) {
        let content = content.into();
        let mut world = self.lock();
        let now_ns = world.now_ns;
        if let Some((old, stat)) = world.files.get_mut(path) {
            (stat.size, stat.mtime_ns, stat.ctime_ns) = (content.len() as u64, now_ns, now_ns);
            *old = content;
        }
    }

    /// Gives a file new times and nothing else.
    pub fn touch(&self, path: &str) {
        let content = self.content(path);
        content.into_iter().for_each(|content| self.write(path, content));
    }

    /// Removes a file.
    pub fn remove(&self, path: &str) {
        let mut world = self.lock();
        if world.files.remove(path).is_some() {
            world.touch_folders(path);
        }
    }

    /// Everything there is, on its own: what is changed in one is not in the other.
    pub fn fork(&self) -> Memory {
        let world = self.lock();
        let (files, folders) = (world.files.clone(), world.folders.clone());
        let (env, now_ns, inodes) = (world.env.clone(), world.now_ns, world.inodes);
        Memory { world: Arc::new(Mutex::new(World { files, folders, env, now_ns, inodes })) }
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
        world.folders.get(path).copied().ok_or(io::ErrorKind::NotFound.into())
    }

    fn stat_all(&self, folder: &Path, names: &[&str]) -> Vec<io::Result<Stat>> {
        names.iter().map(|name| self.stat(&folder.join(name))).collect()
    }

    fn open(&self, path: &Path) -> io::Result<Box<dyn Opened>> {
        let content = path.to_str().and_then(|path| self.content(path));
        let content = io::Cursor::new(content.ok_or(io::ErrorKind::NotFound)?);
        Ok(Box::new(OpenedMemory { content, memory: self.clone(), path: path.to_owned() }))
    }

    fn list(&self, path: &Path) -> io::Result<Vec<Entry>> {
        let path = path.to_str().ok_or(io::ErrorKind::NotFound)?;
        let world = self.lock();
        let entries = |names: Vec<&String>, kind: EntryKind| {
            let below = names.into_iter().filter(|name| !name.is_empty() && parent(name) == path);
            let name = |full: &String| full.rsplit('/').next().unwrap_or(full).into();
            below.map(|full| Entry { name: name(full), kind: kind.clone() }).collect::<Vec<_>>()
        };
        let mut all = entries(world.files.keys().collect(), EntryKind::File);
        all.extend(entries(world.folders.keys().collect(), EntryKind::Folder));
        all.sort();
        Ok(all)
    }

    fn env(&self, name: &str) -> Option<String> {
        self.lock().env.get(name).cloned()
    }

    fn now_ns(&self) -> i64 {
        self.lock().now_ns
    }
}

/// A file of [`Memory`].
struct OpenedMemory {
    content: io::Cursor<Vec<u8>>,
    memory: Memory,
    path: PathBuf,
}

impl Read for OpenedMemory {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        self.content.read(buffer)
    }
}

impl Opened for OpenedMemory {
    fn stat(&self) -> io::Result<Stat> {
        self.memory.stat(&self.path)
    }
}
