//! Docker over its socket, and whatever else speaks Docker's language.

mod find;
mod service;
mod spec;

use std::path::Path;

pub(crate) use self::find::sockets;
use self::service::Service;
use crate::Pull;
use crate::action::BackendKind;
use crate::engine::{Engaged, Engages};
use crate::error::BackendError;

/// Runs actions in Docker's containers.
pub struct Docker(Engaged<Service>);

impl Docker {
    /// The service at `socket`, for mounts relative to `workspace`.
    ///
    /// # Errors
    /// [`BackendError::Unavailable`] when no Docker answers there.
    pub fn connect(socket: &Path, workspace: &Path) -> Result<Docker, BackendError> {
        Engaged::connect(Service::at(socket), workspace).map(Docker)
    }

    /// Pulls images as `pull` says, instead of those that are missing.
    #[must_use]
    pub fn pulling(self, pull: Pull) -> Self {
        Docker(self.0.pulling(pull))
    }
}

impl Engages for Docker {
    type Service = Service;

    const KIND: BackendKind = BackendKind::Docker;

    fn engaged(&self) -> &Engaged<Service> {
        &self.0
    }
}
