//! The store: traces, values and effects in one redb file.
//!
//! Trouble with it never fails anything: what cannot be read is not there, what cannot be written
//! is lost, and both are told in one line.

mod caught;
mod collect;
mod file;
mod rows;
#[cfg(test)]
pub(crate) mod torn;
mod value;
mod write;

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, Ordering};

use redb::{
    ReadOnlyDatabase, ReadOnlyTable, ReadableDatabase, ReadableTable, ReadableTableMetadata,
    TableDefinition,
};
use serde::{Deserialize, Serialize};
use xxhash_rust::xxh3::{xxh3_64, xxh3_64_with_seed};

use self::caught::caught;
pub use self::caught::hush_caught_panics;
pub(crate) use self::file::{make_file, make_folder};
use self::rows::decode_unit;
pub(crate) use self::rows::{QueryNames, RootsRow, UnitTraces};
use crate::digest::Digest;
use crate::fault::{self, Fault};
use crate::key::{Key, Leaf, Node, Unit};
use crate::run::Run;
use crate::signature::{self, Keys, Signatures, Trust};
use crate::trace::RootTrace;
use crate::world::{FolderIndex, join, split};

type Rows = TableDefinition<'static, &'static [u8], &'static [u8]>;
type Table = ReadOnlyTable<&'static [u8], &'static [u8]>;

/// By folder, what is known of the stats of its files. Of this machine alone.
const STAT: Rows = TableDefinition::new("stat");
/// By query and folder, the roots.
const ROOTS: Rows = TableDefinition::new("roots");
/// By unit, the traces of its nodes.
const UNITS: Rows = TableDefinition::new("units");
/// By key, an [`EffectRow`].
const EFFECTS: Rows = TableDefinition::new("effects");
/// By digest, the values of effects, [packed](value::pack).
const VALUES: Rows = TableDefinition::new("values");
/// By the time at which they ended, the last runs.
const RUNS: Rows = TableDefinition::new("runs");

const TABLES: [Rows; 6] = [STAT, ROOTS, UNITS, EFFECTS, VALUES, RUNS];

/// Where a store is; it is open only while it is read or written.
pub(crate) struct Store {
    path: Option<PathBuf>,
    keys: Keys,
    queries: QueryNames,
    broken: Arc<AtomicBool>,
    trouble: Mutex<Vec<String>>,
}

/// What is to be written, in one transaction.
#[derive(Default)]
pub(crate) struct Batch {
    pub(crate) units: BTreeMap<Unit, UnitTraces>,
    pub(crate) roots: BTreeMap<Node, RootTrace>,
    /// By key, the value; `None` where a stored one is to go.
    pub(crate) effects: BTreeMap<Digest, Option<Signed>>,
    /// By folder, its encoded index.
    pub(crate) index: BTreeMap<Arc<str>, Vec<u8>>,
    /// Keys of effects that were used.
    pub(crate) used: BTreeSet<Digest>,
    pub(crate) run: Option<Run>,
    /// Today, in days since the epoch.
    pub(crate) day: u32,
}

/// What came of an effect, and who says so.
pub(crate) struct Signed {
    pub(crate) value: Arc<[u8]>,
    pub(crate) by: Signatures,
}

/// What is stored of an effect besides its value.
#[derive(Clone, Copy, Serialize, Deserialize)]
pub(crate) struct EffectRow {
    /// The digest of its value.
    pub(crate) value: Digest,
    /// The day on which it was last used.
    day: u32,
    pub(crate) by: Signatures,
}

impl Batch {
    fn is_empty(&self) -> bool {
        self.is_index_alone() && self.index.is_empty()
    }

    fn is_index_alone(&self) -> bool {
        // That something was used again is worth no commit of its own.
        self.units.is_empty()
            && self.roots.is_empty()
            && self.effects.is_empty()
            && self.run.is_none()
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

/// What looking at all of a store found.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Verified {
    /// Rows that were looked at.
    pub rows: u64,
    /// Those that do not hold what was written.
    pub damaged: u64,
}

/// What was removed from a store.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Collected {
    /// Files that are gone, whose nodes and roots were removed.
    pub files: u64,
    /// Effects that were removed.
    pub effects: u64,
    /// Bytes of the values that were removed.
    pub bytes: u64,
}

impl Store {
    /// At this path, or nowhere.
    pub(crate) fn new(path: Option<PathBuf>, queries: QueryNames, trust: Trust) -> Store {
        // Files beside it are made in its folder, and so that has to have a name.
        let path = path.map(|path| std::path::absolute(&path).unwrap_or(path));
        let keys = Keys::new(path.as_deref(), trust);
        Store { path, keys, queries, broken: Arc::default(), trouble: Mutex::default() }
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
        let opened = caught(|| {
            let database = file::read(path)?;
            let names = || self.queries.clone();
            Ok(database.and_then(|open| Snapshot::new(open, names(), self.broken.clone())))
        });
        match opened {
            Some(Ok(snapshot)) => snapshot,
            Some(Err(file::Trouble::Unusable(reason))) => {
                self.set_aside(path, &reason);
                None
            }
            Some(Err(file::Trouble::Passing(reason))) => {
                self.tell(format!("nothing is remembered from earlier runs: {reason}"));
                None
            }
            None => {
                self.set_aside(path, "reading it failed");
                None
            }
        }
    }

    /// Writes a batch. What cannot be written is told and lost.
    pub(crate) fn commit(&self, batch: &Batch) {
        let Some(path) = self.path.as_ref().filter(|_| !batch.is_empty()) else { return };
        self.quarantine_if_broken(path);
        let written = caught(|| {
            file::write(path, |transaction| write::batch(transaction, batch, &self.queries))
        });
        match written {
            Some(Ok(())) => {}
            Some(Err(file::Trouble::Unusable(reason))) => self.set_aside(path, &reason),
            // Stats are taken again next time, and nobody misses them.
            Some(Err(file::Trouble::Passing(_))) if batch.is_index_alone() => {}
            Some(Err(file::Trouble::Passing(reason))) => {
                self.tell(format!("this run will not be remembered: {reason}"));
            }
            None => self.set_aside(path, "writing to it failed"),
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
        for file in [path.clone(), file::stamp_path(path), signature::path_beside(path)] {
            match std::fs::remove_file(file) {
                Err(error) if error.kind() != std::io::ErrorKind::NotFound => return Err(error),
                _ => {}
            }
        }
        Ok(())
    }

    /// Looks at every page and every row; `None` when there is no store that can be read.
    pub(crate) fn verify(&self) -> Option<Verified> {
        let path = self.path.as_ref()?;
        file::forget_stamp(path);
        let snapshot = self.open()?;
        Some(snapshot.verify())
    }

    /// Removes what belongs to files that are gone, then effects, least recently used first, until
    /// their values take no more than `budget` bytes.
    pub(crate) fn collect(&self, budget: u64, exists: &dyn Fn(&str) -> bool) -> Collected {
        let Some(path) = self.path.as_ref().filter(|path| path.exists()) else {
            return Collected::default();
        };
        let collected = Mutex::new(Collected::default());
        let written = caught(|| {
            file::write(path, |transaction| {
                let result = collect::collect(transaction, budget, exists)?;
                *collected.lock().expect("no holder panics") = result;
                Ok(())
            })?;
            file::compact(path)
        });
        match written {
            Some(Ok(())) => {}
            Some(Err(file::Trouble::Unusable(reason))) => self.set_aside(path, &reason),
            Some(Err(file::Trouble::Passing(reason))) => {
                self.tell(format!("nothing was collected: {reason}"));
            }
            None => self.set_aside(path, "writing to it failed"),
        }
        collected.into_inner().expect("no holder panics")
    }

    /// Bytes of the file.
    pub(crate) fn bytes(&self) -> u64 {
        let meta = self.path.as_ref().and_then(|path| std::fs::metadata(path).ok());
        meta.map_or(0, |meta| meta.len())
    }

    /// What tells whose an outcome is.
    pub(crate) fn keys(&self) -> &Keys {
        &self.keys
    }

    /// The queries of this program.
    pub(crate) fn queries(&self) -> &QueryNames {
        &self.queries
    }

    pub(crate) fn stats(&self) -> StoreStats {
        let Some(snapshot) = self.open() else { return StoreStats::default() };
        StoreStats { bytes: self.bytes(), ..snapshot.stats() }
    }
}

/// The store as it was when it was opened.
pub(crate) struct Snapshot {
    stat: Table,
    roots: Table,
    units: Table,
    effects: Table,
    values: Table,
    runs: Table,
    queries: QueryNames,
    broken: Arc<AtomicBool>,
    // Last, so that the tables are closed before it.
    _database: ReadOnlyDatabase,
}

impl Snapshot {
    fn new(
        database: ReadOnlyDatabase,
        queries: QueryNames,
        broken: Arc<AtomicBool>,
    ) -> Option<Snapshot> {
        let transaction = database.begin_read().ok()?;
        let open = |definition| transaction.open_table(definition).ok();
        let (stat, roots, units) = (open(STAT)?, open(ROOTS)?, open(UNITS)?);
        let (effects, values, runs) = (open(EFFECTS)?, open(VALUES)?, open(RUNS)?);
        let _database = database;
        Some(Snapshot { stat, roots, units, effects, values, runs, queries, broken, _database })
    }

    /// What is known of the stats in a folder.
    pub(crate) fn folder(&self, path: &str) -> Option<FolderIndex> {
        self.row(&self.stat, path.as_bytes(), FolderIndex::decode)
    }

    /// The traces of a unit's nodes.
    pub(crate) fn unit(&self, unit: &Unit) -> Option<UnitTraces> {
        let decode = |bytes: &[u8]| decode_unit(unit, bytes, &self.queries);
        self.row(&self.units, &unit_key(unit), decode)
    }

    /// What `see` makes of a query's roots in a folder, where they lie.
    pub(crate) fn roots<T>(
        &self,
        query: &str,
        folder: &str,
        see: impl FnOnce(&RootsRow<'_>) -> T,
    ) -> Option<T> {
        let decode = |bytes: &[u8]| RootsRow::decode(bytes).map(|row| see(&row));
        self.row(&self.roots, &roots_key(query, folder), decode)
    }

    /// The deep trace of a root.
    pub(crate) fn root(&self, node: &Node) -> Option<RootTrace> {
        let (folder, name) = split(&node.unit.path);
        let trace =
            |row: &RootsRow<'_>| Some(row.trace(folder, row.find(name, &node.unit.part, 0)?));
        self.roots(node.query, folder, trace).flatten()
    }

    /// What is stored of an effect besides its value.
    pub(crate) fn effect(&self, key: &Digest) -> Option<EffectRow> {
        self.row(&self.effects, &key.0, decode_effect)
    }

    /// The last runs, newest first.
    pub(crate) fn runs(&self) -> Vec<Run> {
        let all = self.all(&self.runs).into_iter().rev();
        all.filter_map(|(key, bytes)| self.sound(Run::decode(self.open_seal(&key, &bytes)?)))
            .collect()
    }

    /// Everything that is true on other machines, too, and rests on no secret.
    pub(crate) fn everything(&self) -> Batch {
        let mut batch = Batch { units: self.units().into_iter().collect(), ..Batch::default() };
        for (key, bytes) in self.all(&self.roots) {
            let row =
                self.open_seal(&key, &bytes).and_then(|bytes| self.sound(RootsRow::decode(bytes)));
            let name = std::str::from_utf8(&key).ok().and_then(|key| key.split_once('\0'));
            let (Some(row), Some((query, folder))) = (row, name) else { continue };
            let Some(query) = self.queries.get(query) else { continue };
            for (name, trace) in row.traces(folder) {
                let (file, part) = name.split_once('\0').unwrap_or((&name, ""));
                let unit = Unit::file(join(folder, file)).part(part);
                batch.roots.insert(Node { unit, query }, trace);
            }
        }
        for (key, bytes) in self.all(&self.effects) {
            let effect = self.open_seal(&key, &bytes).and_then(decode_effect);
            let key = key.as_slice().try_into().ok().map(Digest);
            let signed = effect.and_then(|EffectRow { value, by, .. }| {
                Some(Signed { value: self.value(&value)?, by })
            });
            if let (Some(key), Some(signed)) = (key, signed) {
                batch.effects.insert(key, Some(signed));
            }
        }
        for traces in batch.units.values_mut() {
            traces.retain(|_, trace| {
                !trace
                    .reads
                    .iter()
                    .any(|(key, _)| matches!(key, Key::Leaf(leaf) if leaf.is_secret()))
            });
        }
        let rests_on_secret =
            |_: &Node, root: &mut RootTrace| root.leaves.iter().any(|(leaf, _)| leaf.is_secret());
        for (leaf, _) in batch.roots.extract_if(.., rests_on_secret).flat_map(|(_, r)| r.leaves) {
            if let Leaf::Effect(key) = leaf {
                batch.effects.remove(&key);
            }
        }
        // What another root rests on, too, is not worth telling apart.
        let effects = &batch.effects;
        batch.roots.retain(|_, root| {
            let known =
                |leaf: &Leaf| !matches!(leaf, Leaf::Effect(key) if !effects.contains_key(key));
            root.leaves.iter().all(|(leaf, _)| known(leaf))
        });
        batch
    }

    fn verify(&self) -> Verified {
        let mut verified = Verified::default();
        let mut check = |sound: bool| {
            verified.rows += 1;
            verified.damaged += u64::from(!sound);
        };
        for (key, bytes) in self.all(&self.stat) {
            check(open_seal(&key, &bytes).is_some_and(|row| FolderIndex::decode(row).is_some()));
        }
        for (key, bytes) in self.all(&self.roots) {
            check(open_seal(&key, &bytes).is_some_and(|row| RootsRow::decode(row).is_some()));
        }
        for (key, bytes) in self.all(&self.units) {
            let unit = unit_of(&key).zip(open_seal(&key, &bytes));
            check(unit.is_some_and(|(unit, row)| decode_unit(&unit, row, &self.queries).is_some()));
        }
        for (key, bytes) in self.all(&self.effects) {
            check(open_seal(&key, &bytes).and_then(decode_effect).is_some());
        }
        for (key, bytes) in self.all(&self.values) {
            let value = value::unpack(&bytes);
            check(value.is_some_and(|value| Digest::of("value", &value).0[..] == key[..]));
        }
        for (key, bytes) in self.all(&self.runs) {
            check(open_seal(&key, &bytes).and_then(Run::decode).is_some());
        }
        if verified.damaged > 0 {
            self.broken.store(true, Ordering::Relaxed);
        }
        verified
    }

    /// A value whose bytes still have its digest.
    pub(crate) fn value(&self, digest: &Digest) -> Option<Arc<[u8]>> {
        let read = || Ok(self.values.get(&digest.0[..])?.map(|row| value::unpack(row.value())));
        let value = self.sound(self.guarded(read).flatten()?)?;
        self.sound((Digest::of("value", &value) == *digest).then(|| value.into()))
    }

    /// Every unit with its traces, sorted.
    pub(crate) fn units(&self) -> Vec<(Unit, UnitTraces)> {
        let all = self.all(&self.units).into_iter().filter_map(|(key, bytes)| {
            let unit = unit_of(&key)?;
            let traces = decode_unit(&unit, self.open_seal(&key, &bytes)?, &self.queries);
            Some((unit, self.sound(traces)?))
        });
        all.collect()
    }

    fn stats(&self) -> StoreStats {
        let count = |table: &Table| self.guarded(|| Ok(table.len()?)).unwrap_or(0);
        let roots = self.all(&self.roots).into_iter().filter_map(|(key, bytes)| {
            let bytes = self.open_seal(&key, &bytes)?;
            Some(self.sound(RootsRow::decode(bytes))?.len() as u64)
        });
        StoreStats {
            bytes: 0,
            roots: roots.sum(),
            nodes: self.units().iter().map(|(_, traces)| traces.len() as u64).sum(),
            values: count(&self.values),
            effects: count(&self.effects),
        }
    }

    fn all(&self, table: &Table) -> Vec<(Vec<u8>, Vec<u8>)> {
        let all = self.guarded(|| {
            let mut all = Vec::new();
            for row in table.iter()? {
                let (key, value) = row?;
                all.push((key.value().to_vec(), value.value().to_vec()));
            }
            Ok(all)
        });
        all.unwrap_or_default()
    }

    /// What is in a row, if its checksum holds.
    fn row<T>(
        &self,
        table: &Table,
        key: &[u8],
        decode: impl FnOnce(&[u8]) -> Option<T>,
    ) -> Option<T> {
        let read = || {
            let Some(row) = table.get(key)? else { return Ok(None) };
            Ok(self.open_seal(key, row.value()).map(decode))
        };
        let decoded = self.guarded(read).flatten()?;
        self.sound(decoded)
    }

    /// A row's content, if its checksum holds.
    fn open_seal<'a>(&self, key: &[u8], sealed: &'a [u8]) -> Option<&'a [u8]> {
        self.sound(open_seal(key, sealed))
    }

    /// What makes no sense was damaged.
    fn sound<T>(&self, read: Option<T>) -> Option<T> {
        if read.is_none() {
            self.broken.store(true, Ordering::Relaxed);
        }
        read
    }

    /// Reads; a damaged page is an absence, and the store is set aside before it is next opened.
    fn guarded<T>(&self, read: impl FnOnce() -> Result<T, redb::Error>) -> Option<T> {
        if self.broken.load(Ordering::Relaxed) {
            return None;
        }
        match caught(read) {
            Some(Ok(value)) => Some(value),
            Some(Err(_)) | None => {
                self.broken.store(true, Ordering::Relaxed);
                None
            }
        }
    }
}

/// Says of whatever is at `path` that it is as a process of ours left it.
#[cfg(test)]
pub(crate) fn stamp_as_left(path: &Path) {
    file::stamp(path);
}

/// A row: its content, and a checksum of key and content.
fn seal(key: &[u8], mut content: Vec<u8>) -> Vec<u8> {
    content.extend(checksum(key, &content));
    content
}

fn open_seal<'a>(key: &[u8], sealed: &'a [u8]) -> Option<&'a [u8]> {
    let (content, sum) = sealed.split_last_chunk()?;
    (checksum(key, content) == *sum || fault::is(Fault::ChecksumsNotChecked)).then_some(content)
}

fn decode_effect(bytes: &[u8]) -> Option<EffectRow> {
    postcard::from_bytes(bytes).ok()
}

fn encode(content: &impl Serialize) -> Vec<u8> {
    postcard::to_stdvec(content).expect("rows are plain data")
}

fn checksum(key: &[u8], content: &[u8]) -> [u8; 4] {
    let key = xxh3_64(key);
    (xxh3_64_with_seed(content, key) as u32).to_le_bytes()
}

/// Paths hold no zero bytes, so the parts cannot run into each other.
fn unit_key(unit: &Unit) -> Vec<u8> {
    [&*unit.path, &*unit.part].join("\0").into_bytes()
}

fn unit_of(key: &[u8]) -> Option<Unit> {
    let (path, part) = std::str::from_utf8(key).ok()?.split_once('\0')?;
    Some(Unit { path: path.into(), part: part.into() })
}

fn roots_key(query: &str, folder: &str) -> Vec<u8> {
    [query, folder].join("\0").into_bytes()
}

#[cfg(test)]
mod tests {
    #[test]
    fn a_row_that_was_changed_is_no_row() {
        let sealed = super::seal(b"key", b"content".to_vec());
        assert_eq!(super::open_seal(b"key", &sealed), Some(&b"content"[..]));
        assert_eq!(super::open_seal(b"kez", &sealed), None, "it is another row's content");
        for bit in 0..sealed.len() * 8 {
            let mut changed = sealed.clone();
            changed[bit / 8] ^= 1 << (bit % 8);
            assert_eq!(super::open_seal(b"key", &changed), None, "bit {bit}");
        }
        assert_eq!(super::open_seal(b"key", &sealed[..3]), None);
    }
}
