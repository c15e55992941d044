//! Podman over its socket: containers of an engine that is there already.
//!
//! Each container runs the agent as its process 1. The engine removes a container by itself when
//! its agent ends, so nothing is left of a run that was killed.

mod containers;
mod image;
mod service;
mod spec;

use std::path::{Path, PathBuf};
use std::sync::Once;
use std::sync::atomic::{AtomicBool, Ordering::Relaxed};
use std::time::Duration;

use tokio::runtime::Runtime;
use tokio_util::task::TaskTracker;

use self::image::Images;
use self::service::Service;
use crate::action::{Action, BackendKind, Image};
use crate::cell::{Cell, Container, Started};
use crate::error::BackendError;
use crate::link::Link;
use crate::outcome::Outcome;
use crate::{Backend, Cancel, host, scenario};

/// How long the service may take to say which version it is.
const GREETING_LIMIT: Duration = Duration::from_secs(2);
/// How long a container may take to come up.
const START_LIMIT: Duration = Duration::from_secs(20);

/// Runs actions in Podman's containers.
pub struct Podman {
    workspace: PathBuf,
    service: Service,
    images: Images,
    swept: Once,
    /// Whether this engine refuses to put layers over the machine's folders.
    read_only_host: AtomicBool,
    runtime: Runtime,
}

impl Podman {
    /// The service at `socket`, for mounts relative to `workspace`.
    ///
    /// # Errors
    /// [`BackendError::Unavailable`] when no Podman of version 4 or newer answers there.
    pub fn connect(socket: &Path, workspace: &Path) -> Result<Podman, BackendError> {
        let workspace = std::path::absolute(workspace).unwrap_or_else(|_| workspace.to_owned());
        let runtime = crate::runtime();
        let service = Service::at(socket);
        runtime.block_on(async {
            let silent = || service.unavailable(format!("no answer within {GREETING_LIMIT:?}"));
            let greeting = tokio::time::timeout(GREETING_LIMIT, service.greet());
            greeting.await.unwrap_or_else(|_| Err(silent()))
        })?;
        Ok(Podman {
            workspace,
            service,
            images: Images::default(),
            swept: Once::new(),
            read_only_host: AtomicBool::new(false),
            runtime,
        })
    }
}

impl Backend for Podman {
    fn kind(&self) -> BackendKind {
        BackendKind::Podman
    }

    fn image(&self, reference: &str) -> Result<Option<Image>, BackendError> {
        if reference == "host" {
            let digest = host::digest()
                .map_err(|error| self.service.failed("read the machine's image", error))?;
            return Ok(Some(Image::Host(digest)));
        }
        let id = self.runtime.block_on(self.images.find(&self.service, reference))?;
        Ok(id.map(Image::Id))
    }

    fn run(&self, action: &Action, cancel: &Cancel) -> Result<Outcome, BackendError> {
        self.swept.call_once(|| {
            self.runtime.spawn(containers::sweep(self.service.clone()));
        });
        let mut cell = PodmanCell {
            podman: self,
            run: run_id(),
            names: Vec::new(),
            making: TaskTracker::new(),
            as_root: false,
            read_only_host: self.read_only_host.load(Relaxed),
        };
        self.runtime.block_on(scenario::run(&mut cell, action, cancel))
    }
}

/// The containers of one run.
struct PodmanCell<'a> {
    podman: &'a Podman,
    run: String,
    /// Names are chosen before the engine is asked, so that all it may have made can be removed.
    names: Vec<String>,
    /// Requests under way; one that was not waited for may still make a container.
    making: TaskTracker,
    /// Whether a container kept the one capability that root of an image is lost without.
    as_root: bool,
    /// Whether the machine's folders refuse writes.
    read_only_host: bool,
}

impl Cell for PodmanCell<'_> {
    async fn start(&mut self, container: &Container<'_>) -> Result<Started, BackendError> {
        let Podman { service, images, .. } = self.podman;
        let limit = tokio::time::sleep(START_LIMIT);
        let started = async {
            let facts = images.facts(service, &container.service.image).await?;
            self.as_root |= facts.as_root;
            let link = match self.make(container, &facts).await {
                Err(error) if self.may_show_read_only(&facts, &error) => {
                    self.discard_last().await?;
                    self.read_only_host = true;
                    let link = self.make(container, &facts).await?;
                    self.podman.read_only_host.store(true, Relaxed);
                    link
                }
                link => link?,
            };
            Ok(Started { link, command: facts.command })
        };
        tokio::select! {
            started = started => started,
            () = limit => {
                Err(service.failed("make a container", format!("it was not up within {START_LIMIT:?}")))
            }
        }
    }

    fn isolation(&self) -> Vec<String> {
        let capabilities =
            if self.as_root { "no capabilities but CAP_DAC_OVERRIDE" } else { "no capabilities" };
        ["mount", "pid", "net", "ipc", "uts"]
            .map(|kind| format!("{kind} namespace"))
            .into_iter()
            .chain(
                [capabilities, "no new privileges", "the engine's seccomp filter"]
                    .into_iter()
                    .chain(self.read_only_host.then_some("the machine's folders read-only"))
                    .map(str::to_owned),
            )
            .collect()
    }

    async fn destroy(&mut self) -> Result<(), BackendError> {
        self.making.close();
        let _ = tokio::time::timeout(START_LIMIT, self.making.wait()).await;
        containers::remove(&self.podman.service, &self.names).await
    }
}

impl PodmanCell<'_> {
    /// Has a container made and started, and waits for its agent to call.
    async fn make(
        &mut self,
        container: &Container<'_>,
        facts: &image::Facts,
    ) -> Result<Link, BackendError> {
        let service = &self.podman.service;
        let name = format!("clnrm-{}-{}", self.run, container.index);
        let plan = spec::Plan {
            name: &name,
            run: &self.run,
            workspace: &self.podman.workspace,
            container,
            facts,
            joins: self.names.first().map(String::as_str),
            read_only_host: self.read_only_host,
        };
        let spec = plan.spec().map_err(|error| service.failed("lay out a container", error))?;
        self.names.push(name.clone());
        let up = self.making.spawn(containers::start(service.clone(), name.clone(), spec));
        let complaint = async {
            match up.await.expect("making a container does not panic") {
                Ok(()) => service.failed(
                    "make a container",
                    containers::until_gone(service, &name, container.folder).await,
                ),
                Err(error) => error,
            }
        };
        tokio::select! {
            biased;
            link = Link::accept(container.listener) => {
                link.map_err(|error| service.failed("reach a container's agent", error))
            }
            error = complaint => Err(error),
        }
    }

    /// Whether the engine may have failed for the layers over the machine's folders.
    fn may_show_read_only(&self, facts: &image::Facts, error: &BackendError) -> bool {
        facts.of_host && !self.read_only_host && error.to_string().contains("overlay")
    }

    /// Removes the container that was made last.
    async fn discard_last(&mut self) -> Result<(), BackendError> {
        let last = &self.names[self.names.len() - 1..];
        containers::remove(&self.podman.service, last).await?;
        self.names.pop();
        Ok(())
    }
}

/// Names a run among all that ever shared the service.
fn run_id() -> String {
    let mut bytes = [0; 8];
    rustix::rand::getrandom(&mut bytes, rustix::rand::GetRandomFlags::empty())
        .expect("the kernel gives a few random bytes at any time");
    bytes.map(|byte| format!("{byte:02x}")).concat()
}
