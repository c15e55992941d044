//! From places in a rewritten template back to the author's.

use std::ops::Range;

use serde::{Deserialize, Serialize};

/// Which stretches of a text come from where in another; the rest was put in.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub(crate) struct Map {
    /// Where a stretch begins in the new text, where in the old one, and how long it is there:
    /// 0 for what was put in. In the order of the new text.
    pieces: Vec<(usize, usize, usize)>,
}

impl Map {
    /// Notes that the new text goes on at `new` with this stretch of the old one.
    pub(crate) fn copied(&mut self, new: usize, old: Range<usize>) {
        if let Some((start, from, length)) = self.pieces.last_mut()
            && *from + *length == old.start
            && *start + *length == new
        {
            *length += old.len();
            return;
        }
        self.pieces.push((new, old.start, old.len()));
    }

    /// Notes that something was put in at `new`, for the sake of what is at `old`.
    pub(crate) fn put_in(&mut self, new: usize, old: usize) {
        self.pieces.push((new, old, 0));
    }

    /// The byte of the old text that a byte of the new one comes from.
    pub(crate) fn old(&self, new: usize) -> usize {
        let after = self.pieces.partition_point(|(start, ..)| *start <= new);
        match after.checked_sub(1).map(|at| self.pieces[at]) {
            Some((start, from, length)) => from + (new - start).min(length),
            None => new,
        }
    }

    /// Takes in what `other` says of a text that was put in at `new`.
    pub(crate) fn take_in(&mut self, new: usize, other: &Map) {
        self.pieces.extend(other.pieces.iter().map(|(at, from, len)| (at + new, *from, *len)));
    }
}
