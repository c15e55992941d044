//! Spans on standard output: lines that are OTLP in JSON, as file exporters write them.

use crate::otlp::Inbox;

/// The longest line that may be one, in bytes.
const LONGEST: usize = 16 << 20;
/// One of these is in every such line.
const MARKS: [&[u8]; 2] = [b"\"resourceSpans\"", b"\"resource_spans\""];

/// Looks for spans in a stream of output.
pub(super) struct Lines {
    inbox: Option<Inbox>,
    line: Vec<u8>,
    too_long: bool,
}

impl Lines {
    /// Looks for none when there is no inbox.
    pub(super) fn new(inbox: Option<Inbox>) -> Lines {
        Lines { inbox, line: Vec::new(), too_long: false }
    }

    pub(super) fn push(&mut self, bytes: &[u8]) {
        if self.inbox.is_none() {
            return;
        }
        for part in bytes.split_inclusive(|byte| *byte == b'\n') {
            let ends = part.ends_with(b"\n");
            self.too_long |= self.line.len() + part.len() > LONGEST;
            if !self.too_long {
                self.line.extend(part);
            }
            if ends {
                self.end();
            }
        }
    }

    /// The stream is over, or the line is.
    pub(super) fn end(&mut self) {
        let Some(inbox) = &self.inbox else { return };
        let line = self.line.trim_ascii();
        let has = |mark: &[u8]| line.windows(mark.len()).any(|part| part == mark);
        if line.starts_with(b"{") && MARKS.into_iter().any(has) {
            if self.too_long {
                inbox.tell("a line of spans on standard output is too long to be read");
            } else {
                inbox.line(line);
            }
        }
        self.line.clear();
        self.too_long = false;
    }
}
