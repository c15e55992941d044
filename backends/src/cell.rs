//! What a backend has to offer so that a scenario can be run on it.

use std::path::Path;

use tokio::net::UnixListener;

use crate::action::{Limits, Network, ServicePlan};
use crate::error::BackendError;
use crate::kept::Way;
use crate::link::Link;
use crate::scenario::RunFolder;

/// The containers of one run, on a private network of their own.
pub(crate) trait Cell {
    /// Makes a container with the agent as its process 1 and waits until the agent has connected.
    ///
    /// The agent of each network's first container takes OTLP.
    async fn start(&mut self, container: &Container<'_>) -> Result<Started, BackendError>;

    /// What separates the cell from the machine, for the report.
    fn isolation(&self) -> Vec<String>;

    /// The ways into the containers that are up, in their order.
    fn ways(&self) -> Vec<Way>;

    /// Begins to remove everything `start` made, and then the folder of the run; called once,
    /// whatever happened before.
    fn destroy(&mut self, folder: RunFolder);
}

/// A container to be made.
pub(crate) struct Container<'a> {
    /// What it is.
    pub(crate) service: &'a ServicePlan,
    /// What it may use.
    pub(crate) limits: &'a Limits,
    /// Its place in the start order.
    pub(crate) index: usize,
    /// Whether it shares the network of the first one.
    pub(crate) joins: bool,
    /// What the cell may reach.
    pub(crate) network: Network,
    /// The text of its `/etc/hosts`.
    pub(crate) hosts: &'a str,
    /// The folder on this machine that it sees as [`agent::FOLDER`](crate::agent::FOLDER).
    pub(crate) folder: &'a Path,
    /// The socket in that folder on which its agent calls.
    pub(crate) listener: &'a UnixListener,
}

/// A container that is up.
pub(crate) struct Started {
    /// The line to its agent.
    pub(crate) link: Link,
    /// Entry point and command of its image, empty when it has none.
    pub(crate) command: Vec<String>,
}
