//! The services that are up now, by the labels of the engines' containers.

use std::path::{Path, PathBuf};
use std::time::Duration;

use crate::choose::podman_sockets;
use crate::docker::sockets as docker_sockets;
use crate::engine::Engages;
use crate::{BackendError, Docker, Podman};

/// A service that is up.
#[derive(Clone, Debug, PartialEq)]
pub struct Up {
    /// Its name.
    pub service: String,
    /// The folder of its test.
    pub workspace: PathBuf,
    /// What it runs in.
    pub container: String,
    /// For how long.
    pub age: Duration,
}

/// All services in containers of engines that answer, and what is wrong with others.
pub fn services_up() -> (Vec<Up>, Vec<String>) {
    let here = Path::new(".");
    let podman = podman_sockets().unwrap_or_default().into_iter();
    let podman = podman.map(|socket| Podman::connect(&socket, here)?.engaged().up());
    let docker = docker_sockets().unwrap_or_default().into_iter();
    let docker = docker.map(|socket| Docker::connect(&socket, here)?.engaged().up());
    let (mut all, mut troubles) = (Vec::new(), Vec::new());
    for up in podman.chain(docker) {
        match up {
            Ok(up) => all.extend(up),
            // An engine that is not up has no containers that are.
            Err(BackendError::Unavailable { .. }) => {}
            Err(error) => troubles.push(error.to_string()),
        }
    }
    all.sort_by(|a, b| (&a.workspace, &a.container).cmp(&(&b.workspace, &b.container)));
    (all, troubles)
}
