//! The built-in backend for Linux: containers of namespaces, without any engine.
//!
//! Each container is this very program, started again as `clnrm __sandbox`: it unshares its
//! namespaces, builds a root of its own and becomes the agent. When the line to the agent ends,
//! so does process 1, and the kernel ends the rest.

mod cgroup;
mod child;
mod lend;
mod network;
mod root;
mod slirp;

use std::collections::{BTreeMap, BTreeSet};
use std::mem::take;
use std::net::IpAddr;
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::sync::{Arc, Mutex, Once, OnceLock};
use std::time::Duration;

use serde::{Deserialize, Serialize};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::process::{Child, Command};
use tokio::runtime::Runtime;
use tokio::task::{JoinHandle, spawn_blocking};
use tokio_util::task::TaskTracker;

use self::cgroup::Cgroup;
pub(crate) use self::cgroup::sweep as sweep_cgroups;
pub(crate) use self::child::ENTER_WORD;
pub use self::child::sandbox_main;
pub(crate) use self::slirp::PROGRAM as WAY_OUTSIDE;
use crate::action::{Action, BackendKind, Image, Limits, Network, ServicePlan};
use crate::cell::{Cell, Container, Started, Wiring};
use crate::error::BackendError;
use crate::image::pull::Pulls;
use crate::image::{self, Shelf, Unpacked, User};
use crate::kept::{Kept, Way};
use crate::link::Link;
use crate::outcome::Outcome;
use crate::removal::Removals;
use crate::scenario::RunFolder;
use crate::{Backend, Cancel, Pull, host, scenario};

/// How long a container may take to come up.
const START_LIMIT: Duration = Duration::from_secs(20);

/// Runs actions in Linux namespaces.
pub struct Sandbox {
    workspace: PathBuf,
    program: PathBuf,
    runtime: OnceLock<Runtime>,
    shelf: Arc<Shelf>,
    swept: Once,
    removals: Removals,
    pulls: Pulls,
    /// A process for the next container, made while nothing else was to be done.
    spare: Arc<Mutex<Option<Spare>>>,
}

/// A process that waits to become a container, within the usual limits.
struct Spare {
    child: Child,
    cgroup: Arc<Cgroup>,
}

impl Spare {
    async fn end(mut self) {
        // It ends as nobody tells it what to be.
        let _ = self.child.wait().await;
    }
}

impl Sandbox {
    /// A sandbox for mounts relative to `workspace`.
    ///
    /// `program` is clnrm itself, which calls [`sandbox_main`] for its argument `__sandbox`.
    pub fn new(workspace: &Path, program: &Path) -> Sandbox {
        let shelf = Shelf::of_user();
        Sandbox {
            workspace: workspace.to_owned(),
            program: program.to_owned(),
            runtime: OnceLock::new(),
            swept: Once::new(),
            removals: Removals::default(),
            spare: Arc::default(),
            pulls: Pulls::new(Pull::default(), shelf.pulled_by("sandbox")),
            shelf: Arc::new(shelf),
        }
    }

    /// Pulls images as `pull` says, instead of those that are missing.
    #[must_use]
    pub fn pulling(self, pull: Pull) -> Sandbox {
        Sandbox { pulls: self.pulls.by(pull), ..self }
    }

    /// Unpacks images below `folder` instead of in this user's folder for caches.
    pub fn keep_images_in(self, folder: &Path) -> Sandbox {
        let shelf = Shelf::at(folder.to_owned());
        let pulls = Pulls::new(Pull::default(), shelf.pulled_by("sandbox"));
        Sandbox { shelf: Arc::new(shelf), pulls, ..self }
    }

    /// Which of these limits could not be held here, by their names for people.
    pub(crate) fn limits_missing(limits: &Limits) -> Vec<&'static str> {
        Cgroup::make(limits).missing.clone()
    }

    /// The id of an image that an engine of this machine or a registry has.
    async fn image_by_name(&self, reference: &str) -> Result<Option<String>, String> {
        if !self.pulls.first(reference) {
            let lent = lend::find(&self.shelf, reference).await;
            let there = lent.or_else(|| self.shelf.named(reference));
            if there.is_some() || !self.pulls.may(reference) {
                return Ok(there);
            }
        }
        let id = self.shelf.pull(reference).await?;
        self.pulls.done(reference);
        Ok(Some(id))
    }

    fn cell(&self) -> SandboxCell<'_> {
        SandboxCell {
            sandbox: self,
            children: Vec::new(),
            environments: Vec::new(),
            cgroups: Vec::new(),
            ways_outside: Vec::new(),
            limiting: TaskTracker::new(),
            as_owner: false,
        }
    }

    fn take_spare(&self) -> Option<Spare> {
        self.spare.lock().expect("no holder panics").take()
    }

    fn runtime(&self) -> &Runtime {
        self.runtime.get_or_init(crate::runtime)
    }

    /// Whether this machine lets this user make the namespaces; otherwise why not.
    pub fn probe() -> Result<(), BackendError> {
        let disabled =
            |path: &str| std::fs::read_to_string(path).is_ok_and(|value| value.trim() == "0");
        let root = rustix::process::geteuid().is_root();
        let reason = if !cfg!(target_os = "linux") {
            "it needs Linux"
        } else if !crate::agent::sys::can_seal() {
            "it needs Linux 5.12 or later"
        } else if disabled("/proc/sys/user/max_user_namespaces") {
            "user namespaces are switched off (sysctl user.max_user_namespaces)"
        } else if !root && disabled("/proc/sys/kernel/unprivileged_userns_clone") {
            "user namespaces are for root only (sysctl kernel.unprivileged_userns_clone)"
        } else {
            return Ok(());
        };
        Err(BackendError::Unavailable { engine: "the sandbox".into(), reason: reason.into() })
    }
}

impl Backend for Sandbox {
    fn kind(&self) -> BackendKind {
        BackendKind::Sandbox
    }

    fn image(&self, reference: &str) -> Result<Option<Image>, BackendError> {
        if reference == "host" {
            let digest =
                host::digest().map_err(|error| failed("read the machine's image", error))?;
            return Ok(Some(Image::Host(digest)));
        }
        let id = match reference.strip_prefix(image::PREFIX) {
            Some(path) => {
                let id = self.shelf.find(&self.workspace.join(path));
                id.map_err(|reason| failed(&format!("read the image `{reference}`"), reason))?
            }
            None => {
                let id = self.runtime().block_on(self.image_by_name(reference));
                id.map_err(|reason| failed(&format!("pull the image `{reference}`"), reason))?
            }
        };
        Ok(id.map(Image::Id))
    }

    fn run(&self, action: &Action, cancel: &Cancel) -> Result<Outcome, BackendError> {
        self.swept.call_once(|| drop(cgroup::sweep()));
        let mut cell = self.cell();
        self.runtime().block_on(scenario::run(&mut cell, action, cancel))
    }

    fn keep(
        &self,
        action: &Action,
        scenario: &str,
        cancel: &Cancel,
        up: &dyn Fn(&Kept),
    ) -> Result<(), BackendError> {
        let mut cell = self.cell();
        self.runtime().block_on(scenario::keep(&mut cell, action, scenario, cancel, up))
    }

    fn linger(&self) {
        if self.spare.lock().expect("no holder panics").is_some() {
            return;
        }
        let _runtime = self.runtime().enter();
        let (place, program) = (self.spare.clone(), self.program.clone());
        self.removals.begin(async move {
            // Whoever needs one makes it, and hears why that fails.
            let Ok(child) = spawn(&program) else { return Ok(()) };
            let cgroup = Arc::new(Cgroup::make(&Limits::default()));
            let (pid, limits) = (child.id(), cgroup.clone());
            let limited = move || pid.is_some_and(|pid| limits.take(pid).is_ok());
            let is_limited = spawn_blocking(limited).await.expect("setting limits does not panic");
            let spare = Spare { child, cgroup };
            let surplus = if is_limited {
                place.lock().expect("no holder panics").replace(spare)
            } else {
                Some(spare)
            };
            if let Some(surplus) = surplus {
                surplus.end().await;
            }
            Ok(())
        });
    }

    fn finish(&self) -> Result<(), BackendError> {
        // Without a runtime there was no run.
        let Some(runtime) = self.runtime.get() else { return Ok(()) };
        let finished = runtime.block_on(self.removals.finish());
        if let Some(spare) = self.take_spare() {
            runtime.block_on(spare.end());
        }
        finished
    }
}

struct SandboxCell<'a> {
    sandbox: &'a Sandbox,
    children: Vec<Child>,
    /// What processes in them are started with.
    environments: Vec<BTreeMap<String, String>>,
    cgroups: Vec<Arc<Cgroup>>,
    /// What leads outside of an open network.
    ways_outside: Vec<slirp::Slirp>,
    /// Limits that are being set.
    limiting: TaskTracker,
    /// Whether an image has another user than the one that there is.
    as_owner: bool,
}

/// Ends when limits hold.
type Limited = JoinHandle<std::io::Result<()>>;

/// What the child needs to know; sent to it as one line of JSON.
#[derive(Serialize, Deserialize)]
struct Spec {
    /// Whose user namespace to join; makes its own when `None`.
    join: Option<u32>,
    network: SpecNetwork,
    hostname: String,
    /// The text of `/etc/hosts`.
    hosts: String,
    /// The text of `/etc/resolv.conf`.
    resolver: String,
    /// The folder with the host's sockets.
    folder: PathBuf,
    mounts: Vec<SpecMount>,
    /// The machine's own folders when `None`.
    image: Option<SpecImage>,
    /// What of those is not shown.
    masked: Vec<PathBuf>,
    /// How many MiB it may write; a part of the machine's memory when `None`.
    disk_mb: Option<u64>,
    /// How many processes it may have, where no control group holds that.
    processes: Option<u32>,
    /// Whether its programs may have huge pages, as ours may.
    huge_pages: bool,
}

/// The network of a container.
#[derive(Serialize, Deserialize)]
enum SpecNetwork {
    /// Its own.
    Own,
    /// That of the container whose user namespace it joins.
    Joined,
    /// Its own, with links to those of these processes, which are all that started before it.
    Linked(Vec<u32>),
}

/// The image of a container.
#[derive(Serialize, Deserialize)]
struct SpecImage {
    root: PathBuf,
    /// `NAME=value` of every variable.
    env: Vec<String>,
    workdir: String,
    user: User,
}

#[derive(Serialize, Deserialize)]
struct SpecMount {
    source: PathBuf,
    target: PathBuf,
    read_only: bool,
}

impl SpecImage {
    /// What processes in it are started with.
    fn environment(&self) -> impl Iterator<Item = (&str, &str)> {
        let usual = [("PATH", host::PATH), ("HOME", self.user.home.as_str())];
        usual.into_iter().chain(self.env.iter().filter_map(|variable| variable.split_once('=')))
    }

    /// How processes start in the machine's own folders.
    fn host() -> SpecImage {
        SpecImage {
            root: PathBuf::new(),
            env: vec!["LANG=C.UTF-8".to_owned()],
            workdir: String::new(),
            user: User { id: 0, group: 0, home: "/root".to_owned() },
        }
    }
}

impl Cell for SandboxCell<'_> {
    async fn exposed(&mut self, service: &ServicePlan) -> Result<Vec<u16>, BackendError> {
        Ok(self.image(service).await?.map(|image| image.config.ports.clone()).unwrap_or_default())
    }

    fn address(&self, index: usize) -> Option<IpAddr> {
        Some(IpAddr::V4(network::address(index)))
    }

    async fn start(&mut self, container: &Container<'_>) -> Result<Started, BackendError> {
        let image = self.image(container.service).await?;
        let command = image.as_ref().map(|image| image.config.command.clone());
        let command = command.unwrap_or_default();
        let (mut child, cgroup, limited) = self.process(container.limits)?;
        let spec = self.spec(container, image.as_deref(), &cgroup);
        let leads_outside = container.network == Network::Open && !container.joins();
        let pid = child.id().expect("it was not waited for");
        let mut stdin = child.stdin.take().expect("it is piped");
        let mut stdout = child.stdout.take().expect("it is piped");
        let mut stderr = child.stderr.take().expect("it is piped");
        let first = spec.join.is_none();
        self.children.push(child);
        let own_image = SpecImage::host();
        let environment = spec.image.as_ref().unwrap_or(&own_image).environment();
        let owned = |(name, value): (&str, &str)| (name.to_owned(), value.to_owned());
        self.environments.push(environment.map(owned).collect());
        self.cgroups.push(cgroup);
        let talk = async {
            let mut line = serde_json::to_vec(&spec).expect("a specification is plain data");
            line.push(b'\n');
            stdin.write_all(&line).await?;
            if first {
                // It has unshared its user namespace and waits for its ids.
                stdout.read_u8().await?;
                map_ids(pid)?;
                stdin.write_u8(b'\n').await?;
            }
            // It starts nothing itself before.
            limited.await.expect("setting limits does not panic")?;
            stdin.write_u8(b'\n').await?;
            Link::accept(container.listener).await
        };
        let complaint = async {
            let mut text = String::new();
            let _ = stderr.read_to_string(&mut text).await;
            text.trim().to_owned()
        };
        let link = tokio::select! {
            biased;
            link = talk => match link {
                Ok(link) => link,
                Err(error) => return Err(self.explain(stderr, error).await),
            },
            reason = complaint => return Err(failed("make a container", reason)),
            () = tokio::time::sleep(START_LIMIT) => {
                let reason = format!("it was not up within {START_LIMIT:?}");
                return Err(failed("make a container", reason));
            }
        };
        if leads_outside {
            let way = slirp::lead(process_1(pid).unwrap_or(pid), &self.sandbox.program).await;
            self.ways_outside.push(way.map_err(|reason| failed("open a network", reason))?);
        }
        Ok(Started { link, command })
    }

    fn isolation(&self) -> Vec<String> {
        let missing: BTreeSet<_> = self.cgroups.iter().flat_map(|group| &group.missing).collect();
        ["user", "mount", "pid", "net", "ipc", "uts", "cgroup"]
            .map(|kind| format!("{kind} namespace"))
            .into_iter()
            .chain(["no capabilities", "no new privileges", "a seccomp filter"].map(str::to_owned))
            .chain(
                missing
                    .into_iter()
                    .map(|limit| format!("no limit of {limit} as this user may set none")),
            )
            .chain(
                self.as_owner
                    .then(|| "the user root for the image's as only root has others".to_owned()),
            )
            .collect()
    }

    fn ways(&self) -> Vec<Way> {
        let pids = self.children.iter().map(|child| child.id().and_then(process_1));
        let ways = pids.zip(&self.environments).map(|(pid, environment)| Way::Process {
            pid: pid.unwrap_or_default(),
            environment: environment.clone(),
        });
        ways.collect()
    }

    fn destroy(&mut self, folder: RunFolder) {
        let (children, ways) = (take(&mut self.children), take(&mut self.ways_outside));
        let (cgroups, limiting) = (take(&mut self.cgroups), self.limiting.clone());
        limiting.close();
        self.sandbox.removals.begin(async move {
            // Its id is its own until it was waited for.
            limiting.wait().await;
            for mut child in children {
                // It ends with the line to it, or to its agent; the kill is for one that never got so far.
                let ended = tokio::time::timeout(Duration::from_secs(2), child.wait()).await;
                if ended.is_err() {
                    let _ = child.kill().await;
                }
            }
            for way in ways {
                way.close().await;
            }
            drop((cgroups, folder));
            Ok(())
        });
    }
}

impl SandboxCell<'_> {
    /// A process that waits to become a container, what it is limited by, and when that holds: the
    /// kernel may take longer for it than the process for all else.
    fn process(&self, limits: &Limits) -> Result<(Child, Arc<Cgroup>, Limited), BackendError> {
        if *limits == Limits::default()
            && let Some(Spare { mut child, cgroup }) = self.sandbox.take_spare()
            && matches!(child.try_wait(), Ok(None))
        {
            return Ok((child, cgroup, self.limiting.spawn(async { Ok(()) })));
        }
        let cgroup = Arc::new(Cgroup::make(limits));
        let child = spawn(&self.sandbox.program);
        let child = child.map_err(|error| failed("start itself again", error))?;
        let pid = child.id().expect("it was not waited for");
        let taken = cgroup.clone();
        Ok((child, cgroup, self.limiting.spawn_blocking(move || taken.take(pid))))
    }

    /// The image of a service, unpacked; `None` for the machine's own folders.
    async fn image(
        &mut self,
        service: &ServicePlan,
    ) -> Result<Option<Arc<Unpacked>>, BackendError> {
        let Image::Id(id) = &service.image else { return Ok(None) };
        let (shelf, id) = (self.sandbox.shelf.clone(), id.clone());
        let unpacking = spawn_blocking(move || shelf.image(&id));
        let image = unpacking.await.expect("unpacking does not panic");
        let image = image.map_err(|reason| failed("unpack an image", reason))?;
        let of_user = rustix::process::geteuid().is_root() || image.user.id == 0;
        self.as_owner |= !of_user;
        Ok(Some(image))
    }

    fn spec(&self, container: &Container<'_>, image: Option<&Unpacked>, cgroup: &Cgroup) -> Spec {
        let workspace = &self.sandbox.workspace;
        let mounts = container.service.mounts.iter().map(|mount| SpecMount {
            source: workspace.join(&mount.source),
            target: PathBuf::from(&mount.target),
            read_only: mount.read_only,
        });
        let groups = cgroup.seen().map(|(source, target)| SpecMount {
            source: source.to_owned(),
            target: PathBuf::from(target),
            read_only: true,
        });
        let others: Vec<u32> = self.children.iter().filter_map(Child::id).collect();
        let first = others.first().copied();
        let (join, network) = match container.wiring {
            Wiring::Shared if first.is_some() => (first, SpecNetwork::Joined),
            Wiring::Linked => (first, SpecNetwork::Linked(others)),
            Wiring::Shared | Wiring::Apart => (None, SpecNetwork::Own),
        };
        Spec {
            join,
            network,
            hostname: container.service.name.clone(),
            hosts: container.hosts.to_owned(),
            resolver: container.resolver().unwrap_or_else(|| slirp::RESOLVER.to_owned()),
            folder: container.folder.to_owned(),
            mounts: groups.chain(mounts).collect(),
            // What it writes is memory, of which its processes need some, too.
            disk_mb: container.limits.memory_mb.map(|all| (all / 2).max(1)),
            processes: cgroup.processes,
            huge_pages: !rustix::thread::transparent_huge_pages_are_disabled().unwrap_or(false),
            masked: if image.is_none() { host::masked().to_vec() } else { Vec::new() },
            image: image.map(|image| SpecImage {
                root: image.root.clone(),
                env: image.config.env.clone(),
                workdir: image.config.workdir.clone(),
                user: image.user.clone(),
            }),
        }
    }

    async fn explain(
        &self,
        mut stderr: tokio::process::ChildStderr,
        error: std::io::Error,
    ) -> BackendError {
        let mut text = String::new();
        let read = stderr.read_to_string(&mut text);
        let _ = tokio::time::timeout(Duration::from_secs(1), read).await;
        match text.trim() {
            "" => failed("make a container", error),
            text => failed("make a container", text),
        }
    }
}

/// Starts what waits to be told which container to become, and ends with its standard input.
fn spawn(program: &Path) -> std::io::Result<Child> {
    Command::new(program)
        .arg("__sandbox")
        .env_clear()
        // The allocator's wish for huge pages costs the kernel clearing, sharing and splitting them.
        .env("MIMALLOC_ALLOW_THP", "0")
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        // The terminal's Ctrl-C is ours to handle.
        .process_group(0)
        .kill_on_drop(true)
        .spawn()
}

/// Process 1 of a container by the process that has become it and only waits.
fn process_1(pid: u32) -> Option<u32> {
    let children = std::fs::read_to_string(format!("/proc/{pid}/task/{pid}/children"));
    children.ok()?.split_whitespace().next()?.parse().ok()
}

/// Gives the ids of this user's own namespace to a child's: all of them when we may, else ours.
fn map_ids(pid: u32) -> std::io::Result<()> {
    let root = rustix::process::geteuid().is_root();
    if !root {
        std::fs::write(format!("/proc/{pid}/setgroups"), "deny")?;
    }
    let own = [
        ("uid_map", rustix::process::geteuid().as_raw()),
        ("gid_map", rustix::process::getegid().as_raw()),
    ];
    for (file, id) in own {
        let map = if root { identity(&format!("/proc/self/{file}"))? } else { format!("0 {id} 1") };
        std::fs::write(format!("/proc/{pid}/{file}"), map)?;
    }
    Ok(())
}

/// The map that shows every id of our own namespace under its own number.
fn identity(own: &str) -> std::io::Result<String> {
    let lines = std::fs::read_to_string(own)?;
    let ranges = lines.lines().filter_map(|line| {
        let mut fields = line.split_whitespace();
        Some(format!("{0} {0} {1}\n", fields.next()?, fields.nth(1)?))
    });
    Ok(ranges.collect())
}

fn failed(operation: &str, reason: impl ToString) -> BackendError {
    BackendError::Engine {
        engine: "the sandbox".to_owned(),
        operation: operation.to_owned(),
        reason: reason.to_string(),
    }
}
