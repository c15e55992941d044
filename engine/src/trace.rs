//! Traces: what is remembered of a computed node across processes.
//!
//! The terms are those of Mokhov, Mitchell and Peyton Jones, *Build systems à la carte* (2018).

use crate::digest::Digest;
use crate::key::{Key, Leaf};

/// A verifying trace: the digest of a node's value and of everything it read, in that order.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Trace {
    /// Digest of the value.
    pub(crate) value: Digest,
    /// What was read, in the order of the first reads, each with its digest then.
    pub(crate) reads: Vec<(Key, Digest)>,
}

/// A deep trace: the digest of a root's value and of all leaves it rests on, directly or not.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct RootTrace {
    /// Digest of the value.
    pub(crate) value: Digest,
    /// The value itself, encoded: whoever asks for a root wants it.
    pub(crate) bytes: Vec<u8>,
    /// The leaves, sorted.
    pub(crate) leaves: Vec<(Leaf, Digest)>,
}

/// The state of an effect whose value has this digest.
pub(crate) fn effect_digest(value: &Digest) -> Digest {
    Digest::of("effect", &value.0)
}
