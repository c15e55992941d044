//! Podman over its socket.

mod service;
mod spec;

use std::path::Path;

use self::service::Service;
use crate::action::{Action, BackendKind, Image};
use crate::engine::Engaged;
use crate::error::BackendError;
use crate::outcome::Outcome;
use crate::{Backend, Cancel, Kept, Pull};

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

    /// Pulls images as `pull` says, instead of those that are missing.
    #[must_use]
    pub fn pulling(mut self, pull: Pull) -> Self {
        self.0.pulling(pull);
        self
    }

    /// Removes the containers of runs whose process is gone, and gives their names.
    pub(crate) fn clean(&self) -> Result<Vec<String>, BackendError> {
        self.0.clean()
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

    fn keep(
        &self,
        action: &Action,
        scenario: &str,
        cancel: &Cancel,
        up: &dyn Fn(&Kept),
    ) -> Result<(), BackendError> {
        self.0.keep(action, scenario, cancel, up)
    }

    fn finish(&self) -> Result<(), BackendError> {
        self.0.finish()
    }
}
