//! Tables: records of one size, sorted by name, read where they lie.
//!
//! What is looked at for every file in every run is kept in these, so that a run in which nothing
//! has changed decodes nothing.

/// `N` bytes for each of many names.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Table<'a, const N: usize> {
    /// For each name, where it ends in `names` (four bytes, little-endian) and its `N` bytes.
    pub(crate) records: &'a [u8],
    pub(crate) names: &'a str,
}

/// Bytes of a number.
const NUMBER: usize = 4;

impl<'a, const N: usize> Table<'a, N> {
    /// The table at the beginning of `bytes`, and what follows it; `None` when there is none.
    pub(crate) fn decode(bytes: &'a [u8]) -> Option<(Table<'a, N>, &'a [u8])> {
        let (count, bytes) = number(bytes)?;
        let (records, bytes) = bytes.split_at_checked(count.checked_mul(NUMBER + N)?)?;
        let (length, bytes) = number(bytes)?;
        let (names, rest) = bytes.split_at_checked(length)?;
        let table = Table { records, names: std::str::from_utf8(names).ok()? };
        let mut begin = 0;
        let sound = (0..count).all(|at| {
            let end = table.end(at);
            let ordered = begin <= end && table.names.is_char_boundary(end);
            begin = end;
            ordered
        });
        sound.then_some((table, rest))
    }

    pub(crate) fn len(&self) -> usize {
        self.records.len() / (NUMBER + N)
    }

    pub(crate) fn name(&self, at: usize) -> &'a str {
        let begin = at.checked_sub(1).map_or(0, |before| self.end(before));
        &self.names[begin..self.end(at)]
    }

    pub(crate) fn record(&self, at: usize) -> &'a [u8; N] {
        let begin = at * (NUMBER + N) + NUMBER;
        self.records[begin..].first_chunk().expect("every name has a record")
    }

    /// The number of a name. `hint` is where it is looked for first: whoever asks for many names
    /// asks in their order.
    pub(crate) fn find(&self, name: &str, hint: usize) -> Option<usize> {
        if hint < self.len() && self.name(hint) == name {
            return Some(hint);
        }
        let (mut low, mut high) = (0, self.len());
        while low < high {
            let middle = low + (high - low) / 2;
            match self.name(middle).cmp(name) {
                std::cmp::Ordering::Less => low = middle + 1,
                std::cmp::Ordering::Greater => high = middle,
                std::cmp::Ordering::Equal => return Some(middle),
            }
        }
        None
    }

    fn end(&self, at: usize) -> usize {
        let bytes = self.records[at * (NUMBER + N)..].first_chunk::<NUMBER>();
        u32::from_le_bytes(*bytes.expect("every name has a record")) as usize
    }
}

/// The encoding of a table of these names, which are sorted and different.
pub(crate) fn encode<'a, const N: usize>(
    rows: impl ExactSizeIterator<Item = (&'a str, [u8; N])>,
) -> Vec<u8> {
    let mut bytes = Vec::with_capacity(rows.len() * (NUMBER + N + 16));
    let mut names = String::new();
    bytes.extend((rows.len() as u32).to_le_bytes());
    for (name, record) in rows {
        names.push_str(name);
        bytes.extend((names.len() as u32).to_le_bytes());
        bytes.extend(record);
    }
    bytes.extend((names.len() as u32).to_le_bytes());
    bytes.extend(names.as_bytes());
    bytes
}

fn number(bytes: &[u8]) -> Option<(usize, &[u8])> {
    let (number, rest) = bytes.split_first_chunk::<NUMBER>()?;
    Some((u32::from_le_bytes(*number) as usize, rest))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_name_has_its_record() {
        let rows = [("", [1, 2]), ("a", [3, 4]), ("ä", [5, 6])];
        let mut bytes = encode(rows.into_iter());
        bytes.extend(b"rest");
        let (table, rest) = Table::<2>::decode(&bytes).unwrap();
        assert_eq!(rest, b"rest");
        for (at, (name, record)) in rows.into_iter().enumerate() {
            for hint in 0..5 {
                assert_eq!(table.find(name, hint), Some(at));
            }
            assert_eq!((table.name(at), table.record(at)), (name, &record));
        }
        assert_eq!(table.find("b", 0), None);
        for cut in 0..bytes.len() - rest.len() {
            assert!(Table::<2>::decode(&bytes[..cut]).is_none(), "cut at {cut}");
        }
    }
}
