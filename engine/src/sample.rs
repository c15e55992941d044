//! Samples: now and then what is remembered is computed again, and must come out equal.

use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use crate::digest::Digest;

/// How much of what is remembered is computed again.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Checking {
    /// Nothing.
    Nothing,
    /// One in so many of the nodes recalled by their own traces, as long as that takes no more
    /// than a hundredth of the time.
    Sample(u32),
    /// Every node; nothing is recalled as a root, and no stat is trusted.
    Everything,
}

/// Chooses the nodes that are computed again.
pub(crate) struct Sampler {
    checking: Checking,
    began: Instant,
    spent_ns: AtomicU64,
    /// Another one in each process, so that in time every node has its turn.
    turn: u32,
}

impl Sampler {
    pub(crate) fn new(checking: Checking) -> Sampler {
        let turn = std::process::id().wrapping_mul(0x9E37_79B9);
        Sampler { checking, began: Instant::now(), spent_ns: AtomicU64::new(0), turn }
    }

    /// Whether this value, which was recalled, is to be computed again.
    pub(crate) fn wants(&self, value: &Digest) -> bool {
        match self.checking {
            Checking::Nothing => false,
            Checking::Everything => true,
            Checking::Sample(one_in) => {
                let chance = value.0.first_chunk().map_or(0, |bytes| u32::from_le_bytes(*bytes));
                let spent = Duration::from_nanos(self.spent_ns.load(Ordering::Relaxed));
                (chance ^ self.turn).is_multiple_of(one_in) && spent * 100 <= self.began.elapsed()
            }
        }
    }

    /// Computes again, and takes the time.
    pub(crate) fn timed<T>(&self, compute: impl FnOnce() -> T) -> T {
        let began = Instant::now();
        let computed = compute();
        self.spent_ns.fetch_add(began.elapsed().as_nanos() as u64, Ordering::Relaxed);
        computed
    }
}
