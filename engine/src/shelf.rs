//! The store as one process reads it: opened when something is first looked up, let go of while
//! it waits for anything slow.

use std::sync::{Arc, Mutex};

use crate::store::{Snapshot, Store};

/// The store, and what of it is open.
pub(crate) struct Shelf {
    pub(crate) store: Store,
    reading: Mutex<Reading>,
}

#[derive(Default)]
enum Reading {
    #[default]
    Closed,
    /// There is none that could be read.
    Nothing,
    Open(Arc<Snapshot>),
}

impl Shelf {
    pub(crate) fn new(store: Store) -> Shelf {
        Shelf { store, reading: Mutex::default() }
    }

    /// The store, opened for reading until [`Shelf::release`].
    pub(crate) fn snapshot(&self) -> Option<Arc<Snapshot>> {
        let mut reading = self.reading.lock().expect("no holder panics");
        if let Reading::Closed = *reading {
            *reading =
                self.store.open().map_or(Reading::Nothing, |open| Reading::Open(open.into()));
        }
        match &*reading {
            Reading::Open(snapshot) => Some(snapshot.clone()),
            Reading::Closed | Reading::Nothing => None,
        }
    }

    /// Lets go of the store, so that others can write to it.
    pub(crate) fn release(&self) {
        *self.reading.lock().expect("no holder panics") = Reading::Closed;
    }
}
