//! The engine: queries with a memory that outlives the process.
//!
//! In a process salsa decides what has to be looked at again; across processes the store holds
//! traces. Four layers, each falling back to the next, all giving the same answer:
//!
//! 1. The stat index: a file whose stat is as it was left is not read.
//! 2. Root traces: a root whose leaves are all as they were keeps its value; nothing between the
//!    leaves and the root is looked at.
//! 3. Node traces: a node whose reads are all as they were, forced in recorded order, keeps its
//!    value. An executed node whose value comes out equal stops the wave: early cutoff.
//! 4. Effects: what takes long and happens outside (a container run), by the key of what was
//!    asked for.
//!
//! Every leaf always has a state, absence included, so whatever was read can be compared again.
//! Nothing here knows what the queries mean.

mod cancellation;
mod db;
mod digest;
mod engine;
mod event;
mod fault;
mod graph;
mod key;
mod memo;
#[cfg(test)]
mod proof;
mod query;
mod run;
mod sample;
mod session;
mod shelf;
mod signature;
mod store;
mod system;
mod table;
#[cfg(test)]
mod tests;
mod trace;
mod world;

pub use cancellation::Cancellation;
pub use digest::{Digest, NotADigest};
pub use engine::{Engine, Options, Stopped};
pub use event::{Counts, Impure, QueryEvent, Why};
pub use graph::Graph;
pub use key::{Key, Leaf, Node, Unit, looks_secret};
pub use query::{AnyQuery, Cx, Query};
pub use run::{Fate, Reason, Run};
pub use sample::Checking;
pub use session::Keep;
pub use signature::{Trust, Whose};
pub use store::{Collected, StoreStats, Verified, hush_caught_panics};
pub use system::{Entry, EntryKind, Kind, Memory, Opened, Os, Stat, System};
pub use world::{Content, Facts, Listed, ListedKind, OWN_FOLDER};
