//! Rows: how traces lie in the store, packed so that what is needed together is read together.
//!
//! All nodes of a unit are one row, all roots of a query in one folder are one row. Within a row
//! each key and each digest is written once.

use std::borrow::Cow;
use std::collections::{BTreeMap, HashMap};
use std::hash::Hash;
use std::sync::Arc;

use serde::{Deserialize, Serialize};

use crate::digest::Digest;
use crate::key::{Key, Leaf, Node, Unit};
use crate::table::{Table, encode};
use crate::trace::{RootTrace, Trace};
use crate::world::join;

/// The nodes of a unit: query to trace.
pub(crate) type UnitTraces = BTreeMap<&'static str, Arc<Trace>>;

/// The roots of a query in one folder, by [`root_name`].
pub(crate) type FolderRoots = BTreeMap<String, RootTrace>;

/// The names of queries, as they are in this program.
pub(crate) type QueryNames = HashMap<&'static str, &'static str>;

/// What was read, told from the unit whose row it is in.
#[derive(Clone, PartialEq, Eq, Hash, Serialize, Deserialize)]
enum UnitKey<'a> {
    /// Another query of the same unit.
    Here(&'a str),
    /// A query of another part of the same file.
    Part(&'a str, &'a str),
    /// A query of another file.
    There(&'a str, &'a str, &'a str),
    /// The unit's own file.
    File,
    Leaf(Leaf),
}

#[derive(Serialize, Deserialize)]
struct UnitRow<'a> {
    #[serde(borrow)]
    keys: Vec<UnitKey<'a>>,
    digests: Vec<Digest>,
    nodes: Vec<NodeEntry<'a>>,
}

/// A node: its query, its value, and what it read; numbers of keys and digests.
type NodeEntry<'a> = (&'a str, u32, Vec<(u32, u32)>);

/// Numbers things in the order in which they are first met.
struct Numbers<T>(HashMap<T, u32>, Vec<T>);

impl<T: Clone + Eq + Hash> Numbers<T> {
    fn new() -> Numbers<T> {
        Numbers(HashMap::new(), Vec::new())
    }

    fn of(&mut self, thing: T) -> u32 {
        *self.0.entry(thing).or_insert_with_key(|thing| {
            self.1.push(thing.clone());
            self.1.len() as u32 - 1
        })
    }
}

pub(super) fn encode_unit(unit: &Unit, traces: &UnitTraces) -> Vec<u8> {
    let (mut keys, mut digests) = (Numbers::new(), Numbers::new());
    let mut nodes = Vec::new();
    for (query, trace) in traces {
        let value = digests.of(trace.value);
        let reads = trace.reads.iter().map(|(key, digest)| {
            let key = match key {
                Key::Leaf(Leaf::File(path)) if *path == unit.path => UnitKey::File,
                Key::Leaf(leaf) => UnitKey::Leaf(leaf.clone()),
                Key::Node(node) if node.unit == *unit => UnitKey::Here(node.query),
                Key::Node(node) if node.unit.path == unit.path => {
                    UnitKey::Part(&node.unit.part, node.query)
                }
                Key::Node(node) => UnitKey::There(&node.unit.path, &node.unit.part, node.query),
            };
            (keys.of(key), digests.of(*digest))
        });
        nodes.push((*query, value, reads.collect()));
    }
    postcard::to_stdvec(&UnitRow { keys: keys.1, digests: digests.1, nodes })
        .expect("rows are plain data")
}

/// The traces of a unit; those of queries that this program does not have are left out.
pub(super) fn decode_unit(unit: &Unit, bytes: &[u8], names: &QueryNames) -> Option<UnitTraces> {
    let row: UnitRow<'_> = postcard::from_bytes(bytes).ok()?;
    let node = |unit: Unit, query: &str| Some(Key::Node(Node { unit, query: names.get(query)? }));
    let key = |key: &UnitKey<'_>| match key {
        UnitKey::Here(query) => node(unit.clone(), query),
        UnitKey::Part(part, query) => node(unit.part(*part), query),
        UnitKey::There(path, part, query) => node(Unit::file(*path).part(*part), query),
        UnitKey::File => Some(Key::Leaf(Leaf::File(unit.path.clone()))),
        UnitKey::Leaf(leaf) => Some(Key::Leaf(leaf.clone())),
    };
    let keys: Vec<Option<Key>> = row.keys.iter().map(key).collect();
    let digest = |number: u32| row.digests.get(number as usize).copied();
    let mut traces = UnitTraces::new();
    for (query, value, reads) in &row.nodes {
        let read = |(key, at): &(u32, u32)| Some((keys.get(*key as usize)?.clone()?, digest(*at)?));
        let Some(query) = names.get(query) else { continue };
        let Some(reads) = reads.iter().map(read).collect() else { continue };
        traces.insert(query, Arc::new(Trace { value: digest(*value)?, reads }));
    }
    Some(traces)
}

/// What there is of a root besides its name: the digest of its own file (zeroes when it did not
/// read that), the number of the set of its other leaves, the digest of its value, and where its
/// value and its effects end in those of the row.
const RECORD: usize = 32 + 4 + 32 + 4 + 4;
/// An effect's key and the digest of its state.
const EFFECT: usize = 32 + 32;
const NOT_READ: [u8; 32] = [0; 32];

/// The roots of a query in one folder, where they lie.
///
/// Most read their own file, effects that no other root rests on, and, as many others do, a few
/// leaves more: those are written once.
pub(crate) struct RootsRow<'a> {
    table: Table<'a, RECORD>,
    /// The leaves of the roots besides their own files and effects.
    pub(crate) leaves: Vec<(Leaf, Digest)>,
    /// Numbers of leaves.
    pub(crate) sets: Vec<Vec<u32>>,
    effects: &'a [u8],
    values: &'a [u8],
}

#[derive(Serialize, Deserialize)]
struct Shared<'a> {
    leaves: Vec<(Leaf, Digest)>,
    sets: Vec<Vec<u32>>,
    effects: &'a [u8],
    values: &'a [u8],
}

/// A record taken apart.
struct Record {
    own: Digest,
    set: usize,
    value: Digest,
    value_end: usize,
    effects_end: usize,
}

impl<'a> RootsRow<'a> {
    pub(crate) fn decode(bytes: &'a [u8]) -> Option<RootsRow<'a>> {
        let (table, rest) = Table::decode(bytes)?;
        let Shared { leaves, sets, effects, values } = postcard::from_bytes(rest).ok()?;
        let row = RootsRow { table, leaves, sets, effects, values };
        let (mut value_begin, mut effects_begin) = (0, 0);
        let sound = (0..row.len()).all(|at| {
            let Record { set, value_end, effects_end, .. } = row.record(at);
            let ordered = value_begin <= value_end && effects_begin <= effects_end;
            (value_begin, effects_begin) = (value_end, effects_end);
            ordered
                && value_end <= row.values.len()
                && effects_end <= row.effects.len()
                && set < row.sets.len()
        });
        let mut numbers = row.sets.iter().flatten();
        let known = numbers.all(|number| (*number as usize) < row.leaves.len());
        (sound && known).then_some(row)
    }

    pub(crate) fn len(&self) -> usize {
        self.table.len()
    }

    /// The number of a root; `hint` is where it is looked for first.
    pub(crate) fn find(&self, name: &str, part: &str, hint: usize) -> Option<usize> {
        self.table.find(&root_name(name, part), hint)
    }

    /// The name of a root's file.
    pub(crate) fn file(&self, at: usize) -> &'a str {
        file_of(self.table.name(at))
    }

    /// The digest that a root's own file had, if it was read.
    pub(crate) fn own_file(&self, at: usize) -> Option<Digest> {
        let own = self.record(at).own;
        (own.0 != NOT_READ).then_some(own)
    }

    /// The set of the other leaves of a root.
    pub(crate) fn set(&self, at: usize) -> usize {
        self.record(at).set
    }

    /// The effects a root rests on: their keys, and the digests of their states.
    pub(crate) fn effects(&self, at: usize) -> impl Iterator<Item = (Digest, Digest)> {
        let begin = at.checked_sub(1).map_or(0, |before| self.record(before).effects_end);
        let effects = self.effects[begin..self.record(at).effects_end].chunks_exact(EFFECT);
        effects.map(|effect| (digest_at(effect, 0), digest_at(effect, 32)))
    }

    /// The encoded value of a root.
    pub(crate) fn value(&self, at: usize) -> &'a [u8] {
        let begin = at.checked_sub(1).map_or(0, |before| self.record(before).value_end);
        &self.values[begin..self.record(at).value_end]
    }

    pub(crate) fn trace(&self, folder: &str, at: usize) -> RootTrace {
        let set = self.sets[self.set(at)].iter();
        let mut leaves: Vec<(Leaf, Digest)> =
            set.map(|number| self.leaves[*number as usize].clone()).collect();
        let own = self.own_file(at);
        leaves.extend(own.map(|own| (Leaf::File(join(folder, self.file(at)).into()), own)));
        leaves.extend(self.effects(at).map(|(key, state)| (Leaf::Effect(key), state)));
        leaves.sort();
        let value = self.record(at).value;
        RootTrace { value, bytes: self.value(at).to_vec(), leaves }
    }

    pub(super) fn traces(&self, folder: &str) -> FolderRoots {
        (0..self.len()).map(|at| (self.table.name(at).to_owned(), self.trace(folder, at))).collect()
    }

    fn record(&self, at: usize) -> Record {
        let record = self.table.record(at);
        let number = |begin: usize| {
            u32::from_le_bytes(*record[begin..].first_chunk().expect("it is so long")) as usize
        };
        Record {
            own: digest_at(record, 0),
            set: number(32),
            value: digest_at(record, 36),
            value_end: number(68),
            effects_end: number(72),
        }
    }
}

fn digest_at(bytes: &[u8], begin: usize) -> Digest {
    Digest(*bytes[begin..].first_chunk().expect("it is so long"))
}

/// What a root is called in its folder's row: its file's name, and the part when it has one.
pub(super) fn root_name<'a>(file: &'a str, part: &str) -> Cow<'a, str> {
    if part.is_empty() { file.into() } else { [file, part].join("\0").into() }
}

fn file_of(root_name: &str) -> &str {
    let end = root_name.bytes().position(|byte| byte == 0);
    end.map_or(root_name, |end| &root_name[..end])
}

pub(super) fn encode_roots<'a>(
    folder: &str,
    traces: impl IntoIterator<Item = (&'a String, &'a RootTrace)>,
) -> Vec<u8> {
    let (mut leaves, mut sets) = (Numbers::new(), Numbers::new());
    let (mut records, mut values, mut effects) = (Vec::new(), Vec::new(), Vec::new());
    for (key, trace) in traces {
        let file = join(folder, file_of(key));
        let (mut own, mut set) = (NOT_READ, Vec::new());
        for (leaf, digest) in &trace.leaves {
            match leaf {
                Leaf::File(path) if **path == *file => own = digest.0,
                Leaf::Effect(key) => effects.extend([key.0, digest.0].concat()),
                leaf => set.push(leaves.of((leaf.clone(), *digest))),
            }
        }
        values.extend_from_slice(&trace.bytes);
        let mut record = [0; RECORD];
        record[..32].copy_from_slice(&own);
        record[32..36].copy_from_slice(&sets.of(set).to_le_bytes());
        record[36..68].copy_from_slice(&trace.value.0);
        record[68..72].copy_from_slice(&(values.len() as u32).to_le_bytes());
        record[72..].copy_from_slice(&(effects.len() as u32).to_le_bytes());
        records.push((key.as_str(), record));
    }
    let mut bytes = encode(records.into_iter());
    let shared = Shared { leaves: leaves.1, sets: sets.1, effects: &effects, values: &values };
    bytes.extend(postcard::to_stdvec(&shared).expect("rows are plain data"));
    bytes
}

#[cfg(test)]
mod tests {
    use super::*;

    fn digest(text: &str) -> Digest {
        Digest::of("t", text.as_bytes())
    }

    #[test]
    fn units_and_back() {
        let unit = Unit::file("a/b").part("0");
        let node = |unit: Unit, query| Key::Node(Node { unit, query });
        let leaf = |leaf| Key::Leaf(leaf);
        let reads = vec![
            (leaf(Leaf::Tool), digest("tool")),
            (leaf(Leaf::File("a/b".into())), digest("file")),
            (leaf(Leaf::File("c".into())), digest("tool")),
            (node(unit.clone(), "one"), digest("one")),
            (node(Unit::file("a/b"), "one"), digest("two")),
            (node(Unit::file("c").part("1"), "one"), digest("one")),
        ];
        let trace = |value: &str, reads: &[_]| {
            Arc::new(Trace { value: digest(value), reads: reads.to_vec() })
        };
        let traces: UnitTraces =
            [("one", trace("one", &reads[..3])), ("two", trace("two", &reads))].into();
        let names: QueryNames = [("one", "one"), ("two", "two")].into();
        let bytes = encode_unit(&unit, &traces);
        assert_eq!(decode_unit(&unit, &bytes, &names), Some(traces.clone()));
        // A program without the query `one` has no use for what read it, either.
        let names: QueryNames = [("two", "two")].into();
        assert_eq!(decode_unit(&unit, &bytes, &names), Some(UnitTraces::new()));
    }

    #[test]
    fn roots_and_back() {
        let trace = |value: &str, leaves: &[(Leaf, Digest)]| RootTrace {
            value: digest(value),
            bytes: value.as_bytes().to_vec(),
            leaves: leaves.to_vec(),
        };
        let file = |path: &str| (Leaf::File(path.into()), digest(path));
        let roots: FolderRoots = [
            ("x".into(), trace("x", &[file("a/b/x"), file("m"), (Leaf::Tool, digest("t"))])),
            ("y".into(), trace("", &[file("m"), (Leaf::Effect(digest("e")), digest("s"))])),
            (root_name("y", "1").into(), trace("two", &[file("a/b/x"), file("a/b/y")])),
        ]
        .into();
        let bytes = encode_roots("a/b", &roots);
        let row = RootsRow::decode(&bytes).expect("it was just encoded");
        assert_eq!(row.traces("a/b"), roots);
        assert_eq!((row.find("y", "", 1), row.find("y", "1", 1)), (Some(1), Some(2)));
        assert_eq!((row.sets.len(), row.leaves.len()), (3, 3));
        assert_eq!(row.effects(1).collect::<Vec<_>>(), [(digest("e"), digest("s"))]);
        assert_eq!(row.value(2), b"two");
        for cut in 0..bytes.len() {
            assert!(RootsRow::decode(&bytes[..cut]).is_none(), "cut at {cut}");
        }
    }
}
