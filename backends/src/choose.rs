//! Chooses a backend: what the user said, else the first that is there.

use std::path::{Path, PathBuf};

use crate::{Backend, BackendError, Podman, Sandbox};

/// What the user asked for.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Choice {
    /// The first that is there: Podman where a socket answers, else the sandbox.
    #[default]
    Auto,
    /// Podman, or a failure.
    Podman,
    /// The sandbox, or a failure.
    Sandbox,
}

/// A backend, and why it was chosen.
pub struct Chosen {
    /// The backend.
    pub backend: Box<dyn Backend>,
    /// One phrase for the user.
    pub reason: String,
}

/// Finds the backend for `choice`; mounts are relative to `workspace`, `program` is clnrm itself.
///
/// # Errors
/// When the one asked for is not there, or none is.
pub fn choose(choice: Choice, workspace: &Path, program: &Path) -> Result<Chosen, BackendError> {
    let podman = |socket: &Path| Podman::connect(socket, workspace);
    let sandbox = || {
        Sandbox::probe()?;
        Ok::<_, BackendError>(Sandbox::new(workspace, program))
    };
    match choice {
        Choice::Podman => {
            let mut refusal = None;
            for socket in sockets() {
                match podman(&socket) {
                    Ok(podman) => {
                        let reason = format!("Podman at {}", socket.display());
                        return Ok(Chosen { backend: Box::new(podman), reason });
                    }
                    Err(error) => refusal = refusal.or(Some(error)),
                }
            }
            Err(refusal.unwrap_or_else(no_socket))
        }
        Choice::Sandbox => {
            let reason = "the built-in sandbox".to_owned();
            Ok(Chosen { backend: Box::new(sandbox()?), reason })
        }
        Choice::Auto => {
            if let Some((socket, podman)) = sockets()
                .into_iter()
                .find_map(|socket| Some((socket.clone(), podman(&socket).ok()?)))
            {
                let reason = format!("Podman answers at {}", socket.display());
                return Ok(Chosen { backend: Box::new(podman), reason });
            }
            let reason = "no Podman socket answers: the built-in sandbox".to_owned();
            Ok(Chosen { backend: Box::new(sandbox()?), reason })
        }
    }
}

/// Where a Podman service may listen, the user's own word first.
fn sockets() -> Vec<PathBuf> {
    if let Some(host) = std::env::var_os("CONTAINER_HOST") {
        let host = host.to_string_lossy().into_owned();
        return vec![PathBuf::from(host.strip_prefix("unix://").unwrap_or(&host))];
    }
    let user = std::env::var_os("XDG_RUNTIME_DIR")
        .map(|folder| PathBuf::from(folder).join("podman/podman.sock"));
    user.into_iter()
        .chain([PathBuf::from("/run/podman/podman.sock")])
        .filter(|socket| socket.exists())
        .collect()
}

fn no_socket() -> BackendError {
    BackendError::Unavailable {
        engine: "Podman".to_owned(),
        reason: "no socket at $CONTAINER_HOST, $XDG_RUNTIME_DIR/podman/podman.sock \
                 or /run/podman/podman.sock"
            .to_owned(),
    }
}
