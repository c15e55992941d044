//! A folder's part of the stat index: what is known of its files and of its listing.

use std::sync::Arc;

use serde::{Deserialize, Serialize};

use crate::digest::Digest;
use crate::system::Stat;

/// What was seen of a file or a listing when it was last looked at.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) struct Seen {
    /// Its stat, if that is enough to tell that nothing has changed since.
    pub(super) stat: Option<Stat>,
    pub(super) digest: Digest,
}

/// What is known of something in a folder.
#[derive(Clone, Copy, Debug, Default)]
struct State {
    seen: Option<Seen>,
    /// Whether that is how it is now.
    current: bool,
}

/// The states of a folder's files, and of its listing.
#[derive(Debug, Default)]
pub(super) struct Folder {
    /// Sorted by name.
    files: Vec<(Arc<str>, State)>,
    listing: State,
    /// Whether the index differs from the stored one.
    changed: bool,
}

/// What is stored of a folder.
#[derive(Debug, Default, PartialEq, Serialize, Deserialize)]
pub(crate) struct FolderIndex {
    listing: Option<(Stat, Digest)>,
    /// Sorted by name.
    files: Vec<(Arc<str>, Stat, Digest)>,
}

impl Folder {
    pub(super) fn new(index: FolderIndex) -> Folder {
        let state =
            |stat, digest| State { seen: Some(Seen { stat: Some(stat), digest }), current: false };
        let files = index.files.into_iter();
        Folder {
            files: files.map(|(name, stat, digest)| (name, state(stat, digest))).collect(),
            listing: index.listing.map(|(stat, digest)| state(stat, digest)).unwrap_or_default(),
            changed: false,
        }
    }

    /// What is stored of it, if that was changed since it was last asked for.
    pub(super) fn take_changed(&mut self) -> Option<FolderIndex> {
        let trusted = |state: &State| {
            let seen = state.seen?;
            Some((seen.stat?, seen.digest))
        };
        std::mem::take(&mut self.changed).then(|| FolderIndex {
            listing: trusted(&self.listing),
            files: self
                .files
                .iter()
                .filter_map(|(name, state)| {
                    trusted(state).map(|(stat, digest)| (name.clone(), stat, digest))
                })
                .collect(),
        })
    }

    /// What was last seen of a file, or of the listing when there is no name.
    pub(super) fn seen(&self, name: Option<&str>) -> Option<Seen> {
        self.state(name)?.seen
    }

    /// The digest of a file or of the listing, if it was looked at.
    pub(super) fn current(&self, name: Option<&str>) -> Option<Digest> {
        let state = self.state(name)?;
        state.seen.filter(|_| state.current).map(|seen| seen.digest)
    }

    /// Remembers how it is now. Who looks at the same time is told what the first one saw.
    pub(super) fn record(&mut self, name: Option<&str>, seen: Seen) -> Digest {
        if let Some(digest) = self.current(name) {
            return digest;
        }
        let state = match name {
            None => &mut self.listing,
            Some(name) => {
                let place = self.files.binary_search_by(|(known, _)| (**known).cmp(name));
                let place = place.unwrap_or_else(|place| {
                    self.files.insert(place, (name.into(), State::default()));
                    place
                });
                &mut self.files[place].1
            }
        };
        let trusted = |seen: Option<Seen>| seen.filter(|seen| seen.stat.is_some());
        self.changed |= trusted(state.seen) != trusted(Some(seen));
        *state = State { seen: Some(seen), current: true };
        seen.digest
    }

    /// Takes in what was seen of a file by somebody who does not go by its state.
    pub(super) fn learn(&mut self, name: &str, seen: Seen) {
        if self.current(Some(name)).is_none() {
            self.record(Some(name), seen);
            self.forget(Some(name));
        }
    }

    /// Lets it be looked at again.
    pub(super) fn forget(&mut self, name: Option<&str>) {
        if let Some(state) = self.state_mut(name) {
            state.current = false;
        }
    }

    /// Lets it be looked at again, and read whatever its stat says.
    pub(super) fn distrust(&mut self, name: Option<&str>) {
        if let Some(state) = self.state_mut(name) {
            *state = State::default();
        }
    }

    /// Everything that was looked at.
    pub(super) fn all_current(&self) -> Vec<(Option<Arc<str>>, Digest)> {
        let files = self.files.iter().map(|(name, state)| (Some(name.clone()), state));
        let all = files.chain([(None, &self.listing)]).filter(|(_, state)| state.current);
        all.filter_map(|(name, state)| Some((name, state.seen?.digest))).collect()
    }

    fn state(&self, name: Option<&str>) -> Option<&State> {
        let Some(name) = name else { return Some(&self.listing) };
        let place = self.files.binary_search_by(|(known, _)| (**known).cmp(name)).ok()?;
        Some(&self.files[place].1)
    }

    fn state_mut(&mut self, name: Option<&str>) -> Option<&mut State> {
        let Some(name) = name else { return Some(&mut self.listing) };
        let place = self.files.binary_search_by(|(known, _)| (**known).cmp(name)).ok()?;
        Some(&mut self.files[place].1)
    }
}
