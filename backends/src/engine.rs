//! Containers of an engine that is there already: what Podman and Docker have in common.
//!
//! Each container runs the agent as its process 1. The engine removes a container by itself when
//! its agent ends, so nothing is left of a run that was killed.

pub(crate) mod archive;
mod cell;
mod containers;
mod image;
mod plan;
mod spares;

use std::collections::HashMap;
use std::io;
use std::net::IpAddr;
use std::path::{Path, PathBuf};
use std::sync::atomic::AtomicBool;
use std::sync::{Mutex, Once};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use tokio::runtime::Runtime;

use self::cell::EngineCell;
pub(crate) use self::image::ImageFacts;
use self::image::Images;
pub(crate) use self::plan::{Bind, Files, Layer, Plan, STARTED_LABEL};
use self::plan::{NAMESPACE_LABEL, PID_LABEL, SERVICE_LABEL, WORKSPACE_LABEL};
use self::spares::{Kind, Model, Spare, Spares};
use crate::action::{Action, BackendKind, Image};
use crate::error::BackendError;
use crate::image::pull::Pulls;
use crate::image::{self as image_file, Shelf};
use crate::kept::Kept;
use crate::outcome::Outcome;
use crate::removal::Removals;
use crate::up::Up;
use crate::{Backend, Cancel, Pull, host, scenario};

/// How long an engine may take to say which version it is.
const GREETING_LIMIT: Duration = Duration::from_secs(2);
/// A container that was not started for this long never will be.
const ABANDONED: Duration = Duration::from_secs(30);
/// How long a container may take to come up.
const START_LIMIT: Duration = Duration::from_secs(20);

/// An engine's service, as far as a cell needs it.
pub(crate) trait Engine: Clone + Send + Sync + 'static {
    /// Its name, for messages.
    const NAME: &'static str;

    /// The option by which its own command is told where its service is.
    const REMOTE: &'static str;

    /// What it is asked to make.
    type Spec: Send + 'static;

    /// Where its service listens.
    fn socket(&self) -> &Path;

    /// Whether this user may put layers over the machine's folders.
    fn layers_host() -> bool {
        true
    }

    /// Asks which version it is.
    ///
    /// # Errors
    /// When something else answers, or one that is too old.
    fn greet(&self) -> impl Future<Output = Result<(), Refusal>> + Send;

    /// The image of a reference; `None` when the engine does not have it.
    fn inspect(
        &self,
        reference: &str,
    ) -> impl Future<Output = Result<Option<ImageFacts>, Refusal>> + Send;

    /// Gets an image from its registry.
    fn pull(&self, reference: &str) -> impl Future<Output = Result<(), Refusal>> + Send;

    /// Makes an image of an archive of its root.
    fn import(
        &self,
        reference: &str,
        root: Vec<u8>,
    ) -> impl Future<Output = Result<(), Refusal>> + Send;

    /// What to ask for.
    ///
    /// # Errors
    /// When a file for it cannot be written.
    fn spec(&self, plan: &Plan<'_>, files: Files) -> io::Result<Self::Spec>;

    /// Makes a network for the containers of a run; nothing outside is reached from an `internal` one.
    fn make_network(
        &self,
        name: &str,
        labels: HashMap<String, String>,
        internal: bool,
    ) -> impl Future<Output = Result<(), Refusal>> + Send;

    /// The place of a container in a network.
    fn place(
        &self,
        container: &str,
        network: &str,
    ) -> impl Future<Output = Result<Option<Place>, Refusal>> + Send;

    /// Takes a container the way to the gateway of its network. Only engines are asked that give
    /// one to internal networks.
    fn cut_off(&self, plan: &Plan<'_>) -> impl Future<Output = Result<(), Refusal>> + Send;

    /// Removes a network that no container uses.
    fn remove_network(&self, name: &str) -> impl Future<Output = Result<(), Refusal>> + Send;

    /// Networks of ours.
    fn networks(&self) -> impl Future<Output = Result<Vec<Ours>, Refusal>> + Send;

    /// Makes a container and starts it.
    fn start(
        self,
        name: String,
        spec: Self::Spec,
    ) -> impl Future<Output = Result<(), Refusal>> + Send + 'static;

    /// Whether a container is there.
    fn is_there(&self, name: &str) -> impl Future<Output = bool> + Send;

    /// What the agent of a container said that has ended.
    fn last_words(&self, name: &str, folder: &Path) -> Vec<String>;

    /// Removes a container with its volumes; with `force`, one that still runs.
    fn remove(&self, name: &str, force: bool) -> impl Future<Output = Result<(), Refusal>> + Send;

    /// Containers of ours.
    fn containers(&self) -> impl Future<Output = Result<Vec<Ours>, Refusal>> + Send;
}

/// Where a container is in a network.
pub(crate) struct Place {
    pub(crate) address: IpAddr,
    /// Whether it has a way out of the network.
    pub(crate) has_gateway: bool,
}

impl Place {
    /// By what an engine says of a container in a network; `None` without an address.
    pub(crate) fn new(address: Option<String>, gateway: Option<String>) -> Option<Place> {
        let parse = |text: Option<String>| text?.parse::<IpAddr>().ok();
        Some(Place { address: parse(address)?, has_gateway: parse(gateway).is_some() })
    }
}

/// A container or a network.
pub(crate) struct Ours {
    pub(crate) name: String,
    /// Whether it is a container that runs.
    runs: bool,
    /// The folder whose tests it is for.
    workspace: String,
    /// The service of a container.
    service: String,
    /// The process that had it made.
    owner: String,
    /// Where that number means that process.
    namespace: String,
    /// When its run began, since the epoch.
    started: Duration,
}

impl Ours {
    /// By its name and labels.
    pub(crate) fn new(
        name: String,
        mut labels: HashMap<String, String>,
        runs: bool,
    ) -> Option<Ours> {
        let started = Duration::from_secs(labels.remove(STARTED_LABEL)?.parse().ok()?);
        let name = name.trim_start_matches('/').to_owned();
        let mut label = |label| labels.remove(label).unwrap_or_default();
        let [namespace, workspace] = [NAMESPACE_LABEL, WORKSPACE_LABEL].map(&mut label);
        let service = label(SERVICE_LABEL);
        let owner = labels.remove(PID_LABEL)?;
        Some(Ours { name, runs, workspace, service, owner, namespace, started })
    }

    fn age(&self) -> Duration {
        let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
        now.saturating_sub(self.started)
    }

    /// Whether its run is over: the process is gone or, where that cannot be seen from here, it
    /// had all the time it needs.
    fn is_left(&self) -> bool {
        let seen_from_here = self.namespace == plan::pid_namespace();
        let gone = seen_from_here && !Path::new("/proc").join(&self.owner).exists();
        !self.runs && (gone || self.age() > ABANDONED)
    }
}

/// Why a request came to nothing.
#[derive(Debug)]
pub(crate) enum Refusal {
    /// The engine's own words, with the HTTP status.
    Answer(u16, String),
    /// There was no answer.
    Unreachable(String),
}

impl Refusal {
    fn error<E: Engine>(self, engine: &E, operation: &str) -> BackendError {
        match self {
            Refusal::Answer(_, message) => failed::<E>(operation, message),
            Refusal::Unreachable(reason) => unavailable(engine, reason),
        }
    }
}

/// What lies under an error of the line to an engine.
pub(crate) fn explain(error: &io::Error) -> String {
    match error.kind() {
        io::ErrorKind::NotFound => "there is no such socket".to_owned(),
        io::ErrorKind::ConnectionRefused => "no service listens there".to_owned(),
        io::ErrorKind::PermissionDenied => "this user may not use the socket".to_owned(),
        _ => error.to_string(),
    }
}

/// What lies under the errors of HTTP libraries.
pub(crate) fn chain(error: &(dyn std::error::Error + 'static)) -> String {
    let mut cause = error;
    loop {
        if let Some(error) = cause.downcast_ref::<io::Error>() {
            return explain(error);
        }
        match cause.source() {
            Some(source) => cause = source,
            None => return cause.to_string(),
        }
    }
}

/// Runs actions in an engine's containers.
pub(crate) struct Engaged<E> {
    engine: E,
    workspace: PathBuf,
    images: Images,
    /// Images in files.
    shelf: Shelf,
    swept: Once,
    removals: Removals,
    spares: Spares,
    /// Of what the first container of the last run was made.
    last: Mutex<Option<(Kind, Model)>>,
    pulls: Pulls,
    /// Whether this engine refuses to put layers over the machine's folders.
    read_only_host: AtomicBool,
    runtime: Runtime,
}

impl<E: Engine> Engaged<E> {
    /// An engine that answers, for mounts relative to `workspace`.
    pub(crate) fn connect(engine: E, workspace: &Path) -> Result<Engaged<E>, BackendError> {
        let workspace = std::path::absolute(workspace).unwrap_or_else(|_| workspace.to_owned());
        let runtime = crate::runtime();
        runtime.block_on(async {
            let silent = || Refusal::Unreachable(format!("no answer within {GREETING_LIMIT:?}"));
            let greeting = tokio::time::timeout(GREETING_LIMIT, engine.greet()).await;
            let greeting = greeting.unwrap_or_else(|_| Err(silent()));
            greeting.map_err(|refusal| match refusal {
                Refusal::Answer(_, reason) | Refusal::Unreachable(reason) => {
                    unavailable(&engine, reason)
                }
            })
        })?;
        let shelf = Shelf::of_user();
        Ok(Engaged {
            engine,
            workspace,
            images: Images::default(),
            swept: Once::new(),
            removals: Removals::default(),
            spares: Spares::default(),
            last: Mutex::default(),
            pulls: Pulls::new(Pull::default(), shelf.pulled_by(E::NAME)),
            shelf,
            read_only_host: AtomicBool::new(!E::layers_host()),
            runtime,
        })
    }

    /// See [`Backend::image`](crate::Backend::image).
    pub(crate) fn image(&self, reference: &str) -> Result<Option<Image>, BackendError> {
        if reference == "host" {
            let digest =
                host::digest().map_err(|error| failed::<E>("read the machine's image", error))?;
            return Ok(Some(Image::Host(digest)));
        }
        let id = match reference.strip_prefix(image_file::PREFIX) {
            Some(path) => {
                let id = self.image_file(&self.workspace.join(path));
                let operation = || format!("take in the image `{reference}`");
                id.map_err(|reason| failed::<E>(&operation(), reason))?
            }
            None => self.runtime.block_on(self.image_by_name(reference))?,
        };
        Ok(id.map(Image::Id))
    }

    /// The id of an image that the engine has, or pulls.
    async fn image_by_name(&self, reference: &str) -> Result<Option<String>, BackendError> {
        if !self.pulls.first(reference) {
            let found = self.images.find(&self.engine, reference).await?;
            if found.is_some() || !self.pulls.may(reference) {
                return Ok(found);
            }
        }
        let pulled = self.engine.pull(reference).await;
        let operation = || format!("pull the image `{reference}`");
        pulled.map_err(|refusal| refusal.error(&self.engine, &operation()))?;
        self.pulls.done(reference);
        self.images.find(&self.engine, reference).await
    }

    /// See `Podman::pulling`.
    pub(crate) fn pulling(self, pull: Pull) -> Engaged<E> {
        Engaged { pulls: self.pulls.by(pull), ..self }
    }

    /// The id of an image in a file, which the engine has afterwards.
    fn image_file(&self, path: &Path) -> Result<Option<String>, String> {
        let Some(id) = self.shelf.find(path)? else { return Ok(None) };
        let socket = self.engine.socket();
        if self.runtime.block_on(archive::find(socket, &id)).is_none() {
            let file = tempfile::NamedTempFile::new().map_err(|error| error.to_string())?;
            self.shelf.save(&id, file.path())?;
            self.runtime.block_on(archive::load(socket, file.path()))?;
        }
        Ok(Some(id))
    }

    /// Removes the containers and networks of runs whose process is gone, and names them.
    pub(crate) fn clean(&self) -> Result<Vec<String>, BackendError> {
        self.runtime.block_on(containers::clean(&self.engine))
    }

    /// The containers of ours that run.
    pub(crate) fn up(&self) -> Result<Vec<Up>, BackendError> {
        let containers = self.runtime.block_on(self.engine.containers());
        let failed = |refusal: Refusal| refusal.error(&self.engine, "list containers");
        let containers = containers.map_err(failed)?.into_iter();
        let up = containers.filter(|container| container.runs).map(|container| Up {
            age: container.age(),
            service: container.service,
            workspace: container.workspace.into(),
            container: format!("{} in {}", container.name, E::NAME),
        });
        Ok(up.collect())
    }

    /// See [`Backend::finish`](crate::Backend::finish).
    pub(crate) fn finish(&self) -> Result<(), BackendError> {
        self.runtime.block_on(async {
            for spare in self.spares.rest() {
                let engine = self.engine.clone();
                self.removals.begin(async move { spare.remove(&engine).await });
            }
            // One that was still being made is removed when it is.
            self.removals.finish().await
        })
    }

    /// See [`Backend::expect`](crate::Backend::expect).
    pub(crate) fn expect(&self, actions: &[&Action], at_once: usize) {
        self.spares.expect(actions, at_once, &self.workspace);
    }

    /// See [`Backend::linger`](crate::Backend::linger).
    pub(crate) fn linger(&self) {
        let last = self.last.lock().expect("no holder panics").take();
        let Some((kind, model)) = last else { return };
        let (begins, in_its_way) = self.spares.linger(kind);
        let _runtime = self.runtime.enter();
        for spare in in_its_way {
            let engine = self.engine.clone();
            self.removals.begin(async move { spare.remove(&engine).await });
        }
        if begins {
            self.make_spare(kind, model);
        }
    }

    /// Has a container made for a run to come. Call within the runtime.
    fn make_spare(&self, kind: Kind, model: Model) {
        let (spares, engine) = (self.spares.clone(), self.engine.clone());
        self.removals.begin(async move {
            let made = Spare::make(&engine, kind, &model).await;
            match spares.end(kind, made.ok()) {
                Some(unused) => unused.remove(&engine).await,
                None => Ok(()),
            }
        });
    }

    /// See [`Backend::run`](crate::Backend::run).
    pub(crate) fn run(&self, action: &Action, cancel: &Cancel) -> Result<Outcome, BackendError> {
        self.swept.call_once(|| {
            let (engine, _runtime) = (self.engine.clone(), self.runtime.enter());
            self.removals.begin(async move {
                // A run does not fail for what others have left.
                let _ = containers::clean(&engine).await;
                Ok(())
            });
        });
        self.runtime.block_on(scenario::run(&mut EngineCell::new(self, action), action, cancel))
    }

    /// See [`Backend::keep`](crate::Backend::keep).
    pub(crate) fn keep(
        &self,
        action: &Action,
        scenario: &str,
        cancel: &Cancel,
        up: &dyn Fn(&Kept),
    ) -> Result<(), BackendError> {
        let mut cell = EngineCell::new(self, action);
        self.runtime.block_on(scenario::keep(&mut cell, action, scenario, cancel, up))
    }
}

/// What is a backend by its engine.
pub(crate) trait Engages: Send + Sync {
    /// The engine's service.
    type Service: Engine;

    /// Which backend it is.
    const KIND: BackendKind;

    /// Runs its actions.
    fn engaged(&self) -> &Engaged<Self::Service>;
}

impl<T: Engages> Backend for T {
    fn kind(&self) -> BackendKind {
        T::KIND
    }

    fn image(&self, reference: &str) -> Result<Option<Image>, BackendError> {
        self.engaged().image(reference)
    }

    fn run(&self, action: &Action, cancel: &Cancel) -> Result<Outcome, BackendError> {
        self.engaged().run(action, cancel)
    }

    fn keep(
        &self,
        action: &Action,
        scenario: &str,
        cancel: &Cancel,
        up: &dyn Fn(&Kept),
    ) -> Result<(), BackendError> {
        self.engaged().keep(action, scenario, cancel, up)
    }

    fn expect(&self, actions: &[&Action], at_once: usize) {
        self.engaged().expect(actions, at_once);
    }

    fn linger(&self) {
        self.engaged().linger();
    }

    fn finish(&self) -> Result<(), BackendError> {
        self.engaged().finish()
    }
}

/// Names a run among all that ever shared the service.
fn run_id() -> String {
    let mut bytes = [0; 8];
    rustix::rand::getrandom(&mut bytes, rustix::rand::GetRandomFlags::empty())
        .expect("the kernel gives a few random bytes at any time");
    bytes.map(|byte| format!("{byte:02x}")).concat()
}

fn failed<E: Engine>(operation: &str, reason: impl ToString) -> BackendError {
    BackendError::Engine {
        engine: E::NAME.to_owned(),
        operation: operation.to_owned(),
        reason: reason.to_string(),
    }
}

fn unavailable<E: Engine>(engine: &E, reason: String) -> BackendError {
    let engine = format!("{} at {}", E::NAME, engine.socket().display());
    BackendError::Unavailable { engine, reason }
}
