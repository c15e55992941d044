//! Cancellation: what is demanded is given up when nobody wants it any more.

use std::panic::resume_unwind;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

/// Gives up, from any thread, what an engine is being asked for.
///
/// It lasts until it is ended, or the engine takes in what has changed in the world: what is asked
/// for then is wanted again.
#[derive(Clone, Debug, Default)]
pub struct Cancellation {
    cancelled: Arc<AtomicBool>,
    /// So many nodes are still looked at, so that tests can stop in the midst of anything.
    #[cfg(test)]
    fuse: Arc<std::sync::Mutex<Option<u32>>>,
}

/// What unwinds a query that was given up.
pub(crate) struct Cancelled;

impl Cancellation {
    /// Gives up whatever is being asked for, now.
    pub fn cancel(&self) {
        self.cancelled.store(true, Ordering::Relaxed);
    }

    pub(crate) fn is_cancelled(&self) -> bool {
        self.cancelled.load(Ordering::Relaxed)
    }

    /// What is asked for from now on is wanted again.
    pub fn end(&self) {
        self.cancelled.store(false, Ordering::Relaxed);
    }

    /// Unwinds if nobody wants to know any more. Nothing is remembered of what was begun: neither
    /// salsa nor the session keeps anything of a query that unwinds.
    pub(crate) fn check(&self) {
        #[cfg(test)]
        if let Some(left) = &mut *self.fuse.lock().expect("no holder panics") {
            *left = left.saturating_sub(1);
            if *left == 0 {
                self.cancel();
            }
        }
        if self.is_cancelled() {
            // Not a panic: nothing is printed.
            resume_unwind(Box::new(Cancelled));
        }
    }

    /// Cancels when so many nodes have been looked at; never when `None`.
    #[cfg(test)]
    pub(crate) fn cancel_after(&self, nodes: Option<u32>) {
        *self.fuse.lock().expect("no holder panics") = nodes;
    }
}
