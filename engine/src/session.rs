//! What one process knows besides salsa's memos: the world as seen, traces and values that are
//! not stored yet, effects, and what happened.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::sync::{Arc, Mutex, MutexGuard};

use crate::db::LeafState;
use crate::digest::Digest;
use crate::event::QueryEvent;
use crate::key::{Key, Leaf, Node};
use crate::query::AnyQuery;
use crate::store::{Snapshot, Store};
use crate::trace::{RootTrace, Trace};
use crate::world::{Content, State, World};

pub(crate) struct Session {
    pub(crate) world: World,
    pub(crate) store: Store,
    pub(crate) queries: HashMap<&'static str, &'static dyn AnyQuery>,
    pub(crate) events: Mutex<Vec<QueryEvent>>,
    pub(crate) staged: Mutex<Staged>,
    effects: Mutex<HashMap<Digest, Effect>>,
    /// Encoded values of this session, by digest.
    kept: Mutex<HashMap<Digest, Arc<[u8]>>>,
    /// The store as it is read, while nobody waits for anything but us.
    snapshot: Mutex<Reading>,
    /// Leaves whose content turned out to be another than their digest says.
    pub(crate) torn: Mutex<BTreeSet<Leaf>>,
    /// Nodes whose value, computed again, was another: queries that are not pure.
    pub(crate) impure: Mutex<BTreeSet<Node>>,
}

/// What is to be stored.
#[derive(Default)]
pub(crate) struct Staged {
    pub(crate) nodes: BTreeMap<Node, Trace>,
    pub(crate) roots: BTreeMap<Node, Digest>,
    /// By key, the value; `None` where a stored one is to go.
    pub(crate) effects: BTreeMap<Digest, Option<Arc<[u8]>>>,
}

/// The store, as far as this session reads it now.
#[derive(Default)]
enum Reading {
    #[default]
    Closed,
    /// There is none that could be read.
    Nothing,
    Open(Arc<Snapshot>),
}

/// What is known of an effect in this session.
#[derive(Clone)]
enum Effect {
    /// It is not known, whatever the store says.
    Forgotten,
    /// It came out so, for good.
    Lasting(Arc<[u8]>),
    /// It came out so this time.
    Passing(Arc<[u8]>),
}

/// What is remembered of an effect after this process.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Keep {
    /// What came of it now.
    Value,
    /// What came of it earlier: what came of it now says nothing about it.
    Earlier,
    /// Nothing: what came of it now cannot be kept, and contradicts what was.
    Nothing,
}

impl Session {
    pub(crate) fn new(world: World, store: Store, queries: &[&'static dyn AnyQuery]) -> Session {
        Session {
            world,
            store,
            queries: queries.iter().map(|query| (query.name(), *query)).collect(),
            events: Mutex::default(),
            staged: Mutex::default(),
            effects: Mutex::default(),
            kept: Mutex::default(),
            snapshot: Mutex::default(),
            torn: Mutex::default(),
            impure: Mutex::default(),
        }
    }

    pub(crate) fn event(&self, event: QueryEvent) {
        self.events.lock().expect("no holder panics").push(event);
    }

    pub(crate) fn staged(&self) -> MutexGuard<'_, Staged> {
        self.staged.lock().expect("no holder panics")
    }

    /// The store, opened for reading until [`Session::release`].
    pub(crate) fn snapshot(&self) -> Option<Arc<Snapshot>> {
        let mut reading = self.snapshot.lock().expect("no holder panics");
        if let Reading::Closed = *reading {
            *reading =
                self.store.open().map_or(Reading::Nothing, |open| Reading::Open(open.into()));
        }
        match &*reading {
            Reading::Open(snapshot) => Some(snapshot.clone()),
            Reading::Closed | Reading::Nothing => None,
        }
    }

    /// Lets go of the store, so that others can write to it.
    pub(crate) fn release(&self) {
        *self.snapshot.lock().expect("no holder panics") = Reading::Closed;
    }

    /// The traces of a node, this session's first; the flag says which one is the store's.
    pub(crate) fn traces(&self, node: &Node) -> impl Iterator<Item = (Trace, bool)> {
        let staged = self.staged().nodes.get(node).cloned();
        let stored = self.snapshot().and_then(|snapshot| snapshot.trace(node));
        staged.map(|trace| (trace, false)).into_iter().chain(stored.map(|trace| (trace, true)))
    }

    /// The encoded value of a node with this digest, if it was kept.
    pub(crate) fn kept(&self, node: &Node, digest: &Digest) -> Option<Arc<[u8]>> {
        let kept = self.kept.lock().expect("no holder panics").get(digest).cloned();
        kept.or_else(|| {
            let root = self.snapshot()?.root(node)?;
            (root.value == *digest).then(|| root.bytes.into())
        })
    }

    pub(crate) fn keep(&self, digest: Digest, bytes: Vec<u8>) {
        self.kept.lock().expect("no holder panics").insert(digest, bytes.into());
    }

    pub(crate) fn leaf_state(&self, leaf: &Leaf) -> LeafState {
        let Leaf::Effect(key) = leaf else {
            let State { digest, content } = self.world.state(leaf);
            return LeafState { digest, content, volatile: false };
        };
        let effect = self.effects.lock().expect("no holder panics").get(key).cloned();
        let unknown = LeafState {
            digest: Digest::of("effect unknown", b""),
            content: Some(Content::Absent),
            volatile: true,
        };
        match effect {
            Some(Effect::Forgotten) => unknown,
            Some(Effect::Lasting(bytes)) => known(bytes, false),
            Some(Effect::Passing(bytes)) => known(bytes, true),
            None => self.stored_effect(key).map_or(unknown, |bytes| known(bytes, false)),
        }
    }

    fn stored_effect(&self, key: &Digest) -> Option<Arc<[u8]>> {
        let snapshot = self.snapshot()?;
        snapshot.value(&snapshot.effect(key)?)
    }

    pub(crate) fn set_effect(&self, key: Digest, bytes: Arc<[u8]>, keep: Keep) {
        let effect = match keep {
            Keep::Value => {
                self.staged().effects.insert(key, Some(bytes.clone()));
                Effect::Lasting(bytes)
            }
            Keep::Nothing => {
                self.staged().effects.insert(key, None);
                Effect::Passing(bytes)
            }
            Keep::Earlier => Effect::Passing(bytes),
        };
        self.effects.lock().expect("no holder panics").insert(key, effect);
    }

    pub(crate) fn forget_effect(&self, key: Digest) {
        self.effects.lock().expect("no holder panics").insert(key, Effect::Forgotten);
    }

    /// What a leaf in `state` holds; `None`, and noted, when it no longer holds that.
    pub(crate) fn content(&self, leaf: &Leaf, state: &LeafState) -> Option<Content> {
        if state.content.is_some() {
            return state.content.clone();
        }
        let state = State { digest: state.digest, content: None };
        let content = self.world.content(leaf, &state);
        if content.is_none() {
            self.torn.lock().expect("no holder panics").insert(leaf.clone());
        }
        content
    }

    /// Whether a root's trace holds: every leaf is now as it was then.
    pub(crate) fn holds(&self, root: &RootTrace) -> bool {
        root.leaves.iter().all(|(leaf, digest)| match leaf {
            Leaf::Effect(key) => {
                let known = self.effects.lock().expect("no holder panics").contains_key(key);
                let stored = || self.snapshot()?.effect(key);
                !known && stored().is_some_and(|value| effect_digest(&value) == *digest)
            }
            _ => self.world.state(leaf).digest == *digest,
        })
    }

    /// The deep trace of a root with this value, by the traces of this session and the store.
    ///
    /// Another process may have written a newer trace of a node in between, which tells of another
    /// state of the world: only traces with the very values that were read are followed.
    pub(crate) fn root_trace(&self, root: &Node, value: Digest) -> Option<RootTrace> {
        let (mut leaves, mut seen) = (BTreeMap::new(), BTreeSet::new());
        let mut open = vec![(root.clone(), value)];
        while let Some((node, value)) = open.pop() {
            let (trace, _) = self.traces(&node).find(|(trace, _)| trace.value == value)?;
            for (key, digest) in trace.reads {
                match key {
                    Key::Leaf(leaf) => {
                        if *leaves.entry(leaf).or_insert(digest) != digest {
                            return None;
                        }
                    }
                    Key::Node(node) => {
                        if seen.insert((node.clone(), digest)) {
                            open.push((node, digest));
                        }
                    }
                }
            }
        }
        let bytes = self.kept(root, &value)?.to_vec();
        Some(RootTrace { value, bytes, leaves: leaves.into_iter().collect() })
    }
}

fn known(bytes: Arc<[u8]>, volatile: bool) -> LeafState {
    let digest = effect_digest(&Digest::of("value", &bytes));
    LeafState { digest, content: Some(Content::Bytes(bytes)), volatile }
}

/// The state of an effect whose value has this digest.
fn effect_digest(value: &Digest) -> Digest {
    Digest::of("effect", &value.0)
}
