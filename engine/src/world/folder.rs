//! A folder's part of the stat index: what is known of its files and of its listing.

use std::collections::BTreeMap;

use crate::digest::Digest;
use crate::system::Stat;
use crate::table::{Table, encode};

/// A stat as the index has it.
pub(super) type Fingerprint = [u8; Stat::FINGERPRINT];

/// A stat and a digest.
const RECORD: usize = Stat::FINGERPRINT + 32;

/// Under this name, which no file can have, the index has the listing.
const LISTING: &str = "/";

/// What was seen of a file or a listing when it was last looked at.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) struct Seen {
    /// Its stat, if that is enough to tell that nothing has changed since.
    pub(super) stat: Option<Fingerprint>,
    pub(super) digest: Digest,
}

/// The states of a folder's files, and of its listing.
#[derive(Debug)]
pub(super) struct Folder {
    stored: FolderIndex,
    /// Which of the stored states are known to be those of now, by their numbers.
    current: Vec<bool>,
    /// What was seen otherwise than it is stored, by name; the flag says whether it is so now.
    changes: BTreeMap<Box<str>, (Option<Seen>, bool)>,
    /// Whether there is something new to be stored.
    changed: bool,
}

/// What is stored of a folder: a table of its files' stats and digests.
#[derive(Clone, Debug, Default)]
pub(crate) struct FolderIndex {
    records: Vec<u8>,
    names: String,
}

impl FolderIndex {
    /// `None` when the bytes are no index.
    pub(crate) fn decode(bytes: &[u8]) -> Option<FolderIndex> {
        let (table, rest) = Table::<RECORD>::decode(bytes)?;
        let (records, names) = (table.records.to_vec(), table.names.to_owned());
        rest.is_empty().then_some(FolderIndex { records, names })
    }

    fn table(&self) -> Table<'_, RECORD> {
        Table { records: &self.records, names: &self.names }
    }
}

impl Folder {
    pub(super) fn new(stored: FolderIndex) -> Folder {
        let current = vec![false; stored.table().len()];
        Folder { stored, current, changes: BTreeMap::new(), changed: false }
    }

    /// What is to be stored of it, encoded, if that was changed since it was last asked for.
    pub(super) fn take_changed(&mut self) -> Option<Vec<u8>> {
        if !std::mem::take(&mut self.changed) {
            return None;
        }
        let table = self.stored.table();
        let mut rows: BTreeMap<&str, [u8; RECORD]> =
            (0..table.len()).map(|at| (table.name(at), *table.record(at))).collect();
        for (name, (seen, _)) in &self.changes {
            match seen.and_then(|seen| Some((seen.stat?, seen.digest))) {
                Some((stat, digest)) => {
                    let mut record = [0; RECORD];
                    record[..Stat::FINGERPRINT].copy_from_slice(&stat);
                    record[Stat::FINGERPRINT..].copy_from_slice(&digest.0);
                    rows.insert(name, record);
                }
                None => drop(rows.remove(&**name)),
            }
        }
        Some(encode(rows.into_iter()))
    }

    /// What was last seen of a file, or of the listing when there is no name.
    pub(super) fn seen(&self, name: Option<&str>) -> Option<Seen> {
        self.state(name, 0).0
    }

    /// The digest of a file or of the listing, if it was looked at.
    pub(super) fn current(&self, name: Option<&str>) -> Option<Digest> {
        let (seen, current) = self.state(name, 0);
        seen.filter(|_| current).map(|seen| seen.digest)
    }

    /// Takes in the stats of files as they are now; gives the digests of those that are as they
    /// were, or were looked at before, and the stats of the others. Names should come in their
    /// order.
    pub(super) fn verify(
        &mut self,
        names: &[&str],
        stat_all: impl FnOnce(&[&str]) -> Vec<Option<Stat>>,
    ) -> Vec<Result<Digest, Option<Stat>>> {
        let mut hint = 0;
        let mut states = Vec::with_capacity(names.len());
        for name in names {
            let (at, seen, current) = self.place(name, hint);
            hint = at.map_or(hint, |at| at + 1);
            states.push((at, seen, current));
        }
        let open = names.iter().zip(&states).filter(|(_, (.., current))| !current);
        let open: Vec<&str> = open.map(|(name, _)| *name).collect();
        let mut stats = stat_all(&open).into_iter();
        let mut digest = |(at, seen, current): (Option<usize>, Option<Seen>, bool)| {
            if let Some(seen) = seen.filter(|_| current) {
                return Ok(seen.digest);
            }
            let stat = stats.next().flatten();
            let fingerprint = stat.as_ref().map(Stat::fingerprint);
            match (at, seen.filter(|seen| seen.stat.is_some() && seen.stat == fingerprint)) {
                (Some(at), Some(seen)) => {
                    self.current[at] = true;
                    Ok(seen.digest)
                }
                // What is among the changes is looked at again by who asks for it.
                (None, Some(_)) => Err(None),
                _ => Err(stat),
            }
        };
        states.into_iter().map(&mut digest).collect()
    }

    /// Remembers how it is now. Who looks at the same time is told what the first one saw.
    pub(super) fn record(&mut self, name: Option<&str>, now: Seen) -> Digest {
        let name = name.unwrap_or(LISTING);
        let (at, seen, current) = self.place(name, 0);
        match (seen, at) {
            (Some(seen), _) if current => return seen.digest,
            (Some(seen), Some(at)) if seen == now => self.current[at] = true,
            _ => {
                let trusted = |seen: Option<Seen>| seen.filter(|seen| seen.stat.is_some());
                self.changed |= trusted(seen) != trusted(Some(now));
                self.changes.insert(name.into(), (Some(now), true));
            }
        }
        now.digest
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
        let name = name.unwrap_or(LISTING);
        if let Some((_, current)) = self.changes.get_mut(name) {
            *current = false;
        } else if let Some(at) = self.stored.table().find(name, 0) {
            self.current[at] = false;
        }
    }

    /// Lets it be looked at again, and read whatever its stat says.
    pub(super) fn distrust(&mut self, name: Option<&str>) {
        self.changes.insert(name.unwrap_or(LISTING).into(), (None, false));
    }

    /// Everything that was looked at; no name stands for the listing.
    pub(super) fn all_current(&self) -> Vec<(Option<String>, Digest)> {
        let table = self.stored.table();
        let stored = (0..table.len()).map(|at| table.name(at));
        let names = stored.filter(|name| !self.changes.contains_key(*name));
        let names = names.chain(self.changes.keys().map(|name| &**name));
        let named = |name: &str| (name != LISTING).then(|| name.to_owned());
        names
            .filter_map(|name| {
                let name = named(name);
                Some((name.clone(), self.current(name.as_deref())?))
            })
            .collect()
    }

    fn state(&self, name: Option<&str>, hint: usize) -> (Option<Seen>, bool) {
        let (_, seen, current) = self.place(name.unwrap_or(LISTING), hint);
        (seen, current)
    }

    /// Where a stored state is that was not changed, the state, and whether it is that of now.
    fn place(&self, name: &str, hint: usize) -> (Option<usize>, Option<Seen>, bool) {
        if !self.changes.is_empty()
            && let Some((seen, current)) = self.changes.get(name)
        {
            return (None, *seen, *current);
        }
        let table = self.stored.table();
        let Some(at) = table.find(name, hint) else { return (None, None, false) };
        let (stat, digest) = table.record(at).split_first_chunk().expect("a record is longer");
        let digest = Digest(*digest.first_chunk().expect("a digest follows"));
        (Some(at), Some(Seen { stat: Some(*stat), digest }), self.current[at])
    }
}
