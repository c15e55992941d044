//! Runs: what one process did with each node and why, kept for the last few of them.

use serde::{Deserialize, Serialize};

use crate::digest::Digest;
use crate::event::{QueryEvent, Why};

/// One process that did something.
#[derive(Clone, Debug, PartialEq)]
pub struct Run {
    /// When it ended, in seconds since the epoch.
    pub seconds: u64,
    /// What was asked for.
    pub command: String,
    /// Roots that were recalled without a look at their nodes.
    pub roots_recalled: u64,
    /// Unit, query, and what was done, in the order in which it was.
    pub nodes: Vec<(String, String, Fate)>,
}

/// What was done with a node.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub enum Fate {
    /// Its trace still held.
    Recalled,
    /// Its query ran.
    Executed {
        /// Why.
        why: Reason,
        /// Whether the value came out as it was, so that nothing above it ran for it.
        cut_off: bool,
    },
}

/// Why a query ran; see [`Why`].
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub enum Reason {
    /// Nothing was remembered of it.
    New,
    /// Something it had read was another: the first in the order of reading.
    Changed {
        /// What it had read.
        what: String,
        /// Its digest then.
        before: Digest,
        /// Its digest now.
        now: Digest,
    },
    /// It rested on something that was not known yet.
    Volatile(String),
}

/// A run as it is stored. Most units are named many times, most queries very often.
#[derive(Serialize, Deserialize)]
struct Row {
    seconds: u64,
    command: String,
    roots_recalled: u64,
    units: Vec<String>,
    queries: Vec<String>,
    /// Numbers of unit and query.
    nodes: Vec<(u32, u32, Fate)>,
}

impl Run {
    /// What events tell; `None` when they tell of no node.
    pub(crate) fn new(seconds: u64, command: &str, events: Vec<QueryEvent>) -> Option<Run> {
        let (mut roots_recalled, mut nodes) = (0, Vec::new());
        for event in events {
            match event {
                QueryEvent::RootsRecalled(_, many) => roots_recalled += many,
                QueryEvent::Recalled(node) => {
                    nodes.push((node.unit.to_string(), node.query.to_owned(), Fate::Recalled));
                }
                QueryEvent::Executed { node, why, cut_off } => {
                    let why = match why {
                        Why::New => Reason::New,
                        Why::Changed { key, before, now } => {
                            Reason::Changed { what: key.to_string(), before, now }
                        }
                        Why::Volatile(key) => Reason::Volatile(key.to_string()),
                    };
                    let fate = Fate::Executed { why, cut_off };
                    nodes.push((node.unit.to_string(), node.query.to_owned(), fate));
                }
            }
        }
        let command = command.to_owned();
        (!nodes.is_empty()).then_some(Run { seconds, command, roots_recalled, nodes })
    }

    pub(crate) fn encode(&self) -> Vec<u8> {
        let (mut units, mut queries) = (Names::default(), Names::default());
        let number = |(unit, query, fate): &(String, String, Fate)| {
            (units.number(unit), queries.number(query), fate.clone())
        };
        let nodes = self.nodes.iter().map(number).collect();
        let Run { seconds, roots_recalled, .. } = *self;
        let command = self.command.clone();
        let (units, queries) = (units.names, queries.names);
        postcard::to_stdvec(&Row { seconds, command, roots_recalled, units, queries, nodes })
            .expect("a run is plain data")
    }

    pub(crate) fn decode(bytes: &[u8]) -> Option<Run> {
        let row: Row = postcard::from_bytes(bytes).ok()?;
        let name = |names: &[String], number: u32| names.get(number as usize).cloned();
        let node = |(unit, query, fate): (u32, u32, Fate)| {
            Some((name(&row.units, unit)?, name(&row.queries, query)?, fate))
        };
        let nodes = row.nodes.into_iter().map(node).collect::<Option<_>>()?;
        let Row { seconds, command, roots_recalled, .. } = row;
        Some(Run { seconds, command, roots_recalled, nodes })
    }
}

/// Names in the order in which they are first met.
#[derive(Default)]
struct Names {
    numbers: std::collections::HashMap<String, u32>,
    names: Vec<String>,
}

impl Names {
    fn number(&mut self, name: &str) -> u32 {
        if let Some(number) = self.numbers.get(name) {
            return *number;
        }
        let number = self.names.len() as u32;
        self.names.push(name.to_owned());
        self.numbers.insert(name.to_owned(), number);
        number
    }
}
