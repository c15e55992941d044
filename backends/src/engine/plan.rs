//! What an engine is asked to make: a container with the files it is given.

use std::collections::HashMap;
use std::fs::{self, Permissions};
use std::io;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::time::{SystemTime, UNIX_EPOCH};

use super::image::Facts;
use crate::action::Mount;
use crate::cell::{Container, HOSTS};
use crate::syscalls::FILTER;
use crate::{STORE, agent, host};

/// The label with the time a run started at, in seconds since the epoch.
pub(crate) const STARTED_LABEL: &str = "clnrm.started";

/// The label with the folder whose tests it is for.
pub(super) const WORKSPACE_LABEL: &str = "clnrm.workspace";

/// The label with the name of a container's service.
pub(super) const SERVICE_LABEL: &str = "clnrm.service";

/// The label with the process that asked for it.
pub(super) const PID_LABEL: &str = "clnrm.pid";

/// The label with the namespace in which that number is one.
pub(super) const NAMESPACE_LABEL: &str = "clnrm.namespace";

/// The agent as a static program.
const AGENT: &[u8] = include_bytes!(concat!(env!("OUT_DIR"), "/agent"));

/// A container to be made.
pub(crate) struct Plan<'a> {
    pub(crate) name: &'a str,
    pub(super) run: &'a str,
    pub(super) workspace: &'a Path,
    pub(crate) container: &'a Container<'a>,
    pub(crate) facts: &'a Facts,
    /// The container whose network it joins; has its own when `None`.
    pub(crate) joins: Option<&'a str>,
    /// The network of the run that it is linked by.
    pub(crate) linked_by: Option<&'a str>,
    /// Whether the machine's folders refuse writes instead of taking them in a layer.
    pub(super) read_only_host: bool,
}

/// What is seen where in a container.
#[derive(Default)]
pub(crate) struct Files {
    pub(crate) binds: Vec<Bind>,
    /// Folders under a layer that takes the writes and goes with the container.
    pub(crate) layers: Vec<Layer>,
}

/// A file or folder of this machine.
pub(crate) struct Bind {
    pub(crate) source: PathBuf,
    pub(crate) target: String,
    pub(crate) read_only: bool,
}

/// A folder of this machine that is not changed by writes.
pub(crate) struct Layer {
    pub(crate) source: PathBuf,
    pub(crate) target: String,
    /// Whether it is one of the machine's system folders.
    pub(crate) of_host: bool,
}

impl Plan<'_> {
    /// What the container runs: the agent, which in the first one takes OTLP.
    pub(crate) fn entrypoint(&self) -> Vec<String> {
        let mut entrypoint = vec![format!("{}/agent", agent::FOLDER), agent::FOLDER.to_owned()];
        if self.joins.is_none() {
            entrypoint.push(agent::LISTEN.to_owned());
        }
        if FILTER.is_some() {
            entrypoint.push(agent::FILTERED.to_owned());
        }
        entrypoint
    }

    /// The environment of the image `host`, which has none of its own.
    pub(crate) fn env(&self) -> Vec<(&'static str, &'static str)> {
        let env = [("PATH", host::PATH), ("HOME", "/root"), ("LANG", "C.UTF-8")];
        if self.facts.of_host { env.to_vec() } else { Vec::new() }
    }

    /// The capabilities it keeps: engines make an image's root folder read-only even to its owner.
    pub(crate) fn capabilities(&self) -> Vec<String> {
        self.facts.as_root.then(|| "DAC_OVERRIDE".to_owned()).into_iter().collect()
    }

    /// Settings of the kernel: no capability is needed to listen on any port, as in the sandbox, and
    /// IPv6 is there, without which Docker's kernel counts no attempt to get out by it.
    pub(crate) fn sysctls(&self) -> Vec<(String, String)> {
        if self.joins.is_some() {
            return Vec::new();
        }
        let mut settings = vec!["net.ipv4.ip_unprivileged_port_start"];
        if Path::new("/proc/sys/net/ipv6").exists() {
            settings.push("net.ipv6.conf.all.disable_ipv6");
        }
        settings.into_iter().map(|name| (name.to_owned(), "0".to_owned())).collect()
    }

    /// Who it belongs to.
    pub(crate) fn labels(&self) -> HashMap<String, String> {
        let mut labels = labels(self.workspace, self.run);
        labels.insert(SERVICE_LABEL.to_owned(), self.container.service.name.clone());
        labels
    }

    /// Writes the container's files, and tells which are seen where.
    pub(super) fn lay_out(&self) -> io::Result<Files> {
        let program = self.container.folder.join("agent");
        fs::write(&program, AGENT)?;
        fs::set_permissions(&program, Permissions::from_mode(0o755))?;
        let folder = self.container.folder;
        if let Some(filter) = &*FILTER {
            let bytes: Vec<u8> = filter.iter().flat_map(|it| it.to_ne_bytes()).collect();
            fs::write(folder.join(agent::FILTER), bytes)?;
        }
        let mut files = Files::default();
        if self.facts.of_host {
            self.show_host(&mut files)?;
        }
        let resolver = self.container.resolver();
        let resolver = resolver.as_deref().map(|text| ("resolv.conf", "/etc/resolv.conf", text));
        let hosts = (HOSTS, "/etc/hosts", self.container.hosts);
        for (name, target, text) in [hosts].into_iter().chain(resolver) {
            fs::write(folder.join(name), text)?;
            files.bind(&folder.join(name), target, false);
        }
        files.bind(folder, agent::FOLDER, true);
        for (index, mount) in self.container.service.mounts.iter().enumerate() {
            self.mount(&mut files, mount, &folder.join(format!("copy{index}")))?;
        }
        Ok(files)
    }

    fn mount(&self, files: &mut Files, mount: &Mount, copy: &Path) -> io::Result<()> {
        let source = self.workspace.join(&mount.source);
        let named = |error: io::Error| {
            io::Error::new(error.kind(), format!("cannot mount {}: {error}", source.display()))
        };
        let is_folder = fs::metadata(&source).map_err(named)?.is_dir();
        if mount.read_only {
            files.bind(&source, &mount.target, true);
            for below in mounted_below(&source) {
                // Read-only ends where something else is mounted, so each of those is told too.
                let inside = below.strip_prefix(&source).expect("it is below");
                let target = Path::new(&mount.target).join(inside).display().to_string();
                files.bind(&below, &target, true);
            }
            let store = source.join(STORE);
            if store.is_dir() {
                let cover = self.cover("no-store");
                fs::create_dir_all(&cover)?;
                files.bind(&cover, &format!("{}/{STORE}", mount.target), true);
            }
        } else if is_folder {
            files.layer(&source, &mount.target, false);
        } else {
            fs::copy(&source, copy).map_err(named)?;
            files.bind(copy, &mount.target, false);
        }
        Ok(())
    }

    /// The machine's system folders, without its secrets.
    fn show_host(&self, files: &mut Files) -> io::Result<()> {
        for path in host::SHOWN.map(Path::new) {
            if path.is_symlink() || !path.is_dir() {
                continue;
            }
            if self.read_only_host {
                files.bind(path, &path.display().to_string(), true);
            } else {
                files.layer(path, &path.display().to_string(), true);
            }
        }
        let [file, folder] = ["empty-file", "empty-folder"].map(|name| self.cover(name));
        fs::write(&file, "")?;
        fs::create_dir_all(&folder)?;
        for path in &*host::masked() {
            let Ok(meta) = fs::symlink_metadata(path) else { continue };
            let cover = if meta.is_dir() { &folder } else { &file };
            files.bind(cover, &path.display().to_string(), true);
        }
        Ok(())
    }

    fn cover(&self, name: &str) -> PathBuf {
        self.container.folder.join(name)
    }
}

/// The labels of all that is made for a run.
pub(super) fn labels(workspace: &Path, run: &str) -> HashMap<String, String> {
    let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    [
        (WORKSPACE_LABEL, workspace.display().to_string()),
        ("clnrm.run", run.to_owned()),
        (PID_LABEL, std::process::id().to_string()),
        (NAMESPACE_LABEL, pid_namespace()),
        (STARTED_LABEL, now.as_secs().to_string()),
    ]
    .map(|(label, value)| (label.to_owned(), value))
    .into()
}

/// The namespace of this process' id, by its name.
pub(super) fn pid_namespace() -> String {
    let link = fs::read_link("/proc/self/ns/pid").unwrap_or_default();
    link.display().to_string()
}

/// Where something else is mounted below a folder of this machine, outermost first.
fn mounted_below(folder: &Path) -> Vec<PathBuf> {
    let mounts = fs::read_to_string("/proc/self/mountinfo").unwrap_or_default();
    let paths = mounts.lines().filter_map(|line| line.split(' ').nth(4)).map(PathBuf::from);
    let mut below: Vec<PathBuf> =
        paths.filter(|path| path != folder && path.starts_with(folder)).collect();
    below.sort();
    below.dedup();
    below
}

impl Files {
    fn bind(&mut self, source: &Path, target: &str, read_only: bool) {
        let (source, target) = (source.to_owned(), target.to_owned());
        self.binds.push(Bind { source, target, read_only });
    }

    fn layer(&mut self, source: &Path, target: &str, of_host: bool) {
        let (source, target) = (source.to_owned(), target.to_owned());
        self.layers.push(Layer { source, target, of_host });
    }
}
