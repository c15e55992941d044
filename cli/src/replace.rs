//! Replaces files, each as a whole or not at all.

use std::collections::BTreeSet;
use std::fs::{self, File, Permissions};
use std::io::{self, Write};
use std::os::unix::fs::{MetadataExt, PermissionsExt, chown};
use std::path::{Path, PathBuf};

use rayon::prelude::*;
use rustix::fs::syncfs;
use tempfile::{NamedTempFile, TempPath};

/// What is said of a file that is no longer the one that was read.
pub(crate) const CHANGED: &str = "it has changed meanwhile";

/// From so many files on, the file system is written out once instead of each of them.
const MANY: usize = 16;
/// The bits of a mode that are for a file's group.
const OF_GROUP: u32 = 0o070;

/// A file that is to hold another text.
pub(crate) struct Replacement {
    pub(crate) path: PathBuf,
    /// What was read.
    pub(crate) before: String,
    pub(crate) after: String,
}

/// Writes a text in the place of another. The file keeps its permissions, its group and, as far as
/// this user may give files away, its owner.
///
/// # Errors
/// When the folder cannot be written to, or the file has changed; it is as it was then.
pub(crate) fn replace(file: Replacement) -> io::Result<()> {
    replace_all(&[&file]).pop().expect("one was given")
}

/// The same of many, side by side; gives what came of each.
pub(crate) fn replace_all(files: &[&Replacement]) -> Vec<io::Result<()>> {
    let are_many = files.len() >= MANY;
    let drafts = files.par_iter().map(|file| Draft::write(file, !are_many));
    let drafts: Vec<io::Result<Draft>> = drafts.collect();
    let are_safe = !are_many || write_out(drafts.iter().flatten()).is_ok();
    let placed = drafts.into_par_iter().zip(files).map(|(draft, file)| {
        let draft = draft?;
        if !are_safe {
            File::open(&draft.file)?.sync_all()?;
        }
        draft.place(&file.before)
    });
    placed.collect()
}

/// New content beside the file whose place it is to take.
struct Draft {
    /// Of that file.
    path: PathBuf,
    file: TempPath,
    /// The number of the file system that both are in.
    device: u64,
}

impl Draft {
    fn write(file: &Replacement, safely: bool) -> io::Result<Draft> {
        // What a link leads to is meant, not the link.
        let is_link = fs::symlink_metadata(&file.path)?.is_symlink();
        let path = if is_link { file.path.canonicalize()? } else { file.path.clone() };
        let made = NamedTempFile::new_in(path.parent().unwrap_or(Path::new(".")));
        // Of a name that nobody knows nothing is said.
        let told = |error: io::Error| {
            io::Error::new(error.kind(), format!("nothing can be made beside it: {}", error.kind()))
        };
        let mut draft = made.map_err(told)?;
        draft.write_all(file.after.as_bytes())?;
        if safely {
            draft.as_file().sync_all()?;
        }
        let device = draft.as_file().metadata()?.dev();
        // So many cannot all be open.
        Ok(Draft { path, file: draft.into_temp_path(), device })
    }

    fn place(self, before: &str) -> io::Result<()> {
        let meta = fs::metadata(&self.path)?;
        if fs::read(&self.path)? != before.as_bytes() {
            return Err(io::Error::other(CHANGED));
        }
        let (owner, group, mut mode) = (meta.uid(), meta.gid(), meta.mode());
        let all = chown(&self.file, Some(owner), Some(group));
        if all.or_else(|_| chown(&self.file, None, Some(group))).is_err() {
            // What its group might do is not another group's.
            mode &= !OF_GROUP;
        }
        fs::set_permissions(&self.file, Permissions::from_mode(mode))?;
        Ok(self.file.persist(&self.path)?)
    }
}

/// Waits until the drafts' file systems outlast a loss of power.
fn write_out<'a>(drafts: impl Iterator<Item = &'a Draft>) -> io::Result<()> {
    let mut known = BTreeSet::new();
    for draft in drafts {
        if known.insert(draft.device) {
            syncfs(File::open(&draft.file)?)?;
        }
    }
    Ok(())
}
