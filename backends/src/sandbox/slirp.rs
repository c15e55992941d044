//! The way outside of an open network: `slirp4netns`, which carries a container's connections as
//! this user's own. It changes nothing of the machine's network and needs no privileges.

use std::ffi::OsString;
use std::fs::File;
use std::io::{self, Read, Seek};
use std::os::fd::AsRawFd;
use std::os::unix::process::CommandExt;
use std::path::Path;
use std::process::{Command, Stdio};
use std::time::Duration;

use nix::sched::{CloneFlags, unshare};
use rustix::mount::{MountPropagationFlags, mount_change};
use rustix::process::{Pid, PidfdFlags, Signal, pidfd_open, pidfd_send_signal};
use tokio::io::AsyncReadExt;
use tokio::process::{Child, ChildStdin};
use tokio::task::JoinHandle;

/// The argument that asks for [`become_it`].
pub(super) const WORD: &str = "__sandbox-outside";
/// The program that does it.
pub(crate) const PROGRAM: &str = "slirp4netns";
/// What a container asks for the addresses of names.
pub(super) const RESOLVER: &str = "nameserver 198.19.0.3\n";
/// The container's side: of what is for tests (RFC 2544), so that nobody's own network is hidden.
const NETWORK: &str = "198.19.0.0/24";
/// How long it may take to be ready.
const START_LIMIT: Duration = Duration::from_secs(10);
/// How long it may take to end.
const END_LIMIT: Duration = Duration::from_secs(2);

/// A way outside, for as long as this is there.
pub(super) struct Slirp {
    _open: ChildStdin,
    ended: JoinHandle<()>,
}

impl Slirp {
    /// Closes it, and waits until nothing is left of it.
    pub(super) async fn close(self) {
        let Slirp { _open: open, ended } = self;
        drop(open);
        let stop = ended.abort_handle();
        if tokio::time::timeout(END_LIMIT, ended).await.is_err() {
            // The program is killed with what waits for it.
            stop.abort();
        }
    }
}

/// Gives the network of a container a way outside, by its process 1; `clnrm` is this program. When the
/// way ends by itself, the container does: without it, tests would say what they should not.
///
/// # Errors
/// In words, when there is none then.
pub(super) async fn lead(pid: u32, clnrm: &Path) -> Result<Slirp, String> {
    let of = Pid::from_raw(pid as i32).ok_or("it has ended")?;
    let of = pidfd_open(of, PidfdFlags::empty()).map_err(|error| error.to_string())?;
    let mut child = started(pid, clnrm).await?;
    let open = child.stdin.take().expect("it is piped");
    let ended = tokio::spawn(async move {
        let _ = child.wait().await;
        let _ = pidfd_send_signal(of, Signal::KILL);
    });
    Ok(Slirp { _open: open, ended })
}

/// The program, which is ready.
async fn started(pid: u32, clnrm: &Path) -> Result<Child, String> {
    let mut words = tempfile::tempfile().map_err(|error| error.to_string())?;
    let mut child = start(pid, clnrm, &words).map_err(|error| error.to_string())?;
    let mut ready = child.stdout.take().expect("it is piped");
    match tokio::time::timeout(START_LIMIT, ready.read_u8()).await {
        Ok(Ok(_)) => Ok(child),
        Ok(Err(_)) => {
            // It may still say why.
            let _ = tokio::time::timeout(END_LIMIT, child.wait()).await;
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
    // What it prints is not for whoever waits to hear that it is ready.
    let ready = rustix::io::dup(rustix::stdio::stdout()).map_err(|error| told(error.into()))?;
    let nowhere = File::options().write(true).open("/dev/null").map_err(told)?;
    rustix::stdio::dup2_stdout(nowhere).map_err(|error| told(error.into()))?;
    let error = Command::new(PROGRAM)
        .args(["--configure", "--enable-ipv6", "--mtu=65520", "--cidr", NETWORK])
        .args(["--disable-host-loopback", "--enable-sandbox", "--enable-seccomp"])
        .args(["--exit-fd=0", &format!("--ready-fd={}", ready.as_raw_fd())])
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
