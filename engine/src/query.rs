//! Queries, and the context through which they see the world.

use std::any::Any;
use std::cell::RefCell;
use std::collections::BTreeSet;
use std::sync::Arc;

use serde::Serialize;
use serde::de::DeserializeOwned;

use crate::db::Db;
use crate::digest::Digest;
use crate::fault::{self, Fault};
use crate::key::{Key, Leaf, Node, Unit};
use crate::world::{Content, Listed, absent};

/// A pure function of a unit whose values are remembered. Declare it as a `static`.
pub struct Query<V> {
    name: &'static str,
    version: u32,
    kept: bool,
    compute: fn(&Cx<'_>, &Unit) -> V,
}

impl<V> Query<V> {
    /// A query of which only digests are stored: it is computed again when its value is needed
    /// and not at hand. Raise `version` when equal inputs come to give other values.
    pub const fn new(name: &'static str, version: u32, compute: fn(&Cx<'_>, &Unit) -> V) -> Self {
        Query { name, version, kept: false, compute }
    }

    /// The same, with its values stored where they are asked for as roots.
    pub const fn kept(self) -> Self {
        Query { kept: true, ..self }
    }

    /// The node of this query for `unit`.
    pub fn node(&self, unit: &Unit) -> Node {
        Node { unit: unit.clone(), query: self.name }
    }
}

/// A computed value, whatever its type.
pub(crate) type Value = Arc<dyn Any + Send + Sync>;

/// A [`Query`] of any value.
pub trait AnyQuery: Sync {
    #[doc(hidden)]
    fn name(&self) -> &'static str;
    #[doc(hidden)]
    fn version(&self) -> u32;
    #[doc(hidden)]
    fn is_kept(&self) -> bool;
    #[doc(hidden)]
    fn execute(&self, cx: &Cx<'_>, unit: &Unit) -> (Arc<dyn Any + Send + Sync>, Vec<u8>);
    #[doc(hidden)]
    fn decode(&self, bytes: &[u8]) -> Option<Arc<dyn Any + Send + Sync>>;
}

impl<V: Serialize + DeserializeOwned + Send + Sync + 'static> AnyQuery for Query<V> {
    fn name(&self) -> &'static str {
        self.name
    }

    fn version(&self) -> u32 {
        self.version
    }

    fn is_kept(&self) -> bool {
        self.kept
    }

    fn execute(&self, cx: &Cx<'_>, unit: &Unit) -> (Value, Vec<u8>) {
        let value = (self.compute)(cx, unit);
        let bytes = postcard::to_stdvec(&value).expect("query values are plain data");
        (Arc::new(value), bytes)
    }

    fn decode(&self, bytes: &[u8]) -> Option<Value> {
        postcard::from_bytes::<V>(bytes).ok().map(|value| Arc::new(value) as Value)
    }
}

/// What a query sees of the world. Every read is recorded, in order.
pub struct Cx<'a> {
    db: &'a dyn Db,
    reads: RefCell<Reads>,
}

#[derive(Default)]
pub(crate) struct Reads {
    pub(crate) in_order: Vec<(Key, Digest)>,
    seen: BTreeSet<Key>,
    /// The first read that must not be remembered.
    pub(crate) volatile: Option<Key>,
}

impl<'a> Cx<'a> {
    pub(crate) fn new(db: &'a dyn Db) -> Cx<'a> {
        let cx = Cx { db, reads: RefCell::default() };
        // Whatever is computed depends on what computes it.
        if !fault::is(Fault::ToolNotRead) {
            cx.leaf(Leaf::Tool);
        }
        cx
    }

    pub(crate) fn into_reads(self) -> Reads {
        self.reads.into_inner()
    }

    /// The value of another query.
    pub fn get<V: Send + Sync + 'static>(&self, query: &Query<V>, unit: &Unit) -> Arc<V> {
        let node = query.node(unit);
        let (memo, value) = crate::memo::demand(self.db, &node);
        self.record(Key::Node(node), memo.digest, memo.volatile);
        value.downcast::<V>().expect("a query's name belongs to one type of value")
    }

    /// A file's content, or that there is none.
    pub fn file(&self, path: &str) -> Content {
        self.content(Leaf::File(path.into()))
    }

    /// The digest of a file or of a folder with everything below it; `None` when it is absent.
    ///
    /// # Errors
    /// Why some of it cannot be read.
    pub fn tree(&self, path: &str) -> Result<Option<Digest>, Arc<str>> {
        let leaf = Leaf::Tree(path.into());
        let digest = self.leaf(leaf.clone()).digest;
        match self.content_of(leaf, digest) {
            Content::Absent => Ok(None),
            Content::Unreadable(reason) => Err(reason),
            Content::Bytes(_) => Ok(Some(digest)),
        }
    }

    /// What is in a folder, sorted by name; `None` when it is absent.
    ///
    /// # Errors
    /// Why it cannot be read.
    pub fn list(&self, path: &str) -> Result<Option<Vec<Listed>>, Arc<str>> {
        match self.content(Leaf::Listing(path.into())) {
            Content::Absent => Ok(None),
            Content::Unreadable(reason) => Err(reason),
            Content::Bytes(bytes) => {
                Ok(Some(postcard::from_bytes(&bytes).expect("the world has just encoded it")))
            }
        }
    }

    /// An environment variable.
    pub fn env(&self, name: &str) -> Option<String> {
        let content = self.content(Leaf::Env(name.into()));
        content.bytes().and_then(|bytes| String::from_utf8(bytes.to_vec()).ok())
    }

    /// What the program states about the world.
    pub fn fact(&self, kind: &str, name: &str) -> Option<Vec<u8>> {
        self.content(Leaf::Fact(kind.into(), name.into())).bytes().map(<[u8]>::to_vec)
    }

    /// What came of an effect; `None` as long as that is not known.
    pub fn effect(&self, key: Digest) -> Option<Arc<[u8]>> {
        match self.content(Leaf::Effect(key)) {
            Content::Bytes(bytes) => Some(bytes),
            Content::Absent | Content::Unreadable(_) => None,
        }
    }

    fn content(&self, leaf: Leaf) -> Content {
        let digest = self.leaf(leaf.clone()).digest;
        self.content_of(leaf, digest)
    }

    fn content_of(&self, leaf: Leaf, digest: Digest) -> Content {
        self.db.session().content(&leaf, digest).unwrap_or_else(|| {
            // It changed after it was hashed: what is computed from here on describes nothing.
            self.reads.borrow_mut().volatile.get_or_insert(Key::Leaf(leaf));
            Content::Unreadable("it changed while it was read".into())
        })
    }

    fn leaf(&self, leaf: Leaf) -> crate::db::LeafState {
        let cell = self.db.leaf_cell(&leaf);
        let state = cell.state(self.db);
        self.record(Key::Leaf(leaf), state.digest, state.volatile);
        state
    }

    fn record(&self, key: Key, digest: Digest, volatile: bool) {
        let forgotten = match &key {
            Key::Node(_) => fault::is(Fault::NodeNotRecorded),
            Key::Leaf(Leaf::File(_)) => {
                fault::is(Fault::FileNotRecorded)
                    || (fault::is(Fault::AbsenceNotRecorded) && digest == absent())
            }
            Key::Leaf(Leaf::Env(_)) => fault::is(Fault::EnvNotRecorded),
            Key::Leaf(Leaf::Listing(_)) => fault::is(Fault::ListingNotRecorded),
            Key::Leaf(Leaf::Tree(_)) => fault::is(Fault::TreeNotRecorded),
            Key::Leaf(Leaf::Effect(_)) => fault::is(Fault::EffectNotRecorded),
            Key::Leaf(_) => false,
        };
        if forgotten {
            return;
        }
        let mut reads = self.reads.borrow_mut();
        if volatile && reads.volatile.is_none() {
            reads.volatile = Some(key.clone());
        }
        if reads.seen.insert(key.clone()) {
            reads.in_order.push((key, digest));
        }
    }
}
