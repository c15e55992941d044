//! The image `host`: the machine's own system folders, and a digest of what they hold.

use std::ffi::{CString, OsStr};
use std::fs;
use std::io;
use std::os::fd::OwnedFd;
use std::os::unix::ffi::OsStrExt;
use std::panic::resume_unwind;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex};

use rustix::fs::{AtFlags, Dir, FileType, Mode, OFlags};
use rustix::io::Errno;

/// The folders of the machine that `host` shows; links among them (`/bin`) are shown as links.
pub(crate) const SHOWN: [&str; 8] =
    ["/usr", "/bin", "/sbin", "/lib", "/lib32", "/lib64", "/libx32", "/etc"];

/// Folders that `host` has, empty and for the run alone.
pub(crate) const EMPTY: [&str; 11] =
    ["/dev", "/home", "/mnt", "/opt", "/proc", "/root", "/run", "/srv", "/sys", "/tmp", "/var/tmp"];

/// The search path in a container of the host image.
pub(crate) const PATH: &str = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin";

/// Databases of the usual package managers; what packages own changes only with these.
const PACKAGES: [&str; 5] = [
    "/var/lib/dpkg/status",
    "/var/lib/pacman/local/ALPM_DB_VERSION",
    "/var/lib/rpm/rpmdb.sqlite",
    "/usr/lib/sysimage/rpm/rpmdb.sqlite",
    "/lib/apk/db/installed",
];

/// The digest of what `host` shows: the package databases' and `os-release`'s content, and of
/// what packages do not own, the stat of everything under `/etc` and `/usr/local` and in the folders
/// of [`PATH`]. What is masked is left out.
///
/// # Errors
/// Never for what is missing; only when a folder that is there cannot be read.
pub(crate) fn digest() -> io::Result<String> {
    // Thousands of files, of which a second core looks at half.
    let (etc, programs) = std::thread::scope(|scope| {
        let etc = scope.spawn(settings);
        let programs = programs();
        (etc.join().unwrap_or_else(|panic| resume_unwind(panic)), programs)
    });
    let mut hasher = blake3::Hasher::new_derive_key("clnrm 2026-11 host image v3");
    for part in [etc?.0, programs?] {
        hasher.update(part.as_bytes());
    }
    Ok(hasher.finalize().to_hex().to_string())
}

/// The databases, and what is under `/etc`; with it, what of that is masked.
fn settings() -> io::Result<(blake3::Hash, Arc<[PathBuf]>)> {
    let mut hasher = blake3::Hasher::new();
    for file in PACKAGES.iter().chain(&["/etc/os-release"]) {
        let content = fs::read(file).unwrap_or_default();
        hasher.update(&(content.len() as u64).to_le_bytes());
        hasher.update(&content);
    }
    let mut masked = Vec::new();
    stat_below(&mut hasher, Path::new("/etc"), &mut masked)?;
    let masked: Arc<[PathBuf]> = masked.into();
    *MASKED.lock().expect("no holder panics") = Some(masked.clone());
    Ok((hasher.finalize(), masked))
}

/// What is under `/usr/local`, and where programs are.
fn programs() -> io::Result<blake3::Hash> {
    let mut hasher = blake3::Hasher::new();
    stat_below(&mut hasher, Path::new("/usr/local"), &mut Vec::new())?;
    for folder in PATH.split(':').map(Path::new) {
        if !folder.is_symlink()
            && folder.is_dir()
            && let Some((opened, entries)) = open(folder)?
        {
            stat_all(&mut hasher, folder, &opened, &entries);
        }
    }
    Ok(hasher.finalize())
}

/// What of the shown folders is masked, as it is for some users of the machine only: everything
/// under `/etc` that not everybody may read. As the last [`digest`] saw it.
pub(crate) fn masked() -> Arc<[PathBuf]> {
    let known = MASKED.lock().expect("no holder panics").clone();
    // What cannot be read now is masked by whoever cannot read it.
    known.unwrap_or_else(|| settings().map(|(_, masked)| masked).unwrap_or_default())
}

static MASKED: Mutex<Option<Arc<[PathBuf]>>> = Mutex::new(None);

/// The bit of a mode that lets everybody read.
const PUBLIC: u32 = 0o004;

/// Of a folder and everything below that everybody may read; what not is added to `hidden`.
fn stat_below(
    hasher: &mut blake3::Hasher,
    path: &Path,
    hidden: &mut Vec<PathBuf>,
) -> io::Result<()> {
    let Some((folder, entries)) = open(path)? else { return Ok(()) };
    let stats = stat_all(hasher, path, &folder, &entries);
    for ((name, kind), mode) in entries.iter().zip(stats) {
        let is_public = mode.is_some_and(|mode| mode & PUBLIC != 0);
        if is_public && *kind != FileType::Directory {
            continue;
        }
        let child = path.join(OsStr::from_bytes(name.to_bytes()));
        if is_public {
            stat_below(hasher, &child, hidden)?;
        } else {
            hidden.push(child);
        }
    }
    Ok(())
}

/// Adds the names and stats of what is in a folder; gives the modes.
fn stat_all(
    hasher: &mut blake3::Hasher,
    path: &Path,
    folder: &OwnedFd,
    entries: &Entries,
) -> Vec<Option<u32>> {
    let may_mask = path.starts_with("/etc");
    let mut bytes = path.as_os_str().as_bytes().to_vec();
    let stat = |(name, _): &(CString, FileType)| {
        let name = name.as_c_str();
        let stat = rustix::fs::statat(folder, name, AtFlags::SYMLINK_NOFOLLOW).ok()?;
        let is_folder = FileType::from_raw_mode(stat.st_mode) == FileType::Directory;
        let size = if is_folder { 0 } else { stat.st_size as u64 };
        bytes.extend((name.to_bytes().len() as u64).to_le_bytes());
        bytes.extend(name.to_bytes());
        bytes.extend(stat.st_mode.to_le_bytes());
        // Of what is masked nothing else can be seen; engines write there while they run.
        if stat.st_mode & PUBLIC != 0 || !may_mask {
            for number in [size, stat.st_mtime as u64, stat.st_mtime_nsec as u64] {
                bytes.extend(number.to_le_bytes());
            }
        }
        Some(stat.st_mode)
    };
    let modes = entries.iter().map(stat).collect();
    hasher.update(&(bytes.len() as u64).to_le_bytes());
    hasher.update(&bytes);
    modes
}

/// What is in a folder: names and kinds, sorted by name.
type Entries = Vec<(CString, FileType)>;

/// A folder and what is in it; `None` when this user may not read it, as then a run of
/// this user cannot either.
fn open(path: &Path) -> io::Result<Option<(OwnedFd, Entries)>> {
    let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC;
    let folder = match rustix::fs::open(path, flags, Mode::empty()) {
        Ok(folder) => folder,
        Err(Errno::ACCESS | Errno::NOENT) => return Ok(None),
        Err(error) => return Err(error.into()),
    };
    let mut entries = Vec::new();
    for entry in Dir::read_from(&folder)? {
        let entry = entry?;
        let name = entry.file_name();
        if name != c"." && name != c".." {
            entries.push((name.to_owned(), entry.file_type()));
        }
    }
    entries.sort_by(|(a, _), (b, _)| a.cmp(b));
    Ok(Some((folder, entries)))
}

#[cfg(test)]
mod tests {
    #[test]
    fn the_digest_is_stable() {
        assert_eq!(super::digest().unwrap(), super::digest().unwrap());
    }
}
