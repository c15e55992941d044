//! Podman over its socket.

mod service;
mod spec;

use std::path::Path;

use self::service::Service;
use crate::Pull;
use crate::action::BackendKind;
use crate::engine::{Engaged, Engages};
use crate::error::BackendError;

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
    pub fn pulling(self, pull: Pull) -> Self {
        Podman(self.0.pulling(pull))
    }
}

impl Engages for Podman {
    type Service = Service;

    const KIND: BackendKind = BackendKind::Podman;

    fn engaged(&self) -> &Engaged<Service> {
        &self.0
    }
}
