//! A regular expression that a log is held against while it grows.

use regex::bytes::{Regex, RegexBuilder};
use regex_syntax::hir::Look;

/// A pattern in which `^` and `$` are the ends of lines.
pub(super) struct LogPattern {
    regex: Regex,
    /// Whether more of the last line could make it match no more: it looks at the end of a line or at
    /// the end of a word.
    looks_ahead: bool,
}

impl LogPattern {
    /// Of a pattern that is a regular expression, as the shape check has seen.
    pub(super) fn new(pattern: &str) -> LogPattern {
        let regex = RegexBuilder::new(pattern).multi_line(true).crlf(true).build();
        let parsed =
            regex_syntax::ParserBuilder::new().multi_line(true).crlf(true).build().parse(pattern);
        let harmless = [Look::Start, Look::StartLF, Look::StartCRLF];
        let looks_ahead = parsed.is_ok_and(|hir| {
            hir.properties().look_set().iter().any(|look| !harmless.contains(&look))
        });
        LogPattern { regex: regex.expect("the shape check has compiled it"), looks_ahead }
    }

    /// Whether `log` matches it, however it comes in: the last line may go on unless `is_over`.
    pub(super) fn is_in(&self, log: &[u8], is_over: bool) -> bool {
        let whole_lines = log.iter().rposition(|byte| *byte == b'\n').map_or(0, |at| at + 1);
        let is_settled = is_over || !self.looks_ahead;
        self.regex.is_match(if is_settled { log } else { &log[..whole_lines] })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn anchors_are_those_of_lines_whenever_bytes_come_in() {
        let is_in = |pattern: &str, log: &str, is_over| {
            LogPattern::new(pattern).is_in(log.as_bytes(), is_over)
        };
        for pattern in ["ready", "ready$", "^ready$", "^ready", r"\bready\b"] {
            assert!(is_in(pattern, "starting\nready\nmore", false), "{pattern}");
            assert!(is_in(pattern, "starting\r\nready\r\n", false), "{pattern}");
            assert!(is_in(pattern, "ready", true), "{pattern}");
            assert!(!is_in(pattern, "starting\nrea", true), "{pattern}");
        }
        // The line may go on: `ready to go`, `readyish`.
        for pattern in ["ready$", "^ready$", r"ready\b"] {
            assert!(!is_in(pattern, "ready", false), "{pattern}");
        }
        assert!(is_in("ready", "ready", false));
        assert!(is_in("^ready", "ready", false));
        assert!(!is_in("^ready$", "not ready\n", true));
    }
}
