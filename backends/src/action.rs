//! A fully specified hermetic run, and the digest that names it.

use std::collections::BTreeMap;
use std::fmt;
use std::time::Duration;

use serde::{Deserialize, Serialize};

/// Everything that can influence an [`Outcome`](crate::Outcome).
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Action {
    /// Where it runs.
    pub backend: BackendKind,
    /// What the cell may reach.
    pub network: Network,
    /// Seed of every generator in the run (`CLNRM_SEED`).
    pub seed: u64,
    /// Frozen clock, seconds since the epoch (`SOURCE_DATE_EPOCH`); `None` leaves it unset.
    pub clock: Option<i64>,
    /// Limit of the whole run.
    pub time_limit: Duration,
    /// Containers, in the order they start.
    pub services: Vec<ServicePlan>,
    /// Steps, in order.
    pub steps: Vec<StepPlan>,
}

/// One container of a cell.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct ServicePlan {
    /// Its name, which is also its host name in the cell.
    pub name: String,
    /// Its file system.
    pub image: Image,
    /// What runs in it besides steps.
    pub process: Process,
    /// Environment on top of the image's own.
    pub env: BTreeMap<String, String>,
    /// Files and folders of the workspace seen inside.
    pub mounts: Vec<Mount>,
    /// Working directory; the image's own when `None`.
    pub workdir: Option<String>,
    /// What must hold before the next service or step starts.
    pub ready: Vec<Readiness>,
    /// How long readiness may take.
    pub ready_limit: Duration,
}

/// A file system, by what it is rather than by its name.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub enum Image {
    /// The machine's own system folders; the digest is of what they hold.
    Host(String),
    /// An image by its id.
    Id(String),
}

/// What a service's container runs.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub enum Process {
    /// Nothing but steps.
    Idle,
    /// The image's entry point and command; idle if it has none or is a bare shell.
    OfImage,
    /// This argument vector.
    Argv(Vec<String>),
}

/// A file or folder of the workspace inside a container.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Mount {
    /// Where it is on this machine, relative to the workspace; not part of the key.
    pub source: String,
    /// Digest of everything in it.
    pub digest: String,
    /// Absolute path inside.
    pub target: String,
    /// Whether writes are refused; otherwise they go to a copy.
    pub read_only: bool,
}

/// A condition for a service to be ready.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub enum Readiness {
    /// A TCP port of the cell's loopback accepts a connection.
    Port(u16),
    /// A GET answers with this status.
    Http {
        /// Port on the cell's loopback.
        port: u16,
        /// Path with its leading slash.
        path: String,
        /// Expected status code.
        status: u16,
    },
    /// The service's output matches this regular expression.
    Log(String),
    /// A command in its container ends with 0; tried again after `interval`.
    Exec {
        /// Argument vector.
        argv: Vec<String>,
        /// Pause between two tries.
        interval: Duration,
        /// How long one try may take.
        limit: Duration,
    },
    /// This long after its start.
    After(Duration),
}

/// One command in a service's container.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct StepPlan {
    /// Its name; its span is `clnrm.step:<name>`.
    pub name: String,
    /// Index into [`Action::services`].
    pub service: usize,
    /// Argument vector; `${NAME}` expands from the container's environment.
    pub argv: Vec<String>,
    /// Environment on top of the service's.
    pub env: BTreeMap<String, String>,
    /// Working directory; the service's when `None`.
    pub workdir: Option<String>,
    /// After this long it is killed.
    pub time_limit: Duration,
    /// How it must end for the next step to start.
    pub goes_on_after: Expected,
}

/// How a step must end for the run to go on.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub enum Expected {
    /// With this exit code.
    Code(i32),
    /// With any other exit code than 0.
    Failure,
    /// The next step starts in any case, or there is none.
    Anything,
}

/// What a cell may reach.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub enum Network {
    /// Its own loopback only, on which its services find each other.
    Isolated,
}

/// Which backend.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum BackendKind {
    /// In memory, for tests.
    Fake,
    /// Linux namespaces, built in.
    Sandbox,
    /// Podman over its socket.
    Podman,
}

impl BackendKind {
    /// Its name on the command line and in reports.
    pub fn name(self) -> &'static str {
        match self {
            BackendKind::Fake => "fake",
            BackendKind::Sandbox => "sandbox",
            BackendKind::Podman => "podman",
        }
    }
}

/// The digest of an [`Action`]: two actions have one key exactly when they would do the same.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct ActionKey(pub [u8; 32]);

impl fmt::Display for ActionKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.iter().try_for_each(|byte| write!(f, "{byte:02x}"))
    }
}

impl fmt::Debug for ActionKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

impl Action {
    /// The run key: blake3 over a canonical encoding of all fields but the mounts' sources.
    ///
    /// The encoding frames every string and list with its length and keeps maps sorted, so no two
    /// different actions share their bytes.
    pub fn key(&self) -> ActionKey {
        let mut named = self.clone();
        for service in &mut named.services {
            for mount in &mut service.mounts {
                mount.source.clear();
            }
        }
        let bytes = postcard::to_stdvec(&named).expect("an action is plain data");
        let mut hasher = blake3::Hasher::new_derive_key("clnrm 2026-11 action v1");
        hasher.update(std::env::consts::ARCH.as_bytes());
        hasher.update(&[0]);
        hasher.update(&bytes);
        ActionKey(*hasher.finalize().as_bytes())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn action() -> Action {
        Action {
            backend: BackendKind::Sandbox,
            network: Network::Isolated,
            seed: 1,
            clock: Some(0),
            time_limit: Duration::from_secs(1),
            services: vec![ServicePlan {
                name: "app".into(),
                image: Image::Host("h".into()),
                process: Process::Idle,
                env: BTreeMap::from([("A".into(), "1".into())]),
                mounts: vec![Mount {
                    source: "target/app".into(),
                    digest: "d".into(),
                    target: "/app".into(),
                    read_only: true,
                }],
                workdir: None,
                ready: vec![Readiness::Port(80)],
                ready_limit: Duration::from_secs(1),
            }],
            steps: vec![StepPlan {
                name: "s".into(),
                service: 0,
                argv: vec!["echo".into(), "ab".into(), "c".into()],
                env: BTreeMap::new(),
                workdir: None,
                time_limit: Duration::from_secs(1),
                goes_on_after: Expected::Anything,
            }],
        }
    }

    #[test]
    fn each_field_is_in_the_key() {
        type Change = fn(&mut Action);
        let changes: &[Change] = &[
            |a| a.backend = BackendKind::Podman,
            |a| a.seed = 2,
            |a| a.clock = None,
            |a| a.time_limit = Duration::from_secs(2),
            |a| a.services[0].name = "b".into(),
            |a| a.services[0].image = Image::Id("h".into()),
            |a| a.services[0].process = Process::OfImage,
            |a| a.services[0].process = Process::Argv(vec![]),
            |a| a.services[0].env = BTreeMap::from([("A1".into(), "".into())]),
            |a| a.services[0].mounts[0].digest = "e".into(),
            |a| a.services[0].mounts[0].target = "/b".into(),
            |a| a.services[0].mounts[0].read_only = false,
            |a| a.services[0].workdir = Some("/".into()),
            |a| a.services[0].ready.clear(),
            |a| a.services[0].ready_limit = Duration::from_secs(2),
            |a| a.steps[0].name = "t".into(),
            |a| a.steps[0].argv = vec!["echo".into(), "a".into(), "bc".into()],
            |a| a.steps[0].env = BTreeMap::from([("A".into(), "".into())]),
            |a| a.steps[0].workdir = Some("/".into()),
            |a| a.steps[0].time_limit = Duration::from_secs(2),
            |a| a.steps[0].goes_on_after = Expected::Code(0),
        ];
        let mut keys = vec![action().key()];
        for change in changes {
            let mut changed = action();
            change(&mut changed);
            keys.push(changed.key());
        }
        let all = keys.len();
        keys.sort();
        keys.dedup();
        assert_eq!(keys.len(), all, "two different actions share a key");
    }

    #[test]
    fn where_a_mount_comes_from_is_not_in_the_key() {
        let mut moved = action();
        moved.services[0].mounts[0].source = "elsewhere/app".into();
        assert_eq!(moved.key(), action().key());
    }
}
