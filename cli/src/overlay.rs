//! The workspace with one file that is somewhere else: what an editor has not saved yet.

use std::io::{self, Cursor, Read};
use std::path::{Path, PathBuf};

use clnrm_engine::{Entry, Kind, Opened, Os, Stat, System};

/// The machine's files, and one that it does not have.
pub(crate) struct Overlay {
    os: Os,
    path: PathBuf,
    content: Vec<u8>,
}

impl Overlay {
    /// `path` is relative to the workspace at `root`.
    pub(crate) fn new(root: &Path, path: &Path, content: Vec<u8>) -> Overlay {
        Overlay { os: Os::new(root), path: path.to_owned(), content }
    }

    fn own_stat(&self) -> Stat {
        let size = self.content.len() as u64;
        Stat { kind: Kind::File, mode: 0o644, size, mtime_ns: 0, ctime_ns: 0, inode: (0, 0) }
    }
}

impl System for Overlay {
    fn stat(&self, path: &Path) -> io::Result<Stat> {
        if path == self.path { Ok(self.own_stat()) } else { self.os.stat(path) }
    }

    fn stat_all(&self, folder: &Path, names: &[&str]) -> Vec<io::Result<Stat>> {
        let mut stats = self.os.stat_all(folder, names);
        for (name, stat) in names.iter().zip(&mut stats) {
            if folder.join(name) == self.path {
                *stat = Ok(self.own_stat());
            }
        }
        stats
    }

    fn open(&self, path: &Path) -> io::Result<Box<dyn Opened>> {
        if path != self.path {
            return self.os.open(path);
        }
        Ok(Box::new(Content { bytes: Cursor::new(self.content.clone()), stat: self.own_stat() }))
    }

    fn list(&self, path: &Path) -> io::Result<Vec<Entry>> {
        self.os.list(path)
    }

    fn env(&self, name: &str) -> Option<String> {
        self.os.env(name)
    }

    fn now_ns(&self) -> i64 {
        self.os.now_ns()
    }
}

/// The file, open.
struct Content {
    bytes: Cursor<Vec<u8>>,
    stat: Stat,
}

impl Read for Content {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        self.bytes.read(buffer)
    }
}

impl Opened for Content {
    fn stat(&self) -> io::Result<Stat> {
        Ok(self.stat)
    }
}
