//! Containers that are up before they are needed: the first container of the next run like the last
//! one is made while that goes on, or, where one waits for edits, when it is over. Each is used once,
//! or removed.

use std::collections::HashMap;
use std::fs;
use std::io;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard};

use serde::Serialize;
use tokio::time::timeout;
use tokio_util::task::TaskTracker;

use super::cell::bring_up;
use super::image::Facts;
use super::{Engine, Plan, START_LIMIT, containers, run_id};
use crate::STORE;
use crate::action::{Action, Mount, Network, ServicePlan};
use crate::cell::{Container, Wiring};
use crate::error::BackendError;
use crate::link::Link;
use crate::scenario::{self, RunFolder};

/// As many are made or wait at once, all kinds together.
const MOST: usize = 2;

/// What the first containers of two runs must have in common to stand for each other: all that is
/// said when one is made.
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
pub(super) struct Kind([u8; 32]);

impl Kind {
    /// That of the first container of `action`, made now.
    pub(super) fn of(action: &Action, workspace: &Path) -> Kind {
        let Action { network, allowed, limits, services, .. } = action;
        // Names and ports of all services are in `/etc/hosts`, or decide who is there.
        let services = services.iter().map(|service| {
            let ServicePlan { name, image, mounts, ports, ready, .. } = service;
            (name, image, mounts, ports, ready)
        });
        // What is mounted is what it was when a container was made, whatever has its name now.
        let mounted = mounts(action).map(|mount| identity(&workspace.join(&mount.source)));
        let mounted: Vec<_> = mounted.collect();
        let said = (network, allowed, limits, services.collect::<Vec<_>>(), mounted);
        let said = serde_json::to_vec(&said).expect("actions are plain data");
        Kind(blake3::derive_key("clnrm 2026-11 spare container", &said))
    }
}

/// Which file or folder it is, and since when it has been as it is, and by that name.
fn identity(path: &Path) -> Option<impl Serialize + use<>> {
    let meta = fs::metadata(path).ok()?;
    Some((meta.dev(), meta.ino(), meta.ctime(), meta.ctime_nsec()))
}

fn mounts(action: &Action) -> impl Iterator<Item = &Mount> {
    action.services.iter().flat_map(|service| &service.mounts)
}

/// A container that is up and has not been used.
pub(super) struct Spare {
    name: String,
    link: Link,
    folder: RunFolder,
}

/// What a spare is made of.
#[derive(Clone)]
pub(super) struct Model {
    /// A run whose first container it may be.
    pub(super) action: Action,
    pub(super) wiring: Wiring,
    pub(super) hosts: String,
    pub(super) facts: Facts,
    pub(super) workspace: PathBuf,
    pub(super) read_only_host: bool,
}

impl Model {
    /// Whether what it sees can be told to be what a later run is to see.
    pub(super) fn may_be_made(&self) -> bool {
        let is_plain = |mount: &Mount| {
            let source = self.workspace.join(&mount.source);
            let is_itself = fs::canonicalize(&source).is_ok_and(|path| path == source);
            // A folder under a layer, or copied, must not change meanwhile.
            is_itself && (mount.read_only || !source.is_dir())
        };
        mounts(&self.action).all(is_plain)
    }

    /// Whether it may wait as long as somebody edits. What is mounted over what is the machine's goes
    /// when that is replaced, and a resolver may become another.
    pub(super) fn may_wait(&self) -> bool {
        let on_host = self.facts.of_host && self.read_only_host;
        let covered = |mount: &Mount| {
            let below = |other: &Mount| {
                other.target != mount.target && Path::new(&other.target).starts_with(&mount.target)
            };
            let mut own = self.action.services[0].mounts.iter();
            self.workspace.join(&mount.source).join(STORE).is_dir() || own.any(below)
        };
        self.action.network != Network::Open && !on_host && !mounts(&self.action).any(covered)
    }
}

/// The spares of an engine.
#[derive(Clone, Default)]
pub(super) struct Spares(Arc<Mutex<State>>);

#[derive(Default)]
struct State {
    /// How many runs of a kind have not begun yet.
    expected: HashMap<Kind, usize>,
    /// How many of them begin before another has ended.
    at_once: usize,
    ready: HashMap<Kind, Vec<Spare>>,
    /// How many of a kind are being made.
    making: HashMap<Kind, usize>,
}

impl Spares {
    /// So many runs are to come, `at_once` of them at a time.
    pub(super) fn expect(&self, actions: &[&Action], at_once: usize, workspace: &Path) {
        let mut state = self.state();
        state.expected.clear();
        state.at_once = at_once;
        for action in actions {
            *state.expected.entry(Kind::of(action, workspace)).or_default() += 1;
        }
    }

    /// A run begins; gives what there is for it, which may have ended meanwhile.
    pub(super) fn take(&self, kind: Kind) -> Option<Spare> {
        let mut state = self.state();
        if let Some(expected) = state.expected.get_mut(&kind) {
            *expected = expected.saturating_sub(1);
        }
        state.ready.get_mut(&kind)?.pop()
    }

    /// Whether one more of a kind is to be made now; it counts as being made then.
    pub(super) fn begin(&self, kind: Kind) -> bool {
        let mut state = self.state();
        let ready: usize = state.ready.values().map(Vec::len).sum();
        let all = ready + state.making.values().sum::<usize>();
        let of_kind = state.ready.get(&kind).map_or(0, Vec::len)
            + state.making.get(&kind).copied().unwrap_or_default();
        // Those that begin at this very moment have no time to wait for one.
        let others = state.at_once.saturating_sub(1);
        let later = state.expected.get(&kind).map_or(0, |expected| expected.saturating_sub(others));
        let wanted = later > of_kind;
        let begins = wanted && all < MOST;
        if begins {
            *state.making.entry(kind).or_default() += 1;
        }
        begins
    }

    /// One more run of a kind is to come, some time later; gives whether one is to be made, which
    /// counts as being made then, and those that are in its way.
    pub(super) fn linger(&self, kind: Kind) -> (bool, Vec<Spare>) {
        let mut state = self.state();
        state.expected = HashMap::from([(kind, 1)]);
        let ready = state.ready.get(&kind).map_or(0, Vec::len);
        let making = state.making.get(&kind).copied().unwrap_or_default();
        if ready + making > 0 {
            return (false, Vec::new());
        }
        let all: usize = state.ready.values().map(Vec::len).sum();
        let others = if all < MOST { HashMap::new() } else { std::mem::take(&mut state.ready) };
        *state.making.entry(kind).or_default() += 1;
        (true, others.into_values().flatten().collect())
    }

    /// One has been made, or could not be; gives it back when no run expects it any more.
    pub(super) fn end(&self, kind: Kind, spare: Option<Spare>) -> Option<Spare> {
        let mut state = self.state();
        if let Some(making) = state.making.get_mut(&kind) {
            *making = making.saturating_sub(1);
        }
        let ready = state.ready.get(&kind).map_or(0, Vec::len);
        if state.expected.get(&kind).is_none_or(|expected| *expected <= ready) {
            return spare;
        }
        state.ready.entry(kind).or_default().extend(spare);
        None
    }

    /// Nothing more is expected; gives what was not used.
    pub(super) fn rest(&self) -> Vec<Spare> {
        let mut state = self.state();
        state.expected.clear();
        state.ready.drain().flat_map(|(_, spares)| spares).collect()
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.0.lock().expect("no holder panics")
    }
}

impl Spare {
    /// Makes one of this kind.
    pub(super) async fn make<E: Engine>(
        engine: &E,
        kind: Kind,
        model: &Model,
    ) -> Result<Spare, BackendError> {
        let folder = RunFolder::make()?;
        let own = folder.path().join("0");
        let listener = scenario::listen(&own)?;
        let run = run_id();
        let name = format!("clnrm-{run}-0");
        let container = Container {
            service: &model.action.services[0],
            limits: &model.action.limits,
            index: 0,
            wiring: model.wiring,
            network: model.action.network,
            hosts: &model.hosts,
            folder: &own,
            listener: &listener,
        };
        let plan = Plan {
            name: &name,
            run: &run,
            workspace: &model.workspace,
            container: &container,
            facts: &model.facts,
            joins: None,
            linked_by: None,
            read_only_host: model.read_only_host,
        };
        let making = TaskTracker::new();
        let link = timeout(START_LIMIT, bring_up(engine, &plan, &making)).await;
        if let Ok(Ok(link)) = link
            // Otherwise it may see what was there for a moment only.
            && Kind::of(&model.action, &model.workspace) == kind
        {
            return Ok(Spare { name, link, folder });
        }
        making.close();
        let _ = timeout(START_LIMIT, making.wait()).await;
        containers::remove(engine, &[name]).await?;
        // Whoever needs one makes it, and hears why that fails.
        Err(BackendError::Cancelled)
    }

    pub(super) fn name(&self) -> &str {
        &self.name
    }

    /// Whether somebody has taken it away.
    pub(super) fn has_ended(&self) -> bool {
        self.link.has_ended()
    }

    /// Makes it the container whose folder is `folder`, with the sockets that are there.
    pub(super) fn become_that_of(self, folder: &Path) -> io::Result<Link> {
        let own = self.folder.path().join("0");
        for entry in fs::read_dir(folder)? {
            let entry = entry?;
            fs::rename(entry.path(), own.join(entry.file_name()))?;
        }
        fs::remove_dir(folder)?;
        // The container goes on seeing it, by what it is and not by its name.
        fs::rename(own, folder)?;
        Ok(self.link)
    }

    /// Removes it.
    pub(super) async fn remove<E: Engine>(self, engine: &E) -> Result<(), BackendError> {
        let Spare { name, link, folder } = self;
        // Its agent ends with the line to it.
        drop(link);
        let removed = containers::remove(engine, &[name]).await;
        drop(folder);
        removed
    }
}
