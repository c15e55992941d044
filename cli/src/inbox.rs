//! What a program that goes on waits for: ends of runs, changes of files, and the wish to stop.

use std::cell::RefCell;
use std::collections::{BTreeSet, VecDeque};
use std::mem::take;
use std::sync::mpsc::{Receiver, Sender, channel};
use std::time::{Duration, Instant};

use clnrm_backends::{Action, ActionKey, BackendError, Outcome};
use clnrm_engine::Engine;

/// Something that happened.
pub(crate) enum Happening {
    /// A run has ended.
    Ran(ActionKey, Box<Action>, Box<Result<Outcome, BackendError>>),
    /// Files have changed.
    Changed(Changes),
    /// The user wishes something.
    Wished(Wish),
    /// The user wants it to end.
    Interrupted,
}

/// What a key asks for while clnrm watches.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Wish {
    /// Run all tests.
    All,
    /// Run those that fail.
    Failed,
    /// Run again what ran last.
    Again,
    /// Only tests with this in their path.
    Path(String),
    /// Only tests with this in their name, those of their scenarios, or their tags.
    Name(String),
    /// Tell why the last runs were made.
    Why,
    /// Show the graph.
    Graph,
}

/// What there is to do.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Due {
    Changes(Changes),
    Wish(Wish),
}

/// What has changed, as far as somebody said so.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Changes {
    /// Relative to the workspace.
    pub(crate) paths: BTreeSet<String>,
    /// Whether more may have changed than these.
    pub(crate) is_more: bool,
}

impl Changes {
    /// Of what is not known.
    pub(crate) fn anywhere() -> Changes {
        Changes { paths: BTreeSet::new(), is_more: true }
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.paths.is_empty() && !self.is_more
    }

    pub(crate) fn add(&mut self, more: Changes) {
        self.paths.extend(more.paths);
        self.is_more |= more.is_more;
    }

    /// Has the engine look again at what has changed; says whether anything may have.
    pub(crate) fn tell(&self, engine: &mut Engine) -> bool {
        let found = self.is_more && !engine.sync().is_empty();
        let paths: Vec<&str> = self.paths.iter().map(String::as_str).collect();
        engine.changed(&paths);
        found || !paths.is_empty()
    }
}

/// Where happenings come in.
pub(crate) struct Inbox {
    send: Sender<Happening>,
    receive: Receiver<Happening>,
    /// What came in before and was not waited for.
    held: RefCell<VecDeque<Happening>>,
    /// Changes that came in while something else was waited for.
    changes: RefCell<Changes>,
    /// Wishes that came in meanwhile.
    wishes: RefCell<VecDeque<Wish>>,
}

impl Default for Inbox {
    fn default() -> Inbox {
        let (send, receive) = channel();
        let (held, changes, wishes) = Default::default();
        Inbox { send, receive, held, changes, wishes }
    }
}

impl Inbox {
    pub(crate) fn sender(&self) -> Sender<Happening> {
        self.send.clone()
    }

    /// Waits for what happens next.
    pub(crate) fn next(&self) -> Happening {
        let held = self.held.borrow_mut().pop_front();
        held.unwrap_or_else(|| self.receive.recv().expect("it has a sender of its own"))
    }

    /// Changes with all others that have come in already: of many files at once there is one
    /// revision.
    pub(crate) fn with_others(&self, mut changes: Changes) -> Changes {
        while let Ok(happening) = self.receive.try_recv() {
            match happening {
                Happening::Changed(more) => changes.add(more),
                other => self.held.borrow_mut().push_back(other),
            }
        }
        changes
    }

    /// Notes changes that have been told already.
    pub(crate) fn note(&self, changes: Changes) {
        self.changes.borrow_mut().add(changes);
    }

    /// What was noted since the last time.
    pub(crate) fn noted(&self) -> Changes {
        take(&mut self.changes.borrow_mut())
    }

    /// Keeps a wish until all that is under way is done.
    pub(crate) fn put_off(&self, wish: Wish) {
        self.wishes.borrow_mut().push_back(wish);
    }

    /// Waits until there is something to do, at most `patience`, and after a change for as long as
    /// `pause` for more; `None` when the user wants it to end.
    pub(crate) fn due(&self, patience: Duration, pause: Duration) -> Option<Due> {
        for happening in take(&mut *self.held.borrow_mut()) {
            match happening {
                Happening::Interrupted => return None,
                Happening::Wished(wish) => self.put_off(wish),
                Happening::Ran(..) | Happening::Changed(_) => {}
            }
        }
        if let Some(wish) = self.wishes.borrow_mut().pop_front() {
            return Some(Due::Wish(wish));
        }
        let mut all = Changes::default();
        let mut until = Instant::now() + patience;
        loop {
            let left = until.saturating_duration_since(Instant::now());
            match self.receive.recv_timeout(left) {
                Ok(Happening::Changed(changes)) => {
                    if all.is_empty() {
                        until = Instant::now() + pause;
                    }
                    all.add(changes);
                }
                Ok(Happening::Wished(wish)) if all.is_empty() => return Some(Due::Wish(wish)),
                Ok(Happening::Wished(wish)) => self.put_off(wish),
                Ok(Happening::Interrupted) => return None,
                Ok(Happening::Ran(..)) => {}
                Err(_) => return Some(Due::Changes(all)),
            }
        }
    }
}
