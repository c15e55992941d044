//! The image `host`: the machine's own system folders, and a digest of what they hold.

use std::fs;
use std::io;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

/// The folders of the machine that `host` shows; links among them (`/bin`) are shown as links.
pub(crate) const SHOWN: [&str; 8] =
    ["/usr", "/bin", "/sbin", "/lib", "/lib32", "/lib64", "/libx32", "/etc"];

/// What of the shown folders is masked: secrets of this machine.
pub(crate) const MASKED: [&str; 10] = [
    "/etc/shadow",
    "/etc/shadow-",
    "/etc/gshadow",
    "/etc/gshadow-",
    "/etc/sudoers",
    "/etc/sudoers.d",
    "/etc/security/opasswd",
    "/etc/ssl/private",
    "/etc/ssh",
    "/etc/krb5.keytab",
];

/// Folders that `host` has, empty and for the run alone.
pub(crate) const EMPTY: [&str; 11] =
    ["/dev", "/home", "/mnt", "/opt", "/proc", "/root", "/run", "/srv", "/sys", "/tmp", "/var/tmp"];

/// The search path in a container of the host image.
pub(crate) const PATH: &str = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin";

/// Databases of the usual package managers; what packages own changes only with these.
const PACKAGES: [&str; 4] = [
    "/var/lib/dpkg/status",
    "/var/lib/rpm/rpmdb.sqlite",
    "/usr/lib/sysimage/rpm/rpmdb.sqlite",
    "/lib/apk/db/installed",
];

/// The digest of what `host` shows: the package databases' and `os-release`'s content, and of
/// what packages do not own the stat of every folder under `/etc` and `/usr/local` and of every
/// file in the folders of [`PATH`].
///
/// # Errors
/// Never for what is missing; only when a folder that is there cannot be read.
pub(crate) fn digest() -> io::Result<String> {
    let mut hasher = blake3::Hasher::new_derive_key("clnrm 2026-11 host image v1");
    for file in PACKAGES.iter().chain(&["/etc/os-release"]) {
        let content = fs::read(file).unwrap_or_default();
        hasher.update(&(content.len() as u64).to_le_bytes());
        hasher.update(&content);
    }
    for root in ["/etc", "/usr/local"] {
        stat_folders(&mut hasher, Path::new(root))?;
    }
    for folder in PATH.split(':').map(Path::new) {
        if !folder.is_symlink() && folder.is_dir() {
            stat_all(&mut hasher, folder)?;
        }
    }
    Ok(hasher.finalize().to_hex().to_string())
}

/// Of a folder and every folder below.
fn stat_folders(hasher: &mut blake3::Hasher, folder: &Path) -> io::Result<()> {
    stat(hasher, folder);
    for child in sorted(folder)? {
        if !child.is_symlink() && child.is_dir() && !is_masked(&child) {
            stat_folders(hasher, &child)?;
        }
    }
    Ok(())
}

fn stat_all(hasher: &mut blake3::Hasher, folder: &Path) -> io::Result<()> {
    for child in sorted(folder)? {
        stat(hasher, &child);
    }
    Ok(())
}

fn stat(hasher: &mut blake3::Hasher, path: &Path) {
    let Ok(meta) = fs::symlink_metadata(path) else { return };
    let name = path.as_os_str().as_encoded_bytes();
    hasher.update(&(name.len() as u64).to_le_bytes());
    hasher.update(name);
    let folder = meta.is_dir();
    let size = if folder { 0 } else { meta.size() };
    for number in [u64::from(meta.mode()), size, meta.mtime() as u64, meta.mtime_nsec() as u64] {
        hasher.update(&number.to_le_bytes());
    }
}

fn sorted(folder: &Path) -> io::Result<Vec<PathBuf>> {
    let entries = match fs::read_dir(folder) {
        Ok(entries) => entries,
        // What this user may not read, a run of this user cannot read either.
        Err(error) if error.kind() == io::ErrorKind::PermissionDenied => return Ok(Vec::new()),
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
        Err(error) => return Err(error),
    };
    let mut paths = entries.map(|entry| Ok(entry?.path())).collect::<io::Result<Vec<_>>>()?;
    paths.sort();
    Ok(paths)
}

fn is_masked(path: &Path) -> bool {
    MASKED.iter().any(|masked| path == Path::new(masked))
}

#[cfg(test)]
mod tests {
    #[test]
    fn the_digest_is_stable() {
        assert_eq!(super::digest().unwrap(), super::digest().unwrap());
    }
}
