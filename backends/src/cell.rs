//! What a backend has to offer so that a scenario can be run on it.

use std::net::IpAddr;
use std::path::Path;

use tokio::net::UnixListener;

use crate::action::{Limits, Network, ServicePlan};
use crate::agent;
use crate::error::BackendError;
use crate::kept::Way;
use crate::link::Link;
use crate::scenario::RunFolder;

/// The containers of one run, on a private network of their own.
pub(crate) trait Cell {
    /// The ports that the image of a service says are listened on in it.
    async fn exposed(&mut self, service: &ServicePlan) -> Result<Vec<u16>, BackendError>;

    /// Makes a container with the agent as its process 1 and waits until the agent has connected.
    ///
    /// The agent of each network's first container takes OTLP.
    async fn start(&mut self, container: &Container<'_>) -> Result<Started, BackendError>;

    /// Where other containers reach the linked one at this place of the order, as soon as that is known.
    fn address(&self, index: usize) -> Option<IpAddr>;

    /// What separates the cell from the machine, for the report.
    fn isolation(&self) -> Vec<String>;

    /// The ways into the containers that are up, in their order.
    fn ways(&self) -> Vec<Way>;

    /// Begins to remove everything `start` made, and then the folder of the run; called once,
    /// whatever happened before.
    fn destroy(&mut self, folder: RunFolder);
}

/// How the containers of a run find each other.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Wiring {
    /// They share one network, and so one loopback.
    Shared,
    /// Each has a network of its own that reaches those of the others.
    Linked,
    /// Each has a network of its own that reaches nothing.
    Apart,
}

/// A container to be made.
pub(crate) struct Container<'a> {
    /// What it is.
    pub(crate) service: &'a ServicePlan,
    /// What it may use.
    pub(crate) limits: &'a Limits,
    /// Its place in the start order.
    pub(crate) index: usize,
    /// How it finds the others.
    pub(crate) wiring: Wiring,
    /// What the cell may reach.
    pub(crate) network: Network,
    /// The text of its `/etc/hosts`.
    pub(crate) hosts: &'a str,
    /// The folder on this machine that it sees as [`agent::FOLDER`](crate::agent::FOLDER).
    pub(crate) folder: &'a Path,
    /// The socket in that folder on which its agent calls.
    pub(crate) listener: &'a UnixListener,
}

impl Container<'_> {
    /// The text of its `/etc/resolv.conf`, which names the container's agent; `None` where names
    /// outside are resolved.
    pub(crate) fn resolver(&self) -> Option<String> {
        let [a, b, c] = agent::resolver::NETWORK;
        // More containers than that share the last address, and so one agent.
        let own = (self.index + 1).min(254);
        let text = format!("nameserver {a}.{b}.{c}.{own}\nsearch .\noptions ndots:0 attempts:1\n");
        (self.network != Network::Open).then_some(text)
    }

    /// Whether it shares the network of the first one.
    pub(crate) fn joins(&self) -> bool {
        self.wiring == Wiring::Shared && self.index > 0
    }
}

/// The file in a container's folder that is its `/etc/hosts`, where addresses are not known before.
pub(crate) const HOSTS: &str = "hosts";

/// A container that is up.
pub(crate) struct Started {
    /// The line to its agent.
    pub(crate) link: Link,
    /// Entry point and command of its image, empty when it has none.
    pub(crate) command: Vec<String>,
}
