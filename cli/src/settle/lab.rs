//! A workspace in memory on the fake backend, for tests of what runs and what does not.

use std::path::PathBuf;
use std::sync::Arc;

use clnrm_backends::{Backend, Cancel, Fake};
use clnrm_engine::{Checking, Engine, Memory, Options, QueryEvent, Unit};
use clnrm_queries::{QUERIES, Report, facts};
use rayon::ThreadPool;
use tempfile::TempDir;

use super::{Again, Settle};
use crate::inbox::Inbox;
use crate::known::{Detail, Known};

/// Everything a session needs; files and images are shared by all sessions of a lab.
pub(super) struct Lab {
    pub(super) files: Memory,
    pub(super) backend: Arc<Fake>,
    pub(super) engine: Engine,
    folder: Option<TempDir>,
    pool: ThreadPool,
}

/// What a session came to.
pub(super) struct Seen {
    pub(super) reports: Vec<Report>,
    /// How many actions were run.
    pub(super) runs: usize,
    pub(super) events: Vec<QueryEvent>,
}

impl Lab {
    /// With a store, empty at first.
    pub(super) fn new(files: &Memory) -> Lab {
        let folder = TempDir::new().expect("temporary folders can be made");
        Lab::with(files, Arc::default(), Some(folder))
    }

    /// With the same files and images, and no memory at all.
    pub(super) fn clean(&self) -> Lab {
        let backend = Fake::default();
        let images = self.backend.images.lock().expect("no holder panics").clone();
        *backend.images.lock().expect("no holder panics") = images;
        Lab::with(&self.files, Arc::new(backend), None)
    }

    fn with(files: &Memory, backend: Arc<Fake>, folder: Option<TempDir>) -> Lab {
        let store = folder.as_ref().map(|folder| folder.path().join("store.redb"));
        let pool = rayon::ThreadPoolBuilder::new().num_threads(1).build();
        Lab {
            engine: engine(files, &backend, store),
            files: files.clone(),
            backend,
            folder,
            pool: pool.expect("a thread can be started"),
        }
    }

    /// A new process on the same store.
    pub(super) fn restart(&mut self) {
        let store = self.folder.as_ref().map(|folder| folder.path().join("store.redb"));
        self.engine = engine(&self.files, &self.backend, store);
    }

    /// Removes the store, and everything this process knows.
    pub(super) fn forget(&mut self) {
        self.engine.clear_store().expect("the store can be removed");
        self.restart();
    }

    /// Every file that is a test by its name.
    pub(super) fn units(&self) -> Vec<Unit> {
        let paths = self.files.paths().into_iter();
        paths.filter(|path| path.contains(".clnrm.toml")).map(Unit::file).collect()
    }

    /// Takes in what has changed and settles all tests; writes nothing down.
    pub(super) fn settle(&mut self) -> Seen {
        self.engine.sync();
        self.engine.take_events();
        let units = self.units();
        let settle = Settle {
            backend: &*self.backend,
            pool: &self.pool,
            cancel: &Cancel::default(),
            again: Again::Failed,
            detail: Detail::Whole,
            frozen: false,
            fail_fast: false,
            progress: &|_| {},
            before_runs: &|_, _, _| {},
            inbox: &Inbox::default(),
        };
        let settled = settle.settle(&mut self.engine, units.clone());
        let reports = settled.reports.into_iter().map(|report| match report {
            Ok(Known::Told(report)) => report.as_ref().clone(),
            Ok(Known::Recalled(encoded)) => Report::decode(&encoded).expect("it is one"),
            Ok(Known::Green(_)) => panic!("all of it was asked for"),
            Err(stopped) => panic!("{stopped}"),
        });
        let seen = Seen {
            reports: reports.collect(),
            runs: settled.started as usize,
            events: self.engine.take_events(),
        };
        assert_eq!(self.engine.take_impure(), [], "a query is not pure");
        assert_eq!(self.engine.take_store_trouble(), [""; 0], "the store is sound");
        seen
    }

    /// The same, written down at the end.
    pub(super) fn run(&mut self) -> Seen {
        let seen = self.settle();
        self.engine.commit();
        seen
    }
}

fn engine(files: &Memory, backend: &Arc<Fake>, store: Option<PathBuf>) -> Engine {
    let backend = backend.clone();
    Engine::new(Options {
        system: Arc::new(files.clone()),
        facts: Arc::new(move |kind, name| match kind {
            facts::BACKEND => serde_json::to_vec(&backend.kind()).ok(),
            _ => serde_json::to_vec(&backend.image(name)).ok(),
        }),
        tool: b"lab",
        queries: &QUERIES,
        store,
        checking: Checking::Sample(7),
        trust: Default::default(),
    })
}

impl Seen {
    /// The queries that ran, in alphabetical order; those whose value was as before say so.
    pub(super) fn executed(&self) -> String {
        let mut lines: Vec<String> = self
            .events
            .iter()
            .filter_map(|event| match event {
                QueryEvent::Executed { node, cut_off: true, .. } => {
                    Some(format!("{node} (as before)"))
                }
                QueryEvent::Executed { node, .. } => Some(node.to_string()),
                _ => None,
            })
            .collect();
        lines.sort();
        lines.push(format!("{} runs", self.runs));
        lines.join("\n") + "\n"
    }
}
