//! Podman over its socket.

mod service;
mod spec;

use std::path::Path;

use self::service::Service;
use crate::action::{Action, BackendKind, Image};
use crate::engine::Engaged;
use crate::error::BackendError;
use crate::outcome::Outcome;
use crate::{Backend, Cancel};

/// Runs actions in Podman's containers.
pub struct Podman(Engaged<Service>);

impl Podman {
    /// The service at `socket`, for mounts relative to `workspace`.
    ///
    /// # Errors
    /// [`BackendError::Unavailable`] when no Podman of version 4 or newer answers there.
    pub fn connect(socket: &Path, workspace: &Path) -> Result<Podman, BackendError> {
        Engaged::connect(Service::at(socket), workspace).map(Podman)
    }
}

impl Backend for Podman {
    fn kind(&self) -> BackendKind {
        BackendKind::Podman
    }

    fn image(&self, reference: &str) -> Result<Option<Image>, BackendError> {
        self.0.image(reference)
    }

    fn run(&self, action: &Action, cancel: &Cancel) -> Result<Outcome, BackendError> {
        self.0.run(action, cancel)
    }

    fn finish(&self) -> Result<(), BackendError> {
        self.0.finish()
    }
}
