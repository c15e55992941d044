//! Files by their names: in a folder, or in an archive, which is read where it lies.

use std::collections::HashMap;
use std::fs::File;
use std::io::{Read, Seek, SeekFrom};
use std::path::{Component, Path, PathBuf};

use tar::EntryType;

use super::unpack::{GZIP, ZSTD};

/// The most a file may have that is read as a whole, in bytes.
const MOST: u64 = 8 << 20;

/// A folder or archive with the files of an image.
pub(super) struct Place {
    path: PathBuf,
    /// Where in the archive each file begins, and its length; `None` for a folder.
    archive: Option<HashMap<PathBuf, (u64, u64)>>,
}

impl Place {
    pub(super) fn open(path: &Path) -> Result<Place, String> {
        let archive = if path.is_dir() { None } else { Some(index(path)?) };
        Ok(Place { path: path.to_owned(), archive })
    }

    pub(super) fn has(&self, name: &str) -> bool {
        match &self.archive {
            Some(files) => files.contains_key(Path::new(name)),
            None => self.path.join(name).is_file(),
        }
    }

    pub(super) fn file(&self, name: &str) -> Result<Box<dyn Read>, String> {
        let told = |error: std::io::Error| format!("cannot read {name}: {error}");
        let Some(files) = &self.archive else {
            return Ok(Box::new(File::open(self.path.join(name)).map_err(told)?));
        };
        let missing = || format!("the archive has no {name}");
        let (start, length) = files.get(Path::new(name)).ok_or_else(missing)?;
        let mut file = File::open(&self.path).map_err(told)?;
        file.seek(SeekFrom::Start(*start)).map_err(told)?;
        Ok(Box::new(file.take(*length)))
    }

    /// A whole file, which must not be large.
    pub(super) fn read(&self, name: &str) -> Result<Vec<u8>, String> {
        let mut content = Vec::new();
        let read = self.file(name)?.take(MOST + 1).read_to_end(&mut content);
        read.map_err(|error| format!("cannot read {name}: {error}"))?;
        if content.len() as u64 > MOST {
            return Err(format!("{name} is larger than {MOST} bytes"));
        }
        Ok(content)
    }
}

/// Where every file of an archive is.
fn index(path: &Path) -> Result<HashMap<PathBuf, (u64, u64)>, String> {
    let mut file = File::open(path).map_err(|error| error.to_string())?;
    let mut magic = [0; 4];
    if file.read(&mut magic).is_ok_and(|read| read == 4)
        && (magic.starts_with(&GZIP) || magic == ZSTD)
    {
        return Err("the archive is compressed as a whole: decompress it first".to_owned());
    }
    let told = |error: std::io::Error| format!("it is no archive: {error}");
    file.rewind().map_err(told)?;
    let mut archive = tar::Archive::new(file);
    let (mut files, mut links) = (HashMap::new(), Vec::new());
    for entry in archive.entries_with_seek().map_err(told)? {
        let entry = entry.map_err(told)?;
        let name = plain(&entry.path().map_err(told)?);
        match entry.header().entry_type() {
            EntryType::Regular | EntryType::Continuous => {
                files.insert(name, (entry.raw_file_position(), entry.size()));
            }
            // Docker writes a layer that two images share once.
            EntryType::Symlink | EntryType::Link => {
                let to = entry.link_name().map_err(told)?.unwrap_or_default();
                let beside = entry.header().entry_type() == EntryType::Symlink;
                let from = name.parent().filter(|_| beside).unwrap_or(Path::new(""));
                links.push((plain(&from.join(to)), name));
            }
            _ => {}
        }
    }
    for (to, name) in links {
        if let Some(place) = files.get(&to).copied() {
            files.insert(name, place);
        }
    }
    Ok(files)
}

/// A path without `.` and `..`, below the root of the archive.
fn plain(path: &Path) -> PathBuf {
    let mut plain = PathBuf::new();
    for component in path.components() {
        match component {
            Component::Normal(name) => plain.push(name),
            Component::ParentDir => drop(plain.pop()),
            _ => {}
        }
    }
    plain
}
