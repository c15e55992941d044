//! The engine as programs use it.

use std::any::Any;
use std::cell::OnceCell;
use std::io;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::Ordering;

use rayon::prelude::*;

use crate::cancellation::{Cancellation, Cancelled};
use crate::db::Database;
use crate::digest::Digest;
use crate::event::{Counts, Impure, QueryEvent};
use crate::fault::{self, Fault};
use crate::graph::Graph;
use crate::key::{Leaf, Node, Unit};
use crate::query::{AnyQuery, Query};
use crate::run::Run;
use crate::sample::Checking;
use crate::session::{Keep, Session};
use crate::shelf::Shelf;
use crate::signature::Trust;
use crate::store::{Batch, Collected, Store, StoreStats, Verified};
use crate::system::System;
use crate::world::{Facts, World, split};

/// A store that has grown larger is made smaller.
const BUDGET: u64 = 256 << 20;

const SECONDS_OF_A_DAY: u64 = 86_400;

/// What an engine is made of.
pub struct Options<'a> {
    /// Files and environment.
    pub system: Arc<dyn System>,
    /// What else queries may ask about the world.
    pub facts: Facts,
    /// A digest of the program's own sources.
    pub tool: &'a [u8],
    /// Every query of the program.
    pub queries: &'a [&'static dyn AnyQuery],
    /// Where results are kept from one process to the next; nowhere when `None`.
    pub store: Option<PathBuf>,
    /// How much of it is checked while it is used.
    pub checking: Checking,
    /// Which outcomes in it are reused.
    pub trust: Trust,
}

/// Queries with a memory.
pub struct Engine {
    session: Arc<Session>,
    /// Made when something is first demanded.
    db: OnceCell<Database>,
}

/// Why a root has no value.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Stopped {
    /// A query panicked, with these words: a bug in the program, not in what it was asked about.
    #[error("a query panicked: {0}")]
    Bug(String),
    /// It was given up; see [`Cancellation`].
    #[error("interrupted")]
    Cancelled,
}

impl Engine {
    /// An engine; the store is not touched yet.
    pub fn new(options: Options<'_>) -> Engine {
        let versions = options.queries.iter().map(|query| {
            let version = if fault::is(Fault::VersionNotInTool) { 0 } else { query.version() };
            Digest::of_parts("query", &[query.name().as_bytes(), &version.to_le_bytes()])
        });
        let versions: Vec<Digest> = versions.collect();
        let parts: Vec<&[u8]> = [options.tool]
            .into_iter()
            .chain(versions.iter().map(|version| &version.0[..]))
            .collect();
        let tool = Digest::of_parts("tool", &parts);
        let names = options.queries.iter().map(|query| (query.name(), query.name())).collect();
        let shelf = Arc::new(Shelf::new(Store::new(options.store, names, options.trust)));
        let trusting = options.checking != Checking::Everything;
        let world = World::new(options.system, options.facts, tool, shelf.clone(), trusting);
        let session = Arc::new(Session::new(world, shelf, options.queries, options.checking));
        Engine { session, db: OnceCell::new() }
    }

    /// What `see` makes of the values of the roots whose deep traces still hold, where they lie in
    /// the store, without running, decoding or opening anything in between. A root of which it
    /// makes nothing counts as not recalled. Units of one folder should lie together.
    pub fn recall<V, T: Send>(
        &self,
        query: &'static Query<V>,
        units: &[Unit],
        see: impl Fn(&[u8]) -> Option<T> + Sync,
    ) -> Vec<Option<T>>
    where
        Query<V>: AnyQuery,
    {
        let session = self.session();
        let recalled =
            by_folder(units, |units, found| session.recall(query.name(), units, &see, found));
        let many = recalled.iter().flatten().count() as u64;
        session.event(QueryEvent::RootsRecalled(query.name(), many));
        recalled
    }

    /// What `see` makes of the values roots had when they were last written down, whether or not
    /// they still hold.
    pub fn last<V, T: Send>(
        &self,
        query: &'static Query<V>,
        units: &[Unit],
        see: impl Fn(&[u8]) -> Option<T> + Sync,
    ) -> Vec<Option<T>>
    where
        Query<V>: AnyQuery,
    {
        let session = self.session();
        by_folder(units, |units, found| session.last(query.name(), units, &see, found))
    }

    /// By what others can give up, from their threads, what this engine is asked for.
    pub fn cancellation(&self) -> Cancellation {
        self.session().cancellation.clone()
    }

    /// The values of a query for many units, evaluated in parallel; a unit whose evaluation
    /// panics does not disturb the others.
    pub fn demand<V: Send + Sync + 'static>(
        &mut self,
        query: &'static Query<V>,
        units: &[Unit],
    ) -> Vec<Result<Arc<V>, Stopped>> {
        loop {
            let values = units
                .par_iter()
                .map_with(self.db().clone(), |db, unit| demand_root(db, &query.node(unit)))
                .collect();
            let torn = std::mem::take(&mut *self.session().torn.lock().expect("no holder panics"));
            if torn.is_empty() {
                return values;
            }
            // A file changed between being hashed and being read. Even if it is by now as it was
            // when it was hashed, what was computed from the other bytes must go.
            let torn: Vec<Leaf> = torn.into_iter().collect();
            self.session().world.distrust(&torn);
            let db = self.db.get_mut().expect("something was demanded");
            torn.iter().for_each(|leaf| db.renew(leaf));
        }
    }

    /// The values of roots: recalled where nothing under them has changed, else demanded.
    pub fn roots<V>(
        &mut self,
        query: &'static Query<V>,
        units: &[Unit],
    ) -> Vec<Result<Arc<V>, Stopped>>
    where
        V: Send + Sync + 'static,
        Query<V>: AnyQuery,
    {
        let known: Vec<Option<Arc<V>>> =
            self.recall(query, units, |encoded| query.decode(encoded)?.downcast::<V>().ok());
        let open = units.iter().zip(&known).filter(|(_, value)| value.is_none());
        let open: Vec<Unit> = open.map(|(unit, _)| unit.clone()).collect();
        // Without anything to demand, salsa is not touched.
        let demanded = if open.is_empty() { Vec::new() } else { self.demand(query, &open) };
        let mut demanded = demanded.into_iter();
        let value = |value: Option<Arc<V>>| {
            value.map_or_else(|| demanded.next().expect("there is one for every open unit"), Ok)
        };
        known.into_iter().map(value).collect()
    }

    /// Looks at everything that was read, and takes in what has changed since.
    ///
    /// Returns the leaves that have.
    pub fn sync(&mut self) -> Vec<Leaf> {
        self.session().cancellation.end();
        let changed = self.session().world.changed();
        self.look_again(&changed);
        changed
    }

    /// Looks again at what these paths are part of, because somebody says that they have changed.
    pub fn changed(&mut self, paths: &[&str]) {
        self.session().cancellation.end();
        let mut leaves = Vec::new();
        for path in paths {
            leaves.extend([Leaf::File((*path).into()), Leaf::Listing(split(path).0.into())]);
            leaves.extend(self.session().world.trees_with(path));
        }
        self.look_again(&leaves);
    }

    /// The folders in which something was looked at, and the trees that were looked at as a whole: what
    /// has to be watched for changes. Sorted.
    pub fn looked_at(&self) -> (Vec<Arc<str>>, Vec<Arc<str>>) {
        self.session().world.looked_at()
    }

    /// Whether the file of this name in a folder was looked at, and not forgotten since.
    pub fn has_looked_at(&self, folder: &str, name: &str) -> bool {
        self.session().world.has_looked_at(folder, name)
    }

    fn look_again(&mut self, leaves: &[Leaf]) {
        self.session().world.forget(leaves);
        self.refresh(leaves);
    }

    /// Tells what came of an effect, in this process and, as `keep` says, after it.
    ///
    /// `inputs` are what the effect was computed from besides its key, with their digests: if one
    /// of them is now another, the result describes nothing, and the effect stays unknown.
    pub fn set_effect(&mut self, key: Digest, value: &[u8], keep: Keep, inputs: &[(Leaf, Digest)]) {
        let leaves: Vec<Leaf> = inputs.iter().map(|(leaf, _)| leaf.clone()).collect();
        self.look_again(&leaves);
        let world = &self.session().world;
        let unchanged = inputs.iter().all(|(leaf, digest)| world.digest(leaf) == *digest);
        if !unchanged && !fault::is(Fault::InputsOfEffectsNotChecked) {
            return;
        }
        self.session().set_effect(key, value.into(), keep);
        self.refresh(&[Leaf::Effect(key)]);
    }

    /// What came of an effect, if that is known.
    pub fn effect(&self, key: Digest) -> Option<Arc<[u8]>> {
        Some(self.session().effect(&key)?.1)
    }

    /// Makes an effect unknown, so that whoever needs it asks for it again.
    pub fn forget_effect(&mut self, key: Digest) {
        self.session().forget_effect(key);
        self.refresh(&[Leaf::Effect(key)]);
    }

    /// Lets go of the store until it is needed again; call it before waiting for anything slow.
    pub fn release(&self) {
        self.session().shelf.release();
    }

    /// Writes down what this process has learned.
    ///
    /// A trace is true whatever has happened to its files since: it says what comes of reads with
    /// these digests, and content and digest are taken from the same bytes.
    pub fn commit(&mut self) {
        self.commit_batch(None);
    }

    /// The same, and what this process did with which node, under the name of a command. The last
    /// thing a process does, once everything is told: when the store has grown too large, some of
    /// it is removed.
    pub fn commit_run(&mut self, command: &str) {
        let session = self.session();
        let mut events = std::mem::take(&mut *session.told.lock().expect("no holder panics"));
        events.extend(self.take_events());
        let run = Run::new(session.world.seconds(), command, events);
        self.commit_batch(run);
        // Outcomes alone pile up: what else there is takes no more than the files it is about.
        let session = self.session();
        let has_grown = session.has_grown.load(Ordering::Relaxed);
        if has_grown && session.shelf.store.bytes() > BUDGET {
            self.collect(BUDGET / 2);
        }
    }

    fn commit_batch(&mut self, run: Option<Run>) {
        let session = self.session();
        let demanded = std::mem::take(&mut session.staged().roots);
        let roots = demanded.into_par_iter().filter_map(|(root, value)| {
            let trace = session.root_trace(&root, value)?;
            Some((root, trace))
        });
        let roots = roots.collect::<Vec<_>>().into_iter().collect();
        let staged = std::mem::take(&mut *session.staged());
        let mut batch = Batch { roots, effects: staged.effects, ..Batch::default() };
        for (node, trace) in staged.nodes {
            batch.units.entry(node.unit).or_default().insert(node.query, trace);
        }
        batch.index = session.world.take_changed_index().into_iter().collect();
        (batch.used, batch.run) = (staged.used, run);
        batch.day = (session.world.seconds() / SECONDS_OF_A_DAY) as u32;
        session.shelf.release();
        session.shelf.store.commit(&batch);
        session.forget_stored();
    }

    /// The graph as it was last committed.
    pub fn graph(&self) -> Graph {
        let snapshot = self.session().snapshot();
        Graph::new(&snapshot.map(|snapshot| snapshot.units()).unwrap_or_default())
    }

    /// What happened since this was last asked.
    pub fn take_events(&self) -> Vec<QueryEvent> {
        std::mem::take(&mut *self.session().events.lock().expect("no holder panics"))
    }

    /// How often what happened since this was last asked.
    pub fn take_counts(&self) -> Counts {
        let events = self.take_events();
        let counts = Counts::of(&events);
        self.session().told.lock().expect("no holder panics").extend(events);
        counts
    }

    /// The last runs, newest first.
    pub fn runs(&self) -> Vec<Run> {
        self.session().snapshot().map(|snapshot| snapshot.runs()).unwrap_or_default()
    }

    /// Trouble with the store since this was last asked, a line each.
    pub fn take_store_trouble(&self) -> Vec<String> {
        self.session().shelf.store.take_trouble()
    }

    /// Nodes that came out otherwise than they are remembered, since this was last asked. Nothing
    /// that rests on them can be trusted.
    pub fn take_impure(&self) -> Vec<Impure> {
        let impure = std::mem::take(&mut *self.session().impure.lock().expect("no holder panics"));
        impure.into_iter().collect()
    }

    /// How much the store holds.
    pub fn store_stats(&self) -> StoreStats {
        self.session().shelf.store.stats()
    }

    /// Looks at every page and row of the store; `None` when there is none that can be read.
    pub fn verify_store(&self) -> Option<Verified> {
        self.session().shelf.release();
        self.session().shelf.store.verify()
    }

    /// Removes from the store what belongs to files that are gone, then effects, least recently
    /// used first, until their values take no more than `budget` bytes.
    pub fn collect(&mut self, budget: u64) -> Collected {
        let session = self.session();
        session.shelf.release();
        session.forget_stored();
        session.shelf.store.collect(budget, &|path| session.world.exists(path))
    }

    /// Writes all that is true on other machines, too, into a new store.
    ///
    /// # Errors
    /// When there is a file already, or it cannot be written.
    pub fn export_store(&self, path: &Path) -> io::Result<()> {
        if path.exists() {
            return Err(io::ErrorKind::AlreadyExists.into());
        }
        let snapshot = self.session().snapshot().ok_or(io::ErrorKind::NotFound)?;
        let mut everything = snapshot.everything();
        everything.day = (self.session().world.seconds() / SECONDS_OF_A_DAY) as u32;
        let names = self.session().shelf.store.queries().clone();
        let other = Store::new(Some(path.to_owned()), names, Trust::default());
        other.commit(&everything);
        other
            .take_trouble()
            .into_iter()
            .next()
            .map_or(Ok(()), |trouble| Err(io::Error::other(trouble)))
    }

    /// Takes in what another store knows and this one does not.
    ///
    /// # Errors
    /// When there is no store at `path` that can be read.
    pub fn import_store(&mut self, path: &Path) -> io::Result<()> {
        let session = self.session();
        // A copy, so that nothing is repaired or set aside in a place that is not ours.
        let folder = tempfile::tempdir()?;
        let copy = folder.path().join("store.redb");
        std::fs::copy(path, &copy)?;
        let other = Store::new(Some(copy), session.shelf.store.queries().clone(), Trust::default());
        let opened = other.open().ok_or_else(|| io::Error::other("it is not a store"))?;
        let mut news = opened.everything();
        if let Some(own) = session.snapshot() {
            let known = own.everything();
            news.units.retain(|unit, _| !known.units.contains_key(unit));
            news.roots.retain(|root, _| !known.roots.contains_key(root));
            news.effects.retain(|key, _| !known.effects.contains_key(key));
        }
        news.day = (session.world.seconds() / SECONDS_OF_A_DAY) as u32;
        session.shelf.release();
        session.shelf.store.commit(&news);
        session.forget_stored();
        Ok(())
    }

    /// Removes the store.
    ///
    /// # Errors
    /// When its file cannot be removed.
    pub fn clear_store(&self) -> std::io::Result<()> {
        self.session().shelf.release();
        self.session().shelf.store.clear()
    }

    fn refresh(&mut self, leaves: &[Leaf]) {
        if let Some(db) = self.db.get_mut() {
            leaves.iter().for_each(|leaf| db.refresh(leaf));
        }
    }

    fn db(&self) -> &Database {
        self.db.get_or_init(|| Database::new(self.session.clone()))
    }

    fn session(&self) -> &Session {
        &self.session
    }
}

/// What `look_up` finds for units, which it is asked in parallel about those of one folder at a
/// time.
fn by_folder<T: Send>(
    units: &[Unit],
    look_up: impl Fn(&[Unit], &mut [Option<T>]) + Sync,
) -> Vec<Option<T>> {
    let mut all: Vec<Option<T>> = units.iter().map(|_| None).collect();
    let (mut rest, mut folders) = (&mut all[..], Vec::new());
    for units in units.chunk_by(|a, b| split(&a.path).0 == split(&b.path).0) {
        let (found, others) = rest.split_at_mut(units.len());
        folders.push((units, found));
        rest = others;
    }
    match &mut folders[..] {
        [] => {}
        // Where one thread is enough, others are not even started.
        [(units, found)] => look_up(units, found),
        many => many.par_iter_mut().for_each(|(units, found)| look_up(units, found)),
    }
    all
}

fn demand_root<V: Send + Sync + 'static>(db: &Database, node: &Node) -> Result<Arc<V>, Stopped> {
    let cancellation = &crate::db::Db::session(db).cancellation;
    if cancellation.is_cancelled() {
        return Err(Stopped::Cancelled);
    }
    let demand = AssertUnwindSafe(|| crate::memo::demand(db, node));
    let demanded = catch_unwind(demand);
    crate::memo::let_go(node);
    let (memo, value) = demanded.map_err(|panic| {
        // Whoever waited for a query that another thread gave up unwinds in another way.
        if panic.is::<Cancelled>()
            || (cancellation.is_cancelled() && panic.is::<salsa::Cancelled>())
        {
            Stopped::Cancelled
        } else {
            Stopped::Bug(message(&*panic))
        }
    })?;
    if !memo.volatile {
        crate::db::Db::session(db).staged().roots.insert(node.clone(), memo.digest);
    }
    Ok(value.downcast::<V>().expect("a query's name belongs to one type of value"))
}

fn message(panic: &(dyn Any + Send)) -> String {
    let text = panic.downcast_ref::<String>().map(String::as_str);
    text.or_else(|| panic.downcast_ref::<&str>().copied()).unwrap_or("a query panicked").to_owned()
}
