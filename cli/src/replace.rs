//! Replaces files, each as a whole or not at all.

use std::collections::BTreeSet;
use std::fs::{self, File, Metadata};
use std::io::{self, Write};
use std::os::unix::fs::{MetadataExt, fchown};
use std::path::{Path, PathBuf};

use rayon::prelude::*;
use rustix::fs::syncfs;
use tempfile::{NamedTempFile, TempPath};

/// From so many files on, the file system is written out once instead of each of them.
const MANY: usize = 16;

/// Writes `content` in the place of the file at `path`, which keeps its permissions.
///
/// # Errors
/// When the folder cannot be written to, or the file has changed meanwhile; it is as it was then.
pub(crate) fn replace(path: &Path, content: &str) -> io::Result<()> {
    replace_all(&[(path, content)]).pop().expect("one was given")
}

/// The same of many, side by side; gives what came of each.
pub(crate) fn replace_all<P: AsRef<Path> + Sync, C: AsRef<str> + Sync>(
    files: &[(P, C)],
) -> Vec<io::Result<()>> {
    let drafts =
        files.par_iter().map(|(path, content)| Draft::write(path.as_ref(), content.as_ref()));
    let drafts: Vec<io::Result<Draft>> = drafts.collect();
    let all_are_safe = drafts.len() >= MANY && write_out(drafts.iter().flatten()).is_ok();
    let placed = drafts.into_par_iter().map(|draft| {
        let draft = draft?;
        if !all_are_safe {
            File::open(&draft.file)?.sync_all()?;
        }
        draft.place()
    });
    placed.collect()
}

/// New content beside the file whose place it is to take.
struct Draft {
    path: PathBuf,
    file: TempPath,
    /// The file as it was.
    before: Metadata,
}

impl Draft {
    fn write(path: &Path, content: &str) -> io::Result<Draft> {
        // What a link leads to is meant, not the link.
        let path = path.canonicalize()?;
        let before = fs::metadata(&path)?;
        let made = NamedTempFile::new_in(path.parent().unwrap_or(Path::new(".")));
        // Of a name that nobody knows nothing is said.
        let told = |error: io::Error| {
            io::Error::new(error.kind(), format!("nothing can be made beside it: {}", error.kind()))
        };
        let mut file = made.map_err(told)?;
        file.write_all(content.as_bytes())?;
        // Root leaves a user's files to the user; others could not have opened another's.
        let _ = fchown(file.as_file(), Some(before.uid()), Some(before.gid()));
        file.as_file().set_permissions(before.permissions())?;
        // So many cannot all be open.
        Ok(Draft { path, file: file.into_temp_path(), before })
    }

    fn place(self) -> io::Result<()> {
        let now = fs::metadata(&self.path)?;
        let known = |meta: &Metadata| (meta.ino(), meta.len(), meta.mtime(), meta.mtime_nsec());
        if known(&now) != known(&self.before) {
            return Err(io::Error::other("it has changed meanwhile"));
        }
        Ok(self.file.persist(&self.path)?)
    }
}

/// Waits until what is in the drafts' file systems outlasts a loss of power.
fn write_out<'a>(drafts: impl Iterator<Item = &'a Draft>) -> io::Result<()> {
    let mut known = BTreeSet::new();
    for draft in drafts {
        if known.insert(draft.before.dev()) {
            syncfs(File::open(&draft.file)?)?;
        }
    }
    Ok(())
}
