//! The built-in backend for Linux: containers of namespaces, without any engine.
//!
//! Each container is this very program, started again as `clnrm __sandbox`: it unshares its
//! namespaces, builds a root of its own and becomes the agent. When the line to the agent ends,
//! so does process 1, and the kernel ends the rest.

mod child;
mod loopback;
mod root;
mod syscalls;

use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::sync::OnceLock;
use std::time::Duration;

use serde::{Deserialize, Serialize};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::process::{Child, Command};
use tokio::runtime::Runtime;

pub use self::child::sandbox_main;
use crate::action::{Action, BackendKind, Image};
use crate::cell::{Cell, Container, Started};
use crate::error::BackendError;
use crate::link::Link;
use crate::outcome::Outcome;
use crate::{Backend, Cancel, host, scenario};

/// How long a container may take to come up.
const START_LIMIT: Duration = Duration::from_secs(20);

/// Runs actions in Linux namespaces.
pub struct Sandbox {
    workspace: PathBuf,
    program: PathBuf,
    runtime: OnceLock<Runtime>,
}

impl Sandbox {
    /// A sandbox for mounts relative to `workspace`.
    ///
    /// `program` is clnrm itself, which calls [`sandbox_main`] for its argument `__sandbox`.
    pub fn new(workspace: &Path, program: &Path) -> Sandbox {
        Sandbox {
            workspace: workspace.to_owned(),
            program: program.to_owned(),
            runtime: OnceLock::new(),
        }
    }

    /// Whether this machine lets this user make the namespaces; otherwise why not.
    pub fn probe() -> Result<(), BackendError> {
        let disabled =
            |path: &str| std::fs::read_to_string(path).is_ok_and(|value| value.trim() == "0");
        let root = rustix::process::geteuid().is_root();
        let reason = if !cfg!(target_os = "linux") {
            "it needs Linux"
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
        if reference != "host" {
            return Ok(None);
        }
        let digest = host::digest().map_err(|error| failed("read the machine's image", error))?;
        Ok(Some(Image::Host(digest)))
    }

    fn run(&self, action: &Action, cancel: &Cancel) -> Result<Outcome, BackendError> {
        let runtime = self.runtime.get_or_init(crate::runtime);
        let mut cell = SandboxCell { sandbox: self, children: Vec::new() };
        runtime.block_on(scenario::run(&mut cell, action, cancel))
    }
}

struct SandboxCell<'a> {
    sandbox: &'a Sandbox,
    children: Vec<Child>,
}

/// What the child needs to know; sent to it as one line of JSON.
#[derive(Serialize, Deserialize)]
struct Spec {
    /// Whose network and user namespaces to join; makes its own when `None`.
    join: Option<u32>,
    hostname: String,
    hosts: Vec<String>,
    /// The folder with the host's sockets.
    folder: PathBuf,
    mounts: Vec<SpecMount>,
}

#[derive(Serialize, Deserialize)]
struct SpecMount {
    source: PathBuf,
    target: PathBuf,
    read_only: bool,
}

impl Cell for SandboxCell<'_> {
    async fn start(&mut self, container: &Container<'_>) -> Result<Started, BackendError> {
        let spec = self.spec(container);
        let mut child = self.spawn()?;
        let pid = child.id().expect("it was not waited for");
        let mut stdin = child.stdin.take().expect("it is piped");
        let mut stdout = child.stdout.take().expect("it is piped");
        let mut stderr = child.stderr.take().expect("it is piped");
        let first = spec.join.is_none();
        self.children.push(child);
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
            Link::accept(container.listener).await
        };
        let complaint = async {
            let mut text = String::new();
            let _ = stderr.read_to_string(&mut text).await;
            text.trim().to_owned()
        };
        tokio::select! {
            biased;
            link = talk => match link {
                Ok(link) => Ok(Started { link, command: Vec::new() }),
                Err(error) => Err(self.explain(stderr, error).await),
            },
            reason = complaint => Err(failed("make a container", reason)),
            () = tokio::time::sleep(START_LIMIT) => {
                Err(failed("make a container", format!("it was not up within {START_LIMIT:?}")))
            }
        }
    }

    fn isolation(&self) -> Vec<String> {
        ["user", "mount", "pid", "net", "ipc", "uts", "cgroup"]
            .map(|kind| format!("{kind} namespace"))
            .into_iter()
            .chain(["no capabilities", "no new privileges", "a seccomp filter"].map(str::to_owned))
            .collect()
    }

    async fn destroy(&mut self) -> Result<(), BackendError> {
        for child in &mut self.children {
            // Its agent ends with the line to it; the kill is for one that never got so far.
            let ended = tokio::time::timeout(Duration::from_secs(2), child.wait()).await;
            if ended.is_err() {
                let _ = child.kill().await;
            }
        }
        Ok(())
    }
}

impl SandboxCell<'_> {
    fn spawn(&self) -> Result<Child, BackendError> {
        Command::new(&self.sandbox.program)
            .arg("__sandbox")
            .env_clear()
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            // The terminal's Ctrl-C is ours to handle.
            .process_group(0)
            .kill_on_drop(true)
            .spawn()
            .map_err(|error| failed("start itself again", error))
    }

    fn spec(&self, container: &Container<'_>) -> Spec {
        let workspace = &self.sandbox.workspace;
        let mounts = container.service.mounts.iter().map(|mount| SpecMount {
            source: workspace.join(&mount.source),
            target: PathBuf::from(&mount.target),
            read_only: mount.read_only,
        });
        Spec {
            join: self.children.first().and_then(Child::id),
            hostname: container.service.name.clone(),
            hosts: container.hosts.to_vec(),
            folder: container.folder.to_owned(),
            mounts: mounts.collect(),
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
