//! The containers of a run on an engine.

use std::mem::take;
use std::net::IpAddr;
use std::path::Path;
use std::sync::atomic::Ordering::Relaxed;

use tokio_util::task::TaskTracker;

use super::image::Facts;
use super::spares::{Kind, Model, Spare};
use super::{Engaged, Engine, Plan, START_LIMIT, containers, failed, plan, run_id};
use crate::action::{Action, Network, ServicePlan};
use crate::cell::{Cell, Container, Started, Wiring};
use crate::error::BackendError;
use crate::kept::Way;
use crate::link::Link;
use crate::scenario::RunFolder;
use crate::syscalls::FILTER;

/// The containers of one run.
pub(super) struct EngineCell<'a, E> {
    engaged: &'a Engaged<E>,
    action: &'a Action,
    /// What its first container is like.
    kind: Kind,
    run: String,
    /// Names are chosen before the engine is asked, so that all it may have made can be removed.
    names: Vec<String>,
    /// The network that links them.
    network: Option<String>,
    /// Their addresses in it.
    addresses: Vec<IpAddr>,
    /// Requests under way; one that was not waited for may still make a container.
    making: TaskTracker,
    /// Whether a container kept the one capability that root of an image is lost without.
    as_root: bool,
    /// Whether the machine's folders refuse writes.
    read_only_host: bool,
}

impl<E: Engine> Cell for EngineCell<'_, E> {
    async fn exposed(&mut self, service: &ServicePlan) -> Result<Vec<u16>, BackendError> {
        let Engaged { engine, images, .. } = self.engaged;
        Ok(images.facts(engine, &service.image).await?.ports)
    }

    fn address(&self, index: usize) -> Option<IpAddr> {
        self.addresses.get(index).copied()
    }

    async fn start(&mut self, container: &Container<'_>) -> Result<Started, BackendError> {
        let Engaged { engine, images, .. } = self.engaged;
        let started = async {
            let facts = images.facts(engine, &container.service.image).await?;
            self.as_root |= facts.as_root;
            if container.wiring == Wiring::Linked && self.network.is_none() {
                self.make_network(container.network).await?;
            }
            let spare = match container.index {
                0 => self.engaged.spares.take(self.kind),
                _ => None,
            };
            let made = match spare {
                Some(spare) if !spare.has_ended() => self.adopt(spare, container.folder),
                ended => {
                    if let Some(ended) = ended {
                        ended.remove(engine).await?;
                    }
                    self.make(container, &facts).await
                }
            };
            let link = match made {
                Err(error) if self.may_show_read_only(&facts, &error) => {
                    self.discard_last().await?;
                    self.read_only_host = true;
                    let link = self.make(container, &facts).await?;
                    self.engaged.read_only_host.store(true, Relaxed);
                    link
                }
                link => link?,
            };
            if container.index == 0 && container.wiring != Wiring::Linked {
                self.make_spare(container, &facts);
            }
            Ok(Started { link, command: facts.command })
        };
        tokio::time::timeout(START_LIMIT, started).await.unwrap_or_else(|_| {
            Err(failed::<E>("make a container", format!("it was not up within {START_LIMIT:?}")))
        })
    }

    fn isolation(&self) -> Vec<String> {
        let capabilities =
            if self.as_root { "no capabilities but CAP_DAC_OVERRIDE" } else { "no capabilities" };
        let filter =
            if FILTER.is_some() { "a seccomp filter" } else { "the engine's seccomp filter" };
        ["mount", "pid", "net", "ipc", "uts"]
            .map(|kind| format!("{kind} namespace"))
            .into_iter()
            .chain(
                [capabilities, "no new privileges", filter]
                    .into_iter()
                    .chain(self.read_only_host.then_some("the machine's folders read-only"))
                    .map(str::to_owned),
            )
            .collect()
    }

    fn ways(&self) -> Vec<Way> {
        let program = E::NAME.to_lowercase();
        let socket = format!("unix://{}", self.engaged.engine.socket().display());
        let way = |name: &String| {
            let words = [program.as_str(), E::REMOTE, &socket, "exec", "-it", name];
            Way::Command(words.map(str::to_owned).to_vec())
        };
        self.names.iter().map(way).collect()
    }

    fn destroy(&mut self, folder: RunFolder) {
        self.making.close();
        let (making, names) = (self.making.clone(), take(&mut self.names));
        let network = self.network.take();
        let engine = self.engaged.engine.clone();
        self.engaged.removals.begin(async move {
            let _ = tokio::time::timeout(START_LIMIT, making.wait()).await;
            let removed = containers::remove(&engine, &names).await;
            drop(folder);
            match network {
                Some(network) => removed.and(containers::remove_network(&engine, &network).await),
                None => removed,
            }
        });
    }
}

impl<'a, E: Engine> EngineCell<'a, E> {
    /// Those for `action`, of which there is none yet.
    pub(super) fn new(engaged: &'a Engaged<E>, action: &'a Action) -> EngineCell<'a, E> {
        EngineCell {
            engaged,
            action,
            kind: Kind::of(action, &engaged.workspace),
            run: run_id(),
            names: Vec::new(),
            network: None,
            addresses: Vec::new(),
            making: TaskTracker::new(),
            as_root: false,
            read_only_host: engaged.read_only_host.load(Relaxed),
        }
    }

    /// Has a container made and started, and waits for its agent to call.
    async fn make(
        &mut self,
        container: &Container<'_>,
        facts: &Facts,
    ) -> Result<Link, BackendError> {
        let engine = &self.engaged.engine;
        let name = format!("clnrm-{}-{}", self.run, container.index);
        let (first, network) = (self.names.first().cloned(), self.network.clone());
        let plan = Plan {
            name: &name,
            run: &self.run,
            workspace: &self.engaged.workspace,
            container,
            facts,
            joins: first.as_deref().filter(|_| container.joins()),
            linked_by: network.as_deref(),
            read_only_host: self.read_only_host,
        };
        self.names.push(name.clone());
        let link = bring_up(engine, &plan, &self.making).await?;
        if let Some(network) = plan.linked_by {
            let address = self.find_in(network, &plan).await?;
            self.addresses.push(address);
        }
        Ok(link)
    }

    /// Takes a container that is up already.
    fn adopt(&mut self, spare: Spare, folder: &Path) -> Result<Link, BackendError> {
        let name = spare.name().to_owned();
        self.names.push(name);
        spare.become_that_of(folder).map_err(|error| failed::<E>("take a spare container", error))
    }

    /// Has one made for the next run that is like this one, if there will be one soon.
    fn make_spare(&self, container: &Container<'_>, facts: &Facts) {
        let engaged = self.engaged;
        let model = Model {
            action: self.action.clone(),
            wiring: container.wiring,
            hosts: container.hosts.to_owned(),
            facts: facts.clone(),
            workspace: engaged.workspace.clone(),
            read_only_host: self.read_only_host,
        };
        let may_be_made = model.may_be_made();
        if may_be_made && engaged.spares.begin(self.kind) {
            engaged.make_spare(self.kind, model.clone());
        }
        let may_wait = may_be_made && model.may_wait();
        *engaged.last.lock().expect("no holder panics") = may_wait.then_some((self.kind, model));
    }

    /// Has a network made for the containers to come.
    async fn make_network(&mut self, reach: Network) -> Result<(), BackendError> {
        let engine = &self.engaged.engine;
        let name = format!("clnrm-{}", self.run);
        let labels = plan::labels(&self.engaged.workspace, &self.run);
        self.network = Some(name.clone());
        let made = engine.make_network(&name, labels, reach != Network::Open).await;
        made.map_err(|refusal| refusal.error(engine, "make a network"))
    }

    /// The address of a container that is up; it has no way out of its network then.
    async fn find_in(&self, network: &str, plan: &Plan<'_>) -> Result<IpAddr, BackendError> {
        const OPERATION: &str = "find a container in its network";
        let engine = &self.engaged.engine;
        let place = engine.place(plan.name, network).await;
        let place = place.map_err(|refusal| refusal.error(engine, OPERATION))?;
        let place = place.ok_or_else(|| failed::<E>(OPERATION, "it has no address there"))?;
        if place.has_gateway && plan.container.network != Network::Open {
            let cut_off = engine.cut_off(plan).await;
            cut_off.map_err(|refusal| refusal.error(engine, "cut a container off"))?;
        }
        Ok(place.address)
    }

    /// Whether the engine may have failed for the layers over the machine's folders.
    fn may_show_read_only(&self, facts: &Facts, error: &BackendError) -> bool {
        facts.of_host && !self.read_only_host && error.to_string().contains("overlay")
    }

    /// Removes the container that was made last.
    async fn discard_last(&mut self) -> Result<(), BackendError> {
        let last = &self.names[self.names.len() - 1..];
        containers::remove(&self.engaged.engine, last).await?;
        self.names.pop();
        Ok(())
    }
}

/// Has a container made and started, and waits for its agent to call.
pub(super) async fn bring_up<E: Engine>(
    engine: &E,
    plan: &Plan<'_>,
    making: &TaskTracker,
) -> Result<Link, BackendError> {
    const OPERATION: &str = "make a container";
    let spec = plan.lay_out().and_then(|files| engine.spec(plan, files));
    let spec = spec.map_err(|error| failed::<E>("lay out a container", error))?;
    let up = making.spawn(engine.clone().start(plan.name.to_owned(), spec));
    let complaint = async {
        match up.await.expect("making a container does not panic") {
            Ok(()) => {
                let words = containers::until_gone(engine, plan.name, plan.container.folder).await;
                failed::<E>(OPERATION, words)
            }
            Err(refusal) => refusal.error(engine, OPERATION),
        }
    };
    tokio::select! {
        biased;
        link = Link::accept(plan.container.listener) => {
            link.map_err(|error| failed::<E>("reach a container's agent", error))
        }
        error = complaint => Err(error),
    }
}
