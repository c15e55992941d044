//! What takes longer than half a second is told of while it goes on, on terminals only.

use std::collections::BTreeMap;
use std::sync::mpsc::{RecvTimeoutError, Sender, channel};
use std::sync::{Arc, Mutex};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use clnrm_backends::ActionKey;

use super::style::{good, quiet};
use super::{live, many};
use crate::settle::Progress;

/// What is over by then is not worth a line.
const PATIENCE: Duration = Duration::from_millis(500);
/// Between two looks.
const TICK: Duration = Duration::from_millis(100);
/// So many runs are told of by their names.
const MOST_NAMED: usize = 8;
/// How long the bar is.
const WIDTH: usize = 24;
const WHEEL: [char; 10] = ['⠋', '⠙', '⠹', '⠸', '⠼', '⠴', '⠦', '⠧', '⠇', '⠏'];

/// Lines made anew ten times a second, until it is dropped.
struct Ticker {
    stop: Option<Sender<()>>,
    thread: Option<JoinHandle<()>>,
}

impl Ticker {
    /// `lines` are made of the time that has gone by.
    fn new(lines: impl Fn(Duration) -> Vec<String> + Send + 'static) -> Ticker {
        if !live::is_seen() {
            return Ticker { stop: None, thread: None };
        }
        let (stop, stopped) = channel::<()>();
        let began = Instant::now();
        let thread = std::thread::spawn(move || {
            while stopped.recv_timeout(TICK) == Err(RecvTimeoutError::Timeout) {
                if began.elapsed() >= PATIENCE {
                    live::pass(lines(began.elapsed()));
                }
            }
            live::pass(Vec::new());
        });
        Ticker { stop: Some(stop), thread: Some(thread) }
    }
}

impl Drop for Ticker {
    fn drop(&mut self) {
        self.stop = None;
        // What is printed next must not be printed above its lines.
        let _ = self.thread.take().map(JoinHandle::join);
    }
}

/// Something that goes on until it is dropped.
pub(crate) struct Busy {
    _ticker: Ticker,
}

impl Busy {
    /// `what` names it.
    pub(crate) fn with(what: String) -> Busy {
        let line = move |elapsed| format!("{} {what}  {}", wheel(elapsed), since(elapsed));
        Busy { _ticker: Ticker::new(move |elapsed| vec![line(elapsed)]) }
    }
}

/// Tests that are settled, and the runs they wait for, of which it is told.
pub(crate) struct Runs {
    state: Arc<Mutex<State>>,
    _ticker: Ticker,
}

#[derive(Default)]
struct State {
    tests: usize,
    running: BTreeMap<ActionKey, (String, Instant)>,
    done: usize,
    of: usize,
}

impl Runs {
    /// Of so many tests, until it is dropped.
    pub(crate) fn of(tests: usize) -> Runs {
        let state = Arc::new(Mutex::new(State { tests, ..State::default() }));
        let shown = state.clone();
        let lines = move |elapsed| shown.lock().expect("no holder panics").lines(elapsed);
        Runs { state, _ticker: Ticker::new(lines) }
    }

    pub(crate) fn tell(&self, progress: Progress<'_>) {
        let mut state = self.state.lock().expect("no holder panics");
        match progress {
            Progress::More(count) => state.of += count,
            Progress::Begins(key, name) => {
                state.running.insert(key, (name.to_owned(), Instant::now()));
            }
            Progress::Ends(key) => {
                state.running.remove(&key);
                state.done += 1;
            }
        }
    }
}

impl State {
    /// The longest first, and how far all of it is.
    fn lines(&self, elapsed: Duration) -> Vec<String> {
        if self.of == 0 {
            let tests = many(self.tests as u64, "test");
            return vec![format!("{} checking {tests}  {}", wheel(elapsed), since(elapsed))];
        }
        let mut running: Vec<_> = self.running.values().collect();
        running.sort_by_key(|(name, began)| (*began, name));
        let named = running
            .iter()
            .take(MOST_NAMED)
            .map(|(name, began)| format!("{} {name}  {}", wheel(elapsed), since(began.elapsed())));
        let mut lines: Vec<String> = named.collect();
        if running.len() > MOST_NAMED {
            lines.push(quiet(format!("  and {} more", running.len() - MOST_NAMED)).to_string());
        }
        let filled = WIDTH * self.done / self.of.max(1);
        let (done, open) = ("━".repeat(filled), "━".repeat(WIDTH - filled));
        let runs = many(self.of as u64, "run");
        let told = format!("{} of {runs} done  {}", self.done, since(elapsed));
        lines.push(format!("{}{} {told}", good(done), quiet(open)));
        lines
    }
}

fn wheel(elapsed: Duration) -> char {
    WHEEL[(elapsed.as_millis() / TICK.as_millis()) as usize % WHEEL.len()]
}

fn since(duration: Duration) -> impl std::fmt::Display {
    quiet(format!("{:.1} s", duration.as_secs_f64()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_longest_runs_are_named_first() {
        let runs = Runs::of(1);
        runs.tell(Progress::More(20));
        for number in 0..10_u8 {
            runs.tell(Progress::Begins(ActionKey([number; 32]), &format!("run {number}")));
        }
        runs.tell(Progress::Ends(ActionKey([0; 32])));
        let lines = runs.state.lock().unwrap().lines(Duration::from_millis(1500));
        let lines: Vec<String> =
            lines.iter().map(|line| console::strip_ansi_codes(line).into_owned()).collect();
        assert_eq!(lines.len(), MOST_NAMED + 2);
        assert!(lines[0].starts_with("⠴ run 1  0."), "{lines:?}");
        assert_eq!(lines[MOST_NAMED], "  and 1 more");
        assert_eq!(
            lines[MOST_NAMED + 1],
            format!("{} 1 of 20 runs done  1.5 s", "━".repeat(WIDTH))
        );
    }
}
