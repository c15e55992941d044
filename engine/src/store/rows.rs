//! Rows: how traces lie in the store, packed so that what is needed together is read together.
//!
//! All nodes of a unit are one row, all roots of a query in one folder are one row. Within a row
//! each key and each digest is written once.

use std::collections::{BTreeMap, HashMap};
use std::hash::Hash;
use std::sync::Arc;

use serde::{Deserialize, Serialize};

use crate::digest::Digest;
use crate::key::{Key, Leaf, Node, Unit};
use crate::trace::{RootTrace, Trace};
use crate::world::{join, split};

/// The nodes of a unit: query to trace.
pub(crate) type UnitTraces = BTreeMap<&'static str, Arc<Trace>>;

/// The roots of a query in one folder: name and part to deep trace.
pub(crate) type FolderRoots = BTreeMap<(String, String), RootTrace>;

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

/// A leaf, told from the folder whose row it is in.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub(crate) enum RootLeaf<'a> {
    /// A file of the folder.
    Here(&'a str),
    Leaf(Leaf),
}

/// One root in a row.
#[derive(Serialize, Deserialize)]
pub(crate) struct RootEntry<'a> {
    pub(crate) name: &'a str,
    pub(crate) part: &'a str,
    value: Digest,
    /// Numbers of its leaves in the row.
    pub(crate) leaves: Vec<u32>,
    /// Where its value ends in the row's values; it begins where the one before ends.
    end: u32,
}

/// The roots of a query in one folder, sorted, not taken apart.
#[derive(Serialize, Deserialize)]
pub(crate) struct RootsRow<'a> {
    #[serde(borrow)]
    pub(crate) leaves: Vec<(RootLeaf<'a>, Digest)>,
    pub(crate) roots: Vec<RootEntry<'a>>,
    values: &'a [u8],
}

impl<'a> RootsRow<'a> {
    pub(crate) fn decode(bytes: &'a [u8]) -> Option<RootsRow<'a>> {
        let row: RootsRow<'_> = postcard::from_bytes(bytes).ok()?;
        let mut begin = 0;
        let sound = row.roots.iter().all(|root| {
            let numbers = root.leaves.iter().all(|leaf| (*leaf as usize) < row.leaves.len());
            let ends = begin <= root.end && root.end as usize <= row.values.len();
            begin = root.end;
            numbers && ends
        });
        sound.then_some(row)
    }

    /// The number of a root.
    pub(crate) fn find(&self, name: &str, part: &str) -> Option<usize> {
        self.roots.binary_search_by(|root| (root.name, root.part).cmp(&(name, part))).ok()
    }

    /// The encoded value of a root, and how far before the end of the row it begins.
    pub(crate) fn value(&self, number: usize) -> (&'a [u8], usize) {
        let begin = number.checked_sub(1).map_or(0, |before| self.roots[before].end) as usize;
        let end = self.roots[number].end as usize;
        (&self.values[begin..end], self.values.len() - begin)
    }

    pub(crate) fn trace(&self, folder: &str, number: usize) -> RootTrace {
        let root = &self.roots[number];
        let leaf = |number: &u32| {
            let (leaf, digest) = &self.leaves[*number as usize];
            (leaf.resolve(folder), *digest)
        };
        let mut leaves: Vec<(Leaf, Digest)> = root.leaves.iter().map(leaf).collect();
        leaves.sort();
        RootTrace { value: root.value, bytes: self.value(number).0.to_vec(), leaves }
    }

    pub(super) fn traces(&self, folder: &str) -> FolderRoots {
        let roots = self.roots.iter().enumerate();
        let entry = |(number, root): (usize, &RootEntry<'_>)| {
            ((root.name.to_owned(), root.part.to_owned()), self.trace(folder, number))
        };
        roots.map(entry).collect()
    }
}

impl RootLeaf<'_> {
    fn resolve(&self, folder: &str) -> Leaf {
        match self {
            RootLeaf::Here(name) => Leaf::File(join(folder, name).into()),
            RootLeaf::Leaf(leaf) => leaf.clone(),
        }
    }
}

pub(super) fn encode_roots(folder: &str, traces: &FolderRoots) -> Vec<u8> {
    let mut leaves = Numbers::new();
    let (mut roots, mut values) = (Vec::new(), Vec::new());
    for ((name, part), trace) in traces {
        let numbers = trace.leaves.iter().map(|(leaf, digest)| {
            let leaf = match leaf {
                Leaf::File(path) if split(path).0 == folder => RootLeaf::Here(split(path).1),
                leaf => RootLeaf::Leaf(leaf.clone()),
            };
            leaves.of((leaf, *digest))
        });
        let leaves = numbers.collect();
        values.extend_from_slice(&trace.bytes);
        let end = values.len() as u32;
        roots.push(RootEntry { name, part, value: trace.value, leaves, end });
    }
    postcard::to_stdvec(&RootsRow { leaves: leaves.1, roots, values: &values })
        .expect("rows are plain data")
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
        let name = |name: &str| (name.to_owned(), String::new());
        let roots: FolderRoots = [
            (name("x"), trace("x", &[file("a/b/x"), file("m"), (Leaf::Tool, digest("t"))])),
            (name("y"), trace("", &[file("a/b/y"), file("m")])),
        ]
        .into();
        let bytes = encode_roots("a/b", &roots);
        let row = RootsRow::decode(&bytes).expect("it was just encoded");
        assert_eq!(row.traces("a/b"), roots);
        assert_eq!(row.find("y", ""), Some(1));
        let (value, from_end) = row.value(0);
        assert_eq!((value, &bytes[bytes.len() - from_end..]), (&b"x"[..], &b"x"[..]));
    }
}
