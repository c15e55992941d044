//! Chooses a backend: what the user said, else the first that is there.

use std::path::{Path, PathBuf};

use crate::{Backend, BackendError, Docker, Podman, Pull, Sandbox, docker};

/// What the user asked for.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Choice {
    /// The first that is there: Podman or Docker where a socket answers, else the sandbox.
    #[default]
    Auto,
    /// Podman, which is started if it does not listen, or a failure.
    Podman,
    /// Docker, or a failure.
    Docker,
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

/// Finds the backend for `choice`, which pulls images as `pull` says; mounts are relative to
/// `workspace`, `program` is clnrm itself.
///
/// # Errors
/// When the one asked for is not there, or none is.
pub fn choose(
    choice: Choice,
    pull: Pull,
    workspace: &Path,
    program: &Path,
) -> Result<Chosen, BackendError> {
    match choice {
        Choice::Podman => podman_or_start(pull, workspace),
        Choice::Docker => docker(pull, workspace),
        Choice::Sandbox => sandbox(pull, workspace, program, "the built-in sandbox"),
        Choice::Auto => {
            // Who names one engine and not the other has that one in mind.
            let named =
                |variable: &str| std::env::var_os(variable).is_some_and(|it| !it.is_empty());
            let docker_first = named("DOCKER_HOST") && !named("CONTAINER_HOST");
            let engines = if docker_first { [docker, podman] } else { [podman, docker] };
            let found = engines.into_iter().find_map(|engine| engine(pull, workspace).ok());
            let no_engine = "neither Podman nor Docker answers: the built-in sandbox";
            found.map_or_else(|| sandbox(pull, workspace, program, no_engine), Ok)
        }
    }
}

fn podman(pull: Pull, workspace: &Path) -> Result<Chosen, BackendError> {
    first("Podman", podman_sockets(), PODMAN_PLACES, |socket| {
        Ok(Box::new(Podman::connect(socket, workspace)?.pulling(pull)))
    })
}

/// Where nobody asked for Podman, one that does not listen is left alone: a start takes more than a
/// run in the sandbox.
fn podman_or_start(pull: Pull, workspace: &Path) -> Result<Chosen, BackendError> {
    let found = podman(pull, workspace);
    let is_named = std::env::var_os("CONTAINER_HOST").is_some_and(|host| !host.is_empty());
    if found.is_ok() || is_named {
        return found;
    }
    match Podman::start(workspace) {
        None => found,
        Some(started) => {
            let backend = Box::new(started?.pulling(pull));
            Ok(Chosen { backend, reason: "a Podman that was started for this run".to_owned() })
        }
    }
}

fn docker(pull: Pull, workspace: &Path) -> Result<Chosen, BackendError> {
    first("Docker", docker::sockets(), DOCKER_PLACES, |socket| {
        Ok(Box::new(Docker::connect(socket, workspace)?.pulling(pull)))
    })
}

fn sandbox(
    pull: Pull,
    workspace: &Path,
    program: &Path,
    reason: &str,
) -> Result<Chosen, BackendError> {
    Sandbox::probe()?;
    let backend = Box::new(Sandbox::new(workspace, program).pulling(pull));
    Ok(Chosen { backend, reason: reason.to_owned() })
}

/// The engine at the first of these sockets that answers.
fn first(
    name: &str,
    sockets: Result<Vec<PathBuf>, String>,
    places: &str,
    connect: impl Fn(&Path) -> Result<Box<dyn Backend>, BackendError>,
) -> Result<Chosen, BackendError> {
    let unavailable = |reason| BackendError::Unavailable { engine: name.to_owned(), reason };
    let mut refusal = None;
    for socket in sockets.map_err(unavailable)? {
        match connect(&socket) {
            Ok(backend) => {
                let reason = format!("{name} answers at {}", socket.display());
                return Ok(Chosen { backend, reason });
            }
            Err(error) => refusal = refusal.or(Some(error)),
        }
    }
    Err(refusal.unwrap_or_else(|| unavailable(format!("no socket at {places}"))))
}

/// What the engines of this machine that answer give, and what is wrong with others. One that is not up
/// has nothing that is.
pub(crate) fn of_all_engines<T>(
    podman: impl Fn(&Podman) -> Result<T, BackendError>,
    docker: impl Fn(&Docker) -> Result<T, BackendError>,
) -> (Vec<T>, Vec<String>) {
    let here = Path::new(".");
    let sockets = podman_sockets().unwrap_or_default().into_iter();
    let of_podman = sockets.map(|socket| podman(&Podman::connect(&socket, here)?));
    let sockets = docker::sockets().unwrap_or_default().into_iter();
    let of_docker = sockets.map(|socket| docker(&Docker::connect(&socket, here)?));
    let (mut all, mut troubles) = (Vec::new(), Vec::new());
    for given in of_podman.chain(of_docker) {
        match given {
            Ok(given) => all.push(given),
            Err(BackendError::Unavailable { .. }) => {}
            Err(error) => troubles.push(error.to_string()),
        }
    }
    (all, troubles)
}

/// Where an engine of this machine may listen.
pub(crate) fn sockets() -> Vec<PathBuf> {
    let found = podman_sockets().into_iter().chain(docker::sockets());
    found.flatten().collect()
}

const PODMAN_PLACES: &str =
    "$CONTAINER_HOST, $XDG_RUNTIME_DIR/podman/podman.sock or /run/podman/podman.sock";
const DOCKER_PLACES: &str = "$DOCKER_HOST, the current context's place, $XDG_RUNTIME_DIR/docker.sock or /var/run/docker.sock";

/// Where a Podman service may listen, the user's own word first.
pub(crate) fn podman_sockets() -> Result<Vec<PathBuf>, String> {
    if let Some(host) = std::env::var("CONTAINER_HOST").ok().filter(|host| !host.is_empty()) {
        return match host.strip_prefix("unix://") {
            Some(path) => Ok(vec![PathBuf::from(path)]),
            None if host.starts_with('/') => Ok(vec![PathBuf::from(host)]),
            None => Err(format!(
                "$CONTAINER_HOST is {host}; only sockets of this machine (unix://…) are used"
            )),
        };
    }
    let user = std::env::var_os("XDG_RUNTIME_DIR")
        .map(|folder| PathBuf::from(folder).join("podman/podman.sock"));
    let all = user.into_iter().chain([PathBuf::from("/run/podman/podman.sock")]);
    Ok(all.filter(|socket| socket.exists()).collect())
}
