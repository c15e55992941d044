//! Replaces a file as a whole or not at all.

use std::io::Write;
use std::path::Path;

/// Writes `content` in the place of the file at `path`, which keeps its permissions.
///
/// # Errors
/// When the folder cannot be written to; the file is as it was then.
pub(crate) fn replace(path: &Path, content: &[u8]) -> std::io::Result<()> {
    // What a link leads to is meant, not the link.
    let path = path.canonicalize()?;
    let folder = path.parent().unwrap_or(Path::new("."));
    let mut file = tempfile::NamedTempFile::new_in(folder)?;
    file.write_all(content)?;
    file.as_file().set_permissions(std::fs::metadata(&path)?.permissions())?;
    file.as_file().sync_all()?;
    file.persist(path)?;
    Ok(())
}
