//! Layers onto a root, by the rules of the OCI image specification (layer.md): what a layer has
//! replaces what was there, and whiteouts remove it.
//!
//! Every path is resolved below the root by the kernel, links included, so no entry leads out.

use std::collections::HashSet;
use std::fs::File;
use std::io::{self, Read, Seek, SeekFrom, Write};
use std::os::fd::OwnedFd;
use std::os::unix::ffi::OsStrExt;
use std::path::{Component, Path, PathBuf};

use rustix::fs::{
    AtFlags, Dir, FileType, Gid, Mode, OFlags, ResolveFlags, Timespec, Timestamps, Uid,
};
use rustix::io::Errno;
use sha2::{Digest, Sha256};
use tar::{Entry, EntryType};

use super::manifest::named;

/// How the file begins whose name says which one is removed.
const WHITEOUT: &[u8] = b".wh.";
/// The file that says that nothing of a folder's lower layers is left.
const OPAQUE: &[u8] = b".wh..wh..opq";
/// How compressed files begin.
pub(super) const GZIP: [u8; 2] = [0x1f, 0x8b];
pub(super) const ZSTD: [u8; 4] = [0x28, 0xb5, 0x2f, 0xfd];
/// Zeros that are not written, in bytes.
const BLOCK: usize = 64 << 10;

/// Unpacks an archive, which may be compressed, below `root`; gives the digest of the archive and
/// of the file.
pub(super) fn unpack(file: impl Read, root: &Path) -> Result<(String, String), String> {
    let mut file = Hashing { inner: file, hasher: Sha256::new() };
    let diff_id = unpack_archive(plain_archive(&mut file)?, root)?;
    io::copy(&mut file, &mut io::sink()).map_err(|error| error.to_string())?;
    Ok((diff_id, named(file.hasher.finalize())))
}

/// The archive in a file, which may be compressed.
pub(super) fn plain_archive<'a>(mut file: impl Read + 'a) -> Result<Box<dyn Read + 'a>, String> {
    let mut magic = Vec::new();
    file.by_ref().take(4).read_to_end(&mut magic).map_err(|error| error.to_string())?;
    let whole = io::Cursor::new(magic.clone()).chain(file);
    Ok(if magic.starts_with(&GZIP) {
        Box::new(flate2::read::MultiGzDecoder::new(whole))
    } else if magic == ZSTD {
        Box::new(zstd::stream::read::Decoder::new(whole).map_err(|error| error.to_string())?)
    } else {
        Box::new(whole)
    })
}

fn unpack_archive(archive: impl Read, root: &Path) -> Result<String, String> {
    let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC;
    let root = rustix::fs::open(root, flags, Mode::empty()).map_err(|error| error.to_string())?;
    let mut hashing = Hashing { inner: archive, hasher: Sha256::new() };
    let mut layer = Unpacking {
        root,
        is_root: rustix::process::geteuid().is_root(),
        made: HashSet::new(),
        folders: Vec::new(),
    };
    let mut archive = tar::Archive::new(&mut hashing);
    for entry in archive.entries().map_err(|error| error.to_string())? {
        let mut entry = entry.map_err(|error| format!("the layer is damaged: {error}"))?;
        let path = entry.path_bytes().into_owned();
        layer.add(&mut entry).map_err(|error| {
            format!("the layer's `{}`: {error}", String::from_utf8_lossy(&path))
        })?;
    }
    layer.finish().map_err(|error| error.to_string())?;
    // What follows the end of an archive is part of its digest.
    io::copy(&mut hashing, &mut io::sink()).map_err(|error| error.to_string())?;
    Ok(named(hashing.hasher.finalize()))
}

/// Hashes what is read.
struct Hashing<R> {
    inner: R,
    hasher: Sha256,
}

impl<R: Read> Read for Hashing<R> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let read = self.inner.read(buffer)?;
        self.hasher.update(&buffer[..read]);
        Ok(read)
    }
}

/// A layer being unpacked.
struct Unpacking {
    root: OwnedFd,
    /// Whether owners can be given.
    is_root: bool,
    /// What this layer has made: an opaque folder keeps it.
    made: HashSet<PathBuf>,
    /// Folders whose times are set at the end.
    folders: Vec<(PathBuf, u64)>,
}

impl Unpacking {
    fn add<R: Read>(&mut self, entry: &mut Entry<'_, R>) -> io::Result<()> {
        let path = below_root(&entry.path()?)?;
        let Some(name) = path.file_name() else {
            // The root itself.
            return Ok(());
        };
        let parent_path = path.parent().unwrap_or(Path::new(""));
        let parent = self.folder(parent_path)?;
        if name.as_bytes() == OPAQUE {
            return self.empty(&parent, parent_path);
        }
        if let Some(hidden) = name.as_bytes().strip_prefix(WHITEOUT) {
            if hidden.is_empty() || hidden == b"." || hidden == b".." {
                return Err(refused("it removes nothing that could be there"));
            }
            return remove(&parent, Path::new(std::ffi::OsStr::from_bytes(hidden)));
        }
        self.make(entry, &parent, Path::new(name), &path)?;
        self.made.insert(path);
        Ok(())
    }

    fn make<R: Read>(
        &mut self,
        entry: &mut Entry<'_, R>,
        parent: &OwnedFd,
        name: &Path,
        path: &Path,
    ) -> io::Result<()> {
        let header = entry.header();
        let mode = Mode::from_raw_mode(header.mode()? & 0o7777);
        let time = header.mtime().unwrap_or(0);
        match header.entry_type() {
            EntryType::Directory => {
                let there = rustix::fs::statat(parent, name, AtFlags::SYMLINK_NOFOLLOW);
                let is_folder = |raw| FileType::from_raw_mode(raw) == FileType::Directory;
                if !there.is_ok_and(|stat| is_folder(stat.st_mode)) {
                    remove(parent, name)?;
                    rustix::fs::mkdirat(parent, name, Mode::RWXU)?;
                }
                // Whoever may not give owners away must at least be able to remove it again.
                let kept = if self.is_root { Mode::empty() } else { Mode::RWXU };
                self.own(entry, parent, name)?;
                rustix::fs::chmodat(parent, name, mode | kept, AtFlags::empty())?;
                self.folders.push((path.to_owned(), time));
            }
            EntryType::Regular | EntryType::Continuous | EntryType::GNUSparse => {
                remove(parent, name)?;
                let flags = OFlags::WRONLY | OFlags::CREATE | OFlags::EXCL | OFlags::CLOEXEC;
                let file = rustix::fs::openat(parent, name, flags, Mode::RUSR | Mode::WUSR)?;
                let mut file = File::from(file);
                copy_without_zeros(entry, &mut file)?;
                self.own(entry, parent, name)?;
                let kept = if self.is_root { Mode::empty() } else { Mode::RUSR };
                rustix::fs::fchmod(&file, mode | kept)?;
                rustix::fs::futimens(&file, &times(time))?;
            }
            EntryType::Symlink => {
                let to = entry.link_name_bytes().ok_or_else(|| refused("a link to nothing"))?;
                remove(parent, name)?;
                rustix::fs::symlinkat(&*to, parent, name)?;
                self.own(entry, parent, name)?;
            }
            EntryType::Link => {
                let to = entry.link_name()?.ok_or_else(|| refused("a link to nothing"))?;
                let to = below_root(&to)?;
                if to == path {
                    return Ok(());
                }
                let (Some(folder), Some(to)) = (to.parent(), to.file_name()) else {
                    return Err(refused("a link to the root"));
                };
                let folder = self.folder(folder)?;
                remove(parent, name)?;
                rustix::fs::linkat(&folder, to, parent, name, AtFlags::empty())?;
            }
            EntryType::Fifo => {
                remove(parent, name)?;
                rustix::fs::mknodat(parent, name, FileType::Fifo, mode, 0)?;
            }
            // Devices are the container's own, and headers are not files.
            _ => {}
        }
        Ok(())
    }

    fn own<R: Read>(&self, entry: &Entry<'_, R>, parent: &OwnedFd, name: &Path) -> io::Result<()> {
        if !self.is_root {
            return Ok(());
        }
        let (user, group) = (entry.header().uid()?, entry.header().gid()?);
        let id = |id: u64| u32::try_from(id).ok().filter(|id| *id != u32::MAX);
        let (Some(user), Some(group)) = (id(user), id(group)) else {
            return Err(refused("its owner is no user"));
        };
        let (user, group) = (Uid::from_raw(user), Gid::from_raw(group));
        let flags = AtFlags::SYMLINK_NOFOLLOW;
        Ok(rustix::fs::chownat(parent, name, Some(user), Some(group), flags)?)
    }

    /// Opens a folder below the root; what is missing of it is made.
    fn folder(&self, path: &Path) -> io::Result<OwnedFd> {
        match self.resolve(path) {
            Err(Errno::NOENT) => {}
            result => return Ok(result?),
        }
        let (parent, name) = (path.parent().unwrap_or(Path::new("")), path.file_name());
        let parent = self.folder(parent)?;
        let name = name.ok_or_else(|| refused("the root is gone"))?;
        rustix::fs::mkdirat(&parent, name, Mode::from_raw_mode(0o755))?;
        Ok(self.resolve(path)?)
    }

    fn resolve(&self, path: &Path) -> rustix::io::Result<OwnedFd> {
        let path = if path.as_os_str().is_empty() { Path::new(".") } else { path };
        let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC;
        let resolve = ResolveFlags::IN_ROOT | ResolveFlags::NO_MAGICLINKS;
        rustix::fs::openat2(&self.root, path, flags, Mode::empty(), resolve)
    }

    /// Removes what lower layers have in a folder.
    fn empty(&self, folder: &OwnedFd, path: &Path) -> io::Result<()> {
        for name in names(folder)? {
            if !self.made.contains(&path.join(&name)) {
                remove(folder, &name)?;
            }
        }
        Ok(())
    }

    fn finish(&self) -> io::Result<()> {
        for (path, time) in self.folders.iter().rev() {
            let Ok(folder) = self.resolve(path) else { continue };
            let flags = AtFlags::SYMLINK_NOFOLLOW;
            rustix::fs::utimensat(&folder, ".", &times(*time), flags)?;
        }
        Ok(())
    }
}

/// A path of a layer as one below the root.
fn below_root(path: &Path) -> io::Result<PathBuf> {
    let mut plain = PathBuf::new();
    for component in path.components() {
        match component {
            Component::Normal(name) => plain.push(name),
            Component::ParentDir => return Err(refused("it leads out of the image")),
            _ => {}
        }
    }
    Ok(plain)
}

fn refused(reason: &str) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, reason)
}

/// Removes a file, or a folder with everything in it, if it is there.
fn remove(parent: &OwnedFd, name: &Path) -> io::Result<()> {
    match rustix::fs::unlinkat(parent, name, AtFlags::empty()) {
        Ok(()) | Err(Errno::NOENT) => return Ok(()),
        Err(Errno::ISDIR) => {}
        Err(error) => return Err(error.into()),
    }
    let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    let folder = rustix::fs::openat(parent, name, flags, Mode::empty())?;
    for name in names(&folder)? {
        remove(&folder, &name)?;
    }
    Ok(rustix::fs::unlinkat(parent, name, AtFlags::REMOVEDIR)?)
}

fn names(folder: &OwnedFd) -> io::Result<Vec<PathBuf>> {
    let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC;
    let opened = rustix::fs::openat(folder, ".", flags, Mode::empty())?;
    let mut names = Vec::new();
    for entry in Dir::read_from(&opened)? {
        let name = entry?.file_name().to_owned();
        if name.as_bytes() != b"." && name.as_bytes() != b".." {
            names.push(PathBuf::from(std::ffi::OsStr::from_bytes(name.as_bytes())));
        }
    }
    Ok(names)
}

/// Copies a file; where it has zeros only, it gets a hole.
fn copy_without_zeros(from: &mut impl Read, to: &mut File) -> io::Result<()> {
    let mut block = vec![0; BLOCK];
    let mut length = 0;
    loop {
        let mut filled = 0;
        while filled < BLOCK {
            match from.read(&mut block[filled..])? {
                0 => break,
                read => filled += read,
            }
        }
        if filled == 0 {
            return to.set_len(length);
        }
        if block[..filled].iter().all(|byte| *byte == 0) {
            to.seek(SeekFrom::Current(filled as i64))?;
        } else {
            to.write_all(&block[..filled])?;
        }
        length += filled as u64;
    }
}

fn times(seconds: u64) -> Timestamps {
    let time = Timespec { tv_sec: seconds as i64, tv_nsec: 0 };
    Timestamps { last_access: time, last_modification: time }
}
