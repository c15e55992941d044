//! What the engine is asked to make: a container's specification, and the files it is given.

use std::fs::{self, Permissions};
use std::io;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};

use serde_json::{Value, json};

use super::containers::now;
use super::image::Facts;
use crate::action::Mount;
use crate::cell::Container;
use crate::{agent, host};

/// The file in a container's folder for what its agent says when it cannot serve.
pub(super) const LOG: &str = "agent.log";
/// The label with the time a run started at, in seconds since the epoch.
pub(super) const STARTED_LABEL: &str = "clnrm.started";

/// The agent as a static program.
const AGENT: &[u8] = include_bytes!(concat!(env!("OUT_DIR"), "/agent"));

/// A container to be specified.
pub(super) struct Plan<'a> {
    pub(super) name: &'a str,
    pub(super) run: &'a str,
    pub(super) workspace: &'a Path,
    pub(super) container: &'a Container<'a>,
    pub(super) facts: &'a Facts,
    /// The container whose network it joins; has its own when `None`.
    pub(super) joins: Option<&'a str>,
    /// Whether the machine's folders refuse writes instead of taking them in a layer.
    pub(super) read_only_host: bool,
}

/// What is seen where in a container.
#[derive(Default)]
struct Mounts {
    binds: Vec<Value>,
    /// Folders under a layer that takes the writes and goes with the container.
    layered: Vec<Value>,
}

impl Plan<'_> {
    /// Writes the container's files and gives its specification.
    pub(super) fn spec(&self) -> io::Result<Value> {
        let Plan { container, facts, .. } = self;
        let program = container.folder.join("agent");
        fs::write(&program, AGENT)?;
        fs::set_permissions(&program, Permissions::from_mode(0o755))?;
        let mounts = self.mounts()?;
        let mut entrypoint = vec![format!("{}/agent", agent::FOLDER), agent::FOLDER.to_owned()];
        if self.joins.is_none() {
            entrypoint.push("listen".to_owned());
        }
        let netns = match self.joins {
            None => json!({"nsmode": "none"}),
            Some(first) => json!({"nsmode": "container", "value": first}),
        };
        let mut spec = json!({
            "name": self.name,
            "image": facts.reference,
            "entrypoint": entrypoint,
            "command": [],
            "hostname": container.service.name,
            "netns": netns,
            "mounts": mounts.binds,
            "overlay_volumes": mounts.layered,
            "cap_drop": ["ALL"],
            "no_new_privileges": true,
            "selinux_opts": ["disable"],
            "httpproxy": false,
            "systemd": "false",
            "terminal": false,
            "stdin": false,
            "healthconfig": {"Test": ["NONE"]},
            "log_configuration": {"driver": "k8s-file", "path": container.folder.join(LOG)},
            "remove": true,
            "stop_timeout": 0,
            "labels": self.labels(),
        });
        if self.joins.is_none() {
            // No capability is needed to listen on any port, as in the sandbox.
            spec["sysctl"] = json!({"net.ipv4.ip_unprivileged_port_start": "0"});
        }
        if facts.as_root {
            // Engines make an image's root folder read-only even to its owner.
            spec["cap_add"] = json!(["DAC_OVERRIDE"]);
        }
        if facts.of_host {
            spec["env"] = json!({"PATH": host::PATH, "HOME": "/root", "LANG": "C.UTF-8"});
            // The machine's own /etc/passwd, not one the engine makes up.
            spec["manage_password"] = json!(false);
        }
        Ok(spec)
    }

    fn labels(&self) -> Value {
        json!({
            "clnrm.workspace": self.workspace,
            "clnrm.run": self.run,
            "clnrm.pid": std::process::id().to_string(),
            STARTED_LABEL: now().as_secs().to_string(),
        })
    }

    fn mounts(&self) -> io::Result<Mounts> {
        let folder = self.container.folder;
        let mut mounts = Mounts::default();
        if self.facts.of_host {
            self.show_host(&mut mounts)?;
        }
        let aliases: String = self.container.hosts.iter().map(|host| format!(" {host}")).collect();
        let hosts = format!("127.0.0.1 localhost{aliases}\n::1 localhost\n");
        // No resolver: there is nobody to ask.
        for (name, target, text) in
            [("hosts", "/etc/hosts", hosts.as_str()), ("resolv.conf", "/etc/resolv.conf", "")]
        {
            fs::write(folder.join(name), text)?;
            mounts.bind(&folder.join(name), target, "rw");
        }
        mounts.bind(folder, agent::FOLDER, "ro");
        for (index, mount) in self.container.service.mounts.iter().enumerate() {
            self.mount(&mut mounts, mount, &folder.join(format!("copy{index}")))?;
        }
        Ok(mounts)
    }

    fn mount(&self, mounts: &mut Mounts, mount: &Mount, copy: &Path) -> io::Result<()> {
        let source = self.workspace.join(&mount.source);
        let named = |error: io::Error| {
            io::Error::new(error.kind(), format!("cannot mount {}: {error}", source.display()))
        };
        let is_folder = fs::metadata(&source).map_err(named)?.is_dir();
        if mount.read_only {
            mounts.bind(&source, &mount.target, "ro");
            for below in mounted_below(&source) {
                // Read-only ends where something else is mounted, so each of those is told too.
                let inside = below.strip_prefix(&source).expect("it is below");
                let target = Path::new(&mount.target).join(inside).display().to_string();
                mounts.bind(&below, &target, "ro");
            }
            let store = source.join(".clnrm");
            if store.is_dir() {
                let cover = self.cover("no-store");
                fs::create_dir_all(&cover)?;
                mounts.bind(&cover, &format!("{}/.clnrm", mount.target), "ro");
            }
        } else if is_folder {
            mounts.layer(&source, &mount.target);
        } else {
            fs::copy(&source, copy).map_err(named)?;
            mounts.bind(copy, &mount.target, "rw");
        }
        Ok(())
    }

    /// The machine's system folders, without its secrets.
    fn show_host(&self, mounts: &mut Mounts) -> io::Result<()> {
        for path in host::SHOWN.map(Path::new) {
            if path.is_symlink() || !path.is_dir() {
                continue;
            }
            if self.read_only_host {
                mounts.bind(path, &path.display().to_string(), "ro");
            } else {
                mounts.layer(path, &path.display().to_string());
            }
        }
        let [file, folder] = ["empty-file", "empty-folder"].map(|name| self.cover(name));
        fs::write(&file, "")?;
        fs::create_dir_all(&folder)?;
        for path in host::masked() {
            let Ok(meta) = fs::symlink_metadata(path) else { continue };
            let cover = if meta.is_dir() { &folder } else { &file };
            mounts.bind(cover, &path.display().to_string(), "ro");
        }
        Ok(())
    }

    fn cover(&self, name: &str) -> PathBuf {
        self.container.folder.join(name)
    }
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

impl Mounts {
    fn bind(&mut self, source: &Path, target: &str, access: &str) {
        self.binds.push(json!({
            "type": "bind",
            "source": source,
            "destination": target,
            "options": ["rbind", "nosuid", "nodev", access],
        }));
    }

    fn layer(&mut self, source: &Path, target: &str) {
        self.layered.push(json!({"source": source, "destination": target}));
    }
}
