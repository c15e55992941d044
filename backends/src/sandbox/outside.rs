//! The way outside of an open network: `slirp4netns`, which carries a container's connections as
//! this user's own. It changes nothing of the machine's network and needs no privileges.

use std::ffi::OsString;
use std::fs::File;
use std::io::{self, Read, Seek};
use std::os::unix::process::CommandExt;
use std::path::Path;
use std::process::{Command, Stdio};
use std::time::Duration;

use nix::sched::{CloneFlags, unshare};
use rustix::mount::{MountPropagationFlags, mount_change};
use tokio::io::AsyncReadExt;
use tokio::process::Child;

/// The argument that asks for [`become_it`].
pub(super) const WORD: &str = "__sandbox-outside";
/// The program that does it.
pub(crate) const PROGRAM: &str = "slirp4netns";
/// What a container asks for the addresses of names.
pub(super) const RESOLVER: &str = "nameserver 10.0.2.3\n";
/// How long it may take to be ready.
const START_LIMIT: Duration = Duration::from_secs(10);

/// Gives the network of a process a way outside, for as long as the result's standard input is open;
/// `clnrm` is this program.
///
/// # Errors
/// In words, when there is none then.
pub(super) async fn lead(pid: u32, clnrm: &Path) -> Result<Child, String> {
    let mut words = tempfile::tempfile().map_err(|error| error.to_string())?;
    let mut child = start(pid, clnrm, &words).map_err(|error| error.to_string())?;
    let mut ready = child.stdout.take().expect("it is piped");
    match tokio::time::timeout(START_LIMIT, ready.read_u8()).await {
        Ok(Ok(_)) => Ok(child),
        Ok(Err(_)) => {
            let mut text = String::new();
            let read = words.rewind().and_then(|()| words.read_to_string(&mut text));
            let told = read.ok().and_then(|_| text.lines().rfind(|line| line.contains(": ")));
            Err(told.unwrap_or("it ended at once").to_owned())
        }
        Err(_) => Err(format!("{PROGRAM} was not ready within {START_LIMIT:?}")),
    }
}

/// Starts it: it tells on its standard output that it is ready, and ends with its standard input.
fn start(pid: u32, clnrm: &Path, words: &File) -> io::Result<Child> {
    tokio::process::Command::new(clnrm)
        .args([WORD, &pid.to_string()])
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(words.try_clone()?)
        .process_group(0)
        .kill_on_drop(true)
        .spawn()
}

/// Becomes the program, for the process that the arguments name.
///
/// It gives up the root of its files, and where that is not its own yet, what it unmounts would be
/// unmounted for the whole machine.
pub(super) fn become_it(arguments: impl Iterator<Item = OsString>) -> Result<(), String> {
    let told = |error: io::Error| format!("{PROGRAM}: {error}");
    if rustix::process::geteuid().is_root() {
        unshare(CloneFlags::CLONE_NEWNS).map_err(|error| told(error.into()))?;
        let own = MountPropagationFlags::PRIVATE | MountPropagationFlags::REC;
        mount_change("/", own).map_err(|error| told(error.into()))?;
    }
    let error = Command::new(PROGRAM)
        .args(["--configure", "--enable-ipv6", "--mtu=65520"])
        .args(["--disable-host-loopback", "--enable-sandbox", "--enable-seccomp"])
        .args(["--exit-fd=0", "--ready-fd=1"])
        .args(arguments)
        // As in the engines' containers.
        .arg("eth0")
        .exec();
    Err(match error.kind() {
        io::ErrorKind::NotFound => {
            format!("it takes `{PROGRAM}`, which is not there: `apt install {PROGRAM}`")
        }
        _ => told(error),
    })
}
