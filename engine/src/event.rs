//! What the engine did, as data: for statistics, for `why`, and for tests.

use crate::digest::Digest;
use crate::key::{Key, Node};

/// One thing the engine did with a node.
#[derive(Clone, Debug, PartialEq)]
pub enum QueryEvent {
    /// Its query ran.
    Executed {
        /// The node.
        node: Node,
        /// Why it was not recalled.
        why: Why,
        /// Whether the value equals the remembered one, so that nothing above it runs for it.
        cut_off: bool,
    },
    /// Its stored trace still holds.
    Recalled(Node),
    /// So many roots of a query were recalled: their leaves are all as they were, and nothing in
    /// between was looked at.
    RootsRecalled(&'static str, u64),
}

/// Why a node was executed.
#[derive(Clone, Debug, PartialEq)]
pub enum Why {
    /// Nothing is remembered of it.
    New,
    /// The first of its reads that differs.
    Changed {
        /// What was read.
        key: Key,
        /// Its digest then.
        before: Digest,
        /// Its digest now.
        now: Digest,
    },
    /// It rests on something that is not known yet or cannot be remembered.
    Volatile(Key),
}

/// A node whose value, computed again from equal reads, came out another: its query is not pure,
/// or the store says what never was.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Impure {
    /// The node.
    pub node: Node,
    /// Digest of the value as it is remembered.
    pub remembered: Digest,
    /// Digest of the value as it was computed.
    pub computed: Digest,
}

/// How often what happened.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Counts {
    /// Queries that ran.
    pub executed: u64,
    /// Nodes and roots whose stored trace held.
    pub recalled: u64,
    /// Executed nodes whose value came out as remembered.
    pub cut_off: u64,
}

impl Counts {
    /// Of a list of events.
    pub fn of(events: &[QueryEvent]) -> Counts {
        let mut counts = Counts::default();
        for event in events {
            match event {
                QueryEvent::Executed { cut_off, .. } => {
                    counts.executed += 1;
                    counts.cut_off += u64::from(*cut_off);
                }
                QueryEvent::Recalled(_) => counts.recalled += 1,
                QueryEvent::RootsRecalled(_, many) => counts.recalled += many,
            }
        }
        counts
    }
}
