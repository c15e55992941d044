//! Environments that are kept up for somebody to look at, and the doors into them.

use std::collections::BTreeMap;
use std::fs::{self, File};
use std::os::unix::fs::MetadataExt;
use std::path::Path;
use std::process::{Command, ExitStatus};

use serde::{Deserialize, Serialize};

use crate::scenario::{FOLDER_PREFIX, LOCK};

/// The file in the folder of a run that says what is kept up.
const FILE: &str = "kept.json";

/// An environment that is up.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Kept {
    /// The scenario it is of.
    pub scenario: String,
    /// Its containers.
    pub doors: Vec<Door>,
    /// What of it is reached from this machine.
    #[serde(default)]
    pub published: Vec<Published>,
}

/// A port of a service that is reached from this machine.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Published {
    /// The service.
    pub service: String,
    /// The port it listens on.
    pub port: u16,
    /// The port of this machine's loopback.
    pub at: u16,
}

/// A way into a container.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Door {
    /// The service that runs in it.
    pub service: String,
    pub(crate) way: Way,
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub(crate) enum Way {
    /// Through the namespaces of this process, with its environment.
    Process { pid: u32, environment: BTreeMap<String, String> },
    /// By this command, to which a program is added.
    Command(Vec<String>),
}

impl Kept {
    pub(crate) fn write(&self, folder: &Path) -> std::io::Result<()> {
        fs::write(folder.join(FILE), serde_json::to_vec(self)?)
    }

    /// All environments of this user that are up now. What others have put there is not believed:
    /// it says which commands to run.
    pub fn all() -> Vec<Kept> {
        let entries = fs::read_dir(std::env::temp_dir()).into_iter().flatten().flatten();
        let ours = entries.filter(|entry| {
            entry.file_name().to_str().is_some_and(|name| name.starts_with(FOLDER_PREFIX))
        });
        let mut all: Vec<Kept> = ours
            .filter_map(|entry| {
                let own = fs::symlink_metadata(entry.path()).ok()?;
                let is_ours = own.is_dir() && own.uid() == rustix::process::geteuid().as_raw();
                is_ours.then_some(())?;
                let lock = File::open(entry.path().join(LOCK)).ok()?;
                // Whoever keeps it up holds the lock.
                lock.try_lock().is_err().then_some(())?;
                serde_json::from_slice(&fs::read(entry.path().join(FILE)).ok()?).ok()
            })
            .collect();
        all.sort_by(|a, b| a.scenario.cmp(&b.scenario));
        all
    }
}

impl Door {
    /// Whether no engine has the container.
    pub fn is_in_sandbox(&self) -> bool {
        matches!(self.way, Way::Process { .. })
    }

    /// Runs a program in the container, on this terminal.
    ///
    /// # Errors
    /// When that cannot be started.
    pub fn enter(&self, program: &[String]) -> std::io::Result<ExitStatus> {
        let mut command = match &self.way {
            Way::Process { pid, environment } => {
                let mut command = Command::new("/proc/self/exe");
                command.args([crate::sandbox::ENTER_WORD, &pid.to_string()]);
                command.env_clear().env("TERM", "xterm").envs(environment);
                command
            }
            Way::Command(words) => {
                let mut command = Command::new(&words[0]);
                command.args(&words[1..]);
                command
            }
        };
        command.args(program).status()
    }
}
