//! A fully specified hermetic run.

mod key;

use std::collections::BTreeMap;
use std::time::Duration;

use serde::{Deserialize, Serialize};

pub use self::key::{ActionKey, Difference, differences};

/// Everything that can influence an [`Outcome`](crate::Outcome).
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Action {
    /// Where it runs.
    pub backend: BackendKind,
    /// What the cell may reach.
    pub network: Network,
    /// Hosts outside that may be reached all the same, by name.
    pub allowed: Vec<Host>,
    /// Whether what comes of it says anything about a later run.
    pub lasting: bool,
    /// Seed of every generator in the run (`CLNRM_SEED`).
    pub seed: u64,
    /// Frozen clock, seconds since the epoch (`SOURCE_DATE_EPOCH`); `None` leaves it unset.
    pub clock: Option<i64>,
    /// Whether lines of OTLP in JSON on standard output are spans.
    pub spans_on_stdout: bool,
    /// A second place that everything it exports is sent to; no part of the key.
    pub forward: Option<Forward>,
    /// Of those that share this, one runs at a time.
    pub group: Option<String>,
    /// How often it is run again when its test fails.
    pub retries: u32,
    /// Limit of the whole run.
    pub time_limit: Duration,
    /// How long services get at least, after the last step, to export their spans before they are
    /// stopped; zero where nothing judges spans of services. No part of the key: an outcome serves
    /// every action that asks for no more than it [had](crate::Outcome::settled).
    pub settle: Duration,
    /// What each of its containers may use.
    pub limits: Limits,
    /// Containers, in the order they start.
    pub services: Vec<ServicePlan>,
    /// Whether all steps start at once.
    pub concurrent: bool,
    /// Steps, in order.
    pub steps: Vec<StepPlan>,
}

impl Action {
    /// Steps in one idle container, each of which starts whatever came of the one before; all limits
    /// are `limit`.
    pub fn of_steps(
        backend: BackendKind,
        image: Image,
        limit: Duration,
        steps: &[&[&str]],
    ) -> Action {
        let step = |(index, words): (usize, &&[&str])| StepPlan {
            name: format!("step {index}"),
            service: 0,
            argv: words.iter().map(|word| (*word).to_owned()).collect(),
            awaits: None,
            env: BTreeMap::new(),
            workdir: None,
            time_limit: limit,
            goes_on_after: Expected::Anything,
            retry: None,
        };
        Action {
            backend,
            network: Network::Isolated,
            allowed: Vec::new(),
            lasting: true,
            spans_on_stdout: false,
            forward: None,
            group: None,
            retries: 0,
            seed: 0,
            clock: None,
            time_limit: limit,
            settle: Duration::ZERO,
            limits: Limits::default(),
            services: vec![ServicePlan {
                name: "app".to_owned(),
                image,
                process: Process::Idle,
                env: BTreeMap::new(),
                mounts: Vec::new(),
                workdir: None,
                ports: Vec::new(),
                publish: false,
                ready: Vec::new(),
                ready_limit: limit,
            }],
            concurrent: false,
            steps: steps.iter().enumerate().map(step).collect(),
        }
    }
}

/// A place that takes OTLP.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Forward {
    /// Its URL; over HTTP, signals go to the usual paths below it.
    pub endpoint: String,
    /// Whether it speaks gRPC, else HTTP.
    pub grpc: bool,
    /// Headers of every request.
    pub headers: BTreeMap<String, String>,
    /// The name of the scenario, for clnrm's own spans.
    pub scenario: String,
}

/// What a container may use at most; `None` leaves it to the backend.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Limits {
    /// Processor time, in thousandths of a core.
    pub cpu_millicores: Option<u32>,
    /// Memory, in MiB.
    pub memory_mb: Option<u64>,
    /// Processes and threads.
    pub pids: Option<u32>,
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
    /// Ports it listens on.
    pub ports: Vec<u16>,
    /// Whether those are reached from this machine, too, at ports of its loopback.
    pub publish: bool,
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
    /// The code under test has exported a span of this name, in any container.
    Span(String),
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
    /// Spans it waits for, instead of running something.
    pub awaits: Option<Awaited>,
    /// Environment on top of the service's.
    pub env: BTreeMap<String, String>,
    /// Working directory; the service's when `None`.
    pub workdir: Option<String>,
    /// After this long it is killed.
    pub time_limit: Duration,
    /// How it must end for the next step to start.
    pub goes_on_after: Expected,
    /// Whether it is tried again when it fails.
    pub retry: Option<Retry>,
}

/// Spans of the code under test that a step waits for, as long as its time limit.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Awaited {
    /// Their name.
    pub span: String,
    /// How many.
    pub count: u64,
}

/// How a step is tried again.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Retry {
    /// How often it is tried at most, the first time included.
    pub attempts: u32,
    /// The pause between two tries.
    pub delay: Duration,
    /// How it must end not to be tried again.
    pub until: Expected,
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
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, Deserialize)]
pub enum Network {
    /// Its own services only.
    #[default]
    Isolated,
    /// Nothing: not even its services find each other.
    None,
    /// Whatever the machine can reach.
    Open,
}

/// A port of a host outside.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub struct Host {
    /// Its name in the cell.
    pub name: String,
    /// The port.
    pub port: u16,
    /// Its name on this machine.
    pub outside: String,
    /// The service it is, which has to answer before anything is run.
    pub service: Option<String>,
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
    /// Docker over its socket.
    Docker,
}

impl BackendKind {
    /// Its name on the command line and in reports.
    pub fn name(self) -> &'static str {
        match self {
            BackendKind::Fake => "fake",
            BackendKind::Sandbox => "sandbox",
            BackendKind::Podman => "podman",
            BackendKind::Docker => "docker",
        }
    }
}
