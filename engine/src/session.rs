//! What one process knows besides salsa's memos: the world as seen, traces and values that are
//! not stored yet, effects, and what happened.

use std::collections::{BTreeMap, BTreeSet, HashMap, HashSet};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard};

use rayon::prelude::*;

use crate::cancellation::Cancellation;
use crate::db::LeafState;
use crate::digest::Digest;
use crate::event::{Impure, QueryEvent};
use crate::fault::{self, Fault};
use crate::key::{Key, Leaf, Node, Unit};
use crate::query::AnyQuery;
use crate::sample::{Checking, Sampler};
use crate::shelf::Shelf;
use crate::store::{EffectRow, RootsRow, Signed, Snapshot, UnitTraces};
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
    pub(crate) cancellation: Cancellation,
    /// Whether roots may be recalled.
    recalls_roots: bool,
    /// Whether there are outcomes that the store did not have.
    pub(crate) has_grown: AtomicBool,
}

/// More leaves of one root than this are looked at on all cores.
const MANY: usize = 32;

/// What is to be stored.
#[derive(Default)]
pub(crate) struct Staged {
    pub(crate) nodes: HashMap<Node, Arc<Trace>>,
    pub(crate) roots: HashMap<Node, Digest>,
    /// By key, the value; `None` where a stored one is to go.
    pub(crate) effects: BTreeMap<Digest, Option<Signed>>,
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
            cancellation: Cancellation::default(),
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
            if !self.shelf.store.keys().believe_all() {
                return None;
            }
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
                let EffectRow { value, by, .. } = snapshot.effect(key)?;
                if !self.shelf.store.keys().believe(key, &value, &by) {
                    return None;
                }
                self.staged().used.insert(*key);
                return Some((effect_digest(&value), snapshot.value(&value)?, false));
            }
        };
        Some((effect_digest(&Digest::of("value", &value)), value, volatile))
    }

    pub(crate) fn set_effect(&self, key: Digest, bytes: Arc<[u8]>, keep: Keep) {
        let keep = if fault::is(Fault::PassingEffectStored) { Keep::Value } else { keep };
        let effect = match keep {
            Keep::Value => {
                self.has_grown.store(true, Ordering::Relaxed);
                let by = self.shelf.store.keys().sign(&key, &Digest::of("value", &bytes));
                self.staged().effects.insert(key, Some(Signed { value: bytes.clone(), by }));
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
            Leaf::Effect(key) => !self.effects.lock().expect("no holder panics").contains_key(key),
            Leaf::Env(_) if fault::is(Fault::RootsIgnoreEnv) => true,
            _ => self.world.digest(leaf) == digest,
        }
    }

    /// Fills in what `see` makes of the values of those roots of one folder whose deep traces still
    /// hold.
    pub(crate) fn recall<T>(
        &self,
        query: &str,
        units: &[Unit],
        see: impl Fn(&[u8]) -> Option<T>,
        found: &mut [Option<T>],
    ) {
        // A root may have been written by anybody, and says whatever they wanted.
        if !self.recalls_roots || !self.shelf.store.keys().believe_all() {
            return;
        }
        // What a stored root says of an effect is what the store says of it, as long as nothing
        // else is known of any.
        let all_effects_hold = self.effects.lock().expect("no holder panics").is_empty();
        let hold = |folder: &str, row: &RootsRow<'_>, found: &[Option<usize>]| {
            let mut leaves = vec![None; row.leaves.len()];
            let wanted: BTreeSet<u32> = {
                let sets: BTreeSet<usize> = found.iter().flatten().map(|at| row.set(*at)).collect();
                sets.into_iter().flat_map(|set| &row.sets[set]).copied().collect()
            };
            let asks = |number: &&u32| matches!(row.leaves[**number as usize].0, Leaf::Fact(..));
            // Who is asked takes his time, so all are asked at once.
            if wanted.len() > MANY || wanted.iter().filter(asks).count() > 1 {
                let look = |number: u32| {
                    let (leaf, digest) = &row.leaves[number as usize];
                    (number, self.holds(leaf, *digest))
                };
                for (number, holds) in wanted.into_par_iter().map(look).collect::<Vec<_>>() {
                    leaves[number as usize] = Some(holds);
                }
            }
            let mut leaf_holds = |number: &u32| {
                let (leaf, digest) = &row.leaves[*number as usize];
                *leaves[*number as usize].get_or_insert_with(|| self.holds(leaf, *digest))
            };
            let mut sets = vec![None; row.sets.len()];
            let mut set_holds = |number: usize| {
                let all = || row.sets[number].iter().all(&mut leaf_holds);
                *sets[number].get_or_insert_with(all)
            };
            let effects_hold = |at: usize| {
                all_effects_hold
                    || row.effects(at).all(|(key, state)| self.holds(&Leaf::Effect(key), state))
            };
            let mut holds = |at: &usize| set_holds(row.set(*at)) && effects_hold(*at);
            let open: Vec<Option<usize>> =
                found.iter().map(|at| at.filter(|at| holds(at))).collect();
            let own = open.iter().flatten().filter_map(|at| Some((*at, row.own_file(*at)?)));
            let own: Vec<(usize, Digest)> = own.collect();
            let names: Vec<&str> = own.iter().map(|(at, _)| row.file(*at)).collect();
            let now = self.world.digests(folder, &names);
            let changed = own.iter().zip(now).filter(|((_, then), now)| then != now);
            let changed: HashSet<usize> = changed.map(|((at, _), _)| *at).collect();
            let changed =
                if fault::is(Fault::RootsIgnoreOwnFile) { HashSet::new() } else { changed };
            open.into_iter().map(|at| at.filter(|at| !changed.contains(at))).collect()
        };
        self.stored_roots(query, units, hold, see, found);
    }

    /// Fills in what `see` makes of the values roots of one folder had when they were written down.
    pub(crate) fn last<T>(
        &self,
        query: &str,
        units: &[Unit],
        see: impl Fn(&[u8]) -> Option<T>,
        found: &mut [Option<T>],
    ) {
        self.stored_roots(query, units, |_, _, stored| stored.to_vec(), see, found);
    }

    /// Fills in what `see` makes of those roots of one folder that are good enough, by their
    /// numbers.
    fn stored_roots<T>(
        &self,
        query: &str,
        units: &[Unit],
        good: impl Fn(&str, &RootsRow<'_>, &[Option<usize>]) -> Vec<Option<usize>>,
        see: impl Fn(&[u8]) -> Option<T>,
        found: &mut [Option<T>],
    ) {
        let Some((first, snapshot)) = units.first().zip(self.snapshot()) else { return };
        let folder = split(&first.path).0;
        snapshot.roots(query, folder, |row| {
            let mut hint = 0;
            let find = |unit: &Unit| {
                let at = row.find(split(&unit.path).1, &unit.part, hint)?;
                hint = at + 1;
                Some(at)
            };
            let stored: Vec<Option<usize>> = units.iter().map(find).collect();
            for (found, at) in found.iter_mut().zip(good(folder, row, &stored)) {
                *found = at.and_then(|at| see(row.value(at)));
            }
        });
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
