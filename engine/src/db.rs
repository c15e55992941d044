//! The salsa database: every leaf and every node is one input, and one tracked function computes
//! them all.

use std::collections::HashMap;
use std::sync::{Arc, Mutex};

use salsa::{Durability, Setter};

use crate::digest::Digest;
use crate::fault::{self, Fault};
use crate::key::{Leaf, Node};
use crate::memo::Memo;
use crate::session::Session;

/// A leaf of the world, as salsa sees it.
#[salsa::input]
pub(crate) struct LeafCell {
    #[returns(copy)]
    pub(crate) state: LeafState,
}

/// How a leaf is.
#[derive(Clone, Copy, PartialEq)]
pub(crate) struct LeafState {
    pub(crate) digest: Digest,
    /// Whether what rests on it must not be remembered.
    pub(crate) volatile: bool,
}

/// The name of a node; it never changes.
#[salsa::input]
pub(crate) struct NodeCell {
    #[returns(ref)]
    pub(crate) node: Node,
}

/// The value of a node: recalled from its trace, or computed.
#[salsa::tracked(returns(ref))]
pub(crate) fn memo(db: &dyn Db, cell: NodeCell) -> Memo {
    crate::memo::recall_or_execute(db, cell.node(db))
}

/// What queries run on.
#[salsa::db]
pub(crate) trait Db: salsa::Database {
    fn session(&self) -> &Session;
    fn leaf_cell(&self, leaf: &Leaf) -> LeafCell;
    fn node_cell(&self, node: &Node) -> NodeCell;
}

/// The one implementation; a clone is a handle for another thread.
#[salsa::db]
#[derive(Clone)]
pub(crate) struct Database {
    storage: salsa::Storage<Self>,
    session: Arc<Session>,
    cells: Arc<Cells>,
}

/// Inputs by name. Salsa never frees an input, so each name keeps its own.
#[derive(Default)]
struct Cells {
    leaves: Mutex<HashMap<Leaf, LeafCell>>,
    nodes: Mutex<HashMap<Node, NodeCell>>,
}

#[salsa::db]
impl salsa::Database for Database {}

#[salsa::db]
impl Db for Database {
    fn session(&self) -> &Session {
        &self.session
    }

    fn leaf_cell(&self, leaf: &Leaf) -> LeafCell {
        if let Some(cell) = self.cells.leaves.lock().expect("no holder panics").get(leaf) {
            return *cell;
        }
        // Looked at without the lock: it may be a large file.
        let state = self.session.leaf_state(leaf);
        let mut cells = self.cells.leaves.lock().expect("no holder panics");
        *cells.entry(leaf.clone()).or_insert_with(|| {
            LeafCell::builder(state).state_durability(durability(leaf)).new(self)
        })
    }

    fn node_cell(&self, node: &Node) -> NodeCell {
        let mut cells = self.cells.nodes.lock().expect("no holder panics");
        if let Some(cell) = cells.get(node) {
            return *cell;
        }
        let cell = NodeCell::builder(node.clone()).node_durability(Durability::HIGH).new(self);
        cells.insert(node.clone(), cell);
        cell
    }
}

/// How seldom a leaf changes while the program runs.
fn durability(leaf: &Leaf) -> Durability {
    match leaf {
        Leaf::File(_) | Leaf::Tree(_) | Leaf::Listing(_) | Leaf::Effect(_) => Durability::LOW,
        Leaf::Fact(..) => Durability::MEDIUM,
        Leaf::Env(_) | Leaf::Tool => Durability::HIGH,
    }
}

impl Database {
    pub(crate) fn new(session: Arc<Session>) -> Database {
        Database { storage: salsa::Storage::default(), session, cells: Arc::default() }
    }

    /// Sets a leaf to what the session now says, if queries have seen it otherwise; salsa itself
    /// does not compare.
    pub(crate) fn refresh(&mut self, leaf: &Leaf) {
        if fault::is(Fault::InputsNotRefreshed) {
            return;
        }
        let seen = self.cell(leaf).map(|cell| cell.state(self));
        if seen.is_some_and(|seen| seen != self.session.leaf_state(leaf)) {
            self.renew(leaf);
        }
    }

    /// Sets a leaf to what the session now says, and lets everything that read it be looked at
    /// again. The one place where inputs change.
    pub(crate) fn renew(&mut self, leaf: &Leaf) {
        let now = self.session.leaf_state(leaf);
        if let Some(cell) = self.cell(leaf) {
            cell.set_state(self).with_durability(durability(leaf)).to(now);
        }
    }

    fn cell(&self, leaf: &Leaf) -> Option<LeafCell> {
        self.cells.leaves.lock().expect("no holder panics").get(leaf).copied()
    }
}
