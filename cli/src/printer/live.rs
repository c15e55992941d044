//! Lines at the bottom of a terminal that tell what goes on; all else is printed above them.

use std::io::Write;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Mutex, MutexGuard};

use super::{Verbosity, verbosity};
use anstream::{AutoStream, ColorChoice};
use console::{Term, strip_ansi_codes, truncate_str};

static REGION: Mutex<Region> =
    Mutex::new(Region { passing: Vec::new(), standing: None, asked: None, shown: 0 });
/// Whether there are any lines, to be looked at without a lock.
static IS_SHOWN: AtomicBool = AtomicBool::new(false);

struct Region {
    /// What changes all the time.
    passing: Vec<String>,
    /// The last line.
    standing: Option<String>,
    /// Instead of the last line.
    asked: Option<String>,
    /// How many lines there are on the terminal now.
    shown: usize,
}

/// Whether somebody sees such lines.
pub(super) fn is_seen() -> bool {
    verbosity() != Verbosity::Quiet
        && Term::stderr().is_term()
        && std::env::var_os("TERM").is_none_or(|term| term != "dumb")
}

/// Shows these lines above the last one instead of those before.
pub(super) fn pass(lines: Vec<String>) {
    let mut region = region();
    if region.passing != lines {
        region.passing = lines;
        region.redraw();
    }
}

/// Shows this as the last line, or none.
pub(super) fn stand(line: Option<String>) {
    let mut region = region();
    region.standing = line;
    region.redraw();
}

/// Shows this instead of the last line, with what is typed at its end; or no longer.
pub(super) fn ask(line: Option<String>) {
    let mut region = region();
    if region.asked != line {
        region.asked = line;
        region.redraw();
    }
}

/// Prints something above the lines.
pub(super) fn above<T>(print: impl FnOnce() -> T) -> T {
    if !IS_SHOWN.load(Ordering::Acquire) {
        return print();
    }
    let mut region = region();
    send(&region.erase());
    let printed = print();
    send(&region.draw());
    printed
}

fn region() -> MutexGuard<'static, Region> {
    REGION.lock().expect("no holder panics")
}

impl Region {
    fn redraw(&mut self) {
        let text = self.erase() + &self.draw();
        send(&text);
    }

    /// What removes the lines, and leaves the cursor where the first of them was.
    fn erase(&mut self) -> String {
        match std::mem::take(&mut self.shown) {
            0 => String::new(),
            1 => "\r\x1b[J".to_owned(),
            more => format!("\r\x1b[{}A\x1b[J", more - 1),
        }
    }

    /// What shows the lines, with the cursor at the end of the last one.
    fn draw(&mut self) -> String {
        let width = usize::from(Term::stderr().size().1).saturating_sub(1);
        let lines = self.passing.iter().chain(self.asked.as_ref().or(self.standing.as_ref()));
        let is_plain = AutoStream::choice(&std::io::stderr()) == ColorChoice::Never;
        let fitting = lines.map(|line| match truncate_str(line, width, "…") {
            line if is_plain => strip_ansi_codes(&line).into_owned(),
            line => line.into_owned(),
        });
        let lines: Vec<String> = fitting.collect();
        self.shown = lines.len();
        IS_SHOWN.store(self.shown > 0, Ordering::Release);
        lines.join("\n")
    }
}

/// In one piece, so that nothing flickers.
fn send(text: &str) {
    let mut stderr = std::io::stderr().lock();
    // A terminal that has gone away is no reason to fail.
    let _ = stderr.write_all(text.as_bytes()).and_then(|()| stderr.flush());
}
