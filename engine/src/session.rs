//! What one process knows besides salsa's memos: the world as seen, traces and values that are
//! not stored yet, effects, and what happened.

use std::collections::{BTreeMap, BTreeSet, HashMap, HashSet};
use std::ops::{Deref, Range};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard};

use crate::db::LeafState;
use crate::digest::Digest;
use crate::event::{Impure, QueryEvent};
use crate::fault::{self, Fault};
use crate::key::{Key, Leaf, Node, Unit};
use crate::query::AnyQuery;
use crate::sample::{Checking, Sampler};
use crate::shelf::Shelf;
use crate::store::{RootsRow, Snapshot, UnitTraces};
use crate::trace::{RootTrace, Trace, effect_digest};
use crate::world::{Content, World, split};

pub(crate) struct Session {
    pub(crate) world: World,
    pub(crate) shelf: Arc<Shelf>,
    pub(crate) queries: HashMap<&'static str, &'static dyn AnyQuery>,
    pub(crate) events: Mutex<Vec<QueryEvent>>,
    /// Events that were taken, for the record of this run.
    pub(crate) told: Mutex<Vec<QueryEvent>>,
    pub(crate) staged: Mutex<Staged>,
    /// Traces that were looked up in the store.
    stored: Mutex<HashMap<Unit, UnitTraces>>,
    effects: Mutex<HashMap<Digest, Effect>>,
    /// Encoded values of this session, by digest.
    kept: Mutex<HashMap<Digest, Arc<[u8]>>>,
    /// Leaves whose content turned out to be another than their digest says.
    pub(crate) torn: Mutex<BTreeSet<Leaf>>,
    pub(crate) impure: Mutex<BTreeSet<Impure>>,
    pub(crate) sampler: Sampler,
    /// Whether roots may be recalled.
    recalls_roots: bool,
    /// Whether there are outcomes that the store did not have.
    pub(crate) has_grown: AtomicBool,
}

/// What is to be stored.
#[derive(Default)]
pub(crate) struct Staged {
    pub(crate) nodes: HashMap<Node, Arc<Trace>>,
    pub(crate) roots: HashMap<Node, Digest>,
    /// By key, the value; `None` where a stored one is to go.
    pub(crate) effects: BTreeMap<Digest, Option<Arc<[u8]>>>,
    /// Keys of effects that were read from the store.
    pub(crate) used: BTreeSet<Digest>,
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

/// A root's value as it is stored.
#[derive(Clone, Debug)]
pub struct Encoded {
    row: Arc<[u8]>,
    range: Range<usize>,
}

impl Deref for Encoded {
    type Target = [u8];

    fn deref(&self) -> &[u8] {
        &self.row[self.range.clone()]
    }
}

impl Session {
    pub(crate) fn new(
        world: World,
        shelf: Arc<Shelf>,
        queries: &[&'static dyn AnyQuery],
        checking: Checking,
    ) -> Session {
        Session {
            world,
            shelf,
            queries: queries.iter().map(|query| (query.name(), *query)).collect(),
            events: Mutex::default(),
            told: Mutex::default(),
            staged: Mutex::default(),
            stored: Mutex::default(),
            effects: Mutex::default(),
            kept: Mutex::default(),
            torn: Mutex::default(),
            impure: Mutex::default(),
            sampler: Sampler::new(checking),
            recalls_roots: checking != Checking::Everything,
            has_grown: AtomicBool::new(false),
        }
    }

    pub(crate) fn event(&self, event: QueryEvent) {
        self.events.lock().expect("no holder panics").push(event);
    }

    pub(crate) fn staged(&self) -> MutexGuard<'_, Staged> {
        self.staged.lock().expect("no holder panics")
    }

    pub(crate) fn snapshot(&self) -> Option<Arc<Snapshot>> {
        self.shelf.snapshot()
    }

    /// The trace of a node that this session has made and not written down yet.
    pub(crate) fn staged_trace(&self, node: &Node) -> Option<Arc<Trace>> {
        self.staged().nodes.get(node).cloned()
    }

    /// The trace of a node that is stored.
    pub(crate) fn stored_trace(&self, node: &Node) -> Option<Arc<Trace>> {
        if let Some(traces) = self.stored.lock().expect("no holder panics").get(&node.unit) {
            return traces.get(node.query).cloned();
        }
        let traces = self.snapshot()?.unit(&node.unit).unwrap_or_default();
        let mut stored = self.stored.lock().expect("no holder panics");
        stored.entry(node.unit.clone()).or_insert(traces).get(node.query).cloned()
    }

    /// Forgets what was read of the store, which is about to be another.
    pub(crate) fn forget_stored(&self) {
        self.stored.lock().expect("no holder panics").clear();
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
        match leaf {
            Leaf::Effect(key) => match self.effect(key) {
                Some((digest, _, volatile)) => LeafState { digest, volatile },
                None => LeafState { digest: unknown_effect(), volatile: true },
            },
            _ => LeafState { digest: self.world.digest(leaf), volatile: false },
        }
    }

    /// What is known of an effect: its state, its value, and whether it is for this time only.
    pub(crate) fn effect(&self, key: &Digest) -> Option<(Digest, Arc<[u8]>, bool)> {
        let effect = self.effects.lock().expect("no holder panics").get(key).cloned();
        let (value, volatile) = match effect {
            Some(Effect::Forgotten) => return None,
            Some(Effect::Lasting(value)) => (value, false),
            Some(Effect::Passing(value)) => (value, true),
            None => {
                let snapshot = self.snapshot()?;
                let digest = snapshot.effect(key)?;
                self.staged().used.insert(*key);
                return Some((effect_digest(&digest), snapshot.value(&digest)?, false));
            }
        };
        Some((effect_digest(&Digest::of("value", &value)), value, volatile))
    }

    pub(crate) fn set_effect(&self, key: Digest, bytes: Arc<[u8]>, keep: Keep) {
        let keep = if fault::is(Fault::PassingEffectStored) { Keep::Value } else { keep };
        let effect = match keep {
            Keep::Value => {
                self.has_grown.store(true, Ordering::Relaxed);
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
        if fault::is(Fault::ForgottenEffectRecalled) {
            return;
        }
        self.effects.lock().expect("no holder panics").insert(key, Effect::Forgotten);
    }

    /// What a leaf with this digest holds; `None`, and noted, when it no longer holds that.
    pub(crate) fn content(&self, leaf: &Leaf, digest: Digest) -> Option<Content> {
        let content = match leaf {
            Leaf::Effect(_) if digest == unknown_effect() => Some(Content::Absent),
            Leaf::Effect(key) => self
                .effect(key)
                .filter(|(state, ..)| *state == digest)
                .map(|(_, value, _)| Content::Bytes(value)),
            _ => self.world.content(leaf, digest),
        };
        if content.is_none() {
            self.torn.lock().expect("no holder panics").insert(leaf.clone());
        }
        content
    }

    /// Whether a leaf of a stored root is as it was then.
    fn holds(&self, leaf: &Leaf, digest: Digest) -> bool {
        match leaf {
            // What a stored root says of an effect is what the store says of it.
            Leaf::Effect(key) => !self.effects.lock().expect("no holder panics").contains_key(key),
            Leaf::Env(_) if fault::is(Fault::RootsIgnoreEnv) => true,
            _ => self.world.digest(leaf) == digest,
        }
    }

    /// The values of those roots of one folder whose deep traces still hold.
    pub(crate) fn recall(&self, query: &str, units: &[Unit]) -> Vec<Option<Encoded>> {
        if !self.recalls_roots {
            return vec![None; units.len()];
        }
        self.stored_roots(query, units, |folder, row, found| {
            let mut leaves = vec![None; row.leaves.len()];
            let mut leaf_holds = |number: &u32| {
                let (leaf, digest) = &row.leaves[*number as usize];
                *leaves[*number as usize].get_or_insert_with(|| self.holds(leaf, *digest))
            };
            let mut sets = vec![None; row.sets.len()];
            let mut set_holds = |number: usize| {
                let all = || row.sets[number].iter().all(&mut leaf_holds);
                *sets[number].get_or_insert_with(all)
            };
            let open: Vec<Option<usize>> =
                found.iter().map(|at| at.filter(|at| set_holds(row.set(*at)))).collect();
            let own = open.iter().flatten().filter_map(|at| Some((*at, row.own_file(*at)?)));
            let own: Vec<(usize, Digest)> = own.collect();
            let names: Vec<&str> = own.iter().map(|(at, _)| row.file(*at)).collect();
            let now = self.world.digests(folder, &names);
            let changed = own.iter().zip(now).filter(|((_, then), now)| then != now);
            let changed: HashSet<usize> = changed.map(|((at, _), _)| *at).collect();
            let changed =
                if fault::is(Fault::RootsIgnoreOwnFile) { HashSet::new() } else { changed };
            open.into_iter().map(|at| at.filter(|at| !changed.contains(at))).collect()
        })
    }

    /// The values roots of one folder had when they were written down.
    pub(crate) fn last(&self, query: &str, units: &[Unit]) -> Vec<Option<Encoded>> {
        self.stored_roots(query, units, |_, _, found| found.to_vec())
    }

    /// The values of those roots of one folder that are good enough, by their numbers.
    fn stored_roots(
        &self,
        query: &str,
        units: &[Unit],
        good: impl Fn(&str, &RootsRow<'_>, &[Option<usize>]) -> Vec<Option<usize>>,
    ) -> Vec<Option<Encoded>> {
        let recall = || {
            let folder = split(&units.first()?.path).0;
            let snapshot = self.snapshot()?;
            let bytes = snapshot.roots(query, folder)?;
            let row = snapshot.decode_roots(&bytes)?;
            let mut hint = 0;
            let find = |unit: &Unit| {
                let at = row.find(split(&unit.path).1, &unit.part, hint)?;
                hint = at + 1;
                Some(at)
            };
            let found: Vec<Option<usize>> = units.iter().map(find).collect();
            let encoded = |at: Option<usize>| {
                let (value, from_end) = row.value(at?);
                let begin = bytes.len() - from_end;
                Some(Encoded { row: bytes.clone(), range: begin..begin + value.len() })
            };
            Some(good(folder, &row, &found).into_iter().map(encoded).collect())
        };
        recall().unwrap_or_else(|| vec![None; units.len()])
    }

    /// The deep trace of a root with this value, by the traces of this session and the store.
    ///
    /// Another process may have written a newer trace of a node in between, which tells of another
    /// state of the world: only traces with the very values that were read are followed.
    pub(crate) fn root_trace(&self, root: &Node, value: Digest) -> Option<RootTrace> {
        let (mut leaves, mut seen) = (HashMap::new(), HashSet::new());
        let mut open = vec![(root.clone(), value)];
        while let Some((node, value)) = open.pop() {
            let trace = self
                .staged_trace(&node)
                .filter(|trace| trace.value == value)
                .or_else(|| self.stored_trace(&node).filter(|trace| trace.value == value))?;
            for (key, digest) in &trace.reads {
                match key {
                    Key::Leaf(leaf) => {
                        if *leaves.entry(leaf.clone()).or_insert(*digest) != *digest {
                            return None;
                        }
                    }
                    Key::Node(_) if fault::is(Fault::ShallowRoots) => {}
                    Key::Node(node) => {
                        if seen.insert((node.clone(), *digest)) {
                            open.push((node.clone(), *digest));
                        }
                    }
                }
            }
        }
        let bytes = self.kept(root, &value)?.to_vec();
        let mut leaves: Vec<(Leaf, Digest)> = leaves.into_iter().collect();
        leaves.sort();
        Some(RootTrace { value, bytes, leaves })
    }
}

fn unknown_effect() -> Digest {
    Digest::of("effect unknown", b"")
}
