//! The store: traces, values and effects in one redb file.
//!
//! Trouble with it never fails anything: what cannot be read is not there, what cannot be written
//! is lost, and both are told in one line.

mod file;

use std::collections::BTreeMap;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, Ordering};

use redb::{
    ReadOnlyDatabase, ReadOnlyTable, ReadableDatabase, ReadableTable, ReadableTableMetadata,
    TableDefinition,
};
use serde::Serialize;
use serde::de::DeserializeOwned;

use crate::digest::Digest;
use crate::key::{Node, Unit};
use crate::trace::{RootTrace, Trace};
use crate::world::StatIndex;

type Rows = TableDefinition<'static, &'static [u8], &'static [u8]>;
type Table = ReadOnlyTable<&'static [u8], &'static [u8]>;

const TABLE_NAMES: [&str; 5] = ["stat", "roots", "nodes", "values", "effects"];
const TABLES: [Rows; 5] = [STAT, ROOTS, NODES, VALUES, EFFECTS];
const STAT: Rows = TableDefinition::new(TABLE_NAMES[0]);
const ROOTS: Rows = TableDefinition::new(TABLE_NAMES[1]);
const NODES: Rows = TableDefinition::new(TABLE_NAMES[2]);
const VALUES: Rows = TableDefinition::new(TABLE_NAMES[3]);
const EFFECTS: Rows = TableDefinition::new(TABLE_NAMES[4]);

/// The one row of the stat table.
const INDEX: &[u8] = b"index";

/// Where a store is; it is open only while it is read or written.
pub(crate) struct Store {
    path: Option<PathBuf>,
    broken: Arc<AtomicBool>,
    trouble: Mutex<Vec<String>>,
}

/// What is to be written, in one transaction.
#[derive(Default)]
pub(crate) struct Batch {
    pub(crate) nodes: BTreeMap<Node, Trace>,
    pub(crate) roots: BTreeMap<Node, RootTrace>,
    pub(crate) effects: BTreeMap<Digest, Option<Arc<[u8]>>>,
    pub(crate) index: Option<StatIndex>,
}

impl Batch {
    pub(crate) fn is_empty(&self) -> bool {
        self.nodes.is_empty()
            && self.roots.is_empty()
            && self.effects.is_empty()
            && self.index.is_none()
    }
}

/// How much a store holds.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct StoreStats {
    /// Bytes of the file.
    pub bytes: u64,
    /// Roots with a deep trace.
    pub roots: u64,
    /// Nodes with a verifying trace.
    pub nodes: u64,
    /// Values kept.
    pub values: u64,
    /// Outcomes of effects.
    pub effects: u64,
}

impl Store {
    /// At this path, or nowhere.
    pub(crate) fn new(path: Option<PathBuf>) -> Store {
        Store { path, broken: Arc::default(), trouble: Mutex::default() }
    }

    /// What went wrong since this was last asked, a line each.
    pub(crate) fn take_trouble(&self) -> Vec<String> {
        std::mem::take(&mut self.trouble.lock().expect("no holder panics"))
    }

    fn tell(&self, trouble: String) {
        let mut told = self.trouble.lock().expect("no holder panics");
        if !told.contains(&trouble) {
            told.push(trouble);
        }
    }

    /// Opens the store for reading; `None` when there is none that can be read.
    pub(crate) fn open(&self) -> Option<Snapshot> {
        let path = self.path.as_ref()?;
        self.quarantine_if_broken(path);
        let opened = catch_unwind(AssertUnwindSafe(|| {
            let database = file::read(path)?;
            Ok(database.and_then(|database| Snapshot::new(database, self.broken.clone())))
        }));
        match opened {
            Ok(Ok(snapshot)) => snapshot,
            Ok(Err(file::Trouble::Unusable(reason))) => {
                self.set_aside(path, &reason);
                None
            }
            Ok(Err(file::Trouble::Passing(reason))) => {
                self.tell(format!("nothing is remembered from earlier runs: {reason}"));
                None
            }
            Err(_) => {
                self.set_aside(path, "reading it failed");
                None
            }
        }
    }

    /// Writes a batch. What cannot be written is told and lost.
    pub(crate) fn commit(&self, batch: &Batch) {
        let Some(path) = self.path.as_ref().filter(|_| !batch.is_empty()) else { return };
        self.quarantine_if_broken(path);
        let written = catch_unwind(AssertUnwindSafe(|| {
            file::write(path, |transaction| write(transaction, batch))
        }));
        match written {
            Ok(Ok(())) => {}
            Ok(Err(file::Trouble::Unusable(reason))) => self.set_aside(path, &reason),
            Ok(Err(file::Trouble::Passing(reason))) => {
                self.tell(format!("this run will not be remembered: {reason}"));
            }
            Err(_) => self.set_aside(path, "writing to it failed"),
        }
    }

    fn quarantine_if_broken(&self, path: &Path) {
        if self.broken.swap(false, Ordering::Relaxed) {
            self.set_aside(path, "it is damaged");
        }
    }

    fn set_aside(&self, path: &Path, reason: &str) {
        let bad = path.with_extension("redb.bad");
        let told = match std::fs::rename(path, &bad) {
            Ok(()) => format!("it is now {}, and everything starts cold", bad.display()),
            Err(error) => format!("it cannot be set aside either: {error}"),
        };
        self.tell(format!("{} could not be used ({reason}); {told}", path.display()));
    }

    /// Removes the store.
    ///
    /// # Errors
    /// As the operating system has them.
    pub(crate) fn clear(&self) -> std::io::Result<()> {
        let Some(path) = &self.path else { return Ok(()) };
        for file in [path.clone(), file::stamp_path(path)] {
            match std::fs::remove_file(file) {
                Err(error) if error.kind() != std::io::ErrorKind::NotFound => return Err(error),
                _ => {}
            }
        }
        Ok(())
    }

    pub(crate) fn stats(&self) -> StoreStats {
        let Some(snapshot) = self.open() else { return StoreStats::default() };
        let size = self.path.as_ref().and_then(|path| std::fs::metadata(path).ok());
        StoreStats { bytes: size.map_or(0, |meta| meta.len()), ..snapshot.stats() }
    }
}

fn write(transaction: &redb::WriteTransaction, batch: &Batch) -> Result<(), redb::Error> {
    // Every table exists in every store, so that reading never has to ask.
    for definition in TABLES {
        transaction.open_table(definition)?;
    }
    // Maps are sorted, and sorted rows are written six times faster than scattered ones.
    let mut nodes = transaction.open_table(NODES)?;
    for (node, trace) in &batch.nodes {
        let key = node_key(node);
        nodes.insert(&*key, &*seal(&key, trace))?;
    }
    let mut roots = transaction.open_table(ROOTS)?;
    for (node, trace) in &batch.roots {
        let key = node_key(node);
        roots.insert(&*key, &*seal(&key, trace))?;
    }
    let mut effects = transaction.open_table(EFFECTS)?;
    let mut values = BTreeMap::new();
    for (key, value) in &batch.effects {
        match value {
            Some(value) => {
                let digest = Digest::of("value", value);
                effects.insert(&key.0[..], &*seal(&key.0, &digest))?;
                values.insert(digest, value);
            }
            None => drop(effects.remove(&key.0[..])?),
        }
    }
    let mut table = transaction.open_table(VALUES)?;
    for (digest, value) in values {
        table.insert(&digest.0[..], &**value)?;
    }
    if let Some(index) = &batch.index {
        transaction.open_table(STAT)?.insert(INDEX, &*seal(INDEX, index))?;
    }
    Ok(())
}

/// The store as it was when it was opened.
pub(crate) struct Snapshot {
    tables: BTreeMap<&'static str, Table>,
    broken: Arc<AtomicBool>,
    // Last, so that the tables are closed before it.
    _database: ReadOnlyDatabase,
}

impl Snapshot {
    fn new(database: ReadOnlyDatabase, broken: Arc<AtomicBool>) -> Option<Snapshot> {
        let transaction = database.begin_read().ok()?;
        let mut tables = BTreeMap::new();
        for (name, definition) in TABLE_NAMES.into_iter().zip(TABLES) {
            tables.insert(name, transaction.open_table(definition).ok()?);
        }
        Some(Snapshot { tables, broken, _database: database })
    }

    pub(crate) fn trace(&self, node: &Node) -> Option<Trace> {
        self.row("nodes", &node_key(node))
    }

    pub(crate) fn root(&self, node: &Node) -> Option<RootTrace> {
        self.row("roots", &node_key(node))
    }

    pub(crate) fn effect(&self, key: &Digest) -> Option<Digest> {
        self.row("effects", &key.0)
    }

    pub(crate) fn index(&self) -> Option<StatIndex> {
        self.row("stat", INDEX)
    }

    /// A value whose bytes still have its digest.
    pub(crate) fn value(&self, digest: &Digest) -> Option<Arc<[u8]>> {
        let bytes: Arc<[u8]> = self.bytes("values", &digest.0)?.into();
        if Digest::of("value", &bytes) != *digest {
            self.broken.store(true, Ordering::Relaxed);
            return None;
        }
        Some(bytes)
    }

    /// Every node with its trace, sorted.
    pub(crate) fn nodes(&self) -> Vec<(Node, Trace)> {
        let all = self.guarded(|| {
            let mut all = Vec::new();
            for row in self.tables["nodes"].iter()? {
                let (key, value) = row?;
                all.push((key.value().to_vec(), value.value().to_vec()));
            }
            Ok(all)
        });
        let opened = all
            .unwrap_or_default()
            .into_iter()
            .filter_map(|(key, value)| Some((node_of(&key)?, self.unseal(&key, &value)?)));
        opened.collect()
    }

    fn stats(&self) -> StoreStats {
        let count = |table: &str| self.guarded(|| Ok(self.tables[table].len()?)).unwrap_or(0);
        StoreStats {
            bytes: 0,
            roots: count("roots"),
            nodes: count("nodes"),
            values: count("values"),
            effects: count("effects"),
        }
    }

    fn row<T: DeserializeOwned>(&self, table: &str, key: &[u8]) -> Option<T> {
        let bytes = self.bytes(table, key)?;
        self.unseal(key, &bytes)
    }

    fn bytes(&self, table: &str, key: &[u8]) -> Option<Vec<u8>> {
        self.guarded(|| Ok(self.tables[table].get(key)?.map(|row| row.value().to_vec()))).flatten()
    }

    /// A row's content, if its checksum holds.
    fn unseal<T: DeserializeOwned>(&self, key: &[u8], sealed: &[u8]) -> Option<T> {
        let opened = sealed
            .split_last_chunk()
            .filter(|(content, sum)| checksum(key, content) == **sum)
            .and_then(|(content, _)| postcard::from_bytes(content).ok());
        if opened.is_none() {
            self.broken.store(true, Ordering::Relaxed);
        }
        opened
    }

    /// Reads; a damaged page is an absence, and the store is set aside before it is next opened.
    fn guarded<T>(&self, read: impl FnOnce() -> Result<T, redb::Error>) -> Option<T> {
        if self.broken.load(Ordering::Relaxed) {
            return None;
        }
        match catch_unwind(AssertUnwindSafe(read)) {
            Ok(Ok(value)) => Some(value),
            Ok(Err(_)) | Err(_) => {
                self.broken.store(true, Ordering::Relaxed);
                None
            }
        }
    }
}

/// A row: its content, and a checksum of key and content.
fn seal(key: &[u8], content: &impl Serialize) -> Vec<u8> {
    let mut bytes = postcard::to_stdvec(content).expect("rows are plain data");
    let sum = checksum(key, &bytes);
    bytes.extend(sum);
    bytes
}

fn checksum(key: &[u8], content: &[u8]) -> [u8; 4] {
    let digest = Digest::of_parts("row", &[key, content]);
    *digest.0.first_chunk().expect("a digest is longer")
}

/// Paths hold no zero bytes, so the parts cannot run into each other.
fn node_key(node: &Node) -> Vec<u8> {
    [&*node.unit.path, &*node.unit.part, &*node.query].join("\0").into_bytes()
}

fn node_of(key: &[u8]) -> Option<Node> {
    let mut parts = std::str::from_utf8(key).ok()?.splitn(3, '\0');
    let unit = Unit { path: parts.next()?.into(), part: parts.next()?.into() };
    Some(Node { unit, query: parts.next()?.into() })
}
