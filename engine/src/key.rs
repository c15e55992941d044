//! Names of what the graph is made of: leaves, which the world sets, and nodes, which queries
//! compute.

use std::fmt;
use std::sync::{Arc, LazyLock};

use serde::{Deserialize, Serialize};

use crate::digest::Digest;

/// Something outside that a query can read. It always has a state: absence is one.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub enum Leaf {
    /// A file's content, by its path relative to the workspace, with `/`.
    File(Arc<str>),
    /// A file, or a folder with everything below it.
    Tree(Arc<str>),
    /// The names in a folder, and what each of them is.
    Listing(Arc<str>),
    /// An environment variable.
    Env(Arc<str>),
    /// Something the program states about the world, by kind and name.
    Fact(Arc<str>, Arc<str>),
    /// What came of an effect, by the key of what was asked for.
    Effect(Digest),
    /// The program itself: the sources it was built from.
    Tool,
}

/// What a query is asked about: a file, and a part of it (empty for all of it).
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Unit {
    /// Path of the file, relative to the workspace.
    pub path: Arc<str>,
    /// Part of the file.
    pub part: Arc<str>,
}

impl Unit {
    /// All of a file.
    pub fn file(path: impl Into<Arc<str>>) -> Unit {
        static WHOLE: LazyLock<Arc<str>> = LazyLock::new(|| "".into());
        Unit { path: path.into(), part: WHOLE.clone() }
    }

    /// A part of the same file.
    pub fn part(&self, part: impl Into<Arc<str>>) -> Unit {
        Unit { path: self.path.clone(), part: part.into() }
    }
}

/// A query's value for a unit.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Node {
    /// About what. First, so that a file's nodes lie together.
    pub unit: Unit,
    /// The query's name.
    pub query: &'static str,
}

/// Anything a node can depend on.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Key {
    /// Set by the world.
    Leaf(Leaf),
    /// Computed.
    Node(Node),
}

/// Whether a variable of this name looks like a secret.
pub fn looks_secret(name: &str) -> bool {
    let name = name.to_uppercase();
    ["TOKEN", "SECRET", "PASSW", "KEY", "CREDENTIAL", "AUTH"].iter().any(|s| name.contains(s))
}

impl Leaf {
    /// Whether it looks like a secret: not even a digest of it leaves the machine.
    pub(crate) fn is_secret(&self) -> bool {
        matches!(self, Leaf::Env(name) if looks_secret(name))
    }
}

impl fmt::Display for Leaf {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Leaf::File(path) => write!(f, "file {path}"),
            Leaf::Tree(path) => write!(f, "tree {path}"),
            Leaf::Listing(path) if path.is_empty() => write!(f, "listing ."),
            Leaf::Listing(path) => write!(f, "listing {path}"),
            Leaf::Env(name) => write!(f, "env {name}"),
            Leaf::Fact(kind, name) if name.is_empty() => write!(f, "{kind}"),
            Leaf::Fact(kind, name) => write!(f, "{kind} {name}"),
            Leaf::Effect(key) => write!(f, "outcome {key:?}"),
            Leaf::Tool => write!(f, "clnrm itself"),
        }
    }
}

impl fmt::Display for Unit {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.path)?;
        if self.part.is_empty() { Ok(()) } else { write!(f, "#{}", self.part) }
    }
}

impl fmt::Display for Node {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.query)?;
        let whole = self.unit.path.is_empty() && self.unit.part.is_empty();
        if whole { Ok(()) } else { write!(f, " {}", self.unit) }
    }
}

impl fmt::Display for Key {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Key::Leaf(leaf) => leaf.fmt(f),
            Key::Node(node) => node.fmt(f),
        }
    }
}
