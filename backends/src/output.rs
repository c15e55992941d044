//! Captures output of any length in bounded memory.

use std::collections::VecDeque;

use crate::outcome::Output;

/// How much is kept of the beginning, and how much of the end.
const KEPT: usize = 512 * 1024;

/// A stream being captured: its first and last 512 KiB.
#[derive(Default)]
pub(crate) struct Capture {
    head: Vec<u8>,
    tail: VecDeque<u8>,
    dropped: u64,
}

impl Capture {
    pub(crate) fn push(&mut self, bytes: &[u8]) {
        let (head, rest) = bytes.split_at(bytes.len().min(KEPT - self.head.len()));
        self.head.extend_from_slice(head);
        let skipped = rest.len().saturating_sub(KEPT);
        self.tail.extend(&rest[skipped..]);
        let excess = self.tail.len().saturating_sub(KEPT);
        self.tail.drain(..excess);
        self.dropped += (skipped + excess) as u64;
    }

    /// What was captured so far.
    pub(crate) fn output(&self) -> Output {
        let tail: Vec<u8> = self.tail.iter().copied().collect();
        if self.dropped == 0 {
            let mut head = self.head.clone();
            head.extend(tail);
            return Output { head, ..Output::default() };
        }
        Output { head: self.head.clone(), tail, dropped: self.dropped }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn short_output_is_kept_whole() {
        let mut capture = Capture::default();
        capture.push(b"one ");
        capture.push(&vec![b'x'; KEPT]);
        capture.push(b" two");
        let output = capture.output();
        assert_eq!(output.dropped, 0);
        assert_eq!(output.head.len(), KEPT + 8);
        assert!(output.head.ends_with(b" two"));
    }

    #[test]
    fn of_long_output_the_two_ends_are_kept() {
        let mut capture = Capture::default();
        capture.push(b"first");
        for _ in 0..5 {
            capture.push(&vec![b'x'; KEPT]);
        }
        capture.push(b"last");
        let output = capture.output();
        assert!(output.head.starts_with(b"first"));
        assert!(output.tail.ends_with(b"last"));
        assert_eq!(output.head.len() + output.tail.len(), 2 * KEPT);
        assert_eq!(output.dropped as usize, 5 * KEPT + 9 - 2 * KEPT);
    }
}
