//! The store's file: made so that a half-made one is never found, and checked before it is
//! trusted.

use std::fs::{self, File};
use std::io::{self, Write};
use std::os::unix::fs::{DirBuilderExt, MetadataExt, PermissionsExt};
use std::path::{Path, PathBuf};
use std::thread::sleep;
use std::time::{Duration, Instant};

use redb::{Builder, Database, DatabaseError, ReadOnlyDatabase, StorageError, WriteTransaction};
use tempfile::NamedTempFile;

/// How long to wait for another process to let go of the store.
const PATIENCE: Duration = Duration::from_secs(3);
/// Names of files that are being made begin so.
const MAKING: &str = ".store-";
/// No file is being made for so long.
const ABANDONED: Duration = Duration::from_secs(600);
/// Memory for pages that are written.
const WRITE_CACHE: usize = 16 << 20;
/// Memory for pages that are read: once, most of them, and new memory costs more than they do.
const READ_CACHE: usize = 16 << 10;

/// Why a store could not be used.
pub(super) enum Trouble {
    /// Not now, or not by this user; the file may be fine.
    Passing(String),
    /// The file is no store, or a damaged one.
    Unusable(String),
}

/// Opens the store for reading; `None` when there is none yet.
pub(super) fn read(path: &Path) -> Result<Option<ReadOnlyDatabase>, Trouble> {
    if !is_there(path)? {
        return Ok(None);
    }
    if !is_as_left(path) {
        // Copied here, or left open by a process that was killed, or damaged: every page is
        // checked, and repaired where that is possible.
        let mut checking = builder();
        checking.set_cache_size(READ_CACHE).set_check_integrity_on_open(true);
        match patiently(|| open(&checking, path)) {
            Ok(checked) => leave(checked, path)?,
            Err(error) => return Err(trouble(path, error)),
        }
    }
    match patiently(|| builder().set_cache_size(READ_CACHE).open_read_only(path)) {
        Ok(database) => Ok(Some(database)),
        Err(error) => Err(trouble(path, error)),
    }
}

/// Runs `write` in one transaction, making the store first if there is none.
pub(super) fn write(
    path: &Path,
    write: impl Fn(&WriteTransaction) -> Result<(), redb::Error>,
) -> Result<(), Trouble> {
    if is_there(path)? {
        let check = !is_as_left(path);
        let opened = patiently(|| open(builder().set_check_integrity_on_open(check), path));
        let database = opened.map_err(|error| trouble(path, error))?;
        commit(&database, write)?;
        return leave(database, path);
    }
    let folder = path.parent().unwrap_or(Path::new("."));
    make_folder(folder).map_err(|error| {
        Trouble::Passing(format!("{} cannot be made: {error}", folder.display()))
    })?;
    remove_abandoned(folder);
    // Made under another name: redb cannot open a file whose creation was interrupted.
    let failed = |error: io::Error| Trouble::Passing(format!("{}: {error}", path.display()));
    let made = make_file(folder).map_err(failed)?;
    let database = builder().create(made.path()).map_err(|error| trouble(made.path(), error))?;
    commit(&database, write)?;
    database.close().map_err(|error| trouble(path, error))?;
    made.as_file().sync_all().map_err(failed)?;
    match made.persist_noclobber(path) {
        Ok(_) => {
            File::open(folder).and_then(|folder| folder.sync_all()).map_err(failed)?;
            stamp(path);
            Ok(())
        }
        // Somebody else has made one meanwhile; this batch is lost, which costs time only.
        Err(error) if error.error.kind() == io::ErrorKind::AlreadyExists => Ok(()),
        Err(error) => Err(failed(error.error)),
    }
}

/// A file that is to be given its name once it is whole. If that never happens, somebody else
/// removes it in time.
pub(crate) fn make_file(folder: &Path) -> io::Result<NamedTempFile> {
    tempfile::Builder::new()
        .prefix(MAKING)
        .permissions(fs::Permissions::from_mode(0o600))
        .tempfile_in(folder)
}

/// Removes files that processes were making when they were killed, long ago.
fn remove_abandoned(folder: &Path) {
    let old = |entry: &fs::DirEntry| {
        let made_here = entry.file_name().to_string_lossy().starts_with(MAKING);
        let age = entry.metadata().and_then(|meta| meta.modified()).ok().map(|time| time.elapsed());
        made_here && age.is_some_and(|age| age.is_ok_and(|age| age > ABANDONED))
    };
    // What cannot be removed now is removed by somebody else, or is no great loss.
    for entry in fs::read_dir(folder).into_iter().flatten().flatten().filter(old) {
        let _ = fs::remove_file(entry.path());
    }
}

/// Gives back to the file system what is free in a store.
pub(super) fn compact(path: &Path) -> Result<(), Trouble> {
    let opened = patiently(|| open(&builder(), path));
    let mut database = opened.map_err(|error| trouble(path, error))?;
    database.compact().map_err(|error| Trouble::Passing(error.to_string()))?;
    leave(database, path)
}

/// Lets every page be checked at the next opening.
pub(super) fn forget_stamp(path: &Path) {
    // Where it cannot be removed, nothing could be trusted anyway.
    let _ = fs::remove_file(stamp_path(path));
}

/// Whether there is a file; anything else there is somebody else's.
fn is_there(path: &Path) -> Result<bool, Trouble> {
    match fs::metadata(path) {
        Ok(meta) if meta.is_file() => Ok(true),
        Ok(_) => Err(Trouble::Passing(format!("{} is not a file", path.display()))),
        Err(_) => Ok(false),
    }
}

/// Where it is written how the store was left.
pub(super) fn stamp_path(path: &Path) -> PathBuf {
    path.with_extension("stamp")
}

fn builder() -> Builder {
    let mut builder = Builder::new();
    builder.set_cache_size(WRITE_CACHE);
    builder
}

fn open(builder: &Builder, path: &Path) -> Result<Database, DatabaseError> {
    #[cfg(test)]
    if let Some(file) = super::torn::file() {
        return builder.create_with_backend(file);
    }
    builder.open(path)
}

fn commit(
    database: &Database,
    write: impl Fn(&WriteTransaction) -> Result<(), redb::Error>,
) -> Result<(), Trouble> {
    let committed = || -> Result<(), redb::Error> {
        let transaction = database.begin_write()?;
        write(&transaction)?;
        transaction.commit()?;
        Ok(())
    };
    committed().map_err(|error| match error {
        redb::Error::Corrupted(reason) => Trouble::Unusable(reason),
        error => Trouble::Passing(error.to_string()),
    })
}

/// Closes the store and remembers how it was left.
fn leave(database: Database, path: &Path) -> Result<(), Trouble> {
    database.close().map_err(|error| trouble(path, error))?;
    stamp(path);
    Ok(())
}

pub(super) fn stamp(path: &Path) {
    let write = || -> io::Result<()> {
        let text = describe(path)?;
        let stamp = stamp_path(path);
        let folder = stamp.parent().unwrap_or(Path::new("."));
        let mut made = make_file(folder)?;
        made.write_all(text.as_bytes())?;
        made.persist(stamp)?;
        Ok(())
    };
    // Without a stamp the store is checked at the next opening, no more.
    let _ = write();
}

/// Whether the store is exactly as a process of ours left it.
fn is_as_left(path: &Path) -> bool {
    let stamp = fs::read_to_string(stamp_path(path));
    stamp.is_ok_and(|stamp| describe(path).is_ok_and(|now| now == stamp))
}

fn describe(path: &Path) -> io::Result<String> {
    let meta = fs::metadata(path)?;
    Ok(format!(
        "{} {}.{:09} {}.{:09} {}\n",
        meta.size(),
        meta.mtime(),
        meta.mtime_nsec(),
        meta.ctime(),
        meta.ctime_nsec(),
        meta.ino()
    ))
}

/// Makes the folder of a store, private to its user and out of git's sight.
pub(crate) fn make_folder(folder: &Path) -> io::Result<()> {
    if folder.is_dir() {
        return Ok(());
    }
    fs::DirBuilder::new().recursive(true).mode(0o700).create(folder)?;
    fs::write(folder.join(".gitignore"), "*\n")
}

/// Opens, waiting a while for another process to close.
fn patiently<T>(open: impl Fn() -> Result<T, DatabaseError>) -> Result<T, DatabaseError> {
    let (began, mut pause) = (Instant::now(), Duration::from_millis(1));
    loop {
        match open() {
            Err(DatabaseError::DatabaseAlreadyOpen) if began.elapsed() < PATIENCE => {
                sleep(pause);
                pause = (pause * 2).min(Duration::from_millis(50));
            }
            opened => return opened,
        }
    }
}

fn trouble(path: &Path, error: DatabaseError) -> Trouble {
    let path = path.display();
    match error {
        DatabaseError::DatabaseAlreadyOpen => {
            Trouble::Passing(format!("{path} is in use by another process"))
        }
        DatabaseError::RepairAborted => {
            Trouble::Passing(format!("{path} was left open by a process that was killed"))
        }
        // What the file holds is wrong; any other failure is of the machine, and may pass.
        DatabaseError::Storage(StorageError::Io(error))
            if !matches!(
                error.kind(),
                io::ErrorKind::InvalidData | io::ErrorKind::UnexpectedEof
            ) =>
        {
            Trouble::Passing(format!("{path}: {error}"))
        }
        error => Trouble::Unusable(error.to_string()),
    }
}
