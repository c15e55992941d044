//! Podman over its socket.

mod service;
mod spec;
mod started;

use std::path::Path;

use self::service::Service;
use self::started::Started;
use crate::Pull;
use crate::action::BackendKind;
use crate::engine::{Engaged, Engages};
use crate::error::BackendError;

/// Runs actions in Podman's containers.
pub struct Podman {
    engaged: Engaged<Service>,
    /// The service, if it was started for this.
    _started: Option<Started>,
}

impl Podman {
    /// The service at `socket`, for mounts relative to `workspace`.
    ///
    /// # Errors
    /// [`BackendError::Unavailable`] when no Podman of version 4 or newer answers there.
    pub fn connect(socket: &Path, workspace: &Path) -> Result<Podman, BackendError> {
        let engaged = Engaged::connect(Service::at(socket), workspace)?;
        Ok(Podman { engaged, _started: None })
    }

    /// A service that is started for this and ends with it; `None` when Podman is not installed.
    ///
    /// # Errors
    /// [`BackendError::Unavailable`] when it does not start.
    pub fn start(workspace: &Path) -> Option<Result<Podman, BackendError>> {
        Started::is_possible().then(|| {
            let engine = "a Podman of its own".to_owned();
            let unavailable = |reason| BackendError::Unavailable { engine, reason };
            let started = Started::begin().map_err(unavailable)?;
            let podman = Podman::connect(&started.socket(), workspace)?;
            Ok(Podman { _started: Some(started), ..podman })
        })
    }

    /// Pulls images as `pull` says, instead of those that are missing.
    #[must_use]
    pub fn pulling(self, pull: Pull) -> Self {
        Podman { engaged: self.engaged.pulling(pull), ..self }
    }
}

impl Engages for Podman {
    type Service = Service;

    const KIND: BackendKind = BackendKind::Podman;

    fn engaged(&self) -> &Engaged<Service> {
        &self.engaged
    }
}
