//! Memos: recall a node by its trace, or run its query.

use std::cell::RefCell;
use std::sync::{Arc, Mutex, PoisonError};

use crate::db::Db;
use crate::digest::Digest;
use crate::event::{Impure, QueryEvent, Why};
use crate::fault::{self, Fault};
use crate::key::{Key, Node};
use crate::query::{AnyQuery, Cx, Value};
use crate::trace::Trace;

/// The digest of a node's value, and the value once somebody has needed it.
///
/// Memos are equal when their digests are, so salsa backdates for free: that is early cutoff.
#[derive(Clone)]
pub(crate) struct Memo {
    pub(crate) digest: Digest,
    /// Whether it rests on something that must not be remembered.
    pub(crate) volatile: bool,
    value: Slot,
}

/// A value, while it is held.
#[derive(Clone, Default)]
struct Slot(Arc<Mutex<Option<Value>>>);

impl Slot {
    fn get(&self) -> Option<Value> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    fn set(&self, value: Option<Value>) {
        *self.0.lock().unwrap_or_else(PoisonError::into_inner) = value;
    }
}

thread_local! {
    /// The values of this file's nodes that were made on this thread since it was last cleared.
    static MADE: RefCell<Vec<(Node, Slot)>> = const { RefCell::new(Vec::new()) };
}

/// Lets go of the values that were made on this thread on the way to a root and belong to its file
/// alone: nobody else needs them, and they can be made again. The digests stay.
pub(crate) fn let_go(root: &Node) {
    let made = MADE.take();
    let own = |(node, _): &&(Node, Slot)| node.unit.path == root.unit.path && node != root;
    made.iter().filter(own).for_each(|(_, slot)| slot.set(None));
}

fn hold(node: &Node, slot: &Slot, value: Value) {
    slot.set(Some(value));
    MADE.with_borrow_mut(|made| made.push((node.clone(), slot.clone())));
}

impl PartialEq for Memo {
    fn eq(&self, other: &Memo) -> bool {
        if fault::is(Fault::EveryMemoEqual) {
            return true;
        }
        (self.digest, self.volatile) == (other.digest, other.volatile)
    }
}

/// A node's memo and value.
pub(crate) fn demand(db: &dyn Db, node: &Node) -> (Memo, Value) {
    let mut memo = crate::db::memo(db, db.node_cell(node)).clone();
    if let Some(value) = memo.value.get() {
        return (memo, value);
    }
    let (value, volatile) = materialise(db, node, &memo);
    if volatile {
        // What was read is not what the memo was made from: the value is for this once.
        memo.volatile = true;
        return (memo, value);
    }
    // Somebody else may have been faster; either value will do.
    hold(node, &memo.value, value.clone());
    (memo, value)
}

/// Recalls `node` if one of its traces holds, else runs its query.
pub(crate) fn recall_or_execute(db: &dyn Db, node: &Node) -> Memo {
    let session = db.session();
    session.cancellation.check();
    let (mut why, mut remembered) = (Why::New, Vec::new());
    for stored in [false, true] {
        if !stored && fault::is(Fault::StagedIgnored) {
            continue;
        }
        // This session's first: it may be the only one that knows the world as it is again.
        let trace = if stored { session.stored_trace(node) } else { session.staged_trace(node) };
        let Some(trace) = trace else { continue };
        match first_difference(db, &trace) {
            None => {
                if stored && fault::is(Fault::StoredHitLeavesStaged) {
                    session.event(QueryEvent::Recalled(node.clone()));
                } else if stored {
                    // What this session computed meanwhile no longer describes the world.
                    session.staged().nodes.remove(node);
                    session.event(QueryEvent::Recalled(node.clone()));
                }
                let memo = Memo { digest: trace.value, volatile: false, value: Slot::default() };
                if stored && session.sampler.wants(&trace.value) {
                    let (value, volatile) = session.sampler.timed(|| compute(db, node, &memo));
                    if !volatile {
                        hold(node, &memo.value, value);
                    }
                }
                return memo;
            }
            Some(difference) => why = difference,
        }
        remembered.push(trace.value);
    }
    execute(db, node, why, &remembered)
}

/// The first of a trace's reads, in their order, that is no longer as it was.
///
/// The order makes it safe to demand reads: a later one may make no sense when an earlier differs.
fn first_difference(db: &dyn Db, trace: &Trace) -> Option<Why> {
    let verified = if fault::is(Fault::OnlyFirstReadVerified) { 1 } else { usize::MAX };
    trace.reads.iter().take(verified).find_map(|(key, before)| {
        if fault::is(Fault::LeavesNotVerified) && matches!(key, Key::Leaf(_)) {
            return None;
        }
        let (now, volatile) = force(db, key);
        if volatile {
            Some(Why::Volatile(key.clone()))
        } else if now != *before {
            Some(Why::Changed { key: key.clone(), before: *before, now })
        } else {
            None
        }
    })
}

/// The digest of anything that can be read, computed if need be.
fn force(db: &dyn Db, key: &Key) -> (Digest, bool) {
    match key {
        Key::Leaf(leaf) => {
            let state = db.leaf_cell(leaf).state(db);
            (state.digest, state.volatile)
        }
        Key::Node(node) => {
            let memo = crate::db::memo(db, db.node_cell(node));
            (memo.digest, memo.volatile)
        }
    }
}

fn execute(db: &dyn Db, node: &Node, why: Why, remembered: &[Digest]) -> Memo {
    let session = db.session();
    let query = query_of(db, node);
    let cx = Cx::new(db);
    let (value, bytes) = query.execute(&cx, &node.unit);
    let digest = Digest::of("value", &bytes);
    let reads = cx.into_reads();
    let volatile = reads.volatile.is_some();
    let why = match reads.volatile {
        Some(key) if why == Why::New => Why::Volatile(key),
        _ => why,
    };
    if !volatile {
        let trace = Trace { value: digest, reads: reads.in_order };
        session.staged().nodes.insert(node.clone(), Arc::new(trace));
        if query.is_kept() {
            session.keep(digest, bytes);
        }
    }
    let cut_off = !volatile && remembered.contains(&digest);
    session.event(QueryEvent::Executed { node: node.clone(), why, cut_off });
    let slot = Slot::default();
    hold(node, &slot, value);
    Memo { digest, volatile, value: slot }
}

/// The value of a recalled node: from the store where it is kept, else computed again; and whether
/// the world has moved on meanwhile, so that it may be another value.
fn materialise(db: &dyn Db, node: &Node, memo: &Memo) -> (Value, bool) {
    let session = db.session();
    let query = query_of(db, node);
    if query.is_kept() {
        let stored = session.kept(node, &memo.digest).and_then(|bytes| query.decode(&bytes));
        if let Some(value) = stored {
            return (value, false);
        }
    }
    compute(db, node, memo)
}

/// The value of a node whose memo is known, computed; equal reads must give an equal value.
fn compute(db: &dyn Db, node: &Node, memo: &Memo) -> (Value, bool) {
    let session = db.session();
    session.cancellation.check();
    let query = query_of(db, node);
    let cx = Cx::new(db);
    let (value, bytes) = query.execute(&cx, &node.unit);
    let volatile = cx.into_reads().volatile.is_some();
    if volatile {
        return (value, true);
    }
    let computed = Digest::of("value", &bytes);
    if computed != memo.digest {
        let node = node.clone();
        let impure = Impure { node, remembered: memo.digest, computed };
        session.impure.lock().expect("no holder panics").insert(impure);
    } else if query.is_kept() {
        session.keep(memo.digest, bytes);
    }
    (value, false)
}

fn query_of(db: &dyn Db, node: &Node) -> &'static dyn AnyQuery {
    *db.session().queries.get(node.query).expect("traces of other programs are never recalled")
}
